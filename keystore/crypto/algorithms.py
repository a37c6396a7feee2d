"""The table of algorithms: one row each, and what modes, paddings, hashes and curves are.

To add an algorithm, add its row here and its vectors to `tests/vectors`: checks, dispatch, policies and the test of
completeness read the row. This module knows what exists; `policy` says what may be used, the other modules how.
"""

import warnings
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from cryptography import utils
from cryptography.hazmat.decrepit.ciphers import algorithms as decrepit
from cryptography.hazmat.decrepit.ciphers import modes as decrepit_modes
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, mldsa, mlkem, rsa, x448, x25519
from cryptography.hazmat.primitives.ciphers import BlockCipherAlgorithm, CipherAlgorithm, algorithms, modes

from kmip.enums import (
    BlockCipherMode,
    CryptographicAlgorithm,
    HashingAlgorithm,
    PaddingMethod,
    RecommendedCurve,
    ResultReason,
)
from kmip.errors import KMIPError
from kmip.structures import CryptographicParameters

with warnings.catch_warnings():
    # The library means to drop finite-field Diffie-Hellman; the transparent formats need it as long as it is there.
    warnings.simplefilter("ignore", utils.CryptographyDeprecationWarning)
    from cryptography.hazmat.primitives.asymmetric.dh import DHParameterNumbers as DHParameterNumbers
    from cryptography.hazmat.primitives.asymmetric.dh import DHPrivateKey as DHPrivateKey
    from cryptography.hazmat.primitives.asymmetric.dh import DHPrivateNumbers as DHPrivateNumbers
    from cryptography.hazmat.primitives.asymmetric.dh import DHPublicKey as DHPublicKey
    from cryptography.hazmat.primitives.asymmetric.dh import DHPublicNumbers as DHPublicNumbers


A = CryptographicAlgorithm
B = BlockCipherMode
H = HashingAlgorithm
P = PaddingMethod
C = RecommendedCurve

#: The parameters of someone who gave none.
NO_PARAMETERS = CryptographicParameters()

#: Values of KMIP 3.0 (CSD01), which the 2.1 table does not have yet.
ML_KEM_768 = A(0x3A)
ML_KEM_1024 = A(0x3B)
ML_DSA_44 = A(0x3C)
ML_DSA_65 = A(0x3D)
ML_DSA_87 = A(0x3E)
#: Key pairs that are thought to withstand a quantum computer.
POST_QUANTUM = frozenset({ML_KEM_768, ML_KEM_1024, ML_DSA_44, ML_DSA_65, ML_DSA_87})

#: Extension values (2.1, 11: 8XXXXXXX). GCM_SIV and the two curves are those that deployed clients already send.
GCM_SIV = B(0x80000002)
CFB8 = B(0x80000010)
SIV = B(0x80000011)
OCB = B(0x80000012)
BLAKE2B_512 = H(0x80000001)
BLAKE2S_256 = H(0x80000002)
ISO_9797_1_METHOD_2 = P(0x80000001)
CURVE_ED25519 = C(0x80000001)
CURVE_ED448 = C(0x80000002)

PrivateKey = (
    rsa.RSAPrivateKey
    | dsa.DSAPrivateKey
    | DHPrivateKey
    | ec.EllipticCurvePrivateKey
    | ed25519.Ed25519PrivateKey
    | ed448.Ed448PrivateKey
    | x25519.X25519PrivateKey
    | x448.X448PrivateKey
    | mlkem.MLKEM768PrivateKey
    | mlkem.MLKEM1024PrivateKey
    | mldsa.MLDSA44PrivateKey
    | mldsa.MLDSA65PrivateKey
    | mldsa.MLDSA87PrivateKey
)
PublicKey = (
    rsa.RSAPublicKey
    | dsa.DSAPublicKey
    | DHPublicKey
    | ec.EllipticCurvePublicKey
    | ed25519.Ed25519PublicKey
    | ed448.Ed448PublicKey
    | x25519.X25519PublicKey
    | x448.X448PublicKey
    | mlkem.MLKEM768PublicKey
    | mlkem.MLKEM1024PublicKey
    | mldsa.MLDSA44PublicKey
    | mldsa.MLDSA65PublicKey
    | mldsa.MLDSA87PublicKey
)


