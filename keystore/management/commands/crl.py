"""Sign revocation lists that are due, or write one to a file."""

import sys
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from django.core.management.base import BaseCommand, CommandError, CommandParser

from keystore import ca
from kmip.errors import KMIPError


class Command(BaseCommand):
    help = "Sign the revocation lists that are due; with an authority, give its list out."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("authority", nargs="?", help="Key identifier, or Unique Identifier of the CA certificate.")
        parser.add_argument("--out", type=Path, help="File to write; default: standard output.")
        parser.add_argument("--pem", action="store_true", help="PEM instead of DER.")

    def handle(self, *args: object, **options: Any) -> None:
        if options["authority"] is None:
            self.stdout.write(f"{ca.sign_lists()} lists signed")
            return
        found = ca.authority_at(options["authority"])
        if found is None:
            raise CommandError("there is no such authority; see manage.py client authority")
        try:
            content = ca.revocation_list(found)
        except KMIPError as exc:
            raise CommandError(exc.message) from exc
        if options["pem"]:
            content = x509.load_der_x509_crl(content).public_bytes(Encoding.PEM)
        if options["out"] is not None:
            options["out"].write_bytes(content)
        else:
            sys.stdout.buffer.write(content)
