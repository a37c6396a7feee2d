"""What has gone wrong in comparable servers and must not here: one test a published weakness.

Identifiers are those of the advisory, where it has one; the words say what was possible.
"""

import json
import logging
import time

import pyotp
import pytest
from django.test import Client

from keystore import access, administration, authn, call, conf, engine, sealing
from keystore.authn import Peer, accounts, credentials, tokens, totp
from keystore.models import Account, AuditRecord, Grant, ManagedObject
from kmip import payloads
from kmip.attributes import Attributes, References
from kmip.enums import (
    CryptographicUsageMask,
    ObjectType,
    Operation,
    ResultReason,
    RevocationReasonCode,
    WrappingMethod,
)
from kmip.errors import KMIPError
from kmip.structures import EncryptionKeyInformation, KeyWrappingSpecification, RevocationReason
from kmip.tags import Tag
from tests.authority import do, refused
from tests.made import activate, asked, created, key, registered, seen

pytestmark = pytest.mark.django_db

DENIED, ABSENT = ResultReason.PERMISSION_DENIED, ResultReason.OBJECT_NOT_FOUND
SECRET = bytes.fromhex("5ec2e75ec2e75ec2e75ec2e75ec2e75e")


@pytest.fixture(autouse=True)
def keyed(db):
    """A root key, and nobody believed from the test before."""
    sealing.create_root_key(conf.current().sealing.root_key_file)
    sealing.reset()
    authn.forget()
    yield
    authn.forget()
    sealing.reset()


@pytest.fixture
def root():
    return administration.local("default")


def grant(uid: str, *operations: str, to: str = "user:bob", owner: str = "alice") -> None:
    peer = Peer("cli", user=owner)
    access.grant(peer, authn.identify(peer), uid, to, access.operations_named(operations))


def bearer(name: str = "alice", **options) -> dict[str, str]:
    _, token = tokens.issue(accounts.ensure("default", name), "test", **options)
    return {"Authorization": f"Bearer {token}"}


def one(name: str, value) -> Attributes:
    attributes = Attributes()
    setattr(attributes, name, value)
    return attributes


def get(uid: str, **options) -> payloads.GetRequest:
    return payloads.GetRequest(unique_identifier=uid, **options)


def encrypt(uid: str) -> payloads.EncryptRequest:
    return payloads.EncryptRequest(unique_identifier=uid, data=b"0123456789abcdef")


def revocation(uid: str, code: RevocationReasonCode = RevocationReasonCode.KEY_COMPROMISE) -> payloads.RevokeRequest:
    reason = RevocationReason(revocation_reason_code=code)
    return payloads.RevokeRequest(unique_identifier=uid, revocation_reason=reason)


# Rights on objects.

CHANGES = {
    Operation.ACTIVATE: lambda uid: payloads.ActivateRequest(unique_identifier=uid),
    Operation.RE_KEY: lambda uid: payloads.ReKeyRequest(unique_identifier=uid),
    Operation.REVOKE: revocation,
    Operation.DESTROY: lambda uid: payloads.DestroyRequest(unique_identifier=uid),
    Operation.SET_ATTRIBUTE: lambda uid: payloads.SetAttributeRequest(
        unique_identifier=uid, new_attribute=one("comment", "x")
    ),
    Operation.ADD_ATTRIBUTE: lambda uid: payloads.AddAttributeRequest(
        unique_identifier=uid, new_attribute=one("comment", "x")
    ),
    Operation.MODIFY_ATTRIBUTE: lambda uid: payloads.ModifyAttributeRequest(
        unique_identifier=uid, new_attribute=one("comment", "x")
    ),
    Operation.DELETE_ATTRIBUTE: lambda uid: payloads.DeleteAttributeRequest(
        unique_identifier=uid, attribute_reference=References([Tag.COMMENT])
    ),
}


@pytest.mark.parametrize("operation", CHANGES, ids=str)
def test_a_change_is_not_authorised_as_a_get(operation):
    """Activate, Re-key and the attribute operations asked for the right to get."""
    uid = created()
    before = seen(uid)
    grant(uid, "get", "get_attributes", "encrypt", "decrypt", "export", "check")
    assert refused(DENIED, operation, CHANGES[operation](uid), "bob")
    assert seen(uid).state == before.state and seen(uid).comment is None


