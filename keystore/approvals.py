"""Approvals: operations of a namespace that wait until m of n named people have approved them.

An operation under a rule is tried, taken back, and kept as a deferred request that is held: the client is told
Operation Pending with a correlation value, and Poll answers once people have decided (2.1, 6.1.38). What would fail
anyway fails at once, and the objects that it was tried on are the only ones that it may touch when it is carried out.

Who asked does not vote. A vote names the digest of the request as its voter was shown it, counts once, and stands.
Requests expire, and work once: they are carried out with the rights that the client has then. A change to a rule waits
for the approval of the people of that rule, as do other changes (`ACTIONS`) that are no operations of KMIP.
"""

import hashlib
import logging
import os
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, Final, NamedTuple

import orjson
from django.db import IntegrityError, transaction
from django.utils.module_loading import import_string

from keystore import audit, clock, deferred, generations, policy, roles, sealing
from keystore.authn import Approval, Identity, Peer, accounts, forget
from keystore.generations import Kept
from keystore.models import ApprovalRequest, ApprovalRule, ApprovalVote, DeferredRequest
from kmip.enums import Operation, ResultReason, ResultStatus
from kmip.errors import KMIPError
from kmip.versions import Version

log = logging.getLogger(__name__)

#: What can be put under a rule: operations of KMIP, and what else changes who may do what.
OPERATIONS: Final = {
    roles.name_of(one): one
    for one in (Operation.DESTROY, Operation.REVOKE, Operation.EXPORT, Operation.GET, Operation.ARCHIVE)
}
GRANT: Final = "grant"
#: Changes of rules themselves, which their own people approve.
RULE: Final = "rule"
NAMES: Final = (*OPERATIONS, GRANT)
#: Who carries out an action that was approved, from the values that it was submitted with.
ACTIONS: Final = {GRANT: "keystore.access.carry_out_grant", RULE: "keystore.approvals.carry_out_rule"}
#: Seconds that a request waits unless its rule says otherwise.
LIFETIME: Final = 86_400
MAX_LIFETIME: Final = 90 * 86_400
MAX_PEOPLE: Final = 50
#: Requests that are read together.
READ: Final = 200

#: What the audit calls changes of rules.
SET: Final = "Set Approval Rule"
REMOVE: Final = "Remove Approval Rule"

WAITING: Final = ""
APPROVED: Final = "approved"
REFUSED: Final = "refused"
EXPIRED: Final = "expired"
CANCELED: Final = "canceled"
#: Approved, but its requester may not do it any more.
FAILED: Final = "failed"


class Waits(Exception):
    """Takes an operation back that has been tried and needs approval."""


# Rules.


def rules(namespace: str) -> list[ApprovalRule]:
    """The rules of a namespace."""
    return list(ApprovalRule.objects.filter(namespace=namespace).order_by("operation"))


def rule_for(identity: Identity, name: str, object_type: int | None) -> Approval | None:
    """The rule that an operation on a type of object is under, for this identity."""
    for one in identity.approvals:
        if one.operation == name and (not one.object_types or object_type in one.object_types):
            return one
    return None


def applies(identity: Identity, operation: Operation) -> bool:
    """Whether the operation, on whatever object, may have to wait."""
    return bool(identity.approvals) and any(OPERATIONS.get(one.operation) is operation for one in identity.approvals)


def set_rule(
    peer: Peer,
    identity: Identity,
    name: str,
    *,
    needed: int,
    people: Iterable[str],
    object_types: Iterable[str] = (),
    lifetime: int = LIFETIME,
) -> None:
    """Let an operation wait for the approval of `needed` of these people of the namespace for `lifetime` seconds.

    Raises `KMIPError`; with Operation Pending where the people of the rule that it replaces have to approve first.
    """
    with audit.refusals(identity, peer, SET, detail=name):
        policy.check_administers(identity)
        values = {
            "operation": name,
            "needed": needed,
            "people": sorted(set(people)),
            "object_types": sorted(roles.type_named(one).spelling for one in object_types),
            "lifetime": lifetime,
        }
        _check_rule(identity.namespace, values)
        waits = _change_rule(peer, identity, values)
    if waits is not None:
        raise waits


def _check_rule(namespace: str, values: dict[str, Any]) -> None:
    people = values["people"]
    if values["operation"] not in NAMES:
        raise KMIPError(ResultReason.INVALID_FIELD, f"a rule is for one of {', '.join(NAMES)}")
    if not 0 < values["needed"] <= len(people) <= MAX_PEOPLE:
        raise KMIPError(
            ResultReason.INVALID_FIELD, f"a rule names 1 to {MAX_PEOPLE} people, and needs some of them or all"
        )
    if not 0 < values["lifetime"] <= MAX_LIFETIME:
        raise KMIPError(ResultReason.INVALID_FIELD, f"requests wait for 1 to {MAX_LIFETIME} seconds")
    for name in people:
        if accounts.find(namespace, name) is None:
            raise KMIPError(ResultReason.ITEM_NOT_FOUND, f"there is no user {name} in the namespace {namespace}")


