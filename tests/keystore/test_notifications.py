"""Notify and Put: who is told of what, in which order, how often, and what becomes of what nobody takes."""

import pytest

from keystore import clock, engine, expiry, notifications, roles, store, tickets
from keystore.authn import Approval, Identity, Peer, accounts
from keystore.models import AuditRecord, Endpoint, Grant, Group, ManagedObject, Notification
from kmip import ttlv
from kmip.enums import (
    EndpointRole,
    ObjectType,
    Operation,
    PutFunction,
    ResultReason,
    ResultStatus,
    RevocationReasonCode,
    State,
)
from kmip.errors import KMIPError
from kmip.messages import RequestMessage, ResponseBatchItem, ResponseHeader, ResponseMessage, protocol_version
from kmip.payloads import (
    PAYLOADS,
    ActivateRequest,
    DeleteAttributeRequest,
    DestroyRequest,
    DiscoverVersionsResponse,
    QueryResponse,
    ReKeyRequest,
    RevokeRequest,
    SetAttributeRequest,
    SetEndpointRoleRequest,
)
from kmip.schema import dump
from kmip.structures import RevocationReason
from kmip.tags import Tag
from kmip.versions import V1_4, V2_1, VERSIONS
from tests.authority import do, sealed  # noqa: F401 - a fixture among them
from tests.made import asked, created, material, seen

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("sealed")]
O, R, S = Operation, ResultReason, ResultStatus  # noqa: E741
BOTH = (O.NOTIFY, O.PUT)


def connection(user="alice"):
    """A connection over which a client is known."""
    peer = Peer("kmip")
    peer.identity = Identity(user, "certificate")
    return peer


def take(peer, role=EndpointRole.CLIENT):
    """Let the server take a role on a connection."""
    return engine.execute(O.SET_ENDPOINT_ROLE, SetEndpointRoleRequest(endpoint_role=role), peer)


class Client:
    """The client's side of a connection on which the server took the client role."""

    def __init__(self, user="alice", *, version=V2_1, operations=BOTH, greeted=True):
        self.peer, self.version = connection(user), version
        take(self.peer)
        self.courier = engine.courier(self.peer)
        if greeted:
            spoken = [protocol_version(one) for one in VERSIONS if one <= version]
            assert self.next()[0] == O.DISCOVER_VERSIONS
            self.respond(DiscoverVersionsResponse(protocol_version=spoken))
            assert self.next()[0] == O.QUERY
            self.respond(QueryResponse(operation=list(operations)))

    def next(self):
        """Operation and payload of what the server asks, or None."""
        data = self.courier.next()
        if data is None:
            return None
        message = RequestMessage.load(ttlv.decode(data))
        (item,) = message.batch_item
        self.asked = item.operation
        header = message.request_header.protocol_version
        self.spoken = header.protocol_version_major * 10 + header.protocol_version_minor
        return item.operation, PAYLOADS[item.operation].request.load(item.request_payload)

    def respond(self, payload=None, *, reason=None):
        item = ResponseBatchItem(
            operation=self.asked,
            result_status=S.SUCCESS if reason is None else S.OPERATION_FAILED,
            result_reason=reason,
            response_payload=None if payload is None else dump(payload, Tag.RESPONSE_PAYLOAD, self.version),
        )
        header = ResponseHeader(protocol_version=protocol_version(self.version), time_stamp=0, batch_count=1)
        message = ResponseMessage(response_header=header, batch_item=[item])
        data = ttlv.encode(dump(message, Tag.RESPONSE_MESSAGE, self.version))
        assert engine.exchange(data, self.peer, self.courier) is None

    def told(self):
        """Everything that the server has to say now, each of it taken."""
        found = []
        while (one := self.next()) is not None:
            found.append(one)
            self.respond()
        return found


def comment(uid, text, user="alice"):
    change = SetAttributeRequest(unique_identifier=uid, new_attribute=asked(comment=text))
    return do(O.SET_ATTRIBUTE, change, user)


def due():
    """Let what waits for another attempt be due."""
    Notification.objects.update(next_attempt=0, held_until=0)


