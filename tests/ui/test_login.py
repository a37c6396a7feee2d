"""The ways into the console, and who they keep out; every attempt is recorded."""

import base64
import hashlib
import json
import re
import subprocess
import sys
import threading
import time
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs, urlsplit

import jwt
import pyotp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from django.contrib.auth import get_user_model
from django.test import Client
from django.utils import timezone

from keystore import administration, authn, checks, expiry, resealing, sealing, sessions
from keystore.authn import accounts, certificates, totp
from keystore.models import Account, AuditRecord, ConsoleSession, LoginFailure, Namespace
from tests.certificates import CLIENT, Pki, make
from tests.ui.conftest import PASSWORD
from ui import openid

LOGIN = "/ui/login/"


@pytest.fixture
def alice_exists() -> None:
    get_user_model().objects.create_user("alice", password=PASSWORD)


def attempt(client: Client, name: str = "alice", password: str = PASSWORD, code: str = "", **extra) -> bool:
    """Whether a login at the form succeeds."""
    answer = client.post(LOGIN, {"username": name, "password": password, "code": code, "next": "/ui/"}, **extra)
    return answer.status_code == 302


def inside(client: Client, **extra) -> bool:
    return client.get("/ui/objects/", **extra).status_code == 200


def recorded() -> list[tuple[str, str, str, str]]:
    """User, operation, result and detail of the records about logins."""
    rows = AuditRecord.objects.filter(operation__in=["Log In", "Log Out", "Change Password"]).order_by("id")
    return list(rows.values_list("user", "operation", "result", "detail"))


def test_a_login_and_a_logout_are_recorded(client, alice_exists):
    assert not attempt(client, password="wrong")
    assert not attempt(client, name="nobody")
    assert attempt(client) and inside(client)
    client.post("/ui/logout/")
    assert not inside(client)
    assert recorded() == [
        ("", "Log In", "Failure", "password of alice"),
        ("", "Log In", "Failure", "password of nobody"),
        ("alice", "Log In", "Success", "password"),
        ("alice", "Log Out", "Success", ""),
    ]
    assert PASSWORD not in str(list(AuditRecord.objects.values()))


def test_failures_say_the_same_whoever_it_is(client, alice_exists):
    """A name that does not exist, a wrong password, a locked user."""

    def said(name: str, password: str) -> list[str]:
        answer = client.post(LOGIN, {"username": name, "password": password})
        return re.findall(r'class="error">(.*?)<', answer.content.decode())

    first = said("alice", "wrong")
    assert first and said("nobody", "wrong") == first
    for _ in range(6):
        said("alice", "wrong")
    assert said("alice", PASSWORD) == first


def test_a_user_is_locked_out_after_failures_and_let_in_later(client, alice_exists, configure):
    """Even with the right password; an administrator lets it in at once."""
    configure(**{"auth.login_failures": 3})
    for _ in range(3):
        assert not attempt(client, password="wrong")
    assert not attempt(client)
    LoginFailure.objects.update(locked_until=int(time.time()) - 1)
    assert attempt(client)
    client.post("/ui/logout/")
    for _ in range(3):
        assert not attempt(client, password="wrong")
    peer, root = administration.local("default")
    administration.disable_user(peer, root, "alice", False)
    assert attempt(client)


def test_an_address_that_tries_many_names_is_locked_out(client, alice_exists, configure):
    configure(**{"auth.login_failures": 1})
    for number in range(10):
        assert not attempt(client, name=f"user {number}", REMOTE_ADDR="10.9.8.7")
    assert not attempt(client, REMOTE_ADDR="10.9.8.7")
    assert attempt(client, REMOTE_ADDR="10.9.8.8")


def test_a_disabled_user_is_not_let_in_and_put_out(client, alice_exists):
    assert attempt(client)
    Account.objects.filter(username="alice").update(disabled=True)
    authn.forget()
    assert client.get("/ui/objects/").status_code == 403
    assert not attempt(Client())


