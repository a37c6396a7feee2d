"""The only queries. A `Managed` is one object's row with its attributes unpacked when somebody looks at them.

Nothing here decides who may see what: callers pass the namespace, `policy` decides the rest. Every change is
conditional on the row's version, so that two nodes never overwrite one another unseen.
"""

import functools
import hashlib
import os
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any, Final, NamedTuple, Protocol

import orjson
from django.db import IntegrityError, connection, transaction
from django.db.models import Aggregate, BigIntegerField, Case, F, Func, OuterRef, Q, QuerySet, Subquery, Value, When

from keystore import compiled, sealing, states
from keystore.grouping import groups
from keystore.kept import Kept
from keystore.models import Grant, ManagedObject, ObjectIndex, SealingKey
from kmip.attributes import BY_TAG, Attributes, Key, Row
from kmip.enums import (
    CryptographicAlgorithm,
    Enumeration,
    KeyFormatType,
    ObjectType,
    ResultReason,
    State,
    StorageStatusMask,
)
from kmip.errors import KMIPError
from kmip.tags import Tag
from kmip.ttlv import Item, Type
from kmip.versions import V2_1

#: The attributes that are columns of their own.
COLUMNS: Final[dict[Tag, str]] = {
    Tag.OBJECT_TYPE: "object_type",
    Tag.STATE: "state",
    Tag.CRYPTOGRAPHIC_ALGORITHM: "cryptographic_algorithm",
    Tag.CRYPTOGRAPHIC_LENGTH: "cryptographic_length",
    Tag.CRYPTOGRAPHIC_USAGE_MASK: "cryptographic_usage_mask",
    Tag.KEY_FORMAT_TYPE: "key_format_type",
    Tag.INITIAL_DATE: "initial_date",
    Tag.ACTIVATION_DATE: "activation_date",
    Tag.PROCESS_START_DATE: "process_start_date",
    Tag.PROTECT_STOP_DATE: "protect_stop_date",
    Tag.DEACTIVATION_DATE: "deactivation_date",
    Tag.DESTROY_DATE: "destroy_date",
    Tag.COMPROMISE_DATE: "compromise_date",
    Tag.COMPROMISE_OCCURRENCE_DATE: "compromise_occurrence_date",
    Tag.ARCHIVE_DATE: "archive_date",
    Tag.LAST_CHANGE_DATE: "last_change_date",
    Tag.ORIGINAL_CREATION_DATE: "original_creation_date",
    Tag.FRESH: "fresh",
    Tag.SENSITIVE: "sensitive",
    Tag.EXTRACTABLE: "extractable",
}
_ENUMERATIONS: Final = {
    "object_type": ObjectType,
    "state": State,
    "cryptographic_algorithm": CryptographicAlgorithm,
    "key_format_type": KeyFormatType,
    "fresh": bool,
    "sensitive": bool,
    "extractable": bool,
}
FIELDS: Final = (
    "uid",
    "namespace",
    "owner",
    *COLUMNS.values(),
    "next_change",
    "next_rotation",
    "serial",
    "usage_remaining",
    "attributes",
    "material",
    "version",
)
#: Longer values of an index row keep their beginning, for searches, and end in a digest.
VALUE_LENGTH: Final = 130
SEPARATOR: Final = "\x1f"


#: Attribute, value, and the value that must be unique or None.
IndexRow = tuple[str, str, str | None]


class Conflict(Exception):
    """The row has changed since it was read; the caller may read it again and retry."""


