"""Operations of a certificate authority: Certify, Re-certify, Validate.

Whoever has the right to Certify on an authority's private key may have anything signed by it; nobody else may. What the
specification has no words for, a request says in vendor attributes (of any vendor, `x-` in 1.x), which are not kept:

    certificate-profile      name of a profile: server, client, intermediate, ... (docs/pki.md)
    certificate-subject      subject that takes precedence over the certificate request's, as RFC 4514 text
    certificate-names        "none": the certificate request's alternative names are left out
    x509-extension           extensions in OpenSSL's notation
    requested_validity_days  days from now
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from keystore import ca, conf, objects, opened, store
from keystore.call import Call, operation
from keystore.crypto import certificates, keys, x509_extensions, x509_paths
from keystore.crypto import x509_issuing as issuing
from keystore.crypto.algorithms import PublicKey
from keystore.crypto.x509_extensions import Extension
from keystore.crypto.x509_issuing import Plan, Scheme, Signer
from keystore.models import Authority
from keystore.operations import create
from keystore.store import Managed
from kmip.attributes import Attributes, Key, Vendor
from kmip.enums import (
    AlternativeNameType,
    CertificateRequestType,
    CertificateType,
    CryptographicUsageMask,
    KeyFormatType,
    LinkType,
    ObjectType,
    Operation,
    ResultReason,
    State,
    ValidityIndicator,
)
from kmip.errors import KMIPError
from kmip.objects import Certificate, CertificateRequest
from kmip.payloads import (
    CertifyRequest,
    CertifyResponse,
    ReCertifyRequest,
    ReCertifyResponse,
    ValidateRequest,
    ValidateResponse,
)
from kmip.structures import Identifier, Link
from kmip.tags import Tag

M = CryptographicUsageMask
L = LinkType

#: Attributes of a request that describe the subject; the server sets them on the object from the certificate.
_SUBJECT_TAGS = frozenset(subject for subject, _ in certificates.NAMES.values())
_NAMES = {subject: oid for oid, (subject, _) in certificates.NAMES.items()}
#: The order in which subjects are written: from the largest to the smallest.
_ORDER = (
    NameOID.COUNTRY_NAME,
    NameOID.STATE_OR_PROVINCE_NAME,
    NameOID.LOCALITY_NAME,
    NameOID.DOMAIN_COMPONENT,
    NameOID.ORGANIZATION_NAME,
    NameOID.ORGANIZATIONAL_UNIT_NAME,
    NameOID.TITLE,
    NameOID.DN_QUALIFIER,
    NameOID.SERIAL_NUMBER,
    NameOID.USER_ID,
    NameOID.COMMON_NAME,
    NameOID.EMAIL_ADDRESS,
)
_TAKEN = _SUBJECT_TAGS | {
    *(Tag.X_509_CERTIFICATE_SUBJECT, Tag.CERTIFICATE_SUBJECT, Tag.ALTERNATIVE_NAME, Tag.LINK),
    *(Tag.CRYPTOGRAPHIC_ALGORITHM, Tag.CRYPTOGRAPHIC_LENGTH, Tag.CRYPTOGRAPHIC_DOMAIN_PARAMETERS),
    *(Tag.CRYPTOGRAPHIC_PARAMETERS, Tag.DIGITAL_SIGNATURE_ALGORITHM),
}
_ALTERNATIVE = {
    AlternativeNameType.URI: "URI",
    AlternativeNameType.EMAIL_ADDRESS: "email",
    AlternativeNameType.DNS_NAME: "DNS",
    AlternativeNameType.IP_ADDRESS: "IP",
    AlternativeNameType.X_500_DISTINGUISHED_NAME: "dirName",
}
#: Key usages for the bits of a Cryptographic Usage Mask, and the other way.
_USAGES: tuple[tuple[CryptographicUsageMask, str], ...] = (
    (M.SIGN, "digital_signature"),
    (M.VERIFY, "digital_signature"),
    (M.CONTENT_COMMITMENT_NON_REPUDIATION, "content_commitment"),
    (M.WRAP_KEY, "key_encipherment"),
    (M.UNWRAP_KEY, "key_encipherment"),
    (M.ENCRYPT, "data_encipherment"),
    (M.DECRYPT, "data_encipherment"),
    (M.KEY_AGREEMENT, "key_agreement"),
    (M.CERTIFICATE_SIGN, "key_cert_sign"),
    (M.CRL_SIGN, "crl_sign"),
)
_OBJECT_USAGES = {
    "digital_signature": M.VERIFY,
    "content_commitment": M.CONTENT_COMMITMENT_NON_REPUDIATION,
    "key_encipherment": M.WRAP_KEY,
    "data_encipherment": M.ENCRYPT,
    "key_agreement": M.KEY_AGREEMENT,
    "key_cert_sign": M.CERTIFICATE_SIGN,
    "crl_sign": M.CRL_SIGN,
}
#: Extensions that a renewed certificate has again.
_RENEWED = (
    x509.BasicConstraints,
    x509.KeyUsage,
    x509.ExtendedKeyUsage,
    x509.SubjectAlternativeName,
    x509.NameConstraints,
    x509.CertificatePolicies,
    x509.PolicyConstraints,
    x509.InhibitAnyPolicy,
)
#: Usage that lets an authority's key sign; the dialect's Unrestricted allows all.
_SIGNS = M.CERTIFICATE_SIGN | M.SIGN | M.UNRESTRICTED


@dataclass(slots=True)
class Wanted:
    """What a request asks of a certificate, apart from whose key it is."""

    #: The attributes that the object will have.
    attributes: Attributes
    #: Everything that was asked, with what is taken out of `attributes`.
    given: Attributes
    subject: x509.Name | None = None
    subject_wins: bool = False
    #: Whether the certificate request's alternative names are left out.
    own_names: bool = False
    names: list[x509.GeneralName] = field(default_factory=list)
    extensions: list[Extension] | None = None
    profile: str | None = None
    days: int | None = None


@dataclass(slots=True)
class Subject:
    """Whose key is certified: where it comes from, and what it brings along."""

    public_key: PublicKey
    name: x509.Name | None = None
    extensions: list[Extension] = field(default_factory=list)
    public: Managed | None = None
    private_uid: str | None = None
    #: The certificate that is certified anew.
    certificate: Managed | None = None


@dataclass(slots=True)
class Issuer:
    """Who signs: an authority, or the subject's own key."""

    signer: Signer
    private: Managed
    #: None where the certificate is self-signed.
    certificate_uid: str | None
    authority: Authority | None = None


