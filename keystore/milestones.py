"""When something last happened to this database that people want to know the age of."""

import time
from typing import Final

from keystore.models import Milestone

BACKUP: Final = "backup"


def note(name: str) -> None:
    """It has happened now."""
    Milestone.objects.update_or_create(name=name, defaults={"at": int(time.time())})


def when(name: str) -> int | None:
    """When it last happened, in seconds since 1970."""
    return Milestone.objects.filter(name=name).values_list("at", flat=True).first()
