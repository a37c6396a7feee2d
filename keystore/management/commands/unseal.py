"""Give shares of the root key to a server that started sealed."""

import getpass
import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from keystore import conf, unsealing
from keystore.sealing import SealingError


class Command(BaseCommand):
    help = (
        "Give shares of the root key to the sealed server on this machine: asked for, or one a line on standard input."
    )
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--status", action="store_true", help="Only say how many shares were given.")
        parser.add_argument("--reset", action="store_true", help="Forget the shares that were given.")

    def handle(self, *args: object, **options: Any) -> None:
        path = Path(conf.current().sealing.unseal_socket)
        try:
            answer = unsealing.ask(path, {"reset": options["reset"]})
            self.say(answer)
            while answer["sealed"] and not options["status"] and not options["reset"]:
                text = next_share()
                if not text:
                    return
                answer = unsealing.ask(path, {"share": text})
                self.say(answer)
        except SealingError as exc:
            raise CommandError(str(exc)) from exc

    def say(self, answer: dict[str, Any]) -> None:
        """Tell how far it is."""
        if answer.get("error"):
            self.stderr.write(answer["error"])
        if not answer["sealed"]:
            self.stdout.write("unsealed")
        else:
            self.stdout.write(f"sealed: {answer['given']} of {answer['needed'] or 'the needed'} shares given")


def next_share() -> str:
    """The next share that somebody types without an echo, or that standard input has; empty at its end."""
    if sys.stdin.isatty():
        return getpass.getpass("share: ").strip()
    return next((line.strip() for line in sys.stdin if line.strip()), "")
