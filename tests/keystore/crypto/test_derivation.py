"""Derivation: what each method needs and refuses. The published results are in test_vectors and test_oasis_cases."""

import hashlib
import hmac

import pytest

from keystore.crypto import ciphers, derivation, keys
from keystore.crypto.algorithms import A, B, C, H
from keystore.crypto.policy import FIPS_140_3, PERMISSIVE
from kmip.enums import DerivationMethod, ResultReason
from kmip.errors import KMIPError
from kmip.structures import CryptographicParameters

M, R = DerivationMethod, ResultReason
KEY = bytes(range(16))
SHA_256 = CryptographicParameters(hashing_algorithm=H.SHA_256)


def refused(reason, function, *arguments, **named):
    with pytest.raises(KMIPError) as caught:
        function(*arguments, **named)
    assert caught.value.reason == reason
    return caught.value


def test_hash_takes_the_key_or_the_data():
    """One of the two, never both (2.1, 7.12)."""
    assert derivation.derive(M.HASH, 128, KEY, parameters=SHA_256) == hashlib.sha256(KEY).digest()[:16]
    assert derivation.derive(M.HASH, 256, None, parameters=SHA_256, data=[b"a", b"b"]) == hashlib.sha256(b"ab").digest()
    refused(R.INVALID_FIELD, derivation.derive, M.HASH, 128, KEY, parameters=SHA_256, data=[b"x"])
    refused(R.MISSING_DATA, derivation.derive, M.HASH, 128, None, parameters=SHA_256)


def test_hmac_prefers_the_hash_of_an_hmac_key():
    """Then the parameters count for nothing (2.1, 7.12)."""
    expected = hmac.digest(KEY, b"data", "sha512")
    out = derivation.derive(M.HMAC, 512, KEY, algorithm=A.HMAC_SHA512, parameters=SHA_256, data=[b"data"])
    assert out == expected
    by_parameters = derivation.derive(M.HMAC, 256, KEY, algorithm=A.AES, parameters=SHA_256, data=[b"data"])
    assert by_parameters == hmac.digest(KEY, b"data", "sha256")


def test_encrypt_gives_the_first_bytes_of_the_ciphertext():
    """Without an IV it is zeros; what CBC leaves open must be whole blocks."""
    parameters = CryptographicParameters(block_cipher_mode=B.CBC)
    data = bytes(range(48))
    for iv in (None, bytes(range(16))):
        out = derivation.derive(M.ENCRYPT, 256, KEY, algorithm=A.AES, parameters=parameters, data=[data], iv=iv)
        assert out == ciphers.encrypt(A.AES, KEY, parameters, data, iv=iv or bytes(16)).data[:32]
    ecb = CryptographicParameters(block_cipher_mode=B.ECB)
    out = derivation.derive(M.ENCRYPT, 128, KEY, algorithm=A.AES, parameters=ecb, data=[data])
    assert out == ciphers.encrypt(A.AES, KEY, ecb, data).data[:16]


