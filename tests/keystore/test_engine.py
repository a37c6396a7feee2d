"""Messages as a whole: batches and their undoing, sizes, extensions, credentials, encodings, and faults of ours."""

import time

import pytest
from django.db import DatabaseError

from keystore import call as calls
from keystore import engine, store
from keystore.authn import Peer
from keystore.engine import handle
from keystore.models import AuditRecord, ManagedObject, ObjectIndex
from kmip import ttlv
from kmip.enums import (
    AttestationType,
    BatchErrorContinuationOption,
    CredentialType,
    CryptographicAlgorithm,
    HashingAlgorithm,
    ObjectType,
    Operation,
    ResultReason,
    ResultStatus,
    UniqueIdentifierEnumeration,
)
from kmip.messages import (
    ENCODINGS,
    Attestation,
    Authentication,
    Credential,
    Device,
    HashedPassword,
    MessageExtension,
    OneTimePassword,
    RequestBatchItem,
    ResponseMessage,
    TicketCredential,
    UsernameAndPassword,
)
from kmip.payloads import (
    CreateKeyPairRequest,
    CreateRequest,
    DestroyRequest,
    GetAttributesRequest,
    GetRequest,
    LocateRequest,
    ModifyAttributeRequest,
    QueryRequest,
)
from kmip.schema import dump
from kmip.structures import Nonce, Ticket
from kmip.tags import Tag
from kmip.ttlv import Item, Type
from kmip.versions import V1_0, V1_2, V1_4, V2_0, V2_1, VERSIONS
from tests.authority import sealed  # noqa: F401 - a fixture
from tests.made import asked, created, located, seen
from tests.wire import message, one, send, why

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("sealed")]
O, R, ST = Operation, ResultReason, ResultStatus  # noqa: E741
CREATE = (O.CREATE, CreateRequest(object_type=ObjectType.SYMMETRIC_KEY, attributes=asked(names=["k"])))
FAILS = (O.GET, GetRequest(unique_identifier="nothing"))
UNDO, CONTINUE = BatchErrorContinuationOption.UNDO, BatchErrorContinuationOption.CONTINUE


def statuses(response):
    return [item.result_status for item in response.batch_item]


def rows():
    return ManagedObject.objects.count(), ObjectIndex.objects.count()


def test_undo_leaves_no_trace_but_the_record():
    """Objects, index rows and changed attributes are as before; the audit says what was undone."""
    uid = created(names=["before"])
    before, version = rows(), ManagedObject.objects.get(uid=uid).version
    rename = ModifyAttributeRequest(unique_identifier=uid, new_attribute=asked(names=["after"]))
    destroy = DestroyRequest(unique_identifier=uid)
    response = send(
        CREATE, (O.MODIFY_ATTRIBUTE, rename), (O.DESTROY, destroy), FAILS, version=V1_2,
        batch_error_continuation_option=UNDO,
    )  # fmt: skip
    assert statuses(response) == [ST.OPERATION_UNDONE] * 3 + [ST.OPERATION_FAILED]
    assert rows() == before and ManagedObject.objects.get(uid=uid).version == version
    assert [name.name_value for name in seen(uid).name] == ["before"] and located(attributes=asked(names=["k"])) == []
    assert one(O.GET, GetRequest(unique_identifier=uid)).symmetric_key is not None, "the material is still there"
    assert AuditRecord.objects.filter(result="Undone").count() == 3


def test_what_was_read_of_a_change_that_was_undone_is_not_met_again():
    """Though the next change of the object is its next one as well."""
    uid = created(names=["first"])
    undone, kept = (ModifyAttributeRequest(unique_identifier=uid, new_attribute=asked(names=[n])) for n in "ab")
    look = (O.GET_ATTRIBUTES, GetAttributesRequest(unique_identifier=uid))
    response = send((O.MODIFY_ATTRIBUTE, undone), look, FAILS, version=V1_2, batch_error_continuation_option=UNDO)
    assert statuses(response) == [ST.OPERATION_UNDONE] * 2 + [ST.OPERATION_FAILED]
    one(O.MODIFY_ATTRIBUTE, kept, version=V1_2)
    assert [name.name_value for name in seen(uid).name] == ["b"]


def test_an_undone_batch_that_succeeds_stays():
    response = send(CREATE, (O.GET, GetRequest()), version=V1_2, batch_error_continuation_option=UNDO)
    assert statuses(response) == [ST.SUCCESS] * 2 and len(located()) == 1


