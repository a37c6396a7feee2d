"""Create Split Key and Join Split Key: a key in parts, each an object of its own (2.1, 6.1.10, 6.1.27 and 13.1)."""

import os
from typing import Final

from keystore import objects, store, wrapped
from keystore.call import Call, operation
from keystore.crypto import keys, splitting
from keystore.operations.create import asked, chosen_uid, new
from keystore.store import Managed
from kmip.attributes import Attributes, Vendor, vendor_text
from kmip.enums import CryptographicAlgorithm, KeyFormatType, ObjectType, Operation, ResultReason, SplitKeyMethod
from kmip.errors import KMIPError
from kmip.objects import KeyValue, SplitKey
from kmip.payloads import CreateSplitKeyRequest, CreateSplitKeyResponse, JoinSplitKeyRequest, JoinSplitKeyResponse
from kmip.schema import Struct
from kmip.tags import Tag
from kmip.ttlv import Item

#: Which parts belong together and the bytes of their secret: "<random number> <length>". Clients see it, as
#: `y-SplitKeySet` in 1.x; parts that a client registers have none.
SET: Final = Vendor("y", "SplitKeySet")
#: What can be split and joined.
_KEYS: Final = frozenset({ObjectType.PRIVATE_KEY, ObjectType.PUBLIC_KEY})
_SECRETS: Final = _KEYS | {ObjectType.SYMMETRIC_KEY, ObjectType.SECRET_DATA}
_FORMATS: Final = {ObjectType.PRIVATE_KEY: KeyFormatType.PKCS_8, ObjectType.PUBLIC_KEY: KeyFormatType.X_509}


@operation(Operation.CREATE_SPLIT_KEY)
def create_split_key(call: Call, request: CreateSplitKeyRequest) -> CreateSplitKeyResponse:
    """Split a new key, or one that exists, into parts (KMIP 2.1, 6.1.10)."""
    if request.object_type != ObjectType.SPLIT_KEY:
        raise KMIPError(ResultReason.INVALID_OBJECT_TYPE, "Create Split Key makes objects of type Split Key")
    method, parts, threshold = request.split_key_method, request.split_key_parts, request.split_key_threshold
    splitting.check(method, parts, threshold)
    attributes = asked(call, ObjectType.SPLIT_KEY, request.attributes)
    if attributes.unique_identifier is not None and parts > 1:
        raise KMIPError(ResultReason.INVALID_FIELD, "one Unique Identifier cannot be that of all parts")
    if request.unique_identifier is not None:
        whole = call.live(request.unique_identifier, change=False)
        call.hold(whole, Operation.GET)  # Whoever has the parts has the key.
        secret = _existing(call, whole, attributes)
    else:
        secret = _new(attributes)
    prime = _prime(request, len(secret))
    shares = splitting.split(method, secret, parts=parts, threshold=threshold, prime=prime)
    attributes.update(vendor_text(SET.name, f"{os.urandom(16).hex()} {len(secret)}", SET.vendor))
    uids = []
    for identifier, share in shares.items():
        part = objects.keyed(
            ObjectType.SPLIT_KEY,
            share,
            KeyFormatType.RAW,
            attributes.cryptographic_algorithm,
            attributes.cryptographic_length,
            split_key_parts=parts,
            key_part_identifier=identifier,
            split_key_threshold=threshold,
            split_key_method=method,
            prime_field_size=prime,
        )
        uids.append(_add(call, ObjectType.SPLIT_KEY, part, attributes.copy(), generated=True))
    call.returns(*uids)
    return CreateSplitKeyResponse(unique_identifier=list(uids))


