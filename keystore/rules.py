"""What a client may do to attributes: the rules tables of `kmip.attributes`, read the same way by every operation.

A check raises `KMIPError` with the reason that 2.1 gives; the engine spells it for older versions. Nothing here knows
who asks or saves anything.
"""

from collections.abc import Set
from typing import Any, Final

from keystore import states
from keystore.crypto import algorithms
from keystore.store import Managed
from kmip.attributes import BY_TAG, Attributes, By, Key, When, title_of
from kmip.enums import ObjectType, ResultReason, State
from kmip.errors import KMIPError, UnfitError
from kmip.structures import ApplicationSpecificInformation, RNGParameters, UsageLimits
from kmip.tags import Tag
from kmip.versions import Version

#: Instances of one attribute; far above what is known of clients, far below what would slow an object down.
MAX_INSTANCES: Final = 1024

_STATES: dict[When, frozenset[State]] = {
    When.PRE_ACTIVE: frozenset({State.PRE_ACTIVE}),
    When.PRE_ACTIVE_OR_ACTIVE: frozenset({State.PRE_ACTIVE, State.ACTIVE}),
    When.NOT_YET_REACHED: frozenset({State.PRE_ACTIVE, State.ACTIVE}),
}


def check_new(attributes: Attributes, object_type: ObjectType, *, stated: Set[Tag] = frozenset()) -> None:
    """Check the attributes asked for a new object; `stated` are those set by the server that the request may name."""
    for key in attributes:
        if isinstance(key, Tag):
            row = BY_TAG[key]
            if row.set_by is By.SERVER and key not in stated:
                raise KMIPError(ResultReason.ATTRIBUTE_READ_ONLY, f"{row.title} is set by the server")
            check_applies(key, object_type)
    attributes.check()
    check_values(attributes)


def check_version(key: Key, version: Version, reason: ResultReason) -> None:
    """Operations on an attribute are about one that the version spoken has."""
    if isinstance(key, Tag) and not BY_TAG[key].in_version(version):
        raise KMIPError(reason, f"{BY_TAG[key].title} is no attribute of this version")


def check_applies(key: Key, object_type: ObjectType) -> None:
    """An attribute is only set on objects of the types that it applies to."""
    if isinstance(key, Tag) and object_type not in BY_TAG[key].applies_to:
        raise KMIPError(ResultReason.INVALID_ATTRIBUTE, f"{BY_TAG[key].title} does not apply to {object_type}")


def check_values(attributes: Attributes) -> None:
    """What the values of attributes have to do with one another."""
    for key, values in attributes.items():
        if len(values) > MAX_INSTANCES:
            raise KMIPError(ResultReason.SERVER_LIMIT_EXCEEDED, f"{title_of(key)} has over {MAX_INSTANCES} instances")
        for value in values.values():
            if isinstance(value, ApplicationSpecificInformation) and value.application_data is None:
                # Query lists no namespace whose data the server makes up (2.1, 4.4).
                raise KMIPError(
                    ResultReason.APPLICATION_NAMESPACE_NOT_SUPPORTED,
                    f"the server does not make up Application Data for {value.application_namespace}",
                )
    names = [name.name_value for name in attributes.name]
    if len(names) != len(set(names)):
        raise KMIPError(ResultReason.NON_UNIQUE_NAME_ATTRIBUTE, "the object has this Name already")
    start, activation = attributes.process_start_date, attributes.activation_date
    if start is not None and activation is not None and start < activation:
        raise KMIPError(ResultReason.INVALID_ATTRIBUTE_VALUE, "Process Start Date is before Activation Date")
    stop, deactivation = attributes.protect_stop_date, attributes.deactivation_date
    if stop is not None and deactivation is not None and stop > deactivation:
        raise KMIPError(ResultReason.INVALID_ATTRIBUTE_VALUE, "Protect Stop Date is after Deactivation Date")
    if attributes.quantum_safe and not algorithms.quantum_safe(
        attributes.cryptographic_algorithm, attributes.cryptographic_length
    ):
        # The reason that the profile's test case shows; 2.1, 4.45 names none.
        raise UnfitError("Quantum Safe: the algorithm and length are not")


def check_generator(attributes: Attributes, ours: RNGParameters) -> None:
    """A generator asked for must be the one that the server uses (2.1, 4.46)."""
    asked = attributes.get(Tag.RANDOM_NUMBER_GENERATOR, {}).values()
    if asked and ours not in asked:
        raise KMIPError(ResultReason.INVALID_ATTRIBUTE_VALUE, "the server has no such Random Number Generator")


