"""PEM, PKCS#7 and PKCS#12, in and out of managed objects."""

import subprocess
import time

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs7, pkcs12

from keystore import formats
from keystore.crypto import keys
from kmip.attributes import Attributes
from kmip.enums import (
    CertificateType,
    KeyFormatType,
    ObjectType,
    Operation,
    RecommendedCurve,
    ResultReason,
    SecretDataType,
)
from kmip.objects import Certificate, KeyBlock, KeyValue, PrivateKey, SecretData
from kmip.payloads import (
    AddAttributeRequest,
    CertifyRequest,
    CreateKeyPairRequest,
    ExportRequest,
    GetRequest,
    ImportRequest,
    RegisterRequest,
)
from kmip.structures import Link
from tests.authority import (  # noqa: F401 - a fixture among them
    A,
    L,
    attributes,
    certified,
    der,
    do,
    links,
    load,
    refused,
    root,
    sealed,
    seen,
    text,
)  # fmt: skip
from tests.certificates import CLIENT, PASSWORD, make

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("sealed")]
PEM, DER = serialization.Encoding.PEM, serialization.Encoding.DER


@pytest.fixture(scope="module")
def chain():
    """A leaf, an intermediate and a root of somebody else."""
    top = make("top", ca=True)
    middle = make("middle", top, ca=True)
    return make("leaf", middle, usage=CLIENT), middle, top


def bytes_of(made):
    return made.certificate.public_bytes(DER)


def register(value, kind=CertificateType.X_509, operation=Operation.REGISTER):
    made = Certificate(certificate_type=kind, certificate_value=value)
    if operation == Operation.IMPORT:
        payload = ImportRequest(unique_identifier=f"i{time.monotonic_ns()}", object_type=ObjectType.CERTIFICATE)
        payload.certificate = made
    else:
        payload = RegisterRequest(object_type=ObjectType.CERTIFICATE, certificate=made)
    return do(operation, payload).unique_identifier


def secret(value=PASSWORD, active=True):
    block = KeyBlock(key_format_type=KeyFormatType.OPAQUE, key_value=KeyValue(key_material=value.encode()))
    wanted = Attributes()
    wanted.activation_date = int(time.time()) - 10 if active else None
    made = SecretData(secret_data_type=SecretDataType.PASSWORD, key_block=block)
    return do(
        Operation.REGISTER, RegisterRequest(object_type=ObjectType.SECRET_DATA, secret_data=made, attributes=wanted)
    ).unique_identifier


def private_key(material, format_, *password):
    wanted = Attributes()
    wanted.link = [Link(link_type=L.PKCS_12_PASSWORD_LINK, linked_object_identifier=uid) for uid in password]
    block = KeyBlock(key_format_type=format_, key_value=KeyValue(key_material=material))
    return RegisterRequest(
        object_type=ObjectType.PRIVATE_KEY, private_key=PrivateKey(key_block=block), attributes=wanted
    )


def got(uid, format_, operation=Operation.GET):
    request = {Operation.GET: GetRequest, Operation.EXPORT: ExportRequest}[operation]
    return do(operation, request(unique_identifier=uid, key_format_type=format_))


SPELLINGS = {
    "DER": lambda made: bytes_of(made[0]),
    "PEM": lambda made: made[0].pem,
    "PEM chain": lambda made: b"".join(one.pem for one in made),
    "PEM chain in disorder": lambda made: b"".join(made[at].pem for at in (2, 0, 1)),
    "PKCS#7 in PEM": lambda made: pkcs7.serialize_certificates([one.certificate for one in made], PEM),
}


@pytest.mark.parametrize("operation", [Operation.REGISTER, Operation.IMPORT])
@pytest.mark.parametrize("spell", SPELLINGS.values(), ids=SPELLINGS)
def test_certificates_come_in_every_spelling(chain, spell, operation):
    """And are DER inside; a chain's others are objects, linked upwards."""
    uid = register(spell(chain), operation=operation)
    assert der(uid) == bytes_of(chain[0]) and seen(uid).certificate_type == CertificateType.X_509
    if len(spell(chain)) > len(chain[0].pem):
        middle = links(uid)[L.CERTIFICATE_LINK]
        assert der(middle) == bytes_of(chain[1])
        assert der(links(middle)[L.CERTIFICATE_LINK]) == bytes_of(chain[2])


def test_pkcs7_goes_in_and_out(chain):
    """As a certificate type of its own in, as a format out; openssl reads it."""
    value = pkcs7.serialize_certificates([one.certificate for one in chain], DER)
    uid = register(value, formats.PKCS_7_CERTIFICATE)
    out = got(uid, formats.PKCS_7).certificate
    assert out.certificate_type == formats.PKCS_7_CERTIFICATE
    found = pkcs7.load_der_pkcs7_certificates(out.certificate_value)
    assert {one.subject for one in found} == {one.certificate.subject for one in chain}
    command = ["openssl", "pkcs7", "-inform", "DER", "-print_certs", "-noout"]
    run = subprocess.run(command, input=out.certificate_value, capture_output=True, timeout=20)
    assert run.returncode == 0 and run.stdout.count(b"subject=") == 3


