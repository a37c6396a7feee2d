"""Backups: whole or refused, useless without the root key, and the same in every kind of database."""

import io
import json
import os
import shutil
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from keystore import backup, conf, sealing
from tests import databases
from tests.processes import environment, manage

PROGRAM = Path(__file__).resolve().parent.parent / "survival.py"


def program(folder: Path, *arguments: str, stdin: str = "", **settings: str) -> str:
    """What the program of `survival` prints."""
    done = subprocess.run(
        [sys.executable, str(PROGRAM), *arguments],
        cwd=folder, env=environment(folder, settings), input=stdin, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def origin(tmp_path_factory):
    """A database with objects, its backup, and what the objects are."""
    folder = tmp_path_factory.mktemp("origin")
    assert manage(folder, "migrate", "-v0").returncode == 0
    made = program(folder, "fill", "12")
    done = manage(folder, "backup", "all.kms")
    assert done.returncode == 0, done.stderr
    return folder, folder / "all.kms", made


@pytest.mark.django_db(transaction=True)
def test_the_time_of_a_backup_is_noted(tmp_path, monkeypatch):
    """The console shows its age; one that was not finished does not count."""
    from django.db import DatabaseError

    from keystore import milestones

    sealing.create_root_key(conf.current().sealing.root_key_file)
    sealing.reset()
    with pytest.raises(backup.BackupError):
        backup.write(Path(__file__))
    assert milestones.when(milestones.BACKUP) is None
    backup.write(tmp_path / "one.kms")
    assert milestones.when(milestones.BACKUP) is not None

    def broken(name):
        raise DatabaseError("read-only")

    monkeypatch.setattr(milestones, "note", broken)
    backup.write(tmp_path / "two.kms")
    assert (tmp_path / "two.kms").exists()
    sealing.reset()


@pytest.fixture
def elsewhere(tmp_path, origin):
    """A folder with the same root key and no database yet."""
    shutil.copy(origin[0] / "root.key", tmp_path / "root.key")
    return tmp_path


def test_a_backup_is_restored_with_everything(origin, elsewhere):
    """Every key is had again; the file is its owner's alone, and neither it nor its parts are left lying about."""
    folder, file, made = origin
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in folder.glob("*.part")] == []
    manage(elsewhere, "migrate", "-v0")
    done = manage(elsewhere, "restore", str(file))
    assert done.returncode == 0, done.stderr
    assert program(elsewhere, "check", stdin=made) == "whole\n"
    told = manage(elsewhere, "audit", "export").stdout
    assert '"Restore Backup"' in told and '"Back Up"' not in told
    assert '"Back Up"' in manage(folder, "audit", "export").stdout
    assert "verified" in manage(elsewhere, "audit", "verify").stdout
    again = manage(elsewhere, "restore", str(file))
    assert again.returncode != 0 and "not empty" in again.stderr
    assert manage(folder, "backup", "all.kms").returncode != 0


def test_a_backup_is_useless_without_its_root_key(origin, tmp_path):
    """Another root key is refused, and named."""
    manage(tmp_path, "migrate", "-v0")
    refused = manage(tmp_path, "restore", str(origin[1]))
    assert refused.returncode != 0 and "another root key" in refused.stderr


@pytest.fixture
def provider(origin, configure):
    """The root key of the backup, in this process."""
    configure(**{"sealing.root_key_file": origin[0] / "root.key"})
    return sealing.providers(conf.current().sealing)[0]


