"""Clusters of real servers on the database server that DATABASE_URL names, as in `make test-db`."""

import os
from collections.abc import Iterator

import pytest

from tests import databases
from tests.nodes import Cluster, cluster


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A database that several nodes can share."""
    given = os.environ.get("DATABASE_URL", "")
    if not given.startswith(("postgres", "mysql", "mariadb")):
        pytest.skip("several nodes need PostgreSQL or MariaDB in DATABASE_URL: see make test-db")
    with databases.own(given) as made:
        yield made


@pytest.fixture(scope="module")
def nodes(url, tmp_path_factory) -> Iterator[Cluster]:
    """Two nodes; who kills one starts another."""
    with cluster(tmp_path_factory.mktemp("nodes"), url) as made:
        made.start(2)
        yield made
