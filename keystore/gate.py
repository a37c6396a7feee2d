"""Who a listener lets through the handshake, beyond what OpenSSL checks: see `Trust`.

Authorities of this server and accepted clients stand in the database. A thread looks every second whether they have
changed; then the next handshake, and the next request on connections that are open, are judged anew.

OpenSSL does not let Python see a certificate that it refuses, but tells a debugging callback every message. The
callback costs something on each record of a connection, so only addresses that nobody has been let in from lately get
the context that has it.
"""

import contextlib
import functools
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, cast

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from django.db import DatabaseError, connections

from keystore import authn, ca, conf, generations, metrics, revocation, tls
from keystore.authn import Peer
from keystore.conf import Config, ConfigError
from keystore.crypto import x509_issuing as issuing
from keystore.crypto import x509_paths
from keystore.generations import Kept
from keystore.handshakes import PEEKED, Hello, Recorder, read_certificates
from keystore.tls import HandshakeFailed, Listener
from kmip.errors import KMIPError

log = logging.getLogger(__name__)

#: Seconds between looks at the database.
INTERVAL: Final = 1.0
#: Addresses that are remembered as good, and for how many seconds.
ADDRESSES: Final = 4096
GOOD_FOR: Final = 3600.0
#: Seconds for which an address with a refused client is watched: another client may share it.
SUSPECT_FOR: Final = 600.0
#: OpenSSL's codes for what the gate finds itself (X509_V_ERR_...).
NO_LIST: Final = 3
EXPIRED: Final = 10
LIST_ENDED: Final = 12
REVOKED: Final = 23


class Watched(ssl.SSLSocket):
    """A connection whose client's Certificate message is kept while it shakes hands."""

    shown: bytes = b""


def _keep_certificate(
    connection: ssl.SSLSocket, direction: str, _version: Any, content: Any, kind: Any, data: bytes
) -> None:
    if direction == "read" and content == 22 and kind == 11 and isinstance(connection, Watched):
        connection.shown = data


@dataclass(frozen=True, slots=True)
class Contexts:
    """The TLS side of a listener: for known addresses, and for those whose certificates are to be seen."""

    plain: ssl.SSLContext
    watching: ssl.SSLContext

    def trust(self, certificates: list[bytes]) -> None:
        """Accept what these certificates have signed, and themselves.

        OpenSSL would then want a revocation list for each of them, too; so the gate looks at the lists itself."""
        for context in (self.plain, self.watching):
            if certificates:
                context.verify_flags &= ~ssl.VERIFY_CRL_CHECK_LEAF
            for certificate in certificates:
                with contextlib.suppress(ssl.SSLError):  # It is there already.
                    context.load_verify_locations(cadata=certificate)


def contexts(config: Config, listener: Listener) -> Contexts:
    """Both contexts of a listener, as configured; ConfigError says what is wrong."""
    plain, watching = tls.server_context(config, listener), tls.server_context(config, listener)
    watching.sslsocket_class = Watched
    if hasattr(watching, "_msg_callback"):
        watching._msg_callback = _keep_certificate
    return Contexts(plain, watching)


@dataclass(frozen=True, slots=True)
class Shown:
    """What a client has shown in its handshake; the chain is unknown where it resumed a session."""

    certificate: bytes | None = None
    chain: tuple[bytes, ...] = ()
    #: Of certificate and chain.
    fingerprints: frozenset[str] = frozenset()
    #: How often the gate had withdrawn its trust from a CA by then.
    withdrawals: int = 0


@dataclass(frozen=True, slots=True)
class Trust:
    """What the database says of clients' certificates."""

    generation: int = -1
    authorities: frozenset[bytes] = frozenset()
    #: Accepted by themselves, whoever issued them; by fingerprint.
    accepted: frozenset[str] = frozenset()
    accepted_certificates: frozenset[bytes] = frozenset()
    #: Fingerprints, and whether each is of a CA.
    revoked: dict[str, bool] = field(default_factory=dict)

    @classmethod
    def read(cls) -> "Trust":
        """The state of the database."""
        # The number first: what changes meanwhile is read again at the next look.
        generation = generations.current(Kept.TRUST)
        accepted = ca.accepted_clients()
        return cls(
            generation,
            frozenset(ca.client_authorities()),
            frozenset(accepted),
            frozenset(accepted.values()),
            ca.revoked_fingerprints(int(time.time())),
        )

    @property
    def anchors(self) -> frozenset[bytes]:
        """What OpenSSL is to trust."""
        return self.authorities | self.accepted_certificates

    @property
    def revoked_authorities(self) -> frozenset[str]:
        """The fingerprints of CAs that are revoked."""
        return frozenset(fingerprint for fingerprint, signs in self.revoked.items() if signs)


