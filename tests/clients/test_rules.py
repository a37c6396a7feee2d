"""The forty rules that clients in the field have taught servers, one test each; what is lenient about them stands in
docs/divergences.md. Rules about connections are tried on the real server, those about messages on the engine."""

import contextlib
import datetime
import hashlib
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from keystore import authn, conf, states, streams
from keystore.authn import Identity, Peer
from keystore.call import HANDLERS
from keystore.engine import handle
from kmip import ttlv
from kmip.attributes import Attributes, References, Vendor, title_of
from kmip.enums import (
    BatchErrorContinuationOption,
    BlockCipherMode,
    CredentialType,
    CryptographicAlgorithm,
    CryptographicUsageMask,
    HashingAlgorithm,
    KeyCompressionType,
    KeyFormatType,
    ObjectGroupMember,
    ObjectType,
    OpaqueDataType,
    Operation,
    PaddingMethod,
    QueryFunction,
    ResultReason,
    ResultStatus,
    RevocationReasonCode,
    SecretDataType,
    State,
    StorageStatusMask,
)
from kmip.messages import Authentication, Credential, RequestBatchItem, ResponseMessage, UsernameAndPassword
from kmip.objects import KeyBlock, KeyValue, OpaqueObject, SecretData
from kmip.payloads import (
    ActivateRequest,
    AddAttributeRequest,
    CreateKeyPairRequest,
    CreateRequest,
    DecryptRequest,
    DeleteAttributeRequest,
    DestroyRequest,
    DiscoverVersionsRequest,
    EncryptRequest,
    GetAttributesRequest,
    GetRequest,
    HashRequest,
    LocateRequest,
    ModifyAttributeRequest,
    QueryRequest,
    RegisterRequest,
    ReKeyRequest,
    RevokeRequest,
)
from kmip.schema import dump
from kmip.structures import CryptographicParameters, ProtocolVersion, RevocationReason
from kmip.tags import Tag
from kmip.ttlv import Item, Type
from kmip.versions import V1_0, V1_1, V1_2, V1_3, V1_4, V2_1, VERSIONS
from tests.authority import sealed  # noqa: F401 - a fixture
from tests.made import activate, asked, created, key, located, named, registered, secret, seen
from tests.processes import manage, until
from tests.wire import answer, message, one, send, why

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("sealed")]
O, R = Operation, ResultReason  # noqa: E741
RULES: dict[str, Callable[..., None]] = {}


def rule(number: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    def note(check: Callable[..., None]) -> Callable[..., None]:
        RULES[f"rule-{number:02}"] = check
        return check

    return note


@pytest.mark.parametrize("name", [f"rule-{number:02}" for number in range(1, 41)])
def test_every_rule_is_kept(name, request):
    check = RULES[name]
    arguments = check.__code__.co_varnames[: check.__code__.co_argcount]
    check(*(request.getfixturevalue(argument) for argument in arguments))


# Framing and TLS: connections to the real server.


def context(server, **options: Any) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=str(server.ca))
    made.load_cert_chain(server.certificate, server.key)
    for name, value in options.items():
        setattr(made, name, value)
    return made


@contextlib.contextmanager
def connected(server, made=None, **options: Any):
    options.setdefault("server_hostname", "localhost")
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=20) as raw,
        (made or context(server)).wrap_socket(raw, **options) as connection,
    ):
        yield connection


def encoded(*items: Any, version=V1_2, **header: Any) -> bytes:
    return ttlv.encode(dump(message(*items, version=version, **header), Tag.REQUEST_MESSAGE, version))


def received(connection) -> bytes:
    """One message, exactly."""
    data = b""
    while len(data) < 8 or len(data) < 8 + int.from_bytes(data[4:8], "big"):
        chunk = connection.recv(8 if len(data) < 8 else 8 + int.from_bytes(data[4:8], "big") - len(data))
        assert chunk, "the connection ended"
        data += chunk
    return data


QUERY = (O.QUERY, QueryRequest(query_function=[QueryFunction.QUERY_SERVER_INFORMATION]))


def numbered(number: int) -> bytes:
    payload = dump(QUERY[1], Tag.REQUEST_PAYLOAD, V1_2)
    return encoded(RequestBatchItem(operation=O.QUERY, unique_batch_item_id=bytes([number]), request_payload=payload))


@rule(1)
def any_segmentation_is_accepted_and_one_answer_comes_whole(server):
    with connected(server) as connection:
        data = encoded(QUERY)
        for at in range(len(data)):
            connection.sendall(data[at : at + 1])
        whole = connection.recv(65536)
        assert len(whole) == 8 + int.from_bytes(whole[4:8], "big"), "one send, and nothing after the message"
        assert whole[:4] == b"\x42\x00\x7b\x01"
        connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            connection.recv(1)


@rule(2)
def requests_are_pipelined_and_sessions_resumed(server):
    made = context(server, maximum_version=ssl.TLSVersion.TLSv1_2)
    with connected(server, made) as connection:
        connection.sendall(b"".join(numbered(number) for number in range(8)))
        answers = [ttlv.decode(received(connection)) for _ in range(8)]
        assert [_find(found, Tag.UNIQUE_BATCH_ITEM_ID) for found in answers] == [bytes([n]) for n in range(8)]
        session = connection.session
    with connected(server, made, session=session) as connection:
        assert connection.session_reused
        connection.sendall(encoded(QUERY))
        received(connection)


def _find(item: Item, tag: Tag) -> Any:
    for child in item.value if item.type == Type.STRUCTURE else ():
        if child.tag == tag:
            return child.value
        found = _find(child, tag)
        if found is not None:
            return found
    return None


