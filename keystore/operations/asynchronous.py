"""Operations about requests that are answered asynchronously: Poll, Cancel, Process, Query Asynchronous Requests."""

import time
from typing import Final

from keystore import approvals, deferred, store
from keystore.call import Call, operation
from keystore.models import DeferredRequest
from kmip import ttlv
from kmip.enums import Operation, ProcessingStage, ResultReason, ResultStatus
from kmip.errors import KMIPError
from kmip.messages import ResponseBatchItem
from kmip.payloads import (
    PAYLOADS,
    AsynchronousRequest,
    CancelRequest,
    CancelResponse,
    PollRequest,
    ProcessRequest,
    ProcessResponse,
    QueryAsynchronousRequestsRequest,
    QueryAsynchronousRequestsResponse,
)
from kmip.ttlv import Item

#: Seconds between looks at a request that Process has made synchronous and that another process carries out.
LOOK: Final = 0.1


def _found(call: Call, correlation: bytes) -> DeferredRequest:
    row = deferred.find(call.identity, correlation)
    if row is None:
        raise KMIPError(
            ResultReason.INVALID_ASYNCHRONOUS_CORRELATION_VALUE, "there is no request with this correlation value"
        )
    return row


@operation(Operation.POLL, changes=False)
def poll(call: Call, request: PollRequest) -> ResponseBatchItem:
    """Answer as the operation that was deferred would have, once it has completed (KMIP 2.1, 6.1.38)."""
    row = _found(call, request.asynchronous_correlation_value)
    if row.held and approvals.ended(row.id):
        row = _found(call, request.asynchronous_correlation_value)
    while row.awaited and row.stage != ProcessingStage.COMPLETED:
        # Whoever carried it out may be gone; this process can do it as well.
        deferred.hurry(row)
        row = _found(call, request.asynchronous_correlation_value)
        if row.stage != ProcessingStage.COMPLETED:
            if store.in_transaction():
                # Other items of the message change something: whoever carries the request out may wait for them.
                break
            time.sleep(LOOK)
    operation_ = Operation(row.operation)
    if row.stage != ProcessingStage.COMPLETED:
        return ResponseBatchItem(
            operation=operation_,
            result_status=ResultStatus.OPERATION_PENDING,
            asynchronous_correlation_value=request.asynchronous_correlation_value,
        )
    if deferred.was_canceled(row):
        raise KMIPError(ResultReason.OPERATION_CANCELED_BY_REQUESTER, "the request was canceled")
    encoded = deferred.result(row)
    if encoded is None:
        raise KMIPError(ResultReason.GENERAL_FAILURE, "the request was given up: it ended its process again and again")
    response = ResponseBatchItem.load(ttlv.decode(encoded))
    if isinstance(response.response_payload, Item):
        response.response_payload = PAYLOADS[operation_].response.load(response.response_payload)
    return response


@operation(Operation.CANCEL, changes=False)
def cancel(call: Call, request: CancelRequest) -> CancelResponse:
    """Cancel a deferred request that has not completed (KMIP 2.1, 6.1.5)."""
    correlation = request.asynchronous_correlation_value
    return CancelResponse(
        asynchronous_correlation_value=correlation,
        cancellation_result=deferred.cancel(call.identity, correlation),
    )


@operation(Operation.PROCESS, changes=False)
def process(call: Call, request: ProcessRequest) -> ProcessResponse:
    """Make a deferred request synchronous: it is carried out now, and Poll will not find it pending (2.1, 6.1.39)."""
    row = _found(call, request.asynchronous_correlation_value)
    if row.held:
        raise KMIPError(ResultReason.PERMISSION_DENIED, "the request waits for the approval of people")
    if row.awaited or row.stage == ProcessingStage.COMPLETED:
        raise KMIPError(ResultReason.DUPLICATE_PROCESS_REQUEST, "the request has been processed already")
    deferred.hurry(row)
    return ProcessResponse()


@operation(Operation.QUERY_ASYNCHRONOUS_REQUESTS, changes=False)
def query_asynchronous_requests(
    call: Call, request: QueryAsynchronousRequestsRequest
) -> QueryAsynchronousRequestsResponse:
    """Name the requests of the client whose results it has not obtained (KMIP 2.1, 6.1.41)."""
    values, operations = request.asynchronous_correlation_values, request.operations
    rows = deferred.outstanding(
        call.identity,
        values.asynchronous_correlation_value if values is not None else (),
        operations.operation if operations is not None else (),
    )
    return QueryAsynchronousRequestsResponse(
        asynchronous_request=[
            AsynchronousRequest(
                asynchronous_correlation_value=bytes.fromhex(row.id),
                operation=Operation(row.operation),
                submission_date=row.submitted,
                processing_stage=ProcessingStage(row.stage),
            )
            for row in rows
        ]
    )
