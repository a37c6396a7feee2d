"""Messages as a client sends them, carried through the engine without a socket."""

from typing import Any

from keystore import engine
from keystore.authn import Peer
from kmip.enums import ResultReason, ResultStatus
from kmip.messages import ENCODINGS, RequestBatchItem, RequestHeader, RequestMessage, ResponseMessage, protocol_version
from kmip.payloads import PAYLOADS
from kmip.schema import Struct, dump
from kmip.tags import Tag
from kmip.versions import V1_4, Version


def message(*items: Any, version: Version = V1_4, **header: Any) -> RequestMessage:
    """A request of (operation, payload) pairs, or of batch items."""
    batch = []
    for position, item in enumerate(items):
        if not isinstance(item, RequestBatchItem):
            number, payload = item
            if isinstance(payload, Struct):
                payload = dump(payload, Tag.REQUEST_PAYLOAD, version)
            number_of_item = bytes([position + 1]) if len(items) > 1 else None
            item = RequestBatchItem(operation=number, unique_batch_item_id=number_of_item, request_payload=payload)
        batch.append(item)
    header.setdefault("batch_count", len(batch))
    return RequestMessage(
        request_header=RequestHeader(protocol_version=protocol_version(version), **header), batch_item=batch
    )


def answer(data: bytes, *, user: str = "alice", encoding: str = "ttlv") -> ResponseMessage:
    """What the engine answers to these bytes, with typed payloads."""
    found = ResponseMessage.load(ENCODINGS[encoding].decode(engine.handle(data, Peer("cli", user=user), encoding)))
    for item in found.batch_item:
        if item.operation is not None and item.response_payload is not None:
            item.response_payload = PAYLOADS[item.operation].response.load(item.response_payload)
    return found


def send(
    *items: Any, version: Version = V1_4, user: str = "alice", encoding: str = "ttlv", **header: Any
) -> ResponseMessage:
    """Send (operation, payload) pairs as one message."""
    request = message(*items, version=version, **header)
    return answer(ENCODINGS[encoding].encode(request, Tag.REQUEST_MESSAGE, version), user=user, encoding=encoding)


def one(operation: Any, payload: Struct, *, version: Version = V1_4, user: str = "alice", **header: Any) -> Any:
    """The payload of the answer to one operation, which has to succeed."""
    (item,) = send((operation, payload), version=version, user=user, **header).batch_item
    assert item.result_status == ResultStatus.SUCCESS, (item.result_reason, item.result_message)
    return item.response_payload


def why(operation: Any, payload: Struct, *, version: Version = V1_4, user: str = "alice", **header: Any) -> Any:
    """The reason for which one operation fails."""
    (item,) = send((operation, payload), version=version, user=user, **header).batch_item
    assert item.result_status == ResultStatus.OPERATION_FAILED, item
    assert isinstance(item.result_reason, ResultReason)
    return item.result_reason
