"""Encryption and decryption, in one call or as a stream.

A stream holds a constant amount of memory whatever it is fed: that of its cipher, a block, a tag. The modes that the
library offers in one call only (CCM, XTS, GCM-SIV, SIV, OCB, key wrap) collect their data up to `COLLECTED` instead.
Which parameters count (request, key, default of the server) the operation decides; without any, the row of the
algorithm has a default: AES-GCM with a fresh IV and a tag of 16 bytes, CBC with PKCS5 for the other block ciphers,
OAEP with SHA-256 for RSA, ECIES for elliptic curves. An IV that is needed and not given is drawn at random.

The tag is returned apart; a decryption that is not given one takes it from the end of the data.
"""

import hmac
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives import keywrap, padding
from cryptography.hazmat.primitives.asymmetric import ec, mlkem, rsa, x448, x25519
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, OAEP, AsymmetricPadding, PKCS1v15
from cryptography.hazmat.primitives.ciphers import Cipher, aead, modes
from cryptography.hazmat.primitives.ciphers.algorithms import AES, ChaCha20
from cryptography.hazmat.primitives.kdf.x963kdf import X963KDF
from cryptography.hazmat.primitives.poly1305 import Poly1305
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from keystore.crypto import algorithms
from keystore.crypto.algorithms import (
    CURVE_BY_NAME,
    GCM_SIV,
    ISO_9797_1_METHOD_2,
    MAC_MODES,
    MODES,
    NO_PARAMETERS,
    OCB,
    SIV,
    STREAM_CIPHERS,
    WITHOUT_IV,
    A,
    B,
    H,
    P,
    PrivateKey,
    PublicKey,
    Symmetric,
    bad,
    failure,
    unsupported,
)
from keystore.crypto.policy import DEFAULT, CryptoPolicy
from kmip.enums import (
    BlockCipherMode,
    CryptographicAlgorithm,
    HashingAlgorithm,
    MaskGenerator,
    PaddingMethod,
    RecommendedCurve,
    ResultReason,
)
from kmip.errors import KMIPError, UnfitError
from kmip.structures import CryptographicParameters

#: What a stream collects in the modes that need all data at once. XTS ends there anyway (IEEE 1619: 2^20 blocks).
COLLECTED = 16 * 1024 * 1024
_CHACHA20_BLOCK = 64
#: A tag as long as the mode can make it, unless the parameters say otherwise.
TAG = 16


class Encrypted(NamedTuple):
    """A ciphertext, the IV if it was drawn here, and the tag of an authenticated mode."""

    data: bytes
    iv: bytes | None = None
    tag: bytes | None = None


class Stream(Protocol):
    """An encryption or a decryption in parts."""

    #: The IV if it was drawn here.
    iv: bytes | None
    #: The tag, once an authenticated encryption has ended.
    tag: bytes | None

    def update(self, data: bytes) -> bytes:
        """Take the next part and give what can be given by now."""

    def finalize(self) -> bytes:
        """Give the rest."""


class Remote(ABC):
    """A symmetric key that is used where it is kept: its bytes are never here, only how many they are.

    What its keeper does not do raises `UnsupportedAlgorithm`, what does not fit `ValueError`.
    """

    @abstractmethod
    def __len__(self) -> int:
        """Bytes of the key."""

    @abstractmethod
    def encrypt(self, plan: "Plan", data: bytes, aad: bytes | None) -> bytes:
        """Encrypt whole blocks, or with GCM anything, to which its tag is appended."""

    @abstractmethod
    def decrypt(self, plan: "Plan", data: bytes, aad: bytes | None) -> bytes:
        """Undo `encrypt`."""

    @abstractmethod
    def code(self, data: bytes) -> bytes:
        """The CMAC of data."""


#: A symmetric key, here or in a token. A name, because a union written in place is made anew at each call.
Secret = bytes | Remote


class Plan(NamedTuple):
    """What one operation is going to do, with every default filled in."""

    row: Symmetric
    algorithm: CryptographicAlgorithm
    key: Any  # bytes, or a `Remote` key
    mode: BlockCipherMode | None
    padding: PaddingMethod | None
    iv: bytes
    fresh: bytes | None
    tag_length: int
    #: How many bytes the counter allows, if its length is limited.
    limit: int | None


# ---------------------------------------------------------------------------------------------------------------------
# The four functions


def encrypt(
    algorithm: CryptographicAlgorithm,
    key: Secret | PublicKey,
    parameters: CryptographicParameters | None,
    data: bytes,
    *,
    iv: bytes | None = None,
    aad: bytes | None = None,
    policy: CryptoPolicy = DEFAULT,
) -> Encrypted:
    """Encrypt `data` under a symmetric or a public key (2.1, 6.1.17)."""
    if not isinstance(key, Secret):
        return _encrypt_for(algorithm, key, parameters or NO_PARAMETERS, data, policy)
    plan = _plan(algorithm, key, parameters or NO_PARAMETERS, iv, policy, encrypting=True)
    try:
        if isinstance(key, Remote):
            return _encrypt_elsewhere(key, plan, data, aad)
        whole = _WHOLE.get(plan.mode) if plan.mode is not None else None
        if whole is not None:
            return whole.encrypt(plan, data, aad)
        stream = _encryptor(plan, aad)
        out = stream.update(data) + stream.finalize()
    except UnsupportedAlgorithm as exc:
        raise unsupported(f"{algorithm} in mode {plan.mode} is not supported") from exc
    except (ValueError, OverflowError) as exc:
        raise _unfit(plan, exc) from exc
    return Encrypted(out, plan.fresh, stream.tag)


