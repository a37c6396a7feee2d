"""The start commands as processes: exit status, message, ports, protocols, signals, and what is left behind."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import ssl
import sys
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from benchmarks import messages
from kmip import ttlv, ttlv_xml
from kmip.versions import V2_1
from tests.certificates import CLIENT, PASSWORD, SERVER, Pki, make, revoke
from tests.keystore.test_checks import REFUSED, files  # noqa: F401 - a fixture
from tests.processes import MANAGE, Running, manage, until

GUNICORN = [
    str(Path(sys.executable).parent / "gunicorn"),
    "-c",
    str(MANAGE.parent / "kmsproject" / "gunicorn.py"),
    "kmsproject.wsgi",
]


@pytest.fixture(scope="module")
def pki(tmp_path_factory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


def get(port: int, path: str, context: ssl.SSLContext | None = None) -> tuple[int, object]:
    connection = (
        http.client.HTTPSConnection("localhost", port, context=context, timeout=10)
        if context
        else http.client.HTTPConnection("localhost", port, timeout=10)
    )
    with contextlib.closing(connection):
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


QUERY = b'{"tag":"Query","value":[{"tag":"QueryFunction","type":"Enumeration","value":"QueryOperations"}]}'
XML = ttlv_xml.encode(ttlv.decode(messages.query(V2_1)))
#: Path, media type, body and further headers: the last two authenticate by a header that is worth nothing, and none.
QUERIES = (
    ("/kmip", "application/octet-stream", messages.query(), {}),
    ("/kmip", "text/xml", XML, {}),
    ("/kmip/2_1", "application/json", QUERY, {"Authorization": "Bearer nothing"}),
    ("/kmip/2_1", "application/json", QUERY, {}),
)


def post(
    port: int, context: ssl.SSLContext, path: str, kind: str, body: bytes, headers: dict[str, str]
) -> tuple[int, bytes]:
    with contextlib.closing(http.client.HTTPSConnection("localhost", port, context=context, timeout=10)) as connection:
        connection.request("POST", path, body, {"Content-Type": kind} | headers)
        answer = connection.getresponse()
        return answer.status, answer.read()


def connected(port: int, context: ssl.SSLContext) -> ssl.SSLSocket:
    return context.wrap_socket(socket.create_connection(("localhost", port), timeout=10), server_hostname="localhost")


def speak(port: int, context: ssl.SSLContext) -> str:
    """The TLS version spoken on a port with these credentials, after something was refused or answered."""
    with connected(port, context) as connection:
        connection.sendall(b"x" * 8)
        assert connection.recv(1) is not None
        return str(connection.version())


def listening(pid: int) -> set[int]:
    """TCP ports on which a process listens."""
    inodes = {os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").iterdir() if fd.exists()}
    rows = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    return {int(row[1].split(":")[1], 16) for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in inodes}


# The start-rule table: what is given, and what listens.


def test_nothing_given_is_plain_http_on_this_machine(tmp_path):
    """HTTP on loopback, no KMIP, and one line that says what is missing for it."""
    with Running(tmp_path) as server:
        status, body = get(server.http_port, "/health")
        assert (status, body["status"]) == (200, "UP")
        assert "kmip" not in body["dependencies"]
        assert server.out[0].startswith("HTTP on 127.0.0.1:")
        server.logged("KMIP listener not started: tls.tls_p12_file with its password and tls.clients_ca_cert_file")
        assert len([line for line in server.err if "KMIP listener not started" in line]) == 1
        assert len(server.out) == 1


def test_pkcs12_is_https_without_kmip(tmp_path, pki):
    """HTTPS without client certificates, and the line names the missing CA."""
    settings = {"KMS_TLS_P12_FILE": pki.p12_file, "KMS_TLS_P12_PASSWORD": PASSWORD}
    with Running(tmp_path, **settings) as server:
        assert get(server.http_port, "/version", pki.client_context(anonymous=True)) == (200, "0.1.0")
        assert server.out[0].startswith("HTTPS on 0.0.0.0:")
        server.logged("KMIP listener not started: tls.clients_ca_cert_file is missing")
        with pytest.raises((OSError, http.client.HTTPException)):
            get(server.http_port, "/version")


@pytest.mark.parametrize("source", ["PKCS#12", "PEM"])
def test_a_clients_ca_adds_kmip_and_is_required_on_both(tmp_path, pki, source):
    """Both listeners speak TLS and demand a client certificate, whatever format the server's came in."""
    settings = pki.settings()
    if source == "PEM":
        certificate, key = pki.server_files
        settings = {"KMS_TLS_CERT_FILE": certificate, "KMS_TLS_KEY_FILE": key, "KMS_CLIENTS_CA_CERT_FILE": pki.ca_file}
    with Running(tmp_path, **settings) as server:
        status, body = get(server.http_port, "/health", pki.client_context())
        assert (status, body["dependencies"]["kmip"]["status"]) == (200, "UP")
        assert speak(server.kmip_port, pki.client_context()) == "TLSv1.3"
        for port in (server.http_port, server.kmip_port):
            with pytest.raises(OSError):
                speak(port, pki.client_context(anonymous=True))
            answers = [post(port, pki.client_context(), *row) for row in QUERIES]
            assert [status for status, *_ in answers] == [200, 200, 401, 200]
            assert all(
                text in answers[n][1] for n, text in ((0, b"\x42\x00\x7b"), (1, b"<ResponseMessage>"), (3, b"Quer"))
            )
        server.logged("the client sent no certificate")


