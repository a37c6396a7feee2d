"""Cryptographic services in parts, through the engine and through a real server's listeners."""

import ssl
import urllib.request

import pytest

from benchmarks import load
from benchmarks.messages import message
from keystore import streams
from keystore.streams import Streams
from kmip import ttlv
from kmip.enums import (
    BlockCipherMode,
    HashingAlgorithm,
    Operation,
    PaddingMethod,
    QueryFunction,
    ResultReason,
    UsageLimitsUnit,
    ValidityIndicator,
)
from kmip.errors import KMIPError
from kmip.messages import ResponseMessage
from kmip.payloads import (
    DecryptRequest,
    EncryptRequest,
    GetAttributesRequest,
    HashRequest,
    HashResponse,
    MACRequest,
    MACVerifyRequest,
    QueryRequest,
    SignatureVerifyRequest,
    SignRequest,
)
from kmip.structures import UsageLimits
from kmip.versions import V1_3, V1_4, V2_1
from tests.authority import do, refused, sealed  # noqa: F401 - a fixture
from tests.using import A, create, pair, parameters, revoke

R, V = ResultReason, ValidityIndicator
CBC = parameters(block_cipher_mode=BlockCipherMode.CBC, padding_method=PaddingMethod.PKCS5)
GCM = parameters(block_cipher_mode=BlockCipherMode.GCM, tag_length=16, iv_length=96)
SHA_256 = parameters(hashing_algorithm=HashingAlgorithm.SHA_256)


@pytest.fixture
def keeps(monkeypatch):
    """This process keeps its streams itself."""
    monkeypatch.setattr(streams, "_keeper", Streams(64, 60))


engine = [pytest.mark.django_db, pytest.mark.usefixtures("sealed", "keeps")]


def in_parts(operation, request, parts, *, version=V2_1, last=None, **first):
    """The responses to all parts; `first` and `last` are what only that part has."""
    responses, correlation = [], None
    for number, part in enumerate(parts):
        is_first, is_last = number == 0, number == len(parts) - 1
        payload = type(request)(**vars(request))
        payload.data, payload.correlation_value = part, correlation
        payload.init_indicator = True if is_first else None
        payload.final_indicator = True if is_last else None
        for name, value in ((first if is_first else {}) | ((last or {}) if is_last else {})).items():
            setattr(payload, name, value)
        responses.append(do(operation, payload, version=version))
        correlation = responses[-1].correlation_value
        assert (correlation is None) == is_last
    return responses


def data_of(responses):
    return b"".join(response.data or b"" for response in responses)


@pytest.mark.parametrize("version", [V1_3, V1_4, V2_1], ids=str)
class TestEngine:
    """What needs no listener."""

    pytestmark = engine

    def test_what_is_encrypted_in_parts_decrypts_whole_and_in_parts(self, version):
        """IV with the first part, the tag with the last or, before 1.4, at the end of its data."""
        uid = create()
        request = EncryptRequest(unique_identifier=uid, cryptographic_parameters=GCM)
        done = in_parts(Operation.ENCRYPT, request, [b"attack ", b"at ", b"dawn"], version=version)
        iv, tag = done[0].iv_counter_nonce, done[-1].authenticated_encryption_tag
        assert (tag is None) == (version < V1_4)
        whole = DecryptRequest(
            unique_identifier=uid,
            cryptographic_parameters=GCM,
            data=data_of(done),
            iv_counter_nonce=iv,
            authenticated_encryption_tag=tag,
        )
        assert do(Operation.DECRYPT, whole, version=version).data == b"attack at dawn"
        data, whole.data = whole.data, None
        opened = in_parts(Operation.DECRYPT, whole, [data[:5], data[5:]], version=version)
        assert data_of(opened) == b"attack at dawn"


