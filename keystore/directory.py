"""Who there is in a namespace, for lists and pages: users, groups, roles, and what they were given.

Nothing here decides or changes anything: see `administration` and `access`. Callers ask only for namespaces whose
administrators they serve.
"""

from dataclasses import dataclass
from typing import Final

from django.db.models import Count, Window
from django.db.models.functions import RowNumber

from keystore import clock, roles
from keystore.authn import accounts
from keystore.models import Account, ApiToken, ClientCertificate, Group, Notification, Role, RoleAssignment
from keystore.roles import Allowance

#: Rows of a user's or a group's page; more are told, not shown.
MOST: Final = 200


@dataclass(frozen=True, slots=True)
class User:
    """A user, and what it has."""

    account: Account
    groups: list[str]
    #: Roles given to the user itself, and those that come with its groups: role and group.
    roles: list[str]
    inherited: list[tuple[str, str]]
    tokens: list[ApiToken]
    certificates: list[ClientCertificate]


def users(namespace: str, beginning: str, after: str, limit: int) -> list[Account]:
    """The users whose names begin so, by name, those after a name."""
    rows = Account.objects.select_related("user").filter(namespace=namespace, username__gt=after)
    if beginning:
        rows = rows.filter(username__startswith=beginning)
    return list(rows.order_by("username")[:limit])


def roles_given(namespace: str, principals: list[str]) -> dict[str, list[str]]:
    """The roles of each of some principals."""
    found: dict[str, list[str]] = {}
    rows = RoleAssignment.objects.filter(namespace=namespace, principal__in=principals).order_by("role")
    for principal, role in rows.values_list("principal", "role"):
        found.setdefault(principal, []).append(role)
    return found


def user(namespace: str, username: str) -> User | None:
    """A user with everything that it has."""
    account = accounts.find(namespace, username)
    if account is None:
        return None
    groups = list(account.groups.order_by("name").values_list("name", flat=True))
    given = roles_given(namespace, [f"user:{username}", *(f"group:{name}" for name in groups)])
    return User(
        account,
        groups,
        given.pop(f"user:{username}", []),
        [(role, principal.removeprefix("group:")) for principal, names in sorted(given.items()) for role in names],
        tokens(account),
        list(account.certificates.order_by("-not_after", "fingerprint")[:MOST]),
    )


def tokens(account: Account) -> list[ApiToken]:
    """A user's tokens that are not revoked, the last made first."""
    return list(ApiToken.objects.filter(account=account, revoked__isnull=True).order_by("-created", "id")[:MOST])


def groups(namespace: str) -> list[tuple[str, int, list[str]]]:
    """Every group with the number of its members, and its roles."""
    rows = Group.objects.filter(namespace=namespace).annotate(size=Count("members")).order_by("name")
    found = list(rows.values_list("name", "size"))
    given = roles_given(namespace, [f"group:{name}" for name, _ in found])
    return [(name, size, given.get(f"group:{name}", [])) for name, size in found]


def members(namespace: str, name: str) -> list[str] | None:
    """The first members of a group, by name; None where there is no such group."""
    group = Group.objects.filter(namespace=namespace, name=name).first()
    if group is None:
        return None
    return list(group.members.order_by("username").values_list("username", flat=True)[:MOST])


def allowances(namespace: str) -> list[tuple[Allowance, bool]]:
    """Every role that can be given, and whether it is the namespace's own."""
    own = Role.objects.filter(namespace=namespace).order_by("name")
    return [*((role, False) for role in roles.BUILT_IN.values()), *((accounts.allowance(role), True) for role in own)]


def notifications(namespace: str, username: str | None, limit: int) -> list[Notification]:
    """What is still to be told to the clients of a user, or of every user, the oldest first."""
    rows = Notification.objects.filter(namespace=namespace, expires__gt=clock.now())
    if username is not None:
        rows = rows.filter(username=username)
    return list(rows.order_by("id")[:limit])


def holders(namespace: str) -> dict[str, list[str]]:
    """The first principals that were given each role."""
    place = Window(RowNumber(), partition_by="role", order_by="principal")
    rows = RoleAssignment.objects.filter(namespace=namespace).annotate(place=place).filter(place__lte=MOST)
    found: dict[str, list[str]] = {}
    for role, principal in rows.order_by("role", "principal").values_list("role", "principal"):
        found.setdefault(role, []).append(principal)
    return found
