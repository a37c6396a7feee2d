"""`make bench`: the product beside its floor and beside PyKMIP's server, row by row, as a table and as JSON.

    python -m benchmarks.table [--rows get,create] [--seconds 3] [--rounds 3] [--json FILE] [--without-pykmip]

A load generator from outside the project (`--tool`) drives all three over mutual TLS from a process of its own; the
floor is its server that answers with ready-made responses. Rounds are interleaved and medians taken, so that ratios
hold on a machine whose speed changes; CPU per item is the steadier figure. Without the tool there is `benchmarks.run`.
"""

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks import load, run

TOOL: Final = run.ROOT.parent / "shared" / "tools" / "kmip_load.py"
PYKMIP: Final = "PyKMIP==0.11.0"
#: Bounds of one run of the tool, in seconds besides the load itself: it makes its own objects first.
PATIENCE: Final = 180.0
GCM: Final = ("--cipher", "gcm", "--payload-bytes", "64")
CBC: Final = ("--cipher", "cbc", "--payload-bytes", "64")


@dataclass(frozen=True)
class Row:
    """One row: what is asked of the tool, and of the tool for the other side; `against` names that side.

    `figure` is what the ratio is of: requests a second, or microseconds of server CPU for each item. `must` and `aim`
    are at least for the first, at most for the second.
    """

    title: str
    load: tuple[str, ...]
    against: str
    other: tuple[str, ...]
    figure: str
    must: float
    aim: float


def _p(title: str, *arguments: str, other: tuple[str, ...] = (), must: float, aim: float) -> Row:
    """Requests a second beside PyKMIP's."""
    return Row(title, arguments, "pykmip", other or arguments, "rps", must, aim)


def _f(title: str, *arguments: str, must: float, aim: float) -> Row:
    """CPU beside the floor's for the same."""
    return Row(title, arguments, "floor", arguments, "cpu", must, aim)


def _g(title: str, *arguments: str, must: float, aim: float, figure: str = "cpu") -> Row:
    """Beside a Get of our own."""
    return Row(title, arguments, "product", ("--op", "get"), figure, must, aim)


#: PyKMIP's server knows no GCM.
_DECRYPT: Final = ("--op", "decrypt", *CBC)
ROWS: Final[dict[str, Row]] = {
    "query": _f("Query: CPU against the floor", "--op", "query", must=4, aim=2),
    "get": _p("Get of an AES key", "--op", "get", must=15, aim=30),
    "encrypt": _p("Encrypt AES-GCM 64 B", "--op", "encrypt", *GCM, other=("--op", "encrypt", *CBC), must=15, aim=30),
    "decrypt": _p("Decrypt AES-GCM 64 B", "--op", "decrypt", *GCM, other=_DECRYPT, must=15, aim=30),
    "create": _p("Create", "--op", "create", must=8, aim=20),
    "register": _p("Register", "--op", "register", must=8, aim=20),
    "lifecycle": _p("lifecycle", "--op", "lifecycle", must=8, aim=20),
    "rsa": _p("Sign RSA-2048", "--op", "sign", "--sign-key", "rsa", must=80, aim=130),
    "ecdsa": _g("Sign P-256: CPU against Get", "--op", "sign", "--sign-key", "ec", must=2, aim=1.5),
    "locate": _p(
        "Locate by Name", "--op", "locate", "--preload", "20000",
        other=("--op", "locate", "--preload", "2500"), must=5000, aim=15000,
    ),
    "batch": _g("batch of 10 Gets: CPU per item", "--op", "get", "--batch", "10", must=0.5, aim=0.35),
    "handshake": _f("handshake and Query: CPU against the floor", "--op", "connect", must=1.4, aim=1.15),
    "resumed": _f("the same, resumed", "--op", "connect", "--resume", must=1.4, aim=1.15),
    "https": _g("HTTPS on the KMIP port: CPU against binary", "--op", "get", "--transport", "http", must=1.6, aim=1.3),
    "many": _g("32 connections against 8", "--op", "get", "--connections", "32", must=0.8, aim=1, figure="rps"),
}  # fmt: skip


@dataclass(frozen=True)
class Side:
    """A server to load."""

    pid: int
    target: load.Target