def test_passwords_are_kept_as_argon2(settings, alice_exists):
    """The hasher that new passwords get outside of these tests."""
    from django.contrib.auth.hashers import identify_hasher, make_password

    from kmsproject import settings as real

    settings.PASSWORD_HASHERS = real.PASSWORD_HASHERS
    encoded = make_password(PASSWORD)
    assert encoded.startswith("argon2$argon2id$")
    assert identify_hasher(encoded).verify(PASSWORD, encoded)


# The second factor.


@pytest.fixture
def factor(client, alice_exists) -> pyotp.TOTP:
    """Alice's authenticator app, set up at the page; she is logged in."""
    assert attempt(client)
    page = client.get("/ui/second-factor/").content.decode()
    secret = re.search(r"<code>([A-Z2-7]{32})</code>", page)[1]
    assert 'src="data:image/svg+xml' in page
    app = pyotp.TOTP(secret)
    wrong = "000000" if app.now() != "000000" else "000001"
    assert "The code is wrong" in client.post("/ui/second-factor/", {"code": wrong}).content.decode()
    assert not totp.has(Account.objects.get(username="alice"))
    assert client.post("/ui/second-factor/", {"code": app.now()}).status_code == 302
    assert secret not in client.get("/ui/second-factor/").content.decode()
    return app


def later(app: pyotp.TOTP, steps: int = 1) -> str:
    """A code that was not used yet."""
    return app.at(time.time(), counter_offset=steps)


def test_a_second_factor_is_asked_for_from_then_on(factor, client):
    """A code counts once; the password alone, or a used code, is not enough."""
    other = Client()
    assert not attempt(other)
    assert not attempt(other, code=factor.now())
    assert not attempt(other, code="not a code")
    code = later(factor)
    assert not attempt(other, password="wrong", code=code)
    assert attempt(other, code=code) and inside(other)
    assert not attempt(Client(), code=code)
    assert ("alice", "Log In", "Success", "password and code") in recorded()


def test_the_secret_is_sealed_and_bound_to_its_account(factor):
    """Whoever writes to the database cannot give a factor of their own to another account."""
    account = Account.objects.get(username="alice")
    assert factor.secret.encode() not in bytes(account.totp_secret)
    other = accounts.ensure("default", "bob")
    Account.objects.filter(pk=other.pk).update(totp_secret=account.totp_secret)
    with pytest.raises(Exception, match="does not belong to this row"):
        totp.accept(accounts.find("default", "bob"), later(factor))


def test_the_secret_is_sealed_anew_with_all_else(factor):
    """A rotation of sealing keys does not leave it under the old one, and its codes go on."""
    before = sealing.number_of(bytes(Account.objects.get(username="alice").totp_secret))
    resealing.rotate_sealing_keys(wait=0)
    account = Account.objects.get(username="alice")
    assert sealing.number_of(bytes(account.totp_secret)) != before
    assert totp.accept(account, later(factor))


def test_a_second_factor_is_removed_with_a_code_or_by_an_administrator(factor, client):
    Account.objects.update(totp_step=0)
    assert client.post("/ui/second-factor/", {"code": "123"}).status_code == 200
    assert totp.has(Account.objects.get(username="alice"))
    assert client.post("/ui/second-factor/", {"code": later(factor)}).status_code == 302
    assert attempt(Client())
    totp.put(Account.objects.get(username="alice"), totp.new_secret())
    assert not attempt(Client())
    peer, root = administration.local("default")
    administration.reset_second_factor(peer, root, "alice")
    assert attempt(Client())
    told = AuditRecord.objects.filter(operation__contains="Second Factor").order_by("id")
    assert list(told.values_list("operation", "result")) == [
        ("Set Second Factor", "Failure"),
        ("Set Second Factor", "Success"),
        ("Remove Second Factor", "Failure"),
        ("Remove Second Factor", "Success"),
        ("Reset Second Factor", "Success"),
    ]


