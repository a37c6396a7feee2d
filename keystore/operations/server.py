"""Operations about the server itself: Query, Discover Versions, Interop, Log, Ping."""

import logging

from keystore import conf
from keystore.call import HANDLERS, Call, operation
from keystore.version import VERSION
from kmip.enums import (
    DestroyAction,
    ObjectType,
    Operation,
    ProfileName,
    ProtectionStorageMask,
    QueryFunction,
    RNGAlgorithm,
    RNGMode,
    ShreddingAlgorithm,
    UnwrapMode,
)
from kmip.messages import protocol_version
from kmip.payloads import (
    PAYLOADS,
    DiscoverVersionsRequest,
    DiscoverVersionsResponse,
    InteropRequest,
    InteropResponse,
    LogRequest,
    LogResponse,
    PingRequest,
    PingResponse,
    QueryRequest,
    QueryResponse,
)
from kmip.structures import (
    CapabilityInformation,
    ProfileInformation,
    ProfileVersion,
    ProtectionStorageMasks,
    RNGParameters,
    ServerInformation,
)
from kmip.versions import V1_3, V2_0, VERSIONS, Version

logger = logging.getLogger(__name__)

#: Object types that the server takes and the first and last version that knows them.
OBJECT_TYPES: tuple[ObjectType, ...] = (
    ObjectType.CERTIFICATE,
    ObjectType.SYMMETRIC_KEY,
    ObjectType.PUBLIC_KEY,
    ObjectType.PRIVATE_KEY,
    ObjectType.SPLIT_KEY,
    ObjectType.TEMPLATE,
    ObjectType.SECRET_DATA,
    ObjectType.OPAQUE_OBJECT,
    ObjectType.PGP_KEY,
    ObjectType.CERTIFICATE_REQUEST,
)

#: Profiles of the base part of Profiles 2.1 that the server serves.
PROFILES: tuple[ProfileName, ...] = (ProfileName.BASELINE_SERVER_BASIC_KMIP_V1_2,)


@operation(Operation.QUERY, changes=False)
def query(call: Call, request: QueryRequest) -> QueryResponse:
    """Say what the server can do (KMIP 2.1, 6.1.40); functions that nobody knows are passed over."""
    response = QueryResponse()
    functions = request.query_function or [QueryFunction.QUERY_OPERATIONS, QueryFunction.QUERY_OBJECTS]
    for function in functions:
        answer = _ANSWERS.get(function)
        if answer is not None:
            answer(call, response)
    return response


def offered(version: Version) -> list[Operation]:
    """The operations that the server carries out in a version."""
    return sorted(number for number in HANDLERS if PAYLOADS[number].since <= version)


def _operations(call: Call, response: QueryResponse) -> None:
    response.operation = offered(call.version)


def _objects(call: Call, response: QueryResponse) -> None:
    response.object_type = [one for one in OBJECT_TYPES if one.since <= call.version <= one.until]


def _server_information(call: Call, response: QueryResponse) -> None:
    response.vendor_identification = conf.current().server.vendor_identification
    response.server_information = ServerInformation(
        server_name=conf.current().server.vendor_identification,
        server_version=VERSION,
        product_name="KMIP key management server",
    )


def _application_namespaces(call: Call, response: QueryResponse) -> None:
    """Every namespace is taken, so none is listed."""


def _rngs(call: Call, response: QueryResponse) -> None:
    response.rng_parameters = [RNGParameters(rng_algorithm=RNGAlgorithm.UNSPECIFIED)]


def _profiles(call: Call, response: QueryResponse) -> None:
    response.profile_information = [
        ProfileInformation(
            profile_name=name,
            profile_version=ProfileVersion(profile_version_major=2, profile_version_minor=1),
        )
        for name in PROFILES
    ]


def _capabilities(call: Call, response: QueryResponse) -> None:
    response.capability_information = [
        CapabilityInformation(
            streaming_capability=False,
            asynchronous_capability=False,
            attestation_capability=False,
            batch_undo_capability=True,
            batch_continue_capability=True,
            unwrap_mode=UnwrapMode.PROCESSED,
            destroy_action=DestroyAction.KEY_MATERIAL_DELETED,
            shredding_algorithm=ShreddingAlgorithm.CRYPTOGRAPHIC,
            rng_mode=RNGMode.NON_SHARED_INSTANTIATION,
            quantum_safe_capability=False,
        )
    ]


def _storage_masks(call: Call, response: QueryResponse) -> None:
    response.protection_storage_masks = ProtectionStorageMasks(
        protection_storage_mask=[int(ProtectionStorageMask.SOFTWARE)]
    )


_ANSWERS = {
    QueryFunction.QUERY_OPERATIONS: _operations,
    QueryFunction.QUERY_OBJECTS: _objects,
    QueryFunction.QUERY_SERVER_INFORMATION: _server_information,
    QueryFunction.QUERY_APPLICATION_NAMESPACES: _application_namespaces,
    QueryFunction.QUERY_RNGS: _rngs,
    QueryFunction.QUERY_PROFILES: _profiles,
    QueryFunction.QUERY_CAPABILITIES: _capabilities,
    QueryFunction.QUERY_STORAGE_PROTECTION_MASKS: _storage_masks,
}


@operation(Operation.DISCOVER_VERSIONS, changes=False)
def discover_versions(call: Call, request: DiscoverVersionsRequest) -> DiscoverVersionsResponse:
    """Say which of the client's versions the server speaks, newest first; all where it names none (2.1, 6.1.16)."""
    asked = {(one.protocol_version_major, one.protocol_version_minor) for one in request.protocol_version}
    spoken = [version for version in VERSIONS if not asked or divmod(version, 10) in asked]
    return DiscoverVersionsResponse(protocol_version=[protocol_version(version) for version in spoken])


@operation(Operation.INTEROP, changes=False)
def interop(call: Call, request: InteropRequest) -> InteropResponse:
    """Note where an interoperability test begins and ends (KMIP 2.1, 6.1.26)."""
    logger.info("interop %s %r", request.interop_function, request.interop_identifier[:128])
    return InteropResponse()


@operation(Operation.LOG, changes=False)
def log(call: Call, request: LogRequest) -> LogResponse:
    """Write a client's message to the server's log (KMIP 2.1, 6.1.29)."""
    logger.info("message of %r: %r", call.identity.username, request.log_message[:4096])
    return LogResponse()


@operation(Operation.PING, changes=False)
def ping(call: Call, request: PingRequest) -> PingResponse:
    """Answer (KMIP 2.1, 6.1.36)."""
    return PingResponse()


__all__ = ["V1_3", "V2_0", "offered"]