# ---------------------------------------------------------------------------------------------------------------------
# Modes


@dataclass(frozen=True, slots=True)
class Mode:
    """One block cipher mode: its IV lengths in bytes (the first is the one drawn at random), tag lengths, padding."""

    ivs: Sequence[int] = ()
    iv: int = 0
    tags: Sequence[int] = ()
    #: Whether plaintext fills whole blocks, so that a Padding Method applies.
    blocks: bool = False
    #: For modes that the library runs as a stream: its mode object.
    make: Callable[[bytes], modes.Mode] | None = None
    #: Cryptographic lengths that the mode takes, where they are not the cipher's own.
    bits: tuple[int, ...] = ()


def _ecb(_iv: bytes) -> modes.Mode:
    return modes.ECB()  # noqa: S305 - the protocol has it, and the profiles of OASIS test it


_PLAIN_AES = (128, 192, 256)

#: An `iv` of zero means: as long as the cipher's block.
MODES: dict[BlockCipherMode, Mode] = {
    B.ECB: Mode(blocks=True, make=_ecb),
    B.CBC: Mode(blocks=True, make=modes.CBC),
    B.CTR: Mode(ivs=range(1, 17), make=modes.CTR),
    B.CFB: Mode(make=decrepit_modes.CFB),
    CFB8: Mode(make=decrepit_modes.CFB8),
    B.OFB: Mode(make=decrepit_modes.OFB),
    B.GCM: Mode(ivs=range(8, 129), iv=12, tags=range(12, 17)),
    B.CCM: Mode(ivs=range(7, 14), iv=12, tags=(4, 6, 8, 10, 12, 14, 16)),
    B.XTS: Mode(ivs=(16,), iv=16, bits=(256, 512)),
    GCM_SIV: Mode(ivs=(12,), iv=12, tags=(16,)),
    SIV: Mode(ivs=range(1, 129), iv=16, tags=(16,), bits=(256, 384, 512)),
    OCB: Mode(ivs=range(12, 16), iv=12, tags=(16,)),
    B.NISTKEYWRAP: Mode(),
    B.AESKEYWRAPPADDING: Mode(),
    B.AEAD: Mode(ivs=(12,), iv=12, tags=range(12, 17)),
    B.CMAC: Mode(),
    B.CBC_MAC: Mode(blocks=True),
}
#: Modes that are message authentication codes, not ciphers.
MAC_MODES = frozenset({B.CMAC, B.CBC_MAC})
KEY_WRAP_MODES = frozenset({B.NISTKEYWRAP, B.AESKEYWRAPPADDING})
#: Modes without an IV; one that is sent along is passed over.
WITHOUT_IV = frozenset({B.ECB, *KEY_WRAP_MODES})

# ---------------------------------------------------------------------------------------------------------------------
# Hashes


class Hash(NamedTuple):
    """One hashing algorithm: the library's object, and whether it is kept for old data only."""

    algorithm: hashes.HashAlgorithm
    legacy: bool = False


HASHES: dict[HashingAlgorithm, Hash] = {
    H.SHA_1: Hash(hashes.SHA1()),  # noqa: S303 - HMAC, OAEP and old signatures need it; policies keep it from signing
    H.SHA_224: Hash(hashes.SHA224()),
    H.SHA_256: Hash(hashes.SHA256()),
    H.SHA_384: Hash(hashes.SHA384()),
    H.SHA_512: Hash(hashes.SHA512()),
    H.SHA_512_224: Hash(hashes.SHA512_224()),
    H.SHA_512_256: Hash(hashes.SHA512_256()),
    H.SHA3_224: Hash(hashes.SHA3_224()),
    H.SHA3_256: Hash(hashes.SHA3_256()),
    H.SHA3_384: Hash(hashes.SHA3_384()),
    H.SHA3_512: Hash(hashes.SHA3_512()),
    BLAKE2B_512: Hash(hashes.BLAKE2b(64)),
    BLAKE2S_256: Hash(hashes.BLAKE2s(32)),
    # Legacy: checksums of old data.
    H.MD5: Hash(hashes.MD5(), legacy=True),  # noqa: S303
}

