"""The certificate authorities of this server: who they are, what they signed, what is revoked, whom listeners trust.

An authority is a certificate object of a CA with its private key. It is named by its key, so that a renewed certificate
keeps its revocation list and the addresses that stand in what it has signed. What may be certified for whom is decided
in `operations.certificates`; the bytes are made in `crypto.x509_issuing`.
"""

import functools
import logging
import threading
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple, cast

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID
from django.db import IntegrityError, transaction
from django.db.models import F, Q, QuerySet

from keystore import conf, generations, objects, opened, revocation, states, store, tls
from keystore.crypto import x509_extensions
from keystore.crypto import x509_issuing as issuing
from keystore.crypto.algorithms import PublicKey
from keystore.crypto.x509_errors import UNREADABLE
from keystore.crypto.x509_issuing import Revoked, Signer
from keystore.generations import Kept
from keystore.models import Authority, IssuedCertificate, WaitingClient
from keystore.store import Managed
from kmip.enums import LinkType, ObjectType, ResultReason, RevocationReasonCode, State
from kmip.errors import KMIPError
from kmip.objects import Certificate
from kmip.structures import RevocationReason

log = logging.getLogger(__name__)

DAY: Final = 86400
#: What an OCSP answer is good for; clients keep it so long.
OCSP_SECONDS: Final = 3600
#: Answers that are kept signed, so that questions cost no signature.
OCSP_KEPT: Final = 4096

R = RevocationReasonCode
#: RFC 5280's reasons for KMIP's (2.1, 11.48).
REASONS: Final = {
    R.UNSPECIFIED: x509.ReasonFlags.unspecified,
    R.KEY_COMPROMISE: x509.ReasonFlags.key_compromise,
    R.CA_COMPROMISE: x509.ReasonFlags.ca_compromise,
    R.AFFILIATION_CHANGED: x509.ReasonFlags.affiliation_changed,
    R.SUPERSEDED: x509.ReasonFlags.superseded,
    R.CESSATION_OF_OPERATION: x509.ReasonFlags.cessation_of_operation,
    R.PRIVILEGE_WITHDRAWN: x509.ReasonFlags.privilege_withdrawn,
}

# Profiles.


@functools.lru_cache(maxsize=8)
def _profiles(path: str, _changed: float) -> dict[str, list[x509_extensions.Extension]]:
    texts = {name: f"[{name}]\n{text}" for name, text in issuing.PROFILES.items()}
    found = {name: x509_extensions.of_section(x509_extensions.sections(text)[name]) for name, text in texts.items()}
    if path:
        with open(path, encoding="utf-8") as file:  # noqa: PTH123 - the path is a cache key, so a text
            own = x509_extensions.sections(file.read())
        # Sections that others refer to (alternative names, policies) are no profiles: they have no extensions.
        for name, lines in own.items():
            if any(line.lower() in x509_extensions.EXTENSIONS for line, _ in lines):
                found[name] = x509_extensions.of_section(lines, own)
    return found


def profiles() -> dict[str, list[x509_extensions.Extension]]:
    """The extensions of every profile: those built in, and those of `pki.profiles_file`, which win."""
    path = conf.current().pki.profiles_file
    try:
        return _profiles(str(path or ""), path.stat().st_mtime if path is not None else 0.0)
    except (OSError, UnicodeDecodeError) as exc:
        log.error("pki.profiles_file cannot be read: %s", exc)
        raise KMIPError(ResultReason.GENERAL_FAILURE, "the server's certificate profiles cannot be read") from exc


def profile(name: str) -> list[x509_extensions.Extension]:
    """The extensions of a profile; raises `KMIPError` for an unknown one."""
    found = profiles().get(name)
    if found is None:
        raise KMIPError(ResultReason.INVALID_FIELD, f"there is no certificate profile {name[:64]!r}")
    return list(found)


# Authorities.


def certificate_of(managed: Managed) -> x509.Certificate:
    """The certificate in a Certificate object; raises `KMIPError`."""
    if managed.object_type != ObjectType.CERTIFICATE:
        raise KMIPError(ResultReason.INVALID_OBJECT_TYPE, f"this is a {managed.object_type}, not a certificate")
    found = objects.decode(managed)
    assert isinstance(found, Certificate)
    return load(found.certificate_value)


