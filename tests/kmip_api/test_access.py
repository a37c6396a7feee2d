"""The access API: who may do what, tokens, and the document that describes it."""

import re
import time

import pytest
from django.test import Client
from django.urls import resolve

from keystore import administration, authn, roles, version
from keystore.authn import accounts
from keystore.models import AuditRecord, Grant
from kmip.payloads import EncryptRequest
from kmip_api import access
from kmip_api.access import ENDPOINTS
from tests.kmip_api.conftest import Caller
from tests.made import created

pytestmark = pytest.mark.django_db


@pytest.fixture
def alice(caller):
    return caller("alice")


@pytest.fixture
def bob(caller):
    return caller("bob")


@pytest.fixture
def key(alice) -> str:
    return created("alice")


def given(uid: str, to: str = "bob", operations=("encrypt", "decrypt"), **others):
    return {"unique_identifier": uid, "user_id": to, "operation_types": list(operations), **others}


def test_a_session_of_grants(alice, bob, key):
    """Granted, listed, obtained and revoked, in the words that clients know."""
    status, owned = alice.get("/access/owned")
    assert (status, [one["object_id"] for one in owned], owned[0]["state"]) == (200, [key], "PreActive")
    assert owned[0]["attributes"]["CryptographicLength"] == 128
    assert bob.get("/access/owned") == (200, [])
    assert bob.get("/access/obtained") == (200, [])

    answer = alice.post("/access/grant", given(key))
    assert answer == (200, {"success": "Access for bob successfully added"})
    assert alice.post("/access/grant", given(key, operations=["get_attributes"]))[0] == 200
    assert alice.get(f"/access/list/{key}") == (
        200, [{"user_id": "bob", "operations": ["decrypt", "encrypt", "get_attributes"]}],
    )  # fmt: skip
    assert bob.get("/access/obtained") == (
        200,
        [
            {
                "object_id": key,
                "owner_id": "alice",
                "state": "PreActive",
                "operations": ["decrypt", "encrypt", "get_attributes"],
            }
        ],
    )
    answer = alice.post("/access/revoke", given(key, operations=["encrypt"]))
    assert answer == (200, {"success": "Access for bob successfully deleted"})
    assert bob.get("/access/obtained")[1][0]["operations"] == ["decrypt", "get_attributes"]
    alice.post("/access/revoke", given(key, operations=["decrypt", "get_attributes"]))
    assert bob.get("/access/obtained") == (200, [])
    assert not Grant.objects.exists()


def test_everybody_and_groups(alice, bob, key):
    assert alice.post("/access/grant", given(key, "*", ["get"]))[1] == {"success": "Access for * successfully added"}
    assert bob.get("/access/obtained")[1][0]["operations"] == ["get"]
    group = given(key, operations=["get"])
    group["group_id"] = "operators"
    assert alice.post("/access/grant", group)[0] == 422
    del group["user_id"]
    assert alice.post("/access/grant", group) == (200, {"success": "Access for group:operators successfully added"})


def test_a_grant_ends(alice, bob, key):
    """With its last second, in the lists and for the operation."""
    assert alice.post("/access/grant", given(key, expires=int(time.time()) - 1))[0] == 422
    assert alice.post("/access/grant", given(key, expires=int(time.time()) + 60))[0] == 200
    assert len(bob.get("/access/obtained")[1]) == 1
    Grant.objects.update(expires=1)
    assert bob.get("/access/obtained") == (200, [])
    assert alice.get(f"/access/list/{key}") == (200, [])


@pytest.mark.parametrize("path", ["/access/grant", "/access/revoke"])
def test_only_owners_decide(path, alice, bob, caller, key):
    """Not who was granted something, not another namespace's user of the same name; nobody for oneself."""
    assert bob.post(path, given(key, "carol"))[:1] == (422,)
    alice.post("/access/grant", given(key))
    assert bob.post(path, given(key, "carol"))[0] == 403
    assert bob.post(path, given(key, "bob", ["destroy"]))[0] == 403
    assert caller("alice", namespace="tenant").post(path, given(key, "carol"))[0] == 422
    assert alice.post(path, given(key, "alice"))[0] == 422
    assert bob.get(f"/access/list/{key}")[0] == 403
    assert [(one.principal, roles.operations_in(one.operations)) for one in Grant.objects.all()] == [
        ("user:bob", [roles.NAMES["encrypt"], roles.NAMES["decrypt"]])
    ]


