"""Peers, identities and objects for tests of rights."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from keystore import authn, chain, engine, sealing, store
from keystore.authn import Peer, accounts
from kmip import payloads
from kmip.attributes import Attributes
from kmip.enums import CryptographicAlgorithm, CryptographicUsageMask, ObjectType, Operation
from tests.softhsm import away, hsm, hsm_folder

__all__ = ["away", "hsm", "hsm_folder"]


@pytest.fixture(autouse=True)
def root_key(request: pytest.FixtureRequest) -> None:
    """A root key file, and nothing that was looked up under another database."""
    if request.node.get_closest_marker("django_db") is None:
        return
    from keystore import conf

    sealing.create_root_key(conf.current().sealing.root_key_file)
    sealing.reset()
    authn.forget()
    chain._recent.number = -1


@pytest.fixture
def own_root(tmp_path: Path, configure: Callable[..., object]) -> Iterator[Path]:
    """A root key file of this test's own, and a process that has not read it yet."""
    path = tmp_path / "root.key"
    sealing.create_root_key(path)
    configure(**{"sealing.root_key_file": path})
    sealing.reset()
    store.rows.clear()
    yield path
    sealing.reset()
    store.rows.clear()


@pytest.fixture(autouse=True)
def checkpoint_file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Checkpoints are exported to a file of the test's own."""
    path = tmp_path / "checkpoints.jsonl"
    if request.node.get_closest_marker("django_db") is not None:
        request.getfixturevalue("configure")(**{"audit.checkpoint_file": path})
    return path


def peer(name: str, namespace: str = "default") -> Peer:
    """Somebody at this machine's command line, who needs no credential."""
    return Peer("cli", user=name if namespace == "default" else f"{namespace}/{name}")


@pytest.fixture
def person(db: None) -> Callable[..., Peer]:
    """Make a user, with groups and roles: `person("alice", groups=["ops"], roles=["auditor"])`."""
    from keystore.models import Group, RoleAssignment

    def make(
        name: str, namespace: str = "default", *, groups: tuple[str, ...] = (), roles: tuple[str, ...] = ()
    ) -> Peer:
        accounts.namespace(namespace, make=True)
        account = accounts.ensure(namespace, name)
        for group in groups:
            found, _ = Group.objects.get_or_create(namespace_id=namespace, name=group)
            found.members.add(account)
        for role in roles:
            RoleAssignment.objects.create(namespace_id=namespace, principal=f"user:{name}", role=role)
        authn.forget()
        return peer(name, namespace)

    return make


@pytest.fixture
def key_of(db: None) -> Callable[[Peer], str]:
    """Make an AES key that belongs to a peer; its identifier."""

    def make(owner: Peer, **attributes: object) -> str:
        asked = Attributes()
        asked.cryptographic_algorithm = CryptographicAlgorithm.AES
        asked.cryptographic_length = 128
        asked.cryptographic_usage_mask = int(CryptographicUsageMask.ENCRYPT | CryptographicUsageMask.DECRYPT)
        for name, value in attributes.items():
            setattr(asked, name, value)
        request = payloads.CreateRequest(object_type=ObjectType.SYMMETRIC_KEY, attributes=asked)
        return engine.execute(Operation.CREATE, request, owner).unique_identifier

    return make
