"""Keys that leave and come wrapped: Get, Export, Register and Import with Key Wrapping Data."""

import copy

import pytest

from keystore import store
from keystore.models import Grant
from kmip import ttlv
from kmip.enums import (
    BlockCipherMode,
    EncodingOption,
    KeyFormatType,
    KeyWrapType,
    ObjectType,
    Operation,
    PaddingMethod,
    RecommendedCurve,
    ResultReason,
    UsageLimitsUnit,
    WrappingMethod,
)
from kmip.objects import KeyBlock, KeyValue, SymmetricKey
from kmip.payloads import ArchiveRequest, DestroyRequest, ExportRequest, GetRequest, ImportRequest, RegisterRequest
from kmip.structures import (
    EncryptionKeyInformation,
    KeyWrappingData,
    KeyWrappingSpecification,
    MACSignatureKeyInformation,
    UsageLimits,
)
from kmip.tags import Tag
from kmip.versions import V1_4, V2_1
from tests.authority import do, refused, sealed, seen  # noqa: F401 - a fixture among them
from tests.using import A, M, create, pair, parameters, register, revoke, secret, wanted

E, O, R, W = EncodingOption, ObjectType, ResultReason, WrappingMethod  # noqa: E741
KEY_WRAP = parameters(block_cipher_mode=BlockCipherMode.NISTKEYWRAP)
#: RFC 3394, 4.1.
KEK = bytes.fromhex("000102030405060708090a0b0c0d0e0f")
KEY = bytes.fromhex("00112233445566778899aabbccddeeff")
WRAPPED = bytes.fromhex("1fa68b0a8112b447aef34bd8fb5a7b829d3e862371d2cfe5")

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("sealed")]


def by(uid, method=W.ENCRYPT, encoding=E.NO_ENCODING, given=None, mac=None, names=()):
    """A Key Wrapping Specification."""
    inner = MACSignatureKeyInformation(unique_identifier=mac) if mac else None
    outer = EncryptionKeyInformation(unique_identifier=uid, cryptographic_parameters=given) if uid else None
    return KeyWrappingSpecification(
        wrapping_method=method,
        encryption_key_information=outer,
        mac_signature_key_information=inner,
        attribute_name=list(names),
        encoding_option=encoding,
    )


def asks(uid, specification=None, **options):
    return GetRequest(unique_identifier=uid, key_wrapping_specification=specification, **options)


def got(uid, specification=None, user="alice", version=V2_1, **options):
    """The Key Block that Get gives."""
    answer = do(Operation.GET, asks(uid, specification, **options), user, version)
    return getattr(answer, answer.object_type.name.lower()).key_block


def material(uid, **options):
    return got(uid, **options).key_value.key_material


def brings(uid, block, object_type=O.SYMMETRIC_KEY, wrap_type=KeyWrapType.NOT_WRAPPED):
    request = ImportRequest(
        unique_identifier=uid, object_type=object_type, key_wrap_type=wrap_type, attributes=wanted()
    )
    setattr(request, object_type.name.lower(), SymmetricKey(key_block=block))
    return request


# Out.


def test_the_rfc_s_key_is_wrapped_to_the_rfc_s_bytes():
    """RFC 3394 by default for AES, with and without the parameters being named."""
    kek, key = register(KEK), register(KEY)
    for given in (None, KEY_WRAP):
        block = got(key, by(kek, given=given))
        assert block.key_value.key_material == WRAPPED
        data = block.key_wrapping_data
        assert (data.wrapping_method, data.encoding_option) == (W.ENCRYPT, E.NO_ENCODING)
        assert data.encryption_key_information.unique_identifier == kek
        assert data.encryption_key_information.cryptographic_parameters == KEY_WRAP


