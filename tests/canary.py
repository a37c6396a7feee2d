"""No key that a test makes or brings may turn up where it should not be.

While tests run, this notes what is secret of every object that is stored, and the keys that seal them; and it listens
to log records, errors, audit records, answers and pages. `Canary.check` compares the two after each test.
"""

import base64
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.test import Client

from keystore import audit, engine, objects, sealing
from keystore.crypto import keys
from kmip import ttlv
from kmip.enums import KeyFormatType, ObjectType, Operation
from kmip.errors import KMIPError
from kmip.schema import Encoded, Struct, dump
from kmip.tags import Tag

#: Operations whose answers hold what was secret, because that is what they are for: of Poll and Process, another's.
#: What is decrypted may be a key, and a public key of ML-KEM encrypts to a secret that may be registered.
GIVING = frozenset(
    {Operation.GET, Operation.EXPORT, Operation.DECRYPT, Operation.ENCRYPT, Operation.POLL, Operation.PROCESS}
)
SECRET = frozenset({ObjectType.SYMMETRIC_KEY, ObjectType.PRIVATE_KEY, ObjectType.SECRET_DATA, ObjectType.SPLIT_KEY})
#: Shorter secrets, and those of few different bytes, turn up anywhere by chance.
SHORTEST, DIFFERENT = 12, 8


class Canary:
    """The secrets of a test, and everything that it let out."""

    def __init__(self) -> None:
        self.secrets: set[bytes] = set()
        self.texts: list[str] = []
        self.answers: list[tuple[str, bytes]] = []
        #: Operations that gave out a secret, as they are meant to.
        self.given = 0

    def note(self, object_type: ObjectType, managed_object: Struct) -> None:
        """Remember what is secret of an object."""
        block = objects.key_block(managed_object)
        if object_type not in SECRET or block is None or block.key_wrapping_data is not None:
            return
        material = getattr(block.key_value, "key_material", None)
        if object_type == ObjectType.PRIVATE_KEY:
            parts = _private_parts(block, material)
        else:
            parts = [getattr(material, "key", material)]
        for part in parts:
            self.hide(part)

    def hide(self, secret: Any) -> None:
        """Remember a secret that can be told from chance."""
        if isinstance(secret, bytes) and len(secret) >= SHORTEST and len(set(secret)) >= DIFFERENT:
            self.secrets.add(secret)

    def check(self) -> None:
        """Fail where a secret is in a text or an answer."""
        text = "\n".join(self.texts)
        for secret in self.secrets:
            for form in _forms(secret):
                assert form not in text, f"a key is in: {next(one for one in self.texts if form in one)}"
            for source, answer in self.answers:
                assert secret not in answer, f"a key is in the answer of {source}"


def _forms(secret: bytes) -> tuple[str, ...]:
    return secret.hex(), secret.hex().upper(), base64.b64encode(secret).decode(), repr(secret)[2:-1]


def _private_parts(block: Any, material: Any) -> list[bytes]:
    """The numbers of a private key that are secret, as bytes."""
    try:
        key = keys.read(
            ObjectType.PRIVATE_KEY, block.key_format_type, material, algorithm=block.cryptographic_algorithm
        )
    except KMIPError:
        return []
    try:
        found: Any = keys.write(ObjectType.PRIVATE_KEY, key.data, KeyFormatType.TRANSPARENT_RSA_PRIVATE_KEY)
        return [found.private_exponent.to_bytes(1024).lstrip(b"\0"), found.p.to_bytes(1024).lstrip(b"\0")]
    except KMIPError:
        pass
    try:
        raw = keys.write(ObjectType.PRIVATE_KEY, key.data, KeyFormatType.RAW)
    except KMIPError:
        return []
    return [raw] if isinstance(raw, bytes) else []


class _Listener(logging.Handler):
    """Keeps every log record as the text that would be written, traceback and all."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(logging.Formatter("%(name)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        if _current is not None:
            _current.texts.append(self.format(record))


_current: Canary | None = None


@contextmanager
def watching() -> Iterator[Canary]:
    """Listen to one test."""
    global _current
    _current = found = Canary()
    try:
        yield found
    finally:
        _current = None


def _wrap(owner: Any, name: str, make: Callable[[Any], Any]) -> None:
    setattr(owner, name, make(getattr(owner, name)))


def install() -> None:
    """Have the server tell the canary of the test that runs; once for a process."""
    logging.getLogger().addHandler(_Listener())
    _wrap(objects, "encode", _noting)
    _wrap(audit, "entry", _recording)
    _wrap(KMIPError, "__init__", _refusing)
    _wrap(sealing, "create_root_key", _making)
    _wrap(sealing.Sealer, "seal", _sealing)
    _wrap(sealing.Sealer, "open", _sealing)
    _wrap(engine, "_handled", _answering)
    _wrap(Client, "request", _showing)


def _noting(encode: Any) -> Any:
    def noted(object_type: ObjectType, managed_object: Struct) -> bytes:
        if _current is not None:
            _current.note(object_type, managed_object)
        return encode(object_type, managed_object)

    return noted


def _recording(entry: Any) -> Any:
    def recorded(*arguments: Any, **options: Any) -> Any:
        made = entry(*arguments, **options)
        if _current is not None:
            _current.texts.append(str(made))
        return made

    return recorded


def _refusing(init: Any) -> Any:
    def refusing(self: KMIPError, reason: Any, message: str, **options: Any) -> None:
        if _current is not None:
            _current.texts.append(message)
        init(self, reason, message, **options)

    return refusing


def _making(create: Any) -> Any:
    def made(path: Path) -> None:
        create(path)
        if _current is not None:
            _current.hide(bytes.fromhex(path.read_text()))

    return made


def _sealing(use: Any) -> Any:
    def used(self: Any, *arguments: Any, **options: Any) -> bytes:
        result: bytes = use(self, *arguments, **options)
        if _current is not None:
            for key in list(self._keys.values()):
                _current.hide(key)
        return result

    return used


def _answering(handled: Any) -> Any:
    def answered(run: Any, handler: Any, call: Any, payload: Struct, **options: Any) -> Any:
        answer = handled(run, handler, call, payload, **options)
        if _current is None:
            return answer
        if call.operation in GIVING:
            _current.given += 1
        elif isinstance(answer, Struct) and not isinstance(answer, Encoded):
            encoded = ttlv.encode(dump(answer, Tag.RESPONSE_PAYLOAD, call.version))
            _current.answers.append((str(call.operation), encoded))
        return answer

    return answered


def _showing(request: Any) -> Any:
    """Pages and other answers over HTTP, but for those that an operation is behind which gives a secret out."""

    def shown(self: Client, **environ: Any) -> Any:
        canary, before = _current, _current.given if _current is not None else 0
        response = request(self, **environ)
        if canary is not None and canary.given == before and not response.streaming:
            canary.texts.append(response.content.decode("latin-1"))
            canary.answers.append((str(environ.get("PATH_INFO")), response.content))
        return response

    return shown
