"""Settings: one table, four layers.

A setting is one line of a section below: name, type, default, help. The TOML file, the environment, the command line,
`showconfig`, the checks, `kms.toml.example` and the README's table all read that line; to add a setting, add a line
(and, for a new section, its line in `Config`), then run `manage.py showconfig --write`. Later layers win: defaults,
file, environment, command line. Nothing here opens a key, a database or a port."""

import argparse
import dataclasses
import difflib
import os
import re
import socket
import sys
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NoReturn

import environ

# The layers' names as people read them; a file's, a variable's or a flag's own name follows.
DEFAULT, FILE, ENVIRONMENT, COMMAND_LINE = "default", "file", "environment", "command line"

FILES = (Path("kms.toml"), Path("/etc/kms/kms.toml"))
PREFIX = "KMS_"
CONFIG_FLAG, CONFIG_VARIABLE = "--config", "KMS_CONFIG"
# Only these commands take a flag for each setting; all others take --config.
CONFIGURED_COMMANDS = ("runkms", "runkmipsocket", "runjobs", "showconfig")
# Kubernetes describes a service called "kms" to every container in these variables; they are not settings.
SERVICE_LINK = re.compile(r"KMS_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP)(_\w+)?)")
MASK = "********"


class ConfigError(Exception):
    """A setting that the server refuses to start with, in one line: key, layer, problem, remedy."""

    def __init__(self, key: str, layer: str, problem: str, remedy: str) -> None:
        super().__init__(key, layer, problem, remedy)
        self.key, self.layer, self.problem, self.remedy = key, layer, problem, remedy

    def __str__(self) -> str:
        return " ".join(f"{self.key} ({self.layer}): {self.problem}; {self.remedy}".split())


def refuse(error: ConfigError) -> NoReturn:
    """Print the refusal as one line on standard error and leave with status 2."""
    sys.stderr.write(f"kms: {error}\n")
    sys.stderr.flush()
    raise SystemExit(2)


def setting(
    default: object, help: str, *, secret: bool = False, minimum: float | None = None, also: tuple[str, ...] = ()
) -> Any:
    """Declare one setting; `also` names further environment variables that set it."""
    metadata = {"help": help, "secret": secret, "minimum": minimum, "also": also}
    return field(default=default, repr=not secret, metadata=metadata)


@dataclass(frozen=True, slots=True)
class Server:
    """What concerns every process."""

    shutdown_grace: float = setting(
        10.0, "Seconds that requests in hand get to finish when the server stops.", minimum=0
    )
    runtime_folder: Path = setting(
        Path("var/run"), "Folder of the sockets between the processes of the server, for its own user only."
    )
    vendor_identification: str = setting("KMS", "Vendor Identification that Query answers and vendor attributes carry.")


@dataclass(frozen=True, slots=True)
class Tls:
    """Certificate and key of both listeners, and whose clients they accept."""

    tls_p12_file: Path | None = setting(None, "PKCS#12 file with the server's key, certificate and chain.")
    tls_p12_password: str | None = setting(
        None, "Password of the PKCS#12 file; explicitly empty if it has none.", secret=True
    )
    tls_p12_password_file: Path | None = setting(None, "File whose first line is the password of the PKCS#12 file.")
    tls_cert_file: Path | None = setting(None, "PEM certificate, instead of PKCS#12.")
    tls_key_file: Path | None = setting(None, "PEM private key of tls_cert_file, not encrypted.")
    tls_chain_file: Path | None = setting(None, "PEM certificates between tls_cert_file and its root.")
    clients_ca_cert_file: Path | None = setting(None, "PEM file of the CAs whose client certificates are accepted.")
    clients_crl_file: Path | None = setting(
        None, "Revocation lists (PEM or DER) of the clients' CAs; every CA in use needs a current one."
    )
    clients_crl_urls: tuple[str, ...] = setting((), "URLs of revocation lists of the clients' CAs, fetched regularly.")
    clients_crl_folder: Path = setting(Path("var/crl"), "Folder of the fetched revocation lists.")
    clients_crl_interval: float = setting(3600.0, "Seconds between two fetches of the revocation lists.", minimum=1)
    http_client_auth: Literal["required", "optional"] = setting(
        "required", "Whether HTTPS clients need a certificate once clients_ca_cert_file is given."
    )
    tls_cipher_suites: tuple[str, ...] = setting(
        (), "Cipher suites, IANA or OpenSSL names; all three of TLS 1.3 or none of them (then TLS 1.2 only)."
    )
    legacy_ciphers: bool = setting(False, "Offer CBC and RSA key exchange on TLS 1.2 too, for old appliances.")


