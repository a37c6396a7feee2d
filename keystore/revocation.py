"""Revocation lists of the clients' CAs: read from the file that the settings name, fetched from where CAs publish them.

Handshakes check them (`tls`), and `authn` checks again whoever is connected already when a list changes.
"""

import functools
import hashlib
import logging
import os
import re
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from keystore import supervisor
from keystore.conf import Config, current

log = logging.getLogger(__name__)

MAX_SIZE: Final = 32 << 20
FETCH_TIMEOUT: Final = 10
RETRY: Final = 60.0
_PEM = re.compile(rb"-----BEGIN X509 CRL-----.+?-----END X509 CRL-----", re.DOTALL)

Stamp = tuple[str, int, int, int] | None


def stamp(path: Path) -> Stamp:
    """Tells one content of a file from another without reading it; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return str(path), found.st_mtime_ns, found.st_size, found.st_ino


def parse(content: bytes) -> list[x509.CertificateRevocationList]:
    """The lists of a file, PEM or DER; raises `ValueError`."""
    blocks = _PEM.findall(content)
    return [x509.load_pem_x509_crl(block) for block in blocks] or [x509.load_der_x509_crl(content)]


def fetched_file(config: Config, url: str) -> Path:
    """Where the list from a URL is kept."""
    return config.tls.clients_crl_folder / f"{hashlib.sha256(url.encode()).hexdigest()[:32]}.crl"


def files(config: Config) -> list[Path]:
    """The files of lists that are there."""
    found = [config.tls.clients_crl_file] if config.tls.clients_crl_file is not None else []
    return found + [path for url in config.tls.clients_crl_urls if (path := fetched_file(config, url)).is_file()]


def stamps(config: Config) -> tuple[Stamp, ...]:
    """Changes when a list or the clients' CAs do."""
    authorities = config.tls.clients_ca_cert_file
    return tuple(stamp(path) for path in [*files(config), *([authorities] if authorities is not None else [])])


@functools.lru_cache(maxsize=4)
def _revoked(stamps: tuple[Stamp, ...]) -> dict[bytes, frozenset[int]]:
    """Serial numbers that are revoked, by the issuer's name in DER."""
    found: dict[bytes, frozenset[int]] = {}
    for one in stamps:
        if one is None:
            continue
        for crl in parse(Path(one[0]).read_bytes()):
            issuer = crl.issuer.public_bytes()
            found[issuer] = found.get(issuer, frozenset()) | {entry.serial_number for entry in crl}
    return found


def is_revoked(certificate: x509.Certificate) -> bool:
    """Whether a list names the certificate; also where lists are to be fetched and none has been."""
    config = current()
    present = files(config)
    if not present:
        return bool(config.tls.clients_crl_urls)
    try:
        revoked = _revoked(tuple(stamp(path) for path in present))
    except (OSError, ValueError) as exc:
        # A list that is being replaced or was spoilt: whoever is on it must not profit.
        log.error("a revocation list cannot be read: %s", exc)
        return True
    return certificate.serial_number in revoked.get(certificate.issuer.public_bytes(), ())


def fetch(config: Config, url: str, authorities: Sequence[x509.Certificate]) -> bool:
    """Fetch the list from a URL, signed by one of the CAs; whether it differs from what was there. Raises `OSError`
    or `ValueError`, and leaves the old list in place then."""
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"{url} is not an http or https URL")
    with urllib.request.urlopen(url, timeout=FETCH_TIMEOUT) as response:  # noqa: S310 - checked above
        content = response.read(MAX_SIZE + 1)
    if len(content) > MAX_SIZE:
        raise ValueError(f"the list is over {MAX_SIZE} bytes")
    lists = parse(content)
    for crl in lists:
        if not any(ca.subject == crl.issuer and _signed(crl, ca) for ca in authorities):
            raise ValueError(f"the list of {crl.issuer.rfc4514_string()} is signed by none of the clients' CAs")
    path = fetched_file(config, url)
    pem = b"".join(crl.public_bytes(Encoding.PEM) for crl in lists)
    before = path.read_bytes() if path.is_file() else b""
    if before == pem:
        return False
    kept = {crl.issuer: crl.last_update_utc for crl in (parse(before) if before else ())}
    for crl in lists:
        # An old one is genuine, too: who brings it back would have let in again whoever was revoked since.
        if crl.issuer in kept and crl.last_update_utc < kept[crl.issuer]:
            raise ValueError(f"the list of {crl.issuer.rfc4514_string()} is older than the one that is there")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = path.with_suffix(f".{os.getpid()}.new")
    new.write_bytes(pem)
    new.replace(path)
    return True


def _signed(crl: x509.CertificateRevocationList, authority: x509.Certificate) -> bool:
    try:
        return crl.is_signature_valid(authority.public_key())  # type: ignore[arg-type] # it refuses other keys
    except (TypeError, ValueError):
        return False


def refresh(config: Config, authorities: Sequence[x509.Certificate]) -> bool:
    """Fetch every list; whether all could be. What is wrong is logged."""
    well = True
    for url in config.tls.clients_crl_urls:
        try:
            if fetch(config, url, authorities):
                log.info("revocation list from %s is new", url)
        except (OSError, ValueError) as exc:
            log.error("revocation list from %s not fetched: %s", url, exc)
            well = False
    return well


def _step() -> float:
    """Fetch the lists, as a child does again and again, sooner after a failure."""
    from keystore import tls

    config = current()
    interval = config.tls.clients_crl_interval
    return interval if refresh(config, tls.client_authorities(config)) else min(RETRY, interval)


def children(config: Config) -> list[supervisor.Child]:
    """The process that fetches lists, where there are URLs: on every node, for its own handshakes, so it is no job. The
    first fetch comes before anything listens."""
    from keystore import tls

    if not config.tls.clients_crl_urls:
        return []
    refresh(config, tls.client_authorities(config))
    return [supervisor.Child("revocation", lambda: supervisor.repeat(_step))]
