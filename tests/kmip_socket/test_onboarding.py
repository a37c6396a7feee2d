"""Clients get on board at a real server: let in, refused with a reason that helps, revoked while connected."""

import datetime
import http.client
import json
import re
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from tests.certificates import CLIENT, DAY, SERVER, Made, Pki, make, revoke
from tests.processes import Manager, Running, manage, until

# Discover Versions at 1.2 with an empty payload.
DISCOVER = bytes.fromhex(
    "42007801000000604200770100000038420069010000002042006a0200000004000000010000000042006b020000000400000002000000004"
    "2000d0200000004000000010000000042000f010000001842005c05000000040000001e000000004200790100000000"
)

# Locate at 1.2, for which one has to be somebody.
LOCATE = DISCOVER.replace(bytes.fromhex("0000001e00000000"), bytes.fromhex("0000000800000000"))


class Site:
    """A server with its folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pki = Pki(folder)
        self.crl = folder / "clients.crl"
        self.revoked = make("revoked by file", self.pki.ca, usage=CLIENT)
        self.crl.write_bytes(revoke(self.pki.ca, self.revoked))
        self.trusted = False
        self.settings = {**self.pki.settings(), "KMS_CLIENTS_CRL_FILE": str(self.crl)}
        self.server = Running(folder, **self.settings)
        self.port, self.http_port = self.server.kmip_port, self.server.http_port
        self.manage = Manager(folder, **self.settings)

    def add(self, name: str, *options: str) -> tuple[str, str]:
        """A client's certificate and key, made by the command."""
        folder = self.folder / f"{name}-{time.monotonic_ns()}"
        self.manage("client", "add", name, "--folder", str(folder), "--host", "localhost", *options)
        files = str(folder / "client.pem"), str(folder / "client.key")
        if not self.trusted:
            # Each listener notices a new authority within a second.
            until(lambda: self.lets_in(files) and self.lets_in_over_https(files), "the new authority", 15)
            self.trusted = True
        return files

    def open(self, files: tuple[str, str], context=None, session=None) -> ssl.SSLSocket:
        raw = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        context = context or self.pki.client_context(files)
        connection = context.wrap_socket(raw, server_hostname="localhost", session=session)
        connection.settimeout(10)
        return connection

    def ask(self, connection: ssl.SSLSocket, request: bytes = DISCOVER) -> bytes:
        """The answer to a request; empty when the server has closed the connection."""
        try:
            connection.sendall(request)
            return connection.recv(65536)
        except (OSError, ssl.SSLError):
            return b""

    def authority(self, name: str) -> str:
        """The identifier of an authority's certificate."""
        lines = self.manage("client", "authority").splitlines()
        return next(line.split()[0] for line in lines if f"CN={name} " in line)

    def lets_in(self, files: tuple[str, str]) -> bool:
        try:
            with self.open(files) as connection:
                return bool(self.ask(connection))
        except (OSError, ssl.SSLError):
            return False

    def lets_in_over_https(self, files: tuple[str, str]) -> bool:
        try:
            return https(self, files, "GET", "/version")[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def handshakes(self, *options: str) -> list[dict]:
        return [
            json.loads(line) for line in self.manage("handshakes", "--json", "--limit", "1000", *options).splitlines()
        ]

    def record_of(self, fingerprint: str, listener: str = "kmip") -> dict:
        def look():
            return [one for one in self.handshakes("--listener", listener) if one["fingerprint"] == fingerprint]

        found = until(look, "a handshake record")
        return found[0]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    site = Site(tmp_path_factory.mktemp("onboarding"))
    with site.server:
        yield site
        site.manage.close()


def fingerprint(made) -> str:
    certificate = (
        made.certificate if isinstance(made, Made) else x509.load_pem_x509_certificate(Path(made).read_bytes())
    )
    return certificate.fingerprint(hashes.SHA256()).hex()


def with_sha1(site) -> Made:
    """Signed with SHA-1, which `cryptography` no longer does."""
    folder = site.folder
    _, ca_key = site.pki.ca.write(folder, "sha1-ca")
    (folder / "ext").write_text("extendedKeyUsage=clientAuth\n")
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a")])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    command = [
        "openssl",
        "x509",
        "-req",
        "-sha1",
        "-CA",
        site.pki.ca_file,
        "-CAkey",
        ca_key,
        "-extfile",
        folder / "ext",
    ]
    command += ["-set_serial", str(x509.random_serial_number())]
    pem = request.public_bytes(serialization.Encoding.PEM)
    made = subprocess.run(command, input=pem, capture_output=True, check=True, timeout=20).stdout
    return Made(key, x509.load_pem_x509_certificate(made))


