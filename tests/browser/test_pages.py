"""Every page in a real browser: light and dark, wide and narrow, and nothing for axe to report (WCAG 2.2 AA)."""

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
    "import": "/ui/create/import/",
    "uses": "/ui/use/",
    "wrap": "/ui/use/wrap/",
    "clients": "/ui/clients/",
    "client-add": "/ui/clients/add/",
    "client-tokens": "/ui/clients/tokens/",
    "client": "{client}",
    "waiting": "{waiting}",
    "authorities": "/ui/authorities/",
    "authority": "{authority}",
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
    "console": "/ui/console/",
    "settings": "/ui/settings/",
    "password": "/ui/password/",
    "object": "{key}",
    "audit-verify": "/ui/audit/verify/",
    "reveal": "{key}get/",
    "revoke": "{key}do/revoke/",
    "destroy": "{key}do/destroy/",
    "missing": "/ui/objects/there-is-none/",
}
RULES = {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}


def violations(opened):
    """What axe-core reports of a page, one line each."""
    from axe_playwright_python.sync_playwright import Axe

    report = Axe().run(opened, options={"runOnly": RULES}).response
    return [
        f"{one['id']}: {node['html'][:200]} {node.get('failureSummary', '')}"
        for one in report["violations"]
        for node in one["nodes"]
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_accessible_and_fits(console, places, picture, name, size, scheme):
    """A page has no accessibility problem, needs no sideways scrolling, and runs no script of its own."""
    opened = console.open(viewport=SIZES[size], color_scheme=scheme)
    console.complaints.clear()
    path = PAGES[name].format(**places)
    opened.goto(path if path.startswith("https:") else console.origin + path)
    picture(opened, f"{name}-{size}-{scheme}")
    assert violations(opened) == []
    width = opened.evaluate("document.documentElement.scrollWidth")
    assert width <= SIZES[size]["width"]
    wrong = [one for one in console.complaints if "404" not in one]
    opened.context.close()
    assert wrong == []
