"""The record of handshakes: what is read of a client's first bytes, and that nothing fills up."""

import contextlib
import socket
import ssl
import threading
import time

import pytest

from keystore import handshakes
from keystore.handshakes import Entry, Hello, Recorder
from keystore.models import HandshakeRecord, WaitingClient
from keystore.tls import HandshakeFailed, unfit
from tests.certificates import CLIENT, DAY, make


def first_bytes(**options) -> bytes:
    """What Python's client sends first."""
    ours, theirs = socket.socketpair()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    for name, value in options.items():
        setattr(context, name, value)

    def shake():
        with contextlib.suppress(OSError):
            context.wrap_socket(theirs, server_hostname="kms.example")

    thread = threading.Thread(target=shake)
    thread.start()
    data = ours.recv(4096)
    ours.close()
    thread.join()
    theirs.close()
    return data


def test_a_hello_tells_name_versions_and_ciphers():
    """As OpenSSL's client offers them."""
    hello = handshakes.read_hello(first_bytes())
    assert hello.server_name == "kms.example" and hello.versions[:2] == ("TLS 1.3", "TLS 1.2")
    assert "TLS_AES_256_GCM_SHA384" in hello.ciphers and "ECDHE-RSA-AES128-GCM-SHA256" in hello.ciphers
    old = handshakes.read_hello(first_bytes(maximum_version=ssl.TLSVersion.TLSv1_2))
    assert old.versions == ("TLS 1.2",) and not any(name.startswith("TLS_AES") for name in old.ciphers)


def test_no_bytes_are_too_odd_to_read():
    """Cut short anywhere, altered anywhere, or no TLS at all."""
    data = first_bytes()
    for end in range(len(data)):
        handshakes.read_hello(data[:end])
    for at in range(len(data)):
        handshakes.read_hello(data[:at] + b"\xff" + data[at + 1 :])
    assert handshakes.read_hello(b"GET / HTTP/1.1\r\n\r\n") == Hello() == handshakes.read_hello(b"")


def der(made):
    from cryptography.hazmat.primitives.serialization import Encoding

    return made.certificate.public_bytes(Encoding.DER)


def message_1_2(*certificates):
    listed = b"".join(len(one).to_bytes(3) + one for one in certificates)
    body = len(listed).to_bytes(3) + listed
    return b"\x0b" + len(body).to_bytes(3) + body


def message_1_3(*certificates):
    listed = b"".join(len(one).to_bytes(3) + one + b"\0\0" for one in certificates)
    body = b"\0" + len(listed).to_bytes(3) + listed
    return b"\x0b" + len(body).to_bytes(3) + body


@pytest.mark.parametrize("build", [message_1_2, message_1_3])
def test_certificate_messages_are_read(build):
    """Of both versions; cut short, they are read as far as they go."""
    chain = [der(make("leaf", usage=CLIENT)), der(make("CA", ca=True))]
    message = build(*chain)
    assert handshakes.read_certificates(message) == chain
    for end in range(0, len(message), 7):
        handshakes.read_certificates(message[:end])
    assert handshakes.read_certificates(b"") == []


def entry(number, **options):
    now = time.time_ns() // 1_000_000 + number
    values = {"accepted": False, "reason": f"reason {number}", "advice": "", "hello": Hello(), "negotiated": ""}
    return Entry("kmip", "192.0.2.1", certificate=None, first=now, last=now, **{**values, **options})


@pytest.mark.django_db
def test_the_newest_are_kept(monkeypatch):
    """And alike ones are counted in one."""
    monkeypatch.setattr(handshakes, "KEPT", 10)
    for number in range(25):
        handshakes.write([(entry(number), 1)])
    assert HandshakeRecord.objects.count() == 10
    assert {row.reason for row in HandshakeRecord.objects.all()} == {f"reason {number}" for number in range(15, 25)}
    handshakes.write([(entry(24), 5)])
    assert HandshakeRecord.objects.get(reason="reason 24").count == 6


def test_what_comes_too_fast_is_counted_not_kept(monkeypatch):
    """Memory has an end, too."""
    monkeypatch.setattr(handshakes.Recorder, "_run", lambda self: None)
    recorder = Recorder("kmip", write=True)
    for number in range(handshakes.PENDING + 50):
        recorder.note(f"192.0.2.{number}", Hello(versions=("TLS 1.3",)), None, HandshakeFailed("no"))
    assert recorder.dropped == 50 and len(recorder._entries) == handshakes.PENDING


@pytest.mark.django_db
def test_only_well_formed_strangers_wait_for_an_administrator(monkeypatch):
    """Not expired ones, and never more than a few."""
    monkeypatch.setattr(handshakes, "WAITING", 3)
    now = int(time.time())
    handshakes.queue(der(make("old", begins=-9 * DAY, ends=-DAY)), "192.0.2.1", 1, now)
    assert not WaitingClient.objects.exists()
    for number in range(6):
        handshakes.queue(der(make(f"client {number}")), "192.0.2.1", 1, now + number)
    assert {row.subject for row in WaitingClient.objects.all()} == {f"CN=client {number}" for number in (3, 4, 5)}
    known = der(make("again"))
    for _ in range(2):
        handshakes.queue(known, "192.0.2.7", 2, now + 60)
    assert WaitingClient.objects.get(subject="CN=again").attempts == 4


@pytest.mark.django_db
def test_what_nodes_left_behind_is_dropped(monkeypatch):
    """Nodes come and go under new names; what they recorded does not stay for good, nor does it pile up."""
    monkeypatch.setattr(handshakes, "KEPT_IN_ALL", 5)
    for node in range(4):
        monkeypatch.setattr(handshakes, "NODE", f"node {node}")
        handshakes.write([(entry(10 * node + number), 1) for number in range(3)])
    assert HandshakeRecord.objects.count() == 12
    handshakes.forget()
    assert {row.reason for row in HandshakeRecord.objects.all()} == {f"reason {n}" for n in (21, 22, 30, 31, 32)}
    now = int(time.time())
    for name in ("long ago", "yesterday"):
        handshakes.queue(der(make(name)), "192.0.2.1", 1, now)
    WaitingClient.objects.filter(subject="CN=long ago").update(last_seen=now - 3 * 86400)
    later = time.time() + 88 * 86400
    monkeypatch.setattr(handshakes.time, "time", lambda: later)
    assert handshakes.forget() == 1
    assert [row.subject for row in WaitingClient.objects.all()] == ["CN=yesterday"]
    later += 3 * 86400
    handshakes.forget()
    assert not HandshakeRecord.objects.exists() and not WaitingClient.objects.exists()


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
def test_no_certificate_is_too_odd_for_the_record():
    """Whatever a stranger sends is described, or said to be unreadable; a record that dies of it tells nobody more."""
    good = der(make("a", make("x", ca=True), usage=CLIENT, local=True))
    now = int(time.time())
    assert handshakes.well_formed(good, now) and handshakes.describe(good)["usages"] == "clientAuth"
    seen = set()
    for at in range(len(good)):
        for value in (0x00, 0x05, 0x1D, 0x25, 0x7F, 0xFF, good[at] ^ 1):
            odd = good[:at] + bytes([value]) + good[at + 1 :]
            seen.add(handshakes.describe(odd)["subject"])
            handshakes.well_formed(odd, now)
            handshakes.read_certificates(message_1_2(odd))
            unfit.__wrapped__(odd)
    assert {"CN=a", "(unreadable)"} <= seen
