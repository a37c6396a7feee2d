"""People at the console, and objects for them to look at."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.test import Client

from keystore import audit, engine, sealing
from keystore.authn import Peer, forget
from kmip.attributes import Attributes
from kmip.enums import CryptographicAlgorithm, NameType, ObjectType, Operation
from kmip.payloads import CreateRequest
from kmip.structures import Name
from ui import tally

PASSWORD = "correct horse battery"


@pytest.fixture(autouse=True)
def clean(
    db: None, tmp_path: Any, configure: Callable[..., object], monkeypatch: pytest.MonkeyPatch, settings: Any
) -> Any:
    """A root key of the test's own, and nobody believed from the test before."""
    # Hashing as slowly as for real would take longer than all else that these tests do.
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    path = tmp_path / "root.key"
    sealing.create_root_key(path)
    configure(**{"sealing.root_key_file": path})
    # Records of reads are written at once: the writer's thread has no part in a test's transaction.
    monkeypatch.setattr(audit.writer, "add", audit.write)
    monkeypatch.setattr(tally, "kept", tally.Kept())
    monkeypatch.setattr(tally, "SLOW", 60.0)  # However busy this machine is.
    sealing.reset()
    forget()
    yield
    sealing.reset()
    forget()


@pytest.fixture
def person() -> Callable[..., Client]:
    """Log somebody in: `person("alice")`, `person("root", superuser=True)`."""

    def log_in(name: str, *, superuser: bool = False) -> Client:
        users = get_user_model().objects
        make = users.create_superuser if superuser else users.create_user
        if not users.filter(username=name).exists():
            make(name, password=PASSWORD)
        client = Client()
        assert client.login(username=name, password=PASSWORD)
        return client

    return log_in


@pytest.fixture
def alice(person: Callable[..., Client]) -> Client:
    """Somebody without any role but the default one."""
    return person("alice")


@pytest.fixture
def root(person: Callable[..., Client]) -> Client:
    """An administrator of the server."""
    return person("root", superuser=True)


@pytest.fixture
def make() -> Callable[..., str]:
    """A symmetric key of somebody at the console; its identifier."""

    def create(owner: str = "alice", name: str = "", **attributes: Any) -> str:
        if not get_user_model().objects.filter(username=owner).exists():
            get_user_model().objects.create_user(owner, password=PASSWORD)
        asked = Attributes()
        asked.cryptographic_algorithm = CryptographicAlgorithm.AES
        asked.cryptographic_length = 256
        if name:
            asked.name = [Name(name_value=name, name_type=NameType.UNINTERPRETED_TEXT_STRING)]
        for field, value in attributes.items():
            setattr(asked, field, value)
        payload = CreateRequest(object_type=ObjectType.SYMMETRIC_KEY, attributes=asked)
        return engine.execute(Operation.CREATE, payload, Peer("ui", user=owner)).unique_identifier

    return create
