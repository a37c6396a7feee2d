"""Operations about the server itself: Query, Discover Versions, Interop, Log, Ping."""

import logging
from typing import Final, NamedTuple

from keystore import conf, objects, policy, store, streams
from keystore.call import HANDLERS, Call, operation
from keystore.conf import Config
from keystore.operations.create import DEFAULTS, default_attributes
from keystore.version import VERSION
from kmip.enums import (
    DestroyAction,
    ItemType,
    ObjectType,
    Operation,
    ProfileName,
    QueryFunction,
    ResultReason,
    RNGMode,
    ShreddingAlgorithm,
    UnwrapMode,
)
from kmip.errors import KMIPError
from kmip.messages import protocol_version
from kmip.payloads import (
    PAYLOADS,
    DefaultsInformation,
    DiscoverVersionsRequest,
    DiscoverVersionsResponse,
    InteropRequest,
    InteropResponse,
    LogRequest,
    LogResponse,
    ObjectDefaults,
    ObjectTypes,
    PingRequest,
    PingResponse,
    QueryRequest,
    QueryResponse,
)
from kmip.schema import Encoded, Struct, encode
from kmip.structures import (
    CapabilityInformation,
    ExtensionInformation,
    ProfileInformation,
    ProfileVersion,
    ProtectionStorageMasks,
    ServerInformation,
)
from kmip.tags import Extension, Tag
from kmip.versions import V2_0, VERSIONS, Version

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

_BASELINE: Final = frozenset(
    {
        Operation.LOCATE,
        Operation.CHECK,
        Operation.GET,
        Operation.GET_ATTRIBUTES,
        Operation.GET_ATTRIBUTE_LIST,
        Operation.ADD_ATTRIBUTE,
        Operation.MODIFY_ATTRIBUTE,
        Operation.DELETE_ATTRIBUTE,
        Operation.ACTIVATE,
        Operation.REVOKE,
        Operation.DESTROY,
        Operation.QUERY,
        Operation.DISCOVER_VERSIONS,
    }
)
#: Operations that the server sends, and takes from nobody; it carries out all others.
TO_CLIENTS: Final = frozenset({Operation.NOTIFY, Operation.PUT})
#: What a server profile asks for beyond the baseline; the names go on with a version in 1.x (2.1, 11.41).
PROFILES: Final[dict[str, frozenset[Operation]]] = {
    "BaselineServer": frozenset(),
    "CompleteServer": frozenset(PAYLOADS) - TO_CLIENTS,
    "TapeLibraryServer": frozenset({Operation.CREATE}),
    "SymmetricKeyLifecycleServer": frozenset({Operation.CREATE}),
    "AsymmetricKeyLifecycleServer": frozenset({Operation.CREATE_KEY_PAIR}),
    "BasicCryptographicServer": frozenset({Operation.ENCRYPT, Operation.DECRYPT}),
    "AdvancedCryptographicServer": frozenset(
        {
            Operation.ENCRYPT,
            Operation.DECRYPT,
            Operation.SIGN,
            Operation.SIGNATURE_VERIFY,
            Operation.MAC,
            Operation.MAC_VERIFY,
            Operation.RNG_RETRIEVE,
            Operation.RNG_SEED,
            Operation.HASH,
        }
    ),
    "RNGCryptographicServer": frozenset({Operation.RNG_RETRIEVE, Operation.RNG_SEED}),
    "SymmetricKeyFoundryServer": frozenset({Operation.CREATE}),
    "OpaqueManagedObjectStoreServer": frozenset({Operation.REGISTER}),
    "SuiteBMinLOS_128Server": frozenset(
        {
            Operation.CREATE,
            Operation.CREATE_KEY_PAIR,
            Operation.REGISTER,
            Operation.RE_KEY,
            Operation.RE_KEY_KEY_PAIR,
        }
    ),
    "SuiteBMinLOS_192Server": frozenset(
        {
            Operation.CREATE,
            Operation.CREATE_KEY_PAIR,
            Operation.REGISTER,
            Operation.RE_KEY,
            Operation.RE_KEY_KEY_PAIR,
        }
    ),
    "StorageArrayWithSelfEncryptingDriveServer": frozenset({Operation.REGISTER}),
    "HTTPSServer": frozenset(),
    "JSONServer": frozenset(),
    "XMLServer": frozenset(),
    "AESXTSServer": frozenset({Operation.CREATE, Operation.REGISTER, Operation.ENCRYPT, Operation.DECRYPT}),
    "QuantumSafeServer": frozenset({Operation.CREATE, Operation.REGISTER}),
    "PKCS_11Server": frozenset({Operation.PKCS_11}),
}


