"""KMIP messages as people read them: spelled in XML, JSON and hexadecimal, and as a tree."""

import json
import shlex
from typing import NamedTuple
from xml.dom import minidom

from django.utils.translation import gettext

from kmip import ttlv, ttlv_json, ttlv_xml
from kmip.enums import Operation, ResultReason
from kmip.errors import KMIPError
from kmip.messages import RequestBatchItem, RequestHeader, RequestMessage, protocol_version
from kmip.names import ENUMERATIONS, MASK_NAMES, TYPE_NAMES
from kmip.schema import Struct, dump
from kmip.tags import Tag, spelling
from kmip.ttlv import Item, Type
from kmip.versions import V2_1
from ui import describe

#: A tree deeper than this is cut; no message of the specification comes near.
DEEP = 40
DECODERS = {"ttlv": ttlv.decode, "xml": ttlv_xml.decode, "json": ttlv_json.decode}


class Spelling(NamedTuple):
    """A message in one encoding, and how to send it from a shell."""

    key: str
    title: str
    text: str
    curl: str


class Node(NamedTuple):
    """One item of a tree."""

    name: str
    type: str
    value: str
    children: list["Node"]


def request(operation: Operation, payload: Struct) -> Item:
    """The request message that asks for an operation."""
    return dump(
        RequestMessage(
            request_header=RequestHeader(protocol_version=protocol_version(V2_1), batch_count=1),
            batch_item=[
                RequestBatchItem(operation=operation, request_payload=dump(payload, Tag.REQUEST_PAYLOAD, V2_1))
            ],
        ),
        Tag.REQUEST_MESSAGE,
        V2_1,
    )


def spellings(item: Item, address: str) -> list[Spelling]:
    """A message in the encodings of the HTTPS profile; `address` is where curl sends it."""
    xml = pretty_xml(ttlv_xml.encode(item))
    jsn = pretty_json(ttlv_json.encode(item))
    data = ttlv.encode(item).hex()
    return [
        Spelling("xml", "XML", xml, _curl(address, "text/xml", xml)),
        Spelling("json", "JSON", jsn, _curl(address, "application/json", jsn)),
        Spelling(
            "hex",
            gettext("Hexadecimal"),
            data,
            f"echo {data} | xxd -r -p | {_command(address, 'application/octet-stream')} | xxd -p",
        ),
    ]


def _command(address: str, media_type: str) -> str:
    files = "--cacert ca.pem --cert client.pem --key client.key" if address.startswith("https:") else ""
    header = shlex.quote(f"Content-Type: {media_type}")
    return " ".join(
        part for part in ("curl -sS", files, f"-H {header} --data-binary @- {shlex.quote(address)}") if part
    )


def _curl(address: str, media_type: str, text: str) -> str:
    return f"{_command(address, media_type)} <<'KMIP'\n{text}\nKMIP"


def pretty_xml(data: bytes) -> str:
    """XML of our own, indented."""
    lines = minidom.parseString(data).documentElement.toprettyxml(indent="  ")  # noqa: S318 - our own encoder's output
    return lines.strip()


def pretty_json(data: bytes) -> str:
    """JSON, indented."""
    return json.dumps(json.loads(data), indent=2, ensure_ascii=False)


def read(text: str) -> tuple[str, bytes]:
    """The encoding of a pasted message and its bytes as the engine takes them; raises `KMIPError`."""
    text = text.strip()
    if text.startswith("<"):
        return "xml", text.encode()
    if text.startswith("{"):
        return "json", text.encode()
    try:
        return "ttlv", bytes.fromhex("".join(text.split()).removeprefix("0x"))
    except ValueError:
        raise KMIPError(
            ResultReason.INVALID_MESSAGE, gettext("This is neither XML nor JSON nor hexadecimal.")
        ) from None


def decode(encoding: str, data: bytes) -> Item:
    """The item tree of a message; raises `KMIPError`."""
    return DECODERS[encoding](data)


def tree(item: Item, depth: int = 0) -> Node:
    """An item tree to show."""
    kind = TYPE_NAMES.get(item.type, str(item.type))
    if item.type == Type.STRUCTURE:
        children = [tree(child, depth + 1) for child in item.value] if depth < DEEP else []
        return Node(spelling(item.tag), kind, "", children)
    return Node(spelling(item.tag), kind, _value(item), [])


def _value(item: Item) -> str:
    if item.type == Type.BYTE_STRING:
        return item.value.hex() if len(item.value) <= 4096 else describe.hexadecimal(item.value)
    if item.type == Type.DATE_TIME:
        return describe.moment(item.value)
    if item.type == Type.DATE_TIME_EXTENDED:
        return describe.moment(item.value // 1_000_000)
    if item.type == Type.ENUMERATION:
        cls = ENUMERATIONS.get(item.tag)
        known = cls(item.value) if cls is not None else None
        return f"{known.spelling} (0x{int(item.value):08X})" if known is not None else f"0x{int(item.value):08X}"
    if item.tag in MASK_NAMES and item.type == Type.INTEGER:
        names = " ".join(name for bit, name in MASK_NAMES[item.tag] if item.value & bit)
        return f"{names} (0x{item.value:08X})"
    return str(item.value)