BAD = {
    "no identifier": {"user_id": "bob", "operation_types": ["get"]},
    "no operations": {"unique_identifier": "x", "user_id": "bob"},
    "an empty list": {"unique_identifier": "x", "user_id": "bob", "operation_types": []},
    "an unknown operation": {"unique_identifier": "x", "user_id": "bob", "operation_types": ["fly"]},
    "an operation on no object": {"unique_identifier": "x", "user_id": "bob", "operation_types": ["create"]},
    "a number for a text": {"unique_identifier": 7, "user_id": "bob", "operation_types": ["get"]},
    "a list": [],
    "a text": '"text"',
    "no JSON": "{",
    "a truth for a time": {"unique_identifier": "x", "user_id": "bob", "operation_types": ["get"], "expires": True},
    "nobody": {"unique_identifier": "x", "operation_types": ["get"]},
    "a name that is none": {"unique_identifier": "x", "user_id": " bob", "operation_types": ["get"]},
}


@pytest.mark.parametrize("body", BAD.values(), ids=BAD)
def test_bad_bodies_are_refused(body, alice):
    status, answer = alice.post("/access/grant", body)
    assert status == 422
    assert set(answer) == {"error", "message"}


def test_only_json_is_read(alice, key):
    """A form of another site cannot send it."""
    assert alice.post("/access/grant", "unique_identifier=x", "application/x-www-form-urlencoded")[0] == 422


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda one: f"{one.method} {one.path}")
@pytest.mark.parametrize("token", [None, "", "kms_0123456789abcdef_" + "A" * 43, "nonsense"])
def test_nothing_is_answered_without_a_credential(endpoint, token, keyed, configure, recorded):
    """With 401, and a record of the attempt."""
    configure(**{"auth.jwt_auth_provider": ("https://issuer.example|/no/file|kms",)})
    path = "/" + re.sub("{.*}", "x", endpoint.path)
    status, answer = getattr(Caller(token), endpoint.method.lower())(path, *([{}] if endpoint.method == "POST" else []))
    assert (status, answer["error"]) == (401, "Authentication_Not_Successful")
    assert recorded() == [("", endpoint.record, "AuthenticationNotSuccessful")]


def test_reads_changes_and_refusals_are_recorded(alice, bob, key, recorded):
    AuditRecord.objects.all().delete()
    alice.post("/access/grant", given(key))
    alice.get(f"/access/list/{key}")
    bob.get(f"/access/list/{key}")
    bob.post("/access/grant", given(key, "carol"))
    assert recorded() == [
        ("alice", "Grant Access", "Success"),
        ("bob", "Grant Access", "PermissionDenied"),
        ("alice", "List Access", "Success"),
        ("bob", "List Access", "PermissionDenied"),
    ]
    assert AuditRecord.objects.filter(object=key).count() == 4


def test_who_one_is_and_what_one_may(alice, caller, configure):
    assert alice.get("/me") == (200, {"user": "alice"})
    assert alice.get("/access/create") == (200, {"has_create_permission": True})
    assert alice.get("/access/privileged") == (200, {"has_privileged_access": False})
    assert caller("carol", scopes=["get"]).get("/access/create") == (200, {"has_create_permission": False})
    status, told = alice.get("/server-info")
    assert (status, told["version"]) == (200, version.VERSION)
    assert alice.get("/access/owned?limit=x")[0] == 422


def test_tokens_are_made_listed_and_revoked(alice, bob):
    """Shown once, listed without their secret, and good for nothing once they are revoked."""
    soon = int(time.time()) + 3600
    status, made = alice.post("/access/tokens", {"name": "backup", "scopes": ["encrypt", "access"], "expires": soon})
    assert status == 201
    assert Caller(made["token"]).get("/me") == (200, {"user": "alice"})
    listed = alice.get("/access/tokens")[1]
    (mine,) = [one for one in listed if one["id"] == made["id"]]
    assert (mine["name"], mine["scopes"], mine["expires"]) == ("backup", ["encrypt", "access"], soon)
    assert mine["last_used"] is not None
    assert made["token"] not in str(listed)
    assert made["id"] not in str(bob.get("/access/tokens"))
    assert bob.delete(f"/access/tokens/{made['id']}")[0] == 422
    assert alice.delete(f"/access/tokens/{made['id']}")[0] == 200
    assert Caller(made["token"]).get("/me")[0] == 401
    assert alice.delete(f"/access/tokens/{made['id']}")[0] == 422


