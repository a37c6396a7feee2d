"""Attributes: one row each, and the list of them that 1.x and 2.x spell differently (1.4, 3; 2.1, 4).

To add an attribute, write a row: the codec, the attribute operations, Locate and the console read it. A row says who
may set, change and delete the attribute, as its rules table does. 1.x writes an attribute as a structure of name, index
and value; 2.x writes the value under the attribute's own tag; `Attributes` is where the two meet.
"""

from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import KW_ONLY, dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple, Self, cast

from kmip.enums import (
    CertificateType,
    CryptographicAlgorithm,
    DigitalSignatureAlgorithm,
    KeyFormatType,
    NISTKeyType,
    ObjectType,
    OpaqueDataType,
    Operation,
    ProtectionLevel,
    ResultReason,
    State,
)
from kmip.errors import KMIPError
from kmip.schema import DateTime, Interval, Kind, Struct, dump
from kmip.structures import (
    AlternativeName,
    ApplicationSpecificInformation,
    CertificateIdentifier,
    CertificateIssuer,
    CertificateSubject,
    CryptographicDomainParameters,
    CryptographicParameters,
    Digest,
    KeyValueLocation,
    Link,
    Name,
    ProtectionMask,
    RevocationReason,
    RNGParameters,
    RotateName,
    UsageLimits,
    UsageMask,
    X_509CertificateIdentifier,
    X_509CertificateIssuer,
    X_509CertificateSubject,
)
from kmip.tags import BY_NUMBER, Tag, spelling
from kmip.ttlv import Item, Type
from kmip.versions import V1_0, V1_1, V1_2, V1_3, V1_4, V2_0, V2_1, Version


class By(Enum):
    """Who gives an attribute its first value."""

    SERVER = "server"
    CLIENT = "client"
    EITHER = "either"
    #: The server, from what the client says of an object to be made; nobody adds it later.
    MAKER = "maker"


class When(Enum):
    """When a client may change or delete an attribute."""

    NEVER = "never"
    ALWAYS = "always"
    PRE_ACTIVE = "only while in Pre-Active state"
    PRE_ACTIVE_OR_ACTIVE = "only while in Pre-Active or Active state"
    NOT_YET_REACHED = "only while in Pre-Active or Active state and as long as the date has not been reached"
    NOT_YET_USED = "as long as Get Usage Allocation has not been performed"


SERVER, CLIENT, EITHER, MAKER = By.SERVER, By.CLIENT, By.EITHER, By.MAKER
ALWAYS, PRE_ACTIVE, PRE_ACTIVE_OR_ACTIVE = When.ALWAYS, When.PRE_ACTIVE, When.PRE_ACTIVE_OR_ACTIVE
NOT_YET_REACHED, NOT_YET_USED = When.NOT_YET_REACHED, When.NOT_YET_USED

ALL_OBJECTS = frozenset(ObjectType)
CERTIFICATES = frozenset({ObjectType.CERTIFICATE})
CERTIFICATES_AND_PGP_KEYS = frozenset({ObjectType.CERTIFICATE, ObjectType.PGP_KEY})
KEY_PAIRS = frozenset({ObjectType.PUBLIC_KEY, ObjectType.PRIVATE_KEY})
OPAQUE_OBJECTS = frozenset({ObjectType.OPAQUE_OBJECT})

O = Operation  # noqa: E741 - one letter keeps a row on its line
RE_KEYING = frozenset({O.RE_KEY, O.RE_KEY_KEY_PAIR})
REPLACING = RE_KEYING | {O.RE_CERTIFY}
CERTIFYING = frozenset({O.REGISTER, O.CERTIFY, O.RE_CERTIFY})
GENERATING = RE_KEYING | {O.CREATE, O.CREATE_KEY_PAIR, O.DERIVE_KEY}
MAKING = GENERATING | CERTIFYING
ATTRIBUTING = frozenset({O.ADD_ATTRIBUTE, O.MODIFY_ATTRIBUTE, O.DELETE_ATTRIBUTE})
CHANGING = MAKING | ATTRIBUTING | {O.ACTIVATE, O.REVOKE, O.DESTROY, O.ARCHIVE, O.RECOVER, O.GET_USAGE_ALLOCATION}


