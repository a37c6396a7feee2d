"""Logging in at an OpenID provider: the way there and back. Imported where a provider is configured and asked for."""

import functools
import logging
from typing import Any

import requests
from authlib.integrations.base_client import OAuthError
from authlib.integrations.django_client import OAuth
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.translation import gettext
from joserfc.errors import JoseError

from keystore import audit, conf
from keystore.authn import Peer, people, tokens
from keystore.proxies import client_address
from kmip.errors import KMIPError
from ui.login import let_in, refused

#: Seconds for each answer of the provider.
TIMEOUT = 5
#: What a provider that is away, or answers nonsense, makes of a login.
FAILURES = (OAuthError, JoseError, requests.RequestException, ValueError, KeyError, RuntimeError)

logger = logging.getLogger(__name__)


@functools.lru_cache(maxsize=1)
def _provider(issuer: str, client_id: str, client_secret: str) -> Any:
    """The OpenID provider, with what it publishes of itself. Raises `ValueError` where it is another one."""
    app = OAuth().register(
        "provider",
        client_id=client_id,
        client_secret=client_secret,
        server_metadata_url=issuer.rstrip("/") + "/.well-known/openid-configuration",
        client_kwargs={"scope": "openid profile email", "code_challenge_method": "S256", "default_timeout": TIMEOUT},
    )
    told = app.load_server_metadata().get("issuer")
    if told != issuer:
        raise ValueError(f"the OpenID provider says that it is {told}")
    return app


def _configured() -> Any:
    auth = conf.current().auth
    return _provider(auth.oidc_issuer or "", auth.oidc_client_id or "", auth.oidc_client_secret or "")


def away(request: HttpRequest) -> HttpResponse:
    """Send the browser to the provider, with state, nonce and a challenge (RFC 7636)."""
    here = reverse("ui:from_provider")
    base = conf.current().pki.url
    target = base.rstrip("/") + here if base else request.build_absolute_uri(here)
    try:
        answer: HttpResponse = _configured().authorize_redirect(request, target)
    except FAILURES as exc:
        return _failed(request, exc)
    return answer


def back(request: HttpRequest) -> HttpResponse:
    """Take the code that the browser brings back, fetch the token for it, and let its user in."""
    peer = Peer("ui", client_address(request.META))
    try:
        told = _configured().authorize_access_token(request)
        claims = tokens.asymmetric(told["id_token"], told["userinfo"])
    except FAILURES as exc:
        audit.note(None, peer, people.LOGIN, detail="OpenID", reason="AuthenticationNotSuccessful")
        return _failed(request, exc)
    try:
        person = people.by_openid(peer, conf.current().auth.oidc_issuer or "", claims)
    except KMIPError as exc:
        return refused(request, exc.message)
    return let_in(request, person, "openid")


def _failed(request: HttpRequest, exc: Exception) -> HttpResponse:
    logger.warning("OpenID login failed: %s: %s", type(exc).__name__, exc)
    return refused(request, gettext("The login at the OpenID provider has failed."))
