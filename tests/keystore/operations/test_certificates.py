"""Certify, Re-certify and Validate, through the engine."""

import datetime
import json
import shutil
import subprocess
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store

from keystore import access, authn, ca, engine, roles
from keystore.authn import Peer
from keystore.crypto import algorithms
from kmip.attributes import Attributes, Vendor
from kmip.attributes import vendor_text as text
from kmip.enums import (
    AlternativeNameType,
    CertificateRequestType,
    CertificateType,
    CryptographicUsageMask,
    DigitalSignatureAlgorithm,
    NameType,
    ObjectType,
    Operation,
    RecommendedCurve,
    ResultReason,
    RevocationReasonCode,
    State,
    ValidityIndicator,
)
from kmip.errors import KMIPError
from kmip.objects import Certificate
from kmip.payloads import (
    CertifyRequest,
    ReCertifyRequest,
    RegisterRequest,
    RevokeRequest,
    ValidateRequest,
)
from kmip.structures import (
    AlternativeName,
    CertificateSubject,
    Name,
    RevocationReason,
    X_509CertificateSubject,
)
from kmip.tags import Tag
from kmip.ttlv import Item, Type
from tests.authority import (  # noqa: F401 - a fixture among them
    DAY,
    A,
    L,
    attributes,
    certified,
    csr,
    der,
    do,
    extension,
    from_csr,
    links,
    load,
    refused,
    root,
    sealed,
    seen,
)
from tests.certificates import CLIENT, make

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("sealed")]

# Certify.


ISSUERS = {
    "RSA": {"algorithm": A.RSA, "length": 2048},
    "P-256": {"algorithm": A.EC, "curve": RecommendedCurve.P_256},
    "P-384": {"algorithm": A.EC, "curve": RecommendedCurve.P_384},
    "Ed25519": {"algorithm": A.ED25519},
    "Ed448": {"algorithm": A.ED448},
    "ML-DSA-44": {"algorithm": algorithms.ML_DSA_44},
    "ML-DSA-65": {"algorithm": algorithms.ML_DSA_65},
    "ML-DSA-87": {"algorithm": algorithms.ML_DSA_87},
}


@pytest.mark.parametrize("options", ISSUERS.values(), ids=ISSUERS)
def test_authorities_of_every_algorithm_sign_chains_lists_and_answers(options, tmp_path):
    """Root, intermediate and leaf verify one another, strictly; so do revocation lists and OCSP answers."""
    top = root(**options)
    middle = root(
        "Middle", links=[(L.CERTIFICATE_LINK, top)], vendor=[text("certificate-profile", "intermediate")], **options
    )
    leaf, uids = certified(middle), (top, middle)
    chain = [load(leaf), load(middle), load(top)]
    for below, above in zip(chain, [*chain[1:], chain[-1]], strict=True):
        below.verify_directly_issued_by(above)
    found = do(Operation.VALIDATE, ValidateRequest(unique_identifier=[leaf, middle, top]))
    assert found.validity_indicator == ValidityIndicator.VALID
    authority = ca.authority_of("default", middle)
    crl = x509.load_der_x509_crl(ca.revocation_list(authority))
    assert crl.is_signature_valid(chain[1].public_key())
    question = ocsp.OCSPRequestBuilder().add_certificate(chain[0], chain[1], hashes.SHA1()).build()
    answer, _ = ca.ocsp_answer(authority, question.public_bytes(serialization.Encoding.DER))
    assert ocsp.load_der_ocsp_response(answer).certificate_status == ocsp.OCSPCertStatus.GOOD
    if not knows(chain[1]):
        pytest.skip("all but openssl's part: it is too old for this algorithm")
    top, middle, leaf = (write(tmp_path / name, each) for name, each in zip(("t", "m", "l"), chain[::-1], strict=True))
    lists = [x509.load_der_x509_crl(ca.revocation_list(ca.authority_of("default", uid))) for uid in uids]
    (tmp_path / "crl").write_bytes(b"".join(one.public_bytes(serialization.Encoding.PEM) for one in lists))
    strict = ["verify", "-x509_strict", "-crl_check_all", "-CRLfile", str(tmp_path / "crl"), "-CAfile", top]
    run = openssl(*strict, "-untrusted", middle, leaf)
    assert run.returncode == 0, run.stderr
    (tmp_path / "answer").write_bytes(answer)
    run = openssl("ocsp", "-respin", str(tmp_path / "answer"), "-issuer", middle, "-cert", leaf, "-CAfile", top,
                  "-verify_other", middle, "-no_nonce")  # fmt: skip
    assert b"Response verify OK" in run.stderr and b"l: good" in run.stdout, run


