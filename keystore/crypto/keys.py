"""Keys: made, read from every Key Format Type, and written in every one.

Inside the server a private key is PKCS#8 DER, a public key SubjectPublicKeyInfo DER, anything else its plain bytes.
Private keys are checked once, when they are read here, and loaded unchecked afterwards, which is a thousand times
faster. Certificates are in `certificates`, wrapping in `wrapping`.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import gcd
from typing import NamedTuple, cast

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa, x448, x25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat, pkcs12

from keystore.crypto import algorithms
from keystore.crypto.algorithms import (
    ALGORITHMS,
    CURVE_BY_BITS,
    CURVE_BY_NAME,
    CURVES,
    A,
    Asymmetric,
    C,
    DHParameterNumbers,
    DHPrivateKey,
    DHPrivateNumbers,
    DHPublicKey,
    DHPublicNumbers,
    PrivateKey,
    PublicKey,
)
from keystore.crypto.policy import DEFAULT, CryptoPolicy
from kmip.enums import (
    CryptographicAlgorithm,
    KeyCompressionType,
    KeyFormatType,
    ObjectType,
    RecommendedCurve,
    ResultReason,
)
from kmip.errors import KMIPError
from kmip.schema import Struct
from kmip.structures import (
    TransparentDHPrivateKey,
    TransparentDHPublicKey,
    TransparentDSAPrivateKey,
    TransparentDSAPublicKey,
    TransparentECPrivateKey,
    TransparentECPublicKey,
    TransparentRSAPrivateKey,
    TransparentRSAPublicKey,
    TransparentSymmetricKey,
)

F = KeyFormatType
O = ObjectType  # noqa: E741 - one letter like the other enumerations

#: PKCS#12 under the algorithms of its first version, for readers that know no others (an extension value).
PKCS_12_LEGACY = F(0x88800001)

#: Enough for any seed or password.
MAX_SECRET_BITS = 8 * 65536

#: Key Material: bytes, or the structure of a transparent format.
Material = bytes | Struct


@dataclass(frozen=True, slots=True)
class Key:
    """A key as the server keeps it, and the attributes that follow from it."""

    data: bytes = field(repr=False)
    algorithm: CryptographicAlgorithm | None = None
    bits: int | None = None
    curve: RecommendedCurve | None = None


class Pair(NamedTuple):
    """A new key pair."""

    private: Key
    public: Key


class Bundle(NamedTuple):
    """What a PKCS#12 file holds: a key, its certificate and the others as DER, and the friendly name."""

    key: Key | None
    certificate: bytes | None
    chain: tuple[bytes, ...]
    name: bytes | None


# ---------------------------------------------------------------------------------------------------------------------
# Making keys


