"""The binary encoding: bytes to item trees and back (1.4, 9.1.1; 2.1, 10.1).

This module knows lengths, padding and types. It does not know what a tag means: see `schema`.
"""

from collections.abc import Callable, Sequence
from enum import IntEnum
from struct import Struct
from struct import error as struct_error
from typing import Any, Final, NamedTuple

from kmip.enums import ResultReason
from kmip.errors import KMIPError
from kmip.tags import Tag, spelling


class Type(IntEnum):
    """Item types (2.1, 10.1.1.2)."""

    STRUCTURE = 1
    INTEGER = 2
    LONG_INTEGER = 3
    BIG_INTEGER = 4
    ENUMERATION = 5
    BOOLEAN = 6
    TEXT_STRING = 7
    BYTE_STRING = 8
    DATE_TIME = 9
    INTERVAL = 10
    DATE_TIME_EXTENDED = 11


class Item(NamedTuple):
    """One tag, type and value.

    The value is a list of items for a structure, `str` for text, `bytes` for a byte string, `bool` for a Boolean and
    `int` for the rest: seconds since 1970 for a Date-Time, microseconds for a Date-Time Extended, seconds for an
    Interval.
    """

    tag: int
    type: int
    value: Any

    def __repr__(self) -> str:
        return f"Item(tag={self.tag:#x}, type={self.type}, value={shown(self.value)})"


def shown(value: Any) -> str:
    """A value for people who look for a fault: of what may be a key or a password, only how long it is."""
    if isinstance(value, bytes | bytearray | str):
        return f"<{len(value)} {'characters' if isinstance(value, str) else 'bytes'}>"
    if type(value) is int and value.bit_length() > 64:
        return f"<{value.bit_length()} bits>"
    if isinstance(value, list):
        return f"[{', '.join(map(shown, value))}]"
    return repr(value)


HEADER: Final = 8
#: The deepest message of the specification has some fifteen levels.
MAX_DEPTH: Final = 48

_head = Struct(">II")
_unpack_head = _head.unpack_from
pack_head = _head.pack
pack_head_into = _head.pack_into
_unpack_integer = Struct(">iI").unpack_from
_unpack_unsigned = Struct(">II").unpack_from
_unpack_long = Struct(">q").unpack_from
PACK: dict[int, Callable[..., bytes]] = {
    Type.INTEGER: Struct(">IIi4x").pack,
    Type.LONG_INTEGER: Struct(">IIq").pack,
    Type.ENUMERATION: Struct(">III4x").pack,
    Type.BOOLEAN: Struct(">IIQ").pack,
    Type.DATE_TIME: Struct(">IIq").pack,
    Type.INTERVAL: Struct(">III4x").pack,
    Type.DATE_TIME_EXTENDED: Struct(">IIq").pack,
}
LENGTHS: dict[int, int] = {
    Type.INTEGER: 4,
    Type.LONG_INTEGER: 8,
    Type.ENUMERATION: 4,
    Type.BOOLEAN: 8,
    Type.DATE_TIME: 8,
    Type.INTERVAL: 4,
    Type.DATE_TIME_EXTENDED: 8,
}
PADDING = tuple(bytes(n) for n in range(8))
_new_item = tuple.__new__


def _refuse(tag: int, problem: str) -> KMIPError:
    return KMIPError(ResultReason.INVALID_MESSAGE, f"{spelling(tag)}: {problem}")


def decode(data: bytes) -> Item:
    """The item that `data` is the encoding of, all of it; raises `KMIPError` (Invalid Message) naming the bad item."""
    item, end = decode_from(data, 0)
    if end != len(data):
        raise _refuse(item.tag, f"{len(data) - end} bytes follow the item")
    return item


def decode_from(data: bytes, pos: int) -> tuple[Item, int]:
    """The item that starts at `pos` and where it ends. Time and memory are linear in what is there, not in what
    a length field says."""
    end = len(data)
    if end - pos < HEADER:
        raise KMIPError(ResultReason.INVALID_MESSAGE, "an item needs a header of 8 bytes")
    root: list[Item] = []
    children = root
    stack: list[tuple[int, list[Item], int]] = []
    while True:
        if end - pos < 8:
            raise _refuse(stack[-1][0] if stack else 0, "is cut short")
        head, length = _unpack_head(data, pos)
        pos += 8
        kind = head & 0xFF
        tag = head >> 8
        if length > end - pos:
            raise _refuse(tag, f"says {length} bytes where {end - pos} are left")
        if kind == 1:
            if len(stack) >= MAX_DEPTH:
                raise _refuse(tag, f"is nested deeper than {MAX_DEPTH} levels")
            inner: list[Item] = []
            children.append(_new_item(Item, (tag, 1, inner)))
            if length:
                stack.append((tag, children, end))
                children = inner
                end = pos + length
                continue
        elif kind == 7 or kind == 8:
            stop = pos + length
            value: Any = data[pos:stop]
            padding = -length & 7
            pos = stop + padding
            if padding and data[stop:pos] != PADDING[padding]:
                raise _refuse(tag, "is not padded with zeros")
            if kind == 7:
                try:
                    value = value.decode()
                except UnicodeDecodeError:
                    raise _refuse(tag, "is not UTF-8") from None
            children.append(_new_item(Item, (tag, kind, value)))
        elif kind == 4:
            if not length or length & 7:
                raise _refuse(tag, f"is a Big Integer of {length} bytes")
            children.append(_new_item(Item, (tag, 4, int.from_bytes(data[pos : pos + length], "big", signed=True))))
            pos += length
        else:
            if kind not in LENGTHS:
                raise _refuse(tag, f"has the unknown type {kind}")
            if length != LENGTHS[kind]:
                raise _refuse(tag, f"is a {Type(kind).name.title().replace('_', ' ')} of {length} bytes")
            if end - pos < 8:
                raise _refuse(tag, "is cut short")
            if length == 4:
                value, padding = (_unpack_integer if kind == 2 else _unpack_unsigned)(data, pos)
                if padding:
                    raise _refuse(tag, "is not padded with zeros")
            else:
                (value,) = _unpack_long(data, pos)
                if kind == 6:
                    if value != 0 and value != 1:
                        raise _refuse(tag, "is neither true nor false")
                    value = value == 1
            pos += 8
            children.append(_new_item(Item, (tag, kind, value)))
        while pos >= end and stack:
            if pos > end:
                raise _refuse(stack[-1][0], "is shorter than what it holds")
            _, children, end = stack.pop()
        if not stack:
            if pos > end:
                raise _refuse(tag, "is cut short")
            return root[0], pos


