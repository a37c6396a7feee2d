"""Rows of processes and memory: two listeners, long work, idle connections, streams, the start, bulk data."""

import contextlib
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from benchmarks import growth, load, messages, servers
from benchmarks.rows import CONNECTIONS, Absent, Bench, Row, Sample, checked, rate, seen
from keystore import bulk
from kmip.enums import Operation

MIB: Final = 1 << 20
IDLE: Final = 2_000
#: Descriptors that this many connections and the rest take.
FILES: Final = 2 * IDLE
ITEMS: Final = 4_000
ITEM: Final = b"0123456789abcdef"
#: Seconds that a start may take, and that one of many loads lasts.
STARTS: Final = 30.0
LONG: Final = 10.0


def _pair(bench: Bench) -> servers.Server:
    """A server with two processes for the KMIP port."""
    return bench.on("two", workers=2)


def _two(bench: Bench, request: bytes, uid_of: dict[int, str]) -> Sample:
    """Requests a second of two listener processes beside those of one."""
    rates = {}
    for workers in (2, 1):
        server = bench.product if workers == 1 else _pair(bench)
        rates[workers] = rate(bench, server, request.replace(uid_of[1].encode(), uid_of[workers].encode()))
    return seen(rates[2], rates[2].rate, rates[1].rate)


def _two_encrypt(bench: Bench) -> Sample:
    uids = {1: bench.key(bench.product), 2: bench.key(_pair(bench))}
    return _two(bench, messages.encrypt(uids[1], os.urandom(MIB)), uids)


def _two_sign(bench: Bench) -> Sample:
    servers_ = {1: bench.product, 2: _pair(bench)}
    uids = {
        workers: bench.once(f"rsa of {workers}", lambda server=server: _rsa_key(server.kmip))
        for workers, server in servers_.items()
    }
    return _two(bench, messages.sign(uids[1], ITEM), uids)


def _rsa_key(target: load.Target) -> str:
    """An active RSA-2048 key for signatures."""
    (made,) = load.ask(target, [messages.rsa_pair()])
    uid = messages.private_uid_in(made)
    load.ask(target, [messages.activate(uid)])
    return uid


@contextlib.contextmanager
def _making_pairs(target: load.Target) -> Iterator[None]:
    """Another client, in a process of its own, that makes RSA pairs without pause."""

    def work() -> None:
        request = messages.rsa_pair()
        with load.connect(target, load.context(target)) as connection:
            while True:
                load.exchange(connection, request)

    process = multiprocessing.get_context("fork").Process(target=work, daemon=True)
    process.start()
    try:
        time.sleep(0.5)
        yield
    finally:
        process.terminate()
        process.join()


def _beside_pairs(bench: Bench) -> Sample:
    get = messages.get(bench.key(bench.product))
    alone = rate(bench, bench.product, get)
    with _making_pairs(bench.product.kmip):
        busy = rate(bench, bench.product, get)
    return seen(busy, busy.p99, alone.p99)


@contextlib.contextmanager
def _idle(server: servers.Server) -> Iterator[None]:
    """Connections that have said something once and say nothing more."""
    load.raise_file_limit(FILES)
    context, query = load.context(server.kmip), messages.query()
    # Most of a handshake is the server's, and ours runs beside it.
    with contextlib.ExitStack() as stack:
        lock = threading.Lock()

        def open_some() -> None:
            for _ in range(IDLE // CONNECTIONS):
                connection = load.connect(server.kmip, context)
                load.exchange(connection, query)
                with lock:
                    stack.callback(connection.close)

        threads = [threading.Thread(target=open_some) for _ in range(CONNECTIONS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        yield


def _beside_idle(bench: Bench) -> Sample:
    get = messages.get(bench.key(bench.product))
    without = rate(bench, bench.product, get)
    with _idle(bench.product):
        among = rate(bench, bench.product, get)
    return seen(among, among.rate, without.rate)


def _idle_memory(bench: Bench) -> Sample:
    # One that has had no such guests yet: their memory is kept for a while.
    server = bench.on("idle")
    load.ask(server.kmip, [messages.query()])
    pid = server.serving(server.kmip)
    before = load.memory_of(pid)
    with _idle(server):
        return Sample(load.memory_of(pid) - before)


def _stream(bench: Bench) -> tuple[float, float, float]:
    """MB/s of one stream through the server and of the library alone, and by how much the server grew, in MB."""
    uid, part = bench.key(bench.product), os.urandom(MIB)
    server = bench.product
    pids = server.processes()
    with load.connect(server.kmip, load.context(server.kmip)) as connection:
        answer = load.exchange(connection, messages.encrypt_part(uid, part, None, last=False))
        correlation = messages.correlation_in(answer)
        request = messages.encrypt_part(uid, part, correlation, last=False)
        for _ in range(16):
            load.exchange(connection, request)
        before = sum(map(load.memory_of, pids))
        begun = time.monotonic()
        for _ in range(bench.stream):
            answer = load.exchange(connection, request)
        mine = time.monotonic() - begun
        after = sum(map(load.memory_of, pids))
        if load.FAILED in answer or load.FAILED in load.exchange(
            connection, messages.encrypt_part(uid, part, correlation, last=True)
        ):
            raise Absent("a part was refused")
    encryptor = Cipher(algorithms.AES(bytes(32)), modes.GCM(bytes(12))).encryptor()
    begun = time.monotonic()
    for _ in range(bench.stream):
        encryptor.update(part)
    return bench.stream / mine, bench.stream / (time.monotonic() - begun), after - before


def _stream_rate(bench: Bench) -> Sample:
    mine, theirs, _ = bench.once("stream", lambda: _stream(bench))
    return Sample(mine, theirs)


def _stream_memory(bench: Bench) -> Sample:
    return Sample(max(bench.once("stream", lambda: _stream(bench))[2], 0.0))


def _start(folder_server: servers.Server) -> Sample:
    """Seconds from the command to the first answer on the KMIP port, on the files of a server that runs meanwhile."""
    port = servers.free_port()
    given = dict(folder_server.environment) | {
        "KMS_SOCKET_SERVER_PORT": str(port),
        "KMS_PORT": str(servers.free_port()),
        "KMS_RUNTIME_FOLDER": "again",
    }
    target = servers.client_of(folder_server.folder, port)
    begun = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, servers.ROOT / "manage.py", "runkms"],
        cwd=folder_server.folder,
        env=given,
        stdout=subprocess.DEVNULL,
    )
    try:
        while True:
            if time.monotonic() - begun > STARTS:
                raise Absent(f"no answer within {STARTS:.0f} s")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.01)
        load.ask(target, [messages.query()])
        return Sample(time.monotonic() - begun)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(servers.STOP)


