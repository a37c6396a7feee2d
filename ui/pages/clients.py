"""Clients: get one on board, see it connect or why it did not, and decide about those that are unknown."""

import time
from typing import Any, NamedTuple

from cryptography import x509
from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.text import get_valid_filename
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_POST

from keystore import administration, bundles, ca, clients, conf, handshakes
from keystore.authn import accounts
from keystore.clients import Enrolled
from keystore.models import ClientCertificate, HandshakeRecord
from keystore.sealing import SealingError
from kmip.errors import KMIPError
from ui import certificate, describe, held, session
from ui.objects import address_of
from ui.pages import Route
from ui.site import site

PAGE = 50
#: Refused handshakes that are shown beside a client that has not connected yet.
REFUSED = 5
MAX_REQUEST = 65_536


def operators(request: HttpRequest) -> None:
    """Raise `PermissionDenied` for those who do not decide whom the listeners let in."""
    if not session.operates(request):
        raise PermissionDenied


# The list.


class Row(NamedTuple):
    """One certificate of a client."""

    certificate: ClientCertificate
    ends: str
    seen: str
    status: str
    well: bool


def _status(certificate: ClientCertificate, revoked: bool, now: int) -> tuple[str, bool]:
    if revoked:
        return gettext("revoked"), False
    if certificate.disabled:
        return gettext("disabled"), False
    if certificate.not_after < now:
        return gettext("expired"), False
    return (gettext("pinned") if certificate.pinned else gettext("valid")), True


def listed(request: HttpRequest) -> HttpResponse:
    """The certificates of clients by name, those that wait, and those that were refused."""
    operators(request)
    beginning, now = request.GET.get("q", "").strip(), int(time.time())
    after = tuple(request.GET.getlist("after"))
    found = clients.known(beginning, after if len(after) == 3 else None, PAGE + 1)
    revoked = ca.revoked_among(one.fingerprint for one in found)
    rows = [
        Row(
            one,
            describe.moment(one.not_after),
            describe.moment(one.last_seen) if one.last_seen else "",
            *_status(one, one.fingerprint in revoked, now),
        )
        for one in found[:PAGE]
    ]
    last = found[PAGE - 1] if len(found) > PAGE else None
    context = {
        "title": gettext("Clients"),
        "section": "clients",
        "rows": rows,
        "q": beginning,
        "after": last and (last.account.namespace_id, last.account.username, last.fingerprint),
        "first": bool(after),
        "home": session.identity(request).namespace,
        "waiting": [(one, describe.moment(one.last_seen)) for one in clients.waiting()],
        "handshakes": handshakes.records(REFUSED, refused=True),
    }
    return site.page(request, "ui/clients.html", context)


# A new client.


class AddForm(forms.Form):
    """A new client: who it is, what it runs, and how it finds this server."""

    name = forms.CharField(
        label=_("Name"), max_length=64, help_text=_("The common name of its certificate, which is its user name.")
    )
    product = forms.ChoiceField(
        label=_("Product"), choices=[(name, product.title) for name, product in bundles.PRODUCTS.items()]
    )
    host = forms.CharField(
        label=_("This server's name"), max_length=255, help_text=_("As the client reaches it; its certificate has it.")
    )
    namespace = forms.ChoiceField(label=_("Namespace"))
    role = forms.ChoiceField(label=_("Role"), required=False)
    days = forms.IntegerField(label=_("Days of validity"), required=False, min_value=1, max_value=36_500)
    key = forms.ChoiceField(
        label=_("Kind of key"),
        required=False,
        choices=[("", _("what the product takes")), *((name, name) for name in clients.KEYS)],
    )
    csr = forms.CharField(
        label=_("Or its own certificate request"),
        required=False,
        max_length=MAX_REQUEST,
        widget=forms.Textarea(attrs={"rows": 5, "spellcheck": "false", "class": "code"}),
        help_text=_("PKCS#10 in PEM: the private key then stays with the client."),
    )
    main_fields = ("name", "product", "host")

    def __init__(self, data: Any) -> None:
        config = conf.current()
        super().__init__(
            data, initial={"host": bundles.server_of(config).host, "namespace": config.auth.default_namespace}
        )
        names: Any = self.fields["namespace"]
        names.choices = [(name, name) for name in accounts.namespaces()]
        roles: Any = self.fields["role"]
        roles.choices = [
            ("", _("as the settings say")),
            *((name, name) for name in accounts.role_names(config.auth.default_namespace)),
        ]

    @property
    def main(self) -> list[forms.BoundField]:
        """The fields that everybody fills in."""
        return [self[name] for name in self.main_fields]

    @property
    def more(self) -> list[forms.BoundField]:
        """The others."""
        return [field for field in self if field.name not in self.main_fields]

    @property
    def more_has_errors(self) -> bool:
        """Whether something is wrong with one of the others."""
        return any(field.errors for field in self.more)

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if data.get("role") and data.get("namespace") != conf.current().auth.default_namespace:
            self.add_error("role", gettext("Roles in another namespace are given by its own administrators."))
        return data


