"""A program for the tests of what survives: fills a database with objects, and says whether all of them are there.

python survival.py fill 20     prints a line of JSON: identifier -> SHA-256 of the key it was registered with
python survival.py check       reads such a line; every object must be had in a legal state, with its own material
python survival.py write       creates keys without end, and prints each identifier once it is acknowledged
"""

import hashlib
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "kmsproject.settings")

import django

django.setup()

from keystore import engine  # noqa: E402
from keystore.authn import Peer  # noqa: E402
from kmip.attributes import Attributes  # noqa: E402
from kmip.enums import CryptographicAlgorithm, KeyFormatType, ObjectType, Operation, State  # noqa: E402
from kmip.objects import KeyBlock, KeyValue, SymmetricKey  # noqa: E402
from kmip.payloads import GetAttributesRequest, GetRequest, RegisterRequest  # noqa: E402
from kmip.structures import Name  # noqa: E402

PEER = Peer("cli", user="survivor")


def register(number: int, key: bytes) -> str:
    block = KeyBlock(
        key_format_type=KeyFormatType.RAW,
        key_value=KeyValue(key_material=key),
        cryptographic_algorithm=CryptographicAlgorithm.AES,
        cryptographic_length=256,
    )
    attributes = Attributes()
    attributes.name = [Name(name_value=f"key {number} {os.getpid()}", name_type=1)]
    request = RegisterRequest(
        object_type=ObjectType.SYMMETRIC_KEY, attributes=attributes, symmetric_key=SymmetricKey(key_block=block)
    )
    return engine.execute(Operation.REGISTER, request, PEER).unique_identifier


def fill(count: int) -> None:
    made = {}
    for number in range(count):
        key = os.urandom(32)
        made[register(number, key)] = hashlib.sha256(key).hexdigest()
    print(json.dumps(made))


def check() -> None:
    for uid, digest in json.loads(sys.stdin.read()).items():
        given = engine.execute(Operation.GET, GetRequest(unique_identifier=uid), PEER)
        material = given.symmetric_key.key_block.key_value.key_material
        assert hashlib.sha256(material).hexdigest() == digest, uid
        state = engine.execute(Operation.GET_ATTRIBUTES, GetAttributesRequest(unique_identifier=uid), PEER)
        assert state.attributes.state in set(State), uid
    print("whole")


def write() -> None:
    number = 0
    while True:
        key = os.urandom(32)
        uid = register(number, key)
        print(json.dumps([uid, hashlib.sha256(key).hexdigest()]), flush=True)
        number += 1


if __name__ == "__main__":
    {"fill": lambda: fill(int(sys.argv[2])), "check": check, "write": write}[sys.argv[1]]()
