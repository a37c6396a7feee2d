"""The payloads of every operation, in the operations' numerical order (1.4, 4 and 5; 2.1, 6).

A required field of a response is declared optional: it is this server that fills it.
"""

from typing import NamedTuple

from kmip.attributes import Attributes, References
from kmip.enums import (
    AdjustmentType,
    AttestationType,
    CancellationResult,
    CertificateRequestType,
    ClientRegistrationMethod,
    DataEnumeration,
    DerivationMethod,
    EndpointRole,
    InteropFunction,
    KeyCompressionType,
    KeyFormatType,
    KeyWrapType,
    ObjectGroupMember,
    ObjectType,
    Operation,
    PKCS11Function,
    PKCS11ReturnCode,
    ProcessingStage,
    PutFunction,
    QueryFunction,
    SecretDataType,
    SplitKeyMethod,
    ValidityIndicator,
)
from kmip.objects import (
    Certificate,
    CertificateRequest,
    OpaqueObject,
    PGPKey,
    PrivateKey,
    PublicKey,
    SecretData,
    SplitKey,
    SymmetricKey,
    Template,
)
from kmip.schema import (
    BigInteger,
    DateTime,
    DateTimeExtended,
    Interval,
    LongInteger,
    Struct,
    many,
    since,
    spelled,
    until,
)
from kmip.structures import (
    CapabilityInformation,
    CryptographicParameters,
    DerivationParameters,
    ExtensionInformation,
    Identifier,
    KeyWrappingSpecification,
    ProfileInformation,
    ProtectionStorageMasks,
    ProtocolVersion,
    RevocationReason,
    RNGParameters,
    ServerInformation,
    StorageMask,
    Ticket,
    UsageLimits,
    UsageMask,
    ValidationInformation,
)
from kmip.tags import Extension, Tag
from kmip.ttlv import Item
from kmip.versions import V1_0, V1_1, V1_2, V1_3, V1_4, V2_0, V2_1, Version


class ObjectTypes(Struct):
    """Object Types (2.1, 7.24)."""

    object_type: list[ObjectType] = many()


class ObjectGroups(Struct):
    """Object Groups (2.1, 7.23)."""

    object_group: list[str] = many()


class Operations(Struct):
    """Operations (2.1, 7.25)."""

    operation: list[Operation] = many()


class Objects(Struct):
    """Objects (2.1, 7.21)."""

    unique_identifier: list[Identifier] = many()


class AsynchronousCorrelationValues(Struct):
    """Asynchronous Correlation Values (2.1, 7.1)."""

    asynchronous_correlation_value: list[bytes] = many()


class AsynchronousRequest(Struct):
    """Asynchronous Request (2.1, 7.2)."""

    asynchronous_correlation_value: bytes
    operation: Operation
    submission_date: DateTimeExtended
    processing_stage: ProcessingStage


class Constraint(Struct):
    """Constraint (2.1, 7.6)."""

    object_types: ObjectTypes | None = since(V2_1)
    object_groups: ObjectGroups | None = since(V2_1)
    attributes: Attributes | None = spelled(Tag.ATTRIBUTES)


class Constraints(Struct):
    """Constraints (2.1, 7.7)."""

    constraint: list[Constraint] = many()


class ObjectDefaults(Struct):
    """Object Defaults (2.1, 7.22): for one type, as 2.0 has it, or for several."""

    object_type: ObjectType | None = since(V2_0)
    object_types: ObjectTypes | None = since(V2_0)
    attributes: Attributes = spelled(Tag.ATTRIBUTES)
    object_groups: ObjectGroups | None = since(V2_1)


class DefaultsInformation(Struct):
    """Defaults Information (2.1, 7.11)."""

    object_defaults: list[ObjectDefaults] = many()


class Right(Struct):
    """Right (2.1, 7.34)."""

    usage_limits: UsageLimits | None = None
    operations: Operations | None = since(V2_0)
    objects: Objects | None = since(V2_0)
    object_groups: ObjectGroups | None = since(V2_1)


class Rights(Struct):
    """Rights (2.1, 7.35)."""

    right: list[Right] = many()


class CreateRequest(Struct):
    """Create request (1.4, 4.1; 2.1, 6.1.8)."""

    object_type: ObjectType
    attributes: Attributes | None = spelled(Tag.TEMPLATE_ATTRIBUTE, Tag.ATTRIBUTES)
    protection_storage_masks: ProtectionStorageMasks | None = since(V2_0)


class CreateResponse(Struct):
    """Create response (1.4, 4.1; 2.1, 6.1.8)."""

    object_type: ObjectType | None = None
    unique_identifier: Identifier | None = None
    attributes: Attributes | None = spelled(Tag.TEMPLATE_ATTRIBUTE, until=V1_4)


class CreateKeyPairRequest(Struct):
    """Create Key Pair request (1.4, 4.2; 2.1, 6.1.9)."""

    common_attributes: Attributes | None = spelled(Tag.COMMON_TEMPLATE_ATTRIBUTE, Tag.COMMON_ATTRIBUTES)
    private_key_attributes: Attributes | None = spelled(Tag.PRIVATE_KEY_TEMPLATE_ATTRIBUTE, Tag.PRIVATE_KEY_ATTRIBUTES)
    public_key_attributes: Attributes | None = spelled(Tag.PUBLIC_KEY_TEMPLATE_ATTRIBUTE, Tag.PUBLIC_KEY_ATTRIBUTES)
    common_protection_storage_masks: ProtectionStorageMasks | None = since(V2_0)
    private_protection_storage_masks: ProtectionStorageMasks | None = since(V2_0)
    public_protection_storage_masks: ProtectionStorageMasks | None = since(V2_0)


