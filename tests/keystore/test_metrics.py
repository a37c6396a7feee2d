"""What Prometheus reads: counts of every process, what the database knows, and who may see it."""

import socket
import urllib.error
import urllib.request

import pytest
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from benchmarks import messages
from keystore import metrics
from tests.certificates import Pki
from tests.processes import Running, manage, until


def samples(text: str) -> dict[tuple, float]:
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def read(port: int, context) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"https://localhost:{port}/metrics", context=context, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_nothing_is_counted_before_the_start():
    """A command or a test leaves no files behind."""
    assert metrics._metrics is None
    metrics.handshake("kmip", "accepted")
    metrics.observe([])
    metrics.ended(1)


def test_latencies_are_counted_together_as_they_would_be_one_by_one():
    """On the bounds, between them and beyond."""
    latencies = [0, 1, 99, 100, 101, 250, 251, 9_999_999, 10_000_000, 10_000_001, 2**31 - 1]
    registries = [CollectorRegistry(), CollectorRegistry()]
    one, other = (Histogram("seconds", "", buckets=metrics.BUCKETS, registry=registry) for registry in registries)
    metrics._observe(one, latencies)
    for latency in latencies:
        other.observe(latency / 1_000_000)
    mine, theirs = (
        {name: value for name, value in samples(generate_latest(registry).decode()).items() if "created" not in name[0]}
        for registry in registries
    )
    assert mine == pytest.approx(theirs)


def test_the_counts_of_all_processes_add_up_for_those_who_may_see_them(tmp_path):
    pki = Pki(tmp_path)
    settings = pki.settings() | {"KMS_HTTP_CLIENT_AUTH": "optional"}
    with Running(tmp_path, **settings) as server:
        with pki.client_context().wrap_socket(
            socket.create_connection(("localhost", server.kmip_port), timeout=10), server_hostname="localhost"
        ) as client:
            for _ in range(3):
                client.sendall(messages.query())
                assert client.recv(65536)[:3] == b"\x42\x00\x7b"
            client.sendall(messages.message((messages.Operation.of(0x7FFF), messages.QueryRequest())))
            assert client.recv(65536)[:3] == b"\x42\x00\x7b"
        assert read(server.http_port, pki.client_context(anonymous=True))[0] == 401
        assert read(server.http_port, pki.client_context())[0] == 403
        given = manage(tmp_path, "role", "give", "auditor", "user:alice", **settings)
        assert given.returncode == 0, given.stderr

        def found() -> dict[tuple, float] | None:
            status, text = read(server.http_port, pki.client_context())
            seen = samples(text) if status == 200 else {}
            listeners = {dict(key[1:]).get("listener") for key in seen if key[0] == "kms_database_connections"}
            return seen if seen.get(QUERIES) == 3 and listeners == {"http", "kmip"} else None

        seen = until(found, "three queries are counted")
        assert seen["kms_operation_seconds_bucket", ("le", "+Inf"), *QUERIES[1:]] == 3
        assert [key for key in seen if ("operation", "unknown") in key and key[0].endswith("_count")]
        assert not [key for key in seen if any("0x" in str(part) for part in key)]
        assert seen["kms_handshakes_total", ("listener", "kmip"), ("result", "accepted")] == 1
        assert seen["kms_handshakes_total", ("listener", "http"), ("result", "accepted")] >= 3
        assert seen["kms_connections", ("listener", "kmip")] == 0
        assert seen["kms_connections", ("listener", "http")] >= 0
        assert seen["kms_database_connections", ("listener", "kmip"), ("state", "lent")] == 0
        assert seen["kms_database_connections", ("listener", "kmip"), ("state", "free")] >= 1
        assert seen["kms_audit_lag_seconds",] >= 0 and seen["kms_audit_unbound",] >= 0
        assert seen["kms_audit_failing",] == 0
        assert [value for key, value in seen.items() if key[0] == "kms_job_runs_total"]


QUERIES = ("kms_operation_seconds_count", ("operation", "Query"), ("result", "Success"), ("transport", "kmip"))
