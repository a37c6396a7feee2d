"""Roles: allow-lists of operations and object types. The built-in ones stand here, a namespace's own in the database.

A set of operations is a number with a bit for each operation, so that a right is one comparison.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from kmip.enums import ObjectType, Operation, ResultReason
from kmip.errors import KMIPError

ALL: Final = sum(1 << operation for operation in Operation)
#: Operations on no object in particular.
_ASKING: Final = (Operation.QUERY, Operation.DISCOVER_VERSIONS, Operation.PING, Operation.INTEROP)
_LOOKING: Final = (
    Operation.LOCATE,
    Operation.CHECK,
    Operation.GET_ATTRIBUTES,
    Operation.GET_ATTRIBUTE_LIST,
    Operation.VALIDATE,
)
_MAINTAINING: Final = (
    Operation.ACTIVATE,
    Operation.REVOKE,
    Operation.DESTROY,
    Operation.ARCHIVE,
    Operation.RECOVER,
    Operation.RE_KEY,
    Operation.RE_KEY_KEY_PAIR,
    Operation.RE_CERTIFY,
    Operation.ADD_ATTRIBUTE,
    Operation.MODIFY_ATTRIBUTE,
    Operation.DELETE_ATTRIBUTE,
    Operation.SET_ATTRIBUTE,
    Operation.ADJUST_ATTRIBUTE,
    Operation.OBTAIN_LEASE,
)
#: What a right to get the key itself makes possible anyway; see `access.get_implies_use`.
USES: Final = (
    Operation.ENCRYPT,
    Operation.DECRYPT,
    Operation.SIGN,
    Operation.SIGNATURE_VERIFY,
    Operation.MAC,
    Operation.MAC_VERIFY,
    Operation.HASH,
    Operation.DERIVE_KEY,
    Operation.EXPORT,
    Operation.GET_ATTRIBUTES,
    Operation.GET_ATTRIBUTE_LIST,
)


def bits(operations: Iterable[int]) -> int:
    """A set of operations as a number."""
    found = 0
    for operation in operations:
        found |= 1 << operation
    return found


def operations_in(mask: int) -> list[Operation]:
    """The operations of a set, in the order of their numbers."""
    return [operation for operation in Operation if mask >> operation & 1]


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a role allows: operations on what is one's own or granted, and operations on everything in the namespace.

    `object_types` None means all of them."""

    name: str
    operations: int
    everywhere: int = 0
    object_types: frozenset[int] | None = None


BUILT_IN: Final = {
    role.name: role
    for role in (
        Allowance("administrator", ALL, ALL),
        # Keeps every key in order, and sees none but its own.
        Allowance("operator", ALL, bits((*_LOOKING, *_MAINTAINING))),
        Allowance("client", ALL),
        Allowance("auditor", bits((*_ASKING, *_LOOKING)), bits(_LOOKING)),
    )
}
ADMINISTRATOR: Final = BUILT_IN["administrator"]
CLIENT: Final = BUILT_IN["client"]

#: As the HTTP API writes operations: `get_attributes`; and the spellings of it that differ.
NAMES: Final = {operation.name.lower(): operation for operation in Operation} | {
    "rekey": Operation.RE_KEY,
    "rekey_key_pair": Operation.RE_KEY_KEY_PAIR,
    "recertify": Operation.RE_CERTIFY,
}
_SHOWN: Final = {operation: name for name, operation in NAMES.items()}
_FOLDED: Final = {name.replace("_", ""): operation for name, operation in NAMES.items()}
_TYPES: Final = {kind.name.replace("_", "").lower(): kind for kind in ObjectType}


def _folded(name: str) -> str:
    return name.replace("_", "").replace("-", "").replace(" ", "").lower()


def operation_named(name: object) -> Operation:
    """The operation with a name in any of its spellings; raises `KMIPError`."""
    operation = _FOLDED.get(_folded(name)) if isinstance(name, str) else None
    if operation is None:
        raise KMIPError(ResultReason.INVALID_FIELD, f"{str(name)[:64]!r} is not an operation")
    return operation


def type_named(name: object) -> ObjectType:
    """The object type with a name in any of its spellings; raises `KMIPError`."""
    kind = _TYPES.get(_folded(name)) if isinstance(name, str) else None
    if kind is None:
        raise KMIPError(ResultReason.INVALID_FIELD, f"{str(name)[:64]!r} is not an object type")
    return kind


def name_of(operation: Operation) -> str:
    """An operation as the HTTP API writes it."""
    return _SHOWN[operation]
