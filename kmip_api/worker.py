"""gunicorn's threaded worker, hardened: nobody occupies a thread by being slow.

The stock worker does the TLS handshake and the waiting for a request in a pool thread, so that a few clients who only
connect stop the service. Here a connection waits in the poller, under a deadline, until its handshake can go on or a
whole request is there; a thread is used only for what can be done at once. KMIP requests that are plain (all here, with
a length, one at a time) are answered right there: gunicorn's parser and Django would cost more than the answer."""

import contextlib
import errno
import logging
import re
import select
import selectors
import signal
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterable
from concurrent import futures
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, ClassVar

from django.conf import settings
from django.http.request import split_domain_port, validate_host
from gunicorn import http
from gunicorn.app.wsgiapp import WSGIApplication
from gunicorn.workers.gthread import ThreadWorker

from keystore import (
    checks,
    conf,
    engine,
    exposition,
    gate,
    handshakes,
    http1,
    nodes,
    revocation,
    sealing,
    supervisor,
    tls,
    web,
)
from keystore.authn import Peer
from keystore.database.watch import watch
from keystore.pool import Pool
from keystore.proxies import client_address
from kmip_api import views

log = logging.getLogger(__name__)

READ_SIZE = 65536
HEAD_LIMIT = 65536  # Beyond this gunicorn's own limits on lines and fields have long been passed.
BODY_LIMIT = 1 << 20  # Larger bodies, and those of unknown length, are read by the thread that wants them.
CONTENT_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,18})[ \t]*\r\n", re.IGNORECASE)
NEVER = float("inf")
RELOAD = signal.SIGHUP
LINGER = 2.0  # For a client to see an answer given before it has sent everything.
# A client that has been answered may have its next request on its way. While nobody needs the thread it waits this long
# for it, in seconds: parking the connection and waking another thread cost as much as a small request.
STAY = 0.005
STACK_SIZE = 512 * 1024
HOST_LIMIT = 300  # A name has at most 253 characters (RFC 1035, 2.3.4), a port six more.
#: How the requests begin that are answered without Django.
KMIP_REQUESTS = tuple(f"POST {path} ".encode() for path in web.PATHS)

# What is to become of a connection after a step.
READ, WRITE, CLOSE = selectors.EVENT_READ, selectors.EVENT_WRITE, 0


class Connection:
    """One client: what it has sent so far, and until when it may take for the rest."""

    def __init__(self, cfg: Any, sock: socket.socket, client: Any, server: Any) -> None:
        self.sock, self.client, self.server = sock, client, server
        self.parser = http.get_parser(cfg, sock, client)
        self.buffer = bytearray()
        self.deadline = NEVER
        self.shaken = not isinstance(sock, ssl.SSLSocket)
        self.closing = False
        self.length = 0  # Of the request at the beginning of the buffer, once that is whole; 0 where it is not known.
        # What the application may keep for as long as the connection lasts.
        self.notes: dict[str, object] = {}
        self.shown = gate.Shown()
        self.hello: handshakes.Hello | None = None

    def whole(self) -> bool:
        """Whether the buffer holds a request that can be answered without waiting for the client."""
        self.length = 0
        head = self.buffer.find(b"\r\n\r\n")
        if head < 0:
            return len(self.buffer) > HEAD_LIMIT
        length = CONTENT_LENGTH.search(self.buffer, 0, head + 4)
        if length is None or int(length[1]) > BODY_LIMIT:
            return True
        self.length = head + 4 + int(length[1])
        return len(self.buffer) >= self.length


