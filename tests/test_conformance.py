"""The OASIS test cases of the operations that are offered, played against the real server over mutual TLS.

The runner is not part of this project; the test skips where it and the cases are absent.
"""

import re
import subprocess
import sys

import pytest

from tests.processes import Running, manage
from tests.reference import REFERENCE

RUNNER = REFERENCE.parent / "tools" / "kmip_conformance" / "kmip_conformance.py"

#: Operations that the server carries out; a case with any other waits until that is offered.
OFFERED = frozenset(
    [
        "Create",
        "CreateKeyPair",
        "Register",
        "Locate",
        "Check",
        "Get",
        "GetAttributes",
        "GetAttributeList",
        "AddAttribute",
        "ModifyAttribute",
        "SetAttribute",
        "AdjustAttribute",
        "DeleteAttribute",
        "Activate",
        "Revoke",
        "Destroy",
        "Encrypt",
        "Decrypt",
        "Sign",
        "SignatureVerify",
        "MAC",
        "MACVerify",
        "RNGRetrieve",
        "RNGSeed",
        "Hash",
        "Query",
        "DiscoverVersions",
        "Interop",
        "Log",
        "Ping",
    ]
)
#: Cases of offered operations that need something else, and what.
WAITING = {
    "SASED-M-2-10": "Templates",
    "SASED-M-3-10": "Templates, made by SASED-M-2-10",
    "SASED-M-3-12": "what SASED-M-2-12 leaves behind when the cases before it are played too",
    "AX-M-2-14": "key wrapping in Get",
    "AX-M-2-21": "key wrapping in Get",
    "TC-WRAP-1-14": "key wrapping in Get",
    "TC-WRAP-2-14": "unwrapping in Get",
    "CS-BC-M-6-12": "a ciphertext that is not that of its key and data (1.4 has it right)",
    "CS-BC-M-GCM-3-14": "streams",
    "CS-BC-M-GCM-3-21": "streams",
    "CS-RNG-O-1": "a server that takes seeds; CS-RNG-O-3 is the one that this is",
    "CS-RNG-O-2": "a server that takes parts of seeds",
    "CS-RNG-O-4": "a server that refuses seeds",
    "TC-CERTATTR-1-14": "the Digest of a certificate as of format Raw",
    "SUITEB_128-M-1-10": "Query lists Re-key",
    "SUITEB_192-M-1-10": "Query lists Re-key",
    "SUITEB_128-M-1-12": "Query lists Re-key",
    "SUITEB_192-M-1-12": "Query lists Re-key",
    "SUITEB_128-M-1-14": "Query lists Re-key",
    "SUITEB_192-M-1-14": "Query lists Re-key",
}


def playable(version: str) -> list[str]:
    """The files of a version whose requests use only what is offered."""
    found = []
    for path in sorted((REFERENCE / "testcases" / version).glob("*/*.xml")):
        text = path.read_text(encoding="utf-8")
        used = set(re.findall(r'<BatchItem>\s*<Operation type="Enumeration" value="(\w+)"', text))
        waits = path.stem in WAITING or path.stem.rpartition("-")[0] in WAITING
        if used <= OFFERED and not waits and not re.match("TC-Q-|MSGENC-|TC-CREG|TC-OTP|TC-STREAM", path.stem):
            found.append(str(path))
    return found


@pytest.mark.skipif(not RUNNER.is_file(), reason=f"the conformance runner is not at {RUNNER}; set KMIP_REFERENCE")
def test_the_oasis_cases_of_the_operations_offered_pass(tmp_path):
    """Every case of 1.0, 1.2, 1.4 and 2.1 that needs nothing else passes."""
    made = manage(tmp_path, "initpki", "--folder", "pki", "--client", "alice", "--write-config", "kms.toml")
    assert made.returncode == 0, made.stderr
    cases = [case for version in ("1.0", "1.2", "1.4", "2.1") for case in playable(version)]
    assert len(cases) > 200
    with Running(tmp_path, KMS_CONFIG=str(tmp_path / "kms.toml"), KMS_POLICY="permissive") as server:
        command = [sys.executable, str(RUNNER), "--host", "127.0.0.1", "--port", str(server.kmip_port)]
        command += ["--ca", "pki/ca.pem", "--cert", "pki/client.pem", "--key", "pki/client.key"]
        done = subprocess.run([*command, *cases], cwd=tmp_path, capture_output=True, text=True, timeout=240)
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAIL")]
    assert done.returncode == 0 and not failed, "\n".join(failed) or done.stderr
    passed = sum(line.startswith("PASS") for line in done.stdout.splitlines())
    assert passed > 200
