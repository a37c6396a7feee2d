"""Credentials of KMIP requests, HTTP basic authentication, and who needs none."""

import base64
import time

import pytest

from keystore import administration, approvals, authn
from keystore.authn import Peer, credentials
from keystore.models import Account, LoginFailure
from kmip.enums import CredentialType
from kmip.errors import KMIPError
from kmip.messages import Authentication, Credential, Device, UsernameAndPassword
from tests.certificates import CLIENT, make
from tests.keystore.authn.conftest import known, refused, showing

pytestmark = pytest.mark.django_db

PASSWORD = "correct horse battery"


@pytest.fixture(autouse=True)
def quick(settings) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    credentials._known.clear()
    credentials._decoys.clear()


@pytest.fixture
def root():
    return administration.local("default")


@pytest.fixture
def alice(root) -> Account:
    account = administration.add_user(*root, "alice")
    administration.set_password(*root, "alice", PASSWORD)
    return account


def saying(*values: tuple[str, str | None]) -> Authentication:
    """An Authentication of names and passwords."""
    kind = CredentialType.USERNAME_AND_PASSWORD
    return Authentication(
        credential=[
            Credential(credential_type=kind, credential_value=UsernameAndPassword(username=n, password=p))
            for n, p in values
        ]
    )


def device(password: str, **identifiers: str) -> Authentication:
    value = Device(password=password, **identifiers)
    return Authentication(credential=[Credential(credential_type=CredentialType.DEVICE, credential_value=value)])


def test_a_password_in_a_request(alice):
    """Lets its user in, whatever else the connection shows nothing of; everything else is refused alike."""
    peer = Peer("kmip", "10.0.0.7")
    assert known(peer, saying(("alice", PASSWORD))).method == "password"
    messages = {
        refused(peer, saying(("alice", "wrong"))),
        refused(peer, saying(("alice", ""))),
        refused(peer, saying(("alice", None))),
        refused(peer, saying(("nobody", PASSWORD))),
        refused(peer, saying(("Alice", PASSWORD))),
        refused(peer, saying(("tenant/alice", PASSWORD))),
    }
    assert messages == {credentials.WRONG}


def test_a_user_without_a_password_has_none_to_guess(root):
    administration.add_user(*root, "bob")
    peer = Peer("kmip", "10.0.0.7")
    assert refused(peer, saying(("bob", ""))) == credentials.WRONG
    assert refused(peer, saying(("bob", "x"))) == credentials.WRONG


def test_a_wrong_credential_is_refused_though_the_certificate_is_right(pki, alice):
    """And of several, each has to be right and name the same user."""
    peer = showing(make("carol", pki.ca, usage=CLIENT), pki.ca)
    assert known(peer).username == "carol"
    identity = known(peer, saying(("alice", PASSWORD)))
    assert identity.username == "alice" and len(identity.fingerprint) == 64
    refused(peer, saying(("alice", "wrong")))
    refused(peer, saying(("alice", PASSWORD), ("alice", "wrong")))
    assert known(peer).username == "carol"


def test_credentials_that_are_switched_off_count_for_nothing(alice, configure, pki):
    configure(**{"auth.kmip_credentials": False})
    refused(Peer("kmip", "10.0.0.7"), saying(("alice", PASSWORD)))
    peer = showing(make("carol", pki.ca, usage=CLIENT), pki.ca)
    assert known(peer, saying(("alice", PASSWORD))).username == "carol"


def test_a_device_is_known_by_all_its_identifiers(alice, root):
    administration.set_device(*root, "alice", {"device_serial_number": "1", "network_identifier": "2"})
    peer = Peer("kmip", "10.0.0.7")
    right = {"device_serial_number": "1", "network_identifier": "2"}
    assert known(peer, device(PASSWORD, **right)).username == "alice"
    refused(peer, device("wrong", **right))
    refused(peer, device(PASSWORD, device_serial_number="1"))
    refused(peer, device(PASSWORD, **right, machine_identifier="3"))
    refused(peer, device(PASSWORD, device_serial_number="12"))
    administration.add_user(*root, "bob")
    with pytest.raises(KMIPError, match="another user"):
        administration.set_device(*root, "bob", right)
    administration.set_device(*root, "alice", {})
    refused(peer, device(PASSWORD, **right))