def test_who_may_get_does_not_strip_sensitive_and_extractable():
    """GHSA-c75c-3cmm-48h7: a grant to get was enough to make a sensitive key one that is shown."""
    uid = created(sensitive=True, extractable=False)
    grant(uid, "get", "get_attributes")
    for name, value in (("sensitive", False), ("extractable", True)):
        request = payloads.SetAttributeRequest(unique_identifier=uid, new_attribute=one(name, value))
        refused(DENIED, Operation.SET_ATTRIBUTE, request, "bob")
        change = payloads.ModifyAttributeRequest(unique_identifier=uid, new_attribute=one(name, value))
        refused(DENIED, Operation.MODIFY_ATTRIBUTE, change, "bob")
    attributes = seen(uid)
    assert attributes.sensitive is True and attributes.extractable is False


def test_what_is_not_extractable_leaves_by_no_way():
    """GHSA-8mmx-f92q-2gq8: Export, and wrapping, gave it; clients could say what it had always been."""
    uid = created(extractable=False)
    wrapper = created(cryptographic_usage_mask=int(CryptographicUsageMask.WRAP_KEY))
    activate(wrapper)
    wrapping = KeyWrappingSpecification(
        wrapping_method=WrappingMethod.ENCRYPT,
        encryption_key_information=EncryptionKeyInformation(unique_identifier=wrapper),
    )
    for options in ({}, {"key_wrapping_specification": wrapping}):
        refused(ResultReason.NOT_EXTRACTABLE, Operation.GET, get(uid, **options))
        request = payloads.ExportRequest(unique_identifier=uid, **options)
        refused(ResultReason.NOT_EXTRACTABLE, Operation.EXPORT, request)
    assert seen(uid).never_extractable is True


def imported(uid: str, material: bytes, user: str, *, replace: bool) -> str:
    request = payloads.ImportRequest(
        unique_identifier=uid,
        object_type=ObjectType.SYMMETRIC_KEY,
        replace_existing=replace,
        attributes=asked(cryptographic_usage_mask=12),
        symmetric_key=key(material),
    )
    return do(Operation.IMPORT, request, user).unique_identifier


@pytest.mark.parametrize("replace", [True, False])
def test_import_does_not_replace_what_is_somebody_else_s(replace):
    """An existing identifier was enough to overwrite its object, and to become its owner."""
    uid = registered(material=SECRET)
    grant(uid, "get")
    with pytest.raises(KMIPError) as caught:
        imported(uid, b"m" * 16, "bob", replace=replace)
    assert caught.value.reason in (DENIED, ABSENT, ResultReason.OBJECT_ALREADY_EXISTS)
    assert do(Operation.GET, get(uid)).symmetric_key.key_block.key_value.key_material == SECRET
    assert ManagedObject.objects.get(uid=uid).owner == "alice"


@pytest.mark.parametrize("uid", ["*", "", " ", "a" * 65])
def test_identifiers_that_mean_something_else_are_not_given(uid):
    """GHSA-pvw2-jxwc-95xq: an object called * shared its rights with every other."""
    with pytest.raises(KMIPError):
        imported(uid, SECRET, "alice", replace=True)
    assert not ManagedObject.objects.exists()


def test_a_grant_is_not_given_on(root):
    """Whoever had been granted something could grant it, or more, to others."""
    uid = created()
    grant(uid, "get", "destroy")
    bob = Peer("cli", user="bob")
    for to in ("user:carol", "user:bob", "*", "group:x"):
        with pytest.raises(KMIPError) as caught:
            access.grant(bob, authn.identify(bob), uid, to, access.operations_named(["get"]))
        assert caught.value.reason is DENIED
    assert Grant.objects.count() == 1


