"""What the server does by itself: the table of jobs, the lease that makes one node do them, and the process that does.

`settings.KMS["JOBS"]` lists the jobs: a name, the dotted path of a function without arguments, and the seconds between
two runs. When each ran and how it ended is in the database (`manage.py jobs`, `/health`). Every node has a process that
tries to hold the lease; the one that does runs what is due and carries out asynchronous requests. A job must be right
even if a node that was taken for dead still runs it: its changes are conditional, as all changes are.
"""

import contextlib
import logging
import secrets
import signal
import threading
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from django.conf import settings
from django.db import DatabaseError, close_old_connections, connections
from django.db.models import F, Q
from django.utils.module_loading import import_string

from keystore import checks, clock, conf, deferred, nodes, sealing, supervisor
from keystore.conf import Config
from keystore.database.watch import watch
from keystore.models import Job, JobLease
from keystore.store import Conflict

log = logging.getLogger(__name__)

#: Seconds after which a node that does not renew the lease has lost it. With the pause between attempts to take it over
#: that is less than the 15 after which another node is to do the jobs.
LEASE: Final = 12.0
#: Seconds between renewals, and between attempts to take the lease over.
RENEWAL: Final = 2.0
#: Seconds between looks for what is due, and for asynchronous requests.
TICK: Final = 0.5
LOOK: Final = 0.2
#: Seconds after which a database that failed is tried again.
PAUSE: Final = 2.0
SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
ERROR_LENGTH: Final = 500


class Entry(NamedTuple):
    """One line of the table of jobs."""

    name: str
    run: Callable[[], Any]
    seconds: float


def table() -> list[Entry]:
    """The jobs that there are."""
    listed: dict[str, tuple[str, float]] = settings.KMS["JOBS"]  # type: ignore[assignment] # KMS holds other tables too
    return [Entry(name, import_string(path), seconds) for name, (path, seconds) in listed.items()]


# The lease.


class Lease:
    """The right of one process to do the jobs."""

    def __init__(self, name: str = "jobs", seconds: float = LEASE) -> None:
        self.name, self.seconds = name, seconds
        self.holder = secrets.token_hex(16)
        self._until = 0.0

    @property
    def held(self) -> bool:
        """Whether this process holds the lease, as far as it can know."""
        return time.monotonic() < self._until

    def take(self) -> bool:
        """Take the lease, or renew it; False while another process holds it."""
        asked = time.monotonic()
        length = int(self.seconds * clock.SECOND)
        free = Q(holder=self.holder) | Q(expires__lte=clock.Now())
        values = {"holder": self.holder, "node": nodes.name(), "expires": clock.Now() + length}
        mine = bool(JobLease.objects.filter(free, name=self.name).update(**values))
        if not mine and not JobLease.objects.filter(name=self.name).exists():
            JobLease.objects.bulk_create(
                [JobLease(name=self.name, holder="", node="", expires=0)], ignore_conflicts=True
            )
            mine = bool(JobLease.objects.filter(free, name=self.name).update(**values))
        # Counted from before the question: the database may have answered late.
        self._until = asked + self.seconds if mine else 0.0
        return mine

    def give_back(self) -> None:
        """Let another process have the lease at once."""
        self._until = 0.0
        JobLease.objects.filter(name=self.name, holder=self.holder).update(expires=0)


# Running what is due.


def run_due(entries: list[Entry], *, go_on: Callable[[], bool] = lambda: True) -> int:
    """Run the jobs whose time has come; how many."""
    now = clock.now()
    known = dict(Job.objects.values_list("name", "next_run"))
    count = 0
    for entry in entries:
        if known.get(entry.name, 0) <= now and go_on():
            run_one(entry)
            count += 1
    return count


def run_one(entry: Entry) -> bool:
    """Run a job and note how it ended; False where it failed."""
    began = clock.now()
    error = ""
    try:
        entry.run()
    except DatabaseError:
        raise
    except Exception as exc:
        log.exception("job %s failed", entry.name)
        error = f"{type(exc).__name__}: {exc}"[:ERROR_LENGTH]
    ended = clock.now()
    Job.objects.get_or_create(name=entry.name)
    Job.objects.filter(name=entry.name).update(
        last_run=began,
        last_success=F("last_success") if error else began,
        next_run=began + int(entry.seconds * clock.SECOND),
        duration=ended - began,
        runs=F("runs") + 1,
        failures=F("failures") + (1 if error else 0),
        last_error=error,
    )
    return not error


