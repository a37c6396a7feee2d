"""Operations that find and read objects: Locate, Check, Get, Export, Get Attributes, Get Attribute List."""

from typing import Final

from keystore import formats, objects, policy, store, wrapped
from keystore.call import Call, operation
from keystore.crypto import keys
from keystore.replica import replica
from keystore.store import Managed
from kmip.attributes import Attributes, Key, References, Vendor
from kmip.enums import (
    CryptographicUsageMask,
    KeyFormatType,
    KeyWrapType,
    ObjectGroupMember,
    ObjectType,
    Operation,
    ResultReason,
    StorageStatusMask,
)
from kmip.errors import KMIPError
from kmip.objects import FIELDS, KeyValue
from kmip.payloads import (
    CheckRequest,
    CheckResponse,
    ExportRequest,
    ExportResponse,
    GetAttributeListRequest,
    GetAttributeListResponse,
    GetAttributesRequest,
    GetAttributesResponse,
    GetRequest,
    GetResponse,
    LocateRequest,
    LocateResponse,
)
from kmip.schema import Struct
from kmip.structures import KeyWrappingData, KeyWrappingSpecification
from kmip.tags import Tag
from kmip.ttlv import Item

#: So many objects are counted for Located Items besides those that are passed over.
COUNTED: Final = 4000
#: MySQL's keyring sends it as an attribute (docs/divergences.md).
_STATUS = Vendor("", "Storage Status Mask")


@operation(Operation.LOCATE, changes=False)
def locate(call: Call, request: LocateRequest) -> LocateResponse:
    """Find objects that have all the given attributes, newest first (KMIP 2.1, 6.1.28)."""
    asked = request.attributes if request.attributes is not None else Attributes()
    asked.check_present()
    mask = request.storage_status_mask
    status = asked.pop(_STATUS, None)
    if status is not None and mask is None:
        mask = next(iter(status.values())).value
    if Tag.STATE in asked:
        # Here, because a replica cannot write down what is due.
        store.settle_due(call.now)
    uids, total = replica.read(lambda: _search(call, request, asked, mask))
    if len(uids) == 1:
        call.returns(uids[0])
    else:
        call.batch.placeholder = None
        call.batch.returned += uids
    return LocateResponse(located_items=total, unique_identifier=list(uids))


def _search(call: Call, request: LocateRequest, asked: Attributes, mask: int | None) -> tuple[list[str], int | None]:
    """The identifiers that Locate finds, and how many there are without its limits."""
    found = store.with_status(
        policy.visible(call.identity),
        StorageStatusMask.ON_LINE_STORAGE if mask is None else mask,
    )
    if request.object_group_member == ObjectGroupMember.GROUP_MEMBER_FRESH:
        found = store.with_attribute(found, Tag.FRESH, [True], call.now, namespace=call.identity.namespace)
    for key, values in asked.items():
        found = store.with_attribute(found, key, list(values.values()), call.now, namespace=call.identity.namespace)
    total = None
    offset = max(request.offset_items or 0, 0)
    limit = request.maximum_items
    if request.object_group_member == ObjectGroupMember.GROUP_MEMBER_DEFAULT:
        # The default object of a group is its newest.
        limit = 1 if limit is None else min(limit, 1)
    uids = store.uids(found, offset, limit)
    if limit is None and offset == 0:
        total = len(uids)
    elif len(uids) < (limit or 0) and (uids or offset == 0):
        total = offset + len(uids)
    else:
        # Counting all that a large database has would cost a thousand times the search; the server may decline.
        counted = found[: offset + COUNTED + 1].count()
        total = counted if counted <= offset + COUNTED else None
    return uids, total


