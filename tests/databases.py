"""Databases for servers of tests: one of its own on a server that is there, so that the one of the URL stays clean."""

import abc
import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit, urlunsplit

import psycopg
import pymysql

from tests.processes import below, until


@contextlib.contextmanager
def connected(url: str, database: str | None = None) -> Iterator[Any]:
    """A cursor on the server of a URL, each of whose statements counts at once."""
    parts = urlsplit(url)
    name = database or parts.path.strip("/")
    account: dict[str, Any] = {"host": parts.hostname, "user": parts.username}
    if parts.port:
        account["port"] = parts.port
    if parts.password:
        account["password"] = unquote(parts.password)
    if kind(url) is PostgreSQL:
        connection: Any = psycopg.connect(dbname=name or "postgres", autocommit=True, connect_timeout=20, **account)
    else:
        connection = pymysql.connect(database=name or None, autocommit=True, connect_timeout=20, **account)
    with contextlib.closing(connection), connection.cursor() as cursor:
        yield cursor


@contextlib.contextmanager
def own(url: str) -> Iterator[str]:
    """The URL of a new database on the server of another; it is gone at the end."""
    parts, name = urlsplit(url), f"kms_{uuid.uuid4().hex[:12]}"
    system = kind(url).SYSTEM
    with connected(url, system) as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
    try:
        yield urlunsplit(parts._replace(path=f"/{name}"))
    finally:
        with connected(url, system) as cursor:
            # A server that was killed may not have been missed yet.
            cursor.execute(f"DROP DATABASE {name}" + (" WITH (FORCE)" if kind(url) is PostgreSQL else ""))


# Servers of a test's own, which it may stop.


