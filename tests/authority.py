"""An authority for tests: certificates made through the engine, as a user would."""

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from keystore import conf, engine, sealing
from keystore.authn import Peer
from kmip.attributes import Attributes
from kmip.enums import (
    CertificateRequestType,
    CryptographicAlgorithm,
    LinkType,
    Operation,
    RecommendedCurve,
)
from kmip.errors import KMIPError
from kmip.payloads import CertifyRequest, GetAttributesRequest, GetRequest
from kmip.structures import CryptographicDomainParameters, Link
from kmip.versions import V2_1

A, L = CryptographicAlgorithm, LinkType
DAY = datetime.timedelta(days=1)


@pytest.fixture
def sealed():
    """A root key."""
    sealing.create_root_key(conf.current().sealing.root_key_file)
    sealing.reset()
    yield
    sealing.reset()


def do(operation, payload, user="alice", version=V2_1):
    return engine.execute(operation, payload, Peer("cli", user=user), version=version)


def attributes(cn=None, *, algorithm=None, length=None, curve=None, links=(), vendor=(), **others):
    found = Attributes()
    if cn is not None:
        found.certificate_subject_cn = [cn]
    found.cryptographic_algorithm, found.cryptographic_length = algorithm, length
    if curve is not None:
        found.cryptographic_domain_parameters = CryptographicDomainParameters(recommended_curve=curve)
    found.link = [Link(link_type=kind, linked_object_identifier=uid) for kind, uid in links]
    for one in vendor:
        found.update(one)
    for name, value in others.items():
        setattr(found, name, value)
    return found


def root(cn="Root", user="alice", **options):
    options.setdefault("algorithm", A.EC)
    if options["algorithm"] == A.EC:
        options.setdefault("curve", RecommendedCurve.P_256)
    return do(Operation.CERTIFY, CertifyRequest(attributes=attributes(cn, **options)), user).unique_identifier


def certified(issuer, cn="leaf", user="alice", **options):
    """A certificate with a new P-256 key."""
    links = [(L.CERTIFICATE_LINK, issuer)]
    return root(cn, user, links=links, **options)


def der(uid, user="alice"):
    return do(Operation.GET, GetRequest(unique_identifier=uid), user).certificate.certificate_value


def load(uid, user="alice"):
    return x509.load_der_x509_certificate(der(uid, user))


def seen(uid, user="alice"):
    return do(Operation.GET_ATTRIBUTES, GetAttributesRequest(unique_identifier=uid), user).attributes


def links(uid):
    return {link.link_type: link.linked_object_identifier for link in seen(uid).link}


def csr(cn="from a request", key=None, extensions=(), encoding=serialization.Encoding.DER):
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, cn)] if cn else [])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(key, hashes.SHA256()).public_bytes(encoding)


def from_csr(issuer, request, user="alice", kind=CertificateRequestType.PKCS_10, **options):
    wanted = attributes(links=[(L.CERTIFICATE_LINK, issuer)], **options)
    payload = CertifyRequest(certificate_request_type=kind, certificate_request_value=request, attributes=wanted)
    return do(Operation.CERTIFY, payload, user).unique_identifier


def extension(certificate, kind):
    return certificate.extensions.get_extension_for_class(kind).value


def refused(reason, operation, payload, user="alice", version=V2_1):
    with pytest.raises(KMIPError) as caught:
        do(operation, payload, user, version)
    assert caught.value.reason == reason, caught.value
    return caught.value.message
