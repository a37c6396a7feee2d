"""Certificates for TLS tests, made on the spot, good and bad."""

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CLIENT, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH
DAY = datetime.timedelta(days=1)
PASSWORD = "a password"


@dataclass(frozen=True)
class Made:
    """A key and its certificate."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        none = serialization.NoEncryption()
        return self.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, none)

    def p12(self, *others: "Made", password: str = PASSWORD, key: bool = True, certificate: bool = True) -> bytes:
        protection = (
            serialization.BestAvailableEncryption(password.encode()) if password else serialization.NoEncryption()
        )
        return pkcs12.serialize_key_and_certificates(
            b"made",
            self.key if key else None,
            self.certificate if certificate else None,
            [other.certificate for other in others] or None,
            protection,
        )

    def write(self, folder: Path, name: str) -> tuple[str, str]:
        """Write certificate and key; their paths."""
        paths = folder / f"{name}.pem", folder / f"{name}.key"
        paths[0].write_bytes(self.pem)
        paths[1].write_bytes(self.key_pem)
        return str(paths[0]), str(paths[1])


def make(
    name: str,
    issuer: Made | None = None,
    *,
    usage: x509.ObjectIdentifier | None = None,
    ca: bool = False,
    begins: datetime.timedelta = -DAY,
    ends: datetime.timedelta = 30 * DAY,
    local: bool = False,
    key: object = None,
) -> Made:
    """A certificate signed by the issuer, or by itself; of a new key unless one is given."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begins)
        .not_valid_after(now + ends)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    if local:
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return Made(key, builder.sign((issuer.key if issuer else key), hashes.SHA256()))


def revoke(issuer: Made, *certificates: Made, ends: datetime.timedelta = DAY) -> bytes:
    """A revocation list of the issuer, in PEM."""
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateRevocationListBuilder().issuer_name(issuer.certificate.subject)
    builder = builder.last_update(now - DAY).next_update(now + ends)
    for made in certificates:
        entry = x509.RevokedCertificateBuilder().serial_number(made.certificate.serial_number).revocation_date(now)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(issuer.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


class Pki:
    """A CA with a server and a client, written to a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = make("test CA", ca=True)
        self.server = make("localhost", self.ca, usage=SERVER, local=True)
        self.client = make("alice", self.ca, usage=CLIENT)
        self.ca_file, _ = self.ca.write(folder, "ca")
        self.client_files = self.client.write(folder, "client")
        self.server_files = self.server.write(folder, "server")
        self.p12_file = str(folder / "server.p12")
        Path(self.p12_file).write_bytes(self.server.p12(self.ca))

    def settings(self) -> dict[str, str]:
        """The environment of a server with mutual TLS."""
        return {
            "KMS_TLS_P12_FILE": self.p12_file,
            "KMS_TLS_P12_PASSWORD": PASSWORD,
            "KMS_CLIENTS_CA_CERT_FILE": self.ca_file,
        }

    def client_context(self, files: tuple[str, str] | None = None, *, anonymous: bool = False):
        """A client's TLS context, which trusts the CA."""
        import ssl

        context = ssl.create_default_context(cafile=self.ca_file)
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if not anonymous:
            context.load_cert_chain(*(files or self.client_files))
        return context
