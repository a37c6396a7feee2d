"""Signatures, message authentication codes and hashes: how they are named, their defaults, and every refusal."""

import tracemalloc

import pytest

from keystore.crypto import keys, signing
from keystore.crypto.algorithms import ISO_9797_1_METHOD_2, ML_DSA_44, A, B, C, H, P
from keystore.crypto.policy import FIPS_140_3, PERMISSIVE
from kmip.enums import DigitalSignatureAlgorithm, MaskGenerator, ResultReason, ValidityIndicator
from kmip.errors import KMIPError
from kmip.structures import CryptographicParameters

D, R = DigitalSignatureAlgorithm, ResultReason
VALID, INVALID = ValidityIndicator.VALID, ValidityIndicator.INVALID
DATA = b"what is signed"


def given(**fields):
    return CryptographicParameters(**fields)


def refused(reason, function, *arguments, **named):
    with pytest.raises(KMIPError) as caught:
        function(*arguments, **named)
    assert caught.value.reason == reason


@pytest.fixture(scope="module")
def key_of():
    """A private key of each kind, made once."""
    made = {}

    def make(algorithm, curve=None):
        if (algorithm, curve) not in made:
            bits = {A.RSA: 2048, A.DSA: 1024}.get(algorithm)
            pair = keys.generate_pair(algorithm, bits, curve=curve, policy=PERMISSIVE)
            made[algorithm, curve] = keys.load_private(pair.private.data)
        return made[algorithm, curve]

    return make


def digest_of(hashing, data=DATA):
    return signing.digest(given(hashing_algorithm=hashing), data, policy=PERMISSIVE)


@pytest.mark.parametrize("scheme", signing.SCHEMES, ids=str)
def test_a_digital_signature_algorithm_names_everything(key_of, scheme):
    """It means the same as algorithm, hash and padding named one by one (2.1, 4.16)."""
    named = signing.SCHEMES[scheme]
    key = key_of(named.algorithm, C.P_256 if named.algorithm == A.ECDSA else None)
    signature = signing.sign(key, given(digital_signature_algorithm=scheme), DATA, policy=PERMISSIVE)
    apart = given(
        cryptographic_algorithm=named.algorithm, hashing_algorithm=named.hashing, padding_method=named.padding
    )
    public = key.public_key()
    assert signing.verify(public, apart, signature, DATA, policy=PERMISSIVE) == VALID
    assert signing.verify(public, apart, signature, DATA + b"!", policy=PERMISSIVE) == INVALID


KINDS = {
    "rsa": (A.RSA, None, given(cryptographic_algorithm=A.RSA, hashing_algorithm=H.SHA_512)),
    "pss": (A.RSA, None, given(padding_method=P.PSS, hashing_algorithm=H.SHA_256, salt_length=20)),
    "rsa by default": (A.RSA, None, None),
    "ecdsa": (A.ECDSA, C.P_384, given(hashing_algorithm=H.SHA3_384)),
    "ecdsa by default": (A.EC, C.BRAINPOOLP512R1, None),
    "ed25519": (A.ED25519, None, None),
    "ed448": (A.ED448, None, None),
    "ml-dsa": (ML_DSA_44, None, None),
}


@pytest.mark.parametrize(("algorithm", "curve", "parameters"), KINDS.values(), ids=KINDS)
def test_what_is_signed_in_parts_verifies_whole_and_the_reverse(key_of, algorithm, curve, parameters):
    """A stream signs and verifies the same signature as one call."""
    key = key_of(algorithm, curve)
    signer = signing.signer(key, parameters)
    for byte in DATA:
        signer.update(bytes([byte]))
    assert signing.verify(key.public_key(), parameters, signer.finalize(), DATA) == VALID
    signature = signing.sign(key, parameters, DATA)
    for parts, expected in (((DATA[:3], DATA[3:]), VALID), ((DATA,), VALID), ((DATA[1:],), INVALID), ((), INVALID)):
        verifier = signing.verifier(key.public_key(), parameters)
        for part in parts:
            verifier.update(part)
        assert verifier.finalize(signature) == expected
    for broken in (b"", signature[:-1], signature + b"\0", bytes([signature[0] ^ 255]) + signature[1:]):
        assert signing.verify(key.public_key(), parameters, broken, DATA) == INVALID


DIGESTED = {
    "rsa with the hash": (A.RSA, given(hashing_algorithm=H.SHA_256), H.SHA_256),
    "pss with the hash": (A.RSA, given(padding_method=P.PSS, hashing_algorithm=H.SHA_512), H.SHA_512),
    "pss by length": (A.RSA, given(padding_method=P.PSS), H.SHA_384),
    "ecdsa with the hash": (A.ECDSA, given(hashing_algorithm=H.SHA_384), H.SHA_384),
    "ecdsa by length": (A.ECDSA, None, H.SHA_512),
}