class Worker(ThreadWorker):  # type: ignore[misc] # gunicorn has no types
    """Threads for requests, a poller for everything that waits."""

    contexts: ClassVar[gate.Contexts | None] = None
    bound: ClassVar[socket.socket | None] = None
    speaks_kmip: ClassVar[bool] = True

    @classmethod
    def processes(cls, config: conf.Config) -> int:
        """How many there are to be."""
        return conf.processes(config.http.workers)

    @classmethod
    def load_context(cls, config: conf.Config) -> None:
        """Use these certificates for connections yet to come, here and in processes forked from here."""
        cls.contexts = gate.contexts(config, "http") if conf.has_tls(config) else None

    # The poller's thread.

    def init_process(self) -> None:
        self.settings = conf.current().http
        self.stamps, self.look_again = revocation.stamps(conf.current()), 0.0
        self.waiting: set[Connection] = set()
        self.unserved: set[Connection] = set()  # Woken, and not yet in a thread.
        self.serving = threading.local()
        threading.stack_size(STACK_SIZE)
        self.gate = gate.Gate("http", self.contexts, database=True)
        self.pool = Pool(conf.current().db.pool_size)
        super().init_process()

    def init_signals(self) -> None:
        super().init_signals()
        signal.signal(RELOAD, lambda *_: self.method_queue.defer(self.reload))

    def notice_changes(self) -> None:
        """Load CAs and revocation lists again when their files have changed, and say how this process is."""
        now = time.monotonic()
        if now < self.look_again:
            return
        self.look_again = now + 1.0
        exposition.publish("http", self.nr_conns, self.pool)
        stamps = revocation.stamps(conf.current())
        if stamps != self.stamps:
            self.stamps = stamps
            self.reload()

    def reload(self) -> None:
        """Read certificates and CAs again; connections that are open keep theirs."""
        reload_context()
        self.gate.use(self.contexts)

    def load_wsgi(self) -> None:
        """Let the application see who is at the other end."""
        super().load_wsgi()
        self.checks_host = "*" not in settings.ALLOWED_HOSTS
        application = self.wsgi

        def with_connection(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
            connection = self.serving.connection
            environ["kms.peer_certificate"] = connection.shown.certificate
            environ["kms.peer_chain"] = connection.shown.chain
            environ["kms.connection"] = connection.notes
            return application(environ, start_response)  # type: ignore[no-any-return]

        self.wsgi = with_connection

    def run(self) -> None:
        """Serve until told to stop, then finish what is in hand."""
        self.poller.register(self.method_queue.fileno(), selectors.EVENT_READ, self.method_queue.run_callbacks)
        watch.start()
        self.gate.start()
        heart = nodes.Heart()
        heart.start()
        self.set_accept_enabled(True)
        while self.alive and self.is_parent_alive():
            self.notify()
            supervisor.pulse.beat()
            if (room := self.nr_conns < self.worker_connections) != self._accepting:
                self.set_accept_enabled(room)
            self.wait_for_and_dispatch_events(timeout=1.0)
            self.sweep(time.monotonic())
            self.notice_changes()
        self.set_accept_enabled(False)
        self.wait_for_and_dispatch_events(timeout=0)  # Requests that are already here count as in hand.
        end = time.monotonic() + self.cfg.graceful_timeout
        while self.nr_conns > 0 and (now := time.monotonic()) < end:
            self.notify()
            self.sweep(now, idle_too=True)
            self.wait_for_and_dispatch_events(timeout=0.05)
        heart.stop()
        self.gate.stop()
        self.tpool.shutdown(wait=False)
        self.pool.close()
        self.poller.close()
        self.method_queue.close()
        for listener in self.sockets:
            listener.close()

    def accept(self, listener: Any) -> None:
        try:
            sock, client = listener.accept()
        except OSError as exc:
            if exc.errno in (errno.EMFILE, errno.ENFILE):
                self.log.error("cannot accept connections: %s", exc.strerror)
                time.sleep(0.1)
            return
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setblocking(False)
            sock = self.gate.wrap(sock, client[0])
        except OSError:
            sock.close()
            return
        self.nr_conns += 1
        connection = Connection(self.cfg, sock, client, listener.getsockname())
        connection.deadline = time.monotonic() + self.settings.handshake_timeout
        self.park(connection, READ)

    def park(self, connection: Connection, event: int) -> None:
        """Wait in the poller until the client has done something."""
        self.waiting.add(connection)
        self.poller.register(connection.sock, event, partial(self.wake, connection))

    def wake(self, connection: Connection, _sock: object = None) -> None:
        """Give the connection a thread for what it can do now."""
        self.unpark(connection)
        self.unserved.add(connection)
        self.tpool.submit(self.step, connection).add_done_callback(
            lambda future: self.method_queue.defer(self.after, connection, future)
        )

    def unpark(self, connection: Connection) -> None:
        self.waiting.discard(connection)
        with contextlib.suppress(KeyError, ValueError):
            self.poller.unregister(connection.sock)

    def after(self, connection: Connection, future: "futures.Future[int]") -> None:
        """Park or close the connection after a step."""
        event = CLOSE if future.cancelled() or future.exception() else future.result()
        if event == CLOSE:
            self.discard(connection)
        else:
            self.park(connection, event)

    def discard(self, connection: Connection) -> None:
        self.unpark(connection)
        self.nr_conns -= 1
        with contextlib.suppress(OSError):
            connection.sock.close()

    def sweep(self, now: float, *, idle_too: bool = False) -> None:
        """Close the connections that are over their deadline; when stopping, those without a request too."""
        for connection in list(self.waiting):
            idle = connection.shaken and not connection.buffer and not connection.closing
            if connection.deadline < now or (idle_too and idle):
                with contextlib.suppress(OSError, ValueError):
                    if connection.shaken and isinstance(connection.sock, ssl.SSLSocket):
                        connection.sock.unwrap()
                self.discard(connection)

    # The pool's threads.

    def step(self, connection: Connection) -> int:
        """Go on as far as possible without waiting for long: what to wait for next."""
        self.unserved.discard(connection)
        answered = False
        try:
            connection.sock.setblocking(False)
            while True:
                if connection.closing:
                    if not connection.sock.recv(READ_SIZE):
                        return CLOSE
                elif not connection.shaken:
                    self.shake(connection)
                    connection.shaken = True
                    connection.deadline = time.monotonic() + self.settings.keep_alive
                elif self.gate.is_out(connection.shown):
                    return CLOSE
                elif not connection.whole():
                    if answered and self.is_silent(connection):
                        return READ
                    answered = False
                    self.read_more(connection)
                elif self.answer(connection):
                    answered = True
                else:
                    self.say_goodbye(connection)
        except (BlockingIOError, ssl.SSLWantReadError):
            return READ
        except ssl.SSLWantWriteError:
            return WRITE
        except tls.HandshakeFailed as exc:
            level = logging.DEBUG if exc.probe else logging.WARNING
            log.log(level, "handshake with %s failed: %s", connection.client[0], exc.reason)
        except (OSError, ValueError, EOFError):
            pass  # The client is gone.
        except Exception:
            log.exception("connection with %s ended", connection.client[0])
        return CLOSE

    def is_silent(self, connection: Connection) -> bool:
        """Whether a client that has just been answered sends nothing more for as long as the thread can be spared."""
        sock = connection.sock
        if connection.buffer or self.unserved or not self.alive:
            return False
        if isinstance(sock, ssl.SSLSocket) and sock.pending():
            return False
        ready = select.poll()
        ready.register(sock, select.POLLIN)
        return not ready.poll(STAY * 1000)

    def shake(self, connection: Connection) -> None:
        """Go on with the handshake, and note whose certificate it brought."""
        sock: Any = connection.sock
        if connection.hello is None:
            connection.hello = handshakes.read_hello(gate.peek(sock))
        address = connection.client[0]
        connection.shown = shown = self.gate.shake(sock, address, connection.hello)
        with self.pool.lent():
            self.gate.introduce(Peer("http", address, shown.certificate, chain=shown.chain), connection.hello)

    def read_more(self, connection: Connection) -> None:
        """Take what the client has sent; its time runs from the first byte of a request."""
        data = connection.sock.recv(READ_SIZE)
        if not data:
            raise EOFError
        now = time.monotonic()
        if not connection.buffer:
            connection.deadline = now + self.settings.header_timeout
        had_head = b"\r\n\r\n" in connection.buffer
        connection.buffer += data
        if not had_head and b"\r\n\r\n" in connection.buffer:
            connection.deadline = now + self.settings.body_timeout

    def answer(self, connection: Connection) -> bool:
        """Answer one request; whether the connection stays open."""
        buffer = connection.buffer
        if self.speaks_kmip and len(buffer) == connection.length and buffer.startswith(KMIP_REQUESTS):
            request = http1.only(bytes(buffer), self.settings.max_body_size)
            if request is not None and not sealing.is_sealed() and self.is_meant(request):
                return self.answer_kmip(connection, request)
        return self.answer_any(connection)

    def is_meant(self, request: http1.Request) -> bool:
        """Whether a request names a host of ours: a web page must not reach loopback by a name of its own."""
        return not self.checks_host or is_ours(request.headers.get("Host", "")[:HOST_LIMIT])

    def answer_kmip(self, connection: Connection, request: http1.Request) -> bool:
        """Let the engine answer a request, as the view would."""
        headers, shown = request.headers, connection.shown
        hops = {"REMOTE_ADDR": connection.client[0], "HTTP_X_FORWARDED_FOR": headers.get("X-Forwarded-For", "")}
        peer = views.kept_peer(connection.notes, client_address(hops), headers, shown.certificate, shown.chain)
        with self.pool.lent():
            reply = web.PATHS[request.path](engine, headers.get("Content-Type", ""), request.body, peer)
        stays = request.keep_alive and self.alive
        connection.buffer.clear()
        connection.sock.settimeout(self.settings.send_timeout)
        connection.sock.sendall(http1.encode(reply, keep_alive=stays))
        connection.sock.setblocking(False)
        connection.deadline = time.monotonic() + self.settings.keep_alive
        return stays

    def answer_any(self, connection: Connection) -> bool:
        """Let gunicorn parse and the application answer one request; whether the connection stays open."""
        unreader = connection.parser.unreader
        unreader.unread(bytes(connection.buffer))
        connection.buffer.clear()
        connection.sock.settimeout(max(self.settings.body_timeout, self.settings.send_timeout))
        self.serving.connection = connection
        request = None
        try:
            request = next(connection.parser)
            with self.pool.lent():
                stays = bool(request) and self._keepalive_after(connection, self.handle_request(request, connection))
        except (StopIteration, http.errors.NoMoreData):
            return False
        except OSError:
            raise
        except Exception as exc:
            self.handle_error(request, connection.sock, connection.client, exc)
            return False
        finally:
            self.serving.connection = None
        connection.sock.setblocking(False)
        connection.buffer += unreader.take_buffered()
        connection.deadline = time.monotonic() + self.settings.keep_alive
        return stays

    def say_goodbye(self, connection: Connection) -> None:
        """Close our side; the rest is reading until the client closes its own, so that it sees the answer."""
        connection.closing, connection.deadline = True, time.monotonic() + LINGER
        sock = connection.sock
        sock.setblocking(False)
        if isinstance(sock, ssl.SSLSocket):
            with contextlib.suppress(OSError, ValueError):
                sock.unwrap()
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_WR)