def _existing(call: Call, managed: Managed, attributes: Attributes) -> bytes:
    """The secret in an object, whose attributes take precedence over those asked for."""
    if managed.object_type not in _SECRETS:
        raise KMIPError(ResultReason.INVALID_OBJECT_TYPE, f"{managed.object_type} cannot be split")
    own = managed.attributes
    for tag in (Tag.CRYPTOGRAPHIC_ALGORITHM, Tag.CRYPTOGRAPHIC_LENGTH, Tag.CRYPTOGRAPHIC_USAGE_MASK):
        if tag in own:
            attributes[tag] = dict(own[tag])
    # Who may not take the key out may not take it out in parts either.
    attributes.sensitive = bool(own.sensitive or attributes.sensitive)
    attributes.extractable = own.extractable is not False and attributes.extractable is not False
    managed_object = objects.decode(managed)
    block = objects.key_block(managed_object)
    value = block.key_value if block is not None else None
    if block is None or block.key_wrapping_data is not None or not isinstance(value, KeyValue):
        raise KMIPError(ResultReason.BAD_CRYPTOGRAPHIC_PARAMETERS, "a wrapped key cannot be split")
    material = value.key_material
    if managed.object_type == ObjectType.SECRET_DATA and isinstance(material, bytes):
        return material
    assert not isinstance(material, Item)
    return keys.read(managed.object_type, block.key_format_type, material, algorithm=block.cryptographic_algorithm).data