@dataclass(frozen=True, slots=True)
class Http:
    """The HTTP or HTTPS listener."""

    hostname: str | None = setting(None, "Address of the HTTP listener; 0.0.0.0 with TLS, 127.0.0.1 without.")
    port: int = setting(9998, "Port of the HTTP listener.", minimum=0)
    workers: int = setting(0, "HTTP processes; 0 means one for each core, at most 4.", minimum=0)
    threads: int = setting(32, "Threads of each HTTP process.", minimum=1)
    max_connections: int = setting(4096, "Open connections of each HTTP process.", minimum=1)
    handshake_timeout: float = setting(10.0, "Seconds for a TLS handshake.", minimum=0.1)
    header_timeout: float = setting(10.0, "Seconds for the head of a request, from its first byte.", minimum=0.1)
    body_timeout: float = setting(30.0, "Seconds for the body of a request.", minimum=0.1)
    send_timeout: float = setting(30.0, "Seconds that a client may take none of an answer.", minimum=0.1)
    keep_alive: float = setting(75.0, "Seconds that an idle connection stays open.", minimum=0.1)
    max_body_size: int = setting(67_108_864, "Bytes of the largest request body.", minimum=1024)
    trusted_proxies: tuple[str, ...] = setting((), "Addresses or networks of proxies whose X-Forwarded-For counts.")
    allowed_hosts: tuple[str, ...] = setting(
        (), "Accepted Host headers; by default any with TLS, only names of this machine's loopback without."
    )
    secret_key: str | None = setting(
        None, "Key that signs sessions, the same on every node; by default derived from the root key file.", secret=True
    )


@dataclass(frozen=True, slots=True)
class SocketServer:
    """The KMIP listener: TTLV over mutual TLS."""

    socket_server_start: Literal["auto", True, False] = setting(
        "auto", "Start the KMIP listener: true, false, or auto: when TLS and the clients' CA are configured."
    )
    socket_server_hostname: str = setting("0.0.0.0", "Address of the KMIP listener.")  # noqa: S104 - a server listens
    socket_server_port: int = setting(5696, "Port of the KMIP listener.", minimum=0)
    workers: int = setting(0, "KMIP processes; 0 means one for each core, at most 4.", minimum=0)
    max_connections: int = setting(8192, "Open connections of all KMIP processes together.", minimum=1)
    max_connections_per_address: int = setting(4096, "Open connections from one address.", minimum=1)
    handshake_timeout: float = setting(10.0, "Seconds for a TLS handshake.", minimum=0.1)
    idle_timeout: float = setting(900.0, "Seconds that a connection may stay idle between requests.", minimum=0.1)
    message_timeout: float = setting(30.0, "Seconds for the rest of a message once it has begun.", minimum=0.1)
    send_timeout: float = setting(30.0, "Seconds for a client to take an answer.", minimum=0.1)
    max_message_size: int = setting(8_388_608, "Bytes of the largest request message.", minimum=1024)


