"""The only queries. A `Managed` is one object's row with its attributes unpacked when somebody looks at them.

Nothing here decides who may see what: callers pass the namespace, `policy` decides the rest. Every change is
conditional on the row's version, so that two nodes never overwrite one another unseen.
"""

import functools
import hashlib
import os
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any, Final, NamedTuple, Protocol

import orjson
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.db.models import Aggregate, BigIntegerField, Case, F, OuterRef, Q, QuerySet, Subquery, Value, When
from django.db.models.functions import Concat

from keystore import clock, compiled, sealing, states
from keystore.grouping import atomic, groups
from keystore.kept import Kept
from keystore.models import Grant, ManagedObject, ObjectIndex, RootKey, SealingKey
from keystore.replica import replica
from kmip.attributes import BY_TAG, Attributes, Key, Row, pack_item
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
from kmip.structures import UsageLimits
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


def enumeration_of(column: str) -> Callable[[int], str] | None:
    """What makes a column's number the name of a value; None for columns that are plain values."""
    kind = _ENUMERATIONS.get(column)
    return None if kind is None or kind is bool else lambda value: str(kind(value).spelling)


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
#: Longer values of an index row end in a digest.
VALUE_LENGTH: Final = 200
LABEL_LENGTH: Final = 100
SEPARATOR: Final = "\x1f"


#: Attribute, value, what else the value says, and the value that must be unique or None.
IndexRow = tuple[str, str, str, str | None]


class Conflict(Exception):
    """The row has changed since it was read; the caller may read it again and retry."""


#: How PostgreSQL (SQLSTATE) and MariaDB (error number) say that they gave a transaction up for the sake of another:
#: deadlocks, and rows that have changed since its snapshot.
_GIVEN_UP: Final = frozenset({"40P01", "40001", 1213, 1020})


def gave_up(exc: Exception) -> bool:
    """Whether the database gave the whole transaction up for another's sake, so that it may be tried again."""
    cause = exc.__cause__
    told = getattr(cause, "sqlstate", None) or (cause.args[0] if cause is not None and cause.args else None)
    return isinstance(exc, DatabaseError) and told in _GIVEN_UP


class Managed:
    """One managed object as operations see it."""

    __slots__ = ("_attributes", "blob", "columns", "material_changed", "namespace", "new",
                 "next_change", "next_rotation", "owner", "packed", "rights", "serial", "uid", "usage_remaining",
                 "version")  # fmt: skip

    def __init__(self, uid: str, namespace: str, owner: str, attributes: Attributes | None = None) -> None:
        self.uid = uid
        self.namespace = namespace
        self.owner = owner
        #: As they were read; others may have the same.
        self.columns: Mapping[str, Any] = {}
        #: When the next transition, and the next rotation, is due.
        self.next_change: int | None = None
        self.next_rotation: int | None = None
        self.packed: Any = None
        self.blob: bytes | None = None
        self.serial = 0
        #: Operations granted to whom it was fetched for, a bit each; all of them (-1) for the owner.
        self.rights = 0
        self.usage_remaining: int | None = None
        # Counted on from the time: an identifier that is used again has no version that its former row had, or what
        # other processes keep of that row would pass for its own.
        self.version = time.time_ns() // 1000
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
        attributes = Attributes.unpack(self.unpacked())
        for tag, column in COLUMNS.items():
            value = self.columns[column]
            if value is not None:
                cls = _ENUMERATIONS.get(column)
                attributes[tag] = {0: value if cls is None else cls(value)}
        attributes[Tag.UNIQUE_IDENTIFIER] = {0: self.uid}
        if self.usage_remaining is not None and attributes.usage_limits is not None:
            attributes.usage_limits.usage_limits_count = self.usage_remaining
        return attributes

    def unpacked(self) -> dict[str, Any]:
        """What the attributes column holds."""
        packed = self.packed
        return orjson.loads(packed) if isinstance(packed, str | bytes) else packed  # type: ignore[no-any-return]

    @property
    def state(self) -> State:
        """The state that counts now."""
        if self._attributes is not None:
            return self._attributes.state  # type: ignore[no-any-return]
        return State.of(self.columns["state"])

    @property
    def object_type(self) -> ObjectType:
        """The object's type."""
        if self._attributes is not None:
            return self._attributes.object_type  # type: ignore[no-any-return]
        return ObjectType.of(self.columns["object_type"])

    @property
    def material(self) -> bytes | None:
        """The encoded object, opened; None when it is destroyed or elsewhere."""
        if self.columns.get("archive_date") is not None:
            raise KMIPError(ResultReason.OBJECT_ARCHIVED, "the object is archived: recover it first")
        return self.stored_material()

    @material.setter
    def material(self, value: bytes | None) -> None:
        self.material_changed = True
        self.blob = None if value is None else sealing.sealer().seal(value, self.key, self.version)

    def stored_material(self) -> bytes | None:
        """Like `material`, of an archived object too."""
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


