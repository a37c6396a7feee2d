"""The OASIS test cases, played against the real server: every case of 1.0 to 2.1 over TLS, those of message encodings
over HTTPS, and all of 2.1 as XML and JSON over HTTPS besides; and the cases as they are in the versions between, of
which there are no files.

The runner and the cases are not part of this project; the tests skip where they are absent. What the runner skips, it
skips for the reasons below, and tests of our own cover it.
"""

import subprocess
import sys

import orjson
import pytest

from tests.conformance.respelled import NotInThisVersionError, respelled
from tests.processes import manage
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
    "TC-OTP-": "needs a one-time pad that is on the server already, and uses it more than once",
    "TC-CREG-": "needs an account on the server beforehand: played with one below",
    "CS-RNG-O-": "describes one of several configurations",
    "TC-Q-": "describes one of several configurations",
}
TRANSPORTS = {"ttlv": [], "versions between": [], "https-xml": ["--transport", "https", "--encoding", "xml"],
              "https-json": ["--transport", "https", "--encoding", "json"]}  # fmt: skip


def lacks(path):
    """What a case needs that is not there yet."""
    return next((why for name, why in WAITING.items() if path.stem.startswith(name)), "")


@pytest.fixture(scope="module")
def played(empty_server, tmp_path_factory):
    """Plays all cases over a transport at once, and remembers how they ended."""
    known, server = {}, empty_server

    def play(transport, cases, *options):
        """How the cases ended, by file; the options are the runner's."""
        if (transport, *options) not in known:
            folder = tmp_path_factory.mktemp(transport)
            command = [sys.executable, str(RUNNER), "--host", "127.0.0.1", "--port", str(server.port), "--quiet"]
            command += ["--ca", str(server.ca), "--cert", str(server.certificate), "--key", str(server.key)]
            command += ["--url", f"https://127.0.0.1:{server.https}/kmip", "--json", str(folder / "out.json")]
            command += [*TRANSPORTS[transport], *options, *map(str, cases)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=900)
            assert done.returncode in (0, 1), done.stderr
            known[transport, *options] = {
                case["file"]: case for case in orjson.loads((folder / "out.json").read_bytes())["cases"]
            }
        return known[transport, *options]

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


#: Versions, and those whose cases are played in them. Cases of 1.4 go to 2.1 where there is none of that name.
BETWEEN = {"1.1": "1.2", "1.3": "1.4", "2.0": "2.1", "2.1": "1.4"}


def _between():
    for version, source in BETWEEN.items():
        for path in CASES:
            if path.parts[-3] != source or path.stem in MISPRINTED or path.stem.startswith("TC-Q-"):
                continue  # What a Query lists is that of its version.
            if not path.stem.endswith(source.replace(".", "")):
                continue  # Some stand among those of 1.4 and speak another version.
            name = f"{path.stem[:-2]}{version.replace('.', '')}"
            if not (version == "2.1" and any(one.stem == name for one in NEWEST)):
                yield pytest.param(path, version, name, id=f"{version}-{path.stem}")


BETWEEN_CASES = list(_between())


@pytest.fixture(scope="module")
def respelled_cases(tmp_path_factory):
    """The cases that can be said in the versions between, by folder of the version and name."""
    folder, found = tmp_path_factory.mktemp("respelled"), {}
    for path, version, name in (one.values for one in BETWEEN_CASES):
        target = folder / version / f"{name}.xml"
        target.parent.mkdir(exist_ok=True)
        try:
            target.write_bytes(respelled(path, version))
        except NotInThisVersionError as exc:
            found[version, name] = exc
        else:
            found[version, name] = target
    return found


@pytest.mark.parametrize("path, version, name", BETWEEN_CASES)
def test_cases_pass_in_the_versions_between(played, respelled_cases, path, version, name):
    target = respelled_cases[version, name]
    if isinstance(target, NotInThisVersionError):
        pytest.skip(str(target))
    cases = [one for one in respelled_cases.values() if not isinstance(one, NotInThisVersionError)]
    judge(played("versions between", cases)[str(target)], target)


def test_cases_of_a_registered_client_pass_with_its_account(played, empty_server):
    """TC-CREG: a user who comes with name and password, registers a key pair and its certificate, and takes them."""
    settings = {"KMS_CONFIG": str(empty_server.folder / "kms.toml")}
    for arguments, given in ((("add", "one-time-user"), None), (("password", "one-time-user"), "one-time-password\n")):
        done = manage(empty_server.folder, "user", *arguments, given=given, **settings)
        assert done.returncode == 0, done.stderr
    credentials = ["--auth-user", "one-time-user", "--auth-password", "one-time-password"]
    cases = [path for path in CASES if path.stem.startswith("TC-CREG-")]
    for case in played("ttlv", cases, "--preconfigured", "--no-cleanup", *credentials).values():
        assert case["status"] == "PASS", case
