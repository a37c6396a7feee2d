"""Asynchronous processing: what is answered later, who carries it out, who may ask for it, and what survives."""

import threading

import pytest
from django.db import connections

from keystore import clock, conf, deferred, engine, expiry, jobs, sealing
from keystore.authn import accounts
from keystore.models import DeferredRequest, JobLease, ManagedObject
from kmip.attributes import Attributes
from kmip.enums import (
    AsynchronousIndicator,
    BatchErrorContinuationOption,
    CancellationResult,
    CryptographicAlgorithm,
    ObjectType,
    Operation,
    ProcessingStage,
    ResultReason,
    ResultStatus,
)
from kmip.payloads import (
    ActivateRequest,
    CancelRequest,
    CreateKeyPairRequest,
    CreateRequest,
    GetAttributesRequest,
    GetRequest,
    Operations,
    PollRequest,
    ProcessRequest,
    QueryAsynchronousRequestsRequest,
    QueryRequest,
)
from kmip.versions import V1_0, V1_4, V2_1
from tests.authority import do, sealed  # noqa: F401 - a fixture among them
from tests.made import asked, created, located
from tests.wire import one, send, why

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("sealed")]

O, I, S = Operation, AsynchronousIndicator, ResultStatus  # noqa: E741
AES = {"cryptographic_algorithm": CryptographicAlgorithm.AES, "cryptographic_length": 128}
CREATE = (O.CREATE, CreateRequest(object_type=ObjectType.SYMMETRIC_KEY, attributes=asked(**AES)))
WORKER = "a worker"


def create(*names):
    attributes = asked(names=names, **AES)
    return O.CREATE, CreateRequest(object_type=ObjectType.SYMMETRIC_KEY, attributes=attributes)


def submit(*items, user="alice", version=V2_1, indicator=I.MANDATORY, **header):
    """Send items asynchronously; their correlation values."""
    response = send(*(items or [CREATE]), user=user, version=version, asynchronous_indicator=indicator, **header)
    assert {item.result_status for item in response.batch_item} == {S.OPERATION_PENDING}
    assert all(item.response_payload is None for item in response.batch_item)
    return [item.asynchronous_correlation_value for item in response.batch_item]


def poll(correlation, *, user="alice", version=V2_1):
    request = PollRequest(asynchronous_correlation_value=correlation)
    return send((O.POLL, request), user=user, version=version).batch_item[0]


def cancel(correlation, user="alice"):
    return one(O.CANCEL, CancelRequest(asynchronous_correlation_value=correlation), version=V2_1, user=user)


def outstanding(user="alice", **asked_for):
    request = QueryAsynchronousRequestsRequest(**asked_for)
    return one(O.QUERY_ASYNCHRONOUS_REQUESTS, request, version=V2_1, user=user).asynchronous_request


def work(holder=WORKER):
    """Carry out the oldest piece of work; False where none waits."""
    message = deferred.claim(holder)
    return message is not None and deferred.carry_out(message, holder)


def test_a_request_is_pending_until_it_is_carried_out_and_polls_then_give_its_answer():
    """Poll answers as the operation would have: its name, its status, its payload, as often as it is asked."""
    (correlation,) = submit()
    pending = poll(correlation)
    assert (pending.operation, pending.result_status) == (O.CREATE, S.OPERATION_PENDING)
    assert pending.asynchronous_correlation_value == correlation and pending.response_payload is None
    assert located() == []
    assert work() and not work()
    first, second = poll(correlation), poll(correlation)
    assert (first.operation, first.result_status) == (O.CREATE, S.SUCCESS)
    assert first.response_payload.unique_identifier == second.response_payload.unique_identifier
    assert located() == [first.response_payload.unique_identifier]


def test_a_failure_is_polled_like_a_success():
    """The reason is the one that the operation gave."""
    (correlation,) = submit((O.GET, GetRequest(unique_identifier="nothing")))
    work()
    answer = poll(correlation)
    assert (answer.operation, answer.result_status) == (O.GET, S.OPERATION_FAILED)
    assert answer.result_reason == ResultReason.OBJECT_NOT_FOUND


def test_the_items_of_a_message_are_carried_out_together_and_see_one_another():
    """A later item finds what an earlier one made by the ID Placeholder."""
    correlations = submit(create("one"), (O.ACTIVATE, ActivateRequest()), (O.GET, GetRequest()))
    assert work() and not work()
    answers = [poll(one).response_payload.unique_identifier for one in correlations]
    assert len(set(answers)) == 1


