"""The list of objects: Django's change list with its filters, search and actions, paged by key instead of by number.

A page costs the same whatever lies before it and however many objects there are: nothing counts, every filter is an
index lookup, and the page after a row begins at that row's serial number.
"""

import csv
import json
import re
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.contrib.admin import helpers
from django.contrib.admin.views.main import ChangeList
from django.db import connection
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, StreamingHttpResponse
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.functional import Promise
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_POST

from keystore import conf, store
from keystore.crypto.algorithms import ALGORITHMS
from keystore.models import ManagedObject, ObjectIndex
from keystore.store import Managed
from kmip.attributes import Attributes, Key, Vendor
from kmip.enums import CryptographicAlgorithm, ObjectType, Operation, State
from kmip.errors import KMIPError
from kmip.tags import Tag
from kmip.ttlv import Item, Type
from ui import describe, lifecycle, session, tally
from ui.words import TYPES, label

PAGE = 50
#: A search looks at the first of these matches; more are told to narrow the search.
MATCHES = 1000
#: Above every character that names use.
LAST = "\U0010ffff"
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


def tag_key() -> Vendor:
    """The vendor attribute that holds an object's tags."""
    return Vendor(conf.current().server.vendor_identification, "tag")


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


def tags_of(attributes: Attributes) -> list[str]:
    """The tags of the JSON dialect: a JSON list in one vendor attribute."""
    item = attributes.first(tag_key())
    if item is None or not isinstance(item.value, str):
        return []
    try:
        found = json.loads(item.value)
    except ValueError:
        return [item.value]
    return [str(one) for one in found] if isinstance(found, list) else [item.value]


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
    "tags": Column(_("Tags"), lambda m: ", ".join(tags_of(m.attributes)), shown=False),
    "namespace": Column(_("Namespace"), lambda m: m.namespace, shown=False),
}
DEFAULT_COLUMNS = [name for name, column in COLUMNS.items() if column.shown]


def chosen_columns(request: HttpRequest) -> dict[str, Column]:
    """The columns that the person chose."""
    chosen = request.session.get("columns", DEFAULT_COLUMNS)
    return {name: column for name, column in COLUMNS.items() if name in chosen}


# Facets.


class Facet(admin.ListFilter):
    """A filter with one parameter; one with choices is a list to pick from, else a text to type."""

    parameter = ""

    def __init__(self, request: HttpRequest, params: dict[str, Any], model: Any, model_admin: Any) -> None:
        super().__init__(request, params, model, model_admin)
        self.value = (params.pop(self.parameter, None) or [""])[-1].strip()
        self.namespace = session.identity(request).namespace

    def has_output(self) -> bool:
        return True

    def expected_parameters(self) -> list[str]:
        return [self.parameter]

    def options(self) -> list[tuple[str, str]]:
        """Value and title of each choice; none where any text goes."""
        return []

    def choices(self, changelist: ChangeList) -> Iterator[dict[str, Any]]:
        for value, title in self.options():
            yield {"value": value, "display": title, "selected": value == self.value}

    def queryset(self, request: HttpRequest, queryset: QuerySet[ManagedObject]) -> QuerySet[ManagedObject]:
        if not self.value:
            return queryset
        try:
            return self.narrow(queryset, self.value)
        except (ValueError, KeyError):
            return queryset.none()

    def narrow(self, objects: QuerySet[ManagedObject], value: str) -> QuerySet[ManagedObject]:
        """The objects that have the value."""
        return store.with_attribute(
            objects, self.attribute(), [self.parsed(value)], int(time.time()), namespace=self.namespace
        )

    def attribute(self) -> Key:
        """The attribute that the value is of."""
        raise NotImplementedError

    def parsed(self, value: str) -> Any:
        """The value of the attribute; raises `KeyError` or `ValueError` for what is none."""
        return value


class TypeFacet(Facet):
    """By Object Type."""

    title, parameter = _("Type"), "type"

    def options(self) -> list[tuple[str, str]]:
        return [(one.spelling, str(TYPES[one])) for one in ObjectType]

    def attribute(self) -> Key:
        return Tag.OBJECT_TYPE

    def parsed(self, value: str) -> ObjectType:
        return ObjectType.by_spelling()[value]


class StateFacet(Facet):
    """By the state that counts now."""

    title, parameter = _("State"), "state"

    def options(self) -> list[tuple[str, str]]:
        return [(one.spelling, label(one)) for one in State]

    def attribute(self) -> Key:
        return Tag.STATE

    def parsed(self, value: str) -> State:
        return State.by_spelling()[value]


