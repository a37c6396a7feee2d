"""`crypto.policy` in every operation that does cryptography: what it does not list is refused wherever it is asked for.

Keys are made under the permissive policy, as old data was; then the policy becomes stricter.
"""

import io

import pytest

from keystore import keeper, streams
from keystore.crypto.algorithms import ML_KEM_768
from keystore.streams import Streams
from kmip.enums import (
    BlockCipherMode,
    DerivationMethod,
    EncodingOption,
    HashingAlgorithm,
    KeyWrapType,
    ObjectType,
    Operation,
    PaddingMethod,
    QueryFunction,
    RecommendedCurve,
    ResultReason,
    WrappingMethod,
)
from kmip.payloads import (
    CertifyRequest,
    CreateKeyPairRequest,
    DecryptRequest,
    DeriveKeyRequest,
    EncryptRequest,
    GetRequest,
    HashRequest,
    ImportRequest,
    MACRequest,
    MACVerifyRequest,
    QueryRequest,
    ReKeyKeyPairRequest,
    SignatureVerifyRequest,
    SignRequest,
)
from kmip.structures import DerivationParameters, EncryptionKeyInformation, KeyWrappingSpecification
from tests.authority import attributes, do, refused, sealed  # noqa: F401 - a fixture among them
from tests.using import A, create, pair, parameters, register, secret, wanted

B, C, D, H, O, P = (  # noqa: E741 - one letter like the other enumerations
    BlockCipherMode, RecommendedCurve, DerivationMethod, HashingAlgorithm, ObjectType, PaddingMethod
)  # fmt: skip
Op, R = Operation, ResultReason

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("sealed")]


@pytest.fixture
def under(configure):
    """Change the policy."""
    configure(**{"crypto.policy": "permissive"})
    return lambda name, **lists: configure(**{"crypto.policy": name, **{f"crypto.{one}": lists[one] for one in lists}})


def made(**given):
    return CreateKeyPairRequest(common_attributes=wanted(**given))


def encrypts(uid, data=b"x" * 16, **given):
    return EncryptRequest(unique_identifier=uid, data=data, cryptographic_parameters=parameters(**given))


def signs(uid, **given):
    return SignRequest(unique_identifier=uid, data=b"x", cryptographic_parameters=parameters(**given))


def derives(method, *uids, given=None, **more):
    return DeriveKeyRequest(
        object_type=O.SECRET_DATA,
        unique_identifier=list(uids),
        derivation_method=method,
        derivation_parameters=DerivationParameters(cryptographic_parameters=given, **more),
        attributes=wanted(length=128),
    )


def wraps(key, kek, given):
    specification = KeyWrappingSpecification(
        wrapping_method=WrappingMethod.ENCRYPT,
        encryption_key_information=EncryptionKeyInformation(unique_identifier=kek, cryptographic_parameters=given),
        encoding_option=EncodingOption.NO_ENCODING,
    )
    return GetRequest(unique_identifier=key, key_wrapping_specification=specification)


CBC = {"block_cipher_mode": B.CBC, "padding_method": P.PKCS5, "random_iv": True}

#: What neither policy lets protect: operation, and what makes its request under the permissive policy.
PROTECTING = {
    "a pair on a small curve": (Op.CREATE_KEY_PAIR, lambda: made(algorithm=A.ECDSA, length=192)),
    "a small RSA pair": (Op.CREATE_KEY_PAIR, lambda: made(algorithm=A.RSA, length=1024)),
    "a small RSA pair again": (
        Op.RE_KEY_KEY_PAIR,
        lambda: ReKeyKeyPairRequest(private_key_unique_identifier=pair(A.RSA, 1024)[0]),
    ),
    "a certificate for a small key": (
        Op.CERTIFY,
        lambda: CertifyRequest(attributes=attributes("small", algorithm=A.RSA, length=1024)),
    ),
    "a legacy cipher": (Op.ENCRYPT, lambda: encrypts(create(A.DES3, 192), **CBC)),
    "a small public key": (Op.ENCRYPT, lambda: encrypts(pair(A.RSA, 1024)[1], padding_method=P.OAEP)),
    "a legacy hash in a signature": (
        Op.SIGN,
        lambda: signs(pair(A.RSA, 2048)[0], padding_method=P.PKCS1_V1_5, hashing_algorithm=H.MD5),
    ),
    "SHA-1 in a signature": (Op.SIGN, lambda: signs(pair(A.EC, curve=C.P_256)[0], hashing_algorithm=H.SHA_1)),
    "a legacy hash in the mask of a signature": (
        Op.SIGN,
        lambda: signs(pair(A.RSA, 2048)[0], padding_method=P.PSS, mask_generator_hashing_algorithm=H.MD5),
    ),
    "a signature on a small curve": (Op.SIGN, lambda: signs(pair(A.EC, curve=C.P_192)[0])),
    "a legacy MAC": (Op.MAC, lambda: MACRequest(unique_identifier=create(A.HMAC_MD5, 128), data=b"x")),
    "a MAC of a legacy cipher": (Op.MAC, lambda: MACRequest(unique_identifier=create(A.DES3, 192), data=b"x")),
    "a legacy hash": (
        Op.HASH,
        lambda: HashRequest(data=b"x", cryptographic_parameters=parameters(hashing_algorithm=H.MD5)),
    ),
    "a legacy hash in a derivation": (
        Op.DERIVE_KEY,
        lambda: derives(D.HASH, secret(b"x" * 16), given=parameters(hashing_algorithm=H.MD5)),
    ),
    "a legacy cipher in a derivation": (
        Op.DERIVE_KEY,
        lambda: derives(D.ENCRYPT, create(A.DES3, 192), derivation_data=[bytes(16)], given=parameters(**CBC)),
    ),
    "key agreement on a small curve": (
        Op.DERIVE_KEY,
        lambda: derives(D.ASYMMETRIC_KEY, pair(A.ECDH, curve=C.P_192)[0], pair(A.ECDH, curve=C.P_192)[1]),
    ),
    "wrapping by a legacy cipher": (
        Op.GET,
        lambda: wraps(create(length=128), create(A.DES3, 192), parameters(**CBC)),
    ),
    "wrapping by a small key": (Op.GET, lambda: wraps(create(length=128), pair(A.RSA, 1024)[1], None)),
}


