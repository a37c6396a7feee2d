"""The job that rotates objects whose Rotate Interval is over, by the code of Re-key and Re-certify (2.1, 4.48 to 4.54).

The row says when (`states.next_rotation`). The rotation's own transaction looks again whether that still holds, so that
an object is rotated once however many nodes try, and a client that changes its mind in time is heard.
"""

import logging
from typing import Final

from keystore import ca, clock, engine, roles, store
from keystore.authn import Identity, Peer
from keystore.models import ManagedObject
from keystore.store import Managed
from kmip.enums import LinkType, ObjectType, Operation, ResultReason
from kmip.errors import KMIPError
from kmip.payloads import ReCertifyRequest, ReKeyKeyPairRequest, ReKeyRequest
from kmip.schema import Struct

log = logging.getLogger(__name__)

#: Objects that one run rotates; the next run goes on.
AT_ONCE: Final = 500
#: Seconds after which one that could not be rotated is tried again.
PAUSE: Final = 3600


class _Settled(Exception):
    """Somebody else has rotated the object, or it is no longer to be rotated."""


def run() -> None:
    """Rotate what is due; raises the last failure once everything has been tried."""
    now = clock.now() // clock.SECOND
    failure: KMIPError | None = None
    due = ManagedObject.objects.filter(next_rotation__lte=now).order_by("next_rotation")
    for key, when in [(row.uid, row.next_rotation) for row in due.only("uid", "next_rotation")[:AT_ONCE]]:
        try:
            rotate(key, when, now)
        except _Settled:
            continue
        except KMIPError as exc:
            log.warning("%s could not be rotated: %s", store.uid_of(key), exc.message)
            ManagedObject.objects.filter(uid=key, next_rotation=when).update(next_rotation=now + PAUSE)
            failure = exc
    if failure is not None:
        raise failure


def rotate(key: str, when: int | None, now: int) -> None:
    """Rotate the object whose row has a key and is to be rotated at `when`; raises `KMIPError` where that fails."""
    for managed in store.fetch_all(ManagedObject.objects.filter(uid=key), now):
        _rotate(managed, when)


def _rotate(managed: Managed, when: int | None) -> None:
    # The server acts, in its owner's name: whoever that is must still be able to use the new object.
    owner = Identity(managed.owner, "rotation", managed.namespace, roles=(roles.CLIENT,))
    operation, request = _request(managed)

    def still_due() -> None:
        if not ManagedObject.objects.select_for_update().filter(uid=managed.key, next_rotation=when).exists():
            raise _Settled

    engine.execute(operation, request, Peer("job"), identity=owner, condition=still_due)


def _request(managed: Managed) -> tuple[Operation, Struct]:
    """What a client would send to rotate the object."""
    attributes, uid, offset = managed.attributes, managed.uid, managed.attributes.rotate_offset
    kind = managed.object_type
    if kind in (ObjectType.SYMMETRIC_KEY, ObjectType.SECRET_DATA):
        return Operation.RE_KEY, ReKeyRequest(unique_identifier=uid, offset=offset)
    if kind == ObjectType.CERTIFICATE:
        # Without one it would end when the old certificate does.
        offset = 0 if offset is None and attributes.deactivation_date is not None else offset
        return Operation.RE_CERTIFY, ReCertifyRequest(unique_identifier=uid, offset=offset)
    private = uid if kind == ObjectType.PRIVATE_KEY else ca.linked(managed, LinkType.PRIVATE_KEY_LINK)
    if private is None:
        raise KMIPError(ResultReason.INVALID_FIELD, "the public key has no Link to a private key to rotate it with")
    return Operation.RE_KEY_KEY_PAIR, ReKeyKeyPairRequest(private_key_unique_identifier=private, offset=offset)
