"""The bulk framing of the JSON dialect: many plaintexts or ciphertexts in the Data of one request.

87 87 | number of items | length, bytes | length, bytes …        numbers in LEB128, lowest seven bits first
"""

from collections.abc import Iterable
from typing import Final

MAGIC: Final = b"\x87\x87"
#: A number of more bytes is longer than any message.
_LONGEST: Final = 5


def split(data: bytes) -> list[bytes] | None:
    """The items of a frame; None for bytes that are none, which may begin like one by chance."""
    if not data.startswith(MAGIC):
        return None
    number = _number(data, len(MAGIC))
    if number is None:
        return None
    count, position = number
    # Each item takes a byte at least: nothing is made room for that cannot be there.
    if count > len(data) - position:
        return None
    items = []
    for _ in range(count):
        number = _number(data, position)
        if number is None:
            return None
        length, position = number
        if length > len(data) - position:
            return None
        items.append(data[position : position + length])
        position += length
    return items if position == len(data) else None


def join(items: Iterable[bytes]) -> bytes:
    """The frame of some items."""
    items = list(items)
    parts = [MAGIC, _leb128(len(items))]
    for item in items:
        parts += (_leb128(len(item)), item)
    return b"".join(parts)


def _number(data: bytes, position: int) -> tuple[int, int] | None:
    """A number and the position behind it."""
    value = 0
    for index, byte in enumerate(data[position : position + _LONGEST]):
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value, position + index + 1
    return None


def _leb128(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