class CreateKeyPairResponse(Struct):
    """Create Key Pair response (1.4, 4.2; 2.1, 6.1.9)."""

    private_key_unique_identifier: str | None = None
    public_key_unique_identifier: str | None = None
    private_key_attributes: Attributes | None = spelled(Tag.PRIVATE_KEY_TEMPLATE_ATTRIBUTE, until=V1_4)
    public_key_attributes: Attributes | None = spelled(Tag.PUBLIC_KEY_TEMPLATE_ATTRIBUTE, until=V1_4)


class RegisterRequest(Struct):
    """Register request (1.4, 4.3; 2.1, 6.1.43)."""

    object_type: ObjectType
    attributes: Attributes | None = spelled(Tag.TEMPLATE_ATTRIBUTE, Tag.ATTRIBUTES)
    certificate: Certificate | None = None
    certificate_request: CertificateRequest | None = since(V2_0)
    opaque_object: OpaqueObject | None = None
    pgp_key: PGPKey | None = since(V2_0)
    private_key: PrivateKey | None = None
    public_key: PublicKey | None = None
    secret_data: SecretData | None = None
    split_key: SplitKey | None = None
    template: Template | None = until(V1_4)
    symmetric_key: SymmetricKey | None = None
    protection_storage_masks: ProtectionStorageMasks | None = since(V2_0)


class RegisterResponse(Struct):
    """Register response (1.4, 4.3; 2.1, 6.1.43)."""

    unique_identifier: Identifier | None = None
    attributes: Attributes | None = spelled(Tag.TEMPLATE_ATTRIBUTE, until=V1_4)


class ReKeyRequest(Struct):
    """Re-key request (1.4, 4.4; 2.1, 6.1.46)."""

    unique_identifier: Identifier | None = None
    offset: Interval | None = None
    attributes: Attributes | None = spelled(Tag.TEMPLATE_ATTRIBUTE, Tag.ATTRIBUTES)
    protection_storage_masks: ProtectionStorageMasks | None = since(V2_0)


class ReKeyResponse(Struct):
    """Re-key response (1.4, 4.4; 2.1, 6.1.46)."""

    unique_identifier: Identifier | None = None
    attributes: Attributes | None = spelled(Tag.TEMPLATE_ATTRIBUTE, until=V1_4)


class DeriveKeyRequest(Struct):
    """Derive Key request (1.4, 4.6; 2.1, 6.1.14)."""

    object_type: ObjectType
    unique_identifier: list[Identifier] = many()
    derivation_method: DerivationMethod
    derivation_parameters: DerivationParameters
    attributes: Attributes | None = spelled(Tag.TEMPLATE_ATTRIBUTE, Tag.ATTRIBUTES)


class DeriveKeyResponse(Struct):
    """Derive Key response (1.4, 4.6; 2.1, 6.1.14)."""

    unique_identifier: Identifier | None = None
    attributes: Attributes | None = spelled(Tag.TEMPLATE_ATTRIBUTE, until=V1_4)


class CertifyRequest(Struct):
    """Certify request (1.4, 4.7; 2.1, 6.1.6)."""

    unique_identifier: Identifier | None = None
    certificate_request_type: CertificateRequestType | None = None
    certificate_request: bytes | None = until(V1_4)
    certificate_request_value: bytes | None = since(V2_0)
    attributes: Attributes | None = spelled(Tag.TEMPLATE_ATTRIBUTE, Tag.ATTRIBUTES)
    protection_storage_masks: ProtectionStorageMasks | None = since(V2_0)


class CertifyResponse(Struct):
    """Certify response (1.4, 4.7; 2.1, 6.1.6)."""

    unique_identifier: Identifier | None = None
    attributes: Attributes | None = spelled(Tag.TEMPLATE_ATTRIBUTE, until=V1_4)


class ReCertifyRequest(Struct):
    """Re-certify request (1.4, 4.8; 2.1, 6.1.45)."""

    unique_identifier: Identifier | None = None
    certificate_request_unique_identifier: str | None = since(V2_0)
    certificate_request_type: CertificateRequestType | None = None
    certificate_request: bytes | None = until(V1_4)
    certificate_request_value: bytes | None = since(V2_0)
    offset: Interval | None = None
    attributes: Attributes | None = spelled(Tag.TEMPLATE_ATTRIBUTE, Tag.ATTRIBUTES)
    protection_storage_masks: ProtectionStorageMasks | None = since(V2_0)


class ReCertifyResponse(Struct):
    """Re-certify response (1.4, 4.8; 2.1, 6.1.45)."""

    unique_identifier: Identifier | None = None
    attributes: Attributes | None = spelled(Tag.TEMPLATE_ATTRIBUTE, until=V1_4)


class LocateRequest(Struct):
    """Locate request (1.4, 4.9; 2.1, 6.1.28)."""

    maximum_items: int | None = None
    offset_items: int | None = since(V1_3)
    storage_status_mask: StorageMask | None = None
    object_group_member: ObjectGroupMember | None = since(V1_1)
    attributes: Attributes | None = spelled(Tag.ATTRIBUTE, Tag.ATTRIBUTES)


class LocateResponse(Struct):
    """Locate response (1.4, 4.9; 2.1, 6.1.28)."""

    located_items: int | None = since(V1_3)
    unique_identifier: list[Identifier] = many()


class CheckRequest(Struct):
    """Check request (1.4, 4.10; 2.1, 6.1.7)."""

    unique_identifier: Identifier | None = None
    usage_limits_count: LongInteger | None = None
    cryptographic_usage_mask: UsageMask | None = None
    lease_time: Interval | None = None