def test_a_failed_item_leaves_nothing_and_the_others_stay():
    """Continue: each item is a transaction of its own within the message's."""
    names = (O.CREATE, CreateRequest(object_type=ObjectType.SYMMETRIC_KEY, attributes=asked(names=["m", "k"])))
    response = send(CREATE, names, FAILS, version=V1_2, batch_error_continuation_option=CONTINUE)
    assert statuses(response) == [ST.SUCCESS, ST.OPERATION_FAILED, ST.OPERATION_FAILED]
    assert located(attributes=asked(names=["m"])) == [] and len(located()) == 1


def test_a_response_that_is_too_large_undoes_what_it_tells_of():
    assert why(*CREATE, version=V1_2, maximum_response_size=100) == R.RESPONSE_TOO_LARGE
    assert located() == []
    assert one(*CREATE, version=V1_2, maximum_response_size=400)


@pytest.mark.parametrize("count", [0, 2, 1000])
def test_a_batch_count_that_is_not_the_number_of_items_is_refused(count):
    assert why(*CREATE, version=V1_2, batch_count=count) == R.INVALID_MESSAGE
    assert located() == []


def test_a_message_without_items_and_one_with_too_many_are_refused(monkeypatch):
    (item,) = send(version=V1_2, batch_count=0).batch_item
    assert item.result_reason == R.INVALID_MESSAGE
    monkeypatch.setattr(engine, "MAX_BATCH", 2)
    (item,) = send(CREATE, FAILS, FAILS, version=V1_2).batch_item
    assert item.result_reason == R.INVALID_MESSAGE and located() == []


def extension(*, critical):
    return MessageExtension(
        vendor_identification="acme", criticality_indicator=critical,
        vendor_extension=Item(Tag.VENDOR_EXTENSION, Type.STRUCTURE, []),
    )  # fmt: skip


def test_critical_message_extensions_are_refused_and_others_passed_over():
    payload = dump(CREATE[1], Tag.REQUEST_PAYLOAD, V2_1)
    for critical, version, reason in (
        (True, V2_1, R.UNKNOWN_MESSAGE_EXTENSION), (True, V1_4, R.FEATURE_NOT_SUPPORTED), (False, V1_4, None),
    ):  # fmt: skip
        payload = dump(CREATE[1], Tag.REQUEST_PAYLOAD, version)
        item = RequestBatchItem(
            operation=O.CREATE, request_payload=payload, message_extension=[extension(critical=critical)]
        )
        (found,) = send(item, version=version).batch_item
        assert found.result_reason == reason
    assert len(located()) == 1


CREDENTIALS = {
    "user and password": (CredentialType.USERNAME_AND_PASSWORD, UsernameAndPassword(username="eve", password="x")),
    "device": (CredentialType.DEVICE, Device(device_serial_number="1", password="x")),
    "attestation": (
        CredentialType.ATTESTATION,
        Attestation(nonce=Nonce(nonce_id=b"1", nonce_value=b"2"), attestation_type=AttestationType.TPM_QUOTE,
                    attestation_measurement=b"m"),
    ),
    "one-time password": (CredentialType.ONE_TIME_PASSWORD, OneTimePassword(username="eve", one_time_password="1")),
    "hashed password": (
        CredentialType.HASHED_PASSWORD,
        HashedPassword(username="eve", time_stamp=1, hashing_algorithm=HashingAlgorithm.SHA_256, hashed_password=b"x"),
    ),
    "ticket": (CredentialType.TICKET, TicketCredential(ticket=Ticket(ticket_type=1, ticket_value=b"x"))),
    "unknown": (CredentialType.of(0x55), Item(Tag.CREDENTIAL_VALUE, Type.STRUCTURE, [])),
}  # fmt: skip


@pytest.mark.parametrize("kind, value", CREDENTIALS.values(), ids=CREDENTIALS)
def test_a_wrong_credential_lets_nobody_in(kind, value):
    """Whatever its type, the answer is well formed, says why, and nothing is done."""
    given = Authentication(credential=[Credential(credential_type=kind, credential_value=value)])
    data = ttlv.encode(dump(message(CREATE, version=V2_1, authentication=given), Tag.REQUEST_MESSAGE, V2_1))
    for peer in (Peer("kmip", address="192.0.2.1"), Peer("http", address="192.0.2.1")):
        (item,) = ResponseMessage.load(ttlv.decode(handle(data, peer))).batch_item
        assert item.result_status == ST.OPERATION_FAILED
        assert item.result_reason in (R.AUTHENTICATION_NOT_SUCCESSFUL, R.INVALID_TICKET, R.ATTESTATION_FAILED)
    assert ManagedObject.objects.count() == 0


