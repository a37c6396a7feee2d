"""PEM, PKCS#7 and PKCS#12, in and out of managed objects."""

import json
import shutil
import subprocess
import time

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs7, pkcs12

from keystore import engine, formats
from keystore.authn import Peer
from keystore.crypto import keys
from kmip.attributes import Attributes
from kmip.enums import (
    CertificateRequestType,
    CertificateType,
    KeyFormatType,
    ObjectType,
    Operation,
    RecommendedCurve,
    ResultReason,
    SecretDataType,
)
from kmip.objects import Certificate, CertificateRequest, KeyBlock, KeyValue, PrivateKey, SecretData
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
    csr,
    der,
    do,
    links,
    load,
    refused,
    root,
    sealed,
    seen,
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


# Legacy files of others.


def shell(*command, data=None):
    run = subprocess.run([str(part) for part in command], input=data, capture_output=True, timeout=60)
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.fixture(scope="module")
def outside(tmp_path_factory):
    """A folder with key, certificate and CA that openssl has made."""
    folder = tmp_path_factory.mktemp("outside")
    top = make("top", ca=True)
    request = shell("openssl", "req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", folder / "key",
                    "-subj", "/CN=old")  # fmt: skip
    (folder / "ca").write_bytes(top.pem + top.key_pem)
    certificate = shell("openssl", "x509", "-req", "-CA", folder / "ca", "-CAkey", folder / "ca", "-set_serial",
                        "7", data=request)  # fmt: skip
    (folder / "cert").write_bytes(certificate)
    return folder


LEGACY = {  # openssl's options for what old products write, and what it says of them
    "RC2 and 3DES": (["-legacy"], b"RC2"),
    "3DES": (["-keypbe", "PBE-SHA1-3DES", "-certpbe", "PBE-SHA1-3DES", "-macalg", "sha1"], b"3-KeyTripleDES"),
    "AES": ([], b"AES-256"),
}


@pytest.mark.parametrize("operation", [Operation.REGISTER, Operation.IMPORT])
@pytest.mark.parametrize("options, algorithm", LEGACY.values(), ids=LEGACY)
def test_pkcs12_of_openssl_comes_in(outside, options, algorithm, operation):
    """RSA keys of old and new products, registered or imported, under either Key Format Type; and leaves again."""
    data = shell("openssl", "pkcs12", "-export", "-inkey", outside / "key", "-in", outside / "cert", "-certfile",
                 outside / "ca", "-name", "old one", "-passout", f"pass:{PASSWORD}", *options)  # fmt: skip
    info = subprocess.run(
        ["openssl", "pkcs12", "-legacy", "-info", "-noout", "-passin", f"pass:{PASSWORD}"],
        input=data, capture_output=True, timeout=20,
    )  # fmt: skip
    assert algorithm in info.stderr
    payload = private_key(data, keys.PKCS_12_LEGACY if options else KeyFormatType.PKCS_12, secret())
    if operation == Operation.IMPORT:
        payload = ImportRequest(
            unique_identifier="imported",
            object_type=ObjectType.PRIVATE_KEY,
            private_key=payload.private_key,
            attributes=payload.attributes,
        )
    uid = do(operation, payload).unique_identifier
    shown = seen(uid)
    assert shown.pkcs_12_friendly_name == "old one" and shown.cryptographic_algorithm == A.RSA
    certificate = links(uid)[L.PKCS_12_CERTIFICATE_LINK]
    assert load(certificate).subject.rfc4514_string() == "CN=old"
    above = load(links(certificate)[L.CERTIFICATE_LINK])
    assert above.public_bytes(PEM) in (outside / "ca").read_bytes()
    for legacy, format_ in ((False, KeyFormatType.PKCS_12), (True, keys.PKCS_12_LEGACY)):
        out = got(uid, format_).private_key.key_block.key_value
        again = ["openssl", "pkcs12", *(["-legacy"] if legacy else []), "-nodes", "-passin", f"pass:{PASSWORD}"]
        shown = shell(*again, data=out)
        assert b"friendlyName: old one" in shown and shown.count(b"BEGIN CERTIFICATE") == 2
        assert b"BEGIN PRIVATE KEY" in shown


@pytest.mark.skipif(shutil.which("keytool") is None, reason="keytool is not installed")
def test_pkcs12_is_exchanged_with_keytool(tmp_path):
    """Java writes a store that comes in, and reads what goes out, also the legacy one."""
    file, password = tmp_path / "store.p12", "changeit"
    store = ["-keystore", file, "-storetype", "PKCS12", "-storepass", password]
    shell("keytool", "-genkeypair", "-keyalg", "EC", "-dname", "CN=java", "-alias", "kms", *store)
    linked = secret(password)
    uid = do(Operation.REGISTER, private_key(file.read_bytes(), KeyFormatType.PKCS_12, linked)).unique_identifier
    assert seen(uid).pkcs_12_friendly_name == "kms"
    file.write_bytes(got(uid, keys.PKCS_12_LEGACY).private_key.key_block.key_value)
    assert b"kms" in shell("keytool", "-list", *store)


# PEM, out.