class Vendor(NamedTuple):
    """The key of an attribute outside the specification; `x-` and `y-` attributes of 1.x have vendor x and y."""

    vendor: str
    name: str

    @classmethod
    def of_name(cls, name: str) -> Self:
        """The vendor attribute that a 1.x Attribute Name stands for."""
        vendor, dash, rest = name.partition("-")
        return cls(vendor, rest) if dash else cls("", name)

    @property
    def title(self) -> str:
        """The Attribute Name of 1.x."""
        return f"{self.vendor}-{self.name}" if self.vendor else self.name


Key = Tag | Vendor


def vendor_text(name: str, text: str, vendor: str = "x") -> dict[Key, dict[int, Any]]:
    """A vendor attribute whose value is a text, as `Attributes` holds it: `attributes.update(vendor_text(...))`."""
    return {Vendor(vendor, name): {0: Item(Tag.ATTRIBUTE_VALUE, Type.TEXT_STRING, text)}}


@dataclass(frozen=True)
class Row:
    """One attribute and its rules table."""

    tag: Tag
    title: str
    annotation: Any
    set_by: By
    since: Version = V1_0
    until: Version = V2_1
    _: KW_ONLY
    multiple: bool = False
    #: Whether an object of a type that it applies to always has a value.
    always: bool = False
    modifiable: When = When.NEVER
    deletable: When = When.NEVER
    applies_to: frozenset[ObjectType] = ALL_OBJECTS
    #: The operations that may set it though the request does not ask for it.
    implicit: Set[Operation] = frozenset()
    kind: Kind = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", Kind(self.annotation))

    @property
    def name(self) -> str:
        """The name in Python."""
        return self.tag.name.lower()

    def load(self, item: Item) -> Any:
        """The value in an item; raises `KMIPError` where the type is not the attribute's."""
        kind = self.kind
        if item.type != kind.type:
            raise KMIPError(ResultReason.INVALID_MESSAGE, f"{self.title}: has the wrong type")
        if kind.struct is not None:
            # Filters may leave fields out; what is to be kept goes through `Attributes.check`.
            return kind.struct.load(item, partial=True)
        return item.value if kind.load is None else kind.load(item)

    def pack(self, value: Any) -> "Packed":
        """The item type and the value as JSON has them."""
        return _pack_value(self.kind, value, self.until)

    def in_version(self, version: Version) -> bool:
        """Whether a version has the attribute."""
        return self.since <= version <= self.until


