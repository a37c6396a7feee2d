"""The access API: who may do what, as HTTP and JSON. What it decides, `keystore.access` decides.

Each path is one row of `ENDPOINTS`, from which the URLs, the checks of bodies and the OpenAPI document are made."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import orjson
from django.db import DatabaseError
from rest_framework.exceptions import ParseError, UnsupportedMediaType
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from keystore import access, administration, audit, authn, conf, supervisor
from keystore.authn import Identity, Peer
from keystore.models import ApiToken
from keystore.sealing import SealingError
from keystore.version import VERSION
from kmip.enums import Operation, ResultReason
from kmip.errors import KMIPError
from kmip_api.views import peer_of

log = logging.getLogger(__name__)

TEXT: Final = {"type": "string"}
TIME: Final = {"type": "integer", "description": "seconds since 1970"}
OPERATIONS: Final = {"type": "array", "items": TEXT, "description": "operations in lower snake case"}
_GRANT: Final = {
    "type": "object",
    "properties": {
        "unique_identifier": TEXT,
        "user_id": {"type": "string", "description": "a user, or * for everybody"},
        "group_id": {"type": "string", "description": "a group, instead of a user"},
        "operation_types": {**OPERATIONS, "minItems": 1},
        "expires": TIME,
    },
    "required": ["unique_identifier", "operation_types"],
}
_SUCCESS: Final = {"type": "object", "properties": {"success": TEXT}, "required": ["success"]}
_TOKEN: Final = {
    "type": "object",
    "properties": {
        "id": TEXT,
        "name": TEXT,
        "scopes": {"type": "array", "items": TEXT},
        "created": TIME,
        "expires": {"type": ["integer", "null"]},
        "last_used": {"type": ["integer", "null"]},
    },
    "required": ["id", "name", "scopes", "created", "expires"],
}
ERROR: Final = {
    "type": "object",
    "properties": {"error": TEXT, "message": TEXT},
    "required": ["error", "message"],
}


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _list(item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": item}


_STATUSES: Final = {
    ResultReason.AUTHENTICATION_NOT_SUCCESSFUL: 401,
    ResultReason.INVALID_TICKET: 401,
    ResultReason.PERMISSION_DENIED: 403,
    ResultReason.GENERAL_FAILURE: 500,
    ResultReason.INTERNAL_SERVER_ERROR: 500,
}


def status_of(reason: ResultReason) -> int:
    """The HTTP status of a failure; whatever is not a matter of rights or our fault is the request's."""
    return _STATUSES.get(reason, 422)


