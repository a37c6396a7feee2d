"""What all tests share: a configuration that no file or variable of this machine reaches."""

import dataclasses
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import django
import pytest

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
