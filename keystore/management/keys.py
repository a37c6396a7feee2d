"""What the commands that need the root key have in common."""

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from keystore import checks, conf, sealing, shares
from keystore.conf import ConfigError
from keystore.management.commands.unseal import next_share
from keystore.sealing import SealingError


class RootKeyCommand(BaseCommand):
    """A command that opens sealing keys; where the root key is in shares, it asks for them."""

    requires_system_checks = []

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Run, and say in one line what a database that is full, read-only or away has refused."""
        try:
            return super().execute(*args, **options)
        except DatabaseError as exc:
            raise CommandError(f"the database cannot be used: {exc}") from exc

    def open(self) -> sealing.Sealer:
        """The sealer, with a root key that fits the database."""
        self.provide()
        try:
            sealer = sealing.sealer()
            sealer.check()
            return sealer
        except SealingError as exc:
            raise CommandError(str(exc)) from exc

    def provide(self) -> None:
        """See to it that there is a root key, whichever it is."""
        try:
            try:
                sealing.providers(conf.current().sealing)
            except sealing.Sealed:
                self._ask()
        except SealingError as exc:
            raise CommandError(str(exc)) from exc

    def _ask(self) -> None:
        given: dict[int, shares.Share] = {}
        while not given or len(given) < next(iter(given.values())).threshold:
            text = next_share()
            if not text:
                raise CommandError("the root key is in shares: give enough of them, one a line")
            share = shares.read(text)
            given[share.number] = share
        shares.give(shares.combine(list(given.values())))

    def show(self, done: int, of: int) -> None:
        """Draw how far it is, where somebody looks."""
        if sys.stderr.isatty() and of:
            filled = min(40, 40 * done // of)
            self.stderr.write(f"\r[{'#' * filled}{'.' * (40 - filled)}] {done:,} of {of:,}", ending="")
            if done >= of:
                self.stderr.write("")
            self.stderr.flush()


def database() -> None:
    """Refuse a database that cannot be reached or lacks migrations."""
    try:
        checks.database(conf.current(), migrate=False)
    except ConfigError as error:
        raise CommandError(str(error)) from error
