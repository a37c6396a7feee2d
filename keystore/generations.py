"""Numbers in the database, each of which rises with every change of something that processes keep in memory: by one
small query they notice what another process or node has changed."""

from enum import IntEnum
from functools import cache
from typing import Final

from django.db import connection
from django.db.models import F

from keystore import compiled
from keystore.models import Generation


class Kept(IntEnum):
    """What is kept; the number is its row."""

    #: What listeners trust (`gate.Trust`).
    TRUST = 1
    #: Who is who, and what they may do (`authn.Identity`).
    IDENTITIES = 2


_NUMBER: Final = compiled.select(lambda: Generation.objects.filter(id=0).values_list("number"), 1)


def current(kept: Kept) -> int:
    """The number now; raises `DatabaseError`."""
    row = _NUMBER.first((int(kept),))
    return int(row[0]) if row is not None else 0


def changed(kept: Kept) -> None:
    """Raise the number, in the transaction of the change."""
    if not Generation.objects.filter(id=kept).update(number=F("number") + 1):
        Generation.objects.bulk_create([Generation(id=kept, number=1)], ignore_conflicts=True)


@cache
def is_alone() -> bool:
    """Whether no other node can share the database, which is a file then."""
    return connection.vendor == "sqlite"
