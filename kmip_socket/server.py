"""KMIP over TLS: accepts connections, reads whole messages, sends the engine's answers.

Connections are served by a crew of few threads (`crew`), from the handshake on. A timeout of a socket in Python costs
two system calls a request, so there are none; instead each connection carries a deadline, and the accepting thread cuts
off those that are over theirs. What a message means is the engine's business."""

import contextlib
import logging
import mmap
import os
import select
import selectors
import signal
import socket
import ssl
import struct
import threading
import time
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from django.db import DatabaseError
from django.db import connections as databases

from keystore import (
    checks,
    conf,
    exposition,
    gate,
    handshakes,
    http1,
    revocation,
    supervisor,
    tls,
    turns,
    web,
)
from keystore.authn import Peer
from keystore.conf import Config
from keystore.database.watch import watch
from keystore.pool import Pool
from kmip.errors import KMIPError
from kmip.tags import Tag
from kmip.ttlv import Reader
from kmip_socket.crew import READING, WRITING, Crew

log = logging.getLogger(__name__)

READ_SIZE = 65536  # One TLS record is at most 16 KiB; a message mostly comes in one.
STACK_SIZE = 512 * 1024  # Address space; what is touched counts.
TICK = 1.0  # How late a deadline may be noticed.
NEVER = float("inf")
LOOK = 0.25  # Seconds between looks for what a client that took the server role is to be told.
LARGE = 262_144  # Bytes of a message from which on its cryptography is not brief.
NOTHING = memoryview(b"")
LINGER = 2.0  # How long a client may go on sending what nobody reads any more, so that it sees the answer.


class Engine(web.Engine, Protocol):
    """What answers: messages, and errors that kept a message from being one."""

    def begin(self, data: bytes, peer: Peer) -> "bytes | Waiting":
        """The response to a message, or what it will come of."""

    def refusal(self, error: KMIPError) -> bytes:
        """The response to bytes that are no request."""

    def courier(self, peer: Peer) -> "Courier":
        """What is sent to a client that took the server role."""

    def exchange(self, data: bytes, peer: Peer, courier: "Courier") -> bytes | None:
        """Take a message of such a client; what to answer, if anything."""


class Waiting(Protocol):
    """A request whose answer is yet to come."""

    def go_on(self, then: Callable[[bytes | None], None]) -> None:
        """Have `then` called with the answer in another thread, or with None where there is none."""


class Courier(Protocol):
    """What the server sends on a connection, one request at a time."""

    #: Whether the response to the last one is still to come.
    waiting: object

    def next(self) -> bytes | None:
        """The next request."""

    def lost(self) -> None:
        """The connection has ended."""


class Ledger:
    """Open connections of all KMIP processes, counted in memory that they share: in total and by address.

    Addresses share a cell with one in 4096 others, which only makes the limit stricter for both."""

    CELLS = 4096

    def __init__(self, processes: int) -> None:
        self._row = (self.CELLS + 1) * 4
        self._memory = mmap.mmap(-1, processes * self._row)
        self._processes = processes
        self._lock = threading.Lock()

    def reset(self, process: int) -> None:
        """Forget what a process counted that is no more."""
        start = process * self._row
        self._memory[start : start + self._row] = bytes(self._row)

    def change(self, process: int, address: str, by: int) -> tuple[int, int]:
        """Count a connection of a process in or out; all connections, and those from the address."""
        cell = 1 + zlib.crc32(address.encode()) % self.CELLS
        with self._lock:
            return self._add(process, 0, by), self._add(process, cell, by)

    def _add(self, process: int, cell: int, by: int) -> int:
        memory, offset = self._memory, cell * 4
        mine = process * self._row + offset
        struct.pack_into("=i", memory, mine, struct.unpack_from("=i", memory, mine)[0] + by)
        return sum(struct.unpack_from("=i", memory, row * self._row + offset)[0] for row in range(self._processes))


