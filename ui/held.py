"""What a page shows and the next request needs again: sealed for its sender, so that the page keeps no material."""

import base64
import time

from keystore.sealing import sealer

#: Seconds for which it can be sent back.
LIFETIME = 600


def hold(content: bytes, holder: str, what: str) -> str:
    """Seal some content for a person and a purpose."""
    expiry = int(time.time()) + LIFETIME
    return f"{expiry}.{base64.b64encode(sealer().seal(content, f'{what} of {holder}', expiry)).decode()}"


def held(text: str, holder: str, what: str) -> bytes:
    """What `hold` sealed for the same person and purpose; raises `ValueError` or `SealingError`."""
    expiry, _, sealed = text.partition(".")
    if int(expiry) < time.time():
        raise ValueError("too late")
    return sealer().open(base64.b64decode(sealed, validate=True), f"{what} of {holder}", int(expiry))