# ---------------------------------------------------------------------------------------------------------------------
# Curves


class Curve(NamedTuple):
    """One curve: the library's object (none for the Edwards and Montgomery curves, which are algorithms there)."""

    bits: int
    curve: ec.EllipticCurve | None = None
    legacy: bool = False


CURVES: dict[RecommendedCurve, Curve] = {
    C.P_224: Curve(224, ec.SECP224R1()),
    C.P_256: Curve(256, ec.SECP256R1()),
    C.P_384: Curve(384, ec.SECP384R1()),
    C.P_521: Curve(521, ec.SECP521R1()),
    C.SECP256K1: Curve(256, ec.SECP256K1()),
    C.BRAINPOOLP256R1: Curve(256, ec.BrainpoolP256R1()),
    C.BRAINPOOLP384R1: Curve(384, ec.BrainpoolP384R1()),
    C.BRAINPOOLP512R1: Curve(512, ec.BrainpoolP512R1()),
    C.CURVE25519: Curve(256),
    C.CURVE448: Curve(448),
    CURVE_ED25519: Curve(256),
    CURVE_ED448: Curve(456),
    # Legacy: 96 bits of strength, for keys that exist.
    C.P_192: Curve(192, ec.SECP192R1(), legacy=True),
}
CURVE_BY_NAME = {row.curve.name: curve for curve, row in CURVES.items() if row.curve is not None}
#: The curve meant by a Cryptographic Length alone (Create Key Pair without Cryptographic Domain Parameters).
CURVE_BY_BITS = {192: C.P_192, 224: C.P_224, 256: C.P_256, 384: C.P_384, 521: C.P_521}

# ---------------------------------------------------------------------------------------------------------------------
# Rows


@dataclass(frozen=True, slots=True)
class Symmetric:
    """A cipher, or a kind of key that can only be generated, stored and fetched when `cipher` is None."""

    #: Cryptographic Lengths of its keys.
    bits: Container[int]
    cipher: Callable[[bytes], CipherAlgorithm] | None = None
    #: Block length in bytes; 0 for a stream cipher.
    block: int = 0
    modes: tuple[BlockCipherMode, ...] = ()
    #: What is meant when no parameters are given anywhere.
    default: tuple[BlockCipherMode | None, PaddingMethod | None] = (None, None)
    legacy: bool = False


@dataclass(frozen=True, slots=True)
class Mac:
    """A keyed hash."""

    hash: HashingAlgorithm | None
    bits: Container[int] = range(8, 65537, 8)
    legacy: bool = False


@dataclass(frozen=True, slots=True)
class Asymmetric:
    """A kind of key pair: the library's classes, how to make one (if it can be made here), and what it can do."""

    private: tuple[type, ...]
    public: tuple[type, ...]
    generate: Callable[[int, RecommendedCurve | None], PrivateKey] | None
    bits: Container[int]
    curves: tuple[RecommendedCurve, ...] = ()
    signs: bool = False
    encrypts: bool = False
    agrees: bool = False
    encapsulates: bool = False
    legacy: bool = False


Row = Symmetric | Mac | Asymmetric


def _triple_des(key: bytes) -> BlockCipherAlgorithm:
    """Triple DES under one, two or three keys, with or without parity bits (2.1, 3.1: 112 to 192 bits)."""
    if len(key) % 7 == 0 and len(key) % 8:
        key = with_parity(key)
    # The library wants all three keys spelled out: K1 K2 K1 for two, and K K K makes single DES of it.
    return decrepit.TripleDES(key if len(key) == 24 else key + key[:8] if len(key) == 16 else key * 3)


def with_parity(key: bytes) -> bytes:
    """A DES key of 56-bit groups with the odd parity bit added to every seven bits."""
    number = int.from_bytes(key)
    groups = [number >> shift & 0x7F for shift in range(len(key) * 8 - 7, -1, -7)]
    return bytes(group << 1 | (group.bit_count() + 1) % 2 for group in groups)


