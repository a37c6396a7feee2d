"""Take a backup into a new database."""

from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser

from keystore import backup
from keystore.backup import BackupError
from keystore.management.keys import RootKeyCommand, database


class Command(RootKeyCommand):
    help = "Take a backup into an empty, migrated database; nothing is written unless the whole file is genuine."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path)

    def handle(self, *args: object, **options: Any) -> None:
        database()
        self.provide()
        try:
            rows = backup.restore(options["file"], self.show)
        except (BackupError, OSError) as exc:
            raise CommandError(str(exc)) from exc
        self.stdout.write(f"{rows} rows are restored")
