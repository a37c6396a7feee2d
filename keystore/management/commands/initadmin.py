"""Make the first user of the console, with a random password that is shown once."""

import secrets
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import CommandParser
from django.db import transaction

from keystore import administration
from keystore.management.keys import RootKeyCommand


class Command(RootKeyCommand):
    help = "Make a local administrator unless there is one, and print the password once."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--username", default="admin", help="Name of the administrator.")

    def handle(self, *args: object, **options: Any) -> None:
        users = get_user_model()
        if users.objects.filter(is_superuser=True).exists():
            return
        self.open()  # Records are made with it.
        password = secrets.token_urlsafe(12)
        with transaction.atomic():
            users.objects.create_superuser(options["username"], password=password)
            administration.note("Add Administrator", options["username"])
        self.stdout.write(f"Console login, shown once: {options['username']} / {password}")
