"""What the clients of the JSON dialect do with keys: bulk data, key sets, tags, RSA-AES key wrap."""

import json

import pytest
from cryptography.hazmat.primitives import keywrap

from keystore import bulk, engine, store
from keystore.authn import Peer
from keystore.models import Grant, ManagedObject
from kmip import dialect
from kmip.attributes import Vendor
from kmip.enums import (
    BlockCipherMode,
    HashingAlgorithm,
    KeyWrapType,
    Operation,
    PaddingMethod,
    RecommendedCurve,
    ResultReason,
    RotateNameType,
    UsageLimitsUnit,
)
from kmip.errors import KMIPError
from kmip.payloads import (
    DecryptRequest,
    DestroyRequest,
    EncryptRequest,
    GetAttributesRequest,
    GetRequest,
    MACRequest,
    MACVerifyRequest,
    ReKeyRequest,
    SignatureVerifyRequest,
    SignRequest,
)
from kmip.schema import dump
from kmip.structures import RotateName, UsageLimits
from kmip.tags import Tag
from kmip.ttlv import Item, Type
from kmip.versions import V2_1
from tests.authority import do, refused, sealed  # noqa: F401 - a fixture
from tests.using import A, M, create, pair, parameters, revoke, under

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("sealed")]
R = ResultReason
CBC = parameters(block_cipher_mode=BlockCipherMode.CBC, padding_method=PaddingMethod.PKCS5)


def asked(operation, payload, status=200):
    """The members of the answer by name; the text of a failure."""
    body = dialect.encode(dump(payload, Tag.REQUEST_PAYLOAD, V2_1), operation.spelling)
    found, _, answer = engine.handle_http(body, Peer("cli", user="alice"))
    assert found == status, answer
    if status != 200:
        return answer.decode()
    return {node["tag"]: node["value"] for node in json.loads(answer)["value"]}


def encrypt(uid, data, **others):
    return asked(Operation.ENCRYPT, EncryptRequest(unique_identifier=uid, data=data, **others))


def decrypt(uid, done, status=200, **others):
    request = DecryptRequest(unique_identifier=uid, data=bytes.fromhex(done["Data"]), **others)
    for member, field in (
        ("IVCounterNonce", "iv_counter_nonce"),
        ("AuthenticatedEncryptionTag", "authenticated_encryption_tag"),
    ):
        if member in done:
            setattr(request, field, bytes.fromhex(done[member]))
    answer = asked(Operation.DECRYPT, request, status)
    return bytes.fromhex(answer["Data"]) if status == 200 else answer


FIELDS = parameters(
    block_cipher_mode=BlockCipherMode.GCM, random_iv=True, fixed_field_length=32, invocation_field_length=96
)
KINDS = {
    "the default": lambda: (create(), None, 12 + 16),
    "CBC": lambda: (create(), CBC, 16 + 1),
    "ECB": lambda: (create(), parameters(block_cipher_mode=BlockCipherMode.ECB), 0),
    "CTR": lambda: (create(), parameters(block_cipher_mode=BlockCipherMode.CTR), 16),
    "a nonce of two fields": lambda: (create(), FIELDS, 16 + 16),
    "GCM with a short tag": lambda: (create(), parameters(block_cipher_mode=BlockCipherMode.GCM, tag_length=12), 24),
    "CCM with a short tag": lambda: (create(), parameters(block_cipher_mode=BlockCipherMode.CCM, tag_length=8), 12 + 8),
    "ChaCha20-Poly1305": lambda: (create(A.CHACHA20POLY1305, 256), None, 12 + 16),
}


@pytest.mark.parametrize("kind", KINDS)
def test_bulk_data_is_encrypted_item_by_item(kind):
    """Nonce, ciphertext and tag of each item together, under nonces of their own; there and back."""
    uid, given, more = KINDS[kind]()
    items = [bytes([number]) * 31 for number in range(5)] if more == 17 else [bytes(32)] * 5
    done = encrypt(uid, bulk.join(items), cryptographic_parameters=given)
    assert set(done) == {"UniqueIdentifier", "Data"}
    made = bulk.split(bytes.fromhex(done["Data"]))
    assert [len(item) for item in made] == [len(item) + more for item in items]
    assert kind == "ECB" or len({item[:12] for item in made}) == 5
    assert bulk.split(decrypt(uid, done, cryptographic_parameters=given)) == items
    # Each is what it would be alone.
    alone = decrypt(uid, {"Data": bulk.join(made[3:4]).hex()}, cryptographic_parameters=given)
    assert bulk.split(alone) == items[3:4]


