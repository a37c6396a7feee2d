"""A clients' CA, and who a peer is."""

from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from keystore import authn, conf, sealing
from keystore.authn import Peer
from kmip.enums import ResultReason
from kmip.errors import KMIPError
from tests.certificates import CLIENT, Made, Pki, make


@pytest.fixture(autouse=True)
def nobody_believed(db: None) -> Any:
    """A root key, and nothing known from the test before."""
    sealing.create_root_key(conf.current().sealing.root_key_file)
    sealing.reset()
    authn.forget()
    yield
    authn.forget()
    sealing.reset()


@pytest.fixture
def pki(tmp_path, configure: Callable[..., Any]) -> Pki:
    """Files of a CA, which is the one that clients' certificates are accepted from."""
    found = Pki(tmp_path)
    configure(**{"tls.clients_ca_cert_file": tmp_path / "ca.pem", "tls.tls_p12_file": tmp_path / "server.p12"})
    return found


def showing(made: Made, issuer: Made, transport: str = "kmip", **options: Any) -> Peer:
    """A connection whose handshake verified a certificate."""
    chain = (issuer.certificate.public_bytes(Encoding.DER),)
    return Peer(transport, "10.0.0.7", made.certificate.public_bytes(Encoding.DER), chain=chain, **options)


def client(name: str, issuer: Made) -> Peer:
    """A new certificate of a client."""
    return showing(make(name, issuer, usage=CLIENT), issuer)


def refused(peer: Peer, authentication: Any = None) -> str:
    """The words with which somebody is not let in."""
    peer.identity = None
    authn.forget()
    with pytest.raises(KMIPError) as caught:
        authn.identify(peer, authentication)
    assert caught.value.reason is ResultReason.AUTHENTICATION_NOT_SUCCESSFUL
    return caught.value.message


def known(peer: Peer, authentication: Any = None) -> authn.Identity:
    """Who somebody is, looked up afresh."""
    peer.identity = None
    authn.forget()
    return authn.identify(peer, authentication)
