"""Derive Key: new keys and secrets from the ones that are here (2.1, 6.1.14)."""

from typing import Any, Final, NamedTuple

from keystore import objects, opened, store, uses
from keystore.call import Call, operation
from keystore.crypto import derivation
from keystore.crypto.algorithms import PrivateKey, PublicKey
from keystore.operations.create import asked, chosen_uid, new
from keystore.store import Managed
from kmip.attributes import Attributes
from kmip.enums import CryptographicUsageMask as Mask
from kmip.enums import DerivationMethod, KeyFormatType, LinkType, ObjectType, Operation, ResultReason, SecretDataType
from kmip.errors import KMIPError
from kmip.payloads import DeriveKeyRequest, DeriveKeyResponse
from kmip.structures import DerivationParameters, Link

O = ObjectType  # noqa: E741 - one letter like the other enumerations

#: What can be derived from, by method.
_BASES: Final = frozenset({O.SYMMETRIC_KEY, O.SECRET_DATA})
_HALVES: Final = frozenset({O.PRIVATE_KEY, O.PUBLIC_KEY})
#: More objects than any method has a use for.
MOST_BASES: Final = 8


class Derived(NamedTuple):
    """What was derived, the attributes asked for it, and the versions of the objects that it was derived from."""

    material: bytes
    attributes: Attributes
    versions: list[int]


def derive_before(call: Call, request: DeriveKeyRequest) -> Derived | None:
    """Derive before the transaction, since PBKDF2 may take seconds; None where that is not possible yet, as when an
    earlier item of the batch makes the key."""
    try:
        return _derived(call, request, _bases(call, request, change=False))
    except KMIPError:
        return None


@operation(Operation.DERIVE_KEY, prepare=derive_before)
def derive_key(call: Call, request: DeriveKeyRequest) -> DeriveKeyResponse:
    """Derive a symmetric key or secret data; the objects are linked to one another (KMIP 2.1, 6.1.14)."""
    bases = _bases(call, request, change=True)
    for base in bases:
        uses.draw(base)
    derived: Derived | None = call.prepared
    if derived is None or derived.versions != [base.version for base in bases]:
        derived = _derived(call, request, bases)
    # A repeated attempt starts from the same material with attributes of its own.
    attributes = derived.attributes.copy()
    if request.object_type == O.SYMMETRIC_KEY and attributes.cryptographic_algorithm is None:
        raise KMIPError(ResultReason.INVALID_FIELD, "a derived key needs a Cryptographic Algorithm")
    if attributes.cryptographic_usage_mask is None:
        secret = request.object_type == O.SECRET_DATA
        attributes.cryptographic_usage_mask = 0 if secret else int(Mask.ENCRYPT | Mask.DECRYPT)
    attributes.link = [*attributes.link, *(_link(LinkType.DERIVATION_BASE_OBJECT_LINK, base.uid) for base in bases)]
    managed_object = objects.keyed(
        request.object_type,
        derived.material,
        KeyFormatType.RAW,
        attributes.cryptographic_algorithm,
        attributes.cryptographic_length,
        **({"secret_data_type": SecretDataType.SEED} if request.object_type == O.SECRET_DATA else {}),
    )
    uid = chosen_uid(attributes)
    store.save(new(call, request.object_type, uid, managed_object, attributes, generated=True))
    for base in bases:
        base.attributes.link = [*base.attributes.link, _link(LinkType.DERIVED_KEY_LINK, uid)]
        base.attributes.last_change_date = call.now
        store.save(base)
    call.returns(uid)
    return DeriveKeyResponse(unique_identifier=uid)


def _link(kind: LinkType, uid: str) -> Link:
    return Link(link_type=kind, linked_object_identifier=uid)


def _bases(call: Call, request: DeriveKeyRequest, *, change: bool) -> list[Managed]:
    """The objects to derive from, each allowed to be used so now."""
    named = request.unique_identifier
    if not 0 < len(named) <= MOST_BASES:
        raise KMIPError(ResultReason.INVALID_FIELD, f"a key is derived from 1 to {MOST_BASES} objects")
    agree = request.derivation_method == DerivationMethod.ASYMMETRIC_KEY
    bases: list[Managed] = []
    for identifier in named:
        base = call.live(identifier, change=change)
        uses.check(base, Mask.KEY_AGREEMENT if agree else Mask.DERIVE_KEY, _HALVES if agree else _BASES, call.now)
        if base.uid in [one.uid for one in bases]:
            raise KMIPError(ResultReason.INVALID_FIELD, "an object is named twice")
        bases.append(base)
    return bases


def _derived(call: Call, request: DeriveKeyRequest, bases: list[Managed]) -> Derived:
    if request.object_type not in _BASES:
        raise KMIPError(ResultReason.INVALID_FIELD, f"{request.object_type} cannot be derived")
    attributes = asked(call, request.object_type, request.attributes)
    length = attributes.cryptographic_length
    if request.derivation_method == DerivationMethod.ASYMMETRIC_KEY:
        material = _agreed(call, length, bases)
    else:
        material = _from_secret(call, request, length, bases)
    return Derived(material, attributes, [base.version for base in bases])


def _agreed(call: Call, length: int | None, bases: list[Managed]) -> bytes:
    private = [key for base in bases if isinstance(key := opened.key_of(base).key, PrivateKey)]
    public = [key for base in bases if isinstance(key := opened.key_of(base).key, PublicKey)]
    if len(private) != 1 or len(public) != 1:
        raise KMIPError(ResultReason.INVALID_FIELD, "key agreement needs one private and one public key")
    return derivation.agree(length, private[0], public[0], policy=call.crypto_policy)


def _from_secret(call: Call, request: DeriveKeyRequest, length: int | None, bases: list[Managed]) -> bytes:
    """The first object is the derivation key; Secret Data beside it is the derivation data (2.1, 7.12)."""
    given: DerivationParameters = request.derivation_parameters
    data = list(given.derivation_data)
    first, *others = (opened.key_of(base) for base in bases)
    if others:
        if data or any(base.object_type != O.SECRET_DATA for base in bases[1:]):
            raise KMIPError(
                ResultReason.INVALID_FIELD,
                "what is beside the derivation key is Secret Data in place of Derivation Data",
            )
        data = [_bytes(one.key) for one in others]
    return derivation.derive(
        request.derivation_method,
        length,
        _bytes(first.key),
        algorithm=first.algorithm,
        parameters=given.cryptographic_parameters or first.parameters,
        data=data,
        salt=given.salt,
        iterations=given.iteration_count,
        iv=given.initialization_vector,
        policy=call.crypto_policy,
    )


def _bytes(key: Any) -> bytes:
    if not isinstance(key, bytes):
        raise KMIPError(ResultReason.NOT_EXTRACTABLE, "the key is in a token: nothing is derived from it here")
    return key