def _new(attributes: Attributes) -> bytes:
    algorithm, bits = attributes.cryptographic_algorithm, attributes.cryptographic_length
    if bits is None:
        raise KMIPError(ResultReason.INVALID_FIELD, "Create Split Key needs a Cryptographic Length, or a key to split")
    if attributes.cryptographic_usage_mask is None:
        attributes.cryptographic_usage_mask = 0
    if algorithm is None:
        if bits <= 0 or bits % 8:
            raise KMIPError(ResultReason.INVALID_FIELD, "Cryptographic Length is a number of whole bytes")
        return os.urandom(bits // 8)
    return keys.generate_symmetric(algorithm, bits)


def _prime(request: CreateSplitKeyRequest, length: int) -> int | None:
    if request.split_key_method != SplitKeyMethod.POLYNOMIAL_SHARING_PRIME_FIELD:
        return None
    if request.prime_field_size is None:
        return splitting.prime_for(length)
    splitting.check_prime(request.prime_field_size, length)
    return request.prime_field_size


def _add(
    call: Call, object_type: ObjectType, managed_object: Struct, attributes: Attributes, *, generated: bool
) -> str:
    uid = chosen_uid(attributes)
    store.save(new(call, object_type, uid, managed_object, attributes, generated=generated))
    return uid


@operation(Operation.JOIN_SPLIT_KEY)
def join_split_key(call: Call, request: JoinSplitKeyRequest) -> JoinSplitKeyResponse:
    """Make an object of the parts of a split one (KMIP 2.1, 6.1.27)."""
    object_type = request.object_type
    if object_type not in _SECRETS:
        raise KMIPError(ResultReason.INVALID_OBJECT_TYPE, f"parts cannot be joined to {object_type}")
    if not request.unique_identifier:
        raise KMIPError(ResultReason.INVALID_FIELD, "Join Split Key names at least one part")
    parts = [call.live(identifier, change=False) for identifier in request.unique_identifier]
    structures = [_part(call, part) for part in parts]
    first, shares = structures[0], _shares(structures)
    secret = splitting.join(
        first.split_key_method,
        shares,
        threshold=_threshold(parts, first),
        length=_length(parts[0], first, len(next(iter(shares.values())))),
        prime=first.prime_field_size,
    )
    attributes = asked(call, object_type, request.attributes)
    for tag in (Tag.CRYPTOGRAPHIC_ALGORITHM, Tag.CRYPTOGRAPHIC_LENGTH, Tag.CRYPTOGRAPHIC_USAGE_MASK):
        if tag not in attributes and tag in parts[0].attributes:
            attributes[tag] = dict(parts[0].attributes[tag])
    if any(part.attributes.sensitive for part in parts):
        attributes.sensitive = True
    if any(part.attributes.extractable is False for part in parts):
        attributes.extractable = False
    if attributes.cryptographic_usage_mask is None:
        attributes.cryptographic_usage_mask = 0
    uid = _add(call, object_type, _joined(request, secret, attributes), attributes, generated=False)
    call.returns(uid)
    return JoinSplitKeyResponse(unique_identifier=uid)


def _part(call: Call, managed: Managed) -> SplitKey:
    if managed.object_type != ObjectType.SPLIT_KEY:
        raise KMIPError(ResultReason.INVALID_OBJECT_TYPE, f"{managed.object_type} is no part of a split key")
    structure = objects.decode(managed)
    assert isinstance(structure, SplitKey)
    if wrapped.is_wrapped(structure.key_block):
        wrapped.unwrap(call, structure.key_block)
    return structure


def _shares(parts: list[SplitKey]) -> dict[int, bytes]:
    """The parts' material by Key Part Identifier; raises `KMIPError` where the parts are not of one split."""
    first = parts[0]
    shares: dict[int, bytes] = {}
    for part in parts:
        if (part.split_key_method, part.split_key_parts, part.split_key_threshold, part.prime_field_size) != (
            first.split_key_method,
            first.split_key_parts,
            first.split_key_threshold,
            first.prime_field_size,
        ):
            raise KMIPError(ResultReason.CRYPTOGRAPHIC_FAILURE, "the parts are not of one split key")
        value = part.key_block.key_value
        material = value.key_material if isinstance(value, KeyValue) else None
        if not isinstance(material, bytes):
            raise KMIPError(ResultReason.CRYPTOGRAPHIC_FAILURE, "the material of a part is not a byte string")
        if not 1 <= part.key_part_identifier <= part.split_key_parts:
            raise KMIPError(ResultReason.CRYPTOGRAPHIC_FAILURE, "a Key Part Identifier is not one of Split Key Parts")
        if shares.setdefault(part.key_part_identifier, material) != material:
            raise KMIPError(ResultReason.CRYPTOGRAPHIC_FAILURE, "two parts have the same Key Part Identifier")
    splitting.check(first.split_key_method, first.split_key_parts, first.split_key_threshold)
    return shares


def _set(managed: Managed) -> tuple[str, int] | None:
    """The set that the server put a part into, and the length of its secret."""
    item = managed.attributes.first(SET)
    identifier, _, length = str(item.value).partition(" ") if isinstance(item, Item) else ("", "", "")
    return (identifier, int(length)) if length.isdecimal() else None


def _threshold(parts: list[Managed], first: SplitKey) -> int:
    """How many parts are needed; raises `KMIPError` where the server knows that they are of different splits."""
    if len({_set(part) for part in parts}) > 1:
        raise KMIPError(ResultReason.CRYPTOGRAPHIC_FAILURE, "the parts are of different split keys")
    return first.split_key_parts if first.split_key_method == SplitKeyMethod.XOR else first.split_key_threshold


def _length(managed: Managed, part: SplitKey, share: int) -> int:
    """The bytes of the secret: as the server noted, as Cryptographic Length says, or as many as a share has."""
    known = _set(managed)
    if known is not None:
        return known[1]
    bits = managed.attributes.cryptographic_length
    if part.prime_field_size is not None:
        longest = (part.prime_field_size.bit_length() - 1) // 8
        return min(longest, -(-bits // 8)) if bits else longest
    if part.split_key_method == SplitKeyMethod.POLYNOMIAL_SHARING_GF_2_16 and bits and share - 1 == -(-bits // 8):
        return share - 1
    return share


def _joined(request: JoinSplitKeyRequest, secret: bytes, attributes: Attributes) -> Struct:
    object_type, algorithm = request.object_type, attributes.cryptographic_algorithm
    if object_type in _KEYS:
        return _joined_key(object_type, secret, algorithm, attributes)
    others = {}
    if object_type == ObjectType.SECRET_DATA:
        if request.secret_data_type is None:
            raise KMIPError(ResultReason.INVALID_FIELD, "Join Split Key to Secret Data needs a Secret Data Type")
        others["secret_data_type"] = request.secret_data_type
    return objects.keyed(object_type, secret, KeyFormatType.RAW, algorithm, attributes.cryptographic_length, **others)


def _joined_key(
    object_type: ObjectType, secret: bytes, algorithm: CryptographicAlgorithm | None, attributes: Attributes
) -> Struct:
    try:
        key = keys.read(object_type, _FORMATS[object_type], secret, algorithm=algorithm)
    except KMIPError as exc:
        raise KMIPError(ResultReason.CRYPTOGRAPHIC_FAILURE, "the parts do not give a key") from exc
    attributes.cryptographic_algorithm, attributes.cryptographic_length = key.algorithm, key.bits
    format_ = keys.default_format(object_type, key.algorithm, key.curve)
    return objects.keyed(object_type, keys.write(object_type, key.data, format_), format_, key.algorithm, key.bits)
