"""Operations by the minute: counted with their records, added up by all processes, kept for a month."""

import os
import threading
import time
import warnings

import pytest

from keystore import activity, audit
from keystore.activity import KEPT, MINUTE, Bucket, Counter
from keystore.models import Activity

pytestmark = pytest.mark.django_db
NOW = int(time.time()) // 60


def record(minute=NOW, result="Success", namespace="default"):
    """A record of a minute."""
    fields = dict.fromkeys(audit.Entry._fields, "") | {"time": minute * MINUTE + 5, "latency": 1}
    return audit.Entry(**fields | {"result": result, "namespace": namespace})


def test_records_are_counted_as_they_are_written():
    """Writing a record counts it; nothing else has to."""
    audit.write([record(), record(result="Failure")])
    activity.counter.flush()
    assert activity.series("default", since=NOW - 1, step=1) == [Bucket(NOW, 2, 1)]


def test_counts_of_several_processes_add_up():
    """Two counters, each flushed twice, leave one row for a minute."""
    one, two = Counter(threaded=False), Counter(threaded=False)
    for counter in (one, two, one, two):
        counter.add([record(), record(result="Undone"), record(minute=NOW - 1)])
        counter.flush()
    assert list(Activity.objects.order_by("minute").values_list("minute", "operations", "failures")) == [
        (NOW - 1, 4, 0),
        (NOW, 8, 4),
    ]


def forked(work) -> int:
    """The exit status of a forked process that does some work."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Newer versions of Python warn where there are threads.
        pid = os.fork()
    if pid == 0:
        os._exit(int(work()))
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_forked_process_counts_for_itself_and_can_write():
    """It has neither its parent's counts nor what says that there is a thread, and no lock that nobody releases."""
    activity.counter.add([record()])
    kept = dict(activity.counter._counts)
    own = activity.counter
    assert forked(lambda: bool(own._counts or own._thread or own._writing.locked())) == 0
    assert activity.counter._counts == kept and not activity.counter._writing.locked()


def test_no_process_is_forked_while_counts_are_written():
    """It would find SQLite's locks taken by a thread that it has not, and wait for ever."""
    order = []
    with activity.counter._writing:
        thread = threading.Thread(target=lambda: order.append(forked(lambda: 0)))
        thread.start()
        thread.join(0.2)
        assert thread.is_alive() and not order
        order.append("written")
    thread.join(30)
    assert order == ["written", 0]


def test_buckets_are_sums_of_one_namespace():
    """A bucket begins at a multiple of its length, and holds nothing of other namespaces."""
    counter = Counter(threaded=False)
    counter.add([record(minute=120), record(minute=179), record(minute=180), record(minute=130, namespace="tenant")])
    counter._pruned = NOW  # These are long past.
    counter.flush()
    assert activity.series("default", since=60, step=60) == [Bucket(120, 2, 0), Bucket(180, 1, 0)]
    assert activity.series("default", since=150, step=60) == [Bucket(120, 1, 0), Bucket(180, 1, 0)]


def test_old_counts_are_dropped():
    """What is older than the longest period goes at the next flush."""
    Activity.objects.create(namespace="default", minute=NOW - KEPT - 1, operations=1)
    counter = Counter(threaded=False)
    counter.add([record()])
    counter.flush()
    assert list(Activity.objects.values_list("minute", flat=True)) == [NOW]


def test_counts_wait_within_bounds(monkeypatch):
    """A database that takes nothing does not fill the memory."""
    monkeypatch.setattr(activity, "MAX_WAITING", 3)
    counter = Counter(threaded=False)
    counter.add([record(minute=minute) for minute in range(10)])
    assert len(counter._counts) == 3
