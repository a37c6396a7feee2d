"""Group commit for SQLite, whose writers take turns: changes that wait for their turn share the next transaction.

The first of the waiting threads carries out the work of all in one transaction, each in a savepoint, and commits once;
the others answer their clients after that commit. What waited for the disk once for each change then waits once for
all of them. Servers with row locks group commits themselves, so there each change has its own transaction.
"""

import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

from django.db import connection, transaction

from keystore import turns

T = TypeVar("T")

#: Changes in one transaction: enough to make the wait for the disk small, few enough to answer the first soon.
MAX_GROUP: Final = 32


class _Entry:
    """Work that waits, and how it ended."""

    __slots__ = ("done", "error", "leads", "result", "work")

    def __init__(self, work: Callable[[], Any]) -> None:
        self.work = work
        self.done = threading.Lock()
        self.done.acquire()
        self.leads = False
        self.result: Any = None
        self.error: BaseException | None = None

    def carry_out(self) -> None:
        """Do the work and note how it ended."""
        try:
            self.result = self.work()
        except BaseException as exc:
            self.error = exc


class Groups:
    """The queue of one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[_Entry] = []
        self._busy = False

    def run(self, work: Callable[[], T]) -> T:
        """Do work that opens a transaction of its own, perhaps in a group; returns or raises what it does, after the
        commit."""
        turns.leave()
        if connection.vendor != "sqlite" or connection.in_atomic_block:
            return work()
        entry = _Entry(work)
        with self._lock:
            if self._busy:
                self._waiting.append(entry)
                group = None
            else:
                self._busy = True
                group = [entry]
        if group is None:
            entry.done.acquire()
            if not entry.leads:
                return cast(T, self._outcome(entry))
            with self._lock:
                group, self._waiting = [entry, *self._waiting[: MAX_GROUP - 1]], self._waiting[MAX_GROUP - 1 :]
        try:
            _commit(group)
        finally:
            self._hand_on(group, entry)
        return cast(T, self._outcome(entry))

    def _hand_on(self, group: list[_Entry], own: _Entry) -> None:
        """Wake those whose work is done, and one that waits to lead the next group."""
        with self._lock:
            if self._waiting:
                following = self._waiting.pop(0)
                following.leads = True
                following.done.release()
            else:
                self._busy = False
        for entry in group:
            if entry is not own:
                entry.done.release()

    @staticmethod
    def _outcome(entry: _Entry) -> Any:
        if entry.error is not None:
            raise entry.error
        return entry.result


def _commit(group: list[_Entry]) -> None:
    if len(group) == 1:
        group[0].carry_out()
        return
    try:
        with transaction.atomic():
            for entry in group:
                entry.carry_out()
    except BaseException as exc:
        for entry in group:
            entry.error = entry.error or exc


groups = Groups()
