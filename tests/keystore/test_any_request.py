"""Any request, sensible or not: it is carried out or refused, and never a fault of the server's.

The requests of the OASIS cases, with items left out, doubled, exchanged for others of the same tag, put where they do
not belong, and given values at the edge of their type or of another one.
"""

from collections import defaultdict
from functools import cache

import pytest
from django.db import transaction
from hypothesis import given
from hypothesis import strategies as st

from keystore import engine
from keystore.authn import Peer
from kmip import dialect, ttlv, ttlv_json, ttlv_xml
from kmip.attributes import Attributes, Vendor
from kmip.enums import AdjustmentType, ObjectType, Operation, ResultReason
from kmip.messages import ENCODINGS, ResponseMessage
from kmip.payloads import (
    AddAttributeRequest,
    AdjustAttributeRequest,
    CreateRequest,
    LocateRequest,
    ModifyAttributeRequest,
    SetAttributeRequest,
)
from kmip.tags import Tag
from kmip.ttlv import Item, Type
from kmip.versions import V2_0, V2_1, VERSIONS
from tests.authority import root, sealed  # noqa: F401 - a fixture among them
from tests.made import activate, asked, created, pair, registered
from tests.reference import cases, messages, needs_reference
from tests.wire import send

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("sealed")]
R = ResultReason

EDGES = {
    Type.INTEGER: [0, 1, 2, 8, 16, 128, 256, 2048, -1, 2**31 - 1, -(2**31)],
    Type.LONG_INTEGER: [0, 1, -1, 2**63 - 1],
    Type.BIG_INTEGER: [0, 1, -1, 3, 257, 65537, 2**127 - 1, 1 << 600],
    Type.ENUMERATION: [*range(64), 0x7FFFFFFF, 0x80000001, 0xFFFFFFFF],
    Type.BOOLEAN: [True, False],
    Type.TEXT_STRING: [
        "",
        "x",
        "CN=x",
        "\0",
        "x" * 300,
        '["a"]',
        "name@latest",
        "x-ID",
        "State",
        "Name",
        "Link",
        "a/b",
    ],
    Type.BYTE_STRING: [b"", b"x", bytes(8), bytes(16), bytes(32), b"\x30\x03\x02\x01\x01", b"\x87\x87\1\1x"],
    Type.DATE_TIME: [0, 1, -1, 10**9, 4 * 10**9, 2**62, -(2**63), 2**63 - 1],
    Type.INTERVAL: [0, 1, 60, 2**32 - 1],
    Type.DATE_TIME_EXTENDED: [0, 10**15, -(2**63), 2**63 - 1],
}
#: XML has no place for some of the characters.
ENCODERS = {"ttlv": ttlv.encode, "json": ttlv_json.encode, "dialect": dialect.encode}
Path = tuple[int, ...]


@cache
def requests() -> list[Item]:
    """The requests of all cases."""
    found = [ttlv_xml.decode(one) for path in cases() for one in messages(path)]
    return [one for one in found if one.tag == Tag.REQUEST_MESSAGE]


@cache
def known() -> dict[int, list[Item]]:
    """Their items by tag."""
    found = defaultdict(list)
    for request in requests():
        for _, item in walk(request):
            found[item.tag].append(item)
    return found


def walk(item: Item, path: Path = ()):
    yield path, item
    if item.type == Type.STRUCTURE:
        for position, child in enumerate(item.value):
            yield from walk(child, (*path, position))


def replaced(item: Item, path: Path, new: list[Item]) -> Item:
    """The tree with other items in the place of one of its."""
    position, *rest = path
    children = list(item.value)
    children[position : position + 1] = new if not rest else [replaced(children[position], tuple(rest), new)]
    return Item(item.tag, item.type, children)