@pytest.mark.parametrize(("algorithm", "parameters", "hashing"), DIGESTED.values(), ids=DIGESTED)
def test_a_digest_is_signed_as_the_data_would_be(key_of, algorithm, parameters, hashing):
    """Digested Data in place of Data gives a signature of the data (2.1, 6.1.55)."""
    key = key_of(algorithm, C.P_256 if algorithm == A.ECDSA else None)
    signature = signing.sign(key, parameters, digest=digest_of(hashing))
    explicit = given(hashing_algorithm=hashing, padding_method=parameters.padding_method if parameters else None)
    assert signing.verify(key.public_key(), explicit, signature, DATA) == VALID
    assert signing.verify(key.public_key(), parameters, signature, digest=digest_of(hashing)) == VALID
    assert signing.verify(key.public_key(), parameters, signature, digest=digest_of(hashing, b"other")) == INVALID


def test_a_digest_of_no_known_hash_is_signed_as_it_is(key_of):
    """OASIS cases TC-RSA-SIGN-DIGESTEDDATA-1 and TC-ECDSA-SIGN-DIGESTEDDATA-1: sixteen bytes and no hash."""
    for algorithm, curve in ((A.RSA, None), (A.ECDSA, C.P_256)):
        key = key_of(algorithm, curve)
        signature = signing.sign(key, None, digest=bytes(16))
        assert signing.verify(key.public_key(), None, signature, digest=bytes(16)) == VALID
        assert signing.verify(key.public_key(), None, signature, digest=bytes(15) + b"\1") == INVALID


def test_parameters_of_another_algorithm_make_a_signature_invalid(key_of):
    """TC-ECDSA-SIGN-DIGESTEDDATA-1: RSA parameters with an EC key verify nothing, and sign nothing."""
    key, parameters = key_of(A.ECDSA, C.P_256), given(cryptographic_algorithm=A.RSA, padding_method=P.PSS)
    signature = signing.sign(key, None, DATA)
    assert signing.verify(key.public_key(), parameters, signature, DATA) == INVALID
    verifier = signing.verifier(key.public_key(), parameters)
    verifier.update(DATA)
    assert verifier.finalize(signature) == INVALID
    refused(R.BAD_CRYPTOGRAPHIC_PARAMETERS, signing.sign, key, parameters, DATA)


def test_pss_without_a_salt_length_verifies_any(key_of):
    """Signing takes the digest's length; verifying finds out, as the OASIS cases need."""
    key, fields = key_of(A.RSA), {"padding_method": P.PSS, "hashing_algorithm": H.SHA_256}
    for salt in (0, 20, 32, 222):
        signature = signing.sign(key, given(**fields, salt_length=salt), DATA)
        assert signing.verify(key.public_key(), given(**fields), signature, DATA) == VALID
        assert signing.verify(key.public_key(), given(**fields, salt_length=21), signature, DATA) == INVALID
    ours = signing.sign(key, given(**fields), DATA)
    assert signing.verify(key.public_key(), given(**fields, salt_length=32), ours, DATA) == VALID


def test_pss_may_mask_with_a_hash_of_its_own(key_of):
    """Without a name it is the hash of the data, not SHA-1."""
    key, fields = key_of(A.RSA), {"padding_method": P.PSS, "hashing_algorithm": H.SHA_256}
    own = signing.sign(key, given(**fields, mask_generator_hashing_algorithm=H.SHA_1), DATA)
    assert signing.verify(key.public_key(), given(**fields), own, DATA) == INVALID
    same = signing.sign(key, given(**fields, mask_generator_hashing_algorithm=H.SHA_256), DATA)
    assert signing.verify(key.public_key(), given(**fields), same, DATA) == VALID


