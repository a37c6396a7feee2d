"""How many operations each minute had, and how many failed: what the console draws.

Each process counts the records that it writes, and a thread adds the counts to the database every `FLUSH` seconds; what
a killed process had not added yet is missing from the drawing, never from the audit.
"""

import atexit
import logging
import os
import threading
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, NamedTuple

from django.db import DatabaseError, connections, transaction
from django.db.models import F, Sum

from keystore.models import Activity

if TYPE_CHECKING:
    from keystore.audit import Entry

log = logging.getLogger(__name__)

FLUSH: Final = 5.0
MINUTE: Final = 60_000_000  # microseconds
#: Minutes for which counts are kept: a month and a day.
KEPT: Final = 31 * 1440
#: Minutes of counts that wait at most for a database that does not take them.
MAX_WAITING: Final = 1000


class Bucket(NamedTuple):
    """The operations from one minute (since 1970) on, for as long as the series has it, and how many failed."""

    minute: int
    operations: int
    failures: int


class Counter:
    """Counts in this process, and adds them to the database."""

    def __init__(self, *, threaded: bool = True) -> None:
        self._threaded = threaded
        self._pruned = 0
        self.start()

    def start(self) -> None:
        """Begin with nothing, as a forked process does: its parent adds its own counts, with its own thread."""
        self._counts: dict[tuple[str, int], list[int]] = {}
        self._lock = threading.Lock()
        #: Held while the database is written to.
        self._writing = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    def pause(self) -> None:
        """Let the thread write nothing until `go_on`: a process forked meanwhile would find SQLite's own locks taken by
        a thread that it has not, and wait for ever."""
        self._writing.acquire()

    def go_on(self) -> None:
        """Write again."""
        self._writing.release()

    def add(self, entries: "Iterable[Entry]") -> None:
        """Count records."""
        with self._lock:
            for entry in entries:
                key = (entry.namespace, entry.time // MINUTE)
                count = self._counts.get(key)
                if count is None:
                    if len(self._counts) >= MAX_WAITING:
                        continue
                    count = self._counts[key] = [0, 0]
                count[0] += 1
                if entry.result != "Success":
                    count[1] += 1
            if self._thread is None and self._threaded:
                self._thread = threading.Thread(target=self._run, name="activity", daemon=True)
                self._thread.start()

    def flush(self) -> None:
        """Add the counts to the database's, and drop those that are too old; raises `DatabaseError`."""
        with self._writing:
            self._write()

    def _write(self) -> None:
        with self._lock:
            counts, self._counts = self._counts, {}
        if not counts:
            return
        keys = sorted(counts)  # In one order, so that processes do not wait for one another in a circle.
        with transaction.atomic():
            Activity.objects.bulk_create(
                [Activity(namespace=namespace, minute=minute) for namespace, minute in keys], ignore_conflicts=True
            )
            for key in keys:
                operations, failures = counts[key]
                Activity.objects.filter(namespace=key[0], minute=key[1]).update(
                    operations=F("operations") + operations, failures=F("failures") + failures
                )
            now = time.time_ns() // 1000 // MINUTE
            if now >= self._pruned + 60:
                self._pruned = now
                Activity.objects.filter(minute__lt=now - KEPT).delete()

    def stop(self) -> None:
        """Add what is left, and end the thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(5)

    def _run(self) -> None:
        stopping = False
        while not stopping:
            stopping = self._stop.wait(FLUSH)
            try:
                self.flush()
            except DatabaseError as exc:
                log.warning("operations of the last seconds are not counted: %s", exc)
                with self._writing:
                    connections.close_all()
        connections.close_all()


counter = Counter()
atexit.register(counter.stop)
os.register_at_fork(
    before=lambda: counter.pause(), after_in_parent=lambda: counter.go_on(), after_in_child=lambda: counter.start()
)


def series(namespace: str, *, since: int, step: int) -> list[Bucket]:
    """The operations of a namespace from a minute (since 1970) on, in buckets of `step` minutes; empty ones are left
    out."""
    rows = (
        Activity.objects.filter(namespace=namespace, minute__gte=since)
        .annotate(bucket=F("minute") - F("minute") % step)
        .values_list("bucket")
        .annotate(operations=Sum("operations"), failures=Sum("failures"))
        .order_by("bucket")
    )
    return [Bucket(*row) for row in rows]
