"""Sessions of the console: Django's, in the database, with whose each is, so that people see them and end them.

Settings name this module as Django's session engine. A session's key is as good as a password and leaves this module
for its own browser only; everybody else tells sessions apart by `number`, a digest of it.
"""

import time
from hashlib import sha256
from typing import Any, Final, NamedTuple

from django.contrib.auth import SESSION_KEY
from django.contrib.auth.models import User
from django.contrib.sessions.backends.base import SessionBase
from django.contrib.sessions.backends.db import SessionStore as DatabaseStore
from django.utils import timezone

from keystore.models import ConsoleSession

#: In the session: how it began.
BEGUN: Final = "kms_begun"
#: Sessions of a user that pages show, the last ones.
MOST: Final = 100
#: As much of what a browser says of itself.
BROWSER: Final = 200


class SessionStore(DatabaseStore):
    """One session, whose row says whose it is and how it began."""

    @classmethod
    def get_model_class(cls) -> type[ConsoleSession]:
        return ConsoleSession

    def create_model_instance(self, data: dict[str, Any]) -> ConsoleSession:
        made = super().create_model_instance(data)
        assert isinstance(made, ConsoleSession)
        made.number = number_of(made.session_key)
        made.user_id = int(data[SESSION_KEY]) if SESSION_KEY in data else None
        for name, value in data.get(BEGUN, {}).items():
            setattr(made, name, value)
        return made


class Shown(NamedTuple):
    """A session as people see it; times are seconds since 1970."""

    number: str
    begun: int
    ends: int
    address: str
    way: str
    browser: str


def number_of(key: str) -> str:
    """What a session is called by those who must not have its key."""
    return sha256(key.encode()).hexdigest()


def begin(session: SessionBase, *, address: str, way: str, browser: str) -> None:
    """Note how a session begins: from where, in which way its user has proven to be it, and with which browser."""
    session[BEGUN] = {"begun": int(time.time()), "address": address[:64], "way": way, "browser": browser[:BROWSER]}


def of(person: User) -> list[Shown]:
    """The sessions that somebody has now, the last one first."""
    rows = ConsoleSession.objects.filter(user=person, expire_date__gt=timezone.now()).order_by("-begun", "number")
    return [
        Shown(row.number, row.begun, int(row.expire_date.timestamp()), row.address, row.way, row.browser)
        for row in rows.defer("session_data")[:MOST]
    ]


def end(person: User, number: str = "") -> int:
    """End a session of somebody, or all of them; how many that were. Its browser's next request is a stranger's."""
    rows = ConsoleSession.objects.filter(user=person)
    return (rows.filter(number=number) if number else rows).delete()[0]


def expire() -> None:
    """Forget sessions that are over."""
    ConsoleSession.objects.filter(expire_date__lte=timezone.now()).delete()
