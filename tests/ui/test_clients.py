"""Clients and authorities: getting one on board, who decides about unknown ones, and who must not see any of it."""

import io
import re
import time
import zipfile

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from keystore import bundles, clients, conf, handshakes
from keystore.authn import Peer, accounts, identify
from keystore.handshakes import Entry, Hello
from keystore.models import (
    Account,
    AuditRecord,
    Authority,
    ClientCertificate,
    IssuedCertificate,
    Namespace,
    RegistrationToken,
    RoleAssignment,
    WaitingClient,
)
from kmip.enums import ResultReason
from kmip.errors import KMIPError
from tests.certificates import CLIENT, make
from ui import held

NOW = int(time.time())
PAGES = ("/ui/clients/", "/ui/clients/add/", "/ui/clients/tokens/", "/ui/authorities/")


@pytest.fixture
def authority(root):
    """The authority for clients, made by a button."""
    assert root.post("/ui/authorities/", {"make": "1", "authority": "Our clients"}).status_code == 302
    return Authority.objects.get()


def add(browser, name="vcenter", **changed):
    """The page after a client was added."""
    form = browser.get("/ui/clients/add/").context["form"]
    data = {field.name: field.value() or "" for field in form} | {"name": name, "product": "generic", "days": "30"}
    return browser.post("/ui/clients/add/", data | changed)


def test_the_first_client_needs_an_authority_first(root):
    """The page offers to make one, and comes back."""
    page = root.get("/ui/clients/add/")
    assert page.context["authority"] is None
    assert "First: an authority" in page.content.decode()
    answer = root.post("/ui/authorities/", {"make": "1", "authority": "Our clients", "next": "client"})
    assert answer["Location"] == "/ui/clients/add/"
    assert Authority.objects.get().clients


def test_a_client_gets_its_files_once(root, authority):
    """Certificate and key are in the ZIP, which is sealed for who made it; the server keeps no private key."""
    page = add(root, "vcenter", product="vcenter", role="operator")
    assert page.status_code == 200
    text = page.content.decode()
    assert "BEGIN PRIVATE KEY" in text
    assert "no-store" in page["Cache-Control"]
    sealed = page.context["held"]
    zipped = root.post("/ui/clients/bundle/", {"name": "vcenter", "held": sealed})
    assert zipped["Content-Disposition"] == 'attachment; filename="vcenter.zip"'
    files = zipfile.ZipFile(io.BytesIO(zipped.content))
    assert set(files.namelist()) == {"client.pem", "client.key", "ca.pem", "SETTINGS.md"}
    certificate = x509.load_pem_x509_certificate(files.read("client.pem"))
    assert certificate.subject.rfc4514_string() == "CN=vcenter"
    assert load_pem_private_key(files.read("client.key"), None).public_key() == certificate.public_key()
    row = ClientCertificate.objects.get()
    assert (row.account.username, row.account.namespace_id) == ("vcenter", "default")
    assert RoleAssignment.objects.filter(principal="user:vcenter", role="operator").exists()
    assert AuditRecord.objects.filter(operation="Certify", user="root", result="Success").exists()


def test_the_files_are_for_who_made_them(root, person, authority, monkeypatch):
    """Neither another administrator, nor another client's name, nor anybody after a while gets them."""
    sealed = add(root).context["held"]
    other = person("other", superuser=True)
    assert other.post("/ui/clients/bundle/", {"name": "vcenter", "held": sealed}).status_code == 302
    assert root.post("/ui/clients/bundle/", {"name": "another", "held": sealed}).status_code == 302
    assert root.post("/ui/clients/bundle/", {"name": "vcenter", "held": "nonsense"}).status_code == 302
    assert root.post("/ui/clients/bundle/", {"name": "vcenter", "held": sealed}).status_code == 200
    later = held.time.time() + held.LIFETIME + 60
    monkeypatch.setattr(held.time, "time", lambda: later)
    assert root.post("/ui/clients/bundle/", {"name": "vcenter", "held": sealed}).status_code == 302


