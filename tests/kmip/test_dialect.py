"""The JSON dialect of the clients of `/kmip/2_1`."""

import orjson
import pytest

from kmip.dialect import decode, encode, operation_of, root_of
from kmip.enums import Operation, ResultReason
from kmip.errors import KMIPError
from kmip.schema import Unordered
from kmip.tags import Tag
from kmip.ttlv import MAX_DEPTH, Item, Type

S, TEXT, BYTES, ENUM, INTEGER = (
    Type.STRUCTURE,
    Type.TEXT_STRING,
    Type.BYTE_STRING,
    Type.ENUMERATION,
    Type.INTEGER,
)


def node(tag, type_=None, value=None):
    return {"tag": tag, "type": type_, "value": value} if type_ else {"tag": tag, "value": value}


def read(*nodes):
    """The children of a payload with these nodes."""
    return decode(orjson.dumps(node("Create", "Structure", nodes)))[1].value


def write(*items, older=False):
    """The nodes of a payload with these items."""
    return orjson.loads(encode(Item(Tag.RESPONSE_PAYLOAD, S, list(items)), "GetResponse", older=older))["value"]


BOTH_WAYS = {
    "integer": (Item(Tag.CRYPTOGRAPHIC_LENGTH, INTEGER, 256), node("CryptographicLength", "Integer", 256)),
    "mask": (Item(Tag.CRYPTOGRAPHIC_USAGE_MASK, INTEGER, 2108), node("CryptographicUsageMask", "Integer", 2108)),
    "long integer": (
        Item(Tag.USAGE_LIMITS_TOTAL, Type.LONG_INTEGER, 171),
        node("UsageLimitsTotal", "LongInteger", "0x00000000000000AB"),
    ),
    "big integer": (Item(Tag.MODULUS, Type.BIG_INTEGER, -1), node("Modulus", "BigInteger", "0xFFFFFFFFFFFFFFFF")),
    "enumeration": (Item(Tag.OBJECT_TYPE, ENUM, 2), node("ObjectType", "Enumeration", "SymmetricKey")),
    "unknown value": (Item(Tag.OBJECT_TYPE, ENUM, 0x80000077), node("ObjectType", "Enumeration", "0x80000077")),
    "boolean": (Item(Tag.SENSITIVE, Type.BOOLEAN, False), node("Sensitive", "Boolean", False)),
    "text": (Item(Tag.UNIQUE_IDENTIFIER, TEXT, '["a"]'), node("UniqueIdentifier", "TextString", '["a"]')),
    "bytes": (Item(Tag.DATA, BYTES, b"\xab\xcd"), node("Data", "ByteString", "ABCD")),
    "no bytes": (Item(Tag.DATA, BYTES, b""), node("Data", "ByteString", "")),
    "date-time": (
        Item(Tag.ACTIVATION_DATE, Type.DATE_TIME, 1786701600),
        node("ActivationDate", "DateTime", "2026-08-14T10:00:00Z"),
    ),
    "interval": (Item(Tag.OFFSET, Type.INTERVAL, 7), node("Offset", "Interval", 7)),
    "date-time extended": (
        Item(Tag.SUBMISSION_DATE, Type.DATE_TIME_EXTENDED, 10),
        node("SubmissionDate", "DateTimeExtended", "0x000000000000000A"),
    ),
    "structure": (
        Item(Tag.NAME, S, [Item(Tag.NAME_VALUE, TEXT, "n")]),
        node("Name", value=[node("NameValue", "TextString", "n")]),
    ),
    "extension": (Item(0x54FFFE, TEXT, "x"), node("0x54FFFE", "TextString", "x")),
    "certificate attribute": (
        Item(Tag.CERTIFICATE_SUBJECT_CN, TEXT, "kms"),
        node("CertificateSubjectCn", "TextString", "kms"),
    ),
    "nonce": (Item(Tag.IV_COUNTER_NONCE, BYTES, b"\1"), node("IVCounterNonce", "ByteString", "01")),
    "attribute reference": (
        Item(Tag.ATTRIBUTE_REFERENCE, ENUM, int(Tag.CERTIFICATE_ISSUER_DN_QUALIFIER)),
        node("AttributeReference", "Enumeration", "CertificateIssuerDnQualifier"),
    ),
    "attribute of 1.4": (
        Item(
            Tag.ATTRIBUTE,
            S,
            [Item(Tag.ATTRIBUTE_NAME, TEXT, "Cryptographic Algorithm"), Item(Tag.ATTRIBUTE_VALUE, ENUM, 2)],
        ),
        node(
            "Attribute",
            value=[
                node("AttributeName", "TextString", "Cryptographic Algorithm"),
                node("AttributeValue", "Enumeration", "THREE_DES"),
            ],
        ),
    ),
}

