"""Accounts as the database keeps them: found, made and bound to who vouches for them, with their groups and roles.

Nothing here authenticates anybody: see the other modules of the package.
"""

import time
from collections.abc import Iterable
from typing import Any, Final

from django.contrib.auth import get_user_model
from django.db import IntegrityError, transaction

from keystore import conf, roles
from keystore.authn.identities import BELIEVED, Approval, Identity, refused
from keystore.models import Account, ApprovalRule, Namespace, Role, RoleAssignment
from keystore.roles import Allowance
from kmip.enums import ResultReason
from kmip.errors import KMIPError

NAMESPACE_LENGTH: Final = 64
USERNAME_LENGTH: Final = 255


def check_namespace(name: str) -> str:
    """A name that a namespace may have; raises `KMIPError`."""
    if not 0 < len(name) <= NAMESPACE_LENGTH or not all(c.isascii() and (c.isalnum() or c in "-_.") for c in name):
        raise KMIPError(ResultReason.INVALID_FIELD, "a namespace is named with 1 to 64 letters, digits, '-', '_', '.'")
    return name


def check_username(name: str) -> str:
    """A name that a user may have; raises `KMIPError`."""
    if not 0 < len(name) <= USERNAME_LENGTH or not name.isprintable() or name != name.strip() or name == "*":
        raise KMIPError(ResultReason.INVALID_FIELD, "a user is named with 1 to 255 printable characters")
    return name


def namespace(name: str, *, make: bool = False) -> Namespace:
    """The namespace with a name; with `make` a new one where there is none. Raises `KMIPError`."""
    found = Namespace.objects.filter(name=check_namespace(name)).first()
    if found is None:
        # The default one needs no administrator.
        if not make and name != conf.current().auth.default_namespace:
            raise KMIPError(ResultReason.ITEM_NOT_FOUND, f"there is no namespace {name}")
        found, _ = Namespace.objects.get_or_create(name=name, defaults={"created": int(time.time())})
    return found


def namespaces() -> list[str]:
    """The names of the namespaces that let their clients in; the default one is there before anything is in it."""
    found = set(Namespace.objects.filter(disabled=False).values_list("name", flat=True))
    return sorted(found | {conf.current().auth.default_namespace})


def role_names(namespace_name: str) -> list[str]:
    """The roles that can be given in a namespace: the built-in ones, then its own."""
    own = Role.objects.filter(namespace_id=namespace_name).order_by("name")
    return [*roles.BUILT_IN, *own.values_list("name", flat=True)]


def find(namespace_name: str, username: str) -> Account | None:
    """The account of a user."""
    return (
        Account.objects.select_related("namespace", "user")
        .filter(namespace_id=namespace_name, username=username)
        .first()
    )


def ensure(namespace_name: str, username: str) -> Account:
    """The account of a user, made where there is none. Raises `KMIPError`."""
    account = find(namespace_name, username)
    if account is not None:
        return account
    owner = namespace(namespace_name)
    try:
        with transaction.atomic():
            return Account.objects.create(namespace=owner, username=check_username(username), created=int(time.time()))
    except IntegrityError:  # Another process was quicker.
        account = find(namespace_name, username)
        assert account is not None
        return account


def vouched(namespace_name: str, username: str, authority: str) -> Account:
    """The account of a user whom an authority vouches for; the first authority to do so is bound to the account.

    Raises `KMIPError` for a name that another authority vouches for, or that belongs to a person or a password."""
    account = find(namespace_name, username)
    if account is None:
        if conf.current().auth.enrolment == "registered":
            raise refused("the client is not registered")
        account = ensure(namespace_name, username)
    if authority in account.authorities:
        return account
    if account.authorities or account.password or account.user_id is not None:
        # Two authorities may each have an alice. Only an administrator can say that they are the same.
        raise refused("the name belongs to a client of another authority")
    if conf.current().auth.enrolment == "registered":
        raise refused("the client is not registered")
    with transaction.atomic():
        locked = Account.objects.select_for_update().get(pk=account.pk)
        if locked.authorities and authority not in locked.authorities:
            raise refused("the name belongs to a client of another authority")
        locked.authorities = [authority]
        locked.save(update_fields=["authorities"])
    account.authorities = [authority]
    return account