def test_a_client_may_keep_its_key(root, authority):
    """With a request of its own, there is no private key to show."""
    key, request = clients.new_request("backup", "p256")
    pem = x509.load_der_x509_csr(request).public_bytes(Encoding.PEM).decode()
    page = add(root, "backup", csr=pem)
    assert [name for name, _ in page.context["files"]] == ["client.pem", "ca.pem", "client.p7b"]
    assert "PRIVATE KEY" not in page.content.decode()
    certificate = x509.load_pem_x509_certificate(dict(page.context["files"])["client.pem"].encode())
    assert certificate.public_key() == key.public_key()


@pytest.mark.parametrize("product", bundles.PRODUCTS)
def test_a_client_that_keeps_its_key_gets_the_rest_of_its_product(root, authority, product):
    """The settings, and in some file the certificate; no key, and no file that wants one."""
    key, request = clients.new_request("backup", "p256")
    pem = x509.load_der_x509_csr(request).public_bytes(Encoding.PEM).decode()
    page = add(root, "backup", csr=pem, product=product)
    sealed = page.context["held"]
    files = zipfile.ZipFile(io.BytesIO(root.post("/ui/clients/bundle/", {"name": "backup", "held": sealed}).content))
    contents = {name: files.read(name) for name in files.namelist()}
    assert "SETTINGS.md" in contents
    assert not any(b"PRIVATE KEY" in content for content in contents.values())
    assert not any(name.endswith((".p12", ".pfx", ".key", ".password")) for name in contents)
    found = [x509.load_pem_x509_certificate(one) for one in contents.values() if one.startswith(b"-----BEGIN CERT")]
    assert key.public_key() in [one.public_key() for one in found]
    extra = {"percona": "component_keyring_kmip.cnf", "mysql": "okvclient.ora", "ceph": "ceph.conf"}
    assert extra.get(product, "ca.pem" if product in ("generic", "vcenter") else "SETTINGS.md") in contents


def test_only_what_is_possible_with_a_client_is_offered(root, authority):
    """Another namespace's administrators disable its clients; a list of an authority that is trusted no more ends
    nothing."""
    Namespace.objects.create(name="tenant", created=0)
    own, other = (
        add(root, name, namespace=home).context["fingerprint"] for name, home in (("a", "default"), ("b", "tenant"))
    )
    assert f"/ui/clients/{own}/disable/" in root.get(f"/ui/clients/{own}/").content.decode()
    page = root.get(f"/ui/clients/{other}/")
    assert f"/ui/clients/{other}/disable/" not in page.content.decode()
    assert page.context["revocable"]
    assert root.post(f"/ui/clients/{other}/disable/").status_code == 302
    assert not ClientCertificate.objects.get(fingerprint=other).disabled
    root.post(f"/ui/authorities/{authority.key_id}/trust/", {"trusted": "0"})
    assert not root.get(f"/ui/clients/{own}/").context["revocable"]


def test_a_client_s_page_polls_for_what_is_new(root, authority):
    """Refusals of long ago are not told as of now, and the handshakes are read once."""
    fingerprint = add(root, "a").context["fingerprint"]
    with CaptureQueriesContext(connection) as asked:
        page = root.get(f"/ui/clients/{fingerprint}/")
    assert page.context["since"] >= NOW * 1000
    assert sum('FROM "kms_handshake' in one["sql"] or "handshake" in one["sql"] for one in asked.captured_queries) == 2


def test_a_client_belongs_to_a_namespace(root, authority):
    """The name in its certificate is a user of that namespace; roles there are not given from here."""
    Namespace.objects.create(name="tenant", created=0)
    assert add(root, "db", namespace="tenant", role="client").context["form"].errors["role"]
    page = add(root, "db", namespace="tenant")
    account = Account.objects.get(username="db")
    assert account.namespace_id == "tenant"
    files = dict(page.context["files"])
    certificate = x509.load_pem_x509_certificate(files["client.pem"].encode()).public_bytes(Encoding.DER)
    identity = identify(Peer("kmip", "192.0.2.1", certificate, chain=(bytes(authority.certificate),)))
    assert (identity.namespace, identity.username) == ("tenant", "db")