Answer = Callable[[Peer, Identity, dict[str, Any]], Any]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One method of one path. `given` are the members of the body, the query and the path together."""

    path: str
    method: str
    #: What the audit calls it. Changes write their records themselves.
    record: str
    summary: str
    answer: Answer
    response: dict[str, Any]
    body: dict[str, Any] | None = None
    query: tuple[str, ...] = ()
    status: int = 200


def _grant(peer: Peer, identity: Identity, given: dict[str, Any]) -> Any:
    to = access.principal(given.get("user_id"), given.get("group_id"))
    operations = access.operations_named(given["operation_types"])
    access.grant(peer, identity, given["unique_identifier"], to, operations, expires=given.get("expires"))
    return {"success": f"Access for {access.shown(to)} successfully added"}


def _revoke(peer: Peer, identity: Identity, given: dict[str, Any]) -> Any:
    to = access.principal(given.get("user_id"), given.get("group_id"))
    access.revoke(peer, identity, given["unique_identifier"], to, access.operations_named(given["operation_types"]))
    return {"success": f"Access for {access.shown(to)} successfully deleted"}


def _number(given: dict[str, Any], name: str) -> int | None:
    text = given.get(name)
    if text is None:
        return None
    if not str(text).isdigit():
        raise KMIPError(ResultReason.INVALID_FIELD, f"{name} is a number")
    return int(text)


def _owned(peer: Peer, identity: Identity, given: dict[str, Any]) -> Any:
    return list(access.owned(identity, after=_number(given, "after"), limit=_number(given, "limit")))


def _tokens(peer: Peer, identity: Identity, given: dict[str, Any]) -> Any:
    found = ApiToken.objects.filter(
        account__namespace_id=identity.namespace, account__username=identity.username, revoked__isnull=True
    )
    shown = ("id", "name", "scopes", "created", "expires", "last_used")
    return list(found.order_by("created", "id").values(*shown))


def _new_token(peer: Peer, identity: Identity, given: dict[str, Any]) -> Any:
    number, token = administration.issue_own_token(
        peer, identity, given["name"], scopes=given.get("scopes") or [], expires=given.get("expires")
    )
    return {"id": number, "token": token}


def _end_token(peer: Peer, identity: Identity, given: dict[str, Any]) -> Any:
    administration.revoke_own_token(peer, identity, given["id"])
    return {"success": f"Token {given['id']} successfully revoked"}


def _server_info(peer: Peer, identity: Identity, given: dict[str, Any]) -> Any:
    config = conf.current()
    listeners = [
        {"name": key.partition(".")[0], "host": host, "port": port, "tls": conf.has_tls(config)}
        for key, (host, port) in supervisor.addresses().items()
    ]
    return {"version": VERSION, "vendor": config.server.vendor_identification, "listeners": listeners}


ENDPOINTS: Final = (
    Endpoint(
        "access/owned",
        "GET",
        "List Owned",
        "Your objects, newest first",
        _owned,
        _list(_object(object_id=TEXT, state=TEXT, attributes={"type": "object"})),
        query=("limit", "after"),
    ),
    Endpoint(
        "access/obtained",
        "GET",
        "List Obtained",
        "Objects of others on which you have rights",
        lambda peer, identity, given: list(access.obtained(identity)),
        _list(_object(object_id=TEXT, owner_id=TEXT, state=TEXT, operations=OPERATIONS)),
    ),
    Endpoint(
        "access/list/{object_id}",
        "GET",
        "List Access",
        "Who has rights on an object of yours",
        lambda peer, identity, given: access.listed(identity, given["object_id"]),
        _list(
            {
                "type": "object",
                "properties": {"user_id": TEXT, "operations": OPERATIONS, "expires": TIME},
                "required": ["user_id", "operations"],
            }
        ),
    ),
    Endpoint("access/grant", "POST", "Grant Access", "Give rights on an object of yours", _grant, _SUCCESS, _GRANT),
    Endpoint("access/revoke", "POST", "Revoke Access", "Take rights on an object of yours", _revoke, _SUCCESS, _GRANT),
    Endpoint(
        "access/create",
        "GET",
        "Ask Rights",
        "Whether you may create objects",
        lambda peer, identity, given: {"has_create_permission": bool(identity.operations >> Operation.CREATE & 1)},
        _object(has_create_permission={"type": "boolean"}),
    ),
    Endpoint(
        "access/privileged",
        "GET",
        "Ask Rights",
        "Whether you administer your namespace",
        lambda peer, identity, given: {"has_privileged_access": identity.administers},
        _object(has_privileged_access={"type": "boolean"}),
    ),
    Endpoint("access/tokens", "GET", "List Tokens", "Your API tokens", _tokens, _list(_TOKEN)),
    Endpoint(
        "access/tokens",
        "POST",
        "Create Token",
        "Make an API token, which is shown this once",
        _new_token,
        _object(id=TEXT, token=TEXT),
        {
            "type": "object",
            "properties": {"name": TEXT, "scopes": _list(TEXT), "expires": TIME},
            "required": ["name"],
        },
        status=201,
    ),
    Endpoint("access/tokens/{id}", "DELETE", "Revoke Token", "Revoke an API token of yours", _end_token, _SUCCESS),
    Endpoint(
        "me",
        "GET",
        "Ask Identity",
        "Who you are",
        lambda peer, identity, given: {"user": identity.username},
        _object(user=TEXT),
    ),
    Endpoint(
        "server-info",
        "GET",
        "Ask Server",
        "The server's version and listeners",
        _server_info,
        _object(version=TEXT, vendor=TEXT, listeners=_list({"type": "object"})),
    ),
)

_TYPES: Final[dict[str, type[Any]]] = {"string": str, "integer": int, "array": list, "object": dict, "boolean": bool}


def check(schema: dict[str, Any], value: Any, name: str) -> None:
    """Raise `KMIPError` where a body is not as its schema says."""
    named = schema["type"]
    kind = _TYPES[named if isinstance(named, str) else named[0]]  # Of what may be null, members that are are left out.
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise KMIPError(ResultReason.INVALID_FIELD, f"{name} is not of type {schema['type']}")
    if kind is list:
        if len(value) < schema.get("minItems", 0):
            raise KMIPError(ResultReason.INVALID_FIELD, f"{name} is empty")
        for one in value:
            check(schema["items"], one, f"an entry of {name}")
    if kind is dict:
        for required in schema.get("required", ()):
            if required not in value:
                raise KMIPError(ResultReason.MISSING_DATA, f"{required} is missing")
        for key, inner in schema.get("properties", {}).items():
            if value.get(key) is not None:
                check(inner, value[key], key)


class BoundedJSON(BaseParser):
    """JSON by a parser that ends at a depth instead of at the end of the stack."""

    media_type = "application/json"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        try:
            return orjson.loads(stream.read())
        except orjson.JSONDecodeError as exc:
            raise ParseError("the body is not JSON") from exc


class AccessView(APIView):
    """Every path of the access API; which, its endpoints say."""

    endpoints: dict[str, Endpoint] = {}
    parser_classes = [BoundedJSON]

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Nothing of the REST framework's own: `authn` says who asks."""

    def get(self, request: Request, **parts: str) -> Response:
        return self._answer(request, parts)

    def post(self, request: Request, **parts: str) -> Response:
        return self._answer(request, parts)

    def delete(self, request: Request, **parts: str) -> Response:
        return self._answer(request, parts)

    def _answer(self, request: Request, parts: dict[str, str]) -> Response:
        endpoint = self.endpoints[request.method or ""]
        began = time.time_ns()
        try:
            peer = peer_of(request._request)
            try:
                identity = authn.identify(peer)
            except KMIPError as exc:
                _record(endpoint, peer, None, {}, began, exc)
                raise
            given = self._given(endpoint, request) | parts
            if endpoint.method == "GET":
                answer = _read(endpoint, peer, identity, given, began)
            else:
                answer = endpoint.answer(peer, identity, given)
            return Response(answer, status=endpoint.status)
        except KMIPError as exc:
            return failure(exc.reason, exc.message)
        except (DatabaseError, SealingError):
            log.exception("%s %s failed", endpoint.method, endpoint.path)
            return failure(ResultReason.GENERAL_FAILURE, "the server could not carry out the request")

    def _given(self, endpoint: Endpoint, request: Request) -> dict[str, Any]:
        """The members of the query and of the body."""
        given: dict[str, Any] = {
            name: request.query_params[name] for name in endpoint.query if name in request.query_params
        }
        if endpoint.body is None:
            return given
        try:
            body = request.data
        except (ParseError, UnsupportedMediaType) as exc:
            raise KMIPError(ResultReason.INVALID_MESSAGE, "the body is not JSON") from exc
        check(endpoint.body, body, "the body")
        return given | dict(body)


