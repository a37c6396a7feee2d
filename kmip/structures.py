"""Structures that are neither payloads nor managed objects: attribute values, key material, parameters.

Fields stand in wire order. Sections of 1.4 and 2.1 stand in the docstrings.
"""

from typing import Annotated

from kmip.enums import (
    AlternativeNameType,
    BlockCipherMode,
    CryptographicAlgorithm,
    CryptographicUsageMask,
    DestroyAction,
    DigitalSignatureAlgorithm,
    DRBGAlgorithm,
    EncodingOption,
    FIPS186Variation,
    HashingAlgorithm,
    ItemType,
    KeyFormatType,
    KeyRoleType,
    KeyValueLocationType,
    LinkType,
    MaskGenerator,
    NameType,
    PaddingMethod,
    ProfileName,
    ProtectionStorageMask,
    RecommendedCurve,
    RevocationReasonCode,
    RNGAlgorithm,
    RNGMode,
    RotateNameType,
    ShreddingAlgorithm,
    StorageStatusMask,
    TicketType,
    UniqueIdentifierEnumeration,
    UnwrapMode,
    UsageLimitsUnit,
    ValidationAuthorityType,
    ValidationType,
    WrappingMethod,
)
from kmip.schema import BigInteger, LongInteger, Struct, many, since
from kmip.versions import V1_1, V1_2, V1_3, V1_4, V2_0

#: A Unique Identifier of 2.x may stand for one of the same batch (2.1, 4.58); 1.x has only text.
Identifier = str | UniqueIdentifierEnumeration | int
UsageMask = Annotated[int, CryptographicUsageMask]
StorageMask = Annotated[int, StorageStatusMask]
ProtectionMask = Annotated[int, ProtectionStorageMask]


class CryptographicParameters(Struct):
    """Cryptographic Parameters (1.4, 3.6; 2.1, 4.16)."""

    block_cipher_mode: BlockCipherMode | None = None
    padding_method: PaddingMethod | None = None
    hashing_algorithm: HashingAlgorithm | None = None
    key_role_type: KeyRoleType | None = None
    digital_signature_algorithm: DigitalSignatureAlgorithm | None = since(V1_1)
    cryptographic_algorithm: CryptographicAlgorithm | None = None
    random_iv: bool | None = since(V1_2)
    iv_length: int | None = since(V1_2)
    tag_length: int | None = since(V1_2)
    fixed_field_length: int | None = since(V1_2)
    invocation_field_length: int | None = since(V1_2)
    counter_length: int | None = since(V1_2)
    initial_counter_value: int | None = since(V1_2)
    salt_length: int | None = since(V1_4)
    mask_generator: MaskGenerator | None = since(V1_4)
    mask_generator_hashing_algorithm: HashingAlgorithm | None = since(V1_4)
    p_source: bytes | None = since(V1_4)
    trailer_field: int | None = since(V1_4)


class EncryptionKeyInformation(Struct):
    """Encryption Key Information (1.4, 2.1.5; 2.1, 3.3)."""

    unique_identifier: Identifier
    cryptographic_parameters: CryptographicParameters | None = None


class MACSignatureKeyInformation(Struct):
    """MAC/Signature Key Information (1.4, 2.1.5; 2.1, 3.3)."""

    unique_identifier: Identifier | None = None
    cryptographic_parameters: CryptographicParameters | None = None


class KeyWrappingData(Struct):
    """Key Wrapping Data (1.4, 2.1.5; 2.1, 3.3)."""

    wrapping_method: WrappingMethod
    encryption_key_information: EncryptionKeyInformation | None = None
    mac_signature_key_information: MACSignatureKeyInformation | None = None
    mac_signature: bytes | None = None
    iv_counter_nonce: bytes | None = None
    encoding_option: EncodingOption | None = since(V1_1)


