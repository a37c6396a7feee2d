"""What each product wants to be given: files by name and format, and the settings that go with them.

To add a product, add a row to `PRODUCTS` and its page to `client_pages/`; then `manage.py client pages --write`
refreshes `docs/clients/`. A page is Markdown in which `{host}`, `{port}`, `{http_port}`, `{name}` and `{folder}` stand
for this server and client.
"""

import io
import json
import secrets
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs7

from keystore import ca, tls
from keystore.clients import Enrolled
from keystore.conf import Config, ConfigError
from keystore.crypto import keys, x509_paths
from keystore.crypto import x509_issuing as issuing
from kmip.enums import ResultReason
from kmip.errors import KMIPError

PAGES: Final = Path(__file__).resolve().parent / "client_pages"


@dataclass(frozen=True, slots=True)
class Server:
    """Where clients find this server."""

    host: str = "kms.example.com"
    port: int = 5696
    http_port: int = 9998


@dataclass(frozen=True, slots=True)
class Material:
    """What a bundle is made of."""

    client: Enrolled
    server: Server
    #: The CA that a client must trust to believe this server, in PEM.
    server_ca: bytes
    password: str

    def __repr__(self) -> str:
        return f"Material({self.client.name})"

    def certificate(self) -> bytes:
        """The client's certificate in PEM."""
        return issuing.pem([self.client.certificate])

    def full_chain(self) -> bytes:
        """The client's certificate and those above it, without a root, in PEM."""
        above = [one for one in self.client.chain if not _is_root(one)]
        return issuing.pem([self.client.certificate, *above])

    def key(self) -> bytes:
        """The private key in PEM (PKCS#8)."""
        return self._key(serialization.PrivateFormat.PKCS8)

    def traditional_key(self) -> bytes:
        """The private key in the PEM of its kind (RSA PRIVATE KEY, EC PRIVATE KEY), which old readers want."""
        return self._key(serialization.PrivateFormat.TraditionalOpenSSL)

    def _key(self, form: serialization.PrivateFormat) -> bytes:
        if self.client.key is None:
            raise KMIPError(ResultReason.INVALID_FIELD, "the private key is with the client, not here")
        made: bytes = self.client.key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
        return made

    def key_and_certificate(self) -> bytes:
        """Both in one PEM file."""
        return self.key() + self.full_chain()

    def authority(self) -> bytes:
        """What the client is to trust."""
        return self.server_ca

    def pkcs12(self) -> bytes:
        """Key, certificate and chain as PKCS#12 with AES."""
        return self._pkcs12(legacy=False)

    def legacy_pkcs12(self) -> bytes:
        """The same with the algorithms of PKCS#12's first version."""
        return self._pkcs12(legacy=True)

    def _pkcs12(self, *, legacy: bool) -> bytes:
        self.key()  # Says where it is, if not here.
        return keys.write_pkcs12(
            keys.private_key(self.client.key).data,
            self.password.encode(),
            certificate=self.client.certificate,
            chain=self.client.chain,
            name=self.client.name.encode(),
            legacy=legacy,
        )

    def pkcs7(self) -> bytes:
        """Certificate and chain as PKCS#7 in PEM."""
        found = [ca.load(one) for one in (self.client.certificate, *self.client.chain)]
        return pkcs7.serialize_certificates(found, serialization.Encoding.PEM)

    def password_file(self) -> bytes:
        """The password of the PKCS#12 file."""
        return self.password.encode() + b"\n"

    # Settings files.

    def percona_cnf(self) -> bytes:
        """component_keyring_kmip.cnf."""
        folder = "/etc/mysql/kmip"
        settings = {
            "server_addr": self.server.host,
            "server_port": str(self.server.port),
            "client_ca": f"{folder}/client.pem",
            "client_key": f"{folder}/client.key",
            "server_ca": f"{folder}/ca.pem",
            "object_group": self.client.name,
        }
        return json.dumps(settings, indent=2).encode() + b"\n"

    def okvclient_ora(self) -> bytes:
        """okvclient.ora of MySQL's keyring_okv; it insists on a standby server, which may be the same."""
        address = f"{self.server.host}:{self.server.port}"
        return f"SERVER={address}\nSTANDBY_SERVER={address}\n".encode()

    def pykmip_conf(self) -> bytes:
        """pykmip.conf, for the client's user."""
        lines = (
            "[client]",
            f"host={self.server.host}",
            f"port={self.server.port}",
            "keyfile=client.key",
            "certfile=client.pem",
            "ca_certs=ca.pem",
            "cert_reqs=CERT_REQUIRED",
            "ssl_version=PROTOCOL_SSLv23",
            "do_handshake_on_connect=True",
            "suppress_ragged_eofs=True",
            "",
        )
        return "\n".join(lines).encode()

    def ceph_conf(self) -> bytes:
        """Lines for ceph.conf."""
        lines = (
            "[client.rgw]",
            "rgw crypt s3 kms backend = kmip",
            f"rgw crypt kmip addr = {self.server.host}:{self.server.port}",
            "rgw crypt kmip ca path = /etc/ceph/kmip/ca.pem",
            "rgw crypt kmip client cert = /etc/ceph/kmip/client.pem",
            "rgw crypt kmip client key = /etc/ceph/kmip/client.key",
            "",
        )
        return "\n".join(lines).encode()


