"""How a server that started sealed gets its root key: a process collects shares on a Unix socket and hands the key on.

One line of JSON in, one out: `{"share": "KMS-SHARE-…"}` gives a share, `{"reset": true}` forgets them, `{}` asks.
The answer says how many were given and are needed, and whether the server is still sealed. Only the server's own user
and root may connect. The supervisor learns the key through a pipe, starts everything again with it, and keeps it for
the children that it will start later.
"""

import contextlib
import json
import logging
import os
import signal
import socket
from pathlib import Path
from typing import Any, Final

from django.db import DatabaseError, connections

from keystore import localsockets, sealing, shares, store, supervisor
from keystore.conf import Config
from keystore.sealing import SealingError

log = logging.getLogger(__name__)

#: Bytes of the longest line, and seconds that a client may take for it.
MAX_LINE: Final = 4096
TIMEOUT: Final = 10.0


class Collector:
    """The shares that were given so far."""

    def __init__(self) -> None:
        self._given: dict[int, shares.Share] = {}

    def add(self, text: str) -> bytes | None:
        """Take a share; the root key once there are enough. Raises `SealingError`, and `WrongRootKey` where all of them
        give another key than this database's: then they are forgotten."""
        share = shares.read(text)
        given = list(self._given.values())
        if given and share[:2] != given[0][:2]:
            raise SealingError("this share is of another root key than those given before")
        self._given[share.number] = share
        if len(self._given) < share.threshold:
            return None
        # First, so that a database that fails costs nobody their share.
        row = store.root_key()
        if row is None:
            raise SealingError("the database has no root key yet: run manage.py initrootkey")
        found, self._given = list(self._given.values()), {}
        root = shares.combine(found)
        if not sealing.fits(sealing.LocalProvider(root), *row):
            raise sealing.WrongRootKey(sealing.WRONG)
        return root

    def reset(self) -> None:
        """Forget every share."""
        self._given = {}

    def status(self) -> dict[str, Any]:
        """How far it is."""
        needed = next((share.threshold for share in self._given.values()), None)
        return {"sealed": True, "given": len(self._given), "needed": needed}


class Gate:
    """What the supervisor waits for while the server is sealed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)

    def child(self) -> supervisor.Child:
        """The process that collects shares."""
        return supervisor.Child("unseal", self._collect, sealed=True)

    def opened(self) -> bool:
        """Whether the root key has come; if so, this process has it from now on."""
        try:
            root = os.read(self._reader, sealing.KEY_LENGTH)
        except BlockingIOError:
            return False
        shares.give(root)
        sealing.reset()
        sealing.set_sealed(False)
        log.info("the server is unsealed")
        return True

    def _collect(self) -> None:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        root = serve(self._path)
        os.write(self._writer, root)


def serve(path: Path) -> bytes:
    """Collect shares on the socket until they give the root key."""
    collector = Collector()
    with localsockets.bind(path) as listener:
        supervisor.report_ready()
        log.warning("the server is sealed: it waits for shares on %s", path)
        try:
            while True:
                client, _ = listener.accept()
                with client, contextlib.suppress(OSError):
                    client.settimeout(TIMEOUT)
                    root = _answer(client, collector)
                    if root is not None:
                        return root
        finally:
            path.unlink(missing_ok=True)


def _answer(client: socket.socket, collector: Collector) -> bytes | None:
    """Answer one request; the root key where its share was the last one needed."""
    if not localsockets.is_ours(client):
        return None
    root = None
    with client.makefile("rwb") as stream:
        try:
            request = json.loads(stream.readline(MAX_LINE))
            if request.get("reset"):
                collector.reset()
            if request.get("share"):
                root = collector.add(str(request["share"]))
            answer = collector.status() if root is None else {"sealed": False, "given": 0, "needed": 0}
        except SealingError as exc:
            answer = {**collector.status(), "error": str(exc)}
        except DatabaseError:
            answer = {**collector.status(), "error": "the database cannot be reached"}
        except (ValueError, AttributeError):
            answer = {**collector.status(), "error": "this is not a request"}
        finally:
            connections.close_all()
        stream.write(json.dumps(answer).encode() + b"\n")
    return root


def ask(path: Path, request: dict[str, Any]) -> dict[str, Any]:
    """Send a request to the server that waits on the socket; raises `SealingError` where none does."""
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(TIMEOUT)
            client.connect(str(path))
            with client.makefile("rwb") as stream:
                stream.write(json.dumps(request).encode() + b"\n")
                stream.flush()
                answer: dict[str, Any] = json.loads(stream.readline(MAX_LINE))
                return answer
    except (OSError, ValueError) as exc:
        raise SealingError(f"no sealed server waits for shares on {path}") from exc


def gate(config: Config) -> Gate:
    """The gate of a server that starts sealed."""
    return Gate(Path(config.sealing.unseal_socket))