@operation(Operation.CHECK, changes=False, brief=True)
def check(call: Call, request: CheckRequest) -> CheckResponse:
    """Ask whether an object could be used so; what is not allowed comes back (KMIP 2.1, 6.1.7)."""
    managed = call.live(request.unique_identifier)
    attributes = managed.attributes
    # Operations behind this one in the batch fail unless the object may be used so.
    call.batch.placeholder = None
    limits = attributes.usage_limits
    if request.usage_limits_count is not None and limits is not None:
        left = managed.usage_remaining if managed.usage_remaining is not None else limits.usage_limits_count
        if request.usage_limits_count > left:
            raise KMIPError(ResultReason.USAGE_LIMIT_EXCEEDED, f"only {left} are left of the Usage Limits")
    mask, own = request.cryptographic_usage_mask, attributes.cryptographic_usage_mask or 0
    if mask is not None and mask & ~own and not own & CryptographicUsageMask.UNRESTRICTED:
        raise KMIPError(
            ResultReason.INCOMPATIBLE_CRYPTOGRAPHIC_USAGE_MASK, "the object may not be used in all of these ways"
        )
    lease = request.lease_time
    if lease is not None and lease > objects.LEASE_TIME:
        # There is no reason for this one: the longest lease that may be granted comes back instead of the identifier.
        return CheckResponse(lease_time=objects.LEASE_TIME)
    call.batch.placeholder = managed.uid
    return CheckResponse(unique_identifier=managed.uid)


@operation(Operation.GET, changes=False, brief=True)
def get(call: Call, request: GetRequest) -> GetResponse:
    """Give an object out (KMIP 2.1, 6.1.19)."""
    managed = call.live(request.unique_identifier)
    managed_object = given(call, managed, request)
    if managed.columns.get("fresh"):
        # The first Get takes an object's freshness (2.1, 4.24).
        call.batch.taken.append(managed.key)
    call.batch.placeholder = managed.uid
    response = GetResponse(object_type=managed.object_type, unique_identifier=managed.uid)
    setattr(response, FIELDS[managed.object_type], managed_object)
    return response


def given(call: Call, managed: Managed, request: GetRequest | ExportRequest) -> Struct:
    """The object as Get and Export give it out."""
    if not managed.columns["extractable"]:
        raise KMIPError(ResultReason.NOT_EXTRACTABLE, "the object may not leave the server")
    specification = request.key_wrapping_specification
    if request.key_wrap_type not in _WRAP_TYPES:
        raise KMIPError(ResultReason.KEY_WRAP_TYPE_NOT_SUPPORTED, f"{request.key_wrap_type} is not supported")
    as_registered = request.key_wrap_type == KeyWrapType.AS_REGISTERED
    if specification is not None and as_registered:
        raise KMIPError(ResultReason.INVALID_FIELD, "a key is given as it was registered, or wrapped anew")
    sensitive = managed.columns["sensitive"]
    if specification is None and not sensitive and _is_stored_so(call, managed, request):
        return objects.as_stored(managed)
    managed_object: Struct = objects.decode(managed)
    block = objects.key_block(managed_object)
    data = block.key_wrapping_data if block is not None else None
    stays = specification is None and request.key_wrap_type != KeyWrapType.NOT_WRAPPED
    if sensitive and not _hides(data if stays else specification):
        raise KMIPError(ResultReason.SENSITIVE, "the object is sensitive: it leaves the server only wrapped")
    if block is not None and data is not None and not stays:
        wrapped.unwrap(call, block)
        # Attributes that came wrapped with the key: clients look for none in the clear.
        block.key_value.attributes = None  # type: ignore[union-attr] # unwrapped, it is a structure
    if specification is not None:
        reformat(call, managed, managed_object, request)
        wrapped.wrap(call, block, specification, shown(managed))
    elif not formats.give_out(call, managed, managed_object, request.key_format_type):
        reformat(call, managed, managed_object, request)
    return managed_object


def _is_stored_so(call: Call, managed: Managed, request: GetRequest | ExportRequest) -> bool:
    """Whether the object is stored in the form in which it is to be given out."""
    wanted = request.key_format_type
    if request.key_compression_type is not None or request.key_wrap_type == KeyWrapType.NOT_WRAPPED:
        return False
    if wanted is None and not call.dialect:
        return True
    return managed.columns["key_format_type"] == KeyFormatType.RAW and wanted in (None, KeyFormatType.RAW)


_WRAP_TYPES = (None, KeyWrapType.NOT_WRAPPED, KeyWrapType.AS_REGISTERED)


