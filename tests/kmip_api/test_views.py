"""The HTTP paths: media types, methods, sizes, who is at the other end; the engine behind them is a stand-in."""

import json

import pytest
from django.test import Client, RequestFactory

from keystore import engine, jobs, nodes, supervisor, web
from kmip_api import views

XML, JSON, TTLV = "text/xml", "application/json", "application/octet-stream"


@pytest.fixture
def calls(monkeypatch) -> list[tuple]:
    """What the engine is asked, answered with the encoding's name or the dialect's status."""
    made: list[tuple] = []

    def handle(data, peer, encoding="ttlv", *, answer=None):
        made.append((data, peer, encoding))
        return (answer or encoding).encode()

    def handle_http(data, peer):
        made.append((data, peer, "dialect"))
        return 422, "text/plain", b"Invalid_Message: no"

    monkeypatch.setattr(engine, "handle", handle)
    monkeypatch.setattr(engine, "handle_http", handle_http, raising=False)
    return made


ENCODINGS = {
    "binary": (TTLV, "", 200, TTLV, "ttlv"),
    "text/xml": (XML, "", 200, XML, "xml"),
    "application/xml": ("application/xml", "*/*", 200, XML, "xml"),
    "JSON": (JSON, "", 200, JSON, "json"),
    "parameters and case": ("Text/XML; charset=utf-8", "", 200, XML, "xml"),
    "accepted in other words": (XML, "application/xml", 200, "application/xml", "xml"),
    "accepted among others": (JSON, "text/html, application/json;q=0.9", 200, JSON, "json"),
    "accepted by wildcard": (JSON, "application/*", 200, JSON, "json"),
    "unknown type": ("text/plain", "", 415, "text/plain", None),
    "no type": ("", "", 415, "text/plain", None),
    "cannot be accepted": (XML, "text/html", 406, "text/plain", None),
}


@pytest.mark.parametrize("sent, accept, status, answered, encoding", ENCODINGS.values(), ids=ENCODINGS)
def test_the_media_type_chooses_the_encoding(calls, sent, accept, status, answered, encoding):
    """The answer comes in the request's encoding, as Accept allows."""
    headers = {"accept": accept} if accept else {}
    response = Client().generic("POST", "/kmip", b"body", content_type=sent, headers=headers)
    assert (response.status_code, response["Content-Type"]) == (status, answered)
    assert [(data, used) for data, _, used in calls] == ([(b"body", encoding)] if encoding else [])
    if encoding:
        assert response.content == encoding.encode()


def test_accept_may_ask_for_another_encoding(calls):
    """The engine is asked in one encoding, and for its answer in the other."""
    response = Client().post("/kmip", b"<x/>", content_type=XML, headers={"accept": TTLV})
    assert (response["Content-Type"], response.content) == (TTLV, b"ttlv")
    assert calls[0][2] == "xml"


@pytest.mark.parametrize("path", web.PATHS)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD"])
def test_only_post_is_allowed(calls, path, method):
    """Anything else is told so."""
    response = Client().generic(method, path)
    assert (response.status_code, response["Allow"]) == (405, "POST")
    assert calls == []


@pytest.mark.parametrize("path", web.PATHS)
def test_bodies_over_the_limit_are_refused(calls, configure, path):
    """By their length, before they are read."""
    configure(**{"http.max_body_size": 10})
    response = Client().post(path, b"x" * 11, content_type=JSON)
    assert response.status_code == 413
    assert Client().post(path, b"x" * 10, content_type=JSON).status_code != 413


def test_the_dialect_answers_with_the_engine_s_status(calls):
    """Status, media type and body come from the engine."""
    response = Client().post("/kmip/2_1", b"{}", content_type=JSON)
    assert (response.status_code, response["Content-Type"]) == (422, "text/plain")
    assert response.content == b"Invalid_Message: no"
    assert Client().post("/kmip/2_1", b"{}", content_type="text/plain").status_code == 415


def test_machine_paths_know_neither_csrf_nor_sessions(calls):
    """No token is needed, and no cookie is set or read."""
    response = Client(enforce_csrf_checks=True).post("/kmip", b"<x/>", content_type=XML)
    assert response.status_code == 200
    assert response.cookies == {}


def test_pages_of_other_names_are_refused_on_loopback(calls, settings):
    """A web page cannot reach the plain HTTP listener under a name of its own."""
    settings.ALLOWED_HOSTS = ["localhost"]
    assert Client().post("/kmip", b"<x/>", content_type=XML, headers={"host": "evil.example"}).status_code == 400
    assert calls == []


def request(**environ: object):
    return RequestFactory().post("/kmip", **environ)


def test_the_peer_has_certificate_address_and_headers():
    """What the worker and the client say reaches the engine."""
    peer = views.peer_of(
        request(**{"kms.peer_certificate": b"DER", "REMOTE_ADDR": "10.0.0.9", "HTTP_AUTHORIZATION": "Bearer x"})
    )
    assert (peer.transport, peer.address, peer.certificate) == ("http", "10.0.0.9", b"DER")
    assert peer.headers["authorization"] == peer.headers["Authorization"] == "Bearer x"
    assert peer.headers.get("X-None") is None
    assert "Authorization" in list(peer.headers)


def test_a_connection_keeps_its_peer_until_credentials_change():
    """The identity may be cached on it for as long as the same client speaks."""
    notes: dict[str, object] = {}

    def on_connection(**environ: object):
        return views.peer_of(request(**{"kms.connection": notes, **environ}))

    first = on_connection(HTTP_AUTHORIZATION="Bearer a")
    assert on_connection(HTTP_AUTHORIZATION="Bearer a") is first
    assert on_connection(HTTP_AUTHORIZATION="Bearer b") is not first
    assert on_connection() is not first
    assert views.peer_of(request()) is not views.peer_of(request())