def decrypt(
    algorithm: CryptographicAlgorithm,
    key: Secret | PrivateKey,
    parameters: CryptographicParameters | None,
    data: bytes,
    *,
    iv: bytes | None = None,
    aad: bytes | None = None,
    tag: bytes | None = None,
    policy: CryptoPolicy = DEFAULT,
) -> bytes:
    """Decrypt `data` under a symmetric or a private key (2.1, 6.1.11)."""
    if not isinstance(key, Secret):
        return _decrypt_with(algorithm, key, parameters or NO_PARAMETERS, data, policy)
    plan = _plan(algorithm, key, parameters or NO_PARAMETERS, iv, policy, encrypting=False, tag=tag)
    try:
        if isinstance(key, Remote):
            return _decrypt_elsewhere(key, plan, data, aad, tag)
        whole = _WHOLE.get(plan.mode) if plan.mode is not None else None
        if whole is not None:
            return whole.decrypt(plan, data, aad, tag)
        stream = _decryptor(plan, aad, tag)
        return stream.update(data) + stream.finalize()
    except UnsupportedAlgorithm as exc:
        raise unsupported(f"{algorithm} in mode {plan.mode} is not supported") from exc
    except (ValueError, OverflowError, InvalidTag, keywrap.InvalidUnwrap) as exc:
        raise failure("the data cannot be decrypted") from exc


def encrypt_each(
    algorithm: CryptographicAlgorithm,
    key: Secret | PublicKey,
    parameters: CryptographicParameters | None,
    items: Sequence[bytes],
    *,
    aad: bytes | None = None,
    policy: CryptoPolicy = DEFAULT,
) -> list[bytes]:
    """Encrypt every item under an IV of its own, which stands before the ciphertext, the tag behind it.

    What is asked for is looked at once for all of them, as far as the mode takes an item in one call.
    """
    if isinstance(key, bytes) and items:
        plan = _plan(algorithm, key, parameters or NO_PARAMETERS, None, policy, encrypting=True)
        whole = _WHOLE.get(plan.mode) if plan.mode is not None else None
        if whole is not None and whole.build is not None and plan.fresh is not None:
            size = len(plan.fresh)
            drawn = os.urandom(size * len(items))
            ivs = [drawn[at : at + size] for at in range(0, len(drawn), size)]
            # CCM makes the tag as short as it is to be; others are cut.
            end = None if plan.mode == B.CCM or plan.tag_length == TAG else plan.tag_length - TAG
            try:
                seal = whole.build(plan).encrypt
                return [iv + seal(iv, item, aad)[:end] for iv, item in zip(ivs, items, strict=True)]
            except UnsupportedAlgorithm as exc:
                raise unsupported(f"{algorithm} in mode {plan.mode} is not supported") from exc
            except (ValueError, OverflowError) as exc:
                raise _unfit(plan, exc) from exc
    each = (encrypt(algorithm, key, parameters, item, aad=aad, policy=policy) for item in items)
    return [(one.iv or b"") + one.data + (one.tag or b"") for one in each]


def decrypt_each(
    algorithm: CryptographicAlgorithm,
    key: Secret | PrivateKey,
    parameters: CryptographicParameters | None,
    items: Sequence[bytes],
    *,
    aad: bytes | None = None,
    policy: CryptoPolicy = DEFAULT,
) -> list[bytes]:
    """Decrypt what `encrypt_each` gave."""
    size = drawn(algorithm, key, parameters, policy=policy)
    if isinstance(key, bytes) and items and size:
        plan = _plan(algorithm, key, parameters or NO_PARAMETERS, items[0][:size], policy, encrypting=False)
        whole = _WHOLE.get(plan.mode) if plan.mode is not None else None
        if whole is not None and whole.build is not None and plan.tag_length == TAG:
            try:
                unseal = whole.build(plan).decrypt
                return [unseal(item[:size], item[size:], aad) for item in items]
            except UnsupportedAlgorithm as exc:
                raise unsupported(f"{algorithm} in mode {plan.mode} is not supported") from exc
            except (ValueError, OverflowError, InvalidTag) as exc:
                raise failure("the data cannot be decrypted") from exc
    return [
        decrypt(algorithm, key, parameters, item[size:], iv=item[:size] or None, aad=aad, policy=policy)
        for item in items
    ]


def encryptor(
    algorithm: CryptographicAlgorithm,
    key: Secret | PublicKey,
    parameters: CryptographicParameters | None,
    *,
    iv: bytes | None = None,
    aad: bytes | None = None,
    policy: CryptoPolicy = DEFAULT,
) -> Stream:
    """An encryption in parts; the additional data comes with the first (2.1, 6.1.17)."""
    given = parameters or NO_PARAMETERS
    if not isinstance(key, Secret):
        return _Collector(lambda data: encrypt(algorithm, key, given, data, policy=policy))
    plan = _plan(algorithm, key, given, iv, policy, encrypting=True)
    if plan.mode in _COLLECTED_MODES or isinstance(key, Remote):
        collector = _Collector(lambda data: encrypt(algorithm, key, given, data, iv=plan.iv, aad=aad, policy=policy))
        collector.iv = plan.fresh
        return collector
    try:
        return _encryptor(plan, aad)
    except UnsupportedAlgorithm as exc:
        raise unsupported(f"{algorithm} in mode {plan.mode} is not supported") from exc
    except (ValueError, OverflowError) as exc:
        raise _unfit(plan, exc) from exc


def decryptor(
    algorithm: CryptographicAlgorithm,
    key: Secret | PrivateKey,
    parameters: CryptographicParameters | None,
    *,
    iv: bytes | None = None,
    aad: bytes | None = None,
    tag: bytes | None = None,
    policy: CryptoPolicy = DEFAULT,
) -> Stream:
    """A decryption in parts; additional data and tag come with the first (2.1, 6.1.11).

    What an authenticated mode gives before the end is not authenticated yet: that is what the protocol asks for.
    """
    given = parameters or NO_PARAMETERS
    if not isinstance(key, Secret):
        return _Collector(lambda data: Encrypted(decrypt(algorithm, key, given, data, policy=policy)))
    plan = _plan(algorithm, key, given, iv, policy, encrypting=False, tag=tag)
    if plan.mode in _COLLECTED_MODES or isinstance(key, Remote):
        return _Collector(
            lambda data: Encrypted(
                decrypt(algorithm, key, given, data, iv=plan.iv or None, aad=aad, tag=tag, policy=policy)
            )
        )
    try:
        return _decryptor(plan, aad, tag)
    except UnsupportedAlgorithm as exc:
        raise unsupported(f"{algorithm} in mode {plan.mode} is not supported") from exc
    except (ValueError, OverflowError) as exc:
        raise _unfit(plan, exc) from exc