#: 1.4 lists the tags of the parts of a certificate's names, and its test cases show them, though it has no section.
# fmt: off
ROWS: tuple[Row, ...] = (
    Row(Tag.UNIQUE_IDENTIFIER, "Unique Identifier", str, SERVER, always=True, implicit=MAKING),
    Row(Tag.NAME, "Name", Name, CLIENT, multiple=True, modifiable=ALWAYS, deletable=ALWAYS, implicit=REPLACING),
    Row(Tag.OBJECT_TYPE, "Object Type", ObjectType, SERVER, always=True, implicit=MAKING),
    Row(Tag.CRYPTOGRAPHIC_ALGORITHM, "Cryptographic Algorithm", CryptographicAlgorithm, MAKER,
        always=True, implicit=MAKING),
    Row(Tag.CRYPTOGRAPHIC_LENGTH, "Cryptographic Length", int, MAKER, always=True, implicit=MAKING),
    Row(Tag.CRYPTOGRAPHIC_PARAMETERS, "Cryptographic Parameters", CryptographicParameters, CLIENT,
        multiple=True, modifiable=ALWAYS, deletable=ALWAYS, implicit=REPLACING),
    Row(Tag.CRYPTOGRAPHIC_DOMAIN_PARAMETERS, "Cryptographic Domain Parameters", CryptographicDomainParameters, CLIENT,
        applies_to=KEY_PAIRS, implicit=RE_KEYING),
    Row(Tag.CERTIFICATE_TYPE, "Certificate Type", CertificateType, SERVER,
        always=True, applies_to=CERTIFICATES, implicit=CERTIFYING),
    Row(Tag.CERTIFICATE_IDENTIFIER, "Certificate Identifier", CertificateIdentifier, SERVER, V1_0, V1_4,
        always=True, applies_to=CERTIFICATES, implicit=CERTIFYING),
    Row(Tag.CERTIFICATE_SUBJECT, "Certificate Subject", CertificateSubject, SERVER, V1_0, V1_4,
        always=True, applies_to=CERTIFICATES, implicit=CERTIFYING),
    Row(Tag.CERTIFICATE_ISSUER, "Certificate Issuer", CertificateIssuer, SERVER, V1_0, V1_4,
        always=True, applies_to=CERTIFICATES, implicit=CERTIFYING),
    Row(Tag.DIGEST, "Digest", Digest, SERVER, multiple=True, always=True, implicit=MAKING),
    Row(Tag.OPERATION_POLICY_NAME, "Operation Policy Name", str, EITHER, V1_0, V1_4, implicit=MAKING),
    Row(Tag.CRYPTOGRAPHIC_USAGE_MASK, "Cryptographic Usage Mask", UsageMask, EITHER, always=True, implicit=MAKING),
    Row(Tag.LEASE_TIME, "Lease Time", Interval, SERVER, implicit=MAKING),
    Row(Tag.USAGE_LIMITS, "Usage Limits", UsageLimits, EITHER,
        modifiable=NOT_YET_USED, deletable=NOT_YET_USED, implicit=GENERATING | {O.REGISTER, O.GET_USAGE_ALLOCATION}),
    Row(Tag.STATE, "State", State, SERVER, always=True, implicit=MAKING | {O.ACTIVATE, O.REVOKE, O.DESTROY}),
    Row(Tag.INITIAL_DATE, "Initial Date", DateTime, SERVER, always=True, implicit=MAKING),
    Row(Tag.ACTIVATION_DATE, "Activation Date", DateTime, EITHER,
        modifiable=PRE_ACTIVE, implicit=MAKING | {O.ACTIVATE}),
    Row(Tag.PROCESS_START_DATE, "Process Start Date", DateTime, EITHER,
        modifiable=NOT_YET_REACHED, implicit={O.CREATE, O.REGISTER, O.DERIVE_KEY, O.RE_KEY}),
    Row(Tag.PROTECT_STOP_DATE, "Protect Stop Date", DateTime, EITHER,
        modifiable=NOT_YET_REACHED, implicit={O.CREATE, O.REGISTER, O.DERIVE_KEY, O.RE_KEY}),
    Row(Tag.DEACTIVATION_DATE, "Deactivation Date", DateTime, EITHER,
        modifiable=PRE_ACTIVE_OR_ACTIVE, implicit=MAKING | {O.REVOKE}),
    Row(Tag.DESTROY_DATE, "Destroy Date", DateTime, SERVER, implicit={O.DESTROY}),
    Row(Tag.COMPROMISE_OCCURRENCE_DATE, "Compromise Occurrence Date", DateTime, SERVER, implicit={O.REVOKE}),
    Row(Tag.COMPROMISE_DATE, "Compromise Date", DateTime, SERVER, implicit={O.REVOKE}),
    Row(Tag.REVOCATION_REASON, "Revocation Reason", RevocationReason, SERVER, implicit={O.REVOKE}),
    Row(Tag.ARCHIVE_DATE, "Archive Date", DateTime, SERVER, implicit={O.ARCHIVE}),
    Row(Tag.OBJECT_GROUP, "Object Group", str, EITHER,
        multiple=True, modifiable=ALWAYS, deletable=ALWAYS, implicit=MAKING),
    Row(Tag.LINK, "Link", Link, EITHER,
        multiple=True, modifiable=ALWAYS, deletable=ALWAYS, implicit=MAKING - {O.CREATE}),
    Row(Tag.APPLICATION_SPECIFIC_INFORMATION, "Application Specific Information", ApplicationSpecificInformation,
        EITHER, multiple=True, modifiable=ALWAYS, deletable=ALWAYS, implicit=REPLACING),
    Row(Tag.CONTACT_INFORMATION, "Contact Information", str, EITHER,
        modifiable=ALWAYS, deletable=ALWAYS, implicit=MAKING),
    Row(Tag.LAST_CHANGE_DATE, "Last Change Date", DateTime, SERVER, always=True, implicit=CHANGING),
    Row(Tag.CERTIFICATE_LENGTH, "Certificate Length", int, SERVER, V1_1,
        always=True, applies_to=CERTIFICATES, implicit=CERTIFYING),
    Row(Tag.X_509_CERTIFICATE_IDENTIFIER, "X.509 Certificate Identifier", X_509CertificateIdentifier, SERVER, V1_1,
        always=True, applies_to=CERTIFICATES, implicit=CERTIFYING),
    Row(Tag.X_509_CERTIFICATE_SUBJECT, "X.509 Certificate Subject", X_509CertificateSubject, SERVER, V1_1,
        always=True, applies_to=CERTIFICATES, implicit=CERTIFYING),
    Row(Tag.X_509_CERTIFICATE_ISSUER, "X.509 Certificate Issuer", X_509CertificateIssuer, SERVER, V1_1,
        always=True, applies_to=CERTIFICATES, implicit=CERTIFYING),
    Row(Tag.DIGITAL_SIGNATURE_ALGORITHM, "Digital Signature Algorithm", DigitalSignatureAlgorithm, SERVER, V1_1,
        multiple=True, always=True, applies_to=CERTIFICATES_AND_PGP_KEYS, implicit=CERTIFYING),
    Row(Tag.FRESH, "Fresh", bool, EITHER, V1_1, always=True, implicit=MAKING),
    Row(Tag.ALTERNATIVE_NAME, "Alternative Name", AlternativeName, CLIENT, V1_2,
        multiple=True, modifiable=ALWAYS, deletable=ALWAYS),
    Row(Tag.KEY_VALUE_PRESENT, "Key Value Present", bool, SERVER, V1_2, implicit={O.REGISTER}),
    Row(Tag.KEY_VALUE_LOCATION, "Key Value Location", KeyValueLocation, CLIENT, V1_2,
        multiple=True, modifiable=ALWAYS, deletable=ALWAYS),
    Row(Tag.ORIGINAL_CREATION_DATE, "Original Creation Date", DateTime, EITHER, V1_2, implicit=GENERATING),
    Row(Tag.RANDOM_NUMBER_GENERATOR, "Random Number Generator", RNGParameters, EITHER, V1_3, implicit=GENERATING),
    Row(Tag.PKCS_12_FRIENDLY_NAME, "PKCS#12 Friendly Name", str, EITHER, V1_4, modifiable=ALWAYS, deletable=ALWAYS),
    Row(Tag.DESCRIPTION, "Description", str, EITHER, V1_4, modifiable=ALWAYS, deletable=ALWAYS),
    Row(Tag.COMMENT, "Comment", str, EITHER, V1_4, modifiable=ALWAYS, deletable=ALWAYS),
    Row(Tag.SENSITIVE, "Sensitive", bool, EITHER, V1_4, always=True, modifiable=ALWAYS, implicit=MAKING),
    Row(Tag.ALWAYS_SENSITIVE, "Always Sensitive", bool, SERVER, V1_4, always=True, implicit=MAKING | ATTRIBUTING),
    Row(Tag.EXTRACTABLE, "Extractable", bool, EITHER, V1_4, always=True, modifiable=ALWAYS, implicit=MAKING),
    Row(Tag.NEVER_EXTRACTABLE, "Never Extractable", bool, SERVER, V1_4, always=True, implicit=MAKING | ATTRIBUTING),
    *(
        Row(Tag[f"CERTIFICATE_{side} {part}".upper().replace(" ", "_")], f"Certificate {side} {part}", str, SERVER,
            V1_4, multiple=True, applies_to=CERTIFICATES, implicit=CERTIFYING)
        for side in ("Subject", "Issuer")
        for part in ("CN", "O", "OU", "Email", "C", "ST", "L", "UID", "Serial Number", "Title", "DC", "DN Qualifier")
    ),
    Row(Tag.KEY_FORMAT_TYPE, "Key Format Type", KeyFormatType, SERVER, V2_0, always=True),
    Row(Tag.NIST_KEY_TYPE, "NIST Key Type", NISTKeyType, CLIENT, V2_0, multiple=True),
    Row(Tag.OPAQUE_DATA_TYPE, "Opaque Data Type", OpaqueDataType, SERVER, V2_0,
        always=True, applies_to=OPAQUE_OBJECTS, implicit={O.REGISTER}),
    Row(Tag.PROTECTION_LEVEL, "Protection Level", ProtectionLevel, CLIENT, V2_0, modifiable=ALWAYS, deletable=ALWAYS),
    Row(Tag.PROTECTION_PERIOD, "Protection Period", Interval, CLIENT, V2_0, modifiable=ALWAYS, deletable=ALWAYS),
    Row(Tag.PROTECTION_STORAGE_MASK, "Protection Storage Mask", ProtectionMask, SERVER, V2_0,
        always=True, implicit=MAKING),
    Row(Tag.QUANTUM_SAFE, "Quantum Safe", bool, CLIENT, V2_0, modifiable=ALWAYS, deletable=ALWAYS),
    Row(Tag.SHORT_UNIQUE_IDENTIFIER, "Short Unique Identifier", bytes, SERVER, V2_0, always=True, implicit=MAKING),
    Row(Tag.ROTATE_AUTOMATIC, "Rotate Automatic", bool, EITHER, V2_1),
    Row(Tag.ROTATE_DATE, "Rotate Date", DateTime, SERVER, V2_1, implicit=REPLACING),
    Row(Tag.ROTATE_GENERATION, "Rotate Generation", int, SERVER, V2_1, implicit=REPLACING),
    Row(Tag.ROTATE_INTERVAL, "Rotate Interval", Interval, EITHER, V2_1, implicit=MAKING),
    Row(Tag.ROTATE_LATEST, "Rotate Latest", bool, SERVER, V2_1, implicit=REPLACING),
    Row(Tag.ROTATE_NAME, "Rotate Name", RotateName, CLIENT, V2_1, modifiable=ALWAYS, deletable=ALWAYS),
    Row(Tag.ROTATE_OFFSET, "Rotate Offset", Interval, EITHER, V2_1, implicit=MAKING),
)
# fmt: on

