"""Published vectors for every row of the table, valid and invalid. `tests/vectors/README.md` names the sources."""

import re
from itertools import groupby

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from keystore.crypto import algorithms, ciphers, derivation, keys, signing
from keystore.crypto.algorithms import (
    ALGORITHMS,
    BLAKE2B_512,
    BLAKE2S_256,
    CFB8,
    CURVES,
    GCM_SIV,
    HASHES,
    MAC_MODES,
    ML_DSA_44,
    ML_DSA_65,
    ML_DSA_87,
    ML_KEM_768,
    ML_KEM_1024,
    OCB,
    SIV,
    STREAM_CIPHERS,
    A,
    Asymmetric,
    B,
    C,
    H,
    Mac,
    P,
    Symmetric,
)
from keystore.crypto.policy import PERMISSIVE
from kmip.enums import DerivationMethod, KeyFormatType, ObjectType, ResultReason, ValidityIndicator
from kmip.errors import KMIPError
from kmip.structures import (
    CryptographicParameters,
    TransparentDSAPublicKey,
    TransparentECPublicKey,
    TransparentRSAPrivateKey,
    TransparentRSAPublicKey,
)
from tests.keystore.crypto.vectors import PACKAGE, own, records, sample

VALID, INVALID = ValidityIndicator.VALID, ValidityIndicator.INVALID
F, O = KeyFormatType, ObjectType  # noqa: E741


def hexes(record, *names):
    return [bytes.fromhex(record.get(name, "")) for name in names]


def first(record, *names):
    """The first of the names that the record has, as bytes; empty if it has none."""
    return next((bytes.fromhex(record[name]) for name in names if name in record), b"")


# ---------------------------------------------------------------------------------------------------------------------
# Ciphers

AES = "ciphers/AES"


def nist(mode, prefix, kinds=("MMT", "VarKey", "VarTxt", "KeySbox", "GFSbox")):
    return [f"{AES}/{mode}/{prefix}{kind}{bits}.rsp" for kind in kinds for bits in (128, 192, 256)]


def triple(mode, prefix):
    kinds = ("MMT1", "MMT2", "MMT3", "varkey", "vartext", "permop", "subtab", "invperm")
    return [f"ciphers/3DES/{mode}/{prefix}{kind}.rsp" for kind in kinds]


#: The files for each cipher and mode.
PLAIN = {
    (A.AES, B.ECB): nist("ECB", "ECB"),
    (A.AES, B.CBC): nist("CBC", "CBC"),
    (A.AES, B.CFB): nist("CFB", "CFB128"),
    (A.AES, CFB8): nist("CFB", "CFB8"),
    (A.AES, B.OFB): nist("OFB", "OFB"),
    (A.AES, B.CTR): [f"{AES}/CTR/aes-{bits}-ctr.txt" for bits in (128, 192, 256)],
    (A.AES, B.XTS): [f"{AES}/XTS/tweak-128hexstr/XTSGenAES{bits}.rsp" for bits in (128, 256)],
    (A.CHACHA20, None): ["ciphers/ChaCha20/rfc7539.txt"],
    (A.DES3, B.ECB): triple("ECB", "TECB"),
    (A.DES3, B.CBC): triple("CBC", "TCBC"),
    (A.DES3, B.CFB): triple("CFB", "TCFB64"),
    (A.DES3, CFB8): triple("CFB", "TCFB8"),
    (A.DES3, B.OFB): triple("OFB", "TOFB"),
    (A.CAMELLIA, B.ECB): [f"ciphers/Camellia/camellia-{bits}-ecb.txt" for bits in (128, 192, 256)],
    (A.CAMELLIA, B.CBC): ["ciphers/Camellia/camellia-cbc.txt"],
    (A.CAMELLIA, B.CFB): ["ciphers/Camellia/camellia-cfb.txt"],
    (A.CAMELLIA, B.OFB): ["ciphers/Camellia/camellia-ofb.txt"],
    **{(A.CAST5, mode): [f"ciphers/CAST5/cast5-{mode.name.lower()}.txt"] for mode in (B.ECB, B.CBC, B.CFB, B.OFB)},
    **{(A.BLOWFISH, mode): [f"ciphers/Blowfish/bf-{mode.name.lower()}.txt"] for mode in (B.ECB, B.CBC, B.CFB, B.OFB)},
    **{(A.IDEA, mode): [f"ciphers/IDEA/idea-{mode.name.lower()}.txt"] for mode in (B.ECB, B.CBC, B.CFB, B.OFB)},
    (A.SEED, B.ECB): ["ciphers/SEED/rfc-4269.txt"],
    (A.SEED, B.CBC): ["ciphers/SEED/rfc-4196.txt"],
    (A.SEED, B.CFB): ["ciphers/SEED/seed-cfb.txt"],
    (A.SEED, B.OFB): ["ciphers/SEED/seed-ofb.txt"],
    **{
        (A.SM4, mode): [f"ciphers/SM4/draft-ribose-cfrg-sm4-10-{mode.name.lower()}.txt"]
        for mode in (B.ECB, B.CBC, B.CFB, B.OFB, B.CTR)
    },
    (A.RC2, B.CBC): ["ciphers/RC2/rc2-cbc.txt"],
    (A.RC4, None): ["ciphers/ARC4/arc4.txt", *(f"ciphers/ARC4/rfc-6229-{bits}.txt" for bits in (40, 56, 64, 80, 128))],
}
#: Single DES is the triple DES files in which the three keys are one.
PLAIN |= {(A.DES, mode): PLAIN[A.DES3, mode] for mode in (B.ECB, B.CBC, B.CFB, CFB8, B.OFB)}

