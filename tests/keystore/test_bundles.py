"""Bundles and their pages."""

import dataclasses

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12

from keystore import bundles
from keystore.clients import Enrolled
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
