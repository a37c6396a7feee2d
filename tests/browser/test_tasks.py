"""What people come to the console for, a page each, done in a real browser as they would do it."""

import base64
import json
import re

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding
from cryptography.hazmat.primitives.serialization.pkcs12 import serialize_key_and_certificates
from cryptography.x509.oid import NameOID
from playwright.sync_api import expect

from tests.browser.conftest import Console
from tests.certificates import CLIENT, make
from tests.processes import until

pytestmark = pytest.mark.browser


def make_key(console, page, name, *, activation=""):
    """A symmetric key made at its form; its identifier. The page is the key's then."""
    page.goto(f"{console.origin}/ui/create/symmetric-key/")
    page.fill("[name=name]", name)
    page.click("main form button.main")
    return page.inner_text("dd.code >> nth=0")


def test_home_shows_what_happened_over_time(console, page):
    """A click on another period changes the drawing and its numbers, and nothing else of the page."""
    make_key(console, page, "key of today")
    page.goto(f"{console.origin}/ui/")
    expect(page.locator("#activity tbody tr")).to_have_count(60)
    page.evaluate("window.here = true")
    page.click("#activity a:has-text('Last day')")
    page.wait_for_selector("#activity a[aria-current]:has-text('Last day')")
    assert page.evaluate("window.here") is True
    expect(page.locator("#activity tbody tr")).to_have_count(24)
    page.click("main td a >> nth=0")
    expect(page).to_have_url(re.compile(r"/ui/objects/\?state="))


def test_objects_are_found_tagged_together_and_exported(console, page):
    """The list narrows as one types; a tag is put on two of them at once, after a page that says what will happen."""
    for number in range(3):
        make_key(console, page, f"orders {number}")
    page.goto(f"{console.origin}/ui/objects/")
    page.fill("#q", "orders")
    expect(page.locator("#list tbody tr")).to_have_count(3)
    expect(page).to_have_url(re.compile("q=orders"))
    page.check("main tbody input >> nth=0")
    page.check("main tbody input >> nth=1")
    page.select_option("[name=action]", "tag")
    page.click("#batch button[name=index]")
    expect(page.locator("main tbody tr")).to_have_count(2)
    page.fill("[name=tag]", "shop")
    page.click("button[name=confirm]")
    expect(page.locator("main .messages").first).to_contain_text("2 objects are done.")
    page.click("summary:has-text('Columns')")
    page.check("input[value=tags]")
    page.click("button:has-text('Show these')")
    page.goto(f"{console.origin}/ui/objects/?tag=shop")
    expect(page.locator("td[data-label=Tags]:has-text('shop')")).to_have_count(2)
    with page.expect_download() as csv:
        page.click("a:has-text('CSV')")
    lines = csv.value.path().read_text().splitlines()
    assert len(lines) == 3 and "orders" in lines[1]
    with page.expect_download() as exported:
        page.click("main a:has-text('JSON')")
    assert {one["tags"] for one in json.loads(exported.value.path().read_text())} == {"shop"}


def test_an_object_is_understood_and_shared(console, page):
    """A key pair leads from one key to the other, says why it cannot be activated, and somebody gets a right on it."""
    page.goto(f"{console.origin}/ui/create/key-pair/")
    page.fill("[name=name]", "signer")
    page.select_option("[name=algorithm]", "EC:P_256")
    page.click("main form button.main")
    expect(page.locator("svg.life .bar").first).to_be_visible()
    page.click("summary:has-text('Not possible now')")
    expect(page.locator("main details").first).to_contain_text("Only a pre-active object can be activated.")
    private = page.url
    page.click("section[aria-labelledby=links] li a")
    expect(page.locator("h1").first).to_have_text("signer.pub")
    page.goto(private)
    page.click("text=Who may do what with it")
    page.fill("[name=name]", "colleague")
    page.check("input[value=sign]")
    page.click("button[name=grant]")
    expect(page.locator("section[aria-labelledby=grants]").first).to_contain_text("colleague")


