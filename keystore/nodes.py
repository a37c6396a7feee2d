"""The servers that share the database: each says every few seconds that it is there, and how its processes are."""

import logging
import socket
import threading
from typing import Final, NamedTuple

from django.db import DatabaseError, connections

from keystore import clock, conf, supervisor, version
from keystore.models import Node

log = logging.getLogger(__name__)

#: Seconds between signs of life, and after which a node without one counts as down, and as gone for good.
INTERVAL: Final = 10.0
LATE: Final = 45
GONE: Final = 7 * 86_400
#: Seconds without a sign of life after which a process counts as down.
STALE: Final = 5.0


class State(NamedTuple):
    """A node as it is now, by the database's clock; `silent` is the seconds since it was last heard of."""

    node: Node
    silent: int

    @property
    def up(self) -> bool:
        """Whether it lives, and everything in it."""
        return self.silent < LATE and all(self.node.processes.values())


def name() -> str:
    """This node's name."""
    return f"{socket.gethostname()[:64]}:{conf.current().http.port}"


def processes() -> dict[str, bool]:
    """The processes of this node, and whether each is alive; none where no supervisor started this one."""
    return {process: age < STALE for process, age in supervisor.pulse.ages().items()}


def beat() -> None:
    """Say that this node is there; of its processes, one does so each `INTERVAL`."""
    now = clock.now() // clock.SECOND
    mine = Node.objects.filter(name=name())
    values = {"seen": now, "version": version.VERSION, "processes": processes()}
    if mine.filter(seen__lte=now - INTERVAL // 2, seen__gt=now - LATE).update(**values):
        return
    if mine.filter(seen__lte=now - LATE).update(started=now, **values):
        return
    Node.objects.filter(seen__lt=now - GONE).delete()
    Node.objects.bulk_create([Node(name=name(), started=now, **values)], ignore_conflicts=True)


def states() -> list[State]:
    """Every node that was heard of lately, in the order of their names."""
    now = clock.now() // clock.SECOND
    rows = Node.objects.filter(seen__gt=now - GONE).order_by("name")
    return [State(row, max(0, now - row.seen)) for row in rows]


class Heart:
    """A thread that beats for as long as its process lives."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heart", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stop.set()
        self._thread.join(5)

    def _run(self) -> None:
        well = True
        while True:
            try:
                beat()
                well = True
            except DatabaseError as exc:
                if well:
                    log.warning("this node cannot say that it is there: %s", exc)
                well = False
                connections.close_all()
            if self._stop.wait(INTERVAL):
                connections.close_all()
                return
