"""New clients: their certificates, one-time tokens to ask for one, renewal, and the queue of unknown ones.

Certificates are made by the Certify operation on the rights of whoever asks, so that they are recorded as all else is;
nothing here has rights of its own, except that a client may have its own certificate renewed. The private keys that are
made for clients are handed out once and kept nowhere.
"""

import hashlib
import secrets
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID
from django.db import transaction
from django.db.models import Q

from keystore import audit, authn, ca, conf, engine, policy
from keystore.authn import Identity, Peer, accounts, certificates
from keystore.crypto import x509_issuing as issuing
from keystore.models import Account, Authority, ClientCertificate, IssuedCertificate, RegistrationToken, WaitingClient
from kmip.attributes import Attributes, vendor_text
from kmip.enums import (
    AlternativeNameType,
    CertificateRequestType,
    CertificateType,
    CryptographicAlgorithm,
    CryptographicUsageMask,
    KeyFormatType,
    LinkType,
    ObjectType,
    Operation,
    RecommendedCurve,
    ResultReason,
    RevocationReasonCode,
)
from kmip.errors import KMIPError
from kmip.objects import Certificate, KeyBlock, KeyValue, PrivateKey
from kmip.payloads import CertifyRequest, RegisterRequest, RevokeRequest
from kmip.structures import (
    AlternativeName,
    CryptographicDomainParameters,
    Link,
    RevocationReason,
)

#: Kinds of client keys; RSA is what every appliance takes.
KEYS: Final = {
    "rsa-2048": lambda: rsa.generate_private_key(65537, 2048),
    "rsa-3072": lambda: rsa.generate_private_key(65537, 3072),
    "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
}
#: What a certificate names its user by, as an alternative name; the others stand in the subject.
_NAMED_BY: Final = {
    "email": AlternativeNameType.EMAIL_ADDRESS,
    "dns": AlternativeNameType.DNS_NAME,
    "uri": AlternativeNameType.URI,
}
TOKEN_PREFIX: Final = "kms-reg-"  # noqa: S105 - it lets scanners find leaked tokens
#: A certificate may be renewed once this part of its life is over; before, only with a new key.
RENEWABLE_AFTER: Final = 0.5


@dataclass(frozen=True, slots=True)
class Enrolled:
    """A client's new certificate, and the authorities above it."""

    name: str
    uid: str
    certificate: bytes
    chain: tuple[bytes, ...]
    key: Any = field(default=None, repr=False)

    @property
    def fingerprint(self) -> str:
        """The certificate's SHA-256."""
        return issuing.fingerprint(self.certificate)

    @property
    def not_after(self) -> datetime:
        """When it ends."""
        return ca.load(self.certificate).not_valid_after_utc


def _absent(what: str) -> KMIPError:
    return KMIPError(ResultReason.ITEM_NOT_FOUND, what)


# The authority for clients.


def authority() -> Authority:
    """The authority that certifies clients; of several, the one that ends last. Raises `KMIPError` where none is."""
    current = ca.client_authorities()
    known = Authority.objects.filter(clients=True)
    found = [one for one in known if bytes(one.certificate) in current and not _ended(one)]
    if not found:
        raise _absent("there is no authority for clients: make one with manage.py client authority --create NAME")
    return max(found, key=lambda one: ca.load(bytes(one.certificate)).not_valid_after_utc)


def _ended(one: Authority) -> bool:
    return ca.load(bytes(one.certificate)).not_valid_after_utc <= datetime.now(UTC)


def create_authority(peer: Peer, name: str) -> Authority:
    """Make a root for clients, whose key stays here, and let the listeners accept its clients."""
    attributes = Attributes()
    attributes.certificate_subject_cn = [name]
    attributes.cryptographic_algorithm = CryptographicAlgorithm.EC
    attributes.cryptographic_domain_parameters = CryptographicDomainParameters(recommended_curve=RecommendedCurve.P_256)
    attributes.update(vendor_text("certificate-profile", "root"))
    made = engine.execute(Operation.CERTIFY, CertifyRequest(attributes=attributes), peer)
    return use_authority(peer, made.unique_identifier)


