"""The JSON encoding: text to item trees and back (Profiles 2.1, 5.5).

    {"tag": "BatchCount", "type": "Integer", "value": "0x00000001"}
    {"tag": "0x540001", "type": "TextString", "value": "an extension"}

Numbers go out in hexadecimal, as in the profile's own messages, and come in as either. The JSON of older clients on
`/kmip/2_1` is another one: see `dialect`.
"""

from collections.abc import Callable, Iterator
from typing import Any

import orjson

from kmip import names
from kmip.names import refuse
from kmip.tags import SPELLINGS, Tag
from kmip.ttlv import MAX_DEPTH, Item, Type

_NAME_OF_NAMES = (Tag.ATTRIBUTE_NAME.spelling, f"0x{Tag.ATTRIBUTE_NAME:06X}", f"0x{Tag.ATTRIBUTE_NAME:06x}")

_WRITE: dict[int, Callable[[Any], object]] = {
    Type.LONG_INTEGER: names.long_text,
    Type.BIG_INTEGER: lambda value: "0x" + names.big_text(value),
    Type.BOOLEAN: bool,
    Type.TEXT_STRING: str,
    Type.BYTE_STRING: bytes.hex,
    Type.DATE_TIME: names.date_text,
    Type.INTERVAL: lambda value: f"0x{value:08x}",
    Type.DATE_TIME_EXTENDED: names.long_text,
}


def decode(data: bytes) -> Item:
    """The item of a JSON object; raises `KMIPError` (Invalid Message) naming the bad object."""
    try:
        top = orjson.loads(data)
    except orjson.JSONDecodeError as exc:
        raise refuse("JSON", exc.msg) from None
    root: list[Item] = []
    siblings: list[Any] = [top]
    children = root
    nodes: Iterator[Any] = iter(siblings)
    # The tag that an Attribute Value among the siblings is spelled after, once one has asked.
    attribute: int | None = None
    stack: list[tuple[Iterator[Any], list[Any], list[Item], int | None]] = []
    while True:
        for node in nodes:
            tag, type_, value = _parts(node)
            if type_ == Type.STRUCTURE:
                if len(stack) >= MAX_DEPTH:
                    raise refuse(tag, f"is nested deeper than {MAX_DEPTH} levels")
                if value is None:
                    value = []
                if type(value) is not list:
                    raise refuse(tag, "is a structure and needs an array")
                inner: list[Item] = []
                children.append(Item(tag, type_, inner))
                stack.append((nodes, siblings, children, attribute))
                nodes, siblings, children, attribute = iter(value), value, inner, None
                break
            spelled_after = tag
            if tag == Tag.ATTRIBUTE_VALUE:
                if attribute is None:
                    attribute = _attribute_tag(siblings)
                spelled_after = attribute
            try:
                value = names.json_scalar(
                    tag, type_, value, names.VALUES.get(spelled_after), names.MASK_BITS.get(spelled_after)
                )
            except (ValueError, OverflowError):
                raise refuse(tag, f"has no valid {names.TYPE_NAMES[type_]}") from None
            children.append(Item(tag, type_, value))
        else:
            if not stack:
                return root[0]
            nodes, siblings, children, attribute = stack.pop()


def _parts(node: object) -> tuple[int, Type, Any]:
    if type(node) is not dict:
        raise refuse("JSON", "an item is an object with tag, type and value")
    name, kind = node.get("tag"), node.get("type", "Structure")
    try:
        tag = names.tag_of(names.json_text(name))
    except ValueError:
        raise refuse("JSON", f"{str(name)[:64]!r} is no tag") from None
    type_ = names.TYPES.get(kind) if type(kind) is str else None
    if type_ is None:
        raise refuse(tag, f"{str(kind)[:64]!r} is no item type")
    return tag, type_, node.get("value")


def _attribute_tag(siblings: list[Any]) -> int:
    for node in siblings:
        if type(node) is dict and node.get("tag") in _NAME_OF_NAMES:
            return names.attribute_tag(node.get("value"))
    return Tag.ATTRIBUTE_VALUE


def encode(item: Item) -> bytes:
    """The JSON object of an item."""
    return orjson.dumps(_node(item, Tag.ATTRIBUTE_VALUE))


def _node(item: Item, attribute: int) -> dict[str, object]:
    tag, type_, value = item
    name = SPELLINGS.get(tag) or f"0x{tag:06X}"
    if type_ == Type.STRUCTURE:
        spelled_after = names.attribute_tag_in(value)
        return {"tag": name, "value": [_node(child, spelled_after) for child in value]}
    spelled_after = attribute if tag == Tag.ATTRIBUTE_VALUE else tag
    spelling: object
    if type_ == Type.ENUMERATION:
        spelling = names.enumeration_text(spelled_after, value)
    elif type_ == Type.INTEGER:
        spelling = names.mask_text(spelled_after, value, "|") or f"0x{value & 0xFFFFFFFF:08x}"
    else:
        spelling = _WRITE[type_](value)
    return {"tag": name, "type": names.TYPE_NAMES[type_], "value": spelling}