@st.composite
def instead(draw, item: Item) -> list[Item]:
    """What may stand instead of an item."""
    ways = ["nothing", "twice", "another", "with a stranger", "an empty structure"]
    ways += [] if item.type == Type.STRUCTURE else ["an edge", "an edge", "another type"]
    way = draw(st.sampled_from(ways))
    if way == "nothing":
        return []
    if way == "twice":
        return [item, item]
    if way == "another":
        return [draw(st.sampled_from(known()[item.tag]))]
    if way == "with a stranger":
        return [item, draw(st.sampled_from(known()[draw(st.sampled_from(sorted(known())))]))]
    if way == "an empty structure":
        return [Item(item.tag, Type.STRUCTURE, [])]
    kind = item.type if way == "an edge" else draw(st.sampled_from(list(EDGES)))
    return [Item(item.tag, kind, draw(st.sampled_from(EDGES[kind])))]


@st.composite
def damaged(draw, uids: list[str]) -> Item:
    """A request about some of the objects, with up to three items that are not as they were."""
    request = draw(st.sampled_from(requests()))
    for path, item in list(walk(request)):
        if item.type == Type.TEXT_STRING and item.value.startswith("$"):
            request = replaced(request, path, [Item(item.tag, item.type, draw(st.sampled_from(uids)))])
    for _ in range(draw(st.integers(0, 3))):
        # Within the batch items: what is wrong with headers is refused before anything is looked at.
        places = [place for place in walk(request) if len(place[0]) > 1 and place[0][0] > 0]
        if places:
            path, item = draw(st.sampled_from(places))
            request = replaced(request, path, draw(instead(item)))
    count = sum(item.tag == Tag.BATCH_ITEM for item in request.value)
    for path, item in list(walk(request)):
        if item.tag == Tag.BATCH_COUNT:
            request = replaced(request, path, [Item(item.tag, Type.INTEGER, count)])
    return request


@pytest.fixture
def uids() -> list[str]:
    """Objects that requests may be about."""
    made = [created(names=["name 0"]), registered(), *pair(), root(), registered(), created()]
    for uid in made[1:4]:
        activate(uid)
    return made


@needs_reference
@given(data=st.data())
def test_any_request_is_carried_out_or_refused(uids, caplog, data):
    request, encoding = data.draw(damaged(uids)), data.draw(st.sampled_from(list(ENCODERS)))
    caplog.clear()
    with transaction.atomic():
        answer = engine.handle(ENCODERS[encoding](request), Peer("cli", user="alice"), encoding)
        transaction.set_rollback(True)
    assert ResponseMessage.load(ENCODINGS[encoding].decode(answer)).batch_item
    faults = [record.exc_info[1] for record in caplog.records if record.exc_info]
    assert not faults, faults


@pytest.mark.parametrize("version", VERSIONS)
def test_attributes_without_a_value_are_refused(version):
    uid, bare = created(), Attributes({Vendor("x", "own"): {0: None}})
    add = AddAttributeRequest(unique_identifier=uid, new_attribute=bare)
    create = CreateRequest(
        object_type=ObjectType.SYMMETRIC_KEY, attributes=Attributes(asked(cryptographic_length=128) | bare)
    )
    for number, payload in ((Operation.ADD_ATTRIBUTE, add), (Operation.CREATE, create),
                            (Operation.LOCATE, LocateRequest(attributes=bare))):  # fmt: skip
        (item,) = send((number, payload), version=version).batch_item
        assert item.result_reason in (R.INVALID_ATTRIBUTE_VALUE, R.INVALID_FIELD), number
    name = LocateRequest(attributes=Attributes({Tag.NAME: {0: None}}))
    if version < V2_0:
        (item,) = send((Operation.LOCATE, name), version=version).batch_item
        assert item.result_reason == R.INVALID_FIELD


LACKING = {
    "add": (Operation.ADD_ATTRIBUTE, AddAttributeRequest()),
    "modify": (Operation.MODIFY_ATTRIBUTE, ModifyAttributeRequest()),
    "set": (Operation.SET_ATTRIBUTE, SetAttributeRequest()),
    "adjust": (Operation.ADJUST_ATTRIBUTE, AdjustAttributeRequest(adjustment_type=AdjustmentType.INCREMENT)),
}


@pytest.mark.parametrize("operation, payload", LACKING.values(), ids=LACKING)
def test_a_request_without_its_attribute_is_refused(operation, payload):
    (item,) = send((operation, payload), version=V2_1).batch_item
    assert item.result_reason == R.INVALID_MESSAGE and "is missing" in item.result_message
