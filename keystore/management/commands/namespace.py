"""Namespaces: tenants of the server."""

from typing import Any

from keystore import administration
from keystore.management.rights import Identity, Peer, RightsCommand
from keystore.models import Namespace

_NAME: list[tuple[tuple[str, ...], dict[str, Any]]] = [(("name",), {"help": "Name of the namespace."})]


class Command(RightsCommand):
    help = "Make, list, disable and remove namespaces."
    subcommands = {
        "list": ("List namespaces.", []),
        "add": ("Make a namespace.", _NAME),
        "disable": ("Let none of its clients in.", _NAME),
        "enable": ("Let its clients in again.", _NAME),
        "remove": ("Remove a namespace that holds no objects.", _NAME),
    }

    def do_list(self, peer: Peer, identity: Identity, options: dict[str, Any]) -> None:
        for one in Namespace.objects.order_by("name"):
            self.stdout.write(f"{one.name}{' (disabled)' if one.disabled else ''}")

    def do_add(self, peer: Peer, identity: Identity, options: dict[str, Any]) -> None:
        administration.add_namespace(peer, identity, options["name"])

    def do_disable(self, peer: Peer, identity: Identity, options: dict[str, Any]) -> None:
        administration.disable_namespace(peer, identity, options["name"], True)

    def do_enable(self, peer: Peer, identity: Identity, options: dict[str, Any]) -> None:
        administration.disable_namespace(peer, identity, options["name"], False)

    def do_remove(self, peer: Peer, identity: Identity, options: dict[str, Any]) -> None:
        administration.remove_namespace(peer, identity, options["name"])
