"""Notify and Put on the connection of a client that took the server role, and the published cases of them."""

import contextlib
import re
import xml.etree.ElementTree as ET

import pytest

from keystore import conf, engine, sealing
from keystore.models import Endpoint, Notification
from kmip import ttlv, ttlv_xml
from kmip.enums import EndpointRole, Operation, ResultStatus
from kmip.messages import RequestMessage, ResponseBatchItem, ResponseHeader, ResponseMessage, protocol_version
from kmip.payloads import PAYLOADS, DiscoverVersionsResponse, PingRequest, SetEndpointRoleRequest
from kmip.schema import dump
from kmip.tags import Tag
from kmip.ttlv import Item, Reader, Type
from kmip.versions import V1_4, V2_1
from tests.kmip_socket.conftest import Started
from tests.made import created
from tests.processes import until
from tests.reference import REFERENCE, needs_reference
from tests.wire import message

pytestmark = pytest.mark.django_db(transaction=True)
O = Operation  # noqa: E741
CASES = REFERENCE / "testcases" / "1.4" / "tc"


@pytest.fixture
def started(pki, configure):
    sealing.create_root_key(conf.current().sealing.root_key_file)
    sealing.reset()
    configure(**{"tls.clients_ca_cert_file": conf.load({}, pki.settings(), []).tls.clients_ca_cert_file})
    server = Started(pki, engine, database=True, message_timeout=2)
    with contextlib.closing(server):
        yield server


class Client:
    """A client that sends and takes messages as items; `version` is what it speaks when it is asked."""

    def __init__(self, started, version=V2_1):
        self.socket, self.version, self.reader = started.client(), version, Reader(1 << 20)
        self.reader.accept(Tag.RESPONSE_MESSAGE)

    def send(self, item):
        self.socket.sendall(item if isinstance(item, bytes) else ttlv.encode(item))

    def receive(self):
        while (data := self.reader.next()) is None:
            chunk = self.socket.recv(65536)
            assert chunk, "the server has closed the connection"
            self.reader.feed(chunk)
        return ttlv.decode(data)

    def ask(self, operation, payload):
        """Send a request, and the payload of its answer, which has to succeed."""
        request = message((operation, payload), version=V2_1)
        self.send(dump(request, Tag.REQUEST_MESSAGE, V2_1))
        (item,) = ResponseMessage.load(self.receive()).batch_item
        assert item.result_status == ResultStatus.SUCCESS, item.result_message
        return item.response_payload and PAYLOADS[operation].response.load(item.response_payload)

    def serve(self):
        """Take the server role."""
        self.ask(O.SET_ENDPOINT_ROLE, SetEndpointRoleRequest(endpoint_role=EndpointRole.CLIENT))

    def asked(self):
        """What the server asks: operation and payload."""
        self.question = RequestMessage.load(self.receive())
        (item,) = self.question.batch_item
        self.operation = item.operation
        return item.operation, PAYLOADS[item.operation].request.load(item.request_payload)

    def respond(self, payload=None):
        item = ResponseBatchItem(
            operation=self.operation,
            result_status=ResultStatus.SUCCESS,
            response_payload=None if payload is None else dump(payload, Tag.RESPONSE_PAYLOAD, self.version),
        )
        header = ResponseHeader(protocol_version=protocol_version(self.version), time_stamp=0, batch_count=1)
        answer = ResponseMessage(response_header=header, batch_item=[item])
        self.send(dump(answer, Tag.RESPONSE_MESSAGE, self.version))

    def greet(self):
        """Answer the server's first questions."""
        assert self.asked()[0] == O.DISCOVER_VERSIONS
        self.respond(DiscoverVersionsResponse(protocol_version=[protocol_version(self.version)]))
        assert self.asked()[0] == O.QUERY
        self.respond(PAYLOADS[O.QUERY].response(operation=[O.NOTIFY, O.PUT]))


def test_a_client_that_serves_is_put_what_others_make_and_may_still_ask(started):
    """Its own requests are answered in between; in the end it gives the role back, and is told nothing more."""
    client = Client(started)
    client.serve()
    client.greet()
    uid = created()
    operation, put = client.asked()
    assert operation == O.PUT and put.unique_identifier == uid
    client.ask(O.PING, PingRequest())
    client.respond()
    client.ask(O.SET_ENDPOINT_ROLE, SetEndpointRoleRequest(endpoint_role=EndpointRole.SERVER))
    created()
    client.ask(O.PING, PingRequest())
    assert Notification.objects.count() == 1