@pytest.mark.parametrize(
    "wrong", [{"name": ""}, {"name": "x" * 65}, {"csr": "nonsense"}, {"product": "none"}, {"days": "0"}]
)
def test_what_is_wrong_is_said_at_the_form(root, authority, wrong):
    """Nothing is issued, and nothing breaks."""
    page = add(root, **wrong)
    assert page.status_code == 200
    assert page.context["form"].errors
    assert not IssuedCertificate.objects.filter(subject__contains="vcenter").exists()


@pytest.mark.parametrize("product", ["mongodb", "percona", "mysql", "ceph", "synology", "veeam", "pykmip"])
def test_every_product_gets_its_own_settings(root, authority, product):
    """The page has the product's settings for this server and client, as text and not as markup."""
    page = add(root, "app", product=product, host="kms.corp.example")
    text = page.content.decode()
    assert "kms.corp.example" in page.context["settings"]
    assert "<script>" not in text
    assert re.search(r"\s(style|on[a-z]+)=", text) is None


def record(fingerprint, certificate, *, reason="", last=None):
    """A handshake of a certificate."""
    entry = Entry(
        "kmip", "192.0.2.9", not reason, reason, "do this", Hello("kms", ("TLS 1.3",)), "TLSv1.3", certificate, 1,
        last or NOW * 1000,
    )  # fmt: skip
    handshakes.write([(entry, 1)])


def test_the_first_connection_is_waited_for(root, authority):
    """The page asks again until the client has come; meanwhile it shows who was refused since."""
    page = add(root)
    fingerprint, since = page.context["fingerprint"], page.context["since"]
    assert 'hx-trigger="every 2s"' in page.content.decode()
    address = f"/ui/clients/{fingerprint}/arrival/?since={since}"
    htmx = {"HX-Request": "true"}
    assert b"Waiting for the first connection" in root.get(address, headers=htmx).content
    stranger = make("stranger").certificate.public_bytes(Encoding.DER)
    record("", stranger, reason="client certificate refused: unknown issuer", last=since + 1000)
    refused = root.get(address, headers=htmx).content.decode()
    assert "unknown issuer" in refused
    assert "do this" in refused
    files = dict(page.context["files"])
    der = x509.load_pem_x509_certificate(files["client.pem"].encode()).public_bytes(Encoding.DER)
    record(fingerprint, der)
    arrived = root.get(address, headers=htmx).content.decode()
    assert "It has connected from 192.0.2.9" in arrived
    assert "hx-trigger" not in arrived
    assert root.get(address)["Location"] == f"/ui/clients/{fingerprint}/"
    assert "It has connected" in root.get(f"/ui/clients/{fingerprint}/").content.decode()


def test_a_certificate_is_revoked(root, authority):
    """Its page says so afterwards, and the authority's list has it."""
    fingerprint = add(root).context["fingerprint"]
    address = f"/ui/clients/{fingerprint}/"
    assert root.get(f"{address}revoke/").status_code == 200
    assert IssuedCertificate.objects.get(fingerprint=fingerprint).revoked is None
    assert root.post(f"{address}revoke/", {"superseded": "on"})["Location"] == address
    assert root.get(address).context["status"] == "revoked"
    page = root.get(f"/ui/authorities/{authority.key_id}/")
    assert page.context["crl"]["revoked"] == 1
    assert [status for *_, status in page.context["issued"]] == ["revoked"]
    assert "revoked" in root.get("/ui/clients/").content.decode()


def test_a_certificate_is_disabled_and_let_in_again(root, authority):
    """Each with its record."""
    fingerprint = add(root).context["fingerprint"]
    root.post(f"/ui/clients/{fingerprint}/disable/")
    assert ClientCertificate.objects.get().disabled
    assert root.get(f"/ui/clients/{fingerprint}/").context["status"] == "disabled"
    root.post(f"/ui/clients/{fingerprint}/disable/")
    assert not ClientCertificate.objects.get().disabled
    assert AuditRecord.objects.filter(operation="Disable Certificate", user="root").exists()


@pytest.fixture
def stranger():
    """A certificate of an unknown issuer that knocked."""
    certificate = make("legacy-app", usage=CLIENT).certificate.public_bytes(Encoding.DER)
    handshakes.queue(certificate, "192.0.2.5", 3, NOW)
    return WaitingClient.objects.get()