class Status(NamedTuple):
    """What is known of a job. Times are seconds since 1970."""

    name: str
    last_run: float | None
    last_success: float | None
    next_run: float | None
    duration: float
    runs: int
    failures: int
    error: str


def status() -> list[Status]:
    """Every job, in the order of the table."""
    rows = {row.name: row for row in Job.objects.all()}

    def seconds(value: int | None) -> float | None:
        return None if value is None else value / clock.SECOND

    found = []
    for entry in table():
        row = rows.get(entry.name) or Job(name=entry.name)
        found.append(
            Status(
                entry.name,
                seconds(row.last_run),
                seconds(row.last_success),
                seconds(row.next_run or None),
                row.duration / clock.SECOND,
                row.runs,
                row.failures,
                row.last_error,
            )
        )
    return found


def active_node() -> str | None:
    """The node that does the jobs now."""
    row = JobLease.objects.filter(name="jobs", expires__gt=clock.now()).first()
    return None if row is None else row.node


# The process.


class Runner:
    """Does the jobs while it holds the lease."""

    def __init__(self, config: Config, entries: list[Entry] | None = None, lease: Lease | None = None) -> None:
        self.entries = table() if entries is None else entries
        self.lease = lease or Lease()
        self.stopping = threading.Event()
        works = [("renewal", self._renew), ("due", self._run_due)]
        works += [(f"asynchronous-{number}", self._carrier()) for number in range(config.jobs.asynchronous_workers)]
        self._threads = [
            threading.Thread(target=self._guarded, args=(work,), name=name, daemon=True) for name, work in works
        ]
        self.grace = config.server.shutdown_grace

    def start(self) -> None:
        """Begin to work."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Finish what is being done, as far as the time for it allows, and let another process go on."""
        self.stopping.set()
        end = time.monotonic() + self.grace
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        with contextlib.suppress(DatabaseError):
            self.lease.give_back()
        connections.close_all()

    def _guarded(self, work: Callable[[], float]) -> None:
        """Repeat `work`, which returns the seconds until it is to be called again, whatever befalls the database."""
        pause = 0.0
        while not self.stopping.wait(pause):
            try:
                close_old_connections()
                pause = work()
            except DatabaseError as exc:
                log.warning("%s: the database failed: %s", threading.current_thread().name, type(exc).__name__)
                connections.close_all()
                pause = PAUSE
            except Conflict:
                pause = 0.0
            except Exception:
                log.exception("%s failed", threading.current_thread().name)
                pause = PAUSE
        connections.close_all()

    def _renew(self) -> float:
        supervisor.pulse.beat()
        held = self.lease.held
        if self.lease.take() and not held:
            begun = deferred.take_over(self.lease.holder)
            log.info("this node does the jobs from now on; %d requests are taken over", begun)
        elif held and not self.lease.held:
            log.warning("another node does the jobs from now on")
        return RENEWAL

    def _run_due(self) -> float:
        if self.lease.held:
            run_due(self.entries, go_on=lambda: self.lease.held and not self.stopping.is_set())
        return TICK

    def _carrier(self) -> Callable[[], float]:
        """What one thread does that carries asynchronous requests out."""
        #: Work that the thread could not carry out and has yet to give back, and whether that counts as an attempt.
        failed: tuple[str, bool] | None = None

        def carry_out() -> float:
            nonlocal failed
            if not self.lease.held:
                return TICK
            if failed is not None:
                message, counts = failed
                deferred.take_back(message, self.lease.holder, counts=counts)
                failed = None
            claimed = deferred.claim(self.lease.holder)
            if claimed is None:
                return LOOK
            try:
                deferred.carry_out(claimed, self.lease.holder)
            except Exception as exc:
                failed = claimed, not isinstance(exc, (Conflict, DatabaseError, sealing.Unavailable))
                raise
            return 0.0

        return carry_out


def run() -> None:
    """Be the process that does the jobs, with TERM to stop."""
    from keystore import engine  # noqa: F401 - it says how asynchronous requests are carried out

    connections.close_all()
    # Its threads inherit the mask: signals come to this one, which does nothing but wait for them.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    watch.start()
    runner = Runner(conf.current())
    runner.start()
    supervisor.report_ready()
    while signal.sigwait(SIGNALS) == signal.SIGHUP:
        checks.reload()
    runner.stop()


def children(config: Config) -> list[supervisor.Child]:
    """The process of this node that does the jobs."""
    return [supervisor.Child("jobs", run)]
