"""Cryptographic services through the engine: who may use which key, when, for what, and what comes back."""

import os
import time

import pytest

from benchmarks.messages import message
from keystore import engine, store
from keystore.authn import Peer
from keystore.crypto import algorithms
from keystore.models import Grant
from kmip import ttlv
from kmip.enums import (
    BatchErrorContinuationOption,
    BlockCipherMode,
    DataEnumeration,
    HashingAlgorithm,
    Operation,
    PaddingMethod,
    RecommendedCurve,
    ResultReason,
    ResultStatus,
    UsageLimitsUnit,
    ValidityIndicator,
)
from kmip.errors import KMIPError
from kmip.messages import ResponseMessage
from kmip.payloads import (
    ActivateRequest,
    DecryptRequest,
    DestroyRequest,
    EncryptRequest,
    EncryptResponse,
    GetAttributesRequest,
    HashRequest,
    HashResponse,
    MACRequest,
    MACVerifyRequest,
    QueryRequest,
    RNGRetrieveRequest,
    RNGSeedRequest,
    SignatureVerifyRequest,
    SignRequest,
)
from kmip.structures import UsageLimits
from kmip.versions import V1_2, V1_3, V1_4, V2_1
from tests.authority import certified, do, links, refused, root, sealed  # noqa: F401 - a fixture among them
from tests.using import A, M, create, pair, parameters, register, revoke, secret

R, V = ResultReason, ValidityIndicator
CBC = parameters(block_cipher_mode=BlockCipherMode.CBC, padding_method=PaddingMethod.PKCS5)
GCM = parameters(block_cipher_mode=BlockCipherMode.GCM, tag_length=16, iv_length=96)
SHA_256 = parameters(hashing_algorithm=HashingAlgorithm.SHA_256)

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("sealed")]


def encrypt(uid, data=b"attack at dawn", version=V2_1, user="alice", **others):
    return do(Operation.ENCRYPT, EncryptRequest(unique_identifier=uid, data=data, **others), user, version)


def decrypt(uid, done, version=V2_1, user="alice", **others):
    """The plaintext of what `encrypt` returned."""
    others.setdefault("iv_counter_nonce", done.iv_counter_nonce)
    others.setdefault("authenticated_encryption_tag", done.authenticated_encryption_tag)
    request = DecryptRequest(unique_identifier=uid, data=done.data, **others)
    return do(Operation.DECRYPT, request, user, version).data


def sign(uid, data=b"attack at dawn", **others):
    return do(Operation.SIGN, SignRequest(unique_identifier=uid, data=data, **others)).signature_data


def verify(uid, signature, data=b"attack at dawn", **others):
    request = SignatureVerifyRequest(unique_identifier=uid, data=data, signature_data=signature, **others)
    return do(Operation.SIGNATURE_VERIFY, request).validity_indicator


# Encrypt and Decrypt.


def test_without_parameters_it_is_authenticated_under_an_iv_of_the_server():
    """AES-GCM; IV and tag come back, and opening needs both."""
    uid = create()
    done = encrypt(uid, authenticated_encryption_additional_data=b"for bob")
    assert (len(done.iv_counter_nonce), len(done.authenticated_encryption_tag), len(done.data)) == (12, 16, 14)
    assert encrypt(uid).iv_counter_nonce != done.iv_counter_nonce
    assert decrypt(uid, done, authenticated_encryption_additional_data=b"for bob") == b"attack at dawn"
    with pytest.raises(KMIPError) as caught:
        decrypt(uid, done, authenticated_encryption_additional_data=b"for eve")
    assert caught.value.reason == R.CRYPTOGRAPHIC_FAILURE


@pytest.mark.parametrize("version", [V1_2, V1_3, V1_4, V2_1], ids=str)
def test_the_tag_is_the_end_of_the_data_where_it_has_no_field(version):
    """Before 1.4 the tag follows the ciphertext, there and back."""
    uid = create()
    done = encrypt(uid, version=version, cryptographic_parameters=GCM)
    assert (done.authenticated_encryption_tag is None) == (version < V1_4)
    assert len(done.data) == 14 + (16 if version < V1_4 else 0)
    assert decrypt(uid, done, version, cryptographic_parameters=GCM) == b"attack at dawn"


