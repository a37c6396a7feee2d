"""What the text encodings share: the names of tags and values, and the spellings of numbers and dates.

Profiles 2.1, 5.4 and 5.5 (before: KMIP Additional Message Encodings 1.0, 4.1 and 6.1). An enumeration or a mask follows
from the tag; most tags bear the name of their enumeration, the others stand in `SHARED`. Readers raise `ValueError`;
the encodings turn it into a refusal that names the tag.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from kmip import enums
from kmip.enums import Enumeration, Mask, ResultReason
from kmip.errors import KMIPError
from kmip.tags import BY_SPELLING, Tag, spelling
from kmip.ttlv import Item, Type

#: Type names as XML and JSON write them: "LongInteger".
TYPE_NAMES: dict[int, str] = {type_: type_.name.title().replace("_", "") for type_ in Type}
TYPES: dict[str, Type] = {name: Type(number) for number, name in TYPE_NAMES.items()}

#: Tags whose enumeration has another name.
SHARED: dict[Tag, type[Enumeration]] = {
    Tag.DATA: enums.DataEnumeration,
    Tag.EXTENSION_TYPE: enums.ItemType,
    Tag.LINKED_OBJECT_IDENTIFIER: enums.UniqueIdentifierEnumeration,
    Tag.MASK_GENERATOR_HASHING_ALGORITHM: enums.HashingAlgorithm,
    Tag.PKCS_11_FUNCTION: enums.PKCS11Function,
    Tag.PKCS_11_RETURN_CODE: enums.PKCS11ReturnCode,
    Tag.PRIVATE_KEY_UNIQUE_IDENTIFIER: enums.UniqueIdentifierEnumeration,
    Tag.PUBLIC_KEY_UNIQUE_IDENTIFIER: enums.UniqueIdentifierEnumeration,
    Tag.UNIQUE_IDENTIFIER: enums.UniqueIdentifierEnumeration,
}
#: Tags whose values are tags themselves (2.1, 5.5 and 11.56).
OF_TAGS: Final = (Tag.TAG, Tag.ATTRIBUTE_REFERENCE)


def _named_like(tag: Tag, base: type) -> bool:
    found = getattr(enums, tag.spelling, None)
    return isinstance(found, type) and issubclass(found, base)


ENUMERATIONS: dict[Tag, type[Enumeration]] = {
    tag: getattr(enums, tag.spelling) for tag in Tag if _named_like(tag, Enumeration)
} | SHARED
MASKS: dict[Tag, type[Mask]] = {tag: getattr(enums, tag.spelling) for tag in Tag if _named_like(tag, Mask)}

#: For a tag: number -> name, and every name -> number.
VALUE_NAMES: dict[int, dict[int, str]] = {
    int(tag): {int(member): member.spelling for member in cls} for tag, cls in ENUMERATIONS.items()
}
VALUES: dict[int, dict[str, int]] = {
    int(tag): {name: int(member) for name, member in cls.by_spelling().items()} for tag, cls in ENUMERATIONS.items()
}
for _tag in OF_TAGS:
    VALUE_NAMES[_tag] = {int(tag): tag.spelling for tag in Tag}
    VALUES[_tag] = {name: int(tag) for name, tag in BY_SPELLING.items()}
#: For a tag: bits and their names in ascending order, and every name -> bit.
MASK_NAMES: dict[int, list[tuple[int, str]]] = {
    int(tag): [(int(member), member.spelling) for member in cls] for tag, cls in MASKS.items()
}
MASK_BITS: dict[int, dict[str, int]] = {
    int(tag): {name: int(member) for member in cls for name in (member.spelling, *member.also)}
    for tag, cls in MASKS.items()
}

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND: Final = timedelta(seconds=1)
_HEX_DIGITS: Final = frozenset("0123456789abcdefABCDEF")
#: Longer text is no 64-bit number.
_MOST_DIGITS: Final = 20


def refuse(tag: int | str, problem: str) -> KMIPError:
    """The error for an item that cannot be read."""
    return KMIPError(ResultReason.INVALID_MESSAGE, f"{tag if isinstance(tag, str) else spelling(tag)}: {problem}")


def tag_of(name: str) -> int:
    """The number of a tag by name or hexadecimal ("0x540001"); `ValueError` where it is neither."""
    tag = BY_SPELLING.get(name)
    if tag is not None:
        return tag
    if len(name) == 8 and name[:2] in ("0x", "0X"):
        return number(name, 24, signed=False)
    raise ValueError


def attribute_tag(name: object) -> int:
    """The tag that the value of an attribute of 1.x is spelled after: "Cryptographic Algorithm" (1.4, 2.1.1)."""
    return BY_SPELLING.get(name.replace(" ", ""), Tag.ATTRIBUTE_VALUE) if isinstance(name, str) else Tag.ATTRIBUTE_VALUE


def attribute_tag_in(items: Iterable[Item]) -> int:
    """The same, where the Attribute Name stands among the value's siblings."""
    return attribute_tag(next((item[2] for item in items if item[0] == Tag.ATTRIBUTE_NAME), None))


# Reading.


def number(text: str, bits: int, *, signed: bool = True) -> int:
    """A number in decimal or hexadecimal; hexadecimal is two's complement of `bits` bits."""
    if text[:2] in ("0x", "0X"):
        digits = text[2:]
        if not digits or len(digits) > bits // 4 or not _HEX_DIGITS.issuperset(digits):
            raise ValueError
        value = int(digits, 16)
        return value - (1 << bits) if signed and value >> (bits - 1) else value
    digits = text[1:] if text[:1] in "+-" else text
    if len(digits) > _MOST_DIGITS or not (digits.isascii() and digits.isdigit()):
        raise ValueError
    return within(int(text), bits, signed=signed)


