"""Start the server: HTTP and KMIP listeners and what works behind them."""

from typing import Any

from django.conf import settings

from keystore import conf
from keystore.management.base import StartCommand


class Command(StartCommand):
    help = "Start the key management server."

    def handle(self, *args: object, **options: Any) -> None:
        self.start(conf.current(), list(settings.KMS["PROCESSES"]), options)
