"""PyKMIP's client against the real server over mutual TLS."""

import subprocess
import sys
from pathlib import Path

import pytest

SESSION = Path(__file__).with_name("pykmip_session.py")
STEPS = ["create", "register", "get", "get attributes", "locate", "activate", "revoke", "destroy"]


@pytest.mark.parametrize("version", ["KMIP_1_2", "KMIP_2_0"])
def test_a_session_of_pykmip_s_client_goes_through(server, tmp_path, version):
    """Create, register, get, get attributes, locate, activate, revoke, destroy, and an active key stays."""
    arguments = [str(server.port), str(server.ca), str(server.certificate), str(server.key), version]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(SESSION), *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.split("\n")[:-1] == STEPS, done.stderr[-2000:]
