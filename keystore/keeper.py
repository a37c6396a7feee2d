"""The process that keeps the streams of a server, and how the others speak to it.

It knows no database and no message: over a Unix socket, which only the server's own user may open, it is given a key
and what to do with it, then one part after another. A frame is the length of a header in four bytes, the header as
JSON, and the byte strings whose lengths the header names, in its order:

    {"call": "go_on", "client": "default/alice", "uid": "…", "data": [16]} and the 16 bytes
"""

import atexit
import contextlib
import logging
import os
import queue
import signal
import socket
import socketserver
import stat
import struct
import time
from collections.abc import Callable
from io import BufferedIOBase
from pathlib import Path
from typing import Any, Final, NoReturn

import orjson

from keystore import localsockets, supervisor, tokenkeys, turns
from keystore.conf import Config
from keystore.crypto import keys
from keystore.crypto.algorithms import PrivateKey, PublicKey
from keystore.crypto.policy import CryptoPolicy, shortened
from keystore.streams import Key, Output, Streams, Task, use
from kmip import ttlv
from kmip.enums import CryptographicAlgorithm, Operation, ResultReason, ValidityIndicator
from kmip.errors import KMIPError
from kmip.schema import dump
from kmip.structures import CryptographicParameters
from kmip.tags import Tag
from kmip.versions import V2_1

Fields = dict[str, Any]
log = logging.getLogger(__name__)

#: Seconds between two looks for streams that have expired, and for the keeper's answer.
FORGET_SECONDS: Final = 10.0
ANSWER_SECONDS: Final = 60.0
#: Connections of a process that wait for the next part of any stream.
IDLE: Final = 8
_LENGTH = struct.Struct(">I")
_MAX_HEADER: Final = 65536


# Frames.


def write(file: BufferedIOBase, fields: Fields) -> None:
    """Write one frame."""
    plain, blobs = {}, []
    for name, value in fields.items():
        if isinstance(value, bytes):
            plain[name] = [len(value)]
            blobs.append(value)
        elif value is not None:
            plain[name] = value
    header = orjson.dumps(plain)
    file.write(_LENGTH.pack(len(header)) + header)
    for blob in blobs:
        file.write(blob)
    file.flush()


def read(file: BufferedIOBase) -> Fields | None:
    """Read one frame; None at the end. Raises `ValueError` for what is none."""
    first = file.read(1)
    if not first:
        return None
    size = _LENGTH.unpack(first + _exactly(file, _LENGTH.size - 1))[0]
    if size > _MAX_HEADER:
        raise ValueError("this is no frame")
    fields: Fields = orjson.loads(_exactly(file, size))
    for name, value in fields.items():
        if isinstance(value, list):
            fields[name] = _exactly(file, value[0])
    return fields


def _exactly(file: BufferedIOBase, size: int) -> bytes:
    data = file.read(size)
    if len(data) != size:
        raise ValueError("a frame is cut short")
    return data


def _fields_of(task: Task) -> Fields:
    kind, key = _key_of(task.key)
    parameters = task.parameters
    return {
        "operation": int(task.operation),
        "policy": {"name": task.policy.name, "lists": task.policy.lists},
        "kind": kind,
        "key": key,
        "algorithm": None if task.algorithm is None else int(task.algorithm),
        "parameters": parameters and ttlv.encode(dump(parameters, Tag.CRYPTOGRAPHIC_PARAMETERS, V2_1)),
        "iv": task.iv,
        "aad": task.aad,
        "tag": task.tag,
        "expected": task.expected,
    }


def _key_of(key: Any) -> tuple[str, bytes | None]:
    """A key as bytes, and what they are: of one in a token only where it is."""
    if isinstance(key, tokenkeys.InToken):
        return "token", key.pack()
    if isinstance(key, PrivateKey):
        return "private", keys.private_key(key).data
    if isinstance(key, PublicKey):
        return "public", keys.public_key(key).data
    return "bytes", key


_LOADERS: Final[dict[str, Callable[[bytes], Key]]] = {
    "bytes": lambda key: key,
    "private": keys.load_private,
    "public": keys.load_public,
    "token": lambda key: tokenkeys.opened(key)[0],
}


def _policy_of(name: str, lists: list[tuple[str, list[str]]]) -> CryptoPolicy:
    return shortened(name, tuple((one, tuple(entries)) for one, entries in lists))


def _task_of(fields: Fields) -> Task:
    algorithm, parameters, key = fields.get("algorithm"), fields.get("parameters"), fields.get("key")
    return Task(
        operation=Operation(fields["operation"]),
        policy=_policy_of(**fields["policy"]),
        key=None if key is None else _LOADERS[fields["kind"]](key),
        algorithm=None if algorithm is None else CryptographicAlgorithm(algorithm),
        parameters=None if parameters is None else CryptographicParameters.load(ttlv.decode(parameters)),
        iv=fields.get("iv"),
        aad=fields.get("aad"),
        tag=fields.get("tag"),
        expected=fields.get("expected"),
    )


# The keeper.


def answer(streams: Streams, fields: Fields) -> Fields:
    """What one frame is answered with."""
    client, correlation = fields["client"], fields.get("correlation", b"")
    try:
        if fields["call"] == "key_of":
            return {"uid": streams.key_of(client, correlation)}
        if fields["call"] == "begin":
            out = streams.begin(client, fields["uid"], _task_of(fields), fields["data"])
        else:
            out = streams.go_on(
                client,
                fields["uid"],
                Operation(fields["operation"]),
                correlation,
                fields["data"],
                last=fields["last"],
                expected=fields.get("expected"),
            )
    except KMIPError as exc:
        return {"reason": int(exc.reason), "message": exc.message}
    validity = None if out.validity is None else int(out.validity)
    return {"correlation": out.correlation, "data": out.data, "iv": out.iv, "tag": out.tag, "validity": validity}