def limited(pki) -> tuple[Made, list[Made]]:
    """A leaf below two CAs where the upper allows none below it."""
    upper = make_ca("upper", pki.ca, 0)
    lower = make_ca("lower", upper, None)
    return make("deep", lower, usage=CLIENT), [lower, upper]


def make_ca(name, issuer, length) -> Made:
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - DAY)
        .not_valid_after(now + 9 * DAY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=length), critical=True)
    )
    return Made(key, builder.sign(issuer.key, hashes.SHA256()))


def below_a_leaf(pki) -> tuple[Made, list[Made]]:
    leaf = make("no CA", pki.ca, usage=CLIENT)
    return make("child", leaf, usage=CLIENT), [leaf]


BAD = {  # maker of leaf and further certificates, words of the reason, words of the advice
    "expired": (
        lambda s: (make("a", s.pki.ca, usage=CLIENT, begins=-9 * DAY, ends=-DAY), []),
        "has expired",
        "new cert",
    ),
    "not yet valid": (lambda s: (make("a", s.pki.ca, usage=CLIENT, begins=DAY), []), "not yet valid", "clocks"),
    "wrong CA": (lambda s: (make("a", make("x", ca=True), usage=CLIENT), []), "issuer is not known", "client accept"),
    "self-signed": (lambda s: (make("a", usage=CLIENT), []), "self-signed", "client accept"),
    "self-signed, for servers": (lambda s: (make("a", usage=SERVER), []), "and is not for TLS clients", "clientAuth"),
    "no EKU": (lambda s: (make("a", s.pki.ca), []), "no extended key usage", "clientAuth"),
    "serverAuth only": (lambda s: (make("a", s.pki.ca, usage=SERVER), []), "usage is not clientAuth", "clientAuth"),
    "SHA-1": (lambda s: (with_sha1(s), []), "hash that is broken", "SHA-256"),
    "RSA-1024": (
        lambda s: (make("a", s.pki.ca, usage=CLIENT, key=rsa.generate_private_key(65537, 1024)), []),
        "too short",
        "2048",
    ),
    "revoked": (lambda s: (s.revoked, []), "is revoked", "new cert"),
    "path too long": (lambda s: limited(s.pki), "longer than a CA", "intermediate"),
    "not a CA": (lambda s: below_a_leaf(s.pki), "not one of a CA", "intermediate"),
    "same CA name": (
        lambda s: (make("a", make("test CA", ca=True), usage=CLIENT), []),
        "not its issuer's",
        "client add",
    ),
}


def lax(pki, files) -> ssl.SSLContext:
    """A client that shows what it is told to, weak keys too."""
    context = pki.client_context(anonymous=True)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.load_cert_chain(*files)
    return context


DOORS = {
    "5696, TLS 1.2": ("kmip", ssl.TLSVersion.TLSv1_2, DISCOVER),
    "5696, TLS 1.3": ("kmip", ssl.TLSVersion.TLSv1_3, DISCOVER),
    "HTTPS": ("http", ssl.TLSVersion.TLSv1_3, b"GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n"),
}


