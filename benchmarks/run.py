"""Starts the server and a raw TLS echo, loads both in turn, prints a table of ratios.

    python -m benchmarks.run [--seconds 3] [--rounds 3] [--json FILE]

The figures of one run belong together: rows are interleaved over the rounds and medians are taken, so that ratios hold
on a machine whose speed changes. CPU per request is the steadier figure.
"""

import argparse
import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, pkcs12

from benchmarks import load, messages

ROOT = Path(__file__).resolve().parent.parent


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def product(folder: Path, workers: int = 1) -> Iterator[tuple[int, load.Target]]:
    """The server with SQLite in a folder; its process and its KMIP port."""
    port = free_port()
    manage = [sys.executable, "manage.py"]
    environment = os.environ | {
        "KMS_SQLITE_PATH": str(folder),
        "KMS_ROOT_KEY_FILE": str(folder / "root.key"),
        "KMS_POLICY": "permissive",
        "KMS_LEVEL": "WARNING",
    }
    subprocess.run(
        [*manage, "initpki", "--folder", str(folder), "--client", "bench", "--write-config", str(folder / "kms.toml")],
        cwd=ROOT,
        env=environment,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    with (folder / "kms.toml").open("a") as file:
        file.write(f"[http]\nport = {free_port()}\nworkers = 1\n")
        file.write(f"[socket_server]\nsocket_server_port = {port}\nworkers = {workers}\n")
    environment["KMS_CONFIG"] = str(folder / "kms.toml")
    subprocess.run([*manage, "initrootkey"], cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
    process = subprocess.Popen([*manage, "runkms", "--migrate"], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    target = client_of(folder, port)
    try:
        wait_for(port, process)
        yield process.pid, target
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def client_of(folder: Path, port: int) -> load.Target:
    """The client of a folder's PKI, at a port."""
    return load.Target(port, folder / "ca.pem", folder / "client.pem", folder / "client.key")


def credentials(folder: Path) -> tuple[Path, Path]:
    """The server's certificate and key as files, for servers that stand beside it."""
    password = (folder / "server.p12.password").read_text().strip().encode()
    key, certificate, chain = pkcs12.load_key_and_certificates((folder / "server.p12").read_bytes(), password)
    assert key is not None and certificate is not None
    pem = b"".join(one.public_bytes(Encoding.PEM) for one in (certificate, *chain))
    (folder / "echo.pem").write_bytes(pem)
    descriptor = os.open(folder / "echo.key", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return folder / "echo.pem", folder / "echo.key"


@contextlib.contextmanager
def echo(folder: Path) -> Iterator[tuple[int, load.Target]]:
    """The echo with the server's own certificate; its process and port."""
    credentials(folder)
    command = [sys.executable, "-m", "benchmarks.echo", str(folder)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    port = int(process.stdout.readline())
    try:
        yield process.pid, client_of(folder, port)
    finally:
        process.kill()
        process.wait()


def wait_for(port: int, process: "subprocess.Popen[bytes]") -> None:
    """Wait until a port answers; raises where the process ends before."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        if process.poll() is not None:
            raise SystemExit(f"the server ended with status {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.1)
    raise SystemExit("the server did not start within 30 s")


def prepared(target: load.Target) -> str:
    """An active key for Get; its identifier."""
    with load.connect(target, load.context(target)) as connection:
        before, _, after = messages.create()
        uid = messages.uid_in(load.exchange(connection, before + messages.new_name() + after))
        load.exchange(connection, messages.activate(uid))
    return uid


def main() -> None:
    """Run the rows and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kms-bench-") as name:
        folder = Path(name)
        with product(folder) as (server, kmip), echo(folder) as (reflector, floor):
            uid = prepared(kmip)
            before, _, after = messages.create()
            query, get = messages.query(), messages.get(uid)
            rows: dict[str, Callable[[int], bytes]] = {
                "Query": lambda number: query,
                "Get": lambda number: get,
                "Create": lambda number: before + messages.new_name() + after,
            }
            seen: dict[tuple[str, int, str], list[load.Result]] = {}
            for _ in range(options.rounds):
                for row, make in rows.items():
                    for connections in (1, 8):
                        for side, pid, target in (("echo", reflector, floor), ("kms", server, kmip)):
                            result = load.run(target, pid, [make] * connections, options.seconds)
                            seen.setdefault((row, connections, side), []).append(result)
    print(f"{'row':8}{'conns':>6}{'req/s':>9}{'p50 ms':>9}{'p99 ms':>9}{'CPU us':>9}"
          f"{'echo/s':>9}{'echo CPU':>9}{'rate':>8}{'CPU':>8}{'errors':>8}")  # fmt: skip
    table = []
    for row in rows:
        for connections in (1, 8):
            mine, floors = (
                {key: statistics.median(asdict(one)[key] for one in seen[row, connections, side])
                 for key in ("rate", "p50", "p99", "cpu", "errors")}
                for side in ("kms", "echo")
            )  # fmt: skip
            table.append({"row": row, "connections": connections, "kms": mine, "echo": floors})
            print(
                f"{row:8}{connections:6}{mine['rate']:9.0f}{mine['p50'] * 1e3:9.2f}{mine['p99'] * 1e3:9.2f}"
                f"{mine['cpu'] * 1e6:9.0f}{floors['rate']:9.0f}{floors['cpu'] * 1e6:9.0f}"
                f"{mine['rate'] / floors['rate']:8.2f}{mine['cpu'] / floors['cpu']:8.1f}{mine['errors']:8.0f}"
            )
    if options.json:
        options.json.write_text(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