class CapabilityInformation(Struct):
    """Capability Information (1.4, 2.1.21; 2.1, 7.5)."""

    streaming_capability: bool | None = since(V1_3)
    asynchronous_capability: bool | None = since(V1_3)
    attestation_capability: bool | None = since(V1_3)
    batch_undo_capability: bool | None = since(V1_4)
    batch_continue_capability: bool | None = since(V1_4)
    unwrap_mode: UnwrapMode | None = since(V1_3)
    destroy_action: DestroyAction | None = since(V1_3)
    shredding_algorithm: ShreddingAlgorithm | None = since(V1_3)
    rng_mode: RNGMode | None = since(V1_3)
    quantum_safe_capability: bool | None = since(V2_0)


class DerivationParameters(Struct):
    """Derivation Parameters (1.4, 4.6; 2.1, 7.12)."""

    cryptographic_parameters: CryptographicParameters | None = None
    initialization_vector: bytes | None = None
    derivation_data: list[bytes] = many()
    salt: bytes | None = None
    iteration_count: int | None = None


class ExtensionInformation(Struct):
    """Extension Information (1.4, 2.1.9; 2.1, 7.13)."""

    extension_name: str
    extension_tag: int | None = since(V1_1)
    extension_type: ItemType | None = since(V1_1)
    extension_enumeration: int | None = since(V2_0)
    extension_attribute: bool | None = since(V2_0)
    extension_parent_structure_tag: int | None = since(V2_0)
    extension_description: str | None = since(V2_0)


class KeyWrappingSpecification(Struct):
    """Key Wrapping Specification (1.4, 2.1.6; 2.1, 7.18)."""

    wrapping_method: WrappingMethod
    encryption_key_information: EncryptionKeyInformation | None = None
    mac_signature_key_information: MACSignatureKeyInformation | None = None
    attribute_name: list[str] = many()
    encoding_option: EncodingOption | None = since(V1_1)


class ProfileVersion(Struct):
    """Profile Version (2.1, 7.32)."""

    profile_version_major: int
    profile_version_minor: int


class ProfileInformation(Struct):
    """Profile Information (1.4, 2.1.19; 2.1, 7.31)."""

    profile_name: ProfileName
    profile_version: ProfileVersion | None = since(V2_0)
    server_uri: str | None = since(V1_3)
    server_port: int | None = since(V1_3)


class UsageLimits(Struct):
    """Usage Limits (1.4, 3.21; 2.1, 7.40)."""

    usage_limits_total: LongInteger
    usage_limits_count: LongInteger | None = None
    usage_limits_unit: UsageLimitsUnit


class RNGParameters(Struct):
    """RNG Parameters (1.4, 2.1.18; 2.1, 7.36)."""

    rng_algorithm: RNGAlgorithm
    cryptographic_algorithm: CryptographicAlgorithm | None = None
    cryptographic_length: int | None = None
    hashing_algorithm: HashingAlgorithm | None = None
    drbg_algorithm: DRBGAlgorithm | None = since(V1_3)
    recommended_curve: RecommendedCurve | None = None
    fips186_variation: FIPS186Variation | None = since(V1_3)
    prediction_resistance: bool | None = since(V1_3)


class ServerInformation(Struct):
    """Server Information (1.4, 4.25; 2.1, 7.37)."""

    server_name: str | None = None
    server_serial_number: str | None = None
    server_version: str | None = None
    server_load: str | None = None
    product_name: str | None = None
    build_level: str | None = None
    build_date: str | None = None
    cluster_info: str | None = None
    alternate_failover_endpoints: list[str] = many()


class Ticket(Struct):
    """Ticket (2.1, 7.39)."""

    ticket_type: TicketType
    ticket_value: bytes


class ValidationInformation(Struct):
    """Validation Information (1.4, 2.1.20; 2.1, 7.41)."""

    validation_authority_type: ValidationAuthorityType
    validation_authority_country: str | None = since(V1_3)
    validation_authority_uri: str | None = since(V1_3)
    validation_version_major: int
    validation_version_minor: int | None = since(V1_3)
    validation_type: ValidationType
    validation_level: int
    validation_certificate_identifier: str | None = since(V1_3)
    validation_certificate_uri: str | None = since(V1_3)
    validation_vendor_uri: str | None = since(V1_3)
    validation_profile: str | None = since(V1_3)


