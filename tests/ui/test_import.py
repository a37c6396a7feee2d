"""What people paste or upload is recognised, shown, and only then stored."""

import base64
import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from keystore.models import ManagedObject
from kmip.enums import ObjectType, State
from tests.certificates import CLIENT
from tests.certificates import make as make_certificate
from tests.ui.conftest import PASSWORD
from ui.creation import FORMS
from ui.detect import PasswordNeeded, detect
from ui.objects import address_of

O = ObjectType  # noqa: E741
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
MADE = make_certificate("client.example", usage=CLIENT)
DER = MADE.certificate.public_bytes(Encoding.DER)


def private(key, encoding=Encoding.PEM, form=PrivateFormat.PKCS8, secret=None):
    return key.private_bytes(encoding, form, BestAvailableEncryption(secret) if secret else NoEncryption())


def b64url(number: int) -> str:
    data = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def jwk_ec(with_private: bool) -> bytes:
    numbers = EC.private_numbers()
    point = numbers.public_numbers
    parts = {"kty": "EC", "crv": "P-256", "x": b64url(point.x), "y": b64url(point.y), "kid": "the-id"}
    return json.dumps(parts | ({"d": b64url(numbers.private_value)} if with_private else {})).encode()


def jwk_rsa() -> bytes:
    n = RSA.private_numbers()
    parts = {"n": n.public_numbers.n, "e": n.public_numbers.e, "d": n.d, "p": n.p, "q": n.q}
    return json.dumps({"keys": [{"kty": "RSA"} | {name: b64url(value) for name, value in parts.items()}]}).encode()


PUBLIC = RSA.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
OPENSSH = ED.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
CASES = {
    "certificate in PEM": (MADE.pem, "", [O.CERTIFICATE]),
    "certificate in DER": (DER, "", [O.CERTIFICATE]),
    "certificate in base64": (base64.b64encode(DER), "", [O.CERTIFICATE]),
    "certificate in hexadecimal": (DER.hex().encode(), "", [O.CERTIFICATE]),
    "certificate and key": (MADE.pem + MADE.key_pem, "", [O.CERTIFICATE, O.PRIVATE_KEY]),
    "PKCS#8": (private(RSA), "", [O.PRIVATE_KEY]),
    "PKCS#8 in DER": (private(EC, Encoding.DER), "", [O.PRIVATE_KEY]),
    "PKCS#8, encrypted": (private(RSA, secret=b"open"), "open", [O.PRIVATE_KEY]),
    "PKCS#8 with a password for nothing": (private(RSA), "open", [O.PRIVATE_KEY]),
    "PKCS#1": (private(RSA, form=PrivateFormat.TraditionalOpenSSL), "", [O.PRIVATE_KEY]),
    "SEC 1": (private(EC, form=PrivateFormat.TraditionalOpenSSL), "", [O.PRIVATE_KEY]),
    "OpenSSH": (OPENSSH, "", [O.PRIVATE_KEY]),
    "OpenSSH, public": (
        ED.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH) + b" alice@example",
        "",
        [O.PUBLIC_KEY],
    ),
    "public key": (PUBLIC, "", [O.PUBLIC_KEY]),
    "PKCS#12": (MADE.p12(), "a password", [O.PRIVATE_KEY, O.CERTIFICATE]),
    "PKCS#12 in base64": (base64.b64encode(MADE.p12()), "a password", [O.PRIVATE_KEY, O.CERTIFICATE]),
    "JWK, private": (jwk_ec(True), "", [O.PRIVATE_KEY]),
    "JWK, public": (jwk_ec(False), "", [O.PUBLIC_KEY]),
    "JWK set": (jwk_rsa(), "", [O.PRIVATE_KEY]),
    "JWK, symmetric": (b'{"kty":"oct","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T"}', "", [O.SYMMETRIC_KEY]),
    "key in hexadecimal": (b"00112233445566778899aabbccddeeff", "", [O.SYMMETRIC_KEY]),
    "key in base64": (base64.b64encode(bytes(range(32))), "", [O.SYMMETRIC_KEY]),
    "key as it is": (b"\x80" + bytes(23), "", [O.SYMMETRIC_KEY]),
    "bytes": (b"\x80\x81\x82", "", [O.OPAQUE_OBJECT]),
    "text": ("schöne Grüße".encode(), "", [O.OPAQUE_OBJECT]),
    "JSON that is no key": (b'{"a": [1, 2]}', "", [O.OPAQUE_OBJECT]),
}


@pytest.mark.parametrize("data, password, types", CASES.values(), ids=CASES)
def test_what_is_given_is_recognised(data, password, types):
    """Every wrapping that people have keys in is seen through, without storing anything."""
    assert [one.object_type for one in detect(data, password)] == types


@pytest.mark.parametrize("data", [private(RSA, secret=b"open"), MADE.p12()], ids=["PKCS#8", "PKCS#12"])
@pytest.mark.parametrize("password", ["", "wrong"])
def test_a_password_is_asked_for(data, password):
    """What is encrypted says so, whether the password is missing or wrong."""
    with pytest.raises(PasswordNeeded):
        detect(data, password)


