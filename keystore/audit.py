"""What was asked, by whom, and how it ended.

A change and its record share a transaction: no record, no change. Records of what changes nothing are written in groups
by one thread of the process, at the latest after `FLUSH_SECONDS` or `FLUSH_ROWS`; what that thread has not written yet
is lost when the process is killed. While it cannot write, nothing is read.

Every record carries a MAC under a key that follows from the root key, so that nobody else can write or change one;
`chain` binds records to one another.
"""

import atexit
import contextlib
import hmac
import logging
import os
import secrets
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, lru_cache
from hashlib import sha256
from itertools import count
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson
from django.db import close_old_connections, connections, transaction

from keystore import activity, compiled, conf, metrics, sealing, tracing
from keystore.authn import Identity, Peer
from keystore.grouping import groups
from keystore.models import AuditRecord
from kmip.enums import ResultReason
from kmip.errors import KMIPError

if TYPE_CHECKING:
    from django.db.models import QuerySet

FLUSH_SECONDS: Final = 0.1
FLUSH_ROWS: Final = 1000
#: So many records wait at most for a database that does not take them.
MAX_WAITING: Final = 100_000
MAC_LENGTH: Final = 16

logger = logging.getLogger(__name__)


class Entry(NamedTuple):
    """One record to be."""

    time: int
    user: str
    method: str
    fingerprint: str
    address: str
    transport: str
    protocol: str
    operation: str
    object: str
    result: str
    reason: str
    latency: int
    namespace: str = "default"
    detail: str = ""


#: The columns that a record's MAC is over, in their order.
CONTENT: Final = (*Entry._fields, "nonce")
_INSERT = compiled.insert(AuditRecord, (*CONTENT, "mac"))


