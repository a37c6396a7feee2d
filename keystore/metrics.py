"""What Prometheus reads: counts and times that every process of a node keeps in files which they share.

`start` is called before the processes are forked; before it, or in a command, nothing is counted. `exposition` is what
is read.
"""

import atexit
import os
import shutil
import tempfile
from bisect import bisect_left
from collections import Counter as Counted
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, values
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

if TYPE_CHECKING:
    from keystore.audit import Entry

#: Seconds; a small request takes a tenth of a millisecond, making an RSA key a second.
BUCKETS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_DIRECTORY: Final = "PROMETHEUS_MULTIPROC_DIR"


class Metrics:
    """The metrics of a process. Labels have few values: nothing that a client may choose is among them."""

    def __init__(self) -> None:
        own = CollectorRegistry(auto_describe=False)
        self.requests = Histogram(
            "kms_operation_seconds",
            "Operations by how they ended, and how long they took.",
            ("operation", "transport", "result"),
            buckets=BUCKETS,
            registry=own,
        )
        self.handshakes = Counter(
            "kms_handshakes", "TLS handshakes by how they ended.", ("listener", "result"), registry=own
        )
        self.connections = Gauge(
            "kms_connections", "Open connections of clients.", ("listener",), registry=own, multiprocess_mode="livesum"
        )
        self.pool = Gauge(
            "kms_database_connections",
            "Database connections of a listener by whether a request has them.",
            ("listener", "state"),
            registry=own,
            multiprocess_mode="livesum",
        )
        self.replica = Counter(
            "kms_replica_reads",
            "Searches, where there is a replica of the database, by who answered: it is not always new enough.",
            ("answered_by",),
            registry=own,
        )
        self.rows = Counter("kms_row_cache", "Looks for an object's row in memory.", ("result",), registry=own)
        self.audit = Gauge(
            "kms_audit_waiting", "Audit records that are not yet written.", registry=own, multiprocess_mode="livesum"
        )
        self.audit_lag = Gauge(
            "kms_audit_lag_seconds",
            "Seconds that the oldest audit record has waited to be written.",
            registry=own,
            multiprocess_mode="livemax",
        )
        self.audit_failing = Gauge(
            "kms_audit_failing", "Processes that cannot write audit records.", registry=own, multiprocess_mode="livesum"
        )
        #: What of the row cache's counts has been added.
        self.published: dict[str, int] = {}
        self._timers: dict[tuple[str, str, str], Any] = {}

    def timer(self, operation: str, transport: str, result: str) -> Any:
        """The histogram of a kind of operations."""
        key = (operation, transport, result)
        timer = self._timers.get(key)
        if timer is None:
            timer = self._timers[key] = self.requests.labels(*key)
        return timer


_metrics: Metrics | None = None


def start() -> None:
    """Count from now on, in this process and in those forked from it."""
    global _metrics
    if _metrics is not None:
        return
    folder, mine = tempfile.mkdtemp(prefix="kms-metrics-"), os.getpid()
    os.environ[_DIRECTORY] = folder
    values.ValueClass = values.MultiProcessValue()  # type: ignore[no-untyped-call] # as the library does
    _metrics = Metrics()

    def remove() -> None:
        if os.getpid() == mine:
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)


def ended(pid: int) -> None:
    """Forget the gauges of a process that is no more."""
    if _metrics is not None:
        mark_process_dead(pid)  # type: ignore[no-untyped-call] # the library's


def observe(entries: "Iterable[Entry]") -> None:
    """Count what audit records are about."""
    if _metrics is None:
        return
    seen: dict[tuple[str, str, str], list[int]] = {}
    for entry in entries:
        seen.setdefault((entry.operation, entry.transport, entry.reason or entry.result), []).append(entry.latency)
    for (operation, transport, result), latencies in seen.items():
        # A client may make numbers of operations up.
        name = "unknown" if operation.startswith("0x") else operation
        _observe(_metrics.timer(name, transport, result), latencies)


def _observe(timer: Any, latencies: list[int]) -> None:
    """Add latencies, in microseconds, to a histogram: what its `observe` would do with each, but once for all, as each
    of its numbers is in a file."""
    counts = Counted(bisect_left(BUCKETS, latency / 1_000_000) for latency in latencies)
    timer._sum.inc(sum(latencies) / 1_000_000)
    for bucket, count in counts.items():
        timer._buckets[bucket].inc(count)


def handshake(listener: str, result: str) -> None:
    """Count a handshake; its result is one of a few words."""
    if _metrics is not None:
        _metrics.handshakes.labels(listener, result).inc()


def replica_read(by: str) -> None:
    """Count a search that the replica answered, or that the primary had to."""
    if _metrics is not None:
        _metrics.replica.labels(by).inc()


class Now(NamedTuple):
    """How a listener's process is at a moment."""

    connections: int
    #: Database connections that requests have, and that none has.
    lent: int
    free: int
    #: Audit records that are not yet written, for how many seconds the oldest, and whether the last attempt failed.
    waiting: int
    lag: float
    failing: bool
    #: Looks for an object's row in memory since the process began.
    hits: int
    misses: int


def publish(listener: str, now: Now) -> None:
    """Say how this process is; it does so every second."""
    if _metrics is None:
        return
    _metrics.connections.labels(listener).set(now.connections)
    _metrics.pool.labels(listener, "lent").set(now.lent)
    _metrics.pool.labels(listener, "free").set(now.free)
    _metrics.audit.set(now.waiting)
    _metrics.audit_lag.set(now.lag)
    _metrics.audit_failing.set(now.failing)
    for result, looks in (("hit", now.hits), ("miss", now.misses)):
        published = _metrics.published.get(result, 0)
        _metrics.rows.labels(result).inc(looks - published)
        _metrics.published[result] = looks


def collect(registry: CollectorRegistry) -> None:
    """Have a registry give out what all processes of this node have counted."""
    if _metrics is not None:
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call] # the library's