@rule(3)
def a_probe_without_tls_is_no_error(server):
    before = len(server.log)
    for _ in range(5):
        socket.create_connection(("127.0.0.1", server.port), timeout=20).close()
    with connected(server) as connection:
        connection.sendall(encoded(QUERY))
        received(connection)
    assert not [line for line in server.log[before:] if "WARNING" in line or "ERROR" in line]


@rule(4)
def idle_connections_stay_and_slow_ones_do_not():
    listener = conf.current().socket_server
    assert listener.idle_timeout >= 600
    assert 5 <= listener.handshake_timeout <= 10 and 10 <= listener.message_timeout <= 30


@rule(5)
def tls_1_2_and_1_3_with_aead_ciphers_unless_legacy_ones_are_asked_for(server):
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        with connected(server, context(server, minimum_version=version, maximum_version=version)) as connection:
            assert connection.version() == version.name.replace("v1_", "v1.")
    modern = context(server, maximum_version=ssl.TLSVersion.TLSv1_2)
    modern.set_ciphers("ECDHE+AESGCM")
    with connected(server, modern) as connection:
        assert "GCM" in connection.cipher()[0]
    old = context(server, maximum_version=ssl.TLSVersion.TLSv1_2)
    old.set_ciphers("AES128-SHA256:ECDHE-ECDSA-AES256-SHA384:ECDHE-RSA-AES256-SHA384:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError), connected(server, old):
        raise AssertionError("an old cipher is not offered by default")


@rule(6)
def the_server_s_certificate_suits_clients_and_refusals_are_explained(server, tmp_path):
    with connected(server) as connection:
        certificate = x509.load_der_x509_certificate(connection.getpeercert(binary_form=True))
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "localhost" in names.get_values_for_type(x509.DNSName) and names.get_values_for_type(x509.IPAddress)
    usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert ExtendedKeyUsageOID.SERVER_AUTH in usages
    # A certificate of the right CA, but not one of a client.
    wrong = ssl.create_default_context(cafile=str(server.ca))
    wrong.load_cert_chain(not_a_client_s(server, tmp_path))
    with pytest.raises((ssl.SSLError, ConnectionError)), connected(server, wrong) as connection:
        connection.sendall(encoded(QUERY))
        if not connection.recv(1):
            raise ConnectionResetError
    config = {"KMS_CONFIG": str(server.folder / "kms.toml")}

    def explained() -> bool:
        shown = manage(server.folder, "handshakes", "--refused", **config)
        return "clientAuth" in shown.stdout or "purpose" in shown.stdout

    until(explained, "the refusal among the handshakes")


def not_a_client_s(server, folder) -> Any:
    authority = x509.load_pem_x509_certificate(server.ca.read_bytes())
    issuer = serialization.load_pem_private_key((server.folder / "pki/ca.key").read_bytes(), None)
    own = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "server only")]))
        .issuer_name(authority.subject)
        .public_key(own.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()), False)
        .sign(issuer, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    path = folder / "wrong.pem"
    path.write_bytes(
        own.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()) + made.public_bytes(pem)
    )
    return path


@rule(7)
def the_end_of_tls_is_said_and_need_not_be_heard(server):
    with connected(server) as connection:
        connection.sendall(encoded(QUERY))
        received(connection)
        raw = connection.unwrap()
        assert raw.recv(1) == b""
    before = len(server.log)
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as raw:
        connection = context(server).wrap_socket(raw, server_hostname="localhost")
        connection.sendall(encoded(QUERY))
        received(connection)
        connection.shutdown(socket.SHUT_WR)
        connection.close()
    assert not [line for line in server.log[before:] if "WARNING" in line or "ERROR" in line]


@rule(8)
def server_names_are_sent_or_not(server):
    made = context(server)
    made.check_hostname = False
    for name in ("localhost", None):
        with connected(server, made, server_hostname=name) as connection:
            connection.sendall(encoded(QUERY))
            received(connection)


# Messages: the engine.


@rule(9)
def header_fields_are_accepted_whatever_they_say():
    unknown = Credential(credential_type=CredentialType.of(0x7F), credential_value=Item(Tag.CREDENTIAL_VALUE, 1, []))
    for header in (
        {"time_stamp": 1},
        {"time_stamp": 2**40},
        {"client_correlation_value": "c", "server_correlation_value": "s"},
        {"attestation_capable_indicator": True},
        {"batch_order_option": False},
        {"maximum_response_size": 65536},
        {"asynchronous_indicator": False},
    ):
        assert one(*QUERY, **header).server_information is not None
    # Unknown and wrong credentials are refused for what they are, in a well-formed answer.
    password = Credential(
        credential_type=CredentialType.USERNAME_AND_PASSWORD,
        credential_value=UsernameAndPassword(username="nobody", password="x"),
    )
    for credential in (unknown, password):
        data = encoded(QUERY, authentication=Authentication(credential=[credential]))
        (item,) = ResponseMessage.load(ttlv.decode(handle(data, Peer("kmip", address="127.0.0.1")))).batch_item
        assert item.result_reason == R.AUTHENTICATION_NOT_SUCCESSFUL and item.operation == O.QUERY


@rule(10)
def no_answer_is_longer_than_maximum_response_size():
    for number in range(40):
        created(names=[f"key {number}"])
    request = LocateRequest(attributes=Attributes())
    assert why(O.LOCATE, request, maximum_response_size=2048) == R.RESPONSE_TOO_LARGE
    assert len(one(O.LOCATE, request, maximum_response_size=8192).unique_identifier) == 40
    data = encoded((O.LOCATE, request), maximum_response_size=2048)
    assert len(handle(data, Peer("cli", user="alice"))) <= 2048
    # Pages fit.
    request = LocateRequest(attributes=Attributes(), maximum_items=16, offset_items=32)
    assert len(one(O.LOCATE, request, maximum_response_size=2048).unique_identifier) == 8