def load(data: bytes) -> x509.Certificate:
    """A certificate in DER or PEM; raises `KMIPError`."""
    try:
        pem = data.lstrip().startswith(b"-----BEGIN")
        found = x509.load_pem_x509_certificate(data) if pem else x509.load_der_x509_certificate(data)
        found.extensions  # noqa: B018 - it is read here, so that what cannot be is refused here
        return found
    except UNREADABLE as exc:
        raise KMIPError(ResultReason.INVALID_FIELD, "the Certificate Value is not an X.509 certificate") from exc


def linked(managed: Managed, kind: LinkType) -> str | None:
    """The identifier that an object's first link of a kind points to."""
    found = (link.linked_object_identifier for link in managed.attributes.link if link.link_type == kind)
    return next((each for each in found if isinstance(each, str)), None)


def enlist(
    certificate: x509.Certificate, *, uid: str, private_key_uid: str, namespace: str, replaces: bool = True
) -> Authority:
    """Make a CA's certificate object the certificate of its authority, which is new unless its key was known.

    Without `replaces` a known authority keeps the certificate that it has."""
    key_id = issuing.key_identifier(cast(PublicKey, certificate.public_key()))
    values = {
        "certificate_uid": uid,
        "private_key_uid": private_key_uid,
        "certificate": certificate.public_bytes(Encoding.DER),
        "subject": certificate.subject.rfc4514_string()[:512],
    }
    authority, new = Authority.objects.get_or_create(key_id=key_id, defaults={"namespace": namespace, **values})
    if not new and authority.namespace != namespace:
        raise KMIPError(ResultReason.PERMISSION_DENIED, "the key is an authority of another namespace")
    if replaces and not new and authority.certificate_uid != uid:
        # A new list, too: it carries the issuer's name.
        Authority.objects.filter(key_id=key_id).update(changes=F("changes") + 1, **values)
        authority.refresh_from_db()
        if authority.clients:
            changed()
    return authority


class _Server(NamedTuple):
    """The server itself, as the store is asked: in a namespace, with no rights that anything here looks at."""

    namespace: str
    username: str = ""
    principals: tuple[str, ...] = ("*",)


def stored(namespace: str, uid: str) -> Managed | None:
    """An object, for the server's own purposes."""
    return store.fetch(uid, int(time.time()), _Server(namespace))


def authority_at(name: str) -> Authority | None:
    """The authority that an address names: by its key, or by its certificate object in the default namespace."""
    default = conf.current().auth.default_namespace
    return Authority.objects.filter(Q(key_id=name.lower()) | Q(namespace=default, certificate_uid=name)).first()


def authority_of(namespace: str, certificate_uid: str) -> Authority | None:
    """The authority with a certificate object."""
    return Authority.objects.filter(namespace=namespace, certificate_uid=certificate_uid).first()


def signer_of(authority: Authority, now: int) -> Signer:
    """An authority ready to sign its lists; raises `KMIPError` where its key is gone."""
    managed = store.fetch(authority.private_key_uid, now, _Server(authority.namespace))
    if managed is None or managed.state in states.DESTROYED or managed.state == State.PRE_ACTIVE:
        raise KMIPError(ResultReason.WRONG_KEY_LIFECYCLE_STATE, "the authority's private key cannot sign any more")
    return Signer(load(bytes(authority.certificate)), opened.private_key_of(managed))


def addresses(key_id: str) -> list[x509_extensions.Extension]:
    """Where a certificate says that its issuer's list, OCSP service and certificate are, if `pki.url` is set."""
    base = conf.current().pki.url
    if not base:
        return []
    base = f"{base.rstrip('/')}/pki/{key_id}"
    points = [x509.DistributionPoint([x509.UniformResourceIdentifier(f"{base}/crl")], None, None, None)]
    method = AuthorityInformationAccessOID
    access = [
        x509.AccessDescription(method.OCSP, x509.UniformResourceIdentifier(f"{base}/ocsp")),
        x509.AccessDescription(method.CA_ISSUERS, x509.UniformResourceIdentifier(f"{base}/ca")),
    ]
    return [(x509.CRLDistributionPoints(points), False), (x509.AuthorityInformationAccess(access), False)]