def add(request: HttpRequest) -> HttpResponse:
    """Make a client's certificate, and show once what the client needs."""
    operators(request)
    form = AddForm(request.POST or None)
    context: dict[str, Any] = {"title": gettext("Add a client"), "section": "clients", "form": form}
    try:
        context["authority"] = clients.authority()
    except KMIPError:
        context |= {"authority": None, "make": AuthorityForm(None)}
    if request.method == "POST" and form.is_valid():
        data = form.cleaned_data
        made = session.change(request, lambda: _enrol(request, data), form=form).answer
        if made is not None:
            return _show(request, data, *made)
    return site.page(request, "ui/client_add.html", context)


def _enrol(request: HttpRequest, data: dict[str, Any]) -> tuple[Enrolled, dict[str, bytes], str]:
    """The new client's certificate, the files for it, and the password of those that have one."""
    peer, name = session.peer_of(request), data["name"]
    key, csr = None, data["csr"].encode()
    if not csr.strip():
        key, csr = clients.new_request(name, data["key"] or bundles.product(data["product"]).key)
    made = clients.enrol(peer, name, csr, days=data["days"], namespace=data["namespace"])
    if data["role"]:
        administration.give_role(peer, session.identity(request), data["role"], f"user:{name}")
    material = bundles.material(conf.current(), made, key, host=data["host"])
    return made, bundles.make(data["product"], material), material.password


def _show(
    request: HttpRequest, data: dict[str, Any], made: Enrolled, files: dict[str, bytes], password: str
) -> HttpResponse:
    server = bundles.server_of(conf.current(), data["host"])
    archive = bundles.archive(files)
    context = {
        "title": gettext("The client %(name)s") % {"name": made.name},
        "section": "clients",
        "made": made,
        "ends": made.not_after.strftime("%Y-%m-%d"),
        "product": bundles.product(data["product"]).title,
        "files": [(name, _text(content)) for name, content in files.items() if name != "SETTINGS.md"],
        "protected": any(name.endswith((".p12", ".pfx")) for name in files),
        "password": password,
        "settings": bundles.page(data["product"], server, made.name, made.name),
        "held": held.hold(archive, request.user.get_username(), f"bundle {made.name}"),
        **_arrival(made.fingerprint, [], int(time.time() * 1000)),
    }
    return site.page(request, "ui/client_added.html", context)


def _text(content: bytes) -> str:
    """A file that can be copied, or nothing where it is none of text."""
    try:
        return content.decode()
    except UnicodeDecodeError:
        return ""


@require_POST
def bundle(request: HttpRequest) -> HttpResponse:
    """The files of a client that was just made, as they were sealed into its page."""
    operators(request)
    name = request.POST.get("name", "")
    try:
        content = held.held(request.POST.get("held", ""), request.user.get_username(), f"bundle {name}")
    except (ValueError, SealingError):
        messages.error(
            request, gettext("The files are kept for ten minutes only. Revoke the certificate and make a new one.")
        )
        return HttpResponseRedirect(reverse("ui:clients"))
    file = get_valid_filename(name) if name.strip(".") else "client"
    return HttpResponse(
        content,
        content_type="application/zip",
        headers={"Content-Disposition": f'attachment; filename="{file}.zip"'},
    )


