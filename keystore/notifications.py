"""What clients are told without having asked: Notify and Put (2.1, 6.2.2 and 6.2.3).

A client that takes the server role on its connection subscribes its user: Put brings the user's own new objects, Notify
the changes of those and of others' that the user was granted the attributes of. The specification leaves it to the
server whom it tells; whom roles let reach all objects of a namespace is told of its own alone. What is to be sent is
noted in the transaction of the change, sent in that order over any such connection of the user, tried again while the
client fails to take it, and dropped with a record in the audit when that has gone on for too long. Subscriptions
outlive the connection for a while, so that a client may come back.

A `Courier` is one connection's side of it, without the connection: bytes to send, bytes received.
"""

import contextlib
import logging
import secrets
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from django.db import transaction
from django.db.models import F, Q

from keystore import approvals, audit, authn, ca, clock, compiled, conf, objects, policy, roles, store
from keystore.authn import Identity, Peer
from keystore.models import Account, Endpoint, Group, ManagedObject, Notification
from keystore.store import Managed
from kmip import ttlv
from kmip.attributes import BY_NAME, BY_TAG, Attributes, Key, References, Vendor
from kmip.enums import (
    LinkType,
    Operation,
    PutFunction,
    QueryFunction,
    ResultReason,
    ResultStatus,
)
from kmip.errors import KMIPError
from kmip.messages import RequestBatchItem, RequestHeader, RequestMessage, ResponseMessage, protocol_version
from kmip.objects import FIELDS
from kmip.payloads import (
    DiscoverVersionsRequest,
    DiscoverVersionsResponse,
    NotifyRequest,
    PutRequest,
    QueryRequest,
    QueryResponse,
)
from kmip.schema import Struct, dump
from kmip.tags import Tag
from kmip.ttlv import Item
from kmip.versions import VERSIONS, Version

log = logging.getLogger(__name__)

#: Attempts after which a notification is dropped, and the longest pause between two, in seconds.
MAX_ATTEMPTS: Final = 8
LONGEST_PAUSE: Final = 300
#: Seconds for which a connection that sends a notification keeps others from sending it too.
HELD: Final = 60
#: How often a subscription is renewed within its lifetime.
RENEWALS: Final = 4
#: What a client is asked about itself.
ASKED: Final = (
    QueryFunction.QUERY_OPERATIONS,
    QueryFunction.QUERY_OBJECTS,
    QueryFunction.QUERY_SERVER_INFORMATION,
    QueryFunction.QUERY_ATTESTATION_TYPES,
    QueryFunction.QUERY_PROFILES,
    QueryFunction.QUERY_CAPABILITIES,
)
#: Seconds of silence after which the client is asked for a sign of life.
SILENCE: Final = 60.0


# Noting what is to be sent.

#: Whether anybody in a namespace asked to be told: for most objects that are written nobody did.
_SUBSCRIBED: Final = compiled.select(
    lambda: Endpoint.objects.filter(namespace="x", expires__gt=clock.Now()).values_list("id")[:1], 1
)
_SEES: Final = 1 << Operation.GET_ATTRIBUTES


def subscribe(identity: Identity) -> None:
    """Tell the user's clients from now on."""
    lifetime = int(conf.current().jobs.notification_lifetime * clock.SECOND)
    Endpoint.objects.update_or_create(
        namespace=identity.namespace, username=identity.username, defaults={"expires": clock.now() + lifetime}
    )


