"""Print what of the protocol the server has, or write the page that lists it."""

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser

from keystore.management.base import ConfiguredCommand
from keystore.operations import server
from kmip.attributes import ROWS, By, Row, When
from kmip.enums import Enumeration, ObjectType, Operation, QueryFunction
from kmip.payloads import PAYLOADS
from kmip.versions import VERSIONS, Version

PAGE = Path("docs") / "kmip.md"
OLDEST_FIRST = tuple(reversed(VERSIONS))


class Command(ConfiguredCommand):
    help = "Print the operations, object types, attributes and Query functions of every version."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--write", action="store_true", help=f"Write {PAGE}.")

    def handle(self, *args: object, **options: Any) -> None:
        if options["write"]:
            (Path(settings.BASE_DIR) / PAGE).write_text(page(), encoding="utf-8")
        else:
            self.stdout.write(page(), ending="")


def page() -> str:
    """The whole page."""
    parts = [
        "# KMIP",
        "Made by `manage.py showprotocol --write` from the tables that the server works with.",
        "## Operations",
        _table(("",), ((str(one.spelling), _offered(one)) for one in PAYLOADS)),
        "Sent: by the server, to clients that took the server role on their connection; it takes the operation from\n"
        "nobody.",
        "## Object types",
        _table(("",), ((one.spelling, _marks(_span(one))) for one in server.OBJECT_TYPES)),
        "## Query functions",
        _table(("",), ((one.spelling, _marks(_span(one))) for one in QueryFunction)),
        "## Attributes",
        "Set by: who gives the first value; `maker` is the server, from what the request for a new object says.\n"
        "Changed and deleted: when a client may. Vendor attributes (custom attributes in 1.x) may have any type;\n"
        "clients set, change and delete them at any time.",
        _table(
            ("", "set by", "changed", "deleted", "many", "objects"),
            ((row.title, *_rules(row), _marks(_versions_of(row))) for row in ROWS),
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _table(head: tuple[str, ...], rows: Any) -> str:
    titles = [*head, *(f"{version // 10}.{version % 10}" for version in OLDEST_FIRST)]
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    lines += ["| " + " | ".join((*cells, *marks)) + " |" for *cells, marks in rows]
    return "\n".join(lines)


def _span(member: Enumeration) -> list[Version]:
    return [version for version in VERSIONS if member.since <= version <= member.until]


def _versions_of(row: Row) -> list[Version]:
    return [version for version in VERSIONS if row.in_version(version)]


def _marks(versions: list[Version]) -> list[str]:
    return ["x" if version in versions else "" for version in OLDEST_FIRST]


def _offered(operation: Operation) -> list[str]:
    since = PAYLOADS[operation].since
    mark = "sent" if operation in server.TO_CLIENTS else "x"
    return [mark if since <= version else "" for version in OLDEST_FIRST]


def _rules(row: Row) -> tuple[str, ...]:
    types = sorted(row.applies_to)
    objects = "all" if len(types) == len(ObjectType) else ", ".join(one.spelling for one in types)
    return (
        "client or server" if row.set_by is By.EITHER else row.set_by.value,
        *("" if when is When.NEVER else when.value for when in (row.modifiable, row.deletable)),
        "x" if row.multiple else "",
        objects,
    )
