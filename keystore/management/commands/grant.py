"""Rights on objects."""

from typing import Any

from keystore import access
from keystore.management.rights import Identity, Peer, RightsCommand


def _whom(options: dict[str, Any]) -> str:
    return access.principal(None if options["group"] else options["to"], options["to"] if options["group"] else None)


_ARGUMENTS: list[tuple[tuple[str, ...], dict[str, Any]]] = [
    (("object",), {"help": "Unique Identifier of the object."}),
    (("to",), {"help": "User, or group with --group; * is everybody."}),
    (("operations",), {"nargs": "+", "help": "Operations: get encrypt decrypt …"}),
    (("--group",), {"action": "store_true", "help": "It is a group."}),
]


class Command(RightsCommand):
    help = "Give, take and list rights on objects."
    subcommands = {
        "give": ("Give rights.", [*_ARGUMENTS, (("--until",), {"type": int, "help": "Seconds since 1970."})]),
        "take": ("Take rights.", _ARGUMENTS),
        "list": ("List rights on an object.", [(("object",), {"help": "Unique Identifier of the object."})]),
    }

    def do_give(self, peer: Peer, identity: Identity, options: dict[str, Any]) -> None:
        operations = access.operations_named(options["operations"])
        access.grant(peer, identity, options["object"], _whom(options), operations, expires=options["until"])

    def do_take(self, peer: Peer, identity: Identity, options: dict[str, Any]) -> None:
        access.revoke(peer, identity, options["object"], _whom(options), access.operations_named(options["operations"]))

    def do_list(self, peer: Peer, identity: Identity, options: dict[str, Any]) -> None:
        rows = access.listed(identity, options["object"])
        self.table([("user", "operations", "until")] + [
            (row["user_id"], " ".join(row["operations"]), row.get("expires", "")) for row in rows
        ])  # fmt: skip