# What was signed.


def record(der: bytes, *, uid: str, authority: Authority | None) -> IssuedCertificate:
    """Note a certificate that was signed, or one of others that is about to be revoked."""
    certificate = load(der)
    try:
        with transaction.atomic():
            return IssuedCertificate.objects.create(
                fingerprint=issuing.fingerprint(der),
                authority=authority,
                # Others' serial numbers may be of any length; only those from here are looked for.
                serial=f"{certificate.serial_number:x}"[:42],
                uid=uid,
                subject=certificate.subject.rfc4514_string()[:512],
                signs=issuing.is_authority(certificate),
                not_before=int(certificate.not_valid_before_utc.timestamp()),
                not_after=int(certificate.not_valid_after_utc.timestamp()),
            )
    except IntegrityError:
        found = IssuedCertificate.objects.filter(fingerprint=issuing.fingerprint(der)).first()
        if found is None:
            raise
        return found


def issued(authority: Authority) -> QuerySet[IssuedCertificate]:
    """The certificates of an authority, those that end last first."""
    return IssuedCertificate.objects.filter(authority=authority).order_by("-not_after", "fingerprint")


# Revocation.


def revoke(managed: Managed, reason: RevocationReason, now: int, occurred: int | None = None) -> None:
    """Put a Certificate object that Revoke was called for on its issuer's list, in the caller's transaction.

    Certificates of other issuers are refused by the listeners all the same.
    """
    row = _row_of(managed) if managed.object_type == ObjectType.CERTIFICATE else None
    if row is not None:
        mark_revoked(row, reason.revocation_reason_code, now, occurred)


def _row_of(managed: Managed) -> IssuedCertificate | None:
    """The row of a certificate; of a destroyed one only if an authority here has signed it."""
    if managed.blob is None:
        found = managed.attributes.x_509_certificate_identifier
        if found is None:
            return None
        # The identifier alone may have been another certificate's before.
        serial = int.from_bytes(found.certificate_serial_number[2:], signed=True)
        return IssuedCertificate.objects.filter(uid=managed.uid, serial=f"{serial:x}").first()
    certificate = objects.decode(managed)
    assert isinstance(certificate, Certificate)
    try:
        return record(certificate.certificate_value, uid=managed.uid, authority=None)
    except KMIPError:
        return None  # A PGP certificate, or bytes that were kept as they came.


def mark_revoked(row: IssuedCertificate, code: RevocationReasonCode, now: int, occurred: int | None = None) -> None:
    """Put a certificate on its issuer's list, in the caller's transaction; a compromise is noted later, too."""
    compromised = code in states.COMPROMISES
    if row.revoked is not None and not compromised:
        return
    IssuedCertificate.objects.filter(fingerprint=row.fingerprint).update(
        revoked=row.revoked if row.revoked is not None else now,
        reason=int(code),
        invalid_since=occurred if compromised and occurred else None,
    )
    if row.authority_id is not None:
        Authority.objects.filter(key_id=row.authority_id).update(changes=F("changes") + 1)
    changed()


def _revoked(row: IssuedCertificate) -> Revoked:
    assert row.revoked is not None
    reason = REASONS.get(R(row.reason)) if row.reason is not None else None
    invalid = datetime.fromtimestamp(row.invalid_since, UTC) if row.invalid_since else None
    return Revoked(int(row.serial, 16), datetime.fromtimestamp(row.revoked, UTC), reason, invalid)


