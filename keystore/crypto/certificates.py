"""What a certificate says: the KMIP attributes that follow from its bytes, and the files that certificates travel in.

Issuing certificates and checking chains is not done here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from cryptography.x509.oid import NameOID, ObjectIdentifier, SignatureAlgorithmOID

from keystore.crypto import keys
from keystore.crypto.algorithms import PublicKey
from keystore.crypto.keys import Key
from keystore.crypto.x509_errors import UNREADABLE
from kmip.enums import DigitalSignatureAlgorithm, ResultReason
from kmip.errors import KMIPError
from kmip.structures import (
    CertificateIdentifier,
    CertificateIssuer,
    CertificateSubject,
    X_509CertificateIdentifier,
    X_509CertificateIssuer,
    X_509CertificateSubject,
)
from kmip.tags import Tag

D = DigitalSignatureAlgorithm
S = SignatureAlgorithmOID

SIGNATURES: dict[ObjectIdentifier, DigitalSignatureAlgorithm] = {
    S.RSA_WITH_MD5: D.MD5_WITH_RSA_ENCRYPTION,
    S.RSA_WITH_SHA1: D.SHA_1_WITH_RSA_ENCRYPTION,
    S.RSA_WITH_SHA224: D.SHA_224_WITH_RSA_ENCRYPTION,
    S.RSA_WITH_SHA256: D.SHA_256_WITH_RSA_ENCRYPTION,
    S.RSA_WITH_SHA384: D.SHA_384_WITH_RSA_ENCRYPTION,
    S.RSA_WITH_SHA512: D.SHA_512_WITH_RSA_ENCRYPTION,
    S.RSA_WITH_SHA3_256: D.SHA3_256_WITH_RSA_ENCRYPTION,
    S.RSA_WITH_SHA3_384: D.SHA3_384_WITH_RSA_ENCRYPTION,
    S.RSA_WITH_SHA3_512: D.SHA3_512_WITH_RSA_ENCRYPTION,
    S.RSASSA_PSS: D.RSASSA_PSS,
    S.ECDSA_WITH_SHA1: D.ECDSA_WITH_SHA_1,
    S.ECDSA_WITH_SHA224: D.ECDSA_WITH_SHA224,
    S.ECDSA_WITH_SHA256: D.ECDSA_WITH_SHA256,
    S.ECDSA_WITH_SHA384: D.ECDSA_WITH_SHA384,
    S.ECDSA_WITH_SHA512: D.ECDSA_WITH_SHA512,
    S.DSA_WITH_SHA1: D.DSA_WITH_SHA_1,
    S.DSA_WITH_SHA224: D.DSA_WITH_SHA224,
    S.DSA_WITH_SHA256: D.DSA_WITH_SHA256,
}

#: The attributes of 2.1, 4.6, by the kind of name they are taken from: subject first, issuer second.
NAMES: dict[ObjectIdentifier, tuple[Tag, Tag]] = {
    NameOID.COMMON_NAME: (Tag.CERTIFICATE_SUBJECT_CN, Tag.CERTIFICATE_ISSUER_CN),
    NameOID.ORGANIZATION_NAME: (Tag.CERTIFICATE_SUBJECT_O, Tag.CERTIFICATE_ISSUER_O),
    NameOID.ORGANIZATIONAL_UNIT_NAME: (Tag.CERTIFICATE_SUBJECT_OU, Tag.CERTIFICATE_ISSUER_OU),
    NameOID.EMAIL_ADDRESS: (Tag.CERTIFICATE_SUBJECT_EMAIL, Tag.CERTIFICATE_ISSUER_EMAIL),
    NameOID.COUNTRY_NAME: (Tag.CERTIFICATE_SUBJECT_C, Tag.CERTIFICATE_ISSUER_C),
    NameOID.STATE_OR_PROVINCE_NAME: (Tag.CERTIFICATE_SUBJECT_ST, Tag.CERTIFICATE_ISSUER_ST),
    NameOID.LOCALITY_NAME: (Tag.CERTIFICATE_SUBJECT_L, Tag.CERTIFICATE_ISSUER_L),
    NameOID.USER_ID: (Tag.CERTIFICATE_SUBJECT_UID, Tag.CERTIFICATE_ISSUER_UID),
    NameOID.SERIAL_NUMBER: (Tag.CERTIFICATE_SUBJECT_SERIAL_NUMBER, Tag.CERTIFICATE_ISSUER_SERIAL_NUMBER),
    NameOID.TITLE: (Tag.CERTIFICATE_SUBJECT_TITLE, Tag.CERTIFICATE_ISSUER_TITLE),
    NameOID.DOMAIN_COMPONENT: (Tag.CERTIFICATE_SUBJECT_DC, Tag.CERTIFICATE_ISSUER_DC),
    NameOID.DN_QUALIFIER: (Tag.CERTIFICATE_SUBJECT_DN_QUALIFIER, Tag.CERTIFICATE_ISSUER_DN_QUALIFIER),
}


@dataclass(frozen=True, slots=True)
class Facts:
    """What follows from a certificate: attribute values by tag, its public key (if of a known kind), its validity."""

    attributes: dict[Tag, list[object]]
    key: Key | None
    not_before: datetime
    not_after: datetime


def read(data: bytes) -> Facts:
    """The facts of an X.509 certificate in DER (2.1, 4.6, 4.8, 4.22, 4.61 to 4.63)."""
    try:
        certificate = x509.load_der_x509_certificate(data)
        attributes = _attributes(certificate, len(data))
        validity = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    except UNREADABLE as exc:
        raise KMIPError(ResultReason.INVALID_FIELD, "the Certificate Value is not an X.509 certificate in DER") from exc
    try:
        key = keys.public_key(cast(PublicKey, certificate.public_key()))
    except (*UNREADABLE, KMIPError):
        # The certificate is kept all the same; only its key cannot be used here.
        key = None
    return Facts(attributes, key, *validity)


def _attributes(certificate: x509.Certificate, length: int) -> dict[Tag, list[object]]:
    issuer, subject = certificate.issuer, certificate.subject
    issuer_names = _alternative(certificate, x509.IssuerAlternativeName)
    subject_names = _alternative(certificate, x509.SubjectAlternativeName)
    serial = _integer(certificate.serial_number)
    found: dict[Tag, list[object]] = {
        Tag.CERTIFICATE_LENGTH: [length],
        Tag.X_509_CERTIFICATE_IDENTIFIER: [
            X_509CertificateIdentifier(
                issuer_distinguished_name=issuer.public_bytes(),
                certificate_serial_number=b"\x02" + bytes([len(serial)]) + serial,
            )
        ],
        Tag.X_509_CERTIFICATE_SUBJECT: [
            X_509CertificateSubject(
                subject_distinguished_name=subject.public_bytes(),
                subject_alternative_name=subject_names.public_bytes() if subject_names else None,
            )
        ],
        Tag.X_509_CERTIFICATE_ISSUER: [
            X_509CertificateIssuer(
                issuer_distinguished_name=issuer.public_bytes(),
                issuer_alternative_name=issuer_names.public_bytes() if issuer_names else None,
            )
        ],
        # The three attributes that 1.1 deprecated hold text (1.4, 3.13 to 3.15), in the order of RFC 4514.
        Tag.CERTIFICATE_IDENTIFIER: [
            CertificateIdentifier(issuer=issuer.rfc4514_string(), serial_number=serial.lstrip(b"\0").hex() or "00")
        ],
        Tag.CERTIFICATE_SUBJECT: [
            CertificateSubject(
                certificate_subject_distinguished_name=subject.rfc4514_string(),
                certificate_subject_alternative_name=_text(subject_names),
            )
        ],
        Tag.CERTIFICATE_ISSUER: [
            CertificateIssuer(
                certificate_issuer_distinguished_name=issuer.rfc4514_string(),
                certificate_issuer_alternative_name=_text(issuer_names),
            )
        ],
    }
    algorithm = SIGNATURES.get(certificate.signature_algorithm_oid)
    if algorithm is not None:
        found[Tag.DIGITAL_SIGNATURE_ALGORITHM] = [algorithm]
    for position, name in enumerate((subject, issuer)):
        for part in name:
            tags = NAMES.get(part.oid)
            if tags is not None and part.value:
                value = part.value if isinstance(part.value, str) else part.value.hex()
                found.setdefault(tags[position], []).append(value)
    return found


def _alternative(
    certificate: x509.Certificate, extension: type[x509.SubjectAlternativeName | x509.IssuerAlternativeName]
) -> x509.SubjectAlternativeName | x509.IssuerAlternativeName | None:
    try:
        return certificate.extensions.get_extension_for_class(extension).value
    except (x509.ExtensionNotFound, *UNREADABLE):
        return None


_KINDS: tuple[tuple[type[x509.GeneralName], str], ...] = (
    (x509.DNSName, "DNS"),
    (x509.RFC822Name, "email"),
    (x509.IPAddress, "IP Address"),
    (x509.UniformResourceIdentifier, "URI"),
)


def _text(names: x509.SubjectAlternativeName | x509.IssuerAlternativeName | None) -> str | None:
    """The alternative names that have a usual text form, comma-separated: `DNS:a.example,IP Address:192.0.2.1`."""
    parts = [f"{kind}:{name.value}" for name in names or () for cls, kind in _KINDS if isinstance(name, cls)]
    return ",".join(parts) or None


def _integer(number: int) -> bytes:
    """The contents of a DER INTEGER."""
    return number.to_bytes(number.bit_length() // 8 + 1, signed=True)


def read_request(data: bytes) -> Key:
    """The public key of a PKCS#10 certificate request in DER, whose signature is checked."""
    try:
        request = x509.load_der_x509_csr(data)
        if not request.is_signature_valid:
            raise InvalidSignature
        return keys.public_key(cast(PublicKey, request.public_key()))
    except (ValueError, UnsupportedAlgorithm, InvalidSignature) as exc:
        raise KMIPError(ResultReason.INVALID_CSR, "the certificate request is not valid PKCS#10 in DER") from exc


def read_pkcs7(data: bytes) -> tuple[bytes, ...]:
    """The certificates of a PKCS#7 file in DER, in DER."""
    try:
        return tuple(each.public_bytes(Encoding.DER) for each in pkcs7.load_der_pkcs7_certificates(data))
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise KMIPError(ResultReason.INVALID_FIELD, "the value is not PKCS#7 in DER with certificates") from exc


def write_pkcs7(certificates: Sequence[bytes]) -> bytes:
    """A PKCS#7 file in DER with certificates given in DER."""
    try:
        found = [x509.load_der_x509_certificate(each) for each in certificates]
        return pkcs7.serialize_certificates(found, Encoding.DER)
    except (ValueError, TypeError) as exc:
        raise KMIPError(ResultReason.INVALID_FIELD, "PKCS#7 needs X.509 certificates in DER") from exc
