"""Objects for tests, made through the engine as a client would."""

from typing import Any

from kmip.attributes import Attributes
from kmip.enums import (
    CryptographicAlgorithm,
    CryptographicUsageMask,
    KeyFormatType,
    NameType,
    ObjectType,
    Operation,
    SecretDataType,
)
from kmip.objects import KeyBlock, KeyValue, SecretData, SymmetricKey
from kmip.payloads import (
    ActivateRequest,
    CreateKeyPairRequest,
    CreateRequest,
    GetAttributesRequest,
    GetRequest,
    LocateRequest,
    RegisterRequest,
)
from kmip.structures import Name
from tests.authority import do

MASK = int(CryptographicUsageMask.ENCRYPT | CryptographicUsageMask.DECRYPT)


def named(text: str) -> Name:
    return Name(name_value=text, name_type=NameType.UNINTERPRETED_TEXT_STRING)


def asked(**values: Any) -> Attributes:
    """Attributes by their names in Python; `names` is a list of texts."""
    attributes = Attributes()
    attributes.name = [named(text) for text in values.pop("names", ())]
    for name, value in values.items():
        setattr(attributes, name, value)
    return attributes


def created(user: str = "alice", **values: Any) -> str:
    """A new AES key's identifier."""
    values.setdefault("cryptographic_algorithm", CryptographicAlgorithm.AES)
    values.setdefault("cryptographic_length", 128)
    values.setdefault("cryptographic_usage_mask", MASK)
    request = CreateRequest(object_type=ObjectType.SYMMETRIC_KEY, attributes=asked(**values))
    return do(Operation.CREATE, request, user).unique_identifier


def pair(user: str = "alice", **values: Any) -> tuple[str, str]:
    """The identifiers of a new private and public P-256 key."""
    values.setdefault("cryptographic_algorithm", CryptographicAlgorithm.ECDSA)
    values.setdefault("cryptographic_length", 256)
    made = do(Operation.CREATE_KEY_PAIR, CreateKeyPairRequest(common_attributes=asked(**values)), user)
    return made.private_key_unique_identifier, made.public_key_unique_identifier


def key(material: bytes = bytes(range(16)), **block: Any) -> SymmetricKey:
    block.setdefault("cryptographic_algorithm", CryptographicAlgorithm.AES)
    block.setdefault("cryptographic_length", len(material) * 8)
    return SymmetricKey(
        key_block=KeyBlock(key_format_type=KeyFormatType.RAW, key_value=KeyValue(key_material=material), **block)
    )


def secret(material: bytes = b"a password") -> SecretData:
    return SecretData(
        secret_data_type=SecretDataType.PASSWORD,
        key_block=KeyBlock(key_format_type=KeyFormatType.OPAQUE, key_value=KeyValue(key_material=material)),
    )


def registered(user: str = "alice", material: bytes = bytes(range(16)), **values: Any) -> str:
    """The identifier of a registered AES key."""
    values.setdefault("cryptographic_usage_mask", MASK)
    request = RegisterRequest(
        object_type=ObjectType.SYMMETRIC_KEY, attributes=asked(**values), symmetric_key=key(material)
    )
    return do(Operation.REGISTER, request, user).unique_identifier


def activate(uid: str, user: str = "alice") -> None:
    do(Operation.ACTIVATE, ActivateRequest(unique_identifier=uid), user)


def seen(uid: str, user: str = "alice") -> Attributes:
    return do(Operation.GET_ATTRIBUTES, GetAttributesRequest(unique_identifier=uid), user).attributes


def block(uid: str, user: str = "alice", **asked_for: Any) -> KeyBlock:
    """The Key Block that Get gives."""
    found = do(Operation.GET, GetRequest(unique_identifier=uid, **asked_for), user)
    return getattr(found, found.object_type.name.lower()).key_block


def material(uid: str, user: str = "alice", **asked_for: Any) -> bytes:
    """The Key Material that Get gives."""
    return block(uid, user, **asked_for).key_value.key_material


def located(user: str = "alice", *, attributes: Attributes | None = None, **request: Any) -> list[str]:
    return do(Operation.LOCATE, LocateRequest(attributes=attributes, **request), user).unique_identifier
