"""The tables of tags, enumerations and masks against the reference data, complete in both directions."""

import inspect
from collections import Counter

import pytest

from kmip import dialect, enums, names
from kmip.enums import Enumeration, Mask
from kmip.tags import SPELLINGS, Tag
from kmip.versions import V2_1
from tests.reference import REFERENCE, needs_reference, table

REFERENCED = REFERENCE.is_dir()
TAGS = {tag["name"]: tag for tag in (table("tags.json")["tags"] if REFERENCED else ()) if tag["since"] != "3.0"}
ENUMS = table("enums.json") if REFERENCED else {"enums": {}, "masks": {}, "external": {}}
#: Names of the reference data whose class has another name here.
RENAMED = {
    "Data": "DataEnumeration",
    "UniqueIdentifier": "UniqueIdentifierEnumeration",
    "PKCS_11Function": "PKCS11Function",
    "PKCS_11ReturnCode": "PKCS11ReturnCode",
}
#: 3.0 alone has these.
NEWER = {name for name, entry in (ENUMS["enums"] | ENUMS["masks"]).items() if entry["since"] == "3.0"}
EXTERNAL = {name: entry for name, entry in ENUMS["external"].items() if name in RENAMED}
ENUMERATIONS = {name: entry for name, entry in ENUMS["enums"].items() if name not in NEWER and name != "Tag"}
MASKS = {name: entry for name, entry in ENUMS["masks"].items() if name not in NEWER}


def version(text):
    return V2_1 if text in (None, "3.0") else int(text.replace(".", ""))


def classes(base):
    return {
        name: cls
        for name, cls in vars(enums).items()
        if inspect.isclass(cls) and issubclass(cls, base) and cls not in (Enumeration, Mask)
    }


@needs_reference
def test_every_tag_of_1_0_to_2_1_is_there_and_no_other():
    ours = {tag.spelling: (int(tag), int(tag.since), int(tag.until)) for tag in Tag}
    assert ours == {
        name: (int(tag["value"], 16), version(tag["since"]), version(tag["until"])) for name, tag in TAGS.items()
    }


@needs_reference
def test_every_enumeration_and_mask_is_there_and_no_other():
    expected = set(ENUMERATIONS) | set(MASKS) | set(EXTERNAL)
    assert set(classes(Enumeration)) | set(classes(Mask)) == {RENAMED.get(name, name) for name in expected}


@pytest.mark.parametrize("name", ENUMERATIONS)
def test_every_value_of_an_enumeration_is_there_and_no_other(name):
    cls = getattr(enums, RENAMED.get(name, name))
    values = {key: value for key, value in ENUMERATIONS[name]["values"].items() if value["since"] != "3.0"}
    assert {member.spelling: (int(member), int(member.since), int(member.until)) for member in cls} == {
        key: (value["value"], version(value["since"]), version(value["until"])) for key, value in values.items()
    }
    for key, value in values.items():
        for alias in value.get("aliases", ()):
            assert cls.by_spelling()[alias["name"]].spelling == key


@pytest.mark.parametrize("name", MASKS)
def test_every_bit_of_a_mask_is_there_and_no_other(name):
    values = {key: value for key, value in MASKS[name]["values"].items() if value["since"] != "3.0"}
    cls = getattr(enums, name)
    assert {member.spelling: int(member) for member in cls} == {key: value["value"] for key, value in values.items()}


@pytest.mark.parametrize("name", EXTERNAL)
def test_every_pkcs_11_name_is_there_and_no_other(name):
    cls = getattr(enums, RENAMED[name])
    assert {member.spelling: int(member) for member in cls} == EXTERNAL[name]["values"]


@needs_reference
def test_every_tag_that_takes_an_enumeration_or_a_mask_finds_it():
    for name, tag in TAGS.items():
        number = int(tag["value"], 16)
        if tag.get("enum") == "Tag":
            assert number in names.OF_TAGS
        elif tag.get("enum") and tag["enum"] not in NEWER:
            found = names.ENUMERATIONS[number]
            assert found is getattr(enums, RENAMED.get(tag["enum"], tag["enum"])), name
        if tag.get("mask") and tag["mask"] not in NEWER:
            assert names.MASKS[number] is getattr(enums, tag["mask"]), name


def test_every_class_belongs_to_a_tag():
    assert set(classes(Enumeration).values()) == set(names.ENUMERATIONS.values())
    assert set(classes(Mask).values()) == set(names.MASKS.values())


def test_unknown_values_keep_their_number_and_print_as_hexadecimal():
    value = enums.ObjectType(0x80000001)
    assert (int(value), str(value), value.known) == (0x80000001, "0x80000001", False)


@pytest.mark.parametrize("tables", [names.VALUE_NAMES, dialect._VALUE_NAMES], ids=["specification", "dialect"])
def test_no_two_values_of_a_tag_share_a_name_however_it_is_folded(tables):
    for tag, values in tables.items():
        folded = Counter(name.replace("_", "").lower() for name in values.values())
        assert max(folded.values(), default=1) == 1, SPELLINGS[tag]


def test_no_two_tags_share_a_folded_name():
    assert max(Counter(dialect._folded(name) for name in SPELLINGS.values()).values()) == 1