class CheckResponse(Struct):
    """Check response (1.4, 4.10; 2.1, 6.1.7)."""

    unique_identifier: Identifier | None = None
    usage_limits_count: LongInteger | None = None
    cryptographic_usage_mask: UsageMask | None = None
    lease_time: Interval | None = None


class GetRequest(Struct):
    """Get request (1.4, 4.11; 2.1, 6.1.19)."""

    unique_identifier: Identifier | None = None
    key_format_type: KeyFormatType | None = None
    key_wrap_type: KeyWrapType | None = since(V1_4)
    key_compression_type: KeyCompressionType | None = None
    key_wrapping_specification: KeyWrappingSpecification | None = None


class GetResponse(Struct):
    """Get response (1.4, 4.11; 2.1, 6.1.19)."""

    object_type: ObjectType | None = None
    unique_identifier: Identifier | None = None
    certificate: Certificate | None = None
    certificate_request: CertificateRequest | None = since(V2_0)
    opaque_object: OpaqueObject | None = None
    pgp_key: PGPKey | None = since(V1_3)
    private_key: PrivateKey | None = None
    public_key: PublicKey | None = None
    secret_data: SecretData | None = None
    split_key: SplitKey | None = None
    template: Template | None = until(V1_4)
    symmetric_key: SymmetricKey | None = None


class GetAttributesRequest(Struct):
    """Get Attributes request (1.4, 4.12; 2.1, 6.1.20)."""

    unique_identifier: Identifier | None = None
    attribute_reference: References | None = spelled(Tag.ATTRIBUTE_NAME, Tag.ATTRIBUTE_REFERENCE)


class GetAttributesResponse(Struct):
    """Get Attributes response (1.4, 4.12; 2.1, 6.1.20)."""

    unique_identifier: Identifier | None = None
    attributes: Attributes | None = spelled(Tag.ATTRIBUTE, Tag.ATTRIBUTES)


class GetAttributeListRequest(Struct):
    """Get Attribute List request (1.4, 4.13; 2.1, 6.1.21)."""

    unique_identifier: Identifier | None = None


class GetAttributeListResponse(Struct):
    """Get Attribute List response (1.4, 4.13; 2.1, 6.1.21)."""

    unique_identifier: Identifier | None = None
    attribute_reference: References | None = spelled(Tag.ATTRIBUTE_NAME, Tag.ATTRIBUTE_REFERENCE)


class AddAttributeRequest(Struct):
    """Add Attribute request (1.4, 4.14; 2.1, 6.1.2)."""

    unique_identifier: Identifier | None = None
    new_attribute: Attributes = spelled(Tag.ATTRIBUTE, Tag.NEW_ATTRIBUTE)


class AddAttributeResponse(Struct):
    """Add Attribute response (1.4, 4.14; 2.1, 6.1.2)."""

    unique_identifier: Identifier | None = None
    attributes: Attributes | None = spelled(Tag.ATTRIBUTE, until=V1_4)


class ModifyAttributeRequest(Struct):
    """Modify Attribute request (1.4, 4.15; 2.1, 6.1.34)."""

    unique_identifier: Identifier | None = None
    current_attribute: Attributes | None = spelled(Tag.CURRENT_ATTRIBUTE, since=V2_0)
    new_attribute: Attributes = spelled(Tag.ATTRIBUTE, Tag.NEW_ATTRIBUTE)


class ModifyAttributeResponse(Struct):
    """Modify Attribute response (1.4, 4.15; 2.1, 6.1.34)."""

    unique_identifier: Identifier | None = None
    attributes: Attributes | None = spelled(Tag.ATTRIBUTE, until=V1_4)


class DeleteAttributeRequest(Struct):
    """Delete Attribute request (1.4, 4.16; 2.1, 6.1.13)."""

    unique_identifier: Identifier | None = None
    attribute_reference: References | None = spelled(Tag.ATTRIBUTE_NAME, Tag.ATTRIBUTE_REFERENCE)
    attribute_index: int | None = until(V1_4)
    current_attribute: Attributes | None = spelled(Tag.CURRENT_ATTRIBUTE, since=V2_0)


class DeleteAttributeResponse(Struct):
    """Delete Attribute response (1.4, 4.16; 2.1, 6.1.13)."""

    unique_identifier: Identifier | None = None
    attributes: Attributes | None = spelled(Tag.ATTRIBUTE, until=V1_4)


class ObtainLeaseRequest(Struct):
    """Obtain Lease request (1.4, 4.17; 2.1, 6.1.35)."""

    unique_identifier: Identifier | None = None


class ObtainLeaseResponse(Struct):
    """Obtain Lease response (1.4, 4.17; 2.1, 6.1.35)."""

    unique_identifier: Identifier | None = None
    lease_time: Interval | None = None
    last_change_date: DateTime | None = None


class GetUsageAllocationRequest(Struct):
    """Get Usage Allocation request (1.4, 4.18; 2.1, 6.1.23)."""

    unique_identifier: Identifier | None = None
    usage_limits_count: LongInteger


class GetUsageAllocationResponse(Struct):
    """Get Usage Allocation response (1.4, 4.18; 2.1, 6.1.23)."""

    unique_identifier: Identifier | None = None


class ActivateRequest(Struct):
    """Activate request (1.4, 4.19; 2.1, 6.1.1)."""

    unique_identifier: Identifier | None = None


class ActivateResponse(Struct):
    """Activate response (1.4, 4.19; 2.1, 6.1.1)."""

    unique_identifier: Identifier | None = None


class RevokeRequest(Struct):
    """Revoke request (1.4, 4.20; 2.1, 6.1.44)."""

    unique_identifier: Identifier | None = None
    revocation_reason: RevocationReason
    compromise_occurrence_date: DateTime | None = None
    cascade: bool | None = since(V1_0, tags=(Extension.CASCADE,))


