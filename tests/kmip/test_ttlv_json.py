"""The JSON encoding of the OASIS profile."""

import orjson
import pytest

from kmip.enums import ResultReason
from kmip.errors import KMIPError
from kmip.tags import Tag
from kmip.ttlv import MAX_DEPTH, Item, Type
from kmip.ttlv_json import decode, encode

CASES = {
    "integer": (Item(Tag.BATCH_COUNT, Type.INTEGER, 10), '{"tag":"BatchCount","type":"Integer","value":"0x0000000a"}'),
    "negative integer": (
        Item(Tag.BATCH_COUNT, Type.INTEGER, -1),
        '{"tag":"BatchCount","type":"Integer","value":"0xffffffff"}',
    ),
    "mask": (
        Item(Tag.CRYPTOGRAPHIC_USAGE_MASK, Type.INTEGER, 0x100C),
        '{"tag":"CryptographicUsageMask","type":"Integer","value":"Encrypt|Decrypt|CertificateSign"}',
    ),
    "empty mask": (
        Item(Tag.CRYPTOGRAPHIC_USAGE_MASK, Type.INTEGER, 0),
        '{"tag":"CryptographicUsageMask","type":"Integer","value":"0x00000000"}',
    ),
    "long integer": (
        Item(0x540001, Type.LONG_INTEGER, -2),
        '{"tag":"0x540001","type":"LongInteger","value":"0xfffffffffffffffe"}',
    ),
    "big integer": (Item(Tag.X, Type.BIG_INTEGER, 0), '{"tag":"X","type":"BigInteger","value":"0x0000000000000000"}'),
    "enumeration": (
        Item(Tag.OBJECT_TYPE, Type.ENUMERATION, 2),
        '{"tag":"ObjectType","type":"Enumeration","value":"SymmetricKey"}',
    ),
    "unknown enumeration value": (
        Item(Tag.OBJECT_TYPE, Type.ENUMERATION, 0x8000000A),
        '{"tag":"ObjectType","type":"Enumeration","value":"0x8000000A"}',
    ),
    "boolean": (
        Item(Tag.BATCH_ORDER_OPTION, Type.BOOLEAN, True),
        '{"tag":"BatchOrderOption","type":"Boolean","value":true}',
    ),
    "text": (
        Item(Tag.COMMENT, Type.TEXT_STRING, 'a"\x00\u0391'),
        '{"tag":"Comment","type":"TextString","value":"a\\"\\u0000\u0391"}',
    ),
    "bytes": (
        Item(Tag.MAC_SIGNATURE, Type.BYTE_STRING, b"\xc5\x0fw"),
        '{"tag":"MACSignature","type":"ByteString","value":"c50f77"}',
    ),
    "date-time": (
        Item(Tag.ARCHIVE_DATE, Type.DATE_TIME, 978307200),
        '{"tag":"ArchiveDate","type":"DateTime","value":"2001-01-01T00:00:00+00:00"}',
    ),
    "interval": (Item(Tag.OFFSET, Type.INTERVAL, 27), '{"tag":"Offset","type":"Interval","value":"0x0000001b"}'),
    "date-time extended": (
        Item(Tag.SUBMISSION_DATE, Type.DATE_TIME_EXTENDED, 1),
        '{"tag":"SubmissionDate","type":"DateTimeExtended","value":"0x0000000000000001"}',
    ),
    "structure": (
        Item(Tag.NAME, Type.STRUCTURE, [Item(Tag.LINK, Type.STRUCTURE, []), Item(Tag.COMMENT, Type.TEXT_STRING, "")]),
        '{"tag":"Name","value":[{"tag":"Link","value":[]},{"tag":"Comment","type":"TextString","value":""}]}',
    ),
    "enumerated attribute of 1.x": (
        Item(
            Tag.ATTRIBUTE,
            Type.STRUCTURE,
            [
                Item(Tag.ATTRIBUTE_NAME, Type.TEXT_STRING, "State"),
                Item(Tag.ATTRIBUTE_VALUE, Type.ENUMERATION, 2),
            ],
        ),
        '{"tag":"Attribute","value":[{"tag":"AttributeName","type":"TextString","value":"State"},'
        '{"tag":"AttributeValue","type":"Enumeration","value":"Active"}]}',
    ),
}