def _start_many(bench: Bench) -> Sample:
    """The same with many objects, beside few."""
    many, few = (_start(growth.filled(bench, size, postgres=False).server) for size in (bench.size, growth.FEW))
    return Sample(many.mine, few.mine)


def _fresh(bench: Bench) -> servers.Server:
    """A server that has done nothing else: memory that something else took is kept for a while."""
    return bench.on("memory")


def _memory(bench: Bench) -> Sample:
    """Proportional memory of the KMIP process after a load of each kind."""
    server = _fresh(bench)
    for request in _mixed(bench, server):
        rate(bench, server, request)
    return Sample(load.memory_of(server.serving(server.kmip)))


def _mixed(bench: Bench, server: servers.Server) -> list[bytes]:
    uid = bench.key(server)
    return [
        messages.get(uid),
        messages.encrypt(uid, ITEM),
        messages.query(),
        messages.locate(messages.named("nobody is called so")),
    ]


def _memory_growth(bench: Bench) -> Sample:
    """Memory of the KMIP process after so many mixed requests, one in ten a Create, beside before them."""
    server = _fresh(bench)
    requests = _mixed(bench, server)
    before_name, _, after_name = messages.create()

    def maker(number: int) -> bytes:
        if number % 10 == 0:
            return before_name + messages.new_name() + after_name
        return requests[number % len(requests)]

    pid = server.serving(server.kmip)

    def after(requests: float) -> float:
        done = 0.0
        while done < requests:
            last = checked(load.run(server.kmip, {pid}, [maker] * CONNECTIONS, LONG))
            done += last.rate * LONG
        return load.memory_of(pid)

    # The caches are filled first: of rows, of opened keys, and of SQLite's pages, 16 MiB for each connection.
    before = after(bench.requests / 10)
    return Sample(after(bench.requests), before)


def _bulk(bench: Bench) -> Sample:
    """Items of a bulk Encrypt of the JSON dialect for each second of the server's CPU."""
    data = bulk.join([ITEM] * ITEMS)
    request = messages.posted(
        "/kmip/2_1",
        "application/json",
        messages.bare(Operation.ENCRYPT, messages.encrypting(bench.key(bench.product), data)),
    )
    result = rate(bench, bench.product, request, http=True, connections=1)
    return seen(result, ITEMS / result.cpu, 1.0)


ROWS: Final = [
    Row("two-sign", "two listener processes against one: Sign RSA-2048", "requests/s", "one", 1.5, 1.7, at_least=True,
        measure=_two_sign, on=_pair),
    Row("two-encrypt", "two listener processes against one: Encrypt 1 MiB", "requests/s", "one", 1.5, 1.7,
        at_least=True, measure=_two_encrypt, on=_pair),
    Row("pairs", "Get p99 beside a client that makes RSA pairs", "p99 s", "alone", 5, 2, at_least=False,
        measure=_beside_pairs),
    Row("idle", f"Get beside {IDLE:,} idle connections", "requests/s", "without", 0.9, 1, at_least=True,
        measure=_beside_idle),
    Row("idle-memory", f"memory of {IDLE:,} idle connections, MB", "MB", "", 200, 100, at_least=False,
        measure=_idle_memory, once=True, on=lambda bench: bench.on("idle")),
    Row("stream", "streamed Encrypt through 1 MiB parts, AES-GCM", "MiB/s", "library", 0.5, 0.7, at_least=True,
        measure=_stream_rate, once=True),
    Row("stream-memory", "memory that a stream takes, MB", "MB", "", 16, 4, at_least=False,
        measure=_stream_memory, once=True),
    Row("bulk", "bulk Encrypt of 16 B items, items a second of CPU", "items/s", "", 200_000, 300_000, at_least=True,
        measure=_bulk),
    Row("start", "start to first answer, s", "s", "", 3, 2, at_least=False,
        measure=lambda bench: _start(bench.product), on=None),
    Row("start-many", "start to first answer with many objects", "s", f"{growth.FEW:,} objects", 1.1, 1.05,
        at_least=False, measure=_start_many, on=None),
    Row("memory", "proportional memory of a KMIP process, MB", "MB", "", 100, 80, at_least=False, measure=_memory,
        once=True, on=_fresh),
    Row("memory-growth", "KMIP process after many mixed requests", "MB", "before", 1.1, 1.05, at_least=False,
        measure=_memory_growth, once=True, on=_fresh),
]  # fmt: skip