BY_TAG: dict[int, Row] = {int(row.tag): row for row in ROWS}
BY_TITLE: dict[str, Row] = {row.title: row for row in ROWS}
BY_NAME: dict[str, Row] = {row.name: row for row in ROWS}

_NONE: dict[int, Any] = {}


def key_of(title: str) -> Key:
    """The key of the attribute with a 1.x name."""
    row = BY_TITLE.get(title)
    return row.tag if row is not None else Vendor.of_name(title)


def title_of(key: Key) -> str:
    """The 1.x name of an attribute."""
    if not isinstance(key, Tag):
        return key.title
    row = BY_TAG.get(key)
    return key.spelling if row is None else row.title


def _child(item: Item, tag: Tag) -> Item | None:
    for child in item.value:
        if child[0] == tag:
            return cast(Item, child)
    return None


class Attributes(dict[Key, dict[int, Any]]):
    """Attributes of one object, or asked for in a request: for each key the values by their index.

    An index counts the instances of an attribute and is not used again (1.4, 2.1.1); an attribute of one instance has
    index 0. The attributes of the specification can also be read and set by name: `attributes.state` is the value or
    None, `attributes.name` the list of values.
    """

    #: Names of Templates that a 1.x Template-Attribute refers to.
    templates: Sequence[Name] = ()

    if TYPE_CHECKING:
        # The rows' names are properties, made below.
        def __getattr__(self, name: str) -> Any: ...
        def __setattr__(self, name: str, value: Any) -> None: ...

    def first(self, key: Key) -> Any:
        """The value with the lowest index, or None."""
        return next(iter(self.get(key, _NONE).values()), None)

    def add(self, key: Key, value: Any, index: int | None = None) -> int:
        """Add an instance; returns its index."""
        values = self.setdefault(key, {})
        if index is None or index in values:
            index = max(values, default=-1) + 1
        values[index] = value
        return index

    def entries(self) -> Iterator[tuple[Key, int, Any]]:
        """Every instance with its key and index."""
        for key, values in self.items():
            for index, value in values.items():
                yield key, index, value

    def copy(self) -> "Attributes":
        """The same values in dictionaries of its own."""
        return Attributes({key: dict(values) for key, values in self.items()})

    def only(self, keys: Iterable[Key]) -> "Attributes":
        """The attributes under some keys."""
        return Attributes({key: self[key] for key in keys if key in self})

    def check(self) -> None:
        """Refuse values that lack a required field or are more than the attribute may have; raises `KMIPError`."""
        self.check_present()
        for key, values in self.items():
            if not isinstance(key, Tag):
                continue
            row = BY_TAG[key]
            if len(values) > 1 and not row.multiple:
                raise KMIPError(ResultReason.ATTRIBUTE_SINGLE_VALUED, f"{row.title} has one value only")
            for value in values.values():
                if isinstance(value, Struct) and value.missing:
                    raise KMIPError(
                        ResultReason.INVALID_ATTRIBUTE_VALUE, f"{row.title} lacks {', '.join(value.missing)}"
                    )

    def check_present(self) -> None:
        """Refuse an Attribute without its value, which may only be left out where a name is all that is meant."""
        for key, _, value in self.entries():
            if value is None:
                raise KMIPError(ResultReason.INVALID_ATTRIBUTE_VALUE, f"{title_of(key)} has no value")

    # The two spellings.

    @classmethod
    def load_item(cls, item: Item, previous: "Attributes | None") -> "Attributes":
        """Read a bare Attribute, a Template-Attribute or an Attributes structure into `previous` or a new one."""
        attributes = cls() if previous is None else previous
        if item.type != Type.STRUCTURE:
            raise KMIPError(ResultReason.INVALID_MESSAGE, f"{spelling(item.tag)}: is not a structure")
        if item.tag == Tag.ATTRIBUTE:
            attributes._load_attribute(item)
            return attributes
        for child in item.value:
            if child[0] == Tag.ATTRIBUTE:
                # Two OASIS cases (CS-AC-M-3-12 and -8-12) have one without a name beside the others; nothing says what
                # it would be of, so it is passed over as an unknown one is.
                if item.tag not in TEMPLATES or child.type != Type.STRUCTURE or _child(child, Tag.ATTRIBUTE_NAME):
                    attributes._load_attribute(child)
            elif child[0] == Tag.NAME and item.tag in TEMPLATES:
                attributes.templates = [*attributes.templates, Name.load(child)]
            else:
                row = BY_TAG.get(child[0])
                if row is not None:
                    attributes.add(row.tag, row.load(child))
        return attributes

    def _load_attribute(self, item: Item) -> None:
        if item.type != Type.STRUCTURE:
            raise KMIPError(ResultReason.INVALID_MESSAGE, "Attribute: is not a structure")
        name = _child(item, Tag.ATTRIBUTE_NAME)
        value = _child(item, Tag.ATTRIBUTE_VALUE)
        vendor = _child(item, Tag.VENDOR_IDENTIFICATION)
        if name is None or name.type != Type.TEXT_STRING:
            raise KMIPError(ResultReason.INVALID_MESSAGE, "Attribute: AttributeName is missing")
        if vendor is not None and vendor.value:
            self.add(Vendor(str(vendor.value), name.value), value)
            return
        index = _child(item, Tag.ATTRIBUTE_INDEX)
        number = index.value if index is not None and index.type == Type.INTEGER else None
        key = key_of(name.value)
        if isinstance(key, Tag) and value is not None:
            value = BY_TAG[key].load(value)
        self.add(key, value, number)

    def dump_items(self, tags: tuple[Tag, ...], version: Version) -> list[Item]:
        """The items under the first of `tags` in 1.x, the last in 2.x; attributes that the version lacks are left
        out."""
        if version >= V2_0:
            return [Item(tags[-1], Type.STRUCTURE, self._tagged(version))]
        items = self._named(version)
        if tags[0] == Tag.ATTRIBUTE:
            return items
        return [Item(tags[0], Type.STRUCTURE, [dump(name, Tag.NAME, version) for name in self.templates] + items)]

    def _named(self, version: Version) -> list[Item]:
        items = []
        for key, index, value in self.entries():
            children = [Item(Tag.ATTRIBUTE_NAME, Type.TEXT_STRING, title_of(key))]
            if index:
                children.append(Item(Tag.ATTRIBUTE_INDEX, Type.INTEGER, index))
            if isinstance(key, Tag):
                row = BY_TAG[key]
                if not row.in_version(version):
                    continue
                if value is not None:
                    children.append(row.kind.item(Tag.ATTRIBUTE_VALUE, value, version))
            elif value is not None:
                children.append(value)
            items.append(Item(Tag.ATTRIBUTE, Type.STRUCTURE, children))
        return items

    def _tagged(self, version: Version) -> list[Item]:
        items = []
        for key, _, value in self.entries():
            if isinstance(key, Tag):
                row = BY_TAG[key]
                if row.in_version(version) and value is not None:
                    items.append(row.kind.item(key, value, version))
                continue
            children = [
                Item(Tag.VENDOR_IDENTIFICATION, Type.TEXT_STRING, key.vendor),
                Item(Tag.ATTRIBUTE_NAME, Type.TEXT_STRING, key.name),
            ]
            if value is not None:
                children.append(value)
            items.append(Item(Tag.ATTRIBUTE, Type.STRUCTURE, children))
        return items

    # At rest: JSON values, the attributes by name.

    def pack(self, *, without: Set[Key] = frozenset()) -> dict[str, list[list[Any]]]:
        """JSON values that `unpack` reads: for each name a list of index, item type and value."""
        packed: dict[str, list[list[Any]]] = {}
        for key, values in self.items():
            if key in without:
                continue
            if isinstance(key, Tag):
                pack = BY_TAG[key].pack
                packed[key.spelling] = [[index, *pack(value)] for index, value in values.items()]
            else:
                packed[f"{key.vendor}/{key.name}"] = [[index, *pack_item(value)] for index, value in values.items()]
        return packed

    @classmethod
    def unpack(cls, packed: dict[str, list[list[Any]]]) -> "Attributes":
        """The attributes that `pack` packed."""
        attributes = cls()
        for name, instances in packed.items():
            vendor, slash, rest = name.partition("/")
            if slash:
                attributes[Vendor(vendor, rest)] = {
                    index: _unpack(Tag.ATTRIBUTE_VALUE, type_, value) for index, type_, value in instances
                }
            else:
                row = _BY_SPELLING[name]
                attributes[row.tag] = {
                    index: row.load(_unpack(row.tag, type_, value)) for index, type_, value in instances
                }
        return attributes


