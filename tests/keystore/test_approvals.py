"""Approvals: m of n named people; on the wire Operation Pending and Poll, and what keeps the wrong people out."""

import threading
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connections

from keystore import access, administration, approvals, audit, authn, clock, deferred, engine, expiry, roles
from keystore.authn import Peer, accounts
from keystore.models import ApprovalRequest, ApprovalRule, ApprovalVote, DeferredRequest, Grant, ManagedObject
from kmip.attributes import Attributes
from kmip.enums import (
    AsynchronousIndicator,
    BatchErrorContinuationOption,
    CancellationResult,
    ObjectType,
    Operation,
    ProcessingStage,
    ResultReason,
    ResultStatus,
    RevocationReasonCode,
    SplitKeyMethod,
    State,
)
from kmip.errors import KMIPError
from kmip.payloads import (
    ActivateRequest,
    ArchiveRequest,
    CancelRequest,
    CreateSplitKeyRequest,
    DestroyRequest,
    ExportRequest,
    GetAttributesRequest,
    GetRequest,
    LocateRequest,
    PollRequest,
    ProcessRequest,
    RevokeRequest,
)
from kmip.structures import RevocationReason
from kmip.versions import V1_0, V1_4, V2_1
from tests.made import created, pair, seen
from tests.wire import one, send, why

O, R, S = Operation, ResultReason, ResultStatus  # noqa: E741
PEOPLE = ("ann", "ben", "cat")


@pytest.fixture
def people(person):
    """Three people who approve, an administrator, and clients."""
    for name in (*PEOPLE, "alice", "bob"):
        person(name)
    return person("root", roles=("administrator",))


def identity(name: str):
    return accounts.identity(accounts.find("default", name), "session")


def peer(name: str) -> Peer:
    return Peer("cli", user=name)


def rule(name="destroy", *, needed=2, people=PEOPLE, by="root", **more):
    approvals.set_rule(peer(by), identity(by), name, needed=needed, people=people, **more)
    authn.forget()


def asked(number, payload, *, user="alice", version=V2_1, **header):
    """Send a request that has to wait; its correlation value."""
    (item,) = send((number, payload), user=user, version=version, **header).batch_item
    assert item.result_status is S.OPERATION_PENDING, item.result_message
    assert item.response_payload is None and "waits for the approval" in item.result_message
    return item.asynchronous_correlation_value


def poll(correlation, *, user="alice", version=V2_1):
    request = PollRequest(asynchronous_correlation_value=correlation)
    return send((O.POLL, request), user=user, version=version).batch_item[0]


def vote(name, correlation, *, approves=True, digest=None):
    number = correlation.hex() if isinstance(correlation, bytes) else correlation
    shown = {one.id: one for one in approvals.shown(identity("root"), decided=True)}
    digest = digest or shown[number].digest
    return approvals.vote(peer(name), identity(name), number, digest, approves=approves)


def refused(work, *arguments, **more) -> ResultReason:
    with pytest.raises(KMIPError) as caught:
        work(*arguments, **more)
    return caught.value.reason


REVOCATION = RevocationReason(revocation_reason_code=RevocationReasonCode.CESSATION_OF_OPERATION)
#: Operations that can be put under a rule, on a new object.
WAITING = {
    "destroy": (O.DESTROY, lambda uid: DestroyRequest(unique_identifier=uid)),
    "revoke": (O.REVOKE, lambda uid: RevokeRequest(unique_identifier=uid, revocation_reason=REVOCATION)),
    "export": (O.EXPORT, lambda uid: ExportRequest(unique_identifier=uid)),
    "get": (O.GET, lambda uid: GetRequest(unique_identifier=uid)),
    "archive": (O.ARCHIVE, lambda uid: ArchiveRequest(unique_identifier=uid)),
}


@pytest.mark.django_db
def test_every_operation_that_can_wait_is_tried_here():
    """A rule that nobody has tried is none."""
    assert set(WAITING) == set(approvals.OPERATIONS)


