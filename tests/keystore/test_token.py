"""A root key in a PKCS#11 token, with SoftHSM2: wrong PIN, missing key, a token that is pulled out and comes back."""

import os
import threading
from pathlib import Path

import pytest

from keystore import engine, sealing, store, token
from keystore.authn import Peer
from kmip.attributes import Attributes
from kmip.enums import CryptographicAlgorithm, ObjectType, Operation, ResultReason
from kmip.errors import KMIPError
from kmip.payloads import CreateRequest, GetRequest
from tests.processes import manage, until
from tests.softhsm import MODULE, PIN, PROVIDER, needed

pytest.importorskip("pkcs11", reason="python-pkcs11 is not installed")
pytestmark = needed

ALICE = Peer("cli", user="alice")


def test_the_token_wraps_and_unwraps(hsm):
    """With the context bound, and the same root key at every start."""
    token.create_root_key(hsm())
    token.create_root_key(hsm())
    wrapped = token.provider(hsm()).wrap(b"k" * 32, b"context")
    assert b"k" * 32 not in wrapped
    assert token.provider(hsm()).unwrap(wrapped, b"context") == b"k" * 32
    with pytest.raises(sealing.WrongRootKey):
        token.provider(hsm()).unwrap(wrapped, b"another")
    changed = wrapped[:-1] + bytes([wrapped[-1] ^ 1])
    with pytest.raises(sealing.WrongRootKey):
        token.provider(hsm()).unwrap(changed, b"context")


def test_a_root_key_of_another_token_is_told_apart(hsm):
    """It is a wrong root key, not a broken token."""
    token.create_root_key(hsm())
    wrapped = token.provider(hsm()).wrap(b"k" * 32, b"context")
    token.create_root_key(hsm(pkcs11_key="another"))
    with pytest.raises(sealing.WrongRootKey):
        token.provider(hsm(pkcs11_key="another")).unwrap(wrapped, b"context")


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
def test_what_keeps_a_token_from_being_used_is_said(hsm, changed, message):
    """Each cause has its own message, which never shows the PIN."""
    with pytest.raises(token.TokenError, match=message) as caught:
        token.provider(hsm(**changed)).wrap(b"k", b"context")
    assert PIN not in str(caught.value) and "0000" not in str(caught.value)


def test_a_token_that_comes_back_is_used_again(hsm, away):
    """While it is away each use says so; afterwards nobody needs to do anything."""
    token.create_root_key(hsm())
    provider = token.provider(hsm())
    wrapped = provider.wrap(b"k", b"context")
    away.out()
    for _ in range(2):
        with pytest.raises(token.TokenError) as caught:
            provider.unwrap(wrapped, b"context")
        assert not isinstance(caught.value, sealing.WrongRootKey)
    away.back()
    assert provider.unwrap(wrapped, b"context") == b"k"


def test_a_token_that_is_pulled_out_under_load(hsm, away):
    """Many threads get either their result or a clear error, never another's; all go on when it is back."""
    token.create_root_key(hsm())
    provider = token.provider(hsm())
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


def test_a_forked_process_has_a_connection_of_its_own(hsm):
    """As the children of the supervisor do."""
    token.create_root_key(hsm())
    provider = token.provider(hsm())
    wrapped = provider.wrap(b"k", b"context")
    pid = os.fork()
    if pid == 0:
        os._exit(0 if provider.unwrap(wrapped, b"context") == b"k" else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert provider.unwrap(wrapped, b"context") == b"k"


@pytest.mark.django_db(transaction=True)
def test_objects_are_sealed_under_a_root_key_in_a_token(hsm, away):
    """Keys that are open already serve on while the token is away; a process that must open them says what is wrong."""
    token.create_root_key(hsm())
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


def test_commands_use_the_token(hsm_folder, tmp_path):
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
