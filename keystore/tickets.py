"""Tickets of Login and Delegated Login: a credential that stands for who got it (2.1, 6.1.12, 6.1.30 and 9.11).

A ticket is random bytes; the database knows their digest only. It is valid until a date, for a number of requests, for
an amount of use, whichever ends first. A Login ticket is for whoever got it: a connection that is known to be somebody
else's cannot use it. A delegated one may be handed on, and may do only what one of its Rights allows.
"""

import os
from dataclasses import dataclass, fields
from hashlib import sha256
from typing import Any, Final

from django.db.models import F, Q

from keystore import authn, clock, conf, models, roles, store
from keystore.authn import Identity, Peer, accounts, certificates
from keystore.store import Managed
from kmip.enums import CredentialType, Operation, ResultReason, TicketType, UsageLimitsUnit
from kmip.errors import KMIPError
from kmip.messages import Authentication, TicketCredential
from kmip.payloads import Right
from kmip.structures import Ticket, UsageLimits
from kmip.tags import Tag

LENGTH: Final = 32
#: Operations that make an object or are about none: a Right for some objects allows them for those only.
_MAKING: Final = frozenset(
    {
        Operation.CREATE,
        Operation.CREATE_KEY_PAIR,
        Operation.REGISTER,
        Operation.IMPORT,
        Operation.DERIVE_KEY,
        Operation.CERTIFY,
        Operation.CREATE_SPLIT_KEY,
        Operation.JOIN_SPLIT_KEY,
    }
)
_GENERAL: Final = frozenset(
    {Operation.SET_DEFAULTS, Operation.SET_CONSTRAINTS, Operation.RE_PROVISION, Operation.PKCS_11, Operation.RNG_SEED}
)
#: Ways to authenticate that have an end or a revocation of their own, which a ticket would outlive.
_NO_TICKETS: Final = frozenset({"ticket", "token", "jwt"})


@dataclass(frozen=True, slots=True)
class Limit:
    """One Right of a delegated ticket; None is unrestricted."""

    id: int
    operations: int
    objects: frozenset[str] | None
    groups: frozenset[str] | None
    limited: bool

    def allows(self, operation: Operation) -> bool:
        """Whether the Right is about an operation."""
        return bool(self.operations >> operation & 1)

    def covers(self, managed: Managed) -> bool:
        """Whether the Right is about an object."""
        if self.objects is not None and managed.uid not in self.objects:
            return False
        return self.groups is None or not self.groups.isdisjoint(managed.attributes.object_group)


@dataclass(frozen=True, slots=True)
class Bearer(Identity):
    """Who a ticket stands for, for one request."""

    ticket: str = ""
    #: None where the ticket may do all that its owner may.
    rights: tuple[Limit, ...] | None = None
    limited: bool = False

    def reach(self, managed: Any) -> int:
        """The operations that some Right allows on the object."""
        if self.rights is None:
            return -1
        found = 0
        for right in self.rights:
            if right.covers(managed):
                found |= right.operations
        return found

    def confine(self, found: Any) -> Any:
        """The objects that some Right is about."""
        rights = self.rights
        if rights is None or any(right.objects is None and right.groups is None for right in rights):
            return found
        reached = Q(pk__in=[])
        for right in rights:
            reached |= self._reached(right)
        return found.filter(reached)

    def _reached(self, right: Limit) -> Q:
        found = Q()
        if right.objects is not None:
            found &= Q(uid__in=[store.key_of(self.namespace, uid) for uid in right.objects])
        if right.groups is not None:
            grouped = models.ObjectIndex.objects.filter(
                namespace=self.namespace,
                attribute=store.attribute_label(Tag.OBJECT_GROUP),
                value__in=[store.index_value(Tag.OBJECT_GROUP, group) for group in right.groups],
            )
            found &= Q(uid__in=grouped.values("object_id"))
        return found


def _digest(ticket: Ticket) -> str:
    return sha256(ticket.ticket_value).hexdigest()


def _limit(limits: UsageLimits | None) -> dict[str, int | None]:
    if limits is None:
        return {"usage_remaining": None, "usage_unit": None}
    if limits.usage_limits_total <= 0:
        raise KMIPError(ResultReason.INVALID_FIELD, "Usage Limits Total of a ticket is at least 1")
    return {"usage_remaining": limits.usage_limits_total, "usage_unit": limits.usage_limits_unit}