def import_authority(peer: Peer, certificate: bytes, key: bytes) -> Authority:
    """Take in a CA made elsewhere: certificate and unencrypted private key, each in PEM or DER."""
    parsed = ca.load(certificate)
    try:
        loader = serialization.load_pem_private_key if b"-----BEGIN" in key else serialization.load_der_private_key
        private: Any = loader(key, None)
    except (ValueError, TypeError) as exc:
        raise KMIPError(ResultReason.INVALID_FIELD, "the private key cannot be read; give it unencrypted") from exc
    if private.public_key() != parsed.public_key():
        raise KMIPError(ResultReason.INVALID_FIELD, "the private key is not the certificate's")
    issuing.check_authority(parsed, False)
    der, none = serialization.Encoding.DER, serialization.NoEncryption()
    material = private.private_bytes(der, serialization.PrivateFormat.PKCS8, none)
    attributes = Attributes()
    mask = CryptographicUsageMask
    attributes.cryptographic_usage_mask = int(mask.SIGN | mask.CERTIFICATE_SIGN | mask.CRL_SIGN)
    attributes.activation_date = int(time.time()) - 1
    block = KeyBlock(key_format_type=KeyFormatType.PKCS_8, key_value=KeyValue(key_material=material))
    with transaction.atomic():
        stored = engine.execute(
            Operation.REGISTER,
            RegisterRequest(
                object_type=ObjectType.PRIVATE_KEY, private_key=PrivateKey(key_block=block), attributes=attributes
            ),
            peer,
        )
        linked = Attributes()
        linked.link = [Link(link_type=LinkType.PRIVATE_KEY_LINK, linked_object_identifier=stored.unique_identifier)]
        value = Certificate(certificate_type=CertificateType.X_509, certificate_value=parsed.public_bytes(der))
        made = engine.execute(
            Operation.REGISTER,
            RegisterRequest(object_type=ObjectType.CERTIFICATE, certificate=value, attributes=linked),
            peer,
        )
        namespace = authn.identify(peer).namespace
        ca.enlist(parsed, uid=made.unique_identifier, private_key_uid=stored.unique_identifier, namespace=namespace)
    return use_authority(peer, made.unique_identifier)


def use_authority(peer: Peer, uid: str, *, trusted: bool = True) -> Authority:
    """Let the listeners accept, or no longer accept, the clients of an authority here; for administrators."""
    identity = administrator(peer)
    found = ca.authority_of(identity.namespace, uid)
    if found is None:
        raise _absent("there is no authority with this certificate")
    what = "Trust" if trusted else "Distrust"
    with audit.recorded(identity, peer, f"{what} Authority", uid=uid, detail=found.subject):
        ca.trust_clients(found, trusted=trusted)
    return found


def revoke_authority(peer: Peer, uid: str) -> Authority:
    """Revoke the certificate of an authority, for a compromise of its key: nothing below it counts any more."""
    found = use_authority(peer, uid, trusted=False)
    reason = RevocationReason(revocation_reason_code=RevocationReasonCode.CA_COMPROMISE)
    engine.execute(Operation.REVOKE, RevokeRequest(unique_identifier=uid, revocation_reason=reason), peer)
    return found


def authorities() -> list[Authority]:
    """Every authority of this server, those whose clients the listeners accept first."""
    return list(Authority.objects.order_by("-clients", "subject", "key_id"))


def any_authority() -> bool:
    """Whether the listeners accept the clients of an authority of this server."""
    return Authority.objects.filter(clients=True).exists()


def administrator(peer: Peer) -> Identity:
    """The peer's identity; raises `KMIPError` unless it administers the default namespace, which is recorded.

    Clients are users there, and whoever lets one in says who it is."""
    identity = authn.identify(peer)
    with audit.refusals(identity, peer, "Administer Clients"):
        if not _decides(peer, identity):
            raise KMIPError(ResultReason.PERMISSION_DENIED, "this is for administrators of the default namespace")
    return identity


def _decides(peer: Peer, identity: Identity) -> bool:
    return policy.operates(identity) or _at_machine(peer)


def _at_machine(peer: Peer) -> bool:
    """Whether a command on the server's own machine asks, whose user can read the whole database."""
    return peer.transport == "cli"


def _acting(namespace: str, username: str, address: str) -> Peer:
    """Somebody who is not here, on whose rights something is done that they have allowed before."""
    return Peer("cli", address, user=f"{namespace}/{username}")


# Certificates.


def new_request(name: str, kind: str = "rsa-2048") -> tuple[Any, bytes]:
    """A new private key and a certificate request in DER."""
    maker = KEYS.get(kind)
    if maker is None:
        raise KMIPError(ResultReason.INVALID_FIELD, f"a client key is one of {', '.join(KEYS)}")
    subject = _subject(name)
    key: Any = maker()
    function = None if kind == "ed25519" else hashes.SHA256()
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, function)
    return key, request.public_bytes(serialization.Encoding.DER)


