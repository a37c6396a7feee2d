"""Locate: every attribute as a filter, ranges, parts of structures, paging, states as of now, and who finds what."""

import time

import pytest

from keystore import store
from keystore.authn import Identity
from keystore.models import ManagedObject
from keystore.operations import retrieve
from kmip.attributes import BY_TAG, ROWS, Attributes, Vendor
from kmip.enums import (
    CryptographicUsageMask,
    LinkType,
    ObjectGroupMember,
    ObjectType,
    Operation,
    State,
    StorageStatusMask,
    UsageLimitsUnit,
)
from kmip.payloads import ArchiveRequest, DestroyRequest, GetRequest, LocateRequest
from kmip.structures import ApplicationSpecificInformation, Link, UsageLimits
from kmip.tags import Tag
from kmip.ttlv import Item, Type
from kmip.versions import V1_2, V1_3
from tests.authority import do, sealed  # noqa: F401 - a fixture among them
from tests.made import asked, created, located, named, registered, seen
from tests.samples import SOON, sample
from tests.wire import one

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("sealed")]
ALICE = Identity("alice", "test")
NEVER = 2**63 - 1


def put(uid, **values):
    """Give an object attributes, whatever the rules say."""
    managed = store.fetch(uid, 0, ALICE)
    for name, value in values.items():
        setattr(managed.attributes, name, value)
    store.save(managed)


def by(**values):
    return located(attributes=asked(**values))


def partial(tag, **fields):
    """A filter that leaves fields of a structure out."""
    struct = BY_TAG[tag].kind.struct
    value = struct.load(Item(tag, Type.STRUCTURE, []), partial=True)
    for name, field in fields.items():
        setattr(value, name, field)
    return Attributes({tag: {0: value}})


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_attribute_finds_the_objects_that_have_the_value(row):
    """With the value, one object is found; with another, none; with both of a list, none that has only one."""
    if row.tag in (Tag.UNIQUE_IDENTIFIER, Tag.OBJECT_TYPE, Tag.ARCHIVE_DATE, Tag.QUANTUM_SAFE):
        pytest.skip("has a test of its own")
    uid, other = created(), created()
    first, second = sample(row.tag, 0), sample(row.tag, 1)
    if row.tag == Tag.STATE:
        first, second = State.COMPROMISED, State.DEACTIVATED
    if isinstance(first, UsageLimits):
        first.usage_limits_count = first.usage_limits_total
        second.usage_limits_count = second.usage_limits_total
    if isinstance(first, bool):
        first, second = True, False
    put(uid, **{row.name: [first] if row.multiple else first})
    put(other, **{row.name: None if row.tag not in store.COLUMNS else second})
    assert located(attributes=Attributes({row.tag: {0: first}})) == [uid]
    if row.multiple:
        assert located(attributes=Attributes({row.tag: {0: first, 1: second}})) == []
        if row.tag == Tag.NAME:
            return  # Two objects do not share it.
        put(other, **{row.name: [first, second]})
        assert located(attributes=Attributes({row.tag: {0: first, 1: second}})) == [other]
        assert located(attributes=Attributes({row.tag: {0: first}})) == [other, uid]
    elif row.tag not in store.COLUMNS:
        assert located(attributes=Attributes({row.tag: {0: second}})) == []


def test_identifiers_and_types_are_filters_too():
    uid, other = created(), created()
    assert by(unique_identifier=uid) == [uid] and by(unique_identifier="nothing") == []
    assert by(object_type=ObjectType.SYMMETRIC_KEY) == [other, uid] and by(object_type=ObjectType.CERTIFICATE) == []


def test_all_filters_have_to_match():
    uid = created(names=["a"], object_group=["g"])
    created(names=["b"], object_group=["g"])
    assert by(names=["a"], object_group=["g"]) == [uid] and by(names=["a"], object_group=["h"]) == []


def test_two_dates_are_a_range_and_its_ends_belong_to_it():
    uids = [created(activation_date=SOON + offset) for offset in (0, 10, 20)]
    dates = Attributes({Tag.ACTIVATION_DATE: {0: SOON + 10, 1: SOON + 20}})
    assert located(attributes=dates) == uids[:0:-1]
    assert by(activation_date=SOON) == uids[:1]


