"""Interoperability with the `openssl` command: what one side makes, the other opens and verifies."""

import pytest

from keystore.crypto import ciphers, derivation, keys, signing, wrapping
from keystore.crypto.algorithms import CURVES, A, B, C, H, P
from keystore.crypto.policy import PERMISSIVE
from kmip.enums import DerivationMethod, ObjectType, ValidityIndicator, WrappingMethod
from kmip.structures import CryptographicParameters
from tests.openssl import needs_openssl, openssl

pytestmark = needs_openssl

DATA = b"What the server protects, anyone with the key and OpenSSL must be able to read." * 3
IV = bytes(range(16))


@pytest.fixture
def files(tmp_path):
    """Write bytes to a file of that name and give its path."""

    def write(name, data):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


ENC = {
    "aes-128-ecb": (A.AES, 16, B.ECB),
    "aes-256-cbc": (A.AES, 32, B.CBC),
    "aes-192-ctr": (A.AES, 24, B.CTR),
    "aes-256-cfb": (A.AES, 32, B.CFB),
    "aes-128-ofb": (A.AES, 16, B.OFB),
    "des-ede3-cbc": (A.DES3, 24, B.CBC),
    "camellia-256-cbc": (A.CAMELLIA, 32, B.CBC),
    "chacha20": (A.CHACHA20, 32, None),
}


@pytest.mark.parametrize(("name", "case"), ENC.items(), ids=ENC)
def test_openssl_enc_and_the_server_read_each_other(name, case):
    """Symmetric encryption, padded where the mode has blocks."""
    algorithm, size, mode = case
    key = bytes(range(1, size + 1))
    iv = b"" if mode == B.ECB else IV[: 8 if algorithm == A.DES3 else 16]
    padding = P.PKCS5 if mode in (B.ECB, B.CBC) else None
    parameters = CryptographicParameters(block_cipher_mode=mode, padding_method=padding)
    options = ["enc", f"-{name}", "-K", key.hex(), *(["-iv", iv.hex()] if iv else [])]
    ours = ciphers.encrypt(algorithm, key, parameters, DATA, iv=iv or None, policy=PERMISSIVE).data
    assert openssl(*options, "-d", data=ours) == DATA
    theirs = openssl(*options, data=DATA)
    assert ciphers.decrypt(algorithm, key, parameters, theirs, iv=iv or None, policy=PERMISSIVE) == DATA


def test_openssl_cbc_ends_in_the_server_s_cbc_mac():
    """The last block of a CBC encryption under a zero IV."""
    key, data = bytes(range(16)), DATA[:160]
    blocks = openssl("enc", "-aes-128-cbc", "-K", key.hex(), "-iv", bytes(16).hex(), "-nopad", data=data)
    code = signing.mac(A.AES, key, CryptographicParameters(block_cipher_mode=B.CBC_MAC), data)
    assert code == blocks[-16:]


@pytest.mark.parametrize(
    ("options", "algorithm", "parameters"),
    [
        (["-cipher", "AES-256-CBC", "CMAC"], A.AES, CryptographicParameters(block_cipher_mode=B.CMAC)),
        (["-digest", "SHA3-256", "HMAC"], A.HMAC_SHA3_256, None),
        (["-digest", "SHA512", "HMAC"], A.AES, CryptographicParameters(hashing_algorithm=H.SHA_512)),
    ],
    ids=["cmac", "hmac-sha3", "hmac-by-hash"],
)
def test_openssl_mac_agrees(options, algorithm, parameters):
    """Message authentication codes."""
    key = bytes(range(32))
    theirs = openssl("mac", "-macopt", f"hexkey:{key.hex()}", "-binary", "-in", "/dev/stdin", *options, data=DATA)
    assert signing.mac(algorithm, key, parameters, DATA) == theirs


def test_openssl_and_the_server_unwrap_each_other():
    """RFC 3394, under a 256-bit key."""
    key, data = bytes(range(32)), bytes(range(40))
    using = wrapping.Using(A.AES, key)
    ours = wrapping.wrap(WrappingMethod.ENCRYPT, data, encryption=using).data
    options = ["enc", "-id-aes256-wrap", "-K", key.hex(), "-iv", "a6" * 8]
    assert openssl(*options, "-d", data=ours) == data
    assert wrapping.unwrap(WrappingMethod.ENCRYPT, openssl(*options, data=data), encryption=using) == data