@pytest.mark.parametrize("option, left", [("STOP", 1), ("CONTINUE", 2), ("UNDO", 0)])
def test_the_batch_error_continuation_option_counts_later_too(option, left):
    """Stop leaves what came before, Continue all that works, Undo nothing."""
    bad = (O.GET, GetRequest(unique_identifier="nothing"))
    chosen = BatchErrorContinuationOption[option]
    correlations = submit(create("a"), bad, create("b"), batch_error_continuation_option=chosen)
    work()
    assert len(located()) == left
    statuses = [poll(one).result_status for one in correlations]
    assert statuses[1] == S.OPERATION_FAILED
    expected = {"STOP": S.OPERATION_FAILED, "CONTINUE": S.SUCCESS, "UNDO": S.OPERATION_FAILED}[option]
    assert statuses[2] == expected


def test_optional_is_answered_at_once_unless_it_takes_long(configure):
    """A short request is synchronous; a pair of RSA 8192 and a large batch are not. Prohibited is always at once."""
    small = send(CREATE, version=V2_1, asynchronous_indicator=I.OPTIONAL).batch_item[0]
    assert small.result_status == S.SUCCESS
    attributes = asked(cryptographic_algorithm=CryptographicAlgorithm.RSA, cryptographic_length=8192)
    pair = (O.CREATE_KEY_PAIR, CreateKeyPairRequest(common_attributes=attributes))
    submit(pair, indicator=I.OPTIONAL)
    submit(pair, indicator=True, version=V1_4)
    configure(**{"jobs.large_batch": 2})
    submit(CREATE, CREATE, CREATE, indicator=I.OPTIONAL)
    at_once = send(CREATE, CREATE, CREATE, version=V2_1, asynchronous_indicator=I.PROHIBITED).batch_item
    assert {item.result_status for item in at_once} == {S.SUCCESS}
    by_default = send(CREATE, CREATE, CREATE, version=V1_4).batch_item
    assert {item.result_status for item in by_default} == {S.SUCCESS}


def test_poll_and_cancel_are_never_deferred():
    """Not even where the client says that everything has to be."""
    (correlation,) = submit()
    request = PollRequest(asynchronous_correlation_value=correlation)
    both = send((O.POLL, request), CREATE, version=V2_1, asynchronous_indicator=I.MANDATORY).batch_item
    assert both[0].asynchronous_correlation_value == correlation
    assert both[1].asynchronous_correlation_value not in (None, correlation)


def test_others_requests_do_not_exist():
    """Neither Poll, Cancel, Process nor a query shows another user's request, nor one of a namesake elsewhere."""
    (correlation,) = submit(user="alice")
    accounts.namespace("tenant", make=True)
    for stranger in ("mallory", "tenant/alice"):
        for operation, request in (
            (O.POLL, PollRequest(asynchronous_correlation_value=correlation)),
            (O.PROCESS, ProcessRequest(asynchronous_correlation_value=correlation)),
        ):
            reason = why(operation, request, version=V2_1, user=stranger)
            assert reason == ResultReason.INVALID_ASYNCHRONOUS_CORRELATION_VALUE
        assert cancel(correlation, stranger).cancellation_result == CancellationResult.UNAVAILABLE
        assert outstanding(stranger) == []
    assert poll(correlation).result_status == S.OPERATION_PENDING
    old = why(O.POLL, PollRequest(asynchronous_correlation_value=b"guess"), version=V1_0)
    assert old == ResultReason.ITEM_NOT_FOUND


def test_a_canceled_request_is_never_carried_out():
    """Before it has begun, and also while somebody carries it out."""
    (waiting,), (begun,) = submit(create("waiting")), submit(create("begun"))
    assert cancel(waiting).cancellation_result == CancellationResult.CANCELED
    message = deferred.claim(WORKER)
    assert cancel(begun).cancellation_result == CancellationResult.CANCELED
    assert not deferred.carry_out(message, WORKER)
    assert located() == [] and not work()
    for correlation in (waiting, begun):
        assert poll(correlation).result_reason == ResultReason.OPERATION_CANCELED_BY_REQUESTER
        assert cancel(correlation).cancellation_result == CancellationResult.UNAVAILABLE


def test_cancel_tells_what_has_completed():
    """It is too late for what succeeded and for what failed."""
    (good,) = submit()
    (bad,) = submit((O.GET, GetRequest(unique_identifier="nothing")))
    while work():
        pass
    assert cancel(good).cancellation_result == CancellationResult.COMPLETED
    assert cancel(bad).cancellation_result == CancellationResult.FAILED