def remove_rule(peer: Peer, identity: Identity, name: str) -> None:
    """Let an operation wait no more; raises `KMIPError` as `set_rule` does."""
    with audit.refusals(identity, peer, REMOVE, detail=name):
        policy.check_administers(identity)
        if not ApprovalRule.objects.filter(namespace=identity.namespace, operation=name).exists():
            raise KMIPError(ResultReason.ITEM_NOT_FOUND, f"there is no rule for {name}")
        waits = _change_rule(peer, identity, {"operation": name})
    if waits is not None:
        raise waits


def _change_rule(peer: Peer, identity: Identity, values: dict[str, Any]) -> KMIPError | None:
    """Change a rule, or ask its people first; what is raised then."""
    with transaction.atomic():
        row = ApprovalRule.objects.filter(namespace=identity.namespace, operation=values["operation"]).first()
        # Whoever works on the server's machine can change the database anyway; the record tells.
        if row is None or identity.method == "local":
            carry_out_rule(peer, identity, values)
            return None
        rule = Approval(RULE, frozenset(), row.needed, tuple(row.people), row.lifetime)
        return submit_action(peer, identity, RULE, values, rule=rule, detail=_told(values))


def carry_out_rule(peer: Peer, identity: Identity, values: dict[str, Any]) -> None:
    """Change a rule, with its record."""
    name = values["operation"]
    with audit.recorded(identity, peer, SET if "needed" in values else REMOVE, detail=_told(values)):
        policy.check_administers(identity)
        if "needed" in values:
            rest = {key: value for key, value in values.items() if key != "operation"}
            ApprovalRule.objects.update_or_create(namespace=identity.namespace, operation=name, defaults=rest)
        else:
            ApprovalRule.objects.filter(namespace=identity.namespace, operation=name).delete()
        generations.changed(Kept.IDENTITIES)
    transaction.on_commit(forget)


def _told(values: dict[str, Any]) -> str:
    if "needed" not in values:
        return f"{values['operation']} waits for nobody"
    types = f" of {', '.join(values['object_types'])}" if values["object_types"] else ""
    return f"{values['operation']}{types} waits for {values['needed']} of {', '.join(values['people'])}"


# Asking.


def _voters(rule: Approval, requester: str) -> list[str]:
    voters = [name for name in rule.people if name != requester]
    if len(voters) < rule.needed:
        raise KMIPError(
            ResultReason.PERMISSION_DENIED, f"{rule.needed} others have to approve this, and only {len(voters)} may"
        )
    return voters


def submit(
    peer: Peer,
    identity: Identity,
    rule: Approval,
    operation: Operation,
    version: Version,
    request: bytes,
    *,
    uids: list[str],
    dialect: bool,
) -> bytes:
    """Keep a Batch Item (encoded) that was tried on these objects until people have decided; its correlation value.

    The same request, asked again while it waits, is the same: it has the same correlation value.
    """
    voters = _voters(rule, identity.username)
    content = [int(operation), int(version), request.hex(), *uids]
    digest = _digest(identity, content)
    found = _asked(identity, digest)
    if found is not None:
        return bytes.fromhex(found.id)
    context = {
        "transport": peer.transport,
        "address": peer.address,
        "dialect": dialect,
        "option": None,
        "approved": uids,
    }
    (correlation,) = deferred.submit(identity, version, context, [(operation, request)], held=rule.lifetime)
    _keep(peer, identity, rule, correlation.hex(), digest, voters, roles.name_of(operation), uids[0], ", ".join(uids))
    return correlation


def submit_action(
    peer: Peer, identity: Identity, name: str, values: dict[str, Any], *, rule: Approval, uid: str = "", detail: str
) -> KMIPError:
    """Keep a change that is no operation of KMIP until people have decided; what its caller raises after the commit."""
    voters = _voters(rule, identity.username)
    digest = _digest(identity, [name, orjson.dumps(values, option=orjson.OPT_SORT_KEYS).decode()])
    found = _asked(identity, digest)
    if found is None:
        number = os.urandom(16).hex()
        action = orjson.dumps({"values": values, "identity": deferred.pack(identity)})
        sealed = sealing.sealer().seal(action, label(number), 1)
        found = _keep(peer, identity, rule, number, digest, voters, name, uid, detail, action=sealed)
    return pending(bytes.fromhex(found.id), rule)


