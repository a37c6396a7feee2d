"""Keys: generation, every format in and out, and the cache of parsed keys."""

import pytest

from keystore.crypto import algorithms, derivation, keys
from keystore.crypto.algorithms import ALGORITHMS, A, Asymmetric, C
from keystore.crypto.policy import DEFAULT, FIPS_140_3, PERMISSIVE
from kmip.enums import KeyCompressionType, KeyFormatType, ObjectType, ResultReason
from kmip.errors import KMIPError
from kmip.structures import (
    TransparentDHPrivateKey,
    TransparentDHPublicKey,
    TransparentDSAPrivateKey,
    TransparentRSAPrivateKey,
    TransparentSymmetricKey,
)
from tests.keystore.crypto.vectors import PACKAGE, records

F, O = KeyFormatType, ObjectType  # noqa: E741
R = ResultReason
FOUNDRY = {"AES": (A.AES, (128, 192, 256)), "SKIPJACK": (A.SKIPJACK, (80,))}


@pytest.mark.parametrize(("algorithm", "sizes"), FOUNDRY.values(), ids=FOUNDRY)
def test_the_foundry_s_keys_have_their_lengths(algorithm, sizes):
    """The Symmetric Key Foundry profile's keys are random bytes of the length asked for."""
    for bits in sizes:
        assert len(keys.generate_symmetric(algorithm, bits)) * 8 == bits
        assert keys.generate_symmetric(algorithm, bits) != keys.generate_symmetric(algorithm, bits)


@pytest.mark.parametrize(("bits", "length"), [(112, 16), (128, 16), (168, 24), (192, 24)])
def test_a_triple_des_key_comes_with_its_parity_bits(bits, length):
    """The length counts bits of key, or of key and parity; the material has both (SKFF-M-8, SKFF-O-5)."""
    assert len(keys.generate_symmetric(A.DES3, bits)) == length


@pytest.mark.parametrize(("algorithm", "bits"), [(A.DES, 64), (A.DES3, 128), (A.DES3, 192)], ids=str)
def test_a_des_key_with_parity_bits_has_odd_parity(algorithm, bits):
    """Each byte has an odd number of ones."""
    assert all(byte.bit_count() % 2 for byte in keys.generate_symmetric(algorithm, bits))


def test_parity_bits_are_added_after_every_seven():
    """Fifty-six ones become eight bytes of seven ones and no parity bit, and zeros only the parity bits."""
    assert algorithms.with_parity(b"\xff" * 7) == b"\xfe" * 8
    assert algorithms.with_parity(bytes(7)) == b"\x01" * 8


@pytest.mark.parametrize(
    ("algorithm", "bits", "reason"),
    [
        (A.AES, 100, R.INVALID_FIELD),
        (A.AES, None, R.MISSING_DATA),
        (A.RSA, 2048, R.INVALID_FIELD),
        (None, 128, R.INVALID_FIELD),
        (A(0x80001234), 128, R.INVALID_FIELD),
    ],
    ids=str,
)
def test_a_symmetric_key_of_an_impossible_kind_is_refused(algorithm, bits, reason):
    """Wrong length, no length, an algorithm with pairs, none, an unknown one."""
    with pytest.raises(KMIPError) as caught:
        keys.generate_symmetric(algorithm, bits)
    assert caught.value.reason == reason


PAIRS = [
    (algorithm, curve)
    for algorithm, row in ALGORITHMS.items()
    if isinstance(row, Asymmetric) and row.generate
    for curve in (row.curves if len(row.curves) > 1 else (None,))
]


@pytest.fixture(scope="module")
def pair_of():
    """A pair of each kind, made once."""
    made = {}

    def make(algorithm, curve):
        if (algorithm, curve) not in made:
            bits = {A.RSA: 2048, A.DSA: 1024}.get(algorithm)
            made[algorithm, curve] = keys.generate_pair(algorithm, bits, curve=curve, policy=PERMISSIVE)
        return made[algorithm, curve]

    return make