def revocation_list(authority: Authority, now: int | None = None) -> bytes:
    """The authority's current list in DER: the one kept, or a new one where something was revoked or half its time is
    over. Raises `KMIPError` where there is none and none can be signed."""
    now = int(time.time()) if now is None else now
    kept = bytes(authority.crl) if authority.crl is not None else None
    if kept is not None and not _due(authority, now):
        return kept
    try:
        signer = signer_of(authority, now)
        if not issuing.may(signer.certificate, "crl_sign"):
            raise KMIPError(ResultReason.INVALID_FIELD, "the authority's key usage does not allow it to sign lists")
    except KMIPError:
        if kept is not None and authority.crl_ends > now:
            return kept
        raise
    # Counted before the rows are read: what is revoked meanwhile makes the list due again.
    changes, number = authority.changes, authority.crl_number + 1
    ends = now + int(conf.current().pki.crl_days * DAY)
    # A revoked certificate stays on one list after it has expired (RFC 5280, 3.3).
    rows = IssuedCertificate.objects.filter(
        authority=authority, revoked__isnull=False, not_after__gte=authority.crl_begins
    )
    made = issuing.revocation_list(
        signer,
        (_revoked(row) for row in rows.order_by("revoked", "serial").iterator()),
        number=number,
        begins=datetime.fromtimestamp(now, UTC),
        ends=datetime.fromtimestamp(ends, UTC),
    )
    mine = Authority.objects.filter(key_id=authority.key_id, crl_number=number - 1).update(
        crl=made, crl_changes=changes, crl_number=number, crl_begins=now, crl_ends=ends
    )
    if mine:
        return made
    # Another process signed this number; its list is as good, unless it lacks what has been revoked since.
    authority.refresh_from_db()
    return revocation_list(authority, now)


def _due(authority: Authority, now: int) -> bool:
    middle = (authority.crl_begins + authority.crl_ends) // 2
    return authority.crl is None or authority.crl_changes != authority.changes or now >= middle


def sign_lists() -> int:
    """Sign the lists that are due; how many. The jobs worker calls it."""
    now = int(time.time())
    count = 0
    for authority in Authority.objects.all():
        if not _due(authority, now):
            continue
        try:
            revocation_list(authority, now)
            count += 1
        except KMIPError as exc:
            log.warning("the revocation list of %s cannot be signed: %s", authority.subject, exc.message)
    return count


class _Answers:
    """OCSP answers that were signed a short while ago."""

    def __init__(self) -> None:
        self._kept: dict[tuple[object, ...], tuple[int, bytes]] = {}
        self._lock = threading.Lock()

    def get(self, key: tuple[object, ...], now: int) -> tuple[int, bytes] | None:
        """When an answer was signed, and the answer, while half its time is not over."""
        found = self._kept.get(key)
        return found if found is not None and now - found[0] < OCSP_SECONDS // 2 else None

    def put(self, key: tuple[object, ...], now: int, answer: bytes) -> None:
        """Keep an answer."""
        with self._lock:
            if len(self._kept) >= OCSP_KEPT:
                self._kept.clear()
            self._kept[key] = (now, answer)


_answers = _Answers()


def ocsp_answer(authority: Authority, question: bytes) -> tuple[bytes, int]:
    """The answer to an OCSP request, and for how many seconds it may be kept.

    Nonces are not answered (RFC 9654 lets a responder do so), so that answers can be kept and a question costs no
    signature.
    """
    asked = issuing.read_ocsp(question)
    if asked is None:
        return issuing.ocsp_refusal(ocsp.OCSPResponseStatus.MALFORMED_REQUEST), 0
    now = int(time.time())
    if not issuing.asks_about(asked, load(bytes(authority.certificate))):
        return issuing.ocsp_refusal(ocsp.OCSPResponseStatus.UNAUTHORIZED), 0
    row = IssuedCertificate.objects.filter(authority=authority, serial=f"{asked.serial:x}").first()
    if row is None:
        # Not kept: any number may be asked about. RFC 6960, 2.2: not a certificate of this issuer.
        return issuing.ocsp_refusal(ocsp.OCSPResponseStatus.UNAUTHORIZED), 0
    key = (authority.key_id, authority.certificate_uid, asked.serial, asked.hashing.name, row.revoked, row.reason)
    kept = _answers.get(key, now)
    if kept is not None:
        return kept[1], OCSP_SECONDS // 2 - (now - kept[0])
    try:
        signer = signer_of(authority, now)
    except KMIPError:
        return issuing.ocsp_refusal(ocsp.OCSPResponseStatus.INTERNAL_ERROR), 0
    status = ocsp.OCSPCertStatus.GOOD if row.revoked is None else ocsp.OCSPCertStatus.REVOKED
    begins = datetime.fromtimestamp(now, UTC)
    answer = issuing.ocsp_answer(
        signer,
        asked,
        status,
        _revoked(row) if row.revoked is not None else None,
        begins=begins,
        ends=begins + timedelta(seconds=OCSP_SECONDS),
    )
    _answers.put(key, now, answer)
    return answer, OCSP_SECONDS // 2


