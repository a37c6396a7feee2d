"""A real server: what is revoked, disabled or taken away stops working on connections that are open, within 5 s."""

import http.client
import json
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kmip.enums import Operation, ResultReason, ResultStatus
from kmip.messages import ENCODINGS, ResponseMessage
from kmip.payloads import LocateRequest
from kmip.tags import Tag
from kmip.versions import V1_4
from tests.certificates import CLIENT, Made, Pki, make, revoke
from tests.processes import Running, manage
from tests.wire import message

#: Seconds within which a revocation counts.
SOON = 5
REQUEST = ENCODINGS["ttlv"].encode(message((Operation.LOCATE, LocateRequest())), Tag.REQUEST_MESSAGE, V1_4)


class Site:
    """A server with a revocation list, certificates for HTTPS optional."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.pki = folder, Pki(folder)
        self.crl = folder / "clients.crl"
        self.crl.write_bytes(revoke(self.pki.ca))
        self.settings = self.pki.settings() | {
            "KMS_CLIENTS_CRL_FILE": str(self.crl),
            "KMS_HTTP_CLIENT_AUTH": "optional",
        }
        self.server = Running(folder, **self.settings)
        self.kmip_port, self.http_port = self.server.kmip_port, self.server.http_port

    def manage(self, *arguments: str) -> str:
        result = manage(self.folder, *arguments, **self.settings)
        assert result.returncode == 0, result.stderr
        return result.stdout.strip()

    def client(self, name: str) -> Made:
        made = make(name, self.pki.ca, usage=CLIENT)
        made.write(self.folder, name)
        return made

    def context(self, name: str | None) -> ssl.SSLContext:
        if name is None:
            return self.pki.client_context(anonymous=True)
        return self.pki.client_context((str(self.folder / f"{name}.pem"), str(self.folder / f"{name}.key")))


class Kmip:
    """An open connection to the KMIP listener."""

    def __init__(self, site: Site, name: str) -> None:
        raw = socket.create_connection(("127.0.0.1", site.kmip_port), timeout=10)
        self.socket = site.context(name).wrap_socket(raw, server_hostname="localhost")

    def works(self) -> bool:
        """Whether a request is answered; refused for want of an identity, or cut off, it is not."""
        try:
            self.socket.sendall(REQUEST)
            head = self._read(8)
            answer = ResponseMessage.load(ENCODINGS["ttlv"].decode(head + self._read(int.from_bytes(head[4:], "big"))))
        except (OSError, EOFError):
            return False
        (item,) = answer.batch_item
        if item.result_status == ResultStatus.SUCCESS:
            return True
        assert item.result_reason == ResultReason.AUTHENTICATION_NOT_SUCCESSFUL, item
        return False

    def _read(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            if not (more := self.socket.recv(length - len(data))):
                raise EOFError
            data += more
        return data

    def close(self) -> None:
        self.socket.close()


class Https:
    """An open connection to the HTTPS listener, with a certificate or a token."""

    def __init__(self, site: Site, name: str | None, token: str | None = None) -> None:
        self.connection = http.client.HTTPSConnection(
            "localhost", site.http_port, context=site.context(name), timeout=10
        )
        self.connection.connect()
        self.socket = self.connection.sock
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}

    def works(self) -> bool:
        """Whether a request is answered on this very connection."""
        try:
            self.connection.request("GET", "/me", headers=self.headers)
            answer = self.connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException):
            return False
        assert self.connection.sock in (self.socket, None)
        assert answer.status in (200, 401), body
        return answer.status == 200

    def close(self) -> None:
        self.connection.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    site = Site(tmp_path_factory.mktemp("revocation"))
    with site.server:
        yield site


def ends(connections: list[Kmip | Https], act: Callable[[], object]) -> None:
    """All of the connections work, and none does soon after."""
    assert all(one.works() for one in connections)
    act()
    end = time.monotonic() + SOON
    left = list(connections)
    while left and time.monotonic() < end:
        left = [one for one in left if one.works()]
        time.sleep(0.1)
    assert not left
    for one in connections:
        one.close()


def both(site: Site, name: str) -> list[Kmip | Https]:
    site.client(name)
    return [Kmip(site, name), Https(site, name)]


def test_a_revoked_token(site):
    """Others of the same user go on."""
    token, other = site.manage("token", "create", "alice"), Https(site, None, site.manage("token", "create", "alice"))
    ends([Https(site, None, token)], lambda: site.manage("token", "revoke", token.split("_")[1]))
    assert other.works()
    other.close()


def test_a_certificate_on_a_new_revocation_list(site):
    """At both listeners, while others of the CA go on."""
    other = Kmip(site, site.client("unconcerned").certificate.subject.rfc4514_string().removeprefix("CN="))
    made = site.client("listed")
    connections = [Kmip(site, "listed"), Https(site, "listed")]
    new = site.folder / "new.crl"
    new.write_bytes(revoke(site.pki.ca, made))
    ends(connections, lambda: new.replace(site.crl))
    assert other.works()
    other.close()


def test_a_disabled_certificate(site):
    made = site.client("disabled")
    connections = [Kmip(site, "disabled"), Https(site, "disabled")]
    assert all(one.works() for one in connections)
    from keystore.authn.certificates import fingerprint_of

    ends(connections, lambda: site.manage("user", "disable-certificate", fingerprint_of(made.certificate)))


def test_a_certificate_whose_user_has_another_one_pinned(site):
    """Replaced, in other words."""
    connections = both(site, "pinned")
    assert connections[0].works()
    make("pinned", site.pki.ca, usage=CLIENT).write(site.folder, "pinned-new")
    ends(connections, lambda: site.manage("user", "pin", "pinned", str(site.folder / "pinned-new.pem")))
    fresh = Kmip(site, "pinned-new")
    assert fresh.works()
    fresh.close()


def test_a_disabled_user(site):
    """With whatever it came."""
    connections = both(site, "leaving")
    assert connections[0].works()
    connections.append(Https(site, None, site.manage("token", "create", "leaving")))
    ends(connections, lambda: site.manage("user", "disable", "leaving"))


def test_what_was_done_is_in_the_audit(site):
    lines = [json.loads(line) for line in site.manage("audit", "export").splitlines()]
    told = {line["operation"] for line in lines if line["result"] == "Success"}
    assert {"Create Token", "Revoke Token", "Disable Certificate", "Pin Certificate", "Disable User"} <= told
    assert any(line["reason"] == "AuthenticationNotSuccessful" and line["fingerprint"] for line in lines)
    assert "records verified" in site.manage("audit", "verify")
