"""Signatures, message authentication codes and hashes, in one call or as a stream.

A stream of data is hashed as it comes, and the digest signed at the end; Ed25519 and Ed448, which need all data at
once, collect it up to `COLLECTED`. Verifying gives a Validity Indicator, since a wrong signature is an answer, not a
failure (2.1, 6.1.56): also parameters that do not fit the key make a signature invalid.

Defaults, where neither request nor key names them: SHA-256 (SHA-384 and SHA-512 for curves of that strength), PKCS #1
v1.5 for RSA, a salt as long as the digest for PSS.
"""

import hmac as standard_hmac
from collections.abc import Callable
from typing import NamedTuple, Protocol, cast

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, mldsa, rsa
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS, AsymmetricPadding, PKCS1v15
from cryptography.hazmat.primitives.asymmetric.utils import NoDigestInfo, Prehashed
from cryptography.hazmat.primitives.ciphers import BlockCipherAlgorithm, Cipher, modes
from cryptography.hazmat.primitives.cmac import CMAC
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.poly1305 import Poly1305

from keystore.crypto.algorithms import (
    ALGORITHMS,
    CURVE_BY_NAME,
    NO_PARAMETERS,
    A,
    Asymmetric,
    B,
    H,
    Mac,
    P,
    PrivateKey,
    PublicKey,
    Symmetric,
    bad,
    failure,
    hash_of,
    unsupported,
)
from keystore.crypto.ciphers import BLOCK_PADDINGS, COLLECTED, Remote, Secret, pad
from keystore.crypto.keys import facts
from keystore.crypto.policy import DEFAULT, CryptoPolicy
from kmip.enums import (
    CryptographicAlgorithm,
    DigitalSignatureAlgorithm,
    HashingAlgorithm,
    MaskGenerator,
    PaddingMethod,
    ResultReason,
    ValidityIndicator,
)
from kmip.errors import KMIPError
from kmip.structures import CryptographicParameters

D = DigitalSignatureAlgorithm


class Scheme(NamedTuple):
    """What a Digital Signature Algorithm stands for (2.1, 11.16)."""

    algorithm: CryptographicAlgorithm
    hashing: HashingAlgorithm | None
    padding: PaddingMethod | None = None


SCHEMES: dict[DigitalSignatureAlgorithm, Scheme] = {
    D.MD5_WITH_RSA_ENCRYPTION: Scheme(A.RSA, H.MD5, P.PKCS1_V1_5),
    D.SHA_1_WITH_RSA_ENCRYPTION: Scheme(A.RSA, H.SHA_1, P.PKCS1_V1_5),
    D.SHA_224_WITH_RSA_ENCRYPTION: Scheme(A.RSA, H.SHA_224, P.PKCS1_V1_5),
    D.SHA_256_WITH_RSA_ENCRYPTION: Scheme(A.RSA, H.SHA_256, P.PKCS1_V1_5),
    D.SHA_384_WITH_RSA_ENCRYPTION: Scheme(A.RSA, H.SHA_384, P.PKCS1_V1_5),
    D.SHA_512_WITH_RSA_ENCRYPTION: Scheme(A.RSA, H.SHA_512, P.PKCS1_V1_5),
    D.RSASSA_PSS: Scheme(A.RSA, None, P.PSS),
    D.DSA_WITH_SHA_1: Scheme(A.DSA, H.SHA_1),
    D.DSA_WITH_SHA224: Scheme(A.DSA, H.SHA_224),
    D.DSA_WITH_SHA256: Scheme(A.DSA, H.SHA_256),
    D.ECDSA_WITH_SHA_1: Scheme(A.ECDSA, H.SHA_1),
    D.ECDSA_WITH_SHA224: Scheme(A.ECDSA, H.SHA_224),
    D.ECDSA_WITH_SHA256: Scheme(A.ECDSA, H.SHA_256),
    D.ECDSA_WITH_SHA384: Scheme(A.ECDSA, H.SHA_384),
    D.ECDSA_WITH_SHA512: Scheme(A.ECDSA, H.SHA_512),
    D.SHA3_256_WITH_RSA_ENCRYPTION: Scheme(A.RSA, H.SHA3_256, P.PKCS1_V1_5),
    D.SHA3_384_WITH_RSA_ENCRYPTION: Scheme(A.RSA, H.SHA3_384, P.PKCS1_V1_5),
    D.SHA3_512_WITH_RSA_ENCRYPTION: Scheme(A.RSA, H.SHA3_512, P.PKCS1_V1_5),
}


