"""Users of the server: clients and people alike."""

import getpass
import sys
from pathlib import Path
from typing import Any

from cryptography import x509
from django.core.management.base import CommandError

from keystore import administration
from keystore.management.rights import Identity, Peer, RightsCommand
from keystore.models import Account

_USER: tuple[tuple[str, ...], dict[str, Any]] = (("user",), {"help": "Name of the user."})
_FINGERPRINT: tuple[tuple[str, ...], dict[str, Any]] = (("fingerprint",), {"help": "SHA-256 of the certificate."})
_AUTHORITY: tuple[tuple[str, ...], dict[str, Any]] = (("authority",), {"help": "ca:… or oidc:…, as list shows them."})


class Command(RightsCommand):
    help = "Register, list and disable users, their passwords, certificates and authorities."
    subcommands = {
        "list": ("List users and their certificates.", []),
        "add": ("Register a user.", [_USER]),
        "disable": ("Let a user in no more.", [_USER]),
        "enable": ("Let a user in again, and forget its failed logins.", [_USER]),
        "password": ("Give a user a password, read from the terminal or standard input.", [_USER]),
        "device": (
            "Let a user answer to a Device credential.",
            [_USER, (("identifiers",), {"nargs": "*", "help": "device_serial_number=…, network_identifier=…"})],
        ),
        "link": ("Make a person of the console the same user.", [_USER, (("person",), {"help": "Login name."})]),
        "trust": ("Let a further authority vouch for a user.", [_USER, _AUTHORITY]),
        "distrust": ("Let an authority vouch for a user no more.", [_USER, _AUTHORITY]),
        "pin": (
            "Register a certificate: the user needs a registered one from now on.",
            [
                _USER,
                (("certificate",), {"type": Path, "help": "PEM file."}),
                (("--replaces",), {"default": "", "help": "Fingerprint of the one that it replaces."}),
            ],
        ),
        "reset-second-factor": ("Take the second factor from a user who has lost it.", [_USER]),
        "disable-certificate": ("Let nobody in with a certificate.", [_FINGERPRINT]),
        "enable-certificate": ("Accept a certificate again.", [_FINGERPRINT]),
    }

    def do_list(self, peer: Peer, identity: Identity, options: dict[str, Any]) -> None:
        rows: list[tuple[object, ...]] = [("user", "state", "authorities", "certificate", "last seen")]
        found = Account.objects.filter(namespace_id=identity.namespace).prefetch_related("certificates")
        for one in found.order_by("username"):
            state = "disabled" if one.disabled else "enabled"
            rows.append((one.username, state, " ".join(one.authorities), "", ""))
            for shown in one.certificates.order_by("first_seen"):
                state = "disabled" if shown.disabled else "pinned" if shown.pinned else "seen"
                rows.append(("", state, shown.authority, shown.fingerprint, shown.last_seen))
        self.table(rows)

    def do_add(self, peer: Peer, identity: Identity, options: dict[str, Any]) -> None:
        administration.add_user(peer, identity, options["user"])

    def do_disable(self, peer: Peer, identity: Identity, options: dict[str, Any]) -> None:
        administration.disable_user(peer, identity, options["user"], True)

    def do_enable(self, peer: Peer, identity: Identity, options: dict[str, Any]) -> None:
        administration.disable_user(peer, identity, options["user"], False)

    def do_password(self, peer: Peer, identity: Identity, options: dict[str, Any]) -> None:
        given = getpass.getpass("New password: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
        administration.set_password(peer, identity, options["user"], given)

    def do_device(self, peer: Peer, identity: Identity, options: dict[str, Any]) -> None:
        pairs = [text.partition("=") for text in options["identifiers"]]
        if not all(equals and value for _, equals, value in pairs):
            raise CommandError("write identifiers as name=value")
        administration.set_device(peer, identity, options["user"], {name: value for name, _, value in pairs})

    def do_link(self, peer: Peer, identity: Identity, options: dict[str, Any]) -> None:
        administration.link_person(peer, identity, options["user"], options["person"])

    def do_trust(self, peer: Peer, identity: Identity, options: dict[str, Any]) -> None:
        administration.trust_authority(peer, identity, options["user"], options["authority"])

    def do_distrust(self, peer: Peer, identity: Identity, options: dict[str, Any]) -> None:
        administration.trust_authority(peer, identity, options["user"], options["authority"], False)

    def do_pin(self, peer: Peer, identity: Identity, options: dict[str, Any]) -> None:
        try:
            certificate = x509.load_pem_x509_certificate(options["certificate"].read_bytes())
        except (OSError, ValueError) as exc:
            raise CommandError(f"{options['certificate']} holds no certificate in PEM: {exc}") from exc
        row = administration.pin_certificate(peer, identity, options["user"], certificate, replaces=options["replaces"])
        self.stdout.write(row.fingerprint)

    def do_reset_second_factor(self, peer: Peer, identity: Identity, options: dict[str, Any]) -> None:
        administration.reset_second_factor(peer, identity, options["user"])

    def do_disable_certificate(self, peer: Peer, identity: Identity, options: dict[str, Any]) -> None:
        administration.disable_certificate(peer, identity, options["fingerprint"], True)

    def do_enable_certificate(self, peer: Peer, identity: Identity, options: dict[str, Any]) -> None:
        administration.disable_certificate(peer, identity, options["fingerprint"], False)
