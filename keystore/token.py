"""Tokens that speak PKCS#11: a connection that recovers by itself, and a root key that never leaves its token.

A process has one session with a token. When the token answers with an error the session is made anew and the work is
tried once more; if the token is away, `TokenError` says so, and the next request tries again. After a fork the library
starts over, as PKCS#11 demands.
"""

import contextlib
import os
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

from keystore import turns
from keystore.sealing import KEY_LENGTH, NONCE_LENGTH, WRONG, Provider, Unavailable, WrongRootKey

T = TypeVar("T")

TAG_BITS: Final = 128


class TokenError(Unavailable):
    """The token cannot be used: away, locked, or without the key."""


def binding() -> Any:
    """The binding of PKCS#11; raises `TokenError` where it is not installed: only those who have a token need it."""
    try:
        import pkcs11
    except ImportError as exc:
        raise TokenError("the package python-pkcs11 is not installed: pip install python-pkcs11") from exc
    return pkcs11


class Library:
    """A PKCS#11 library in this process, which its tokens share.

    One thread at a time: not every library, SoftHSM2 among them, keeps threads apart by itself, and none may be started
    over while another thread is inside. Processes work side by side.
    """

    def __init__(self, module: str) -> None:
        self.module = module
        self.lock = threading.Lock()
        #: Changes when the library starts over: sessions from before are gone.
        self.generation = 0
        self._pid = os.getpid()
        self._loaded: Any = None

    def find(self, label: str, broken: int) -> Any:
        """The token with a label, after the library has started over if it has not since generation `broken`."""
        pkcs11 = binding()
        if self._loaded is None:
            try:
                self._loaded = pkcs11.lib(self.module)
            except (pkcs11.PKCS11Error, RuntimeError) as exc:
                raise TokenError(f"the PKCS#11 library {self.module} cannot be loaded: {_text(exc)}") from exc
        if self.generation == broken:
            # Tokens that came or went are seen only by a library that starts over.
            self._loaded.reinitialize()
            self.generation += 1
        return self._loaded.get_token(token_label=label)

    def forked(self) -> bool:
        """Whether this process has the library from its parent, and must let it start over."""
        if self._pid == os.getpid():
            return False
        self.lock, self._pid = threading.Lock(), os.getpid()
        return True


class Token:
    """One token, logged in as its user."""

    def __init__(self, library: Library, label: str, pin: str) -> None:
        self.library, self.label, self._pin = library, label, pin
        self._session: Any = None
        self._generation = 0
        self._pid = os.getpid()

    def __repr__(self) -> str:
        return f"<Token {self.label}>"

    def use(self, work: Callable[[Any], T]) -> T:
        """The result of work with the session; raises `TokenError` where the token is away."""
        pkcs11, library = binding(), self.library
        turns.leave()
        library.forked()
        with library.lock:
            if self._pid != os.getpid():
                # The session is the parent's: closing it here could close it there.
                self._inherited, self._session, self._pid = self._session, None, os.getpid()
            for attempt in (1, 2):
                try:
                    if self._session is None or self._generation != library.generation:
                        self._connect()
                    return work(self._session)
                except (pkcs11.PKCS11Error, TokenError) as exc:
                    # Whatever it was, even that a key is missing, a new session is the cure or the proof that there is
                    # none. What the failed operation still holds goes first: it would end it in a closed session.
                    traceback.clear_frames(exc.__traceback__)
                    self._close()
                    if attempt == 2 or isinstance(exc, _refusals(pkcs11)):
                        raise (exc if isinstance(exc, TokenError) else self._error(exc)) from exc
        raise AssertionError("unreachable")

    @property
    def slot(self) -> int:
        """The number of the slot that the token is in; raises `TokenError`."""
        return int(self.use(lambda session: session.token.slot.slot_id))

    def _connect(self) -> None:
        token = self.library.find(self.label, self._generation)
        self._session = token.open(rw=True, user_pin=self._pin)
        self._generation = self.library.generation

    def _close(self) -> None:
        session, self._session = self._session, None
        if session is not None and self._generation == self.library.generation:
            with contextlib.suppress(binding().PKCS11Error):
                session.close()
        self._generation = self.library.generation

    def _error(self, exc: Exception) -> TokenError:
        pkcs11 = binding()
        if isinstance(exc, pkcs11.PinLocked):
            return TokenError(f"the PIN of the token {self.label} is locked after too many wrong ones")
        if isinstance(exc, _refusals(pkcs11)):
            return TokenError(f"the token {self.label} does not accept the PIN")
        if isinstance(exc, pkcs11.NoSuchToken):
            return TokenError(f"there is no token {self.label}; is it plugged in, and is this its label?")
        return TokenError(f"the token {self.label} cannot be used: {_text(exc)}")


