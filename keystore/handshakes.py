"""The record of TLS handshakes: who knocked, what they offered, and why they were turned away, in words that help.

Handshakes that ended alike are one entry with a count, so that a client which tries again every second does not push
the others out. `KEPT` entries are kept of each listener and node; a thread writes them in groups, and what comes faster
than it writes is counted, not kept. Certificates of unknown issuers go into a queue for an administrator as well.
"""

import hashlib
import logging
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from django.db import DatabaseError, connections
from django.db.models import F

from keystore.crypto import x509_issuing as issuing
from keystore.crypto.x509_errors import UNREADABLE
from keystore.models import HandshakeRecord, WaitingClient
from keystore.tls import HandshakeFailed

log = logging.getLogger(__name__)

#: Entries of each listener and node.
KEPT: Final = 1000
#: Entries of all listeners and nodes, for nodes that come and go under new names; and days after which one goes.
KEPT_IN_ALL: Final = 20_000
KEPT_DAYS: Final = 90
#: Different entries that may wait to be written; more would be an attack, and is only counted.
PENDING: Final = 500
#: Seconds between writes; what has been written before waits longer, so that busy clients cost little.
FLUSH: Final = 0.5
REPEATED: Final = 10.0
#: Certificates that may wait for an administrator.
WAITING: Final = 200
#: A ClientHello's beginning, enough for all that is shown.
PEEKED: Final = 4096

VERSIONS: Final = {0x0304: "TLS 1.3", 0x0303: "TLS 1.2", 0x0302: "TLS 1.1", 0x0301: "TLS 1.0", 0x0300: "SSL 3.0"}


@dataclass(frozen=True, slots=True)
class Hello:
    """What a ClientHello offers."""

    server_name: str = ""
    versions: tuple[str, ...] = ()
    ciphers: tuple[str, ...] = ()