@pytest.mark.django_db
@pytest.mark.parametrize("name", WAITING)
@pytest.mark.parametrize("version", [V1_4, V2_1], ids=str)
def test_a_request_waits_until_enough_people_have_approved_it(people, name, version):
    """It is pending for its client, changes nothing before, and Poll then answers as the operation would have."""
    number, request = WAITING[name]
    uid = created()
    if name == "revoke":
        one(O.ACTIVATE, ActivateRequest(unique_identifier=uid), version=version)
    before = seen(uid)
    rule(name)
    correlation = asked(number, request(uid), version=version)
    assert seen(uid) == before
    assert vote("ann", correlation) == approvals.WAITING
    item = poll(correlation, version=version)
    assert item.result_status is S.OPERATION_PENDING and item.asynchronous_correlation_value == correlation
    assert seen(uid) == before
    assert vote("ben", correlation) == approvals.APPROVED
    item = poll(correlation, version=version)
    assert item.result_status is S.SUCCESS and item.operation is number
    assert item.response_payload.unique_identifier == uid
    if name in ("get", "export"):
        assert item.response_payload.symmetric_key.key_block.key_value.key_material
    else:
        assert seen(uid) != before
    assert [row.operation for row in audit.trail(uid, 20)].count("Approve") == 2


def destroyed(uid: str) -> bool:
    return ManagedObject.objects.get(uid=uid).state == State.DESTROYED


@pytest.fixture
def waits(people):
    """An object of alice's, and her request to destroy it, that waits for two of three."""
    uid = created()
    rule()
    return uid, asked(O.DESTROY, DestroyRequest(unique_identifier=uid))


@pytest.mark.django_db
def test_who_asks_does_not_vote(people):
    """Also where the rule names them; the others have to be enough."""
    uid = created("ann")
    rule()
    correlation = asked(O.DESTROY, DestroyRequest(unique_identifier=uid), user="ann")
    assert refused(vote, "ann", correlation) is R.PERMISSION_DENIED
    assert vote("ben", correlation) == approvals.WAITING
    assert not destroyed(uid)
    assert vote("cat", correlation) == approvals.APPROVED and destroyed(uid)
    rule("revoke", needed=3)
    uid = created("ann")
    one(O.ACTIVATE, ActivateRequest(unique_identifier=uid), user="ann")
    request = RevokeRequest(unique_identifier=uid, revocation_reason=REVOCATION)
    assert why(O.REVOKE, request, user="ann", version=V2_1) is R.PERMISSION_DENIED


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["bob", "alice"])
def test_nobody_else_votes(waits, name):
    """Neither other clients nor who asked; and an administrator only where the rule names it."""
    assert refused(vote, name, waits[1]) in (R.PERMISSION_DENIED, R.ITEM_NOT_FOUND)
    assert refused(vote, "root", waits[1]) is R.PERMISSION_DENIED
    assert not ApprovalVote.objects.exists()


@pytest.mark.django_db
def test_the_people_of_another_namespace_do_not_vote(waits, person):
    """Namespaces know nothing of one another's requests, even where names are alike."""
    person("ann", "other")
    stranger = accounts.identity(accounts.find("other", "ann"), "session")
    assert approvals.shown(stranger, decided=True) == []
    (row,) = ApprovalRequest.objects.all()
    reason = refused(approvals.vote, peer("other/ann"), stranger, row.id, row.digest, approves=True)
    assert reason is R.ITEM_NOT_FOUND


@pytest.mark.django_db
def test_everybody_votes_once(waits):
    """A second vote is refused, whatever it says."""
    vote("ann", waits[1])
    for approves in (True, False):
        assert refused(vote, "ann", waits[1], approves=approves) is R.PERMISSION_DENIED
    assert not destroyed(waits[0])


@pytest.mark.django_db
def test_a_vote_is_bound_to_the_request_that_was_shown(waits):
    """Another digest is refused, and a vote for one does not count for another request."""
    other = created()
    second = asked(O.DESTROY, DestroyRequest(unique_identifier=other))
    digest = approvals.shown(identity("ann"))[0].digest
    assert refused(vote, "ann", waits[1], digest=digest) is R.INVALID_FIELD
    vote("ann", second)
    vote("ben", waits[1])
    assert not destroyed(other) and not destroyed(waits[0])
    # A vote in the database whose digest is not the request's does not count.
    ApprovalVote.objects.filter(voter="ann").update(request=waits[1].hex())
    assert vote("cat", second) == approvals.WAITING and not destroyed(waits[0])


@pytest.mark.django_db
def test_an_approval_works_once(waits):
    """The next request waits again; polling again gives the same result and does nothing."""
    uid = waits[0]
    vote("ann", waits[1])
    vote("ben", waits[1])
    first, again = poll(waits[1]), poll(waits[1])
    assert first.result_status is again.result_status is S.SUCCESS
    assert refused(vote, "cat", waits[1]) is R.ILLEGAL_OPERATION
    rule("get")
    other = created()
    correlation = asked(O.GET, GetRequest(unique_identifier=other))
    vote("ann", correlation)
    vote("ben", correlation)
    assert poll(correlation).result_status is S.SUCCESS
    assert asked(O.GET, GetRequest(unique_identifier=other)) != correlation
    assert destroyed(uid)


