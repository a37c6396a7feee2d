"""Re-key and Re-key Key Pair: a key that takes another's place, its Name and most of its attributes."""

import logging
from typing import Final

from keystore import addressing, objects, policy, rules, states, store, wrapped
from keystore.call import Call, operation
from keystore.crypto import keys
from keystore.operations.create import LONG, add_made, add_pair, asked, check_storage, made_pair, merge
from keystore.store import Managed
from kmip.attributes import BY_TAG, Attributes, By
from kmip.enums import LinkType, ObjectType, Operation, ResultReason, State, WrappingMethod
from kmip.errors import KMIPError
from kmip.payloads import ReKeyKeyPairRequest, ReKeyKeyPairResponse, ReKeyRequest, ReKeyResponse
from kmip.schema import Struct
from kmip.structures import Link
from kmip.tags import Tag

log = logging.getLogger(__name__)

#: Dates that move with the Activation Date (2.1, 6.1.46, Table 303).
_MOVING: Final = (Tag.PROCESS_START_DATE, Tag.PROTECT_STOP_DATE, Tag.DEACTIVATION_DATE)
_DATES: Final = (Tag.ACTIVATION_DATE, *_MOVING)
#: What the new key does not take over (2.1, 6.1.46, Table 304), beside what the server sets.
_NOT_COPIED: Final = frozenset(
    {Tag.LINK, Tag.RANDOM_NUMBER_GENERATOR, Tag.ORIGINAL_CREATION_DATE, Tag.FRESH, Tag.KEY_VALUE_LOCATION}
)


def replacement_attributes(
    call: Call, managed: Managed, requested: tuple[Attributes | None, ...], offset: int | None
) -> Attributes:
    """The attributes of the key that replaces another: its own, the dates moved, and what the request asks for."""
    old = managed.attributes
    attributes = Attributes(
        {
            key: dict(enumerate(values.values()))
            for key, values in old.items()
            if not isinstance(key, Tag) or (BY_TAG[key].set_by is not By.SERVER and key not in _NOT_COPIED)
        }
    )
    if old.key_format_type != keys.default_format(managed.object_type, old.cryptographic_algorithm):
        attributes.key_format_type = old.key_format_type
    more = asked(call, managed.object_type, *requested)
    dated = [BY_TAG[tag].title for tag in _DATES if tag in more]
    if offset is not None and dated:
        raise KMIPError(ResultReason.INVALID_MESSAGE, f"Offset and {dated[0]} contradict one another")
    if offset is not None:
        _move_dates(attributes, old, call.now + offset)
    elif call.dialect and not dated:
        # Its clients take for granted that the new key can be used.
        attributes.activation_date = call.now
    merge(attributes, more)
    attributes.rotate_generation = (old.rotate_generation or 0) + 1
    attributes.link = [
        *more.link, Link(link_type=LinkType.REPLACED_OBJECT_LINK, linked_object_identifier=managed.uid)
    ]  # fmt: skip
    return attributes


def _move_dates(attributes: Attributes, old: Attributes, activation: int) -> None:
    moving = [tag for tag in _MOVING if tag in old]
    if moving and old.activation_date is None:
        raise KMIPError(
            ResultReason.ILLEGAL_OPERATION, "Offset moves dates with the Activation Date, and the key has none"
        )
    attributes.activation_date = activation
    for tag in moving:
        attributes[tag] = {0: old.first(tag) + activation - old.activation_date}


def replace(call: Call, managed: Managed, uid: str) -> None:
    """Let an object give way to the one with `uid`: its Name goes over, and it points there."""
    attributes = managed.attributes
    attributes.name = None
    attributes.link = [
        *attributes.link,
        Link(link_type=LinkType.REPLACEMENT_OBJECT_LINK, linked_object_identifier=uid),
    ]
    attributes.rotate_latest = False
    attributes.rotate_date = call.now
    rules.touched(managed, call.now)
    store.save(managed)


def _replaceable(managed: Managed, *types: ObjectType) -> Managed:
    if managed.object_type not in types:
        raise KMIPError(ResultReason.INVALID_OBJECT_TYPE, f"{managed.object_type} cannot be re-keyed so")
    if managed.attributes.key_value_present is False:
        raise KMIPError(ResultReason.KEY_VALUE_NOT_PRESENT, "the server does not hold the material of this key")
    return managed


@operation(Operation.RE_KEY)
def re_key(call: Call, request: ReKeyRequest) -> ReKeyResponse:
    """Make a key that replaces a symmetric key (KMIP 2.1, 6.1.46)."""
    check_storage(request.protection_storage_masks, ResultReason.PROTECTION_STORAGE_UNAVAILABLE)
    managed = _replaceable(call.live(request.unique_identifier), ObjectType.SYMMETRIC_KEY, ObjectType.SECRET_DATA)
    uid = rekey(call, managed, request.attributes, offset=request.offset)
    call.returns(uid)
    return ReKeyResponse(unique_identifier=uid)


def rekey(call: Call, managed: Managed, *requested: Attributes | None, offset: int | None = None) -> str:
    """Replace a symmetric key that the caller has checked; returns the new identifier."""
    attributes = replacement_attributes(call, managed, requested, offset)
    rules.check_generator(attributes, objects.KERNEL)
    uid = store.new_uid()
    # The old key gives up its Name before the new one takes it.
    replace(call, managed, uid)
    add_made(call, managed.object_type, uid, attributes)
    if call.dialect and attributes.state == State.ACTIVE:
        _rewrap(call, managed.uid, uid)
    return uid


