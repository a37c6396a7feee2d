"""Batch items that are answered asynchronously: kept in the database until their owner has the results (2.1, 9.1).

The items of one message that are deferred together are one piece of work: they are carried out in their order in one
transaction, which also writes their results. So a piece of work whose process or node dies leaves nothing behind and
begins again, and one that is carried out has its results: it counts once. `holder` says who carries a piece of work out;
results are written only while it still is the holder's, so that a node that was taken for dead changes nothing.

Nothing here knows what an operation does: the engine carries out, `use` names it.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

from django.db import transaction
from django.db.models import F

from keystore import clock, conf, sealing, tickets
from keystore.authn import Identity, accounts
from keystore.models import DeferredRequest, JobLease
from kmip.enums import CancellationResult, Operation, ProcessingStage, ResultReason, ResultStatus
from kmip.errors import KMIPError
from kmip.versions import Version

#: Work that so often ended with its process is not begun again.
MAX_ATTEMPTS: Final = 3
UNFINISHED: Final = (ProcessingStage.SUBMITTED, ProcessingStage.IN_PROCESS)


class Lost(Exception):
    """The work is no longer the holder's: canceled, or taken over."""


class Deferred(NamedTuple):
    """One item as it was submitted."""

    correlation: bytes
    operation: Operation
    version: Version
    #: The Batch Item of the request, encoded.
    request: bytes


class Work(NamedTuple):
    """The items of one message that are carried out together."""

    message: str
    #: Who asked, looked up anew; raises `KMIPError` where that is nobody any more.
    identity: Callable[[], Identity]
    context: dict[str, Any]
    items: list[Deferred]


def submit(
    identity: Identity, version: Version, context: dict[str, Any], items: Sequence[tuple[Operation, bytes]]
) -> list[bytes]:
    """Keep items to be carried out; their Asynchronous Correlation Values."""
    options = conf.current().jobs
    waiting = DeferredRequest.objects.filter(
        namespace=identity.namespace, owner=_owner(identity), stage__in=UNFINISHED
    )
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
            identity=_pack(identity),
            context=context,
            operation=operation,
            version=version,
            stage=ProcessingStage.SUBMITTED,
            submitted=now,
            expires=now + int(options.result_lifetime * clock.SECOND),
            request=_seal(request, correlation.hex(), "request"),
        )
        for position, (correlation, (operation, request)) in enumerate(zip(correlations, items, strict=True))
    )
    return correlations


def _seal(data: bytes, correlation: str, kind: str) -> bytes:
    return sealing.sealer().seal(data, f"{kind}:{correlation}", 1)


def _open(blob: bytes, correlation: str, kind: str) -> bytes:
    return sealing.sealer().open(bytes(blob), f"{kind}:{correlation}", 1)


def _owner(identity: Identity) -> str:
    """Whose a request is: the user's, or of who was handed a delegated ticket."""
    if isinstance(identity, tickets.Bearer) and identity.rights is not None:
        return f"ticket:{identity.ticket}"
    return identity.username


def _pack(identity: Identity) -> dict[str, Any]:
    kept = {name: getattr(identity, name) for name in ("username", "method", "namespace", "fingerprint", "scope")}
    return {**kept, "ticket": identity.ticket if isinstance(identity, tickets.Bearer) else None}


def _unpack(packed: dict[str, Any]) -> Identity:
    if packed["ticket"] is not None:
        return tickets.again(packed["ticket"])
    return accounts.identity(
        accounts.ensure(packed["namespace"], packed["username"]),
        packed["method"],
        fingerprint=packed["fingerprint"],
        scope=packed["scope"],
        manages=False,
    )


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
            DeferredRequest.objects.filter(stage=ProcessingStage.SUBMITTED)
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
    rows = DeferredRequest.objects.filter(message=message, stage=ProcessingStage.SUBMITTED)
    return bool(rows.update(stage=ProcessingStage.IN_PROCESS, holder=holder, attempts=F("attempts") + 1))


def carry_out(message: str, holder: str) -> bool:
    """Carry out work that is the holder's; False where it was lost meanwhile, and nothing of it stays."""
    return _carry_out(message, holder, lambda: None, stage=ProcessingStage.IN_PROCESS, holder=holder)