def test_an_iv_that_the_client_gave_is_not_returned():
    """What the server draws comes back, also where it is asked for by Random IV."""
    uid = create()
    assert encrypt(uid, cryptographic_parameters=CBC, iv_counter_nonce=bytes(16)).iv_counter_nonce is None
    random_iv = parameters(block_cipher_mode=BlockCipherMode.CBC, padding_method=PaddingMethod.PKCS5, random_iv=True)
    done = encrypt(uid, cryptographic_parameters=random_iv)
    assert len(done.iv_counter_nonce) == 16
    assert decrypt(uid, done, cryptographic_parameters=random_iv) == b"attack at dawn"


def test_parameters_of_the_request_come_before_the_key_s():
    """The key says CBC; a request that says ECB gets that."""
    uid = register(bytes(16), parameters=CBC)
    assert len(encrypt(uid).iv_counter_nonce) == 16
    ecb = parameters(block_cipher_mode=BlockCipherMode.ECB)
    done = encrypt(uid, bytes(16), cryptographic_parameters=ecb)
    # The hash key H of the first test case of GCM (McGrew and Viega, appendix B): zeros under a key of zeros.
    assert done.data.hex() == "66e94bd4ef8a2c3b884cfa59ca342b2e"


def test_parameters_that_name_another_algorithm_than_the_key_s_are_refused():
    """A key is used with its own algorithm only."""
    request = EncryptRequest(
        unique_identifier=create(), data=b"x", cryptographic_parameters=parameters(cryptographic_algorithm=A.CAMELLIA)
    )
    refused(R.BAD_CRYPTOGRAPHIC_PARAMETERS, Operation.ENCRYPT, request)


def test_data_is_needed_and_may_be_empty():
    """Nothing is no data; zero bytes are."""
    uid = create()
    refused(R.MISSING_DATA, Operation.ENCRYPT, EncryptRequest(unique_identifier=uid))
    assert decrypt(uid, encrypt(uid, b"")) == b""


def test_decrypting_without_the_iv_is_an_invalid_message():
    """The IV is not stored here (OASIS cases CS-BC-M-11 to -13)."""
    uid = create()
    request = DecryptRequest(unique_identifier=uid, data=bytes(16), cryptographic_parameters=CBC)
    refused(R.INVALID_MESSAGE, Operation.DECRYPT, request)


PUBLIC_KEYS = {
    "RSA": {"algorithm": A.RSA, "length": 2048},
    "ECIES": {"algorithm": A.ECDH, "curve": RecommendedCurve.P_256},
    "X25519": {"algorithm": A.ECDH, "curve": RecommendedCurve.CURVE25519},
}


@pytest.mark.parametrize("options", PUBLIC_KEYS.values(), ids=PUBLIC_KEYS)
def test_a_public_key_encrypts_for_its_private_key(options):
    """Without parameters: OAEP for RSA, ECIES for curves."""
    private, public = pair(**options)
    assert decrypt(private, encrypt(public)) == b"attack at dawn"
    refused(R.INVALID_OBJECT_TYPE, Operation.ENCRYPT, EncryptRequest(unique_identifier=private, data=b"x"))
    refused(R.INVALID_OBJECT_TYPE, Operation.DECRYPT, DecryptRequest(unique_identifier=public, data=b"x"))


def test_encapsulation_gives_a_secret_and_its_encapsulation():
    """ML-KEM: the secret in Data, the encapsulation in IV/Counter/Nonce."""
    private, public = pair(algorithms.ML_KEM_768)
    done = encrypt(public, None)
    opened = do(Operation.DECRYPT, DecryptRequest(unique_identifier=private, data=done.iv_counter_nonce))
    assert opened.data == done.data
    assert len(done.data) == 32


# Sign and verify, MAC, Hash, random bytes.

SIGNERS = {
    "RSA": {"algorithm": A.RSA, "length": 2048},
    "P-256": {"algorithm": A.EC, "curve": RecommendedCurve.P_256},
    "Ed25519": {"algorithm": A.ED25519},
    "ML-DSA-44": {"algorithm": algorithms.ML_DSA_44},
}


