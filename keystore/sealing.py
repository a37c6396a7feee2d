"""Key material at rest: the envelope around it, and where its root key comes from.

A root key, which a provider holds outside the database, wraps sealing keys that the database holds. Each object's
material is sealed with AES-256-GCM under a key derived from a sealing key for that object alone, with the object's
identifier and row version as associated data, so that material cannot be moved to another row or taken back to an
older one. A blob begins with a format byte and the number of its sealing key.
"""

import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from struct import Struct
from typing import Any, Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from django.utils.module_loading import import_string

KEY_LENGTH: Final = 32
NONCE_LENGTH: Final = 12
#: The format byte: AES-256-GCM, key by HKDF-Expand with SHA-256.
FORMAT: Final = 1
#: Ciphers of single objects that are kept, because deriving their key costs more than opening a blob.
MAX_AEADS: Final = 8192
_HEAD = Struct(">BI")
#: What a sealing key seals: objects in use, and objects in archival storage.
MATERIAL: Final = "material"
ARCHIVE: Final = "archive"


class SealingError(Exception):
    """Material that cannot be sealed or opened, or a root key that is not this database's."""


class Provider(Protocol):
    """Holds the root key."""

    def wrap(self, key: bytes, context: bytes) -> bytes:
        """Seal a sealing key."""

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """Open a sealing key; raises `SealingError` where it was sealed under another root key."""


class LocalProvider:
    """A root key of 32 bytes in this process."""

    def __init__(self, root: bytes) -> None:
        if len(root) != KEY_LENGTH:
            raise SealingError(f"the root key has {len(root)} bytes instead of {KEY_LENGTH}")
        self._aead = AESGCM(root)

    def wrap(self, key: bytes, context: bytes) -> bytes:
        """Seal a sealing key."""
        nonce = os.urandom(NONCE_LENGTH)
        return nonce + self._aead.encrypt(nonce, key, context)

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """Open a sealing key; raises `SealingError` where it was sealed under another root key."""
        try:
            return self._aead.decrypt(wrapped[:NONCE_LENGTH], wrapped[NONCE_LENGTH:], context)
        except InvalidTag as exc:
            raise SealingError("the root key is not the one that this database was sealed under") from exc


