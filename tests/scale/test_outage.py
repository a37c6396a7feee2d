"""A database server that answers nothing for a while, and one that is stopped: clients are told soon, nothing that was
acknowledged is lost, and everything goes on by itself.

`TEST_OUTAGE=30 pytest tests/scale/test_outage.py` holds each of the two for 30 s."""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kmip.enums import CryptographicAlgorithm, ObjectType, Operation, ResultReason, ResultStatus
from kmip.payloads import CreateRequest, GetRequest
from kmip.schema import Struct
from tests.made import asked
from tests.nodes import Client, Node, cluster
from tests.processes import until
from tests.scale.conftest import OUTAGE

pytestmark = pytest.mark.scale

THREADS = 6
#: Seconds until a client is told; more where it does not matter, as a busy machine takes its time.
WITHIN = 5.0 if OUTAGE else 15.0


KEY = asked(cryptographic_algorithm=CryptographicAlgorithm.AES, cryptographic_length=256)
CREATE = (Operation.CREATE, CreateRequest(object_type=ObjectType.SYMMETRIC_KEY, attributes=KEY))


class Worker:
    """A client on one connection that makes keys and gets them, whatever the server answers."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.made: list[str] = []
        self.failures = self.successes = 0
        self.slowest = 0.0
        self.lost: Exception | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._make_and_get()
            except OSError as exc:
                self.lost = exc
                return

    def _make_and_get(self) -> None:
        made = self._timed(CREATE)
        if made is None:
            time.sleep(0.02)
            return
        self.made.append(made.unique_identifier)
        if self._timed((Operation.GET, GetRequest(unique_identifier=made.unique_identifier))) is not None:
            self.successes += 1

    def _timed(self, request: tuple[Operation, Struct]) -> Any:
        """The payload of an answer; None, counted, where the server could not give one."""
        began = time.monotonic()
        item = self.client.tried(*request)
        self.slowest = max(self.slowest, time.monotonic() - began)
        if item.result_status == ResultStatus.SUCCESS:
            return item.response_payload
        assert item.result_reason == ResultReason.GENERAL_FAILURE, item
        self.failures += 1
        return None

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(60)
        self.client.stream.close()


def health(node: Node) -> tuple[int, str]:
    status, body, _ = node.ask("GET", "/health")
    return status, json.loads(body)["dependencies"]["database"]["status"]


@contextlib.contextmanager
def working(node: Node) -> Iterator[list[Worker]]:
    """Clients at work; at the end none of them has lost its connection, and all that they made is there."""
    workers = [Worker(node.client(timeout=60)) for _ in range(THREADS)]
    try:
        yield workers
    finally:
        for worker in workers:
            worker.stop()
    assert [worker.lost for worker in workers] == [None] * THREADS
    with node.client() as client:
        for worker in workers:
            for uid in worker.made:
                client.do(Operation.GET, GetRequest(unique_identifier=uid))


def each(workers: list[Worker], count: Callable[[Worker], int], what: str) -> None:
    """Wait until every worker has counted one more."""
    before = [count(worker) for worker in workers]
    until(lambda: all(count(w) > b for w, b in zip(workers, before, strict=True)), what, 60)


def threads_of(processes: list[int]) -> int:
    """How many threads they have."""
    return sum(len(list(Path(f"/proc/{pid}/task").iterdir())) for pid in processes)


OUTAGES = {
    "frozen": (lambda database: database.freeze(), lambda database: database.thaw()),
    "stopped": (lambda database: database.stop(), lambda database: database.start()),
}


def test_an_outage_is_told_within_seconds_and_ends_by_itself(private, tmp_path):
    """Frozen, then stopped: errors, /health red, no restart, no connection left over, nothing lost."""
    with cluster(tmp_path, private.url) as nodes:
        (node,) = nodes.start()
        with working(node) as workers:
            each(workers, lambda w: w.successes, "work")
            processes = node.server.children()
            for name, (begin, end) in OUTAGES.items():
                for worker in workers:
                    worker.slowest = 0.0
                began = time.monotonic()
                begin(private)
                try:
                    each(workers, lambda w: w.failures, f"errors while the database is {name}")
                    until(lambda: health(node) == (503, "DOWN"), "/health red", 20)
                    time.sleep(max(0.0, began + OUTAGE - time.monotonic()))
                finally:
                    end(private)
                assert max(worker.slowest for worker in workers) < WITHIN
                each(workers, lambda w: w.successes, "work as before")
                until(lambda: health(node) == (200, "UP"), "/health green", 20)
            assert node.server.children() == processes
        # Each belongs to a thread: one that a failure had left behind would come on top.
        until(lambda: private.clients() <= threads_of(processes), "connections closed", 20)
