"""Revocation lists that are fetched from where a CA publishes them: which are taken, and what they change."""

import datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from keystore import authn, conf, revocation, tls
from keystore.authn import Peer
from kmip.errors import KMIPError
from tests.certificates import CLIENT, DAY, Pki, make, revoke


class Publisher(HTTPServer):
    """What a CA publishes at one address."""

    content: bytes | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/ca.crl"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        content = self.server.content
        self.send_response(404 if content is None else 200)
        self.end_headers()
        self.wfile.write(content or b"")

    def log_message(self, *_):
        pass


@pytest.fixture
def publisher():
    with Publisher(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def pki(tmp_path, configure, publisher) -> Pki:
    found = Pki(tmp_path)
    configure(
        **{
            "tls.clients_ca_cert_file": tmp_path / "ca.pem",
            "tls.tls_p12_file": tmp_path / "server.p12",
            "tls.clients_crl_urls": (publisher.url,),
            "tls.clients_crl_folder": tmp_path / "lists",
        }
    )
    publisher.content = revoke(found.ca)
    return found


def refresh() -> bool:
    config = conf.current()
    return revocation.refresh(config, tls.client_authorities(config))


def kept() -> bytes | None:
    config = conf.current()
    path = revocation.fetched_file(config, config.tls.clients_crl_urls[0])
    return path.read_bytes() if path.exists() else None


@pytest.mark.django_db
def test_a_list_that_is_published_counts_on_connections_that_are_open(pki, publisher):
    """In PEM as in DER; and whoever is on none goes on."""
    made, other = make("alice", pki.ca, usage=CLIENT), make("bob", pki.ca, usage=CLIENT)
    chain = (pki.ca.certificate.public_bytes(Encoding.DER),)
    alice, bob = (
        Peer("kmip", "10.0.0.7", one.certificate.public_bytes(Encoding.DER), chain=chain) for one in (made, other)
    )
    assert refresh() and authn.identify(alice).username == "alice"
    publisher.content = x509.load_pem_x509_crl(revoke(pki.ca, made)).public_bytes(Encoding.DER)
    assert refresh()
    authn.forget()
    alice.identity = bob.identity = None
    with pytest.raises(KMIPError, match="revoked"):
        authn.identify(alice)
    assert authn.identify(bob).username == "bob"


def older(pki: Pki) -> bytes:
    """A list that the CA signed before the one that is kept."""
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateRevocationListBuilder().issuer_name(pki.ca.certificate.subject)
    made = builder.last_update(now - 9 * DAY).next_update(now + DAY).sign(pki.ca.key, SHA256())
    return made.public_bytes(Encoding.PEM)


BAD = {  # what is published instead, and what the log says
    "signed by another CA of that name": (lambda pki: revoke(make("test CA", ca=True)), "signed by none"),
    "of another CA": (lambda pki: revoke(make("other", ca=True)), "signed by none"),
    "one good, one bad": (lambda pki: revoke(pki.ca) + revoke(make("other", ca=True)), "signed by none"),
    "older than the one that is there": (older, "older than"),
    "no list": (lambda pki: b"<html>", "not fetched"),
    "nothing": (lambda pki: None, "404"),
    "too long": (lambda pki: b"x" * 100_000, "over 50000 bytes"),
}


@pytest.mark.parametrize("make_it, words", BAD.values(), ids=BAD)
def test_what_is_no_good_leaves_the_old_list(pki, publisher, caplog, monkeypatch, make_it, words):
    """Whoever sits between publisher and server lets nobody in again who was revoked."""
    monkeypatch.setattr(revocation, "MAX_SIZE", 50_000)
    made = make("alice", pki.ca, usage=CLIENT)
    publisher.content = revoke(pki.ca, made)
    assert refresh()
    before = kept()
    publisher.content = make_it(pki)
    assert not refresh() and kept() == before
    assert words in caplog.text and revocation.is_revoked(made.certificate)


def test_the_first_list_has_to_be_good(pki, publisher):
    """Until there is one, everybody counts as revoked."""
    publisher.content = b"nothing"
    assert not refresh() and kept() is None
    assert revocation.is_revoked(pki.client.certificate)


def test_a_publisher_is_asked_sooner_after_a_failure(pki, publisher, configure):
    """By the process that fetches lists."""
    configure(**{"tls.clients_crl_interval": 3600.0})
    assert revocation._step() == 3600.0
    publisher.content = None
    assert revocation._step() == revocation.RETRY


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/ca.crl"])
def test_only_web_addresses_are_fetched(pki, url):
    config = conf.current()
    with pytest.raises(ValueError, match="not an http or https URL"):
        revocation.fetch(config, url, tls.client_authorities(config))
