"""The ways into the console: password and second factor, client certificate, OpenID; and what ends a session."""

import functools
import logging
from hashlib import sha256
from typing import Any

import requests
from authlib.integrations.base_client import OAuthError
from authlib.integrations.django_client import OAuth
from django import forms
from django.contrib import messages
from django.contrib.auth import login as begin_session
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST
from joserfc.errors import JoseError

from keystore import audit, authn, conf
from keystore.authn import Peer, accounts, people, tokens, totp
from keystore.proxies import client_address
from kmip.errors import KMIPError

#: In the session: the certificate that it belongs to, and whether a second factor has yet to be set up.
CERTIFICATE, LACKS_FACTOR = "kms_certificate", "kms_lacks_factor"
BACKEND = "django.contrib.auth.backends.ModelBackend"
TIMEOUT = 5

logger = logging.getLogger(__name__)


def peer_of(request: HttpRequest) -> Peer:
    """The person behind a request; one who came with a certificate is who that says, as long as it counts."""
    address = client_address(request.META)
    if CERTIFICATE in request.session:
        return _shown(request)
    return Peer("ui", address, user=request.user.get_username())


def _shown(request: HttpRequest) -> Peer:
    """Whoever the connection's certificate belongs to."""
    meta = request.META
    chain = meta.get("kms.peer_chain", ())
    return Peer("ui", client_address(meta), meta.get("kms.peer_certificate"), chain=chain)


def holds(request: HttpRequest) -> bool:
    """Whether a session that began with a certificate comes over a connection with the same one."""
    fingerprint = request.session.get(CERTIFICATE)
    presented = request.META.get("kms.peer_certificate")
    return fingerprint is None or (presented is not None and sha256(presented).hexdigest() == fingerprint)


def lacks_factor(request: HttpRequest) -> bool:
    """Whether the person has yet to set up the second factor that the settings require."""
    return LACKS_FACTOR in request.session and conf.current().auth.second_factor == "required"


class LoginForm(AuthenticationForm):
    """Name, password, and the code of who has set up a second factor."""

    code = forms.CharField(
        label=_("Code"),
        required=False,
        max_length=12,
        help_text=_("Of your authenticator app, if you have set one up."),
        widget=forms.TextInput(attrs={"autocomplete": "one-time-code", "inputmode": "numeric"}),
    )

    def clean(self) -> dict[str, Any]:
        given = self.cleaned_data
        if given.get("username") and given.get("password"):
            assert self.request is not None
            peer = Peer("ui", client_address(self.request.META))
            try:
                person = people.by_password(peer, given["username"], given["password"], given.get("code", ""))
            except KMIPError as exc:
                raise ValidationError(gettext(exc.message), code="invalid_login") from exc
            if not totp.has(accounts.of_person(person.get_username())):
                # The session is the one that begins now: Django keeps what is in it when somebody logs in.
                self.request.session[LACKS_FACTOR] = True
            self.user_cache = person
        return given


def ways(request: HttpRequest) -> dict[str, Any]:
    """What the login page offers besides the form."""
    return {"title": gettext("Log in"), "openid": conf.current().auth.oidc_issuer, "certificate": _name_shown(request)}


def _name_shown(request: HttpRequest) -> str:
    """The user that the connection's certificate names; empty where it names none that is let in."""
    peer = _shown(request)
    if peer.certificate is None:
        return ""
    try:
        return authn.identify(peer).username
    except KMIPError:
        return ""


def _let_in(request: HttpRequest, person: User) -> HttpResponse:
    begin_session(request, person, backend=BACKEND)
    return HttpResponseRedirect(reverse("ui:index"))


def _refused(request: HttpRequest, why: str) -> HttpResponse:
    messages.error(request, why)
    return HttpResponseRedirect(reverse("ui:login"))


@never_cache
@require_POST
def by_certificate(request: HttpRequest) -> HttpResponse:
    """Begin a session for whom the connection's certificate names."""
    peer = _shown(request)
    try:
        person = people.by_certificate(peer)
    except KMIPError as exc:
        return _refused(request, exc.message)
    answer = _let_in(request, person)
    assert peer.certificate is not None
    request.session[CERTIFICATE] = sha256(peer.certificate).hexdigest()
    return answer


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


#: What a provider that is away, or answers nonsense, makes of a login.
FAILURES = (OAuthError, JoseError, requests.RequestException, ValueError, KeyError, RuntimeError)


@never_cache
@require_GET
def to_provider(request: HttpRequest) -> HttpResponse:
    """Send the browser to the OpenID provider, with state, nonce and a challenge (RFC 7636)."""
    if not conf.current().auth.oidc_issuer:
        return _refused(request, gettext("No OpenID provider is configured."))
    back = reverse("ui:from_provider")
    base = conf.current().pki.url
    target = base.rstrip("/") + back if base else request.build_absolute_uri(back)
    try:
        answer: HttpResponse = _configured().authorize_redirect(request, target)
    except FAILURES as exc:
        return _failed(request, exc)
    return answer


@never_cache
@require_GET
def from_provider(request: HttpRequest) -> HttpResponse:
    """Take the code that the browser brings back, fetch the token for it, and let its user in."""
    if not conf.current().auth.oidc_issuer:
        return _refused(request, gettext("No OpenID provider is configured."))
    peer = Peer("ui", client_address(request.META))
    try:
        app = _configured()
        told = app.authorize_access_token(request)
        claims = tokens.asymmetric(told["id_token"], told["userinfo"])
    except FAILURES as exc:
        audit.note(None, peer, people.LOGIN, detail="OpenID", reason="AuthenticationNotSuccessful")
        return _failed(request, exc)
    try:
        person = people.by_openid(peer, conf.current().auth.oidc_issuer or "", claims)
    except KMIPError as exc:
        return _refused(request, exc.message)
    return _let_in(request, person)


def _failed(request: HttpRequest, exc: Exception) -> HttpResponse:
    logger.warning("OpenID login failed: %s: %s", type(exc).__name__, exc)
    return _refused(request, gettext("The login at the OpenID provider has failed."))


def note_logout(request: HttpRequest) -> None:
    """Record that somebody leaves."""
    try:
        peer = peer_of(request)
        audit.note(authn.identify(peer), peer, "Log Out")
    except KMIPError:
        return  # Nobody whom the key store knows.


def note_password(request: HttpRequest) -> None:
    """Record that somebody has a new password."""
    peer = peer_of(request)
    audit.note(authn.identify(peer), peer, "Change Password")


def routes() -> list[URLPattern]:
    """The paths of the ways in."""
    return [
        path("login/certificate/", by_certificate, name="by_certificate"),
        path("login/openid/", to_provider, name="to_provider"),
        path("login/openid/done/", from_provider, name="from_provider"),
    ]