def pending(correlation: bytes, rule: Approval) -> KMIPError:
    """What those are told whose request waits, where there is no Batch Item to tell them."""
    return KMIPError(
        ResultReason.GENERAL_FAILURE,
        f"waits for the approval of {rule.needed} of {', '.join(rule.people)} ({correlation.hex()})",
        status=ResultStatus.OPERATION_PENDING,
    )


def label(number: str) -> str:
    """What a sealed action is bound to."""
    return f"approval:{number}"


def _digest(identity: Identity, content: list[Any]) -> str:
    """Of what was asked and by whom; what a vote is bound to."""
    return hashlib.sha256(orjson.dumps([identity.namespace, identity.username, *content])).hexdigest()


def _asked(identity: Identity, digest: str) -> ApprovalRequest | None:
    """The same request of the same client, if it waits already."""
    rows = ApprovalRequest.objects.filter(
        namespace=identity.namespace,
        requester=identity.username,
        digest=digest,
        outcome=WAITING,
        expires__gt=clock.now(),
    )
    return next((row for row in rows if not _is_canceled(row)), None)


def _is_canceled(row: ApprovalRequest) -> bool:
    """Whether its client does not want it any more."""
    return row.action is None and not deferred.is_held(row.id)


def _keep(
    peer: Peer,
    identity: Identity,
    rule: Approval,
    number: str,
    digest: str,
    voters: list[str],
    name: str,
    uid: str,
    detail: str,
    *,
    action: bytes | None = None,
) -> ApprovalRequest:
    now = clock.now()
    made = ApprovalRequest.objects.create(
        id=number,
        namespace=identity.namespace,
        requester=identity.username,
        operation=name,
        uid=uid,
        detail=detail[:255],
        digest=digest,
        needed=rule.needed,
        people=voters,
        action=action,
        created=now,
        expires=now + rule.lifetime * clock.SECOND,
    )
    audit.note(identity, peer, "Ask For Approval", uid=uid, detail=f"{number} {name} {detail}")
    return made


# Deciding.


class Shown(NamedTuple):
    """A request as people see it; times are seconds since 1970."""

    id: str
    operation: str
    uid: str
    detail: str
    requester: str
    digest: str
    needed: int
    people: tuple[str, ...]
    #: Who has voted, and whether for it.
    votes: tuple[tuple[str, bool], ...]
    created: int
    expires: int
    outcome: str
    #: Whether the identity that looks may vote now.
    open: bool


def shown(identity: Identity, *, decided: bool = False, limit: int | None = None) -> list[Shown]:
    """The requests that concern an identity, newest first: its own, those it may vote on, and, for an administrator,
    every one of its namespace; with `decided`, those that wait no more as well. Not more than `limit`."""
    rows = ApprovalRequest.objects.filter(namespace=identity.namespace).order_by("-created")
    if not decided:
        rows = rows.filter(outcome=WAITING, expires__gt=clock.now())
    read = rows.prefetch_related("votes").iterator(chunk_size=READ)
    mine = list(islice((row for row in read if _concerns(identity, row)), limit))
    if not mine:
        return []
    held = deferred.held_among(row.id for row in mine if row.action is None and row.outcome == WAITING)
    now = clock.now()
    every = [_shown(identity, row, now, canceled=row.action is None and row.id not in held) for row in mine]
    return every if decided else [one for one in every if one.outcome == WAITING]


def _concerns(identity: Identity, row: ApprovalRequest) -> bool:
    return identity.administers or identity.username == row.requester or identity.username in row.people


def _shown(identity: Identity, row: ApprovalRequest, now: int, *, canceled: bool) -> Shown:
    votes = tuple((vote.voter, vote.approves) for vote in row.votes.all())
    outcome = _outcome(row, now, canceled=canceled)
    may = identity.username in row.people and identity.username not in dict(votes)
    return Shown(
        row.id,
        row.operation,
        row.uid,
        row.detail,
        row.requester,
        row.digest,
        row.needed,
        tuple(row.people),
        votes,
        row.created // clock.SECOND,
        row.expires // clock.SECOND,
        outcome,
        may and outcome == WAITING,
    )


def _outcome(row: ApprovalRequest, now: int, *, canceled: bool) -> str:
    if row.outcome == WAITING and canceled:
        return CANCELED
    return EXPIRED if row.outcome == WAITING and row.expires <= now else row.outcome