@dataclass(frozen=True, slots=True)
class Db:
    """The database."""

    database_type: Literal["sqlite", "postgresql", "mysql", "mariadb"] | None = setting(
        None, "Kind of database; by default what database_url says, else SQLite."
    )
    database_url: str | None = setting(
        None, "postgresql:// or mysql:// URL, with user and password.", secret=True, also=("DATABASE_URL",)
    )
    sqlite_path: Path = setting(
        Path("var"), "SQLite: folder of the database file, or the file itself if it has a suffix."
    )
    sqlite_synchronous: Literal["FULL", "NORMAL"] = setting(
        "FULL", "SQLite: FULL loses nothing acknowledged; NORMAL is quicker, and may when the power fails."
    )
    replica_url: str | None = setting(
        None,
        "URL of a replica of database_url, which answers Locate and Get where it is as new as the primary.",
        secret=True,
    )
    pool_size: int = setting(32, "Database connections of each KMIP and HTTP process.", minimum=1)


@dataclass(frozen=True, slots=True)
class Sealing:
    """Where the root key is that seals everything else."""

    provider: str = setting("keystore.sealing.file_provider", "Dotted path of what provides the root key.")
    root_key: str | None = setting(None, "Root key in hexadecimal, for the environment provider.", secret=True)
    root_key_file: Path = setting(Path("var/root.key"), "File of the root key, readable by its owner only.")
    pkcs11_module: Path | None = setting(None, "PKCS#11 library of the token that holds the root key, or keys.")
    pkcs11_token: str | None = setting(None, "Label of the token.")
    pkcs11_pin: str | None = setting(None, "PIN of the token's user.", secret=True)
    pkcs11_pin_file: Path | None = setting(None, "File that holds the PIN.")
    pkcs11_key: str = setting("kms-root-key", "Label of the root key in the token, an AES key of 256 bits.")
    unseal_socket: Path = setting(
        Path("var/unseal.sock"), "Unix socket on which a server that starts sealed takes shares of its root key."
    )


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """What becomes of objects."""

    destroy_delay: float = setting(
        0.0, "Seconds for which an administrator can restore what was destroyed; 0 erases it at once.", minimum=0
    )


@dataclass(frozen=True, slots=True)
class Auth:
    """Who clients are."""

    default_username: str = setting("admin", "Who callers of plain HTTP on a loopback address are.")
    default_namespace: str = setting("default", "Namespace of users that are registered in no other.")
    certificate_username: Literal["common_name", "email", "dns", "uri", "subject"] = setting(
        "common_name", "What in a client certificate names the user: of the subject, or an alternative name."
    )
    enrolment: Literal["open", "registered"] = setting(
        "open", "Whether a name that a trusted CA or provider vouches for becomes a user, or only if it is registered."
    )
    kmip_credentials: bool = setting(True, "Accept credentials in KMIP requests: password, device, ticket.")
    ticket_lifetime: int = setting(86_400, "Seconds that a Login ticket is valid at most.", minimum=1)
    http_basic: bool = setting(False, "Accept HTTP basic authentication with the password of a user.")
    jwt_auth_provider: tuple[str, ...] = setting(
        (), "OpenID providers whose tokens are accepted, each as issuer|JWKS URL or file|audience|audience…"
    )
    jwt_user_claim: str = setting("sub", "Claim of a token that names the user; email counts only if verified.")
    jwks_lifetime: float = setting(300.0, "Seconds for which a provider's keys are believed.", minimum=1)
    login_failures: int = setting(5, "Failed logins of a user, in a row, that lock it out.", minimum=1)
    login_lockout: float = setting(900.0, "Seconds that a user or address is locked out.", minimum=1)
    session_lifetime: float = setting(28_800.0, "Seconds until people must log in to the console again.", minimum=60)
    second_factor: Literal["optional", "required"] = setting(
        "optional", "Whether people who log in with a password need a second factor, or may set one up."
    )
    oidc_issuer: str | None = setting(None, "OpenID provider of the console, by its issuer URL.")
    oidc_client_id: str | None = setting(None, "The console's client id at its OpenID provider.")
    oidc_client_secret: str | None = setting(None, "The console's client secret at its OpenID provider.", secret=True)