@pytest.fixture(scope="module")
def rsa():
    return keys.generate_pair(A.RSA, 2048)


def test_openssl_and_the_server_decrypt_each_other_s_rsa(files, rsa):
    """OAEP with SHA-256 and a label, and PKCS #1 v1.5."""
    private, public = files("key.der", rsa.private.data), files("pub.der", rsa.public.data)
    for parameters, options in (
        (CryptographicParameters(padding_method=P.OAEP, hashing_algorithm=H.SHA_256), ["oaep", "rsa_oaep_md:sha256"]),
        (CryptographicParameters(padding_method=P.PKCS1_V1_5), ["pkcs1"]),
    ):
        flags = [flag for each in (f"rsa_padding_mode:{options[0]}", *options[1:]) for flag in ("-pkeyopt", each)]
        ours = ciphers.encrypt(A.RSA, keys.load_public(rsa.public.data), parameters, b"secret").data
        assert openssl("pkeyutl", "-decrypt", "-inkey", private, "-keyform", "DER", *flags, data=ours) == b"secret"
        theirs = openssl("pkeyutl", "-encrypt", "-pubin", "-inkey", public, "-keyform", "DER", *flags, data=b"secret")
        assert ciphers.decrypt(A.RSA, keys.load_private(rsa.private.data), parameters, theirs) == b"secret"


@pytest.mark.parametrize(
    ("padding", "options"),
    [
        (P.PKCS1_V1_5, []),
        (P.PSS, ["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest"]),
    ],
    ids=["pkcs1v15", "pss"],
)
def test_openssl_and_the_server_verify_each_other_s_rsa(files, rsa, padding, options):
    """Signatures with SHA-384."""
    check_signatures(
        files,
        rsa,
        CryptographicParameters(cryptographic_algorithm=A.RSA, padding_method=padding, hashing_algorithm=H.SHA_384),
        ["-sha384", *options],
    )


@pytest.mark.parametrize("curve", [curve for curve, row in CURVES.items() if row.curve], ids=str)
def test_openssl_and_the_server_verify_each_other_s_ecdsa(files, curve):
    """Signatures with SHA-256 on every curve of the table."""
    pair = keys.generate_pair(A.ECDSA, curve=curve, policy=PERMISSIVE)
    check_signatures(files, pair, CryptographicParameters(hashing_algorithm=H.SHA_256), ["-sha256"])


def check_signatures(files, pair, parameters, options):
    private, public = files("key.der", pair.private.data), files("pub.der", pair.public.data)
    ours = files("ours", signing.sign(keys.load_private(pair.private.data), parameters, DATA, policy=PERMISSIVE))
    openssl("dgst", *options, "-verify", public, "-keyform", "DER", "-signature", ours, data=DATA)
    theirs = openssl("dgst", *options, "-sign", private, "-keyform", "DER", data=DATA)
    key = keys.load_public(pair.public.data)
    assert signing.verify(key, parameters, theirs, DATA, policy=PERMISSIVE) == ValidityIndicator.VALID
    assert signing.verify(key, parameters, theirs, DATA + b"!", policy=PERMISSIVE) == ValidityIndicator.INVALID


@pytest.mark.parametrize("algorithm", [A.ED25519, A.ED448], ids=str)
def test_openssl_and_the_server_verify_each_other_s_edwards_signatures(files, algorithm):
    """Ed25519 and Ed448."""
    pair = keys.generate_pair(algorithm)
    private, public, data = files("key.der", pair.private.data), files("pub.der", pair.public.data), files("data", DATA)
    ours = files("ours", signing.sign(keys.load_private(pair.private.data), None, DATA))
    common = ["pkeyutl", "-rawin", "-in", data, "-keyform", "DER"]
    openssl(*common, "-verify", "-pubin", "-inkey", public, "-sigfile", ours)
    theirs = openssl(*common, "-sign", "-inkey", private)
    assert signing.verify(keys.load_public(pair.public.data), None, theirs, DATA) == ValidityIndicator.VALID


