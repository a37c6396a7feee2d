"""The page of one object: everything known about it, and what can be done with it."""

import time
from typing import Any

from django import forms
from django.contrib.auth import authenticate
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from keystore import approvals, objects, roles
from keystore.store import Managed
from kmip.attributes import Attributes
from kmip.enums import ObjectType, Operation
from kmip.errors import KMIPError
from kmip.objects import FIELDS
from kmip.payloads import ExportRequest, GetAttributesRequest, GetRequest
from ui import certificate, describe, drawing, lifecycle, login, session, use
from ui.objects import address_of, called, uid_of
from ui.pages import Route
from ui.site import site
from ui.words import label

#: How many audit records the page shows; the audit page has the rest.
TRAIL = 20

SLUGS = {
    operation.name.lower().replace("_", "-"): operation
    for operation in lifecycle.FORMS
    if operation in lifecycle.OFFERED
}


def known(request: HttpRequest, key: str) -> Managed:
    """The object of a page's address; nobody learns of one that is not theirs to see."""
    managed = session.managed(request, uid_of(key))
    if managed is None:
        raise Http404
    return managed


def show(request: HttpRequest, key: str) -> HttpResponse:
    """Everything known about an object."""
    managed = known(request, key)
    uid = managed.uid
    attributes = _attributes(request, managed)
    now = int(time.time())
    moments = drawing.timeline(attributes, now)
    nodes = drawing.links(request, managed, attributes)
    uses = use.of(request, managed)
    actions = [
        (operation, lifecycle.TITLES[operation], slug_of(operation), lifecycle.plan(request, operation, managed))
        for operation in lifecycle.offered(managed)
    ]
    context = {
        "title": called(managed),
        "section": "objects",
        "uid": uid,
        "address": address_of(uid),
        "key": key,
        "managed": managed,
        "type": label(managed.object_type),
        "state": label(managed.state),
        "state_key": managed.state.spelling,
        "tags": describe.tags_of(attributes),
        "unread": not attributes,
        "sections": describe.sections(attributes),
        "timeline": moments,
        "life": drawing.life(attributes, moments, now) if attributes else None,
        "links": nodes,
        "links_height": drawing.ROW * (len(nodes) + 1),
        "links_width": drawing.SPAN,
        "possible": [one for one in actions if one[3].possible],
        "uses": [(reverse("ui:use", args=[slug]), one.title) for slug, one, plan in uses if plan.possible],
        "impossible": [(title, plan) for _, title, _, plan in actions if not plan.possible]
        + [(one.title, plan) for _, one, plan in uses if not plan.possible],
        "certificate": _certificate(request, managed),
        "trail": session.trail(request, managed, TRAIL),
    }
    return site.page(request, "ui/object.html", context)


def _attributes(request: HttpRequest, managed: Managed) -> Attributes:
    """What the person may know of an object: all of its attributes, or with rights to other things only, none."""
    asked = GetAttributesRequest(unique_identifier=managed.uid)
    if not session.may(request, Operation.GET_ATTRIBUTES, managed):
        return Attributes()
    found: Attributes = session.carry_out(request, Operation.GET_ATTRIBUTES, asked).attributes
    return found


def _certificate(request: HttpRequest, managed: Managed) -> Any:
    """What a certificate says; nothing for other objects, or where it may not be read, or only once it is approved."""
    if managed.object_type != ObjectType.CERTIFICATE or managed.blob is None:
        return None
    # Export, because Get would take the object's freshness.
    if approvals.rule_for(session.identity(request), roles.name_of(Operation.EXPORT), managed.object_type):
        return None
    try:
        given = session.carry_out(request, Operation.EXPORT, ExportRequest(unique_identifier=managed.uid))
    except KMIPError:
        return None
    return certificate.decoded(given.certificate.certificate_value)


def slug_of(operation: Operation) -> str:
    """An operation as a segment of a path."""
    return operation.name.lower().replace("_", "-")


def act(request: HttpRequest, key: str, slug: str) -> HttpResponse:
    """Ask what an operation needs to know, and carry it out."""
    operation = SLUGS.get(slug)
    if operation is None:
        raise Http404
    managed = known(request, key)
    plan = lifecycle.plan(request, operation, managed)
    form = lifecycle.FORMS[operation](request.POST or None)
    if request.method == "POST" and form.is_valid():
        done = gettext("%(action)s: done.") % {"action": lifecycle.TITLES[operation]}
        payload = form.payload(managed)
        answer = session.change(request, lambda: session.carry_out(request, operation, payload), done).answer
        new = getattr(answer, "unique_identifier", None) or getattr(answer, "private_key_unique_identifier", None)
        return HttpResponseRedirect(address_of(new if isinstance(new, str) else managed.uid))
    context = {
        "title": lifecycle.TITLES[operation],
        "section": "objects",
        "managed": managed,
        "name": called(managed),
        "address": address_of(managed.uid),
        "plan": plan,
        "form": form,
        "grave": operation == Operation.DESTROY,
    }
    return site.page(request, "ui/act.html", context)


class RevealForm(forms.Form):
    """Who reads key material proves again who they are: with the password, or with the client certificate that the
    session began with, which the connection has just shown and without which there is no page at all."""

    password = forms.CharField(
        label=_("Your password"), widget=forms.PasswordInput(attrs={"autocomplete": "current-password"})
    )
    sure = forms.BooleanField(label=_("Show it to me, whom this connection's certificate names."))

    def __init__(self, data: Any, request: HttpRequest) -> None:
        super().__init__(data)
        self.request = request
        del self.fields["password" if login.by_its_certificate(request) else "sure"]

    def clean_password(self) -> str:
        """Refuse a wrong one; the same back ends as at the log-in judge it, and count it."""
        password: str = self.cleaned_data["password"]
        user = authenticate(self.request, username=self.request.user.get_username(), password=password)
        if user is None or user.pk != self.request.user.pk:
            raise forms.ValidationError(gettext("This is not your password."))
        return password


def reveal(request: HttpRequest, key: str) -> HttpResponse:
    """The material of an object, shown or as a file, to somebody who has given their password again."""
    managed = known(request, key)
    plan = lifecycle.plan(request, Operation.GET, managed)
    if not login.can_prove(request):
        plan = lifecycle.Plan(False, gettext("For this, log in with a password or a client certificate."))
    form = RevealForm(request.POST or None, request)
    context = {
        "title": lifecycle.TITLES[Operation.GET],
        "section": "objects",
        "managed": managed,
        "name": called(managed),
        "address": address_of(managed.uid),
        "plan": plan,
        "form": form,
    }
    if request.method == "POST" and login.can_prove(request) and form.is_valid():
        given = session.carry_out(request, Operation.GET, GetRequest(unique_identifier=managed.uid))
        material, format_ = objects.material_of(getattr(given, FIELDS[given.object_type]))
        material = material or b""
        if "download" in request.POST:
            return HttpResponse(
                material,
                content_type="application/octet-stream",
                headers={"Content-Disposition": f'attachment; filename="{managed.object_type.name.lower()}.bin"'},
            )
        context |= certificate.spellings(material, format_)
    return site.page(request, "ui/reveal.html", context)


ROUTES: list[Route] = [
    ("objects/<str:key>/", show, "object"),
    ("objects/<str:key>/get/", reveal, "reveal"),
    ("objects/<str:key>/do/<slug:slug>/", act, "act"),
]