def _subject(name: str) -> x509.Name:
    try:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    except ValueError as exc:
        raise KMIPError(ResultReason.INVALID_FIELD, "a common name has 1 to 64 characters") from exc


def enrol(peer: Peer, name: str, request: bytes, *, days: int | None = None, namespace: str | None = None) -> Enrolled:
    """Certify a client's request on the rights of `peer`. The name is the one given, whatever the request says; the
    client belongs to a namespace, which is the default one unless an administrator names another."""
    above = authority()
    identity = authn.identify(peer)
    default = conf.current().auth.default_namespace
    decides = _decides(peer, identity)
    home = accounts.namespace(namespace or default).name
    if home != default and not decides:
        raise KMIPError(ResultReason.PERMISSION_DENIED, "only an administrator puts clients into another namespace")
    _check_name(above, home, name, takes_over=decides)
    attributes = _client_attributes(above, name, days)
    payload = CertifyRequest(
        certificate_request_type=CertificateRequestType.PKCS_10,
        certificate_request_value=request,
        attributes=attributes,
    )
    made = engine.execute(Operation.CERTIFY, payload, peer)
    return _enrolled(above, home, name, made.unique_identifier)


def _client_attributes(above: Authority, name: str, days: int | None) -> Attributes:
    accounts.check_username(name)
    attributes = Attributes()
    attributes.link = [
        Link(link_type=LinkType.PRIVATE_KEY_LINK, linked_object_identifier=above.private_key_uid),
        Link(link_type=LinkType.CERTIFICATE_LINK, linked_object_identifier=above.certificate_uid),
    ]
    attributes.update(vendor_text("certificate-subject", _subject(name).rfc4514_string()))
    attributes.update(vendor_text("certificate-profile", "client"))
    attributes.update(vendor_text("certificate-names", "none"))
    if days is not None:
        attributes.update(vendor_text("requested_validity_days", str(days)))
    kind = _NAMED_BY.get(conf.current().auth.certificate_username)
    if kind is not None:
        attributes.alternative_name = [AlternativeName(alternative_name_value=name, alternative_name_type=kind)]
    return attributes


def _check_name(above: Authority, namespace: str, name: str, *, takes_over: bool) -> None:
    """Refuse the name of a client of another authority, or of a person, unless an administrator says so."""
    account = accounts.find(namespace, accounts.check_username(name))
    vouches = certificates.key_name(ca.load(bytes(above.certificate)))
    if account is None or vouches in account.authorities or takes_over:
        return
    if account.authorities or account.password or account.user_id is not None:
        raise KMIPError(ResultReason.PERMISSION_DENIED, "the name belongs to a client of another authority")


def _enrolled(above: Authority, namespace: str, name: str, uid: str) -> Enrolled:
    """Note whose the new certificate is, so that it is let in even where only registered clients are."""
    der = _certificate(uid, above.namespace)
    parsed = ca.load(der)
    vouches = certificates.key_name(ca.load(bytes(above.certificate)))
    account = accounts.ensure(namespace, name)
    _vouch(account, vouches)
    certificates.register(account, parsed, vouches)
    return Enrolled(name, uid, der, tuple(ca.chain_of(der)))


def _certificate(uid: str, namespace: str) -> bytes:
    managed = ca.stored(namespace, uid)
    if managed is None:
        raise _absent("the certificate is gone")
    return ca.certificate_of(managed).public_bytes(serialization.Encoding.DER)


def _vouch(account: Account, authority: str) -> None:
    with transaction.atomic():
        locked = Account.objects.select_for_update().get(pk=account.pk)
        if authority not in locked.authorities:
            locked.authorities = [*locked.authorities, authority]
            locked.save(update_fields=["authorities"])
    account.authorities = locked.authorities


def revoke(peer: Peer, name_or_fingerprint: str, *, superseded: bool = False) -> list[IssuedCertificate]:
    """Revoke a client's certificate by its fingerprint, or all of a client's by its name."""
    rows = IssuedCertificate.objects.filter(revoked__isnull=True, authority__clients=True)
    wanted = name_or_fingerprint.replace(":", "").lower()
    found = list(rows.filter(fingerprint=wanted))
    if not found:
        now = int(time.time())
        found = [row for row in rows.filter(not_after__gte=now) if _named(row.subject) == name_or_fingerprint]
    if not found:
        raise _absent(f"no valid certificate of {name_or_fingerprint[:80]} is here")
    code = RevocationReasonCode.SUPERSEDED if superseded else RevocationReasonCode.CESSATION_OF_OPERATION
    for row in found:
        payload = RevokeRequest(
            unique_identifier=row.uid, revocation_reason=RevocationReason(revocation_reason_code=code)
        )
        try:
            engine.execute(Operation.REVOKE, payload, peer)
        except KMIPError as exc:
            if exc.reason not in _NOT_REVOKED:
                raise
            _mark_revoked(peer, row, code)
    return found