def test_where_it_is_required_nothing_else_is_shown_before(client, alice_exists, configure):
    configure(**{"auth.second_factor": "required"})
    assert attempt(client)
    for path in ("/ui/", "/ui/objects/", "/ui/password/"):
        assert client.get(path)["Location"] == "/ui/second-factor/"
    page = client.get("/ui/second-factor/").content.decode()
    app = pyotp.TOTP(re.search(r"<code>([A-Z2-7]{32})</code>", page)[1])
    client.post("/ui/second-factor/", {"code": app.now()})
    assert inside(client)


def test_the_factor_is_asked_for_whoever_was_logged_in_before(client, alice_exists, configure):
    """Django ends the session of another person, with all that it was told."""
    client.force_login(get_user_model().objects.create_user("bob", password=PASSWORD))
    configure(**{"auth.second_factor": "required"})
    assert attempt(client)
    assert client.get("/ui/objects/")["Location"] == "/ui/second-factor/"


def test_who_logs_in_with_a_code_lacks_nothing_of_the_session_before(factor, client, configure):
    """A browser in which the factor was lacking is let in with it."""
    totp.put(Account.objects.get(username="alice"), None)
    other = Client()
    assert attempt(other)
    totp.put(Account.objects.get(username="alice"), factor.secret)
    configure(**{"auth.second_factor": "required"})
    assert other.get("/ui/objects/")["Location"] == "/ui/second-factor/"
    assert attempt(other, code=factor.now()) and inside(other)


def test_wrong_codes_lock_out(factor, configure):
    configure(**{"auth.login_failures": 3})
    other = Client()
    for _ in range(3):
        assert not attempt(other, code="1")
    assert not attempt(other, code=later(factor))


# Sessions.


def listed(client, address="/ui/me/"):
    """The sessions on a page: number, way, and whether it is the browser's own."""
    return [(one.number, way, here) for one, way, here in client.get(address).context["sessions"]]


def test_people_see_their_sessions_and_end_them(client, alice_exists):
    """Each with when, from where, how and with what it began; never with the key that makes it."""
    assert attempt(client, HTTP_USER_AGENT="Firefox on a desk", REMOTE_ADDR="192.0.2.1")
    other = Client()
    assert attempt(other, HTTP_USER_AGENT="Safari on a phone", REMOTE_ADDR="192.0.2.2")
    page = client.get("/ui/me/")
    text = page.content.decode()
    for part in ("Firefox on a desk", "Safari on a phone", "192.0.2.1", "192.0.2.2", "this one"):
        assert part in text
    for browser in (client, other):
        assert browser.session.session_key not in text
    found = {here: number for number, way, here in listed(client) if way == "password"}
    assert set(found) == {True, False}
    assert client.post("/ui/me/", {"end": found[False]}, follow=True).context["messages"]
    assert not inside(other) and inside(client)
    assert [here for *_, here in listed(client)] == [True]
    assert AuditRecord.objects.filter(operation="End Session", user="alice", result="Success").exists()


def test_nobody_ends_the_session_of_another_user_but_an_administrator(client, alice_exists, person):
    """Of the same namespace; a number that is nobody's is an error, and no number is not all of them."""
    assert attempt(client)
    ((number, *_),) = listed(client)
    Namespace.objects.create(name="tenant", created=0)
    bob, carol, root = person("bob"), person("tenant/carol", superuser=True), person("root", superuser=True)
    for wrong in (number, "", "0" * 64):
        bob.post("/ui/me/", {"end": wrong})
        root.post("/ui/people/users/root/", {"do": "end", "session": wrong})
    bob.post("/ui/people/users/alice/", {"do": "end", "session": number})
    carol.post("/ui/people/users/alice/", {"do": "end", "session": number})
    carol.post("/ui/people/users/carol/", {"do": "end", "session": number})
    root.post("/ui/people/users/alice/", {"do": "end", "session": ""})
    assert inside(client) and inside(bob) and inside(root)
    assert [row[0] for row in listed(root, "/ui/people/users/alice/")] == [number]
    root.post("/ui/people/users/alice/", {"do": "end", "session": number})
    assert not inside(client)


