"""The JSON of `/kmip/2_1` as the clients of the Cosmian / Eviden KMS write it.

    {"tag": "Get", "type": "Structure", "value": [{"tag": "UniqueIdentifier", "type": "TextString", "value": "k1"}]}

It has the nodes of the OASIS encoding (`ttlv_json`) but other spellings: names without underscores, masks as numbers,
the order of children free, unknown children passed over, and a root that may be an operation instead of a message. The
tables below are all that differs. Shapes that versions 4.x of the clients send are read as what they stand for;
`encode` writes them where `older` asks for it.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import orjson

from kmip import names
from kmip.enums import (
    BlockCipherMode,
    CertificateType,
    CryptographicAlgorithm,
    DerivationMethod,
    Enumeration,
    KeyFormatType,
    MaskGenerator,
    ObjectGroupMember,
    ObjectType,
    OpaqueDataType,
    Operation,
    PaddingMethod,
    RecommendedCurve,
    ResultReason,
    RevocationReasonCode,
    RNGAlgorithm,
    State,
)
from kmip.names import refuse
from kmip.schema import Unordered
from kmip.tags import BY_SPELLING, SPELLINGS, Extension, Tag
from kmip.ttlv import MAX_DEPTH, Item, Type

#: Tags with another name.
TAGS: dict[Tag, str] = {
    tag: f"Certificate{side}{name}"
    for side in ("Subject", "Issuer")
    for tag, name in (
        (Tag[f"CERTIFICATE_{side.upper()}_CN"], "Cn"),
        (Tag[f"CERTIFICATE_{side.upper()}_OU"], "Ou"),
        (Tag[f"CERTIFICATE_{side.upper()}_ST"], "St"),
        (Tag[f"CERTIFICATE_{side.upper()}_DC"], "Dc"),
        (Tag[f"CERTIFICATE_{side.upper()}_UID"], "Uid"),
        (Tag[f"CERTIFICATE_{side.upper()}_DN_QUALIFIER"], "DnQualifier"),
    )
}

#: Values with another name than the specification's without its underscores.
VALUES: dict[type[Enumeration], dict[int, str]] = {
    CryptographicAlgorithm: {
        CryptographicAlgorithm.DES3: "THREE_DES",
        CryptographicAlgorithm.SPHINCS_256: "SPHINCS_256",
        # 3.0 gives these their numbers; here they have the names that the clients know.
        **{0x39 + n: f"MLKEM_{bits}" for n, bits in enumerate((512, 768, 1024))},
        **{0x3C + n: f"MLDSA_{level}" for n, level in enumerate((44, 65, 87))},
        **{
            0x3F + n: f"SLHDSA_{parameters}"
            for n, parameters in enumerate(
                f"{hashing}_{bits}{kind}" for hashing in ("SHA2", "SHAKE") for bits in (128, 192, 256) for kind in "sf"
            )
        },
        0x88800001: "FPE_FF1",
        0x88800003: "ConfigurableKEM",
        0x88800004: "CoverCrypt",
        0x88800006: "X25519MLKEM768",
        0x88800007: "X448MLKEM1024",
    },
    BlockCipherMode: {0x80000002: "GCMSIV"},
    CertificateType: {0x80000001: "PKCS7"},
    DerivationMethod: {
        DerivationMethod.NIST800_108_C: "NIST800_108C",
        DerivationMethod.NIST800_108_F: "NIST800_108F",
        DerivationMethod.NIST800_108_DPI: "NIST800_108DPI",
    },
    KeyFormatType: {
        0x80000001: "PEM",
        0x88800001: "Pkcs12Legacy",
        0x88800002: "PKCS7",
        0x8880000C: "CoverCryptSecretKey",
        0x8880000D: "CoverCryptPublicKey",
    },
    MaskGenerator: {MaskGenerator.MGF1: "MFG1"},
    ObjectGroupMember: {
        ObjectGroupMember.GROUP_MEMBER_FRESH: "Group_Member_Fresh",
        ObjectGroupMember.GROUP_MEMBER_DEFAULT: "Group_Member_Default",
    },
    OpaqueDataType: {0x80000001: "Unknown"},
    PaddingMethod: {PaddingMethod.ANSI_X9_23: "ANSI_X923", PaddingMethod.PKCS1_V1_5: "PKCS1v15"},
    RecommendedCurve: {0x80000001: "CURVEED25519", 0x80000002: "CURVEED448"},
    ResultReason: {
        reason: "_".join(word if word in ("CSR", "PKCS") else word.title() for word in reason.name.split("_"))
        for reason in ResultReason
    },
    RNGAlgorithm: {
        RNGAlgorithm.FIPS_186_2: "FIPS186_2",
        RNGAlgorithm.ANSI_X9_31: "ANSI_X931",
        RNGAlgorithm.ANSI_X9_62: "ANSI_X962",
    },
    State: {State.DESTROYED_COMPROMISED: "Destroyed_Compromised"},
}

#: The attributes that 4.x sends as the bytes of a text.
TEXT_ATTRIBUTES: Final = frozenset({"tag", "wrapping_key_id", "requested_validity_days"})
#: Text attributes of which the clients write every one, and the empty ones mean absent.
_MAY_BE_EMPTY: Final = frozenset(
    int(tag) for tag in Tag if tag.spelling.startswith(("CertificateSubject", "CertificateIssuer"))
)
_ATTRIBUTES: Final = frozenset(
    {Tag.ATTRIBUTES, Tag.COMMON_ATTRIBUTES, Tag.PRIVATE_KEY_ATTRIBUTES, Tag.PUBLIC_KEY_ATTRIBUTES}
)
_OBJECTS: Final = frozenset(int(BY_SPELLING[object_type.spelling]) for object_type in ObjectType)


def _folded(name: str) -> str:
    return name.replace("_", "").lower()


class _Names(dict[str, int]):
    """Every name -> number. A name that is not listed is looked for without its underscores and capitals, so that both
    spellings, and those between, are read; `names[name]` is None where that finds nothing either."""

    def __init__(self, *tables: Mapping[str, int]) -> None:
        super().__init__()
        for table in tables:
            self.update(table)
        self._folded = {_folded(name): number for name, number in self.items()}

    def __missing__(self, name: str) -> Any:
        return self._folded.get(_folded(name))

    def get(self, name: str, default: Any = None) -> Any:
        found = self[name]
        return default if found is None else found


def _numbers(table: Mapping[int, str]) -> dict[str, int]:
    return {name: int(number) for number, name in table.items()}


_TAG_NAMES: dict[int, str] = (
    SPELLINGS | {int(tag): name for tag, name in TAGS.items()} | {int(tag): tag.spelling for tag in Extension}
)
_TAGS = _Names(BY_SPELLING, _numbers(_TAG_NAMES))
_VALUE_NAMES: dict[int, dict[int, str]] = {
    int(tag): {int(member): member.spelling.replace("_", "") for member in cls} | VALUES.get(cls, {})
    for tag, cls in names.ENUMERATIONS.items()
} | {int(tag): _TAG_NAMES for tag in names.OF_TAGS}
_VALUES: dict[int, _Names] = {tag: _Names(names.VALUES[tag], _numbers(table)) for tag, table in _VALUE_NAMES.items()}
_MASK_BITS: dict[int, _Names] = {tag: _Names(bits) for tag, bits in names.MASK_BITS.items()}
_OPERATIONS = _Names({operation.spelling: int(operation) for operation in Operation})
_TYPE_NAMES = names.TYPE_NAMES
_ATTRIBUTE_VALUE: Final = int(Tag.ATTRIBUTE_VALUE)
_new_item = tuple.__new__

#: The roots that are messages; any other is an operation.
MESSAGES: dict[str, Tag] = {tag.spelling: tag for tag in (Tag.REQUEST_MESSAGE, Tag.RESPONSE_MESSAGE)}


def operation_of(root: str) -> Operation | None:
    """The operation that a root names: "Create", "MAC" or "Mac"."""
    number = _OPERATIONS[root]
    return None if number is None else Operation(number)


def root_of(operation: Operation) -> str:
    """The root of an operation's answer."""
    return f"{operation.spelling}Response"


