"""Revocation lists, OCSP and clients over HTTP."""

import base64
import datetime
import io
import json
import time
import zipfile

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509 import ocsp
from django.contrib.auth.models import User
from django.test import Client

from keystore import authn, ca, clients, conf, jobs
from keystore.authn import Identity, Peer, accounts
from keystore.models import Account, AuditRecord, Authority, IssuedCertificate, RegistrationToken, RoleAssignment
from kmip.enums import Operation, RevocationReasonCode
from kmip.errors import KMIPError
from kmip.payloads import RevokeRequest
from kmip.structures import RevocationReason
from kmip_api import pki
from tests.authority import certified, csr, der, do, load, root, sealed  # noqa: F401 - a fixture among them
from tests.openssl import openssl, tried

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("sealed")]

ADMIN = "admin"


@pytest.fixture
def web():
    """HTTP on a loopback address: the default user, who administers here."""
    accounts.ensure("default", ADMIN)
    RoleAssignment.objects.create(namespace_id="default", principal=f"user:{ADMIN}", role="administrator")
    return Client(HTTP_HOST="localhost")


@pytest.fixture
def authority():
    return clients.create_authority(Peer("cli", user=ADMIN), "Clients")


def post(web, path, body, **headers):
    return web.post(path, json.dumps(body), content_type="application/json", **headers)


def revoked(uid, code=RevocationReasonCode.SUPERSEDED, user="alice"):
    reason = RevocationReason(revocation_reason_code=code)
    do(Operation.REVOKE, RevokeRequest(unique_identifier=uid, revocation_reason=reason), user)


# Revocation lists.


def test_a_list_names_what_was_revoked_with_reason_and_time(web, tmp_path):
    """DER and PEM, read by openssl and cryptography; a new one at once after each revocation."""
    top = root()
    leaf, other = certified(top), certified(top)
    path = f"/pki/{ca.authority_of('default', top).key_id}/crl"
    first = x509.load_der_x509_crl(web.get(path).content)
    assert len(first) == 0 and first.is_signature_valid(load(top).public_key())
    revoked(leaf, RevocationReasonCode.KEY_COMPROMISE)
    answer = web.get(path)
    assert answer["Content-Type"] == "application/pkix-crl" and "public" in answer["Cache-Control"]
    second = x509.load_der_x509_crl(answer.content)
    entry = second.get_revoked_certificate_by_serial_number(load(leaf).serial_number)
    assert entry.extensions.get_extension_for_class(x509.CRLReason).value.reason == x509.ReasonFlags.key_compromise
    number = second.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    assert number == first.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number + 1
    pem = web.get(path, {"format": "pem"}).content
    (tmp_path / "crl").write_bytes(pem)
    (tmp_path / "top").write_bytes(load(top).public_bytes(serialization.Encoding.PEM))
    (tmp_path / "leaf").write_bytes(load(other).public_bytes(serialization.Encoding.PEM))
    assert b"verify OK" in tried("crl", "-noout", "-CAfile", tmp_path / "top", data=pem).stderr
    strict = ["-x509_strict", "-crl_check", "-CAfile", tmp_path / "top", "-CRLfile", tmp_path / "crl"]
    openssl("verify", *strict, tmp_path / "leaf")
    (tmp_path / "leaf").write_bytes(load(leaf).public_bytes(serialization.Encoding.PEM))
    assert b"certificate revoked" in tried("verify", *strict, tmp_path / "leaf").stderr


def test_a_list_is_kept_until_half_its_time_is_over(web, monkeypatch):
    """The same bytes, and no signature, until it is due; the jobs worker signs it then."""
    top = root()
    authority = ca.authority_of("default", top)
    first = ca.revocation_list(authority)
    authority.refresh_from_db()
    assert ca.revocation_list(authority) == first and ca.sign_lists() == 0
    half = int(time.time()) + 4 * 86400
    monkeypatch.setattr(ca.time, "time", lambda: half)
    assert ca.sign_lists() == 1
    authority.refresh_from_db()
    second = x509.load_der_x509_crl(ca.revocation_list(authority))
    assert second.last_update_utc > x509.load_der_x509_crl(first).last_update_utc


def test_the_jobs_worker_signs_lists_in_time(configure):
    """More often than the shortest list is half over; so a list that somebody publishes never ends unseen."""
    (job,) = [one for one in jobs.table() if one.run is ca.sign_lists]
    shortest = conf.SETTINGS["pki.crl_days"].minimum * 86400
    assert job.seconds < shortest / 4
    configure(**{"pki.crl_days": 0.01})
    top = root()
    authority = ca.authority_of("default", top)
    assert job.run() == 1 and job.run() == 0
    authority.refresh_from_db()
    assert authority.crl is not None and authority.crl_ends - authority.crl_begins == int(shortest)
    revoked(certified(top))
    assert job.run() == 1


