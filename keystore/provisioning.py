"""Re-Provision: another certificate for a client that is known by one (2.1, 6.1.48).

What is signed is signed on the rights of the authority's owner, as for any renewal (`clients`); what is kept is the
client's. The old certificate is disabled with it: nothing of the old connection is believed any more.
"""

import dataclasses
from typing import Any

from cryptography.hazmat.primitives import serialization

from keystore import authn, ca, clients, engine, generations, roles, store
from keystore.authn import Identity, Peer, accounts, certificates
from keystore.crypto import x509_issuing as issuing
from keystore.generations import Kept
from keystore.models import ClientCertificate, Grant, ManagedObject
from kmip.attributes import Attributes
from kmip.enums import (
    CertificateType,
    CryptographicAlgorithm,
    CryptographicUsageMask,
    KeyFormatType,
    LinkType,
    ObjectType,
    Operation,
    ResultReason,
)
from kmip.errors import KMIPError
from kmip.objects import Certificate, KeyBlock, KeyValue, PrivateKey
from kmip.payloads import RegisterRequest
from kmip.structures import Link

#: A private key that was made for a client, and the request for its certificate.
Made = tuple[Any, bytes]


def new_key(identity: Identity) -> Made:
    """A key for a client, which takes a moment to make."""
    return clients.new_request(identity.username)


def reprovision(
    peer: Peer, identity: Identity, *, certificate: bytes | None = None, request: bytes | None = None, made: Made | None
) -> str:
    """Give a client another certificate in the caller's transaction: the one that it brings, one from its request, or
    one for a key that was made for it. The old one is disabled. The identifier of the certificate, or of the key.

    Raises `KMIPError` for a client that is not known by a certificate that still counts."""
    if identity.method != certificates.METHOD or peer.certificate is None:
        raise KMIPError(ResultReason.PERMISSION_DENIED, "only a client certificate is replaced, by who it belongs to")
    certificates.check(ca.load(peer.certificate))
    if certificate is not None:
        uid, new = _brought(peer, identity, certificate)
    elif request is not None:
        signed = clients.renew(peer, request)
        uid, new = signed.uid, signed.certificate
        _let_get(identity, uid)
    else:
        uid, new = _with_new_key(peer, identity, made or new_key(identity))
    old = ClientCertificate.objects.select_for_update().get(fingerprint=identity.fingerprint)
    fingerprint = issuing.fingerprint(new)
    if fingerprint == old.fingerprint:
        raise KMIPError(ResultReason.INVALID_FIELD, "this is the certificate in use")
    ClientCertificate.objects.filter(fingerprint=fingerprint).update(pinned=old.pinned, disabled=False)
    ClientCertificate.objects.filter(fingerprint=old.fingerprint).update(disabled=True, replaced_by=fingerprint)
    generations.changed(Kept.IDENTITIES)
    authn.forget()
    peer.identity = None
    return uid


def _brought(peer: Peer, identity: Identity, certificate: bytes) -> tuple[str, bytes]:
    """Register the certificate that a client brings, if its CA is trusted and it names the same user."""
    parsed = ca.load(certificate)
    certificates.check(parsed)
    if certificates.username_of(parsed) != identity.username:
        raise KMIPError(ResultReason.PERMISSION_DENIED, "the certificate names another user")
    authority, account = certificates.authority_of(parsed), accounts.find(identity.namespace, identity.username)
    if account is None or authority not in account.authorities:
        raise KMIPError(ResultReason.PERMISSION_DENIED, "the certificate is of another authority than the user's")
    certificates.register(account, parsed, authority)
    der = parsed.public_bytes(serialization.Encoding.DER)
    payload = RegisterRequest(
        object_type=ObjectType.CERTIFICATE,
        attributes=Attributes(),
        certificate=Certificate(certificate_type=CertificateType.X_509, certificate_value=der),
    )
    return _kept(peer, identity, payload), der


def _with_new_key(peer: Peer, identity: Identity, made: Made) -> tuple[str, bytes]:
    """Certify a key, and keep it as the client's."""
    key, request = made
    signed = clients.renew(peer, request)
    _let_get(identity, signed.uid)
    attributes = Attributes()
    attributes.cryptographic_usage_mask = int(CryptographicUsageMask.SIGN)
    attributes.link = [Link(link_type=LinkType.CERTIFICATE_LINK, linked_object_identifier=signed.uid)]
    material = key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    block = KeyBlock(
        key_format_type=KeyFormatType.PKCS_8,
        key_value=KeyValue(key_material=material),
        cryptographic_algorithm=CryptographicAlgorithm.RSA,
        cryptographic_length=key.key_size,
    )
    payload = RegisterRequest(
        object_type=ObjectType.PRIVATE_KEY, attributes=attributes, private_key=PrivateKey(key_block=block)
    )
    return _kept(peer, identity, payload), signed.certificate


def _kept(peer: Peer, identity: Identity, payload: RegisterRequest) -> str:
    """Keep an object as the client's, whether or not its role lets it register any."""
    acting = dataclasses.replace(identity, roles=(roles.CLIENT,))
    return str(engine.execute(Operation.REGISTER, payload, peer, identity=acting).unique_identifier)


def _let_get(identity: Identity, uid: str) -> None:
    """Let a client get its certificate, which belongs to the authority's owner."""
    key = store.key_of(identity.namespace, uid)
    if ManagedObject.objects.filter(uid=key).exclude(owner=identity.username).exists():
        Grant.objects.create(
            object_id=key,
            namespace=identity.namespace,
            principal=f"user:{identity.username}",
            operations=roles.bits((Operation.GET, Operation.GET_ATTRIBUTES, Operation.GET_ATTRIBUTE_LIST)),
        )
