"""The binary encoding and the Reader that cuts a stream into messages."""

import pytest

from kmip.enums import ResultReason
from kmip.errors import KMIPError
from kmip.tags import Tag
from kmip.ttlv import MAX_DEPTH, Item, Reader, Type, decode, encode, find

CASES = {  # KMIP 1.2, 9.1.2; later versions dropped the examples, not the encoding
    "integer": (Item(0x420020, Type.INTEGER, 8), "42002002000000040000000800000000"),
    "long-integer": (Item(0x420020, Type.LONG_INTEGER, 123456789000000000), "420020030000000801B69B4BA5749200"),
    "big-integer": (
        Item(0x420020, Type.BIG_INTEGER, 1234567890000000000000000000),
        "42002004000000100000000003FD35EB6BC2DF4618080000",
    ),
    "enumeration": (Item(0x420020, Type.ENUMERATION, 255), "4200200500000004000000FF00000000"),
    "boolean": (Item(0x420020, Type.BOOLEAN, True), "42002006000000080000000000000001"),
    "text": (Item(0x420020, Type.TEXT_STRING, "Hello World"), "420020070000000B48656C6C6F20576F726C640000000000"),
    "bytes": (Item(0x420020, Type.BYTE_STRING, b"\x01\x02\x03"), "42002008000000030102030000000000"),
    "date-time": (Item(0x420020, Type.DATE_TIME, 1205495800), "42002009000000080000000047DA67F8"),
    "interval": (Item(0x420020, Type.INTERVAL, 864000), "4200200A00000004000D2F0000000000"),
    "structure": (
        Item(
            0x420020,
            Type.STRUCTURE,
            [Item(0x420004, Type.ENUMERATION, 254), Item(0x420005, Type.INTEGER, 255)],
        ),
        "42002001000000204200040500000004000000FE000000004200050200000004000000FF00000000",
    ),
    # Not in the specification's list.
    "negative integer": (Item(0x420020, Type.INTEGER, -1), "4200200200000004FFFFFFFF00000000"),
    "negative big integer": (Item(0x420020, Type.BIG_INTEGER, -1), "4200200400000008FFFFFFFFFFFFFFFF"),
    "big integer with its first bit set": (
        Item(0x420020, Type.BIG_INTEGER, 1 << 63),
        "420020040000001000000000000000008000000000000000",
    ),
    "false": (Item(0x420020, Type.BOOLEAN, False), "42002006000000080000000000000000"),
    "empty text": (Item(0x420020, Type.TEXT_STRING, ""), "4200200700000000"),
    "empty bytes": (Item(0x420020, Type.BYTE_STRING, b""), "4200200800000000"),
    "empty structure": (Item(0x420020, Type.STRUCTURE, []), "4200200100000000"),
    "text beyond ASCII": (Item(0x420020, Type.TEXT_STRING, "\u0391"), "4200200700000002CE91000000000000"),
    "date-time extended": (Item(0x420020, Type.DATE_TIME_EXTENDED, 1), "4200200B000000080000000000000001"),
    "time before 1970": (Item(0x420020, Type.DATE_TIME, -1), "4200200900000008FFFFFFFFFFFFFFFF"),
    "highest enumeration": (Item(0x420020, Type.ENUMERATION, 0xFFFFFFFF), "4200200500000004FFFFFFFF00000000"),
}

REFUSED = {
    "nothing": "",
    "half a header": "42002002",
    "no value": "4200200200000004",
    "value cut short": "420020020000000400000008",
    "text cut short": "420020070000000B48656C6C6F",
    "padding cut short": "42002008000000030102030000",
    "bytes behind": "4200200200000004000000080000000000",
    "second item behind": "42002002000000040000000800000000" * 2,
    "length beyond the data": "42002008FFFFFFFF0102030000000000",
    "structure longer than the data": "42002001000000284200040500000004000000FE00000000",
    "structure shorter than what it holds": "42002001000000084200040500000004000000FE00000000",
    "structure that ends inside a header": "420020010000000C4200040500000000000000FE",
    "padding of a text beyond its structure": "420020010000000B420004070000000361626300000000",
    "padding of an integer not zero": "42002002000000040000000800000001",
    "padding of a text not zero": "42002007000000014100000000000001",
    "integer of 8 bytes": "42002002000000080000000000000008",
    "integer of 0 bytes": "4200200200000000",
    "long integer of 4 bytes": "42002003000000040000000800000000",
    "enumeration of 3 bytes": "42002005000000030000FF0000000000",
    "big integer of 4 bytes": "42002004000000040000000800000000",
    "big integer of 0 bytes": "4200200400000000",
    "boolean that is 2": "42002006000000080000000000000002",
    "text that is not UTF-8": "4200200700000001FF00000000000000",
    "type 0": "42002000000000040000000800000000",
    "type 12": "4200200C000000040000000800000000",
    "type 255": "420020FF000000040000000800000000",
}