def test_a_revoked_grant_a_revoked_key_and_a_destroyed_one_count_at_once():
    """Caches of opened keys went on serving what had been revoked."""
    uid = created()
    activate(uid)
    grant(uid, "encrypt")
    do(Operation.ENCRYPT, encrypt(uid), "bob")
    peer = Peer("cli", user="alice")
    access.revoke(peer, authn.identify(peer), uid, "user:bob", access.operations_named(["encrypt"]))
    refused(ABSENT, Operation.ENCRYPT, encrypt(uid), "bob")
    do(Operation.ENCRYPT, encrypt(uid))
    do(Operation.REVOKE, revocation(uid))
    refused(ResultReason.WRONG_KEY_LIFECYCLE_STATE, Operation.ENCRYPT, encrypt(uid))
    do(Operation.DESTROY, payloads.DestroyRequest(unique_identifier=uid))
    for operation, request in ((Operation.ENCRYPT, encrypt(uid)), (Operation.GET, get(uid))):
        refused(ResultReason.OBJECT_DESTROYED, operation, request)
    assert not ManagedObject.objects.get(uid=uid).material


def test_a_key_that_wraps_needs_a_right_of_its_own():
    """The right to get an object let it be wrapped by a key of anybody."""
    uid, wrapper = created(), created(cryptographic_usage_mask=int(CryptographicUsageMask.WRAP_KEY))
    activate(wrapper)
    grant(uid, "get")
    wrapping = KeyWrappingSpecification(
        wrapping_method=WrappingMethod.ENCRYPT,
        encryption_key_information=EncryptionKeyInformation(unique_identifier=wrapper),
    )
    with pytest.raises(KMIPError) as caught:
        do(Operation.GET, get(uid, key_wrapping_specification=wrapping), "bob")
    assert caught.value.reason in (DENIED, ABSENT, ResultReason.WRAPPING_OBJECT_NOT_FOUND, ResultReason.ITEM_NOT_FOUND)


def test_attributes_are_nobody_else_s_to_see_or_change():
    """CVE-2022-23451: metadata of others' secrets could be added to and deleted."""
    uid = created(comment="mine")
    for operation, request in CHANGES.items():
        if "Attribute" in str(operation):
            refused(ABSENT, operation, request(uid), "mallory")
    request = payloads.GetAttributesRequest(unique_identifier=uid)
    refused(ABSENT, Operation.GET_ATTRIBUTES, request, "mallory")
    assert seen(uid).comment == "mine"


def test_locate_finds_and_counts_only_what_exists_for_who_asks():
    """The number of located items counted others' objects."""
    for _ in range(3):
        created()
    found = do(Operation.LOCATE, payloads.LocateRequest(), "mallory")
    assert (found.unique_identifier, found.located_items or 0) == ([], 0)


def test_nothing_in_a_query_string_changes_who_asks():
    """CVE-2022-3100: a parameter of the address was taken for the target of the policy."""
    created()
    client = Client()
    mallory = bearer("mallory")
    for query in ("?user=alice", "?user_id=alice&namespace=default", "?target.secret.owner=alice", "?limit=10"):
        answer = client.get("/access/owned" + query, headers=mallory)
        assert (answer.status_code, answer.json()) == (200, [])


def test_a_role_s_name_in_other_letters_is_another_role(root):
    """CVE-2025-5999: a name that was only later made lower case gave the rights of the reserved one."""
    for name in ("Administrator", "ADMINISTRATOR", "administrator."):
        administration.set_role(*root, name, operations=["get"])
        administration.give_role(*root, name, "user:mallory")
    for name in ("administrator", " administrator", "administrator\x00", "administrator\n", ""):
        with pytest.raises(KMIPError):
            administration.set_role(*root, name, operations=["get"])
    mallory = authn.identify(Peer("cli", user="mallory"))
    assert not mallory.administers and not mallory.everywhere


# Getting in.


def test_tokens_differ_by_the_case_of_a_letter():
    """A database that folds case let wrong tokens in."""
    good = bearer()["Authorization"].removeprefix("Bearer ")
    client = Client()
    assert client.get("/me", headers={"Authorization": f"Bearer {good}"}).status_code == 200
    for wrong in (good.upper(), good.lower(), good.swapcase(), good[:-1], good + "="):
        assert client.get("/me", headers={"Authorization": f"Bearer {wrong}"}).status_code == 401


def test_users_differ_by_the_case_of_a_letter(root):
    """Names that a database takes for the same shared rights and passwords."""
    uid = created("alice")
    for other in ("Alice", "ALICE", "alicé"):
        refused(ABSENT, Operation.GET, get(uid), other)


