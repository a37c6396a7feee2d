"""Starts what is measured: the server, an empty view under the same gunicorn, two floors, and PyKMIP's server."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import venv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, pkcs12

from benchmarks import load

ROOT: Final = Path(__file__).resolve().parent.parent
#: Made once and kept: PyKMIP's environment, and databases that take long to fill.
BUILD: Final = ROOT / "build" / "bench"
PYKMIP: Final = "PyKMIP==0.11.0"
#: Seconds that a server may take to start, and to stop.
START: Final = 60.0
STOP: Final = 30.0


@dataclass(frozen=True)
class Server:
    """A running server: its first process, where its ports are, its files and how it was told of them."""

    pid: int
    kmip: load.Target
    http: load.Target
    folder: Path
    environment: Mapping[str, str]

    def processes(self) -> set[int]:
        """All its processes."""
        return load.tree(self.pid)

    def serving(self, target: load.Target) -> int:
        """The process that answers a new connection to one of its ports."""
        with load.connect(target, load.context(target)) as connection:
            ends = f":{target.port:04X} ", f":{connection.getsockname()[1]:04X} "
            lines = Path("/proc/net/tcp").read_text().splitlines()
            # Local address, remote address, ..., inode: the line of the server's end.
            inode = next(line.split()[9] for line in lines if 0 < line.find(ends[0]) < line.find(ends[1]))
            wanted = f"socket:[{inode}]"
            for pid in self.processes():
                if any(_leads_to(file, wanted) for file in Path(f"/proc/{pid}/fd").glob("*")):
                    return pid
        raise ConnectionError("no process of the server has the connection")


def _leads_to(file: Path, wanted: str) -> bool:
    """Whether an open file is this one; files come and go."""
    with contextlib.suppress(OSError):
        return str(file.readlink()) == wanted
    return False


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def environment(folder: Path, **settings: str) -> dict[str, str]:
    """The environment of a server whose files are all in a folder."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("KMS_", "DJANGO_", "DATABASE_"))}
    own = {
        "KMS_SQLITE_PATH": str(folder),
        "KMS_ROOT_KEY_FILE": str(folder / "root.key"),
        # Relative, since the path of a socket is short.
        "KMS_RUNTIME_FOLDER": ".",
        "KMS_CHECKPOINT_FILE": str(folder / "audit-checkpoints.jsonl"),
        "KMS_POLICY": "permissive",
        "KMS_LEVEL": "WARNING",
        "KMS_HTTP_WORKERS": "1",
        "KMS_SOCKET_SERVER_WORKERS": "1",
    }
    if (folder / "kms.toml").exists():
        own["KMS_CONFIG"] = str(folder / "kms.toml")
    return kept | own | settings


