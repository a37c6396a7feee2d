"""Managed objects between their structure and the store: new ones with the attributes that follow, stored ones opened.

The store keeps an object as the encoding of its structure. Nothing here knows a message or who asks.
"""

import hashlib
from collections.abc import Callable, Iterator
from typing import Any, Final

from keystore import creation, states, tokenkeys
from keystore.crypto import certificates, keys
from keystore.store import Managed
from kmip import schema, ttlv
from kmip.attributes import CERTIFICATES_AND_PGP_KEYS, ROWS, Attributes, By
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
from kmip.objects import (
    OBJECTS,
    Certificate,
    CertificateRequest,
    KeyBlock,
    KeyValue,
    OpaqueObject,
    Template,
    same_in_every_version,
)
from kmip.schema import Encoded, Struct
from kmip.structures import Digest, RNGParameters
from kmip.tags import Tag
from kmip.ttlv import Item
from kmip.versions import V2_1

#: Seconds that a client may rely on what it was told of an object (Lease Time).
LEASE_TIME: Final = 3600
#: How the server protects what it stores.
STORAGE: Final = int(ProtectionStorageMask.SOFTWARE)
#: Symmetric keys come from the kernel, which does not tell how it makes them; key pairs from OpenSSL's generator.
KERNEL: Final = RNGParameters(rng_algorithm=RNGAlgorithm.UNSPECIFIED)
OPENSSL: Final = RNGParameters(
    rng_algorithm=RNGAlgorithm.DRBG, cryptographic_algorithm=CryptographicAlgorithm.AES, cryptographic_length=256
)
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
        return (ttlv.encode(material) if isinstance(material, Item) else _encoded(material)), block.key_format_type
    return value, block.key_format_type


def encode(object_type: ObjectType, managed_object: Struct) -> bytes:
    """The bytes that the store seals: in the newest version that has the type of object."""
    return schema.encode(managed_object, TAGS[object_type], object_type.until)


def decode(managed: Managed) -> Any:
    """The structure of a stored object; raises `KMIPError` where its material is gone or elsewhere."""
    return load(managed.object_type, present(managed.material))


def load(object_type: ObjectType, material: bytes) -> Any:
    """The structure of an object of a type in the bytes that the store seals."""
    return OBJECTS[object_type].load(ttlv.decode(material))


def as_stored(managed: Managed) -> Struct:
    """Like `decode`, for one that is given out unchanged: it stays encoded where every version would write it so."""
    material = present(managed.material)
    if same_in_every_version(material):
        return Encoded(data=material)
    return load(managed.object_type, material)  # type: ignore[no-any-return]


def present(material: bytes | None) -> bytes:
    """What the store sealed; raises `KMIPError` where that is nothing, or tells where a key is."""
    if material is None:
        raise KMIPError(ResultReason.KEY_VALUE_NOT_PRESENT, "the server does not hold the material of this object")
    if tokenkeys.is_reference(material):
        raise KMIPError(ResultReason.NOT_EXTRACTABLE, "the key is in a token and does not leave it")
    return material


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
    generator: RNGParameters = KERNEL,
    known: keys.Key | None = None,
    rules: creation.Rules | None = None,
) -> Managed:
    """A new object with what the client asked for and what the server sets, not yet saved (2.1, 4).

    `generated` objects are the server's own work, made with `generator`; `known` is the key where it has been read,
    `rules` those of the owner where they have.
    """
    derive(attributes, object_type, managed_object, known)
    attributes.unique_identifier = uid
    attributes.object_type = object_type
    attributes.initial_date = now
    attributes.last_change_date = now
    attributes.state = State.PRE_ACTIVE
    attributes.lease_time = LEASE_TIME
    # Register may bring an object that somebody has seen already (2.1, 4.24).
    attributes.fresh = generated or attributes.fresh is not False
    if generated:
        attributes.original_creation_date = now
        attributes.random_number_generator = generator
    attributes.sensitive = bool(attributes.sensitive)
    attributes.always_sensitive = attributes.sensitive
    attributes.extractable = attributes.extractable is not False
    attributes.never_extractable = not attributes.extractable
    attributes.protection_storage_mask = STORAGE
    attributes.short_unique_identifier = hashlib.sha256(uid.encode()).digest()
    if attributes.operation_policy_name is None:
        attributes.operation_policy_name = "default"
    limits = attributes.usage_limits
    if limits is not None:
        # A Count in the request is passed over (2.1, 4.59).
        limits.usage_limits_count = limits.usage_limits_total
    if attributes.rotate_name is not None or attributes.rotate_automatic or attributes.rotate_generation:
        attributes.rotate_generation = attributes.rotate_generation or 0
        attributes.rotate_latest = True
    # An empty group would be sent back, and clients stumble over it.
    attributes.object_group = [group for group in attributes.object_group if group]
    states.settle(attributes, now)
    creation.check(rules or creation.Rules(namespace, owner), object_type, attributes)
    managed = Managed(uid, namespace, owner, attributes)
    block = key_block(managed_object)
    if block is not None and block.key_value is None:
        # The material is elsewhere (2.1, 4.27); what else the client said of the key is kept all the same.
        attributes.key_value_present = False
    managed.material = encode(object_type, managed_object)
    return managed


