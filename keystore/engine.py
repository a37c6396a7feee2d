"""One request in, one response out: version, identity, batch, transaction, audit, failures.

`handle` takes a message in any encoding and always returns one; `execute` carries out a single operation with typed
payloads for the console and for commands. Neither knows an algorithm, an attribute or an object type.
"""

import logging
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeVar, cast

import orjson
from django.db import DatabaseError, transaction

from keystore import (
    approvals,
    audit,
    authn,
    conf,
    deferred,
    logs,
    notifications,
    operations,
    policy,
    sealing,
    store,
    tickets,
    turns,
    withholding,
)
from keystore.authn import Identity, Peer
from keystore.call import HANDLERS, Batch, Call, Handler
from keystore.grouping import atomic, groups
from keystore.sealing import SealingError
from keystore.store import Conflict
from keystore.tokenkeys import Reference
from kmip import dialect, ttlv
from kmip.enums import AsynchronousIndicator, BatchErrorContinuationOption, Operation, ResultReason, ResultStatus
from kmip.errors import KMIPError, UnfitError
from kmip.messages import (
    ENCODINGS,
    RequestBatchItem,
    RequestHeader,
    RequestMessage,
    ResponseBatchItem,
    load_request,
    nearest,
    protocol_version,
)
from kmip.messages import response as response_message
from kmip.payloads import PAYLOADS
from kmip.reasons import reason_in
from kmip.schema import Encoded, Struct, dump, opened
from kmip.tags import Tag
from kmip.ttlv import Item, Type
from kmip.versions import V1_0, V1_4, V2_1, VERSIONS, Version

logger = logging.getLogger(__name__)

#: How often a message is carried out again when another change came between.
ATTEMPTS: Final = 5
#: A batch larger than this is not over soon, whatever is in it.
BRIEF_BATCH: Final = 16
#: A batch larger than this is refused before anything is done.
MAX_BATCH: Final = 4096
#: Operations about other requests or about the connection: they are answered at once (2.1, 6.1.5 and 6.1.38).
SYNCHRONOUS: Final = frozenset(
    {
        Operation.POLL,
        Operation.CANCEL,
        Operation.PROCESS,
        Operation.QUERY_ASYNCHRONOUS_REQUESTS,
        Operation.SET_ENDPOINT_ROLE,
        Operation.PKCS_11,
    }
)
#: How the record of an item that succeeded begins; undone, it says so instead.
SUCCESS: Final = "Success"
#: What a client is told of a fault of ours.
FAULT: Final = "the server could not carry out the request"
#: What everybody is told while the root key has yet to come.
SEALED: Final = "the server is sealed: shares of its root key must be given first"
#: What a client is told when the database refuses: full, read-only, away. The log says which.
UNAVAILABLE: Final = "the database could not be used, and nothing is acknowledged"
#: What a client is told while a token that holds keys is away.
AWAY: Final = "what holds the keys cannot be reached now; try again"

operations.load()


class _Undo(Exception):
    """Takes a message back, so that nothing of it stays but the answer."""

    def __init__(self, responses: list[ResponseBatchItem]) -> None:
        self.responses = responses


@dataclass(slots=True)
class _Run:
    """One message being answered."""

    peer: Peer
    version: Version
    header: RequestHeader | None
    began: int
    identity: Identity | None = None
    dialect: bool = False
    #: What has to be so when the transaction of a change begins; raises where it is not.
    condition: Callable[[], None] | None = None
    #: What `prepare` of the items' handlers made, by position; an exception where it failed.
    prepared: dict[int, Any] = field(default_factory=dict)
    #: Keys that the message has made in a token, whether or not objects refer to them in the end.
    made: list[Reference] = field(default_factory=list)
    #: The objects that people have approved, where the message is carried out because of that.
    approved: frozenset[str] | None = None
    #: What the message changed and what it merely read, for the audit.
    changes: list[audit.Entry] = field(default_factory=list)
    reads: list[audit.Entry] = field(default_factory=list)
    #: What log lines call it.
    number: int = field(default_factory=logs.current)


