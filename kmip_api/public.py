"""The public listener: revocation lists, OCSP answers and CA certificates over plain HTTP, and nothing else.

Whoever checks a certificate has none for this server, and many look for lists at http addresses only. All of it is
signed, so that it needs no TLS.
"""

import socket
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, ClassVar, Final

from keystore import conf, gate, supervisor
from kmip_api import worker

PATHS: Final = "/pki/"


class PublicWorker(worker.Worker):
    """The HTTP worker without TLS, and without any other path."""

    contexts: ClassVar[gate.Contexts | None] = None
    bound: ClassVar[socket.socket | None] = None
    speaks_kmip: ClassVar[bool] = False

    @classmethod
    def processes(cls, config: conf.Config) -> int:
        """One: answers are kept."""
        return 1

    @classmethod
    def load_context(cls, config: conf.Config) -> None:
        """Do without."""

    def load_wsgi(self) -> None:
        """Let nobody reach what is not public."""
        super().load_wsgi()
        application = self.wsgi

        def public(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
            if environ["PATH_INFO"].startswith(PATHS):
                return application(environ, start_response)  # type: ignore[no-any-return]
            start_response("404 Not Found", [("Content-Type", "text/plain"), ("Content-Length", "10")])
            return [b"not here\r\n"]

        self.wsgi = public


def children(config: conf.Config) -> list[supervisor.Child]:
    """The public listener's process, where `pki.public_port` asks for it."""
    port = config.pki.public_port
    if port is None:
        return []
    PublicWorker.bound = supervisor.bind(config, "pki.public_port", config.pki.public_hostname, port)
    return [supervisor.Child("public", partial(worker.serve, PublicWorker))]
