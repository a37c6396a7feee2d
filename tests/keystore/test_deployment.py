"""`check --deploy`: clean for the documented settings, and a warning with a name for each way to be unsafe."""

import re
import tomllib
from pathlib import Path

import pytest

from keystore import conf, deployment
from keystore.deployment import UNSAFE
from tests.certificates import PASSWORD, Pki, revoke
from tests.processes import manage

PAGE = Path(__file__).resolve().parents[2] / "docs" / "production.md"


def documented(folder: Path) -> Path:
    """The settings of docs/production.md, with files that are there."""
    pki = Pki(folder)
    files = {
        "server.p12.password": (PASSWORD + "\n").encode(),
        "clients-ca.pem": pki.ca.pem,
        "clients.crl": revoke(pki.ca),
        "root.key": b"00" * 32,
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    text = re.search(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)[1]
    path = folder / "kms.toml"
    path.write_text(text.replace("/etc/kms/", f"{folder}/"))
    for one in folder.iterdir():
        one.chmod(0o600)
    return path


@pytest.fixture(scope="module")
def production(tmp_path_factory) -> Path:
    return documented(tmp_path_factory.mktemp("production"))


def found(file: Path, **variables: str) -> set[str]:
    """The keys that the check names."""
    environment = {f"KMS_{name.upper()}": value for name, value in variables.items()}
    config = conf.load({}, environment | {"KMS_CONFIG": str(file)}, [])
    return {one.key for one in UNSAFE if one.applies(config)}


def test_the_documented_settings_are_clean(production):
    """Django's own checks, too."""
    settings = {"KMS_CONFIG": str(production), "KMS_SQLITE_PATH": ""}
    result = manage(
        production.parent, "check", "--deploy", "--fail-level", "WARNING", **settings,
        KMS_CHECKPOINT_FILE="", KMS_ROOT_KEY_FILE=str(production.parent / "root.key"),
    )  # fmt: skip
    assert (result.returncode, result.stdout.strip()) == (
        0, "System check identified no issues (2 silenced).",
    ), result.stderr  # fmt: skip
    assert found(production) == set()
    assert set(tomllib.loads(production.read_text())) <= set(conf.SECTIONS)


def test_the_defaults_are_named(tmp_path):
    """By the command, with what to do."""
    result = manage(tmp_path, "check", "--deploy", "--fail-level", "WARNING")
    assert result.returncode == 1
    assert "(kms.W001) auth: nobody authenticates" in result.stderr
    assert "HINT: configure TLS with the clients' CA" in result.stderr
    assert "sealing.root_key_file: the root key lies beside the database" in result.stderr


CASES = {
    "tls.legacy_ciphers": {"legacy_ciphers": "true"},
    "http.allowed_hosts": {"allowed_hosts": "*"},
    "db.database_url": {"database_url": "postgresql://kms@db.example.com/kms"},
    "db.replica_url": {"replica_url": "postgresql://kms@replica.example.com/kms"},
    "auth.enrolment": {"enrolment": "open"},
    "access.default_role": {"default_role": "operator"},
    "access.get_implies_use": {"get_implies_use": "true"},
    "auth.second_factor": {"second_factor": "optional"},
    "auth.http_basic": {"http_basic": "true"},
    "crypto.policy": {"policy": "permissive"},
    "http.secret_key": {"provider": "keystore.shares.provider"},
}


@pytest.mark.parametrize("key, variables", CASES.items(), ids=CASES)
def test_one_unsafe_setting_is_named(production, key, variables):
    """And nothing else is."""
    assert found(production, **variables) == {key}


def without(production: Path, folder: Path, *names: str) -> Path:
    """The documented settings, less some."""
    lines = [line for line in production.read_text().splitlines() if line.partition(" ")[0] not in names]
    path = folder / "kms.toml"
    path.write_text("\n".join(lines))
    path.chmod(0o600)
    return path


def test_a_database_that_forgets_is_named(production, tmp_path):
    file = without(production, tmp_path, "database_url")
    assert found(file, sqlite_path="/no/where", sqlite_synchronous="NORMAL") == {"db.sqlite_synchronous"}


def test_checkpoints_beside_the_database_are_named(production, tmp_path):
    """And on another disk are not; nor are they where there are none at all but in syslog."""
    file = without(production, tmp_path, "database_url", "checkpoint_syslog")
    where = {"sqlite_path": str(tmp_path), "checkpoint_file": str(tmp_path / "checkpoints")}
    assert found(file, **where) == {"audit.checkpoint_file"}
    where["checkpoint_file"] = "/mnt/checkpoints"
    assert found(file, **where) == set()


def test_what_lies_beside_the_database_is_named(production, tmp_path):
    file = without(production, tmp_path, "database_url")
    assert found(file, sqlite_path=str(production.parent)) == {"sealing.root_key_file"}
    assert found(file, sqlite_path=str(tmp_path / "elsewhere")) == set()


def test_files_that_others_can_read_are_named(production, tmp_path):
    file = documented(tmp_path)
    assert found(file) == set()
    (tmp_path / "server.p12").chmod(0o644)
    assert found(file) == {"tls.tls_key_file"}
    (tmp_path / "server.p12").chmod(0o600)
    file.chmod(0o644)
    assert found(file) == {"tls.tls_key_file"}  # The database's URL is a secret.
    file.chmod(0o640)
    assert found(file) == set()


def test_missing_revocation_lists_are_named(production, tmp_path):
    assert found(without(production, tmp_path, "clients_crl_file")) == {"tls.clients_crl_file"}


def test_every_row_has_its_case():
    """A new row needs one."""
    covered = {
        *CASES,
        "db.sqlite_synchronous",
        "audit.checkpoint_file",
        "auth",
        "tls",
        "sealing.root_key_file",
        "tls.tls_key_file",
        "tls.clients_crl_file",
    }
    assert {one.key for one in UNSAFE} == covered
    assert all(one.hint and one.what for one in UNSAFE)
    assert len(deployment.production(None)) > 3