def test_a_new_object_is_put_and_its_changes_are_told_in_their_order():
    """Put brings object and attributes; Notify says what changed, what it became, and what is gone."""
    client = Client()
    uid = created()
    comment(uid, "a word")
    do(O.ACTIVATE, ActivateRequest(unique_identifier=uid))
    reference = asked(comment="a word")
    do(O.DELETE_ATTRIBUTE, DeleteAttributeRequest(unique_identifier=uid, current_attribute=reference))
    (first, put), (second, commented), (third, activated), (fourth, deleted) = client.told()
    assert (first, second, third, fourth) == (O.PUT, O.NOTIFY, O.NOTIFY, O.NOTIFY)
    assert put.unique_identifier == uid and put.put_function == PutFunction.NEW
    assert put.symmetric_key.key_block.key_value.key_material == material(uid)
    assert put.attributes.unique_identifier == uid and put.attributes.cryptographic_length == 128
    # What is told is what the object is now, also where it has changed since.
    assert commented.attributes.last_change_date is not None
    assert activated.attributes.state == State.ACTIVE and activated.attributes.activation_date is not None
    assert list(deleted.attribute_reference) == [Tag.COMMENT]
    assert client.next() is None and not Notification.objects.exists()


def test_only_the_owner_is_told_and_only_once_it_has_asked():
    """Others' objects, and what came before, are nobody's news."""
    created()
    alice, bob = Client("alice"), Client("bob")
    assert alice.next() is None
    uid = created("bob")
    assert alice.next() is None and [operation for operation, _ in bob.told()] == [O.PUT]
    assert bob.next() is None and not store.fetch(uid, 0, bob.peer.identity).columns["fresh"]


def test_a_replacement_says_what_it_replaces():
    """Put of a re-keyed key; the old key's changes are told, too."""
    old = created()
    client = Client()
    new = do(O.RE_KEY, ReKeyRequest(unique_identifier=old)).unique_identifier
    (_, replaced), (_, put) = client.told()
    assert replaced.unique_identifier == old
    assert (put.put_function, put.replaced_unique_identifier) == (PutFunction.REPLACE, old)
    assert put.unique_identifier == new


@pytest.mark.parametrize("attributes", [{"sensitive": True}, {"extractable": False}])
def test_what_may_not_leave_the_server_is_not_put(attributes):
    """Its attributes are told."""
    client = Client()
    uid = created(**attributes)
    ((operation, notify),) = client.told()
    assert operation == O.NOTIFY and notify.unique_identifier == uid
    assert notify.attributes.cryptographic_length == 128


def test_what_became_sensitive_meanwhile_is_not_put_either():
    """The rules of the moment of sending count."""
    client = Client()
    uid = created()
    change = SetAttributeRequest(unique_identifier=uid, new_attribute=asked(sensitive=True))
    do(O.SET_ATTRIBUTE, change)
    assert [operation for operation, _ in client.told()] == [O.NOTIFY]
    assert AuditRecord.objects.filter(operation="Put", result="Failure", reason="Dropped").count() == 1


def test_what_the_client_does_not_take_is_dropped_with_a_record():
    """By its Query, or by its answer."""
    client = Client(operations=[O.NOTIFY])
    uid = created()
    comment(uid, "x")
    assert [operation for operation, _ in client.told()] == [O.NOTIFY]
    record = AuditRecord.objects.get(operation="Put")
    assert (record.object, record.result, record.reason, record.user) == (uid, "Failure", "Dropped", "alice")
    comment(uid, "y")
    client.next()
    client.respond(reason=R.OPERATION_NOT_SUPPORTED)
    assert client.next() is None and not Notification.objects.exists()
    assert AuditRecord.objects.filter(operation="Notify", reason="Dropped").count() == 1
    assert AuditRecord.objects.filter(operation="Notify", result="Success").count() == 1


def test_a_client_that_fails_is_asked_again_later_and_given_up_in_the_end():
    """The pauses grow; what comes after waits for it, so that the order stays."""
    client = Client()
    uid = created()
    comment(uid, "after")
    for attempt in range(notifications.MAX_ATTEMPTS):
        assert client.next()[0] == O.PUT
        client.respond(reason=R.GENERAL_FAILURE)
        if attempt + 1 < notifications.MAX_ATTEMPTS:
            assert client.next() is None
            row = Notification.objects.order_by("id")[0]
            assert row.attempts == attempt + 1 and row.next_attempt > clock.now() and row.last_error
        due()
    assert [operation for operation, _ in client.told()] == [O.NOTIFY]
    assert AuditRecord.objects.filter(operation="Put", reason="Dropped").count() == 1


