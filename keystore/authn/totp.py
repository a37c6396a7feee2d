"""The second factor of people at the console: the codes of authenticator apps (RFC 6238).

An account's secret is encrypted in the database. A code counts once, and half a minute early or late.
"""

import os
from typing import Final

import pyotp
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pyotp.exceptions import OTPVerificationError

from keystore import sealing
from keystore.models import Account

ISSUER: Final = "KMS"
_NONCE: Final = 12


def new_secret() -> str:
    """A secret of 160 random bits, in Base32."""
    return pyotp.random_base32(32)


def address(account: Account, secret: str) -> str:
    """What an authenticator app reads from a square of dots."""
    return pyotp.TOTP(secret).provisioning_uri(name=account.username, issuer_name=ISSUER)


def step_of(secret: str, code: str) -> int:
    """The time step that a code is of; 0 for a wrong one."""
    try:
        return pyotp.TOTP(secret).verify_and_get_timecode(code.replace(" ", ""), valid_window=1)
    except (OTPVerificationError, ValueError):
        return 0


def has(account: Account) -> bool:
    """Whether an account has a second factor."""
    return account.totp_secret is not None


def put(account: Account, secret: str | None, *, step: int = 0) -> None:
    """Give an account a secret, or take it away; the code of `step` has been used."""
    sealed = None if secret is None else _seal(account, secret)
    Account.objects.filter(pk=account.pk).update(totp_secret=sealed, totp_step=step)
    account.totp_secret = sealed


def accept(account: Account, code: str) -> bool:
    """Whether a code is right, and was not used before; it is from now on."""
    assert account.totp_secret is not None
    step = step_of(_open(account), code)
    return bool(Account.objects.filter(pk=account.pk, totp_step__lt=step).update(totp_step=step))


def _key() -> AESGCM:
    return AESGCM(sealing.sealer().derive("totp"))


def _bound(account: Account) -> bytes:
    return f"{account.namespace_id}/{account.username}".encode()


def _seal(account: Account, secret: str) -> bytes:
    nonce = os.urandom(_NONCE)
    return nonce + _key().encrypt(nonce, secret.encode(), _bound(account))


def _open(account: Account) -> str:
    blob = bytes(account.totp_secret or b"")
    try:
        return _key().decrypt(blob[:_NONCE], blob[_NONCE:], _bound(account)).decode()
    except (InvalidTag, ValueError) as exc:
        raise sealing.SealingError(f"the second factor of {account.username} does not belong to this account") from exc