class Managed:
    """One managed object as operations see it."""

    __slots__ = ("_attributes", "blob", "columns", "material_changed", "namespace", "new", "owner", "packed",
                 "rights", "serial", "uid", "usage_remaining", "version")  # fmt: skip

    def __init__(self, uid: str, namespace: str, owner: str, attributes: Attributes | None = None) -> None:
        self.uid = uid
        self.namespace = namespace
        self.owner = owner
        self.columns: dict[str, Any] = {}
        self.packed: Any = None
        self.blob: bytes | None = None
        self.serial = 0
        #: Operations granted to whom it was fetched for, a bit each; all of them (-1) for the owner.
        self.rights = 0
        self.usage_remaining: int | None = None
        self.version = 1
        self.new = True
        self.material_changed = False
        self._attributes = attributes

    def __repr__(self) -> str:
        return f"<Managed {self.uid}>"

    @property
    def key(self) -> str:
        """The primary key of the object's row."""
        return key_of(self.namespace, self.uid)

    @property
    def attributes(self) -> Attributes:
        """Every attribute that the server keeps or derives."""
        if self._attributes is None:
            self._attributes = self._stored_attributes()
        return self._attributes

    def _stored_attributes(self) -> Attributes:
        packed = self.packed
        attributes = Attributes.unpack(orjson.loads(packed) if isinstance(packed, str | bytes) else packed)
        for tag, column in COLUMNS.items():
            value = self.columns[column]
            if value is not None:
                cls = _ENUMERATIONS.get(column)
                attributes[tag] = {0: value if cls is None else cls(value)}
        attributes[Tag.UNIQUE_IDENTIFIER] = {0: self.uid}
        if self.usage_remaining is not None and attributes.usage_limits is not None:
            attributes.usage_limits.usage_limits_count = self.usage_remaining
        return attributes

    def stored_index(self) -> "set[IndexRow]":
        """The index rows that the database holds for the object."""
        return set(index_rows(self.namespace, self._stored_attributes()))

    @property
    def state(self) -> State:
        """The state that counts now."""
        if self._attributes is not None:
            return self._attributes.state  # type: ignore[no-any-return]
        return State(self.columns["state"])

    @property
    def object_type(self) -> ObjectType:
        """The object's type."""
        if self._attributes is not None:
            return self._attributes.object_type  # type: ignore[no-any-return]
        return ObjectType(self.columns["object_type"])

    @property
    def material(self) -> bytes | None:
        """The encoded object, opened; None when it is destroyed or elsewhere."""
        if self.columns.get("archive_date") is not None:
            raise KMIPError(ResultReason.OBJECT_ARCHIVED, "the object is archived: recover it first")
        return self._opened()

    @material.setter
    def material(self, value: bytes | None) -> None:
        self.material_changed = True
        self.blob = None if value is None else sealing.sealer().seal(value, self.key, self.version)

    def _opened(self) -> bytes | None:
        return None if self.blob is None else sealing.sealer().open(self.blob, self.key, self.version)


# Reading.


DEFAULT_NAMESPACE: Final = "default"


def key_of(namespace: str, uid: str) -> str:
    """The primary key of an object's row: namespaces do not see one another's identifiers, not even as taken."""
    return uid if namespace == DEFAULT_NAMESPACE else f"{namespace}{SEPARATOR}{uid}"


def uid_of(key: str) -> str:
    """The identifier in a primary key."""
    return key.rpartition(SEPARATOR)[2]


class Principals(Protocol):
    """Whom rights are looked up for."""

    @property
    def namespace(self) -> str:
        """The only namespace whose objects exist."""

    @property
    def username(self) -> str:
        """The owner of some."""

    @property
    def principals(self) -> tuple[str, ...]:
        """The user, its groups and everybody, as grants name them."""


class _Together(Aggregate):
    """The bits that are set in any of several numbers."""

    output_field = BigIntegerField()

    def as_sql(self, compiler: Any, connection: Any, **context: Any) -> Any:  # type: ignore[override]
        return super().as_sql(compiler, connection, function="BIT_OR", **context)

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        # SQLite has no such function; `_bits` takes the list apart.
        return super().as_sql(compiler, connection, function="GROUP_CONCAT", **context)


class DatabaseSeconds(Func):
    """Seconds since 1970 by the database's clock: nodes may differ about the time."""

    output_field = BigIntegerField()

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return "CAST((julianday('now') - 2440587.5) * 86400 AS INTEGER)", []

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return "CAST(EXTRACT(EPOCH FROM STATEMENT_TIMESTAMP()) AS BIGINT)", []

    def as_mysql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return "UNIX_TIMESTAMP()", []


def granted_to(principals: Sequence[str]) -> QuerySet[Grant]:
    """The grants that hold now for any of these."""
    return Grant.objects.filter(Q(expires=0) | Q(expires__gt=DatabaseSeconds()), principal__in=principals)


def _with_rights(count: int) -> QuerySet[ManagedObject]:
    """One object and the operations that its user, as the owner or one of `count` principals, may carry out."""
    granted = (
        granted_to(["x"] * count if count == 1 else [f"x{n}" for n in range(count)])
        .filter(object=OuterRef("uid"))
        .order_by()
        .values("object")
        .annotate(bits=_Together("operations"))
        .values("bits")
    )
    return ManagedObject.objects.filter(uid="x").annotate(
        rights=Case(When(owner="x", then=Value(-1)), default=Subquery(granted), output_field=_AsStored())
    )