def test_nobody_is_let_in_without_anything():
    data = ttlv.encode(dump(message(CREATE, version=V1_2), Tag.REQUEST_MESSAGE, V1_2))
    (item,) = ResponseMessage.load(ttlv.decode(handle(data, Peer("kmip", address="192.0.2.1")))).batch_item
    assert item.result_reason == R.AUTHENTICATION_NOT_SUCCESSFUL and ManagedObject.objects.count() == 0


BROKEN = {
    "ttlv": (b"\x42\x00\x78\x01\x00\x00\x00\x08\x42\x00\x77\x01\x00\x00\x00\x10", b"", b"\x00" * 64),
    "xml": (b"<RequestMessage>", b"", b"<!DOCTYPE x><RequestMessage/>", b"<x/>"),
    "json": (b"{", b"", b"[]", b'{"tag":"RequestMessage"}'),
}


@pytest.mark.parametrize("encoding", BROKEN)
def test_what_cannot_be_read_is_answered_in_its_own_encoding(encoding):
    for data in BROKEN[encoding]:
        found = ResponseMessage.load(ENCODINGS[encoding].decode(handle(data, Peer("cli", user="alice"), encoding)))
        assert found.batch_item[0].result_reason in (R.INVALID_MESSAGE, R.INVALID_FIELD)


@pytest.mark.parametrize("encoding", ["ttlv", "xml", "json", "dialect"])
def test_one_request_is_answered_alike_in_every_encoding(encoding):
    uid = created(names=["k"])
    version = V2_1 if encoding == "dialect" else V1_4
    found = send((O.GET, GetRequest(unique_identifier=uid)), version=version, encoding=encoding)
    payload = found.batch_item[0].response_payload
    assert payload.unique_identifier == uid and len(payload.symmetric_key.key_block.key_value.key_material) == 16


def test_a_fault_of_ours_tells_nothing_and_is_logged(monkeypatch, caplog):
    def fails(call, request):
        raise RuntimeError("a secret detail")

    monkeypatch.setitem(calls.HANDLERS, O.GET, calls.HANDLERS[O.GET]._replace(handle=fails))
    (item,) = send((O.GET, GetRequest(unique_identifier="x")), version=V1_2).batch_item
    assert item.result_reason == R.GENERAL_FAILURE and item.result_message == engine.FAULT
    assert "a secret detail" in caplog.text


def test_a_lost_database_is_a_general_failure(monkeypatch, caplog):
    def fails(call, request):
        raise DatabaseError("lost")

    monkeypatch.setitem(calls.HANDLERS, O.GET, calls.HANDLERS[O.GET]._replace(handle=fails))
    (item,) = send((O.GET, GetRequest(unique_identifier="x")), version=V1_2).batch_item
    assert item.result_reason == R.GENERAL_FAILURE and "lost" not in item.result_message


def test_identifiers_of_earlier_items_are_named_by_number_and_by_operation():
    """2.x: the Unique Identifier enumeration, and the count of identifiers that the batch has returned."""
    common = asked(cryptographic_algorithm=CryptographicAlgorithm.ECDSA, cryptographic_length=256)
    pair = CreateKeyPairRequest(common_attributes=common)
    named = UniqueIdentifierEnumeration
    wanted = (named.CREATE, named.CREATE_KEY_PAIR_PUBLIC_KEY, named.CREATE_KEY_PAIR_PRIVATE_KEY, 0, 1, 2, -1)
    looks = [(O.GET_ATTRIBUTES, GetAttributesRequest(unique_identifier=which)) for which in wanted]
    answers = send(CREATE, (O.CREATE_KEY_PAIR, pair), *looks, version=V2_1).batch_item
    key = answers[0].response_payload.unique_identifier
    private = answers[1].response_payload.private_key_unique_identifier
    public = answers[1].response_payload.public_key_unique_identifier
    assert [item.response_payload.unique_identifier for item in answers[2:]] == [
        key, public, private, key, private, public, public,
    ]  # fmt: skip
    assert why(O.GET_ATTRIBUTES, GetAttributesRequest(unique_identifier=named.CREATE), version=V2_1) == R.INVALID_FIELD
    assert why(O.GET_ATTRIBUTES, GetAttributesRequest(unique_identifier=3), version=V2_1) == R.INVALID_FIELD


def test_correlation_values_of_clients_come_back_from_1_4_on():
    for version in VERSIONS:
        header = send(
            CREATE if version == V1_0 else FAILS, version=version, client_correlation_value="c"
        ).response_header
        assert header.client_correlation_value == ("c" if version >= V1_4 else None)


def test_every_response_says_when_it_was_made():
    before = int(time.time())
    assert before <= send(FAILS, version=V1_2).response_header.time_stamp <= int(time.time()) + 1


