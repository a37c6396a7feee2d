"""How many objects there are, by state and type, and how many have something coming up.

Counting many objects takes long, so counts are kept for a while, the longer the longer they took; what comes up is
counted up to `MOST`.
"""

import threading
import time
from typing import Final, NamedTuple

from django.db.models import Count, QuerySet
from django.http import HttpRequest

from keystore.models import ManagedObject
from kmip.enums import ObjectType, State
from ui import session

#: Counts that took longer than these seconds are kept, for so many times as long.
SLOW: Final = 0.25
FACTOR: Final = 60
#: People whose counts are kept.
PEOPLE: Final = 1000
#: How far to look ahead, in days.
WINDOWS: Final = (7, 30, 90)
DAY: Final = 86_400
MOST: Final = 1000


class Tally(NamedTuple):
    """What there is now."""

    states: dict[State, int]
    types: dict[ObjectType, int]
    #: For each window: days, deactivations, rotations.
    coming: list[tuple[int, int, int]]

    @property
    def total(self) -> int:
        """All objects."""
        return sum(self.states.values())


def changing(days: int, now: int) -> QuerySet[ManagedObject]:
    """The objects of all namespaces whose state changes by itself within some days."""
    return ManagedObject.objects.filter(next_change__range=(now, now + days * DAY))


def expiring(objects: QuerySet[ManagedObject], days: int, now: int) -> QuerySet[ManagedObject]:
    """The active objects whose deactivation date comes within some days."""
    return objects.filter(state=State.ACTIVE, next_change__range=(now, now + days * DAY))


def rotating(objects: QuerySet[ManagedObject], days: int, now: int) -> QuerySet[ManagedObject]:
    """The objects that are due for rotation within some days, or were already."""
    return objects.filter(next_rotation__lte=now + days * DAY)


def _counted(objects: QuerySet[ManagedObject]) -> Tally:
    now = int(time.time())
    every = objects.order_by()
    return Tally(
        {State(state): count for state, count in every.values_list("state").annotate(n=Count("*")).order_by("state")},
        {
            ObjectType(kind): count
            for kind, count in every.values_list("object_type").annotate(n=Count("*")).order_by("object_type")
        },
        [
            (days, expiring(every, days, now)[: MOST + 1].count(), rotating(every, days, now)[: MOST + 1].count())
            for days in WINDOWS
        ],
    )


class Kept:
    """Counts that took long, by namespace and person."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], tuple[float, Tally]] = {}
        self._lock = threading.Lock()

    def of(self, request: HttpRequest) -> Tally:
        """What the person sees, as it is or was a short while ago."""
        who = session.identity(request)
        key = (who.namespace, who.username)
        begun = time.monotonic()
        until, tally = self._found.get(key, (0.0, None))
        if tally is not None and begun < until:
            return tally
        tally = _counted(session.visible(request))
        took = time.monotonic() - begun
        with self._lock:
            if len(self._found) >= PEOPLE:
                self._found.clear()
            self._found[key] = (begun + took * FACTOR if took > SLOW else 0.0, tally)
        return tally


kept = Kept()
