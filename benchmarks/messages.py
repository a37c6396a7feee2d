"""Requests of the benchmarks, encoded once; what varies is patched in."""

import itertools
import os

from kmip import ttlv
from kmip.attributes import Attributes
from kmip.enums import (
    CryptographicAlgorithm,
    CryptographicUsageMask,
    NameType,
    ObjectType,
    Operation,
    QueryFunction,
)
from kmip.messages import RequestBatchItem, RequestHeader, RequestMessage, protocol_version
from kmip.payloads import ActivateRequest, CreateRequest, GetRequest, QueryRequest
from kmip.schema import Struct, dump
from kmip.structures import Name
from kmip.tags import Tag
from kmip.versions import V1_4, Version


def message(*items: tuple[Operation, Struct], version: Version = V1_4) -> bytes:
    """A request message in the binary encoding."""
    request = RequestMessage(
        request_header=RequestHeader(protocol_version=protocol_version(version), batch_count=len(items)),
        batch_item=[
            RequestBatchItem(
                operation=operation,
                unique_batch_item_id=str(number).encode() if len(items) > 1 else None,
                request_payload=dump(payload, Tag.REQUEST_PAYLOAD, version),
            )
            for number, (operation, payload) in enumerate(items)
        ],
    )
    return ttlv.encode(dump(request, Tag.REQUEST_MESSAGE, version))


def query(version: Version = V1_4) -> bytes:
    """Query Operations and Objects."""
    functions = [QueryFunction.QUERY_OPERATIONS, QueryFunction.QUERY_OBJECTS]
    return message((Operation.QUERY, QueryRequest(query_function=functions)), version=version)


def get(uid: str, version: Version = V1_4) -> bytes:
    """Get by identifier."""
    return message((Operation.GET, GetRequest(unique_identifier=uid)), version=version)


def activate(uid: str, version: Version = V1_4) -> bytes:
    """Activate by identifier."""
    return message((Operation.ACTIVATE, ActivateRequest(unique_identifier=uid)), version=version)


_numbers = itertools.count()
_PLACE = "#" * 32


def create(version: Version = V1_4) -> tuple[bytes, bytes, bytes]:
    """The parts of a Create of an AES-256 key around its Name: before, the placeholder, after."""
    attributes = Attributes()
    attributes.cryptographic_algorithm = CryptographicAlgorithm.AES
    attributes.cryptographic_length = 256
    attributes.cryptographic_usage_mask = int(CryptographicUsageMask.ENCRYPT | CryptographicUsageMask.DECRYPT)
    attributes.name = [Name(name_value=_PLACE, name_type=NameType.UNINTERPRETED_TEXT_STRING)]
    request = message(
        (Operation.CREATE, CreateRequest(object_type=ObjectType.SYMMETRIC_KEY, attributes=attributes)), version=version
    )
    return request.partition(_PLACE.encode())


def new_name() -> bytes:
    """A Name as long as the placeholder, not used before."""
    return f"{os.getpid():08x}{next(_numbers):08x}{os.urandom(8).hex()}".encode()


def uid_in(answer: bytes) -> str:
    """The first Unique Identifier of a response."""
    at = answer.index(bytes.fromhex("42009407"))
    length = int.from_bytes(answer[at + 4 : at + 8], "big")
    return answer[at + 8 : at + 8 + length].decode()
