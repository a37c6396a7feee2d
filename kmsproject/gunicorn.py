"""gunicorn's configuration: `gunicorn -c kmsproject/gunicorn.py kmsproject.wsgi`, and the HTTP part of `runkms`."""

import os
import ssl
import sys
from pathlib import Path
from typing import Any

# Before whatever else is installed: another package may be called as one of ours is.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "kmsproject.settings")

import django

from keystore import conf, metrics, supervisor

try:
    current = conf.current()
    django.setup()
    from keystore import checks
    from kmip_api import worker

    if worker.Worker.bound is None:  # Otherwise a supervisor has done all of this.
        checks.prepare(current, migrate=False)
        worker.prepare(current)
        supervisor.listen(current)
except conf.ConfigError as error:
    conf.refuse(error)

serving = worker.serving
assert serving.bound is not None
bind = f"fd://{serving.bound.fileno()}"
worker_class = serving
workers = serving.processes(current)
threads = current.http.threads
worker_connections = current.http.max_connections
keepalive = max(1, int(current.http.keep_alive))
graceful_timeout = max(1, int(current.server.shutdown_grace))
timeout = 60  # A worker whose poller does not turn for so long is replaced.
preload_app = True
control_socket_disable = True
forwarded_allow_ips = ""  # X-Forwarded-For is for the views: see http.trusted_proxies.
worker_tmp_dir = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 - heartbeats, never on a slow disk
loglevel = "warning"
errorlog = "-"

# gunicorn takes a listener with a certificate file for HTTPS; the file itself is only read by keystore.tls.
if serving.contexts is not None:
    certfile = str(current.tls.tls_p12_file or current.tls.tls_cert_file)


def ssl_context(_config: Any, _default: Any) -> ssl.SSLContext | None:
    """The same context that the project's worker uses, should another worker class be chosen."""
    return serving.contexts.plain if serving.contexts is not None else None


def on_starting(arbiter: Any) -> None:
    """HUP reads certificates again; gunicorn's own way, new workers, would drop open connections."""

    def reload() -> None:
        worker.reload_context()
        arbiter.kill_workers(worker.RELOAD)

    arbiter.handle_hup = reload


def child_exit(_arbiter: Any, ended: Any) -> None:
    """A worker's gauges go with it."""
    metrics.ended(ended.pid)


def when_ready(_arbiter: Any) -> None:
    """Workers are about to be forked."""
    supervisor.report_ready()
