"""Derive Key through the engine. The methods have their vectors in `crypto`; here it is inputs, outputs and rules."""

import hashlib
import hmac
import time

import pytest
from cryptography.hazmat.primitives.asymmetric import x25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from keystore import store
from keystore.models import Grant, ManagedObject
from kmip.enums import (
    DerivationMethod,
    HashingAlgorithm,
    KeyFormatType,
    LinkType,
    ObjectType,
    Operation,
    ResultReason,
    UsageLimitsUnit,
)
from kmip.objects import KeyBlock, KeyValue, PrivateKey, PublicKey
from kmip.payloads import DeriveKeyRequest, RegisterRequest
from kmip.structures import DerivationParameters, UsageLimits
from tests.authority import do, refused, sealed, seen  # noqa: F401 - a fixture among them
from tests.made import material
from tests.using import A, M, create, parameters, revoke, secret, wanted

D, O, R = DerivationMethod, ObjectType, ResultReason  # noqa: E741
SHA_256 = parameters(hashing_algorithm=HashingAlgorithm.SHA_256)

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("sealed")]


def asks(*uids, method=D.HKDF, object_type=O.SYMMETRIC_KEY, length=256, algorithm=A.AES, **given):
    return DeriveKeyRequest(
        object_type=object_type,
        unique_identifier=list(uids),
        derivation_method=method,
        derivation_parameters=DerivationParameters(**given),
        attributes=wanted(algorithm=algorithm, length=length),
    )


def derived(*uids, **given):
    """The material of what is derived."""
    return material(do(Operation.DERIVE_KEY, asks(*uids, **given)).unique_identifier)


def test_hkdf_takes_key_salt_and_information():
    """RFC 5869, A.1, whole as Secret Data, in part as a key."""
    given = {
        "salt": bytes.fromhex("000102030405060708090a0b0c"),
        "derivation_data": [bytes.fromhex("f0f1f2f3f4f5f6f7f8f9")],
    }
    output = "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    uid = secret(bytes([0x0B] * 22))
    assert derived(uid, object_type=O.SECRET_DATA, algorithm=None, length=336, **given).hex() == output
    assert derived(uid, length=128, **given).hex() == output[:32]


def test_pbkdf2_takes_a_password():
    """As the standard library has it."""
    key = derived(secret(b"password"), method=D.PBKDF2, length=128, salt=b"salt", iteration_count=3)
    assert key == hashlib.pbkdf2_hmac("sha1", b"password", b"salt", 3, 16)


def test_secret_data_stands_for_derivation_data():
    """A second object is the data; with Derivation Data besides, or as a key, it is refused."""
    key, data = create(A.HMAC_SHA256, 256), secret(b"label")
    both = (key, data)
    expected = hmac.digest(material(key), b"label", "sha256")
    assert derived(*both, method=D.HMAC) == expected
    assert derived(key, method=D.HMAC, derivation_data=[b"la", b"bel"]) == expected
    refused(R.INVALID_FIELD, Operation.DERIVE_KEY, asks(*both, method=D.HMAC, derivation_data=[b"label"]))
    refused(R.INVALID_FIELD, Operation.DERIVE_KEY, asks(key, create(), method=D.HMAC))


def halves():
    """A private key for agreement, the public key of another, and the secret that they share."""
    private, other = x25519.X25519PrivateKey.generate(), x25519.X25519PrivateKey.generate()
    uids = []
    for object_type, kind, format_, der in (
        (O.PRIVATE_KEY, PrivateKey, KeyFormatType.PKCS_8,
         private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())),
        (O.PUBLIC_KEY, PublicKey, KeyFormatType.X_509,
         other.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)),
    ):  # fmt: skip
        block = KeyBlock(key_format_type=format_, key_value=KeyValue(key_material=der), cryptographic_algorithm=A.ECDH)
        request = RegisterRequest(object_type=object_type, attributes=wanted(mask=M.KEY_AGREEMENT))
        setattr(request, object_type.name.lower(), kind(key_block=block))
        uids.append(do(Operation.REGISTER, request).unique_identifier)
    return *uids, private.exchange(other.public_key())


def test_a_private_and_a_public_key_agree_on_a_key():
    """X25519, in either order; two of a kind agree on nothing."""
    private, public, shared = halves()
    assert derived(private, public, method=D.ASYMMETRIC_KEY) == shared
    assert derived(public, private, method=D.ASYMMETRIC_KEY, length=128) == shared[:16]
    refused(R.INVALID_FIELD, Operation.DERIVE_KEY, asks(private, method=D.ASYMMETRIC_KEY))
    refused(R.INVALID_OBJECT_TYPE, Operation.DERIVE_KEY, asks(create(), public, method=D.ASYMMETRIC_KEY))