VALUES = {
    (Tag.CRYPTOGRAPHIC_ALGORITHM, "THREE_DES"): 0x02,
    (Tag.CRYPTOGRAPHIC_ALGORITHM, "HMACSHA256"): 0x09,
    (Tag.CRYPTOGRAPHIC_ALGORITHM, "ChaCha20Poly1305"): 0x1E,
    (Tag.CRYPTOGRAPHIC_ALGORITHM, "HMACSHA3256"): 0x24,
    (Tag.CRYPTOGRAPHIC_ALGORITHM, "MLKEM_512"): 0x39,
    (Tag.CRYPTOGRAPHIC_ALGORITHM, "MLKEM_1024"): 0x3B,
    (Tag.CRYPTOGRAPHIC_ALGORITHM, "MLDSA_87"): 0x3E,
    (Tag.CRYPTOGRAPHIC_ALGORITHM, "SLHDSA_SHA2_128s"): 0x3F,
    (Tag.CRYPTOGRAPHIC_ALGORITHM, "SLHDSA_SHA2_256f"): 0x44,
    (Tag.CRYPTOGRAPHIC_ALGORITHM, "SLHDSA_SHAKE_256f"): 0x4A,
    (Tag.CRYPTOGRAPHIC_ALGORITHM, "FPE_FF1"): 0x88800001,
    (Tag.CRYPTOGRAPHIC_ALGORITHM, "ConfigurableKEM"): 0x88800003,
    (Tag.CRYPTOGRAPHIC_ALGORITHM, "CoverCrypt"): 0x88800004,
    (Tag.CRYPTOGRAPHIC_ALGORITHM, "X25519MLKEM768"): 0x88800006,
    (Tag.CRYPTOGRAPHIC_ALGORITHM, "X448MLKEM1024"): 0x88800007,
    (Tag.HASHING_ALGORITHM, "SHA3256"): 0x0F,
    (Tag.HASHING_ALGORITHM, "SHA256"): 0x06,
    (Tag.KEY_FORMAT_TYPE, "PKCS8"): 0x04,
    (Tag.KEY_FORMAT_TYPE, "Pkcs12Legacy"): 0x88800001,
    (Tag.KEY_FORMAT_TYPE, "PKCS7"): 0x88800002,
    (Tag.RECOMMENDED_CURVE, "P256"): 0x07,
    (Tag.RECOMMENDED_CURVE, "SECP256K1"): 0x19,
    (Tag.RECOMMENDED_CURVE, "CURVE25519"): 0x45,
    (Tag.RECOMMENDED_CURVE, "CURVEED25519"): 0x80000001,
    (Tag.RECOMMENDED_CURVE, "CURVEED448"): 0x80000002,
    (Tag.PADDING_METHOD, "PKCS1v15"): 0x08,
    (Tag.PADDING_METHOD, "ANSI_X923"): 0x06,
    (Tag.PADDING_METHOD, "None"): 0x01,
    (Tag.BLOCK_CIPHER_MODE, "GCMSIV"): 0x80000002,
    (Tag.BLOCK_CIPHER_MODE, "NISTKeyWrap"): 0x0D,
    (Tag.BLOCK_CIPHER_MODE, "AESKeyWrapPadding"): 0x0C,
    (Tag.DERIVATION_METHOD, "NIST800_108C"): 0x05,
    (Tag.STATE, "PreActive"): 0x01,
    (Tag.STATE, "Destroyed_Compromised"): 0x06,
    (Tag.RESULT_REASON, "Item_Not_Found"): 0x01,
    (Tag.RESULT_REASON, "Object_Not_Found"): 0x37,
    (Tag.RESULT_REASON, "Wrong_Key_Lifecycle_State"): 0x43,
    (Tag.RESULT_REASON, "Permission_Denied"): 0x0C,
    (Tag.RESULT_REASON, "Object_Destroyed"): 0x36,
    (Tag.RESULT_REASON, "Invalid_CSR"): 0x2F,
    (Tag.OPERATION, "ReKeyKeyPair"): 0x1D,
    (Tag.CERTIFICATE_TYPE, "X509"): 0x01,
    (Tag.LINK_TYPE, "PublicKeyLink"): 0x102,
}

