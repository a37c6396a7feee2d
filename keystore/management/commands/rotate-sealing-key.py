"""Replace the sealing keys."""

from typing import Any

from django.core.management.base import CommandError, CommandParser

from keystore import resealing
from keystore.management.keys import RootKeyCommand
from keystore.sealing import SealingError


class Command(RootKeyCommand):
    help = "Make new sealing keys and seal all material under them while the server runs; may be cut short and resumed."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--resume", action="store_true", help="Make no new keys: finish what was cut short.")

    def handle(self, *args: object, **options: Any) -> None:
        self.open()
        work = resealing.reseal if options["resume"] else resealing.rotate_sealing_keys
        try:
            changed = work(self.show)
        except SealingError as exc:
            raise CommandError(str(exc)) from exc
        self.stdout.write(f"{changed} rows were sealed anew")