AEAD = {
    (A.AES, B.GCM): [f"{AES}/GCM/gcmDecrypt{bits}.rsp" for bits in (128, 192, 256)]
    + [f"{AES}/GCM/gcmEncryptExtIV{bits}.rsp" for bits in (128, 192, 256)],
    (A.AES, B.CCM): [
        f"{AES}/CCM/{kind}{bits}.rsp" for kind in ("DVPT", "VADT", "VNT", "VPT", "VTT") for bits in (128, 192, 256)
    ],
    (A.AES, GCM_SIV): [f"{AES}/GCM-SIV/openssl.txt", f"{AES}/GCM-SIV/aes-192-gcm-siv.txt"],
    (A.AES, SIV): [f"{AES}/SIV/openssl.txt"],
    (A.AES, OCB): [f"{AES}/OCB3/rfc7253.txt"],
    (A.CHACHA20POLY1305, B.AEAD): ["ciphers/ChaCha20Poly1305/openssl.txt"],
}
WRAP = {
    (A.AES, B.NISTKEYWRAP): [
        f"keywrap/kwtestvectors/KW_{kind}_{bits}.txt" for kind in ("AE", "AD") for bits in (128, 192, 256)
    ],
    (A.AES, B.AESKEYWRAPPADDING): [
        f"keywrap/kwtestvectors/KWP_{kind}_{bits}.txt" for kind in ("AE", "AD") for bits in (128, 192, 256)
    ],
}


def camellia_records(path):
    """`K No.001 : 00 00 ...`, then `P No.001` and `C No.001`."""
    record = {}
    for line in (PACKAGE / path).read_text().splitlines():
        found = re.match(r"([KPC]) No\.\d+ : (.*)", line)
        if found:
            record[{"K": "key", "P": "plaintext", "C": "ciphertext"}[found[1]]] = found[2].replace(" ", "")
            if found[1] == "C":
                yield dict(record)


def plain_cases(algorithm, mode):
    for path in PLAIN[algorithm, mode]:
        found = camellia_records(path) if path.endswith("-ecb.txt") and "camellia" in path else records(path)
        for record in sample(found):
            if "key1" in record or "keys" in record:
                parts = [record.get(name, record.get("keys")) for name in ("key1", "key2", "key3")]
                if algorithm == A.DES and len(set(parts)) != 1:
                    continue
                key = bytes.fromhex(parts[0] if algorithm == A.DES else "".join(parts))
            else:
                key = first(record, "key")
            yield (
                key,
                first(record, "iv", "i", "nonce"),
                first(record, "plaintext", "pt"),
                first(record, "ciphertext", "ct"),
                record,
            )


@pytest.mark.parametrize(("algorithm", "mode"), PLAIN, ids=lambda each: str(each))
def test_a_cipher_gives_the_published_ciphertext(algorithm, mode):
    """Plaintext and ciphertext turn into each other, whole and in parts."""
    count = 0
    for key, iv, plain, cipher, record in plain_cases(algorithm, mode):
        parameters = CryptographicParameters(block_cipher_mode=mode)
        if algorithm == A.CHACHA20:
            parameters.initial_counter_value = int(record["initial_block_counter"])
        named = {"iv": iv or None, "policy": PERMISSIVE}
        if "dataunitlen" in record and int(record["dataunitlen"]) % 8:
            continue
        skipped = bytes(int(record.get("offset", 0)))
        if skipped:
            # RC4 vectors at an offset of the key stream.
            stream = ciphers.encryptor(algorithm, key, parameters, **named)
            stream.update(skipped)
            assert stream.update(plain) == cipher
            count += 1
            continue
        assert ciphers.encrypt(algorithm, key, parameters, plain, **named).data == cipher
        assert ciphers.decrypt(algorithm, key, parameters, cipher, **named) == plain
        for stream, source, wanted in (
            (ciphers.encryptor(algorithm, key, parameters, **named), plain, cipher),
            (ciphers.decryptor(algorithm, key, parameters, **named), cipher, plain),
        ):
            parts = b"".join(stream.update(source[at : at + 1]) for at in range(len(source)))
            assert parts + stream.finalize() == wanted
        count += 1
    assert count


def aead_cases(algorithm, mode):
    for path in AEAD[algorithm, mode]:
        start = "count"
        for record in sample(records(path, start=start)):
            key, iv = first(record, "key", "k"), first(record, "iv", "nonce", "n")
            aad = first(record, "aad", "adata", "a")
            plain, cipher = first(record, "plaintext", "pt", "payload", "p"), first(record, "ciphertext", "ct", "c")
            tag = first(record, "tag")
            if mode == B.CCM:
                size = int(record["tlen"])
                if record.get("alen", "1") == "0":
                    aad = b""
                if record.get("plen", "1") == "0":
                    plain = b""
                cipher, tag = cipher[: len(cipher) - size], cipher[len(cipher) - size :]
            if mode == OCB:
                cipher, tag = cipher[:-16], cipher[-16:]
            if mode == SIV:
                # Several components of additional data are not something that the protocol can carry.
                if "aad2" in record and "aad3" in record:
                    continue
                iv = first(record, "aad2")
            good = not record.get("result", "Pass").upper().startswith(("F", "CIPHERFINAL"))
            yield key, iv, aad, plain, cipher, tag, good


