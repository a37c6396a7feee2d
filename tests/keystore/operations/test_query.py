"""What the server says of itself is true: Query, Discover Versions, and the list of what is not offered."""

from pathlib import Path

import pytest
from django.conf import settings

from keystore.call import HANDLERS
from keystore.management.commands import showprotocol
from keystore.operations import server
from kmip.enums import (
    CryptographicAlgorithm,
    ObjectType,
    Operation,
    ProfileName,
    QueryFunction,
    ResultReason,
    ResultStatus,
)
from kmip.messages import RequestBatchItem
from kmip.payloads import (
    PAYLOADS,
    CreateRequest,
    DiscoverVersionsRequest,
    ObjectGroups,
    PingRequest,
    QueryRequest,
)
from kmip.structures import ProtocolVersion
from kmip.tags import Extension, Tag
from kmip.ttlv import Item
from kmip.versions import V1_0, V1_1, V1_2, V1_3, V1_4, V2_0, V2_1, VERSIONS
from tests.authority import sealed  # noqa: F401 - a fixture
from tests.made import asked, created, seen
from tests.wire import one, send, why

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("sealed")]
F = QueryFunction


def queried(*functions, version=V2_1, **request):
    return one(Operation.QUERY, QueryRequest(query_function=list(functions), **request), version=version)


@pytest.mark.parametrize("operation", PAYLOADS, ids=lambda one: one.name.lower())
def test_every_operation_is_carried_out_or_sent(operation):
    """None is left over."""
    assert (operation in HANDLERS) != (operation in server.TO_CLIENTS)


@pytest.mark.parametrize("version", VERSIONS)
def test_query_lists_exactly_what_is_carried_out(version):
    """An operation that is listed is not refused as unsupported, and one that is not listed is."""
    listed = queried(F.QUERY_OPERATIONS, version=version).operation
    assert listed == sorted(listed)
    for operation in PAYLOADS:
        item = RequestBatchItem(operation=operation, request_payload=Item(Tag.REQUEST_PAYLOAD, 1, []))
        (answer,) = send(item, version=version).batch_item
        unsupported = answer.result_reason == ResultReason.OPERATION_NOT_SUPPORTED
        # Discover Versions is answered even in 1.0, which does not have it.
        known = operation in listed or operation == Operation.DISCOVER_VERSIONS
        assert unsupported != known, operation


@pytest.mark.parametrize("function", F, ids=lambda one: one.name.lower())
def test_every_function_of_the_specification_is_answered(function):
    assert function in server._ANSWERS
    queried(function)


FILLED = {
    F.QUERY_OPERATIONS: "operation",
    F.QUERY_OBJECTS: "object_type",
    F.QUERY_SERVER_INFORMATION: "server_information",
    F.QUERY_EXTENSION_LIST: "extension_information",
    F.QUERY_EXTENSION_MAP: "extension_information",
    F.QUERY_RNGS: "rng_parameters",
    F.QUERY_PROFILES: "profile_information",
    F.QUERY_CAPABILITIES: "capability_information",
    F.QUERY_DEFAULTS_INFORMATION: "defaults_information",
    F.QUERY_STORAGE_PROTECTION_MASKS: "protection_storage_masks",
}


@pytest.mark.parametrize("function, field", FILLED.items(), ids=lambda one: str(getattr(one, "name", one)).lower())
def test_a_function_fills_its_own_fields_and_no_others(function, field):
    answer = queried(function)
    assert getattr(answer, field)
    filled = {name for name, value in vars(answer).items() if value}
    assert filled - {field} <= {"vendor_identification"} and (
        len(filled) == 1 or function == F.QUERY_SERVER_INFORMATION
    )


def test_versions_that_lack_a_field_are_not_told():
    for version, field in ((V1_0, "extension_information"), (V1_2, "rng_parameters"), (V1_4, "defaults_information")):
        answer = queried(*F, version=version)
        assert not getattr(answer, field)
    assert queried(*F, version=V1_1).extension_information and queried(*F, version=V1_3).rng_parameters
    assert queried(*F, version=V2_0).defaults_information


