"""The authority over HTTP: revocation lists, OCSP and CA certificates for everybody; certificates for new clients.

What is decided about clients, `keystore.clients` decides."""

import base64
import binascii
import functools
from collections.abc import Callable
from typing import Any

import orjson
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST, require_safe

from keystore import authn, bundles, ca, clients, conf, policy
from keystore import handshakes as records
from keystore.crypto import x509_issuing as issuing
from keystore.models import Authority
from kmip.enums import ResultReason
from kmip.errors import KMIPError
from kmip_api.views import peer_of

View = Callable[..., HttpResponse]

STATUSES = {
    ResultReason.AUTHENTICATION_NOT_SUCCESSFUL: 401,
    ResultReason.PERMISSION_DENIED: 403,
    ResultReason.ITEM_NOT_FOUND: 404,
    ResultReason.OBJECT_NOT_FOUND: 404,
    ResultReason.GENERAL_FAILURE: 500,
}
MAX_OCSP = 4096
MAX_REQUEST = 65536


def answered(view: View) -> View:
    """A view whose `KMIPError`s become JSON with a status."""

    @functools.wraps(view)
    def wrapper(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            response = view(request, *args, **kwargs)
        except KMIPError as exc:
            body = {"error": str(exc.reason), "message": exc.message}
            return JsonResponse(body, status=STATUSES.get(exc.reason, 422))
        return response

    return wrapper


def private(view: View) -> View:
    """A view for machines and administrators: JSON or nothing in, so that no web page of others can send it."""

    @csrf_exempt
    @answered
    @functools.wraps(view)
    def wrapper(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if request.method == "POST" and request.content_type != "application/json":
            return HttpResponse("use application/json", status=415, content_type="text/plain")
        response = view(request, *args, **kwargs)
        response.headers["Cache-Control"] = "no-store"
        return response

    return wrapper


def _body(request: HttpRequest) -> dict[str, Any]:
    try:
        found = orjson.loads(request.body or b"{}")
    except ValueError as exc:
        raise KMIPError(ResultReason.INVALID_FIELD, "the body is not JSON") from exc
    if not isinstance(found, dict):
        raise KMIPError(ResultReason.INVALID_FIELD, "the body is a JSON object")
    return found


def _text(body: dict[str, Any], name: str, *, required: bool = False) -> str | None:
    value = body.get(name)
    if value is None and not required:
        return None
    if not isinstance(value, str) or not value:
        raise KMIPError(ResultReason.INVALID_FIELD, f"{name} is a text")
    return value


def _number(body: dict[str, Any], name: str) -> float | None:
    value = body.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or value <= 0):
        raise KMIPError(ResultReason.INVALID_FIELD, f"{name} is a number above 0")
    return value


# For everybody.


def _authority(name: str) -> Authority:
    found = ca.authority_at(name)
    if found is None:
        raise KMIPError(ResultReason.ITEM_NOT_FOUND, "there is no such authority")
    return found


def _wants_pem(request: HttpRequest) -> bool:
    return request.GET.get("format") == "pem" or "pem" in request.headers.get("Accept", "")


def _cached(request: HttpRequest, content: bytes, content_type: str, seconds: int) -> HttpResponse:
    response = HttpResponse(content, content_type=content_type)
    response.headers["Cache-Control"] = f"public, max-age={max(0, seconds)}"
    return response


@require_safe
@answered
def crl(request: HttpRequest, issuer: str) -> HttpResponse:
    """An authority's revocation list, in DER or with `?format=pem` in PEM."""
    content = ca.revocation_list(_authority(issuer))
    if _wants_pem(request):
        content = x509.load_der_x509_crl(content).public_bytes(Encoding.PEM)
        return _cached(request, content, "application/x-pem-file", 60)
    return _cached(request, content, "application/pkix-crl", 60)


@require_safe
@answered
def certificate(request: HttpRequest, issuer: str) -> HttpResponse:
    """An authority's own certificate, in DER or with `?format=pem` in PEM."""
    content = bytes(_authority(issuer).certificate)
    if _wants_pem(request):
        return _cached(request, issuing.pem([content]), "application/x-pem-file", 3600)
    return _cached(request, content, "application/pkix-cert", 3600)


@csrf_exempt
@answered
def ocsp(request: HttpRequest, issuer: str, question: str = "") -> HttpResponse:
    """An OCSP answer: the question in the body of a POST, or in base64 in the path of a GET (RFC 6960, A.1)."""
    if request.method == "POST":
        data = request.read(MAX_OCSP + 1)
    elif request.method == "GET":
        try:
            data = base64.b64decode(question.replace("-", "+").replace("_", "/"), validate=True)
        except (binascii.Error, ValueError):
            data = b""
    else:
        return HttpResponse(status=405, headers={"Allow": "GET, POST"})
    answer, seconds = ca.ocsp_answer(_authority(issuer), data if len(data) <= MAX_OCSP else b"")
    if not seconds:
        response = HttpResponse(answer, content_type="application/ocsp-response")
        response.headers["Cache-Control"] = "no-store"
        return response
    return _cached(request, answer, "application/ocsp-response", seconds)


# Clients.


def _request_of(body: dict[str, Any]) -> bytes | None:
    """The certificate request of a body: PEM, or base64 of DER."""
    given = _text(body, "csr")
    if given is None:
        return None
    if len(given) > MAX_REQUEST:
        raise KMIPError(ResultReason.INVALID_CSR, "the certificate request is too long")
    if "-----BEGIN" in given:
        return given.encode()
    try:
        return base64.b64decode(given, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise KMIPError(ResultReason.INVALID_CSR, "csr is PEM, or DER in base64") from exc


@private
def all_clients(request: HttpRequest) -> HttpResponse:
    """GET: the certificates of clients. POST: a new one, for a request or with a key that is made here."""
    if request.method == "POST":
        return _add(request)
    if request.method != "GET":
        return HttpResponse(status=405, headers={"Allow": "GET, POST"})
    clients.administrator(peer_of(request))
    rows = ca.issued(clients.authority())
    return JsonResponse(
        [
            {
                "fingerprint": row.fingerprint,
                "unique_identifier": row.uid,
                "subject": row.subject,
                "not_after": row.not_after,
                "revoked": row.revoked,
            }
            for row in rows
        ],
        safe=False,
    )


def _add(request: HttpRequest) -> HttpResponse:
    body = _body(request)
    product = bundles.product(_text(body, "product") or "generic")
    name = _text(body, "name", required=True)
    assert name is not None
    days, csr, key = _number(body, "days"), _request_of(body), None
    if csr is None:
        key, csr = clients.new_request(name, _text(body, "key") or product.key)
    made = clients.enrol(peer_of(request), name, csr, days=int(days) if days is not None else None)
    material = bundles.material(conf.current(), made, key, host=_text(body, "host"))
    if request.headers.get("Accept") == "application/zip":
        files = bundles.make(_text(body, "product") or "generic", material)
        response = HttpResponse(bundles.archive(files), status=201, content_type="application/zip")
        response.headers["Content-Disposition"] = 'attachment; filename="client.zip"'
        return response
    if key is None:
        return JsonResponse(bundles.describe(made), status=201)
    return JsonResponse(
        {
            **bundles.describe(made),
            "private_key": material.key().decode(),
            "ca": material.server_ca.decode(),
            "pkcs12": base64.b64encode(material.pkcs12()).decode(),
            "pkcs12_password": material.password,
        },
        status=201,
    )


@private
@require_POST
def tokens(request: HttpRequest) -> HttpResponse:
    """A one-time registration token for a name; it is shown this once."""
    body = _body(request)
    name = _text(body, "name", required=True)
    assert name is not None
    token, expires = clients.new_token(peer_of(request), name, _number(body, "hours"))
    return JsonResponse(
        {"token": token, "name": name, "expires": expires.isoformat().replace("+00:00", "Z")}, status=201
    )


@private
@require_POST
def register(request: HttpRequest) -> HttpResponse:
    """A new client with a token and its certificate request; the token is all the proof that it needs."""
    body = _body(request)
    token, csr = _text(body, "token", required=True), _request_of(body)
    if token is None or csr is None:
        raise KMIPError(ResultReason.INVALID_FIELD, "token and csr are needed")
    return JsonResponse(bundles.describe(clients.redeem(token, csr, peer_of(request).address)), status=201)


@private
@require_POST
def renew(request: HttpRequest) -> HttpResponse:
    """A new certificate for the client whose certificate opened the connection."""
    return JsonResponse(bundles.describe(clients.renew(peer_of(request), _request_of(_body(request)))), status=201)


@private
@require_POST
def revoke(request: HttpRequest, name: str) -> HttpResponse:
    """Revoke a client's certificate by fingerprint, or all of a client's by name."""
    found = clients.revoke(peer_of(request), name, superseded=_body(request).get("reason") == "superseded")
    return JsonResponse({"revoked": [row.fingerprint for row in found]})


@private
@require_GET
def waiting(request: HttpRequest) -> HttpResponse:
    """The certificates of unknown issuers that wait for a decision."""
    clients.administrator(peer_of(request))
    return JsonResponse(
        [
            {
                "fingerprint": row.fingerprint,
                "subject": row.subject,
                "issuer": row.issuer,
                "address": row.address,
                "not_after": row.not_after,
                "first_seen": row.first_seen,
                "last_seen": row.last_seen,
                "attempts": row.attempts,
            }
            for row in clients.waiting()
        ],
        safe=False,
    )


@private
@require_POST
def decide(request: HttpRequest, fingerprint: str) -> HttpResponse:
    """Accept or refuse a waiting certificate: `{"accept": true, "name": "vcenter"}`."""
    body = _body(request)
    accept = body.get("accept")
    if not isinstance(accept, bool):
        raise KMIPError(ResultReason.INVALID_FIELD, "accept is true or false")
    row = clients.decide(peer_of(request), fingerprint, accept=accept, name=_text(body, "name"))
    return JsonResponse({"fingerprint": row.fingerprint, "decision": row.decision})


@private
@require_GET
def handshakes(request: HttpRequest) -> HttpResponse:
    """The last handshakes, `?listener=kmip&refused=1&limit=100`; for administrators and auditors."""
    identity = authn.identify(peer_of(request))
    if not policy.at_home(identity, "auditor"):
        clients.administrator(peer_of(request))
    limit = request.GET.get("limit", "100")
    if not limit.isdecimal() or not 0 < int(limit) <= 1000:
        raise KMIPError(ResultReason.INVALID_FIELD, "limit is 1 to 1000")
    listener, refused = request.GET.get("listener", ""), bool(request.GET.get("refused"))
    rows = records.records(int(limit), listener=listener, refused=refused)
    return JsonResponse([records.shown(row) for row in rows], safe=False)