def test_failures_lock_out_and_a_right_password_is_not_asked_for_again(alice, configure, root):
    """A locked user is refused with the right password, too, until the time is over or somebody unlocks it."""
    configure(**{"auth.login_failures": 3})
    peer = Peer("kmip", "10.0.0.7")
    for _ in range(3):
        refused(peer, saying(("alice", "wrong")))
    refused(peer, saying(("alice", PASSWORD)))
    LoginFailure.objects.update(locked_until=int(time.time()) - 1)
    assert known(peer, saying(("alice", PASSWORD))).username == "alice"
    for _ in range(3):
        refused(peer, saying(("alice", "wrong")))
    # Connections that go on with the right password are not harmed by somebody's guesses.
    assert known(peer, saying(("alice", PASSWORD))).username == "alice"
    credentials._known.clear()
    refused(peer, saying(("alice", PASSWORD)))
    administration.disable_user(*root, "alice", False)
    assert known(peer, saying(("alice", PASSWORD))).username == "alice"


def test_a_changed_password_counts_at_once(alice, root):
    peer = Peer("kmip", "10.0.0.7")
    known(peer, saying(("alice", PASSWORD)))
    administration.set_password(*root, "alice", "another long password")
    refused(peer, saying(("alice", PASSWORD)))
    administration.set_password(*root, "alice", "")
    refused(peer, saying(("alice", "another long password")))


@pytest.mark.parametrize("password", ["short", "password", "12345678"])
def test_weak_passwords_are_refused(alice, root, password):
    with pytest.raises(KMIPError):
        administration.set_password(*root, "alice", password)


def basic(name: str, password: str) -> Peer:
    encoded = base64.b64encode(f"{name}:{password}".encode()).decode()
    return Peer("http", "10.0.0.7", headers={"Authorization": f"Basic {encoded}"})


def test_basic_authentication_is_off_by_default(alice, configure):
    assert "not accepted" in refused(basic("alice", PASSWORD))
    configure(**{"auth.http_basic": True})
    assert known(basic("alice", PASSWORD)).method == "basic"
    assert refused(basic("alice", "wrong")) == credentials.WRONG
    for header in ("Basic", "Basic !!", "Basic " + base64.b64encode(b"alice").decode(), "Basic /w=="):
        refused(Peer("http", "10.0.0.7", headers={"Authorization": header}))


OPEN = {  # address, headers, settings -> let in
    "loopback": ("127.0.0.1", {}, {}, True),
    "loopback of IPv6": ("::1", {}, {}, True),
    "the network": ("10.0.0.7", {}, {}, False),
    "an address that looks like it": ("127.0.0.1.example.com", {}, {}, False),
    "nothing": ("", {}, {}, False),
    "through a proxy": ("127.0.0.1", {"X-Forwarded-For": "10.0.0.7"}, {}, False),
    "through another proxy": ("127.0.0.1", {"Forwarded": "for=10.0.0.7"}, {}, False),
    "with a wrong credential": ("127.0.0.1", {"Authorization": "Bearer x"}, {}, False),
    "with tokens configured": ("127.0.0.1", {}, {"auth.jwt_auth_provider": ("i|f|a",)}, False),
    "with basic authentication": ("127.0.0.1", {}, {"auth.http_basic": True}, False),
    "with an OpenID provider": ("127.0.0.1", {}, {"auth.oidc_issuer": "https://issuer.example"}, False),
    "with TLS": ("127.0.0.1", {}, {"tls.tls_p12_file": "server.p12"}, False),
}


@pytest.mark.parametrize("address, headers, changes, let_in", OPEN.values(), ids=OPEN)
def test_the_default_user_needs_nothing_configured_and_this_machine(address, headers, changes, let_in, configure):
    configure(**{"auth.default_username": "somebody", **changes})
    peer = Peer("http", address, headers=headers)
    if let_in:
        identity = known(peer)
        assert (identity.username, identity.method, identity.administers) == ("somebody", "loopback", True)
    else:
        refused(peer)


def test_the_default_user_waits_for_approvals_as_all_do(configure, root):
    """Being let in without a credential is no way round a rule of the namespace."""
    configure(**{"auth.default_username": "somebody"})
    administration.add_user(*root, "ann")
    approvals.set_rule(*root, "destroy", needed=1, people=["ann"])
    authn.forget()
    assert [one.operation for one in known(Peer("http", "127.0.0.1")).approvals] == ["destroy"]


def test_other_transports_have_no_default_user():
    for transport in ("kmip", "ui", "cli"):
        refused(Peer(transport, "127.0.0.1"))
    assert authn.authenticators()
