"""Show the last TLS handshakes, and why some were refused."""

import json
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from keystore import handshakes
from keystore.models import HandshakeRecord


class Command(BaseCommand):
    help = "Show the last TLS handshakes of each listener."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--listener", choices=["kmip", "http"])
        parser.add_argument("--refused", action="store_true", help="Only those that were refused.")
        parser.add_argument("--limit", type=int, default=50)
        parser.add_argument("--json", action="store_true", help="Everything that is known, a JSON object a line.")

    def handle(self, *args: object, **options: Any) -> None:
        limit, listener = max(1, options["limit"]), options["listener"] or ""
        for row in handshakes.records(limit, listener=listener, refused=options["refused"]):
            self.stdout.write(json.dumps(handshakes.shown(row)) if options["json"] else _line(row))


def _line(row: HandshakeRecord) -> str:
    when = f"{datetime.fromtimestamp(row.last / 1000, UTC):%Y-%m-%d %H:%M:%S}"
    times = f" ({row.count} times)" if row.count > 1 else ""
    who = f"{row.subject} [{row.fingerprint[:16]}] issued by {row.issuer}" if row.fingerprint else "no certificate seen"
    lines = [f"{when} {row.listener} {row.address}{times}: {'accepted' if row.accepted else row.reason}", f"  {who}"]
    if row.negotiated:
        lines.append(f"  {row.negotiated}")
    elif row.versions:
        lines.append(f"  offered {row.versions}")
    if row.advice:
        lines.append(f"  what to do: {row.advice}")
    return "\n".join(lines)