def test_what_somebody_has_is_imported(console, page):
    """A JWK is pasted, a PKCS#12 file uploaded: what each is stands there before it is stored."""
    jwk = {"kty": "oct", "kid": "from elsewhere", "k": base64.urlsafe_b64encode(bytes(range(32))).decode().rstrip("=")}
    page.goto(f"{console.origin}/ui/create/import/")
    page.fill("[name=pasted]", json.dumps(jwk))
    page.click("main form button.main")
    expect(page.locator("main td[data-label=Type]").first).to_have_text("Symmetric key")
    expect(page.locator("main tbody")).to_contain_text("JWK")
    expect(page.locator("main tbody")).to_contain_text("AES")
    page.click("button[name=store]")
    expect(page.locator("h1").first).to_have_text("from elsewhere")
    own = make("import.example", usage=CLIENT)
    file = serialize_key_and_certificates(b"x", own.key, own.certificate, None, BestAvailableEncryption(b"sesame"))
    page.goto(f"{console.origin}/ui/create/import/")
    page.set_input_files("[name=file]", {"name": "x.p12", "mimeType": "application/x-pkcs12", "buffer": file})
    page.click("main form button.main")
    expect(page.locator("main form").first).to_contain_text("It is encrypted")
    page.set_input_files("[name=file]", {"name": "x.p12", "mimeType": "application/x-pkcs12", "buffer": file})
    page.fill("[name=password]", "sesame")
    page.click("main form button.main")
    expect(page.locator("main tbody tr")).to_have_count(2)
    page.click("button[name=store]")
    expect(page.locator("main .messages").first).to_contain_text("2 stored.")


def test_data_is_encrypted_and_decrypted(console, page):
    """What one form gives, the other takes; the same stands there as a message, and as a line for a shell."""
    uid = make_key(console, page, "key for data")
    page.click("main p.row a:has-text('Encrypt')")
    expect(page.locator("[name=uid]").first).to_have_value(uid)
    page.fill("[name=data]", "attack at dawn")
    page.click("button[name=send]")
    page.wait_for_selector("section[aria-labelledby=answer] textarea")
    values = [one.input_value() for one in page.locator("section[aria-labelledby=answer] textarea").all()]
    ciphertext, nonce, tag = values[0], values[2], values[4]
    with page.expect_download() as saved:
        page.click("section[aria-labelledby=answer] a[download] >> nth=0")
    assert saved.value.path().read_bytes().hex() == ciphertext
    message = page.locator("section[aria-labelledby=message]")
    assert "<RequestMessage>" in message.locator("textarea >> nth=0").input_value()
    assert message.locator("textarea >> nth=1").input_value().startswith("curl ")
    page.goto(f"{console.origin}/ui/use/decrypt/?key={uid}")
    page.fill("[name=data]", ciphertext)
    page.select_option("[name=spelling]", "hex")
    page.fill("[name=nonce]", nonce)
    page.fill("[name=tag]", tag)
    page.click("button[name=send]")
    page.wait_for_selector("section[aria-labelledby=answer] textarea")
    expect(page.locator("section[aria-labelledby=answer] textarea >> nth=0").first).to_have_value("attack at dawn")


def test_somebody_gets_a_role_and_a_token(console: Console, page):
    """A new user logs in with the password and sees what the role allows; a token is shown once."""
    page.goto(f"{console.origin}/ui/people/")
    page.fill("main form.narrow [name=name]", "auditrix")
    page.fill("main form.narrow [name=password]", "a long enough password")
    page.click("main form.narrow button.main")
    expect(page.locator("h1").first).to_have_text("auditrix")
    page.select_option("[name=role]", "auditor")
    page.click("button:has-text('Give')")
    expect(page.locator("section[aria-labelledby=roles] .plain").first).to_contain_text("auditor")
    page.click("summary:has-text('A new token')")
    page.fill("section[aria-labelledby=tokens] [name=name]", "for a script")
    page.click("button[name=token_new]")
    token = page.input_value("section[aria-labelledby=tokens] textarea")
    assert len(token) > 20
    page.reload()
    assert token not in page.content()
    other = console.open(known=False)
    console.log_in(other, "auditrix", "a long enough password")
    expect(other.locator("nav").first).not_to_contain_text("People")
    other.goto(f"{console.origin}/ui/people/")
    expect(other.locator("h1").first).to_have_text("Not possible")
    other.goto(f"{console.origin}/ui/audit/?user=admin")
    expect(other.locator("main tbody tr").first).to_be_visible()
    other.context.close()
    console.complaints[:] = [one for one in console.complaints if "403" not in one]