def issue(
    identity: Identity,
    *,
    lifetime: int | None,
    requests: int | None,
    limits: UsageLimits | None,
    rights: list[Right] | None = None,
) -> Ticket:
    """A new ticket that stands for an identity, limited to `rights` if they are given."""
    if identity.method in _NO_TICKETS:
        raise KMIPError(ResultReason.PERMISSION_DENIED, f"a client known by a {identity.method} gets no tickets")
    longest = conf.current().auth.ticket_lifetime
    seconds = min(lifetime, longest) if lifetime else longest
    if seconds < 0 or (requests is not None and requests <= 0):
        raise KMIPError(ResultReason.INVALID_FIELD, "Lease Time and Request Count of a ticket are not negative")
    value = os.urandom(LENGTH)
    ticket = Ticket(ticket_type=TicketType.LOGIN, ticket_value=value)
    now = clock.now()
    row = models.Ticket.objects.create(
        id=_digest(ticket),
        namespace=identity.namespace,
        owner=identity.username,
        identity={name: getattr(identity, name) for name in ("method", "fingerprint", "scope")},
        delegated=rights is not None,
        created=now,
        expires=now + seconds * clock.SECOND,
        remaining=requests,
        **_limit(limits),
    )
    models.TicketRight.objects.bulk_create(models.TicketRight(ticket=row, **_packed(right)) for right in rights or ())
    return ticket


def _packed(right: Right) -> dict[str, Any]:
    identifiers = None if right.objects is None else right.objects.unique_identifier
    if identifiers is not None and not all(isinstance(one, str) for one in identifiers):
        raise KMIPError(ResultReason.INVALID_FIELD, "a Right names its objects by identifiers")
    return {
        "operations": None if right.operations is None else [int(one) for one in right.operations.operation],
        "objects_allowed": identifiers,
        "object_groups": None if right.object_groups is None else right.object_groups.object_group,
        **_limit(right.usage_limits),
    }


def revoke(identity: Identity, ticket: Ticket) -> None:
    """End a ticket of the identity; raises `KMIPError` (Invalid Ticket) for one that is not, or no longer, valid."""
    mine = models.Ticket.objects.filter(
        id=_digest(ticket), namespace=identity.namespace, owner=identity.username, expires__gt=clock.Now()
    )
    if not mine.exists():
        raise _invalid()
    mine.delete()


def _invalid() -> KMIPError:
    return KMIPError(ResultReason.INVALID_TICKET, "the ticket is not valid, or no longer")


def bearer(peer: Peer, authentication: Authentication | None) -> Identity | None:
    """The identity that a Ticket credential stands for, one of its requests taken off (see `settings.KMS`)."""
    if authentication is None or not conf.current().auth.kmip_credentials:
        return None
    given = [one for one in authentication.credential if one.credential_type == CredentialType.TICKET]
    if not given:
        return None
    if len(authentication.credential) > 1:
        # All credentials must be satisfied (2.1, 9.4): a ticket stands for one identity already.
        raise KMIPError(ResultReason.INVALID_FIELD, "a Ticket is the only credential of a request")
    value = given[0].credential_value
    if not isinstance(value, TicketCredential) or value.ticket.ticket_type != TicketType.LOGIN:
        raise _invalid()
    return _use(peer, value.ticket)


def _use(peer: Peer, ticket: Ticket) -> Identity:
    valid = models.Ticket.objects.filter(id=_digest(ticket), expires__gt=clock.Now())
    row = valid.first()
    if row is None:
        raise _invalid()
    if not row.delegated and _connected(peer) not in (None, (row.namespace, row.owner)):
        raise _invalid()
    if row.remaining is not None and not valid.filter(remaining__gt=0).update(remaining=F("remaining") - 1):
        raise _invalid()
    return _identity(row)


def again(ticket: str) -> Identity:
    """Who a ticket, by its digest, stands for when a request is carried out that was taken on while it was valid."""
    row = models.Ticket.objects.filter(id=ticket).first()
    if row is None:
        raise _invalid()
    return _identity(row)


