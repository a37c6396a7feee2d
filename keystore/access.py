"""Rights on objects as their owners give them: grants, and who has them.

Every change is written with its audit record in one transaction. The owner of an object, and an administrator of its
namespace, decide about it; to everybody else an object that they have no right on does not exist.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from django.db import transaction
from django.db.models import QuerySet

from keystore import approvals, audit, clock, policy, roles, store
from keystore.authn import Identity, Peer, accounts
from keystore.models import Grant
from keystore.store import Managed
from kmip.enums import Operation, ResultReason, State
from kmip.errors import KMIPError

EVERYBODY: Final = "*"
#: Grants are about operations on an object: these are on none.
_ON_NONE: Final = roles.bits(
    (Operation.CREATE, Operation.CREATE_KEY_PAIR, Operation.REGISTER, Operation.LOCATE, Operation.QUERY,
     Operation.DISCOVER_VERSIONS, Operation.PING, Operation.LOGIN, Operation.LOGOUT)
)  # fmt: skip
#: Everything that can be granted.
ALL: Final = roles.ALL & ~_ON_NONE
#: The columns that lists show of an object, as attributes.
_SHOWN: Final = tuple((tag.spelling, column) for tag, column in store.COLUMNS.items())


def principal(user: str | None, group: str | None = None) -> str:
    """How grants name a user, a group, or everybody (`*`); raises `KMIPError`."""
    if (user is None) == (group is None):
        raise KMIPError(ResultReason.INVALID_FIELD, "name either a user or a group")
    if group is not None:
        return f"group:{accounts.check_username(group)}"
    assert user is not None
    return EVERYBODY if user == EVERYBODY else f"user:{accounts.check_username(user)}"


def shown(name: str) -> str:
    """A principal as people see it: users without what tells them from groups."""
    return name.removeprefix("user:")


def operations_named(names: Iterable[object]) -> int:
    """A set of operations that can be granted; raises `KMIPError`."""
    found = roles.bits(roles.operation_named(name) for name in names)
    if not found:
        raise KMIPError(ResultReason.INVALID_FIELD, "name at least one operation")
    if found & _ON_NONE:
        names = ", ".join(roles.name_of(one) for one in roles.operations_in(found & _ON_NONE))
        raise KMIPError(ResultReason.INVALID_FIELD, f"not operations on an object: {names}")
    return found


def can_be_granted(operation: Operation) -> bool:
    """Whether an operation is on an object, so that a grant can be about it."""
    return bool(ALL >> operation & 1)


def _decided_by(identity: Identity, uid: str, *, lock: bool) -> Managed:
    """The object, for who may decide about it."""
    managed = store.fetch(uid, int(time.time()), identity, lock=lock)
    if managed is None or not policy.may_see(identity, managed):
        raise KMIPError(ResultReason.OBJECT_NOT_FOUND, "there is no object with this Unique Identifier")
    if not policy.decides(identity, managed):
        raise KMIPError(ResultReason.PERMISSION_DENIED, "only the owner decides about an object")
    return managed


def grant(peer: Peer, identity: Identity, uid: str, to: str, operations: int, *, expires: int | None = None) -> None:
    """Let a principal carry out operations on an object, until a time (seconds since 1970) if one is given.

    Raises `KMIPError`; with Operation Pending where people have to approve grants first (`approvals`).
    """
    values = {"uid": uid, "to": to, "operations": operations, "expires": expires}
    waits = _asked_first(peer, identity, values) if identity.approvals else None
    if waits is not None:
        raise waits
    carry_out_grant(peer, identity, values)


def _asked_first(peer: Peer, identity: Identity, values: dict[str, Any]) -> KMIPError | None:
    """Keep a grant that people have to approve; what is raised then."""
    detail = _detail(values["to"], values["operations"], values["expires"])
    refusals = audit.refusals(identity, peer, "Grant Access", uid=values["uid"], detail=detail)
    with refusals, transaction.atomic():
        managed = _grantable(identity, values)
        rule = approvals.rule_for(identity, approvals.GRANT, managed.object_type)
        if rule is None:
            return None
        return approvals.submit_action(
            peer, identity, approvals.GRANT, values, rule=rule, uid=managed.uid, detail=detail
        )


def _grantable(identity: Identity, values: dict[str, Any]) -> Managed:
    """The object, locked, that a grant is about; raises `KMIPError` where it may not be made."""
    policy.check_manages(identity)
    managed = _decided_by(identity, values["uid"], lock=True)
    if values["to"] == f"user:{managed.owner}":
        raise KMIPError(ResultReason.INVALID_FIELD, "the owner needs no grant")
    if values["to"] == f"user:{identity.username}":
        raise KMIPError(ResultReason.PERMISSION_DENIED, "nobody grants rights to oneself")
    expires = values["expires"]
    if expires is not None and expires * clock.SECOND <= clock.now():
        raise KMIPError(ResultReason.INVALID_FIELD, "the grant would have expired already")
    return managed


def carry_out_grant(peer: Peer, identity: Identity, values: dict[str, Any]) -> None:
    """Give rights, with the record of it."""
    uid, to, operations, expires = (values[name] for name in ("uid", "to", "operations", "expires"))
    with audit.recorded(identity, peer, "Grant Access", uid=uid, detail=_detail(to, operations, expires)):
        managed = _grantable(identity, values)
        until = 0 if expires is None else expires * clock.SECOND
        # The object's row is locked, so that two grants at once do not lose one another's operations.
        made = Grant.objects.filter(object_id=managed.key, principal=to, expires=until).first()
        if made is None:
            Grant.objects.create(
                object_id=managed.key, namespace=managed.namespace, principal=to, operations=operations, expires=until
            )
        elif made.operations | operations != made.operations:
            Grant.objects.filter(pk=made.pk).update(operations=made.operations | operations)


def revoke(peer: Peer, identity: Identity, uid: str, to: str, operations: int) -> None:
    """Take operations on an object from a principal, whenever they would have ended."""
    with audit.recorded(identity, peer, "Revoke Access", uid=uid, detail=_detail(to, operations, None)):
        policy.check_manages(identity)
        managed = _decided_by(identity, uid, lock=True)
        if to == f"user:{managed.owner}":
            raise KMIPError(ResultReason.INVALID_FIELD, "an owner's rights cannot be taken away")
        for made in Grant.objects.filter(object_id=managed.key, principal=to):
            left = made.operations & ~operations
            if left:
                Grant.objects.filter(pk=made.pk).update(operations=left)
            else:
                made.delete()


def _detail(to: str, operations: int, expires: int | None) -> str:
    names = ", ".join(roles.name_of(one) for one in roles.operations_in(operations))
    return f"{to}: {names}" + (f" until {expires}" if expires else "")


class Given(NamedTuple):
    """A grant: on which object, to whom, what, and until when (seconds since 1970; 0 for never)."""

    uid: str
    principal: str
    operations: int
    expires: int


def _given(rows: QuerySet[Grant]) -> list[Given]:
    return [
        Given(store.uid_of(key), principal, operations, expires // clock.SECOND)
        for key, principal, operations, expires in rows.values_list("object_id", "principal", "operations", "expires")
    ]


def on(identity: Identity, uid: str) -> list[Given]:
    """The grants on an object, for who decides about it."""
    managed = _decided_by(identity, uid, lock=False)
    return _given(store.grants_on(managed.key).order_by("principal", "expires"))


def given(identity: Identity, limit: int) -> list[Given]:
    """The grants on the identity's own objects, those on the newest objects first."""
    rows = Grant.objects.filter(store.in_force(), namespace=identity.namespace, object__owner=identity.username)
    return _given(rows.order_by("-object__serial", "principal", "expires")[:limit])


