"""HTTP where KMIP requests come without a framework: bytes in as they arrive, whole requests out, the bytes of replies.

`httptools` parses; here are the bounds: on what precedes a body and what follows it, on the number of fields, and on
the body itself.
"""

from collections import deque
from collections.abc import Mapping
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from time import time
from typing import Final, NamedTuple

import httptools

from keystore import web

#: Bytes of a request line and its fields, of trailers, or of what a chunk says besides its length.
HEAD_LIMIT: Final = 65_536
MAX_FIELDS: Final = 100
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


def begins(data: bytes) -> bool:
    """Whether the first bytes of a connection are those of a request: a letter, but not the one that every KMIP message
    begins with and no method that is meant here."""
    return data[:1].isalpha() and data[:1].isupper() and data[0] != 0x42


class Request(NamedTuple):
    """One whole request; `headers` are named in title case, repeated ones joined by commas."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    keep_alive: bool


class Requests:
    """The requests of one connection."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parser = httptools.HttpRequestParser(self)
        self._whole: deque[Request] = deque()
        #: The answer to bytes that are no request, or one that is too long; nothing after it is read.
        self.refusal: web.Reply | None = None
        #: Whether part of a request is here.
        self.begun = False
        self._waits = False
        self._begin()

    def _begin(self) -> None:
        self._url = b""
        self._fields: dict[str, str] = {}
        self._count = self._head = 0
        self._in_body = False
        self._body: list[bytes] = []
        self._size = 0
        #: Bytes since something was last understood.
        self._silent = 0

    def feed(self, data: bytes) -> None:
        """Take bytes as they come from the connection."""
        self._silent += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            # What our own bounds refused has its answer already.
            self._refuse(400, "this is no HTTP request that is answered here")
        if self._silent > 2 * HEAD_LIMIT:
            # Twice, because pieces are not cut where heads end; what is whole is measured.
            self._measure(HEAD_LIMIT)

    def next(self) -> Request | None:
        """The next whole request."""
        return self._whole.popleft() if self._whole else None

    def invitation(self) -> bytes:
        """What a client is told that waits before it sends a body; empty where none does."""
        waits, self._waits = self._waits, False
        return CONTINUE if waits and self.begun and self.refusal is None else b""

    def _measure(self, size: int) -> None:
        self._head += size
        if self._head > HEAD_LIMIT:
            self._refuse(431, f"a request has at most {HEAD_LIMIT} bytes besides its body")

    def _refuse(self, status: int, text: str) -> None:
        if self.refusal is None:
            self.refusal = web.Reply(status, web.PLAIN, text.encode())

    # What the parser calls.

    def on_message_begin(self) -> None:
        """A request begins."""
        self._begin()
        self.begun = True

    def on_url(self, url: bytes) -> None:
        """A piece of the request's target."""
        self._measure(len(url))
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field, of the head or of the trailer, which is not looked at."""
        self._count += 1
        self._measure(len(name) + len(value))
        if self._count > MAX_FIELDS:
            self._refuse(431, f"a request has at most {MAX_FIELDS} fields")
        if self.refusal is not None:
            return
        key, text = name.decode("latin-1").title(), value.decode("latin-1")
        if self._in_body:
            return
        self._fields[key] = f"{self._fields[key]},{text}" if key in self._fields else text

    def on_headers_complete(self) -> None:
        """The body follows."""
        self._silent, self._in_body = 0, True
        length = self._fields.get("Content-Length", "")
        refusal = web.refusal(
            self._parser.get_method().decode("latin-1"), int(length) if length.isdecimal() else 0, self._limit
        )
        if self.refusal is None:
            self.refusal = refusal
        self._waits = self._fields.get("Expect", "").lower() == "100-continue"

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        self._silent = 0
        self._size += len(data)
        if self._size > self._limit:
            self._body.clear()
            if self.refusal is None:
                self.refusal = web.too_long(self._limit)
        elif self.refusal is None:
            self._body.append(data)

    def on_message_complete(self) -> None:
        """The request is whole."""
        self.begun, self._waits, self._silent = False, False, 0
        if self.refusal is not None:
            return
        try:
            path = httptools.parse_url(self._url).path or b"/"
        except httptools.HttpParserInvalidURLError:
            self._refuse(400, "the request's target is no URL")
            return
        self._whole.append(
            Request(
                self._parser.get_method().decode("latin-1"),
                path.decode("latin-1"),
                self._fields,
                b"".join(self._body),
                self._parser.should_keep_alive(),
            )
        )


def only(data: bytes, limit: int) -> Request | None:
    """The request that some bytes are; None where they are more, less, or none that would be answered."""
    requests = Requests(limit)
    requests.feed(data)
    return None if requests.refusal is not None or requests.begun else requests.next()


@lru_cache(maxsize=2)
def _date(second: int) -> str:
    return formatdate(second, usegmt=True)


def encode(reply: web.Reply, *, keep_alive: bool) -> bytes:
    """The bytes of a reply."""
    lines = [
        f"HTTP/1.1 {reply.status} {HTTPStatus(reply.status).phrase}",
        f"Date: {_date(int(time()))}",
        f"Content-Type: {reply.content_type}",
        f"Content-Length: {len(reply.body)}",
        *(f"{name}: {value}" for name, value in reply.headers.items()),
        # Said in either case, for clients of HTTP/1.0.
        f"Connection: {'keep-alive' if keep_alive else 'close'}",
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + reply.body