REFUSED = {
    "a padding that signs nothing": (A.RSA, {"padding_method": P.OAEP}, {"data": DATA}, R.PERMISSION_DENIED),
    "another mask generator": (
        A.RSA, {"padding_method": P.PSS, "mask_generator": MaskGenerator(9)}, {"data": DATA},
        R.UNSUPPORTED_CRYPTOGRAPHIC_PARAMETERS,
    ),
    "another trailer": (
        A.RSA, {"padding_method": P.PSS, "trailer_field": 2}, {"data": DATA}, R.UNSUPPORTED_CRYPTOGRAPHIC_PARAMETERS,
    ),
    "a negative salt": (
        A.RSA, {"padding_method": P.PSS, "salt_length": -1}, {"data": DATA}, R.BAD_CRYPTOGRAPHIC_PARAMETERS,
    ),
    "a salt longer than the key leaves": (
        A.RSA, {"padding_method": P.PSS, "salt_length": 256}, {"data": DATA}, R.CRYPTOGRAPHIC_FAILURE,
    ),
    "MD2": (
        A.RSA, {"digital_signature_algorithm": D.MD2_WITH_RSA_ENCRYPTION}, {"data": DATA},
        R.UNSUPPORTED_CRYPTOGRAPHIC_PARAMETERS,
    ),
    "two hashes at once": (
        A.RSA, {"digital_signature_algorithm": D.SHA_256_WITH_RSA_ENCRYPTION, "hashing_algorithm": H.SHA_512},
        {"data": DATA}, R.BAD_CRYPTOGRAPHIC_PARAMETERS,
    ),
    "a hash that does not exist": (
        A.RSA, {"hashing_algorithm": H.TIGER}, {"data": DATA}, R.PERMISSION_DENIED,
    ),
    "a hash that RSA does not sign": (
        A.RSA, {"hashing_algorithm": H(0x80000001)}, {"data": DATA}, R.UNSUPPORTED_CRYPTOGRAPHIC_PARAMETERS,
    ),
    "a digest of another length": (
        A.RSA, {"hashing_algorithm": H.SHA_256}, {"digest": bytes(20)}, R.CRYPTOGRAPHIC_FAILURE,
    ),
    "a digest of no length for PSS": (
        A.RSA, {"padding_method": P.PSS}, {"digest": bytes(17)}, R.BAD_CRYPTOGRAPHIC_PARAMETERS,
    ),
    "data and digest": (A.RSA, {}, {"data": DATA, "digest": bytes(32)}, R.INVALID_FIELD),
    "neither": (A.RSA, {}, {}, R.MISSING_DATA),
    "a digest for Ed25519": (A.ED25519, {}, {"digest": bytes(64)}, R.UNSUPPORTED_CRYPTOGRAPHIC_PARAMETERS),
    "an empty digest for ECDSA": (A.ECDSA, {}, {"digest": b""}, R.BAD_CRYPTOGRAPHIC_PARAMETERS),
    "a key that only agrees": (A.ECDH, {}, {"data": DATA}, R.UNSUPPORTED_CRYPTOGRAPHIC_PARAMETERS),
}  # fmt: skip


@pytest.mark.parametrize(("algorithm", "fields", "named", "reason"), REFUSED.values(), ids=REFUSED)
def test_a_signature_that_cannot_be_made_is_refused(key_of, algorithm, fields, named, reason):
    """With the reason of the specification."""
    key = key_of(algorithm, {A.ECDSA: C.P_256, A.ECDH: C.CURVE25519}.get(algorithm))
    refused(reason, signing.sign, key, given(**fields), **named)


def test_sha_1_verifies_and_does_not_sign(key_of):
    """The default policy; FIPS 140-3 agrees, the permissive one signs."""
    key, parameters = key_of(A.RSA), given(hashing_algorithm=H.SHA_1)
    refused(R.PERMISSION_DENIED, signing.sign, key, parameters, DATA)
    refused(R.PERMISSION_DENIED, signing.sign, key, parameters, DATA, policy=FIPS_140_3)
    signature = signing.sign(key, parameters, DATA, policy=PERMISSIVE)
    assert signing.verify(key.public_key(), parameters, signature, DATA) == VALID
    refused(R.PERMISSION_DENIED, signing.verify, key.public_key(), given(hashing_algorithm=H.MD5), signature, DATA)


def test_dsa_verifies_and_does_not_sign(key_of):
    """FIPS 186-5 keeps DSA for verifying old signatures."""
    key = key_of(A.DSA)
    refused(R.PERMISSION_DENIED, signing.sign, key, None, DATA)
    signature = signing.sign(key, None, DATA, policy=PERMISSIVE)
    assert signing.verify(key.public_key(), None, signature, DATA) == VALID


def test_what_needs_all_data_is_collected_up_to_a_limit(key_of, monkeypatch):
    """Ed25519 hashes its data twice."""
    monkeypatch.setattr(signing, "COLLECTED", 10)
    signer = signing.signer(key_of(A.ED25519), None)
    signer.update(bytes(10))
    refused(R.INVALID_FIELD, signer.update, b"x")


def test_streams_of_signatures_and_macs_hold_no_data(key_of):
    """Sixteen megabytes pass through an RSA signer, an ML-DSA signer and two MACs."""
    part = bytes(1 << 20)
    streams = [
        signing.signer(key_of(A.RSA), None),
        signing.signer(key_of(ML_DSA_44), None),
        signing.authenticator(A.AES, bytes(16), None),
        signing.authenticator(A.AES, bytes(16), given(block_cipher_mode=B.CBC_MAC)),
    ]
    tracemalloc.start()
    for stream in streams:
        for _ in range(16):
            stream.update(part)
        stream.finalize()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < len(part)


