"""Wrapped keys: a Key Wrapping Specification carried out, and Key Wrapping Data undone (2.1, 3.3 and 7.18).

A wrapping key is used like any other: whoever wraps with it needs the right to encrypt with it, whoever unwraps the
right to decrypt; MACs and signatures likewise. What its state, dates and usage mask say counts too.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Final, NamedTuple, TypeVar

from keystore import addressing, ca, objects, opened, uses
from keystore.call import Call
from keystore.crypto import wrapping
from keystore.crypto.algorithms import bad
from keystore.crypto.wrapping import Using
from keystore.opened import Opened
from keystore.store import Managed
from kmip import ttlv
from kmip.attributes import Attributes, Vendor, key_of
from kmip.enums import CryptographicUsageMask as Mask
from kmip.enums import EncodingOption, LinkType, ObjectType, Operation, ResultReason, WrappingMethod
from kmip.errors import KMIPError
from kmip.objects import KeyBlock, KeyValue
from kmip.schema import Struct, dump
from kmip.structures import (
    CryptographicParameters,
    EncryptionKeyInformation,
    KeyWrappingData,
    KeyWrappingSpecification,
    Link,
    MACSignatureKeyInformation,
)
from kmip.tags import Tag
from kmip.ttlv import Item, Type

O = ObjectType  # noqa: E741 - one letter like the other enumerations
W = WrappingMethod
Information = EncryptionKeyInformation | MACSignatureKeyInformation
T = TypeVar("T", EncryptionKeyInformation, MACSignatureKeyInformation)

#: Methods after which the key is no longer to be read.
ENCRYPTING: Final = frozenset({W.ENCRYPT, W.ENCRYPT_THEN_MAC_SIGN, W.MAC_SIGN_THEN_ENCRYPT})
#: What is asked of a wrapping key, by its object type: the use and the right.
_ENCRYPTS: Final = {
    O.SYMMETRIC_KEY: (Mask.WRAP_KEY, Operation.ENCRYPT),
    O.PUBLIC_KEY: (Mask.WRAP_KEY, Operation.ENCRYPT),
    O.CERTIFICATE: (Mask.WRAP_KEY, Operation.ENCRYPT),
}
_DECRYPTS: Final = {
    O.SYMMETRIC_KEY: (Mask.UNWRAP_KEY, Operation.DECRYPT),
    O.PRIVATE_KEY: (Mask.UNWRAP_KEY, Operation.DECRYPT),
}
_AUTHENTICATES: Final = {
    O.SYMMETRIC_KEY: (Mask.MAC_GENERATE, Operation.MAC),
    O.PRIVATE_KEY: (Mask.SIGN, Operation.SIGN),
}
_CHECKS: Final = {
    O.SYMMETRIC_KEY: (Mask.MAC_VERIFY, Operation.MAC_VERIFY),
    O.PUBLIC_KEY: (Mask.VERIFY, Operation.SIGNATURE_VERIFY),
    O.CERTIFICATE: (Mask.VERIFY, Operation.SIGNATURE_VERIFY),
}
#: What is said of a wrapping key that cannot be had (2.1, 6.1.19).
_REASONS: Final = {
    ResultReason.OBJECT_NOT_FOUND: ResultReason.WRAPPING_OBJECT_NOT_FOUND,
    ResultReason.OBJECT_ARCHIVED: ResultReason.WRAPPING_OBJECT_ARCHIVED,
    ResultReason.OBJECT_DESTROYED: ResultReason.WRAPPING_OBJECT_DESTROYED,
}
_SECRET: Final = frozenset({O.SYMMETRIC_KEY, O.PRIVATE_KEY, O.SECRET_DATA, O.SPLIT_KEY})
Roles = dict[ObjectType, tuple[Mask, Operation]]


def is_wrapped(block: KeyBlock | None) -> bool:
    """Whether a Key Block holds a wrapped key."""
    return block is not None and block.key_wrapping_data is not None


def wrap(call: Call, block: KeyBlock | None, specification: KeyWrappingSpecification, attributes: Attributes) -> None:
    """Wrap the key in a Key Block; `attributes` are those of its object, of which the specification may name some."""
    if block is None:
        raise KMIPError(ResultReason.INVALID_OBJECT_TYPE, "only what has a Key Block can be wrapped")
    if not isinstance(block.key_value, KeyValue):
        raise KMIPError(ResultReason.KEY_VALUE_NOT_PRESENT, "there is no Key Value to wrap")
    data = _encoded(call, block.key_value, specification, attributes)
    method = specification.wrapping_method
    outer = _wrapper(call, specification.encryption_key_information, _ENCRYPTS, LinkType.PUBLIC_KEY_LINK)
    inner = _wrapper(call, specification.mac_signature_key_information, _AUTHENTICATES, LinkType.PRIVATE_KEY_LINK)
    _check_parameters(outer)
    _check_parameters(inner)
    with _allocated(outer, len(data)), _allocated(inner, len(data)):
        done = wrapping.wrap(
            method, data, encryption=_using(outer), authentication=_using(inner), policy=call.crypto_policy
        )
    bare = specification.encoding_option == EncodingOption.NO_ENCODING
    block.key_value = KeyValue(key_material=done.data) if bare else done.data
    block.key_wrapping_data = KeyWrappingData(
        wrapping_method=method,
        encryption_key_information=_named(EncryptionKeyInformation, outer),
        mac_signature_key_information=_named(MACSignatureKeyInformation, inner),
        mac_signature=done.mac_signature,
        iv_counter_nonce=done.iv,
        encoding_option=specification.encoding_option,
    )


def keep_wrapped(call: Call, object_type: ObjectType, managed_object: Struct, attributes: Attributes) -> None:
    """Wrap the secret of a new object under the key that clients of the JSON dialect name in an attribute of their own;
    it is kept so, and unwrapped for its uses."""
    named = next((attributes[name] for name in _names() if name in attributes), None)
    if named is None or object_type not in _SECRET:
        return
    block = objects.key_block(managed_object)
    if block is None or is_wrapped(block) or not isinstance(block.key_value, KeyValue):
        return
    uid = next(iter(named.values())).value
    if not isinstance(uid, str):
        raise KMIPError(
            ResultReason.INVALID_ATTRIBUTE_VALUE, f"{addressing.WRAPPING_KEY} is the text of a Unique Identifier"
        )
    bare = isinstance(block.key_value.key_material, bytes)
    wrap_under(call, block, uid, EncodingOption.NO_ENCODING if bare else EncodingOption.TTLV_ENCODING, attributes)


def wrap_under(call: Call, block: KeyBlock, uid: str, option: EncodingOption | None, attributes: Attributes) -> None:
    """Wrap the key in the Key Block of an object with these attributes by another, to be kept so, and link them."""
    specification = KeyWrappingSpecification(
        wrapping_method=W.ENCRYPT,
        encryption_key_information=EncryptionKeyInformation(unique_identifier=uid),
        encoding_option=option,
    )
    wrap(call, block, specification, attributes)
    link(attributes, block)


def link(attributes: Attributes, block: KeyBlock) -> None:
    """Let the attributes of an object name the key that its Key Wrapping Data names: in a Link, and in the attribute of
    the JSON dialect where there is one."""
    data = block.key_wrapping_data
    key = data and (data.encryption_key_information or data.mac_signature_key_information)
    uid = key.unique_identifier if key else None
    if not isinstance(uid, str):
        return
    kind = LinkType.WRAPPING_KEY_LINK
    others = [one for one in attributes.link if one.link_type != kind]
    attributes.link = [*others, Link(link_type=kind, linked_object_identifier=uid)]
    for name in _names():
        if name in attributes:
            attributes[name] = {0: Item(Tag.ATTRIBUTE_VALUE, Type.TEXT_STRING, uid)}


def _names() -> list[Vendor]:
    """The attributes of the JSON dialect that name a wrapping key."""
    return [Vendor(vendor, addressing.WRAPPING_KEY) for vendor in addressing.vendors()]


def _encoded(call: Call, value: KeyValue, specification: KeyWrappingSpecification, attributes: Attributes) -> bytes:
    """The bytes of a Key Value that are wrapped (2.1, 11.18)."""
    option = specification.encoding_option
    if option == EncodingOption.NO_ENCODING:
        if specification.attribute_name:
            raise KMIPError(ResultReason.ENCODING_OPTION_ERROR, "without encoding no attributes can be wrapped")
        if not isinstance(value.key_material, bytes):
            raise KMIPError(ResultReason.ENCODING_OPTION_ERROR, "Key Material that is a structure needs TTLV encoding")
        return value.key_material
    if option not in (None, EncodingOption.TTLV_ENCODING):
        raise KMIPError(ResultReason.ENCODING_OPTION_ERROR, f"encoding option {option} is not supported")
    named = attributes.only([key for name in specification.attribute_name if (key := key_of(name)) in attributes])
    value = KeyValue(key_material=value.key_material, attributes=named or None)
    return ttlv.encode(dump(value, Tag.KEY_VALUE, call.version))


def unwrap(call: Call, block: KeyBlock) -> None:
    """Undo the wrapping of a Key Block; attributes that were wrapped with the key stay in its Key Value."""
    data = block.key_wrapping_data
    value = block.key_value
    bare = isinstance(value, KeyValue)
    wrapped = value.key_material if isinstance(value, KeyValue) else value
    if data is None or not isinstance(wrapped, bytes):
        raise KMIPError(ResultReason.INVALID_FIELD, "a wrapped key is a byte string")
    option = data.encoding_option
    if option not in (None, EncodingOption.NO_ENCODING, EncodingOption.TTLV_ENCODING):
        raise KMIPError(ResultReason.ENCODING_OPTION_ERROR, f"encoding option {option} is not supported")
    plain = wrapping.unwrap(
        data.wrapping_method,
        wrapped,
        encryption=_using(_wrapper(call, data.encryption_key_information, _DECRYPTS, LinkType.PRIVATE_KEY_LINK)),
        authentication=_using(_wrapper(call, data.mac_signature_key_information, _CHECKS, LinkType.PUBLIC_KEY_LINK)),
        iv=data.iv_counter_nonce,
        mac_signature=data.mac_signature,
        policy=call.crypto_policy,
    )
    if option == EncodingOption.NO_ENCODING or (option is None and bare):
        block.key_value = KeyValue(key_material=plain)
    else:
        block.key_value = _decoded(plain)
    block.key_wrapping_data = None
    block.resolve()


def _decoded(plain: bytes) -> KeyValue:
    item = ttlv.decode(plain)
    if item.tag != Tag.KEY_VALUE:
        raise KMIPError(ResultReason.INVALID_FIELD, "what was wrapped is no Key Value")
    return KeyValue.load(item)


class _Wrapper(NamedTuple):
    """A wrapping key in use."""

    managed: Managed
    opened: Opened
    using: Using


def _wrapper(call: Call, information: Information | None, roles: Roles, other: LinkType) -> _Wrapper | None:
    """The key that a part of a specification names, if the caller may use it so.

    Where the name is that of the other half of a pair, its link of the kind `other` leads to the one that is needed.
    """
    if information is None:
        return None
    try:
        managed = call.seen(information.unique_identifier, change=False)
        if managed.object_type not in roles and (uid := ca.linked(managed, other)) is not None:
            managed = call.seen(uid, change=False)
        if managed.object_type not in roles:
            raise KMIPError(ResultReason.INVALID_OBJECT_TYPE, f"{managed.object_type} cannot be used so")
        use, right = roles[managed.object_type]
        call.check(managed, right)
        call.check_live(managed)
        uses.check(managed, use, roles, call.now)
    except KMIPError as exc:
        raise KMIPError(_REASONS.get(exc.reason, exc.reason), f"the wrapping key: {exc.message}") from exc
    key = opened.key_of(managed)
    if key.algorithm is None:
        raise bad("the wrapping key has no Cryptographic Algorithm")
    given = information.cryptographic_parameters
    return _Wrapper(managed, key, Using(key.algorithm, key.key, given or key.parameters))


def _check_parameters(wrapper: _Wrapper | None) -> None:
    """A key that has Cryptographic Parameters wraps with no others (2.1, 7.18); one that has none leaves the choice."""
    if wrapper is None or (given := wrapper.using.parameters) is None:
        return
    own: list[CryptographicParameters] = wrapper.managed.attributes.cryptographic_parameters
    named = {name: value for name, value in vars(given).items() if value is not None}
    if own and not any(all(getattr(one, name) == value for name, value in named.items()) for one in own):
        raise bad("the wrapping key's Cryptographic Parameters are not those of the request")


def _allocated(wrapper: _Wrapper | None, size: int) -> AbstractContextManager[None]:
    return nullcontext() if wrapper is None else uses.allocated(wrapper.managed, wrapper.opened, size)


def _using(wrapper: _Wrapper | None) -> Using | None:
    return None if wrapper is None else wrapper.using


def _named(kind: type[T], wrapper: _Wrapper | None) -> T | None:
    """How the Key Wrapping Data names a key: with the parameters that were used."""
    if wrapper is None:
        return None
    return kind(unique_identifier=wrapper.managed.uid, cryptographic_parameters=wrapping.parameters(wrapper.using))