def test_client_certificates_can_be_optional_on_https_alone(tmp_path, pki):
    """HTTPS lets anybody connect, KMIP does not."""
    with Running(tmp_path, KMS_HTTP_CLIENT_AUTH="optional", **pki.settings()) as server:
        assert get(server.http_port, "/version", pki.client_context(anonymous=True))[0] == 200
        with pytest.raises(OSError):
            speak(server.kmip_port, pki.client_context(anonymous=True))


def test_runkmipsocket_serves_kmip_alone(tmp_path, pki):
    """No HTTP port is opened."""
    with Running(tmp_path, "runkmipsocket", "--migrate", **pki.settings()) as server:
        port = server.kmip_port
        assert speak(port, pki.client_context()) == "TLSv1.3"
        assert listening(server.process.pid) == {port}


def test_gunicorn_serves_http_alone(tmp_path, pki):
    """The documented gunicorn command is the HTTP part of the product, with the same TLS."""
    manage(tmp_path, "migrate")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with Running(tmp_path, command=GUNICORN, KMS_PORT=str(port), **pki.settings()) as server:

        def answers() -> bool:
            assert server.process.poll() is None, server.err
            with contextlib.suppress(OSError):
                return get(port, "/health", pki.client_context())[0] == 200
            return False

        until(answers, "an answer", 30)
        server.process.send_signal(signal.SIGHUP)
        server.logged("certificates reloaded")
        assert server.stop() == 0


@pytest.mark.parametrize("command", ["runkms", "runkmipsocket", "gunicorn"])
def test_an_unmigrated_database_is_refused(tmp_path, pki, command):
    """One line that says how to bring it up to date."""
    with Running(tmp_path, command, command=GUNICORN if command == "gunicorn" else None, **pki.settings()) as server:
        assert server.process.wait(30) == 2
        server.logged("db.sqlite_path (environment KMS_SQLITE_PATH): the database lacks")
        assert "--migrate" in server.err[-1]
        assert len(server.err) == 1 or command != "gunicorn"


@pytest.mark.parametrize("settings, key, problem", REFUSED.values(), ids=REFUSED)
def test_the_process_refuses_in_one_line(tmp_path, files, settings, key, problem):  # noqa: F811
    """Exit status 2, and one line on standard error with key, layer, problem and remedy."""
    settings = {name: files.get(value, value) for name, value in settings.items()}
    result = manage(tmp_path, "runkms", "--migrate", **settings)
    assert result.returncode == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert re.fullmatch(rf"kms: {re.escape(key)} \(.+\): .*{re.escape(problem)}.*; .+", line)
    assert not (tmp_path / "kms.sqlite3").exists() or key.startswith("db")