ACCEPTED = {
    "integer in hexadecimal": (node("CryptographicLength", "Integer", "0x100"), INTEGER, 256),
    "mask names with spaces": (node("CryptographicUsageMask", "Integer", "Encrypt Decrypt"), INTEGER, 12),
    "mask names with bars": (node("CryptographicUsageMask", "Integer", "Encrypt|Decrypt"), INTEGER, 12),
    "mask name of another spelling": (node("StorageStatusMask", "Integer", "OnlineStorage"), INTEGER, 1),
    "long integer as a number": (node("UsageLimitsTotal", "LongInteger", 5), Type.LONG_INTEGER, 5),
    "specification's name": (node("HashingAlgorithm", "Enumeration", "SHA3_256"), ENUM, 15),
    "name of 1.4": (node("HashingAlgorithm", "Enumeration", "SHA_3_256"), ENUM, 15),
    "specification's name of an algorithm": (node("CryptographicAlgorithm", "Enumeration", "DES3"), ENUM, 2),
    "name of 3.0": (node("CryptographicAlgorithm", "Enumeration", "ML_KEM_768"), ENUM, 0x3A),
    "specification's reason": (node("ResultReason", "Enumeration", "ItemNotFound"), ENUM, 1),
    "value in hexadecimal": (node("ObjectType", "Enumeration", "0x00000002"), ENUM, 2),
    "value as a number": (node("ObjectType", "Enumeration", 2), ENUM, 2),
    "key wrap type": (node("KeyWrapType", "Enumeration", "AsRegistered"), ENUM, 2),
    "lower-case bytes": (node("Data", "ByteString", "abcd"), BYTES, b"\xab\xcd"),
    "time zone": (node("ActivationDate", "DateTime", "2026-08-14T12:00:00+02:00"), Type.DATE_TIME, 1786701600),
    "hexadecimal time": (node("ActivationDate", "DateTime", "0x6A7EF360"), Type.DATE_TIME, 0x6A7EF360),
    "hexadecimal interval": (node("Offset", "Interval", "0x1B"), Type.INTERVAL, 27),
    "key material in a structure": (
        node("KeyMaterial", "Structure", [node("ByteString", "ByteString", "AB")]),
        BYTES,
        b"\xab",
    ),
}


@pytest.mark.parametrize("item, expected", BOTH_WAYS.values(), ids=BOTH_WAYS)
def test_nodes_in_both_directions(item, expected):
    assert write(item) == [expected]
    assert read(expected) == [item]


def test_a_message_has_tag_type_and_value_in_this_order_and_no_type_for_structures():
    item = Item(Tag.RESPONSE_PAYLOAD, S, [Item(Tag.OBJECT_TYPE, ENUM, 2)])
    assert encode(item, "CreateResponse") == (
        b'{"tag":"CreateResponse","value":[{"tag":"ObjectType","type":"Enumeration","value":"SymmetricKey"}]}'
    )


