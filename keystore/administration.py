"""What administrators do: namespaces, users, groups, roles, certificates and tokens of others.

Each function is one change with its audit record in one transaction, for commands and for the console. Administrators
act in their own namespace; who works on the server's machine itself acts in every one.
"""

import contextlib
import getpass
import time
from collections.abc import Iterable, Iterator
from typing import Any

from cryptography import x509
from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import make_password
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError

from keystore import audit, conf, generations, policy, roles, sessions
from keystore.authn import Identity, Peer, accounts, certificates, credentials, forget, lockout, tokens, totp
from keystore.generations import Kept
from keystore.models import (
    Account,
    ApiToken,
    ClientCertificate,
    Group,
    ManagedObject,
    Namespace,
    Role,
    RoleAssignment,
)
from kmip.enums import ResultReason
from kmip.errors import KMIPError


def local(namespace: str) -> tuple[Peer, Identity]:
    """Whoever works on the server's machine, as an administrator of a namespace."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = "unknown"
    return Peer("cli"), Identity(name, "local", namespace, roles=(roles.ADMINISTRATOR,))


def note(operation: str, detail: str = "") -> None:
    """Record what was done on the server's machine to the server itself, in the caller's transaction."""
    peer, identity = local(conf.current().auth.default_namespace)
    audit.note(identity, peer, operation, detail=detail)


@contextlib.contextmanager
def change(peer: Peer, identity: Identity, operation: str, detail: str) -> Iterator[None]:
    """One change of an administrator: in a transaction, with its record. What is refused is recorded, too."""
    with audit.recorded(identity, peer, operation, detail=detail):
        policy.check_administers(identity)
        yield
        generations.changed(Kept.IDENTITIES)
    forget()


def _account(namespace: str, username: str) -> Account:
    account = accounts.find(namespace, username)
    if account is None:
        raise KMIPError(ResultReason.ITEM_NOT_FOUND, f"there is no user {username} in the namespace {namespace}")
    return account


# Namespaces.


def add_namespace(peer: Peer, identity: Identity, name: str) -> Namespace:
    """Make a namespace; nothing where there is one. Only on the server's machine."""
    with change(peer, identity, "Add Namespace", name):
        _machine(identity)
        return accounts.namespace(name, make=True)


def disable_namespace(peer: Peer, identity: Identity, name: str, disabled: bool) -> None:
    """Let none of a namespace's clients in, or let them in again. Only on the server's machine."""
    with change(peer, identity, "Disable Namespace" if disabled else "Enable Namespace", name):
        _machine(identity)
        found = accounts.namespace(name)
        found.disabled = disabled
        found.save(update_fields=["disabled"])


def remove_namespace(peer: Peer, identity: Identity, name: str) -> None:
    """Remove a namespace that holds no objects. Only on the server's machine."""
    with change(peer, identity, "Remove Namespace", name):
        _machine(identity)
        if ManagedObject.objects.filter(namespace=name).exists():
            raise KMIPError(ResultReason.INVALID_FIELD, f"the namespace {name} holds objects")
        accounts.namespace(name).delete()


def _machine(identity: Identity) -> None:
    if identity.method != "local":
        raise KMIPError(ResultReason.PERMISSION_DENIED, "namespaces are made on the server's machine")


# Users.


def add_user(peer: Peer, identity: Identity, username: str) -> Account:
    """Register a user, so that an authority may vouch for it where enrolment is not open."""
    with change(peer, identity, "Add User", username):
        return accounts.ensure(identity.namespace, username)


def disable_user(peer: Peer, identity: Identity, username: str, disabled: bool) -> None:
    """Let a user in no more, however it authenticates, or let it in again."""
    with change(peer, identity, "Disable User" if disabled else "Enable User", username):
        account = _account(identity.namespace, username)
        Account.objects.filter(pk=account.pk).update(disabled=disabled)
        if disabled and account.user is not None:
            sessions.end(account.user)
        if not disabled:
            names = {f"{account.namespace_id}/{account.username}", account.username}
            for name in names if account.user is None else names | {account.user.username}:
                lockout.unlock(name)


def set_password(peer: Peer, identity: Identity, username: str, password: str) -> None:
    """Give a user a password for KMIP credentials; an empty one takes it away. Raises `KMIPError` for a weak one."""
    with change(peer, identity, "Set Password", username):
        account = _account(identity.namespace, username)
        if password:
            _check_password(password)
        Account.objects.filter(pk=account.pk).update(password=make_password(password) if password else "")


