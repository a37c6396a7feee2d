"""Project Wycheproof against the functions of the room: what attackers send, and what careless checks let through.

The files that the room has an algorithm for: valid vectors come out as published, invalid ones are refused; of those
that are merely acceptable only a wrong result is a failure. What the server does not take although it is valid (short
tags, IVs under eight bytes) must be refused as well, not be done in some other way.
"""

import re
from functools import lru_cache

import pytest

from keystore.crypto import ciphers, derivation, keys, signing
from keystore.crypto.algorithms import (
    CURVES,
    GCM_SIV,
    ML_DSA_44,
    ML_DSA_65,
    ML_DSA_87,
    ML_KEM_768,
    ML_KEM_1024,
    MODES,
    SIV,
    A,
    B,
    C,
    H,
    P,
)
from keystore.crypto.policy import PERMISSIVE
from kmip.enums import DerivationMethod, KeyFormatType, MaskGenerator, ObjectType, ResultReason, ValidityIndicator
from kmip.errors import KMIPError
from kmip.structures import CryptographicParameters
from tests.keystore.crypto.vectors import sample, wycheproof, wycheproof_files

F, O = KeyFormatType, ObjectType  # noqa: E741
HASHES = {
    "SHA-1": H.SHA_1,
    **{f"SHA-{bits}": H[f"SHA_{bits}"] for bits in (224, 256, 384, 512)},
    **{f"SHA-512/{bits}": H[f"SHA_512_{bits}"] for bits in (224, 256)},
    **{f"SHA3-{bits}": H[f"SHA3_{bits}"] for bits in (224, 256, 384, 512)},
}


def hexes(record, *names):
    return [bytes.fromhex(record[name]) for name in names]


def outcome(call, *arguments, **options):
    """What a call gives; None where it is refused."""
    try:
        return call(*arguments, **options)
    except KMIPError:
        return None


def played(name, check):
    """Check the tests of a file: all that are not plainly valid, and some of those that are, since they are many and
    alike. Each file has both, or its test would prove little."""
    tests = list(wycheproof(name))
    telling = [one for one in tests if one[1]["result"] != "valid"]
    plain = sample([one for one in tests if one[1]["result"] == "valid"])
    results = set()
    for group, test in [*telling, *plain]:
        results.add(test["result"])
        check(group, test, test["result"], f"{name} {test['tcId']}: {test.get('comment')}")
    assert len(results) > 1 or name in ONLY_VALID, results


#: What has no codes to be checked, or merely varies lengths.
ONLY_VALID = {"aes_xts_test", "rsa_pss_misc_test"}


# Ciphers.

AEAD = {
    "aes_gcm_test": (A.AES, B.GCM),
    "aes_ccm_test": (A.AES, B.CCM),
    "aes_gcm_siv_test": (A.AES, GCM_SIV),
    "aead_aes_siv_cmac_test": (A.AES, SIV),
    "chacha20_poly1305_test": (A.CHACHA20POLY1305, B.AEAD),
}


@pytest.mark.parametrize("name", AEAD)
def test_authenticated_encryption(name):
    """Whole and in parts; a tag that does not fit opens nothing."""
    algorithm, mode = AEAD[name]

    def check(group, test, result, label):
        key, iv, aad, plain, cipher, tag = hexes(test, "key", "iv", "aad", "msg", "ct", "tag")
        parameters = CryptographicParameters(block_cipher_mode=mode, tag_length=len(tag), random_iv=mode == SIV)
        named = {"iv": iv, "aad": aad, "policy": PERMISSIVE}
        opened = outcome(ciphers.decrypt, algorithm, key, parameters, cipher, tag=tag, **named)
        fits = len(iv) in MODES[mode].ivs and len(tag) in MODES[mode].tags
        assert opened == (plain if result == "valid" and fits else None), label
        assert outcome(parts, algorithm, key, parameters, cipher, tag=tag, **named) == opened, label
        if opened is not None:
            done = ciphers.encrypt(algorithm, key, parameters, plain, **named)
            assert (done.data, done.tag) == (cipher, tag), label

    played(name, check)


def parts(algorithm, key, parameters, data, **named):
    stream = ciphers.decryptor(algorithm, key, parameters, **named)
    return b"".join(stream.update(data[at : at + 5]) for at in range(0, len(data), 5)) + stream.finalize()


def test_deterministic_encryption():
    """AES-SIV without a nonce; its tag comes first there, and apart here."""

    def check(_group, test, result, label):
        key, aad, plain, cipher = hexes(test, "key", "aad", "msg", "ct")
        parameters = CryptographicParameters(block_cipher_mode=SIV)
        tag, body = cipher[:16], cipher[16:]
        opened = outcome(ciphers.decrypt, A.AES, key, parameters, body, tag=tag, aad=aad, policy=PERMISSIVE)
        assert opened == (plain if result == "valid" else None), label
        if result == "valid":
            done = ciphers.encrypt(A.AES, key, parameters, plain, aad=aad, policy=PERMISSIVE)
            assert done.tag + done.data == cipher, label

    played("aes_siv_cmac_test", check)


