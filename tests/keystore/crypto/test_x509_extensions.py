"""Extensions in OpenSSL's notation, compared with what OpenSSL itself makes of it."""

import subprocess

import pytest
from cryptography import x509

from keystore.crypto import x509_extensions
from kmip.enums import ResultReason
from kmip.errors import KMIPError

LINES = {
    "basicConstraints": "basicConstraints=critical,CA:TRUE,pathlen:3",
    "keyUsage": "keyUsage=critical,digitalSignature,keyCertSign,cRLSign",
    "extendedKeyUsage": "extendedKeyUsage=serverAuth,clientAuth,1.2.3.4",
    "names": "subjectAltName=DNS:a.example,IP:10.0.0.1,email:a@example.com,URI:https://a.example/,RID:1.2.3.4",
    "names in a section": "subjectAltName=@alt\n[alt]\nDNS.1=a.example\nDNS.2=b.example\nIP.1=::1",
    "CRL": "crlDistributionPoints=URI:http://crl.example/a.crl",
    "AIA": "authorityInfoAccess=OCSP;URI:http://ocsp.example,caIssuers;URI:http://ca.example/ca.crt",
    "policies": "certificatePolicies=1.2.3.4,1.2.3.5",
    "policy with statement": "certificatePolicies=@pol\n[pol]\npolicyIdentifier=1.2.3.4\nCPS.1=http://cps.example/",
    "name constraints": "nameConstraints=critical,permitted;DNS:example.com,excluded;IP:10.0.0.0/255.0.0.0",
    "policy constraints": "policyConstraints=requireExplicitPolicy:3",
    "inhibit": "inhibitAnyPolicy=2",
    "TLS feature": "tlsfeature=status_request",
    "no check": "noCheck=yes",
    "comment": "nsComment=made here",
    "raw": "1.2.3.4=DER:05:00",
}


@pytest.mark.parametrize("lines", LINES.values(), ids=LINES)
def test_extensions_are_openssls_byte_for_byte(lines, tmp_path):
    """One certificate of OpenSSL's, the same value and criticality here."""
    text = f"[ v3_ca ]\n{lines}\n"
    (tmp_path / "cnf").write_text(f"[req]\ndistinguished_name=dn\n[dn]\n{text}")
    command = ["openssl", "req", "-x509", "-newkey", "ed25519", "-nodes", "-keyout", "/dev/null", "-subj", "/CN=x"]
    run = subprocess.run(
        [*command, "-config", tmp_path / "cnf", "-extensions", "v3_ca"], capture_output=True, timeout=20
    )
    assert run.returncode == 0, run.stderr
    theirs = {
        each.oid: (each.value.public_bytes(), each.critical)
        for each in x509.load_pem_x509_certificate(run.stdout).extensions
        if each.oid.dotted_string not in ("2.5.29.14", "2.5.29.35")
    }
    ours = {each.oid: (each.public_bytes(), critical) for each, critical in x509_extensions.read(text)}
    assert ours == theirs


BAD = {
    "unknown extension": "flying=yes",
    "unknown usage": "keyUsage=flying",
    "unknown purpose": "extendedKeyUsage=flying",
    "no value": "[v3_ca]\nbasicConstraints",
    "path length of a leaf": "basicConstraints=CA:FALSE,pathlen:0",
    "bad address": "subjectAltName=IP:10.0.0",
    "missing section": "subjectAltName=@nowhere",
    "unknown kind of name": "subjectAltName=PHONE:1",
    "raw constraint": "2.5.29.19=DER:3003",
    "raw without bytes": "1.2.3.4=DER:zz",
    "policy": "certificatePolicies=mine",
    "no text": b"\xff\xfe",
}


@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
def test_what_is_not_understood_is_refused(text):
    """Never left out in silence."""
    with pytest.raises(KMIPError) as caught:
        x509_extensions.read(text)
    assert caught.value.reason == ResultReason.INVALID_FIELD