class _AsStored(BigIntegerField):  # type: ignore[type-arg] # not generic at run time
    """A number that is left as the driver gives it."""

    def get_db_converters(self, connection: Any) -> list[Any]:
        return []


def _bits(value: Any) -> int:
    """What `_Together` found: a number, numbers separated by commas, or nothing."""
    if isinstance(value, int):
        return value
    bits = 0
    for number in str(value).split(",") if value else ():
        bits |= int(number)
    return bits


_PROBED: Final[tuple[str, ...]] = ("version", "fresh", "usage_remaining")


@functools.cache
def _statements(count: int) -> tuple[compiled.Statement, compiled.Statement]:
    """For a number of principals: what may change without a new version of the row, and the whole row."""
    parameters = count + 4  # user name, all rights, no expiry, the principals, the key
    probe = compiled.select(lambda: _with_rights(count).values_list(*_PROBED, "rights"), parameters)
    return probe, compiled.select(lambda: _with_rights(count).values_list(*FIELDS, "rights"), parameters)


class Rows:
    """Rows as they were last read, sealed material and all, by identifier; used while the version is still theirs."""

    def __init__(self, size: int) -> None:
        self._rows: dict[str, Sequence[Any]] = {}
        self._size = size

    def get(self, uid: str, version: int) -> Sequence[Any] | None:
        """The row of an object at a version."""
        row = self._rows.get(uid)
        return row if row is not None and row[-1] == version else None

    def put(self, uid: str, row: Sequence[Any]) -> None:
        """Keep a row; the oldest goes when there are too many."""
        rows = self._rows
        if len(rows) >= self._size:
            with suppress(StopIteration, KeyError, RuntimeError):
                del rows[next(iter(rows))]
        rows[uid] = row

    def clear(self) -> None:
        """Forget every row."""
        self._rows.clear()


#: A row takes one to three kilobytes.
rows = Rows(8192)
#: Keys opened for use (`opened` makes them), for an hour at most; a parsed RSA key takes some ten kilobytes.
opened_keys: Final[Kept[Any]] = Kept(4096, 3600)
sealing.when_forgotten(opened_keys.clear)


def fetch(uid: str, now: int, who: Principals, *, lock: bool = False) -> Managed | None:
    """The object that an identifier names in the namespace of `who`, with the rights that `who` has on it by owning it
    or by grants, transitions due by `now` applied; `lock` keeps others from changing it. One indexed query."""
    key, principals = key_of(who.namespace, uid), who.principals
    probe, whole = _statements(len(principals))
    parameters = (who.username, -1, 0, *principals, key)
    if lock:
        row = whole.first(parameters, suffix=" FOR UPDATE" if connection.features.has_select_for_update else "")
        if row is None:
            return None
        managed = _managed(row[:-1], now)
        managed.rights = _bits(row[-1])
        return managed
    found = probe.first(parameters)
    if found is None:
        return None
    version, fresh, usage_remaining, rights = found
    row = rows.get(key, version)
    if row is None:
        row = whole.first(parameters)
        if row is None:
            return None
        row, rights = row[:-1], row[-1]
        rows.put(key, row)
        opened_keys.drop(key)
        managed = _managed(row, now)
    else:
        managed = _managed(row, now)
        managed.columns["fresh"] = fresh
        managed.usage_remaining = usage_remaining
    managed.rights = _bits(rights)
    return managed


_FIRST_COLUMN = 3
_LAST_COLUMN = 3 + len(COLUMNS)
_COLUMN_NAMES = tuple(COLUMNS.values())


def _managed(row: Sequence[Any], now: int) -> Managed:
    managed = Managed(uid_of(row[0]), row[1], row[2])
    managed.new = False
    managed.columns = dict(zip(_COLUMN_NAMES, row[_FIRST_COLUMN:_LAST_COLUMN], strict=True))
    next_change, _, managed.serial, managed.usage_remaining, managed.packed, blob, managed.version = row[_LAST_COLUMN:]
    managed.blob = None if blob is None else bytes(blob)
    if next_change is not None and next_change <= now:
        states.settle(managed.attributes, now)
    return managed


def fetch_all(objects: QuerySet[ManagedObject], now: int) -> list[Managed]:
    """The objects of a query."""
    return [_managed(row, now) for row in objects.values_list(*FIELDS)]


# Writing.

_serial_lock = threading.Lock()
_last_serial = 0


