"""Load on a TLS port: connections in closed loops, latency and the server's CPU per request.

Each connection sends its request, waits for the whole answer and sends the next. An answer that says that it failed is
counted; the load runs in a process of its own.
"""

import contextlib
import multiprocessing
import os
import resource
import socket
import ssl
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Final

#: The Result Status of an item that failed, in the binary encoding.
FAILED: Final = bytes.fromhex("42007f05000000040000000100000000")
TICKS: Final = os.sysconf("SC_CLK_TCK")
#: Seconds within which an answer has to begin, or go on.
PATIENCE: Final = 120.0
#: Makes the request with a number.
Maker = Callable[[int], bytes]


class Refused(Exception):
    """An answer that says that a request failed."""


@dataclass(frozen=True)
class Target:
    """Where a load goes and with what certificates; a port that speaks HTTP takes requests with a head."""

    port: int
    ca: Path
    certificate: Path
    key: Path
    http: bool = False


@dataclass(frozen=True)
class Result:
    """What a load saw: requests a second, latencies in seconds, errors, and the server's CPU seconds per request."""

    rate: float
    p50: float
    p99: float
    errors: int
    cpu: float


def context(target: Target) -> ssl.SSLContext:
    """A client's TLS context."""
    made = ssl.create_default_context(cafile=str(target.ca))
    made.load_cert_chain(target.certificate, target.key)
    made.check_hostname = False
    return made


def connect(target: Target, tls: ssl.SSLContext, session: ssl.SSLSession | None = None) -> ssl.SSLSocket:
    """An open connection."""
    raw = socket.create_connection(("127.0.0.1", target.port), PATIENCE)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return tls.wrap_socket(raw, session=session)


def exchange(connection: ssl.SSLSocket, request: bytes) -> bytes:
    """Send a message and read the whole answer."""
    connection.sendall(request)
    answer = connection.recv(65536)
    while len(answer) < 8:
        answer += _more(connection, 65536)
    return _whole(connection, answer, 8 + int.from_bytes(answer[4:8], "big"))


def post(connection: ssl.SSLSocket, request: bytes) -> bytes:
    """Send an HTTP request and read the whole response; `Refused` where its status is not 200."""
    connection.sendall(request)
    answer = connection.recv(65536)
    while (end := answer.find(b"\r\n\r\n")) < 0:
        answer += _more(connection, 65536)
    if not answer.startswith(b"HTTP/1.1 200"):
        raise Refused(answer[:300].decode("latin-1"))
    _, stated, rest = answer[: end + 2].lower().partition(b"\r\ncontent-length:")
    if not stated:
        raise Refused("a response without Content-Length")
    return _whole(connection, answer, end + 4 + int(rest.partition(b"\r\n")[0]))


def _more(connection: ssl.SSLSocket, size: int) -> bytes:
    data = connection.recv(size)
    if not data:
        raise ConnectionError("the server closed the connection")
    return data


def _whole(connection: ssl.SSLSocket, begun: bytes, length: int) -> bytes:
    if len(begun) == length:
        return begun
    parts, missing = [begun], length - len(begun)
    while missing > 0:
        parts.append(_more(connection, min(missing, 262144)))
        missing -= len(parts[-1])
    return b"".join(parts)


def ask(target: Target, requests: Sequence[bytes]) -> list[bytes]:
    """The answers to some requests on one connection; `Refused` at the first that failed."""
    answers = []
    speak = post if target.http else exchange
    with connect(target, context(target)) as connection:
        for request in requests:
            answer = speak(connection, request)
            if FAILED in answer:
                raise Refused(answer[:600].decode("latin-1"))
            answers.append(answer)
    return answers


class _Clients:
    """The connections of one load, in a process of its own."""

    def __init__(self, target: Target, makers: list[Maker]) -> None:
        self.target, self.makers = target, makers
        self.latencies: list[list[float]] = [[] for _ in makers]
        self.errors = [0] * len(makers)
        self.begun = threading.Barrier(len(makers) + 1)

    def run(self, seconds: float, ready: Event, go: Event, out: "multiprocessing.Queue[object]") -> None:
        """Connect, say so, wait for the word, and load for so long."""
        tls = context(self.target)
        work = [(number, make, tls, seconds) for number, make in enumerate(self.makers)]
        threads = [threading.Thread(target=self._loop, args=one) for one in work]
        for thread in threads:
            thread.start()
        with contextlib.suppress(threading.BrokenBarrierError):
            self.begun.wait(PATIENCE)
        ready.set()
        go.wait(PATIENCE)
        with contextlib.suppress(threading.BrokenBarrierError):
            self.begun.wait(PATIENCE)
        for thread in threads:
            thread.join()
        out.put(([one for mine in self.latencies for one in mine], sum(self.errors)))

    def _loop(self, number: int, make: Maker, tls: ssl.SSLContext, seconds: float) -> None:
        speak, clock, mine = (post if self.target.http else exchange), time.monotonic, self.latencies[number]
        try:
            with connect(self.target, tls) as connection:
                self.begun.wait(PATIENCE)
                self.begun.wait(PATIENCE)
                begun, count = clock(), 0
                end = begun + seconds
                while not count or begun < end:
                    if FAILED in speak(connection, make(count)):
                        self.errors[number] += 1
                    done = clock()
                    mine.append(done - begun)
                    begun, count = done, count + 1
        except (OSError, Refused, threading.BrokenBarrierError):
            self.errors[number] += 1
            self.begun.abort()


def tree(pid: int) -> set[int]:
    """A process and all that came from it."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:
            continue
        parents.setdefault(int(text[text.rindex(")") + 2 :].split()[1]), []).append(int(stat.parent.name))
    found, new = {pid}, [pid]
    while new:
        new = [child for one in new for child in parents.get(one, ())]
        found.update(new)
    return found


def cpu_of(pids: Collection[int]) -> float:
    """CPU seconds that processes have used, with the children that they have waited for."""
    total = 0.0
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            continue
        total += sum(map(int, text[text.rindex(")") + 2 :].split()[11:15])) / TICKS
    return total


def memory_of(pid: int) -> float:
    """Proportional set size of a process in MB: its own memory, and its part of what it shares."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) / 1000 for line in lines if line.startswith("Pss:"))


def raise_file_limit(wanted: int) -> None:
    """Let this process, and what it starts, have so many files open, as far as that is allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, wanted) if hard > 0 else wanted, hard))


def run(target: Target, pids: Collection[int], makers: list[Maker], seconds: float) -> Result:
    """Load a server, whose processes are `pids`, with one connection for each maker of requests.

    Raises `Refused` where nothing was answered.
    """
    fork = multiprocessing.get_context("fork")
    out: multiprocessing.Queue[object] = fork.Queue()
    ready, go = fork.Event(), fork.Event()
    worker = fork.Process(target=_Clients(target, makers).run, args=(seconds, ready, go, out))
    worker.start()
    ready.wait(PATIENCE)
    before, begun = cpu_of(pids), time.monotonic()
    go.set()
    latencies, errors = out.get()  # type: ignore[misc]
    used, took = cpu_of(pids) - before, time.monotonic() - begun
    worker.join()
    latencies.sort()
    count = len(latencies)
    if not count:
        raise Refused("nothing was answered")
    return Result(count / took, latencies[count // 2], latencies[count * 99 // 100], errors, used / count)