def create_root_key(path: Path) -> None:
    """Write a new root key, as hexadecimal, to a file that only its owner may read; an existing file is kept."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    with os.fdopen(descriptor, "w") as file:
        file.write(os.urandom(KEY_LENGTH).hex() + "\n")
        file.flush()
        os.fsync(file.fileno())


def file_provider(options: Any) -> Provider:
    """The root key in the file `sealing.root_key_file`, which nobody but its owner may read."""
    path = Path(options.root_key_file)
    try:
        with path.open() as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(1024).strip()
    except OSError as exc:
        raise SealingError(f"cannot read the root key file {path}: {exc.strerror}") from exc
    if stat.S_IMODE(mode) & 0o077:
        raise SealingError(f"the root key file {path} can be read by others: chmod 600 {path}")
    return LocalProvider(_from_hex(text, str(path)))


def environment_provider(options: Any) -> Provider:
    """The root key in hexadecimal in the setting `sealing.root_key`, which belongs in the environment."""
    if not options.root_key:
        raise SealingError("sealing.root_key is empty: set KMS_ROOT_KEY to 64 hexadecimal digits")
    return LocalProvider(_from_hex(options.root_key, "sealing.root_key"))


def _from_hex(text: str, source: str) -> bytes:
    try:
        root = bytes.fromhex(text)
    except ValueError as exc:
        raise SealingError(f"{source} does not hold a key in hexadecimal") from exc
    if len(root) != KEY_LENGTH:
        raise SealingError(f"{source} holds {len(root)} bytes instead of {KEY_LENGTH}")
    return root


class Sealer:
    """Seals and opens material with the sealing keys of this database."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._keys: dict[int, bytes] = {}
        self._aeads: dict[tuple[int, str], AESGCM] = {}
        self._active: dict[str, int] = {}
        self._lock = threading.Lock()

    def seal(self, material: bytes, uid: str, version: int, *, purpose: str = MATERIAL) -> bytes:
        """The blob for an object's row at a version, under the key of a purpose."""
        number = self._active.get(purpose)
        if number is None:
            self._load(purpose)
            number = self._active[purpose]
        aead = self._object_key(number, uid)
        nonce = os.urandom(NONCE_LENGTH)
        return _HEAD.pack(FORMAT, number) + nonce + aead.encrypt(nonce, material, _bound(uid, version))

    def open(self, blob: bytes, uid: str, version: int) -> bytes:
        """The material in a blob; raises `SealingError` for one that is not this row's."""
        try:
            format_, number = _HEAD.unpack_from(blob)
        except Exception as exc:
            raise SealingError(f"the material of {uid} is cut short") from exc
        if format_ != FORMAT:
            raise SealingError(f"the material of {uid} has the unknown format {format_}")
        start = _HEAD.size + NONCE_LENGTH
        try:
            return self._object_key(number, uid).decrypt(
                bytes(blob[_HEAD.size : start]), bytes(blob[start:]), _bound(uid, version)
            )
        except InvalidTag as exc:
            raise SealingError(f"the material of {uid} does not belong to this row") from exc

    def check(self) -> None:
        """Open the sealing keys, making the first ones in a new database; raises `SealingError`."""
        for purpose in (MATERIAL, ARCHIVE):
            self._load(purpose)

    def forget(self) -> None:
        """Drop every key from memory."""
        with self._lock:
            self._keys.clear()
            self._aeads.clear()
            self._active = {}
        _forgotten()

    def _object_key(self, number: int, uid: str) -> AESGCM:
        key = self._keys.get(number)
        if key is None:
            self._load()
            key = self._keys.get(number)
            if key is None:
                raise SealingError(f"there is no sealing key {number}")
        aead = self._aeads.get((number, uid))
        if aead is None:
            aead = AESGCM(HKDFExpand(SHA256(), KEY_LENGTH, b"material:" + uid.encode()).derive(key))
            if len(self._aeads) >= MAX_AEADS:
                self._aeads.clear()
            self._aeads[number, uid] = aead
        return aead

    def _load(self, purpose: str = MATERIAL) -> None:
        """Read the keys, and make one for the purpose where there is none."""
        from keystore import store

        with self._lock:
            rows = store.sealing_keys()
            if not any(row.active and row.purpose == purpose for row in rows):
                key = os.urandom(KEY_LENGTH)
                store.add_sealing_key(self._provider.wrap(key, b"sealing key"), purpose)
                rows = store.sealing_keys()
            self._keys = {row.number: self._provider.unwrap(row.wrapped, b"sealing key") for row in rows}
            # The newest of each purpose, as rows come in order.
            self._active = {row.purpose: row.number for row in rows if row.active}


def _bound(uid: str, version: int) -> bytes:
    return f"{uid}:{version}".encode()


_listeners: list[Callable[[], None]] = []


def when_forgotten(listener: Callable[[], None]) -> None:
    """Have a function called when the keys are dropped from memory, to drop what was opened with them."""
    _listeners.append(listener)


def _forgotten() -> None:
    for listener in _listeners:
        listener()


_sealer: Sealer | None = None
_sealer_lock = threading.Lock()


def sealer() -> Sealer:
    """The process's sealer, made from the configuration at first use; raises `SealingError`."""
    global _sealer
    if _sealer is None:
        with _sealer_lock:
            if _sealer is None:
                from keystore import conf

                options = conf.current().sealing
                _sealer = Sealer(import_string(options.provider)(options))
    return _sealer


def reset() -> None:
    """Forget the sealer; the next use reads configuration and keys again."""
    global _sealer
    _sealer = None
    _forgotten()