@operation(Operation.QUERY, changes=False, brief=True)
def query(call: Call, request: QueryRequest) -> Struct:
    """Say what the server can do (KMIP 2.1, 6.1.40); functions that nobody knows are passed over.

    Many clients begin every connection with it: what is the same for all is kept as it was encoded first.
    """
    if request.object_groups is not None:
        _check_groups(call, request.object_groups.object_group)
    # Some clients ask for nothing and expect these (docs/divergences.md).
    functions = request.query_function or [QueryFunction.QUERY_OPERATIONS, QueryFunction.QUERY_OBJECTS]
    if call.dialect and not request.query_function:
        functions = [*functions, QueryFunction.QUERY_SERVER_INFORMATION]
    if QueryFunction.QUERY_EXTENSION_MAP in functions:
        functions = [one for one in functions if one != QueryFunction.QUERY_EXTENSION_LIST]
    return _answered(call, functions)


class _Answers(NamedTuple):
    """Answers to Query under a configuration, by version and functions."""

    config: Config | None
    kept: dict[tuple[int, ...], Encoded]


_answers = _Answers(None, {})
#: Clients ask for a handful of sets of functions; whoever tries out all of them fills no memory.
MAX_KEPT: Final = 256
#: What depends on who asks; all else only on version and configuration.
_OWN: Final = frozenset({QueryFunction.QUERY_DEFAULTS_INFORMATION})


def _answered(call: Call, functions: list[QueryFunction]) -> Encoded:
    global _answers
    config, answers = conf.current(), _answers
    if answers.config is not config:
        _answers = answers = _Answers(config, {})
    key = (call.version, *(int(function) for function in functions))
    answer = answers.kept.get(key)
    if answer is None:
        response = QueryResponse()
        for function in functions:
            if function in _ANSWERS:
                _ANSWERS[function](call, response)
        answer = Encoded(data=encode(response, Tag.RESPONSE_PAYLOAD, call.version))
        if _OWN.isdisjoint(functions) and len(answers.kept) < MAX_KEPT:
            answers.kept[key] = answer
    return answer


def _check_groups(call: Call, groups: list[str]) -> None:
    """Raise `KMIPError` for a group that no object of the client's has; what the server can do is the same for all."""
    for group in groups:
        found = store.with_attribute(
            policy.visible(call.identity), Tag.OBJECT_GROUP, [group], call.now, namespace=call.identity.namespace
        )
        if not found.exists():
            raise KMIPError(ResultReason.UNKNOWN_OBJECT_GROUP, f"no object is in the group {group}")


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
        product_name=f"KMIP key management server, crypto.policy {call.crypto_policy.title}",
    )


def _nothing(call: Call, response: QueryResponse) -> None:
    """What the server has none of: namespaces that it makes up data for, kinds of attestation, validations."""


def _extension_list(call: Call, response: QueryResponse) -> None:
    response.extension_information = [ExtensionInformation(extension_name=one.spelling) for one in Extension]


def _extension_map(call: Call, response: QueryResponse) -> None:
    response.extension_information = [
        ExtensionInformation(
            extension_name=one.spelling,
            extension_tag=int(one),
            extension_type=ItemType.BOOLEAN,
            extension_attribute=False,
        )
        for one in Extension
    ]


