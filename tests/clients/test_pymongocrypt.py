"""libmongocrypt, which makes and uses master keys here: each request comes on its own connection, in 1.0 or 1.2."""

import contextlib
import socket
import ssl

import pytest
from pymongocrypt.errors import MongoCryptError
from pymongocrypt.mongocrypt import MongoCryptOptions
from pymongocrypt.synchronous.explicit_encrypter import ExplicitEncrypter
from pymongocrypt.synchronous.state_machine import MongoCryptCallback

bson = pytest.importorskip("bson")


class Vault(MongoCryptCallback):
    """Carries the library's KMIP messages to the server and keeps data keys."""

    def __init__(self, server):
        self.server = server
        self.keys = {}
        self.sent = 0

    def kms_request(self, kms_context):
        context = ssl.create_default_context(cafile=str(self.server.ca))
        context.load_cert_chain(self.server.certificate, self.server.key)
        with (
            socket.create_connection(("127.0.0.1", self.server.port)) as raw,
            context.wrap_socket(raw, server_hostname="localhost") as connection,
        ):
            connection.sendall(kms_context.message)
            self.sent += 1
            while kms_context.bytes_needed > 0:
                kms_context.feed(connection.recv(kms_context.bytes_needed))

    def insert_data_key(self, data_key):
        key = bson.decode(data_key)
        self.keys[bytes(key["_id"])] = data_key
        return key["_id"]

    def fetch_keys(self, filter):
        yield from self.keys.values()

    def bson_encode(self, document):
        return bson.encode(document)

    def collection_info(self, database, filter):
        return []

    def mark_command(self, database, command):
        return command

    def close(self):
        """Nothing is open between calls."""


@contextlib.contextmanager
def encrypting(vault, *providers):
    endpoint = {"endpoint": f"localhost:{vault.server.port}"}
    encrypter = ExplicitEncrypter(vault, MongoCryptOptions(dict.fromkeys(providers or ("kmip",), endpoint)))
    try:
        yield encrypter
    finally:
        encrypter.close()


def round_trip(vault, encrypter, key_id, *providers):
    """What is encrypted with a data key is read again by a client that has nothing in memory."""
    algorithm = "AEAD_AES_256_CBC_HMAC_SHA_512-Deterministic"
    sealed = encrypter.encrypt(bson.encode({"v": "a secret"}), algorithm, key_id=bytes(key_id))
    with encrypting(vault, *providers) as again:
        assert bson.decode(again.decrypt(sealed)) == {"v": "a secret"}


def master_key(vault, key_id):
    return bson.decode(vault.keys[bytes(key_id)])["masterKey"]


def test_a_data_key_is_made_with_a_master_key_here_and_opened_again(server):
    """The library registers and activates a master key, fetches it, and reads what it encrypted."""
    vault = Vault(server)
    with encrypting(vault) as encrypter:
        key_id = encrypter.create_data_key("kmip")
        assert vault.sent == 3
        round_trip(vault, encrypter, key_id)


def test_a_master_key_may_stay_here(server):
    """Delegated: the library creates and activates a key, and has the data key encrypted and decrypted by it."""
    vault = Vault(server)
    with encrypting(vault) as encrypter:
        key_id = encrypter.create_data_key("kmip", master_key={"delegated": True})
        assert vault.sent == 3 and master_key(vault, key_id)["delegated"] is True
        round_trip(vault, encrypter, key_id)
        assert vault.sent == 5, "each client has the data key decrypted once"


@pytest.mark.parametrize("delegated", [False, True])
def test_a_master_key_that_exists_is_used(server, delegated):
    vault = Vault(server)
    with encrypting(vault) as encrypter:
        options = {"delegated": delegated}
        first = encrypter.create_data_key("kmip", master_key=options)
        known = master_key(vault, first)["keyId"]
        vault.keys.clear()
        second = encrypter.create_data_key("kmip", master_key=options | {"keyId": known})
        assert master_key(vault, second)["keyId"] == known
        round_trip(vault, encrypter, second)


def test_providers_have_names(server):
    vault = Vault(server)
    with encrypting(vault, "kmip:here", "kmip:there") as encrypter:
        key_id = encrypter.create_data_key("kmip:there")
        round_trip(vault, encrypter, key_id, "kmip:here", "kmip:there")


@pytest.mark.parametrize("delegated", [False, True])
def test_a_master_key_that_does_not_exist_is_an_error_that_the_library_reads(server, delegated):
    vault = Vault(server)
    with encrypting(vault) as encrypter:
        options = {"keyId": "nothing", "delegated": delegated}
        with pytest.raises(MongoCryptError, match=r"Item_?Not_?Found|Item Not Found|no object"):
            encrypter.create_data_key("kmip", master_key=options)
