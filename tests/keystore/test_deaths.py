"""kill -9 of the worker in the middle of each kind of work: nothing is lost, and nothing is done twice."""

import os
import signal

import pytest
from django.db import connections

from keystore import audit, clock, deferred, engine, jobs, rotation, store
from keystore.models import DeferredRequest, Job, ManagedObject, ObjectLease
from kmip.enums import CryptographicAlgorithm, Operation, ProcessingStage, ResultStatus
from kmip.payloads import CreateKeyPairRequest
from tests.authority import sealed  # noqa: F401 - a fixture
from tests.keystore.operations.test_asynchronous import create, poll, submit
from tests.keystore.test_rotation import SET, age, successor
from tests.made import asked, located, pair
from tests.processes import until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("sealed")]


def killed_while(work):
    """Do the work in another process, which ends by SIGKILL on its way."""
    # Neither process must use the connection of the other.
    connections.close_all()
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, status


def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)


def after(function):
    """The function, and then the end."""

    def both(*arguments, **options):
        function(*arguments, **options)
        die()

    return both


#: Where a worker dies: what is replaced by its death, in which module.
POINTS = {
    "with the work claimed": (deferred, "_open", die),
    "before the transaction": (engine, "_prepare", die),
    "after the slow part": (engine, "_prepare", after(engine._prepare)),
    "with the object written": (store, "save", after(store.save)),
    "before the results are written": (deferred, "_finish", die),
    "before the commit": (deferred, "_finish", after(deferred._finish)),
}
PAIR = (
    Operation.CREATE_KEY_PAIR,
    CreateKeyPairRequest(
        common_attributes=asked(cryptographic_algorithm=CryptographicAlgorithm.ECDSA, cryptographic_length=256)
    ),
)


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("hurried", [False, True], ids=["worker", "client in a hurry"])
def test_work_that_ended_with_its_process_is_carried_out_once(point, hurried):
    """Whoever dies, and wherever, the next one finds the work undone and does all of it."""
    module, name, replacement = POINTS[point]
    correlations = submit(create("one"), PAIR)

    def work():
        setattr(module, name, replacement)
        if hurried:
            deferred.hurry(DeferredRequest.objects.order_by("position")[0])
        else:
            deferred.carry_out(deferred.claim("dead"), "dead")

    killed_while(work)
    assert located() == []
    # One in a hurry takes the work in the transaction that its death takes back; a worker's claim waits for its lease.
    expected = ProcessingStage.SUBMITTED if hurried else ProcessingStage.IN_PROCESS
    assert {row.stage for row in DeferredRequest.objects.all()} == {expected}
    deferred.take_over("next")
    assert deferred.carry_out(deferred.claim("next"), "next")
    assert [poll(one).result_status for one in correlations] == [ResultStatus.SUCCESS] * 2
    assert ManagedObject.objects.count() == 3


def test_work_whose_results_are_there_is_not_begun_again():
    """A worker that dies right after the commit has done all of it."""
    (correlation,) = submit(create("one"))

    def work():
        deferred.carry_out(deferred.claim("dead"), "dead")
        die()

    killed_while(work)
    assert deferred.take_over("next") == 0 and deferred.claim("next") is None
    assert poll(correlation).response_payload.unique_identifier in located()


@pytest.mark.parametrize("entry", jobs.table(), ids=[entry.name for entry in jobs.table()])
def test_a_job_that_ended_with_its_process_runs_again(entry):
    """It is still due, and the next process that has the lease does it."""
    ObjectLease.objects.create(uid="x", namespace="default", username="alice", granted=0, expires=1)

    def work():
        jobs.run_due([jobs.Entry(entry.name, after(entry.run), entry.seconds)])

    killed_while(work)
    assert not Job.objects.filter(name=entry.name).exists()
    assert jobs.run_due([entry]) == 1
    assert Job.objects.get(name=entry.name).next_run > clock.now()
    assert jobs.run_due([entry]) == 0


def test_the_lease_of_a_dead_process_is_taken_over_when_its_time_is_over():
    """Not before: it might only be slow."""

    def work():
        jobs.Lease(seconds=1.0).take()
        die()

    killed_while(work)
    lease = jobs.Lease()
    until(lease.take, "the lease of the dead process ends", 10)


@pytest.mark.parametrize("point", ["prepared", "half written", "before the record"])
def test_a_rotation_that_ended_with_its_process_is_done_once(point):
    """The object is still due, and has one successor in the end."""
    uid = pair(**SET)[0]
    age(uid)

    def work():
        module, name = {
            "prepared": (engine, "_prepare"),
            "half written": (store, "save"),
            "before the record": (audit, "write"),
        }[point]
        setattr(module, name, after(getattr(module, name)) if point != "before the record" else die)
        rotation.run()

    killed_while(work)
    assert ManagedObject.objects.count() == 2 and successor(uid) is None
    rotation.run()
    rotation.run()
    assert ManagedObject.objects.count() == 4 and successor(uid) is not None