def generate_symmetric(algorithm: CryptographicAlgorithm | None, bits: int | None) -> bytes:
    """A new random key of a cipher or a keyed hash (2.1, 6.1.8; any row of the table, whatever the policy says)."""
    found = algorithms.row(algorithm)
    if isinstance(found, Asymmetric):
        raise KMIPError(ResultReason.INVALID_FIELD, f"{algorithm} has key pairs, not symmetric keys")
    length = algorithms.check_length(algorithm, bits)
    if algorithm in {A.DES, A.DES3}:
        # Every eighth bit of a DES key is parity, whether or not the length counts it: draw the others and set it.
        groups = length // 64 if length % 64 == 0 else length // 56
        return algorithms.with_parity(os.urandom(groups * 7))
    return os.urandom(length // 8)


def generate_secret(bits: int) -> bytes:
    """So many random bits, in whole bytes, for what is no key of an algorithm."""
    if not 0 < bits <= MAX_SECRET_BITS or bits % 8:
        raise KMIPError(ResultReason.INVALID_FIELD, f"secret data has 8 to {MAX_SECRET_BITS} bits, in whole bytes")
    return os.urandom(bits // 8)


def generate_pair(
    algorithm: CryptographicAlgorithm | None,
    bits: int | None = None,
    *,
    curve: RecommendedCurve | None = None,
    policy: CryptoPolicy = DEFAULT,
) -> Pair:
    """A new key pair of `bits` or on `curve` (2.1, 6.1.9)."""
    length, curve = pair_choice(algorithm, bits, curve=curve, policy=policy)
    found = algorithms.row(algorithm)
    assert isinstance(found, Asymmetric) and found.generate is not None
    made = found.generate(length, curve)
    return Pair(private_key(made, algorithm), public_key(made.public_key(), algorithm))


def pair_choice(
    algorithm: CryptographicAlgorithm | None,
    bits: int | None = None,
    *,
    curve: RecommendedCurve | None = None,
    policy: CryptoPolicy = DEFAULT,
) -> tuple[int, RecommendedCurve | None]:
    """Length, and curve where the algorithm has several, of a pair to be made; raises `KMIPError` where it cannot."""
    found = algorithms.row(algorithm)
    if not isinstance(found, Asymmetric) or algorithm is None:
        raise KMIPError(ResultReason.INVALID_FIELD, f"{algorithm} has no key pairs")
    if found.generate is None:
        raise KMIPError(ResultReason.FEATURE_NOT_SUPPORTED, f"key pairs of {algorithm} cannot be generated")
    if len(found.curves) > 1:
        curve = curve if curve is not None else CURVE_BY_BITS.get(bits or 256)
        if curve is None or curve not in found.curves:
            raise KMIPError(ResultReason.INVALID_FIELD, f"{algorithm} keys need a curve: {curve} is not one of them")
        if bits not in (None, CURVES[curve].bits):
            raise KMIPError(ResultReason.INVALID_FIELD, f"Cryptographic Length {bits} is not that of curve {curve}")
        policy.check(algorithm, curve=curve)
        return CURVES[curve].bits, curve
    # Ed25519 and the post-quantum algorithms have one size, so a length is not needed.
    sizes = found.bits
    length = sizes[0] if isinstance(sizes, tuple) and len(sizes) == 1 else algorithms.check_length(algorithm, bits)
    policy.check(algorithm, bits=length, curve=found.curves[0] if found.curves else None)
    return length, None


# ---------------------------------------------------------------------------------------------------------------------
# Between the library's objects and the server's form

_BY_CLASS: dict[type, CryptographicAlgorithm] = {}
# Later rows do not displace earlier ones: an elliptic curve key without a better word is an EC key.
for _algorithm in (A.EC, *ALGORITHMS):
    _row = ALGORITHMS[_algorithm]
    if isinstance(_row, Asymmetric):
        for _class in (*_row.private, *_row.public):
            _BY_CLASS.setdefault(_class, _algorithm)

_FIXED_CURVES: dict[CryptographicAlgorithm, RecommendedCurve] = {
    A.ED25519: algorithms.CURVE_ED25519,
    A.ED448: algorithms.CURVE_ED448,
}


def facts(
    key: PrivateKey | PublicKey, algorithm: CryptographicAlgorithm | None = None
) -> tuple[CryptographicAlgorithm, int, RecommendedCurve | None]:
    """Cryptographic Algorithm (the one named, if the key can be of it), Length and Recommended Curve of a key."""
    known = next((found for cls, found in _BY_CLASS.items() if isinstance(key, cls)), None)
    if known is None:
        raise KMIPError(ResultReason.INVALID_FIELD, "the key is of an algorithm that is not supported")
    named = ALGORITHMS.get(algorithm) if algorithm is not None else None
    if algorithm is not None and isinstance(named, Asymmetric) and isinstance(key, (*named.private, *named.public)):
        known = algorithm
    if isinstance(key, ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey):
        curve = CURVE_BY_NAME.get(key.curve.name)
        if curve is None:
            raise KMIPError(ResultReason.INVALID_FIELD, f"curve {key.curve.name} is not supported")
        return known, CURVES[curve].bits, curve
    if isinstance(key, x25519.X25519PrivateKey | x25519.X25519PublicKey):
        return known, CURVES[C.CURVE25519].bits, C.CURVE25519
    if isinstance(key, x448.X448PrivateKey | x448.X448PublicKey):
        return known, CURVES[C.CURVE448].bits, C.CURVE448
    if isinstance(
        key,
        rsa.RSAPrivateKey | rsa.RSAPublicKey | dsa.DSAPrivateKey | dsa.DSAPublicKey | DHPrivateKey | DHPublicKey,
    ):
        return known, key.key_size, None
    sizes = cast("tuple[int, ...]", algorithms.row(known).bits)
    return known, sizes[0], _FIXED_CURVES.get(known)


def private_key(key: PrivateKey, algorithm: CryptographicAlgorithm | None = None) -> Key:
    """A private key in the server's form."""
    return Key(key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()), *facts(key, algorithm))


def public_key(key: PublicKey, algorithm: CryptographicAlgorithm | None = None) -> Key:
    """A public key in the server's form."""
    return Key(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo), *facts(key, algorithm))


