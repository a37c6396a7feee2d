"""Operations that move objects through their life: Activate, Revoke, Destroy."""

from collections.abc import Iterator

from keystore import ca, states, store, withholding
from keystore.call import Call, operation
from keystore.states import Event
from keystore.store import Managed
from kmip.enums import LinkType, ObjectType, Operation, ResultReason, State
from kmip.errors import KMIPError
from kmip.payloads import (
    ActivateRequest,
    ActivateResponse,
    DestroyRequest,
    DestroyResponse,
    RevokeRequest,
    RevokeResponse,
)

#: Objects without a cryptographic life are destroyed whatever their state.
NEED_NO_REVOKE = frozenset({ObjectType.TEMPLATE})
_OTHER_HALF = frozenset({LinkType.PUBLIC_KEY_LINK, LinkType.PRIVATE_KEY_LINK})


@operation(Operation.ACTIVATE)
def activate(call: Call, request: ActivateRequest) -> ActivateResponse:
    """Activate a pre-active object (KMIP 2.1, 6.1.1)."""
    found = [_here(managed) for managed in call.objects(request.unique_identifier)]
    for managed in found:
        if managed.state == State.ACTIVE:
            raise KMIPError(ResultReason.WRONG_KEY_LIFECYCLE_STATE, "the object is active already: nothing is to do")
        states.move(managed, Event.ACTIVATE, at=call.now)
        call.changed(managed)
    return ActivateResponse(unique_identifier=found[0].uid)


def _here(managed: Managed) -> Managed:
    """An object that has a life and is not archived."""
    if managed.object_type == ObjectType.TEMPLATE:
        raise KMIPError(ResultReason.INVALID_OBJECT_TYPE, "a Template is neither activated nor revoked")
    if managed.columns["archive_date"] is not None:
        raise KMIPError(ResultReason.OBJECT_ARCHIVED, "the object is archived: recover it first")
    return managed


@operation(Operation.REVOKE)
def revoke(call: Call, request: RevokeRequest) -> RevokeResponse:
    """Revoke an object; a compromise reason compromises it (KMIP 2.1, 6.1.44)."""
    found = call.objects(request.unique_identifier)
    for managed in _with_pairs(call, found, cascade=request.cascade):
        _revoke(call, _here(managed), request)
    call.batch.placeholder = found[0].uid
    return RevokeResponse(unique_identifier=found[0].uid)


def _revoke(call: Call, managed: Managed, request: RevokeRequest) -> None:
    reason = request.revocation_reason
    if not reason.revocation_reason_code.known:
        raise KMIPError(ResultReason.INVALID_FIELD, f"{reason.revocation_reason_code} is no Revocation Reason Code")
    compromised = reason.revocation_reason_code in states.COMPROMISES
    if call.dialect and managed.state in states.DESTROYED:
        # Its clients revoke twice, and take success for granted. A certificate that is gone here is out there still.
        ca.revoke(managed, reason, call.now, request.compromise_occurrence_date)
        return
    if compromised and managed.state in (State.COMPROMISED, State.DESTROYED_COMPROMISED):
        # Revoked as compromised twice: what is known stays known.
        pass
    elif not compromised and managed.state == State.DEACTIVATED:
        # Deactivated by a date or before: the reason is what is new.
        pass
    elif compromised:
        # When it happened is at worst as long ago as the object (2.1, 6.1.44).
        occurred = request.compromise_occurrence_date
        occurred = managed.attributes.initial_date if occurred is None else occurred
        states.move(managed, Event.COMPROMISE, at=call.now, occurred=occurred)
    else:
        states.move(managed, Event.DEACTIVATE, at=call.now)
    managed.attributes.revocation_reason = reason
    call.changed(managed)
    ca.revoke(managed, reason, call.now, request.compromise_occurrence_date)


def _with_pairs(call: Call, found: list[Managed], *, cascade: bool | None) -> Iterator[Managed]:
    """The objects and, where the client wants it so, the other halves of their key pairs."""
    yield from found
    if not cascade:
        return
    known = {managed.uid for managed in found}
    for managed in found:
        for link in managed.attributes.link:
            uid = link.linked_object_identifier
            if link.link_type in _OTHER_HALF and isinstance(uid, str) and uid not in known:
                known.add(uid)
                yield call.object(uid)


@operation(Operation.DESTROY)
def destroy(call: Call, request: DestroyRequest) -> DestroyResponse:
    """Erase an object's material and keep its attributes (KMIP 2.1, 6.1.15)."""
    found = call.objects(request.unique_identifier)
    for managed in _with_pairs(call, found, cascade=request.cascade):
        if managed.state not in states.DESTROYED:
            _destroy(call, managed)
        elif not call.dialect:
            raise KMIPError(ResultReason.OBJECT_DESTROYED, "the object is destroyed already")
        if request.remove:
            store.delete(managed)
    call.batch.placeholder = found[0].uid
    return DestroyResponse(unique_identifier=found[0].uid)


def _destroy(call: Call, managed: Managed) -> None:
    if managed.columns["archive_date"] is not None:
        raise KMIPError(ResultReason.OBJECT_ARCHIVED, "the object is archived: recover it first")
    unrevoked = managed.object_type in NEED_NO_REVOKE or (
        # Its clients destroy certificates without revoking them.
        call.dialect and managed.object_type == ObjectType.CERTIFICATE
    )
    before = managed.attributes.copy()
    if managed.state == State.ACTIVE and unrevoked:
        states.move(managed, Event.DEACTIVATE, at=call.now)
    states.move(managed, Event.DESTROY, at=call.now)
    withholding.withhold(managed, before, call.identity)
    managed.material = None
    call.changed(managed)
