"""Threads that serve many connections by turns: one waits for those that have something to say, and serves them itself.

The thread whose turn it is leaves it (`keystore.turns`) before it does what takes long; one of the others, or a new
one, then goes on, and nobody but the first touches its connection until it is done. Work that forgot to say so loses
its turn after `PATIENCE` seconds, when somebody looks.
"""

import contextlib
import logging
import os
import select
import threading
import time
from typing import Final, Protocol

from keystore import turns

log = logging.getLogger(__name__)

PATIENCE: Final = 0.5
READING: Final = select.EPOLLIN
WRITING: Final = select.EPOLLOUT


class Member(Protocol):
    """A connection."""

    def go_on(self) -> int | None:
        """Serve it now that it is ready, without waiting for it: what it waits for next, `READING` or `WRITING`; None
        where it is not the crew's any more."""


class _Turn:
    """What one thread is at."""

    __slots__ = ("descriptor", "held", "since")

    def __init__(self) -> None:
        self.held = False
        #: Since when it has been serving which connection; 0 where it waits.
        self.since = 0.0
        self.descriptor = -1


class Crew:
    """At most `most` threads, which begin when they are needed."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._poller = select.epoll()
        self._members: dict[int, Member] = {}
        #: What each is waited for.
        self._wanted: dict[int, int] = {}
        self._baton = threading.Lock()
        self._lock = threading.Lock()
        self._leading: _Turn | None = None
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self._stopping = False
        self._wake = os.eventfd(0, os.EFD_NONBLOCK)
        self._poller.register(self._wake, READING)

    def start(self) -> None:
        """Begin to serve."""
        with self._lock:
            self._more()

    def stop(self) -> None:
        """End the threads, those at work when they are done; what is left of the connections is their owner's."""
        self._stopping = True
        os.eventfd_write(self._wake, 1)
        for thread in self._threads:
            thread.join(0.5)
        if not any(thread.is_alive() for thread in self._threads):
            self._poller.close()
            os.close(self._wake)

    def add(self, descriptor: int, member: Member, wanted: int = READING) -> None:
        """Serve a connection, which does not block, whenever it is ready."""
        self._members[descriptor] = member
        self._wanted[descriptor] = wanted
        self._poller.register(descriptor, wanted)

    def remove(self, descriptor: int) -> None:
        """Serve a connection no more."""
        if self._members.pop(descriptor, None) is None:
            return
        with contextlib.suppress(FileNotFoundError):  # Its thread has left its turn, and taken it out.
            self._poller.unregister(descriptor)

    def rest(self, descriptor: int) -> None:
        """Leave a connection alone until `go_on`, which another thread may call; for the thread that serves it."""
        with self._lock:
            if self._leading is not None and self._leading.descriptor == descriptor:
                self._leading.descriptor = -1
            with contextlib.suppress(FileNotFoundError):  # Its thread has left its turn, and taken it out.
                self._poller.unregister(descriptor)

    def go_on(self, descriptor: int, wanted: int) -> None:
        """Serve a connection again that was left alone."""
        self._watch(descriptor, wanted, again=True)

    def look(self) -> None:
        """Take the turn from a thread that has been serving one connection for long."""
        with self._lock:
            turn = self._leading
            if turn is None or not turn.since or time.monotonic() - turn.since < PATIENCE:
                return
            self._pass_on(turn)

    # The threads.

    def _more(self) -> None:
        """Begin another thread, with the lock held."""
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        if len(self._threads) >= self._most:
            return
        thread = threading.Thread(target=self._run, name=f"kmip {len(self._threads)}", daemon=True)
        try:
            thread.start()
        except RuntimeError as exc:
            log.error("no thread more: %s", exc)
        else:
            self._threads.append(thread)

    def _run(self) -> None:
        turn = _Turn()
        turns.taken(lambda: self._leave(turn))
        while True:
            with self._lock:
                self._idle += 1
            self._baton.acquire()
            with self._lock:
                self._idle -= 1
                turn.held, turn.since, self._leading = True, 0.0, turn
            if self._stopping:
                self._baton.release()
                return
            self._lead(turn)

    def _lead(self, turn: _Turn) -> None:
        """Serve connections for as long as the turn lasts."""
        poll, members, lock, clock = self._poller.poll, self._members, self._lock, time.monotonic
        while True:
            for descriptor, _ in poll():
                member = members.get(descriptor)
                if member is None:
                    if self._stopping:
                        self._baton.release()
                        return
                    continue
                turn.descriptor, turn.since = descriptor, clock()
                wanted = member.go_on()
                with lock:
                    turn.since = 0.0
                    held = turn.held
                if wanted is not None:
                    self._watch(descriptor, wanted, again=not held)
                if not held:
                    return

    def _watch(self, descriptor: int, wanted: int, *, again: bool) -> None:
        if again:
            self._wanted[descriptor] = wanted
            self._poller.register(descriptor, wanted)
        elif self._wanted[descriptor] != wanted:
            self._wanted[descriptor] = wanted
            self._poller.modify(descriptor, wanted)

    def _leave(self, turn: _Turn) -> None:
        with self._lock:
            if turn.held:
                self._pass_on(turn)

    def _pass_on(self, turn: _Turn) -> None:
        """Let another thread go on, with the lock held; the connection in hand is out of its sight."""
        turn.held, self._leading = False, None
        if turn.descriptor in self._members:
            self._poller.unregister(turn.descriptor)
        if not self._idle:
            self._more()
        self._baton.release()
