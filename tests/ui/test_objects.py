"""The list of objects: pages, search, facets, columns, export, and actions on several at once."""

import csv
import io
import json
import time

import pytest

from keystore.models import ManagedObject
from kmip.enums import State
from ui import objects
from ui.objects import address_of, key_of, uid_of


def names(answer):
    """The names on a page of the list, in order."""
    return [cells[0][2] for _, _, cells in answer.context["rows"]]


def test_pages_follow_one_another_in_both_directions(alice, make, monkeypatch):
    """Newest first; older and newer pages meet without a gap or a repetition."""
    monkeypatch.setattr(objects, "PAGE", 3)
    for number in range(8):
        make(name=f"k{number}")
    first = alice.get("/ui/objects/")
    assert names(first) == ["k7", "k6", "k5"]
    assert first.context["cl"].newer == ""
    second = alice.get("/ui/objects/" + first.context["cl"].older)
    assert names(second) == ["k4", "k3", "k2"]
    third = alice.get("/ui/objects/" + second.context["cl"].older)
    assert names(third) == ["k1", "k0"]
    assert third.context["cl"].older == ""
    back = alice.get("/ui/objects/" + third.context["cl"].newer)
    assert names(back) == ["k4", "k3", "k2"]
    assert names(alice.get("/ui/objects/" + back.context["cl"].newer)) == ["k7", "k6", "k5"]


def test_nothing_counts_all_rows(alice, make, django_assert_num_queries):
    """No statement of the list has COUNT in it."""
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    make(name="one")
    with CaptureQueriesContext(connection) as captured:
        alice.get("/ui/objects/?q=o&state=PreActive")
    assert [one["sql"] for one in captured.captured_queries if "COUNT(" in one["sql"].upper()] == []


@pytest.mark.parametrize("text", ["invoice", "INVOICE-2", "invoice-20"])
def test_search_finds_the_beginning_of_a_name(alice, make, text):
    """A search is for the beginning of a name, exactly as it is written."""
    make(name="invoice-2026")
    make(name="receipt")
    found = names(alice.get("/ui/objects/", {"q": text}))
    assert found == (["invoice-2026"] if text.islower() else [])


def test_search_finds_identifiers(alice, make):
    """A search is for the beginning of an identifier too."""
    uid = make(name="one")
    make(name="two")
    assert names(alice.get("/ui/objects/", {"q": uid})) == ["one"]
    assert len(names(alice.get("/ui/objects/", {"q": uid[:6]}))) == 2


FACETS = {
    "type": ("SymmetricKey", "Certificate"),
    "state": ("Active", "Compromised"),
    "algorithm": ("AES", "RSA"),
    "length": ("256", "128"),
    "expiry": ("7", None),
    "owner": ("alice", "bob"),
    "group": ("payments", "salaries"),
}


@pytest.mark.parametrize("facet", FACETS)
def test_facets_narrow_the_list(alice, make, facet):
    """Each facet shows what has the value and hides what has not."""
    now = int(time.time())
    make(name="one", activation_date=now, deactivation_date=now + 86_400, object_group=["payments"])
    right, wrong = FACETS[facet]
    assert names(alice.get("/ui/objects/", {facet: right})) == ["one"]
    if wrong is not None:
        answer = alice.get("/ui/objects/", {facet: wrong})
        assert "rows" in answer.context
        assert answer.context["rows"] == []


@pytest.mark.parametrize("query", ["type=Nonsense", "length=many", "state=", "before=x", "after=-1", "expiry=soon"])
def test_nonsense_in_the_address_is_harmless(alice, make, query):
    """Values that mean nothing find nothing, or are passed over."""
    make(name="one")
    assert alice.get(f"/ui/objects/?{query}").status_code == 200


def test_unknown_parameters_lead_back_to_the_list(alice):
    """A parameter that is no facet does not become a query."""
    answer = alice.get("/ui/objects/?owner__startswith=a&secret=1")
    assert answer.status_code == 302


