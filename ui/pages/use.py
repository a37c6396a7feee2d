"""Use keys: a form for each cryptographic operation, and the message that a program would send instead."""

from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.translation import gettext

from keystore.call import HANDLERS
from kmip.errors import KMIPError
from ui import message, session
from ui.objects import address_of
from ui.pages import Route
from ui.site import site
from ui.use import USES, Use, spelled


def offered() -> dict[str, Use]:
    """The uses whose operation this server carries out."""
    return {slug: use for slug, use in USES.items() if use.operation in HANDLERS}


def choose(request: HttpRequest) -> HttpResponse:
    """The uses there are."""
    uses = [(reverse("ui:use", args=[slug]), use.title) for slug, use in offered().items()]
    return site.page(request, "ui/uses.html", {"title": gettext("Use keys"), "section": "use", "uses": uses})


def show(request: HttpRequest, slug: str) -> HttpResponse:
    """The form of a use, and what came of it."""
    use = offered().get(slug)
    if use is None:
        raise Http404
    given = request.POST if request.method == "POST" else None
    form = use.form(given, request.FILES or None, initial={"uid": request.GET.get("key", "")})
    context: dict[str, Any] = {
        "title": use.title,
        "section": "use",
        "form": form,
        "slug": slug,
        "others": [(reverse("ui:use", args=[one]), other.title, one == slug) for one, other in offered().items()],
    }
    if given is not None and form.is_valid():
        payload = form.payload()
        context["message"] = message.spellings(
            message.request(use.operation, payload), request.build_absolute_uri("/kmip")
        )
        if "send" in request.POST:
            try:
                answer = session.carry_out(request, use.operation, payload)
            except KMIPError as exc:
                if session.waits(exc):
                    context["waits"] = exc.message
                else:
                    form.add_error(None, f"{exc.message} ({exc.reason})")
            else:
                context["answered"] = True
                context["verdict"] = form.verdict(answer)
                context["parts"] = [(part, len(part.data), spelled(part.data)) for part in form.parts(answer)]
                made = form.made(answer)
                context["made"] = made and (made, address_of(made))
    template = "ui/_use.html" if request.headers.get("HX-Request") else "ui/use.html"
    return site.page(request, template, context)


ROUTES: list[Route] = [("use/", choose, "uses"), ("use/<slug:slug>/", show, "use")]
