"""What was asked, by whom, and how it ended: searched, one record in full, and exported.

Those whose roles see every object of the namespace see every record of it; others see their own.
"""

import csv
import json
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from django import forms
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from keystore import audit, chain
from keystore.models import AuditRecord
from kmip.enums import Operation
from ui import describe, session
from ui.creation import Moment
from ui.objects import address_of, harmless
from ui.pages import Route
from ui.site import site

PAGE = 50
#: Where nothing that has an index is asked for, the search looks back so far, in seconds.
BACK = 7 * 86_400
FIELDS = ("time", "user", "method", "fingerprint", "address", "transport", "protocol", "operation", "object", "result",
          "reason", "latency", "detail")  # fmt: skip
TITLES = {
    "time": _("Time"),
    "user": _("Who"),
    "method": _("How they were recognised"),
    "fingerprint": _("Certificate fingerprint"),
    "address": _("Address"),
    "transport": _("Transport"),
    "protocol": _("Protocol version"),
    "operation": _("Operation"),
    "object": _("Object"),
    "result": _("Result"),
    "reason": _("Reason"),
    "latency": _("Took (µs)"),
    "detail": _("Detail"),
}


class SearchForm(forms.Form):
    """What to look for."""

    user = forms.CharField(label=_("Who"), required=False, max_length=255)
    object = forms.CharField(label=_("Object"), required=False, max_length=64)
    operation = forms.ChoiceField(
        label=_("Operation"),
        required=False,
        choices=[("", _("any")), *((one.spelling, one.spelling) for one in sorted(Operation, key=str))],
    )
    result = forms.ChoiceField(
        label=_("Result"),
        required=False,
        choices=[("", _("any")), ("Success", _("Success")), ("Failure", _("Failure")), ("Undone", _("Undone"))],
    )
    since = Moment(label=_("From (UTC)"))
    until = Moment(label=_("To (UTC)"))


def everything(request: HttpRequest) -> bool:
    """Whether the person sees the records of others."""
    return session.oversees(request)


def mine(request: HttpRequest) -> QuerySet[AuditRecord]:
    """The records that the person may see."""
    who = session.identity(request)
    found = AuditRecord.objects.filter(namespace=who.namespace)
    return found if everything(request) else found.filter(user=who.username)


def search(records: QuerySet[AuditRecord], asked: dict[str, Any], *, own: bool) -> QuerySet[AuditRecord]:
    """The records that a form asks for; the time is a range of record numbers, which are in its order."""
    for name in ("user", "object", "operation", "result"):
        if asked.get(name):
            records = records.filter(**{name: asked[name]})
    since, until = _microseconds(asked.get("since")), _microseconds(asked.get("until"))
    if since is None and not own and not asked.get("user") and not asked.get("object") and (
        asked.get("operation") or asked.get("result")
    ):  # fmt: skip
        since = (int(time.time()) - BACK) * 1_000_000
    if since is not None:
        records = records.filter(time__gte=since)
    if until is not None:
        records = records.filter(time__lte=until)
    return records


def _microseconds(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp() * 1_000_000)


def show(request: HttpRequest) -> HttpResponse:
    """A page of the records that were searched for, newest first."""
    form = SearchForm(request.GET or None)
    asked = form.cleaned_data if form.is_bound and form.is_valid() else {}
    found = search(mine(request), asked, own=not everything(request))
    before = request.GET.get("before", "")
    if before.isdecimal() and len(before) < 19:
        found = found.filter(id__lt=int(before))
    rows = list(found.order_by("-id")[: PAGE + 1])
    query = request.GET.copy()
    query.pop("before", None)
    filters = query.urlencode()
    if len(rows) > PAGE:
        query["before"] = str(rows[PAGE - 1].id)
    context = {
        "title": gettext("Audit"),
        "section": "audit",
        "form": form,
        "records": rows[:PAGE],
        "older": query.urlencode() if len(rows) > PAGE else "",
        "first": before,
        "filters": filters,
        "everything": everything(request),
        "operates": session.operates(request),
    }
    template = "ui/_audit.html" if request.headers.get("HX-Request") else "ui/audit.html"
    return site.page(request, template, context)


def record(request: HttpRequest, number: int) -> HttpResponse:
    """One record in full."""
    found = mine(request).filter(id=number).first()
    if found is None:
        raise Http404
    lines = [(title, _shown(found, name)) for name, title in TITLES.items()]
    context = {
        "title": gettext("Record %(number)d") % {"number": number},
        "section": "audit",
        "lines": lines,
        "address": address_of(found.object) if found.object else "",
    }
    return site.page(request, "ui/record.html", context)


def _shown(record: AuditRecord, name: str) -> str:
    value = getattr(record, name)
    return describe.moment(value // 1_000_000) if name == "time" else str(value)


def export(request: HttpRequest, form: str) -> HttpResponse | StreamingHttpResponse:
    """The records that were searched for, as CSV or as JSON lines, written as they are read."""
    asked = SearchForm(request.GET)
    records = search(mine(request), asked.cleaned_data if asked.is_valid() else {}, own=not everything(request))
    rows = records.order_by("-id").values_list("id", *FIELDS).iterator(chunk_size=500)
    if form == "csv":
        lines, media = _csv(rows), "text/csv"
    elif form == "jsonl":
        lines, media = _json(rows), "application/jsonl"
    else:
        return HttpResponse(status=404)
    return StreamingHttpResponse(
        lines, content_type=media, headers={"Content-Disposition": f'attachment; filename="audit.{form}"'}
    )


class _Line:
    """A file that gives each line back."""

    def write(self, text: str) -> str:
        return text


def _csv(rows: Iterator[tuple[Any, ...]]) -> Iterator[str]:
    writer = csv.writer(_Line())
    yield writer.writerow(("id", *FIELDS))
    for row in rows:
        yield writer.writerow([harmless(str(value)) for value in row])


def _json(rows: Iterator[tuple[Any, ...]]) -> Iterator[str]:
    for row in rows:
        yield json.dumps(dict(zip(("id", *FIELDS), row, strict=True)), ensure_ascii=False) + "\n"


#: Problems that the page shows.
PROBLEMS = 100


def verify(request: HttpRequest) -> HttpResponse:
    """Look for records that were edited, deleted, inserted, moved or cut off; it reads all of them."""
    if not session.operates(request):
        raise PermissionDenied
    context: dict[str, Any] = {"title": gettext("Verify the audit"), "section": "audit"}
    if request.method == "POST":
        begun = time.monotonic()
        verified, problems = chain.verify()
        with audit.recorded(
            session.identity(request), session.peer_of(request), "Verify Audit", detail=f"{len(problems)} problems"
        ):
            context |= {
                "done": True,
                "verified": verified,
                "problems": problems[:PROBLEMS],
                "count": len(problems),
                "took": round(time.monotonic() - begun, 1),
            }
    return site.page(request, "ui/audit_verify.html", context)


ROUTES: list[Route] = [
    ("audit/", show, "audit"),
    ("audit/verify/", verify, "audit_verify"),
    ("audit/<int:number>/", record, "record"),
    ("audit/export/<str:form>/", export, "audit_export"),
]
