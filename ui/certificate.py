"""Certificates and key material as people read them."""

import base64
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from django.utils.translation import gettext

from kmip.enums import KeyFormatType

#: Labels of RFC 7468 for the formats that have one.
PEM: dict[KeyFormatType, str] = {
    KeyFormatType.PKCS_1: "RSA PRIVATE KEY",
    KeyFormatType.PKCS_8: "PRIVATE KEY",
    KeyFormatType.ECPRIVATEKEY: "EC PRIVATE KEY",
    KeyFormatType.X_509: "PUBLIC KEY",
    KeyFormatType.PKCS_10: "CERTIFICATE REQUEST",
}


def spellings(material: bytes, format_: KeyFormatType | None) -> dict[str, Any]:
    """Key material in the spellings that people copy."""
    return {
        "revealed": True,
        "format": "" if format_ is None else str(format_),
        "size": len(material),
        "spellings": [
            (gettext("Hexadecimal"), material.hex()),
            ("Base64", base64.b64encode(material).decode()),
            *_text(material),
        ],
    }


def _text(material: bytes) -> list[tuple[str, str]]:
    try:
        text = material.decode()
    except UnicodeDecodeError:
        return []
    return [(gettext("Text"), text)] if text.isprintable() and text else []


def decoded(data: bytes) -> list[tuple[str, list[tuple[str, str]]]] | None:
    """A certificate's contents in sections of title and text; None for what is none."""
    try:
        certificate = x509.load_der_x509_certificate(data)
    except ValueError:
        return None
    return facts(certificate)


def facts(certificate: x509.Certificate) -> list[tuple[str, list[tuple[str, str]]]]:
    """What a certificate says, in sections of title and text."""
    algorithm = certificate.signature_hash_algorithm
    subject = [
        (gettext("Subject"), certificate.subject.rfc4514_string()),
        (gettext("Issuer"), certificate.issuer.rfc4514_string()),
        (gettext("Serial number"), f"{certificate.serial_number:x}"),
        (gettext("Valid from"), certificate.not_valid_before_utc.strftime("%Y-%m-%d %H:%M:%S UTC")),
        (gettext("Valid until"), certificate.not_valid_after_utc.strftime("%Y-%m-%d %H:%M:%S UTC")),
        (gettext("Version"), certificate.version.name),
    ]
    signature = [
        (gettext("Signature algorithm"), certificate.signature_algorithm_oid._name),
        (gettext("Hash"), algorithm.name if algorithm is not None else gettext("none")),
        (gettext("Public key"), _public_key(certificate)),
        (gettext("SHA-256 fingerprint"), certificate.fingerprint(hashes.SHA256()).hex(":")),
        (gettext("SHA-1 fingerprint"), certificate.fingerprint(hashes.SHA1()).hex(":")),  # noqa: S303 - shown, not relied on
    ]
    return [
        (gettext("Certificate"), subject),
        (gettext("Signature and key"), signature),
        (gettext("Extensions"), _extensions(certificate)),
    ]


def _public_key(certificate: x509.Certificate) -> str:
    try:
        key = certificate.public_key()
    except Exception:
        return certificate.public_key_algorithm_oid._name
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA {key.key_size}"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"EC {key.curve.name}"
    return type(key).__name__.removesuffix("PublicKey").strip("_")


def _extensions(certificate: x509.Certificate) -> list[tuple[str, str]]:
    try:
        extensions = list(certificate.extensions)
    except ValueError as exc:
        return [(gettext("Extensions"), str(exc))]
    return [
        (one.oid._name + (f" ({gettext('critical')})" if one.critical else ""), _extension(one.value))
        for one in extensions
    ]


def _extension(value: Any) -> str:
    """The contents of an extension in a line."""
    if isinstance(value, x509.BasicConstraints):
        length = gettext("path length")
        return f"CA: {value.ca}" + (f", {length} {value.path_length}" if value.path_length is not None else "")
    if isinstance(value, x509.KeyUsage):
        names = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
                 "key_cert_sign", "crl_sign")  # fmt: skip
        return ", ".join(name.replace("_", " ") for name in names if getattr(value, name))
    if isinstance(value, x509.ExtendedKeyUsage):
        return ", ".join(oid._name for oid in value)
    if isinstance(value, x509.SubjectAlternativeName | x509.IssuerAlternativeName):
        return ", ".join(_general(name) for name in value)
    if isinstance(value, x509.SubjectKeyIdentifier):
        return value.digest.hex(":")
    if isinstance(value, x509.AuthorityKeyIdentifier):
        return value.key_identifier.hex(":") if value.key_identifier else ""
    if isinstance(value, x509.CRLDistributionPoints):
        return ", ".join(_general(name) for point in value for name in point.full_name or ())
    if isinstance(value, x509.AuthorityInformationAccess):
        return ", ".join(f"{one.access_method._name}: {_general(one.access_location)}" for one in value)
    if isinstance(value, x509.CertificatePolicies):
        return ", ".join(one.policy_identifier.dotted_string for one in value)
    if isinstance(value, x509.UnrecognizedExtension):
        return value.value.hex()
    return str(value)


def _general(name: x509.GeneralName) -> str:
    value = name.value
    return value.rfc4514_string() if isinstance(value, x509.Name) else str(value)