def test_an_authority_without_its_key_gives_its_last_list(web):
    """Until that ends."""
    top = root()
    authority = ca.authority_of("default", top)
    first = ca.revocation_list(authority)
    Authority.objects.filter(key_id=authority.key_id).update(private_key_uid="gone", crl_changes=-5)
    authority.refresh_from_db()
    assert ca.revocation_list(authority) == first
    assert web.get("/pki/unknown/crl").status_code == 404


def test_the_authoritys_certificate_is_public(web):
    """DER for caIssuers, PEM for people."""
    top = root()
    path = f"/pki/{ca.authority_of('default', top).key_id}/ca"
    assert web.get(path).content == der(top)
    # Some look first whether there is something new.
    assert web.head(path).status_code == web.head(path.removesuffix("ca") + "crl").status_code == 200
    assert web.post(path).status_code == 405
    assert web.get(path, {"format": "pem"}).content == load(top).public_bytes(serialization.Encoding.PEM)


# OCSP.


def question(certificate, issuer, function=None):
    builder = ocsp.OCSPRequestBuilder().add_certificate(certificate, issuer, function or hashes.SHA1())
    return builder.build().public_bytes(serialization.Encoding.DER)


@pytest.mark.parametrize("function", [hashes.SHA1(), hashes.SHA256()], ids=["SHA-1", "SHA-256"])
def test_ocsp_answers_good_then_revoked(web, function):
    """By POST and by GET, signed by the issuer; the answer changes with the revocation."""
    top = root()
    leaf = certified(top)
    path = f"/pki/{ca.authority_of('default', top).key_id}/ocsp"
    asked = question(load(leaf), load(top), function)

    def ask():
        posted = web.post(path, asked, content_type="application/ocsp-request")
        assert posted["Content-Type"] == "application/ocsp-response"
        encoded = base64.b64encode(asked).decode().replace("/", "%2F").replace("+", "%2B")
        assert web.get(f"{path}/{encoded}").content == posted.content
        return ocsp.load_der_ocsp_response(posted.content)

    assert ask().certificate_status == ocsp.OCSPCertStatus.GOOD
    revoked(leaf)
    answer = ask()
    assert answer.certificate_status == ocsp.OCSPCertStatus.REVOKED
    assert answer.revocation_reason == x509.ReasonFlags.superseded
    load(top).public_key().verify(
        answer.signature, answer.tbs_response_bytes, ec.ECDSA(answer.signature_hash_algorithm)
    )


def test_ocsp_is_read_by_openssl(web, tmp_path):
    """The command line verifies the answer."""
    top = root()
    leaf = certified(top)
    for name, uid in (("top", top), ("leaf", leaf)):
        (tmp_path / name).write_bytes(load(uid).public_bytes(serialization.Encoding.PEM))
    openssl("ocsp", "-issuer", tmp_path / "top", "-cert", tmp_path / "leaf", "-no_nonce", "-reqout", tmp_path / "q")
    path = f"/pki/{ca.authority_of('default', top).key_id}/ocsp"
    answer = web.post(path, (tmp_path / "q").read_bytes(), content_type="application/ocsp-request").content
    (tmp_path / "a").write_bytes(answer)
    read = ["-issuer", tmp_path / "top", "-cert", tmp_path / "leaf", "-respin", tmp_path / "a"]
    shown = tried("ocsp", *read, "-CAfile", tmp_path / "top")
    assert b"Response verify OK" in shown.stderr and b"leaf: good" in shown.stdout


def test_ocsp_refuses_what_it_cannot_answer(web):
    """Other issuers, unknown serials, and bytes that are no question."""
    top, other = root(), root("Other")
    leaf = certified(top)
    path = f"/pki/{ca.authority_of('default', other).key_id}/ocsp"
    S = ocsp.OCSPResponseStatus
    for data, status in ((question(load(leaf), load(top)), S.UNAUTHORIZED), (b"nonsense", S.MALFORMED_REQUEST)):
        answer = web.post(path, data, content_type="application/ocsp-request")
        assert ocsp.load_der_ocsp_response(answer.content).response_status == status
        assert answer["Cache-Control"] == "no-store"
    IssuedCertificate.objects.all().delete()
    path = f"/pki/{ca.authority_of('default', top).key_id}/ocsp"
    answer = web.post(path, question(load(leaf), load(top)), content_type="application/ocsp-request")
    assert ocsp.load_der_ocsp_response(answer.content).response_status == S.UNAUTHORIZED
    assert web.put(path).status_code == 405


# Clients.


