"""The messages that the encoding documents print, and every message of the OASIS test cases, in all encodings."""

from pathlib import Path

import orjson
import pytest

from kmip import dialect, ttlv, ttlv_json, ttlv_xml
from kmip.tags import Tag
from kmip.ttlv import Item
from tests.reference import REFERENCE, cases, messages, needs_reference, table

pytestmark = needs_reference
VECTORS = (
    table("testcases/encoding/vectors.json") if REFERENCE.is_dir() else {"primitives_tag_420020": [], "messages": []}
)


def without_time(item: Item) -> Item:
    if isinstance(item.value, list):
        return item._replace(value=[without_time(child) for child in item.value if child.tag != Tag.TIME_STAMP])
    return item


@pytest.mark.parametrize("vector", VECTORS["primitives_tag_420020"], ids=lambda vector: vector["text"])
def test_the_specification_s_primitives_are_byte_exact(vector):
    data = bytes.fromhex(vector["ttlv"])
    assert ttlv.encode(ttlv.decode(data)) == data


@pytest.mark.parametrize(
    "vector", VECTORS["messages"], ids=lambda vector: f"{vector['label']}-{vector['time']}-{vector['message']}"
)
def test_the_printed_forms_of_a_message_are_one_message(vector):
    data = bytes.fromhex(vector["ttlv"])
    item = ttlv_xml.decode(vector["xml"].encode())
    forms = [item, ttlv.decode(data)]
    assert ttlv.encode(forms[1]) == data
    assert ttlv_xml.decode(ttlv_xml.encode(item)) == item
    if vector["json"]:
        forms.append(ttlv_json.decode(orjson.dumps(vector["json"])))
        assert orjson.loads(ttlv_json.encode(forms[2])) == vector["json"]
    if not vector["ttlv_equals_xml"]:
        # The document prints several times for these messages.
        forms = [without_time(form) for form in forms]
    assert all(form == forms[0] for form in forms)


@pytest.mark.parametrize("path", cases(), ids=lambda path: f"{path.parts[-3]}/{path.stem}")
def test_every_message_of_a_test_case_survives_all_encodings(path: Path):
    for text in messages(path):
        item = ttlv_xml.decode(text)
        assert ttlv.decode(ttlv.encode(item)) == item
        assert ttlv_xml.decode(ttlv_xml.encode(item)) == item
        assert ttlv_json.decode(ttlv_json.encode(item)) == item
        assert dialect.decode(dialect.encode(item)) == (item.tag.spelling, item)