@pytest.mark.parametrize("policy", ["default", "fips-140-3"])
@pytest.mark.parametrize("name", PROTECTING)
def test_what_no_policy_protects_with_is_refused_and_the_permissive_one_does_it(under, policy, name):
    """The very same request, before and after."""
    operation, make = PROTECTING[name]
    request = make()
    do(operation, request)
    under(policy)
    assert f"crypto.policy '{policy}'" in refused(R.PERMISSION_DENIED, operation, request)


FIPS = {
    "ChaCha20-Poly1305": (Op.ENCRYPT, lambda: encrypts(create(A.CHACHA20POLY1305, 256), block_cipher_mode=B.AEAD)),
    "PKCS #1 v1.5 encryption": (Op.ENCRYPT, lambda: encrypts(pair(A.RSA, 2048)[1], padding_method=P.PKCS1_V1_5)),
    "secp256k1": (Op.SIGN, lambda: signs(pair(A.EC, curve=C.SECP256K1)[0])),
    "brainpool": (Op.SIGN, lambda: signs(pair(A.EC, curve=C.BRAINPOOLP256R1)[0])),
    "X25519": (
        Op.DERIVE_KEY,
        lambda: derives(D.ASYMMETRIC_KEY, pair(A.ECDH, curve=C.CURVE25519)[0], pair(A.ECDH, curve=C.CURVE25519)[1]),
    ),
    "ECIES on X25519": (Op.ENCRYPT, lambda: encrypts(pair(A.ECDH, curve=C.CURVE25519)[1])),
    "a short HMAC key": (Op.MAC, lambda: MACRequest(unique_identifier=create(A.HMAC_SHA256, 80), data=b"x")),
    "BLAKE2": (
        Op.HASH,
        lambda: HashRequest(data=b"x", cryptographic_parameters=parameters(hashing_algorithm=H(0x80000001))),
    ),
}


@pytest.mark.parametrize("name", FIPS)
def test_what_fips_140_3_does_not_approve_is_refused_under_its_policy_alone(under, name):
    operation, make = FIPS[name]
    request = make()
    under("default")
    do(operation, request)
    under("fips-140-3")
    refused(R.PERMISSION_DENIED, operation, request)


def test_old_data_stays_readable_under_the_default_policy(under):
    """RSA of 1024 bits decrypts and verifies, SHA-1 and DSA verify; a legacy cipher does not decrypt."""
    private, public = pair(A.RSA, 1024)
    sealed_ = do(Op.ENCRYPT, encrypts(public, padding_method=P.OAEP)).data
    given = parameters(padding_method=P.PKCS1_V1_5, hashing_algorithm=H.SHA_1)
    signature = do(Op.SIGN, SignRequest(unique_identifier=private, data=b"x", cryptographic_parameters=given))
    old = create(A.DES3, 192)
    text = do(Op.ENCRYPT, encrypts(old, **CBC))
    under("default")
    opens = DecryptRequest(
        unique_identifier=private, data=sealed_, cryptographic_parameters=parameters(padding_method=P.OAEP)
    )
    assert do(Op.DECRYPT, opens).data == b"x" * 16
    verifies = SignatureVerifyRequest(
        unique_identifier=public, data=b"x", signature_data=signature.signature_data, cryptographic_parameters=given
    )
    assert do(Op.SIGNATURE_VERIFY, verifies).validity_indicator.name == "VALID"
    request = DecryptRequest(
        unique_identifier=old,
        data=text.data,
        iv_counter_nonce=text.iv_counter_nonce,
        cryptographic_parameters=parameters(**CBC),
    )
    refused(R.PERMISSION_DENIED, Op.DECRYPT, request)