def watch(managed: Managed, stored: Callable[[], Attributes] | None) -> None:
    """Note what users are to be told of an object that is being saved; `stored` gives its attributes before, and is
    None for a new one."""
    if _SUBSCRIBED.first((managed.namespace,)) is None:
        return
    told = _told(managed, new=stored is None)
    if not told:
        return
    now, before = clock.now(), stored() if stored is not None else None
    after = managed.attributes
    changed = [_label(key) for key, values in after.items() if before is None or before.get(key) != values]
    deleted = [_label(key) for key in before or () if key not in after]
    if not changed and not deleted:
        return
    put = before is None and not after.sensitive and after.extractable is not False
    Notification.objects.bulk_create(
        Notification(
            namespace=managed.namespace,
            username=username,
            operation=Operation.PUT if put else Operation.NOTIFY,
            uid=managed.uid,
            changed=changed,
            deleted=deleted,
            created=now,
            expires=now + int(conf.current().jobs.notification_lifetime * clock.SECOND),
        )
        for username in told
    )


def _told(managed: Managed, *, new: bool) -> list[str]:
    """Who is told of an object, of the users who asked to be: its owner and those who were granted its attributes."""
    listening = Endpoint.objects.filter(namespace=managed.namespace, expires__gt=clock.Now())
    usernames = set(listening.values_list("username", flat=True))
    others = usernames - {managed.owner}
    if not others or new:
        # Nobody was granted anything on an object that is yet to be.
        return sorted(usernames & {managed.owner})
    granted = {
        principal
        for principal, operations in store.grants_on(managed.key).values_list("principal", "operations")
        if operations & _SEES
    }
    if not granted:
        return sorted(usernames & {managed.owner})
    told = others if "*" in granted else {one for one in others if f"user:{one}" in granted}
    groups = [principal.removeprefix("group:") for principal in granted if principal.startswith("group:")]
    if groups:
        members = Account.objects.filter(
            namespace=managed.namespace,
            username__in=others,
            groups__name__in=groups,
            groups__namespace=managed.namespace,
        )
        told |= set(members.values_list("username", flat=True))
    return sorted(told | usernames & {managed.owner})


store.WATCHERS.append(watch)


def _label(key: Key) -> str:
    return BY_TAG[key].name if isinstance(key, Tag) else f"{key.vendor}/{key.name}"


def _key(label: str) -> Key:
    vendor, slash, name = label.partition("/")
    return Vendor(vendor, name) if slash else BY_NAME[label].tag


# Sending.


class _Sent(NamedTuple):
    """A request that waits for its response."""

    operation: Operation
    notification: Notification | None
    began: int