OTHERS_REFUSED = {
    "unknown flag": (
        ["runkms", "--tls-p12-flie", "x"],
        {},
        r"--tls-p12-flie \(command line\): unknown flag; did you mean --tls-p12-file\?",
    ),
    "flag without value": (["runkms", "--port"], {}, r"--port.* \(command line\): expected"),
    "wrong type": (["runkms", "--port", "many"], {}, r"http\.port \(command line --port\): 'many' .*integer"),
    "missing file": (
        ["runkms", "--config", "none.toml"],
        {},
        r"config \(command line --config\): cannot read none\.toml",
    ),
    "any command": (["migrate"], {"KMS_PORT": "many"}, r"http\.port \(environment KMS_PORT\)"),
    "runkmipsocket without TLS": (["runkmipsocket"], {}, r"tls\.tls_p12_file .*are missing; "),
    "no database": (
        ["runkms"],
        {"DATABASE_URL": "postgresql://u:hunter2@127.0.0.1:1/d"},
        r"db\.database_url \(environment DATABASE_URL\): .*cannot be used",
    ),
}


@pytest.mark.parametrize("arguments, settings, pattern", OTHERS_REFUSED.values(), ids=OTHERS_REFUSED)
def test_other_mistakes_are_refused_in_one_line_too(tmp_path, arguments, settings, pattern):
    """Whatever the layer, the refusal looks the same."""
    result = manage(tmp_path, *arguments, **settings)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert re.match("kms: " + pattern, line)
    assert "hunter2" not in line


def test_runkmipsocket_names_the_missing_ca(tmp_path, pki):
    """TLS alone is not enough for KMIP."""
    result = manage(tmp_path, "runkmipsocket", KMS_TLS_P12_FILE=pki.p12_file, KMS_TLS_P12_PASSWORD=PASSWORD)
    assert result.returncode == 2
    assert "tls.clients_ca_cert_file is missing" in result.stderr