@pytest.mark.django_db
def test_the_same_request_asked_again_waits_once(waits):
    """A client that tries again does not make people vote again."""
    assert asked(O.DESTROY, DestroyRequest(unique_identifier=waits[0])) == waits[1]
    assert ApprovalRequest.objects.count() == DeferredRequest.objects.count() == 1


@pytest.mark.django_db
def test_refusals_end_a_request_that_can_no_longer_be_approved(waits):
    """Two of three refuse: Poll fails with Permission Denied."""
    assert vote("ann", waits[1], approves=False) == approvals.WAITING
    assert vote("ben", waits[1], approves=False) == approvals.REFUSED
    item = poll(waits[1])
    assert item.result_status is S.OPERATION_FAILED and item.result_reason is R.PERMISSION_DENIED
    assert "did not approve" in item.result_message
    assert refused(vote, "cat", waits[1]) is R.ILLEGAL_OPERATION and not destroyed(waits[0])


@pytest.mark.django_db
@pytest.mark.parametrize("job", [False, True], ids=["found by Poll", "ended by the job"])
def test_a_request_expires(waits, job):
    """After its time nobody votes, and Poll says that too few have in time."""
    vote("ann", waits[1])
    ApprovalRequest.objects.update(expires=clock.now() - 1)
    assert refused(vote, "ben", waits[1]) is R.ILLEGAL_OPERATION
    assert approvals.shown(identity("ben")) == []
    if job:
        expiry.run()
    item = poll(waits[1])
    assert item.result_reason is R.PERMISSION_DENIED and "in time" in item.result_message
    assert not destroyed(waits[0])
    assert asked(O.DESTROY, DestroyRequest(unique_identifier=waits[0])) != waits[1]


@pytest.mark.django_db
def test_a_canceled_request_is_not_voted_on(waits):
    """Cancel is its client's; Process does not get round the people."""
    process = ProcessRequest(asynchronous_correlation_value=waits[1])
    assert why(O.PROCESS, process, version=V2_1) is R.PERMISSION_DENIED
    assert poll(waits[1]).result_status is S.OPERATION_PENDING
    cancel = CancelRequest(asynchronous_correlation_value=waits[1])
    assert one(O.CANCEL, cancel, version=V2_1, user="bob").cancellation_result is CancellationResult.UNAVAILABLE
    assert one(O.CANCEL, cancel, version=V2_1).cancellation_result is CancellationResult.CANCELED
    assert refused(vote, "ann", waits[1]) is R.ILLEGAL_OPERATION
    assert poll(waits[1]).result_reason is R.OPERATION_CANCELED_BY_REQUESTER
    assert approvals.shown(identity("ann")) == []
    assert asked(O.DESTROY, DestroyRequest(unique_identifier=waits[0])) != waits[1]


@pytest.mark.django_db
def test_no_worker_carries_out_what_is_held(waits):
    """Only the last vote lets it go."""
    assert deferred.claim("a worker") is None
    assert DeferredRequest.objects.get().stage == ProcessingStage.SUBMITTED


@pytest.mark.django_db
def test_others_do_not_poll(waits):
    """The result is its client's alone, as any deferred one."""
    for name in ("bob", "ann", "root"):
        assert poll(waits[1], user=name).result_reason is R.INVALID_ASYNCHRONOUS_CORRELATION_VALUE


@pytest.mark.django_db
def test_what_would_fail_fails_at_once(people):
    """Nobody is asked for what cannot be done: no such object, no right, a wrong state."""
    rule()
    uid = created()
    assert why(O.DESTROY, DestroyRequest(unique_identifier="none"), version=V2_1) is R.OBJECT_NOT_FOUND
    assert why(O.DESTROY, DestroyRequest(unique_identifier=uid), version=V2_1, user="bob") is R.OBJECT_NOT_FOUND
    one(O.ACTIVATE, ActivateRequest(unique_identifier=uid))
    assert why(O.DESTROY, DestroyRequest(unique_identifier=uid), version=V2_1) is R.WRONG_KEY_LIFECYCLE_STATE
    assert not ApprovalRequest.objects.exists()


