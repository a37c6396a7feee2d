"""Sockets between processes of one machine: whom they let in."""

import os
import socket
import stat

import pytest

from keystore import localsockets

NOBODY = 65534


def test_a_socket_takes_the_place_of_one_that_was_left_and_is_its_owner_s_alone(tmp_path):
    """Also where umask would let everybody connect."""
    path = tmp_path / "run" / "a.sock"
    before = os.umask(0)
    try:
        localsockets.bind(path).close()
        listener = localsockets.bind(path)
    finally:
        os.umask(before)
    with listener, socket.socket(socket.AF_UNIX) as client:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        client.connect(str(path))
        accepted, _ = listener.accept()
        with accepted:
            assert localsockets.is_ours(accepted)


@pytest.mark.skipif(os.geteuid() != 0, reason="takes root, who may be somebody else")
def test_another_user_is_not_ours(monkeypatch):
    """Whoever gets at the socket all the same."""
    os.seteuid(NOBODY)
    try:
        ours, theirs = socket.socketpair()
    finally:
        os.seteuid(0)
    with ours, theirs:
        assert not localsockets.is_ours(ours)
        monkeypatch.setattr(os, "getuid", lambda: NOBODY)
        assert localsockets.is_ours(ours)