class Server:
    """One KMIP process on a listening socket that others may accept from as well."""

    def __init__(
        self,
        listener: socket.socket,
        config: Config,
        engine: Engine,
        *,
        contexts: gate.Contexts | None = None,
        database: bool = False,
        ledger: Ledger | None = None,
        process: int = 0,
    ) -> None:
        self.listener, self.engine, self.settings = listener, engine, config.socket_server
        self.config, self.grace = config, config.server.shutdown_grace
        self.gate = gate.Gate("kmip", contexts or gate.contexts(config, "kmip"), database=database)
        self.gate.on_change = lambda: self._later(self._cut_revoked)
        self.ledger, self.process = ledger or Ledger(1), process
        self.ledger.reset(process)
        self.pool = Pool(config.db.pool_size)
        # A request in hand has a database connection, so more threads would wait for one another.
        self.crew = Crew(config.db.pool_size)
        self.draining = False
        self._stamps = revocation.stamps(config)
        self.connections: set[Connection] = set()
        self._actions: list[Callable[[], None]] = []
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)

    # From other threads and from signal handlers.

    def drain(self) -> None:
        """Take no more connections, answer the requests in hand, close the others, and let `serve` return."""
        self._later(self._begin_draining)

    def reload(self) -> None:
        """Use the certificates and CAs that the configuration now names for connections yet to come."""
        self._later(self._reload)

    def _later(self, action: Callable[[], None]) -> None:
        self._actions.append(action)
        with contextlib.suppress(OSError):  # Full, and so awake already; or closed, and all is over.
            self._wake_writer.send(b"\0")

    # The accepting thread.

    def serve(self) -> None:
        """Accept and watch connections until drained."""
        threading.stack_size(STACK_SIZE)
        self.listener.setblocking(False)
        settings = self.settings
        shortest = min(
            settings.handshake_timeout, settings.idle_timeout, settings.message_timeout, settings.send_timeout
        )
        tick = min(TICK, shortest / 4)
        next_sweep = time.monotonic() + tick
        self.gate.start()
        self.crew.start()
        supervisor.report_ready()
        with selectors.DefaultSelector() as selector:
            selector.register(self.listener, selectors.EVENT_READ, self._accept)
            selector.register(self._wake_reader, selectors.EVENT_READ, self._wake)
            while not self.draining:
                for key, _ in selector.select(max(0.0, next_sweep - time.monotonic())):
                    key.data()
                if time.monotonic() >= next_sweep:
                    self._sweep()
                    self._publish()
                    supervisor.pulse.beat()
                    next_sweep = time.monotonic() + tick
        self._finish()

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wake_reader.recv(64)
        while self._actions:
            self._actions.pop(0)()

    def _begin_draining(self) -> None:
        self.draining = True

    def _reload(self) -> None:
        try:
            self.config = checks.reloaded()
        except conf.ConfigError as error:
            log.error("certificates not reloaded: %s", error)
            return
        if self.gate.reload(self.config):
            log.info("certificates reloaded")

    def _cut_revoked(self) -> None:
        """End the connections whose certificate has been revoked; a request in hand is answered."""
        for client in list(self.connections):
            if self.gate.is_out(client.shown):
                client.cut(socket.SHUT_RD)

    def _accept(self) -> None:
        try:
            connection, address = self.listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return  # Another process was quicker, or the client gave up.
        except OSError as exc:
            log.error("cannot accept connections: %s", exc.strerror)
            time.sleep(0.1)  # Out of file descriptors: the connection stays in the queue, and so would this loop.
            return
        total, here = self.ledger.change(self.process, address[0], +1)
        if total > self.settings.max_connections or here > self.settings.max_connections_per_address:
            log.warning("connection from %s refused: %d open, %d of them from there", address[0], total - 1, here - 1)
            self._forget(connection, address[0])
            return
        client = Connection(self, connection, address[0])
        self.connections.add(client)
        try:
            client.begin()
        except OSError as exc:  # The client has gone.
            log.debug("connection with %s lost: %s", address[0], exc)
            self.connections.discard(client)
            self._forget(connection, address[0])

    def _forget(self, connection: socket.socket, address: str) -> None:
        connection.close()
        self.ledger.change(self.process, address, -1)

    def left(self, client: "Connection") -> None:
        """Stop watching a connection that its thread has closed."""
        self.connections.discard(client)
        self.ledger.change(self.process, client.address, -1)

    def _sweep(self) -> None:
        """Cut off the connections that are over their deadline; notice changed CAs and revocation lists, and work that
        keeps other clients waiting."""
        stamps = revocation.stamps(self.config)
        if stamps != self._stamps:
            self._stamps = stamps
            self._reload()
        self.crew.look()
        now = time.monotonic()
        for client in list(self.connections):
            if client.deadline < now:
                client.cut(socket.SHUT_RD if client.idle else socket.SHUT_RDWR)

    def _publish(self) -> None:
        exposition.publish("kmip", len(self.connections), self.pool)

    def _finish(self) -> None:
        """Wait for requests in hand, at most the grace period, while idle connections are closed."""
        self.listener.close()
        end = time.monotonic() + self.grace
        while self.connections and time.monotonic() < end:
            self.crew.look()
            for client in list(self.connections):
                if client.idle:
                    client.cut(socket.SHUT_RD)
            time.sleep(0.02)
        for client in list(self.connections):
            client.cut(socket.SHUT_RDWR)
        self.crew.stop()
        self.gate.stop()
        self.pool.close()
        self._wake_reader.close()
        self._wake_writer.close()


