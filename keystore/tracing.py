"""Traces for an OpenTelemetry collector: a span for each operation, made from what its audit record says.

The packages for it (requirements-tracing.txt) are imported only where `tracing.tracing_endpoint` is set. A span has the
operation, how it came and how it ended; no user, object or content.
"""

import atexit
import logging
import os
import threading
from collections.abc import Iterable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from keystore import conf, version
from keystore.conf import Config

if TYPE_CHECKING:
    from keystore.audit import Entry

log = logging.getLogger(__name__)

#: Spans that wait for the collector at most, in each process; more are dropped, as requests do not wait for it.
MAX_WAITING: Final = 4096
PACKAGES: Final = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http.trace_exporter")


def check(config: Config) -> None:
    """The packages are there if traces are wanted; raises `ConfigError`."""
    endpoint = config.tracing.tracing_endpoint
    if endpoint is None:
        return
    if not endpoint.startswith(("http://", "https://")):
        raise config.error(
            "tracing.tracing_endpoint", "is no http:// or https:// URL", "give the collector's /v1/traces"
        )
    if not all(_is_there(name) for name in PACKAGES):
        remedy = "pip install -r requirements-tracing.txt, or remove it"
        raise config.error("tracing.tracing_endpoint", "needs packages that are not installed", remedy)


def _is_there(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


class _Tracer:
    """What makes the spans of a process and sends them in the background."""

    def __init__(self, endpoint: str, ratio: float) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
        from opentelemetry.trace import SpanKind, Status, StatusCode

        resource = Resource.create({"service.name": "kms", "service.version": version.VERSION})
        self._provider = TracerProvider(
            resource=resource, sampler=ParentBased(TraceIdRatioBased(ratio)), shutdown_on_exit=False
        )
        exporter = OTLPSpanExporter(endpoint=endpoint)
        self._provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=MAX_WAITING))
        self._tracer = self._provider.get_tracer("kms", version.VERSION)
        self._kind, self._status, self._error = SpanKind.SERVER, Status, StatusCode.ERROR

    def add(self, entry: "Entry") -> None:
        """Make the span of an operation that has ended."""
        attributes: dict[str, Any] = {
            "kms.transport": entry.transport,
            "kms.result": entry.result,
            "kms.namespace": entry.namespace,
        }
        if entry.protocol:
            attributes["kmip.version"] = entry.protocol
        if entry.reason:
            attributes["kmip.result_reason"] = entry.reason
        span = self._tracer.start_span(
            entry.operation or "request",
            kind=self._kind,
            start_time=(entry.time - entry.latency) * 1000,
            attributes=attributes,
        )
        if entry.reason:
            span.set_status(self._status(self._error, entry.reason))
        span.end(end_time=entry.time * 1000)

    def stop(self) -> None:
        """Send what waits."""
        self._provider.shutdown()


_tracer: _Tracer | None = None
_making = threading.Lock()


def observe(entries: "Iterable[Entry]") -> None:
    """Make spans of what audit records are about."""
    global _tracer
    settings = conf.current().tracing
    if settings.tracing_endpoint is None:
        return
    with _making:
        if _tracer is None:
            _tracer = _Tracer(settings.tracing_endpoint, settings.tracing_ratio)
    for entry in entries:
        _tracer.add(entry)


def _forget() -> None:
    # The thread that sends is not forked along, and another one may have held the lock.
    global _tracer, _making
    _tracer, _making = None, threading.Lock()


def _stop() -> None:
    if _tracer is not None:
        _tracer.stop()


os.register_at_fork(after_in_child=_forget)
# Before the audit's writer, which stops first then: what it writes at the end is seen.
atexit.register(_stop)