@dataclass(frozen=True, slots=True)
class Access:
    """What users may do."""

    default_role: Literal["client", "auditor", "operator", "administrator", ""] = setting(
        "client", "Role of users that have none, nor by a group or certificate; empty for none."
    )
    get_implies_use: bool = setting(False, "A right to get a key also allows encrypting, signing and the like.")


@dataclass(frozen=True, slots=True)
class Audit:
    """The record of what was done."""

    mode: Literal["batched", "immediate"] = setting(
        "batched", "Records of reads and of cryptography: within 100 ms, or before the answer. Changes: always before."
    )
    checkpoint_interval: float = setting(1.0, "Seconds between checkpoints of the audit records.", minimum=0.05)
    checkpoint_file: Path | None = setting(
        Path("var/audit-checkpoints.jsonl"), "File to which checkpoints are written too, outside the database."
    )
    checkpoint_syslog: str | None = setting(None, "Where checkpoints go by syslog: /dev/log, or host:port for UDP.")


@dataclass(frozen=True, slots=True)
class Pki:
    """The certificate authority, and how new clients get on board."""

    url: str | None = setting(
        None, "Where clients reach this server over HTTP, for the addresses of revocation lists in certificates."
    )
    issuer: str | None = setting(
        None, "Unique Identifier of the CA certificate that Certify uses where a request links to no issuer."
    )
    validity_days: int = setting(397, "Days that a certificate is valid for which the request says nothing.", minimum=1)
    authority_days: int = setting(3650, "The same for certificates of CAs.", minimum=1)
    crl_days: float = setting(
        7.0, "Days until the next revocation list; a new one is signed after half of them.", minimum=0.01
    )
    profiles_file: Path | None = setting(
        None, "File of certificate profiles: OpenSSL's extension sections, each named as its profile."
    )
    token_hours: float = setting(72.0, "Hours that a new client has to use its registration token.", minimum=0.01)
    public_port: int | None = setting(
        None, "Port of a plain HTTP listener that gives out revocation lists, OCSP answers and CA certificates alone."
    )
    public_hostname: str = setting("0.0.0.0", "Address of that listener.")  # noqa: S104 - for everybody


@dataclass(frozen=True, slots=True)
class Jobs:
    """What is done in the background, on one node at a time."""

    asynchronous_workers: int = setting(2, "Asynchronous requests that are carried out at the same time.", minimum=1)
    large_batch: int = setting(
        256, "Batch items beyond which a message is answered asynchronously if the client allows it.", minimum=1
    )
    max_asynchronous: int = setting(1000, "Asynchronous requests of one client that may wait.", minimum=1)
    notification_lifetime: float = setting(
        3600.0, "Seconds that a notification waits for its client, and a client for its notifications.", minimum=1
    )
    result_lifetime: float = setting(86_400.0, "Seconds that the result of an asynchronous request is kept.", minimum=1)


@dataclass(frozen=True, slots=True)
class Crypto:
    """What cryptography is allowed to use."""

    policy: Literal["default", "fips-140-3", "permissive"] = setting(
        "default", "Allow-lists of algorithms, sizes, modes, paddings, curves and hashes."
    )
    algorithms: tuple[str, ...] = setting((), "The only algorithms of the policy that may be used; empty means all.")
    key_sizes: tuple[str, ...] = setting(
        (), "The only sizes that keys of an algorithm may have, such as AES:256 or RSA:3072-8192."
    )
    modes: tuple[str, ...] = setting((), "The only block cipher modes of the policy that may be used.")
    paddings: tuple[str, ...] = setting((), "The only paddings of the policy, of data and of signatures.")
    curves: tuple[str, ...] = setting((), "The only curves of the policy that may be used.")
    hashes: tuple[str, ...] = setting((), "The only hashes of the policy that may be used.")
    max_data: int = setting(
        67_108_864,
        "Bytes of data in one request to encrypt, sign or hash; messages have limits of their own.",
        minimum=1,
    )
    iv_before_data: tuple[str, ...] = setting(
        (),
        "Users whose Decrypt without an IV has it before the ciphertext, as EDB's client has in its Thales variant.",
    )
    max_streams: int = setting(1024, "Cryptographic operations in parts that are open at a time on a node.", minimum=1)
    stream_timeout: float = setting(300.0, "Seconds that an operation in parts waits for the next one.", minimum=1)


