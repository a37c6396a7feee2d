"""KMIP in HTTP requests: which path takes what, and what goes back (KMIP HTTPS profile; `docs` of the JSON dialect).

Whoever parsed the request calls this: the views behind gunicorn, and the KMIP listener for clients that speak HTTPS
there. What a message means is the engine's business.
"""

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, Protocol

from keystore.authn import Peer
from kmip import messages

PLAIN: Final = "text/plain"


class Engine(Protocol):
    """What answers."""

    def handle(self, data: bytes, peer: Peer, encoding: str = "ttlv", *, answer: str | None = None) -> bytes:
        """The response to a message in an encoding."""

    def handle_http(self, data: bytes, peer: Peer) -> tuple[int, str, bytes]:
        """Status, media type and body of the answer to a request in the JSON dialect."""


class Reply(NamedTuple):
    """What goes back."""

    status: int
    content_type: str
    body: bytes
    headers: Mapping[str, str] = {}


def _plain(status: int, text: str, **headers: str) -> Reply:
    return Reply(status, PLAIN, text.encode(), headers)


def too_long(limit: int) -> Reply:
    """The answer to a body of more bytes than allowed."""
    return _plain(413, f"the body is over {limit} bytes")


def refusal(method: str, length: int, limit: int) -> Reply | None:
    """The answer to a request whose body is not worth reading: its length is 0 where it is not known yet."""
    if method != "POST":
        return _plain(405, "only POST", Allow="POST")
    return too_long(limit) if length > limit else None


#: Media type to encoding; the dialect has a path of its own.
ENCODINGS: Final = {
    media_type: name
    for name, encoding in messages.ENCODINGS.items()
    if name != "dialect"
    for media_type in encoding.content_types
}


def _media_type(header: str) -> str:
    return header.partition(";")[0].strip().lower()


def _accepted(accept: str, own: tuple[str, ...]) -> str | None:
    """The first media type of an Accept header that we have, preferring the request's own for wildcards."""
    if not accept or accept == "*/*":
        return own[0]
    for entry in accept.split(","):
        media_type = _media_type(entry)
        if media_type in ENCODINGS:
            return media_type
        if media_type == "*/*" or media_type in (f"{known.partition('/')[0]}/*" for known in own):
            return own[0]
    return None


def message(engine: Engine, content_type: str, body: bytes, peer: Peer) -> Reply:
    """A KMIP message in one of the encodings of the HTTPS profile, answered in the same one or as Accept asks."""
    encoding = ENCODINGS.get(_media_type(content_type))
    if encoding is None:
        return _plain(415, f"use one of {', '.join(ENCODINGS)}")
    wanted = _accepted(peer.headers.get("Accept", ""), messages.ENCODINGS[encoding].content_types)
    if wanted is None:
        return _plain(406, f"accept one of {', '.join(ENCODINGS)}")
    return Reply(200, wanted, engine.handle(body, peer, encoding, answer=ENCODINGS[wanted]))


def dialect(engine: Engine, content_type: str, body: bytes, peer: Peer) -> Reply:
    """The JSON dialect: a single operation, whose failure is an HTTP status, or a whole message."""
    if _media_type(content_type) not in messages.ENCODINGS["dialect"].content_types:
        return _plain(415, "use application/json")
    return Reply(*engine.handle_http(body, peer))


Answer = Callable[[Engine, str, bytes, Peer], Reply]
#: What answers a POST to each path, given its Content-Type and its body.
PATHS: Final[dict[str, Answer]] = {"/kmip": message, "/kmip/2_1": dialect}
