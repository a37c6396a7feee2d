"""The XML encoding."""

import pytest

from kmip.enums import ResultReason
from kmip.errors import KMIPError
from kmip.tags import Tag
from kmip.ttlv import MAX_DEPTH, Item, Type
from kmip.ttlv_xml import decode, encode

S = Type.STRUCTURE


def attribute(name, type_, value):
    return Item(
        Tag.ATTRIBUTE,
        S,
        [Item(Tag.ATTRIBUTE_NAME, Type.TEXT_STRING, name), Item(Tag.ATTRIBUTE_VALUE, type_, value)],
    )


CASES = {
    "integer": (Item(Tag.BATCH_COUNT, Type.INTEGER, 10), '<BatchCount type="Integer" value="10"/>'),
    "negative integer": (Item(Tag.BATCH_COUNT, Type.INTEGER, -1), '<BatchCount type="Integer" value="-1"/>'),
    "mask": (
        Item(Tag.CRYPTOGRAPHIC_USAGE_MASK, Type.INTEGER, 0x100C),
        '<CryptographicUsageMask type="Integer" value="Encrypt Decrypt CertificateSign"/>',
    ),
    "mask with unnamed bits": (
        Item(Tag.STORAGE_STATUS_MASK, Type.INTEGER, -(1 << 31) | 1),
        '<StorageStatusMask type="Integer" value="OnLineStorage 0x80000000"/>',
    ),
    "empty mask": (
        Item(Tag.CRYPTOGRAPHIC_USAGE_MASK, Type.INTEGER, 0),
        '<CryptographicUsageMask type="Integer" value="0"/>',
    ),
    "long integer": (
        Item(Tag.USAGE_LIMITS_COUNT, Type.LONG_INTEGER, 1 << 60),
        '<UsageLimitsCount type="LongInteger" value="1152921504606846976"/>',
    ),
    "big integer": (Item(Tag.X, Type.BIG_INTEGER, 0), '<X type="BigInteger" value="0000000000000000"/>'),
    "enumeration": (
        Item(Tag.OBJECT_TYPE, Type.ENUMERATION, 2),
        '<ObjectType type="Enumeration" value="SymmetricKey"/>',
    ),
    "unknown enumeration value": (
        Item(Tag.OBJECT_TYPE, Type.ENUMERATION, 0x8000000A),
        '<ObjectType type="Enumeration" value="0x8000000A"/>',
    ),
    "enumeration of another tag's name": (
        Item(Tag.MASK_GENERATOR_HASHING_ALGORITHM, Type.ENUMERATION, 6),
        '<MaskGeneratorHashingAlgorithm type="Enumeration" value="SHA_256"/>',
    ),
    "placeholder of an identifier": (
        Item(Tag.UNIQUE_IDENTIFIER, Type.ENUMERATION, 1),
        '<UniqueIdentifier type="Enumeration" value="IDPlaceholder"/>',
    ),
    "tag as a value": (
        Item(Tag.ATTRIBUTE_REFERENCE, Type.ENUMERATION, Tag.STATE),
        '<AttributeReference type="Enumeration" value="State"/>',
    ),
    "boolean": (Item(Tag.BATCH_ORDER_OPTION, Type.BOOLEAN, True), '<BatchOrderOption type="Boolean" value="true"/>'),
    "text": (
        Item(Tag.ATTRIBUTE_NAME, Type.TEXT_STRING, 'a & b < "c" >\t\n\r\u0391'),
        '<AttributeName type="TextString" value="a &amp; b &lt; &quot;c&quot; &gt;&#9;&#10;&#13;\u0391"/>',
    ),
    "empty text": (Item(Tag.COMMENT, Type.TEXT_STRING, ""), '<Comment type="TextString" value=""/>'),
    "bytes": (
        Item(Tag.MAC_SIGNATURE, Type.BYTE_STRING, b"\xc5\x0fw"),
        '<MACSignature type="ByteString" value="c50f77"/>',
    ),
    "date-time": (
        Item(Tag.ARCHIVE_DATE, Type.DATE_TIME, 978307200),
        '<ArchiveDate type="DateTime" value="2001-01-01T00:00:00+00:00"/>',
    ),
    "time before 1970": (
        Item(Tag.ARCHIVE_DATE, Type.DATE_TIME, -1),
        '<ArchiveDate type="DateTime" value="1969-12-31T23:59:59+00:00"/>',
    ),
    "time beyond the calendar": (
        Item(Tag.ARCHIVE_DATE, Type.DATE_TIME, -(1 << 63)),
        '<ArchiveDate type="DateTime" value="0x8000000000000000"/>',
    ),
    "interval": (Item(Tag.OFFSET, Type.INTERVAL, 27), '<Offset type="Interval" value="27"/>'),
    "date-time extended": (
        Item(Tag.SUBMISSION_DATE, Type.DATE_TIME_EXTENDED, 1234567),
        '<SubmissionDate type="DateTimeExtended" value="1234567"/>',
    ),
    "structure": (
        Item(Tag.PROTOCOL_VERSION, S, [Item(Tag.PROTOCOL_VERSION_MAJOR, Type.INTEGER, 2), Item(Tag.NAME, S, [])]),
        '<ProtocolVersion><ProtocolVersionMajor type="Integer" value="2"/><Name/></ProtocolVersion>',
    ),
    "extension": (
        Item(0x540001, S, [Item(0x54FFFF, Type.BOOLEAN, False)]),
        '<TTLV tag="0x540001"><TTLV tag="0x54FFFF" type="Boolean" value="false"/></TTLV>',
    ),
    "enumerated attribute of 1.x": (
        attribute("Cryptographic Algorithm", Type.ENUMERATION, 3),
        '<Attribute><AttributeName type="TextString" value="Cryptographic Algorithm"/>'
        '<AttributeValue type="Enumeration" value="AES"/></Attribute>',
    ),
    "mask attribute of 1.x": (
        attribute("Cryptographic Usage Mask", Type.INTEGER, 12),
        '<Attribute><AttributeName type="TextString" value="Cryptographic Usage Mask"/>'
        '<AttributeValue type="Integer" value="Encrypt Decrypt"/></Attribute>',
    ),
    "custom attribute of 1.x": (
        attribute("x-kind", Type.ENUMERATION, 3),
        '<Attribute><AttributeName type="TextString" value="x-kind"/>'
        '<AttributeValue type="Enumeration" value="0x00000003"/></Attribute>',
    ),
}