# What listeners trust.


def changed() -> None:
    """Let listeners know that what they trust has changed, and everybody that a client may not be let in any more."""
    generations.changed(Kept.TRUST)
    generations.changed(Kept.IDENTITIES)


def revoked(fingerprint: str) -> bool:
    """Whether a certificate was revoked here, by its SHA-256 in hexadecimal."""
    return bool(revoked_among([fingerprint]))


def revoked_among(fingerprints: Iterable[str]) -> set[str]:
    """Those of some certificates that were revoked here."""
    rows = IssuedCertificate.objects.filter(fingerprint__in=list(fingerprints), revoked__isnull=False)
    return set(rows.values_list("fingerprint", flat=True))


def revoked_fingerprints(now: int) -> dict[str, bool]:
    """Every revoked certificate that has not expired, and whether it is one of a CA."""
    rows = IssuedCertificate.objects.filter(revoked__isnull=False, not_after__gte=now)
    return dict(rows.values_list("fingerprint", "signs"))


def client_authorities() -> list[bytes]:
    """The certificates, in DER, of the authorities whose clients the listeners accept; none that is revoked."""
    rows = Authority.objects.filter(clients=True).values_list("certificate", flat=True)
    found = {issuing.fingerprint(bytes(one)): bytes(one) for one in rows}
    gone = revoked_among(found)
    return [certificate for fingerprint, certificate in found.items() if fingerprint not in gone]


def accepted_clients() -> dict[str, bytes]:
    """The client certificates of unknown issuers that an administrator has accepted: fingerprint -> DER."""
    rows = WaitingClient.objects.filter(decision="accepted")
    return {fingerprint: bytes(der) for fingerprint, der in rows.values_list("fingerprint", "certificate")}


def trust_clients(authority: Authority, *, trusted: bool) -> None:
    """Let the listeners accept, or no longer accept, the clients that an authority certifies."""
    Authority.objects.filter(key_id=authority.key_id).update(clients=trusted)
    authority.clients = trusted
    changed()


def chain_of(der: bytes) -> list[bytes]:
    """The certificates above one that an authority here has signed, as far as they are here."""
    chain: list[bytes] = []
    last = load(der)
    for _ in range(8):
        if last.subject == last.issuer:
            break
        issuer = _issuer_of(last)
        if issuer is None or issuer in chain:
            break
        chain.append(issuer)
        last = load(issuer)
    return chain


def _issuer_of(certificate: x509.Certificate) -> bytes | None:
    try:
        identifier = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    except x509.ExtensionNotFound:
        return None
    found = Authority.objects.filter(key_id=identifier.hex()).first() if identifier else None
    return bytes(found.certificate) if found is not None else None


def by_subject(subject: x509.Name) -> Iterable[x509.Certificate]:
    """The certificates of the authorities with a subject."""
    rows = Authority.objects.filter(subject=subject.rfc4514_string()[:512])
    return [load(bytes(each)) for each in rows.values_list("certificate", flat=True)]


def configured() -> list[x509.Certificate]:
    """The clients' CAs that the settings name."""
    config = conf.current()
    return tls.client_authorities(config) if config.tls.clients_ca_cert_file is not None else []


def is_revoked(certificate: x509.Certificate) -> bool:
    """Whether a certificate was revoked here, or stands on one of the configured lists."""
    if revoked(issuing.fingerprint(certificate.public_bytes(Encoding.DER))):
        return True
    return any(each.subject == certificate.issuer for each in configured()) and revocation.is_revoked(certificate)