def test_a_policy_holds_for_mac_verify_and_for_unwrapping(under):
    """Reading, but by means that nobody should have used."""
    key = create(A.HMAC_MD5, 128)
    code = do(Op.MAC, MACRequest(unique_identifier=key, data=b"x")).mac_data
    kek = create(A.DES3, 192)
    block = do(Op.GET, wraps(create(length=128), kek, parameters(**CBC))).symmetric_key
    under("default")
    request = MACVerifyRequest(unique_identifier=key, data=b"x", mac_data=code)
    refused(R.PERMISSION_DENIED, Op.MAC_VERIFY, request)
    request = ImportRequest(
        unique_identifier="unwrapped",
        object_type=O.SYMMETRIC_KEY,
        key_wrap_type=KeyWrapType.NOT_WRAPPED,
        attributes=wanted(),
        symmetric_key=block,
    )
    refused(R.PERMISSION_DENIED, Op.IMPORT, request)


def test_a_policy_holds_for_parts(under, monkeypatch):
    """For the first part, and for a stream that began before the policy changed, as it did then."""
    monkeypatch.setattr(streams, "_keeper", Streams(8, 60))
    key = create(A.DES3, 192)
    request = EncryptRequest(
        unique_identifier=key, data=b"x", cryptographic_parameters=parameters(**CBC), init_indicator=True
    )
    assert do(Op.ENCRYPT, request).correlation_value
    under("default")
    refused(R.PERMISSION_DENIED, Op.ENCRYPT, request)


def test_keys_of_every_cipher_are_made_and_given_out_under_every_policy(under):
    """The Symmetric Key Foundry profile asks for it; only services with them are refused."""
    for policy in ("default", "fips-140-3"):
        under(policy)
        for algorithm, length in ((A.DES3, 192), (A.SKIPJACK, 80), (A.RC4, 128), (A.BLOWFISH, 448)):
            assert do(Op.GET, GetRequest(unique_identifier=create(algorithm, length))).symmetric_key
        register(bytes(10), A.SKIPJACK)


def test_post_quantum_pairs_are_made_under_the_stricter_policies(under):
    for policy in ("default", "fips-140-3"):
        under(policy)
        _, public = pair(ML_KEM_768)
        assert len(do(Op.ENCRYPT, EncryptRequest(unique_identifier=public, data=b"")).data) == 32


def told():
    request = QueryRequest(query_function=[QueryFunction.QUERY_SERVER_INFORMATION])
    return do(Op.QUERY, request).server_information.product_name


def test_query_tells_the_policy(under):
    for policy in ("default", "fips-140-3", "permissive"):
        under(policy)
        assert told().endswith(f"crypto.policy {policy}")


def test_lists_shorten_the_policy_for_every_operation_and_query_tells_them(under):
    key, other = create(), create(A.CHACHA20POLY1305, 256)
    under("default", algorithms=("AES",), modes=("GCM",), key_sizes=("AES:256",))
    do(Op.ENCRYPT, encrypts(key, block_cipher_mode=B.GCM))
    for request in (encrypts(other), encrypts(key, **CBC), encrypts(create(length=128), block_cipher_mode=B.GCM)):
        refused(R.PERMISSION_DENIED, Op.ENCRYPT, request)
    refused(R.PERMISSION_DENIED, Op.CREATE_KEY_PAIR, made(algorithm=A.RSA, length=2048))
    assert told().endswith("crypto.policy default with algorithms AES and key_sizes AES:256 and modes GCM only")


def test_lists_hold_for_parts_in_the_keeper(under, monkeypatch):
    """Its process is told of them with each stream."""
    monkeypatch.setattr(streams, "_keeper", Told())
    key = create()
    parts = {"unique_identifier": key, "data": b"x" * 16, "init_indicator": True}
    given = parameters(block_cipher_mode=B.CTR, random_iv=True)
    under("default", modes=("GCM",))
    refused(R.PERMISSION_DENIED, Op.ENCRYPT, EncryptRequest(**parts, cryptographic_parameters=given))
    given = parameters(block_cipher_mode=B.GCM, random_iv=True)
    assert do(Op.ENCRYPT, EncryptRequest(**parts, cryptographic_parameters=given)).correlation_value


class Told(Streams):
    """Streams that get their tasks as the keeper does: in a frame."""

    def __init__(self):
        super().__init__(8, 60)

    def begin(self, client, uid, task, data):
        frame = io.BytesIO()
        keeper.write(frame, keeper._fields_of(task))
        frame.seek(0)
        return super().begin(client, uid, keeper._task_of(keeper.read(frame)), data)
