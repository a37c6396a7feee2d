"""Reads from a replica of the database, of what is as new there as on the primary.

Every request tolerates that, and none needs to say so: the primary is asked how far it has come, and the replica
answers if it has come as far. Where it has not, is away or fails, the primary answers.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple, TypeVar

from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections

from keystore import conf, metrics
from keystore.database.watch import REPLICA, replica_watch
from keystore.pool import Pool

T = TypeVar("T")

#: How often a replica that is a little behind is asked again, and the seconds between; a commit takes about as long.
TRIES: Final = 3
PAUSE: Final = 0.002
#: Seconds for which a replica that failed is left alone.
ALONE: Final = 5.0

log = logging.getLogger(__name__)


class _Position(NamedTuple):
    """How a kind of database says how far it has come, and whether it has come as far as that."""

    primary: str
    replica: str


_POSITIONS: Final = {
    "postgresql": _Position("SELECT pg_current_wal_flush_lsn()::text", "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn"),
    # Without a binary log the position is empty, and there can be no replica.
    "mysql": _Position("SELECT NULLIF(@@gtid_binlog_pos, '')", "SELECT MASTER_GTID_WAIT(%s, 0) = 0"),
}


class Replica:
    """The replica as one process uses it."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Begin anew, as a forked process has to."""
        self._pool: Pool | None = None
        self._making = threading.Lock()
        self._again = 0.0

    def read(self, work: Callable[[], T]) -> T:
        """What `work` returns, which only reads and may be done twice; from the replica where that can be."""
        primary = connections[DEFAULT_DB_ALIAS]
        if not self._may_answer(primary):
            return work()
        wanted = self._value(primary, _POSITIONS[primary.vendor].primary)
        with self._instead() as replica:
            if wanted is not None and self._reached(replica, wanted):
                result = work()
                metrics.replica_read("replica")
                return result
        metrics.replica_read("primary")
        return work()

    def glimpse(self, work: Callable[[], T]) -> T | None:
        """What `work` returns on the replica, however old that is; None where there is none, or it does not answer."""
        primary = connections[DEFAULT_DB_ALIAS]
        if self._may_answer(primary):
            with self._instead():
                return work()
        return None

    def _may_answer(self, primary: Any) -> bool:
        # In a transaction its own changes are to be seen.
        there = REPLICA in connections.settings and not primary.in_atomic_block
        return there and time.monotonic() >= self._again

    @contextmanager
    def _instead(self) -> Iterator[Any]:
        """Let queries of this thread go to the replica; a failure of it ends this."""
        replica_watch.start()
        with self._making:
            if self._pool is None:
                self._pool = Pool(conf.current().db.pool_size, REPLICA)
        try:
            with self._pool.instead() as replica:
                yield replica
        except DatabaseError as exc:
            self._again = time.monotonic() + ALONE
            log.warning("the replica is left alone for %g s: %s", ALONE, exc)

    def _reached(self, replica: Any, position: str) -> bool:
        """Whether the replica has applied what the primary had done at a position."""
        for attempt in range(TRIES):
            if attempt:
                time.sleep(PAUSE)
            if self._value(replica, _POSITIONS[replica.vendor].replica, position):
                return True
        return False

    @staticmethod
    def _value(database: Any, sql: str, *parameters: object) -> Any:
        with database.cursor() as cursor:
            cursor.execute(sql, parameters)
            return cursor.fetchone()[0]


replica = Replica()
os.register_at_fork(after_in_child=replica.start)
