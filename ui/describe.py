"""An object's attributes as people read them: what there is comes from the attribute table, the order from here."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.utils.functional import Promise
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from keystore import addressing, store
from kmip.attributes import BY_TAG, Attributes, Key, Vendor
from kmip.enums import CryptographicUsageMask, Enumeration, Mask, NameType
from kmip.schema import Kind, Struct
from kmip.structures import Name
from kmip.tags import Tag, spelling
from kmip.ttlv import Item, Type
from ui.words import label, spaced

#: Attributes by the section of the object page that shows them; those named nowhere stand under "Other".
SECTIONS: tuple[tuple[str, Promise, tuple[Tag, ...]], ...] = (
    (
        "identity",
        _("Identity"),
        (
            Tag.UNIQUE_IDENTIFIER,
            Tag.SHORT_UNIQUE_IDENTIFIER,
            Tag.NAME,
            Tag.ALTERNATIVE_NAME,
            Tag.OBJECT_TYPE,
            Tag.OBJECT_GROUP,
            Tag.APPLICATION_SPECIFIC_INFORMATION,
            Tag.CONTACT_INFORMATION,
            Tag.DESCRIPTION,
            Tag.COMMENT,
            Tag.PKCS_12_FRIENDLY_NAME,
            Tag.ROTATE_NAME,
        ),
    ),
    (
        "lifecycle",
        _("Life"),
        (
            Tag.STATE,
            Tag.ORIGINAL_CREATION_DATE,
            Tag.INITIAL_DATE,
            Tag.ACTIVATION_DATE,
            Tag.PROCESS_START_DATE,
            Tag.PROTECT_STOP_DATE,
            Tag.DEACTIVATION_DATE,
            Tag.COMPROMISE_OCCURRENCE_DATE,
            Tag.COMPROMISE_DATE,
            Tag.DESTROY_DATE,
            Tag.ARCHIVE_DATE,
            Tag.LAST_CHANGE_DATE,
            Tag.REVOCATION_REASON,
            Tag.LEASE_TIME,
            Tag.USAGE_LIMITS,
            Tag.FRESH,
            Tag.ROTATE_AUTOMATIC,
            Tag.ROTATE_DATE,
            Tag.ROTATE_GENERATION,
            Tag.ROTATE_INTERVAL,
            Tag.ROTATE_OFFSET,
            Tag.ROTATE_LATEST,
        ),
    ),
    (
        "cryptography",
        _("Cryptography"),
        (
            Tag.CRYPTOGRAPHIC_ALGORITHM,
            Tag.CRYPTOGRAPHIC_LENGTH,
            Tag.CRYPTOGRAPHIC_USAGE_MASK,
            Tag.CRYPTOGRAPHIC_PARAMETERS,
            Tag.CRYPTOGRAPHIC_DOMAIN_PARAMETERS,
            Tag.KEY_FORMAT_TYPE,
            Tag.DIGEST,
            Tag.DIGITAL_SIGNATURE_ALGORITHM,
            Tag.RANDOM_NUMBER_GENERATOR,
            Tag.SENSITIVE,
            Tag.ALWAYS_SENSITIVE,
            Tag.EXTRACTABLE,
            Tag.NEVER_EXTRACTABLE,
            Tag.KEY_VALUE_PRESENT,
            Tag.KEY_VALUE_LOCATION,
            Tag.PROTECTION_STORAGE_MASK,
            Tag.PROTECTION_LEVEL,
            Tag.PROTECTION_PERIOD,
            Tag.QUANTUM_SAFE,
            Tag.NIST_KEY_TYPE,
        ),
    ),
)
#: Shown by drawings and lists of their own.
ELSEWHERE = frozenset({Tag.LINK})
#: Bytes beyond these are cut; the number of them is told.
SHOWN_BYTES = 64


@dataclass(frozen=True, slots=True)
class Line:
    """One attribute: its title, and its values as text or as lists of title and text."""

    title: str
    values: list[Any]
    code: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    """A section of the object page."""

    key: str
    title: str
    lines: list[Line]


def sections(attributes: Attributes) -> list[Section]:
    """Every attribute in the section it belongs to, the rest at the end."""
    left = {key: values for key, values in attributes.items() if key not in ELSEWHERE}
    found = []
    for name, title, tags in SECTIONS:
        lines = [line(tag, list(left.pop(tag).values())) for tag in tags if tag in left]
        found.append(Section(name, str(title), lines))
    certificate = [key for key in left if isinstance(key, Tag) and _of_certificate(key)]
    if certificate:
        found.append(
            Section(
                "names", gettext("Names in the certificate"), [line(k, list(left.pop(k).values())) for k in certificate]
            )
        )
    if left:
        found.append(
            Section("other", gettext("Other attributes"), [line(k, list(v.values())) for k, v in left.items()])
        )
    return [section for section in found if section.lines]


def _of_certificate(tag: Tag) -> bool:
    return "CERTIFICATE" in tag.name


def line(key: Key, values: list[Any]) -> Line:
    """An attribute with its values."""
    if isinstance(key, Vendor):
        return Line(key.title, [value(Kind(Item), one) for one in values])
    row = BY_TAG[key]
    code = key == Tag.UNIQUE_IDENTIFIER or row.kind.type == Type.BYTE_STRING
    return Line(row.title, [value(row.kind, one) for one in values], code)


def value(kind: Kind, one: Any) -> Any:
    """A value as text, or as a list of title and value where it is a structure."""
    if one is None:
        return ""
    if isinstance(one, Name) and one.name_type == NameType.UNINTERPRETED_TEXT_STRING:
        return one.name_value
    if isinstance(one, Struct):
        return list(_fields(one))
    if isinstance(one, Item):
        return item_value(one)
    if isinstance(one, bool):
        return gettext("yes") if one else gettext("no")
    if kind.type == Type.DATE_TIME:
        return moment(one)
    if kind.type == Type.INTERVAL:
        return duration(one)
    if kind.enumeration is not None and isinstance(kind.enumeration, type) and issubclass(kind.enumeration, Mask):
        return ", ".join(names(kind.enumeration, one)) or gettext("nothing")
    if isinstance(one, Enumeration):
        return label(one)
    if isinstance(one, bytes):
        return hexadecimal(one)
    return str(one)


def _fields(struct: Struct) -> Iterator[tuple[str, Any]]:
    for field in struct._fields:
        found = getattr(struct, field.name)
        if found is None or found == []:
            continue
        title = spaced(field.tag.spelling)
        if field.repeated:
            yield title, ", ".join(str(value(field.kinds[0], one)) for one in found)
        else:
            yield title, value(field.kinds[0], found)


def item_value(item: Item) -> Any:
    """The value of an item without a declaration."""
    if item.type == Type.STRUCTURE:
        return [(spaced(spelling(child.tag)), item_value(child)) for child in item.value]
    if item.type == Type.BYTE_STRING:
        return hexadecimal(item.value)
    if item.type == Type.DATE_TIME:
        return moment(item.value)
    return str(item.value)


def tag_key(attributes: Attributes) -> Vendor | None:
    """The vendor attribute in which an object has its tags, if it has any."""
    return next((key for key in addressing.tag_keys() if key in attributes), None)


def tags_of(attributes: Attributes) -> list[str]:
    """The tags of the JSON dialect: a JSON list in a vendor attribute."""
    key = tag_key(attributes)
    item = attributes.first(key) if key is not None else None
    return store.tags_in(item.value) if item is not None and isinstance(item.value, str) else []


def names(mask: type[Mask], number: int) -> list[str]:
    """The names of the bits that are set; bits without a name as a number."""
    found = [spaced(one.spelling) for one in mask if one & number == one]
    rest = number & ~sum(int(one) for one in mask)
    return [*found, f"0x{rest:X}"] if rest else found


def usage(number: int | None) -> list[str]:
    """What a usage mask allows."""
    return [] if number is None else names(CryptographicUsageMask, number)


def moment(seconds: int) -> str:
    """A date and time, UTC; what no calendar holds stays a number."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):
        return str(seconds)


def duration(seconds: int) -> str:
    """Seconds as days, hours, minutes and seconds."""
    parts = []
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        number, seconds = divmod(seconds, size)
        if number:
            parts.append(f"{number} {unit}")
    return " ".join(parts) or "0 s"


def hexadecimal(data: bytes) -> str:
    """Bytes in hexadecimal, cut where there are many."""
    if len(data) <= SHOWN_BYTES:
        return data.hex()
    return f"{data[:SHOWN_BYTES].hex()}… ({len(data)} B)"