def load_private(data: bytes) -> PrivateKey:
    """The library's object for a private key in the server's form, which was checked when it came in."""
    return serialization.load_der_private_key(data, None, unsafe_skip_rsa_key_validation=True)


def load_public(data: bytes) -> PublicKey:
    """The library's object for a public key in the server's form."""
    return serialization.load_der_public_key(data)


def public_of(data: bytes, algorithm: CryptographicAlgorithm | None = None) -> Key:
    """The public half of a private key in the server's form."""
    return public_key(load_private(data).public_key(), algorithm)


def matches(private: bytes, public: bytes) -> bool:
    """Whether a private and a public key in the server's form belong together."""
    return public_of(private).data == public


# ---------------------------------------------------------------------------------------------------------------------
# Reading


def read(
    object_type: ObjectType,
    format: KeyFormatType,
    material: Material,
    *,
    algorithm: CryptographicAlgorithm | None = None,
    curve: RecommendedCurve | None = None,
    password: bytes | None = None,
) -> Key:
    """A key from Key Material, checked; algorithm and curve of the Key Block help where the format lacks them."""
    if object_type not in {O.PRIVATE_KEY, O.PUBLIC_KEY}:
        data = _read_plain(object_type, format, material)
        return Key(data, algorithm, len(data) * 8)
    private = object_type == O.PRIVATE_KEY
    try:
        if isinstance(material, Struct):
            found = _read_transparent(format, material, private)
        elif private:
            found = _read_private(format, material, algorithm, curve, password)
        else:
            found = _read_public(format, material, algorithm, curve)
    except (ValueError, TypeError, ArithmeticError, UnsupportedAlgorithm) as exc:
        # The library's text may quote numbers of the key, so it stays here.
        raise KMIPError(ResultReason.INVALID_FIELD, f"the Key Material is not a valid key in format {format}") from exc
    if private:
        return private_key(cast(PrivateKey, found), algorithm)
    return public_key(cast(PublicKey, found), algorithm)


def _read_plain(object_type: ObjectType, format: KeyFormatType, material: Material) -> bytes:
    if isinstance(material, TransparentSymmetricKey) and format == F.TRANSPARENT_SYMMETRIC_KEY:
        return material.key
    if isinstance(material, bytes) and (format in {F.RAW, F.OPAQUE} or object_type == O.SPLIT_KEY):
        return material
    raise _format_not_supported(object_type, format)