@pytest.mark.parametrize(("algorithm", "curve"), PAIRS, ids=lambda each: str(each))
def test_a_pair_survives_every_format(pair_of, algorithm, curve):
    """What one format says of a key, reading it gives back: the same key, algorithm, length and curve."""
    pair = pair_of(algorithm, curve)
    assert keys.matches(pair.private.data, pair.public.data)
    assert keys.public_of(pair.private.data, algorithm) == pair.public
    for object_type, key in ((O.PRIVATE_KEY, pair.private), (O.PUBLIC_KEY, pair.public)):
        formats = []
        for format in F:
            try:
                material = keys.write(object_type, key.data, format)
            except KMIPError as error:
                assert error.reason == R.KEY_FORMAT_TYPE_NOT_SUPPORTED
                continue
            assert keys.read(object_type, format, material, algorithm=algorithm, curve=key.curve) == key
            formats.append(format)
        assert {F.RAW, F.PKCS_8} <= set(formats)
        assert keys.default_format(object_type, algorithm, key.curve) in formats


def test_a_key_does_not_print_its_bytes(pair_of):
    """Neither the key nor the pair shows material in its representation."""
    pair = pair_of(A.ED25519, None)
    assert pair.private.data.hex()[-32:] not in repr(pair)
    assert repr(pair.private.data) not in repr(pair.private)


@pytest.mark.parametrize(
    "kept",
    [
        ("private_exponent", "public_exponent"),
        ("private_exponent",),
        ("p", "q"),
        ("p", "public_exponent"),
        ("prime_exponent_p", "prime_exponent_q", "public_exponent"),
    ],
    ids=" ".join,
)
def test_a_transparent_rsa_key_needs_one_of_three_things(pair_of, kept):
    """The private exponent, the primes or the prime exponents are enough (2.1, 3.7)."""
    pair = pair_of(A.RSA, None)
    full = keys.write(O.PRIVATE_KEY, pair.private.data, F.TRANSPARENT_RSA_PRIVATE_KEY)
    part = TransparentRSAPrivateKey(modulus=full.modulus, **{name: getattr(full, name) for name in kept})
    assert keys.read(O.PRIVATE_KEY, F.TRANSPARENT_RSA_PRIVATE_KEY, part) == pair.private


BAD = {
    "nothing but a modulus": (
        O.PRIVATE_KEY,
        F.TRANSPARENT_RSA_PRIVATE_KEY,
        TransparentRSAPrivateKey(modulus=15),
        R.INVALID_FIELD,
    ),
    "primes that are none": (
        O.PRIVATE_KEY,
        F.TRANSPARENT_RSA_PRIVATE_KEY,
        TransparentRSAPrivateKey(modulus=16, p=4, q=4, public_exponent=3),
        R.INVALID_FIELD,
    ),
    "a prime of zero": (
        O.PRIVATE_KEY,
        F.TRANSPARENT_RSA_PRIVATE_KEY,
        TransparentRSAPrivateKey(modulus=15, p=0),
        R.INVALID_FIELD,
    ),
    "not DER": (O.PRIVATE_KEY, F.PKCS_8, b"not DER", R.INVALID_FIELD),
    "empty": (O.PRIVATE_KEY, F.PKCS_1, b"", R.INVALID_FIELD),
    "a public key of nonsense": (O.PUBLIC_KEY, F.X_509, b"\x30\x03\x02\x01\x01", R.INVALID_FIELD),
    "a point off the curve": (O.PUBLIC_KEY, F.RAW, b"\x04" + bytes(63) + b"\x01", R.INVALID_FIELD),
    "a raw key of no curve's length": (O.PRIVATE_KEY, F.RAW, bytes(11), R.INVALID_FIELD),
    "a symmetric key in PKCS#1": (O.SYMMETRIC_KEY, F.PKCS_1, b"x" * 16, R.KEY_FORMAT_TYPE_NOT_SUPPORTED),
    "a private key as X.509": (O.PRIVATE_KEY, F.X_509, b"x", R.KEY_FORMAT_TYPE_NOT_SUPPORTED),
    "a structure of another kind": (
        O.PUBLIC_KEY,
        F.TRANSPARENT_SYMMETRIC_KEY,
        TransparentSymmetricKey(key=b"x"),
        R.KEY_FORMAT_TYPE_NOT_SUPPORTED,
    ),
    "a generator of order zero": (
        O.PRIVATE_KEY,
        F.TRANSPARENT_DSA_PRIVATE_KEY,
        TransparentDSAPrivateKey(p=0, q=0, g=0, x=1),
        R.INVALID_FIELD,
    ),
}


