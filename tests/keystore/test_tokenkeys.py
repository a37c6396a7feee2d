"""Keys that live in a token: made and used there, with SoftHSM2; what leaves it, and what happens when it is away."""

import json
import os
import threading

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.db import connection, transaction

from keystore import (
    authn,
    conf,
    deferred,
    engine,
    keeper,
    opened,
    resealing,
    sealing,
    store,
    token,
    tokenkeys,
    withholding,
)
from keystore.authn import Identity, Peer
from keystore.crypto.policy import DEFAULT
from keystore.models import ManagedObject, WithheldObject
from keystore.streams import Streams, Task
from kmip.attributes import Attributes, Vendor
from kmip.enums import (
    AsynchronousIndicator,
    BatchErrorContinuationOption,
    BlockCipherMode,
    CryptographicAlgorithm,
    DerivationMethod,
    DigitalSignatureAlgorithm,
    HashingAlgorithm,
    KeyFormatType,
    NameType,
    ObjectType,
    Operation,
    PaddingMethod,
    ProtectionLevel,
    ProtectionStorageMask,
    RecommendedCurve,
    ResultReason,
    ResultStatus,
    ValidityIndicator,
    WrappingMethod,
)
from kmip.errors import KMIPError
from kmip.objects import KeyBlock, KeyValue, SymmetricKey
from kmip.payloads import (
    CreateKeyPairRequest,
    CreateRequest,
    DecryptRequest,
    DeriveKeyRequest,
    DestroyRequest,
    EncryptRequest,
    EncryptResponse,
    ExportRequest,
    GetRequest,
    ImportRequest,
    MACRequest,
    MACVerifyRequest,
    ReKeyKeyPairRequest,
    ReKeyRequest,
    SignatureVerifyRequest,
    SignRequest,
)
from kmip.structures import (
    CryptographicDomainParameters,
    DerivationParameters,
    EncryptionKeyInformation,
    KeyWrappingSpecification,
    Name,
)
from kmip.tags import Tag
from kmip.ttlv import Item, Type
from kmip.versions import V2_1
from tests.authority import do
from tests.made import seen
from tests.processes import until
from tests.softhsm import needed
from tests.using import A, create, pair, parameters, register, revoke, wanted
from tests.wire import send

pytest.importorskip("pkcs11", reason="python-pkcs11 is not installed")
pytestmark = [needed, pytest.mark.django_db(transaction=True)]
M, P, H = BlockCipherMode, PaddingMethod, HashingAlgorithm
HIGH, LOCAL = ProtectionLevel.HIGH, Peer("cli", user="root")


@pytest.fixture(autouse=True)
def root(hsm):
    """The root key is in the token as well."""
    token.create_root_key(hsm())
    tokens = withholding.WithheldObject.objects
    yield hsm
    hsm()
    for row in tokens.all():
        tokenkeys.destroy(withholding._material(withholding._content(row)))


def held(uid: str) -> list[object]:
    """The objects of the token that belong to a key of the server."""
    row = ManagedObject.objects.get(uid=uid)
    found = tokenkeys.reference(sealing.sealer().open(bytes(row.material), uid, row.version))
    return in_token(bytes.fromhex(found.id))


def row_of(uid: str) -> store.Managed:
    """An object as the store has it."""
    with transaction.atomic():
        managed = store.at(uid, 0)
    assert managed is not None
    return managed


def in_token(number: bytes) -> list[object]:
    attribute = token.binding().Attribute
    return tokenkeys._token().use(lambda session: list(session.get_objects({attribute.ID: number})))


def encrypted(uid, data, given=None, **more):
    request = EncryptRequest(unique_identifier=uid, cryptographic_parameters=given, data=data, **more)
    return do(Operation.ENCRYPT, request)


def decrypted(uid, done, given=None, **more):
    request = DecryptRequest(
        unique_identifier=uid,
        cryptographic_parameters=given,
        data=done.data,
        iv_counter_nonce=done.iv_counter_nonce,
        authenticated_encryption_tag=done.authenticated_encryption_tag,
        **more,
    )
    return do(Operation.DECRYPT, request).data


def refused(work, *arguments, **more) -> KMIPError:
    with pytest.raises(KMIPError) as caught:
        work(*arguments, **more)
    return caught.value


AES = {
    "the default": None,
    "GCM": parameters(block_cipher_mode=M.GCM, tag_length=12),
    "CBC with padding": parameters(block_cipher_mode=M.CBC, padding_method=P.PKCS5),
    "ECB with padding": parameters(block_cipher_mode=M.ECB, padding_method=P.ANSI_X9_23),
}