def within(value: int, bits: int, *, signed: bool = True) -> int:
    """The value, where that many bits hold it."""
    low, high = (-(1 << (bits - 1)), 1 << (bits - 1)) if signed else (0, 1 << bits)
    if not low <= value < high:
        raise ValueError
    return value


def mask(text: str, names: Mapping[str, int] | None) -> int:
    """An Integer: a number, or names and hexadecimal components between spaces or bars."""
    if names is None:
        return number(text, 32)
    value = 0
    for part in text.replace("|", " ").split():
        bit = names.get(part)
        value |= number(part, 32) if bit is None else bit
    if not text or text.isspace():
        raise ValueError
    return within(value, 32)


def enumeration(tag: int, text: str, names: Mapping[str, int] | None) -> int:
    """A value of an enumeration by name or hexadecimal; `KMIPError` names the tag and the unknown name."""
    value = names.get(text) if names is not None else None
    if value is None:
        if text[:2] not in ("0x", "0X"):
            raise refuse(tag, f"{text[:64]!r} is not one of its values")
        value = number(text, 32, signed=False)
    return value


def big_integer(text: str) -> int:
    """A Big Integer from hexadecimal, with or without 0x; the first bit is the sign."""
    data = bytes.fromhex(text[2:] if text[:2] in ("0x", "0X") else text)
    if not data:
        raise ValueError
    return int.from_bytes(data, "big", signed=True)


def date_time(text: str) -> int:
    """Seconds since 1970 from ISO 8601 or hexadecimal; fractions are cut, and a time without a zone is UTC."""
    if text[:2] in ("0x", "0X"):
        return number(text, 64)
    if text[10:11] != "T":
        raise ValueError
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment.replace(microsecond=0) - _EPOCH) // _SECOND


# Writing.


def date_text(value: int) -> str:
    """ISO 8601 in UTC; hexadecimal beyond the years 1 to 9999."""
    try:
        return datetime.fromtimestamp(value, UTC).isoformat()
    except (ValueError, OverflowError, OSError):
        return long_text(value)


def long_text(value: int) -> str:
    """64 bits in hexadecimal."""
    return f"0x{value & 0xFFFFFFFFFFFFFFFF:016x}"


def big_text(value: int) -> str:
    """A Big Integer in hexadecimal without 0x, a multiple of eight bytes long."""
    return value.to_bytes((value.bit_length() // 64 + 1) * 8, "big", signed=True).hex()


def enumeration_text(tag: int, value: int) -> str:
    """The name of a value; hexadecimal for one without."""
    names = VALUE_NAMES.get(tag)
    return (names and names.get(value)) or f"0x{value:08X}"


def mask_text(tag: int, value: int, separator: str) -> str | None:
    """The names of a mask's bits, those without a name in hexadecimal; None for an Integer that is no mask or has no
    bits."""
    names = MASK_NAMES.get(tag)
    if names is None or not value:
        return None
    value &= 0xFFFFFFFF
    parts = [name for bit, name in names if value & bit]
    rest = value & ~sum(bit for bit, _ in names)
    if rest:
        parts.append(f"0x{rest:08X}")
    return separator.join(parts)


# The values of JSON nodes, by type: a number or a text.


def json_number(value: object, bits: int, *, signed: bool = True) -> int:
    """An integer from a JSON number or text."""
    if type(value) is int:
        return within(value, bits, signed=signed)
    if type(value) is str:
        return number(value, bits, signed=signed)
    if type(value) is float and value.is_integer() and abs(value) < 1 << 53:
        return within(int(value), bits, signed=signed)
    raise ValueError


def json_text(value: object) -> str:
    """A JSON text."""
    if type(value) is not str:
        raise ValueError
    return value


def json_boolean(value: object) -> bool:
    """A JSON Boolean, or hexadecimal 0 or 1."""
    if type(value) is not bool:
        text = json_text(value)
        if text[:2] not in ("0x", "0X"):
            raise ValueError
        return bool(within(number(text, 64), 1, signed=False))
    return value


def json_big(value: object) -> int:
    """A Big Integer from a JSON number or hexadecimal."""
    return value if type(value) is int else big_integer(json_text(value))


#: The types whose values do not depend on the tag.
JSON_READERS: dict[int, Callable[[object], object]] = {
    Type.LONG_INTEGER: lambda value: json_number(value, 64),
    Type.BIG_INTEGER: json_big,
    Type.BOOLEAN: json_boolean,
    Type.TEXT_STRING: json_text,
    Type.BYTE_STRING: lambda value: bytes.fromhex(json_text(value)),
    Type.DATE_TIME: lambda value: date_time(json_text(value)),
    Type.INTERVAL: lambda value: json_number(value, 32, signed=False),
    Type.DATE_TIME_EXTENDED: lambda value: json_number(value, 64),
}


def json_scalar(
    tag: int,
    type_: int,
    value: object,
    values: Mapping[str, int] | None,
    bits: Mapping[str, int] | None,
) -> object:
    """The value of a JSON node that is no structure; `values` and `bits` are the names that its tag allows."""
    if type_ == Type.ENUMERATION:
        if type(value) is str:
            return enumeration(tag, value, values)
        return json_number(value, 32, signed=False)
    if type_ == Type.INTEGER:
        return mask(value, bits) if type(value) is str else json_number(value, 32)
    return JSON_READERS[type_](value)
