"""TLS for both listeners: certificate and key from PKCS#12 or PEM, the clients' CAs, and why a client was refused.

Nothing here opens a port. What a certificate's owner may do is for `authn`; here it is only told genuine from not."""

import contextlib
import functools
import hashlib
import os
import re
import secrets
import ssl
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID

from keystore import revocation
from keystore.conf import Config
from keystore.crypto.x509_errors import UNREADABLE

# Forward secret and authenticated, for clients of the last ten years.
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
# Legacy: old Synology, vCenter and librgw clients negotiate these and nothing newer.
LEGACY_CIPHERS = CIPHERS + ":ECDHE+AES:kRSA+AESGCM:kRSA+AES"
TLS_1_3_SUITES = frozenset({"TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256"})

Listener = Literal["http", "kmip"]


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the server shows its clients; the key stays out of every repr."""

    key: PrivateKeyTypes
    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...]

    def __repr__(self) -> str:
        return f"Credentials({self.certificate.subject.rfc4514_string()})"


class HandshakeFailed(Exception):
    """A connection that TLS turned away: why, and the line of `ADVICE` that it comes under."""

    def __init__(self, reason: str, kind: str = "other") -> None:
        super().__init__(reason)
        self.reason, self.kind = reason, kind

    @property
    def advice(self) -> str:
        """What an administrator can do about it."""
        return ADVICE[self.kind]

    @property
    def probe(self) -> bool:
        """Whether the client never said anything, as load balancers' checks do."""
        return self.kind == "closed"

    @property
    def unknown(self) -> bool:
        """Whether nothing is wrong with the certificate except that nobody here knows who issued it."""
        return self.kind == "unknown"


def read(config: Config, key: str, path: Path) -> bytes:
    """The content of the file that the setting names."""
    try:
        return path.read_bytes()
    except OSError as exc:
        raise config.error(key, f"cannot read {path}: {exc.strerror}", "give the path of a readable file") from exc


def credentials(config: Config) -> Credentials:
    """The configured key, certificate and chain, checked; ConfigError says what is wrong with them."""
    found = _from_pkcs12(config) if config.tls.tls_p12_file else _from_pem(config)
    key = "tls.tls_p12_file" if config.tls.tls_p12_file else "tls.tls_cert_file"
    if found.key.public_key() != found.certificate.public_key():
        raise config.error(key, "key and certificate do not match", "give the key that belongs to the certificate")
    now = datetime.now(UTC)
    if found.certificate.not_valid_after_utc <= now:
        ended = found.certificate.not_valid_after_utc.date()
        raise config.error(key, f"the certificate expired on {ended}", "renew it")
    if found.certificate.not_valid_before_utc > now:
        begins = found.certificate.not_valid_before_utc.date()
        raise config.error(key, f"the certificate is not valid before {begins}", "check this machine's clock")
    return found


def _from_pkcs12(config: Config) -> Credentials:
    """Key, leaf and chain of the PKCS#12 file."""
    path, key = config.tls.tls_p12_file, "tls.tls_p12_file"
    assert path is not None
    password = _password(config)
    try:
        bundle = pkcs12.load_pkcs12(read(config, key, path), password or None)
    except ValueError as exc:
        if "password" in str(exc):
            source = "tls.tls_p12_password_file" if config.tls.tls_p12_password_file else "tls.tls_p12_password"
            raise config.error(source, f"is not the password of {path}", "give the password it was made with") from exc
        raise config.error(key, f"{path} is not a PKCS#12 file", "make it with openssl pkcs12 -export") from exc
    others = [entry.certificate for entry in bundle.additional_certs]
    if bundle.key is None:
        raise config.error(key, f"{path} holds no private key", "export it together with its key")
    if bundle.cert is None and others:
        problem = f"key and certificate in {path} do not match"
        raise config.error(key, problem, "export the key that belongs to the certificate")
    if bundle.cert is None:
        raise config.error(key, f"{path} holds no certificate", "export it together with its certificate")
    return Credentials(bundle.key, bundle.cert.certificate, _chain(bundle.cert.certificate, others))


def bundled(config: Config) -> list[x509.Certificate]:
    """Every certificate that the PKCS#12 file holds beside the server's own, its root too."""
    path = config.tls.tls_p12_file
    if path is None:
        return []
    bundle = pkcs12.load_pkcs12(read(config, "tls.tls_p12_file", path), _password(config) or None)
    return [entry.certificate for entry in bundle.additional_certs]


def _password(config: Config) -> bytes:
    tls = config.tls
    if tls.tls_p12_password_file is None:
        return (tls.tls_p12_password or "").encode()
    content = read(config, "tls.tls_p12_password_file", tls.tls_p12_password_file)
    return content.split(b"\n", 1)[0].rstrip(b"\r")


