"""People: users, groups, roles, tokens and rights; who may change them, and who must not even see them."""

import re

import pytest
from django.contrib.auth import get_user_model
from django.test import Client

from keystore import access, administration, clock, directory, roles
from keystore.authn import Peer, accounts, forget, identify, totp
from keystore.models import Account, ApiToken, AuditRecord, Grant, Group, Namespace, Notification, Role, RoleAssignment
from kmip.enums import Operation
from tests.ui.conftest import PASSWORD
from ui.objects import address_of, key_of
from ui.rights import OPERATIONS

PAGES = ("/ui/people/", "/ui/people/groups/", "/ui/people/roles/")
GOOD = "a long enough phrase"


@pytest.fixture
def bob(root):
    """The page of a user whom the administrator registered."""
    assert root.post("/ui/people/", {"name": "bob"}).status_code == 302
    return "/ui/people/users/bob/"


def recorded(operation, user="root"):
    """Whether a change is on record."""
    return AuditRecord.objects.filter(operation=operation, user=user, result="Success").exists()


def said(browser, path):
    """The messages of the next page."""
    return [str(one) for one in browser.get(path).context["messages"]]


def test_a_person_is_added_and_logs_in(root):
    """With a password that Django's validators accept; a weak one is refused at the form."""
    assert root.post("/ui/people/", {"name": "carol", "password": "123"}).context["form"].errors
    assert not get_user_model().objects.filter(username="carol").exists()
    answer = root.post("/ui/people/", {"name": "carol", "password": GOOD})
    assert answer["Location"] == "/ui/people/users/carol/"
    browser = Client()
    assert browser.login(username="carol", password=GOOD)
    assert browser.get("/ui/objects/").status_code == 200
    assert root.post("/ui/people/", {"name": "carol", "password": GOOD}).context["form"].errors
    assert recorded("Add Person")
    assert GOOD not in str(list(AuditRecord.objects.values()))


def test_a_user_is_disabled_and_let_in_again(root, bob):
    """However it authenticates."""
    root.post(bob, {"do": "person", "password": GOOD})
    browser = Client()
    assert browser.login(username="bob", password=GOOD)
    root.post(bob, {"do": "disable"})
    forget()
    assert browser.get("/ui/objects/").status_code == 302
    root.post(bob, {"do": "enable"})
    forget()
    assert browser.get("/ui/objects/").status_code == 302
    assert browser.login(username="bob", password=GOOD)
    assert browser.get("/ui/objects/").status_code == 200
    assert recorded("Disable User")


def test_passwords_are_set(root, bob):
    """For the console and for KMIP, apart; weak ones are refused with a word about why."""
    root.post(bob, {"do": "person", "password": GOOD})
    root.post(bob, {"do": "person_password", "password": GOOD + " too"})
    assert Client().login(username="bob", password=GOOD + " too")
    root.post(bob, {"do": "kmip_password", "password": "1"})
    assert Account.objects.get(username="bob").password == ""
    assert any("too short" in one for one in said(root, bob))
    root.post(bob, {"do": "kmip_password", "password": GOOD})
    assert Account.objects.get(username="bob").password != ""


def test_roles_are_given_and_taken(root, bob):
    """To users and groups; a role that a group has is shown as such."""
    root.post(bob, {"do": "give", "role": "auditor"})
    root.post("/ui/people/groups/", {"name": "operators"})
    root.post("/ui/people/groups/operators/", {"do": "give", "role": "operator"})
    root.post(bob, {"do": "join", "name": "operators"})
    found = root.get(bob).context["found"]
    assert (found.roles, found.inherited, found.groups) == (["auditor"], [("operator", "operators")], ["operators"])
    root.post(bob, {"do": "take", "role": "auditor"})
    assert root.get(bob).context["found"].roles == []
    root.post(bob, {"do": "give", "role": "no such role"})
    assert any("no role" in one for one in said(root, bob))
    assert recorded("Give Role")


