"""Certificates are signed at a form: by an authority of one's own, for a request or with a new key."""

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from keystore import clients
from keystore.models import ManagedObject


def certificate(browser, **data):
    """The answer to the form for certificates."""
    form = browser.get("/ui/create/certificate/").context["form"]
    initial = {field.name: field.value() or "" for field in form}
    return browser.post("/ui/create/certificate/", initial | data)


def shown(browser, address):
    """What the page of a certificate says, by title."""
    return {title: text for _, lines in browser.get(address).context["certificate"] for title, text in lines}


def test_a_ca_is_made_and_signs(alice):
    """A root, an intermediate and a server's certificate for a request, each on its page in full."""
    root = certificate(alice, name="root", subject="Our root", profile="root")
    assert shown(alice, root["Location"])["Issuer"] == "CN=Our root"
    uid = root["Location"].split("/")[-2]
    below = certificate(alice, name="below", subject="CN=Below,O=Us", issuer=uid, profile="intermediate", days="100")
    found = shown(alice, below["Location"])
    assert (found["Subject"], found["Issuer"]) == ("CN=Below,O=Us", "CN=Our root")
    _, request = clients.new_request("app.example", "p256")
    pem = x509.load_der_x509_csr(request).public_bytes(Encoding.PEM).decode()
    issuer = below["Location"].split("/")[-2]
    leaf = certificate(alice, csr=pem, issuer=issuer, profile="server", dns="app.example, www.example")
    found = shown(alice, leaf["Location"])
    assert (found["Subject"], found["Issuer"]) == ("CN=app.example", "CN=Below,O=Us")
    assert "www.example" in str(found)


@pytest.mark.parametrize("wrong", [{}, {"csr": "nonsense"}, {"subject": "x", "issuer": "none"}, {"subject": "a=b"}])
def test_a_certificate_that_cannot_be_made_says_why(alice, wrong):
    """At the form; nothing is stored."""
    page = certificate(alice, **wrong)
    assert page.status_code == 200
    assert page.context["form"].errors
    assert not ManagedObject.objects.exists()


def test_nobody_signs_with_the_authority_of_others(person, alice):
    """Its identifier alone is no right to it."""
    root = certificate(person("bob"), subject="Bob's root", profile="root")
    page = certificate(alice, subject="mine", issuer=root["Location"].split("/")[-2])
    assert page.status_code == 200
    assert page.context["form"].errors
