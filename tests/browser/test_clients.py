"""A client gets on board in a real browser: its page waits until it has connected, or says why it could not."""

import ssl
import time

import pytest

from tests.browser.conftest import SIZES, Console

pytestmark = pytest.mark.browser


def connect(console: Console, folder, files: dict[str, str], certificate: str) -> None:
    """Shake hands with the KMIP listener as the new client."""
    import socket

    for name, text in files.items():
        (folder / name).write_text(text)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(folder / "ca.pem")
    context.load_cert_chain(folder / certificate, folder / "client.key")
    address = ("127.0.0.1", console.server.kmip_port)
    with socket.create_connection(address, timeout=10) as plain, context.wrap_socket(plain) as tls:
        tls.settimeout(1)
        try:
            tls.recv(1)
        except TimeoutError:
            return
        raise AssertionError("the server hung up")


@pytest.mark.parametrize("size", SIZES)
def test_a_client_gets_on_board(console, places, page, picture, tmp_path, size):
    """Name and product, the files, the settings; then the page turns to what arrived, without being asked."""
    page.set_viewport_size(SIZES[size])
    page.goto(f"{console.origin}/ui/clients/add/")
    page.fill("[name=name]", f"app-{size}")
    page.select_option("[name=product]", "pykmip")
    page.click("main form button.main")
    assert "Waiting for the first connection" in page.inner_text("main")
    page.click("summary:has-text('client.key')")
    with page.expect_download() as download:
        page.click("button:has-text('Download all as ZIP')")
    assert download.value.suggested_filename == f"app-{size}.zip"
    files = {
        name: page.locator("main details", has_text=name).first.locator("textarea").input_value()
        for name in ("client.pem", "client.key", "ca.pem")
    }
    end = time.monotonic() + 10
    while True:  # The listeners notice a new authority within a second.
        try:
            connect(console, tmp_path, files, "client.pem")
            break
        except OSError:
            assert time.monotonic() < end
            time.sleep(0.2)
    page.wait_for_selector("text=It has connected from 127.0.0.1")
    picture(page, f"client-arrived-{size}")