@pytest.mark.parametrize("given", AES.values(), ids=AES)
def test_a_symmetric_key_encrypts_in_the_token(given):
    """And what was encrypted is decrypted, also in parts of any length."""
    uid = create(protection_level=HIGH)
    for data in (b"x", b"sixteen bytes are", os.urandom(4096)):
        done = encrypted(uid, data, given)
        assert done.data != data and decrypted(uid, done, given) == data


def test_the_keeper_of_streams_uses_the_key_where_it_is():
    """What reaches it is which key of which token."""
    uid = create(protection_level=HIGH)
    key = opened.key_of(store.fetch(uid, 0, authn.identify(Peer("cli", user="alice"))))
    fields = keeper._fields_of(Task(Operation.ENCRYPT, DEFAULT, key.key, A.AES))
    assert tokenkeys.is_reference(fields["key"])
    kept = Streams(4, 60)
    begun = kept.begin("default/alice", uid, keeper._task_of(fields), b"in ")
    done = kept.go_on("default/alice", uid, Operation.ENCRYPT, begun.correlation, b"parts", last=True)
    whole = EncryptResponse(data=done.data, iv_counter_nonce=begun.iv, authenticated_encryption_tag=done.tag)
    assert decrypted(uid, whole) == b"in parts"


def test_the_token_s_ciphertext_is_everybody_s():
    """What was encrypted here under the same parameters is what the library makes of a key that is known."""
    material = os.urandom(32)
    binding, number = token.binding(), os.urandom(16)
    values = {
        binding.Attribute.CLASS: binding.ObjectClass.SECRET_KEY,
        binding.Attribute.KEY_TYPE: binding.KeyType.AES,
        binding.Attribute.VALUE: material,
        binding.Attribute.ID: number,
        binding.Attribute.TOKEN: True,
    }
    tokenkeys._token().use(lambda session: session.create_object(values).id)
    key, _ = tokenkeys.opened(tokenkeys.Reference("one", number.hex(), "AES", 256).pack())
    here, there = register(material), create(protection_level=HIGH)
    row = row_of(there)
    row.material = tokenkeys.Reference("one", number.hex(), "AES", 256).pack()
    store.save(row)
    done = encrypted(there, b"data", authenticated_encryption_additional_data=b"more")
    assert decrypted(here, done, authenticated_encryption_additional_data=b"more") == b"data"
    iv = done.iv_counter_nonce
    assert AESGCM(material).encrypt(iv, b"data", b"more") == done.data + done.authenticated_encryption_tag
    codes = [do(Operation.MAC, MACRequest(unique_identifier=uid, data=b"data")).mac_data for uid in (here, there)]
    assert codes[0] == codes[1]
    assert len(key) == 32


def test_what_was_changed_is_not_decrypted():
    """A wrong tag is a failure of the data, not of the token, and the next request works."""
    uid = create(protection_level=HIGH)
    done = encrypted(uid, b"data")
    done.authenticated_encryption_tag = bytes(16)
    error = refused(decrypted, uid, done)
    assert error.reason is ResultReason.CRYPTOGRAPHIC_FAILURE and "cannot be decrypted" in error.message
    assert decrypted(uid, encrypted(uid, b"data")) == b"data"


def test_a_code_is_made_and_verified_in_the_token():
    """CMAC; an HMAC is not a use of an AES key."""
    uid = create(protection_level=HIGH)
    code = do(Operation.MAC, MACRequest(unique_identifier=uid, data=b"data")).mac_data
    for data, validity in ((b"data", ValidityIndicator.VALID), (b"other", ValidityIndicator.INVALID)):
        request = MACVerifyRequest(unique_identifier=uid, data=data, mac_data=code)
        assert do(Operation.MAC_VERIFY, request).validity_indicator is validity
    given = parameters(hashing_algorithm=H.SHA_256)
    request = MACRequest(unique_identifier=uid, cryptographic_parameters=given, data=b"data")
    assert refused(do, Operation.MAC, request).reason is ResultReason.UNSUPPORTED_CRYPTOGRAPHIC_PARAMETERS


def signed(private, public, given=None, *, data=b"data"):
    request = SignRequest(unique_identifier=private, cryptographic_parameters=given, data=data)
    signature = do(Operation.SIGN, request).signature_data
    request = SignatureVerifyRequest(
        unique_identifier=public, cryptographic_parameters=given, data=data, signature_data=signature
    )
    return do(Operation.SIGNATURE_VERIFY, request).validity_indicator is ValidityIndicator.VALID