#: Why an object cannot be revoked though its certificate has to be: destroyed, another administrator's, not valid yet.
_NOT_REVOKED: Final = frozenset(
    {
        *(ResultReason.OBJECT_DESTROYED, ResultReason.OBJECT_NOT_FOUND, ResultReason.ITEM_NOT_FOUND),
        *(ResultReason.WRONG_KEY_LIFECYCLE_STATE, ResultReason.OBJECT_ARCHIVED),
    }
)


def _mark_revoked(peer: Peer, row: IssuedCertificate, code: RevocationReasonCode) -> None:
    detail = f"{row.subject} {row.fingerprint}"
    with audit.recorded(administrator(peer), peer, "Revoke Certificate", uid=row.uid, detail=detail):
        ca.mark_revoked(row, code, int(time.time()))


def _named(subject: str) -> str | None:
    try:
        return issuing.common_name(x509.Name.from_rfc4514_string(subject))
    except ValueError:
        return None


# Registration tokens.


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def new_token(peer: Peer, name: str, hours: float | None = None) -> tuple[str, datetime]:
    """A token with which one new client gets a certificate with this name; on the rights of who makes it."""
    identity = administrator(peer)
    above = authority()
    _check_name(above, identity.namespace, name, takes_over=True)
    token = TOKEN_PREFIX + secrets.token_urlsafe(24)
    now = int(time.time())
    expires = now + int(3600 * (hours if hours is not None else conf.current().pki.token_hours))
    with audit.recorded(identity, peer, "Create Registration Token", detail=name):
        RegistrationToken.objects.create(
            digest=_digest(token),
            name=name,
            namespace=identity.namespace,
            created_by=identity.username,
            local=_at_machine(peer) or identity.method == "loopback",
            created=now,
            expires=expires,
        )
    return token, datetime.fromtimestamp(expires, UTC)


def tokens() -> list[RegistrationToken]:
    """The tokens that can still be used, those that end first at the beginning."""
    rows = RegistrationToken.objects.filter(used__isnull=True, expires__gt=int(time.time()))
    return list(rows.order_by("expires", "digest"))


def withdraw_token(peer: Peer, digest: str) -> None:
    """Let a token, known by its digest, be used no more; raises `KMIPError` where there is none."""
    identity = administrator(peer)
    mine = RegistrationToken.objects.filter(digest=digest)
    name = mine.values_list("name", flat=True).first() or ""
    with audit.recorded(identity, peer, "Withdraw Registration Token", detail=name):
        if not mine.filter(used__isnull=True).delete()[0]:
            raise _absent("there is no such token, or it has been used")


def redeem(token: str, request: bytes, address: str) -> Enrolled:
    """Certify the request of a client that brings a token; the token is used up. Raises `KMIPError`."""
    now = int(time.time())
    issuing.read_request(request)  # What is wrong with it is said while the token is still good.
    with transaction.atomic():
        mine = RegistrationToken.objects.filter(digest=_digest(token), used__isnull=True, expires__gt=now)
        if not mine.update(used=now):
            raise KMIPError(
                ResultReason.AUTHENTICATION_NOT_SUCCESSFUL, "the registration token is wrong, used or expired"
            )
        row = RegistrationToken.objects.get(digest=_digest(token))
        acting = _acting(row.namespace, row.created_by, address)
        if not (row.local or authn.identify(acting).administers):
            raise KMIPError(
                ResultReason.AUTHENTICATION_NOT_SUCCESSFUL, "who made the registration token is no administrator now"
            )
        return enrol(acting, row.name, request)


def forget_tokens(now: int | None = None) -> int:
    """Drop tokens that were used or have expired a month ago; how many."""
    before = int(time.time() if now is None else now) - 30 * ca.DAY
    return RegistrationToken.objects.filter(expires__lt=before).delete()[0]


# Renewal.


