"""A root key that exists in shares only: any `threshold` of them give it back, fewer tell nothing (Shamir).

    KMS-SHARE-AEBAGBAF...      base32 of: set (4 bytes), threshold, number, the share, first 4 bytes of their SHA-256

The server starts sealed: it has no root key until people have given enough shares (see `unsealing`). What is given here
stays in this process and those it forks.
"""

import base64
import binascii
import hashlib
import hmac
import os
from collections.abc import Sequence
from struct import Struct
from typing import Any, Final, NamedTuple

from keystore.crypto import splitting
from keystore.sealing import KEY_LENGTH, LocalProvider, Provider, Sealed, SealingError
from kmip.enums import SplitKeyMethod
from kmip.errors import KMIPError

PREFIX: Final = "KMS-SHARE-"
METHOD: Final = SplitKeyMethod.POLYNOMIAL_SHARING_GF_2_8
CHECKSUM: Final = 4
_HEAD = Struct(">4sBB")


class Share(NamedTuple):
    """One share; `set` tells those of one root key from others."""

    set: bytes
    threshold: int
    number: int
    value: bytes

    def __repr__(self) -> str:
        return f"<Share {self.number} of {self.set.hex()}>"


def split(root: bytes, *, shares: int, threshold: int) -> list[str]:
    """Shares of a root key, as text; raises `SealingError` for numbers that cannot be."""
    if threshold < 2:
        raise SealingError("a threshold below 2 would make every share the root key")
    try:
        parts = splitting.split(METHOD, root, parts=shares, threshold=threshold)
    except KMIPError as exc:
        raise SealingError("the threshold is 2 to the number of shares, which is at most 255") from exc
    name = os.urandom(4)
    return [_write(Share(name, threshold, number, value)) for number, value in parts.items()]


def _write(share: Share) -> str:
    data = _HEAD.pack(share.set, share.threshold, share.number) + share.value
    data += hashlib.sha256(data).digest()[:CHECKSUM]
    return PREFIX + base64.b32encode(data).decode().rstrip("=")


def read(text: str) -> Share:
    """The share in a text; case and blanks do not matter. Raises `SealingError`."""
    text = "".join(text.split()).upper()
    body = text.removeprefix(PREFIX)
    try:
        data = base64.b32decode(body + "=" * (-len(body) % 8))
    except (binascii.Error, ValueError) as exc:
        raise SealingError("this is not a share") from exc
    data, checksum = data[:-CHECKSUM], data[-CHECKSUM:]
    if len(data) != _HEAD.size + KEY_LENGTH or not hmac.compare_digest(
        hashlib.sha256(data).digest()[:CHECKSUM], checksum
    ):
        raise SealingError("the share is incomplete or has a typing error")
    name, threshold, number = _HEAD.unpack_from(data)
    return Share(name, threshold, number, data[_HEAD.size :])


def combine(shares: Sequence[Share]) -> bytes:
    """The root key; raises `SealingError` for too few shares, or shares that do not belong together."""
    if len({(share.set, share.threshold) for share in shares}) != 1:
        raise SealingError("the shares are not of one root key")
    try:
        return splitting.join(
            METHOD, {share.number: share.value for share in shares}, threshold=shares[0].threshold, length=KEY_LENGTH
        )
    except KMIPError as exc:
        raise SealingError(exc.message) from exc


_root: bytes | None = None


def give(root: bytes) -> None:
    """Let this process, and those that it forks, have the root key."""
    global _root
    _root = root


def provider(options: Any) -> Provider:
    """The root key that shares gave; raises `Sealed` before they did."""
    if _root is None:
        raise Sealed("the server is sealed: shares of its root key must be given (manage.py unseal)")
    return LocalProvider(_root)