D = DigitalSignatureAlgorithm
RSA = {
    "the default": None,
    "PKCS1 v1.5 with SHA-512": parameters(digital_signature_algorithm=D.SHA_512_WITH_RSA_ENCRYPTION),
    "PKCS1 v1.5 with SHA-1": parameters(padding_method=P.PKCS1_V1_5, hashing_algorithm=H.SHA_256),
    "PSS with SHA-256": parameters(padding_method=P.PSS, hashing_algorithm=H.SHA_256),
    "PSS with SHA-384, salt of 20": parameters(padding_method=P.PSS, hashing_algorithm=H.SHA_384, salt_length=20),
}


def test_an_rsa_key_signs_and_decrypts_in_the_token():
    """What it signs is verified with the public key, which everybody can get."""
    private, public = pair(A.RSA, 2048, protection_level=HIGH)
    for name, given in RSA.items():
        assert signed(private, public, given), name
    given = parameters(padding_method=P.PKCS1_V1_5)
    key = opened.public_key_of(row_of(public))
    assert isinstance(key, rsa.RSAPublicKey)
    request = DecryptRequest(
        unique_identifier=private, cryptographic_parameters=given, data=key.encrypt(b"secret", padding.PKCS1v15())
    )
    assert do(Operation.DECRYPT, request).data == b"secret"
    # SoftHSM2 knows OAEP with SHA-1 only: what a token does not do is said.
    request = DecryptRequest(unique_identifier=private, data=bytes(256))
    assert refused(do, Operation.DECRYPT, request).reason is ResultReason.UNSUPPORTED_CRYPTOGRAPHIC_PARAMETERS
    assert seen(public).protection_storage_mask == ProtectionStorageMask.SOFTWARE


@pytest.mark.parametrize("curve", [RecommendedCurve.P_256, RecommendedCurve.P_384, RecommendedCurve.P_521], ids=str)
def test_an_elliptic_curve_key_signs_and_agrees_in_the_token(curve):
    """Signatures are verified, and both sides of an agreement have the same secret."""
    private, public = pair(A.EC, curve=curve, protection_level=HIGH)
    assert signed(private, public)
    assert signed(private, public, parameters(hashing_algorithm=H.SHA_512))
    mine = opened.private_key_of(row_of(private))
    theirs = ec.generate_private_key(mine.curve)
    assert mine.exchange(ec.ECDH(), theirs.public_key()) == theirs.exchange(ec.ECDH(), mine.public_key())


def test_material_never_leaves_the_token():
    """Neither plain nor in another format, wrapped, exported, nor after the attributes were changed."""
    wrapping, uid = create(), create(protection_level=HIGH)
    private, _ = pair(A.RSA, 2048, protection_level=HIGH)
    wrapped = KeyWrappingSpecification(
        wrapping_method=WrappingMethod.ENCRYPT,
        encryption_key_information=EncryptionKeyInformation(unique_identifier=wrapping),
    )
    for one in (uid, private):
        attributes = seen(one)
        assert attributes.never_extractable and attributes.sensitive and not attributes.extractable
        assert attributes.protection_storage_mask == ProtectionStorageMask.HARDWARE
        for number, request in (
            (Operation.GET, GetRequest(unique_identifier=one)),
            (Operation.GET, GetRequest(unique_identifier=one, key_format_type=KeyFormatType.RAW)),
            (Operation.GET, GetRequest(unique_identifier=one, key_wrapping_specification=wrapped)),
            (Operation.EXPORT, ExportRequest(unique_identifier=one)),
        ):
            error = refused(do, number, request)
            assert error.reason in (ResultReason.SENSITIVE, ResultReason.NOT_EXTRACTABLE)
        managed = row_of(one)
        managed.attributes.sensitive, managed.attributes.extractable = False, True
        store.save(managed)
        assert refused(do, Operation.GET, GetRequest(unique_identifier=one)).reason is ResultReason.NOT_EXTRACTABLE
    request = DeriveKeyRequest(
        object_type=ObjectType.SYMMETRIC_KEY,
        unique_identifier=[uid],
        derivation_method=DerivationMethod.HMAC,
        derivation_parameters=DerivationParameters(derivation_data=[b"x"]),
        attributes=seen(wrapping).only([Tag.CRYPTOGRAPHIC_ALGORITHM, Tag.CRYPTOGRAPHIC_LENGTH]),
    )
    assert refused(do, Operation.DERIVE_KEY, request).reason is ResultReason.NOT_EXTRACTABLE
    with pytest.raises(KMIPError):
        opened.private_key_of(row_of(private)).private_bytes(None, None, None)


