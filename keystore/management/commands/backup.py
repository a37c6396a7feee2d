"""Write a backup."""

from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser

from keystore import backup
from keystore.backup import BackupError
from keystore.management.keys import RootKeyCommand, database


class Command(RootKeyCommand):
    help = "Write the whole database into one encrypted file, while the server runs."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument("--verify", action="store_true", help="Only read an existing backup to its end.")

    def handle(self, *args: object, **options: Any) -> None:
        path = options["file"]
        try:
            if options["verify"]:
                found = backup.Backup(path)
                self.provide()
                found.verify(backup.provider_of(found), self.show)
                self.stdout.write(f"{path} is whole: {found.rows} rows of {found.head['made']}")
                return
            database()
            self.open()
            self.stdout.write(f"{backup.write(path, self.show)} rows are in {path}")
        except (BackupError, OSError) as exc:
            raise CommandError(str(exc)) from exc
