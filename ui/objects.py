"""The list of objects: Django's change list with its filters, search and actions, paged as `paging` says."""

import csv
import json
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.contrib.admin import helpers
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, StreamingHttpResponse
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.functional import Promise
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_POST

from keystore.models import ManagedObject
from keystore.store import Managed
from kmip.attributes import Attributes
from kmip.enums import Operation
from kmip.errors import KMIPError
from kmip.tags import Tag
from ui import describe, lifecycle, rights, session
from ui.facets import FACETS, Search
from ui.paging import Pager
from ui.words import label

PAGE = 50
_UNSAFE = re.compile(r"[^A-Za-z0-9-]")


def key_of(uid: str) -> str:
    """An identifier, whatever characters its client chose, as one segment of a path."""
    return _UNSAFE.sub(lambda found: "".join(f"_{byte:02X}" for byte in found[0].encode()), uid)


def uid_of(key: str) -> str:
    """The identifier that `key_of` wrote."""
    return re.sub(rb"_([0-9A-F]{2})", lambda found: bytes.fromhex(found[1].decode()), key.encode()).decode(
        errors="replace"
    )


def address_of(uid: str) -> str:
    """Where an object's page is."""
    return reverse("ui:object", args=[key_of(uid)])


# Columns.


class Column(NamedTuple):
    """One column: its title and what stands in it."""

    title: Promise
    text: Callable[[Managed], str]
    shown: bool = True


def _date(tag: Tag) -> Callable[[Managed], str]:
    def text(managed: Managed) -> str:
        found = managed.attributes.first(tag)
        return "" if found is None else describe.moment(found)

    return text


def name_of(attributes: Attributes) -> str:
    """The first name, or nothing."""
    return attributes.name[0].name_value if attributes.name else ""


def called(managed: Managed) -> str:
    """How people call an object: by its name, a certificate by its subject's, else by its identifier."""
    attributes = managed.attributes
    names = [name_of(attributes), *attributes.certificate_subject_cn]
    return next((name for name in names if name), managed.uid)


def _number(value: Any) -> str:
    return "" if value is None else str(value)


COLUMNS: dict[str, Column] = {
    "name": Column(_("Name"), lambda m: name_of(m.attributes)),
    "uid": Column(_("Identifier"), lambda m: m.uid),
    "type": Column(_("Type"), lambda m: label(m.object_type)),
    "state": Column(_("State"), lambda m: label(m.state)),
    "algorithm": Column(_("Algorithm"), lambda m: _number(m.attributes.cryptographic_algorithm)),
    "length": Column(_("Length"), lambda m: _number(m.attributes.cryptographic_length)),
    "owner": Column(_("Owner"), lambda m: m.owner),
    "created": Column(_("Created"), _date(Tag.INITIAL_DATE)),
    "activation": Column(_("Activation"), _date(Tag.ACTIVATION_DATE), shown=False),
    "expires": Column(_("Expires"), _date(Tag.DEACTIVATION_DATE)),
    "changed": Column(_("Last change"), _date(Tag.LAST_CHANGE_DATE), shown=False),
    "usage": Column(
        _("Usage"), lambda m: ", ".join(describe.usage(m.attributes.cryptographic_usage_mask)), shown=False
    ),
    "groups": Column(_("Groups"), lambda m: ", ".join(m.attributes.object_group), shown=False),
    "tags": Column(_("Tags"), lambda m: ", ".join(describe.tags_of(m.attributes)), shown=False),
    "namespace": Column(_("Namespace"), lambda m: m.namespace, shown=False),
}
DEFAULT_COLUMNS = [name for name, column in COLUMNS.items() if column.shown]


def chosen_columns(request: HttpRequest) -> dict[str, Column]:
    """The columns that the person chose."""
    chosen = request.session.get("columns", DEFAULT_COLUMNS)
    return {name: column for name, column in COLUMNS.items() if name in chosen}


# The list.


