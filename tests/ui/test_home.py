"""The first page: numbers, what comes up, operations drawn, refusals, nodes; and who sees which of them."""

import time

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from keystore import activity, audit, milestones, nodes
from keystore.handshakes import Entry, Hello, write
from keystore.models import ManagedObject, Namespace
from ui import tally
from ui.pages import home

NOW = int(time.time())
DAY = 86_400


def test_objects_are_counted_by_state_and_type(alice, make):
    """The numbers lead to the lists that they count, and hold one's own objects only."""
    make(name="waiting")
    make(name="active", activation_date=NOW - 10)
    make("bob", name="bob's")
    page = alice.get("/ui/")
    assert [(key, count) for _, key, count, *_ in page.context["states"]] == [("PreActive", 1), ("Active", 1)]
    assert page.context["kinds"] == [("Symmetric key", "SymmetricKey", 2)]
    text = page.content.decode()
    assert 'href="/ui/objects/?state=PreActive"' in text
    assert 'href="/ui/objects/?type=SymmetricKey"' in text


def test_what_comes_up_is_counted_and_listed(alice, make):
    """Each number has as many objects behind its link."""
    for days in (5, 20, 80, 100):
        make(name=f"ends in {days}", activation_date=NOW - 10, deactivation_date=NOW + days * DAY)
    for name, days in (("due", -1), ("soon", 3), ("later", 60)):
        uid = make(name=name)
        ManagedObject.objects.filter(uid=uid).update(next_rotation=NOW + days * DAY)
    assert alice.get("/ui/").context["coming"] == [(7, 1, 2), (30, 2, 2), (90, 3, 3)]
    for parameter, column in (("expiry", 1), ("rotation", 2)):
        for row in alice.get("/ui/").context["coming"]:
            listed = alice.get("/ui/objects/", {parameter: str(row[0])}).context["rows"]
            assert len(listed) == row[column], (parameter, row)


def test_more_than_a_lot_is_not_counted(alice, make, monkeypatch):
    """What comes up is counted up to a limit, and the page says so."""
    monkeypatch.setattr(tally, "MOST", 2)
    for number in range(4):
        make(name=f"k{number}", activation_date=NOW - 10, deactivation_date=NOW + DAY)
    assert "more than 2" in alice.get("/ui/").content.decode()


def test_counts_that_took_long_are_kept(alice, make, monkeypatch):
    """A second look within the time costs nothing; quick counts are never old."""
    monkeypatch.setattr(tally, "SLOW", 1e6)
    make(name="one")
    assert alice.get("/ui/").context["total"] == 1
    make(name="two")
    assert alice.get("/ui/").context["total"] == 2
    monkeypatch.setattr(tally, "SLOW", 0.0)
    monkeypatch.setattr(tally, "FACTOR", 1e6)
    alice.get("/ui/")
    make(name="three")
    assert alice.get("/ui/").context["total"] == 2


def test_kept_counts_are_not_shown_to_others(alice, person, make, monkeypatch):
    """Each person has their own."""
    monkeypatch.setattr(tally, "SLOW", 0.0)
    monkeypatch.setattr(tally, "FACTOR", 1e6)
    make(name="one")
    assert alice.get("/ui/").context["total"] == 1
    assert person("bob").get("/ui/").context["total"] == 0


