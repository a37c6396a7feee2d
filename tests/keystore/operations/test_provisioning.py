"""Re-Provision: another certificate for a client, in three ways, and the end of the old one."""

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from keystore import authn, clients, conf, engine
from keystore.authn import Identity, Peer
from keystore.models import ClientCertificate, ManagedObject
from kmip.enums import CertificateRequestType, CertificateType, LinkType, Operation, ResultReason
from kmip.errors import KMIPError
from kmip.objects import Certificate, CertificateRequest
from kmip.payloads import GetAttributesRequest, GetRequest, ReProvisionRequest
from tests.authority import csr, sealed  # noqa: F401 - a fixture among them
from tests.certificates import CLIENT, Pki, make

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("sealed")]
ADMIN = Peer("cli", user="admin")


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def own(pki, configure):
    """An authority of the server's own, beside the CA of its file."""
    configure(**{"tls.clients_ca_cert_file": conf.load({}, pki.settings(), []).tls.clients_ca_cert_file})
    return clients.create_authority(ADMIN, "Clients")


def enrolled(name="alice"):
    """A connection with a certificate of the own authority."""
    _, request = clients.new_request(name, "p256")
    return Peer("kmip", certificate=clients.enrol(ADMIN, name, request).certificate)


def ask(peer, *, request=None, certificate=None):
    payload = ReProvisionRequest(
        certificate_request=None
        if request is None
        else CertificateRequest(
            certificate_request_type=CertificateRequestType.PKCS_10, certificate_request_value=request
        ),
        certificate=None
        if certificate is None
        else Certificate(certificate_type=CertificateType.X_509, certificate_value=certificate),
    )
    return engine.execute(Operation.RE_PROVISION, payload, peer).unique_identifier


def get(peer, uid):
    return engine.execute(Operation.GET, GetRequest(unique_identifier=uid), peer)


def out(peer):
    """Why a connection is nobody's any more."""
    authn.forget()
    peer.identity = None
    with pytest.raises(KMIPError) as caught:
        authn.identify(peer)
    return caught.value.reason


def test_a_request_becomes_the_client_s_new_certificate(own):
    """The client may get it, it lets the client in, and the old one does not."""
    peer = enrolled()
    uid = ask(peer, request=csr("whatever it says"))
    new = ManagedObject.objects.get(uid=uid)
    assert new.owner == "admin" and out(peer) == ResultReason.AUTHENTICATION_NOT_SUCCESSFUL
    row = ClientCertificate.objects.get(disabled=True)
    again = ClientCertificate.objects.get(fingerprint=row.replaced_by)
    certificate = engine.execute(Operation.GET, GetRequest(unique_identifier=uid), ADMIN).certificate.certificate_value
    fresh = Peer("kmip", certificate=certificate)
    assert authn.identify(fresh).username == "alice" and not again.disabled
    assert get(fresh, uid).certificate.certificate_value == certificate


def test_without_anything_the_server_makes_a_key(own):
    """The client gets the key and, by its link, the certificate."""
    peer = enrolled()
    uid = ask(peer)
    assert out(peer) == ResultReason.AUTHENTICATION_NOT_SUCCESSFUL
    row = ManagedObject.objects.get(uid=uid)
    assert row.owner == "alice"
    owner = Peer("cli", user="alice")
    attributes = engine.execute(Operation.GET_ATTRIBUTES, GetAttributesRequest(unique_identifier=uid), owner).attributes
    (link,) = attributes.link
    assert link.link_type == LinkType.CERTIFICATE_LINK
    der = get(owner, link.linked_object_identifier).certificate.certificate_value
    block = get(owner, uid).private_key.key_block
    key = serialization.load_der_private_key(block.key_value.key_material, None)
    assert x509.load_der_x509_certificate(der).public_key() == key.public_key()
    assert authn.identify(Peer("kmip", certificate=der)).username == "alice"


def test_a_certificate_of_the_user_s_authority_is_taken(own, pki):
    """The client's own CA has issued it."""
    peer = Peer("kmip", certificate=pki.client.certificate.public_bytes(serialization.Encoding.DER))
    assert authn.identify(peer).username == "alice"
    new = make("alice", pki.ca, usage=CLIENT).certificate.public_bytes(serialization.Encoding.DER)
    uid = ask(peer, certificate=new)
    assert out(peer) == ResultReason.AUTHENTICATION_NOT_SUCCESSFUL
    fresh = Peer("kmip", certificate=new)
    assert authn.identify(fresh).username == "alice" and get(fresh, uid).certificate.certificate_value == new


def test_nobody_takes_over_another_name_or_another_authority(own, pki):
    """A certificate of somebody else, of an unknown CA, of a CA that has not vouched for the user, or the old one."""
    der = serialization.Encoding.DER
    peer = Peer("kmip", certificate=pki.client.certificate.public_bytes(der))
    authn.identify(peer)
    other = make("bob", pki.ca, usage=CLIENT).certificate.public_bytes(der)
    stranger = make("alice", make("Other CA", usage=CLIENT, ca=True), usage=CLIENT).certificate.public_bytes(der)
    _, request = clients.new_request("carol", "p256")
    inhouse = clients.enrol(ADMIN, "carol", request).certificate
    reasons = []
    for certificate in (other, stranger, inhouse, peer.certificate):
        with pytest.raises(KMIPError) as caught:
            ask(peer, certificate=certificate)
        reasons.append(caught.value.reason)
    R = ResultReason
    assert reasons == [R.PERMISSION_DENIED, R.AUTHENTICATION_NOT_SUCCESSFUL, R.PERMISSION_DENIED, R.INVALID_FIELD]
    assert not ClientCertificate.objects.filter(disabled=True).exists()
    authn.identify(peer)


def test_only_who_is_known_by_a_certificate_gets_another(own, pki):
    """Not a user of a password or of the console, not with two things at once, not with a revoked certificate."""
    with pytest.raises(KMIPError) as caught:
        ask(Peer("cli", user="alice"))
    assert caught.value.reason == ResultReason.PERMISSION_DENIED
    peer = enrolled()
    with pytest.raises(KMIPError) as caught:
        engine.execute(Operation.RE_PROVISION, ReProvisionRequest(), peer, identity=Identity("alice", "password"))
    assert caught.value.reason == ResultReason.PERMISSION_DENIED
    with pytest.raises(KMIPError) as caught:
        ask(peer, request=csr("x"), certificate=peer.certificate)
    assert caught.value.reason == ResultReason.INVALID_FIELD
    identity = authn.identify(peer)
    clients.revoke(ADMIN, identity.fingerprint)
    # The connection is believed for a moment longer; the certificate is not.
    peer.identity = identity
    with pytest.raises(KMIPError) as caught:
        ask(peer)
    assert caught.value.reason == ResultReason.AUTHENTICATION_NOT_SUCCESSFUL


def test_a_client_of_another_ca_has_nothing_signed_here(own, pki):
    """Its own CA signs its requests."""
    peer = Peer("kmip", certificate=pki.client.certificate.public_bytes(serialization.Encoding.DER))
    with pytest.raises(KMIPError) as caught:
        ask(peer, request=csr("alice"))
    assert caught.value.reason == ResultReason.PERMISSION_DENIED
    authn.identify(peer)
