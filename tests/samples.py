"""Two different values of every attribute."""

import time
from typing import Any

from kmip.attributes import BY_TAG, Row
from kmip.enums import (
    AlternativeNameType,
    BlockCipherMode,
    HashingAlgorithm,
    KeyValueLocationType,
    LinkType,
    NameType,
    OpaqueDataType,
    RecommendedCurve,
    RevocationReasonCode,
    RNGAlgorithm,
    RotateNameType,
    State,
    UsageLimitsUnit,
)
from kmip.structures import (
    AlternativeName,
    ApplicationSpecificInformation,
    CertificateIdentifier,
    CertificateIssuer,
    CertificateSubject,
    CryptographicDomainParameters,
    CryptographicParameters,
    Digest,
    KeyValueLocation,
    Link,
    Name,
    RevocationReason,
    RNGParameters,
    RotateName,
    UsageLimits,
    X_509CertificateIdentifier,
    X_509CertificateIssuer,
    X_509CertificateSubject,
)
from kmip.tags import Tag
from kmip.ttlv import Type

SOON = int(time.time()) + 100_000
TEXT, LOCATION = NameType.UNINTERPRETED_TEXT_STRING, KeyValueLocationType.UNINTERPRETED_TEXT_STRING
_STRUCTURES = {
    Tag.NAME: lambda n: Name(name_value=f"name {n}", name_type=TEXT),
    Tag.CRYPTOGRAPHIC_PARAMETERS: lambda n: CryptographicParameters(block_cipher_mode=list(BlockCipherMode)[n]),
    Tag.CRYPTOGRAPHIC_DOMAIN_PARAMETERS: lambda n: CryptographicDomainParameters(
        recommended_curve=(RecommendedCurve.P_256, RecommendedCurve.P_384)[n]
    ),
    Tag.CERTIFICATE_IDENTIFIER: lambda n: CertificateIdentifier(issuer="CN=a", serial_number=str(n)),
    Tag.CERTIFICATE_SUBJECT: lambda n: CertificateSubject(certificate_subject_distinguished_name=f"CN={n}"),
    Tag.CERTIFICATE_ISSUER: lambda n: CertificateIssuer(certificate_issuer_distinguished_name=f"CN={n}"),
    Tag.DIGEST: lambda n: Digest(hashing_algorithm=HashingAlgorithm.SHA_256, digest_value=bytes([n]) * 32),
    Tag.USAGE_LIMITS: lambda n: UsageLimits(usage_limits_total=10 + n, usage_limits_unit=UsageLimitsUnit.OBJECT),
    Tag.REVOCATION_REASON: lambda n: RevocationReason(revocation_reason_code=list(RevocationReasonCode)[n]),
    Tag.LINK: lambda n: Link(link_type=LinkType.PARENT_LINK, linked_object_identifier=f"uid {n}"),
    Tag.APPLICATION_SPECIFIC_INFORMATION: lambda n: ApplicationSpecificInformation(
        application_namespace="ssl", application_data=f"data {n}"
    ),
    Tag.X_509_CERTIFICATE_IDENTIFIER: lambda n: X_509CertificateIdentifier(
        issuer_distinguished_name=b"x", certificate_serial_number=bytes([n + 1])
    ),
    Tag.X_509_CERTIFICATE_SUBJECT: lambda n: X_509CertificateSubject(subject_distinguished_name=bytes([n])),
    Tag.X_509_CERTIFICATE_ISSUER: lambda n: X_509CertificateIssuer(issuer_distinguished_name=bytes([n])),
    Tag.ALTERNATIVE_NAME: lambda n: AlternativeName(
        alternative_name_value=f"alternative {n}", alternative_name_type=AlternativeNameType.UNINTERPRETED_TEXT_STRING
    ),
    Tag.KEY_VALUE_LOCATION: lambda n: KeyValueLocation(
        key_value_location_value=f"safe {n}", key_value_location_type=LOCATION
    ),
    Tag.RANDOM_NUMBER_GENERATOR: lambda n: RNGParameters(rng_algorithm=list(RNGAlgorithm)[n]),
    Tag.ROTATE_NAME: lambda n: RotateName(
        rotate_name_value=f"set {n}", rotate_name_type=RotateNameType.UNINTERPRETED_TEXT_STRING
    ),
}
_OTHERS = {
    # What moves the state by itself, or is checked against other attributes, is chosen to do neither.
    Tag.STATE: lambda n: (State.PRE_ACTIVE, State.ACTIVE)[n],
    Tag.QUANTUM_SAFE: lambda n: False,
    Tag.CRYPTOGRAPHIC_LENGTH: lambda n: (128, 256)[n],
    Tag.OPAQUE_DATA_TYPE: lambda n: OpaqueDataType.of(0x80000001 + n),
}
_PLAIN = {
    Type.TEXT_STRING: lambda n: f"text {n}",
    Type.BYTE_STRING: lambda n: bytes([n]) * 20,
    Type.INTEGER: lambda n: n + 1,
    Type.BOOLEAN: lambda n: bool(n),
    Type.INTERVAL: lambda n: 60 + n,
    Type.DATE_TIME: lambda n: SOON + n,
}


def sample(tag: Tag, number: int) -> Any:
    """A value of an attribute; `number` is 0 or 1."""
    row: Row = BY_TAG[tag]
    make = _STRUCTURES.get(tag) or _OTHERS.get(tag)
    if make is not None:
        return make(number)
    if row.kind.type == Type.ENUMERATION:
        return list(row.kind.enumeration)[number]
    return _PLAIN[row.kind.type](number)
