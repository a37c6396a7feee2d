"""OpenSSL's command line, as others use it."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl command")


def tried(*arguments: Any, data: bytes = b"", cwd: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    """How a command ends; `data` is its standard input."""
    return subprocess.run(["openssl", *map(str, arguments)], input=data, capture_output=True, cwd=cwd, timeout=60)


def openssl(*arguments: Any, data: bytes = b"", cwd: Path | None = None) -> bytes:
    """What a command prints, which has to succeed."""
    done = tried(*arguments, data=data, cwd=cwd)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout
