"""Rows that the load generator measures: beside PyKMIP's server, beside its own floor, and of the product alone."""

import json
import subprocess
import sys
import time
from concurrent import futures
from typing import Any, Final

from benchmarks import load, messages, servers
from benchmarks.rows import CONNECTIONS, Absent, Bench, Row, Sample
from kmip.versions import V1_2

#: Seconds that one run of the tool may take besides the load itself: it makes its own objects first.
PATIENCE: Final = 300.0
GCM: Final = ("--cipher", "gcm", "--payload-bytes", "64")
#: PyKMIP's server has no GCM.
CBC: Final = ("--cipher", "cbc", "--payload-bytes", "64")
LOCATED: Final = 20_000


def measure(bench: Bench, server: servers.Server, *arguments: str, http: bool = False) -> dict[str, Any]:
    """One run of the tool: its own record. `Absent` where it saw errors."""
    target = server.http if http else server.kmip
    out = bench.folder / "run.json"
    command = [sys.executable, bench.with_tool(), "--port", target.port, "--any-hostname", "--quiet"]
    command += ["--ca", target.ca, "--cert", target.certificate, "--key", target.key]
    command += ["--duration", bench.seconds, "--warmup", "0.5", "--server-pid", server.pid, "--json", out]
    if "--connections" not in arguments:
        command += ["--connections", CONNECTIONS]
    done = subprocess.run(
        [*map(str, command), *arguments], capture_output=True, text=True, timeout=bench.seconds + PATIENCE
    )
    if done.returncode:
        raise Absent(f"the load generator failed: {(done.stderr or done.stdout)[-600:].strip()}")
    record: dict[str, Any] = json.loads(out.read_text())["runs"][0]
    return record


def _sample(figure: str, mine: dict[str, Any], theirs: dict[str, Any], factor: float = 1.0) -> Sample:
    return Sample(
        mine[figure], theirs[figure] * factor, mine["server_us_per_item"], mine["rps"], mine["latency_ms"]["p99"]
    )


RATE, CPU, CYCLES = "rps", "server_us_per_item", "lifecycles_s"
LABELS: Final = {RATE: "requests/s", CPU: "CPU us", CYCLES: "cycles/s"}


def _pykmip(
    name: str, title: str, *options: str, must: float, aim: float, other: tuple[str, ...] = (), figure: str = RATE
) -> list[Row]:
    """At least so many times the rate of PyKMIP's server; the product in KMIP 1.4 and in 2.1, which PyKMIP has not."""

    def row(version: str) -> Row:
        def run(bench: Bench) -> Sample:
            theirs = measure(bench, bench.pykmip, *(other or options))
            return _sample(figure, measure(bench, bench.product, *options, "--kmip", version), theirs)

        known = (name, title) if version == "1.4" else (f"{name}-{version}", f"{title}, KMIP {version}")
        return Row(*known, LABELS[figure], "PyKMIP", must, aim, at_least=True, measure=run)

    return [row("1.4"), row("2.1")]


def _floor(name: str, title: str, *options: str, must: float, aim: float, resumes: bool = False) -> Row:
    """At most so many times the CPU of the floor; with `resumes` handshakes have to be short ones."""

    def run(bench: Bench) -> Sample:
        mine, theirs = (measure(bench, server, *options) for server in (bench.product, bench.floor))
        if resumes and not mine["tls"].endswith("resumed"):
            raise Absent("the sessions were not resumed")
        return _sample(CPU, mine, theirs)

    return Row(name, title, LABELS[CPU], "the floor", must, aim, at_least=False, measure=run)


def _get(
    name: str, title: str, *options: str, must: float, aim: float, figure: str = CPU, http: bool = False
) -> Row:  # fmt: skip
    """Beside the product's own Get of an AES key on eight connections."""

    def run(bench: Bench) -> Sample:
        theirs = measure(bench, bench.product, "--op", "get")
        return _sample(figure, measure(bench, bench.product, *options, http=http), theirs)

    return Row(name, title, LABELS[figure], "Get", must, aim, at_least=figure == RATE, measure=run)


