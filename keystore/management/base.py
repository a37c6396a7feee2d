"""What the commands that take settings, and those that start the server, have in common."""

import argparse
import os
import resource
import sys
from typing import Any, NoReturn

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser
from django.utils.module_loading import import_string

from keystore import checks, conf, metrics, sealing, supervisor, unsealing
from keystore.conf import Config, ConfigError


class ConfiguredCommand(BaseCommand):
    """A command with a flag for every setting; `manage.py` has read them before Django started."""

    requires_system_checks = []  # The start checks say the same, in one line.

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        conf.add_flags(parser)
        known = [option for action in parser._actions for option in action.option_strings]

        def error(message: str) -> NoReturn:
            name = message.removeprefix("unrecognized arguments: ").split()[0].split("=")[0]
            unknown = message.startswith("unrecognized")
            problem, remedy = ("unknown flag", conf.nearest(name, known)) if unknown else (message, "see --help")
            conf.refuse(ConfigError(name if unknown else subcommand, conf.COMMAND_LINE, problem, remedy))

        parser.error = error  # type: ignore[method-assign] # argparse would print its usage, many lines long
        return parser


class StartCommand(ConfiguredCommand):
    """A command that starts processes and waits for their end."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--migrate", action="store_true", help="Bring the database up to date first.")
        parser.add_argument("--quiet", action="store_true", help="Do not print where the server listens.")
        parser.add_argument("--examples", action="store_true", help="Print commands that try the server out.")

    def start(self, config: Config, kinds: list[str], options: dict[str, Any]) -> NoReturn:
        """Check everything, then run these kinds of processes; refusals are one line and status 2."""
        checks.prepare(config, migrate=options["migrate"])
        _raise_file_limit()
        processes: dict[str, str] = settings.KMS["PROCESSES"]  # type: ignore[assignment] # KMS holds tables of two kinds
        children = [child for kind in kinds for child in import_string(processes[kind])(config)]
        supervisor.listen(config)
        metrics.start()

        if sealing.is_sealed():
            self._wait_unsealed(config, [child for child in children if child.sealed], options)

        def announce() -> None:
            if not options["quiet"]:
                self.stdout.write("\n".join(where(config)))
            if options["examples"]:
                self.stdout.write(examples(config))
            self.stdout.flush()

        sys.exit(supervisor.Supervisor(children, grace=config.server.shutdown_grace, announce=announce).run())

    def _wait_unsealed(self, config: Config, children: list[supervisor.Child], options: dict[str, Any]) -> None:
        """Serve nothing but the news that the server is sealed, until it no longer is."""
        gate = unsealing.gate(config)

        def announce() -> None:
            if not options["quiet"]:
                self.stdout.write("\n".join([*where(config), "Sealed: give shares with manage.py unseal"]))
                self.stdout.flush()

        waiting = supervisor.Supervisor(
            [*children, gate.child()], grace=config.server.shutdown_grace, announce=announce, until=gate.opened
        )
        status = waiting.run()
        if not waiting.reached:
            sys.exit(status)
        checks.recorded(config, unsealed=True)


def _raise_file_limit() -> None:
    """A connection is a file descriptor, and the usual soft limit of 1024 is for interactive programs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65536 if hard == resource.RLIM_INFINITY else min(hard, 65536)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def where(config: Config) -> list[str]:
    """One line for each listener: what it speaks, where, and who is let in."""
    lines = []
    for key, (host, port) in supervisor.addresses().items():
        if key == "http.port":
            scheme = "https" if conf.has_tls(config) else "http"
            lines.append(f"{scheme.upper()} on {host}:{port} ({_clients(config, http=True)})")
        elif key == "pki.public_port":
            lines.append(f"Revocation lists on http://{host}:{port}/pki/ (everybody)")
        else:
            lines.append(f"KMIP on {host}:{port} ({_clients(config, http=False)})")
    return lines


def _clients(config: Config, *, http: bool) -> str:
    if config.tls.clients_ca_cert_file is None:
        return "no client certificates" if conf.has_tls(config) else "no TLS, this machine only"
    optional = http and config.tls.http_client_auth == "optional"
    return f"client certificates {'accepted' if optional else 'required'}"


EXAMPLES = """
Console: {url}/ui/ (in the browser import {pki}/client.p12; its password is in {pki}/client.p12.password)

Try it, in another terminal in this folder:

curl --cacert {pki}/ca.pem --cert {pki}/client.pem --key {pki}/client.key {url}/kmip/2_1 \\
  -H 'Content-Type: application/json' \\
  -d '{{"tag":"Query","value":[{{"tag":"QueryFunction","type":"Enumeration","value":"QueryServerInformation"}}]}}'

{python} -m pip install -q pykmip && {python} -P - <<'END'
from kmip.pie.client import ProxyKmipClient, enums
with ProxyKmipClient("localhost", {kmip}, "{pki}/client.pem", "{pki}/client.key", "{pki}/ca.pem") as client:
    print(client.create(enums.CryptographicAlgorithm.AES, 256))
END

openssl s_client -connect localhost:{kmip} -CAfile {pki}/ca.pem \\
  -cert {pki}/client.pem -key {pki}/client.key -brief </dev/null
"""


def examples(config: Config) -> str:
    """Commands to paste, where the development PKI is in use; else nothing."""
    ca, ports = config.tls.clients_ca_cert_file, supervisor.addresses()
    if ca is None or not (ca.parent / "client.key").is_file():
        return ""
    port, kmip = ports["http.port"][1], ports["socket_server.socket_server_port"][1]
    python = os.path.relpath(sys.executable) if sys.prefix != sys.base_prefix else sys.executable
    return EXAMPLES.format(url=f"https://localhost:{port}", pki=ca.parent, kmip=kmip, python=python)
