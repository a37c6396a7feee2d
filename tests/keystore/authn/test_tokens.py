"""Bearer tokens: this server's own, and those of OpenID providers."""

import base64
import hmac
import json
import time
from hashlib import sha256
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from keystore import administration, checks, conf, engine
from keystore.authn import Peer, accounts, tokens
from keystore.conf import ConfigError
from keystore.models import Account, ApiToken
from kmip.enums import Operation, ResultReason
from kmip.errors import KMIPError
from kmip.payloads import GetRequest
from tests.keystore.authn.conftest import known, refused
from tests.made import created

pytestmark = pytest.mark.django_db

ISSUER = "https://issuer.example"


def bearing(token: str, scheme: str = "Bearer") -> Peer:
    return Peer("http", "10.0.0.7", headers={"Authorization": f"{scheme} {token}"})


@pytest.fixture
def alice() -> Account:
    return accounts.ensure("default", "alice")


def issued(account: Account, **options) -> tuple[str, str]:
    return tokens.issue(account, "test", **options)


# This server's tokens.


def test_a_token_is_its_user(alice):
    """Several at once; their use is noted; the database cannot give them away."""
    (number, token), (_, second) = issued(alice), issued(alice)
    for one in (token, second):
        identity = known(bearing(one, "bearer"))
        assert (identity.username, identity.method) == ("alice", "token")
    assert token != second
    assert ApiToken.objects.get(id=number).last_used >= int(time.time()) - 5
    assert token[21:] not in str(list(ApiToken.objects.values()))
    tokens.revoke(alice, number)
    assert "revoked" in refused(bearing(token))
    assert known(bearing(second)).username == "alice"


