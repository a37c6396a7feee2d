"""The KMIP listener: framing, time limits, connection limits, and the end, with an engine that only echoes."""

import contextlib
import logging
import socket
import ssl
import threading
import time

import pytest

from keystore.gate import Watched
from kmip_socket.server import Ledger
from tests.kmip_socket.conftest import HEAD, REFUSAL, message
from tests.processes import until


def receive(connection: socket.socket, length: int) -> bytes:
    data = bytearray()
    while len(data) < length and (chunk := connection.recv(length - len(data))):
        data += chunk
    return bytes(data)


def rest(connection: socket.socket) -> bytes:
    """Everything until the end, however it comes."""
    data = b""
    with contextlib.suppress(OSError):
        while chunk := connection.recv(65536):
            data += chunk
    return data


def exchange(connection: socket.socket, data: bytes) -> bytes:
    connection.sendall(data)
    return receive(connection, len(data))


def test_messages_are_answered_however_they_arrive(start):
    """Whole, byte by byte, several at once, and split in the middle: one answer each, in order."""
    client = start().client()
    one, two = message(), message(b"abcdefgh" * 5000)
    assert exchange(client, one) == one
    for byte in two[:40]:
        client.sendall(bytes([byte]))
    client.sendall(two[40:])
    assert receive(client, len(two)) == two
    assert exchange(client, one + two + one) == one + two + one
    client.sendall(one + two[:20])
    assert receive(client, len(one)) == one
    client.sendall(two[20:])
    assert receive(client, len(two)) == two


def test_a_connection_has_one_peer_with_the_verified_certificate(start, pki):
    """What the engine notes on a peer lasts as long as the connection."""
    started = start()
    client = started.client()
    exchange(client, message())
    exchange(client, message())
    exchange(started.client(), message())
    first, again, other = started.engine.peers
    assert first is again is not other
    assert (first.transport, first.address) == ("kmip", "127.0.0.1")
    assert ssl.DER_cert_to_PEM_cert(first.certificate).encode().split() == pki.client.pem.split()


BAD = {
    "another protocol": (b"\x05\x01\x00\x00\x00\x00\x00\x00", b"do not open a KMIP message"),
    "one wrong byte": (b"\x05", b"do not open a KMIP message"),
    "a response": (b"\x42\x00\x7b\x01" + bytes(4), b"do not open a KMIP message"),
    "not a structure": (b"\x42\x00\x78\x08" + bytes(4), b"do not open a KMIP message"),
    "too long": (HEAD + b"\x00\x01\x00\x00", b"over the limit"),
    "as long as can be": (HEAD + b"\xff\xff\xff\xff" + bytes(100_000), b"over the limit"),
}


@pytest.mark.parametrize("sent, words", BAD.values(), ids=BAD)
def test_what_is_no_message_is_refused_and_ends_the_connection(start, sent, words):
    """The client gets an answer that says why, then the end; the next client is served."""
    started = start(max_message_size=65536)
    client = started.client()
    with contextlib.suppress(OSError):
        client.sendall(sent)
    answer = rest(client)
    assert answer.startswith(REFUSAL)
    assert words in answer
    assert exchange(started.client(), message()) == message()


def test_a_good_message_before_a_bad_one_is_answered(start):
    """Answers stay in order, the refusal comes last."""
    client = start().client()
    client.sendall(message() + b"garbage!")
    assert rest(client).startswith(message() + REFUSAL)


def test_a_defect_ends_one_connection_only(start, caplog):
    """Others are served, and the database connection is not lost."""
    started = start(pool_size=1)
    other, client = started.client(), started.client()
    client.sendall(message(b"fail...."))
    assert rest(client) == b""
    until(lambda: "a defect" in caplog.text, "a report")
    assert exchange(other, message()) == message()
    until(lambda: started.count() == 1, "the end of the connection")


TIMEOUTS = {
    "handshake": ({"socket_server_handshake_timeout": 0.3}, False, b""),
    "idle": ({"idle_timeout": 0.3}, True, b""),
    "rest of a header": ({"message_timeout": 0.3}, True, message()[:5]),
    "rest of a message": ({"message_timeout": 0.3}, True, message()[:12]),
}


@pytest.mark.parametrize("settings, tls, sent", TIMEOUTS.values(), ids=TIMEOUTS)
def test_slow_clients_are_cut_off(start, settings, tls, sent):
    """Each phase has its limit, and nothing stays behind."""
    started = start(**settings)
    client = started.client() if tls else started.raw()
    if sent:
        client.sendall(sent)
    begun = time.monotonic()
    assert rest(client) == b""
    assert time.monotonic() - begun < 5
    until(lambda: started.count() == 0, "the end of the connection")