@dataclass(frozen=True, slots=True)
class Logging:
    """What is logged, to standard error."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = setting("INFO", "Lowest level that is logged.")
    format: Literal["line", "json"] = setting("line", "Lines for people, or JSON objects with a request id.")


@dataclass(frozen=True, slots=True)
class Tracing:
    """Traces for OpenTelemetry; the packages for it are in requirements-tracing.txt."""

    tracing_endpoint: str | None = setting(
        None, "URL to which spans are sent by OTLP/HTTP, such as http://collector:4318/v1/traces; by default none are."
    )
    tracing_ratio: float = setting(1.0, "Part of the operations that are traced, 0 to 1.", minimum=0)


@dataclass(frozen=True, slots=True)
class Config:
    """Every setting, by section, and the layer that each came from."""

    server: Server
    tls: Tls
    http: Http
    socket_server: SocketServer
    db: Db
    sealing: Sealing
    lifecycle: Lifecycle
    auth: Auth
    access: Access
    audit: Audit
    pki: Pki
    jobs: Jobs
    crypto: Crypto
    logging: Logging
    tracing: Tracing
    layers: Mapping[str, str] = field(repr=False)

    def value(self, key: str) -> object:
        """The value of a setting by its key ("section.name")."""
        section, _, name = key.partition(".")
        return getattr(getattr(self, section), name)

    def error(self, key: str, problem: str, remedy: str) -> ConfigError:
        """A refusal of the setting `key` ("section.name"), naming the layer that it came from."""
        return ConfigError(key, self.layers[key], problem, remedy)


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table of settings."""

    section: str
    name: str
    kind: Any  # a type expression of one of the shapes that `_convert` knows
    default: object
    help: str
    secret: bool
    minimum: float | None
    also: tuple[str, ...]

    @property
    def key(self) -> str:
        """The name in messages: "http.port"."""
        return f"{self.section}.{self.name}"

    @property
    def names(self) -> tuple[str, ...]:
        """Its names in flags and variables, the one to show first; ambiguous names need the section in front."""
        if self.name.startswith(self.section + "_"):
            return (self.name,)
        qualified = f"{self.section}_{self.name}"
        return (qualified,) if self.name in AMBIGUOUS else (self.name, qualified)

    @property
    def flags(self) -> tuple[str, ...]:
        """Its spellings on the command line."""
        return tuple("--" + name.replace("_", "-") for name in self.names)

    @property
    def variables(self) -> tuple[str, ...]:
        """Its spellings in the environment."""
        return (*(PREFIX + name.upper() for name in self.names), *self.also)

    @property
    def type_name(self) -> str:
        """The type as people write it."""
        kinds = _members(self.kind)
        if typing.get_origin(kinds[0]) is Literal:
            return ", ".join(_toml(choice) for choice in typing.get_args(kinds[0]))
        names = {str: "text", int: "integer", float: "number", bool: "true, false", Path: "path"}
        return names.get(kinds[0], "list of texts")

    def show(self, value: object) -> str:
        """The value as people may see it: secrets masked."""
        return MASK if self.secret and value else _toml(value)


def _members(kind: Any) -> list[Any]:
    """The alternatives of a type expression, without None."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return [member for member in typing.get_args(kind) if member is not type(None)]
    return [kind]


def _toml(value: object) -> str:
    """A value in TOML's spelling; nothing for None."""
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case int() | float():
            return repr(value)
        case tuple():
            return "[" + ", ".join(_toml(entry) for entry in value) + "]"
        case _:
            return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'


SECTIONS: dict[str, type[Any]] = {
    name: kind for name, kind in typing.get_type_hints(Config).items() if name != "layers"
}