def test_what_only_begins_like_bulk_data_is_data():
    """The first two bytes may be so by chance."""
    uid = create()
    for data in (bulk.MAGIC, bulk.MAGIC + b"\x05not five", bulk.MAGIC * 8):
        assert decrypt(uid, encrypt(uid, data)) == data
    framed = bulk.join([b"x"])
    done = encrypt(uid, framed, cryptographic_parameters=CBC, iv_counter_nonce=bytes(16))
    assert decrypt(uid, done | {"IVCounterNonce": bytes(16).hex()}, cryptographic_parameters=CBC) == framed
    # Elsewhere than in the dialect it is data, too.
    done = do(Operation.ENCRYPT, EncryptRequest(unique_identifier=uid, data=framed))
    assert done.iv_counter_nonce


def test_a_changed_item_fails_all():
    """Nothing of a frame is given where one item is not authentic."""
    uid = create()
    made = bulk.split(bytes.fromhex(encrypt(uid, bulk.join([b"a", b"b"]))["Data"]))
    for wrong in (made[1][:-1] + bytes([made[1][-1] ^ 1]), made[1][:20], made[1][:3], b""):
        assert "Cryptographic_Failure" in decrypt(uid, {"Data": bulk.join([made[0], wrong]).hex()}, 422)


def test_each_item_draws_on_usage_limits():
    """A frame of three is three objects."""
    uid = create(usage_limits=UsageLimits(usage_limits_total=4, usage_limits_unit=UsageLimitsUnit.OBJECT))
    encrypt(uid, bulk.join([b"a", b"b", b"c"]))
    found = do(Operation.GET_ATTRIBUTES, GetAttributesRequest(unique_identifier=uid)).attributes
    assert found.usage_limits.usage_limits_count == 1
    request = EncryptRequest(unique_identifier=uid, data=bulk.join([b"a", b"b"]))
    assert "Permission_Denied" in asked(Operation.ENCRYPT, request, 403)


@pytest.mark.parametrize("hashing", [None, HashingAlgorithm.SHA_1])
def test_rsa_without_padding_is_rsa_aes_key_wrap(hashing):
    """Data of any length under a key of one use, which is under OAEP."""
    private, public = pair(A.RSA, 2048)
    given = parameters(padding_method=PaddingMethod.NONE, hashing_algorithm=hashing)
    data = bytes(range(256)) * 8
    done = encrypt(public, data, cryptographic_parameters=given)
    assert len(done["Data"]) // 2 == 256 + len(data) + 8
    assert decrypt(private, done, cryptographic_parameters=given) == data


# Key sets and tags.


def rotated(name, **options):
    """The identifiers of two generations of a key set."""
    rotate = RotateName(rotate_name_value=name, rotate_name_type=RotateNameType.UNINTERPRETED_TEXT_STRING)
    first = create(rotate_name=rotate, **options)
    return first, do(Operation.RE_KEY, ReKeyRequest(unique_identifier=first)).unique_identifier


def test_a_key_set_encrypts_with_its_newest_key_and_decrypts_with_any():
    """Newest to oldest, until one fits; a deactivated one may still decrypt."""
    first, second = rotated("payroll")
    old, new = encrypt(first, b"old"), encrypt("payroll", b"new")
    assert new["UniqueIdentifier"] == second
    revoke(first)
    assert decrypt("payroll", new) == b"new"
    assert decrypt("payroll", old) == b"old"
    assert decrypt("payroll@first", old) == b"old"
    assert "Cryptographic_Failure" in decrypt("payroll@latest", old, 422)
    foreign = encrypt(create(), b"foreign")
    assert "Cryptographic_Failure" in decrypt("payroll", foreign, 422)


def test_a_key_set_verifies_with_any_of_its_keys():
    """The MAC of the first generation stays valid; the answer names the key that it is of."""
    first, second = rotated("seals", algorithm=A.HMAC_SHA256)
    for uid in (first, second):
        code = asked(Operation.MAC, MACRequest(unique_identifier=uid, data=b"data"))["MACData"]
        request = MACVerifyRequest(unique_identifier="seals", data=b"data", mac_data=bytes.fromhex(code))
        answer = asked(Operation.MAC_VERIFY, request)
        assert (answer["UniqueIdentifier"], answer["ValidityIndicator"]) == (uid, "Valid")
    request.mac_data = bytes(32)
    assert asked(Operation.MAC_VERIFY, request)["ValidityIndicator"] == "Invalid"