@pytest.mark.parametrize(("algorithm", "mode"), AEAD, ids=lambda each: str(each))
def test_an_authenticated_mode_gives_the_published_ciphertext_and_tag(algorithm, mode):
    """What is published as valid opens and comes out again; what is not, or is changed, is a cryptographic failure."""
    count = 0
    for key, iv, aad, plain, cipher, tag, good in aead_cases(algorithm, mode):
        if mode == B.GCM and (len(tag) < 12 or len(iv) < 8):
            # Shorter than what the server accepts.
            continue
        parameters = CryptographicParameters(block_cipher_mode=mode, tag_length=len(tag))
        if mode == SIV and iv:
            parameters.random_iv = True
        named = {"iv": iv or None, "aad": aad or None, "policy": PERMISSIVE}
        if good:
            done = ciphers.encrypt(algorithm, key, parameters, plain, **named)
            assert (done.data, done.tag) == (cipher, tag)
            assert ciphers.decrypt(algorithm, key, parameters, cipher, tag=tag, **named) == plain
            assert ciphers.decrypt(algorithm, key, parameters, cipher + tag, **named) == plain
            stream = ciphers.encryptor(algorithm, key, parameters, **named)
            assert (
                b"".join(stream.update(plain[at : at + 7]) for at in range(0, len(plain), 7)) + stream.finalize()
                == cipher
            )
            assert stream.tag == tag
            stream = ciphers.decryptor(algorithm, key, parameters, tag=tag, **named)
            assert (
                b"".join(stream.update(cipher[at : at + 7]) for at in range(0, len(cipher), 7)) + stream.finalize()
                == plain
            )
            broken = [(cipher, bytes([tag[0] ^ 1]) + tag[1:])]
            broken += [(bytes([cipher[0] ^ 1]) + cipher[1:], tag)] if cipher else []
        else:
            broken = [(cipher, tag)]
        for bad_cipher, bad_tag in broken:
            with pytest.raises(KMIPError) as caught:
                ciphers.decrypt(algorithm, key, parameters, bad_cipher, tag=bad_tag, **named)
            assert caught.value.reason == ResultReason.CRYPTOGRAPHIC_FAILURE
            stream = ciphers.decryptor(algorithm, key, parameters, tag=bad_tag, **named)
            stream.update(bad_cipher)
            with pytest.raises(KMIPError) as caught:
                stream.finalize()
            assert caught.value.reason == ResultReason.CRYPTOGRAPHIC_FAILURE
        count += 1
    assert count


@pytest.mark.parametrize(("algorithm", "mode"), WRAP, ids=lambda each: str(each))
def test_a_key_wrap_gives_the_published_result(algorithm, mode):
    """SP 800-38F, wrap and unwrap; a wrapped key with a wrong check value is a cryptographic failure."""
    parameters = CryptographicParameters(block_cipher_mode=mode)
    results = set()
    for path in WRAP[algorithm, mode]:
        for record in sample(records(path), 40):
            key, plain, wrapped = hexes(record, "k", "p", "c")
            good = record.get("result") != "FAIL"
            results.add(good)
            if not good:
                with pytest.raises(KMIPError) as caught:
                    ciphers.decrypt(algorithm, key, parameters, wrapped)
                assert caught.value.reason == ResultReason.CRYPTOGRAPHIC_FAILURE
                continue
            assert ciphers.decrypt(algorithm, key, parameters, wrapped) == plain
            assert ciphers.encrypt(algorithm, key, parameters, plain).data == wrapped
    assert results == {True, False}


# ---------------------------------------------------------------------------------------------------------------------
# Hashes and MACs

HASH_FILES = {
    H.MD5: ["MD5/rfc-1321.txt"],
    H.SHA_1: ["SHA1/SHA1ShortMsg.rsp", "SHA1/SHA1LongMsg.rsp"],
    **{
        hashing: [f"SHA2/SHA{name}ShortMsg.rsp", f"SHA2/SHA{name}LongMsg.rsp"]
        for hashing, name in {
            H.SHA_224: "224",
            H.SHA_256: "256",
            H.SHA_384: "384",
            H.SHA_512: "512",
            H.SHA_512_224: "512_224",
            H.SHA_512_256: "512_256",
        }.items()
    },
    **{
        hashing: [f"SHA3/{name}ShortMsg.rsp", f"SHA3/{name}LongMsg.rsp"]
        for hashing, name in {
            H.SHA3_224: "SHA3_224",
            H.SHA3_256: "SHA3_256",
            H.SHA3_384: "SHA3_384",
            H.SHA3_512: "SHA3_512",
        }.items()
    },
    BLAKE2B_512: ["blake2/blake2b.txt"],
    BLAKE2S_256: ["blake2/blake2s.txt"],
}


