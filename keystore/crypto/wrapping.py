"""Key wrapping: encrypting, MACing and signing the bytes of a Key Value (2.1, 3.3 and 7.18).

Bytes come in and go out; whether they are the TTLV of a Key Value or the bare Key Material (Encoding Option) is the
caller's affair. A wrapping key without parameters wraps with NIST key wrap if it is AES, with OAEP and SHA-256 if RSA.
"""

from typing import NamedTuple

from keystore.crypto import ciphers, signing
from keystore.crypto.algorithms import NO_PARAMETERS, A, B, PrivateKey, PublicKey, bad, failure, unsupported
from keystore.crypto.ciphers import Secret
from keystore.crypto.policy import DEFAULT, CryptoPolicy
from kmip.enums import CryptographicAlgorithm, ResultReason, ValidityIndicator, WrappingMethod
from kmip.errors import KMIPError
from kmip.structures import CryptographicParameters

W = WrappingMethod


class Using(NamedTuple):
    """A key that wraps or authenticates, and the Cryptographic Parameters that go with it."""

    algorithm: CryptographicAlgorithm
    key: Secret | PrivateKey | PublicKey
    parameters: CryptographicParameters | None = None

    def __repr__(self) -> str:
        return f"Using({self.algorithm})"


class Wrapped(NamedTuple):
    """A wrapped Key Value, with the IV and the MAC or signature for its Key Wrapping Data."""

    data: bytes
    iv: bytes | None = None
    mac_signature: bytes | None = None


def wrap(
    method: WrappingMethod,
    data: bytes,
    *,
    encryption: Using | None = None,
    authentication: Using | None = None,
    iv: bytes | None = None,
    policy: CryptoPolicy = DEFAULT,
) -> Wrapped:
    """Wrap the bytes of a Key Value (2.1, 11.62)."""
    if method == W.ENCRYPT:
        return _encrypt(data, _needed(encryption), iv, policy)
    if method == W.MAC_SIGN:
        return Wrapped(data, mac_signature=_authenticate(data, _needed(authentication), policy))
    if method == W.ENCRYPT_THEN_MAC_SIGN:
        done = _encrypt(data, _needed(encryption), iv, policy)
        return done._replace(mac_signature=_authenticate(done.data, _needed(authentication), policy))
    if method == W.MAC_SIGN_THEN_ENCRYPT:
        code = _authenticate(data, _needed(authentication), policy)
        return _encrypt(data, _needed(encryption), iv, policy)._replace(mac_signature=code)
    raise unsupported(f"wrapping method {method} is not supported")


def unwrap(
    method: WrappingMethod,
    data: bytes,
    *,
    encryption: Using | None = None,
    authentication: Using | None = None,
    iv: bytes | None = None,
    mac_signature: bytes | None = None,
    policy: CryptoPolicy = DEFAULT,
) -> bytes:
    """The bytes of a wrapped Key Value, after every check that its method has (2.1, 11.62)."""
    if method == W.ENCRYPT:
        return _decrypt(data, _needed(encryption), iv, policy)
    if method == W.MAC_SIGN:
        _check(data, _needed(authentication), mac_signature, policy)
        return data
    if method == W.ENCRYPT_THEN_MAC_SIGN:
        _check(data, _needed(authentication), mac_signature, policy)
        return _decrypt(data, _needed(encryption), iv, policy)
    if method == W.MAC_SIGN_THEN_ENCRYPT:
        opened = _decrypt(data, _needed(encryption), iv, policy)
        _check(opened, _needed(authentication), mac_signature, policy)
        return opened
    raise unsupported(f"wrapping method {method} is not supported")


def default_parameters(algorithm: CryptographicAlgorithm) -> CryptographicParameters:
    """How a key wraps that has no parameters of its own."""
    return CryptographicParameters(block_cipher_mode=B.NISTKEYWRAP) if algorithm == A.AES else NO_PARAMETERS


def _needed(using: Using | None) -> Using:
    if using is None:
        raise KMIPError(ResultReason.INVALID_FIELD, "the wrapping method needs a key that is not given")
    return using


def _private(key: PrivateKey | PublicKey) -> PrivateKey:
    if isinstance(key, PrivateKey):
        return key
    raise bad("unwrapping and signing need a private key")


def _public(key: PrivateKey | PublicKey) -> PublicKey:
    """A public key; a private one stands for its public half."""
    return key.public_key() if isinstance(key, PrivateKey) else key


def parameters(using: Using) -> CryptographicParameters:
    """The parameters that a key wraps with: its own, or those that its algorithm has by default."""
    given = using.parameters
    if given is None or (given.block_cipher_mode is None and using.algorithm == A.AES):
        return default_parameters(using.algorithm)
    return given


def _encrypt(data: bytes, using: Using, iv: bytes | None, policy: CryptoPolicy) -> Wrapped:
    """The tag of an authenticated mode follows the ciphertext, as Key Wrapping Data has no field for it."""
    key = using.key if isinstance(using.key, Secret) else _public(using.key)
    done = ciphers.encrypt(using.algorithm, key, parameters(using), data, iv=iv, policy=policy)
    return Wrapped(done.data + (done.tag or b""), done.iv or iv)


def _decrypt(data: bytes, using: Using, iv: bytes | None, policy: CryptoPolicy) -> bytes:
    key = using.key if isinstance(using.key, Secret) else _private(using.key)
    return ciphers.decrypt(using.algorithm, key, parameters(using), data, iv=iv, policy=policy)


def _authenticate(data: bytes, using: Using, policy: CryptoPolicy) -> bytes:
    if isinstance(using.key, Secret):
        return signing.mac(using.algorithm, using.key, using.parameters, data, policy=policy)
    return signing.sign(_private(using.key), using.parameters, data, policy=policy)


def _check(data: bytes, using: Using, code: bytes | None, policy: CryptoPolicy) -> None:
    if code is None:
        raise KMIPError(ResultReason.INVALID_FIELD, "the Key Wrapping Data holds no MAC/Signature")
    if isinstance(using.key, Secret):
        found = signing.mac_verify(using.algorithm, using.key, using.parameters, data, code, policy=policy)
    else:
        found = signing.verify(_public(using.key), using.parameters, code, data, policy=policy)
    if found != ValidityIndicator.VALID:
        raise failure("the MAC or signature of the wrapped key is wrong")
