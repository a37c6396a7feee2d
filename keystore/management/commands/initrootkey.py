"""Make a root key where there is none."""

import os
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from keystore import conf, sealing, shares, store, token
from keystore.sealing import SealingError


class Command(BaseCommand):
    help = "Make the root key that the sealing settings name, unless it exists; with shares, print them once."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--shares", type=int, default=5, help="Shares of the root key, for keystore.shares.provider."
        )
        parser.add_argument("--threshold", type=int, default=3, help="How many of them give it back.")

    def handle(self, *args: object, **options: Any) -> None:
        config = conf.current().sealing
        try:
            if config.provider == "keystore.shares.provider":
                self.print_shares(options["shares"], options["threshold"])
            elif config.provider == "keystore.token.provider":
                token.create_root_key(config)
            else:
                sealing.create_root_key(config.root_key_file)
        except SealingError as exc:
            raise CommandError(str(exc)) from exc

    def print_shares(self, count: int, threshold: int) -> None:
        """Make a root key, note in the database which one it is, and print its shares."""
        if store.root_key() is not None:
            raise CommandError("the database has a root key; manage.py rotate-root makes another one")
        root = os.urandom(sealing.KEY_LENGTH)
        texts = shares.split(root, shares=count, threshold=threshold)
        shares.give(root)
        sealing.sealer().check()
        self.stdout.write(f"{threshold} of these {count} shares give the root key back. They are shown once:")
        self.stdout.write("\n".join(texts))