@pytest.mark.parametrize("name", ["activation_date", "rotate_date"])
def test_the_largest_date_means_none(name):
    """2.1, 6.1.28: whether the date is a column or in the index."""
    with_date, without = created(), created()
    put(with_date, **{name: SOON})
    assert by(**{name: NEVER}) == [without]
    assert located(attributes=Attributes({BY_TAG[Tag[name.upper()]].tag: {0: SOON, 1: NEVER}})) == [without, with_date]


def test_a_usage_mask_finds_keys_that_may_be_used_so_and_more():
    mask = CryptographicUsageMask
    uid = created(cryptographic_usage_mask=int(mask.ENCRYPT | mask.DECRYPT | mask.EXPORT))
    created(cryptographic_usage_mask=int(mask.ENCRYPT))
    assert by(cryptographic_usage_mask=int(mask.ENCRYPT | mask.DECRYPT)) == [uid]


def test_usage_limits_find_keys_with_as_much_or_more_left():
    limits = UsageLimits(usage_limits_total=100, usage_limits_unit=UsageLimitsUnit.OBJECT)
    uid = created(usage_limits=limits)
    assert store.count_down(uid, 40)
    fields = {"usage_limits_unit": UsageLimitsUnit.OBJECT}
    for count, found in ((60, [uid]), (61, []), (1, [uid])):
        assert located(attributes=partial(Tag.USAGE_LIMITS, usage_limits_count=count, **fields)) == found
    assert located(attributes=partial(Tag.USAGE_LIMITS, usage_limits_total=101)) == []
    assert located(attributes=partial(Tag.USAGE_LIMITS, usage_limits_total=100)) == [uid]
    assert located(attributes=partial(Tag.USAGE_LIMITS, usage_limits_unit=UsageLimitsUnit.BYTE)) == []


def test_a_structure_may_lack_fields():
    link = Link(link_type=LinkType.PARENT_LINK, linked_object_identifier="p")
    info = ApplicationSpecificInformation(application_namespace="LIBRARY-LTO", application_data="tape 1")
    uid = created(names=["k"])
    put(uid, link=[link], application_specific_information=[info])
    assert located(attributes=partial(Tag.LINK, linked_object_identifier="p")) == [uid]
    assert located(attributes=partial(Tag.LINK, link_type=LinkType.PARENT_LINK)) == [uid]
    assert located(attributes=partial(Tag.LINK, link_type=LinkType.CHILD_LINK)) == []
    assert located(attributes=partial(Tag.NAME, name_value="k")) == [uid]
    tag = Tag.APPLICATION_SPECIFIC_INFORMATION
    assert located(attributes=partial(tag, application_namespace="LIBRARY-LTO")) == [uid]
    assert located(attributes=partial(tag, application_data="tape 1")) == [uid]
    assert located(attributes=partial(tag, application_namespace="LIBRARY-LTO", application_data="tape 2")) == []


def test_custom_attributes_of_any_type_are_filters():
    values = {"text": (Type.TEXT_STRING, "x"), "number": (Type.INTEGER, 7), "date": (Type.DATE_TIME, SOON),
              "bytes": (Type.BYTE_STRING, b"\x01")}  # fmt: skip
    wanted = Attributes({Vendor("x", name): {0: Item(Tag.ATTRIBUTE_VALUE, *value)} for name, value in values.items()})
    managed = store.fetch(uid := created(), 0, ALICE)
    managed.attributes.update(wanted)
    store.save(managed)
    for key, value in wanted.items():
        assert located(attributes=Attributes({key: value})) == [uid]
    other = Attributes({Vendor("x", "text"): {0: Item(Tag.ATTRIBUTE_VALUE, Type.TEXT_STRING, "X")}})
    assert located(attributes=other) == []


def test_states_are_those_of_now():
    """A transition whose date has come counts although nobody has written it down."""
    now = int(time.time())
    uid = created(activation_date=now + 1000, deactivation_date=now + 2000)
    for passed, state in ((0, State.PRE_ACTIVE), (1500, State.ACTIVE), (2500, State.DEACTIVATED)):
        ManagedObject.objects.filter(uid=uid).update(
            activation_date=now + 1000 - passed, deactivation_date=now + 2000 - passed
        )
        ManagedObject.objects.filter(uid=uid, state=State.PRE_ACTIVE).update(next_change=now + 1000 - passed)
        ManagedObject.objects.filter(uid=uid, state=State.ACTIVE).update(next_change=now + 2000 - passed)
        assert by(state=state) == [uid], state
        assert by(state=State.COMPROMISED) == []