def _read_private(
    format: KeyFormatType,
    data: bytes,
    algorithm: CryptographicAlgorithm | None,
    curve: RecommendedCurve | None,
    password: bytes | None,
) -> PrivateKey:
    if format in {F.PKCS_12, PKCS_12_LEGACY}:
        key = pkcs12.load_pkcs12(data, password).key
        if key is None:
            raise KMIPError(ResultReason.INVALID_FIELD, "the PKCS#12 file holds no key")
        return key
    if format not in {F.PKCS_1, F.PKCS_8, F.ECPRIVATEKEY, F.RAW, F.OPAQUE}:
        raise _format_not_supported(O.PRIVATE_KEY, format)
    if format in {F.RAW, F.OPAQUE} and not data.startswith(b"\x30"):
        return _raw_private(data, algorithm, curve)
    try:
        return serialization.load_der_private_key(data, password)
    except ValueError:
        # A raw scalar, too, may begin with the octet of a DER sequence.
        if format in {F.RAW, F.OPAQUE}:
            return _raw_private(data, algorithm, curve)
        raise


def _read_public(
    format: KeyFormatType,
    data: bytes,
    algorithm: CryptographicAlgorithm | None,
    curve: RecommendedCurve | None,
) -> PublicKey:
    if format not in {F.PKCS_1, F.X_509, F.RAW, F.OPAQUE, F.PKCS_8, F.PKCS_10}:
        raise _format_not_supported(O.PUBLIC_KEY, format)
    if format == F.PKCS_10:
        return cast(PublicKey, x509.load_der_x509_csr(data).public_key())
    if format in {F.RAW, F.OPAQUE} and not data.startswith(b"\x30"):
        return _raw_public(data, algorithm, curve)
    try:
        return serialization.load_der_public_key(data)
    except ValueError:
        if format in {F.RAW, F.OPAQUE}:
            return _raw_public(data, algorithm, curve)
        # Some clients call a whole certificate a public key in format X.509.
        return cast(PublicKey, x509.load_der_x509_certificate(data).public_key())


_RAW_PRIVATE: dict[CryptographicAlgorithm, Callable[[bytes], PrivateKey]] = {}
_RAW_PUBLIC: dict[CryptographicAlgorithm, Callable[[bytes], PublicKey]] = {}
for _algorithm, _row in ALGORITHMS.items():
    if isinstance(_row, Asymmetric) and len(_row.private) == 1:
        for _names in (("from_private_bytes", "from_public_bytes"), ("from_seed_bytes", "from_public_bytes")):
            if hasattr(_row.private[0], _names[0]):
                _RAW_PRIVATE[_algorithm] = getattr(_row.private[0], _names[0])
                _RAW_PUBLIC[_algorithm] = getattr(_row.public[0], _names[1])


def _raw_private(data: bytes, algorithm: CryptographicAlgorithm | None, curve: RecommendedCurve | None) -> PrivateKey:
    """A private key from its bare number: an RFC 8032 or 7748 string, a post-quantum seed, a scalar on a curve."""
    if algorithm in _RAW_PRIVATE:
        return _RAW_PRIVATE[algorithm](data)
    if curve is None:
        curve = CURVE_BY_BITS.get(len(data) * 8 if len(data) != 66 else 521)
    if curve is None:
        raise ValueError("no curve")
    return _ec_private(curve, int.from_bytes(data))


def _raw_public(data: bytes, algorithm: CryptographicAlgorithm | None, curve: RecommendedCurve | None) -> PublicKey:
    if algorithm in _RAW_PUBLIC:
        return _RAW_PUBLIC[algorithm](data)
    if curve is None:
        compressed = data[:1] in (b"\x02", b"\x03")
        coordinate = len(data) - 1 if compressed else (len(data) - 1) // 2
        curve = CURVE_BY_BITS.get(coordinate * 8 if coordinate != 66 else 521)
    if curve is None:
        raise ValueError("no curve")
    return _ec_public(curve, data)