def _single(tag: Tag) -> property:
    """An attribute of one value by name."""

    def get(attributes: Attributes) -> Any:
        values = attributes.get(tag)
        return next(iter(values.values()), None) if values else None

    def put(attributes: Attributes, value: Any) -> None:
        if value is None:
            attributes.pop(tag, None)
        else:
            attributes[tag] = {0: value}

    return property(get, put)


def _multiple(tag: Tag) -> property:
    """An attribute of many values by name."""

    def get(attributes: Attributes) -> list[Any]:
        values = attributes.get(tag)
        return list(values.values()) if values else []

    def put(attributes: Attributes, values: Iterable[Any] | None) -> None:
        if values:
            attributes[tag] = dict(enumerate(values))
        else:
            attributes.pop(tag, None)

    return property(get, put)


for _row in ROWS:
    setattr(Attributes, _row.name, (_multiple if _row.multiple else _single)(_row.tag))

_BY_SPELLING = {row.tag.spelling: row for row in ROWS}

#: Structures of 1.x that may refer to a Template by name.
TEMPLATES = frozenset(
    {
        Tag.TEMPLATE_ATTRIBUTE,
        Tag.COMMON_TEMPLATE_ATTRIBUTE,
        Tag.PRIVATE_KEY_TEMPLATE_ATTRIBUTE,
        Tag.PUBLIC_KEY_TEMPLATE_ATTRIBUTE,
    }
)


