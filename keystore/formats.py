"""Files that keys and certificates travel in: PEM, PKCS#7 and PKCS#12, in and out of managed objects.

Inside the server a certificate is DER and a private key stands by itself. What comes as PEM is kept as DER; what comes
with a chain leaves its other certificates as objects of their own, linked as 2.1, 6.1.19 reads the links.
"""

import re
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs7

from keystore import ca, objects, opened, store
from keystore.call import Call
from keystore.crypto import certificates, keys
from keystore.store import Managed
from kmip.attributes import Attributes
from kmip.enums import (
    CertificateRequestType,
    CertificateType,
    CryptographicUsageMask,
    KeyFormatType,
    LinkType,
    ObjectType,
    ResultReason,
    State,
)
from kmip.errors import KMIPError
from kmip.objects import Certificate, CertificateRequest, KeyBlock, KeyValue
from kmip.schema import Struct
from kmip.structures import Link

F = KeyFormatType
L = LinkType
#: An extension value of this server.
PEM: Final = F(0x80000001)
#: Extension values of the JSON dialect.
PKCS_7: Final = F(0x88800002)
PKCS_7_CERTIFICATE: Final = CertificateType(0x80000001)
PKCS_12: Final = frozenset({F.PKCS_12, keys.PKCS_12_LEGACY})
#: Without the attribute (2.1, 4.39).
FRIENDLY_NAME: Final = "alias"
_PEM: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.+?-----END \1-----", re.DOTALL)
_BEGIN: Final = b"-----BEGIN"


# In.


def take_in(call: Call, object_type: ObjectType, managed_object: Struct, attributes: Attributes) -> None:
    """Bring an object that a client registers or imports into the form in which it is kept.

    Certificates that come along in PKCS#7 or PKCS#12 become objects of the same owner, linked to."""
    if isinstance(managed_object, Certificate):
        _take_certificate(call, managed_object, attributes)
    elif isinstance(managed_object, CertificateRequest):
        _take_request(managed_object)
    block = objects.key_block(managed_object)
    if block is None or block.key_wrapping_data is not None:
        return
    if object_type == ObjectType.PRIVATE_KEY and block.key_format_type in PKCS_12:
        _take_pkcs12(call, block, attributes)
        return
    if not isinstance(block.key_value, KeyValue):
        return
    if object_type in _PAIRS:
        material = block.key_value.key_material
        if isinstance(material, bytes) and material.lstrip().startswith(_BEGIN):
            block.key_value.key_material = _der_key(material, private=object_type == ObjectType.PRIVATE_KEY)
            block.key_format_type = F.PKCS_8 if object_type == ObjectType.PRIVATE_KEY else F.X_509


