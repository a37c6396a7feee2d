"""Query, whose answer is kept."""

import pytest

from keystore import engine
from keystore.authn import Peer
from kmip import ttlv
from kmip.enums import Operation, QueryFunction
from kmip.messages import ResponseMessage
from kmip.payloads import PAYLOADS, QueryRequest, QueryResponse
from kmip.versions import V1_0, V1_4, V2_1
from tests.authority import do, sealed  # noqa: F401 - a fixture

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("sealed")]


def asked(*functions, version=V2_1):
    return do(Operation.QUERY, QueryRequest(query_function=list(functions)), version=version)


def test_each_version_has_its_own_answer():
    found = {version: asked(QueryFunction.QUERY_OPERATIONS, version=version).operation for version in (V1_0, V1_4)}
    for version, operations in found.items():
        assert Operation.CREATE in operations
        assert all(PAYLOADS[operation].since <= version for operation in operations)
    assert set(found[V1_0]) < set(found[V1_4])


def test_each_set_of_functions_has_its_own_answer():
    assert asked(QueryFunction.QUERY_OPERATIONS).object_type == []
    assert asked(QueryFunction.QUERY_OBJECTS).operation == []
    both = asked(QueryFunction.QUERY_OPERATIONS, QueryFunction.QUERY_OBJECTS)
    assert both.operation and both.object_type
    assert asked(QueryFunction.of(99)) == QueryResponse()


def test_an_answer_follows_the_configuration(configure):
    name = asked(QueryFunction.QUERY_SERVER_INFORMATION).vendor_identification
    configure(**{"server.vendor_identification": "someone else"})
    assert name != asked(QueryFunction.QUERY_SERVER_INFORMATION).vendor_identification == "someone else"


def test_the_answer_on_the_wire_is_the_same_again():
    from benchmarks import messages

    peer = Peer("cli", user="alice")
    first, second = (
        ResponseMessage.load(ttlv.decode(engine.handle(messages.query(V1_4), peer))).batch_item[0].response_payload
        for _ in range(2)
    )
    assert first == second
    assert QueryResponse.load(first) == asked(QueryFunction.QUERY_OPERATIONS, QueryFunction.QUERY_OBJECTS, version=V1_4)