class Gate:
    """One listener's process at its door."""

    def __init__(self, listener: Listener, both: Contexts | None, *, database: bool) -> None:
        self.listener, self.contexts = listener, both
        self.database = database and both is not None
        self.trust = Trust()
        self.recorder = Recorder(listener, write=self.database)
        self.on_change: Callable[[], None] = _nothing
        self._withdrawals = 0
        #: When somebody at an address was last let in, and when somebody was refused.
        self._good: dict[str, float] = {}
        self._suspect: dict[str, float] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._well = True

    # The watch over the database.

    def start(self) -> None:
        """Read what the database trusts, and keep watching it."""
        if not self.database:
            return
        self.look()
        self._thread = threading.Thread(target=self._watch, name=f"gate {self.listener}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the watch, and write what is noted."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(5)
        self.recorder.stop()

    def _watch(self) -> None:
        while not self._stop.wait(INTERVAL):
            self.look()
        connections.close_all()

    def look(self) -> bool:
        """Notice what has changed; whether anything has. While the database is away, everything stays."""
        try:
            if generations.current(Kept.TRUST) == self.trust.generation:
                return False
            trust = Trust.read()
        except DatabaseError as exc:
            if self._well:
                log.warning("the clients' certificates cannot be looked up: %s", exc)
            self._well = False
            connections.close_all()
            return False
        self._well = True
        before, self.trust = self.trust, trust
        if before.anchors - trust.anchors or trust.revoked_authorities - before.revoked_authorities:
            # OpenSSL takes nothing back; sessions under the old contexts cannot be resumed under new ones.
            self._withdrawals += 1
            self.reload(conf.current())
        elif self.contexts is not None:
            self.contexts.trust(list(trust.anchors - before.anchors))
        self.on_change()
        return True

    def use(self, both: Contexts | None) -> None:
        """Use other contexts for connections yet to come."""
        if both is not None:
            both.trust(list(self.trust.anchors))
        self.contexts = both

    def reload(self, config: Config) -> bool:
        """Read certificates, CAs and revocation lists again; what is wrong is logged, and the old ones stay."""
        try:
            self.use(contexts(config, self.listener) if conf.has_tls(config) else None)
        except ConfigError as error:
            log.error("certificates not reloaded: %s", error)
            return False
        return True

    # One connection.

    def wrap(self, connection: Any, address: str) -> Any:
        """The connection in TLS, before its handshake; as it is where the listener has no TLS."""
        both = self.contexts
        if both is None:
            return connection
        context = both.plain if self._is_good(address) else both.watching
        return context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)

    def _is_good(self, address: str) -> bool:
        if not self.database:
            return True
        now = time.monotonic()
        good, suspect = self._good.get(address), self._suspect.get(address)
        return good is not None and now - good < GOOD_FOR and (suspect is None or now - suspect > SUSPECT_FOR)

    def shake(self, connection: ssl.SSLSocket, address: str, hello: Hello) -> Shown:
        """Complete the handshake: what the client showed; HandshakeFailed says why not. Both are noted."""
        shown = Shown(withdrawals=self._withdrawals)
        try:
            shown = self._shown(connection, shown.withdrawals)
            if shown.certificate is not None:
                self._admit(shown.certificate, shown, resumed=bool(connection.session_reused))
        except HandshakeFailed as failure:
            read = read_certificates(connection.shown) if isinstance(connection, Watched) and connection.shown else []
            if not failure.probe:
                _remember(self._suspect, address)
            seen = shown.certificate or (read[0] if read else None)
            self._note(address, hello, seen, _explained(failure, seen))
            raise
        finally:
            if isinstance(connection, Watched):
                connection.shown = b""
        if isinstance(connection, Watched) and self.contexts is not None:
            # Or the callback would go on to be told every record.
            connection.context = self.contexts.plain
        if shown.certificate is not None:
            _remember(self._good, address)
        cipher = connection.cipher()
        self._note(address, hello, shown.certificate, None, f"{connection.version()} {cipher[0] if cipher else ''}")
        return shown

    def _shown(self, connection: ssl.SSLSocket, withdrawals: int) -> Shown:
        """What OpenSSL has verified; `withdrawals` counts those before the handshake began."""
        certificate = tls.handshake(connection, accepted=self.trust.accepted)
        if certificate is None:
            return Shown()
        chain = tls.chain(connection)
        return Shown(certificate, chain, frozenset(map(issuing.fingerprint, (certificate, *chain))), withdrawals)

    def _note(
        self, address: str, hello: Hello, certificate: bytes | None, failure: HandshakeFailed | None, spoken: str = ""
    ) -> None:
        metrics.handshake(self.listener, "accepted" if failure is None else failure.kind)
        self.recorder.note(address, hello, certificate, failure, spoken)

    def _admit(self, certificate: bytes, shown: Shown, *, resumed: bool) -> None:
        """Refuse what OpenSSL accepted and the database does not."""
        fingerprint, trust = issuing.fingerprint(certificate), self.trust
        if fingerprint in trust.revoked:
            raise tls.refused(*tls.REFUSALS[REVOKED])
        if not trust.revoked.keys().isdisjoint(shown.fingerprints):
            raise tls.refused("a certificate in its chain is revoked", "issuer")
        if resumed and _end_of(certificate) < datetime.now(UTC):
            raise tls.refused(*tls.REFUSALS[EXPIRED])
        if fingerprint in trust.accepted:
            return
        # A self-signed certificate is often one of a CA, too; it was accepted for its holder alone.
        if any(above in trust.accepted_certificates and above not in trust.authorities for above in shown.chain):
            raise tls.refused("its issuer was accepted as a client, not as a CA", "unknown")
        if trust.anchors:
            _check_lists(certificate, shown.chain, trust.authorities)

    def introduce(self, peer: Peer, hello: Hello) -> None:
        """Find out who a genuine certificate is, which the first request needs anyway, and note if it is nobody.

        The client may still prove itself by a credential in its requests."""
        if not self.database or peer.certificate is None:
            return
        try:
            authn.identify(peer)
        except KMIPError as error:
            # The handshake has been counted: it was one, and what it is told now is for people.
            failure = tls.refused(error.message, "identity")
            self.recorder.note(peer.address, hello, peer.certificate, failure, "")
        except DatabaseError as exc:
            log.debug("client of %s not looked up: %s", peer.address, exc)

    def is_out(self, shown: Shown) -> bool:
        """Whether an open connection's certificate, or one above it, has been revoked meanwhile.

        A connection that resumed a session did not show its chain; it has to when trust was withdrawn from any CA."""
        if not self.trust.revoked.keys().isdisjoint(shown.fingerprints):
            return True
        return shown.certificate is not None and not shown.chain and shown.withdrawals != self._withdrawals