@pytest.mark.parametrize("operation", [Operation.GET, Operation.EXPORT])
def test_certificates_and_keys_are_given_as_pem(operation):
    """By an extension value of Key Format Type; openssl reads them, and they come in again as they are."""
    uid = certified(root())
    found = links(uid)
    value = got(uid, formats.PEM, operation).certificate
    assert value.certificate_type == CertificateType.X_509
    assert value.certificate_value == load(uid).public_bytes(PEM)
    assert b"CN = leaf" in shell("openssl", "x509", "-noout", "-subject", data=value.certificate_value)
    private = got(found[L.PRIVATE_KEY_LINK], formats.PEM, operation).private_key.key_block
    public = got(found[L.PUBLIC_KEY_LINK], formats.PEM, operation).public_key.key_block
    assert private.key_format_type == public.key_format_type == formats.PEM
    own = shell("openssl", "pkey", "-pubout", data=private.key_value.key_material)
    assert own == public.key_value.key_material == shell("openssl", "x509", "-noout", "-pubkey",
                                                         data=value.certificate_value)  # fmt: skip
    again = do(Operation.REGISTER, private_key(private.key_value.key_material, formats.PEM)).unique_identifier
    assert got(again, formats.PEM).private_key.key_block.key_value == private.key_value


def test_certificate_requests_are_given_as_pem():
    """And certified from where they are kept."""
    made = CertificateRequest(certificate_request_type=CertificateRequestType.PKCS_10, certificate_request_value=csr())
    payload = RegisterRequest(object_type=ObjectType.CERTIFICATE_REQUEST, certificate_request=made)
    uid = do(Operation.REGISTER, payload).unique_identifier
    found = got(uid, formats.PEM).certificate_request
    assert found.certificate_request_type == CertificateRequestType.PEM
    assert (
        b"verify OK"
        in subprocess.run(
            ["openssl", "req", "-noout", "-verify"],
            input=found.certificate_request_value,
            capture_output=True,
            timeout=20,
        ).stderr
    )
    wanted = attributes(links=[(L.CERTIFICATE_LINK, root())])
    certificate = do(Operation.CERTIFY, CertifyRequest(unique_identifier=uid, attributes=wanted)).unique_identifier
    assert load(certificate).subject.rfc4514_string() == "CN=from a request"


def test_what_may_not_leave_does_not_leave_in_pem():
    """Sensitive and not extractable keys, and what has no PEM."""
    for name, value, reason in (
        ("sensitive", True, ResultReason.SENSITIVE),
        ("extractable", False, ResultReason.NOT_EXTRACTABLE),
    ):
        private = Attributes()
        setattr(private, name, value)
        common = attributes(algorithm=A.EC, curve=RecommendedCurve.P_256)
        pair = do(
            Operation.CREATE_KEY_PAIR,
            CreateKeyPairRequest(common_attributes=common, private_key_attributes=private),
        )
        request = GetRequest(unique_identifier=pair.private_key_unique_identifier, key_format_type=formats.PEM)
        refused(reason, Operation.GET, request)
    request = GetRequest(unique_identifier=secret(), key_format_type=formats.PEM)
    refused(ResultReason.KEY_FORMAT_TYPE_NOT_SUPPORTED, Operation.GET, request)


def test_files_travel_in_the_dialect(chain):
    """PKCS#12 in as a private key, out modern, legacy and as PEM; a chain in and out as PKCS#7."""

    def node(tag, value, kind="Structure"):
        return {"tag": tag, "type": kind, "value": value}

    def ask(operation, *nodes):
        status, _, body = engine.handle_http(json.dumps(node(operation, nodes)).encode(), Peer("cli", user="alice"))
        assert status == 200, body
        return {each["tag"]: each["value"] for each in json.loads(body)["value"]}

    def find(nodes, tag):
        for each in nodes:
            if each["tag"] == tag:
                return each["value"]
            if isinstance(each["value"], list) and (found := find(each["value"], tag)) is not None:
                return found
        return None

    link = [node("LinkType", "PKCS12PasswordLink", "Enumeration"),
            node("LinkedObjectIdentifier", secret(), "TextString")]  # fmt: skip
    value = [node("KeyFormatType", "PKCS12", "Enumeration"),
             node("KeyValue", [node("KeyMaterial", chain[0].p12(*chain[1:]).hex(), "ByteString")])]  # fmt: skip
    uid = ask(
        "Register",
        node("ObjectType", "PrivateKey", "Enumeration"),
        node("Attributes", [node("Link", link)]),
        node("PrivateKey", [node("KeyBlock", value)]),
    )["UniqueIdentifier"]
    own = node("UniqueIdentifier", uid, "TextString")
    for format_ in ("PKCS12", "Pkcs12Legacy"):
        answer = ask("Get", own, node("KeyFormatType", format_, "Enumeration"))
        found = pkcs12.load_pkcs12(bytes.fromhex(find(answer["PrivateKey"], "KeyMaterial")), PASSWORD.encode())
        assert found.cert.certificate == chain[0].certificate and len(found.additional_certs) == 2
    answer = ask("Get", own, node("KeyFormatType", "PEM", "Enumeration"))
    assert bytes.fromhex(find(answer["PrivateKey"], "KeyMaterial")) == chain[0].key_pem
    certificate = node("UniqueIdentifier", links(uid)[L.CERTIFICATE_LINK], "TextString")
    answer = ask("Export", certificate, node("KeyFormatType", "PKCS7", "Enumeration"))
    data = find(answer["Certificate"], "CertificateValue")
    assert len(pkcs7.load_der_pkcs7_certificates(bytes.fromhex(data))) == 3
    parts = [node("CertificateType", "PKCS7", "Enumeration"), node("CertificateValue", data, "ByteString")]
    again = ask("Import", node("UniqueIdentifier", "again", "TextString"),
                node("ObjectType", "Certificate", "Enumeration"), node("Attributes", []),
                node("Certificate", parts))["UniqueIdentifier"]  # fmt: skip
    assert der(again) == bytes_of(chain[0])
