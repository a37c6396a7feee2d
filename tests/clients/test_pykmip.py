"""PyKMIP's client against the real server over mutual TLS: everything that it can send, in the versions it speaks."""

import subprocess
import sys
from pathlib import Path

import pytest

SESSION = Path(__file__).with_name("pykmip_session.py")
FIRST = ["create", "create_key_pair", "register", "get", "get_attributes", "get_attribute_list", "locate",
         "modify_attribute"]  # fmt: skip
SECOND = ["delete_attribute", "check", "activate"]
USES = ["encrypt", "sign", "mac"]
LAST = ["rekey", "destroy_active", "revoke", "destroy"]
STEPS = {
    "KMIP_1_0": [*FIRST, *SECOND, "derive_key", *LAST],
    "KMIP_1_1": [*FIRST, *SECOND, "derive_key", "wrap", *LAST],
    "KMIP_1_2": [*FIRST, *SECOND, *USES, "derive_key", "wrap", *LAST],
    "KMIP_1_4": [*FIRST, *SECOND, *USES, "derive_key", "wrap", *LAST],
    "KMIP_2_0": [*FIRST, "set_attribute", *SECOND, *USES, "derive_key", "wrap", *LAST],
}


@pytest.mark.parametrize("version", STEPS)
def test_a_session_of_pykmip_s_client_goes_through(server, tmp_path, version):
    """Every operation of the client, and the refusals that it tells apart."""
    arguments = [str(server.port), str(server.ca), str(server.certificate), str(server.key), version]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(SESSION), *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.split("\n")[:-1] == STEPS[version], done.stderr[-2000:]
