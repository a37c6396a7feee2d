"""What the server refuses to start with, before anything is opened; the same as rows of system checks."""

import pytest
from django.core.checks import run_checks

from keystore import checks, conf
from tests.certificates import CLIENT, DAY, PASSWORD, SERVER, Pki, make


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("files")
    pki = Pki(folder)
    contents = {
        "unencrypted.p12": pki.server.p12(password=""),
        "no-key.p12": pki.server.p12(key=False),
        "no-certificate.p12": pki.server.p12(certificate=False),
        "mismatch.p12": pki.server.p12(pki.client, certificate=False),
        "garbage": b"hello",
        "empty": b"",
        "leaf.pem": pki.client.pem,
        "expired.p12": make("localhost", pki.ca, usage=SERVER, begins=-9 * DAY, ends=-DAY).p12(),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    paths = {name: str(folder / name) for name in contents}
    certificate, key = pki.server_files
    other_key = make("other", usage=CLIENT).write(folder, "other")[1]
    return paths | {
        "p12": pki.p12_file,
        "ca": pki.ca_file,
        "cert": certificate,
        "key": key,
        "other key": other_key,
        "missing": "/no/file",
    }


P12 = {"KMS_TLS_P12_FILE": "p12", "KMS_TLS_P12_PASSWORD": PASSWORD}
PEM = {"KMS_TLS_CERT_FILE": "cert", "KMS_TLS_KEY_FILE": "key"}

ACCEPTED = {
    "nothing": ({}, False),
    "PKCS#12": (P12, False),
    "PKCS#12 and clients CA": (P12 | {"KMS_CLIENTS_CA_CERT_FILE": "ca"}, True),
    "PEM and clients CA": (PEM | {"KMS_CLIENTS_CA_CERT_FILE": "ca"}, True),
    "unencrypted PKCS#12": ({"KMS_TLS_P12_FILE": "unencrypted.p12", "KMS_TLS_P12_PASSWORD": ""}, False),
    "KMIP not wanted": (P12 | {"KMS_CLIENTS_CA_CERT_FILE": "ca", "KMS_SOCKET_SERVER_START": "false"}, False),
    "KMIP wanted": (P12 | {"KMS_CLIENTS_CA_CERT_FILE": "ca", "KMS_SOCKET_SERVER_START": "true"}, True),
    "loopback by name": ({"KMS_HOSTNAME": "localhost"}, False),
    "loopback in IPv6": ({"KMS_HOSTNAME": "[::1]"}, False),
}

REFUSED = {
    "no password": ({"KMS_TLS_P12_FILE": "p12"}, "tls.tls_p12_password", "is missing"),
    "password without file": ({"KMS_TLS_P12_PASSWORD": "x"}, "tls.tls_p12_password", "without a server certificate"),
    "password beside PEM": (PEM | {"KMS_TLS_P12_PASSWORD": "x"}, "tls.tls_p12_password", "without a PKCS#12 file"),
    "two passwords": (P12 | {"KMS_TLS_P12_PASSWORD_FILE": "garbage"}, "tls.tls_p12_password_file", "beside"),
    "clients CA without TLS": ({"KMS_CLIENTS_CA_CERT_FILE": "ca"}, "tls.clients_ca_cert_file", "without a server"),
    "certificate without key": ({"KMS_TLS_CERT_FILE": "cert"}, "tls.tls_cert_file", "without its key"),
    "key without certificate": ({"KMS_TLS_KEY_FILE": "key"}, "tls.tls_key_file", "without its certificate"),
    "PKCS#12 and PEM": (P12 | PEM, "tls.tls_cert_file", "beside tls.tls_p12_file"),
    "PKCS#12 and chain": (P12 | {"KMS_TLS_CHAIN_FILE": "ca"}, "tls.tls_chain_file", "beside tls.tls_p12_file"),
    "CRL without CA": (P12 | {"KMS_CLIENTS_CRL_FILE": "garbage"}, "tls.clients_crl_file", "without a clients CA"),
    "client auth without CA": (
        P12 | {"KMS_HTTP_CLIENT_AUTH": "required"},
        "tls.http_client_auth",
        "without a clients CA",
    ),
    "missing PKCS#12": (P12 | {"KMS_TLS_P12_FILE": "missing"}, "tls.tls_p12_file", "cannot read"),
    "no PKCS#12": (P12 | {"KMS_TLS_P12_FILE": "garbage"}, "tls.tls_p12_file", "not a PKCS#12 file"),
    "wrong password": (P12 | {"KMS_TLS_P12_PASSWORD": "wrong"}, "tls.tls_p12_password", "is not the password"),
    "PKCS#12 without key": (P12 | {"KMS_TLS_P12_FILE": "no-key.p12"}, "tls.tls_p12_file", "no private key"),
    "PKCS#12 without certificate": (
        P12 | {"KMS_TLS_P12_FILE": "no-certificate.p12"},
        "tls.tls_p12_file",
        "no certificate",
    ),
    "PKCS#12 mismatch": (P12 | {"KMS_TLS_P12_FILE": "mismatch.p12"}, "tls.tls_p12_file", "do not match"),
    "PEM mismatch": (PEM | {"KMS_TLS_KEY_FILE": "other key"}, "tls.tls_cert_file", "do not match"),
    "expired": (P12 | {"KMS_TLS_P12_FILE": "expired.p12"}, "tls.tls_p12_file", "expired on"),
    "missing certificate": (PEM | {"KMS_TLS_CERT_FILE": "missing"}, "tls.tls_cert_file", "cannot read"),
    "no PEM certificate": (PEM | {"KMS_TLS_CERT_FILE": "garbage"}, "tls.tls_cert_file", "no PEM certificate"),
    "no PEM key": (PEM | {"KMS_TLS_KEY_FILE": "cert"}, "tls.tls_key_file", "no PEM private key"),
    "missing CA": (P12 | {"KMS_CLIENTS_CA_CERT_FILE": "missing"}, "tls.clients_ca_cert_file", "cannot read"),
    "empty CA": (P12 | {"KMS_CLIENTS_CA_CERT_FILE": "empty"}, "tls.clients_ca_cert_file", "no PEM certificate"),
    "CA is not PEM": (P12 | {"KMS_CLIENTS_CA_CERT_FILE": "garbage"}, "tls.clients_ca_cert_file", "no PEM certificate"),
    "CA is a leaf": (P12 | {"KMS_CLIENTS_CA_CERT_FILE": "leaf.pem"}, "tls.clients_ca_cert_file", "no CA certificate"),
    "no CRL": (
        P12 | {"KMS_CLIENTS_CA_CERT_FILE": "ca", "KMS_CLIENTS_CRL_FILE": "garbage"},
        "tls.clients_crl_file",
        "no CRL",
    ),
    "KMIP without TLS": ({"KMS_SOCKET_SERVER_START": "true"}, "socket_server.socket_server_start", "tls_p12_file"),
    "KMIP without CA": (
        P12 | {"KMS_SOCKET_SERVER_START": "true"},
        "socket_server.socket_server_start",
        "clients_ca_cert_file is missing",
    ),
    "plain HTTP for the network": ({"KMS_HOSTNAME": "0.0.0.0"}, "http.hostname", "without authentication"),
    "proxy by name": ({"KMS_TRUSTED_PROXIES": "proxy.example"}, "http.trusted_proxies", "no address"),
}


def load(files: dict[str, str], settings: dict[str, str]) -> conf.Config:
    return conf.load({}, {name: files.get(value, value) for name, value in settings.items()}, [])


@pytest.mark.parametrize("settings, kmip", ACCEPTED.values(), ids=ACCEPTED)
def test_a_whole_configuration_starts_the_listeners_it_is_enough_for(files, settings, kmip):
    """The KMIP listener starts exactly when TLS and the clients' CA are there and nobody said no."""
    config = load(files, settings)
    checks.startup(config)
    assert checks.wants_kmip(config) == kmip


@pytest.mark.parametrize("settings, key, problem", REFUSED.values(), ids=REFUSED)
def test_half_a_configuration_is_refused(files, settings, key, problem):
    """The refusal names the key, the layer it came from, what is wrong and what to do."""
    with pytest.raises(conf.ConfigError) as caught:
        checks.startup(load(files, settings))
    error = caught.value
    assert error.key == key
    assert problem in error.problem
    assert error.remedy
    assert PASSWORD not in str(error)
    assert error.layer.startswith("environment KMS_") or key == "tls.tls_p12_password"


def test_a_password_file_is_as_good_as_a_password(files, tmp_path):
    """Its first line counts."""
    (tmp_path / "password").write_text(PASSWORD + "\nmore\n")
    checks.startup(load(files, {"KMS_TLS_P12_FILE": "p12", "KMS_TLS_P12_PASSWORD_FILE": str(tmp_path / "password")}))


def test_django_shows_the_same_as_a_system_check(configure):
    """`manage.py check` has an id and a hint for what would be refused."""
    assert run_checks(tags=["kms"]) == []
    configure(**{"http.hostname": "0.0.0.0"})
    (message,) = run_checks(tags=["kms"])
    assert message.id == "kms.E001"
    assert "http.hostname" in message.msg
    assert message.hint