def test_lock_out_counts_a_user_by_all_its_names(root, configure, settings):
    """CVE-2025-6004: another spelling of the same user's name began to count anew."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    configure(**{"auth.login_failures": 3})
    administration.add_user(*root, "alice")
    administration.set_password(*root, "alice", "correct horse battery")
    peer = Peer("http", "10.0.0.7")
    for name in ("alice", "default/alice", "alice"):
        with pytest.raises(KMIPError):
            credentials.password(peer, name, "wrong", "basic")
    for name in ("alice", "default/alice"):
        with pytest.raises(KMIPError):
            credentials.password(peer, name, "correct horse battery", "basic")


def test_a_code_counts_once_however_it_is_written():
    """CVE-2025-6014: a blank made a used code a new one."""
    account = accounts.ensure("default", "alice")
    secret = totp.new_secret()
    totp.put(account, secret)
    code = pyotp.TOTP(secret).now()
    assert totp.accept(account, code)
    account.refresh_from_db()
    for again in (code, f" {code}", f"{code} ", f"{code[:3]} {code[3:]}"):
        assert not totp.accept(account, again)


def test_unknown_users_take_as_long_as_wrong_passwords(root, monkeypatch, settings):
    """CVE-2025-6011: an answer that came sooner told that a user does not exist."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    credentials._decoys.clear()
    administration.add_user(*root, "alice")
    administration.set_password(*root, "alice", "correct horse battery")
    administration.add_user(*root, "without")
    hashed = []
    check = credentials.check_password
    monkeypatch.setattr(credentials, "check_password", lambda given, encoded: hashed.append(1) or check(given, encoded))
    for name in ("alice", "nobody", "without"):
        with pytest.raises(KMIPError):
            credentials.password(Peer("http", "10.0.0.7"), name, "wrong", "basic")
    assert len(hashed) == 3
    credentials._decoys.clear()


def test_a_forwarded_address_does_not_make_a_stranger_local():
    """Headers that claim the loopback address let anybody in as the default user."""
    client = Client()
    for header in ("X-Forwarded-For", "X-Real-Ip", "Forwarded", "X-Client-Ip", "True-Client-Ip"):
        answer = client.get("/me", headers={header: "127.0.0.1"}, REMOTE_ADDR="10.0.0.7")
        assert answer.status_code == 401
    assert client.get("/me", headers={"X-Forwarded-For": "10.0.0.7"}).status_code == 401
    assert client.get("/me").status_code == 200


@pytest.mark.parametrize("path", ["/kmip", "/kmip/2_1", "/me", "/ui/login/", "/clients"])
def test_a_web_page_does_not_reach_loopback_by_a_name_of_its_own(path):
    """DNS rebinding: a browser on the machine carried requests to the server that lets it in."""
    assert Client().post(path, b"{}", content_type="application/json", HTTP_HOST="evil.example").status_code == 400


def test_a_form_of_another_site_does_nothing():
    """What a browser sends without asking first is not read."""
    body = json.dumps({"tag": "Query", "value": []})
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
        assert Client().post("/kmip/2_1", body, content_type=kind).status_code == 415
        assert Client().post("/access/tokens", '{"name": "x"}', content_type=kind).status_code == 422


def test_sessions_are_signed_with_a_key_of_this_server(tmp_path, monkeypatch):
    """A default key, the same for everybody, let anybody make sessions, which outlived restarts."""
    from kmsproject import settings

    def key_with(root: str | None) -> str:
        path = tmp_path / "root.key"
        path.unlink(missing_ok=True)
        if root is not None:
            path.write_text(root)
        config = conf.load({}, {"KMS_ROOT_KEY_FILE": str(path)}, [])
        monkeypatch.setattr(settings, "CONFIG", config)
        return settings._secret_key()

    one, other = key_with("00" * 32), key_with("11" * 32)
    assert one == key_with("00" * 32) != other
    assert key_with(None) != key_with(None)
    assert min(len(one), len(key_with(None))) >= 50 and "00000000" not in one


# What is told.


