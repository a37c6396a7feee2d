"""The parent process: opens ports, starts the processes behind them, restarts what dies, passes signals on.

Which processes there are is a table of dotted paths (`settings.KMS["PROCESSES"]`), each to a function that makes the
children of one kind; this module knows nothing of what they serve."""

import atexit
import contextlib
import ctypes
import gc
import logging
import mmap
import os
import signal
import socket
import struct
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NoReturn

from keystore import metrics
from keystore.conf import Config, ConfigError, refuse

log = logging.getLogger(__name__)

BACKLOG = 512  # Connections that may wait while every process is busy.
SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD}
FIRST_DELAY, LONGEST_DELAY = 0.5, 30.0  # before a child is started again
SETTLED = 60.0  # A child that lived longer starts over with the first delay.
KILL_AFTER = 2.0  # What a child gets beyond the grace period.
PR_SET_PDEATHSIG = 1
# Objects between two collections: a request makes hundreds, of which hardly any are in cycles.
YOUNG = 20_000


@dataclass(frozen=True, slots=True)
class Child:
    """One process: its name, and what it runs until it is told to stop."""

    name: str
    run: Callable[[], None]
    #: Whether it also runs while the server is sealed, to say so.
    sealed: bool = False


class Pulse:
    """When each child last said that it is alive, in memory that all processes share."""

    SLOTS = 64

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, self.SLOTS * 8)
        self._names: list[str] = []
        self._mine = -1

    def begin(self, names: list[str]) -> None:
        """Make room for these children, before they are forked."""
        self._names = names[: self.SLOTS]

    def i_am(self, number: int) -> None:
        """Say which child this process is."""
        self._mine = number

    def beat(self) -> None:
        """Say that this process is alive; nothing for one that no supervisor started."""
        if 0 <= self._mine < self.SLOTS:
            struct.pack_into("=d", self._memory, self._mine * 8, time.monotonic())

    def ages(self) -> dict[str, float]:
        """Seconds since each child's last beat; infinite for one that never had any."""
        now = time.monotonic()
        beats = [struct.unpack_from("=d", self._memory, slot * 8)[0] for slot in range(len(self._names))]
        return {name: now - beat if beat else float("inf") for name, beat in zip(self._names, beats, strict=True)}


pulse = Pulse()


def repeat(step: Callable[[], float]) -> NoReturn:
    """Be a child that does one thing again and again; each step says how many seconds later the next is due."""
    from keystore import checks

    signal.signal(signal.SIGHUP, lambda *_: checks.reload())
    report_ready()
    while True:
        end = time.monotonic() + step()
        while True:
            pulse.beat()
            left = end - time.monotonic()
            if left <= 0:
                break
            time.sleep(min(1.0, left))


_sockets: dict[str, socket.socket] = {}
_ready_fd = -1


def report_ready() -> None:
    """Tell the supervisor, if there is one, that this child serves."""
    global _ready_fd
    pulse.beat()
    if _ready_fd >= 0:
        os.write(_ready_fd, b"\1")
        os.close(_ready_fd)
        _ready_fd = -1


def bind(config: Config, key: str, host: str, port: int) -> socket.socket:
    """The socket of a listener, bound once for all of its processes; `key` is the setting of its port."""
    if key not in _sockets:
        with contextlib.ExitStack() as unless_bound:
            try:
                family, kind, protocol, _, address = socket.getaddrinfo(
                    host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
                )[0]
                bound = unless_bound.enter_context(socket.socket(family, kind, protocol))
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                bound.bind(address)
            except OSError as exc:
                raise _unavailable(config, key, host, port, exc) from exc
            unless_bound.pop_all()
        _sockets[key] = bound
    return _sockets[key]


def listen(config: Config) -> None:
    """Let every bound socket take connections."""
    for key, bound in _sockets.items():
        host, port = bound.getsockname()[:2]
        try:
            bound.listen(BACKLOG)
        except OSError as exc:
            raise _unavailable(config, key, host, port, exc) from exc


def addresses() -> dict[str, tuple[str, int]]:
    """Host and port of every bound socket, by the setting of its port."""
    return {key: bound.getsockname()[:2] for key, bound in _sockets.items()}


def _unavailable(config: Config, key: str, host: str, port: int, exc: OSError) -> ConfigError:
    listener = {"http": "HTTP", "pki": "public"}.get(key.partition(".")[0], "KMIP")
    problem = f"the {listener} listener cannot use port {port} of {host}: {exc.strerror}"
    return config.error(key, problem, "stop what uses it, or choose another")


@dataclass(slots=True)
class Slot:
    """A child, its current process, and when it may be started again."""

    child: Child
    number: int
    pid: int = 0
    ready: bool = False
    ready_fd: int = -1
    started: float = 0.0
    delay: float = FIRST_DELAY
    again: float = field(default=0.0)


