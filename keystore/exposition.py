"""What Prometheus reads at `/metrics`: what the processes of this node have counted, and what the database knows."""

import threading
import time
from collections.abc import Iterator
from typing import Final

from django.db.models import Count
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from keystore import audit, clock, metrics, store
from keystore.models import AuditCheckpoint, AuditRecord, DeferredRequest, Job, ManagedObject
from keystore.pool import Pool
from kmip.enums import State

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
#: Seconds for which counts of objects are believed: counting a million takes a while.
KEPT: Final = 30.0


class _Database(Collector):
    """What the database knows, which is the same for every node."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counted = -KEPT
        self._objects: dict[int, int] = {}

    def collect(self) -> Iterator[Metric]:
        """Ask it."""
        objects = GaugeMetricFamily("kms_objects", "Managed objects by state.", labels=["state"])
        for state, count in self._states().items():
            objects.add_metric([State.of(state).spelling if state is not None else "none"], count)
        yield objects
        now = clock.now()
        runs = CounterMetricFamily("kms_job_runs", "Runs of recurring jobs.", labels=["job"])
        failures = CounterMetricFamily("kms_job_failures", "Runs of recurring jobs that failed.", labels=["job"])
        age = GaugeMetricFamily(
            "kms_job_success_age_seconds", "Seconds since a recurring job last succeeded.", labels=["job"]
        )
        for job in Job.objects.order_by("name"):
            runs.add_metric([job.name], job.runs)
            failures.add_metric([job.name], job.failures)
            if job.last_success is not None:
                age.add_metric([job.name], max(0, now - job.last_success) / clock.SECOND)
        yield from (runs, failures, age)
        last = AuditRecord.objects.order_by("-id").values_list("id", flat=True).first() or 0
        bound = AuditCheckpoint.objects.order_by("-number").values_list("last", flat=True).first() or 0
        yield GaugeMetricFamily(
            "kms_audit_unbound", "Audit records since the last checkpoint, about.", value=max(0, last - bound)
        )
        yield GaugeMetricFamily(
            "kms_deferred_requests", "Asynchronous requests that are kept.", value=DeferredRequest.objects.count()
        )

    def _states(self) -> dict[int, int]:
        with self._lock:
            if time.monotonic() - self._counted > KEPT:
                rows = ManagedObject.objects.order_by().values_list("state").annotate(Count("uid"))
                self._objects, self._counted = dict(rows), time.monotonic()
            return self._objects


_database = _Database()


def publish(listener: str, connections: int, pool: Pool) -> None:
    """Say how this process of a listener is; it does so every second."""
    writer, rows = audit.writer, store.rows
    metrics.publish(
        listener,
        metrics.Now(connections, *pool.counts, writer.waiting, writer.lag, writer.failing, rows.hits, rows.misses),
    )


def text() -> bytes:
    """Everything, in Prometheus's text format; raises `DatabaseError`."""
    registry = CollectorRegistry()
    metrics.collect(registry)
    registry.register(_database)
    return generate_latest(registry)
