"""Declared structures: fields in wire order, versions as columns, items in and out.

A structure is a class with annotated fields. The field's name gives the tag, the annotation the type, optionality and
repetition, `since` and `until` the versions. Nothing here knows a particular structure, and nothing guesses a type from
a name or a value.

    class RevokeRequest(Struct):
        unique_identifier: str | None = None
        revocation_reason: RevocationReason
        compromise_occurrence_date: DateTime | None = None

Loading takes the fields of every version (clients send newer fields in older messages), in order, and passes over tags
that do not belong; dumping writes the fields of the version spoken.
"""

import dataclasses
import sys
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Protocol, Self, Union, cast, dataclass_transform, get_args, get_origin

from kmip import ttlv
from kmip.enums import Enumeration, Mask, ResultReason
from kmip.errors import KMIPError
from kmip.tags import BY_NUMBER, Extension, Tag, spelling
from kmip.ttlv import PADDING, Item, Type, pack_head, pack_head_into, shown
from kmip.versions import V1_0, V2_1, VERSIONS, Version

LongInteger = Annotated[int, Type.LONG_INTEGER]
BigInteger = Annotated[int, Type.BIG_INTEGER]
#: Seconds since 1970, UTC.
DateTime = Annotated[int, Type.DATE_TIME]
#: Seconds.
Interval = Annotated[int, Type.INTERVAL]
#: Microseconds since 1970, UTC.
DateTimeExtended = Annotated[int, Type.DATE_TIME_EXTENDED]

_SIMPLE: dict[Any, Type] = {
    str: Type.TEXT_STRING,
    bytes: Type.BYTE_STRING,
    bool: Type.BOOLEAN,
    int: Type.INTEGER,
}
_new_item = tuple.__new__

#: Appends the binary encoding of a structure: given its tag and type as one number, and its fields by name.
Writer = Callable[[bytearray, int, dict[str, Any]], None]


class Unordered(list[Item]):
    """The children of a structure in an encoding that leaves their order free."""


class Spelled(Protocol):
    """A value with its own spelling for each version, in one or more items (see `attributes`)."""

    @classmethod
    def load_item(cls, item: Item, previous: Any) -> Self:
        """The value that `item` adds to `previous`, which is None at the first one."""

    def dump_items(self, tags: tuple[Tag, ...], version: Version) -> list[Item]:
        """The items in `version`, under the one of `tags` that it has."""