def _from_pem(config: Config) -> Credentials:
    """Key, leaf and chain of the PEM files."""
    tls = config.tls
    assert tls.tls_cert_file is not None
    assert tls.tls_key_file is not None
    leaf, *others = _certificates(config, "tls.tls_cert_file", tls.tls_cert_file)
    if tls.tls_chain_file is not None:
        others += _certificates(config, "tls.tls_chain_file", tls.tls_chain_file)
    content = read(config, "tls.tls_key_file", tls.tls_key_file)
    try:
        private = serialization.load_pem_private_key(content, None)
    except TypeError as exc:
        raise config.error("tls.tls_key_file", "is encrypted", "give an unencrypted key, or use PKCS#12") from exc
    except ValueError as exc:
        raise config.error("tls.tls_key_file", "holds no PEM private key", "give a PEM private key") from exc
    return Credentials(private, leaf, _chain(leaf, others))


def _certificates(config: Config, key: str, path: Path) -> list[x509.Certificate]:
    """The certificates of a PEM file, at least one."""
    content = read(config, key, path)
    try:
        return x509.load_pem_x509_certificates(content)
    except ValueError as exc:
        raise config.error(key, f"{path} holds no PEM certificate", "give a file of PEM certificates") from exc


def _chain(leaf: x509.Certificate, others: Sequence[x509.Certificate]) -> tuple[x509.Certificate, ...]:
    """The certificates above the leaf, in order, without a self-signed end: clients have that or do not trust it."""
    chain: list[x509.Certificate] = []
    last = leaf
    for _ in others:
        above = [other for other in others if other.subject == last.issuer and other not in (last, *chain)]
        if not above or above[0].subject == above[0].issuer:
            break
        last = above[0]
        chain.append(last)
    return tuple(chain)


def client_authorities(config: Config) -> list[x509.Certificate]:
    """The CA certificates of `clients_ca_cert_file`, at least one; none if it is not set."""
    path = config.tls.clients_ca_cert_file
    if path is None:
        return []
    found = [cert for cert in _certificates(config, "tls.clients_ca_cert_file", path) if _is_authority(cert)]
    if not found:
        problem = f"{path} holds no CA certificate"
        raise config.error(
            "tls.clients_ca_cert_file", problem, "give the certificate of the CA that signs the clients'"
        )
    return found


def _is_authority(certificate: x509.Certificate) -> bool:
    """Whether it may sign others; a self-signed version 1 certificate may, having no way to say so."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return certificate.version is x509.Version.v1 and certificate.subject == certificate.issuer


def revocation_lists(config: Config) -> bytes:
    """The CRLs of `clients_crl_file` and those that were fetched, as PEM; empty if there are none."""
    path = config.tls.clients_crl_file
    lists: list[x509.CertificateRevocationList] = []
    if path is not None:
        read(config, "tls.clients_crl_file", path)
    for one in revocation.files(config):
        try:
            lists += revocation.parse(read(config, "tls.clients_crl_file", one))
        except ValueError as exc:
            problem = f"{one} holds no CRL"
            raise config.error("tls.clients_crl_file", problem, "give PEM or DER revocation lists") from exc
    return b"".join(crl.public_bytes(serialization.Encoding.PEM) for crl in lists)


def server_context(config: Config, listener: Listener) -> ssl.SSLContext:
    """The TLS side of a listener, as configured; ConfigError says what is wrong."""
    shown, authorities, lists = credentials(config), client_authorities(config), revocation_lists(config)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)  # with session tickets and a session id context
    # A client may use it as often as it likes; making each takes a tenth of a handshake.
    context.num_tickets = 1
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    # An end of file without close_notify is one: messages carry their lengths, and OpenSSL would answer with an alert.
    context.options |= ssl.OP_IGNORE_UNEXPECTED_EOF
    # Many clients' home-made CAs lack what RFC 5280 demands of them; an intermediate CA may be trusted by itself.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    _choose_ciphers(config, context)
    try:
        _load(context, shown)
    except ssl.SSLError as exc:
        key = "tls.tls_p12_file" if config.tls.tls_p12_file else "tls.tls_cert_file"
        raise config.error(key, f"OpenSSL refuses it: {exc.reason}", "use RSA of 2048 bits or more, or ECDSA") from exc
    if authorities:
        pem = b"".join(authority.public_bytes(serialization.Encoding.PEM) for authority in authorities)
        context.load_verify_locations(cadata=pem.decode())
        optional = listener == "http" and config.tls.http_client_auth == "optional"
        context.verify_mode = ssl.CERT_OPTIONAL if optional else ssl.CERT_REQUIRED
    if lists:
        with _memory_file(lists) as name:
            context.load_verify_locations(cafile=name)
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    return context


def _choose_ciphers(config: Config, context: ssl.SSLContext) -> None:
    """Apply `tls_cipher_suites` exactly, or refuse."""
    key, wanted = "tls.tls_cipher_suites", config.tls.tls_cipher_suites
    modern = {suite for suite in wanted if suite in TLS_1_3_SUITES}
    older = [_openssl_name(suite) for suite in wanted if suite not in modern]
    if modern and modern != TLS_1_3_SUITES:
        # Python 3.15 is the first that can choose among them.
        choose = getattr(context, "set_ciphersuites", None)
        if choose is None:
            problem = "this Python cannot choose among the TLS 1.3 suites"
            raise config.error(key, problem, f"list all of {' '.join(sorted(TLS_1_3_SUITES))}, or none of them")
        choose(":".join(suite for suite in wanted if suite in modern))
    if wanted and not modern:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    if wanted and not older:
        context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.set_ciphers(":".join(older) or (LEGACY_CIPHERS if config.tls.legacy_ciphers else CIPHERS))
        offered = {str(cipher["name"]) for cipher in context.get_ciphers()}
    except ssl.SSLError:
        offered = set()
    if unknown := [name for name in older if name not in offered]:
        raise config.error(key, f"unknown or too weak: {' '.join(unknown)}", "see openssl ciphers -stdname 'ALL'")


def _openssl_name(suite: str) -> str:
    """OpenSSL's name of a TLS 1.2 suite: TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 is ECDHE-RSA-AES128-GCM-SHA256."""
    exchange, with_, cipher = suite.removeprefix("TLS_").partition("_WITH_")
    if not with_:
        return suite
    cipher = re.sub(r"^(AES|CAMELLIA|ARIA)_(\d+)_", r"\1\2_", cipher).replace(
        "CHACHA20_POLY1305_SHA256", "CHACHA20_POLY1305"
    )
    exchange = "" if exchange == "RSA" else exchange + "-"
    return (exchange + cipher.replace("_CBC", "")).replace("_", "-")


