"""What must be true before anything listens; each check raises the ConfigError that explains itself.

The start commands run them all and refuse with one line; `manage.py check` shows the same as system checks."""

import ipaddress
import logging
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

from django.core import checks
from django.core.management import call_command
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor

from keystore import conf, sealing, tls, tracing
from keystore.conf import Config, ConfigError

log = logging.getLogger(__name__)

FILE_PROVIDER = "keystore.sealing.file_provider"


def tls_settings(config: Config) -> None:
    """TLS is configured in full, in one way, or not at all."""
    given, layers = config.tls, config.layers
    if not conf.has_tls(config):
        for key, layer in layers.items():
            if key.startswith("tls.") and layer != conf.DEFAULT:
                problem = "is given without a server certificate"
                raise config.error(key, problem, "give tls.tls_p12_file and its password, or remove it")
        return
    if given.tls_p12_file is not None:
        _pkcs12_settings(config)
    elif given.tls_p12_password is not None or given.tls_p12_password_file is not None:
        key = "tls.tls_p12_password" if given.tls_p12_password is not None else "tls.tls_p12_password_file"
        raise config.error(key, "is given without a PKCS#12 file", "give tls.tls_p12_file, or remove it")
    elif given.tls_key_file is None:
        raise config.error("tls.tls_cert_file", "is given without its key", "give tls.tls_key_file")
    elif given.tls_cert_file is None:
        raise config.error("tls.tls_key_file", "is given without its certificate", "give tls.tls_cert_file")
    if given.clients_ca_cert_file is None:
        for key in ("tls.clients_crl_file", "tls.clients_crl_urls", "tls.http_client_auth"):
            if layers[key] != conf.DEFAULT:
                raise config.error(key, "is given without a clients CA", "give tls.clients_ca_cert_file, or remove it")


def _pkcs12_settings(config: Config) -> None:
    """The PKCS#12 file stands alone, with one source of its password."""
    given = config.tls
    for key in ("tls_cert_file", "tls_key_file", "tls_chain_file"):
        if getattr(given, key) is not None:
            raise config.error(f"tls.{key}", "is given beside tls.tls_p12_file", "use either PKCS#12 or PEM files")
    if given.tls_p12_password is None and given.tls_p12_password_file is None:
        remedy = (
            "give tls.tls_p12_password (explicitly empty if the file is not encrypted) or tls.tls_p12_password_file"
        )
        raise config.error("tls.tls_p12_password", f"is missing for {given.tls_p12_file}", remedy)
    if given.tls_p12_password is not None and given.tls_p12_password_file is not None:
        raise config.error("tls.tls_p12_password_file", "is given beside tls.tls_p12_password", "remove one of the two")


def tls_files(config: Config) -> None:
    """The files that TLS needs are there and usable, for every listener."""
    if conf.has_tls(config):
        tls.server_context(config, "http")


def is_open(config: Config) -> bool:
    """Whether no way to authenticate is configured, so that HTTP on a loopback address is the default user's."""
    auth = config.auth
    return not conf.has_tls(config) and not auth.jwt_auth_provider and not auth.http_basic and not auth.oidc_issuer


def warn(config: Config) -> None:
    """Say in the log what is unsafe but for a machine of one's own."""
    if is_open(config):
        log.warning(
            "nobody authenticates: whoever reaches HTTP on this machine is %s, an administrator; configure TLS",
            config.auth.default_username,
        )


def http_settings(config: Config) -> None:
    """Without TLS the HTTP listener stays on this machine unless requests authenticate: whoever reaches it is believed
    to be the default user."""
    host = config.http.hostname or ""
    if not conf.has_tls(config) and not is_loopback(host) and is_open(config):
        problem = f"{host} would serve plain HTTP without authentication to the network"
        raise config.error("http.hostname", problem, "configure TLS (tls.tls_p12_file), or use 127.0.0.1")
    for network in config.http.trusted_proxies:
        try:
            ipaddress.ip_network(network)
        except ValueError as exc:
            problem = f"{network} is no address or network"
            raise config.error("http.trusted_proxies", problem, "write 10.0.0.5 or 10.0.0.0/8") from exc


def is_loopback(host: str) -> bool:
    """Whether a listener on this address is reached from this machine only."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def kmip_missing(config: Config) -> str | None:
    """What the KMIP listener lacks, as the end of a sentence; None if nothing."""
    if not conf.has_tls(config):
        return "tls.tls_p12_file with its password and tls.clients_ca_cert_file are missing"
    return None if config.tls.clients_ca_cert_file else "tls.clients_ca_cert_file is missing"


def auth_settings(config: Config) -> None:
    """Providers of tokens and of the console's login are described in full."""
    from keystore.authn import tokens

    auth = config.auth
    for text in auth.jwt_auth_provider:
        try:
            provider = tokens.parse_provider(text)
        except ValueError as exc:
            problem = f"{text} does not describe a provider"
            remedy = "write issuer|JWKS URL or file|audience"
            raise config.error("auth.jwt_auth_provider", problem, remedy) from exc
        if in_the_clear(provider.source):
            problem = f"{provider.source} would fetch keys without TLS"
            raise config.error("auth.jwt_auth_provider", problem, "give an https URL, or a file")
    given = {name for name in ("oidc_issuer", "oidc_client_id", "oidc_client_secret") if getattr(auth, name)}
    if given and given != {"oidc_issuer", "oidc_client_id", "oidc_client_secret"}:
        missing = sorted({"oidc_issuer", "oidc_client_id", "oidc_client_secret"} - given)[0]
        raise config.error(f"auth.{missing}", "is missing for the console's OpenID login", "give all three")
    issuer = auth.oidc_issuer or "https://"
    if not issuer.startswith(("https://", "http://")) or in_the_clear(issuer):
        raise config.error("auth.oidc_issuer", f"{issuer} is no https URL", "give the provider's https URL")