@pytest.mark.parametrize("listener, variable", [("HTTP", "KMS_PORT"), ("KMIP", "KMS_SOCKET_SERVER_PORT")])
def test_a_port_in_use_is_named(tmp_path, pki, listener, variable):
    """Port and listener stand in the line."""
    with socket.create_server(("0.0.0.0", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = manage(tmp_path, "runkms", "--migrate", **pki.settings(), **{variable: port})
    assert result.returncode == 2
    assert f"the {listener} listener cannot use port {port}" in result.stderr.splitlines()[-1]


def test_a_missing_root_key_is_refused(tmp_path, pki):
    """Nothing is served without it, and none is made behind the operator's back."""
    missing = tmp_path / "no.key"
    result = manage(tmp_path, "runkms", "--migrate", KMS_ROOT_KEY_FILE=str(missing))
    assert result.returncode == 2
    assert result.stderr.startswith("kms: sealing.root_key_file (environment KMS_ROOT_KEY_FILE): ")
    assert not missing.exists()


def test_showconfig_prints_every_setting_with_its_layer(tmp_path, pki):
    """Values, layers, and no secret."""
    (tmp_path / "kms.toml").write_text('[http]\nport = 1\nthreads = 7\n[tls]\ntls_p12_password = "hunter2"\n')
    settings = {"KMS_PORT": "2", "DATABASE_URL": "mysql://u:hunter2@h/d"}
    result = manage(tmp_path, "showconfig", "--socket-server-port", "3", **settings | {"KMS_SOCKET_SERVER_PORT": ""})
    assert result.returncode == 0, result.stderr
    assert "http.port = 2  # environment KMS_PORT" in result.stdout
    assert "http.threads = 7  # file kms.toml" in result.stdout
    assert "socket_server.socket_server_port = 3  # command line --socket-server-port" in result.stdout
    assert 'auth.default_username = "admin"  # default' in result.stdout
    assert "tls.tls_p12_password = ********  # file kms.toml" in result.stdout
    assert "hunter2" not in result.stdout


# Signals.


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopping_is_quick_and_leaves_nothing(tmp_path, pki, number):
    """Within 2 s when idle, clients connected or not: no process, no port, no file but the database."""
    for attempt in range(3):  # A machine that is busy with other tests gets more than one chance to be quick.
        folder = tmp_path / str(attempt)
        folder.mkdir()
        if time_to_stop(folder, pki, number) < 2:
            return
    pytest.fail("it never stopped within 2 s")


def time_to_stop(folder: Path, pki: Pki, number: signal.Signals) -> float:
    """Seconds that a server takes to stop, which leaves nothing."""
    with Running(folder, **pki.settings()) as server:
        kmip, web = server.kmip_port, server.http_port
        below = server.children()
        context = pki.client_context()
        with (
            socket.create_connection(("localhost", kmip)) as raw,
            context.wrap_socket(raw, server_hostname="localhost") as idle,
        ):
            get(web, "/health", context)
            begun = time.monotonic()
            assert server.stop(number) == 0
            took = time.monotonic() - begun
            idle.settimeout(5)
            assert idle.recv(1) == b""  # a close_notify, not a reset
    assert [pid for pid in below if Path(f"/proc/{pid}").exists()] == []
    for port in (kmip, web):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("localhost", port))
    left = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert left <= {
        "kms.sqlite3",
        "kms.sqlite3-wal",
        "kms.sqlite3-shm",
        "root.key",
        "audit-checkpoints.jsonl",
    }
    assert [line for line in server.err if " ERROR " in line or "Traceback" in line] == []
    return took


def test_children_end_when_the_supervisor_is_killed(tmp_path, pki):
    """kill -9 of the parent leaves no listener behind."""
    with Running(tmp_path, **pki.settings()) as server:
        assert server.kmip_port
        below = server.children()
        server.process.kill()
        until(lambda: not [pid for pid in below if Path(f"/proc/{pid}").exists()], "the children's end")


def test_a_child_that_dies_is_started_again(tmp_path, pki):
    """The KMIP listener is back after a crash, and so is a whole gunicorn."""
    with Running(tmp_path, **pki.settings()) as server:
        port, web = server.kmip_port, server.http_port
        for child in Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split():
            os.kill(int(child), signal.SIGKILL)

        def answers() -> bool:
            with contextlib.suppress(OSError):
                return get(web, "/health", pki.client_context())[0] == 200 and speak(port, pki.client_context()) != ""
            return False

        server.logged("starting it again in")
        until(answers, "both listeners")


def test_reloading_changes_certificates_for_new_connections_only(tmp_path, pki):
    """After HUP new connections see new certificate and revocations; open ones go on undisturbed."""
    folder = tmp_path / "pki"
    folder.mkdir()
    own = Pki(folder)
    crl = folder / "crl.pem"
    crl.write_bytes(revoke(own.ca))
    with Running(tmp_path, KMS_CLIENTS_CRL_FILE=str(crl), KMS_SOCKET_SERVER_WORKERS="2", **own.settings()) as server:
        web, kmip = server.http_port, server.kmip_port
        revoked = make("bob", own.ca, usage=CLIENT)
        bob = own.client_context(revoked.write(folder, "bob"))
        kept = http.client.HTTPSConnection("localhost", web, context=bob, timeout=10)
        kept.request("GET", "/version")
        assert kept.getresponse().read() == b'"0.1.0"'
        with (
            socket.create_connection(("localhost", kmip)) as raw,
            bob.wrap_socket(raw, server_hostname="localhost") as open_,
        ):
            before = open_.getpeercert(binary_form=True)
            replacement = make("localhost", own.ca, usage=SERVER, local=True)
            Path(own.p12_file).write_bytes(replacement.p12(own.ca))
            crl.write_bytes(revoke(own.ca, revoked))
            server.process.send_signal(signal.SIGHUP)
            new = replacement.certificate.public_bytes(serialization.Encoding.DER)
            until(lambda: len([line for line in server.err if "certificates reloaded" in line]) >= 3, "reloads")
            for port in (web, kmip):
                assert certificate_of(port, own.client_context()) == new != before
                with pytest.raises(OSError):
                    speak(port, bob)
            server.logged("it is revoked")
            kept.request("GET", "/version")
            assert kept.getresponse().read() == b'"0.1.0"'
            open_.sendall(b"no KMIP!")
            assert open_.recv(8)[:4] == b"\x42\x00\x7b\x01"
        kept.close()


def certificate_of(port: int, context: ssl.SSLContext) -> bytes | None:
    with connected(port, context) as connection:
        return connection.getpeercert(binary_form=True)


def test_a_reload_that_fails_keeps_what_there_is(tmp_path, pki):
    """A broken file is reported, and the old certificate goes on."""
    folder = tmp_path / "pki"
    folder.mkdir()
    own = Pki(folder)
    with Running(tmp_path, **own.settings()) as server:
        kmip = server.kmip_port
        Path(own.p12_file).write_bytes(b"broken")
        server.process.send_signal(signal.SIGHUP)
        server.logged("certificates not reloaded: tls.tls_p12_file")
        assert speak(kmip, own.client_context()) == "TLSv1.3"


@pytest.mark.parametrize("kept", ["", "PKCS#12"])
def test_a_listener_never_loses_its_protection_by_a_reload(tmp_path, pki, kept):
    """TLS or the clients' CA may not be removed under it: the reload is refused, and both ports go on as before."""
    lines = [f'tls_p12_file = "{pki.p12_file}"', f'tls_p12_password = "{PASSWORD}"']
    authority = f'clients_ca_cert_file = "{pki.ca_file}"'
    file = tmp_path / "kms.toml"
    file.write_text("\n".join(["[tls]", *lines, authority]))
    with Running(tmp_path) as server:
        web, kmip = server.http_port, server.kmip_port
        file.write_text("\n".join(["[tls]", *lines] if kept else ["[tls]"]))
        server.process.send_signal(signal.SIGHUP)
        until(lambda: len([line for line in server.err if "certificates not reloaded" in line]) >= 3, "refusals")
        for port in (web, kmip):
            with pytest.raises(OSError):
                speak(port, pki.client_context(anonymous=True))
        assert speak(kmip, pki.client_context()) == "TLSv1.3"


def test_no_process_has_the_private_key_in_a_file(tmp_path, pki):
    """Neither in the folder nor behind any descriptor that a process holds open."""
    secret = pki.server.key.private_numbers().private_value.to_bytes(32, "big")
    needles = [secret, pki.server.key_pem.splitlines()[1]]
    with Running(tmp_path, **pki.settings()) as server:
        assert server.kmip_port
        seen = list(tmp_path.rglob("*"))
        for pid in [server.process.pid, *server.children()]:
            seen += Path(f"/proc/{pid}/fd").iterdir()
            assert not [fd for fd in Path(f"/proc/{pid}/fd").iterdir() if "memfd" in os.readlink(fd)]
        for path in seen:
            with contextlib.suppress(OSError):
                if path.is_file():
                    content = path.read_bytes()
                    assert not [needle for needle in needles if needle in content], path


def test_first_administrator_is_made_once(tmp_path):
    """The password is printed by the run that makes the user, never again."""
    manage(tmp_path, "migrate")
    first, second = manage(tmp_path, "initadmin"), manage(tmp_path, "initadmin")
    assert re.search(r"admin / \S{16}\n$", first.stdout)
    assert (second.returncode, second.stdout) == (0, "")
    assert '"Add Administrator"' in manage(tmp_path, "audit", "export").stdout


def test_the_development_server_runs_on_plain_http(tmp_path):
    """`manage.py runserver` needs nothing configured."""
    manage(tmp_path, "migrate")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with Running(tmp_path, "runserver", "--noreload", f"127.0.0.1:{port}"):

        def answers() -> bool:
            with contextlib.suppress(OSError):
                return get(port, "/version")[0] == 200
            return False

        until(answers, "an answer", 30)
