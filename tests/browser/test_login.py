"""The three ways into the console, in a real browser over HTTPS that asks for a client certificate."""

import re
import warnings
from threading import Thread

import pytest
from playwright.sync_api import expect
from werkzeug.serving import make_server

from tests.browser.conftest import Console, started

pytestmark = pytest.mark.browser
ALICE = "alice@example.com"


def test_a_password_lets_in_and_a_wrong_one_does_not(console, anyone):
    """What is wrong is said; the right one leads to where the person wanted to go, and Log out ends it."""
    page = anyone
    page.goto(f"{console.origin}/ui/audit/")
    page.fill("[name=username]", "admin")
    page.fill("[name=password]", "wrong")
    page.press("[name=password]", "Enter")
    expect(page.locator("main .error").first).to_be_visible()
    page.fill("[name=password]", console.password)
    page.press("[name=password]", "Enter")
    page.wait_for_url(f"{console.origin}/ui/audit/")
    page.click("text=Log out")
    expect(page.locator("footer")).not_to_contain_text("Logged in")
    page.goto(f"{console.origin}/ui/objects/")
    expect(page).to_have_url(re.compile("/ui/login/"))


def test_a_client_certificate_lets_in(console, anyone):
    """The connection has one; its user begins a session with a click, without a name or password."""
    page = anyone
    page.goto(f"{console.origin}/ui/")
    page.click("text=Log in with the certificate of client")
    page.wait_for_url(f"{console.origin}/ui/")
    expect(page.locator("footer").first).to_contain_text("Logged in as client")
    page.goto(f"{console.origin}/ui/create/symmetric-key/")
    page.fill("[name=name]", "key of a certificate")
    page.click("main form button.main")
    expect(page.locator("h1").first).to_contain_text("key of a certificate")
    page.goto(f"{console.origin}/ui/audit/")
    expect(page.locator("main td:has-text('client') >> nth=0").first).to_have_text("client")


@pytest.fixture(scope="module")
def provider():
    """A small OpenID provider."""
    # Here, because reading it warns of what it uses itself, whatever the filters say.
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        from oidc_provider_mock import User, app

    server = make_server("127.0.0.1", 0, app(user_claims=[User(sub=ALICE)], require_nonce=True), threaded=True)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def provided(browser, provider, tmp_path_factory):
    """The console of a server whose users an OpenID provider knows; nobody is logged in."""
    folder = tmp_path_factory.mktemp("provided")
    settings = {"KMS_OIDC_ISSUER": provider, "KMS_OIDC_CLIENT_ID": "kms", "KMS_OIDC_CLIENT_SECRET": "a secret" * 4}
    with started(browser, folder, **settings) as console:
        yield console


# The provider's own use of a library that moves on, in a thread of this process.
@pytest.mark.filterwarnings("ignore:get_jwt_config:DeprecationWarning")
def test_an_openid_provider_lets_in(provided: Console, provider):
    """There and back: who agrees at the provider is in, under the name that it tells; who does not, is not."""
    page = provided.open()
    page.set_default_timeout(15_000)
    page.goto(f"{provided.origin}/ui/")
    page.click("text=Log in at your provider")
    expect(page).to_have_url(re.compile(re.escape(provider)))
    page.click("button[value=deny]")
    page.wait_for_url(f"{provided.origin}/ui/login/")
    expect(page.locator("main .messages").first).to_contain_text("has failed")
    page.click("text=Log in at your provider")
    page.click(f"button:has-text('{ALICE}')")
    page.wait_for_url(f"{provided.origin}/ui/")
    expect(page.locator("footer").first).to_contain_text(f"Logged in as {ALICE}")
    page.goto(f"{provided.origin}/ui/create/symmetric-key/")
    page.fill("[name=name]", "key of a provider's user")
    page.click("main form button.main")
    expect(page.locator("h1").first).to_contain_text("key of a provider's user")
    page.context.close()