class _Change(NamedTuple):
    """What a request is to change, in a transaction that others may share (`grouping`)."""

    work: Callable[[], Any]
    notes: Callable[[BaseException | None], list[Any]]


T = TypeVar("T")
#: A request being answered: each change that it makes is given out, and what became of it expected back.
_Steps = Generator[_Change, Any, T]


def _through(steps: _Steps[T]) -> T:
    """Answer a request, making each change as soon as its turn has come."""
    try:
        change = next(steps)
        while True:
            try:
                made = groups.run(*change)
            except BaseException as exc:
                change = steps.throw(exc)
            else:
                change = steps.send(made)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return] # what the generator returns


class Waiting:
    """A request whose change is to be made, with the changes of other requests where there are some."""

    __slots__ = ("_change", "_steps")

    def __init__(self, steps: _Steps[bytes], change: _Change) -> None:
        self._steps, self._change = steps, change

    def go_on(self, then: Callable[[bytes | None], None]) -> None:
        """Have the change made and, after its commit, `then` called with the answer in the thread that made it; with
        None where a defect has left no answer."""
        groups.submit(*self._change, lambda made, error: self._made(made, error, then))

    def _made(self, made: Any, error: BaseException | None, then: Callable[[bytes | None], None]) -> None:
        try:
            self._change = self._steps.send(made) if error is None else self._steps.throw(error)
        except StopIteration as end:
            then(end.value)
        except BaseException:
            logger.exception("a request could not be answered")
            then(None)
        else:
            self.go_on(then)


def handle(data: bytes, peer: Peer, encoding: str = "ttlv", *, answer: str | None = None) -> bytes:
    """Answer a message in its encoding, or in the one named by `answer`. Bad input gets a well-formed error."""
    return _through(_handle(data, peer, encoding, answer or encoding))


def begin(data: bytes, peer: Peer) -> bytes | Waiting:
    """Like `handle`, but the answer to a message that changes something may be yet to come, so that a thread that
    serves many clients need not wait for it."""
    steps = _handle(data, peer, "ttlv", "ttlv")
    if not groups.shared:
        return _through(steps)
    try:
        return Waiting(steps, next(steps))
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return] # what the generator returns


def _handle(data: bytes, peer: Peer, encoding: str, answer: str) -> _Steps[bytes]:
    logs.begin()
    run = _Run(peer, V1_0, None, time.time_ns(), dialect=encoding == "dialect")
    try:
        message = load_request(data, encoding)
    except KMIPError as exc:
        run.version = _version_of(data)
        return _encode(run, [_failure(run, None, exc)], answer)
    run.header = message.request_header
    responses = yield from _answer(run, message)
    try:
        return _encode(run, responses, answer)
    except Exception:
        logger.exception("a response could not be encoded")
        return _encode(run, [_failure(run, None, KMIPError(ResultReason.GENERAL_FAILURE, FAULT))], answer)


def courier(peer: Peer) -> notifications.Courier:
    """What the server sends to a client that took the server role on its connection."""
    assert peer.serves is not None
    return notifications.Courier(peer, Version(peer.serves))


def exchange(data: bytes, peer: Peer, courier: notifications.Courier) -> bytes | None:
    """Take a message of a client that took the server role: the response to what the courier sent, or a request of the
    client's own, which is answered. Raises `KMIPError` for a response that answers nothing."""
    if data[:3] == Tag.RESPONSE_MESSAGE.to_bytes(3, "big"):
        courier.receive(data)
        return None
    return handle(data, peer)


def refusal(error: KMIPError, encoding: str = "ttlv") -> bytes:
    """The response to bytes that are no request, from a peer that nothing is known of."""
    run = _Run(Peer("none"), V1_4, None, time.time_ns())
    return _encode(run, [_failure(run, None, error)], encoding)


def execute(
    number: Operation,
    payload: Struct,
    peer: Peer,
    *,
    version: Version = V2_1,
    identity: Identity | None = None,
    condition: Callable[[], None] | None = None,
) -> Any:
    """Carry out one operation, for `identity` where it is known without asking; returns its response payload, raises
    `KMIPError`, or what `condition` raises when it is asked in the transaction of a change."""
    run = _Run(peer, version, None, time.time_ns(), identity, condition=condition)
    item = RequestBatchItem(operation=number)
    return _execute(run, item, payload)


