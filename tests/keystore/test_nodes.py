"""Nodes say that they are there, and are missed when they do not."""

import pytest

from keystore import nodes, supervisor
from keystore.models import Node

pytestmark = pytest.mark.django_db


@pytest.fixture
def at(monkeypatch):
    """Set the database's clock: `at(seconds)`."""
    return lambda seconds: monkeypatch.setattr(nodes.clock, "now", lambda: seconds * 1_000_000)


def test_a_node_is_up_while_it_beats(at, monkeypatch):
    """It begins when it is first heard of, is down when it is silent, and begins anew after that."""
    monkeypatch.setattr(supervisor.pulse, "ages", lambda: {"http": 0.1, "kmip-1": 0.2})
    at(1000)
    nodes.beat()
    at(1010)
    nodes.beat()
    (state,) = nodes.states()
    assert (state.node.name, state.node.started, state.node.seen, state.up) == (nodes.name(), 1000, 1010, True)
    at(1010 + nodes.LATE)
    assert not nodes.states()[0].up
    at(1010 + nodes.LATE + 5)
    nodes.beat()
    assert (nodes.states()[0].node.started, nodes.states()[0].up) == (1010 + nodes.LATE + 5, True)


def test_a_dead_process_is_told(at, monkeypatch):
    """A node one of whose processes is silent is not up."""
    monkeypatch.setattr(supervisor.pulse, "ages", lambda: {"http": 0.1, "kmip-1": nodes.STALE + 1})
    at(1000)
    nodes.beat()
    assert nodes.states()[0].node.processes == {"http": True, "kmip-1": False}
    assert not nodes.states()[0].up


def test_one_process_of_a_node_beats_at_a_time(at):
    """The others find that it has just been done, and write nothing."""
    at(1000)
    nodes.beat()
    at(1002)
    nodes.beat()
    assert Node.objects.get().seen == 1000


def test_nodes_that_are_gone_are_forgotten(at):
    """What was not heard of for a week is not shown, and goes when a new node comes."""
    Node.objects.create(name="old:1", version="1", started=1, seen=1)
    at(nodes.GONE + 10)
    assert nodes.states() == []
    nodes.beat()
    assert list(Node.objects.values_list("name", flat=True)) == [nodes.name()]