@pytest.mark.parametrize("hashing", HASH_FILES, ids=str)
def test_a_hash_gives_the_published_digest(hashing):
    """Whole and in parts."""
    parameters = CryptographicParameters(hashing_algorithm=hashing)
    for path in HASH_FILES[hashing]:
        for record in sample(records(f"hashes/{path}", start="len")):
            message = bytes.fromhex(record["msg"]) if record["len"] != "0" else b""
            assert signing.digest(parameters, message, policy=PERMISSIVE).hex() == record["md"].lower()
            context = signing.hasher(parameters, policy=PERMISSIVE)
            context.update(message[:5])
            context.update(message[5:])
            assert context.finalize().hex() == record["md"].lower()


HMAC_FILES = {
    A.HMAC_MD5: "rfc-2202-md5",
    A.HMAC_SHA1: "rfc-2202-sha1",
    A.HMAC_SHA224: "rfc-4231-sha224",
    A.HMAC_SHA256: "rfc-4231-sha256",
    A.HMAC_SHA384: "rfc-4231-sha384",
    A.HMAC_SHA512: "rfc-4231-sha512",
}
CMAC_FILES = {
    A.AES: [f"CMAC/nist-800-38b-aes{bits}.txt" for bits in (128, 192, 256)],
    A.DES3: ["CMAC/nist-800-38b-3des.txt"],
}


def mac_cases():
    for algorithm, name in HMAC_FILES.items():
        for record in records(f"HMAC/{name}.txt", start="len"):
            key, message, code = hexes(record, "key", "msg", "md")
            yield algorithm, None, key, message, code
    for algorithm, paths in CMAC_FILES.items():
        for path in paths:
            for record in records(path):
                key = first(record, "key") or b"".join(hexes(record, "key1", "key2", "key3"))
                yield algorithm, B.CMAC, key, *hexes(record, "message", "output")
    for record in records("poly1305/rfc7539.txt"):
        yield A.POLY1305, None, *hexes(record, "key", "msg", "tag")
    # CBC-MAC of one block is its CBC encryption under a zero IV, of which NIST has published many.
    for algorithm, path in ((A.AES, f"{AES}/CBC/CBCVarTxt128.rsp"), (A.DES3, "ciphers/3DES/CBC/TCBCvartext.rsp")):
        for record in sample(records(path), 20):
            key = first(record, "key", "keys") * (3 if algorithm == A.DES3 else 1)
            if not any(first(record, "iv")):
                yield algorithm, B.CBC_MAC, key, *hexes(record, "plaintext", "ciphertext")
    for record in own("macs.json"):
        algorithm = A.by_spelling()[record["algorithm"]]
        mode = B.by_spelling()[record["mode"]] if "mode" in record else None
        message = record["text"].encode() if "text" in record else bytes.fromhex(record["message"])
        yield algorithm, mode, bytes.fromhex(record["key"]), message, bytes.fromhex(record["code"])


@pytest.mark.parametrize(
    ("algorithm", "mode"), sorted({case[:2] for case in mac_cases()}, key=str), ids=lambda each: str(each)
)
def test_a_message_authentication_code_is_the_published_one(algorithm, mode):
    """Whole, in parts, and as seen by MAC Verify; a changed code is invalid."""
    parameters = CryptographicParameters(block_cipher_mode=mode) if mode else None
    for _, _, key, message, code in (case for case in mac_cases() if case[:2] == (algorithm, mode)):
        named = {"policy": PERMISSIVE}
        assert signing.mac(algorithm, key, parameters, message, **named) == code
        context = signing.authenticator(algorithm, key, parameters, **named)
        for at in range(len(message)):
            context.update(message[at : at + 1])
        assert context.finalize() == code
        assert signing.mac_verify(algorithm, key, parameters, message, code, **named) == VALID
        changed = bytes([code[0] ^ 1]) + code[1:]
        assert signing.mac_verify(algorithm, key, parameters, message, changed, **named) == INVALID
        assert signing.mac_verify(algorithm, key, parameters, message, code[:-1], **named) == INVALID


# ---------------------------------------------------------------------------------------------------------------------
# Signatures

NIST_HASHES = {
    "SHA-1": H.SHA_1,
    "SHA1": H.SHA_1,
    **{f"SHA{dash}{bits}": getattr(H, f"SHA_{bits}") for bits in (224, 256, 384, 512) for dash in ("", "-")},
}
NIST_CURVES = {
    "P-192": C.P_192,
    "P-224": C.P_224,
    "P-256": C.P_256,
    "P-384": C.P_384,
    "P-521": C.P_521,
    "K-256": C.SECP256K1,
}


def public(format, material, algorithm):
    return keys.load_public(keys.read(O.PUBLIC_KEY, format, material, algorithm=algorithm).data)


def check(key, parameters, signature, message, expected):
    """One verification, whole and in parts; a valid signature of one message is not one of another."""
    assert signing.verify(key, parameters, signature, message, policy=PERMISSIVE) == expected
    verifier = signing.verifier(key, parameters, policy=PERMISSIVE)
    verifier.update(message[:3])
    verifier.update(message[3:])
    assert verifier.finalize(signature) == expected
    if expected == VALID:
        assert signing.verify(key, parameters, signature, message + b"x", policy=PERMISSIVE) == INVALID


