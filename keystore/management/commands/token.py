"""API tokens of users."""

from typing import Any

from keystore import administration
from keystore.management.rights import Identity, Peer, RightsCommand
from keystore.models import ApiToken


class Command(RightsCommand):
    help = "Make, list and revoke API tokens."
    subcommands = {
        "create": (
            "Make a token and print it, this once.",
            [
                (("user",), {"help": "Whose token."}),
                (("--name",), {"default": "", "help": "What it is for."}),
                (("--scope",), {"action": "append", "default": [], "help": "Operation, or access; may be repeated."}),
                (("--days",), {"type": float, "default": 365.0, "help": "How long it is valid; 0 for ever."}),
            ],
        ),
        "list": ("List tokens.", [(("user",), {"nargs": "?", "help": "Only this user's."})]),
        "revoke": ("Revoke a token.", [(("id",), {"help": "Its id, as list shows it."})]),
    }

    def do_create(self, peer: Peer, identity: Identity, options: dict[str, Any]) -> None:
        lifetime = int(options["days"] * 86_400) or None
        _, token = administration.issue_token(
            peer, identity, options["user"], options["name"], scopes=options["scope"], lifetime=lifetime
        )
        self.stdout.write(token)

    def do_list(self, peer: Peer, identity: Identity, options: dict[str, Any]) -> None:
        found = ApiToken.objects.filter(account__namespace_id=identity.namespace).select_related("account")
        if options["user"]:
            found = found.filter(account__username=options["user"])
        rows: list[tuple[object, ...]] = [("id", "user", "name", "scopes", "expires", "last used", "revoked")]
        rows += [
            (one.id, one.account.username, one.name, ",".join(one.scopes) or "all", one.expires or "never",
             one.last_used or "never", one.revoked or "")
            for one in found.order_by("created", "id")
        ]  # fmt: skip
        self.table(rows)

    def do_revoke(self, peer: Peer, identity: Identity, options: dict[str, Any]) -> None:
        administration.revoke_token(peer, identity, options["id"])