@pytest.mark.parametrize("tag, name", VALUES, ids=lambda part: part if isinstance(part, str) else part.spelling)
def test_values_have_the_names_that_the_clients_know(tag, name):
    number = VALUES[tag, name]
    assert write(Item(tag, ENUM, number)) == [node(tag.spelling, "Enumeration", name)]
    assert read(node(tag.spelling, "Enumeration", name)) == [Item(tag, ENUM, number)]


@pytest.mark.parametrize("given, type_, value", ACCEPTED.values(), ids=ACCEPTED)
def test_other_spellings_are_read(given, type_, value):
    (item,) = read(given)
    assert (item.type, item.value) == (type_, value)


@pytest.mark.parametrize(
    "name, tag",
    [
        ("IvCounterNonce", Tag.IV_COUNTER_NONCE),
        ("MacData", Tag.MAC_DATA),
        ("CertificateSubjectCN", Tag.CERTIFICATE_SUBJECT_CN),
        ("X509CertificateIdentifier", Tag.X_509_CERTIFICATE_IDENTIFIER),
        ("UniqueBatchItemId", Tag.UNIQUE_BATCH_ITEM_ID),
        ("0x42003D", Tag.IV_COUNTER_NONCE),
    ],
)
def test_other_names_of_tags_are_read(name, tag):
    assert read(node(name, "ByteString", "01")) == [Item(tag, BYTES, b"\1")]


def test_structures_are_unordered():
    (item,) = read(node("Attributes", value=[]))
    assert isinstance(item.value, Unordered)


def test_a_value_finds_its_attribute_s_name_behind_it():
    (item,) = read(
        node(
            "Attribute",
            value=[node("AttributeValue", "Enumeration", "Active"), node("AttributeName", "TextString", "State")],
        )
    )
    assert item.value[0].value == 2


@pytest.mark.parametrize("unknown", [node("Nonsense", "Number", {}), node("", value=3), node("0xZZZZZZ", value=[])])
def test_what_does_not_belong_is_passed_over(unknown):
    assert read(unknown, node("Comment", "TextString", "x")) == [Item(Tag.COMMENT, TEXT, "x")]


def test_an_empty_certificate_attribute_is_absent():
    empty = node("CertificateSubjectOu", "TextString", "")
    assert read(empty, node("CertificateIssuerL", "TextString", "Bonn")) == [
        Item(Tag.CERTIFICATE_ISSUER_L, TEXT, "Bonn")
    ]


def test_the_root_says_what_it_is():
    assert decode(b'{"tag":"RequestMessage","value":[]}') == ("RequestMessage", Item(Tag.REQUEST_MESSAGE, S, []))
    assert decode(b'{"tag":"Create","type":"Structure","value":[]}') == ("Create", Item(Tag.REQUEST_PAYLOAD, S, []))
    assert encode(Item(Tag.RESPONSE_MESSAGE, S, [])) == b'{"tag":"ResponseMessage","value":[]}'


@pytest.mark.parametrize(
    "root, operation",
    [
        ("Create", Operation.CREATE),
        ("MAC", Operation.MAC),
        ("Mac", Operation.MAC),
        ("ReKey", Operation.RE_KEY),
        ("ReKeyKeyPair", Operation.RE_KEY_KEY_PAIR),
        ("Rekey", Operation.RE_KEY),
        ("RNGRetrieve", Operation.RNG_RETRIEVE),
        ("Nonsense", None),
        ("", None),
    ],
)
def test_roots_name_operations(root, operation):
    assert operation_of(root) is operation


def test_an_answer_s_root_follows_from_its_operation():
    assert root_of(Operation.CREATE_KEY_PAIR) == "CreateKeyPairResponse"
    assert [operation_of(operation.spelling) for operation in Operation] == list(Operation)


