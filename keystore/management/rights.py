"""What the commands about rights have in common: subcommands, a namespace, and one line for what goes wrong."""

import argparse
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from keystore import administration, conf
from keystore.authn import Identity, Peer
from kmip.errors import KMIPError


class RightsCommand(BaseCommand):
    """A command whose first argument says which of its `do_…` methods to call."""

    #: Arguments of each subcommand: (names or flags, options of `add_argument`).
    subcommands: dict[str, tuple[str, list[tuple[tuple[str, ...], dict[str, Any]]]]] = {}

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--namespace", default=None, help="Namespace to act in; the default one if not given.")
        commands = parser.add_subparsers(dest="what", required=True)
        for name, (text, arguments) in self.subcommands.items():
            one = commands.add_parser(name, help=text)
            for names, options in arguments:
                one.add_argument(*names, **options)

    def handle(self, *args: object, **options: Any) -> None:
        namespace = options["namespace"] or conf.current().auth.default_namespace
        peer, identity = administration.local(namespace)
        try:
            getattr(self, f"do_{options['what'].replace('-', '_')}")(peer, identity, options)
        except KMIPError as exc:
            raise CommandError(exc.message) from exc

    def table(self, rows: list[tuple[object, ...]]) -> None:
        """Print rows with their columns under one another."""
        texts = [[str(cell) for cell in row] for row in rows]
        widths = [max(len(cell) for cell in column) for column in zip(*texts, strict=True)]
        for row in texts:
            self.stdout.write("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


__all__ = ["Identity", "Peer", "RightsCommand"]