def _load(context: ssl.SSLContext, shown: Credentials) -> None:
    """Give key and certificates to OpenSSL, which only takes them from a file: one in memory, encrypted once more."""
    password = secrets.token_hex(32)
    pem = shown.key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(password.encode()),
    )
    certificates = (shown.certificate, *shown.chain)
    pem += b"".join(certificate.public_bytes(serialization.Encoding.PEM) for certificate in certificates)
    with _memory_file(pem) as name:
        context.load_cert_chain(name, password=password)


@contextlib.contextmanager
def _memory_file(content: bytes) -> Iterator[str]:
    """The name of a file that exists while it is open, and never on any disk."""
    fd = os.memfd_create("kms", os.MFD_CLOEXEC)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
        file.flush()
        yield f"/proc/self/fd/{fd}"


#: Kinds of refusals, as metrics count them, and what to do about each, in words for whoever runs the client.
ADVICE = {
    "closed": "",
    "missing": "configure the client's certificate and private key, not only the server's CA",
    "plain": "set the client to use TLS on this port",
    "version": "let the client use TLS 1.2 or 1.3",
    "ciphers": "let the client offer ECDHE with AES-GCM; for old appliances set tls.legacy_ciphers",
    "server": "install this server's CA certificate on the client as a trusted CA, and use a name in its certificate",
    "expired": "issue a new certificate to this client (manage.py client add) and install it there",
    "clock": "check the clocks of client and server, and their time zones",
    "unknown": "use a certificate of a CA in tls.clients_ca_cert_file or of this server (manage.py client add), or "
    "accept exactly this one (manage.py client accept)",
    "usage": "issue a certificate with extended key usage clientAuth (manage.py client add)",
    "weak": "issue a certificate with SHA-256 and RSA of 2048 bits or more, or ECDSA",
    "chain": "let the client send its intermediate CA certificates, in order, and check that the CA may sign them",
    "list": "give a current revocation list of the CA in tls.clients_crl_file",
    "revoked": "issue a new certificate to this client (manage.py client add) and install it there",
    "issuer": "issue the client a certificate of another CA (manage.py client authority, client add)",
    "identity": "choose another common name for this client, or let an administrator register its certificate",
    "other": "compare the certificate with what openssl verify says of it",
}

# OpenSSL's words for the refusals that people meet, ours, and their kind.
REASONS = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": ("the client sent no certificate", "missing"),
    "HTTP_REQUEST": ("the client speaks plain HTTP", "plain"),
    "WRONG_VERSION_NUMBER": ("the client does not speak TLS", "plain"),
    "UNSUPPORTED_PROTOCOL": ("the client speaks only TLS versions older than 1.2", "version"),
    "NO_SHARED_CIPHER": ("client and server have no cipher suite in common", "ciphers"),
    "TLSV1_ALERT_UNKNOWN_CA": ("the client does not trust the server's certificate", "server"),
    "SSLV3_ALERT_BAD_CERTIFICATE": ("the client does not accept the server's certificate", "server"),
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": ("the client does not accept the server's certificate", "server"),
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": ("the client finds the server's certificate expired", "clock"),
}