@pytest.mark.parametrize("options", SIGNERS.values(), ids=SIGNERS)
def test_a_wrong_signature_is_an_answer(options):
    """Valid for the data, Invalid for any other."""
    private, public = pair(**options)
    signature = sign(private)
    assert verify(public, signature) == V.VALID
    assert verify(public, signature, b"attack at dusk") == V.INVALID
    refused(R.MISSING_DATA, Operation.SIGNATURE_VERIFY, SignatureVerifyRequest(unique_identifier=public, data=b"x"))


def test_a_certificate_verifies_as_its_public_key_does():
    """The certificate object stands for the key in it."""
    issuer = root()
    leaf = certified(issuer, activation_date=int(time.time()) - 60, cryptographic_usage_mask=int(M.VERIFY))
    kinds = {kind.name: uid for kind, uid in links(leaf).items()}
    private = kinds.get("PRIVATE_KEY_LINK")
    assert verify(leaf, sign(private)) == V.VALID


def test_a_digest_is_signed_as_the_data_s_signature_would_be():
    """Digested Data in place of Data; both at once are refused."""
    private, public = pair(A.RSA, 2048)
    digest = do(Operation.HASH, HashRequest(cryptographic_parameters=SHA_256, data=b"attack at dawn")).data
    signature = sign(private, None, digested_data=digest, cryptographic_parameters=SHA_256)
    assert verify(public, signature, cryptographic_parameters=SHA_256) == V.VALID
    both = SignRequest(unique_identifier=private, data=b"x", digested_data=digest)
    refused(R.INVALID_FIELD, Operation.SIGN, both)


def test_a_mac_is_made_and_verified():
    """HMAC by an HMAC key, by Secret Data with a hash, CMAC by an AES key."""
    for uid, named in ((create(A.HMAC_SHA256, 256), None), (secret(b"pass word"), SHA_256), (create(), None)):
        made = do(Operation.MAC, MACRequest(unique_identifier=uid, data=b"data", cryptographic_parameters=named))
        for data, verdict in ((b"data", V.VALID), (b"date", V.INVALID)):
            request = MACVerifyRequest(
                unique_identifier=uid, data=data, mac_data=made.mac_data, cryptographic_parameters=named
            )
            assert do(Operation.MAC_VERIFY, request).validity_indicator == verdict


def test_random_bytes_are_bounded_and_seeds_not_taken():
    """Of the wanted length, and never the same."""
    first, second = (do(Operation.RNG_RETRIEVE, RNGRetrieveRequest(data_length=32)).data for _ in range(2))
    assert len(first) == len(second) == 32
    assert first != second
    for length in (0, -1, 2**31 - 1):
        refused(R.INVALID_FIELD, Operation.RNG_RETRIEVE, RNGRetrieveRequest(data_length=length))
    assert do(Operation.RNG_SEED, RNGSeedRequest(data=os.urandom(32))).data_length == 0


# Who, when, for what.


def test_another_user_needs_a_grant_for_each_use():
    """Without one the key does not exist; a grant to encrypt does not decrypt."""
    uid = create()
    done = encrypt(uid)
    refused(R.OBJECT_NOT_FOUND, Operation.ENCRYPT, EncryptRequest(unique_identifier=uid, data=b"x"), user="eve")
    Grant.objects.create(object_id=uid, namespace="default", principal="user:bob", operations=1 << Operation.ENCRYPT)
    assert decrypt(uid, encrypt(uid, b"by bob", user="bob")) == b"by bob"
    request = DecryptRequest(unique_identifier=uid, data=done.data, iv_counter_nonce=done.iv_counter_nonce)
    refused(R.PERMISSION_DENIED, Operation.DECRYPT, request, user="bob")


def test_states_protect_less_and_less():
    """Only an active key encrypts; a deactivated or compromised one still decrypts; a destroyed one does nothing."""
    for compromised in (False, True):
        uid = create(active=False)
        request = EncryptRequest(unique_identifier=uid, data=b"x")
        refused(R.WRONG_KEY_LIFECYCLE_STATE, Operation.ENCRYPT, request)
        do(Operation.ACTIVATE, ActivateRequest(unique_identifier=uid))
        done = encrypt(uid)
        revoke(uid, compromised=compromised)
        refused(R.WRONG_KEY_LIFECYCLE_STATE, Operation.ENCRYPT, request)
        assert decrypt(uid, done) == b"attack at dawn"
        do(Operation.DESTROY, DestroyRequest(unique_identifier=uid))
        refused(R.OBJECT_DESTROYED, Operation.DECRYPT, DecryptRequest(unique_identifier=uid, data=done.data))
        # 1.x has no such reason.
        refused(R.OBJECT_DESTROYED, Operation.ENCRYPT, request, version=V1_2)


