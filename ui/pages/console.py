"""Paste a KMIP request, see it as a tree, send it as oneself, see the answer as a tree."""

from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from keystore import engine
from kmip.enums import Operation, QueryFunction
from kmip.errors import KMIPError
from kmip.payloads import QueryRequest
from ui import message, session
from ui.pages import Route
from ui.site import site


class ConsoleForm(forms.Form):
    """A request in XML, JSON or hexadecimal."""

    request = forms.CharField(
        label=_("Request"),
        max_length=4_000_000,
        widget=forms.Textarea(attrs={"rows": 14, "spellcheck": "false", "class": "code"}),
        help_text=_("XML, JSON or hexadecimal"),
    )


def example() -> str:
    """A request to begin with."""
    payload = QueryRequest(query_function=[QueryFunction.QUERY_OPERATIONS, QueryFunction.QUERY_SERVER_INFORMATION])
    return message.spellings(message.request(Operation.QUERY, payload), "")[0].text


def show(request: HttpRequest) -> HttpResponse:
    """The request as a tree, and the answer once it is sent."""
    given = request.POST if request.method == "POST" else None
    form = ConsoleForm(given, initial={"request": example()})
    context: dict[str, Any] = {"title": gettext("Console"), "section": "console", "form": form}
    if given is not None and form.is_valid():
        try:
            encoding, data = message.read(form.cleaned_data["request"])
            item = message.decode(encoding, data)
        except KMIPError as exc:
            form.add_error("request", exc.message)
        else:
            context["asked"] = message.tree(item)
            if "send" in request.POST:
                answer = message.decode(encoding, engine.handle(data, session.peer_of(request), encoding))
                context["answer"] = message.tree(answer)
                context["spellings"] = message.spellings(answer, "")
    template = "ui/_console.html" if request.headers.get("HX-Request") else "ui/console.html"
    return site.page(request, template, context)


ROUTES: list[Route] = [("console/", show, "console")]