def test_groups_are_made_filled_and_removed(root, bob):
    """A member is a user that there is."""
    root.post("/ui/people/groups/", {"name": "payments & more"})
    page = f"/ui/people/groups/{key_of('payments & more')}/"
    root.post(page, {"do": "join", "name": "bob"})
    root.post(page, {"do": "join", "name": "nobody"})
    assert [name for name, _ in root.get(page).context["members"]] == ["bob"]
    assert root.get("/ui/people/groups/").context["rows"][0][2] == 1
    root.post(page, {"do": "leave", "name": "bob"})
    assert root.get(page).context["members"] == []
    assert root.post(page, {"do": "remove"})["Location"] == "/ui/people/groups/"
    assert not Group.objects.exists()
    assert root.get(page).status_code == 404


def test_a_role_is_defined_changed_and_removed(root):
    """From operations and types; what is built in stays."""
    data = {"name": "signer", "operations": ["sign", "get_attributes"], "object_types": ["PrivateKey"]}
    assert root.post("/ui/people/roles/", data).status_code == 302
    role = Role.objects.get()
    assert (role.operations, role.object_types) == (["get_attributes", "sign"], ["PrivateKey"])
    form = root.get("/ui/people/roles/?edit=signer").context["form"]
    assert form["operations"].value() == ["get_attributes", "sign"]
    root.post("/ui/people/roles/", data | {"operations": ["sign"], "everywhere": ["get_attributes"]})
    assert Role.objects.get().operations == ["sign"]
    assert root.post("/ui/people/roles/", data | {"name": "operator"}).context["form"].errors
    root.post("/ui/people/roles/", {"remove": "signer"})
    assert not Role.objects.exists()
    assert {name for name, *_ in root.get("/ui/people/roles/").context["rows"]} == set(roles.BUILT_IN)


def test_a_token_is_shown_once_and_revoked(root, bob):
    """A user's, made by an administrator; limited to what was chosen."""
    page = root.post(bob, {"token_new": "1", "name": "backup job", "days": "30", "scopes": ["get"]})
    token = page.context["token"]
    assert token in page.content.decode()
    assert token not in root.get(bob).content.decode()
    identity = identify(Peer("http", "192.0.2.1", headers={"Authorization": f"Bearer {token}"}))
    assert (identity.username, roles.operations_in(identity.operations)) == ("bob", [Operation.GET])
    root.post(bob, {"do": "revoke", "token": ApiToken.objects.get().id})
    assert ApiToken.objects.get().revoked is not None
    assert root.get(bob).context["tokens"] == []
    assert recorded("Create Token")


def test_one_s_own_tokens(alice):
    """Everybody makes and revokes their own, and nobody else's."""
    page = alice.post("/ui/me/", {"token_new": "1", "name": "script", "days": ""})
    assert page.context["token"].startswith("kms_")
    alice.post("/ui/me/", {"revoke": ApiToken.objects.get().id})
    assert ApiToken.objects.get().revoked is not None
    theirs = accounts.ensure("default", "bob")
    administration.tokens.issue(theirs, "bob's")
    alice.post("/ui/me/", {"revoke": ApiToken.objects.get(account=theirs).id})
    assert ApiToken.objects.get(account=theirs).revoked is None


def test_one_s_own_page_tells_who_one_is(alice, make):
    """Roles, groups, and the rights given and received."""
    mine, theirs = make(name="mine"), make("bob", name="bob's")
    grant(alice, mine, name="bob")
    access.grant(
        Peer("ui", user="bob"), identify(Peer("ui", user="bob")), theirs, "user:alice", roles.bits([Operation.GET])
    )
    page = alice.get("/ui/me/")
    assert page.context["roles"] == ["client"]
    assert [(one["object_id"], one["owner_id"]) for one, *_ in page.context["obtained"]] == [(theirs, "bob")]
    assert [(one.uid, to) for one, _, to, _ in page.context["given"]] == [(mine, "bob")]