def _found(call: Call, identifier: Identifier | None, **options: Any) -> Managed:
    """An object by identifier; Certify names an absent one as its section does (2.1, 6.1.6.1)."""
    try:
        return call.live(identifier, **options)
    except KMIPError as exc:
        if call.operation == Operation.CERTIFY and exc.reason == ResultReason.OBJECT_NOT_FOUND:
            raise KMIPError(ResultReason.ITEM_NOT_FOUND, exc.message) from exc
        raise


# What is wanted.


def _vendor(attributes: Attributes, name: str) -> Any:
    """The value of a vendor attribute, whoever the vendor is."""
    for key in attributes:
        if isinstance(key, Vendor) and _same(key, name):
            item = attributes.first(key)
            return item.value if item is not None else None
    return None


def _same(key: Vendor, name: str) -> bool:
    # In 1.x the vendor is what stands before the first dash, which such names have themselves.
    return name.replace("_", "-") in (key.name.replace("_", "-"), key.title.replace("_", "-"))


_DIRECTIVES = (
    "certificate-profile",
    "certificate-subject",
    "certificate-names",
    "x509-extension",
    "requested-validity-days",
)


def _is_directive(key: Key) -> bool:
    return isinstance(key, Vendor) and any(_same(key, name) for name in _DIRECTIVES)


def _text(value: Any, name: str) -> str | None:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if value is not None and not isinstance(value, str):
        raise KMIPError(ResultReason.INVALID_FIELD, f"{name} is a text")
    return value


def _wanted(call: Call, requested: Attributes | None) -> Wanted:
    given = requested.copy() if requested is not None else Attributes()
    if requested is not None:
        given.templates = requested.templates
    kept = Attributes({key: values for key, values in given.items() if key not in _TAKEN and not _is_directive(key)})
    kept.templates = given.templates
    attributes = create.asked(call, ObjectType.CERTIFICATE, kept)
    kind = attributes.certificate_type
    if kind is not None and kind != CertificateType.X_509:
        raise KMIPError(ResultReason.FEATURE_NOT_SUPPORTED, f"certificates of type {kind} are not made here")
    wanted = Wanted(attributes, given)
    profile = _text(_vendor(given, "certificate-profile"), "certificate-profile")
    wanted.profile = profile.strip() if profile else None
    wanted.own_names = _text(_vendor(given, "certificate-names"), "certificate-names") == "none"
    extensions = _vendor(given, "x509-extension")
    if extensions:
        wanted.extensions = x509_extensions.read(extensions)
    wanted.days = _days(_vendor(given, "requested_validity_days"))
    _take_subject(wanted)
    return wanted


def _days(value: Any) -> int | None:
    if value is None or value == "" or value == b"":
        return None
    try:
        days = int(_text(value, "requested_validity_days") or 0) if isinstance(value, str | bytes) else int(value)
    except ValueError as exc:
        raise KMIPError(ResultReason.INVALID_FIELD, "requested_validity_days is a number of days") from exc
    if not 0 < days <= 36500:
        raise KMIPError(ResultReason.INVALID_FIELD, "requested_validity_days is 1 to 36500")
    return days


