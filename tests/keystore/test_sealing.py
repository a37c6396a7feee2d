"""Sealing: what a blob is bound to, whose root key fits, and keys that are replaced while others work."""

import dataclasses
import os
import threading
import time

import pytest
from django.db import connection, transaction

from keystore import conf, engine, resealing, sealing, shares, store
from keystore.authn import Peer
from keystore.models import AuditRecord, ManagedObject, RootKey, SealingKey
from kmip.attributes import Attributes
from kmip.enums import CryptographicAlgorithm, ObjectType, Operation
from kmip.payloads import CreateRequest, DestroyRequest
from tests.made import material

ALICE = Peer("cli", user="alice")


def create() -> str:
    attributes = Attributes()
    attributes.cryptographic_algorithm = CryptographicAlgorithm.AES
    attributes.cryptographic_length = 256
    attributes.cryptographic_usage_mask = 12
    request = CreateRequest(object_type=ObjectType.SYMMETRIC_KEY, attributes=attributes)
    return engine.execute(Operation.CREATE, request, ALICE).unique_identifier


def numbers() -> set[int]:
    return {sealing.number_of(bytes(blob)) for (blob,) in ManagedObject.objects.values_list("material") if blob}


MOVED = {
    "another identifier": ("b", 1, 0),
    "another version": ("a", 2, 0),
    "a flipped bit": ("a", 1, 1),
}


@pytest.mark.django_db
@pytest.mark.parametrize("uid, version, flip", MOVED.values(), ids=MOVED)
def test_material_opens_only_where_it_belongs(own_root, uid, version, flip):
    """A blob that was moved, taken back or changed is refused."""
    sealer = sealing.sealer()
    blob = bytearray(sealer.seal(b"secret", "a", 1))
    assert sealer.open(bytes(blob), "a", 1) == b"secret"
    blob[-1] ^= flip
    with pytest.raises(sealing.SealingError, match="does not belong"):
        sealer.open(bytes(blob), uid, version)


@pytest.mark.django_db
@pytest.mark.parametrize("blob", [b"", b"\x01", b"\x02" + bytes(40), b"\x01\0\0\0\x63" + bytes(40), b"\x01\0\0\0\x01"])
def test_what_is_no_blob_is_refused(own_root, blob):
    """Short blobs, unknown formats and unknown keys are refused, not crashed on."""
    sealer = sealing.sealer()
    sealer.check()
    if len(blob) > 4 and blob[0] == 1 and blob[4] == 1:
        blob = blob[:1] + sealer.active(sealing.MATERIAL).to_bytes(4)
    with pytest.raises(sealing.SealingError):
        sealer.open(blob, "a", 1)


@pytest.mark.django_db(transaction=True)
def test_another_root_key_is_refused(own_root):
    """The key check value tells a root key that is not this database's, also before there are objects."""
    sealing.sealer().check()
    own_root.write_text(os.urandom(32).hex())
    sealing.reset()
    with pytest.raises(sealing.WrongRootKey, match="not the one"):
        sealing.sealer().check()
    assert SealingKey.objects.count() == len(sealing.PURPOSES) + 1


@pytest.mark.django_db(transaction=True)
def test_a_database_whose_check_value_is_gone_gets_no_new_one(own_root):
    """Nothing is sealed under a fresh key where sealed objects stand whose key is lost."""
    create()
    RootKey.objects.all().delete()
    sealing.reset()
    with pytest.raises(sealing.SealingError, match="restore a backup"):
        sealing.sealer().check()


FILES = {
    "missing": (None, 0o600, "cannot read"),
    "readable by others": ("00" * 32, 0o644, "chmod 600"),
    "short": ("00" * 16, 0o600, "16 bytes instead of 32"),
    "not hexadecimal": ("secret", 0o600, "does not hold a key"),
}


@pytest.mark.parametrize("text, mode, message", FILES.values(), ids=FILES)
def test_a_bad_root_key_file_is_refused(tmp_path, text, mode, message):
    """Each with its own message, which does not show what the file holds."""
    path = tmp_path / "root.key"
    if text is not None:
        path.write_text(text)
        path.chmod(mode)
    with pytest.raises(sealing.SealingError, match=message) as caught:
        sealing.read_root_key(path)
    assert text is None or text not in str(caught.value)


@pytest.mark.django_db(transaction=True)
def test_rotation_seals_everything_anew(own_root):
    """After it no object is under an old key, in whatever process, and all are as they were."""
    before = {uid: material(uid) for uid in (create() for _ in range(7))}
    old = numbers()
    assert resealing.rotate_sealing_keys(wait=0) == 7
    assert not numbers() & old
    assert AuditRecord.objects.filter(operation="Rotate Sealing Keys", method="local").count() == 1
    sealing.reset()
    store.rows.clear()
    assert {uid: material(uid) for uid in before} == before


@pytest.mark.django_db(transaction=True)
def test_a_rotation_that_is_cut_short_is_resumed(own_root, monkeypatch):
    """Every row is readable at any point, and the rest is done later."""
    before = {uid: material(uid) for uid in (create() for _ in range(6))}
    monkeypatch.setattr(resealing, "GROUP", 2)

    class Cut(Exception):
        pass

    def cut(done: int, of: int) -> None:
        if done >= 2:
            raise Cut

    with pytest.raises(Cut):
        resealing.rotate_sealing_keys(cut, wait=0)
    assert len(numbers()) == 2
    store.rows.clear()
    assert {uid: material(uid) for uid in before} == before
    assert resealing.reseal(wait=0) == 2
    assert len(numbers()) == 1


