"""Certificate paths: each rule of RFC 5280 that is checked, broken once."""

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from keystore.crypto import x509_extensions, x509_paths
from keystore.crypto.x509_paths import Broken

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)
CA = "basicConstraints=critical,CA:TRUE"


class Made:
    """A certificate and its key."""

    def __init__(self, name, issuer=None, text="", begins=-DAY, ends=DAY, subject=None):
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.subject = subject or x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = (
            x509.CertificateBuilder()
            .subject_name(self.subject)
            .issuer_name(issuer.subject if issuer else self.subject)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW + begins)
            .not_valid_after(NOW + ends)
        )
        for extension, critical in x509_extensions.read(text or "[v3_ca]"):
            builder = builder.add_extension(extension, critical)
        self.certificate = builder.sign((issuer or self).key, hashes.SHA256())


def checked(leaf_text="", middle_text=CA, root_text=CA, root_options=None, middle_options=None, leaf_options=None):
    root = Made("root", text=root_text, **(root_options or {}))
    middle = Made("middle", root, middle_text, **(middle_options or {}))
    leaf = Made("leaf", middle, leaf_text, **(leaf_options or {}))
    path = x509_paths.build(leaf.certificate, lambda subject: [middle.certificate, root.certificate])
    assert path.complete
    x509_paths.check(path.certificates, NOW)


GOOD = {
    "plain": {},
    "path length that suffices": {"root_text": CA + ",pathlen:1", "middle_text": CA + ",pathlen:0"},
    "permitted name": {
        "root_text": f"{CA}\nnameConstraints=critical,permitted;DNS:example.com",
        "leaf_text": "subjectAltName=DNS:a.example.com",
    },
    "permitted address": {
        "root_text": f"{CA}\nnameConstraints=permitted;IP:10.0.0.0/255.0.0.0",
        "leaf_text": "subjectAltName=IP:10.1.2.3",
    },
}
BAD = {
    "expired leaf": ({"leaf_options": {"ends": -DAY / 2}}, "expired"),
    "expired issuer": ({"middle_options": {"ends": -DAY / 2}}, "expired"),
    "future root": ({"root_options": {"begins": DAY / 2}}, "not yet valid"),
    "issuer is no CA": ({"middle_text": "basicConstraints=CA:FALSE"}, "not the certificate of a CA"),
    "issuer says nothing": ({"middle_text": ""}, "not the certificate of a CA"),
    "usage": ({"middle_text": f"{CA}\nkeyUsage=digitalSignature"}, "key usage"),
    "path length": ({"root_text": CA + ",pathlen:0"}, "longer"),
    "unknown critical extension": ({"leaf_text": "1.2.3.4=critical,DER:0500"}, "critical"),
    "name outside": (
        {
            "root_text": f"{CA}\nnameConstraints=critical,permitted;DNS:example.com",
            "leaf_text": "subjectAltName=DNS:a.example.org",
        },
        "not allow",
    ),
    "name that only ends alike": (
        {
            "root_text": f"{CA}\nnameConstraints=critical,permitted;DNS:example.com",
            "leaf_text": "subjectAltName=DNS:badexample.com",
        },
        "not allow",
    ),
    "excluded mail": (
        {
            "root_text": f"{CA}\nnameConstraints=excluded;email:example.com",
            "leaf_text": "subjectAltName=email:a@example.com",
        },
        "not allow",
    ),
    "excluded address": (
        {
            "root_text": f"{CA}\nnameConstraints=excluded;IP:10.0.0.0/255.0.0.0",
            "leaf_text": "subjectAltName=IP:10.1.2.3",
        },
        "not allow",
    ),
}


@pytest.mark.parametrize("options", GOOD.values(), ids=GOOD)
def test_good_paths_pass(options):
    """Nothing is refused for the sake of it."""
    checked(**options)


@pytest.mark.parametrize("options, words", BAD.values(), ids=BAD)
def test_each_broken_rule_is_named(options, words):
    """And the path is not valid."""
    with pytest.raises(Broken, match=words):
        checked(**options)


def test_a_spoilt_signature_breaks_the_path():
    """Another key under the same name."""
    root, other = Made("root", text=CA), Made("root", text=CA)
    leaf = Made("leaf", root)
    with pytest.raises(Broken, match="signature"):
        x509_paths.check([leaf.certificate, other.certificate], NOW)
    assert not x509_paths.build(leaf.certificate, lambda subject: [other.certificate]).complete


def test_two_leaves_are_no_chain():
    """Nor is a loop without an end."""
    root = Made("root", text=CA)
    leaves = [Made("a", root).certificate, Made("b", root).certificate]
    with pytest.raises(Broken, match="one chain"):
        x509_paths.leaf_of([*leaves, root.certificate])
    assert x509_paths.leaf_of([root.certificate, leaves[0]]) == leaves[0]