def _take_subject(wanted: Wanted) -> None:
    """Subject and alternative names, in whichever of the attributes they stand."""
    given = wanted.given
    override = _text(_vendor(given, "certificate-subject"), "certificate-subject")
    x500, text = given.x_509_certificate_subject, given.certificate_subject
    parts = [
        x509.NameAttribute(oid, str(value))
        for oid in _ORDER
        for value in given.get(certificates.NAMES[oid][0], {}).values()
        if value
    ]
    try:
        if override:
            wanted.subject, wanted.subject_wins = x509.Name.from_rfc4514_string(override), True
        elif x500 is not None and x500.subject_distinguished_name:
            wanted.subject = _name_from_der(x500.subject_distinguished_name)
        elif parts:
            wanted.subject = x509.Name(parts)
        elif text is not None and text.certificate_subject_distinguished_name:
            wanted.subject = x509.Name.from_rfc4514_string(text.certificate_subject_distinguished_name)
        for name in given.alternative_name:
            kind = _ALTERNATIVE.get(name.alternative_name_type)
            if kind is not None:
                wanted.names.append(x509_extensions.general_name(kind, name.alternative_name_value))
        alternative = text.certificate_subject_alternative_name if text is not None else None
        for part in (alternative or "").split(","):
            kind, colon, value = part.strip().partition(":")
            if colon:
                wanted.names.append(x509_extensions.general_name(kind, value))
    except ValueError as exc:
        raise KMIPError(ResultReason.INVALID_FIELD, "the certificate's subject is not a distinguished name") from exc


def _name_from_der(data: bytes) -> x509.Name:
    """A name from its DER, which the library reads inside of a certificate request only."""
    body = b"\x02\x01\x00" + data + _EMPTY_KEY + b"\xa0\x00"
    outer = _der(0x30, _der(0x30, body) + _SIGNATURE)
    return x509.load_der_x509_csr(outer).subject


def _der(tag: int, body: bytes) -> bytes:
    size = len(body)
    if size < 0x80:
        return bytes([tag, size]) + body
    length = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes([tag, 0x80 | len(length)]) + length + body


# A public key of Ed25519 and a signature, both zero: only the name between them is looked at.
_ED25519 = bytes.fromhex("300506032b6570")
_EMPTY_KEY = _der(0x30, _ED25519 + _der(0x03, bytes(33)))
_SIGNATURE = _ED25519 + _der(0x03, bytes(65))


# Whose key.


def _subject(call: Call, request: CertifyRequest, wanted: Wanted) -> Subject:
    data = _request_bytes(request)
    identifier = request.unique_identifier
    if data is not None:
        subject = _from_request(data, request.certificate_request_type)
        if identifier is not None:
            public = _public(call, identifier)
            if not _equal(opened.public_key_of(public), subject.public_key):
                raise KMIPError(ResultReason.INVALID_CSR, "the certificate request is not for this public key")
            subject.public = public
            subject.private_uid = ca.linked(public, L.PRIVATE_KEY_LINK)
        return subject
    if identifier is None and (call.prepared is not None):
        return _new_pair(call, wanted)
    return _from_object(call, identifier)


def _request_bytes(request: CertifyRequest | ReCertifyRequest) -> bytes | None:
    return request.certificate_request_value or request.certificate_request


def _from_request(data: bytes, kind: CertificateRequestType | None) -> Subject:
    read = issuing.read_request(data, kind)
    name = read.subject if list(read.subject) else None
    return Subject(read.public_key, name, issuing.requested(read))


def _equal(one: PublicKey, other: PublicKey) -> bool:
    return bool(one == other)


def _public(call: Call, identifier: Identifier | None) -> Managed:
    public = _found(call, identifier)
    if public.object_type != ObjectType.PUBLIC_KEY:
        raise KMIPError(ResultReason.INVALID_OBJECT_TYPE, f"a {public.object_type} is not a public key")
    return public


def _from_object(call: Call, identifier: Identifier | None) -> Subject:
    """The key of a Public Key, Certificate Request or, to certify it anew, Certificate object."""
    managed = _found(call, identifier)
    if managed.object_type == ObjectType.PUBLIC_KEY:
        return Subject(
            opened.public_key_of(managed), public=managed, private_uid=ca.linked(managed, L.PRIVATE_KEY_LINK)
        )
    if managed.object_type == ObjectType.CERTIFICATE_REQUEST:
        found = objects.decode(managed)
        assert isinstance(found, CertificateRequest)
        return _from_request(found.certificate_request_value, found.certificate_request_type)
    if managed.object_type == ObjectType.CERTIFICATE:
        return _from_certificate(call, managed)
    raise KMIPError(ResultReason.INVALID_OBJECT_TYPE, f"a {managed.object_type} cannot be certified")


def _from_certificate(call: Call, managed: Managed) -> Subject:
    certificate = ca.certificate_of(managed)
    extensions: list[Extension] = [
        (each.value, each.critical) for each in certificate.extensions if isinstance(each.value, _RENEWED)
    ]
    public_uid = ca.linked(managed, L.PUBLIC_KEY_LINK)
    public = _optional(call, public_uid, change=True)
    private_uid = ca.linked(managed, L.PRIVATE_KEY_LINK)
    if private_uid is None and public is not None:
        private_uid = ca.linked(public, L.PRIVATE_KEY_LINK)
    key = cast(PublicKey, certificate.public_key())
    return Subject(key, certificate.subject, extensions, public, private_uid, managed)