@pytest.mark.django_db(transaction=True)
def test_another_process_reads_what_a_new_key_sealed(own_root):
    """A process learns of a new sealing key by a number that it does not know, and of the one to use within seconds."""
    uid = create()
    other = sealing.Sealer(lambda: sealing.providers(_options(own_root)))
    other.check()
    resealing.rotate_sealing_keys(wait=0)
    row = ManagedObject.objects.get(uid=uid)
    assert other.open(bytes(row.material), uid, row.version)
    other._read -= sealing.ACTIVE_SECONDS + 1
    assert sealing.number_of(other.seal(b"x", "a", 1)) in numbers()


def _options(path):
    return dataclasses.replace(conf.current().sealing, root_key_file=path)


@pytest.mark.django_db(transaction=True)
def test_rows_that_change_during_a_rotation_keep_their_change(own_root, monkeypatch):
    """A row that was written between reading and sealing anew is left to the next sweep."""
    uid = create()
    stale = list(ManagedObject.objects.filter(uid=uid).values_list("pk", "material", "version"))
    with transaction.atomic():
        managed = store.at(uid, 0)
        managed.attributes.last_change_date += 1
        store.save(managed)

    class Stale:
        def values_list(self, *_):
            return stale

    manager = ManagedObject._default_manager
    real = manager.filter
    with monkeypatch.context() as patch:
        patch.setattr(manager, "filter", lambda **kw: Stale() if "pk__in" in kw else real(**kw), raising=False)
        assert resealing._seal_anew(resealing.TABLES[0], [uid]) == 0
    store.rows.clear()
    assert material(uid)


@pytest.mark.django_db(transaction=True)
def test_a_new_root_key_takes_the_place_of_the_file(own_root):
    """The old file is kept under its name, the new one opens everything, and running processes go on."""
    uid = create()
    before, running = material(uid), sealing.sealer()
    derived = running.derive("audit")
    kept = resealing.rotate_root_file(own_root)
    assert kept.exists() and kept.read_text() != own_root.read_text()
    assert kept.stat().st_mode & 0o777 == own_root.stat().st_mode & 0o777 == 0o600
    assert not sealing.staged_path(own_root).exists()
    assert running.seal(b"x", "a", 1)
    store.rows.clear()
    assert material(uid) == before
    assert sealing.sealer().derive("audit") == derived
    own_root.write_text(kept.read_text())
    sealing.reset()
    with pytest.raises(sealing.WrongRootKey):
        sealing.sealer().check()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("point", ["before the database", "after the database"])
def test_a_rotation_of_the_root_key_that_is_cut_short_is_finished_or_forgotten(own_root, monkeypatch, point):
    """Whichever key the database has taken is found at the next start."""
    uid = create()
    before = material(uid)

    class Cut(Exception):
        pass

    def cut(*_):
        raise Cut

    real = resealing.rotate_root
    after = point == "after the database"
    with monkeypatch.context() as patch:
        patch.setattr(resealing, "rotate_root", lambda new: (real(new) if after else None, cut()))
        with pytest.raises(Cut):
            resealing.rotate_root_file(own_root)
    assert sealing.staged_path(own_root).exists()
    old = own_root.read_text()
    sealing.reset()
    store.rows.clear()
    assert material(uid) == before
    # Backups made before the rotation need the old key.
    assert old in {path.read_text() for path in own_root.parent.glob("root.key*")}
    resealing.rotate_root_file(own_root)
    assert not sealing.staged_path(own_root).exists()
    store.rows.clear()
    assert material(uid) == before


@pytest.mark.django_db(transaction=True)
def test_the_root_key_moves_to_another_provider(own_root, configure):
    """From a file into the environment, and then into shares."""
    uid = create()
    before = material(uid)
    key = os.urandom(32)
    resealing.rotate_root(sealing.LocalProvider(key))
    configure(**{"sealing.provider": "keystore.sealing.environment_provider", "sealing.root_key": key.hex()})
    sealing.reset()
    store.rows.clear()
    assert material(uid) == before
    key = os.urandom(32)
    resealing.rotate_root(sealing.LocalProvider(key))
    configure(**{"sealing.provider": "keystore.shares.provider"})
    sealing.reset()
    with pytest.raises(sealing.Sealed):
        sealing.sealer()
    shares.give(shares.combine([shares.read(text) for text in shares.split(key, shares=3, threshold=2)][1:]))
    try:
        store.rows.clear()
        assert material(uid) == before
    finally:
        shares._root = None


@pytest.mark.django_db(transaction=True)
def test_writers_and_a_rotation_do_not_lose_one_another(own_root):
    """Keys that are made and destroyed meanwhile are all as they were acknowledged."""
    first = {uid: material(uid) for uid in (create() for _ in range(5))}
    stop, made, failed = threading.Event(), {}, []

    def work():
        try:
            while not stop.is_set():
                uid = create()
                made[uid] = material(uid)
                if len(made) % 5 == 0:
                    engine.execute(Operation.DESTROY, DestroyRequest(unique_identifier=uid), ALICE)
                    del made[uid]
                # SQLite is not fair: who writes without a pause keeps others out for as long as they are ready to wait.
                time.sleep(0.01)
        except Exception as exc:
            failed.append(exc)
        finally:
            connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    for _ in range(3):
        resealing.rotate_sealing_keys(wait=0)
    stop.set()
    thread.join()
    assert not failed
    store.rows.clear()
    sealing.reset()
    assert {uid: material(uid) for uid in {**first, **made}} == {**first, **made}
