"""The OASIS test cases, played against the real server: every case of 1.0 to 2.1 over TLS, those of message encodings
over HTTPS, and all of 2.1 as XML and JSON over HTTPS besides.

The runner and the cases are not part of this project; the tests skip where they are absent. What the runner skips, it
skips for the reasons below, and tests of our own cover it.
"""

import subprocess
import sys

import orjson
import pytest

from tests.reference import REFERENCE

RUNNER = REFERENCE.parent / "tools" / "kmip_conformance" / "kmip_conformance.py"
CASES = sorted(
    path for version in ("1.0", "1.2", "1.4", "2.1") for path in REFERENCE.glob(f"testcases/{version}/*/*.xml")
)
pytestmark = pytest.mark.skipif(not RUNNER.is_file(), reason=f"there is no {RUNNER}; set KMIP_REFERENCE")

#: Cases that wait for something else than an operation, and for what.
WAITING = {
    "TC-Q-CAP": "attestation: the only capabilities published have it, or have no streams",
}
#: Cases that no server passes: in this one the published ciphertext is not that of the plaintext. 1.4 has it right.
MISPRINTED = {"CS-BC-M-6-12": "Encrypt"}
#: What the runner leaves out.
LEFT_OUT = {
    "TC-NP-": "the server is the requester",
    "TC-Q-S2C-": "the server is the requester",
    "TC-OTP-": "needs accounts on the server beforehand",
    "TC-CREG-": "needs accounts on the server beforehand",
    "CS-RNG-O-": "describes one of several configurations",
    "TC-Q-": "describes one of several configurations",
}
TRANSPORTS = {"ttlv": [], "https-xml": ["--transport", "https", "--encoding", "xml"],
              "https-json": ["--transport", "https", "--encoding", "json"]}  # fmt: skip


def lacks(path):
    """What a case needs that is not there yet."""
    return next((why for name, why in WAITING.items() if path.stem.startswith(name)), "")


@pytest.fixture(scope="module")
def played(empty_server, tmp_path_factory):
    """Plays all cases over a transport at once, and remembers how they ended."""
    known, server = {}, empty_server

    def play(transport, cases):
        if transport not in known:
            folder = tmp_path_factory.mktemp(transport)
            command = [sys.executable, str(RUNNER), "--host", "127.0.0.1", "--port", str(server.port), "--quiet"]
            command += ["--ca", str(server.ca), "--cert", str(server.certificate), "--key", str(server.key)]
            command += ["--url", f"https://127.0.0.1:{server.https}/kmip", "--json", str(folder / "out.json")]
            command += [*TRANSPORTS[transport], *map(str, cases)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=300)
            assert done.returncode in (0, 1), done.stderr
            known[transport] = {
                case["file"]: case for case in orjson.loads((folder / "out.json").read_bytes())["cases"]
            }
        return known[transport]

    return play


def judge(case, path):
    missing = lacks(path)
    if case["status"] == "SKIP":
        assert any(path.stem.startswith(name) for name in LEFT_OUT), case["message"]
        pytest.skip(case["message"][:200])
    if path.stem in MISPRINTED:
        assert (case["status"], case["operation"]) == ("FAIL", MISPRINTED[path.stem])
        return
    if missing and case["status"] == "FAIL":
        pytest.skip(f"waits for {missing}")
    assert case["status"] == "PASS", f"step {case['step']} {case['operation']} {case['path']}: {case['message']}"


def names(cases):
    return [f"{path.parts[-3]}-{path.stem}" for path in cases]


@pytest.mark.parametrize("path", CASES, ids=names(CASES))
def test_every_case_passes_over_tls(played, path):
    cases = played("ttlv", CASES)
    if str(path) not in cases:
        pytest.skip("the same case stands in another folder, too")
    judge(cases[str(path)], path)


NEWEST = [path for path in CASES if path.parts[-3] == "2.1"]


@pytest.mark.parametrize("transport", ["https-xml", "https-json"])
@pytest.mark.parametrize("path", NEWEST, ids=names(NEWEST))
def test_every_case_of_2_1_passes_over_https(played, transport, path):
    judge(played(transport, NEWEST)[str(path)], path)