def entry(
    identity: Identity | None,
    peer: Peer,
    *,
    protocol: str,
    operation: str,
    uid: str,
    result: str,
    reason: str,
    since: int,
    detail: str = "",
) -> Entry:
    """A record of something that began `since` (nanoseconds of `time.time_ns`)."""
    now = time.time_ns()
    if identity is not None:
        user, method, fingerprint, namespace = (
            identity.username, identity.method, identity.fingerprint, identity.namespace
        )  # fmt: skip
    else:
        user, method, namespace = "", "", "default"
        fingerprint = sha256(peer.certificate).hexdigest() if peer.certificate is not None else ""
    return Entry(
        now // 1000,
        user,
        method,
        fingerprint,
        peer.address[:64],
        peer.transport,
        protocol,
        operation,
        uid[:64],
        result,
        reason,
        # The clock may be set back meanwhile.
        max(0, min((now - since) // 1000, 2**31 - 1)),
        namespace,
        detail,
    )


def note(
    identity: Identity | None, peer: Peer, operation: str, *, uid: str = "", detail: str = "", reason: str = ""
) -> None:
    """Write a record of a login, or of a change of rights or configuration, in the caller's transaction; one with a
    `reason` is of a failure."""
    result = "Failure" if reason else "Success"
    printable = "".join(c if c.isprintable() else "?" for c in detail)[:255]
    write(
        [
            entry(
                identity,
                peer,
                protocol="",
                operation=operation,
                uid=uid,
                result=result,
                reason=reason,
                since=time.time_ns(),
                detail=printable,
            )
        ]
    )


@contextlib.contextmanager
def refusals(
    identity: Identity | None, peer: Peer, operation: str, *, uid: str = "", detail: str = ""
) -> Iterator[None]:
    """A login or change that writes its own record where it succeeds; a `KMIPError` leaves one of the failure."""
    try:
        yield
    except KMIPError as exc:
        note(identity, peer, operation, uid=uid, detail=detail, reason=str(exc.reason))
        raise


@contextlib.contextmanager
def recorded(identity: Identity, peer: Peer, operation: str, *, uid: str = "", detail: str = "") -> Iterator[None]:
    """A change of rights or configuration, in one transaction with its record; a `KMIPError` undoes it, and a record
    of the failure stays."""
    with refusals(identity, peer, operation, uid=uid, detail=detail), transaction.atomic():
        yield
        note(identity, peer, operation, uid=uid, detail=detail)


# Writing.


class _Nonces:
    """Numbers that no record had before: a random one of the process, and how many it has written."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Begin anew, as a forked process has to."""
        self._numbers = count(secrets.randbits(30) << 32)

    def next(self) -> int:
        """The next number."""
        return next(self._numbers)


_nonces = _Nonces()
os.register_at_fork(after_in_child=_nonces.start)


@cache
def _key_of(sealer: sealing.Sealer) -> bytes:
    return sealer.derive("audit")


def key() -> bytes:
    """The key of the MACs; raises `SealingError`."""
    return _key_of(sealing.sealer())


def mac(content: Sequence[Any], secret: bytes) -> bytes:
    """The MAC of a record's content, in the order of `CONTENT`."""
    made = _keyed(secret).copy()
    made.update(orjson.dumps(content))
    return made.digest()[:MAC_LENGTH]


@lru_cache(maxsize=2)
def _keyed(secret: bytes) -> hmac.HMAC:
    """HMAC with its key taken in, which takes longer than a record."""
    return hmac.new(secret, digestmod="sha256")


def write(entries: Iterable[Entry]) -> None:
    """Write records in the caller's transaction."""
    secret = key()
    entries = list(entries)
    rows = []
    for one in entries:
        content = (*one, _nonces.next())
        rows.append((*content, mac(content, secret)))
    if rows:
        _INSERT.run_many(rows)
        activity.counter.add(entries)
        metrics.observe(entries)
        tracing.observe(entries)


# Looked up anew, as tests replace it.
groups.record = lambda entries: write(entries)


class Writer:
    """Writes the records of reads in groups."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None
        self._stopping = False
        #: Whether the last attempt to write failed.
        self.failing = False

    def check(self) -> None:
        """Raise `KMIPError` while records cannot be written: what is not recorded must not happen."""
        waiting = self.failing or len(self._entries) >= MAX_WAITING
        if waiting and conf.current().audit.mode == "batched":
            raise KMIPError(ResultReason.GENERAL_FAILURE, "the server cannot record what it does")

    def add(self, entries: list[Entry]) -> None:
        """Take records: written within `FLUSH_SECONDS`, or before this returns where the settings say so."""
        if not entries:
            return
        if conf.current().audit.mode == "immediate":
            with transaction.atomic():
                write(entries)
            return
        with self._wake:
            if len(self._entries) < MAX_WAITING:
                self._entries += entries
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
                self._thread.start()
            if len(self._entries) >= FLUSH_ROWS:
                self._wake.notify()

    @property
    def waiting(self) -> int:
        """Records that are not yet written."""
        return len(self._entries)

    @property
    def lag(self) -> float:
        """Seconds since the oldest of them was made."""
        entries = self._entries
        return max(0.0, time.time() - entries[0].time / 1_000_000) if entries else 0.0

    def flush(self) -> None:
        """Write what is queued now, in the calling thread; what cannot be written stays queued."""
        with self._wake:
            entries, self._entries = self._entries, []
        if not entries:
            return
        try:
            with transaction.atomic():
                write(entries)
        except BaseException:
            with self._wake:
                self._entries = entries + self._entries
            raise

    def stop(self) -> None:
        """Write what is queued and end the thread."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join(5)

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait(FLUSH_SECONDS)
                stopping = self._stopping
            try:
                close_old_connections()
                self.flush()
                self.failing = False
            except Exception:
                if not self.failing:
                    logger.exception("audit records could not be written")
                self.failing = True
            if stopping:
                connections.close_all()
                return


writer = Writer()
atexit.register(writer.stop)


# Reading.


def trail(uid: str, limit: int) -> "list[AuditRecord]":
    """The last records of an object, newest first."""
    return records(AuditRecord.objects.filter(object=uid), limit)


def records(chosen: "QuerySet[AuditRecord]", limit: int) -> "list[AuditRecord]":
    """The newest of some records."""
    return list(chosen.order_by("-id")[:limit])
