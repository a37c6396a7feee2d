"""What was asked, by whom, and how it ended.

A change and its record share a transaction: no record, no change. Records of what changes nothing are written in groups
by one thread of the process, at the latest after `FLUSH_SECONDS` or `FLUSH_ROWS`.
"""

import atexit
import logging
import threading
import time
from collections.abc import Iterable
from typing import Final, NamedTuple

from django.db import close_old_connections, connections, transaction
from django.db.models import QuerySet

from keystore import activity, compiled
from keystore.authn import Identity, Peer
from keystore.models import AuditRecord

FLUSH_SECONDS: Final = 0.1
FLUSH_ROWS: Final = 1000

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
    namespace: str


_INSERT = compiled.insert(AuditRecord, Entry._fields)


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
) -> Entry:
    """A record of something that began `since` (nanoseconds of `time.time_ns`)."""
    now = time.time_ns()
    return Entry(
        now // 1000,
        identity.username if identity else "",
        identity.method if identity else "",
        identity.fingerprint if identity else "",
        peer.address,
        peer.transport,
        protocol,
        operation,
        uid,
        result,
        reason,
        min((now - since) // 1000, 2**31 - 1),
        identity.namespace if identity else "",
    )


def write(entries: Iterable[Entry]) -> None:
    """Write records in the caller's transaction."""
    rows = list(entries)
    _INSERT.run_many(rows)
    activity.counter.add(rows)


class Writer:
    """Writes the records of reads in groups."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None
        self._stopping = False

    def add(self, entries: list[Entry]) -> None:
        """Queue records; they are written within `FLUSH_SECONDS`."""
        with self._wake:
            self._entries += entries
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
                self._thread.start()
            if len(self._entries) >= FLUSH_ROWS:
                self._wake.notify()

    def flush(self) -> None:
        """Write what is queued now, in the calling thread."""
        with self._wake:
            entries, self._entries = self._entries, []
        if entries:
            try:
                with transaction.atomic():
                    write(entries)
            except Exception:
                # They wait for the next attempt, in their order.
                with self._wake:
                    self._entries[:0] = entries
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
            except Exception:
                logger.exception("audit records could not be written")
            if stopping:
                connections.close_all()
                return


writer = Writer()
atexit.register(writer.stop)


def trail(uid: str, limit: int) -> list[AuditRecord]:
    """The last records of an object, newest first."""
    return records(AuditRecord.objects.filter(object=uid), limit)


def records(chosen: "QuerySet[AuditRecord]", limit: int) -> list[AuditRecord]:
    """The newest of some records."""
    return list(chosen.order_by("-id")[:limit])
