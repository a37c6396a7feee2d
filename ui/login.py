"""The ways into the console: password and second factor, client certificate, OpenID; and what ends a session.

What passes between this server and an OpenID provider is in `openid`.
"""

from collections.abc import Callable
from hashlib import sha256
from importlib import import_module
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.auth import SESSION_KEY
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

from keystore import audit, authn, conf, sessions
from keystore.authn import Peer, accounts, people, totp
from keystore.proxies import client_address
from kmip.errors import KMIPError

#: In the session: the certificate that it belongs to, and whether a second factor has yet to be set up.
CERTIFICATE, LACKS_FACTOR = "kms_certificate", "kms_lacks_factor"
#: How people prove who they are.
WAYS = {
    "password": _("password"),
    "code": _("password and code"),
    "certificate": _("client certificate"),
    "openid": "OpenID",
}
BACKEND = "django.contrib.auth.backends.ModelBackend"


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


def by_its_certificate(request: HttpRequest) -> bool:
    """Whether a session began with the certificate that its connection has (`holds`)."""
    return CERTIFICATE in request.session


def can_prove(request: HttpRequest) -> bool:
    """Whether the person can prove here, without logging in anew, who they are."""
    return by_its_certificate(request) or bool(request.user.has_usable_password())


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
            has_factor = totp.has(accounts.of_person(person.get_username()))
            _begin_anew(self.request, "code" if has_factor else "password")
            if not has_factor:
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


def _begin_anew(request: HttpRequest, way: str) -> None:
    """End the session of whoever is logged in already, and note how the new one begins: in one of `WAYS`.

    Django ends it only for another person, and then with what the session that begins was told already."""
    if SESSION_KEY in request.session:
        request.session.flush()
    browser = request.headers.get("User-Agent", "")
    sessions.begin(request.session, address=client_address(request.META), way=way, browser=browser)


def let_in(request: HttpRequest, person: User, way: str) -> HttpResponse:
    """Begin a session for somebody who has proven to be it in one of `WAYS`."""
    _begin_anew(request, way)
    begin_session(request, person, backend=BACKEND)
    return HttpResponseRedirect(reverse("ui:index"))


def refused(request: HttpRequest, why: str) -> HttpResponse:
    """Back to the log-in, which says why nobody was let in."""
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
        return refused(request, exc.message)
    answer = let_in(request, person, "certificate")
    assert peer.certificate is not None
    request.session[CERTIFICATE] = sha256(peer.certificate).hexdigest()
    return answer


@never_cache
@require_GET
def to_provider(request: HttpRequest) -> HttpResponse:
    """Send the browser to the OpenID provider."""
    return _at_provider("away", request)


@never_cache
@require_GET
def from_provider(request: HttpRequest) -> HttpResponse:
    """Let in whom the provider has sent back."""
    return _at_provider("back", request)


def _at_provider(step: str, request: HttpRequest) -> HttpResponse:
    """A step of `openid`, whose libraries few servers need: no process loads them before."""
    if not conf.current().auth.oidc_issuer:
        return refused(request, gettext("No OpenID provider is configured."))
    taken: Callable[[HttpRequest], HttpResponse] = getattr(import_module("ui.openid"), step)
    return taken(request)


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