# Reading.


def decode(data: bytes) -> tuple[str, Item]:
    """The root's name and the message, or the payload of the operation that it names.

    Structures hold `Unordered` children. Raises `KMIPError` (Invalid Message) naming the bad node.
    """
    try:
        top = orjson.loads(data)
    except orjson.JSONDecodeError as exc:
        raise refuse("JSON", exc.msg) from None
    if type(top) is not dict or type(top.get("tag")) is not str or type(top.get("value")) is not list:
        raise refuse("JSON", "the root is an object with a tag and an array of values")
    root = top["tag"]
    children = Unordered()
    _read(top["value"], children)
    return root, Item(MESSAGES.get(root, Tag.REQUEST_PAYLOAD), Type.STRUCTURE, children)


class _Level:
    """What is asked once about the nodes of one structure, at most."""

    __slots__ = ("_first", "_nodes")

    def __init__(self, nodes: list[Any]) -> None:
        self._nodes = nodes
        self._first: dict[str, Any] | None = None

    def first(self, name: str) -> Any:
        """The value of the first node with a tag."""
        if self._first is None:
            self._first = {}
            for node in self._nodes:
                if type(node) is dict and type(node.get("tag")) is str:
                    self._first.setdefault(node["tag"], node.get("value"))
        return self._first.get(name)


