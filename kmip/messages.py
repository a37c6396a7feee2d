"""Messages: headers, batch items and credentials (1.4, 6 and 7; 2.1, 8 and 9), and the encodings they travel in."""

from collections.abc import Callable
from functools import lru_cache
from typing import Final, NamedTuple, cast

from kmip import dialect, ttlv, ttlv_json, ttlv_xml
from kmip.enums import (
    AsynchronousIndicator,
    AttestationType,
    BatchErrorContinuationOption,
    CredentialType,
    HashingAlgorithm,
    Operation,
    ResultReason,
    ResultStatus,
)
from kmip.errors import KMIPError
from kmip.schema import DateTime, DateTimeExtended, Encoded, Struct, dump, encode, many, since
from kmip.structures import Nonce, ProtocolVersion, Ticket
from kmip.tags import Tag
from kmip.ttlv import Item
from kmip.versions import V1_2, V1_4, V2_0, VERSIONS, Version


class MessageExtension(Struct):
    """Message Extension (1.4, 6.16; 2.1, 9.13)."""

    vendor_identification: str
    criticality_indicator: bool
    vendor_extension: Item | None = None


class UsernameAndPassword(Struct):
    """Credential Value of type Username and Password (1.4, 2.1.2; 2.1, 9.11)."""

    username: str
    password: str | None = None


class Device(Struct):
    """Credential Value of type Device (1.4, 2.1.2; 2.1, 9.11)."""

    device_serial_number: str | None = None
    password: str | None = None
    device_identifier: str | None = None
    network_identifier: str | None = None
    machine_identifier: str | None = None
    media_identifier: str | None = None


class Attestation(Struct):
    """Credential Value of type Attestation (1.4, 2.1.2; 2.1, 9.11)."""

    nonce: Nonce
    attestation_type: AttestationType
    attestation_measurement: bytes | None = None
    attestation_assertion: bytes | None = None


class OneTimePassword(Struct):
    """Credential Value of type One Time Password (2.1, 9.11)."""

    username: str
    password: str | None = None
    one_time_password: str


class HashedPassword(Struct):
    """Credential Value of type Hashed Password (2.1, 9.11)."""

    username: str
    time_stamp: DateTimeExtended
    hashing_algorithm: HashingAlgorithm | None = None
    hashed_password: bytes


class TicketCredential(Struct):
    """Credential Value of type Ticket (2.1, 9.11)."""

    ticket: Ticket


#: The structure of a Credential Value by its Credential Type.
CREDENTIALS: dict[CredentialType, type[Struct]] = {
    CredentialType.USERNAME_AND_PASSWORD: UsernameAndPassword,
    CredentialType.DEVICE: Device,
    CredentialType.ATTESTATION: Attestation,
    CredentialType.ONE_TIME_PASSWORD: OneTimePassword,
    CredentialType.HASHED_PASSWORD: HashedPassword,
    CredentialType.TICKET: TicketCredential,
}


class Credential(Struct):
    """Credential (1.4, 2.1.2; 2.1, 9.11). A value of an unknown type stays an item."""

    credential_type: CredentialType
    credential_value: Struct | Item

    def resolve(self) -> None:
        """Give the value the structure that the type names."""
        struct = CREDENTIALS.get(self.credential_type)
        if struct is not None and isinstance(self.credential_value, Item):
            self.credential_value = struct.load(self.credential_value)


class Authentication(Struct):
    """Authentication (1.4, 6.6; 2.1, 9.4)."""

    credential: list[Credential] = many()


class RequestHeader(Struct):
    """Request Header (1.4, 7.2; 2.1, 8.2)."""

    protocol_version: ProtocolVersion
    maximum_response_size: int | None = None
    client_correlation_value: str | None = since(V1_4)
    server_correlation_value: str | None = since(V1_4)
    asynchronous_indicator: bool | AsynchronousIndicator | None = None
    attestation_capable_indicator: bool | None = since(V1_2)
    attestation_type: list[AttestationType] = since(V1_2, list)
    authentication: Authentication | None = None
    batch_error_continuation_option: BatchErrorContinuationOption | None = None
    batch_order_option: bool | None = None
    time_stamp: DateTime | None = None
    batch_count: int = 1


class RequestBatchItem(Struct):
    """Batch Item of a request (1.4, 7.2; 2.1, 8.3); the payload stays an item until its operation is looked up."""

    operation: Operation
    ephemeral: bool | None = since(V2_0)
    unique_batch_item_id: bytes | None = None
    request_payload: Item | None = None
    message_extension: list[MessageExtension] = many()


class RequestMessage(Struct):
    """Request Message (1.4, 7.1; 2.1, 8.1)."""

    request_header: RequestHeader
    batch_item: list[RequestBatchItem] = many()


class ResponseHeader(Struct):
    """Response Header (1.4, 7.2; 2.1, 8.5)."""

    protocol_version: ProtocolVersion
    time_stamp: DateTime
    nonce: Nonce | None = since(V1_2)
    server_hashed_password: bytes | None = since(V2_0)
    attestation_type: list[AttestationType] = since(V1_2, list)
    client_correlation_value: str | None = since(V1_4)
    server_correlation_value: str | None = since(V1_4)
    batch_count: int


