"""The supervisor with children that do next to nothing, in a process of its own."""

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from keystore import conf, supervisor
from tests.processes import until

ROOT = Path(__file__).resolve().parent.parent.parent

PROGRAM = """
import os, signal, sys, time
from keystore.conf import ConfigError
from keystore.supervisor import Child, Supervisor, pulse, report_ready
import keystore.supervisor as module

module.FIRST_DELAY = 0.05

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

def steady(name):
    def run():
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        signal.signal(signal.SIGHUP, lambda *_: say(name, "hup"))
        report_ready()
        say(name, "ready", os.getpid())
        while True:
            time.sleep(0.05)
    return Child(name, run)

def stubborn():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    report_ready()
    say("stubborn ready", os.getpid())
    while True:
        time.sleep(1)

def refused():
    raise ConfigError("some.key", "default", "is wrong", "correct it")

def defective():
    raise RuntimeError("a defect")

children = {children}
supervisor = Supervisor(children, grace={grace}, announce=lambda: say("announced", sorted(pulse.ages())))
sys.exit(supervisor.run())
"""


@pytest.fixture
def run():
    started: list[subprocess.Popen[str]] = []

    def begin(children: str, grace: float = 5) -> subprocess.Popen[str]:
        program = PROGRAM.replace("{children}", children).replace("{grace}", str(grace))
        command = [sys.executable, "-c", textwrap.dedent(program)]
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def read_until(process: subprocess.Popen[str], pattern: str) -> re.Match[str]:
    assert process.stdout is not None
    for line in process.stdout:
        if match := re.search(pattern, line):
            return match
    raise AssertionError(f"no {pattern}")


def test_it_announces_once_all_are_ready_and_passes_signals_on(run):
    """HUP reaches every child, TERM ends all, and the status is 0."""
    process = run("[steady('a'), steady('b')]")
    assert read_until(process, r"announced (.*)")[1] == "['a', 'b']"
    process.send_signal(signal.SIGHUP)
    seen = {read_until(process, r"(\w) hup")[1] for _ in range(2)}
    assert seen == {"a", "b"}
    process.terminate()
    assert process.wait(10) == 0


def test_a_child_that_cannot_start_stops_everything_with_its_message(run):
    """The refusal is the child's own line, and so is the status."""
    process = run("[steady('a'), Child('b', refused)]")
    out, err = process.communicate(timeout=10)
    assert process.returncode == 2
    assert "kms: some.key (default): is wrong; correct it" in err
    assert "announced" not in out


def test_a_defect_at_start_shows_its_traceback(run):
    """Not a refusal, and so status 1."""
    process = run("[Child('b', defective)]")
    _, err = process.communicate(timeout=10)
    assert process.returncode == 1
    assert "RuntimeError: a defect" in err


def test_a_child_that_dies_is_started_again(run):
    """With a new process, and the others undisturbed."""
    process = run("[steady('a')]")
    first = int(read_until(process, r"a ready (\d+)")[1])
    read_until(process, "announced")
    begun = time.monotonic()
    os.kill(first, signal.SIGKILL)
    assert int(read_until(process, r"a ready (\d+)")[1]) != first
    assert time.monotonic() - begun < 5


def test_a_child_that_ignores_term_is_killed_after_the_grace_period(run, monkeypatch):
    """Nothing outlives the supervisor."""
    process = run("[Child('stubborn', stubborn)]", grace=0.2)
    pid = int(read_until(process, r"stubborn ready (\d+)")[1])
    read_until(process, "announced")
    begun = time.monotonic()
    process.terminate()
    assert process.wait(10) == 0
    assert time.monotonic() - begun < 0.2 + supervisor.KILL_AFTER + 2
    until(lambda: not Path(f"/proc/{pid}").exists(), "its end")


def test_a_second_signal_stops_at_once(run):
    """Who presses Ctrl-C twice does not want to wait."""
    process = run("[Child('stubborn', stubborn)]", grace=60)
    read_until(process, "announced")
    process.send_signal(signal.SIGINT)
    begun = time.monotonic()
    while process.poll() is None and time.monotonic() - begun < 10:
        process.send_signal(signal.SIGINT)
        time.sleep(0.1)  # between two key presses
    assert time.monotonic() - begun < 5


def test_a_port_in_use_names_setting_listener_and_port(monkeypatch):
    """The refusal of a listener that cannot be opened."""
    monkeypatch.setattr(supervisor, "_sockets", {})
    config = conf.load({}, {}, [])
    with supervisor.bind(config, "http.port", "127.0.0.1", 0) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(conf.ConfigError, match=rf"the KMIP listener cannot use port {port} of 127\.0\.0\.1"):
            supervisor.bind(config, "socket_server.socket_server_port", "127.0.0.1", port)
    with pytest.raises(conf.ConfigError, match=r"no\.such\.host"):
        supervisor.bind(config, "socket_server.socket_server_port", "no.such.host.invalid", 0)


def test_a_process_without_supervisor_has_no_pulse():
    """gunicorn alone knows of no other process."""
    supervisor.pulse.beat()
    assert supervisor.pulse.ages() == {}