#: The HTTP status of a bare operation's failure; what is not here is 422.
HTTP_STATUS: Final[dict[ResultReason, int]] = {
    ResultReason.AUTHENTICATION_NOT_SUCCESSFUL: 401,
    ResultReason.PERMISSION_DENIED: 403,
    ResultReason.GENERAL_FAILURE: 500,
}


def handle_http(data: bytes, peer: Peer) -> tuple[int, str, bytes]:
    """Answer the JSON dialect: a whole message, or one bare operation, whose failure is an HTTP status.

    Returns status, content type and body.
    """
    logs.begin()
    status = 422
    try:
        root, item = dialect.decode(data)
        if item.tag == Tag.REQUEST_MESSAGE:
            return 200, "application/json", handle(data, peer, "dialect")
        number = dialect.operation_of(root)
        if number is None:
            status = 404
            raise KMIPError(ResultReason.OPERATION_NOT_SUPPORTED, f"{root[:64]} is not an operation")
        run = _Run(peer, V2_1, None, time.time_ns(), dialect=True)
        payload = PAYLOADS[number].request.load(item)
        response = dump(_execute(run, RequestBatchItem(operation=number), payload), Tag.RESPONSE_PAYLOAD, V2_1)
        return 200, "application/json", dialect.encode(response, dialect.root_of(number))
    except KMIPError as exc:
        error = exc
    except Exception:
        logger.exception("an operation of the dialect failed")
        error = KMIPError(ResultReason.GENERAL_FAILURE, FAULT)
    if error.status == ResultStatus.OPERATION_PENDING:
        status = 202
    elif not isinstance(error, UnfitError):
        status = HTTP_STATUS.get(error.reason, status)
    reason = dialect.VALUES[ResultReason].get(error.reason, str(error.reason))
    if "application/json" in peer.headers.get("Accept", ""):
        return status, "application/json", orjson.dumps({"error": reason, "message": error.message})
    return status, "text/plain", f"{reason}: {error.message}".encode()


def _execute(run: _Run, item: RequestBatchItem, payload: Struct) -> Struct:
    if sealing.is_sealed():
        raise KMIPError(ResultReason.GENERAL_FAILURE, SEALED)
    try:
        run.identity = run.identity or authn.identify(run.peer)
    except KMIPError as exc:
        audit_entry(run, item.operation, exc.reason)
        run.reads += run.changes
        _record_reads(run)
        raise
    except DatabaseError as exc:
        raise _unavailable(exc) from exc
    try:
        responses = _through(_carry_out(run, [item], payloads=[payload], failures=True))
    except DatabaseError as exc:
        raise _unavailable(exc) from exc
    except SealingError as exc:
        raise _sealing_failed(exc) from exc
    response = responses[0].response_payload
    if responses[0].result_status != ResultStatus.SUCCESS:
        reason = responses[0].result_reason or ResultReason.GENERAL_FAILURE
        message = responses[0].result_message or "the operation has not been completed"
        raise KMIPError(reason, message, status=responses[0].result_status)
    assert isinstance(response, Struct)
    return opened(response, PAYLOADS[item.operation].response)


def _unavailable(exc: DatabaseError) -> KMIPError:
    """What a client is told of a database that is full, read-only or away; the log has the rest."""
    logger.error("the database failed: %s", exc)
    return KMIPError(ResultReason.GENERAL_FAILURE, UNAVAILABLE)


# A message.