@pytest.mark.parametrize(("name", "mode"), [("aes_wrap_test", B.NISTKEYWRAP), ("aes_kwp_test", B.AESKEYWRAPPADDING)])
def test_key_wrap(name, mode):
    def check(_group, test, result, label):
        key, plain, cipher = hexes(test, "key", "msg", "ct")
        parameters = CryptographicParameters(block_cipher_mode=mode)
        opened = outcome(ciphers.decrypt, A.AES, key, parameters, cipher)
        if result == "acceptable":
            assert opened in (None, plain), label
            return
        assert opened == (plain if result == "valid" else None), label
        if result == "valid":
            assert ciphers.encrypt(A.AES, key, parameters, plain).data == cipher, label

    played(name, check)


def test_xts():
    """Every length from one block on. The IEEE has no AES-192, nor has the library."""

    def check(_group, test, result, label):
        key, iv, plain, cipher = hexes(test, "key", "iv", "msg", "ct")
        parameters = CryptographicParameters(block_cipher_mode=B.XTS)
        # The number of a data unit, which is a block with the least significant byte first.
        named = {"iv": iv.ljust(16, b"\0")}
        fits = len(key) * 8 in MODES[B.XTS].bits
        opened = outcome(ciphers.decrypt, A.AES, key, parameters, cipher, **named)
        assert opened == (plain if result == "valid" and fits else None), label
        if opened is not None:
            assert ciphers.encrypt(A.AES, key, parameters, plain, **named).data == cipher, label

    played("aes_xts_test", check)


def test_chacha20_with_a_counter():
    """A counter that runs over would repeat the key stream of another nonce."""

    def check(group, test, result, label):
        if group["algorithm"] != "ChaCha20-IETF":
            return
        key, iv, counter, plain = hexes(test, "key", "iv", "initialCounter", "msg")
        parameters = CryptographicParameters(initial_counter_value=int.from_bytes(counter, "little"))
        done = outcome(ciphers.encrypt, A.CHACHA20, key, parameters, plain, iv=iv)
        assert (None if done is None else done.data.hex()) == (test["ct"] if result == "valid" else None), label

    played("chacha20_counter_test", check)


