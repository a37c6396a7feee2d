"""One encrypted file of everything that the database holds, which another kind of database can take in.

    KMSBACKUP1\\n
    length (4 bytes), head (JSON): when, by which version, from what database, rows of each table, the wrapped file key
    length (4 bytes), chunk                                   ... repeated; the last one is marked

This is the STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár 2015) over AES-256-GCM: chunk number n is sealed
under the nonce prefix (7 bytes) | n (4 bytes) | 1 for the last chunk, else 0, with the digest of the head as associated
data. So no chunk can be changed, left out, moved, repeated or appended, and the file cannot be cut short, unseen. The
file key is random and wrapped by the root key, so that without it the file is useless; what was sealed in the database
stays sealed in it as well. Inside, compressed, is one line of JSON a row.
"""

import base64
import datetime
import fcntl
import glob
import hashlib
import logging
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from struct import Struct
from typing import Any, BinaryIO, Final

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.apps import apps
from django.core.management.color import no_style
from django.db import DatabaseError, connection, connections, models, transaction
from django.db.migrations.recorder import MigrationRecorder

from keystore import administration, conf, milestones, sealing, store, version
from keystore.models import ManagedObject

log = logging.getLogger(__name__)

MAGIC: Final = b"KMSBACKUP1\n"
KEY_CONTEXT: Final = b"backup"
CHUNK: Final = 1 << 20
#: Longer lengths are no chunk of ours: nothing is allocated for a file that lies.
MAX_CHUNK: Final = CHUNK + 16
MAX_HEAD: Final = 1 << 20
PREFIX_LENGTH: Final = 7
#: Rows that are read, and written, together, and bytes of their values after which fewer are.
ROWS: Final = 500
BYTES: Final = 1 << 20
#: What belongs to a running server, and is worth nothing to another.
LEFT_OUT: Final = frozenset({"keystore.consolesession", "keystore.joblease", "keystore.node", "keystore.milestone"})

_LENGTH = Struct(">I")
_NONCE = Struct(">7sIB")

Progress = Callable[[int, int], None]


class BackupError(Exception):
    """A backup that cannot be made or taken in; nothing was written."""


# The file.


class Writer:
    """Writes chunks of what it is given."""

    def __init__(self, file: BinaryIO, key: bytes, prefix: bytes, head: bytes) -> None:
        self._file, self._aead, self._prefix = file, AESGCM(key), prefix
        self._bound = hashlib.sha256(head).digest()
        self._number = 0
        self._packer = zlib.compressobj(6)
        self._buffer = bytearray()

    def write(self, data: bytes) -> None:
        """Add data."""
        self._buffer += self._packer.compress(data)
        while len(self._buffer) > CHUNK:
            self._seal(bytes(self._buffer[:CHUNK]), last=False)
            del self._buffer[:CHUNK]

    def close(self) -> None:
        """Add the last chunk."""
        self._buffer += self._packer.flush()
        while len(self._buffer) > CHUNK:
            self._seal(bytes(self._buffer[:CHUNK]), last=False)
            del self._buffer[:CHUNK]
        self._seal(bytes(self._buffer), last=True)

    def _seal(self, data: bytes, *, last: bool) -> None:
        nonce = _NONCE.pack(self._prefix, self._number, last)
        sealed = self._aead.encrypt(nonce, data, self._bound)
        self._file.write(_LENGTH.pack(len(sealed)) + sealed)
        self._number += 1


def chunks(file: BinaryIO, key: bytes, prefix: bytes, head: bytes) -> Iterator[bytes]:
    """The chunks of a file that is read from behind its head; raises `BackupError` for one that is not genuine."""
    aead, bound, number = AESGCM(key), hashlib.sha256(head).digest(), 0
    following = file.read(_LENGTH.size)
    while True:
        if len(following) != _LENGTH.size:
            raise BackupError("the backup is cut short")
        (length,) = _LENGTH.unpack(following)
        sealed = file.read(min(length, MAX_CHUNK))
        following = file.read(_LENGTH.size)
        last = not following
        try:
            yield aead.decrypt(_NONCE.pack(prefix, number, last), sealed, bound)
        except InvalidTag as exc:
            raise BackupError(f"the backup is damaged or cut short, at its chunk {number}") from exc
        if last:
            return
        number += 1


def lines(parts: Iterator[bytes]) -> Iterator[bytes]:
    """The lines in compressed parts, in bounded memory whatever they unfold to."""
    unpacker, rest = zlib.decompressobj(), b""
    for part in parts:
        while part or unpacker.unconsumed_tail:
            data = rest + unpacker.decompress(part or unpacker.unconsumed_tail, CHUNK)
            part = b""
            *whole, rest = data.split(b"\n")
            yield from whole
    rest += unpacker.flush()
    if rest or not unpacker.eof:
        raise BackupError("the backup's content is cut short")


# Rows.


