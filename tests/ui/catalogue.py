"""The catalogue of the console's strings: what there is to translate, and the files that hold the translations.

    python -m tests.ui.catalogue        bring every .po file up to date, and compile it

New strings stand in the .po file without a translation; those that nothing uses any more go.
"""

import ast
import datetime
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

UI = Path(__file__).resolve().parents[2] / "ui"
LOCALE = UI / "locale"
#: In the heads of the files; a real one would differ each time.
DATE = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
ONE = frozenset({"gettext", "gettext_lazy", "_"})
SEVERAL = frozenset({"ngettext", "ngettext_lazy"})


class Message(NamedTuple):
    """A string to translate, its plural or nothing, and whether values are put into it."""

    text: str
    plural: str
    formatted: bool


def in_code() -> Iterator[Message]:
    """The strings of the modules."""
    for path in sorted(UI.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            if node.func.id in ONE:
                (text,) = node.args
                if isinstance(text, ast.Constant):  # Messages of other rooms are looked up as they come.
                    yield _message(text.value, "")
            elif node.func.id in SEVERAL:
                yield _message(ast.literal_eval(node.args[0]), ast.literal_eval(node.args[1]))


def in_templates() -> Iterator[Message]:
    """The strings of the templates, as Django itself reads them."""
    from django.template import engines
    from django.templatetags.i18n import BlockTranslateNode, TranslateNode

    for path in sorted(UI.rglob("*.html")):
        template = engines["django"].from_string(path.read_text()).template
        for node in template.nodelist.get_nodes_by_type(TranslateNode):
            yield _message(node.filter_expression.var.literal, "")
        for node in template.nodelist.get_nodes_by_type(BlockTranslateNode):
            text, _ = node.render_token_list(node.singular)
            plural, _ = node.render_token_list(node.plural) if node.plural else ("", None)
            yield _message(text, plural)


def _message(text: str, plural: str) -> Message:
    return Message(text, plural, "%(" in text)


def messages() -> list[Message]:
    """Every string of the console once."""
    return sorted({*in_code(), *in_templates()})


def files() -> list[Path]:
    """The .po files."""
    return sorted(LOCALE.glob("*/LC_MESSAGES/django.po"))


def main() -> None:
    """Bring the files up to date."""
    from babel.messages.catalog import Catalog
    from babel.messages.mofile import write_mo
    from babel.messages.pofile import read_po, write_po

    for path in files():
        language = path.parts[-3]
        with path.open("rb") as file:
            old = read_po(file, locale=language)
        new = Catalog(locale=language, project="console", fuzzy=False, header_comment="")
        new.creation_date = new.revision_date = DATE
        for one in messages():
            known = old.get(one.text)
            string = known.string if known is not None else ""
            key = (one.text, one.plural) if one.plural else one.text
            if one.plural and not isinstance(string, tuple):
                string = ("",) * new.num_plurals
            new.add(key, string, flags=["python-format"] if one.formatted else [])
        with path.open("wb") as file:
            write_po(file, new, width=120, sort_output=True, omit_header=False)
        with path.with_suffix(".mo").open("wb") as file:
            write_mo(file, new)
        empty = [one for one in new if one.id and not all(one.string if one.pluralizable else (one.string,))]
        print(f"{path}: {len(empty)} to do")


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "kmsproject.settings")
    os.environ.setdefault("KMS_CONFIG", os.devnull)
    import django

    django.setup()
    main()
