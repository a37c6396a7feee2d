"""Login, Delegated Login and Logout: what a ticket is good for, for whom, how long, and what it never allows."""

import pytest

from keystore import authn, clock, deferred, engine, expiry, roles, tickets
from keystore.authn import Peer, accounts
from keystore.models import ClientCertificate, RoleAssignment, Ticket
from kmip.enums import (
    AsynchronousIndicator,
    CredentialType,
    CryptographicAlgorithm,
    ObjectType,
    Operation,
    ResultReason,
    ResultStatus,
    TicketType,
    UsageLimitsUnit,
)
from kmip.messages import (
    ENCODINGS,
    Authentication,
    Credential,
    ResponseMessage,
    TicketCredential,
    UsernameAndPassword,
)
from kmip.payloads import (
    PAYLOADS,
    CreateRequest,
    DelegatedLoginRequest,
    DestroyRequest,
    EncryptRequest,
    GetAttributesRequest,
    GetRequest,
    LocateRequest,
    LoginRequest,
    LogoutRequest,
    ObjectGroups,
    Objects,
    Operations,
    PollRequest,
    QueryRequest,
    ReKeyRequest,
    Right,
    Rights,
    SetDefaultsRequest,
)
from kmip.structures import UsageLimits
from kmip.tags import Tag
from kmip.ttlv import Item, Type
from kmip.versions import V2_1
from tests.authority import do, refused, sealed  # noqa: F401 - a fixture among them
from tests.made import activate, asked, created
from tests.wire import message

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("sealed")]
O, R = Operation, ResultReason  # noqa: E741

QUERY = (O.QUERY, QueryRequest())
AES = {"cryptographic_algorithm": CryptographicAlgorithm.AES, "cryptographic_length": 128}


def login(user="alice", **request):
    return do(O.LOGIN, LoginRequest(**request), user).ticket


def delegated(*rights, user="alice", **request):
    return do(O.DELEGATED_LOGIN, DelegatedLoginRequest(rights=Rights(right=list(rights)), **request), user).ticket


def right(*operations, objects=None, groups=None, limits=None):
    return Right(
        operations=Operations(operation=list(operations)) if operations else None,
        objects=None if objects is None else Objects(unique_identifier=objects),
        object_groups=None if groups is None else ObjectGroups(object_group=groups),
        usage_limits=limits,
    )


def limits(total, unit=UsageLimitsUnit.OBJECT):
    return UsageLimits(usage_limits_total=total, usage_limits_unit=unit)


def shown(ticket):
    value = TicketCredential(ticket=ticket)
    return Credential(credential_type=CredentialType.TICKET, credential_value=value)


def connection(user=None):
    """A connection, known to be a user's or nobody's."""
    peer = Peer("kmip")
    if user is not None:
        peer.identity = accounts.identity(accounts.ensure("default", user), "certificate")
    return peer


def using(ticket, *items, peer=None, more=(), **header):
    """The answers to items that are sent with a ticket."""
    authentication = Authentication(credential=[shown(ticket), *more])
    request = message(*items, version=V2_1, authentication=authentication, **header)
    data = ENCODINGS["ttlv"].encode(request, Tag.REQUEST_MESSAGE, V2_1)
    found = ResponseMessage.load(ENCODINGS["ttlv"].decode(engine.handle(data, peer or connection())))
    for item in found.batch_item:
        if item.response_payload is not None:
            item.response_payload = PAYLOADS[item.operation].response.load(item.response_payload)
    return found.batch_item


def reason(ticket, *items, **options):
    return using(ticket, *items, **options)[0].result_reason


def create(**attributes):
    return O.CREATE, CreateRequest(object_type=ObjectType.SYMMETRIC_KEY, attributes=asked(**AES, **attributes))


def get(uid):
    return O.GET, GetRequest(unique_identifier=uid)


