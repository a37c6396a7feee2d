"""French: every string of the console is translated, the catalogue is compiled, and pages are in it throughout."""

import gettext
import re

import pytest
from babel.messages.mofile import read_mo
from babel.messages.pofile import read_po
from django.conf import settings
from django.utils import translation

from tests.ui import catalogue
from tests.ui.test_pages import PAGES

LANGUAGES = [code for code, _ in settings.LANGUAGES if code != "en"]


@pytest.fixture(params=catalogue.files(), ids=lambda path: path.parts[-3])
def path(request):
    """A .po file."""
    return request.param


@pytest.fixture
def read(path):
    """Its messages, by their English text: translations, one for each plural form."""
    with path.open("rb") as file:
        found = read_po(file, locale=path.parts[-3])
    return _strings(found)


def _strings(found):
    return {
        one.id[0] if one.pluralizable else one.id: tuple(one.string) if one.pluralizable else (one.string,)
        for one in found
        if one.id
    }


def test_there_is_a_catalogue_for_each_language():
    """What can be chosen is translated, and what is translated can be chosen."""
    assert [path.parts[-3] for path in catalogue.files()] == LANGUAGES


def test_the_catalogue_has_every_string_and_no_other(read):
    """Strings of modules and templates; `python -m tests.ui.catalogue` brings it up to date."""
    assert set(read) == {one.text for one in catalogue.messages()}


def test_every_string_is_translated(read):
    """In every plural form."""
    assert [text for text, translated in read.items() if not all(translated)] == []


def test_values_stay_in_translations(read):
    """A translation takes the values that the string has, and markup that it has."""
    pattern = re.compile(r"%\(\w+\)[ds]|</?\w+>")
    for text, translated in read.items():
        for one in translated:
            assert sorted(pattern.findall(one)) == sorted(pattern.findall(text)), text


def test_the_compiled_catalogue_is_current(path, read):
    """What Django reads is what people edit."""
    with path.with_suffix(".mo").open("rb") as file:
        assert _strings(read_mo(file)) == read
    with path.with_suffix(".mo").open("rb") as file:
        assert gettext.GNUTranslations(file).gettext("Objects") != "Objects"


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_in_the_language_that_was_chosen(person, page, language):
    """No string of the console is left in English; names, settings and terms of the specification are."""
    root = person("root", superuser=True)
    root.post("/ui/language/", {"language": language, "next": "/ui/"})
    answer = root.get(page)
    text = answer.content.decode()
    assert f'<html lang="{language}"' in text
    with translation.override(language):
        left = {
            one.text
            for one in catalogue.messages()
            if translation.gettext(one.text) != one.text and len(one.text) > 12 and "%" not in one.text
        }
    seen = set(re.findall(r">([^<>]+)<", re.sub(r'<(\w+)[^>]* lang="en"[^>]*>.*?</\1>', "", text, flags=re.S)))
    assert {one.strip() for one in seen} & left == set()


def test_the_browser_s_language_counts_until_one_is_chosen(client):
    """A French browser gets a French log-in page; a language that is not there gets English."""
    french = client.get("/ui/login/", headers={"Accept-Language": "fr-CA,fr;q=0.9,en;q=0.5"}).content.decode()
    assert 'lang="fr"' in french
    assert "Se connecter" in french
    assert 'lang="en"' in client.get("/ui/login/", headers={"Accept-Language": "nl"}).content.decode()