def _der_key(pem: bytes, *, private: bool) -> bytes:
    der = serialization.Encoding.DER
    try:
        if private:
            key = serialization.load_pem_private_key(pem, None)
            return key.private_bytes(der, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        public = serialization.load_pem_public_key(pem)
        return public.public_bytes(der, serialization.PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, TypeError) as exc:
        raise KMIPError(ResultReason.INVALID_FIELD, "the Key Material is not an unencrypted key in PEM") from exc


def _take_request(request: CertificateRequest) -> None:
    value = request.certificate_request_value
    if request.certificate_request_type == CertificateRequestType.PKCS_10 and value.lstrip().startswith(_BEGIN):
        try:
            parsed = x509.load_pem_x509_csr(value.replace(b" NEW CERTIFICATE REQUEST-", b" CERTIFICATE REQUEST-"))
        except ValueError as exc:
            raise KMIPError(ResultReason.INVALID_FIELD, "the certificate request is not PKCS#10") from exc
        request.certificate_request_value = parsed.public_bytes(serialization.Encoding.DER)


def _take_certificate(call: Call, certificate: Certificate, attributes: Attributes) -> None:
    value = certificate.certificate_value
    chain: list[bytes] = []
    if value.lstrip().startswith(_BEGIN):
        kind = _PEM.search(value)
        if kind is not None and kind[1] == b"PKCS7":
            chain = _certificates_of_pkcs7(value)
        else:
            try:
                chain = [_der(each) for each in x509.load_pem_x509_certificates(value)]
            except ValueError as exc:
                raise KMIPError(ResultReason.INVALID_FIELD, "the Certificate Value is not PEM") from exc
    elif certificate.certificate_type == PKCS_7_CERTIFICATE:
        chain = list(certificates.read_pkcs7(value))
    if not chain:
        return
    ordered = _ordered(chain)
    certificate.certificate_type, certificate.certificate_value = CertificateType.X_509, ordered[0]
    if len(ordered) > 1:
        attributes.link = [*attributes.link, *_links(L.CERTIFICATE_LINK, _store_chain(call, ordered[1:]))]


def _certificates_of_pkcs7(pem: bytes) -> list[bytes]:
    try:
        return [_der(each) for each in pkcs7.load_pem_pkcs7_certificates(pem)]
    except ValueError as exc:
        raise KMIPError(ResultReason.INVALID_FIELD, "the Certificate Value is not PKCS#7") from exc


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


def _ordered(chain: list[bytes]) -> list[bytes]:
    """A chain from its leaf upwards, whatever order it came in; what does not belong to it is refused."""
    parsed = {der: ca.load(der) for der in chain}
    issuers = {each.issuer for each in parsed.values() if each.issuer != each.subject}
    leaves = [der for der, each in parsed.items() if each.subject not in issuers] or chain[:1]
    ordered = leaves[:1]
    while len(ordered) < len(parsed):
        above = [
            der for der, each in parsed.items() if each.subject == parsed[ordered[-1]].issuer and der not in ordered
        ]
        if not above:
            raise KMIPError(ResultReason.INVALID_FIELD, "the certificates are not one chain")
        ordered.append(above[0])
    return ordered


def _links(kind: LinkType, uid: str) -> list[Link]:
    return [Link(link_type=kind, linked_object_identifier=uid)]


def _store_chain(call: Call, chain: list[bytes]) -> str:
    """Keep certificates from the lowest upwards, each linked to the one above; the lowest one's identifier."""
    above: str | None = None
    for der in reversed(chain):
        attributes = Attributes()
        attributes.cryptographic_usage_mask = int(CryptographicUsageMask.VERIFY)
        if above is not None:
            attributes.link = _links(L.CERTIFICATE_LINK, above)
        made = Certificate(certificate_type=CertificateType.X_509, certificate_value=der)
        managed = objects.new(
            store.new_uid(),
            call.identity.namespace,
            call.identity.username,
            made,
            attributes,
            object_type=ObjectType.CERTIFICATE,
            now=call.now,
            generated=False,
        )
        store.save(managed)
        above = managed.uid
    assert above is not None
    return above


def _take_pkcs12(call: Call, block: KeyBlock, attributes: Attributes) -> None:
    """Keep the private key of a PKCS#12 file, its certificates beside it (2.1, 4.39 and 6.1.19)."""
    value = block.key_value
    data = value.key_material if isinstance(value, KeyValue) else value
    if not isinstance(data, bytes):
        raise KMIPError(ResultReason.INVALID_FIELD, "PKCS#12 is a byte string")
    bundle = keys.read_pkcs12(data, _password(call, attributes))
    if bundle.key is None:
        raise KMIPError(ResultReason.INVALID_FIELD, "the PKCS#12 file holds no private key")
    if attributes.pkcs_12_friendly_name is None and bundle.name:
        attributes.pkcs_12_friendly_name = bundle.name.decode("utf-8", "replace")
    block.key_value, block.key_format_type = KeyValue(key_material=bundle.key.data), F.PKCS_8
    block.cryptographic_algorithm, block.cryptographic_length = bundle.key.algorithm, bundle.key.bits
    if bundle.certificate is not None:
        chain = _ordered([bundle.certificate, *bundle.chain]) if bundle.chain else [bundle.certificate]
        uid = _store_chain(call, chain)
        attributes.link = [
            *attributes.link,
            *_links(L.CERTIFICATE_LINK, uid),
            *_links(L.PKCS_12_CERTIFICATE_LINK, uid),
        ]


# Out.


def give_out(call: Call, managed: Managed, managed_object: Any, wanted: KeyFormatType | None) -> bool:
    """Put an object into PEM, PKCS#12 or PKCS#7, where that is asked for and it can be; whether it was."""
    if wanted is None:
        return False
    if wanted == PEM:
        return _write_pem(managed, managed_object)
    if wanted == PKCS_7 and isinstance(managed_object, Certificate):
        chain = [managed_object.certificate_value, *_chain(call, managed)]
        managed_object.certificate_type = PKCS_7_CERTIFICATE
        managed_object.certificate_value = certificates.write_pkcs7(chain)
        return True
    if wanted not in PKCS_12:
        return False
    if isinstance(managed_object, Certificate):
        managed_object.certificate_value = _pkcs12_of_certificate(call, managed, managed_object, wanted)
        return True
    if managed.object_type == ObjectType.PRIVATE_KEY:
        block = objects.key_block(managed_object)
        if block is None or block.key_wrapping_data is not None:
            return False
        made = _pkcs12_of_key(call, managed, wanted)
        # The whole Key Value is the file, as in OASIS case TC-PKCS12; the dialect's clients read Key Material.
        if call.dialect:
            block.key_value = KeyValue(key_material=made)
        else:
            block.key_value, block.cryptographic_algorithm, block.cryptographic_length = made, None, None
        block.key_format_type, block.key_compression_type = wanted, None
        return True
    return False


def _write_pem(managed: Managed, managed_object: Any) -> bool:
    """Put a certificate, a certificate request or a key of a pair into PEM: PKCS#8 or SubjectPublicKeyInfo for keys."""
    encoding = serialization.Encoding.PEM
    if isinstance(managed_object, Certificate):
        managed_object.certificate_value = ca.certificate_of(managed).public_bytes(encoding)
        return True
    if isinstance(managed_object, CertificateRequest):
        managed_object.certificate_request_value = _request_in_pem(managed_object)
        managed_object.certificate_request_type = CertificateRequestType.PEM
        return True
    block = objects.key_block(managed_object)
    if block is None or block.key_wrapping_data is not None or managed.object_type not in _PAIRS:
        return False
    if managed.object_type == ObjectType.PRIVATE_KEY:
        form, none = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        made = opened.private_key_of(managed).private_bytes(encoding, form, none)
    else:
        made = opened.public_key_of(managed).public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo)
    block.key_value, block.key_format_type, block.key_compression_type = KeyValue(key_material=made), PEM, None
    return True