ACCEPTED = {
    "hexadecimal integer": ('<BatchCount type="Integer" value="0x0000000A"/>', 10),
    "negative hexadecimal": ('<BatchCount type="Integer" value="0xffffffff"/>', -1),
    "mask in hexadecimal": ('<CryptographicUsageMask type="Integer" value="0x0000100c"/>', 0x100C),
    "mask of both": ('<CryptographicUsageMask type="Integer" value="CertificateSign 0x00000004 0x0000008"/>', 0x100C),
    "mask in decimal": ('<CryptographicUsageMask type="Integer" value="12"/>', 12),
    "mask by its 2.0 name": ('<CryptographicUsageMask type="Integer" value="ContentCommitment"/>', 0x400),
    "enumeration in hexadecimal": ('<ObjectType type="Enumeration" value="0x00000002"/>', 2),
    "enumeration by an older name": ('<HashingAlgorithm type="Enumeration" value="SHA_3_256"/>', 15),
    "boolean 1": ('<BatchOrderOption type="Boolean" value="1"/>', True),
    "big integer with 0x": ('<X type="BigInteger" value="0xffffffffffffffff"/>', -1),
    "time zone": ('<ArchiveDate type="DateTime" value="2001-01-01T10:00:00+10:00"/>', 978307200),
    "time in UTC": ('<ArchiveDate type="DateTime" value="2001-01-01T00:00:00Z"/>', 978307200),
    "fraction of a second": ('<ArchiveDate type="DateTime" value="2001-01-01T00:00:00.999Z"/>', 978307200),
    "time without zone": ('<ArchiveDate type="DateTime" value="2001-01-01T00:00:00"/>', 978307200),
    "hexadecimal time": ('<ArchiveDate type="DateTime" value="0x000000003a4fc880"/>', 978307200),
    "general form with a name": ('<TTLV tag="Offset" name="Offset" type="Interval" value="27"/>', 27),
    "general form by number": ('<TTLV tag="0x420058" type="Interval" value="27"/>', 27),
    "namespace": ('<k:Offset xmlns:k="urn:oasis:tc:kmip:xmlns" type="Interval" value="27"/>', 27),
    "default namespace": ('<Offset xmlns="urn:oasis:tc:kmip:xmlns" type="Interval" value="27"/>', 27),
    "extension as an element": ('<x540001 type="LongInteger" value="-2"/>', -2),
    "comment and declaration": ('<?xml version="1.0"?><!-- c --><Offset type="Interval" value="27"></Offset>\n', 27),
}

