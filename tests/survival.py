"""A program for the tests of what survives: fills a database with objects, and says whether all of them are there.

python survival.py fill 20     prints a line of JSON: identifier -> SHA-256 of the key it was registered with
python survival.py check       reads such a line; every object must be had in a legal state, with its own material
python survival.py canaries    registers an object of each type, uses it, fails in many ways, makes a backup and dies;
                               prints the materials in hexadecimal
python survival.py scale 100000
                               fills a database with so many rows, backs it up and restores it; prints the seconds and
                               the most memory that each took
python survival.py kill backup 50
                               kills one of `SCENES` at so many random points; after each everything must be whole
"""

import contextlib
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import sys
import time
import traceback
import unittest.mock
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "kmsproject.settings")

import django

django.setup()

from django.core.management import call_command  # noqa: E402
from django.db import connections  # noqa: E402

from keystore import audit, backup, chain, conf, deferred, engine, resealing, sealing, store  # noqa: E402
from keystore.authn import Peer  # noqa: E402
from keystore.models import ManagedObject  # noqa: E402
from kmip import ttlv  # noqa: E402
from kmip.attributes import Attributes  # noqa: E402
from kmip.enums import (  # noqa: E402
    AsynchronousIndicator,
    CryptographicAlgorithm,
    KeyFormatType,
    ObjectType,
    Operation,
    State,
)
from kmip.errors import KMIPError  # noqa: E402
from kmip.messages import RequestBatchItem, RequestHeader, RequestMessage, protocol_version  # noqa: E402
from kmip.objects import FIELDS, KeyBlock, KeyValue, SymmetricKey  # noqa: E402
from kmip.payloads import DestroyRequest, GetAttributesRequest, GetRequest, RegisterRequest  # noqa: E402
from kmip.schema import dump  # noqa: E402
from kmip.structures import Name  # noqa: E402
from kmip.tags import Tag  # noqa: E402
from kmip.versions import V2_1  # noqa: E402

PEER = Peer("cli", user="survivor")


def register(number: int, key: bytes) -> str:
    block = KeyBlock(
        key_format_type=KeyFormatType.RAW,
        key_value=KeyValue(key_material=key),
        cryptographic_algorithm=CryptographicAlgorithm.AES,
        cryptographic_length=256,
    )
    attributes = Attributes()
    attributes.name = [Name(name_value=f"key {number} {os.getpid()}", name_type=1)]
    request = RegisterRequest(
        object_type=ObjectType.SYMMETRIC_KEY, attributes=attributes, symmetric_key=SymmetricKey(key_block=block)
    )
    return engine.execute(Operation.REGISTER, request, PEER).unique_identifier


def fill(count: int) -> None:
    print(json.dumps(made_objects(count)))


def made_objects(count: int) -> dict[str, str]:
    """New objects: identifier -> SHA-256 of the key."""
    made = {}
    for number in range(count):
        key = os.urandom(32)
        made[register(number, key)] = hashlib.sha256(key).hexdigest()
    return made


def check() -> None:
    whole(json.loads(sys.stdin.read()))
    print("whole")


def whole(made: dict[str, str]) -> None:
    """Every object is in a legal state, with its own material, and the audit chain is unbroken."""
    for uid, digest in made.items():
        given = engine.execute(Operation.GET, GetRequest(unique_identifier=uid), PEER)
        material = given.symmetric_key.key_block.key_value.key_material
        assert hashlib.sha256(material).hexdigest() == digest, uid
        state = engine.execute(Operation.GET_ATTRIBUTES, GetAttributesRequest(unique_identifier=uid), PEER)
        assert state.attributes.state in set(State), uid
    audit.writer.flush()
    chain.checkpoint()
    verified, problems = chain.verify()
    assert verified and not problems, problems


