"""What a certificate authority signs: certificates, revocation lists (RFC 5280) and OCSP answers (RFC 6960).

Who may have what signed is decided elsewhere; here the bytes are made, with the hash and padding that belong to the
issuer's key.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, cast

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS, PKCS1v15
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from keystore.crypto import keys, x509_extensions
from keystore.crypto.algorithms import CURVE_BY_NAME, A, H, P, PrivateKey, PublicKey, hash_of
from keystore.crypto.policy import DEFAULT, CryptoPolicy
from keystore.crypto.signing import SCHEMES
from keystore.crypto.x509_errors import UNREADABLE
from keystore.crypto.x509_extensions import Extension
from kmip.enums import CertificateRequestType, DigitalSignatureAlgorithm, HashingAlgorithm, ResultReason
from kmip.errors import KMIPError

#: Clocks of clients run behind; a new certificate is valid a little earlier than now.
BACKDATED = timedelta(minutes=5)

#: Extensions by name, in OpenSSL's notation. A file of profiles may replace these and add others.
PROFILES: dict[str, str] = {
    "root": "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign",
    "intermediate": "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign",
    "server": "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature,keyEncipherment\n"
    "extendedKeyUsage=serverAuth",
    "client": "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature,keyEncipherment\n"
    "extendedKeyUsage=clientAuth",
    "peer": "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature,keyEncipherment\n"
    "extendedKeyUsage=serverAuth,clientAuth",
    "code-signing": "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n"
    "extendedKeyUsage=codeSigning",
    "smime": "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature,keyEncipherment\n"
    "extendedKeyUsage=emailProtection",
    # What a certificate gets that nobody says anything of: an end entity for signatures.
    "end-entity": "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature,keyEncipherment",
}


class Signer(NamedTuple):
    """An authority: its certificate and private key."""

    certificate: x509.Certificate
    key: PrivateKey

    def __repr__(self) -> str:
        return f"Signer({self.certificate.subject.rfc4514_string()})"


class Scheme(NamedTuple):
    """How an authority's key signs."""

    hashing: Any = None
    padding: PSS | PKCS1v15 | None = None


@dataclass(slots=True)
class Plan:
    """A certificate to be."""

    subject: x509.Name
    public_key: PublicKey
    not_before: datetime
    not_after: datetime
    extensions: list[Extension] = field(default_factory=list)

    def has(self, oid: ObjectIdentifier) -> bool:
        """Whether there is an extension of a kind."""
        return any(extension.oid == oid for extension, _ in self.extensions)

    def add(self, extension: x509.ExtensionType, *, critical: bool = False) -> None:
        """Add an extension unless there is one of its kind."""
        if not self.has(extension.oid):
            self.extensions.append((extension, critical))

    @property
    def is_authority(self) -> bool:
        """Whether the certificate may sign others."""
        return any(isinstance(each, x509.BasicConstraints) and each.ca for each, _ in self.extensions)


def key_identifier(key: PublicKey) -> str:
    """The name of an authority by its key (RFC 5280, 4.2.1.2, method 1), in hexadecimal."""
    return x509.SubjectKeyIdentifier.from_public_key(cast(Any, key)).digest.hex()


def fingerprint(certificate: bytes) -> str:
    """The SHA-256 of a certificate in DER, in hexadecimal."""
    return hashlib.sha256(certificate).hexdigest()


def scheme(
    key: PrivateKey,
    wanted: DigitalSignatureAlgorithm | None = None,
    hashing: HashingAlgorithm | None = None,
    *,
    policy: CryptoPolicy = DEFAULT,
) -> Scheme:
    """How a key signs certificates: as wanted, else with the hash of its strength, PKCS #1 v1.5 for RSA."""
    algorithm, bits, curve = keys.facts(key)
    named = SCHEMES.get(wanted) if wanted is not None else None
    if wanted is not None and named is None:
        raise KMIPError(
            ResultReason.UNSUPPORTED_CRYPTOGRAPHIC_PARAMETERS, f"digital signature algorithm {wanted} is not supported"
        )
    hashing = (named.hashing if named is not None else None) or hashing
    if isinstance(key, rsa.RSAPrivateKey):
        if named is not None and named.algorithm != A.RSA:
            raise _not_of_key()
        hashing = hashing or (H.SHA_256 if bits < 7680 else H.SHA_384)
        padding = P.PSS if named is not None and named.padding == P.PSS else P.PKCS1_V1_5
        policy.check(A.RSA, bits=bits, signature_hash=hashing, signature_padding=padding)
        function = hash_of(hashing)
        return Scheme(function, PSS(MGF1(function), PSS.DIGEST_LENGTH) if padding == P.PSS else PKCS1v15())
    if isinstance(key, ec.EllipticCurvePrivateKey):
        if named is not None and named.algorithm != A.ECDSA:
            raise _not_of_key()
        size = key.curve.key_size
        hashing = hashing or (H.SHA_256 if size <= 256 else H.SHA_384 if size <= 384 else H.SHA_512)
        policy.check(A.ECDSA, curve=CURVE_BY_NAME.get(key.curve.name), signature_hash=hashing)
        return Scheme(hash_of(hashing))
    if named is not None:
        raise _not_of_key()
    policy.check(algorithm, curve=curve)
    if not hasattr(key, "sign") or algorithm == A.DSA:
        raise KMIPError(ResultReason.INVALID_FIELD, f"a key of {algorithm} does not sign certificates")
    return Scheme()


