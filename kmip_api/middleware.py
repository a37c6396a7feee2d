"""What is decided before any view: which paths are for machines, and what a page may load."""

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase

from keystore import engine, sealing, web
from kmip_api import views

Handler = Callable[[HttpRequest], HttpResponseBase]

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)


#: What a sealed server answers: whether it is alive.
SEALED_PATHS = frozenset({"/health"})


def sealed_first(get_response: Handler) -> Handler:
    """While the server waits for its root key, refuse everything but the question how it is."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        if sealing.is_sealed() and request.path_info not in SEALED_PATHS:
            return HttpResponse(engine.SEALED, status=503, content_type="text/plain", headers={"Retry-After": "30"})
        return get_response(request)

    return middleware


def machine_paths_first(get_response: Handler) -> Handler:
    """Answer the KMIP paths without the middleware that follows: sessions, CSRF tokens, languages and messages are for
    people, and cost more than a KMIP request."""
    checks_host = "*" not in settings.ALLOWED_HOSTS

    def middleware(request: HttpRequest) -> HttpResponseBase:
        if request.path_info not in web.PATHS:
            return get_response(request)
        if checks_host:
            request.get_host()  # Raises for names that are not ours: a web page must not reach loopback by its own.
        return views.kmip(request)

    return middleware


def content_security_policy(get_response: Handler) -> Handler:
    """Let pages load only what this server sends."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        if isinstance(response, HttpResponse):
            response.headers.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)
        return response

    return middleware