REFUSED = {
    "no length": (M.HKDF, None, {}, R.INVALID_FIELD),
    "part of a byte": (M.HKDF, 127, {}, R.INVALID_FIELD),
    "far too much": (M.HKDF, 1 << 40, {}, R.INVALID_FIELD),
    "more than HKDF gives": (M.HKDF, 8 * 32 * 255 + 8, {}, R.CRYPTOGRAPHIC_FAILURE),
    "more than a hash gives": (M.HASH, 512, {"parameters": SHA_256}, R.INVALID_FIELD),
    "more than the ciphertext": (M.ENCRYPT, 512, {"data": [bytes(16)], "algorithm": A.AES}, R.INVALID_FIELD),
    "a hash without a name": (M.HASH, 128, {}, R.BAD_CRYPTOGRAPHIC_PARAMETERS),
    "HMAC without a name": (M.HMAC, 128, {"data": [b"x"]}, R.BAD_CRYPTOGRAPHIC_PARAMETERS),
    "HMAC without data": (M.HMAC, 128, {"parameters": SHA_256}, R.MISSING_DATA),
    "encryption with no algorithm": (M.ENCRYPT, 128, {"data": [b"x"]}, R.BAD_CRYPTOGRAPHIC_PARAMETERS),
    "encryption in a mode without a row": (
        M.ENCRYPT, 128,
        {"data": [b"x"], "algorithm": A.AES, "parameters": CryptographicParameters(block_cipher_mode=B.PCBC)},
        R.PERMISSION_DENIED,
    ),
    "PBKDF2 without a salt": (M.PBKDF2, 128, {"iterations": 1}, R.MISSING_DATA),
    "PBKDF2 without a count": (M.PBKDF2, 128, {"salt": b"x"}, R.MISSING_DATA),
    "PBKDF2 with no iteration": (M.PBKDF2, 128, {"salt": b"x", "iterations": 0}, R.INVALID_FIELD),
    "PBKDF2 for ever": (M.PBKDF2, 128, {"salt": b"x", "iterations": 2**31 - 1}, R.INVALID_FIELD),
    "CMAC of a key that has none": (
        M.NIST800_108_F, 128,
        {"parameters": CryptographicParameters(block_cipher_mode=B.CMAC), "algorithm": A.HMAC_SHA256, "data": [b"x"]},
        R.UNSUPPORTED_CRYPTOGRAPHIC_PARAMETERS,
    ),
    "counter mode without data": (M.NIST800_108_C, 128, {}, R.MISSING_DATA),
    "AWS with two parts": (M.AWS_SIGNATURE_VERSION_4, 256, {"data": [b"1", b"2"]}, R.INVALID_FIELD),
    "a method of the future": (M(99), 128, {}, R.UNSUPPORTED_CRYPTOGRAPHIC_PARAMETERS),
    "a forbidden hash": (M.HMAC, 128, {"data": [b"x"], "algorithm": A.HMAC_MD5}, R.PERMISSION_DENIED),
}  # fmt: skip


@pytest.mark.parametrize(("method", "bits", "named", "reason"), REFUSED.values(), ids=REFUSED)
def test_a_derivation_that_cannot_be_made_is_refused(method, bits, named, reason):
    """With the reason of the specification, and without the key in the message."""
    error = refused(reason, derivation.derive, method, bits, KEY, **named)
    assert KEY.hex() not in error.message


def test_a_derivation_without_a_key_is_refused():
    """Every method but HASH derives from a key."""
    for method in set(derivation.METHODS) - {M.HASH}:
        named = {"data": [b"1", b"2", b"3"], "salt": b"x", "iterations": 1, "parameters": SHA_256, "algorithm": A.AES}
        if method == M.ENCRYPT:
            named["parameters"] = CryptographicParameters(block_cipher_mode=B.CTR)
        refused(R.MISSING_DATA, derivation.derive, method, 128, None, **named)


def test_two_keys_agree_on_no_more_than_their_secret():
    """Both sides get the same; more bits than there are, other curves and other algorithms are refused."""
    mine, other = (keys.generate_pair(A.ECDH, curve=C.P_256) for _ in "ab")
    private, public = keys.load_private(mine.private.data), keys.load_public(other.public.data)
    secret = derivation.agree(256, private, public)
    assert secret == derivation.agree(256, keys.load_private(other.private.data), keys.load_public(mine.public.data))
    assert derivation.agree(128, private, public) == secret[:16]
    refused(R.INVALID_FIELD, derivation.agree, 264, private, public)
    refused(R.INVALID_FIELD, derivation.agree, None, private, public)
    far = keys.load_public(keys.generate_pair(A.ECDH, curve=C.P_384).public.data)
    refused(R.CRYPTOGRAPHIC_FAILURE, derivation.agree, 128, private, far)
    strange = keys.load_public(keys.generate_pair(A.ECDH, curve=C.CURVE25519).public.data)
    refused(R.BAD_CRYPTOGRAPHIC_PARAMETERS, derivation.agree, 128, private, strange)


def test_the_input_of_a_derivation_does_not_print_its_key():
    """It may show up in a traceback."""
    given = derivation.Input(128, KEY, A.AES, SHA_256, (b"data",), None, None, None, PERMISSIVE)
    assert repr(KEY) not in repr(given)


def test_the_policy_counts_in_derivation_too():
    """A cipher that FIPS 140-3 does not approve derives nothing."""
    refused(
        R.PERMISSION_DENIED,
        derivation.derive,
        M.ENCRYPT,
        128,
        bytes(32),
        algorithm=A.CHACHA20,
        data=[bytes(16)],
        iv=bytes(12),
        policy=FIPS_140_3,
    )