class Signer(Protocol):
    """A signature in parts."""

    def update(self, data: bytes) -> None:
        """Take the next part of the data."""

    def finalize(self) -> bytes:
        """Give the signature."""


class Verifier(Protocol):
    """A verification in parts."""

    def update(self, data: bytes) -> None:
        """Take the next part of the data."""

    def finalize(self, signature: bytes) -> ValidityIndicator:
        """Say whether the signature is valid."""


class _Plan(NamedTuple):
    """The hash of the data (none where the algorithm takes data as it is) and the padding of an RSA signature."""

    hashing: hashes.HashAlgorithm | None
    padding: AsymmetricPadding | None


_Digest = hashes.HashAlgorithm | Prehashed | NoDigestInfo
_SignPrivate = (
    rsa.RSAPrivateKey
    | dsa.DSAPrivateKey
    | ec.EllipticCurvePrivateKey
    | ed25519.Ed25519PrivateKey
    | ed448.Ed448PrivateKey
    | mldsa.MLDSA44PrivateKey
    | mldsa.MLDSA65PrivateKey
    | mldsa.MLDSA87PrivateKey
)
_RSA = rsa.RSAPrivateKey | rsa.RSAPublicKey
_EC = ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey
_DSA = dsa.DSAPrivateKey | dsa.DSAPublicKey
_EDWARDS = ed25519.Ed25519PrivateKey | ed25519.Ed25519PublicKey | ed448.Ed448PrivateKey | ed448.Ed448PublicKey
_MLDSA_PRIVATE = mldsa.MLDSA44PrivateKey | mldsa.MLDSA65PrivateKey | mldsa.MLDSA87PrivateKey
_MLDSA_PUBLIC = mldsa.MLDSA44PublicKey | mldsa.MLDSA65PublicKey | mldsa.MLDSA87PublicKey

# ---------------------------------------------------------------------------------------------------------------------
# Signatures


def sign(
    key: PrivateKey,
    parameters: CryptographicParameters | None,
    data: bytes | None = None,
    *,
    digest: bytes | None = None,
    policy: CryptoPolicy = DEFAULT,
) -> bytes:
    """The signature of `data`, or of data of which `digest` is the digest (2.1, 6.1.55)."""
    plan = _plan(key, parameters or NO_PARAMETERS, digest, policy, protect=True)
    try:
        return _sign(key, plan, data, digest)
    except UnsupportedAlgorithm as exc:
        raise unsupported("this combination of key, padding and hash is not supported") from exc
    except ValueError as exc:
        raise failure("the signature cannot be made with this key, padding and digest") from exc


def verify(
    key: PublicKey,
    parameters: CryptographicParameters | None,
    signature: bytes,
    data: bytes | None = None,
    *,
    digest: bytes | None = None,
    policy: CryptoPolicy = DEFAULT,
) -> ValidityIndicator:
    """Whether `signature` is one of `data`, or of data of which `digest` is the digest (2.1, 6.1.56)."""
    given = parameters or NO_PARAMETERS
    if not _names_kind_of(key, given):
        return ValidityIndicator.INVALID
    plan = _plan(key, given, digest, policy, protect=False)
    try:
        _verify(key, plan, signature, data, digest)
    except UnsupportedAlgorithm as exc:
        raise unsupported("this combination of key, padding and hash is not supported") from exc
    except (InvalidSignature, ValueError):
        return ValidityIndicator.INVALID
    return ValidityIndicator.VALID