@contextlib.contextmanager
def floor(tool: Path, folder: Path) -> Iterator[Side]:
    """The tool's server of ready-made responses, with the product's certificate."""
    certificate, key = run.credentials(folder)
    port = run.free_port()
    command = [sys.executable, str(tool), "--port", str(port), "--ca", str(folder / "ca.pem"), "--serve-canned"]
    command += ["--server-cert", str(certificate), "--server-key", str(key)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        run.wait_for(port, process)
        yield Side(process.pid, run.client_of(folder, port))
    finally:
        process.kill()
        process.wait()


PYKMIP_CONFIG: Final = """[server]
hostname=127.0.0.1
port={port}
certificate_path={certificate}
key_path={key}
ca_path={folder}/ca.pem
auth_suite=TLS1.2
enable_tls_client_auth=True
logging_level=CRITICAL
database_path={folder}/pykmip.sqlite3
"""


@contextlib.contextmanager
def pykmip(folder: Path) -> Iterator[Side]:
    """PyKMIP's server in an environment of its own: its package has the name of one of ours."""
    environment = folder / "pykmip"
    venv.create(environment, with_pip=True)
    subprocess.run([environment / "bin" / "pip", "install", "-q", PYKMIP], check=True)
    certificate, key = run.credentials(folder)
    port = run.free_port()
    config = folder / "pykmip.conf"
    config.write_text(PYKMIP_CONFIG.format(port=port, certificate=certificate, key=key, folder=folder))
    command = [environment / "bin" / "pykmip-server", "-f", config, "-l", folder / "pykmip.log"]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        run.wait_for(port, process)
        yield Side(process.pid, run.client_of(folder, port))
    finally:
        process.kill()
        process.wait()


def measure(tool: Path, side: Side, arguments: tuple[str, ...], seconds: float, out: Path) -> dict[str, Any]:
    """One run of the tool: its own record, with `cpu` (microseconds for each item) and `rps`. SystemExit on errors."""
    target = side.target
    command = [sys.executable, str(tool), "--port", str(target.port), "--any-hostname", "--quiet"]
    command += ["--ca", str(target.ca), "--cert", str(target.certificate), "--key", str(target.key)]
    command += ["--duration", str(seconds), "--warmup", "0.5", "--server-pid", str(side.pid), "--json", str(out)]
    if "--connections" not in arguments:
        command += ["--connections", "8"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=seconds + PATIENCE)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)}: {(done.stderr or done.stdout)[-2000:]}")
    record: dict[str, Any] = json.loads(out.read_text())["runs"][0]
    return record | {"cpu": record["server_us_per_item"]}


def compare(row: Row, mine: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians of both sides, and their ratio."""
    left, right = (statistics.median(record[row.figure] for record in records) for records in (mine, theirs))
    ratio = left / right
    kept = ratio >= row.must if row.figure == "rps" else ratio <= row.must
    return {
        "row": row.title,
        "figure": row.figure,
        "product": left,
        row.against: right,
        "ratio": ratio,
        "must": row.must,
        "aim": row.aim,
        "kept": kept,
        "cpu": statistics.median(record["cpu"] for record in mine),
        "rps": statistics.median(record["rps"] for record in mine),
        "p99": statistics.median(record["latency_ms"]["p99"] for record in mine),
    }


def show(found: list[dict[str, Any]]) -> None:
    """Print the table."""
    print(f"{'row':44}{'req/s':>9}{'CPU us':>9}{'p99 ms':>9}{'ratio':>10}{'must':>8}{'aim':>8}")
    for one in found:
        sign = ">=" if one["figure"] == "rps" else "<="
        print(
            f"{one['row']:44}{one['rps']:9.0f}{one['cpu']:9.0f}{one['p99']:9.1f}{one['ratio']:10.2f}"
            f"{sign + format(one['must'], 'g'):>8}{sign + format(one['aim'], 'g'):>8}"
            f"{'' if one['kept'] else '  missed'}"
        )


def main() -> None:
    """Run the rows and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tool", type=Path, default=TOOL)
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--without-pykmip", action="store_true")
    options = parser.parse_args()
    if not options.tool.is_file():
        raise SystemExit(f"there is no load generator at {options.tool}: give --tool, or use benchmarks.run")
    rows = [ROWS[name] for name in options.rows.split(",")]
    if options.without_pykmip:
        rows = [row for row in rows if row.against != "pykmip"]
    with tempfile.TemporaryDirectory(prefix="kms-bench-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        sides = {"product": Side(*stack.enter_context(run.product(folder)))}
        needed = {row.against for row in rows}
        if "floor" in needed:
            sides["floor"] = stack.enter_context(floor(options.tool, folder))
        if "pykmip" in needed:
            sides["pykmip"] = stack.enter_context(pykmip(folder))
        seen: dict[tuple[str, bool], list[dict[str, Any]]] = {}
        for _ in range(options.rounds):
            for row in rows:
                for mine, side, arguments in ((True, "product", row.load), (False, row.against, row.other)):
                    record = measure(options.tool, sides[side], arguments, options.seconds, folder / "run.json")
                    seen.setdefault((row.title, mine), []).append(record)
    found = [compare(row, seen[row.title, True], seen[row.title, False]) for row in rows]
    show(found)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