@rule(11)
def the_identifier_of_a_batch_item_comes_back_as_it_was():
    payload = dump(QUERY[1], Tag.REQUEST_PAYLOAD, V1_2)
    for identifier in (b"QLKC\x01\x00\x00\x00", bytes(12), bytes(range(16)), None):
        item = RequestBatchItem(operation=O.QUERY, unique_batch_item_id=identifier, request_payload=payload)
        (found,) = send(item, version=V1_2).batch_item
        assert found.unique_batch_item_id == identifier
    bare = RequestBatchItem(operation=O.QUERY, request_payload=payload)
    answers = send(bare, bare, version=V1_2).batch_item
    assert [item.result_status for item in answers] == [ResultStatus.SUCCESS] * 2


@rule(12)
def answers_name_their_operation_and_failures_have_no_payload():
    (item,) = send((O.GET, GetRequest(unique_identifier="nothing")), version=V1_0).batch_item
    assert item.operation == O.GET and item.result_status == ResultStatus.OPERATION_FAILED
    assert item.result_reason == R.ITEM_NOT_FOUND and item.result_message and item.response_payload is None
    (item,) = send(QUERY, version=V1_0).batch_item
    assert item.operation == O.QUERY


@rule(13)
def every_message_is_answered_in_its_own_version():
    uid = registered()
    for version in VERSIONS:
        found = send((O.GET, GetRequest(unique_identifier=uid)), version=version)
        header = found.response_header.protocol_version
        assert (header.protocol_version_major, header.protocol_version_minor) == divmod(version, 10)
        assert found.batch_item[0].result_status == ResultStatus.SUCCESS
    for asked_for, nearest in (((1, 9), (1, 4)), ((3, 0), (2, 1)), ((0, 9), (1, 0))):
        request = message(QUERY, version=V1_0)
        request.request_header.protocol_version = ProtocolVersion(
            protocol_version_major=asked_for[0], protocol_version_minor=asked_for[1]
        )
        found = answer(ttlv.encode(dump(request, Tag.REQUEST_MESSAGE, V1_0)))
        header = found.response_header.protocol_version
        assert (header.protocol_version_major, header.protocol_version_minor) == nearest
        assert found.batch_item[0].result_status == ResultStatus.OPERATION_FAILED
        expected = R.UNSUPPORTED_PROTOCOL_VERSION if nearest >= (2, 0) else R.INVALID_MESSAGE
        assert found.batch_item[0].result_reason == expected


@rule(14)
def there_is_no_server_correlation_value():
    for version in VERSIONS:
        header = send(QUERY, version=version).response_header
        assert header.server_correlation_value is None
    asked_ = send(QUERY, version=V1_4, client_correlation_value="mine").response_header
    assert asked_.client_correlation_value == "mine"


#: Ceph RGW 16.2.15 asking for a key by its Name, as it was seen on the wire.
CEPH_LOCATE = bytes.fromhex(
    "42007801000000c8 4200770100000058 4200690100000020 42006a02000000040000000100000000"
    "42006b02000000040000000000000000 42005002000000040000200000000000 4200920900000008000000006560d2c0"
    "42000d02000000040000000100000000 42000f0100000060 42005c05000000040000000800000000 4200790100000048"
    "4200080100000040 42000a07000000044e616d6500000000 42000b0100000028"
    "420055070000000c70796b6d69702d6e6f6b657900000000 42005405000000040000000100000000"
)


@rule(15)
def empty_payloads_are_legal():
    empty = Item(Tag.REQUEST_PAYLOAD, Type.STRUCTURE, [])
    for operation, version in ((O.DISCOVER_VERSIONS, V1_1), (O.QUERY, V1_0), (O.LOCATE, V1_0)):
        for payload in (empty, None):
            item = RequestBatchItem(operation=operation, request_payload=payload)
            (found,) = send(item, version=version).batch_item
            assert found.result_status == ResultStatus.SUCCESS
    found = handle(CEPH_LOCATE, Peer("cli", user="alice"))
    assert found.endswith(bytes.fromhex("42007c0100000000")), "nothing located is an empty payload"


@rule(16)
def the_id_placeholder_goes_through_a_batch():
    create = (O.CREATE, CreateRequest(object_type=ObjectType.SYMMETRIC_KEY, attributes=asked(names=["k"])))
    answers = send(create, (O.ACTIVATE, ActivateRequest()), (O.GET, GetRequest()), version=V1_2).batch_item
    uid = answers[0].response_payload.unique_identifier
    assert [item.response_payload.unique_identifier for item in answers] == [uid] * 3
    locate = (O.LOCATE, LocateRequest(attributes=asked(names=["k"])))
    answers = send(locate, (O.GET, GetRequest()), version=V1_2).batch_item
    assert answers[1].response_payload.unique_identifier == uid
    created(names=["another"])
    everything = (O.LOCATE, LocateRequest(attributes=Attributes()))
    answers = send(everything, (O.GET, GetRequest()), version=V1_2).batch_item
    assert answers[1].result_status == ResultStatus.OPERATION_FAILED, "two are located: the placeholder is empty"
    for batch in ((O.RE_KEY, ReKeyRequest(unique_identifier=uid)), (O.REGISTER, _register())):
        answers = send(batch, (O.GET, GetRequest()), version=V1_2).batch_item
        assert answers[1].response_payload.unique_identifier == answers[0].response_payload.unique_identifier
    common = asked(cryptographic_algorithm=CryptographicAlgorithm.EC, cryptographic_length=256)
    pair = (O.CREATE_KEY_PAIR, CreateKeyPairRequest(common_attributes=common))
    answers = send(pair, (O.GET, GetRequest()), version=V1_2).batch_item
    assert answers[1].response_payload.unique_identifier == answers[0].response_payload.private_key_unique_identifier
    assert why(O.GET, GetRequest(), version=V1_2) == R.INVALID_FIELD, "each message begins without one"