def test_what_was_not_answered_is_sent_again_over_another_connection():
    """The first one has ended."""
    client = Client()
    created()
    assert client.next()[0] == O.PUT
    other = Client()
    assert other.next() is None
    client.courier.lost()
    due()
    assert other.next()[0] == O.PUT
    other.respond()
    assert not Notification.objects.exists()


def test_the_notifications_of_one_user_go_to_one_of_its_connections():
    """Never to two."""
    first, second = Client(), Client()
    created()
    assert (first.next() is None) != (second.next() is None)


def test_what_nobody_takes_in_time_is_dropped_with_a_record():
    """And nobody is told any more who has not come back."""
    Client()
    created()
    Notification.objects.update(expires=1)
    Endpoint.objects.update(expires=1)
    expiry.run()
    assert not Notification.objects.exists() and not Endpoint.objects.exists()
    record = AuditRecord.objects.get(operation="Put")
    assert (record.reason, record.user) == ("Dropped", "alice") and "no client took it" in record.detail
    created()
    assert not Notification.objects.exists()


def test_a_change_that_is_taken_back_is_not_told():
    """The note is part of its transaction."""
    uid = created()
    client = Client()
    with pytest.raises(KMIPError):
        do(O.REVOKE, RevokeRequest(unique_identifier=uid, revocation_reason=None))
    assert client.next() is None