def test_a_limited_token_makes_no_wider_one(caller, key):
    """Nor does one change rights without the scope for it."""
    limited = caller("alice", scopes=["encrypt", "access"])
    assert limited.post("/access/tokens", {"name": "wide"})[0] == 403
    assert limited.post("/access/tokens", {"name": "wide", "scopes": ["decrypt"]})[0] == 403
    assert limited.post("/access/tokens", {"name": "same", "scopes": ["encrypt"]})[0] == 201
    use = caller("alice", scopes=["encrypt"])
    assert use.post("/access/tokens", {"name": "same", "scopes": ["encrypt"]})[0] == 403
    assert use.post("/access/grant", given(key))[0] == 403
    assert use.post("/access/revoke", given(key))[0] == 403


def test_the_document_describes_every_path(client):
    """OpenAPI, for everybody: each path, with its parameters, body and answers."""
    document = client.get("/openapi.json").json()
    assert document["openapi"] == "3.1.0"
    described = {(path, method) for path, methods in document["paths"].items() for method in methods}
    assert described == {(f"/{one.path}", one.method.lower()) for one in ENDPOINTS}
    names = [one["operationId"] for methods in document["paths"].values() for one in methods.values()]
    assert len(names) == len(set(names))
    for path, methods in document["paths"].items():
        assert resolve(path.replace("{", "").replace("}", "")).func.view_class is access.AccessView
        for one in methods.values():
            parts = {part["name"] for part in one.get("parameters", ()) if part["in"] == "path"}
            assert parts == set(re.findall(r"{(\w+)}", path))
            assert "default" in one["responses"]


def test_answers_are_as_the_document_says(alice, bob, key):
    """Types and required members of what each path answers."""
    alice.post("/access/grant", given(key))
    for endpoint in ENDPOINTS:
        if endpoint.method != "GET":
            continue
        for who in (alice, bob):
            status, answer = who.get("/" + endpoint.path.replace("{object_id}", key))
            if status == 200:
                access.check(endpoint.response, answer, endpoint.path)


def test_the_right_to_get_does_not_imply_use(alice, bob, key, configure):
    """Unless the settings say so, as other servers have it."""
    from keystore import engine
    from keystore.authn import Peer
    from kmip.enums import Operation, ResultReason
    from kmip.errors import KMIPError

    alice.post("/access/grant", given(key, operations=["get"]))
    request = EncryptRequest(unique_identifier=key, data=b"0123456789abcdef")
    for implies, reason in ((False, ResultReason.PERMISSION_DENIED), (True, ResultReason.WRONG_KEY_LIFECYCLE_STATE)):
        configure(**{"access.get_implies_use": implies})
        authn.forget()
        with pytest.raises(KMIPError) as refusal:
            engine.execute(Operation.ENCRYPT, request, Peer("cli", user="bob"))
        assert refusal.value.reason is reason


def test_other_methods_are_refused(client: Client):
    assert client.put("/access/owned").status_code == 405


def test_numbers_of_the_server_are_for_people_of_the_default_namespace(caller, configure):
    """Whatever that is called: `/metrics` counts what every namespace does."""
    administration.give_role(*administration.local("default"), "auditor", "user:olga")
    accounts.namespace("home", make=True)
    administration.give_role(*administration.local("home"), "auditor", "user:olga")
    callers = {name: caller("olga", namespace=name) for name in ("default", "home")}
    for default, other in (("default", "home"), ("home", "default")):
        configure(**{"auth.default_namespace": default})
        assert callers[default].status("/metrics") == 200
        assert callers[other].status("/metrics") == 403
    assert caller("nobody").status("/metrics") == 403 and Caller(None).status("/metrics") == 200
    configure(**{"auth.http_basic": True})
    authn.forget()
    assert Caller(None).status("/metrics") == 401
