"""Bearer tokens: this server's own, and JSON Web Tokens of OpenID providers.

An own token is `kms_`, its public id, `_` and a secret of 256 random bits, of which the database keeps the SHA-256:
nothing slower is needed against guessing. A provider's token is believed when one of the configured issuers signed it,
with an asymmetric algorithm, for one of that issuer's audiences.
"""

import hmac
import re
import secrets
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, NamedTuple

import jwt
import orjson

from keystore import conf, roles
from keystore.authn import accounts
from keystore.authn.identities import Identity, Peer, looked_up, refused
from keystore.models import Account, ApiToken
from kmip.enums import ResultReason
from kmip.errors import KMIPError
from kmip.messages import Authentication

PREFIX: Final = "kms_"
_OWN = re.compile(r"kms_([0-9a-f]{16})_([A-Za-z0-9_-]{43})")
#: How stale the time of a token's last use may be, in seconds.
USED_EVERY: Final = 60
#: What a scope may name besides operations: the access API and the tokens themselves.
ACCESS: Final = "access"
#: Signatures that a key which anybody may read cannot make.
ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
LEEWAY: Final = 30
FETCH_TIMEOUT: Final = 5
MAX_KEYS_SIZE: Final = 1 << 20
#: A key id that a provider does not have makes us ask it again, but not more often than this many seconds.
ASK_AGAIN: Final = 10.0


def bearer(peer: Peer, authentication: Authentication | None) -> Identity | None:
    """The account of a bearer token in the headers of an HTTP request."""
    if peer.transport != "http":
        return None
    header = peer.headers.get("Authorization", "")
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer":
        return None
    token = token.strip()
    proof = ("bearer", sha256(token.encode(errors="surrogateescape")).digest())
    own = token.startswith(PREFIX)
    return looked_up(proof, lambda: _own(token) if own else _foreign(token))


# This server's tokens.


def _own(token: str) -> Identity:
    match = _OWN.fullmatch(token)
    row = None
    if match is not None:
        row = ApiToken.objects.select_related("account__namespace", "account__user").filter(id=match[1]).first()
    # A token that does not exist takes as long as a wrong one.
    digest = sha256(match[2].encode() if match is not None else b"").hexdigest()
    if not hmac.compare_digest(digest, row.digest if row is not None else "0" * 64) or row is None:
        raise refused("the token is not valid")
    now = int(time.time())
    if row.revoked is not None:
        raise refused("the token is revoked")
    if row.expires is not None and row.expires <= now:
        raise refused("the token has expired")
    if row.last_used is None or now - row.last_used >= USED_EVERY:
        ApiToken.objects.filter(id=row.id).update(last_used=now)
    scope, manages = scope_of(row.scopes)
    identity = accounts.identity(row.account, "token", scope=scope, manages=manages)
    if row.expires is not None:
        object.__setattr__(identity, "until", min(identity.until, time.monotonic() + row.expires - now))
    return identity


def scope_of(scopes: list[str]) -> tuple[int, bool]:
    """What a token is limited to: operations as a number, and whether rights may be changed with it."""
    if not scopes:
        return -1, True
    return roles.bits(roles.operation_named(name) for name in scopes if name != ACCESS), ACCESS in scopes


def issue(
    account: Account, name: str, *, scopes: list[str] | None = None, expires: int | None = None
) -> tuple[str, str]:
    """A new token of an account: its id, and the token itself, which is nowhere else. Raises `KMIPError`."""
    named = [one if one == ACCESS else roles.name_of(roles.operation_named(one)) for one in scopes or ()]
    if expires is not None and expires <= time.time():
        raise KMIPError(ResultReason.INVALID_FIELD, "the token would have expired already")
    number, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
    ApiToken.objects.create(
        id=number,
        account=account,
        name=name[:100],
        digest=sha256(secret.encode()).hexdigest(),
        scopes=named,
        created=int(time.time()),
        expires=expires,
    )
    return number, f"{PREFIX}{number}_{secret}"


def revoke(account: Account | None, number: str) -> None:
    """Revoke a token, of an account where one is given. Raises `KMIPError` where there is none."""
    found = ApiToken.objects.filter(id=number, revoked__isnull=True)
    if account is not None:
        found = found.filter(account=account)
    if not found.update(revoked=int(time.time())):
        raise KMIPError(ResultReason.ITEM_NOT_FOUND, "there is no such token")


# Providers' tokens.


@dataclass(slots=True)
class Provider:
    """One OpenID provider, and its keys as they were last read."""

    issuer: str
    source: str
    audiences: tuple[str, ...]
    keys: dict[str, "Key"] = field(default_factory=dict, repr=False)
    #: When they were read, and when that was last tried, by `time.monotonic`.
    read: float = float("-inf")
    tried: float = float("-inf")
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def key(self, number: str, lifetime: float) -> "Key":
        """The key with a key id; keys are read again when they are old or lack it. Raises `KMIPError`."""
        with self.lock:
            now = time.monotonic()
            stale = now - self.read >= lifetime
            if (stale or number not in self.keys) and now - self.tried >= min(ASK_AGAIN, lifetime):
                self.tried = now
                try:
                    self.keys, self.read = _keys(self.source), now
                except (OSError, ValueError, jwt.PyJWTError) as exc:
                    # Keys that were good stay so for a while: a provider that restarts locks nobody out.
                    if now - self.read >= 12 * lifetime:
                        raise refused("the keys of the token's issuer cannot be read") from exc
            found = self.keys.get(number)
        if found is None:
            raise refused("the token is signed with a key that its issuer does not have")
        return found