def drawn(
    algorithm: CryptographicAlgorithm,
    key: Secret | PublicKey | PrivateKey,
    parameters: CryptographicParameters | None,
    *,
    policy: CryptoPolicy = DEFAULT,
) -> int:
    """How many bytes the IV has that an encryption draws which is given none."""
    given = parameters or NO_PARAMETERS
    if not isinstance(key, Secret):
        return 0
    row, mode, _ = _choice(algorithm, len(key) * 8, given.block_cipher_mode, given.padding_method, policy, False)
    if mode is None:
        return max(0, given.iv_length or 96) // 8 if algorithm == A.CHACHA20 else 0
    if mode in WITHOUT_IV or (mode == SIV and not given.random_iv):
        return 0
    return row.block if mode == B.CTR else _drawn_length(row, mode, given)


# ---------------------------------------------------------------------------------------------------------------------
# From parameters to a plan


@lru_cache(maxsize=1024)
def _choice(
    algorithm: CryptographicAlgorithm,
    bits: int,
    mode: BlockCipherMode | None,
    method: PaddingMethod | None,
    policy: CryptoPolicy,
    protect: bool,
) -> tuple[Symmetric, BlockCipherMode | None, PaddingMethod | None]:
    """Row, mode and padding with the defaults filled in, allowed by the policy and fitting each other."""
    row = algorithms.symmetric(algorithm)
    if mode is None:
        mode, padding_of_mode = row.default
        if method is None:
            method = padding_of_mode
        elif method != P.NONE and B.CBC in row.modes:
            # Whoever names a padding means a mode that has one.
            mode = B.CBC
    if method == P.NONE:
        method = None
    policy.check(algorithm, bits=bits, mode=mode, padding=method, protect=protect)
    if algorithm in STREAM_CIPHERS:
        if mode is not None or method is not None:
            raise bad(f"{algorithm} has neither Block Cipher Mode nor Padding Method")
        return row, None, None
    if mode is None or mode in MAC_MODES or mode not in row.modes:
        raise unsupported(f"{algorithm} does not encrypt in mode {mode}")
    if method is not None and (not MODES[mode].blocks or method not in BLOCK_PADDINGS):
        raise bad(f"padding method {method} does not apply to mode {mode}")
    return row, mode, method


def _plan(
    algorithm: CryptographicAlgorithm,
    key: Secret,
    parameters: CryptographicParameters,
    iv: bytes | None,
    policy: CryptoPolicy,
    *,
    encrypting: bool,
    tag: bytes | None = None,
) -> Plan:
    """Resolve mode, padding, IV and tag length, and ask the policy."""
    row, mode, method = _choice(
        algorithm, len(key) * 8, parameters.block_cipher_mode, parameters.padding_method, policy, encrypting
    )
    if mode is None:
        return _stream_cipher_plan(row, algorithm, key, parameters, iv, encrypting=encrypting)
    found = MODES[mode]
    limit = None
    fresh: bytes | None = None
    if mode in WITHOUT_IV:
        iv = b""
    elif not iv or mode == B.CTR or parameters.random_iv or (len(iv) not in found.ivs):
        iv, fresh, limit = _initialization(row, mode, parameters, iv, encrypting=encrypting)
    length = TAG
    if found.tags:
        length = parameters.tag_length or (len(tag) if tag else TAG)
        if length not in found.tags:
            # The OASIS cases CS-BC-M-GCM-1 and CS-BC-M-CHACHA20POLY1305-1 expect this reason.
            raise UnfitError(f"a tag of {length} bytes is not possible in mode {mode}")
        if tag is not None and len(tag) != length:
            raise failure("the data cannot be decrypted")
    return Plan(row, algorithm, key, mode, method, iv, fresh, length, limit)


def _drawn_length(row: Symmetric, mode: BlockCipherMode, parameters: CryptographicParameters) -> int:
    """How many bytes are drawn of an IV that is not given: as many as it is said to have, in all or by its fields."""
    fields = (parameters.fixed_field_length or 0) // 8 + (parameters.invocation_field_length or 0) // 8
    usual = row.block if mode == B.CTR else MODES[mode].iv or row.block
    return (parameters.iv_length or 0) // 8 or fields or usual


