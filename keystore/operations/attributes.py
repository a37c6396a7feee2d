"""Operations on the attributes of an object: Add, Modify, Set, Adjust and Delete Attribute.

1.x names an instance by its index, 2.x by its value; both come here as keys, indices and values. What may be done is
in `rules`.
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from keystore import rules, states
from keystore.call import Call, operation
from keystore.store import Managed
from kmip.attributes import BY_TAG, Attributes, Key, References, title_of
from kmip.enums import AdjustmentType, Operation, ResultReason
from kmip.errors import KMIPError
from kmip.payloads import (
    AddAttributeRequest,
    AddAttributeResponse,
    AdjustAttributeRequest,
    AdjustAttributeResponse,
    DeleteAttributeRequest,
    DeleteAttributeResponse,
    ModifyAttributeRequest,
    ModifyAttributeResponse,
    SetAttributeRequest,
    SetAttributeResponse,
)
from kmip.structures import Identifier
from kmip.tags import Tag
from kmip.ttlv import Item, Type


class _Instance(NamedTuple):
    """The one attribute instance that a request is about."""

    key: Key
    number: int
    value: Any


#: The reason that each operation's section has for an attribute that the version lacks.
_UNKNOWN: Final = {
    Operation.ADD_ATTRIBUTE: ResultReason.INVALID_ATTRIBUTE,
    Operation.MODIFY_ATTRIBUTE: ResultReason.ATTRIBUTE_NOT_FOUND,
    Operation.SET_ATTRIBUTE: ResultReason.INVALID_FIELD,
    Operation.ADJUST_ATTRIBUTE: ResultReason.UNSUPPORTED_ATTRIBUTE,
    Operation.DELETE_ATTRIBUTE: ResultReason.INVALID_ATTRIBUTE,
}


def _one(call: Call, attributes: Attributes) -> _Instance:
    entries = list(attributes.entries())
    if len(entries) != 1:
        raise KMIPError(ResultReason.INVALID_FIELD, f"the request is about one attribute, not {len(entries)}")
    rules.check_version(entries[0][0], call.version, _UNKNOWN[call.operation])
    return _Instance(*entries[0])


def _named(call: Call, references: References | list[Key]) -> Key:
    """The one attribute that a request names."""
    if len(references) != 1:
        raise KMIPError(ResultReason.INVALID_FIELD, f"the request is about one attribute, not {len(references)}")
    key = references[0]
    if isinstance(key, Tag) and key not in BY_TAG:
        raise KMIPError(_UNKNOWN[call.operation], f"{key.spelling} is no attribute")
    rules.check_version(key, call.version, _UNKNOWN[call.operation])
    return key


def _changing(call: Call, identifier: Identifier | None) -> Managed:
    """The object, unless its attributes are fixed because it is destroyed or archived."""
    managed = call.object(identifier)
    if managed.state in states.DESTROYED:
        raise KMIPError(ResultReason.WRONG_KEY_LIFECYCLE_STATE, "the object is destroyed: its attributes are fixed")
    if managed.columns["archive_date"] is not None:
        raise KMIPError(ResultReason.OBJECT_ARCHIVED, "the object is archived: recover it first")
    return managed


@operation(Operation.ADD_ATTRIBUTE)
def add_attribute(call: Call, request: AddAttributeRequest) -> AddAttributeResponse:
    """Add an instance of an attribute (KMIP 2.1, 6.1.2)."""
    key, index, value = _one(call, request.new_attribute)
    if index:
        # Index 0 is what some clients put into every attribute (docs/divergences.md).
        raise KMIPError(ResultReason.INVALID_FIELD, "the server assigns the Attribute Index")
    managed = _changing(call, request.unique_identifier)
    index = rules.add(managed, key, value, read_only=ResultReason.READ_ONLY_ATTRIBUTE)
    call.changed(managed)
    return AddAttributeResponse(
        unique_identifier=managed.uid, attributes=Attributes({key: {index: managed.attributes[key][index]}})
    )


@operation(Operation.MODIFY_ATTRIBUTE)
def modify_attribute(call: Call, request: ModifyAttributeRequest) -> ModifyAttributeResponse:
    """Give an existing instance of an attribute another value (KMIP 2.1, 6.1.34)."""
    key, index, value = _one(call, request.new_attribute)
    managed = _changing(call, request.unique_identifier)
    attributes = managed.attributes
    if request.current_attribute is not None:
        current = _one(call, request.current_attribute)
        if current.key != key:
            raise KMIPError(ResultReason.INVALID_FIELD, "the current and the new attribute are not the same attribute")
        index = rules.instance(attributes, key, current.value)
    elif call.modern:
        index = rules.single(attributes, key, ResultReason.ATTRIBUTE_INSTANCE_NOT_FOUND)
    elif key not in attributes:
        raise KMIPError(ResultReason.ATTRIBUTE_NOT_FOUND, f"the object has no {title_of(key)}: add it")
    elif index not in attributes[key]:
        raise KMIPError(ResultReason.ATTRIBUTE_INSTANCE_NOT_FOUND, f"{title_of(key)} has no instance {index}")
    rules.change(managed, key, index, value, now=call.now, read_only=ResultReason.ATTRIBUTE_READ_ONLY)
    call.changed(managed)
    return ModifyAttributeResponse(
        unique_identifier=managed.uid, attributes=Attributes({key: {index: managed.attributes[key][index]}})
    )


@operation(Operation.SET_ATTRIBUTE)
def set_attribute(call: Call, request: SetAttributeRequest) -> SetAttributeResponse:
    """Add an attribute, or give its only instance another value (KMIP 2.1, 6.1.51)."""
    key, _, value = _one(call, request.new_attribute)
    managed = _changing(call, request.unique_identifier)
    _set(call, managed, key, value)
    return SetAttributeResponse(unique_identifier=managed.uid)


def _set(call: Call, managed: Managed, key: Key, value: Any) -> None:
    if key in managed.attributes:
        index = rules.single(managed.attributes, key, ResultReason.MULTI_VALUED_ATTRIBUTE)
        rules.change(managed, key, index, value, now=call.now, read_only=ResultReason.READ_ONLY_ATTRIBUTE)
    else:
        rules.add(managed, key, value, read_only=ResultReason.READ_ONLY_ATTRIBUTE)
    call.changed(managed)


class _Numbers(NamedTuple):
    """An item type that can be adjusted: its range, and whether it can be negated."""

    least: int
    most: int
    negates: bool


_NUMBERS: dict[Type, _Numbers] = {
    Type.INTEGER: _Numbers(-(2**31), 2**31 - 1, True),
    Type.LONG_INTEGER: _Numbers(-(2**63), 2**63 - 1, True),
    Type.BIG_INTEGER: _Numbers(-(2**8192), 2**8192, True),
    Type.INTERVAL: _Numbers(0, 2**32 - 1, False),
    Type.DATE_TIME: _Numbers(-(2**63), 2**63 - 1, False),
    Type.DATE_TIME_EXTENDED: _Numbers(-(2**63), 2**63 - 1, False),
}
_DATES: Final = frozenset({Type.DATE_TIME, Type.DATE_TIME_EXTENDED})
_STEPS: dict[AdjustmentType, Callable[[int, int], int]] = {
    AdjustmentType.INCREMENT: lambda value, step: value + step,
    AdjustmentType.DECREMENT: lambda value, step: value - step,
}


@operation(Operation.ADJUST_ATTRIBUTE)
def adjust_attribute(call: Call, request: AdjustAttributeRequest) -> AdjustAttributeResponse:
    """Count an attribute up or down, or negate it (KMIP 2.1, 6.1.3 and 11.1)."""
    key = _named(call, request.attribute_reference)
    managed = _changing(call, request.unique_identifier)
    held: Any = None
    if key in managed.attributes:
        held = managed.attributes[key][rules.single(managed.attributes, key, ResultReason.MULTI_VALUED_ATTRIBUTE)]
    elif not isinstance(key, Tag) or BY_TAG[key].kind.type in _DATES:
        # Numbers and Booleans without a value are 0 and false; there is no such date.
        raise KMIPError(ResultReason.ITEM_NOT_FOUND, f"the object has no {title_of(key)}")
    type_: Any = BY_TAG[key].kind.type if isinstance(key, Tag) else held.type
    number = held if isinstance(key, Tag) else held.value
    value = _adjusted(type_, number, request.adjustment_type, request.adjustment_value)
    _set(call, managed, key, value if isinstance(key, Tag) else Item(Tag.ATTRIBUTE_VALUE, type_, value))
    return AdjustAttributeResponse(unique_identifier=managed.uid)


def _adjusted(type_: Type | None, held: Any, adjustment: AdjustmentType, step: Item | None) -> Any:
    if adjustment == AdjustmentType.NEGATE and type_ == Type.BOOLEAN:
        return not held
    numbers = _NUMBERS.get(type_) if type_ is not None else None
    if numbers is None or (adjustment == AdjustmentType.NEGATE and not numbers.negates):
        raise KMIPError(ResultReason.INVALID_DATA_TYPE, f"{adjustment} does not apply to this type of attribute")
    value = int(held or 0)
    if adjustment == AdjustmentType.NEGATE:
        value = -value
    elif adjustment in _STEPS:
        if step is not None and step.type not in _NUMBERS:
            raise KMIPError(ResultReason.INVALID_DATA_TYPE, "Adjustment Value is not a number")
        value = _STEPS[adjustment](value, 1 if step is None else step.value)
    else:
        raise KMIPError(ResultReason.INVALID_FIELD, f"{adjustment} is no Adjustment Type")
    if not numbers.least <= value <= numbers.most:
        raise KMIPError(ResultReason.NUMERIC_RANGE, f"{value} does not fit the attribute's type")
    return value


@operation(Operation.DELETE_ATTRIBUTE)
def delete_attribute(call: Call, request: DeleteAttributeRequest) -> DeleteAttributeResponse:
    """Take an instance of an attribute, or in 2.x all of them, away from an object (KMIP 2.1, 6.1.13)."""
    managed = _changing(call, request.unique_identifier)
    attributes = managed.attributes
    if request.current_attribute is not None:
        current = _one(call, request.current_attribute)
        key, indices = current.key, [rules.instance(attributes, current.key, current.value)]
    else:
        key = _named(call, request.attribute_reference or [])
        if key not in attributes:
            raise KMIPError(ResultReason.ATTRIBUTE_NOT_FOUND, f"the object has no {title_of(key)}")
        indices = list(attributes[key]) if call.modern else [request.attribute_index or 0]
        if indices[0] not in attributes[key]:
            raise KMIPError(ResultReason.ATTRIBUTE_INSTANCE_NOT_FOUND, f"{title_of(key)} has no instance {indices[0]}")
    gone = Attributes({key: {index: attributes[key][index] for index in indices}})
    rules.delete(managed, key, indices, now=call.now)
    call.changed(managed)
    return DeleteAttributeResponse(unique_identifier=managed.uid, attributes=gone)