def test_certificates_that_are_no_chain_are_refused(chain):
    """Which would be the leaf?"""
    made = Certificate(certificate_type=CertificateType.X_509, certificate_value=chain[0].pem + make("other").pem)
    refused(
        ResultReason.INVALID_FIELD,
        Operation.REGISTER,
        RegisterRequest(object_type=ObjectType.CERTIFICATE, certificate=made),
    )


def test_keys_in_pem_are_kept_as_der(chain):
    """PKCS#8 inside."""
    uid = do(Operation.REGISTER, private_key(chain[0].key_pem, KeyFormatType.PKCS_8)).unique_identifier
    block = got(uid, KeyFormatType.PKCS_8).private_key.key_block
    assert serialization.load_der_private_key(block.key_value.key_material, None)
    refused(ResultReason.INVALID_FIELD, Operation.REGISTER, private_key(b"-----BEGIN x", KeyFormatType.PKCS_8))


@pytest.mark.parametrize("operation", [Operation.GET, Operation.EXPORT])
@pytest.mark.parametrize("format_", [KeyFormatType.PKCS_12, keys.PKCS_12_LEGACY], ids=["modern", "legacy"])
def test_pkcs12_goes_in_and_out(chain, format_, operation):
    """Key, certificate, chain and friendly name survive; the password is the linked secret's."""
    password = secret()
    uid = do(
        Operation.REGISTER, private_key(chain[0].p12(*chain[1:]), KeyFormatType.PKCS_12, password)
    ).unique_identifier
    assert seen(uid).pkcs_12_friendly_name == "made"
    found = pkcs12.load_pkcs12(got(uid, format_, operation).private_key.key_block.key_value, PASSWORD.encode())
    assert found.cert.certificate == chain[0].certificate and found.cert.friendly_name == b"made"
    assert found.key.public_key() == chain[0].certificate.public_key()
    assert [one.certificate for one in found.additional_certs] == [one.certificate for one in chain[1:]]


def test_issued_certificates_are_given_as_pkcs12():
    """By the certificate or by its key, with the authorities above."""
    top = root()
    password = secret()
    uid = certified(top)
    for asked in (uid, links(uid)[L.PRIVATE_KEY_LINK]):
        refused(
            ResultReason.BAD_PASSWORD,
            Operation.GET,
            GetRequest(unique_identifier=asked, key_format_type=KeyFormatType.PKCS_12),
        )
    added = Attributes()
    added.link = [Link(link_type=L.PKCS_12_PASSWORD_LINK, linked_object_identifier=password)]
    private = links(uid)[L.PRIVATE_KEY_LINK]
    do(Operation.ADD_ATTRIBUTE, AddAttributeRequest(unique_identifier=private, new_attribute=added))
    by_key = got(private, KeyFormatType.PKCS_12).private_key.key_block.key_value
    by_certificate = got(uid, KeyFormatType.PKCS_12).certificate.certificate_value
    for data in (by_key, by_certificate):
        found = pkcs12.load_pkcs12(data, PASSWORD.encode())
        assert found.cert.certificate == load(uid) and found.cert.friendly_name == b"alias"
        assert [one.certificate for one in found.additional_certs] == [load(top)]


def test_passwords_that_do_not_open_are_refused(chain):
    """None, several, not active, no secret, wrong (2.1, Table of reasons: Bad Password)."""
    data = chain[0].p12(*chain[1:])
    for password in ((), (secret(), secret()), (secret(active=False),), (root(),), (secret("wrong"),)):
        refused(ResultReason.BAD_PASSWORD, Operation.REGISTER, private_key(data, KeyFormatType.PKCS_12, *password))


@pytest.mark.parametrize("name, value, reason", [
    ("sensitive", True, ResultReason.SENSITIVE),
    ("extractable", False, ResultReason.NOT_EXTRACTABLE),
])  # fmt: skip
def test_a_key_that_may_not_leave_does_not_leave_in_pkcs12(name, value, reason):
    """Neither by itself nor with its certificate."""
    top = root()
    private = Attributes()
    setattr(private, name, value)
    pair = do(
        Operation.CREATE_KEY_PAIR,
        CreateKeyPairRequest(
            common_attributes=attributes(algorithm=A.EC, curve=RecommendedCurve.P_256), private_key_attributes=private
        ),
    )
    wanted = attributes("x", links=[(L.CERTIFICATE_LINK, top)])
    payload = CertifyRequest(unique_identifier=pair.public_key_unique_identifier, attributes=wanted)
    certificate = do(Operation.CERTIFY, payload).unique_identifier
    for asked in (certificate, pair.private_key_unique_identifier):
        request = GetRequest(unique_identifier=asked, key_format_type=KeyFormatType.PKCS_12)
        refused(reason, Operation.GET, request)
