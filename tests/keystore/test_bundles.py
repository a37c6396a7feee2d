"""Bundles and their pages."""

import configparser
import dataclasses
import json
import re
import subprocess

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12

from keystore import bundles
from keystore.clients import Enrolled, new_request
from keystore.management.commands import client
from kmip.errors import KMIPError
from tests.certificates import CLIENT, make


@pytest.fixture(scope="module")
def material():
    authority = make("CA", ca=True)
    made = make("bob", authority, usage=CLIENT)
    der = serialization.Encoding.DER
    enrolled = Enrolled(
        "bob", "uid", made.certificate.public_bytes(der), (authority.certificate.public_bytes(der),), made.key
    )
    return bundles.Material(enrolled, bundles.Server("kms.test", 5696), authority.pem, "a password")


@pytest.mark.parametrize("name", bundles.PRODUCTS)
def test_every_product_has_its_files_and_a_page_that_names_them(name, material):
    """A file that the page does not name would be left lying about."""
    files = bundles.make(name, material)
    page = files.pop("SETTINGS.md").decode()
    assert all(files.values()) and "{" + "host}" not in page
    for path in files:
        assert path.split("/")[-1] in page, path
    assert "kms.test" in page or name == "mysql" or name == "pykmip"


def test_pages_in_docs_are_current():
    """As manage.py client pages --write makes them."""
    for path, content in client.documents().items():
        assert path.read_text(encoding="utf-8") == content, path


@pytest.mark.parametrize("legacy", [False, True])
def test_pkcs12_opens_with_its_password(material, legacy):
    """Both protections hold the same."""
    data = material.legacy_pkcs12() if legacy else material.pkcs12()
    found = pkcs12.load_pkcs12(data, b"a password")
    assert found.cert.friendly_name == b"bob" and len(found.additional_certs) == 1


def test_a_private_key_that_is_elsewhere_is_not_promised(material):
    """A bundle for a signed request has no key."""
    without = dataclasses.replace(material, client=dataclasses.replace(material.client, key=None))
    with pytest.raises(KMIPError, match="with the client"):
        without.key()


def test_secrets_are_in_no_repr(material):
    """Nor in the record of the enrolment."""
    assert "a password" not in repr(material) and "key" not in repr(material.client)


CERT, KEY, RSA = "CERTIFICATE", "PRIVATE KEY", "RSA PRIVATE KEY"
#: What each product's manual asks for: the PEM blocks of its files in order, or how a PKCS#12 file is encrypted.
FORMATS = {
    "generic": {"client.pem": [CERT], "client.key": [KEY], "ca.pem": [CERT], "client.p12": "AES-256-CBC",
                "client.p7b": ["PKCS7"], "client.p12.password": []},
    "vcenter": {"client.pem": [CERT], "client.key": [KEY], "ca.pem": [CERT]},
    "mongodb": {"client.pem": [KEY, CERT], "ca.pem": [CERT]},
    "mongodb-csfle": {"client.pem": [KEY, CERT], "ca.pem": [CERT]},
    "percona": {"client.pem": [CERT], "client.key": [KEY], "ca.pem": [CERT], "component_keyring_kmip.cnf": []},
    "mysql": {"okvclient.ora": [], "ssl/cert.pem": [CERT], "ssl/key.pem": [RSA], "ssl/CA.pem": [CERT]},
    "ceph": {"client.pem": [CERT], "client.key": [KEY], "ca.pem": [CERT], "ceph.conf": []},
    "synology": {"client.crt": [CERT], "client.key": [RSA], "ca.crt": [CERT]},
    "veeam": {"client.pfx": "3-KeyTripleDES-CBC", "client.pfx.password": [], "ca.cer": [CERT]},
    "fortigate": {"client.p12": "3-KeyTripleDES-CBC", "client.p12.password": [], "ca.crt": [CERT]},
    "pykmip": {"client.pem": [CERT], "client.key": [KEY], "ca.pem": [CERT], "pykmip.conf": []},
}  # fmt: skip


def form(content, material):
    if content.startswith(b"\x30"):
        command = ["openssl", "pkcs12", "-legacy", "-info", "-noout", "-passin", f"pass:{material.password}"]
        run = subprocess.run(command, input=content, capture_output=True, timeout=20)
        assert run.returncode == 0, run.stderr
        return re.search(r"Shrouded Keybag: .*?(3-KeyTripleDES-CBC|AES-256-CBC)", run.stderr.decode())[1]
    return re.findall(r"-----BEGIN ([A-Z0-9 ]+)-----", content.decode())


@pytest.mark.parametrize("name", bundles.PRODUCTS)
def test_files_are_named_and_formatted_as_the_product_wants_them(name, material):
    """With the key that the product takes by default: an RSA key, which every one of them reads."""
    key, _ = new_request("bob", bundles.product(name).key)
    certificate = make("bob", make("CA", ca=True), usage=CLIENT, key=key).certificate
    client = dataclasses.replace(
        material.client, key=key, certificate=certificate.public_bytes(serialization.Encoding.DER)
    )
    files = bundles.make(name, dataclasses.replace(material, client=client))
    del files["SETTINGS.md"]
    assert {path: form(content, material) for path, content in files.items()} == FORMATS[name]


def test_settings_files_name_server_and_files(material):
    """As each program reads them."""
    settings = json.loads(bundles.make("percona", material)["component_keyring_kmip.cnf"])
    assert (settings["server_addr"], settings["server_port"]) == ("kms.test", "5696")
    assert settings["server_ca"].endswith("/ca.pem") and settings["client_ca"].endswith("/client.pem")
    ini = configparser.ConfigParser()
    ini.read_string(bundles.make("pykmip", material)["pykmip.conf"].decode())
    assert ini["client"]["host"] == "kms.test" and ini["client"]["certfile"] == "client.pem"
    ini.read_string(bundles.make("ceph", material)["ceph.conf"].decode())
    assert ini["client.rgw"]["rgw crypt kmip addr"] == "kms.test:5696"
    assert b"SERVER=kms.test:5696\n" in bundles.make("mysql", material)["okvclient.ora"]
