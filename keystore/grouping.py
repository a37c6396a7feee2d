"""Group commit for SQLite, whose writers take turns: changes that wait for their turn share the next transaction.

One thread carries out the work of all in one transaction, each in a savepoint, writes what is to be recorded of all,
and commits once; the clients are answered after that commit. What waited for the disk once for each change then waits
once for all of them. The thread is the first of those that wait for their own change (`run`), or one of the queue's
own, where nobody waits but is called afterwards (`submit`). Servers with row locks group commits themselves, so there
each change has its own transaction.
"""

import logging
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Final, TypeVar, cast

from django.db import DEFAULT_DB_ALIAS, DatabaseError, connection, connections, transaction

from keystore import pool, turns

log = logging.getLogger(__name__)

T = TypeVar("T")
#: What is to be recorded of work, given the exception that took it back, or None.
Notes = Callable[[BaseException | None], list[Any]]
#: Takes what work returned, and the exception that took it back, or None.
Then = Callable[[Any, BaseException | None], None]

#: Changes in one transaction: enough to make the wait for the disk small, few enough to answer the first soon.
MAX_GROUP: Final = 32


def atomic() -> AbstractContextManager[Any]:
    """What `transaction.atomic` is; its savepoints on SQLite cost a hundredth of what Django's do."""
    database = connections[DEFAULT_DB_ALIAS]
    if database.vendor == "sqlite" and database.in_atomic_block:
        return _Savepoint(database)
    return transaction.atomic()


class _Savepoint:
    """A savepoint of SQLite's own connection; what the block does is taken back where it raises."""

    __slots__ = ("_database", "_hooks")

    def __init__(self, database: Any) -> None:
        self._database = database

    def __enter__(self) -> None:
        self._hooks = len(self._database.run_on_commit)
        self._execute("SAVEPOINT change")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        database = self._database
        if kind is None and not database.needs_rollback:
            self._execute("RELEASE change")
            return
        self._execute("ROLLBACK TO change")
        self._execute("RELEASE change")
        broken, database.needs_rollback = database.needs_rollback, False
        del database.run_on_commit[self._hooks :]
        if kind is None and broken:
            raise transaction.TransactionManagementError("a statement of the change failed, and nobody said so")

    def _execute(self, sql: str) -> None:
        with self._database.wrap_database_errors:
            self._database.connection.execute(sql)


class _Entry:
    """Work that waits, and how it ended."""

    __slots__ = ("done", "error", "leads", "notes", "result", "then", "work")

    def __init__(self, work: Callable[[], Any], notes: Notes, then: Then | None = None) -> None:
        self.work, self.notes = work, notes
        #: What is called when it has ended, where no thread waits for that.
        self.then = then
        if then is None:
            self.done = threading.Lock()
            self.done.acquire()
        self.leads = False
        self.result: Any = None
        self.error: BaseException | None = None

    def carry_out(self) -> list[Any]:
        """Do the work and note how it ended; what is to be recorded of it."""
        try:
            with atomic():
                self.result = self.work()
        except BaseException as exc:
            self.error = exc
        return self.notes(self.error)

    def end(self) -> None:
        """Tell whoever waits for it."""
        if self.then is None:
            self.done.release()
            return
        try:
            self.then(self.result, self.error)
        except BaseException:
            # Whatever it was: the thread goes on, for the others in the queue.
            log.exception("what follows a change failed")


def _nothing(error: BaseException | None) -> list[Any]:
    return []


def _nowhere(notes: list[Any]) -> None:
    raise AssertionError("nothing says where notes are recorded: see Groups.record")


class Groups:
    """The queue of one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[_Entry] = []
        self._busy = False
        #: Writes notes, in the transaction of what they are about.
        self.record: Callable[[list[Any]], None] = _nowhere
        #: Carries out what no thread waits for, when `_called` is released.
        self._thread: threading.Thread | None = None
        self._called = threading.Semaphore(0)

    @property
    def shared(self) -> bool:
        """Whether changes of this thread share transactions with those of others."""
        return connection.vendor == "sqlite" and not connection.in_atomic_block

    def run(self, work: Callable[[], T], notes: Notes = _nothing) -> T:
        """Do work in a transaction with what is recorded of it, perhaps with others' in a group; returns or raises what
        it does, after the commit. What raises is taken back, and its notes are recorded all the same. Without notes,
        work is one statement, or sees to its own transaction."""
        turns.leave()
        if not self.shared:
            return work() if notes is _nothing else self._alone(work, notes)
        entry = _Entry(work, notes)
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
            self._commit(group)
        finally:
            self._hand_on(group, entry)
        return cast(T, self._outcome(entry))

    def submit(self, work: Callable[[], Any], notes: Notes, then: Then) -> None:
        """Like `run` where changes share transactions, but another thread does the work, and calls `then` after the
        commit."""
        with self._lock:
            self._waiting.append(_Entry(work, notes, then))
            if self._busy:
                return
            self._busy = True
            self._call()

    def _call(self) -> None:
        """Let the queue's own thread lead, with the lock held."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._serve, name="changes", daemon=True)
            self._thread.start()
        self._called.release()

    def _serve(self) -> None:
        pool.own()
        while True:
            self._called.acquire()
            while group := self._next():
                self._commit(group)
                for entry in group:
                    entry.end()

    def _next(self) -> list[_Entry]:
        """Those that waited meanwhile; none where there are none, and who comes next leads."""
        with self._lock:
            group, self._waiting = self._waiting[:MAX_GROUP], self._waiting[MAX_GROUP:]
            self._busy = bool(group)
        return group

    def _alone(self, work: Callable[[], T], notes: Notes) -> T:
        try:
            with atomic():
                result = work()
                self.record(notes(None))
        except BaseException as exc:
            if left := notes(exc):
                self.record(left)
            raise
        return result

    def _commit(self, group: list[_Entry]) -> None:
        try:
            with transaction.atomic():
                notes: list[Any] = []
                for entry in group:
                    notes += entry.carry_out()
                    if not connection.connection.in_transaction:
                        # SQLite ends the transaction itself where the disk is full or fails.
                        raise DatabaseError("the transaction of the change has ended") from entry.error
                if notes:
                    self.record(notes)
        except BaseException as exc:
            for entry in group:
                entry.error = exc
            connection.close_if_unusable_or_obsolete()

    def _hand_on(self, group: list[_Entry], own: _Entry) -> None:
        """Wake those whose work is done, and one that waits to lead the next group."""
        with self._lock:
            if any(entry.then is not None for entry in self._waiting):
                self._call()
            elif self._waiting:
                following = self._waiting.pop(0)
                following.leads = True
                following.done.release()
            else:
                self._busy = False
        for entry in group:
            if entry is not own:
                entry.end()

    @staticmethod
    def _outcome(entry: _Entry) -> Any:
        if entry.error is not None:
            raise entry.error
        return entry.result


groups = Groups()
