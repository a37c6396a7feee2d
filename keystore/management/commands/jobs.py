"""Show the background jobs, or run one now."""

import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from keystore import jobs


class Command(BaseCommand):
    help = "Show when each background job ran, when it runs next and how it ended; or run one now."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--run", metavar="NAME", help="Run this job now, whatever its time.")

    def handle(self, *args: object, **options: Any) -> None:
        name = options["run"]
        if name is not None:
            entry = next((entry for entry in jobs.table() if entry.name == name), None)
            if entry is None:
                raise CommandError(f"there is no job {name}")
            if not jobs.run_one(entry):
                raise CommandError(next(one.error for one in jobs.status() if one.name == name))
            return
        self.stdout.write(f"active node: {jobs.active_node() or 'none'}")
        row = "{:<16} {:<20} {:<20} {:>8} {:>8}  {}"
        self.stdout.write(row.format("job", "last run", "next run", "runs", "failed", "last error"))
        for one in jobs.status():
            self.stdout.write(
                row.format(
                    one.name, _when(one.last_run), _when(one.next_run), one.runs, one.failures, one.error
                ).rstrip()
            )


def _when(seconds: float | None) -> str:
    return "-" if seconds is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