def test_operations_are_drawn_with_their_numbers(root, make):
    """A bar and a row for every minute of the hour, failures among them."""
    make("root", name="one")
    make("root", name="two")
    fields = dict.fromkeys(audit.Entry._fields, "") | {"time": time.time_ns() // 1000, "latency": 1}
    audit.write([audit.Entry(**fields | {"result": "Failure", "namespace": "default"})])
    activity.counter.flush()
    page = root.get("/ui/")
    assert len(page.context["bars"]) == 60
    assert (page.context["operations"], page.context["failures"]) == (3, 1)
    assert 'class="chart"' in page.content.decode()


@pytest.mark.parametrize("period, buckets", [("day", 24), ("month", 30), ("nonsense", 60), ("hour", 60)])
def test_periods_are_partial_updates(root, period, buckets):
    """HTMX gets the drawing alone; without it the same address is the whole page."""
    part = root.get(f"/ui/?period={period}", headers={"HX-Request": "true"})
    assert len(part.context["bars"]) == buckets
    assert b"<html" not in part.content
    assert b"<html" in root.get(f"/ui/?period={period}").content


def test_bars_fit_the_drawing():
    """The highest bar is as high as the drawing, the last one at its right, and failures are part of the bar."""
    period = home.PERIODS["hour"]
    found = [activity.Bucket(100, 10, 5), activity.Bucket(159, 20, 0)]
    bars, most = home.drawn(period, found, 159)
    assert (bars[0].height, bars[0].bad, bars[-1].height, most) == (home.HEIGHT / 2, home.HEIGHT / 4, home.HEIGHT, 20)
    assert bars[-1].x + bars[-1].width <= home.WIDTH
    assert bars[0].name == "01:40"
    assert home.drawn(period, [], 159)[1] == 0


@pytest.fixture
def troubles():
    """A refused handshake, a refused request, and a node."""
    hello = Hello("kms.example", ("TLS 1.2",))
    reason = "client certificate refused: it has expired"
    write([(Entry("kmip", "192.0.2.7", False, reason, "renew it", hello, "", None, 1, NOW * 1000), 3)])
    fields = dict.fromkeys(audit.Entry._fields, "") | {"time": time.time_ns() // 1000, "latency": 1}
    refused = {"result": "Failure", "reason": "AuthenticationNotSuccessful", "address": "192.0.2.8"}
    audit.write([audit.Entry(**fields | refused)])
    nodes.beat()


def test_refusals_and_nodes_are_shown_to_the_server_s_administrators(root, troubles):
    """Who was turned away and why, and how each node is."""
    text = root.get("/ui/").content.decode()
    for part in ("it has expired", "renew it", "192.0.2.7", "3 times", "192.0.2.8", nodes.name(), "Unsealed"):
        assert part in text, part


def test_first_steps_go_away_one_by_one(root, make, monkeypatch):
    """Each is a link until it is done; when all are, the list is gone."""
    assert [step.done for step in root.get("/ui/").context["steps"]] == [False] * 5
    make("root", name="first")
    root.post("/ui/authorities/", {"make": "1", "authority": "Our clients"})
    milestones.note(milestones.BACKUP)
    page = root.get("/ui/")
    assert [step.done for step in page.context["steps"]] == [False, True, False, True, True]
    assert 'href="/ui/clients/add/"' in page.content.decode()
    assert "1 min ago" in page.content.decode()
    monkeypatch.setattr(home.conf, "has_tls", lambda config: True)
    write([(Entry("kmip", "192.0.2.7", True, "", "", Hello(), "TLSv1.3", None, 1, NOW * 1000), 1)])
    assert root.get("/ui/").context["steps"] == []


def test_others_see_nothing_of_the_server(alice, person, troubles):
    """Neither users nor the administrators of a tenant learn who knocked, nor what others do."""
    Namespace.objects.create(name="tenant", created=0)
    carol = person("tenant/carol", superuser=True)
    for browser in (alice, carol):
        text = browser.get("/ui/").content.decode()
        for part in ("192.0.2.7", "192.0.2.8", nodes.name()):
            assert part not in text, part
    assert 'class="chart"' not in alice.get("/ui/").content.decode()
    assert alice.get("/ui/?period=day", headers={"HX-Request": "true"}).status_code == 403
    assert carol.get("/ui/").context["operations"] == 0
    assert carol.get("/ui/settings/").status_code == 403


def test_nothing_is_loaded_to_be_counted(root):
    """Neither certificates of unknown clients nor of authorities, and the age of the backup is asked for once."""
    with CaptureQueriesContext(connection) as asked:
        root.get("/ui/")
    told = [one["sql"] for one in asked.captured_queries]
    assert not any("certificate" in one and "COUNT" not in one for one in told if "waiting" in one or "authorit" in one)
    assert sum("milestone" in one for one in told) == 1
