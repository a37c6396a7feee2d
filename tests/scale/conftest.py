"""Clusters of real servers on the database server that DATABASE_URL names, as in `make test-db`."""

import os
from collections.abc import Iterator

import pytest

from tests import databases
from tests.nodes import Cluster, cluster

#: Seconds that outages last beyond what the tests need to see them.
OUTAGE = float(os.environ.get("TEST_OUTAGE", "0"))


@pytest.fixture(scope="session")
def given() -> str:
    """The URL of a database server that several nodes can share."""
    given = os.environ.get("DATABASE_URL", "")
    if not given.startswith(("postgres", "mysql", "mariadb")):
        pytest.skip("several nodes need PostgreSQL or MariaDB in DATABASE_URL: see make test-db")
    return given


@pytest.fixture(scope="session")
def url(given) -> Iterator[str]:
    """A database on it."""
    with databases.own(given) as made:
        yield made


@pytest.fixture(scope="module")
def private(given) -> Iterator[databases.Private]:
    """A server of the same kind that the test may stop."""
    kind = databases.kind(given)
    if missing := kind.missing():
        pytest.skip(f"a server of one's own needs {', '.join(missing)}")
    with kind() as made:
        yield made


@pytest.fixture(scope="session")
def nodes(url, tmp_path_factory) -> Iterator[Cluster]:
    """Two nodes for all tests; who kills one starts another."""
    with cluster(tmp_path_factory.mktemp("nodes"), url) as made:
        made.start(2)
        yield made