def _rows() -> list[Setting]:
    return [
        Setting(section, row.name, typing.get_type_hints(kind)[row.name], row.default, **row.metadata)
        for section, kind in SECTIONS.items()
        for row in dataclasses.fields(kind)
    ]


SETTINGS: dict[str, Setting] = {row.key: row for row in _rows()}
_NAMES = [row.name for row in SETTINGS.values()]
AMBIGUOUS = frozenset(name for name in _NAMES if _NAMES.count(name) > 1)


def nearest(word: str, known: Sequence[str]) -> str:
    """The known name most like the word, as the end of a remedy."""
    found = difflib.get_close_matches(word, known, n=1, cutoff=0.0)
    return f"did you mean {found[0]}?" if found else "remove it"


def _convert(row: Setting, value: object, layer: str) -> object:
    """The value in the setting's type; texts from the environment and the command line are parsed."""
    (kind, *_) = _members(row.kind)
    is_text = layer.split()[0] in ("environment", "command")
    if is_text and value == "" and not row.secret:
        return row.default  # Compose files and charts pass unset values as empty ones.
    try:
        result = _parse(kind, value, is_text)
    except (ValueError, TypeError) as exc:
        given = MASK if row.secret else repr(value)
        raise ConfigError(
            row.key, layer, f"{given} is not of the right type", f"give {_article(row.type_name)}"
        ) from exc
    if row.minimum is not None and isinstance(result, int | float) and result < row.minimum:
        raise ConfigError(row.key, layer, f"{result} is too small", f"give at least {row.minimum:g}")
    if row.name.endswith("port") and isinstance(result, int) and result > 65535:
        raise ConfigError(row.key, layer, f"{result} is no port", "give 0 to 65535")
    return result


def _article(type_name: str) -> str:
    choices = type_name.split(", ")
    if len(choices) > 1:
        return "one of " + type_name
    return ("an " if type_name[0] in "aeiou" else "a ") + type_name


BOOLEANS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def _parse(kind: Any, value: object, is_text: bool) -> object:
    """The value in the type `kind`, else ValueError or TypeError."""
    if typing.get_origin(kind) is Literal:
        choices = typing.get_args(kind)
        if isinstance(value, str):
            value = next((choice for choice in choices if str(choice).lower() == value.lower()), value)
        if not any(value == choice and type(value) is type(choice) for choice in choices):
            raise ValueError(value)
        return value
    if typing.get_origin(kind) is tuple:
        # Suites are usually written with colons, hosts and networks with commas.
        entries = re.split(r"[\s,]+", value) if isinstance(value, str) else value
        if isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9_:+!@=-]+", value) and "TLS_" in value:
            entries = value.split(":")
        if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
            raise TypeError(value)
        return tuple(entry for entry in entries if entry)
    if is_text and kind is bool:
        return BOOLEANS[value.lower()] if isinstance(value, str) and value.lower() in BOOLEANS else _fail(value)
    if is_text and kind in (int, float):
        return environ.Env.parse_value(value, kind)
    if kind is Path and isinstance(value, str):
        return Path(value).expanduser() if value else None
    if kind is float and type(value) is int:
        return float(value)
    # A bool is an int to Python, not to the person who wrote it.
    return value if type(value) is kind else _fail(value)


def _fail(value: object) -> NoReturn:
    raise TypeError(value)


def _file_layer(path: Path, layer: str) -> dict[str, tuple[object, str]]:
    """The settings in a TOML file."""
    source = f"{FILE} {path}"
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise ConfigError(
            "config", layer, f"cannot read {path}: {exc.strerror}", "give the path of a readable TOML file"
        ) from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise ConfigError("config", source, f"is not TOML: {exc}", "correct the file") from exc
    found: dict[str, tuple[object, str]] = {}
    for section, entries in document.items():
        if section not in SECTIONS or not isinstance(entries, dict):
            raise ConfigError(section, source, "unknown section", nearest(section, [f"[{name}]" for name in SECTIONS]))
        for name, value in entries.items():
            key = f"{section}.{name}"
            if key not in SETTINGS:
                inside = [row.key for row in SETTINGS.values() if row.section == section]
                raise ConfigError(key, source, "unknown key", nearest(key, inside))
            found[key] = (value, source)
    return found