@pytest.mark.parametrize("item, text", CASES.values(), ids=CASES)
def test_encoding_is_the_specification_s_in_both_directions(item, text):
    assert encode(item).hex().upper() == text
    assert decode(bytes.fromhex(text)) == item


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED)
def test_bytes_that_are_no_item_are_refused(text):
    with pytest.raises(KMIPError) as refusal:
        decode(bytes.fromhex(text))
    assert refusal.value.reason is ResultReason.INVALID_MESSAGE


def test_a_refusal_names_the_item():
    with pytest.raises(KMIPError, match="BatchCount"):
        decode(bytes.fromhex("42000D02000000080000000000000008"))


@pytest.mark.parametrize(
    "item",
    [
        Item(0x420020, Type.INTEGER, 1 << 31),
        Item(0x420020, Type.ENUMERATION, -1),
        Item(0x420020, Type.INTERVAL, 1 << 32),
        Item(0x420020, Type.LONG_INTEGER, 1 << 63),
        Item(0x420020, Type.DATE_TIME, 1 << 63),
        Item(0x420020, Type.INTEGER, "8"),
    ],
    ids=str,
)
def test_a_value_that_its_type_cannot_hold_is_not_encoded(item):
    with pytest.raises(ValueError, match="does not fit"):
        encode(item)


def nested(depth):
    data = b""
    for _ in range(depth):
        data = b"\x42\x00\x08\x01" + len(data).to_bytes(4, "big") + data
    return data


def test_nesting_is_limited():
    assert encode(decode(nested(MAX_DEPTH))) == nested(MAX_DEPTH)
    with pytest.raises(KMIPError, match="nested deeper"):
        decode(nested(MAX_DEPTH + 1))


def test_a_hundred_thousand_levels_are_refused():
    heads = b"".join(b"\x42\x00\x08\x01" + (8 * n).to_bytes(4, "big") for n in range(99_999, -1, -1))
    with pytest.raises(KMIPError, match="nested deeper"):
        decode(heads)


def test_every_truncation_of_a_message_is_refused():
    data = bytes.fromhex(CASES["structure"][1])
    for end in range(len(data)):
        with pytest.raises(KMIPError):
            decode(data[:end])


def test_every_lie_about_a_length_is_refused():
    data = bytearray.fromhex(CASES["structure"][1])
    for at in (7, 15, 31):
        true = data[at]
        for lie in set(range(256)) - {true}:
            data[at] = lie
            with pytest.raises(KMIPError):
                decode(bytes(data))
        data[at] = true


def test_find_gives_the_first_item_with_a_tag():
    items = CASES["structure"][0].value
    assert find(items, 0x420005) is items[1]
    assert find(items, 0x420006) is None


def message(size=0):
    return encode(Item(Tag.REQUEST_MESSAGE, Type.STRUCTURE, [Item(Tag.DATA, Type.BYTE_STRING, bytes(size))]))


class TestReader:
    def test_a_message_comes_whole_however_it_is_cut(self):
        reader = Reader(1000)
        data = message(30)
        for byte in data[:-1]:
            reader.feed(bytes([byte]))
            assert reader.next() is None
        reader.feed(data[-1:])
        assert reader.next() == data
        assert reader.next() is None
        assert len(reader) == 0

    def test_the_next_message_may_be_behind(self):
        reader = Reader(1000)
        first, second, third = message(1), message(20), message(300)
        reader.feed(first + second + third[:12])
        assert [reader.next(), reader.next(), reader.next()] == [first, second, None]
        reader.feed(third[12:])
        assert reader.next() == third

    @pytest.mark.parametrize(
        "start", [b"G", b"GET / HTTP/1.1\r\n", b"\x16\x03\x01", b"\x42\x00\x7b\x01", b"\x42\x00\x78\x02"]
    )
    def test_what_opens_no_message_is_refused_at_once(self, start):
        reader = Reader(1000)
        reader.feed(start)
        with pytest.raises(KMIPError) as refusal:
            reader.next()
        assert refusal.value.reason is ResultReason.INVALID_MESSAGE

    def test_the_limit_is_checked_on_the_header(self):
        data = message(100)
        reader = Reader(len(data))
        reader.feed(data)
        assert reader.next() == data
        reader = Reader(len(data) - 1)
        reader.feed(data[:8])
        with pytest.raises(KMIPError, match="over the limit"):
            reader.next()

    def test_a_client_may_read_responses(self):
        data = encode(Item(Tag.RESPONSE_MESSAGE, Type.STRUCTURE, []))
        reader = Reader(1000, Tag.RESPONSE_MESSAGE)
        reader.feed(data)
        assert reader.next() == data


def test_types_have_the_specification_s_numbers():
    assert [int(type_) for type_ in Type] == list(range(1, 12))
