"""Where the time of a row goes: samples of the server's threads at work, summed by what the code they are in does."""

import contextlib
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from benchmarks.rows import Absent, Bench, Row

#: Samples a second.
FREQUENCY: Final = 250
#: What the code under a path does; the first that fits counts.
ROOMS: Final = (
    ("TLS and sockets", ("ssl.py", "socket.py", "keystore/tls.py", "keystore/handshakes.py", "keystore/gate.py")),
    ("encoding", ("kmip/", "keystore/http1.py", "keystore/web.py", "json/")),
    ("audit, logs, metrics", ("keystore/audit.py", "keystore/chain.py", "keystore/activity.py", "keystore/metrics.py",
                              "keystore/logs.py", "logging/")),
    ("database", ("keystore/compiled.py", "keystore/store.py", "keystore/grouping.py", "keystore/pool.py",
                  "keystore/deferred.py", "django/db/", "sqlite3/", "psycopg")),
    ("cryptography and sealing", ("keystore/crypto/", "keystore/sealing.py", "keystore/providers", "cryptography/")),
    ("identity and rights", ("keystore/authn/", "keystore/policy.py", "keystore/roles.py", "keystore/access.py",
                             "keystore/revocation.py", "keystore/generations.py")),
    ("threads and connections", ("kmip_socket/", "kmip_api/", "gunicorn/", "threading.py", "selectors.py", "queue.py",
                                 "concurrent/")),
    ("engine and operations", ("keystore/",)),
    ("Django", ("django/",)),
)  # fmt: skip
#: Frames in which a thread waits for somebody else.
WAITS: Final = (
    "wait (threading.py", "select (selectors.py", "accept (socket.py", "_lead (kmip_socket/crew.py",
    "_run (kmip_socket/crew.py", "get (queue.py", "poll (", "is_silent (kmip_api/worker.py",
    "_worker (concurrent/futures/thread.py",
)  # fmt: skip


@contextlib.contextmanager
def _sampling(pid: int, out: Path) -> Iterator[None]:
    program = shutil.which("py-spy")
    if program is None:
        raise Absent("py-spy is not installed")
    command = [program, "record", "--subprocesses", "--format", "raw", "--rate", str(FREQUENCY), "--duration", "600"]
    process = subprocess.Popen(
        [*command, "--pid", str(pid), "--output", out], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def _room(frame: str) -> str:
    file = frame.partition("(")[2]
    return next((room for room, paths in ROOMS if any(path in file for path in paths)), "other")


def of(bench: Bench, row: Row, folder: Path) -> str:
    """One more round of a row, sampled: the shares of rooms, and the functions that took most, as a line of Markdown.

    The samples themselves are left in the folder, one file for each server, for a flame graph.
    """
    files = []
    with contextlib.ExitStack() as stack:
        for number, server in enumerate(bench.measured(row)):
            files.append(folder / f"{row.name}-{number}.txt")
            stack.enter_context(_sampling(server.pid, files[-1]))
        row.measure(bench)
    rooms: Counter[str] = Counter()
    functions: Counter[str] = Counter()
    for file in files:
        for line in file.read_text().splitlines():
            stack_, _, count = line.rpartition(" ")
            leaf = stack_.rpartition(";")[2]
            if not any(wait in leaf for wait in WAITS):
                rooms[_room(leaf)] += int(count)
                functions[leaf.rpartition(":")[0] + ")"] += int(count)
    total = sum(rooms.values())
    if not total:
        raise Absent("nothing was sampled")
    shares = ", ".join(f"{room} {count / total:.0%}" for room, count in rooms.most_common() if count * 50 >= total)
    most = ", ".join(f"`{name}` {count / total:.0%}" for name, count in functions.most_common(4))
    return f"| {row.title} | {shares} | {most} |"
