"""Rows of what a request costs with many objects, clients, grants and audit records, beside what it costs with few.

The databases are filled by `manage.py loadtestdata` and kept under `build/bench` for the next run. On PostgreSQL, which
`TEST_POSTGRES_URL` names a server of, the CPU of its backends counts too.
"""

import hashlib
import os
import random
import shutil
import ssl
import time
import urllib.parse
from collections.abc import Callable, Collection
from dataclasses import dataclass
from http.client import HTTPSConnection
from typing import Final

import psycopg

from benchmarks import load, messages, servers
from benchmarks.rows import CONNECTIONS, Absent, Bench, Row, Sample, checked

#: Objects of the small database.
FEW: Final = 1_000
#: Objects that a load touches, in either database.
TOUCHED: Final = 1_000
DATA: Final = b"x" * 64
PREFIX: Final = "bench"
#: Keys in one Object Group, as `keystore.loadtest` makes them; what imports that needs Django's settings.
GROUP: Final = 10
#: Names of the databases begin so.
DATABASE: Final = "kms_bench_"
LISTED: Final = 30
POSTGRES: Final = "TEST_POSTGRES_URL"


@dataclass(frozen=True)
class Filled:
    """A server with so many objects, and the identifiers of some."""

    server: servers.Server
    size: int
    numbers: list[int]
    uids: list[str]
    url: str

    def processes(self) -> Collection[int]:
        """The server's, and those of its database."""
        return self.server.processes() | (_backends(self.url) if self.url else set())


def _backends(url: str) -> set[int]:
    with psycopg.connect(url) as connection:
        return {pid for (pid,) in connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )}  # fmt: skip


def _tables() -> str:
    """What tells one state of the tables from another."""
    digest = hashlib.sha256()
    for file in sorted((servers.ROOT / "keystore" / "migrations").glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _database(size: int, *, anew: bool) -> str:
    """The URL of PostgreSQL's database of so many objects, made where it is missing, and dropped before with `anew`."""
    given = os.environ.get(POSTGRES)
    if not given:
        raise Absent(f"{POSTGRES} names no server")
    name = f"{DATABASE}{size}"
    with psycopg.connect(given.replace("postgres://", "postgresql://"), autocommit=True) as connection:
        if anew:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}"')
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone() is None:
            connection.execute(f'CREATE DATABASE "{name}"')
    return urllib.parse.urlsplit(given)._replace(scheme="postgresql", path=f"/{name}").geturl()


def filled(bench: Bench, size: int, *, postgres: bool) -> Filled:
    """The server on a database of a size, made and filled where that has not been done."""

    def make() -> Filled:
        folder = servers.BUILD / f"{'postgres' if postgres else 'sqlite'}-{size}"
        # One of other tables is of no use.
        done = folder / f"filled-{_tables()}"
        stale = not done.exists()
        url = _database(size, anew=stale) if postgres else ""
        settings = {"DATABASE_URL": url} if url else {}
        if stale:
            shutil.rmtree(folder, ignore_errors=True)
        servers.prepare(folder, **settings)
        if stale:
            grows = size > FEW
            servers.manage(
                folder,
                "loadtestdata",
                *("--owner", PREFIX, "--prefix", PREFIX, "--objects", str(size)),
                *("--clients", str(bench.clients if grows else 10)),
                *("--grants", str(bench.grants if grows else FEW)),
                *("--audit", str(bench.records if grows else 10 * FEW)),
                **settings,
            )
            done.touch()
        server = bench.stack.enter_context(servers.product(folder, **settings))
        numbers = random.Random(size).sample(range(size), min(TOUCHED, size))
        asked = [messages.locate(messages.named(f"{PREFIX}-{number:09d}")) for number in numbers]
        uids = [messages.uid_in(answer) for answer in load.ask(server.kmip, asked)]
        return Filled(server, size, numbers, uids, url)

    made: Filled = bench.once(f"filled {size} {postgres}", make)
    return made


#: What is sent: the request with a number, to a filled server.
Kind = Callable[[Filled], load.Maker]


def _over(requests: list[bytes]) -> load.Maker:
    count = len(requests)
    # Connections begin at different places.
    start = random.randrange(count)
    return lambda number: requests[(start + number) % count]


def _create(_filled: Filled) -> load.Maker:
    before, _, after = messages.create()
    return lambda number: before + messages.new_name() + after


def _group(number: int) -> str:
    return f"{PREFIX}-group-{number // GROUP:09d}"


