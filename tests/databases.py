"""Databases for servers of tests: one of its own on a server that is there, so that the one of the URL stays clean."""

import contextlib
import uuid
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

import psycopg
import pymysql


def is_postgresql(url: str) -> bool:
    return url.startswith("postgres")


@contextlib.contextmanager
def connected(url: str, database: str | None = None) -> Iterator[Any]:
    """A cursor on the server of a URL, each of whose statements counts at once."""
    parts = urlsplit(url)
    name = database or parts.path.strip("/")
    account: dict[str, Any] = {"host": parts.hostname, "user": parts.username}
    if parts.port:
        account["port"] = parts.port
    if parts.password:
        account["password"] = unquote(parts.password)
    if is_postgresql(url):
        connection: Any = psycopg.connect(dbname=name or "postgres", autocommit=True, connect_timeout=20, **account)
    else:
        connection = pymysql.connect(database=name or None, autocommit=True, connect_timeout=20, **account)
    with contextlib.closing(connection), connection.cursor() as cursor:
        yield cursor


@contextlib.contextmanager
def own(url: str) -> Iterator[str]:
    """The URL of a new database on the server of another; it is gone at the end."""
    parts, name = urlsplit(url), f"kms_{uuid.uuid4().hex[:12]}"
    system = "postgres" if is_postgresql(url) else "mysql"
    with connected(url, system) as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
    try:
        yield urlunsplit(parts._replace(path=f"/{name}"))
    finally:
        with connected(url, system) as cursor:
            # A server that was killed may not have been missed yet.
            cursor.execute(f"DROP DATABASE {name}" + (" WITH (FORCE)" if is_postgresql(url) else ""))