@pytest.mark.parametrize(
    "data", [b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", bytes.fromhex("ff00db2aad2e94")]
)
def test_damaged_input_is_no_fault_of_ours(data):
    """What looks known and is not is refused, or taken as bytes."""
    try:
        detect(data)
    except (ValueError, TypeError):
        return


def test_nothing_is_stored_before_it_is_shown(alice):
    """The first step shows, the second stores: the page between holds no key in the clear."""
    pem = private(RSA).decode()
    page = alice.post("/ui/create/import/", {"pasted": pem})
    assert page.status_code == 200
    text = page.content.decode()
    assert "RSA, 2048 bit" in text
    assert pem.splitlines()[3] not in text
    assert not ManagedObject.objects.exists()
    answer = alice.post(
        "/ui/create/import/", {"held": page.context["held"], "store": "1", "name": "imported", "extractable": "on"}
    )
    assert answer.status_code == 302
    stored = ManagedObject.objects.get()
    assert (stored.object_type, stored.cryptographic_length) == (O.PRIVATE_KEY, 2048)


def test_only_who_pasted_it_can_store_it(alice, person):
    """What waits for a person's word is sealed for that person, and not for long."""
    held = alice.post("/ui/create/import/", {"pasted": private(RSA).decode()}).context["held"]
    page = person("bob").post("/ui/create/import/", {"held": held, "store": "1"})
    assert "too long" in page.content.decode()
    late = alice.post("/ui/create/import/", {"held": "1" + held[held.index(".") :], "store": "1"})
    assert "too long" in late.content.decode()
    assert not ManagedObject.objects.exists()


def test_key_and_certificate_of_a_file_are_linked(alice):
    """The two objects of a PKCS#12 file know of one another."""
    upload = MADE.p12()
    page = alice.post("/ui/create/import/", {"pasted": base64.b64encode(upload).decode(), "password": "a password"})
    answer = alice.post("/ui/create/import/", {"held": page.context["held"], "store": "1", "name": "p12"})
    assert answer.status_code == 302, answer.content.decode()
    assert ManagedObject.objects.count() == 2
    for managed in ManagedObject.objects.all():
        assert "Link" in managed.attributes


FORM_DATA = {
    "certificate": {"subject": "new", "algorithm": "EC:P_256"},
    "symmetric-key": {"algorithm": "AES:256", "uses": ["4", "8"], "rotate": "30"},
    "key-pair": {"algorithm": "ECDSA:P_256", "private_uses": ["1"], "public_uses": ["2"]},
    "secret": {"kind": "1", "secret": "hunter2 hunter2", "spelling": "text"},
    "opaque": {"text": "some text"},
    "split-key": {"parts": "3", "threshold": "2", "method": "4"},
}


@pytest.mark.parametrize("kind", FORM_DATA)
def test_each_kind_of_object_has_its_form(alice, kind):
    """A form filled with what is needed makes an object that is active at once."""
    data = FORM_DATA[kind] | {"name": "new", "active": "on", "extractable": "on", "groups": "a, b"}
    answer = alice.post(f"/ui/create/{kind}/", data)
    assert answer.status_code == 302, answer.context["form"].errors
    stored = ManagedObject.objects.order_by("serial")
    assert {one.state for one in stored} == {State.ACTIVE}
    assert alice.get(answer["Location"]).status_code == 200


def test_a_key_is_split_and_joined(alice, make):
    """Some of the parts make the key again, too few do not; a name stays with the key."""
    assert set(FORMS) == {*FORM_DATA, "joined"}
    uid = make(name="whole")
    alice.post("/ui/create/split-key/", FORM_DATA["split-key"] | {"uid": uid, "extractable": "on"})
    parts = list(ManagedObject.objects.filter(object_type=ObjectType.SPLIT_KEY).values_list("uid", flat=True))
    assert len(parts) == 3
    data = {"kind": str(int(ObjectType.SYMMETRIC_KEY)), "name": "again", "extractable": "on"}
    few = alice.post("/ui/create/joined/", data | {"parts": parts[0]})
    assert few.context["form"].errors
    joined = alice.post("/ui/create/joined/", data | {"parts": "\n".join(parts[1:])})
    assert joined.status_code == 302, joined.context["form"].errors
    revealed = [
        alice.post(f"{address}get/", {"password": PASSWORD}).context["spellings"][0][1]
        for address in (address_of(uid), joined["Location"])
    ]
    assert revealed[0] == revealed[1]


@pytest.mark.parametrize(
    "data",
    [
        {"kind": "1", "secret": "zz", "spelling": "hex"},
        {"kind": "1", "secret": "", "spelling": "text"},
        {"kind": "9", "secret": "x", "spelling": "text"},
    ],
)
def test_a_form_says_what_is_wrong(alice, data):
    """What cannot be stored comes back with the reason beside the field."""
    page = alice.post("/ui/create/secret/", data)
    assert page.status_code == 200
    assert page.context["form"].errors
    assert 'aria-invalid="true"' in page.content.decode()


def test_a_name_that_is_taken_is_refused_on_the_form(alice, make):
    """What the engine refuses stands on the form, with what was filled in."""
    make(name="taken")
    page = alice.post("/ui/create/symmetric-key/", {"name": "taken", "algorithm": "AES:256", "uses": ["4"]})
    assert page.status_code == 200
    assert "another object has this Name" in page.content.decode()