def tagged(*tags):
    return {Vendor("cosmian", "tag"): {0: Item(Tag.ATTRIBUTE_VALUE, Type.TEXT_STRING, json.dumps(tags))}}


def test_tags_mean_the_one_object_that_can_be_used_so():
    """A pair has the same tags: one half signs, the other verifies. Two keys that could are too many."""
    private, public = pair(A.EC, curve=RecommendedCurve.P_256, tags=tagged("seal"))
    signed = asked(Operation.SIGN, SignRequest(unique_identifier='["seal"]', data=b"x"))
    assert signed["UniqueIdentifier"] == private
    request = SignatureVerifyRequest(
        unique_identifier='["seal"]', data=b"x", signature_data=bytes.fromhex(signed["SignatureData"])
    )
    assert asked(Operation.SIGNATURE_VERIFY, request)["UniqueIdentifier"] == public
    assert "Invalid_Object_Type" in asked(Operation.MAC, MACRequest(unique_identifier='["seal"]', data=b"x"), 422)
    for _ in range(2):
        create(tags=tagged("two"))
    assert "2 objects" in asked(Operation.ENCRYPT, EncryptRequest(unique_identifier='["two"]', data=b"x"), 422)
    create(tags=tagged("some"), mask=M.DECRYPT)
    chosen = create(tags=tagged("some"))
    assert encrypt('["some"]', b"x")["UniqueIdentifier"] == chosen
    assert "Item_Not_Found" in asked(Operation.ENCRYPT, EncryptRequest(unique_identifier='["none"]', data=b"x"), 422)


# Keys that are kept wrapped.


def block_of(uid, **options):
    answer = do(Operation.GET, GetRequest(unique_identifier=uid, **options))
    return getattr(answer, answer.object_type.name.lower()).key_block


def test_a_key_that_is_kept_wrapped_is_unwrapped_for_its_uses():
    """Get shows what it is wrapped with; who uses it needs its wrapping key, too."""
    kek = create()
    uid = create(tags=under(kek))
    block = block_of(uid)
    assert block.key_wrapping_data.encryption_key_information.unique_identifier == kek
    plain = block_of(uid, key_wrap_type=KeyWrapType.NOT_WRAPPED).key_value.key_material
    assert keywrap.aes_key_unwrap(block_of(kek).key_value.key_material, block.key_value.key_material) == plain
    done = encrypt(uid, b"x")
    assert decrypt(uid, done) == b"x"
    assert uid not in store.opened_keys._kept
    Grant.objects.create(object_id=uid, namespace="default", principal="*", operations=1 << Operation.ENCRYPT)
    request = EncryptRequest(unique_identifier=uid, data=b"x")
    refused(R.WRAPPING_OBJECT_NOT_FOUND, Operation.ENCRYPT, request, user="bob")
    revoke(kek)
    assert decrypt(uid, done) == b"x"
    do(Operation.DESTROY, DestroyRequest(unique_identifier=kek))
    refused(R.WRAPPING_OBJECT_DESTROYED, Operation.ENCRYPT, request)


def test_of_a_pair_the_private_key_is_kept_wrapped():
    """What is public needs no wrapping; signing unwraps."""
    private, public = pair(A.EC, curve=RecommendedCurve.P_256, tags=under(create()))
    assert block_of(private).key_wrapping_data and not block_of(public).key_wrapping_data
    signed = asked(Operation.SIGN, SignRequest(unique_identifier=private, data=b"x"))["SignatureData"]
    request = SignatureVerifyRequest(unique_identifier=public, data=b"x", signature_data=bytes.fromhex(signed))
    assert asked(Operation.SIGNATURE_VERIFY, request)["ValidityIndicator"] == "Valid"


def test_a_wrapping_key_that_cannot_wrap_makes_no_key():
    """Neither an absent one, nor one of another's, nor a name that is none."""
    number = {Vendor("cosmian", "wrapping_key_id"): {0: Item(Tag.ATTRIBUTE_VALUE, Type.INTEGER, 5)}}
    for reason, tags in (
        (R.WRAPPING_OBJECT_NOT_FOUND, under("nothing")),
        (R.INCOMPATIBLE_CRYPTOGRAPHIC_USAGE_MASK, under(create(mask=M.ENCRYPT))),
        (R.INVALID_ATTRIBUTE_VALUE, number),
    ):
        before = ManagedObject.objects.count()
        with pytest.raises(KMIPError) as caught:
            create(tags=tags)
        assert caught.value.reason == reason
        assert ManagedObject.objects.count() == before
