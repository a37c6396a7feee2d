"""Keys used at the console: every form does what it says, with the operations of the wire."""

import hashlib
import time

import pytest

from keystore.models import AuditRecord, ManagedObject
from kmip.enums import CryptographicAlgorithm, CryptographicUsageMask, ObjectType
from ui.objects import address_of

M = CryptographicUsageMask
NOW = int(time.time())
TEXT = {"data": "hello", "spelling": "text"}


@pytest.fixture
def key(make):
    """A key that is active and may do everything."""
    masks = M.ENCRYPT | M.DECRYPT | M.WRAP_KEY | M.UNWRAP_KEY | M.DERIVE_KEY
    return make(name="key", activation_date=NOW - 10, cryptographic_usage_mask=int(masks))


@pytest.fixture
def mac_key(make):
    """A key for message authentication codes."""
    return make(
        name="mac", activation_date=NOW - 10, cryptographic_algorithm=CryptographicAlgorithm.HMAC_SHA256,
        cryptographic_usage_mask=int(M.MAC_GENERATE | M.MAC_VERIFY),
    )  # fmt: skip


@pytest.fixture
def pair(alice):
    """The identifiers of a private and a public key for signatures."""
    form = alice.get("/ui/create/key-pair/").context["form"]
    data = {field.name: field.value() for field in form if field.value()} | {"name": "pair", "algorithm": "ECDSA:P_256"}
    alice.post("/ui/create/key-pair/", data)
    found = {one.object_type: one.uid for one in ManagedObject.objects.all()}
    return found[ObjectType.PRIVATE_KEY], found[ObjectType.PUBLIC_KEY]


def use(browser, slug, **data):
    """The page after a use."""
    page = browser.post(f"/ui/use/{slug}/", data | {"send": "1"})
    assert page.status_code == 200
    return page


def parts(page):
    """What came of it in hexadecimal, in order."""
    assert page.context.get("answered"), page.context["form"].errors
    return [{str(title): text for title, text in spelled}["Hexadecimal"] for _, _, spelled in page.context["parts"]]


def test_what_is_encrypted_is_decrypted(alice, key):
    """With what the first page shows, the second gives the text back; both are on record."""
    data, nonce, tag = parts(use(alice, "encrypt", uid=key, mode="9", aad="aa", **TEXT))
    back = {"data": data, "spelling": "hex", "mode": "9", "nonce": nonce, "tag": tag, "aad": "aa"}
    page = use(alice, "decrypt", uid=key, **back)
    assert bytes.fromhex(parts(page)[0]) == b"hello"
    wrong = use(alice, "decrypt", uid=key, **back | {"tag": "00" * 16})
    assert wrong.context["form"].non_field_errors()
    done = AuditRecord.objects.filter(object=key, transport="ui").values_list("operation", "result")
    assert {("Encrypt", "Success"), ("Decrypt", "Success"), ("Decrypt", "Failure")} <= set(done)


def test_what_is_signed_is_verified(alice, pair):
    """A verdict, not an error, for a signature that is not right."""
    private, public = pair
    (signature,) = parts(use(alice, "sign", uid=private, hashing="6", **TEXT))
    good = use(alice, "verify", uid=public, hashing="6", signature=signature, **TEXT)
    assert good.context["verdict"] is True
    bad = use(alice, "verify", uid=public, hashing="6", signature=signature, data="hullo", spelling="text")
    assert bad.context["verdict"] is False
    assert "It is not valid." in bad.content.decode()


def test_a_mac_is_made_and_verified(alice, mac_key):
    """And nobody else's is taken for it."""
    (code,) = parts(use(alice, "mac", uid=mac_key, **TEXT))
    assert use(alice, "mac-verify", uid=mac_key, code=code, **TEXT).context["verdict"] is True
    assert use(alice, "mac-verify", uid=mac_key, code="00" * 32, **TEXT).context["verdict"] is False
    assert len(code) == 64


def test_data_are_hashed_and_random_bytes_are_made(alice):
    """Without a key."""
    assert parts(use(alice, "hash", hashing="6", **TEXT)) == [hashlib.sha256(b"hello").hexdigest()]
    first, second = (parts(use(alice, "random", length="32"))[0] for _ in range(2))
    assert len(first) == 64
    assert first != second


def test_a_key_leaves_wrapped(alice, make, key):
    """As AES key wrap makes it: eight bytes longer."""
    other = make(name="other", activation_date=NOW - 10)
    (wrapped,) = parts(use(alice, "wrap", uid=other, wrapping=key, encoding="1"))
    assert len(wrapped) == 80


def test_a_key_is_derived(alice, key):
    """The new key has a page."""
    page = use(alice, "derive", uid=key, method="1", length="256", salt="00" * 16, iterations="1000")
    uid, address = page.context["made"]
    assert address == address_of(uid)
    assert alice.get(address).status_code == 200
    assert AuditRecord.objects.filter(operation="DeriveKey", result="Success").exists()


@pytest.mark.parametrize("slug", ["encrypt", "mac", "sign"])
def test_keys_of_others_cannot_be_used(person, key, slug):
    """An identifier that one was told is no right to it."""
    page = use(person("bob"), slug, uid=key, **TEXT)
    assert page.context["form"].errors
    assert "answered" not in page.context