def _rewrap(call: Call, old: str, new: str) -> None:
    """Wrap by the new key what is kept wrapped by the old one, as clients of the JSON dialect expect."""
    link = Link(link_type=LinkType.WRAPPING_KEY_LINK, linked_object_identifier=old)
    found = store.with_attribute(
        policy.visible(call.identity), Tag.LINK, [link], call.now, namespace=call.identity.namespace
    )
    for uid in store.uids(found, 0, addressing.MOST):
        managed = call.seen(uid)
        try:
            structure = _wrapped_anew(call, managed, old, new)
        except KMIPError as exc:
            # Whoever brought it may have lied about the key, and must not keep others from replacing theirs.
            log.warning("%s stays wrapped by %s: %s", uid, old, exc.message)
            continue
        if structure is not None:
            objects.derive(managed.attributes, managed.object_type, structure)
            managed.material = objects.encode(managed.object_type, structure)
            rules.touched(managed, call.now)
            store.save(managed)


def _wrapped_anew(call: Call, managed: Managed, old: str, new: str) -> Struct | None:
    """The structure of an object that one key merely encrypts, encrypted by another instead; None where it is not kept
    so, whatever its links say. Raises `KMIPError` where the server cannot do it."""
    if managed.blob is None or managed.columns["archive_date"] is not None:
        return None
    structure: Struct = objects.decode(managed)
    block = objects.key_block(structure)
    data = block.key_wrapping_data if block is not None else None
    if block is None or data is None or data.wrapping_method != WrappingMethod.ENCRYPT:
        return None
    key = data.encryption_key_information
    if key is None or key.unique_identifier != old:
        return None
    wrapped.unwrap(call, block)
    wrapped.wrap_under(call, block, new, data.encoding_option, managed.attributes)
    return structure


def _pair_of(call: Call, managed: Managed, *, change: bool) -> Managed:
    """The public key that a private key links to."""
    for link in managed.attributes.link:
        if link.link_type == LinkType.PUBLIC_KEY_LINK and isinstance(link.linked_object_identifier, str):
            public = call.object(link.linked_object_identifier, change=change)
            if public.state not in states.DESTROYED:
                return public
    raise KMIPError(ResultReason.INVALID_FIELD, "the private key has no Link to a public key that is left")


_Pair = tuple[Attributes, Attributes, keys.Pair]


def new_pair(call: Call, request: ReKeyKeyPairRequest) -> _Pair | None:
    """The material of the new pair, before the transaction; None where the old one comes from the same batch."""
    if not isinstance(request.private_key_unique_identifier, str):
        return None
    private = call.live(request.private_key_unique_identifier, change=False)
    _replaceable(private, ObjectType.PRIVATE_KEY)
    return _made(call, request, private, _pair_of(call, private, change=False))


def _made(call: Call, request: ReKeyKeyPairRequest, private: Managed, public: Managed) -> _Pair:
    common, offset = request.common_attributes, request.offset
    ours = replacement_attributes(call, private, (common, request.private_key_attributes), offset)
    theirs = replacement_attributes(call, public, (common, request.public_key_attributes), offset)
    return ours, theirs, made_pair(call, ours, theirs)


def takes_long(call: Call, request: ReKeyKeyPairRequest) -> bool:
    """Whether making the pair takes seconds."""
    if not isinstance(request.private_key_unique_identifier, str):
        return False
    private = call.live(request.private_key_unique_identifier, change=False)
    return (private.columns["cryptographic_length"] or 0) >= LONG


@operation(Operation.RE_KEY_KEY_PAIR, prepare=new_pair, long=takes_long)
def re_key_key_pair(call: Call, request: ReKeyKeyPairRequest) -> ReKeyKeyPairResponse:
    """Make a key pair that replaces another (KMIP 2.1, 6.1.47)."""
    for masks, reason in (
        (request.common_protection_storage_masks, ResultReason.PRIVATE_PROTECTION_STORAGE_UNAVAILABLE),
        (request.private_protection_storage_masks, ResultReason.PRIVATE_PROTECTION_STORAGE_UNAVAILABLE),
        (request.public_protection_storage_masks, ResultReason.PUBLIC_PROTECTION_STORAGE_UNAVAILABLE),
    ):
        check_storage(masks, reason)
    private = _replaceable(call.live(request.private_key_unique_identifier), ObjectType.PRIVATE_KEY)
    private_uid, public_uid = rekey_pair(call, request, private)
    return ReKeyKeyPairResponse(private_key_unique_identifier=private_uid, public_key_unique_identifier=public_uid)


def rekey_pair(call: Call, request: ReKeyKeyPairRequest, private: Managed) -> tuple[str, str]:
    """Replace the pair of a private key that the caller has checked; returns the new identifiers."""
    public = _pair_of(call, private, change=True)
    pair = None
    if call.prepared is not None:
        # The attributes are read again: another change may have come between.
        _, _, pair = call.prepared
    common, offset = request.common_attributes, request.offset
    ours = replacement_attributes(call, private, (common, request.private_key_attributes), offset)
    theirs = replacement_attributes(call, public, (common, request.public_key_attributes), offset)
    if pair is None:
        pair = made_pair(call, ours, theirs)
    private_uid = store.new_uid()
    public_uid = private_uid + "_pk" if call.dialect else store.new_uid()
    replace(call, private, private_uid)
    replace(call, public, public_uid)
    add_pair(call, (private_uid, ours), (public_uid, theirs), pair)
    return private_uid, public_uid
