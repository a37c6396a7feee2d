"""Operations that move objects through their life: Activate, Revoke, Destroy."""

from keystore import ca, states, store
from keystore.call import Call, operation
from keystore.states import Event
from kmip.enums import ObjectType, Operation, ResultReason, State
from kmip.errors import KMIPError
from kmip.payloads import (
    ActivateRequest,
    ActivateResponse,
    DestroyRequest,
    DestroyResponse,
    RevokeRequest,
    RevokeResponse,
)


@operation(Operation.ACTIVATE)
def activate(call: Call, request: ActivateRequest) -> ActivateResponse:
    """Activate a pre-active object (KMIP 2.1, 6.1.1)."""
    managed = call.live(request.unique_identifier)
    if managed.state == State.ACTIVE:
        raise KMIPError(ResultReason.WRONG_KEY_LIFECYCLE_STATE, "the object is active already")
    states.move(managed, Event.ACTIVATE, at=call.now)
    managed.attributes.last_change_date = call.now
    store.save(managed)
    return ActivateResponse(unique_identifier=managed.uid)


@operation(Operation.REVOKE)
def revoke(call: Call, request: RevokeRequest) -> RevokeResponse:
    """Revoke an object; a compromise reason compromises it (KMIP 2.1, 6.1.44)."""
    managed = call.object(request.unique_identifier)
    reason = request.revocation_reason
    compromised = reason.revocation_reason_code in states.COMPROMISES
    if compromised and managed.state in (State.COMPROMISED, State.DESTROYED_COMPROMISED):
        # Revoked as compromised twice: what is known stays known.
        pass
    elif not compromised and managed.state == State.DEACTIVATED:
        # Deactivated by a date or before: the reason is what is new.
        pass
    else:
        event = Event.COMPROMISE if compromised else Event.DEACTIVATE
        states.move(managed, event, at=call.now, occurred=request.compromise_occurrence_date)
    managed.attributes.revocation_reason = reason
    managed.attributes.last_change_date = call.now
    store.save(managed)
    ca.revoke(managed, reason, call.now, request.compromise_occurrence_date)
    return RevokeResponse(unique_identifier=managed.uid)


@operation(Operation.DESTROY)
def destroy(call: Call, request: DestroyRequest) -> DestroyResponse:
    """Erase an object's material and keep its attributes (KMIP 2.1, 6.1.15)."""
    managed = call.object(request.unique_identifier)
    if managed.state in states.DESTROYED:
        raise KMIPError(ResultReason.OBJECT_DESTROYED, "the object is destroyed already")
    if managed.state == State.ACTIVE and managed.object_type in NEED_NO_REVOKE:
        states.move(managed, Event.DEACTIVATE, at=call.now)
    states.move(managed, Event.DESTROY, at=call.now)
    managed.attributes.last_change_date = call.now
    managed.material = None
    store.save(managed)
    return DestroyResponse(unique_identifier=managed.uid)


#: Objects without a cryptographic life are destroyed whatever their state.
NEED_NO_REVOKE = frozenset({ObjectType.TEMPLATE})
