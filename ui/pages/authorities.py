"""The certificate authorities of this server: whose clients are let in, what they signed, their lists and addresses."""

import time
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from django import forms
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_POST

from keystore import ca, clients, conf
from keystore.models import Authority
from kmip.errors import KMIPError
from ui import certificate, describe, session
from ui.objects import address_of
from ui.pages import Route
from ui.pages.clients import AuthorityForm, operators
from ui.site import site

PAGE = 50
MAX_FILE = 65_536


class TakeForm(forms.Form):
    """A CA that was made elsewhere."""

    certificate = forms.FileField(label=_("CA certificate"), max_length=500, help_text=_("PEM or DER"))
    key = forms.FileField(
        label=_("Its private key"), max_length=500, help_text=_("PEM or DER, not encrypted; it is sealed here.")
    )

    def read(self, name: str) -> bytes:
        """A file's contents, as much as a certificate or key may have."""
        content: bytes = self.cleaned_data[name].read(MAX_FILE)
        return content


def listed(request: HttpRequest) -> HttpResponse:
    """Every authority; one more, made here or taken in."""
    operators(request)
    make = AuthorityForm(request.POST if "make" in request.POST else None)
    take = TakeForm(*((request.POST, request.FILES) if "take" in request.POST else (None, None)))
    peer = session.peer_of(request)
    if make.is_bound and make.is_valid():
        name, done = make.cleaned_data["authority"], gettext("The authority is made, and its clients are let in.")
        if session.change(request, lambda: clients.create_authority(peer, name), done, make).over:
            return HttpResponseRedirect(_back(request))
    if take.is_bound and take.is_valid():
        found, key = take.read("certificate"), take.read("key")
        done = gettext("The authority is taken in, and its clients are let in.")
        if session.change(request, lambda: clients.import_authority(peer, found, key), done, take).over:
            return HttpResponseRedirect(reverse("ui:authorities"))
    context = {
        "title": gettext("Authorities"),
        "section": "authorities",
        "rows": [(one, _ends(one)) for one in clients.authorities()],
        "make": make,
        "take": take,
    }
    return site.page(request, "ui/authorities.html", context)


def _back(request: HttpRequest) -> str:
    """Where somebody goes on who made an authority on the way to a client."""
    return reverse("ui:client_add" if request.POST.get("next") == "client" else "ui:authorities")


def _ends(authority: Authority) -> str:
    return ca.load(bytes(authority.certificate)).not_valid_after_utc.strftime("%Y-%m-%d")


def _found(key_id: str) -> Authority:
    found = Authority.objects.filter(key_id=key_id).first()
    if found is None:
        raise Http404
    return found


def show(request: HttpRequest, key_id: str) -> HttpResponse:
    """An authority: its certificate, its revocation list, its addresses, and what it signed last."""
    operators(request)
    authority = _found(key_id)
    base = (conf.current().pki.url or request.build_absolute_uri("/")).rstrip("/") + f"/pki/{key_id}"
    context = {
        "title": authority.subject,
        "section": "authorities",
        "authority": authority,
        "facts": certificate.facts(ca.load(bytes(authority.certificate))),
        "object": address_of(authority.certificate_uid),
        "addresses": [
            (gettext("Revocation list"), f"{base}/crl"),
            ("OCSP", f"{base}/ocsp"),
            (gettext("Certificate"), f"{base}/ca"),
        ],
        "crl": _list(authority),
        "issued": _issued(authority),
    }
    return site.page(request, "ui/authority.html", context)


def _list(authority: Authority) -> dict[str, Any]:
    """What its revocation list says now; signed anew where that is due."""
    try:
        crl = x509.load_der_x509_crl(ca.revocation_list(authority))
    except KMIPError as exc:
        return {"problem": exc.message}
    ends = crl.next_update_utc
    return {
        "number": crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number,
        "begins": crl.last_update_utc.strftime("%Y-%m-%d %H:%M UTC"),
        "ends": ends.strftime("%Y-%m-%d %H:%M UTC") if ends is not None else "",
        "revoked": len(crl),
    }


def _issued(authority: Authority) -> list[tuple[Any, str, str, str]]:
    rows = ca.issued(authority)[:PAGE]
    now = int(time.time())
    return [
        (
            row,
            address_of(row.uid),
            describe.moment(row.not_after),
            gettext("revoked")
            if row.revoked is not None
            else gettext("expired")
            if row.not_after < now
            else gettext("valid"),
        )
        for row in rows
    ]


@require_POST
def trust(request: HttpRequest, key_id: str) -> HttpResponse:
    """Let the listeners accept an authority's clients, or no more."""
    operators(request)
    authority = _found(key_id)
    peer, trusted = session.peer_of(request), request.POST.get("trusted") == "1"
    done = gettext("Done; the listeners notice within a second.")
    session.change(request, lambda: clients.use_authority(peer, authority.certificate_uid, trusted=trusted), done)
    return HttpResponseRedirect(reverse("ui:authority", args=[key_id]))


def download(request: HttpRequest, key_id: str, what: str) -> HttpResponse:
    """An authority's certificate or revocation list in PEM."""
    operators(request)
    authority = _found(key_id)
    if what == "ca":
        content = ca.load(bytes(authority.certificate)).public_bytes(Encoding.PEM)
    elif what == "crl":
        content = x509.load_der_x509_crl(ca.revocation_list(authority)).public_bytes(Encoding.PEM)
    else:
        raise Http404
    return HttpResponse(
        content,
        content_type="application/x-pem-file",
        headers={"Content-Disposition": f'attachment; filename="{what}.pem"'},
    )


ROUTES: list[Route] = [
    ("authorities/", listed, "authorities"),
    ("authorities/<slug:key_id>/", show, "authority"),
    ("authorities/<slug:key_id>/trust/", trust, "authority_trust"),
    ("authorities/<slug:key_id>/<slug:what>.pem", download, "authority_download"),
]