@pytest.mark.django_db
def test_rights_count_when_it_is_carried_out(people):
    """A right that was taken away meanwhile is missing then."""
    uid = created()
    access.grant(peer("alice"), identity("alice"), uid, "user:bob", roles.bits([O.GET]))
    rule("get")
    correlation = asked(O.GET, GetRequest(unique_identifier=uid), user="bob")
    vote("ann", correlation)
    access.revoke(peer("alice"), identity("alice"), uid, "user:bob", roles.bits([O.GET]))
    vote("ben", correlation)
    assert poll(correlation, user="bob").result_reason is R.OBJECT_NOT_FOUND


@pytest.mark.django_db
def test_a_disabled_client_gets_nothing(waits):
    """Not even what was approved."""
    vote("ann", waits[1])
    account = accounts.find("default", "alice")
    account.disabled = True
    account.save()
    vote("ben", waits[1])
    assert not destroyed(waits[0])


@pytest.mark.django_db
def test_a_rule_may_be_for_some_types_of_object(people):
    """Get of private keys waits; Get of public and symmetric keys does not."""
    private, public = pair()
    symmetric = created()
    rule("get", object_types=["PrivateKey"])
    for uid in (public, symmetric):
        assert one(O.GET, GetRequest(unique_identifier=uid), version=V2_1).unique_identifier == uid
    correlation = asked(O.GET, GetRequest(unique_identifier=private))
    vote("cat", correlation)
    vote("ben", correlation)
    assert poll(correlation).response_payload.private_key.key_block.key_value


@pytest.mark.django_db
def test_a_key_is_not_had_in_parts_without_approval(people):
    """Split, it would be got by its parts: that is refused; a key that is not under the rule is split."""
    private, _ = pair()
    rule("get", object_types=["PrivateKey"])
    request = CreateSplitKeyRequest(
        object_type=ObjectType.SPLIT_KEY,
        unique_identifier=private,
        split_key_parts=2,
        split_key_threshold=2,
        split_key_method=SplitKeyMethod.XOR,
        attributes=Attributes(),
    )
    assert why(O.CREATE_SPLIT_KEY, request, version=V2_1) is R.PERMISSION_DENIED
    assert not ManagedObject.objects.filter(object_type=ObjectType.SPLIT_KEY).exists()
    request.unique_identifier = created()
    assert len(one(O.CREATE_SPLIT_KEY, request, version=V2_1).unique_identifier) == 2


@pytest.mark.django_db
def test_a_namespace_s_rule_is_its_own(people, person):
    """Clients of other namespaces wait for nobody."""
    rule()
    person("carl", "other")
    uid = created("other/carl")
    assert one(O.DESTROY, DestroyRequest(unique_identifier=uid), user="other/carl").unique_identifier == uid


@pytest.mark.django_db
def test_in_a_batch_each_item_is_for_itself(people):
    """Items before and after are done; the ID Placeholder names what it named."""
    uid = created(names=["batch"])
    rule()
    found = LocateRequest(attributes=seen(uid).only([]), maximum_items=1)
    response = send(
        (O.LOCATE, found), (O.DESTROY, DestroyRequest()), (O.GET_ATTRIBUTES, GetAttributesRequest()), version=V2_1
    )  # fmt: skip
    statuses = [item.result_status for item in response.batch_item]
    assert statuses == [S.SUCCESS, S.OPERATION_PENDING, S.SUCCESS]
    assert response.batch_item[2].response_payload.unique_identifier == uid
    correlation = response.batch_item[1].asynchronous_correlation_value
    created(names=["newer"])
    vote("ann", correlation)
    vote("ben", correlation)
    assert poll(correlation).response_payload.unique_identifier == uid and destroyed(uid)


@pytest.mark.django_db
def test_a_batch_that_is_undone_asks_for_nothing(people):
    """With Undo, a later failure takes the request for approval back."""
    uid = created()
    rule()
    response = send(
        (O.DESTROY, DestroyRequest(unique_identifier=uid)),
        (O.GET, GetRequest(unique_identifier="none")),
        version=V2_1,
        batch_error_continuation_option=BatchErrorContinuationOption.UNDO,
    )
    assert response.batch_item[-1].result_status is S.OPERATION_FAILED
    assert not ApprovalRequest.objects.exists() and not DeferredRequest.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize("version, indicator", [(V2_1, AsynchronousIndicator.PROHIBITED), (V1_0, False)], ids=str)
def test_a_client_that_takes_no_later_answer_is_refused(people, version, indicator):
    """It is told so, and nobody is asked."""
    uid = created()
    rule()
    request = DestroyRequest(unique_identifier=uid)
    reason = why(O.DESTROY, request, version=version, asynchronous_indicator=indicator)
    assert reason is R.PERMISSION_DENIED and not ApprovalRequest.objects.exists()