def test_notifications_that_wait_are_shown(root, alice, person):
    """One's own; an administrator sees those of its namespace, and why they were not taken."""
    now = clock.now()
    for namespace, name in (("default", "alice"), ("default", "bob"), ("tenant", "alice")):
        Notification.objects.create(
            namespace=namespace, username=name, operation=int(Operation.NOTIFY), uid=f"{namespace}-{name}", created=now,
            expires=now + clock.SECOND * 60, attempts=2, last_error="the client hung up",
        )  # fmt: skip
    Notification.objects.create(
        namespace="default", username="alice", operation=int(Operation.PUT), uid="old", created=1, expires=2
    )
    assert [one.uid for one, *_ in alice.get("/ui/notifications/").context["rows"]] == ["default-alice"]
    page = root.get("/ui/notifications/")
    assert [one.uid for one, *_ in page.context["rows"]] == ["default-alice", "default-bob"]
    assert "the client hung up" in page.content.decode()


# Rights on objects.


def grant(browser, uid, **changed):
    """The answer to a grant on an object's page."""
    data = {"grant": "1", "kind": "user", "name": "bob", "operations": ["get", "encrypt"], "expires": ""}
    return browser.post(f"{address_of(uid)}rights/", data | changed)


def test_a_right_is_given_and_taken(alice, person, make):
    """The one it was given to sees the object from then on, and no more after that."""
    uid, bob = make(name="shared"), person("bob")
    assert bob.get(address_of(uid)).status_code == 404
    assert grant(alice, uid).status_code == 302
    page = alice.get(f"{address_of(uid)}rights/")
    assert [(to, operations) for _, to, operations, _ in page.context["grants"]] == [("bob", "Get, Encrypt")]
    assert bob.get(address_of(uid)).status_code == 200
    mine = bob.get(f"{address_of(uid)}rights/")
    assert (mine.context["decides"], "grants" in mine.context) == (False, False)
    assert "Encrypt" in mine.context["mine"]
    alice.post(f"{address_of(uid)}rights/", {"take": "user:bob"})
    assert bob.get(address_of(uid)).status_code == 404
    assert recorded("Grant Access", "alice")
    assert recorded("Revoke Access", "alice")


@pytest.mark.parametrize(
    "changed, principal",
    [
        ({"kind": "group", "name": "operators"}, "group:operators"),
        ({"kind": "everybody", "name": ""}, "*"),
        ({"name": "group:operators"}, "user:group:operators"),
    ],
)
def test_rights_go_to_users_groups_and_everybody(alice, make, changed, principal):
    """A user may be called what looks like a group."""
    uid = make(name="shared")
    grant(alice, uid, **changed)
    assert Grant.objects.get().principal == principal
    (row,) = alice.get(f"{address_of(uid)}rights/").context["grants"]
    alice.post(f"{address_of(uid)}rights/", {"take": row[0].principal})
    assert not Grant.objects.exists()


@pytest.mark.parametrize(
    "changed",
    [{"name": ""}, {"name": "*"}, {"name": "alice"}, {"operations": []}, {"operations": ["create"]},
     {"expires": "2001-01-01T00:00"}],
)  # fmt: skip
def test_senseless_rights_are_refused_at_the_form(alice, make, changed):
    """Nothing is given."""
    page = grant(alice, make(name="mine"), **changed)
    assert page.status_code == 200
    assert page.context["form"].errors
    assert not Grant.objects.exists()


def test_who_does_not_decide_gives_nothing(alice, person, make):
    """Not even with a right to everything."""
    uid = make(name="shared")
    grant(alice, uid, operations=[name for name, _ in OPERATIONS])
    bob = person("bob")
    assert grant(bob, uid, name="eve").context["form"].errors
    taken = bob.post(f"{address_of(uid)}rights/", {"take": "user:bob"}, follow=True)
    assert [message.level_tag for message in taken.context["messages"]] == ["error"]
    assert "Get" in taken.context["mine"]
    assert grant(person("eve"), uid).status_code == 404
    assert Grant.objects.count() == 1


