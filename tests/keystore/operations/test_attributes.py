"""Adjust Attribute; and how 2.x tells instances apart by their values. What may be done at all is in test_rules."""

import time

import pytest

from kmip.attributes import Attributes, References, Vendor
from kmip.enums import AdjustmentType, Operation, ResultReason
from kmip.payloads import AdjustAttributeRequest, DeleteAttributeRequest, ModifyAttributeRequest, SetAttributeRequest
from kmip.tags import Tag
from kmip.ttlv import Item, Type
from kmip.versions import V1_4, V2_0, V2_1
from tests.authority import do, refused, sealed  # noqa: F401 - a fixture among them
from tests.made import asked, created, named, seen
from tests.wire import one, why

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("sealed")]
O, R = Operation, ResultReason  # noqa: E741
MORE, LESS, NEGATE = AdjustmentType.INCREMENT, AdjustmentType.DECREMENT, AdjustmentType.NEGATE
SOON = int(time.time()) + 100_000
OWN = Vendor("x", "own")


def own(type_, value):
    return Item(Tag.ATTRIBUTE_VALUE, type_, value)


def holding(type_, value):
    """An object with a vendor attribute of this value."""
    uid = created()
    attribute = Attributes({OWN: {0: own(type_, value)}})
    do(O.SET_ATTRIBUTE, SetAttributeRequest(unique_identifier=uid, new_attribute=attribute))
    return uid


def adjusts(uid, key, how, by=None):
    value = None if by is None else Item(Tag.ADJUSTMENT_VALUE, by[0], by[1])
    return AdjustAttributeRequest(
        unique_identifier=uid, attribute_reference=References([key]), adjustment_type=how, adjustment_value=value
    )


#: Type, value, adjustment, Adjustment Value, and what comes of it (2.1, 11.1).
ADJUSTED = {
    "an integer": (Type.INTEGER, 5, MORE, None, 6),
    "an integer by more": (Type.INTEGER, 5, LESS, (Type.INTEGER, 7), -2),
    "a long integer": (Type.LONG_INTEGER, 2**40, LESS, None, 2**40 - 1),
    "a big integer": (Type.BIG_INTEGER, 2**80, MORE, (Type.BIG_INTEGER, 2**80), 2**81),
    "an interval": (Type.INTERVAL, 60, MORE, (Type.INTERVAL, 40), 100),
    "a date": (Type.DATE_TIME, SOON, LESS, None, SOON - 1),
    "an extended date": (Type.DATE_TIME_EXTENDED, SOON * 10**6, MORE, None, SOON * 10**6 + 1),
    "a negated integer": (Type.INTEGER, 5, NEGATE, None, -5),
    "a negated big integer": (Type.BIG_INTEGER, -(2**70), NEGATE, None, 2**70),
    "a negated Boolean": (Type.BOOLEAN, True, NEGATE, None, False),
}


@pytest.mark.parametrize("version", [V2_0, V2_1])
@pytest.mark.parametrize("type_, value, how, by, expected", ADJUSTED.values(), ids=ADJUSTED)
def test_what_has_a_number_is_counted_up_and_down_and_negated(version, type_, value, how, by, expected):
    uid = created()
    do(
        O.SET_ATTRIBUTE,
        SetAttributeRequest(unique_identifier=uid, new_attribute=Attributes({OWN: {0: own(type_, value)}})),
    )
    assert one(O.ADJUST_ATTRIBUTE, adjusts(uid, OWN, how, by), version=version).unique_identifier == uid
    assert seen(uid).first(OWN) == own(type_, expected)


#: Type, value, adjustment, Adjustment Value, and why not.
REFUSED = {
    "a text": (Type.TEXT_STRING, "1", MORE, None, R.INVALID_DATA_TYPE),
    "bytes": (Type.BYTE_STRING, b"1", NEGATE, None, R.INVALID_DATA_TYPE),
    "a Boolean counted": (Type.BOOLEAN, True, MORE, None, R.INVALID_DATA_TYPE),
    "a date negated": (Type.DATE_TIME, SOON, NEGATE, None, R.INVALID_DATA_TYPE),
    "an interval negated": (Type.INTERVAL, 5, NEGATE, None, R.INVALID_DATA_TYPE),
    "an integer too large": (Type.INTEGER, 2**31 - 1, MORE, None, R.NUMERIC_RANGE),
    "an integer too small": (Type.INTEGER, -(2**31), NEGATE, None, R.NUMERIC_RANGE),
    "an interval below nothing": (Type.INTERVAL, 5, LESS, (Type.INTERVAL, 6), R.NUMERIC_RANGE),
    "by a text": (Type.INTEGER, 5, MORE, (Type.TEXT_STRING, "1"), R.INVALID_DATA_TYPE),
    "an unknown adjustment": (Type.INTEGER, 5, AdjustmentType.of(9), None, R.INVALID_FIELD),
}