def test_trickling_does_not_extend_the_time_for_a_message(start):
    """The limit is for the whole rest, not for each byte."""
    client = start(message_timeout=0.5).client()
    whole = message(bytes(4000))
    sent = 0
    with contextlib.suppress(OSError):
        for byte in whole:
            client.sendall(bytes([byte]))
            sent += 1
            time.sleep(0.005)  # the behaviour under test
    assert sent < len(whole)


def test_a_client_that_takes_no_answer_is_cut_off(start):
    """Nothing of it stays behind."""
    started = start(socket_server_send_timeout=0.5)
    client = started.client()
    client.sendall(message(b"much...."))
    until(lambda: started.count() == 0, "the end of the connection")


def test_a_request_may_take_longer_than_any_limit(start):
    """Time limits are for clients, not for the engine."""
    started = start(idle_timeout=0.2, message_timeout=0.2, socket_server_send_timeout=0.2)
    client = started.client()
    client.sendall(message(b"hold...."))
    assert started.engine.held.wait(10)
    client.settimeout(1)
    with pytest.raises(TimeoutError):
        client.recv(1)
    started.engine.hold.set()
    client.settimeout(10)
    assert receive(client, 16) == message(b"hold....")


def test_probes_leave_no_trace(start, caplog):
    """Connections that close without TLS are neither warnings nor threads."""
    caplog.set_level(logging.INFO)
    started = start()
    for _ in range(20):
        started.raw().close()
    exchange(started.client(), message())
    until(lambda: started.count() == 1, "the end of the probes")
    assert [record for record in caplog.records if record.name.startswith(("kmip_socket", "keystore"))] == []


def test_a_refused_handshake_is_logged_with_its_reason(start, caplog):
    """Address and reason, in words."""
    started = start()
    anonymous = started.pki.client_context(anonymous=True)
    with contextlib.suppress(OSError), anonymous.wrap_socket(started.raw(), server_hostname="localhost") as client:
        client.recv(1)
    until(lambda: "handshake with 127.0.0.1 failed: the client sent no certificate" in caplog.text, "the line")


def test_only_the_handshake_is_watched(start, monkeypatch):
    """The callback that sees a refused certificate would cost something on each record."""
    started = start()
    door = started.server.gate
    monkeypatch.setattr(door, "_is_good", lambda address: False)
    client = started.client()
    assert exchange(client, message()) == message()
    (connection,) = started.server.connections
    assert isinstance(connection.stream, Watched)
    assert connection.stream.context is door.contexts.plain


@pytest.mark.parametrize("limit", ["max_connections", "max_connections_per_address"])
def test_connections_are_limited(start, limit):
    """One too many is closed at once, and there is room again when another leaves."""
    settings = {f"socket_server_{limit}" if limit == "max_connections" else limit: 3}
    started = start(**settings)
    clients = [started.client() for _ in range(3)]
    with pytest.raises(OSError):
        started.client()
    clients.pop().close()
    until(lambda: started.count() == 2, "the end of a connection")
    assert exchange(started.client(), message()) == message()


def test_silent_connections_do_not_keep_others_waiting(start):
    """300 clients that only connect; the next one is served at once."""
    started = start()
    for _ in range(300):
        started.raw()
    begun = time.monotonic()
    assert exchange(started.client(), message()) == message()
    assert time.monotonic() - begun < 3


@pytest.mark.parametrize(
    "body", [b"hold....", b"stuck...", b"later..."], ids=["says so", "does not say so", "goes on elsewhere"]
)
def test_what_takes_long_keeps_nobody_waiting(start, body):
    """Whoever leaves its turn lets others be served at once, and whoever does not loses it soon."""
    started = start(socket_server_handshake_timeout=2)  # It is looked after more often then.
    busy, other = started.client(), started.client()
    busy.sendall(message(body) + message(b"next...."))
    assert started.engine.held.wait(10)
    for _ in range(3):
        assert exchange(other, message()) == message()
    started.engine.hold.set()
    assert receive(busy, 32) == message(body) + message(b"next....")
    assert exchange(busy, message()) == message()


def test_as_much_at_once_as_there_are_database_connections(start):
    """What is over that waits, and is answered in its turn."""
    started = start(pool_size=3)
    clients = [started.client() for _ in range(5)]
    for client in clients:
        client.sendall(message(b"hold...."))
    until(lambda: len(started.engine.peers) == 3, "as many requests as there are database connections")
    started.engine.hold.set()
    for client in clients:
        assert receive(client, 16) == message(b"hold....")
    assert len(started.engine.peers) == 5