class RevokeResponse(Struct):
    """Revoke response (1.4, 4.20; 2.1, 6.1.44)."""

    unique_identifier: Identifier | None = None


class DestroyRequest(Struct):
    """Destroy request (1.4, 4.21; 2.1, 6.1.15)."""

    unique_identifier: Identifier | None = None
    remove: bool | None = since(V1_0, tags=(Extension.REMOVE,))
    cascade: bool | None = since(V1_0, tags=(Extension.CASCADE,))


class DestroyResponse(Struct):
    """Destroy response (1.4, 4.21; 2.1, 6.1.15)."""

    unique_identifier: Identifier | None = None


class ArchiveRequest(Struct):
    """Archive request (1.4, 4.22; 2.1, 6.1.4)."""

    unique_identifier: Identifier | None = None


class ArchiveResponse(Struct):
    """Archive response (1.4, 4.22; 2.1, 6.1.4)."""

    unique_identifier: Identifier | None = None


class RecoverRequest(Struct):
    """Recover request (1.4, 4.23; 2.1, 6.1.42)."""

    unique_identifier: Identifier | None = None


class RecoverResponse(Struct):
    """Recover response (1.4, 4.23; 2.1, 6.1.42)."""

    unique_identifier: Identifier | None = None


class ValidateRequest(Struct):
    """Validate request (1.4, 4.24; 2.1, 6.1.57)."""

    certificate: list[Certificate] = many()
    unique_identifier: list[Identifier] = many()
    validity_date: DateTime | None = None


class ValidateResponse(Struct):
    """Validate response (1.4, 4.24; 2.1, 6.1.57)."""

    validity_indicator: ValidityIndicator | None = None


class QueryRequest(Struct):
    """Query request (1.4, 4.25; 2.1, 6.1.40)."""

    query_function: list[QueryFunction] = many()
    object_groups: ObjectGroups | None = since(V2_1)


class QueryResponse(Struct):
    """Query response (1.4, 4.25; 2.1, 6.1.40)."""

    operation: list[Operation] = many()
    object_type: list[ObjectType] = many()
    vendor_identification: str | None = None
    server_information: ServerInformation | None = None
    application_namespace: list[str] = many()
    extension_information: list[ExtensionInformation] = since(V1_1, list)
    attestation_type: list[AttestationType] = since(V1_2, list)
    rng_parameters: list[RNGParameters] = since(V1_3, list)
    profile_information: list[ProfileInformation] = since(V1_3, list)
    validation_information: list[ValidationInformation] = since(V1_3, list)
    capability_information: list[CapabilityInformation] = since(V1_3, list)
    client_registration_method: list[ClientRegistrationMethod] = since(V1_3, list)
    defaults_information: DefaultsInformation | None = since(V2_0)
    protection_storage_masks: ProtectionStorageMasks | None = since(V2_0)


class CancelRequest(Struct):
    """Cancel request (1.4, 4.27; 2.1, 6.1.5)."""

    asynchronous_correlation_value: bytes


class CancelResponse(Struct):
    """Cancel response (1.4, 4.27; 2.1, 6.1.5)."""

    asynchronous_correlation_value: bytes | None = None
    cancellation_result: CancellationResult | None = None


class PollRequest(Struct):
    """Poll request (1.4, 4.28; 2.1, 6.1.38)."""

    asynchronous_correlation_value: bytes


class PollResponse(Struct):
    """Poll response (1.4, 4.28; 2.1, 6.1.38)."""


class NotifyRequest(Struct):
    """Notify request (1.4, 5.1; 2.1, 6.2.2)."""

    unique_identifier: Identifier
    attributes: Attributes | None = spelled(Tag.ATTRIBUTE, Tag.ATTRIBUTES)
    attribute_reference: References | None = spelled(Tag.ATTRIBUTE_NAME, Tag.ATTRIBUTE_REFERENCE, since=V2_0)


class NotifyResponse(Struct):
    """Notify response (1.4, 5.1; 2.1, 6.2.2)."""


class PutRequest(Struct):
    """Put request (1.4, 5.2; 2.1, 6.2.3)."""

    unique_identifier: Identifier
    put_function: PutFunction
    replaced_unique_identifier: str | None = None
    certificate: Certificate | None = None
    certificate_request: CertificateRequest | None = since(V2_0)
    opaque_object: OpaqueObject | None = None
    pgp_key: PGPKey | None = since(V2_0)
    private_key: PrivateKey | None = None
    public_key: PublicKey | None = None
    secret_data: SecretData | None = None
    split_key: SplitKey | None = None
    template: Template | None = until(V1_4)
    symmetric_key: SymmetricKey | None = None
    attributes: Attributes | None = spelled(Tag.ATTRIBUTE, Tag.ATTRIBUTES)


class PutResponse(Struct):
    """Put response (1.4, 5.2; 2.1, 6.2.3)."""


class ReKeyKeyPairRequest(Struct):
    """Re-key Key Pair request (1.4, 4.5; 2.1, 6.1.47)."""

    private_key_unique_identifier: str | None = None
    offset: Interval | None = None
    common_attributes: Attributes | None = spelled(Tag.COMMON_TEMPLATE_ATTRIBUTE, Tag.COMMON_ATTRIBUTES)
    private_key_attributes: Attributes | None = spelled(Tag.PRIVATE_KEY_TEMPLATE_ATTRIBUTE, Tag.PRIVATE_KEY_ATTRIBUTES)
    public_key_attributes: Attributes | None = spelled(Tag.PUBLIC_KEY_TEMPLATE_ATTRIBUTE, Tag.PUBLIC_KEY_ATTRIBUTES)
    common_protection_storage_masks: ProtectionStorageMasks | None = since(V2_0)
    private_protection_storage_masks: ProtectionStorageMasks | None = since(V2_0)
    public_protection_storage_masks: ProtectionStorageMasks | None = since(V2_0)


