"""The services and the `openssl` command: what one side encrypts, signs and wraps, the other opens and verifies."""

import pytest

from kmip.enums import (
    BlockCipherMode,
    EncodingOption,
    HashingAlgorithm,
    KeyFormatType,
    KeyWrapType,
    ObjectType,
    Operation,
    PaddingMethod,
    RecommendedCurve,
    ValidityIndicator,
    WrappingMethod,
)
from kmip.objects import KeyBlock, KeyValue, SymmetricKey
from kmip.payloads import (
    DecryptRequest,
    EncryptRequest,
    GetRequest,
    ImportRequest,
    MACRequest,
    SignatureVerifyRequest,
    SignRequest,
)
from kmip.structures import EncryptionKeyInformation, KeyWrappingData, KeyWrappingSpecification
from tests.authority import do, sealed  # noqa: F401 - a fixture
from tests.made import material
from tests.openssl import needs_openssl, openssl
from tests.using import A, create, pair, parameters, register, wanted

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.usefixtures("sealed"),
    needs_openssl,
]
B, P, V = BlockCipherMode, PaddingMethod, ValidityIndicator
DATA = b"attack at dawn, " * 5


@pytest.fixture
def files(tmp_path):
    """The two halves of a pair as files that openssl reads."""

    def write(private, public):
        paths = tmp_path / "private.der", tmp_path / "public.der"
        paths[0].write_bytes(material(private, key_format_type=KeyFormatType.PKCS_8))
        paths[1].write_bytes(material(public, key_format_type=KeyFormatType.X_509))
        return paths

    return write


@pytest.mark.parametrize(
    ("cipher", "mode", "padding"),
    [("aes-256-cbc", B.CBC, P.PKCS5), ("aes-256-ctr", B.CTR, None), ("aes-256-ecb", B.ECB, P.PKCS5)],
)
def test_symmetric_ciphertexts_are_read_by_both(cipher, mode, padding):
    """The server's under the IV that it drew, openssl's under its own."""
    uid = create()
    given = parameters(block_cipher_mode=mode, padding_method=padding)
    done = do(Operation.ENCRYPT, EncryptRequest(unique_identifier=uid, cryptographic_parameters=given, data=DATA))
    options = ["enc", f"-{cipher}", "-K", material(uid).hex()]
    iv = ["-iv", done.iv_counter_nonce.hex()] if done.iv_counter_nonce else []
    assert openssl(*options, *iv, "-d", data=done.data) == DATA
    iv = bytes(range(16)) if mode != B.ECB else None
    theirs = openssl(*options, *(["-iv", iv.hex()] if iv else []), data=DATA)
    request = DecryptRequest(unique_identifier=uid, cryptographic_parameters=given, data=theirs, iv_counter_nonce=iv)
    assert do(Operation.DECRYPT, request).data == DATA


def test_rsa_ciphertexts_are_read_by_both(files):
    """OAEP with SHA-256."""
    halves = pair(A.RSA, 2048)
    private, public = files(*halves)
    flags = ["-keyform", "DER", "-pkeyopt", "rsa_padding_mode:oaep", "-pkeyopt", "rsa_oaep_md:sha256"]
    ours = do(Operation.ENCRYPT, EncryptRequest(unique_identifier=halves[1], data=b"secret")).data
    assert openssl("pkeyutl", "-decrypt", "-inkey", private, *flags, data=ours) == b"secret"
    theirs = openssl("pkeyutl", "-encrypt", "-pubin", "-inkey", public, *flags, data=b"secret")
    assert do(Operation.DECRYPT, DecryptRequest(unique_identifier=halves[0], data=theirs)).data == b"secret"


SIGNATURES = {
    "PKCS #1": ({"algorithm": A.RSA, "length": 2048}, None, []),
    "PSS": (
        {"algorithm": A.RSA, "length": 2048},
        parameters(padding_method=P.PSS, hashing_algorithm=HashingAlgorithm.SHA_256),
        ["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest"],
    ),
    "ECDSA": ({"algorithm": A.EC, "curve": RecommendedCurve.P_256}, None, []),
}


@pytest.mark.parametrize("scheme", SIGNATURES)
def test_signatures_are_verified_by_both(files, tmp_path, scheme):
    """With SHA-256."""
    options, given, flags = SIGNATURES[scheme]
    halves = pair(**options)
    private, public = files(*halves)
    request = SignRequest(unique_identifier=halves[0], cryptographic_parameters=given, data=DATA)
    ours = tmp_path / "signature"
    ours.write_bytes(do(Operation.SIGN, request).signature_data)
    openssl("dgst", "-sha256", *flags, "-keyform", "DER", "-verify", public, "-signature", ours, data=DATA)
    theirs = openssl("dgst", "-sha256", *flags, "-keyform", "DER", "-sign", private, data=DATA)
    request = SignatureVerifyRequest(
        unique_identifier=halves[1], cryptographic_parameters=given, data=DATA, signature_data=theirs
    )
    assert do(Operation.SIGNATURE_VERIFY, request).validity_indicator == V.VALID


def test_wrapped_keys_are_unwrapped_by_both():
    """RFC 3394, out through Get and in through Import."""
    kek, key = create(), register(bytes(range(32)))
    information = EncryptionKeyInformation(unique_identifier=kek)
    specification = KeyWrappingSpecification(
        wrapping_method=WrappingMethod.ENCRYPT,
        encryption_key_information=information,
        encoding_option=EncodingOption.NO_ENCODING,
    )
    request = GetRequest(unique_identifier=key, key_wrapping_specification=specification)
    ours = do(Operation.GET, request).symmetric_key.key_block.key_value.key_material
    options = ["enc", "-id-aes256-wrap", "-K", material(kek).hex(), "-iv", "a6" * 8]
    assert openssl(*options, "-d", data=ours) == bytes(range(32))
    block = KeyBlock(
        key_format_type=KeyFormatType.RAW,
        key_value=KeyValue(key_material=openssl(*options, data=bytes(range(100, 124)))),
        cryptographic_algorithm=A.AES,
        cryptographic_length=192,
        key_wrapping_data=KeyWrappingData(
            wrapping_method=WrappingMethod.ENCRYPT,
            encryption_key_information=information,
            encoding_option=EncodingOption.NO_ENCODING,
        ),
    )
    request = ImportRequest(
        unique_identifier="from openssl",
        object_type=ObjectType.SYMMETRIC_KEY,
        key_wrap_type=KeyWrapType.NOT_WRAPPED,
        attributes=wanted(),
        symmetric_key=SymmetricKey(key_block=block),
    )
    assert material(do(Operation.IMPORT, request).unique_identifier) == bytes(range(100, 124))


def test_codes_agree():
    """HMAC with SHA-512."""
    uid = create(A.HMAC_SHA512, 512)
    code = do(Operation.MAC, MACRequest(unique_identifier=uid, data=DATA)).mac_data
    options = ["-digest", "SHA512", "-macopt", f"hexkey:{material(uid).hex()}", "-binary", "-in", "/dev/stdin", "HMAC"]
    assert openssl("mac", *options, data=DATA) == code