def _answer(run: _Run, message: RequestMessage) -> _Steps[list[ResponseBatchItem]]:
    header = message.request_header
    asked = header.protocol_version
    run.version, exact = nearest(asked.protocol_version_major, asked.protocol_version_minor)
    items = message.batch_item
    if sealing.is_sealed():
        failure = KMIPError(ResultReason.GENERAL_FAILURE, SEALED)
        return [_failure(run, items[0] if len(items) == 1 else None, failure)]
    try:
        if not exact:
            raise KMIPError(
                ResultReason.UNSUPPORTED_PROTOCOL_VERSION,
                f"protocol version {asked.protocol_version_major}.{asked.protocol_version_minor} is not supported",
            )
        if header.batch_count != len(items):
            raise KMIPError(
                ResultReason.INVALID_MESSAGE, f"Batch Count says {header.batch_count} where {len(items)} items follow"
            )
        if not items or len(items) > MAX_BATCH:
            raise KMIPError(ResultReason.INVALID_MESSAGE, f"a message has 1 to {MAX_BATCH} batch items")
        run.identity = authn.identify(run.peer, header.authentication)
        if _may_defer(header):
            return _deferred(run, items)
        return (yield from _carry_out(run, items))
    except KMIPError as exc:
        audit_entry(run, None, exc.reason)
        _record_reads(run)
        return [_failure(run, items[0] if len(items) == 1 else None, exc)]
    except DatabaseError as exc:
        return [_failure(run, items[0] if len(items) == 1 else None, _unavailable(exc))]
    except SealingError as exc:
        return [_failure(run, items[0] if len(items) == 1 else None, _sealing_failed(exc))]
    except Exception:
        logger.exception("a message could not be answered")
        failure = KMIPError(ResultReason.GENERAL_FAILURE, FAULT)
        return [_failure(run, items[0] if len(items) == 1 else None, failure)]


def _carry_out(
    run: _Run, items: list[RequestBatchItem], *, payloads: list[Struct] | None = None, failures: bool = False
) -> _Steps[list[ResponseBatchItem]]:
    """Carry out the items, in one transaction where any of them changes something.

    With `failures` a failing item raises its `KMIPError` instead of becoming a response.
    """
    assert run.identity is not None
    changing, brief = False, len(items) <= BRIEF_BATCH
    for item in items:
        handler = HANDLERS.get(item.operation)
        if handler is not None:
            # What is tried, to wait for approval if it works, leaves a request behind.
            changing = changing or handler.changes or approvals.applies(run.identity, item.operation)
            brief = brief and handler.brief
    if not brief:
        turns.leave()
    if not changing:
        audit.writer.check()
        try:
            responses = _items(run, items, payloads, failures, savepoints=False)
            _check_size(run, responses)
        finally:
            _record_reads(run)
        return responses
    try:
        return (yield from _carry_out_change(run, items, payloads, failures))
    finally:
        withholding.discard(run.made)


def _carry_out_change(
    run: _Run, items: list[RequestBatchItem], payloads: list[Struct] | None, failures: bool
) -> _Steps[list[ResponseBatchItem]]:
    """Carry out items of which any changes something, again where another change was quicker."""
    _prepare(run, items, payloads)
    for attempt in range(ATTEMPTS):
        try:
            responses = yield from _change(run, items, payloads, failures)
        except (Conflict, DatabaseError) as exc:
            if attempt + 1 < ATTEMPTS and (isinstance(exc, Conflict) or store.gave_up(exc)):
                continue
            raise
        _record_reads(run)
        return responses
    raise AssertionError("unreachable")


def _record_reads(run: _Run) -> None:
    """Hand over the records of what changed nothing."""
    entries, run.reads = run.reads, []
    audit.writer.add(entries)


def _change(
    run: _Run, items: list[RequestBatchItem], payloads: list[Struct] | None, failures: bool
) -> _Steps[list[ResponseBatchItem]]:
    """Carry out the items of a message that changes something, in one transaction with the records of it."""

    def work() -> list[ResponseBatchItem]:
        logs.go_on(run.number)
        run.reads, run.changes = [], []
        if run.condition is not None:
            run.condition()
        responses = _items(run, items, payloads, failures, savepoints=len(items) > 1)
        _check_size(run, responses)
        if len(responses) == 1 and responses[0].result_status == ResultStatus.OPERATION_FAILED:
            raise _Undo(responses)
        if _undone(run, responses):
            raise _Undo(responses)
        return responses

    def notes(error: BaseException | None) -> list[audit.Entry]:
        if error is None:
            return run.changes
        if not isinstance(error, _Undo | KMIPError):
            return []
        # The work is gone; the record of it stays.
        return [one._replace(result="Undone") if one.result == SUCCESS else one for one in run.changes]

    try:
        return cast("list[ResponseBatchItem]", (yield _Change(work, notes)))
    except _Undo as undo:
        return undo.responses