def set_device(peer: Peer, identity: Identity, username: str, identifiers: dict[str, str]) -> None:
    """Let a user answer to a Device credential with these identifiers and its password; none take it away."""
    with change(peer, identity, "Set Device", username):
        account = _account(identity.namespace, username)
        unknown = identifiers.keys() - set(credentials.DEVICE_FIELDS)
        if unknown:
            raise KMIPError(ResultReason.INVALID_FIELD, f"a device has no {sorted(unknown)[0]}")
        digest = credentials.device_digest(identifiers) if identifiers else None
        if digest is not None and Account.objects.filter(device_digest=digest).exclude(pk=account.pk).exists():
            raise KMIPError(ResultReason.INVALID_FIELD, "another user has this device")
        Account.objects.filter(pk=account.pk).update(device=identifiers, device_digest=digest)


def trust_authority(peer: Peer, identity: Identity, username: str, authority: str, trusted: bool = True) -> None:
    """Let an authority ("ca:…", "oidc:…") vouch for a user's name besides others, or no more."""
    with change(peer, identity, "Trust Authority" if trusted else "Distrust Authority", f"{username} {authority}"):
        account = _account(identity.namespace, username)
        known = [one for one in account.authorities if one != authority]
        Account.objects.filter(pk=account.pk).update(authorities=[*known, authority] if trusted else known)
        if not trusted:
            ClientCertificate.objects.filter(account=account, authority=authority).update(disabled=True)


def link_person(peer: Peer, identity: Identity, username: str, person: str) -> None:
    """Make a person of the console and a user the same."""
    with change(peer, identity, "Link User", f"{username} {person}"):
        account = _account(identity.namespace, username)
        found = get_user_model().objects.filter(username=person).first()
        if found is None:
            raise KMIPError(ResultReason.ITEM_NOT_FOUND, f"there is no user {person} of the console")
        Account.objects.filter(user=found).exclude(pk=account.pk).update(user=None)
        accounts.link(account, found)


def add_person(peer: Peer, identity: Identity, username: str, password: str) -> Account:
    """Let a user, registered where it is new, log in at the console with a password. Raises `KMIPError` for a weak one,
    and for a user who can already."""
    with change(peer, identity, "Add Person", username):
        account = accounts.ensure(identity.namespace, username)
        if account.user_id is not None:
            raise KMIPError(ResultReason.INVALID_FIELD, "the user logs in at the console already")
        people = get_user_model()
        name = accounts.person_name(identity.namespace, username)
        if people.objects.filter(username=name).exists():
            raise KMIPError(ResultReason.INVALID_FIELD, f"the console has a user {name} already: link it")
        _check_password(password, people(username=name))
        accounts.link(account, people.objects.create_user(name, password=password))
        return account


def set_person_password(peer: Peer, identity: Identity, username: str, password: str) -> None:
    """Give a user another password for the console, and let it try again at once. Raises `KMIPError` for a weak one."""
    with change(peer, identity, "Set Console Password", username):
        person = _account(identity.namespace, username).user
        if person is None:
            raise KMIPError(ResultReason.ITEM_NOT_FOUND, "the user does not log in at the console")
        _check_password(password, person)
        person.set_password(password)
        person.save(update_fields=["password"])
        lockout.unlock(person.username)


def end_session(peer: Peer, identity: Identity, username: str, number: str) -> None:
    """End a session of a user at the console, by its number."""
    with change(peer, identity, "End Session", f"{username} {number}"):
        _end(_account(identity.namespace, username).user, number)


def end_own_session(peer: Peer, identity: Identity, number: str) -> None:
    """End a session of whoever asks."""
    with audit.recorded(identity, peer, "End Session", detail=number):
        _end(_account(identity.namespace, identity.username).user, number)


def _end(person: Any, number: str) -> None:
    if person is None or not number or not sessions.end(person, number):
        raise KMIPError(ResultReason.ITEM_NOT_FOUND, "there is no such session")


def _check_password(password: str, person: Any = None) -> None:
    try:
        validate_password(password, person)
    except ValidationError as exc:
        raise KMIPError(ResultReason.INVALID_FIELD, " ".join(exc.messages)) from exc


# The second factor of people.