def in_force() -> Q:
    """Grants that have not expired."""
    return Q(expires=0) | Q(expires__gt=clock.Now())


def granted_to(principals: Sequence[str]) -> QuerySet[Grant]:
    """The grants that hold now for any of these."""
    return Grant.objects.filter(in_force(), principal__in=principals)


def grants_on(key: str) -> QuerySet[Grant]:
    """The grants that hold now on an object, by its row's key."""
    return Grant.objects.filter(in_force(), object_id=key)


def _with_rights(count: int, objects: int = 1) -> QuerySet[ManagedObject]:
    """Some objects and the operations that a user, as the owner or one of `count` principals, may carry out."""
    granted = (
        granted_to(["x"] * count if count == 1 else [f"x{n}" for n in range(count)])
        .filter(object=OuterRef("uid"))
        .order_by()
        .values("object")
        .annotate(bits=_Together("operations"))
        .values("bits")
    )
    wanted = Q(uid="x") if objects == 1 else Q(uid__in=[f"x{n}" for n in range(objects)])
    return ManagedObject.objects.filter(wanted).annotate(
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


#: Objects that are looked up together.
AHEAD: Final = 16
#: What may change without a new version of the row, with the version: as the probe reads it.
Probed = Sequence[Any]


@functools.cache
def _ahead(count: int) -> compiled.Statement:
    return compiled.select(lambda: _with_rights(count, AHEAD).values_list(*_PROBED, "rights", "uid"), count + 3 + AHEAD)


def look_ahead(uids: Collection[str], who: Principals) -> dict[str, Probed]:
    """What `fetch` would first ask of each of these objects, in one query for all of them."""
    keys = [key_of(who.namespace, uid) for uid in uids]
    found: dict[str, Probed] = {}
    for start in range(0, len(keys), AHEAD):
        some = keys[start : start + AHEAD]
        some += some[-1:] * (AHEAD - len(some))
        principals = who.principals
        for row in _ahead(len(principals)).all((who.username, -1, 0, *principals, *some)):
            found[uid_of(row[-1])] = row[:-1]
    return found


class Rows:
    """Objects as their rows were last read, sealed material and all; used while the row's version is still theirs."""

    def __init__(self, size: int) -> None:
        self._rows: dict[str, Managed] = {}
        self._size = size
        #: How often a row was here, and was not: nearly, as threads do not wait for one another to count.
        self.hits = self.misses = 0

    def get(self, key: str, version: int) -> Managed | None:
        """The object of a row, at a version; nobody changes it."""
        kept = self._rows.get(key)
        if kept is not None and kept.version == version:
            self.hits += 1
            return kept
        self.misses += 1
        return None

    def put(self, key: str, kept: Managed) -> None:
        """Keep an object; the oldest goes when there are too many."""
        rows = self._rows
        if len(rows) >= self._size:
            with suppress(StopIteration, KeyError, RuntimeError):
                del rows[next(iter(rows))]
        rows[key] = kept

    def clear(self) -> None:
        """Forget every row."""
        self._rows.clear()


#: An object takes two to four kilobytes.
rows = Rows(8192)
#: Keys opened for use (`opened` makes them), for an hour at most; a parsed RSA key takes some ten kilobytes.
opened_keys: Final[Kept[Any]] = Kept(4096, 3600)
sealing.when_forgotten(opened_keys.clear)


def fetch(uid: str, now: int, who: Principals, *, lock: bool = False, probed: Probed | None = None) -> Managed | None:
    """The object that an identifier names in the namespace of `who`, with the rights that `who` has on it by owning it
    or by grants, transitions due by `now` applied; `lock` keeps others from changing it. One indexed query, or none
    where `look_ahead` has just asked."""
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
    found = probed or probe.first(parameters)
    if found is None:
        return None
    version, fresh, usage_remaining, rights = found
    kept = rows.get(key, version)
    if kept is None:
        row = replica.glimpse(lambda: whole.first(parameters))
        if row is None or row[-2] != version:
            row = whole.first(parameters)
            if row is None:
                return None
            fresh, usage_remaining, rights = row[_FRESH], row[_USAGE_REMAINING], row[-1]
        kept = _read(row[:-1])
        rows.put(key, kept)
        opened_keys.drop(key)
    managed = _again(kept)
    # What changes without a new version of the row.
    managed.usage_remaining = usage_remaining
    if kept.columns["fresh"] != fresh:
        managed.columns = {**kept.columns, "fresh": fresh}
    managed.rights = rights if type(rights) is int else _bits(rights)
    return _settled(managed, now)


_FRESH = FIELDS.index("fresh")
_USAGE_REMAINING = FIELDS.index("usage_remaining")


_FIRST_COLUMN = 3
_LAST_COLUMN = 3 + len(COLUMNS)
_COLUMN_NAMES = tuple(COLUMNS.values())


def _read(row: Sequence[Any]) -> Managed:
    """The object of a row, transitions that are due not yet applied."""
    managed = Managed(uid_of(row[0]), row[1], row[2])
    managed.new = False
    managed.columns = dict(zip(_COLUMN_NAMES, row[_FIRST_COLUMN:_LAST_COLUMN], strict=True))
    managed.next_change, managed.next_rotation, managed.serial, managed.usage_remaining = row[_LAST_COLUMN:-3]
    managed.packed, blob, managed.version = row[-3:]
    managed.blob = None if blob is None else bytes(blob)
    return managed


def _again(kept: Managed) -> Managed:
    """Another one, for somebody to use, of an object that is kept as it was read."""
    made: Managed = object.__new__(Managed)
    made.uid, made.namespace, made.owner = kept.uid, kept.namespace, kept.owner
    made.columns, made.packed, made.blob = kept.columns, kept.packed, kept.blob
    made.next_change, made.next_rotation = kept.next_change, kept.next_rotation
    made.serial, made.version = kept.serial, kept.version
    made.usage_remaining, made.rights = kept.usage_remaining, 0
    made.new = made.material_changed = False
    made._attributes = None
    return made


def _settled(managed: Managed, now: int) -> Managed:
    """The object with the transitions that are due."""
    if managed.next_change is not None and managed.next_change <= now:
        states.settle(managed.attributes, now)
    return managed


def _managed(row: Sequence[Any], now: int) -> Managed:
    return _settled(_read(row), now)


def at(key: str, now: int) -> Managed | None:
    """The object whose row has this key, locked, whoever asks; transitions due by `now` applied."""
    row = ManagedObject.objects.select_for_update().filter(uid=key).values_list(*FIELDS).first()
    return None if row is None else _managed(row, now)


def withheld_label(key: str) -> str:
    """What the sealed content of an object that is kept aside is bound to."""
    return f"withheld{SEPARATOR}{key}"


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


#: Called, in the transaction, with each object that has been written and what gives its attributes before; with None
#: for a new one.
WATCHERS: Final[list[Callable[[Managed, Callable[[], Attributes] | None], None]]] = []


def save(managed: Managed) -> None:
    """Write an object, new or changed; raises `Conflict`, or `KMIPError` for a Name or identifier that is taken."""
    attributes, stored = managed.attributes, None if managed.new else managed._stored_attributes
    columns = _columns(attributes)
    if managed.new:
        _save_new(managed, columns)
    else:
        _save_changed(managed, columns)
    opened_keys.drop(managed.key)
    for watcher in WATCHERS:
        watcher(managed, stored)
    managed.next_change, managed.next_rotation = columns.pop("next_change"), columns.pop("next_rotation")
    managed.packed = columns.pop("attributes")
    managed.columns = columns


def _save_new(managed: Managed, columns: dict[str, Any]) -> None:
    managed.serial = _new_serial()
    managed.usage_remaining = _limit(managed.attributes)
    index = _index_of(managed.namespace, columns)
    try:
        with _guarded():
            _INSERT.run(_values(managed, columns))
            _INSERT_INDEX.run_many(_index_values(managed, index))
    except IntegrityError as exc:
        raise _taken(managed, index, exc) from exc
    managed.new = False


def _save_changed(managed: Managed, columns: dict[str, Any]) -> None:
    """Write the columns that are others than those that were read: each index that has one of those written is changed,
    whatever the value was."""
    held, old = managed.columns, managed.version
    # By the clock, so that no number comes twice: what was read of a change that was taken back may be kept.
    version = max(old + 1, time.time_ns() // 1000)
    changes = {name: columns[name] for name in _COLUMN_NAMES if columns[name] != held[name]}
    for name, value in changes.items():
        if isinstance(value, Enumeration):
            # A driver may write it by its name.
            changes[name] = int(value)
    if columns["next_change"] != managed.next_change:
        changes["next_change"] = columns["next_change"]
    if columns["next_rotation"] != managed.next_rotation:
        changes["next_rotation"] = columns["next_rotation"]
    if (limit := _limit(managed.attributes)) != managed.usage_remaining:
        changes["usage_remaining"] = managed.usage_remaining = limit
    before = managed.unpacked()
    if before != columns["attributes"]:
        changes["attributes"] = orjson.dumps(columns["attributes"]).decode()
    if managed.blob is not None:
        material = managed.stored_material()
        assert material is not None
        purpose = sealing.MATERIAL if columns["archive_date"] is None else sealing.ARCHIVE
        changes["material"] = managed.blob = sealing.sealer().seal(material, managed.key, version, purpose=purpose)
    elif managed.material_changed:
        changes["material"] = None
    if not _update(tuple(changes)).run((*changes.values(), version, managed.key, old)):
        raise Conflict(managed.uid)
    managed.version = version
    if "attributes" in changes or _destroyed(held) != _destroyed(columns):
        _save_index(managed, {**held, "attributes": before}, columns)


@functools.cache
def _update(fields: tuple[str, ...]) -> compiled.Statement:
    return compiled.update(ManagedObject, (*fields, "version"), where=("uid", "version"))


def _limit(attributes: Attributes) -> int | None:
    """What is left of the Usage Limits."""
    limits = attributes.usage_limits
    return None if limits is None else limits.usage_limits_count


def _save_index(managed: Managed, held: dict[str, Any], columns: dict[str, Any]) -> None:
    """Bring the index rows of an object from what its row held to what it holds now."""
    before, after = _index_of(managed.namespace, held), _index_of(managed.namespace, columns)
    if gone := before - after:
        _DELETE_INDEX.run_many([(managed.key, attribute, value, detail) for attribute, value, detail, _ in gone])
    if come := after - before:
        try:
            with _guarded():
                _INSERT_INDEX.run_many(_index_values(managed, come))
        except IntegrityError as exc:
            raise _taken(managed, come, exc) from exc


def add_all(many: Sequence[Managed]) -> None:
    """Write many new objects at once, in the caller's transaction; raises `IntegrityError` where one is taken."""
    rows, index = [], []
    for managed in many:
        managed.serial = _new_serial()
        managed.usage_remaining = _limit(managed.attributes)
        columns = _columns(managed.attributes)
        rows.append(_values(managed, columns))
        index += _index_values(managed, _index_of(managed.namespace, columns))
        managed.new = False
    _INSERT.run_many(rows)
    _INSERT_INDEX.run_many(index)


def _columns(attributes: Attributes) -> dict[str, Any]:
    """What the columns of an object's row hold."""
    columns: dict[str, Any] = dict.fromkeys(_COLUMN_NAMES)
    for key, values in attributes.items():
        if key in COLUMNS:
            columns[COLUMNS[key]] = next(iter(values.values()), None)
    columns["next_change"] = states.next_change(attributes)
    columns["next_rotation"] = states.next_rotation(attributes)
    columns["attributes"] = attributes.pack(without=_APART)
    return columns


#: Every column, in the order of `FIELDS`.
_INSERT = compiled.insert(ManagedObject, FIELDS)
_INSERT_INDEX = compiled.insert(
    ObjectIndex, ("object", "namespace", "attribute", "value", "detail", "serial", "unique_value")
)
_DELETE_INDEX = compiled.delete(ObjectIndex, where=("object", "attribute", "value", "detail"))


def _values(managed: Managed, columns: dict[str, Any]) -> list[Any]:
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
        managed.version,
    ]


def _guarded() -> AbstractContextManager[Any]:
    """A savepoint where a failed statement spoils the transaction, which of the three databases PostgreSQL does."""
    return transaction.atomic() if connection.vendor == "postgresql" else nullcontext()


def _taken(managed: Managed, index: Collection[IndexRow], exc: Exception) -> Exception:
    unique = [row[3] for row in index if row[3] is not None]
    if unique and ObjectIndex.objects.filter(unique_value__in=unique).exclude(object_id=managed.key).exists():
        return KMIPError(ResultReason.NON_UNIQUE_NAME_ATTRIBUTE, "another object has this Name")
    if ManagedObject.objects.filter(uid=managed.key).exists():
        return KMIPError(ResultReason.OBJECT_ALREADY_EXISTS, "another object has this identifier")
    return exc


def _index_values(managed: Managed, rows: Collection[IndexRow]) -> list[tuple[Any, ...]]:
    return [
        (managed.key, managed.namespace, attribute, value, detail, managed.serial, unique)
        for attribute, value, detail, unique in rows
    ]


def delete(managed: Managed) -> None:
    """Take the row away, attributes and all."""
    opened_keys.drop(managed.key)
    ManagedObject.objects.filter(uid=managed.key).delete()


def no_longer_fresh(keys: Collection[str]) -> None:
    """Note that the objects whose rows have these keys have been given out: at once, and sharing its transaction with
    whatever else waits to be written."""

    def take() -> None:
        with atomic():
            _TAKE.run_many([(False, key, True) for key in keys])

    groups.run(take)


_TAKE = compiled.update(ManagedObject, ("fresh",), where=("uid", "fresh"))


def count_down(key: str, amount: int) -> bool:
    """Take `amount` off what is left of the Usage Limits of the object whose row has this key; False where less is."""
    row = ManagedObject.objects.filter(uid=key, usage_remaining__gte=amount)
    return bool(groups.run(lambda: row.update(usage_remaining=F("usage_remaining") - amount)))


# The index of attribute values.

#: Kept nowhere: they follow from the rest of the row.
_DERIVED = frozenset({Tag.UNIQUE_IDENTIFIER})
#: What the attributes column does not hold.
_APART: Final[frozenset[Key]] = _DERIVED | COLUMNS.keys()
#: Attributes of one value that hardly anybody searches for, or that nearly every object has the same of: they are
#: compared in the attributes column.
_COMPARED = frozenset(
    {Tag.OPERATION_POLICY_NAME, Tag.CRYPTOGRAPHIC_DOMAIN_PARAMETERS, Tag.RANDOM_NUMBER_GENERATOR, Tag.USAGE_LIMITS,
     Tag.REVOCATION_REASON}
)  # fmt: skip
_FEW_VALUES = frozenset({Type.BOOLEAN, Type.INTERVAL, Type.INTEGER, Type.ENUMERATION})
#: The field of a structure that tells objects apart; the first one where none is named.
_IDENTIFYING: Final = {
    Tag.LINK: Tag.LINKED_OBJECT_IDENTIFIER,
    Tag.APPLICATION_SPECIFIC_INFORMATION: Tag.APPLICATION_DATA,
    Tag.DIGEST: Tag.DIGEST_VALUE,
    Tag.CERTIFICATE_IDENTIFIER: Tag.SERIAL_NUMBER,
    Tag.X_509_CERTIFICATE_IDENTIFIER: Tag.CERTIFICATE_SERIAL_NUMBER,
}
_DATES = frozenset({Type.DATE_TIME, Type.DATE_TIME_EXTENDED})
#: A date that means none (2.1, 6.1.28).
_NO_DATE: Final = 2**63 - 1


def is_indexed(row: Row) -> bool:
    """Whether the attribute has index rows; the others are columns, or compared in the attributes column."""
    return (
        row.tag not in COLUMNS
        and row.tag not in _DERIVED
        and row.tag not in _COMPARED
        and (row.multiple or row.kind.type not in _FEW_VALUES)
    )


_INDEXED = frozenset(row.tag for row in BY_TAG.values() if is_indexed(row))


def attribute_label(key: Key) -> str:
    """How an attribute is called in the index and in the attributes column."""
    return (key.spelling if isinstance(key, Tag) else f"{key.vendor}/{key.name}")[:LABEL_LENGTH]


def index_value(key: Key, value: Any) -> str:
    """The text by which the index finds a value."""
    return _indexed(key, value)[0]


def _indexed(key: Key, value: Any) -> tuple[str, str]:
    """The text by which the index finds a value, and what else a structure says: `|tag=text|tag=text|`."""
    if isinstance(key, Tag):
        return _entry(_IDENTIFIED.get(key), *BY_TAG[key].pack(value))
    return _entry(None, *pack_item(value))


def _entry(identifying: int | None, type_: int, value: Any) -> tuple[str, str]:
    """The same of a packed value; `identifying` is the field of a structure that tells objects apart, if one does."""
    if identifying is None:
        return short(_text(type_, value)), ""
    found, rest = "", []
    for tag, child_type, child in value:
        if tag == identifying:
            found = _text(child_type, child)
        else:
            rest.append(f"{tag:06X}={_text(child_type, child)}")
    return short(found), short(SEPARATOR.join(("", *rest, ""))) if rest else ""


def _identifying(key: Tag) -> int | None:
    struct = BY_TAG[key].kind.struct
    return None if struct is None else int(_IDENTIFYING.get(key) or struct._fields[0].tag)


_IDENTIFIED: Final = {tag: _identifying(tag) for tag in _INDEXED}
#: Indexed attributes by the names under which they are packed.
_PACKED: Final = {tag.spelling: tag for tag in _INDEXED}


def short(text: str) -> str:
    """A text that fits the index: a long one keeps its beginning, for searches, and ends in a digest."""
    if len(text) <= VALUE_LENGTH and "\x00" not in text:
        return text
    return text.replace("\x00", "")[: VALUE_LENGTH - 65] + "#" + hashlib.sha256(text.encode()).hexdigest()


def _text(type_: int, value: Any) -> str:
    if value is None:
        return ""
    if type_ == Type.STRUCTURE:
        return SEPARATOR.join(_text(child_type, child) for _, child_type, child in value)
    return _sortable(value) if type_ in _DATES else str(value)


def _sortable(date: int) -> str:
    """Digits that are in the order of the dates."""
    return f"{date + 2**63:020d}"


def _index_of(namespace: str, columns: dict[str, Any]) -> set[IndexRow]:
    """The index rows of an object whose row holds these columns."""
    found: set[IndexRow] = set()
    destroyed = _destroyed(columns)
    for name, instances in columns["attributes"].items():
        tag = _PACKED.get(name)
        if tag is None and "/" not in name:
            continue
        label = name[:LABEL_LENGTH]
        for _, type_, value in instances:
            if tag is None:
                found.update((label, text, detail, None) for text, detail in _spread(name, type_, value))
                continue
            text, detail = _entry(_IDENTIFIED[tag], type_, value)
            # A destroyed object keeps its Name; another object may take it.
            unique = _unique(namespace, value) if tag is Tag.NAME and not destroyed else None
            found.add((label, text, detail, unique))
    return found


def _destroyed(columns: Mapping[str, Any]) -> bool:
    return columns["state"] in states.DESTROYED


def _unique(namespace: str, name: Any) -> str:
    """What no other index row may have than that of a packed Name."""
    text = next(value for tag, _, value in name if tag == Tag.NAME_VALUE)
    return hashlib.sha256(f"{namespace}{SEPARATOR}{text}".encode()).hexdigest()


def _spread(name: str, type_: int, value: Any) -> list[tuple[str, str]]:
    """The index entries of a vendor attribute's value: one, but one for each tag of a list of tags."""
    if type_ == Type.TEXT_STRING and name.partition("/")[2] == TAGS:
        return [(short(tag), "") for tag in tags_in(value)]
    return [_entry(None, type_, value)]


#: The vendor attribute whose text is a JSON list of tags, by which clients of the JSON dialect find objects.
TAGS: Final = "tag"


def tags_in(text: str) -> list[str]:
    """The tags in a JSON list; a text that is none is itself the only one."""
    try:
        tags = orjson.loads(text)
    except orjson.JSONDecodeError:
        return [text]
    return [str(tag) for tag in tags] if isinstance(tags, list) else [text]


# Locating.


def objects_in(namespace: str, among: Collection[str] | None = None) -> QuerySet[ManagedObject]:
    """Every object of a namespace, newest first; only those `among` these primary keys where some are given."""
    if among is None:
        return ManagedObject.objects.filter(namespace=namespace).order_by("-serial")
    # As an expression, because SQLite would walk through the namespace's objects rather than look up more than ten.
    chosen = ManagedObject.objects.alias(home=Concat("namespace", Value(""))).filter(home=namespace, uid__in=among)
    return chosen.order_by("-serial")


def with_attribute(
    objects: QuerySet[ManagedObject], key: Key, values: list[Any], now: int, *, namespace: str = DEFAULT_NAMESPACE
) -> QuerySet[ManagedObject]:
    """The objects that have all of the values; two dates are a range, and a structure may lack fields (2.1, 6.1.28).

    States are those written down, so those that are due are written down first.
    """
    if key == Tag.STATE:
        settle_due(now)
    if not isinstance(key, Tag):
        for value in values:
            for text, _ in _spread(f"{key.vendor}/{key.name}", *pack_item(value)):
                objects = _with_index(objects, key, namespace, {"index__value": text})
        return objects
    row = BY_TAG[key]
    if row.kind.type in _DATES:
        return _within(objects, key, values, namespace)
    if key in _INDEXED:
        for value in values:
            objects = _with_index(objects, key, namespace, _conditions(key, value))
        return objects
    for value in values:
        if value is None:
            return objects.none()
        if key == Tag.UNIQUE_IDENTIFIER:
            objects = objects.filter(uid=key_of(namespace, value))
        elif key == Tag.CRYPTOGRAPHIC_USAGE_MASK:
            objects = objects.annotate(mask=F("cryptographic_usage_mask").bitand(value)).filter(mask=value)
        elif key == Tag.USAGE_LIMITS:
            objects = objects.filter(_limits_reach(value))
        elif key in COLUMNS:
            objects = objects.filter(**{COLUMNS[key]: value})
        else:
            objects = objects.filter(_stored(key, value))
    return objects


def _with_index(
    objects: QuerySet[ManagedObject], key: Key, namespace: str, conditions: dict[str, Any]
) -> QuerySet[ManagedObject]:
    # A join, and its serial for the order: the databases then begin at the index row, however many objects there are.
    return objects.filter(index__namespace=namespace, index__attribute=attribute_label(key), **conditions).order_by(
        "-index__serial"
    )


def with_tag(objects: QuerySet[ManagedObject], namespace: str, labels: list[str], tag: str) -> QuerySet[ManagedObject]:
    """The objects that have a tag in one of these vendor attributes."""
    return objects.filter(index__namespace=namespace, index__attribute__in=labels, index__value=short(tag)).order_by(
        "-index__serial"
    )


def _conditions(key: Tag, value: Any) -> dict[str, Any]:
    """What an index row of a value, whose structure may lack fields, looks like."""
    text, detail = _indexed(key, value)
    struct = BY_TAG[key].kind.struct
    if struct is None:
        return {"index__value": text}
    conditions = {}
    if any(field.tag == _IDENTIFIED[key] and getattr(value, field.name) is not None for field in struct._fields):
        conditions["index__value"] = text
    if detail and len(struct._fields) <= 2:
        conditions["index__detail"] = detail
    elif detail:
        conditions["index__detail__contains"] = detail
    return conditions


def _within(objects: QuerySet[ManagedObject], key: Tag, dates: list[int], namespace: str) -> QuerySet[ManagedObject]:
    """The objects whose date is the one given, or between the two; the largest possible date means none."""
    least, most = min(dates), max(dates)
    column = COLUMNS.get(key)
    if column is not None:
        found = Q(**{f"{column}__range": (least, most)})
        return objects.filter(found | Q(**{f"{column}__isnull": True}) if most == _NO_DATE else found)
    if most == _NO_DATE:
        dated = ObjectIndex.objects.filter(namespace=namespace, attribute=attribute_label(key))
        return objects.exclude(uid__in=dated.filter(value__lt=_sortable(least)).values("object_id"))
    return _with_index(objects, key, namespace, {"index__value__range": (_sortable(least), _sortable(most))})


def _stored(key: Tag, value: Any) -> Q:
    """An attribute of one value in the attributes column; of a structure, the fields that are given."""
    path = f"attributes__{key.spelling}__0__2"
    struct = BY_TAG[key].kind.struct
    item = BY_TAG[key].kind.item(key, value, V2_1)
    if struct is None:
        return Q(**{path: _packed(item.value)})
    found = Q()
    for child in item.value:
        anywhere = Q()
        for position in range(len(struct._fields)):
            place = f"{path}__{position}"
            anywhere |= Q(**{f"{place}__0": int(child.tag), f"{place}__2": _packed(child.value)})
        found &= anywhere
    return found


def _packed(value: Any) -> str | int:
    """A value as the attributes column has it."""
    if isinstance(value, bytes):
        return value.hex()
    return value if isinstance(value, str) else int(value)


def _limits_reach(limits: UsageLimits) -> Q:
    """Usage Limits whose count and total are as large as those given, or larger (2.1, 6.1.28)."""
    found = Q(usage_remaining__isnull=False)
    if limits.usage_limits_count is not None:
        found &= Q(usage_remaining__gte=limits.usage_limits_count)
    if limits.usage_limits_total is not None:
        # The total is the first field, and always there.
        found &= Q(attributes__UsageLimits__0__2__0__2__gte=limits.usage_limits_total)
    if limits.usage_limits_unit is not None:
        found &= _stored(Tag.USAGE_LIMITS, UsageLimits.load(_only_unit(limits), partial=True))
    return found


def _only_unit(limits: UsageLimits) -> Item:
    unit = Item(Tag.USAGE_LIMITS_UNIT, Type.ENUMERATION, limits.usage_limits_unit)
    return Item(Tag.USAGE_LIMITS, Type.STRUCTURE, [unit])


def settle_due(now: int) -> None:
    """Write down the transitions that are due, so that a query finds objects by the state that counts.

    The rows keep their version: who reads one applies the same transitions.
    """
    due = ManagedObject.objects.filter(next_change__lte=now)
    if not due.exists():
        return
    begun = Q(state=State.PRE_ACTIVE, activation_date__lte=now)
    due.filter(Q(state=State.ACTIVE) | begun, deactivation_date__lte=now).update(
        state=State.DEACTIVATED, next_change=None, last_change_date=now
    )
    due.filter(begun).update(state=State.ACTIVE, next_change=F("deactivation_date"), last_change_date=now)


def named(namespace: str, name: str, object_type: ObjectType, now: int) -> Managed | None:
    """The object of a type with a Name, that is not destroyed."""
    objects = objects_in(namespace).filter(object_type=object_type).exclude(state__in=states.DESTROYED)
    found = fetch_all(_with_index(objects, Tag.NAME, namespace, {"index__value": short(name)})[:1], now)
    return found[0] if found else None


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


def add_sealing_key(wrapped: bytes, purpose: str) -> int:
    """Keep a new sealing key, which replaces those before it for new material; its number."""
    key = SealingKey.objects.create(wrapped=wrapped, purpose=purpose, created=int(time.time()))
    SealingKey.objects.filter(purpose=purpose, id__lt=key.id, active=True).update(active=False)
    return int(key.id)


def root_key() -> tuple[bytes, bytes] | None:
    """Name and key check value of the root key; None in a new database."""
    row = RootKey.objects.filter(id=1).values_list("name", "check_value").first()
    return None if row is None else (bytes.fromhex(row[0]), bytes(row[1]))


def add_root_key(name: bytes, check_value: bytes) -> tuple[bytes, bytes]:
    """Keep name and key check value of a new database's root key; those of another process if it came first."""
    with suppress(IntegrityError), transaction.atomic():
        RootKey.objects.create(id=1, name=name.hex(), check_value=check_value, created=int(time.time()))
    found = root_key()
    assert found is not None
    return found


def has_sealed() -> bool:
    """Whether there is anything that a sealing key was needed for."""
    return SealingKey.objects.exists() or ManagedObject.objects.filter(material__isnull=False).exists()


def in_transaction() -> bool:
    """Whether what is written now may yet be taken back."""
    return bool(connection.in_atomic_block)


def add_derivation_key(wrapped: bytes, number: int) -> None:
    """Keep the key that others are derived from, unless another process was quicker."""
    SealingKey.objects.get_or_create(
        id=number,
        defaults={"purpose": "derivation", "wrapped": wrapped, "created": int(time.time()), "active": False},
    )


#: So many granted objects are listed in the query itself, which lets every database use its indexes for each half.
FEW_GRANTED: Final = 500


def visible(
    who: Principals,
    *,
    operations: int,
    types: Collection[int] | None = None,
    everywhere: Collection[int] = (),
    among: Collection[str] | None = None,
) -> QuerySet[ManagedObject]:
    """The objects that a user owns or was granted one of these operations on, newest first: only those of some object
    types where `types` is given, and those of the types in `everywhere` whoever's they are; of all these only those
    `among` some primary keys, if any are given."""
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
    return objects_in(who.namespace, among).filter(found)


_EVERY_BIT: Final = 2**63 - 1


def uids(objects: QuerySet[ManagedObject], offset: int, limit: int | None) -> list[str]:
    """Identifiers in order, from `offset`, at most `limit`."""
    end = None if limit is None else offset + max(limit, 0)
    return [uid_of(key) for key in objects.values_list("uid", flat=True)[offset:end]]