def _read(top: list[Any], children: Unordered) -> None:
    level = _Level(top)
    nodes: Iterator[Any] = iter(top)
    stack: list[tuple[Iterator[Any], _Level, Unordered]] = []
    types = names.TYPES
    while True:
        for node in nodes:
            if type(node) is not dict:
                raise refuse("JSON", "a node is an object with tag, type and value")
            name = node.get("tag")
            kind = node.get("type", "Structure")
            type_ = types.get(kind) if type(kind) is str else None
            value = node.get("value")
            tag = _TAGS[name] if type(name) is str else None
            if tag is None or tag in _SHAPED:
                tag, type_, value = _shaped(name, tag, type_, value, level)
            if tag is None:
                continue
            if type_ == 1:
                if len(stack) >= MAX_DEPTH - 1:
                    raise refuse(tag, f"is nested deeper than {MAX_DEPTH} levels")
                if type(value) is not list:
                    raise refuse(tag, "needs a type, or an array of nodes")
                stack.append((nodes, level, children))
                if tag:
                    inner = Unordered()
                    children.append(_new_item(Item, (tag, 1, inner)))
                    children = inner
                nodes, level = iter(value), _Level(value)
                break
            if type_ is None:
                raise refuse(tag, f"{str(kind)[:64]!r} is no item type")
            if type_ == 7 and type(value) is str:
                children.append(_new_item(Item, (tag, type_, value)))
                continue
            spelled_after = names.attribute_tag(level.first("AttributeName")) if tag == _ATTRIBUTE_VALUE else tag
            try:
                value = names.json_scalar(tag, type_, value, _VALUES.get(spelled_after), _MASK_BITS.get(spelled_after))
            except (ValueError, OverflowError):
                raise refuse(tag, f"has no valid {_TYPE_NAMES[type_]}") from None
            children.append(_new_item(Item, (tag, type_, value)))
        else:
            if not stack:
                return
            nodes, level, children = stack.pop()


#: A tag, a type and a value; tag None is passed over, tag 0 has its children stand in its place.
_Node = tuple[int | None, Type | None, Any]


def _link(type_: Type | None, value: Any) -> _Node:
    # 4.x: Link { Link { LinkType, LinkedObjectIdentifier } ... }
    return (0 if _holds(value, "Link") else Tag.LINK), type_, value


def _revocation_reason(type_: Type | None, value: Any) -> _Node:
    # 4.x: the message or the code alone.
    if type_ == Type.TEXT_STRING:
        code, message = RevocationReasonCode.UNSPECIFIED.spelling, [_node("RevocationMessage", type_, value)]
    elif type_ == Type.ENUMERATION:
        code, message = value, []
    else:
        return Tag.REVOCATION_REASON, type_, value
    children = [_node("RevocationReasonCode", Type.ENUMERATION, code), *message]
    return Tag.REVOCATION_REASON, Type.STRUCTURE, children


def _key_material(type_: Type | None, value: Any) -> _Node:
    # 4.x: KeyMaterial { ByteString }
    if type_ == Type.STRUCTURE and _holds(value, "ByteString") and len(value) == 1:
        return Tag.KEY_MATERIAL, Type.BYTE_STRING, value[0].get("value")
    return Tag.KEY_MATERIAL, type_, value


_SHAPES: dict[int, Callable[[Type | None, Any], _Node]] = {
    Tag.LINK: _link,
    Tag.REVOCATION_REASON: _revocation_reason,
    Tag.KEY_MATERIAL: _key_material,
}
_SHAPED: Final = _MAY_BE_EMPTY.union(_SHAPES)


def _shaped(name: object, tag: int | None, type_: Type | None, value: Any, level: _Level) -> _Node:
    """The node that a name outside the tags, or a shape of older clients, stands for."""
    if tag in _SHAPES:
        return _SHAPES[tag](type_, value)
    if tag is not None:
        return (None if value == "" else tag), type_, value
    if type(name) is not str:
        raise refuse("JSON", "a node is an object with tag, type and value")
    if name == "VendorAttributes" and type_ == Type.STRUCTURE and type(value) is list:
        # 4.x: VendorAttributes { VendorAttributes { VendorIdentification, AttributeName, AttributeValue } ... }
        if not _holds(value, "VendorIdentification"):
            return 0, type_, value
        return Tag.ATTRIBUTE, type_, _vendor_attribute(value)
    if name == "Object":
        # 4.x: the object of Register and Import; its tag is its type's.
        object_type = level.first("ObjectType")
        found = _TAGS[object_type] if type(object_type) is str else None
        return (found if found in _OBJECTS else None), type_, value
    try:
        return names.tag_of(name), type_, value
    except ValueError:
        return None, type_, value


def _vendor_attribute(nodes: list[Any]) -> list[Any]:
    if _Level(nodes).first("AttributeName") not in TEXT_ATTRIBUTES:
        return nodes
    return [_as_text(node) if _holds([node], "AttributeValue") else node for node in nodes]


