"""What is costly to make from a row and the same as long as the row is: kept by identifier and version.

One version is kept of each, so that a change of the row displaces what was made from the old one.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Kept(Generic[T]):
    """Things in memory, bounded in number and age (seconds)."""

    def __init__(self, limit: int, max_age: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._max_age = max_age
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, tuple[int, float, T]] = OrderedDict()

    def get(self, identifier: str, version: int, make: Callable[[], T]) -> T:
        """What `make` gives, unless it is kept from before."""
        now = self._clock()
        with self._lock:
            found = self._kept.get(identifier)
            if found is not None and found[0] == version and now - found[1] < self._max_age:
                self._kept.move_to_end(identifier)
                return found[2]
        # Made outside the lock: others do not wait for it, and making it twice is harmless.
        made = make()
        with self._lock:
            self._kept[identifier] = (version, now, made)
            self._kept.move_to_end(identifier)
            if len(self._kept) > self._limit:
                self._kept.popitem(last=False)
        return made

    def drop(self, identifier: str) -> None:
        """Forget what was made from a row that has changed."""
        with self._lock:
            self._kept.pop(identifier, None)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._kept.clear()

    def __len__(self) -> int:
        return len(self._kept)
