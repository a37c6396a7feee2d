"""Failed logins: after several in a row a user, or an address, is not let try again for a while.

Counted in the database, for all nodes together. A locked-out user gets the answer of a wrong password, right or not.
"""

import time
from hashlib import sha256
from typing import Final

from django.db import IntegrityError, transaction
from django.db.models import Case, F, Q, Value, When

from keystore import conf
from keystore.authn.identities import refused
from keystore.models import LoginFailure

#: An address may stand for many users behind one router.
ADDRESS_FACTOR: Final = 10


def _keys(username: str, address: str) -> dict[str, int]:
    """What is counted, each with the failures that lock it."""
    limit = conf.current().auth.login_failures
    found = {_key("user", username): limit}
    if address:
        found[_key("address", address)] = limit * ADDRESS_FACTOR
    return found


def _key(kind: str, name: str) -> str:
    return sha256(f"{kind}:{name}".encode()).hexdigest()


def is_locked(username: str, address: str) -> bool:
    """Whether logins of the user, or from the address, are not tried now."""
    keys = list(_keys(username, address))
    return LoginFailure.objects.filter(key__in=keys, locked_until__gt=int(time.time())).exists()


def check(username: str, address: str) -> None:
    """Raise `KMIPError` where the user, or the address, is locked out."""
    if is_locked(username, address):
        raise refused("user or password is wrong, or there were too many failed logins")


def failed(username: str, address: str) -> None:
    """Count a failed login."""
    now = int(time.time())
    forgiven = now - int(conf.current().auth.login_lockout)
    until = now + int(conf.current().auth.login_lockout)
    for key, limit in _keys(username, address).items():
        counted = Case(When(Q(last__lt=forgiven), then=Value(1)), default=F("failures") + 1)
        if not LoginFailure.objects.filter(key=key).update(failures=counted, last=now):
            try:
                with transaction.atomic():
                    LoginFailure.objects.create(key=key, failures=1, last=now)
            except IntegrityError:
                LoginFailure.objects.filter(key=key).update(failures=F("failures") + 1, last=now)
        LoginFailure.objects.filter(key=key, failures__gte=limit).update(locked_until=until, failures=0)


def succeeded(username: str) -> None:
    """Forget a user's failed logins."""
    LoginFailure.objects.filter(key=_key("user", username)).delete()


def unlock(username: str) -> None:
    """Let a user try again at once."""
    succeeded(username)
