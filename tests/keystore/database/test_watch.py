"""A database server that says nothing is noticed, and whoever waits for it is told."""

import contextlib
import socket
import threading

import pytest
from django.db import OperationalError

from keystore.database.watch import Watch, shut
from tests.processes import until


class Connection:
    """What a driver's connection is to the watch: something with a socket."""

    def __init__(self) -> None:
        self.mine, self.theirs = socket.socketpair()
        self.mine.settimeout(20)

    def close(self) -> None:
        self.mine.close()
        self.theirs.close()


@pytest.fixture
def opened(watch):
    """Open a connection that the watch knows."""
    with contextlib.ExitStack() as stack:

        def make() -> Connection:
            made = Connection()
            stack.callback(made.close)
            watch.add(made, lambda one: shut(one.mine.fileno()))
            return made

        yield make


@pytest.fixture
def silence():
    """Set where the server answers."""
    return threading.Event()


@pytest.fixture
def watch(silence):
    silence.set()
    made = Watch(lambda: silence.wait(0.3) or None, limit=0.1)
    made._asker = threading.Thread(target=made._keep_asking, daemon=True)
    threading.Thread(target=made._judge, daemon=True).start()
    made._asker.start()
    yield made
    made.stop()


def test_what_waits_for_a_silent_server_fails_and_nothing_new_begins(watch, silence, opened):
    """Until it answers again; what is opened meanwhile by whoever had begun already is cut, too."""
    first = opened()
    watch.check()
    silence.clear()
    assert first.mine.recv(1) == b""
    with pytest.raises(OperationalError, match="does not answer"):
        watch.check()
    assert opened().mine.recv(1) == b""
    silence.set()
    until(lambda: not watch.away, "an answer is noticed")
    watch.check()


def test_a_connection_that_is_gone_is_forgotten(watch):
    """Whoever closes one tells nobody."""
    one = Connection()
    watch.add(one, lambda one: shut(one.mine.fileno()))
    assert len(watch._open) == 1
    one.close()
    del one
    until(lambda: len(watch._open) == 0, "the connection is forgotten")


def test_a_connection_that_its_thread_closes_meanwhile_does_no_harm(silence, opened):
    """The others are cut all the same."""
    opened().mine.close()
    other = opened()
    silence.clear()
    assert other.mine.recv(1) == b""