def _call(run: _Run, number: Operation, began: int, batch: Batch) -> Call:
    """What the handler of an item is given."""
    assert run.identity is not None
    now = began // 1_000_000_000
    return Call(
        number, run.identity, run.peer, run.version, now, batch, run.dialect, approved=run.approved, made=run.made
    )


def _prepare(run: _Run, items: list[RequestBatchItem], payloads: list[Struct] | None) -> None:
    """Let handlers do their slow work before the transaction; what fails here fails again in its turn."""
    for position, item in enumerate(items):
        handler = HANDLERS.get(item.operation)
        if handler is None or handler.prepare is None or not _knows(run.version, item.operation):
            continue
        call = _call(run, item.operation, run.began, Batch())
        try:
            payload = payloads[position] if payloads is not None else _payload(handler, item)
            policy.check(call.identity, item.operation, payload)
            run.prepared[position] = handler.prepare(call, payload)
        except KMIPError as exc:
            run.prepared[position] = exc
        except SealingError as exc:
            run.prepared[position] = _sealing_failed(exc)


def _sealing_failed(exc: SealingError) -> KMIPError:
    """What a client is told of keys that cannot be reached or opened; the log has the rest."""
    logger.error("sealing: %s", exc)
    return KMIPError(ResultReason.GENERAL_FAILURE, AWAY if isinstance(exc, sealing.Unavailable) else FAULT)


# Approvals.


Answer = Struct | ResponseBatchItem


def _handled(run: _Run, handler: Handler, call: Call, payload: Struct, *, savepoint: bool) -> Answer:
    """What a handler answers, or the item that says that people have to approve this first."""
    if call.approved is None and approvals.applies(call.identity, call.operation):
        return _tried(run, handler, call, payload)
    if not savepoint:
        return _unless_waiting(handler, call, payload)
    with atomic():
        return _unless_waiting(handler, call, payload)


def _unless_waiting(handler: Handler, call: Call, payload: Struct) -> Struct:
    result = handler.handle(call, payload)
    if call.waiting:
        raise KMIPError(
            ResultReason.PERMISSION_DENIED, "this uses an object in a way that people have to approve by itself"
        )
    return result


def _tried(run: _Run, handler: Handler, call: Call, payload: Struct) -> Answer:
    """Try an operation, and take it back where one of its objects is under a rule: what would fail fails at once."""
    batch, before = call.batch, call.batch.copy()
    resolved = _resolved(call, payload)
    try:
        with atomic():
            result = handler.handle(call, payload)
            if call.waiting:
                raise approvals.Waits
    except approvals.Waits:
        batch.restore(before)
        return _waiting(run, call, resolved)
    return result


def _resolved(call: Call, payload: Struct) -> Struct:
    """The payload with the identifier that it names by the ID Placeholder or by earlier items, if it does."""
    named = getattr(payload, "unique_identifier", None)
    if isinstance(named, str | list):
        return payload
    values = {one.name: getattr(payload, one.name) for one in payload._fields}
    return type(payload)(**{**values, "unique_identifier": call.resolve(named)})


def _waiting(run: _Run, call: Call, payload: Struct) -> ResponseBatchItem:
    """Keep an operation until people have approved it; the answer for now."""
    indicator = run.header.asynchronous_indicator if run.header is not None else None
    if indicator is False or indicator is AsynchronousIndicator.PROHIBITED:
        raise KMIPError(
            ResultReason.PERMISSION_DENIED, "people have to approve this, and the request prohibits a later answer"
        )
    rule = max(call.waiting.values(), key=lambda one: one.needed)
    asked = RequestBatchItem(operation=call.operation, request_payload=dump(payload, Tag.REQUEST_PAYLOAD, run.version))
    correlation = approvals.submit(
        run.peer,
        call.identity,
        rule,
        call.operation,
        run.version,
        ttlv.encode(dump(asked, Tag.BATCH_ITEM, run.version)),
        uids=list(call.waiting),
        dialect=run.dialect,
    )
    waits = approvals.pending(correlation, rule)
    return ResponseBatchItem(
        operation=call.operation,
        result_status=waits.status,
        result_message=waits.message,
        asynchronous_correlation_value=correlation,
    )


