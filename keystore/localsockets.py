"""Unix sockets between processes of one machine, which nobody but the server's own user and root may use."""

import os
import socket
import struct
from pathlib import Path
from typing import Final

#: Process, user and group of the other end.
_CREDENTIALS: Final = struct.Struct("3i")
BACKLOG: Final = 128


def bind(path: Path) -> socket.socket:
    """A socket that listens at a path, in the place of one that a killed process has left; its folder is made."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    mask = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(mask)
    listener.listen(BACKLOG)
    return listener


def is_ours(connection: socket.socket) -> bool:
    """Whether a connection comes from the server's own user or from root."""
    found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return _CREDENTIALS.unpack(found)[1] in (0, os.getuid())
