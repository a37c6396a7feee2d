"""Using keys, the console for messages, the audit pages and the settings."""

import json
import re

import pytest

from keystore import audit, nodes
from keystore.models import AuditRecord, Namespace
from kmip import ttlv, ttlv_json, ttlv_xml
from kmip.messages import RequestMessage
from ui import message
from ui.use import USES

DATA = {
    "encrypt": {"uid": "k", "data": "hello", "spelling": "text", "mode": "9", "nonce": "00" * 12, "aad": "aa"},
    "decrypt": {"uid": "k", "data": "aGVsbG8=", "spelling": "base64", "nonce": "00" * 12, "tag": "ff" * 16},
    "sign": {"uid": "k", "data": "hello", "spelling": "text", "hashing": "6"},
    "verify": {"uid": "k", "data": "68", "spelling": "hex", "signature": "00ff"},
    "mac": {"uid": "k", "data": "hello", "spelling": "text", "algorithm": "9"},
    "mac-verify": {"uid": "k", "data": "hello", "spelling": "text", "code": "00ff"},
    "hash": {"hashing": "6", "data": "hello", "spelling": "text"},
    "wrap": {"uid": "k", "wrapping": "w", "encoding": "1"},
    "derive": {"uid": "k", "method": "10", "length": "256", "salt": "00"},
    "random": {"length": "32"},
}


@pytest.mark.parametrize("slug", USES)
def test_a_use_is_spelled_as_the_message_it_sends(slug):
    """XML, JSON and hexadecimal are the same message, and it is one that the server reads."""
    form = USES[slug].form(DATA[slug])
    assert form.is_valid(), form.errors
    spelled = {one.key: one for one in message.spellings(message.request(USES[slug].operation, form.payload()), "u")}
    item = ttlv.decode(bytes.fromhex(spelled["hex"].text))
    assert ttlv.encode(ttlv_xml.decode(spelled["xml"].text.encode())) == ttlv.encode(item)
    assert ttlv.encode(ttlv_json.decode(spelled["json"].text.encode())) == ttlv.encode(item)
    read = RequestMessage.load(item)
    assert read.batch_item[0].operation == USES[slug].operation
    assert all("--data-binary @-" in one.curl for one in spelled.values())


@pytest.mark.parametrize(
    "slug, changed",
    [
        ("encrypt", {"data": "xyz", "spelling": "hex"}),
        ("encrypt", {"nonce": "0g"}),
        ("verify", {"signature": ""}),
        ("random", {"length": "100000000"}),
        ("derive", {"length": "0"}),
    ],
)
def test_a_use_says_what_is_wrong(slug, changed):
    """Nothing is sent where a field does not make sense."""
    assert not USES[slug].form(DATA[slug] | changed).is_valid()


def test_wrapping_shows_its_message_or_why_not(alice, make):
    """The page of a use shows the message without sending it, and the engine's reason when it is sent in vain."""
    uid = make(name="one")
    data = {"uid": uid, "wrapping": "there-is-none", "encoding": "1"}
    page = alice.post("/ui/use/wrap/", data | {"show": "1"})
    assert "KeyWrappingSpecification" in page.content.decode()
    sent = alice.post("/ui/use/wrap/", data | {"send": "1"})
    assert sent.context["form"].non_field_errors()


@pytest.mark.parametrize("spelling", ["xml", "json", "hex"])
def test_the_console_decodes_and_sends_in_every_spelling(alice, spelling):
    """A pasted request becomes a tree, and so does its answer, which is for the person who sent it."""
    example = alice.get("/ui/console/").context["form"].initial["request"]
    item = ttlv_xml.decode(example.encode())
    text = {one.key: one.text for one in message.spellings(item, "")}[spelling]
    page = alice.post("/ui/console/", {"request": text, "decode": "1"})
    assert page.context["asked"].name == "RequestMessage"
    assert "answer" not in page.context
    page = alice.post("/ui/console/", {"request": text, "send": "1"})
    assert page.context["answer"].name == "ResponseMessage"
    assert "Query (0x00000018)" in page.content.decode()
    assert AuditRecord.objects.filter(operation="Query", user="alice", transport="ui").count() == 1


