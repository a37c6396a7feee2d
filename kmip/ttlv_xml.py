"""The XML encoding: text to item trees and back (Profiles 2.1, 5.4).

    <BatchCount type="Integer" value="1"/>
    <TTLV tag="0x540001" type="TextString" value="an extension"/>

This module knows elements and attributes; names and spellings of values are in `names`.
"""

from collections.abc import Callable
from typing import Any, Final
from xml.parsers import expat

from kmip import names
from kmip.names import refuse
from kmip.tags import SPELLINGS, Tag
from kmip.ttlv import MAX_DEPTH, Item, Type

NAMESPACE: Final = "urn:oasis:tc:kmip:xmlns"

_BOOLEANS: Final = {"true": True, "1": True, "false": False, "0": False}
#: Without the escapes a parser makes spaces of line ends and tabs. What XML 1.0 cannot hold at all goes out as U+FFFD:
#: a refusal would make the object that holds it unreadable.
_ESCAPES: Final = str.maketrans(
    dict.fromkeys((*range(32), 0xFFFE, 0xFFFF), "\ufffd")
    | {ord(character): f"&#{ord(character)};" for character in "\t\n\r"}
    | {ord("&"): "&amp;", ord("<"): "&lt;", ord(">"): "&gt;", ord('"'): "&quot;"}
)


def _boolean(text: str) -> bool:
    if text not in _BOOLEANS:
        raise ValueError
    return _BOOLEANS[text]


_READ: dict[int, Callable[[str], Any]] = {
    Type.LONG_INTEGER: lambda text: names.number(text, 64),
    Type.BIG_INTEGER: names.big_integer,
    Type.BOOLEAN: _boolean,
    Type.TEXT_STRING: str,
    Type.BYTE_STRING: bytes.fromhex,
    Type.DATE_TIME: names.date_time,
    Type.INTERVAL: lambda text: names.number(text, 32, signed=False),
    Type.DATE_TIME_EXTENDED: lambda text: names.number(text, 64),
}
_WRITE: dict[int, Callable[[Any], str]] = {
    Type.LONG_INTEGER: lambda value: str(int(value)),
    Type.BIG_INTEGER: names.big_text,
    Type.BOOLEAN: lambda value: "true" if value else "false",
    Type.TEXT_STRING: lambda value: value.translate(_ESCAPES),
    Type.BYTE_STRING: bytes.hex,
    Type.DATE_TIME: names.date_text,
    Type.INTERVAL: lambda value: str(int(value)),
    Type.DATE_TIME_EXTENDED: lambda value: str(int(value)),
}


def decode(data: bytes) -> Item:
    """The item of an XML element; raises `KMIPError` (Invalid Message) naming the bad element."""
    return _Tree().build(data)


class _Tree:
    """What the parser's events build."""

    def __init__(self) -> None:
        self._top: list[Item] = []
        # For each open structure its children and the tag that an Attribute Value among them is spelled after.
        self._open: list[tuple[list[Item], int]] = [(self._top, Tag.ATTRIBUTE_VALUE)]
        self._leaf = 0

    def build(self, data: bytes) -> Item:
        parser = expat.ParserCreate(namespace_separator=" ")
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        parser.StartDoctypeDeclHandler = self._declaration
        try:
            parser.Parse(data, True)
        except expat.ExpatError as exc:
            raise refuse("XML", f"{expat.ErrorString(exc.code)}, line {exc.lineno}") from None
        except (ValueError, LookupError):
            raise refuse("XML", "is in an encoding that cannot be read") from None
        return self._top[0]

    def _start(self, element: str, attributes: dict[str, str]) -> None:
        if self._leaf:
            raise refuse(self._leaf, "has a value and cannot hold elements")
        tag = _tag(element, attributes)
        type_ = names.TYPES.get(attributes.get("type", "Structure"))
        children, attribute = self._open[-1]
        if type_ is None:
            raise refuse(tag, f"{attributes['type'][:64]!r} is no item type")
        if type_ == Type.STRUCTURE:
            if len(self._open) > MAX_DEPTH:
                raise refuse(tag, f"is nested deeper than {MAX_DEPTH} levels")
            inner: list[Item] = []
            children.append(Item(tag, type_, inner))
            self._open.append((inner, Tag.ATTRIBUTE_VALUE))
            return
        text = attributes.get("value")
        if text is None:
            raise refuse(tag, "has no value")
        value = _value(tag, attribute if tag == Tag.ATTRIBUTE_VALUE else tag, type_, text)
        children.append(Item(tag, type_, value))
        if tag == Tag.ATTRIBUTE_NAME:
            self._open[-1] = children, names.attribute_tag(value)
        self._leaf = tag

    def _end(self, element: str) -> None:
        if self._leaf:
            self._leaf = 0
        else:
            self._open.pop()

    def _text(self, text: str) -> None:
        if text.strip():
            raise refuse("XML", "text stands outside the value attributes")

    # Without a declaration there are no entities but the five of XML, so nothing expands and nothing is fetched.
    def _declaration(self, *_: object) -> None:
        raise refuse("XML", "a document type declaration is not allowed")


def _tag(element: str, attributes: dict[str, str]) -> int:
    namespace, _, name = element.rpartition(" ")
    if namespace and namespace != NAMESPACE:
        raise refuse(name[:64], f"is in the namespace {namespace[:64]!r}")
    if name == "TTLV":
        name = attributes.get("tag", "")
    elif len(name) == 7 and name[0] in "xX":
        # The documents name the element of an extension x540001 or X540001.
        name = "0" + name
    try:
        return names.tag_of(name)
    except ValueError:
        raise refuse(name[:64] or "TTLV", "is no tag") from None


def _value(tag: int, spelled_after: int, type_: Type, text: str) -> object:
    try:
        if type_ == Type.ENUMERATION:
            return names.enumeration(tag, text, names.VALUES.get(spelled_after))
        if type_ == Type.INTEGER:
            return names.mask(text, names.MASK_BITS.get(spelled_after))
        return _READ[type_](text)
    except (ValueError, OverflowError):
        raise refuse(tag, f"has no valid {names.TYPE_NAMES[type_]}") from None


def encode(item: Item) -> bytes:
    """The XML element of an item."""
    out: list[str] = []
    _write(out, item, Tag.ATTRIBUTE_VALUE)
    return "".join(out).encode()


def _write(out: list[str], item: Item, attribute: int) -> None:
    tag, type_, value = item
    name = SPELLINGS.get(tag)
    head, tail = (name, name) if name else (f'TTLV tag="0x{tag:06X}"', "TTLV")
    if type_ == Type.STRUCTURE:
        if not value:
            out.append(f"<{head}/>")
            return
        out.append(f"<{head}>")
        spelled_after = names.attribute_tag_in(value)
        for child in value:
            _write(out, child, spelled_after)
        out.append(f"</{tail}>")
        return
    spelled_after = attribute if tag == Tag.ATTRIBUTE_VALUE else tag
    if type_ == Type.ENUMERATION:
        text = names.enumeration_text(spelled_after, value)
    elif type_ == Type.INTEGER:
        text = names.mask_text(spelled_after, value, " ") or str(int(value))
    else:
        text = _WRITE[type_](value)
    out.append(f'<{head} type="{names.TYPE_NAMES[type_]}" value="{text}"/>')
