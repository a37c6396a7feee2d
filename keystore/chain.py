"""The chain of audit records: checkpoints that bind runs of records together, each to the one before.

A checkpoint takes in every record that was committed since the last one, in one step that no writer waits for. It keeps
a leaf for each record, so that `verify` can name the one that was edited, deleted, inserted, moved or cut off, and its
MAC, under a key that follows from the root key, covers them all and the MAC before. Identifiers are given out before
commits: those that were still missing are noted as gaps, and the records that turn up late as late.

The head says how many checkpoints there are; lines that were exported to a file or to syslog say it outside of the
database, whose old copy is whole in itself.
"""

import hmac
import json
import logging
import logging.handlers
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson
from django.db import DatabaseError, close_old_connections, transaction
from django.db.models import Count, Q, QuerySet

from keystore import audit, conf, configuration, supervisor
from keystore.database.watch import watch
from keystore.models import AuditCheckpoint, AuditHead, AuditRecord
from keystore.version import VERSION

logger = logging.getLogger(__name__)

LEAF_LENGTH: Final = 16
#: Records in one checkpoint, at most.
MAX_ROWS: Final = 10_000
#: Seconds after which an identifier that is missing will not turn up any more: no transaction takes so long.
SETTLED: Final = 60
START: Final = bytes(32)
HEAD: Final = 1
_CONTENT: Final = audit.CONTENT

Ranges = list[tuple[int, int]]


def _leaf(number: int, content: Sequence[Any], mac: bytes) -> bytes:
    return sha256(orjson.dumps([number, *content]) + mac).digest()[:LEAF_LENGTH]


def _mac(secret: bytes, checkpoint: AuditCheckpoint) -> bytes:
    bound = [
        checkpoint.number,
        checkpoint.time,
        checkpoint.first,
        checkpoint.last,
        checkpoint.gaps,
        checkpoint.late,
        bytes(checkpoint.digest).hex(),
        bytes(checkpoint.previous).hex(),
    ]
    return hmac.digest(secret, b"checkpoint" + orjson.dumps(bound), "sha256")


def _mark(secret: bytes, kind: str, number: int) -> bytes:
    return hmac.digest(secret, f"{kind}:{number}".encode(), "sha256")


def _rows(chosen: QuerySet[AuditRecord]) -> Iterator[tuple[int, tuple[Any, ...], bytes]]:
    """Identifier, content and MAC of records, in the order of their identifiers."""
    for row in chosen.order_by("id").values_list("id", *_CONTENT, "mac").iterator(chunk_size=2000):
        yield row[0], row[1:-1], bytes(row[-1])


# Making checkpoints.


@dataclass(slots=True)
class _Recent:
    """What the maker of the last checkpoint knows: gaps whose records may still turn up, and since when."""

    number: int = -1
    gaps: list[tuple[int, tuple[int, int]]] = field(default_factory=list)


_recent = _Recent()


def checkpoint() -> AuditCheckpoint | None:
    """Bind the records that are new into a checkpoint; None where there are none."""
    secret = audit.key()
    # The records are read and hashed before anything is locked: on SQLite nobody else could write meanwhile.
    while (bound := _bound(secret)) is not None:
        made, late, missing = bound
        with transaction.atomic():
            head = _locked_head(secret)
            if head.number != made.number - 1:
                continue  # Another process was quicker: what it left is for the next one.
            made.save(force_insert=True)
            AuditHead.objects.filter(id=HEAD).update(number=made.number, mac=_mark(secret, "head", made.number))
        _recent.number = made.number
        _recent.gaps = [(since, one) for since, one in _without(_known_gaps(made.time), late)]
        _recent.gaps += [(made.time, one) for one in missing]
        _export(made)
        return made
    return None