def _rngs(call: Call, response: QueryResponse) -> None:
    response.rng_parameters = [objects.KERNEL, objects.OPENSSL]


def profiles(version: Version) -> list[ProfileName]:
    """The server profiles of which every operation is carried out, with the names of a version."""
    return [
        name
        for name in ProfileName
        if name.since <= version <= name.until and _serves(name) and _profile_version(name) <= version
    ]


def _serves(name: ProfileName) -> bool:
    head, server, _ = name.spelling.partition("Server")
    asked = PROFILES.get(head + server)
    return asked is not None and asked | _BASELINE <= HANDLERS.keys()


def _profile_version(name: ProfileName) -> Version:
    """The version in the name of a profile of 1.x: "…KMIPV1_2"."""
    major, _, minor = name.spelling.partition("KMIPV")[2].partition("_")
    return Version(int(major) * 10 + int(minor)) if major else V2_0


def _profiles(call: Call, response: QueryResponse) -> None:
    major, minor = divmod(call.version, 10)
    response.profile_information = [
        ProfileInformation(
            profile_name=name,
            profile_version=ProfileVersion(profile_version_major=major, profile_version_minor=minor),
        )
        for name in profiles(call.version)
    ]


def _capabilities(call: Call, response: QueryResponse) -> None:
    response.capability_information = [
        CapabilityInformation(
            streaming_capability=streams.available(),
            asynchronous_capability=Operation.POLL in HANDLERS,
            attestation_capability=False,
            batch_undo_capability=True,
            batch_continue_capability=True,
            unwrap_mode=UnwrapMode.NOT_PROCESSED,
            destroy_action=DestroyAction.KEY_MATERIAL_DELETED,
            shredding_algorithm=ShreddingAlgorithm.UNSUPPORTED,
            rng_mode=RNGMode.UNSPECIFIED,
            quantum_safe_capability=True,
        )
    ]


def _defaults(call: Call, response: QueryResponse) -> None:
    response.defaults_information = DefaultsInformation(
        object_defaults=[
            *call.creation_rules.defaults,
            *(
                ObjectDefaults(
                    object_types=ObjectTypes(object_type=[object_type]), attributes=default_attributes(object_type)
                )
                for object_type in DEFAULTS
            ),
        ]
    )


def _storage_masks(call: Call, response: QueryResponse) -> None:
    response.protection_storage_masks = ProtectionStorageMasks(protection_storage_mask=[objects.STORAGE])


#: What answers each function; one of the specification that is missing here would be passed over.
_ANSWERS: Final = {
    QueryFunction.QUERY_OPERATIONS: _operations,
    QueryFunction.QUERY_OBJECTS: _objects,
    QueryFunction.QUERY_SERVER_INFORMATION: _server_information,
    QueryFunction.QUERY_APPLICATION_NAMESPACES: _nothing,
    QueryFunction.QUERY_EXTENSION_LIST: _extension_list,
    QueryFunction.QUERY_EXTENSION_MAP: _extension_map,
    QueryFunction.QUERY_ATTESTATION_TYPES: _nothing,
    QueryFunction.QUERY_VALIDATIONS: _nothing,
    QueryFunction.QUERY_CLIENT_REGISTRATION_METHODS: _nothing,
    QueryFunction.QUERY_DEFAULTS_INFORMATION: _defaults,
    QueryFunction.QUERY_RNGS: _rngs,
    QueryFunction.QUERY_PROFILES: _profiles,
    QueryFunction.QUERY_CAPABILITIES: _capabilities,
    QueryFunction.QUERY_STORAGE_PROTECTION_MASKS: _storage_masks,
}


@operation(Operation.DISCOVER_VERSIONS, changes=False, brief=True)
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


@operation(Operation.PING, changes=False, brief=True)
def ping(call: Call, request: PingRequest) -> PingResponse:
    """Answer (KMIP 2.1, 6.1.36)."""
    return PingResponse()