def _register(**values: Any) -> RegisterRequest:
    return RegisterRequest(object_type=ObjectType.SYMMETRIC_KEY, attributes=asked(**values), symmetric_key=key())


@rule(17)
def batches_stop_go_on_or_are_undone():
    create = (O.CREATE, CreateRequest(object_type=ObjectType.SYMMETRIC_KEY, attributes=asked(names=["k"])))
    fails = (O.GET, GetRequest(unique_identifier="nothing"))
    option = BatchErrorContinuationOption
    assert len(send(fails, create, version=V1_2).batch_item) == 1
    assert len(send(fails, create, version=V1_2, batch_error_continuation_option=option.STOP).batch_item) == 1
    assert located() == []
    statuses = [
        item.result_status
        for item in send(create, fails, version=V1_2, batch_error_continuation_option=option.UNDO).batch_item
    ]
    assert statuses == [ResultStatus.OPERATION_UNDONE, ResultStatus.OPERATION_FAILED] and located() == []
    answers = send(fails, create, version=V1_2, batch_error_continuation_option=option.CONTINUE).batch_item
    assert [item.result_status for item in answers] == [ResultStatus.OPERATION_FAILED, ResultStatus.SUCCESS]
    assert len(located()) == 1


@rule(18)
def unknown_tags_inside_known_structures_are_passed_over():
    payload = dump(_register(), Tag.REQUEST_PAYLOAD, V1_2)
    extra = Item(0x54ABCD, Type.TEXT_STRING, "from the future")
    payload.value.append(extra)
    payload.value[-2].value[0].value.insert(1, extra)  # inside the Key Block
    item = RequestBatchItem(operation=O.REGISTER, request_payload=payload)
    (found,) = send(item, version=V1_2).batch_item
    assert found.result_status == ResultStatus.SUCCESS


# Operations.


@rule(19)
def versions_are_discovered_newest_first_from_any_version():
    for version in (V1_0, V1_1, V1_4):
        found = one(O.DISCOVER_VERSIONS, DiscoverVersionsRequest(), version=version).protocol_version
        assert [10 * v.protocol_version_major + v.protocol_version_minor for v in found] == list(VERSIONS)
    v = [ProtocolVersion(protocol_version_major=1, protocol_version_minor=minor) for minor in (2, 3, 4)]
    request = DiscoverVersionsRequest(protocol_version=v)
    assert one(O.DISCOVER_VERSIONS, request, version=V1_1).protocol_version == v[::-1]
    request = DiscoverVersionsRequest(protocol_version=v[2:])
    assert one(O.DISCOVER_VERSIONS, request, version=V1_1).protocol_version == v[2:]


@rule(20)
def query_answers_whatever_it_is_asked():
    functions = [QueryFunction.of(0x40), *QueryFunction]
    for version in VERSIONS:
        found = one(O.QUERY, QueryRequest(query_function=functions), version=version)
        assert {ObjectType.SECRET_DATA, ObjectType.SYMMETRIC_KEY, ObjectType.OPAQUE_OBJECT} <= set(found.object_type)
        assert isinstance(found.vendor_identification, str) and found.server_information is not None
    empty = one(O.QUERY, QueryRequest(), version=V1_2)
    assert empty.operation and empty.object_type and empty.server_information is None
    raw = handle(encoded((O.QUERY, QueryRequest(query_function=functions)), version=V1_0), Peer("cli", user="alice"))
    assert Tag.RNG_PARAMETERS.to_bytes(3, "big") not in raw, "a field of later versions"


@rule(21)
def a_pre_active_key_is_given_out_and_not_used():
    uid = created()
    assert one(O.GET, GetRequest(unique_identifier=uid), version=V1_1).symmetric_key is not None
    request = EncryptRequest(unique_identifier=uid, data=bytes(16))
    assert why(O.ENCRYPT, request, version=V2_1) == R.WRONG_KEY_LIFECYCLE_STATE
    assert why(O.ENCRYPT, request, version=V1_2) == R.PERMISSION_DENIED
    assert seen(uid).state == State.PRE_ACTIVE


@rule(22)
def get_gives_the_object_and_nothing_else():
    made = key()
    made.key_block.key_value.attributes = asked(names=["inside"])
    request = RegisterRequest(object_type=ObjectType.SYMMETRIC_KEY, attributes=Attributes(), symmetric_key=made)
    uid = one(O.REGISTER, request, version=V1_2).unique_identifier
    assert [n.name_value for n in seen(uid).name] == ["inside"]
    block = one(O.GET, GetRequest(unique_identifier=uid), version=V1_2).symmetric_key.key_block
    assert block.key_value.attributes is None and block.key_format_type == KeyFormatType.RAW
    assert block.cryptographic_algorithm == CryptographicAlgorithm.AES and block.cryptographic_length == 128
    for format_ in (KeyFormatType.OPAQUE, KeyFormatType.RAW):
        password = secret()
        password.key_block.key_format_type = format_
        request = RegisterRequest(object_type=ObjectType.SECRET_DATA, attributes=Attributes(), secret_data=password)
        uid = one(O.REGISTER, request, version=V1_2).unique_identifier
        found = one(O.GET, GetRequest(unique_identifier=uid), version=V1_2).secret_data
        assert found.key_block.key_format_type == format_
        for wanted in (KeyFormatType.RAW, KeyFormatType.OPAQUE):
            found = one(O.GET, GetRequest(unique_identifier=uid, key_format_type=wanted), version=V1_2).secret_data
            assert found.key_block.key_value.key_material == b"a password"