@pytest.mark.parametrize("name, user", [("", "legacy-app"), ("app", "app")])
def test_an_unknown_certificate_is_accepted(root, stranger, name, user):
    """It is shown in full first; then exactly it is its user's, pinned."""
    assert stranger.subject in root.get("/ui/clients/").content.decode()
    address = f"/ui/clients/waiting/{stranger.fingerprint}/"
    assert "192.0.2.5" in root.get(address).content.decode()
    assert root.post(address, {"accept": "1", "name": name}).status_code == 302
    row = ClientCertificate.objects.get()
    assert (row.account.username, row.pinned) == (user, True)
    stranger.refresh_from_db()
    assert (stranger.decision, stranger.decided_by) == ("accepted", "root")
    assert root.get(address).status_code == 404
    assert AuditRecord.objects.filter(operation="Accept Client", user="root").exists()


def test_an_unknown_certificate_is_refused(root, stranger):
    """For good."""
    root.post(f"/ui/clients/waiting/{stranger.fingerprint}/", {"refuse": "1"})
    assert WaitingClient.objects.get().decision == "refused"
    assert clients.waiting() == []


def test_a_token_is_shown_once_used_or_withdrawn(root, authority):
    """The page after making it has it; the list never has."""
    page = root.post("/ui/clients/tokens/", {"name": "edge-1", "hours": "2"})
    token = page.context["token"]
    assert token in page.content.decode()
    assert token not in root.get("/ui/clients/tokens/").content.decode()
    (row,) = clients.tokens()
    assert root.post(f"/ui/clients/tokens/{row.digest}/withdraw/").status_code == 302
    assert clients.tokens() == []
    with pytest.raises(KMIPError):
        clients.redeem(token, clients.new_request("edge-1", "p256")[1], "192.0.2.1")
    again = root.post(f"/ui/clients/tokens/{row.digest}/withdraw/", follow=True)
    assert "error" in [message.level_tag for message in again.context["messages"]]
    assert set(AuditRecord.objects.filter(user="root").values_list("operation", flat=True)) >= {
        "Create Registration Token", "Withdraw Registration Token",
    }  # fmt: skip


def test_an_authority_is_taken_in_and_trusted_no_more(root):
    """Certificate and key that belong together; anything else is refused at the form."""
    ca, other = make("Corporate CA", ca=True), make("Other", ca=True)

    def files(certificate, key):
        return {"take": "1", "certificate": io.BytesIO(certificate), "key": io.BytesIO(key)}

    assert root.post("/ui/authorities/", files(ca.pem, other.key_pem)).context["take"].errors
    assert root.post("/ui/authorities/", files(b"x", b"y")).context["take"].errors
    assert root.post("/ui/authorities/", files(ca.pem, ca.key_pem)).status_code == 302
    one = Authority.objects.get()
    assert (one.subject, one.clients) == ("CN=Corporate CA", True)
    root.post(f"/ui/authorities/{one.key_id}/trust/", {"trusted": "0"})
    one.refresh_from_db()
    assert not one.clients
    assert AuditRecord.objects.filter(operation="Distrust Authority").exists()


def test_an_authority_s_files_are_downloaded(root, authority):
    """Certificate and list in PEM."""
    base = f"/ui/authorities/{authority.key_id}"
    assert b"BEGIN CERTIFICATE" in root.get(f"{base}/ca.pem").content
    assert b"BEGIN X509 CRL" in root.get(f"{base}/crl.pem").content
    assert root.get(f"{base}/key.pem").status_code == 404
    assert root.get("/ui/authorities/none/").status_code == 404


# Who must not.


def everything(fingerprint, waiting, key_id, digest):
    """Every address of these pages."""
    return (
        *PAGES, "/ui/clients/bundle/", f"/ui/clients/tokens/{digest}/withdraw/", f"/ui/clients/waiting/{waiting}/",
        *(f"/ui/clients/{fingerprint}/{part}" for part in ("", "arrival/", "revoke/", "disable/")),
        *(f"/ui/authorities/{key_id}/{part}" for part in ("", "trust/", "ca.pem", "crl.pem")),
    )  # fmt: skip