class ReKeyKeyPairResponse(Struct):
    """Re-key Key Pair response (1.4, 4.5; 2.1, 6.1.47)."""

    private_key_unique_identifier: str | None = None
    public_key_unique_identifier: str | None = None
    private_key_attributes: Attributes | None = spelled(Tag.PRIVATE_KEY_TEMPLATE_ATTRIBUTE, until=V1_4)
    public_key_attributes: Attributes | None = spelled(Tag.PUBLIC_KEY_TEMPLATE_ATTRIBUTE, until=V1_4)


class DiscoverVersionsRequest(Struct):
    """Discover Versions request (1.4, 4.26; 2.1, 6.1.16)."""

    protocol_version: list[ProtocolVersion] = many()


class DiscoverVersionsResponse(Struct):
    """Discover Versions response (1.4, 4.26; 2.1, 6.1.16)."""

    protocol_version: list[ProtocolVersion] = many()


class EncryptRequest(Struct):
    """Encrypt request (1.4, 4.29; 2.1, 6.1.17)."""

    unique_identifier: Identifier | None = None
    cryptographic_parameters: CryptographicParameters | None = None
    data: bytes | DataEnumeration | int | None = None
    iv_counter_nonce: bytes | None = None
    correlation_value: bytes | None = since(V1_3)
    init_indicator: bool | None = since(V1_3)
    final_indicator: bool | None = since(V1_3)
    authenticated_encryption_additional_data: bytes | None = since(V1_4)


class EncryptResponse(Struct):
    """Encrypt response (1.4, 4.29; 2.1, 6.1.17)."""

    unique_identifier: Identifier | None = None
    data: bytes | DataEnumeration | int | None = None
    iv_counter_nonce: bytes | None = None
    correlation_value: bytes | None = since(V1_3)
    authenticated_encryption_tag: bytes | None = since(V1_4)


class DecryptRequest(Struct):
    """Decrypt request (1.4, 4.30; 2.1, 6.1.11)."""

    unique_identifier: Identifier | None = None
    cryptographic_parameters: CryptographicParameters | None = None
    data: bytes | DataEnumeration | int | None = None
    iv_counter_nonce: bytes | None = None
    correlation_value: bytes | None = since(V1_3)
    init_indicator: bool | None = since(V1_3)
    final_indicator: bool | None = since(V1_3)
    authenticated_encryption_additional_data: bytes | None = since(V1_4)
    authenticated_encryption_tag: bytes | None = since(V1_4)


class DecryptResponse(Struct):
    """Decrypt response (1.4, 4.30; 2.1, 6.1.11)."""

    unique_identifier: Identifier | None = None
    data: bytes | DataEnumeration | int | None = None
    correlation_value: bytes | None = since(V1_3)


class SignRequest(Struct):
    """Sign request (1.4, 4.31; 2.1, 6.1.55)."""

    unique_identifier: Identifier | None = None
    cryptographic_parameters: CryptographicParameters | None = None
    data: bytes | DataEnumeration | int | None = None
    digested_data: bytes | None = since(V1_4)
    correlation_value: bytes | None = since(V1_3)
    init_indicator: bool | None = since(V1_3)
    final_indicator: bool | None = since(V1_3)


class SignResponse(Struct):
    """Sign response (1.4, 4.31; 2.1, 6.1.55)."""

    unique_identifier: Identifier | None = None
    signature_data: bytes | None = None
    correlation_value: bytes | None = since(V1_3)


class SignatureVerifyRequest(Struct):
    """Signature Verify request (1.4, 4.32; 2.1, 6.1.56)."""

    unique_identifier: Identifier | None = None
    cryptographic_parameters: CryptographicParameters | None = None
    data: bytes | DataEnumeration | int | None = None
    digested_data: bytes | None = since(V1_4)
    signature_data: bytes | None = None
    correlation_value: bytes | None = since(V1_3)
    init_indicator: bool | None = since(V1_3)
    final_indicator: bool | None = since(V1_3)


class SignatureVerifyResponse(Struct):
    """Signature Verify response (1.4, 4.32; 2.1, 6.1.56)."""

    unique_identifier: Identifier | None = None
    validity_indicator: ValidityIndicator | None = None
    data: bytes | DataEnumeration | int | None = None
    correlation_value: bytes | None = since(V1_3)


class MACRequest(Struct):
    """MAC request (1.4, 4.33; 2.1, 6.1.32)."""

    unique_identifier: Identifier | None = None
    cryptographic_parameters: CryptographicParameters | None = None
    data: bytes | DataEnumeration | int | None = None
    correlation_value: bytes | None = since(V1_3)
    init_indicator: bool | None = since(V1_3)
    final_indicator: bool | None = since(V1_3)


class MACResponse(Struct):
    """MAC response (1.4, 4.33; 2.1, 6.1.32)."""

    unique_identifier: Identifier | None = None
    mac_data: bytes | None = None
    correlation_value: bytes | None = since(V1_3)


class MACVerifyRequest(Struct):
    """MAC Verify request (1.4, 4.34; 2.1, 6.1.33)."""

    unique_identifier: Identifier | None = None
    cryptographic_parameters: CryptographicParameters | None = None
    data: bytes | DataEnumeration | int | None = None
    mac_data: bytes | None = None
    correlation_value: bytes | None = since(V1_3)
    init_indicator: bool | None = since(V1_3)
    final_indicator: bool | None = since(V1_3)