def _spread(bench: Bench) -> Sample:
    record = measure(bench, bench.product, "--op", "get", "--connections", "32")
    latency = record["latency_ms"]
    return Sample(latency["p99"], latency["p50"], record[CPU], record[RATE], latency["p99"])


def _locate(bench: Bench) -> Sample:
    """PyKMIP's server takes half a minute for one: it is asked once a round, by a client of ours."""
    bench.once("preloaded", lambda: measure(bench, bench.product, *_LOCATE, "--preload", str(LOCATED)))
    names = bench.once("names at PyKMIP", lambda: _fill(bench.pykmip))
    begun = time.monotonic()
    (answer,) = load.ask(bench.pykmip.kmip, [messages.locate(messages.named(names[LOCATED // 2]), version=V1_2)])
    theirs = 1 / (time.monotonic() - begun)
    if messages.uid_in(answer) == "":
        raise Absent("PyKMIP found nothing")
    mine = measure(bench, bench.product, *_LOCATE)
    return Sample(mine[RATE], theirs, mine[CPU], mine[RATE], mine["latency_ms"]["p99"])


_LOCATE: Final = ("--op", "locate")


def _fill(server: servers.Server) -> list[str]:
    """Let PyKMIP's server make as many keys as the row says, eight at a time; their Names."""
    before, _, after = messages.create(V1_2)
    names = [messages.new_name() for _ in range(LOCATED)]
    with futures.ThreadPoolExecutor(CONNECTIONS) as pool:
        parts = [names[number::CONNECTIONS] for number in range(CONNECTIONS)]
        done = [pool.submit(load.ask, server.kmip, [before + name + after for name in part]) for part in parts]
        for one in done:
            one.result()
    return [name.decode() for name in names]


ROWS: Final = [
    _floor("query", "Query: CPU against the floor", "--op", "query", must=4, aim=2),
    _floor("query-2.1", "Query, KMIP 2.1: CPU against the floor", "--op", "query", "--kmip", "2.1", must=4, aim=2),
    *_pykmip("get", "Get of an AES key", "--op", "get", must=15, aim=30),
    *_pykmip("encrypt", "Encrypt AES-GCM 64 B", "--op", "encrypt", *GCM, other=("--op", "encrypt", *CBC),
             must=15, aim=30),
    *_pykmip("decrypt", "Decrypt AES-GCM 64 B", "--op", "decrypt", *GCM, other=("--op", "decrypt", *CBC),
             must=15, aim=30),
    *_pykmip("create", "Create", "--op", "create", must=8, aim=20),
    *_pykmip("register", "Register", "--op", "register", must=8, aim=20),
    *_pykmip("lifecycle", "Create, Activate, Get, Revoke, Destroy", "--op", "lifecycle", figure=CYCLES, must=8, aim=20),
    *_pykmip("rsa", "Sign RSA-2048", "--op", "sign", "--sign-key", "rsa", must=80, aim=130),
    _get("ecdsa", "Sign ECDSA P-256: CPU against Get", "--op", "sign", "--sign-key", "ec", must=2, aim=1.5),
    Row("locate", f"Locate by Name at {LOCATED:,} objects", LABELS[RATE], "PyKMIP", 5_000, 15_000, at_least=True,
        measure=_locate),
    _get("batch", "batch of 10 Gets: CPU of an item against a Get", "--op", "get", "--batch", "10", must=0.5, aim=0.35),
    _floor("handshake", "handshake and Query: CPU against the floor", "--op", "connect", must=1.4, aim=1.15),
    _floor("resumed", "resumed handshake and Query: CPU against the floor", "--op", "connect", "--resume",
           must=1.4, aim=1.15, resumes=True),
    _get("many", "32 connections against 8", "--op", "get", "--connections", "32", must=0.8, aim=1, figure=RATE),
    Row("spread", "32 connections: p99 against p50", "p99 ms", "p50", 10, 5, at_least=False, measure=_spread),
    _get("https", "HTTPS on the KMIP port: CPU against binary", "--op", "get", "--transport", "http",
         must=1.6, aim=1.3),
]  # fmt: skip
