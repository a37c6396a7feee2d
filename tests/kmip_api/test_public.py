"""What a real server gives to those who have no certificate: lists for everybody, and a certificate for a token."""

import contextlib
import http.client
import json
import re
import socket

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.certificates import Made, Pki
from tests.openssl import tried
from tests.processes import Manager, Running, until


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


class Site:
    """A server with a public listener, whose HTTPS takes clients without a certificate too."""

    def __init__(self, folder):
        self.folder, self.pki, self.public = folder, Pki(folder), free_port()
        settings = {
            **self.pki.settings(),
            "KMS_HTTP_CLIENT_AUTH": "optional",
            "KMS_PUBLIC_PORT": str(self.public),
            "KMS_PUBLIC_HOSTNAME": "127.0.0.1",
            "KMS_URL": f"http://localhost:{self.public}",
        }
        self.server = Running(folder, **settings)
        self.kmip, self.https = self.server.kmip_port, self.server.http_port
        self.manage = Manager(folder, **settings)
        self.manage("client", "authority", "--create", "Clients")
        self.key_id = re.search(r"/pki/(\w+)/crl", self.manage("client", "authority"))[1]

    def post(self, path, body, files=None):
        """Over HTTPS, with or without a certificate; status and answer."""
        context = self.pki.client_context(files, anonymous=files is None)
        connection = http.client.HTTPSConnection("localhost", self.https, context=context, timeout=20)
        try:
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def get(self, path, method="GET", body=None):
        """Over plain HTTP."""
        connection = http.client.HTTPConnection("127.0.0.1", self.public, timeout=20)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    site = Site(tmp_path_factory.mktemp("public"))
    with site.server:
        yield site
        site.manage.close()


def requested(name):
    """A key and a certificate request in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return key, request.public_bytes(serialization.Encoding.PEM).decode()


def test_a_client_gets_on_board_with_a_token_alone(site, tmp_path):
    """It has no certificate, posts its request with the token, and opens 5696 with the answer; the token is used up."""
    token = site.manage("client", "token", "newcomer").split()[0]
    key, request = requested("whoever")
    status, answer = site.post("/clients/register", {"token": token[:-1] + "x", "csr": request})
    assert status == 401 and "certificate" not in answer
    status, answer = site.post("/clients/register", {"token": token, "csr": request})
    assert status == 201 and answer["name"] == "newcomer"
    made = Made(key, x509.load_pem_x509_certificate(answer["certificate"].encode()))
    files = made.write(tmp_path, "newcomer")

    def opens():
        run = tried("s_client", "-connect", f"localhost:{site.kmip}", "-CAfile", site.pki.ca_file, "-cert", files[0],
                      "-key", files[1], "-verify_return_error", "-brief")  # fmt: skip
        return b"CONNECTION ESTABLISHED" in run.stderr

    until(opens, "the listener to let it in")
    assert site.post("/clients/register", {"token": token, "csr": request})[0] == 401
    # Without a certificate there is nothing else to be had.
    assert site.post("/clients/renew", {"csr": request})[0] == 401
    assert site.post("/clients", {"name": "more"})[0] == 401
    answers = []

    def renews():
        """HTTPS learns of a new authority in its own time."""
        with contextlib.suppress(OSError):
            answers.append(site.post("/clients/renew", {"csr": requested("x")[1]}, files))
        return answers

    until(renews, "HTTPS to let it in")
    status, renewed = answers[0]
    assert status == 201 and renewed["name"] == "newcomer"


def test_openssl_follows_the_addresses_in_a_certificate(site, tmp_path):
    """It downloads the list that the certificate names, asks the OCSP service that it names, and sees revocations."""
    site.manage("client", "add", "checked", "--folder", str(tmp_path / "checked"), "--host", "localhost")
    certificate = tmp_path / "checked" / "client.pem"
    status, issuer = site.get(f"/pki/{site.key_id}/ca?format=pem")
    assert status == 200
    (tmp_path / "ca.pem").write_bytes(issuer)
    verify = ["verify", "-x509_strict", "-crl_check", "-crl_download", "-CAfile", tmp_path / "ca.pem", certificate]
    address = tried("x509", "-noout", "-ocsp_uri", "-in", certificate).stdout.decode().strip()
    assert address == f"http://localhost:{site.public}/pki/{site.key_id}/ocsp"
    ask = ["ocsp", "-issuer", tmp_path / "ca.pem", "-cert", certificate, "-url", address, "-CAfile",
           tmp_path / "ca.pem", "-no_nonce"]  # fmt: skip
    run = tried(*verify)
    assert run.returncode == 0, run.stderr
    run = tried(*ask)
    assert b"Response verify OK" in run.stderr and b"client.pem: good" in run.stdout, run
    site.manage("client", "revoke", "checked")
    run = tried(*verify)
    assert run.returncode != 0 and b"certificate revoked" in run.stderr
    assert b"client.pem: revoked" in tried(*ask).stdout


@pytest.mark.parametrize("path", ["/", "/version", "/health", "/kmip", "/kmip/2_1", "/ui/", "/access/owned", "/clients",
                                  "/clients/register", "/pki", "//pki/x/crl", "/handshakes", "/openapi.json",
                                  "/pki/../version", "/pki/%2e%2e/version"])  # fmt: skip
def test_nothing_else_is_public(site, path):
    """Not even by another way of writing it."""
    for method in ("GET", "POST"):
        status, body = site.get(path, method, b"{}" if method == "POST" else None)
        assert status in (404, 405) and b"version" not in body, body
