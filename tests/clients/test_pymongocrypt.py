"""libmongocrypt's local key round trip: Register 1.0, Activate, Get, each on its own connection."""

import socket
import ssl

import pytest
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


def test_a_data_key_is_made_with_a_master_key_here_and_opened_again(server):
    """The library registers and activates a master key, fetches it, and reads what it encrypted."""
    vault = Vault(server)
    options = MongoCryptOptions({"kmip": {"endpoint": f"localhost:{server.port}"}})
    encrypter = ExplicitEncrypter(vault, options)
    try:
        key_id = encrypter.create_data_key("kmip")
        assert vault.sent == 3
        plain = bson.encode({"v": "a secret"})
        sealed = encrypter.encrypt(plain, "AEAD_AES_256_CBC_HMAC_SHA_512-Deterministic", key_id=bytes(key_id))
    finally:
        encrypter.close()
    again = ExplicitEncrypter(vault, options)
    try:
        assert bson.decode(again.decrypt(sealed)) == {"v": "a secret"}
    finally:
        again.close()
