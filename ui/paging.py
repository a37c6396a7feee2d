"""Pages of a list of objects, at the same cost however many objects there are and whatever is asked of them.

The page after a row begins at that row's serial number; nothing counts. What only few objects have is looked up by its
own index first, and the page is made of those. Otherwise the list is walked from the newest object on in windows that
grow, and a page ends early where `WINDOWS` have been walked: the next one goes on from there.
"""

import time
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Final, NamedTuple, Protocol

from django.db.models import QuerySet

from keystore import store
from keystore.models import ManagedObject
from keystore.store import Managed

#: Objects that are looked at one after another for one page.
WINDOWS: Final = (1_000, 4_000, 16_000)
#: So many objects at most count as few.
FEW: Final = 1_000
#: Objects that an export reads together.
READ: Final = 2_000


#: The objects that exist for somebody, newest first: all of them, or those among some primary keys.
Visible = Callable[[Collection[str] | None], QuerySet[ManagedObject]]


class Narrowing(Protocol):
    """One thing that is asked of objects."""

    def few(self) -> list[str] | None:
        """The primary keys of all that may have it, where they are at most `FEW`; None where they are more, or where
        no index says so."""

    def narrow(self, objects: QuerySet[ManagedObject]) -> QuerySet[ManagedObject]:
        """Those of some objects that have it, without an order."""


class Page(NamedTuple):
    """Objects, newest first. `on` is the serial number to go on from, None at the end; `cut` says that the page ended
    early."""

    rows: list[Managed]
    on: int | None
    cut: bool = False


class Pager:
    """The pages of the objects that exist for somebody and of which some things are asked."""

    def __init__(self, visible: Visible, asked: Iterable[Narrowing], size: int) -> None:
        self._visible, self._asked, self._size = visible, list(asked), size
        self._objects = visible(None)
        found = [keys for one in self._asked if (keys := one.few()) is not None]
        self._few = set(found[0]).intersection(*found[1:]) if found else None

    def page(self, *, before: int | None = None, after: int | None = None) -> Page:
        """The objects just older than the serial number `before`, or just newer than `after`."""
        newer = after is not None
        start = after if newer else before
        page = self._chosen(start, newer) if self._few is not None else self._walked(start, newer)
        if newer:
            page.rows.reverse()
        return page

    def everything(self) -> Iterator[Managed]:
        """All of them, newest first, read little by little."""
        if self._few is not None:
            keys = [key for _, key in self._serials(None, newer=False)]
            for begin in range(0, len(keys), READ):
                yield from self._fetched(keys[begin : begin + READ], newer=False)
            return
        start: int | None = None
        while True:
            edge = self._edge(start, False, READ)
            yield from store.fetch_all(self._between(start, edge, False), int(time.time()))
            if edge is None:
                return
            start = edge + 1

    def _narrowed(self, objects: QuerySet[ManagedObject]) -> QuerySet[ManagedObject]:
        for one in self._asked:
            objects = one.narrow(objects)
        return objects

    # Few objects: all of their serial numbers are read and sorted here, because a database that is asked to sort a list
    # of keys by serial number may walk through all serial numbers instead.

    def _serials(self, start: int | None, newer: bool) -> list[tuple[int, str]]:
        if not self._few:
            return []
        found = self._narrowed(self._visible(self._few)).order_by().values_list("serial", "uid")
        beyond = [row for row in found if start is None or (row[0] > start if newer else row[0] < start)]
        return sorted(beyond, reverse=not newer)

    def _fetched(self, keys: list[str], newer: bool) -> list[Managed]:
        rows = store.fetch_all(self._visible(keys).order_by(), int(time.time()))
        return sorted(rows, key=lambda row: row.serial, reverse=not newer)

    def _chosen(self, start: int | None, newer: bool) -> Page:
        found = self._serials(start, newer)
        rows = self._fetched([key for _, key in found[: self._size]], newer) if found else []
        return Page(rows, found[self._size - 1][0] if len(found) > self._size else None)

    # Many objects: windows.

    def _edge(self, start: int | None, newer: bool, size: int) -> int | None:
        """The serial number of the first object that a window of some size does not reach."""
        objects = self._beyond(self._objects, start, newer).order_by("serial" if newer else "-serial")
        return objects.values_list("serial", flat=True)[size : size + 1].first()

    @staticmethod
    def _beyond(objects: QuerySet[ManagedObject], start: int | None, newer: bool) -> QuerySet[ManagedObject]:
        if start is None:
            return objects
        return objects.filter(serial__gt=start) if newer else objects.filter(serial__lt=start)

    def _between(self, start: int | None, edge: int | None, newer: bool) -> QuerySet[ManagedObject]:
        objects = self._beyond(self._beyond(self._objects, start, newer), edge, not newer)
        return self._narrowed(objects).order_by("serial" if newer else "-serial")

    def _walked(self, start: int | None, newer: bool) -> Page:
        rows: list[Managed] = []
        now = int(time.time())
        for size in WINDOWS:
            edge = self._edge(start, newer, size) if self._asked else None
            rows += store.fetch_all(self._between(start, edge, newer)[: self._size + 1 - len(rows)], now)
            if len(rows) > self._size:
                return Page(rows[: self._size], rows[self._size - 1].serial)
            if edge is None:
                return Page(rows, None)
            start = edge - 1 if newer else edge + 1
        return Page(rows, start, cut=True)