def test_columns_are_the_person_s_choice(alice, make):
    """Chosen columns stay chosen."""
    make(name="one")
    alice.post("/ui/objects/columns/", {"column": ["name", "usage", "nonsense"], "next": "/ui/objects/"})
    assert list(alice.get("/ui/objects/").context["columns"]) == ["name", "usage"]


def test_the_list_is_exported_with_its_filters(alice, make):
    """CSV and JSON hold every column of every object that the filters leave, past the end of a page."""
    make(name="=1+1")
    make(name="other", object_group=["g"])
    text = b"".join(alice.get("/ui/objects/export/csv/?q=other").streaming_content).decode()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [(row["name"], row["groups"], row["state"]) for row in rows] == [("other", "g", "Pre-active")]
    found = json.loads(b"".join(alice.get("/ui/objects/export/json/").streaming_content))
    assert [one["name"] for one in found] == ["other", "=1+1"]
    everything = b"".join(alice.get("/ui/objects/export/csv/").streaming_content).decode()
    assert "'=1+1" in everything, "a spreadsheet must not take a name for a formula"
    assert alice.get("/ui/objects/export/xml/").status_code == 404


def test_an_action_on_several_says_first_what_it_will_do(alice, make):
    """Nothing happens before the confirmation; then what is possible happens, and the rest is left out."""
    now = int(time.time())
    active, waiting = make(name="active", activation_date=now), make(name="waiting")
    chosen = {"action": "activate", "index": "0", "_selected_action": [active, waiting]}
    page = alice.post("/ui/objects/", chosen)
    assert page.status_code == 200
    text = page.content.decode()
    assert "Pre-active → Active" in text
    assert "Only a pre-active object can be activated." in text
    assert ManagedObject.objects.get(uid=waiting).state == State.PRE_ACTIVE
    assert alice.post("/ui/objects/", chosen | {"confirm": "1"}).status_code == 302
    assert ManagedObject.objects.get(uid=waiting).state == State.ACTIVE


def test_several_are_revoked_and_destroyed(alice, make):
    """Reason and certainty are asked for once, for all of them."""
    now = int(time.time())
    uids = [make(name=f"k{number}", activation_date=now) for number in range(3)]
    chosen = {"action": "revoke", "index": "0", "_selected_action": uids}
    alice.post("/ui/objects/", chosen | {"confirm": "1", "reason": "6", "message": "moved"})
    assert set(ManagedObject.objects.values_list("state", flat=True)) == {State.DEACTIVATED}
    chosen["action"] = "destroy"
    unsure = alice.post("/ui/objects/", chosen | {"confirm": "1"})
    assert unsure.status_code == 200
    alice.post("/ui/objects/", chosen | {"confirm": "1", "sure": "on"})
    assert set(ManagedObject.objects.values_list("state", flat=True)) == {State.DESTROYED}


def test_others_objects_are_left_out_of_actions(person, alice, make):
    """An identifier that somebody slips in is not even named."""
    theirs = make("bob", name="bob's")
    page = alice.post("/ui/objects/", {"action": "activate", "index": "0", "_selected_action": [theirs]})
    assert theirs not in page.content.decode()


@pytest.mark.parametrize("uid", ["a/b", "..", "a b%", "ключ", "x" * 64, "a_2Fb"])
def test_any_identifier_has_an_address(uid):
    """Identifiers that clients chose become one segment of a path, and back."""
    key = key_of(uid)
    assert "/" not in key
    assert "." not in key
    assert uid_of(key) == uid
    assert address_of(uid).startswith("/ui/objects/")


def test_partial_updates_are_the_list_alone(alice, make):
    """HTMX gets the list without the page around it, and caches keep the two apart."""
    make(name="one")
    answer = alice.get("/ui/objects/", headers={"HX-Request": "true"})
    assert b"<html" not in answer.content
    assert answer["Vary"].startswith("HX-Request")
