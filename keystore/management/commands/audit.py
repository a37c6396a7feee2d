"""The record of what was done: verify it, export it, keep less of it."""

import re
import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from keystore import administration, audit, chain
from keystore.models import AuditRecord

UNITS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}


class Command(BaseCommand):
    help = "Verify, export or prune the audit records."

    def add_arguments(self, parser: CommandParser) -> None:
        commands = parser.add_subparsers(dest="what", required=True)
        commands.add_parser("verify", help="Look for records that were edited, deleted, inserted, moved or cut off.")
        commands.add_parser("checkpoint", help="Make a checkpoint now.")
        export = commands.add_parser("export", help="Write records to standard output.")
        export.add_argument("--format", choices=["json", "cef"], default="json", help="JSON lines or CEF.")
        export.add_argument("--after", type=int, default=0, help="Only records with a larger sequence number.")
        prune = commands.add_parser("prune", help="Delete old records; what is left verifies.")
        prune.add_argument("--older-than", required=True, help="Age of what is deleted: 90d, 12h, 30m, 0s.")

    def handle(self, *args: object, **options: Any) -> None:
        getattr(self, options["what"])(options)

    def verify(self, options: dict[str, Any]) -> None:
        count, problems = chain.verify()
        if problems:
            for problem in problems[1:100]:
                self.stderr.write(str(problem))
            raise CommandError(f"first of {len(problems)} problems: {problems[0]}", returncode=1)
        self.stdout.write(f"{count} records verified")

    def checkpoint(self, options: dict[str, Any]) -> None:
        made = chain.checkpoint()
        self.stdout.write("nothing new" if made is None else chain.line(made))

    def export(self, options: dict[str, Any]) -> None:
        write = chain.as_json if options["format"] == "json" else chain.as_cef
        for row in AuditRecord.objects.filter(id__gt=options["after"]).order_by("id").iterator(chunk_size=2000):
            self.stdout.write(write(row))

    def prune(self, options: dict[str, Any]) -> None:
        age = re.fullmatch(r"(\d+)([dhms])", options["older_than"])
        if age is None:
            raise CommandError("give an age such as 90d or 12h")
        before = int((time.time() - int(age[1]) * UNITS[age[2]]) * 1e6)
        peer, identity = administration.local("default")
        with transaction.atomic():
            count = chain.prune(before)
            audit.note(identity, peer, "Prune Audit", detail=f"{count} records older than {options['older_than']}")
        self.stdout.write(f"{count} records deleted")