def _optional(call: Call, uid: str | None, *, change: bool) -> Managed | None:
    """An object that another points to, if it is still there and may be certified by the caller."""
    if uid is None:
        return None
    try:
        return call.live(uid, right=Operation.CERTIFY, change=change)
    except KMIPError:
        return None


def _prepare(call: Call, request: CertifyRequest) -> keys.Pair | None:
    """A key pair made on the way: for a request that has neither key nor certificate request but an algorithm."""
    given = request.attributes
    if given is None or given.cryptographic_algorithm is None or request.unique_identifier is not None:
        return None
    if _request_bytes(request) is not None or call.batch.placeholder is not None:
        return None
    domain = given.cryptographic_domain_parameters
    return keys.generate_pair(
        given.cryptographic_algorithm,
        given.cryptographic_length,
        curve=domain.recommended_curve if domain is not None else None,
        policy=call.crypto_policy,
    )


def _new_pair(call: Call, wanted: Wanted) -> Subject:
    pair: keys.Pair = call.prepared
    private_uid = store.new_uid()
    public_uid = private_uid + "_pk" if call.dialect else store.new_uid()
    tags = Attributes({key: values for key, values in wanted.attributes.items() if _is_tag(key)})
    private_mask, public_mask = _masks(pair)
    private = _store_key(call, ObjectType.PRIVATE_KEY, pair.private, private_uid, private_mask, tags, public_uid)
    public = _store_key(call, ObjectType.PUBLIC_KEY, pair.public, public_uid, public_mask, tags, private.uid)
    return Subject(keys.load_public(pair.public.data), public=public, private_uid=private_uid)


def _is_tag(key: Key) -> bool:
    return isinstance(key, Vendor) and key.name == "tag"


def _masks(pair: keys.Pair) -> tuple[int, int]:
    """Usage masks of a new pair: what keys of its algorithm can do with certificates."""
    public = keys.load_public(pair.public.data)
    if hasattr(public, "verify"):
        private_mask, public_mask = M.SIGN | M.CERTIFICATE_SIGN | M.CRL_SIGN, M.VERIFY
        if hasattr(public, "encrypt"):
            private_mask, public_mask = private_mask | M.DECRYPT | M.UNWRAP_KEY, public_mask | M.ENCRYPT | M.WRAP_KEY
        return int(private_mask), int(public_mask)
    if hasattr(public, "encapsulate"):
        return int(M.DECRYPT | M.UNWRAP_KEY), int(M.ENCRYPT | M.WRAP_KEY)
    return int(M.KEY_AGREEMENT), int(M.KEY_AGREEMENT)


def _store_key(
    call: Call, object_type: ObjectType, key: keys.Key, uid: str, mask: int, tags: Attributes, partner: str
) -> Managed:
    attributes = tags.copy()
    attributes.cryptographic_usage_mask = mask
    attributes.activation_date = call.now
    kind = L.PUBLIC_KEY_LINK if object_type == ObjectType.PRIVATE_KEY else L.PRIVATE_KEY_LINK
    attributes.link = [Link(link_type=kind, linked_object_identifier=partner)]
    format_ = keys.default_format(object_type, key.algorithm, key.curve)
    material = keys.write(object_type, key.data, format_)
    return _save_new(
        call, object_type, objects.keyed(object_type, material, format_, key.algorithm, key.bits), attributes, uid
    )


def _save_new(call: Call, object_type: ObjectType, managed_object: Any, attributes: Attributes, uid: str) -> Managed:
    managed = objects.new(
        uid,
        call.identity.namespace,
        call.identity.username,
        managed_object,
        attributes,
        object_type=object_type,
        now=call.now,
        generated=object_type != ObjectType.CERTIFICATE,
    )
    store.save(managed)
    return managed


# Who signs.


