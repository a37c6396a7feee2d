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

from keystore import authn, checks, conf, engine, exposition, jobs, nodes, policy, sealing, version, web
from keystore.authn import Identity, Peer
from keystore.database.watch import watch
from keystore.proxies import client_address
from kmip.errors import KMIPError


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
    return kept_peer(
        environ.get("kms.connection", {}),
        client_address(environ),
        Headers(environ),
        environ.get("kms.peer_certificate"),
        environ.get("kms.peer_chain", ()),
    )


def kept_peer(
    kept: dict[str, Any],
    address: str,
    headers: Mapping[str, str],
    certificate: bytes | None,
    chain: tuple[bytes, ...],
) -> Peer:
    """The same, on a connection that keeps what it is told in `kept`."""
    same = (address, headers.get("Authorization"))
    if kept.get("same") == same:
        peer: Peer = kept["peer"]
        peer.headers = headers
        return peer
    peer = Peer("http", address, certificate, headers, chain=chain)
    kept.update(same=same, peer=peer)
    return peer


@csrf_exempt
def kmip(request: HttpRequest) -> HttpResponse:
    """A KMIP message, or a request in the JSON dialect, as the path says."""
    limit = conf.current().http.max_body_size
    reply = web.refusal(request.method or "", int(request.META.get("CONTENT_LENGTH") or 0), limit)
    if reply is None:
        # A chunked body has no length, which Django takes for an empty one; the server behind it knows where it ends.
        chunked = "CONTENT_LENGTH" not in request.META and request.META.get("wsgi.input_terminated")
        # One byte more than allowed tells a body of unknown length that is too long.
        body: bytes = (request.META["wsgi.input"] if chunked else request).read(limit + 1)
        if len(body) > limit:
            reply = web.too_long(limit)
        else:
            answer = web.PATHS[request.path_info]
            reply = answer(engine, request.META.get("CONTENT_TYPE", ""), body, peer_of(request))
    # Without its length, said here because no middleware does, gunicorn would send it in pieces.
    headers = {**reply.headers, "Content-Length": str(len(reply.body))}
    return HttpResponse(reply.body, status=reply.status, content_type=reply.content_type, headers=headers)


#: Who may read how the server does; the numbers are of all namespaces, so it takes a role in the default one.
WATCHERS = frozenset({"administrator", "operator", "auditor"})


def metrics(request: HttpRequest) -> HttpResponse:
    """What Prometheus reads."""
    try:
        identity = authn.identify(peer_of(request))
        exposed = exposition.text() if _watches(identity) else None
    except KMIPError as exc:
        return HttpResponse(exc.message, status=401, content_type="text/plain")
    except DatabaseError:
        return HttpResponse("the database does not answer", status=503, content_type="text/plain")
    if exposed is None:
        return HttpResponse("this takes a role of the server", status=403, content_type="text/plain")
    return HttpResponse(exposed, content_type=exposition.CONTENT_TYPE)


def _watches(identity: Identity) -> bool:
    return any(policy.at_home(identity, role) for role in WATCHERS)


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
    """Whether a node does the jobs, and how each went; neither its name nor more than the kind of the last error,
    because anybody may read this."""
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
        return {"active": jobs.active_node() is not None, "jobs": rows}
    except DatabaseError:
        connection.close()
        return None


def _database_status() -> str:
    if watch.away:
        return "DOWN"
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError:
        connection.close()
        return "DOWN"
    return "UP"