def _not_of_key() -> KMIPError:
    return KMIPError(
        ResultReason.BAD_CRYPTOGRAPHIC_PARAMETERS, "the Digital Signature Algorithm is not one of the issuer's key"
    )


def check_key(key: PublicKey, *, policy: CryptoPolicy = DEFAULT) -> None:
    """Refuse to certify a key that the policy would not make."""
    algorithm, bits, curve = keys.facts(key)
    policy.check(algorithm, bits=bits if curve is None else None, curve=curve)


def issue(plan: Plan, signer: Signer | None, key: PrivateKey | None = None, how: Scheme | None = None) -> bytes:
    """A certificate in DER, signed by an authority or, without one, by its own `key`.

    Its validity stays within the authority's, and an authority's path length is respected.
    """
    signing = signer.key if signer is not None else key
    assert signing is not None
    how = how or scheme(signing)
    not_before, not_after = plan.not_before, plan.not_after
    if signer is not None:
        check_authority(signer.certificate, plan.is_authority)
        not_before = max(not_before, signer.certificate.not_valid_before_utc)
        not_after = min(not_after, signer.certificate.not_valid_after_utc)
    if not_after <= not_before:
        raise KMIPError(ResultReason.INVALID_FIELD, "the certificate would end before it begins")
    issuer_key = cast(Any, signer.certificate.public_key() if signer is not None else plan.public_key)
    builder = (
        x509.CertificateBuilder()
        .subject_name(plan.subject)
        .issuer_name(signer.certificate.subject if signer is not None else plan.subject)
        .public_key(cast(Any, plan.public_key))
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(cast(Any, plan.public_key)), critical=False)
        .add_extension(_authority_identifier(signer, issuer_key), critical=False)
    )
    # RFC 5280, 4.1.2.6: a certificate without a subject has its names in a critical extension.
    nameless = not list(plan.subject)
    if nameless and not plan.has(x509.SubjectAlternativeName.oid):
        raise KMIPError(ResultReason.INVALID_FIELD, "the certificate needs a subject or an alternative name")
    for extension, critical in plan.extensions:
        fitted = _fitted(extension, plan.public_key)
        if fitted is not None:
            critical = critical or (nameless and isinstance(extension, x509.SubjectAlternativeName))
            builder = builder.add_extension(fitted, critical=critical)
    try:
        made = builder.sign(cast(Any, signing), how.hashing, rsa_padding=how.padding)
        return made.public_bytes(serialization.Encoding.DER)
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise KMIPError(ResultReason.CRYPTOGRAPHIC_FAILURE, "the certificate cannot be signed with this key") from exc


def _authority_identifier(signer: Signer | None, key: Any) -> x509.AuthorityKeyIdentifier:
    """The issuer's Subject Key Identifier as it stands in its certificate; others may have computed it otherwise."""
    if signer is not None:
        try:
            found = signer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
            return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(found.value)
        except x509.ExtensionNotFound:
            pass
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(key)


def _fitted(extension: x509.ExtensionType, key: PublicKey) -> x509.ExtensionType | None:
    """Key Usage without what a key of its algorithm cannot do (RFC 3279, 5480, 8410, 9881, 9935)."""
    if not isinstance(extension, x509.KeyUsage):
        return extension
    algorithm = keys.facts(key)[0]
    wanted = {name for name in x509_extensions.ALL_USAGES if _bit(extension, name)}
    signatures = {"digital_signature", "content_commitment", "key_cert_sign", "crl_sign"}
    agreement = {"key_agreement", "encipher_only", "decipher_only"}
    ciphers = {"key_encipherment", "data_encipherment"}
    if isinstance(key, rsa.RSAPublicKey):
        able = signatures | ciphers
    elif isinstance(key, ec.EllipticCurvePublicKey):
        able = signatures | agreement
    elif hasattr(key, "verify"):
        able = signatures
    elif hasattr(key, "encapsulate"):
        able, wanted = {"key_encipherment"}, wanted | {"key_encipherment"}
    else:
        able, wanted = agreement, wanted | {"key_agreement"}
    if not wanted & able:
        raise KMIPError(ResultReason.INVALID_FIELD, f"none of the key usages is one of a key of {algorithm}")
    return x509_extensions.usage(*(wanted & able))


