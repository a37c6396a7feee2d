"""Users with API tokens, for tests of the paths beside KMIP."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.test import Client

from keystore import audit, authn, conf, sealing
from keystore.authn import accounts, tokens
from keystore.models import AuditRecord


class Caller:
    """A client of the HTTP API with a bearer token; answers are status and JSON."""

    def __init__(self, token: str | None) -> None:
        self._client = Client()
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}

    def status(self, path: str) -> int:
        """The status of an answer that is no JSON."""
        return self._client.get(path, headers=self._headers).status_code

    def get(self, path: str) -> tuple[int, Any]:
        answer = self._client.get(path, headers=self._headers)
        return answer.status_code, answer.json()

    def post(self, path: str, body: Any, content_type: str = "application/json") -> tuple[int, Any]:
        content = body if isinstance(body, str) else json.dumps(body)
        answer = self._client.post(path, content, content_type=content_type, headers=self._headers)
        return answer.status_code, answer.json()

    def delete(self, path: str) -> tuple[int, Any]:
        answer = self._client.delete(path, headers=self._headers)
        return answer.status_code, answer.json()


@pytest.fixture
def keyed(db: None) -> Iterator[None]:
    """A root key, and nobody believed from the test before."""
    sealing.create_root_key(conf.current().sealing.root_key_file)
    sealing.reset()
    authn.forget()
    yield
    sealing.reset()
    authn.forget()


@pytest.fixture
def caller(keyed: None) -> Callable[..., Caller]:
    """A user with a new token: `caller("alice", namespace="tenant", scopes=["get"])`."""

    def make(name: str, *, namespace: str = "default", scopes: list[str] | None = None, **options: Any) -> Caller:
        accounts.namespace(namespace, make=True)
        _, token = tokens.issue(accounts.ensure(namespace, name), "test", scopes=scopes, **options)
        return Caller(token)

    return make


@pytest.fixture
def recorded(keyed: None) -> Callable[..., list[tuple[str, str, str]]]:
    """The audit's last records: user, operation and result or reason."""

    def look() -> list[tuple[str, str, str]]:
        audit.writer.flush()
        rows = AuditRecord.objects.order_by("id").values_list("user", "operation", "reason", "result")
        return [(user, operation, reason or result) for user, operation, reason, result in rows]

    return look
