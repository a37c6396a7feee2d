"""Jobs: who does them, when, and what is known of them afterwards."""

import io

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError

from keystore import clock, conf, jobs
from keystore.models import Job, JobLease
from tests.processes import until

pytestmark = pytest.mark.django_db


def ran(calls, name="a job"):
    return jobs.Entry(name, lambda: calls.append(name), 60.0)


def broken(name="broken"):
    def fail():
        raise ValueError("it broke")

    return jobs.Entry(name, fail, 60.0)


def test_one_process_holds_the_lease_until_it_ends_or_is_given_back():
    """Another takes it over when its time is over, and the first then knows that it has lost it."""
    first, second = jobs.Lease(), jobs.Lease()
    assert first.take() and first.held and jobs.active_node() is not None
    assert not second.take() and not second.held and first.take()
    JobLease.objects.update(expires=clock.now() - 1)
    assert second.take() and not first.take() and not first.held
    second.give_back()
    assert jobs.active_node() is None and first.take()


def test_a_lease_is_not_held_longer_than_it_was_asked_for():
    """A process that cannot reach the database stops by itself before another begins."""
    lease = jobs.Lease(seconds=0.05)
    assert lease.take()
    until(lambda: not lease.held, "the end of the lease", 5)


def test_a_job_runs_when_it_is_due_and_not_before():
    """Its next run is so many seconds after its last."""
    calls = []
    assert jobs.run_due([ran(calls)]) == 1
    assert jobs.run_due([ran(calls)]) == 0 and calls == ["a job"]
    row = Job.objects.get()
    assert row.next_run - row.last_run == 60 * clock.SECOND and (row.runs, row.failures) == (1, 0)
    Job.objects.update(next_run=clock.now())
    assert jobs.run_due([ran(calls)]) == 1


def test_a_job_that_fails_keeps_none_from_running_and_is_told():
    """Its error is kept until it succeeds again, and it is tried again in its turn."""
    calls = []
    assert jobs.run_due([broken(), ran(calls)]) == 2 and calls == ["a job"]
    row = Job.objects.get(name="broken")
    assert (row.last_error, row.failures, row.last_success) == ("ValueError: it broke", 1, None)
    assert row.next_run > clock.now()
    jobs.run_one(ran(calls, "broken"))
    assert Job.objects.get(name="broken").last_error == ""


def test_a_database_that_fails_is_nobody_s_failure_but_its_own():
    """The worker tries again; the job is not noted as failed."""

    def fail():
        raise DatabaseError("away")

    with pytest.raises(DatabaseError):
        jobs.run_one(jobs.Entry("away", fail, 60.0))
    assert not Job.objects.exists()


def test_no_job_begins_once_the_lease_is_lost():
    """Those that are due wait for the process that has it."""
    calls = []
    assert jobs.run_due([ran(calls)], go_on=lambda: False) == 0 and calls == []


def test_the_command_shows_the_table_and_runs_a_job(monkeypatch):
    """Every job of the table has a line, whether it ran or not; one can be run at once."""
    calls = []
    monkeypatch.setattr(jobs, "table", lambda: [ran(calls), broken()])
    out = io.StringIO()
    call_command("jobs", stdout=out)
    assert "active node: none" in out.getvalue() and "a job" in out.getvalue()
    call_command("jobs", run="a job")
    with pytest.raises(CommandError, match="ValueError: it broke"):
        call_command("jobs", run="broken")
    with pytest.raises(CommandError, match="there is no job"):
        call_command("jobs", run="none such")
    out = io.StringIO()
    call_command("jobs", stdout=out)
    assert calls == ["a job"] and "ValueError: it broke" in out.getvalue()


def test_every_job_of_the_settings_runs():
    """The table names functions that there are, and none fails on an empty database."""
    assert jobs.run_due(jobs.table()) == len(jobs.table())
    assert [one.error for one in jobs.status()] == [""] * len(jobs.table())


@pytest.mark.django_db(transaction=True)
def test_the_process_does_what_is_due_and_stops_when_told():
    """Of two, one does the jobs; it gives the lease back, and the other goes on."""
    counts = {"first": [], "second": []}
    runners = {
        name: jobs.Runner(conf.current(), [jobs.Entry("tick", lambda c=calls: c.append(1), 0.0)])
        for name, calls in counts.items()
    }
    try:
        runners["first"].start()
        until(lambda: counts["first"], "the first runs the job")
        runners["second"].start()
        runners["first"].stop()
        seen = len(counts["first"])
        until(lambda: counts["second"], "the second goes on")
        assert len(counts["first"]) == seen
    finally:
        for runner in runners.values():
            runner.stop()
