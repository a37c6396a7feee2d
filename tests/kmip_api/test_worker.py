"""The HTTP worker, in a real process with few threads: nobody occupies one by being slow."""

import contextlib
import http.client
import json
import re
import socket
import ssl
import time
from collections.abc import Iterator

import pytest

from tests.certificates import Pki
from tests.processes import Running, until

SETTINGS = {
    "KMS_THREADS": "2",
    "KMS_HEADER_TIMEOUT": "1",
    "KMS_BODY_TIMEOUT": "1",
    "KMS_KEEP_ALIVE": "2",
    "KMS_HTTP_HANDSHAKE_TIMEOUT": "2",
    "KMS_MAX_BODY_SIZE": "3000000",
}
HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture(scope="module")
def pki(tmp_path_factory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


class Web:
    """A server, and connections to it with or without TLS."""

    def __init__(self, server: Running, context: ssl.SSLContext | None) -> None:
        self.server, self.context, self.port = server, context, server.http_port

    def raw(self) -> socket.socket:
        return socket.create_connection(("localhost", self.port), timeout=60)

    def connect(self) -> socket.socket:
        raw = self.raw()
        return self.context.wrap_socket(raw, server_hostname="localhost") if self.context else raw


@pytest.fixture(scope="module", params=["HTTP", "HTTPS"])
def web(request, tmp_path_factory, pki) -> Iterator[Web]:
    tls = request.param == "HTTPS"
    settings = SETTINGS | (pki.settings() if tls else {})
    with Running(tmp_path_factory.mktemp("web"), **settings) as server:
        yield Web(server, pki.client_context() if tls else None)


def rest(connection: socket.socket) -> bytes:
    data = b""
    with contextlib.suppress(OSError):
        while chunk := connection.recv(65536):
            data += chunk
    return data


def answer(connection: socket.socket) -> tuple[int, bytes]:
    response = http.client.HTTPResponse(connection)
    response.begin()
    return response.status, response.read()


def healthy(web: Web) -> float:
    """Ask for /health on a new connection; the seconds it took."""
    begun = time.monotonic()
    with web.connect() as connection:
        connection.sendall(HEALTH)
        status, body = answer(connection)
    assert (status, json.loads(body)["status"]) == (200, "UP")
    return time.monotonic() - begun


SLOW = {
    "connect only": b"",
    "a byte": b"G",
    "half a head": b"GET /health HTTP/1.1\r\nHost: loc",
    "half a body": b"POST /kmip HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nabc",
}


@pytest.mark.parametrize("sent", SLOW.values(), ids=SLOW)
def test_slow_clients_do_not_keep_others_waiting(web, sent):
    """50 of them against 2 threads, and /health answers at once; later they are gone."""
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(web.connect()) for _ in range(50)]
        for connection in slow:
            connection.sendall(sent)
        assert healthy(web) < 2
        for connection in slow:
            assert rest(connection) == b""


def test_500_connections_that_never_speak_change_nothing(web):
    """/health answers at once while they are open."""
    with contextlib.ExitStack() as stack:
        for _ in range(500):
            stack.enter_context(web.raw())
        assert healthy(web) < 2


def test_a_trickled_head_is_cut_off(web):
    """The time for a head is not extended by each byte of it."""
    sent = 0
    with web.connect() as connection, contextlib.suppress(OSError):
        for byte in HEALTH[:-2] + b"X: " + b"x" * 1000:
            connection.sendall(bytes([byte]))
            sent += 1
            time.sleep(0.02)  # the behaviour under test
    assert sent < 500


def test_requests_on_one_connection_are_answered_in_order(web):
    """Kept alive, pipelined, and in pieces."""
    with web.connect() as connection:
        for _ in range(3):
            connection.sendall(HEALTH)
            assert answer(connection)[0] == 200
        connection.sendall(HEALTH + b"GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n" + HEALTH)
        data = b""
        while data.count(b"HTTP/1.1 ") < 3 or not data.endswith(b"}"):
            data += connection.recv(65536)
        assert re.findall(rb'(UP|0\.1\.0)","?l?', data) or data.index(b'"0.1.0"') < data.rindex(b'"UP"')
        for piece in (HEALTH[:7], HEALTH[7:30], HEALTH[30:]):
            connection.sendall(piece)
        assert answer(connection)[0] == 200


def test_an_idle_connection_is_closed_in_the_end(web):
    """With a regular end, not a reset."""
    with web.connect() as connection:
        connection.sendall(HEALTH)
        assert answer(connection)[0] == 200
        assert connection.recv(1) == b""


BODIES = {
    "small": (b"x" * 100, 415),
    "large": (b"x" * 2_500_000, 415),
    "too large": (b"x" * 3_000_001, 413),
}


