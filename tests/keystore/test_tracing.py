"""Traces for OpenTelemetry: what a collector is sent, what it is not, and that nothing is loaded unasked."""

import json
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from keystore import checks, tracing
from keystore.conf import ConfigError
from tests.processes import Running, environment, until


class Collector(ThreadingHTTPServer):
    """Keeps every span that it is sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.sent: list[bytes] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def spans(self) -> list:
        return [
            span
            for body in list(self.sent)
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


class Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert self.headers.get("Content-Encoding") is None and self.path == "/v1/traces"
        self.server.sent.append(body)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as made:
        yield made
        made.shutdown()


def dialect(port: int, tag: str, *fields: dict) -> dict:
    body = json.dumps({"tag": tag, "type": "Structure", "value": list(fields)}).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/kmip/2_1", body, {"Content-Type": "application/json", "Accept": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.loads(answer.read())
    except urllib.error.HTTPError as refused:
        return json.loads(refused.read())


def attributes(span) -> dict[str, str]:
    return {one.key: one.value.string_value for one in span.attributes}


def test_each_operation_is_a_span_without_secrets(tmp_path, collector):
    """Its name, times, way in and result; neither who nor what it was about. What waits at the end is sent, too."""
    endpoint = f"http://127.0.0.1:{collector.server_port}/v1/traces"
    secret = "c0ffee" * 8
    with Running(tmp_path, KMS_TRACING_ENDPOINT=endpoint) as server:
        port = server.http_port
        key = [
            {"tag": "KeyFormatType", "type": "Enumeration", "value": "Raw"},
            {"tag": "KeyValue", "type": "Structure", "value": [
                {"tag": "KeyMaterial", "type": "ByteString", "value": secret}]},
        ]  # fmt: skip
        made = dialect(
            port,
            "Register",
            {"tag": "ObjectType", "type": "Enumeration", "value": "SecretData"},
            {"tag": "Attributes", "type": "Structure", "value": []},
            {"tag": "SecretData", "type": "Structure", "value": [
                {"tag": "SecretDataType", "type": "Enumeration", "value": "Password"},
                {"tag": "KeyBlock", "type": "Structure", "value": key}]},
        )  # fmt: skip
        uid = next(one["value"] for one in made["value"] if one["tag"] == "UniqueIdentifier")
        dialect(port, "Get", {"tag": "UniqueIdentifier", "type": "TextString", "value": uid})
        dialect(port, "Get", {"tag": "UniqueIdentifier", "type": "TextString", "value": "there is none"})
        server.stop()
    until(lambda: len([one for one in collector.spans if one.name == "Get"]) == 2, "three spans")
    (register,) = [one for one in collector.spans if one.name == "Register"]
    assert attributes(register) == {
        "kms.transport": "http", "kms.result": "Success", "kms.namespace": "default", "kmip.version": "2.1"
    }  # fmt: skip
    assert register.start_time_unix_nano <= register.end_time_unix_nano
    failed = next(one for one in collector.spans if one.name == "Get" and one.status.code)
    assert attributes(failed)["kms.result"] == "Failure" and attributes(failed)["kmip.result_reason"]
    everything = b"".join(collector.sent)
    for unwanted in (secret.encode(), bytes.fromhex(secret), uid.encode(), b"there is none"):
        assert unwanted not in everything


def test_nothing_of_it_is_loaded_without_an_endpoint(tmp_path):
    """Whoever wants no traces pays nothing."""
    program = (
        "import django; django.setup(); from keystore import engine; import sys; print('opentelemetry' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(tmp_path, {"DJANGO_SETTINGS_MODULE": "kmsproject.settings"}),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "False\n", done.stderr


def test_an_endpoint_without_the_packages_keeps_the_server_from_starting(configure, monkeypatch):
    """It says what to install; an endpoint that is no URL is refused, too."""
    config = configure(**{"tracing.tracing_endpoint": "http://127.0.0.1:4318/v1/traces"})
    tracing.check(config)
    assert tracing.check in checks.STARTUP
    monkeypatch.setattr(tracing, "PACKAGES", ("opentelemetry.there_is_none.such",))
    with pytest.raises(ConfigError, match=r"requirements-tracing\.txt"):
        tracing.check(config)
    with pytest.raises(ConfigError, match="no http:// or https:// URL"):
        tracing.check(configure(**{"tracing.tracing_endpoint": "127.0.0.1:4318"}))
