"""Key material at rest: the envelope around it, and where its root key comes from.

A root key, which a provider holds outside the database, wraps sealing keys that the database holds. Each object's
material is sealed with AES-256-GCM under a key derived from a sealing key for that object alone, with the object's
identifier and row version as associated data, so that material cannot be moved to another row or taken back to an
older one. A blob begins with a format byte and the number of its sealing key.

A key check value in the database tells a root key that is not this database's. Another process may add a sealing key,
or replace the root key, at any time: readers load a key whose number they do not know, writers look every
`ACTIVE_SECONDS` which key is the one to use.
"""

import hmac
import logging
import math
import os
import stat
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from struct import Struct
from typing import Any, Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from django.utils.module_loading import import_string

from keystore import turns

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
PURPOSES: Final = (MATERIAL, ARCHIVE)
#: The number of the key that seals nothing: other keys are derived from it. Databases count upwards from 1.
DERIVATION_KEY: Final = -1
#: Seconds for which a process goes on sealing under a key that another process has replaced.
ACTIVE_SECONDS: Final = 5.0
#: What wrapped keys are for, as the root key's associated data.
SEALING_KEY: Final = b"sealing key"
ROOT_CHECK: Final = b"root key check"
NAME_LENGTH: Final = 8

log = logging.getLogger(__name__)


class SealingError(Exception):
    """Material that cannot be sealed or opened, or a root key that is not this database's."""


class Sealed(SealingError):
    """The root key is not there yet: shares of it must be given first."""


class WrongRootKey(SealingError):
    """The root key is not the one that this database was sealed under."""


class Unavailable(SealingError):
    """What holds keys cannot be reached now; later it may."""


class Provider(Protocol):
    """Holds the root key."""

    def wrap(self, key: bytes, context: bytes) -> bytes:
        """Seal a sealing key."""

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """Open a sealing key; raises `WrongRootKey` where it was sealed under another root key."""


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
        """Open a sealing key; raises `WrongRootKey` where it was sealed under another root key."""
        try:
            return self._aead.decrypt(wrapped[:NONCE_LENGTH], wrapped[NONCE_LENGTH:], context)
        except (InvalidTag, ValueError) as exc:
            raise WrongRootKey(WRONG) from exc

    def settled(self) -> None:
        """Take note that this is the database's root key."""


class StagedProvider(LocalProvider):
    """The root key of a rotation that was cut short after the database had taken it."""

    def __init__(self, root: bytes, staged: Path, path: Path) -> None:
        super().__init__(root)
        self._staged, self._path = staged, path

    def settled(self) -> None:
        """Finish the rotation: the staged file becomes the file of the root key."""
        with suppress(FileNotFoundError):  # Another process may be finishing it.
            self._staged.replace(self._path)
            sync_folder(self._path)
            log.warning("%s now holds the root key that an interrupted rotation had staged", self._path)


WRONG: Final = "the root key is not the one that this database was sealed under"


def create_root_key(path: Path) -> None:
    """Write a new root key, as hexadecimal, to a file that only its owner may read; an existing file is kept.

    The file appears whole under its name, or not at all.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.urandom(4).hex()}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(os.urandom(KEY_LENGTH).hex() + "\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(part, path)  # Which, unlike a renaming, takes no other file's place.
    finally:
        part.unlink(missing_ok=True)
    sync_folder(path)


def sync_folder(path: Path) -> None:
    """Let the name of a file outlive a power failure."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def staged_path(path: Path) -> Path:
    """Where a rotation puts the next root key, until the database has taken it."""
    return path.with_name(path.name + ".new")


def file_provider(options: Any) -> Provider:
    """The root key in the file `sealing.root_key_file`, which nobody but its owner may read."""
    return LocalProvider(read_root_key(Path(options.root_key_file)))


def _staged_file(options: Any) -> Provider | None:
    path = Path(options.root_key_file)
    staged = staged_path(path)
    if not staged.exists():
        return None
    try:
        return StagedProvider(read_root_key(staged), staged, path)
    except SealingError:
        if staged.exists():
            raise
        return None  # It has just become the file of the root key.


