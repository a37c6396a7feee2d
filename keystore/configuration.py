"""What is recorded of the settings: how they differ from those that this node was last recorded to run with.

Secrets are told apart by a digest under a key that follows from the root key, and shown to nobody.
"""

import hmac
from typing import Final

from django.db import transaction

from keystore import administration, audit, clock, conf, nodes, version
from keystore.conf import Config
from keystore.models import Node

_HIDDEN: Final = "hidden "


class _Noted:
    """The configuration that this process has seen to it is recorded."""

    config: Config | None = None


def note() -> None:
    """Record the settings of this process unless they are recorded; raises where records cannot be written."""
    config = conf.current()
    if _Noted.config is not config:
        record(config)
        _Noted.config = config


def record(config: Config) -> int:
    """Write a record for each setting that is new, changed or gone, and remember them; how many."""
    secret = audit.key()
    now = {key: _told(config, key, secret) for key in conf.SETTINGS if config.layers[key] != conf.DEFAULT}
    peer, identity = administration.local(config.auth.default_namespace)
    with transaction.atomic():
        seen = clock.now() // clock.SECOND
        defaults = {"version": version.VERSION, "started": seen, "seen": seen}
        node, _ = Node.objects.select_for_update().get_or_create(name=nodes.name(), defaults=defaults)
        before: dict[str, str] = node.settings
        changed = [key for key in sorted(before.keys() | now.keys()) if before.get(key) != now.get(key)]
        for key in changed:
            layer = config.layers.get(key, conf.DEFAULT)
            detail = f"{node.name} {key}: {_shown(before.get(key))} -> {_shown(now.get(key))} ({layer})"
            audit.note(identity, peer, "Change Setting", detail=detail)
        if changed:
            Node.objects.filter(pk=node.pk).update(settings=now)
    return len(changed)


def _told(config: Config, key: str, secret: bytes) -> str:
    """A setting's value as it is remembered."""
    row, value = conf.SETTINGS[key], config.value(key)
    if row.secret and value:
        return _HIDDEN + hmac.digest(secret, f"{key}={value}".encode(), "sha256").hex()[:16]
    return row.show(value)


def _shown(told: str | None) -> str:
    """A remembered value as the record shows it."""
    if told is None:
        return "default"
    return conf.MASK if told.startswith(_HIDDEN) else told