def test_process_start_and_protect_stop_bound_the_uses():
    """Before the first nothing works, after the second nothing is protected any more."""
    now = int(time.time())
    early = create(process_start_date=now + 3600)
    refused(R.WRONG_KEY_LIFECYCLE_STATE, Operation.ENCRYPT, EncryptRequest(unique_identifier=early, data=b"x"))
    refused(R.WRONG_KEY_LIFECYCLE_STATE, Operation.DECRYPT, DecryptRequest(unique_identifier=early, data=b"x"))
    late = register(bytes(32), protect_stop_date=now - 60)
    refused(R.WRONG_KEY_LIFECYCLE_STATE, Operation.ENCRYPT, EncryptRequest(unique_identifier=late, data=b"x"))
    done = encrypt(register(bytes(32)))
    assert decrypt(late, done) == b"attack at dawn"


USES = {
    "encrypt": (M.ENCRYPT, Operation.ENCRYPT, EncryptRequest(data=b"x")),
    "decrypt": (M.DECRYPT, Operation.DECRYPT, DecryptRequest(data=b"x")),
    "mac": (M.MAC_GENERATE, Operation.MAC, MACRequest(data=b"x")),
    "mac verify": (M.MAC_VERIFY, Operation.MAC_VERIFY, MACVerifyRequest(data=b"x", mac_data=b"x")),
    "sign": (M.SIGN, Operation.SIGN, SignRequest(data=b"x")),
    "verify": (M.VERIFY, Operation.SIGNATURE_VERIFY, SignatureVerifyRequest(data=b"x", signature_data=b"x")),
}


@pytest.mark.parametrize("use", USES)
def test_a_use_needs_its_bit_of_the_usage_mask(use):
    """Every bit but the one that counts is not enough."""
    mask, operation, request = USES[use]
    others = ~int(mask) & 0xFFFFF
    private, public = pair(A.EC, curve=RecommendedCurve.P_256, mask=others)
    kinds = {"sign": private, "verify": public}
    request.unique_identifier = kinds.get(use) or create(mask=others)
    refused(R.INCOMPATIBLE_CRYPTOGRAPHIC_USAGE_MASK, operation, request)


def test_the_policy_holds(configure):
    """3DES encrypts only where the policy lists it."""
    uid = create(A.DES3, 192)
    request = EncryptRequest(unique_identifier=uid, data=b"x")
    refused(R.PERMISSION_DENIED, Operation.ENCRYPT, request)
    configure(**{"crypto.policy": "permissive"})
    assert decrypt(uid, encrypt(uid)) == b"attack at dawn"


def test_data_of_one_request_is_limited(configure):
    """Longer data than `crypto.max_data` is refused, whatever it is for."""
    uid = create()
    configure(**{"crypto.max_data": 16})
    encrypt(uid, bytes(16))
    for operation, request in (
        (Operation.ENCRYPT, EncryptRequest(unique_identifier=uid, data=bytes(17))),
        (Operation.HASH, HashRequest(cryptographic_parameters=SHA_256, data=bytes(17))),
    ):
        refused(R.SERVER_LIMIT_EXCEEDED, operation, request)


def test_an_opened_key_is_not_used_after_its_state_has_changed():
    """It is kept by row version, and dropped when the row changes."""
    private, _ = pair(A.EC, curve=RecommendedCurve.P_256)
    sign(private)
    assert private in store.opened_keys._kept
    revoke(private)
    assert private not in store.opened_keys._kept
    refused(R.WRONG_KEY_LIFECYCLE_STATE, Operation.SIGN, SignRequest(unique_identifier=private, data=b"x"))


# Usage Limits.


def limited(total, unit):
    return create(usage_limits=UsageLimits(usage_limits_total=total, usage_limits_unit=unit))


