"""Operations that bring objects in: Create, Create Key Pair, Register, Import."""

from typing import Any

from keystore import formats, objects, rules, states, store
from keystore.call import Call, operation
from keystore.crypto import keys
from keystore.crypto.algorithms import row
from kmip.attributes import BY_TAG, Attributes, By
from kmip.enums import (
    CryptographicAlgorithm,
    CryptographicUsageMask,
    KeyFormatType,
    LinkType,
    ObjectType,
    Operation,
    ResultReason,
    UniqueIdentifierEnumeration,
)
from kmip.errors import KMIPError
from kmip.objects import FIELDS
from kmip.payloads import (
    CreateKeyPairRequest,
    CreateKeyPairResponse,
    CreateRequest,
    CreateResponse,
    ImportRequest,
    ImportResponse,
    RegisterRequest,
    RegisterResponse,
)
from kmip.schema import Struct
from kmip.structures import Link
from kmip.tags import Tag

#: What a client may say of an object that it brings along, though the server sets it otherwise.
_STATED = frozenset({Tag.UNIQUE_IDENTIFIER, Tag.OBJECT_TYPE, Tag.CERTIFICATE_TYPE, Tag.OPAQUE_DATA_TYPE,
                     Tag.KEY_FORMAT_TYPE, Tag.DIGITAL_SIGNATURE_ALGORITHM, Tag.CERTIFICATE_LENGTH,
                     Tag.CERTIFICATE_IDENTIFIER, Tag.CERTIFICATE_SUBJECT, Tag.CERTIFICATE_ISSUER,
                     Tag.X_509_CERTIFICATE_IDENTIFIER, Tag.X_509_CERTIFICATE_SUBJECT,
                     Tag.X_509_CERTIFICATE_ISSUER})  # fmt: skip


def asked(call: Call, object_type: ObjectType, *requested: Attributes | None) -> Attributes:
    """The attributes that a client asks for a new object, its Templates' under its own (1.4, 2.1.8)."""
    attributes = Attributes()
    for one in requested:
        if one is None:
            continue
        for name in one.templates:
            template = objects.by_name(call.identity.namespace, name.name_value, ObjectType.TEMPLATE, call.now)
            if template is None:
                raise KMIPError(ResultReason.ITEM_NOT_FOUND, f"there is no Template with the Name {name.name_value}")
            attributes.update(objects.template_attributes(template).copy())
        attributes.update(one.copy())
    rules.check_new(attributes, object_type, stated=_STATED)
    if attributes.object_type is not None and attributes.object_type != object_type:
        raise KMIPError(ResultReason.INVALID_FIELD, "the Object Type attribute is not that of the request")
    return attributes


def chosen_uid(attributes: Attributes) -> str:
    """The identifier that a client chose among the attributes, or a new one."""
    uid = attributes.unique_identifier
    return check_uid(uid) if uid is not None else store.new_uid()


def check_uid(uid: Any) -> str:
    """An identifier that a client chose; raises `KMIPError` where it cannot be kept."""
    if not isinstance(uid, str) or not 0 < len(uid) <= 64 or not uid.isprintable():
        raise KMIPError(ResultReason.INVALID_FIELD, "a Unique Identifier has 1 to 64 printable characters")
    return uid


def default_length(algorithm: CryptographicAlgorithm) -> int:
    """The Cryptographic Length of a new key whose client names none: the longest of a few, else 256 bits."""
    sizes = row(algorithm).bits
    return max(sizes) if isinstance(sizes, tuple) else 256


@operation(Operation.CREATE)
def create(call: Call, request: CreateRequest) -> CreateResponse:
    """Make a symmetric key, or secret data of random bytes (KMIP 2.1, 6.1.8)."""
    object_type = request.object_type
    if object_type not in (ObjectType.SYMMETRIC_KEY, ObjectType.SECRET_DATA):
        raise KMIPError(ResultReason.INVALID_FIELD, f"Create makes symmetric keys, not {object_type}")
    attributes = asked(call, object_type, request.attributes)
    algorithm = attributes.cryptographic_algorithm
    if algorithm is None:
        raise KMIPError(ResultReason.INVALID_FIELD, "Create needs a Cryptographic Algorithm")
    length = attributes.cryptographic_length
    if length is None:
        length = default_length(algorithm)
        attributes.cryptographic_length = length
    if attributes.cryptographic_usage_mask is None:
        mask = CryptographicUsageMask
        attributes.cryptographic_usage_mask = int(mask.ENCRYPT | mask.DECRYPT)
    material = keys.generate_symmetric(algorithm, length)
    managed_object = objects.keyed(object_type, material, KeyFormatType.RAW, algorithm, length)
    uid = _add(call, object_type, managed_object, attributes, generated=True)
    call.returns(uid)
    return CreateResponse(object_type=object_type, unique_identifier=uid)


