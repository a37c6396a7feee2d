"""A root key in a PKCS#11 token, with SoftHSM2: wrong PIN, missing key, a token that is pulled out and comes back."""

import os
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from keystore import conf, engine, sealing, store, token
from keystore.authn import Peer
from kmip.attributes import Attributes
from kmip.enums import CryptographicAlgorithm, ObjectType, Operation, ResultReason
from kmip.errors import KMIPError
from kmip.payloads import CreateRequest, GetRequest
from tests.processes import manage, until

MODULES = [
    Path(folder) / "libsofthsm2.so" for folder in ("/usr/lib/softhsm", "/usr/lib64/softhsm", "/usr/local/lib/softhsm")
]
MODULE = next((path for path in MODULES if path.exists()), None)
pytest.importorskip("pkcs11", reason="python-pkcs11 is not installed")
pytestmark = pytest.mark.skipif(
    MODULE is None or shutil.which("softhsm2-util") is None, reason="SoftHSM2 is not installed (Debian: softhsm2)"
)

PROVIDER = "keystore.token.provider"
PIN, ALICE = "4711", Peer("cli", user="alice")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """SoftHSM2's own folder: the library reads its configuration once in a process."""
    folder = tmp_path_factory.mktemp("softhsm")
    (folder / "tokens").mkdir()
    (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder}/tokens\nlog.level = ERROR\n")
    before = os.environ.get("SOFTHSM2_CONF")
    os.environ["SOFTHSM2_CONF"] = str(folder / "softhsm2.conf")
    make(folder, "one")
    yield folder
    os.environ.pop("SOFTHSM2_CONF")
    if before is not None:
        os.environ["SOFTHSM2_CONF"] = before


def make(folder: Path, label: str) -> None:
    """Make a token."""
    command = ["softhsm2-util", "--init-token", "--free", "--label", label, "--pin", PIN, "--so-pin", "12345678"]
    subprocess.run(command, check=True, capture_output=True)


@pytest.fixture
def options(folder, configure):
    """Settings that name the token; forgotten afterwards."""

    def change(**more):
        configure(
            **{
                "sealing.provider": PROVIDER,
                "sealing.pkcs11_module": MODULE,
                "sealing.pkcs11_token": "one",
                "sealing.pkcs11_pin": PIN,
            }
            | {f"sealing.{name}": value for name, value in more.items()}
        )
        sealing.reset()
        store.rows.clear()
        return conf.current().sealing

    yield change
    sealing.reset()
    store.rows.clear()


def test_the_token_wraps_and_unwraps(options):
    """With the context bound, and the same root key at every start."""
    token.create_root_key(options())
    token.create_root_key(options())
    wrapped = token.provider(options()).wrap(b"k" * 32, b"context")
    assert b"k" * 32 not in wrapped
    assert token.provider(options()).unwrap(wrapped, b"context") == b"k" * 32
    with pytest.raises(sealing.WrongRootKey):
        token.provider(options()).unwrap(wrapped, b"another")
    changed = wrapped[:-1] + bytes([wrapped[-1] ^ 1])
    with pytest.raises(sealing.WrongRootKey):
        token.provider(options()).unwrap(changed, b"context")


def test_a_root_key_of_another_token_is_told_apart(options, folder):
    """It is a wrong root key, not a broken token."""
    token.create_root_key(options())
    wrapped = token.provider(options()).wrap(b"k" * 32, b"context")
    token.create_root_key(options(pkcs11_key="another"))
    with pytest.raises(sealing.WrongRootKey):
        token.provider(options(pkcs11_key="another")).unwrap(wrapped, b"context")


REFUSED = {
    "wrong PIN": ({"pkcs11_pin": "0000"}, "does not accept the PIN"),
    "no PIN": ({"pkcs11_pin": None}, "pkcs11_pin"),
    "no such token": ({"pkcs11_token": "none"}, "no token none"),
    "no such key": ({"pkcs11_key": "none"}, "no AES key with the label none"),
    "no such library": ({"pkcs11_module": Path("/nowhere.so")}, "cannot be loaded"),
    "no library": ({"pkcs11_module": None}, "pkcs11_module is missing"),
    "no PIN file": ({"pkcs11_pin_file": Path("/nowhere")}, "cannot read the PIN file"),
}


@pytest.mark.parametrize("changed, message", REFUSED.values(), ids=REFUSED)
def test_what_keeps_a_token_from_being_used_is_said(options, changed, message):
    """Each cause has its own message, which never shows the PIN."""
    with pytest.raises(token.TokenError, match=message) as caught:
        token.provider(options(**changed)).wrap(b"k", b"context")
    assert PIN not in str(caught.value) and "0000" not in str(caught.value)


