"""A node that is killed, and nodes that are restarted one after another: the others go on with all that there was."""

import http.cookies
import re
import threading
import time
from collections import Counter
from typing import Any
from urllib.parse import urlencode

import pytest

from kmip.attributes import Attributes
from kmip.enums import (
    AsynchronousIndicator,
    CredentialType,
    CryptographicAlgorithm,
    ObjectType,
    Operation,
    ResultStatus,
)
from kmip.messages import Authentication, Credential, TicketCredential
from kmip.payloads import CreateRequest, GetAttributesRequest, GetRequest, LocateRequest, LoginRequest, PollRequest
from tests import databases
from tests.nodes import Client, Node
from tests.processes import manage, until
from tests.scale.using import LIMIT, THREADS, active, get, limits, use_up

pytestmark = pytest.mark.scale

O, S = Operation, ResultStatus  # noqa: E741
#: Seconds after which another node does the jobs.
MOVES = 15
SUBMITTED = 40


def rows(url: str, sql: str) -> list[tuple[Any, ...]]:
    with databases.connected(url) as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall())


def leader(url: str) -> str | None:
    """The node that has the jobs' lease, whether it lives or not."""
    return next((node for (node,) in rows(url, "SELECT node FROM keystore_joblease WHERE name = 'jobs'")), None)


class Browser:
    """A person at the console, with cookies."""

    def __init__(self) -> None:
        self.cookies = http.cookies.SimpleCookie()

    def ask(self, node: Node, method: str, path: str, **form: str) -> tuple[int, str]:
        headers = {"Cookie": "; ".join(f"{name}={one.value}" for name, one in self.cookies.items())}
        if form:
            headers |= {
                "Content-Type": "application/x-www-form-urlencoded",
                "Referer": f"https://localhost:{node.https}/",
            }
        status, body, answered = node.ask(method, path, urlencode(form).encode() if form else None, **headers)
        for one in answered.get_all("Set-Cookie", []):
            self.cookies.load(one)
        return status, body.decode()

    def log_in(self, node: Node, name: str, password: str) -> None:
        _, page = self.ask(node, "GET", "/ui/login/")
        token = re.search(r'csrfmiddlewaretoken" value="(\w+)"', page)[1]
        form = {"csrfmiddlewaretoken": token, "username": name, "password": password, "code": "", "next": "/ui/"}
        assert self.ask(node, "POST", "/ui/login/", **form)[0] == 302


def submit(client: Client, count: int) -> list[bytes]:
    """Ask for so many keys of a group, each asynchronously; their correlation values."""
    attributes = Attributes()
    attributes.cryptographic_algorithm, attributes.cryptographic_length = CryptographicAlgorithm.AES, 256
    attributes.object_group = ["made later"]
    request = CreateRequest(object_type=ObjectType.SYMMETRIC_KEY, attributes=attributes)
    pending = [
        client.tried(O.CREATE, request, asynchronous_indicator=AsynchronousIndicator.MANDATORY) for _ in range(count)
    ]
    assert {one.result_status for one in pending} == {S.OPERATION_PENDING}
    return [one.asynchronous_correlation_value for one in pending]