def test_the_extension_map_comes_before_the_list():
    """2.1, 6.1.40: of both only the map is answered, with tags and types."""
    both = queried(F.QUERY_EXTENSION_LIST, F.QUERY_EXTENSION_MAP).extension_information
    assert {one.extension_name: one.extension_tag for one in both} == {one.spelling: int(one) for one in Extension}
    assert {one.extension_tag for one in queried(F.QUERY_EXTENSION_LIST).extension_information} == {None}


def test_profiles_are_those_whose_operations_are_carried_out():
    names = {one.profile_name for one in queried(F.QUERY_PROFILES).profile_information}
    assert ProfileName.BASELINE_SERVER_BASIC_KMIP_V1_2 not in names, "a name of 1.x"
    complete = server.PROFILES["CompleteServer"] <= HANDLERS.keys()
    assert (ProfileName.COMPLETE_SERVER in names) == complete
    old = {one.profile_name for one in queried(F.QUERY_PROFILES, version=V1_4).profile_information}
    assert ProfileName.SYMMETRIC_KEY_LIFECYCLE_SERVER_KMIP_V1_2 in old
    assert all(name.since <= V1_4 for name in old)


def test_capabilities_follow_from_what_is_carried_out():
    (found,) = queried(F.QUERY_CAPABILITIES).capability_information
    assert found.asynchronous_capability == (Operation.POLL in HANDLERS)
    assert found.batch_undo_capability and found.batch_continue_capability


def test_the_defaults_are_those_that_new_objects_get():
    defaults = queried(F.QUERY_DEFAULTS_INFORMATION).defaults_information.object_defaults
    (symmetric,) = (one for one in defaults if one.object_types.object_type == [ObjectType.SYMMETRIC_KEY])
    made = one(Operation.CREATE, CreateRequest(object_type=ObjectType.SYMMETRIC_KEY, attributes=asked()), version=V2_1)
    attributes = seen(made.unique_identifier)
    assert attributes.cryptographic_algorithm == CryptographicAlgorithm.AES
    for key, values in symmetric.attributes.items():
        assert attributes[key] == values


def test_nothing_named_asks_for_operations_and_objects():
    """A leniency: some clients send no Query Function."""
    answer = queried(version=V1_0)
    assert answer.operation and answer.object_type


def test_functions_of_the_future_are_passed_over():
    assert not any(vars(queried(F.of(0x7F), version=V1_4)).values())


def test_a_group_that_nobody_has_is_unknown():
    request = QueryRequest(query_function=[F.QUERY_OBJECTS], object_groups=ObjectGroups(object_group=["g"]))
    assert why(Operation.QUERY, request, version=V2_1) == ResultReason.UNKNOWN_OBJECT_GROUP
    created(object_group=["g"])
    assert one(Operation.QUERY, request, version=V2_1).object_type
    assert why(Operation.QUERY, request, version=V2_1, user="bob") == ResultReason.UNKNOWN_OBJECT_GROUP


def test_versions_are_those_that_both_speak_newest_first():
    everything = one(Operation.DISCOVER_VERSIONS, DiscoverVersionsRequest(), version=V1_2).protocol_version
    assert [one.protocol_version_major * 10 + one.protocol_version_minor for one in everything] == list(VERSIONS)
    asked = [ProtocolVersion(protocol_version_major=major, protocol_version_minor=minor)
             for major, minor in ((1, 1), (9, 9), (2, 1))]  # fmt: skip
    found = one(Operation.DISCOVER_VERSIONS, DiscoverVersionsRequest(protocol_version=asked), version=V1_2)
    assert found.protocol_version == [asked[2], asked[0]]


def test_ping_is_answered():
    (item,) = send((Operation.PING, PingRequest()), version=V2_1).batch_item
    assert item.result_status == ResultStatus.SUCCESS


def test_the_page_of_the_protocol_is_current():
    """`manage.py showprotocol --write` has been run since the last change of a table."""
    page = Path(settings.BASE_DIR) / showprotocol.PAGE
    assert page.read_text(encoding="utf-8") == showprotocol.page()