REFUSED = {
    "nothing": "",
    "no XML": "hello",
    "cut short": "<Name>",
    "two roots": "<Name/><Name/>",
    "unknown element": "<Nonsense/>",
    "unknown namespace": '<Name xmlns="urn:x"/>',
    "general form without tag": '<TTLV type="Integer" value="1"/>',
    "tag of 4 bytes": '<TTLV tag="0x42000000" type="Integer" value="1"/>',
    "unknown type": '<BatchCount type="Number" value="1"/>',
    "no value": '<BatchCount type="Integer"/>',
    "value as content": '<BatchCount type="Integer">1</BatchCount>',
    "text in a structure": "<Name>text</Name>",
    "element in a value": '<BatchCount type="Integer" value="1"><Name/></BatchCount>',
    "integer of words": '<BatchCount type="Integer" value="ten"/>',
    "integer with a separator": '<BatchCount type="Integer" value="1_0"/>',
    "integer in other digits": '<BatchCount type="Integer" value="\u0661"/>',
    "integer too large": '<BatchCount type="Integer" value="2147483648"/>',
    "empty integer": '<BatchCount type="Integer" value=""/>',
    "empty mask": '<CryptographicUsageMask type="Integer" value=" "/>',
    "unknown mask name": '<CryptographicUsageMask type="Integer" value="Encrypt Fly"/>',
    "unknown enumeration name": '<ObjectType type="Enumeration" value="Nonsense"/>',
    "name of another enumeration": '<ObjectType type="Enumeration" value="AES"/>',
    "enumeration in decimal": '<ObjectType type="Enumeration" value="2"/>',
    "enumeration of 9 digits": '<ObjectType type="Enumeration" value="0x100000000"/>',
    "hexadecimal with a sign": '<ObjectType type="Enumeration" value="0x-1"/>',
    "boolean maybe": '<BatchOrderOption type="Boolean" value="maybe"/>',
    "half a byte": '<MACSignature type="ByteString" value="C50"/>',
    "no hexadecimal": '<MACSignature type="ByteString" value="xyz0"/>',
    "empty big integer": '<X type="BigInteger" value=""/>',
    "negative interval": '<Offset type="Interval" value="-1"/>',
    "no date": '<ArchiveDate type="DateTime" value="yesterday"/>',
    "date without time": '<ArchiveDate type="DateTime" value="2001-01-01"/>',
    "thirteenth month": '<ArchiveDate type="DateTime" value="2001-13-01T00:00:00Z"/>',
    "document type": "<!DOCTYPE Name><Name/>",
    "external entity": '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><Name>&x;</Name>',
    "entities in entities": '<!DOCTYPE a [<!ENTITY x "xx"><!ENTITY y "&x;&x;">]><Name a="&y;"/>',
    "undeclared entity": '<Comment type="TextString" value="&nbsp;"/>',
    "unknown encoding": '<?xml version="1.0" encoding="nonsense"?><Name/>',
}


@pytest.mark.parametrize("item, text", CASES.values(), ids=CASES)
def test_encoding_in_both_directions(item, text):
    assert encode(item).decode() == text
    assert decode(text.encode()) == item


@pytest.mark.parametrize("text, value", ACCEPTED.values(), ids=ACCEPTED)
def test_other_spellings_are_read(text, value):
    assert decode(text.encode()).value == value


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED)
def test_what_is_no_message_is_refused(text):
    with pytest.raises(KMIPError) as refusal:
        decode(text.encode())
    assert refusal.value.reason is ResultReason.INVALID_MESSAGE


def test_a_refusal_names_the_element_and_not_its_value():
    with pytest.raises(KMIPError) as refusal:
        decode(b'<KeyMaterial type="ByteString" value="secret"/>')
    assert str(refusal.value) == "KeyMaterial: has no valid ByteString"


def test_nesting_is_limited():
    text = b"<Name>" * (MAX_DEPTH - 1) + b"<Name/>" + b"</Name>" * (MAX_DEPTH - 1)
    assert encode(decode(text)) == text
    with pytest.raises(KMIPError, match="nested deeper"):
        decode(b"<Name>" * 100_000)


def test_the_bytes_that_are_not_utf_8_are_refused():
    with pytest.raises(KMIPError):
        decode(b'<Comment type="TextString" value="\xff"/>')


def test_characters_that_xml_cannot_hold_are_replaced():
    assert decode(encode(Item(Tag.COMMENT, Type.TEXT_STRING, "a\x00b\ufffe"))).value == "a\ufffdb\ufffd"
