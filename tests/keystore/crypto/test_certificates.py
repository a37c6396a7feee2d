"""Certificates: the attributes that follow from one, requests, and PKCS#7. The rest is in test_oasis_cases."""

import datetime
import ipaddress

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from keystore.crypto import certificates, keys
from keystore.crypto.algorithms import A, C
from keystore.crypto.policy import PERMISSIVE
from kmip.attributes import ROWS
from kmip.enums import DigitalSignatureAlgorithm, ResultReason
from kmip.errors import KMIPError
from kmip.tags import Tag

NAMES = [
    (NameOID.COUNTRY_NAME, "CH"),
    (NameOID.ORGANIZATION_NAME, "Keys & Co"),
    (NameOID.ORGANIZATIONAL_UNIT_NAME, "one"),
    (NameOID.ORGANIZATIONAL_UNIT_NAME, "two"),
    (NameOID.COMMON_NAME, "subject, with a comma"),
    (NameOID.EMAIL_ADDRESS, "a@example.org"),
    (NameOID.SERIAL_NUMBER, "4711"),
    (NameOID.DN_QUALIFIER, "q"),
]
SUBJECT = x509.Name([x509.NameAttribute(*each) for each in NAMES])
ISSUER = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "issuer")])
START = datetime.datetime(2024, 1, 2, tzinfo=datetime.UTC)


def certificate(algorithm=A.ECDSA, bits=None, *, curve=C.P_256, serial=0xFF01, names=(), digest=hashes.SHA256()):  # noqa: B008
    pair = keys.generate_pair(algorithm, bits, curve=curve, policy=PERMISSIVE)
    key = keys.load_private(pair.private.data)
    builder = (
        x509.CertificateBuilder()
        .subject_name(SUBJECT)
        .issuer_name(ISSUER)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(START)
        .not_valid_after(START + datetime.timedelta(days=1))
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return pair, builder.sign(key, digest).public_bytes(Encoding.DER)


def test_the_attributes_follow_from_the_certificate():
    """Names one by one, several of a kind, the distinguished names as bytes and as text, the serial number."""
    names = [
        x509.DNSName("a.example"),
        x509.IPAddress(ipaddress.ip_address("192.0.2.1")),
        x509.RegisteredID(x509.ObjectIdentifier("1.2.3")),
    ]
    pair, data = certificate(names=names)
    facts = certificates.read(data)
    values = facts.attributes
    assert values[Tag.CERTIFICATE_SUBJECT_CN] == ["subject, with a comma"]
    assert values[Tag.CERTIFICATE_SUBJECT_OU] == ["one", "two"]
    assert values[Tag.CERTIFICATE_SUBJECT_SERIAL_NUMBER] == ["4711"]
    assert values[Tag.CERTIFICATE_ISSUER_CN] == ["issuer"]
    assert Tag.CERTIFICATE_ISSUER_O not in values
    assert values[Tag.CERTIFICATE_LENGTH] == [len(data)]
    assert values[Tag.DIGITAL_SIGNATURE_ALGORITHM] == [DigitalSignatureAlgorithm.ECDSA_WITH_SHA256]
    (identifier,) = values[Tag.X_509_CERTIFICATE_IDENTIFIER]
    assert identifier.issuer_distinguished_name == ISSUER.public_bytes()
    assert identifier.certificate_serial_number.hex() == "020300ff01"
    (subject,) = values[Tag.X_509_CERTIFICATE_SUBJECT]
    assert subject.subject_distinguished_name == SUBJECT.public_bytes()
    assert b"a.example" in subject.subject_alternative_name
    (old,) = values[Tag.CERTIFICATE_SUBJECT]
    assert old.certificate_subject_distinguished_name.endswith("O=Keys & Co,C=CH")
    assert old.certificate_subject_alternative_name == "DNS:a.example,IP Address:192.0.2.1"
    (old,) = values[Tag.CERTIFICATE_IDENTIFIER]
    assert (old.issuer, old.serial_number) == ("CN=issuer", "ff01")
    assert facts.key == keys.read(keys.O.PUBLIC_KEY, keys.F.X_509, pair.public.data)
    assert (facts.not_before, facts.not_after) == (START, START + datetime.timedelta(days=1))


def test_every_name_is_an_attribute():
    """The table of names and the table of attributes agree."""
    tags = {tag for pair in certificates.NAMES.values() for tag in pair}
    assert len(tags) == 24
    assert tags <= {row.tag for row in ROWS}


@pytest.mark.parametrize(
    ("algorithm", "bits", "curve", "digest", "expected"),
    [
        (A.RSA, 2048, None, hashes.SHA384(), DigitalSignatureAlgorithm.SHA_384_WITH_RSA_ENCRYPTION),
        (A.RSA, 1024, None, hashes.SHA3_256(), DigitalSignatureAlgorithm.SHA3_256_WITH_RSA_ENCRYPTION),
        (A.ECDSA, None, C.SECP256K1, hashes.SHA512(), DigitalSignatureAlgorithm.ECDSA_WITH_SHA512),
        (A.ED25519, None, None, None, None),
    ],
    ids=["RSA", "RSA with SHA-3", "ECDSA", "Ed25519"],
)
def test_the_signature_algorithm_is_named_where_it_has_a_name(algorithm, bits, curve, digest, expected):
    """Ed25519 has none in the enumeration, so the attribute is not there."""
    _, data = certificate(algorithm, bits, curve=curve, digest=digest)
    facts = certificates.read(data)
    assert facts.attributes.get(Tag.DIGITAL_SIGNATURE_ALGORITHM, [None]) == [expected]
    assert facts.key.algorithm in (algorithm, A.EC)


@pytest.mark.parametrize("data", [b"", b"not DER", b"\x30\x00"])
def test_what_is_no_certificate_is_refused(data):
    """As a certificate, as a request and as PKCS#7."""
    for function, reason in (
        (certificates.read, ResultReason.INVALID_FIELD),
        (certificates.read_request, ResultReason.INVALID_CSR),
        (certificates.read_pkcs7, ResultReason.INVALID_FIELD),
        (lambda each: certificates.write_pkcs7([each]), ResultReason.INVALID_FIELD),
    ):
        with pytest.raises(KMIPError) as caught:
            function(data)
        assert caught.value.reason == reason


def test_a_request_gives_its_public_key_if_it_is_signed_with_it():
    """A request whose signature was changed is not a request."""
    pair = keys.generate_pair(A.ECDSA, curve=C.P_384)
    builder = x509.CertificateSigningRequestBuilder().subject_name(SUBJECT)
    data = builder.sign(keys.load_private(pair.private.data), hashes.SHA384()).public_bytes(Encoding.DER)
    assert certificates.read_request(data).data == pair.public.data
    broken = data.replace(b"Keys & Co", b"Keys ! Co")
    with pytest.raises(KMIPError) as caught:
        certificates.read_request(broken)
    assert caught.value.reason == ResultReason.INVALID_CSR


def test_pkcs7_carries_certificates():
    """What goes in comes out."""
    chain = [certificate(serial=serial)[1] for serial in (1, 2)]
    assert set(certificates.read_pkcs7(certificates.write_pkcs7(chain))) == set(chain)