def test_a_user_who_was_disabled_has_no_session_left(client, alice_exists):
    """Not even when it is let in again."""
    assert attempt(client)
    peer, root = administration.local("default")
    administration.disable_user(peer, root, "alice", True)
    administration.disable_user(peer, root, "alice", False)
    assert not inside(client)
    assert attempt(client) and inside(client)


def test_sessions_that_are_over_are_forgotten(client, alice_exists):
    """They are neither listed nor kept."""
    assert attempt(client)
    other = Client()
    assert attempt(other)
    number = sessions.number_of(other.session.session_key)
    ConsoleSession.objects.filter(number=number).update(expire_date=timezone.now() - timedelta(seconds=1))
    assert [here for *_, here in listed(client)] == [True]
    expiry.run()
    assert not ConsoleSession.objects.filter(number=number).exists()
    assert inside(client) and not inside(other)


# Client certificates.


@pytest.fixture
def pki(tmp_path, configure) -> Pki:
    found = Pki(tmp_path)
    configure(**{"tls.clients_ca_cert_file": tmp_path / "ca.pem"})
    return found


def presenting(certificate: x509.Certificate, issuer: x509.Certificate) -> dict[str, object]:
    """What the HTTPS worker says of a connection with a verified certificate."""
    return {
        "kms.peer_certificate": certificate.public_bytes(Encoding.DER),
        "kms.peer_chain": (issuer.public_bytes(Encoding.DER),),
    }


def test_a_certificate_is_a_way_in_as_long_as_the_connection_has_it(client, pki):
    """The session is good for nothing without it, with another one, and when it is disabled."""
    mine = presenting(pki.client.certificate, pki.ca.certificate)
    assert "Log in with the certificate of alice" in client.get(LOGIN, **mine).content.decode()
    assert client.post("/ui/login/certificate/", **mine)["Location"] == "/ui/"
    assert inside(client, **mine)
    assert client.get("/ui/objects/").status_code == 302
    other = make("bob", pki.ca, usage=CLIENT)
    assert client.get("/ui/objects/", **presenting(other.certificate, pki.ca.certificate)).status_code == 302
    assert inside(client, **mine)
    peer, root = administration.local("default")
    administration.disable_certificate(peer, root, certificates.fingerprint_of(pki.client.certificate), True)
    assert client.get("/ui/objects/", **mine).status_code == 403
    assert recorded()[0] == ("alice", "Log In", "Success", "client certificate")
    assert ConsoleSession.objects.get(user__username="alice").way == "certificate"
    assert AuditRecord.objects.filter(operation="Log In").get().method == "certificate"


def test_material_is_revealed_to_who_proves_it_with_the_certificate(client, pki):
    """The connection has it in that very request, and it has to be meant; nobody has a password to ask for."""
    mine = presenting(pki.client.certificate, pki.ca.certificate)
    client.post("/ui/login/certificate/", **mine)
    made = client.post("/ui/create/symmetric-key/", {"algorithm": "AES:256", "extractable": "on"}, **mine)["Location"]
    assert "textarea" not in client.post(f"{made}get/", {}, **mine).content.decode()
    assert client.post(f"{made}get/", {"sure": "on"}).status_code == 302
    revealed = client.post(f"{made}get/", {"sure": "on"}, **mine)
    assert re.search(r"[0-9a-f]{64}", revealed.content.decode())


def test_no_certificate_and_a_refused_one_are_no_way_in(client, pki):
    assert "certificate of" not in client.get(LOGIN).content.decode()
    assert client.post("/ui/login/certificate/")["Location"] == LOGIN
    stranger = make("other CA", ca=True)
    foreign = make("alice", stranger, usage=CLIENT)
    shown = presenting(foreign.certificate, stranger.certificate)
    accounts.vouched("default", "alice", certificates.authority_of(pki.client.certificate))
    assert client.post("/ui/login/certificate/", **shown)["Location"] == LOGIN
    assert [row[2] for row in recorded()] == ["Failure", "Failure"]