def canaries() -> None:
    """Leave traces of keys wherever a server leaves any."""
    from tests.keystore.test_at_rest import MAKERS

    made: dict[str, bytes] = {}
    for object_type, make in MAKERS.items():
        material = os.urandom(32)
        request = RegisterRequest(object_type=object_type, attributes=Attributes())
        setattr(request, FIELDS[object_type], make(material))
        uid = engine.execute(Operation.REGISTER, request, PEER).unique_identifier
        made[uid] = material
        engine.execute(Operation.GET, GetRequest(unique_identifier=uid), PEER)
        if object_type == ObjectType.SYMMETRIC_KEY:
            gone = engine.execute(Operation.REGISTER, request, PEER).unique_identifier
            engine.execute(Operation.DESTROY, DestroyRequest(unique_identifier=gone), PEER)
        for wrong in (KeyFormatType.PKCS_1, KeyFormatType.TRANSPARENT_DSA_PRIVATE_KEY):
            with contextlib.suppress(KMIPError):
                wanted = GetRequest(unique_identifier=uid, key_format_type=wrong)
                engine.execute(Operation.GET, wanted, PEER)
        with contextlib.suppress(KMIPError):
            request.attributes.cryptographic_length = 7
            engine.execute(Operation.REGISTER, request, PEER)
        request.attributes.cryptographic_length = None
        with contextlib.suppress(KMIPError), unittest.mock.patch.object(store, "save", side_effect=RuntimeError):
            engine.execute(Operation.REGISTER, request, PEER)  # Its traceback is logged.
        encoded = ttlv.encode(dump(request, Tag.REQUEST_PAYLOAD, V2_1))
        engine.handle(encoded, PEER)
        engine.handle(encoded[:-1], PEER)
        # As if it were answered later: request and response are kept.
        item = RequestBatchItem(
            operation=Operation.GET,
            request_payload=dump(GetRequest(unique_identifier=uid), Tag.REQUEST_PAYLOAD, V2_1),
        )
        later = RequestMessage(
            request_header=RequestHeader(
                protocol_version=protocol_version(V2_1),
                asynchronous_indicator=AsynchronousIndicator.MANDATORY,
                batch_count=1,
            ),
            batch_item=[item],
        )
        engine.handle(ttlv.encode(dump(later, Tag.REQUEST_MESSAGE, V2_1)), PEER)
        message = deferred.claim("survivor")
        assert message is not None and deferred.carry_out(message, "survivor")
    backup.write(FILE)
    audit.writer.flush()
    print(json.dumps({uid: material.hex() for uid, material in made.items()}), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)  # The write-ahead log stays.


# Scale.


def many(count: int) -> None:
    """So many objects, made by the database itself from one; only that one opens."""
    register(0, os.urandom(32))
    columns = [field.column for field in ManagedObject._meta.concrete_fields]
    copied = ", ".join("printf('copy-%09d', n)" if name == "uid" else name for name in columns)
    with connections["default"].cursor() as cursor:
        cursor.execute(
            f"WITH RECURSIVE count(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM count WHERE n < {count - 1}) "
            f"INSERT INTO keystore_managedobject ({', '.join(columns)}) SELECT {copied} "
            "FROM count, (SELECT * FROM keystore_managedobject LIMIT 1)"
        )


def weighed(work: Callable[[], object]) -> dict[str, float]:
    """Seconds and MiB that work takes at most, beyond those that this process has."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.monotonic()
    work()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {"seconds": round(time.monotonic() - begun, 1), "mib": round(grown / 1024, 1)}


def scale(count: int) -> None:
    """Back up and restore many objects."""
    assert forked(lambda: call_command("migrate", verbosity=0)) == 0
    shutil.copy(database(), "empty.sqlite3")
    assert forked(lambda: many(count)) == 0
    made = told(lambda: weighed(back_up))
    empty()
    restored_ = told(lambda: weighed(lambda: backup.restore(FILE)))
    assert told(ManagedObject.objects.count) == count
    size = FILE.stat().st_size
    print(json.dumps({"objects": count, "bytes": size, "backup": made, "restore": restored_}))


# Killing.


def forked(work: Callable[[], object], kill_after: float | None = None) -> int:
    """Run work in a process of its own, killed after so many seconds if they are given; minus the signal, or status."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            audit.writer.flush()
            connections.close_all()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def told(work: Callable[[], object]) -> object:
    """What work in a process of its own returns."""
    reader, writer = os.pipe()

    def tell() -> None:
        os.write(writer, json.dumps(work()).encode())

    assert forked(tell) == 0
    os.close(writer)
    with os.fdopen(reader) as answer:
        return json.loads(answer.read())


