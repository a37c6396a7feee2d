"""HTTP bytes to the engine and back. What a message means is the engine's business; who sent it, authn's.

The KMIP views are plain functions, because the REST framework's own work would cost more than a small request."""

import time
from collections.abc import Iterator, Mapping
from typing import Any

from django.db import DatabaseError, connection
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from keystore import checks, conf, engine, jobs, nodes, sealing, version
from keystore.authn import Peer
from keystore.proxies import client_address
from kmip import messages

# Media type to encoding; the dialect has a path of its own.
ENCODINGS = {
    media_type: name
    for name, encoding in messages.ENCODINGS.items()
    if name != "dialect"
    for media_type in encoding.content_types
}


class Headers(Mapping[str, str]):
    """The headers of a request, looked up in its WSGI environment only when asked for."""

    def __init__(self, environ: Mapping[str, Any]) -> None:
        self._environ = environ

    def __getitem__(self, name: str) -> str:
        value: str = self._environ["HTTP_" + name.upper().replace("-", "_")]
        return value

    def __iter__(self) -> Iterator[str]:
        return (key[5:].replace("_", "-").title() for key in self._environ if key.startswith("HTTP_"))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def peer_of(request: HttpRequest) -> Peer:
    """Who sent the request: the same object for as long as connection, address and credentials are the same."""
    environ = request.META
    address = client_address(environ)
    kept: dict[str, Any] = environ.get("kms.connection", {})
    same = (address, environ.get("HTTP_AUTHORIZATION"))
    if kept.get("same") == same:
        peer: Peer = kept["peer"]
        peer.headers = Headers(environ)
        return peer
    peer = Peer(
        "http", address, environ.get("kms.peer_certificate"), Headers(environ), chain=environ.get("kms.peer_chain", ())
    )
    kept.update(same=same, peer=peer)
    return peer


def _media_type(header: str) -> str:
    return header.partition(";")[0].strip().lower()


def _body(request: HttpRequest) -> bytes | HttpResponse:
    """The body of a POST, or the answer to what is none or too long."""
    if request.method != "POST":
        return HttpResponse("only POST", status=405, headers={"Allow": "POST"}, content_type="text/plain")
    limit = conf.current().http.max_body_size
    if int(request.META.get("CONTENT_LENGTH") or 0) > limit:
        return HttpResponse(f"the body is over {limit} bytes", status=413, content_type="text/plain")
    # A chunked body has no length, which Django takes for an empty one; the server behind it knows where it ends.
    chunked = "CONTENT_LENGTH" not in request.META and request.META.get("wsgi.input_terminated")
    # One byte more than allowed tells a body of unknown length that is too long.
    body: bytes = (request.META["wsgi.input"] if chunked else request).read(limit + 1)
    if len(body) > limit:
        return HttpResponse(f"the body is over {limit} bytes", status=413, content_type="text/plain")
    return body


@csrf_exempt
def kmip(request: HttpRequest) -> HttpResponse:
    """A KMIP message in one of the encodings of the HTTPS profile, answered in the same one or as Accept asks."""
    body = _body(request)
    if isinstance(body, HttpResponse):
        return body
    encoding = ENCODINGS.get(_media_type(request.META.get("CONTENT_TYPE", "")))
    if encoding is None:
        return HttpResponse(f"use one of {', '.join(ENCODINGS)}", status=415, content_type="text/plain")
    content_type = _accepted(request.META.get("HTTP_ACCEPT", ""), messages.ENCODINGS[encoding].content_types)
    if content_type is None:
        return HttpResponse(f"accept one of {', '.join(ENCODINGS)}", status=406, content_type="text/plain")
    answer = engine.handle(body, peer_of(request), encoding, answer=ENCODINGS[content_type])
    return HttpResponse(answer, content_type=content_type)


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


@csrf_exempt
def kmip_2_1(request: HttpRequest) -> HttpResponse:
    """The JSON dialect: a single operation, whose failure is an HTTP status, or a whole message."""
    body = _body(request)
    if isinstance(body, HttpResponse):
        return body
    if _media_type(request.META.get("CONTENT_TYPE", "")) not in messages.ENCODINGS["dialect"].content_types:
        return HttpResponse("use application/json", status=415, content_type="text/plain")
    status, content_type, answer = engine.handle_http(body, peer_of(request))
    return HttpResponse(answer, status=status, content_type=content_type)


class Version(APIView):
    """The server's version, for everybody."""

    def get(self, request: Request) -> Response:
        return Response(version.VERSION)


class Health(APIView):
    """Whether the database and the other processes answer, for everybody."""

    def get(self, request: Request) -> Response:
        begun = time.monotonic()
        dependencies = {"database": {"name": connection.vendor, "status": _database_status()}}
        for name, alive in nodes.processes().items():
            kind = name.partition("-")[0]
            if kind != "http":
                up = alive and dependencies.get(kind, {}).get("status") != "DOWN"
                dependencies[kind] = {"name": kind, "status": "UP" if up else "DOWN"}
        healthy = all(dependency["status"] == "UP" for dependency in dependencies.values())
        if sealing.is_sealed():
            healthy, status = False, "sealed"
        else:
            status = "UP" if healthy else "DOWN"
        body = {
            "status": status,
            "latency_ms": round((time.monotonic() - begun) * 1000),
            "dependencies": dependencies,
            "jobs": _jobs() if dependencies["database"]["status"] == "UP" else None,
        }
        if checks.is_open(conf.current()):
            body["unauthenticated"] = f"callers on this machine are {conf.current().auth.default_username}"
        return Response(body, status=200 if healthy else 503)


def _jobs() -> dict[str, Any] | None:
    """Which node does the jobs, and how each went; the kind of its last error only, because anybody may read this."""
    try:
        rows = [
            {
                "name": one.name,
                "last_run": one.last_run,
                "next_run": one.next_run,
                "last_error": one.error.partition(":")[0],
            }
            for one in jobs.status()
        ]
        return {"node": jobs.active_node(), "jobs": rows}
    except DatabaseError:
        connection.close()
        return None


def _database_status() -> str:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError:
        connection.close()
        return "DOWN"
    return "UP"
