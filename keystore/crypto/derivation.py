"""Key derivation: one function a Derivation Method (2.1, 6.1.14, 7.12 and 11.14).

What the methods have in common, the length above all, is in `derive`. The Derivation Data of SP 800-108 is taken as the
whole fixed input: a client that wants a length in it puts it there.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import BlockCipherAlgorithm
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.kbkdf import KBKDFCMAC, KBKDFHMAC, CounterLocation, Mode
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC

from keystore.crypto import ciphers
from keystore.crypto.algorithms import (
    ALGORITHMS,
    MODES,
    NO_PARAMETERS,
    WITHOUT_IV,
    A,
    B,
    DHPrivateKey,
    H,
    Mac,
    PrivateKey,
    PublicKey,
    bad,
    failure,
    hash_of,
    symmetric,
    unsupported,
)
from keystore.crypto.keys import facts
from keystore.crypto.policy import DEFAULT, CryptoPolicy
from kmip.enums import CryptographicAlgorithm, DerivationMethod, HashingAlgorithm, ResultReason
from kmip.errors import KMIPError
from kmip.structures import CryptographicParameters

M = DerivationMethod

#: Against a request that keeps a processor busy for minutes.
MOST_ITERATIONS = 10_000_000
#: A derived object of this many bits is more than any key or set of keys needs.
LONGEST = 65536 * 8


class Input(NamedTuple):
    """Everything that a method may use."""

    bits: int
    key: bytes | None
    algorithm: CryptographicAlgorithm | None
    parameters: CryptographicParameters
    data: tuple[bytes, ...]
    salt: bytes | None
    iterations: int | None
    iv: bytes | None
    policy: CryptoPolicy

    @property
    def length(self) -> int:
        """Bytes wanted."""
        return self.bits // 8

    def __repr__(self) -> str:
        return f"Input({self.bits} bits)"


def derive(
    method: DerivationMethod,
    bits: int | None,
    key: bytes | None,
    *,
    algorithm: CryptographicAlgorithm | None = None,
    parameters: CryptographicParameters | None = None,
    data: Sequence[bytes] = (),
    salt: bytes | None = None,
    iterations: int | None = None,
    iv: bytes | None = None,
    policy: CryptoPolicy = DEFAULT,
) -> bytes:
    """`bits` bits derived from a key (of `algorithm`) or a secret, and data."""
    if not bits or bits % 8 or not 0 < bits <= LONGEST:
        raise KMIPError(ResultReason.INVALID_FIELD, "the Cryptographic Length of what is derived must be whole bytes")
    found = METHODS.get(method)
    if found is None:
        raise unsupported(f"derivation method {method} is not supported")
    given = Input(bits, key, algorithm, parameters or NO_PARAMETERS, tuple(data), salt, iterations, iv, policy)
    try:
        return _cut(found(given), given)
    except ValueError as exc:
        raise failure(f"derivation by {method} is not possible with this key and length") from exc


def agree(bits: int | None, private: PrivateKey, public: PublicKey, *, policy: CryptoPolicy = DEFAULT) -> bytes:
    """`bits` bits of the secret that two keys agree on (ASYMMETRIC_KEY), taken from its beginning."""
    _, size, curve = facts(private)
    policy.check(A.DH if isinstance(private, DHPrivateKey) else A.ECDH, bits=size, curve=curve)
    secret = ciphers.agree(private, public)
    if not bits or bits % 8 or bits > len(secret) * 8:
        raise KMIPError(
            ResultReason.INVALID_FIELD, f"key agreement with these keys gives {len(secret) * 8} bits, in whole bytes"
        )
    return secret[: bits // 8]


def _cut(out: bytes, given: Input) -> bytes:
    """The first bits; a length beyond the output of the method is an error (2.1, 6.1.14)."""
    if len(out) < given.length:
        raise KMIPError(
            ResultReason.INVALID_FIELD, f"this derivation gives {len(out) * 8} bits, fewer than the {given.bits} wanted"
        )
    return out[: given.length]


def _key(given: Input) -> bytes:
    if given.key is None:
        raise KMIPError(ResultReason.MISSING_DATA, "this derivation method needs a derivation key")
    return given.key


def _data(given: Input) -> bytes:
    if not given.data:
        raise KMIPError(ResultReason.MISSING_DATA, "this derivation method needs Derivation Data")
    return b"".join(given.data)


def _prf_hash(given: Input, default: HashingAlgorithm | None) -> HashingAlgorithm:
    """The hash of the pseudorandom function: of an HMAC key, of the parameters, or the default."""
    named = given.parameters.cryptographic_algorithm
    for algorithm in (given.algorithm, named):
        row = ALGORITHMS.get(algorithm) if algorithm is not None else None
        if isinstance(row, Mac) and row.hash is not None:
            return _allowed(given, row.hash)
    hashing = given.parameters.hashing_algorithm or default
    if hashing is None:
        raise bad("the Cryptographic Parameters name no Hashing Algorithm")
    return _allowed(given, hashing)


def _allowed(given: Input, hashing: HashingAlgorithm) -> HashingAlgorithm:
    given.policy.check(hashing=hashing)
    return hashing


def _hmac(key: bytes, hashing: HashingAlgorithm, *parts: bytes) -> bytes:
    context = HMAC(key, hash_of(hashing))
    for part in parts:
        context.update(part)
    return context.finalize()


def _pbkdf2(given: Input) -> bytes:
    """PKCS #5; the pseudorandom function is HMAC, with SHA-1 unless another hash is named."""
    if given.salt is None or given.iterations is None:
        raise KMIPError(ResultReason.MISSING_DATA, "PBKDF2 needs Salt and Iteration Count")
    if not 0 < given.iterations <= MOST_ITERATIONS:
        raise KMIPError(ResultReason.INVALID_FIELD, f"the Iteration Count must be from 1 to {MOST_ITERATIONS}")
    hashing = hash_of(_prf_hash(given, H.SHA_1))
    return PBKDF2HMAC(hashing, given.length, given.salt, given.iterations).derive(_key(given))