def test_two_people_archive_a_key(console: Console, page):
    """A rule is set; who asks waits, somebody else approves, and the key is archived."""
    page.goto(f"{console.origin}/ui/people/")
    page.fill("main form.narrow [name=name]", "second")
    page.fill("main form.narrow [name=password]", "a long enough password")
    page.click("main form.narrow button.main")
    page.goto(f"{console.origin}/ui/approvals/")
    page.click("summary:has-text('Set a rule')")
    page.select_option("[name=operation]", "archive")
    page.fill("[name=people]", "second")
    page.click("button[name=rule]")
    expect(page.locator("main .messages").first).to_contain_text("The rule is set.")
    make_key(console, page, "precious")
    address = page.url
    page.click("main .actions a:has-text('Archive')")
    page.click("main form button.main")
    expect(page.locator("main .messages").first).to_contain_text("It waits for approval")
    other = console.open(known=False)
    console.log_in(other, "second", "a long enough password")
    other.click("text=1 request waits for your approval")
    other.click("button[name=approve]")
    expect(other.locator("main .messages").first).to_contain_text("Your vote counts.")
    other.context.close()

    def archived():
        page.goto(address)
        return page.locator("main .actions a:has-text('Recover')").count()

    until(archived, "the key is archived")


def test_the_audit_is_searched_and_verified(console, page):
    """A search without a click, one record in full, the way to its object, all of them in a file, and the chain."""
    uid = make_key(console, page, "key on record")
    page.goto(f"{console.origin}/ui/audit/")
    page.fill("[name=object]", uid)
    page.select_option("[name=operation]", "Create")
    expect(page.locator("#list tbody tr")).to_have_count(1)
    with page.expect_download() as saved:
        page.click("#list a:has-text('JSON')")
    (line,) = saved.value.path().read_text().splitlines()
    assert json.loads(line)["object"] == uid
    page.click("#list tbody a >> nth=0")
    expect(page.locator("main dl").first).to_contain_text("Create")
    page.click("text=To the object")
    expect(page.locator("h1").first).to_have_text("key on record")
    page.goto(f"{console.origin}/ui/audit/")
    page.click("text=Verify the audit")
    page.click("main form button")
    expect(page.locator("main").first).to_contain_text("The records are whole.")


def test_a_message_is_read_sent_and_answered(console, page):
    """What is pasted is a tree, in any encoding; sent, its answer is one, too."""
    page.goto(f"{console.origin}/ui/console/")
    page.click("button[name=decode]")
    page.wait_for_selector("#asked")
    expect(page.locator("#answer")).to_have_count(0)
    page.click("button[name=send]")
    page.wait_for_selector("#answer")
    expect(page.locator("section[aria-labelledby=answer]")).to_contain_text("Success")
    page.click("section[aria-labelledby=answer] summary:has-text('Hexadecimal')")
    page.fill("[name=request]", page.input_value("section[aria-labelledby=answer] textarea >> nth=2"))
    page.click("button[name=decode]")
    expect(page.locator("#asked ~ ul")).to_contain_text("ResponseMessage")


def test_settings_say_what_a_file_decides(console, page):
    """The server's certificate comes from the file, and its authority is named."""
    page.goto(f"{console.origin}/ui/settings/")
    row = page.locator("section[aria-labelledby=s-tls] tr", has_text="tls_p12_file").first
    assert "server.p12" in row.inner_text() and "kms.toml" in row.inner_text()
    assert re.search(r"CN=\S", page.inner_text("section[aria-labelledby=cas]"))