def test_a_killed_node_s_work_goes_on(nodes, url):
    """Tickets and sessions hold on the other node, which does the jobs within 15 s, each once."""
    done = manage(nodes.folder, "initadmin", **nodes.settings)
    name, password = re.search(r"(\w+) / (\S+)", done.stdout).groups()
    until(lambda: leader(url) in {one.name for one in nodes.nodes}, "a node does the jobs")
    victim = next(one for one in nodes.nodes if one.name == leader(url))
    other = next(one for one in nodes.nodes if one is not victim)
    browser = Browser()
    browser.log_in(victim, name, password)
    with victim.client() as client, other.client() as here:
        uid = client.created()
        ticket = client.do(O.LOGIN, LoginRequest()).ticket
        correlations = submit(client, SUBMITTED)
        runs = dict(rows(url, "SELECT name, runs FROM keystore_job"))
        victim.kill()
        killed = time.monotonic()

        shown = TicketCredential(ticket=ticket)
        credential = Credential(credential_type=CredentialType.TICKET, credential_value=shown)
        here.do(O.GET, get(uid), authentication=Authentication(credential=[credential]))
        assert browser.ask(other, "GET", "/ui/objects/")[0] == 200

        until(lambda: leader(url) == other.name, "the other node does the jobs", 60)
        assert time.monotonic() - killed < MOVES + 1  # A look at the clock on a busy machine.

        def answered(correlation: bytes) -> bool:
            item = here.tried(O.POLL, PollRequest(asynchronous_correlation_value=correlation))
            assert item.result_status in (S.OPERATION_PENDING, S.SUCCESS), item
            return item.result_status == S.SUCCESS

        until(lambda: all(answered(one) for one in correlations), "everything that was asked for is done", 30)
        wanted = Attributes()
        wanted.object_group = ["made later"]
        assert len(here.do(O.LOCATE, LocateRequest(attributes=wanted)).unique_identifier) == SUBMITTED
        seconds = time.monotonic() - killed
        now = dict(rows(url, "SELECT name, runs FROM keystore_job"))
        # Every 5 s, and what was due when it was killed.
        assert now["states"] - runs.get("states", 0) <= seconds / 5 + 2
    nodes.nodes.remove(victim)
    nodes.start()


def test_usage_limits_hold_when_a_node_is_killed(nodes):
    """What was acknowledged is never more than the limit; only what died with the node may be less."""

    def die(ended: Counter) -> None:
        until(lambda: ended["served"] > LIMIT // 4, "the key is in use")
        victim.kill()

    victim, other = nodes.nodes[-2:]
    with other.client() as client:
        uid = active(client, usage_limits=limits(LIMIT))
        ended = use_up(nodes, uid, die)
        assert 0 < ended["lost"] <= THREADS // 2 + 1
        assert LIMIT - ended["lost"] <= ended["served"] <= LIMIT
        left = client.do(O.GET_ATTRIBUTES, GetAttributesRequest(unique_identifier=uid)).attributes.usage_limits
        assert left.usage_limits_count == 0
    nodes.nodes.remove(victim)
    nodes.start()


class Patient:
    """A client that tries once more, on the other node, what the first could not answer."""

    def __init__(self, places: list[Node], first: int) -> None:
        self.places, self.first = places, first
        self.served = self.retried = 0
        self.failures: list[Exception] = []
        self._client: Client | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._ask()
            except OSError:
                self.retried += 1
                self.first = 1 - self.first
                self._client = None
                try:
                    self._ask()
                except Exception as exc:
                    self.failures.append(exc)
                    return
            except Exception as exc:
                self.failures.append(exc)
                return
            self.served += 1
        if self._client is not None:
            self._client.stream.close()

    def _ask(self) -> None:
        if self._client is None:
            self._client = self.places[self.first].client()
        try:
            uid = self._client.created()
            self._client.do(O.GET, GetRequest(unique_identifier=uid))
        except OSError:
            self._client.stream.close()
            raise

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(60)


def test_nodes_are_restarted_one_after_the_other_without_a_failed_request(nodes):
    """For clients that try once more; everyone has had to, and is served at the end."""
    places = list(nodes.nodes[-2:])
    patients = [Patient(places, number % 2) for number in range(4)]
    try:
        for number in range(2):
            old = places[number]
            assert old.server.stop() == 0
            nodes.nodes.remove(old)
            (places[number],) = nodes.start()
            before = [one.served for one in patients]
            until(lambda b=before: all(one.served > n for one, n in zip(patients, b, strict=True)), "service", 30)
    finally:
        for one in patients:
            one.stop()
    assert [one.failures for one in patients] == [[]] * len(patients)
    assert sum(one.retried for one in patients) >= len(patients)
