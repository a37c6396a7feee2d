"""Certify, Re-certify and Validate as messages: of every protocol version, and in the JSON dialect."""

import datetime
import json

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from keystore import ca, engine
from keystore.authn import Peer
from kmip.attributes import vendor_text as text
from kmip.enums import (
    CertificateRequestType,
    CertificateType,
    Operation,
    RecommendedCurve,
    ResultReason,
    ValidityIndicator,
)
from kmip.objects import Certificate
from kmip.payloads import (
    CertifyRequest,
    CreateKeyPairRequest,
    ReCertifyRequest,
    ValidateRequest,
)
from kmip.structures import CertificateSubject, X_509CertificateSubject
from kmip.versions import V1_1, V2_0, VERSIONS
from tests.authority import A, L, attributes, csr, extension, links, load, root, sealed  # noqa: F401 - a fixture
from tests.certificates import make
from tests.wire import one, why

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("sealed")]

every_version = pytest.mark.parametrize("version", VERSIONS, ids=[f"{v // 10}.{v % 10}" for v in VERSIONS])


def bearing(request, version, **others):
    """A Certify or Re-certify request's fields for a certificate request; their tag changed in 2.0."""
    name = "certificate_request_value" if version >= V2_0 else "certificate_request"
    return {"certificate_request_type": CertificateRequestType.PKCS_10, name: request, **others}


def subject(version, cn):
    """Attributes with a subject, as the version spells it."""
    name = x509.Name.from_rfc4514_string(f"CN={cn},O=Org")
    if version >= V2_0:
        return {"certificate_subject_cn": [cn], "certificate_subject_o": ["Org"]}
    if version >= V1_1:
        return {"x_509_certificate_subject": X_509CertificateSubject(subject_distinguished_name=name.public_bytes())}
    return {"certificate_subject": CertificateSubject(certificate_subject_distinguished_name=name.rfc4514_string())}


def authority(version, cn="Root"):
    """A self-signed root whose key is made on the way."""
    wanted = attributes(algorithm=A.EC, curve=RecommendedCurve.P_256, **subject(version, cn))
    return one(Operation.CERTIFY, CertifyRequest(attributes=wanted), version=version).unique_identifier


def indicator(version, *uids, certificates=()):
    brought = [Certificate(certificate_type=CertificateType.X_509, certificate_value=each) for each in certificates]
    payload = ValidateRequest(certificate=brought, unique_identifier=list(uids))
    return one(Operation.VALIDATE, payload, version=version).validity_indicator


@every_version
def test_a_chain_is_made_renewed_and_validated(version):
    """A root and an intermediate, a request certified by link, its renewal, and what Validate says of them."""
    top = authority(version)
    assert load(top).subject.rfc4514_string() == "CN=Root,O=Org" and extension(load(top), x509.BasicConstraints).ca
    wanted = attributes(
        algorithm=A.EC,
        curve=RecommendedCurve.P_256,
        links=[(L.CERTIFICATE_LINK, top)],
        vendor=[text("certificate-profile", "intermediate")],
        **subject(version, "Middle"),
    )
    middle = one(Operation.CERTIFY, CertifyRequest(attributes=wanted), version=version).unique_identifier
    assert extension(load(middle), x509.BasicConstraints) == x509.BasicConstraints(True, 0)
    wanted = attributes(
        links=[(L.PRIVATE_KEY_LINK, links(middle)[L.PRIVATE_KEY_LINK])],
        vendor=[text("certificate-profile", "client"), text("requested_validity_days", "5")],
    )
    made = one(Operation.CERTIFY, CertifyRequest(**bearing(csr("bob"), version, attributes=wanted)), version=version)
    leaf = made.unique_identifier
    assert list(extension(load(leaf), x509.ExtendedKeyUsage)) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert load(leaf).subject.rfc4514_string() == "CN=bob"
    left = load(leaf).not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    assert datetime.timedelta(days=4) < left <= datetime.timedelta(days=5)
    new = one(Operation.RE_CERTIFY, ReCertifyRequest(unique_identifier=leaf, offset=0), version=version)
    renewed = load(new.unique_identifier)
    assert renewed.public_key() == load(leaf).public_key() and renewed.serial_number != load(leaf).serial_number
    assert links(leaf)[L.REPLACEMENT_OBJECT_LINK] == new.unique_identifier
    assert indicator(version, new.unique_identifier, middle, top) == ValidityIndicator.VALID
    stranger = make("stranger", make("nobody", ca=True)).certificate.public_bytes(serialization.Encoding.DER)
    assert indicator(version, certificates=[stranger]) == ValidityIndicator.UNKNOWN
    assert indicator(version, new.unique_identifier, top, certificates=[stranger]) == ValidityIndicator.INVALID