def test_a_client_that_does_not_answer_is_cut_off(started):
    """What it was sent waits for another connection."""
    silent = Client(started)
    silent.serve()
    silent.greet()
    created()
    assert silent.asked()[0] == O.PUT
    with pytest.raises((AssertionError, OSError)):
        silent.receive()
    until(lambda: Notification.objects.get().attempts == 1, "the attempt is noted")
    Notification.objects.update(next_attempt=0)
    other = Client(started)
    other.serve()
    other.greet()
    assert other.asked()[0] == O.PUT
    other.respond()
    until(lambda: not Notification.objects.exists(), "the notification is taken")


def test_nonsense_ends_the_connection_and_nothing_else(started):
    """A response that answers nothing, and bytes that are none."""
    for nonsense in (Item(Tag.RESPONSE_MESSAGE, Type.STRUCTURE, []), b"\xff" * 64):
        client = Client(started)
        client.serve()
        client.greet()
        client.send(nonsense)
        with pytest.raises((AssertionError, OSError)):
            client.receive()
    Client(started).ask(O.PING, PingRequest())
    assert Endpoint.objects.get().username == "alice"


def test_the_server_stops_while_clients_serve(started):
    """Draining does not wait for them."""
    client = Client(started)
    client.serve()
    client.greet()
    started.server.drain()
    started.thread.join(5)
    assert not started.thread.is_alive()


# The published cases: requests and responses in the order of the file, whoever they come from.


def filled(element, uids):
    text = ET.tostring(element, encoding="unicode")
    text = re.sub(r"\$UNIQUE_IDENTIFIER_(\d)", lambda found: uids[int(found[1])], text)
    return ttlv_xml.decode(text.replace("$NOW", "2026-01-01T00:00:00+00:00").encode())


def values(item, tag):
    """Every value under a tag."""
    if item.type != Type.STRUCTURE:
        return [item.value] if item.tag == tag else []
    return [value for child in item.value for value in values(child, tag)]


def shape(item):
    """Attribute names that a Notify or Put has, besides the operation."""
    return values(item, Tag.OPERATION), set(values(item, Tag.ATTRIBUTE_NAME))


@needs_reference
@pytest.mark.parametrize("name", ["TC-NP-1-14", "TC-NP-2-14"])
def test_the_published_cases_of_notify_and_put_pass(started, name):
    """The client's requests are answered, and the server's come after them as in the file, on one connection."""
    client = Client(started, V1_4)
    client.serve()
    client.greet()
    messages = list(ET.parse(CASES / f"{name}.xml").getroot())
    uids = []
    for request, response in zip(messages[::2], messages[1::2], strict=True):
        operation = request.find("BatchItem/Operation").get("value")
        if operation in ("Put", "Notify"):
            got, expected = client.receive(), filled(request, uids)
            assert shape(expected)[0] == shape(got)[0] and shape(expected)[1] <= shape(got)[1]
            for tag in (Tag.UNIQUE_IDENTIFIER, Tag.PUT_FUNCTION, Tag.PROTOCOL_VERSION_MINOR):
                assert values(got, tag) == values(expected, tag)
            client.send(filled(response, uids))
        else:
            client.send(filled(request, uids))
            got = client.receive()
            if not uids:
                uids += values(got, Tag.UNIQUE_IDENTIFIER)
            assert values(got, Tag.RESULT_STATUS) == values(filled(response, uids), Tag.RESULT_STATUS)
            assert values(got, Tag.UNIQUE_IDENTIFIER) == values(filled(response, uids), Tag.UNIQUE_IDENTIFIER)


@needs_reference
@pytest.mark.parametrize("name", ["TC-Q-S2C-1-14", "TC-Q-S2C-2-14", "TC-Q-S2C-PROF-2-14"])
def test_the_published_answers_of_clients_are_understood(started, name):
    """What a client says of its versions and operations counts: these take neither Notify nor Put."""
    client = Client(started, V1_4)
    client.serve()
    ((request, response),) = [tuple(ET.parse(CASES / f"{name}.xml").getroot())]
    operation = request.find("BatchItem/Operation").get("value")
    assert client.asked()[0] == O.DISCOVER_VERSIONS
    if operation == "DiscoverVersions":
        client.send(filled(response, []))
        client.asked()
        assert client.question.request_header.protocol_version == protocol_version(V1_4)
        return
    client.respond(DiscoverVersionsResponse(protocol_version=[protocol_version(V1_4)]))
    asked = {one.value for one in client.asked()[1].query_function}
    assert set(values(filled(request, []), Tag.QUERY_FUNCTION)) <= asked
    client.send(filled(response, []))
    created()
    takes = Operation.PUT.spelling in {one.get("value") for one in response.iter("Operation")}
    if not takes:
        until(lambda: not Notification.objects.exists(), "what the client does not take is dropped")
    else:
        assert client.asked()[0] == O.PUT