def ecdsa_cases():
    for path in ("FIPS_186-3/SigVer.rsp", "SECP256K1/SigGen.txt"):
        for record in records(f"asymmetric/ECDSA/{path}", start="msg"):
            curve, hashing = record["section"].split(",")
            if curve in NIST_CURVES:
                yield NIST_CURVES[curve], NIST_HASHES[hashing], record


@pytest.mark.parametrize("curve", sorted(set(NIST_CURVES.values())), ids=str)
def test_ecdsa_signatures_are_verified_as_published(curve):
    """FIPS 186 signature verification, with the ones that must fail."""
    results = set()
    for _, hashing, record in sample((case for case in ecdsa_cases() if case[0] == curve), 60):
        point = b"\4" + b"".join(int(record[name], 16).to_bytes((CURVES[curve].bits + 7) // 8) for name in ("qx", "qy"))
        key = public(
            F.TRANSPARENT_EC_PUBLIC_KEY, TransparentECPublicKey(recommended_curve=curve, q_string=point), A.ECDSA
        )
        parameters = CryptographicParameters(cryptographic_algorithm=A.ECDSA, hashing_algorithm=hashing)
        signature = encode_dss_signature(int(record["r"], 16), int(record["s"], 16))
        expected = INVALID if record.get("result", "P").startswith("F") else VALID
        results.add(expected)
        check(key, parameters, signature, bytes.fromhex(record["msg"]), expected)
    assert VALID in results


def test_dsa_signatures_are_verified_as_published():
    """FIPS 186-3 signature verification, with the ones that must fail."""
    results = set()
    found = (
        each for each in records("asymmetric/DSA/FIPS_186-3/SigVer.rsp", start="msg") if "n=" in each["section"].lower()
    )
    for record in sample(found, 60):
        hashing = NIST_HASHES[record["section"].split(",")[-1].strip()]
        numbers = {name: int(record[name], 16) for name in "pqgy"}
        key = public(F.TRANSPARENT_DSA_PUBLIC_KEY, TransparentDSAPublicKey(**numbers), A.DSA)
        parameters = CryptographicParameters(cryptographic_algorithm=A.DSA, hashing_algorithm=hashing)
        signature = encode_dss_signature(int(record["r"], 16), int(record["s"], 16))
        expected = INVALID if record["result"].startswith("F") else VALID
        results.add(expected)
        check(key, parameters, signature, bytes.fromhex(record["msg"]), expected)
    assert results == {VALID, INVALID}


@pytest.mark.parametrize(
    ("path", "padding"),
    [("SigVer15_186-3.rsp", P.PKCS1_V1_5), ("SigVerPSS_186-3.rsp", P.PSS)],
    ids=["pkcs1v15", "pss"],
)
def test_rsa_signatures_are_verified_as_published(path, padding):
    """FIPS 186-3 signature verification, with the ones that must fail."""
    results = set()
    for record in sample(records(f"asymmetric/RSA/FIPS_186-2/{path}", start="shaalg", shared=("n",)), 80):
        numbers = TransparentRSAPublicKey(modulus=int(record["n"], 16), public_exponent=int(record["e"], 16))
        try:
            key = public(F.TRANSPARENT_RSA_PUBLIC_KEY, numbers, A.RSA)
        except KMIPError:
            continue
        parameters = CryptographicParameters(
            cryptographic_algorithm=A.RSA, padding_method=padding, hashing_algorithm=NIST_HASHES[record["shaalg"]]
        )
        expected = INVALID if record["result"].startswith("F") else VALID
        results.add(expected)
        check(key, parameters, bytes.fromhex(record["s"]), bytes.fromhex(record["msg"]), expected)
    assert results == {VALID, INVALID}


def test_ed25519_signatures_are_the_published_ones():
    """The file that comes with the reference implementation: secret key, public key, message, signature."""
    for line in sample((PACKAGE / "asymmetric/Ed25519/sign.input").read_text().splitlines(), 60):
        secret, known, message, signed = (bytes.fromhex(part) for part in line.split(":")[:4])
        check_edwards(A.ED25519, secret[:32], known, message, signed[:64])


def test_ed448_signatures_are_the_published_ones():
    """RFC 8032; the protocol carries no context, so those with one are left out."""
    for record in records("asymmetric/Ed448/rfc8032.txt"):
        if "context" not in record:
            check_edwards(A.ED448, *hexes(record, "secret", "public", "message", "signature"))


def check_edwards(algorithm, secret, known, message, signature):
    private = keys.read(O.PRIVATE_KEY, F.RAW, secret, algorithm=algorithm)
    key = keys.load_private(private.data)
    assert keys.write(O.PUBLIC_KEY, keys.public_of(private.data).data, F.RAW) == known
    assert signing.sign(key, None, message) == signature
    signer = signing.signer(key, None)
    signer.update(message)
    assert signer.finalize() == signature
    check(key.public_key(), None, signature, message, VALID)
    check(key.public_key(), None, bytes([signature[0] ^ 1]) + signature[1:], message, INVALID)


@pytest.mark.parametrize(("algorithm", "name"), [(ML_DSA_44, "44"), (ML_DSA_65, "65"), (ML_DSA_87, "87")], ids=str)
def test_ml_dsa_keys_are_the_published_ones(algorithm, name):
    """The public key of a published seed; every published signature has a context, which the protocol cannot carry."""
    for record in sample(records(f"asymmetric/MLDSA/kat_MLDSA_{name}_det_pure.rsp"), 5):
        private = keys.read(O.PRIVATE_KEY, F.RAW, bytes.fromhex(record["xi"]), algorithm=algorithm)
        key = keys.load_private(private.data)
        assert keys.write(O.PUBLIC_KEY, keys.public_of(private.data).data, F.RAW).hex() == record["pk"].lower()
        message, signed = bytes.fromhex(record["msg"]), bytes.fromhex(record["sm"])
        published = signed[: len(signed) - len(message)]
        key.public_key().verify(published, message, bytes.fromhex(record["ctx"]))
        # Under another context, the published signature must not verify.
        check(key.public_key(), None, published, message, INVALID)
        check(key.public_key(), None, signing.sign(key, None, message), message, VALID)
        signer = signing.signer(key, None)
        signer.update(message)
        check(key.public_key(), None, signer.finalize(), message, VALID)


# ---------------------------------------------------------------------------------------------------------------------
# Encryption, encapsulation and agreement with key pairs


def commented_records(path):
    """The RSA files: `# Name:` and hexadecimal lines below it; a new `Modulus` begins a key."""
    key, name, values = {}, None, []
    text = (PACKAGE / path).read_text(errors="replace").splitlines()
    for line in [*text, "# End:"]:
        line = line.strip()
        if line.startswith("#"):
            title = line.strip("# ").rstrip(":").lower()
            if name and values:
                key[name] = "".join(values)
                if name == "encryption":
                    yield dict(key)
            label = re.search(r"alg=(\w+) mgf1=(\w+)", title)
            if label:
                key["hash"], key["mask"] = label.groups()
            name, values = title, []
        elif re.fullmatch(r"[0-9a-f ]+", line):
            values.append(line.replace(" ", ""))


def rsa_key(record):
    numbers = TransparentRSAPrivateKey(
        modulus=int(record["modulus"], 16),
        p=int(record["prime 1"], 16),
        q=int(record["prime 2"], 16),
        public_exponent=int(record["public exponent"], 16),
    )
    found = keys.read(O.PRIVATE_KEY, F.TRANSPARENT_RSA_PRIVATE_KEY, numbers, algorithm=A.RSA)
    return keys.load_private(found.data)


OAEP = sorted(path.name for path in (PACKAGE / "asymmetric/RSA/oaep-custom").iterdir())
OAEP_HASHES = {"sha1": H.SHA_1, "sha224": H.SHA_224, "sha256": H.SHA_256, "sha384": H.SHA_384, "sha512": H.SHA_512}


@pytest.mark.parametrize("name", OAEP)
def test_oaep_opens_the_published_ciphertexts(name):
    """Every combination of hash and mask generator hash; a changed ciphertext is a cryptographic failure."""
    count = 0
    for record in sample(commented_records(f"asymmetric/RSA/oaep-custom/{name}"), 4):
        parameters = CryptographicParameters(
            cryptographic_algorithm=A.RSA,
            padding_method=P.OAEP,
            hashing_algorithm=OAEP_HASHES[record["hash"]],
            mask_generator_hashing_algorithm=OAEP_HASHES[record["mask"]],
        )
        check_rsa_decryption(record, parameters)
        count += 1
    assert count


def test_pkcs1_v15_opens_the_published_ciphertexts():
    """RSA Laboratories' vectors."""
    parameters = CryptographicParameters(cryptographic_algorithm=A.RSA, padding_method=P.PKCS1_V1_5)
    for record in sample(commented_records("asymmetric/RSA/pkcs1v15crypt-vectors.txt"), 10):
        key, cipher = rsa_key(record), bytes.fromhex(record["encryption"])
        opened = ciphers.decrypt(A.RSA, key, parameters, cipher, policy=PERMISSIVE)
        assert opened.hex() == record["message"]


def check_rsa_decryption(record, parameters):
    key, cipher = rsa_key(record), bytes.fromhex(record["encryption"])
    assert ciphers.decrypt(A.RSA, key, parameters, cipher, policy=PERMISSIVE).hex() == record["message"]
    with pytest.raises(KMIPError) as caught:
        ciphers.decrypt(A.RSA, key, parameters, cipher[:-1] + bytes([cipher[-1] ^ 1]), policy=PERMISSIVE)
    assert caught.value.reason == ResultReason.CRYPTOGRAPHIC_FAILURE


def test_oaep_with_a_label_opens_the_published_ciphertext():
    """The P Source of the parameters is the label."""
    (record,) = records("asymmetric/RSA/oaep-label.txt")
    key = keys.load_private(keys.read(O.PRIVATE_KEY, F.PKCS_8, bytes.fromhex(record["key"])).data)
    parameters = CryptographicParameters(
        padding_method=P.OAEP, hashing_algorithm=H.SHA_512, p_source=bytes.fromhex(record["oaeplabel"])
    )
    cipher = bytes.fromhex(record["input"])
    assert ciphers.decrypt(A.RSA, key, parameters, cipher) == record["output"].strip('"').encode()
    parameters.p_source = b"another"
    with pytest.raises(KMIPError):
        ciphers.decrypt(A.RSA, key, parameters, cipher)


@pytest.mark.parametrize(("algorithm", "name"), [(ML_KEM_768, "768"), (ML_KEM_1024, "1024")], ids=str)
def test_ml_kem_decapsulates_the_published_secrets(algorithm, name):
    """FIPS 203, with the secret that a wrong encapsulation is to give (implicit rejection)."""
    for record in sample(records(f"asymmetric/MLKEM/kat_MLKEM_{name}.rsp"), 10):
        seed = bytes.fromhex(record["d"] + record["z"])
        private = keys.read(O.PRIVATE_KEY, F.RAW, seed, algorithm=algorithm)
        key = keys.load_private(private.data)
        assert keys.write(O.PUBLIC_KEY, keys.public_of(private.data).data, F.RAW).hex() == record["pk"].lower()
        for cipher, secret in (("ct", "ss"), ("ct_n", "ss_n")):
            opened = ciphers.decrypt(algorithm, key, None, bytes.fromhex(record[cipher]))
            assert opened.hex() == record[secret].lower()
        with pytest.raises(KMIPError) as caught:
            ciphers.decrypt(algorithm, key, None, bytes.fromhex(record["ct"])[:-1])
        assert caught.value.reason == ResultReason.CRYPTOGRAPHIC_FAILURE


@pytest.mark.parametrize(("curve", "path"), [(C.CURVE25519, "X25519"), (C.CURVE448, "X448")], ids=str)
def test_key_agreement_on_the_montgomery_curves_is_the_published_one(curve, path):
    """RFC 7748."""
    for record in records(f"asymmetric/{path}/rfc7748.txt"):
        scalar, u, out = hexes(record, "input_scalar", "input_u", "output_u")
        private = keys.read(O.PRIVATE_KEY, F.RAW, scalar, algorithm=A.ECDH, curve=curve)
        other = keys.read(O.PUBLIC_KEY, F.RAW, u, algorithm=A.ECDH, curve=curve)
        secret = derivation.agree(len(out) * 8, keys.load_private(private.data), keys.load_public(other.data))
        assert secret == out


BRAINPOOL = {
    "brainpoolP256r1": C.BRAINPOOLP256R1,
    "brainpoolP384r1": C.BRAINPOOLP384R1,
    "brainpoolP512r1": C.BRAINPOOLP512R1,
}


def test_key_agreement_on_the_brainpool_curves_is_the_published_one():
    """RFC 6954."""
    for record in records("asymmetric/ECDH/brainpool.txt"):
        curve = BRAINPOOL[record["curve"]]
        size = CURVES[curve].bits // 8
        point = b"\4" + b"".join(int(record[name], 16).to_bytes(size) for name in ("x_qb", "y_qb"))
        private = keys.read(O.PRIVATE_KEY, F.RAW, int(record["da"], 16).to_bytes(size), curve=curve)
        other = keys.read(O.PUBLIC_KEY, F.RAW, point, curve=curve)
        secret = derivation.agree(size * 8, keys.load_private(private.data), keys.load_public(other.data))
        assert secret == int(record["x_z"], 16).to_bytes(size)


def test_key_agreement_on_the_nist_curves_is_the_published_one():
    """CAVP KAS validity tests, with the points that must be refused."""
    names = {"EA": C.P_192, "EB": C.P_224, "EC": C.P_256, "ED": C.P_384, "EE": C.P_521}
    results = set()
    path = "asymmetric/ECDH/KASValidityTest_ECCStaticUnified_NOKC_ZZOnly_init.fax"
    for record in sample((each for each in records(path) if "dsiut" in each), 80):
        curve = names[record["section"].split(" ")[0]]
        size = (CURVES[curve].bits + 7) // 8
        point = b"\4" + b"".join(int(record[name], 16).to_bytes(size) for name in ("qscavsx", "qscavsy"))
        private = keys.read(O.PRIVATE_KEY, F.RAW, int(record["dsiut"], 16).to_bytes(size), curve=curve)
        good = record["result"].startswith("P")
        results.add(good)
        try:
            other = keys.read(O.PUBLIC_KEY, F.RAW, point, curve=curve)
            ours, theirs = keys.load_private(private.data), keys.load_public(other.data)
            secret = derivation.agree(size * 8, ours, theirs, policy=PERMISSIVE)
        except KMIPError:
            secret = None
        assert (secret == int(record["z"], 16).to_bytes(size)) == good
    assert results == {True, False}


# ---------------------------------------------------------------------------------------------------------------------
# Derivation


def derivation_cases():
    for record in records("KDF/rfc-6070-PBKDF2-SHA1.txt"):
        if int(record["iterations"]) < 100000:
            fields = {name: record[name].replace("\\0", "\0").encode() for name in ("password", "salt")}
            named = {"salt": fields["salt"], "iterations": int(record["iterations"])}
            yield DerivationMethod.PBKDF2, fields["password"], None, named, bytes.fromhex(record["derived_key"])
    for name, hashing in (("SHA256", H.SHA_256), ("SHA1", H.SHA_1)):
        for record in records(f"KDF/rfc-5869-HKDF-{name}.txt"):
            key, salt, info, out = hexes(record, "ikm", "salt", "info", "okm")
            yield DerivationMethod.HKDF, key, hashing, {"salt": salt or None, "data": (info,)}, out
    prfs = {
        f"HMAC_{name}": hashing for name, hashing in (("SHA1", H.SHA_1), ("SHA256", H.SHA_256), ("SHA512", H.SHA_512))
    }
    prfs |= {f"CMAC_AES{bits}": None for bits in (128, 192, 256)}
    counter = (
        record
        for record in records("KDF/nist-800-108-KBKDF-CTR.txt")
        if record["ctrlocation"] == "BEFORE_FIXED" and record["rlen"] == "32_BITS" and record["prf"] in prfs
    )
    for record in sample(counter, 60):
        key, data, out = hexes(record, "ki", "fixedinputdata", "ko")
        yield DerivationMethod.NIST800_108_C, key, prfs[record["prf"]], {"data": (data,)}, out
    for record in own("derivation.json"):
        method = DerivationMethod.by_spelling()[record["method"]]
        hashing = H.by_spelling()[record["hash"]] if "hash" in record else None
        named = {"data": tuple(bytes.fromhex(each) for each in record["data"])}
        named |= {name: bytes.fromhex(record[name]) for name in ("iv", "salt") if name in record}
        named |= {"iterations": record["iterations"]} if "iterations" in record else {}
        yield method, bytes.fromhex(record["key"]), hashing, named, bytes.fromhex(record["out"])


DERIVATIONS = [
    (method, list(cases))
    for method, cases in groupby(sorted(derivation_cases(), key=lambda each: each[0]), lambda each: each[0])
]


@pytest.mark.parametrize(("method", "cases"), DERIVATIONS, ids=[str(method) for method, _ in DERIVATIONS])
def test_a_derivation_gives_the_published_key(method, cases):
    """Whole, and as the first bytes of a shorter one."""
    for _, key, hashing, named, out in cases:
        parameters = CryptographicParameters(hashing_algorithm=hashing)
        if hashing is None and method != DerivationMethod.PBKDF2:
            parameters.block_cipher_mode = B.CMAC
        named |= {"algorithm": A.AES, "parameters": parameters}
        assert derivation.derive(method, len(out) * 8, key, **named) == out
        if method != DerivationMethod.PBKDF2 or len(out) < 21:
            assert derivation.derive(method, 8, key, **named) == out[:1]


# ---------------------------------------------------------------------------------------------------------------------
# Completeness

#: What proves each kind of key pair.
PAIRS = {
    A.RSA: (test_rsa_signatures_are_verified_as_published, test_oaep_opens_the_published_ciphertexts),
    A.DSA: (test_dsa_signatures_are_verified_as_published,),
    A.ECDSA: (test_ecdsa_signatures_are_verified_as_published,),
    A.EC: (test_ecdsa_signatures_are_verified_as_published, test_key_agreement_on_the_nist_curves_is_the_published_one),
    A.ECDH: (test_key_agreement_on_the_nist_curves_is_the_published_one,),
    A.ED25519: (test_ed25519_signatures_are_the_published_ones,),
    A.ED448: (test_ed448_signatures_are_the_published_ones,),
    A.DH: ("test_keys.test_finite_field_keys_agree_as_published",),
    ML_KEM_768: (test_ml_kem_decapsulates_the_published_secrets,),
    ML_KEM_1024: (test_ml_kem_decapsulates_the_published_secrets,),
    ML_DSA_44: (test_ml_dsa_keys_are_the_published_ones,),
    ML_DSA_65: (test_ml_dsa_keys_are_the_published_ones,),
    ML_DSA_87: (test_ml_dsa_keys_are_the_published_ones,),
}


def test_every_row_of_the_table_has_vectors():
    """A cipher in each of its modes, a keyed hash, a kind of key pair, a hash and a curve."""
    macs = {case[:2] for case in mac_cases()}
    for algorithm, row in ALGORITHMS.items():
        if isinstance(row, Symmetric):
            for mode in row.modes or ((None,) if algorithm in STREAM_CIPHERS else ()):
                wanted = macs if mode in MAC_MODES else PLAIN.keys() | AEAD.keys() | WRAP.keys()
                assert (algorithm, mode) in wanted, f"{algorithm} in mode {mode} has no vectors"
        elif isinstance(row, Mac):
            assert (algorithm, None) in macs, f"{algorithm} has no vectors"
        else:
            assert isinstance(row, Asymmetric)
            assert PAIRS.get(algorithm), f"{algorithm} has no vectors"
    assert HASH_FILES.keys() == HASHES.keys()
    curves = {*NIST_CURVES.values(), *BRAINPOOL.values(), C.CURVE25519, C.CURVE448}
    assert curves | {algorithms.CURVE_ED25519, algorithms.CURVE_ED448} == set(CURVES)
    # HASH, HMAC and ENCRYPT are played from the OASIS cases and in test_derivation.
    proven = {method for method, _ in DERIVATIONS} | {
        DerivationMethod.HASH,
        DerivationMethod.HMAC,
        DerivationMethod.ENCRYPT,
    }
    assert proven == set(derivation.METHODS)


def test_the_library_still_refuses_what_the_table_leaves_out():
    """The binary curves and the small ones are not in the table because the library has none of them."""
    assert set(ec._CURVE_TYPES) - {"prime192v1", "prime256v1"} <= {
        row.curve.name for row in CURVES.values() if row.curve
    } | {"secp192r1", "secp256r1"}
    with pytest.raises(ValueError, match="1024"):
        rsa.generate_private_key(65537, 512)