def in_dialect(uid: str) -> str:
    """Create a key with an identifier, as clients of the JSON dialect may."""
    text = {"tag": "UniqueIdentifier", "type": "TextString", "value": uid}
    algorithm = {"tag": "CryptographicAlgorithm", "type": "Enumeration", "value": "AES"}
    length = {"tag": "CryptographicLength", "type": "Integer", "value": 256}
    kind = {"tag": "ObjectType", "type": "Enumeration", "value": "SymmetricKey"}
    attributes = {"tag": "Attributes", "value": [text, algorithm, length]}
    body = json.dumps({"tag": "Create", "value": [kind, attributes]}).encode()
    status, _, answer = engine.handle_http(body, Peer("cli", user="alice"))
    assert status == 200, answer
    return next(one["value"] for one in json.loads(answer)["value"] if one["tag"] == "UniqueIdentifier")


def test_identifiers_name_the_slot_or_are_any():
    """`hsm::<slot>::<id>` puts a key into the token by itself; another slot, or no id, is refused."""
    slot = tokenkeys._token().slot
    assert create(protection_level=HIGH).startswith(f"hsm::{slot}::")
    chosen = in_dialect(f"hsm::{slot}::mine")
    assert chosen == f"hsm::{slot}::mine" and len(held(chosen)) == 1
    for wrong in (f"hsm::{slot + 1}::mine", f"hsm::{slot}::", "hsm::x::mine", "hsm::"):
        assert refused(tokenkeys.wanted, wrong, None).reason is ResultReason.INVALID_FIELD
    block = KeyBlock(
        key_format_type=KeyFormatType.RAW,
        key_value=KeyValue(key_material=bytes(16)),
        cryptographic_algorithm=CryptographicAlgorithm.AES,
        cryptographic_length=128,
    )
    request = ImportRequest(
        unique_identifier=f"hsm::{slot}::brought",
        object_type=ObjectType.SYMMETRIC_KEY,
        symmetric_key=SymmetricKey(key_block=block),
    )
    assert refused(do, Operation.IMPORT, request).reason is ResultReason.INVALID_FIELD


def test_who_asks_for_the_token_gets_it():
    """Protection Level High or, before 2.0, an attribute; anything else is made in software."""
    text = {Vendor("x", "protection-level"): {0: Item(Tag.ATTRIBUTE_VALUE, Type.TEXT_STRING, "High")}}
    attributes = wanted(algorithm=A.AES, length=256)
    attributes.update(text)
    assert tokenkeys.wanted(None, attributes)
    assert not tokenkeys.wanted(None, wanted(algorithm=A.AES, protection_level=ProtectionLevel.LOW))
    assert refused(create, A.DES3, 168, protection_level=HIGH).reason is not ResultReason.GENERAL_FAILURE
    assert refused(pair, A.ED25519, protection_level=HIGH).reason is not ResultReason.GENERAL_FAILURE


def test_without_a_token_nothing_names_one(root):
    """An identifier of the token is refused, a Protection Level kept as it was said."""
    uid = create(protection_level=HIGH)
    root(pkcs11_module=None, provider="keystore.sealing.file_provider")
    assert refused(tokenkeys.wanted, uid, None).reason is ResultReason.PROTECTION_STORAGE_UNAVAILABLE
    assert not tokenkeys.wanted(None, wanted(algorithm=A.AES, protection_level=HIGH))


def test_a_key_is_replaced_in_the_token():
    """Re-key and Re-key Key Pair make the new key where the old one is."""
    uid = create(protection_level=HIGH)
    new = do(Operation.RE_KEY, ReKeyRequest(unique_identifier=uid)).unique_identifier
    assert len(held(new)) == 1 and held(new) != held(uid)
    private, _ = pair(A.EC, curve=RecommendedCurve.P_256, protection_level=HIGH)
    made = do(Operation.RE_KEY_KEY_PAIR, ReKeyKeyPairRequest(private_key_unique_identifier=private))
    assert signed(made.private_key_unique_identifier, made.public_key_unique_identifier)
    assert held(made.private_key_unique_identifier)