def tables() -> list[type[models.Model]]:
    """Every table of the database, those that others refer to first."""
    everything = [
        model
        for model in apps.get_models(include_auto_created=True)
        if model._meta.managed and not model._meta.proxy and model._meta.label_lower not in LEFT_OUT
    ]
    done: list[type[models.Model]] = []

    def add(model: type[models.Model]) -> None:
        if model in done or model not in everything:
            return
        for field in model._meta.concrete_fields:
            target = field.remote_field.model if field.remote_field is not None else None
            if isinstance(target, type) and target is not model:
                add(target)
        done.append(model)

    for model in everything:
        add(model)
    return done


def _fields(model: type[models.Model]) -> list[Any]:
    return list(model._meta.concrete_fields)


def _plain(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, bytes | memoryview):
        return {"b": base64.b64encode(bytes(value)).decode()}
    if isinstance(value, datetime.datetime):
        return {"t": value.isoformat()}
    return {"j": value} if isinstance(value, dict | list) else value


def _value(plain: Any) -> Any:
    if isinstance(plain, dict):
        ((kind, value),) = plain.items()
        return _KINDS[kind](value)
    return plain


_KINDS: Final[dict[str, Callable[[Any], Any]]] = {
    "b": base64.b64decode,
    "t": datetime.datetime.fromisoformat,
    "j": lambda value: value,
}


def _rows(model: type[models.Model]) -> Iterator[list[Any]]:
    """The rows of a table by primary key, a page at a time: every driver would else hold all of them."""
    names = [field.attname for field in _fields(model)]
    place = names.index(model._meta.pk.attname)
    rows = model._default_manager.order_by("pk").values_list(*names)
    last = None
    while True:
        page = list((rows if last is None else rows.filter(pk__gt=last))[:ROWS])
        if not page:
            return
        yield from ([_plain(value) for value in row] for row in page)
        last = page[-1][place]


def _migrations() -> list[str]:
    return sorted(f"{app}.{name}" for app, name in MigrationRecorder(connection).applied_migrations())


@contextmanager
def _snapshot() -> Iterator[None]:
    """A transaction that sees one moment, keeps no writer waiting, and reads only."""
    connection.close()
    connection.ensure_connection()
    vendor = connection.vendor
    with connection.cursor() as cursor:
        if vendor == "postgresql":
            cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        elif vendor == "mysql":
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            cursor.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
        else:
            cursor.execute("BEGIN DEFERRED")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ROLLBACK")
        connection.close()


# Backup.