#: The versions that add attributes, and those that a symmetric key has of them.
ADDED = {
    V1_0: {"Unique Identifier", "State", "Object Type", "Initial Date", "Last Change Date", "Cryptographic Usage Mask",
           "Cryptographic Algorithm", "Cryptographic Length", "Digest", "Lease Time", "Operation Policy Name"},
    V1_1: {"Fresh"},
    V1_2: {"Original Creation Date"},
    V1_3: {"Random Number Generator"},
    V1_4: {"Sensitive", "Always Sensitive", "Extractable", "Never Extractable"},
}  # fmt: skip


@rule(23)
def attributes_are_those_that_exist_in_the_version():
    uid = created()
    expected: set[str] = set()
    for version, titles in ADDED.items():
        expected |= titles
        request = GetAttributesRequest(unique_identifier=uid)
        assert {title_of(tag) for tag in one(O.GET_ATTRIBUTES, request, version=version).attributes} == expected
    asked_for = References([Vendor("x", "Vendor"), Tag.STATE, Tag.NAME])
    request = GetAttributesRequest(unique_identifier=uid, attribute_reference=asked_for)
    assert list(one(O.GET_ATTRIBUTES, request, version=V1_1).attributes) == [Tag.STATE]
    request = GetAttributesRequest(unique_identifier=uid, attribute_reference=References([Vendor("x", "Vendor")]))
    assert not one(O.GET_ATTRIBUTES, request, version=V1_1).attributes
    request = GetAttributesRequest(unique_identifier="nothing", attribute_reference=asked_for)
    assert why(O.GET_ATTRIBUTES, request, version=V1_1) == R.ITEM_NOT_FOUND


CUSTOM = {
    "text": (Type.TEXT_STRING, "x"),
    "integer": (Type.INTEGER, -5),
    "long": (Type.LONG_INTEGER, 2**40),
    "date": (Type.DATE_TIME, 1_700_000_000),
    "bytes": (Type.BYTE_STRING, b"\x00\xff"),
    "boolean": (Type.BOOLEAN, True),
    "interval": (Type.INTERVAL, 60),
    "big": (Type.BIG_INTEGER, -(2**80)),
    "enumeration": (Type.ENUMERATION, 7),
    "structure": (Type.STRUCTURE, [Item(Tag.NAME_VALUE, Type.TEXT_STRING, "inside")]),
}


@rule(24)
def custom_attributes_of_any_type_are_kept_and_spelled_both_ways():
    for prefix in ("x", "y"):
        wanted = Attributes()
        for name, (type_, value) in CUSTOM.items():
            wanted[Vendor(prefix, name)] = {0: Item(Tag.ATTRIBUTE_VALUE, type_, value)}
        uid = created(**{})
        for name, value in wanted.items():
            request = AddAttributeRequest(unique_identifier=uid, new_attribute=Attributes({name: value}))
            one(O.ADD_ATTRIBUTE, request, version=V1_1)
        old = one(O.GET_ATTRIBUTES, GetAttributesRequest(unique_identifier=uid), version=V1_4).attributes
        new = one(O.GET_ATTRIBUTES, GetAttributesRequest(unique_identifier=uid), version=V2_1).attributes
        for name, value in wanted.items():
            assert old[name] == new[name] == value
    raw = handle(encoded((O.GET_ATTRIBUTES, GetAttributesRequest(unique_identifier=uid)), version=V1_1),
                 Peer("cli", user="alice"))  # fmt: skip
    assert b"y-text" in raw
    raw = handle(encoded((O.GET_ATTRIBUTES, GetAttributesRequest(unique_identifier=uid)), version=V2_1),
                 Peer("cli", user="alice"))  # fmt: skip
    assert b"y-text" not in raw and Tag.VENDOR_IDENTIFICATION.to_bytes(3, "big") in raw
    second = Attributes({Vendor("y", "text"): {0: Item(Tag.ATTRIBUTE_VALUE, Type.TEXT_STRING, "second")}})
    found = one(O.ADD_ATTRIBUTE, AddAttributeRequest(unique_identifier=uid, new_attribute=second), version=V1_1)
    assert list(found.attributes[Vendor("y", "text")]) == [1], "the next index"


def attribute(name: str, type_: Type, value: Any, index: int | None = None) -> Item:
    """An Attribute of 1.x as a client writes it, right or wrong."""
    children = [Item(Tag.ATTRIBUTE_NAME, Type.TEXT_STRING, name)]
    if index is not None:
        children.append(Item(Tag.ATTRIBUTE_INDEX, Type.INTEGER, index))
    return Item(Tag.ATTRIBUTE, Type.STRUCTURE, [*children, Item(Tag.ATTRIBUTE_VALUE, type_, value)])


def raw(operation: Operation, *children: Item, version=V1_1) -> Any:
    item = RequestBatchItem(operation=operation, request_payload=Item(Tag.REQUEST_PAYLOAD, Type.STRUCTURE, [*children]))
    (found,) = send(item, version=version).batch_item
    assert found.result_status == ResultStatus.SUCCESS, found.result_message
    return found.response_payload


def create_with(*attributes: Item) -> str:
    kind = Item(Tag.OBJECT_TYPE, Type.ENUMERATION, ObjectType.SYMMETRIC_KEY)
    return raw(O.CREATE, kind, Item(Tag.TEMPLATE_ATTRIBUTE, Type.STRUCTURE, [*attributes])).unique_identifier


