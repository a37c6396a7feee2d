"""What a list of objects can be narrowed by: the facets of Django's change list, and the search."""

import time
from collections.abc import Iterator
from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db import connection
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.http import HttpRequest
from django.utils.functional import Promise
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from keystore import addressing, store
from keystore.crypto.algorithms import ALGORITHMS
from keystore.models import ManagedObject, ObjectIndex
from kmip.enums import CryptographicAlgorithm, ObjectType, State
from kmip.tags import Tag
from ui import session, tally
from ui.paging import FEW
from ui.words import TYPES, label

#: A search looks at the first of these matches; more are told to narrow the search.
MATCHES = 1000
#: Above every character that names use.
LAST = "\U0010ffff"


def _keys(rows: QuerySet[Any], column: str = "uid") -> list[str] | None:
    found = list(rows.order_by().values_list(column, flat=True)[: FEW + 1])
    return found if len(found) <= FEW else None


class Facet(admin.ListFilter):
    """A filter with one parameter; one with choices is a list to pick from, else a text to type."""

    title: Promise
    parameter = ""

    def __init__(self, request: HttpRequest, params: dict[str, Any], model: Any, model_admin: Any) -> None:
        super().__init__(request, params, model, model_admin)
        self.value = (params.pop(self.parameter, None) or [""])[-1].strip()
        self.namespace = session.identity(request).namespace
        self.wanted: Any = None
        self.senseless = False
        if self.value:
            try:
                self.wanted = self.parsed(self.value)
            except (ValueError, KeyError):
                self.senseless = True

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
        """All of them: `paging` narrows the list, in its own order."""
        return queryset

    def parsed(self, value: str) -> Any:
        """What the value stands for; raises `KeyError` or `ValueError` where that is nothing."""
        return value

    def few(self) -> list[str] | None:
        """See `paging.Narrowing`."""
        if self.senseless:
            return []
        found = self.indexed()
        return None if found is None else _keys(found)

    def indexed(self) -> QuerySet[ManagedObject] | None:
        """A query for all objects with the value that some index answers; None where there is no such index."""
        return None

    def narrow(self, objects: QuerySet[ManagedObject]) -> QuerySet[ManagedObject]:
        """See `paging.Narrowing`."""
        raise NotImplementedError


class ColumnFacet(Facet):
    """By an attribute that is a column of its own."""

    column = ""

    def narrow(self, objects: QuerySet[ManagedObject]) -> QuerySet[ManagedObject]:
        return objects.filter(**{self.column: self.wanted})


class TypeFacet(ColumnFacet):
    """By Object Type."""

    title, parameter, column = _("Type"), "type", "object_type"

    def options(self) -> list[tuple[str, str]]:
        return [(one.spelling, str(TYPES[one])) for one in ObjectType]

    def parsed(self, value: str) -> ObjectType:
        return ObjectType.by_spelling()[value]

    def indexed(self) -> QuerySet[ManagedObject]:
        return ManagedObject.objects.filter(namespace=self.namespace, object_type=self.wanted)


class StateFacet(ColumnFacet):
    """By the state that counts now."""

    title, parameter, column = _("State"), "state", "state"

    def options(self) -> list[tuple[str, str]]:
        return [(one.spelling, label(one)) for one in State]

    def parsed(self, value: str) -> State:
        return State.by_spelling()[value]

    def indexed(self) -> QuerySet[ManagedObject]:
        store.settle_due(int(time.time()))
        return ManagedObject.objects.filter(namespace=self.namespace, state=self.wanted)


class AlgorithmFacet(ColumnFacet):
    """By Cryptographic Algorithm."""

    title, parameter, column = _("Algorithm"), "algorithm", "cryptographic_algorithm"

    def options(self) -> list[tuple[str, str]]:
        return [(one.spelling, one.spelling) for one in sorted(ALGORITHMS, key=str)]

    def parsed(self, value: str) -> CryptographicAlgorithm:
        return CryptographicAlgorithm.by_spelling()[value]

    def indexed(self) -> QuerySet[ManagedObject]:
        # The index has the state before the algorithm.
        return ManagedObject.objects.filter(
            namespace=self.namespace, state__in=list(State), cryptographic_algorithm=self.wanted
        )