class ResponseBatchItem(Struct):
    """Batch Item of a response (1.4, 7.2; 2.1, 8.6)."""

    operation: Operation | None = None
    unique_batch_item_id: bytes | None = None
    result_status: ResultStatus
    result_reason: ResultReason | None = None
    result_message: str | None = None
    asynchronous_correlation_value: bytes | None = None
    response_payload: Struct | Item | None = None
    message_extension: list[MessageExtension] = many()


class ResponseMessage(Struct):
    """Response Message (1.4, 7.1; 2.1, 8.4)."""

    response_header: ResponseHeader
    batch_item: list[ResponseBatchItem] = many()


#: What a message and its first item begin with.
_MESSAGE = bytes.fromhex("42007801")
_HEADER = bytes.fromhex("42007701")
#: Headers as clients send them again and again, by their bytes; none that says who the client is, and nothing long.
_headers: dict[bytes, RequestHeader] = {}
MAX_HEADERS: Final = 256
MAX_HEADER_LENGTH: Final = 256


def load_request(data: bytes, encoding: str = "ttlv") -> RequestMessage:
    """The request message in some bytes; raises `KMIPError`. Nobody changes its header: other messages may share it."""
    if encoding != "ttlv" or data[:4] != _MESSAGE or data[8:12] != _HEADER:
        return RequestMessage.load(ENCODINGS[encoding].decode(data))
    start = 16 + int.from_bytes(data[12:16], "big")
    key = data[8:start]
    header = _headers.get(key)
    if header is None or int.from_bytes(data[4:8], "big") != len(data) - 8:
        message = RequestMessage.load(ttlv.decode(data))
        header = message.request_header
        if header.authentication is None and header.time_stamp is None and len(key) <= MAX_HEADER_LENGTH:
            if len(_headers) >= MAX_HEADERS:
                _headers.clear()
            _headers[key] = header
        return message
    items: list[RequestBatchItem] = []
    try:
        while start < len(data):
            item, start = ttlv.decode_from(data, start)
            if item[0] != Tag.BATCH_ITEM:
                # What is ignored or refused there, the usual way knows.
                return RequestMessage.load(ttlv.decode(data))
            items.append(RequestBatchItem.load(item))
    except KMIPError:
        return RequestMessage.load(ttlv.decode(data))
    return RequestMessage(request_header=header, batch_item=items)


@lru_cache(maxsize=64)
def _response_header(version: Version, time_stamp: int, batch_count: int) -> ResponseHeader:
    """A header as the answers of a second have it in common."""
    header = ResponseHeader(protocol_version=protocol_version(version), time_stamp=time_stamp, batch_count=batch_count)
    # It is written as a header is, if it may not be looked into.
    return cast(ResponseHeader, Encoded(data=encode(header, Tag.RESPONSE_HEADER, version)))


def response(
    items: list[ResponseBatchItem], version: Version, *, time_stamp: int, correlation: str | None = None
) -> ResponseMessage:
    """The response message around some batch items, with the client's correlation value if it gave one."""
    if correlation is None:
        header = _response_header(version, time_stamp, len(items))
    else:
        header = ResponseHeader(
            protocol_version=protocol_version(version),
            time_stamp=time_stamp,
            client_correlation_value=correlation,
            batch_count=len(items),
        )
    return ResponseMessage(response_header=header, batch_item=items)


class Encoding(NamedTuple):
    """Bytes to an item tree, a structure under a tag in a version to bytes, and the media types of the encoding."""

    decode: Callable[[bytes], Item]
    encode: Callable[[Struct, Tag, Version], bytes]
    content_types: tuple[str, ...]


def _of_items(encode: Callable[[Item], bytes]) -> Callable[[Struct, Tag, Version], bytes]:
    return lambda struct, tag, version: encode(dump(struct, tag, version))


#: The encodings of a message on `POST /kmip`; the JSON dialect of `/kmip/2_1` has its own roots (see `dialect`).
ENCODINGS: dict[str, Encoding] = {
    "ttlv": Encoding(ttlv.decode, encode, ("application/octet-stream",)),
    "xml": Encoding(ttlv_xml.decode, _of_items(ttlv_xml.encode), ("text/xml", "application/xml")),
    "json": Encoding(ttlv_json.decode, _of_items(ttlv_json.encode), ("application/json",)),
    "dialect": Encoding(lambda data: dialect.decode(data)[1], _of_items(dialect.encode), ("application/json",)),
}


def nearest(major: int, minor: int) -> tuple[Version, bool]:
    """The supported version nearest to one asked for, and whether it is that one."""
    asked = major * 10 + minor if 0 <= minor < 10 else major * 10 + 9
    if asked in VERSIONS and 0 <= minor < 10:
        return Version(asked), True
    for version in VERSIONS:
        if version < asked:
            return version, False
    return VERSIONS[-1], False


def protocol_version(version: Version) -> ProtocolVersion:
    """The structure of a version."""
    major, minor = divmod(version, 10)
    return ProtocolVersion(protocol_version_major=major, protocol_version_minor=minor)