FORWARDED = {
    "no proxy": ((), "10.0.0.1", "1.1.1.1", "10.0.0.1"),
    "trusted": (("10.0.0.0/8",), "10.0.0.1", "1.1.1.1", "1.1.1.1"),
    "forged in front": (("10.0.0.0/8",), "10.0.0.1", "9.9.9.9, 1.1.1.1", "1.1.1.1"),
    "two proxies": (("10.0.0.0/8",), "10.0.0.1", "1.1.1.1, 10.0.0.2", "1.1.1.1"),
    "untrusted": (("10.0.0.5",), "10.0.0.1", "1.1.1.1", "10.0.0.1"),
    "nothing said": (("10.0.0.0/8",), "10.0.0.1", "", "10.0.0.1"),
}


@pytest.mark.parametrize("proxies, remote, header, address", FORWARDED.values(), ids=FORWARDED)
def test_addresses_behind_proxies_count_only_if_trusted(configure, proxies, remote, header, address):
    """X-Forwarded-For is believed from the right, and only from trusted proxies."""
    configure(**{"http.trusted_proxies": proxies})
    environ = {"REMOTE_ADDR": remote} | ({"HTTP_X_FORWARDED_FOR": header} if header else {})
    assert views.peer_of(request(**environ)).address == address


def test_the_version_is_public():
    """A JSON text."""
    assert Client().get("/version").json() == "0.1.0"


@pytest.mark.django_db
def test_health_names_its_dependencies():
    """All up: 200."""
    response = Client().get("/health")
    body = response.json()
    assert (response.status_code, body["status"]) == (200, "UP")
    assert body["dependencies"]["database"]["status"] == "UP"
    assert body["latency_ms"] >= 0


@pytest.mark.django_db
def test_health_tells_of_the_jobs_without_what_is_nobody_s_business(monkeypatch):
    """Whether any node does them, when each ran and runs, and the kind of its last error; that a job fails makes
    nothing down."""
    name = jobs.table()[0].name
    jobs.run_one(jobs.Entry(name, lambda: int("a secret"), 60.0))
    assert Client().get("/health").json()["jobs"]["active"] is False
    monkeypatch.setattr(nodes, "name", lambda: "node-7.example")
    assert jobs.Lease().take()
    answer = Client().get("/health")
    body = answer.json()
    assert body["status"] == "UP" and body["jobs"]["active"] is True
    assert b"node-7" not in answer.content
    assert len(body["jobs"]["jobs"]) == len(jobs.table())
    told = next(one for one in body["jobs"]["jobs"] if one["name"] == name)
    assert told["last_error"] == "ValueError" and told["next_run"] - told["last_run"] == 60


def test_health_is_down_without_its_database(monkeypatch):
    """503, and which dependency it is."""
    monkeypatch.setattr(views, "_database_status", lambda: "DOWN")
    response = Client().get("/health")
    assert response.status_code == 503
    assert json.loads(response.content)["dependencies"]["database"]["status"] == "DOWN"


@pytest.mark.django_db
@pytest.mark.parametrize(
    "ages, status",
    [
        ({"kmip-0": 0.1, "http": 99.0}, "UP"),
        ({"kmip-0": 0.1, "kmip-1": 60.0}, "DOWN"),
        ({"jobs": float("inf")}, "DOWN"),
    ],
)
def test_health_is_down_when_a_process_is_silent(monkeypatch, ages, status):
    """Every process of a kind must have shown signs of life; the HTTP process shows it by answering."""
    monkeypatch.setattr(views, "_database_status", lambda: "UP")
    monkeypatch.setattr(supervisor.pulse, "ages", lambda: ages)
    response = Client().get("/health")
    assert response.json()["status"] == status
    assert response.status_code == (200 if status == "UP" else 503)


def test_pages_carry_a_strict_policy():
    """Scripts only from here, no frames, no guessing of types."""
    response = Client().get("/version")
    policy = response["Content-Security-Policy"]
    assert "script-src 'self'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert response["X-Content-Type-Options"] == "nosniff"


DIALECT = {
    "an unknown root": (b'{"tag":"Frobnicate","value":[]}', 404, "Operation_Not_Supported"),
    "no JSON": (b"{", 422, "Invalid_Message"),
    "an absent object": (
        b'{"tag":"Get","value":[{"tag":"UniqueIdentifier","type":"TextString","value":"x"}]}',
        422,
        "",
    ),
}


@pytest.mark.django_db
@pytest.mark.parametrize(("body", "status", "reason"), DIALECT.values(), ids=DIALECT)
def test_a_bare_operation_of_the_dialect_fails_with_a_status(client, body, status, reason):
    """The body begins with the result reason."""
    answer = client.post("/kmip/2_1", body, content_type="application/json", REMOTE_ADDR="127.0.0.1")
    assert answer.status_code == status
    assert answer.content.decode().startswith(reason or "Object_Not_Found")


@pytest.mark.django_db
def test_a_bare_operation_of_the_dialect_is_answered_by_its_response(client):
    """Query answers a QueryResponse."""
    body = b'{"tag":"Query","value":[{"tag":"QueryFunction","type":"Enumeration","value":"QueryServerInformation"}]}'
    answer = client.post("/kmip/2_1", body, content_type="application/json", REMOTE_ADDR="127.0.0.1")
    assert answer.status_code == 200
    assert answer.json()["tag"] == "QueryResponse"
