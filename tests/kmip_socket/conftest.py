"""A KMIP listener in a thread, with an engine that only echoes."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator

import pytest
from django.db import connections as databases

from keystore import conf, turns
from keystore.authn import Peer
from kmip.errors import KMIPError
from kmip_socket.server import Server
from tests.certificates import Pki

HEAD = b"\x42\x00\x78\x01"
REFUSAL = b"refused: "


def message(body: bytes = b"12345678") -> bytes:
    return HEAD + len(body).to_bytes(4, "big") + body


class Later:
    """An answer that another thread gives, in its time; or none."""

    def __init__(self, engine: "Echo", answer: bytes | None) -> None:
        self.engine, self.answer = engine, answer

    def go_on(self, then: Callable[[bytes | None], None]) -> None:
        def work() -> None:
            self.engine.hold.wait(20)
            then(self.answer)

        threading.Thread(target=work, daemon=True).start()


#: Bodies that are answered so, and whether they are at all.
LATER = {b"later...": True, b"lost....": None}


class Echo:
    """Answers with the message itself; some bodies make it do other things."""

    def __init__(self) -> None:
        self.peers: list[Peer] = []
        self.hold, self.held = threading.Event(), threading.Event()

    def handle(self, data: bytes, peer: Peer, encoding: str = "ttlv", *, answer: str | None = None) -> bytes:
        self.peers.append(peer)
        if data[8:] == b"hold....":
            self.held.set()
            turns.leave()
            self.hold.wait(20)
        if data[8:] == b"stuck...":
            self.held.set()
            self.hold.wait(20)
        if data[8:] == b"fail....":
            raise RuntimeError("a defect")
        if data[8:] == b"much....":
            return bytes(64 << 20)
        return data

    def begin(self, data: bytes, peer: Peer) -> "bytes | Later":
        if data[8:] in LATER:
            self.held.set()
            return Later(self, LATER[data[8:]] and data)
        return self.handle(data, peer)

    def handle_http(self, data: bytes, peer: Peer) -> tuple[int, str, bytes]:
        self.peers.append(peer)
        return 422, "application/json", data

    def refusal(self, error: KMIPError) -> bytes:
        return REFUSAL + str(error).encode()


@pytest.fixture(scope="module")
def pki(tmp_path_factory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


class Started:
    """A server in a thread, and clients of it."""

    def __init__(self, pki: Pki, engine: object = None, *, database: bool = False, **settings: str) -> None:
        self.pki, self.engine = pki, engine or Echo()
        config = conf.load(
            {}, pki.settings() | {f"KMS_{name.upper()}": str(value) for name, value in settings.items()}, []
        )
        listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.address = listener.getsockname()
        self.server = Server(listener, config, self.engine, database=database)
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()
        self.open: list[socket.socket] = []

    def _serve(self) -> None:
        self.server.serve()
        databases.close_all()

    def raw(self) -> socket.socket:
        connection = socket.create_connection(self.address, timeout=15)
        self.open.append(connection)
        return connection

    def client(self, **options: object) -> ssl.SSLSocket:
        connection = self.pki.client_context().wrap_socket(self.raw(), server_hostname="localhost", **options)
        self.open.append(connection)
        return connection

    def count(self) -> int:
        return len(self.server.connections)

    def close(self) -> None:
        if isinstance(self.engine, Echo):
            self.engine.hold.set()
        for connection in self.open:
            connection.close()
        self.server.drain()
        self.thread.join(15)
        assert not self.thread.is_alive()


@pytest.fixture
def start(pki) -> Iterator[Callable[..., Started]]:
    with contextlib.ExitStack() as stack:

        def begin(**settings: object) -> Started:
            started = Started(pki, **settings)
            stack.callback(started.close)
            return started

        yield begin
    threading.stack_size(0)
