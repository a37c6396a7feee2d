"""What holds for every tree of items and for every input."""

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kmip import dialect, ttlv, ttlv_json, ttlv_xml
from kmip.enums import ResultReason
from kmip.errors import KMIPError
from kmip.names import TYPE_NAMES
from kmip.tags import SPELLINGS, Tag
from kmip.ttlv import Item, Reader, Type

signed = {bits: st.integers(-(1 << (bits - 1)), (1 << (bits - 1)) - 1) for bits in (32, 64)}
unsigned = st.integers(0, (1 << 32) - 1)
#: XML 1.0 has no character below the space but these three, and neither of the last two of the plane.
text = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="\ufffe\uffff")
    | st.sampled_from("\t\n\r"),
    max_size=20,
)
VALUES = {
    Type.INTEGER: signed[32] | st.integers(0, 0x3FFF),
    Type.LONG_INTEGER: signed[64],
    Type.BIG_INTEGER: st.integers(-(1 << 300), 1 << 300),
    Type.ENUMERATION: unsigned | st.integers(0, 80) | st.sampled_from([0x88800003, 0x80000001, 0x420028]),
    Type.BOOLEAN: st.booleans(),
    Type.TEXT_STRING: text | st.sampled_from(["State", "Cryptographic Usage Mask", "x-own"]),
    Type.BYTE_STRING: st.binary(max_size=40),
    Type.DATE_TIME: signed[64] | st.integers(-(10**10), 10**10),
    Type.INTERVAL: unsigned,
    Type.DATE_TIME_EXTENDED: signed[64],
}
#: Often together, so that values find their attribute's name.
ATTRIBUTE_TAGS = [Tag.ATTRIBUTE_NAME, Tag.ATTRIBUTE_VALUE, Tag.CRYPTOGRAPHIC_USAGE_MASK, Tag.ATTRIBUTE_REFERENCE]
tags = st.sampled_from([*Tag, *ATTRIBUTE_TAGS * 20]).map(int) | st.integers(0x540000, 0x54FFFF)


def leaves(tags):
    return st.one_of([st.builds(Item, tags, st.just(type_), values) for type_, values in VALUES.items()])


def structures(tags):
    return st.recursive(
        leaves(tags),
        lambda children: st.builds(Item, tags, st.just(Type.STRUCTURE), st.lists(children, max_size=5)),
        max_leaves=12,
    )


trees = structures(tags)
#: The dialect reads some shapes of these tags as others.
plain = tags.filter(lambda tag: tag not in dialect._SHAPED)
messages = st.builds(
    Item, st.just(int(Tag.REQUEST_MESSAGE)), st.just(Type.STRUCTURE), st.lists(structures(plain), max_size=6)
)


@given(trees)
def test_any_tree_survives_the_binary_encoding(item):
    assert ttlv.decode(ttlv.encode(item)) == item


@given(trees)
def test_any_tree_survives_xml(item):
    assert ttlv_xml.decode(ttlv_xml.encode(item)) == item


@given(trees)
def test_any_tree_survives_json(item):
    assert ttlv_json.decode(ttlv_json.encode(item)) == item


@given(messages)
def test_any_message_survives_the_dialect(item):
    assert dialect.decode(dialect.encode(item)) == ("RequestMessage", item)


@given(messages)
def test_any_message_can_be_written_for_older_clients(item):
    dialect.decode(dialect.encode(item, older=True))


DECODERS = {"ttlv": ttlv.decode, "xml": ttlv_xml.decode, "json": ttlv_json.decode, "dialect": dialect.decode}


def decode_or_refuse(decode, data):
    """Decode; the only way to fail is a refusal (Invalid Message)."""
    try:
        return decode(data)
    except KMIPError as error:
        assert error.reason is ResultReason.INVALID_MESSAGE
        return None


@pytest.mark.parametrize("decode", DECODERS.values(), ids=DECODERS)
@given(data=st.binary(max_size=200))
def test_any_bytes_are_decoded_or_refused(decode, data):
    decode_or_refuse(decode, data)


ENCODERS = {
    "ttlv": (ttlv.encode, ttlv.decode),
    "xml": (ttlv_xml.encode, ttlv_xml.decode),
    "json": (ttlv_json.encode, ttlv_json.decode),
    "dialect": (dialect.encode, dialect.decode),
}


@pytest.mark.parametrize("encode, decode", ENCODERS.values(), ids=ENCODERS)
@given(item=messages, data=st.data())
def test_any_damage_to_a_message_is_decoded_or_refused(encode, decode, item, data):
    damaged = bytearray(encode(item))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(damaged)))
        damaged[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    decode_or_refuse(decode, bytes(damaged))


json_values = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | signed[64] | text,
    lambda values: st.lists(values, max_size=4) | st.dictionaries(text, values, max_size=4),
)
node_names = (
    st.sampled_from([*SPELLINGS.values(), "VendorAttributes", "Object", "ByteString", "Link", "0x540001"]) | json_values
)
node_types = st.sampled_from([*TYPE_NAMES.values(), "Number"]) | json_values
nodes = st.recursive(
    st.fixed_dictionaries({}, optional={"tag": node_names, "type": node_types, "value": json_values}),
    lambda inner: st.fixed_dictionaries({"tag": node_names, "value": st.lists(inner | json_values, max_size=5)}),
)


@pytest.mark.parametrize("decode", [ttlv_json.decode, dialect.decode], ids=["json", "dialect"])
@given(tree=st.fixed_dictionaries({"tag": st.just("RequestMessage"), "value": st.lists(nodes, max_size=5)}))
@example(tree={"tag": "RequestMessage", "value": [{"tag": "KeyMaterial", "value": [{"tag": "ByteString"}]}]})
@example(tree={"tag": "RequestMessage", "value": [{"tag": "Link", "type": "Structure", "value": None}]})
def test_any_nodes_are_decoded_or_refused(decode, tree):
    decode_or_refuse(decode, orjson.dumps(tree))


element_names = st.sampled_from([*SPELLINGS.values(), "TTLV", "x540001"])


@given(
    st.lists(
        st.tuples(element_names, st.sampled_from([*TYPE_NAMES.values(), "", "Number"]), text, st.booleans()), max_size=8
    )
)
def test_any_elements_are_decoded_or_refused(elements):
    out = []
    closing = []
    for name, type_, value, closed in elements:
        value = value.translate(ttlv_xml._ESCAPES)
        out.append(f'<{name} tag="{value}" type="{type_ or "Structure"}" value="{value}"{"/" * closed}>')
        if not closed:
            closing.append(f"</{name}>")
    decode_or_refuse(ttlv_xml.decode, "".join(out + closing[::-1]).encode())


@given(st.lists(st.binary(max_size=40), max_size=4), st.data())
def test_a_stream_is_cut_into_the_same_messages_wherever_it_is_cut(values, data):
    encoded = [ttlv.encode(Item(Tag.REQUEST_MESSAGE, 1, [Item(Tag.DATA, 8, value)])) for value in values]
    stream = b"".join(encoded)
    reader = Reader(1 << 20)
    read = []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        reader.feed(stream[:size])
        stream = stream[size:]
        while (message := reader.next()) is not None:
            read.append(message)
    assert read == encoded


@given(st.lists(st.binary(max_size=20), max_size=20))
def test_any_stream_gives_messages_or_a_refusal(chunks):
    reader = Reader(100)
    for chunk in chunks:
        reader.feed(chunk)
        try:
            while (message := reader.next()) is not None:
                assert 8 <= len(message) <= 100
        except KMIPError:
            return
