"""HTTP on the KMIP port: the same door, whole requests however they arrive, and bounds on all of them."""

import contextlib
import http.client
import ssl
import time

import pytest

from keystore import http1 as parsing
from tests.kmip_socket.conftest import message
from tests.kmip_socket.test_server import exchange, rest

BODY = message(b"a body..")


def post(path="/kmip", body=BODY, **headers):
    fields = {"Host": "localhost", "Content-Type": "application/octet-stream", "Content-Length": len(body)} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    lines = [f"{name}: {value}" for name, value in fields.items() if value is not None]
    return "\r\n".join([f"POST {path} HTTP/1.1", *lines, "", ""]).encode() + body


class Reply:
    """One reply as a client's library reads it."""

    def __init__(self, connection) -> None:
        response = http.client.HTTPResponse(connection)
        response.begin()
        self.status, self.headers, self.body = response.status, response.headers, response.read()


def ask(client, data):
    client.sendall(data)
    return Reply(client)


def test_requests_on_one_connection_are_answered_one_after_the_other(start):
    started = start()
    client = started.client()
    for body in (BODY, message(b"12345678" * 9000)):
        reply = ask(client, post(body=body))
        assert (reply.status, reply.body) == (200, body)
        assert reply.headers["Content-Type"] == "application/octet-stream"
    reply = ask(client, post("/kmip/2_1", b"{}", Content_Type="application/json"))
    assert (reply.status, reply.headers["Content-Type"], reply.body) == (422, "application/json", b"{}")
    assert {(peer.transport, peer.address, bool(peer.certificate)) for peer in started.engine.peers} == {
        ("http", "127.0.0.1", True)
    }
    assert exchange(started.client(), BODY) == BODY, "the next connection may speak KMIP itself"


def test_a_request_may_come_in_any_pieces(start):
    client = start().client()
    for byte in post():
        client.sendall(bytes([byte]))
    assert Reply(client).body == BODY
    chunks = b"".join(f"{len(part):x};note=1\r\n".encode() + part + b"\r\n" for part in (BODY[:3], BODY[3:]))
    reply = ask(client, post(body=chunks + b"0\r\n\r\n", Content_Length=None, Transfer_Encoding="chunked"))
    assert reply.body == BODY


def test_pipelined_requests_are_answered_in_order(start):
    client = start().client()
    client.sendall(b"".join(post(body=message(bytes([65 + n]) * 8)) for n in range(3)) + post(Connection="close"))
    answers = rest(client).split(b"HTTP/1.1 200 OK\r\n")[1:]
    assert [answer.partition(b"\r\n\r\n")[2][8:9] for answer in answers] == [b"A", b"B", b"C", b"a"]


def test_a_client_that_waits_for_a_sign_gets_one(start):
    client = start().client()
    whole = post(Expect="100-continue")
    client.sendall(whole[: -len(BODY)])
    assert client.recv(1024) == parsing.CONTINUE
    assert ask(client, BODY).body == BODY


def test_a_connection_ends_when_the_client_wants_it(start):
    for data in (post(Connection="close"), post().replace(b"HTTP/1.1", b"HTTP/1.0")):
        client = start().client()
        client.sendall(data)
        answer = rest(client)
        assert answer.endswith(BODY)
        assert b"Connection: close" in answer


def test_a_changed_credential_makes_another_peer(start):
    started = start()
    client = started.client()
    for authorization in (None, "Bearer one", "Bearer one", "Bearer two"):
        assert ask(client, post(Authorization=authorization)).status == 200
    first, second, third, fourth = started.engine.peers
    assert second is third
    assert len({id(peer) for peer in started.engine.peers}) == 3
    assert [peer.headers.get("Authorization") for peer in (first, third, fourth)] == [None, "Bearer one", "Bearer two"]


def test_a_trailer_is_no_header(start):
    started = start()
    body = b"0\r\nAuthorization: Bearer me\r\nAccept: nothing/else\r\n\r\n"
    assert ask(started.client(), post(body=body, Content_Length=None, Transfer_Encoding="chunked")).status == 200
    (peer,) = started.engine.peers
    assert "Authorization" not in peer.headers


LIMIT = {"max_body_size": 4096}
LONG = bytes(5000)
CHUNKED = {"Content_Length": None, "Transfer_Encoding": "chunked"}
REFUSED = {
    "another method": (b"GET /kmip HTTP/1.1\r\nHost: x\r\n\r\n", 405),
    "another path": (post("/else"), 404),
    "a path within a URL": (post("https://localhost/else?x=1"), 404),
    "another media type": (post(Content_Type="text/html"), 415),
    "another answer": (post(Accept="image/png"), 406),
    "a long body": (post(body=b"", Content_Length=5000), 413),
    "a long body in chunks": (post(body=b"1388\r\n" + LONG + b"\r\n0\r\n\r\n", **CHUNKED), 413),
    "a long field": (post(X=70_000 * "x"), 431),
    "a long target": (post("/" + 70_000 * "x"), 431),
    "many fields": (post(**{f"X{n}": n for n in range(120)}), 431),
    "a long trailer": (post(body=b"0\r\nX: " + b"x" * 200_000, **CHUNKED), 431),
    "many trailers": (post(body=b"0\r\n" + b"X: y\r\n" * 120 + b"\r\n", **CHUNKED), 431),
    "no HTTP": (b"SSH-2.0-OpenSSH_9.6\r\n", 400),
    "two lengths": (post(Transfer_Encoding="chunked"), 400),
    "an upgrade": (b"GET /kmip HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n", 405),
}


@pytest.mark.parametrize("data, status", REFUSED.values(), ids=REFUSED)
def test_what_is_not_taken_is_refused_and_the_next_client_served(start, data, status):
    started = start(**LIMIT)
    client = started.client()
    with contextlib.suppress(OSError):
        client.sendall(data)
    assert Reply(client).status == status
    assert not started.engine.peers
    assert ask(started.client(), post()).status == 200


def test_a_slow_request_is_cut_off(start):
    started = start(message_timeout=0.3, socket_server_idle_timeout=30)
    client = started.client()
    begun = time.monotonic()
    client.sendall(post()[:-1])
    assert rest(client) == b""
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_without_a_certificate_no_request_is_read(start, pki, version):
    started = start()
    context = pki.client_context(anonymous=True)
    context.maximum_version = version
    client, answer = None, b""
    try:
        # In TLS 1.3 the refusal comes after the client's own handshake.
        client = context.wrap_socket(started.raw(), server_hostname="localhost")
        client.sendall(post())
        answer = client.recv(1024)
    except OSError:
        pass
    finally:
        if client is not None:
            client.close()
    assert answer == b""
    assert not started.engine.peers
