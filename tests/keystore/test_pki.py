"""The development PKI: what it makes works, and keeps its keys to itself."""

import ssl
import stat
import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import pkcs12

from keystore import conf, pki, tls
from tests.keystore.test_tls import converse
from tests.processes import manage


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("development") / "pki"
    pki.initialise(made, "alice")
    return made


def test_server_and_client_trust_each_other(folder):
    """The server's PKCS#12 file and the client's PEM files make a mutual TLS connection."""
    settings = {
        "KMS_TLS_P12_FILE": str(folder / "server.p12"),
        "KMS_TLS_P12_PASSWORD_FILE": str(folder / "server.p12.password"),
        "KMS_CLIENTS_CA_CERT_FILE": str(folder / "ca.pem"),
    }

    client = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    client.load_cert_chain(folder / "client.pem", folder / "client.key")
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    certificate, state = converse(tls.server_context(conf.load({}, settings, []), "kmip"), client)
    assert x509.load_der_x509_certificate(certificate).subject.rfc4514_string().startswith("CN=alice")
    assert state[0] == b"hello"


def test_the_server_is_known_by_its_local_names(folder):
    """SAN has localhost, both loopback addresses and the machine's name."""
    names = {name.value for name in pki.local_names()}
    bundle = pkcs12.load_pkcs12(
        (folder / "server.p12").read_bytes(), (folder / "server.p12.password").read_bytes().strip()
    )
    found = bundle.cert.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {name.value for name in found} == names
    assert {"localhost"} < {str(name) for name in names}
    assert {"127.0.0.1", "::1"} < {str(name) for name in names}


def test_chains_pass_strict_verification(folder):
    """OpenSSL finds nothing to object to."""
    for purpose, name in (("sslclient", "client.pem"),):
        command = [
            "openssl",
            "verify",
            "-x509_strict",
            "-purpose",
            purpose,
            "-CAfile",
            folder / "ca.pem",
            folder / name,
        ]
        assert subprocess.run(command, capture_output=True).returncode == 0


def test_the_client_bundle_is_for_a_browser(folder):
    """It holds the client's key and certificate, and the CA."""
    bundle = pkcs12.load_pkcs12(
        (folder / "client.p12").read_bytes(), (folder / "client.p12.password").read_bytes().strip()
    )
    assert bundle.key is not None
    assert len(bundle.additional_certs) == 1


def test_files_are_their_owner_s_only_and_the_server_key_is_encrypted(folder):
    """Nobody else reads a key, and the server's is in PKCS#12 alone."""
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert sorted(path.name for path in folder.iterdir() if b"PRIVATE KEY" in path.read_bytes()) == [
        "ca.key",
        "client.key",
    ]


def test_existing_files_are_never_overwritten(folder, tmp_path):
    """A second run refuses, and changes nothing."""
    before = {path: path.read_bytes() for path in folder.iterdir()}
    result = manage(tmp_path, "initpki", "--folder", str(folder))
    assert result.returncode != 0
    assert "exists" in result.stderr
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_reprs_show_no_key():
    """Neither issued nor loaded credentials print theirs."""
    assert "PRIVATE" not in repr(pki.authority())


def test_what_is_made_for_development_is_strictly_right(tmp_path):
    """For openssl, each for its purpose."""
    pki.initialise(tmp_path, "somebody")
    server = subprocess.run(
        ["openssl", "pkcs12", "-in", tmp_path / "server.p12", "-nokeys", "-clcerts", "-passin",
         f"file:{tmp_path / 'server.p12.password'}"], capture_output=True, check=True, timeout=20,
    ).stdout  # fmt: skip
    (tmp_path / "server.pem").write_bytes(server)
    for name, purpose, wrong in (("server", "sslserver", "sslclient"), ("client", "sslclient", "sslserver")):
        command = ["openssl", "verify", "-x509_strict", "-CAfile", tmp_path / "ca.pem", "-purpose"]
        for asked, expected in ((purpose, 0), (wrong, 2)):
            run = subprocess.run([*command, asked, tmp_path / f"{name}.pem"], capture_output=True, timeout=20)
            assert run.returncode == expected, run.stderr
