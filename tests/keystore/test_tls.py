"""TLS: which files are accepted, which clients are let in, and what stays secret."""

import os
import socket
import ssl
import subprocess
import threading
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from keystore import conf, tls
from tests.certificates import CLIENT, DAY, PASSWORD, SERVER, Pki, make, revoke


@pytest.fixture(scope="module")
def pki(tmp_path_factory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


def configured(pki: Pki, **settings: str) -> conf.Config:
    return conf.load({}, pki.settings() | settings, [])


def converse(server_context: ssl.SSLContext, client_context: ssl.SSLContext, session: ssl.SSLSession | None = None):
    """A handshake and one exchange: the server's certificate or refusal, and the client's side."""
    listener = socket.create_server(("127.0.0.1", 0))
    result: list[object] = []

    def serve() -> None:
        raw, _ = listener.accept()
        raw.settimeout(10)
        with raw, server_context.wrap_socket(raw, server_side=True, do_handshake_on_connect=False) as connection:
            try:
                result.append(tls.handshake(connection))
                connection.sendall(b"hello")
                connection.recv(1)
            except (tls.HandshakeFailed, OSError) as exc:
                result.append(exc)

    thread = threading.Thread(target=serve)
    thread.start()
    state = None
    with socket.create_connection(listener.getsockname()) as raw:
        raw.settimeout(10)
        try:
            with client_context.wrap_socket(raw, server_hostname="localhost", session=session) as client:
                greeting = client.recv(5)
                state = (greeting, client.session_reused, client.session, client.version(), client.cipher())
        except OSError:
            pass
    thread.join(10)
    listener.close()
    return result[0], state


def test_a_client_of_the_ca_is_let_in(pki):
    """The handshake gives the client's certificate."""
    result, (greeting, *_rest) = converse(tls.server_context(configured(pki), "kmip"), pki.client_context())
    assert result == pki.client.certificate.public_bytes(serialization.Encoding.DER)
    assert greeting == b"hello"


REFUSED_CLIENTS = {
    "wrong CA": (
        lambda pki: make("mallory", make("other CA", ca=True), usage=CLIENT),
        "its issuer is not known here",
        "unknown",
    ),
    "same CA name": (
        lambda pki: make("mallory", make("test CA", ca=True), usage=CLIENT),
        "its signature is not its issuer's",
        "unknown",
    ),
    "expired": (lambda pki: make("old", pki.ca, usage=CLIENT, begins=-9 * DAY, ends=-DAY), "it has expired", "expired"),
    "not yet valid": (lambda pki: make("new", pki.ca, usage=CLIENT, begins=DAY), "not yet valid", "clock"),
    "self-signed": (lambda pki: make("alice", usage=CLIENT), "it is self-signed", "unknown"),
    "serverAuth only": (
        lambda pki: make("server", pki.ca, usage=SERVER),
        "its extended key usage is not clientAuth",
        "usage",
    ),
    "no EKU": (lambda pki: make("any", pki.ca), "no extended key usage clientAuth", "usage"),
    "none": (lambda pki: None, "sent no certificate", "missing"),
}


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
@pytest.mark.parametrize("make_client, reason, kind", REFUSED_CLIENTS.values(), ids=REFUSED_CLIENTS)
def test_other_clients_are_refused_with_the_reason(pki, tmp_path, make_client, reason, kind, version):
    """Whoever is not a TLS client of the CA gets nothing, and the server knows why."""
    made = make_client(pki)
    client = pki.client_context(made and made.write(tmp_path, "client"), anonymous=made is None)
    client.minimum_version = client.maximum_version = version
    result, state = converse(tls.server_context(configured(pki), "kmip"), client)
    assert isinstance(result, tls.HandshakeFailed)
    assert reason in result.reason and result.kind == kind
    assert state is None or state[0] == b""


def test_every_kind_of_refusal_has_advice():
    """Metrics count by kind, and what was revoked is not what has expired, though the advice is the same."""
    assert {kind for _, kind in (*tls.REASONS.values(), *tls.REFUSALS.values())} <= set(tls.ADVICE)
    assert tls.refused(*tls.REFUSALS[23]).kind == "revoked" and tls.refused(*tls.REFUSALS[10]).kind == "expired"


@pytest.mark.parametrize(
    "listener, auth, let_in", [("http", "optional", True), ("http", "required", False), ("kmip", "optional", False)]
)
def test_only_https_may_do_without_client_certificates(pki, listener, auth, let_in):
    """`http_client_auth` concerns HTTPS; the KMIP listener always requires a certificate."""
    context = tls.server_context(configured(pki, KMS_HTTP_CLIENT_AUTH=auth), listener)
    result, _ = converse(context, pki.client_context(anonymous=True))
    assert (result is None) == let_in


def test_a_bad_certificate_is_refused_where_none_is_needed(pki, tmp_path):
    """Optional does not mean unchecked."""
    files = make("mallory", usage=CLIENT).write(tmp_path, "client")
    context = tls.server_context(configured(pki, KMS_HTTP_CLIENT_AUTH="optional"), "http")
    result, _ = converse(context, pki.client_context(files))
    assert isinstance(result, tls.HandshakeFailed)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def test_a_session_is_resumed_with_its_client_certificate(pki, version):
    """The second handshake is short, and the server still knows who the client is."""
    server, client = tls.server_context(configured(pki), "kmip"), pki.client_context()
    client.minimum_version = client.maximum_version = version
    first, (_, reused, session, *_rest) = converse(server, client)
    assert not reused
    second, (_, reused, *_rest) = converse(server, client, session)
    assert reused
    assert first == second == pki.client.certificate.public_bytes(serialization.Encoding.DER)


def test_a_session_does_not_outlive_a_reload(pki):
    """After certificates or CRLs are read again, every client is verified again."""
    client = pki.client_context()
    _, (_, _, session, *_rest) = converse(tls.server_context(configured(pki), "kmip"), client)
    _, (_, reused, *_rest) = converse(tls.server_context(configured(pki), "kmip"), client, session)
    assert not reused


def test_a_revoked_client_is_refused(pki, tmp_path):
    """Certificates on the CA's revocation list are refused, others are not; the list may be PEM or DER."""
    revoked = make("bob", pki.ca, usage=CLIENT)
    for name, content in (("crl.pem", revoke(pki.ca, revoked)), ("crl.der", None)):
        crl = tmp_path / name
        if content is None:
            subprocess.run(["openssl", "crl", "-in", tmp_path / "crl.pem", "-outform", "DER", "-out", crl], check=True)
        else:
            crl.write_bytes(content)
        context = tls.server_context(configured(pki, KMS_CLIENTS_CRL_FILE=str(crl)), "kmip")
        result, _ = converse(context, pki.client_context(revoked.write(tmp_path, "bob")))
        assert isinstance(result, tls.HandshakeFailed)
        assert "revoked" in result.reason and result.kind == "revoked"
        assert isinstance(converse(context, pki.client_context())[0], bytes)


def test_an_outdated_revocation_list_lets_nobody_in(pki, tmp_path):
    """A list past its next update is no proof that a certificate is not revoked."""
    (tmp_path / "crl.pem").write_bytes(revoke(pki.ca, ends=-DAY / 2))
    context = tls.server_context(configured(pki, KMS_CLIENTS_CRL_FILE=str(tmp_path / "crl.pem")), "kmip")
    result, _ = converse(context, pki.client_context())
    assert isinstance(result, tls.HandshakeFailed)
    assert "the revocation list of its CA has ended" in result.reason


def test_several_cas_and_an_intermediate_alone_are_accepted(pki, tmp_path):
    """Each CA certificate of the file is trusted by itself; what is no CA in it is not."""
    other_root = make("other root", ca=True)
    intermediate = make("intermediate", other_root, ca=True)
    stray = make("stray", usage=CLIENT)
    (tmp_path / "cas.pem").write_bytes(pki.ca.pem + intermediate.pem + stray.pem)
    context = tls.server_context(configured(pki, KMS_CLIENTS_CA_CERT_FILE=str(tmp_path / "cas.pem")), "kmip")
    for made, let_in in ((make("carol", intermediate, usage=CLIENT), True), (pki.client, True), (stray, False)):
        result, _ = converse(context, pki.client_context(made.write(tmp_path, "client")))
        assert isinstance(result, bytes) == let_in


def test_the_chain_is_sent_in_order_without_its_root(tmp_path):
    """Intermediates of the PKCS#12 file follow the leaf, whatever their order in the file."""
    root = make("root", ca=True)
    upper = make("upper", root, ca=True)
    lower = make("lower", upper, ca=True)
    leaf = make("localhost", lower, usage=SERVER, local=True)
    for others in ((root, upper, lower), (lower, root, upper)):
        (tmp_path / "server.p12").write_bytes(leaf.p12(*others))
        settings = {"KMS_TLS_P12_FILE": str(tmp_path / "server.p12"), "KMS_TLS_P12_PASSWORD": PASSWORD}
        found = tls.credentials(conf.load({}, settings, []))
        assert found.chain == (lower.certificate, upper.certificate)
    root.write(tmp_path, "root")
    client = ssl.create_default_context(cafile=str(tmp_path / "root.pem"))
    client.verify_flags &= ~ssl.VERIFY_X509_STRICT
    _, state = converse(tls.server_context(conf.load({}, settings, []), "http"), client)
    assert state[0] == b"hello"


def test_pem_files_do_the_same(pki):
    """Certificate and key in PEM instead of PKCS#12."""
    certificate, key = pki.server_files
    settings = {"KMS_TLS_CERT_FILE": certificate, "KMS_TLS_KEY_FILE": key, "KMS_CLIENTS_CA_CERT_FILE": pki.ca_file}
    settings["KMS_TLS_CHAIN_FILE"] = pki.ca_file
    result, _ = converse(tls.server_context(conf.load({}, settings, []), "kmip"), pki.client_context())
    assert isinstance(result, bytes)


SUITES = {
    "default": ("", False, {"TLSv1.2", "TLSv1.3"}, None),
    "only 1.3": (":".join(sorted(tls.TLS_1_3_SUITES)), False, {"TLSv1.3"}, None),
    "only 1.2": ("ECDHE-ECDSA-AES256-GCM-SHA384", False, {"TLSv1.2"}, "ECDHE-ECDSA-AES256-GCM-SHA384"),
    "IANA": ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", False, {"TLSv1.2"}, "ECDHE-ECDSA-CHACHA20-POLY1305"),
}


@pytest.mark.parametrize("suites, legacy, versions, cipher", SUITES.values(), ids=SUITES)
def test_cipher_suites_are_those_configured(pki, suites, legacy, versions, cipher):
    """A list limits versions and ciphers to what it names."""
    context = tls.server_context(configured(pki, KMS_TLS_CIPHER_SUITES=suites), "kmip")
    spoken = set()
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        client = pki.client_context()
        client.minimum_version = client.maximum_version = version
        _, state = converse(context, client)
        if state and state[0]:
            spoken.add(state[3])
            assert cipher in (None, state[4][0])
    assert spoken == versions


@pytest.mark.parametrize("legacy, let_in", [("false", False), ("true", True)])
def test_cbc_suites_need_the_legacy_option(pki, legacy, let_in):
    """Old appliances are served only where that was asked for."""
    client = pki.client_context()
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    client.set_ciphers("ECDHE-ECDSA-AES256-SHA")
    result, _ = converse(tls.server_context(configured(pki, KMS_LEGACY_CIPHERS=legacy), "kmip"), client)
    assert isinstance(result, bytes) == let_in


@pytest.mark.parametrize(
    "suites", ["TLS_AES_128_GCM_SHA256", "NO-SUCH-CIPHER", "ECDHE-ECDSA-AES256-GCM-SHA384 RC4-MD5"]
)
def test_suites_that_cannot_be_had_are_refused(pki, suites):
    """Nothing of the list is silently left out."""
    if suites in tls.TLS_1_3_SUITES and hasattr(ssl.SSLContext, "set_ciphersuites"):
        pytest.skip("this Python chooses among TLS 1.3 suites")
    with pytest.raises(conf.ConfigError, match=r"tls\.tls_cipher_suites"):
        tls.server_context(configured(pki, KMS_TLS_CIPHER_SUITES=suites), "kmip")


def test_tls_1_1_is_never_spoken(pki):
    """Not even with legacy ciphers."""
    context = tls.server_context(configured(pki, KMS_LEGACY_CIPHERS="true"), "kmip")
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2


def test_the_key_never_reaches_a_file(pki, tmp_path, monkeypatch):
    """What OpenSSL reads is a file in memory, encrypted, and gone afterwards."""
    seen: list[tuple[str, bytes]] = []
    load = ssl.SSLContext.load_cert_chain

    def spy(context, name, *args, **kwargs):
        seen.append((os.readlink(name), Path(name).read_bytes()))
        return load(context, name, *args, **kwargs)

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", spy)
    monkeypatch.chdir(tmp_path)
    before = set(os.listdir("/proc/self/fd"))
    tls.server_context(configured(pki), "kmip")
    ((target, content),) = seen
    assert target.startswith("/memfd:")
    assert b"BEGIN ENCRYPTED PRIVATE KEY" in content
    assert b"BEGIN PRIVATE KEY" not in content
    assert set(os.listdir("/proc/self/fd")) <= before
    assert list(tmp_path.iterdir()) == []


def test_a_probe_is_not_a_failure(pki):
    """A client that connects and closes is told from one that was refused."""
    ours, theirs = socket.socketpair()
    theirs.close()
    with (
        ours,
        tls.server_context(configured(pki), "kmip").wrap_socket(
            ours, server_side=True, do_handshake_on_connect=False
        ) as connection,
        pytest.raises(tls.HandshakeFailed) as caught,
    ):
        tls.handshake(connection)
    assert caught.value.probe


@pytest.mark.parametrize(
    "sent, reason", [(b"GET / HTTP/1.1\r\n\r\n", "plain HTTP"), (b"\x42\x00\x78\x01" * 4, "does not speak TLS")]
)
def test_other_protocols_are_named(pki, sent, reason):
    """Plain HTTP or KMIP on a TLS port is recognised."""
    ours, theirs = socket.socketpair()
    theirs.sendall(sent)
    with (
        theirs,
        tls.server_context(configured(pki), "kmip").wrap_socket(
            ours, server_side=True, do_handshake_on_connect=False
        ) as connection,
        pytest.raises(tls.HandshakeFailed) as caught,
    ):
        tls.handshake(connection)
    assert reason in caught.value.reason


def test_names_of_suites_are_translated():
    """IANA's names of TLS 1.2 suites become OpenSSL's."""
    listing = subprocess.run(
        ["openssl", "ciphers", "-stdname", "-tls1_2", "-s", "ECDHE+AES:ECDHE+CHACHA20:kRSA+AES"],
        capture_output=True,
        text=True,
    )
    pairs = [line.split()[::2][:2] for line in listing.stdout.splitlines()]
    wrong = [(iana, ours) for iana, ours in pairs if tls._openssl_name(iana) != ours and "CCM" not in iana]
    assert pairs
    assert wrong == []


def test_a_certificate_about_to_begin_is_told_from_an_expired_one(tmp_path):
    """Dates of the leaf are checked at start."""
    for begins, ends, words in ((-9 * DAY, -DAY, "expired on"), (DAY, 2 * DAY, "not valid before")):
        (tmp_path / "s.p12").write_bytes(make("s", usage=SERVER, begins=begins, ends=ends).p12())
        settings = {"KMS_TLS_P12_FILE": str(tmp_path / "s.p12"), "KMS_TLS_P12_PASSWORD": PASSWORD}
        with pytest.raises(conf.ConfigError, match=words):
            tls.credentials(conf.load({}, settings, []))