def write(path: Path, progress: Progress = lambda done, of: None) -> int:
    """Write a backup of the whole database as of now, without keeping anybody waiting; how many rows it has.

    The file appears under its name when it is complete, and on disk.
    """
    sealer = sealing.sealer()
    sealer.check()
    key, prefix = os.urandom(sealing.KEY_LENGTH), os.urandom(PREFIX_LENGTH)
    if path.exists():
        raise BackupError(f"{path} exists; name another file")
    _sweep(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with _snapshot(), _create(part) as file:
            counts = {model._meta.label_lower: model._default_manager.count() for model in tables()}
            head = orjson.dumps(
                {
                    "made": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                    "version": version.VERSION,
                    "database": connection.vendor,
                    "migrations": _migrations(),
                    "rows": counts,
                    "root_key": sealer.root_name,
                    "prefix": prefix.hex(),
                    "key": base64.b64encode(sealer.wrap(key, KEY_CONTEXT)).decode(),
                }
            )
            file.write(MAGIC + _LENGTH.pack(len(head)) + head)
            writer = Writer(file, key, prefix, head)
            done, of = 0, sum(counts.values())
            for model in tables():
                header = {"table": model._meta.label_lower, "fields": [field.attname for field in _fields(model)]}
                writer.write(orjson.dumps(header) + b"\n")
                for row in _rows(model):
                    writer.write(orjson.dumps(row) + b"\n")
                    done += 1
                    if done % ROWS == 0:
                        progress(done, of)
            writer.close()
            file.flush()
            os.fsync(file.fileno())
        os.link(part, path)  # Which, unlike a renaming, takes no other file's place.
        sealing.sync_folder(path)
    finally:
        part.unlink(missing_ok=True)
    progress(of, of)
    # The backup is made, whether or not that can be noted: a database that takes no more needs one.
    try:
        with transaction.atomic():
            milestones.note(milestones.BACKUP)
            administration.note("Back Up", f"{done} rows in {path}")
    except DatabaseError as exc:
        log.warning("the backup in %s is not in the audit: %s", path, exc)
    return done


def _create(path: Path) -> BinaryIO:
    file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
    fcntl.flock(file, fcntl.LOCK_EX)
    return file


def _sweep(path: Path) -> None:
    """Remove what backups to the same file left behind whose process was killed: nobody holds its lock."""
    for part in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        with part.open("rb") as file, suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            part.unlink(missing_ok=True)


# Restore.


class Backup:
    """A backup file and its head."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise BackupError(f"{path} is no backup")
            self._head = self._read_head(file)
            self._start = file.tell()
        try:
            self.head: dict[str, Any] = orjson.loads(self._head)
            self._prefix, self.wrapped = bytes.fromhex(self.head["prefix"]), base64.b64decode(self.head["key"])
            self.rows = sum(self.head["rows"].values())
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            raise BackupError(f"the head of {path} is damaged") from exc

    @staticmethod
    def _read_head(file: BinaryIO) -> bytes:
        size = file.read(_LENGTH.size)
        length = _LENGTH.unpack(size)[0] if len(size) == _LENGTH.size else 0
        head = file.read(length) if length <= MAX_HEAD else b""
        if not head or len(head) != length:
            raise BackupError("the head of the backup is damaged")
        return head

    def lines(self, provider: sealing.Provider) -> Iterator[bytes]:
        """The lines; raises `BackupError` for what is not genuine, and for another root key."""
        try:
            key = provider.unwrap(self.wrapped, KEY_CONTEXT)
        except sealing.WrongRootKey as exc:
            raise BackupError(f"the backup was made under another root key ({self.head['root_key']})") from exc
        if len(self._prefix) != PREFIX_LENGTH or len(key) != sealing.KEY_LENGTH:
            raise BackupError("the head of the backup is damaged")
        with self.path.open("rb") as file:
            file.seek(self._start)
            try:
                yield from lines(chunks(file, key, self._prefix, self._head))
            except zlib.error as exc:
                raise BackupError("the backup's content is damaged") from exc

    def verify(self, provider: sealing.Provider, progress: Progress = lambda done, of: None) -> None:
        """Read the file to its end; raises `BackupError` where anything is not as it was written."""
        counts: dict[str, int] = {}
        table, done = "", 0
        for line in self.lines(provider):
            if line.startswith(b"{"):
                table = orjson.loads(line)["table"]
                counts[table] = 0
                continue
            counts[table] += 1
            done += 1
            if done % ROWS == 0:
                progress(done, self.rows)
        if counts != self.head["rows"]:
            raise BackupError("the backup does not have the rows that its head names")


def restore(path: Path, progress: Progress = lambda done, of: None) -> int:
    """Take a backup into an empty database, all or nothing, once the whole file was found genuine; how many rows."""
    backup = Backup(path)
    provider = provider_of(backup)
    _check_empty(backup)
    backup.verify(provider, lambda done, of: progress(done, 2 * of))
    with transaction.atomic():
        _check_empty(backup)
        known = {model._meta.label_lower: model for model in tables()}
        with connection.constraint_checks_disabled():
            for model in reversed(list(known.values())):
                # What migrations have put there: the backup has its own.
                model._default_manager.all().delete()
            done = _take_in(backup, provider, known, progress)
        connection.check_constraints()
        with connection.cursor() as cursor:
            for statement in connection.ops.sequence_reset_sql(no_style(), list(known.values())):
                cursor.execute(statement)
        sealing.reset()  # To open what was taken in.
        administration.note("Restore Backup", f"{done} rows of {path}, made {backup.head['made']}")
    sealing.reset()
    store.rows.clear()
    connections.close_all()
    return done


def provider_of(backup: Backup) -> sealing.Provider:
    """The root key that fits a backup, of those that the settings name."""
    found = sealing.providers(conf.current().sealing)
    for provider in found:
        try:
            provider.unwrap(backup.wrapped, KEY_CONTEXT)
        except sealing.WrongRootKey:
            continue
        return provider
    return found[0]


def _check_empty(backup: Backup) -> None:
    if ManagedObject.objects.exists() or store.root_key() is not None:
        raise BackupError("the database is not empty: restore into a new one, made with manage.py migrate")
    if _migrations() != backup.head["migrations"]:
        made = backup.head["version"]
        raise BackupError(
            f"the backup was made with other migrations, by version {made}: restore with that, then migrate"
        )


def _take_in(backup: Backup, provider: sealing.Provider, known: dict[str, Any], progress: Progress) -> int:
    done, size = 0, 0
    insert, group = _Insert(ManagedObject, []), list[list[Any]]()
    for line in backup.lines(provider):
        start = line.startswith(b"{")
        if group and (start or len(group) >= ROWS or size >= BYTES):
            insert.run(group)
            done += len(group)
            progress(backup.rows + done, 2 * backup.rows)
            group, size = [], 0
        if start:
            header = orjson.loads(line)
            insert = _Insert(known[header["table"]], header["fields"])
        else:
            group.append(orjson.loads(line))
            size += len(line)
    if group:
        insert.run(group)
        done += len(group)
    progress(2 * backup.rows, 2 * backup.rows)
    return done


class _Insert:
    """INSERT of rows of one table as the backup has them."""

    def __init__(self, model: type[models.Model], names: list[str]) -> None:
        by_name = {field.attname: field for field in _fields(model)}
        self._fields = [by_name[name] for name in names]
        quote = connection.ops.quote_name
        columns = ", ".join(quote(field.column) for field in self._fields)
        places = ", ".join(["%s"] * len(names))
        self._sql = f"INSERT INTO {quote(model._meta.db_table)} ({columns}) VALUES ({places})"  # noqa: S608 - names only

    def run(self, rows: list[list[Any]]) -> None:
        """Insert rows."""
        values = [
            [field.get_db_prep_save(_value(plain), connection) for field, plain in zip(self._fields, row, strict=True)]
            for row in rows
        ]
        with connection.cursor() as cursor:
            cursor.executemany(self._sql, values)