def test_a_certificate_is_not_merged_with_a_person_of_the_same_name(client, pki, alice_exists):
    """Until an administrator links them."""
    mine = presenting(pki.client.certificate, pki.ca.certificate)
    assert client.post("/ui/login/certificate/", **mine)["Location"] == LOGIN
    peer, root = administration.local("default")
    administration.link_person(peer, root, "alice", "alice")
    assert client.post("/ui/login/certificate/", **mine)["Location"] == "/ui/"


# OpenID.


class Provider:
    """An OpenID provider in this process: discovery, keys, and tokens for codes with their verifier."""

    def __init__(self) -> None:
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.codes: dict[str, dict[str, str]] = {}
        self.claims: dict[str, object] = {}
        self.algorithm, self.said_issuer = "RS256", ""
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._send(provider.document(self.path))

            def do_POST(self) -> None:
                given = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                self._send(provider.token({name: values[0] for name, values in given.items()}))

            def _send(self, body: dict[str, object]) -> None:
                content = json.dumps(body).encode()
                self.send_response(400 if "error" in body else 200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *arguments: object) -> None:
                """Nothing."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.issuer = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def document(self, path: str) -> dict[str, object]:
        if path.startswith("/.well-known"):
            return {
                "issuer": self.said_issuer or self.issuer,
                "authorization_endpoint": self.issuer + "/authorize",
                "token_endpoint": self.issuer + "/token",
                "jwks_uri": self.issuer + "/keys",
                "id_token_signing_alg_values_supported": ["RS256", "HS256"],
            }
        key = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key()))
        shared = {"kty": "oct", "kid": "shared", "k": base64.urlsafe_b64encode(b"0" * 32).decode().rstrip("=")}
        return {"keys": [key | {"kid": "one", "use": "sig"}, shared]}

    def authorize(self, location: str) -> str:
        """Be the user who agrees: the address that the browser goes back to."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}
        assert asked["code_challenge_method"] == "S256" and asked["response_type"] == "code"
        code = f"code {len(self.codes)}"
        self.codes[code] = asked
        return f"{urlsplit(asked['redirect_uri']).path}?code={code}&state={asked['state']}"

    def token(self, given: dict[str, str]) -> dict[str, object]:
        asked = self.codes.pop(given.get("code", ""), None)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(given.get("code_verifier", "").encode()).digest())
        if asked is None or challenge.decode().rstrip("=") != asked["code_challenge"]:
            return {"error": "invalid_grant"}
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": "kms", "sub": "alice", "iat": now, "exp": now + 60}
        claims |= {"nonce": asked["nonce"]} | self.claims
        key = self.key if self.algorithm == "RS256" else b"0" * 32
        number = "one" if self.algorithm == "RS256" else "shared"
        token = jwt.encode(claims, key, self.algorithm, headers={"kid": number})
        return {"access_token": "x", "token_type": "Bearer", "id_token": token}


@pytest.fixture
def provider(configure):
    found = Provider()
    openid._provider.cache_clear()
    configure(
        **{"auth.oidc_issuer": found.issuer, "auth.oidc_client_id": "kms", "auth.oidc_client_secret": "a secret" * 4}
    )
    yield found
    found.server.shutdown()
    found.server.server_close()
    openid._provider.cache_clear()


def through(client: Client, provider: Provider) -> str:
    """Where a login at the provider ends."""
    away = client.get("/ui/login/openid/")
    assert away["Location"].startswith(provider.issuer + "/authorize?")
    return client.get(provider.authorize(away["Location"]))["Location"]


def test_a_login_at_the_provider(client, provider):
    """Makes a user on the first occasion, and finds it on the next."""
    assert "Log in at your provider" in client.get(LOGIN).content.decode()
    assert through(client, provider) == "/ui/" and inside(client)
    assert ConsoleSession.objects.get(user__username="alice").way == "openid"
    assert through(Client(), provider) == "/ui/"
    account = Account.objects.get(username="alice")
    assert account.authorities == [f"oidc:{provider.issuer}"]
    assert not account.user.has_usable_password()
    assert recorded()[0] == ("alice", "Log In", "Success", f"OpenID {provider.issuer}")