def test_a_client_is_made_with_its_key(web, authority):
    """Key, certificate, CA and PKCS#12 in one answer that nothing caches."""
    answer = post(web, "/clients", {"name": "bob"})
    assert answer.status_code == 201 and answer["Cache-Control"] == "no-store"
    body = answer.json()
    certificate = x509.load_pem_x509_certificate(body["certificate"].encode())
    assert certificate.subject.rfc4514_string() == "CN=bob"
    found = pkcs12.load_pkcs12(base64.b64decode(body["pkcs12"]), body["pkcs12_password"].encode())
    assert found.cert.certificate == certificate and found.key.public_key() == certificate.public_key()
    assert "PRIVATE KEY" in body["private_key"]
    certificate.verify_directly_issued_by(ca.load(bytes(authority.certificate)))
    assert [row["subject"] for row in web.get("/clients").json()] == ["CN=bob"]


def test_a_bundle_comes_as_zip(web, authority):
    """With the page of settings."""
    answer = post(
        web, "/clients", {"name": "db", "product": "mysql", "host": "kms.test"}, HTTP_ACCEPT="application/zip"
    )
    with zipfile.ZipFile(io.BytesIO(answer.content)) as file:
        assert set(file.namelist()) == {"okvclient.ora", "ssl/cert.pem", "ssl/key.pem", "ssl/CA.pem", "SETTINGS.md"}
        assert b"SERVER=kms.test:" in file.read("okvclient.ora")
        assert b"BEGIN RSA PRIVATE KEY" in file.read("ssl/key.pem")


def test_a_certificate_request_is_signed_under_the_given_name(web, authority):
    """What the request says of subject and names is the applicant's wish, not its identity."""
    names = x509.SubjectAlternativeName([x509.RFC822Name("admin@example.com")])
    request = csr("admin", extensions=[(names, False)], encoding=serialization.Encoding.PEM).decode()
    body = post(web, "/clients", {"name": "carol", "csr": request}).json()
    certificate = x509.load_pem_x509_certificate(body["certificate"].encode())
    assert certificate.subject.rfc4514_string() == "CN=carol" and "private_key" not in body
    with pytest.raises(x509.ExtensionNotFound):
        certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)


def test_a_token_is_good_once(web, authority):
    """The client needs nothing but the token; it cannot choose its name; a bad request does not use it up."""
    made = post(web, "/clients/tokens", {"name": "dave", "hours": 1}).json()
    request = csr("root", encoding=serialization.Encoding.PEM).decode()
    stranger = Client(HTTP_HOST="localhost")
    body = {"token": made["token"], "csr": "bm9uc2Vuc2U="}
    assert post(stranger, "/clients/register", body).status_code == 422
    answer = post(stranger, "/clients/register", {"token": made["token"], "csr": request})
    assert answer.status_code == 201 and answer.json()["name"] == "dave"
    assert post(stranger, "/clients/register", {"token": made["token"], "csr": request}).status_code == 401
    assert made["token"] not in str(list(RegistrationToken.objects.values()))


def test_an_expired_token_is_none(web, authority):
    """And is forgotten in the end."""
    made = post(web, "/clients/tokens", {"name": "erin"}).json()
    RegistrationToken.objects.update(expires=int(time.time()) - 1)
    request = csr(encoding=serialization.Encoding.PEM).decode()
    assert post(web, "/clients/register", {"token": made["token"], "csr": request}).status_code == 401
    assert clients.forget_tokens() == 0 and clients.forget_tokens(int(time.time()) + 40 * 86400) == 1


def test_only_administrators_manage_clients(web, authority, monkeypatch):
    """Whoever has no role for it gets 403, and no certificate, token or list."""
    User.objects.create_user("mallory")
    monkeypatch.setattr(pki, "peer_of", lambda request: Peer("ui", user="mallory"))
    for path, body in (
        ("/clients/tokens", {"name": "x"}),
        ("/clients/waiting/00000000", {"accept": True}),
    ):
        assert post(web, path, body).status_code == 403, path
    for path in ("/clients", "/clients/waiting", "/handshakes"):
        assert web.get(path).status_code == 403, path
    # The authority's key is somebody else's: it does not exist for this user.
    assert post(web, "/clients", {"name": "x"}).status_code == 404


def test_a_token_is_worth_what_its_maker_is(web, authority):
    """Of somebody who has been made an administrator no more, or disabled, it is worth nothing; it is not used up."""
    made = post(web, "/clients/tokens", {"name": "dave"}).json()
    request = csr(encoding=serialization.Encoding.PEM).decode()
    RegistrationToken.objects.update(local=False)  # As of a user of the console.
    for spoil, mend in (
        (
            lambda: RoleAssignment.objects.update(role="operator"),
            lambda: RoleAssignment.objects.update(role="administrator"),
        ),
        (
            lambda: Account.objects.filter(username=ADMIN).update(disabled=True),
            lambda: Account.objects.filter(username=ADMIN).update(disabled=False),
        ),
    ):
        spoil()
        authn.forget()
        answer = post(Client(HTTP_HOST="localhost"), "/clients/register", {"token": made["token"], "csr": request})
        assert answer.status_code == 401, answer.content
        mend()
    authn.forget()
    assert post(web, "/clients/register", {"token": made["token"], "csr": request}).status_code == 201


