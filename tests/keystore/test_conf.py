"""Settings: layers, names, types and refusals."""

import os
from pathlib import Path

import pytest

from keystore import conf
from keystore.management.commands import showconfig

ROOT = Path(__file__).resolve().parent.parent.parent


def load(
    toml: str = "",
    variables: dict[str, str] | None = None,
    flags: dict[str, str] | None = None,
    tmp: Path | None = None,
):
    files = []
    if tmp is not None:
        (tmp / "kms.toml").write_text(toml)
        files = [tmp / "kms.toml"]
    return conf.load(flags or {}, variables or {}, files)


def test_a_later_layer_wins(tmp_path):
    """Defaults, file, environment and command line override each other in this order, and are named."""
    toml, variables, flags = "[http]\nport = 1\n", {"KMS_PORT": "2"}, {"http.port": "3"}
    for layers, port, layer in (
        ({}, 9998, "default"),
        ({"toml": toml}, 1, f"file {tmp_path}/kms.toml"),
        ({"toml": toml, "variables": variables}, 2, "environment KMS_PORT"),
        ({"toml": toml, "variables": variables, "flags": flags}, 3, "command line --port"),
    ):
        config = load(tmp=tmp_path, **layers)
        assert (config.http.port, config.layers["http.port"]) == (port, layer)


def test_sections_of_existing_deployments_work_unchanged(tmp_path):
    """The reference server's TLS, HTTP, socket server and database sections are understood."""
    config = load(
        """
        [tls]
        tls_p12_file = "/etc/kms/server.p12"
        tls_p12_password = "secret"
        clients_ca_cert_file = "/etc/kms/ca.pem"
        [http]
        port = 443
        hostname = "10.0.0.1"
        [socket_server]
        socket_server_start = true
        socket_server_port = 5697
        socket_server_hostname = "10.0.0.2"
        [db]
        database_type = "postgresql"
        database_url = "postgresql://kms:kms@db:5432/kms"
        sqlite_path = "./sqlite-data"
        """,
        tmp=tmp_path,
    )
    assert config.tls.tls_p12_file == Path("/etc/kms/server.p12")
    assert config.socket_server.socket_server_start is True
    assert (config.http.hostname, config.http.port) == ("10.0.0.1", 443)
    database = conf.database(config)
    assert (database["ENGINE"], database["HOST"], database["PORT"]) == ("django.db.backends.postgresql", "db", 5432)


REFUSED = {  # TOML, environment, flags -> what the line names
    "unknown key": ("[tls]\ntls_p12_flie = 'x'\n", {}, {}, ["tls.tls_p12_flie", "file", "tls.tls_p12_file?"]),
    "unknown section": ("[tsl]\n", {}, {}, ["tsl", "file", "[tls]?"]),
    "key without section": ("port = 1\n", {}, {}, ["port", "file"]),
    "unknown variable": ("", {"KMS_TLS_P12_FLIE": "x"}, {}, ["KMS_TLS_P12_FLIE", "KMS_TLS_P12_FILE?"]),
    "text for a number": ("[http]\nport = '9998'\n", {}, {}, ["http.port", "file", "an integer"]),
    "bool for a number": ("[http]\nport = true\n", {}, {}, ["http.port", "an integer"]),
    "number in the environment": ("", {"KMS_PORT": "many"}, {}, ["http.port", "KMS_PORT", "'many'"]),
    "port too large": ("", {}, {"http.port": "70000"}, ["http.port", "--port", "70000"]),
    "negative": ("", {}, {"http.threads": "-1"}, ["http.threads", "at least 1"]),
    "misspelt bool": ("", {"KMS_LEGACY_CIPHERS": "ture"}, {}, ["tls.legacy_ciphers", "'ture'", "true, false"]),
    "no choice": ("[socket_server]\nsocket_server_start = 'maybe'\n", {}, {}, ["socket_server_start", '"auto", true']),
    "list of numbers": ("[http]\ntrusted_proxies = [1]\n", {}, {}, ["http.trusted_proxies", "list of texts"]),
    "not TOML": ("[http\n", {}, {}, ["config", "is not TOML"]),
    "two spellings": ("", {"KMS_PORT": "1", "KMS_HTTP_PORT": "2"}, {}, ["http.port", "contradicts"]),
    "secret of a wrong type": ("[tls]\ntls_p12_password = 12345\n", {}, {}, ["tls.tls_p12_password", "a text"]),
}