def signer(key: PrivateKey, parameters: CryptographicParameters | None, *, policy: CryptoPolicy = DEFAULT) -> Signer:
    """A signature in parts (2.1, 6.1.55)."""
    plan = _plan(key, parameters or NO_PARAMETERS, None, policy, protect=True)
    if isinstance(key, _MLDSA_PRIVATE):
        return _MuSigner(key)
    if plan.hashing is None:
        return _CollectedSigner(lambda data: sign(key, parameters, data, policy=policy))
    return _HashedSigner(plan.hashing, lambda digest: _sign(key, plan, None, digest))


def verifier(key: PublicKey, parameters: CryptographicParameters | None, *, policy: CryptoPolicy = DEFAULT) -> Verifier:
    """A verification in parts (2.1, 6.1.56)."""
    given = parameters or NO_PARAMETERS
    if not _names_kind_of(key, given):
        return _NeverValid()
    plan = _plan(key, given, None, policy, protect=False)
    if isinstance(key, _MLDSA_PUBLIC):
        return _MuVerifier(key)
    if plan.hashing is None:
        return _CollectedVerifier(lambda data, signature: _verify(key, plan, signature, data, None))
    return _HashedVerifier(plan.hashing, lambda digest, signature: _verify(key, plan, signature, None, digest))


def _named(parameters: CryptographicParameters) -> Scheme:
    """Algorithm, hash and padding that the parameters name, whichever way they do (2.1, 4.16)."""
    scheme = parameters.digital_signature_algorithm
    if scheme is None:
        algorithm = parameters.cryptographic_algorithm
        return Scheme(algorithm or A.RSA, parameters.hashing_algorithm, parameters.padding_method)
    found = SCHEMES.get(scheme)
    if found is None:
        raise unsupported(f"digital signature algorithm {scheme} is not supported")
    if found.hashing is not None and parameters.hashing_algorithm not in (None, found.hashing):
        raise bad(f"{scheme} does not go with hashing algorithm {parameters.hashing_algorithm}")
    return Scheme(found.algorithm, found.hashing or parameters.hashing_algorithm, found.padding)


def _names_kind_of(key: PrivateKey | PublicKey, parameters: CryptographicParameters) -> bool:
    """Whether the key is of the algorithm that the parameters name, if they name one."""
    if parameters.digital_signature_algorithm is None and parameters.cryptographic_algorithm is None:
        return True
    row = ALGORITHMS.get(_named(parameters).algorithm)
    return isinstance(row, Asymmetric) and isinstance(key, (*row.private, *row.public))


def _plan(
    key: PrivateKey | PublicKey,
    parameters: CryptographicParameters,
    digest: bytes | None,
    policy: CryptoPolicy,
    *,
    protect: bool,
) -> _Plan:
    """Resolve hash and padding, and ask the policy."""
    if not _names_kind_of(key, parameters):
        raise bad("the key is not of the algorithm that the Cryptographic Parameters name")
    named = _named(parameters)
    if isinstance(key, _RSA):
        return _rsa_plan(key, parameters, named, digest, policy, protect=protect)
    if isinstance(key, _EC):
        curve = CURVE_BY_NAME.get(key.curve.name)
        hashing = named.hashing or (_digest_hash(digest) if digest is not None else _curve_hash(key.curve.key_size))
        policy.check(A.ECDSA, curve=curve, signature_hash=hashing, protect=protect)
        return _Plan(_as_long_as(digest, hashing), None)
    if isinstance(key, _DSA):
        hashing = named.hashing or (_digest_hash(digest) if digest is not None else H.SHA_256)
        policy.check(A.DSA, bits=key.key_size, signature_hash=hashing, protect=protect)
        return _Plan(_as_long_as(digest, hashing), None)
    if isinstance(key, _EDWARDS | _MLDSA_PRIVATE | _MLDSA_PUBLIC):
        algorithm, _, curve = facts(key)
        policy.check(algorithm, curve=curve, protect=protect)
        if digest is not None:
            raise unsupported(f"{algorithm} signs data, not digests")
        return _Plan(None, None)
    raise unsupported("a key of this algorithm does not sign")