def test_an_unknown_operation_is_refused_and_the_batch_goes_on():
    unknown = RequestBatchItem(operation=O.of(0x99), request_payload=Item(Tag.REQUEST_PAYLOAD, 1, []))
    payload = dump(QueryRequest(), Tag.REQUEST_PAYLOAD, V1_4)
    query = RequestBatchItem(operation=O.QUERY, request_payload=payload)
    data = ttlv.encode(dump(message(unknown, query, version=V1_4, batch_error_continuation_option=CONTINUE),
                            Tag.REQUEST_MESSAGE, V1_4))  # fmt: skip
    items = ResponseMessage.load(ttlv.decode(handle(data, Peer("cli", user="alice")))).batch_item
    assert [item.result_reason for item in items] == [R.OPERATION_NOT_SUPPORTED, None]


def test_operations_of_later_versions_are_refused_in_earlier_ones():
    for operation, version in ((O.IMPORT, V1_2), (O.SET_ATTRIBUTE, V1_4), (O.PING, V2_0), (O.ENCRYPT, V1_0)):
        item = RequestBatchItem(operation=operation, request_payload=Item(Tag.REQUEST_PAYLOAD, 1, []))
        (found,) = send(item, version=version).batch_item
        assert found.result_reason == R.OPERATION_NOT_SUPPORTED, operation


def test_fields_in_the_wrong_order_or_of_the_wrong_type_are_refused():
    uid = created()
    right = dump(LocateRequest(maximum_items=1, attributes=asked(names=["k"])), Tag.REQUEST_PAYLOAD, V1_2)
    wrong_order = right._replace(value=right.value[::-1])
    wrong_type = Item(Tag.REQUEST_PAYLOAD, 1, [Item(Tag.UNIQUE_IDENTIFIER, Type.INTEGER, 5)])
    twice = Item(Tag.REQUEST_PAYLOAD, 1, [Item(Tag.UNIQUE_IDENTIFIER, Type.TEXT_STRING, uid)] * 2)
    for operation, payload in ((O.LOCATE, wrong_order), (O.ACTIVATE, wrong_type), (O.GET, twice)):
        item = RequestBatchItem(operation=operation, request_payload=payload)
        (found,) = send(item, version=V1_2).batch_item
        assert found.result_status == ST.OPERATION_FAILED, operation
        assert found.result_reason in (R.INVALID_MESSAGE, R.ITEM_NOT_FOUND, R.INVALID_FIELD)


def test_an_object_is_made_though_the_request_has_attributes_of_the_future():
    """What 1.4 calls so is kept, and shown there; later it is not added in a version that lacks it."""
    comment = Item(
        Tag.ATTRIBUTE,
        Type.STRUCTURE,
        [
            Item(Tag.ATTRIBUTE_NAME, Type.TEXT_STRING, "Comment"),
            Item(Tag.ATTRIBUTE_VALUE, Type.TEXT_STRING, "from 1.4"),
        ],
    )
    payload = dump(CREATE[1], Tag.REQUEST_PAYLOAD, V1_0)
    payload.value[-1].value.append(comment)
    (item,) = send(RequestBatchItem(operation=O.CREATE, request_payload=payload), version=V1_0).batch_item
    uid = item.response_payload.unique_identifier
    assert seen(uid).comment == "from 1.4"
    request = GetAttributesRequest(unique_identifier=uid)
    assert one(O.GET_ATTRIBUTES, request, version=V1_0).attributes.comment is None
    assert one(O.GET_ATTRIBUTES, request, version=V1_4).attributes.comment == "from 1.4"


class GivenUp(Exception):
    """What a driver raises for a deadlock."""

    def __init__(self, number: object, sqlstate: str | None = None) -> None:
        super().__init__(number, "Deadlock found when trying to get lock; try restarting transaction")
        self.sqlstate = sqlstate


@pytest.mark.parametrize(
    ("cause", "served"),
    [(GivenUp(1213), True), (GivenUp("deadlock detected", "40P01"), True), (GivenUp(1040), False), (None, False)],
    ids=["MariaDB", "PostgreSQL", "too many connections", "the disk"],
)
def test_what_the_database_gave_up_for_another_transaction_is_tried_again(monkeypatch, cause, served):
    """The client sees one answer, and one object; any other failure is told."""
    plain, tried = store.save, []

    def save(*given, **named):
        tried.append(1)
        if len(tried) == 1:
            raise DatabaseError("told") from cause
        return plain(*given, **named)

    monkeypatch.setattr(store, "save", save)
    assert (statuses(send(CREATE)) == [ST.SUCCESS]) is served
    assert len(tried) == 1 + served
    assert ManagedObject.objects.count() == served
