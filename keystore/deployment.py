"""What is unsafe in production though the server starts with it: `manage.py check --deploy` names each.

One row of `UNSAFE` is one way to be unsafe. docs/production.md describes settings that have none.
"""

import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from django.core import checks

from keystore import conf
from keystore.checks import FILE_PROVIDER, is_loopback, is_open
from keystore.conf import Config, ConfigError


class Unsafe(NamedTuple):
    """Whether a configuration is unsafe in some way, what that means, and what to do."""

    key: str
    applies: Callable[[Config], bool]
    what: str
    hint: str


def _in_the_clear(url: str | None, described: dict[str, Any] | None) -> bool:
    """Whether a database is reached over a network without TLS that knows the server."""
    if url is None or described is None:
        return False
    host = urlsplit(url).hostname
    options: dict[str, Any] = described.get("OPTIONS", {})
    if host is None or is_loopback(host):
        return False
    return options.get("sslmode") != "verify-full" and not options.get("ssl_verify_identity")


def _together(one: Path | None, other: Path) -> bool:
    return one is not None and one.resolve().parent == other.resolve().parent


def _database_file(config: Config) -> Path | None:
    """The database's file, where it is one."""
    described = conf.database(config)
    return Path(described["NAME"]) if described["ENGINE"].endswith("sqlite3") else None


def _root_key_beside(config: Config) -> bool:
    database = _database_file(config)
    return (
        config.sealing.provider == FILE_PROVIDER
        and database is not None
        and _together(config.sealing.root_key_file, database)
    )


def _proof_beside(config: Config) -> bool:
    """Whether checkpoints are only where whoever can change the database can change them, too."""
    audit, database = config.audit, _database_file(config)
    if audit.checkpoint_syslog is not None:
        return False
    return audit.checkpoint_file is None or (database is not None and _together(audit.checkpoint_file, database))


def _readable(config: Config) -> bool:
    """Whether a file with a secret can be read by others than its owner and group."""
    tls, sealing = config.tls, config.sealing
    files = {tls.tls_p12_file, tls.tls_p12_password_file, tls.tls_key_file, sealing.pkcs11_pin_file}
    secrets = (config.layers[key] for key, row in conf.SETTINGS.items() if row.secret)
    files |= {Path(layer.removeprefix(f"{conf.FILE} ")) for layer in secrets if layer.startswith(conf.FILE)}
    return any(path is not None and path.exists() and bool(stat.S_IMODE(path.stat().st_mode) & 0o007) for path in files)


def _no_revocation(config: Config) -> bool:
    tls = config.tls
    return tls.clients_ca_cert_file is not None and tls.clients_crl_file is None and not tls.clients_crl_urls


#: What to do about a connection to a database that is not.
CHECKED: Final = "add ?sslmode=verify-full (PostgreSQL) or ?ssl_ca=…&ssl_verify_identity=true (MariaDB)"

UNSAFE: Final = (
    Unsafe("auth", is_open, "nobody authenticates", "configure TLS with the clients' CA"),
    Unsafe("tls", lambda c: not conf.has_tls(c), "HTTP is served without TLS", "give tls.tls_p12_file"),
    Unsafe("tls.legacy_ciphers", lambda c: c.tls.legacy_ciphers, "old cipher suites are offered", "set it to false"),
    Unsafe(
        "tls.clients_crl_file",
        _no_revocation,
        "certificates that the clients' CA revokes are let in",
        "give the CA's revocation list, or its address in tls.clients_crl_urls",
    ),
    Unsafe("tls.tls_key_file", _readable, "others can read a file that holds a secret", "chmod 640, or 600"),
    Unsafe(
        "http.allowed_hosts",
        lambda c: "*" in c.http.allowed_hosts,
        "any Host header is accepted",
        "list the names by which clients know the server",
    ),
    Unsafe(
        "http.secret_key",
        lambda c: c.http.secret_key is None and c.sealing.provider != FILE_PROVIDER and not c.sealing.root_key,
        "sessions of the console end with the process, and are not shared by nodes",
        "set KMS_SECRET_KEY to 50 random characters, the same on every node",
    ),
    Unsafe(
        "db.database_url",
        lambda c: _in_the_clear(c.db.database_url, conf.database(c)),
        "the database is reached without TLS that checks its name",
        CHECKED,
    ),
    Unsafe(
        "db.sqlite_synchronous",
        lambda c: c.db.database_url is None and c.db.sqlite_synchronous != "FULL",
        "acknowledged changes may be lost when the power fails",
        "set it to FULL",
    ),
    Unsafe(
        "sealing.root_key_file",
        _root_key_beside,
        "the root key lies beside the database that it seals: one copy has both",
        "put it elsewhere, or in a token or in shares",
    ),
    Unsafe(
        "audit.checkpoint_file",
        _proof_beside,
        "checkpoints of the audit are kept only beside the database",
        "set audit.checkpoint_syslog, or a file on another machine's disk",
    ),
    Unsafe(
        "auth.enrolment",
        lambda c: c.auth.enrolment == "open" and bool(c.access.default_role),
        "every name that the CA or provider vouches for becomes a user with a role",
        "set it to registered, or access.default_role to nothing",
    ),
    Unsafe(
        "access.default_role",
        lambda c: c.access.default_role not in ("", "client"),
        "users without a role get more than their own objects",
        "set it to client or to nothing",
    ),
    Unsafe(
        "access.get_implies_use", lambda c: c.access.get_implies_use, "a right gives others besides", "set it to false"
    ),
    Unsafe(
        "auth.second_factor",
        lambda c: c.auth.second_factor != "required",
        "a password is enough for the console",
        "set it to required",
    ),
    Unsafe(
        "auth.http_basic", lambda c: c.auth.http_basic, "passwords are sent with requests", "use API tokens instead"
    ),
    Unsafe(
        "crypto.policy",
        lambda c: c.crypto.policy == "permissive",
        "broken algorithms are allowed",
        "set it to default or fips-140-3",
    ),
    Unsafe(
        "db.replica_url",
        lambda c: _in_the_clear(c.db.replica_url, conf.replica(c)),
        "the replica is reached without TLS that checks its name",
        CHECKED,
    ),
)


@checks.register("security", deploy=True)
def production(app_configs: Sequence[Any] | None, **kwargs: object) -> list[checks.CheckMessage]:
    """A warning for each way in which the configuration is unsafe."""
    config = conf.current()
    found: list[checks.CheckMessage] = []
    for number, one in enumerate(UNSAFE, 1):
        try:
            unsafe = one.applies(config)
        except ConfigError:
            continue  # The start checks say what is wrong.
        if unsafe:
            found.append(checks.Warning(f"{one.key}: {one.what}", hint=one.hint, id=f"kms.W{number:03}"))
    return found
