"""The cryptographic policy that the settings choose: a preset, and the lists that shorten it."""

from functools import lru_cache

from keystore import conf
from keystore.conf import Config, Crypto
from keystore.crypto.policy import LISTS, CryptoPolicy, ListError, shortened


def of(config: Config) -> CryptoPolicy:
    """The policy of a configuration that has been checked."""
    return _of(config.crypto)


@lru_cache(maxsize=8)
def _of(settings: Crypto) -> CryptoPolicy:
    return shortened(settings.policy, tuple((name, getattr(settings, name)) for name in LISTS))


def check(config: Config) -> None:
    """Refuse lists that name what the preset does not have: raises `ConfigError`."""
    try:
        of(config)
    except ListError as exc:
        problem = f"{exc.entry} is nothing that the policy {config.crypto.policy} has"
        raise config.error(f"crypto.{exc.name}", problem, conf.nearest(exc.entry, exc.known)) from exc
