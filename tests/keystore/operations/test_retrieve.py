"""Get, through the engine."""

import pytest

from benchmarks import messages
from keystore import engine
from keystore.authn import Peer
from kmip import ttlv
from kmip.enums import CryptographicAlgorithm, KeyFormatType, ObjectType, Operation, ResultReason
from kmip.messages import ResponseMessage
from kmip.objects import KeyBlock, KeyValue, SymmetricKey
from kmip.payloads import GetAttributesRequest, GetAttributesResponse, GetRequest, GetResponse, RegisterRequest
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
