"""The reference data that some tests read: tables of the specification and the OASIS test cases."""

import os
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import orjson
import pytest

REFERENCE = Path(os.environ.get("KMIP_REFERENCE") or Path(__file__).parents[2] / "shared" / "kmip")

needs_reference = pytest.mark.skipif(
    not REFERENCE.is_dir(), reason=f"the KMIP reference data is not at {REFERENCE}; set KMIP_REFERENCE"
)

#: What stands in for a placeholder of the test cases, by item type; in text the placeholder itself serves.
PLACEHOLDERS = {
    "ByteString": "000102030405060708090A0B0C0D0E0F",
    "DateTime": "2020-12-14T00:00:00+00:00",
    "BigInteger": "0000000000000001",
}


@cache
def table(name: str) -> Any:
    """One of the JSON files."""
    return orjson.loads((REFERENCE / name).read_bytes())


def cases() -> list[Path]:
    """The XML test cases of the versions that this server speaks; 3.0 has item types of its own."""
    return sorted(path for path in REFERENCE.glob("testcases/*/*/*.xml") if "3.0" not in path.parts)


def messages(path: Path) -> Iterator[bytes]:
    """The messages of a test case in XML, placeholders filled."""
    for message in ET.parse(path).getroot():
        for element in message.iter():
            value = element.get("value", "")
            if value.startswith("$"):
                element.set("value", PLACEHOLDERS.get(element.get("type", ""), value))
        message.tail = None
        yield ET.tostring(message)