class KeysetList(ChangeList):
    """A change list that asks for one page and one row more, and counts nothing."""

    result_list: list[Managed]

    def get_filters_params(self, params: Any = None) -> dict[str, Any]:
        found: dict[str, Any] = super().get_filters_params(params)
        return {name: value for name, value in found.items() if name not in ("before", "after")}

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[ManagedObject]) -> list[str]:
        return ["-serial"]

    def get_results(self, request: HttpRequest) -> None:
        before, after = _serial(request, "before"), _serial(request, "after")
        page = self.pager(request).page(before=before, after=after)
        rows, newest_first = page.rows, after is None
        self.result_list = rows
        self.result_count = len(rows)
        self.show_full_result_count = False
        self.full_result_count = None
        self.show_admin_actions = bool(rows)
        self.can_show_all = False
        self.multi_page = page.on is not None
        self.cut = page.cut
        first, last = (rows[0].serial, rows[-1].serial) if rows else (before, after)
        # Where a page was come to from is there, even if nothing of it fits any more.
        newer = (first if before is not None else None) if newest_first else page.on
        older = page.on if newest_first else last
        self.newer = self.get_query_string({"after": newer}, ["before"]) if newer is not None else ""
        self.older = self.get_query_string({"before": older}, ["after"]) if older is not None else ""
        self.first = self.get_query_string(remove=["before", "after"]) if before or after else ""
        self.filters = urlencode([(n, v) for n, v in request.GET.items() if n not in ("before", "after") and v])

    def pager(self, request: HttpRequest) -> Pager:
        """The pages of what is asked for."""
        asked: list[Any] = [one for one in self.filter_specs if one.value]
        if self.query.strip():
            found = Search(self.query.strip(), session.identity(request).namespace)
            asked.append(found)
            if found.many:
                messages.info(
                    request,
                    gettext("Very many objects match; the list shows some of them. Search for more of the name."),
                )
        return Pager(lambda among: session.visible(request, among), asked, PAGE)


def _serial(request: HttpRequest, name: str) -> int | None:
    value = request.GET.get(name, "")
    return int(value) if value.isdecimal() and len(value) < 19 else None


class Batch(NamedTuple):
    """Something that is done to several objects at once."""

    title: Promise
    #: How it is called in the list of actions.
    choice: Promise
    form: Callable[[Any], Any]
    plan: Callable[[HttpRequest, Managed], lifecycle.Plan]
    carry_out: Callable[[HttpRequest, Any, Managed], object]


def _operation(operation: Operation, choice: Promise) -> Batch:
    return Batch(
        lifecycle.TITLES[operation],
        choice,
        lifecycle.FORMS[operation],
        lambda request, managed: lifecycle.plan(request, operation, managed),
        lambda request, form, managed: session.carry_out(request, operation, form.payload(managed)),
    )


BATCHES: dict[str, Batch] = {
    "activate": _operation(Operation.ACTIVATE, _("Activate…")),
    "revoke": _operation(Operation.REVOKE, _("Revoke…")),
    "destroy": _operation(Operation.DESTROY, _("Destroy…")),
    "group": _operation(Operation.ADD_ATTRIBUTE, _("Add to a group…")),
    "tag": _operation(Operation.SET_ATTRIBUTE, _("Tag…")),
    "grant": Batch(
        _("Give a right"),
        _("Give a right…"),
        rights.GrantForm,
        rights.plan,
        lambda request, form, managed: form.carry_out(request, managed),
    ),
}


def _action(name: str, batch: Batch) -> Callable[..., HttpResponse | None]:
    """A row of `BATCHES` as an action of Django's change list."""

    def action(
        model_admin: "ManagedObjectAdmin", request: HttpRequest, queryset: QuerySet[ManagedObject]
    ) -> HttpResponse | None:
        return model_admin.batch(request, name)

    action.__name__ = name
    described: Callable[..., HttpResponse | None] = admin.action(description=batch.choice)(action)
    return described