# Asynchronous processing (2.1, 9.1 and 9.2).


def _may_defer(header: RequestHeader) -> bool:
    """Whether the client accepts that its request is answered asynchronously; 1.x says so with a Boolean."""
    indicator = header.asynchronous_indicator
    return indicator is True or indicator in (AsynchronousIndicator.MANDATORY, AsynchronousIndicator.OPTIONAL)


def _deferred(run: _Run, items: list[RequestBatchItem]) -> list[ResponseBatchItem]:
    """Answer with correlation values where the client demands it or the work takes long, else at once."""
    header = run.header
    assert header is not None and run.identity is not None
    later = [item for item in items if item.operation not in SYNCHRONOUS]
    if header.asynchronous_indicator is not AsynchronousIndicator.MANDATORY:
        wanted = len(later) > conf.current().jobs.large_batch or any(_takes_long(run, item) for item in later)
        later = later if wanted else []
    if not later:
        return _through(_carry_out(run, items))
    context = {
        "transport": run.peer.transport,
        "address": run.peer.address,
        "dialect": run.dialect,
        "option": header.batch_error_continuation_option,
    }
    encoded = [(item.operation, ttlv.encode(dump(item, Tag.BATCH_ITEM, run.version))) for item in later]
    turns.leave()
    with transaction.atomic():
        correlations = iter(deferred.submit(run.identity, run.version, context, encoded))
    responses: list[ResponseBatchItem] = []
    for item in items:
        if item.operation in SYNCHRONOUS:
            responses += _through(_carry_out(run, [item]))
            continue
        responses.append(
            ResponseBatchItem(
                operation=item.operation,
                unique_batch_item_id=item.unique_batch_item_id,
                result_status=ResultStatus.OPERATION_PENDING,
                asynchronous_correlation_value=next(correlations),
            )
        )
    return responses


def _takes_long(run: _Run, item: RequestBatchItem) -> bool:
    handler = HANDLERS.get(item.operation)
    if handler is None or handler.long is None:
        return False
    call = _call(run, item.operation, run.began, Batch())
    try:
        return handler.long(call, _payload(handler, item))
    except KMIPError:
        return False  # It fails in its turn, and soon.


def _resume(work: deferred.Work) -> Callable[[], deferred.Results]:
    """Prepare work that was deferred; what is returned carries it out in the transaction of its results."""
    version, context = work.version, work.context
    run = _Run(Peer(context["transport"], context["address"]), version, None, time.time_ns())
    run.dialect, run.made = context["dialect"], work.made
    run.approved = frozenset(context["approved"]) if "approved" in context else None
    items = [RequestBatchItem.load(ttlv.decode(one)) for one in work.items]
    run.header = RequestHeader(
        protocol_version=protocol_version(version),
        batch_error_continuation_option=context["option"] and BatchErrorContinuationOption(context["option"]),
        batch_count=len(items),
    )
    try:
        run.identity = work.identity()
    except KMIPError as exc:
        # The client, or its right to this, is no more.
        refused = _encoded(run, [_failure(run, one, exc) for one in items])
        return lambda: refused
    _prepare(run, items, None)

    def carry_out() -> deferred.Results:
        try:
            responses = _through(_change(run, items, None, failures=False))
        except Exception as exc:
            if isinstance(exc, (Conflict, DatabaseError)):
                raise  # Another attempt may succeed.
            logger.exception("deferred work failed")
            responses = [_failure(run, item, KMIPError(ResultReason.GENERAL_FAILURE, FAULT)) for item in items]
        _record_reads(run)
        skipped = KMIPError(ResultReason.GENERAL_FAILURE, "not carried out: an earlier item of the batch failed")
        responses += [_failure(run, item, skipped) for item in items[len(responses) :]]
        return _encoded(run, responses)

    return carry_out


