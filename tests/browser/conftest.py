"""A real server over HTTPS that wants client certificates, and a person in front of a real browser."""

import contextlib
import os
import re
import shutil
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.certificates import CLIENT, make
from tests.processes import Running, manage

CHROMIUM = shutil.which("chromium")
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
#: Where pictures of the pages go; they are kept by CI and looked at.
PICTURES = Path(os.environ.get("PICTURES", "build/pictures"))
SIZES = {"desktop": {"width": 1280, "height": 900}, "phone": {"width": 360, "height": 740}}


class Console:
    """The server, and how its pages are opened."""

    def __init__(self, browser: Any, server: Running, folder: Path, password: str) -> None:
        self.browser = browser
        self.server = server
        self.folder = folder
        self.password = password
        self.origin = f"https://127.0.0.1:{server.http_port}"
        self.state: Any = None
        self.complaints: list[str] = []

    def open(self, **options: Any) -> Any:
        """A page of a new browser context that has the client certificate, and the log-in if there was one."""
        pki = self.folder / "pki"
        certificate = {
            "origin": self.origin,
            "certPath": str(pki / "client.pem"),
            "keyPath": str(pki / "client.key"),
        }
        context = self.browser.new_context(
            ignore_https_errors=True, client_certificates=[certificate], storage_state=self.state, **options
        )
        page = context.new_page()
        page.on("console", lambda m: self.complaints.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        return page

    def log_in(self) -> None:
        """Log the administrator in, for every page opened from now on."""
        page = self.open()
        page.goto(f"{self.origin}/ui/")
        page.fill("[name=username]", "admin")
        page.fill("[name=password]", self.password)
        page.click("main button.main")
        page.wait_for_url(f"{self.origin}/ui/")
        self.state = page.context.storage_state()
        page.context.close()


def strangers(folder: Path, port: int) -> None:
    """Two clients knock that are not let in: one without a certificate, one with its own."""
    made = make("stranger.example", usage=CLIENT)
    (folder / "stranger.pem").write_bytes(made.pem + made.key_pem)
    for own in (False, True):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if own:
            context.load_cert_chain(folder / "stranger.pem")
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", port)) as plain,
            context.wrap_socket(plain) as tls,
        ):
            tls.recv(1)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Debian's Chromium."""
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on this machine")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        opened = play.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def console(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    """The console of a server of its own, with the administrator logged in."""
    folder = tmp_path_factory.mktemp("console")
    manage(folder, "initpki", "--folder", str(folder / "pki"), "--write-config", str(folder / "kms.toml"))
    with Running(folder, KMS_CONFIG=str(folder / "kms.toml")) as server:
        assert server.http_port  # It has made its tables then.
        made = manage(folder, "initadmin", KMS_CONFIG=str(folder / "kms.toml"))
        found = re.search(r"admin / (\S+)", made.stdout)
        assert found, made.stderr
        one = Console(browser, server, folder, found[1])
        one.log_in()
        strangers(folder, server.kmip_port)
        yield one


@pytest.fixture
def page(console: Console) -> Iterator[Any]:
    """A page in the administrator's browser; at the end the browser has nothing to complain of."""
    console.complaints.clear()
    opened = console.open()
    opened.set_default_timeout(15_000)
    yield opened
    opened.context.close()
    assert console.complaints == []


@pytest.fixture(scope="session")
def key(console: Console) -> str:
    """The address of a key that the administrator made."""
    opened = console.open()
    opened.goto(f"{console.origin}/ui/create/symmetric-key/")
    opened.fill("[name=name]", "key for pictures")
    opened.click("main form button.main")
    address: str = opened.url
    opened.context.close()
    return address


@pytest.fixture(scope="session")
def places(console: Console, key: str) -> dict[str, str]:
    """Addresses of pages about one thing: a key, an authority, a client with its certificate, an unknown client."""
    opened = console.open()
    opened.goto(f"{console.origin}/ui/clients/add/")
    opened.click("main form button[name=make]")
    opened.fill("[name=name]", "vcenter")
    opened.click("main form button.main")
    client = opened.get_attribute("#arrival ~ div a", "href")
    opened.goto(f"{console.origin}/ui/authorities/")
    authority = opened.get_attribute("main td a", "href")
    opened.goto(f"{console.origin}/ui/clients/")
    waiting = opened.get_attribute("section[aria-labelledby=waiting] td a", "href")
    opened.goto(f"{console.origin}/ui/people/groups/")
    opened.fill("[name=name]", "operators")
    opened.click("main form button.main")
    group = opened.url
    opened.context.close()
    return {"key": key, "client": client, "authority": authority, "waiting": waiting, "group": group}


@pytest.fixture
def picture() -> Callable[[Any, str], None]:
    """Keep a picture of a page."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    return lambda opened, name: opened.screenshot(path=str(PICTURES / f"{name}.png"), full_page=True)