def _any_rsa(bits: int, _curve: RecommendedCurve | None) -> PrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def _any_dsa(bits: int, _curve: RecommendedCurve | None) -> PrivateKey:
    return dsa.generate_private_key(bits)


def _any_ec(_bits: int, curve: RecommendedCurve | None) -> PrivateKey:
    row = CURVES.get(curve) if curve is not None else None
    if row is None or row.curve is None:
        raise KMIPError(ResultReason.INVALID_FIELD, f"no key pair can be made on curve {curve}")
    return ec.generate_private_key(row.curve)


def _agreement(bits: int, curve: RecommendedCurve | None) -> PrivateKey:
    """Keys for ECDH are also made on the Montgomery curves."""
    if curve == C.CURVE25519:
        return x25519.X25519PrivateKey.generate()
    if curve == C.CURVE448:
        return x448.X448PrivateKey.generate()
    return _any_ec(bits, curve)


def _elliptic(bits: int, curve: RecommendedCurve | None) -> PrivateKey:
    """`EC` is a key for any use, so it covers the Edwards curves too."""
    if curve == CURVE_ED25519:
        return ed25519.Ed25519PrivateKey.generate()
    if curve == CURVE_ED448:
        return ed448.Ed448PrivateKey.generate()
    return _agreement(bits, curve)


def _own(generate: Callable[[], PrivateKey]) -> Callable[[int, RecommendedCurve | None], PrivateKey]:
    """The generator of an algorithm that has one size and no curve to choose."""
    return lambda _bits, _curve: generate()


_WEIERSTRASS = tuple(curve for curve, row in CURVES.items() if row.curve is not None)
_FEEDBACK = (B.ECB, B.CBC, B.CFB, B.OFB)
_MACS = (B.CMAC, B.CBC_MAC)
_CBC_DEFAULT = (B.CBC, P.PKCS5)
_EC_KEYS = (ec.EllipticCurvePrivateKey,), (ec.EllipticCurvePublicKey,)