class Nonce(Struct):
    """Nonce (1.4, 2.1.14; 2.1, 9.14)."""

    nonce_id: bytes
    nonce_value: bytes


class ProtocolVersion(Struct):
    """Protocol Version (1.4, 6.1; 2.1, 9.16)."""

    protocol_version_major: int
    protocol_version_minor: int


class Name(Struct):
    """Name (1.4, 3.2; 2.1, 4.32)."""

    name_value: str
    name_type: NameType


class CryptographicDomainParameters(Struct):
    """Cryptographic Domain Parameters (1.4, 3.7; 2.1, 4.14)."""

    qlength: int | None = None
    recommended_curve: RecommendedCurve | None = None


class CertificateIdentifier(Struct):
    """Certificate Identifier (1.4, 3.13)."""

    issuer: str
    serial_number: str | None = None


class CertificateSubject(Struct):
    """Certificate Subject (1.4, 3.14)."""

    certificate_subject_distinguished_name: str | None = None
    certificate_subject_alternative_name: str | None = None


class CertificateIssuer(Struct):
    """Certificate Issuer (1.4, 3.15)."""

    certificate_issuer_distinguished_name: str
    certificate_issuer_alternative_name: str | None = None


class Digest(Struct):
    """Digest (1.4, 3.17; 2.1, 4.21)."""

    hashing_algorithm: HashingAlgorithm
    digest_value: bytes | None = None
    key_format_type: KeyFormatType | None = since(V1_1)


class RevocationReason(Struct):
    """Revocation Reason (1.4, 3.31; 2.1, 4.47)."""

    revocation_reason_code: RevocationReasonCode
    revocation_message: str | None = None


class Link(Struct):
    """Link (1.4, 3.35; 2.1, 4.31)."""

    link_type: LinkType
    linked_object_identifier: Identifier


class ApplicationSpecificInformation(Struct):
    """Application Specific Information (1.4, 3.36; 2.1, 4.4)."""

    application_namespace: str
    application_data: str | None = None


class X_509CertificateIdentifier(Struct):
    """X.509 Certificate Identifier (1.4, 3.10; 2.1, 4.61)."""

    issuer_distinguished_name: bytes
    certificate_serial_number: bytes


class X_509CertificateSubject(Struct):
    """X.509 Certificate Subject (1.4, 3.11; 2.1, 4.63)."""

    subject_distinguished_name: bytes | None = since(V1_1)
    subject_alternative_name: bytes | None = since(V1_1)


class X_509CertificateIssuer(Struct):
    """X.509 Certificate Issuer (1.4, 3.12; 2.1, 4.62)."""

    issuer_distinguished_name: bytes
    issuer_alternative_name: bytes | None = since(V1_1)


class AlternativeName(Struct):
    """Alternative Name (1.4, 3.40; 2.1, 4.2)."""

    alternative_name_value: str
    alternative_name_type: AlternativeNameType


class KeyValueLocation(Struct):
    """Key Value Location (1.4, 3.42; 2.1, 4.27)."""

    key_value_location_value: str
    key_value_location_type: KeyValueLocationType


class RotateName(Struct):
    """Rotate Name (2.1, 4.53)."""

    rotate_name_value: str
    rotate_name_type: RotateNameType


class ProtectionStorageMasks(Struct):
    """Protection Storage Masks, also Common, Private and Public ones (2.1, 7.33)."""

    protection_storage_mask: list[ProtectionMask] = many()


class TransparentSymmetricKey(Struct):
    """Key Material of a Transparent Symmetric Key (1.4, 2.1.7.1; 2.1, 3.4)."""

    key: bytes


class TransparentDSAPrivateKey(Struct):
    """Key Material of a Transparent DSA Private Key (1.4, 2.1.7.2; 2.1, 3.5)."""

    p: BigInteger
    q: BigInteger
    g: BigInteger
    x: BigInteger