def _as_text(node: dict[str, Any]) -> dict[str, Any]:
    if node.get("type") == "ByteString":
        try:
            text = bytes.fromhex(node["value"]).decode()
        except (KeyError, TypeError, ValueError):
            return node
        return _node("AttributeValue", Type.TEXT_STRING, text)
    return node


def _holds(value: Any, name: str) -> bool:
    return type(value) is list and any(type(node) is dict and node.get("tag") == name for node in value)


# Writing.


def encode(item: Item, root: str | None = None, *, older: bool = False) -> bytes:
    """The JSON of an item, its root named `root`; `older` writes the shapes that clients of version 4.x read."""
    nodes = _nodes(item.value)
    if older:
        nodes = _older(nodes, None)
    return orjson.dumps({"tag": root or _TAG_NAMES[item.tag], "value": nodes})


def _node(name: str, type_: Type, value: Any) -> dict[str, Any]:
    return {"tag": name, "type": _TYPE_NAMES[type_], "value": value}


def _nodes(items: list[Item]) -> list[dict[str, Any]]:
    nodes: list[dict[str, Any]] = []
    attribute: int | None = None
    for tag, type_, value in items:
        name = _TAG_NAMES.get(tag) or f"0x{tag:06X}"
        if type_ == 1:
            nodes.append({"tag": name, "value": _nodes(value)})
            continue
        if type_ == Type.ENUMERATION:
            spelled_after = tag
            if tag == Tag.ATTRIBUTE_VALUE:
                if attribute is None:
                    attribute = names.attribute_tag_in(items)
                spelled_after = attribute
            table = _VALUE_NAMES.get(spelled_after)
            value = (table and table.get(value)) or f"0x{value:08X}"
        elif type_ in _WRITE:
            value = _WRITE[type_](value)
        nodes.append({"tag": name, "type": _TYPE_NAMES[type_], "value": value})
    return nodes


def _hexadecimal(value: int) -> str:
    return f"0x{value & 0xFFFFFFFFFFFFFFFF:016X}"


def _date(value: int) -> str:
    text = names.date_text(value)
    return text[:-6] + "Z" if text.endswith("+00:00") else text


#: The types whose value is not the JSON one as it stands.
_WRITE: dict[int, Callable[[Any], object]] = {
    Type.INTEGER: int,
    Type.LONG_INTEGER: _hexadecimal,
    Type.BIG_INTEGER: lambda value: "0x" + names.big_text(value).upper(),
    Type.BYTE_STRING: lambda value: value.hex().upper(),
    Type.DATE_TIME: _date,
    Type.DATE_TIME_EXTENDED: _hexadecimal,
}

_ATTRIBUTES_NAMES: Final = frozenset(tag.spelling for tag in _ATTRIBUTES)
_OBJECT_NAMES: Final = frozenset(SPELLINGS[tag] for tag in _OBJECTS)


def _older(nodes: list[dict[str, Any]], parent: str | None) -> list[dict[str, Any]]:
    """The nodes as version 4.x reads them."""
    out: list[dict[str, Any]] = []
    typed = any(node["tag"] == "ObjectType" for node in nodes)
    for node in nodes:
        name = node["tag"]
        if "type" not in node:
            inner = _older(node["value"], name)
            out.append({"tag": "Object" if typed and name in _OBJECT_NAMES else name, "value": inner})
        elif name == "KeyMaterial" and node["type"] == "ByteString":
            out.append({"tag": name, "value": [{**node, "tag": "ByteString"}]})
        else:
            out.append(node)
            if name == "IVCounterNonce":
                out.append({**node, "tag": "IvCounterNonce"})
    return _older_attributes(out) if parent in _ATTRIBUTES_NAMES else out


def _older_attributes(nodes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    # These clients have no Date-Times among the attributes, and lists inside a node of the same name.
    out: list[dict[str, Any]] = []
    lists: dict[str, list[dict[str, Any]]] = {"Link": [], "VendorAttributes": []}
    for node in nodes:
        if node["tag"] == "Link":
            lists["Link"].append(node)
        elif node["tag"] == "Attribute":
            value = [_as_bytes(child) if child["tag"] == "AttributeValue" else child for child in node["value"]]
            lists["VendorAttributes"].append({"tag": "VendorAttributes", "value": value})
        elif node.get("type") != "DateTime":
            out.append(node)
    return out + [{"tag": name, "value": value} for name, value in lists.items() if value]


def _as_bytes(node: dict[str, Any]) -> dict[str, Any]:
    if node.get("type") in (None, "ByteString"):
        return node
    return _node("AttributeValue", Type.BYTE_STRING, str(node["value"]).encode().hex().upper())
