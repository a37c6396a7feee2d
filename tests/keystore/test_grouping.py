"""Group commit: what is answered is committed, and one failure is nobody else's."""

import threading

import pytest
from django.db import connection, transaction

from keystore.grouping import Groups
from keystore.models import SealingKey


def together(groups, works):
    """Run works in threads of their own; what each returned or raised."""
    outcomes = [None] * len(works)

    def one(number):
        try:
            outcomes[number] = groups.run(works[number])
        except Exception as exc:
            outcomes[number] = exc
        finally:
            connection.close()

    threads = [threading.Thread(target=one, args=(number,)) for number in range(len(works))]
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