def put_in_token(managed: Managed, reference: bytes) -> None:
    """Let a new object, made without Key Value, be the one that a token holds: nobody gets its material."""
    attributes = managed.attributes
    managed.material = reference
    attributes.key_value_present = None
    attributes.sensitive = attributes.always_sensitive = attributes.never_extractable = True
    attributes.extractable = False
    attributes.protection_storage_mask = int(ProtectionStorageMask.HARDWARE)


def derive(
    attributes: Attributes, object_type: ObjectType, managed_object: Struct, known: keys.Key | None = None
) -> None:
    """Set the attributes that follow from the material; what the client says of it comes first."""
    attributes.key_format_type = material_of(managed_object)[1]
    if isinstance(managed_object, OpaqueObject):
        attributes.opaque_data_type = managed_object.opaque_data_type
    if isinstance(managed_object, Certificate):
        _derive_certificate(attributes, managed_object)
    block = key_block(managed_object)
    if block is not None:
        if attributes.cryptographic_algorithm is None:
            attributes.cryptographic_algorithm = block.cryptographic_algorithm
        if attributes.cryptographic_length is None:
            attributes.cryptographic_length = block.cryptographic_length
        material, format_ = material_of(managed_object)
        if attributes.cryptographic_length is None and material is not None and format_ == KeyFormatType.RAW:
            attributes.cryptographic_length = len(material) * 8
    attributes.digest = list(_digests(object_type, managed_object, known))


def _derive_certificate(attributes: Attributes, certificate: Certificate) -> None:
    attributes.certificate_type = certificate.certificate_type
    if certificate.certificate_type != CertificateType.X_509:
        attributes.certificate_length = len(certificate.certificate_value)
        return
    facts = certificates.read(certificate.certificate_value)
    for stated in CERTIFICATE_ATTRIBUTES:
        # The certificate says itself what a client could only repeat.
        attributes.pop(stated, None)
    for tag, values in facts.attributes.items():
        attributes[tag] = dict(enumerate(values))
    if facts.key is not None:
        attributes.cryptographic_algorithm = facts.key.algorithm
        attributes.cryptographic_length = facts.key.bits


#: What follows from an X.509 certificate (2.1, 4.6, 4.8, 4.22, 4.61 to 4.63).
CERTIFICATE_ATTRIBUTES: Final = frozenset(
    row.tag
    for row in ROWS
    if row.set_by is By.SERVER and row.applies_to <= CERTIFICATES_AND_PGP_KEYS and row.tag != Tag.CERTIFICATE_TYPE
)


def _digests(object_type: ObjectType, managed_object: Struct, known: keys.Key | None) -> Iterator[Digest]:
    """The digest of the object in its own format and, for a key, in the default one of its kind (2.1, 4.21)."""
    material, own = material_of(managed_object)
    if material is None:
        return
    if object_type == ObjectType.CERTIFICATE:
        # The same bytes: 1.x calls them Raw, 2.x has a format for them.
        yield _digest(material, KeyFormatType.RAW)
    yield _digest(material, own)
    block = key_block(managed_object)
    if block is None or block.key_wrapping_data is not None or not isinstance(block.key_value, KeyValue):
        return
    value = block.key_value.key_material
    if isinstance(value, Item):
        return
    if own == keys.default_format(object_type, block.cryptographic_algorithm):
        return
    try:
        key = known or keys.read(object_type, block.key_format_type, value, algorithm=block.cryptographic_algorithm)
        default = keys.default_format(object_type, key.algorithm, key.curve)
        if default != own:
            yield _digest(_encoded(keys.write(object_type, key.data, default)), default)
    except KMIPError:
        # What cannot be read here is given out as it came, and only so.
        return


def _digest(material: bytes, format_: KeyFormatType | None) -> Digest:
    value = hashlib.sha256(material).digest()
    return Digest(hashing_algorithm=HashingAlgorithm.SHA_256, digest_value=value, key_format_type=format_)


def _encoded(material: bytes | Struct) -> bytes:
    """The bytes of Key Material: a structure's are its encoding."""
    return material if isinstance(material, bytes) else schema.encode(material, Tag.KEY_MATERIAL, V2_1)


def keyed(
    object_type: ObjectType,
    material: bytes | Struct | None,
    format_: KeyFormatType,
    algorithm: CryptographicAlgorithm | None,
    length: int | None,
    **others: Any,
) -> Struct:
    """An object around new Key Material; without any, it is elsewhere."""
    block = KeyBlock(
        key_format_type=format_,
        key_value=None if material is None else KeyValue(key_material=material),
        cryptographic_algorithm=algorithm,
        cryptographic_length=length,
    )
    made: Callable[..., Struct] = OBJECTS[object_type]
    return made(key_block=block, **others)


def template_attributes(managed: Managed) -> Attributes:
    """The attributes that a Template holds (1.4, 2.2.6)."""
    template = decode(managed)
    assert isinstance(template, Template)
    return template.attributes if template.attributes is not None else Attributes()