@pytest.mark.parametrize("curve", [C.P_384, C.BRAINPOOLP256R1, C.CURVE25519, C.CURVE448], ids=str)
def test_openssl_and_the_server_agree_on_a_secret(files, curve):
    """ECDH, X25519 and X448."""
    mine, other = keys.generate_pair(A.ECDH, curve=curve), keys.generate_pair(A.ECDH, curve=curve)
    private, peer = files("key.der", mine.private.data), files("peer.der", other.public.data)
    options = ["-inkey", private, "-keyform", "DER", "-peerkey", peer, "-peerform", "DER"]
    theirs = openssl("pkeyutl", "-derive", *options)
    ours = derivation.agree(
        len(theirs) * 8, keys.load_private(mine.private.data), keys.load_public(other.public.data), policy=PERMISSIVE
    )
    assert ours == theirs


@pytest.mark.parametrize(
    ("method", "options"),
    [
        (DerivationMethod.PBKDF2, ["digest:SHA256", "hexpass:{key}", "hexsalt:{salt}", "iter:2000", "PBKDF2"]),
        (DerivationMethod.HKDF, ["digest:SHA256", "hexkey:{key}", "hexsalt:{salt}", "hexinfo:{data}", "HKDF"]),
    ],
    ids=["pbkdf2", "hkdf"],
)
def test_openssl_kdf_agrees(method, options):
    """Derivation from a key of 32 bytes."""
    key, salt, data = bytes(range(32)), b"salt and pepper.", b"context"
    filled = [each.format(key=key.hex(), salt=salt.hex(), data=data.hex()) for each in options]
    flags = [flag for each in filled[:-1] for flag in ("-kdfopt", each)]
    theirs = openssl("kdf", "-keylen", 48, "-binary", *flags, filled[-1])
    ours = derivation.derive(
        method,
        48 * 8,
        key,
        parameters=CryptographicParameters(hashing_algorithm=H.SHA_256),
        salt=salt,
        iterations=2000 if method == DerivationMethod.PBKDF2 else None,
        data=() if method == DerivationMethod.PBKDF2 else (data,),
    )
    assert ours == theirs


@pytest.mark.parametrize("legacy", [False, True])
def test_openssl_opens_the_server_s_pkcs12_and_the_reverse(files, tmp_path, rsa, legacy):
    """Key and certificate under a password, with the algorithms of today and of the first version."""
    key = files("key.der", rsa.private.data)
    openssl("req", "-new", "-x509", "-key", key, "-keyform", "DER", "-subj", "/CN=interop", "-outform", "DER",
            "-out", tmp_path / "cert.der")  # fmt: skip
    certificate = (tmp_path / "cert.der").read_bytes()
    ours = keys.write_pkcs12(rsa.private.data, b"pass word", certificate=certificate, name=b"one", legacy=legacy)
    path = files("ours.p12", ours)
    text = openssl("pkcs12", "-in", path, "-passin", "pass:pass word", "-nodes", *(["-legacy"] if legacy else []))
    assert b"PRIVATE KEY" in text
    assert b"subject=CN = interop" in text
    pem = files("both.pem", text)
    flags = ["-legacy"] if legacy else []
    theirs = openssl("pkcs12", "-export", "-in", pem, "-passout", "pass:pass word", "-name", "two", *flags)
    bundle = keys.read_pkcs12(theirs, b"pass word")
    assert bundle.key == rsa.private
    assert (bundle.certificate, bundle.name) == (certificate, b"two")


def test_openssl_reads_every_encoding_of_a_private_key(files, rsa):
    """PKCS#1 and PKCS#8 of RSA, SEC 1 of an elliptic curve key."""
    from kmip.enums import KeyFormatType

    curve = keys.generate_pair(A.ECDSA, curve=C.P_256)
    for pair, format, command in (
        (rsa, KeyFormatType.PKCS_1, "rsa"),
        (rsa, KeyFormatType.PKCS_8, "pkey"),
        (curve, KeyFormatType.ECPRIVATEKEY, "ec"),
    ):
        path = files("key.der", keys.write(ObjectType.PRIVATE_KEY, pair.private.data, format))
        assert b"PRIVATE KEY" in openssl(command, "-in", path, "-inform", "DER")
