"""The compiled encoder against the item trees, for every structure in every version."""

import pytest

from kmip import ttlv
from kmip.attributes import Attributes, References
from kmip.enums import Enumeration, KeyFormatType, ObjectType, Operation, ResultReason
from kmip.errors import KMIPError
from kmip.messages import RequestMessage, ResponseMessage
from kmip.objects import OBJECTS, KeyBlock, KeyValue, SymmetricKey, same_in_every_version
from kmip.payloads import PAYLOADS, GetResponse
from kmip.schema import Encoded, Struct, dump, encode, opened
from kmip.structures import Name
from kmip.tags import Tag
from kmip.ttlv import Item, Type
from kmip.versions import V1_0, V1_4, V2_1, VERSIONS

VALUES = {
    Type.INTEGER: -5,
    Type.LONG_INTEGER: 1 << 40,
    Type.BIG_INTEGER: -(1 << 70),
    Type.BOOLEAN: True,
    Type.TEXT_STRING: "naïve",
    Type.BYTE_STRING: b"12345",
    Type.DATE_TIME: 1 << 33,
    Type.INTERVAL: 3600,
    Type.DATE_TIME_EXTENDED: 1 << 50,
}
STRUCTS = {
    cls.__name__: cls
    for pair in PAYLOADS.values()
    for cls in (pair.request, pair.response, RequestMessage, ResponseMessage, *OBJECTS.values())
}


def value_of(kind, tag, depth):
    if kind.spelled:
        return None
    if kind.struct is not None:
        return filled(kind.struct, depth + 1)
    if kind.type is None:
        return Item(tag, Type.STRUCTURE, [Item(Tag.DATA, Type.BYTE_STRING, b"x")])
    if kind.type == Type.ENUMERATION:
        return kind.enumeration.of(1) if issubclass(kind.enumeration, Enumeration) else Tag.STATE
    return VALUES[kind.type]


def filled(cls, depth=0, choice=0):
    """An instance with a value in every field; `choice` is the alternative of a field that has several types."""
    made = cls.__new__(cls)
    for field in cls._fields:
        kind = field.kinds[choice % len(field.kinds)]
        value = None if depth > 4 else value_of(kind, field.tag, depth)
        if field.spelled is not None:
            value = References([Tag.STATE]) if field.spelled is References else attributes(field.spelled)
        setattr(made, field.name, ([] if value is None else [value, value]) if field.repeated else value)
    return made


def attributes(spelling):
    if spelling is not Attributes:
        return None
    made = Attributes()
    made.name = [Name(name_value="a name", name_type=1)]
    return made


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", STRUCTS)
def test_the_compiled_encoder_writes_what_the_items_say(name, version):
    for choice in range(3):
        struct = filled(STRUCTS[name], choice=choice)
        items = dump(struct, Tag.RESPONSE_PAYLOAD, version)
        assert encode(struct, Tag.RESPONSE_PAYLOAD, version) == ttlv.encode(items)


def key(**fields):
    return SymmetricKey(key_block=KeyBlock(key_format_type=KeyFormatType.RAW, **fields))


def test_an_encoded_structure_goes_out_as_it_is_and_can_be_loaded():
    plain = key(key_value=KeyValue(key_material=b"k" * 16))
    response = GetResponse(object_type=ObjectType.SYMMETRIC_KEY, unique_identifier="1", symmetric_key=plain)
    kept = GetResponse(
        object_type=ObjectType.SYMMETRIC_KEY,
        unique_identifier="1",
        symmetric_key=Encoded(data=encode(plain, Tag.SYMMETRIC_KEY, V2_1)),
    )
    for version in VERSIONS:
        expected = encode(response, Tag.RESPONSE_PAYLOAD, version)
        assert encode(kept, Tag.RESPONSE_PAYLOAD, version) == expected
        assert ttlv.encode(dump(kept, Tag.RESPONSE_PAYLOAD, version)) == expected
    assert opened(kept, GetResponse) == response
    assert opened(Encoded(data=encode(response, Tag.RESPONSE_PAYLOAD, V1_4)), GetResponse) == response


def test_an_object_whose_spelling_depends_on_the_version_is_known():
    obj = key(key_value=KeyValue(key_material=b"k" * 16, attributes=attributes(Attributes)))
    versions = {encode(obj, Tag.SYMMETRIC_KEY, version) for version in (V1_0, V2_1)}
    assert len(versions) == 2
    assert not any(same_in_every_version(one) for one in versions)


@pytest.mark.parametrize("object_type", set(OBJECTS) - {ObjectType.TEMPLATE}, ids=str)
def test_an_object_that_is_called_the_same_in_every_version_is(object_type):
    for choice in range(3):
        obj = filled(OBJECTS[object_type], choice=choice)
        encoded = {version: encode(obj, Tag[object_type.name], version) for version in VERSIONS}
        assert same_in_every_version(encoded[V2_1]) <= (len(set(encoded.values())) == 1)
    plain = key(key_value=KeyValue(key_material=b"k" * 16), cryptographic_length=128)
    assert same_in_every_version(encode(plain, Tag.SYMMETRIC_KEY, V2_1))


def test_a_payload_that_is_no_structure_is_refused():
    with pytest.raises(KMIPError) as caught:
        PAYLOADS[Operation.GET].request.load(Item(Tag.REQUEST_PAYLOAD, Type.INTEGER, 1))
    assert caught.value.reason == ResultReason.INVALID_MESSAGE
    assert issubclass(PAYLOADS[Operation.GET].request, Struct)