def _curve_hash(bits: int) -> HashingAlgorithm:
    """The hash of a curve's strength (FIPS 186-5, 6.1.1)."""
    return H.SHA_256 if bits <= 256 else H.SHA_384 if bits <= 384 else H.SHA_512


_BY_DIGEST_SIZE = {20: H.SHA_1, 28: H.SHA_224, 32: H.SHA_256, 48: H.SHA_384, 64: H.SHA_512}


def _digest_hash(digest: bytes) -> HashingAlgorithm | None:
    """The usual hash with digests of this length."""
    return _BY_DIGEST_SIZE.get(len(digest))


def _as_long_as(digest: bytes | None, hashing: HashingAlgorithm | None) -> hashes.HashAlgorithm:
    """The hash, where only the length of its digests matters: an unknown one is any of that length.

    ECDSA and DSA put no name of the hash into the signature, so a digest of another length can be signed
    (OASIS case TC-ECDSA-SIGN-DIGESTEDDATA).
    """
    if hashing is not None:
        return hash_of(hashing)
    if not digest:
        raise bad("the Digested Data is empty")
    return hashes.SHAKE128(len(digest))


def _rsa_plan(
    key: _RSA,
    parameters: CryptographicParameters,
    named: Scheme,
    digest: bytes | None,
    policy: CryptoPolicy,
    *,
    protect: bool,
) -> _Plan:
    method = named.padding or P.PKCS1_V1_5
    hashing = named.hashing
    if hashing is None and (digest is None or method == P.PSS):
        hashing = H.SHA_256 if digest is None else _digest_hash(digest)
        if hashing is None:
            raise bad("the Hashing Algorithm of the Digested Data is needed")
    policy.check(A.RSA, bits=key.key_size, signature_padding=method, signature_hash=hashing, protect=protect)
    function = hash_of(hashing) if hashing is not None else None
    if method == P.PKCS1_V1_5:
        return _Plan(function, PKCS1v15())
    if method != P.PSS or function is None:
        raise unsupported(f"RSA does not sign with padding method {method}")
    if parameters.mask_generator not in (None, MaskGenerator.MGF1):
        raise unsupported(f"mask generator {parameters.mask_generator} is not supported")
    if parameters.trailer_field not in (None, 1):
        raise unsupported("PSS has the standard trailer only (RFC 8017, A.2.3: 1)")
    # A mask generator without a hash of its own takes the hash of the data: the signatures in the OASIS cases of the
    # cryptographic services do, whatever the text of 4.16 says of SHA-1.
    policy.check(hashing=parameters.mask_generator_hashing_algorithm, protect=protect)
    mask = MGF1(hash_of(parameters.mask_generator_hashing_algorithm or hashing or H.SHA_256))
    if parameters.salt_length is not None:
        if not 0 <= parameters.salt_length <= key.key_size // 8:
            raise bad("the Salt Length does not fit the key")
        return _Plan(function, PSS(mask, parameters.salt_length))
    return _Plan(function, PSS(mask, PSS.DIGEST_LENGTH if protect else PSS.AUTO))


def _sign(key: PrivateKey, plan: _Plan, data: bytes | None, digest: bytes | None) -> bytes:
    message, algorithm = _message(plan, data, digest)
    if isinstance(key, rsa.RSAPrivateKey) and plan.padding is not None:
        return key.sign(message, plan.padding, algorithm)
    if isinstance(key, ec.EllipticCurvePrivateKey) and not isinstance(algorithm, NoDigestInfo):
        return key.sign(message, ec.ECDSA(algorithm))
    if isinstance(key, dsa.DSAPrivateKey) and not isinstance(algorithm, NoDigestInfo):
        return key.sign(message, algorithm)
    return cast(ed25519.Ed25519PrivateKey, key).sign(message)