def test_without_an_encoding_option_the_key_value_is_wrapped_as_ttlv():
    """The whole Key Value, with the attributes that are named and exist."""
    kek, key = register(KEK), register(KEY)
    block = got(key, by(kek, encoding=None, names=["Cryptographic Usage Mask", "Contact Information"]), version=V1_4)
    assert isinstance(block.key_value, bytes)
    assert block.key_wrapping_data.encoding_option is None
    from cryptography.hazmat.primitives import keywrap

    value = KeyValue.load(ttlv.decode(keywrap.aes_key_unwrap(KEK, block.key_value)))
    assert value.key_material == KEY
    assert list(value.attributes) == [Tag.CRYPTOGRAPHIC_USAGE_MASK]
    refused(R.ENCODING_OPTION_ERROR, Operation.GET, asks(key, by(kek, names=["Name"])))


def test_a_structure_needs_an_encoding():
    """A transparent key has no bytes of its own."""
    kek, (private, _) = register(KEK), pair(A.EC, curve=RecommendedCurve.P_256)
    refused(R.ENCODING_OPTION_ERROR, Operation.GET, asks(private, by(kek)))
    assert isinstance(got(private, by(kek, encoding=E.TTLV_ENCODING)).key_value, bytes)
    as_pkcs8 = got(private, by(kek, given=KEY_WRAP), key_format_type=KeyFormatType.PKCS_8)
    assert as_pkcs8.key_format_type == KeyFormatType.PKCS_8
    assert isinstance(as_pkcs8.key_value.key_material, bytes)


def test_export_wraps_as_get_does():
    """The same bytes, attributes beside."""
    kek, key = register(KEK), register(KEY)
    answer = do(Operation.EXPORT, ExportRequest(unique_identifier=key, key_wrapping_specification=by(kek)))
    assert answer.symmetric_key.key_block.key_value.key_material == WRAPPED
    assert answer.attributes.unique_identifier == key


def test_a_sensitive_key_leaves_encrypted_or_not_at_all():
    """A MAC alone hides nothing; nor does a key that came so."""
    kek, key = register(KEK), register(KEY, sensitive=True)
    refused(R.SENSITIVE, Operation.GET, asks(key))
    refused(R.SENSITIVE, Operation.GET, asks(key, by(None, W.MAC_SIGN, mac=kek)))
    assert got(key, by(kek)).key_value.key_material == WRAPPED
    block = got(register(KEY), by(None, W.MAC_SIGN, encoding=None, mac=kek))
    request = RegisterRequest(
        object_type=O.SYMMETRIC_KEY, attributes=wanted(sensitive=True), symmetric_key=SymmetricKey(key_block=block)
    )
    refused(R.SENSITIVE, Operation.GET, asks(do(Operation.REGISTER, request).unique_identifier))
    stays = register(KEY, extractable=False)
    refused(R.NOT_EXTRACTABLE, Operation.GET, asks(stays, by(kek)))


def test_a_wrapping_key_must_be_there_active_and_allowed_to_wrap():
    """Each with the reason that Get has for it."""
    key = register(KEY)
    refused(R.WRAPPING_OBJECT_NOT_FOUND, Operation.GET, asks(key, by("nothing")))
    refused(R.WRONG_KEY_LIFECYCLE_STATE, Operation.GET, asks(key, by(register(KEK, active=False))))
    mask = ~int(M.WRAP_KEY | M.UNRESTRICTED) & 0xFFFFF
    refused(R.INCOMPATIBLE_CRYPTOGRAPHIC_USAGE_MASK, Operation.GET, asks(key, by(register(KEK, mask=mask))))
    refused(R.INVALID_OBJECT_TYPE, Operation.GET, asks(key, by(secret(KEK))))
    refused(R.INVALID_FIELD, Operation.GET, asks(key, by(None)))
    gone = register(KEK, active=False)
    do(Operation.DESTROY, DestroyRequest(unique_identifier=gone))
    refused(R.WRAPPING_OBJECT_DESTROYED, Operation.GET, asks(key, by(gone)))
    other = register(KEK, parameters=parameters(block_cipher_mode=BlockCipherMode.GCM, tag_length=16))
    refused(R.BAD_CRYPTOGRAPHIC_PARAMETERS, Operation.GET, asks(key, by(other, given=KEY_WRAP)))
    refused(R.UNSUPPORTED_CRYPTOGRAPHIC_PARAMETERS, Operation.GET, asks(key, by(register(KEK), W.TR_31)))