def test_material_is_revealed_to_who_says_the_password_again(console, page):
    """And to nobody else; it is on record."""
    uid = make_key(console, page, "key to reveal")
    page.click("main .actions a:has-text('Reveal')")
    page.fill("[name=password]", "wrong")
    page.click("main form button.main")
    expect(page.locator("main form").first).to_contain_text("This is not your password.")
    page.fill("[name=password]", console.password)
    page.click("main form button.main")
    assert re.fullmatch("[0-9a-f]{64}", page.input_value("textarea >> nth=0"))
    page.goto(f"{console.origin}/ui/audit/?object={uid}&operation=Get")
    expect(page.locator("#list tbody tr")).to_have_count(1)


def test_a_certificate_authority_signs_a_request(console, page):
    """A root is made at the form for certificates, then signs what somebody pastes."""
    page.goto(f"{console.origin}/ui/create/certificate/")
    page.fill("[name=subject]", "Our root")
    page.select_option("[name=profile]", "root")
    page.click("main form button.main")
    root = page.inner_text("dd.code >> nth=0")
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "web.example")])
    request = x509.CertificateSigningRequestBuilder().subject_name(name)
    pem = request.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()).public_bytes(Encoding.PEM)
    page.goto(f"{console.origin}/ui/create/certificate/")
    page.fill("[name=csr]", pem.decode())
    page.fill("[name=issuer]", root)
    page.click("main form button.main")
    expect(page.locator("h1").first).to_have_text("web.example")
    expect(page.locator("section[aria-labelledby=links]").first).to_contain_text("Our root")


# Without a mouse, without JavaScript, and on large screens.


def focused(page):
    """What has the focus: its text, or its name."""
    return page.evaluate("(document.activeElement.innerText || document.activeElement.name || '').trim()")


def test_everything_is_reached_from_the_keyboard(console, page):
    """The first step skips the menu; the focus is seen, and a form is filled in and sent without a mouse."""
    page.goto(f"{console.origin}/ui/create/symmetric-key/")
    page.keyboard.press("Tab")
    assert focused(page) == "Skip to the content"
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    for _ in range(10):
        page.keyboard.press("Tab")
        if focused(page) == "name":
            break
    page.keyboard.type("key of a keyboard")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"/ui/objects/[^/]+/(#main)?$"))
    expect(page.locator("h1").first).to_have_text("key of a keyboard")
    seen = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        seen.add(focused(page))
    assert {"Home", "Settings", "Revoke", "Encrypt"} <= seen


def test_all_works_without_javascript(console: Console):
    """Search, a change of several objects, a use, the console and the colours: each by a form and a page."""
    page = console.open(java_script_enabled=False)
    page.set_default_timeout(15_000)
    uid = make_key(console, page, "plain key")
    page.goto(f"{console.origin}/ui/objects/")
    page.fill("#q", "plain")
    page.press("#q", "Enter")
    expect(page.locator("main tbody tr")).to_have_count(1)
    page.check("main tbody input")
    page.select_option("[name=action]", "revoke")
    page.click("#batch button[name=index]")
    page.click("button[name=confirm]")
    expect(page.locator("main .messages").first).to_contain_text("1 object is done.")
    page.goto(f"{console.origin}/ui/use/hash/")
    page.fill("[name=data]", "abc")
    page.click("button[name=send]")
    assert page.input_value("section[aria-labelledby=answer] textarea >> nth=0").startswith("ba7816bf")
    page.goto(f"{console.origin}/ui/console/")
    page.click("button[name=send]")
    expect(page.locator("section[aria-labelledby=answer]").first).to_contain_text("ResponseMessage")
    page.goto(f"{console.origin}/ui/?period=month")
    expect(page.locator("#activity tbody tr")).to_have_count(30)
    page.goto(f"{console.origin}/ui/audit/")
    page.fill("[name=object]", uid)
    page.click("main form button:has-text('Search')")
    expect(page.locator("#list tbody tr").first).to_be_visible()
    page.click("button[value=dark]")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.click("button[value=auto]")
    page.context.close()
