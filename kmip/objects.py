"""The managed objects and what holds their material (1.4, 2.1 and 2.2; 2.1, 2 and 3)."""

import re
from collections.abc import Iterator

from kmip.attributes import Attributes
from kmip.enums import (
    CertificateRequestType,
    CertificateType,
    CryptographicAlgorithm,
    KeyCompressionType,
    KeyFormatType,
    ObjectType,
    OpaqueDataType,
    SecretDataType,
    SplitKeyMethod,
)
from kmip.schema import BigInteger, Struct, spelled
from kmip.structures import KEY_MATERIALS, KeyWrappingData
from kmip.tags import Tag
from kmip.ttlv import Item
from kmip.versions import V1_0, V1_4, V2_1


class KeyValue(Struct):
    """Key Value in the clear (1.4, 2.1.4; 2.1, 3.2); wrapped, it is a byte string.

    The Key Material's type depends on the Key Format Type of the Key Block around it, which resolves it.
    """

    key_material: bytes | Struct | Item
    attributes: Attributes | None = spelled(Tag.ATTRIBUTE, Tag.ATTRIBUTES)


class KeyBlock(Struct):
    """Key Block (1.4, 2.1.3; 2.1, 3.1)."""

    key_format_type: KeyFormatType
    key_compression_type: KeyCompressionType | None = None
    key_value: KeyValue | bytes | None = None
    cryptographic_algorithm: CryptographicAlgorithm | None = None
    cryptographic_length: int | None = None
    key_wrapping_data: KeyWrappingData | None = None

    def resolve(self) -> None:
        """Give a transparent key's material the structure that the Key Format Type names."""
        value = self.key_value
        if isinstance(value, KeyValue) and isinstance(value.key_material, Item):
            struct = KEY_MATERIALS.get(self.key_format_type)
            if struct is not None:
                value.key_material = struct.load(value.key_material)


class Certificate(Struct):
    """Certificate (1.4, 2.2.1; 2.1, 2.1)."""

    certificate_type: CertificateType
    certificate_value: bytes


class CertificateRequest(Struct):
    """Certificate Request (2.1, 2.2)."""

    certificate_request_type: CertificateRequestType
    certificate_request_value: bytes


class OpaqueObject(Struct):
    """Opaque Object (1.4, 2.2.8; 2.1, 2.3)."""

    opaque_data_type: OpaqueDataType
    opaque_data_value: bytes


class PGPKey(Struct):
    """PGP Key (1.4, 2.2.9; 2.1, 2.4)."""

    pgp_key_version: int
    key_block: KeyBlock


class PrivateKey(Struct):
    """Private Key (1.4, 2.2.4; 2.1, 2.5)."""

    key_block: KeyBlock


class PublicKey(Struct):
    """Public Key (1.4, 2.2.3; 2.1, 2.6)."""

    key_block: KeyBlock


class SecretData(Struct):
    """Secret Data (1.4, 2.2.7; 2.1, 2.7)."""

    secret_data_type: SecretDataType
    key_block: KeyBlock


class SplitKey(Struct):
    """Split Key (1.4, 2.2.5; 2.1, 2.8)."""

    split_key_parts: int
    key_part_identifier: int
    split_key_threshold: int
    split_key_method: SplitKeyMethod
    prime_field_size: BigInteger | None = None
    key_block: KeyBlock


class SymmetricKey(Struct):
    """Symmetric Key (1.4, 2.2.2; 2.1, 2.9)."""

    key_block: KeyBlock


class Template(Struct):
    """Template (1.4, 2.2.6)."""

    attributes: Attributes | None = spelled(Tag.ATTRIBUTE, until=V1_4)


ManagedObject = (
    Certificate
    | CertificateRequest
    | OpaqueObject
    | PGPKey
    | PrivateKey
    | PublicKey
    | SecretData
    | SplitKey
    | SymmetricKey
    | Template
)

#: The structure of each object type.
OBJECTS: dict[ObjectType, type[Struct]] = {
    ObjectType.CERTIFICATE: Certificate,
    ObjectType.CERTIFICATE_REQUEST: CertificateRequest,
    ObjectType.OPAQUE_OBJECT: OpaqueObject,
    ObjectType.PGP_KEY: PGPKey,
    ObjectType.PRIVATE_KEY: PrivateKey,
    ObjectType.PUBLIC_KEY: PublicKey,
    ObjectType.SECRET_DATA: SecretData,
    ObjectType.SPLIT_KEY: SplitKey,
    ObjectType.SYMMETRIC_KEY: SymmetricKey,
    ObjectType.TEMPLATE: Template,
}


def _varying(struct: type[Struct], seen: set[type[Struct]]) -> Iterator[int]:
    """Tags within a structure that some version writes otherwise, or not at all."""
    if struct in seen:
        return
    seen.add(struct)
    for field in struct._fields:
        if field.spelled is not None or (field.since, field.until) != (V1_0, V2_1):
            yield from (int(tag) for tag in field.tags)
        for kind in field.kinds:
            if kind.struct is not None:
                yield from _varying(kind.struct, seen)


_TAGS = {
    tag.to_bytes(3, "big") for struct in (*OBJECTS.values(), *KEY_MATERIALS.values()) for tag in _varying(struct, set())
}
_VARYING = re.compile(b"|".join(re.escape(tag) for tag in sorted(_TAGS)))


def same_in_every_version(encoded: bytes) -> bool:
    """Whether every version encodes an object as these bytes do. A key may happen to look as if it did not, which
    costs its reader no more than taking the object apart."""
    return _VARYING.search(encoded) is None


#: The field that holds an object of each type in Register, Import, Get, Export and Put.
FIELDS: dict[ObjectType, str] = {object_type: object_type.name.lower() for object_type in OBJECTS}
