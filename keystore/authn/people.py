"""How people log in to the console: password and second factor, client certificate, OpenID provider.

Each way ends with a user of Django's, bound to an account of the key store, and with a record, also of a failure.
"""

from typing import Any

from django.contrib.auth import authenticate, get_user_model
from django.contrib.auth.models import User

from keystore import audit, conf
from keystore.authn import accounts, certificates, lockout, tokens, totp
from keystore.authn.identities import Identity, Peer, refused
from keystore.models import Account

LOGIN = "Log In"
#: Said whatever was wrong.
WRONG = "User, password or code is wrong."


def by_password(peer: Peer, username: str, password: str, code: str) -> User:
    """The person with a name, a password, and a code where a second factor is set up. Raises `KMIPError`."""
    with audit.refusals(None, peer, LOGIN, detail=f"password of {username}"):
        if lockout.is_locked(username, peer.address):
            raise refused(WRONG)
        found = _proven(peer, username, password, code)
        account = accounts.of_person(username)
        identity = accounts.identity(account, "session")
    lockout.succeeded(username)
    way = "password and code" if totp.has(account) else "password"
    audit.note(identity, peer, LOGIN, detail=way)
    return found


def _proven(peer: Peer, username: str, password: str, code: str) -> User:
    """The person whose password and code are right; wrong ones are counted, unless they were not even tried."""
    found = authenticate(None, username=username, password=password)
    if isinstance(found, User):
        account = accounts.of_person(username)
        if not totp.has(account) or totp.accept(account, code):
            return found
    lockout.failed(username, peer.address)
    raise refused(WRONG)


def by_certificate(peer: Peer) -> User:
    """The person whom the client certificate of the connection names. Raises `KMIPError`."""
    with audit.refusals(None, peer, LOGIN, detail="client certificate"):
        identity = certificates.certificate(peer, None)
        if identity is None:
            raise refused("the browser has shown no client certificate")
        person = person_of(_account(identity))
    audit.note(identity, peer, LOGIN, detail="client certificate")
    return person


def by_openid(peer: Peer, issuer: str, claims: dict[str, Any]) -> User:
    """The person whom an OpenID provider vouches for by claims that were verified. Raises `KMIPError`."""
    with audit.refusals(None, peer, LOGIN, detail=f"OpenID {issuer}"):
        account = tokens.account_of(issuer, claims, conf.current().auth.jwt_user_claim)
        identity = accounts.identity(account, "session")
        person = person_of(account)
    audit.note(identity, peer, LOGIN, detail=f"OpenID {issuer}")
    return person


def _account(identity: Identity) -> Account:
    account = accounts.find(identity.namespace, identity.username)
    assert account is not None
    return account


def person_of(account: Account) -> User:
    """The person that an account is, made at the first login. Raises `KMIPError` where the name is somebody else's."""
    if account.user is not None:
        return account.user
    users = get_user_model()
    name = accounts.person_name(account.namespace_id, account.username)
    if len(name) > 150:
        raise refused("the name is too long for the console")
    person, made = users.objects.get_or_create(username=name)
    if not made:
        # A person with a password and a client may be two: an administrator links them.
        raise refused("the name belongs to another user of the console: link it to the client first")
    person.set_unusable_password()
    person.save(update_fields=["password"])
    accounts.link(account, person)
    return person
