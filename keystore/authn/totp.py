"""The second factor of people at the console: the codes of authenticator apps (RFC 6238).

An account's secret is sealed in the database. A code counts once, and half a minute early or late.
"""

from typing import Final

import pyotp
from pyotp.exceptions import OTPVerificationError

from keystore import sealing
from keystore.models import Account

ISSUER: Final = "KMS"


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
    sealed = None if secret is None else sealing.sealer().seal(secret.encode(), label(str(account.pk)), 1)
    Account.objects.filter(pk=account.pk).update(totp_secret=sealed, totp_step=step)
    account.totp_secret = sealed


def accept(account: Account, code: str) -> bool:
    """Whether a code is right, and was not used before; it is from now on."""
    assert account.totp_secret is not None
    secret = sealing.sealer().open(bytes(account.totp_secret), label(str(account.pk)), 1)
    step = step_of(secret.decode(), code)
    return bool(Account.objects.filter(pk=account.pk, totp_step__lt=step).update(totp_step=step))


def label(account: str) -> str:
    """What the sealed secret of an account, known by its primary key, is bound to."""
    return f"totp:{account}"