class Supervisor:
    """Runs children until a signal ends it, or until `until` says that something else has."""

    def __init__(
        self,
        children: Iterable[Child],
        *,
        grace: float,
        announce: Callable[[], None],
        until: Callable[[], bool] = lambda: False,
    ) -> None:
        self.slots = [Slot(child, number) for number, child in enumerate(children)]
        self.grace, self.announce = grace, announce
        self.status = 0
        self.until, self.reached = until, False
        pulse.begin([slot.child.name for slot in self.slots])

    def run(self) -> int:
        """Start everything, and watch it until TERM or INT; the exit status."""
        previous = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        # What is loaded by now stays: no collection need look at it, and children go on sharing its pages.
        gc.collect()
        gc.freeze()
        gc.set_threshold(YOUNG)
        try:
            for slot in self.slots:
                self._start(slot)
            self._watch()
            self._stop()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, previous)
        return self.status

    def _watch(self) -> None:
        announced = False
        while True:
            waiting = [slot.again for slot in self.slots if not slot.pid]
            timeout = min((max(0.0, again - time.monotonic()) for again in waiting), default=60.0)
            received = signal.sigtimedwait(SIGNALS, timeout if announced else min(timeout, 0.02))
            number = received.si_signo if received else 0
            if number in (signal.SIGTERM, signal.SIGINT):
                return
            if number == signal.SIGHUP:
                self._pass_on(signal.SIGHUP)
            if self.until():
                self.reached = True
                return
            if not self._reap():
                return
            for slot in self.slots:
                self._look(slot)
                if not slot.pid and slot.again <= time.monotonic():
                    self._start(slot)
            if not announced and all(slot.ready for slot in self.slots):
                announced = True
                self.announce()

    def _start(self, slot: Slot) -> None:
        """Fork one child."""
        parent = os.getpid()
        reader, writer = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            os.close(reader)
            self._become(slot, parent, writer)
        os.close(writer)
        os.set_blocking(reader, False)
        slot.pid, slot.started, slot.ready_fd = pid, time.monotonic(), reader

    def _become(self, slot: Slot, parent: int, writer: int) -> NoReturn:
        """Be the child, and never return into the supervisor's stack."""
        global _ready_fd
        status = 1
        try:
            # Its own group: a terminal's Ctrl-C reaches the supervisor only, which then drains the children.
            os.setpgid(0, 0)
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            _ready_fd = writer
            pulse.i_am(slot.number)
            if os.getppid() == parent:
                slot.child.run()
            status = 0
        except ConfigError as error:
            try:
                refuse(error)
            except SystemExit:
                status = 2
        except SystemExit as exc:
            status = exc.code if isinstance(exc.code, int) else int(exc.code is not None)
        except BaseException:
            traceback.print_exc()
        finally:
            atexit._run_exitfuncs()  # What was queued for writing is written; os._exit skips it.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def _look(self, slot: Slot) -> None:
        """Note whether a child has become ready."""
        if slot.ready_fd >= 0:
            try:
                slot.ready = slot.ready or os.read(slot.ready_fd, 1) == b"\1"
            except BlockingIOError:
                return
            os.close(slot.ready_fd)
            slot.ready_fd = -1

    def _reap(self) -> bool:
        """Take note of the children that have died; False if one of them could not even start."""
        while True:
            try:
                pid, wait_status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return True
            if pid == 0:
                return True
            slot = next((slot for slot in self.slots if slot.pid == pid), None)
            if slot is None:
                continue  # As process 1 of a container one inherits others' orphans.
            self._look(slot)
            slot.pid = 0
            metrics.ended(pid)
            code = os.waitstatus_to_exitcode(wait_status)
            if not slot.ready:
                self.status = code if code > 0 else 1
                log.error("%s could not start (status %d); stopping", slot.child.name, code)
                return False
            now = time.monotonic()
            slot.delay = FIRST_DELAY if now - slot.started > SETTLED else min(slot.delay * 2, LONGEST_DELAY)
            slot.again = now + slot.delay
            log.error("%s ended (status %d); starting it again in %g s", slot.child.name, code, slot.delay)

    def _pass_on(self, number: signal.Signals) -> None:
        for slot in self.slots:
            if slot.pid:
                os.kill(slot.pid, number)

    def _stop(self) -> None:
        """Drain every child, and kill what does not end in time or when asked a second time."""
        self._pass_on(signal.SIGTERM)
        end = time.monotonic() + self.grace + KILL_AFTER
        while any(slot.pid for slot in self.slots):
            received = signal.sigtimedwait(SIGNALS, max(0.0, min(0.1, end - time.monotonic())))
            again = received is not None and received.si_signo in (signal.SIGTERM, signal.SIGINT)
            if again or time.monotonic() >= end:
                self._pass_on(signal.SIGKILL)
            for slot in self.slots:
                if slot.pid and os.waitpid(slot.pid, os.WNOHANG)[0]:
                    slot.pid = 0