_PAIRS: Final = frozenset({ObjectType.PRIVATE_KEY, ObjectType.PUBLIC_KEY})


def _request_in_pem(request: CertificateRequest) -> bytes:
    value = request.certificate_request_value
    if value.lstrip().startswith(_BEGIN):
        return value
    try:
        return x509.load_der_x509_csr(value).public_bytes(serialization.Encoding.PEM)
    except ValueError as exc:
        raise KMIPError(ResultReason.KEY_FORMAT_TYPE_NOT_SUPPORTED, "the request is not PKCS#10") from exc


def _linked(call: Call, managed: Managed, *kinds: LinkType) -> Managed | None:
    """The object that a link of one of the kinds points to, if the caller may get it too."""
    uid = next((found for kind in kinds if (found := ca.linked(managed, kind)) is not None), None)
    if uid is None:
        return None
    try:
        return call.live(uid, change=False)
    except KMIPError:
        return None


def _chain(call: Call, managed: Managed) -> list[bytes]:
    """The certificates above one, by their Certificate Links, else from the authorities here."""
    chain: list[bytes] = []
    last: Managed | None = managed
    while last is not None and len(chain) < 16:
        last = _linked(call, last, L.CERTIFICATE_LINK, L.PKCS_12_CERTIFICATE_LINK)
        if last is None or last.object_type != ObjectType.CERTIFICATE:
            break
        der = _der(ca.certificate_of(last))
        if der in chain:
            break
        chain.append(der)
    return chain or ca.chain_of(_der(ca.certificate_of(managed)))


