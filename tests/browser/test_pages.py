"""Every page in a real browser: light and dark, wide and narrow, and nothing for axe to report (WCAG 2.2 AA)."""

import json
import re

import pytest

from tests.browser.conftest import SIZES

pytestmark = pytest.mark.browser
PAGES = {
    "home": "/ui/",
    "objects": "/ui/objects/",
    "search": "/ui/objects/?q=nothing-like-this",
    "create": "/ui/create/",
    "symmetric-key": "/ui/create/symmetric-key/",
    "key-pair": "/ui/create/key-pair/",
    "secret": "/ui/create/secret/",
    "opaque": "/ui/create/opaque/",
    "certificate": "/ui/create/certificate/",
    "split-key": "/ui/create/split-key/",
    "joined": "/ui/create/joined/",
    "import": "/ui/create/import/",
    "uses": "/ui/use/",
    "wrap": "/ui/use/wrap/",
    "encrypt": "/ui/use/encrypt/",
    "clients": "/ui/clients/",
    "client-add": "/ui/clients/add/",
    "client-tokens": "/ui/clients/tokens/",
    "client": "{client}",
    "client-revoke": "{client}revoke/",
    "waiting": "{waiting}",
    "authorities": "/ui/authorities/",
    "authority": "{authority}",
    "certificate-object": "{certificate}",
    "people": "/ui/people/",
    "user": "/ui/people/users/admin/",
    "groups": "/ui/people/groups/",
    "group": "{group}",
    "roles": "/ui/people/roles/",
    "me": "/ui/me/",
    "notifications": "/ui/notifications/",
    "approvals": "/ui/approvals/",
    "rights": "{key}rights/",
    "audit": "/ui/audit/",
    "record": "/ui/audit/1/",
    "console": "/ui/console/",
    "settings": "/ui/settings/",
    "password": "/ui/password/",
    "second-factor": "/ui/second-factor/",
    "object": "{key}",
    "audit-verify": "/ui/audit/verify/",
    "reveal": "{key}get/",
    "revoke": "{key}do/revoke/",
    "destroy": "{key}do/destroy/",
    "missing": "/ui/objects/there-is-none/",
}
RULES = {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
#: What can be wrong in dark alone.
COLOURS = {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}
#: What stands beyond the right edge.
BEYOND = """[...document.querySelectorAll("main *")]
    .filter((one) => one.getBoundingClientRect().right > innerWidth).map((one) => one.outerHTML.slice(0, 120))"""
LARGE = {"width": 3840, "height": 2160}


def violations(opened, rules):
    """What axe-core reports of a page, one line each."""
    from axe_playwright_python.sync_playwright import Axe

    report = Axe().run(opened, options={"runOnly": rules}).response
    return [
        f"{one['id']}: {node['html'][:200]} {node.get('failureSummary', '')}"
        for one in report["violations"]
        for node in one["nodes"]
    ]


def looked_at(opened, picture, name, size):
    """What is wrong with what a browser shows, in light and dark: for axe, or with the width."""
    wrong = []
    for scheme, rules in (("light", RULES), ("dark", COLOURS)):
        opened.emulate_media(color_scheme=scheme)
        picture(opened, f"{name}-{size}-{scheme}")
        wrong += violations(opened, rules)
    width = opened.evaluate("document.documentElement.scrollWidth")
    return wrong if width <= SIZES[size]["width"] else [*wrong, f"it is {width} wide", *opened.evaluate(BEYOND)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_accessible_and_fits(console, places, picture, name, size):
    """A page has no accessibility problem, needs no sideways scrolling, and runs no script of its own."""
    opened = console.open(viewport=SIZES[size])
    console.complaints.clear()
    path = PAGES[name].format(**places)
    opened.goto(path if path.startswith("https:") else console.origin + path)
    wrong = looked_at(opened, picture, name, size)
    complaints = [one for one in console.complaints if "404" not in one]
    opened.context.close()
    assert wrong == complaints == []


# Pages that are come to by doing something.


def log_in(page, console):
    page.context.clear_cookies()
    page.goto(f"{console.origin}/ui/")
    page.fill("[name=password]", "wrong")
    page.fill("[name=username]", "nobody")
    page.click("main button.main")
    page.wait_for_selector("main .error")


def encrypted(page, console):
    page.click("main p.row a:has-text('Encrypt')")
    page.fill("[name=data]", "attack at dawn")
    page.click("button[name=send]")
    page.wait_for_selector("section[aria-labelledby=answer] textarea")


def answered(page, console):
    page.goto(f"{console.origin}/ui/console/")
    page.click("button[name=send]")
    page.wait_for_selector("#answer")


def detected(page, console):
    page.goto(f"{console.origin}/ui/create/import/")
    page.fill("[name=pasted]", json.dumps({"kty": "oct", "k": "A" * 43}))
    page.click("main form button.main")
    page.wait_for_selector("button[name=store]")


def refused(page, console):
    page.goto(f"{console.origin}/ui/create/import/")
    page.click("main form button.main")
    page.wait_for_selector("main .wrong")


def revealed(page, console):
    page.click("main .actions a:has-text('Reveal')")
    page.fill("[name=password]", console.password)
    page.click("main form button.main")
    page.wait_for_selector("textarea")


def several(page, console):
    page.goto(f"{console.origin}/ui/objects/")
    page.check("main tbody input >> nth=0")
    page.select_option("[name=action]", "grant")
    page.click("#batch button[name=index]")
    page.wait_for_selector("button[name=confirm]")


def ruled(page, console):
    page.goto(f"{console.origin}/ui/people/")
    page.fill("main form.narrow [name=name]", "approver")
    page.click("main form.narrow button.main")
    page.wait_for_selector("section[aria-labelledby=roles]")
    page.goto(f"{console.origin}/ui/approvals/")
    page.click("summary:has-text('Set a rule')")
    page.select_option("[name=operation]", "export")
    page.fill("[name=people]", "approver")
    page.click("button[name=rule]")
    page.wait_for_selector("section[aria-labelledby=rules] table")
    page.click("section[aria-labelledby=rules] td button")  # Which waits for the people of the rule.
    page.wait_for_selector("section[aria-labelledby^=r-]")


def added(page, console):
    page.goto(f"{console.origin}/ui/clients/add/")
    page.fill("[name=name]", "pictured")
    page.select_option("[name=product]", "fortigate")
    page.click("main form button.main")
    page.wait_for_selector("#arrival")


def issued(page, console):
    page.goto(f"{console.origin}/ui/me/")
    page.click("summary:has-text('A new token')")
    page.fill("section[aria-labelledby=tokens] [name=name]", "for a picture")
    page.click("button[name=token_new]")
    page.wait_for_selector("section[aria-labelledby=tokens] textarea")


def unfolded(page, console):
    for summary in page.locator("main summary:visible").all():
        summary.click()


STEPS = {one.__name__: one for one in (log_in, encrypted, answered, detected, refused, revealed, several, ruled, added,
                                       issued, unfolded)}  # fmt: skip


@pytest.mark.parametrize("name", STEPS)
def test_what_pages_turn_to_is_accessible_and_fits(console, places, key, picture, name):
    """Answers, errors, confirmations and what was unfolded are no worse than the pages that they come from."""
    opened = console.open()
    opened.goto(key)
    STEPS[name](opened, console)
    wrong = []
    for size, measures in SIZES.items():
        opened.set_viewport_size(measures)
        wrong += looked_at(opened, picture, f"{name}-done", size)
    opened.context.close()
    assert wrong == []


@pytest.mark.parametrize("name", ["home", "objects", "object", "settings"])
def test_a_page_is_no_wider_than_can_be_read_on_a_large_screen(console, places, picture, name):
    """On 4K the page stays in one column that eyes can follow."""
    opened = console.open(viewport=LARGE)
    path = PAGES[name].format(**places)
    opened.goto(path if path.startswith("https:") else console.origin + path)
    picture(opened, f"{name}-4k")
    box = opened.locator("main").bounding_box()
    opened.context.close()
    assert box["width"] <= 1440 and abs(box["x"] * 2 + box["width"] - LARGE["width"]) < 40


def test_text_grows_to_twice_its_size(console, places, page):
    """What people set their browser to counts: nothing is cut off, and nothing needs sideways scrolling (1.4.4)."""
    page.set_viewport_size(SIZES["desktop"])
    for path in ("/ui/", "/ui/objects/", "/ui/audit/", "/ui/settings/"):
        page.goto(console.origin + path)
        page.evaluate("document.documentElement.style.fontSize = '200%'")
        assert page.evaluate("document.documentElement.scrollWidth") <= SIZES["desktop"]["width"], path
    assert re.search(r"\d", page.inner_text("footer"))