def _ec_private(curve: RecommendedCurve, number: int) -> PrivateKey:
    """The private key on `curve`; the strings of the other shapes of curve are read as one big-endian number."""
    if curve == C.CURVE25519:
        return x25519.X25519PrivateKey.from_private_bytes(number.to_bytes(32))
    if curve == C.CURVE448:
        return x448.X448PrivateKey.from_private_bytes(number.to_bytes(56))
    if curve == algorithms.CURVE_ED25519:
        return _RAW_PRIVATE[A.ED25519](number.to_bytes(32))
    if curve == algorithms.CURVE_ED448:
        return _RAW_PRIVATE[A.ED448](number.to_bytes(57))
    found = CURVES.get(curve)
    if found is None or found.curve is None:
        raise KMIPError(ResultReason.INVALID_FIELD, f"curve {curve} is not supported")
    return ec.derive_private_key(number, found.curve)


def _ec_public(curve: RecommendedCurve, point: bytes) -> PublicKey:
    if curve == C.CURVE25519:
        return x25519.X25519PublicKey.from_public_bytes(point)
    if curve == C.CURVE448:
        return x448.X448PublicKey.from_public_bytes(point)
    if curve == algorithms.CURVE_ED25519:
        return _RAW_PUBLIC[A.ED25519](point)
    if curve == algorithms.CURVE_ED448:
        return _RAW_PUBLIC[A.ED448](point)
    found = CURVES.get(curve)
    if found is None or found.curve is None:
        raise KMIPError(ResultReason.INVALID_FIELD, f"curve {curve} is not supported")
    return ec.EllipticCurvePublicKey.from_encoded_point(found.curve, point)


def _read_transparent(format: KeyFormatType, material: Struct, private: bool) -> PrivateKey | PublicKey:
    """The key that a transparent structure describes (2.1, 3.5 to 3.12)."""
    match material:
        case TransparentRSAPrivateKey() if private:
            return _rsa_private(material)
        case TransparentRSAPublicKey() if not private:
            return rsa.RSAPublicNumbers(material.public_exponent, material.modulus).public_key()
        case TransparentECPrivateKey() if private:
            return _ec_private(material.recommended_curve, material.d)
        case TransparentECPublicKey() if not private:
            return _ec_public(material.recommended_curve, material.q_string)
        case TransparentDSAPrivateKey() if private:
            domain = dsa.DSAParameterNumbers(material.p, material.q, material.g)
            y = pow(material.g, material.x, material.p)
            return dsa.DSAPrivateNumbers(material.x, dsa.DSAPublicNumbers(y, domain)).private_key()
        case TransparentDSAPublicKey() if not private:
            domain = dsa.DSAParameterNumbers(material.p, material.q, material.g)
            return dsa.DSAPublicNumbers(material.y, domain).public_key()
        case TransparentDHPrivateKey() if private:
            group = DHParameterNumbers(material.p, material.g, material.q)
            y = pow(material.g, material.x, material.p)
            return DHPrivateNumbers(material.x, DHPublicNumbers(y, group)).private_key()
        case TransparentDHPublicKey() if not private:
            group = DHParameterNumbers(material.p, material.g, material.q)
            return DHPublicNumbers(material.y, group).public_key()
    raise _format_not_supported(O.PRIVATE_KEY if private else O.PUBLIC_KEY, format)


def _rsa_private(numbers: TransparentRSAPrivateKey) -> rsa.RSAPrivateKey:
    """An RSA key from the private exponent, the primes or the prime exponents, whichever is there (2.1, 3.7)."""
    n, e = numbers.modulus, numbers.public_exponent or 65537
    p, q, d = numbers.p, numbers.q, numbers.private_exponent
    if p is None and numbers.prime_exponent_p is not None:
        # Raising to e and to d mod (p - 1) leaves a number unchanged mod p, but not mod q.
        p = gcd(pow(2, e * numbers.prime_exponent_p, n) - 2, n)
    if p is None and d is not None:
        p, q = rsa.rsa_recover_prime_factors(n, e, d)
    if p is None:
        raise KMIPError(
            ResultReason.INVALID_FIELD,
            "a Transparent RSA Private Key needs the Private Exponent, P and Q, or both Prime Exponents",
        )
    q = n // p if q is None else q
    d = rsa.rsa_recover_private_exponent(e, p, q) if d is None else d
    return rsa.RSAPrivateNumbers(
        p,
        q,
        d,
        rsa.rsa_crt_dmp1(d, p),
        rsa.rsa_crt_dmq1(d, q),
        rsa.rsa_crt_iqmp(p, q),
        rsa.RSAPublicNumbers(e, n),
    ).private_key()


