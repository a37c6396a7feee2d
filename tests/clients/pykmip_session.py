"""A session of PyKMIP's client, run in a process of its own: its package has the same name as ours.

    python pykmip_session.py PORT CA CERTIFICATE KEY VERSION

Prints one line for each step that went as it should; any other outcome is an exception.
"""

import datetime
import os
import sys

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from kmip.core import enums
from kmip.core import objects as core
from kmip.core.attributes import Name
from kmip.core.exceptions import OperationFailure
from kmip.core.factories.attributes import AttributeFactory
from kmip.pie import exceptions, objects
from kmip.pie.client import ProxyKmipClient

A, M, V = enums.CryptographicAlgorithm, enums.CryptographicUsageMask, enums.KMIPVersion
CBC = {
    "block_cipher_mode": enums.BlockCipherMode.CBC,
    "padding_method": enums.PaddingMethod.PKCS5,
    "cryptographic_algorithm": A.AES,
}
PSS = {
    "padding_method": enums.PaddingMethod.PSS,
    "digital_signature_algorithm": enums.DigitalSignatureAlgorithm.RSASSA_PSS,
    "cryptographic_algorithm": A.RSA,
    "hashing_algorithm": enums.HashingAlgorithm.SHA_256,
}
attribute = AttributeFactory().create_attribute


def refused(reason, function, *arguments, **named):
    """A call has to fail for this reason."""
    try:
        function(*arguments, **named)
    except (exceptions.KmipOperationFailure, OperationFailure) as error:
        assert error.status == enums.ResultStatus.OPERATION_FAILED
        assert error.reason == reason, error
    else:
        raise AssertionError(f"{function.__name__} succeeded")