class Private(abc.ABC):
    """A database server whose files are all in a temporary folder; `url` names a database on it."""

    PROGRAMS: ClassVar[tuple[str, ...]]
    #: Who runs it where the tests run as root, which neither server likes.
    USER: ClassVar[str]
    #: A database that it has from the beginning.
    SYSTEM: ClassVar[str]
    #: What asks it to end without waiting for clients.
    END: ClassVar[signal.Signals]

    process: "subprocess.Popen[bytes] | None" = None

    def __init__(self, source: "Private | None" = None) -> None:
        """A new one, or a replica of `source`."""
        self.source = source
        self._folder = tempfile.TemporaryDirectory(prefix="kms-database-")
        self.folder = Path(self._folder.name)
        self.user = self.USER if os.geteuid() == 0 else None
        if self.user is not None:
            account = pwd.getpwnam(self.user)
            os.chown(self.folder, account.pw_uid, account.pw_gid)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        try:
            self.make()
            self.start()
        except BaseException:
            self.__exit__()
            raise

    @classmethod
    def program(cls, name: str) -> str | None:
        """Debian keeps some programs of servers out of the way."""
        folders = [os.environ["PATH"], "/usr/sbin", *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin")))]
        return shutil.which(name, path=os.pathsep.join(folders))

    @classmethod
    def missing(cls) -> list[str]:
        """The programs that are not here."""
        return [name for name in cls.PROGRAMS if cls.program(name) is None]

    def run(self, name: str, *arguments: str) -> None:
        """Run one of the programs to its end."""
        done = subprocess.run(
            [str(self.program(name)), *arguments], cwd=self.folder, user=self.user, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr

    @abc.abstractmethod
    def make(self) -> None:
        """Make its files."""

    @abc.abstractmethod
    def command(self) -> list[str]:
        """The program and its arguments."""

    @property
    @abc.abstractmethod
    def url(self) -> str:
        """The database, for a user without a password."""

    @abc.abstractmethod
    def clients(self) -> int:
        """How many connections others have."""

    @abc.abstractmethod
    def hold(self, held: bool) -> None:
        """Let a replica apply nothing more, or go on."""

    def start(self) -> None:
        """Start it, and wait until it answers."""
        name, *arguments = self.command()
        self.process = subprocess.Popen(
            [str(self.program(name)), *arguments],
            cwd=self.folder,
            user=self.user,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until(self.answers, f"an answer of {name}", 60)

    def answers(self) -> bool:
        try:
            with connected(self.url, self.SYSTEM):
                return True
        except (psycopg.OperationalError, pymysql.OperationalError):
            assert self.process.poll() is None, "the database server ended"
            return False

    def _signal(self, number: signal.Signals) -> None:
        for pid in (self.process.pid, *below(self.process.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def freeze(self) -> None:
        """Let it answer nothing, as if its machine hung; connections stay."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """End it; its files stay, and it can be started again."""
        self.process.send_signal(self.END)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            self.process.wait(20)

    def __enter__(self) -> "Private":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.thaw()
            self.stop()
        self._folder.cleanup()


class PostgreSQL(Private):
    PROGRAMS = ("initdb", "postgres", "pg_basebackup")
    USER = SYSTEM = "postgres"
    END = signal.SIGINT

    def make(self) -> None:
        if self.source is not None:
            self.run("pg_basebackup", "--pgdata", str(self.folder / "data"), "--write-recovery-conf",
                     "--checkpoint=fast", "--no-sync", "--dbname", self.source.url)  # fmt: skip
            return
        self.run("initdb", "--pgdata", str(self.folder / "data"), "--username=kms", "--auth=trust", "--no-sync")

    def command(self) -> list[str]:
        options = ["listen_addresses=127.0.0.1", f"port={self.port}", f"unix_socket_directories={self.folder}"]
        return ["postgres", "-D", str(self.folder / "data"), *(part for one in options for part in ("-c", one))]

    @property
    def url(self) -> str:
        return f"postgresql://kms@127.0.0.1:{self.port}/postgres"

    def clients(self) -> int:
        with connected(self.url) as cursor:
            cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'")
            return int(cursor.fetchone()[0]) - 1

    def hold(self, held: bool) -> None:
        with connected(self.url) as cursor:
            cursor.execute(f"SELECT pg_wal_replay_{'pause' if held else 'resume'}()")


class MariaDB(Private):
    PROGRAMS = ("mariadb-install-db", "mariadbd")
    USER = SYSTEM = "mysql"
    END = signal.SIGTERM

    def make(self) -> None:
        self.run("mariadb-install-db", "--no-defaults", f"--datadir={self.folder / 'data'}", "--skip-test-db",
                 "--auth-root-authentication-method=normal")  # fmt: skip

    def command(self) -> list[str]:
        return [
            "mariadbd", "--no-defaults", f"--datadir={self.folder / 'data'}", "--bind-address=127.0.0.1",
            f"--port={self.port}", f"--server-id={self.port}", "--log-bin=binary",
            f"--socket={self.folder / 'socket'}", f"--pid-file={self.folder / 'pid'}",
        ]  # fmt: skip

    def start(self) -> None:
        super().start()
        with connected(self.url, self.SYSTEM) as cursor:
            if self.source is not None:
                # After a restart it goes on by itself.
                cursor.execute("STOP SLAVE")
                cursor.execute(
                    f"CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT={self.source.port}, MASTER_USER='root', "
                    "MASTER_USE_GTID=slave_pos, MASTER_CONNECT_RETRY=1"
                )
                cursor.execute("START SLAVE")
                return
            cursor.execute("CREATE DATABASE IF NOT EXISTS kms")

    @property
    def url(self) -> str:
        return f"mysql://root@127.0.0.1:{self.port}/kms"

    def clients(self) -> int:
        with connected(self.url) as cursor:
            cursor.execute("SELECT count(*) FROM information_schema.processlist WHERE user = 'root'")
            return int(cursor.fetchone()[0]) - 1

    def hold(self, held: bool) -> None:
        with connected(self.url, self.SYSTEM) as cursor:
            cursor.execute(f"{'STOP' if held else 'START'} SLAVE SQL_THREAD")


def kind(url: str) -> type[Private]:
    """The kind of server that a URL names."""
    return PostgreSQL if url.startswith("postgres") else MariaDB
