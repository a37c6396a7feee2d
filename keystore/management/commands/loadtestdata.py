"""Fill a database for load tests."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import IntegrityError

from keystore import loadtest

WIDTH = 40


class Command(BaseCommand):
    help = (
        "Write keys, clients, grants and audit records in bulk, for load tests; never into a database that is in use."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--objects", type=int, default=1000, help="AES keys with names.")
        parser.add_argument("--clients", type=int, default=100, help="Accounts.")
        parser.add_argument("--grants", type=int, default=1000, help="Grants of the keys to the clients.")
        parser.add_argument("--audit", type=int, default=10_000, help="Audit records.")
        parser.add_argument("--owner", default="loadtest", help="User whose keys they are.")
        parser.add_argument("--prefix", default="loadtest", help="How the names of keys and clients begin.")

    def handle(self, *args: object, **options: Any) -> None:
        wanted = loadtest.Wanted(**{name: options[name] for name in loadtest.Wanted._fields})
        try:
            loadtest.write(wanted, self._show)
        except IntegrityError as exc:
            raise CommandError(f"there is data with the prefix {wanted.prefix} already: give another one") from exc

    def _show(self, what: str, done: int, count: int) -> None:
        bar = "#" * (WIDTH * done // count)
        self.stderr.write(f"\r{what:14} [{bar:{WIDTH}}] {done}/{count}", ending="\n" if done == count else "")
        self.stderr.flush()