@pytest.mark.parametrize("listener, version, request_", DOORS.values(), ids=DOORS)
@pytest.mark.parametrize("maker, reason, advice", BAD.values(), ids=BAD)
def test_each_bad_certificate_is_refused_with_its_own_reason(
    site, tmp_path, maker, reason, advice, listener, version, request_
):
    """The record names subject, issuer, dates and what to do, though the handshake failed."""
    made, others = maker(site)
    certificate, key = made.write(tmp_path, "bad")
    Path(certificate).write_bytes(b"".join(one.pem for one in (made, *others)))
    context = lax(site.pki, (certificate, key))
    context.maximum_version = version
    with pytest.raises((OSError, ssl.SSLError, EOFError)):
        raw = socket.create_connection(("127.0.0.1", site.port if listener == "kmip" else site.http_port), timeout=10)
        with raw, context.wrap_socket(raw, server_hostname="localhost") as connection:
            connection.settimeout(10)
            connection.sendall(request_)
            if not connection.recv(100):
                raise EOFError
    record = site.record_of(fingerprint(made), listener)
    assert not record["accepted"] and reason in record["reason"] and advice in record["advice"]
    assert record["subject"] == made.certificate.subject.rfc4514_string()
    assert record["issuer"] == made.certificate.issuer.rfc4514_string()
    assert record["not_after"] == int(made.certificate.not_valid_after_utc.timestamp())
    assert record["server_name"] == "localhost" and "TLS 1.2" in record["versions"] and "AES" in record["ciphers"]
    assert record["listener"] == listener and record["address"] == "127.0.0.1"


def test_the_name_of_another_authoritys_client_is_refused(site, tmp_path):
    """The same common name from this server's authority and from the configured CA are two clients."""
    files = site.add("carol")
    assert site.lets_in(files)
    own = site.manage("client", "list")
    other = make("carol", site.pki.ca, usage=CLIENT)
    theirs = other.write(tmp_path, "carol")
    with site.open(theirs) as connection:
        assert b"another authority" in site.ask(connection, LOCATE)
    status, answer = https(site, theirs, "GET", "/access/owned")
    assert status == 401 and "another authority" in str(answer)

    def refused():
        found = [one for one in site.handshakes("--refused") if one["fingerprint"] == fingerprint(other)]
        return len({one["listener"] for one in found}) == 2 and found

    for record in until(refused, "the records of both listeners"):
        assert "another authority" in record["reason"] and "common name" in record["advice"]
    assert site.manage("client", "list") == own and site.lets_in(files)


def test_an_accepted_handshake_is_recorded(site):
    """With version and cipher."""
    files = site.add("recorded")
    assert site.lets_in(files)
    record = site.record_of(fingerprint(files[0]))
    assert record["accepted"] and record["negotiated"].startswith("TLSv1.3 TLS_")
    assert "clientAuth" in record["usages"] and record["subject"] == "CN=recorded"
    shown = manage(site.folder, "handshakes", "--listener", "kmip", **site.settings)
    assert shown.returncode == 0 and "CN=recorded [" in shown.stdout and "TLSv1.3" in shown.stdout


def test_alike_handshakes_are_one_entry(site, tmp_path):
    """A client that tries again and again does not push others out."""
    bad = make("again", make("nobody", ca=True), usage=CLIENT)
    files = bad.write(tmp_path, "again")
    for _ in range(3):
        assert not site.lets_in(files)
    until(lambda: site.record_of(fingerprint(bad))["count"] >= 3 or None, "three of them", 15)
    assert len([one for one in site.handshakes() if one["fingerprint"] == fingerprint(bad)]) == 1


def test_probes_leave_no_record(site):
    """A connection that is opened and closed is a load balancer's."""
    before = len(site.handshakes())
    socket.create_connection(("127.0.0.1", site.port)).close()
    assert site.lets_in(site.pki.client_files)
    assert len(site.handshakes()) <= before + 1


@pytest.mark.parametrize("options", [(), ("--key", "p256"), ("--key", "ed25519")], ids=["RSA", "P-256", "Ed25519"])
def test_an_issued_certificate_opens_the_listener(site, options):
    """With openssl s_client."""
    files = site.add("opener", *options)
    command = ["openssl", "s_client", "-connect", f"localhost:{site.port}", "-CAfile", site.pki.ca_file]
    command += ["-cert", files[0], "-key", files[1], "-verify_return_error", "-brief"]
    result = subprocess.run(command, input=b"", capture_output=True, timeout=20)
    assert b"CONNECTION ESTABLISHED" in result.stderr and b"Verification: OK" in result.stderr
    assert site.lets_in(files)


