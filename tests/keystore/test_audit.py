"""What is recorded, what a kill may take, what the command does, and where checkpoints go besides."""

import json
import re
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from keystore import administration, audit, chain, conf, configuration, engine
from keystore.authn import Identity, Peer
from keystore.models import AuditCheckpoint, AuditRecord, Node
from kmip.enums import Operation, ResultReason
from kmip.errors import KMIPError
from kmip.payloads import GetRequest
from tests.processes import Running, environment, manage, until

PROGRAM = Path(__file__).resolve().parent.parent / "traffic.py"


def killed(folder: Path, command: str, seconds: float, **settings: str) -> list[str]:
    """What the program of `traffic` had printed when it was killed."""
    with subprocess.Popen(
        [sys.executable, str(PROGRAM), command], env=environment(folder, settings), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline()]
        # Read on until then: a pipe that is full would stop the program.
        threading.Timer(seconds, process.kill).start()
        lines += process.stdout.read().splitlines()
    assert lines[0], "the program did not start"
    return lines


def rows(folder: Path, operation: str) -> int:
    """How many records of an operation the database of a folder holds."""
    with sqlite3.connect(folder / "kms.sqlite3") as database:
        return database.execute(
            "SELECT COUNT(*) FROM keystore_auditrecord WHERE operation = ?", [operation]
        ).fetchone()[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("killed")
    assert manage(path, "migrate", "-v0").returncode == 0
    return path


def test_a_kill_takes_the_last_moment_of_reads_at_most(folder):
    """Of reads, records of the last 100 ms may go, and what the writer was about to write; the chain verifies."""
    answered = [float(line) for line in killed(folder, "read", 1.5)]
    safe = [moment for moment in answered if moment < answered[-1] - audit.FLUSH_SECONDS - 0.4]
    assert len(safe) > 10
    assert len(safe) <= rows(folder, "Get")
    verified = manage(folder, "audit", "verify")
    assert (verified.returncode, verified.stderr) == (0, "")


def test_a_kill_takes_no_record_of_a_read_where_they_are_written_at_once(folder):
    before = rows(folder, "Get")
    answered = killed(folder, "read", 0.7, KMS_MODE="immediate")
    assert len(answered) > 10
    assert rows(folder, "Get") - before >= len(answered)


def test_a_kill_takes_no_record_of_a_change(folder):
    before = rows(folder, "Register")
    made = killed(folder, "write", 0.7)
    assert len(made) > 10
    assert rows(folder, "Register") - before >= len(made)


def command(*arguments: str) -> list[str]:
    out = StringIO()
    call_command("audit", *arguments, stdout=out, stderr=StringIO())
    return out.getvalue().splitlines()


@pytest.mark.django_db
def test_the_command_verifies_exports_and_prunes():
    """And its failure names the first bad record."""
    for number in range(4):
        audit.note(None, Peer("http", "10.0.0.7"), "Grant Access", uid=f"key {number}")
    assert json.loads(command("checkpoint")[0])["checkpoint"] == 1
    assert command("checkpoint") == ["nothing new"]
    assert command("verify") == ["4 records verified"]
    lines = [json.loads(line) for line in command("export")]
    assert [line["object"] for line in lines] == [f"key {number}" for number in range(4)]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", lines[0]["time"])
    assert set(audit.Entry._fields) < set(lines[0])
    after = str(lines[1]["sequence"])
    assert [json.loads(line)["object"] for line in command("export", "--after", after)] == ["key 2", "key 3"]
    assert all(line.startswith("CEF:0|KMS|KMS|") for line in command("export", "--format", "cef"))
    victim = AuditRecord.objects.order_by("id")[2]
    AuditRecord.objects.filter(pk=victim.pk).update(user="mallory")
    with pytest.raises(CommandError, match=rf"first of 1 problems: record {victim.pk}: was edited"):
        command("verify")
    AuditRecord.objects.filter(pk=victim.pk).update(user=victim.user)
    time.sleep(0.01)
    assert command("prune", "--older-than", "0s") == ["4 records deleted"]
    assert command("verify") == ["1 records verified"]
    assert AuditRecord.objects.get().operation == "Prune Audit"
    with pytest.raises(CommandError, match="give an age"):
        command("prune", "--older-than", "soon")


@pytest.mark.django_db
def test_cef_escapes_what_its_readers_take_for_their_own():
    """So that nobody adds a field, or a line, by a name."""
    audit.note(None, Peer("http", "10.0.0.7"), "Set Role", detail="x outcome=Success | \\ cs1=other")
    AuditRecord.objects.update(operation="a|b\\c", detail="one\ntwo\rthree outcome=x")
    line = chain.as_cef(AuditRecord.objects.get())
    assert "\n" not in line and "\r" not in line
    head = re.split(r"(?<!\\)\|", line, maxsplit=7)
    assert head[4] == "a\\|b\\\\c" and len(head) == 8
    assert "msg=one\\ntwo\\rthree outcome\\=x" in head[7]


@pytest.mark.django_db
def test_checkpoints_go_to_syslog(configure):
    """As they are made; a syslog that is away stops nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(5)
        configure(**{"audit.checkpoint_syslog": f"127.0.0.1:{server.getsockname()[1]}"})
        audit.note(None, Peer("cli"), "Get")
        made = chain.checkpoint()
        line = server.recv(4096).decode()
    told = json.loads(line[line.index("{") :].rstrip("\0"))
    assert "kms audit checkpoint" in line
    assert (told["checkpoint"], told["mac"]) == (1, bytes(made.mac).hex())
    configure(**{"audit.checkpoint_syslog": "/no/such/socket"})
    audit.note(None, Peer("cli"), "Get")
    assert chain.checkpoint().number == 2


@pytest.mark.django_db
def test_settings_are_recorded_where_they_change(monkeypatch):
    """With where they come from; secrets change without being told."""

    def use(**values: str) -> list[str]:
        AuditRecord.objects.all().delete()
        config = conf.load({}, {f"KMS_{name.upper()}": value for name, value in values.items()}, [])
        monkeypatch.setattr(conf, "_current", config)
        configuration.note()
        assert set(AuditRecord.objects.values_list("operation", flat=True)) <= {"Change Setting"}
        return [row.detail.split(" ", 1)[1] for row in AuditRecord.objects.order_by("id")]

    root = str(conf.current().sealing.root_key_file)
    where = {"root_key_file": root}
    assert use(**where) == [f'sealing.root_key_file: default -> "{root}" (environment KMS_ROOT_KEY_FILE)']
    assert use(**where) == []
    assert use(**where, mode="immediate") == ['audit.mode: default -> "immediate" (environment KMS_MODE)']
    assert use(**where, secret_key="a" * 50) == [
        'audit.mode: "immediate" -> default (default)',
        "http.secret_key: default -> ******** (environment KMS_SECRET_KEY)",
    ]
    assert use(**where, secret_key="b" * 50) == ["http.secret_key: ******** -> ******** (environment KMS_SECRET_KEY)"]
    assert "a" * 50 not in str(Node.objects.values_list("settings"))


def test_a_server_records_its_settings_before_it_serves_and_when_it_reads_them_again(tmp_path):
    """Also those that HUP brings."""
    file = tmp_path / "kms.toml"
    file.write_text("[auth]\nlogin_failures = 7\n")
    with Running(tmp_path, "runkms", "--migrate", "--config", str(file)) as server:
        assert server.http_port

        def told() -> list[str]:
            lines = manage(tmp_path, "audit", "export").stdout.splitlines()
            return [line["detail"] for line in map(json.loads, lines) if line["operation"] == "Change Setting"]

        assert any("auth.login_failures: default -> 7" in one for one in told())
        file.write_text("[auth]\nlogin_failures = 8\n")
        server.process.send_signal(1)
        until(lambda: any("auth.login_failures: 7 -> 8" in one for one in told()), "the new setting")


@pytest.mark.django_db
def test_what_administrators_may_not_do_is_recorded(person):
    """Refused changes leave nothing but the record."""
    peer, client = Peer("http", "10.0.0.7"), Identity("alice", "token")
    person("bob")
    for attempt in (
        lambda: administration.disable_user(peer, client, "bob", True),
        lambda: administration.set_role(peer, client, "mine", operations=["get"]),
        lambda: administration.give_role(peer, client, "administrator", "user:alice"),
        lambda: administration.disable_user(peer, client, "nobody", True),
    ):
        with pytest.raises(KMIPError) as refusal:
            attempt()
        assert refusal.value.reason is ResultReason.PERMISSION_DENIED
    told = list(AuditRecord.objects.order_by("id").values_list("user", "operation", "result", "reason"))
    assert told == [
        ("alice", "Disable User", "Failure", "PermissionDenied"),
        ("alice", "Set Role", "Failure", "PermissionDenied"),
        ("alice", "Give Role", "Failure", "PermissionDenied"),
        ("alice", "Disable User", "Failure", "PermissionDenied"),
    ]


@pytest.mark.django_db
def test_nothing_is_read_while_records_cannot_be_written(person, key_of, monkeypatch):
    """Neither while writing fails nor while too many records wait."""
    alice = person("alice")
    uid = key_of(alice)
    request = GetRequest(unique_identifier=uid)
    engine.execute(Operation.GET, request, alice)
    for name, value in (("failing", True), ("_entries", [None] * audit.MAX_WAITING)):
        before = getattr(audit.writer, name)
        monkeypatch.setattr(audit.writer, name, value)
        with pytest.raises(KMIPError) as refusal:
            engine.execute(Operation.GET, request, alice)
        assert refusal.value.reason is ResultReason.GENERAL_FAILURE
        monkeypatch.setattr(audit.writer, name, before)
    engine.execute(Operation.GET, request, alice)


@pytest.mark.django_db
def test_a_change_without_its_record_does_not_happen(person, key_of, monkeypatch):
    """The object is not there, and nobody is told otherwise."""
    from django.db import DatabaseError

    from keystore.models import ManagedObject

    alice = person("alice")

    def full(entries):
        raise DatabaseError("the disk is full")

    monkeypatch.setattr(audit, "write", full)
    with pytest.raises(KMIPError) as refusal:
        key_of(alice)
    assert refusal.value.reason is ResultReason.GENERAL_FAILURE
    assert "disk" not in refusal.value.message
    assert not ManagedObject.objects.exists()
    assert not AuditCheckpoint.objects.exists()