@lru_cache(maxsize=256)
def is_ours(host: str) -> bool:
    """Whether a Host header names one of the allowed hosts, as Django sees it."""
    domain, _ = split_domain_port(host)
    return bool(domain) and validate_host(domain, settings.ALLOWED_HOSTS)


def reload_context() -> None:
    """Read the configuration's certificates again; what is wrong with them is logged, and the old ones stay."""
    try:
        serving.load_context(checks.reloaded())
    except conf.ConfigError as error:
        log.error("certificates not reloaded: %s", error)
    else:
        log.info("certificates reloaded")


#: The worker that this process's gunicorn is to run.
serving: type[Worker] = Worker


def serve(chosen: type[Worker] = Worker) -> None:
    """Run gunicorn in this process, with the project's configuration of it."""
    global serving
    serving = chosen
    settings = Path(__file__).resolve().parent.parent / "kmsproject" / "gunicorn.py"
    sys.argv = ["gunicorn", "-c", str(settings), "kmsproject.wsgi"]
    WSGIApplication("%(prog)s [OPTIONS] [APP_MODULE]").run()


def prepare(config: conf.Config) -> None:
    """Bind the port and load the certificates, before anything is forked."""
    Worker.bound = supervisor.bind(config, "http.port", config.http.hostname or "", config.http.port)
    Worker.load_context(config)


def children(config: conf.Config) -> list[supervisor.Child]:
    """The HTTP processes, as one child: gunicorn looks after its own."""
    prepare(config)
    return [supervisor.Child("http", serve, sealed=True)]