def read_pkcs12(data: bytes, password: bytes | None) -> Bundle:
    """The key and the certificates of a PKCS#12 file."""
    try:
        found = pkcs12.load_pkcs12(data, password)
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise KMIPError(ResultReason.BAD_PASSWORD, "the PKCS#12 file cannot be opened with this password") from exc
    return Bundle(
        private_key(found.key) if found.key is not None else None,
        found.cert.certificate.public_bytes(Encoding.DER) if found.cert is not None else None,
        tuple(each.certificate.public_bytes(Encoding.DER) for each in found.additional_certs),
        found.cert.friendly_name if found.cert is not None else None,
    )


# ---------------------------------------------------------------------------------------------------------------------
# Writing

_TRANSPARENT_EC_PRIVATE = frozenset(
    {
        *(F.TRANSPARENT_EC_PRIVATE_KEY, F.TRANSPARENT_ECDSA_PRIVATE_KEY),
        *(F.TRANSPARENT_ECDH_PRIVATE_KEY, F.TRANSPARENT_ECMQV_PRIVATE_KEY),
    }
)
_TRANSPARENT_EC_PUBLIC = frozenset(
    {
        *(F.TRANSPARENT_EC_PUBLIC_KEY, F.TRANSPARENT_ECDSA_PUBLIC_KEY),
        *(F.TRANSPARENT_ECDH_PUBLIC_KEY, F.TRANSPARENT_ECMQV_PUBLIC_KEY),
    }
)


def default_format(
    object_type: ObjectType,
    algorithm: CryptographicAlgorithm | None = None,
    curve: RecommendedCurve | None = None,
) -> KeyFormatType:
    """The Key Format Type in which a server gives a key when none is asked for (2.1, 4.26, Table 81)."""
    if object_type not in {O.PRIVATE_KEY, O.PUBLIC_KEY}:
        return _DEFAULTS.get(object_type, F.RAW)
    private = object_type == O.PRIVATE_KEY
    if algorithm == A.RSA:
        return F.PKCS_1
    if algorithm == A.DSA:
        return F.TRANSPARENT_DSA_PRIVATE_KEY if private else F.TRANSPARENT_DSA_PUBLIC_KEY
    weierstrass = curve is None or (curve in CURVES and CURVES[curve].curve is not None)
    if algorithm in {A.EC, A.ECDSA, A.ECDH} and weierstrass:
        return F.TRANSPARENT_EC_PRIVATE_KEY if private else F.TRANSPARENT_EC_PUBLIC_KEY
    # The table does not name the rest.
    return F.PKCS_8 if private else F.X_509


_DEFAULTS = {O.CERTIFICATE: F.X_509, O.CERTIFICATE_REQUEST: F.PKCS_10, O.OPAQUE_OBJECT: F.OPAQUE}


def write(
    object_type: ObjectType,
    data: bytes,
    format: KeyFormatType,
    *,
    compression: KeyCompressionType | None = None,
) -> Material:
    """Key Material in `format` of a key in the server's form."""
    if object_type == O.PRIVATE_KEY:
        return _write_private(load_private(data), data, format)
    if object_type == O.PUBLIC_KEY:
        return _write_public(load_public(data), data, format, compression)
    if format in {F.RAW, F.OPAQUE}:
        return data
    if format == F.TRANSPARENT_SYMMETRIC_KEY and object_type == O.SYMMETRIC_KEY:
        return TransparentSymmetricKey(key=data)
    raise _format_not_supported(object_type, format)


