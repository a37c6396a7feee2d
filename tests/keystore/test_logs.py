"""Log lines as JSON."""

import logging
import sys

import orjson
import pytest

from benchmarks import messages
from keystore import engine, logs
from keystore.authn import Peer


def formatted(text, *arguments, **others):
    record = logging.LogRecord("a.logger", logging.WARNING, __file__, 1, text, arguments, **{"exc_info": None} | others)
    line = logs.JsonFormatter().format(record)
    assert "\n" not in line
    return orjson.loads(line)


def test_a_record_is_one_line_whatever_is_in_it():
    line = formatted("two\nlines of %s\ud800", "ünïcode")
    assert line["message"] == "two\nlines of ünïcode\\ud800"
    assert (line["level"], line["logger"]) == ("WARNING", "a.logger")
    assert len(formatted("x" * 100_000)["message"]) == logs.LONGEST


def test_a_traceback_is_part_of_the_object():
    try:
        raise ValueError("why")
    except ValueError:
        line = formatted("failed", exc_info=sys.exc_info())
    assert line["exception"].endswith("ValueError: why")


@pytest.mark.django_db
def test_each_request_has_an_id_of_its_own():
    seen = []
    for _ in range(2):
        engine.handle(messages.query(), Peer("none"))
        seen.append(formatted("a line")["request"])
    assert len(set(seen)) == 2
    assert formatted("another line")["request"] == seen[1]