def _hash(given: Input) -> bytes:
    """The hash of the derivation key, or of the derivation data."""
    if given.key is not None and given.data:
        raise KMIPError(ResultReason.INVALID_FIELD, "HASH takes a derivation key or Derivation Data, not both")
    hashing = given.parameters.hashing_algorithm
    if hashing is None:
        raise bad("the Cryptographic Parameters name no Hashing Algorithm")
    context = hashes.Hash(hash_of(_allowed(given, hashing)))
    context.update(_data(given) if given.key is None else given.key)
    return context.finalize()


def _hmac_of_data(given: Input) -> bytes:
    return _hmac(_key(given), _prf_hash(given, None), _data(given))


def _encrypt(given: Input) -> bytes:
    """The ciphertext of the derivation data; without an IV it is zeros, as the data is what varies."""
    algorithm = given.parameters.cryptographic_algorithm or given.algorithm
    if algorithm is None:
        raise bad("the algorithm of the derivation key is not known")
    row = symmetric(algorithm)
    iv = given.iv
    mode = given.parameters.block_cipher_mode or row.default[0]
    if not iv and mode in MODES and mode not in WITHOUT_IV:
        iv = bytes(MODES[mode].iv or row.block)
    done = ciphers.encrypt(algorithm, _key(given), given.parameters, _data(given), iv=iv, policy=given.policy)
    return done.data


def _cmac_cipher(given: Input) -> type[BlockCipherAlgorithm] | None:
    """The block cipher of the derivation key, if the pseudorandom function is to be its CMAC and not an HMAC."""
    if given.parameters.block_cipher_mode != B.CMAC:
        return None
    if given.algorithm != A.AES:
        raise unsupported(f"derivation by CMAC needs an AES key, not one of {given.algorithm}")
    given.policy.check(A.AES, bits=len(_key(given)) * 8, mode=B.CMAC)
    return AES


def _prf(given: Input) -> tuple[Callable[..., bytes], int]:
    """The pseudorandom function of SP 800-108 under the key, and the length of its output."""
    key = _key(given)
    cipher = _cmac_cipher(given)
    if cipher is None:
        hashing = _prf_hash(given, H.SHA_256)
        return lambda *parts: _hmac(key, hashing, *parts), hash_of(hashing).digest_size

    def cmac(*parts: bytes) -> bytes:
        context = CMAC(AES(key))
        for part in parts:
            context.update(part)
        return context.finalize()

    return cmac, 16


def _counter_mode(given: Input) -> bytes:
    """SP 800-108, 4.1: a 32-bit counter in front of the fixed input."""
    common = (Mode.CounterMode, given.length, 4, None, CounterLocation.BeforeFixed, None, None, _data(given))
    cipher = _cmac_cipher(given)
    if cipher is not None:
        return KBKDFCMAC(cipher, *common).derive(_key(given))
    return KBKDFHMAC(hash_of(_prf_hash(given, H.SHA_256)), *common).derive(_key(given))


def _feedback_mode(given: Input) -> bytes:
    """SP 800-108, 4.2: each block takes in the one before (the first the IV), a 32-bit counter and the fixed input."""
    prf, size = _prf(given)
    fixed, out, last = _data(given), b"", given.iv or b""
    for counter in range(1, -(-given.length // size) + 1):
        last = prf(last, counter.to_bytes(4), fixed)
        out += last
    return out


def _double_pipeline_mode(given: Input) -> bytes:
    """SP 800-108, 4.3: the first pipeline A(i) runs over itself, the second over A(i), a 32-bit counter, the input."""
    prf, size = _prf(given)
    fixed, out = _data(given), b""
    first = fixed
    for counter in range(1, -(-given.length // size) + 1):
        first = prf(first)
        out += prf(first, counter.to_bytes(4), fixed)
    return out


def _hkdf(given: Input) -> bytes:
    """RFC 5869; the derivation data is the information."""
    hashing = hash_of(_allowed(given, given.parameters.hashing_algorithm or H.SHA_256))
    return HKDF(hashing, given.length, given.salt, b"".join(given.data) or None).derive(_key(given))


def _aws_signature(given: Input) -> bytes:
    """The signing key of AWS Signature Version 4; the derivation data is date, region and service."""
    if len(given.data) != 3:
        raise KMIPError(ResultReason.INVALID_FIELD, "AWS Signature Version 4 needs date, region and service")
    key = b"AWS4" + _key(given)
    for part in (*given.data, b"aws4_request"):
        key = _hmac(key, _allowed(given, H.SHA_256), part)
    return key


#: ASYMMETRIC_KEY is `agree`, since its inputs are two parsed keys.
METHODS: dict[DerivationMethod, Callable[[Input], bytes]] = {
    M.PBKDF2: _pbkdf2,
    M.HASH: _hash,
    M.HMAC: _hmac_of_data,
    M.ENCRYPT: _encrypt,
    M.NIST800_108_C: _counter_mode,
    M.NIST800_108_F: _feedback_mode,
    M.NIST800_108_DPI: _double_pipeline_mode,
    M.HKDF: _hkdf,
    M.AWS_SIGNATURE_VERSION_4: _aws_signature,
}
