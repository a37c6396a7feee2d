"""Operations that bring objects in: Create, Create Key Pair, Register, Import."""

from collections.abc import Set
from typing import Any, Final

from keystore import creation, formats, objects, policy, rules, states, store, tokenkeys, wrapped
from keystore.call import Call, operation
from keystore.crypto import keys
from keystore.crypto.algorithms import row
from kmip.attributes import BY_TAG, Attributes, By, Key
from kmip.enums import (
    CryptographicAlgorithm,
    CryptographicUsageMask,
    KeyFormatType,
    KeyWrapType,
    LinkType,
    ObjectType,
    Operation,
    ResultReason,
    SecretDataType,
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
from kmip.structures import Link, ProtectionStorageMasks
from kmip.tags import Tag

_MASK = CryptographicUsageMask
#: What objects get whose client does not say (2.1, 4, Table 28); Query lists it.
DEFAULTS: Final[dict[ObjectType, dict[str, int]]] = {
    ObjectType.SYMMETRIC_KEY: {
        "cryptographic_algorithm": CryptographicAlgorithm.AES,
        "cryptographic_length": 256,
        "cryptographic_usage_mask": int(_MASK.ENCRYPT | _MASK.DECRYPT),
    },
    ObjectType.PRIVATE_KEY: {
        "cryptographic_algorithm": CryptographicAlgorithm.RSA,
        "cryptographic_length": 2048,
        "cryptographic_usage_mask": int(_MASK.SIGN),
    },
    ObjectType.PUBLIC_KEY: {
        "cryptographic_algorithm": CryptographicAlgorithm.RSA,
        "cryptographic_length": 2048,
        "cryptographic_usage_mask": int(_MASK.VERIFY),
    },
    ObjectType.SECRET_DATA: {"cryptographic_length": 256, "cryptographic_usage_mask": 0},
}


def default_attributes(object_type: ObjectType) -> Attributes:
    """The defaults of a type of object as attributes."""
    attributes = Attributes()
    for name, value in DEFAULTS[object_type].items():
        setattr(attributes, name, value)
    return attributes


#: What a request may say of any object, though the server sets it.
_REPEATED = frozenset({Tag.OBJECT_TYPE})
#: What it may say of an object that it brings along: the object itself counts.
_STATED = _REPEATED | objects.CERTIFICATE_ATTRIBUTES | {Tag.CERTIFICATE_TYPE, Tag.OPAQUE_DATA_TYPE, Tag.KEY_FORMAT_TYPE}
#: What it may choose of an object that the server makes (2.1, 4.26).
_CHOSEN = _REPEATED | {Tag.KEY_FORMAT_TYPE}


def asked(call: Call, object_type: ObjectType, *requested: Attributes | None, stated: Set[Tag] = _STATED) -> Attributes:
    """The attributes that a client asks for a new object, its Templates' under its own (1.4, 2.1.8).

    Of several lists the later takes precedence; attributes of many values have those of all (2.1, 6.1.9).
    """
    attributes = Attributes()
    for one in requested:
        if one is None:
            continue
        for name in one.templates:
            template = store.named(call.identity.namespace, name.name_value, ObjectType.TEMPLATE, call.now)
            if template is None:
                raise KMIPError(ResultReason.ITEM_NOT_FOUND, f"there is no Template with the Name {name.name_value}")
            template = call.live(template.uid, right=Operation.GET, change=False)
            merge(attributes, objects.template_attributes(template))
        merge(attributes, one)
    if call.dialect:
        # Its clients choose identifiers anywhere, not only in Import.
        stated |= {Tag.UNIQUE_IDENTIFIER}
    rules.check_new(attributes, object_type, stated=stated)
    if attributes.object_type is not None and attributes.object_type != object_type:
        raise KMIPError(ResultReason.INVALID_FIELD, "the Object Type attribute is not that of the request")
    return attributes


def merge(attributes: Attributes, more: Attributes) -> None:
    """Put `more` over attributes; those of many values, and custom ones, are added."""
    for key, values in more.items():
        if key in attributes and (not isinstance(key, Tag) or BY_TAG[key].multiple):
            for value in values.values():
                if value not in attributes[key].values():
                    attributes.add(key, value)
        else:
            # The server counts the instances, whatever index the request gives them (1.4, 2.1.1).
            attributes[key] = dict(enumerate(values.values()))


def chosen_uid(attributes: Attributes) -> str:
    """The identifier that a client chose among the attributes, or a new one."""
    uid = attributes.unique_identifier
    return check_uid(uid) if uid is not None else store.new_uid()


def made_uid(attributes: Attributes) -> str:
    """The identifier of a key that the server makes: as chosen, or a new one, which names the token of one in it."""
    uid = chosen_uid(attributes)
    if attributes.unique_identifier is None and tokenkeys.wanted(None, attributes):
        return tokenkeys.uid(uid)
    return uid


def brought_uid(uid: str) -> str:
    """The identifier of an object that a client brings; raises `KMIPError` where it says that the object is in the
    token, which makes its own keys."""
    if uid.startswith(tokenkeys.PREFIX):
        raise KMIPError(ResultReason.INVALID_FIELD, "the token takes in no keys: Create and Create Key Pair make them")
    return uid


def check_uid(uid: Any) -> str:
    """An identifier that a client chose; raises `KMIPError` where it cannot be kept."""
    if not isinstance(uid, str) or not 0 < len(uid) <= 64 or not uid.isprintable():
        raise KMIPError(ResultReason.INVALID_FIELD, "a Unique Identifier has 1 to 64 printable characters")
    # Elsewhere these mean everybody, and objects by their tags: an object called so would be taken for others.
    if uid == "*" or uid != uid.strip() or uid.startswith("["):
        raise KMIPError(ResultReason.INVALID_FIELD, "a Unique Identifier is not *, nor begins with a blank or [")
    return uid


def default_length(algorithm: CryptographicAlgorithm) -> int:
    """The Cryptographic Length of a new key whose client names only the algorithm: the longest of a few, else 256."""
    sizes = row(algorithm).bits
    return max(sizes) if isinstance(sizes, tuple) else 256


def fill_in(attributes: Attributes, object_type: ObjectType) -> None:
    """Give attributes that are required, and that the client left out, their defaults."""
    defaults = DEFAULTS[object_type]
    algorithm = defaults.get("cryptographic_algorithm")
    if attributes.cryptographic_algorithm is None and algorithm is not None:
        attributes.cryptographic_algorithm = CryptographicAlgorithm(algorithm)
    elif attributes.cryptographic_length is None and attributes.cryptographic_algorithm is not None:
        attributes.cryptographic_length = default_length(attributes.cryptographic_algorithm)
    if attributes.cryptographic_length is None:
        attributes.cryptographic_length = defaults["cryptographic_length"]
    if attributes.cryptographic_usage_mask is None:
        attributes.cryptographic_usage_mask = defaults["cryptographic_usage_mask"]


def check_storage(masks: ProtectionStorageMasks | None, reason: ResultReason) -> None:
    """Refuse where none of the Protection Storage Masks that a client permits is ours (2.1, 7.33)."""
    permitted = masks.protection_storage_mask if masks is not None else []
    if permitted and not any(mask and not mask & ~objects.STORAGE for mask in permitted):
        raise KMIPError(reason, "the server protects what it stores in software only")


@operation(Operation.CREATE)
def create(call: Call, request: CreateRequest) -> CreateResponse:
    """Make a symmetric key, or secret data of random bytes (KMIP 2.1, 6.1.8)."""
    object_type = request.object_type
    if object_type not in (ObjectType.SYMMETRIC_KEY, ObjectType.SECRET_DATA):
        raise KMIPError(ResultReason.INVALID_OBJECT_TYPE, f"Create makes symmetric keys and secret data: {object_type}")
    check_storage(request.protection_storage_masks, ResultReason.PROTECTION_STORAGE_UNAVAILABLE)
    attributes = asked(call, object_type, request.attributes, stated=_CHOSEN)
    creation.fill_in(call.creation_rules, object_type, attributes)
    rules.check_generator(attributes, objects.KERNEL)
    uid = made_uid(attributes)
    add_made(call, object_type, uid, attributes)
    call.returns(uid)
    return CreateResponse(object_type=object_type, unique_identifier=uid)


def add_made(call: Call, object_type: ObjectType, uid: str, attributes: Attributes) -> None:
    """Make a symmetric key or secret data with these attributes."""
    fill_in(attributes, object_type)
    rules.check_values(attributes)
    algorithm, length = attributes.cryptographic_algorithm, attributes.cryptographic_length
    format_ = attributes.key_format_type or KeyFormatType.RAW
    if tokenkeys.wanted(uid, attributes):
        if object_type != ObjectType.SYMMETRIC_KEY:
            raise KMIPError(ResultReason.INVALID_OBJECT_TYPE, f"the token does not hold {object_type}")
        made = tokenkeys.make(algorithm, length, uid, call.made)
        absent = objects.keyed(object_type, None, KeyFormatType.RAW, algorithm, length)
        _add_in_token(new(call, object_type, uid, absent, attributes, generated=True), made.pack())
        return
    if object_type == ObjectType.SECRET_DATA and algorithm is None:
        secret, others = keys.generate_secret(length), {"secret_data_type": SecretDataType.SEED}
    else:
        secret, others = keys.generate_symmetric(algorithm, length), {}
        if object_type == ObjectType.SECRET_DATA:
            others["secret_data_type"] = SecretDataType.SEED
    material = keys.convert(object_type, secret, KeyFormatType.RAW, format_)
    managed_object = objects.keyed(object_type, material, format_, algorithm, length, **others)
    store.save(new(call, object_type, uid, managed_object, attributes, generated=True))


def _add_in_token(managed: store.Managed, reference: bytes) -> None:
    """Keep an object, made without Key Value, whose key a token holds."""
    objects.put_in_token(managed, reference)
    store.save(managed)
    tokenkeys.referred(tokenkeys.reference(reference))


def new(
    call: Call, object_type: ObjectType, uid: str, managed_object: Struct, attributes: Attributes, **how: Any
) -> store.Managed:
    """A new object of the caller's, not yet saved; wrapped where the caller's attributes say so."""
    if uid not in call.touched:
        call.touched.append(uid)
    wrapped.keep_wrapped(call, object_type, managed_object, attributes)
    return objects.new(
        uid,
        call.identity.namespace,
        call.identity.username,
        managed_object,
        attributes,
        object_type=object_type,
        now=call.now,
        rules=call.creation_rules,
        **how,
    )


def new_pair(call: Call, request: CreateKeyPairRequest) -> tuple[Attributes, Attributes, keys.Pair]:
    """The attributes of both keys and their material: making an RSA key takes long, so it precedes the transaction."""
    for masks, reason in (
        (request.common_protection_storage_masks, ResultReason.PRIVATE_PROTECTION_STORAGE_UNAVAILABLE),
        (request.private_protection_storage_masks, ResultReason.PRIVATE_PROTECTION_STORAGE_UNAVAILABLE),
        (request.public_protection_storage_masks, ResultReason.PUBLIC_PROTECTION_STORAGE_UNAVAILABLE),
    ):
        check_storage(masks, reason)
    common = request.common_attributes
    private = asked(call, ObjectType.PRIVATE_KEY, common, request.private_key_attributes, stated=_CHOSEN)
    public = asked(call, ObjectType.PUBLIC_KEY, common, request.public_key_attributes, stated=_CHOSEN)
    creation.fill_in(call.creation_rules, ObjectType.PRIVATE_KEY, private)
    creation.fill_in(call.creation_rules, ObjectType.PUBLIC_KEY, public)
    return private, public, made_pair(call, private, public)


#: RSA and similar keys from this length on take seconds to make.
LONG: Final = 8192


def takes_long(call: Call, request: CreateKeyPairRequest) -> bool:
    """Whether making the pair takes seconds."""
    asked_for = (request.common_attributes, request.private_key_attributes, request.public_key_attributes)
    lengths = [one.cryptographic_length for one in asked_for if one is not None]
    return any(length is not None and length >= LONG for length in lengths)


def made_pair(call: Call, private: Attributes, public: Attributes) -> keys.Pair:
    """The material of a pair with these attributes, where those agree that must (2.1, 6.1.9, Table 191)."""
    for attributes in (private, public):
        rules.check_generator(attributes, objects.OPENSSL)
    for tag in (Tag.CRYPTOGRAPHIC_ALGORITHM, Tag.CRYPTOGRAPHIC_LENGTH, Tag.CRYPTOGRAPHIC_DOMAIN_PARAMETERS):
        ours, theirs = private.first(tag), public.first(tag)
        if ours is not None and theirs is not None and ours != theirs:
            raise KMIPError(ResultReason.INVALID_FIELD, f"both keys need the same {BY_TAG[tag].title}")
        for attributes in (private, public):
            if tag not in attributes and (ours is not None or theirs is not None):
                attributes[tag] = {0: ours if ours is not None else theirs}
    if private.cryptographic_algorithm is None:
        for attributes, object_type in ((private, ObjectType.PRIVATE_KEY), (public, ObjectType.PUBLIC_KEY)):
            fill_in(attributes, object_type)
    domain = private.cryptographic_domain_parameters
    curve = domain.recommended_curve if domain is not None else None
    chosen = private.cryptographic_algorithm, private.cryptographic_length
    if tokenkeys.wanted(private.unique_identifier, private):
        pair = tokenkeys.make_pair(
            *chosen,
            curve=curve,
            policy=call.crypto_policy,
            label=private.unique_identifier or store.new_uid(),
            made=call.made,
        )
    else:
        pair = keys.generate_pair(*chosen, curve=curve, policy=call.crypto_policy)
    for attributes, key, object_type in (
        (private, pair.private, ObjectType.PRIVATE_KEY),
        (public, pair.public, ObjectType.PUBLIC_KEY),
    ):
        attributes.cryptographic_length = key.bits
        fill_in(attributes, object_type)
        rules.check_values(attributes)
    return pair


@operation(Operation.CREATE_KEY_PAIR, prepare=new_pair, long=takes_long)
def create_key_pair(call: Call, request: CreateKeyPairRequest) -> CreateKeyPairResponse:
    """Make a private and a public key that link to one another (KMIP 2.1, 6.1.9)."""
    private, public, pair = call.prepared
    # A repeated attempt starts from the same material with attributes of its own.
    private, public = private.copy(), public.copy()
    private_uid = made_uid(private)
    public_uid = chosen_uid(public) if public.unique_identifier is not None else None
    if public_uid is None or public_uid == private_uid:
        public_uid = private_uid + "_pk" if call.dialect else store.new_uid()
    add_pair(call, (private_uid, private), (public_uid, public), pair)
    return CreateKeyPairResponse(private_key_unique_identifier=private_uid, public_key_unique_identifier=public_uid)


def add_pair(call: Call, private: tuple[str, Attributes], public: tuple[str, Attributes], pair: keys.Pair) -> None:
    """Keep a new pair under these identifiers, with links to one another."""
    for (uid, attributes), other, link_type, object_type, key in (
        (private, public[0], LinkType.PUBLIC_KEY_LINK, ObjectType.PRIVATE_KEY, pair.private),
        (public, private[0], LinkType.PRIVATE_KEY_LINK, ObjectType.PUBLIC_KEY, pair.public),
    ):
        attributes.link = [*attributes.link, Link(link_type=link_type, linked_object_identifier=other)]
        format_ = attributes.key_format_type or keys.default_format(object_type, key.algorithm, key.curve)
        how: dict[str, Any] = {"generated": True, "generator": objects.OPENSSL, "known": key}
        if tokenkeys.is_reference(key.data):
            absent = objects.keyed(object_type, None, format_, key.algorithm, key.bits)
            _add_in_token(new(call, object_type, uid, absent, attributes, **how), key.data)
            continue
        material = keys.write(object_type, key.data, format_)
        managed_object = objects.keyed(object_type, material, format_, key.algorithm, key.bits)
        store.save(new(call, object_type, uid, managed_object, attributes, **how))
    call.returns(private[0], public[0])
    call.batch.identifiers[UniqueIdentifierEnumeration.CREATE_KEY_PAIR_PRIVATE_KEY] = private[0]
    call.batch.identifiers[UniqueIdentifierEnumeration.CREATE_KEY_PAIR_PUBLIC_KEY] = public[0]


def brought(call: Call, request: Any, object_type: ObjectType) -> Struct:
    """The object that a request brings along, of the type it says."""
    field = FIELDS.get(object_type)
    if field is None or not object_type.since <= call.version <= object_type.until:
        raise KMIPError(ResultReason.INVALID_OBJECT_TYPE, f"{object_type} is not an Object Type of this version")
    managed_object = getattr(request, field)
    if managed_object is None:
        raise KMIPError(ResultReason.INVALID_FIELD, f"the request brings no {object_type}")
    assert isinstance(managed_object, Struct)
    return managed_object


def _inside(managed_object: Struct) -> Attributes:
    """The attributes inside the object's Key Value; they become attributes of the object (2.1, 3.2)."""
    block = objects.key_block(managed_object)
    value = block.key_value if block is not None else None
    inside = getattr(value, "attributes", None)
    if inside is None:
        return Attributes()
    value.attributes = None  # type: ignore[union-attr]
    return Attributes({key: values for key, values in inside.items() if not _set_by_server(key)})


def _set_by_server(key: Key) -> bool:
    return isinstance(key, Tag) and BY_TAG[key].set_by is By.SERVER


@operation(Operation.REGISTER)
def register(call: Call, request: RegisterRequest) -> RegisterResponse:
    """Take in an object that the client made (KMIP 2.1, 6.1.43)."""
    object_type = request.object_type
    managed_object = brought(call, request, object_type)
    check_storage(request.protection_storage_masks, ResultReason.PROTECTION_STORAGE_UNAVAILABLE)
    attributes = asked(call, object_type, _inside(managed_object), request.attributes)
    if object_type == ObjectType.TEMPLATE:
        _name_template(managed_object, attributes)
    creation.fill_in(call.creation_rules, object_type, attributes, brought=True)
    formats.take_in(call, object_type, managed_object, attributes)
    known = describe(object_type, managed_object, attributes)
    rules.check_values(attributes)
    uid = brought_uid(chosen_uid(attributes))
    store.save(new(call, object_type, uid, managed_object, attributes, generated=False, known=known))
    call.returns(uid)
    return RegisterResponse(unique_identifier=uid)


def _name_template(template: Any, attributes: Attributes) -> None:
    """A Name among the attributes that a Template holds is its own: a profile's test case puts it there, though 1.4,
    2.2.6 wants it outside."""
    held = template.attributes
    if held is not None and Tag.NAME in held:
        merge(attributes, held.only([Tag.NAME]))
        del held[Tag.NAME]


def describe(object_type: ObjectType, managed_object: Struct, attributes: Attributes) -> keys.Key | None:
    """Fill in algorithm, length, usage mask and links of an object that was brought along, as far as it tells them;
    returns the key that was read."""
    known = None
    block = objects.key_block(managed_object)
    if block is not None:
        if wrapped.is_wrapped(block):
            wrapped.link(attributes, block)
        else:
            known = _read(object_type, block)
    if attributes.cryptographic_usage_mask is None and object_type not in WITHOUT_MASK:
        # Clients leave it out (docs/divergences.md).
        attributes.cryptographic_usage_mask = DEFAULTS.get(object_type, {}).get("cryptographic_usage_mask", 0)
    return known


#: Objects that need no Cryptographic Usage Mask.
WITHOUT_MASK: Final = frozenset({ObjectType.OPAQUE_OBJECT, ObjectType.TEMPLATE})


def _read(object_type: ObjectType, block: Any) -> keys.Key | None:
    material = getattr(block.key_value, "key_material", None)
    if object_type not in (ObjectType.PRIVATE_KEY, ObjectType.PUBLIC_KEY) or not isinstance(material, bytes | Struct):
        return None
    try:
        known = keys.read(object_type, block.key_format_type, material, algorithm=block.cryptographic_algorithm)
    except KMIPError:
        # It is kept as it came: some keys can be stored though nothing here can use them.
        return None
    block.cryptographic_algorithm = block.cryptographic_algorithm or known.algorithm
    block.cryptographic_length = block.cryptographic_length or known.bits
    return known


@operation(Operation.IMPORT)
def import_(call: Call, request: ImportRequest) -> ImportResponse:
    """Take in an object, and all that another server said of it, under an identifier that the client chooses (KMIP
    2.1, 6.1.25)."""
    uid = brought_uid(check_uid(call.resolve(request.unique_identifier)))
    object_type = request.object_type or _only(request)
    managed_object = brought(call, request, object_type)
    call.touched.append(uid)
    block = objects.key_block(managed_object)
    if block is not None and wrapped.is_wrapped(block) and request.key_wrap_type == KeyWrapType.NOT_WRAPPED:
        wrapped.unwrap(call, block)
    existing = store.fetch(uid, call.now, call.identity, lock=True)
    if existing is not None:
        if not request.replace_existing:
            raise KMIPError(ResultReason.OBJECT_ALREADY_EXISTS, "another object has this identifier")
        call.object(uid, right=Operation.DESTROY)
        if tokenkeys.is_reference(existing.stored_material()):
            raise KMIPError(ResultReason.OBJECT_ALREADY_EXISTS, "a key in the token is not replaced: destroy it")
        if not policy.decides(call.identity, existing):
            # Whoever may merely destroy it would become the owner of what others know by this identifier.
            raise KMIPError(ResultReason.PERMISSION_DENIED, "only the owner replaces an object")
        store.delete(existing)
    given = Attributes()
    for part in (_inside(managed_object), request.attributes):
        merge(given, part or Attributes())
    attributes = asked(call, object_type, given, stated=_EVERY)
    said = attributes.copy()
    formats.take_in(call, object_type, managed_object, attributes)
    known = describe(object_type, managed_object, attributes)
    managed = new(call, object_type, uid, managed_object, attributes, generated=False, known=known)
    for key, values in said.items():
        # What was supplied counts more than what the server would set; links to what a file brought along join its own.
        if key not in (Tag.UNIQUE_IDENTIFIER, Tag.OBJECT_TYPE, Tag.USAGE_LIMITS, Tag.LINK):
            managed.attributes[key] = values
    if said.usage_limits is not None and said.usage_limits.usage_limits_count is not None:
        managed.attributes.usage_limits = said.usage_limits
    states.settle(managed.attributes, call.now)
    if managed.attributes.state in states.DESTROYED:
        managed.material = None
    store.save(managed)
    call.returns(uid)
    return ImportResponse(unique_identifier=uid)


def _only(request: ImportRequest) -> ObjectType:
    """The type of the one object that a 1.4 request, which does not say it, brings."""
    present = [kind for kind, name in FIELDS.items() if getattr(request, name) is not None]
    if len(present) != 1:
        raise KMIPError(ResultReason.INVALID_FIELD, "Import brings exactly one object")
    return present[0]


#: Import does not ask who sets an attribute first.
_EVERY: Final = frozenset(BY_TAG[tag].tag for tag in BY_TAG)