# What arrived.


def _arrival(fingerprint: str, mine: list[HandshakeRecord], since: int) -> dict[str, Any]:
    """What is known of a client's first connection, from the handshakes of its certificate: that it was let in, or who
    was refused since a moment (milliseconds since 1970)."""
    accepted = next((one for one in mine if one.accepted), None)
    refused = [one for one in mine if not one.accepted]
    return {
        "fingerprint": fingerprint,
        "since": since,
        "arrived": accepted,
        "handshakes": [] if accepted else refused or handshakes.records(REFUSED, refused=True, since=since),
    }


def arrival(request: HttpRequest, fingerprint: str) -> HttpResponse:
    """Whether a client has connected yet; asked again and again by its page."""
    operators(request)
    since = request.GET.get("since", "")
    moment = int(since) if since.isdecimal() and len(since) < 16 else 0
    context = _arrival(fingerprint, handshakes.records(fingerprint=fingerprint), moment)
    if request.headers.get("HX-Request"):
        return site.page(request, "ui/_arrival.html", context)
    return HttpResponseRedirect(reverse("ui:client", args=[fingerprint]))


# One certificate.


def show(request: HttpRequest, fingerprint: str) -> HttpResponse:
    """Whose a certificate is, how its handshakes ended, and what can be done about it."""
    operators(request)
    mine, issued = clients.certificate_of(fingerprint)
    if mine is None:
        raise Http404
    now, records = int(time.time()), handshakes.records(fingerprint=fingerprint)
    status, well = _status(mine, issued is not None and issued.revoked is not None, now)
    context = {
        "title": mine.account.username,
        "section": "clients",
        "certificate": mine,
        "status": status,
        "well": well,
        "ends": describe.moment(mine.not_after),
        "first": describe.moment(mine.first_seen),
        "seen": describe.moment(mine.last_seen) if mine.last_seen else "",
        "object": address_of(issued.uid) if issued is not None and issued.uid else "",
        "revocable": issued is not None
        and issued.authority is not None
        and issued.authority.clients
        and issued.revoked is None,
        "mine": mine.account.namespace_id == session.identity(request).namespace,
        "records": records,
        **_arrival(fingerprint, records, now * 1000),
    }
    return site.page(request, "ui/client.html", context)


class RevokeForm(forms.Form):
    """Why a certificate is revoked."""

    superseded = forms.BooleanField(label=_("The client has a newer certificate."), required=False)


def revoke(request: HttpRequest, fingerprint: str) -> HttpResponse:
    """Revoke a certificate, once that is meant."""
    operators(request)
    mine, issued = clients.certificate_of(fingerprint)
    if mine is None or issued is None:
        raise Http404
    form = RevokeForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        peer, superseded = session.peer_of(request), form.cleaned_data["superseded"]
        done = gettext("The certificate is revoked; its connections end within seconds.")
        session.change(request, lambda: clients.revoke(peer, fingerprint, superseded=superseded), done)
        return HttpResponseRedirect(reverse("ui:client", args=[fingerprint]))
    context = {
        "title": gettext("Revoke"),
        "section": "clients",
        "form": form,
        "text": gettext("The listeners let %(name)s in with this certificate no more, for good.")
        % {"name": mine.account.username},
        "back": reverse("ui:client", args=[fingerprint]),
        "grave": True,
    }
    return site.page(request, "ui/confirm.html", context)


@require_POST
def disable(request: HttpRequest, fingerprint: str) -> HttpResponse:
    """Let a certificate in no more, or again."""
    operators(request)
    mine, _ = clients.certificate_of(fingerprint)
    if mine is None:
        raise Http404
    peer, who, disabled = session.peer_of(request), session.identity(request), not mine.disabled
    session.change(request, lambda: administration.disable_certificate(peer, who, fingerprint, disabled))
    return HttpResponseRedirect(reverse("ui:client", args=[fingerprint]))


# Those that wait.


class DecideForm(forms.Form):
    """Under which name an unknown certificate is accepted."""

    name = forms.CharField(
        label=_("User"), required=False, max_length=255, help_text=_("Empty: the name in the certificate.")
    )