@rule(25)
def indices_and_unknown_names_do_no_harm():
    uid = create_with(
        attribute("Cryptographic Algorithm", Type.ENUMERATION, CryptographicAlgorithm.AES, 0),
        attribute("Cryptographic Length", Type.INTEGER, 256, 0),
        attribute("Cryptographic Usage Mask", Type.INTEGER, 12, 0),
        attribute("CryptographicUsageMask", Type.INTEGER, 4),
        attribute("Cryptograhpic Length", Type.INTEGER, 4),
    )
    attributes = seen(uid)
    assert (attributes.cryptographic_length, attributes.cryptographic_usage_mask) == (256, 12)
    mask = attribute("Storage Status Mask", Type.INTEGER, int(StorageStatusMask.ON_LINE_STORAGE), 0)
    kind = attribute("Object Type", Type.ENUMERATION, ObjectType.SYMMETRIC_KEY, 0)
    assert raw(O.LOCATE, kind, mask).unique_identifier == [uid]


@rule(26)
def locate_takes_filters_as_clients_write_them():
    first, second = created(names=["vol_local"]), created(names=["vol_peer"])
    name = [Item(Tag.NAME_VALUE, Type.TEXT_STRING, "vol_peer"), Item(Tag.NAME_TYPE, Type.ENUMERATION, 1)]
    filter_ = attribute("Name", Type.STRUCTURE, name)
    assert raw(O.LOCATE, filter_, version=V1_0).unique_identifier == [second]
    wrapped = Item(Tag.TEMPLATE_ATTRIBUTE, Type.STRUCTURE, [filter_])
    assert raw(O.LOCATE, Item(Tag.MAXIMUM_ITEMS, Type.INTEGER, 1), wrapped).unique_identifier == [second]
    pages = [Item(Tag.MAXIMUM_ITEMS, Type.INTEGER, 1), Item(Tag.OFFSET_ITEMS, Type.INTEGER, 1)]
    assert raw(O.LOCATE, *pages, version=V1_0).unique_identifier == [first], "newest first, and an offset even in 1.0"
    pages[1] = Item(Tag.OFFSET_ITEMS, Type.INTEGER, 2)
    assert raw(O.LOCATE, *pages, version=V1_0).unique_identifier == []
    unknown = attribute("CryptographicUsageMask", Type.INTEGER, 12)
    assert raw(O.LOCATE, unknown).unique_identifier == [], "nothing has it, and that is no error"
    for wrong in ("Vol_peer", "vol_", "vol_peer "):
        assert located(attributes=asked(names=[wrong])) == []
    everything = LocateRequest(attributes=Attributes())
    assert one(O.LOCATE, everything, version=V1_2).located_items is None
    assert one(O.LOCATE, everything, version=V1_3).located_items == 2
    request = LocateRequest(attributes=Attributes(), object_group_member=ObjectGroupMember.GROUP_MEMBER_FRESH)
    assert set(one(O.LOCATE, request, version=V1_1).unique_identifier) == {first, second}
    new = one(O.RE_KEY, ReKeyRequest(unique_identifier=second), version=V1_2).unique_identifier
    assert located(attributes=asked(names=["vol_peer"])) == [new]
    one(O.DESTROY, DestroyRequest(unique_identifier=first), version=V1_2)
    assert first not in located()
    gone = LocateRequest(attributes=Attributes(), storage_status_mask=int(StorageStatusMask.DESTROYED_STORAGE))
    assert one(O.LOCATE, gone, version=V2_1).unique_identifier == [first]


@rule(27)
def nobody_locates_what_is_not_theirs():
    created()
    assert located("bob") == [], "the keys that seal are no objects at all, and another's keys are not shown"
    assert len(located("alice")) == 1


@rule(28)
def register_takes_what_clients_send():
    block = {"cryptographic_algorithm": None, "cryptographic_length": None}
    seed = SecretData(
        secret_data_type=SecretDataType.SEED,
        key_block=KeyBlock(key_format_type=KeyFormatType.OPAQUE, key_value=KeyValue(key_material=bytes(96))),
    )
    rook = OpaqueObject(opaque_data_type=_opaque(1), opaque_data_value=bytes(16))
    compressed = key(key_compression_type=KeyCompressionType.EC_PUBLIC_KEY_TYPE_UNCOMPRESSED)
    mask = CryptographicUsageMask
    cases = [
        (ObjectType.SECRET_DATA, {"secret_data": seed}, {"cryptographic_usage_mask": 0}),
        (ObjectType.SECRET_DATA, {"secret_data": seed}, {}),
        (ObjectType.SECRET_DATA, {"secret_data": secret()}, {"cryptographic_usage_mask": int(mask.VERIFY)}),
        (ObjectType.SECRET_DATA, {"secret_data": secret()},
         {"cryptographic_usage_mask": int(mask.DERIVE_KEY | mask.EXPORT)}),
        (ObjectType.SYMMETRIC_KEY, {"symmetric_key": key(bytes(16), cryptographic_length=256)},
         {"cryptographic_length": 256}),
        (ObjectType.SYMMETRIC_KEY, {"symmetric_key": key(**block)}, {}),
        (ObjectType.SYMMETRIC_KEY, {"symmetric_key": compressed}, {}),
        (ObjectType.OPAQUE_OBJECT, {"opaque_object": rook}, {"cryptographic_length": 256}),
    ]  # fmt: skip
    for version in (V1_0, V1_2, V1_4, V2_1):
        for object_type, brought, values in cases:
            values = dict(values, **({"operation_policy_name": "default"} if version < V2_1 else {}))
            request = RegisterRequest(object_type=object_type, attributes=asked(**values), **brought)
            found = one(O.REGISTER, request, version=version)
            assert {name for name, value in vars(found).items() if value} == {"unique_identifier"}
            if version < V2_1:
                assert seen_in(version, found.unique_identifier).operation_policy_name == "default"
    assert one(O.GET, GetRequest(unique_identifier=registered()), version=V1_0).symmetric_key is not None