def in_the_clear(url: str) -> bool:
    """Whether a URL leads over a network without TLS."""
    return url.startswith("http://") and not is_loopback(urlsplit(url).hostname or "")


def crypto_settings(config: Config) -> None:
    """The lists of the cryptographic policy name what it has."""
    from keystore import cryptopolicy

    cryptopolicy.check(config)


def socket_settings(config: Config) -> None:
    """A KMIP listener that is asked for has what it needs."""
    missing = kmip_missing(config)
    if config.socket_server.socket_server_start is True and missing:
        raise config.error("socket_server.socket_server_start", f"is true, but {missing}", "give it, or use auto")


# Cheap ones first: what contradicts itself is said before files are opened.
STARTUP: tuple[Callable[[Config], None], ...] = (
    tls_settings, http_settings, auth_settings, socket_settings, crypto_settings, tls_files, tracing.check
)  # fmt: skip


def startup(config: Config) -> None:
    """Run every check that needs neither database nor ports."""
    for check in STARTUP:
        check(config)


def prepare(config: Config, *, migrate: bool) -> None:
    """Do all that comes before a port is bound; raises ConfigError."""
    startup(config)
    database(config, migrate=migrate)
    root_key(config)
    recorded(config)
    warn(config)


def reload() -> None:
    """Read the configuration again, in a process that has nothing of its own to load; what is wrong with it is logged,
    and the old one stays."""
    try:
        reloaded()
    except ConfigError as error:
        log.error("configuration not reloaded: %s", error)


def reloaded() -> Config:
    """The configuration read again, for processes that serve already; what cannot change under them is refused."""
    before, fresh = conf.current(), conf.read()
    startup(fresh)
    for key, had in (("tls.tls_p12_file", conf.has_tls), ("tls.clients_ca_cert_file", has_clients_ca)):
        if had(before) != had(fresh):  # A listener must never go on with less than it began with.
            raise fresh.error(key, "was added or removed", "restart the server instead of reloading it")
    conf.use(fresh)
    return fresh


def has_clients_ca(config: Config) -> bool:
    """Whether clients' certificates are asked for."""
    return config.tls.clients_ca_cert_file is not None


def wants_kmip(config: Config) -> bool:
    """Whether the KMIP listener is to be started along with the rest."""
    start = config.socket_server.socket_server_start
    return start is True or (start == "auto" and kmip_missing(config) is None)


def database(config: Config, *, migrate: bool) -> None:
    """The database can be reached and has every migration, or gets them now."""
    key = "db.database_url" if config.db.database_url else "db.sqlite_path"
    try:
        if migrate:
            call_command("migrate", interactive=False, verbosity=0)
        executor = MigrationExecutor(connection)
        pending = executor.migration_plan(executor.loader.graph.leaf_nodes())
    except DatabaseError as exc:
        raise config.error(key, f"the database cannot be used: {exc}", "start it, or correct the setting") from exc
    finally:
        connection.close()  # Children must not inherit it.
    if pending:
        problem = f"the database lacks {len(pending)} migrations"
        raise config.error(key, problem, "run manage.py migrate, or start with --migrate")


def root_key(config: Config) -> None:
    """The root key is there, and is the one that this database was sealed under; or its shares have yet to come."""
    try:
        sealing.sealer().check()
    except sealing.Sealed:
        sealing.set_sealed(True)
    except sealing.SealingError as exc:
        remedy = "restore the root key, or make one for a new database with manage.py initrootkey"
        key = "sealing.root_key_file" if config.sealing.provider == FILE_PROVIDER else "sealing.provider"
        raise config.error(key, str(exc), remedy) from exc
    except DatabaseError as exc:
        raise config.error("db.database_url", f"the database cannot be used: {exc}", "make it writable") from exc
    finally:
        connection.close()


def recorded(config: Config, *, unsealed: bool = False) -> None:
    """The audit can be written, and says what the settings are; a sealed server records them when it is opened, and
    that it was."""
    from keystore import administration, configuration

    if sealing.is_sealed():
        return
    try:
        configuration.note()
        if unsealed:
            administration.note("Unseal")
    except (DatabaseError, sealing.SealingError) as exc:
        problem = f"the settings cannot be recorded: {exc}"
        raise config.error("db.database_url", problem, "make the database writable") from exc
    finally:
        connection.close()


@checks.register("kms")
def configuration(app_configs: Sequence[Any] | None, **kwargs: object) -> list[checks.CheckMessage]:
    """The start checks, as Django shows them."""
    try:
        startup(conf.current())
    except ConfigError as error:
        return [checks.Error(f"{error.key} ({error.layer}): {error.problem}", hint=error.remedy, id="kms.E001")]
    return []
