"""What waits for the approval of people."""

import datetime
from typing import Any

from keystore import approvals
from keystore.management.rights import Identity, Peer, RightsCommand

_OPERATION: tuple[tuple[str, ...], dict[str, Any]] = (("operation",), {"help": ", ".join(approvals.NAMES)})
_MANY: dict[str, Any] = {"action": "append", "default": []}


class Command(RightsCommand):
    help = "List, set and remove the rules by which operations wait for people's approval, and list what waits."
    subcommands = {
        "list": ("List the rules, and the requests that wait.", []),
        "set": (
            "Let an operation wait.",
            [
                _OPERATION,
                (("--needed",), {"type": int, "required": True, "help": "How many people have to approve."}),
                (("--person",), {**_MANY, "help": "User who may approve; at least as many as are needed."}),
                (("--type",), {**_MANY, "help": "Object type that the rule is about; all if none is given."}),
                (
                    ("--lifetime",),
                    {"type": int, "default": approvals.LIFETIME, "help": "Seconds that a request waits."},
                ),
            ],
        ),
        "remove": ("Let an operation wait no more.", [_OPERATION]),
    }

    def do_list(self, peer: Peer, identity: Identity, options: dict[str, Any]) -> None:
        rows: list[tuple[object, ...]] = [("operation", "needed", "people", "types", "seconds")]
        for one in approvals.rules(identity.namespace):
            types = ", ".join(one.object_types) or "all"
            rows.append((one.operation, one.needed, ", ".join(one.people), types, one.lifetime))
        self.table(rows)
        for request in approvals.shown(identity):
            until = datetime.datetime.fromtimestamp(request.expires, datetime.UTC).isoformat(timespec="seconds")
            votes = ", ".join(f"{name} {'for' if approves else 'against'} it" for name, approves in request.votes)
            told = f"{request.requester}: {request.operation} {request.uid} {request.detail}".rstrip()
            self.stdout.write(f"{request.id}  {told}; until {until}; {votes or 'no votes'}")

    def do_set(self, peer: Peer, identity: Identity, options: dict[str, Any]) -> None:
        approvals.set_rule(
            peer,
            identity,
            options["operation"],
            needed=options["needed"],
            people=options["person"],
            object_types=options["type"],
            lifetime=options["lifetime"],
        )

    def do_remove(self, peer: Peer, identity: Identity, options: dict[str, Any]) -> None:
        approvals.remove_rule(peer, identity, options["operation"])
