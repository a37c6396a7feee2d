"""A small certificate authority for development: a CA, a certificate for this server, one for a client.

Every file that holds a key is readable by its owner only; the server's key exists on disk in PKCS#12 alone."""

import ipaddress
import os
import secrets
import socket
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

# Longer than anyone keeps a development machine; leaves stay below the limit that browsers put on them.
CA_LIFETIME, LEAF_LIFETIME = timedelta(days=3650), timedelta(days=397)


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and its private key."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    def __repr__(self) -> str:
        return f"Issued({self.certificate.subject.rfc4514_string()})"

    def certificate_pem(self) -> bytes:
        """The certificate in PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def key_pem(self) -> bytes:
        """The private key in PEM, not encrypted."""
        encoding, none = serialization.Encoding.PEM, serialization.NoEncryption()
        return self.key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, none)

    def bundle(self, name: str, authority: x509.Certificate, password: str) -> bytes:
        """Key, certificate and CA as PKCS#12."""
        protection = serialization.BestAvailableEncryption(password.encode())
        return pkcs12.serialize_key_and_certificates(name.encode(), self.key, self.certificate, [authority], protection)


def _name(common_name: str) -> x509.Name:
    attributes = [(NameOID.ORGANIZATION_NAME, "KMS development"), (NameOID.COMMON_NAME, common_name)]
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in attributes])


def _issue(
    common_name: str, lifetime: timedelta, extensions: list[tuple[x509.ExtensionType, bool]], issuer: Issued | None
) -> Issued:
    """A new P-256 key with a certificate, signed by the issuer or, without one, by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    signer = issuer.key if issuer else key
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(common_name))
        .issuer_name(issuer.certificate.subject if issuer else _name(common_name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))  # Clocks of containers and their hosts differ.
        .not_valid_after(now + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return Issued(key, builder.sign(signer, hashes.SHA256()))


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def authority(common_name: str = "KMS development CA") -> Issued:
    """A new certificate authority."""
    extensions = [(x509.BasicConstraints(ca=True, path_length=0), True), (_key_usage(ca=True), True)]
    return _issue(common_name, CA_LIFETIME, extensions, None)


def leaf(
    common_name: str, ca: Issued, usage: x509.ObjectIdentifier, names: list[x509.GeneralName] | None = None
) -> Issued:
    """A certificate for one purpose, signed by the CA."""
    extensions: list[tuple[x509.ExtensionType, bool]] = [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (_key_usage(ca=False), True),
        (x509.ExtendedKeyUsage([usage]), False),
    ]
    if names:
        extensions.append((x509.SubjectAlternativeName(names), False))
    return _issue(common_name, LEAF_LIFETIME, extensions, ca)


def local_names() -> list[x509.GeneralName]:
    """The names and addresses by which this machine is reached from itself."""
    hosts = dict.fromkeys(["localhost", socket.gethostname(), socket.getfqdn()])
    addresses = [ipaddress.ip_address(address) for address in ("127.0.0.1", "::1")]
    return [*(x509.DNSName(host) for host in hosts), *(x509.IPAddress(address) for address in addresses)]


def write(path: Path, content: bytes) -> None:
    """Write a new file that only its owner may read; one that exists is an error."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)


def initialise(folder: Path, client: str) -> list[Path]:
    """Make CA, server bundle and client certificate in an empty or new folder; the files made."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    ca = authority()
    server = leaf("localhost", ca, ExtendedKeyUsageOID.SERVER_AUTH, local_names())
    person = leaf(client, ca, ExtendedKeyUsageOID.CLIENT_AUTH)
    server_password, client_password = secrets.token_urlsafe(24), secrets.token_urlsafe(9)
    files = {
        "ca.pem": ca.certificate_pem(),
        "ca.key": ca.key_pem(),
        "server.p12": server.bundle("server", ca.certificate, server_password),
        "server.p12.password": server_password.encode() + b"\n",
        "client.pem": person.certificate_pem(),
        "client.key": person.key_pem(),
        "client.p12": person.bundle(client, ca.certificate, client_password),
        "client.p12.password": client_password.encode() + b"\n",
    }
    for name, content in files.items():
        write(folder / name, content)
    return [folder / name for name in files]