def damage() -> dict[str, object]:
    """Ways to damage a file, each a function of its bytes."""

    def flip(place: float):
        def change(data: bytes) -> bytes:
            at = int(len(data) * place) if place < 1 else len(data) - 1
            return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]

        return change

    changes = {f"byte flipped at {place:.2f}": flip(place) for place in (0.0, 0.005, 0.02, 0.3, 0.6, 0.9, 1)}
    changes |= {
        "empty": lambda data: b"",
        "cut short by a byte": lambda data: data[:-1],
        "cut in half": lambda data: data[: len(data) // 2],
        "something appended": lambda data: data + b"x",
        "a length appended": lambda data: data + bytes(4),
        "another file": lambda data: b"PK" + data[2:],
    }
    return changes


DAMAGE = damage()


@pytest.mark.parametrize("change", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_backup_is_refused(origin, provider, tmp_path, change):
    """Wherever it is damaged."""
    path = tmp_path / "damaged"
    path.write_bytes(change(origin[1].read_bytes()))
    with pytest.raises(backup.BackupError):
        backup.Backup(path).verify(provider)


def test_every_byte_counts(origin, provider, tmp_path):
    """A flipped bit in any byte of a small stretch of each part is found."""
    data, path = origin[1].read_bytes(), tmp_path / "damaged"
    for at in [*range(40), *range(len(data) - 40, len(data))]:
        path.write_bytes(data[:at] + bytes([data[at] ^ 0x40]) + data[at + 1 :])
        with pytest.raises(backup.BackupError):
            backup.Backup(path).verify(provider)


def test_a_damaged_backup_leaves_the_database_as_it_was(origin, elsewhere):
    """Its last byte is wrong: nothing is written, and the whole file can be restored afterwards."""
    data = origin[1].read_bytes()
    (elsewhere / "damaged").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    manage(elsewhere, "migrate", "-v0")
    refused = manage(elsewhere, "restore", "damaged")
    assert refused.returncode != 0 and "damaged" in refused.stderr
    done = manage(elsewhere, "restore", str(origin[1]))
    assert done.returncode == 0, done.stderr


def stream(count: int, size: int = backup.CHUNK) -> tuple[bytes, bytes, list[bytes]]:
    """Head, key, and sealed chunks with their lengths."""
    file, key = io.BytesIO(), os.urandom(32)
    writer = backup.Writer(file, key, b"prefix7", b"head")
    for number in range(count):
        writer._seal(bytes([number]) * 10, last=number + 1 == count)
    data, parts = file.getvalue(), []
    while data:
        length = 4 + int.from_bytes(data[:4])
        parts.append(data[:length])
        data = data[length:]
    return b"head", key, parts


MOVES = {
    "whole": (lambda parts: parts, True),
    "left out": (lambda parts: parts[:1] + parts[2:], False),
    "swapped": (lambda parts: [parts[1], parts[0], *parts[2:]], False),
    "repeated": (lambda parts: [parts[0], parts[0], *parts[1:]], False),
    "without the last": (lambda parts: parts[:-1], False),
    "only the last": (lambda parts: parts[-1:], False),
    "the last twice": (lambda parts: [*parts, parts[-1]], False),
    "none": (lambda parts: [], False),
}


@pytest.mark.parametrize("move, whole", MOVES.values(), ids=MOVES)
def test_chunks_keep_their_places(move, whole):
    """The STREAM construction: no chunk can be left out, moved, repeated or appended."""
    head, key, parts = stream(4)
    file = io.BytesIO(b"".join(move(parts)))
    if whole:
        assert len(list(backup.chunks(file, key, b"prefix7", head))) == 4
    else:
        with pytest.raises(backup.BackupError):
            list(backup.chunks(file, key, b"prefix7", head))


def test_a_head_cannot_be_exchanged():
    """Chunks belong to their head."""
    _, key, parts = stream(1)
    with pytest.raises(backup.BackupError):
        list(backup.chunks(io.BytesIO(b"".join(parts)), key, b"prefix7", b"another"))


def test_what_is_packed_unfolds_in_bounded_memory():
    """64 MiB of nothing are read in steps."""
    file, key = io.BytesIO(), os.urandom(32)
    writer = backup.Writer(file, key, b"prefix7", b"head")
    line = bytes(1023) + b"\n"
    for _ in range(64 * 1024):
        writer.write(line)
    writer.close()
    file.seek(0)
    tracemalloc.start()
    count = sum(1 for _ in backup.lines(backup.chunks(file, key, b"prefix7", b"head")))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 64 * 1024
    assert peak < 16 << 20


@pytest.fixture
def server(request):
    """A database of its own on one of the servers that the tests may use."""
    url = os.environ.get(request.param)
    if not url:
        pytest.skip(f"{request.param} is not set")
    with databases.own(url) as made:
        yield made


@pytest.mark.parametrize("server", ["TEST_POSTGRES_URL", "TEST_MARIADB_URL"], indirect=True)
def test_a_backup_moves_to_another_kind_of_database_and_back(origin, elsewhere, tmp_path_factory, server):
    """From SQLite to a server, where new objects find new numbers, and back."""
    _, file, made = origin
    assert manage(elsewhere, "migrate", "-v0", DATABASE_URL=server).returncode == 0
    done = manage(elsewhere, "restore", str(file), DATABASE_URL=server)
    assert done.returncode == 0, done.stderr
    assert program(elsewhere, "check", stdin=made, DATABASE_URL=server) == "whole\n"
    more = program(elsewhere, "fill", "3", DATABASE_URL=server)
    done = manage(elsewhere, "backup", "again.kms", DATABASE_URL=server)
    assert done.returncode == 0, done.stderr
    back = tmp_path_factory.mktemp("back")
    shutil.copy(elsewhere / "root.key", back / "root.key")
    manage(back, "migrate", "-v0")
    done = manage(back, "restore", str(elsewhere / "again.kms"))
    assert done.returncode == 0, done.stderr
    everything = json.dumps(json.loads(made) | json.loads(more))
    assert program(back, "check", stdin=everything) == "whole\n"


def test_a_backup_does_not_hold_a_key_in_the_clear(origin, provider):
    """Neither the file nor what is inside its encryption."""
    made = json.loads(origin[2])
    assert made
    inside = b"\n".join(backup.Backup(origin[1]).lines(provider))
    for uid in made:
        assert uid.encode() in inside
        assert uid.encode() not in origin[1].read_bytes()