def test_a_revoked_client_stops_on_its_open_connection(site):
    """Within five seconds of client revoke; new connections are refused with the reason."""
    files = site.add("dave")
    with site.open(files) as connection:
        assert site.ask(connection)
        site.manage("client", "revoke", "dave")
        began = time.monotonic()
        until(lambda: not site.ask(connection), "the end of the connection", 5)
        assert time.monotonic() - began < 5
    assert not site.lets_in(files)
    until(lambda: "revoked" in site.record_of(fingerprint(files[0]))["reason"], "the reason")


def test_an_unknown_certificate_can_be_accepted(site, tmp_path):
    """It waits in the queue; accepted, it is let in, and nothing that it might sign is; refused, it is out again."""
    own = make("appliance", ca=True)
    files = own.write(tmp_path, "appliance")
    assert not site.lets_in(files)
    mark = fingerprint(own)
    until(lambda: mark in site.manage("client", "waiting"), "the certificate in the queue")
    site.manage("client", "accept", mark[:16])
    until(lambda: site.lets_in(files), "being let in", 10)
    child = make("child of it", own, usage=CLIENT)
    assert not site.lets_in(child.write(tmp_path, "child"))
    assert "accepted as a client" in site.record_of(fingerprint(child))["reason"]
    site.manage("client", "refuse", mark[:16])
    until(lambda: not site.lets_in(files), "being refused", 10)


def test_a_revoked_authority_takes_its_clients_along(site):
    """Open connections end, resumed sessions too, and new ones are refused; other authorities' clients stay."""
    ours = site.add("judy")
    site.manage("client", "authority", "--create", "Doomed")
    uid = site.authority("Doomed")
    files = site.add("ivan")
    until(lambda: site.lets_in(files), "the new authority", 5)
    context = site.pki.client_context(files)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with site.open(files, context) as first, site.open(ours) as other:
        with site.open(files, context, first.session) as second:
            assert second.session_reused and site.ask(first) and site.ask(second)
            site.manage("client", "authority", "--revoke", uid)
            until(lambda: not site.ask(first), "the end of the connection", 5)
            until(lambda: not site.ask(second), "the end of the resumed one", 5)
        assert site.ask(other)
    assert not site.lets_in(files) and site.lets_in(ours)
    # Its own authority is used again.
    assert site.lets_in(site.add("kim"))


def test_an_authority_that_is_dropped_is_trusted_no_more(site):
    """Its clients are refused, also where a TLS session could be resumed; taken back, they are let in."""
    files = site.add("erin")
    assert site.lets_in(files)
    uid = site.authority("KMS clients")
    site.manage("client", "authority", "--drop", uid)
    until(lambda: not site.lets_in(files), "being refused", 10)
    site.manage("client", "authority", "--use", uid)
    until(lambda: site.lets_in(files), "being let in", 10)


def https(site, files, method, path, body=None, accept=None, raw=False):
    """One request over HTTPS; status and answer."""
    context = site.pki.client_context(files)
    connection = http.client.HTTPSConnection("localhost", site.http_port, context=context, timeout=15)
    headers = {"Content-Type": "application/json"} | ({"Accept": accept} if accept else {})
    try:
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        response = connection.getresponse()
        content = response.read()
    finally:
        connection.close()
    return response.status, content if raw else json.loads(content)


def test_https_honours_authorities_and_revocation(site):
    """The same certificates over HTTPS; a connection that is kept alive ends with the certificate."""
    files = site.add("frank")
    connection = http.client.HTTPSConnection(
        "localhost", site.http_port, context=site.pki.client_context(files), timeout=15
    )

    def works() -> bool:
        try:
            connection.request("GET", "/version")
            return connection.getresponse().read() != b""
        except (OSError, http.client.HTTPException):
            connection.auto_open = 0
            return False

    assert works()
    site.manage("client", "revoke", "frank")
    until(lambda: not works(), "the end of the connection", 5)
    connection.close()


def test_renewal_by_the_old_certificate(site):
    """A certificate request for a new key gives a certificate of the same name; nothing else is taken from it."""
    files = site.add("grace")
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "admin")])
    )
    csr = request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
    status, answer = https(site, files, "POST", "/clients/renew", {"csr": csr})
    assert status == 201 and answer["name"] == "grace"
    made = Made(key, x509.load_pem_x509_certificate(answer["certificate"].encode()))
    assert made.certificate.subject.rfc4514_string() == "CN=grace"
    assert site.lets_in(made.write(site.folder, "renewed")) and site.lets_in(files)
    status, answer = https(site, files, "POST", "/clients/renew", {})
    assert status == 403 and "certificate request" in answer["message"]


