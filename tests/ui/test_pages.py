"""Every page: who gets it, what protects it, and how many queries it costs."""

import re

import pytest
from django.contrib.auth import get_user_model
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from keystore import access, administration, authn, clients, handshakes
from keystore.authn import Peer, accounts, tokens
from keystore.handshakes import Hello
from keystore.models import AuditRecord, Namespace, WaitingClient
from ui.objects import address_of

PAGES = (
    "/ui/",
    "/ui/objects/",
    "/ui/create/",
    "/ui/create/symmetric-key/",
    "/ui/create/key-pair/",
    "/ui/create/secret/",
    "/ui/create/opaque/",
    "/ui/create/certificate/",
    "/ui/create/split-key/",
    "/ui/create/joined/",
    "/ui/create/import/",
    "/ui/use/",
    "/ui/use/wrap/",
    "/ui/clients/",
    "/ui/clients/add/",
    "/ui/clients/tokens/",
    "/ui/authorities/",
    "/ui/people/",
    "/ui/people/groups/",
    "/ui/people/roles/",
    "/ui/me/",
    "/ui/notifications/",
    "/ui/approvals/",
    "/ui/destroyed/",
    "/ui/audit/",
    "/ui/console/",
    "/ui/settings/",
    "/ui/password/",
    "/ui/second-factor/",
)
OF_AN_OBJECT = ("", "get/", "rights/", "do/activate/", "do/revoke/", "do/destroy/")
#: Pages that only administrators see.
GUARDED = (
    "/ui/settings/",
    "/ui/clients/",
    "/ui/clients/add/",
    "/ui/clients/tokens/",
    "/ui/authorities/",
    "/ui/destroyed/",
)


@pytest.mark.parametrize("path", [*PAGES, "/ui/objects/export/csv/", "/ui/audit/export/csv/", "/ui/audit/1/"])
def test_nobody_sees_a_page_without_logging_in(client, path):
    """Strangers are sent to the log-in, and from there to where they wanted to go."""
    answer = client.get(path)
    assert answer.status_code == 302
    assert answer["Location"] == f"/ui/login/?next={path}"


@pytest.mark.parametrize("path", PAGES)
def test_an_administrator_sees_every_page(root, path):
    """A page works, loads nothing from elsewhere, and has no script or style inside."""
    answer = root.get(path)
    assert answer.status_code == 200
    text = answer.content.decode()
    assert re.search(r"<script(?![^>]* src=\"/static/)", text) is None
    assert "<style" not in text
    assert re.search(r"\s(style|on[a-z]+)=", text) is None
    assert re.search(r"(src|href|action)=\"(https?:)?//", text) is None


