"""A full disk, a database that takes no writes, clocks that are a day off: clear errors, nothing acknowledged lost."""

import contextlib
import errno
import os
import resource
import time

import pytest
from django.db import connection

from keystore import audit, backup, chain, conf, engine, resealing, sealing, states, store, withholding
from keystore.authn import Peer
from keystore.models import ManagedObject, SealingKey, WithheldObject
from kmip.enums import Operation, ResultReason, State
from kmip.errors import KMIPError
from kmip.payloads import ActivateRequest, DestroyRequest
from tests.authority import do
from tests.made import activate, created, material, registered, seen

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("own_root")]
DAY = 86_400


def size_of_log() -> int:
    name = str(connection.settings_dict["NAME"])
    return os.path.getsize(name + "-wal") if os.path.exists(name + "-wal") else 0


@contextlib.contextmanager
def files_of_at_most(size: int):
    """No file grows beyond a size, as on a full disk: the error comes from the same write."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextlib.contextmanager
def full():
    """A database that has no room for a page more."""
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA page_count")
        (pages,) = cursor.fetchone()
        cursor.execute(f"PRAGMA max_page_count = {pages}")
        try:
            yield
        finally:
            cursor.execute("PRAGMA max_page_count = 4294967294")


@contextlib.contextmanager
def no_room_for_the_log():
    """A disk without room for the write-ahead log."""
    connection.ensure_connection()
    with files_of_at_most(size_of_log() + 40_000):
        yield


@contextlib.contextmanager
def read_only():
    """A database that may be read only."""
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA query_only = ON")
        try:
            yield
        finally:
            cursor.execute("PRAGMA query_only = OFF")


ADVERSITY = {"full": full, "no room for the log": no_room_for_the_log, "read-only": read_only}


@pytest.mark.skipif(connection.vendor != "sqlite", reason="brought about by SQLite's own means")
@pytest.mark.parametrize("trouble", ADVERSITY.values(), ids=ADVERSITY)
def test_a_database_that_takes_no_more_loses_nothing(trouble, caplog):
    """Changes fail with a clear error, what was acknowledged is there, and all goes on when there is room again."""
    made = {uid: material(uid) for uid in (created() for _ in range(3))}
    audit.writer.flush()
    with trouble():
        with pytest.raises(KMIPError) as caught:
            for _ in range(2000):
                uid = created()
                made[uid] = None
        assert caught.value.reason is ResultReason.GENERAL_FAILURE
        assert caught.value.message == engine.UNAVAILABLE
        store.rows.clear()
        for uid, key in made.items():
            assert key is None or material(uid) == key
    assert "the database failed" in caplog.text
    store.rows.clear()
    assert set(made) == set(ManagedObject.objects.values_list("uid", flat=True))
    assert all(material(uid) for uid in made)
    assert material(created())
    audit.writer.flush()
    chain.checkpoint()
    assert chain.verify()[1] == []


@pytest.mark.skipif(connection.vendor != "sqlite", reason="brought about by SQLite's own means")
def test_what_cannot_be_recorded_is_not_given_out():
    """While records of reads cannot be written, nothing is read."""
    uid = created()
    assert material(uid)  # The first Get takes its freshness away, which is a change.
    audit.writer.flush()
    with read_only():
        material(uid)
        with pytest.raises(Exception, match="readonly"):
            audit.writer.flush()
        audit.writer.failing = True
        with pytest.raises(KMIPError, match="cannot record"):
            material(uid)
    audit.writer.flush()
    audit.writer.failing = False
    assert material(uid)


def test_a_backup_on_a_full_disk_leaves_nothing_behind(tmp_path):
    """It fails with what the system says, and the next one succeeds."""
    registered(material=os.urandom(200_000))
    sealing.sealer().check()
    path = tmp_path / "all.kms"
    with files_of_at_most(100_000), pytest.raises(OSError) as caught:
        backup.write(path)
    assert caught.value.errno == errno.EFBIG
    assert [one.name for one in tmp_path.iterdir()] == ["root.key"]
    assert backup.write(path)


def test_a_root_key_is_not_replaced_on_a_full_disk(own_root):
    """Neither the file nor the database has changed; the next rotation succeeds."""
    uid = created()
    sealing.sealer().check()
    key, text = material(uid), own_root.read_text()
    with files_of_at_most(10), pytest.raises(OSError):
        resealing.rotate_root_file(own_root)
    assert own_root.read_text() == text and not sealing.staged_path(own_root).exists()
    sealing.reset()
    store.rows.clear()
    assert material(uid) == key
    resealing.rotate_root_file(own_root)
    store.rows.clear()
    assert material(uid) == key and own_root.read_text() != text


@pytest.mark.skipif(connection.vendor != "sqlite", reason="brought about by SQLite's own means")
def test_a_rotation_in_a_database_that_takes_no_more_is_resumed():
    """What was sealed anew stays, the rest follows later."""
    made = {uid: material(uid) for uid in (created() for _ in range(5))}
    with read_only(), pytest.raises(Exception, match="readonly"):
        resealing.rotate_sealing_keys(wait=0)
    sealing.reset()
    store.rows.clear()
    assert {uid: material(uid) for uid in made} == made
    assert resealing.rotate_sealing_keys(wait=0) == 5
    assert SealingKey.objects.filter(active=True).count() == len(sealing.PURPOSES)


@pytest.mark.parametrize("off", [DAY, -DAY], ids=["ahead", "behind"])
def test_a_clock_that_is_a_day_off(off, monkeypatch, configure):
    """Objects stay what they are, new ones are made, dates count by the node's clock, and undo by the database's."""
    configure(**{"lifecycle.destroy_delay": 3600.0})
    now = int(time.time())
    before, due = created(), created(activation_date=now + DAY // 2)
    activate(before)
    gone = created()
    do(Operation.DESTROY, DestroyRequest(unique_identifier=gone))
    key = material(before)
    real, real_ns = time.time, time.time_ns
    monkeypatch.setattr(time, "time", lambda: real() + off)
    monkeypatch.setattr(time, "time_ns", lambda: real_ns() + off * 1_000_000_000)
    store.rows.clear()
    assert material(before) == key and seen(before).state is State.ACTIVE
    assert seen(due).state is (State.ACTIVE if off > 0 else State.PRE_ACTIVE)
    new = created()
    do(Operation.ACTIVATE, ActivateRequest(unique_identifier=new))
    assert material(new) and abs(seen(new).initial_date - now - off) < 100
    # Whose clock is a day ahead forgets nothing too soon, and whose is a day behind keeps nothing for longer.
    other = created()
    do(Operation.DESTROY, DestroyRequest(unique_identifier=other))
    assert withholding.purge() == 0 and WithheldObject.objects.count() == 2
    withholding.restore("default", gone, Peer("cli", user="root"))
    assert material(gone)
    audit.writer.flush()
    chain.checkpoint()
    monkeypatch.setattr(time, "time", real)
    monkeypatch.setattr(time, "time_ns", real_ns)
    assert material(created()) and seen(new).state in set(State) - states.DESTROYED
    audit.writer.flush()
    chain.checkpoint()
    assert chain.verify()[1] == []
    assert conf.current().lifecycle.destroy_delay == 3600.0
