"""Client certificates that a handshake verified: which account they are, and whether they still count.

The user is a name in the certificate, bound to the key of the CA that issued it: the same name from another CA is
refused, not merged. Every certificate that was let in has a row, by which it can be disabled or pinned.
"""

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID
from django.db import IntegrityError, transaction

from keystore import ca, conf, revocation, tls
from keystore.authn import accounts
from keystore.authn.identities import Identity, Peer, looked_up, refused
from keystore.crypto.x509_errors import UNREADABLE
from keystore.models import Account, ClientCertificate
from kmip.messages import Authentication

#: How stale the time of a certificate's last use may be, in seconds.
SEEN_EVERY = 60
METHOD = "certificate"


@dataclass(frozen=True, slots=True)
class Facts:
    """What a certificate says, parsed once."""

    certificate: x509.Certificate
    fingerprint: str
    username: str


def certificate(peer: Peer, authentication: Authentication | None) -> Identity | None:
    """The account of a client certificate."""
    presented = peer.certificate
    if presented is None:
        return None
    return looked_up(("certificate", presented), lambda: _identity(presented, peer.chain))


def _identity(presented: bytes, chain: tuple[bytes, ...]) -> Identity:
    facts = _facts(presented, conf.current().auth.certificate_username)
    check(facts.certificate)
    row = _row(facts.fingerprint)
    if row is None:
        row = _first_seen(facts, chain)
    if row.disabled:
        raise refused("the client certificate is disabled")
    if not row.pinned and _has_pinned(row.account_id):
        raise refused("the client certificate is not the one that is registered")
    if not _still_trusted(row.authority, chain):
        raise refused("the CA of the client certificate is no longer trusted")
    now = int(time.time())
    if now - row.last_seen >= SEEN_EVERY:
        ClientCertificate.objects.filter(fingerprint=row.fingerprint).update(last_seen=now)
    return accounts.identity(row.account, METHOD, fingerprint=facts.fingerprint)


def check(certificate: x509.Certificate) -> None:
    """Raise `KMIPError` where a certificate has expired or was revoked since its handshake."""
    if certificate.not_valid_after_utc.timestamp() < time.time():
        raise refused("the client certificate has expired")
    if revocation.is_revoked(certificate) or ca.revoked(certificate.fingerprint(SHA256()).hex()):
        raise refused("the client certificate is revoked")


def check_known(fingerprint: str) -> None:
    """Raise `KMIPError` where the certificate that somebody had on an earlier connection was revoked or disabled."""
    row = _row(fingerprint)
    if row is None or row.disabled or ca.revoked(fingerprint):
        raise refused("the client certificate is revoked or disabled")


def _row(fingerprint: str) -> ClientCertificate | None:
    return (
        ClientCertificate.objects.select_related("account__namespace", "account__user")
        .filter(fingerprint=fingerprint)
        .first()
    )


def _has_pinned(account_id: int) -> bool:
    return ClientCertificate.objects.filter(account_id=account_id, pinned=True).exists()


def _first_seen(facts: Facts, chain: tuple[bytes, ...]) -> ClientCertificate:
    authority = authority_of(facts.certificate, chain)
    account = accounts.vouched(conf.current().auth.default_namespace, facts.username, authority)
    return register(account, facts.certificate, authority)


def register(
    account: Account, certificate: x509.Certificate, authority: str, *, pinned: bool = False
) -> ClientCertificate:
    """The row of an account's certificate, made where there is none. Raises `KMIPError` for one of another account."""
    fingerprint = fingerprint_of(certificate)
    try:
        with transaction.atomic():
            ClientCertificate.objects.create(
                fingerprint=fingerprint,
                account=account,
                authority=authority,
                subject=certificate.subject.rfc4514_string()[:512],
                serial_number=f"{certificate.serial_number:x}",
                not_after=int(certificate.not_valid_after_utc.timestamp()),
                pinned=pinned,
                first_seen=int(time.time()),
            )
    except IntegrityError:  # Another process was quicker, or it is registered.
        if pinned:
            ClientCertificate.objects.filter(fingerprint=fingerprint, account=account).update(pinned=True)
    row = _row(fingerprint)
    assert row is not None
    if row.account_id != account.pk:
        raise refused("the certificate belongs to another client")
    return row