def _verify(key: PublicKey, plan: _Plan, signature: bytes, data: bytes | None, digest: bytes | None) -> None:
    message, algorithm = _message(plan, data, digest)
    if isinstance(key, rsa.RSAPublicKey) and plan.padding is not None:
        # The library's annotation forgets NoDigestInfo here; its documentation and its `sign` name it.
        key.verify(signature, message, plan.padding, cast("hashes.HashAlgorithm | Prehashed", algorithm))
    elif isinstance(key, ec.EllipticCurvePublicKey) and not isinstance(algorithm, NoDigestInfo):
        key.verify(signature, message, ec.ECDSA(algorithm))
    elif isinstance(key, dsa.DSAPublicKey) and not isinstance(algorithm, NoDigestInfo):
        key.verify(signature, message, algorithm)
    else:
        cast(ed25519.Ed25519PublicKey, key).verify(signature, message)


def _message(plan: _Plan, data: bytes | None, digest: bytes | None) -> tuple[bytes, _Digest]:
    """What is signed, and how it was or is to be hashed."""
    if digest is None:
        if data is None:
            raise KMIPError(ResultReason.MISSING_DATA, "Data or Digested Data is required")
        return data, plan.hashing or NoDigestInfo()
    if data is not None:
        raise KMIPError(ResultReason.INVALID_FIELD, "Data and Digested Data exclude each other")
    # PKCS #1 v1.5 without a named hash: the digest is signed as it is (PKCS#11 CKM_RSA_PKCS).
    return digest, Prehashed(plan.hashing) if plan.hashing is not None else NoDigestInfo()


class _HashedSigner:
    def __init__(self, hashing: hashes.HashAlgorithm, end: Callable[[bytes], bytes]) -> None:
        self._hash = hashes.Hash(hashing)
        self._end = end

    def update(self, data: bytes) -> None:
        self._hash.update(data)

    def finalize(self) -> bytes:
        try:
            return self._end(self._hash.finalize())
        except UnsupportedAlgorithm as exc:
            raise unsupported("this combination of key, padding and hash is not supported") from exc
        except ValueError as exc:
            raise failure("the signature cannot be made with this key, padding and digest") from exc


class _HashedVerifier:
    def __init__(self, hashing: hashes.HashAlgorithm, end: Callable[[bytes, bytes], None]) -> None:
        self._hash = hashes.Hash(hashing)
        self._end = end

    def update(self, data: bytes) -> None:
        self._hash.update(data)

    def finalize(self, signature: bytes) -> ValidityIndicator:
        return _validity(lambda: self._end(self._hash.finalize(), signature))


class _MuSigner:
    """ML-DSA over a stream: the message representative is a hash of the data (FIPS 204, 6.2)."""

    def __init__(self, key: _MLDSA_PRIVATE) -> None:
        self._key = key
        self._hash = mldsa.MLDSAMuHasher(key.public_key())

    def update(self, data: bytes) -> None:
        self._hash.update(data)

    def finalize(self) -> bytes:
        return self._key.sign_mu(self._hash.finalize())


class _MuVerifier:
    def __init__(self, key: _MLDSA_PUBLIC) -> None:
        self._key = key
        self._hash = mldsa.MLDSAMuHasher(key)

    def update(self, data: bytes) -> None:
        self._hash.update(data)

    def finalize(self, signature: bytes) -> ValidityIndicator:
        return _validity(lambda: self._key.verify_mu(signature, self._hash.finalize()))


class _Collected:
    collects = True

    def __init__(self) -> None:
        self._data = bytearray()

    def update(self, data: bytes) -> None:
        if len(self._data) + len(data) > COLLECTED:
            raise KMIPError(
                ResultReason.INVALID_FIELD,
                f"this algorithm needs all data at once, {COLLECTED} bytes at most",
            )
        self._data += data


class _CollectedSigner(_Collected):
    def __init__(self, end: Callable[[bytes], bytes]) -> None:
        super().__init__()
        self._end = end

    def finalize(self) -> bytes:
        return self._end(bytes(self._data))


class _CollectedVerifier(_Collected):
    def __init__(self, end: Callable[[bytes, bytes], None]) -> None:
        super().__init__()
        self._end = end

    def finalize(self, signature: bytes) -> ValidityIndicator:
        return _validity(lambda: self._end(bytes(self._data), signature))