def _environment_layer(variables: Mapping[str, str]) -> dict[str, tuple[object, str]]:
    """The settings in the environment."""
    known = {variable: row for row in SETTINGS.values() for variable in row.variables}
    found: dict[str, tuple[object, str]] = {}
    for name, value in variables.items():
        layer = f"{ENVIRONMENT} {name}"
        if name not in known:
            if name.startswith(PREFIX) and name != CONFIG_VARIABLE and not SERVICE_LINK.fullmatch(name):
                raise ConfigError(name, ENVIRONMENT, "unknown variable", nearest(name, sorted(known)))
            continue
        if name == "KMS_PORT" and value.startswith("tcp://"):
            continue  # A service link too; see SERVICE_LINK.
        key = known[name].key
        if key in found and found[key][0] != value:
            raise ConfigError(key, layer, f"contradicts {found[key][1]}", "set one of the two")
        found[key] = (value, layer)
    return found


def add_flags(parser: argparse.ArgumentParser, *, settings: bool = True) -> None:
    """Add `--config` and, unless told otherwise, a flag for each setting to a parser."""
    group = parser.add_argument_group("settings")
    group.add_argument(CONFIG_FLAG, metavar="FILE", default=argparse.SUPPRESS, help="TOML file of settings.")
    for row in SETTINGS.values() if settings else ():
        optional = bool in _members(row.kind) or "true" in row.type_name
        shape: dict[str, Any] = {"nargs": "?", "const": "true"} if optional else {}
        text = row.help.replace("%", "%%")
        group.add_argument(*row.flags, dest=row.key, metavar="VALUE", default=argparse.SUPPRESS, help=text, **shape)


