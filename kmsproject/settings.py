"""Django's settings, all of them derived from `keystore.conf`."""

import hashlib
import hmac
import secrets
from pathlib import Path
from typing import Any

import pymysql

from keystore import conf

pymysql.install_as_MySQLdb()  # Django's MySQL backend, on a driver without a C library to build

CONFIG = conf.current()
BASE_DIR = Path(__file__).resolve().parent.parent
DEBUG = False
ALLOWED_HOSTS = list(CONFIG.http.allowed_hosts)


def _secret_key() -> str:
    """The configured key, else one derived from the root key file, else one for this run only."""
    if CONFIG.http.secret_key:
        return CONFIG.http.secret_key
    try:
        root = (CONFIG.sealing.root_key or "").encode() or CONFIG.sealing.root_key_file.read_bytes()
    except OSError:
        return secrets.token_urlsafe(48)
    return hmac.new(root, b"django secret key", hashlib.sha256).hexdigest()


SECRET_KEY = _secret_key()

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "keystore",
    "kmip_api",
    "kmip_socket",
    "django_htmx",
    "ui",
]

# The KMIP paths answer from the first of these; everything after it is for people.
MIDDLEWARE = [
    "kmip_api.middleware.sealed_first",
    "kmip_api.middleware.machine_paths_first",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "kmip_api.middleware.content_security_policy",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "kmsproject.urls"
WSGI_APPLICATION = "kmsproject.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

# What each database needs so that nothing acknowledged is lost and a dead server is noticed within 5 s: one that says
# nothing at all by `keystore.database.watch`.
BACKENDS = {
    "django.db.backends.postgresql": "keystore.database.postgresql",
    "django.db.backends.mysql": "keystore.database.mysql",
}
DATABASE_OPTIONS: dict[str, dict[str, object]] = {
    "django.db.backends.sqlite3": {
        "transaction_mode": "IMMEDIATE",
        "timeout": 30,
        "init_command": (
            "PRAGMA journal_mode=WAL; PRAGMA foreign_keys=ON; "
            f"PRAGMA synchronous={CONFIG.db.sqlite_synchronous}; PRAGMA temp_store=MEMORY; PRAGMA secure_delete=ON; "
            # Pages of random index values stay in memory, in KiB for each connection, and the log is long enough that
            # most of them are written back once for many changes.
            "PRAGMA cache_size=-16384; PRAGMA wal_autocheckpoint=4000;"
        ),
    },
    "django.db.backends.postgresql": {"connect_timeout": 4},
    "django.db.backends.mysql": {
        "connect_timeout": 4,
        "charset": "utf8mb4",
        "isolation_level": "read committed",
        "init_command": "SET sql_mode='STRICT_ALL_TABLES'",
    },
}


def _database(described: dict[str, Any]) -> dict[str, object]:
    if described["ENGINE"] == "django.db.backends.sqlite3":
        # SQLite makes its file, but not the folder around it.
        Path(described["NAME"]).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    engine, given = described["ENGINE"], described.get("OPTIONS", {})
    # Connections live as long as the thread or client connection that uses them, and are tried before each reuse.
    lifetime = {"CONN_MAX_AGE": None, "CONN_HEALTH_CHECKS": engine != "django.db.backends.sqlite3"}
    options = {**DATABASE_OPTIONS[engine], **given}
    return {**described, **lifetime, "ENGINE": BACKENDS.get(engine, engine), "OPTIONS": options}


DATABASES = {"default": _database(conf.database(CONFIG))}
if (REPLICA := conf.replica(CONFIG)) is not None:
    DATABASES["replica"] = _database(REPLICA)
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
# New passwords are hashed by the first; the second reads what Django made by default.
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
LOGIN_URL = "/ui/login/"
LOGIN_REDIRECT_URL = "/ui/"

LANGUAGE_CODE = "en"
# Those whose catalogue is complete.
LANGUAGES = [("en", "English"), ("fr", "French")]
# Before Django's own catalogues, which have some of the same strings.
LOCALE_PATHS = [BASE_DIR / "ui" / "locale"]
USE_TZ = True
TIME_ZONE = "UTC"

STATIC_URL = "/static/"
STATIC_ROOT = None
WHITENOISE_USE_FINDERS = True  # Served from the packages themselves: there is no collectstatic step to forget.
WHITENOISE_AUTOREFRESH = False
WHITENOISE_ALLOW_ALL_ORIGINS = False

HAS_TLS = conf.has_tls(CONFIG)
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HAS_TLS
SESSION_COOKIE_HTTPONLY = True
CSRF_COOKIE_SAMESITE = "Strict"
# People come back from an OpenID provider by a link of another site; nothing that changes anything answers to a link.
SESSION_COOKIE_SAMESITE = "Lax" if CONFIG.auth.oidc_issuer else "Strict"
SESSION_ENGINE = "keystore.sessions"
SESSION_COOKIE_AGE = int(CONFIG.auth.session_lifetime)
SESSION_EXPIRE_AT_BROWSER_CLOSE = True
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
SECURE_HSTS_SECONDS = 31_536_000 if HAS_TLS else 0
SECURE_SSL_REDIRECT = HAS_TLS
# What the public listener gives out is signed, and asked for over plain HTTP.
SECURE_REDIRECT_EXEMPT = [r"^pki/"]
# A key server speaks for its own name, neither for those below it nor for a list in browsers.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]
X_FRAME_OPTIONS = "DENY"
DATA_UPLOAD_MAX_MEMORY_SIZE = CONFIG.http.max_body_size

KMS = {
    # Ways to recognise who asks, tried in this order.
    "AUTHENTICATORS": (
        "keystore.authn.credentials.session",
        "keystore.tickets.bearer",
        "keystore.authn.credentials.credential",
        "keystore.authn.tokens.bearer",
        "keystore.authn.credentials.basic",
        "keystore.authn.credentials.unknown_scheme",
        "keystore.authn.certificates.certificate",
        "keystore.authn.credentials.loopback",
    ),
    # What `runkms` starts: functions of the configuration, each to a list of `supervisor.Child`.
    "PROCESSES": {
        "revocation": "keystore.revocation.children",
        # Before the ones that it serves: they inherit the way to it.
        "streams": "keystore.keeper.children",
        "http": "kmip_api.worker.children",
        "public": "kmip_api.public.children",
        "kmip": "kmip_socket.server.children",
        "audit": "keystore.chain.children",
        "jobs": "keystore.jobs.children",
    },
    # What one node does again and again: a function without arguments, and the seconds between two runs.
    "JOBS": {
        "states": ("keystore.notifications.settle", 5.0),
        "rotation": ("keystore.rotation.run", 30.0),
        "expiry": ("keystore.expiry.run", 30.0),
        "revocation lists": ("keystore.ca.sign_lists", 60.0),
        "handshake records": ("keystore.handshakes.forget", 3600.0),
        "registration tokens": ("keystore.clients.forget_tokens", 86_400.0),
    },
}

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "DEFAULT_PERMISSION_CLASSES": [],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "UNAUTHENTICATED_USER": None,
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"},
        "json": {"()": "keystore.logs.JsonFormatter"},
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": CONFIG.logging.format}},
    "root": {"handlers": ["stderr"], "level": CONFIG.logging.level},
    "loggers": {
        "django": {"handlers": [], "level": "INFO", "propagate": True},
        # A client's mistake is not worth a line; it could fill the disk.
        "django.request": {"level": "ERROR"},
        "django.security.DisallowedHost": {"level": "CRITICAL"},
    },
}
