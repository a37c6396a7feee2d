"""Cryptography in parts: what is begun with an Init Indicator and goes on under a Correlation Value (2.1, 6.1 and 7.8).

The state of a stream, which nothing can write down, lives in a keeper. That of a server is a process of its own
(`keeper`), which all listeners and workers reach; where there is none, streams are refused. A stream belongs to its
client, its operation and its key, and ends by itself when nothing is heard of it for a while.
"""

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from keystore.crypto import ciphers, signing
from keystore.crypto.algorithms import PrivateKey, PublicKey
from keystore.crypto.ciphers import Secret
from keystore.crypto.policy import CryptoPolicy
from kmip.enums import CryptographicAlgorithm, Operation, ResultReason, ValidityIndicator
from kmip.errors import KMIPError
from kmip.structures import CryptographicParameters

Key = Secret | PrivateKey | PublicKey
#: Streams of one client at a time; of its keys, nothing else limits them.
MOST_OF_A_CLIENT: Final = 64
#: Bytes that all streams together collect whose algorithm needs the data whole.
MOST_COLLECTED: Final = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Task:
    """What a stream does."""

    operation: Operation
    policy: CryptoPolicy
    key: Key | None = field(default=None, repr=False)
    algorithm: CryptographicAlgorithm | None = None
    parameters: CryptographicParameters | None = None
    iv: bytes | None = None
    aad: bytes | None = None
    tag: bytes | None = None
    #: The signature or MAC to verify, if it comes with the first part.
    expected: bytes | None = None


@dataclass(slots=True)
class Output:
    """What a part gives: the correlation value unless it was the last, and what there is of the rest by then."""

    correlation: bytes | None = None
    data: bytes | None = None
    iv: bytes | None = None
    tag: bytes | None = None
    validity: ValidityIndicator | None = None


class Keeper(Protocol):
    """Holds the state of streams. All methods raise `KMIPError`, Invalid Correlation Value for a stream that there is
    not, or not for this client, operation and key."""

    def begin(self, client: str, uid: str, task: Task, data: bytes) -> Output:
        """Begin a stream with its first part."""

    def go_on(
        self,
        client: str,
        uid: str,
        operation: Operation,
        correlation: bytes,
        data: bytes,
        *,
        last: bool,
        expected: bytes | None = None,
    ) -> Output:
        """Take the next part, or the last; `expected` is the signature or MAC to verify, if it comes now."""

    def key_of(self, client: str, correlation: bytes) -> str:
        """The identifier of the key that a stream uses."""