class Connection:
    """One client."""

    __slots__ = ("_answer", "_hello", "_limit", "_peer", "_reader", "_step", "_unsent", "address", "begun", "deadline",
                 "idle", "server", "shown", "stream")  # fmt: skip

    def __init__(self, server: Server, connection: socket.socket, address: str) -> None:
        self.server, self.address = server, address
        self.stream: Any = connection
        self.deadline = time.monotonic() + server.settings.handshake_timeout
        #: Whether it waits between requests, and whether part of one is here, which has until `_limit` to be whole.
        self.idle = self.begun = False
        self._limit = NEVER
        self.shown = gate.Shown()
        self._peer = Peer("kmip", address)
        #: What is done when the connection is ready, and what the client has opened its handshake with.
        self._step: Callable[[], int | None] = self._shake
        self._hello: handshakes.Hello | None = None
        #: What takes the bytes that come, and what answers the requests in them: chosen when the first ones are here.
        self._reader: Reader | http1.Requests | None = None
        self._answer: Callable[[], int | None] = self._close
        #: What the client has yet to take of an answer.
        self._unsent: memoryview | None = None

    def cut(self, how: int) -> None:
        """End the connection from outside its thread, which then reads an end of file or fails to write."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self.stream, how)  # SSLSocket's own would drop the TLS state under the thread.

    def apart(self, work: Callable[[], int | None]) -> None:
        """Do something that waits for the client, in a thread of its own; then, if it says what to wait for, the crew
        goes on. Raises `RuntimeError` where there can be no more threads."""
        threading.Thread(target=self._apart, args=(work,), name=f"kmip {self.address}", daemon=True).start()

    def _apart(self, work: Callable[[], int | None]) -> None:
        wanted = self._guarded(work)
        if wanted is not None:
            self.server.crew.add(self.stream.fileno(), self, wanted)

    def go_on(self) -> int | None:
        """Serve the client now that it has sent something, or takes more of an answer: what to wait for next, `READING`
        or `WRITING`; None where that is the crew's business no more."""
        return self._guarded(self._step)

    def _guarded(self, work: Callable[[], int | None]) -> int | None:
        try:
            return work()
        except tls.HandshakeFailed as exc:
            level = logging.DEBUG if exc.probe else logging.WARNING
            log.log(level, "handshake with %s failed: %s", self.address, exc.reason)
        except OSError as exc:
            log.debug("connection with %s lost: %s", self.address, exc)
        except Exception:
            log.exception("connection with %s ended by a defect", self.address)
        self._end()
        return None

    def _end(self) -> None:
        self.server.crew.remove(self.stream.fileno())
        self.stream.close()
        self.server.left(self)

    def _close(self) -> None:
        """Say goodbye in TLS without waiting for the client to do so, and end the connection."""
        self._say_goodbye()
        self._end()

    def _leave_crew(self, work: Callable[[], int | None]) -> None:
        """Go on in a thread of its own, with something that waits for the client."""
        self.server.crew.remove(self.stream.fileno())
        self.stream.setblocking(True)
        try:
            self.apart(work)
        except RuntimeError as exc:
            log.error("connection with %s ended: %s", self.address, exc)
            self._end()

    def begin(self) -> None:
        """Have the crew serve the client; raises `OSError` where it has gone already."""
        self.stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self.stream.setblocking(False)
        self.server.crew.add(self.stream.fileno(), self)

    def _shake(self) -> int | None:
        """Go on with the handshake, a millisecond or two of work in all."""
        door = self.server.gate
        try:
            if self._hello is None:
                self._hello = handshakes.read_hello(gate.peek(self.stream))
                self.stream = door.wrap(self.stream, self.address)
            self.shown = shown = door.shake(self.stream, self.address, self._hello)
        except (BlockingIOError, ssl.SSLWantReadError):
            return READING
        except ssl.SSLWantWriteError:
            return WRITING
        self._peer = peer = Peer("kmip", self.address, shown.certificate, chain=shown.chain)
        if door.database:
            self._introduce(peer, self._hello)
        self._hello, self._step = None, self._go_on
        return self._wait(part=False)

    def _introduce(self, peer: Peer, hello: handshakes.Hello) -> None:
        """Let the gate find out who the client is, on a database connection of the pool."""
        with self.server.pool.lent():
            self.server.gate.introduce(peer, hello)

    def _wait(self, *, part: bool) -> int | None:
        """Wait for more bytes, with `part` of a message here already; not for another message while draining. A message
        has its time from its first bytes on, however many pieces it comes in."""
        settings, now = self.server.settings, time.monotonic()
        if not part:
            self.begun, self.deadline, self.idle = False, now + settings.idle_timeout, True
            if self.server.draining:
                return self._close()
        else:
            if not self.begun:
                self.begun, self._limit = True, now + settings.message_timeout
            self.deadline = self._limit
        return READING

    def _go_on(self) -> int | None:
        deadline, self.deadline, self.idle = self.deadline, NEVER, False
        if self._unsent is not None:
            if self._unsent and not self._send(self._unsent):
                self.deadline = deadline
                return WRITING
            self._unsent = None
            return self._answer()
        try:
            # More than a TLS record holds: nothing stays behind where the poller does not see it.
            data = self.stream.recv(READ_SIZE)
        except ssl.SSLWantReadError:  # Part of a record.
            self.deadline, self.idle = deadline, not self.begun
            return READING
        if not data:
            return self._close()
        if self._reader is None:
            self._choose(data)
        self._reader.feed(data)  # type: ignore[union-attr] # chosen
        return self._answer()

    def _choose(self, data: bytes) -> None:
        """Speak what the client's first bytes are of."""
        if http1.begins(data):
            self._reader, self._answer = http1.Requests(self.server.config.http.max_body_size), self._answer_http
        else:
            self._reader, self._answer = Reader(self.server.settings.max_message_size), self._answer_kmip

    def _give(self, data: bytes) -> bool:
        """Send an answer; False where the client has not taken all of it yet."""
        if self._send(data):
            return True
        self.deadline = time.monotonic() + self.server.settings.send_timeout
        return False

    def _send(self, data: bytes | memoryview) -> bool:
        """Send what the client takes now, and keep the rest; whether nothing is left."""
        try:
            sent = self.stream.send(data)
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
            sent = 0
        if sent == len(data):
            return True
        self._unsent = memoryview(data)[sent:]
        return False

    def _answer_kmip(self) -> int | None:
        """Answer messages in the order in which they come."""
        server, reader, peer = self.server, self._reader, self._peer
        assert isinstance(reader, Reader)
        while True:
            if peer.serves is not None:
                return self._leave_crew(self._serve)
            try:
                message = reader.next()
            except KMIPError as error:
                log.info("%s sent no request: %s", self.address, error)
                return self._refuse(server.engine.refusal(error))
            if message is None:
                return self._wait(part=bool(reader))
            if server.gate.is_out(self.shown):
                return self._close()
            if len(message) > LARGE:
                turns.leave()
            database = server.pool.lend()
            try:
                answer = server.engine.begin(message, peer)
            finally:
                server.pool.take_back(database)
            self.begun = False
            if not isinstance(answer, bytes):
                server.crew.rest(self.stream.fileno())
                # From here on the connection is the other thread's.
                answer.go_on(self._answered)
                return None
            if not self._give(answer):
                return WRITING

    def _answered(self, answer: bytes | None) -> None:
        """Send an answer that was yet to come; the crew goes on with what the client has sent meanwhile."""
        wanted = self._guarded(lambda: self._give_late(answer))
        if wanted is not None:
            self.server.crew.go_on(self.stream.fileno(), wanted)

    def _give_late(self, answer: bytes | None) -> int | None:
        if answer is None:
            return self._close()
        if not self._give(answer):
            return WRITING
        if self._reader or self._peer.serves is not None:
            # There is more to do than to wait, which is the crew's: it comes at once, as the client takes more.
            self._unsent = NOTHING
            return WRITING
        return self._wait(part=False)

    def _answer_http(self) -> int | None:
        """Answer HTTP requests in the order in which they come."""
        server, requests = self.server, self._reader
        assert isinstance(requests, http1.Requests)
        while (request := requests.next()) is not None:
            if server.gate.is_out(self.shown):
                return self._close()
            self._peer = peer = self._peer_of(request, self._peer)
            if len(request.body) > LARGE:
                turns.leave()
            with server.pool.lent():
                reply = self._reply(request, peer)
            self.begun = False
            answer = http1.encode(reply, keep_alive=request.keep_alive)
            if not request.keep_alive:
                return self._leave_crew(partial(self._say_last, answer))
            if not self._give(answer):
                return WRITING
        if requests.refusal is not None:
            log.info("%s sent no request: %s", self.address, requests.refusal.body.decode())
            return self._refuse(http1.encode(requests.refusal, keep_alive=False))
        if (invitation := requests.invitation()) and not self._give(invitation):
            return WRITING
        return self._wait(part=requests.begun)

    def _reply(self, request: http1.Request, peer: Peer) -> web.Reply:
        answer = web.PATHS.get(request.path)
        if answer is None:
            return web.Reply(404, web.PLAIN, f"use one of {', '.join(web.PATHS)}".encode())
        return answer(self.server.engine, request.headers.get("Content-Type", ""), request.body, peer)

    def _peer_of(self, request: http1.Request, peer: Peer) -> Peer:
        """Who sent a request: the same as before for as long as its credential is the same."""
        credential = request.headers.get("Authorization")
        if peer.transport != "http" or peer.headers.get("Authorization") != credential:
            return Peer("http", self.address, peer.certificate, request.headers, chain=peer.chain)
        peer.headers = request.headers
        return peer

    # What waits for the client, in a thread of its own.

    def _serve(self) -> int | None:
        """Be told by the server what there is to tell, until the client takes the server role no more."""
        if not self._exchange():
            return self._close()
        self.stream.setblocking(False)
        return self._answer()

    def _exchange(self) -> bool:
        """Send the server's own requests to a client that took the server role, and answer the client's, until it gives
        the role back; False where the connection is to end."""
        server, connection, peer, reader = self.server, self.stream, self._peer, self._reader
        assert isinstance(reader, Reader)
        courier = server.engine.courier(peer)
        reader.accept(Tag.RESPONSE_MESSAGE)
        ready = select.poll()
        ready.register(connection, select.POLLIN)
        begun = False
        try:
            while peer.serves is not None:
                message = reader.next()
                if server.gate.is_out(self.shown):
                    return False
                if message is not None:
                    begun = False
                    self._tell(self._lent(lambda data=message: server.engine.exchange(data, peer, courier)))
                    continue
                if courier.waiting is None and not reader:
                    if self._tell(self._lent(courier.next)):
                        continue
                    begun, self.deadline, self.idle = False, NEVER, True
                    if server.draining:
                        return False
                elif not begun:
                    begun, self.deadline = True, time.monotonic() + server.settings.message_timeout
                if not connection.pending() and not ready.poll(LOOK * 1000):
                    continue
                self.idle = False
                self.deadline = min(self.deadline, time.monotonic() + server.settings.message_timeout)
                data = connection.recv(READ_SIZE)
                if not data:
                    return False
                reader.feed(data)
        except KMIPError as error:
            log.info("%s is told nothing more: %s", self.address, error)
            return False
        finally:
            self._lent(courier.lost)
        return True

    def _lent(self, work: Callable[[], bytes | None]) -> bytes | None:
        """Do something with a connection to the database; nothing while that is away."""
        with self.server.pool.lent():
            try:
                return work()
            except DatabaseError as exc:
                log.warning("notifications of %s wait: %s", self.address, exc)
                return None

    def _tell(self, data: bytes | None) -> bool:
        """Send a message, if there is one; whether there was."""
        if data is None:
            return False
        self.idle, self.deadline = False, time.monotonic() + self.server.settings.send_timeout
        self.stream.sendall(data)
        return True

    def _say_last(self, answer: bytes) -> None:
        """Send an answer after which nothing more is wanted."""
        self._tell(answer)
        self._close()

    def _refuse(self, answer: bytes) -> None:
        """Send a last answer to a client that may still be sending."""
        self._leave_crew(partial(self._linger, answer))

    def _linger(self, answer: bytes) -> None:
        self.deadline = time.monotonic() + LINGER
        self.stream.sendall(answer)
        self._say_goodbye()
        # Closing with unread data would reset the connection, and the client might lose the answer.
        raw = socket.socket(fileno=os.dup(self.stream.fileno()))
        with raw:
            raw.setblocking(True)
            raw.shutdown(socket.SHUT_WR)
            while raw.recv(READ_SIZE):
                pass
        self._end()

    def _say_goodbye(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self.stream.setblocking(False)
            self.stream.unwrap()


def run(server: Server) -> None:
    """Serve in the main thread of a process, with TERM to drain and HUP to reload."""
    signal.signal(signal.SIGTERM, lambda *_: server.drain())
    signal.signal(signal.SIGHUP, lambda *_: server.reload())
    watch.start()
    server.serve()
    databases.close_all()


def children(config: Config) -> list[supervisor.Child]:
    """The KMIP processes; none, and a line that says why, if the configuration does not ask for them."""
    if not checks.wants_kmip(config):
        log.info("KMIP listener not started: %s", checks.kmip_missing(config) or "socket_server_start is false")
        return []
    from keystore import engine  # Not before it is needed: it brings every table of the protocol.

    settings = config.socket_server
    listener = supervisor.bind(
        config, "socket_server.socket_server_port", settings.socket_server_hostname, settings.socket_server_port
    )
    count = conf.processes(settings.workers)
    # Made once, before the fork: the processes share the keys of session tickets and the count of connections.
    both, ledger = gate.contexts(config, "kmip"), Ledger(count)

    def child(process: int) -> supervisor.Child:
        def serve() -> None:
            run(Server(listener, config, engine, contexts=both, database=True, ledger=ledger, process=process))

        return supervisor.Child(f"kmip-{process}", serve, sealed=True)

    return [child(process) for process in range(count)]