@pytest.mark.parametrize(("object_type", "format", "material", "reason"), BAD.values(), ids=BAD)
def test_material_that_is_no_key_is_refused(object_type, format, material, reason):
    """With a reason, and without quoting the material."""
    with pytest.raises(KMIPError) as caught:
        keys.read(object_type, format, material)
    assert caught.value.reason == reason


def test_an_inconsistent_rsa_key_is_refused(pair_of):
    """The check at entry is what later loads rely on."""
    full = keys.write(O.PRIVATE_KEY, pair_of(A.RSA, None).private.data, F.TRANSPARENT_RSA_PRIVATE_KEY)
    full.private_exponent += 2
    full.p = full.q = None
    with pytest.raises(KMIPError) as caught:
        keys.read(O.PRIVATE_KEY, F.TRANSPARENT_RSA_PRIVATE_KEY, full)
    assert caught.value.reason == R.INVALID_FIELD


def test_symmetric_keys_and_secrets_keep_their_bytes():
    """Raw, Opaque and transparent; the length follows from the bytes."""
    key = bytes(range(16))
    for format, material in (
        (F.RAW, key),
        (F.OPAQUE, key),
        (F.TRANSPARENT_SYMMETRIC_KEY, TransparentSymmetricKey(key=key)),
    ):
        found = keys.read(O.SYMMETRIC_KEY, format, material, algorithm=A.AES)
        assert (found.data, found.algorithm, found.bits) == (key, A.AES, 128)
        assert keys.write(O.SYMMETRIC_KEY, key, format) == material
    assert keys.convert(O.SECRET_DATA, b"password", F.OPAQUE, F.RAW) == b"password"


def test_a_point_is_compressed_when_asked_for(pair_of):
    """X9.62 compressed points go out and come in; hybrid ones do not exist."""
    public = pair_of(A.EC, C.P_256).public
    compressed = KeyCompressionType.EC_PUBLIC_KEY_TYPE_X9_62_COMPRESSED_PRIME
    point = keys.write(O.PUBLIC_KEY, public.data, F.RAW, compression=compressed)
    assert (len(point), point[0] in (2, 3)) == (33, True)
    assert keys.read(O.PUBLIC_KEY, F.RAW, point, algorithm=A.EC) == public
    structure = keys.write(O.PUBLIC_KEY, public.data, F.TRANSPARENT_EC_PUBLIC_KEY, compression=compressed)
    assert structure.q_string == point
    for format, compression in ((F.RAW, KeyCompressionType.EC_PUBLIC_KEY_TYPE_X9_62_HYBRID), (F.X_509, compressed)):
        with pytest.raises(KMIPError) as caught:
            keys.write(O.PUBLIC_KEY, public.data, format, compression=compression)
        assert caught.value.reason == R.KEY_COMPRESSION_TYPE_NOT_SUPPORTED


DEFAULTS = {
    (O.SYMMETRIC_KEY, A.AES): F.RAW,
    (O.SECRET_DATA, None): F.RAW,
    (O.OPAQUE_OBJECT, None): F.OPAQUE,
    (O.CERTIFICATE, A.RSA): F.X_509,
    (O.CERTIFICATE_REQUEST, None): F.PKCS_10,
    (O.PRIVATE_KEY, A.RSA): F.PKCS_1,
    (O.PUBLIC_KEY, A.RSA): F.PKCS_1,
    (O.PRIVATE_KEY, A.ECDSA): F.TRANSPARENT_EC_PRIVATE_KEY,
    (O.PUBLIC_KEY, A.EC): F.TRANSPARENT_EC_PUBLIC_KEY,
    (O.PRIVATE_KEY, A.DSA): F.TRANSPARENT_DSA_PRIVATE_KEY,
    (O.PUBLIC_KEY, A.DSA): F.TRANSPARENT_DSA_PUBLIC_KEY,
}


@pytest.mark.parametrize(("asked", "format"), DEFAULTS.items(), ids=lambda each: str(each))
def test_the_default_formats_are_those_of_the_table(asked, format):
    """2.1, Table 81."""
    assert keys.default_format(*asked) == format