def fingerprint_of(certificate: x509.Certificate) -> str:
    """What a certificate is known by: the SHA-256 of its encoding."""
    return certificate.fingerprint(SHA256()).hex()


def authority_of(certificate: x509.Certificate, chain: tuple[bytes, ...] = ()) -> str:
    """Who vouches for a certificate: "ca:" and the digest of the key that signed it. Raises `KMIPError`."""
    issuers = [_parsed(one) for one in chain[:1]] or list(_trusted())
    for issuer in issuers:
        try:
            certificate.verify_directly_issued_by(issuer)
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
            continue
        return key_name(issuer)
    # A resumed TLS session does not tell the chain, and the CA is not one of those configured.
    raise refused("who issued the client certificate is not known: connect anew")


def key_name(issuer: x509.Certificate) -> str:
    """How the key of a CA is called; a renewed CA certificate with the same key is the same CA."""
    key = issuer.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return "ca:" + sha256(key).hexdigest()


def _still_trusted(authority: str, chain: tuple[bytes, ...]) -> bool:
    """Whether the issuing CA, or one above it as the handshake saw, is among those that are configured now."""
    trusted = {key_name(one) for one in _trusted()}
    if not trusted or authority in trusted:
        return True
    # A handshake that resumed a session did not tell the chain; its ticket is from a handshake under the same CAs,
    # because a changed CA file makes new keys for tickets.
    return not chain or any(key_name(_parsed(one)) in trusted for one in chain)


@functools.lru_cache(maxsize=64)
def _parsed(der: bytes) -> x509.Certificate:
    return x509.load_der_x509_certificate(der)


def _trusted() -> tuple[x509.Certificate, ...]:
    """The clients' CAs as their file is now, and this server's authorities for clients."""
    config = conf.current()
    path = config.tls.clients_ca_cert_file
    if path is None:
        return ()
    return (*_authorities(revocation.stamp(path)), *(_parsed(one) for one in ca.client_authorities()))


@functools.lru_cache(maxsize=4)
def _authorities(_stamp: object) -> tuple[x509.Certificate, ...]:
    return tuple(tls.client_authorities(conf.current()))


@functools.lru_cache(maxsize=4096)
def _facts(der: bytes, source: str) -> Facts:
    try:
        parsed = x509.load_der_x509_certificate(der)
        name = _NAMES[source](parsed)
    except UNREADABLE as exc:
        raise refused("the client certificate cannot be read") from exc
    if not name:
        raise refused(f"the client certificate has no {source.replace('_', ' ')} to name its user")
    return Facts(parsed, parsed.fingerprint(SHA256()).hex(), accounts.check_username(name))


def username_of(certificate: x509.Certificate) -> str | None:
    """The user that a certificate names, as the settings say."""
    return _NAMES[conf.current().auth.certificate_username](certificate)


def _common_name(certificate: x509.Certificate) -> str | None:
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    # Two of them would let the CA check one and the server read the other.
    return str(names[0].value) if len(names) == 1 else None


def _alternative(kind: type[x509.GeneralName]) -> Callable[[x509.Certificate], str | None]:
    def name(certificate: x509.Certificate) -> str | None:
        try:
            names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            return None
        found = [one.value for one in names if isinstance(one, kind)]
        return str(found[0]) if len(found) == 1 else None

    return name


_NAMES: dict[str, Callable[[x509.Certificate], str | None]] = {
    "common_name": _common_name,
    "email": _alternative(x509.RFC822Name),
    "dns": _alternative(x509.DNSName),
    "uri": _alternative(x509.UniformResourceIdentifier),
    "subject": lambda certificate: certificate.subject.rfc4514_string() or None,
}
