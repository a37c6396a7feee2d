"""Replace the root key."""

import dataclasses
import os
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser

from keystore import conf, resealing, sealing, shares
from keystore.checks import FILE_PROVIDER
from keystore.conf import Sealing
from keystore.management.keys import RootKeyCommand
from keystore.sealing import SealingError

PREFIX = "new_"


class Command(RootKeyCommand):
    help = (
        "Wrap the sealing keys with a new root key. Without --new-… flags a new key takes the place of the root key "
        "file; with them the sealing settings are given that hold from then on."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--shares", type=int, default=5, help="Shares, where the new root key goes into shares.")
        parser.add_argument("--threshold", type=int, default=3, help="How many of them give it back.")
        for field in dataclasses.fields(Sealing):
            if not field.metadata["secret"]:
                flag = f"--{PREFIX}{field.name}".replace("_", "-")
                parser.add_argument(flag, type=type_of(field.name), help=field.metadata["help"])

    def handle(self, *args: object, **options: Any) -> None:
        self.open()
        changed = {
            field.name: options[PREFIX + field.name]
            for field in dataclasses.fields(Sealing)
            if options.get(PREFIX + field.name) is not None
        }
        # Secrets come in the environment: command lines can be seen by others.
        for field in dataclasses.fields(Sealing):
            if field.metadata["secret"] and os.environ.get(f"KMS_NEW_{field.name.upper()}"):
                changed[field.name] = os.environ[f"KMS_NEW_{field.name.upper()}"]
        current = conf.current().sealing
        try:
            if not changed and current.provider == FILE_PROVIDER:
                kept = resealing.rotate_root_file(Path(current.root_key_file))
                self.stdout.write(f"the root key is replaced; backups made before need the old one, now in {kept}")
                return
            new = dataclasses.replace(current, **changed)
            if new.provider == "keystore.shares.provider":
                self.to_shares(options["shares"], options["threshold"])
            elif not changed:
                raise CommandError("say where the new root key is: --new-provider, --new-pkcs11-key, ...")
            else:
                resealing.rotate_root(sealing.providers(new)[0])
        except SealingError as exc:
            raise CommandError(str(exc)) from exc
        self.stdout.write("the root key is replaced; change the sealing settings of every node before it starts again")

    def to_shares(self, count: int, threshold: int) -> None:
        """Print the shares of a new root key, and let it take effect once they were seen."""
        root = os.urandom(sealing.KEY_LENGTH)
        texts = shares.split(root, shares=count, threshold=threshold)
        self.stdout.write(f"{threshold} of these {count} shares give the root key back. They are shown once:")
        self.stdout.write("\n".join(texts))
        self.stdout.flush()
        resealing.rotate_root(sealing.LocalProvider(root))
        shares.give(root)


def type_of(name: str) -> type:
    """What a setting's flag is converted to."""
    return Path if "Path" in str(Sealing.__annotations__[name]) else str
