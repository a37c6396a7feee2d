"""What all tests of operations share: no key that one of them makes or brings may turn up where it should not be."""

import base64
import logging

import pytest

from keystore import audit, objects
from keystore.call import HANDLERS
from keystore.crypto import keys
from kmip import ttlv
from kmip.enums import KeyFormatType, ObjectType, Operation
from kmip.errors import KMIPError
from kmip.schema import Encoded, Struct, dump
from kmip.tags import Tag

#: Operations whose answers hold what was secret, because that is what they are for.
GIVING = frozenset(
    {Operation.GET, Operation.EXPORT, Operation.DECRYPT, Operation.ENCRYPT, Operation.POLL, Operation.PROCESS}
)
SECRET = frozenset({ObjectType.SYMMETRIC_KEY, ObjectType.PRIVATE_KEY, ObjectType.SECRET_DATA, ObjectType.SPLIT_KEY})
#: Shorter secrets, and those of few different bytes, turn up anywhere by chance.
SHORTEST, DIFFERENT = 12, 8


class Canary:
    """The secrets of a test, and everything that it let out."""

    def __init__(self):
        self.secrets = set()
        self.texts = []
        self.answers = []

    def note(self, object_type, managed_object):
        """Remember what is secret of an object."""
        block = objects.key_block(managed_object)
        if object_type not in SECRET or block is None or block.key_wrapping_data is not None:
            return
        material = getattr(block.key_value, "key_material", None)
        if object_type == ObjectType.PRIVATE_KEY:
            parts = private_parts(block, material)
        else:
            parts = [getattr(material, "key", material)]
        self.secrets |= {part for part in parts if isinstance(part, bytes) and is_telling(part)}

    def check(self):
        """Fail where a secret is in a text or an answer."""
        for secret in self.secrets:
            forms = (secret.hex(), base64.b64encode(secret).decode(), repr(secret)[2:-1])
            for text in self.texts:
                assert not any(form in text or form.upper() in text for form in forms), f"a key is in: {text}"
            for operation, answer in self.answers:
                assert secret not in answer, f"a key is in the answer of {operation}"


def is_telling(part):
    return len(part) >= SHORTEST and len(set(part)) >= DIFFERENT


def private_parts(block, material):
    """The numbers of a private key that are secret, as bytes."""
    try:
        key = keys.read(
            ObjectType.PRIVATE_KEY, block.key_format_type, material, algorithm=block.cryptographic_algorithm
        )
        found = keys.write(ObjectType.PRIVATE_KEY, key.data, KeyFormatType.TRANSPARENT_RSA_PRIVATE_KEY)
        return [found.private_exponent.to_bytes(1024).lstrip(b"\0"), found.p.to_bytes(1024).lstrip(b"\0")]
    except (KMIPError, AttributeError):
        pass
    try:
        return [keys.write(ObjectType.PRIVATE_KEY, key.data, KeyFormatType.RAW)]
    except (KMIPError, UnboundLocalError, ValueError):
        return []


class Listener(logging.Handler):
    """Keeps every log record as the text that would be written, traceback and all."""

    def __init__(self, canary):
        super().__init__(logging.DEBUG)
        self.canary = canary
        self.setFormatter(logging.Formatter("%(name)s %(message)s"))

    def emit(self, record):
        self.canary.texts.append(self.format(record))


@pytest.fixture(autouse=True)
def canary(monkeypatch):
    """After each test: no secret of it is in a log record, an error, a record of the audit, or an answer that is not
    meant to hold it."""
    found = Canary()
    encode, entry, init = objects.encode, audit.entry, KMIPError.__init__

    def noted(object_type, managed_object):
        found.note(object_type, managed_object)
        return encode(object_type, managed_object)

    def recorded(*arguments, **options):
        made = entry(*arguments, **options)
        found.texts.append(str(made))
        return made

    def refusing(self, reason, message, **options):
        found.texts.append(message)
        init(self, reason, message, **options)

    monkeypatch.setattr(objects, "encode", noted)
    monkeypatch.setattr(audit, "entry", recorded)
    monkeypatch.setattr(KMIPError, "__init__", refusing)
    for number, handler in list(HANDLERS.items()):
        if number not in GIVING:
            monkeypatch.setitem(HANDLERS, number, handler._replace(handle=watched(found, number, handler.handle)))
    listener, root = Listener(found), logging.getLogger()
    root.addHandler(listener)
    yield found
    root.removeHandler(listener)
    found.check()


def watched(canary, number, handle):
    def watching(call, payload):
        answer = handle(call, payload)
        if isinstance(answer, Struct) and not isinstance(answer, Encoded):
            canary.answers.append((number, ttlv.encode(dump(answer, Tag.RESPONSE_PAYLOAD, call.version))))
        return answer

    return watching