def _refusals(pkcs11: Any) -> tuple[type[Exception], ...]:
    """Errors that a second attempt would only make worse: PINs are counted."""
    return (pkcs11.PinIncorrect, pkcs11.PinLenRange, pkcs11.PinInvalid, pkcs11.PinLocked)


def _text(exc: Exception) -> str:
    return f"{type(exc).__name__} {exc}".strip()


_libraries: dict[str, Library] = {}
_tokens: dict[tuple[str, str, str], Token] = {}
_tokens_lock = threading.Lock()


def configured(options: Any) -> Token:
    """The token that the sealing settings name; raises `TokenError` where they do not name one in full."""
    for name in ("pkcs11_module", "pkcs11_token"):
        if not getattr(options, name):
            raise TokenError(f"sealing.{name} is missing")
    pin = options.pkcs11_pin
    if options.pkcs11_pin_file is not None:
        try:
            pin = Path(options.pkcs11_pin_file).read_text(encoding="utf-8").strip()
        except OSError as exc:
            raise TokenError(f"cannot read the PIN file {options.pkcs11_pin_file}: {exc.strerror}") from exc
    if not pin:
        raise TokenError("sealing.pkcs11_pin and sealing.pkcs11_pin_file are missing")
    key = (str(options.pkcs11_module), options.pkcs11_token, pin)
    with _tokens_lock:
        library = _libraries.setdefault(key[0], Library(key[0]))
        return _tokens.setdefault(key, Token(library, options.pkcs11_token, pin))


# The root key.


class TokenProvider:
    """A root key that stays in a token; the token itself wraps and unwraps."""

    def __init__(self, token: Token, label: str) -> None:
        self.token, self.label = token, label

    def wrap(self, key: bytes, context: bytes) -> bytes:
        """Seal a sealing key."""
        nonce = os.urandom(NONCE_LENGTH)
        return nonce + bytes(self.token.use(lambda session: self._key(session).encrypt(key, **_gcm(nonce, context))))

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """Open a sealing key; raises `WrongRootKey` where it was sealed under another root key."""
        nonce, sealed = wrapped[:NONCE_LENGTH], wrapped[NONCE_LENGTH:]

        def work(session: Any) -> bytes:
            try:
                return bytes(self._key(session).decrypt(sealed, **_gcm(nonce, context)))
            except binding().PKCS11Error:
                # Tokens do not agree on how to say that a tag is wrong. One that works still, and refuses again, has.
                self._probe(session)
            try:
                return bytes(self._key(session).decrypt(sealed, **_gcm(nonce, context)))
            except binding().PKCS11Error as exc:
                self._probe(session)
                raise WrongRootKey(WRONG) from exc

        return self.token.use(work)

    def _probe(self, session: Any) -> None:
        """Raise what the token raises where it cannot encrypt and decrypt."""
        nonce = os.urandom(NONCE_LENGTH)
        key = self._key(session)
        key.decrypt(key.encrypt(b"probe", **_gcm(nonce, b"")), **_gcm(nonce, b""))

    def _key(self, session: Any) -> Any:
        pkcs11 = binding()
        wanted = {
            pkcs11.Attribute.LABEL: self.label,
            pkcs11.Attribute.CLASS: pkcs11.ObjectClass.SECRET_KEY,
            pkcs11.Attribute.KEY_TYPE: pkcs11.KeyType.AES,
        }
        found = list(session.get_objects(wanted))
        if len(found) != 1:
            many = "several AES keys" if found else "no AES key"
            raise TokenError(f"the token {self.token.label} has {many} with the label {self.label}")
        return found[0]


def _gcm(nonce: bytes, context: bytes) -> dict[str, Any]:
    pkcs11 = binding()
    return {
        "mechanism": pkcs11.Mechanism.AES_GCM,
        "mechanism_param": pkcs11.GCMParams(nonce, aad=context, tag_bits=TAG_BITS),
    }


def provider(options: Any) -> Provider:
    """The root key that a token holds under the label `sealing.pkcs11_key`."""
    return TokenProvider(configured(options), options.pkcs11_key)


def create_root_key(options: Any) -> None:
    """Let the token make a root key that it never gives out; an existing one is kept."""
    pkcs11 = binding()
    token, label = configured(options), options.pkcs11_key

    def make(session: Any) -> None:
        if list(session.get_objects({pkcs11.Attribute.LABEL: label})):
            return
        flags = pkcs11.MechanismFlag
        session.generate_key(
            pkcs11.KeyType.AES,
            KEY_LENGTH * 8,
            label=label,
            store=True,
            capabilities=flags.ENCRYPT | flags.DECRYPT,
            template={pkcs11.Attribute.SENSITIVE: True, pkcs11.Attribute.EXTRACTABLE: False},
        )

    token.use(make)
