"""Approvals at the console: what waits, who votes on it, and the rules."""

import pytest
from django.test import Client

from keystore import approvals
from keystore.authn import forget
from keystore.models import ApprovalRequest, ApprovalRule, AuditRecord, Grant, ManagedObject, Namespace
from kmip.enums import CryptographicUsageMask as Mask
from kmip.enums import State
from tests import authority
from tests.ui.conftest import PASSWORD
from ui.objects import address_of


@pytest.fixture
def rule(root, person):
    """Destroy waits for one of bob and carol."""
    for name in ("bob", "carol"):
        person(name).get("/ui/")
    answer = set_rule(root)
    assert answer.status_code == 302, answer.context["form"].errors
    forget()


def set_rule(browser, **changed):
    """The answer to the form for rules."""
    data = {"rule": "1", "operation": "destroy", "needed": "1", "people": "bob, carol", "hours": "24"}
    return browser.post("/ui/approvals/", data | changed)


def destroy(browser, make, name="precious"):
    """A key that its owner wants to destroy."""
    uid = make(name=name)
    browser.post(f"{address_of(uid)}do/destroy/", {"sure": "on"})
    return uid


def cast(browser, uid, **changed):
    """Vote for the one request on an object, as its page shows it."""
    row = ApprovalRequest.objects.get(uid=uid)
    return browser.post(f"/ui/approvals/{row.id}/vote/", {"digest": row.digest, "approve": "1"} | changed)


def state(uid):
    """An object's state as it is stored."""
    return State(ManagedObject.objects.get(uid=uid).state)


def test_a_destruction_waits_for_a_vote(rule, alice, person, make):
    """The console says so, shows the request to those who may vote, and carries it out with the last vote."""
    uid = destroy(alice, make)
    assert state(uid) == State.PRE_ACTIVE
    page = alice.get("/ui/approvals/")
    assert "waits for the approval" in page.content.decode()
    assert [(one.uid, one.open) for one, *_ in page.context["rows"]] == [(uid, False)]
    bob = person("bob")
    assert "1 request waits for your approval" in bob.get("/ui/").content.decode()
    assert "your approval" not in alice.get("/ui/").content.decode()
    assert [one.open for one, *_ in bob.get("/ui/approvals/").context["rows"]] == [True]
    assert cast(bob, uid).status_code == 302
    assert state(uid) == State.DESTROYED
    assert bob.get("/ui/approvals/").context["rows"] == []
    assert [str(outcome) for *_, outcome, _ in bob.get("/ui/approvals/?decided=1").context["rows"]] == ["approved"]
    assert AuditRecord.objects.filter(operation="Approve", user="bob").exists()


def test_a_refusal_ends_it(rule, alice, person, make):
    """When too few are left who could approve."""
    uid = destroy(alice, make)
    for name in ("bob", "carol"):
        browser = person(name)
        row = ApprovalRequest.objects.get(uid=uid)
        browser.post(f"/ui/approvals/{row.id}/vote/", {"digest": row.digest, "refuse": "1"})
    assert ApprovalRequest.objects.get().outcome == approvals.REFUSED
    assert state(uid) == State.PRE_ACTIVE


def test_a_vote_is_for_what_was_shown(rule, alice, person, make):
    """Another digest counts for nothing."""
    uid = destroy(alice, make)
    cast(person("bob"), uid, digest="00" * 32)
    assert state(uid) == State.PRE_ACTIVE


@pytest.mark.parametrize("who", ["alice", "eve", "root"])
def test_others_do_not_vote(rule, alice, person, make, who):
    """Neither who asked, nor who is not named, be it an administrator."""
    uid = destroy(alice, make)
    cast(person(who, superuser=who == "root"), uid)
    assert state(uid) == State.PRE_ACTIVE