def test_pages_are_stable_newest_first_and_count_all():
    uids = [created(object_group=["g"]) for _ in range(7)][::-1]
    pages = []
    for offset in (0, 3, 6, 9):
        request = LocateRequest(attributes=asked(object_group=["g"]), maximum_items=3, offset_items=offset)
        found = do(Operation.LOCATE, request)
        assert found.located_items == 7
        pages += found.unique_identifier
        created()
    assert pages == uids


def test_many_more_than_asked_for_are_not_counted(monkeypatch):
    """The server may leave Located Items out (2.1, 6.1.28); what it tells is the true number."""
    monkeypatch.setattr(retrieve, "COUNTED", 4)
    for _ in range(7):
        created(object_group=["g"])
    for offset, most, told in ((0, 2, None), (2, 2, None), (3, 2, 7), (0, 7, None), (0, 8, 7), (0, None, 7)):
        request = LocateRequest(attributes=asked(object_group=["g"]), maximum_items=most, offset_items=offset)
        found = do(Operation.LOCATE, request)
        assert found.located_items == told, (offset, most)
        assert len(found.unique_identifier) == min(7 - offset, most or 7)


def test_a_maximum_of_nothing_and_an_offset_beyond_are_answered():
    created()
    assert do(Operation.LOCATE, LocateRequest(attributes=Attributes(), maximum_items=0)).located_items == 1
    assert located(maximum_items=0) == [] and located(offset_items=5) == []


def test_archived_and_destroyed_objects_are_found_only_when_asked_for():
    here, archived, gone = created(), created(), created()
    do(Operation.ARCHIVE, ArchiveRequest(unique_identifier=archived))
    do(Operation.DESTROY, DestroyRequest(unique_identifier=gone))
    mask = StorageStatusMask
    for status, found in ((None, [here]), (mask.ON_LINE_STORAGE, [here]), (mask.ARCHIVAL_STORAGE, [archived]),
                          (mask.DESTROYED_STORAGE, [gone]),
                          (mask.ON_LINE_STORAGE | mask.ARCHIVAL_STORAGE | mask.DESTROYED_STORAGE,
                           [gone, archived, here])):  # fmt: skip
        assert located(storage_status_mask=None if status is None else int(status)) == found


def test_fresh_members_of_a_group_and_its_default():
    first, second = created(object_group=["g"]), created(object_group=["g"])
    fresh = {"object_group_member": ObjectGroupMember.GROUP_MEMBER_FRESH, "attributes": asked(object_group=["g"])}
    assert located(**fresh) == [second, first]
    do(Operation.GET, GetRequest(unique_identifier=second))
    assert located(**fresh) == [first] and seen(second).fresh is False
    default = fresh | {"object_group_member": ObjectGroupMember.GROUP_MEMBER_DEFAULT}
    assert located(**default) == [second]


def test_names_are_found_exactly():
    exact = {"a", "A", "a ", "ab", "%", "_", "ä", "a\u0308", "\U0001f511", "n" * 500}
    uids = {text: created(names=[text]) for text in exact}
    for text, uid in uids.items():
        assert by(names=[text]) == [uid]
    assert by(names=["n" * 499]) == [] and by(names=[""]) == []


def test_nobody_finds_what_is_somebody_else_s():
    created(names=["k"])
    assert located("bob") == located("bob", attributes=asked(names=["k"])) == []
    found = do(Operation.LOCATE, LocateRequest(attributes=Attributes()), "bob")
    assert found.located_items == 0, "not even how many there are"


def test_located_items_are_counted_from_1_3_on():
    registered(names=["k"])
    request = LocateRequest(attributes=Attributes())
    assert one(Operation.LOCATE, request, version=V1_2).located_items is None
    assert one(Operation.LOCATE, request, version=V1_3).located_items == 1


def test_a_re_used_name_is_found_where_it_is_now():
    uid = created(names=["k"])
    do(Operation.DESTROY, DestroyRequest(unique_identifier=uid))
    again = created(names=["k"])
    assert by(names=["k"]) == [again]
    destroyed = int(StorageStatusMask.DESTROYED_STORAGE)
    assert located(attributes=asked(names=["k"]), storage_status_mask=destroyed) == [uid]
    assert named("k") in seen(uid).name