def _identity(row: models.Ticket) -> Identity:
    rights = tuple(_limit_of(one) for one in row.rights.order_by("id")) if row.delegated else None
    scope = row.identity["scope"]
    if rights is not None:
        scope &= roles.bits(set().union(*(roles.operations_in(right.operations & roles.ALL) for right in rights)))
    account = accounts.find(row.namespace, row.owner)
    if account is None:
        raise _invalid()
    fingerprint = row.identity["fingerprint"]
    if row.identity["method"] == certificates.METHOD:
        certificates.check_known(fingerprint)
    now = accounts.identity(account, "ticket", fingerprint=fingerprint, scope=scope, manages=False)
    kept = {one.name: getattr(now, one.name) for one in fields(Identity) if one.init}
    limited = row.usage_remaining is not None or any(right.limited for right in rights or ())
    return Bearer(**kept, ticket=row.id, rights=rights, limited=limited)


def _connected(peer: Peer) -> tuple[str, str] | None:
    """Who the connection itself is known to be."""
    try:
        known = authn.identify(peer)
    except KMIPError:
        return None
    return known.namespace, known.username


def _limit_of(row: models.TicketRight) -> Limit:
    return Limit(
        row.id,
        -1 if row.operations is None else roles.bits(row.operations),
        None if row.objects_allowed is None else frozenset(row.objects_allowed),
        None if row.object_groups is None else frozenset(row.object_groups),
        row.usage_remaining is not None,
    )


def authorise(identity: Identity, operation: Operation) -> None:
    """Raise `KMIPError` (Not Authorised) where a delegated ticket has no Right to an operation, whatever with."""
    rights = identity.rights if isinstance(identity, Bearer) else None
    if rights is not None and not any(right.allows(operation) for right in rights):
        raise _not_authorised(operation)


def _not_authorised(operation: Operation) -> KMIPError:
    # The case TC-DLOGIN-2 of 2.0 has this reason, which stands in no operation's table.
    return KMIPError(ResultReason.NOT_AUTHORISED, f"the ticket does not allow {operation}")


def permit(identity: Identity, operation: Operation, payload: Any) -> None:
    """Raise `KMIPError` where a delegated ticket may not do this, or its limits are used up; takes the use off them."""
    if not isinstance(identity, Bearer):
        return
    amount = {UsageLimitsUnit.OBJECT: 1, UsageLimitsUnit.BYTE: len(getattr(payload, "data", None) or b"")}
    if identity.rights is not None:
        able = [right for right in identity.rights if right.allows(operation) and _about(right, operation, payload)]
        if not able:
            raise _not_authorised(operation)
        # One that is not limited serves first.
        if not any(not right.limited or _take(models.TicketRight, right.id, amount) for right in able):
            raise KMIPError(ResultReason.USAGE_LIMIT_EXCEEDED, "the Usage Limits of the ticket's Right are used up")
    if identity.limited and not _take(models.Ticket, identity.ticket, amount):
        raise KMIPError(ResultReason.USAGE_LIMIT_EXCEEDED, "the Usage Limits of the ticket are used up")


def _about(right: Limit, operation: Operation, payload: Any) -> bool:
    """Whether a Right is about what the request names; what it finds out later, `Bearer.reach` sees."""
    named = getattr(payload, "unique_identifier", None)
    given = named if isinstance(named, list) else [named] if isinstance(named, str) else []
    if right.objects is not None:
        if not all(isinstance(uid, str) and uid in right.objects for uid in given):
            return False
        if not given and operation in _MAKING | _GENERAL:
            return False
    if right.groups is None:
        return True
    if operation not in _MAKING:
        return operation not in _GENERAL
    asked = [
        attributes.object_group
        for name in ("attributes", "common_attributes", "private_key_attributes", "public_key_attributes")
        if (attributes := getattr(payload, name, None)) is not None
    ]
    return any(not right.groups.isdisjoint(groups) for groups in asked)


def _take(model: Any, key: Any, amount: dict[UsageLimitsUnit, int]) -> bool:
    """Take a use off the limits of a row; True where it has none or enough is left."""
    row = model.objects.filter(pk=key)
    unit = row.values_list("usage_unit", flat=True).first()
    if unit is None:
        return bool(row.exists())
    used = amount[UsageLimitsUnit(unit)]
    return bool(row.filter(usage_remaining__gte=used).update(usage_remaining=F("usage_remaining") - used))


def expire(now: int) -> int:
    """Forget tickets whose time is over; how many."""
    return models.Ticket.objects.filter(expires__lte=now).delete()[0]