class MACVerifyResponse(Struct):
    """MAC Verify response (1.4, 4.34; 2.1, 6.1.33)."""

    unique_identifier: Identifier | None = None
    validity_indicator: ValidityIndicator | None = None
    correlation_value: bytes | None = since(V1_3)


class RNGRetrieveRequest(Struct):
    """RNG Retrieve request (1.4, 4.35; 2.1, 6.1.49)."""

    data_length: int


class RNGRetrieveResponse(Struct):
    """RNG Retrieve response (1.4, 4.35; 2.1, 6.1.49)."""

    data: bytes | DataEnumeration | int | None = None


class RNGSeedRequest(Struct):
    """RNG Seed request (1.4, 4.36; 2.1, 6.1.50)."""

    data: bytes | DataEnumeration | int


class RNGSeedResponse(Struct):
    """RNG Seed response (1.4, 4.36; 2.1, 6.1.50)."""

    data_length: int | None = None


class HashRequest(Struct):
    """Hash request (1.4, 4.37; 2.1, 6.1.24)."""

    cryptographic_parameters: CryptographicParameters
    data: bytes | DataEnumeration | int | None = None
    correlation_value: bytes | None = since(V1_3)
    init_indicator: bool | None = since(V1_3)
    final_indicator: bool | None = since(V1_3)


class HashResponse(Struct):
    """Hash response (1.4, 4.37; 2.1, 6.1.24)."""

    data: bytes | DataEnumeration | int | None = None
    correlation_value: bytes | None = since(V1_3)


class CreateSplitKeyRequest(Struct):
    """Create Split Key request (1.4, 4.38; 2.1, 6.1.10)."""

    object_type: ObjectType
    unique_identifier: Identifier | None = None
    split_key_parts: int
    split_key_threshold: int
    split_key_method: SplitKeyMethod
    prime_field_size: BigInteger | None = None
    attributes: Attributes | None = spelled(Tag.TEMPLATE_ATTRIBUTE, Tag.ATTRIBUTES)
    protection_storage_masks: ProtectionStorageMasks | None = since(V2_0)


class CreateSplitKeyResponse(Struct):
    """Create Split Key response (1.4, 4.38; 2.1, 6.1.10)."""

    unique_identifier: list[Identifier] = many()
    attributes: Attributes | None = spelled(Tag.TEMPLATE_ATTRIBUTE, until=V1_4)


class JoinSplitKeyRequest(Struct):
    """Join Split Key request (1.4, 4.39; 2.1, 6.1.27)."""

    object_type: ObjectType
    unique_identifier: list[Identifier] = many()
    secret_data_type: SecretDataType | None = None
    attributes: Attributes | None = spelled(Tag.TEMPLATE_ATTRIBUTE, Tag.ATTRIBUTES)
    protection_storage_masks: ProtectionStorageMasks | None = since(V2_0)


class JoinSplitKeyResponse(Struct):
    """Join Split Key response (1.4, 4.39; 2.1, 6.1.27)."""

    unique_identifier: Identifier | None = None
    attributes: Attributes | None = spelled(Tag.TEMPLATE_ATTRIBUTE, until=V1_4)


class ImportRequest(Struct):
    """Import request (1.4, 4.41; 2.1, 6.1.25)."""

    unique_identifier: Identifier
    object_type: ObjectType | None = since(V2_0)
    replace_existing: bool | None = None
    key_wrap_type: KeyWrapType | None = None
    attributes: Attributes | None = spelled(Tag.ATTRIBUTE, Tag.ATTRIBUTES)
    certificate: Certificate | None = None
    certificate_request: CertificateRequest | None = since(V2_0)
    opaque_object: OpaqueObject | None = None
    pgp_key: PGPKey | None = None
    private_key: PrivateKey | None = None
    public_key: PublicKey | None = None
    secret_data: SecretData | None = None
    split_key: SplitKey | None = None
    template: Template | None = until(V1_4)
    symmetric_key: SymmetricKey | None = None


class ImportResponse(Struct):
    """Import response (1.4, 4.41; 2.1, 6.1.25)."""

    unique_identifier: Identifier | None = None


class ExportRequest(Struct):
    """Export request (1.4, 4.40; 2.1, 6.1.18)."""

    unique_identifier: Identifier | None = None
    key_format_type: KeyFormatType | None = None
    key_wrap_type: KeyWrapType | None = None
    key_compression_type: KeyCompressionType | None = None
    key_wrapping_specification: KeyWrappingSpecification | None = None


class ExportResponse(Struct):
    """Export response (1.4, 4.40; 2.1, 6.1.18)."""

    object_type: ObjectType | None = None
    unique_identifier: Identifier | None = None
    attributes: Attributes | None = spelled(Tag.ATTRIBUTE, Tag.ATTRIBUTES)
    certificate: Certificate | None = None
    certificate_request: CertificateRequest | None = since(V2_0)
    opaque_object: OpaqueObject | None = None
    pgp_key: PGPKey | None = None
    private_key: PrivateKey | None = None
    public_key: PublicKey | None = None
    secret_data: SecretData | None = None
    split_key: SplitKey | None = None
    template: Template | None = until(V1_4)
    symmetric_key: SymmetricKey | None = None


class LogRequest(Struct):
    """Log request (2.1, 6.1.29)."""

    log_message: str


class LogResponse(Struct):
    """Log response (2.1, 6.1.29)."""


class LoginRequest(Struct):
    """Login request (2.1, 6.1.30). The Lease Time is an Interval or a Date-Time; the latter stays an item."""

    lease_time: Interval | Item | None = None
    request_count: int | None = None
    usage_limits: UsageLimits | None = None


class LoginResponse(Struct):
    """Login response (2.1, 6.1.30)."""

    ticket: Ticket | None = None


