"""The job that takes away what has expired, by the database's clock; what is out of date counts no more anyway."""

from keystore import approvals, clock, deferred, tickets, withholding
from keystore.models import ObjectLease


def run() -> None:
    """Forget leases, tickets, results of asynchronous requests and destroyed objects whose time is over."""
    now = clock.now()
    ObjectLease.objects.filter(expires__lte=now).delete()
    tickets.expire(now)
    approvals.expire()
    deferred.expire(now)
    withholding.purge(now // clock.SECOND)