def _pkcs12_of_key(call: Call, managed: Managed, wanted: KeyFormatType) -> bytes:
    # The certificate is the public key's (2.1, 6.1.19), or stands beside a private key that came from PKCS#12.
    public = _linked(call, managed, L.PUBLIC_KEY_LINK)
    certificate = _linked(call, public, L.PKCS_12_CERTIFICATE_LINK, L.CERTIFICATE_LINK) if public is not None else None
    if certificate is None:
        certificate = _linked(call, managed, L.PKCS_12_CERTIFICATE_LINK, L.CERTIFICATE_LINK)
    return _written(call, managed, managed, certificate, wanted)


def _pkcs12_of_certificate(call: Call, managed: Managed, found: Certificate, wanted: KeyFormatType) -> bytes:
    private = _linked(call, managed, L.PRIVATE_KEY_LINK)
    if private is None:
        public = _linked(call, managed, L.PUBLIC_KEY_LINK)
        private = _linked(call, public, L.PRIVATE_KEY_LINK) if public is not None else None
    if private is None:
        raise KMIPError(ResultReason.KEY_FORMAT_TYPE_NOT_SUPPORTED, "the certificate's private key is not here")
    return _written(call, managed, private, managed, wanted)


def _written(call: Call, asked: Managed, private: Managed, certificate: Managed | None, wanted: KeyFormatType) -> bytes:
    _check_leaves(private)
    password = _password(call, asked.attributes, private.attributes)
    name = asked.attributes.pkcs_12_friendly_name or private.attributes.pkcs_12_friendly_name or FRIENDLY_NAME
    return keys.write_pkcs12(
        keys.private_key(opened.private_key_of(private)).data,
        password,
        certificate=_der(ca.certificate_of(certificate)) if certificate is not None else None,
        chain=_chain(call, certificate) if certificate is not None else (),
        name=name.encode(),
        legacy=wanted == keys.PKCS_12_LEGACY,
    )


def _check_leaves(private: Managed) -> None:
    """A private key that may not leave the server does not leave it inside of a file either."""
    if private.attributes.sensitive:
        raise KMIPError(ResultReason.SENSITIVE, "the private key is sensitive: it leaves the server only wrapped")
    if private.attributes.extractable is False:
        raise KMIPError(ResultReason.NOT_EXTRACTABLE, "the private key may not leave the server")


def _password(call: Call, *attributes: Attributes) -> bytes:
    """The active Secret Data that a PKCS#12 Password Link points to; raises `KMIPError` (Bad Password)."""
    for one in attributes:
        found = [link.linked_object_identifier for link in one.link if link.link_type == L.PKCS_12_PASSWORD_LINK]
        if len(found) > 1:
            raise KMIPError(ResultReason.BAD_PASSWORD, "there are several PKCS#12 Password Links")
        if found:
            secret = call.live(found[0], change=False)
            if secret.object_type != ObjectType.SECRET_DATA or secret.state != State.ACTIVE:
                raise KMIPError(ResultReason.BAD_PASSWORD, "the PKCS#12 Password Link points to no active Secret Data")
            material, _ = objects.material_of(objects.decode(secret))
            if material is None:
                raise KMIPError(ResultReason.BAD_PASSWORD, "the password is not here")
            return material
    raise KMIPError(ResultReason.BAD_PASSWORD, "PKCS#12 needs a PKCS#12 Password Link")