class _Handler(socketserver.StreamRequestHandler):
    """One connection of another process of the server."""

    server: "_Server"
    wbufsize = -1

    def handle(self) -> None:
        """Answer frame after frame."""
        if not localsockets.is_ours(self.request):
            return
        try:
            while (fields := read(self.rfile)) is not None:
                write(self.wfile, answer(self.server.streams, fields))
        except (ValueError, KeyError, OSError) as exc:
            # The text of the exception may quote what was sent.
            log.error("a connection to the keeper of streams ended: %s", type(exc).__name__)


class _Server(socketserver.ThreadingUnixStreamServer):
    """Takes the connections on a socket that has been bound and listens already."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, listener: socket.socket, streams: Streams) -> None:
        super().__init__(str(listener.getsockname()), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.streams = streams
        self._forgotten = time.monotonic()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log a fault of ours; the stream has ended with it."""
        log.exception("a stream failed")

    def service_actions(self) -> None:
        """What is done twice a second."""
        supervisor.pulse.beat()
        if time.monotonic() - self._forgotten >= FORGET_SECONDS:
            self._forgotten = time.monotonic()
            self.streams.forget()


def serve(listener: socket.socket, streams: Streams) -> NoReturn:
    """Keep streams until the process is ended."""
    server = _Server(listener, streams)
    supervisor.report_ready()
    server.serve_forever(poll_interval=0.5)
    raise AssertionError("unreachable")


# The others.


class Remote:
    """The keeper as other processes have it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._idle: queue.LifoQueue[socket.socket] = queue.LifoQueue(IDLE)

    def begin(self, client: str, uid: str, task: Task, data: bytes) -> Output:
        """Begin a stream with its first part."""
        return _output(self._ask({"call": "begin", "client": client, "uid": uid, "data": data, **_fields_of(task)}))

    def go_on(
        self,
        client: str,
        uid: str,
        operation: Operation,
        correlation: bytes,
        data: bytes,
        *,
        last: bool,
        expected: bytes | None = None,
    ) -> Output:
        """Take the next part, or the last."""
        fields = {
            "call": "go_on",
            "client": client,
            "uid": uid,
            "operation": int(operation),
            "correlation": correlation,
            "data": data,
            "last": last,
            "expected": expected,
        }
        return _output(self._ask(fields))

    def key_of(self, client: str, correlation: bytes) -> str:
        """The identifier of the key that a stream uses."""
        return str(self._ask({"call": "key_of", "client": client, "correlation": correlation})["uid"])

    def _ask(self, fields: Fields) -> Fields:
        turns.leave()
        connection = self._connection()
        try:
            with connection.makefile("rwb") as file:
                write(file, fields)
                found = read(file)
        except (OSError, ValueError) as exc:
            connection.close()
            raise _absent() from exc
        if found is None:
            connection.close()
            raise _absent()
        try:
            self._idle.put_nowait(connection)
        except queue.Full:
            connection.close()
        if "reason" in found:
            raise KMIPError(ResultReason(found["reason"]), found["message"])
        return found

    def _connection(self) -> socket.socket:
        """An idle connection that the keeper has not closed, or a new one."""
        with contextlib.suppress(queue.Empty):
            while True:
                idle = self._idle.get_nowait()
                try:
                    idle.setblocking(False)
                    closed = idle.recv(1, socket.MSG_PEEK) == b""
                except BlockingIOError:
                    closed = False
                except OSError:
                    closed = True
                if not closed:
                    idle.settimeout(ANSWER_SECONDS)
                    return idle
                idle.close()
        made = socket.socket(socket.AF_UNIX)
        made.settimeout(ANSWER_SECONDS)
        try:
            made.connect(str(self._path))
        except OSError as exc:
            made.close()
            raise _absent() from exc
        return made


def _absent() -> KMIPError:
    return KMIPError(ResultReason.GENERAL_FAILURE, "the process that keeps streams does not answer")


def _output(fields: Fields) -> Output:
    validity = fields.get("validity")
    return Output(
        correlation=fields.get("correlation"),
        data=fields.get("data"),
        iv=fields.get("iv"),
        tag=fields.get("tag"),
        validity=None if validity is None else ValidityIndicator(validity),
    )


# Starting.


def children(config: Config) -> list[supervisor.Child]:
    """The keeper. Its socket listens before anything is forked, and outlives a keeper that has to be started again."""
    folder = config.server.runtime_folder
    _tidy(folder)
    path = folder / f"streams-{os.getpid()}.sock"
    listener = localsockets.bind(path)
    atexit.register(_remove, path, os.getpid())
    use(Remote(path))

    def run() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        serve(listener, Streams(config.crypto.max_streams, config.crypto.stream_timeout))

    return [supervisor.Child("streams", run)]


def _remove(path: Path, pid: int) -> None:
    # Forked children run what was registered before the fork, too.
    if os.getpid() == pid:
        path.unlink(missing_ok=True)


def _tidy(folder: Path) -> None:
    """Take away the sockets of servers that were killed."""
    for path in folder.glob("streams-*.sock"):
        pid = path.stem.partition("-")[2]
        if pid.isdigit() and stat.S_ISSOCK(path.lstat().st_mode) and not Path(f"/proc/{pid}").exists():
            path.unlink(missing_ok=True)