def _bound(secret: bytes) -> tuple[AuditCheckpoint, set[int], Ranges] | None:
    """The next checkpoint, not saved yet, which of its records came late, and which are missing."""
    number = AuditHead.objects.filter(id=HEAD).values_list("number", flat=True).first() or 0
    last = AuditCheckpoint.objects.filter(number=number).defer("leaves").first()
    if last is None and number:
        logger.error("audit checkpoint %d is missing: run manage.py audit verify", number)
    after = last.last if last is not None else 0
    now = time.time_ns() // 1000
    gaps = _open_gaps(number, now)
    late = [row for chunk in _chunks(gaps) for row in _rows(AuditRecord.objects.filter(_within(chunk)))]
    new = list(_rows_after(after))
    if not new and not late:
        return None
    made = AuditCheckpoint(number=number + 1, time=now, first=after + 1, last=new[-1][0] if new else after)
    missing = _missing(after + 1, made.last, [row[0] for row in new])
    made.gaps = [list(one) for one in missing]
    made.late = [row[0] for row in late]
    made.leaves = b"".join(_leaf(*row) for row in (*new, *late))
    made.digest = sha256(made.leaves).digest()
    made.previous = bytes(last.mac) if last is not None else START
    made.mac = _mac(secret, made)
    return made, set(made.late), missing


def _rows_after(after: int) -> list[tuple[int, tuple[Any, ...], bytes]]:
    rows = AuditRecord.objects.filter(id__gt=after).order_by("id").values_list("id", *_CONTENT, "mac")[:MAX_ROWS]
    return [(row[0], row[1:-1], bytes(row[-1])) for row in rows]


def _locked_head(secret: bytes) -> AuditHead:
    """The head, which nobody else may change until the transaction ends."""
    head = AuditHead.objects.select_for_update().filter(id=HEAD).first()
    if head is None:
        AuditHead.objects.get_or_create(id=HEAD, defaults={"number": 0, "mac": _mark(secret, "head", 0)})
        head = AuditHead.objects.select_for_update().get(id=HEAD)
    return head


def _known_gaps(now: int) -> list[tuple[int, tuple[int, int]]]:
    return [(since, one) for since, one in _recent.gaps if now - since < SETTLED * 1_000_000]


def _open_gaps(number: int, now: int) -> Ranges:
    """The identifiers that recent checkpoints missed; read from them where another process made the last one."""
    if _recent.number != number:
        _recent.gaps = []
        recent = AuditCheckpoint.objects.filter(time__gt=now - SETTLED * 1_000_000).order_by("number")
        for since, gaps, late in recent.values_list("time", "gaps", "late"):
            _recent.gaps = _without(_recent.gaps, set(late)) + [(since, (low, high)) for low, high in gaps]
        _recent.number = number
    return [one for _, one in _known_gaps(now)]


def _without(gaps: list[tuple[int, tuple[int, int]]], found: set[int]) -> list[tuple[int, tuple[int, int]]]:
    """The gaps, less identifiers that have turned up."""
    left: list[tuple[int, tuple[int, int]]] = []
    for since, (low, high) in gaps:
        inside = [number for number in found if low <= number <= high]
        left += [(since, one) for one in _missing(low, high, sorted(inside))]
    return left


def _missing(low: int, high: int, present: Sequence[int]) -> Ranges:
    """The ranges between two identifiers that are not present."""
    found: Ranges = []
    for number in present:
        if number > low:
            found.append((low, number - 1))
        low = number + 1
    if low <= high:
        found.append((low, high))
    return found


def _chunks(gaps: Ranges) -> Iterator[Ranges]:
    for start in range(0, len(gaps), 100):
        yield gaps[start : start + 100]


def _within(ranges: Ranges) -> Q:
    found = Q(pk__in=[])
    for low, high in ranges:
        found |= Q(id__range=(low, high))
    return found


# Outside of the database.


def line(made: AuditCheckpoint) -> str:
    """A checkpoint as it is exported."""
    return json.dumps(
        {
            "checkpoint": made.number,
            "time": datetime.fromtimestamp(made.time / 1e6, UTC).isoformat(),
            "first": made.first,
            "last": made.last,
            "digest": bytes(made.digest).hex(),
            "mac": bytes(made.mac).hex(),
        }
    )


