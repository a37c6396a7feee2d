"""Batch items that are answered asynchronously: kept in the database until their owner has the results (2.1, 9.1).

The items of one message that are deferred together are one piece of work: they are carried out in their order in one
transaction, which also writes their results. So a piece of work whose process or node dies leaves nothing behind and
begins again, and one that is carried out has its results: it counts once. `holder` says who carries it out; results
are written only while it still is the holder's, so that a node that was taken for dead changes nothing.

Nothing here knows what an operation does: the engine carries out, `use` names it.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

from django.db import transaction
from django.db.models import F, QuerySet

from keystore import clock, conf, sealing, tickets, withholding
from keystore.authn import Identity, accounts, certificates, refused
from keystore.models import DeferredRequest, JobLease
from keystore.tokenkeys import Reference
from kmip import ttlv
from kmip.enums import CancellationResult, Operation, ProcessingStage, ResultReason, ResultStatus
from kmip.errors import KMIPError
from kmip.messages import ResponseBatchItem
from kmip.reasons import reason_in
from kmip.schema import dump
from kmip.tags import Tag
from kmip.versions import Version

#: Work that so often ended with its process is not begun again.
MAX_ATTEMPTS: Final = 3
UNFINISHED: Final = (ProcessingStage.SUBMITTED, ProcessingStage.IN_PROCESS)


class Lost(Exception):
    """The work is no longer the holder's: canceled, or taken over."""


class Work(NamedTuple):
    """The items of one message that are carried out together."""

    #: Who asked, looked up anew; raises `KMIPError` where that is nobody any more.
    identity: Callable[[], Identity]
    version: Version
    context: dict[str, Any]
    #: The Batch Item of each request, encoded.
    items: list[bytes]
    #: Takes the keys that the work makes in a token.
    made: list[Reference]


def submit(
    identity: Identity,
    version: Version,
    context: dict[str, Any],
    items: Sequence[tuple[Operation, bytes]],
    *,
    held: int | None = None,
) -> list[bytes]:
    """Keep items to be carried out; their Asynchronous Correlation Values. `held` ones wait to be let go, for so many
    seconds at most."""
    options = conf.current().jobs
    waiting = DeferredRequest.objects.filter(namespace=identity.namespace, owner=_owner(identity), stage__in=UNFINISHED)
    if waiting.count() + len(items) > options.max_asynchronous:
        raise KMIPError(
            ResultReason.SERVER_LIMIT_EXCEEDED, f"at most {options.max_asynchronous} requests wait for one client"
        )
    now = clock.now()
    message = os.urandom(16).hex()
    correlations = [os.urandom(16) for _ in items]
    DeferredRequest.objects.bulk_create(
        DeferredRequest(
            id=correlation.hex(),
            message=message,
            position=position,
            namespace=identity.namespace,
            owner=_owner(identity),
            identity=pack(identity),
            context=context,
            operation=operation,
            version=version,
            stage=ProcessingStage.SUBMITTED,
            submitted=now,
            held=held is not None,
            expires=now + int((options.result_lifetime + (held or 0)) * clock.SECOND),
            request=_seal(request, correlation.hex(), "request"),
        )
        for position, (correlation, (operation, request)) in enumerate(zip(correlations, items, strict=True))
    )
    return correlations


def label(kind: str, correlation: str) -> str:
    """What a sealed request or response is bound to."""
    return f"{kind}:{correlation}"


def _seal(data: bytes, correlation: str, kind: str) -> bytes:
    return sealing.sealer().seal(data, label(kind, correlation), 1)


def _open(blob: bytes | memoryview, correlation: str, kind: str) -> bytes:
    return sealing.sealer().open(bytes(blob), label(kind, correlation), 1)


_KEPT: Final = ("username", "method", "namespace", "fingerprint", "scope", "manages")


def pack(identity: Identity) -> dict[str, Any]:
    """What is kept of who asked."""
    ticket = identity.ticket if isinstance(identity, tickets.Bearer) else None
    return {**{name: getattr(identity, name) for name in _KEPT}, "ticket": ticket}


def unpack(packed: dict[str, Any]) -> Identity:
    """Who asked, with the rights that count now; raises `KMIPError` where that is nobody any more."""
    if packed["ticket"] is not None:
        return tickets.again(packed["ticket"])
    account = accounts.find(packed["namespace"], packed["username"])
    if account is None:
        raise refused("the client that asked for this is not known any more")
    if packed["method"] == certificates.METHOD:
        certificates.check_known(packed["fingerprint"])
    options = {name: packed[name] for name in ("fingerprint", "scope", "manages")}
    return accounts.identity(account, packed["method"], **options)