def _explained(failure: HandshakeFailed, certificate: bytes | None) -> HandshakeFailed:
    """A refusal with what else is in the way, so that nobody accepts a certificate which OpenSSL refuses again."""
    if not failure.unknown or certificate is None:
        return failure
    if issuing.may_be_client(x509.load_der_x509_certificate(certificate)):
        return failure
    return HandshakeFailed(f"{failure.reason}, and is not for TLS clients", "usage")


@functools.lru_cache(maxsize=4)
def _lists(stamps: tuple[revocation.Stamp, ...]) -> list[x509.CertificateRevocationList]:
    return [one for found in stamps if found is not None for one in revocation.parse(Path(found[0]).read_bytes())]


def _check_lists(certificate: bytes, chain: tuple[bytes, ...], authorities: frozenset[bytes]) -> None:
    """Refuse a certificate of a configured CA as OpenSSL would: revoked, or without a current list of its CA."""
    config = conf.current()
    files = revocation.files(config)
    if not files or (chain and chain[0] in authorities):
        return
    parsed = x509.load_der_x509_certificate(certificate)
    issuers = [x509.load_der_x509_certificate(one) for one in (chain[:1] or authorities)]
    if not chain:
        if any(x509_paths.signed_by(parsed, one) for one in issuers):
            return
        issuers = tls.client_authorities(config)
    try:
        lists = _lists(tuple(revocation.stamp(path) for path in files))
    except (OSError, ValueError) as exc:
        log.error("a revocation list cannot be read: %s", exc)
        lists = []
    own = [one for one in lists if any(_signed(one, issuer) for issuer in issuers if issuer.subject == parsed.issuer)]
    now = datetime.now(UTC)
    if not own:
        code = NO_LIST
    elif any(one.get_revoked_certificate_by_serial_number(parsed.serial_number) for one in own):
        code = REVOKED
    elif not any(one.next_update_utc is not None and one.next_update_utc > now for one in own):
        code = LIST_ENDED
    else:
        return
    raise tls.refused(*tls.REFUSALS[code])


def _signed(one: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    try:
        return one.issuer == issuer.subject and one.is_signature_valid(cast(Any, issuer.public_key()))
    except (TypeError, ValueError, UnsupportedAlgorithm):
        return False


def peek(connection: socket.socket) -> bytes:
    """The first bytes that a client has sent, left where they are; HandshakeFailed if there will be none."""
    # Not SSLSocket's own, which would read through TLS.
    data = socket.socket.recv(connection, PEEKED, socket.MSG_PEEK)
    if not data:
        raise HandshakeFailed("the client closed the connection", "closed")
    return data


@functools.lru_cache(maxsize=1024)
def _end_of(certificate: bytes) -> datetime:
    return x509.load_der_x509_certificate(certificate).not_valid_after_utc


def _remember(when: dict[str, float], address: str) -> None:
    if len(when) >= ADDRESSES:
        when.clear()
    when[address] = time.monotonic()


def _nothing() -> None:
    """What is done on a change unless somebody asks for more."""