def _add(
    call: Call,
    object_type: ObjectType,
    managed_object: Struct,
    attributes: Attributes,
    *,
    generated: bool,
    uid: str | None = None,
) -> str:
    managed = objects.new(
        uid or chosen_uid(attributes),
        call.identity.namespace,
        call.identity.username,
        managed_object,
        attributes,
        object_type=object_type,
        now=call.now,
        generated=generated,
    )
    store.save(managed)
    return managed.uid


def new_pair(call: Call, request: CreateKeyPairRequest) -> tuple[Attributes, Attributes, keys.Pair]:
    """The attributes of both keys and their material: making an RSA key takes long, so it precedes the transaction."""
    private = asked(call, ObjectType.PRIVATE_KEY, request.common_attributes, request.private_key_attributes)
    public = asked(call, ObjectType.PUBLIC_KEY, request.common_attributes, request.public_key_attributes)
    algorithm = private.cryptographic_algorithm
    if algorithm is None or algorithm != public.cryptographic_algorithm:
        raise KMIPError(ResultReason.INVALID_FIELD, "both keys need the same Cryptographic Algorithm")
    if private.cryptographic_length != public.cryptographic_length:
        raise KMIPError(ResultReason.INVALID_FIELD, "both keys need the same Cryptographic Length")
    domain = private.cryptographic_domain_parameters
    pair = keys.generate_pair(
        algorithm,
        private.cryptographic_length,
        curve=domain.recommended_curve if domain is not None else None,
        policy=call.crypto_policy,
    )
    return private, public, pair


@operation(Operation.CREATE_KEY_PAIR, prepare=new_pair)
def create_key_pair(call: Call, request: CreateKeyPairRequest) -> CreateKeyPairResponse:
    """Make a private and a public key that link to one another (KMIP 2.1, 6.1.9)."""
    private, public, pair = call.prepared
    # A repeated attempt starts from the same material with attributes of its own.
    private, public = private.copy(), public.copy()
    private_uid = chosen_uid(private)
    public_uid = chosen_uid(public) if public.unique_identifier is not None else None
    if public_uid is None or public_uid == private_uid:
        public_uid = private_uid + "_pk" if call.dialect else store.new_uid()
    mask = CryptographicUsageMask
    if private.cryptographic_usage_mask is None:
        private.cryptographic_usage_mask = int(mask.SIGN)
    if public.cryptographic_usage_mask is None:
        public.cryptographic_usage_mask = int(mask.VERIFY)
    private.link = [*private.link, Link(link_type=LinkType.PUBLIC_KEY_LINK, linked_object_identifier=public_uid)]
    public.link = [*public.link, Link(link_type=LinkType.PRIVATE_KEY_LINK, linked_object_identifier=private_uid)]
    for object_type, key, uid, attributes in (
        (ObjectType.PRIVATE_KEY, pair.private, private_uid, private),
        (ObjectType.PUBLIC_KEY, pair.public, public_uid, public),
    ):
        attributes.cryptographic_length = key.bits
        format_ = keys.default_format(object_type, key.algorithm, key.curve)
        material = keys.write(object_type, key.data, format_)
        managed_object = objects.keyed(object_type, material, format_, key.algorithm, key.bits)
        _add(call, object_type, managed_object, attributes, generated=True, uid=uid)
    call.returns(private_uid, public_uid)
    call.batch.identifiers[UniqueIdentifierEnumeration.CREATE_KEY_PAIR_PRIVATE_KEY] = private_uid
    call.batch.identifiers[UniqueIdentifierEnumeration.CREATE_KEY_PAIR_PUBLIC_KEY] = public_uid
    return CreateKeyPairResponse(private_key_unique_identifier=private_uid, public_key_unique_identifier=public_uid)


def brought(request: Any, object_type: ObjectType) -> Struct:
    """The object that a request brings along, of the type it says."""
    field = FIELDS.get(object_type)
    managed_object = getattr(request, field) if field is not None else None
    if managed_object is None:
        raise KMIPError(ResultReason.INVALID_FIELD, f"the request brings no {object_type}")
    assert isinstance(managed_object, Struct)
    return managed_object


def _stated(managed_object: Struct) -> Attributes:
    """The attributes inside the object's Key Value; they become attributes of the object (2.1, 3.2)."""
    block = objects.key_block(managed_object)
    value = block.key_value if block is not None else None
    inside = getattr(value, "attributes", None)
    if inside is None:
        return Attributes()
    value.attributes = None  # type: ignore[union-attr]
    return Attributes({key: values for key, values in inside.items() if not _set_by_server(key)})


def _set_by_server(key: Any) -> bool:
    return isinstance(key, Tag) and BY_TAG[key].set_by is By.SERVER