def decide(request: HttpRequest, fingerprint: str) -> HttpResponse:
    """An unknown certificate in full; accept exactly this one for a user, or refuse it for good."""
    operators(request)
    row = next((one for one in clients.waiting() if one.fingerprint == fingerprint), None)
    if row is None:
        raise Http404
    form = DecideForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        peer, accept, name = session.peer_of(request), "accept" in request.POST, form.cleaned_data["name"] or None
        done = gettext("The certificate is accepted.") if accept else gettext("The certificate is refused.")
        if session.change(
            request, lambda: clients.decide(peer, fingerprint, accept=accept, name=name), done, form, "name"
        ).over:
            return HttpResponseRedirect(reverse("ui:clients"))
    context = {
        "title": gettext("Unknown client"),
        "section": "clients",
        "row": row,
        "first": describe.moment(row.first_seen),
        "last": describe.moment(row.last_seen),
        "facts": certificate.facts(x509.load_der_x509_certificate(bytes(row.certificate))),
        "form": form,
    }
    return site.page(request, "ui/client_decide.html", context)


# Tokens.


class TokenForm(forms.Form):
    """For whom a registration token is."""

    name = forms.CharField(label=_("Name of the client"), max_length=64)
    hours = forms.FloatField(label=_("Hours of validity"), required=False, min_value=0.1, max_value=8760)


def tokens(request: HttpRequest) -> HttpResponse:
    """Registration tokens: a new one, shown once, and those that can still be used."""
    operators(request)
    form = TokenForm(request.POST or None)
    context: dict[str, Any] = {"title": gettext("Registration tokens"), "section": "clients", "form": form}
    if request.method == "POST" and form.is_valid():
        data = form.cleaned_data
        peer = session.peer_of(request)
        made = session.change(request, lambda: clients.new_token(peer, data["name"], data["hours"]), form=form).answer
        if made is not None:
            token, expires = made
            context |= {
                "token": token,
                "ends": expires.strftime("%Y-%m-%d %H:%M UTC"),
                "curl": _register(request.build_absolute_uri("/clients/register"), data["name"], token),
            }
    context["tokens"] = [(one, describe.moment(one.expires)) for one in clients.tokens()]
    return site.page(request, "ui/client_tokens.html", context)


def _register(address: str, name: str, token: str) -> str:
    """How a client uses its token from a shell: the name goes into the request only for people to see."""
    subject = "".join(c for c in name if c.isalnum() or c in "-_.") or "client"
    return "\n".join(
        (
            f"openssl req -new -newkey rsa:2048 -nodes -keyout client.key -subj '/CN={subject}' -out client.csr",
            "jq -Rs --arg token '" + token + "' '{token: $token, csr: .}' client.csr |",
            f"  curl -sS --cacert ca.pem -H 'Content-Type: application/json' --data-binary @- {address} |",
            "  jq -r .certificate > client.pem",
        )
    )


@require_POST
def withdraw(request: HttpRequest, digest: str) -> HttpResponse:
    """Let a token be used no more."""
    operators(request)
    peer = session.peer_of(request)
    session.change(request, lambda: clients.withdraw_token(peer, digest), gettext("The token is withdrawn."))
    return HttpResponseRedirect(reverse("ui:client_tokens"))


class AuthorityForm(forms.Form):
    """The name of a new authority for clients."""

    authority = forms.CharField(label=_("Name of the authority"), max_length=64, initial="KMS clients")


ROUTES: list[Route] = [
    ("clients/", listed, "clients"),
    ("clients/add/", add, "client_add"),
    ("clients/bundle/", bundle, "client_bundle"),
    ("clients/tokens/", tokens, "client_tokens"),
    ("clients/tokens/<slug:digest>/withdraw/", withdraw, "client_withdraw"),
    ("clients/waiting/<slug:fingerprint>/", decide, "client_decide"),
    ("clients/<slug:fingerprint>/", show, "client"),
    ("clients/<slug:fingerprint>/arrival/", arrival, "client_arrival"),
    ("clients/<slug:fingerprint>/revoke/", revoke, "client_revoke"),
    ("clients/<slug:fingerprint>/disable/", disable, "client_disable"),
]