@pytest.mark.parametrize("text", ["nonsense", "<a", '{"a"', "42", "<RequestMessage/>" * 2])
def test_the_console_survives_nonsense(alice, text):
    """What is no message is refused beside the field."""
    page = alice.post("/ui/console/", {"request": text, "send": "1"})
    assert page.status_code == 200
    assert page.context["form"].errors


def test_the_audit_is_searched(person, make):
    """Each field narrows the list; an administrator sees everybody's records."""
    root = person("root", superuser=True)
    uid = make("alice", name="one")
    make("bob", name="two")
    audit.writer.flush()

    def found(**asked):
        return {(one.user, one.operation) for one in root.get("/ui/audit/", asked).context["records"]}

    assert {("alice", "Create"), ("bob", "Create")} <= found()
    assert found(user="bob") == {("bob", "Create")}
    assert found(object=uid) == {("alice", "Create")}
    assert found(operation="Create", result="Success") == {("alice", "Create"), ("bob", "Create")}
    assert found(operation="Destroy") == set()
    assert found(since="2020-01-01T00:00") >= {("bob", "Create")}
    assert found(until="2020-01-01T00:00") == set()


def test_people_see_their_own_records_only(alice, make):
    """Without a role that sees every object, the audit is of oneself, the export too."""
    make("alice", name="one")
    make("bob", name="two")
    theirs = AuditRecord.objects.get(user="bob")
    assert {one.user for one in alice.get("/ui/audit/?user=bob").context["records"]} == set()
    assert {one.user for one in alice.get("/ui/audit/").context["records"]} == {"alice"}
    assert alice.get(f"/ui/audit/{theirs.id}/").status_code == 404
    lines = b"".join(alice.get("/ui/audit/export/jsonl/").streaming_content).decode().splitlines()
    assert {json.loads(line)["user"] for line in lines} == {"alice"}
    assert b"bob" not in b"".join(alice.get("/ui/audit/export/csv/").streaming_content)


def test_a_record_is_shown_in_full(alice, make):
    """Everything that a record says stands on its page."""
    uid = make("alice", name="one")
    record = AuditRecord.objects.get(user="alice", operation="Create")
    text = alice.get(f"/ui/audit/{record.id}/").content.decode()
    assert uid in text
    assert "127.0.0.1" in text or record.address in text


def test_settings_say_where_a_value_comes_from_and_hide_secrets(person, configure):
    """Every setting has its layer, and no secret is on the page."""
    configure(**{"http.secret_key": "very-secret-indeed"})
    text = person("root", superuser=True).get("/ui/settings/").content.decode()
    assert "secret_key" in text
    assert "very-secret-indeed" not in text
    assert re.search(r"socket_server_port.*?5696", text, re.DOTALL)


def test_settings_name_nodes_and_the_authorities_of_this_server(root):
    """Whose clients are let in, with the way to each, and every node."""
    nodes.beat()
    root.post("/ui/authorities/", {"make": "1", "authority": "Our clients"})
    text = root.get("/ui/settings/").content.decode()
    assert nodes.name() in text
    assert re.search(r'href="/ui/authorities/[0-9a-f]+/">CN=Our clients<', text)


def test_the_audit_is_verified(person, make):
    """A page of the server's administrators says that all is well, or which record is not."""
    root = person("root", superuser=True)
    make("root", name="one")
    page = root.post("/ui/audit/verify/")
    assert "The records are whole." in page.content.decode()
    assert page.context["verified"] > 0
    bad = AuditRecord.objects.filter(operation="Create").latest("id")
    AuditRecord.objects.filter(id=bad.id).update(user="somebody else")
    page = root.post("/ui/audit/verify/")
    assert [one.record for one in page.context["problems"]] == [bad.id]
    assert "1 problem" in page.content.decode()
    assert AuditRecord.objects.filter(operation="Verify Audit", user="root").count() == 2


@pytest.mark.parametrize("who", ["alice", "tenant/carol"])
def test_only_the_server_s_administrators_verify(person, who):
    """It is about the records of every namespace."""
    Namespace.objects.create(name="tenant", created=0)
    browser = person(who, superuser="/" in who)
    for answer in (browser.get("/ui/audit/verify/"), browser.post("/ui/audit/verify/")):
        assert answer.status_code == 403