def _owner(identity: Identity) -> str:
    """Whose a request is: the user's, or of whoever was handed a delegated ticket."""
    if isinstance(identity, tickets.Bearer) and identity.rights is not None:
        return f"ticket:{identity.ticket}"
    return identity.username


# Carrying out.

#: A Result Status and the encoded response of each item.
Results = list[tuple[ResultStatus, bytes]]
#: Does what needs no transaction, and returns what does the rest in one.
Executor = Callable[[Work], Callable[[], Results]]
_executor: list[Executor] = []


def use(executor: Executor) -> None:
    """Name who carries work out."""
    _executor[:] = [executor]


def claim(holder: str) -> str | None:
    """Take the oldest work that waits; its message, or None where there is none."""
    while True:
        waiting = (
            DeferredRequest.objects.filter(stage=ProcessingStage.SUBMITTED, held=False)
            .order_by("submitted")
            .values_list("message", "attempts")
            .first()
        )
        if waiting is None:
            return None
        message, attempts = waiting
        if not _take(message, holder):
            continue
        if attempts >= MAX_ATTEMPTS:
            abandon(message, holder)
            continue
        return str(message)


def _take(message: str, holder: str) -> bool:
    rows = DeferredRequest.objects.filter(message=message, stage=ProcessingStage.SUBMITTED, held=False)
    return bool(rows.update(stage=ProcessingStage.IN_PROCESS, holder=holder, attempts=F("attempts") + 1))


def _in_hand(message: str, holder: str) -> QuerySet[DeferredRequest]:
    """What a holder carries out of a message."""
    return DeferredRequest.objects.filter(message=message, stage=ProcessingStage.IN_PROCESS, holder=holder)


def _give_back(rows: QuerySet[DeferredRequest], **values: Any) -> int:
    """Let what is being carried out wait again; how many items that were."""
    return rows.update(stage=ProcessingStage.SUBMITTED, holder="", **values)


def _complete(
    rows: QuerySet[DeferredRequest], outcome: ResultStatus, response: bytes | None = None, **values: Any
) -> bool:
    """End requests, whose results, sealed, are kept for a while from now on; False where there are none to end."""
    return bool(
        rows.update(
            stage=ProcessingStage.COMPLETED,
            outcome=outcome,
            completed=clock.Now(),
            expires=clock.Now() + int(conf.current().jobs.result_lifetime * clock.SECOND),
            request=None,
            response=response,
            **values,
        )
    )


def carry_out(message: str, holder: str) -> bool:
    """Carry out work that is the holder's; False where it was lost meanwhile, and nothing of it stays."""
    return _carry_out(_in_hand(message, holder), holder, lambda: None)


def _carry_out(mine: QuerySet[DeferredRequest], holder: str, take: Callable[[], None]) -> bool:
    rows = list(mine.order_by("position"))
    if not rows:
        return False
    first = rows[0]
    items = [_open(row.request, row.id, "request") for row in rows if row.request is not None]
    work = Work(lambda: unpack(first.identity), Version(first.version), first.context, items, [])
    try:
        run = _executor[0](work)
        with transaction.atomic():
            take()
            _finish(rows, holder, run())
    except Lost:
        return False
    finally:
        withholding.discard(work.made)
    return True


def _finish(rows: Sequence[DeferredRequest], holder: str, results: Iterable[tuple[ResultStatus, bytes]]) -> None:
    for row, (status, response) in zip(rows, results, strict=True):
        mine = _in_hand(row.message, holder).filter(id=row.id)
        if not _complete(mine, status, _seal(response, row.id, "response")):
            raise Lost


def abandon(message: str, holder: str) -> None:
    """Let the holder's work end as failed, without a response."""
    _complete(_in_hand(message, holder), ResultStatus.OPERATION_FAILED)


def take_back(message: str, holder: str, *, counts: bool) -> None:
    """Let work that the holder could not carry out wait again; `counts` if the work itself may be what failed."""
    _give_back(_in_hand(message, holder), attempts=F("attempts") - (0 if counts else 1))


def take_over(holder: str) -> int:
    """Give back what earlier holders had begun; how many items that were."""
    return _give_back(DeferredRequest.objects.filter(stage=ProcessingStage.IN_PROCESS).exclude(holder=holder))


# Requests that wait for people's approval (`approvals`).