#: An item's type, and its value as JSON has it: a structure's is a list of tag, type and value for each of its items.
Packed = tuple[int, Any]


def pack_item(item: Item) -> Packed:
    """An item's type and value."""
    _, type_, value = item
    if type_ == Type.STRUCTURE:
        return int(type_), [[int(child.tag), *pack_item(child)] for child in value]
    return int(type_), _pack_plain(type_, value)


def _pack_value(kind: Kind, value: Any, version: Version) -> Packed:
    """What `pack_item` gives for the item of a value, without the item."""
    if kind.struct is None:
        assert kind.type is not None
        return int(kind.type), _pack_plain(kind.type, value)
    packed: list[list[Any]] = []
    held = value.__dict__
    for field_ in value._plans[version]:
        one = held[field_.name]
        if one is None:
            continue
        if field_.single is not None:
            packed.append([int(field_.tag), *_pack_value(field_.single, one, version)])
        else:
            packed += [[int(item.tag), *pack_item(item)] for item in field_.items(one, version)]
    return int(Type.STRUCTURE), packed


def _pack_plain(type_: int, value: Any) -> str | int:
    if type_ == Type.BYTE_STRING:
        return str(value.hex())
    if isinstance(value, str):
        return value
    # A Big Integer may be larger than the numbers that JSON readers hold.
    return str(value) if type_ == Type.BIG_INTEGER else int(value)