def _hides(wrapping: KeyWrappingSpecification | KeyWrappingData | None) -> bool:
    """Whether what is wrapped so cannot be read: a MAC or signature alone hides nothing."""
    return wrapping is not None and wrapping.wrapping_method in wrapped.ENCRYPTING


#: What clients of the JSON dialect get as bare bytes, however it was registered.
RAW_IN_THE_DIALECT: Final = frozenset({ObjectType.SYMMETRIC_KEY, ObjectType.SECRET_DATA})


def reformat(call: Call, managed: Managed, managed_object: Struct, request: GetRequest | ExportRequest) -> None:
    """Bring the Key Block of an object into the Key Format Type that was asked for."""
    block = objects.key_block(managed_object)
    wanted = request.key_format_type
    if block is None:
        own = objects.material_of(managed_object)[1]
        if wanted is not None and wanted != own and managed.object_type != ObjectType.OPAQUE_OBJECT:
            raise KMIPError(
                ResultReason.KEY_FORMAT_TYPE_NOT_SUPPORTED, f"{managed.object_type} is given as {own}, not as {wanted}"
            )
        return
    if block.key_wrapping_data is not None:
        if wanted is not None and wanted != block.key_format_type:
            raise KMIPError(ResultReason.KEY_FORMAT_TYPE_NOT_SUPPORTED, "a wrapped key stays in its format")
        return
    value = block.key_value
    if wanted is None and call.dialect and managed.object_type in RAW_IN_THE_DIALECT:
        wanted = KeyFormatType.RAW
    if not isinstance(value, KeyValue) or (wanted is None and request.key_compression_type is None):
        return
    wanted = wanted or block.key_format_type
    if wanted == block.key_format_type and request.key_compression_type is None:
        return
    material = value.key_material
    if isinstance(material, Item):
        raise KMIPError(
            ResultReason.KEY_FORMAT_TYPE_NOT_SUPPORTED, f"a key of format {block.key_format_type} stays in it"
        )
    value.key_material = keys.convert(
        managed.object_type,
        material,
        block.key_format_type,
        wanted,
        algorithm=block.cryptographic_algorithm,
        compression=request.key_compression_type,
    )
    block.key_format_type = wanted
    block.key_compression_type = request.key_compression_type


@operation(Operation.EXPORT, changes=False)
def export(call: Call, request: ExportRequest) -> ExportResponse:
    """Give an object out with all its attributes (KMIP 2.1, 6.1.18)."""
    managed = call.object(request.unique_identifier)
    attributes = shown(managed)
    result = ExportResponse(object_type=managed.object_type, unique_identifier=managed.uid, attributes=attributes)
    if managed.blob is not None:
        setattr(result, FIELDS[managed.object_type], given(call, managed, request))
    return result


def shown(managed: Managed) -> Attributes:
    """The attributes as a client sees them."""
    attributes = managed.attributes.copy()
    if managed.usage_remaining is not None and attributes.usage_limits is not None:
        attributes.usage_limits.usage_limits_count = managed.usage_remaining
    return attributes


@operation(Operation.GET_ATTRIBUTES, changes=False, brief=True)
def get_attributes(call: Call, request: GetAttributesRequest) -> GetAttributesResponse:
    """Give the attributes that were named and exist, or all (KMIP 2.1, 6.1.20)."""
    managed = call.object(request.unique_identifier)
    attributes = shown(managed)
    names = request.attribute_reference
    if names:
        if len(names) != len(set(names)):
            raise KMIPError(ResultReason.INVALID_MESSAGE, "an attribute is named more than once")
        attributes = attributes.only(dict.fromkeys(names))
    call.batch.placeholder = managed.uid
    return GetAttributesResponse(unique_identifier=managed.uid, attributes=attributes)


@operation(Operation.GET_ATTRIBUTE_LIST, changes=False, brief=True)
def get_attribute_list(call: Call, request: GetAttributeListRequest) -> GetAttributeListResponse:
    """Name the attributes that an object has (KMIP 2.1, 6.1.21)."""
    managed = call.object(request.unique_identifier)
    names: list[Key] = list(shown(managed))
    call.batch.placeholder = managed.uid
    return GetAttributeListResponse(unique_identifier=managed.uid, attribute_reference=References(names))
