"""The rights on one object: who has which, given and taken away by who decides about it."""

from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.translation import gettext

from keystore import access, policy
from ui import describe, session
from ui.objects import address_of, called
from ui.pages import Route
from ui.pages.object import known
from ui.rights import GrantForm, worded
from ui.site import site


def show(request: HttpRequest, key: str) -> HttpResponse:
    """Every grant on the object, and a new one; who does not decide about it is told what they may do themselves."""
    managed = known(request, key)
    peer, who = session.peer_of(request), session.identity(request)
    form = GrantForm(request.POST if "grant" in request.POST else None)
    here = HttpResponseRedirect(reverse("ui:rights", args=[key]))
    if form.is_bound and form.is_valid():
        done = gettext("The right is given.")
        if session.change(request, lambda: form.carry_out(request, managed), done, form).over:
            return here
    if "take" in request.POST:
        to, done = request.POST["take"], gettext("The rights are taken away.")
        session.change(request, lambda: access.revoke(peer, who, managed.uid, to, access.ALL), done)
        return here
    decides = policy.decides(who, managed)
    context: dict[str, Any] = {
        "title": gettext("Rights"),
        "section": "objects",
        "managed": managed,
        "name": called(managed),
        "address": address_of(managed.uid),
        "decides": decides,
        "mine": worded(policy.rights(who, managed)),
        "form": form,
    }
    if decides:
        context["grants"] = [
            (
                one,
                access.shown(one.principal),
                worded(one.operations),
                describe.moment(one.expires) if one.expires else "",
            )
            for one in access.on(who, managed.uid)
        ]
    return site.page(request, "ui/rights.html", context)


ROUTES: list[Route] = [("objects/<str:key>/rights/", show, "rights")]