def test_a_request_concerns_few(rule, alice, person, make):
    """Others do not see it; a tenant's administrator neither; nothing comes from another site."""
    uid = destroy(alice, make)
    Namespace.objects.create(name="tenant", created=0)
    for browser in (person("eve"), person("tenant/dave", superuser=True)):
        assert browser.get("/ui/approvals/").context["rows"] == []
        assert uid not in browser.get("/ui/approvals/?decided=1").content.decode()
    row = ApprovalRequest.objects.get()
    strict = Client(enforce_csrf_checks=True)
    assert strict.login(username="bob", password=PASSWORD)
    assert strict.post(f"/ui/approvals/{row.id}/vote/", {"digest": row.digest, "approve": "1"}).status_code == 403
    assert Client().post(f"/ui/approvals/{row.id}/vote/", {"approve": "1"}).status_code == 302
    assert state(uid) == State.PRE_ACTIVE


def test_only_administrators_set_rules(alice, root, person):
    """They alone see them, too."""
    person("bob").get("/ui/")
    assert set_rule(alice, people="alice").status_code == 403
    assert alice.post("/ui/approvals/rules/remove/", {"operation": "destroy"}).status_code == 403
    assert not ApprovalRule.objects.exists()
    assert set_rule(root, people="nobody").context["form"].errors
    assert set_rule(root, people="bob", needed="2").context["form"].errors
    set_rule(root, people="bob")
    assert ApprovalRule.objects.get().people == ["bob"]
    assert "What has to wait" not in alice.get("/ui/approvals/").content.decode()


def test_a_change_of_a_rule_waits_for_its_people(rule, root, person):
    """Else an administrator alone could take it away first."""
    root.post("/ui/approvals/rules/remove/", {"operation": "destroy"})
    assert ApprovalRule.objects.exists()
    row = ApprovalRequest.objects.get()
    person("bob").post(f"/ui/approvals/{row.id}/vote/", {"digest": row.digest, "approve": "1"})
    assert not ApprovalRule.objects.exists()


def test_a_look_at_a_certificate_asks_nobody(alice, root, person):
    """Its page reads it by Export, where that has not to wait."""
    person("bob").get("/ui/")
    uid = authority.root(user="alice")
    assert alice.get(address_of(uid)).context["certificate"]
    set_rule(root, operation="export", people="bob")
    forget()
    page = alice.get(address_of(uid))
    assert page.status_code == 200 and page.context["certificate"] is None
    assert not ApprovalRequest.objects.exists()


def test_what_waits_is_no_failure(alice, root, person, make):
    """A page of its own, another word at the use, and messages that are no errors; nothing is given out or done."""
    person("bob").get("/ui/")
    for operation in ("get", "grant", "destroy"):
        set_rule(root, operation=operation, people="bob")
    forget()
    uid, wrapping = make(name="precious"), make(name="wrapping", cryptographic_usage_mask=int(Mask.WRAP_KEY))
    alice.post(f"{address_of(wrapping)}do/activate/", {"asked": "1"})
    revealed = alice.post(f"{address_of(uid)}get/", {"password": PASSWORD})
    assert revealed.status_code == 202
    assert "Waits for approval" in revealed.content.decode() and "Not possible" not in revealed.content.decode()
    wrapped = alice.post("/ui/use/wrap/", {"uid": uid, "wrapping": wrapping, "encoding": "1", "send": "1"})
    assert wrapped.context["waits"] and not wrapped.context["form"].errors
    right = {"kind": "user", "name": "carol", "operations": ["get"]}
    chosen = {"_selected_action": [uid], "index": "0", "confirm": "1"}
    for answer in (
        alice.post(f"{address_of(uid)}rights/", right | {"grant": "1"}, follow=True),
        alice.post("/ui/objects/", right | chosen | {"action": "grant"}, follow=True),
        alice.post("/ui/objects/", chosen | {"action": "destroy", "sure": "on"}, follow=True),
    ):
        assert answer.status_code == 200
        assert {message.level_tag for message in answer.context["messages"]} == {"info"}
    assert state(uid) == State.PRE_ACTIVE
    assert not Grant.objects.exists()