@pytest.mark.parametrize("body, status", BODIES.values(), ids=BODIES)
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_bodies_of_any_size_and_shape_are_read_or_refused(web, body, status, chunked):
    """Up to the limit they reach the view; beyond it the answer says so."""
    client = (
        http.client.HTTPSConnection("localhost", web.port, context=web.context, timeout=15)
        if web.context
        else http.client.HTTPConnection("localhost", web.port, timeout=15)
    )
    with contextlib.closing(client):
        pieces = [body[at : at + 100_000] for at in range(0, len(body), 100_000)]
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            client.request("POST", "/kmip", iter(pieces) if chunked else body, encode_chunked=chunked)
        assert client.getresponse().status == status


QUERY = b'{"tag":"Query","value":[{"tag":"QueryFunction","type":"Enumeration","value":"QueryObjects"}]}'
KMIP = {
    "an operation": ("/kmip/2_1", "application/json", QUERY, 200),
    "no operation": ("/kmip/2_1", "application/json", b'{"tag":"Nothing","value":[]}', 404),
    "another media type": ("/kmip/2_1", "text/plain", QUERY, 415),
    "no message": ("/kmip", "application/json", b"{", 200),
}


def posted(path: str, kind: str, body: bytes, *fields: str, version: str = "1.1") -> bytes:
    lines = [f"POST {path} HTTP/{version}", "Host: localhost", f"Content-Type: {kind}", *fields]
    return "\r\n".join([*lines, "", ""]).encode() + body


@pytest.mark.parametrize("path, kind, body, status", KMIP.values(), ids=KMIP)
def test_a_kmip_request_is_answered_alike_however_it_comes(web, path, kind, body, status):
    """Plain, which takes a shorter way, in chunks, behind another in one piece, and a byte at a time."""
    length = f"Content-Length: {len(body)}"
    plain = posted(path, kind, body, length)
    chunked = posted(path, kind, b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body), "Transfer-Encoding: chunked")
    answers = []
    with web.connect() as connection:
        for sent, count in ((plain, 1), (chunked, 1), (plain + plain, 2), (plain, 1)):
            connection.sendall(sent)
            # The responses of one read are read by one reader.
            with connection.makefile("rb") as file:
                for _ in range(count):
                    line = file.readline()
                    headers = http.client.parse_headers(file)
                    answers.append((line, headers["Content-Type"], file.read(int(headers["Content-Length"]))))
        for byte in plain:
            connection.sendall(bytes([byte]))
        assert answer(connection)[0] == status
        connection.sendall(posted(path, kind, body, length, "Connection: close"))
        assert rest(connection).startswith(b"HTTP/1.1 %d " % status)
    with web.connect() as connection:
        connection.sendall(posted(path, kind, body, length, version="1.0"))
        assert rest(connection).partition(b" ")[2].startswith(b"%d " % status)
    assert int(answers[0][0].split()[1]) == status
    # What differs is the time in the header of a response message.
    assert len({(line, kind, len(body)) for line, kind, body in answers}) == 1


def test_a_name_that_is_not_the_server_s_is_refused_without_tls(web):
    """A web page that gave itself loopback's address does not get through; with TLS the browser checks names."""
    with web.connect() as connection:
        request = posted("/kmip/2_1", "application/json", QUERY, f"Content-Length: {len(QUERY)}")
        connection.sendall(request.replace(b"localhost", b"elsewhere.example"))
        assert answer(connection)[0] == (400 if web.context is None else 200)


BAD = {
    "no HTTP": (b"\x42\x00\x78\x01" * 4 + b"\r\n\r\n", 400),
    "long line": (b"GET /" + b"x" * 10_000 + b" HTTP/1.1\r\n\r\n", 414),
    "huge head": (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 100_000 + b"\r\n\r\n", 431),
    "two lengths": (b"POST /kmip HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
    "length and chunks": (
        b"POST /kmip HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
}


@pytest.mark.parametrize("sent, status", BAD.values(), ids=BAD)
def test_bad_requests_get_an_answer_and_the_end(web, sent, status):
    """gunicorn's own checks apply, and the connection does not go on."""
    with web.connect() as connection:
        with contextlib.suppress(OSError):
            connection.sendall(sent)
        data = rest(connection)
    assert data.startswith(b"HTTP/1.1 %d " % status)
    assert healthy(web) < 2


def test_nothing_was_logged_as_a_defect(web):
    """All of the above were the clients' doing."""
    assert [line for line in web.server.err if "Traceback" in line or " ERROR " in line or "[ERROR]" in line] == []


def test_stopping_lets_a_request_finish(tmp_path, pki):
    """What has begun to arrive is answered, on a connection that then ends."""
    with Running(tmp_path, KMS_THREADS="2", **pki.settings()) as server:
        web = Web(server, pki.client_context())
        head = b"POST /kmip HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n12345"
        with web.connect() as connection, web.connect() as idle:
            connection.sendall(head)
            assert healthy(web) < 2
            server.process.terminate()
            assert idle.recv(1) == b""
            connection.sendall(b"67890")
            status, _ = answer(connection)
            assert status == 415
            assert connection.recv(1) == b""
        assert server.process.wait(15) == 0
        until(lambda: server.err is not None)