def _issuer(call: Call, wanted: Wanted, subject: Subject) -> Issuer:
    """The issuer that the request links to, else the configured one, else the subject's own key."""
    links = {link.link_type: call.resolve(link.linked_object_identifier) for link in wanted.given.link}
    private_uid, certificate_uid = links.get(L.PRIVATE_KEY_LINK), links.get(L.CERTIFICATE_LINK)
    if private_uid is None and certificate_uid is None:
        certificate_uid = conf.current().pki.issuer
        if certificate_uid is None:
            return _own(call, subject)
    if certificate_uid is None:
        assert private_uid is not None
        private = _signing_key(call, private_uid)
        certificate_uid = _certificate_uid(call, private)
    else:
        authority = ca.authority_of(call.identity.namespace, certificate_uid)
        if private_uid is None:
            private_uid = authority.private_key_uid if authority is not None else _private_uid(call, certificate_uid)
        private = _signing_key(call, private_uid)
    authority = ca.authority_of(call.identity.namespace, certificate_uid)
    if authority is not None and authority.private_key_uid == private.uid:
        certificate = ca.load(bytes(authority.certificate))
    else:
        managed = _found(call, certificate_uid, right=Operation.CERTIFY, change=False)
        certificate = ca.certificate_of(managed)
        if managed.state in (State.COMPROMISED, State.DEACTIVATED):
            raise KMIPError(ResultReason.WRONG_KEY_LIFECYCLE_STATE, "the issuer's certificate is not active")
    key = opened.private_key_of(private)
    if not _equal(cast(PublicKey, certificate.public_key()), key.public_key()):
        raise KMIPError(ResultReason.INVALID_FIELD, "the issuer's certificate is not one of its private key")
    issuing.check_authority(certificate, False)
    if ca.revoked(issuing.fingerprint(certificate.public_bytes(Encoding.DER))):
        raise KMIPError(ResultReason.WRONG_KEY_LIFECYCLE_STATE, "the issuer's certificate is revoked")
    authority = ca.enlist(
        certificate,
        uid=certificate_uid,
        private_key_uid=private.uid,
        namespace=call.identity.namespace,
        replaces=_owns(call, private),
    )
    return Issuer(Signer(certificate, key), private, certificate_uid, authority)


def _owns(call: Call, private: Managed) -> bool:
    """Whether the caller may say which certificate is that of an authority; the right to certify is not enough."""
    return private.owner == call.identity.username or call.identity.administers


def _own(call: Call, subject: Subject) -> Issuer:
    if subject.private_uid is None:
        raise KMIPError(
            ResultReason.INVALID_FIELD,
            "no issuer: link to a CA's private key or certificate, or set pki.issuer; "
            "the private key that would sign it by itself is not here",
        )
    private = _signing_key(call, subject.private_uid)
    key = opened.private_key_of(private)
    if not _equal(key.public_key(), subject.public_key):
        raise KMIPError(ResultReason.INVALID_FIELD, "the private key is not the public key's")
    # There is no certificate yet; the signer's is never looked at for one that signs itself.
    return Issuer(Signer(cast(Any, None), key), private, None)


def _signing_key(call: Call, uid: str) -> Managed:
    """A private key that may sign certificates for the caller."""
    private = _found(call, uid, right=Operation.CERTIFY, change=False)
    if private.object_type != ObjectType.PRIVATE_KEY:
        raise KMIPError(ResultReason.INVALID_OBJECT_TYPE, f"a {private.object_type} does not sign certificates")
    if private.state != State.ACTIVE:
        raise KMIPError(
            ResultReason.WRONG_KEY_LIFECYCLE_STATE, f"the issuer's private key is {private.state}, not Active"
        )
    if not (private.attributes.cryptographic_usage_mask or 0) & _SIGNS:
        raise KMIPError(
            ResultReason.INCOMPATIBLE_CRYPTOGRAPHIC_USAGE_MASK,
            "the issuer's private key has neither Certificate Sign nor Sign in its usage mask",
        )
    return private


def _certificate_uid(call: Call, private: Managed) -> str:
    """The CA certificate of a private key: linked from it, from its public key, or known as an authority."""
    known = Authority.objects.filter(namespace=private.namespace, private_key_uid=private.uid).first()
    if known is not None:
        return known.certificate_uid
    found = ca.linked(private, L.CERTIFICATE_LINK) or ca.linked(private, L.PKCS_12_CERTIFICATE_LINK)
    public = _optional(call, ca.linked(private, L.PUBLIC_KEY_LINK), change=False)
    if found is None and public is not None:
        found = ca.linked(public, L.CERTIFICATE_LINK)
    if found is None:
        raise KMIPError(ResultReason.INVALID_FIELD, "the issuer's private key has no link to its certificate")
    return found


def _private_uid(call: Call, certificate_uid: str) -> str:
    certificate = _found(call, certificate_uid, right=Operation.CERTIFY, change=False)
    found = ca.linked(certificate, L.PRIVATE_KEY_LINK)
    public = _optional(call, ca.linked(certificate, L.PUBLIC_KEY_LINK), change=False)
    if found is None and public is not None:
        found = ca.linked(public, L.PRIVATE_KEY_LINK)
    if found is None:
        raise KMIPError(ResultReason.INVALID_FIELD, "the issuer's certificate has no link to its private key")
    return found


# Making it.


def _plan(call: Call, wanted: Wanted, subject: Subject, issuer: Issuer) -> Plan:
    name = subject.name
    if name is None or (wanted.subject_wins and wanted.subject is not None):
        name = wanted.subject
    if name is None:
        named = wanted.attributes.name or (subject.public.attributes.name if subject.public is not None else [])
        if not named and not wanted.names:
            raise KMIPError(ResultReason.INVALID_FIELD, "the certificate needs a subject")
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, named[0].name_value[:64])] if named else [])
    extensions = _extensions(wanted, subject, issuer)
    plan = Plan(name, subject.public_key, *_validity(call, wanted, extensions), extensions)
    if issuer.authority is not None:
        for extension, critical in ca.addresses(issuer.authority.key_id):
            plan.add(extension, critical=critical)
    return plan