def new_uid() -> str:
    """A time-ordered identifier (UUID version 7, RFC 9562), so that inserts stay in one place of the index."""
    stamp = time.time_ns() // 1_000_000
    random = int.from_bytes(os.urandom(10), "big")
    number = stamp << 80 | 7 << 76 | (random >> 68 & 0xFFF) << 64 | 0b10 << 62 | random & 0x3FFFFFFFFFFFFFFF
    text = f"{number:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _new_serial() -> int:
    global _last_serial
    with _serial_lock:
        _last_serial = max(_last_serial + 1, time.time_ns() // 1000)
        return _last_serial


def save(managed: Managed) -> None:
    """Write an object, new or changed; raises `Conflict`, or `KMIPError` for a Name or identifier that is taken."""
    attributes = managed.attributes
    columns = {column: attributes.first(tag) for tag, column in COLUMNS.items()}
    columns["next_change"] = states.next_change(attributes)
    columns["next_rotation"] = states.next_rotation(attributes)
    rest = Attributes({key: values for key, values in attributes.items() if key not in COLUMNS and key not in _DERIVED})
    columns["attributes"] = rest.pack()
    limits = attributes.usage_limits
    index = set(index_rows(managed.namespace, attributes))
    if managed.new:
        managed.serial = _new_serial()
        managed.usage_remaining = None if limits is None else limits.usage_limits_count
        try:
            with _guarded():
                _INSERT.run(_values(managed, columns, managed.version))
                _add_index(managed, index)
        except IntegrityError as exc:
            raise _taken(managed, index, exc) from exc
        managed.new = False
    else:
        if limits is None or managed.usage_remaining is None or limits.usage_limits_count != managed.usage_remaining:
            managed.usage_remaining = None if limits is None else limits.usage_limits_count
        old = managed.version
        if managed.blob is not None:
            material = managed._opened()
            assert material is not None
            purpose = sealing.MATERIAL if attributes.archive_date is None else sealing.ARCHIVE
            managed.blob = sealing.sealer().seal(material, managed.key, old + 1, purpose=purpose)
        if not _UPDATE.run((*_values(managed, columns, old + 1), managed.key, old)):
            raise Conflict(managed.uid)
        managed.version = old + 1
        before = managed.stored_index()
        gone, come = before - index, index - before
        if gone:
            for attribute, value, _ in gone:
                ObjectIndex.objects.filter(object_id=managed.key, attribute=attribute, value=value).delete()
        if come:
            try:
                with _guarded():
                    _add_index(managed, come)
            except IntegrityError as exc:
                raise _taken(managed, come, exc) from exc
    opened_keys.drop(managed.key)
    managed.columns = {column: columns[column] for column in COLUMNS.values()}
    managed.packed = columns["attributes"]


#: Every column, in the order of `FIELDS`.
_INSERT = compiled.insert(ManagedObject, FIELDS)
_UPDATE = compiled.update(ManagedObject, FIELDS, where=("uid", "version"))
_INSERT_INDEX = compiled.insert(ObjectIndex, ("object", "namespace", "attribute", "value", "serial", "unique_value"))


def _values(managed: Managed, columns: dict[str, Any], version: int) -> list[Any]:
    return [
        managed.key,
        managed.namespace,
        managed.owner,
        # A driver may write an enumeration by its name.
        *(int(value) if isinstance(value := columns[name], Enumeration) else value for name in _COLUMN_NAMES),
        columns["next_change"],
        columns["next_rotation"],
        managed.serial,
        managed.usage_remaining,
        orjson.dumps(columns["attributes"]).decode(),
        managed.blob,
        version,
    ]


def _guarded() -> AbstractContextManager[Any]:
    """A savepoint where a failed statement spoils the transaction, which of the three databases PostgreSQL does."""
    return transaction.atomic() if connection.vendor == "postgresql" else nullcontext()


def _taken(managed: Managed, index: Iterable[IndexRow], exc: Exception) -> Exception:
    unique = [one for _, _, one in index if one is not None]
    if unique and ObjectIndex.objects.filter(unique_value__in=unique).exclude(object_id=managed.key).exists():
        return KMIPError(ResultReason.NON_UNIQUE_NAME_ATTRIBUTE, "another object has this Name")
    if ManagedObject.objects.filter(uid=managed.key).exists():
        return KMIPError(ResultReason.OBJECT_ALREADY_EXISTS, "another object has this identifier")
    return exc


def _add_index(managed: Managed, rows: Iterable[IndexRow]) -> None:
    _INSERT_INDEX.run_many(
        [
            (managed.key, managed.namespace, attribute, value, managed.serial, unique)
            for attribute, value, unique in rows
        ]
    )


def delete(managed: Managed) -> None:
    """Take the row away, attributes and all."""
    opened_keys.drop(managed.key)
    ManagedObject.objects.filter(uid=managed.key).delete()


def no_longer_fresh(key: str) -> None:
    """Note that the object whose row has this key has been given out."""
    ManagedObject.objects.filter(uid=key, fresh=True).update(fresh=False)


def count_down(key: str, amount: int) -> bool:
    """Take `amount` off what is left of the Usage Limits of the object whose row has this key; False where less is."""
    row = ManagedObject.objects.filter(uid=key, usage_remaining__gte=amount)
    return bool(groups.run(lambda: row.update(usage_remaining=F("usage_remaining") - amount)))


# The index of attribute values.

#: Kept nowhere: they follow from the rest of the row.
_DERIVED = frozenset({Tag.UNIQUE_IDENTIFIER})
_FEW_VALUES = frozenset({Type.BOOLEAN, Type.INTERVAL, Type.INTEGER, Type.ENUMERATION, Type.DATE_TIME})
_NOT_IDENTIFYING = frozenset(
    {Tag.CRYPTOGRAPHIC_PARAMETERS, Tag.CRYPTOGRAPHIC_DOMAIN_PARAMETERS, Tag.RANDOM_NUMBER_GENERATOR, Tag.USAGE_LIMITS,
     Tag.REVOCATION_REASON}
)  # fmt: skip


def is_indexed(row: Row) -> bool:
    """Whether the attribute has index rows; the others are columns, or compared in the attributes column."""
    return (
        row.tag not in COLUMNS
        and row.tag not in _DERIVED
        and row.tag not in _NOT_IDENTIFYING
        and row.kind.type not in _FEW_VALUES
    )


_INDEXED = frozenset(row.tag for row in BY_TAG.values() if is_indexed(row))


def attribute_label(key: Key) -> str:
    """How an attribute is called in the index and in the attributes column."""
    return key.spelling if isinstance(key, Tag) else f"{key.vendor}/{key.name}"


def index_value(key: Key, value: Any) -> str:
    """The text that stands for a value in the index."""
    item = BY_TAG[key].kind.item(key, value, V2_1) if isinstance(key, Tag) else value
    text = _text(item)
    if len(text) <= VALUE_LENGTH and "\x00" not in text:
        return text
    return text.replace("\x00", "")[:VALUE_LENGTH] + "#" + hashlib.sha256(text.encode()).hexdigest()


def _text(item: Item | None) -> str:
    if item is None:
        return ""
    if item.type == Type.STRUCTURE:
        return SEPARATOR.join(_text(child) for child in item.value)
    if item.type == Type.BYTE_STRING:
        return str(item.value.hex())
    return item.value if isinstance(item.value, str) else str(int(item.value))


def index_rows(namespace: str, attributes: Attributes) -> Iterator[IndexRow]:
    """Attribute, value and unique value for each index row of an object."""
    destroyed = attributes.state in states.DESTROYED
    seen = set()
    for key, values in attributes.items():
        if isinstance(key, Tag) and key not in _INDEXED:
            continue
        label = attribute_label(key)[:100]
        for value in values.values():
            text = index_value(key, value)
            if (label, text) in seen:
                continue
            seen.add((label, text))
            unique = None
            # A destroyed object keeps its Name; another object may take it.
            if key == Tag.NAME and not destroyed:
                unique = hashlib.sha256(f"{namespace}{SEPARATOR}{value.name_value}".encode()).hexdigest()
            yield label, text, unique


# Locating.


def objects_in(namespace: str) -> QuerySet[ManagedObject]:
    """Every object of a namespace, newest first."""
    return ManagedObject.objects.filter(namespace=namespace).order_by("-serial")


def with_attribute(
    objects: QuerySet[ManagedObject], key: Key, values: list[Any], now: int, *, namespace: str = DEFAULT_NAMESPACE
) -> QuerySet[ManagedObject]:
    """The objects that have a value (two dates are a range: 2.1, 6.1.28)."""
    if isinstance(key, Tag):
        column = COLUMNS.get(key)
        if key == Tag.UNIQUE_IDENTIFIER:
            return objects.filter(uid__in=[key_of(namespace, value) for value in values])
        if key == Tag.STATE:
            return objects.filter(_state_is(values[0], now))
        row = BY_TAG[key]
        if column is not None:
            if row.kind.type == Type.DATE_TIME and len(values) > 1:
                return objects.filter(**{f"{column}__range": (min(values), max(values))})
            if key == Tag.CRYPTOGRAPHIC_USAGE_MASK:
                return objects.annotate(mask=F(column).bitand(values[0])).filter(mask=values[0])
            return objects.filter(**{column: values[0]})
        if key not in _INDEXED:
            packed = Attributes({key: dict(enumerate(values))}).pack()[key.spelling]
            return objects.filter(**{f"attributes__{key.spelling}": packed})
    for value in values:
        objects = objects.filter(
            uid__in=ObjectIndex.objects.filter(
                attribute=attribute_label(key)[:100], value=index_value(key, value)
            ).values("object_id")
        )
    return objects


def _state_is(state: State, now: int) -> Q:
    """The state that counts at `now`, whether or not a transition due has been written down."""
    due = Q(next_change__lte=now)
    if state == State.PRE_ACTIVE:
        return Q(state=State.PRE_ACTIVE) & ~due
    if state == State.ACTIVE:
        begun = Q(state=State.PRE_ACTIVE) & due & (Q(deactivation_date__isnull=True) | Q(deactivation_date__gt=now))
        return (Q(state=State.ACTIVE) & (Q(next_change__isnull=True) | Q(next_change__gt=now))) | begun
    if state == State.DEACTIVATED:
        ended = Q(state__in=(State.PRE_ACTIVE, State.ACTIVE)) & due & Q(deactivation_date__lte=now)
        return Q(state=State.DEACTIVATED) | ended
    return Q(state=state)


def with_status(objects: QuerySet[ManagedObject], mask: int) -> QuerySet[ManagedObject]:
    """The objects that a Storage Status Mask asks for (2.1, 12.4)."""
    wanted = Q(pk__in=[])
    gone = Q(state__in=tuple(states.DESTROYED))
    if mask & StorageStatusMask.ON_LINE_STORAGE:
        wanted |= Q(archive_date__isnull=True) & ~gone
    if mask & StorageStatusMask.ARCHIVAL_STORAGE:
        wanted |= Q(archive_date__isnull=False) & ~gone
    if mask & StorageStatusMask.DESTROYED_STORAGE:
        wanted |= gone
    return objects.filter(wanted)


# Sealing keys.


class SealingRow(NamedTuple):
    """A sealing key as the database has it."""

    number: int
    purpose: str
    wrapped: bytes
    active: bool


def sealing_keys() -> list[SealingRow]:
    """The sealing keys, oldest first."""
    return [
        SealingRow(key.id, key.purpose, bytes(key.wrapped), key.active) for key in SealingKey.objects.order_by("id")
    ]


def add_sealing_key(wrapped: bytes, purpose: str) -> None:
    """Keep a new sealing key."""
    SealingKey.objects.create(wrapped=wrapped, purpose=purpose, created=int(time.time()))


#: So many granted objects are listed in the query itself, which lets every database use its indexes for each half.
FEW_GRANTED: Final = 500


def visible(
    who: Principals, *, operations: int, types: Collection[int] | None = None, everywhere: Collection[int] = ()
) -> QuerySet[ManagedObject]:
    """The objects that a user owns or was granted one of these operations on, newest first: only those of some object
    types where `types` is given, and those of the types in `everywhere` whoever's they are."""
    granted = granted_to(who.principals).filter(namespace=who.namespace)
    granted = granted.annotate(usable=F("operations").bitand(operations & _EVERY_BIT)).filter(usable__gt=0)
    keys = granted.values_list("object_id", flat=True)
    few = list(keys.distinct()[: FEW_GRANTED + 1])
    found = Q(owner=who.username)
    if few:
        found |= Q(uid__in=few if len(few) <= FEW_GRANTED else keys)
    if types is not None:
        found &= Q(object_type__in=types)
    if everywhere:
        found |= Q(object_type__in=everywhere)
    return objects_in(who.namespace).filter(found)


_EVERY_BIT: Final = 2**63 - 1


def uids(objects: QuerySet[ManagedObject], offset: int, limit: int | None) -> list[str]:
    """Identifiers in order, from `offset`, at most `limit`."""
    end = None if limit is None else offset + max(limit, 0)
    return [uid_of(key) for key in objects.values_list("uid", flat=True)[offset:end]]