def read_root_key(path: Path) -> bytes:
    """The root key in a file, which nobody but its owner may read."""
    try:
        with path.open() as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(1024).strip()
    except OSError as exc:
        raise SealingError(f"cannot read the root key file {path}: {exc.strerror}") from exc
    if stat.S_IMODE(mode) & 0o077:
        raise SealingError(f"the root key file {path} can be read by others: chmod 600 {path}")
    return _from_hex(text, str(path))


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


#: Where a provider's next root key is found, when a rotation was cut short.
STAGED: Final[dict[str, Callable[[Any], Provider | None]]] = {"keystore.sealing.file_provider": _staged_file}


def providers(options: Any) -> list[Provider]:
    """The root keys that may be the database's, the likeliest first; raises `SealingError`."""
    staged = STAGED.get(options.provider)
    # Looked for first: when a rotation ends between the two looks, the file has the new key.
    second = staged(options) if staged is not None else None
    first: Provider = import_string(options.provider)(options)
    return [first] if second is None else [first, second]


NEVER: Final = -math.inf


class Sealer:
    """Seals and opens material with the sealing keys of this database."""

    def __init__(self, find: Callable[[], list[Provider]]) -> None:
        self._find = find
        self._provider: Provider | None = None
        self._root_name = b""
        self._keys: dict[int, bytes] = {}
        self._wrapped: dict[int, bytes] = {}
        self._purposes: dict[int, str] = {}
        self._aeads: dict[tuple[int, str], AESGCM] = {}
        self._active: dict[str, int] = {}
        #: When `_active` was read; 0 where a transaction that is not over made the key, and may take it back.
        self._read = NEVER
        self._lock = threading.RLock()

    def seal(self, material: bytes, uid: str, version: int, *, purpose: str = MATERIAL) -> bytes:
        """The blob for an object's row at a version, under the key of a purpose."""
        if time.monotonic() - self._read > ACTIVE_SECONDS or purpose not in self._active:
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
        except (InvalidTag, ValueError) as exc:
            raise SealingError(f"the material of {uid} does not belong to this row") from exc

    def derive(self, label: str) -> bytes:
        """A key of 32 bytes for another purpose: it follows from a key that the root key wraps and that never changes,
        so it is the same on every node, and stays so when sealing keys or the root key are replaced."""
        key = self._keys.get(DERIVATION_KEY) if self._read else None
        if key is None:
            self._load()
            if DERIVATION_KEY not in self._purposes:
                from keystore import store

                store.add_derivation_key(self.wrap(os.urandom(KEY_LENGTH), SEALING_KEY), DERIVATION_KEY)
                self._load()
            key = self._keys[DERIVATION_KEY]
        return HKDFExpand(SHA256(), KEY_LENGTH, b"derived:" + label.encode()).derive(key)

    def purpose_of(self, number: int) -> str:
        """What a sealing key seals."""
        if number not in self._purposes:
            self._load()
        return self._purposes[number]

    def active(self, purpose: str) -> int:
        """The number of the key that seals for a purpose, read afresh."""
        self._load(purpose)
        return self._active[purpose]

    def add_key(self, purpose: str) -> int:
        """Make a new sealing key, which all processes use for new material within `ACTIVE_SECONDS`; its number."""
        from keystore import store

        with self._lock:
            number = store.add_sealing_key(self.wrap(os.urandom(KEY_LENGTH), SEALING_KEY), purpose)
            self._load(purpose)
        return number

    def wrap(self, key: bytes, context: bytes) -> bytes:
        """A key sealed by the root key itself."""
        return self.provider.wrap(key, context)

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """A key that the root key itself sealed; raises `WrongRootKey`."""
        return self.provider.unwrap(wrapped, context)

    @property
    def provider(self) -> Provider:
        """What holds the database's root key; raises `WrongRootKey` where none of the configured ones is."""
        with self._lock:
            return self._provider or self._choose()

    @property
    def root_name(self) -> str:
        """What the database calls its root key; another one gets another name."""
        _ = self.provider
        return self._root_name.hex()

    def check(self) -> None:
        """Open the sealing keys, making the first ones in a new database; raises `SealingError`."""
        for purpose in PURPOSES:
            self._load(purpose)
        self.derive("check")

    def forget(self) -> None:
        """Drop every key from memory."""
        with self._lock:
            for held in (self._keys, self._wrapped, self._purposes, self._aeads, self._active):
                held.clear()
            self._provider, self._read = None, NEVER
        _forgotten()

    def _choose(self) -> Provider:
        """Find the root key that fits the key check value, which a new database gets now."""
        from keystore import store

        found = self._find()
        row = store.root_key()
        if row is None:
            if store.has_sealed():
                raise SealingError("the database holds sealed objects, but no key check value: restore a backup")
            name = os.urandom(NAME_LENGTH)
            row = store.add_root_key(name, found[0].wrap(name, ROOT_CHECK))
        name, check = row
        for provider in found:
            if fits(provider, name, check):
                if isinstance(provider, LocalProvider):
                    provider.settled()
                self._provider, self._root_name = provider, name
                return provider
        raise WrongRootKey(WRONG)

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
        """Read the keys that are new or wrapped anew, and make one for the purpose where there is none."""
        from keystore import store

        turns.leave()
        with self._lock:
            made = False
            rows = store.sealing_keys()
            if not any(row.active and row.purpose == purpose for row in rows):
                store.add_sealing_key(self.provider.wrap(os.urandom(KEY_LENGTH), SEALING_KEY), purpose)
                rows, made = store.sealing_keys(), True
            for row in rows:
                if self._wrapped.get(row.number) != row.wrapped:
                    self._take(row.number, row.wrapped)
            self._purposes = {row.number: row.purpose for row in rows}
            # The newest of each purpose, as rows come in order.
            self._active = {row.purpose: row.number for row in rows if row.active}
            if made or self._read == 0.0:
                # What is made in a transaction may yet vanish with it.
                self._read = 0.0 if store.in_transaction() else time.monotonic()
            else:
                self._read = time.monotonic()

    def _take(self, number: int, wrapped: bytes) -> None:
        """Open a sealing key and keep it."""
        try:
            key = self.provider.unwrap(wrapped, SEALING_KEY)
        except WrongRootKey:
            # The root key was replaced while this process ran.
            self._provider = None
            try:
                key = self.provider.unwrap(wrapped, SEALING_KEY)
            except SealingError:
                if number not in self._keys:
                    raise
                log.error("the root key was replaced, but not in this node's configuration: it will not start again")
                self._wrapped[number] = wrapped
                return
        if self._keys.get(number, key) != key:
            self._aeads.clear()
        self._keys[number], self._wrapped[number] = key, wrapped


def fits(provider: Provider, name: bytes, check: bytes) -> bool:
    """Whether a root key is the one that a key check value was made with."""
    try:
        return hmac.compare_digest(provider.unwrap(check, ROOT_CHECK), name)
    except WrongRootKey:
        return False


def number_of(blob: bytes) -> int:
    """The number of the sealing key of a blob, of which the head is enough."""
    return int(_HEAD.unpack_from(blob)[1])


HEAD_LENGTH: Final = _HEAD.size


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
                # Made now as well, so that what is wrong with it is known before a database is asked.
                providers(options)
                _sealer = Sealer(lambda: providers(conf.current().sealing))
    return _sealer


_sealed = False


def is_sealed() -> bool:
    """Whether this process waits for its root key, and so can do nothing."""
    return _sealed


def set_sealed(sealed: bool) -> None:
    """Note for this process, and those it forks, whether the root key has yet to come."""
    global _sealed
    _sealed = sealed


def reset() -> None:
    """Forget the sealer; the next use reads configuration and keys again."""
    global _sealer
    _sealer = None
    _forgotten()