@every_version
def test_a_stored_public_key_is_certified(version):
    """By its identifier, with the subject of the request; certificate and keys point to one another."""
    top = authority(version)
    common = attributes(algorithm=A.RSA, length=2048)
    pair = one(Operation.CREATE_KEY_PAIR, CreateKeyPairRequest(common_attributes=common), version=version)
    public = pair.public_key_unique_identifier
    wanted = attributes(links=[(L.CERTIFICATE_LINK, top)], **subject(version, "stored"))
    wanted.certificate_type = CertificateType.X_509
    payload = CertifyRequest(unique_identifier=public, attributes=wanted)
    uid = one(Operation.CERTIFY, payload, version=version).unique_identifier
    assert load(uid).subject.rfc4514_string() == "CN=stored,O=Org" and load(uid).issuer == load(top).subject
    found = links(uid)
    assert found[L.PUBLIC_KEY_LINK] == public and found[L.CERTIFICATE_LINK] == top
    assert links(public)[L.CERTIFICATE_LINK] == uid
    assert links(pair.private_key_unique_identifier)[L.CERTIFICATE_LINK] == uid


@every_version
def test_a_request_in_pem_renews_too(version):
    """Re-certify with a certificate request for the same key."""
    top, key = authority(version), rsa.generate_private_key(65537, 2048)
    pem = csr("old", key, encoding=serialization.Encoding.PEM)
    wanted = attributes(links=[(L.CERTIFICATE_LINK, top)])
    ask = bearing(pem, version, attributes=wanted) | {"certificate_request_type": CertificateRequestType.PEM}
    old = one(Operation.CERTIFY, CertifyRequest(**ask), version=version).unique_identifier
    ask = bearing(csr("new", key), version, unique_identifier=old, offset=0)
    new = one(Operation.RE_CERTIFY, ReCertifyRequest(**ask), version=version).unique_identifier
    assert load(new).subject.rfc4514_string() == "CN=new" and load(new).public_key() == key.public_key()
    ask = bearing(csr("new"), version, unique_identifier=new, offset=0)
    reasons = {ResultReason.INVALID_CSR, ResultReason.INVALID_FIELD}  # The first came with 2.0.
    assert why(Operation.RE_CERTIFY, ReCertifyRequest(**ask), version=version) in reasons


# The JSON dialect.


def node(tag, value, kind=None):
    return {"tag": tag, "type": kind or "Structure", "value": value}


def vendor(name, value, kind="TextString"):
    parts = [("VendorIdentification", "cosmian", "TextString"), ("AttributeName", name, "TextString")]
    return node("Attribute", [node(*part) for part in (*parts, ("AttributeValue", value, kind))])


def link(kind, uid):
    return node("Link", [node("LinkType", kind, "Enumeration"), node("LinkedObjectIdentifier", uid, "TextString")])


def asked(operation, *nodes, user="alice"):
    """One bare operation, answered: the values of the answer by tag."""
    status, _, body = engine.handle_http(json.dumps(node(operation, nodes)).encode(), Peer("cli", user=user))
    assert status == 200, body
    return {each["tag"]: each["value"] for each in json.loads(body)["value"]}


def certify(*nodes, subject=(), **options):
    names = [node(f"CertificateSubject{part}", value, "TextString") for part, value in subject]
    return asked("Certify", *nodes, node("Attributes", [*names, *options.pop("attributes", ())]), **options)[
        "UniqueIdentifier"
    ]


PAIR = (
    node("CryptographicAlgorithm", "RSA", "Enumeration"),
    node("CryptographicLength", 2048, "Integer"),
)
SECTION = """[ v3_ca ]
basicConstraints=critical,CA:TRUE,pathlen:1
keyUsage=critical,keyCertSign,cRLSign
certificatePolicies=1.2.3.4
crlDistributionPoints=URI:http://crl.example/list.crl
authorityInfoAccess=OCSP;URI:http://ocsp.example,caIssuers;URI:http://ca.example/ca.der
"""