def openssl(*arguments, data=None):
    return subprocess.run(["openssl", *arguments], input=data, capture_output=True, check=False)


def knows(certificate):
    """Whether the openssl here can use the certificate's key."""
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    return b"Unable to load" not in openssl("x509", "-noout", "-text", data=pem).stdout


def write(path, certificate):
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return str(path)


def test_a_chain_passes_openssl_and_cryptography_strictly(tmp_path):
    """What is issued satisfies the strictest reading of RFC 5280 of both."""
    top = root(algorithm=A.RSA, length=2048)
    middle = root("Middle", links=[(L.CERTIFICATE_LINK, top)], vendor=[text("certificate-profile", "intermediate")])
    names = [AlternativeName(alternative_name_value="kms.example", alternative_name_type=AlternativeNameType.DNS_NAME)]
    server = certified(middle, "kms.example", alternative_name=names, vendor=[text("certificate-profile", "server")])
    client = from_csr(middle, csr("bob"), vendor=[text("certificate-profile", "client")])
    for name, uid in (("top", top), ("middle", middle), ("server", server), ("client", client)):
        (tmp_path / f"{name}.pem").write_bytes(load(uid).public_bytes(serialization.Encoding.PEM))
    for name, purpose in (("server", "sslserver"), ("client", "sslclient")):
        files = [str(tmp_path / f"{each}.pem") for each in ("top", "middle", name)]
        run = openssl(
            "verify", "-x509_strict", "-purpose", purpose, "-CAfile", files[0], "-untrusted", files[1], files[2]
        )
        assert run.returncode == 0, run.stderr
    verifier = PolicyBuilder().store(Store([load(top)])).build_server_verifier(x509.DNSName("kms.example"))
    assert verifier.verify(load(server), [load(middle)])


def test_a_certificate_and_its_key_link_to_one_another():
    """The certificate knows public key, private key and issuer; both keys know the certificate."""
    top = root()
    uid = certified(top, name=[Name(name_value="bobs", name_type=NameType.UNINTERPRETED_TEXT_STRING)])
    found = links(uid)
    assert found[L.CERTIFICATE_LINK] == top
    assert links(found[L.PUBLIC_KEY_LINK])[L.CERTIFICATE_LINK] == uid
    assert links(found[L.PUBLIC_KEY_LINK])[L.PKCS_12_CERTIFICATE_LINK] == uid
    assert links(found[L.PRIVATE_KEY_LINK])[L.CERTIFICATE_LINK] == uid
    shown = seen(uid)
    assert shown.state == State.ACTIVE and shown.certificate_subject_cn == ["leaf"]
    assert shown.certificate_issuer_cn == ["Root"]
    assert shown.deactivation_date == int(load(uid).not_valid_after_utc.timestamp())


SUBJECTS = {
    "attributes of 2.x": lambda a: (
        setattr(a, "certificate_subject_cn", ["x"]),
        setattr(a, "certificate_subject_o", ["Org"]),
        setattr(a, "certificate_subject_c", ["FR"]),
    ),
    "text of 1.0": lambda a: setattr(
        a,
        "certificate_subject",
        CertificateSubject(certificate_subject_distinguished_name="CN=x,O=Org,C=FR"),
    ),
    "DER of 1.1": lambda a: setattr(
        a,
        "x_509_certificate_subject",
        X_509CertificateSubject(
            subject_distinguished_name=x509.Name.from_rfc4514_string("CN=x,O=Org,C=FR").public_bytes()
        ),
    ),
}


@pytest.mark.parametrize("put", SUBJECTS.values(), ids=SUBJECTS)
def test_the_subject_is_taken_from_whichever_attribute_names_it(put):
    """Three spellings, one subject."""
    wanted = attributes(algorithm=A.EC, curve=RecommendedCurve.P_256)
    put(wanted)
    uid = do(Operation.CERTIFY, CertifyRequest(attributes=wanted)).unique_identifier
    assert load(uid).subject.rfc4514_string() == "CN=x,O=Org,C=FR"


def test_a_certificate_request_wins_over_attributes():
    """Subject and names of the request are the certificate's (2.1, 6.1.6)."""
    top = root()
    names = x509.SubjectAlternativeName([x509.DNSName("a.example"), x509.DNSName("b.example")])
    uid = from_csr(top, csr("mine", extensions=[(names, False)]), cn="other")
    assert load(uid).subject.rfc4514_string() == "CN=mine"
    assert extension(load(uid), x509.SubjectAlternativeName) == names


