"""Check: whether an object could be used so, and what a batch does where it could not."""

import pytest

from keystore.objects import LEASE_TIME
from kmip.enums import CryptographicUsageMask, Operation, ResultReason, ResultStatus, UsageLimitsUnit
from kmip.payloads import CheckRequest, GetRequest, GetUsageAllocationRequest
from kmip.structures import UsageLimits
from kmip.versions import V1_4, V2_1, VERSIONS
from tests.authority import do, refused, sealed  # noqa: F401 - a fixture among them
from tests.using import create
from tests.wire import one, send, why

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("sealed")]
O, R, M = Operation, ResultReason, CryptographicUsageMask  # noqa: E741


def checks(uid, **asked):
    return CheckRequest(unique_identifier=uid, **asked)


@pytest.mark.parametrize("version", VERSIONS)
def test_an_object_that_may_be_used_so_is_named(version):
    uid = create(mask=M.ENCRYPT | M.DECRYPT)
    for asked in ({}, {"cryptographic_usage_mask": int(M.ENCRYPT)}, {"lease_time": LEASE_TIME},
                  {"usage_limits_count": 10**6}):  # fmt: skip
        assert one(O.CHECK, checks(uid, **asked), version=version).unique_identifier == uid


def test_a_use_that_the_mask_lacks_is_refused():
    """One of several is enough; an unrestricted key may be used in all ways."""
    uid = create(mask=M.ENCRYPT)
    both = checks(uid, cryptographic_usage_mask=int(M.ENCRYPT | M.DECRYPT))
    assert why(O.CHECK, both, version=V2_1) == R.INCOMPATIBLE_CRYPTOGRAPHIC_USAGE_MASK
    assert why(O.CHECK, both, version=V1_4) == R.PERMISSION_DENIED
    assert do(O.CHECK, checks(create(mask=M.UNRESTRICTED), cryptographic_usage_mask=int(M.SIGN))).unique_identifier


def test_more_than_is_left_is_refused_and_nothing_is_taken():
    uid = create(usage_limits=UsageLimits(usage_limits_total=10, usage_limits_unit=UsageLimitsUnit.OBJECT))
    do(O.GET_USAGE_ALLOCATION, GetUsageAllocationRequest(unique_identifier=uid, usage_limits_count=4))
    for _ in range(2):
        do(O.CHECK, checks(uid, usage_limits_count=6))
    refused(R.USAGE_LIMIT_EXCEEDED, O.CHECK, checks(uid, usage_limits_count=7))


def test_a_longer_lease_than_there_is_answers_the_longest():
    found = do(O.CHECK, checks(create(), lease_time=LEASE_TIME + 1))
    assert (found.unique_identifier, found.lease_time) == (None, LEASE_TIME)


def test_items_behind_a_check_that_failed_have_no_placeholder():
    """Also where the batch goes on because the answer is no failure."""
    uid = create(mask=M.ENCRYPT)
    passed = send((O.CHECK, checks(uid)), (O.GET, GetRequest())).batch_item
    assert [item.result_status for item in passed] == [ResultStatus.SUCCESS] * 2
    failed = send((O.CHECK, checks(uid, lease_time=LEASE_TIME + 1)), (O.GET, GetRequest())).batch_item
    assert [item.result_status for item in failed] == [ResultStatus.SUCCESS, ResultStatus.OPERATION_FAILED]


def test_nothing_is_said_of_another_s_object():
    refused(R.OBJECT_NOT_FOUND, O.CHECK, checks(create()), user="bob")