def test_the_other_items_of_a_message_outlive_a_canceled_one():
    """They are carried out without it."""
    first, second = submit(create("first"), create("second"))
    message = deferred.claim(WORKER)
    cancel(first)
    assert not deferred.carry_out(message, WORKER) and work()
    assert poll(first).result_reason == ResultReason.OPERATION_CANCELED_BY_REQUESTER
    assert located(attributes=asked(names=["second"])) == [poll(second).response_payload.unique_identifier]
    assert located(attributes=asked(names=["first"])) == []


def test_process_carries_out_at_once_and_works_once():
    """The next Poll finds the result; processing twice is refused."""
    (correlation,) = submit()
    request = ProcessRequest(asynchronous_correlation_value=correlation)
    one(O.PROCESS, request, version=V2_1)
    assert poll(correlation).result_status == S.SUCCESS
    assert why(O.PROCESS, request, version=V2_1) == ResultReason.DUPLICATE_PROCESS_REQUEST
    assert not work() and len(located()) == 1


def test_process_takes_over_from_a_dead_worker_but_not_from_a_living_one():
    """Work whose holder has no lease begins again; work in good hands stays there."""
    (correlation,) = submit()
    message = deferred.claim(WORKER)
    JobLease.objects.create(name="jobs", holder=WORKER, node="n", expires=clock.now() + 10 * clock.SECOND)
    one(O.PROCESS, ProcessRequest(asynchronous_correlation_value=correlation), version=V2_1)
    row = DeferredRequest.objects.get()
    assert (row.stage, row.holder) == (ProcessingStage.IN_PROCESS, WORKER)
    JobLease.objects.update(expires=0)
    assert poll(correlation).result_status == S.SUCCESS
    assert not deferred.carry_out(message, WORKER) and len(located()) == 1


def test_a_query_names_what_was_not_obtained():
    """All of it, or by correlation value or operation; what was polled or canceled is gone from it."""
    (first,), (second,) = submit(), submit((O.GET, GetRequest(unique_identifier="x")))
    (third,) = submit()
    assert [each.asynchronous_correlation_value for each in outstanding()] == [first, second, third]
    assert {each.processing_stage for each in outstanding()} == {ProcessingStage.SUBMITTED}
    gets = outstanding(operations=Operations(operation=[O.GET]))
    assert [each.asynchronous_correlation_value for each in gets] == [second]
    work()
    assert outstanding()[0].processing_stage == ProcessingStage.COMPLETED
    poll(first)
    cancel(third)
    assert [each.asynchronous_correlation_value for each in outstanding()] == [second]


def test_results_expire():
    """After their time there is nothing to poll, and then nothing at all."""
    (correlation,) = submit()
    work()
    DeferredRequest.objects.update(expires=clock.now() - 1)
    request = PollRequest(asynchronous_correlation_value=correlation)
    assert why(O.POLL, request, version=V2_1) == ResultReason.INVALID_ASYNCHRONOUS_CORRELATION_VALUE
    expiry.run()
    assert not DeferredRequest.objects.exists()


def test_so_many_requests_wait_and_no_more(configure):
    """A client cannot fill the queue; what others may have in it is theirs."""
    configure(**{"jobs.max_asynchronous": 2})
    submit(CREATE, CREATE)
    refused = send(CREATE, version=V2_1, asynchronous_indicator=I.MANDATORY).batch_item[0]
    assert refused.result_reason == ResultReason.SERVER_LIMIT_EXCEEDED
    submit(user="bob")
    work()
    submit()


def test_what_was_taken_on_is_refused_when_the_client_is_no_more():
    """Disabled, or gone, or with no role for it: its request fails, and nothing is made."""
    submit(user="bob")
    accounts.find("default", "bob").delete()
    (correlation,) = submit(user="alice")
    alice = accounts.find("default", "alice")
    alice.disabled = True
    alice.save()
    while work():
        pass
    assert not ManagedObject.objects.exists() and accounts.find("default", "bob") is None
    alice.disabled = False
    alice.save()
    assert poll(correlation).result_reason == ResultReason.AUTHENTICATION_NOT_SUCCESSFUL