def test_rights_are_given_on_several_at_once(alice, make):
    """After a confirmation that says whose they are."""
    first, second, theirs = make(name="one"), make(name="two"), make("bob", name="bob's")
    access.grant(
        Peer("ui", user="bob"), identify(Peer("ui", user="bob")), theirs, "user:alice", roles.bits([Operation.GET])
    )
    chosen = {"action": "grant", "index": "0", "_selected_action": [first, second, theirs]}
    assert "Only its owner decides about it." in alice.post("/ui/objects/", chosen).content.decode()
    given = {"confirm": "1", "kind": "group", "name": "g", "operations": ["get"]}
    assert alice.post("/ui/objects/", chosen | given).status_code == 302
    assert set(Grant.objects.filter(principal="group:g").values_list("object_id", flat=True)) == {first, second}


def test_an_administrator_sees_and_takes_away_a_second_factor(root, bob):
    """Of somebody who has lost it."""
    assert "Take away the second factor" not in root.get(bob).content.decode()
    totp.put(Account.objects.get(username="bob"), totp.new_secret())
    page = root.get(bob)
    assert page.context["factor"]
    assert root.post(bob, {"do": "reset_factor"})["Location"] == bob
    assert not totp.has(Account.objects.get(username="bob"))
    assert AuditRecord.objects.filter(operation="Reset Second Factor", user="root", result="Success").exists()


# Who must not.


def test_only_administrators_see_people(root, person, bob):
    """Nothing for strangers, users, operators and auditors; nothing from another site."""
    root.post("/ui/people/groups/", {"name": "g"})
    addresses = (*PAGES, bob, "/ui/people/groups/g/")
    others = [person("alice")]
    for role in ("operator", "auditor"):
        browser = person(role)
        browser.get("/ui/")
        RoleAssignment.objects.create(namespace_id="default", principal=f"user:{role}", role=role)
        others.append(browser)
    strict = Client(enforce_csrf_checks=True)
    assert strict.login(username="root", password=PASSWORD)
    forms = {"name": "eve", "do": "give", "role": "administrator", "operations": ["get"]}
    for address in addresses:
        assert Client().get(address).status_code == 302, address
        assert strict.post(address, forms).status_code == 403, address
        for browser in others:
            assert browser.get(address).status_code == 403, address
            assert browser.post(address, forms).status_code == 403, address
            assert 'href="/ui/people/"' not in browser.get("/ui/").content.decode()
    assert not RoleAssignment.objects.filter(role="administrator").exists()
    assert not Account.objects.filter(username="eve").exists()


def test_a_tenant_s_administrator_sees_its_own_people(root, person, bob):
    """And makes people of its own namespace only; the same name there is somebody else."""
    Namespace.objects.create(name="tenant", created=0)
    carol = person("tenant/carol", superuser=True)
    assert carol.get(bob).status_code == 404
    assert carol.post(bob, {"do": "give", "role": "administrator"}).status_code == 404
    carol.post("/ui/people/", {"name": "bob", "password": GOOD})
    assert get_user_model().objects.filter(username="tenant/bob").exists()
    assert {one.username for one, *_ in carol.get("/ui/people/").context["rows"]} == {"carol", "bob"}
    assert directory.user("default", "bob").account.user is None
    assert "tenant" not in str([row[0].username for row in root.get("/ui/people/").context["rows"]])


def test_users_are_paged_by_name(root, monkeypatch, django_assert_max_num_queries):
    """Without a gap, with as many queries for a full page as for one row."""
    from ui.pages import people

    monkeypatch.setattr(people, "PAGE", 3)
    for name in "abcdefg":
        accounts.ensure("default", f"user-{name}")
    root.get("/ui/people/")  # What a process asks once is not a page's.
    found, address = [], "/ui/people/?q=user-"
    while address:
        with django_assert_max_num_queries(5):
            page = root.get(address)
        found += [one.username for one, *_ in page.context["rows"]]
        link = re.search(r'rel="next" href="([^"]+)"', page.content.decode())
        address = link and link[1].replace("&amp;", "&")
    assert found == [f"user-{name}" for name in "abcdefg"]