def test_a_ticket_stands_for_whoever_got_it():
    """On a connection that is nobody's, or the user's own; what is made with it is the user's."""
    ticket = login()
    uid = using(ticket, create())[0].response_payload.unique_identifier
    assert reason(ticket, get(uid)) is None and reason(ticket, get(uid), peer=connection("alice")) is None
    assert do(O.GET, GetRequest(unique_identifier=uid)).unique_identifier == uid


def test_a_login_ticket_is_of_no_use_to_anybody_else():
    """A connection that is known to be another user's cannot use it, whatever it asks."""
    ticket = login()
    assert reason(ticket, QUERY, peer=connection("mallory")) == R.INVALID_TICKET
    ticket.ticket_value = bytes(len(ticket.ticket_value))
    assert reason(ticket, QUERY) == R.INVALID_TICKET
    other = login()
    other.ticket_type = TicketType.of(7)
    assert reason(other, QUERY) == R.INVALID_TICKET


def test_a_ticket_is_the_only_credential():
    """It stands for one user already; a password beside it does not widen it."""
    value = UsernameAndPassword(username="bob", password="x")
    password = Credential(credential_type=CredentialType.USERNAME_AND_PASSWORD, credential_value=value)
    assert reason(login(), QUERY, more=[password]) == R.INVALID_FIELD


def test_tickets_count_only_where_credentials_do(configure):
    """Without them the connection alone decides."""
    ticket = login()
    configure(**{"auth.kmip_credentials": False})
    assert reason(ticket, QUERY) == R.AUTHENTICATION_NOT_SUCCESSFUL


def test_a_ticket_ends_with_its_requests():
    """Each message takes one off, also one that fails."""
    ticket = login(request_count=2)
    assert reason(ticket, QUERY, QUERY) is None and reason(ticket, get("nothing")) == R.OBJECT_NOT_FOUND
    assert reason(ticket, QUERY) == R.INVALID_TICKET