class TransparentDSAPublicKey(Struct):
    """Key Material of a Transparent DSA Public Key (1.4, 2.1.7.3; 2.1, 3.6)."""

    p: BigInteger
    q: BigInteger
    g: BigInteger
    y: BigInteger


class TransparentRSAPrivateKey(Struct):
    """Key Material of a Transparent RSA Private Key (1.4, 2.1.7.4; 2.1, 3.7)."""

    modulus: BigInteger
    private_exponent: BigInteger | None = None
    public_exponent: BigInteger | None = None
    p: BigInteger | None = None
    q: BigInteger | None = None
    prime_exponent_p: BigInteger | None = None
    prime_exponent_q: BigInteger | None = None
    crt_coefficient: BigInteger | None = None


class TransparentRSAPublicKey(Struct):
    """Key Material of a Transparent RSA Public Key (1.4, 2.1.7.5; 2.1, 3.8)."""

    modulus: BigInteger
    public_exponent: BigInteger


class TransparentDHPrivateKey(Struct):
    """Key Material of a Transparent DH Private Key (1.4, 2.1.7.6; 2.1, 3.9)."""

    p: BigInteger
    q: BigInteger | None = None
    g: BigInteger
    j: BigInteger | None = None
    x: BigInteger


class TransparentDHPublicKey(Struct):
    """Key Material of a Transparent DH Public Key (1.4, 2.1.7.7; 2.1, 3.10)."""

    p: BigInteger
    q: BigInteger | None = None
    g: BigInteger
    j: BigInteger | None = None
    y: BigInteger


class TransparentECPrivateKey(Struct):
    """Key Material of a Transparent EC, ECDSA, ECDH or ECMQV Private Key (1.4, 2.1.7.8 to 2.1.7.14; 2.1, 3.11)."""

    recommended_curve: RecommendedCurve
    d: BigInteger


class TransparentECPublicKey(Struct):
    """Key Material of a Transparent EC, ECDSA, ECDH or ECMQV Public Key (1.4, 2.1.7.9 to 2.1.7.15; 2.1, 3.12)."""

    recommended_curve: RecommendedCurve
    q_string: bytes


#: The structure of transparent Key Material by its Key Format Type; other formats are byte strings.
KEY_MATERIALS: dict[KeyFormatType, type[Struct]] = {
    KeyFormatType.TRANSPARENT_SYMMETRIC_KEY: TransparentSymmetricKey,
    KeyFormatType.TRANSPARENT_DSA_PRIVATE_KEY: TransparentDSAPrivateKey,
    KeyFormatType.TRANSPARENT_DSA_PUBLIC_KEY: TransparentDSAPublicKey,
    KeyFormatType.TRANSPARENT_RSA_PRIVATE_KEY: TransparentRSAPrivateKey,
    KeyFormatType.TRANSPARENT_RSA_PUBLIC_KEY: TransparentRSAPublicKey,
    KeyFormatType.TRANSPARENT_DH_PRIVATE_KEY: TransparentDHPrivateKey,
    KeyFormatType.TRANSPARENT_DH_PUBLIC_KEY: TransparentDHPublicKey,
    KeyFormatType.TRANSPARENT_ECDSA_PRIVATE_KEY: TransparentECPrivateKey,
    KeyFormatType.TRANSPARENT_ECDSA_PUBLIC_KEY: TransparentECPublicKey,
    KeyFormatType.TRANSPARENT_ECDH_PRIVATE_KEY: TransparentECPrivateKey,
    KeyFormatType.TRANSPARENT_ECDH_PUBLIC_KEY: TransparentECPublicKey,
    KeyFormatType.TRANSPARENT_ECMQV_PRIVATE_KEY: TransparentECPrivateKey,
    KeyFormatType.TRANSPARENT_ECMQV_PUBLIC_KEY: TransparentECPublicKey,
    KeyFormatType.TRANSPARENT_EC_PRIVATE_KEY: TransparentECPrivateKey,
    KeyFormatType.TRANSPARENT_EC_PUBLIC_KEY: TransparentECPublicKey,
}
