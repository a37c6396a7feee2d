"""Streams: one process's, and a keeper's behind its socket."""

import contextlib
import os
import socket
import stat
import threading
import tracemalloc

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from keystore import keeper, localsockets, streams
from keystore.crypto import keys
from keystore.crypto.policy import DEFAULT, PERMISSIVE
from keystore.streams import Streams, Task
from kmip.enums import BlockCipherMode, CryptographicAlgorithm, HashingAlgorithm, Operation, PaddingMethod
from kmip.enums import ResultReason as R
from kmip.enums import ValidityIndicator as V
from kmip.errors import KMIPError
from kmip.structures import CryptographicParameters

A, Op = CryptographicAlgorithm, Operation
SHA_256 = CryptographicParameters(hashing_algorithm=HashingAlgorithm.SHA_256)
CBC = CryptographicParameters(block_cipher_mode=BlockCipherMode.CBC, padding_method=PaddingMethod.PKCS5)
GCM = CryptographicParameters(block_cipher_mode=BlockCipherMode.GCM, tag_length=16)
CCM = CryptographicParameters(block_cipher_mode=BlockCipherMode.CCM, tag_length=16)
HASH = Task(Op.HASH, DEFAULT, parameters=SHA_256)
#: FIPS 180-2, B.1: SHA-256 of "abc".
ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.fixture(params=["here", "in a keeper"])
def kept(request, tmp_path):
    """Somewhere to keep streams."""
    own = Streams(64, 60)
    if request.param == "here":
        yield own
        return
    path = tmp_path / "streams.sock"
    with serving(path, own) as remote:
        yield remote


@contextlib.contextmanager
def serving(path, own):
    """A keeper on a socket, as other processes reach it."""
    server = keeper._Server(localsockets.bind(path), own)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    remote = keeper.Remote(path)
    yield remote
    while not remote._idle.empty():
        remote._idle.get().close()
    server.shutdown()
    thread.join()
    server.server_close()


def refused(reason, call, *arguments, **options):
    with pytest.raises(KMIPError) as caught:
        call(*arguments, **options)
    assert caught.value.reason == reason, caught.value


def whole(kept, task, *parts, uid="key", expected=None):
    """The outputs of all parts."""
    outputs = [kept.begin("default/alice", uid, task, parts[0])]
    for number, part in enumerate(parts[1:], 2):
        options = {"last": number == len(parts), "expected": expected if number == len(parts) else None}
        outputs.append(kept.go_on("default/alice", uid, task.operation, outputs[0].correlation, part, **options))
    return outputs


def text(outputs):
    return b"".join(out.data or b"" for out in outputs)


# What comes of it.


def test_a_hash_of_parts_is_that_of_the_whole(kept):
    outputs = whole(kept, HASH, b"a", b"", b"b", b"c")
    assert [out.data for out in outputs[:-1]] == [None, None, None]
    assert outputs[-1].data.hex() == ABC
    assert [out.correlation is None for out in outputs] == [False, False, False, True]


@pytest.mark.parametrize("parameters", [CBC, GCM, CCM], ids=["CBC", "GCM", "CCM, which needs all at once"])
def test_what_is_encrypted_in_parts_decrypts_in_others(kept, parameters):
    """IV with the first part, tag with the last; the parts need not be the same."""
    key = bytes(32)
    encrypted = whole(
        kept, Task(Op.ENCRYPT, DEFAULT, key, A.AES, parameters, aad=_aad(parameters)), b"attack ", b"at", b" dawn"
    )
    assert encrypted[0].iv and not encrypted[0].tag
    tag = encrypted[-1].tag
    assert (tag is None) == (parameters is CBC)
    task = Task(Op.DECRYPT, DEFAULT, key, A.AES, parameters, iv=encrypted[0].iv, tag=tag, aad=_aad(parameters))
    data = text(encrypted)
    assert text(whole(kept, task, data[:3], data[3:5], data[5:])) == b"attack at dawn"
    if tag:
        changed = bytes([data[0] ^ 1]) + data[1:]
        refused(R.CRYPTOGRAPHIC_FAILURE, whole, kept, task, changed[:3], changed[3:])


def _aad(parameters):
    return None if parameters is CBC else b"for bob"