def _extensions(wanted: Wanted, subject: Subject, issuer: Issuer) -> list[Extension]:
    """Extensions by precedence: the request's own text, its profile, the certificate request, attributes, a default.

    A certificate request brings names always, and usages where neither text nor profile says which.
    """
    plan = Plan(x509.Name([]), subject.public_key, _EPOCH, _EPOCH)
    for extension, critical in wanted.extensions or ():
        plan.add(extension, critical=critical)
    if wanted.profile is not None:
        for extension, critical in ca.profile(wanted.profile):
            plan.add(extension, critical=critical)
    decided = wanted.extensions is not None or wanted.profile is not None
    for extension, critical in subject.extensions:
        is_names = isinstance(extension, x509.SubjectAlternativeName)
        if (is_names and wanted.own_names) or (decided and subject.certificate is None and not is_names):
            continue
        plan.add(extension, critical=critical)
    if wanted.names:
        plan.add(x509.SubjectAlternativeName(wanted.names))
    if not decided and subject.certificate is None:
        mask = wanted.attributes.cryptographic_usage_mask
        bits = {bit for flag, bit in _USAGES if (mask or 0) & flag}
        if "key_cert_sign" in bits:
            plan.add(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        if bits:
            plan.add(x509_extensions.usage(*bits), critical=True)
        default = "root" if issuer.certificate_uid is None and not bits else "end-entity"
        for extension, critical in ca.profile(default):
            plan.add(extension, critical=critical)
    return plan.extensions


_EPOCH = datetime.fromtimestamp(0, UTC)


def _validity(call: Call, wanted: Wanted, extensions: list[Extension]) -> tuple[datetime, datetime]:
    settings = conf.current().pki
    attributes = wanted.attributes
    begins = datetime.fromtimestamp(call.now, UTC) - issuing.BACKDATED
    if attributes.activation_date is not None:
        begins = _moment(attributes.activation_date)
    authority = any(isinstance(each, x509.BasicConstraints) and each.ca for each, _ in extensions)
    days = wanted.days or (settings.authority_days if authority else settings.validity_days)
    if wanted.days is None and attributes.deactivation_date is not None:
        return begins, _moment(attributes.deactivation_date)
    return begins, max(begins, datetime.fromtimestamp(call.now, UTC)) + timedelta(days=days)


def _moment(seconds: int) -> datetime:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError) as exc:
        raise KMIPError(ResultReason.INVALID_FIELD, "a date is out of the range of certificates") from exc


def _scheme(call: Call, wanted: Wanted, issuer: Issuer) -> Scheme:
    parameters = next(iter(wanted.given.cryptographic_parameters), None)
    algorithms = wanted.given.digital_signature_algorithm
    return issuing.scheme(
        issuer.signer.key,
        algorithms[0] if algorithms else getattr(parameters, "digital_signature_algorithm", None),
        getattr(parameters, "hashing_algorithm", None),
        policy=call.crypto_policy,
    )


def _issue(call: Call, wanted: Wanted, subject: Subject) -> tuple[Managed, Issuer]:
    """Sign, store and link a certificate."""
    issuing.check_key(subject.public_key, policy=call.crypto_policy)
    issuer = _issuer(call, wanted, subject)
    plan = _plan(call, wanted, subject, issuer)
    own = issuer.certificate_uid is None
    der = issuing.issue(
        plan, None if own else issuer.signer, issuer.signer.key if own else None, _scheme(call, wanted, issuer)
    )
    certificate = ca.load(der)
    attributes = wanted.attributes
    # The object lives as long as the certificate is valid.
    attributes.activation_date = int(certificate.not_valid_before_utc.timestamp())
    attributes.deactivation_date = int(certificate.not_valid_after_utc.timestamp())
    attributes.cryptographic_usage_mask = _mask(certificate)
    if subject.public is None:
        subject.public = _public_of_request(call, subject.public_key)
    links = [Link(link_type=L.PUBLIC_KEY_LINK, linked_object_identifier=subject.public.uid)]
    if subject.private_uid is not None:
        links.append(Link(link_type=L.PRIVATE_KEY_LINK, linked_object_identifier=subject.private_uid))
    uid = create.chosen_uid(attributes)
    if issuer.certificate_uid is not None:
        links.append(Link(link_type=L.CERTIFICATE_LINK, linked_object_identifier=issuer.certificate_uid))
    attributes.link = links
    made = Certificate(certificate_type=CertificateType.X_509, certificate_value=der)
    managed = _save_new(call, ObjectType.CERTIFICATE, made, attributes, uid)
    ca.record(der, uid=uid, authority=issuer.authority)
    private = _optional(call, subject.private_uid, change=True)
    if plan.is_authority and private is not None:
        ca.enlist(
            certificate,
            uid=uid,
            private_key_uid=private.uid,
            namespace=call.identity.namespace,
            replaces=_owns(call, private),
        )
    _link_key(call, subject, private, uid)
    return managed, issuer


