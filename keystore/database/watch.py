"""Whether the database server answers, for processes that serve clients.

A server that is down refuses, and everybody sees it. One that is frozen, or behind a network that drops packets, lets
statements wait for as long as the operating system believes in the connection, which may be hours; the drivers set no
bound. So a thread asks the server all the time, and another one judges: where there is no answer within `LIMIT`, every
connection of the process is cut off and none is opened, until there is one again. What waited fails at once, and a
statement that takes long on a server that answers goes on.
"""

import contextlib
import os
import socket
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, Final

from django.db import DEFAULT_DB_ALIAS, DatabaseError, OperationalError, connections

#: Seconds between questions, for an answer, and between looks whether there is one: less than 5 in all, within which a
#: client is told.
ASKING: Final = 0.5
LIMIT: Final = 3.0
LOOKING: Final = 0.25


#: Django's name for the replica, where there is one.
REPLICA: Final = "replica"


class Watch:
    """The watch of one process. Without `start` nothing is ever cut off: commands wait as long as it takes."""

    def __init__(self, ask: Callable[[], None], *, limit: float = LIMIT) -> None:
        self._ask = ask
        self._limit = limit
        self._lock = threading.Lock()
        #: Connections by what shuts their sockets, and whether they are the asker's.
        self._open: weakref.WeakKeyDictionary[Any, tuple[Callable[[Any], None], bool]] = weakref.WeakKeyDictionary()
        self._asker: threading.Thread | None = None
        self._asked: float | None = None
        self._stop = threading.Event()
        #: Whether the server gives no answer.
        self.away = False

    def start(self) -> None:
        """Begin, once in a process; nothing where the database is a file."""
        if connections[DEFAULT_DB_ALIAS].vendor == "sqlite":
            return
        with self._lock:
            if self._asker is not None:
                return
            self._asker = threading.Thread(target=self._keep_asking, name="database asker", daemon=True)
        self._asker.start()
        threading.Thread(target=self._judge, name="database judge", daemon=True).start()

    def stop(self) -> None:
        """End."""
        self._stop.set()
        if self._asker is not None:
            self._asker.join(self._limit + 1)

    def check(self) -> None:
        """Raise `OperationalError` while the server gives no answer."""
        if self.away and threading.current_thread() is not self._asker:
            raise OperationalError("the database server does not answer")

    def add(self, connection: Any, shut: Callable[[Any], None]) -> None:
        """Know a connection for as long as somebody has it."""
        with self._lock:
            self._open[connection] = shut, threading.current_thread() is self._asker

    def _keep_asking(self) -> None:
        while not self._stop.wait(ASKING):
            self._asked = time.monotonic()
            # Its error comes at once, and others see it themselves: only silence is a reason to cut them off.
            with contextlib.suppress(DatabaseError):
                self._ask()
            silent = time.monotonic() - self._asked > self._limit
            self._asked = None
            if not silent:
                self.away = False
        connections.close_all()

    def _judge(self) -> None:
        while not self._stop.wait(LOOKING):
            asked = self._asked
            silent = asked is not None and time.monotonic() - asked > self._limit
            if silent:
                self.away = True
            if self.away:
                # Again and again: some were only being opened when the others were cut.
                self._cut(the_asker_too=silent)

    def _cut(self, *, the_asker_too: bool) -> None:
        with self._lock:
            found = list(self._open.items())
        for connection, (shut, is_the_asker_s) in found:
            if the_asker_too or not is_the_asker_s:
                # Its thread may be closing it right now.
                with contextlib.suppress(OSError, AttributeError, ValueError):
                    shut(connection)


def _ask(alias: str) -> None:
    connection = connections[alias]
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError:
        connection.close()
        raise


def shut(descriptor: int) -> None:
    """Shut a socket down that another thread may be waiting for."""
    with socket.socket(fileno=os.dup(descriptor)) as mine:
        mine.shutdown(socket.SHUT_RDWR)


watch = Watch(lambda: _ask(DEFAULT_DB_ALIAS))
replica_watch = Watch(lambda: _ask(REPLICA))


def of(alias: str) -> Watch:
    """The watch over the server of a database."""
    return replica_watch if alias == REPLICA else watch
