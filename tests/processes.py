"""Starting the real server for a test, and finding out where it listens."""

import json
import os
import re
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

MANAGE = Path(__file__).resolve().parent.parent / "manage.py"
START_TIMEOUT = 60


def until(condition: Callable[[], object], what: str = "condition", timeout: float = 20) -> object:
    """Wait for a condition; its value."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError(f"not within {timeout} s: {what}")


def environment(folder: Path, settings: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process whose files are all in the folder."""
    root_key = folder / "root.key"
    if not root_key.exists():
        root_key.write_text(secrets.token_hex(32) + "\n")
        root_key.chmod(0o600)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("KMS_", "DJANGO_", "DATABASE_"))}
    own = {
        "KMS_SQLITE_PATH": str(folder),
        "KMS_ROOT_KEY_FILE": str(root_key),
        # Relative, since the path of a socket is short.
        "KMS_RUNTIME_FOLDER": ".",
        "KMS_CHECKPOINT_FILE": str(folder / "audit-checkpoints.jsonl"),
        "KMS_PORT": "0",
        "KMS_SOCKET_SERVER_PORT": "0",
        "KMS_HTTP_WORKERS": "1",
        "KMS_SOCKET_SERVER_WORKERS": "1",
    }
    return kept | own | settings


def manage(
    folder: Path, *arguments: str, timeout: float = 60, given: str | None = None, **settings: str
) -> subprocess.CompletedProcess[str]:
    """Run a management command to its end; `given` is what it reads."""
    return subprocess.run(
        [sys.executable, str(MANAGE), *arguments],
        cwd=folder,
        env=environment(folder, settings),
        input=given,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def below(pid: int) -> list[int]:
    """Every process that a process started, and those that they did."""
    found, queue = [], [pid]
    while queue:
        for listing in Path(f"/proc/{queue.pop()}/task").glob("*/children"):
            try:
                children = [int(number) for number in listing.read_text().split()]
            except OSError:
                continue
            found += children
            queue += children
    return found


class Manager:
    """Runs management commands one after another in a single process, which costs less than one process each."""

    PROGRAM = """
import io, json, sys
sys.path.insert(0, sys.argv[1])
import django
django.setup()
from django.core.management import call_command
for line in sys.stdin:
    out = io.StringIO()
    try:
        call_command(*json.loads(line), stdout=out)
        print(json.dumps([True, out.getvalue()]), flush=True)
    except Exception as exc:
        print(json.dumps([False, str(exc)]), flush=True)
"""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", self.PROGRAM, str(MANAGE.parent)],
            cwd=folder,
            env=environment(folder, {"DJANGO_SETTINGS_MODULE": "kmsproject.settings", **settings}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *arguments: str) -> str:
        """What a command prints; it has to succeed."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(arguments) + "\n")
        self.process.stdin.flush()
        well, out = json.loads(self.process.stdout.readline())
        assert well, out
        return str(out)

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(30)


class Running:
    """A started server; used as a context manager, it is stopped at the end."""

    def __init__(self, folder: Path, *arguments: str, command: list[str] | None = None, **settings: str) -> None:
        arguments = arguments or ("runkms", "--migrate")
        self.process = subprocess.Popen(
            command or [sys.executable, str(MANAGE), *arguments],
            cwd=folder,
            env=environment(folder, settings),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.out: list[str] = []
        self.err: list[str] = []
        for stream, lines in ((self.process.stdout, self.out), (self.process.stderr, self.err)):
            threading.Thread(target=self._copy, args=(stream, lines), daemon=True).start()

    @staticmethod
    def _copy(stream, lines: list[str]) -> None:
        with stream:
            for line in stream:
                lines.append(line.rstrip("\n"))

    def _find(self, pattern: str) -> str:
        def look() -> str | None:
            match = re.search(pattern, "\n".join(self.out))
            assert match or self.process.poll() is None, "\n".join(self.err)
            return match and match[1]

        return str(until(look, f"{pattern} in the output", START_TIMEOUT))

    @property
    def http_port(self) -> int:
        return int(self._find(r"HTTPS? on [\w.:]+:(\d+)"))

    @property
    def kmip_port(self) -> int:
        return int(self._find(r"KMIP on [\w.:]+:(\d+)"))

    def logged(self, text: str) -> None:
        """Wait until a line on standard error holds the text."""
        until(lambda: any(text in line for line in self.err), f"{text!r} in {self.err}")

    def children(self) -> list[int]:
        """Every process below this one."""
        return below(self.process.pid)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, and wait for the end; the exit status."""
        self.process.send_signal(number)
        return self.process.wait(30)

    def __enter__(self) -> "Running":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