class _NeverValid:
    def update(self, data: bytes) -> None:
        """The data cannot matter."""

    def finalize(self, signature: bytes) -> ValidityIndicator:
        return ValidityIndicator.INVALID


def _validity(check: Callable[[], None]) -> ValidityIndicator:
    try:
        check()
    except UnsupportedAlgorithm as exc:
        raise unsupported("this combination of key, padding and hash is not supported") from exc
    except (InvalidSignature, ValueError):
        return ValidityIndicator.INVALID
    return ValidityIndicator.VALID


# ---------------------------------------------------------------------------------------------------------------------
# Message authentication codes


class Authenticator(Protocol):
    """A message authentication code in parts."""

    def update(self, data: bytes) -> None:
        """Take the next part of the data."""

    def finalize(self) -> bytes:
        """Give the code."""


class _CbcMac:
    """CBC-MAC: the last block of a CBC encryption under a zero IV (ISO/IEC 9797-1, algorithm 1).

    Without a Padding Method the data is filled with zeros (padding method 1). It is safe for messages of one length
    only, which is why CMAC is the default; the protocol has it.
    """

    def __init__(self, cipher: BlockCipherAlgorithm, padding: PaddingMethod | None) -> None:
        self._block = cipher.block_size // 8
        self._context = Cipher(cipher, modes.CBC(bytes(self._block))).encryptor()
        self._padding = padding or P.ZEROS
        self._count = 0
        self._last = b""

    def update(self, data: bytes) -> None:
        self._count += len(data)
        # In pieces, so that the ciphertext that is thrown away stays small.
        for start in range(0, len(data), 65536):
            self._last = self._context.update(data[start : start + 65536])[-self._block :] or self._last

    def finalize(self) -> bytes:
        filled = self._count % self._block
        tail = (
            pad(self._padding, filled, self._block) if self._count or self._padding != P.ZEROS else bytes(self._block)
        )
        last = self._context.update(tail)[-self._block :] or self._last
        self._context.finalize()
        return last


def authenticator(
    algorithm: CryptographicAlgorithm | None,
    key: Secret,
    parameters: CryptographicParameters | None,
    *,
    policy: CryptoPolicy = DEFAULT,
    protect: bool = True,
) -> Authenticator:
    """A message authentication code in parts under a key of `algorithm` (2.1, 6.1.32).

    An HMAC is named by the Cryptographic Algorithm of the parameters or by a Hashing Algorithm; a cipher key without
    either makes a CMAC.
    """
    given = parameters or NO_PARAMETERS
    if given.block_cipher_mode is None and not isinstance(key, Remote):
        named = given.cryptographic_algorithm
        row = ALGORITHMS.get(named) if named is not None else None
        if not isinstance(row, Mac) and given.hashing_algorithm is None and algorithm is not None:
            named, row = algorithm, ALGORITHMS.get(algorithm)
        if isinstance(row, Mac):
            if row.hash is None:
                policy.check(named, bits=len(key) * 8, protect=protect)
                return _poly1305(key)
            if given.hashing_algorithm not in (None, row.hash):
                raise bad(f"{named} does not go with hashing algorithm {given.hashing_algorithm}")
            policy.check(named, bits=len(key) * 8, hashing=row.hash, protect=protect)
            return HMAC(key, hash_of(row.hash))
        if given.hashing_algorithm is not None:
            policy.check(_HMACS.get(given.hashing_algorithm), bits=len(key) * 8, protect=protect)
            policy.check(hashing=given.hashing_algorithm, protect=protect)
            return HMAC(key, hash_of(given.hashing_algorithm))
    if isinstance(key, Remote):
        if given.block_cipher_mode not in (None, B.CMAC) or given.hashing_algorithm is not None:
            raise unsupported("a key that is used where it is kept makes CMACs only")
        policy.check(algorithm, bits=len(key) * 8, mode=B.CMAC, protect=protect)
        return _CollectedSigner(lambda data: _code_elsewhere(key, data))
    return _cipher_mac(given.cryptographic_algorithm or algorithm, key, given, policy, protect=protect)


_HMACS = {row.hash: algorithm for algorithm, row in ALGORITHMS.items() if isinstance(row, Mac) and row.hash is not None}


def _poly1305(key: bytes) -> Authenticator:
    try:
        return Poly1305(key)
    except ValueError as exc:
        raise bad("a key of Poly1305 has 256 bits") from exc


def _cipher_mac(
    algorithm: CryptographicAlgorithm | None,
    key: bytes,
    parameters: CryptographicParameters,
    policy: CryptoPolicy,
    *,
    protect: bool,
) -> Authenticator:
    mode = parameters.block_cipher_mode or B.CMAC
    row = ALGORITHMS.get(algorithm) if algorithm is not None else None
    if mode not in (B.CMAC, B.CBC_MAC) or not isinstance(row, Symmetric) or mode not in row.modes or row.cipher is None:
        raise unsupported(f"a key of {algorithm} does not authenticate messages in mode {mode}")
    padding = None if parameters.padding_method == P.NONE else parameters.padding_method
    if padding is not None and (mode == B.CMAC or padding not in BLOCK_PADDINGS):
        raise bad(f"padding method {padding} does not apply to mode {mode}")
    policy.check(algorithm, bits=len(key) * 8, mode=mode, padding=padding, protect=protect)
    try:
        cipher = cast(BlockCipherAlgorithm, row.cipher(key))
        return CMAC(cipher) if mode == B.CMAC else _CbcMac(cipher, padding)
    except UnsupportedAlgorithm as exc:
        raise unsupported(f"{algorithm} in mode {mode} is not supported") from exc
    except ValueError as exc:
        raise bad(f"the key does not fit {algorithm}") from exc


def _code_elsewhere(key: Remote, data: bytes) -> bytes:
    try:
        return key.code(data)
    except UnsupportedAlgorithm as exc:
        raise unsupported("the key makes no codes where it is kept") from exc
    except ValueError as exc:
        raise failure("no code can be made of the data") from exc


def mac(
    algorithm: CryptographicAlgorithm | None,
    key: Secret,
    parameters: CryptographicParameters | None,
    data: bytes,
    *,
    policy: CryptoPolicy = DEFAULT,
) -> bytes:
    """The message authentication code of `data` (2.1, 6.1.32)."""
    context = authenticator(algorithm, key, parameters, policy=policy)
    context.update(data)
    return context.finalize()


def mac_verify(
    algorithm: CryptographicAlgorithm | None,
    key: Secret,
    parameters: CryptographicParameters | None,
    data: bytes,
    code: bytes,
    *,
    policy: CryptoPolicy = DEFAULT,
) -> ValidityIndicator:
    """Whether `code` authenticates `data` (2.1, 6.1.33)."""
    context = authenticator(algorithm, key, parameters, policy=policy, protect=False)
    context.update(data)
    return same_code(context, code)


def same_code(context: Authenticator, code: bytes) -> ValidityIndicator:
    """Whether a code in parts comes out as `code`, compared in constant time."""
    equal = standard_hmac.compare_digest(context.finalize(), code)
    return ValidityIndicator.VALID if equal else ValidityIndicator.INVALID


# ---------------------------------------------------------------------------------------------------------------------
# Hashes


def hasher(parameters: CryptographicParameters | None, *, policy: CryptoPolicy = DEFAULT) -> hashes.Hash:
    """A hash in parts (2.1, 6.1.24)."""
    hashing = (parameters or NO_PARAMETERS).hashing_algorithm
    if hashing is None:
        raise bad("the Cryptographic Parameters name no Hashing Algorithm")
    function = hash_of(hashing)
    policy.check(hashing=hashing)
    return hashes.Hash(function)


def digest(parameters: CryptographicParameters | None, data: bytes, *, policy: CryptoPolicy = DEFAULT) -> bytes:
    """The hash of `data` (2.1, 6.1.24)."""
    context = hasher(parameters, policy=policy)
    context.update(data)
    return context.finalize()
