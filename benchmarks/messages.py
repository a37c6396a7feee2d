"""Requests of the benchmarks, encoded once; what varies is patched in."""

import itertools
import os

from kmip import dialect, ttlv
from kmip.attributes import Attributes
from kmip.enums import (
    BlockCipherMode,
    CryptographicAlgorithm,
    CryptographicUsageMask,
    HashingAlgorithm,
    NameType,
    ObjectType,
    Operation,
    PaddingMethod,
    QueryFunction,
    State,
)
from kmip.messages import RequestBatchItem, RequestHeader, RequestMessage, protocol_version
from kmip.payloads import (
    ActivateRequest,
    CreateKeyPairRequest,
    CreateRequest,
    EncryptRequest,
    GetRequest,
    LocateRequest,
    QueryRequest,
    SignRequest,
)
from kmip.schema import Struct, dump
from kmip.structures import ApplicationSpecificInformation, CryptographicParameters, Name
from kmip.tags import Tag
from kmip.versions import V1_4, V2_1, Version

GCM = CryptographicParameters(block_cipher_mode=BlockCipherMode.GCM, tag_length=16, iv_length=96)


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


def bare(operation: Operation, payload: Struct) -> bytes:
    """One operation in the JSON dialect, without a message around it."""
    return dialect.encode(dump(payload, Tag.REQUEST_PAYLOAD, V2_1), operation.spelling)


def posted(path: str, content_type: str, body: bytes) -> bytes:
    """An HTTP request on a connection that stays open."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


def query(version: Version = V1_4) -> bytes:
    """Query Operations and Objects."""
    functions = [QueryFunction.QUERY_OPERATIONS, QueryFunction.QUERY_OBJECTS]
    return message((Operation.QUERY, QueryRequest(query_function=functions)), version=version)


def get(uid: str, version: Version = V1_4) -> bytes:
    """Get by identifier."""
    return message((Operation.GET, GetRequest(unique_identifier=uid)), version=version)


def encrypting(uid: str, data: bytes) -> EncryptRequest:
    """Encrypt with AES-GCM, under a nonce that the server draws."""
    return EncryptRequest(unique_identifier=uid, cryptographic_parameters=GCM, data=data)


def encrypt(uid: str, data: bytes, version: Version = V1_4) -> bytes:
    """The same as a message."""
    return message((Operation.ENCRYPT, encrypting(uid, data)), version=version)


def activate(uid: str, version: Version = V1_4) -> bytes:
    """Activate by identifier."""
    return message((Operation.ACTIVATE, ActivateRequest(unique_identifier=uid)), version=version)


def named(name: str) -> Attributes:
    """A Name."""
    attributes = Attributes()
    attributes.name = [Name(name_value=name, name_type=NameType.UNINTERPRETED_TEXT_STRING)]
    return attributes


def of_application(namespace: str, data: str) -> Attributes:
    """An Application Specific Information."""
    attributes = Attributes()
    attributes.application_specific_information = [
        ApplicationSpecificInformation(application_namespace=namespace, application_data=data)
    ]
    return attributes


def in_group(group: str) -> Attributes:
    """An Object Group."""
    attributes = Attributes()
    attributes.object_group = [group]
    return attributes


def active_aes() -> Attributes:
    """State and Cryptographic Algorithm."""
    attributes = Attributes()
    attributes.state = State.ACTIVE
    attributes.cryptographic_algorithm = CryptographicAlgorithm.AES
    return attributes


def locate(attributes: Attributes, limit: int | None = None, version: Version = V1_4) -> bytes:
    """Locate by attributes, at most `limit` objects."""
    return message((Operation.LOCATE, LocateRequest(attributes=attributes, maximum_items=limit)), version=version)


def rsa_pair() -> bytes:
    """Create Key Pair of RSA-2048."""
    common, private, public = Attributes(), Attributes(), Attributes()
    common.cryptographic_algorithm = CryptographicAlgorithm.RSA
    common.cryptographic_length = 2048
    private.cryptographic_usage_mask = int(CryptographicUsageMask.SIGN)
    public.cryptographic_usage_mask = int(CryptographicUsageMask.VERIFY)
    payload = CreateKeyPairRequest(
        common_attributes=common, private_key_attributes=private, public_key_attributes=public
    )
    return message((Operation.CREATE_KEY_PAIR, payload))


def encrypt_part(uid: str, data: bytes, correlation: bytes | None, *, last: bool) -> bytes:
    """A part of a streamed Encrypt with AES-GCM; the first has no Correlation Value."""
    if correlation is None:
        payload = encrypting(uid, data)
        payload.init_indicator = True
    else:
        payload = EncryptRequest(data=data, correlation_value=correlation, final_indicator=last or None)
    return message((Operation.ENCRYPT, payload))


def sign(uid: str, data: bytes) -> bytes:
    """Sign with PKCS#1 1.5 and SHA-256."""
    parameters = CryptographicParameters(
        padding_method=PaddingMethod.PKCS1_V1_5, hashing_algorithm=HashingAlgorithm.SHA_256
    )
    payload = SignRequest(unique_identifier=uid, cryptographic_parameters=parameters, data=data)
    return message((Operation.SIGN, payload))


_numbers = itertools.count()
_PLACE = "#" * 32


def create(version: Version = V1_4) -> tuple[bytes, bytes, bytes]:
    """The parts of a Create of an AES-256 key around its Name: before, the placeholder, after."""
    attributes = named(_PLACE)
    attributes.cryptographic_algorithm = CryptographicAlgorithm.AES
    attributes.cryptographic_length = 256
    attributes.cryptographic_usage_mask = int(CryptographicUsageMask.ENCRYPT | CryptographicUsageMask.DECRYPT)
    request = message(
        (Operation.CREATE, CreateRequest(object_type=ObjectType.SYMMETRIC_KEY, attributes=attributes)), version=version
    )
    return request.partition(_PLACE.encode())


def new_name() -> bytes:
    """A Name as long as the placeholder, not used before."""
    return f"{os.getpid():08x}{next(_numbers):08x}{os.urandom(8).hex()}".encode()


def uid_in(answer: bytes) -> str:
    """The first Unique Identifier of a response."""
    return _value(answer, "42009407").decode()


def private_uid_in(answer: bytes) -> str:
    """The Private Key Unique Identifier of a response."""
    return _value(answer, "42006607").decode()


def correlation_in(answer: bytes) -> bytes:
    """The Correlation Value of a response."""
    return _value(answer, "4200d608")


def _value(answer: bytes, tag_and_type: str) -> bytes:
    at = answer.index(bytes.fromhex(tag_and_type))
    length = int.from_bytes(answer[at + 4 : at + 8], "big")
    return answer[at + 8 : at + 8 + length]