def _encoded(run: _Run, responses: list[ResponseBatchItem]) -> deferred.Results:
    return [(one.result_status, ttlv.encode(dump(one, Tag.BATCH_ITEM, run.version))) for one in responses]


deferred.use(_resume)


def _undone(run: _Run, responses: list[ResponseBatchItem]) -> bool:
    """Whether the message asked for Undo and an item failed; marks the items before it (2.1, 9.6)."""
    option = run.header.batch_error_continuation_option if run.header is not None else None
    if option != BatchErrorContinuationOption.UNDO:
        return False
    if responses[-1].result_status != ResultStatus.OPERATION_FAILED:
        return False
    for response in responses[:-1]:
        response.result_status = ResultStatus.OPERATION_UNDONE
        payload = response.response_payload
        if isinstance(payload, Struct) and not isinstance(payload, Encoded):
            # What was undone, Usage Limits among it, has given nothing: only identifiers stay, as in case BL-M-2-21.
            kept = {field.name: getattr(payload, field.name) for field in payload._fields if field.name in _STAY}
            response.response_payload = type(payload)(**kept)
    return True


_STAY: Final = frozenset(
    {"object_type", "unique_identifier", "private_key_unique_identifier", "public_key_unique_identifier"}
)


def _items(
    run: _Run, items: list[RequestBatchItem], payloads: list[Struct] | None, failures: bool, *, savepoints: bool
) -> list[ResponseBatchItem]:
    header = run.header
    option = header.batch_error_continuation_option if header is not None else None
    goes_on = option == BatchErrorContinuationOption.CONTINUE
    batch = Batch()
    if len(items) > 1 and not savepoints:
        batch.probed = _probed(run, items)
    responses = []
    for position, item in enumerate(items):
        handler = HANDLERS.get(item.operation)
        began = time.time_ns()
        if batch.taken and item.operation != Operation.GET:
            # Other operations see what those before them did.
            store.no_longer_fresh(batch.taken)
            batch.taken.clear()
            batch.probed.clear()
        call: Call | None = None
        try:
            if handler is None or not _knows(run.version, item.operation):
                raise KMIPError(ResultReason.OPERATION_NOT_SUPPORTED, f"{item.operation} is not supported")
            _check_extensions(item)
            call = _call(run, item.operation, began, batch)
            payload = payloads[position] if payloads is not None else _payload(handler, item)
            tickets.authorise(call.identity, item.operation)
            policy.check(call.identity, item.operation, payload)
            tickets.permit(call.identity, item.operation, payload)
            if position in run.prepared:
                call.prepared = run.prepared[position]
                if isinstance(call.prepared, KMIPError):
                    raise call.prepared
            result = _handled(run, handler, call, payload, savepoint=savepoints and handler.changes)
            if isinstance(result, ResponseBatchItem):
                # Poll answers as the operation that it asks about would have (2.1, 6.1.38); or this waits for approval.
                response = result
                response.unique_batch_item_id = item.unique_batch_item_id
            else:
                response = ResponseBatchItem(
                    operation=item.operation,
                    unique_batch_item_id=item.unique_batch_item_id,
                    result_status=ResultStatus.SUCCESS,
                    response_payload=result,
                )
            reason = None
        except KMIPError as exc:
            reason = exc.reason
            response = _failure(run, item, exc)
            error: KMIPError = exc
        except (Conflict, DatabaseError):
            raise
        except SealingError as exc:
            error = _sealing_failed(exc)
            reason, response = error.reason, _failure(run, item, error)
        except Exception:
            logger.exception("operation %s failed", item.operation)
            error = KMIPError(ResultReason.GENERAL_FAILURE, FAULT)
            reason, response = error.reason, _failure(run, item, error)
        pending = response.result_status == ResultStatus.OPERATION_PENDING
        audit_entry(run, item.operation, reason, call, began, pending=pending)
        responses.append(response)
        if reason is not None:
            if failures:
                raise error
            if not goes_on:
                break
    if batch.taken:
        store.no_longer_fresh(batch.taken)
    return responses