def vote(peer: Peer, identity: Identity, number: str, digest: str, *, approves: bool) -> str:
    """Vote on the request that a digest was shown for; how it stands now (`WAITING`, `APPROVED` or `REFUSED`).

    With the last vote that is needed the request is carried out, before this returns (`FAILED` for a change that is not
    possible any more). Raises `KMIPError`.
    """
    what = "Approve" if approves else "Refuse Approval"
    with audit.refusals(identity, peer, what, detail=f"{number} {digest}"), transaction.atomic():
        policy.check_manages(identity)
        row = ApprovalRequest.objects.select_for_update().filter(id=number, namespace=identity.namespace).first()
        if row is None or not _concerns(identity, row):
            raise KMIPError(ResultReason.ITEM_NOT_FOUND, "there is no such request")
        _check_vote(identity, row, digest)
        try:
            with transaction.atomic():
                ApprovalVote.objects.create(
                    request=row, voter=identity.username, approves=approves, digest=digest, time=clock.now()
                )
        except IntegrityError as exc:
            raise KMIPError(ResultReason.PERMISSION_DENIED, "everybody votes once") from exc
        audit.note(identity, peer, what, uid=row.uid, detail=f"{number} {row.operation} of {row.requester} {digest}")
        outcome = _count(row)
        if outcome != WAITING:
            if row.action is None:
                _settle(number, outcome)
            elif outcome == APPROVED and not _carry_out_action(peer, row):
                outcome = FAILED
            ApprovalRequest.objects.filter(id=number).update(outcome=outcome, decided=clock.Now())
    if outcome == APPROVED and row.action is None:
        deferred.hurry(DeferredRequest.objects.get(id=number))
    return outcome


def _check_vote(identity: Identity, row: ApprovalRequest, digest: str) -> None:
    if identity.username == row.requester:
        raise KMIPError(ResultReason.PERMISSION_DENIED, "nobody votes on what one has asked for")
    if identity.username not in row.people:
        raise KMIPError(ResultReason.PERMISSION_DENIED, "only the people of the rule vote")
    if digest != row.digest:
        raise KMIPError(ResultReason.INVALID_FIELD, "this is not the request that the vote is for")
    outcome = _outcome(row, clock.now(), canceled=_is_canceled(row))
    if outcome != WAITING:
        raise KMIPError(ResultReason.ILLEGAL_OPERATION, f"the request is {outcome} already")


def _count(row: ApprovalRequest) -> str:
    """How a request stands after its votes."""
    votes = list(ApprovalVote.objects.filter(request=row, digest=row.digest).values_list("approves", flat=True))
    if sum(votes) >= row.needed:
        return APPROVED
    left = len(row.people) - len(votes)
    return WAITING if sum(votes) + left >= row.needed else REFUSED


def _settle(number: str, outcome: str) -> None:
    """Let a deferred request go, or let Poll say that it will not be carried out."""
    if outcome == APPROVED:
        deferred.release(number)
    else:
        error = KMIPError(ResultReason.PERMISSION_DENIED, _WHY[outcome])
        deferred.refuse(number, error)


_WHY: Final = {
    REFUSED: "the people who were asked did not approve this",
    EXPIRED: "too few people approved this in time",
}


def _carry_out_action(peer: Peer, row: ApprovalRequest) -> bool:
    """Carry an action out, with the rights that its requester has now; False where that is not possible any more."""
    action = orjson.loads(sealing.sealer().open(bytes(row.action or b""), label(row.id), 1))
    work: Callable[[Peer, Identity, dict[str, Any]], None] = import_string(ACTIONS[row.operation])
    try:
        work(peer, deferred.unpack(action["identity"]), action["values"])
    except KMIPError as exc:
        log.warning("the approved request %s could not be carried out: %s", row.id, exc.message)
        return False
    return True


def expire() -> int:
    """Let requests that too few people approved in time end; how many."""
    due = ApprovalRequest.objects.filter(outcome=WAITING, expires__lte=clock.now())
    count = 0
    for number, action in list(due.values_list("id", "action")):
        with transaction.atomic():
            ended = due.filter(id=number).update(outcome=EXPIRED, decided=clock.Now())
            if ended and action is None:
                _settle(number, EXPIRED)
        count += ended
    kept = clock.now() - MAX_LIFETIME * clock.SECOND
    ApprovalRequest.objects.filter(expires__lte=kept).delete()
    return count


def ended(number: str) -> bool:
    """Let a request end whose time is over, so that Poll says so before the job comes by; whether it is."""
    if not ApprovalRequest.objects.filter(id=number, outcome=WAITING, expires__lte=clock.now()).exists():
        return False
    expire()
    return True


def check(uid: str, approved: frozenset[str]) -> None:
    """Raise `KMIPError` where a request that was approved would touch another object than it was tried on."""
    if uid not in approved:
        raise KMIPError(ResultReason.PERMISSION_DENIED, "what was approved was not about this object")
