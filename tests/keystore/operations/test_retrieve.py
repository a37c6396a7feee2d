"""Get, through the engine."""

import pytest
from django.db import connection

from benchmarks import messages
from keystore import access, compiled, engine, roles
from keystore.authn import Peer, accounts
from kmip import ttlv
from kmip.enums import (
    BatchErrorContinuationOption,
    CryptographicAlgorithm,
    KeyFormatType,
    ObjectType,
    Operation,
    ResultReason,
)
from kmip.messages import RequestMessage, ResponseMessage
from kmip.objects import KeyBlock, KeyValue, SymmetricKey
from kmip.payloads import (
    DestroyRequest,
    GetAttributesRequest,
    GetAttributesResponse,
    GetRequest,
    GetResponse,
    RegisterRequest,
)
from kmip.schema import dump
from kmip.tags import Tag
from kmip.versions import V1_0, V1_4, V2_1
from tests.authority import attributes, do, refused, sealed  # noqa: F401 - a fixture among them

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("sealed")]

KEY = b"sixteen byte key"


def registered(**wanted):
    block = KeyBlock(
        key_format_type=KeyFormatType.RAW,
        key_value=KeyValue(key_material=KEY),
        cryptographic_algorithm=CryptographicAlgorithm.AES,
        cryptographic_length=128,
    )
    wanted = attributes(cryptographic_usage_mask=12, **wanted)
    payload = RegisterRequest(
        object_type=ObjectType.SYMMETRIC_KEY, attributes=wanted, symmetric_key=SymmetricKey(key_block=block)
    )
    return do(Operation.REGISTER, payload).unique_identifier


def on_the_wire(uid, version):
    answer = engine.handle(messages.get(uid, version), Peer("cli", user="alice"))
    return ResponseMessage.load(ttlv.decode(answer)).batch_item[0].response_payload


@pytest.mark.parametrize("version", [V1_0, V1_4, V2_1])
def test_a_key_is_the_same_typed_and_on_the_wire(version):
    uid = registered()
    typed = do(Operation.GET, GetRequest(unique_identifier=uid), version=version)
    assert typed.symmetric_key.key_block.key_value.key_material == KEY
    assert GetResponse.load(on_the_wire(uid, version)) == typed
    asked = GetRequest(unique_identifier=uid, key_format_type=KeyFormatType.RAW)
    assert do(Operation.GET, asked, version=version) == typed


RESTRICTED = {"sensitive": True, "extractable": False}


def test_what_may_not_leave_does_not():
    get = {name: GetRequest(unique_identifier=registered(**{name: value})) for name, value in RESTRICTED.items()}
    refused(ResultReason.SENSITIVE, Operation.GET, get["sensitive"])
    refused(ResultReason.NOT_EXTRACTABLE, Operation.GET, get["extractable"])
    refused(ResultReason.OBJECT_NOT_FOUND, Operation.GET, GetRequest(unique_identifier=registered()), user="mallory")


def test_a_batch_of_gets_takes_the_freshness_of_all_at_once():
    uids = [registered() for _ in range(5)]
    asked = [(Operation.GET, GetRequest(unique_identifier=uid)) for uid in uids]
    seen = (Operation.GET_ATTRIBUTES, GetAttributesRequest(unique_identifier=uids[0]))
    answer = engine.handle(messages.message(*asked, seen, version=V2_1), Peer("cli", user="alice"))
    *_, last = ResponseMessage.load(ttlv.decode(answer)).batch_item
    assert GetAttributesResponse.load(last.response_payload).attributes.fresh is False
    for uid in uids:
        attributes = do(Operation.GET_ATTRIBUTES, GetAttributesRequest(unique_identifier=uid)).attributes
        assert attributes.fresh is False


def ask_for(user, uids):
    """What a user gets for each identifier in one message: the reason for which it fails, or None."""
    items = [(Operation.GET, GetRequest(unique_identifier=uid)) for uid in uids]
    request = RequestMessage.load(ttlv.decode(messages.message(*items)))
    request.request_header.batch_error_continuation_option = BatchErrorContinuationOption.CONTINUE
    data = ttlv.encode(dump(request, Tag.REQUEST_MESSAGE, V1_4))
    found = ResponseMessage.load(ttlv.decode(engine.handle(data, Peer("cli", user=user))))
    return [item.result_reason for item in found.batch_item]


def test_items_of_a_batch_are_looked_up_together_and_judged_one_by_one():
    """One's own, granted, somebody else's, withdrawn, destroyed and unknown objects: as when asked for singly, and
    again after each change."""
    own = [registered() for _ in range(20)]
    given, withheld, taken = (registered() for _ in range(3))
    alice = accounts.identity(accounts.find("default", "alice"), "session")
    for uid in (given, taken):
        access.grant(Peer("cli", user="alice"), alice, uid, "user:bob", roles.bits([Operation.GET]))
    asked = [given, withheld, "nothing", taken, given, *own[:1]]
    absent = ResultReason.ITEM_NOT_FOUND
    assert ask_for("bob", asked) == [None, absent, absent, None, None, absent]
    access.revoke(Peer("cli", user="alice"), alice, taken, "user:bob", roles.bits([Operation.GET]))
    assert ask_for("bob", asked) == [None, absent, absent, absent, None, absent]
    assert ask_for("alice", own) == [None] * 20
    do(Operation.DESTROY, DestroyRequest(unique_identifier=own[1]))
    # 1.x has no reason of its own for it.
    assert ask_for("alice", own[:3])[::2] == [None, None]
    assert ask_for("alice", own[:3])[1] is not None


def test_a_batch_of_known_keys_is_one_query(monkeypatch):
    uids = [registered() for _ in range(10)]
    assert ask_for("alice", uids) == [None] * 10
    asked = []
    for name in ("first", "all"):
        real = getattr(compiled.Statement, name)
        monkeypatch.setattr(compiled.Statement, name, lambda *a, real=real, **k: asked.append(1) or real(*a, **k))
    assert ask_for("alice", uids) == [None] * 10
    # Where there may be other nodes, it is asked what they have changed about users, too.
    assert len(asked) == (1 if connection.vendor == "sqlite" else 2)