class LogoutRequest(Struct):
    """Logout request (2.1, 6.1.31)."""

    ticket: Ticket


class LogoutResponse(Struct):
    """Logout response (2.1, 6.1.31)."""


class DelegatedLoginRequest(Struct):
    """Delegated Login request (2.1, 6.1.12). The Lease Time is an Interval or a Date-Time; the latter stays an item."""

    lease_time: Interval | Item | None = None
    request_count: int | None = None
    usage_limits: UsageLimits | None = None
    rights: Rights


class DelegatedLoginResponse(Struct):
    """Delegated Login response (2.1, 6.1.12)."""

    ticket: Ticket | None = None


class AdjustAttributeRequest(Struct):
    """Adjust Attribute request (2.1, 6.1.3)."""

    unique_identifier: Identifier | None = None
    attribute_reference: References = spelled(Tag.ATTRIBUTE_NAME, Tag.ATTRIBUTE_REFERENCE)
    adjustment_type: AdjustmentType
    adjustment_value: Item | None = None


class AdjustAttributeResponse(Struct):
    """Adjust Attribute response (2.1, 6.1.3)."""

    unique_identifier: Identifier | None = None


class SetAttributeRequest(Struct):
    """Set Attribute request (2.1, 6.1.51)."""

    unique_identifier: Identifier | None = None
    new_attribute: Attributes = spelled(Tag.ATTRIBUTE, Tag.NEW_ATTRIBUTE)


class SetAttributeResponse(Struct):
    """Set Attribute response (2.1, 6.1.51)."""

    unique_identifier: Identifier | None = None


class SetEndpointRoleRequest(Struct):
    """Set Endpoint Role request (2.1, 6.1.54)."""

    endpoint_role: EndpointRole


class SetEndpointRoleResponse(Struct):
    """Set Endpoint Role response (2.1, 6.1.54)."""

    endpoint_role: EndpointRole | None = None


class PKCS11Request(Struct):
    """PKCS#11 request (2.1, 6.1.37)."""

    pkcs_11_interface: str | None = None
    pkcs_11_function: PKCS11Function
    correlation_value: bytes | None = None
    pkcs_11_input_parameters: bytes | None = None


class PKCS11Response(Struct):
    """PKCS#11 response (2.1, 6.1.37)."""

    pkcs_11_interface: str | None = None
    pkcs_11_function: PKCS11Function | None = None
    correlation_value: bytes | None = None
    pkcs_11_output_parameters: bytes | None = None
    pkcs_11_return_code: PKCS11ReturnCode | None = None


class InteropRequest(Struct):
    """Interop request (2.1, 6.1.26)."""

    interop_function: InteropFunction
    interop_identifier: str


class InteropResponse(Struct):
    """Interop response (2.1, 6.1.26)."""


class ReProvisionRequest(Struct):
    """Re-Provision request (2.1, 6.1.48)."""

    certificate_request: CertificateRequest | None = None
    certificate: Certificate | None = None


class ReProvisionResponse(Struct):
    """Re-Provision response (2.1, 6.1.48)."""

    unique_identifier: Identifier | None = None


class SetDefaultsRequest(Struct):
    """Set Defaults request (2.1, 6.1.53)."""

    defaults_information: DefaultsInformation | None = None


class SetDefaultsResponse(Struct):
    """Set Defaults response (2.1, 6.1.53)."""


class SetConstraintsRequest(Struct):
    """Set Constraints request (2.1, 6.1.52); without constraints it removes them (case TC-MD-24)."""

    constraints: Constraints | None = None


class SetConstraintsResponse(Struct):
    """Set Constraints response (2.1, 6.1.52)."""


class GetConstraintsRequest(Struct):
    """Get Constraints request (2.1, 6.1.22)."""


class GetConstraintsResponse(Struct):
    """Get Constraints response (2.1, 6.1.22)."""

    constraints: Constraints | None = None


class QueryAsynchronousRequestsRequest(Struct):
    """Query Asynchronous Requests request (2.1, 6.1.41)."""

    asynchronous_correlation_values: AsynchronousCorrelationValues | None = None
    operations: Operations | None = None


class QueryAsynchronousRequestsResponse(Struct):
    """Query Asynchronous Requests response (2.1, 6.1.41)."""

    asynchronous_request: list[AsynchronousRequest] = many()


class ProcessRequest(Struct):
    """Process request (2.1, 6.1.39)."""

    asynchronous_correlation_value: bytes


class ProcessResponse(Struct):
    """Process response (2.1, 6.1.39)."""


class PingRequest(Struct):
    """Ping request (2.1, 6.1.36)."""


class PingResponse(Struct):
    """Ping response (2.1, 6.1.36)."""


class Payloads(NamedTuple):
    """The payloads of an operation and the first version that has it."""

    request: type[Struct]
    response: type[Struct]
    since: Version