def test_nobody_makes_itself_a_ca_by_asking():
    """Basic constraints and CA usages of a certificate request are not copied."""
    top = root()
    usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
    request = csr(extensions=[(x509.BasicConstraints(True, None), True), (usage, True)])
    for vendor in ([], [text("certificate-profile", "client")]):
        made = load(from_csr(top, request, vendor=vendor))
        assert not extension(made, x509.BasicConstraints).ca
        assert not extension(made, x509.KeyUsage).key_cert_sign


def test_a_profile_decides_what_a_request_would_like_to_be():
    """A client certificate is one even if the request asks for a server's usage; names are kept."""
    top = root()
    server = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    names = x509.SubjectAlternativeName([x509.DNSName("a.example")])
    made = load(
        from_csr(top, csr(extensions=[(server, False), (names, False)]), vendor=[text("certificate-profile", "client")])
    )
    assert list(extension(made, x509.ExtendedKeyUsage)) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert extension(made, x509.SubjectAlternativeName) == names


def test_extensions_come_from_the_dialects_attribute():
    """An OpenSSL section, as the dialect's clients send it."""
    top = root()
    section = (
        b"[ v3_ca ]\nbasicConstraints = critical, CA:TRUE, pathlen:2\nkeyUsage=critical,keyCertSign,cRLSign\n"
        b"crlDistributionPoints=URI:http://crl.example/x.crl\nsubjectAltName=@names\n[names]\nDNS.1=a.example\nIP.1=10.0.0.1\n"
    )
    item = {Vendor("cosmian", "x509-extension"): {0: Item(Tag.ATTRIBUTE_VALUE, Type.BYTE_STRING, section)}}
    made = load(from_csr(top, csr(), vendor=[item]))
    assert extension(made, x509.BasicConstraints) == x509.BasicConstraints(True, 2)
    assert "a.example" in [name.value for name in extension(made, x509.SubjectAlternativeName)]
    points = extension(made, x509.CRLDistributionPoints)
    assert points[0].full_name[0].value == "http://crl.example/x.crl"


def test_validity_is_asked_for_and_stays_within_the_issuers():
    """Days count from now; nothing outlives its issuer."""
    top = root(vendor=[text("requested_validity_days", "30")])
    assert load(top).not_valid_after_utc - datetime.datetime.now(datetime.UTC) < 31 * DAY
    long = load(certified(top, vendor=[text("requested_validity_days", "90")]))
    assert long.not_valid_after_utc == load(top).not_valid_after_utc
    short = load(certified(top, vendor=[text("requested_validity_days", "3")]))
    assert 2 * DAY < short.not_valid_after_utc - datetime.datetime.now(datetime.UTC) <= 3 * DAY


def test_addresses_of_the_issuer_stand_in_certificates(configure):
    """With pki.url set: where the list, the OCSP service and the issuer's certificate are."""
    configure(**{"pki.url": "http://kms.example/"})
    top = root()
    made = load(certified(top))
    key = ca.authority_of("default", top).key_id
    assert extension(made, x509.CRLDistributionPoints)[0].full_name[0].value == f"http://kms.example/pki/{key}/crl"
    access = {
        one.access_method._name: one.access_location.value for one in extension(made, x509.AuthorityInformationAccess)
    }
    assert access == {"OCSP": f"http://kms.example/pki/{key}/ocsp", "caIssuers": f"http://kms.example/pki/{key}/ca"}


def test_serial_numbers_are_random_and_unique():
    """No two alike, at least 64 bits."""
    top = root()
    serials = {load(from_csr(top, csr())).serial_number for _ in range(5)}
    assert len(serials) == 5 and min(serials).bit_length() > 64


def test_rsa_signs_with_pss_when_asked():
    """The Digital Signature Algorithm of the request is the certificate's."""
    top = root(algorithm=A.RSA, length=2048)
    made = load(from_csr(top, csr(), digital_signature_algorithm=[DigitalSignatureAlgorithm.RSASSA_PSS]))
    assert made.signature_algorithm_oid == x509.SignatureAlgorithmOID.RSASSA_PSS
    made.verify_directly_issued_by(load(top))