def _read(endpoint: Endpoint, peer: Peer, identity: Identity, given: dict[str, Any], began: int) -> Any:
    """What a path that changes nothing answers, with the record of it."""
    audit.writer.check()
    error: KMIPError | None = None
    try:
        return endpoint.answer(peer, identity, given)
    except KMIPError as exc:
        error = exc
        raise
    finally:
        _record(endpoint, peer, identity, given, began, error)


def _record(
    endpoint: Endpoint,
    peer: Peer,
    identity: Identity | None,
    given: dict[str, Any],
    began: int,
    error: KMIPError | None,
) -> None:
    one = audit.entry(
        identity,
        peer,
        protocol="",
        operation=endpoint.record,
        uid=given.get("object_id", ""),
        result="Success" if error is None else "Failure",
        reason="" if error is None else str(error.reason),
        since=began,
    )
    audit.writer.add([one])


def failure(reason: ResultReason, message: str) -> Response:
    """The answer to a request that fails."""
    status = status_of(reason)
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    name = reason.name.title()
    return Response({"error": name, "message": message}, status=status, headers=headers)


def paths() -> dict[str, dict[str, Endpoint]]:
    """The endpoints of each path, by method."""
    found: dict[str, dict[str, Endpoint]] = {}
    for endpoint in ENDPOINTS:
        found.setdefault(endpoint.path, {})[endpoint.method] = endpoint
    return found


def openapi() -> dict[str, Any]:
    """The description of the access API, as OpenAPI 3.1."""
    described: dict[str, Any] = {}
    for path, endpoints in paths().items():
        parts = [part[1:-1] for part in path.split("/") if part.startswith("{")]
        entry = described["/" + path] = {}
        for method, endpoint in endpoints.items():
            parameters = [{"name": part, "in": "path", "required": True, "schema": TEXT} for part in parts]
            parameters += [{"name": name, "in": "query", "schema": {"type": "integer"}} for name in endpoint.query]
            content = {"application/json": {"schema": endpoint.response}}
            operation: dict[str, Any] = {
                "summary": endpoint.summary,
                "operationId": f"{method.lower()}_{path.replace('/', '_').replace('{', '').replace('}', '')}",
                "responses": {
                    str(endpoint.status): {"description": "done", "content": content},
                    "default": {"description": "refused", "content": {"application/json": {"schema": ERROR}}},
                },
            }
            if parameters:
                operation["parameters"] = parameters
            if endpoint.body is not None:
                operation["requestBody"] = {
                    "required": True,
                    "content": {"application/json": {"schema": endpoint.body}},
                }
            entry[method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "KMS access API", "version": VERSION},
        "security": [{"certificate": []}, {"bearer": []}],
        "paths": described,
        "components": {
            "securitySchemes": {
                "certificate": {"type": "mutualTLS"},
                "bearer": {"type": "http", "scheme": "bearer"},
            }
        },
    }


class OpenApi(APIView):
    """The description of the access API, for everybody."""

    def get(self, request: Request) -> Response:
        return Response(openapi())