PAYLOADS: dict[Operation, Payloads] = {
    Operation.CREATE: Payloads(CreateRequest, CreateResponse, V1_0),
    Operation.CREATE_KEY_PAIR: Payloads(CreateKeyPairRequest, CreateKeyPairResponse, V1_0),
    Operation.REGISTER: Payloads(RegisterRequest, RegisterResponse, V1_0),
    Operation.RE_KEY: Payloads(ReKeyRequest, ReKeyResponse, V1_0),
    Operation.DERIVE_KEY: Payloads(DeriveKeyRequest, DeriveKeyResponse, V1_0),
    Operation.CERTIFY: Payloads(CertifyRequest, CertifyResponse, V1_0),
    Operation.RE_CERTIFY: Payloads(ReCertifyRequest, ReCertifyResponse, V1_0),
    Operation.LOCATE: Payloads(LocateRequest, LocateResponse, V1_0),
    Operation.CHECK: Payloads(CheckRequest, CheckResponse, V1_0),
    Operation.GET: Payloads(GetRequest, GetResponse, V1_0),
    Operation.GET_ATTRIBUTES: Payloads(GetAttributesRequest, GetAttributesResponse, V1_0),
    Operation.GET_ATTRIBUTE_LIST: Payloads(GetAttributeListRequest, GetAttributeListResponse, V1_0),
    Operation.ADD_ATTRIBUTE: Payloads(AddAttributeRequest, AddAttributeResponse, V1_0),
    Operation.MODIFY_ATTRIBUTE: Payloads(ModifyAttributeRequest, ModifyAttributeResponse, V1_0),
    Operation.DELETE_ATTRIBUTE: Payloads(DeleteAttributeRequest, DeleteAttributeResponse, V1_0),
    Operation.OBTAIN_LEASE: Payloads(ObtainLeaseRequest, ObtainLeaseResponse, V1_0),
    Operation.GET_USAGE_ALLOCATION: Payloads(GetUsageAllocationRequest, GetUsageAllocationResponse, V1_0),
    Operation.ACTIVATE: Payloads(ActivateRequest, ActivateResponse, V1_0),
    Operation.REVOKE: Payloads(RevokeRequest, RevokeResponse, V1_0),
    Operation.DESTROY: Payloads(DestroyRequest, DestroyResponse, V1_0),
    Operation.ARCHIVE: Payloads(ArchiveRequest, ArchiveResponse, V1_0),
    Operation.RECOVER: Payloads(RecoverRequest, RecoverResponse, V1_0),
    Operation.VALIDATE: Payloads(ValidateRequest, ValidateResponse, V1_0),
    Operation.QUERY: Payloads(QueryRequest, QueryResponse, V1_0),
    Operation.CANCEL: Payloads(CancelRequest, CancelResponse, V1_0),
    Operation.POLL: Payloads(PollRequest, PollResponse, V1_0),
    Operation.NOTIFY: Payloads(NotifyRequest, NotifyResponse, V1_0),
    Operation.PUT: Payloads(PutRequest, PutResponse, V1_0),
    Operation.RE_KEY_KEY_PAIR: Payloads(ReKeyKeyPairRequest, ReKeyKeyPairResponse, V1_1),
    Operation.DISCOVER_VERSIONS: Payloads(DiscoverVersionsRequest, DiscoverVersionsResponse, V1_1),
    Operation.ENCRYPT: Payloads(EncryptRequest, EncryptResponse, V1_2),
    Operation.DECRYPT: Payloads(DecryptRequest, DecryptResponse, V1_2),
    Operation.SIGN: Payloads(SignRequest, SignResponse, V1_2),
    Operation.SIGNATURE_VERIFY: Payloads(SignatureVerifyRequest, SignatureVerifyResponse, V1_2),
    Operation.MAC: Payloads(MACRequest, MACResponse, V1_2),
    Operation.MAC_VERIFY: Payloads(MACVerifyRequest, MACVerifyResponse, V1_2),
    Operation.RNG_RETRIEVE: Payloads(RNGRetrieveRequest, RNGRetrieveResponse, V1_2),
    Operation.RNG_SEED: Payloads(RNGSeedRequest, RNGSeedResponse, V1_2),
    Operation.HASH: Payloads(HashRequest, HashResponse, V1_2),
    Operation.CREATE_SPLIT_KEY: Payloads(CreateSplitKeyRequest, CreateSplitKeyResponse, V1_2),
    Operation.JOIN_SPLIT_KEY: Payloads(JoinSplitKeyRequest, JoinSplitKeyResponse, V1_2),
    Operation.IMPORT: Payloads(ImportRequest, ImportResponse, V1_4),
    Operation.EXPORT: Payloads(ExportRequest, ExportResponse, V1_4),
    Operation.LOG: Payloads(LogRequest, LogResponse, V2_0),
    Operation.LOGIN: Payloads(LoginRequest, LoginResponse, V2_0),
    Operation.LOGOUT: Payloads(LogoutRequest, LogoutResponse, V2_0),
    Operation.DELEGATED_LOGIN: Payloads(DelegatedLoginRequest, DelegatedLoginResponse, V2_0),
    Operation.ADJUST_ATTRIBUTE: Payloads(AdjustAttributeRequest, AdjustAttributeResponse, V2_0),
    Operation.SET_ATTRIBUTE: Payloads(SetAttributeRequest, SetAttributeResponse, V2_0),
    Operation.SET_ENDPOINT_ROLE: Payloads(SetEndpointRoleRequest, SetEndpointRoleResponse, V2_0),
    Operation.PKCS_11: Payloads(PKCS11Request, PKCS11Response, V2_0),
    Operation.INTEROP: Payloads(InteropRequest, InteropResponse, V2_0),
    Operation.RE_PROVISION: Payloads(ReProvisionRequest, ReProvisionResponse, V2_0),
    Operation.SET_DEFAULTS: Payloads(SetDefaultsRequest, SetDefaultsResponse, V2_1),
    Operation.SET_CONSTRAINTS: Payloads(SetConstraintsRequest, SetConstraintsResponse, V2_1),
    Operation.GET_CONSTRAINTS: Payloads(GetConstraintsRequest, GetConstraintsResponse, V2_1),
    Operation.QUERY_ASYNCHRONOUS_REQUESTS: Payloads(
        QueryAsynchronousRequestsRequest, QueryAsynchronousRequestsResponse, V2_1
    ),
    Operation.PROCESS: Payloads(ProcessRequest, ProcessResponse, V2_1),
    Operation.PING: Payloads(PingRequest, PingResponse, V2_1),
}
