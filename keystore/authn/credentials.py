"""Credentials of KMIP requests and of HTTP basic authentication (2.1, 9.11), and who needs none.

Passwords are kept as Django's hashers encode them. As clients send theirs with every request, one that was right is
known again for a while by a digest under a key that only this process has.
"""

import base64
import binascii
import dataclasses
import hmac
import os
from hashlib import sha256
from typing import Any, Final

from django.contrib.auth.hashers import check_password, make_password

from keystore import checks, conf, roles
from keystore.authn import accounts, lockout
from keystore.authn.identities import Identity, Peer, looked_up, refused
from keystore.models import Account
from kmip.enums import CredentialType
from kmip.messages import Authentication, Credential

_secret: Final = os.urandom(32)
#: Fields of a Device credential that identify the device, in the order of the specification.
DEVICE_FIELDS: Final = (
    "device_serial_number",
    "device_identifier",
    "network_identifier",
    "machine_identifier",
    "media_identifier",
)
WRONG: Final = "user or password is wrong"


def credential(peer: Peer, authentication: Authentication | None) -> Identity | None:
    """The account of a credential in a KMIP request. A credential that is there has to be right, whatever else the
    peer shows; of several, each has to be, and name the same account."""
    if authentication is None or not authentication.credential or not conf.current().auth.kmip_credentials:
        return None
    found: Identity | None = None
    for one in authentication.credential:
        identity = of(peer, one)
        if found is not None and (found.namespace, found.username) != (identity.namespace, identity.username):
            raise refused("the credentials name different users")
        found = identity
    assert found is not None
    shown = peer.certificate
    if shown is None:
        return found
    # The record says which connection it came over.
    return dataclasses.replace(found, fingerprint=sha256(shown).hexdigest())


def of(peer: Peer, one: Credential) -> Identity:
    """The account of one credential; raises `KMIPError`."""
    check = _KINDS.get(one.credential_type)
    if check is None:
        raise refused(f"credentials of type {one.credential_type} are not accepted")
    return check(peer, one.credential_value)


def _username_and_password(peer: Peer, value: Any) -> Identity:
    return password(peer, value.username, value.password or "", "password")


def _device(peer: Peer, value: Any) -> Identity:
    shown = {name: getattr(value, name, None) for name in DEVICE_FIELDS}
    digest = device_digest({name: text for name, text in shown.items() if text})
    account = Account.objects.select_related("namespace", "user").filter(device_digest=digest).first()
    return _checked(peer, account, f"device:{digest}", value.password or "", "device")


_KINDS: Final = {
    CredentialType.USERNAME_AND_PASSWORD: _username_and_password,
    CredentialType.DEVICE: _device,
}


def device_digest(identifiers: dict[str, str]) -> str:
    """What a device is looked up by: a digest of all that identifies it."""
    return sha256("\x1f".join(identifiers.get(name, "") for name in DEVICE_FIELDS).encode()).hexdigest()


def split(name: str) -> tuple[str, str]:
    """Namespace and user of a name as people type it: `alice`, or `tenant/alice` outside the default namespace."""
    namespace, slash, username = name.partition("/")
    if slash and namespace and username:
        return namespace, username
    return conf.current().auth.default_namespace, name


def password(peer: Peer, name: str, given: str, method: str) -> Identity:
    """The account with a name and password; raises `KMIPError`, saying the same whatever was wrong."""
    namespace, username = split(name)
    # Failures are counted by one name, in whatever way it is written.
    return _checked(peer, accounts.find(namespace, username), f"{namespace}/{username}", given, method)


def _checked(peer: Peer, account: Account | None, name: str, given: str, method: str) -> Identity:
    encoded = account.password if account is not None else ""
    proof = (method, name, encoded, hmac.digest(_secret, given.encode(), "sha256"))

    def look() -> Identity:
        assert account is not None
        return accounts.identity(account, method)

    if account is not None and encoded and proof in _known:
        return looked_up(proof, look)
    lockout.check(name, peer.address)
    # A user without a password takes as long as a wrong password.
    right = check_password(given, encoded or _decoy())
    if not right or not encoded or account is None:
        lockout.failed(name, peer.address)
        raise refused(WRONG)
    lockout.succeeded(name)
    if len(_known) >= _MANY:
        _known.clear()
    _known.add(proof)
    return looked_up(proof, look)


_MANY: Final = 10_000
#: Passwords that were right; the encoded one is part of each, so that a changed password is asked for anew.
_known: set[tuple[str, str, str, bytes]] = set()
_decoys: list[str] = []


def _decoy() -> str:
    if not _decoys:
        _decoys.append(make_password(base64.b64encode(os.urandom(16)).decode()))
    return _decoys[0]


def basic(peer: Peer, authentication: Authentication | None) -> Identity | None:
    """The account of a name and password in the headers of an HTTP request, where that is allowed."""
    if peer.transport != "http":
        return None
    scheme, _, rest = peer.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    if not conf.current().auth.http_basic:
        raise refused("basic authentication is not accepted")
    try:
        name, colon, given = base64.b64decode(rest.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError) as exc:
        raise refused(WRONG) from exc
    if not colon:
        raise refused(WRONG)
    return password(peer, name, given, "basic")


def unknown_scheme(peer: Peer, authentication: Authentication | None) -> Identity | None:
    """Nobody: a header that names a credential is not passed over in favour of something else."""
    if peer.transport == "http" and peer.headers.get("Authorization", "").strip():
        raise refused("the Authorization header is none that is accepted")
    return None


def session(peer: Peer, authentication: Authentication | None) -> Identity | None:
    """The user of the console or of a command on this machine, whom Django or the operating system let in."""
    if peer.transport not in ("ui", "cli") or not peer.user:
        return None
    name, transport = peer.user, peer.transport
    return looked_up(("session", transport, name), lambda: _session(name, transport))


def _session(name: str, transport: str) -> Identity:
    if transport == "cli":
        account = accounts.ensure(*split(name))
        return accounts.identity(account, "local")
    return accounts.identity(accounts.of_person(name), "session")


def loopback(peer: Peer, authentication: Authentication | None) -> Identity | None:
    """The default user, for HTTP on a loopback address while no way to authenticate is configured."""
    config = conf.current()
    if peer.transport != "http" or not checks.is_open(config):
        return None
    if peer.address not in ("127.0.0.1", "::1", "localhost") or _forwarded(peer):
        return None
    name = config.auth.default_username
    return looked_up(("loopback", name), lambda: _loopback(name))


def _forwarded(peer: Peer) -> bool:
    """Whether a proxy sits between: its loopback address says nothing of who is behind it."""
    return any(peer.headers.get(name) for name in ("X-Forwarded-For", "Forwarded", "X-Real-Ip"))


def _loopback(name: str) -> Identity:
    found = accounts.identity(accounts.ensure(conf.current().auth.default_namespace, name), "loopback")
    if roles.ADMINISTRATOR in found.roles:
        return found
    # Whoever sits at the machine of a server that nobody has configured yet has to be able to do so.
    return dataclasses.replace(found, roles=(*found.roles, roles.ADMINISTRATOR))
