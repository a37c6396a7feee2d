"""The canary itself: it must notice a key wherever it gets out, or its silence says nothing."""

import base64
import logging

import pytest

from keystore import audit, conf, engine, sealing, version
from keystore.authn import Peer
from kmip.enums import Operation, ResultReason
from kmip.errors import KMIPError
from kmip.payloads import ActivateRequest, ActivateResponse, GetRequest
from tests.authority import do, sealed  # noqa: F401 - a fixture among them
from tests.canary import Canary
from tests.made import created, material
from tests.using import A, pair

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("sealed")]


def caught(canary: Canary) -> str:
    """What the canary says; it forgets it then, or the test that shows it would fail."""
    with pytest.raises(AssertionError) as found:
        canary.check()
    canary.texts.clear()
    canary.answers.clear()
    return str(found.value)


def logged(key):
    logging.getLogger("keystore.x").info("using %s", key.hex().upper())


def logged_with_its_traceback(key):
    try:
        raise ValueError(key)
    except ValueError:
        logging.getLogger("keystore.x").exception("failed")


def refused(key):
    KMIPError(ResultReason.INVALID_FIELD, f"{base64.b64encode(key).decode()} is no key")


def recorded(key):
    since = {"result": "Success", "reason": "", "since": 0}
    audit.entry(None, Peer("cli"), protocol="2.1", operation="Get", uid="x", **since, detail=key.hex())


@pytest.mark.parametrize("leak", [logged, logged_with_its_traceback, refused, recorded])
def test_a_key_in_a_text_is_noticed(watched, leak):
    leak(material(created()))
    assert "a key is in: " in caught(watched)


def test_a_key_in_an_answer_is_noticed(watched, monkeypatch):
    """Of an operation that has none to give; Get may."""
    uid = created()
    key = material(uid)
    watched.check()
    handler = engine.HANDLERS[Operation.ACTIVATE]
    leaking = handler._replace(handle=lambda call, request: ActivateResponse(unique_identifier=key.decode("latin-1")))
    monkeypatch.setitem(engine.HANDLERS, Operation.ACTIVATE, leaking)
    watched.hide(key.decode("latin-1").encode())
    do(Operation.ACTIVATE, ActivateRequest(unique_identifier=uid))
    assert caught(watched) == "a key is in the answer of Activate"


def test_a_key_in_a_page_is_noticed(watched, client, monkeypatch):
    """Of one that nobody asked to give it out."""
    key = material(created())
    client.get("/version")
    watched.check()
    monkeypatch.setattr(version, "VERSION", key.hex())
    client.get("/version")
    assert key.hex() in caught(watched)


@pytest.mark.parametrize(("algorithm", "length"), [(A.RSA, 1024), (A.EC, 256), (A.ED25519, None)])
def test_the_secret_numbers_of_a_private_key_are_known(watched, configure, algorithm, length):
    """Whatever the format that it is stored in; those of the public key are no secret."""
    configure(**{"crypto.policy": "permissive"})
    before = set(watched.secrets)
    private, public = pair(algorithm, length)
    found = watched.secrets - before
    assert found
    for uid, secret in ((private, True), (public, False)):
        answer = do(Operation.GET, GetRequest(unique_identifier=uid, key_format_type=None))
        block = getattr(answer, answer.object_type.name.lower()).key_block
        assert (str(block.key_value.key_material) != "") and block.key_wrapping_data is None
        assert secret or not any(one in repr(block).encode() for one in found)


def test_the_keys_that_seal_are_known(watched):
    """The root key, and the sealing keys under it."""
    material(created())
    root = bytes.fromhex(conf.current().sealing.root_key_file.read_text())
    assert watched.secrets >= {root, *sealing.sealer()._keys.values()}