class Session:
    """The steps, in order; each leaves what the next ones need."""

    def __init__(self, client, version):
        self.client, self.version = client, version
        self.prefix = f"{version.name} {os.getpid()} "
        self.modern = version.value >= V.KMIP_2_0.value

    def name(self, text):
        return self.prefix + text

    def create(self):
        mask = [M.ENCRYPT, M.DECRYPT, M.DERIVE_KEY, M.MAC_GENERATE]
        self.key = self.client.create(A.AES, 256, name=self.name("key"), cryptographic_usage_mask=mask)

    def create_key_pair(self):
        self.public, self.private = self.client.create_key_pair(
            A.RSA, 2048, public_name=self.name("public"), public_usage_mask=[M.VERIFY],
            private_name=self.name("private"), private_usage_mask=[M.SIGN],
        )  # fmt: skip
        assert isinstance(self.client.get(self.public), objects.PublicKey)
        assert isinstance(self.client.get(self.private), objects.PrivateKey)

    def register(self):
        """Every object that the client has."""
        own = rsa.generate_private_key(65537, 2048)
        der = serialization.Encoding.DER
        pkcs1 = own.private_bytes(der, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
        public = own.public_key().public_bytes(der, serialization.PublicFormat.PKCS1)
        certificate = _certificate(own).public_bytes(der)
        name, form = self.name, enums.KeyFormatType
        made = [
            objects.SymmetricKey(A.AES, 128, bytes(range(16)), masks=[M.ENCRYPT], name=name("symmetric")),
            objects.PrivateKey(A.RSA, 2048, pkcs1, form.PKCS_1, masks=[M.SIGN], name=name("own private")),
            objects.PublicKey(A.RSA, 2048, public, form.PKCS_1, masks=[M.VERIFY], name=name("own public")),
            objects.SecretData(b"secret", enums.SecretDataType.PASSWORD, masks=[M.VERIFY], name=name("secret")),
            objects.OpaqueObject(b"opaque", enums.OpaqueDataType.NONE, name=name("opaque")),
            objects.X509Certificate(certificate, masks=[M.VERIFY], name=name("certificate")),
        ]
        self.registered = {}
        for one in made:
            uid = self.client.register(one)
            self.registered[uid] = one
            found = self.client.get(uid)
            assert type(found) is type(one) and found.value == one.value, one
        refused(enums.ResultReason.INVALID_FIELD if not self.modern else enums.ResultReason.NON_UNIQUE_NAME_ATTRIBUTE,
                self.client.register, made[0])  # fmt: skip

    def get(self):
        key = self.client.get(self.key)
        assert key.cryptographic_algorithm == A.AES and key.cryptographic_length == 256 and len(key.value) == 32
        refused(enums.ResultReason.OBJECT_NOT_FOUND if self.modern else enums.ResultReason.ITEM_NOT_FOUND,
                self.client.get, "nothing")  # fmt: skip

    def get_attributes(self):
        # By name, because this client does not know every attribute of its newest version.
        found, attributes = self.client.get_attributes(self.key, ["State", "Cryptographic Length", "Name"])
        values = {one.attribute_name.value: one.attribute_value for one in attributes}
        assert found == self.key and values["Cryptographic Length"].value == 256, values
        assert values["State"].value == enums.State.PRE_ACTIVE
        assert str(values["Name"]) == self.name("key")

    def get_attribute_list(self):
        names = self.client.get_attribute_list(self.key)
        assert {"State", "Name", "Digest", "Unique Identifier"} <= set(names), names

    def locate(self):
        def located(*attributes, **options):
            return self.client.locate(attributes=list(attributes), **options)

        kind = attribute(enums.AttributeType.OBJECT_TYPE, enums.ObjectType.SYMMETRIC_KEY)
        assert self.key in located() and self.key in located(kind)
        assert located(attribute(enums.AttributeType.NAME, self.name("key"))) == [self.key]
        assert located(attribute(enums.AttributeType.NAME, self.name("nothing"))) == []
        assert located(maximum_items=1, offset_items=0) == located()[:1]
        length = attribute(enums.AttributeType.CRYPTOGRAPHIC_LENGTH, 256)
        assert self.key in located(kind, length)

    def modify_attribute(self):
        renamed = self.name("renamed")
        if self.modern:
            new = core.NewAttribute(attribute=_named(renamed))
            current = core.CurrentAttribute(attribute=_named(self.name("key")))
            self.client.modify_attribute(self.key, current_attribute=current, new_attribute=new)
        else:
            one = attribute(enums.AttributeType.NAME, renamed, 0)
            _, changed = self.client.modify_attribute(self.key, attribute=one)
            assert str(changed.attribute_value) == renamed
        assert self.client.locate(attributes=[attribute(enums.AttributeType.NAME, renamed)]) == [self.key]

    def set_attribute(self):
        self.client.set_attribute(self.key, attribute_name="Sensitive", attribute_value=True)
        refused(enums.ResultReason.SENSITIVE, self.client.get, self.key)
        self.client.set_attribute(self.key, attribute_name="Sensitive", attribute_value=False)

    def delete_attribute(self):
        if self.modern:
            name = core.AttributeReference(vendor_identification="x", attribute_name="absent")
            refused(enums.ResultReason.ATTRIBUTE_NOT_FOUND, self.client.delete_attribute, self.key,
                    attribute_reference=name)  # fmt: skip
            return
        uid, gone = self.client.delete_attribute(self.key, attribute_name="Name", attribute_index=0)
        assert uid == self.key and str(gone.attribute_value) == self.name("renamed")

    def check(self):
        # A refusal makes this client fail on the payload that it expects.
        assert self.client.check(self.key, cryptographic_usage_mask=[M.ENCRYPT]) == self.key

    def activate(self):
        for uid in (self.key, self.public, self.private):
            self.client.activate(uid)

    def encrypt(self):
        data, iv = self.client.encrypt(b"plain text", self.key, CBC, bytes(16))
        assert self.client.decrypt(data, self.key, CBC, iv or bytes(16)) == b"plain text"

    def sign(self):
        signature = self.client.sign(b"message", self.private, PSS)
        valid = self.client.signature_verify(b"message", signature, self.public, PSS)
        assert valid == enums.ValidityIndicator.VALID
        invalid = self.client.signature_verify(b"other", signature, self.public, PSS)
        assert invalid == enums.ValidityIndicator.INVALID

    def mac(self):
        uid, first = self.client.mac(b"data", self.key, A.HMAC_SHA256)
        assert uid == self.key and len(first) == 32 and self.client.mac(b"data", self.key, A.HMAC_SHA256)[1] == first

    def derive_key(self):
        parameters = {
            "cryptographic_parameters": {"hashing_algorithm": enums.HashingAlgorithm.SHA_256},
            "derivation_data": b"label",
        }
        uid = self.client.derive_key(
            enums.ObjectType.SYMMETRIC_KEY, [self.key], enums.DerivationMethod.HMAC, parameters,
            cryptographic_algorithm=A.AES, cryptographic_length=128,
        )  # fmt: skip
        assert len(self.client.get(uid).value) == 16
        self.derived = uid

    def wrap(self):
        wrapping = self.client.create(A.AES, 128, cryptographic_usage_mask=[M.WRAP_KEY, M.UNWRAP_KEY])
        self.client.activate(wrapping)
        symmetric = next(uid for uid, one in self.registered.items() if isinstance(one, objects.SymmetricKey))
        specification = {
            "wrapping_method": enums.WrappingMethod.ENCRYPT,
            "encryption_key_information": {
                "unique_identifier": wrapping,
                "cryptographic_parameters": {"block_cipher_mode": enums.BlockCipherMode.NIST_KEY_WRAP},
            },
            "encoding_option": enums.EncodingOption.NO_ENCODING,
        }
        found = self.client.get(symmetric, key_wrapping_specification=specification)
        assert len(found.value) == 24 and found.key_wrapping_data["wrapping_method"] == enums.WrappingMethod.ENCRYPT

    def rekey(self):
        new = self.client.rekey(self.key, offset=0)
        assert new != self.key and self.client.get(new).value != self.client.get(self.key).value
        self.derived_from = new

    def destroy_active(self):
        reason = enums.ResultReason
        refused(reason.WRONG_KEY_LIFECYCLE_STATE if self.modern else reason.PERMISSION_DENIED,
                self.client.destroy, self.key)  # fmt: skip

    def revoke(self):
        self.client.revoke(enums.RevocationReasonCode.KEY_COMPROMISE, self.key, "stolen", 1_400_000_000)
        self.client.revoke(enums.RevocationReasonCode.CESSATION_OF_OPERATION, self.private)
        _, attributes = self.client.get_attributes(self.key, ["State", "Compromise Occurrence Date"])
        values = {one.attribute_name.value: one.attribute_value.value for one in attributes}
        assert values["State"] == enums.State.COMPROMISED
        assert values["Compromise Occurrence Date"] == 1_400_000_000

    def destroy(self):
        for uid in (self.key, self.private, *self.registered):
            self.client.destroy(uid)
        refused(enums.ResultReason.OBJECT_DESTROYED if self.modern else enums.ResultReason.PERMISSION_DENIED,
                self.client.get, self.key)  # fmt: skip


def _named(text):
    return Name.create(text, enums.NameType.UNINTERPRETED_TEXT_STRING)


def _certificate(key):
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pykmip")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + datetime.timedelta(days=1))
    return builder.sign(key, hashes.SHA256())


#: Steps and the first version that has them.
STEPS = {
    "create": V.KMIP_1_0, "create_key_pair": V.KMIP_1_0, "register": V.KMIP_1_0, "get": V.KMIP_1_0,
    "get_attributes": V.KMIP_1_0, "get_attribute_list": V.KMIP_1_0, "locate": V.KMIP_1_0,
    "modify_attribute": V.KMIP_1_0, "set_attribute": V.KMIP_2_0, "delete_attribute": V.KMIP_1_0, "check": V.KMIP_1_0,
    "activate": V.KMIP_1_0, "encrypt": V.KMIP_1_2, "sign": V.KMIP_1_2, "mac": V.KMIP_1_2, "derive_key": V.KMIP_1_0,
    "wrap": V.KMIP_1_1, "rekey": V.KMIP_1_0, "destroy_active": V.KMIP_1_0, "revoke": V.KMIP_1_0,
    "destroy": V.KMIP_1_0,
}  # fmt: skip


def main(port, ca, certificate, key, version):
    """Play every step that the version has."""
    version = V[version]
    client = ProxyKmipClient(
        hostname="127.0.0.1",
        port=int(port),
        cert=certificate,
        key=key,
        ca=ca,
        ssl_version="PROTOCOL_TLSv1_2",
        kmip_version=version,
    )
    with client:
        session = Session(client, version)
        for step, since in STEPS.items():
            if since.value <= version.value:
                getattr(session, step)()
                print(step, flush=True)


main(*sys.argv[1:])