def destroy(uid):
    revoke(uid)
    do(Operation.DESTROY, DestroyRequest(unique_identifier=uid))


def test_destroy_destroys_the_key_in_the_token():
    """At once where there is no delay; a token that is away is told later."""
    uid = create(protection_level=HIGH)
    number = held(uid)[0].id
    destroy(uid)
    assert in_token(number) == [] and not WithheldObject.objects.exists()


def test_a_token_that_is_away_destroys_later(away):
    """Destroy is done for everybody, cannot be undone, and the key goes when the token is back."""
    uid = create(protection_level=HIGH)
    number = held(uid)[0].id
    away.out()
    destroy(uid)
    assert refused(withholding.restore, "default", uid, LOCAL).reason is ResultReason.OBJECT_NOT_FOUND
    with pytest.raises(token.TokenError):
        withholding.purge()
    away.back()
    assert in_token(number)
    assert withholding.purge() == 1 and in_token(number) == []


def test_undo_brings_a_key_in_the_token_back(configure):
    """It stays in the token until it can be restored no more."""
    configure(**{"lifecycle.destroy_delay": 3600.0})
    uid = create(protection_level=HIGH)
    done, number = encrypted(uid, b"data"), held(uid)[0].id
    destroy(uid)
    assert in_token(number)
    withholding.restore("default", uid, LOCAL)
    assert decrypted(uid, done) == b"data"
    do(Operation.DESTROY, DestroyRequest(unique_identifier=uid))
    row = WithheldObject.objects.get()
    assert withholding.purge(row.purge) == 1 and in_token(number) == []


def test_sealing_keys_are_replaced_over_references():
    """A reference is sealed like any material."""
    uid = create(protection_level=HIGH)
    done = encrypted(uid, b"data")
    resealing.rotate_sealing_keys(wait=0)
    store.rows.clear()
    store.opened_keys.clear()
    assert decrypted(uid, done) == b"data"


def test_a_key_that_the_token_lost_is_said_so():
    """It is neither a wrong request nor an absent token."""
    uid = create(protection_level=HIGH)
    for one in held(uid):
        tokenkeys._token().use(lambda session, one=one: one.destroy())
    error = refused(encrypted, uid, b"data")
    assert error.reason is ResultReason.KEY_VALUE_NOT_PRESENT and "does not hold" in error.message


def test_a_token_that_is_pulled_out_under_load(away):
    """Each request has its result or a clear error; all go on when the token is back, unaided."""
    uid = create(protection_level=HIGH)
    done = encrypted(uid, b"data")
    stop, failures, counts = threading.Event(), [], {"right": 0, "away": 0}

    def work() -> None:
        while not stop.is_set():
            try:
                assert decrypted(uid, done) == b"data"
                counts["right"] += 1
            except KMIPError as exc:
                if exc.message != engine.AWAY:
                    failures.append(exc)
                counts["away"] += 1
            except Exception as exc:
                failures.append(exc)
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(2):
            before = counts["right"]
            until(lambda before=before: counts["right"] > before + 3, "work")
            away.out()
            lost = counts["away"]
            until(lambda lost=lost: counts["away"] > lost + 3, "errors")
            away.back()
        before = counts["right"]
        until(lambda: counts["right"] > before + 3, "recovery")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failures == []


def test_a_reference_is_nothing_that_a_client_can_make():
    """What is registered is never taken for a reference, whatever its bytes are."""
    fake = tokenkeys.Reference("one", "00" * 16, "AES", 128).pack()
    uid = register(fake[:32])
    got = do(Operation.GET, GetRequest(unique_identifier=uid)).symmetric_key
    assert got.key_block.key_value.key_material == fake[:32]


def test_the_keys_of_another_token_are_not_looked_for_here(root):
    """The settings name one token."""
    uid = create(protection_level=HIGH)
    managed = row_of(uid)
    managed.material = tokenkeys.Reference("two", "00" * 16, "AES", 256).pack()
    store.save(managed)
    assert refused(encrypted, uid, b"data").message == engine.AWAY


def labels() -> list[str]:
    """The labels of the token's keys, but for the root key's. What has none is a session's, and goes with it."""
    attribute, kinds = token.binding().Attribute, token.binding().ObjectClass
    kept = (kinds.SECRET_KEY, kinds.PRIVATE_KEY)
    found = tokenkeys._token().use(
        lambda session: [one.label for kind in kept for one in session.get_objects({attribute.CLASS: kind})]
    )
    return sorted(label for label in found if label not in ("", conf.current().sealing.pkcs11_key))