def _mask(certificate: x509.Certificate) -> int:
    """What the holder's public key may be used for."""
    return int(sum({int(flag) for name, flag in _OBJECT_USAGES.items() if issuing.may(certificate, name)}))


def _public_of_request(call: Call, key: PublicKey) -> Managed:
    """A Public Key object for the key of a certificate request, to which the certificate links (2.1, 6.1.6)."""
    found = keys.public_key(key)
    format_ = KeyFormatType.X_509
    attributes = Attributes()
    attributes.activation_date = call.now
    attributes.cryptographic_usage_mask = int(M.VERIFY if hasattr(key, "verify") else 0)
    made = objects.keyed(
        ObjectType.PUBLIC_KEY,
        keys.write(ObjectType.PUBLIC_KEY, found.data, format_),
        format_,
        found.algorithm,
        found.bits,
    )
    return _save_new(call, ObjectType.PUBLIC_KEY, made, attributes, store.new_uid())


def _link_key(call: Call, subject: Subject, private: Managed | None, uid: str) -> None:
    """Point public key, and private key if it is here, to the new certificate instead of the one it replaces."""
    old = subject.certificate.uid if subject.certificate is not None else None
    assert subject.public is not None
    _relink(call, subject.public, uid, old, (L.CERTIFICATE_LINK, L.PKCS_12_CERTIFICATE_LINK))
    if private is not None:
        _relink(call, private, uid, old, (L.CERTIFICATE_LINK,))


def _relink(call: Call, managed: Managed, uid: str, old: str | None, kinds: Iterable[LinkType]) -> None:
    links = [link for link in managed.attributes.link if link.link_type not in kinds or not _replaces(link, old)]
    links += [Link(link_type=kind, linked_object_identifier=uid) for kind in kinds]
    managed.attributes.link = links
    managed.attributes.last_change_date = call.now
    store.save(managed)


def _replaces(link: Link, old: str | None) -> bool:
    # Only one certificate is the one for PKCS#12; several may hold the same key.
    return link.link_type == L.PKCS_12_CERTIFICATE_LINK or link.linked_object_identifier == old


@operation(Operation.CERTIFY, prepare=_prepare)
def certify(call: Call, request: CertifyRequest) -> CertifyResponse:
    """Make a certificate for a public key (KMIP 2.1, 6.1.6)."""
    wanted = _wanted(call, request.attributes)
    managed, _ = _issue(call, wanted, _subject(call, request, wanted))
    call.returns(managed.uid)
    return CertifyResponse(unique_identifier=managed.uid)


@operation(Operation.RE_CERTIFY)
def re_certify(call: Call, request: ReCertifyRequest) -> ReCertifyResponse:
    """Renew a certificate for the same key pair (KMIP 2.1, 6.1.45)."""
    existing = call.live(request.unique_identifier)
    if existing.object_type != ObjectType.CERTIFICATE:
        raise KMIPError(
            ResultReason.INVALID_OBJECT_TYPE, f"a {existing.object_type} cannot be renewed as a certificate"
        )
    wanted = _wanted(call, request.attributes)
    subject = _from_certificate(call, existing)
    asked = _renewal_request(call, request)
    if asked is not None:
        if not _equal(asked.public_key, subject.public_key):
            raise KMIPError(ResultReason.INVALID_CSR, "the certificate request is for another key")
        subject.name = asked.name or subject.name
        brought = {type(extension) for extension, _ in asked.extensions}
        subject.extensions = [*asked.extensions, *(each for each in subject.extensions if type(each[0]) not in brought)]
    _renewed_attributes(call, request, wanted, existing)
    if not wanted.given.link:
        _same_issuer(wanted, existing)
    old = existing.attributes
    wanted.attributes.rotate_generation = (old.rotate_generation or 0) + 1
    old.rotate_latest, old.rotate_date = False, call.now
    names = existing.attributes.name
    existing.attributes.name = []
    wanted.attributes.name = names or wanted.attributes.name
    store.save(existing)
    managed, _ = _issue(call, wanted, subject)
    managed.attributes.link = [
        *managed.attributes.link,
        Link(link_type=L.REPLACED_OBJECT_LINK, linked_object_identifier=existing.uid),
    ]
    store.save(managed)
    existing.attributes.link = [
        *existing.attributes.link,
        Link(link_type=L.REPLACEMENT_OBJECT_LINK, linked_object_identifier=managed.uid),
    ]
    existing.attributes.last_change_date = call.now
    store.save(existing)
    call.returns(managed.uid)
    return ReCertifyResponse(unique_identifier=managed.uid)


def _renewal_request(call: Call, request: ReCertifyRequest) -> Subject | None:
    data = _request_bytes(request)
    if data is not None:
        return _from_request(data, request.certificate_request_type)
    if request.certificate_request_unique_identifier is None:
        return None
    managed = call.live(request.certificate_request_unique_identifier, change=False)
    if managed.object_type != ObjectType.CERTIFICATE_REQUEST:
        raise KMIPError(ResultReason.INVALID_OBJECT_TYPE, f"a {managed.object_type} is not a certificate request")
    return _from_object(call, managed.uid)


