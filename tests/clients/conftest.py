"""A real server with mutual TLS for the clients, its certificates made by `initpki`."""

from pathlib import Path
from typing import NamedTuple

import pytest

from tests.processes import Running, manage


class Server(NamedTuple):
    """Where a started server listens, and the files that a client needs."""

    port: int
    https: int
    ca: Path
    certificate: Path
    key: Path
    folder: Path


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """A server that stays up for all client tests."""
    folder = tmp_path_factory.mktemp("server")
    done = manage(folder, "initpki", "--folder", "pki", "--client", "alice", "--write-config", "kms.toml")
    assert done.returncode == 0, done.stderr
    with Running(folder, KMS_CONFIG=str(folder / "kms.toml"), KMS_POLICY="permissive") as running:
        port, https = running.kmip_port, running.http_port
        yield Server(port, https, folder / "pki/ca.pem", folder / "pki/client.pem", folder / "pki/client.key", folder)