def test_base_and_derived_object_are_linked():
    """Each names the other, and the derived one is made, not brought along."""
    base = create()
    uid = do(Operation.DERIVE_KEY, asks(base)).unique_identifier
    to_base, to_derived = seen(uid).link[0], seen(base).link[0]
    assert (to_base.link_type, to_base.linked_object_identifier) == (LinkType.DERIVATION_BASE_OBJECT_LINK, base)
    assert (to_derived.link_type, to_derived.linked_object_identifier) == (LinkType.DERIVED_KEY_LINK, uid)
    assert seen(uid).original_creation_date is not None
    assert len(material(uid)) == 32


REFUSED = {
    "no length": (R.INVALID_FIELD, {"length": None}),
    "half a byte": (R.INVALID_FIELD, {"length": 12}),
    "more than HKDF gives": (R.CRYPTOGRAPHIC_FAILURE, {"length": 8 * (255 * 32 + 1)}),
    "no algorithm": (R.INVALID_FIELD, {"algorithm": None}),
    "no key": (R.INVALID_FIELD, {"object_type": O.PRIVATE_KEY}),
    "no hash": (R.BAD_CRYPTOGRAPHIC_PARAMETERS, {"method": D.HASH}),
    "no salt": (R.MISSING_DATA, {"method": D.PBKDF2}),
    "endless": (R.INVALID_FIELD, {"method": D.PBKDF2, "salt": b"x", "iteration_count": 2**31 - 1}),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_derived_is_refused_and_leaves_nothing(case):
    """Neither an object nor a link."""
    reason, given = REFUSED[case]
    uid = create()
    before = ManagedObject.objects.count()
    refused(reason, Operation.DERIVE_KEY, asks(uid, **given))
    assert ManagedObject.objects.count() == before
    assert not seen(uid).link


def test_deriving_needs_an_active_key_with_the_bit_and_the_right():
    """State, dates, usage mask and grants count as for any use that protects."""
    refused(
        R.INCOMPATIBLE_CRYPTOGRAPHIC_USAGE_MASK,
        Operation.DERIVE_KEY,
        asks(create(mask=~int(M.DERIVE_KEY | M.UNRESTRICTED) & 0xFFFFF)),
    )
    refused(R.WRONG_KEY_LIFECYCLE_STATE, Operation.DERIVE_KEY, asks(create(active=False)))
    late = create(protect_stop_date=int(time.time()) - 60)
    refused(R.WRONG_KEY_LIFECYCLE_STATE, Operation.DERIVE_KEY, asks(late))
    uid = create()
    refused(R.OBJECT_NOT_FOUND, Operation.DERIVE_KEY, asks(uid), user="eve")
    Grant.objects.create(object_id=uid, namespace="default", principal="user:eve", operations=1 << Operation.GET)
    refused(R.PERMISSION_DENIED, Operation.DERIVE_KEY, asks(uid), user="eve")
    revoke(uid)
    refused(R.WRONG_KEY_LIFECYCLE_STATE, Operation.DERIVE_KEY, asks(uid))
    refused(R.INVALID_FIELD, Operation.DERIVE_KEY, asks())
    twice = create()
    refused(R.INVALID_FIELD, Operation.DERIVE_KEY, asks(twice, twice))


def test_a_derivation_draws_on_usage_limits():
    """One object each; then it is refused."""
    limits = UsageLimits(usage_limits_total=1, usage_limits_unit=UsageLimitsUnit.OBJECT)
    uid = create(usage_limits=limits)
    derived(uid)
    assert seen(uid).usage_limits.usage_limits_count == 0
    refused(R.PERMISSION_DENIED, Operation.DERIVE_KEY, asks(uid))


def test_what_was_derived_before_the_transaction_is_of_the_keys_as_they_are(monkeypatch):
    """A key that changes in between is derived from anew."""
    uid = create()
    from keystore.operations import derivation

    calls = []
    plain = derivation._derived

    def derive(call, request, bases):
        calls.append([base.version for base in bases])
        made = plain(call, request, bases)
        if len(calls) == 1:
            store.save(bases[0])
        return made

    monkeypatch.setattr(derivation, "_derived", derive)
    assert len(derived(uid)) == 32
    (before,), (after,) = calls
    assert after > before
