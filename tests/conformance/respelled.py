"""The OASIS cases in versions that the reference data has none of: what the specification lets be said in them.

Within 1.x and within 2.x a case stays as it is but for the version and the attributes that it lacks, if it can be said.
From 1.4 to 2.x Template-Attributes become Attributes, attributes with names elements of their own, and names of
attributes references (2.1, 5.1 and 5.5); what a response of 1.4 alone has is left out.
"""

import copy
import xml.etree.ElementTree as ET
from functools import cache
from pathlib import Path

from tests.reference import table

Element = ET.Element
TEMPLATES = {
    "TemplateAttribute": "Attributes",
    "CommonTemplateAttribute": "CommonAttributes",
    "PrivateKeyTemplateAttribute": "PrivateKeyAttributes",
    "PublicKeyTemplateAttribute": "PublicKeyAttributes",
}
#: Operations whose responses in 2.x no longer have the attribute.
CHANGING = {"AddAttribute", "ModifyAttribute", "DeleteAttribute"}


class NotInThisVersionError(Exception):
    """A case has something that a version lacks."""


def _number(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


@cache
def _names(file: str) -> dict[str, dict]:
    """Tags or operations by name."""
    return {one["name"]: one for one in table(f"{file}.json")[file]}


@cache
def _attributes() -> dict[str, dict]:
    """Attributes by their name in 1.x."""
    found = table("attributes.json")["attributes"]
    return {one["attribute_name_1x"]: one for one in found if one.get("attribute_name_1x")}


def _check(entry: dict | None, what: str, version: str) -> None:
    if entry is None:
        return
    last = entry.get("until")
    if _number(entry["since"]) > _number(version) or (last and _number(last) < _number(version)):
        raise NotInThisVersionError(f"{what} is not in {version}")


def respelled(path: Path, version: str) -> bytes:
    """A case in another version. Raises `NotInThisVersionError`."""
    case = ET.parse(path).getroot()
    _forget(case, version)
    newer = version >= "2.0" and not path.parts[-3] >= "2.0"
    for message in case:
        if newer and isinstance(message.tag, str):
            for item in message.findall("BatchItem"):
                operation = item.find("Operation")
                _renew(item, "" if operation is None else operation.get("value", ""), message.tag == "ResponseMessage")
    for element in case.iter():
        if element.tag == "ProtocolVersionMajor":
            element.set("value", version[0])
        elif element.tag == "ProtocolVersionMinor":
            element.set("value", version[2])
        value = element.get("value", "")
        _check(_names("tags").get(element.tag), element.tag, version)
        if element.tag == "Operation":
            _check(_names("operations").get(value), value, version)
    return ET.tostring(case)


def _forget(element: Element, version: str) -> None:
    """Leave out what is said of attributes that a version does not have yet."""
    for child in list(element):
        name = child.find("AttributeName") if child.tag == "Attribute" else child
        text = name.get("value", "") if name is not None and name.tag == "AttributeName" else ""
        # 1.4 has the parts of a certificate's names, of which there are but tags.
        entry = _attributes().get(text) or _names("tags").get(text.replace(" ", ""))
        if entry is not None and _number(entry["since"]) > _number(version):
            element.remove(child)
        else:
            _forget(child, version)


# From 1.4 to 2.x.


def _renew(element: Element, operation: str, response: bool) -> None:
    """Spell the children of an element of a batch item as 2.x does."""
    children: list[Element] = []
    for child in element:
        if child.tag in TEMPLATES:
            if not response:
                children.append(_structure(TEMPLATES[child.tag], child))
            continue
        _renew(child, operation, response)
        children.append(child)
    if element.tag in ("RequestPayload", "ResponsePayload", "KeyValue"):
        children = _renewed(element, children, operation)
    element[:] = children


def _renewed(element: Element, children: list[Element], operation: str) -> list[Element]:
    if operation in CHANGING and element.tag == "ResponsePayload":
        return [child for child in children if child.tag != "Attribute"]
    bare = [child for child in children if child.tag == "Attribute"]
    found = []
    for child in children:
        if child.tag == "Attribute":
            if child is bare[0]:
                found.append(_structure("NewAttribute" if operation in CHANGING else "Attributes", bare))
        elif child.tag == "AttributeName":
            found.append(_reference(child.get("value", "")))
        elif child.tag != "AttributeIndex":
            found.append(child)
    return found


def _structure(tag: str, attributes) -> Element:
    made = Element(tag)
    made[:] = [_attribute(one) for one in attributes]
    return made


def _vendor(tag: str, name: str) -> Element:
    vendor, _, rest = name.partition("-")
    made = Element(tag)
    ET.SubElement(made, "VendorIdentification", type="TextString", value=vendor)
    ET.SubElement(made, "AttributeName", type="TextString", value=rest)
    return made


def _tag(name: str) -> str:
    entry = _attributes()[name]
    _check(entry, name, "2.0")
    return next(one for one, tag in _names("tags").items() if int(tag["value"], 16) == int(entry["tag"], 16))


def _attribute(attribute: Element) -> Element:
    name, value = attribute.find("AttributeName"), attribute.find("AttributeValue")
    if name is None or value is None:
        raise NotInThisVersionError("an Attribute without name or value is in no version")
    text = name.get("value", "")
    made = copy.deepcopy(value)
    if text.startswith(("x-", "y-")):
        vendor = _vendor("Attribute", text)
        vendor.append(made)
        return vendor
    made.tag = _tag(text)
    return made


def _reference(name: str) -> Element:
    if name.startswith(("x-", "y-")):
        return _vendor("AttributeReference", name)
    return Element("AttributeReference", type="Enumeration", value=_tag(name))