def left(uid):
    found = do(Operation.GET_ATTRIBUTES, GetAttributesRequest(unique_identifier=uid)).attributes
    return found.usage_limits.usage_limits_count


def test_usage_limits_count_operations_or_bytes():
    """Protecting draws on them, processing does not; what would exceed them is refused whole."""
    uid = limited(2, UsageLimitsUnit.OBJECT)
    done = encrypt(uid)
    decrypt(uid, done)
    assert left(uid) == 1
    encrypt(uid)
    refused(R.PERMISSION_DENIED, Operation.ENCRYPT, EncryptRequest(unique_identifier=uid, data=b"x"))
    assert left(uid) == 0
    uid = limited(20, UsageLimitsUnit.BYTE)
    encrypt(uid, bytes(12))
    refused(R.PERMISSION_DENIED, Operation.ENCRYPT, EncryptRequest(unique_identifier=uid, data=bytes(9)))
    encrypt(uid, bytes(8))
    assert left(uid) == 0


def test_what_fails_costs_nothing():
    """An allocation goes back where nothing was protected with it."""
    uid = limited(1, UsageLimitsUnit.OBJECT)
    request = EncryptRequest(unique_identifier=uid, data=b"x", cryptographic_parameters=CBC, iv_counter_nonce=bytes(7))
    refused(R.BAD_CRYPTOGRAPHIC_PARAMETERS, Operation.ENCRYPT, request)
    assert left(uid) == 1


def played(*items, version=V2_1, undo=False):
    """The response items of a batch."""
    data = message(*items, version=version)
    if undo:
        header = ttlv.decode(data)
        request = engine.RequestMessage.load(header)
        request.request_header.batch_error_continuation_option = BatchErrorContinuationOption.UNDO
        data = ttlv.encode(engine.dump(request, engine.Tag.REQUEST_MESSAGE, version))
    answer = ttlv.decode(engine.handle(data, Peer("cli", user="alice")))
    return ResponseMessage.load(answer).batch_item


def test_undone_protection_gives_nothing_away():
    """The allocation is undone with the rest of the batch, so the ciphertext does not leave."""
    uid = limited(5, UsageLimitsUnit.OBJECT)
    done, _, changed, failed = played(
        (Operation.ENCRYPT, EncryptRequest(unique_identifier=uid, data=b"x")),
        (Operation.QUERY, QueryRequest()),
        (Operation.ACTIVATE, ActivateRequest(unique_identifier=create(active=False))),
        (Operation.ACTIVATE, ActivateRequest(unique_identifier="nothing")),
        undo=True,
    )
    assert [one.result_status for one in (done, changed)] == [ResultStatus.OPERATION_UNDONE] * 2
    assert failed.result_status == ResultStatus.OPERATION_FAILED
    assert EncryptResponse.load(done.response_payload).data is None
    assert left(uid) == 5


# Data of earlier items (2.1, 7.9).


def test_data_may_be_what_an_earlier_item_returned():
    """By operation, by number from the front, by number from the back."""
    for reference in (DataEnumeration.RNG_RETRIEVE, 0, -1):
        random, hashed = played(
            (Operation.RNG_RETRIEVE, RNGRetrieveRequest(data_length=24)),
            (Operation.HASH, HashRequest(cryptographic_parameters=SHA_256, data=reference)),
        )
        data = random.response_payload.value[0].value
        expected = do(Operation.HASH, HashRequest(cryptographic_parameters=SHA_256, data=data)).data
        assert HashResponse.load(hashed.response_payload).data == expected
    for reference in (DataEnumeration.ENCRYPT, 3, -2):
        random, hashed = played(
            (Operation.RNG_RETRIEVE, RNGRetrieveRequest(data_length=24)),
            (Operation.HASH, HashRequest(cryptographic_parameters=SHA_256, data=reference)),
        )
        assert hashed.result_reason == R.INVALID_FIELD


def test_what_is_no_key_is_refused():
    """Secret Data does not encrypt."""
    uid = secret(b"x" * 16)
    refused(R.INVALID_OBJECT_TYPE, Operation.ENCRYPT, EncryptRequest(unique_identifier=uid, data=b"x"))