@pytest.fixture
def away(folder):
    """Pull the token out, and plug it in again."""
    tokens, aside = folder / "tokens", folder / "aside"

    class Away:
        def out(self):
            tokens.rename(aside)

        def back(self):
            if aside.exists():
                aside.rename(tokens)

    yield Away()
    Away().back()


def test_a_token_that_comes_back_is_used_again(options, away):
    """While it is away each use says so; afterwards nobody needs to do anything."""
    token.create_root_key(options())
    provider = token.provider(options())
    wrapped = provider.wrap(b"k", b"context")
    away.out()
    for _ in range(2):
        with pytest.raises(token.TokenError) as caught:
            provider.unwrap(wrapped, b"context")
        assert not isinstance(caught.value, sealing.WrongRootKey)
    away.back()
    assert provider.unwrap(wrapped, b"context") == b"k"


def test_a_token_that_is_pulled_out_under_load(options, away):
    """Many threads get either their result or a clear error, never another's; all go on when it is back."""
    token.create_root_key(options())
    provider = token.provider(options())
    stop, failures, counts = threading.Event(), [], {"right": 0, "away": 0}

    def work(number: int) -> None:
        while not stop.is_set():
            try:
                key = bytes([number]) * 32
                if provider.unwrap(provider.wrap(key, b"context"), b"context") != key:
                    failures.append("another's result")
                counts["right"] += 1
            except token.TokenError:
                counts["away"] += 1
            except Exception as exc:
                failures.append(exc)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        before = counts["right"]
        until(lambda before=before: counts["right"] > before + 5, "work")
        away.out()
        lost = counts["away"]
        until(lambda lost=lost: counts["away"] > lost + 5, "errors")
        away.back()
    before = counts["right"]
    until(lambda: counts["right"] > before + 5, "recovery")
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_forked_process_has_a_connection_of_its_own(options):
    """As the children of the supervisor do."""
    token.create_root_key(options())
    provider = token.provider(options())
    wrapped = provider.wrap(b"k", b"context")
    pid = os.fork()
    if pid == 0:
        os._exit(0 if provider.unwrap(wrapped, b"context") == b"k" else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert provider.unwrap(wrapped, b"context") == b"k"


@pytest.mark.django_db(transaction=True)
def test_objects_are_sealed_under_a_root_key_in_a_token(options, away):
    """Keys that are open already serve on while the token is away; a process that must open them says what is wrong."""
    token.create_root_key(options())
    attributes = Attributes()
    attributes.cryptographic_algorithm = CryptographicAlgorithm.AES
    request = CreateRequest(object_type=ObjectType.SYMMETRIC_KEY, attributes=attributes)
    uid = engine.execute(Operation.CREATE, request, ALICE).unique_identifier

    def get():
        store.rows.clear()
        answer = engine.execute(Operation.GET, GetRequest(unique_identifier=uid), ALICE)
        return answer.symmetric_key.key_block.key_value.key_material

    before = get()
    away.out()
    assert get() == before
    sealing.reset()
    with pytest.raises(KMIPError) as caught:
        get()
    assert caught.value.reason is ResultReason.GENERAL_FAILURE
    assert caught.value.message == engine.AWAY
    away.back()
    assert get() == before


def test_commands_use_the_token(folder, tmp_path):
    """Made with initrootkey, checked at every start, and moved to with rotate-root."""
    settings = {
        "KMS_PKCS11_MODULE": str(MODULE),
        "KMS_PKCS11_TOKEN": "one",
        "KMS_PKCS11_PIN": PIN,
        "KMS_PKCS11_KEY": "commands",
    }
    inside = settings | {"KMS_SEALING_PROVIDER": PROVIDER}
    assert manage(tmp_path, "migrate", "-v0").returncode == 0
    assert manage(tmp_path, "backup", "c").returncode == 0
    assert manage(tmp_path, "initrootkey", **inside).returncode == 0
    refused = manage(tmp_path, "backup", "a", **inside)
    assert refused.returncode != 0 and "not the one" in refused.stderr
    moved = manage(tmp_path, "rotate-root", "--new-provider", PROVIDER, **settings)
    assert moved.returncode == 0, moved.stderr
    assert manage(tmp_path, "backup", "a", **inside).returncode == 0
    assert "not the one" in manage(tmp_path, "backup", "b").stderr
    wrong = manage(tmp_path, "runkms", **(inside | {"KMS_PKCS11_PIN": "0000"}))
    assert wrong.returncode == 2 and "does not accept the PIN" in wrong.stderr