def grant(uid, *operations):
    bits = sum(1 << operation for operation in operations)
    Grant.objects.create(object_id=uid, namespace="default", principal="user:bob", operations=bits)


def test_who_wraps_needs_the_right_to_encrypt_and_who_unwraps_to_decrypt():
    """A right to get the key does not let its holder use another's wrapping key."""
    kek, key = register(KEK), register(KEY)
    grant(key, Operation.GET)
    refused(R.WRAPPING_OBJECT_NOT_FOUND, Operation.GET, asks(key, by(kek)), user="bob")
    grant_only = register(KEK)
    grant(grant_only, Operation.DECRYPT)
    refused(R.PERMISSION_DENIED, Operation.GET, asks(key, by(grant_only)), user="bob")
    grant(kek, Operation.ENCRYPT)
    block = got(key, by(kek), user="bob")
    assert block.key_value.key_material == WRAPPED
    refused(R.PERMISSION_DENIED, Operation.IMPORT, brings("of-bob", block), user="bob")


def test_wrapping_draws_on_the_wrapping_key_s_usage_limits():
    """One object for each key."""
    kek = register(KEK, usage_limits=UsageLimits(usage_limits_total=1, usage_limits_unit=UsageLimitsUnit.OBJECT))
    key = register(KEY)
    got(key, by(kek))
    refused(R.PERMISSION_DENIED, Operation.GET, asks(key, by(kek)))


# In.


def test_what_comes_wrapped_is_kept_so_until_it_is_asked_for_unwrapped():
    """As registered by default; unwrapped with Not Wrapped; wrapped anew with a specification; never used."""
    kek, other = register(KEK), register(bytes(32))
    block = got(register(KEY), by(kek))
    request = RegisterRequest(
        object_type=O.SYMMETRIC_KEY, attributes=wanted(), symmetric_key=SymmetricKey(key_block=block)
    )
    uid = do(Operation.REGISTER, request).unique_identifier
    assert material(uid) == material(uid, key_wrap_type=KeyWrapType.AS_REGISTERED) == WRAPPED
    assert material(uid, key_wrap_type=KeyWrapType.NOT_WRAPPED) == KEY
    again = do(Operation.IMPORT, brings("again", got(uid, by(other)))).unique_identifier
    assert material(again) == KEY
    refused(R.INVALID_FIELD, Operation.GET, asks(uid, by(other), key_wrap_type=KeyWrapType.AS_REGISTERED))
    revoke(kek)
    assert material(uid, key_wrap_type=KeyWrapType.NOT_WRAPPED) == KEY


METHODS = {
    "encrypt": (W.ENCRYPT, None),
    "encrypt then MAC": (W.ENCRYPT_THEN_MAC_SIGN, "mac"),
    "MAC then encrypt": (W.MAC_SIGN_THEN_ENCRYPT, "mac"),
    "encrypt then sign": (W.ENCRYPT_THEN_MAC_SIGN, "sign"),
    "MAC": (W.MAC_SIGN, "mac"),
    "sign": (W.MAC_SIGN, "sign"),
}
WRAPPERS = {
    "AES key wrap": lambda: (create(), None),
    "AES-GCM": lambda: (create(), parameters(block_cipher_mode=BlockCipherMode.GCM, tag_length=16)),
    "AES-CBC": lambda: (
        create(),
        parameters(block_cipher_mode=BlockCipherMode.CBC, padding_method=PaddingMethod.PKCS5, random_iv=True),
    ),
    "RSA": lambda: (pair(A.RSA, 2048)[1], None),
}