def listed(identity: Identity, uid: str) -> list[dict[str, Any]]:
    """Who has which rights on an object, for who decides about it."""
    return [
        {"user_id": shown(one.principal), "operations": names(one.operations)}
        | ({"expires": one.expires} if one.expires else {})
        for one in on(identity, uid)
    ]


def names(operations: int) -> list[str]:
    """A set of operations as the HTTP API writes it, in alphabetical order."""
    return sorted(roles.name_of(one) for one in roles.operations_in(operations))


def owned(identity: Identity, *, after: int | None = None, limit: int | None = None) -> Iterator[dict[str, Any]]:
    """The identity's own objects, newest first; those before the serial number `after`, where one is given."""
    found = store.objects_in(identity.namespace).filter(owner=identity.username)
    if after is not None:
        found = found.filter(serial__lt=after)
    columns = [column for _, column in _SHOWN]
    for uid, state, *values in found.values_list("uid", "state", *columns)[:limit].iterator(chunk_size=2000):
        yield {
            "object_id": store.uid_of(uid),
            "state": state_name(state),
            "attributes": _attributes(values),
        }


def _attributes(values: Sequence[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for (spelling, column), value in zip(_SHOWN, values, strict=True):
        if value is not None:
            kind = store.enumeration_of(column)
            found[spelling] = value if kind is None else kind(value)
    return found


def state_name(state: int) -> str:
    """A state as clients of the HTTP API know it."""
    member = State(state)
    return "Destroyed_Compromised" if member is State.DESTROYED_COMPROMISED else member.spelling


def obtained(identity: Identity) -> Iterator[dict[str, Any]]:
    """The objects of others on which the identity has rights by grants, and which."""
    rows = (
        store.granted_to(identity.principals)
        .filter(namespace=identity.namespace)
        .exclude(object__owner=identity.username)
        .order_by("-object__serial", "object_id")
        .values_list("object_id", "object__owner", "object__state", "operations")
    )
    last: list[Any] | None = None
    for key, owner, state, operations in rows.iterator(chunk_size=2000):
        if last is not None and last[0] == key:
            last[3] |= operations
            continue
        if last is not None:
            yield _obtained(last)
        last = [key, owner, state, operations]
    if last is not None:
        yield _obtained(last)


def _obtained(row: list[Any]) -> dict[str, Any]:
    key, owner, state, operations = row
    return {
        "object_id": store.uid_of(key),
        "owner_id": owner,
        "state": state_name(state),
        "operations": names(operations),
    }
