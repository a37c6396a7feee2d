"""Who is asking. A `Peer` is who connected, an `Identity` who that turned out to be.

Authenticators (`settings.KMS["AUTHENTICATORS"]`) are tried in order; the first that recognises the peer decides. Both
listeners and the console hand them the same `Peer`. An identity is believed for `BELIEVED` seconds and then looked up
again, so that on a connection that stays open a disabled account, a revoked token or certificate, or a changed role
counts soon. On a database that several nodes share it counts for the next request: each asks how many changes of
identities there were. Nothing here decides what an identity may do: see `policy`.
"""

from functools import cache

from django.conf import settings
from django.utils.module_loading import import_string

from keystore import turns
from keystore.authn.identities import (
    BELIEVED,
    Approval,
    Authenticator,
    Identity,
    Peer,
    forget,
    latest_generation,
    looked_up,
    refused,
)
from kmip.messages import Authentication


@cache
def authenticators() -> tuple[Authenticator, ...]:
    """The ways to recognise a peer, in order."""
    return tuple(import_string(path) for path in settings.KMS["AUTHENTICATORS"])


def identify(peer: Peer, authentication: Authentication | None = None) -> Identity:
    """The identity of a peer; raises `KMIPError` (Authentication Not Successful) where nothing recognises it."""
    known = peer.identity
    if authentication is None:
        if known is not None and known.is_believed(latest_generation()):
            return known
        peer.identity = None
    # Passwords take long on purpose, and another connection may be looking the same client up.
    turns.leave()
    for authenticator in authenticators():
        identity = authenticator(peer, authentication)
        if identity is not None:
            if authentication is None:
                peer.identity = identity
            return identity
    raise refused("no client certificate, token or credential was accepted")


__all__ = ["BELIEVED", "Approval", "Authenticator", "Identity", "Peer", "forget", "identify", "looked_up", "refused"]
