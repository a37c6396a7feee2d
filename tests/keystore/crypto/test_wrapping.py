"""Key wrapping: four methods, keys of every kind, and what does not unwrap."""

import pytest

from keystore.crypto import keys, wrapping
from keystore.crypto.algorithms import ML_KEM_768, A, B, C, H, P
from keystore.crypto.policy import FIPS_140_3
from kmip.enums import ResultReason, WrappingMethod
from kmip.errors import KMIPError
from kmip.structures import CryptographicParameters

W, R = WrappingMethod, ResultReason
KEK, OTHER, DATA = bytes(range(32)), bytes(range(1, 33)), bytes(range(100, 141))


def refused(reason, function, *arguments, **named):
    with pytest.raises(KMIPError) as caught:
        function(*arguments, **named)
    assert caught.value.reason == reason


def aes(mode=None, key=KEK, padding=None):
    parameters = CryptographicParameters(block_cipher_mode=mode, padding_method=padding) if mode else None
    return wrapping.Using(A.AES, key, parameters)


@pytest.fixture(scope="module")
def rsa():
    pair = keys.generate_pair(A.RSA, 2048)
    return keys.load_private(pair.private.data), keys.load_public(pair.public.data)


CIPHERS = {
    "by default": aes(),
    "NIST key wrap": aes(B.NISTKEYWRAP),
    "with padding": aes(B.AESKEYWRAPPADDING),
    "GCM": aes(B.GCM),
    "CBC": aes(B.CBC, padding=P.PKCS5),
    "CTR": aes(B.CTR),
}


@pytest.mark.parametrize("using", CIPHERS.values(), ids=CIPHERS)
def test_what_a_symmetric_key_wraps_it_unwraps(using):
    """The IV goes into the Key Wrapping Data, the tag of GCM to the end of the bytes."""
    done = wrapping.wrap(W.ENCRYPT, DATA, encryption=using)
    assert DATA not in done.data
    assert done.mac_signature is None
    assert wrapping.unwrap(W.ENCRYPT, done.data, encryption=using, iv=done.iv) == DATA


def test_a_key_that_is_no_wrapping_key_of_it_opens_nothing():
    """Authenticated wraps fail with a cryptographic failure, also when a byte is changed."""
    for using in (aes(), aes(B.GCM)):
        done = wrapping.wrap(W.ENCRYPT, DATA, encryption=using)
        wrong = using._replace(key=OTHER)
        refused(R.CRYPTOGRAPHIC_FAILURE, wrapping.unwrap, W.ENCRYPT, done.data, encryption=wrong, iv=done.iv)
        broken = done.data[:-1] + bytes([done.data[-1] ^ 1])
        refused(R.CRYPTOGRAPHIC_FAILURE, wrapping.unwrap, W.ENCRYPT, broken, encryption=using, iv=done.iv)


def test_a_given_iv_is_used_and_shown():
    """A client that unwraps elsewhere finds it in the Key Wrapping Data."""
    done = wrapping.wrap(W.ENCRYPT, DATA, encryption=aes(B.CTR), iv=bytes(16))
    assert done.iv == bytes(16)


def test_key_pairs_wrap_with_the_public_and_unwrap_with_the_private_half(rsa):
    """RSA with OAEP, elliptic curves with ECIES; a private key stands for its public half when it wraps."""
    private, public = rsa
    curve = keys.generate_pair(A.ECDH, curve=C.P_256)
    for algorithm, opens, wraps in (
        (A.RSA, private, public),
        (A.ECDH, keys.load_private(curve.private.data), keys.load_public(curve.public.data)),
    ):
        for key in (opens, wraps):
            done = wrapping.wrap(W.ENCRYPT, DATA, encryption=wrapping.Using(algorithm, key))
            assert wrapping.unwrap(W.ENCRYPT, done.data, encryption=wrapping.Using(algorithm, opens)) == DATA
        refused(
            R.BAD_CRYPTOGRAPHIC_PARAMETERS,
            wrapping.unwrap, W.ENCRYPT, done.data, encryption=wrapping.Using(algorithm, wraps),
        )  # fmt: skip


def test_a_wrapped_key_is_authenticated_by_mac_or_signature(rsa):
    """The three methods with a second key: over the plain bytes, over the wrapped ones, or both in one."""
    private, public = rsa
    mac = wrapping.Using(A.HMAC_SHA256, OTHER)
    signs = wrapping.Using(A.RSA, private, CryptographicParameters(hashing_algorithm=H.SHA_256))
    for method in (W.MAC_SIGN, W.ENCRYPT_THEN_MAC_SIGN, W.MAC_SIGN_THEN_ENCRYPT):
        for maker, checker in ((mac, mac), (signs, signs._replace(key=public))):
            encryption = None if method == W.MAC_SIGN else aes(B.CBC, padding=P.PKCS5)
            done = wrapping.wrap(method, DATA, encryption=encryption, authentication=maker)
            named = {"encryption": encryption, "authentication": checker, "iv": done.iv}
            assert (done.data == DATA) == (method == W.MAC_SIGN)
            assert wrapping.unwrap(method, done.data, mac_signature=done.mac_signature, **named) == DATA
            code = done.mac_signature
            refused(
                R.CRYPTOGRAPHIC_FAILURE,
                wrapping.unwrap, method, done.data, mac_signature=code[:-1] + bytes([code[-1] ^ 1]), **named,
            )  # fmt: skip
            refused(R.INVALID_FIELD, wrapping.unwrap, method, done.data, **named)


def test_a_method_without_its_key_or_without_support_is_refused():
    """Encrypt needs an encryption key, MAC/sign another; TR-31 is not offered."""
    for function in (wrapping.wrap, wrapping.unwrap):
        refused(R.INVALID_FIELD, function, W.ENCRYPT, DATA)
        refused(R.INVALID_FIELD, function, W.MAC_SIGN, DATA, encryption=aes())
        refused(R.INVALID_FIELD, function, W.ENCRYPT_THEN_MAC_SIGN, DATA, encryption=aes())
        refused(R.UNSUPPORTED_CRYPTOGRAPHIC_PARAMETERS, function, W.TR_31, DATA, encryption=aes())


def test_a_key_that_cannot_wrap_is_refused(rsa):
    """A signature needs a private key, ML-KEM wraps nothing, and the policy counts."""
    _, public = rsa
    refused(
        R.BAD_CRYPTOGRAPHIC_PARAMETERS, wrapping.wrap, W.MAC_SIGN, DATA, authentication=wrapping.Using(A.RSA, public)
    )
    kem = keys.load_public(keys.generate_pair(ML_KEM_768).public.data)
    refused(R.INVALID_FIELD, wrapping.wrap, W.ENCRYPT, DATA, encryption=wrapping.Using(ML_KEM_768, kem))
    chacha = wrapping.Using(A.CHACHA20, KEK)
    refused(R.PERMISSION_DENIED, wrapping.wrap, W.ENCRYPT, DATA, encryption=chacha, policy=FIPS_140_3)


def test_a_wrapping_key_does_not_print_its_bytes():
    """It may show up in a traceback."""
    assert repr(KEK) not in repr(aes())