# The codes of OpenSSL's verification (X509_V_ERR_...) in the same way.
REFUSALS = {
    2: ("its issuer is not known here", "unknown"),
    3: ("there is no revocation list of its CA", "list"),
    7: ("its signature is not its issuer's", "unknown"),
    9: ("it is not yet valid", "clock"),
    10: ("it has expired", "expired"),
    12: ("the revocation list of its CA has ended", "list"),
    18: ("it is self-signed", "unknown"),
    19: ("the root of its chain is not known here", "unknown"),
    20: ("its issuer is not known here", "unknown"),
    21: ("its issuer is not known here", "unknown"),
    23: ("it is revoked", "revoked"),
    24: ("a certificate in its chain is not one of a CA", "chain"),
    25: ("its chain is longer than a CA in it allows", "chain"),
    26: ("its extended key usage is not clientAuth", "usage"),
    29: ("its issuer is not known here", "unknown"),
    30: ("its issuer is not known here", "unknown"),
    32: ("a certificate in its chain may not sign certificates", "chain"),
    47: ("it has a name that its CA may not certify", "chain"),
    48: ("it has a name that its CA may not certify", "chain"),
    66: ("its key is too short", "weak"),
    67: ("the key of its CA is too short", "weak"),
    68: ("its signature uses a hash that is broken", "weak"),
    79: ("a certificate in its chain is not one of a CA", "chain"),
}


def handshake(connection: ssl.SSLSocket, *, accepted: Container[str] = ()) -> bytes | None:
    """Complete a server's handshake: the client's certificate in DER, if any; HandshakeFailed says why not.

    `accepted` are fingerprints of certificates that an administrator has accepted as they are."""
    try:
        connection.do_handshake()
    except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
        raise  # A non-blocking socket: to be called again.
    except ssl.SSLCertVerificationError as exc:
        raise refused(*REFUSALS.get(exc.verify_code, (exc.verify_message, "other"))) from exc
    except (ssl.SSLEOFError, ssl.SSLZeroReturnError) as exc:
        raise HandshakeFailed("the client closed the connection", "closed") from exc
    except ssl.SSLError as exc:
        code = exc.reason or "unknown"
        raise HandshakeFailed(*REASONS.get(code, (code.lower().replace("_", " "), "other"))) from exc
    except OSError as exc:
        raise HandshakeFailed(exc.strerror or "connection lost", "closed") from exc
    certificate = connection.getpeercert(binary_form=True)
    problem = unfit(certificate) if certificate is not None else None
    if certificate is not None and problem and hashlib.sha256(certificate).hexdigest() not in accepted:
        raise refused(*problem)
    return certificate


def refused(reason: str, kind: str) -> HandshakeFailed:
    """The refusal of a client's certificate."""
    return HandshakeFailed(f"client certificate refused: {reason}", kind)


def chain(connection: ssl.SSLSocket) -> tuple[bytes, ...]:
    """The certificates above the client's, in DER, as the handshake verified them; none where it resumed a session."""
    verified = getattr(connection, "get_verified_chain", None)
    if verified is not None:  # Python 3.13
        return tuple(verified()[1:])
    found = connection._sslobj.get_verified_chain() or ()  # type: ignore[attr-defined] # what 3.13 made public
    return tuple(ssl.PEM_cert_to_DER_cert(one.public_bytes()) for one in found[1:])


@functools.lru_cache(maxsize=1024)
def unfit(certificate: bytes) -> tuple[str, str] | None:
    """What some builds of OpenSSL let pass and we do not, with its line in `ADVICE`: weak keys and signatures, and a
    certificate that does not say it is for TLS clients."""
    try:
        parsed = x509.load_der_x509_certificate(certificate)
        key, function = parsed.public_key(), parsed.signature_hash_algorithm
        if isinstance(key, rsa.RSAPublicKey) and key.key_size < 2048:
            return REFUSALS[66]
        if function is not None and function.name in ("md5", "sha1"):
            return REFUSALS[68]
        usages = parsed.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    except x509.ExtensionNotFound:
        return "it has no extended key usage clientAuth", "usage"
    except UnsupportedAlgorithm:
        return "its signature or key is of an unknown kind", "weak"
    except UNREADABLE:
        return "it cannot be parsed", "other"
    return None if ExtendedKeyUsageOID.CLIENT_AUTH in usages.value else REFUSALS[26]