TAKEN = [Name(name_value="taken", name_type=NameType.UNINTERPRETED_TEXT_STRING)]


def high(**more):
    """A request for an AES key in the token."""
    attributes = wanted(algorithm=A.AES, length=256, protection_level=HIGH, **more)
    return CreateRequest(object_type=ObjectType.SYMMETRIC_KEY, attributes=attributes)


def high_pair(**more):
    """A request for a pair in the token."""
    domain = CryptographicDomainParameters(recommended_curve=RecommendedCurve.P_256)
    common = wanted(algorithm=A.EC, protection_level=HIGH, cryptographic_domain_parameters=domain)
    private = Attributes()
    for name, value in more.items():
        setattr(private, name, value)
    return CreateKeyPairRequest(common_attributes=common, private_key_attributes=private)


FAILING = {
    "a name that is taken": [(Operation.CREATE, high(name=TAKEN))],
    "a pair that cannot be kept": [(Operation.CREATE_KEY_PAIR, high_pair(name=TAKEN))],
    "a batch that is undone": [(Operation.CREATE, high()), (Operation.GET, GetRequest(unique_identifier="nothing"))],
    "a pair of one": [
        (Operation.CREATE_KEY_PAIR, high_pair()),
        (Operation.GET, GetRequest(unique_identifier="nothing")),
    ],
}


@pytest.mark.parametrize("items", FAILING.values(), ids=FAILING)
def test_a_key_that_nothing_refers_to_does_not_stay_in_the_token(items):
    """Made for a change that fails after that or is taken back; what others made stays."""
    register(os.urandom(32), name=TAKEN)
    create(protection_level=HIGH)
    before, undo = labels(), BatchErrorContinuationOption.UNDO
    answers = send(*items, version=V2_1, batch_error_continuation_option=undo).batch_item
    assert answers[-1].result_status is ResultStatus.OPERATION_FAILED
    assert labels() == before and not WithheldObject.objects.exists()


def test_a_key_that_nothing_refers_to_goes_when_the_token_is_back(away, monkeypatch):
    """And nobody can restore it meanwhile."""
    make = tokenkeys.make

    def make_and_vanish(*arguments):
        made = make(*arguments)
        away.out()
        return made

    register(os.urandom(32), name=TAKEN)
    before = labels()
    monkeypatch.setattr(tokenkeys, "make", make_and_vanish)
    refused(do, Operation.CREATE, high(name=TAKEN))
    row = WithheldObject.objects.get()
    assert not withholding.withheld("default") and not withholding.withheld("")
    with pytest.raises(token.TokenError):
        withholding.purge()
    away.back()
    assert len(labels()) == len(before) + 1
    assert withholding.purge() == 1 and labels() == before and row.in_token


def test_keys_are_kept_whichever_thread_commits(monkeypatch):
    """Changes that wait for their turn share a transaction, which one thread carries out for all."""
    uids: list[str] = []
    gate = threading.Barrier(4)

    def work():
        gate.wait(10)
        uids.append(create(protection_level=HIGH))
        uids.append(pair(A.EC, curve=RecommendedCurve.P_256, protection_level=HIGH)[0])
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(uids) == 8 and all(held(uid) for uid in uids) and not tokenkeys._unused


def test_a_canceled_request_leaves_no_key_in_the_token(monkeypatch):
    """Canceled while it is carried out: the object is taken back, and so is its key."""
    (waiting,) = send(
        (Operation.CREATE, high()), version=V2_1, asynchronous_indicator=AsynchronousIndicator.MANDATORY
    ).batch_item
    make, before = tokenkeys.make, labels()

    def make_and_cancel(*arguments):
        made = make(*arguments)
        deferred.cancel(Identity("alice", "test"), waiting.asynchronous_correlation_value)
        return made

    monkeypatch.setattr(tokenkeys, "make", make_and_cancel)
    assert not deferred.carry_out(deferred.claim("a worker"), "a worker")
    assert labels() == before and not ManagedObject.objects.exists()


def test_a_token_that_is_away_makes_no_keys(away):
    """Neither before the transaction, where pairs are made, nor in it."""
    away.out()
    for work in (create, lambda **more: pair(A.EC, curve=RecommendedCurve.P_256, **more)):
        assert refused(work, protection_level=HIGH).message == engine.AWAY
    away.back()
    assert create(protection_level=HIGH)