ALGORITHMS: dict[CryptographicAlgorithm, Row] = {
    A.AES: Symmetric(
        bits=(128, 192, 256, 384, 512),  # 384 only for SIV, 512 for SIV and XTS, which use two keys
        cipher=algorithms.AES,
        block=16,
        modes=(
            *(B.ECB, B.CBC, B.CTR, B.CFB, CFB8, B.OFB, B.GCM, B.CCM, B.XTS, GCM_SIV, SIV, OCB),
            *(B.NISTKEYWRAP, B.AESKEYWRAPPADDING),
            *_MACS,
        ),
        default=(B.GCM, None),
    ),
    A.CHACHA20: Symmetric(bits=(256,)),
    A.CHACHA20POLY1305: Symmetric(bits=(256,), modes=(B.AEAD,), default=(B.AEAD, None)),
    A.POLY1305: Mac(None, bits=(256,)),
    A.HMAC_SHA1: Mac(H.SHA_1),
    A.HMAC_SHA224: Mac(H.SHA_224),
    A.HMAC_SHA256: Mac(H.SHA_256),
    A.HMAC_SHA384: Mac(H.SHA_384),
    A.HMAC_SHA512: Mac(H.SHA_512),
    A.HMAC_SHA3_224: Mac(H.SHA3_224),
    A.HMAC_SHA3_256: Mac(H.SHA3_256),
    A.HMAC_SHA3_384: Mac(H.SHA3_384),
    A.HMAC_SHA3_512: Mac(H.SHA3_512),
    A.RSA: Asymmetric(
        (rsa.RSAPrivateKey,), (rsa.RSAPublicKey,), _any_rsa, range(1024, 8193, 8), signs=True, encrypts=True
    ),
    A.ECDSA: Asymmetric(*_EC_KEYS, _any_ec, (), curves=_WEIERSTRASS, signs=True),
    A.ECDH: Asymmetric(
        (*_EC_KEYS[0], x25519.X25519PrivateKey, x448.X448PrivateKey),
        (*_EC_KEYS[1], x25519.X25519PublicKey, x448.X448PublicKey),
        _agreement,
        (),
        curves=(*_WEIERSTRASS, C.CURVE25519, C.CURVE448),
        encrypts=True,
        agrees=True,
    ),
    A.EC: Asymmetric(*_EC_KEYS, _elliptic, (), curves=tuple(CURVES), signs=True, encrypts=True, agrees=True),
    A.ED25519: Asymmetric(
        (ed25519.Ed25519PrivateKey,),
        (ed25519.Ed25519PublicKey,),
        _own(ed25519.Ed25519PrivateKey.generate),
        (256,),
        curves=(CURVE_ED25519,),
        signs=True,
    ),
    A.ED448: Asymmetric(
        (ed448.Ed448PrivateKey,),
        (ed448.Ed448PublicKey,),
        _own(ed448.Ed448PrivateKey.generate),
        (456,),
        curves=(CURVE_ED448,),
        signs=True,
    ),
    # Post-quantum. The lengths are those of the public keys.
    ML_KEM_768: Asymmetric(
        (mlkem.MLKEM768PrivateKey,),
        (mlkem.MLKEM768PublicKey,),
        _own(mlkem.MLKEM768PrivateKey.generate),
        (9472,),
        encapsulates=True,
    ),
    ML_KEM_1024: Asymmetric(
        (mlkem.MLKEM1024PrivateKey,),
        (mlkem.MLKEM1024PublicKey,),
        _own(mlkem.MLKEM1024PrivateKey.generate),
        (12544,),
        encapsulates=True,
    ),
    ML_DSA_44: Asymmetric(
        (mldsa.MLDSA44PrivateKey,),
        (mldsa.MLDSA44PublicKey,),
        _own(mldsa.MLDSA44PrivateKey.generate),
        (10496,),
        signs=True,
    ),
    ML_DSA_65: Asymmetric(
        (mldsa.MLDSA65PrivateKey,),
        (mldsa.MLDSA65PublicKey,),
        _own(mldsa.MLDSA65PrivateKey.generate),
        (15616,),
        signs=True,
    ),
    ML_DSA_87: Asymmetric(
        (mldsa.MLDSA87PrivateKey,),
        (mldsa.MLDSA87PublicKey,),
        _own(mldsa.MLDSA87PrivateKey.generate),
        (20736,),
        signs=True,
    ),
    # Legacy: asked for by the Symmetric Key Foundry profile (AES, 3DES and SKIPJACK keys of its lengths) and by old
    # data. Their keys can always be made, kept and fetched; services with them need a policy that lists them.
    A.DES: Symmetric((56, 64), _triple_des, 8, (*_FEEDBACK, CFB8, B.CBC_MAC), _CBC_DEFAULT, legacy=True),
    A.DES3: Symmetric(
        # Without and with parity bits.
        (56, 112, 168, 64, 128, 192),
        _triple_des,
        8,
        (*_FEEDBACK, CFB8, *_MACS),
        _CBC_DEFAULT,
        legacy=True,
    ),
    A.CAMELLIA: Symmetric((128, 192, 256), decrepit.Camellia, 16, _FEEDBACK, _CBC_DEFAULT, legacy=True),
    A.CAST5: Symmetric(range(40, 129, 8), decrepit.CAST5, 8, _FEEDBACK, _CBC_DEFAULT, legacy=True),
    A.BLOWFISH: Symmetric(range(32, 449, 8), decrepit.Blowfish, 8, _FEEDBACK, _CBC_DEFAULT, legacy=True),
    A.IDEA: Symmetric((128,), decrepit.IDEA, 8, _FEEDBACK, _CBC_DEFAULT, legacy=True),
    A.SEED: Symmetric((128,), decrepit.SEED, 16, _FEEDBACK, _CBC_DEFAULT, legacy=True),
    A.SM4: Symmetric((128,), algorithms.SM4, 16, (*_FEEDBACK, B.CTR), _CBC_DEFAULT, legacy=True),
    A.RC2: Symmetric(range(8, 1025, 8), decrepit.RC2, 8, (B.CBC,), _CBC_DEFAULT, legacy=True),
    A.RC4: Symmetric(range(40, 2049, 8), decrepit.ARC4, legacy=True),
    A.HMAC_MD5: Mac(H.MD5, legacy=True),
    A.DSA: Asymmetric((dsa.DSAPrivateKey,), (dsa.DSAPublicKey,), _any_dsa, (1024, 2048, 3072), signs=True, legacy=True),
    A.DH: Asymmetric((DHPrivateKey,), (DHPublicKey,), None, range(1024, 8193, 8), agrees=True, legacy=True),
    # Keys only: the library has no cipher for them.
    A.RC5: Symmetric(range(8, 2041, 8), legacy=True),
    A.MARS: Symmetric(range(128, 449, 8), legacy=True),
    A.SKIPJACK: Symmetric((80,), legacy=True),
    A.TWOFISH: Symmetric((128, 192, 256), legacy=True),
    A.ARIA: Symmetric((128, 192, 256), legacy=True),
    A.GOST_28147_89: Symmetric((256,), legacy=True),
    A.GOST_R_34_13_2015: Symmetric((256,), legacy=True),
    A.ONE_TIME_PAD: Symmetric(range(8, 8 * 65536 + 1, 8), legacy=True),
}