@operation(Operation.REGISTER)
def register(call: Call, request: RegisterRequest) -> RegisterResponse:
    """Take in an object that the client made (KMIP 2.1, 6.1.43)."""
    managed_object = brought(request, request.object_type)
    attributes = asked(call, request.object_type, _stated(managed_object), request.attributes)
    formats.take_in(call, request.object_type, managed_object, attributes)
    describe(request.object_type, managed_object, attributes)
    uid = _add(call, request.object_type, managed_object, attributes, generated=False)
    call.returns(uid)
    return RegisterResponse(unique_identifier=uid)


def describe(object_type: ObjectType, managed_object: Struct, attributes: Attributes) -> None:
    """Fill in algorithm, length and usage mask of an object that was brought along, where its material tells them."""
    block = objects.key_block(managed_object)
    if object_type in (ObjectType.PRIVATE_KEY, ObjectType.PUBLIC_KEY) and block is not None:
        value = block.key_value
        material = getattr(value, "key_material", None)
        if block.key_wrapping_data is None and isinstance(material, bytes | Struct):
            try:
                known = keys.read(object_type, block.key_format_type, material, algorithm=block.cryptographic_algorithm)
            except KMIPError:
                # It is kept as it came: some keys can be stored though nothing here can use them.
                known = None
            if known is not None:
                block.cryptographic_algorithm = block.cryptographic_algorithm or known.algorithm
                block.cryptographic_length = block.cryptographic_length or known.bits
    if attributes.cryptographic_usage_mask is None and object_type != ObjectType.OPAQUE_OBJECT:
        # Clients leave it out (docs/divergences.md); nothing is allowed without a mask.
        attributes.cryptographic_usage_mask = 0


@operation(Operation.IMPORT)
def import_(call: Call, request: ImportRequest) -> ImportResponse:
    """Take in an object under an identifier that the client chooses (KMIP 2.1, 6.1.25)."""
    uid = check_uid(call.resolve(request.unique_identifier))
    object_type = request.object_type
    if object_type is None:
        present = [kind for kind, name in FIELDS.items() if getattr(request, name) is not None]
        if len(present) != 1:
            raise KMIPError(ResultReason.INVALID_FIELD, "Import brings exactly one object")
        object_type = present[0]
    managed_object = brought(request, object_type)
    existing = store.fetch(uid, call.now, call.identity, lock=True)
    if existing is not None:
        if not request.replace_existing:
            raise KMIPError(ResultReason.OBJECT_ALREADY_EXISTS, "another object has this identifier")
        call.object(uid, right=Operation.DESTROY)
        store.delete(existing)
    given = Attributes()
    for part in (_stated(managed_object), request.attributes):
        given.update(part or {})
    imported = _imported(given)
    attributes = asked(call, object_type, Attributes({k: v for k, v in given.items() if k not in imported}))
    formats.take_in(call, object_type, managed_object, attributes)
    describe(object_type, managed_object, attributes)
    managed = objects.new(
        uid,
        call.identity.namespace,
        call.identity.username,
        managed_object,
        attributes,
        object_type=object_type,
        now=call.now,
        generated=False,
    )
    for key, values in imported.items():
        if key not in (Tag.STATE, Tag.UNIQUE_IDENTIFIER, Tag.OBJECT_TYPE):
            managed.attributes[key] = values
    state = imported.state
    if state is not None and state not in states.DESTROYED:
        managed.attributes.state = state
    store.save(managed)
    call.returns(uid)
    return ImportResponse(unique_identifier=uid)


def _imported(given: Attributes) -> Attributes:
    """The attributes that only Import may set: what another server said of the object (2.1, 6.1.25)."""
    return Attributes({key: values for key, values in given.items() if key in _IMPORTED})


_IMPORTED = frozenset({Tag.STATE, Tag.UNIQUE_IDENTIFIER, Tag.OBJECT_TYPE, Tag.INITIAL_DATE, Tag.COMPROMISE_DATE,
                       Tag.COMPROMISE_OCCURRENCE_DATE, Tag.REVOCATION_REASON, Tag.ALWAYS_SENSITIVE,
                       Tag.NEVER_EXTRACTABLE, Tag.LEASE_TIME, Tag.DIGEST, Tag.KEY_FORMAT_TYPE,
                       Tag.RANDOM_NUMBER_GENERATOR, Tag.LAST_CHANGE_DATE, Tag.DESTROY_DATE, Tag.ARCHIVE_DATE,
                       Tag.SHORT_UNIQUE_IDENTIFIER, Tag.PROTECTION_STORAGE_MASK, Tag.ORIGINAL_CREATION_DATE,
                       Tag.ROTATE_DATE, Tag.ROTATE_GENERATION, Tag.ROTATE_LATEST})  # fmt: skip
