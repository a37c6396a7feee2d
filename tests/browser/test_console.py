"""The console in a real browser on a real server: log in, make a key, revoke it, destroy it."""

import re

import pytest

from tests.processes import Running, manage

pytestmark = pytest.mark.browser


def test_a_person_makes_revokes_and_destroys_a_key(browser, tmp_path):
    """Every step is a click, the page says so, and the browser refuses nothing that the page asks for."""
    with Running(tmp_path) as server:
        port = server.http_port
        made = manage(tmp_path, "initadmin")
        found = re.search(r"admin / (\S+)", made.stdout)
        assert found, made.stderr
        page = browser.new_page()
        complaints = []
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.goto(f"http://127.0.0.1:{port}/ui/")
        page.fill("[name=username]", "admin")
        page.fill("[name=password]", found[1])
        page.click("button.main")
        page.goto(f"http://127.0.0.1:{port}/ui/create/symmetric-key/")
        page.fill("[name=name]", "key of a person")
        page.click("main button.main")
        address = page.url
        assert "key of a person" in page.title()
        page.click("main .actions a:has-text('Revoke')")
        page.click("main form button")
        assert page.url == address
        assert "Deactivated" in page.inner_text("main .facts")
        page.click("main .actions a:has-text('Destroy')")
        page.check("[name=sure]")
        page.click("main form button")
        assert "Destroyed" in page.inner_text("main .facts")
        assert complaints == []
        page.close()
