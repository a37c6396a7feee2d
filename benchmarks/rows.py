"""What a row of the table is, and the servers that rows share."""

import contextlib
import os
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final

from benchmarks import load, messages, servers

#: The load generator from outside the project.
TOOL: Final = servers.ROOT.parent / "shared" / "tools" / "kmip_load.py"
CONNECTIONS: Final = 8


class Absent(Exception):
    """A row that cannot be measured here, and why."""


@dataclass(frozen=True)
class Sample:
    """One round of a row: both sides, and what the product's side is worth knowing for besides."""

    mine: float
    theirs: float = 1.0
    cpu: float | None = None  # microseconds of the server for each request
    rps: float | None = None
    p99: float | None = None  # milliseconds


@dataclass(frozen=True)
class Row:
    """A row: how it is measured, what of, against what, and the bounds of the ratio of both."""

    name: str
    title: str
    figure: str
    against: str
    must: float
    aim: float
    at_least: bool
    measure: "Callable[[Bench], Sample]"
    #: Takes so long, or is so steady, that one round is enough.
    once: bool = False
    #: The server that the product's side is measured on; None where each round starts its own.
    on: "Callable[[Bench], servers.Server] | None" = lambda bench: bench.product

    def verdict(self, ratio: float) -> str:
        """Whether a ratio keeps the bounds."""
        keeps = (lambda bound: ratio >= bound) if self.at_least else (lambda bound: ratio <= bound)
        return "aim" if keeps(self.aim) else "ok" if keeps(self.must) else "missed"

    def result(self, samples: list[Sample]) -> dict[str, Any]:
        """The medians of the rounds."""

        def median(name: str) -> float | None:
            values = [value for sample in samples if (value := getattr(sample, name)) is not None]
            return statistics.median(values) if values else None

        mine, theirs = median("mine"), median("theirs")
        assert mine is not None and theirs is not None
        ratio = mine / theirs
        return {
            "row": self.name,
            "title": self.title,
            "figure": self.figure,
            "product": mine,
            "against": self.against,
            "other": theirs,
            "ratio": ratio,
            "sign": ">=" if self.at_least else "<=",
            "must": self.must,
            "aim": self.aim,
            "verdict": self.verdict(ratio),
            "cpu_us": median("cpu"),
            "requests_s": median("rps"),
            "p99_ms": median("p99"),
            "rounds": len(samples),
        }


@dataclass
class Bench:
    """What the rows of one run share: options, and servers that start when the first row wants them."""

    #: What the command line sets.
    OPTIONS: ClassVar = ("seconds", "tool", "size", "clients", "grants", "records", "stream", "requests")

    folder: Path
    seconds: float
    tool: Path
    size: int
    clients: int
    grants: int
    records: int
    stream: int
    requests: int
    stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    kept: dict[str, Any] = field(default_factory=dict)

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """What `make` gives, made once."""
        if name not in self.kept:
            self.kept[name] = make()
        return self.kept[name]

    def _running(self, name: str, make: Callable[[], contextlib.AbstractContextManager[servers.Server]]) -> Any:
        return self.once(name, lambda: self.stack.enter_context(make()))

    @property
    def product(self) -> servers.Server:
        """The server with SQLite and one process for each listener."""
        return self.on("product")

    def on(self, name: str, **options: Any) -> servers.Server:
        """A server on a folder of its own."""

        def make() -> contextlib.AbstractContextManager[servers.Server]:
            servers.prepare(self.folder / name)
            return servers.product(self.folder / name, **options)

        server: servers.Server = self._running(name, make)
        return server

    @property
    def empty(self) -> servers.Server:
        """The empty view."""
        server: servers.Server = self._running("empty", lambda: servers.empty(self.product))
        return server

    @property
    def floor(self) -> servers.Server:
        """The load generator's ready-made answers."""
        self.with_tool()
        server: servers.Server = self._running("floor", lambda: servers.floor(self.tool, self.product.folder))
        return server

    @property
    def pykmip(self) -> servers.Server:
        """PyKMIP's server."""
        server: servers.Server = self._running("pykmip", lambda: servers.pykmip(self.product.folder))
        return server

    def measured(self, row: Row) -> list[servers.Server]:
        """The servers whose profile a row's is."""
        return [] if row.on is None else [row.on(self)]

    def with_tool(self) -> Path:
        """The load generator; `Absent` where there is none."""
        if not self.tool.is_file():
            raise Absent(f"there is no load generator at {self.tool}; KMIP_TOOLS names its folder")
        return self.tool

    def key(self, server: servers.Server) -> str:
        """An active AES key of a server."""
        uid: str = self.once(f"key of {server.folder}", lambda: active_key(server.kmip))
        return uid


def active_key(target: load.Target) -> str:
    """Make an active AES-256 key; its identifier."""
    before, _, after = messages.create()
    (made,) = load.ask(target, [before + messages.new_name() + after])
    uid = messages.uid_in(made)
    load.ask(target, [messages.activate(uid)])
    return uid


def rate(bench: Bench, server: servers.Server, request: bytes, *, http: bool = False, connections: int = CONNECTIONS,
         ) -> load.Result:  # fmt: skip
    """Load a server with one request, again and again; `Absent` where it fails."""
    target = server.http if http else server.kmip
    return checked(load.run(target, server.processes(), [lambda number: request] * connections, bench.seconds))


def checked(result: load.Result) -> load.Result:
    """A result without errors; `Absent` otherwise: what fails is not worth measuring."""
    if result.errors:
        raise Absent(f"{result.errors} requests failed")
    return result


def seen(result: load.Result, mine: float, theirs: float) -> Sample:
    """A sample with the rest of what a load saw."""
    return Sample(mine, theirs, result.cpu * 1e6, result.rate, result.p99 * 1e3)


def chosen(names: str, among: dict[str, Row]) -> Iterator[Row]:
    """Rows by name; a name with a star at its end stands for all that begin so. SystemExit for one that is none."""
    for name in names.split(","):
        found = [row for key, row in among.items() if key == name or (name[-1:] == "*" and key.startswith(name[:-1]))]
        if not found:
            raise SystemExit(f"there is no row {name}; there are {', '.join(among)}")
        yield from found


def tool_folder() -> Path:
    """Where the load generator is."""
    folder = os.environ.get("KMIP_TOOLS")
    return Path(folder) / TOOL.name if folder else TOOL