def test_the_dialect_certifies_renews_and_validates():
    """A root with its key pair, an OpenSSL section, days of validity and tags; a request below it; its renewal."""
    extras = (
        vendor("x509-extension", SECTION.encode().hex().upper(), "ByteString"),
        vendor("requested_validity_days", "1000"),
        vendor("tag", '["my ca"]'),
    )
    top = certify(subject=[("Cn", "Root"), ("O", "Org"), ("Ou", ""), ("C", "FR")], attributes=[*PAIR, *extras])
    made = load(top)
    assert made.subject.rfc4514_string() == "CN=Root,O=Org,C=FR"
    assert 998 < (made.not_valid_after_utc - datetime.datetime.now(datetime.UTC)).days <= 1000
    assert extension(made, x509.BasicConstraints) == x509.BasicConstraints(True, 1)
    assert extension(made, x509.CertificatePolicies)[0].policy_identifier.dotted_string == "1.2.3.4"
    assert extension(made, x509.CRLDistributionPoints)[0].full_name[0].value == "http://crl.example/list.crl"
    access = extension(made, x509.AuthorityInformationAccess)
    assert [each.access_location.value for each in access] == ["http://ocsp.example", "http://ca.example/ca.der"]
    private = links(top)[L.PRIVATE_KEY_LINK]
    assert links(top)[L.PUBLIC_KEY_LINK] == f"{private}_pk"
    tagged = node("UniqueIdentifier", '["my ca","_cert"]', "TextString")
    assert asked("Get", tagged)["UniqueIdentifier"] == top

    request = (
        node("CertificateRequestType", "PEM", "Enumeration"),
        node("CertificateRequestValue", csr("bob", encoding=serialization.Encoding.PEM).hex(), "ByteString"),
    )
    issuer = (link("PrivateKeyLink", private), link("CertificateLink", top))
    client = (vendor("certificate-profile", "client"),)
    leaf = certify(*request, attributes=[*issuer, *client])
    assert load(leaf).subject.rfc4514_string() == "CN=bob" and load(leaf).issuer == made.subject
    uid = node("UniqueIdentifier", leaf, "TextString")
    assert asked("Validate", uid)["ValidityIndicator"] == "Valid"
    # Both ways in which its clients renew.
    again = certify(uid, attributes=issuer)
    assert load(again).public_key() == load(leaf).public_key() and again != leaf
    new = asked("ReCertify", uid, node("Offset", 0, "Interval"))["UniqueIdentifier"]
    assert asked("Validate", node("UniqueIdentifier", new, "TextString"))["ValidityIndicator"] == "Valid"
    reason = node("RevocationReason", [node("RevocationReasonCode", "KeyCompromise", "Enumeration")])
    asked("Revoke", node("UniqueIdentifier", new, "TextString"), reason)
    assert asked("Validate", node("UniqueIdentifier", new, "TextString"))["ValidityIndicator"] == "Invalid"
    value = certificate_nodes(load(leaf), made)
    assert asked("Validate", *value)["ValidityIndicator"] == "Valid"


def certificate_nodes(*certificates):
    return [
        node(
            "Certificate",
            [
                node("CertificateType", "X509", "Enumeration"),
                node("CertificateValue", each.public_bytes(serialization.Encoding.DER).hex(), "ByteString"),
            ],
        )
        for each in certificates
    ]


def test_the_dialect_certifies_a_stored_public_key_under_a_chosen_identifier():
    """The identifier stands inside of the attributes."""
    top = root()
    pair = asked("CreateKeyPair", node("CommonAttributes", PAIR))
    public = node("UniqueIdentifier", pair["PublicKeyUniqueIdentifier"], "TextString")
    chosen = node("UniqueIdentifier", "my-certificate", "TextString")
    uid = certify(public, subject=[("Cn", "stored")], attributes=[link("CertificateLink", top), chosen])
    assert uid == "my-certificate" and load(uid).subject.rfc4514_string() == "CN=stored"


def test_the_dialect_says_why_nothing_was_certified():
    """An absent issuer or key is one that is not found; a section that is not understood is a wrong field."""

    def refusal(*nodes, user="alice"):
        peer = Peer("cli", user=user)
        peer.headers = {"Accept": "application/json"}
        status, _, body = engine.handle_http(json.dumps(node("Certify", nodes)).encode(), peer)
        return status, json.loads(body)["error"]

    top = root()
    request = (
        node("CertificateRequestType", "PKCS10", "Enumeration"),
        node("CertificateRequestValue", csr().hex(), "ByteString"),
    )
    below = link("CertificateLink", top)
    assert refusal(node("UniqueIdentifier", "nobody", "TextString")) == (422, "Item_Not_Found")
    assert refusal(*request, node("Attributes", [link("CertificateLink", "nobody")])) == (422, "Item_Not_Found")
    assert refusal(*request, node("Attributes", [below]), user="mallory") == (422, "Item_Not_Found")
    flying = vendor("x509-extension", b"[v3_ca]\nkeyUsage=flying".hex(), "ByteString")
    assert refusal(*request, node("Attributes", [below, flying])) == (422, "Invalid_Field")
    assert ca.authority_of("default", top) is not None
