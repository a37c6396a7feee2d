"""Two real servers on one database: what one does counts on the other at once, and exactly once."""

import contextlib
import json
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from kmip.attributes import Attributes
from kmip.enums import (
    Operation,
    ResultReason,
    ResultStatus,
    State,
)
from kmip.payloads import (
    GetAttributesRequest,
    LocateRequest,
    ReKeyRequest,
)
from kmip.structures import Name
from tests.nodes import Client, Node
from tests.processes import Manager
from tests.scale.using import LIMIT, THREADS, activate, active, destroy, encrypt, get, limits, revoke, use_up

pytestmark = pytest.mark.scale

O, R, S = Operation, ResultReason, ResultStatus  # noqa: E741


def access(node: Node, path: str, user: str = "alice", **body: Any) -> tuple[int, Any]:
    """Status and answer of the access API."""
    status, answer, _ = node.ask(
        "POST", f"/access/{path}", json.dumps(body).encode(), user=user, **{"Content-Type": "application/json"}
    )
    return status, json.loads(answer)


def test_what_one_node_decides_counts_for_the_next_request_on_the_other(nodes):
    """Revoked, destroyed, used up, granted and taken away: though the other had just served the same client."""
    here, there = nodes.nodes[0].client(), nodes.nodes[1].client()
    with here, there, nodes.nodes[1].client("bob") as bob:
        revoked, destroyed, limited = active(here), here.created(), active(here, usage_limits=limits(3))
        there.do(O.ENCRYPT, encrypt(revoked))
        here.do(O.REVOKE, revoke(revoked))
        assert there.tried(O.ENCRYPT, encrypt(revoked)).result_reason == R.WRONG_KEY_LIFECYCLE_STATE

        there.do(O.GET, get(destroyed))
        here.do(O.DESTROY, destroy(destroyed))
        assert there.tried(O.GET, get(destroyed)).result_reason == R.OBJECT_DESTROYED

        there.do(O.ENCRYPT, encrypt(limited))
        here.do(O.ENCRYPT, encrypt(limited))
        here.do(O.ENCRYPT, encrypt(limited))
        assert there.tried(O.ENCRYPT, encrypt(limited)).result_reason == R.PERMISSION_DENIED

        shared = here.created()
        given = {"unique_identifier": shared, "user_id": "bob", "operation_types": ["get"]}
        assert bob.tried(O.GET, get(shared)).result_reason == R.OBJECT_NOT_FOUND
        assert access(nodes.nodes[0], "grant", **given)[0] == 200
        bob.do(O.GET, get(shared))
        assert access(nodes.nodes[0], "revoke", **given)[0] == 200
        assert bob.tried(O.GET, get(shared)).result_reason == R.OBJECT_NOT_FOUND


def test_a_user_that_is_disabled_is_refused_by_the_next_request_on_every_node(nodes):
    """On connections that are open, and over HTTP; a role that is given counts as soon."""
    with contextlib.ExitStack() as stack:
        administer = Manager(nodes.folder, **nodes.settings)
        stack.callback(administer.close)
        open_ones = [stack.enter_context(node.client("carol")) for node in nodes.nodes]
        uid = open_ones[0].created()

        def results() -> list[Any]:
            return [one.tried(O.GET, get(uid)).result_reason for one in open_ones]

        assert results() == [None, None]
        administer("user", "disable", "carol")
        assert results() == [R.AUTHENTICATION_NOT_SUCCESSFUL] * 2
        assert [node.ask("GET", "/me", user="carol")[0] for node in nodes.nodes] == [401, 401]
        administer("user", "enable", "carol")
        assert results() == [None, None]
        administer("role", "give", "auditor", "user:carol")
        assert results() == [R.PERMISSION_DENIED] * 2


# Counting.


def test_usage_limits_are_exact_for_threads_on_two_nodes(nodes):
    """1,000 uses are exactly 1,000, whoever asks where."""
    with nodes.nodes[-1].client() as client:
        uid = active(client, usage_limits=limits(LIMIT))
        assert use_up(nodes, uid) == {"served": LIMIT, str(R.PERMISSION_DENIED): THREADS}
        left = client.do(O.GET_ATTRIBUTES, GetAttributesRequest(unique_identifier=uid)).attributes.usage_limits
        assert left.usage_limits_count == 0


# Races.


def together(*works: Callable[[], Any]) -> list[Any]:
    """What works that begin at the same moment return."""
    begin = threading.Barrier(len(works))

    def run(work: Callable[[], Any]) -> Any:
        begin.wait(30)
        return work()

    with ThreadPoolExecutor(len(works)) as threads:
        return list(threads.map(run, works))


def outcomes(items: list[Any]) -> Counter:
    return Counter("won" if item.result_status == S.SUCCESS else str(item.result_reason) for item in items)


ROUNDS = 8


def test_races_between_nodes_have_one_winner(nodes):
    """For a Name, an activation, a destruction; a Name that two Re-keys move has one owner after them."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(node.client()) for node in nodes.nodes[-2:] for _ in range(2)]
        first = clients[0]

        def race(operation: Operation, payload: Any) -> Counter:
            return outcomes(together(*(lambda c=client: c.tried(operation, payload) for client in clients)))

        def owners(name: str) -> list[str]:
            wanted = Attributes()
            wanted.name = [Name(name_value=name, name_type=1)]
            return first.do(O.LOCATE, LocateRequest(attributes=wanted)).unique_identifier

        def attributes(uid: str) -> Attributes:
            return first.do(O.GET_ATTRIBUTES, GetAttributesRequest(unique_identifier=uid)).attributes

        def make(client: Client, name: str) -> str | None:
            try:
                return client.created(name)
            except AssertionError as refused:
                assert refused.args[0][0] == R.NON_UNIQUE_NAME_ATTRIBUTE, refused
                return None

        for number in range(ROUNDS):
            name = f"raced {number}"
            made = [uid for uid in together(*(lambda c=c, n=name: make(c, n) for c in clients)) if uid is not None]
            assert len(made) == 1 and owners(name) == made
            (uid,) = made

            assert race(O.ACTIVATE, activate(uid)) == {"won": 1, str(R.WRONG_KEY_LIFECYCLE_STATE): len(clients) - 1}
            assert attributes(uid).state == State.ACTIVE

            rekeyed = together(
                *(lambda c=c, u=uid: c.tried(O.RE_KEY, ReKeyRequest(unique_identifier=u)) for c in clients)
            )
            won = [one.response_payload.unique_identifier for one in rekeyed if one.result_status == S.SUCCESS]
            assert won, outcomes(rekeyed)
            (owner,) = owners(name)
            assert owner in won
            replacements = [link.linked_object_identifier for link in attributes(uid).link]
            assert sorted(replacements) == sorted(won)

            first.do(O.REVOKE, revoke(owner))
            ended = race(O.DESTROY, destroy(owner))
            assert ended == {"won": 1, str(R.OBJECT_DESTROYED): len(clients) - 1}
            assert attributes(owner).state == State.DESTROYED and owners(name) == []
