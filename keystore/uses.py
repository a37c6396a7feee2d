"""What an object may be used for now: type, state, dates, usage mask and Usage Limits (2.1, 4.57, 4.17, 4.40, 4.59).

Uses that protect something (encrypt, sign, MAC, wrap, derive) need more than those that process what was protected
before (decrypt, verify, unwrap).
"""

from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Final

from keystore import store
from keystore.opened import Opened
from keystore.store import Managed
from kmip.enums import CryptographicUsageMask as Mask
from kmip.enums import ObjectType, ResultReason, State, UsageLimitsUnit
from kmip.errors import KMIPError

#: Masks of uses that protect.
PROTECTING: Final = (
    Mask.SIGN
    | Mask.ENCRYPT
    | Mask.WRAP_KEY
    | Mask.MAC_GENERATE
    | Mask.DERIVE_KEY
    | Mask.CONTENT_COMMITMENT_NON_REPUDIATION
    | Mask.KEY_AGREEMENT
    | Mask.CERTIFICATE_SIGN
    | Mask.CRL_SIGN
    | Mask.GENERATE_CRYPTOGRAM
)
_PROTECTS: Final = frozenset({State.ACTIVE})
_PROCESSES: Final = frozenset({State.ACTIVE, State.DEACTIVATED, State.COMPROMISED})


def check(managed: Managed, use: Mask, types: Collection[ObjectType], now: int) -> None:
    """Raise `KMIPError` where an object may not be used so: Invalid Object Type, Wrong Key Lifecycle State or
    Incompatible Cryptographic Usage Mask."""
    if managed.object_type not in types:
        raise KMIPError(ResultReason.INVALID_OBJECT_TYPE, f"{managed.object_type} cannot {_NAMES[use]}")
    protects = use & PROTECTING
    if managed.state not in (_PROTECTS if protects else _PROCESSES):
        raise KMIPError(
            ResultReason.WRONG_KEY_LIFECYCLE_STATE, f"an object in state {managed.state} cannot {_NAMES[use]}"
        )
    columns = managed.columns
    start, stop = columns["process_start_date"], columns["protect_stop_date"]
    if start is not None and now < start:
        raise KMIPError(ResultReason.WRONG_KEY_LIFECYCLE_STATE, "the object's Process Start Date is yet to come")
    if protects and stop is not None and now >= stop:
        raise KMIPError(ResultReason.WRONG_KEY_LIFECYCLE_STATE, "the object's Protect Stop Date has passed")
    if not (columns["cryptographic_usage_mask"] or 0) & (_BITS.get(use, use) | Mask.UNRESTRICTED):
        raise KMIPError(
            ResultReason.INCOMPATIBLE_CRYPTOGRAPHIC_USAGE_MASK, f"the object's usage mask does not let it {_NAMES[use]}"
        )


#: Uses that several bits allow. Case TC-WRAP-2 unwraps with a key that may only wrap; keys agree to derive another.
_BITS: Final = {
    Mask.UNWRAP_KEY: Mask.UNWRAP_KEY | Mask.WRAP_KEY,
    Mask.KEY_AGREEMENT: Mask.KEY_AGREEMENT | Mask.DERIVE_KEY,
}
_NAMES: Final = {
    Mask.ENCRYPT: "encrypt",
    Mask.DECRYPT: "decrypt",
    Mask.SIGN: "sign",
    Mask.VERIFY: "verify",
    Mask.MAC_GENERATE: "make a MAC",
    Mask.MAC_VERIFY: "verify a MAC",
    Mask.WRAP_KEY: "wrap a key",
    Mask.UNWRAP_KEY: "unwrap a key",
    Mask.DERIVE_KEY: "derive a key",
    Mask.KEY_AGREEMENT: "agree on a key",
}


def allocated(managed: Managed, key: Opened, size: int, *, objects: int = 1) -> AbstractContextManager[None]:
    """Take what protecting `size` bytes of some objects costs off an object's Usage Limits, and give it back where that
    fails; the later parts of a stream are no objects more.

    Raises `KMIPError` (Permission Denied: 2.1, 6.1.17) where less is left.
    """
    if managed.usage_remaining is None:
        return _UNLIMITED
    return _allocation(managed, size if key.unit == UsageLimitsUnit.BYTE else objects)


_UNLIMITED: Final = nullcontext()


@contextmanager
def _allocation(managed: Managed, amount: int) -> Iterator[None]:
    if amount and not store.count_down(managed.key, amount):
        raise KMIPError(ResultReason.PERMISSION_DENIED, "less than that is left of the object's Usage Limits")
    try:
        yield
    except KMIPError:
        if amount:
            store.count_down(managed.key, -amount)
        raise


def draw(managed: Managed) -> None:
    """Take one object off the Usage Limits of an object that is locked and about to be saved; raises `KMIPError`."""
    if managed.usage_remaining is None:
        return
    limits = managed.attributes.usage_limits
    if limits.usage_limits_unit == UsageLimitsUnit.OBJECT:
        if managed.usage_remaining < 1:
            raise KMIPError(ResultReason.PERMISSION_DENIED, "nothing is left of the object's Usage Limits")
        limits.usage_limits_count = managed.usage_remaining - 1
