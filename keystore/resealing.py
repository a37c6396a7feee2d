"""Replacing keys under what they seal: a new sealing key for all material, a new root key for all sealing keys.

Material is sealed anew row by row, each on the condition that it has not changed meanwhile; what was done stays done,
so that a rotation may be cut short at any row and be begun again. Old sealing keys stay, wrapped and inactive: what a
slow process wrote under one meanwhile can be read, and the next rotation seals it anew.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from django.db import models, transaction
from django.db.models.functions import Substr

from keystore import administration, approvals, deferred, sealing, store
from keystore.authn import totp
from keystore.models import (
    Account,
    ApprovalRequest,
    DeferredRequest,
    ManagedObject,
    RootKey,
    SealingKey,
    WithheldObject,
)
from keystore.sealing import SealingError

#: Rows whose heads are looked at together, and rows that are sealed anew in one transaction.
PAGE: Final = 2000
GROUP: Final = 50
#: Sweeps over the table until no process writes under the old key any more.
MAX_SWEEPS: Final = 20

Progress = Callable[[int, int], None]


class Table(NamedTuple):
    """A column of sealed material: what it was bound to, of key and version of the row."""

    model: type[models.Model]
    column: str
    bound: Callable[[str], str] = str
    version: str | None = "version"


#: Everything that is sealed and stays.
TABLES: Final = (
    Table(ManagedObject, "material"),
    Table(WithheldObject, "content", bound=store.withheld_label, version=None),
    Table(DeferredRequest, "request", bound=partial(deferred.label, "request"), version=None),
    Table(DeferredRequest, "response", bound=partial(deferred.label, "response"), version=None),
    Table(ApprovalRequest, "action", bound=approvals.label, version=None),
    Table(Account, "totp_secret", bound=totp.label, version=None),
)


def rotate_sealing_keys(progress: Progress = lambda done, of: None, *, wait: float = sealing.ACTIVE_SECONDS + 1) -> int:
    """Make new sealing keys, and seal everything under them; how many rows that were."""
    sealer = sealing.sealer()
    sealer.check()
    with transaction.atomic():
        for purpose in (sealing.MATERIAL, sealing.ARCHIVE):
            sealer.add_key(purpose)
        administration.note("Rotate Sealing Keys")
    return reseal(progress, wait=wait)


def reseal(progress: Progress = lambda done, of: None, *, wait: float = sealing.ACTIVE_SECONDS + 1) -> int:
    """Seal everything under the newest sealing keys; how many rows that were. Goes on where it was cut short."""
    total = 0
    for _ in range(MAX_SWEEPS):
        changed = sum(_sweep(table, progress) for table in TABLES)
        total += changed
        if not changed:
            return total
        # Other processes may have gone on with the old keys for so long.
        time.sleep(wait)
    raise SealingError("some process still seals under an old key: restart it, then run this again")


def _sweep(table: Table, progress: Progress) -> int:
    sealer = sealing.sealer()
    rows: Any = table.model._default_manager.filter(**{f"{table.column}__isnull": False})
    of, done, changed, last = rows.count(), 0, 0, None
    active = {purpose: sealer.active(purpose) for purpose in (sealing.MATERIAL, sealing.ARCHIVE)}
    head = Substr(table.column, 1, sealing.HEAD_LENGTH, output_field=models.BinaryField())
    while True:
        page = rows.order_by("pk") if last is None else rows.filter(pk__gt=last).order_by("pk")
        found = list(page.annotate(head=head).values_list("pk", "head")[:PAGE])
        if not found:
            return changed
        last = found[-1][0]
        old = [key for key, start in found if sealing.number_of(bytes(start)) not in active.values()]
        for start in range(0, len(old), GROUP):
            changed += _seal_anew(table, old[start : start + GROUP])
            progress(done + start, of)
        done += len(found)
        progress(done, of)


def _seal_anew(table: Table, keys: list[Any]) -> int:
    """Seal some rows under the newest keys; how many of them had not changed meanwhile."""
    sealer, column, changed = sealing.sealer(), table.column, 0
    rows: Any = table.model._default_manager
    names = ("pk", column) if table.version is None else ("pk", column, table.version)
    with transaction.atomic():
        for key, blob, *version in rows.filter(pk__in=keys, **{f"{column}__isnull": False}).values_list(*names):
            label, number = table.bound(str(key)), version[0] if version else 1
            purpose = sealer.purpose_of(sealing.number_of(bytes(blob)))
            material = sealer.open(bytes(blob), label, number)
            new = sealer.seal(material, label, number, purpose=purpose)
            unchanged = {table.version: number} if table.version is not None else {column: blob}
            changed += rows.filter(pk=key, **{f"{column}__isnull": False}, **unchanged).update(**{column: new})
    return changed


def rotate_root(new: sealing.Provider) -> str:
    """Wrap every sealing key with another root key, all or none; the name of the new one."""
    sealer = sealing.sealer()
    sealer.check()
    name = os.urandom(sealing.NAME_LENGTH)
    with transaction.atomic():
        row = RootKey.objects.select_for_update().get(id=1)
        old = sealer.provider
        if row.name != sealer.root_name:
            raise SealingError("the root key has just been replaced by another process")
        if sealing.fits(new, bytes.fromhex(row.name), bytes(row.check_value)):
            raise SealingError("the new root key is the one in use")
        for key in SealingKey.objects.select_for_update().order_by("id"):
            opened = old.unwrap(bytes(key.wrapped), sealing.SEALING_KEY)
            SealingKey.objects.filter(id=key.id).update(wrapped=new.wrap(opened, sealing.SEALING_KEY))
        RootKey.objects.filter(id=1).update(
            name=name.hex(), check_value=new.wrap(name, sealing.ROOT_CHECK), created=int(time.time())
        )
        administration.note("Rotate Root Key", f"{row.name} -> {name.hex()}")
    sealing.reset()
    return name.hex()


def rotate_root_file(path: Path) -> Path:
    """Make a new root key, wrap every sealing key with it and put it in the place of the old; where the old one is now.

    The new key is on disk before the database takes it, and becomes the file's after: a start in between finishes that.
    """
    with _only_one(path):
        sealing.sealer().check()  # Which finishes a rotation that was cut short.
        old_name = sealing.sealer().root_name
        staged = sealing.staged_path(path)
        # Of a rotation that was cut short before the database took it.
        staged.unlink(missing_ok=True)
        sealing.create_root_key(staged)
        # Backups made before need it; it has its second name before the file can be replaced, however this ends.
        kept = path.with_name(f"{path.name}.{old_name}")
        if not kept.exists():
            os.link(path, kept)
        rotate_root(sealing.LocalProvider(sealing.read_root_key(staged)))
        with contextlib.suppress(FileNotFoundError):  # A process that started meanwhile has done it.
            staged.replace(path)
        sealing.sync_folder(path)
    sealing.reset()
    return kept


@contextlib.contextmanager
def _only_one(path: Path) -> Iterator[None]:
    """Keep another rotation of the same file waiting."""
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
