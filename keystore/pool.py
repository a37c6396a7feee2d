"""Database connections lent to a thread for one request, so that idle clients hold none.

Django ties a connection to its thread; with a thread for each client that would be one for each idle client too."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.base.base import BaseDatabaseWrapper


class _Here(threading.local):
    """What a thread has."""

    #: The connection that Django finds in it: the one that it was lent last.
    found: BaseDatabaseWrapper | None = None
    #: The one that it is lent.
    lent: BaseDatabaseWrapper | None = None


_here = _Here()


def lent() -> BaseDatabaseWrapper | None:
    """The connection that the calling thread is lent, which Django would be slower to find."""
    return _here.lent


def own() -> None:
    """Have the calling thread's own connection found as quickly, for as long as the thread lasts."""
    _here.lent = connections[DEFAULT_DB_ALIAS]


# A connection that rested longer is tried before it is used: the database may have been restarted meanwhile.
RESTED = 5.0


class Pool:
    """At most `size` connections; a request that finds none free waits for one."""

    def __init__(self, size: int, alias: str = DEFAULT_DB_ALIAS) -> None:
        self._alias = alias
        self._free: list[tuple[BaseDatabaseWrapper, float]] = []
        self._size = self._left = size
        self._waiting = 0
        self._changed = threading.Condition()

    def lend(self) -> BaseDatabaseWrapper:
        """Give the calling thread a connection, which Django finds as the default one until it is returned."""
        wrapper = self._take()
        here = _here
        if here.found is not wrapper:
            connections[DEFAULT_DB_ALIAS] = here.found = wrapper
        here.lent = wrapper
        return wrapper

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Lend the calling thread a connection for as long as this lasts."""
        wrapper = self.lend()
        try:
            yield
        finally:
            self.take_back(wrapper)

    @contextmanager
    def instead(self) -> Iterator[BaseDatabaseWrapper]:
        """Lend the calling thread a connection instead of the one that it has, for as long as this lasts."""
        here, usual = _here, connections[DEFAULT_DB_ALIAS]
        lent, wrapper = here.lent, self._take()
        connections[DEFAULT_DB_ALIAS] = here.lent = wrapper
        try:
            yield wrapper
        finally:
            connections[DEFAULT_DB_ALIAS], here.lent = usual, lent
            self._keep(wrapper)

    def take_back(self, wrapper: BaseDatabaseWrapper) -> None:
        """Keep the connection for the next request, without what a failed one may have left in it."""
        _here.lent = None
        self._keep(wrapper)

    def _take(self) -> BaseDatabaseWrapper:
        try:
            wrapper, since = self._free.pop()
        except IndexError:
            wrapper, since = self._more()
        if time.monotonic() - since > RESTED:
            wrapper.health_check_done = False  # type: ignore[attr-defined] # missing from the stubs
        return wrapper

    def _keep(self, wrapper: BaseDatabaseWrapper) -> None:
        if wrapper.errors_occurred or wrapper.in_atomic_block or not wrapper.autocommit:
            wrapper.close_if_unusable_or_obsolete()
        self._free.append((wrapper, time.monotonic()))
        if self._waiting:
            with self._changed:
                self._changed.notify()

    def _more(self) -> tuple[BaseDatabaseWrapper, float]:
        """A new connection while there may be more, else the next that is returned."""
        with self._changed:
            self._waiting += 1
            try:
                while not self._free and not self._left:
                    # The pause covers a return that came between looking and waiting.
                    self._changed.wait(0.05)
                if self._free:
                    return self._free.pop()
                self._left -= 1
            finally:
                self._waiting -= 1
        wrapper: Any = connections.create_connection(self._alias)
        wrapper.inc_thread_sharing()
        return wrapper, time.monotonic()

    @property
    def counts(self) -> tuple[int, int]:
        """Connections that requests have, and that none has."""
        free = len(self._free)
        return self._size - self._left - free, free

    def close(self) -> None:
        """Close the connections that are not lent."""
        while self._free:
            self._free.pop()[0].close()