def test_a_signature_of_parts_is_that_of_the_whole(kept):
    """What is to be verified may come with the first part or the last; with none it is an error."""
    private = ec.generate_private_key(ec.SECP256R1())
    signature = whole(kept, Task(Op.SIGN, DEFAULT, private, A.EC), b"attack", b" at dawn")[-1].data
    public = private.public_key()
    early = Task(Op.SIGNATURE_VERIFY, DEFAULT, public, A.EC, expected=signature)
    late = Task(Op.SIGNATURE_VERIFY, DEFAULT, public, A.EC)
    assert whole(kept, early, b"attack at", b" dawn")[-1].validity == V.VALID
    assert whole(kept, early, b"attack at", b" dusk")[-1].validity == V.INVALID
    assert whole(kept, late, b"attack at", b" dawn", expected=signature)[-1].validity == V.VALID
    refused(R.MISSING_DATA, whole, kept, late, b"attack at", b" dawn")


def test_a_mac_of_parts_is_that_of_the_whole(kept):
    """HMAC, and its verification."""
    code = whole(kept, Task(Op.MAC, DEFAULT, bytes(32), A.HMAC_SHA256), b"da", b"ta")[-1].data
    task = Task(Op.MAC_VERIFY, DEFAULT, bytes(32), A.HMAC_SHA256, expected=code)
    assert whole(kept, task, b"dat", b"a")[-1].validity == V.VALID
    assert whole(kept, task, b"dat", b"e")[-1].validity == V.INVALID


def test_the_policy_of_the_server_holds_in_parts_too(kept):
    """A legacy cipher under a policy that lists it, and one that does not."""
    task = Task(Op.ENCRYPT, PERMISSIVE, bytes(24), A.DES3, CBC)
    assert whole(kept, task, b"x", b"y")
    refused(R.PERMISSION_DENIED, whole, kept, Task(Op.ENCRYPT, DEFAULT, bytes(24), A.DES3, CBC), b"x", b"y")


# Whose it is, and how long.


def test_a_stream_belongs_to_its_client_operation_and_key(kept):
    """Whoever else comes with its Correlation Value hears that there is none, and does it no harm."""
    task = Task(Op.MAC, DEFAULT, bytes(32), A.HMAC_SHA256)
    begun = kept.begin("default/alice", "key", task, b"da").correlation
    for client, uid, operation in (
        ("default/eve", "key", Op.MAC),
        ("other/alice", "key", Op.MAC),
        ("default/alice", "another", Op.MAC),
        ("default/alice", "key", Op.HASH),
    ):
        refused(R.INVALID_CORRELATION_VALUE, kept.go_on, client, uid, operation, begun, b"x", last=True)
    refused(R.INVALID_CORRELATION_VALUE, kept.key_of, "default/eve", begun)
    refused(R.INVALID_CORRELATION_VALUE, kept.key_of, "default/alice", os.urandom(16))
    assert kept.key_of("default/alice", begun) == "key"
    assert kept.go_on("default/alice", "key", Op.MAC, begun, b"ta", last=True).data
    refused(R.INVALID_CORRELATION_VALUE, kept.go_on, "default/alice", "key", Op.MAC, begun, b"", last=True)


def test_a_stream_that_failed_is_over(kept):
    """There is nothing to go on with."""
    task = Task(Op.DECRYPT, DEFAULT, bytes(32), A.AES, CBC, iv=bytes(16))
    begun = kept.begin("default/alice", "key", task, bytes(15)).correlation
    refused(R.CRYPTOGRAPHIC_FAILURE, kept.go_on, "default/alice", "key", Op.DECRYPT, begun, b"", last=True)
    refused(R.INVALID_CORRELATION_VALUE, kept.go_on, "default/alice", "key", Op.DECRYPT, begun, b"", last=True)


def test_streams_expire_and_are_few():
    """Each part gives it new time; one client cannot take the place of all."""
    now = [0.0]
    own = Streams(streams.MOST_OF_A_CLIENT + 1, 10, clock=lambda: now[0])
    first = own.begin("default/alice", "", HASH, b"a").correlation
    now[0] = 9
    own.go_on("default/alice", "", Op.HASH, first, b"b", last=False)
    now[0] = 18
    assert own.go_on("default/alice", "", Op.HASH, first, b"c", last=False).correlation == first
    now[0] = 29
    refused(R.INVALID_CORRELATION_VALUE, own.go_on, "default/alice", "", Op.HASH, first, b"", last=True)
    own.forget()
    assert len(own) == 0
    for _ in range(streams.MOST_OF_A_CLIENT):
        own.begin("default/alice", "", HASH, b"")
    refused(R.SERVER_LIMIT_EXCEEDED, own.begin, "default/alice", "", HASH, b"")
    own.begin("default/bob", "", HASH, b"")
    refused(R.SERVER_LIMIT_EXCEEDED, own.begin, "default/carol", "", HASH, b"")
    now[0] = 60
    own.begin("default/carol", "", HASH, b"")
    assert len(own) == 1