@pytest.mark.parametrize(
    ("algorithm", "bits", "curve", "reason"),
    [
        (A.RSA, 1024, None, R.PERMISSION_DENIED),
        (A.RSA, 100, None, R.INVALID_FIELD),
        (A.RSA, None, None, R.MISSING_DATA),
        (A.ECDSA, 256, C.P_384, R.INVALID_FIELD),
        (A.ECDSA, None, C.CURVE25519, R.INVALID_FIELD),
        (A.ECDSA, 111, None, R.INVALID_FIELD),
        (A.EC, None, C.P_192, R.PERMISSION_DENIED),
        (A.DSA, 2048, None, R.PERMISSION_DENIED),
        (A.DH, 2048, None, R.FEATURE_NOT_SUPPORTED),
        (A.AES, 128, None, R.INVALID_FIELD),
    ],
    ids=str,
)
def test_a_pair_of_an_impossible_or_forbidden_kind_is_refused(algorithm, bits, curve, reason):
    """Sizes and curves that do not exist, and those that the default policy keeps out."""
    with pytest.raises(KMIPError) as caught:
        keys.generate_pair(algorithm, bits, curve=curve, policy=DEFAULT)
    assert caught.value.reason == reason


def test_the_fips_policy_makes_no_pairs_outside_its_lists():
    """secp256k1 is not an approved curve."""
    with pytest.raises(KMIPError):
        keys.generate_pair(A.ECDSA, curve=C.SECP256K1, policy=FIPS_140_3)
    assert keys.generate_pair(A.ECDSA, 384, policy=FIPS_140_3).private.curve == C.P_384


def test_pkcs12_opens_with_its_password_only(pair_of):
    """A key in PKCS#12 can be registered with the password of its link, and not without."""
    pair = pair_of(A.EC, C.P_256)
    for legacy in (False, True):
        data = keys.write_pkcs12(pair.private.data, b"right", name=b"name", legacy=legacy)
        found = keys.read(O.PRIVATE_KEY, F.PKCS_12, data, password=b"right")
        assert found.data == pair.private.data
        with pytest.raises(KMIPError) as caught:
            keys.read_pkcs12(data, b"wrong")
        assert caught.value.reason == R.BAD_PASSWORD
        with pytest.raises(KMIPError):
            keys.read(O.PRIVATE_KEY, F.PKCS_12, data, password=b"wrong")


def test_a_key_that_pkcs12_cannot_hold_is_refused(pair_of):
    """The library knows no PKCS#12 for key agreement keys."""
    data = pair_of(A.ECDH, C.CURVE25519).private.data
    with pytest.raises(KMIPError) as caught:
        keys.write_pkcs12(data, b"x")
    assert caught.value.reason == R.KEY_FORMAT_TYPE_NOT_SUPPORTED


@pytest.mark.filterwarnings("ignore:Diffie-Hellman")
def test_finite_field_keys_agree_as_published():
    """RFC 5114 groups in transparent keys; the library deprecates them, the formats of the protocol have them."""
    for record in records("asymmetric/DH/RFC5114.txt"):
        p, g, q = (int(record[name], 16) for name in ("p", "g", "q"))
        x, y, z = (int(record[name], 16) for name in ("xstatcavs", "ystatiut", "z"))
        private = keys.read(
            O.PRIVATE_KEY, F.TRANSPARENT_DH_PRIVATE_KEY, TransparentDHPrivateKey(p=p, g=g, q=q, x=x), algorithm=A.DH
        )
        public = keys.read(O.PUBLIC_KEY, F.TRANSPARENT_DH_PUBLIC_KEY, TransparentDHPublicKey(p=p, g=g, q=q, y=y))
        secret = derivation.agree(
            p.bit_length(), keys.load_private(private.data), keys.load_public(public.data), policy=PERMISSIVE
        )
        assert int.from_bytes(secret) == z
        written = keys.write(O.PRIVATE_KEY, private.data, F.TRANSPARENT_DH_PRIVATE_KEY)
        assert (written.p, written.g, written.x) == (p, g, x)


def test_encrypted_pkcs8_is_read_with_its_password():
    """A file of another implementation."""
    data = (PACKAGE / "asymmetric/X25519/x25519-pkcs8-enc.der").read_bytes()
    found = keys.read(O.PRIVATE_KEY, F.PKCS_8, data, password=b"password")
    assert (found.algorithm, found.curve, found.bits) == (A.ECDH, C.CURVE25519, 256)
    with pytest.raises(KMIPError):
        keys.read(O.PRIVATE_KEY, F.PKCS_8, data)
