"""Obtain Lease and Get Usage Allocation: how long and how much a client may use an object (2.1, 6.1.23, 6.1.35).

A lease is a row with a date, so that it is known who relies on an object; an allocation is one conditional UPDATE.
"""

from typing import Final

from keystore import clock, store, uses
from keystore.call import Call, operation
from keystore.models import ObjectLease
from kmip.enums import CryptographicUsageMask as Mask
from kmip.enums import Operation, ResultReason, State
from kmip.errors import KMIPError
from kmip.payloads import (
    GetUsageAllocationRequest,
    GetUsageAllocationResponse,
    ObtainLeaseRequest,
    ObtainLeaseResponse,
)

#: States in which nobody is to rely on an object any more.
_NO_LEASE: Final = frozenset({State.COMPROMISED})


@operation(Operation.OBTAIN_LEASE)
def obtain_lease(call: Call, request: ObtainLeaseRequest) -> ObtainLeaseResponse:
    """Let the client rely on what it knows of an object for the object's Lease Time (KMIP 2.1, 6.1.35)."""
    managed = call.live(request.unique_identifier, change=False)
    if managed.state in _NO_LEASE:
        raise KMIPError(ResultReason.PERMISSION_DENIED, "there are no leases for a compromised object")
    attributes = managed.attributes
    seconds = attributes.lease_time or 0
    if seconds:
        now = clock.now()
        ObjectLease.objects.update_or_create(
            uid=managed.uid,
            namespace=managed.namespace,
            username=call.identity.username,
            defaults={"granted": now, "expires": now + seconds * clock.SECOND},
        )
    call.batch.placeholder = managed.uid
    return ObtainLeaseResponse(
        unique_identifier=managed.uid, lease_time=seconds, last_change_date=attributes.last_change_date
    )


@operation(Operation.GET_USAGE_ALLOCATION)
def get_usage_allocation(call: Call, request: GetUsageAllocationRequest) -> GetUsageAllocationResponse:
    """Take an amount off an object's Usage Limits, for the client to use by itself (KMIP 2.1, 6.1.23)."""
    managed = call.live(request.unique_identifier, change=False)
    attributes = managed.attributes
    if attributes.usage_limits is None:
        raise KMIPError(ResultReason.ATTRIBUTE_NOT_FOUND, "the object has no Usage Limits")
    if not (attributes.cryptographic_usage_mask or 0) & (uses.PROTECTING | Mask.UNRESTRICTED):
        raise KMIPError(ResultReason.INVALID_OBJECT_TYPE, "the object cannot be used to protect anything")
    begin, end = attributes.process_start_date, attributes.protect_stop_date
    if (
        managed.state != State.ACTIVE
        or (begin is not None and call.now < begin)
        or (end is not None and call.now >= end)
    ):
        raise KMIPError(
            ResultReason.PERMISSION_DENIED,
            "the object may not be used to protect anything in its state, or at this time",
        )
    amount = request.usage_limits_count
    if amount <= 0:
        raise KMIPError(ResultReason.INVALID_FIELD, "Usage Limits Count is at least 1")
    if not store.count_down(managed.key, amount):
        raise KMIPError(ResultReason.USAGE_LIMIT_EXCEEDED, "less than that is left of the Usage Limits")
    call.batch.placeholder = managed.uid
    return GetUsageAllocationResponse(unique_identifier=managed.uid)
