"""What leaves a listener's turn, because it is not brief, and what does not."""

import pytest
from django.db import connection

from keystore import turns
from keystore.authn import Peer
from keystore.engine import handle
from kmip.enums import CryptographicAlgorithm, Operation
from kmip.messages import ENCODINGS
from kmip.payloads import ActivateRequest, GetRequest, LocateRequest, QueryRequest, SignRequest
from kmip.tags import Tag
from kmip.versions import V1_4
from tests.authority import sealed  # noqa: F401 - a fixture
from tests.using import create, pair
from tests.wire import message

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("sealed")]
O = Operation  # noqa: E741


def carry_out(peer, *items):
    """Have the engine answer a message in this thread."""
    handle(ENCODINGS["ttlv"].encode(message(*items), Tag.REQUEST_MESSAGE, V1_4), peer)


@pytest.fixture
def left():
    """How often the turn was left."""
    times = []
    turns.taken(lambda: times.append(1))
    yield times
    turns.taken(None)


@pytest.fixture
def client():
    peer = Peer("cli", user="alice")
    carry_out(peer, (O.QUERY, QueryRequest()))  # From now on it is known who that is.
    return peer


@pytest.mark.skipif(connection.vendor != "sqlite", reason="a database behind a network is waited for out of turn")
def test_reads_and_cryptography_keep_their_turn(client, left):
    """They are over before another thread would have begun."""
    key = create()
    private, _ = pair(CryptographicAlgorithm.RSA, 2048)
    carry_out(client, (O.GET, GetRequest(unique_identifier=key)))  # The first one writes that it was.
    left.clear()
    carry_out(client, (O.QUERY, QueryRequest()))
    carry_out(client, *[(O.GET, GetRequest(unique_identifier=key))] * 16)
    carry_out(client, (O.SIGN, SignRequest(unique_identifier=private, data=b"data")))
    assert not left


LONG = {
    "a change": lambda key, private: [(O.ACTIVATE, ActivateRequest(unique_identifier=key))],
    "a search": lambda key, private: [(O.LOCATE, LocateRequest())],
    "a large batch": lambda key, private: [(O.QUERY, QueryRequest())] * 17,
    "a first Get": lambda key, private: [(O.GET, GetRequest(unique_identifier=key))],
    "a long key": lambda key, private: [(O.SIGN, SignRequest(unique_identifier=private, data=b"data"))],
}


@pytest.mark.parametrize("items", LONG.values(), ids=LONG)
def test_what_may_take_long_leaves_its_turn(client, left, items):
    """Other clients do not wait for it."""
    key = create()
    private, _ = pair(CryptographicAlgorithm.ED448)
    left.clear()
    carry_out(client, *items(key, private))
    assert left


def test_finding_out_who_asks_leaves_the_turn(left):
    """Passwords take long on purpose, and another connection may be looking the same client up."""
    carry_out(Peer("cli", user="alice"), (O.QUERY, QueryRequest()))
    assert left