def identity(
    account: Account, method: str, *, fingerprint: str = "", scope: int = -1, manages: bool = True
) -> Identity:
    """Who an account is, with its groups and roles. Raises `KMIPError` where it, or its namespace, is disabled."""
    if account.disabled or account.namespace.disabled:
        raise refused("the client is disabled")
    person = account.user
    if person is not None and not person.is_active:
        raise refused("the client is disabled")
    groups = tuple(account.groups.order_by("name").values_list("name", flat=True))
    principals = [f"user:{account.username}", *(f"group:{name}" for name in groups)]
    if fingerprint:
        principals.append(f"certificate:{fingerprint}")
    names = set(
        RoleAssignment.objects.filter(namespace_id=account.namespace_id, principal__in=principals).values_list(
            "role", flat=True
        )
    )
    if person is not None and person.is_superuser:
        names.add(roles.ADMINISTRATOR.name)
    if not names and conf.current().access.default_role:
        names.add(conf.current().access.default_role)
    return Identity(
        account.username,
        method,
        account.namespace_id,
        fingerprint,
        groups,
        tuple(allowances(account.namespace_id, names)),
        scope,
        manages,
        time.monotonic() + BELIEVED,
        _approvals(account.namespace_id),
    )


def _approvals(namespace_name: str) -> tuple[Approval, ...]:
    """What waits for approval in a namespace."""
    rows = ApprovalRule.objects.filter(namespace=namespace_name)
    return tuple(
        Approval(
            row.operation,
            frozenset(int(roles.type_named(name)) for name in row.object_types),
            row.needed,
            tuple(row.people),
            row.lifetime,
        )
        for row in rows
    )


def allowances(namespace_name: str, names: Iterable[str]) -> list[Allowance]:
    """What roles allow, by their names; a name that no longer exists allows nothing."""
    found = [roles.BUILT_IN[name] for name in sorted(names) if name in roles.BUILT_IN]
    others = [name for name in names if name not in roles.BUILT_IN]
    if others:
        found += [allowance(role) for role in Role.objects.filter(namespace_id=namespace_name, name__in=others)]
    return found


def allowance(role: Role) -> Allowance:
    """What a role of the database allows."""
    return Allowance(
        role.name,
        roles.bits(roles.operation_named(name) for name in role.operations),
        roles.bits(roles.operation_named(name) for name in role.everywhere),
        frozenset(int(roles.type_named(name)) for name in role.object_types) or None,
    )


def of_person(username: str) -> Account:
    """The account of a person of the console, made at the first use; raises `KMIPError` where there is no such person.

    A person's account is `tenant/alice` for Django where it is not in the default namespace."""
    person = get_user_model().objects.filter(username=username, is_active=True).first()
    if person is None:
        raise refused("there is no such user of the console")
    account = Account.objects.select_related("namespace", "user").filter(user=person).first()
    if account is not None:
        return account
    name, _, rest = username.rpartition("/")
    account = ensure(name or conf.current().auth.default_namespace, rest)
    if account.authorities or account.user_id is not None:
        # The person and the client may be two: an administrator links them.
        raise refused("the name belongs to a client: link it to the user of the console first")
    link(account, person)
    return account


def person_name(namespace_name: str, username: str) -> str:
    """What a user of a namespace is called at the console."""
    return username if namespace_name == conf.current().auth.default_namespace else f"{namespace_name}/{username}"


def link(account: Account, person: Any) -> None:
    """Make a person of the console and an account the same user."""
    account.user = person
    account.save(update_fields=["user"])