@cache
def _cipher_names() -> dict[int, str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ALL:COMPLEMENTOFALL:@SECLEVEL=0")
    return {int(str(cipher["id"])) & 0xFFFF: str(cipher["name"]) for cipher in context.get_ciphers()}


def read_hello(data: bytes) -> Hello:
    """What the first bytes of a connection offer; as much as can be read of bytes that are cut short or no TLS."""
    if data[:1] != b"\x16" or data[5:6] != b"\x01":
        return Hello()
    try:
        return _hello(data[5:])
    except (IndexError, struct.error):
        return Hello()


def _hello(body: bytes) -> Hello:
    legacy = struct.unpack_from(">H", body, 4)[0]
    at = 38
    at += 1 + body[at]
    size = struct.unpack_from(">H", body, at)[0]
    suites = struct.unpack_from(f">{min(size, len(body) - at - 2) // 2}H", body, at + 2)
    names = _cipher_names()
    # Values such as 0A0A keep servers tolerant (RFC 8701), and SCSVs are signals.
    ciphers = tuple(
        names.get(suite, f"0x{suite:04X}")
        for suite in suites
        if suite & 0x0F0F != 0x0A0A and suite not in (0xFF, 0x5600)
    )
    at += 2 + size
    server_name, versions = "", [VERSIONS.get(legacy, f"0x{legacy:04X}")]
    if at < len(body):
        at += 1 + body[at]
        for kind, value in _extensions(body, at + 2):
            if kind == 0 and len(value) > 5:
                server_name = value[5 : 5 + struct.unpack_from(">H", value, 3)[0]].decode("ascii", "replace")[:255]
            elif kind == 43 and value:
                offered = struct.unpack_from(f">{value[0] // 2}H", value, 1)
                versions = [VERSIONS[one] for one in offered if one in VERSIONS]
    return Hello(server_name, tuple(versions), ciphers)


def _extensions(body: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    while at + 4 <= len(body):
        kind, size = struct.unpack_from(">HH", body, at)
        value = body[at + 4 : at + 4 + size]
        if len(value) < size:
            return
        yield kind, value
        at += 4 + size


def read_certificates(message: bytes) -> list[bytes]:
    """The certificates, in DER, of a Certificate message of TLS 1.3 or 1.2, leaf first."""
    for reader in (_certificates_1_3, _certificates_1_2):
        try:
            found = reader(message)
            if found:
                x509.load_der_x509_certificate(found[0])
                return found
        except (IndexError, *UNREADABLE):
            continue
    return []


def _certificates_1_3(message: bytes) -> list[bytes]:
    start = 5 + message[4]
    return _list(message, start, extensions=True)


def _certificates_1_2(message: bytes) -> list[bytes]:
    return _list(message, 4, extensions=False)


def _list(message: bytes, at: int, *, extensions: bool) -> list[bytes]:
    end = at + 3 + int.from_bytes(message[at : at + 3])
    at += 3
    found: list[bytes] = []
    while at + 3 <= min(end, len(message)) and len(found) < 16:
        size = int.from_bytes(message[at : at + 3])
        found.append(message[at + 3 : at + 3 + size])
        at += 3 + size
        if extensions:
            at += 2 + int.from_bytes(message[at : at + 2])
    return found


@dataclass(slots=True)
class Entry:
    """Handshakes that ended alike."""

    listener: str
    address: str
    accepted: bool
    reason: str
    advice: str
    hello: Hello
    negotiated: str
    certificate: bytes | None
    first: int
    last: int
    count: int = 1
    #: Whether an administrator might want to accept the certificate.
    unknown: bool = False
    written: bool = field(default=False, repr=False)

    @property
    def fingerprint(self) -> str:
        """The certificate's SHA-256."""
        return issuing.fingerprint(self.certificate) if self.certificate is not None else ""

    @property
    def key(self) -> str:
        """What makes handshakes alike."""
        return _key(self.address, self.reason, self.certificate)


def _key(address: str, reason: str, certificate: bytes | None) -> str:
    digest = hashlib.sha256(f"{address}\n{reason}\n".encode())
    digest.update(certificate or b"")
    return digest.hexdigest()


class Recorder:
    """Takes the handshakes of one listener's process, and has them written."""

    def __init__(self, listener: str, *, write: bool) -> None:
        self.listener = listener
        self.dropped = 0
        self._entries: dict[str, Entry] = {}
        self._lock = threading.Lock()
        self._write = write
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._repeated_at = 0.0

    def note(
        self,
        address: str,
        hello: Hello,
        certificate: bytes | None,
        failure: HandshakeFailed | None,
        negotiated: str = "",
    ) -> None:
        """Note how a handshake ended; cheap, and never an error for the connection."""
        if not self._write or (failure is not None and failure.probe and not hello.versions):
            return
        reason = failure.reason if failure is not None else ""
        now = time.time_ns() // 1_000_000
        key = _key(address, reason, certificate)
        with self._lock:
            known = self._entries.get(key)
            if known is not None:
                known.last, known.count, known.hello = now, known.count + 1, hello
                known.negotiated = negotiated or known.negotiated
                return
            if len(self._entries) >= PENDING:
                self._forget_written()
            if len(self._entries) >= PENDING:
                self.dropped += 1
                return
            advice = failure.advice if failure is not None else ""
            unknown = failure is not None and failure.unknown
            self._entries[key] = Entry(
                self.listener, address, failure is None, reason, advice, hello, negotiated, certificate, now, now,
                unknown=unknown,
            )  # fmt: skip
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=f"handshakes {self.listener}", daemon=True)
                self._thread.start()

    def _forget_written(self) -> None:
        for key in [key for key, entry in self._entries.items() if entry.written and not entry.count]:
            del self._entries[key]

    def stop(self) -> None:
        """Write what is left, and end the thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(5)

    def _run(self) -> None:
        while not self._stop.wait(FLUSH):
            self._flush()
        self._flush(everything=True)
        connections.close_all()

    def _flush(self, *, everything: bool = False) -> None:
        now = time.monotonic()
        repeated = everything or now - self._repeated_at >= REPEATED
        with self._lock:
            due = [one for one in self._entries.values() if one.count and (repeated or not one.written)]
            batch = [(entry, entry.count) for entry in due]
        if repeated:
            self._repeated_at = now
        if not batch:
            return
        try:
            write(batch)
        except DatabaseError as exc:
            log.warning("handshakes could not be recorded: %s", exc)
            connections.close_all()
            return
        with self._lock:
            for entry, count in batch:
                entry.count -= count
                entry.written = True
        if self.dropped:
            log.warning("%d handshakes were not recorded: they came too fast", self.dropped)
            self.dropped = 0


NODE: Final = socket.gethostname()[:64]


def write(batch: list[tuple[Entry, int]]) -> None:
    """Write entries with the number of handshakes each stands for, and drop the oldest beyond `KEPT`."""
    added = False
    for entry, count in batch:
        values = _values(entry)
        mine = HandshakeRecord.objects.filter(listener=entry.listener, node=NODE, key=entry.key)
        counted = {"count": F("count") + count, **values}
        if not mine.update(**counted):
            defaults = {"count": count, "first": entry.first, **values}
            _, new = HandshakeRecord.objects.get_or_create(
                listener=entry.listener, node=NODE, key=entry.key, defaults=defaults
            )
            if not new:  # Another process was quicker.
                mine.update(**counted)
            added = True
        if entry.unknown and entry.certificate is not None:
            queue(entry.certificate, entry.address, count, entry.last // 1000)
    if added:
        for listener in {entry.listener for entry, _ in batch}:
            rows = HandshakeRecord.objects.filter(listener=listener, node=NODE).order_by("-last", "-id")
            old = list(rows.values_list("id", flat=True)[KEPT : KEPT + PENDING])
            if old:
                HandshakeRecord.objects.filter(id__in=old).delete()


def forget() -> int:
    """Drop entries, and unknown clients nobody decided about, of long ago, and the oldest beyond `KEPT_IN_ALL`; how
    many. The jobs worker calls it."""
    before = int(time.time()) - KEPT_DAYS * 86_400
    count = HandshakeRecord.objects.filter(last__lt=before * 1000).delete()[0]
    count += WaitingClient.objects.filter(decision="", last_seen__lt=before).delete()[0]
    rows = HandshakeRecord.objects.order_by("-last", "-id")
    first = rows.values_list("last", flat=True)[KEPT_IN_ALL : KEPT_IN_ALL + 1]
    for last in first:
        count += HandshakeRecord.objects.filter(last__lte=last).delete()[0]
    return count


def records(
    limit: int = KEPT, *, listener: str = "", refused: bool = False, fingerprint: str = "", since: int = 0
) -> list[HandshakeRecord]:
    """The last handshakes, of every listener and node or of one listener; only those that were refused, of one
    certificate, or since a moment (milliseconds since 1970)."""
    rows = HandshakeRecord.objects.filter(last__gte=since)
    if listener:
        rows = rows.filter(listener=listener)
    if refused:
        rows = rows.filter(accepted=False)
    if fingerprint:
        rows = rows.filter(fingerprint=fingerprint)
    return list(rows.order_by("-last", "-id")[:limit])


_SHOWN: Final = tuple(field.name for field in HandshakeRecord._meta.fields if field.name not in ("id", "key"))


def shown(record: HandshakeRecord) -> dict[str, Any]:
    """Everything that is known of a handshake, for JSON."""
    return {name: getattr(record, name) for name in _SHOWN}


def any_accepted(listener: str) -> bool:
    """Whether a listener has let anybody in, as far as is on record."""
    return HandshakeRecord.objects.filter(listener=listener, accepted=True).exists()


def _values(entry: Entry) -> dict[str, object]:
    values: dict[str, object] = {
        "address": entry.address[:64],
        "accepted": entry.accepted,
        "reason": entry.reason[:200],
        "advice": entry.advice[:300],
        "server_name": _clean(entry.hello.server_name)[:255],
        "versions": " ".join(entry.hello.versions)[:64],
        "ciphers": " ".join(entry.hello.ciphers)[:4000],
        "negotiated": entry.negotiated[:80],
        "fingerprint": entry.fingerprint,
        "last": entry.last,
    }
    if entry.certificate is not None:
        values |= describe(entry.certificate)
    return values


def _clean(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)


def describe(certificate: bytes) -> dict[str, Any]:
    """Subject, issuer, usages and dates of a certificate, as far as they can be read."""
    try:
        parsed = x509.load_der_x509_certificate(certificate)
        found: dict[str, Any] = {
            "subject": _clean(parsed.subject.rfc4514_string())[:512],
            "issuer": _clean(parsed.issuer.rfc4514_string())[:512],
            "not_before": int(parsed.not_valid_before_utc.timestamp()),
            "not_after": int(parsed.not_valid_after_utc.timestamp()),
        }
    except UNREADABLE:
        return {"subject": "(unreadable)"}
    try:
        usages = parsed.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        found["usages"] = " ".join(_usage(usage) for usage in usages)[:200]
    except (x509.ExtensionNotFound, *UNREADABLE):
        found["usages"] = ""
    return found


def _usage(oid: x509.ObjectIdentifier) -> str:
    name = str(getattr(oid, "_name", ""))
    return name if name and not name.startswith("Unknown") else oid.dotted_string


# The queue of unknown clients.


def well_formed(certificate: bytes, now: int) -> bool:
    """Whether a certificate could be accepted as a client's by itself: it names somebody, is valid, strong, and not
    for something else."""
    try:
        parsed = x509.load_der_x509_certificate(certificate)
        key = parsed.public_key()
        name = issuing.common_name(parsed.subject)
    except UNREADABLE:
        return False
    moment = datetime.fromtimestamp(now, UTC)
    strong = (isinstance(key, rsa.RSAPublicKey) and key.key_size >= 2048) or (
        isinstance(key, ec.EllipticCurvePublicKey) and key.key_size >= 224
    )
    strong = strong or type(key).__name__.startswith(("Ed25519", "Ed448"))
    valid = parsed.not_valid_before_utc <= moment <= parsed.not_valid_after_utc
    return strong and valid and bool(name) and issuing.may_be_client(parsed)


def queue(certificate: bytes, address: str, count: int, now: int) -> None:
    """Put an unknown client's certificate before the administrator; the oldest undecided goes when there are many."""
    fingerprint = issuing.fingerprint(certificate)
    rows = WaitingClient.objects.filter(fingerprint=fingerprint)
    if rows.update(last_seen=now, attempts=F("attempts") + count, address=address[:64]):
        return
    if not well_formed(certificate, now):
        return
    undecided = WaitingClient.objects.filter(decision="").order_by("-last_seen")
    old = list(undecided.values_list("fingerprint", flat=True)[WAITING - 1 :])
    if old:
        WaitingClient.objects.filter(fingerprint__in=old, decision="").delete()
    facts = describe(certificate)
    WaitingClient.objects.get_or_create(
        fingerprint=fingerprint,
        defaults={
            "certificate": certificate,
            "subject": facts["subject"],
            "issuer": facts["issuer"],
            "address": address[:64],
            "not_after": facts["not_after"],
            "first_seen": now,
            "last_seen": now,
            "attempts": count,
        },
    )
