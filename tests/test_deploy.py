"""What is in deploy/: valid for the programs that read it, and true of the server: its commands, files and settings."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from keystore import conf
from tests.certificates import PASSWORD, Pki
from tests.processes import MANAGE, Running, manage

ROOT = MANAGE.parent
DEPLOY = ROOT / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
#: What the files are called on the machine, and what a test has instead.
FILES = {
    "root.key": "root.key",
    "server.p12": "server.p12",
    "server.p12.password": "server.p12.password",
    "clients-ca.pem": "ca.pem",
}


def unit(path: Path) -> dict[str, list[str]]:
    """The settings of a unit, whatever their section; one may stand there several times."""
    found: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        if line and line[0] not in "#[":
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def compose() -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())


VALUES = yaml.safe_load((DEPLOY / "helm" / "values.yaml").read_text())


def rendered(name: str) -> list[dict[str, Any]]:
    """The documents of a template of the chart with the values that it comes with."""
    text = (DEPLOY / "helm" / "templates" / name).read_text()

    def settings(match: re.Match[str]) -> str:
        lines = match[1].replace("{{ $name }}", "{name}").replace("{{ $value | quote }}", '"{value}"')
        return "".join(lines.format(name=key, value=value) for key, value in VALUES["settings"].items())

    def value(match: re.Match[str]) -> str:
        if match[1] == "Release.Name":
            return "a-release"
        found: Any = VALUES
        for part in match[1].removeprefix("Values.").split("."):
            found = found[part]
        return str(found)

    text = re.sub(
        r" *{{- range \$name, \$value := \.Values\.settings }}\n(.*?) *{{- end }}\n", settings, text, flags=re.S
    )
    text = re.sub(r"{{ \.([\w.]+) }}", value, text)
    assert "{{" not in text, "the chart uses more of the language than this test knows"
    return list(yaml.safe_load_all(text))


def container() -> dict[str, Any]:
    return rendered("node.yaml")[0]["spec"]["template"]["spec"]["containers"][0]


def environment_of(name: str) -> dict[str, str]:
    """The variables that a way to deploy gives the server."""
    if name == "systemd":
        return dict(one.split("=", 1) for one in unit(DEPLOY / "systemd" / "kms.service")["Environment"])
    if name == "compose":
        return compose()["services"]["node-1"]["environment"]
    secrets = {"KMS_DATABASE_URL": "postgresql://kms@db/kms", "KMS_ROOT_KEY": "00" * 32}
    return {one["name"]: one.get("value", secrets.get(one["name"], "")) for one in container()["env"]}


def command_of(name: str) -> list[str]:
    """The command with which a way to deploy starts the server."""
    if name == "systemd":
        return shlex.split(unit(DEPLOY / "systemd" / "kms.service")["ExecStart"][0])
    entry = [line for line in (DEPLOY / "Dockerfile").read_text().splitlines() if line.startswith("ENTRYPOINT")]
    begins: list[str] = yaml.safe_load(entry[0].removeprefix("ENTRYPOINT"))
    if name == "helm":
        return begins + container()["args"]
    ends = [line for line in (DEPLOY / "Dockerfile").read_text().splitlines() if line.startswith("CMD")]
    return begins + yaml.safe_load(ends[0].removeprefix("CMD"))


WAYS = ["systemd", "compose", "helm"]


@pytest.mark.parametrize("name", WAYS)
def test_a_server_starts_as_the_files_say(name, tmp_path):
    """With their command and variables: KMIP and HTTPS, with TLS and the clients' CA. The database is a file here."""
    pki = Pki(tmp_path)
    (tmp_path / "server.p12.password").write_text(PASSWORD)
    settings = {}
    for variable, value in environment_of(name).items():
        path = Path(value)
        settings[variable] = str(tmp_path / FILES[path.name]) if path.name in FILES else value
    settings.pop("KMS_DATABASE_URL", None)
    if "KMS_CONFIG" in settings:
        settings["KMS_CONFIG"] = str(tmp_path / "kms.toml")
        (tmp_path / "kms.toml").write_text(
            f'[tls]\ntls_p12_file = "{pki.p12_file}"\ntls_p12_password = "{PASSWORD}"\n'
            f'clients_ca_cert_file = "{pki.ca_file}"\n'
        )
    if "KMS_ROOT_KEY" in settings:
        settings["KMS_ROOT_KEY_FILE"] = ""
    done = manage(tmp_path, "migrate", "-v0", **settings)
    assert done.returncode == 0, done.stderr
    program, script, *arguments = command_of(name)
    assert program in ("python", "/opt/kms/.venv/bin/python") and script == "/opt/kms/manage.py"
    with Running(tmp_path, command=[sys.executable, str(MANAGE), *arguments], **settings) as server:
        assert server.kmip_port and server.http_port
        assert server.stop() == 0


@pytest.mark.parametrize("name", WAYS)
def test_every_variable_is_a_setting(name):
    """One that is not would keep the server from starting."""
    variables = {key: value for key, value in environment_of(name).items() if key != conf.CONFIG_VARIABLE}
    conf.load({}, variables, [])


# The image.