class AlgorithmFacet(Facet):
    """By Cryptographic Algorithm."""

    title, parameter = _("Algorithm"), "algorithm"

    def options(self) -> list[tuple[str, str]]:
        return [(one.spelling, one.spelling) for one in sorted(ALGORITHMS, key=str)]

    def attribute(self) -> Key:
        return Tag.CRYPTOGRAPHIC_ALGORITHM

    def parsed(self, value: str) -> CryptographicAlgorithm:
        return CryptographicAlgorithm.by_spelling()[value]


class LengthFacet(Facet):
    """By Cryptographic Length."""

    title, parameter = _("Length"), "length"

    def attribute(self) -> Key:
        return Tag.CRYPTOGRAPHIC_LENGTH

    def parsed(self, value: str) -> int:
        return int(value)


class ExpiryFacet(Facet):
    """By how soon an active object is deactivated."""

    title, parameter = _("Expiry"), "expiry"

    def options(self) -> list[tuple[str, str]]:
        return [(str(days), gettext("within %(days)d days") % {"days": days}) for days in tally.WINDOWS]

    def narrow(self, objects: QuerySet[ManagedObject], value: str) -> QuerySet[ManagedObject]:
        return tally.expiring(objects, _days(value), int(time.time()))


class RotationFacet(Facet):
    """By how soon the server is to rotate an object."""

    title, parameter = _("Rotation"), "rotation"

    def options(self) -> list[tuple[str, str]]:
        return [(str(days), gettext("within %(days)d days") % {"days": days}) for days in tally.WINDOWS]

    def narrow(self, objects: QuerySet[ManagedObject], value: str) -> QuerySet[ManagedObject]:
        return tally.rotating(objects, _days(value), int(time.time()))


def _days(value: str) -> int:
    """A number of days that a list may ask for."""
    days = int(value)
    if not 0 <= days <= 36_500:
        raise ValueError(value)
    return days


class OwnerFacet(Facet):
    """By owner."""

    title, parameter = _("Owner"), "owner"

    def narrow(self, objects: QuerySet[ManagedObject], value: str) -> QuerySet[ManagedObject]:
        return objects.filter(owner=value)


class GroupFacet(Facet):
    """By Object Group."""

    title, parameter = _("Group"), "group"

    def attribute(self) -> Key:
        return Tag.OBJECT_GROUP


class TagFacet(Facet):
    """By a tag of the JSON dialect."""

    title, parameter = _("Tag"), "tag"

    def attribute(self) -> Key:
        return tag_key()

    def parsed(self, value: str) -> Item:
        return Item(Tag.ATTRIBUTE_VALUE, Type.TEXT_STRING, value)


FACETS = (
    TypeFacet,
    StateFacet,
    AlgorithmFacet,
    LengthFacet,
    ExpiryFacet,
    RotationFacet,
    OwnerFacet,
    GroupFacet,
    TagFacet,
)


def search(objects: QuerySet[ManagedObject], text: str, namespace: str) -> tuple[QuerySet[ManagedObject], bool]:
    """The objects whose identifier, name or tag begins with a text, and whether there were too many to take all."""
    labels = (Tag.NAME.spelling, store.attribute_label(tag_key()))
    rows = ObjectIndex.objects.filter(_begins("value", text), namespace=namespace, attribute__in=labels)
    keys = list(rows.values_list("object_id", flat=True)[:MATCHES])
    identified = ManagedObject.objects.filter(_begins("uid", store.key_of(namespace, text)), namespace=namespace)
    keys += identified.values_list("uid", flat=True)[:MATCHES]
    return objects.filter(uid__in=keys), len(keys) >= MATCHES


def _begins(column: str, text: str) -> Q:
    if connection.vendor == "postgresql":
        # Its order of texts is a language's, in which a beginning is no range.
        return Q(**{f"{column}__startswith": text})
    return Q(**{f"{column}__gte": text, f"{column}__lt": text + LAST})


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
        page = self.queryset
        if after is not None:
            page = page.filter(serial__gt=after).order_by("serial")
        elif before is not None:
            page = page.filter(serial__lt=before)
        rows = store.fetch_all(page[: PAGE + 1], int(time.time()))
        more = len(rows) > PAGE
        rows = rows[:PAGE]
        if after is not None:
            rows.reverse()
        self.result_list = rows
        self.result_count = len(rows)
        self.show_full_result_count = False
        self.full_result_count = None
        self.show_admin_actions = bool(rows)
        self.can_show_all = False
        self.multi_page = more
        has_newer = more if after is not None else before is not None
        has_older = True if after is not None else more
        self.newer = self.get_query_string({"after": rows[0].serial}, ["before"]) if rows and has_newer else ""
        self.older = self.get_query_string({"before": rows[-1].serial}, ["after"]) if rows and has_older else ""
        self.first = self.get_query_string(remove=["before", "after"]) if before or after else ""
        self.filters = urlencode([(n, v) for n, v in request.GET.items() if n not in ("before", "after") and v])


