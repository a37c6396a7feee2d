"""Who sits at the console, and what they ask the engine. Every page reaches the key store through here."""

import time
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from django import forms
from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext

from keystore import audit, authn, engine, policy, store
from keystore.authn import Identity, Peer
from keystore.models import AuditRecord, ManagedObject
from keystore.store import Managed
from kmip.enums import Operation, ResultStatus
from kmip.errors import KMIPError
from kmip.schema import Struct
from ui import login


def peer_of(request: HttpRequest) -> Peer:
    """The person behind a request, as the engine sees them."""
    peer: Peer | None = getattr(request, "kms_peer", None)
    if peer is None:
        peer = login.peer_of(request)
        request.kms_peer = peer  # type: ignore[attr-defined]
    return peer


def identity(request: HttpRequest) -> Identity:
    """Who that person is; raises `KMIPError` where they may not use the key store."""
    return authn.identify(peer_of(request))


def carry_out(request: HttpRequest, operation: Operation, payload: Struct) -> Any:
    """The response payload of an operation; raises `KMIPError`."""
    return engine.execute(operation, payload, peer_of(request))


class Outcome(NamedTuple):
    """How a change went: whether nothing is left to do, as it is done or waits for approval; and what was answered."""

    over: bool
    answer: Any = None


def change(
    request: HttpRequest,
    make: Callable[[], Any],
    done: str = "",
    form: forms.Form | None = None,
    field: str | None = None,
) -> Outcome:
    """Make a change. That it is `done`, or waits for approval, is said on the next page; why it was refused, at the
    form or a field of it, or without a form on the next page, too."""
    try:
        answer = make()
    except KMIPError as exc:
        if waits(exc):
            messages.info(request, gettext("It waits for approval: %(what)s") % {"what": exc.message})
            return Outcome(True)
        if form is None:
            messages.error(request, exc.message)
        else:
            form.add_error(field, exc.message)
        return Outcome(False)
    if done:
        messages.success(request, done)
    return Outcome(True, answer)


def waits(error: KMIPError) -> bool:
    """Whether something was not refused, but waits until people have approved it."""
    return error.status == ResultStatus.OPERATION_PENDING


def visible(request: HttpRequest, among: Collection[str] | None = None) -> QuerySet[ManagedObject]:
    """The objects that exist for the person, newest first; of those `among` some primary keys, if any are given."""
    return policy.visible(identity(request), among)


def may(request: HttpRequest, operation: Operation, managed: Managed) -> bool:
    """Whether the person's rights allow an operation on an object."""
    return policy.may(identity(request), operation, managed)


def oversees(request: HttpRequest) -> bool:
    """Whether the person's roles show them every object of their namespace, and so every record."""
    return bool(identity(request).everywhere)


def administers(request: HttpRequest) -> bool:
    """Whether the person is an administrator of their namespace."""
    return identity(request).administers


def operates(request: HttpRequest) -> bool:
    """Whether the person may see how the server itself is set up and doing, which no tenant's administrator may."""
    return policy.operates(identity(request))


def latest(request: HttpRequest, limit: int) -> list[AuditRecord]:
    """The person's own last records."""
    who = identity(request)
    return audit.records(AuditRecord.objects.filter(user=who.username, namespace=who.namespace), limit)


def turned_away(limit: int) -> list[AuditRecord]:
    """The last requests and logins that failed before anybody knew whose they were."""
    return audit.records(AuditRecord.objects.filter(user="", result="Failure"), limit)


def trail(request: HttpRequest, managed: Managed, limit: int) -> list[AuditRecord]:
    """The last records of an object; who merely was granted something sees only their own."""
    who = identity(request)
    found = AuditRecord.objects.filter(namespace=who.namespace, object=managed.uid)
    if managed.owner != who.username and not who.everywhere:
        found = found.filter(user=who.username)
    return audit.records(found, limit)


def managed(request: HttpRequest, uid: str) -> Managed | None:
    """An object that exists for the person."""
    who = identity(request)
    found = store.fetch(uid, int(time.time()), who)
    return found if found is not None and policy.may_see(who, found) else None