def parse_flags(argv: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The settings among the arguments of a management command, by key ("config" is the file), and the rest."""
    command = argv[1] if len(argv) > 1 else ""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.error = _bad_flag  # type: ignore[method-assign] # argparse would print its usage
    add_flags(parser, settings=command in CONFIGURED_COMMANDS)
    found, rest = parser.parse_known_args(list(argv[2:]))
    # The commands that take every flag list them in their help, and so parse them once more.
    return vars(found), list(argv) if command in CONFIGURED_COMMANDS else [*argv[:2], *rest]


def _bad_flag(message: str) -> NoReturn:
    name, _, problem = message.removeprefix("argument ").partition(": ")
    raise ConfigError(name, COMMAND_LINE, problem, "give its value after it")


def load(flags: Mapping[str, str], variables: Mapping[str, str], files: Sequence[Path] = FILES) -> Config:
    """Merge the layers; raise ConfigError for what is unknown or of the wrong type."""
    values: dict[str, tuple[object, str]] = {key: (row.default, DEFAULT) for key, row in SETTINGS.items()}
    given = [
        (flags.get("config"), f"{COMMAND_LINE} {CONFIG_FLAG}"),
        (variables.get(CONFIG_VARIABLE), f"{ENVIRONMENT} {CONFIG_VARIABLE}"),
    ]
    chosen = [(Path(path), layer) for path, layer in given if path]
    chosen += [(path, DEFAULT) for path in files if path.is_file()]
    layers = [_file_layer(*chosen[0])] if chosen else []
    layers.append(_environment_layer(variables))
    layers.append(
        {key: (value, f"{COMMAND_LINE} {SETTINGS[key].flags[0]}") for key, value in flags.items() if key != "config"}
    )
    for found in layers:
        for key, (value, layer) in found.items():
            values[key] = (_convert(SETTINGS[key], value, layer), layer)
    return _build(values)


def _build(values: Mapping[str, tuple[object, str]]) -> Config:
    """The configuration, with the defaults that depend on other settings filled in."""
    sections = {
        section: kind(**{row.name: values[f"{section}.{row.name}"][0] for row in dataclasses.fields(kind)})
        for section, kind in SECTIONS.items()
    }
    config = Config(**sections, layers={key: layer for key, (_, layer) in values.items()})
    http = config.http
    if http.hostname is None:
        http = dataclasses.replace(http, hostname="0.0.0.0" if has_tls(config) else "127.0.0.1")  # noqa: S104
    if not http.allowed_hosts:
        local = ("localhost", "127.0.0.1", "[::1]", socket.gethostname())
        http = dataclasses.replace(http, allowed_hosts=("*",) if has_tls(config) else local)
    return dataclasses.replace(config, http=http)


def has_tls(config: Config) -> bool:
    """Whether a certificate or key for the listeners is named; whether it is usable is for `checks` to say."""
    tls = config.tls
    return any((tls.tls_p12_file, tls.tls_cert_file, tls.tls_key_file))


def processes(workers: int) -> int:
    """How many processes a `workers` setting means."""
    return workers or min(len(os.sched_getaffinity(0)), 4)


DATABASES = {
    "django.db.backends.sqlite3": ("sqlite",),
    "django.db.backends.postgresql": ("postgresql",),
    "django.db.backends.mysql": ("mysql", "mariadb"),
}


def database(config: Config) -> dict[str, Any]:
    """Django's description of the database, as far as the settings say it; options are for the project to add."""
    db = config.db
    if db.database_url is None:
        if db.database_type not in (None, "sqlite"):
            raise config.error(
                "db.database_type", f"{db.database_type} needs db.database_url", "give the database's URL"
            )
        path = db.sqlite_path
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": str(path if path.suffix else path / "kms.sqlite3")}
    described = _described(config, "db.database_url", db.database_url)
    kinds = DATABASES[described["ENGINE"]]
    if db.database_type is not None and db.database_type not in kinds:
        raise config.error("db.database_type", f"contradicts the URL, which says {kinds[0]}", "remove one of the two")
    return described


def replica(config: Config) -> dict[str, Any] | None:
    """Django's description of the replica, if there is one."""
    url = config.db.replica_url
    if url is None:
        return None
    described = _described(config, "db.replica_url", url)
    if described["ENGINE"] != database(config)["ENGINE"] or DATABASES[described["ENGINE"]] == ("sqlite",):
        remedy = "give the URL of a replica of db.database_url"
        raise config.error("db.replica_url", "is of another kind than the database, or SQLite", remedy)
    return described


def _described(config: Config, key: str, given: str) -> dict[str, Any]:
    """Django's description of the database that a URL names."""
    url = given.replace("mariadb://", "mysql://", 1)
    scheme = url.partition(":")[0]
    if scheme not in environ.Env.DB_SCHEMES:
        raise config.error(key, f"unknown scheme {scheme!r}", "begin it with postgresql:// or mysql://")
    try:
        described: dict[str, Any] = environ.Env.db_url_config(url)
    except ValueError as exc:  # The message would show the password.
        raise config.error(key, "is not a URL", "quote special characters of the password") from exc
    if described["ENGINE"] not in DATABASES:
        raise config.error(key, f"{scheme} is not supported", "use SQLite, PostgreSQL or MariaDB")
    return described


_flags: dict[str, str] = {}
_current: Config | None = None


def use_flags(argv: Sequence[str]) -> list[str]:
    """Take the settings among a command's arguments into account from now on; the arguments that Django is to see."""
    global _current
    found, rest = parse_flags(argv)
    _flags.clear()
    _flags.update(found)
    _current = None
    return rest


def current() -> Config:
    """The configuration of this process."""
    return _current if _current is not None else use(read())


def read() -> Config:
    """Merge every layer as it is now, without using the result yet."""
    return load(_flags, os.environ)


def use(config: Config) -> Config:
    """Make this the configuration of the process."""
    global _current
    _current = config
    return config