KINDS: Final[dict[str, tuple[str, Kind, float, float]]] = {
    "get": ("Get", lambda at: _over([messages.get(uid) for uid in at.uids]), 1.3, 1.1),
    "encrypt": ("Encrypt", lambda at: _over([messages.encrypt(uid, DATA) for uid in at.uids]), 1.3, 1.1),
    "name": (
        "Locate by Name",
        lambda at: _over([messages.locate(messages.named(f"{PREFIX}-{number:09d}")) for number in at.numbers]),
        1.3,
        1.1,
    ),
    "application": (
        "Locate by Application Specific Information",
        lambda at: _over([messages.locate(messages.of_application(PREFIX, f"{number:09d}")) for number in at.numbers]),
        1.3,
        1.1,
    ),
    "group": (
        "Locate by Object Group",
        lambda at: _over([messages.locate(messages.in_group(_group(number))) for number in at.numbers]),
        1.3,
        1.1,
    ),
    "state": (
        f"Locate by State and Algorithm, {LISTED} of them",
        lambda at: _over([messages.locate(messages.active_aes(), LISTED)]),
        2.0,
        1.3,
    ),
    "create": ("Create", _create, 1.5, 1.1),
}


def _costs(bench: Bench, kind: Kind, *, postgres: bool) -> Sample:
    results = []
    for size in (bench.size, FEW):
        at = filled(bench, size, postgres=postgres)
        makers = [kind(at) for _ in range(CONNECTIONS)]
        # Connections and backends of the database are there before their CPU is looked at.
        load.run(at.server.kmip, at.processes(), makers, 0.3)
        results.append(checked(load.run(at.server.kmip, at.processes(), makers, bench.seconds)))
    many, few = results
    return Sample(many.cpu * 1e6, few.cpu * 1e6, many.cpu * 1e6, many.rate, many.p99 * 1e3)


def _grows(name: str, *, postgres: bool) -> Row:
    title, kind, must, aim = KINDS[name]
    engine = "PostgreSQL" if postgres else "SQLite"
    return Row(
        f"grow-{'postgres-' if postgres else ''}{name}",
        f"{title} with many objects, {engine}",
        "CPU us",
        f"{FEW:,} objects",
        must,
        aim,
        at_least=False,
        measure=lambda bench: _costs(bench, kind, postgres=postgres),
        on=lambda bench: filled(bench, bench.size, postgres=postgres).server,
    )


class Console:
    """A person's session at the console, begun with the client's certificate."""

    def __init__(self, target: load.Target) -> None:
        context: ssl.SSLContext = load.context(target)
        self.connection = HTTPSConnection("localhost", target.port, context=context, timeout=load.PATIENCE)
        self.cookies: dict[str, str] = {}
        self.first_byte("/ui/login/")
        token = self.cookies["csrftoken"]
        self._ask("POST", "/ui/login/certificate/", f"csrfmiddlewaretoken={token}")
        if "sessionid" not in self.cookies:
            raise Absent("the console does not let the client's certificate in")

    def first_byte(self, path: str) -> float:
        """Seconds until the answer begins; `Absent` unless it is a page."""
        begun = time.monotonic()
        status, seconds = self._ask("GET", path)
        if status != 200:
            raise Absent(f"the console answers {path} with {status}")
        return seconds - begun

    def _ask(self, method: str, path: str, body: str | None = None) -> tuple[int, float]:
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
        headers |= {"Referer": "https://localhost/", "Origin": f"https://localhost:{self.connection.port}"}
        if body is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        self.connection.request(method, path, body, headers)
        answer = self.connection.getresponse()
        begun = time.monotonic()
        answer.read()
        for given in answer.headers.get_all("Set-Cookie") or ():
            name, _, value = given.partition(";")[0].partition("=")
            self.cookies[name] = value
        return answer.status, begun


PAGES: Final = 9


def _list_page(bench: Bench) -> Sample:
    middles = []
    for size in (bench.size, FEW):
        at = filled(bench, size, postgres=False)
        console: Console = bench.once(f"console {size}", lambda at=at: Console(at.server.http))  # type: ignore[misc]
        middles.append(sorted(console.first_byte("/ui/objects/") for _ in range(PAGES))[PAGES // 2])
    return Sample(middles[0] * 1e3, middles[1] * 1e3)


ROWS: Final = [
    *(_grows(name, postgres=postgres) for postgres in (False, True) for name in KINDS),
    Row("grow-list", "the console's list of objects, first byte", "ms", f"{FEW:,} objects", 1.5, 1.2, at_least=False,
        measure=_list_page, on=lambda bench: filled(bench, bench.size, postgres=False).server),
]  # fmt: skip
