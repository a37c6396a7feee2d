"""Undo at the console: what was destroyed is listed for administrators, and comes back as it was."""

import pytest
from django.test import Client

from keystore import clock, withholding
from keystore.models import AuditRecord, ManagedObject, Namespace, WithheldObject
from kmip.enums import State
from tests.ui.conftest import PASSWORD
from ui.objects import address_of

PATH = "/ui/destroyed/"


@pytest.fixture
def gone(configure, alice, make):
    """A key that alice has destroyed, which is kept for a day."""
    configure(**{"lifecycle.destroy_delay": 86400.0})
    uid = make(name="precious")
    alice.post(f"{address_of(uid)}do/destroy/", {"sure": "on"})
    assert ManagedObject.objects.get(uid=uid).state == State.DESTROYED
    return uid


def restore(browser, uid):
    return browser.post(f"{PATH}restore/", {"uid": uid})


def listed(browser, query=""):
    return [row[0] for row in browser.get(PATH + query).context["rows"]]


def test_an_administrator_restores_what_was_destroyed(root, gone):
    """It stands in the list until then, with who destroyed it; and the record tells of both."""
    (row,) = root.get(PATH).context["rows"]
    assert (row[0], row[3], row[4]) == (gone, "alice", "alice")
    answer = restore(root, gone)
    assert (answer.status_code, answer["Location"]) == (302, address_of(gone))
    assert "as it was before" in root.get(address_of(gone)).content.decode()
    assert ManagedObject.objects.get(uid=gone).state == State.PRE_ACTIVE
    assert listed(root) == []
    assert list(AuditRecord.objects.filter(object=gone, operation="Restore").values_list("user", "result")) == [
        ("root", "Success")
    ]


def owner(person):
    return person("alice")


def tenant(person):
    Namespace.objects.create(name="tenant", created=0)
    return person("tenant/dave", superuser=True)


WRONG = {"its owner": owner, "another user": lambda person: person("eve")}


@pytest.mark.parametrize("make_browser", WRONG.values(), ids=WRONG)
def test_others_neither_see_nor_restore(person, gone, make_browser):
    """Who destroyed it least of all."""
    browser = make_browser(person)
    assert browser.get(PATH).status_code == restore(browser, gone).status_code == 403
    assert f'href="{PATH}"' not in browser.get("/ui/").content.decode()
    assert WithheldObject.objects.filter(key=gone).exists()


def test_an_administrator_of_another_namespace_finds_nothing(person, gone):
    """Neither in the list nor by its identifier."""
    browser = tenant(person)
    assert listed(browser) == []
    restore(browser, gone)
    assert "there is no destroyed object" in browser.get(PATH).content.decode()
    assert WithheldObject.objects.filter(key=gone).exists()


def test_nothing_is_restored_from_elsewhere(root, gone):
    """By a form of another site, by a link, or without a login."""
    strict = Client(enforce_csrf_checks=True)
    assert strict.login(username="root", password=PASSWORD)
    assert restore(strict, gone).status_code == 403
    assert root.get(f"{PATH}restore/?uid={gone}").status_code == 405
    assert restore(Client(), gone)["Location"].startswith("/ui/login/")
    assert WithheldObject.objects.filter(key=gone).exists()


def test_after_its_time_it_is_neither_listed_nor_restored(root, gone, monkeypatch):
    """Even before the job has come by."""
    later = clock.now() + 86_401 * clock.SECOND
    monkeypatch.setattr(clock, "now", lambda: later)
    assert listed(root) == []
    assert restore(root, gone)["Location"] == PATH
    assert ManagedObject.objects.get(uid=gone).state == State.DESTROYED


def test_many_are_found_by_the_beginning_of_their_identifier(root, gone, monkeypatch):
    """The page has an end, and says so."""
    row = WithheldObject.objects.get(key=gone)
    WithheldObject.objects.bulk_create(
        WithheldObject(
            key=f"old-{number}", namespace=row.namespace, owner="alice", object_type=row.object_type,
            destroyed_by="alice", destroyed=row.destroyed - number - 1, purge=row.purge, content=b"x",
        )
        for number in range(105)
    )  # fmt: skip
    page = root.get(PATH)
    assert page.context["more"] and len(page.context["rows"]) == 100 and page.context["rows"][0][0] == gone
    assert listed(root, "?q=old-104") == ["old-104"]
    assert listed(root, "?q=nothing") == [] == listed(root, "?q=%25")
    assert len(withholding.withheld("default")) == 106


def test_without_a_delay_the_page_says_that_nothing_is_kept(root):
    """And how it would be."""
    assert "lifecycle.destroy_delay" in root.get(PATH).content.decode()
