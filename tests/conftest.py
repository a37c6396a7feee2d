"""What all tests share: a configuration that no file or variable of this machine reaches."""

import contextlib
import dataclasses
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import django
import pytest
from hypothesis import HealthCheck, settings

from tests.processes import Running, manage

for name in [name for name in os.environ if name.startswith("KMS_")]:
    del os.environ[name]
SCRATCH = tempfile.TemporaryDirectory(prefix="kms-tests-")
os.environ |= {
    "KMS_CONFIG": os.devnull,
    "KMS_SQLITE_PATH": SCRATCH.name,
    "KMS_ROOT_KEY_FILE": str(Path(SCRATCH.name) / "root.key"),
    "DJANGO_SETTINGS_MODULE": "kmsproject.settings",
}
# pytest-django sets Django up by itself only where something has imported it already.
django.setup()

# What holds for any input is tried with a few in every run, and with many by `make fuzz`. A generous deadline, so that
# only an input whose cost explodes fails on a loaded machine; fixtures are made once for all examples of a test.
settings.register_profile(
    "default",
    max_examples=60,
    deadline=5000,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.register_profile(
    "fuzz", settings.get_profile("default"), max_examples=int(os.environ.get("FUZZ_EXAMPLES", "5000")), print_blob=True
)
settings.load_profile("default")


@pytest.fixture(scope="session")
def django_db_modify_db_settings() -> None:
    """SQLite's test database is a file, as in production: threads and write-ahead logging behave the same."""
    from django.conf import settings

    database = settings.DATABASES["default"]
    if database["ENGINE"].endswith("sqlite3"):
        database.setdefault("TEST", {})["NAME"] = str(Path(SCRATCH.name) / "test.sqlite3")


@pytest.fixture
def configure(monkeypatch: pytest.MonkeyPatch) -> Callable[..., object]:
    """Change settings for one test: `configure(**{"http.port": 0})`."""
    from keystore import conf

    def change(**values: object) -> conf.Config:
        config = conf.current()
        for key, value in values.items():
            section, name = key.split(".")
            part = dataclasses.replace(getattr(config, section), **{name: value})
            config = dataclasses.replace(config, **{section: part})
        monkeypatch.setattr(conf, "_current", config)
        return config

    return change


@pytest.fixture(scope="session", autouse=True)
def _listening() -> None:
    """Every process of tests listens for keys that get out."""
    from tests import canary

    canary.install()


@pytest.fixture(autouse=True)
def watched(_listening: None) -> Iterator[object]:
    """After each test: no key of it is in a log record, an error, a record of the audit, or an answer or page that is
    not meant to hold it."""
    from tests import canary

    with canary.watching() as found:
        yield found
    found.check()


@pytest.fixture(autouse=True)
def records_wait() -> Iterator[None]:
    """Records of reads wait in this process until a test asks for them: a thread would write past the test's end."""
    from keystore import activity, audit

    # Of its own: a test that undoes its changes must not set the threads free.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(activity, "counter", activity.Counter(threaded=False))
        patch.setattr(audit, "writer", audit.Writer())
        patch.setattr(audit.writer, "_thread", threading.current_thread())
        yield


class Server(NamedTuple):
    """Where a started server listens, and the files that a client needs."""

    port: int
    https: int
    ca: Path
    certificate: Path
    key: Path
    folder: Path
    #: The lines of its log so far.
    log: list[str]


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """A real server with mutual TLS, its certificates made by `initpki`."""
    done = manage(folder, "initpki", "--folder", "pki", "--client", "alice", "--write-config", "kms.toml")
    assert done.returncode == 0, done.stderr
    with Running(folder, KMS_CONFIG=str(folder / "kms.toml"), KMS_POLICY="permissive") as running:
        port, https = running.kmip_port, running.http_port
        pki = folder / "pki"
        yield Server(port, https, pki / "ca.pem", pki / "client.pem", pki / "client.key", folder, running.err)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server for all tests of clients."""
    with serving(tmp_path_factory.mktemp("server")) as started:
        yield started


@pytest.fixture(scope="session")
def empty_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that holds nothing but what the OASIS cases leave: some of them count what is there."""
    with serving(tmp_path_factory.mktemp("empty")) as started:
        yield started


def pytest_addoption(parser: pytest.Parser) -> None:
    """Tests in a real browser run only where they are asked for: `make test-browser`."""
    parser.addoption("--browser-tests", action="store_true", help="Run the tests that drive a real browser.")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the tests in a real browser out of the usual run."""
    if not config.getoption("--browser-tests"):
        items[:] = [item for item in items if item.get_closest_marker("browser") is None]
