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
from tests.processes import Running, manage, until

CHROMIUM = shutil.which("chromium")
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
#: Where pictures of the pages go; they are kept by CI and looked at.
PICTURES = Path(os.environ.get("PICTURES", "build/pictures"))
SIZES = {"desktop": {"width": 1280, "height": 900}, "phone": {"width": 360, "height": 740}}


class Console:
    """The server, and how its pages are opened."""

    def __init__(self, browser: Any, server: Running, folder: Path) -> None:
        self.browser = browser
        self.server = server
        self.folder = folder
        self.password = ""
        self.origin = f"https://127.0.0.1:{server.http_port}"
        self.state: Any = None
        self.complaints: list[str] = []

    def open(self, *, known: bool = True, **options: Any) -> Any:
        """A page of a new browser context that has the client certificate, and where `known` the log-in if there was
        one."""
        pki = self.folder / "pki"
        certificate = {
            "origin": self.origin,
            "certPath": str(pki / "client.pem"),
            "keyPath": str(pki / "client.key"),
        }
        context = self.browser.new_context(
            ignore_https_errors=True,
            client_certificates=[certificate],
            storage_state=self.state if known else None,
            **options,
        )
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("console", lambda m: self.complaints.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        return page

    def log_in(self, page: Any, name: str, password: str) -> None:
        """Log somebody in at the form."""
        page.goto(f"{self.origin}/ui/")
        page.fill("[name=username]", name)
        page.fill("[name=password]", password)
        page.click("main button.main")
        page.wait_for_url(f"{self.origin}/ui/")

    def remember(self) -> None:
        """Log the administrator in, for every page opened from now on."""
        page = self.open()
        self.log_in(page, "admin", self.password)
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


@contextlib.contextmanager
def started(browser: Any, folder: Path, **settings: str) -> Iterator[Console]:
    """The console of a server of its own that wants client certificates; nobody is logged in."""
    manage(folder, "initpki", "--folder", str(folder / "pki"), "--write-config", str(folder / "kms.toml"))
    with Running(folder, KMS_CONFIG=str(folder / "kms.toml"), **settings) as server:
        assert server.http_port  # It has made its tables then.
        yield Console(browser, server, folder)


@pytest.fixture(scope="session")
def console(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    """The console of a server of its own, with the administrator logged in."""
    folder = tmp_path_factory.mktemp("console")
    with started(browser, folder) as one:
        made = manage(folder, "initadmin", KMS_CONFIG=str(folder / "kms.toml"))
        found = re.search(r"admin / (\S+)", made.stdout)
        assert found, made.stderr
        one.password = found[1]
        one.remember()
        strangers(folder, one.server.kmip_port)
        yield one


@pytest.fixture
def page(console: Console) -> Iterator[Any]:
    """A page in the administrator's browser; at the end the browser has nothing to complain of."""
    console.complaints.clear()
    opened = console.open()
    yield opened
    opened.context.close()
    assert console.complaints == []


@pytest.fixture
def anyone(console: Console) -> Iterator[Any]:
    """A page in the browser of somebody who is not logged in, and has a client certificate."""
    opened = console.open(known=False)
    yield opened
    opened.context.close()


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
def places(console: Console, key: str) -> dict[str, Any]:
    """Addresses of pages about one thing: a key, an authority, a client with its certificate, an unknown client."""
    opened = console.open()
    opened.goto(f"{console.origin}/ui/clients/add/")
    opened.click("main form button[name=make]")
    opened.fill("[name=name]", "vcenter")
    opened.click("main form button.main")
    client = opened.get_attribute("#arrival ~ div a", "href")
    opened.goto(f"{console.origin}/ui/authorities/")
    authority = opened.get_attribute("main td a", "href")
    opened.goto(f"{console.origin}{authority}")
    certificate = opened.get_attribute("section[aria-labelledby=issued] td a", "href")

    def queued() -> Any:
        opened.goto(f"{console.origin}/ui/clients/")
        found = opened.locator("section[aria-labelledby=waiting] td a")
        return found.get_attribute("href") if found.count() else None

    waiting = until(queued, "the stranger is in the queue")
    opened.goto(f"{console.origin}/ui/people/groups/")
    opened.fill("[name=name]", "operators")
    opened.click("main form button.main")
    group = opened.url
    opened.context.close()
    return {
        "key": key,
        "client": client,
        "authority": authority,
        "certificate": certificate,
        "waiting": waiting,
        "group": group,
    }


@pytest.fixture
def picture() -> Callable[[Any, str], None]:
    """Keep a picture of a page."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    return lambda opened, name: opened.screenshot(path=str(PICTURES / f"{name}.png"), full_page=True)