def since(
    version: Version, default: Any = None, *, until: Version = V2_1, tags: tuple[Tag | Extension, ...] = ()
) -> Any:
    """A field that versions before `version` or after `until` do not have; `list` as the default makes it repeat."""
    metadata = {"since": version, "until": until, "tags": tags}
    if default is list:
        return dataclasses.field(default_factory=list, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def until(version: Version, default: Any = None, *, tags: tuple[Tag | Extension, ...] = ()) -> Any:
    """A field that versions after `version` do not have."""
    return since(V1_0, default, until=version, tags=tags)


def many(*, tags: tuple[Tag | Extension, ...] = ()) -> Any:
    """A field that may repeat or be absent, in every version."""
    return since(V1_0, list, tags=tags)


def spelled(*tags: Tag, default: Any = None, since: Version = V1_0, until: Version = V2_1) -> Any:
    """A field under other tags than its name's: each of `tags` is read, and the value chooses the one to write."""
    return dataclasses.field(default=default, metadata={"since": since, "until": until, "tags": tags})


class Kind:
    """How one Python type goes to and from items."""

    __slots__ = ("enumeration", "load", "spelled", "struct", "type")

    def __init__(self, annotation: Any) -> None:
        self.type: Type | None = None
        self.load: Callable[[Item], Any] | None = None
        self.struct: type[Struct] | None = None
        self.enumeration: type[Enumeration | Mask | Tag] | None = None
        self.spelled = False
        if get_origin(annotation) is Annotated:
            _, mark = get_args(annotation)
            if isinstance(mark, Type):
                self.type = mark
            else:
                self.type, self.enumeration = Type.INTEGER, mark
        elif annotation in _SIMPLE:
            self.type = _SIMPLE[annotation]
        elif annotation is Item or annotation is Struct:
            # A value that carries its own type, or a structure chosen by a neighbour: `resolve` gives it its class.
            self.load = _itself
        elif annotation is Tag:
            self.type, self.enumeration, self.load = Type.ENUMERATION, Tag, _load_tag
        elif isinstance(annotation, type) and issubclass(annotation, Enumeration):
            self.type, self.enumeration, self.load = Type.ENUMERATION, annotation, _enumeration_loader(annotation)
        elif isinstance(annotation, type) and issubclass(annotation, Struct):
            self.type, self.struct, self.load = Type.STRUCTURE, annotation, annotation.load
        elif hasattr(annotation, "load_item"):
            self.spelled = True
        else:
            raise TypeError(f"no item type for {annotation!r}")

    def item(self, tag: int, value: Any, version: Version) -> Item:
        """The item of a value of this kind."""
        if self.struct is not None:
            return dump(value, tag, version)
        if self.type is None:
            return dump_value(tag, value, version)
        return _new_item(Item, (tag, self.type, value))


def _itself(item: Item) -> Item:
    return item


def _load_tag(item: Item) -> int:
    number = int(item[2])
    return BY_NUMBER.get(number, number)


def _enumeration_loader(cls: type[Enumeration]) -> Callable[[Item], Enumeration]:
    known = cast("dict[int, Enumeration]", cls._value2member_map_)

    def load(item: Item) -> Enumeration:
        member = known.get(item[2])
        # Not `cls(number)`: an enumeration may have no members, as Opaque Data Type does.
        return cls._missing_(item[2]) if member is None else member

    return load


class Field:
    """One declared field, compiled."""

    __slots__ = ("kinds", "loaders", "name", "position", "repeated", "required", "since", "single", "spelled", "tag",
                 "tags", "until")  # fmt: skip

    def __init__(self, position: int, field: "dataclasses.Field[Any]", annotation: Any) -> None:
        self.position = position
        self.name = field.name
        self.since: Version = field.metadata.get("since", V1_0)
        self.until: Version = field.metadata.get("until", V2_1)
        self.tags: tuple[Tag | Extension, ...] = field.metadata.get("tags") or (Tag[field.name.upper()],)
        self.tag = self.tags[0]
        options = [o for o in _options(annotation) if o is not types.NoneType]
        unset = field.default in (None, dataclasses.MISSING) and field.default_factory is dataclasses.MISSING
        self.required = unset and types.NoneType not in _options(annotation)
        self.repeated = get_origin(options[0]) is list
        if self.repeated:
            options = _options(get_args(options[0])[0])
        self.kinds = [Kind(option) for option in options]
        self.spelled: Any = options[0] if self.kinds[0].spelled else None
        #: The kind of a field that has one value of one type.
        self.single = self.kinds[0] if len(options) == 1 and not self.repeated and self.kinds[0].type else None
        # None stands for "any type": a raw item.
        self.loaders: dict[int, Callable[[Item], Any] | None] = {
            int(kind.type): kind.load for kind in self.kinds if kind.type is not None
        }
        if any(kind.type is None and not kind.spelled for kind in self.kinds):
            for type_ in Type:
                self.loaders.setdefault(int(type_), _itself)

    def items(self, value: Any, version: Version) -> list[Item]:
        """The items of the field's value."""
        if self.spelled is not None:
            return cast("list[Item]", value.dump_items(self.tags, version))
        if len(self.kinds) == 1:
            kind = self.kinds[0]
            if self.repeated:
                return [kind.item(self.tag, one, version) for one in value]
            return [kind.item(self.tag, value, version)]
        return [dump_value(self.tag, one, version) for one in (value if self.repeated else (value,))]


def _options(annotation: Any) -> list[Any]:
    if get_origin(annotation) in (Union, types.UnionType):
        return list(get_args(annotation))
    return [annotation]


# For type checkers `since` and its like are plain defaults: every such field may be left out.
@dataclass_transform(kw_only_default=True, field_specifiers=())
class Struct:
    """A declared structure. Subclasses list their fields in wire order."""

    _fields: ClassVar[tuple[Field, ...]]
    _by_tag: ClassVar[dict[int, Field]]
    _required: ClassVar[tuple[Field, ...]]
    _lists: ClassVar[tuple[str, ...]]
    _defaults: ClassVar[dict[str, Any]]
    _plans: ClassVar[dict[Version, tuple[Field, ...]]]
    _writers: ClassVar[dict[Version, Writer]]

    def __init_subclass__(cls) -> None:
        dataclasses.dataclass(kw_only=True, repr=False)(cls)
        hints = typing.get_type_hints(cls, vars(sys.modules[cls.__module__]), include_extras=True)
        cls._fields = tuple(
            Field(position, field, hints[field.name])
            for position, field in enumerate(dataclasses.fields(cls))  # type: ignore[arg-type]
        )
        cls._by_tag = {int(tag): field for field in cls._fields for tag in field.tags}
        cls._required = tuple(field for field in cls._fields if field.required)
        cls._lists = tuple(field.name for field in cls._fields if field.repeated)
        cls._defaults = {field.name: None for field in cls._fields}
        for field in dataclasses.fields(cls):  # type: ignore[arg-type]
            if field.default is not dataclasses.MISSING:
                cls._defaults[field.name] = field.default
        cls._plans = {
            version: tuple(field for field in cls._fields if field.since <= version <= field.until)
            for version in VERSIONS
        }
        if "_writers" not in vars(cls):
            cls._writers = _Writers(cls)

    def __repr__(self) -> str:
        values = ((field.name, getattr(self, field.name)) for field in self._fields)
        told = ", ".join(f"{name}={shown(value)}" for name, value in values if value is not None and value != [])
        return f"{type(self).__name__}({told})"

    @classmethod
    def load(cls, item: Item, *, partial: bool = False) -> Self:
        """The structure in an item; raises `KMIPError` (Invalid Message) naming structure and tag.

        `partial` lets required fields be absent, as in the filters of Locate.
        """
        by_tag = cls._by_tag
        children = item[2]
        if item[1] != 1:
            raise _refuse(item, "is not a structure")
        values = cls._defaults.copy()
        for name in cls._lists:
            values[name] = []
        last = 0
        for child in children:
            field = by_tag.get(child[0])
            if field is None:
                continue
            if field.position < last and type(children) is list:
                raise _refuse(item, f"{spelling(child[0])} is out of order")
            last = field.position
            name = field.name
            if field.spelled is not None:
                values[name] = field.spelled.load_item(child, values[name])
                continue
            try:
                load = field.loaders[child[1]]
            except KeyError:
                raise _refuse(item, f"{spelling(child[0])} has the wrong type") from None
            value = child[2] if load is None else load(child)
            if field.repeated:
                values[name].append(value)
            elif values[name] is not None and type(children) is list and values[name] != cls._defaults[name]:
                raise _refuse(item, f"{spelling(child[0])} may stand only once")
            else:
                values[name] = value
        if not partial:
            for field in cls._required:
                if values[field.name] is None:
                    names = " or ".join(spelling(tag) for tag in field.tags)
                    raise _refuse(item, f"{names} is missing")
        struct = object.__new__(cls)
        struct.__dict__ = values
        struct.resolve()
        return struct

    @property
    def missing(self) -> list[str]:
        """The required fields that have no value."""
        return [field.tag.spelling for field in self._required if getattr(self, field.name) is None]

    def resolve(self) -> None:
        """Give the fields whose type depends on a neighbour their own type; called when all are loaded."""


def _refuse(item: Item, problem: str) -> KMIPError:
    return KMIPError(ResultReason.INVALID_MESSAGE, f"{spelling(item[0])}: {problem}")


def dump(struct: Struct, tag: int, version: Version) -> Item:
    """The item of a structure in a version."""
    if type(struct) is Encoded:
        return ttlv.decode(struct.data)
    values = struct.__dict__
    children: list[Item] = []
    for field in struct._plans[version]:
        value = values[field.name]
        if value is None:
            continue
        kind = field.single
        if kind is None:
            children += field.items(value, version)
        elif kind.struct is None:
            children.append(_new_item(Item, (field.tag, kind.type, value)))
        else:
            children.append(dump(value, field.tag, version))
    return _new_item(Item, (tag, 1, children))


def encode(struct: Struct, tag: int, version: Version) -> bytes:
    """The binary encoding of a structure in a version: what `ttlv.encode` of its item would be, without the item."""
    out = bytearray()
    struct._writers[version](out, tag << 8 | 1, struct.__dict__)
    return bytes(out)


class _Writers(dict[Version, Writer]):
    """The writers of a structure by version, each compiled when it is first asked for."""

    def __init__(self, cls: type[Struct]) -> None:
        self._cls = cls

    def __missing__(self, version: Version) -> Writer:
        made = self[version] = _compile(self._cls, version)
        return made


def _compile(cls: type[Struct], version: Version) -> Writer:
    """A function that writes the fields of a structure one after the other, without looking at the schema again.

    For a structure with one optional text of tag 0x420094:

        def write(out, head, values):
            at = len(out)
            out += pack_head(head, 0)
            value = values["unique_identifier"]
            if value is not None:
                data = value.encode()
                size = len(data)
                out += pack_head(0x42009407, size)
                out += data
                out += PADDING[-size & 7]
            pack_head_into(out, at, head, len(out) - at - 8)
    """
    names: dict[str, Any] = {
        "Struct": Struct,
        "PADDING": PADDING,
        "pack_head": pack_head,
        "pack_head_into": pack_head_into,
        "write_item": ttlv.write,
        "version": version,
        **{f"pack_{int(type_)}": pack for type_, pack in ttlv.PACK.items()},
    }
    lines = ["def write(out, head, values):", " at = len(out)", " out += pack_head(head, 0)"]
    for number, field in enumerate(cls._plans[version]):
        lines += [f" value = values[{field.name!r}]", " if value is not None:"]
        names[f"items_{number}"] = field.items
        if field.repeated and field.spelled is None and len(field.kinds) == 1:
            lines.append("  for one in value:")
            lines += [f"   {line}" for line in _statements(field, "one", f"items_{number}([one], version)")]
        else:
            lines += [f"  {line}" for line in _statements(field, "value", f"items_{number}(value, version)")]
    lines.append(" pack_head_into(out, at, head, len(out) - at - 8)")
    # Nothing in the source comes from outside: names are those of declared fields.
    exec(compile("\n".join(lines), f"<writer of {cls.__name__} in {version}>", "exec"), names)  # noqa: S102
    return cast(Writer, names["write"])


def _statements(field: Field, name: str, items: str) -> list[str]:
    """The statements that write one value of a field; `items` is the expression for its items where they are needed."""
    kind = field.kinds[0]
    head = field.tag << 8
    generic = [f" for item in {items}:", "  write_item(out, item)"]
    nested = f"{name}._writers[version](out, {head | Type.STRUCTURE:#x}, {name}.__dict__)"
    if len(field.kinds) == 1 and kind.struct is not None:
        return [nested]
    if len(field.kinds) == 1 and kind.type is not None:
        return _plain(kind.type, head | kind.type, name) or ["if True:", *generic]
    branches = [f"if isinstance({name}, Struct):", f" {nested}"]
    if any(kind.type == Type.TEXT_STRING for kind in field.kinds):
        # Identifiers, which may be numbers or enumerations as well.
        branches += [f"elif type({name}) is str:", *(f" {line}" for line in _plain(Type.TEXT_STRING, head | 7, name))]
    return [*branches, "else:", *generic]


def _plain(type_: Type, head: int, name: str) -> list[str]:
    """The statements that write a value of a type; none for a Big Integer."""
    if type_ in ttlv.PACK:
        return [f"out += pack_{int(type_)}({head:#x}, {ttlv.LENGTHS[type_]}, {name})"]
    if type_ not in (Type.TEXT_STRING, Type.BYTE_STRING):
        return []
    return [
        f"data = {name}.encode()" if type_ == Type.TEXT_STRING else f"data = {name}",
        "size = len(data)",
        f"out += pack_head({head:#x}, size)",
        "out += data",
        "out += PADDING[-size & 7]",
    ]


def _splice(out: bytearray, head: int, values: dict[str, Any]) -> None:
    out += values["data"]


class Encoded(Struct):
    """A structure that is in the binary encoding already, tag and all."""

    data: bytes

    _writers: ClassVar[dict[Version, Writer]] = dict.fromkeys(VERSIONS, _splice)


def opened(struct: Struct, cls: type[Struct]) -> Struct:
    """A structure of a class, itself and its fields loaded where they are in the binary encoding."""
    if type(struct) is Encoded:
        return cls.load(ttlv.decode(struct.data))
    for field in cls._fields:
        value = struct.__dict__[field.name]
        if type(value) is Encoded:
            (kind,) = field.kinds
            assert kind.struct is not None
            setattr(struct, field.name, opened(value, kind.struct))
    return struct


def dump_value(tag: int, value: Any, version: Version) -> Item:
    """The item of a value whose field allows several types, by the value's own class."""
    if isinstance(value, Struct):
        return dump(value, tag, version)
    if isinstance(value, Item):
        return Item(tag, value.type, value.value)
    if isinstance(value, (Enumeration, Tag)):
        return Item(tag, Type.ENUMERATION, value)
    return Item(tag, _SIMPLE[type(value)], value)
