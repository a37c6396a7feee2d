"""Keys opened for use: what the cryptographic room is given of a managed object.

A key that was opened stays in memory, bounded in number and age, by identifier and row version. Who uses it has read
the row's version, state and rights from the database before, so that a change on another node counts at once.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from keystore import objects, store, tokenkeys
from keystore.crypto import certificates, keys
from keystore.crypto.algorithms import PrivateKey, PublicKey
from keystore.crypto.ciphers import Secret
from keystore.store import Managed
from kmip.enums import CryptographicAlgorithm, ObjectType, ResultReason, UsageLimitsUnit
from kmip.errors import KMIPError
from kmip.objects import Certificate, KeyBlock, KeyValue
from kmip.structures import CryptographicParameters
from kmip.tags import Tag

O = ObjectType  # noqa: E741 - one letter like the other enumerations


@dataclass(frozen=True, slots=True)
class Opened:
    """A key, and what its object says of how it is used."""

    key: Secret | PrivateKey | PublicKey = field(repr=False)
    algorithm: CryptographicAlgorithm | None = None
    #: The parameters of lowest index.
    parameters: CryptographicParameters | None = None
    #: What Usage Limits count, where there are any.
    unit: UsageLimitsUnit | None = None


def key_of(managed: Managed) -> Opened:
    """The key in an object; raises `KMIPError` for one that holds none which can be used here."""
    return cast(Opened, store.opened_keys.get(managed.key, managed.version, lambda: _open(managed)))


class WrappedError(KMIPError):
    """A key is kept wrapped, and nobody has said how to unwrap it."""


def unwrapped(managed: Managed, unwrap: Callable[[KeyBlock], None]) -> Opened:
    """The key in an object that keeps it wrapped. It is kept nowhere: its wrapping key may be revoked, too."""
    return _open(managed, unwrap)


def private_key_of(managed: Managed) -> PrivateKey:
    """The private key in a Private Key object; raises `KMIPError`."""
    found = key_of(managed).key if managed.object_type == O.PRIVATE_KEY else None
    if not isinstance(found, PrivateKey):
        raise KMIPError(ResultReason.INVALID_OBJECT_TYPE, f"{managed.object_type} is no private key")
    return found


def public_key_of(managed: Managed) -> PublicKey:
    """The public key in a Public Key or Certificate object; raises `KMIPError`."""
    found = key_of(managed).key if managed.object_type in (O.PUBLIC_KEY, O.CERTIFICATE) else None
    if not isinstance(found, PublicKey):
        raise KMIPError(ResultReason.INVALID_OBJECT_TYPE, f"{managed.object_type} is no public key")
    return found


def _open(managed: Managed, unwrap: Callable[[KeyBlock], None] | None = None) -> Opened:
    attributes = managed.attributes
    key, algorithm = material(managed, unwrap)
    limits = attributes.usage_limits
    return Opened(
        key,
        algorithm,
        attributes.first(Tag.CRYPTOGRAPHIC_PARAMETERS),
        limits.usage_limits_unit if limits is not None else None,
    )


def material(
    managed: Managed, unwrap: Callable[[KeyBlock], None] | None = None
) -> tuple[Secret | PrivateKey | PublicKey, CryptographicAlgorithm | None]:
    """The key in an object and its algorithm, read anew."""
    attributes = managed.attributes
    stored = managed.material
    if stored is not None and tokenkeys.is_reference(stored):
        key, algorithm = tokenkeys.opened(stored)
        return key, attributes.cryptographic_algorithm or algorithm
    managed_object = objects.load(managed.object_type, objects.present(stored))
    if isinstance(managed_object, Certificate):
        found = certificates.read(managed_object.certificate_value).key
        if found is None:
            raise KMIPError(ResultReason.INVALID_OBJECT_TYPE, "the certificate's key is of no known algorithm")
        return keys.load_public(found.data), found.algorithm
    object_type = managed.object_type
    block = objects.key_block(managed_object)
    if block is None or object_type not in _KEYS:
        raise KMIPError(ResultReason.INVALID_OBJECT_TYPE, f"{object_type} is not a key that the server uses")
    if block.key_wrapping_data is not None:
        if unwrap is None:
            raise WrappedError(ResultReason.INVALID_FIELD, "the key is kept wrapped: the server cannot use it so")
        unwrap(block)
    value = block.key_value
    if not isinstance(value, KeyValue):
        raise KMIPError(ResultReason.KEY_VALUE_NOT_PRESENT, "the server does not hold the material of this object")
    algorithm = block.cryptographic_algorithm or attributes.cryptographic_algorithm
    domain = attributes.cryptographic_domain_parameters
    found = keys.read(
        object_type,
        block.key_format_type,
        cast(Any, value.key_material),
        algorithm=algorithm,
        curve=domain.recommended_curve if domain is not None else None,
    )
    if object_type == O.PRIVATE_KEY:
        return keys.load_private(found.data), found.algorithm
    if object_type == O.PUBLIC_KEY:
        return keys.load_public(found.data), found.algorithm
    return found.data, algorithm


_KEYS = frozenset({O.SYMMETRIC_KEY, O.SECRET_DATA, O.PRIVATE_KEY, O.PUBLIC_KEY})
