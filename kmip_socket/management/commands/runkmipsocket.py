"""Start the KMIP listener alone."""

import dataclasses
from typing import Any

from keystore import checks, conf
from keystore.management.base import StartCommand


class Command(StartCommand):
    help = "Start the KMIP listener, without HTTP."

    def handle(self, *args: object, **options: Any) -> None:
        config = conf.current()
        checks.tls_settings(config)
        if missing := checks.kmip_missing(config):
            key = "tls.clients_ca_cert_file" if conf.has_tls(config) else "tls.tls_p12_file"
            raise config.error(key, f"the KMIP listener cannot start: {missing}", "give what is missing")
        listener = dataclasses.replace(config.socket_server, socket_server_start=True)
        self.start(dataclasses.replace(config, socket_server=listener), ["kmip"], options)
