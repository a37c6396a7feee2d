"""Roles and groups."""

from typing import Any

from keystore import administration, roles
from keystore.management.rights import Identity, Peer, RightsCommand
from keystore.models import Group, Role, RoleAssignment

_ROLE: tuple[tuple[str, ...], dict[str, Any]] = (("role",), {"help": "Name of the role."})
_WHOM: tuple[tuple[str, ...], dict[str, Any]] = (("whom",), {"help": "user:…, group:… or certificate:…"})
_MANY: dict[str, Any] = {"action": "append", "default": []}


class Command(RightsCommand):
    help = "Define roles, and give them to users, groups and certificates."
    subcommands = {
        "list": ("List roles, groups, and who has which role.", []),
        "give": ("Give a role.", [_ROLE, _WHOM]),
        "take": ("Take a role.", [_ROLE, _WHOM]),
        "set": (
            "Define a role of the namespace.",
            [
                _ROLE,
                (("operations",), {"nargs": "+", "help": "Operations on what is owned or granted."}),
                (("--everywhere",), {**_MANY, "help": "Operation on every object of the namespace."}),
                (("--type",), {**_MANY, "help": "Object type that the role is about; all if none is given."}),
            ],
        ),
        "remove": ("Remove a role of the namespace.", [_ROLE]),
        "group": (
            "Make a group, and change its members.",
            [
                (("group",), {"help": "Name of the group."}),
                (("--add",), {**_MANY, "help": "User to put in."}),
                (("--remove",), {**_MANY, "help": "User to take out."}),
            ],
        ),
        "remove-group": ("Remove a group.", [(("group",), {"help": "Name of the group."})]),
    }

    def do_list(self, peer: Peer, identity: Identity, options: dict[str, Any]) -> None:
        rows: list[tuple[object, ...]] = [("role", "operations")]
        rows += [(name, f"{role.operations.bit_count()} operations, built in") for name, role in roles.BUILT_IN.items()]
        for one in Role.objects.filter(namespace_id=identity.namespace).order_by("name"):
            rows.append((one.name, " ".join([*one.operations, *(f"everywhere:{name}" for name in one.everywhere)])))
        for given in RoleAssignment.objects.filter(namespace_id=identity.namespace).order_by("role", "principal"):
            rows.append((given.role, f"given to {given.principal}"))
        for group in Group.objects.filter(namespace_id=identity.namespace).order_by("name"):
            members = group.members.order_by("username").values_list("username", flat=True)
            rows.append((f"group:{group.name}", " ".join(members)))
        self.table(rows)

    def do_give(self, peer: Peer, identity: Identity, options: dict[str, Any]) -> None:
        administration.give_role(peer, identity, options["role"], options["whom"])

    def do_take(self, peer: Peer, identity: Identity, options: dict[str, Any]) -> None:
        administration.take_role(peer, identity, options["role"], options["whom"])

    def do_set(self, peer: Peer, identity: Identity, options: dict[str, Any]) -> None:
        administration.set_role(
            peer,
            identity,
            options["role"],
            operations=options["operations"],
            everywhere=options["everywhere"],
            object_types=options["type"],
        )

    def do_remove(self, peer: Peer, identity: Identity, options: dict[str, Any]) -> None:
        administration.remove_role(peer, identity, options["role"])

    def do_group(self, peer: Peer, identity: Identity, options: dict[str, Any]) -> None:
        administration.set_members(peer, identity, options["group"], add=options["add"], remove=options["remove"])

    def do_remove_group(self, peer: Peer, identity: Identity, options: dict[str, Any]) -> None:
        administration.remove_group(peer, identity, options["group"])
