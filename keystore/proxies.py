"""Which address a request came from, where proxies stand before the server."""

import functools
import ipaddress
from collections.abc import Mapping
from typing import Any

from keystore import conf


def client_address(environ: Mapping[str, Any]) -> str:
    """The client's address: behind trusted proxies, the last one that is not theirs."""
    address = str(environ.get("REMOTE_ADDR", ""))
    proxies = conf.current().http.trusted_proxies
    if not proxies or not _among(address, proxies):
        return address
    hops = [hop.strip() for hop in str(environ.get("HTTP_X_FORWARDED_FOR", "")).split(",") if hop.strip()]
    return next((hop for hop in reversed(hops) if not _among(hop, proxies)), address)


@functools.lru_cache(maxsize=4096)
def _among(address: str, networks: tuple[str, ...]) -> bool:
    try:
        return any(ipaddress.ip_address(address) in ipaddress.ip_network(network) for network in networks)
    except ValueError:
        return False
