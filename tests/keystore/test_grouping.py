"""Group commit: what is answered is committed, and one failure is nobody else's."""

import threading
from contextlib import nullcontext

import pytest
from django.db import DatabaseError, connection, transaction

from keystore.grouping import Groups, atomic
from keystore.models import SealingKey
from tests.processes import until


def together(groups, works, **options):
    """Run works in threads of their own; what each returned or raised."""
    return each(lambda number: groups.run(works[number], **options), len(works))


def each(call, count):
    """Call a function with each number in a thread of its own; what each returned or raised."""
    outcomes = [None] * count

    def one(number):
        try:
            outcomes[number] = call(number)
        except Exception as exc:
            outcomes[number] = exc
        finally:
            connection.close()

    threads = [threading.Thread(target=one, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return outcomes


def insert(number):
    with transaction.atomic():
        SealingKey.objects.create(wrapped=b"", created=number, active=False)
    return number


def fail(number):
    with transaction.atomic():
        SealingKey.objects.create(wrapped=b"", created=number, active=False)
        raise LookupError(number)


@pytest.mark.django_db(transaction=True)
def test_every_change_of_many_threads_is_kept_and_answered():
    """Fifty threads change something at once: each gets its own answer and every change is there."""
    outcomes = together(Groups(), [lambda n=n: insert(n) for n in range(50)])
    assert outcomes == list(range(50))
    assert sorted(SealingKey.objects.values_list("created", flat=True)) == list(range(50))


@pytest.mark.django_db(transaction=True)
def test_a_failure_in_a_group_undoes_only_its_own_change():
    """Every third change fails; its thread gets the exception and only its row is missing."""
    works = [(lambda n=n: fail(n)) if n % 3 == 0 else (lambda n=n: insert(n)) for n in range(30)]
    outcomes = together(Groups(), works)
    for number, outcome in enumerate(outcomes):
        if number % 3 == 0:
            assert isinstance(outcome, LookupError)
        else:
            assert outcome == number
    assert set(SealingKey.objects.values_list("created", flat=True)) == {n for n in range(30) if n % 3}


@pytest.mark.django_db(transaction=True)
def test_the_next_change_runs_after_a_group_that_could_not_begin(monkeypatch):
    """A group whose transaction fails tells each of its threads, and the queue goes on."""
    groups = Groups()
    begun = threading.Event()
    waiting = threading.Event()

    def slow():
        begun.set()
        assert waiting.wait(10)
        return "slow"

    results = []
    first = threading.Thread(target=lambda: results.append(groups.run(slow)))
    first.start()
    assert begun.wait(10)
    waiting.set()
    first.join(10)
    assert results == ["slow"]
    assert groups.run(lambda: insert(7)) == 7


def kept():
    """What is in the database."""
    return set(SealingKey.objects.values_list("created", flat=True))


def noting(written):
    """Groups that record notes in a list, once for a whole group."""
    groups = Groups()
    groups.record = written.append
    return groups


@pytest.mark.parametrize("nested", [False, True], ids=["transaction", "nested"])
@pytest.mark.django_db(transaction=True)
def test_a_change_that_is_taken_back_is_recorded_all_the_same(nested):
    """Its notes know why, and are written though nothing else of it is."""
    written = []
    groups = noting(written)
    with transaction.atomic() if nested else nullcontext():
        with pytest.raises(LookupError):
            groups.run(lambda: fail(1), lambda error: [type(error)])
        assert groups.run(lambda: insert(2), lambda error: [error]) == 2
    assert written == [[LookupError], [None]] and kept() == {2}


@pytest.mark.django_db(transaction=True)
def test_no_change_of_a_group_counts_whose_records_cannot_be_written():
    """All of its threads are told so, and nothing stays."""
    groups = Groups()

    def full(notes):
        raise OSError("no space left")

    groups.record = full
    works = [lambda n=n: insert(n) for n in range(8)]
    outcomes = together(groups, works, notes=lambda error: ["note"])
    assert all(isinstance(outcome, OSError) for outcome in outcomes) and kept() == set()
    groups.record = [].append
    assert groups.run(lambda: insert(9), lambda error: ["note"]) == 9


@pytest.mark.skipif(connection.vendor != "sqlite", reason="what only SQLite has")
@pytest.mark.django_db(transaction=True)
def test_a_group_whose_transaction_ended_before_its_time_acknowledges_nothing():
    """SQLite takes a transaction back by itself where the disk is full: what came before and after in it is gone."""
    groups = noting([])

    def lose():
        insert(1)
        connection.connection.rollback()

    with pytest.raises(DatabaseError):
        groups.run(lose, lambda error: ["note"])
    assert kept() == set() and groups.run(lambda: insert(2)) == 2


@pytest.mark.django_db(transaction=True)
def test_what_was_to_follow_the_commit_of_a_change_goes_with_it():
    """Only the hooks of the change that was taken back."""
    ran = []
    with transaction.atomic():
        transaction.on_commit(lambda: ran.append("outer"))
        with pytest.raises(LookupError), atomic():
            transaction.on_commit(lambda: ran.append("inner"))
            fail(1)
        with atomic():
            transaction.on_commit(lambda: ran.append("kept"))
            insert(2)
    assert ran == ["outer", "kept"] and kept() == {2}


@pytest.mark.skipif(connection.vendor != "sqlite", reason="what only SQLite has")
@pytest.mark.django_db(transaction=True)
def test_a_failed_statement_that_nobody_told_of_is_no_success():
    """A change whose transaction Django has marked as broken is taken back, with an error."""
    with transaction.atomic():
        with pytest.raises(transaction.TransactionManagementError), atomic():
            insert(1)
            transaction.set_rollback(True)
        insert(2)
    assert kept() == {2}


@pytest.mark.skipif(connection.vendor != "sqlite", reason="what only SQLite has")
@pytest.mark.django_db(transaction=True)
def test_changes_that_nobody_waits_for_share_the_queue():
    """Each is followed up once, after its commit, and those that threads wait for are answered in between."""
    groups = noting([])
    ended = {}

    def then(number, made, error):
        ended[number] = made if error is None else type(error)

    def begin(number):
        work = (lambda: fail(number)) if number % 5 == 0 else (lambda: insert(number))
        if number % 2:
            return groups.run(work, lambda error: [number]) if number % 5 else None
        groups.submit(work, lambda error: [number], lambda made, error: then(number, made, error))
        return None

    try:
        outcomes = each(begin, 40)
        until(lambda: len(ended) == 20, "all are followed up")
    finally:
        # The database of the test is not to be held by the queue's own thread.
        groups.submit(lambda: None, lambda error: [], lambda made, error: connection.close())
    assert ended == {n: n if n % 5 else LookupError for n in range(0, 40, 2)}
    assert outcomes == [n if n % 2 and n % 5 else None for n in range(40)]
    assert kept() == {n for n in range(40) if n % 5}


@pytest.mark.skipif(connection.vendor != "sqlite", reason="what only SQLite has")
@pytest.mark.django_db(transaction=True)
def test_what_fails_after_a_change_keeps_no_other_waiting(caplog):
    """It is logged, and the queue goes on."""
    groups = noting([])
    done = threading.Event()

    def spoil(made, error):
        raise RuntimeError("a defect")

    def close(made, error):
        connection.close()
        done.set()

    groups.submit(lambda: insert(1), lambda error: [], spoil)
    groups.submit(lambda: insert(2), lambda error: [], close)
    assert done.wait(10) and kept() == {1, 2} and "a defect" in caplog.text