@pytest.mark.parametrize("encoding", [E.NO_ENCODING, E.TTLV_ENCODING], ids=str)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_undone_and_its_code_checked(method, encoding):
    """Import gives the key back; a changed MAC or signature does not."""
    number, kind = METHODS[method]
    makers = {"mac": lambda: create(A.HMAC_SHA256, 256), "sign": lambda: pair(A.EC, curve=RecommendedCurve.P_256)[0]}
    mac = makers[kind]() if kind else None
    kek = None if number == W.MAC_SIGN else create()
    key = register(KEY)
    block = got(key, by(kek, number, encoding, mac=mac))
    uid = do(Operation.IMPORT, brings("back", copy.deepcopy(block))).unique_identifier
    assert material(uid) == KEY
    if mac:
        code = bytearray(block.key_wrapping_data.mac_signature)
        code[-1] ^= 1
        block.key_wrapping_data.mac_signature = bytes(code)
        refused(R.CRYPTOGRAPHIC_FAILURE, Operation.IMPORT, brings("forged", block))


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_every_kind_of_wrapping_key_is_undone(wrapper):
    """IV and tag travel along; a public key's wrapping is undone with the private key that it links to."""
    kek, given = WRAPPERS[wrapper]()
    block = got(register(KEY), by(kek, given=given))
    assert material(do(Operation.IMPORT, brings("back", block)).unique_identifier) == KEY


def test_what_was_changed_on_the_way_is_refused():
    """Neither ciphertext nor what is inside may be anything else."""
    kek = register(KEK)
    block = got(register(KEY), by(kek))
    changed = bytearray(block.key_value.key_material)
    changed[0] ^= 1
    block.key_value.key_material = bytes(changed)
    refused(R.CRYPTOGRAPHIC_FAILURE, Operation.IMPORT, brings("changed", block))
    inside = KeyBlock(
        key_format_type=KeyFormatType.RAW,
        key_value=WRAPPED,
        key_wrapping_data=KeyWrappingData(
            wrapping_method=W.ENCRYPT,
            encryption_key_information=EncryptionKeyInformation(unique_identifier=kek),
        ),
    )
    with pytest.raises(Exception, match=r".") as caught:
        do(Operation.IMPORT, brings("no key value", inside))
    assert caught.value.reason in (R.INVALID_FIELD, R.INVALID_MESSAGE)


def test_attributes_that_were_wrapped_with_the_key_become_the_object_s():
    """Import takes them; Get does not show them in the Key Value."""
    kek, key = register(KEK), register(KEY, contact_information="bob@example.com")
    block = got(key, by(kek, encoding=E.TTLV_ENCODING, names=["Contact Information"]))
    uid = do(Operation.IMPORT, brings("with-attributes", copy.deepcopy(block))).unique_identifier
    assert seen(uid).contact_information == "bob@example.com"
    kept = do(Operation.IMPORT, brings("kept", block, wrap_type=KeyWrapType.AS_REGISTERED)).unique_identifier
    assert got(kept, key_wrap_type=KeyWrapType.NOT_WRAPPED).key_value.attributes is None


def test_importing_unwrapped_needs_the_wrapping_key():
    """It is an error where it is not available (2.1, 6.1.25)."""
    kek = register(KEK, active=False)
    block = got(register(KEY), by(register(KEK)))
    block.key_wrapping_data.encryption_key_information.unique_identifier = kek
    do(Operation.DESTROY, DestroyRequest(unique_identifier=kek))
    refused(R.WRAPPING_OBJECT_DESTROYED, Operation.IMPORT, brings("lost", block))


def plain_block(key):
    return KeyBlock(key_format_type=KeyFormatType.RAW, key_value=KeyValue(key_material=key))


def test_an_identifier_that_is_used_again_has_nothing_of_its_former_object():
    """What another process kept of the row that was replaced does not pass for the new one."""

    def plain(key, replace):
        request = brings("again", plain_block(key), wrap_type=None)
        request.replace_existing = replace
        return do(Operation.IMPORT, request).unique_identifier

    assert material(plain(KEY, False)) == KEY
    kept = dict(store.rows._rows)
    plain(KEK, True)
    store.rows._rows.update(kept)
    assert material("again") == KEK
    do(Operation.ARCHIVE, ArchiveRequest(unique_identifier="again"))
    refused(R.OBJECT_ALREADY_EXISTS, Operation.IMPORT, brings("again", plain_block(KEY), wrap_type=None))
    assert material(plain(KEY, True)) == KEY, "what is archived is replaced, too"