def test_the_address_gives_lists_to_everybody_with_a_certificate(site):
    """openssl reads list and OCSP answer of the issuing authority."""
    files = site.add("heidi")
    site.manage("client", "revoke", "heidi")
    address = re.search(r"CN=KMS clients .+\n +/pki/(\w+)/crl", site.manage("client", "authority"))
    status, content = https(site, site.pki.client_files, "GET", f"/pki/{address[1]}/crl?format=pem", raw=True)
    assert status == 200
    shown = subprocess.run(["openssl", "crl", "-noout", "-text"], input=content, capture_output=True, timeout=20)
    serial = x509.load_pem_x509_certificate(Path(files[0]).read_bytes()).serial_number
    assert f"{serial:X}".encode() in shown.stdout


# The pages of settings, followed to the letter where the client installs here.


def block(page: str, language: str) -> str:
    found = re.search(rf"```{language}\n(.+?)```", page, re.DOTALL)
    assert found is not None
    return found[1]


def bundle(site, product: str, name: str) -> Path:
    folder = site.folder / f"{product}-bundle"
    site.manage("client", "add", name, "--product", product, "--host", "localhost", "--folder", str(folder))
    settings = folder / "SETTINGS.md"
    # Ports of the test are chosen by the system, after the settings were read.
    text = settings.read_text().replace("localhost:0", f"localhost:{site.port}").replace(f"{name}/", f"{folder}/")
    settings.write_text(text)
    return folder


def test_the_page_for_pykmip_works(site):
    """The program on the page, with the files of the bundle."""
    folder = bundle(site, "pykmip", "pykmip-client")
    config = folder / "pykmip.conf"
    config.write_text(config.read_text().replace("port=0", f"port={site.port}"))
    program = block((folder / "SETTINGS.md").read_text(), "python")
    result = subprocess.run(
        [sys.executable, "-P", "-W", "ignore", "-c", program], cwd=folder, capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    assert re.fullmatch(r"[0-9a-f]{64}", result.stdout.strip().removeprefix("b'").removesuffix("'"))


def test_the_page_for_mongodb_client_side_encryption_works(site):
    """The options on the page, given to the library below every driver."""
    folder = bundle(site, "mongodb-csfle", "mongo-client")
    options = block((folder / "SETTINGS.md").read_text(), "python")
    program = options[: options.index("options = Auto")] + CSFLE
    result = subprocess.run(
        [sys.executable, "-P", "-W", "ignore", "-c", program], cwd=folder, capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    assert "data key made" in result.stdout


# What the driver does with the options: the library below it asks for messages to be carried to the server.
CSFLE = """
import bson, socket, ssl
from pymongocrypt.mongocrypt import MongoCryptOptions
from pymongocrypt.synchronous.explicit_encrypter import ExplicitEncrypter
from pymongocrypt.synchronous.state_machine import MongoCryptCallback

class Vault(MongoCryptCallback):
    def kms_request(self, context):
        files = kms_tls_options["kmip"]
        tls = ssl.create_default_context(cafile=files["tlsCAFile"])
        tls.verify_flags &= ~ssl.VERIFY_X509_STRICT
        tls.load_cert_chain(files["tlsCertificateKeyFile"])
        host, port = kms_providers["kmip"]["endpoint"].split(":")
        raw = socket.create_connection((host, int(port)))
        with tls.wrap_socket(raw, server_hostname=host) as connection:
            connection.sendall(context.message)
            while context.bytes_needed > 0:
                context.feed(connection.recv(context.bytes_needed))
    def insert_data_key(self, key): return bson.decode(key)["_id"]
    def bson_encode(self, document): return bson.encode(document)
    def fetch_keys(self, filter): return []
    def collection_info(self, database, filter): return []
    def mark_command(self, database, command): return command
    def close(self): pass

with_library = ExplicitEncrypter(Vault(), MongoCryptOptions(kms_providers))
if with_library.create_data_key("kmip", master_key={}):
    print("data key made")
with_library.close()
"""