def _probed(run: _Run, items: list[RequestBatchItem]) -> dict[str, store.Probed]:
    """What the items' objects are now, asked once for all items of a message that changes nothing."""
    assert run.identity is not None
    uids: dict[str, None] = {}
    for item in items:
        payload, handler = item.request_payload, HANDLERS.get(item.operation)
        if payload is not None and payload.type == Type.STRUCTURE and handler is not None and handler.brief:
            named = ttlv.find(payload.value, Tag.UNIQUE_IDENTIFIER)
            if named is not None and isinstance(named.value, str):
                uids[named.value] = None
    return store.look_ahead(uids, run.identity)


#: Clients begin with it whatever version they write (docs/divergences.md).
_IN_EVERY_VERSION: Final = frozenset({Operation.DISCOVER_VERSIONS})


def _knows(version: Version, operation: Operation) -> bool:
    return operation in _IN_EVERY_VERSION or PAYLOADS[operation].since <= version


def _payload(handler: Handler, item: RequestBatchItem) -> Struct:
    if item.request_payload is None:
        return handler.request.load(Item(Tag.REQUEST_PAYLOAD, 1, []))
    return handler.request.load(item.request_payload)


def _check_extensions(item: RequestBatchItem) -> None:
    for extension in item.message_extension:
        if extension.criticality_indicator:
            raise KMIPError(
                ResultReason.UNKNOWN_MESSAGE_EXTENSION,
                f"the message extension of {extension.vendor_identification} is critical and not known",
            )


#: Versions as records name them.
_PROTOCOLS: Final = {version: f"{version // 10}.{version % 10}" for version in VERSIONS}


def audit_entry(
    run: _Run,
    number: Operation | None,
    reason: ResultReason | None,
    call: Call | None = None,
    began: int | None = None,
    *,
    pending: bool = False,
) -> None:
    """Note how an item ended, for the record that goes with it."""
    handler = HANDLERS.get(number) if number is not None else None
    one = audit.entry(
        run.identity,
        run.peer,
        protocol=_PROTOCOLS[run.version],
        operation=str(number) if number is not None else "",
        uid=call.touched[0] if call is not None and call.touched else "",
        result="Failure" if reason is not None else "Pending" if pending else SUCCESS,
        reason="" if reason is None else str(reason),
        since=run.began if began is None else began,
    )
    (run.changes if handler is not None and handler.changes else run.reads).append(one)


def _failure(run: _Run, item: RequestBatchItem | None, error: KMIPError) -> ResponseBatchItem:
    # The JSON dialect has reasons of its own for what its operations refuse.
    operation = item.operation if item is not None and not run.dialect else None
    return ResponseBatchItem(
        operation=item.operation if item is not None else None,
        unique_batch_item_id=item.unique_batch_item_id if item is not None else None,
        result_status=error.status,
        result_reason=reason_in(error.reason, run.version, operation),
        result_message=error.message,
    )


def _encode(run: _Run, responses: list[ResponseBatchItem], encoding: str) -> bytes:
    correlation = run.header.client_correlation_value if run.header is not None else None
    message = response_message(responses, run.version, time_stamp=run.began // 1_000_000_000, correlation=correlation)
    return ENCODINGS[encoding].encode(message, Tag.RESPONSE_MESSAGE, run.version)


def _check_size(run: _Run, responses: list[ResponseBatchItem]) -> None:
    """Refuse an answer that is longer than the client takes; lengths are those of the binary encoding in all."""
    header = run.header
    limit = header.maximum_response_size if header is not None else None
    if limit is None:
        return
    size = len(_encode(run, responses, "ttlv"))
    if size > limit:
        raise KMIPError(
            ResultReason.RESPONSE_TOO_LARGE, f"the response has {size} bytes where Maximum Response Size is {limit}"
        )


def _version_of(data: bytes) -> Version:
    """The version that a message which cannot be read seems to speak: where its header usually stands."""
    if len(data) >= 56 and data[16:19] == b"\x42\x00\x69":
        major = int.from_bytes(data[32:36], "big")
        minor = int.from_bytes(data[48:52], "big")
        return nearest(major, minor)[0]
    return V1_4
