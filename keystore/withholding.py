"""Undo for Destroy: with `lifecycle.destroy_delay`, what was destroyed is kept aside, sealed, until its time is over.

For everybody the object is destroyed at once: its row has no material any more, and no operation reads what is kept
aside. An administrator can restore it; after its time nobody can.
"""

import base64
import logging
import time
from typing import Any

import orjson
from django.db import DatabaseError, connection, transaction

from keystore import audit, authn, clock, conf, sealing, states, store, tokenkeys
from keystore.authn import Identity, Peer
from keystore.models import WithheldObject
from keystore.sealing import SealingError
from keystore.store import Managed
from kmip.attributes import Attributes
from kmip.enums import ObjectType, ResultReason
from kmip.errors import KMIPError

log = logging.getLogger(__name__)


def withhold(managed: Managed, before: Attributes, by: Identity) -> None:
    """Keep an object with its attributes before it was destroyed aside, if the configuration says so.

    What a token holds is destroyed there once nobody can restore it: at once, without a delay, but after the commit.
    """
    delay = int(conf.current().lifecycle.destroy_delay)
    blob, archived = managed.blob, managed.columns.get("archive_date") is not None
    material = None if blob is None else sealing.sealer().open(blob, managed.key, managed.version)
    in_token = tokenkeys.is_reference(material)
    if delay <= 0 and not in_token:
        return
    if delay <= 0:
        transaction.on_commit(_purge_now)
    # By the database's clock: a node whose own is wrong forgets nothing too soon.
    destroyed = clock.now() // clock.SECOND
    content = orjson.dumps(
        {
            "attributes": before.pack(),
            "material": None if material is None else base64.b64encode(material).decode(),
        }
    )
    purpose = sealing.ARCHIVE if archived else sealing.MATERIAL
    WithheldObject.objects.filter(key=managed.key).delete()
    WithheldObject.objects.create(
        key=managed.key,
        namespace=managed.namespace,
        owner=managed.owner,
        object_type=managed.object_type,
        destroyed_by=by.username,
        destroyed=destroyed,
        purge=destroyed + delay,
        content=sealing.sealer().seal(content, store.withheld_label(managed.key), 1, purpose=purpose),
        in_token=in_token,
    )


def _purge_now() -> None:
    """Purge after a change that is acknowledged whatever becomes of this: what is left is purged later."""
    try:
        purge()
    except (DatabaseError, SealingError) as exc:
        log.error("what can no longer be restored is not purged yet: %s", exc)


def discard(made: list[tokenkeys.Reference]) -> None:
    """Destroy those of the keys made in a token that no object refers to, at the end of the change that made them.

    Where the token is away by then, a key is purged when it is back. Within a transaction nothing is destroyed that
    may yet be committed.
    """
    unused = tokenkeys.unused(made)
    if unused and not connection.in_atomic_block:
        for one in unused:
            _discard(one)


def _discard(key: tokenkeys.Reference) -> None:
    now, material = clock.now() // clock.SECOND, base64.b64encode(key.pack()).decode()
    row = f"token:{key.id}"
    content = orjson.dumps({"attributes": {}, "material": material})
    try:
        # In no namespace, so that nobody restores it.
        WithheldObject.objects.create(
            key=row,
            namespace="",
            owner="",
            object_type=ObjectType.SYMMETRIC_KEY if key.kind == "AES" else ObjectType.PRIVATE_KEY,
            destroyed_by="",
            destroyed=now,
            purge=now,
            content=sealing.sealer().seal(content, store.withheld_label(row), 1),
            in_token=True,
        )
    except (DatabaseError, SealingError) as exc:
        log.error("the key %s stays in the token %s, though nothing refers to it: %s", key.id, key.token, exc)
        return
    _purge_now()


def withheld(namespace: str, *, beginning: str = "", limit: int | None = None) -> list[WithheldObject]:
    """What can be restored in a namespace, the last destroyed first; without what is sealed. Only objects whose
    identifiers begin so, and so many, where that is given."""
    rows = WithheldObject.objects.filter(namespace=namespace, purge__gt=clock.now() // clock.SECOND)
    if beginning:
        rows = rows.filter(key__startswith=store.key_of(namespace, beginning))
    return list(rows.defer("content").order_by("-destroyed", "key")[:limit])


def restore(namespace: str, uid: str, peer: Peer) -> None:
    """Bring an object back as it was before it was destroyed; raises `KMIPError`.

    Only administrators of the namespace may, and whoever runs commands on this machine.
    """
    identity = authn.identify(peer)
    with audit.recorded(identity, peer, "Restore", uid=uid):
        if identity.method != "local" and not (identity.administers and identity.namespace == namespace):
            raise KMIPError(ResultReason.PERMISSION_DENIED, "only an administrator of the namespace restores objects")
        _restore(namespace, uid)


def _restore(namespace: str, uid: str) -> None:
    key, now = store.key_of(namespace, uid), int(time.time())
    kept = WithheldObject.objects.filter(key=key, purge__gt=clock.now() // clock.SECOND)
    row = kept.select_for_update().first()
    if row is None:
        raise KMIPError(ResultReason.OBJECT_NOT_FOUND, "there is no destroyed object with this Unique Identifier")
    content = _content(row)
    attributes = Attributes.unpack(content["attributes"])
    states.settle(attributes, now)
    attributes.last_change_date = now
    managed = store.at(key, now)
    if managed is None:
        managed = Managed(uid, namespace, row.owner, attributes)
    else:
        managed.attributes.clear()
        managed.attributes.update(attributes)
    managed.material = _material(content)
    store.save(managed)
    row.delete()


def purge(now: int | None = None) -> int:
    """Forget for good what can no longer be restored, in tokens too; how many objects that were.

    Raises `TokenError` where keys stay for now because their token is away.
    """
    now = clock.now() // clock.SECOND if now is None else now
    due = WithheldObject.objects.filter(purge__lte=now)
    count = due.filter(in_token=False).delete()[0]
    for row in due.filter(in_token=True).iterator():
        tokenkeys.destroy(_material(_content(row)))
        count += WithheldObject.objects.filter(key=row.key, destroyed=row.destroyed).delete()[0]
    return count


def _content(row: WithheldObject) -> dict[str, Any]:
    sealed = bytes(row.content)
    found: dict[str, Any] = orjson.loads(sealing.sealer().open(sealed, store.withheld_label(row.key), 1))
    return found


def _material(content: dict[str, Any]) -> bytes | None:
    return None if content["material"] is None else base64.b64decode(content["material"])