def _held(*correlations: str) -> QuerySet[DeferredRequest]:
    return DeferredRequest.objects.filter(id__in=correlations, held=True, stage=ProcessingStage.SUBMITTED)


def held_among(correlations: Iterable[str]) -> set[str]:
    """Those of some requests that are held: see `is_held`."""
    return set(_held(*correlations).values_list("id", flat=True))


def is_held(correlation: str) -> bool:
    """Whether a request is held: it is neither let go nor canceled."""
    return _held(correlation).exists()


def release(correlation: str) -> bool:
    """Let a held request go; False where it is held no more."""
    return bool(_held(correlation).update(held=False))


def refuse(correlation: str, error: KMIPError) -> bool:
    """End a held request, so that Poll answers with the error; False where it is held no more."""
    row = _held(correlation).first()
    if row is None:
        return False
    response = ResponseBatchItem(
        operation=Operation(row.operation),
        result_status=error.status,
        result_reason=reason_in(error.reason, Version(row.version), Operation(row.operation)),
        result_message=error.message,
    )
    encoded = ttlv.encode(dump(response, Tag.BATCH_ITEM, Version(row.version)))
    return _complete(_held(correlation), error.status, _seal(encoded, correlation, "response"), held=False)


# For the owner. Others' requests do not exist.


def _own(identity: Identity) -> QuerySet[DeferredRequest]:
    return DeferredRequest.objects.filter(namespace=identity.namespace, owner=_owner(identity), expires__gt=clock.now())


def find(identity: Identity, correlation: bytes) -> DeferredRequest | None:
    """The request with a correlation value."""
    return _own(identity).filter(id=correlation.hex()).first()


def result(row: DeferredRequest) -> bytes | None:
    """The encoded response of a completed request, which now counts as obtained; None where the work was given up."""
    if not row.obtained:
        DeferredRequest.objects.filter(id=row.id).update(obtained=True)
    return None if row.response is None else _open(row.response, row.id, "response")


def was_canceled(row: DeferredRequest) -> bool:
    """Whether the request ended by Cancel."""
    return row.outcome == ResultStatus.OPERATION_UNDONE and row.response is None


def cancel(identity: Identity, correlation: bytes) -> CancellationResult:
    """Cancel a request, also one that is being carried out: its results will find that it no longer waits for them."""
    rows = _own(identity).filter(id=correlation.hex())
    if _complete(rows.filter(stage__in=UNFINISHED), ResultStatus.OPERATION_UNDONE, obtained=True):
        # What the message's other items were part of goes on without it.
        message = rows.values_list("message", flat=True)
        _give_back(DeferredRequest.objects.filter(message__in=list(message), stage=ProcessingStage.IN_PROCESS))
        return CancellationResult.CANCELED
    row = rows.first()
    if row is None:
        return CancellationResult.UNAVAILABLE
    if row.outcome == ResultStatus.SUCCESS:
        return CancellationResult.COMPLETED
    return CancellationResult.UNAVAILABLE if was_canceled(row) else CancellationResult.FAILED


def outstanding(
    identity: Identity, correlations: Sequence[bytes], operations: Sequence[Operation]
) -> list[DeferredRequest]:
    """The requests whose results have not been obtained, oldest first; only those named, or of some operations."""
    rows = _own(identity).filter(obtained=False).defer("request", "response")
    if correlations:
        rows = rows.filter(id__in=[correlation.hex() for correlation in correlations])
    if operations:
        rows = rows.filter(operation__in=operations)
    return list(rows.order_by("submitted", "position"))


def hurry(row: DeferredRequest) -> None:
    """Carry out a waiting request now, in this process; one that is being carried out will be waited for by Poll."""
    DeferredRequest.objects.filter(id=row.id).update(awaited=True)
    alive = JobLease.objects.filter(expires__gt=clock.Now()).values("holder")
    begun = DeferredRequest.objects.filter(message=row.message, stage=ProcessingStage.IN_PROCESS)
    _give_back(begun.exclude(holder__in=alive))
    holder = "process:" + os.urandom(16).hex()

    def take() -> None:
        # In the transaction of the work itself: should this process die, nobody needs to give it back.
        if not _take(row.message, holder):
            raise Lost

    waiting = DeferredRequest.objects.filter(message=row.message, stage=ProcessingStage.SUBMITTED)
    _carry_out(waiting, holder, take)


def expire(now: int) -> int:
    """Forget requests whose time is over; how many."""
    return DeferredRequest.objects.filter(expires__lte=now).delete()[0]
