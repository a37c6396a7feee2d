"""The page of one object: what it shows, what it lets people do, and why not."""

import re
import time

import pytest

from keystore import audit, engine
from keystore.authn import Peer
from keystore.models import AuditRecord, ManagedObject
from kmip.attributes import Attributes, vendor_text
from kmip.enums import CryptographicAlgorithm, Operation, RevocationReasonCode, State
from kmip.enums import CryptographicUsageMask as Mask
from kmip.payloads import CreateKeyPairRequest, GetRequest
from tests import authority
from tests.certificates import CLIENT
from tests.certificates import make as make_certificate
from tests.ui.conftest import PASSWORD
from ui import drawing
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
    why = {str(title): plan.text for title, plan in page.context["impossible"]}
    assert {Operation.REVOKE, Operation.GET} <= possible
    assert why["Destroy"] == "An active object must be revoked first."
    assert why["Activate"] == "Only a pre-active object can be activated."


def test_the_uses_that_a_key_is_for_are_offered(alice, person, make):
    """They lead to the form with the key in it; what its state or one's rights do not allow says why."""
    uid = make(name="one", activation_date=int(time.time()), cryptographic_usage_mask=int(Mask.ENCRYPT | Mask.DECRYPT))
    address = address_of(uid)
    page = alice.get(address)
    assert [link for link, _ in page.context["uses"]] == ["/ui/use/encrypt/", "/ui/use/decrypt/"]
    assert f'href="/ui/use/encrypt/?key={uid}"' in page.content.decode()
    alice.post(f"{address}do/revoke/", {"reason": str(int(RevocationReasonCode.CESSATION_OF_OPERATION))})
    page = alice.get(address)
    assert [link for link, _ in page.context["uses"]] == ["/ui/use/decrypt/"]
    why = {str(title): plan.text for title, plan in page.context["impossible"]}
    assert "Deactivated" in why["Encrypt"]
    bob = person("bob")
    alice.post(f"{address}rights/", {"grant": "1", "kind": "user", "name": "bob", "operations": ["encrypt"]})
    assert bob.get(address).context["uses"] == []


DATES = {"initial_date": 0}
LIVES = {
    "pre-active": (DATES, 100, [(State.PRE_ACTIVE, 0)]),
    "active until later": (
        DATES | {"activation_date": 20, "deactivation_date": 100},
        50,
        [(State.PRE_ACTIVE, 0), (State.ACTIVE, 120), (State.DEACTIVATED, 600)],
    ),
    "active at once": (DATES | {"activation_date": 0}, 10, [(State.ACTIVE, 0)]),
    "revoked before it was due": (
        DATES | {"activation_date": 0, "deactivation_date": 50},
        100,
        [(State.ACTIVE, 0), (State.DEACTIVATED, 300)],
    ),
    "compromised, then destroyed": (
        DATES | {"activation_date": 0, "compromise_date": 50, "destroy_date": 75},
        100,
        [(State.ACTIVE, 0), (State.COMPROMISED, 300), (State.DESTROYED_COMPROMISED, 450)],
    ),
    "destroyed before it was active": (
        DATES | {"activation_date": 100, "destroy_date": 50},
        50,
        [(State.PRE_ACTIVE, 0), (State.DESTROYED, 300)],
    ),
    "made this second": (DATES, 0, [(State.PRE_ACTIVE, 0)]),
}


@pytest.mark.parametrize("dates, now, bands", LIVES.values(), ids=LIVES)
def test_a_life_is_drawn_as_its_dates_move_it(dates, now, bands):
    """From the first date to the last, and a little on."""
    attributes = Attributes()
    for name, seconds in dates.items():
        setattr(attributes, name, seconds)
    life = drawing.life(attributes, drawing.timeline(attributes, now), now)
    assert [(band.state, band.x) for band in life.bands] == bands
    assert sum(band.width for band in life.bands) == life.width == drawing.WIDTH + drawing.AFTER


def test_a_chain_of_certificates_is_drawn_to_its_end(alice):
    """A certificate, who signed it, and who signed that: each hangs on the one before, and none is drawn twice."""
    top = authority.root("Top", user="alice")
    middle = authority.certified(
        top, "Middle", user="alice", vendor=[vendor_text("certificate-profile", "intermediate")]
    )
    leaf = authority.certified(middle, "leaf.example", user="alice")
    page = alice.get(address_of(leaf))
    assert page.context["title"] == "leaf.example"
    chain = [(node.name, node.depth) for node in page.context["links"] if node.relation == "Certificate"]
    assert chain == [("Middle", 1), ("Top", 2)]
    assert [node.y for node in page.context["links"]] == [
        drawing.ROW * number for number in range(1, len(page.context["links"]) + 1)
    ]


def test_generations_of_a_key_are_drawn(alice, person, make):
    """As far as they are for the person to see, and only so many."""
    first = uid = make(name="one", activation_date=int(time.time()))
    for _ in range(drawing.DEEP + 3):
        uid = alice.post(f"{address_of(uid)}do/re-key/", {"asked": "1"})["Location"].split("/")[-2]
    nodes = alice.get(address_of(first)).context["links"]
    assert [(node.relation, node.depth) for node in nodes] == [
        ("Replaced by", number) for number in range(1, len(nodes) + 1)
    ]
    assert drawing.DEEP <= len(nodes) <= drawing.DEEP + 1
    right = {"grant": "1", "kind": "user", "name": "bob", "operations": ["get", "get_attributes"]}
    alice.post(f"{address_of(first)}rights/", right)
    (one,) = person("bob").get(address_of(first)).context["links"]
    assert (one.address, one.state) == ("", "")


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
    assert page.context["title"] == "cert"
    titles = [title for title, _ in page.context["certificate"]]
    assert titles == ["Certificate", "Signature and key", "Extensions"]
    assert "clientAuth" in page.content.decode()
    managed = ManagedObject.objects.get()
    assert managed.fresh, "looking at a certificate does not take its freshness"