REFUSED = {
    "nothing": b"",
    "no JSON": b"{",
    "an array": b"[]",
    "no tag": b'{"value":[]}',
    "root without children": b'{"tag":"Create"}',
    "root of a text": b'{"tag":"Create","type":"TextString","value":"x"}',
    "child that is no object": b'{"tag":"Create","value":[1]}',
    "child without tag": b'{"tag":"Create","value":[{"value":[]}]}',
    "unknown type": b'{"tag":"Create","value":[{"tag":"Comment","type":"Number","value":1}]}',
    "type of a list": b'{"tag":"Create","value":[{"tag":"Comment","type":[],"value":1}]}',
    "no type": b'{"tag":"Create","value":[{"tag":"Comment","value":"x"}]}',
    "unknown name": b'{"tag":"Create","value":[{"tag":"ObjectType","type":"Enumeration","value":"Nonsense"}]}',
    "half a byte": b'{"tag":"Create","value":[{"tag":"Data","type":"ByteString","value":"A"}]}',
    "integer of a list": b'{"tag":"Create","value":[{"tag":"BatchCount","type":"Integer","value":[]}]}',
    "structure of a text": b'{"tag":"Create","value":[{"tag":"Attribute","type":"Structure","value":"x"}]}',
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED)
def test_what_is_no_message_is_refused(data):
    with pytest.raises(KMIPError) as refusal:
        decode(data)
    assert refusal.value.reason is ResultReason.INVALID_MESSAGE


def test_nesting_is_limited():
    def nested(depth):
        return b'{"tag":"Name","value":[' * depth + b"]}" * depth

    decode(nested(MAX_DEPTH))
    for depth in (MAX_DEPTH + 1, 100_000):
        with pytest.raises(KMIPError):
            decode(nested(depth))
    # Nodes that stand for their children count as well.
    for name in (b"VendorAttributes", b"Link"):
        with pytest.raises(KMIPError):
            decode(nested(MAX_DEPTH + 1).replace(b"Name", name))


def link(identifier):
    return node("Link", value=[node("LinkedObjectIdentifier", "TextString", identifier)])


