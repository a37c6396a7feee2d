"""The console: who gets in, and that its buttons do what the wire does, by the same rules."""

import re

import pytest
from django.contrib.auth import get_user_model

from keystore.models import AuditRecord, ManagedObject
from kmip.enums import State

pytestmark = pytest.mark.django_db
PASSWORD = "correct horse battery"
PAGES = ["/ui/", "/ui/objects/", "/ui/create/", "/ui/create/symmetric-key/", "/ui/create/import/"]


@pytest.fixture
def admin(client):
    """A browser in which an administrator is logged in."""
    get_user_model().objects.create_superuser("admin", password=PASSWORD)
    assert client.login(username="admin", password=PASSWORD)
    return client


def create(client, name):
    """Make a symmetric key through the form; the address of its page."""
    page = client.get("/ui/create/symmetric-key/")
    form = page.context["form"]
    data = {name: form.get_initial_for_field(field, name) for name, field in form.fields.items()}
    data = {key: value for key, value in data.items() if value not in (None, False)} | {"name": name}
    answer = client.post("/ui/create/symmetric-key/", data)
    assert answer.status_code == 302, answer.content[:2000]
    return answer["Location"]


@pytest.mark.parametrize("page", PAGES)
def test_nobody_sees_a_page_without_logging_in(client, page):
    """Every page sends strangers to the log-in."""
    answer = client.get(page)
    assert answer.status_code == 302
    assert answer["Location"].startswith("/ui/login/")


@pytest.mark.parametrize("page", PAGES)
def test_pages_allow_only_their_own_scripts(admin, page):
    """A page works, takes nothing from another host and runs no inline script."""
    answer = admin.get(page)
    assert answer.status_code == 200
    policy = answer["Content-Security-Policy"]
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert re.search(rb"<script(?! src=)", answer.content) is None
    assert re.search(rb"\b(src|href)=\"(https?:)?//", answer.content) is None
    assert answer["X-Content-Type-Options"] == "nosniff"


def test_a_key_is_created_found_revoked_and_destroyed(admin):
    """The forms carry out operations, each with its audit record, and the list finds the key."""
    address = create(admin, "key of the test")
    page = admin.get(address)
    assert "key of the test" in page.content.decode()
    assert "key of the test" in admin.get("/ui/objects/", {"q": "key of"}).content.decode()
    assert "key of the test" not in admin.get("/ui/objects/", {"q": "another"}).content.decode()
    managed = ManagedObject.objects.get()
    if managed.state == State.PRE_ACTIVE:
        admin.post(f"{address}do/activate/", {})
    for slug, data, state in (
        ("revoke", {"reason": 6, "revocation_reason_code": 6, "code": 6}, State.DEACTIVATED),
        ("destroy", {"sure": "on"}, State.DESTROYED),
    ):
        answer = admin.post(f"{address}do/{slug}/", data)
        assert answer.status_code == 302, answer.content.decode()[-3000:]
        managed.refresh_from_db()
        assert managed.state == state
    assert managed.material is None
    operations = set(AuditRecord.objects.filter(object=managed.uid, user="admin").values_list("operation", flat=True))
    assert {"Create", "Revoke", "Destroy"} <= operations


def test_material_is_shown_only_after_the_password_again(admin):
    """The page with the key asks for the password, and a wrong one gets nothing."""
    address = create(admin, "key to reveal")
    assert "password" in admin.get(f"{address}get/").content.decode()
    wrong = admin.post(f"{address}get/", {"password": "no"})
    assert "not your password" in wrong.content.decode()
    right = admin.post(f"{address}get/", {"password": PASSWORD})
    assert re.search(r"[0-9a-f]{64}", right.content.decode())


def test_another_user_s_key_does_not_exist(admin, client, django_user_model):
    """Who may not see an object gets the same page as for one that is not there."""
    address = create(admin, "key of the administrator")
    django_user_model.objects.create_user("bob", password=PASSWORD)
    client.logout()
    assert client.login(username="bob", password=PASSWORD)
    assert client.get(address).status_code == 404
    assert client.get("/ui/objects/01a00000-0000-7000-8000-000000000000/").status_code == 404
    assert "key of the administrator" not in client.get("/ui/objects/").content.decode()