def test_errors_tell_nothing_of_the_inside(monkeypatch):
    """Paths, SQL and traces of a fault were in the answer."""
    uid = created()

    def broken(call, payload):
        raise RuntimeError("SELECT material FROM /srv/secret/kms.sqlite3")

    handler = call.HANDLERS[Operation.GET]
    monkeypatch.setitem(call.HANDLERS, Operation.GET, handler._replace(handle=broken))
    message = refused(ResultReason.GENERAL_FAILURE, Operation.GET, get(uid))
    assert message == engine.FAULT
    answer = Client().post("/kmip/2_1", "{" * 100, content_type="application/json")
    assert answer.status_code == 422 and b"Traceback" not in answer.content and b"/" not in answer.content


def test_messages_do_not_repeat_what_was_sent():
    """CVE-2025-4166: secrets of a request that could not be read were in error and log."""
    secret = SECRET.hex().upper()
    bad = [
        {"tag": "Register", "value": [{"tag": "KeyMaterial", "type": "Integer", "value": secret}]},
        {"tag": "Encrypt", "value": [{"tag": "Data", "type": "ByteString", "value": secret + "x"}]},
        {"tag": "Encrypt", "value": [{"tag": "Data", "type": "DateTime", "value": secret}]},
    ]
    for body in bad:
        answer = Client().post("/kmip/2_1", json.dumps(body), content_type="application/json")
        assert answer.status_code == 422
        assert secret not in answer.content.decode(), body
    answer = Client().post("/access/tokens", json.dumps({"name": [secret]}), content_type="application/json")
    assert answer.status_code == 422 and secret not in answer.content.decode()


def test_neither_log_nor_audit_nor_representation_has_a_secret(caplog, root, settings):
    """CVE-2024-8365: tokens in the audit; keys and passwords in what was written for debugging."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    caplog.set_level(logging.DEBUG)
    uid = registered(material=SECRET)
    got = do(Operation.GET, get(uid))
    administration.add_user(*root, "alice2")
    administration.set_password(*root, "alice2", "correct horse battery")
    header = bearer("alice2", expires=int(time.time()) + 60)
    assert Client().get("/me", headers=header).status_code == 200
    from keystore import audit

    audit.writer.flush()
    told = caplog.text + str(list(AuditRecord.objects.values())) + repr(got) + str(got) + repr(conf.current().sealing)
    told += repr(list(Account.objects.all()))
    secrets = (SECRET.hex(), SECRET.hex().upper(), repr(SECRET), "correct horse", header["Authorization"][7:])
    for secret in secrets:
        assert secret not in told


def test_a_mask_a_state_and_a_type_are_not_to_be_gone_round():
    """Keys were used for what their owner had not allowed."""
    signing = created(cryptographic_usage_mask=int(CryptographicUsageMask.MAC_GENERATE))
    activate(signing)
    refused(ResultReason.INCOMPATIBLE_CRYPTOGRAPHIC_USAGE_MASK, Operation.ENCRYPT, encrypt(signing))
    refused(ResultReason.WRONG_KEY_LIFECYCLE_STATE, Operation.ENCRYPT, encrypt(created()))


def test_deep_and_large_input_is_refused_not_served():
    """CVE-2025-6203: nested JSON cost more memory and stack than the server has."""
    deep = '{"tag":"Query","value":[' + '{"tag":"Attributes","value":[' * 20_000 + "]}" * 20_000 + "]}"
    assert Client().post("/kmip/2_1", deep, content_type="application/json").status_code == 422
    body = "[" * 200_000
    for path in ("/access/grant", "/clients/register"):
        assert Client().post(path, body, content_type="application/json").status_code == 422


def test_a_name_of_two_namespaces_is_two_objects_and_two_users(root):
    """Tenants with the same names saw one another's objects."""
    administration.add_namespace(*root, "tenant")
    uid = created("alice", names=["key"])
    other = created("tenant/alice", names=["key"])
    refused(ABSENT, Operation.GET, get(uid), "tenant/alice")
    refused(ABSENT, Operation.GET, get(other), "alice")
    refused(ABSENT, Operation.GET, get(f"tenant/{other}"), "alice")
    refused(ABSENT, Operation.GET, get(f"tenant:{other}"), "alice")