def _unpack(tag: int, type_: int, value: Any) -> Item:
    if type_ == Type.STRUCTURE:
        return Item(tag, type_, [_unpack(*child) for child in value])
    if type_ == Type.BYTE_STRING:
        return Item(tag, type_, bytes.fromhex(value))
    if type_ == Type.BOOLEAN:
        return Item(tag, type_, bool(value))
    return Item(tag, type_, int(value) if type_ == Type.BIG_INTEGER else value)


class References(list[Key]):
    """Names of attributes: Attribute Name in 1.x, Attribute Reference in 2.x (2.1, 5.5)."""

    @classmethod
    def load_item(cls, item: Item, previous: "References | None") -> "References":
        """Add one name to those before it."""
        references = cls() if previous is None else previous
        if item.type == Type.TEXT_STRING:
            references.append(key_of(item.value))
        elif item.type == Type.ENUMERATION:
            tag = BY_NUMBER.get(item.value)
            if tag is None:
                raise KMIPError(ResultReason.INVALID_MESSAGE, f"AttributeReference: 0x{item.value:06X} is no tag")
            references.append(tag)
        elif item.type == Type.STRUCTURE:
            vendor = _child(item, Tag.VENDOR_IDENTIFICATION)
            name = _child(item, Tag.ATTRIBUTE_NAME)
            if vendor is None or name is None:
                raise KMIPError(ResultReason.INVALID_MESSAGE, "AttributeReference: needs vendor and name")
            references.append(Vendor(str(vendor.value), str(name.value)))
        else:
            raise KMIPError(ResultReason.INVALID_MESSAGE, f"{spelling(item.tag)}: has the wrong type")
        return references

    def dump_items(self, tags: tuple[Tag, ...], version: Version) -> list[Item]:
        """One item for each name that the version has."""
        items = []
        for key in self:
            if isinstance(key, Tag):
                row = BY_TAG.get(key)
                if row is not None and not row.in_version(version):
                    continue
            if version < V2_0:
                items.append(Item(tags[0], Type.TEXT_STRING, title_of(key)))
            elif isinstance(key, Tag):
                items.append(Item(tags[-1], Type.ENUMERATION, int(key)))
            else:
                children = [
                    Item(Tag.VENDOR_IDENTIFICATION, Type.TEXT_STRING, key.vendor),
                    Item(Tag.ATTRIBUTE_NAME, Type.TEXT_STRING, key.name),
                ]
                items.append(Item(tags[-1], Type.STRUCTURE, children))
        return items