def add(managed: Managed, key: Key, value: Any, *, read_only: ResultReason) -> int:
    """Add an instance of an attribute to an object; returns its index. `read_only` is the reason where none may be."""
    attributes = managed.attributes
    if isinstance(key, Tag):
        row = BY_TAG[key]
        if row.set_by in (By.SERVER, By.MAKER):
            raise KMIPError(read_only, f"{row.title} is set by the server")
        check_applies(key, managed.object_type)
        if key in attributes and not row.multiple:
            raise KMIPError(ResultReason.ATTRIBUTE_SINGLE_VALUED, f"{row.title} has one value, and has it already")
    value = _checked(key, value, None)
    index = attributes.add(key, value)
    _follow(managed, key)
    return index


def change(managed: Managed, key: Key, index: int, value: Any, *, now: int, read_only: ResultReason) -> None:
    """Give an instance of an attribute another value."""
    if isinstance(key, Tag):
        _check_when(managed, key, BY_TAG[key].modifiable, now, read_only)
    managed.attributes[key][index] = _checked(key, value, managed.attributes[key][index])
    _follow(managed, key)


def delete(managed: Managed, key: Key, indices: list[int], *, now: int) -> None:
    """Take instances of an attribute away."""
    if isinstance(key, Tag):
        _check_when(managed, key, BY_TAG[key].deletable, now, ResultReason.ATTRIBUTE_READ_ONLY)
    values = managed.attributes[key]
    for index in indices:
        del values[index]
    if not values:
        del managed.attributes[key]


def _check_when(managed: Managed, key: Tag, when: When, now: int, read_only: ResultReason) -> None:
    title = BY_TAG[key].title
    if when is When.NEVER:
        raise KMIPError(read_only, f"{title} may not be changed or deleted")
    allowed = _STATES.get(when)
    if allowed is not None and managed.state not in allowed:
        raise KMIPError(
            ResultReason.WRONG_KEY_LIFECYCLE_STATE,
            f"{title} is fixed now that the object is {managed.state}: {when.value}",
        )
    if when is When.NOT_YET_REACHED and managed.attributes.first(key) <= now:
        raise KMIPError(ResultReason.WRONG_KEY_LIFECYCLE_STATE, f"{title} has been reached and is fixed")
    if when is When.NOT_YET_USED:
        limits = managed.attributes.usage_limits
        if limits.usage_limits_count != limits.usage_limits_total:
            raise KMIPError(ResultReason.PERMISSION_DENIED, f"{title} has been drawn on and is fixed")


def _checked(key: Key, value: Any, current: Any) -> Any:
    """The value as it is kept."""
    if isinstance(value, UsageLimits):
        total = value.usage_limits_total
        if current is not None:
            total = total if total is not None else current.usage_limits_total
            value.usage_limits_unit = value.usage_limits_unit or current.usage_limits_unit
        if value.usage_limits_count not in (None, total):
            raise KMIPError(ResultReason.INVALID_ATTRIBUTE_VALUE, "a client does not set the Usage Limits Count")
        value = UsageLimits(
            usage_limits_total=total, usage_limits_count=total, usage_limits_unit=value.usage_limits_unit
        )
    Attributes({key: {0: value}}).check()
    return value


def _follow(managed: Managed, key: Key) -> None:
    """Check and set what follows from a changed attribute."""
    attributes = managed.attributes
    check_values(Attributes({key: attributes[key]}) if isinstance(key, tuple) else attributes)
    if key == Tag.SENSITIVE and not attributes.sensitive:
        attributes.always_sensitive = False
    elif key == Tag.EXTRACTABLE and attributes.extractable:
        attributes.never_extractable = False


def touched(managed: Managed, now: int) -> None:
    """Note that an object has changed, and let dates that were set to the past count at once (2.1, 4.57)."""
    managed.attributes.last_change_date = now
    states.settle(managed.attributes, now)


def instance(attributes: Attributes, key: Key, value: Any) -> int:
    """The index of the instance that has a value; raises `KMIPError` where there is none."""
    if key not in attributes:
        raise KMIPError(ResultReason.ATTRIBUTE_NOT_FOUND, f"the object has no {title_of(key)}")
    for index, held in attributes[key].items():
        if held == value:
            return int(index)
    raise KMIPError(ResultReason.ATTRIBUTE_INSTANCE_NOT_FOUND, f"no {title_of(key)} has this value")


def single(attributes: Attributes, key: Key, reason: ResultReason) -> int:
    """The index of the only instance; raises `KMIPError` with `reason` where there are several."""
    if key not in attributes:
        raise KMIPError(ResultReason.ATTRIBUTE_NOT_FOUND, f"the object has no {title_of(key)}")
    if len(attributes[key]) > 1:
        raise KMIPError(reason, f"the object has several instances of {title_of(key)}: say which")
    return int(next(iter(attributes[key])))