def test_a_slow_reader_keeps_nobody_waiting_and_gets_all(start):
    """A long answer goes out as the client takes it."""
    started = start()
    slow, other = started.client(), started.client()
    slow.sendall(message(b"much....") + message())
    until(lambda: started.engine.peers, "the request")
    assert exchange(other, message()) == message()
    assert receive(slow, 64 << 20) == bytes(64 << 20)
    assert receive(slow, 16) == message()


def test_part_of_a_tls_record_keeps_nobody_waiting(start, pki):
    """Not even the smallest piece of one."""
    started = start()
    other, raw = started.client(), started.raw()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = pki.client_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    while True:
        with contextlib.suppress(ssl.SSLWantReadError):
            client.do_handshake()
            break
        raw.sendall(outgoing.read())
        incoming.write(raw.recv(65536))
    client.write(message())
    for byte in outgoing.read():
        raw.sendall(bytes([byte]))
        assert exchange(other, message()) == message()
    answer = b""
    while not answer:
        incoming.write(raw.recv(65536))
        with contextlib.suppress(ssl.SSLWantReadError):
            answer = client.read(16)
    assert answer == message()


def test_idle_connections_have_no_threads(start):
    """However many there are."""
    started = start()
    clients = [started.client() for _ in range(40)]
    for client in clients:
        assert exchange(client, message()) == message()
    until(lambda: threading.active_count() < len(clients) / 2, "few threads")
    for client in clients:
        assert exchange(client, message()) == message()


def test_what_came_to_no_answer_ends_one_connection_only(start):
    """Where another thread was to give it, too."""
    started = start()
    client = started.client()
    client.sendall(message(b"lost....") + message())
    started.engine.hold.set()
    assert rest(client) == b""
    until(lambda: started.count() == 0, "the end of the connection")
    assert exchange(started.client(), message()) == message()


@pytest.mark.parametrize("body", [b"hold....", b"later..."], ids=["in this thread", "in another"])
def test_draining_answers_what_is_in_hand(start, body):
    """A request that has come is answered, an idle connection gets close_notify, a new one is refused."""
    started = start()
    busy, idle = started.client(), started.client(suppress_ragged_eofs=False)
    exchange(idle, message())
    busy.sendall(message(body) + message(b"next...."))
    assert started.engine.held.wait(10)
    started.server.drain()
    assert idle.recv(1) == b""  # A mere end of file would raise.
    with pytest.raises(OSError):
        started.client()
    assert started.thread.is_alive()
    started.engine.hold.set()
    assert receive(busy, 32) == message(body) + message(b"next....")
    assert rest(busy) == b""
    started.thread.join(5)
    assert not started.thread.is_alive()


def test_draining_waits_no_longer_than_the_grace_period(start):
    """A request that does not end is given up."""
    started = start(shutdown_grace=0.3)
    client = started.client()
    client.sendall(message(b"hold...."))
    assert started.engine.held.wait(10)
    begun = time.monotonic()
    started.server.drain()
    started.thread.join(10)
    assert 0.2 < time.monotonic() - begun < 3


def test_a_client_may_leave_without_close_notify(start, caplog):
    """A mere FIN is a normal end."""
    started = start()
    client = started.client()
    exchange(client, message())
    raw = socket.socket(fileno=client.detach())
    raw.shutdown(socket.SHUT_WR)
    raw.settimeout(10)
    assert rest(raw)[:1] == b"\x17"  # close_notify, encrypted
    raw.close()
    until(lambda: started.count() == 0, "the end of the connection")
    assert "lost" not in caplog.text


def test_the_ledger_counts_over_processes():
    """Connections of all processes count, and those of a process that died are forgotten."""
    ledger = Ledger(2)
    assert ledger.change(0, "10.0.0.1", +1) == (1, 1)
    assert ledger.change(1, "10.0.0.1", +1) == (2, 2)
    assert ledger.change(1, "10.0.0.2", +1) == (3, 1)
    ledger.reset(1)
    assert ledger.change(0, "10.0.0.1", +1) == (2, 2)
    assert ledger.change(0, "10.0.0.1", -1) == (1, 1)


def test_a_connection_has_no_database_of_its_own(start, django_db_blocker):
    """Connections to the database are lent for one request, so that idle clients hold none."""
    started = start(pool_size=2)
    clients = [started.client() for _ in range(20)]
    for client in clients:
        assert exchange(client, message()) == message()
    assert len(started.server.pool._free) <= 2