def manage(folder: Path, *arguments: str, **settings: str) -> str:
    """What a management command prints."""
    done = subprocess.run(
        [sys.executable, ROOT / "manage.py", *arguments],
        cwd=folder,
        env=environment(folder, **settings),
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return done.stdout


def prepare(folder: Path, **settings: str) -> None:
    """Make certificates, configuration, root key and the tables of a server, where they are not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "kms.toml").exists():
        arguments = ("--folder", str(folder), "--client", "bench", "--write-config", str(folder / "kms.toml"))
        manage(folder, "initpki", *arguments)
        manage(folder, "initrootkey", **settings)
    manage(folder, "migrate", "--verbosity", "0", **settings)


def client_of(folder: Path, port: int, *, http: bool = False) -> load.Target:
    """The client of a folder's PKI, at a port."""
    return load.Target(port, folder / "ca.pem", folder / "client.pem", folder / "client.key", http)


@contextlib.contextmanager
def product(folder: Path, *, workers: int = 1, **settings: str) -> Iterator[Server]:
    """The server on a folder that `prepare` has seen, with SQLite in it unless `settings` name a database."""
    kmip, http = free_port(), free_port()
    ports = {"KMS_PORT": str(http), "KMS_SOCKET_SERVER_PORT": str(kmip), "KMS_SOCKET_SERVER_WORKERS": str(workers)}
    given = environment(folder, **ports, **settings)
    process = subprocess.Popen(
        [sys.executable, ROOT / "manage.py", "runkms"], cwd=folder, env=given, stdout=subprocess.DEVNULL
    )
    try:
        wait_for(kmip, process)
        wait_for(http, process)
        yield Server(process.pid, client_of(folder, kmip), client_of(folder, http, http=True), folder, given)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(STOP)


@contextlib.contextmanager
def empty(server: Server) -> Iterator[Server]:
    """A view that does nothing, under gunicorn with the settings, certificates and worker of a server."""
    port = free_port()
    given = dict(server.environment) | {
        "KMS_PORT": str(port),
        "DJANGO_SETTINGS_MODULE": "benchmarks.empty",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "gunicorn", "-c", ROOT / "kmsproject" / "gunicorn.py", "kmsproject.wsgi"]
    process = subprocess.Popen(command, cwd=server.folder, env=given, stdout=subprocess.DEVNULL)
    try:
        wait_for(port, process)
        target = client_of(server.folder, port, http=True)
        yield Server(process.pid, target, target, server.folder, given)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(STOP)


def credentials(folder: Path) -> tuple[Path, Path]:
    """The server's certificate and key as files, for servers that stand beside it."""
    certificate_file, key_file = folder / "beside.pem", folder / "beside.key"
    password = (folder / "server.p12.password").read_text().strip().encode()
    key, certificate, chain = pkcs12.load_key_and_certificates((folder / "server.p12").read_bytes(), password)
    assert key is not None and certificate is not None
    certificate_file.write_bytes(b"".join(one.public_bytes(Encoding.PEM) for one in (certificate, *chain)))
    descriptor = os.open(key_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return certificate_file, key_file


@contextlib.contextmanager
def _beside(
    folder: Path, port: int, command: list[str | Path], out: Path | None = None, **variables: str
) -> Iterator[Server]:
    """Another server with the certificates of a folder; what it says goes to `out`."""
    with (out or Path(os.devnull)).open("wb") as file:
        process = subprocess.Popen(
            command, cwd=folder, env={**os.environ, **variables}, stdout=file, stderr=subprocess.STDOUT if out else None
        )
    try:
        wait_for(port, process)
        target = client_of(folder, port)
        yield Server(process.pid, target, target, folder, {})
    finally:
        for pid in load.tree(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()


def echo(folder: Path) -> contextlib.AbstractContextManager[Server]:
    """TLS and a thread for each connection, and nothing else: what comes in goes out."""
    certificate, key = credentials(folder)
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.echo", port, certificate, key, folder / "ca.pem"]
    return _beside(folder, port, list(map(str, command)), PYTHONPATH=str(ROOT))


def floor(tool: Path, folder: Path) -> contextlib.AbstractContextManager[Server]:
    """The load generator's own server, which has an answer ready for every request."""
    certificate, key = credentials(folder)
    port = free_port()
    command = [sys.executable, tool, "--port", port, "--ca", folder / "ca.pem", "--serve-canned"]
    command += ["--server-cert", certificate, "--server-key", key, "--serve-seconds", 86_400]
    return _beside(folder, port, list(map(str, command)), PYTHONPATH=str(ROOT))


PYKMIP_CONFIG: Final = """[server]
hostname=127.0.0.1
port={port}
certificate_path={certificate}
key_path={key}
ca_path={folder}/ca.pem
auth_suite=TLS1.2
enable_tls_client_auth=True
logging_level=CRITICAL
database_path={folder}/pykmip.sqlite3
"""


def pykmip(folder: Path) -> contextlib.AbstractContextManager[Server]:
    """PyKMIP's server in an environment of its own, because its package has the name of one of ours."""
    own = BUILD / "pykmip"
    program = own / "bin" / "pykmip-server"
    if not program.exists():
        venv.create(own, with_pip=True)
        subprocess.run([own / "bin" / "pip", "install", "-q", "--disable-pip-version-check", PYKMIP], check=True)
    certificate, key = credentials(folder)
    port = free_port()
    config = folder / "pykmip.conf"
    config.write_text(PYKMIP_CONFIG.format(port=port, certificate=certificate, key=key, folder=folder))
    command: list[str | Path] = [program, "-f", config, "-l", folder / "pykmip.log"]
    return _beside(folder, port, command, folder / "pykmip.out")


def wait_for(port: int, process: "subprocess.Popen[bytes]") -> None:
    """Wait until a port answers; raises where the process ends before."""
    end = time.monotonic() + START
    while time.monotonic() < end:
        if process.poll() is not None:
            raise SystemExit(f"the server ended with status {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise SystemExit(f"the server did not start within {START:.0f} s")