def _initialization(
    row: Symmetric, mode: BlockCipherMode, parameters: CryptographicParameters, iv: bytes | None, *, encrypting: bool
) -> tuple[bytes, bytes | None, int | None]:
    """The IV, the same again if it was drawn here, and how many bytes its counter allows (2.1, 4.16)."""
    found = MODES[mode]
    size = row.block if mode == B.CTR else found.iv or row.block
    invocation = (parameters.invocation_field_length or 0) // 8
    fixed = (parameters.fixed_field_length or 0) // 8
    fresh: bytes | None = None
    if iv and encrypting and parameters.random_iv and invocation > 0 and len(iv) == fixed:
        # The client gave the fixed field only; the invocation field is drawn (SP 800-38D, 8.2).
        iv = fresh = iv + os.urandom(invocation)
    elif not iv:
        if mode == SIV and not parameters.random_iv:
            # Without a nonce SIV is deterministic encryption, which is what it was made for (RFC 5297, 1.3.2).
            return b"", None, None
        if not encrypting:
            # The OASIS cases CS-BC-M-12 and CS-BC-M-13 expect this reason.
            raise KMIPError(ResultReason.INVALID_MESSAGE, f"mode {mode} needs the IV/Counter/Nonce")
        length = _drawn_length(row, mode, parameters)
        if mode == B.CTR and parameters.counter_length:
            length = min(length, row.block - parameters.counter_length // 8)
        if (length not in found.ivs) if found.ivs else (length != size):
            raise bad(f"an IV of {length * 8} bits is not possible in mode {mode}")
        iv = fresh = os.urandom(length)
    if mode == B.CTR:
        block, limit = _counter_block(row.block, parameters, iv)
        return block, block if fresh is not None else None, limit
    if (len(iv) not in found.ivs) if found.ivs else (len(iv) != size):
        raise bad(f"an IV of {len(iv)} bytes is not possible in mode {mode}")
    return iv, fresh, None


def _counter_block(size: int, parameters: CryptographicParameters, iv: bytes) -> tuple[bytes, int | None]:
    """The first counter block, and how many bytes fit before the counter runs into the nonce (SP 800-38A, appendix B).

    A shorter IV is a nonce, followed by the counter from the Initial Counter Value (RFC 3686: 4 + 8 bytes and 1).
    """
    initial = parameters.initial_counter_value
    counter = (parameters.counter_length or 0) // 8
    if not 0 <= counter <= size:
        raise bad(f"a counter of {counter * 8} bits is not possible in mode CTR")
    if not 0 <= (initial or 0) < 256 ** (counter or max(0, size - len(iv)) or size):
        raise bad("the Initial Counter Value does not fit the counter")
    if len(iv) < size:
        if counter and len(iv) + counter != size:
            raise bad(f"nonce and counter do not make a block of {size} bytes")
        counter = size - len(iv)
        iv += (initial or 0).to_bytes(counter)
    elif initial is not None:
        if not counter:
            raise bad("an Initial Counter Value needs a Counter Length or an IV shorter than a block")
        iv = iv[: size - counter] + initial.to_bytes(counter)
    if len(iv) != size:
        raise bad(f"an IV of {len(iv)} bytes is not possible in mode CTR")
    if not counter or counter >= size:
        return iv, None
    return iv, (256**counter - int.from_bytes(iv[-counter:])) * size


def _stream_cipher_plan(
    row: Symmetric,
    algorithm: CryptographicAlgorithm,
    key: Secret,
    parameters: CryptographicParameters,
    iv: bytes | None,
    *,
    encrypting: bool,
) -> Plan:
    if algorithm != A.CHACHA20:
        return Plan(row, algorithm, key, None, None, b"", None, 0, None)
    fresh: bytes | None = None
    if not iv:
        if not encrypting:
            raise KMIPError(ResultReason.INVALID_MESSAGE, f"{algorithm} needs the IV/Counter/Nonce")
        iv = fresh = os.urandom(max(0, parameters.iv_length or 96) // 8)
    if len(iv) not in (8, 12, 16):
        raise bad("a nonce of ChaCha20 has 8 bytes, 12 (RFC 8439), or 16 with the counter in front")
    counter = parameters.initial_counter_value or 0
    if not 0 <= counter < 256 ** (16 - len(iv)):
        raise bad("the Initial Counter Value does not fit the counter")
    # Counter and nonce fill 16 bytes: eight and eight in the original design, four and twelve in RFC 8439. The library
    # would carry a counter that overflows into the nonce, and so repeat the key stream of another.
    size = 16 - len(iv)
    limit = (256**size - counter) * _CHACHA20_BLOCK if size else None
    return Plan(row, algorithm, key, None, None, counter.to_bytes(size, "little") + iv, fresh, 0, limit)


def _unfit(plan: Plan, exc: Exception) -> KMIPError:
    """Why the library refused key, IV or data before it began; its texts name lengths only."""
    return bad(f"key, IV or data do not fit {plan.algorithm} in mode {plan.mode}: {exc}")


# ---------------------------------------------------------------------------------------------------------------------
# Padding of blocks: framing, not cryptography. Each entry fills `missing` bytes, 1 to the block length.

_PADS: dict[PaddingMethod, Callable[[int], bytes]] = {
    P.PKCS5: lambda missing: bytes([missing]) * missing,
    P.ANSI_X9_23: lambda missing: bytes(missing - 1) + bytes([missing]),
    P.ISO_10126: lambda missing: os.urandom(missing - 1) + bytes([missing]),
    ISO_9797_1_METHOD_2: lambda missing: b"\x80" + bytes(missing - 1),
    P.ZEROS: bytes,
}
BLOCK_PADDINGS = frozenset(_PADS)


def pad(method: PaddingMethod | None, filled: int, block: int) -> bytes:
    """What follows `filled` bytes (modulo the block) of data."""
    if method is None:
        if filled:
            raise KMIPError(
                ResultReason.INVALID_FIELD, f"without padding, the data must be a multiple of {block} bytes"
            )
        return b""
    if method == P.ZEROS and not filled:
        return b""
    return _PADS[method](block - filled)


def _unpad(method: PaddingMethod, last: bytes, block: int) -> bytes:
    """The data in the last block; every defect gives one and the same error."""
    if len(last) != block:
        if method == P.ZEROS and not last:
            return b""
        raise ValueError("length")
    if method == P.PKCS5:
        pkcs7 = padding.PKCS7(block * 8).unpadder()
        return pkcs7.update(last) + pkcs7.finalize()
    if method == P.ANSI_X9_23:
        x923 = padding.ANSIX923(block * 8).unpadder()
        return x923.update(last) + x923.finalize()
    if method == P.ISO_10126:
        if not 1 <= last[-1] <= block:
            raise ValueError("padding")
        return last[: -last[-1]]
    stripped = last.rstrip(b"\0")
    if method == ISO_9797_1_METHOD_2:
        if not stripped.endswith(b"\x80"):
            raise ValueError("padding")
        return stripped[:-1]
    # Zeros cannot be told from data that ends in zeros: the method is for data that does not.
    return stripped


# ---------------------------------------------------------------------------------------------------------------------
# Streams


def _cipher(plan: Plan) -> Cipher[Any]:
    """The library's cipher of a plan."""
    if plan.algorithm == A.CHACHA20:
        return Cipher(ChaCha20(plan.key, plan.iv), None)
    make = plan.row.cipher
    if make is None:
        raise unsupported(f"there is no cipher for {plan.algorithm}")
    if plan.mode is None:
        return Cipher(make(plan.key), None)
    if plan.mode == B.GCM:
        return Cipher(make(plan.key), modes.GCM(plan.iv, None, min_tag_length=plan.tag_length))
    build = MODES[plan.mode].make
    if build is None:
        raise unsupported(f"mode {plan.mode} is not possible here")
    return Cipher(make(plan.key), build(plan.iv))


class _Encryptor:
    """ECB, CBC and the modes without blocks."""

    tag: bytes | None = None

    def __init__(self, plan: Plan) -> None:
        self.iv = plan.fresh
        self._context = _cipher(plan).encryptor()
        self._padding = plan.padding
        self._block = plan.row.block if plan.mode is not None and MODES[plan.mode].blocks else 0
        self._count = 0
        self._limit = plan.limit

    def update(self, data: bytes) -> bytes:
        self._count += len(data)
        _check_counter(self._count, self._limit)
        return self._context.update(data)

    def finalize(self) -> bytes:
        if not self._block:
            return self._context.finalize()
        out = self._context.update(pad(self._padding, self._count % self._block, self._block))
        return out + self._context.finalize()


class _Decryptor:
    """ECB, CBC and the modes without blocks."""

    iv: bytes | None = None
    tag: bytes | None = None

    def __init__(self, plan: Plan) -> None:
        self._context = _cipher(plan).decryptor()
        self._padding = plan.padding
        self._block = plan.row.block
        self._last = b""
        self._count = 0
        self._limit = plan.limit

    def update(self, data: bytes) -> bytes:
        self._count += len(data)
        _check_counter(self._count, self._limit)
        out = self._context.update(data)
        if self._padding is None:
            return out
        # The last block may be the one with the padding, so it is held back.
        out = self._last + out
        self._last = out[-self._block :]
        return out[: -self._block]

    def finalize(self) -> bytes:
        try:
            out = self._context.finalize()
            return out if self._padding is None else _unpad(self._padding, self._last + out, self._block)
        except ValueError as exc:
            raise failure("the data cannot be decrypted") from exc


def _check_counter(count: int, limit: int | None) -> None:
    if limit is not None and count > limit:
        raise KMIPError(ResultReason.INVALID_FIELD, "the data is longer than the counter allows")


class _AuthenticatedEncryptor:
    """A mode whose tag comes at the end."""

    tag: bytes | None = None

    def __init__(self, plan: Plan, update: Callable[[bytes], bytes], end: Callable[[], bytes]) -> None:
        self.iv = plan.fresh
        self._length = plan.tag_length
        self.update = update
        self._end = end

    def finalize(self) -> bytes:
        self.tag = self._end()[: self._length]
        return b""


class _AuthenticatedDecryptor:
    """A mode whose tag is given, or follows the data."""

    iv: bytes | None = None
    tag: bytes | None = None

    def __init__(
        self, plan: Plan, tag: bytes | None, update: Callable[[bytes], bytes], end: Callable[[bytes], object]
    ) -> None:
        self._given = tag
        self._length = plan.tag_length
        self._last = b""
        self._update = update
        self._end = end

    def update(self, data: bytes) -> bytes:
        if self._given is not None:
            return self._update(data)
        data = self._last + data
        self._last = data[-self._length :]
        return self._update(data[: -self._length])

    def finalize(self) -> bytes:
        tag = self._last if self._given is None else self._given
        try:
            if len(tag) != self._length:
                raise InvalidTag
            self._end(tag)
        except (InvalidTag, ValueError) as exc:
            raise failure("the data cannot be decrypted") from exc
        return b""


class _ChaCha20Poly1305:
    """The construction of RFC 8439, 2.8, from the library's ChaCha20 and Poly1305.

    The library's own object takes all data at once and knows full tags only; this one serves streams and short tags.
    """

    def __init__(self, plan: Plan, aad: bytes | None, *, encrypting: bool) -> None:
        one_time = Cipher(ChaCha20(plan.key, bytes(4) + plan.iv), None).encryptor().update(bytes(32))
        self._mac = Poly1305(one_time)
        self._context = Cipher(ChaCha20(plan.key, (1).to_bytes(4, "little") + plan.iv), None).encryptor()
        self._encrypting = encrypting
        self._aad = len(aad or b"")
        self._count = 0
        if aad:
            self._mac.update(aad + bytes(-len(aad) % 16))

    def update(self, data: bytes) -> bytes:
        out = self._context.update(data)
        self._mac.update(out if self._encrypting else data)
        self._count += len(data)
        return out

    def end(self) -> bytes:
        self._mac.update(bytes(-self._count % 16))
        self._mac.update(self._aad.to_bytes(8, "little") + self._count.to_bytes(8, "little"))
        return self._mac.finalize()

    def verify(self, tag: bytes) -> None:
        if not hmac.compare_digest(self.end()[: len(tag)], tag):
            raise InvalidTag


class _Collector:
    """A stream for what needs all data at once."""

    collects = True

    iv: bytes | None = None
    tag: bytes | None = None

    def __init__(self, run: Callable[[bytes], Encrypted]) -> None:
        self._run = run
        self._data = bytearray()

    def update(self, data: bytes) -> bytes:
        if len(self._data) + len(data) > COLLECTED:
            raise KMIPError(
                ResultReason.INVALID_FIELD,
                f"this mode needs all data at once, and takes {COLLECTED} bytes at most",
            )
        self._data += data
        return b""

    def finalize(self) -> bytes:
        done = self._run(bytes(self._data))
        self.iv, self.tag = done.iv or self.iv, done.tag
        return done.data


def _encryptor(plan: Plan, aad: bytes | None) -> Stream:
    if plan.mode == B.GCM:
        gcm = _cipher(plan).encryptor()
        gcm.authenticate_additional_data(aad or b"")

        def end() -> bytes:
            gcm.finalize()
            return bytes(gcm.tag)

        return _AuthenticatedEncryptor(plan, gcm.update, end)
    if plan.mode == B.AEAD:
        chacha = _ChaCha20Poly1305(plan, aad, encrypting=True)
        return _AuthenticatedEncryptor(plan, chacha.update, chacha.end)
    _refuse_aad(plan, aad)
    return _Encryptor(plan)


def _decryptor(plan: Plan, aad: bytes | None, tag: bytes | None) -> Stream:
    if plan.mode == B.GCM:
        gcm = _cipher(plan).decryptor()
        gcm.authenticate_additional_data(aad or b"")
        return _AuthenticatedDecryptor(plan, tag, gcm.update, gcm.finalize_with_tag)
    if plan.mode == B.AEAD:
        chacha = _ChaCha20Poly1305(plan, aad, encrypting=False)
        return _AuthenticatedDecryptor(plan, tag, chacha.update, chacha.verify)
    _refuse_aad(plan, aad)
    return _Decryptor(plan)


def _refuse_aad(plan: Plan, aad: bytes | None) -> None:
    if aad:
        raise bad(f"{plan.algorithm} in mode {plan.mode} does not authenticate additional data")


# ---------------------------------------------------------------------------------------------------------------------
# All data at once


class Whole(NamedTuple):
    """How a mode handles all data in one call."""

    encrypt: Callable[[Plan, bytes, bytes | None], Encrypted]
    decrypt: Callable[[Plan, bytes, bytes | None, bytes | None], bytes]
    #: The library's AEAD, for modes that have one with the tag at the end.
    build: Callable[[Plan], Any] | None = None


def _sealing(build: Callable[[Plan], Any]) -> Whole:
    """A mode that the library offers as an AEAD with the tag at the end."""

    def seal(plan: Plan, data: bytes, aad: bytes | None) -> Encrypted:
        out = build(plan).encrypt(plan.iv, data, aad)
        size = len(data)
        return Encrypted(out[:size], plan.fresh, out[size : size + plan.tag_length])

    def unseal(plan: Plan, data: bytes, aad: bytes | None, tag: bytes | None) -> bytes:
        if plan.tag_length != TAG and plan.mode != B.CCM:
            stream = _decryptor(plan, aad, tag)
            return stream.update(data) + stream.finalize()
        opened: bytes = build(plan).decrypt(plan.iv, data if tag is None else data + tag, aad)
        return opened

    return Whole(seal, unseal, build)


def _seal_siv(plan: Plan, data: bytes, aad: bytes | None) -> Encrypted:
    out = aead.AESSIV(plan.key).encrypt(data, _siv_components(plan, aad))
    return Encrypted(out[TAG:], plan.fresh, out[:TAG])


def _unseal_siv(plan: Plan, data: bytes, aad: bytes | None, tag: bytes | None) -> bytes:
    if tag is None:
        data, tag = data[:-TAG], data[-TAG:]
    return aead.AESSIV(plan.key).decrypt(tag + data, _siv_components(plan, aad))


def _siv_components(plan: Plan, aad: bytes | None) -> list[bytes] | None:
    """Additional data and, as the last component, the nonce (RFC 5297, 3). Beside a nonce there always is additional
    data, if only none of it (6); without one, data that is empty differs from data that is not there."""
    if plan.iv:
        return [aad or b"", plan.iv]
    return None if aad is None else [aad]


def _crypt_xts(plan: Plan, data: bytes, aad: bytes | None) -> Encrypted:
    _refuse_aad(plan, aad)
    return Encrypted(_xts(plan).encryptor().update(data), plan.fresh)


def _decrypt_xts(plan: Plan, data: bytes, aad: bytes | None, _tag: bytes | None) -> bytes:
    _refuse_aad(plan, aad)
    return _xts(plan).decryptor().update(data)


def _xts(plan: Plan) -> Cipher[Any]:
    return Cipher(AES(plan.key), modes.XTS(plan.iv))


def _wrap(plan: Plan, data: bytes, aad: bytes | None) -> Encrypted:
    """NIST key wrap: RFC 3394 where the data allows it, otherwise RFC 5649, as SP 800-38F names KW and KWP."""
    _refuse_aad(plan, aad)
    if plan.mode == B.NISTKEYWRAP and len(data) >= 16 and len(data) % 8 == 0:
        return Encrypted(keywrap.aes_key_wrap(plan.key, data))
    return Encrypted(keywrap.aes_key_wrap_with_padding(plan.key, data))


def _unwrap(plan: Plan, data: bytes, aad: bytes | None, _tag: bytes | None) -> bytes:
    """The two wraps have check values of their own, so that trying one after the other cannot confuse them."""
    _refuse_aad(plan, aad)
    if plan.mode == B.NISTKEYWRAP and len(data) >= 24:
        try:
            return keywrap.aes_key_unwrap(plan.key, data)
        except keywrap.InvalidUnwrap:
            pass
    return keywrap.aes_key_unwrap_with_padding(plan.key, data)


_WHOLE: dict[BlockCipherMode, Whole] = {
    B.GCM: _sealing(lambda plan: aead.AESGCM(plan.key)),
    B.AEAD: _sealing(lambda plan: aead.ChaCha20Poly1305(plan.key)),
    B.CCM: _sealing(lambda plan: aead.AESCCM(plan.key, tag_length=plan.tag_length)),
    GCM_SIV: _sealing(lambda plan: aead.AESGCMSIV(plan.key)),
    OCB: _sealing(lambda plan: aead.AESOCB3(plan.key)),
    SIV: Whole(_seal_siv, _unseal_siv),
    B.XTS: Whole(_crypt_xts, _decrypt_xts),
    B.NISTKEYWRAP: Whole(_wrap, _unwrap),
    B.AESKEYWRAPPADDING: Whole(_wrap, _unwrap),
}
_COLLECTED_MODES = frozenset(_WHOLE) - {B.GCM, B.AEAD}


def _encrypt_elsewhere(key: Remote, plan: Plan, data: bytes, aad: bytes | None) -> Encrypted:
    if plan.mode == B.GCM:
        out, size = key.encrypt(plan, data, aad), len(data)
        return Encrypted(out[:size], plan.fresh, out[size:])
    _refuse_aad(plan, aad)
    if plan.mode is not None and MODES[plan.mode].blocks:
        data += pad(plan.padding, len(data) % plan.row.block, plan.row.block)
    return Encrypted(key.encrypt(plan, data, None), plan.fresh)


def _decrypt_elsewhere(key: Remote, plan: Plan, data: bytes, aad: bytes | None, tag: bytes | None) -> bytes:
    if plan.mode == B.GCM:
        return key.decrypt(plan, data if tag is None else data + tag, aad)
    _refuse_aad(plan, aad)
    out, block = key.decrypt(plan, data, None), plan.row.block
    return out if plan.padding is None else out[:-block] + _unpad(plan.padding, out[-block:], block)


# ---------------------------------------------------------------------------------------------------------------------
# Under the keys of a pair


def rsa_padding(parameters: CryptographicParameters, policy: CryptoPolicy, *, encrypting: bool) -> AsymmetricPadding:
    """The padding of an RSA encryption; without a Padding Method it is OAEP (2.1, 4.16)."""
    method = parameters.padding_method or P.OAEP
    policy.check(padding=method, protect=encrypting)
    if method == P.PKCS1_V1_5:
        return PKCS1v15()
    if method != P.OAEP:
        raise unsupported(f"RSA does not encrypt with padding method {method}")
    if parameters.mask_generator not in (None, MaskGenerator.MGF1):
        raise unsupported(f"mask generator {parameters.mask_generator} is not supported")
    hashing = parameters.hashing_algorithm or (H.SHA_256 if parameters.padding_method is None else H.SHA_1)
    for one in (hashing, parameters.mask_generator_hashing_algorithm):
        policy.check(hashing=one, protect=encrypting)
    return oaep(hashing, parameters.mask_generator_hashing_algorithm, parameters.p_source)


def oaep(hashing: HashingAlgorithm, mask: HashingAlgorithm | None = None, label: bytes | None = None) -> OAEP:
    """OAEP; a mask generator without a hash of its own takes the hash of the padding.

    The text of 4.16 says SHA-1 there, but no client that names one hash means two (nor do the PSS cases of OASIS).
    """
    return OAEP(MGF1(algorithms.hash_of(mask or hashing)), algorithms.hash_of(hashing), label or None)


def _encrypt_for(
    algorithm: CryptographicAlgorithm,
    key: PublicKey,
    parameters: CryptographicParameters,
    data: bytes,
    policy: CryptoPolicy,
) -> Encrypted:
    if isinstance(key, rsa.RSAPublicKey):
        policy.check(algorithm, bits=key.key_size)
        method = rsa_padding(parameters, policy, encrypting=True)
        try:
            return Encrypted(key.encrypt(data, method))
        except UnsupportedAlgorithm as exc:
            raise unsupported("this combination of padding and hash is not supported") from exc
        except ValueError as exc:
            raise KMIPError(ResultReason.INVALID_FIELD, "the data is too long for this key and padding") from exc
    policy.check(algorithm)
    if isinstance(key, mlkem.MLKEM768PublicKey | mlkem.MLKEM1024PublicKey):
        if data:
            raise KMIPError(ResultReason.INVALID_FIELD, f"{algorithm} encapsulates a secret of its own, not given data")
        secret, encapsulation = encapsulate(key)
        return Encrypted(secret, encapsulation)
    if isinstance(key, ec.EllipticCurvePublicKey | x25519.X25519PublicKey | x448.X448PublicKey):
        return Encrypted(ecies_encrypt(key, data, parameters.hashing_algorithm or H.SHA_256, policy=policy))
    raise unsupported(f"a key of {algorithm} does not encrypt")


def _decrypt_with(
    algorithm: CryptographicAlgorithm,
    key: PrivateKey,
    parameters: CryptographicParameters,
    data: bytes,
    policy: CryptoPolicy,
) -> bytes:
    if isinstance(key, rsa.RSAPrivateKey):
        policy.check(algorithm, bits=key.key_size, protect=False)
        method = rsa_padding(parameters, policy, encrypting=False)
        try:
            return key.decrypt(data, method)
        except UnsupportedAlgorithm as exc:
            raise unsupported("this combination of padding and hash is not supported") from exc
        except ValueError as exc:
            raise failure("the data cannot be decrypted") from exc
    policy.check(algorithm, protect=False)
    if isinstance(key, mlkem.MLKEM768PrivateKey | mlkem.MLKEM1024PrivateKey):
        return decapsulate(key, data)
    if isinstance(key, ec.EllipticCurvePrivateKey | x25519.X25519PrivateKey | x448.X448PrivateKey):
        return ecies_decrypt(key, data, parameters.hashing_algorithm or H.SHA_256, policy=policy)
    raise unsupported(f"a key of {algorithm} does not decrypt")


def encapsulate(key: mlkem.MLKEM768PublicKey | mlkem.MLKEM1024PublicKey) -> tuple[bytes, bytes]:
    """A new shared secret and its encapsulation (FIPS 203, 7.2)."""
    return key.encapsulate()


def decapsulate(key: mlkem.MLKEM768PrivateKey | mlkem.MLKEM1024PrivateKey, encapsulation: bytes) -> bytes:
    """The shared secret in an encapsulation (FIPS 203, 7.3); a forged one gives an unrelated secret, by design."""
    try:
        return key.decapsulate(encapsulation)
    except ValueError as exc:
        raise failure("the data cannot be decrypted") from exc


_AgreementPublic = ec.EllipticCurvePublicKey | x25519.X25519PublicKey | x448.X448PublicKey
_AgreementPrivate = ec.EllipticCurvePrivateKey | x25519.X25519PrivateKey | x448.X448PrivateKey


def ecies_encrypt(
    key: _AgreementPublic, data: bytes, hashing: HashingAlgorithm = H.SHA_256, *, policy: CryptoPolicy = DEFAULT
) -> bytes:
    """ECIES (SEC 1, 5.1) with the ANSI X9.63 KDF and AES-256-GCM: ephemeral public key, ciphertext, tag.

    The KDF takes the ephemeral public key as shared information and gives key (32 bytes) and IV (12 bytes); each key
    pair is used once, so the IV never repeats.
    """
    policy.check(A.AES, mode=B.GCM, curve=_curve(key), hashing=hashing)
    if isinstance(key, ec.EllipticCurvePublicKey):
        ephemeral: _AgreementPrivate = ec.generate_private_key(key.curve)
    elif isinstance(key, x25519.X25519PublicKey):
        ephemeral = x25519.X25519PrivateKey.generate()
    else:
        ephemeral = x448.X448PrivateKey.generate()
    share = _share(ephemeral.public_key())
    secret = agree(ephemeral, key)
    derived = _x963(secret, share, hashing)
    return share + aead.AESGCM(derived[:32]).encrypt(derived[32:], data, None)


def ecies_decrypt(
    key: _AgreementPrivate, data: bytes, hashing: HashingAlgorithm = H.SHA_256, *, policy: CryptoPolicy = DEFAULT
) -> bytes:
    """Open what `ecies_encrypt` made."""
    policy.check(A.AES, mode=B.GCM, curve=_curve(key.public_key()), hashing=hashing, protect=False)
    size = len(_share(key.public_key()))
    share = data[:size]
    try:
        derived = _x963(agree(key, _read_share(key, share)), share, hashing)
        return aead.AESGCM(derived[:32]).decrypt(derived[32:], data[size:], None)
    except (ValueError, InvalidTag, KMIPError) as exc:
        raise failure("the data cannot be decrypted") from exc


def _curve(key: _AgreementPublic) -> RecommendedCurve | None:
    if isinstance(key, ec.EllipticCurvePublicKey):
        return CURVE_BY_NAME.get(key.curve.name)
    return algorithms.C.CURVE25519 if isinstance(key, x25519.X25519PublicKey) else algorithms.C.CURVE448


def agree(private: PrivateKey, public: PublicKey) -> bytes:
    """The shared secret of two keys of one kind: ECDH, X25519, X448."""
    try:
        if isinstance(private, ec.EllipticCurvePrivateKey) and isinstance(public, ec.EllipticCurvePublicKey):
            return private.exchange(ec.ECDH(), public)
        if isinstance(private, x25519.X25519PrivateKey) and isinstance(public, x25519.X25519PublicKey):
            return private.exchange(public)
        if isinstance(private, x448.X448PrivateKey) and isinstance(public, x448.X448PublicKey):
            return private.exchange(public)
        if isinstance(private, algorithms.DHPrivateKey) and isinstance(public, algorithms.DHPublicKey):
            return private.exchange(public)
    except ValueError as exc:
        raise failure("the two keys do not agree on a secret") from exc
    raise bad("key agreement needs a private and a public key of one kind and curve")


def _share(key: _AgreementPublic) -> bytes:
    if isinstance(key, ec.EllipticCurvePublicKey):
        return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return key.public_bytes_raw()


def _read_share(key: _AgreementPrivate, share: bytes) -> _AgreementPublic:
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return ec.EllipticCurvePublicKey.from_encoded_point(key.curve, share)
    if isinstance(key, x25519.X25519PrivateKey):
        return x25519.X25519PublicKey.from_public_bytes(share)
    return x448.X448PublicKey.from_public_bytes(share)


def _x963(secret: bytes, share: bytes, hashing: HashingAlgorithm) -> bytes:
    return X963KDF(algorithm=algorithms.hash_of(hashing), length=44, sharedinfo=share).derive(secret)


def rsa_aes_wrap(
    key: rsa.RSAPublicKey, data: bytes, hashing: HashingAlgorithm = H.SHA_256, *, policy: CryptoPolicy = DEFAULT
) -> bytes:
    """RSA-AES key wrap (PKCS#11 CKM_RSA_AES_KEY_WRAP): an AES-256 key under OAEP, then the data under RFC 5649."""
    policy.check(A.RSA, bits=key.key_size, padding=P.OAEP, hashing=hashing)
    policy.check(A.AES, mode=B.AESKEYWRAPPADDING)
    once = os.urandom(32)
    return key.encrypt(once, oaep(hashing)) + keywrap.aes_key_wrap_with_padding(once, data)


def rsa_aes_unwrap(
    key: rsa.RSAPrivateKey, data: bytes, hashing: HashingAlgorithm = H.SHA_256, *, policy: CryptoPolicy = DEFAULT
) -> bytes:
    """Open what `rsa_aes_wrap` made."""
    policy.check(A.RSA, bits=key.key_size, padding=P.OAEP, hashing=hashing, protect=False)
    policy.check(A.AES, mode=B.AESKEYWRAPPADDING, protect=False)
    size = (key.key_size + 7) // 8
    try:
        return keywrap.aes_key_unwrap_with_padding(key.decrypt(data[:size], oaep(hashing)), data[size:])
    except (ValueError, keywrap.InvalidUnwrap) as exc:
        raise failure("the data cannot be decrypted") from exc