def _carry_out(message: str, holder: str, take: Callable[[], None], **mine: Any) -> bool:
    rows = list(DeferredRequest.objects.filter(message=message, **mine).order_by("position"))
    if not rows:
        return False
    items = [
        Deferred(bytes.fromhex(row.id), Operation(row.operation), row.version, _open(row.request, row.id, "request"))
        for row in rows
    ]
    packed = rows[0].identity
    run = _executor[0](Work(message, lambda: _unpack(packed), rows[0].context, items))
    try:
        with transaction.atomic():
            take()
            _finish(rows, holder, run())
    except Lost:
        return False
    return True


def _finish(rows: Sequence[DeferredRequest], holder: str, results: Iterable[tuple[ResultStatus, bytes]]) -> None:
    for row, (status, response) in zip(rows, results, strict=True):
        changed = DeferredRequest.objects.filter(id=row.id, stage=ProcessingStage.IN_PROCESS, holder=holder).update(
            stage=ProcessingStage.COMPLETED,
            outcome=status,
            completed=clock.Now(),
            expires=clock.Now() + int(conf.current().jobs.result_lifetime * clock.SECOND),
            request=b"",
            response=_seal(response, row.id, "response"),
        )
        if not changed:
            raise Lost


def abandon(message: str, holder: str) -> None:
    """Let the holder's work end as failed, without a response."""
    DeferredRequest.objects.filter(message=message, stage=ProcessingStage.IN_PROCESS, holder=holder).update(
        stage=ProcessingStage.COMPLETED,
        outcome=ResultStatus.OPERATION_FAILED,
        completed=clock.Now(),
        expires=clock.Now() + int(conf.current().jobs.result_lifetime * clock.SECOND),
        request=b"",
    )


def take_back(message: str, holder: str) -> None:
    """Let work that the holder could not carry out wait again."""
    DeferredRequest.objects.filter(message=message, stage=ProcessingStage.IN_PROCESS, holder=holder).update(
        stage=ProcessingStage.SUBMITTED, holder=""
    )


def take_over(holder: str) -> int:
    """Give back what earlier holders had begun; how many items that were."""
    begun = DeferredRequest.objects.filter(stage=ProcessingStage.IN_PROCESS).exclude(holder=holder)
    return begun.update(stage=ProcessingStage.SUBMITTED, holder="")


# For the owner. Others' requests do not exist.


def _own(identity: Identity) -> Any:
    return DeferredRequest.objects.filter(
        namespace=identity.namespace, owner=_owner(identity), expires__gt=clock.now()
    )


def find(identity: Identity, correlation: bytes) -> DeferredRequest | None:
    """The request with a correlation value."""
    row: DeferredRequest | None = _own(identity).filter(id=correlation.hex()).first()
    return row


def result(row: DeferredRequest) -> bytes | None:
    """The encoded response of a completed request, which from now on counts as obtained; None where work was given up."""
    if not row.obtained:
        DeferredRequest.objects.filter(id=row.id).update(obtained=True)
    return None if row.response is None else _open(row.response, row.id, "response")


def was_canceled(row: DeferredRequest) -> bool:
    """Whether the request ended by Cancel."""
    return row.outcome == ResultStatus.OPERATION_UNDONE and row.response is None


def cancel(identity: Identity, correlation: bytes) -> CancellationResult:
    """Cancel a request, also one that is being carried out: its results will find that it no longer waits for them."""
    rows = _own(identity).filter(id=correlation.hex())
    canceled = rows.filter(stage__in=UNFINISHED).update(
        stage=ProcessingStage.COMPLETED,
        outcome=ResultStatus.OPERATION_UNDONE,
        completed=clock.Now(),
        obtained=True,
        request=b"",
    )
    if canceled:
        # What the message's other items were part of goes on without it.
        row = rows.get()
        others = DeferredRequest.objects.filter(message=row.message, stage=ProcessingStage.IN_PROCESS)
        others.update(stage=ProcessingStage.SUBMITTED, holder="")
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
    """The requests whose results have not been obtained, oldest first; those named, or of some operations, if any are."""
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
    DeferredRequest.objects.filter(message=row.message, stage=ProcessingStage.IN_PROCESS).exclude(
        holder__in=alive
    ).update(stage=ProcessingStage.SUBMITTED, holder="")
    holder = "process:" + os.urandom(16).hex()

    def take() -> None:
        # In the transaction of the work itself: should this process die, nobody needs to give it back.
        if not _take(row.message, holder):
            raise Lost

    _carry_out(row.message, holder, take, stage=ProcessingStage.SUBMITTED)


def expire(now: int) -> int:
    """Forget requests whose time is over; how many."""
    return DeferredRequest.objects.filter(expires__lte=now).delete()[0]
