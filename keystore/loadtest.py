"""Data for load tests, written in bulk: clients, keys with names, grants of them, and records of what was done."""

import time
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from django.db import transaction

from keystore import audit, chain, compiled, objects, store
from keystore.authn import accounts
from keystore.crypto import keys
from keystore.models import Account, Grant
from keystore.roles import bits
from kmip.attributes import Attributes
from kmip.enums import (
    CryptographicAlgorithm,
    CryptographicUsageMask,
    KeyFormatType,
    NameType,
    ObjectType,
    Operation,
)
from kmip.structures import ApplicationSpecificInformation, Name

#: Rows in one transaction.
CHUNK: Final = 2000
#: Keys in one Object Group.
GROUP: Final = 10
LENGTH: Final = 256
MASK: Final = int(CryptographicUsageMask.ENCRYPT | CryptographicUsageMask.DECRYPT)
GRANTED: Final = bits((Operation.GET, Operation.GET_ATTRIBUTES, Operation.LOCATE))
#: Told how many rows of how many are written.
Progress = Callable[[str, int, int], None]
_GRANT = compiled.insert(Grant, ("object", "namespace", "principal", "operations", "expires"))


class Wanted(NamedTuple):
    """How much to write; names begin with `prefix`, and the keys are those of the user `owner`."""

    objects: int
    clients: int
    grants: int
    audit: int
    owner: str
    prefix: str


def write(wanted: Wanted, progress: Progress) -> None:
    """Write it; rows that are there already, of an earlier run with the same prefix, are an `IntegrityError`."""
    accounts.ensure(store.DEFAULT_NAMESPACE, wanted.owner)
    clients = [f"{wanted.prefix}-client-{number}" for number in range(wanted.clients)]
    for start, end in _chunks("clients", len(clients), progress):
        with transaction.atomic():
            Account.objects.bulk_create(
                Account(namespace_id=store.DEFAULT_NAMESPACE, username=name, created=int(time.time()))
                for name in clients[start:end]
            )
    uids: list[str] = []
    for start, end in _chunks("objects", wanted.objects, progress):
        made = [_key(wanted, number) for number in range(start, end)]
        with transaction.atomic():
            store.add_all(made)
        uids += [managed.uid for managed in made]
    _grants(wanted, uids, clients, progress)
    _records(wanted, uids, clients, progress)
    # Otherwise the server would be busy with that when it starts.
    while (bound := chain.checkpoint()) is not None:
        progress("checkpoints", bound.last, bound.last)


def _chunks(what: str, count: int, progress: Progress) -> Iterator[tuple[int, int]]:
    for start in range(0, count, CHUNK):
        end = min(start + CHUNK, count)
        yield start, end
        progress(what, end, count)


def _key(wanted: Wanted, number: int) -> store.Managed:
    """An active AES key with a Name, as Create makes it: also found by application data of its own and by its group."""
    now = int(time.time())
    attributes = Attributes()
    attributes.activation_date = now
    attributes.cryptographic_algorithm = CryptographicAlgorithm.AES
    attributes.cryptographic_length = LENGTH
    attributes.cryptographic_usage_mask = MASK
    attributes.name = [Name(name_value=f"{wanted.prefix}-{number:09d}", name_type=NameType.UNINTERPRETED_TEXT_STRING)]
    attributes.application_specific_information = [
        ApplicationSpecificInformation(application_namespace=wanted.prefix, application_data=f"{number:09d}")
    ]
    attributes.object_group = [f"{wanted.prefix}-group-{number // GROUP:09d}"]
    kind, algorithm = ObjectType.SYMMETRIC_KEY, CryptographicAlgorithm.AES
    material = keys.generate_symmetric(algorithm, LENGTH)
    made = objects.keyed(kind, material, KeyFormatType.RAW, algorithm, LENGTH)
    return objects.new(
        store.new_uid(),
        store.DEFAULT_NAMESPACE,
        wanted.owner,
        made,
        attributes,
        object_type=kind,
        now=now,
        generated=True,
    )


def _grants(wanted: Wanted, uids: list[str], clients: list[str], progress: Progress) -> None:
    """Spread over clients and keys so that no pair comes twice."""
    pairs = len(uids) * len(clients)
    for start, end in _chunks("grants", min(wanted.grants, pairs), progress):
        with transaction.atomic():
            _GRANT.run_many(
                [
                    (
                        uids[number % len(uids)],
                        store.DEFAULT_NAMESPACE,
                        f"user:{clients[(number + number // len(uids)) % len(clients)]}",
                        GRANTED,
                        0,
                    )
                    for number in range(start, end)
                ]
            )


def _records(wanted: Wanted, uids: list[str], clients: list[str], progress: Progress) -> None:
    users = clients or [wanted.owner]
    for start, end in _chunks("audit records", wanted.audit, progress):
        now = time.time_ns() // 1000
        with transaction.atomic():
            audit.write(
                audit.Entry(
                    now,
                    users[number % len(users)],
                    "certificate",
                    "",
                    "192.0.2.1",
                    "kmip",
                    "1.4",
                    str(Operation.GET),
                    uids[number % len(uids)] if uids else "",
                    "Success",
                    "",
                    200,
                )
                for number in range(start, end)
            )
