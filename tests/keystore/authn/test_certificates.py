"""Client certificates: which user they are, and until when."""

import datetime
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from keystore import administration, authn, roles
from keystore.authn import Peer, accounts, certificates
from keystore.models import Account, ClientCertificate, Namespace
from kmip.errors import KMIPError
from tests.certificates import CLIENT, DAY, Made, make, revoke
from tests.keystore.authn.conftest import client, known, refused, showing

pytestmark = pytest.mark.django_db


@pytest.fixture
def root():
    return administration.local("default")


def named(issuer: Made, *attributes: x509.NameAttribute, alternatives: list[x509.GeneralName] | None = None) -> Peer:
    """A certificate with any subject and alternative names."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(attributes))
        .issuer_name(issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - DAY)
        .not_valid_after(now + DAY)
    )
    if alternatives is not None:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    return showing(Made(key, builder.sign(issuer.key, hashes.SHA256())), issuer)


CN, OU = NameOID.COMMON_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME


@pytest.mark.parametrize(
    "source, alternatives, name",
    [
        ("common_name", None, "alice"),
        ("email", [x509.RFC822Name("alice@example.com")], "alice@example.com"),
        ("dns", [x509.DNSName("db1.example.com"), x509.RFC822Name("x@example.com")], "db1.example.com"),
        ("uri", [x509.UniformResourceIdentifier("spiffe://example.com/db1")], "spiffe://example.com/db1"),
        ("subject", None, "CN=alice,OU=databases"),
    ],
)
def test_the_settings_say_what_names_the_user(pki, configure, source, alternatives, name):
    configure(**{"auth.certificate_username": source})
    peer = named(
        pki.ca, x509.NameAttribute(OU, "databases"), x509.NameAttribute(CN, "alice"), alternatives=alternatives
    )
    identity = known(peer)
    assert (identity.username, identity.method) == (name, "certificate")
    assert identity.fingerprint == ClientCertificate.objects.get().fingerprint


@pytest.mark.parametrize(
    "source, attributes, alternatives",
    [
        ("common_name", [], [x509.DNSName("alice")]),
        ("common_name", [x509.NameAttribute(CN, "alice"), x509.NameAttribute(CN, "root")], None),
        ("email", [x509.NameAttribute(CN, "alice")], None),
        ("dns", [], [x509.DNSName("one.example.com"), x509.DNSName("two.example.com")]),
    ],
    ids=["no common name", "two common names", "no alternative name", "two alternative names"],
)
def test_a_name_that_is_missing_or_could_be_read_in_two_ways_is_none(pki, configure, source, attributes, alternatives):
    configure(**{"auth.certificate_username": source})
    assert "to name its user" in refused(named(pki.ca, *attributes, alternatives=alternatives))


@pytest.mark.parametrize("name", [" alice", "alice ", "al\x00ice", "al\nice", "*", "alice\u202e"])
def test_names_that_look_like_others_are_refused(pki, name):
    with pytest.raises(KMIPError):
        authn.identify(named(pki.ca, x509.NameAttribute(CN, name)))
    assert not Account.objects.exists()


def test_the_same_name_of_another_ca_is_refused_not_merged(pki, tmp_path, configure, root):
    """Until an administrator says that both are the same; and no more once it is taken back."""
    other = make("test CA", ca=True)  # The same name of the CA, too: its key is what counts.
    (tmp_path / "both.pem").write_bytes(pki.ca.pem + other.pem)
    configure(**{"tls.clients_ca_cert_file": tmp_path / "both.pem"})
    ours, theirs = client("alice", pki.ca), client("alice", other)
    assert known(ours).username == "alice"
    assert "another authority" in refused(theirs)
    authority = certificates.key_name(other.certificate)
    administration.trust_authority(*root, "alice", authority)
    assert known(theirs).username == "alice" == known(ours).username
    administration.trust_authority(*root, "alice", authority, False)
    refused(theirs)
    assert known(ours).username == "alice"


def test_a_name_with_a_password_or_a_person_is_not_taken_over(pki, root):
    administration.add_user(*root, "alice")
    administration.set_password(*root, "alice", "a long enough password")
    assert "another authority" in refused(client("alice", pki.ca))


def test_registered_names_only_where_enrolment_is_closed(pki, configure, root):
    configure(**{"auth.enrolment": "registered"})
    peer = client("alice", pki.ca)
    assert "not registered" in refused(peer)
    administration.add_user(*root, "alice")
    assert "not registered" in refused(peer)
    administration.trust_authority(*root, "alice", certificates.key_name(pki.ca.certificate))
    assert known(peer).username == "alice"
    assert "not registered" in refused(client("bob", pki.ca))


def test_a_pinned_certificate_is_the_only_one(pki, root):
    """Another of the same CA and name is not let in; replaced, the old one is not either."""
    first, second, third = (make("alice", pki.ca, usage=CLIENT) for _ in range(3))
    assert known(showing(first, pki.ca)).username == "alice"
    administration.pin_certificate(*root, "alice", second.certificate)
    assert "not the one that is registered" in refused(showing(first, pki.ca))
    assert known(showing(second, pki.ca)).username == "alice"
    old = certificates.fingerprint_of(second.certificate)
    administration.pin_certificate(*root, "alice", third.certificate, replaces=old)
    assert "disabled" in refused(showing(second, pki.ca))
    assert known(showing(third, pki.ca)).username == "alice"
    row = ClientCertificate.objects.get(fingerprint=old)
    assert (row.disabled, row.replaced_by) == (True, certificates.fingerprint_of(third.certificate))
    with pytest.raises(KMIPError, match="no such certificate"):
        administration.pin_certificate(*root, "alice", make("alice", pki.ca).certificate, replaces="0" * 64)


def test_a_disabled_certificate_is_refused_until_it_is_enabled(pki, root):
    made = make("alice", pki.ca, usage=CLIENT)
    peer = showing(made, pki.ca)
    fingerprint = known(peer).fingerprint
    administration.disable_certificate(*root, fingerprint, True)
    assert "disabled" in refused(peer)
    assert known(client("alice", pki.ca)).username == "alice"
    administration.disable_certificate(*root, fingerprint, False)
    assert known(peer).username == "alice"


def test_disabled_users_and_namespaces_are_refused(pki, root):
    peer = client("alice", pki.ca)
    known(peer)
    administration.disable_user(*root, "alice", True)
    assert "disabled" in refused(peer)
    administration.disable_user(*root, "alice", False)
    Namespace.objects.update(disabled=True)
    assert "disabled" in refused(peer)


def test_what_was_revoked_or_expired_since_the_handshake_is_refused(pki, tmp_path, configure):
    """And a list that cannot be read refuses everybody."""
    made, brief = make("alice", pki.ca, usage=CLIENT), make("bob", pki.ca, usage=CLIENT, begins=-2 * DAY, ends=-DAY)
    crl = tmp_path / "clients.crl"
    crl.write_bytes(revoke(pki.ca))
    configure(**{"tls.clients_crl_file": crl})
    peer = showing(made, pki.ca)
    assert known(peer).username == "alice"
    assert "expired" in refused(showing(brief, pki.ca))
    crl.write_bytes(revoke(pki.ca, made))
    assert "revoked" in refused(peer)
    crl.write_bytes(b"nonsense")
    refused(peer)


def test_lists_that_were_never_fetched_refuse_everybody(pki, configure, tmp_path):
    configure(**{"tls.clients_crl_urls": ("http://127.0.0.1:1/crl",), "tls.clients_crl_folder": tmp_path})
    assert "revoked" in refused(client("alice", pki.ca))


def test_a_ca_that_is_no_longer_trusted_takes_its_clients_along(pki, tmp_path, configure):
    peer = client("alice", pki.ca)
    known(peer)
    other = make("other CA", ca=True)
    (tmp_path / "other.pem").write_bytes(other.pem)
    configure(**{"tls.clients_ca_cert_file": tmp_path / "other.pem"})
    assert "no longer trusted" in refused(peer)


def test_an_identity_is_looked_up_again_within_seconds(pki, root, monkeypatch):
    """On a connection that stays open: believed for less than the five that a revocation may take."""
    peer = client("alice", pki.ca)
    authn.identify(peer)
    Account.objects.update(disabled=True)
    assert authn.identify(peer).username == "alice"
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + authn.BELIEVED)
    with pytest.raises(KMIPError):
        authn.identify(peer)
    assert authn.BELIEVED < 5


def test_roles_may_belong_to_a_certificate(pki, root):
    """And to nobody who has another of the same user."""
    peer, other = client("alice", pki.ca), client("alice", pki.ca)
    administration.give_role(*root, "auditor", f"certificate:{known(peer).fingerprint}")
    assert [role.name for role in known(peer).roles] == ["auditor"]
    assert [role.name for role in known(other).roles] == ["client"]
    assert roles.ADMINISTRATOR not in known(peer).roles
    assert accounts.find("default", "alice") is not None