def at_call(number: int, work: Callable[[], object]) -> None:
    """Do work, and be killed at the function call with this number."""
    left = number

    def count(*_: object) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)


def measured(work: Callable[[], object]) -> tuple[int, float]:
    """How many function calls, and how many seconds, work takes."""
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    begun = time.monotonic()
    sys.setprofile(count)
    work()
    sys.setprofile(None)
    return calls, time.monotonic() - begun


class Scene(NamedTuple):
    """What is killed, what goes before each time, and what must hold after."""

    work: Callable[[], object]
    before: Callable[[], None] = lambda: None
    after: Callable[[], None] = lambda: None


FILE = Path("all.kms")


def back_up() -> None:
    backup.write(FILE)


def backup_whole() -> None:
    """There is a whole backup or none, and the next one clears away what was left of this."""
    if FILE.exists():
        backup.Backup(FILE).verify(sealing.sealer().provider)
        FILE.unlink()
    backup.write(FILE)
    FILE.unlink()
    assert not list(Path().glob(".*.part"))


def database() -> Path:
    return Path(conf.current().db.sqlite_path) / "kms.sqlite3"


def empty() -> None:
    """Have a database that was only migrated, and checkpoints of no other one."""
    conf.current().audit.checkpoint_file.unlink(missing_ok=True)
    for path in Path(conf.current().db.sqlite_path).glob("kms.sqlite3*"):
        path.unlink()
    shutil.copy("empty.sqlite3", database())


def restored() -> None:
    """Nothing was taken in, or everything."""
    if ManagedObject.objects.exists() or store.root_key() is not None:
        assert ManagedObject.objects.count() == OBJECTS
    else:
        backup.restore(FILE)


def rotate_root() -> None:
    resealing.rotate_root_file(Path(conf.current().sealing.root_key_file))


def old_keys_kept() -> None:
    """Every root key that the database ever had is in some file, for the backups made under it."""
    path, known = Path(conf.current().sealing.root_key_file), Path("known-keys")
    sealing.sealer().check()
    ever = set(known.read_text().split()) if known.exists() else set()
    assert ever <= {one.read_text().strip() for one in path.parent.glob(f"{path.name}*")}, "a root key is lost"
    known.write_text("\n".join(ever | {path.read_text().strip()}))


OBJECTS = 30
SCENES = {
    "backup": Scene(back_up, after=backup_whole),
    "restore": Scene(lambda: backup.restore(FILE), before=empty, after=restored),
    "rotate-root": Scene(rotate_root, after=old_keys_kept),
    "rotate-sealing-key": Scene(lambda: resealing.rotate_sealing_keys(wait=0)),
}


def kill(name: str, points: int) -> None:
    """Kill something at random points: half of them moments, which may be anywhere, half of them function calls."""
    scene = SCENES[name]
    seed = int(os.environ.get("SURVIVAL_SEED", time.time_ns() % 1_000_000))
    random.seed(seed)
    migrate = lambda: call_command("migrate", verbosity=0)  # noqa: E731
    assert forked(migrate) == 0
    shutil.copy(database(), "empty.sqlite3")
    made = told(lambda: made_objects(OBJECTS))
    if name == "restore":
        assert forked(back_up) == 0
    scene.before()
    calls, seconds = told(lambda: measured(scene.work))
    assert forked(scene.after) == 0
    killed = 0
    for point in range(points):
        scene.before()
        if point % 2:
            status = forked(scene.work, random.uniform(0, seconds))
        else:
            number = random.randint(1, calls)
            status = forked(lambda number=number: at_call(number, scene.work))
        assert status in (0, -signal.SIGKILL), f"{name} failed at point {point} (seed {seed})"
        killed += status != 0
        assert forked(lambda: (scene.after(), whole(made))) == 0, (
            f"not whole after point {point} of {name} (seed {seed})"
        )
    print(json.dumps({"points": points, "killed": killed, "calls": calls, "seconds": round(seconds, 2)}))


if __name__ == "__main__":
    arguments = sys.argv[2:]
    {
        "fill": lambda: fill(int(arguments[0])),
        "check": check,
        "canaries": canaries,
        "scale": lambda: scale(int(arguments[0])),
        "kill": lambda: kill(arguments[0], int(arguments[1])),
    }[sys.argv[1]]()
