"""Make a root key file where there is none."""

from typing import Any

from django.core.management.base import BaseCommand

from keystore import conf, sealing


class Command(BaseCommand):
    help = "Make the root key file, unless it exists."
    requires_system_checks = []

    def handle(self, *args: object, **options: Any) -> None:
        sealing.create_root_key(conf.current().sealing.root_key_file)