def test_nothing_that_waits_or_was_answered_is_readable_in_the_database():
    """Requests and responses hold key material: both are sealed."""
    (correlation,) = submit((O.GET, GetRequest(unique_identifier=created())))
    waiting = bytes(DeferredRequest.objects.get().request)
    work()
    row = DeferredRequest.objects.get()
    key = poll(correlation).response_payload.symmetric_key.key_block.key_value.key_material
    assert row.request is None and key not in bytes(row.response)
    assert b"\x42\x00\x94" not in waiting and b"\x42\x00\x94" not in bytes(row.response)


def test_work_of_a_dead_process_begins_again_and_is_given_up_in_the_end():
    """Another holder takes it over; what ended its process three times is not begun a fourth time."""
    (correlation,) = submit()
    for attempt in range(deferred.MAX_ATTEMPTS):
        assert deferred.claim(f"worker {attempt}") is not None
        assert deferred.take_over(f"worker {attempt + 1}") == 1
    assert deferred.claim("the last") is None
    answer = poll(correlation)
    assert (answer.result_status, answer.result_reason) == (S.OPERATION_FAILED, ResultReason.GENERAL_FAILURE)
    assert located() == []


def test_each_thread_gives_back_what_it_failed_at_itself(monkeypatch):
    """Of two, neither forgets the other's work, nor gives back what the other is still at."""
    runner = jobs.Runner(conf.current(), [])
    assert runner.lease.take()
    submit(), submit()
    first, second = runner._carrier(), runner._carrier()
    taken_back, take_back = [], deferred.take_back

    def fail(*_):
        raise sealing.Unavailable("the token is away")

    def note(message, holder, *, counts):
        taken_back.append((message, counts))
        take_back(message, holder, counts=counts)

    monkeypatch.setattr(deferred, "take_back", note)
    with monkeypatch.context() as failing:
        failing.setattr(deferred, "carry_out", fail)
        for carrier in (first, second):
            with pytest.raises(sealing.Unavailable):
                carrier()
    failed = set(DeferredRequest.objects.filter(stage=ProcessingStage.IN_PROCESS).values_list("message", flat=True))
    assert first() == second() == 0.0
    assert len(failed) == 2 and {message for message, _ in taken_back} == failed
    assert len(located()) == 2 and not DeferredRequest.objects.filter(attempts__gt=1).exists()


def test_a_worker_that_was_taken_for_dead_changes_nothing():
    """Its transaction is taken back as soon as it finds that the work is another's."""
    (correlation,) = submit()
    late = deferred.claim("slow")
    deferred.take_over("quick")
    assert work("quick") and not deferred.carry_out(late, "slow")
    assert located() == [poll(correlation).response_payload.unique_identifier]


def test_query_lists_the_operations_and_the_capability():
    """Poll and Cancel in every version, the rest since 2.1."""
    assert {O.POLL, O.CANCEL} <= set(one(O.QUERY, QueryRequest(), version=V1_0).operation)
    listed = one(O.QUERY, QueryRequest(), version=V2_1).operation
    assert {O.POLL, O.CANCEL, O.PROCESS, O.QUERY_ASYNCHRONOUS_REQUESTS} <= set(listed)


@pytest.mark.django_db(transaction=True)
def test_two_workers_and_a_client_in_a_hurry_carry_everything_out_once(sealed):  # noqa: F811 - the fixture
    """However they meet, each request makes one key."""
    correlations = [submit()[0] for _ in range(6)]
    problems = []

    def worker(name):
        try:
            while work(name):
                pass
        except BaseException as exc:
            problems.append(exc)
        finally:
            connections.close_all()

    def client():
        try:
            for correlation in correlations:
                send((O.PROCESS, ProcessRequest(asynchronous_correlation_value=correlation)), version=V2_1)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=worker, args=(f"worker {n}",)) for n in range(2)]
    threads.append(threading.Thread(target=client))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    while work("the rest"):
        pass
    assert problems == []
    made = {poll(correlation).response_payload.unique_identifier for correlation in correlations}
    assert len(made) == 6 and set(located()) == made


def test_attributes_of_what_was_made_later_are_the_owner_s():
    """The worker acts for the client: the object is the client's, and nobody else's."""
    (correlation,) = submit(user="alice")
    work()
    uid = poll(correlation).response_payload.unique_identifier
    assert do(O.GET_ATTRIBUTES, GetAttributesRequest(unique_identifier=uid)).attributes != Attributes()
    with pytest.raises(engine.KMIPError):
        do(O.GET_ATTRIBUTES, GetAttributesRequest(unique_identifier=uid), "bob")