def _serial(request: HttpRequest, name: str) -> int | None:
    value = request.GET.get(name, "")
    return int(value) if value.isdecimal() and len(value) < 19 else None


class ManagedObjectAdmin(admin.ModelAdmin):
    """Managed objects: looked at here, changed only by operations of the engine."""

    list_filter = FACETS
    search_fields = ("uid",)
    list_per_page = PAGE
    show_full_result_count = False
    change_list_template = "ui/objects.html"
    actions = ("activate", "revoke", "destroy", "group")

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
        term = search_term.strip()
        if not term:
            return queryset, False
        found, many = search(queryset, term, session.identity(request).namespace)
        if many:
            messages.info(
                request, gettext("Very many objects match; the list shows some of them. Search for more of the name.")
            )
        return found, False

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
            lines, media = _csv(_all(listed.queryset)), "text/csv"
        elif form == "json":
            lines, media = _json(_all(listed.queryset)), "application/json"
        else:
            return HttpResponse(status=404)
        return StreamingHttpResponse(
            lines, content_type=media, headers={"Content-Disposition": f'attachment; filename="objects.{form}"'}
        )

    # Batch actions.

    @admin.action(description=_("Activate…"))
    def activate(self, request: HttpRequest, queryset: QuerySet[ManagedObject]) -> HttpResponse | None:
        return self._batch(request, queryset, Operation.ACTIVATE, "activate")

    @admin.action(description=_("Revoke…"))
    def revoke(self, request: HttpRequest, queryset: QuerySet[ManagedObject]) -> HttpResponse | None:
        return self._batch(request, queryset, Operation.REVOKE, "revoke")

    @admin.action(description=_("Destroy…"))
    def destroy(self, request: HttpRequest, queryset: QuerySet[ManagedObject]) -> HttpResponse | None:
        return self._batch(request, queryset, Operation.DESTROY, "destroy")

    @admin.action(description=_("Add to a group…"))
    def group(self, request: HttpRequest, queryset: QuerySet[ManagedObject]) -> HttpResponse | None:
        return self._batch(request, queryset, Operation.ADD_ATTRIBUTE, "group")

    def _batch(
        self, request: HttpRequest, queryset: QuerySet[ManagedObject], operation: Operation, name: str
    ) -> HttpResponse | None:
        """Show what an action will do to each object, and do it once that is confirmed."""
        # By identifier, each with the person's own rights on it; never more than a page of them.
        uids = request.POST.getlist(helpers.ACTION_CHECKBOX_NAME)[:PAGE]
        found = [session.managed(request, uid) for uid in uids]
        chosen = [managed for managed in found if managed is not None]
        form_class = lifecycle.FORMS[operation]
        confirmed = "confirm" in request.POST
        form = form_class(request.POST if confirmed else None)
        plans = [(managed, lifecycle.plan(request, operation, managed)) for managed in chosen]
        if confirmed and form.is_valid():
            self._carry_out(request, operation, form, [m for m, plan in plans if plan.possible])
            return None
        context = {
            **self.admin_site.each_context(request),
            "title": lifecycle.TITLES[operation],
            "section": "objects",
            "action": name,
            "form": form,
            "plans": [(address_of(managed.uid), managed, name_of(managed.attributes), plan) for managed, plan in plans],
            "possible": sum(plan.possible for _, plan in plans),
            "checkbox": helpers.ACTION_CHECKBOX_NAME,
            "grave": operation == Operation.DESTROY,
        }
        return TemplateResponse(request, "ui/batch.html", context)

    def _carry_out(self, request: HttpRequest, operation: Operation, form: Any, chosen: list[Managed]) -> None:
        done = 0
        for managed in chosen:
            try:
                session.carry_out(request, operation, form.payload(managed.uid))
                done += 1
            except KMIPError as exc:
                messages.error(request, f"{name_of(managed.attributes) or managed.uid}: {exc.message}")
        if done:
            messages.success(request, ngettext("%(n)d object is done.", "%(n)d objects are done.", done) % {"n": done})


# Export.


def _all(objects: QuerySet[ManagedObject]) -> Iterator[Managed]:
    """Every object of a query, read in pages."""
    last: int | None = None
    while True:
        page = objects if last is None else objects.filter(serial__lt=last)
        rows = store.fetch_all(page[:500], int(time.time()))
        yield from rows
        if len(rows) < 500:
            return
        last = rows[-1].serial


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
