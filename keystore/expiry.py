"""The job that takes away what has expired, by the database's clock; what is out of date counts no more anyway."""

from keystore import approvals, clock, deferred, notifications, sessions, tickets, withholding
from keystore.models import ObjectLease


def run() -> None:
    """Forget what has had its time: leases, tickets, asynchronous results, notifications, sessions of the console,
    destroyed objects."""
    now = clock.now()
    ObjectLease.objects.filter(expires__lte=now).delete()
    tickets.expire(now)
    notifications.expire(now)
    approvals.expire()
    sessions.expire()
    deferred.expire(now)
    withholding.purge(now // clock.SECOND)
