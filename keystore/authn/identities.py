"""What the ways to authenticate have in common: who connected, who that turned out to be, and how to refuse."""

import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol

from keystore import generations, roles
from keystore.generations import Kept
from keystore.roles import Allowance
from kmip.enums import ResultReason
from kmip.errors import KMIPError
from kmip.messages import Authentication

#: Seconds for which a look-up is believed; below the five within which a revocation has to count.
BELIEVED: Final = 3.0


@dataclass(slots=True)
class Peer:
    """The other end of a connection or session; one object lives as long as it does."""

    transport: str
    address: str = ""
    certificate: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    #: The certificates above the client's, as the handshake verified them; empty where TLS resumed a session.
    chain: tuple[bytes, ...] = ()
    identity: "Identity | None" = None
    #: The version in which its client took the server role on the connection (2.1, 6.1.54); None where it has not.
    serves: int | None = None


class Approval(NamedTuple):
    """A rule of a namespace: an operation that waits until so many of these people have approved it (`approvals`)."""

    operation: str
    #: Empty: every type.
    object_types: frozenset[int]
    needed: int
    people: tuple[str, ...]
    #: Seconds that a request waits.
    lifetime: int


@dataclass(frozen=True, slots=True)
class Identity:
    """A user of this server, how it was recognised, and what its groups and roles are."""

    username: str
    method: str
    namespace: str = "default"
    fingerprint: str = ""
    groups: tuple[str, ...] = ()
    roles: tuple[Allowance, ...] = (roles.CLIENT,)
    #: What a token is limited to.
    scope: int = -1
    #: Whether rights may be changed with it: a token's scope may leave that out.
    manages: bool = True
    #: Until when it is believed, by `time.monotonic`.
    until: float = field(default=math.inf, compare=False, repr=False)
    #: The rules of its namespace that its operations are under.
    approvals: tuple[Approval, ...] = field(default=(), compare=False, repr=False)
    #: The number of changes (`generations`) that it knows of.
    generation: int = field(default=0, compare=False, repr=False)
    #: As grants name the identity.
    principals: tuple[str, ...] = field(init=False)
    #: Operations that some role allows, and those that it allows on every object of the namespace.
    operations: int = field(init=False)
    everywhere: int = field(init=False)
    #: Whether roles tell object types apart.
    typed: bool = field(init=False)

    def __post_init__(self) -> None:
        own, everywhere = 0, 0
        for role in self.roles:
            own |= role.operations
            everywhere |= role.everywhere
        put = object.__setattr__
        put(self, "principals", (f"user:{self.username}", *(f"group:{name}" for name in self.groups), "*"))
        put(self, "operations", (own | everywhere) & self.scope)
        put(self, "everywhere", everywhere & self.scope)
        put(self, "typed", any(role.object_types is not None for role in self.roles))

    def is_believed(self, latest: int) -> bool:
        """Whether it need not be looked up again, where `latest` is the number of changes so far."""
        return self.generation == latest and time.monotonic() < self.until

    def allowed(self, object_type: int) -> tuple[int, int]:
        """The operations on objects of a type: on one's own and granted ones, and on every one."""
        own, everywhere = 0, 0
        for role in self.roles:
            if role.object_types is None or object_type in role.object_types:
                own |= role.operations
                everywhere |= role.everywhere
        return own & self.scope, everywhere & self.scope

    def reach(self, managed: Any) -> int:
        """The operations that the credential itself leaves possible on an object: all, but for delegated tickets."""
        return -1

    def confine(self, found: Any) -> Any:
        """The objects among those found (a query) that the credential reaches at all."""
        return found

    @property
    def administers(self) -> bool:
        """Whether it may change the rights of others in its namespace."""
        return self.manages and any(role.name == roles.ADMINISTRATOR.name for role in self.roles)


def latest_generation() -> int:
    """How many changes of identities there have been, on whatever node; 0 where the server is alone with its database,
    and what it looked up is believed for `BELIEVED` seconds."""
    return 0 if generations.is_alone() else generations.current(Kept.IDENTITIES)


class Authenticator(Protocol):
    """One way to recognise a peer."""

    def __call__(self, peer: Peer, authentication: Authentication | None) -> Identity | None:
        """The identity, or None where this way does not apply; raises `KMIPError` where it applies and fails."""


class _LookedUp:
    """Identities by what proved them, shared by the connections of a process for as long as they are believed."""

    MANY: Final = 10_000

    def __init__(self) -> None:
        self._found: dict[object, Identity] = {}
        self._lock = threading.Lock()
        self._looking = [threading.RLock() for _ in range(64)]

    def get(self, proof: object, look: Callable[[], Identity]) -> Identity:
        """The identity that a proof stands for; `look` finds it, or raises."""
        latest = latest_generation()
        known = self._found.get(proof)
        if known is not None and known.is_believed(latest):
            return known
        # What one connection has to look up again, all of the same client have to: one does, the others wait for it.
        with self._looking[hash(proof) % len(self._looking)]:
            known = self._found.get(proof)
            if known is not None and known.is_believed(latest):
                return known
            identity = look()
            object.__setattr__(identity, "generation", latest)
            with self._lock:
                if len(self._found) >= self.MANY:
                    self._found.clear()
                self._found[proof] = identity
            return identity

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._found.clear()


_looked_up = _LookedUp()


def looked_up(proof: object, look: Callable[[], Identity]) -> Identity:
    """The identity that a proof stands for, looked up by `look` unless some connection has done so just now."""
    return _looked_up.get(proof, look)


def forget() -> None:
    """Believe nothing that was looked up before; connections still believe what they were told last."""
    _looked_up.clear()


def refused(why: str) -> KMIPError:
    """The error of a peer that is not let in. `why` says what it may know: never whether a user exists."""
    return KMIPError(ResultReason.AUTHENTICATION_NOT_SUCCESSFUL, why)