def test_cmac():
    """A code that is cut, changed or of another message is invalid."""

    def check(group, test, result, label):
        key, message, tag = hexes(test, "key", "msg", "tag")
        code = outcome(signing.mac, A.AES, key, CryptographicParameters(block_cipher_mode=B.CMAC), message)
        assert (code is not None and code[: group["tagSize"] // 8] == tag) == (result == "valid"), label

    played("aes_cmac_test", check)


# Key pairs that encrypt and agree.


@pytest.mark.parametrize("name", [name for name in wycheproof_files("rsa_oaep_*_test") if "sha512_2" not in name])
def test_rsa_oaep(name):
    """With every mask and label, and every hash that the library has there."""

    def check(group, test, result, label):
        parameters = CryptographicParameters(
            padding_method=P.OAEP,
            hashing_algorithm=HASHES[group["sha"]],
            mask_generator=MaskGenerator.MGF1,
            mask_generator_hashing_algorithm=HASHES[group["mgfSha"]],
            p_source=bytes.fromhex(test["label"]) or None,
        )
        plain, cipher = hexes(test, "msg", "ct")
        opened = outcome(ciphers.decrypt, A.RSA, private(group), parameters, cipher, policy=PERMISSIVE)
        if result == "acceptable":
            assert opened in (None, plain), label
        else:
            assert opened == (plain if result == "valid" else None), label

    played(name, check)


def test_oaep_with_hashes_that_the_library_does_not_have_there_says_so():
    """SHA-512/224, SHA-512/256 and SHA-3: whoever asks for them learns it before anything is encrypted."""
    group, test = next(wycheproof("rsa_oaep_2048_sha512_224_mgf1sha1_test"))
    parameters = CryptographicParameters(padding_method=P.OAEP, hashing_algorithm=H.SHA_512_224)
    for call, key, data in (
        (ciphers.encrypt, private(group).public_key(), b"x"),
        (ciphers.decrypt, private(group), bytes.fromhex(test["ct"])),
    ):
        with pytest.raises(KMIPError) as caught:
            call(A.RSA, key, parameters, data)
        assert caught.value.reason == ResultReason.UNSUPPORTED_CRYPTOGRAPHIC_PARAMETERS


@lru_cache(maxsize=1)
def loaded(pkcs8):
    return keys.load_private(bytes.fromhex(pkcs8))


def private(group):
    """The private key of a group. There is a key for nearly every test, and to check them all takes minutes."""
    return loaded(group["privateKeyPkcs8"])


@pytest.mark.parametrize("bits", [2048, 3072, 4096])
def test_rsa_pkcs1_v15(bits):
    """OpenSSL answers a wrong padding with random bytes, so that nobody learns of it: never with the message."""

    def check(group, test, result, label):
        plain, cipher = hexes(test, "msg", "ct")
        parameters = CryptographicParameters(padding_method=P.PKCS1_V1_5)
        opened = outcome(ciphers.decrypt, A.RSA, private(group), parameters, cipher, policy=PERMISSIVE)
        assert (opened == plain) == (result == "valid") or opened is None, label
        assert opened is not None or result != "valid", label

    played(f"rsa_pkcs1_{bits}_test", check)


NAMED = {"secp224r1": C.P_224, "secp256r1": C.P_256, "secp384r1": C.P_384, "secp521r1": C.P_521,
          "secp256k1": C.SECP256K1}  # fmt: skip


@pytest.mark.parametrize("curve", NAMED)
def test_ecdh(curve):
    """Public keys with curves of their own, points off the curve, and other ways to get at a private key."""
    size = -(-int(re.search(r"\d+", curve)[0]) // 8)

    def check(_group, test, result, label):
        scalar = int(test["private"], 16).to_bytes(size)
        secret = outcome(agreed, A.EC, NAMED[curve], scalar, F.X_509, bytes.fromhex(test["public"]))
        if result == "acceptable":
            assert secret in (None, bytes.fromhex(test["shared"])), label
        else:
            assert (secret.hex() if secret else None) == (test["shared"] if result == "valid" else None), label

    played(f"ecdh_{curve}_test", check)


def agreed(algorithm, curve, scalar, format_, share):
    ours = keys.read(O.PRIVATE_KEY, F.RAW, scalar, algorithm=algorithm, curve=curve)
    theirs = keys.read(O.PUBLIC_KEY, format_, share, algorithm=algorithm, curve=curve)
    bits = -(-CURVES[curve].bits // 8) * 8
    return derivation.agree(bits, keys.load_private(ours.data), keys.load_public(theirs.data), policy=PERMISSIVE)


@pytest.mark.parametrize(("name", "curve"), [("x25519_test", C.CURVE25519), ("x448_test", C.CURVE448)])
def test_montgomery_curves(name, curve):
    """A secret of zeros, which a public key of small order gives, is refused."""

    def check(_group, test, result, label):
        scalar, share, shared = hexes(test, "private", "public", "shared")
        secret = outcome(agreed, A.ECDH, curve, scalar, F.RAW, share)
        assert secret == shared or (result != "valid" and secret is None), label
        assert any(secret or b"\1"), label

    played(name, check)


ML_KEM = {"768": ML_KEM_768, "1024": ML_KEM_1024}


@pytest.mark.parametrize("size", ML_KEM)
def test_ml_kem(size):
    """Keys from seeds; encapsulations of wrong length; secrets, also those of implicit rejection."""

    def check(_group, test, result, label):
        seed, cipher, secret = hexes(test, "seed", "c", "K")
        key = outcome(keys.read, O.PRIVATE_KEY, F.RAW, seed, algorithm=ML_KEM[size])
        opened = None
        if key is not None:
            opened = outcome(ciphers.decrypt, ML_KEM[size], keys.load_private(key.data), None, cipher)
            assert keys.write(O.PUBLIC_KEY, keys.public_of(key.data).data, F.RAW).hex() == test["ek"], label
        assert opened == (secret if result == "valid" else None), label

    played(f"mlkem_{size}_test", check)


@pytest.mark.parametrize("size", ML_KEM)
def test_ml_kem_public_keys(size):
    """Those with numbers beyond the modulus, or of another length, are no keys (FIPS 203, 7.2)."""

    def check(_group, test, result, label):
        key = outcome(keys.read, O.PUBLIC_KEY, F.RAW, bytes.fromhex(test["ek"]), algorithm=ML_KEM[size])
        done = None if key is None else outcome(ciphers.encrypt, ML_KEM[size], keys.load_public(key.data), None, b"")
        assert (done is not None) == (result == "valid"), label

    played(f"mlkem_{size}_encaps_test", check)


@pytest.mark.parametrize("name", wycheproof_files("hkdf_*_test"))
def test_hkdf(name):
    hashing = HASHES[name.split("_")[1].upper().replace("SHA", "SHA-")]

    def check(_group, test, result, label):
        key, salt, info, out = hexes(test, "ikm", "salt", "info", "okm")
        parameters = CryptographicParameters(hashing_algorithm=hashing)
        data, bits = (info,) if info else (), test["size"] * 8
        made = outcome(
            derivation.derive, DerivationMethod.HKDF, bits, key, parameters=parameters, data=data, salt=salt or None
        )
        assert made == (out if result == "valid" else None), label

    played(name, check)


# Signatures.


def verified(key, parameters, test):
    """Whether a signature counts as valid; what cannot be asked is not."""
    signature, message = hexes(test, "sig", "msg")
    answer = outcome(signing.verify, key, parameters, signature, message, policy=PERMISSIVE)
    stream = outcome(signing.verifier, key, parameters, policy=PERMISSIVE)
    if stream is not None:
        stream.update(message)
        assert stream.finalize(signature) == answer
    return answer == ValidityIndicator.VALID


def public(group):
    """The public key of a group, read as a client would bring it."""
    return read_public(group["publicKeyDer"])


@lru_cache(maxsize=1)
def read_public(der):
    return keys.load_public(keys.read(O.PUBLIC_KEY, F.X_509, bytes.fromhex(der)).data)


SIGNED = [
    name
    for pattern in (
        "ecdsa_*_test",
        "dsa_*_test",
        "rsa_signature_*_test",
        "rsa_pss_*_test",
        "ed25519_test",
        "ed448_test",
    )
    for name in wycheproof_files(pattern)
    # IEEE P1363 signatures and those with Bitcoin's rule are not what the protocol has; parameters inside a key
    # are another file's tests again.
    if not re.search("p1363|bitcoin|_params_", name)
]


@pytest.mark.parametrize("name", SIGNED)
def test_signatures(name):
    """ECDSA and DSA in DER, RSA with both paddings, and the Edwards curves; whole and in parts."""

    def check(group, test, result, label):
        parameters = CryptographicParameters(hashing_algorithm=HASHES[group["sha"]] if "sha" in group else None)
        if name.startswith("rsa_signature"):
            parameters.padding_method = P.PKCS1_V1_5
        if name.startswith("rsa_pss"):
            parameters.padding_method, parameters.salt_length = P.PSS, group["sLen"]
            parameters.mask_generator_hashing_algorithm = HASHES[group["mgfSha"]]
        valid = verified(public(group), parameters, test)
        assert valid == (result == "valid") or result == "acceptable", label

    played(name, check)


@pytest.mark.parametrize("name", wycheproof_files("rsa_pkcs1_*_sig_gen_test"))
def test_rsa_signatures_that_are_made(name):
    """The padding leaves nothing to chance, so that the signature is the published one."""
    for group, test in wycheproof(name):
        parameters = CryptographicParameters(padding_method=P.PKCS1_V1_5, hashing_algorithm=HASHES[group["sha"]])
        made = outcome(signing.sign, private(group), parameters, bytes.fromhex(test["msg"]), policy=PERMISSIVE)
        assert made is None or made.hex() == test["sig"], test["tcId"]
        assert made is not None or test["result"] != "valid", test["tcId"]


ML_DSA = {"44": ML_DSA_44, "65": ML_DSA_65, "87": ML_DSA_87}


@pytest.mark.parametrize("size", ML_DSA)
def test_ml_dsa_signatures(size):
    """Those without a context, which is all that the protocol can carry."""

    def check(group, test, result, label):
        if test.get("ctx"):
            return
        key = outcome(keys.read, O.PUBLIC_KEY, F.RAW, bytes.fromhex(group["publicKey"]), algorithm=ML_DSA[size])
        valid = key is not None and verified(keys.load_public(key.data), None, test)
        assert valid == (result == "valid"), label

    played(f"mldsa_{size}_verify_test", check)


@pytest.mark.parametrize("size", ML_DSA)
def test_ml_dsa_keys_from_seeds_sign(size):
    """What we sign verifies under the published public key, as the published signature does."""
    count = 0
    for group, test in wycheproof(f"mldsa_{size}_sign_seed_test"):
        seed = bytes.fromhex(group["privateSeed"])
        key = outcome(keys.read, O.PRIVATE_KEY, F.RAW, seed, algorithm=ML_DSA[size])
        if key is None or test["result"] != "valid" or test.get("ctx") or not test.get("msg"):
            assert key is not None or test["result"] != "valid"
            continue
        theirs = keys.read(O.PUBLIC_KEY, F.RAW, bytes.fromhex(group["publicKey"]), algorithm=ML_DSA[size])
        ours = signing.sign(keys.load_private(key.data), None, bytes.fromhex(test["msg"]))
        for signature in (ours.hex(), test["sig"]):
            assert verified(keys.load_public(theirs.data), None, {**test, "sig": signature}), test["tcId"]
        count += 1
    assert count