class Key(NamedTuple):
    """A provider's public key, and the algorithms that it may have signed with."""

    public: Any
    algorithms: tuple[str, ...]


def _keys(source: str) -> dict[str, Key]:
    """The signature keys at a URL or in a file, by key id."""
    if source.startswith(("https://", "http://")):
        with urllib.request.urlopen(source, timeout=FETCH_TIMEOUT) as response:  # noqa: S310 - checked above
            content = response.read(MAX_KEYS_SIZE + 1)
    else:
        content = Path(source.removeprefix("file://")).read_bytes()
    if len(content) > MAX_KEYS_SIZE:
        raise ValueError("too many keys")
    document = orjson.loads(content)
    found = {}
    for one in document["keys"] if isinstance(document, dict) and "keys" in document else ():
        # Shared keys, and keys of kinds that are not known here, are not for us.
        if one.get("kty") in ("RSA", "EC", "OKP") and one.get("use", "sig") == "sig":
            try:
                public = jwt.PyJWK(one).key
            except jwt.PyJWTError:
                continue
            # A key that does not name its algorithm is for all of its kind: the library refuses those of other kinds.
            named = one.get("alg")
            algorithms = ALGORITHMS if named is None else tuple(alg for alg in ALGORITHMS if alg == named)
            found[str(one.get("kid", ""))] = Key(public, algorithms)
    return found


_providers: dict[tuple[str, ...], dict[str, Provider]] = {}


def parse_provider(text: str) -> Provider:
    """A provider as the settings write it: issuer|JWKS URL or file|audience…; raises `ValueError`."""
    issuer, source, *audiences = (part.strip() for part in text.split("|"))
    if not issuer or not source or not audiences or not all(audiences):
        raise ValueError(text)
    return Provider(issuer, source, tuple(audiences))


def providers() -> dict[str, Provider]:
    """The configured providers, by issuer."""
    configured = conf.current().auth.jwt_auth_provider
    found = _providers.get(configured)
    if found is None:
        found = {one.issuer: one for one in map(parse_provider, configured)}
        _providers.clear()
        _providers[configured] = found
    return found


def _foreign(token: str) -> Identity:
    settings = conf.current().auth
    try:
        header = jwt.get_unverified_header(token)
        claimed = jwt.decode(token, options={"verify_signature": False}).get("iss")
    except (jwt.PyJWTError, ValueError) as exc:
        raise refused("the token is not valid") from exc
    provider = providers().get(claimed) if isinstance(claimed, str) else None
    if provider is None:
        raise refused("the token's issuer is not one that is trusted")
    if header.get("alg") not in ALGORITHMS:
        raise refused("the token is not signed with an asymmetric algorithm")
    key = provider.key(str(header.get("kid", "")), settings.jwks_lifetime)
    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            key.public,
            algorithms=list(key.algorithms),
            audience=list(provider.audiences),
            issuer=provider.issuer,
            leeway=LEEWAY,
            options={"require": ["exp", "iss", "aud"]},
        )
    except (jwt.PyJWTError, ValueError, TypeError) as exc:
        raise refused(f"the token is not valid: {_REASONS.get(type(exc), 'its signature or form is wrong')}") from exc
    identity = accounts.identity(account_of(provider.issuer, claims, settings.jwt_user_claim), "jwt")
    left = float(claims["exp"]) + LEEWAY - time.time()
    object.__setattr__(identity, "until", min(identity.until, time.monotonic() + left))
    return identity


_REASONS: Final[dict[type[Exception], str]] = {
    jwt.ExpiredSignatureError: "it has expired",
    jwt.ImmatureSignatureError: "it is not valid yet",
    jwt.InvalidAudienceError: "it is for another audience",
    jwt.MissingRequiredClaimError: "it lacks a claim",
    jwt.InvalidAlgorithmError: "its algorithm is not that of the key",
}


def asymmetric(token: str, claims: dict[str, Any]) -> dict[str, Any]:
    """The claims of a token that was verified; raises `ValueError` where a shared key may have signed it."""
    if jwt.get_unverified_header(token).get("alg") not in ALGORITHMS:
        raise ValueError("the token is not signed with an asymmetric algorithm")
    return claims


def account_of(issuer: str, claims: dict[str, Any], claim: str) -> Account:
    """The account that an OpenID provider's claims name, bound to the provider. Raises `KMIPError`."""
    name = claims.get(claim)
    if not isinstance(name, str) or not name:
        raise refused(f"the token has no claim {claim} that names its user")
    if claim == "email" and claims.get("email_verified") is not True:
        raise refused("the provider has not verified the user's email address")
    return accounts.vouched(conf.current().auth.default_namespace, accounts.check_username(name), f"oidc:{issuer}")