def test_states_that_come_with_their_date_are_told():
    """By the job that writes them down."""
    client = Client()
    uid = created(activation_date=clock.now() // clock.SECOND + 100)
    client.told()
    ManagedObject.objects.update(next_change=1)
    row = ManagedObject.objects.get()
    packed = row.activation_date - 200
    ManagedObject.objects.update(activation_date=packed)
    store.rows.clear()
    notifications.settle()
    ((operation, told),) = client.told()
    assert operation == O.NOTIFY and told.unique_identifier == uid and told.attributes.state == State.ACTIVE


def test_the_version_is_the_newest_that_the_client_speaks():
    """The first question is asked in that of the connection."""
    client = Client(version=V1_4)
    created()
    assert client.next()[0] == O.PUT and client.spoken == V1_4


def test_a_client_that_is_silent_is_asked_for_a_sign_of_life(monkeypatch):
    """By a question that every client answers."""
    client = Client()
    assert client.next() is None
    client.courier._heard -= notifications.SILENCE + 1
    assert client.next()[0] == O.DISCOVER_VERSIONS
    client.respond(DiscoverVersionsResponse())
    assert client.next() is None


def test_a_client_is_told_only_as_long_as_it_is_somebody():
    """Whoever is disabled meanwhile hears nothing more."""
    client = Client()
    created()
    client.peer.identity = None
    with pytest.raises(KMIPError) as caught:
        client.next()
    assert caught.value.reason == R.AUTHENTICATION_NOT_SUCCESSFUL


def test_a_user_without_the_right_to_get_is_put_nothing():
    """A role that may create keys but not get them."""
    client = Client()
    created()
    client.peer.identity = Identity("alice", "certificate", roles=(roles.Allowance("few", roles.bits([O.CREATE])),))
    assert client.next() is None
    assert AuditRecord.objects.filter(operation="Put", reason="Dropped").count() == 1


def test_what_needs_approval_to_get_is_not_put():
    """Put would go round the people who have to approve."""
    client = Client()
    created()
    rule = Approval("get", frozenset(), 1, ("bob",), 60)
    client.peer.identity = Identity("alice", "certificate", approvals=(rule,))
    assert client.next() is None
    record = AuditRecord.objects.get(operation="Put", reason="Dropped")
    assert "approval" in record.detail


def test_an_unasked_response_is_refused():
    """It answers nothing."""
    client = Client()
    client.asked = O.PUT
    with pytest.raises(KMIPError):
        client.respond()


def test_roles_change_on_connections_of_kmip_alone():
    """Not over HTTP, not for whoever is somebody else than the connection, not with a ticket."""
    accounts.ensure("default", "alice")
    for peer, reason in ((Peer("cli", user="alice"), R.FEATURE_NOT_SUPPORTED), (Peer("kmip"), None)):
        with pytest.raises(KMIPError) as caught:
            take(peer)
        assert reason is None or caught.value.reason == reason
        assert peer.serves is None
    peer = connection("alice")
    tickets.issue(Identity("alice", "password"), lifetime=None, requests=None, limits=None)
    request = SetEndpointRoleRequest(endpoint_role=EndpointRole.CLIENT)
    for identity in (Identity("bob", "password"), tickets._identity(tickets.models.Ticket.objects.get())):
        with pytest.raises(KMIPError) as caught:
            engine.execute(O.SET_ENDPOINT_ROLE, request, peer, identity=identity)
        assert caught.value.reason == R.PERMISSION_DENIED
    assert peer.serves is None
    with pytest.raises(KMIPError) as caught:
        take(peer, EndpointRole.of(9))
    assert caught.value.reason == R.INVALID_FIELD


def test_roles_change_back():
    """The server is the server again, and the courier is no longer asked."""
    peer = connection()
    assert take(peer).endpoint_role == EndpointRole.CLIENT and peer.serves == V2_1
    assert take(peer, EndpointRole.SERVER).endpoint_role == EndpointRole.SERVER and peer.serves is None


def test_objects_that_the_client_s_version_does_not_know_are_not_put():
    """They are dropped; what follows is told."""
    client = Client(version=V1_4)
    uid = created()
    ManagedObject.objects.filter(uid=uid).update(object_type=int(ObjectType.CERTIFICATE_REQUEST))
    store.rows.clear()
    assert client.next() is None
    record = AuditRecord.objects.get(operation="Put")
    assert record.reason == "Dropped" and "knows no" in record.detail


def test_destroyed_objects_are_told_of():
    """Their state is news like any other."""
    uid = created()
    do(O.ACTIVATE, ActivateRequest(unique_identifier=uid))
    client = Client()
    reason = RevocationReason(revocation_reason_code=RevocationReasonCode.UNSPECIFIED)
    do(O.REVOKE, RevokeRequest(unique_identifier=uid, revocation_reason=reason))
    do(O.DESTROY, DestroyRequest(unique_identifier=uid))
    told = client.told()
    assert [operation for operation, _ in told] == [O.NOTIFY, O.NOTIFY]
    assert told[1][1].attributes.state == State.DESTROYED == seen(uid).state


@pytest.mark.parametrize("principal", ["user:bob", "group:readers", "*"])
def test_who_was_granted_an_object_s_attributes_is_told_of_changes(principal):
    """Not of the object when it is new, not of what merely may be used, and no longer once the grant is gone."""
    readers = Group.objects.create(namespace=accounts.namespace("default"), name="readers")
    account = accounts.ensure("default", "bob")
    readers.members.add(account)
    accounts.ensure("default", "carol")
    bob, carol = Client("bob"), Client("carol")
    bob.peer.identity = accounts.identity(account, "certificate")
    uid = created()
    assert bob.told() == []
    row = ManagedObject.objects.get(uid=uid)
    given = Grant.objects.create(
        object=row, namespace="default", principal=principal, operations=roles.bits([O.ENCRYPT])
    )
    comment(uid, "not for users of the key")
    assert bob.told() == []
    Grant.objects.update(operations=roles.bits([O.GET_ATTRIBUTES]))
    comment(uid, "a word")
    ((operation, notify),) = bob.told()
    assert (operation, notify.unique_identifier, notify.attributes.comment) == (O.NOTIFY, uid, "a word")
    assert len(carol.told()) == (principal == "*")
    comment(uid, "too late")
    given.delete()
    assert bob.told() == []
    assert AuditRecord.objects.filter(operation="Notify", user="bob", reason="Dropped").count() == 1


def test_states_of_granted_objects_that_come_with_their_date_are_told():
    accounts.ensure("default", "bob")
    bob = Client("bob")
    uid = created(activation_date=clock.now() // clock.SECOND + 1000)
    Grant.objects.create(object_id=uid, namespace="default", principal="user:bob",
                         operations=roles.bits([O.GET_ATTRIBUTES]))  # fmt: skip
    ManagedObject.objects.filter(uid=uid).update(next_change=1)
    notifications.settle()
    assert not bob.told(), "the date has not come, whatever the row says"
    managed = store.fetch(uid, 0, Identity("alice", "test"))
    managed.attributes.activation_date = clock.now() // clock.SECOND - 5
    store.save(managed)
    Notification.objects.all().delete()
    notifications.settle()
    ((operation, notify),) = bob.told()
    assert operation == O.NOTIFY and notify.attributes.state == State.ACTIVE