def _opaque(number: int) -> Any:
    return OpaqueDataType.of(0x80000000 + number)


def seen_in(version: Any, uid: str) -> Attributes:
    return one(O.GET_ATTRIBUTES, GetAttributesRequest(unique_identifier=uid), version=version).attributes


@rule(29)
def names_are_unique_among_those_who_share_a_namespace(monkeypatch):
    created(names=["k"])
    request = CreateRequest(object_type=ObjectType.SYMMETRIC_KEY, attributes=asked(names=["k"]))
    assert why(O.CREATE, request, version=V2_1) == R.NON_UNIQUE_NAME_ATTRIBUTE
    assert why(O.CREATE, request, version=V1_2) == R.INVALID_FIELD
    monkeypatch.setattr(authn, "identify", lambda peer, given=None: Identity(peer.user, "test", namespace=peer.user))
    one(O.CREATE, request, version=V1_2, user="carol")
    one(O.CREATE, request, version=V1_2, user="dave")


@rule(30)
def activating_twice_says_so_and_activating_echoes():
    uid = created()
    assert one(O.ACTIVATE, ActivateRequest(unique_identifier=uid), version=V1_0).unique_identifier == uid
    (item,) = send((O.ACTIVATE, ActivateRequest(unique_identifier=uid)), version=V1_2).batch_item
    assert item.result_reason == R.PERMISSION_DENIED and "active already" in item.result_message
    assert why(O.ACTIVATE, ActivateRequest(unique_identifier=uid), version=V2_1) == R.WRONG_KEY_LIFECYCLE_STATE


@rule(31)
def revoke_takes_every_reason_and_a_date_of_zero():
    for code in RevocationReasonCode:
        uid = created()
        if code not in states.COMPROMISES:
            activate(uid)
        request = RevokeRequest(
            unique_identifier=uid,
            revocation_reason=RevocationReason(revocation_reason_code=code),
            compromise_occurrence_date=0,
        )
        assert one(O.REVOKE, request, version=V1_0).unique_identifier == uid
        attributes = seen(uid)
        if code in states.COMPROMISES:
            assert attributes.state == State.COMPROMISED and attributes.compromise_occurrence_date == 0
        else:
            assert attributes.state == State.DEACTIVATED and attributes.compromise_date is None
        one(O.DESTROY, DestroyRequest(unique_identifier=uid), version=V1_0)


@rule(32)
def an_active_key_is_not_destroyed_and_others_are():
    uid = created()
    activate(uid)
    assert why(O.DESTROY, DestroyRequest(unique_identifier=uid), version=V1_2) == R.PERMISSION_DENIED
    assert why(O.DESTROY, DestroyRequest(unique_identifier=uid), version=V2_1) == R.WRONG_KEY_LIFECYCLE_STATE
    others = [created(), created()]
    answers = send(*((O.DESTROY, DestroyRequest(unique_identifier=one_)) for one_ in others), version=V1_2).batch_item
    assert [item.response_payload.unique_identifier for item in answers] == others


@rule(33)
def operations_on_attributes_echo_the_attribute():
    uid = created(names=["a" * 128])
    batch = [
        (O.ADD_ATTRIBUTE, AddAttributeRequest(unique_identifier=uid, new_attribute=Attributes({name: {0: value}})))
        for name, value in (
            (Vendor("x", label), Item(Tag.ATTRIBUTE_VALUE, Type.TEXT_STRING, "vCenter"))
            for label in ("Product_Version", "Vendor", "Product")
        )
    ]
    answers = send(*batch, version=V1_1).batch_item
    assert all(len(item.response_payload.attributes) == 1 for item in answers)
    renamed = Attributes({Tag.NAME: {0: named("4be1c1a6")}})
    request = ModifyAttributeRequest(unique_identifier=uid, new_attribute=renamed)
    assert one(O.MODIFY_ATTRIBUTE, request, version=V1_2).attributes == renamed
    request = DeleteAttributeRequest(unique_identifier=uid, attribute_reference=References([Tag.NAME]))
    assert one(O.DELETE_ATTRIBUTE, request, version=V1_2).attributes == renamed


@rule(34)
def a_re_keyed_key_moves_and_the_old_one_stays_active():
    old = created(names=["vast"], operation_policy_name="default")
    activate(old)
    new = one(O.RE_KEY, ReKeyRequest(unique_identifier=old), version=V1_4).unique_identifier
    assert new != old and seen(old).state == State.ACTIVE and seen(old).name == []
    assert seen(new).name == [named("vast")] and seen_in(V1_4, new).operation_policy_name == "default"


CBC = CryptographicParameters(block_cipher_mode=BlockCipherMode.CBC, padding_method=PaddingMethod.PKCS5)