ACCEPTED = {
    "integer as a number": ("BatchCount", "Integer", 10, 10),
    "integer as an integral float": ("BatchCount", "Integer", 10.0, 10),
    "mask as a number": ("CryptographicUsageMask", "Integer", 12, 12),
    "mask of both": ("CryptographicUsageMask", "Integer", "CertificateSign|0x00000004|0x0000008", 0x100C),
    "long integer as a number": ("UsageLimitsCount", "LongInteger", -2, -2),
    "big integer as a number": ("X", "BigInteger", 5, 5),
    "enumeration as a number": ("ObjectType", "Enumeration", 2, 2),
    "enumeration in hexadecimal": ("0x420057", "Enumeration", "0x00000002", 2),
    "boolean in hexadecimal": ("BatchOrderOption", "Boolean", "0x0000000000000001", True),
    "time zone": ("ArchiveDate", "DateTime", "2001-01-01T10:00:00+10:00", 978307200),
    "hexadecimal time": ("ArchiveDate", "DateTime", "0x000000003a505520", 978343200),
    "interval as a number": ("Offset", "Interval", 27, 27),
    "structure that is null": ("Name", "Structure", None, []),
}

REFUSED = {
    "nothing": "",
    "no JSON": "{",
    "an array": "[]",
    "a number": "1",
    "no tag": "{}",
    "tag of a number": '{"tag":4325389,"value":[]}',
    "unknown tag": '{"tag":"Nonsense","value":[]}',
    "unknown type": '{"tag":"Name","type":"Number","value":1}',
    "type of a list": '{"tag":"Name","type":[],"value":1}',
    "structure of a text": '{"tag":"Name","value":"x"}',
    "child that is no object": '{"tag":"Name","value":[1]}',
    "no value": '{"tag":"BatchCount","type":"Integer"}',
    "integer that is true": '{"tag":"BatchCount","type":"Integer","value":true}',
    "integer with a fraction": '{"tag":"BatchCount","type":"Integer","value":1.5}',
    "integer too large": '{"tag":"BatchCount","type":"Integer","value":2147483648}',
    "integer that is infinite": '{"tag":"BatchCount","type":"Integer","value":1e999}',
    "long integer beyond 64 bits": '{"tag":"0x540001","type":"LongInteger","value":18446744073709551616}',
    "boolean of a number": '{"tag":"BatchOrderOption","type":"Boolean","value":1}',
    "boolean of words": '{"tag":"BatchOrderOption","type":"Boolean","value":"true"}',
    "boolean 2": '{"tag":"BatchOrderOption","type":"Boolean","value":"0x0000000000000002"}',
    "text of a number": '{"tag":"Comment","type":"TextString","value":1}',
    "half a byte": '{"tag":"MACSignature","type":"ByteString","value":"C50"}',
    "unknown enumeration name": '{"tag":"ObjectType","type":"Enumeration","value":"Nonsense"}',
    "negative enumeration": '{"tag":"ObjectType","type":"Enumeration","value":-1}',
    "date as a number": '{"tag":"ArchiveDate","type":"DateTime","value":978307200}',
    "lone surrogate": '{"tag":"Comment","type":"TextString","value":"\\ud800"}',
}


@pytest.mark.parametrize("item, text", CASES.values(), ids=CASES)
def test_encoding_in_both_directions(item, text):
    assert encode(item).decode() == text
    assert decode(text.encode()) == item


@pytest.mark.parametrize("tag, type_, value, expected", ACCEPTED.values(), ids=ACCEPTED)
def test_other_spellings_are_read(tag, type_, value, expected):
    assert decode(orjson.dumps({"tag": tag, "type": type_, "value": value})).value == expected


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED)
def test_what_is_no_message_is_refused(text):
    with pytest.raises(KMIPError) as refusal:
        decode(text.encode())
    assert refusal.value.reason is ResultReason.INVALID_MESSAGE


def test_nesting_is_limited():
    def nested(depth):
        return b'{"tag":"Name","value":[' * depth + b"]}" * depth

    assert encode(decode(nested(MAX_DEPTH))) == nested(MAX_DEPTH)
    for depth in (MAX_DEPTH + 1, 100_000):
        with pytest.raises(KMIPError):
            decode(nested(depth))


def test_many_attribute_values_cost_one_look_at_their_siblings():
    node = b'{"tag":"AttributeValue","type":"Enumeration","value":1}'
    item = decode(b'{"tag":"Attribute","value":[' + b",".join([node] * 50_000) + b"]}")
    assert len(item.value) == 50_000
