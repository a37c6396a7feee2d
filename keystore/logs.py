"""Log lines as JSON, one object a line, with the request that they are about.

A request's id is a random number of its process and a count; all lines of one request have the same.
"""

import itertools
import logging
import os
from contextvars import ContextVar
from typing import Final

import orjson

_request: ContextVar[int] = ContextVar("request", default=0)
_numbers = itertools.count(1)
_process = [os.urandom(4).hex()]


def _renew() -> None:
    _process[0] = os.urandom(4).hex()


os.register_at_fork(after_in_child=_renew)


def begin() -> None:
    """A request begins in this thread."""
    _request.set(next(_numbers))


def current() -> int:
    """The number of the request that this thread answers, or answered last."""
    return _request.get()


def go_on(number: int) -> None:
    """This thread goes on with a request that another one began."""
    _request.set(number)


def request_id() -> str:
    """The id of the request that this thread answers, or answered last; empty where it never did."""
    number = _request.get()
    return f"{_process[0]}-{number:x}" if number else ""


#: Longer messages are cut: what a client sends is among them.
LONGEST: Final = 8192


class JsonFormatter(logging.Formatter):
    """A record as a JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage()[:LONGEST],
            "process": record.process,
            "thread": record.threadName,
        }
        if request := request_id():
            line["request"] = request
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)[-LONGEST:]
        # Lone surrogates, as in file names, have no place in JSON.
        return orjson.dumps({name: _text(value) for name, value in line.items()}).decode()


def _text(value: object) -> object:
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value