class TestOlderClients:
    """Version 4.x: these requests are as `cosmian-kms` 4.22.1 sends them."""

    def test_vendor_attributes_are_read(self):
        (attributes,) = read(
            node(
                "Attributes",
                "Structure",
                [
                    node(
                        "VendorAttributes",
                        "Structure",
                        [
                            node(
                                "VendorAttributes",
                                "Structure",
                                [
                                    node("VendorIdentification", "TextString", "cosmian"),
                                    node("AttributeName", "TextString", name),
                                    node("AttributeValue", "ByteString", value),
                                ],
                            )
                            for name, value in (("tag", "5B227431225D"), ("x509-extension", "5B20"))
                        ],
                    )
                ],
            )
        )
        assert [[child.value for child in attribute.value] for attribute in attributes.value] == [
            ["cosmian", "tag", '["t1"]'],
            ["cosmian", "x509-extension", b"[ "],
        ]
        assert all(attribute.tag == Tag.ATTRIBUTE for attribute in attributes.value)

    @pytest.mark.parametrize(
        "given, children",
        [
            (
                node("RevocationReason", "TextString", "gone"),
                [Item(Tag.REVOCATION_REASON_CODE, ENUM, 1), Item(Tag.REVOCATION_MESSAGE, TEXT, "gone")],
            ),
            (node("RevocationReason", "Enumeration", "KeyCompromise"), [Item(Tag.REVOCATION_REASON_CODE, ENUM, 2)]),
            (
                node("RevocationReason", value=[node("RevocationReasonCode", "Enumeration", "Superseded")]),
                [Item(Tag.REVOCATION_REASON_CODE, ENUM, 5)],
            ),
        ],
        ids=["message", "code", "structure"],
    )
    def test_a_revocation_reason_may_be_its_message_or_its_code(self, given, children):
        assert read(given) == [Item(Tag.REVOCATION_REASON, S, children)]

    def test_links_may_stand_in_a_link(self):
        flat = Item(Tag.LINK, S, [Item(Tag.LINKED_OBJECT_IDENTIFIER, TEXT, "k")])
        assert read(node("Link", value=[link("k"), link("k")])) == [flat, flat]
        assert read(link("k")) == [flat]

    def test_an_object_has_its_type_s_tag(self):
        block = node("KeyBlock", value=[])
        children = read(node("Object", value=[block]), node("ObjectType", "Enumeration", "PrivateKey"))
        assert children[0] == Item(Tag.PRIVATE_KEY, S, [Item(Tag.KEY_BLOCK, S, [])])
        assert read(node("Object", value=[block])) == []

    def test_the_answer_to_get_has_their_shapes(self):
        attributes = Item(
            Tag.ATTRIBUTES,
            S,
            [
                Item(Tag.ACTIVATION_DATE, Type.DATE_TIME, 0),
                Item(Tag.USAGE_LIMITS, S, [Item(Tag.USAGE_LIMITS_TOTAL, Type.LONG_INTEGER, 16)]),
                Item(Tag.LINK, S, [Item(Tag.LINKED_OBJECT_IDENTIFIER, TEXT, "a")]),
                Item(Tag.LINK, S, [Item(Tag.LINKED_OBJECT_IDENTIFIER, TEXT, "b")]),
                Item(
                    Tag.ATTRIBUTE,
                    S,
                    [
                        Item(Tag.VENDOR_IDENTIFICATION, TEXT, "cosmian"),
                        Item(Tag.ATTRIBUTE_NAME, TEXT, "tag"),
                        Item(Tag.ATTRIBUTE_VALUE, TEXT, '["t1"]'),
                    ],
                ),
            ],
        )
        value = Item(Tag.KEY_VALUE, S, [Item(Tag.KEY_MATERIAL, BYTES, b"\xaa"), attributes])
        assert write(
            Item(Tag.OBJECT_TYPE, ENUM, 2),
            Item(Tag.SYMMETRIC_KEY, S, [Item(Tag.KEY_BLOCK, S, [value])]),
            older=True,
        ) == [
            node("ObjectType", "Enumeration", "SymmetricKey"),
            node(
                "Object",
                value=[
                    node(
                        "KeyBlock",
                        value=[
                            node(
                                "KeyValue",
                                value=[
                                    node("KeyMaterial", value=[node("ByteString", "ByteString", "AA")]),
                                    node(
                                        "Attributes",
                                        value=[
                                            node(
                                                "UsageLimits",
                                                value=[node("UsageLimitsTotal", "LongInteger", "0x0000000000000010")],
                                            ),
                                            node("Link", value=[link("a"), link("b")]),
                                            node(
                                                "VendorAttributes",
                                                value=[
                                                    node(
                                                        "VendorAttributes",
                                                        value=[
                                                            node("VendorIdentification", "TextString", "cosmian"),
                                                            node("AttributeName", "TextString", "tag"),
                                                            node("AttributeValue", "ByteString", "5B227431225D"),
                                                        ],
                                                    )
                                                ],
                                            ),
                                        ],
                                    ),
                                ],
                            )
                        ],
                    )
                ],
            ),
        ]

    def test_the_answer_to_encrypt_has_both_names_of_the_nonce(self):
        nonce = Item(Tag.IV_COUNTER_NONCE, BYTES, b"\1")
        assert [each["tag"] for each in write(nonce, older=True)] == ["IVCounterNonce", "IvCounterNonce"]
        assert [each["tag"] for each in write(nonce)] == ["IVCounterNonce"]

    def test_what_is_written_for_them_is_read_again(self):
        flat = Item(Tag.LINK, S, [Item(Tag.LINKED_OBJECT_IDENTIFIER, TEXT, "a")])
        items = [
            Item(Tag.OBJECT_TYPE, ENUM, 2),
            Item(Tag.SYMMETRIC_KEY, S, [Item(Tag.KEY_MATERIAL, BYTES, b"\1")]),
            Item(Tag.ATTRIBUTES, S, [flat, flat]),
        ]
        assert read(*write(*items, older=True)) == items