@pytest.mark.parametrize("toml, variables, flags, parts", REFUSED.values(), ids=REFUSED)
def test_a_wrong_setting_is_refused_in_one_line(tmp_path, toml, variables, flags, parts):
    """The refusal names key, layer and remedy, and stays on one line."""
    with pytest.raises(conf.ConfigError) as caught:
        load(toml, variables, flags, tmp_path)
    line = str(caught.value)
    assert "\n" not in line
    assert [part for part in parts if part not in line] == []


def test_a_refusal_does_not_show_a_secret(tmp_path):
    """A password of the wrong type is masked in the message."""
    with pytest.raises(conf.ConfigError) as caught:
        load("[tls]\ntls_p12_password = 12345\n", tmp=tmp_path)
    assert "12345" not in str(caught.value)


def test_secrets_are_in_no_repr():
    """Printing the configuration shows no password."""
    config = load(variables={"KMS_TLS_P12_PASSWORD": "hunter2", "DATABASE_URL": "postgresql://u:hunter2@h/d"})
    assert "hunter2" not in repr(config)


VARIABLES = {
    "true": ({"KMS_SOCKET_SERVER_START": "TRUE"}, "socket_server.socket_server_start", True),
    "auto": ({"KMS_SOCKET_SERVER_START": "auto"}, "socket_server.socket_server_start", "auto"),
    "ambiguous name": ({"KMS_HTTP_WORKERS": "3"}, "http.workers", 3),
    "number": ({"KMS_SHUTDOWN_GRACE": "2.5"}, "server.shutdown_grace", 2.5),
    "empty is unset": ({"KMS_TLS_P12_FILE": ""}, "tls.tls_p12_file", None),
    "empty password is a password": ({"KMS_TLS_P12_PASSWORD": ""}, "tls.tls_p12_password", ""),
    "dollar sign": ({"KMS_TLS_P12_PASSWORD": "$HOME"}, "tls.tls_p12_password", "$HOME"),
    "suites with colons": ({"KMS_TLS_CIPHER_SUITES": "TLS_A:TLS_B"}, "tls.tls_cipher_suites", ("TLS_A", "TLS_B")),
    "list": ({"KMS_TRUSTED_PROXIES": "10.0.0.1, ::1"}, "http.trusted_proxies", ("10.0.0.1", "::1")),
    "service links": ({"KMS_PORT": "tcp://10.0.0.1:9998", "KMS_SERVICE_HOST": "10.0.0.1"}, "http.port", 9998),
    "database": ({"DATABASE_URL": "mysql://h/d"}, "db.database_url", "mysql://h/d"),
}


@pytest.mark.parametrize("variables, key, value", VARIABLES.values(), ids=VARIABLES)
def test_variables_are_read_in_the_type_of_their_setting(variables, key, value):
    """Texts from the environment become what the setting is."""
    assert load(variables=variables).value(key) == value


def test_the_listener_stays_on_this_machine_without_tls():
    """The default address depends on whether TLS is configured."""
    assert load().http.hostname == "127.0.0.1"
    assert load(variables={"KMS_TLS_P12_FILE": "x"}).http.hostname == "0.0.0.0"


DATABASES = {
    "default": ({}, "sqlite3", "var/kms.sqlite3"),
    "folder": ({"KMS_SQLITE_PATH": "/data"}, "sqlite3", "/data/kms.sqlite3"),
    "file": ({"KMS_SQLITE_PATH": "/data/x.db"}, "sqlite3", "/data/x.db"),
    "sqlite URL": ({"DATABASE_URL": "sqlite:////data/x.db"}, "sqlite3", "/data/x.db"),
    "mariadb": ({"DATABASE_URL": "mariadb://u:p@h/d", "KMS_DATABASE_TYPE": "mariadb"}, "mysql", "d"),
    "quoted": ({"DATABASE_URL": "postgres://u:p%40ss@h/d"}, "postgresql", "d"),
}


@pytest.mark.parametrize("variables, engine, name", DATABASES.values(), ids=DATABASES)
def test_the_database_is_what_url_type_or_path_say(variables, engine, name):
    """URL, type and path lead to Django's description of the database."""
    database = conf.database(load(variables=variables))
    assert (database["ENGINE"].rpartition(".")[2], database["NAME"]) == (engine, name)


