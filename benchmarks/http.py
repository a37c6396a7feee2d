"""Rows of HTTPS through gunicorn, beside an empty view and of one encoding beside the other."""

from typing import Final

from benchmarks import load, messages
from benchmarks.rows import Bench, Row, Sample, rate, seen
from kmip.enums import Operation
from kmip.payloads import GetRequest

BINARY, JSON = "application/octet-stream", "application/json"
DATA: Final = b"x" * 64


def _get(bench: Bench) -> bytes:
    return messages.posted("/kmip", BINARY, messages.get(bench.key(bench.product)))


def _get_dialect(bench: Bench) -> bytes:
    payload = GetRequest(unique_identifier=bench.key(bench.product))
    return messages.posted("/kmip/2_1", JSON, messages.bare(Operation.GET, payload))


def _encrypt(bench: Bench) -> bytes:
    return messages.posted("/kmip", BINARY, messages.encrypt(bench.key(bench.product), DATA))


def _encrypt_dialect(bench: Bench) -> bytes:
    payload = messages.encrypting(bench.key(bench.product), DATA)
    return messages.posted("/kmip/2_1", JSON, messages.bare(Operation.ENCRYPT, payload))


def _beside_empty(bench: Bench, request: bytes) -> Sample:
    mine = rate(bench, bench.product, request, http=True)
    body = request.partition(b"\r\n\r\n")[2]
    return seen(mine, mine.rate, rate(bench, bench.empty, messages.posted("/empty", BINARY, body), http=True).rate)


def _dialect(bench: Bench) -> Sample:
    results: list[load.Result] = [
        rate(bench, bench.product, request, http=True) for request in (_encrypt_dialect(bench), _encrypt(bench))
    ]
    return seen(results[0], results[0].rate, results[1].rate)


def _row(name: str, title: str, against: str, must: float, aim: float, measure) -> Row:  # type: ignore[no-untyped-def]
    return Row(name, title, "requests/s", against, must, aim, at_least=True, measure=measure)


ROWS: Final = [
    _row("http", "POST /kmip through gunicorn: Get", "empty view", 0.7, 0.85,
         lambda bench: _beside_empty(bench, _get(bench))),
    _row("http-2.1", "POST /kmip/2_1 through gunicorn: Get", "empty view", 0.7, 0.85,
         lambda bench: _beside_empty(bench, _get_dialect(bench))),
    _row("json", "JSON of /kmip/2_1 against binary: Encrypt", "binary", 0.6, 0.8, _dialect),
]  # fmt: skip