def test_only_the_server_s_administrators_see_clients(root, person, authority, stranger):
    """Nothing for strangers, users, operators, auditors and the administrators of a tenant; nothing without a token."""
    fingerprint = add(root).context["fingerprint"]
    root.post("/ui/clients/tokens/", {"name": "edge"})
    digest = RegistrationToken.objects.get().digest
    addresses = everything(fingerprint, stranger.fingerprint, authority.key_id, digest)
    Namespace.objects.create(name="tenant", created=0)
    carol = person("tenant/carol", superuser=True)
    others = [person("alice"), carol]
    for role in ("operator", "auditor"):
        browser = person(role)
        browser.get("/ui/")
        RoleAssignment.objects.create(namespace_id="default", principal=f"user:{role}", role=role)
        others.append(browser)
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(Account.objects.get(username="root").user)
    for address in addresses:
        stranger_s = Client().get(address)
        assert stranger_s.status_code in (302, 405), address
        assert strict.post(address, {"x": "1"}).status_code == 403, address
        for browser in others:
            for answer in (
                browser.get(address),
                browser.post(address, {"make": "1", "authority": "Mine", "accept": "1"}),
            ):
                assert answer.status_code in (403, 405), address
    assert "/ui/clients/" not in carol.get("/ui/").content.decode()
    assert Authority.objects.count() == 1
    assert ClientCertificate.objects.count() == 1
    assert clients.waiting()


@pytest.mark.parametrize(
    "attempt",
    [
        lambda peer: clients.administrator(peer),
        lambda peer: clients.new_token(peer, "vcenter"),
        lambda peer: clients.decide(peer, "ab" * 32, accept=True),
        lambda peer: clients.create_authority(peer, "Mine"),
        lambda peer: clients.withdraw_token(peer, "x"),
    ],
)
def test_a_tenant_s_administrator_decides_about_no_client(person, attempt):
    """Whoever decides whom the listeners let in can be any client: that is for the default namespace."""
    Namespace.objects.create(name="tenant", created=0)
    person("tenant/carol", superuser=True)
    peer = Peer("ui", user="tenant/carol")
    assert identify(peer).administers
    with pytest.raises(KMIPError) as caught:
        attempt(peer)
    assert caught.value.reason == ResultReason.PERMISSION_DENIED


def test_a_tenant_s_administrator_takes_over_no_name(root, person, authority):
    """Not even with a right to have certificates signed by the authority."""
    Namespace.objects.create(name="tenant", created=0)
    person("tenant/carol", superuser=True)
    accounts.ensure("default", "precious")
    Account.objects.filter(username="precious").update(authorities=["ca:another"])
    _, request = clients.new_request("precious", "p256")
    with pytest.raises(KMIPError) as caught:
        clients.enrol(Peer("ui", user="tenant/carol"), "precious", request)
    assert "another authority" in caught.value.message
    with pytest.raises(KMIPError) as caught:
        clients.enrol(Peer("ui", user="tenant/carol"), "fresh", request, namespace="tenant")
    assert caught.value.reason == ResultReason.PERMISSION_DENIED


def test_clients_are_paged_by_name(root, monkeypatch):
    """By namespace, name and fingerprint, without a gap; the search is for the beginning of a name."""
    from ui.pages import clients as pages

    monkeypatch.setattr(pages, "PAGE", 2)
    Namespace.objects.create(name="tenant", created=0)
    for number, (namespace, name) in enumerate(
        [("default", "a"), ("default", "b"), ("default", "b"), ("default", "c"), ("tenant", "a")]
    ):
        account = accounts.ensure(namespace, name)
        ClientCertificate.objects.create(
            fingerprint=f"{number:064x}", account=account, authority="ca:x", subject=f"CN={name}", serial_number="1",
            not_after=NOW + 1000, first_seen=NOW,
        )  # fmt: skip
    found, address = [], "/ui/clients/"
    while address:
        page = root.get(address)
        found.append([row.certificate.account.username for row in page.context["rows"]])
        link = re.search(r'rel="next" href="([^"]+)"', page.content.decode())
        address = link and link[1].replace("&amp;", "&")
    assert found == [["a", "b"], ["b", "c"], ["a"]]
    assert len(root.get("/ui/clients/?q=b").context["rows"]) == 2
    assert conf.current().auth.default_namespace == "default"