def _export(made: AuditCheckpoint) -> None:
    settings = conf.current().audit
    if settings.checkpoint_file is not None:
        try:
            settings.checkpoint_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(settings.checkpoint_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(line(made) + "\n")
        except OSError as exc:
            logger.error("checkpoint %d is not in %s: %s", made.number, settings.checkpoint_file, exc.strerror)
    if settings.checkpoint_syslog:
        try:
            _syslog(settings.checkpoint_syslog).info("kms audit checkpoint %s", line(made))
        except OSError as exc:
            logger.error("checkpoint %d is not in syslog: %s", made.number, exc.strerror)


@cache
def _syslog(where: str) -> logging.Logger:
    host, colon, port = where.rpartition(":")
    address: str | tuple[str, int] = (host.strip("[]"), int(port)) if colon and port.isdigit() else where
    found = logging.Logger("kms.audit.checkpoints", logging.INFO)
    found.addHandler(logging.handlers.SysLogHandler(address, facility=logging.handlers.SysLogHandler.LOG_AUTH))
    return found


def _step() -> float:
    """Make the checkpoints that are due, as a child does again and again."""
    try:
        close_old_connections()
        configuration.note()
        while (made := checkpoint()) is not None and made.last - made.first + 1 >= MAX_ROWS:
            pass
    except DatabaseError as exc:
        logger.error("no audit checkpoint: %s", exc)
    except Exception:
        logger.exception("no audit checkpoint")
    return conf.current().audit.checkpoint_interval


def children(config: conf.Config) -> list[supervisor.Child]:
    """The process that makes checkpoints. Several nodes may each have one: the head is locked. They are no job: what
    has been recorded must not stay unbound while a long job runs or the lease changes hands, and the lines that leave
    the database should leave it on more than one node."""

    def run() -> None:
        watch.start()
        supervisor.repeat(_step)

    return [supervisor.Child("audit", run)]


# Verifying.


class Problem(NamedTuple):
    """What is wrong with the record that has an identifier, or with those from it on."""

    record: int
    what: str

    def __str__(self) -> str:
        return f"record {self.record}: {self.what}"


def verify() -> tuple[int, list[Problem]]:
    """How many records were verified, and what is wrong, in the order of the records."""
    secret = audit.key()
    problems: list[Problem] = []
    head = AuditHead.objects.filter(id=HEAD).first()
    number = head.number if head is not None else 0
    checkpoints = AuditCheckpoint.objects.filter(number__lte=number).order_by("number")
    late = {record: one for one, records in checkpoints.values_list("number", "late") for record in records}
    verified, last = 0, None
    for one in checkpoints.iterator(chunk_size=50):
        problems += _links(secret, one, last)
        found, more = _records_of(secret, one, late, first=last is None)
        verified += found
        problems += more
        last = one
    end = last.last if last is not None else 0
    problems += _end(secret, head, last, end)
    # Those that no checkpoint covers yet.
    for record, content, mac in _rows(AuditRecord.objects.filter(id__gt=end)):
        verified += 1
        if not hmac.compare_digest(audit.mac(content, secret), mac):
            problems.append(Problem(record, "was inserted or edited: its MAC is wrong"))
    problems += _copies()
    return verified, sorted(set(problems))


def _links(secret: bytes, one: AuditCheckpoint, last: AuditCheckpoint | None) -> Iterator[Problem]:
    """What is wrong with a checkpoint itself and its place after the last one."""
    if not hmac.compare_digest(bytes(one.mac), _mac(secret, one)):
        yield Problem(one.first, f"checkpoint {one.number} over it was changed")
    if one.pruned is None and sha256(bytes(one.leaves)).digest() != bytes(one.digest):
        yield Problem(one.first, f"checkpoint {one.number} over it was changed")
    if last is not None:
        if one.number != last.number + 1:
            yield Problem(last.last + 1, f"checkpoints {last.number + 1} to {one.number - 1} were deleted")
        elif bytes(one.previous) != bytes(last.mac) or one.first != last.last + 1:
            yield Problem(one.first, f"checkpoint {one.number} does not follow {last.number}")
        if one.pruned is not None:
            yield Problem(one.first, f"checkpoint {one.number} claims to be pruned")
    elif one.pruned is not None:
        if not hmac.compare_digest(bytes(one.pruned), _mark(secret, "pruned", one.number)):
            yield Problem(one.first, f"checkpoint {one.number} claims to be pruned")
    elif one.number != 1:
        yield Problem(1, f"checkpoints 1 to {one.number - 1} were deleted")


def _records_of(secret: bytes, one: AuditCheckpoint, late: dict[int, int], *, first: bool) -> tuple[int, list[Problem]]:
    """Compare a checkpoint's records with its leaves."""
    problems: list[Problem] = []
    there = {
        record: (content, mac)
        for record, content, mac in _rows(AuditRecord.objects.filter(id__range=(one.first, one.last)))
    }
    if one.pruned is not None:
        # Only records that came late, after what was pruned, may be left.
        stray = AuditRecord.objects.filter(id__lte=one.last) if first else AuditRecord.objects.none()
        for record in stray.order_by("id").values_list("id", flat=True):
            if record not in late:
                problems.append(Problem(record, "was inserted among pruned ones"))
        return 0, problems
    if first and one.first > 1:
        for record in AuditRecord.objects.filter(id__lt=one.first).order_by("id").values_list("id", flat=True):
            problems.append(Problem(record, "was inserted before the first checkpoint"))
    gaps = {number for low, high in one.gaps for number in range(low, min(high, low + 1_000_000) + 1)}
    expected = [number for number in range(one.first, one.last + 1) if number not in gaps]
    for record in sorted(there.keys() & gaps):
        if record not in late:
            problems.append(Problem(record, "was inserted"))
    others = {record: (content, mac) for record, content, mac in _rows(AuditRecord.objects.filter(id__in=one.late))}
    leaves = bytes(one.leaves)
    for position, record in enumerate((*expected, *one.late)):
        found = there.get(record) if position < len(expected) else others.get(record)
        leaf = leaves[position * LEAF_LENGTH : (position + 1) * LEAF_LENGTH]
        if found is None:
            problems.append(Problem(record, "was deleted"))
            continue
        content, mac = found
        genuine = hmac.compare_digest(audit.mac(content, secret), mac)
        if _leaf(record, content, mac) != leaf:
            problems.append(Problem(record, "is another record, moved here" if genuine else "was edited"))
        elif not genuine:
            problems.append(Problem(record, "was inserted or edited: its MAC is wrong"))
    return len(expected) + len(one.late), problems


def _end(secret: bytes, head: AuditHead | None, last: AuditCheckpoint | None, end: int) -> Iterator[Problem]:
    """Whether the chain ends where the head, and the lines outside of the database, say."""
    number = last.number if last is not None else 0
    if head is None:
        if AuditCheckpoint.objects.exists():
            yield Problem(end + 1, "the head of the chain was deleted")
    elif not hmac.compare_digest(bytes(head.mac), _mark(secret, "head", head.number)):
        yield Problem(end + 1, "the head of the chain was changed")
    elif head.number != number:
        yield Problem(end + 1, f"the chain was cut off after checkpoint {number} of {head.number}")
    highest = AuditCheckpoint.objects.order_by("-number").values_list("number", flat=True).first() or 0
    if head is not None and highest > head.number:
        # One that was made meanwhile has moved the head, in its own transaction, before this reads it again.
        now = AuditHead.objects.filter(id=HEAD).first() or head
        genuine = hmac.compare_digest(bytes(now.mac), _mark(secret, "head", now.number))
        if not genuine or highest > now.number:
            yield Problem(end + 1, f"there are checkpoints after the last one, {head.number}")
    path = conf.current().audit.checkpoint_file
    if path is not None and path.is_file():
        yield from _exported(path, end)


def _exported(path: Path, end: int) -> Iterator[Problem]:
    """Compare the chain with the checkpoints that were exported to a file."""
    first = AuditCheckpoint.objects.order_by("number").values_list("number", flat=True).first()
    known = {
        number: bytes(mac).hex() for number, mac in AuditCheckpoint.objects.values_list("number", "mac").iterator()
    }
    with path.open() as file:
        for text in file:
            try:
                told = json.loads(text)
                number, mac, begins = told["checkpoint"], told["mac"], told["first"]
            except (ValueError, KeyError, TypeError):
                continue  # A line that was cut short says nothing.
            if first is not None and number < first:
                continue
            if number not in known:
                yield Problem(begins, f"the chain was cut off before checkpoint {number}, which {path.name} names")
                return
            if known[number] != mac:
                yield Problem(begins, f"checkpoint {number} is not the one that {path.name} names")
                return


def _copies() -> Iterator[Problem]:
    """Records that are copies of others."""
    twice = AuditRecord.objects.order_by().values("nonce").annotate(times=Count("id")).filter(times__gt=1)
    for nonce in twice.values_list("nonce", flat=True)[:100]:
        for record in list(AuditRecord.objects.filter(nonce=nonce).order_by("id").values_list("id", flat=True))[1:]:
            yield Problem(record, "is a copy of another record")


# Keeping less.


def prune(before: int) -> int:
    """Delete the records of checkpoints made before a time (microseconds since 1970); how many."""
    secret = audit.key()
    with transaction.atomic():
        head = _locked_head(secret)
        anchor = AuditCheckpoint.objects.filter(time__lt=before, number__lte=head.number).order_by("-number").first()
        if anchor is None or anchor.pruned is not None:
            return 0
        kept = {
            record
            for records in AuditCheckpoint.objects.filter(number__gt=anchor.number).values_list("late", flat=True)
            for record in records
        }
        deleted, _ = AuditRecord.objects.filter(id__lte=anchor.last).exclude(id__in=kept).delete()
        AuditCheckpoint.objects.filter(number__lt=anchor.number).delete()
        anchor.leaves, anchor.pruned = b"", _mark(secret, "pruned", anchor.number)
        anchor.save(update_fields=["leaves", "pruned"])
    return deleted


# Exporting.


def as_json(row: AuditRecord) -> str:
    """A record as one line of JSON."""
    return json.dumps({"sequence": row.id, "time": _iso(row.time), **_fields(row), "mac": bytes(row.mac).hex()})


def _fields(row: AuditRecord) -> dict[str, Any]:
    return {name: getattr(row, name) for name in audit.Entry._fields if name != "time"}


def _iso(microseconds: int) -> str:
    return datetime.fromtimestamp(microseconds / 1e6, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


#: Columns and their keys in the Common Event Format.
_CEF: Final = {
    "address": "src",
    "user": "suser",
    "namespace": "cs1",
    "method": "cs2",
    "fingerprint": "cs3",
    "object": "cs4",
    "reason": "reason",
    "result": "outcome",
    "transport": "app",
    "protocol": "cs5",
    "detail": "msg",
    "latency": "cn1",
}
_CEF_LABELS: Final = (
    "cs1Label=namespace cs2Label=authentication cs3Label=certificate cs4Label=object cs5Label=version"
    " cn1Label=latencyMicroseconds"
)


def as_cef(row: AuditRecord) -> str:
    """A record in the Common Event Format, version 0."""
    failed = row.result != "Success"
    name = row.operation or "Request"
    head = ("CEF:0", "KMS", "KMS", VERSION, _head(name), _head(f"{name} {row.result}"), "6" if failed else "3")
    values = {key: getattr(row, column) for column, key in _CEF.items()}
    pairs = [f"rt={row.time // 1000}", f"externalId={row.id}"]
    pairs += [f"{key}={_value(value)}" for key, value in values.items() if value != ""]
    return f"{'|'.join(head)}|{' '.join(pairs)} {_CEF_LABELS}"


def _head(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")


def _value(value: object) -> str:
    text = str(value).replace("\\", "\\\\").replace("=", "\\=")
    return text.replace("\n", "\\n").replace("\r", "\\r")
