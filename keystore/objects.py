"""Managed objects between their structure and the store: new ones with the attributes that follow, stored ones opened.

The store keeps an object as the encoding of its structure. Nothing here knows a message or who asks.
"""

import hashlib
from collections.abc import Callable
from typing import Any, Final

from keystore import states, store
from keystore.crypto import certificates
from keystore.store import Managed
from kmip import ttlv
from kmip.attributes import Attributes
from kmip.enums import (
    CertificateType,
    CryptographicAlgorithm,
    HashingAlgorithm,
    KeyFormatType,
    ObjectType,
    ProtectionStorageMask,
    ResultReason,
    RNGAlgorithm,
    State,
)
from kmip.errors import KMIPError
from kmip.objects import OBJECTS, Certificate, CertificateRequest, KeyBlock, KeyValue, OpaqueObject, Template
from kmip.schema import Struct, dump
from kmip.structures import Digest, RNGParameters
from kmip.tags import Tag
from kmip.versions import V2_1

#: Seconds that a client may rely on what it was told of an object (Lease Time).
LEASE_TIME: Final = 3600
#: The tag of each object type's structure.
TAGS: Final = {object_type: Tag[object_type.name] for object_type in OBJECTS}


def key_block(managed_object: Struct) -> KeyBlock | None:
    """The Key Block of an object that has one."""
    return getattr(managed_object, "key_block", None)


def material_of(managed_object: Struct) -> tuple[bytes | None, KeyFormatType | None]:
    """The bytes that Digest is over, and their Key Format Type."""
    if isinstance(managed_object, Certificate):
        return managed_object.certificate_value, KeyFormatType.X_509
    if isinstance(managed_object, CertificateRequest):
        return managed_object.certificate_request_value, KeyFormatType.PKCS_10
    if isinstance(managed_object, OpaqueObject):
        return managed_object.opaque_data_value, KeyFormatType.OPAQUE
    block = key_block(managed_object)
    if block is None or block.key_value is None:
        return None, None
    value = block.key_value
    if isinstance(value, KeyValue):
        material = value.key_material
        if isinstance(material, Struct):
            return ttlv.encode(dump(material, Tag.KEY_MATERIAL, V2_1)), block.key_format_type
        return (material if isinstance(material, bytes) else ttlv.encode(material)), block.key_format_type
    return value, block.key_format_type


def encode(object_type: ObjectType, managed_object: Struct) -> bytes:
    """The bytes that the store seals."""
    return ttlv.encode(dump(managed_object, TAGS[object_type], V2_1))


def decode(managed: Managed) -> Any:
    """The structure of a stored object; raises `KMIPError` where its material is gone or elsewhere."""
    material = managed.material
    if material is None:
        raise KMIPError(ResultReason.KEY_VALUE_NOT_PRESENT, "the server does not hold the material of this object")
    return OBJECTS[managed.object_type].load(ttlv.decode(material))


def new(
    uid: str,
    namespace: str,
    owner: str,
    managed_object: Struct,
    attributes: Attributes,
    *,
    object_type: ObjectType,
    now: int,
    generated: bool,
) -> Managed:
    """A new object with what the client asked for and what the server sets, not yet saved (2.1, 4)."""
    derive(attributes, object_type, managed_object)
    attributes.unique_identifier = uid
    attributes.object_type = object_type
    attributes.initial_date = now
    attributes.last_change_date = now
    attributes.state = State.PRE_ACTIVE
    attributes.lease_time = LEASE_TIME
    if attributes.fresh is None:
        attributes.fresh = True
    if generated:
        attributes.original_creation_date = now
        attributes.random_number_generator = RNGParameters(rng_algorithm=RNGAlgorithm.UNSPECIFIED)
    attributes.sensitive = bool(attributes.sensitive)
    attributes.always_sensitive = attributes.sensitive
    attributes.extractable = attributes.extractable is not False
    attributes.never_extractable = not attributes.extractable
    attributes.protection_storage_mask = int(ProtectionStorageMask.SOFTWARE)
    attributes.short_unique_identifier = hashlib.sha256(uid.encode()).digest()[:20]
    if attributes.operation_policy_name is None:
        attributes.operation_policy_name = "default"
    limits = attributes.usage_limits
    if limits is not None and limits.usage_limits_count is None:
        limits.usage_limits_count = limits.usage_limits_total
    attributes.object_group = [group for group in attributes.object_group if group]
    states.settle(attributes, now)
    managed = Managed(uid, namespace, owner, attributes)
    block = key_block(managed_object)
    if block is not None and block.key_value is None:
        # The material is elsewhere (2.1, 4.27); what else the client said of the key is kept all the same.
        attributes.key_value_present = False
    managed.material = encode(object_type, managed_object)
    return managed


def derive(attributes: Attributes, object_type: ObjectType, managed_object: Struct) -> None:
    """Set the attributes that follow from the material; what the client says of it comes first."""
    material, format_ = material_of(managed_object)
    attributes.key_format_type = format_
    if material is not None:
        digest = hashlib.sha256(material).digest()
        attributes.digest = [
            Digest(hashing_algorithm=HashingAlgorithm.SHA_256, digest_value=digest, key_format_type=format_)
        ]
    if isinstance(managed_object, OpaqueObject):
        attributes.opaque_data_type = managed_object.opaque_data_type
    if isinstance(managed_object, Certificate):
        attributes.certificate_type = managed_object.certificate_type
        if managed_object.certificate_type == CertificateType.X_509:
            facts = certificates.read(managed_object.certificate_value)
            for tag, values in facts.attributes.items():
                attributes[tag] = dict(enumerate(values))
            if facts.key is not None:
                attributes.cryptographic_algorithm = attributes.cryptographic_algorithm or facts.key.algorithm
                attributes.cryptographic_length = attributes.cryptographic_length or facts.key.bits
    block = key_block(managed_object)
    if block is not None:
        if attributes.cryptographic_algorithm is None:
            attributes.cryptographic_algorithm = block.cryptographic_algorithm
        if attributes.cryptographic_length is None:
            attributes.cryptographic_length = block.cryptographic_length
        if attributes.cryptographic_length is None and material is not None and format_ == KeyFormatType.RAW:
            attributes.cryptographic_length = len(material) * 8


def keyed(
    object_type: ObjectType,
    material: bytes | Struct,
    format_: KeyFormatType,
    algorithm: CryptographicAlgorithm | None,
    length: int | None,
    **others: Any,
) -> Struct:
    """An object around new Key Material."""
    block = KeyBlock(
        key_format_type=format_,
        key_value=KeyValue(key_material=material),
        cryptographic_algorithm=algorithm,
        cryptographic_length=length,
    )
    made: Callable[..., Struct] = OBJECTS[object_type]
    return made(key_block=block, **others)


def by_name(namespace: str, name: str, object_type: ObjectType, now: int) -> Managed | None:
    """The object of a type with a Name."""
    from kmip.structures import Name  # noqa: F401

    objects = store.objects_in(namespace).filter(
        object_type=object_type, index__attribute=Tag.NAME.spelling, index__value__startswith=name + store.SEPARATOR
    )
    found = store.fetch_all(objects[:1], now)
    return found[0] if found else None


def template_attributes(managed: Managed) -> Attributes:
    """The attributes that a Template holds (1.4, 2.2.6)."""
    template = decode(managed)
    assert isinstance(template, Template)
    return template.attributes if template.attributes is not None else Attributes()
