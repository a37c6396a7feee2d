"""Print every setting, or write the documents that list them."""

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser

from keystore import conf
from keystore.management.base import ConfiguredCommand

README_MARKS = ("<!-- settings: made by manage.py showconfig --write -->", "<!-- end of settings -->")


class Command(ConfiguredCommand):
    help = "Print every setting, its value and the layer that it came from."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--write", action="store_true", help="Write kms.toml.example and the README's table.")

    def handle(self, *args: object, **options: Any) -> None:
        if options["write"]:
            for path, content in documents(Path(settings.BASE_DIR)).items():
                path.write_text(content, encoding="utf-8")
        else:
            config = conf.current()
            for key, row in conf.SETTINGS.items():
                self.stdout.write(f"{key} = {row.show(config.value(key)) or '(not set)'}  # {config.layers[key]}")


def documents(folder: Path) -> dict[Path, str]:
    """The files that list the settings, with the content that they should have."""
    readme = folder / "README.md"
    before, _, rest = readme.read_text(encoding="utf-8").partition(README_MARKS[0])
    after = rest.partition(README_MARKS[1])[2]
    return {
        folder / "kms.toml.example": example(),
        readme: f"{before}{README_MARKS[0]}\n{table()}{README_MARKS[1]}{after}",
    }


def example() -> str:
    """A TOML file of all settings, commented out, with their defaults."""
    lines = ["# Every setting with its default. Copy to kms.toml and uncomment what you change."]
    for section, kind in conf.SECTIONS.items():
        lines += ["", f"# {kind.__doc__}", f"[{section}]"]
        for row in (row for row in conf.SETTINGS.values() if row.section == section):
            lines += [f"# {row.help}", f"#{row.name} = {row.show(row.default) or '...'}  # {row.type_name}"]
    return "\n".join(lines) + "\n"


def table() -> str:
    """The settings as a Markdown table."""
    lines = ["", "| setting | flag, variable | type | default | |", "|---|---|---|---|---|"]
    for key, row in conf.SETTINGS.items():
        default = f"`{row.show(row.default)}`" if row.default not in (None, ()) else ""
        names = f"`{row.flags[0]}` `{row.variables[0]}`"
        lines.append(f"| `{key}` | {names} | {row.type_name} | {default} | {row.help} |")
    return "\n".join(lines) + "\n\n"