# ---------------------------------------------------------------------------------------------------------------------
# Message authentication codes and hashes

KEY = bytes(range(32))


def test_a_mac_is_named_in_several_ways():
    """By the key's algorithm, by the parameters' algorithm, by a hash; they are one HMAC (2.1, 6.1.32)."""
    codes = {
        signing.mac(A.HMAC_SHA256, KEY, None, DATA),
        signing.mac(A.AES, KEY, given(cryptographic_algorithm=A.HMAC_SHA256), DATA),
        signing.mac(A.AES, KEY, given(hashing_algorithm=H.SHA_256), DATA),
        signing.mac(None, KEY, given(hashing_algorithm=H.SHA_256), DATA),
        signing.mac(A.HMAC_SHA256, KEY, given(hashing_algorithm=H.SHA_256), DATA),
    }
    assert len(codes) == 1


def test_a_cipher_key_without_parameters_makes_a_cmac():
    """The documented default."""
    assert signing.mac(A.AES, KEY, None, DATA) == signing.mac(A.AES, KEY, given(block_cipher_mode=B.CMAC), DATA)


def test_cbc_mac_pads_with_zeros_or_as_told():
    """ISO/IEC 9797-1 methods 1 and 2: one appends zeros, the other a one first."""
    mode = {"block_cipher_mode": B.CBC_MAC}
    plain = signing.mac(A.AES, KEY, given(**mode), DATA)
    assert plain == signing.mac(A.AES, KEY, given(**mode), DATA + bytes(2))
    second = given(**mode, padding_method=ISO_9797_1_METHOD_2)
    assert signing.mac(A.AES, KEY, second, DATA) == signing.mac(A.AES, KEY, given(**mode), DATA + b"\x80\x00")
    assert signing.mac(A.AES, KEY, given(**mode), b"") == signing.mac(A.AES, KEY, given(**mode), bytes(16))


@pytest.mark.parametrize(
    ("algorithm", "key", "fields", "reason"),
    [
        (A.AES, KEY, {"block_cipher_mode": B.GCM}, R.UNSUPPORTED_CRYPTOGRAPHIC_PARAMETERS),
        (A.AES, b"x", {}, R.BAD_CRYPTOGRAPHIC_PARAMETERS),
        (A.AES, KEY, {"block_cipher_mode": B.CBC_MAC, "padding_method": P.OAEP}, R.BAD_CRYPTOGRAPHIC_PARAMETERS),
        (A.AES, KEY, {"padding_method": P.PKCS5}, R.BAD_CRYPTOGRAPHIC_PARAMETERS),
        (A.CHACHA20, KEY, {}, R.UNSUPPORTED_CRYPTOGRAPHIC_PARAMETERS),
        (A.SKIPJACK, bytes(10), {}, R.UNSUPPORTED_CRYPTOGRAPHIC_PARAMETERS),
        (None, KEY, {}, R.UNSUPPORTED_CRYPTOGRAPHIC_PARAMETERS),
        (A.POLY1305, bytes(31), {}, R.BAD_CRYPTOGRAPHIC_PARAMETERS),
        (
            A.AES,
            KEY,
            {"cryptographic_algorithm": A.HMAC_SHA256, "hashing_algorithm": H.SHA_512},
            R.BAD_CRYPTOGRAPHIC_PARAMETERS,
        ),
        (A.HMAC_MD5, KEY, {}, R.PERMISSION_DENIED),
        (A.DES3, bytes(24), {}, R.PERMISSION_DENIED),
    ],
    ids=str,
)
def test_a_mac_that_cannot_be_made_is_refused(algorithm, key, fields, reason):
    """Modes, keys and hashes that do not fit, and what the default policy keeps out."""
    refused(reason, signing.mac, algorithm, key, given(**fields), DATA)


def test_the_fips_policy_wants_112_bits_of_hmac_key():
    """SP 800-131A."""
    refused(R.PERMISSION_DENIED, signing.mac, A.HMAC_SHA256, bytes(13), None, DATA, policy=FIPS_140_3)
    assert signing.mac(A.HMAC_SHA256, bytes(14), None, DATA, policy=FIPS_140_3)


def test_a_hash_needs_a_name_that_the_policy_lists():
    """No parameters, no hash; MD5 only where everything is allowed."""
    refused(R.BAD_CRYPTOGRAPHIC_PARAMETERS, signing.digest, None, DATA)
    refused(R.BAD_CRYPTOGRAPHIC_PARAMETERS, signing.digest, given(), DATA)
    refused(R.UNSUPPORTED_CRYPTOGRAPHIC_PARAMETERS, signing.digest, given(hashing_algorithm=H.TIGER), DATA)
    refused(R.PERMISSION_DENIED, signing.digest, given(hashing_algorithm=H.MD5), DATA)