CHANGES = {
    "upper case": str.upper,
    "lower case": str.lower,
    "swapped case": str.swapcase,
    "cut short": lambda token: token[:-1],
    "longer": lambda token: token + "A",
    "a blank inside": lambda token: token[:30] + " " + token[30:],
    "another secret": lambda token: token[:21] + "A" * 43,
    "another id": lambda token: "kms_" + "0" * 16 + token[20:],
    "no secret": lambda token: token[:21],
    "beyond ASCII": lambda token: token[:-1] + "é",
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_token_is_compared_in_every_character(alice, change):
    _, token = issued(alice)
    assert change(token) != token
    refused(bearing(change(token)))


def test_a_token_ends_when_it_says(alice, monkeypatch):
    with pytest.raises(KMIPError, match="expired already"):
        issued(alice, expires=int(time.time()))
    _, token = issued(alice, expires=int(time.time()) + 60)
    assert known(bearing(token)).until <= time.monotonic() + 60
    ApiToken.objects.update(expires=int(time.time()))
    assert "expired" in refused(bearing(token))


def test_scopes_bound_what_a_token_may(alice):
    """Whatever its user owns or administers; and unknown ones are refused when it is made."""
    uid = created("alice")
    peer, root = administration.local("default")
    administration.give_role(peer, root, "administrator", "user:alice")
    _, token = issued(alice, scopes=["get_attributes"])
    identity = known(bearing(token))
    assert not identity.administers
    with pytest.raises(KMIPError) as caught:
        engine.execute(Operation.GET, GetRequest(unique_identifier=uid), bearing(token))
    assert caught.value.reason is ResultReason.PERMISSION_DENIED
    assert known(bearing(issued(alice, scopes=["access"])[1])).administers
    with pytest.raises(KMIPError, match="not an operation"):
        issued(alice, scopes=["everything"])


def test_a_disabled_user_s_tokens_are_refused(alice):
    _, token = issued(alice)
    Account.objects.update(disabled=True)
    assert "disabled" in refused(bearing(token))


def test_a_token_is_for_http_only(alice):
    """On other transports headers mean nothing."""
    _, token = issued(alice)
    peer = bearing(token)
    peer.transport = "kmip"
    refused(peer)


@pytest.mark.parametrize("header", ["Bearer", "Bearer ", "Basic x", "Negotiate abc", "kms_", "Digest username=alice"])
def test_other_headers_let_nobody_in(alice, header):
    """Also where nothing is configured and the caller is on this machine."""
    refused(Peer("http", "127.0.0.1", headers={"Authorization": header}))


# Providers' tokens.


class Issuer:
    """Keys of a provider, and its file of public ones."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "keys.json"
        self.keys = {"rsa": rsa.generate_private_key(public_exponent=65537, key_size=2048)}
        self.write()

    def write(self) -> None:
        makers = {
            rsa.RSAPrivateKey: jwt.algorithms.RSAAlgorithm,
            ec.EllipticCurvePrivateKey: jwt.algorithms.ECAlgorithm,
            ed25519.Ed25519PrivateKey: jwt.algorithms.OKPAlgorithm,
        }
        described = []
        for number, key in self.keys.items():
            maker = next(one for kind, one in makers.items() if isinstance(key, kind))
            described.append(json.loads(maker.to_jwk(key.public_key())) | {"kid": number})
        shared = base64.urlsafe_b64encode(b"0" * 32).decode().rstrip("=")
        described.append({"kty": "oct", "kid": "shared", "k": shared})
        self.file.write_text(json.dumps({"keys": described}))

    def token(self, key: str = "rsa", algorithm: str = "RS256", **claims) -> str:
        now = int(time.time())
        told = {"iss": ISSUER, "aud": "kms", "sub": "alice", "iat": now, "exp": now + 60} | claims
        told = {name: value for name, value in told.items() if value is not None}
        return jwt.encode(told, self.keys[key], algorithm, headers={"kid": key})


@pytest.fixture
def issuer(tmp_path, configure) -> Issuer:
    found = Issuer(tmp_path)
    tokens._providers.clear()
    configure(**{"auth.jwt_auth_provider": (f"{ISSUER}|{found.file}|kms|other kms",)})
    return found


@pytest.mark.parametrize("algorithm", ["RS256", "PS384", "ES256", "EdDSA"])
def test_a_provider_s_token_is_its_user(issuer, algorithm):
    issuer.keys |= {"ec": ec.generate_private_key(ec.SECP256R1()), "ed": ed25519.Ed25519PrivateKey.generate()}
    issuer.write()
    key = {"ES256": "ec", "EdDSA": "ed"}.get(algorithm, "rsa")
    identity = known(bearing(issuer.token(key, algorithm)))
    assert (identity.username, identity.method) == ("alice", "jwt")
    assert known(bearing(issuer.token(aud=["x", "other kms"]))).username == "alice"
    assert Account.objects.get().authorities == [f"oidc:{ISSUER}"]


def test_the_settings_say_which_claim_names_the_user(issuer, configure):
    configure(**{"auth.jwt_user_claim": "email"})
    assert "verified" in refused(bearing(issuer.token(email="a@example.com")))
    assert "verified" in refused(bearing(issuer.token(email="a@example.com", email_verified="true")))
    token = issuer.token(email="a@example.com", email_verified=True)
    assert known(bearing(token)).username == "a@example.com"
    assert "no claim email" in refused(bearing(issuer.token()))


WRONG = {
    "expired": {"exp": int(time.time()) - 120},
    "without an end": {"exp": None},
    "not valid yet": {"nbf": int(time.time()) + 600},
    "another audience": {"aud": "others"},
    "without an audience": {"aud": None},
    "another issuer": {"iss": "https://evil.example"},
    "an issuer that is none": {"iss": 7},
    "an issuer with a slash": {"iss": ISSUER + "/"},
    "no user": {"sub": None},
    "an empty user": {"sub": ""},
    "everybody": {"sub": "*"},
}


@pytest.mark.parametrize("claims", WRONG.values(), ids=WRONG)
def test_claims_that_are_wrong_let_nobody_in(issuer, claims):
    try:
        token = issuer.token(**claims)
    except TypeError:
        token = forged({"iss": 7, "aud": "kms", "sub": "alice", "exp": int(time.time()) + 60}, {"alg": "RS256"}, b"x")
    with pytest.raises(KMIPError):
        known(bearing(token))
    assert not Account.objects.exists()


def text(value: object) -> bytes:
    return base64.urlsafe_b64encode(value if isinstance(value, bytes) else json.dumps(value).encode()).rstrip(b"=")


def forged(claims: dict, header: dict, signature: bytes | None = None, secret: bytes | None = None) -> str:
    """A token made by hand."""
    signed = text(header) + b"." + text(claims)
    if secret is not None:
        signature = hmac.digest(secret, signed, sha256)
    return (signed + b"." + text(signature or b"")).decode()


def test_forged_tokens_let_nobody_in(issuer):
    """Unsigned, signed with the public key as a shared one, with a published shared key, by somebody else."""
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": "kms", "sub": "alice", "exp": now + 60}
    public = issuer.keys["rsa"].public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    good = issuer.token()
    attempts = {
        "none": forged(claims, {"alg": "none", "kid": "rsa"}),
        "None": forged(claims, {"alg": "None", "kid": "rsa"}),
        "public key as secret": forged(claims, {"alg": "HS256", "kid": "rsa"}, secret=pem),
        "shared key": forged(claims, {"alg": "HS256", "kid": "shared"}, secret=b"0" * 32),
        "another key": jwt.encode(claims, other, "RS256", headers={"kid": "rsa"}),
        "an unknown key": jwt.encode(claims, other, "RS256", headers={"kid": "unknown"}),
        "its own key": jwt.encode(
            claims,
            other,
            "RS256",
            headers={"kid": "rsa", "jwk": json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(other.public_key()))},
        ),
        "another algorithm": forged(claims, {"alg": "ES256", "kid": "rsa"}, b"0" * 64),
        "cut": good[:-4],
        "other claims": ".".join([good.split(".")[0], text(claims | {"sub": "root"}).decode(), good.split(".")[2]]),
        "nothing": "",
        "dots": "..",
        "no JSON": "eyJ.eyJ.eyJ",
    }
    for name, token in attempts.items():
        assert refused(bearing(token)), name
    assert known(bearing(good)).username == "alice"


def test_keys_are_kept_read_again_and_forgotten(issuer, configure, monkeypatch):
    """A new key is found at once but not asked for without end; a provider may be away for a while."""
    now = [1000.0]
    monkeypatch.setattr(tokens.time, "monotonic", lambda: now[0])
    token = issuer.token()
    assert known(bearing(token)).username == "alice"
    reads = []
    read = tokens._keys
    monkeypatch.setattr(tokens, "_keys", lambda source: reads.append(source) or read(source))
    now[0] += 60
    assert known(bearing(token)).username == "alice" and not reads
    issuer.keys["new"] = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    fresh = issuer.token("new")
    assert "does not have" in refused(bearing(fresh)) and len(reads) == 1
    issuer.write()
    refused(bearing(fresh))
    assert len(reads) == 1  # Not sooner than `ASK_AGAIN`.
    now[0] += tokens.ASK_AGAIN
    assert known(bearing(fresh)).username == "alice" and len(reads) == 2
    issuer.file.unlink()
    now[0] += conf.current().auth.jwks_lifetime
    assert known(bearing(token)).username == "alice"
    now[0] += 12 * conf.current().auth.jwks_lifetime
    assert "cannot be read" in refused(bearing(token))
    issuer.keys = {"new": issuer.keys["new"]}
    issuer.write()
    now[0] += tokens.ASK_AGAIN
    assert "does not have" in refused(bearing(token))


def test_a_provider_does_not_take_over_another_s_user(issuer):
    accounts.vouched("default", "alice", "ca:1")
    assert "another authority" in refused(bearing(issuer.token()))
    assert known(bearing(issuer.token(sub="bob"))).username == "bob"


@pytest.mark.parametrize(
    "text",
    [
        "",
        ISSUER,
        f"{ISSUER}|keys.json",
        f"{ISSUER}|keys.json|",
        "|keys.json|kms",
        f"{ISSUER}|http://issuer.example/keys|kms",
    ],
)
def test_a_provider_that_is_not_described_in_full_is_refused_at_start(text, configure):
    with pytest.raises(ConfigError) as refusal:
        checks.auth_settings(configure(**{"auth.jwt_auth_provider": (text,)}))
    assert refusal.value.key == "auth.jwt_auth_provider"


def test_keys_come_from_a_url(issuer, configure):
    """And its redirects lead nowhere else than to keys."""
    import functools
    import threading
    from http.server import HTTPServer, SimpleHTTPRequestHandler

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            """Nothing."""

    server = HTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(issuer.file.parent)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/keys.json"
        configure(**{"auth.jwt_auth_provider": (f"{ISSUER}|{url}|kms",)})
        assert known(bearing(issuer.token())).username == "alice"
    finally:
        server.shutdown()
        server.server_close()
