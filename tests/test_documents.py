"""The documents are true where a program can tell: links lead somewhere, commands, settings and flags exist."""

import re
from functools import cache
from pathlib import Path

import pytest
from django.core.management import get_commands, load_command_class

from keystore import conf

TOP = Path(__file__).resolve().parent.parent
DOCS = TOP / "docs"
PAGES = [TOP / "README.md", TOP / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]
each_page = pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(TOP)) for page in PAGES])
SETTING = re.compile(r"`(" + "|".join(conf.SECTIONS) + r")\.([a-z][a-z0-9_]+)\b(?!\()")
COMMAND = re.compile(r"manage\.py ([a-z][a-z0-9-]+)((?: [a-z][a-z-]+)?)([^`\n|#]*)")


@each_page
def test_links_lead_somewhere(page):
    """To a file of the repository."""
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_the_index_has_every_page():
    """A page that nothing links to is not found."""
    index = (DOCS / "README.md").read_text(encoding="utf-8")
    linked = {(DOCS / target).resolve() for target in re.findall(r"\]\(([^)#\s]+)", index)}
    assert {page for page in PAGES if page.name != "README.md"} <= linked


@each_page
def test_settings_exist(page):
    """As section.name."""
    for section, name in SETTING.findall(page.read_text(encoding="utf-8")):
        assert f"{section}.{name}" in conf.SETTINGS, f"{section}.{name}"


@cache
def parser(command):
    return load_command_class(get_commands()[command], command).create_parser("manage.py", command)


@each_page
def test_commands_exist(page):
    """With their second word and their flags."""
    for command, second, rest in COMMAND.findall(page.read_text(encoding="utf-8")):
        assert command in get_commands(), command
        found = parser(command)
        choices = next((action.choices for action in found._actions if isinstance(action.choices, dict)), None)
        if choices is not None and second:
            assert second.strip() in choices, f"{command}{second}"
        parsers = [found, *([choices[second.strip()]] if choices is not None and second else [])]
        flags = {flag for one in parsers for action in one._actions for flag in action.option_strings}
        for flag in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", rest):
            assert flag in flags, f"{command}{second} {flag}"