@rule(35)
def encryption_gives_back_the_iv_that_the_server_made(configure):
    uid = created()
    activate(uid)
    random_iv = CryptographicParameters(
        block_cipher_mode=BlockCipherMode.CBC, padding_method=PaddingMethod.PKCS5, random_iv=True
    )
    request = EncryptRequest(unique_identifier=uid, cryptographic_parameters=random_iv, data=b"secret")
    found = one(O.ENCRYPT, request, version=V1_2)
    assert len(found.iv_counter_nonce) == 16
    request = DecryptRequest(
        unique_identifier=uid, cryptographic_parameters=CBC, data=found.data, iv_counter_nonce=found.iv_counter_nonce
    )
    assert one(O.DECRYPT, request, version=V1_2).data == b"secret"
    # One client sends it before the ciphertext, and has to be known for that.
    thales = DecryptRequest(
        unique_identifier=uid, cryptographic_parameters=CBC, data=found.iv_counter_nonce + found.data
    )
    (item,) = send((O.DECRYPT, thales), version=V1_2).batch_item
    assert item.result_status == ResultStatus.OPERATION_FAILED
    configure(**{"crypto.iv_before_data": ("alice",)})
    assert one(O.DECRYPT, thales, version=V1_2).data == b"secret" == one(O.DECRYPT, request, version=V1_2).data
    own = EncryptRequest(unique_identifier=uid, cryptographic_parameters=CBC, data=b"x", iv_counter_nonce=bytes(16))
    assert one(O.ENCRYPT, own, version=V1_2).data != found.data
    # The parameters are the key's where the request has none, and documented defaults where neither has any.
    bare = one(O.ENCRYPT, EncryptRequest(unique_identifier=uid, data=b"secret"), version=V1_4)
    request = DecryptRequest(
        unique_identifier=uid,
        data=bare.data,
        iv_counter_nonce=bare.iv_counter_nonce,
        authenticated_encryption_tag=bare.authenticated_encryption_tag,
    )
    assert one(O.DECRYPT, request, version=V1_4).data == b"secret"
    gcm = CryptographicParameters(block_cipher_mode=BlockCipherMode.GCM, tag_length=16)
    sizes = {}
    for version in (V1_3, V1_4):
        request = EncryptRequest(
            unique_identifier=uid, cryptographic_parameters=gcm, data=bytes(10), iv_counter_nonce=bytes([version] * 12)
        )
        found = one(O.ENCRYPT, request, version=version)
        sizes[version] = (len(found.data), found.authenticated_encryption_tag and 16)
    assert sizes == {V1_3: (26, None), V1_4: (10, 16)}


@rule(36)
def streams_are_bound_to_their_client(monkeypatch):
    monkeypatch.setattr(streams, "_keeper", streams.Streams(8, 60))
    sha_256 = CryptographicParameters(hashing_algorithm=HashingAlgorithm.SHA_256)
    request = HashRequest(cryptographic_parameters=sha_256, data=b"x", init_indicator=True)
    value = one(O.HASH, request, version=V1_4).correlation_value
    request = HashRequest(cryptographic_parameters=sha_256, data=b"y", correlation_value=value, final_indicator=True)
    assert why(O.HASH, request, version=V1_4, user="bob") == R.ITEM_NOT_FOUND
    assert why(O.HASH, request, version=V2_1, user="bob") == R.INVALID_CORRELATION_VALUE
    assert one(O.HASH, request, version=V1_4).data == hashlib.sha256(b"xy").digest()
    assert why(O.HASH, request, version=V1_4) == R.ITEM_NOT_FOUND, "it has ended"
    assert 10 <= conf.current().crypto.stream_timeout <= 3600


@rule(37)
def a_pair_without_masks_signs_and_verifies():
    common = asked(cryptographic_algorithm=CryptographicAlgorithm.RSA, cryptographic_length=2048)
    made = one(O.CREATE_KEY_PAIR, CreateKeyPairRequest(common_attributes=common), version=V1_2)
    assert seen(made.private_key_unique_identifier).cryptographic_usage_mask == int(CryptographicUsageMask.SIGN)
    assert seen(made.public_key_unique_identifier).cryptographic_usage_mask == int(CryptographicUsageMask.VERIFY)


@rule(38)
def an_activation_date_in_the_past_activates_at_once():
    now = int(time.time())
    uid = created(activation_date=now - 10)
    assert seen(uid).state == State.ACTIVE
    request = EncryptRequest(unique_identifier=uid, cryptographic_parameters=CBC, data=b"x", iv_counter_nonce=bytes(16))
    sealed_ = one(O.ENCRYPT, request, version=V1_4).data
    request = DecryptRequest(
        unique_identifier=uid, cryptographic_parameters=CBC, data=sealed_, iv_counter_nonce=bytes(16)
    )
    assert one(O.DECRYPT, request, version=V1_4).data == b"x", "no Process Start Date is needed"
    assert seen(created(activation_date=now + 100)).state == State.PRE_ACTIVE


@rule(39)
def identifiers_are_short_and_names_may_be_long():
    long = "n" * 300
    uid = created(names=[long, "a" * 128], object_group=["g" * 128])
    assert len(uid) <= 64 and uid.isascii()
    assert located(attributes=asked(names=[long])) == located(attributes=asked(object_group=["g" * 128])) == [uid]
    assert located(attributes=asked(names=[long[:-1]])) == []


@rule(40)
def an_operation_that_is_not_carried_out_leaves_the_connection_open(server):
    missing = next((operation for operation in Operation if operation not in HANDLERS), Operation.of(0x7F))
    item = RequestBatchItem(operation=missing, request_payload=Item(Tag.REQUEST_PAYLOAD, Type.STRUCTURE, []))
    with connected(server) as connection:
        for _ in range(2):
            connection.sendall(encoded(item, version=V1_4))
            assert _find(ttlv.decode(received(connection)), Tag.RESULT_REASON) == R.OPERATION_NOT_SUPPORTED
        connection.sendall(encoded(QUERY))
        received(connection)


def test_the_rules_are_forty():
    assert sorted(RULES) == [f"rule-{number:02}" for number in range(1, 41)]