#: The stream ciphers that have no mode.
STREAM_CIPHERS = frozenset({A.CHACHA20, A.RC4})

# ---------------------------------------------------------------------------------------------------------------------
# Look-ups


def row(algorithm: CryptographicAlgorithm | None) -> Row:
    """The row of `algorithm`."""
    found = ALGORITHMS.get(algorithm) if algorithm is not None else None
    if found is None:
        raise KMIPError(ResultReason.INVALID_FIELD, f"cryptographic algorithm {algorithm} is not supported")
    return found


def symmetric(algorithm: CryptographicAlgorithm | None) -> Symmetric:
    """The row of a cipher."""
    found = row(algorithm)
    if not isinstance(found, Symmetric):
        raise KMIPError(ResultReason.INVALID_FIELD, f"{algorithm} is not a symmetric cipher")
    return found


def hash_of(hashing: HashingAlgorithm) -> hashes.HashAlgorithm:
    """The library's object for `hashing`."""
    found = HASHES.get(hashing)
    if found is None:
        raise unsupported(f"hashing algorithm {hashing} is not supported")
    return found.algorithm


def check_length(algorithm: CryptographicAlgorithm | None, bits: int | None) -> int:
    """`bits`, if keys of `algorithm` have that Cryptographic Length (2.1, 4.15)."""
    found = row(algorithm)
    if bits is None:
        raise KMIPError(ResultReason.MISSING_DATA, "Cryptographic Length is required")
    if bits not in found.bits:
        raise KMIPError(ResultReason.INVALID_FIELD, f"a key of {algorithm} cannot have {bits} bits")
    return bits


def quantum_safe(algorithm: CryptographicAlgorithm | None, bits: int | None) -> bool:
    """Whether keys of `algorithm` with `bits` withstand a quantum computer as far as is known (2.1, 4.45).

    Grover's search halves the strength of a symmetric key, so 256 bits keep 128; of the asymmetric algorithms the
    lattice- and hash-based ones count.
    """
    found = ALGORITHMS.get(algorithm) if algorithm is not None else None
    if found is None or found.legacy:
        return False
    if isinstance(found, Asymmetric):
        return algorithm in POST_QUANTUM
    return bits is not None and bits >= 256


def bad(message: str) -> KMIPError:
    """The parameters contradict each other, the key or the data."""
    return KMIPError(ResultReason.BAD_CRYPTOGRAPHIC_PARAMETERS, message)


def unsupported(message: str) -> KMIPError:
    """The parameters are sound, but nothing here can do it."""
    return KMIPError(ResultReason.UNSUPPORTED_CRYPTOGRAPHIC_PARAMETERS, message)


def failure(message: str) -> KMIPError:
    """The cryptography itself failed; the message must not tell an attacker at which step."""
    return KMIPError(ResultReason.CRYPTOGRAPHIC_FAILURE, message)
