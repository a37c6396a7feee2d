"""Make a development PKI: a CA, this server's PKCS#12 file and a client's certificate."""

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from keystore import pki

CONFIG = """# Made by manage.py initpki; for development.
[tls]
tls_p12_file = "{folder}/server.p12"
tls_p12_password_file = "{folder}/server.p12.password"
clients_ca_cert_file = "{folder}/ca.pem"
"""


class Command(BaseCommand):
    help = "Make a CA, a server PKCS#12 file and a client certificate for development."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--folder", type=Path, default=Path("var/pki"), help="Where the files go.")
        parser.add_argument("--client", default="client", help="Name of the client, which is its user name.")
        parser.add_argument("--write-config", type=Path, help="Also write a TOML file that uses them.")

    def handle(self, *args: object, **options: Any) -> None:
        folder, config = options["folder"], options["write_config"]
        try:
            made = pki.initialise(folder, options["client"])
            if config is not None:
                pki.write(config, CONFIG.format(folder=folder).encode())
                made.append(config)
        except FileExistsError as exc:
            raise CommandError(f"{exc.filename} exists; remove it, or choose another --folder") from exc
        for path in made:
            self.stdout.write(str(path))