class LengthFacet(ColumnFacet):
    """By Cryptographic Length."""

    title, parameter, column = _("Length"), "length", "cryptographic_length"

    def parsed(self, value: str) -> int:
        length = int(value)
        if not 0 <= length < 2**31:
            raise ValueError(value)
        return length


class OwnerFacet(ColumnFacet):
    """By owner."""

    title, parameter, column = _("Owner"), "owner", "owner"

    def indexed(self) -> QuerySet[ManagedObject]:
        return ManagedObject.objects.filter(namespace=self.namespace, owner=self.wanted)


class DaysFacet(Facet):
    """By something that comes within some days."""

    def options(self) -> list[tuple[str, str]]:
        return [(str(days), gettext("within %(days)d days") % {"days": days}) for days in tally.WINDOWS]

    def parsed(self, value: str) -> int:
        days = int(value)
        if not 0 <= days <= 36_500:
            raise ValueError(value)
        return days


class ExpiryFacet(DaysFacet):
    """By how soon an active object is deactivated."""

    title, parameter = _("Expiry"), "expiry"

    def indexed(self) -> QuerySet[ManagedObject]:
        return tally.changing(self.wanted, int(time.time()))

    def narrow(self, objects: QuerySet[ManagedObject]) -> QuerySet[ManagedObject]:
        return tally.expiring(objects, self.wanted, int(time.time()))


class RotationFacet(DaysFacet):
    """By how soon the server is to rotate an object."""

    title, parameter = _("Rotation"), "rotation"

    def indexed(self) -> QuerySet[ManagedObject]:
        return self.narrow(ManagedObject.objects.all())

    def narrow(self, objects: QuerySet[ManagedObject]) -> QuerySet[ManagedObject]:
        return tally.rotating(objects, self.wanted, int(time.time()))


class ValueFacet(Facet):
    """By a value in the index of attributes."""

    def labels(self) -> list[str]:
        """How the index calls the attribute."""
        raise NotImplementedError

    def _rows(self) -> QuerySet[ObjectIndex]:
        return ObjectIndex.objects.filter(
            namespace=self.namespace, attribute__in=self.labels(), value=store.short(self.wanted)
        )

    def few(self) -> list[str] | None:
        return _keys(self._rows(), "object_id")

    def narrow(self, objects: QuerySet[ManagedObject]) -> QuerySet[ManagedObject]:
        # By the serial number too: the index then has the one row that is asked for.
        mine = self._rows().filter(serial=OuterRef("serial"), object_id=OuterRef("uid"))
        return objects.filter(Exists(mine))


class GroupFacet(ValueFacet):
    """By Object Group."""

    title, parameter = _("Group"), "group"

    def labels(self) -> list[str]:
        return [store.attribute_label(Tag.OBJECT_GROUP)]


class TagFacet(ValueFacet):
    """By a tag of the JSON dialect."""

    title, parameter = _("Tag"), "tag"

    def labels(self) -> list[str]:
        return addressing.tag_labels()


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


class Search:
    """The objects whose identifier, name or tag begins with a text; `many` says that not all were taken."""

    def __init__(self, text: str, namespace: str) -> None:
        labels = [Tag.NAME.spelling, *addressing.tag_labels()]
        rows = ObjectIndex.objects.filter(_begins("value", text), namespace=namespace, attribute__in=labels)
        self._found = list(rows.values_list("object_id", flat=True)[:MATCHES])
        identified = ManagedObject.objects.filter(_begins("uid", store.key_of(namespace, text)))
        self._found += identified.values_list("uid", flat=True)[:MATCHES]
        self.many = len(self._found) >= MATCHES

    def few(self) -> list[str]:
        """See `paging.Narrowing`."""
        return self._found

    def narrow(self, objects: QuerySet[ManagedObject]) -> QuerySet[ManagedObject]:
        """See `paging.Narrowing`."""
        return objects


def _begins(column: str, text: str) -> Q:
    if connection.vendor == "postgresql":
        # Its order of texts is a language's, in which a beginning is no range.
        return Q(**{f"{column}__startswith": text})
    return Q(**{f"{column}__gte": text, f"{column}__lt": text + LAST})