class ManagedObjectAdmin(admin.ModelAdmin):
    """Managed objects: looked at here, changed only by operations of the engine."""

    list_filter = FACETS
    search_fields = ("uid",)
    list_per_page = PAGE
    show_full_result_count = False
    change_list_template = "ui/objects.html"
    actions = tuple(_action(name, batch) for name, batch in BATCHES.items())

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.admin_site.has_permission(request)

    def get_queryset(self, request: HttpRequest) -> QuerySet[ManagedObject]:
        return session.visible(request)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return KeysetList

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[ManagedObject], search_term: str
    ) -> tuple[QuerySet[ManagedObject], bool]:
        return queryset, False  # `KeysetList.pager` searches.

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        columns = chosen_columns(request)
        context = {
            "title": gettext("Objects"),
            "section": "objects",
            "columns": columns,
            "all_columns": [(name, column.title, name in columns) for name, column in COLUMNS.items()],
        }
        response = super().changelist_view(request, {**context, **(extra_context or {})})
        if isinstance(response, TemplateResponse) and "cl" in (response.context_data or {}):
            listed: KeysetList = response.context_data["cl"]
            response.context_data["rows"] = [
                (
                    managed,
                    called(managed),
                    address_of(managed.uid),
                    [(name, column.title, column.text(managed)) for name, column in columns.items()],
                )
                for managed in listed.result_list
            ]  # fmt: skip
            if request.headers.get("HX-Request"):
                response.template_name = "ui/_objects.html"
            response["Vary"] = "HX-Request"
        return response

    def get_urls(self) -> list[Any]:
        wrap = self.admin_site.admin_view
        return [
            path("", wrap(self.changelist_view), name="objects"),
            path("columns/", wrap(require_POST(self.columns_view)), name="columns"),
            path("export/<str:form>/", wrap(self.export_view), name="export"),
        ]

    def columns_view(self, request: HttpRequest) -> HttpResponse:
        """Keep which columns the person wants to see."""
        chosen = [name for name in request.POST.getlist("column") if name in COLUMNS]
        request.session["columns"] = chosen or DEFAULT_COLUMNS
        back = request.POST.get("next", "")
        if not url_has_allowed_host_and_scheme(back, {request.get_host()}, request.is_secure()):
            back = reverse("ui:objects")
        return HttpResponseRedirect(back)

    def export_view(self, request: HttpRequest, form: str) -> HttpResponse | StreamingHttpResponse:
        """The list with its filters as CSV or JSON, every column, written as it is read."""
        listed = self.get_changelist_instance(request)
        if form == "csv":
            lines, media = _csv(listed.pager(request).everything()), "text/csv"
        elif form == "json":
            lines, media = _json(listed.pager(request).everything()), "application/json"
        else:
            return HttpResponse(status=404)
        return StreamingHttpResponse(
            lines, content_type=media, headers={"Content-Disposition": f'attachment; filename="objects.{form}"'}
        )

    def batch(self, request: HttpRequest, name: str) -> HttpResponse | None:
        """Show what an action will do to each object, and do it once that is confirmed."""
        batch = BATCHES[name]
        # By identifier, each with the person's own rights on it; never more than a page of them.
        uids = request.POST.getlist(helpers.ACTION_CHECKBOX_NAME)[:PAGE]
        found = [session.managed(request, uid) for uid in uids]
        chosen = [managed for managed in found if managed is not None]
        confirmed = "confirm" in request.POST
        form = batch.form(request.POST if confirmed else None)
        plans = [(managed, batch.plan(request, managed)) for managed in chosen]
        if confirmed and form.is_valid():
            self._carry_out(request, batch, form, [m for m, plan in plans if plan.possible])
            return None
        context = {
            **self.admin_site.each_context(request),
            "title": batch.title,
            "section": "objects",
            "action": name,
            "form": form,
            "plans": [(address_of(managed.uid), managed, called(managed), plan) for managed, plan in plans],
            "possible": sum(plan.possible for _, plan in plans),
            "checkbox": helpers.ACTION_CHECKBOX_NAME,
            "grave": name == "destroy",
        }
        return TemplateResponse(request, "ui/batch.html", context)

    def _carry_out(self, request: HttpRequest, batch: Batch, form: Any, chosen: list[Managed]) -> None:
        done = 0
        for managed in chosen:
            try:
                batch.carry_out(request, form, managed)
                done += 1
            except KMIPError as exc:
                say = messages.info if session.waits(exc) else messages.error
                say(request, f"{called(managed)}: {exc.message}")
        if done:
            messages.success(request, ngettext("%(n)d object is done.", "%(n)d objects are done.", done) % {"n": done})


# Export.


class _Line:
    """A file that gives each line back."""

    def write(self, text: str) -> str:
        return text


def _csv(rows: Iterator[Managed]) -> Iterator[str]:
    writer = csv.writer(_Line())
    yield writer.writerow(COLUMNS)
    for managed in rows:
        yield writer.writerow([harmless(column.text(managed)) for column in COLUMNS.values()])


def harmless(text: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def _json(rows: Iterator[Managed]) -> Iterator[str]:
    yield "["
    for number, managed in enumerate(rows):
        one = {name: column.text(managed) for name, column in COLUMNS.items()}
        yield ("," if number else "") + "\n" + json.dumps(one, ensure_ascii=False)
    yield "\n]\n"