@pytest.mark.parametrize(
    "variables",
    [
        {"KMS_DATABASE_TYPE": "postgresql"},
        {"KMS_DATABASE_TYPE": "mysql", "DATABASE_URL": "postgresql://u:hunter2@h/d"},
        {"DATABASE_URL": "oracle://u:hunter2@h/d"},
        {"DATABASE_URL": "hunter2"},
    ],
)
def test_an_unusable_database_is_refused_without_its_password(variables):
    """Contradictions and other engines are refused."""
    with pytest.raises(conf.ConfigError) as caught:
        conf.database(load(variables=variables))
    assert "hunter2@" not in str(caught.value)


REPLICAS = {
    "none": ({}, None),
    "same kind": ({"DATABASE_URL": "mysql://h/d", "KMS_REPLICA_URL": "mariadb://u:hunter2@r/d"}, "r"),
}


@pytest.mark.parametrize("variables, host", REPLICAS.values(), ids=REPLICAS)
def test_a_replica_is_described_like_the_database(variables, host):
    found = conf.replica(load(variables=variables))
    assert (found and found["HOST"]) == host


@pytest.mark.parametrize(
    "variables",
    [
        {"KMS_REPLICA_URL": "postgresql://u:hunter2@r/d"},
        {"DATABASE_URL": "mysql://h/d", "KMS_REPLICA_URL": "postgresql://u:hunter2@r/d"},
        {"KMS_REPLICA_URL": "sqlite:////data/x.db"},
        {"DATABASE_URL": "mysql://h/d", "KMS_REPLICA_URL": "oracle://u:hunter2@r/d"},
    ],
)
def test_a_replica_of_something_else_is_refused_without_its_password(variables):
    """Of another kind, or of a file, which has none."""
    with pytest.raises(conf.ConfigError, match=r"db\.replica_url") as caught:
        conf.replica(load(variables=variables))
    assert "hunter2@" not in str(caught.value)


def test_flags_are_read_before_django_starts():
    """The start commands take a flag for each setting; other commands keep theirs but for --config."""
    found, rest = conf.parse_flags(["manage.py", "runkms", "--port", "1", "--socket-server-start", "--migrate"])
    assert found == {"http.port": "1", "socket_server.socket_server_start": "true"}
    assert rest == ["manage.py", "runkms", "--port", "1", "--socket-server-start", "--migrate"]
    found, rest = conf.parse_flags(["manage.py", "migrate", "--config", "x.toml", "--port", "1"])
    assert (found, rest) == ({"config": "x.toml"}, ["manage.py", "migrate", "--port", "1"])


@pytest.mark.parametrize("flags, variables", [({"config": "/nowhere"}, {}), ({}, {"KMS_CONFIG": "/nowhere"})])
def test_a_file_that_is_named_must_exist(flags, variables):
    """Only the default files may be absent."""
    with pytest.raises(conf.ConfigError, match="cannot read /nowhere"):
        conf.load(flags, variables)


@pytest.mark.parametrize("path", showconfig.documents(ROOT), ids=lambda path: path.name)
def test_documents_list_the_settings_as_they_are(path):
    """`manage.py showconfig --write` has been run since the last change of a setting."""
    assert path.read_text(encoding="utf-8") == showconfig.documents(ROOT)[path]


def test_the_example_file_is_valid_when_uncommented(tmp_path):
    """Every line of the example with a value is understood."""
    lines = (ROOT / "kms.toml.example").read_text().splitlines()
    uncommented = [line.removeprefix("#") if line[:1] == "#" and line[1:2] != " " else line for line in lines]
    config = load("\n".join(line for line in uncommented if "= ..." not in line), tmp=tmp_path)
    assert config.http.port == 9998


def test_every_setting_is_read_by_some_code():
    """There is no setting that does nothing."""
    sources = "".join(
        path.read_text()
        for room in ("keystore", "kmip_api", "kmip_socket", "kmsproject", "ui")
        for path in (ROOT / room).rglob("*.py")
        if path.name != "conf.py"
    ) + "".join((ROOT / "keystore" / "conf.py").read_text().split("def load(")[1:])
    unread = [
        row.key for row in conf.SETTINGS.values() if f".{row.name}" not in sources and f'"{row.name}"' not in sources
    ]
    assert unread == []


def test_processes_follow_the_cores():
    """0 workers means one for each core, at most 4."""
    assert conf.processes(0) == min(4, len(os.sched_getaffinity(0)))
    assert conf.processes(7) == 7