def test_the_image_holds_the_project_and_is_not_root():
    """Every package that is needed to run, and nothing that git does not know."""
    text = (DEPLOY / "Dockerfile").read_text()
    copied = {one for line in text.splitlines() if line.startswith("COPY") for one in line.split()[1:-1]}
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "benchmarks"}
    assert packages | {"manage.py", "requirements.txt"} <= copied
    assert re.search(r"^USER \d+$", text, re.MULTILINE)
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert {line[1:] for line in ignored if line.startswith("!")} == copied and ignored[0] == "*"
    assert re.search(r"^FROM python:3\.11-slim$", text, re.MULTILINE)


# Compose.


def test_the_compose_file_s_parts_fit_together():
    """Names that it refers to are there; nodes wait for the tables, and hold their names, volumes and ports alone."""
    document = compose()
    services = document["services"]
    for name, service in services.items():
        assert set(service.get("depends_on", {})) <= set(services), name
        assert set(service.get("secrets", ())) <= set(document["secrets"]), name
        for volume in service.get("volumes", ()):
            assert volume.split(":")[0] in document["volumes"], name
    nodes = [service for name, service in services.items() if name.startswith("node-")]
    assert len(nodes) == 2
    for part in ("hostname", "ports", "volumes"):
        assert nodes[0][part] != nodes[1][part]
    for node in nodes:
        assert node["depends_on"]["migrate"]["condition"] == "service_completed_successfully"
        assert node["read_only"] and node["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in node["security_opt"]
    assert services["migrate"]["command"] == ["migrate"]


def docker(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["docker", *arguments], capture_output=True, text=True, timeout=60, env={**os.environ, **variables}
    )


def test_compose_takes_the_file():
    """And refuses it where the database's password is missing."""
    if shutil.which("docker") is None or docker("compose", "version").returncode != 0:
        pytest.skip("there is no docker compose here")
    file = str(DEPLOY / "compose.yaml")
    done = docker("compose", "-f", file, "config", "--quiet", KMS_DB_PASSWORD="a-password")
    assert done.returncode == 0, done.stderr
    assert docker("compose", "-f", file, "config", "--quiet", KMS_DB_PASSWORD="").returncode != 0


# systemd.


@pytest.mark.parametrize("path", UNITS, ids=[path.stem for path in UNITS])
def test_systemd_takes_the_unit(path, tmp_path):
    """Programs that are not installed where the unit looks for them are replaced by one that is."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze here")
    text = path.read_text().replace("/opt/kms/.venv/bin/python", "/bin/true").replace("file:///opt/kms", "file:///tmp")
    (tmp_path / path.name).write_text(text.replace("User=kms", "User=root").replace("Group=kms", "Group=root"))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(tmp_path / path.name)], capture_output=True, text=True, timeout=60
    )
    said = [line for line in done.stderr.splitlines() if path.name in line]
    assert done.returncode == 0 and not said, done.stderr


@pytest.mark.parametrize("path", UNITS, ids=[path.stem for path in UNITS])
def test_units_are_confined(path):
    """Whoever breaks into the server gets no further than its own files."""
    found = unit(path)
    assert found["User"] == ["kms"] and found["CapabilityBoundingSet"] == [""]
    for name in ("NoNewPrivileges", "ProtectHome", "PrivateTmp", "PrivateDevices"):
        assert found[name] == ["yes"], name
    assert found["ProtectSystem"] == ["strict"] and found["LimitCORE"] == ["0"]


# Helm.


def test_the_chart_s_objects_are_whole():
    """Selectors match labels, ports have names, containers are confined and get all files that they name."""
    (deployment,) = rendered("node.yaml")
    service, budget = rendered("service.yaml")
    pod = deployment["spec"]["template"]
    for selector in (deployment["spec"]["selector"]["matchLabels"], service["spec"]["selector"]):
        assert selector.items() <= pod["metadata"]["labels"].items()
    assert budget["spec"]["selector"] == deployment["spec"]["selector"]
    assert deployment["spec"]["replicas"] == VALUES["replicas"]
    assert {one["targetPort"] for one in service["spec"]["ports"]} == {one["name"] for one in container()["ports"]}
    spec = pod["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True and spec["enableServiceLinks"] is False
    volumes = {one["name"] for one in spec["volumes"]}
    for one in (*spec["containers"], *spec["initContainers"]):
        assert one["securityContext"]["readOnlyRootFilesystem"] and one["securityContext"]["capabilities"] == {
            "drop": ["ALL"]
        }
        assert {mount["name"] for mount in one["volumeMounts"]} <= volumes
    assert spec["initContainers"][0]["args"] == ["migrate"]
    # A pod has longer to end than the server takes.
    assert spec["terminationGracePeriodSeconds"] > conf.SETTINGS["server.shutdown_grace"].default


def test_helm_takes_the_chart():
    if shutil.which("helm") is None:
        pytest.skip("there is no helm here")
    for command in (["lint", "--strict"], ["template", "a-release"]):
        done = subprocess.run(["helm", *command, str(DEPLOY / "helm")], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_chart_s_version_is_the_project_s():
    chart: Mapping[str, Any] = yaml.safe_load((DEPLOY / "helm" / "Chart.yaml").read_text())
    assert chart["apiVersion"] == "v2"
    assert f'version = "{chart["appVersion"]}"' in (ROOT / "pyproject.toml").read_text()