def test_requests_of_openssl_and_keytool_are_signed(tmp_path):
    """PEM with the usual and the old header, and DER; a type that contradicts the bytes does no harm."""
    top = root()
    made = openssl(
        "req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", str(tmp_path / "k"), "-subj", "/CN=ossl/O=Org"
    )
    assert load(from_csr(top, made.stdout, kind=CertificateRequestType.PEM)).subject.rfc4514_string() == "O=Org,CN=ossl"
    old = made.stdout.replace(b"BEGIN CERT", b"BEGIN NEW CERT").replace(b"END CERT", b"END NEW CERT")
    assert from_csr(top, old, kind=CertificateRequestType.PKCS_10)


@pytest.mark.skipif(shutil.which("keytool") is None, reason="keytool is not installed")
def test_a_request_of_keytool_is_signed(tmp_path):
    """Java's tool, with a name of its own."""
    store = ["-keystore", str(tmp_path / "store"), "-storepass", "changeit", "-alias", "kms"]
    subprocess.run(
        ["keytool", "-genkeypair", "-keyalg", "EC", "-dname", "CN=java,O=Org", *store],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    made = subprocess.run(
        ["keytool", "-certreq", "-ext", "san=dns:java.example", *store], check=True, capture_output=True, timeout=60
    ).stdout
    assert b"NEW CERTIFICATE REQUEST" in made
    signed = load(from_csr(root(), made, kind=CertificateRequestType.PEM))
    assert signed.subject.rfc4514_string() == "CN=java,O=Org"
    assert extension(signed, x509.SubjectAlternativeName).get_values_for_type(x509.DNSName) == ["java.example"]


def test_each_bad_request_has_its_reason(configure):
    """What is wrong is said with the reason of its section."""
    top = root()
    spoilt = bytearray(csr())
    spoilt[-1] ^= 1
    ask = {"certificate_request_type": CertificateRequestType.PKCS_10}
    linked = attributes(links=[(L.CERTIFICATE_LINK, top)])
    R = ResultReason
    refused(
        R.INVALID_CSR,
        Operation.CERTIFY,
        CertifyRequest(**ask, certificate_request_value=bytes(spoilt), attributes=linked),
    )
    refused(R.INVALID_CSR, Operation.CERTIFY, CertifyRequest(**ask, certificate_request_value=b"x", attributes=linked))
    crmf = {"certificate_request_type": CertificateRequestType.CRMF, "certificate_request_value": b"x"}
    refused(R.FEATURE_NOT_SUPPORTED, Operation.CERTIFY, CertifyRequest(**crmf, attributes=linked))
    refused(R.ITEM_NOT_FOUND, Operation.CERTIFY, CertifyRequest(unique_identifier="nobody", attributes=linked))
    private = links(top)[L.PRIVATE_KEY_LINK]
    refused(R.INVALID_OBJECT_TYPE, Operation.CERTIFY, CertifyRequest(unique_identifier=private, attributes=linked))
    refused(
        R.INVALID_FIELD,
        Operation.CERTIFY,
        CertifyRequest(**ask, certificate_request_value=csr(), attributes=Attributes()),
    )
    refused(
        R.INVALID_FIELD, Operation.CERTIFY, CertifyRequest(**ask, certificate_request_value=csr(""), attributes=linked)
    )
    for name, value in (
        ("certificate-profile", "no-such"),
        ("x509-extension", "keyUsage=flying"),
        ("x509-extension", "basicConstraints=CA:FALSE,pathlen:1"),
        ("requested_validity_days", "soon"),
    ):
        bad = attributes(links=[(L.CERTIFICATE_LINK, top)], vendor=[text(name, value)])
        refused(
            R.INVALID_FIELD, Operation.CERTIFY, CertifyRequest(**ask, certificate_request_value=csr(), attributes=bad)
        )
    leaf = attributes(links=[(L.CERTIFICATE_LINK, certified(top))])
    refused(R.INVALID_FIELD, Operation.CERTIFY, CertifyRequest(**ask, certificate_request_value=csr(), attributes=leaf))


def test_an_intermediate_of_path_length_zero_makes_no_further_ca():
    """The profile's path length holds."""
    top = root()
    profile = [text("certificate-profile", "intermediate")]
    middle = certified(top, "middle", vendor=profile)
    wanted = attributes("below", algorithm=A.EC, links=[(L.CERTIFICATE_LINK, middle)], vendor=profile)
    message = refused(ResultReason.INVALID_FIELD, Operation.CERTIFY, CertifyRequest(attributes=wanted))
    assert "path length" in message


def test_only_who_may_certify_with_an_authoritys_key_uses_it(configure):
    """Another user does not reach the CA, not by a link and not as the configured issuer."""
    top = root()
    ask = {"certificate_request_type": CertificateRequestType.PKCS_10, "certificate_request_value": csr("admin")}
    for wanted in (
        attributes(links=[(L.CERTIFICATE_LINK, top)]),
        attributes(links=[(L.PRIVATE_KEY_LINK, links(top)[L.PRIVATE_KEY_LINK])]),
    ):
        refused(
            ResultReason.ITEM_NOT_FOUND, Operation.CERTIFY, CertifyRequest(**ask, attributes=wanted), user="mallory"
        )
    configure(**{"pki.issuer": top})
    refused(ResultReason.ITEM_NOT_FOUND, Operation.CERTIFY, CertifyRequest(**ask), user="mallory")
    assert load(do(Operation.CERTIFY, CertifyRequest(**ask)).unique_identifier).issuer == load(top).subject


def test_a_key_that_may_not_sign_certifies_nothing():
    """A revoked issuer, by key or by certificate, is none."""
    top = root()
    reason = RevocationReason(revocation_reason_code=RevocationReasonCode.SUPERSEDED)
    do(Operation.REVOKE, RevokeRequest(unique_identifier=links(top)[L.PRIVATE_KEY_LINK], revocation_reason=reason))
    wanted = attributes("x", algorithm=A.EC, links=[(L.CERTIFICATE_LINK, top)])
    refused(ResultReason.WRONG_KEY_LIFECYCLE_STATE, Operation.CERTIFY, CertifyRequest(attributes=wanted))
    other = root("Other")
    do(Operation.REVOKE, RevokeRequest(unique_identifier=other, revocation_reason=reason))
    wanted = attributes("x", algorithm=A.EC, links=[(L.CERTIFICATE_LINK, other)])
    refused(ResultReason.WRONG_KEY_LIFECYCLE_STATE, Operation.CERTIFY, CertifyRequest(attributes=wanted))


def test_usage_masks_become_key_usages():
    """Certificate Sign makes a CA; Sign a signer."""
    top = root()
    mask = CryptographicUsageMask
    signer = load(from_csr(top, csr(), cryptographic_usage_mask=int(mask.SIGN | mask.CERTIFICATE_SIGN)))
    assert extension(signer, x509.BasicConstraints).ca and extension(signer, x509.KeyUsage).key_cert_sign
    plain = load(from_csr(top, csr(), cryptographic_usage_mask=int(mask.SIGN)))
    assert extension(plain, x509.KeyUsage).digital_signature and not extension(plain, x509.BasicConstraints).ca


# Re-certify.


def test_renewal_moves_the_name_and_links_both():
    """The new certificate takes Name and key; old and new point to one another (2.1, 6.1.45)."""
    top = root()
    old = certified(top, name=[Name(name_value="web", name_type=NameType.UNINTERPRETED_TEXT_STRING)])
    new = do(Operation.RE_CERTIFY, ReCertifyRequest(unique_identifier=old, offset=0)).unique_identifier
    before, after = load(old), load(new)
    assert new != old and before.public_key() == after.public_key() and before.serial_number != after.serial_number
    assert before.subject == after.subject and extension(before, x509.KeyUsage) == extension(after, x509.KeyUsage)
    assert [name.name_value for name in seen(new).name] == ["web"] and not seen(old).name
    assert links(old)[L.REPLACEMENT_OBJECT_LINK] == new and links(new)[L.REPLACED_OBJECT_LINK] == old
    assert links(links(new)[L.PUBLIC_KEY_LINK])[L.CERTIFICATE_LINK] == new
    shown, previous = seen(new), seen(old)
    assert abs(shown.activation_date - time.time()) < 10
    length = previous.deactivation_date - previous.activation_date
    assert shown.deactivation_date - shown.activation_date == length


def test_renewal_without_an_offset_keeps_the_dates():
    """Activation and Deactivation Date are the existing certificate's."""
    old = certified(root())
    new = do(Operation.RE_CERTIFY, ReCertifyRequest(unique_identifier=old)).unique_identifier
    assert load(new).not_valid_after_utc == load(old).not_valid_after_utc
    dated = attributes(activation_date=int(time.time()))
    refused(
        ResultReason.INVALID_MESSAGE,
        Operation.RE_CERTIFY,
        ReCertifyRequest(unique_identifier=new, offset=0, attributes=dated),
    )


def test_a_renewed_ca_stays_the_same_authority():
    """The key names the authority: what the old certificate signed is on the new one's list."""
    top = root()
    leaf = certified(top)
    new = do(Operation.RE_CERTIFY, ReCertifyRequest(unique_identifier=top, offset=0)).unique_identifier
    authority = ca.authority_of("default", new)
    assert authority is not None and ca.authority_of("default", top) is None
    load(leaf).verify_directly_issued_by(load(new))
    reason = RevocationReason(revocation_reason_code=RevocationReasonCode.SUPERSEDED)
    do(Operation.REVOKE, RevokeRequest(unique_identifier=leaf, revocation_reason=reason))
    authority.refresh_from_db()
    crl = x509.load_der_x509_crl(ca.revocation_list(authority))
    assert crl.get_revoked_certificate_by_serial_number(load(leaf).serial_number)


def test_renewal_refuses_another_key_and_other_objects():
    """The certificate request must be for the same key."""
    old = certified(root())
    ask = {"certificate_request_type": CertificateRequestType.PKCS_10, "certificate_request_value": csr()}
    refused(ResultReason.INVALID_CSR, Operation.RE_CERTIFY, ReCertifyRequest(unique_identifier=old, offset=0, **ask))
    key = links(old)[L.PUBLIC_KEY_LINK]
    refused(ResultReason.INVALID_OBJECT_TYPE, Operation.RE_CERTIFY, ReCertifyRequest(unique_identifier=key))
    refused(ResultReason.OBJECT_NOT_FOUND, Operation.RE_CERTIFY, ReCertifyRequest(unique_identifier="nobody"))


# Validate.


def indicator(*uids, at=None, certificates=()):
    brought = [Certificate(certificate_type=CertificateType.X_509, certificate_value=one) for one in certificates]
    payload = ValidateRequest(certificate=brought, unique_identifier=list(uids), validity_date=at)
    return do(Operation.VALIDATE, payload).validity_indicator


def test_validity_follows_dates_order_and_revocation():
    """Valid now in any order, invalid later, invalid once revoked, unknown without an issuer."""
    top = root()
    middle = certified(top, "middle", vendor=[text("certificate-profile", "intermediate")])
    leaf = certified(middle)
    V = ValidityIndicator
    assert indicator(top, leaf, middle) == V.VALID
    # Issuers that are authorities here need not be sent along.
    assert indicator(leaf) == V.VALID
    assert indicator(certificates=[der(leaf), der(middle)]) == V.VALID
    assert indicator(leaf, at=int(time.time()) + 400 * 86400) == V.INVALID
    assert indicator(leaf, at=int(time.time()) - 86400) == V.INVALID
    assert indicator(leaf, root("Stranger")) == V.INVALID
    reason = RevocationReason(revocation_reason_code=RevocationReasonCode.CESSATION_OF_OPERATION)
    do(Operation.REVOKE, RevokeRequest(unique_identifier=middle, revocation_reason=reason))
    assert indicator(leaf) == V.INVALID


def foreign(**options):
    """A CA of somebody else and a leaf below it, both in DER."""
    authority = make("foreign CA", ca=True)
    leaf = make("leaf", authority, usage=CLIENT, **options)
    return [one.certificate.public_bytes(serialization.Encoding.DER) for one in (leaf, authority)]


def test_chains_of_others_are_valid_if_they_are_whole():
    """Without the root it is not known whether they are."""
    leaf, authority = foreign()
    assert indicator(certificates=[leaf, authority]) == ValidityIndicator.VALID
    assert indicator(certificates=[leaf]) == ValidityIndicator.UNKNOWN
    expired, authority = foreign(begins=-30 * DAY, ends=-DAY)
    assert indicator(certificates=[expired, authority]) == ValidityIndicator.INVALID


def test_validate_names_what_it_cannot_look_at():
    """Nothing, something absent, something else."""
    key = links(root())[L.PUBLIC_KEY_LINK]
    refused(ResultReason.INVALID_MESSAGE, Operation.VALIDATE, ValidateRequest())
    refused(ResultReason.OBJECT_NOT_FOUND, Operation.VALIDATE, ValidateRequest(unique_identifier=["nobody"]))
    refused(ResultReason.INVALID_OBJECT_TYPE, Operation.VALIDATE, ValidateRequest(unique_identifier=[key]))


def test_registered_authorities_issue_too():
    """A CA made elsewhere, its key and certificate registered and linked, certifies."""
    from kmip.enums import KeyFormatType
    from kmip.objects import KeyBlock, KeyValue, PrivateKey

    made = make("outside CA", ca=True)
    data = made.key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    block = KeyBlock(key_format_type=KeyFormatType.PKCS_8, key_value=KeyValue(key_material=data))
    wanted = Attributes()
    wanted.cryptographic_usage_mask = int(CryptographicUsageMask.SIGN)
    wanted.activation_date = int(time.time()) - 10
    payload = RegisterRequest(
        object_type=ObjectType.PRIVATE_KEY, private_key=PrivateKey(key_block=block), attributes=wanted
    )
    private = do(Operation.REGISTER, payload).unique_identifier
    value = made.certificate.public_bytes(serialization.Encoding.DER)
    wanted = attributes(links=[(L.PRIVATE_KEY_LINK, private)])
    payload = RegisterRequest(
        object_type=ObjectType.CERTIFICATE,
        certificate=Certificate(certificate_type=CertificateType.X_509, certificate_value=value),
        attributes=wanted,
    )
    top = do(Operation.REGISTER, payload).unique_identifier
    load(from_csr(top, csr())).verify_directly_issued_by(made.certificate)


def test_weak_keys_sign_nothing():
    """RSA of 1024 bits is not an issuer under the default policy."""
    wanted = attributes("weak", algorithm=A.RSA, length=1024)
    refused(ResultReason.PERMISSION_DENIED, Operation.CERTIFY, CertifyRequest(attributes=wanted))


def test_weak_keys_are_not_certified():
    """Whoever brings one in a certificate request is told so."""
    top = root()
    request = csr(key=rsa.generate_private_key(65537, 1024))
    wanted = attributes(links=[(L.CERTIFICATE_LINK, top)])
    payload = CertifyRequest(
        certificate_request_type=CertificateRequestType.PKCS_10, certificate_request_value=request, attributes=wanted
    )
    assert "1024" in refused(ResultReason.PERMISSION_DENIED, Operation.CERTIFY, payload)


def test_the_right_to_certify_does_not_change_the_authority():
    """Its owner says which certificate is the authority's: another one for its key signs, and that is all."""
    top = root()
    private = links(top)[L.PRIVATE_KEY_LINK]
    alice = Peer("cli", user="alice")
    access.grant(alice, authn.identify(alice), private, "user:bob", roles.bits([Operation.CERTIFY]))
    key = load(top).public_key()
    stranger = make("Stranger", ca=True)
    builder = x509.CertificateBuilder().subject_name(x509.Name.from_rfc4514_string("CN=Mine")).public_key(key)
    builder = builder.issuer_name(stranger.certificate.subject).serial_number(7)
    now = datetime.datetime.now(datetime.UTC)
    builder = builder.not_valid_before(now - DAY).not_valid_after(now + DAY)
    forged = builder.add_extension(x509.BasicConstraints(True, None), True).sign(stranger.key, hashes.SHA256())
    value = Certificate(
        certificate_type=CertificateType.X_509, certificate_value=forged.public_bytes(serialization.Encoding.DER)
    )
    payload = RegisterRequest(object_type=ObjectType.CERTIFICATE, certificate=value, attributes=Attributes())
    mine = do(Operation.REGISTER, payload, "bob").unique_identifier
    wanted = attributes(links=[(L.PRIVATE_KEY_LINK, private), (L.CERTIFICATE_LINK, mine)])
    payload = CertifyRequest(
        certificate_request_type=CertificateRequestType.PKCS_10, certificate_request_value=csr(), attributes=wanted
    )
    assert do(Operation.CERTIFY, payload, "bob").unique_identifier
    assert ca.authority_of("default", top) is not None and ca.authority_of("default", mine) is None


def test_a_destroyed_certificate_is_revoked_all_the_same():
    """It may be gone here; where it is used it is not."""
    top = root()
    uid = certified(top)
    gone = load(uid)
    body = {"tag": "Destroy", "value": [{"tag": "UniqueIdentifier", "type": "TextString", "value": uid}]}
    assert engine.handle_http(json.dumps(body).encode(), Peer("cli", user="alice"))[0] == 200
    reason = {"tag": "RevocationReason", "value": [
        {"tag": "RevocationReasonCode", "type": "Enumeration", "value": "Superseded"}]}  # fmt: skip
    body = {"tag": "Revoke", "value": [*body["value"], reason]}
    assert engine.handle_http(json.dumps(body).encode(), Peer("cli", user="alice"))[0] == 200
    crl = x509.load_der_x509_crl(ca.revocation_list(ca.authority_of("default", top)))
    assert crl.get_revoked_certificate_by_serial_number(gone.serial_number)


# Profiles.

PROFILES = {  # alternative name, and a purpose for which openssl takes the certificate, and one for which it does not
    "server": ((AlternativeNameType.DNS_NAME, "kms.example"), "sslserver", "sslclient"),
    "client": ((AlternativeNameType.URI, "urn:kms:bob"), "sslclient", "sslserver"),
    "peer": ((AlternativeNameType.IP_ADDRESS, "192.0.2.7"), "sslclient", "smimesign"),
    "smime": ((AlternativeNameType.EMAIL_ADDRESS, "bob@example.com"), "smimesign", "sslserver"),
    "code-signing": ((AlternativeNameType.DNS_NAME, "build.example"), "any", "sslserver"),
    "end-entity": ((AlternativeNameType.DNS_NAME, "x.example"), "sslserver", "crlsign"),
}


@pytest.mark.parametrize("profile", PROFILES)
def test_each_profile_is_for_its_purpose(profile, tmp_path):
    """By openssl's strict reading; alternative names come from attributes."""
    (kind, value), good, bad = PROFILES[profile]
    top = root(algorithm=A.RSA, length=2048)
    names = [AlternativeName(alternative_name_value=value, alternative_name_type=kind)]
    uid = certified(top, alternative_name=names, vendor=[text("certificate-profile", profile)])
    files = [write(tmp_path / name, load(each)) for name, each in (("top", top), ("leaf", uid))]
    run = openssl("verify", "-x509_strict", "-purpose", good, "-CAfile", *files)
    assert run.returncode == 0, run.stderr
    assert openssl("verify", "-x509_strict", "-purpose", bad, "-CAfile", *files).returncode != 0
    shown = openssl("x509", "-noout", "-ext", "subjectAltName,extendedKeyUsage", "-in", files[1]).stdout
    assert value.encode() in shown and (b"Code Signing" in shown) == (profile == "code-signing")


OWN = """
[ vpn ]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = 1.3.6.1.5.5.7.3.17
certificatePolicies = @policy
crlDistributionPoints = URI:http://crl.example/vpn.crl
authorityInfoAccess = OCSP;URI:http://ocsp.example
[ policy ]
policyIdentifier = 1.3.6.1.4.1.99999.1
CPS.1 = "http://cps.example"
[ client ]
extendedKeyUsage = clientAuth, emailProtection
"""


def test_profiles_are_added_by_a_file(configure, tmp_path):
    """New ones and replaced ones, as soon as the file has changed; a file that cannot be read issues nothing."""
    top, file = root(), tmp_path / "profiles.cnf"
    file.write_text(OWN)
    configure(**{"pki.profiles_file": file})
    made = load(certified(top, vendor=[text("certificate-profile", "vpn")]))
    policy = extension(made, x509.CertificatePolicies)[0]
    assert policy.policy_identifier.dotted_string == "1.3.6.1.4.1.99999.1"
    assert policy.policy_qualifiers == ["http://cps.example"]
    assert extension(made, x509.ExtendedKeyUsage)[0].dotted_string == "1.3.6.1.5.5.7.3.17"
    assert extension(made, x509.CRLDistributionPoints)[0].full_name[0].value == "http://crl.example/vpn.crl"
    assert extension(made, x509.AuthorityInformationAccess)[0].access_location.value == "http://ocsp.example"
    made = load(certified(top, vendor=[text("certificate-profile", "client")]))
    assert list(extension(made, x509.ExtendedKeyUsage)) == [
        ExtendedKeyUsageOID.CLIENT_AUTH,
        ExtendedKeyUsageOID.EMAIL_PROTECTION,
    ]
    asked = attributes("x", algorithm=A.EC, links=[(L.CERTIFICATE_LINK, top)])
    asked.update(text("certificate-profile", "policy"))  # A section that others refer to is no profile.
    refused(ResultReason.INVALID_FIELD, Operation.CERTIFY, CertifyRequest(attributes=asked))
    asked.update(text("certificate-profile", "client"))
    for spoil in (lambda: file.write_text("[ client ]\nkeyUsage = flying\n"), file.unlink):
        spoil()
        with pytest.raises(KMIPError):
            do(Operation.CERTIFY, CertifyRequest(attributes=asked.copy()))


def test_validate_heeds_constraints():
    """A name that the CA may not certify makes the chain invalid."""
    limits = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n"
    top = root(vendor=[text("x509-extension", limits + "nameConstraints=critical,permitted;DNS:good.example\n")])
    for name, expected in (("a.good.example", ValidityIndicator.VALID), ("bad.example", ValidityIndicator.INVALID)):
        names = [AlternativeName(alternative_name_value=name, alternative_name_type=AlternativeNameType.DNS_NAME)]
        assert indicator(certified(top, alternative_name=names)) == expected, name