@pytest.mark.django_db
def test_a_request_that_is_asynchronous_anyway_waits_too(people):
    """The worker finds that it has to wait, and Poll then names the request that people vote on."""
    uid = created()
    rule()
    request = DestroyRequest(unique_identifier=uid)
    response = send((O.DESTROY, request), version=V2_1, asynchronous_indicator=AsynchronousIndicator.MANDATORY)
    correlation = response.batch_item[0].asynchronous_correlation_value
    assert deferred.carry_out(deferred.claim("a worker"), "a worker")
    item = poll(correlation)
    assert item.result_status is S.OPERATION_PENDING and item.asynchronous_correlation_value != correlation
    waits = item.asynchronous_correlation_value
    vote("ann", waits)
    vote("ben", waits)
    assert poll(waits).result_status is S.SUCCESS and destroyed(uid)


@pytest.mark.django_db
def test_the_console_and_the_dialect_are_told(people):
    """Where there is no Batch Item the error says that it waits: for the console, and as status 202 over HTTP."""
    uid = created()
    rule()
    with pytest.raises(KMIPError, match="waits for the approval of 2 of ann, ben, cat") as caught:
        engine.execute(O.DESTROY, DestroyRequest(unique_identifier=uid), peer("alice"))
    assert caught.value.status is S.OPERATION_PENDING
    body = f'{{"tag":"Destroy","value":[{{"tag":"UniqueIdentifier","type":"TextString","value":"{uid}"}}]}}'
    status, _, answer = engine.handle_http(body.encode(), peer("alice"))
    assert status == 202 and b"waits for the approval" in answer


@pytest.mark.django_db
def test_a_grant_waits_as_well(people):
    """It is made when enough people have approved it, and by nobody who may not make it any more."""
    uid = created()
    rule("grant")
    operations = roles.bits([O.GET])
    with pytest.raises(KMIPError) as caught:
        access.grant(peer("alice"), identity("alice"), uid, "user:bob", operations)
    assert caught.value.status is S.OPERATION_PENDING and not Grant.objects.exists()
    (shown,) = approvals.shown(identity("ann"))
    assert shown.operation == "grant" and shown.uid == uid and shown.detail == "user:bob: get" and shown.open
    vote("ann", shown.id)
    assert not Grant.objects.exists()
    assert vote("ben", shown.id) == approvals.APPROVED
    assert Grant.objects.get().principal == "user:bob"
    with pytest.raises(KMIPError):
        access.grant(peer("alice"), identity("alice"), uid, "user:cat", operations)
    (shown,) = approvals.shown(identity("ann"))
    one(O.DESTROY, DestroyRequest(unique_identifier=uid, remove=True), version=V2_1)
    vote("ann", shown.id)
    assert vote("ben", shown.id) == approvals.FAILED


@pytest.mark.django_db
def test_a_rule_is_changed_with_the_approval_of_its_people(people):
    """Else an administrator alone could take it away; who works on the machine itself can, on the record."""
    rule(needed=1, people=("ann",))
    with pytest.raises(KMIPError) as caught:
        approvals.remove_rule(peer("root"), identity("root"), "destroy")
    assert caught.value.status is S.OPERATION_PENDING and ApprovalRule.objects.exists()
    (shown,) = approvals.shown(identity("ann"))
    assert shown.operation == "rule" and "waits for nobody" in shown.detail
    assert vote("ann", shown.id) == approvals.APPROVED and not ApprovalRule.objects.exists()
    rule(needed=1, people=("ann",))
    local, machine = administration.local("default")
    approvals.set_rule(local, machine, "destroy", needed=2, people=["ann", "ben"])
    assert ApprovalRule.objects.get().needed == 2
    assert audit.records(audit.AuditRecord.objects.filter(operation="Set Approval Rule"), 9)[0].method == "local"


@pytest.mark.django_db
def test_what_is_refused_before_it_waits_is_recorded(people):
    """A grant that may not be made, and a vote of somebody who has none."""
    uid = created()
    rule("grant")
    assert refused(access.grant, peer("bob"), identity("bob"), uid, "user:cat", roles.bits([O.GET])) is (
        R.OBJECT_NOT_FOUND
    )
    with pytest.raises(KMIPError):
        access.grant(peer("alice"), identity("alice"), uid, "user:bob", roles.bits([O.GET]))
    (shown,) = approvals.shown(identity("ann"))
    assert refused(vote, "root", shown.id) is R.PERMISSION_DENIED
    failures = audit.AuditRecord.objects.filter(result="Failure").order_by("id")
    assert list(failures.values_list("user", "operation", "object", "reason")) == [
        ("bob", "Grant Access", uid, str(R.OBJECT_NOT_FOUND)),
        ("root", "Approve", "", str(R.PERMISSION_DENIED)),
    ]