def _is_root(der: bytes) -> bool:
    parsed = ca.load(der)
    return parsed.subject == parsed.issuer


Maker = Callable[[Material], bytes]
_PEM: Final[dict[str, Maker]] = {
    "client.pem": Material.full_chain,
    "client.key": Material.key,
    "ca.pem": Material.authority,
}
_P12: Final[dict[str, Maker]] = {"client.p12.password": Material.password_file}


@dataclass(frozen=True, slots=True)
class Product:
    """A client product: its files, and the kind of key that it takes."""

    title: str
    files: dict[str, Maker]
    key: str = "rsa-2048"


PRODUCTS: Final[dict[str, Product]] = {
    "generic": Product(
        "Any KMIP client",
        {**_PEM, "client.p12": Material.pkcs12, "client.p7b": Material.pkcs7, **_P12},
    ),
    "vcenter": Product(
        "VMware vCenter",
        {"client.pem": Material.certificate, "client.key": Material.key, "ca.pem": Material.authority},
    ),
    "mongodb": Product(
        "MongoDB Enterprise, Percona Server for MongoDB",
        {"client.pem": Material.key_and_certificate, "ca.pem": Material.authority},
    ),
    "mongodb-csfle": Product(
        "MongoDB client-side encryption (all drivers)",
        {"client.pem": Material.key_and_certificate, "ca.pem": Material.authority},
    ),
    "percona": Product(
        "Percona Server for MySQL",
        {**_PEM, "component_keyring_kmip.cnf": Material.percona_cnf},
    ),
    "mysql": Product(
        "MySQL Enterprise (keyring_okv)",
        {
            "okvclient.ora": Material.okvclient_ora,
            "ssl/cert.pem": Material.certificate,
            "ssl/key.pem": Material.traditional_key,
            "ssl/CA.pem": Material.authority,
        },
    ),
    "ceph": Product("Ceph Object Gateway", {**_PEM, "ceph.conf": Material.ceph_conf}),
    "synology": Product(
        "Synology DSM",
        {"client.crt": Material.certificate, "client.key": Material.traditional_key, "ca.crt": Material.authority},
    ),
    "veeam": Product(
        "Veeam Backup & Replication",
        {
            "client.pfx": Material.legacy_pkcs12,
            "client.pfx.password": Material.password_file,
            "ca.cer": Material.authority,
        },
    ),
    "fortigate": Product(
        "FortiGate",
        {"client.p12": Material.legacy_pkcs12, **_P12, "ca.crt": Material.authority},
    ),
    "pykmip": Product("PyKMIP", {**_PEM, "pykmip.conf": Material.pykmip_conf}),
}


