"""Turns: a listener's threads serve its clients one thread at a time, for as long as each request is brief.

Threads that all run at once would hand Python's lock to one another at every system call, which costs more than a
request does. So one of them waits for clients and serves them itself, and whoever is about to take long, or to wait for
a disk, another process or the network, says so first: the next thread goes on with the other clients. Threads that
have no turn may say so as well.
"""

import threading
from collections.abc import Callable


class _Here(threading.local):
    leave: Callable[[], None] | None = None


_here = _Here()


def taken(leave: Callable[[], None] | None) -> None:
    """Have this thread call a function whenever it leaves its turn, if it still has it; None where it takes turns no
    more."""
    _here.leave = leave


def leave() -> None:
    """Let another thread go on with the other clients: what this one does next is not brief."""
    if _here.leave is not None:
        _here.leave()
