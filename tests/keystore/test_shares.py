"""Shares of a root key, and the process that collects them."""

import itertools
import os
import re
import sqlite3
import subprocess
import sys
import threading

import httpx
import pytest

from keystore import sealing, shares, store, unsealing
from tests.processes import MANAGE, Running, environment, manage, until

PROVIDER = "keystore.shares.provider"


def test_any_threshold_of_the_shares_give_the_root_key_back():
    """Every combination does, and fewer do not."""
    root = os.urandom(32)
    given = [shares.read(text) for text in shares.split(root, shares=5, threshold=3)]
    for chosen in itertools.combinations(given, 3):
        assert shares.combine(chosen) == root
    for chosen in itertools.combinations(given, 2):
        with pytest.raises(sealing.SealingError):
            shares.combine(chosen)


@pytest.mark.parametrize("count, threshold", [(1, 1), (3, 1), (2, 3), (256, 2), (5, 0)])
def test_numbers_that_cannot_be_are_refused(count, threshold):
    """A share alone is never the root key."""
    with pytest.raises(sealing.SealingError):
        shares.split(bytes(32), shares=count, threshold=threshold)


@pytest.mark.parametrize(
    "change", [str.lower, lambda t: f" {t[:20]} {t[20:]}\n", lambda t: t.removeprefix(shares.PREFIX)]
)
def test_shares_are_read_as_people_write_them(change):
    """Case, blanks and the prefix do not matter."""
    text = shares.split(bytes(32), shares=2, threshold=2)[0]
    assert shares.read(change(text)) == shares.read(text)


@pytest.mark.parametrize(
    "change", [lambda t: t[:-3], lambda t: t[:30] + ("A" if t[30] != "A" else "B") + t[31:], lambda t: "x"]
)
def test_a_share_with_a_typing_error_is_refused(change):
    """It is told apart at once, before the others are given."""
    text = shares.split(bytes(32), shares=2, threshold=2)[0]
    with pytest.raises(sealing.SealingError):
        shares.read(change(text))


def test_a_share_does_not_show_itself():
    """Neither in logs nor in tracebacks."""
    share = shares.read(shares.split(os.urandom(32), shares=2, threshold=2)[0])
    assert share.value.hex() not in repr(share) and str(share.value) not in repr(share)


@pytest.mark.django_db(transaction=True)
def test_wrong_shares_start_over(tmp_path):
    """Shares of another root key are told apart; enough of them that give no fitting key are forgotten."""
    root = os.urandom(32)
    name = os.urandom(8)
    store.add_root_key(name, sealing.LocalProvider(root).wrap(name, sealing.ROOT_CHECK))
    path = tmp_path / "s"
    right, wrong = (shares.split(key, shares=3, threshold=2) for key in (root, os.urandom(32)))
    found = []
    thread = threading.Thread(target=lambda: found.append(unsealing.serve(path)))
    thread.start()
    until(path.exists, "the socket")
    assert path.stat().st_mode & 0o777 == 0o600

    def ask(**request):
        return until(lambda: _try(path, request), "an answer")

    assert ask(share=wrong[0]) == {"sealed": True, "given": 1, "needed": 2}
    assert "another root key" in ask(share=right[0])["error"]
    answer = ask(share=wrong[1])
    assert "not the one" in answer["error"] and answer["given"] == 0
    assert ask(share="nonsense")["error"]
    assert ask(share=right[0])["given"] == 1
    assert ask(share=right[0])["given"] == 1
    assert ask(reset=True)["given"] == 0
    assert ask(share=right[2])["given"] == 1
    assert ask(share=right[1])["sealed"] is False
    thread.join(10)
    assert found == [root] and not path.exists()


def _try(path, request):
    try:
        return unsealing.ask(path, request)
    except sealing.SealingError:
        return None


def test_a_server_starts_sealed_and_serves_once_enough_shares_are_given(tmp_path):
    """Health says `sealed`, everything else is refused; after the last share all is served, also by new processes."""
    settings = {"KMS_SEALING_PROVIDER": PROVIDER, "KMS_UNSEAL_SOCKET": str(tmp_path / "unseal.sock")}
    assert manage(tmp_path, "migrate", "-v0", **settings).returncode == 0
    texts = re.findall(
        r"KMS-SHARE-\w+", manage(tmp_path, "initrootkey", "--shares", "3", "--threshold", "2", **settings).stdout
    )
    assert len(texts) == 3
    with Running(tmp_path, "runkms", **settings) as server:
        url = f"http://127.0.0.1:{server.http_port}"
        health = httpx.get(url + "/health")
        assert health.status_code == 503 and health.json()["status"] == "sealed"
        for path in ("/kmip", "/kmip/2_1", "/version", "/ui/", "/"):
            refused = httpx.post(url + path, content=b"{}", headers={"Content-Type": "application/json"})
            assert refused.status_code == 503 and "sealed" in refused.text
        assert "1 of 2" in _unseal(tmp_path, texts[2], settings)
        assert "unsealed" in _unseal(tmp_path, texts[0], settings)
        until(lambda: _get(url + "/health") == 200, "health")
        assert httpx.get(url + "/version").status_code == 200
        assert not (tmp_path / "unseal.sock").exists()
        with sqlite3.connect(tmp_path / "kms.sqlite3") as database:
            told = database.execute("SELECT method FROM keystore_auditrecord WHERE operation = 'Unseal'").fetchall()
        assert told == [("local",)]
        log = "\n".join(server.err)
        assert not any(text[10:30] in log for text in texts)


def _unseal(folder, share, settings):
    done = subprocess.run(
        [sys.executable, str(MANAGE), "unseal"],
        cwd=folder,
        env=environment(folder, settings),
        input=share + "\n",
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.stdout + done.stderr


def _get(url):
    try:
        return httpx.get(url).status_code
    except httpx.HTTPError:
        return None