#: Set for the new certificate by itself, or not at all (2.1, Table 299).
_NOT_COPIED = frozenset(
    {
        *(Tag.INITIAL_DATE, Tag.DESTROY_DATE, Tag.REVOCATION_REASON, Tag.UNIQUE_IDENTIFIER, Tag.NAME, Tag.STATE),
        *(Tag.DIGEST, Tag.LINK, Tag.LAST_CHANGE_DATE, Tag.ACTIVATION_DATE, Tag.DEACTIVATION_DATE),
        *(Tag.COMPROMISE_DATE, Tag.COMPROMISE_OCCURRENCE_DATE, Tag.ARCHIVE_DATE, Tag.SHORT_UNIQUE_IDENTIFIER),
        *(Tag.FRESH, Tag.ORIGINAL_CREATION_DATE, Tag.CRYPTOGRAPHIC_USAGE_MASK, Tag.ROTATE_DATE, Tag.ROTATE_LATEST),
    }
)


def _renewed_attributes(call: Call, request: ReCertifyRequest, wanted: Wanted, existing: Managed) -> None:
    """Attributes and dates of the new certificate from those of the existing one (2.1, Tables 298 and 299)."""
    old, new = existing.attributes, wanted.attributes
    for key, values in old.items():
        if key not in _NOT_COPIED:
            new.setdefault(key, dict(values))
    dated = new.activation_date is not None or new.deactivation_date is not None
    if request.offset is not None:
        if dated:
            raise KMIPError(
                ResultReason.INVALID_MESSAGE, "Offset goes with neither Activation Date nor Deactivation Date"
            )
        new.activation_date = call.now + request.offset
        if old.activation_date is not None and old.deactivation_date is not None and wanted.days is None:
            new.deactivation_date = old.deactivation_date + (new.activation_date - old.activation_date)
        return
    if dated or wanted.days is not None:
        return
    new.activation_date, new.deactivation_date = old.activation_date, old.deactivation_date
    if new.deactivation_date is not None and new.deactivation_date <= call.now:
        raise KMIPError(
            ResultReason.INVALID_FIELD, "the certificate has ended, and without an Offset the new one ends with it"
        )


def _same_issuer(wanted: Wanted, existing: Managed) -> None:
    """Who signed the existing certificate signs the new one; a self-signed one signs itself again."""
    issuer = ca.linked(existing, L.CERTIFICATE_LINK)
    if issuer is not None:
        wanted.given.link = [Link(link_type=L.CERTIFICATE_LINK, linked_object_identifier=issuer)]


# Validate.


@operation(Operation.VALIDATE, changes=False)
def validate(call: Call, request: ValidateRequest) -> ValidateResponse:
    """Say whether a chain of certificates is valid (KMIP 2.1, 6.1.57).

    A chain is valid if it leads, by certificates of the request, of this server's authorities and of the clients' CAs,
    to a self-signed certificate, breaks no rule of RFC 5280, and nothing in it is revoked. It is unknown if it leads
    nowhere.
    """
    given: list[x509.Certificate] = []
    revoked = False
    for certificate in request.certificate:
        if certificate.certificate_type != CertificateType.X_509:
            raise KMIPError(ResultReason.INVALID_FIELD, "only X.509 certificates can be validated")
        given.append(ca.load(certificate.certificate_value))
    identifiers: list[Identifier | None] = list(request.unique_identifier)
    if not given and not identifiers and call.batch.placeholder is not None:
        identifiers.append(None)
    for identifier in identifiers:
        managed = call.live(identifier, change=False)
        given.append(ca.certificate_of(managed))
        revoked = revoked or managed.attributes.revocation_reason is not None or managed.state == State.COMPROMISED
    if not given:
        raise KMIPError(ResultReason.INVALID_MESSAGE, "there is no certificate to validate")
    at = datetime.fromtimestamp(call.now, UTC) if request.validity_date is None else _moment(request.validity_date)
    return ValidateResponse(validity_indicator=ValidityIndicator.INVALID if revoked else _indicator(call, given, at))


def _indicator(call: Call, given: list[x509.Certificate], at: datetime) -> ValidityIndicator:
    distinct = list(dict.fromkeys(given))

    def candidates(subject: x509.Name) -> list[x509.Certificate]:
        here = [each for each in distinct if each.subject == subject]
        return [*here, *ca.by_subject(subject), *(each for each in ca.configured() if each.subject == subject)]

    try:
        path = x509_paths.build(x509_paths.leaf_of(distinct), candidates)
        if any(each not in path.certificates for each in distinct):
            return ValidityIndicator.INVALID
        x509_paths.check(path.certificates, at, policy=call.crypto_policy)
    except x509_paths.Broken:
        return ValidityIndicator.INVALID
    if any(ca.is_revoked(each) for each in path.certificates):
        return ValidityIndicator.INVALID
    return ValidityIndicator.VALID if path.complete else ValidityIndicator.UNKNOWN