def set_second_factor(peer: Peer, identity: Identity, secret: str, code: str) -> None:
    """Ask whoever asks for codes from now on, made with a secret whose possession a code proves. Raises `KMIPError`."""
    with audit.recorded(identity, peer, "Set Second Factor"):
        account = _account(identity.namespace, identity.username)
        step = totp.step_of(secret, code)
        if totp.has(account) or not step:
            raise KMIPError(ResultReason.INVALID_FIELD, "The code is wrong.")
        totp.put(account, secret, step=step)


def remove_second_factor(peer: Peer, identity: Identity, code: str) -> None:
    """Ask whoever asks for no more codes; a last one proves that it is them. Raises `KMIPError`."""
    account = _account(identity.namespace, identity.username)
    name = account.user.username if account.user is not None else account.username
    right = totp.has(account) and not lockout.is_locked(name, peer.address) and totp.accept(account, code)
    if not right:
        lockout.failed(name, peer.address)
    with audit.recorded(identity, peer, "Remove Second Factor"):
        if not right:
            raise KMIPError(ResultReason.INVALID_FIELD, "The code is wrong.")
        totp.put(account, None)


def reset_second_factor(peer: Peer, identity: Identity, username: str) -> None:
    """Take the second factor from a user who has lost it."""
    with change(peer, identity, "Reset Second Factor", username):
        totp.put(_account(identity.namespace, username), None)


# Certificates.


def pin_certificate(
    peer: Peer, identity: Identity, username: str, certificate: x509.Certificate, *, replaces: str = ""
) -> ClientCertificate:
    """Register a user's certificate: the user is let in with registered ones only. With `replaces`, the fingerprint of
    one that is disabled from now on."""
    fingerprint = certificates.fingerprint_of(certificate)
    with change(peer, identity, "Pin Certificate", f"{username} {fingerprint}"):
        account = accounts.ensure(identity.namespace, username)
        authority = certificates.authority_of(certificate)
        if authority not in account.authorities:
            account.authorities = [*account.authorities, authority]
            account.save(update_fields=["authorities"])
        row = certificates.register(account, certificate, authority, pinned=True)
        if replaces:
            replaced = ClientCertificate.objects.filter(fingerprint=replaces, account=account)
            if not replaced.update(disabled=True, replaced_by=fingerprint):
                raise KMIPError(ResultReason.ITEM_NOT_FOUND, "the user has no such certificate")
        return row


def disable_certificate(peer: Peer, identity: Identity, fingerprint: str, disabled: bool) -> None:
    """Let nobody in with a certificate, or let its user in again."""
    with change(peer, identity, "Disable Certificate" if disabled else "Enable Certificate", fingerprint):
        found = ClientCertificate.objects.filter(fingerprint=fingerprint, account__namespace_id=identity.namespace)
        if not found.update(disabled=disabled):
            raise KMIPError(ResultReason.ITEM_NOT_FOUND, "there is no such certificate")


# Groups and roles.


def set_members(
    peer: Peer, identity: Identity, group: str, *, add: Iterable[str] = (), remove: Iterable[str] = ()
) -> Group:
    """Put users into a group, made where there is none, or take them out."""
    coming, going = list(add), list(remove)
    detail = " ".join([group, *(f"+{name}" for name in coming), *(f"-{name}" for name in going)])
    with change(peer, identity, "Change Group", detail):
        found, _ = Group.objects.get_or_create(
            namespace=accounts.namespace(identity.namespace), name=accounts.check_username(group)
        )
        found.members.add(*(_account(identity.namespace, name) for name in coming))
        found.members.remove(*(_account(identity.namespace, name) for name in going))
        return found


def remove_group(peer: Peer, identity: Identity, group: str) -> None:
    """Remove a group; what was given to it is given to nobody."""
    with change(peer, identity, "Remove Group", group):
        if not Group.objects.filter(namespace_id=identity.namespace, name=group).delete()[0]:
            raise KMIPError(ResultReason.ITEM_NOT_FOUND, f"there is no group {group}")
        RoleAssignment.objects.filter(namespace_id=identity.namespace, principal=f"group:{group}").delete()