def _bit(usage: x509.KeyUsage, name: str) -> bool:
    """Whether a bit is set; two of them have no meaning without a third."""
    if name in ("encipher_only", "decipher_only") and not usage.key_agreement:
        return False
    return bool(getattr(usage, name))


def check_authority(certificate: x509.Certificate, for_authority: bool) -> None:
    """Refuse an issuer that is no authority, or none for further authorities (RFC 5280, 4.2.1.9)."""
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        constraints = x509.BasicConstraints(ca=False, path_length=None)
    if not constraints.ca:
        raise KMIPError(ResultReason.INVALID_FIELD, "the issuer's certificate is not one of a CA")
    if not may(certificate, "key_cert_sign"):
        raise KMIPError(ResultReason.INVALID_FIELD, "the issuer's key usage does not allow it to sign certificates")
    if for_authority and constraints.path_length == 0:
        raise KMIPError(ResultReason.INVALID_FIELD, "the issuer's path length allows no CA below it")
    if certificate.not_valid_after_utc <= datetime.now(UTC):
        raise KMIPError(ResultReason.INVALID_FIELD, "the issuer's certificate has expired")


def is_authority(certificate: x509.Certificate) -> bool:
    """Whether a certificate says that it is one of a CA."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, *UNREADABLE):
        return False


def may_be_client(certificate: x509.Certificate) -> bool:
    """Whether its usages let a certificate be a TLS client's, as OpenSSL reads them: those that are absent do."""
    try:
        purposes = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        purposes = None
    except UNREADABLE:
        return False
    if purposes is not None and ExtendedKeyUsageOID.CLIENT_AUTH not in purposes:
        return False
    return may(certificate, "digital_signature") or may(certificate, "key_agreement")


def may(certificate: x509.Certificate, usage: str) -> bool:
    """Whether a certificate's Key Usage has a bit, or there is none."""
    try:
        return _bit(certificate.extensions.get_extension_for_class(x509.KeyUsage).value, usage)
    except x509.ExtensionNotFound:
        return True


# Requests.


@dataclass(frozen=True, slots=True)
class Request:
    """What a certificate request asks for; its signature was checked."""

    subject: x509.Name
    public_key: PublicKey
    extensions: list[Extension]


def read_request(data: bytes, kind: CertificateRequestType | None = None) -> Request:
    """A PKCS#10 request in DER or PEM; raises `KMIPError` (Invalid CSR).

    Clients mix up the two spellings, so the bytes decide, not the type that they give.
    """
    if kind == CertificateRequestType.CRMF or kind == CertificateRequestType.PGP:
        raise KMIPError(ResultReason.FEATURE_NOT_SUPPORTED, f"certificate requests of type {kind} are not supported")
    try:
        if data.lstrip().startswith(b"-----BEGIN"):
            # keytool writes NEW CERTIFICATE REQUEST, as did the PEM of old.
            request = x509.load_pem_x509_csr(data.replace(b" NEW CERTIFICATE REQUEST-", b" CERTIFICATE REQUEST-"))
        else:
            request = x509.load_der_x509_csr(data)
        if not request.is_signature_valid:
            raise InvalidSignature
        public_key = cast(PublicKey, request.public_key())
        keys.facts(public_key)
        extensions = [(each.value, each.critical) for each in request.extensions]
        return Request(request.subject, public_key, extensions)
    except InvalidSignature as exc:
        raise KMIPError(ResultReason.INVALID_CSR, "the certificate request's signature is wrong") from exc
    except UNREADABLE as exc:
        raise KMIPError(ResultReason.INVALID_CSR, "the certificate request is not valid PKCS#10") from exc


#: Extensions that a request may bring into a certificate. Whether it is one of a CA is never the applicant's choice.
_REQUESTED = (x509.SubjectAlternativeName, x509.KeyUsage, x509.ExtendedKeyUsage)


def requested(request: Request) -> list[Extension]:
    """The extensions of a request that go into its certificate; usages of authorities are left out."""
    found: list[Extension] = []
    for extension, critical in request.extensions:
        if isinstance(extension, x509.KeyUsage):
            names = {name for name in x509_extensions.ALL_USAGES if _bit(extension, name)}
            names -= {"key_cert_sign", "crl_sign"}
            if names:
                found.append((x509_extensions.usage(*names), critical))
        elif isinstance(extension, _REQUESTED):
            found.append((extension, critical))
    return found