class TestRules:
    """What each part has to keep to."""

    pytestmark = engine

    def test_signatures_macs_and_hashes_come_with_the_last_part(self):
        """Validity too; the parts before say nothing."""
        private, public = pair(A.RSA, 2048)
        signed = in_parts(Operation.SIGN, SignRequest(unique_identifier=private), [b"attack", b" at dawn"])
        assert signed[0].signature_data is None
        verified = in_parts(
            Operation.SIGNATURE_VERIFY,
            SignatureVerifyRequest(unique_identifier=public),
            [b"attack at", b" dawn"],
            last={"signature_data": signed[-1].signature_data},
        )
        assert [one.validity_indicator for one in verified] == [None, V.VALID]
        uid = create(A.HMAC_SHA256, 256)
        code = in_parts(Operation.MAC, MACRequest(unique_identifier=uid), [b"da", b"ta"])[-1].mac_data
        checked = in_parts(Operation.MAC_VERIFY, MACVerifyRequest(unique_identifier=uid), [b"dat", b"a"], mac_data=code)
        assert checked[-1].validity_indicator == V.VALID
        hashed = in_parts(Operation.HASH, HashRequest(cryptographic_parameters=SHA_256), [b"a", b"b", b"c"])
        whole = do(Operation.HASH, HashRequest(cryptographic_parameters=SHA_256, data=b"abc"))
        assert hashed[-1].data == whole.data

    def test_first_and_last_at_once_is_one_part(self):
        """No stream is begun for it (2.1, 6.1)."""
        request = EncryptRequest(unique_identifier=create(), data=b"x", init_indicator=True, final_indicator=True)
        assert do(Operation.ENCRYPT, request).correlation_value is None
        assert len(streams.keeper()) == 0

    def test_a_later_part_needs_no_identifier(self):
        """The stream knows its key."""
        uid = create()
        begun = do(Operation.ENCRYPT, EncryptRequest(unique_identifier=uid, data=b"x", init_indicator=True))
        request = EncryptRequest(correlation_value=begun.correlation_value, final_indicator=True)
        assert do(Operation.ENCRYPT, request).unique_identifier == uid

    def test_indicators_and_correlation_values_must_fit(self):
        """A last part without a stream, a first part in one, a middle part without data, a digest in parts."""
        uid = create()
        begun = do(Operation.ENCRYPT, EncryptRequest(unique_identifier=uid, data=b"x", init_indicator=True))
        for reason, options in (
            (R.INVALID_FIELD, {"data": b"x", "final_indicator": True}),
            (R.INVALID_FIELD, {"data": b"x", "init_indicator": True, "correlation_value": begun.correlation_value}),
            (R.MISSING_DATA, {"correlation_value": begun.correlation_value}),
            (R.INVALID_CORRELATION_VALUE, {"data": b"x", "correlation_value": b"nothing"}),
        ):
            refused(reason, Operation.ENCRYPT, EncryptRequest(unique_identifier=uid, **options))
        private, _ = pair(A.RSA, 2048)
        request = SignRequest(unique_identifier=private, digested_data=bytes(32), init_indicator=True)
        refused(R.INVALID_FIELD, Operation.SIGN, request)

    def test_another_client_cannot_go_on(self):
        """Not even one that may use the key."""
        begun = do(Operation.HASH, HashRequest(cryptographic_parameters=SHA_256, data=b"x", init_indicator=True))
        request = HashRequest(
            cryptographic_parameters=SHA_256, correlation_value=begun.correlation_value, final_indicator=True
        )
        refused(R.INVALID_CORRELATION_VALUE, Operation.HASH, request, user="eve")
        assert do(Operation.HASH, request).data

    def test_a_stream_ends_with_the_right_to_it(self):
        """A revoked key encrypts no further part."""
        uid = create()
        begun = do(Operation.ENCRYPT, EncryptRequest(unique_identifier=uid, data=b"x", init_indicator=True))
        revoke(uid)
        request = EncryptRequest(unique_identifier=uid, data=b"y", correlation_value=begun.correlation_value)
        refused(R.WRONG_KEY_LIFECYCLE_STATE, Operation.ENCRYPT, request)

    @pytest.mark.parametrize(
        ("unit", "left"), [(UsageLimitsUnit.OBJECT, 19), (UsageLimitsUnit.BYTE, 8)], ids=["objects", "bytes"]
    )
    def test_parts_draw_on_usage_limits_as_one(self, unit, left):
        """One object, whatever its parts; bytes as they come."""
        uid = create(usage_limits=UsageLimits(usage_limits_total=20, usage_limits_unit=unit))
        in_parts(Operation.ENCRYPT, EncryptRequest(unique_identifier=uid), [b"four", b"more", b"last"])
        attributes = do(Operation.GET_ATTRIBUTES, GetAttributesRequest(unique_identifier=uid)).attributes
        assert attributes.usage_limits.usage_limits_count == left
        if unit == UsageLimitsUnit.BYTE:
            with pytest.raises(KMIPError) as caught:
                in_parts(Operation.ENCRYPT, EncryptRequest(unique_identifier=uid), [b"four", b"more", b"last"])
            assert caught.value.reason == R.PERMISSION_DENIED

    def test_query_says_whether_parts_are_taken(self, monkeypatch, configure):
        """They are where there is a keeper."""
        configure(**{"crypto.max_streams": 4})
        request = QueryRequest(query_function=[QueryFunction.QUERY_CAPABILITIES])
        assert do(Operation.QUERY, request).capability_information[0].streaming_capability is True
        monkeypatch.setattr(streams, "_keeper", None)
        configure(**{"crypto.max_streams": 5})
        assert do(Operation.QUERY, request).capability_information[0].streaming_capability is False
        begins = HashRequest(cryptographic_parameters=SHA_256, data=b"x", init_indicator=True)
        refused(R.FEATURE_NOT_SUPPORTED, Operation.HASH, begins)


def test_a_stream_goes_on_over_any_connection_and_listener(server):
    """Begun over TLS, continued over HTTPS, ended over another connection."""
    target = load.Target(server.port, server.ca, server.certificate, server.key)
    context = load.context(target)

    def over_tls(data):
        with load.connect(target, context) as connection:
            return load.exchange(connection, data)

    def over_https(data):
        request = urllib.request.Request(
            f"https://127.0.0.1:{server.https}/kmip", data, {"Content-Type": "application/octet-stream"}
        )
        with urllib.request.urlopen(request, context=_https(server)) as answer:
            return answer.read()

    correlation = None
    for send, part, options in (
        (over_tls, b"a", {"init_indicator": True}),
        (over_https, b"b", {}),
        (over_https, b"", {}),
        (over_tls, b"c", {"final_indicator": True}),
    ):
        request = HashRequest(cryptographic_parameters=SHA_256, data=part, correlation_value=correlation, **options)
        answer = ResponseMessage.load(ttlv.decode(send(message((Operation.HASH, request), version=V1_4))))
        done = HashResponse.load(answer.batch_item[0].response_payload)
        correlation = done.correlation_value
    # FIPS 180-2, B.1.
    assert done.data.hex() == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def _https(server):
    made = ssl.create_default_context(cafile=str(server.ca))
    made.load_cert_chain(server.certificate, server.key)
    return made