def set_role(
    peer: Peer,
    identity: Identity,
    name: str,
    *,
    operations: Iterable[str],
    everywhere: Iterable[str] = (),
    object_types: Iterable[str] = (),
) -> Role:
    """Define a role of the namespace, anew where there is one. Built-in ones stay what they are."""
    named = list(operations)
    with change(peer, identity, "Set Role", f"{name} {' '.join(named)}"):
        if name in roles.BUILT_IN:
            raise KMIPError(ResultReason.INVALID_FIELD, f"the role {name} is built in")
        values = {
            "operations": sorted(roles.name_of(roles.operation_named(one)) for one in named),
            "everywhere": sorted(roles.name_of(roles.operation_named(one)) for one in everywhere),
            "object_types": sorted(roles.type_named(one).spelling for one in object_types),
        }
        accounts.check_namespace(name)
        found, _ = Role.objects.update_or_create(
            namespace=accounts.namespace(identity.namespace), name=name, defaults=values
        )
        return found


def remove_role(peer: Peer, identity: Identity, name: str) -> None:
    """Remove a role of the namespace from everybody who has it; raises `KMIPError` where there is none."""
    with change(peer, identity, "Remove Role", name):
        if not Role.objects.filter(namespace_id=identity.namespace, name=name).delete()[0]:
            raise KMIPError(ResultReason.ITEM_NOT_FOUND, f"there is no role {name} of the namespace")


def give_role(peer: Peer, identity: Identity, role: str, principal: str) -> None:
    """Give a role to a user, group or certificate ("user:…", "group:…", "certificate:…"). It then has the roles that it
    was given, and the default one no more."""
    with change(peer, identity, "Give Role", f"{role} {principal}"):
        kind, _, name = principal.partition(":")
        if kind not in ("user", "group", "certificate") or not name:
            raise KMIPError(ResultReason.INVALID_FIELD, "a role is given to user:…, group:… or certificate:…")
        known = role in roles.BUILT_IN or Role.objects.filter(namespace_id=identity.namespace, name=role).exists()
        if not known:
            raise KMIPError(ResultReason.ITEM_NOT_FOUND, f"there is no role {role}")
        RoleAssignment.objects.get_or_create(
            namespace=accounts.namespace(identity.namespace), principal=principal, role=role
        )


def take_role(peer: Peer, identity: Identity, role: str, principal: str) -> None:
    """Take a role from a user, group or certificate."""
    with change(peer, identity, "Take Role", f"{role} {principal}"):
        found = RoleAssignment.objects.filter(namespace_id=identity.namespace, principal=principal, role=role)
        if not found.delete()[0]:
            raise KMIPError(ResultReason.ITEM_NOT_FOUND, f"{principal} does not have the role {role}")


# Tokens.


def issue_token(
    peer: Peer, identity: Identity, username: str, name: str, *, scopes: list[str], lifetime: int | None
) -> tuple[str, str]:
    """A new token of a user, valid for so many seconds: its id, and the token, which is shown this once."""
    with change(peer, identity, "Create Token", f"{username} {name}"):
        _within(identity, scopes)
        account = accounts.ensure(identity.namespace, username)
        expires = None if lifetime is None else int(time.time()) + lifetime
        return tokens.issue(account, name, scopes=scopes, expires=expires)


def revoke_token(peer: Peer, identity: Identity, number: str) -> None:
    """Revoke a token of the namespace."""
    with change(peer, identity, "Revoke Token", number):
        if not ApiToken.objects.filter(id=number, account__namespace_id=identity.namespace).exists():
            raise KMIPError(ResultReason.ITEM_NOT_FOUND, "there is no such token")
        tokens.revoke(None, number)


def issue_own_token(
    peer: Peer, identity: Identity, name: str, *, scopes: list[str], expires: int | None
) -> tuple[str, str]:
    """A new token of whoever asks, valid until a time: its id, and the token, which is shown this once."""
    with audit.recorded(identity, peer, "Create Token", detail=f"{identity.username} {name}"):
        policy.check_manages(identity)
        _within(identity, scopes)
        account = accounts.ensure(identity.namespace, identity.username)
        return tokens.issue(account, name, scopes=scopes, expires=expires)


def revoke_own_token(peer: Peer, identity: Identity, number: str) -> None:
    """Revoke a token of whoever asks."""
    with audit.recorded(identity, peer, "Revoke Token", detail=number):
        policy.check_manages(identity)
        tokens.revoke(accounts.ensure(identity.namespace, identity.username), number)
        generations.changed(Kept.IDENTITIES)
    forget()


def _within(identity: Identity, scopes: list[str]) -> None:
    """Raise `KMIPError` for a token that would allow more than the one that it is made with."""
    scope, _ = tokens.scope_of(scopes)
    if scope & ~identity.scope:
        raise KMIPError(ResultReason.PERMISSION_DENIED, "a token makes none that allows more than itself")
