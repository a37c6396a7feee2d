"""Obtain Lease and Get Usage Allocation: how long, and how much, a client may use an object by itself."""

import threading

import pytest
from django.db import connections

from keystore import clock, expiry, store
from keystore.authn import Identity
from keystore.models import ManagedObject, ObjectLease
from kmip.enums import BlockCipherMode, CryptographicUsageMask, Operation, PaddingMethod, ResultReason, UsageLimitsUnit
from kmip.errors import KMIPError
from kmip.payloads import EncryptRequest, GetUsageAllocationRequest, ObtainLeaseRequest
from kmip.structures import UsageLimits
from kmip.versions import V1_0, V1_4, V2_0, V2_1, VERSIONS
from tests.authority import do, refused, sealed  # noqa: F401 - a fixture among them
from tests.made import created, seen
from tests.using import create, parameters, revoke
from tests.wire import one, why

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("sealed")]
O, R = Operation, ResultReason  # noqa: E741
CBC = parameters(block_cipher_mode=BlockCipherMode.CBC, padding_method=PaddingMethod.PKCS5)
ALICE = Identity("alice", "test")


def limited(total, unit=UsageLimitsUnit.BYTE, **options):
    return create(usage_limits=UsageLimits(usage_limits_total=total, usage_limits_unit=unit), **options)


def allocate(uid, amount):
    return GetUsageAllocationRequest(unique_identifier=uid, usage_limits_count=amount)


def left(uid):
    return seen(uid).usage_limits.usage_limits_count


# Leases.


@pytest.mark.parametrize("version", VERSIONS)
def test_a_lease_is_as_long_as_the_object_says_and_brings_the_last_change(version):
    uid = create()
    found = one(O.OBTAIN_LEASE, ObtainLeaseRequest(unique_identifier=uid), version=version)
    attributes = seen(uid)
    assert (found.unique_identifier, found.lease_time) == (uid, attributes.lease_time)
    assert found.lease_time > 0 and found.last_change_date == attributes.last_change_date
    row = ObjectLease.objects.get(uid=uid)
    assert (row.username, row.expires - row.granted) == ("alice", found.lease_time * clock.SECOND)


def test_a_lease_is_extended_by_asking_again_and_forgotten_when_it_is_over():
    uid = create()
    for _ in range(2):
        do(O.OBTAIN_LEASE, ObtainLeaseRequest(unique_identifier=uid))
    assert ObjectLease.objects.count() == 1
    expiry.run()
    assert ObjectLease.objects.count() == 1
    ObjectLease.objects.update(expires=clock.now() - 1)
    expiry.run()
    assert ObjectLease.objects.count() == 0


def test_nobody_relies_on_a_compromised_object_or_on_another_s():
    uid = create()
    refused(R.OBJECT_NOT_FOUND, O.OBTAIN_LEASE, ObtainLeaseRequest(unique_identifier=uid), user="bob")
    revoke(uid, compromised=True)
    refused(R.PERMISSION_DENIED, O.OBTAIN_LEASE, ObtainLeaseRequest(unique_identifier=uid))
    assert ObjectLease.objects.count() == 0


# Allocations.


@pytest.mark.parametrize("version", VERSIONS)
def test_an_allocation_is_taken_off_the_count(version):
    uid = limited(100)
    assert one(O.GET_USAGE_ALLOCATION, allocate(uid, 60), version=version).unique_identifier == uid
    assert left(uid) == 40
    expected = R.USAGE_LIMIT_EXCEEDED if version >= V2_0 else R.PERMISSION_DENIED
    assert why(O.GET_USAGE_ALLOCATION, allocate(uid, 41), version=version) == expected
    assert left(uid) == 40
    one(O.GET_USAGE_ALLOCATION, allocate(uid, 40), version=version)
    assert left(uid) == 0


def test_what_the_server_uses_and_what_clients_take_is_one_count():
    uid = limited(40)
    do(O.GET_USAGE_ALLOCATION, allocate(uid, 30))
    request = EncryptRequest(unique_identifier=uid, cryptographic_parameters=CBC, data=bytes(10))
    do(O.ENCRYPT, request)
    assert left(uid) == 0
    # The text of 2.1, 6.1.17 names this one.
    refused(R.PERMISSION_DENIED, O.ENCRYPT, request)
    refused(R.USAGE_LIMIT_EXCEEDED, O.GET_USAGE_ALLOCATION, allocate(uid, 1))


def test_what_cannot_be_allocated_is_refused_with_the_reason_of_the_version():
    none, verifies = create(), limited(10, mask=CryptographicUsageMask.DECRYPT)
    early = created(usage_limits=UsageLimits(usage_limits_total=10, usage_limits_unit=UsageLimitsUnit.OBJECT))
    for uid, newest, oldest in (
        (none, R.ATTRIBUTE_NOT_FOUND, R.ILLEGAL_OPERATION),
        (verifies, R.INVALID_OBJECT_TYPE, R.ILLEGAL_OPERATION),
        (early, R.PERMISSION_DENIED, R.PERMISSION_DENIED),
        ("nothing", R.OBJECT_NOT_FOUND, R.ITEM_NOT_FOUND),
    ):
        assert why(O.GET_USAGE_ALLOCATION, allocate(uid, 1), version=V2_1) == newest
        assert why(O.GET_USAGE_ALLOCATION, allocate(uid, 1), version=V1_4) == oldest
        assert why(O.GET_USAGE_ALLOCATION, allocate(uid, 1), version=V1_0) == oldest
    for amount in (0, -5):
        refused(R.INVALID_FIELD, O.GET_USAGE_ALLOCATION, allocate(limited(10), amount))


@pytest.mark.django_db(transaction=True)
def test_allocations_are_exact_however_many_ask_at_once():
    """Eight clients take three at a time from a hundred: thirty-three get it, and one is left."""
    uid = limited(100, UsageLimitsUnit.OBJECT)
    got, failed = [], []
    begin = threading.Barrier(8)

    def take():
        begin.wait()
        try:
            for _ in range(6):
                try:
                    do(O.GET_USAGE_ALLOCATION, allocate(uid, 3))
                    got.append(3)
                except KMIPError as exc:
                    failed.append(exc.reason)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(got), set(failed), len(failed)) == (33, {R.USAGE_LIMIT_EXCEEDED}, 15)
    assert ManagedObject.objects.get(uid=uid).usage_remaining == 1
    assert store.fetch(uid, clock.now() // clock.SECOND, ALICE).usage_remaining == 1
