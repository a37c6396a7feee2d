"""Requests whose header has been seen before are read as others are, and responses that share one are written so."""

import pytest

from kmip import messages, ttlv, ttlv_xml
from kmip.enums import CredentialType, Operation, ResultStatus
from kmip.errors import KMIPError
from kmip.messages import (
    Authentication,
    Credential,
    RequestBatchItem,
    RequestHeader,
    RequestMessage,
    ResponseBatchItem,
    ResponseMessage,
    UsernameAndPassword,
    load_request,
    protocol_version,
)
from kmip.schema import dump, encode
from kmip.tags import Tag
from kmip.ttlv import Item
from kmip.versions import V1_4, V2_1, VERSIONS
from tests.reference import cases, needs_reference
from tests.reference import messages as vectors


@pytest.fixture(autouse=True)
def _none_seen():
    messages._headers.clear()


def slowly(data):
    """What reading it without looking at others gives, or why that fails."""
    try:
        return RequestMessage.load(ttlv.decode(data))
    except KMIPError as exc:
        return str(exc)


def quickly(data):
    try:
        return load_request(data)
    except KMIPError as exc:
        return str(exc)


def request(*, count=1, operation=Operation.QUERY, **header):
    made = RequestMessage(
        request_header=RequestHeader(protocol_version=protocol_version(V1_4), batch_count=count, **header),
        batch_item=[RequestBatchItem(operation=operation) for _ in range(count)],
    )
    return ttlv.encode(dump(made, Tag.REQUEST_MESSAGE, V1_4))


@needs_reference
@pytest.mark.parametrize("path", cases(), ids=lambda path: path.stem)
def test_every_request_of_the_test_cases_is_the_same_the_second_time(path):
    """Header by header, item by item."""
    for text in vectors(path):
        data = ttlv.encode(ttlv_xml.decode(text))
        if data[:3] != Tag.REQUEST_MESSAGE.to_bytes(3, "big"):
            continue
        assert quickly(data) == slowly(data)
        assert quickly(data) == slowly(data)


def test_every_damaged_byte_is_found_as_it_would_be_the_first_time():
    """In the message, in the header, in the items: the same message or the same refusal."""
    data = request(count=2)
    load_request(data)
    assert messages._headers
    for place in range(len(data)):
        for bits in (0x01, 0x80, 0xFF):
            damaged = bytearray(data)
            damaged[place] ^= bits
            assert quickly(bytes(damaged)) == slowly(bytes(damaged)), (place, bits)
    for length in range(len(data)):
        assert quickly(data[:length]) == slowly(data[:length])
    assert quickly(data + data) == slowly(data + data)


def test_what_stands_between_items_is_seen():
    """A second header is refused, an item of no meaning passed over."""
    message = ttlv.decode(request())
    header, item = message.value
    load_request(ttlv.encode(message))
    for more in (header, Item(Tag.NAME, 7, "text"), Item(Tag.BATCH_ITEM, 7, "text")):
        for order in ([header, item, more], [header, more, item]):
            data = ttlv.encode(Item(Tag.REQUEST_MESSAGE, 1, order))
            assert quickly(data) == slowly(data)


def test_no_header_is_kept_that_says_who_asks():
    """Nor one that comes only once, nor a long one; and not more than so many."""
    login = Credential(
        credential_type=CredentialType.USERNAME_AND_PASSWORD,
        credential_value=UsernameAndPassword(username="u", password="p"),
    )
    for header in (
        {"authentication": Authentication(credential=[login])},
        {"time_stamp": 1},
        {"client_correlation_value": "x" * 300},
    ):
        load_request(request(**header))
    assert not messages._headers
    for number in range(2 * messages.MAX_HEADERS):
        load_request(request(client_correlation_value=str(number)))
    assert 0 < len(messages._headers) <= messages.MAX_HEADERS


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("correlation", [None, "mine"])
def test_a_response_has_its_own_header(version, correlation):
    """Version, time, count, and the client's correlation value where there is one in the version."""
    for time_stamp in (1, 2):
        for count in (1, 2):
            items = [ResponseBatchItem(result_status=ResultStatus.SUCCESS)] * count
            made = messages.response(items, version, time_stamp=time_stamp, correlation=correlation)
            data = encode(made, Tag.RESPONSE_MESSAGE, version)
            assert data == ttlv.encode(dump(made, Tag.RESPONSE_MESSAGE, version))
            header = ResponseMessage.load(ttlv.decode(data)).response_header
            assert (header.protocol_version, header.time_stamp) == (protocol_version(version), time_stamp)
            assert (header.batch_count, len(made.batch_item)) == (count, count)
            assert header.client_correlation_value == (correlation if V1_4 <= version <= V2_1 else None)