def renew(peer: Peer, request: bytes | None) -> Enrolled:
    """A new certificate for the client whose certificate the connection was opened with.

    With a certificate request for a new key at any time, for the same key once half of the old one's life is over. The
    handshake has proved that the client holds the old key. The old certificate stays valid until it ends.
    """
    if peer.certificate is None:
        raise KMIPError(ResultReason.AUTHENTICATION_NOT_SUCCESSFUL, "renewal needs the old client certificate")
    holder = authn.identify(Peer(peer.transport, peer.address, peer.certificate, chain=peer.chain))
    name, home = holder.username, holder.namespace
    row = (
        IssuedCertificate.objects.filter(
            fingerprint=issuing.fingerprint(peer.certificate), authority__clients=True, revoked__isnull=True
        )
        .select_related("authority")
        .first()
    )
    if row is None or row.authority is None:
        raise KMIPError(ResultReason.PERMISSION_DENIED, "the certificate was not issued here, or is revoked")
    acting = _acting(row.authority.namespace, _owner(row.authority), peer.address)
    if request is not None:
        return enrol(acting, name, request, namespace=home)
    half = row.not_before + (row.not_after - row.not_before) * RENEWABLE_AFTER
    if time.time() < half:
        moment = datetime.fromtimestamp(half, UTC)
        raise KMIPError(
            ResultReason.PERMISSION_DENIED,
            f"the certificate can be renewed for the same key from {moment:%Y-%m-%d} on; send a certificate request",
        )
    above = authority()
    attributes = _client_attributes(above, name, None)
    payload = CertifyRequest(unique_identifier=row.uid, attributes=attributes)
    made = engine.execute(Operation.CERTIFY, payload, acting)
    return _enrolled(above, home, name, made.unique_identifier)


def _owner(above: Authority) -> str:
    managed = ca.stored(above.namespace, above.private_key_uid)
    if managed is None:
        raise _absent("the authority's private key is gone")
    return managed.owner


# Unknown clients.


def waiting() -> list[WaitingClient]:
    """The certificates of unknown issuers that wait for a decision, the latest first."""
    return list(WaitingClient.objects.filter(decision="").order_by("-last_seen"))


def waiting_count() -> int:
    """How many wait for a decision."""
    return WaitingClient.objects.filter(decision="").count()


def decide(peer: Peer, fingerprint: str, *, accept: bool, name: str | None = None) -> WaitingClient:
    """Accept exactly this certificate as a client's, under its own or another name, or refuse it for good."""
    identity = administrator(peer)
    wanted = fingerprint.replace(":", "").lower()
    found = list(WaitingClient.objects.filter(fingerprint__startswith=wanted)[:2]) if len(wanted) >= 8 else []
    if len(found) != 1:
        raise _absent("no such certificate waits; give at least 8 digits of its fingerprint")
    row = found[0]
    what = "Accept Client" if accept else "Refuse Client"
    with audit.recorded(identity, peer, what, detail=f"{row.subject} {row.fingerprint}"):
        if accept:
            certificate = ca.load(bytes(row.certificate))
            username = name or certificates.username_of(certificate)
            if not username:
                raise KMIPError(ResultReason.INVALID_FIELD, "the certificate names no user: give a name")
            account = accounts.ensure(conf.current().auth.default_namespace, username)
            vouches = f"certificate:{row.fingerprint}"
            _vouch(account, vouches)
            certificates.register(account, certificate, vouches, pinned=True)
        ClientCertificate.objects.filter(fingerprint=row.fingerprint).update(disabled=not accept)
        WaitingClient.objects.filter(fingerprint=row.fingerprint).update(
            decision="accepted" if accept else "refused", decided_by=identity.username, decided=int(time.time())
        )
        ca.changed()
    row.refresh_from_db()
    return row


# Known clients.


def known(beginning: str, after: tuple[str, str, str] | None, limit: int) -> list[ClientCertificate]:
    """The certificates of clients whose names begin so, by name: those after a namespace, name and fingerprint."""
    rows = ClientCertificate.objects.select_related("account").filter(account__username__startswith=beginning)
    if after is not None:
        namespace, name, fingerprint = after
        same = Q(account__namespace=namespace, account__username=name, fingerprint__gt=fingerprint)
        later = Q(account__namespace=namespace, account__username__gt=name)
        rows = rows.filter(same | later | Q(account__namespace__gt=namespace))
    return list(rows.order_by("account__namespace", "account__username", "fingerprint")[:limit])


def certificate_of(fingerprint: str) -> tuple[ClientCertificate | None, IssuedCertificate | None]:
    """What is known of a client's certificate: whose it is, and what an authority here signed or revoked."""
    mine = ClientCertificate.objects.select_related("account").filter(fingerprint=fingerprint).first()
    return mine, IssuedCertificate.objects.select_related("authority").filter(fingerprint=fingerprint).first()