class _Work:
    """One task in progress."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.context: Any = _BEGIN[task.operation](task)
        self.expected = task.expected

    @property
    def iv(self) -> bytes | None:
        """The IV that was drawn here."""
        return getattr(self.context, "iv", None)

    @property
    def collects(self) -> bool:
        """Whether the data is held until the end."""
        return getattr(self.context, "collects", False)

    def update(self, data: bytes) -> Output:
        """Take a part."""
        return Output(data=self.context.update(data) or None)

    def end(self, data: bytes) -> Output:
        """Take the last part."""
        first = self.update(data).data or b""
        return _END[self.task.operation](self, first)


def _cipher(begin: Callable[..., Any]) -> Callable[[Task], Any]:
    def start(task: Task) -> Any:
        options = {"tag": task.tag} if task.operation == Operation.DECRYPT else {}
        return begin(task.algorithm, task.key, task.parameters, iv=task.iv, aad=task.aad, policy=task.policy, **options)

    return start


def _mac(*, protect: bool) -> Callable[[Task], Any]:
    return lambda task: signing.authenticator(
        task.algorithm, _secret(task.key), task.parameters, policy=task.policy, protect=protect
    )


def _secret(key: Key | None) -> Secret:
    assert isinstance(key, Secret)
    return key


def _key(key: Key | None) -> Any:
    assert isinstance(key, PrivateKey | PublicKey)
    return key


_BEGIN: Final[dict[Operation, Callable[[Task], Any]]] = {
    Operation.ENCRYPT: _cipher(ciphers.encryptor),
    Operation.DECRYPT: _cipher(ciphers.decryptor),
    Operation.SIGN: lambda task: signing.signer(_key(task.key), task.parameters, policy=task.policy),
    Operation.SIGNATURE_VERIFY: lambda task: signing.verifier(_key(task.key), task.parameters, policy=task.policy),
    Operation.MAC: _mac(protect=True),
    Operation.MAC_VERIFY: _mac(protect=False),
    Operation.HASH: lambda task: signing.hasher(task.parameters, policy=task.policy),
}


def _end_cipher(work: _Work, first: bytes) -> Output:
    rest = work.context.finalize()
    return Output(data=first + rest or None, iv=work.iv, tag=work.context.tag)


def _end_digest(work: _Work, _first: bytes) -> Output:
    return Output(data=work.context.finalize())


def _expected(work: _Work) -> bytes:
    if work.expected is None:
        raise KMIPError(ResultReason.MISSING_DATA, "what is to be verified has come with no part")
    return work.expected


_END: Final[dict[Operation, Callable[[_Work, bytes], Output]]] = {
    Operation.ENCRYPT: _end_cipher,
    Operation.DECRYPT: _end_cipher,
    Operation.SIGN: _end_digest,
    Operation.MAC: _end_digest,
    Operation.HASH: _end_digest,
    Operation.SIGNATURE_VERIFY: lambda work, _: Output(validity=work.context.finalize(_expected(work))),
    Operation.MAC_VERIFY: lambda work, _: Output(validity=signing.same_code(work.context, _expected(work))),
}


@dataclass(slots=True)
class _Stream:
    """A stream, whose it is, and when it was last heard of."""

    client: str
    uid: str
    work: _Work
    heard: float
    collected: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class Streams:
    """The streams of one process."""

    def __init__(self, limit: int, timeout: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._timeout = timeout
        self._clock = clock
        self._lock = threading.Lock()
        self._streams: dict[bytes, _Stream] = {}
        self._collected = 0

    def __len__(self) -> int:
        return len(self._streams)

    def begin(self, client: str, uid: str, task: Task, data: bytes) -> Output:
        """Begin a stream with its first part."""
        stream = _Stream(client, uid, _Work(task), self._clock())
        correlation = os.urandom(16)
        self.forget()
        with self._lock:
            mine = sum(one.client == client for one in self._streams.values())
            if mine >= MOST_OF_A_CLIENT or len(self._streams) >= self._limit:
                raise KMIPError(ResultReason.SERVER_LIMIT_EXCEEDED, "too many streams are open: end some")
            self._streams[correlation] = stream
        with stream.lock:
            out = self._carry_on(correlation, stream, data, last=False)
        out.iv = stream.work.iv
        return out

    def go_on(
        self,
        client: str,
        uid: str,
        operation: Operation,
        correlation: bytes,
        data: bytes,
        *,
        last: bool,
        expected: bytes | None = None,
    ) -> Output:
        """Take the next part, or the last."""
        stream = self._found(client, correlation)
        if stream.uid != uid or stream.work.task.operation != operation:
            raise _unknown()
        with stream.lock:
            if correlation not in self._streams:
                raise _unknown()
            if expected is not None:
                stream.work.expected = expected
            return self._carry_on(correlation, stream, data, last=last)

    def _carry_on(self, correlation: bytes, stream: _Stream, data: bytes, *, last: bool) -> Output:
        """Take a part; what fails once is at its end."""
        try:
            if stream.work.collects:
                self._collect(correlation, stream, len(data))
            out = stream.work.end(data) if last else stream.work.update(data)
        except BaseException:
            self._end(correlation)
            raise
        if last:
            self._end(correlation)
            return out
        stream.heard = self._clock()
        out.correlation = correlation
        return out

    def _collect(self, correlation: bytes, stream: _Stream, size: int) -> None:
        with self._lock:
            if correlation not in self._streams:
                # It has expired just now, and nobody would give back what is counted for it.
                raise _unknown()
            if self._collected + size > MOST_COLLECTED:
                raise KMIPError(
                    ResultReason.SERVER_LIMIT_EXCEEDED, "the streams that need their data whole hold too much"
                )
            stream.collected += size
            self._collected += size

    def key_of(self, client: str, correlation: bytes) -> str:
        """The identifier of the key that a stream uses."""
        return self._found(client, correlation).uid

    def _found(self, client: str, correlation: bytes) -> _Stream:
        stream = self._streams.get(correlation)
        if stream is None or stream.client != client or self._is_over(stream):
            raise _unknown()
        return stream

    def _is_over(self, stream: _Stream) -> bool:
        return self._clock() - stream.heard > self._timeout

    def _end(self, correlation: bytes) -> None:
        with self._lock:
            stream = self._streams.pop(correlation, None)
            if stream is not None:
                self._collected -= stream.collected

    def forget(self) -> None:
        """End the streams of which nothing was heard for too long."""
        for correlation, stream in list(self._streams.items()):
            if self._is_over(stream):
                self._end(correlation)


def _unknown() -> KMIPError:
    return KMIPError(
        ResultReason.INVALID_CORRELATION_VALUE,
        "no stream of this client, operation and key has this Correlation Value, or it has expired",
    )


_keeper: Keeper | None = None


def use(keeper: Keeper | None) -> None:
    """Have this process keep its streams there."""
    global _keeper
    _keeper = keeper


def available() -> bool:
    """Whether this process can take data in parts."""
    return _keeper is not None


def keeper() -> Keeper:
    """Where this process keeps its streams; raises `KMIPError` where it has none."""
    if _keeper is None:
        raise KMIPError(
            ResultReason.FEATURE_NOT_SUPPORTED, "data is taken in one part only: there is no process that keeps streams"
        )
    return _keeper
