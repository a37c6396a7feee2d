"""The page of one object: what it shows, what it lets people do, and why not."""

import re
import time

import pytest

from keystore import audit, engine
from keystore.authn import Peer
from keystore.models import AuditRecord, ManagedObject
from kmip.attributes import Attributes
from kmip.enums import CryptographicAlgorithm, Operation, RevocationReasonCode, State
from kmip.payloads import CreateKeyPairRequest, GetRequest
from tests.certificates import CLIENT
from tests.certificates import make as make_certificate
from tests.ui.conftest import PASSWORD
from ui.objects import address_of

DAY = 86_400


def test_sections_show_what_is_known(alice, make):
    """Identity, life and cryptography are there, with dates past and coming."""
    now = int(time.time())
    uid = make(name="the name", activation_date=now, deactivation_date=now + DAY, description="for tests")
    page = alice.get(address_of(uid))
    text = page.content.decode()
    for part in ("the name", uid, "AES", "256", "Encrypt, Decrypt", "for tests", "alice", "Active"):
        assert part in text
    moments = [(event.title, event.coming) for event in page.context["timeline"]]
    assert moments[-1] == ("Deactivation", True)
    assert ("Now", False) in moments


def test_actions_that_are_not_possible_say_why(alice, make):
    """An active key must be revoked before it is destroyed, and the page says so."""
    uid = make(name="one", activation_date=int(time.time()))
    page = alice.get(address_of(uid))
    possible = {operation for operation, *_ in page.context["possible"]}
    why = {operation: plan.text for operation, _, _, plan in page.context["impossible"]}
    assert {Operation.REVOKE, Operation.GET} <= possible
    assert why[Operation.DESTROY] == "An active object must be revoked first."
    assert why[Operation.ACTIVATE] == "Only a pre-active object can be activated."


def test_linked_objects_are_drawn_and_listed(alice):
    """The pages of a key pair lead to one another."""
    common = Attributes()
    common.cryptographic_algorithm = CryptographicAlgorithm.ED25519
    made = engine.execute(
        Operation.CREATE_KEY_PAIR, CreateKeyPairRequest(common_attributes=common), Peer("ui", user="alice")
    )
    text = alice.get(address_of(made.private_key_unique_identifier)).content.decode()
    assert f'href="{address_of(made.public_key_unique_identifier)}"' in text
    assert "<svg" in text


def test_the_trail_names_who_did_what(alice, make):
    """What happened to the object is on its page."""
    uid = make(name="one")
    alice.post(f"{address_of(uid)}do/activate/", {"asked": "1"})
    trail = alice.get(address_of(uid)).context["trail"]
    assert [(one.operation, one.user) for one in trail][-2:] == [("Activate", "alice"), ("Create", "alice")]


@pytest.mark.parametrize(
    "reason, state",
    [
        (RevocationReasonCode.CESSATION_OF_OPERATION, State.DEACTIVATED),
        (RevocationReasonCode.KEY_COMPROMISE, State.COMPROMISED),
    ],
)
def test_a_reason_decides_what_revocation_does(alice, make, reason, state):
    """A compromise compromises, with when it happened; anything else deactivates."""
    uid = make(name="one", activation_date=int(time.time()))
    data = {"reason": str(int(reason)), "message": "because", "occurred": "2026-01-02T03:04"}
    assert alice.post(f"{address_of(uid)}do/revoke/", data).status_code == 302
    managed = ManagedObject.objects.get(uid=uid)
    assert managed.state == state
    assert (managed.compromise_occurrence_date == 1767323040) is (state == State.COMPROMISED)


def test_material_is_shown_only_after_the_password(alice, make):
    """A wrong password gets nothing; the right one gets the key, and the reading is on record."""
    uid = make(name="one")
    secret = engine.execute(Operation.GET, GetRequest(unique_identifier=uid), Peer("ui", user="alice"))
    material = secret.symmetric_key.key_block.key_value.key_material
    before = AuditRecord.objects.filter(operation="Get").count()
    for data in (None, {"password": "wrong"}, {"password": ""}):
        address = f"{address_of(uid)}get/"
        page = alice.get(address) if data is None else alice.post(address, data)
        assert material.hex() not in page.content.decode()
    assert AuditRecord.objects.filter(operation="Get").count() == before
    page = alice.post(f"{address_of(uid)}get/", {"password": PASSWORD})
    assert material.hex() in page.content.decode()
    assert "no-store" in page["Cache-Control"]
    file = alice.post(f"{address_of(uid)}get/", {"password": PASSWORD, "download": "1"})
    assert file.content == material
    assert "attachment" in file["Content-Disposition"]
    audit.writer.flush()
    assert AuditRecord.objects.filter(operation="Get", object=uid, user="alice").count() == before + 2


def test_sensitive_material_stays(alice, make):
    """What may only leave wrapped is not offered, and not given to who asks all the same."""
    uid = make(name="one", sensitive=True)
    assert "only wrapped" in alice.get(f"{address_of(uid)}get/").content.decode()
    page = alice.post(f"{address_of(uid)}get/", {"password": PASSWORD})
    assert re.search(r"[0-9a-f]{64}", page.content.decode()) is None


def test_a_certificate_is_decoded(alice):
    """Subject, issuer, dates, key, fingerprints and extensions stand on the page."""
    made = make_certificate("client.example", usage=CLIENT).pem
    page = alice.post("/ui/create/import/", {"pasted": made.decode()})
    found = alice.post(
        "/ui/create/import/",
        {"held": page.context["held"], "store": "1", "name": "cert", "active": "on", "extractable": "on"},
    )
    page = alice.get(found["Location"])
    titles = [title for title, _ in page.context["certificate"]]
    assert titles == ["Certificate", "Signature and key", "Extensions"]
    assert "clientAuth" in page.content.decode()
    managed = ManagedObject.objects.get()
    assert managed.fresh, "looking at a certificate does not take its freshness"