@pytest.mark.parametrize("type_, value, how, by, reason", REFUSED.values(), ids=REFUSED)
def test_what_is_no_number_or_leaves_its_range_is_refused(type_, value, how, by, reason):
    uid = created()
    do(
        O.SET_ATTRIBUTE,
        SetAttributeRequest(unique_identifier=uid, new_attribute=Attributes({OWN: {0: own(type_, value)}})),
    )
    assert why(O.ADJUST_ATTRIBUTE, adjusts(uid, OWN, how, by), version=V2_1) == reason
    assert seen(uid).first(OWN) == own(type_, value)


def test_attributes_without_a_value_begin_at_nothing():
    """Numbers and intervals at 0, Booleans at false; there is no date to begin at, and no type of an unknown one."""
    uid = created()
    do(O.ADJUST_ATTRIBUTE, adjusts(uid, Tag.PROTECTION_PERIOD, MORE, (Type.INTERVAL, 30)))
    do(O.ADJUST_ATTRIBUTE, adjusts(uid, Tag.ROTATE_AUTOMATIC, NEGATE))
    attributes = seen(uid)
    assert (attributes.protection_period, attributes.rotate_automatic) == (30, True)
    for key in (Tag.DEACTIVATION_DATE, OWN):
        refused(R.ITEM_NOT_FOUND, O.ADJUST_ATTRIBUTE, adjusts(uid, key, MORE))
    assert seen(uid).deactivation_date is None


def test_dates_are_moved_as_their_rules_allow():
    uid = created(deactivation_date=SOON)
    do(O.ADJUST_ATTRIBUTE, adjusts(uid, Tag.DEACTIVATION_DATE, MORE, (Type.INTERVAL, 60)))
    assert seen(uid).deactivation_date == SOON + 60
    for key, reason in ((Tag.INITIAL_DATE, R.READ_ONLY_ATTRIBUTE), (Tag.CRYPTOGRAPHIC_LENGTH, R.READ_ONLY_ATTRIBUTE)):
        refused(reason, O.ADJUST_ATTRIBUTE, adjusts(uid, key, MORE))


def test_one_of_several_instances_is_not_guessed():
    uid = created(names=["a", "b"])
    refused(R.MULTI_VALUED_ATTRIBUTE, O.ADJUST_ATTRIBUTE, adjusts(uid, Tag.NAME, MORE))
    change = ModifyAttributeRequest(unique_identifier=uid, new_attribute=asked(names=["c"]))
    refused(R.ATTRIBUTE_INSTANCE_NOT_FOUND, O.MODIFY_ATTRIBUTE, change)
    change.current_attribute = asked(names=["b"])
    do(O.MODIFY_ATTRIBUTE, change)
    assert seen(uid).name == [named("a"), named("c")]
    delete = DeleteAttributeRequest(unique_identifier=uid, current_attribute=asked(names=["b"]))
    refused(R.ATTRIBUTE_INSTANCE_NOT_FOUND, O.DELETE_ATTRIBUTE, delete)
    delete.current_attribute = asked(names=["a"])
    do(O.DELETE_ATTRIBUTE, delete)
    assert seen(uid).name == [named("c")]


def test_a_reference_deletes_all_instances_in_2_x_and_an_index_one_in_1_x():
    for version, left in ((V2_1, []), (V1_4, [named("a2")])):
        number = str((left and 2) or 1)
        uid = created(names=[f"b{number}", f"a{number}"])
        request = DeleteAttributeRequest(unique_identifier=uid, attribute_reference=References([Tag.NAME]))
        one(O.DELETE_ATTRIBUTE, request, version=version)
        assert seen(uid).name == left