@pytest.mark.parametrize("path", PAGES)
def test_headers_keep_pages_safe(root, path):
    """Nothing is cached, framed, sniffed or loaded from elsewhere."""
    headers = root.get(path, secure=True).headers
    policy = dict(part.partition(" ")[::2] for part in headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["form-action"] == "'self'"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "same-origin"
    assert "no-store" in headers["Cache-Control"]


def test_browsers_are_told_to_stay_with_https(root, settings):
    """With TLS configured, pages carry Strict-Transport-Security."""
    settings.SECURE_HSTS_SECONDS = 60
    client = Client()
    assert client.get("/ui/login/", secure=True)["Strict-Transport-Security"] == "max-age=60"


@pytest.mark.parametrize("path", GUARDED)
def test_pages_of_administrators_are_refused_to_others(alice, path):
    """Without the role there is a page that says so, and no entry in the menu."""
    answer = alice.get(path)
    assert answer.status_code == 403
    assert f'href="{path}"' not in alice.get("/ui/").content.decode()


def test_a_person_whom_the_key_store_refuses_sees_why(alice, make):
    """A disabled account still has a session at Django's, but no page of the key store."""
    make()
    from keystore.models import Account

    Account.objects.filter(username="alice").update(disabled=True)
    authn.forget()
    answer = alice.get("/ui/objects/")
    assert answer.status_code == 403
    assert "disabled" in answer.content.decode()


@pytest.mark.parametrize("part", OF_AN_OBJECT)
def test_an_object_of_another_user_does_not_exist(person, make, part):
    """Every page of an object answers others as if there were none."""
    uid = make("alice", name="alice's")
    bob = person("bob")
    absent = bob.get(f"{address_of('there-is-none')}{part}")
    answer = bob.get(f"{address_of(uid)}{part}")
    assert answer.status_code == absent.status_code == 404
    assert bob.post(f"{address_of(uid)}{part}", {"password": "x", "reason": 1, "sure": "on"}).status_code == 404


@pytest.mark.parametrize("part", OF_AN_OBJECT)
def test_an_object_of_another_namespace_does_not_exist(person, make, part):
    """An administrator of one namespace sees nothing of another, whatever the identifier."""
    Namespace.objects.create(name="tenant", created=0)
    get_user_model().objects.create_superuser("tenant/carol", password="correct horse battery")
    uid = make("alice", name="of the default namespace")
    carol = person("tenant/carol")
    assert carol.get(f"{address_of(uid)}{part}").status_code == 404
    assert "of the default namespace" not in carol.get("/ui/objects/?q=of+the").content.decode()
    assert AuditRecord.objects.filter(object=uid).exists()
    assert uid not in carol.get("/ui/audit/").content.decode()


@pytest.mark.parametrize(
    "path", [*PAGES, "/ui/objects/columns/", "/ui/theme/", "/ui/language/", "/ui/logout/", "/ui/clients/bundle/"]
)
def test_forms_need_their_token(person, path):
    """A form that another site sends is refused."""
    person("root", superuser=True)
    client = Client(enforce_csrf_checks=True)
    assert client.login(username="root", password="correct horse battery")
    assert client.post(path, {"theme": "dark"}).status_code == 403


@pytest.mark.parametrize("part", OF_AN_OBJECT[1:])
def test_forms_of_an_object_need_their_token(person, make, part):
    """No object is changed or revealed by what another site sends."""
    person("alice")
    uid = make("alice")
    client = Client(enforce_csrf_checks=True)
    assert client.login(username="alice", password="correct horse battery")
    assert client.post(f"{address_of(uid)}{part}", {"password": "correct horse battery"}).status_code == 403


@pytest.mark.parametrize(
    "path, most",
    [
        ("/ui/", 22),
        ("/ui/objects/", 4),
        ("/ui/objects/?q=key", 6),
        ("/ui/objects/?type=SymmetricKey&algorithm=AES&length=256", 7),
        ("/ui/objects/?state=PreActive", 7),
        ("/ui/audit/", 4),
        ("/ui/create/symmetric-key/", 3),
    ],
)
def test_queries_do_not_grow_with_rows(root, make, path, most):
    """A page costs a few queries, as many for 40 objects as for one."""
    make("root", name="key 0")
    few = queries(root, path)
    for number in range(1, 40):
        make("root", name=f"key {number}")
    assert queries(root, path) == few <= most


def queries(root, path):
    """What a page costs, besides what a process asks once or believes for some seconds."""
    root.get(path)
    with CaptureQueriesContext(connection) as asked:
        assert root.get(path).status_code == 200, path
    return len(asked)


def furnish(root, numbers, key):
    """A few more of everything that some page lists."""
    peer, who = administration.local("default")
    for number in numbers:
        user = f"user-{number}"
        administration.add_user(peer, who, user)
        administration.set_members(peer, who, f"group-{number}", add=[user])
        administration.set_role(peer, who, f"role-{number}", operations=["get"], everywhere=[], object_types=[])
        administration.give_role(peer, who, f"role-{number}", f"user:{user}")
        administration.give_role(peer, who, "auditor", f"group:group-{number}")
        tokens.issue(accounts.find("default", "root"), f"token {number}", scopes=[], expires=None)
        access.grant(Peer("ui", user="root"), authn.identify(Peer("ui", user="root")), key, f"user:{user}", access.ALL)
        handshakes.write([(handshakes.Entry("kmip", f"192.0.2.{number}", False, "r", "", Hello(), "", None, 1, 1), 1)])
        WaitingClient.objects.create(
            fingerprint=f"{number:064}", certificate=b"", not_after=1, first_seen=1, last_seen=1
        )
        root.post("/ui/clients/tokens/", {"name": user})
        root.post("/ui/authorities/", {"make": "1", "authority": f"Authority {number}"})
        clients.enrol(Peer("ui", user="root"), user, clients.new_request(user, "p256")[1])
        access.grant(Peer("ui", user="root"), authn.identify(Peer("ui", user="root")), key, f"user:{user}", access.ALL)
        made = root.post("/ui/create/symmetric-key/", {"name": f"key {number}", "algorithm": "AES:256"})["Location"]
        root.post(f"{made}do/destroy/", {"sure": "on"})  # Waits for approval.


def test_no_page_asks_more_for_more_rows(root, person, make):
    """Every list of the console costs as many queries for six rows as for two."""
    uid = make("root", name="shared")
    for name in ("ann", "ben"):
        person(name).get("/ui/")
    rule = {"rule": "1", "operation": "destroy", "needed": "1", "people": "ann, root, ben", "hours": "24"}
    assert root.post("/ui/approvals/", rule).status_code == 302
    authn.forget()
    paths = [*PAGES, "/ui/approvals/?decided=1", "/ui/people/users/root/", "/ui/people/groups/shared/"]
    paths += [f"{address_of(uid)}{part}" for part in ("", "rights/")]
    peer, who = administration.local("default")
    costs = []
    for numbers in (range(1, 3), range(3, 7)):
        furnish(root, numbers, uid)
        administration.set_members(peer, who, "shared", add=[f"user-{number}" for number in numbers])
        cost = {}
        for path in paths:
            # What a process asks once, or anew every few seconds, is not a page's.
            cost[path] = min(queries(root, path) for _ in range(3))
        costs.append(cost)
    assert {path: (costs[0][path], count) for path, count in costs[1].items() if count > costs[0][path]} == {}
    assert max(costs[1].values()) <= 25, costs[1]


def test_the_theme_is_kept(alice):
    """Colours are the person's, and only pages of this server are gone back to."""
    answer = alice.post("/ui/theme/", {"theme": "dark", "next": "https://elsewhere.example/"})
    assert answer["Location"] == "/ui/"
    assert 'data-theme="dark"' in alice.get("/ui/").content.decode()