def convert(
    object_type: ObjectType,
    material: Material,
    source: KeyFormatType,
    target: KeyFormatType,
    *,
    algorithm: CryptographicAlgorithm | None = None,
    compression: KeyCompressionType | None = None,
    password: bytes | None = None,
) -> Material:
    """Key Material of format `source` in format `target`; unchanged when they are the same."""
    if source == target and compression is None:
        return material
    key = read(object_type, source, material, algorithm=algorithm, password=password)
    return write(object_type, key.data, target, compression=compression)


def _write_private(key: PrivateKey, data: bytes, format: KeyFormatType) -> Material:
    if format == F.PKCS_8:
        return data
    if format in {F.RAW, F.OPAQUE}:
        if isinstance(key, ec.EllipticCurvePrivateKey):
            return key.private_numbers().private_value.to_bytes((key.key_size + 7) // 8)
        if isinstance(key, rsa.RSAPrivateKey | dsa.DSAPrivateKey | DHPrivateKey):
            return data if not isinstance(key, rsa.RSAPrivateKey) else _traditional(key)
        return key.private_bytes_raw()
    if isinstance(key, rsa.RSAPrivateKey):
        if format == F.PKCS_1:
            return _traditional(key)
        if format == F.TRANSPARENT_RSA_PRIVATE_KEY:
            numbers = key.private_numbers()
            return TransparentRSAPrivateKey(
                modulus=numbers.public_numbers.n,
                private_exponent=numbers.d,
                public_exponent=numbers.public_numbers.e,
                p=numbers.p,
                q=numbers.q,
                prime_exponent_p=numbers.dmp1,
                prime_exponent_q=numbers.dmq1,
                crt_coefficient=numbers.iqmp,
            )
    if isinstance(key, ec.EllipticCurvePrivateKey) and format == F.ECPRIVATEKEY:
        return _traditional(key)
    if format in _TRANSPARENT_EC_PRIVATE:
        curve = facts(key)[2]
        if curve is not None:
            number = int.from_bytes(cast(bytes, _write_private(key, data, F.RAW)))
            return TransparentECPrivateKey(recommended_curve=curve, d=number)
    if isinstance(key, dsa.DSAPrivateKey) and format == F.TRANSPARENT_DSA_PRIVATE_KEY:
        secret = key.private_numbers()
        domain = secret.public_numbers.parameter_numbers
        return TransparentDSAPrivateKey(p=domain.p, q=domain.q, g=domain.g, x=secret.x)
    if isinstance(key, DHPrivateKey) and format == F.TRANSPARENT_DH_PRIVATE_KEY:
        share = key.private_numbers()
        group = share.public_numbers.parameter_numbers
        return TransparentDHPrivateKey(p=group.p, q=group.q, g=group.g, x=share.x)
    raise _format_not_supported(O.PRIVATE_KEY, format)


def _write_public(
    key: PublicKey, data: bytes, format: KeyFormatType, compression: KeyCompressionType | None
) -> Material:
    if isinstance(key, ec.EllipticCurvePublicKey) and format in {F.RAW, *_TRANSPARENT_EC_PUBLIC}:
        curve = CURVE_BY_NAME[key.curve.name]
        point = key.public_bytes(Encoding.X962, _point_format(compression))
        return point if format == F.RAW else TransparentECPublicKey(recommended_curve=curve, q_string=point)
    if compression not in (None, KeyCompressionType.EC_PUBLIC_KEY_TYPE_UNCOMPRESSED):
        raise KMIPError(
            ResultReason.KEY_COMPRESSION_TYPE_NOT_SUPPORTED, f"{compression} cannot be applied to format {format}"
        )
    if format in {F.X_509, F.PKCS_8}:
        return data
    if isinstance(key, rsa.RSAPublicKey):
        if format in {F.PKCS_1, F.RAW, F.OPAQUE}:
            return key.public_bytes(Encoding.DER, PublicFormat.PKCS1)
        if format == F.TRANSPARENT_RSA_PUBLIC_KEY:
            numbers = key.public_numbers()
            return TransparentRSAPublicKey(modulus=numbers.n, public_exponent=numbers.e)
    elif isinstance(key, dsa.DSAPublicKey):
        if format == F.TRANSPARENT_DSA_PUBLIC_KEY:
            share = key.public_numbers()
            domain = share.parameter_numbers
            return TransparentDSAPublicKey(p=domain.p, q=domain.q, g=domain.g, y=share.y)
    elif isinstance(key, DHPublicKey):
        if format == F.TRANSPARENT_DH_PUBLIC_KEY:
            half = key.public_numbers()
            group = half.parameter_numbers
            return TransparentDHPublicKey(p=group.p, q=group.q, g=group.g, y=half.y)
    elif not isinstance(key, ec.EllipticCurvePublicKey):
        raw = key.public_bytes_raw()
        named = facts(key)[2]
        if format in {F.RAW, F.OPAQUE}:
            return raw
        if format in _TRANSPARENT_EC_PUBLIC and named is not None:
            return TransparentECPublicKey(recommended_curve=named, q_string=raw)
    if format in {F.RAW, F.OPAQUE}:
        return data
    raise _format_not_supported(O.PUBLIC_KEY, format)


def _traditional(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    """PKCS#1 of an RSA key, SEC 1 ECPrivateKey of an elliptic curve key."""
    return key.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption())


def _point_format(compression: KeyCompressionType | None) -> PublicFormat:
    if compression in (None, KeyCompressionType.EC_PUBLIC_KEY_TYPE_UNCOMPRESSED):
        return PublicFormat.UncompressedPoint
    if compression == KeyCompressionType.EC_PUBLIC_KEY_TYPE_X9_62_COMPRESSED_PRIME:
        return PublicFormat.CompressedPoint
    raise KMIPError(ResultReason.KEY_COMPRESSION_TYPE_NOT_SUPPORTED, f"{compression} is not supported")


def write_pkcs12(
    data: bytes | None,
    password: bytes,
    *,
    certificate: bytes | None = None,
    chain: Sequence[bytes] = (),
    name: bytes | None = None,
    legacy: bool = False,
) -> bytes:
    """A PKCS#12 file with a private key in the server's form, its certificate and the certificates above it (DER)."""
    if legacy:
        # RFC 7292's own algorithms: the readers this is for know nothing newer.
        protection: serialization.KeySerializationEncryption = (
            PrivateFormat.PKCS12.encryption_builder()
            .kdf_rounds(50000)
            .key_cert_algorithm(pkcs12.PBES.PBESv1SHA1And3KeyTripleDESCBC)
            .hmac_hash(hashes.SHA1())  # noqa: S303
            .build(password)
        )
    else:
        protection = serialization.BestAvailableEncryption(password) if password else NoEncryption()
    try:
        return pkcs12.serialize_key_and_certificates(
            name,
            cast("pkcs12.PKCS12PrivateKeyTypes | None", load_private(data) if data is not None else None),
            x509.load_der_x509_certificate(certificate) if certificate is not None else None,
            [x509.load_der_x509_certificate(each) for each in chain] or None,
            protection,
        )
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise KMIPError(ResultReason.KEY_FORMAT_TYPE_NOT_SUPPORTED, "this key cannot be put in a PKCS#12 file") from exc


def _format_not_supported(object_type: ObjectType, format: KeyFormatType) -> KMIPError:
    return KMIPError(
        ResultReason.KEY_FORMAT_TYPE_NOT_SUPPORTED, f"Key Format Type {format} is not possible for this {object_type}"
    )