def product(name: str) -> Product:
    """A product by its name; raises `KMIPError`."""
    found = PRODUCTS.get(name)
    if found is None:
        raise KMIPError(ResultReason.INVALID_FIELD, f"the product is one of {', '.join(PRODUCTS)}")
    return found


def page(name: str, server: Server, client: str, folder: str = ".") -> str:
    """A product's page of settings, for a server and a client."""
    text = (PAGES / f"{name}.md").read_text(encoding="utf-8")
    values = {
        "host": server.host,
        "port": str(server.port),
        "http_port": str(server.http_port),
        "name": client,
        "folder": folder,
    }
    for key, value in values.items():
        text = text.replace("{" + key + "}", value)
    return text


#: What stands in a file of a bundle for a client that keeps its private key; None where the file makes no sense then.
_KEYLESS: Final[dict[Maker, Maker | None]] = {
    Material.key: None,
    Material.traditional_key: None,
    Material.pkcs12: None,
    Material.legacy_pkcs12: None,
    Material.password_file: None,
    Material.key_and_certificate: Material.full_chain,
}


def make(name: str, material: Material) -> dict[str, bytes]:
    """The files of a product's bundle, by path. A client that keeps its private key gets those without, and in any
    case its certificate."""
    makers: dict[str, Maker | None] = dict(product(name).files)
    if material.client.key is None:
        makers = {path: _KEYLESS.get(maker, maker) for path, maker in product(name).files.items()}
        if not {Material.certificate, Material.full_chain} & set(makers.values()):
            makers["client.pem"] = Material.full_chain
    made = {path: maker(material) for path, maker in makers.items() if maker is not None}
    page_ = page(name, material.server, material.client.name, material.client.name)
    return {**made, "SETTINGS.md": page_.encode()}


def archive(files: dict[str, bytes]) -> bytes:
    """The files of a bundle as ZIP, readable by their owner only."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for path, content in files.items():
            info = zipfile.ZipInfo(path)
            info.external_attr = 0o600 << 16
            file.writestr(info, content)
    return out.getvalue()


def material(config: Config, client: Enrolled, key: Any, *, host: str | None = None) -> Material:
    """What a bundle is made of, for a new client and its private key (None where the client has it)."""
    return Material(
        replace(client, key=key), server_of(config, host), server_authority(config), secrets.token_urlsafe(12)
    )


def server_authority(config: Config) -> bytes:
    """The root that this server's certificate leads to, in PEM: of its own chain, of the clients' CAs or of the
    authorities here; the last of its chain where the root is not known."""
    try:
        shown = tls.credentials(config)
    except (ConfigError, AssertionError):
        return b""
    last = shown.chain[-1] if shown.chain else shown.certificate
    if last.subject == last.issuer:
        return last.public_bytes(serialization.Encoding.PEM)
    known: list[x509.Certificate] = [*tls.bundled(config), *ca.configured(), *ca.by_subject(last.issuer)]
    for one in known:
        if one.subject == last.issuer and x509_paths.signed_by(last, one):
            return one.public_bytes(serialization.Encoding.PEM)
    return last.public_bytes(serialization.Encoding.PEM)


def server_of(config: Config, host: str | None = None) -> Server:
    """Where clients find this server: `host`, else the first name in its certificate."""
    return Server(host or _own_name(config), config.socket_server.socket_server_port, config.http.port)


def _own_name(config: Config) -> str:
    try:
        names = tls.credentials(config).certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (ConfigError, AssertionError, x509.ExtensionNotFound):
        return "localhost"
    found = names.value.get_values_for_type(x509.DNSName) or [
        str(one) for one in names.value.get_values_for_type(x509.IPAddress)
    ]
    return str(found[0]) if found else "localhost"


def describe(client: Enrolled) -> dict[str, Any]:
    """A new certificate as JSON; its private key is not part of it."""
    return {
        "name": client.name,
        "unique_identifier": client.uid,
        "fingerprint": client.fingerprint,
        "not_after": client.not_after.isoformat().replace("+00:00", "Z"),
        "certificate": issuing.pem([client.certificate]).decode(),
        "chain": issuing.pem(client.chain).decode(),
    }