def encode(item: Item) -> bytes:
    """The bytes of an item; raises `ValueError` for a value that its type cannot hold."""
    out = bytearray()
    try:
        write(out, item)
    except (struct_error, OverflowError) as exc:
        raise ValueError(f"a value does not fit its type: {exc}") from exc
    return bytes(out)


def write(out: bytearray, item: Item) -> None:
    """Append the encoding of an item."""
    tag, kind, value = item
    if kind == 1:
        at = len(out)
        out += pack_head(tag << 8 | 1, 0)
        for child in value:
            write(out, child)
        pack_head_into(out, at, tag << 8 | 1, len(out) - at - 8)
    elif kind == 7 or kind == 8:
        data = value.encode() if kind == 7 else value
        length = len(data)
        out += pack_head(tag << 8 | kind, length)
        out += data
        out += PADDING[-length & 7]
    elif kind == 4:
        length = (value.bit_length() // 64 + 1) * 8
        out += pack_head(tag << 8 | 4, length)
        out += value.to_bytes(length, "big", signed=True)
    else:
        out += PACK[kind](tag << 8 | kind, LENGTHS[kind], value)


class Reader:
    """Bytes in as they arrive, whole messages out."""

    def __init__(self, limit: int, tag: Tag = Tag.REQUEST_MESSAGE) -> None:
        self._limit = limit
        self._starts: tuple[bytes, ...] = ()
        self.accept(tag)
        #: What is there of a message: as it came, while that is one piece.
        self._buffer: bytes | bytearray = b""
        self._need = HEADER

    def __len__(self) -> int:
        return len(self._buffer)

    def accept(self, tag: Tag) -> None:
        """Take messages under this tag as well."""
        self._starts += (int(tag).to_bytes(3, "big") + b"\x01",)

    def feed(self, data: bytes) -> None:
        """Take bytes as they come from the connection."""
        if not self._buffer:
            self._buffer = data
        elif isinstance(self._buffer, bytearray):
            self._buffer += data
        else:
            self._buffer = bytearray(self._buffer + data)

    def next(self) -> bytes | None:
        """The next whole message, or None where more bytes are needed.

        Raises `KMIPError` for a header that opens no message (Invalid Message) or one longer than the limit
        (Response Too Large has no counterpart for requests: Invalid Message); the stream cannot go on after that.
        """
        buffer = self._buffer
        if (
            type(buffer) is bytes
            and len(buffer) == HEADER + int.from_bytes(buffer[4:8], "big") <= self._limit
            and self._need == HEADER
            and buffer[:4] in self._starts
        ):
            # Most often one whole message comes by itself.
            self._buffer = b""
            return buffer
        if len(buffer) < self._need:
            if buffer and not any(start.startswith(bytes(buffer[:4])) for start in self._starts):
                raise KMIPError(ResultReason.INVALID_MESSAGE, "these bytes do not open a KMIP message")
            return None
        if self._need == HEADER:
            if buffer[:4] not in self._starts:
                raise KMIPError(ResultReason.INVALID_MESSAGE, "these bytes do not open a KMIP message")
            length = int.from_bytes(buffer[4:8], "big")
            if length > self._limit - HEADER:
                raise KMIPError(
                    ResultReason.INVALID_MESSAGE, f"a message of {length} bytes is over the limit of {self._limit}"
                )
            self._need = HEADER + length
            if len(buffer) < self._need:
                return None
        need, self._need = self._need, HEADER
        if len(buffer) == need:
            self._buffer = b""
            return bytes(buffer)
        message = bytes(buffer[:need])
        if isinstance(buffer, bytes):
            buffer = self._buffer = bytearray(buffer)
        del buffer[:need]
        return message


def find(items: Sequence[Item], tag: int) -> Item | None:
    """The first item with a tag."""
    for item in items:
        if item.tag == tag:
            return item
    return None
