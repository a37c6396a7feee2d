"""Load on a TLS port: connections in closed loops, latency and the server's CPU per request.

Each connection sends its request, waits for the whole answer and sends the next. Answers are checked by their length
and by a look for a failure's Result Status; the load runs in a process of its own.
"""

import multiprocessing
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

FAILED = bytes.fromhex("42007f05000000040000000100000000")
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Target:
    """Where a load goes and with what certificates."""

    port: int
    ca: Path
    certificate: Path
    key: Path


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
    raw = socket.create_connection(("127.0.0.1", target.port))
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return tls.wrap_socket(raw, session=session)


def exchange(connection: ssl.SSLSocket, request: bytes) -> bytes:
    """Send a message and read the whole answer."""
    connection.sendall(request)
    answer = connection.recv(65536)
    length = 8 + int.from_bytes(answer[4:8], "big")
    if len(answer) == length:
        return answer
    parts = [answer]
    missing = length - len(answer)
    while missing:
        part = connection.recv(min(missing, 262144))
        if not part:
            raise ConnectionError("the server closed the connection")
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


def _worker(
    target: Target,
    makers: list[Callable[[int], bytes]],
    seconds: float,
    start: float,
    out: "multiprocessing.Queue[object]",
) -> None:
    latencies: list[list[float]] = [[] for _ in makers]
    errors = [0] * len(makers)

    def loop(number: int, make: Callable[[int], bytes]) -> None:
        connection = connect(target, context(target))
        time.sleep(max(0.0, start - time.monotonic()))
        clock, mine, end, count = time.monotonic, latencies[number], start + seconds, 0
        while True:
            begun = clock()
            if begun >= end:
                break
            if FAILED in exchange(connection, make(count)):
                errors[number] += 1
            mine.append(clock() - begun)
            count += 1
        connection.close()

    threads = [threading.Thread(target=loop, args=pair) for pair in enumerate(makers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    out.put(([one for mine in latencies for one in mine], sum(errors)))


def cpu_of(pid: int) -> float:
    """CPU seconds that a process and its children have used."""
    total = 0.0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:
            continue
        fields = text[text.rindex(")") + 2 :].split()
        if int(stat.parent.name) == pid or int(fields[1]) == pid:
            total += (int(fields[11]) + int(fields[12])) / TICKS
    return total


def run(target: Target, pid: int, makers: list[Callable[[int], bytes]], seconds: float) -> Result:
    """Load a server of process `pid` with one connection for each maker of requests."""
    fork = multiprocessing.get_context("fork")
    out: multiprocessing.Queue[object] = fork.Queue()
    start = time.monotonic() + 0.5
    worker = fork.Process(target=_worker, args=(target, makers, seconds, start, out))
    worker.start()
    time.sleep(max(0.0, start - time.monotonic()))
    before = cpu_of(pid)
    latencies, errors = out.get()  # type: ignore[misc]
    used = cpu_of(pid) - before
    worker.join()
    latencies.sort()
    count = len(latencies)
    return Result(count / seconds, latencies[count // 2], latencies[count * 99 // 100], errors, used / count)