def test_what_is_collected_is_bounded(monkeypatch):
    """Over all streams together; what has ended no longer counts."""
    monkeypatch.setattr(streams, "MOST_COLLECTED", 100)
    own = Streams(8, 60)
    task = Task(Op.ENCRYPT, DEFAULT, bytes(32), A.AES, CCM)
    begun = own.begin("default/alice", "key", task, bytes(60)).correlation
    refused(R.SERVER_LIMIT_EXCEEDED, own.begin, "default/alice", "key", task, bytes(60))
    assert own.go_on("default/alice", "key", Op.ENCRYPT, begun, bytes(40), last=True).data
    assert own.begin("default/alice", "key", task, bytes(100)).correlation


def test_what_expires_while_its_next_part_comes_leaves_nothing_counted():
    """The room of all streams is not eaten up by those that are gone."""

    class Late(Streams):
        def _collect(self, correlation, stream, size):
            if stream.collected:
                self._end(correlation)
            super()._collect(correlation, stream, size)

    own = Late(8, 60)
    task = Task(Op.ENCRYPT, DEFAULT, bytes(32), A.AES, CCM)
    begun = own.begin("default/alice", "key", task, bytes(60)).correlation
    refused(R.INVALID_CORRELATION_VALUE, own.go_on, "default/alice", "key", Op.ENCRYPT, begun, bytes(40), last=False)
    assert own._collected == 0 == len(own)


def test_memory_does_not_grow_with_the_data():
    """128 MiB through one stream; what it holds is the state of its cipher."""
    own, part = Streams(8, 60), bytes(1 << 20)
    begun = own.begin("default/alice", "key", Task(Op.ENCRYPT, DEFAULT, bytes(32), A.AES, GCM), part).correlation
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(128):
        own.go_on("default/alice", "key", Op.ENCRYPT, begun, part, last=False)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 65536


def test_without_a_keeper_parts_are_refused(monkeypatch):
    """As in a process that no supervisor started."""
    monkeypatch.setattr(streams, "_keeper", None)
    assert not streams.available()
    refused(R.FEATURE_NOT_SUPPORTED, streams.keeper)


# The socket.


def test_the_socket_is_its_user_s_only(tmp_path):
    """Nobody else may open it."""
    path = tmp_path / "streams.sock"
    with localsockets.bind(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_keeper_that_is_not_there_is_a_clear_error(tmp_path):
    """Also when it has gone between two parts."""
    path = tmp_path / "streams.sock"
    refused(R.GENERAL_FAILURE, keeper.Remote(path).begin, "default/alice", "", HASH, b"")
    listener = localsockets.bind(path)
    remote = keeper.Remote(path)
    remote._idle.put(_connected(path))
    listener.close()
    path.unlink()
    refused(R.GENERAL_FAILURE, remote.begin, "default/alice", "", HASH, b"")


def _connected(path):
    client = socket.socket(socket.AF_UNIX)
    client.connect(str(path))
    return client


@pytest.mark.parametrize("garbage", [b"\xff\xff\xff\xff", b"\0\0\0\2{}", b"\0\0\0\5abc", b"x"], ids=repr)
def test_garbage_ends_a_connection_and_no_more(tmp_path, garbage):
    """The keeper goes on for others."""
    path = tmp_path / "streams.sock"
    with serving(path, Streams(8, 60)) as remote:
        with _connected(path) as client:
            client.sendall(garbage)
            client.shutdown(socket.SHUT_WR)
            client.settimeout(5)
            assert client.recv(10) == b""
        assert remote.begin("default/alice", "", HASH, b"").correlation


def test_sockets_of_killed_servers_are_taken_away(tmp_path):
    """Those of living ones stay."""
    for pid in (os.getpid(), 2**22 + 7):
        localsockets.bind(tmp_path / f"streams-{pid}.sock").close()
    keeper._tidy(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [f"streams-{os.getpid()}.sock"]


def test_a_task_says_nothing_of_its_key():
    """In no log line."""
    task = Task(Op.MAC, DEFAULT, b"a secret", A.HMAC_SHA256)
    assert "secret" not in repr(task)
    private = ec.generate_private_key(ec.SECP256R1())
    fields = keeper._fields_of(Task(Op.SIGN, DEFAULT, private, A.EC))
    assert keeper._task_of(fields).key.private_numbers() == private.private_numbers()
    assert fields["key"] == keys.private_key(private).data
