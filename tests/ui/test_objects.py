"""The list of objects: pages, search, facets, columns, export, and actions on several at once."""

import csv
import io
import json
import time

import pytest

from keystore import engine
from keystore.authn import Peer
from keystore.models import ManagedObject
from kmip.enums import Operation, State
from kmip.payloads import SetAttributeRequest
from ui import facets, lifecycle, objects, paging
from ui.objects import address_of, key_of, uid_of


def names(answer):
    """The names on a page of the list, in order."""
    return [cells[0][2] for *_, cells in answer.context["rows"]]


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


# However many objects there are.


@pytest.fixture
def small(monkeypatch):
    """Pages of three, windows of 4, 4 and 8 objects, and two count as few."""
    monkeypatch.setattr(objects, "PAGE", 3)
    monkeypatch.setattr(paging, "WINDOWS", (4, 4, 8))
    monkeypatch.setattr(paging, "READ", 5)
    monkeypatch.setattr(facets, "FEW", 2)


def walk(client, query, way="older"):
    """The names on all pages of a list, following one of its links; whether pages ended early."""
    found, cuts, address = [], 0, f"/ui/objects/?{query}"
    while True:
        page = client.get(address)
        found.append(names(page))
        cuts += page.context["cl"].cut
        link = getattr(page.context["cl"], way)
        if not link:
            return found, cuts, page
        address = "/ui/objects/" + link


NARROWED = {
    "": lambda n: True,
    "group=third": lambda n: n % 3 == 0,
    "length=128": lambda n: n % 5 == 0,
    "group=third&length=128": lambda n: n % 15 == 0,
    "group=third&owner=alice&type=SymmetricKey&state=PreActive": lambda n: n % 3 == 0,
    "group=rare": lambda n: n in (1, 25),
    "q=k2": lambda n: str(n).startswith("2"),
    "q=k2&length=128": lambda n: n in (20, 25),
    "tag=even": lambda n: n % 2 == 0,
    "length=64": lambda n: False,
}


@pytest.fixture
def thirty(make):
    """Thirty keys, k0 to k29, of several kinds."""
    for n in range(30):
        groups = [*(["third"] if n % 3 == 0 else []), *(["rare"] if n in (1, 25) else [])]
        uid = make(name=f"k{n}", object_group=groups, cryptographic_length=128 if n % 5 == 0 else 256)
        if n % 2 == 0:
            payload = SetAttributeRequest(unique_identifier=uid, new_attribute=lifecycle.tagged(["even"]))
            engine.execute(Operation.SET_ATTRIBUTE, payload, Peer("ui", user="alice"))


def test_every_page_of_every_query_is_whole(alice, thirty, small):
    """Whatever is asked and wherever windows end, each object that fits is on one page, in order, both ways."""
    for query, fits in NARROWED.items():
        wanted = [f"k{n}" for n in reversed(range(30)) if fits(n)]
        older, _, last = walk(alice, query)
        assert [name for page in older for name in page] == wanted, query
        assert all(len(page) <= 3 for page in older), query
        if len(older) > 1:
            back, _, _ = walk(alice, last.context["cl"].newer.removeprefix("?"), "newer")
            again = [name for page in reversed(back) for name in page]
            assert again == wanted[: len(again)], query
            assert len(again) >= len(wanted) - 3, query
        exported = b"".join(alice.get(f"/ui/objects/export/json/?{query}").streaming_content)
        assert [one["name"] for one in json.loads(exported)] == wanted, query


def test_a_page_ends_early_rather_than_late(alice, thirty, small):
    """Where nothing fits, a page looks at so many objects, says so, and the next goes on from there."""
    page = alice.get("/ui/objects/?length=64")
    assert page.context["cl"].cut
    assert "Many objects were looked at" in page.content.decode()
    found, cuts, _ = walk(alice, "length=64")
    assert (cuts, found) == (1, [[], []])


def test_few_objects_need_no_walk(alice, thirty, small):
    """What only few have is looked up, and found on the first page however old it is."""
    page = alice.get("/ui/objects/?group=rare")
    assert (names(page), page.context["cl"].cut) == (["k25", "k1"], False)


def test_tags_are_added_to_several(alice, make):
    """Tags that were there stay; what may not be changed is left out."""
    first, second = make(name="one"), make(name="two")
    chosen = {"action": "tag", "index": "0", "_selected_action": [first, second], "confirm": "1"}
    assert alice.post("/ui/objects/", chosen | {"tag": "payroll"}).status_code == 302
    chosen["_selected_action"] = [first]
    assert alice.post("/ui/objects/", chosen | {"tag": "2026"}).status_code == 302
    assert names(alice.get("/ui/objects/", {"tag": "payroll"})) == ["two", "one"]
    assert names(alice.get("/ui/objects/", {"tag": "2026"})) == ["one"]
    assert alice.post("/ui/objects/", chosen | {"tag": "_kk"}).status_code == 200