def test_a_ticket_ends_with_its_lease_time(configure):
    """As an interval or as a date, never later than the server allows, and not in the past."""
    configure(**{"auth.ticket_lifetime": 100})
    now = clock.now()

    def lifetime(lease_time):
        Ticket.objects.all().delete()
        login(lease_time=lease_time)
        row = Ticket.objects.get()
        return round((row.expires - row.created) / clock.SECOND)

    date = Item(Tag.LEASE_TIME, Type.DATE_TIME, now // clock.SECOND + 50)
    assert 30 <= lifetime(date) <= 50 and [lifetime(each) for each in (10, 1000, 0, None)] == [10, 100, 100, 100]
    past = Item(Tag.LEASE_TIME, Type.DATE_TIME, now // clock.SECOND - 50)
    refused(R.INVALID_FIELD, O.LOGIN, LoginRequest(lease_time=past))
    ticket = login()
    Ticket.objects.update(expires=clock.now() - 1)
    assert reason(ticket, QUERY) == R.INVALID_TICKET
    expiry.run()
    assert not Ticket.objects.exists()


def test_a_ticket_ends_with_its_usage_limits():
    """Objects are counted by operation, bytes by the data of it."""
    ticket = login(usage_limits=limits(2))
    assert [reason(ticket, QUERY) for _ in range(3)] == [None, None, R.USAGE_LIMIT_EXCEEDED]
    uid = created()
    activate(uid)
    ticket = login(usage_limits=limits(20, UsageLimitsUnit.BYTE))
    encrypt = (O.ENCRYPT, EncryptRequest(unique_identifier=uid, data=bytes(16)))
    assert reason(ticket, encrypt) in (None, R.BAD_CRYPTOGRAPHIC_PARAMETERS)
    assert reason(ticket, encrypt) == R.USAGE_LIMIT_EXCEEDED
    refused(R.INVALID_FIELD, O.LOGIN, LoginRequest(usage_limits=limits(0)))
    refused(R.INVALID_FIELD, O.LOGIN, LoginRequest(request_count=0))


def test_logout_ends_a_ticket_of_one_s_own():
    """Others cannot end it, and it ends once."""
    ticket = login()
    refused(R.INVALID_TICKET, O.LOGOUT, LogoutRequest(ticket=ticket), "mallory")
    do(O.LOGOUT, LogoutRequest(ticket=ticket))
    refused(R.INVALID_TICKET, O.LOGOUT, LogoutRequest(ticket=ticket))
    assert reason(ticket, QUERY) == R.INVALID_TICKET


def test_a_ticket_gives_out_no_tickets():
    """They would outlive it."""
    for ticket in (login(), delegated(right(O.LOGIN, O.DELEGATED_LOGIN))):
        assert reason(ticket, (O.LOGIN, LoginRequest())) == R.PERMISSION_DENIED
        request = DelegatedLoginRequest(rights=Rights(right=[right(O.GET)]))
        assert reason(ticket, (O.DELEGATED_LOGIN, request)) == R.PERMISSION_DENIED


@pytest.mark.parametrize("method", ["token", "jwt"])
def test_a_token_gives_out_no_tickets(method):
    """They would outlive it, and its revocation."""
    identity = accounts.identity(accounts.ensure("default", "alice"), method)
    with pytest.raises(engine.KMIPError) as caught:
        tickets.issue(identity, lifetime=None, requests=None, limits=None)
    assert caught.value.reason == R.PERMISSION_DENIED


def test_a_ticket_is_worth_no_more_than_its_user():
    """It ends when the user is disabled or gone, or the certificate that it was got with is revoked."""
    ticket = login()
    account = accounts.find("default", "alice")
    account.disabled = True
    account.save()
    assert reason(ticket, QUERY) == R.AUTHENTICATION_NOT_SUCCESSFUL
    account.disabled = False
    account.save()
    assert reason(ticket, QUERY) is None
    row = ClientCertificate.objects.create(
        fingerprint="f" * 64,
        account=account,
        authority="ca:x",
        subject="x",
        serial_number="1",
        not_after=1,
        first_seen=1,
    )
    identity = accounts.identity(account, "certificate", fingerprint="f" * 64)
    bound = tickets.issue(identity, lifetime=None, requests=None, limits=None)
    assert reason(bound, QUERY) is None
    row.disabled = True
    row.save()
    assert reason(bound, QUERY) == R.AUTHENTICATION_NOT_SUCCESSFUL
    accounts.find("default", "alice").delete()
    assert reason(ticket, QUERY) == R.INVALID_TICKET


def test_the_database_does_not_know_a_ticket():
    """Only its digest."""
    ticket = login()
    row = Ticket.objects.get()
    assert ticket.ticket_value.hex() not in row.id and len(row.id) == 64 and len(ticket.ticket_value) == 32


def test_a_delegated_ticket_allows_its_operations_and_no_others():
    """For whoever has it: it is meant to be handed on."""
    uid = created()
    ticket = delegated(right(O.GET, O.LOCATE))
    stranger = connection("bob")
    assert reason(ticket, get(uid), peer=stranger) is None
    for item in (create(), (O.GET_ATTRIBUTES, GetAttributesRequest(unique_identifier=uid)),
                 (O.DESTROY, DestroyRequest(unique_identifier=uid)), QUERY):  # fmt: skip
        assert reason(ticket, item, peer=stranger) == R.NOT_AUTHORISED


def test_a_right_for_objects_reaches_those_only():
    """Others do not exist for it, named or found, and it makes none."""
    mine, other = created(names=["mine"]), created(names=["other"])
    ticket = delegated(right(objects=[mine]))
    assert reason(ticket, get(mine)) is None and reason(ticket, get(other)) == R.NOT_AUTHORISED
    found = using(ticket, (O.LOCATE, LocateRequest()))[0].response_payload.unique_identifier
    assert found == [mine]
    assert reason(ticket, create()) == R.NOT_AUTHORISED
    assert reason(ticket, (O.SET_DEFAULTS, SetDefaultsRequest())) == R.NOT_AUTHORISED
    # By the ID Placeholder, which the request does not name.
    every = (O.LOCATE, LocateRequest(attributes=asked(names=["other"])))
    answers = using(delegated(right(O.LOCATE), right(O.GET, objects=[mine])), every, (O.GET, GetRequest()))
    assert answers[1].result_reason in (R.OBJECT_NOT_FOUND, R.INVALID_FIELD, R.PERMISSION_DENIED)


def test_a_right_for_groups_reaches_their_objects_and_makes_members():
    """By Object Group."""
    member, other = created(object_group=["g"]), created(object_group=["h"])
    ticket = delegated(right(groups=["g"]))
    assert reason(ticket, get(member)) is None and reason(ticket, get(other)) == R.OBJECT_NOT_FOUND
    found = using(ticket, (O.LOCATE, LocateRequest()))[0].response_payload.unique_identifier
    assert found == [member]
    assert reason(ticket, create()) == R.NOT_AUTHORISED
    assert reason(ticket, create(object_group=["g"])) is None


def test_rights_are_not_mixed():
    """Each says what is allowed with its own objects."""
    first, second = created(), created()
    ticket = delegated(right(O.GET, objects=[first]), right(O.GET_ATTRIBUTES, objects=[second]))
    assert reason(ticket, get(first)) is None
    assert reason(ticket, (O.GET_ATTRIBUTES, GetAttributesRequest(unique_identifier=second))) is None
    assert reason(ticket, get(second)) == R.NOT_AUTHORISED
    assert reason(ticket, (O.RE_KEY, ReKeyRequest(unique_identifier=first))) == R.NOT_AUTHORISED


def test_a_right_has_usage_limits_of_its_own():
    """They count apart from the ticket's; a right without limits serves first."""
    uid = created()
    ticket = delegated(right(O.GET, limits=limits(1)), right(O.QUERY))
    assert [reason(ticket, get(uid)) for _ in range(2)] == [None, R.USAGE_LIMIT_EXCEEDED]
    assert reason(ticket, QUERY) is None


def test_a_delegated_ticket_gives_no_right_that_its_owner_lacks():
    """Others' objects stay others'."""
    ticket = delegated(right())
    assert reason(ticket, get(created("bob"))) == R.OBJECT_NOT_FOUND


def test_what_was_asked_later_with_a_ticket_is_the_ticket_s():
    """It is carried out within its rights, and only its bearer polls it."""
    mine, other = created(), created()
    ticket = delegated(right(O.GET, O.POLL, objects=[mine]))
    wanted = AsynchronousIndicator.MANDATORY
    (pending,) = using(ticket, get(mine), asynchronous_indicator=wanted)
    (denied,) = using(ticket, get(other), asynchronous_indicator=wanted)
    while (work := deferred.claim("w")) is not None:
        deferred.carry_out(work, "w")
    polls = [
        (O.POLL, PollRequest(asynchronous_correlation_value=one.asynchronous_correlation_value))
        for one in (pending, denied)
    ]
    assert using(ticket, polls[0])[0].result_status == ResultStatus.SUCCESS
    assert using(ticket, polls[1])[0].result_reason == R.NOT_AUTHORISED
    assert reason(delegated(right()), polls[0]) == R.INVALID_ASYNCHRONOUS_CORRELATION_VALUE
    refused(R.INVALID_ASYNCHRONOUS_CORRELATION_VALUE, *polls[0])


def test_a_ticket_does_not_administer():
    """Whoever it stands for: the rights of others are not changed with it."""
    account = accounts.ensure("default", "alice")
    RoleAssignment.objects.create(namespace_id="default", principal="user:alice", role="administrator")
    authn.forget()
    ticket = login()
    peer = connection()
    identity = authn.identify(peer, Authentication(credential=[shown(ticket)]))
    assert identity.username == account.username and identity.roles == (roles.ADMINISTRATOR,)
    assert not identity.administers and peer.identity is None