BAD_RULES = {
    "not an operation": ("locate", {}, R.INVALID_FIELD),
    "nobody needed": ("destroy", {"needed": 0}, R.INVALID_FIELD),
    "more needed than there are": ("destroy", {"needed": 4}, R.INVALID_FIELD),
    "nobody named": ("destroy", {"people": ()}, R.INVALID_FIELD),
    "an unknown person": ("destroy", {"people": ("ann", "nobody")}, R.ITEM_NOT_FOUND),
    "an unknown type": ("destroy", {"object_types": ["Car"]}, R.INVALID_FIELD),
    "no time": ("destroy", {"lifetime": 0}, R.INVALID_FIELD),
    "too much time": ("destroy", {"lifetime": approvals.MAX_LIFETIME + 1}, R.INVALID_FIELD),
    "not an administrator": ("destroy", {"by": "alice"}, R.PERMISSION_DENIED),
}


@pytest.mark.django_db
@pytest.mark.parametrize("name, more, reason", BAD_RULES.values(), ids=BAD_RULES)
def test_rules_that_cannot_be_are_refused(people, name, more, reason):
    """Each for its own reason, which is in the audit."""
    assert refused(rule, name, **more) is reason
    assert not ApprovalRule.objects.exists()
    record = audit.AuditRecord.objects.get(operation=approvals.SET)
    assert (record.result, record.reason, record.detail) == ("Failure", str(reason), name)


@pytest.mark.django_db
def test_people_see_what_concerns_them(waits):
    """Who asked, who votes, and administrators; others nothing."""
    for name in ("alice", "root", *PEOPLE):
        (shown,) = approvals.shown(identity(name))
        assert shown.open is (name in PEOPLE) and shown.requester == "alice" and shown.uid == waits[0]
    assert approvals.shown(identity("bob")) == []
    vote("ann", waits[1])
    assert not approvals.shown(identity("ann"))[0].open
    vote("ben", waits[1])
    assert approvals.shown(identity("ann")) == []
    (shown,) = approvals.shown(identity("ann"), decided=True)
    assert shown.outcome == approvals.APPROVED and shown.votes == (("ann", True), ("ben", True))


@pytest.mark.django_db(transaction=True)
def test_votes_at_the_same_time_carry_it_out_once(people):
    """Three people at once, where two are needed: nobody's vote is lost, and it is done once."""
    uid = created()
    rule()
    correlation = asked(O.DESTROY, DestroyRequest(unique_identifier=uid))
    digest = ApprovalRequest.objects.get().digest
    ready, outcomes = threading.Barrier(3), []

    def work(name):
        try:
            who = identity(name)
            ready.wait()
            outcomes.append(approvals.vote(peer(name), who, correlation.hex(), digest, approves=True))
        except KMIPError as exc:
            outcomes.append(exc.reason)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work, args=(name,)) for name in PEOPLE]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, outcomes)) == sorted(map(str, ["", approvals.APPROVED, R.ILLEGAL_OPERATION]))
    assert destroyed(uid) and poll(correlation).result_status is S.SUCCESS
    assert DeferredRequest.objects.get().attempts == 1


@pytest.mark.django_db
def test_rules_are_set_on_the_machine(people):
    """And listed, with what waits and who has voted."""
    call_command(
        "approvals", "set", "destroy", "--needed", "2", "--person", "ann", "--person", "ben", stdout=StringIO()
    )
    uid = created()
    authn.forget()
    correlation = asked(O.DESTROY, DestroyRequest(unique_identifier=uid))
    vote("ben", correlation, approves=True)
    out = StringIO()
    call_command("approvals", "list", stdout=out)
    told = out.getvalue()
    assert "ann, ben" in told and correlation.hex() in told and f"alice: destroy {uid}" in told and "ben for it" in told
    call_command("approvals", "remove", "destroy", stdout=StringIO())
    assert not ApprovalRule.objects.exists()
    with pytest.raises(CommandError, match="no rule for destroy"):
        call_command("approvals", "remove", "destroy", stdout=StringIO())