def common_name(subject: x509.Name) -> str | None:
    """The first common name of a subject."""
    found = subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found and found[0].value else None


# Revocation.


@dataclass(frozen=True, slots=True)
class Revoked:
    """A revoked certificate: since when, and an RFC 5280 reason."""

    serial: int
    at: datetime
    reason: x509.ReasonFlags | None = None
    invalid_since: datetime | None = None


def revocation_list(
    signer: Signer, revoked: Iterable[Revoked], *, number: int, begins: datetime, ends: datetime
) -> bytes:
    """A full revocation list in DER."""
    how = scheme(signer.key)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(signer.certificate.subject)
        .last_update(begins)
        .next_update(ends)
        .add_extension(_authority_identifier(signer, signer.certificate.public_key()), critical=False)
        .add_extension(x509.CRLNumber(number), critical=False)
    )
    for each in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(each.serial).revocation_date(each.at)
        # RFC 5280, 5.3.1: unspecified is said by saying nothing.
        if each.reason is not None and each.reason != x509.ReasonFlags.unspecified:
            entry = entry.add_extension(x509.CRLReason(each.reason), critical=False)
        if each.invalid_since is not None:
            entry = entry.add_extension(x509.InvalidityDate(each.invalid_since), critical=False)
        builder = builder.add_revoked_certificate(entry.build())
    made = builder.sign(cast(Any, signer.key), how.hashing, rsa_padding=how.padding)
    return made.public_bytes(serialization.Encoding.DER)


class Asked(NamedTuple):
    """What an OCSP request asks about."""

    serial: int
    name_hash: bytes
    key_hash: bytes
    hashing: hashes.HashAlgorithm


def read_ocsp(data: bytes) -> Asked | None:
    """The one certificate that an OCSP request asks about; None for what is none such."""
    try:
        request = ocsp.load_der_ocsp_request(data)
        return Asked(request.serial_number, request.issuer_name_hash, request.issuer_key_hash, request.hash_algorithm)
    except (ValueError, NotImplementedError, UnsupportedAlgorithm):
        return None


def asks_about(asked: Asked, issuer: x509.Certificate) -> bool:
    """Whether a request is about a certificate of this issuer."""
    digest = hashes.Hash(asked.hashing)
    digest.update(issuer.subject.public_bytes())
    if digest.finalize() != asked.name_hash:
        return False
    digest = hashes.Hash(asked.hashing)
    digest.update(_bit_string(issuer))
    return digest.finalize() == asked.key_hash


def _bit_string(issuer: x509.Certificate) -> bytes:
    """The issuer's public key without its algorithm: what OCSP's key hashes are over."""
    spki = issuer.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    # SEQUENCE { AlgorithmIdentifier SEQUENCE, BIT STRING }: step over the first, take the second's contents.
    at = _skip_head(spki, 0)
    start = _skip_head(spki, at)
    at = start + _length(spki, at)
    return spki[_skip_head(spki, at) + 1 :]


def _skip_head(data: bytes, at: int) -> int:
    return at + 2 + (data[at + 1] & 0x7F if data[at + 1] & 0x80 else 0)


def _length(data: bytes, at: int) -> int:
    first = data[at + 1]
    return first if first < 0x80 else int.from_bytes(data[at + 2 : at + 2 + (first & 0x7F)])


def ocsp_answer(
    signer: Signer,
    asked: Asked,
    status: ocsp.OCSPCertStatus,
    revoked: Revoked | None,
    *,
    begins: datetime,
    ends: datetime,
) -> bytes:
    """A signed answer about one certificate, in DER."""
    how = scheme(signer.key)
    builder = (
        ocsp.OCSPResponseBuilder()
        .add_response_by_hash(
            asked.name_hash,
            asked.key_hash,
            asked.serial,
            asked.hashing,
            status,
            begins,
            ends,
            revoked.at if revoked is not None else None,
            revoked.reason if revoked is not None else None,
        )
        .responder_id(ocsp.OCSPResponderEncoding.HASH, signer.certificate)
    )
    return builder.sign(cast(Any, signer.key), how.hashing).public_bytes(serialization.Encoding.DER)


def ocsp_refusal(status: ocsp.OCSPResponseStatus) -> bytes:
    """An unsigned answer that says why there is none."""
    return ocsp.OCSPResponseBuilder.build_unsuccessful(status).public_bytes(serialization.Encoding.DER)


# Spellings.


def pem(certificates: Sequence[bytes]) -> bytes:
    """Certificates in DER as PEM, one after another."""
    return b"".join(
        x509.load_der_x509_certificate(each).public_bytes(serialization.Encoding.PEM) for each in certificates
    )
