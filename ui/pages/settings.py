"""What the server is set to, and where each value came from; whom it trusts, and which of its processes live."""

from pathlib import Path
from typing import Any

from cryptography import x509
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext

from keystore import clients, conf, cryptopolicy, nodes
from keystore.crypto.policy import name_of
from ui import certificate, session
from ui.pages import Route
from ui.site import site


def show(request: HttpRequest) -> HttpResponse:
    """Every setting with its layer, for administrators; files decide, so that nothing can be changed here."""
    if not session.operates(request):
        raise PermissionDenied
    config = conf.current()
    sections: dict[str, list[tuple[str, str, str, str]]] = {}
    for key, row in conf.SETTINGS.items():
        value = str(row.show(config.value(key)) or "")
        sections.setdefault(row.section, []).append((row.name, value, str(config.layers[key]), row.help))
    policy = cryptopolicy.of(config)
    context = {
        "title": gettext("Settings"),
        "section": "settings",
        "sections": [(name, conf.SECTIONS[name].__doc__, rows) for name, rows in sections.items()],
        "authorities": _authorities(config.tls.clients_ca_cert_file),
        "revocations": _revocations(config.tls.clients_crl_file),
        "made_here": clients.authorities(),
        "processes": list(nodes.processes().items()),
        "nodes": nodes.states(),
        "policy": policy.title,
        "lists": _lists(policy),
    }
    return site.page(request, "ui/settings.html", context)


def _lists(policy: Any) -> list[tuple[str, str, str]]:
    """What a cryptographic policy allows to protect with, and to process what is protected already."""
    titles = {
        "algorithms": gettext("Algorithms"),
        "modes": gettext("Modes"),
        "paddings": gettext("Paddings"),
        "signature_paddings": gettext("Paddings of signatures"),
        "curves": gettext("Curves"),
        "hashes": gettext("Hashes"),
        "signature_hashes": gettext("Hashes of signatures"),
    }
    return [
        (title, _names(getattr(policy.protect, name)), _names(getattr(policy.process, name)))
        for name, title in titles.items()
    ]


def _names(members: Any) -> str:
    return ", ".join(sorted(map(name_of, members)))


def _authorities(path: Path | None) -> list[Any]:
    """The certificates of the clients' authorities, decoded."""
    if path is None:
        return []
    try:
        found = x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError):
        return []
    return [certificate.facts(one)[0] for one in found]


def _revocations(path: Path | None) -> list[tuple[str, str, str, int]]:
    """The revocation lists: issuer, from when, until when, and how many certificates they revoke."""
    if path is None:
        return []
    try:
        data = path.read_bytes()
    except OSError:
        return []
    found = []
    for block in data.split(b"-----END X509 CRL-----"):
        begin = block.find(b"-----BEGIN X509 CRL-----")
        if begin >= 0:
            found.append(x509.load_pem_x509_crl(block[begin:] + b"-----END X509 CRL-----\n"))
    if not found and data:
        found.append(x509.load_der_x509_crl(data))
    return [
        (
            crl.issuer.rfc4514_string(),
            str(crl.last_update_utc.date()),
            str(crl.next_update_utc.date()) if crl.next_update_utc else "",
            len(crl),
        )
        for crl in found
    ]


ROUTES: list[Route] = [("settings/", show, "settings")]