class Courier:
    """Sends a user's notifications over one connection, one after another, once it knows what the client takes."""

    def __init__(self, peer: Peer, version: Version) -> None:
        self.peer, self.version = peer, version
        self.waiting: _Sent | None = None
        self._holder = secrets.token_hex(16)
        self._operations: frozenset[Operation] | None = None
        self._first: list[Callable[[], tuple[Operation, Struct]]] = [self._discover_versions, self._query]
        self._renewed = 0.0
        self._heard = time.monotonic()

    def next(self) -> bytes | None:
        """The next request to send, where there is one. Raises `KMIPError` where the client is nobody any more."""
        assert self.waiting is None
        if self._first:
            operation, payload = self._first.pop(0)()
            return self._request(operation, payload, None)
        identity = authn.identify(self.peer)
        self._renew(identity)
        while (row := self._claim(identity)) is not None:
            operation = Operation(row.operation)
            if self._operations is not None and operation not in self._operations:
                _end(identity, self.peer, row, f"the client does not take {operation}")
                continue
            try:
                payload = self._payload(identity, row)
            except KMIPError as exc:
                _end(identity, self.peer, row, exc.message)
                continue
            return self._request(operation, payload, row)
        if time.monotonic() - self._heard > SILENCE:
            return self._request(*self._discover_versions(), None)
        return None

    def receive(self, data: bytes) -> None:
        """Take the response to the request that was sent last. Raises `KMIPError` for what is no response."""
        message = ResponseMessage.load(ttlv.decode(data))
        self._heard = time.monotonic()
        sent, self.waiting = self.waiting, None
        if sent is None or len(message.batch_item) != 1:
            raise KMIPError(ResultReason.INVALID_MESSAGE, "a response that answers no request")
        item = message.batch_item[0]
        succeeded = item.result_status == ResultStatus.SUCCESS
        if sent.notification is None:
            if succeeded and isinstance(item.response_payload, Item):
                self._learn(sent.operation, item.response_payload)
            return
        identity = authn.identify(self.peer)
        if succeeded:
            if sent.operation is Operation.PUT:
                store.no_longer_fresh([store.key_of(identity.namespace, sent.notification.uid)])
            _end(identity, self.peer, sent.notification)
        elif item.result_reason == ResultReason.OPERATION_NOT_SUPPORTED:
            _end(identity, self.peer, sent.notification, f"the client does not take {sent.operation}")
        else:
            self._failed(identity, sent.notification, str(item.result_reason))

    def lost(self) -> None:
        """The connection has ended: what was not answered is sent again."""
        sent, self.waiting = self.waiting, None
        if sent is not None and sent.notification is not None:
            identity = Identity(sent.notification.username, "courier", sent.notification.namespace)
            self._failed(identity, sent.notification, "the connection ended")

    # What the client is asked first (2.1, 6.2.1 and 6.2.4).

    def _discover_versions(self) -> tuple[Operation, Struct]:
        asked = DiscoverVersionsRequest(protocol_version=[protocol_version(one) for one in VERSIONS])
        return Operation.DISCOVER_VERSIONS, asked

    def _query(self) -> tuple[Operation, Struct]:
        return Operation.QUERY, QueryRequest(query_function=[one for one in ASKED if one.since <= self.version])

    def _learn(self, operation: Operation, payload: Item) -> None:
        if operation is Operation.DISCOVER_VERSIONS:
            spoken = DiscoverVersionsResponse.load(payload).protocol_version
            known = {one.protocol_version_major * 10 + one.protocol_version_minor for one in spoken}
            # The newest of those that both speak; the version of the connection where the client names none.
            self.version = next((one for one in VERSIONS if one in known), self.version)
        else:
            listed = QueryResponse.load(payload).operation
            self._operations = frozenset(listed) or None

    # Messages.

    def _request(self, operation: Operation, payload: Struct, row: Notification | None) -> bytes:
        self.waiting = _Sent(operation, row, time.time_ns())
        message = RequestMessage(
            request_header=RequestHeader(protocol_version=protocol_version(self.version), batch_count=1),
            batch_item=[
                RequestBatchItem(operation=operation, request_payload=dump(payload, Tag.REQUEST_PAYLOAD, self.version))
            ],
        )
        return ttlv.encode(dump(message, Tag.REQUEST_MESSAGE, self.version))

    def _payload(self, identity: Identity, row: Notification) -> Struct:
        managed = store.fetch(row.uid, clock.now() // clock.SECOND, identity)
        if managed is None or not policy.may_see(identity, managed):
            raise KMIPError(ResultReason.OBJECT_NOT_FOUND, "the object is no more")
        if Operation(row.operation) is Operation.PUT:
            return self._put(identity, managed)
        if not policy.may(identity, Operation.GET_ATTRIBUTES, managed):
            raise KMIPError(ResultReason.PERMISSION_DENIED, "the client may not get the object's attributes")
        # The date is part of every notice (2.1, 6.2.2), also where it is the same second's.
        changed = managed.attributes.only({*(_key(label) for label in row.changed), Tag.LAST_CHANGE_DATE})
        return NotifyRequest(
            unique_identifier=managed.uid,
            attributes=changed,
            attribute_reference=References(_key(label) for label in row.deleted) or None,
        )

    def _put(self, identity: Identity, managed: Managed) -> PutRequest:
        if not policy.may(identity, Operation.GET, managed):
            raise KMIPError(ResultReason.PERMISSION_DENIED, "the client may not get the object")
        if approvals.rule_for(identity, roles.name_of(Operation.GET), managed.object_type) is not None:
            raise KMIPError(ResultReason.PERMISSION_DENIED, "getting the object needs approval")
        if not managed.object_type.since <= self.version <= managed.object_type.until:
            raise KMIPError(ResultReason.FEATURE_NOT_SUPPORTED, f"its version knows no {managed.object_type}")
        attributes = managed.attributes
        if attributes.sensitive or attributes.extractable is False:
            raise KMIPError(ResultReason.PERMISSION_DENIED, "the object may not leave the server")
        replaced = ca.linked(managed, LinkType.REPLACED_OBJECT_LINK)
        return PutRequest(
            unique_identifier=managed.uid,
            put_function=PutFunction.NEW if replaced is None else PutFunction.REPLACE,
            replaced_unique_identifier=replaced,
            attributes=attributes,
            **{FIELDS[managed.object_type]: objects.decode(managed)},
        )

    # The queue.

    def _renew(self, identity: Identity) -> None:
        if time.monotonic() >= self._renewed:
            subscribe(identity)
            self._renewed = time.monotonic() + conf.current().jobs.notification_lifetime / RENEWALS

    def _claim(self, identity: Identity) -> Notification | None:
        """The user's oldest notification, unless it has to wait or another connection is sending it."""
        mine = Notification.objects.filter(namespace=identity.namespace, username=identity.username)
        row = mine.order_by("id").first()
        if row is None:
            return None
        free = Notification.objects.filter(id=row.id, held_until__lte=clock.Now(), next_attempt__lte=clock.Now())
        if not free.update(holder=self._holder, held_until=clock.Now() + HELD * clock.SECOND):
            return None
        return row

    def _failed(self, identity: Identity, row: Notification, why: str) -> None:
        if row.attempts + 1 >= MAX_ATTEMPTS:
            _end(identity, self.peer, row, why)
            return
        pause = min(2**row.attempts, LONGEST_PAUSE) * clock.SECOND
        Notification.objects.filter(id=row.id, holder=self._holder).update(
            attempts=F("attempts") + 1,
            next_attempt=clock.Now() + pause,
            holder="",
            held_until=0,
            last_error=why[:255],
        )


def _end(identity: Identity, peer: Peer, row: Notification, why: str = "") -> bool:
    """Take a notification from the queue, with a record of it; `why` says what it was dropped for. False where another
    process has done so."""
    with transaction.atomic():
        if not Notification.objects.filter(id=row.id).delete()[0]:
            return False
        operation = str(Operation(row.operation))
        audit.note(identity, peer, operation, uid=row.uid, reason="Dropped" if why else "", detail=why)
    if why:
        log.warning("%s of %s for %r dropped: %s", operation, row.uid, row.username, why)
    return True


def settle() -> None:
    """Write down the state changes that have come with their date for objects of which somebody asked to be told (the
    job "states")."""
    now = clock.now()
    for endpoint in Endpoint.objects.filter(expires__gt=now):
        groups = Group.objects.filter(namespace=endpoint.namespace, members__username=endpoint.username)
        principals = ["*", f"user:{endpoint.username}", *(f"group:{one.name}" for one in groups)]
        granted = store.granted_to(principals).filter(namespace=endpoint.namespace).values("object_id")
        due = ManagedObject.objects.filter(
            Q(owner=endpoint.username) | Q(uid__in=granted),
            namespace=endpoint.namespace,
            next_change__lte=now // clock.SECOND,
        )
        for key in list(due.values_list("uid", flat=True)):
            with contextlib.suppress(store.Conflict), transaction.atomic():
                managed = store.at(key, now // clock.SECOND)
                if managed is not None:
                    store.save(managed)


def expire(now: int) -> int:
    """Drop what has waited too long, and subscriptions whose client has not come back; how many."""
    count = 0
    for row in Notification.objects.filter(expires__lte=now)[:1000]:
        why = row.last_error or "no client took it in time"
        count += _end(Identity(row.username, "courier", row.namespace), Peer("job"), row, why)
    return count + Endpoint.objects.filter(expires__lte=now).delete()[0]
