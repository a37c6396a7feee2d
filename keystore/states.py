"""The life of a managed object: states, what moves them, and the dates that move them by themselves (2.1, 4.57).

A date-driven transition counts from the moment its date is reached, whether or not anything has written it down:
`settle` applies what is due before an object is looked at.
"""

from enum import Enum
from typing import TYPE_CHECKING

from kmip.attributes import Attributes
from kmip.enums import ObjectType, ResultReason, RevocationReasonCode, State
from kmip.errors import KMIPError

if TYPE_CHECKING:
    from keystore.store import Managed

S = State


class Event(Enum):
    """What moves an object from state to state."""

    ACTIVATE = "activated"
    DEACTIVATE = "deactivated"
    COMPROMISE = "compromised"
    DESTROY = "destroyed"


#: The transitions of 2.1, 4.57; no others are permitted. Destroying an active object is refused as its section says.
TRANSITIONS: dict[tuple[State, Event], State] = {
    (S.PRE_ACTIVE, Event.ACTIVATE): S.ACTIVE,
    (S.PRE_ACTIVE, Event.COMPROMISE): S.COMPROMISED,
    (S.PRE_ACTIVE, Event.DESTROY): S.DESTROYED,
    (S.ACTIVE, Event.DEACTIVATE): S.DEACTIVATED,
    (S.ACTIVE, Event.COMPROMISE): S.COMPROMISED,
    (S.DEACTIVATED, Event.COMPROMISE): S.COMPROMISED,
    (S.DEACTIVATED, Event.DESTROY): S.DESTROYED,
    (S.COMPROMISED, Event.DESTROY): S.DESTROYED_COMPROMISED,
    (S.DESTROYED, Event.COMPROMISE): S.DESTROYED_COMPROMISED,
}

#: Revocation reasons that compromise an object (2.1, 6.1.44).
COMPROMISES = frozenset({RevocationReasonCode.KEY_COMPROMISE, RevocationReasonCode.CA_COMPROMISE})

DESTROYED = frozenset({S.DESTROYED, S.DESTROYED_COMPROMISED})
#: States in which an object is rotated when its time comes.
ROTATED = frozenset({S.PRE_ACTIVE, S.ACTIVE, S.DEACTIVATED})
#: Objects of which there is a successor that the server can make.
ROTATABLE = frozenset(
    {
        ObjectType.SYMMETRIC_KEY,
        ObjectType.SECRET_DATA,
        ObjectType.PRIVATE_KEY,
        ObjectType.PUBLIC_KEY,
        ObjectType.CERTIFICATE,
    }
)


def move(managed: "Managed", event: Event, *, at: int, occurred: int | None = None) -> None:
    """Move an object and set the date of the move; raises `KMIPError` (Wrong Key Lifecycle State).

    `occurred` is when a compromise is thought to have happened.
    """
    attributes = managed.attributes
    target = TRANSITIONS.get((attributes.state, event))
    if target is None:
        raise KMIPError(
            ResultReason.WRONG_KEY_LIFECYCLE_STATE,
            f"an object in state {attributes.state} cannot be {event.value}",
        )
    attributes.state = target
    if event is Event.ACTIVATE:
        attributes.activation_date = at
    elif event is Event.DEACTIVATE:
        attributes.deactivation_date = at
    elif event is Event.COMPROMISE:
        attributes.compromise_date = at
        attributes.compromise_occurrence_date = at if occurred is None else occurred
    else:
        attributes.destroy_date = at


def settle(attributes: Attributes, now: int) -> bool:
    """Apply the transitions whose dates have come; True where there were any."""
    moved = False
    activation, deactivation = attributes.activation_date, attributes.deactivation_date
    if attributes.state == S.PRE_ACTIVE and activation is not None and activation <= now:
        attributes.state = S.ACTIVE
        moved = True
    if attributes.state == S.ACTIVE and deactivation is not None and deactivation <= now:
        attributes.state = S.DEACTIVATED
        moved = True
    if moved:
        attributes.last_change_date = now
    return moved


def next_change(attributes: Attributes) -> int | None:
    """The date that next moves the state."""
    if attributes.state == S.PRE_ACTIVE:
        return attributes.activation_date  # type: ignore[no-any-return]
    if attributes.state == S.ACTIVE:
        return attributes.deactivation_date  # type: ignore[no-any-return]
    return None


def next_rotation(attributes: Attributes) -> int | None:
    """The date at which the server is to rotate the object by itself (2.1, 4.48 to 4.54)."""
    if not attributes.rotate_automatic or attributes.rotate_interval is None or attributes.rotate_latest is False:
        return None
    if attributes.object_type not in ROTATABLE:
        return None
    # Zero would rotate without end; what is compromised, destroyed or archived has no use for a successor of its own.
    if attributes.rotate_interval <= 0 or attributes.state not in ROTATED or attributes.archive_date is not None:
        return None
    return attributes.initial_date + attributes.rotate_interval  # type: ignore[no-any-return]