def test_administrators_of_other_namespaces_let_nobody_in(web, authority, monkeypatch):
    """Clients are users of the default namespace: who administers another one neither sees nor makes them."""
    accounts.namespace("tenant", make=True)
    accounts.ensure("tenant", "eve")
    for role in ("administrator", "auditor"):
        RoleAssignment.objects.create(namespace_id="tenant", principal="user:eve", role=role)
    monkeypatch.setattr(pki, "peer_of", lambda request: Peer("cli", user="tenant/eve"))
    monkeypatch.setattr(clients, "_at_machine", lambda peer: False)
    for path in ("/clients", "/clients/waiting", "/handshakes"):
        assert web.get(path).status_code == 403, path
    for path, body in (("/clients/tokens", {"name": "x"}), ("/clients/waiting/00000000", {"accept": True})):
        assert post(web, path, body).status_code == 403, path
    refusals = AuditRecord.objects.filter(user="eve", operation="Administer Clients", result="Failure")
    assert refusals.count() == 5
    assert post(web, "/clients", {"name": "x"}).status_code == 404
    assert post(web, f"/clients/{'0' * 64}/revoke", {}).status_code == 404


def test_revoking_works_though_the_object_is_gone(web, authority):
    """Destroyed, or another administrator's: the certificate is out there; who does not administer may not."""
    mark = post(web, "/clients", {"name": "gone"}).json()["fingerprint"]
    IssuedCertificate.objects.filter(fingerprint=mark).update(uid="nothing")
    with pytest.raises(KMIPError, match="for administrators"):
        mallory = Identity("mallory", "test", generation=authn.latest_generation())
        clients.revoke(Peer("http", "192.0.2.1", headers={}, identity=mallory), "gone")
    assert post(web, "/clients/gone/revoke", {}).json() == {"revoked": [mark]}
    assert ca.revoked(mark)
    assert AuditRecord.objects.filter(operation="Revoke Certificate").exists()


def test_forms_of_other_sites_are_not_taken(web, authority):
    """Only JSON, which a page of another origin cannot send unasked."""
    answer = web.post("/clients", {"name": "x"})
    assert answer.status_code == 415 and not IssuedCertificate.objects.filter(authority=authority).exists()


def test_revoking_by_name_revokes_all_of_a_clients(web, authority):
    """By fingerprint, one."""
    marks = [post(web, "/clients", {"name": "frank", "key": "p256"}).json()["fingerprint"] for _ in range(3)]
    assert post(web, f"/clients/{marks[0]}/revoke", {}).json() == {"revoked": [marks[0]]}
    assert ca.revoked(marks[0]) and not ca.revoked(marks[1])
    assert sorted(post(web, "/clients/frank/revoke", {}).json()["revoked"]) == sorted(marks[1:])
    assert post(web, "/clients/frank/revoke", {}).status_code == 404


def test_bodies_are_checked(web, authority):
    """Each wrong body is 422 with what is wrong."""
    for path, body in (
        ("/clients", []),
        ("/clients", {}),
        ("/clients", {"name": 5}),
        ("/clients", {"name": "x" * 300}),
        ("/clients", {"name": "x", "product": "toaster"}),
        ("/clients", {"name": "x", "key": "dsa"}),
        ("/clients", {"name": "x", "days": True}),
        ("/clients", {"name": "x", "csr": "?"}),
        ("/clients/register", {"token": "x"}),
        ("/clients/waiting/00000000", {"accept": "yes"}),
    ):
        answer = post(web, path, body)
        assert answer.status_code == 422 and answer.json()["message"], (path, body)


def test_without_an_authority_it_says_how_to_make_one(web):
    """Not a fault of the server."""
    answer = post(web, "/clients", {"name": "x"})
    assert answer.status_code == 404 and "client authority" in answer.json()["message"]


def test_an_authority_made_elsewhere_is_taken_in(web):
    """Certificate and key in PEM; a key of another is refused."""
    from tests.certificates import make

    outside, other = make("outside CA", ca=True), make("other", ca=True)
    peer = Peer("cli", user=ADMIN)
    with pytest.raises(Exception, match="not the certificate's"):
        clients.import_authority(peer, outside.pem, other.key_pem)
    found = clients.import_authority(peer, outside.pem, outside.key_pem)
    assert found.clients
    body = post(web, "/clients", {"name": "heidi", "key": "p256"}).json()
    x509.load_pem_x509_certificate(body["certificate"].encode()).verify_directly_issued_by(outside.certificate)
    assert datetime.datetime.fromisoformat(body["not_after"]) <= outside.certificate.not_valid_after_utc
