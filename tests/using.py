"""Keys for tests of what is done with them, made through the engine."""

import time

from kmip.attributes import Attributes, Vendor
from kmip.enums import (
    CryptographicAlgorithm,
    CryptographicUsageMask,
    KeyFormatType,
    ObjectType,
    Operation,
    RevocationReasonCode,
    SecretDataType,
)
from kmip.objects import KeyBlock, KeyValue, SecretData, SymmetricKey
from kmip.payloads import CreateKeyPairRequest, CreateRequest, RegisterRequest, RevokeRequest
from kmip.structures import CryptographicDomainParameters, CryptographicParameters, RevocationReason
from kmip.tags import Tag
from kmip.ttlv import Item, Type
from tests.authority import do

A, M = CryptographicAlgorithm, CryptographicUsageMask
#: Every use at once.
ALL = int(M.UNRESTRICTED)


def wanted(*, algorithm=None, length=None, mask=ALL, active=True, parameters=None, tags=None, **others):
    """The attributes of a key to be, which is active from an hour ago."""
    found = Attributes(tags or {})
    found.cryptographic_algorithm, found.cryptographic_length = algorithm, length
    found.cryptographic_usage_mask = int(mask)
    if active:
        found.activation_date = int(time.time()) - 3600
    if parameters is not None:
        found.cryptographic_parameters = [parameters]
    for name, value in others.items():
        setattr(found, name, value)
    return found


def under(kek):
    """The attribute that keeps a new key wrapped by another, for `tags`."""
    return {Vendor("cosmian", "wrapping_key_id"): {0: Item(Tag.ATTRIBUTE_VALUE, Type.TEXT_STRING, kek)}}


def parameters(**values):
    return CryptographicParameters(**values)


def create(algorithm=A.AES, length=256, **options):
    """A new symmetric key's identifier."""
    request = CreateRequest(
        object_type=ObjectType.SYMMETRIC_KEY, attributes=wanted(algorithm=algorithm, length=length, **options)
    )
    return do(Operation.CREATE, request).unique_identifier


def register(material, algorithm=A.AES, **options):
    """The identifier of a symmetric key with this material."""
    block = KeyBlock(
        key_format_type=KeyFormatType.RAW,
        key_value=KeyValue(key_material=material),
        cryptographic_algorithm=algorithm,
        cryptographic_length=len(material) * 8,
    )
    request = RegisterRequest(
        object_type=ObjectType.SYMMETRIC_KEY, attributes=wanted(**options), symmetric_key=SymmetricKey(key_block=block)
    )
    return do(Operation.REGISTER, request).unique_identifier


def secret(material, **options):
    """The identifier of Secret Data with this material."""
    block = KeyBlock(key_format_type=KeyFormatType.RAW, key_value=KeyValue(key_material=material))
    request = RegisterRequest(
        object_type=ObjectType.SECRET_DATA,
        attributes=wanted(**options),
        secret_data=SecretData(secret_data_type=SecretDataType.PASSWORD, key_block=block),
    )
    return do(Operation.REGISTER, request).unique_identifier


def pair(algorithm, length=None, curve=None, **options):
    """The identifiers of a new private and public key."""
    found = wanted(algorithm=algorithm, length=length, **options)
    if curve is not None:
        found.cryptographic_domain_parameters = CryptographicDomainParameters(recommended_curve=curve)
    made = do(Operation.CREATE_KEY_PAIR, CreateKeyPairRequest(common_attributes=found))
    return made.private_key_unique_identifier, made.public_key_unique_identifier


def revoke(uid, *, compromised=False):
    code = RevocationReasonCode.KEY_COMPROMISE if compromised else RevocationReasonCode.CESSATION_OF_OPERATION
    reason = RevocationReason(revocation_reason_code=code)
    return do(Operation.REVOKE, RevokeRequest(unique_identifier=uid, revocation_reason=reason))