def test_who_came_from_a_provider_proves_nothing_here(client, provider):
    """There is no password to ask for, so material is not revealed, and the page says what to do."""
    through(client, provider)
    made = client.post("/ui/create/symmetric-key/", {"algorithm": "AES:256", "extractable": "on"})["Location"]
    for answer in (
        client.get(f"{made}get/"),
        client.post(f"{made}get/", {"password": ""}),
        client.post(f"{made}get/", {"password": "!", "sure": "on"}),
    ):
        text = answer.content.decode()
        assert "log in with a password or a client certificate" in text
        assert re.search(r"[0-9a-f]{64}", text.replace("csrfmiddlewaretoken", "")) is None


WRONG = {
    "another audience": {"aud": "other"},
    "another issuer": {"iss": "https://evil.example"},
    "expired": {"exp": 1, "iat": 1},
    "another login's nonce": {"nonce": "x"},
    "no name": {"sub": ""},
}


@pytest.mark.parametrize("claims", WRONG.values(), ids=WRONG)
def test_tokens_that_are_wrong_let_nobody_in(client, provider, claims):
    provider.claims = claims
    assert through(client, provider) == LOGIN
    assert not inside(client)
    assert [row[2] for row in recorded()] == ["Failure"]


def test_a_shared_key_signs_nothing(client, provider):
    """Even one that the provider publishes."""
    provider.algorithm = "HS256"
    assert through(client, provider) == LOGIN
    assert not inside(client)


def test_a_code_belongs_to_the_browser_that_began(client, provider):
    """State of another session, none, and a code used twice."""
    away = client.get("/ui/login/openid/")
    back = provider.authorize(away["Location"])
    stranger = Client()
    assert stranger.get(back)["Location"] == LOGIN
    assert not inside(stranger)
    assert client.get(back)["Location"] == "/ui/"
    client.post("/ui/logout/")
    assert client.get(back)["Location"] == LOGIN
    assert client.get("/ui/login/openid/done/")["Location"] == LOGIN


def test_a_provider_that_is_another_one_or_away_lets_nobody_in(client, provider):
    provider.said_issuer = "https://evil.example"
    assert client.get("/ui/login/openid/")["Location"] == LOGIN
    provider.said_issuer = ""
    provider.server.shutdown()
    provider.server.server_close()
    assert client.get("/ui/login/openid/")["Location"] == LOGIN
    assert "has failed" in client.get(LOGIN).content.decode()


def test_a_provider_does_not_take_over_a_name(client, provider, alice_exists):
    """Neither of a person with a password, nor of another authority's client."""
    assert through(client, provider) == LOGIN
    accounts.vouched("default", "bob", "ca:1")
    provider.claims = {"sub": "bob"}
    assert through(client, provider) == LOGIN
    assert not inside(client)


def test_without_a_provider_there_is_no_such_way(client):
    for path in ("/ui/login/openid/", "/ui/login/openid/done/?code=x&state=y"):
        assert client.get(path)["Location"] == LOGIN


def test_a_process_that_nobody_comes_to_from_a_provider_has_not_loaded_its_libraries():
    """They are slow to load and large."""
    program = (
        "import sys, django; django.setup(); from django.urls import resolve; resolve('/ui/login/');"
        "print([one for one in ('authlib', 'joserfc') if one in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert told.stdout.strip() == "[]"


# Nobody authenticates.


def test_every_page_and_the_health_say_that_nobody_authenticates(client, alice, configure):
    """As long as it is so."""
    for page in (client.get(LOGIN), alice.get("/ui/"), alice.get("/ui/objects/")):
        assert "Nobody authenticates" in page.content.decode()
    assert client.get("/health").json()["unauthenticated"] == "callers on this machine are admin"
    configure(**{"auth.http_basic": True})
    assert "Nobody authenticates" not in client.get(LOGIN).content.decode()
    assert "unauthenticated" not in client.get("/health").json()


def test_the_log_says_so(caplog, configure):
    checks.warn(configure())
    assert "nobody authenticates" in caplog.text
    caplog.clear()
    checks.warn(configure(**{"auth.http_basic": True}))
    assert not caplog.text
