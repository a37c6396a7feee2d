"""Every operation with every relation to an object: the rows come from the registry, so that none is left out.

What matters is which failures are about rights: an operation may fail for other reasons once it is let through."""

import re

import pytest
from django.db import transaction

from keystore import access, administration, authn, engine, roles
from keystore.authn import Peer, accounts
from keystore.call import HANDLERS
from keystore.models import Account
from kmip import payloads, ttlv
from kmip.attributes import Attributes, References
from kmip.enums import (
    AdjustmentType,
    CryptographicAlgorithm,
    KeyFormatType,
    ObjectType,
    Operation,
    ResultReason,
    RevocationReasonCode,
    SplitKeyMethod,
)
from kmip.errors import KMIPError
from kmip.objects import KeyBlock, KeyValue, SymmetricKey
from kmip.payloads import PAYLOADS
from kmip.schema import dump
from kmip.structures import RevocationReason
from kmip.tags import Tag
from kmip.ttlv import Item, Type
from kmip.versions import V2_1

pytestmark = pytest.mark.django_db

engine.operations.load()
OPERATIONS = sorted(HANDLERS)
#: Operations whose request names no object: they are about rights of roles only.
ON_NO_OBJECT = {
    number
    for number in OPERATIONS
    if not any(field.name in ("unique_identifier", "private_key_unique_identifier") for field in
               PAYLOADS[number].request._fields)
}  # fmt: skip
ON_OBJECT = [number for number in OPERATIONS if number not in ON_NO_OBJECT]
#: These take the identifier that a new object is to have, an optional object or several.
NOT_THE_OBJECT = {Operation.IMPORT}


def ask(number: Operation, uid: str | None, peer: Peer) -> KMIPError | None:
    """Carry out an operation on an object with a request that says nothing else; how it failed."""
    request = payloads.PAYLOADS[number].request
    fields = {field.name: field for field in request._fields}
    payload = request.__new__(request)
    for name, field in fields.items():
        example = EXAMPLES.get((number, name), EXAMPLES.get(name, [] if field.repeated else None))
        setattr(payload, name, example() if callable(example) else example)
    name = next((one for one in ("unique_identifier", "private_key_unique_identifier") if one in fields), None)
    if name is not None:
        setattr(payload, name, [uid] if fields[name].repeated else uid)
    try:
        with transaction.atomic():
            engine.execute(number, payload, peer)
    except KMIPError as exc:
        assert exc.reason is not ResultReason.GENERAL_FAILURE, f"{number} needs an example"
        return exc
    return None


def comment() -> Attributes:
    """An attribute that may be changed."""
    attributes = Attributes()
    attributes.comment = "a comment"
    return attributes


#: Members without which a request is refused before its object is looked for.
EXAMPLES = {
    "object_type": ObjectType.SYMMETRIC_KEY,
    "data": b"0123456789abcdef",
    "revocation_reason": lambda: RevocationReason(revocation_reason_code=RevocationReasonCode.UNSPECIFIED),
    "new_attribute": comment,
    "attribute_reference": lambda: References([Tag.COMMENT]),
    (Operation.ADJUST_ATTRIBUTE, "attribute_reference"): lambda: References([Tag.CRYPTOGRAPHIC_USAGE_MASK]),
    (Operation.GET_ATTRIBUTES, "attribute_reference"): lambda: References([]),
    "adjustment_type": AdjustmentType.NEGATE,
    "interop_identifier": "TC",
    (Operation.CREATE_SPLIT_KEY, "object_type"): ObjectType.SPLIT_KEY,
    "split_key_parts": 3,
    "split_key_threshold": 2,
    "split_key_method": SplitKeyMethod.POLYNOMIAL_SHARING_GF_2_8,
}


def about_rights(error: KMIPError | None) -> bool:
    """Whether a failure is a refusal."""
    return error is not None and error.reason in (
        ResultReason.PERMISSION_DENIED, ResultReason.OBJECT_NOT_FOUND, ResultReason.AUTHENTICATION_NOT_SUCCESSFUL,
    )  # fmt: skip


def absent(number: Operation, peer: Peer) -> KMIPError | None:
    """The failure for an object that does not exist."""
    return ask(number, "00000000-0000-7000-8000-000000000000", peer)


@pytest.fixture
def alice(person):
    return person("alice")


@pytest.fixture
def key(alice, key_of):
    return key_of(alice)


def same(one: KMIPError | None, other: KMIPError | None) -> None:
    """Two failures answer byte for byte alike."""
    assert one is not None and other is not None
    assert (one.reason, one.message, one.status) == (other.reason, other.message, other.status)


@pytest.mark.parametrize("number", ON_OBJECT, ids=str)
def test_the_owner_is_not_refused(number, alice, key):
    """Whatever else is wrong with the request."""
    if number in NOT_THE_OBJECT:
        return
    error = ask(number, key, alice)
    assert not about_rights(error), error


@pytest.mark.parametrize("number", ON_OBJECT, ids=str)
@pytest.mark.parametrize("relation", ["other user", "other namespace", "other group"])
def test_to_others_the_object_does_not_exist(number, relation, person, alice, key):
    """Neither for another user, nor in another namespace under the owner's very name."""
    if number in NOT_THE_OBJECT:
        return
    other = {
        "other user": lambda: person("bob"),
        "other namespace": lambda: person("alice", "tenant", roles=["administrator"]),
        "other group": lambda: person("carol", groups=["others"]),
    }[relation]()
    if relation == "other group":
        who = authn.identify(alice)
        access.grant(alice, who, key, "group:operators", roles.bits([number]) & ~access._ON_NONE or roles.bits([10]))
    same(ask(number, key, other), absent(number, other))


@pytest.mark.parametrize("number", ON_OBJECT, ids=str)
@pytest.mark.parametrize("to", ["user", "group", "everybody"])
def test_a_grant_allows_its_operation(number, to, person, alice, key, key_of):
    """To a user, to a group that it is a member of, and to everybody: it ends as it does for the owner."""
    if number in NOT_THE_OBJECT or 1 << number & access._ON_NONE:
        return
    bob = person("bob", groups=["operators"])
    principal = {"user": "user:bob", "group": "group:operators", "everybody": "*"}[to]
    access.grant(alice, authn.identify(alice), key, principal, 1 << number)
    error, owner_s = ask(number, key, bob), ask(number, key_of(alice), alice)
    assert (error and error.reason) == (owner_s and owner_s.reason), (error, owner_s)
    assert not about_rights(error)


@pytest.mark.parametrize("number", ON_OBJECT, ids=str)
def test_a_grant_allows_nothing_else(number, person, alice, key):
    """Every operation but one is granted, `get` among them, and that one is refused."""
    if number in NOT_THE_OBJECT or 1 << number & access._ON_NONE:
        return
    bob = person("bob")
    others = roles.bits(one for one in ON_OBJECT if one != number) & ~access._ON_NONE
    access.grant(alice, authn.identify(alice), key, "user:bob", others)
    error = ask(number, key, bob)
    assert error is not None and error.reason is ResultReason.PERMISSION_DENIED, error


@pytest.mark.parametrize("number", OPERATIONS, ids=str)
def test_without_a_credential_nothing_is_allowed(number, alice, key):
    """Whatever the operation."""
    error = ask(number, key, Peer("kmip"))
    assert error is not None and error.reason is ResultReason.AUTHENTICATION_NOT_SUCCESSFUL


@pytest.mark.parametrize("number", OPERATIONS, ids=str)
def test_a_disabled_user_may_do_nothing(number, alice, key):
    """Not even what it owns."""
    Account.objects.filter(username="alice").update(disabled=True)
    authn.forget()
    alice.identity = None
    error = ask(number, key, alice)
    assert error is not None and error.reason is ResultReason.AUTHENTICATION_NOT_SUCCESSFUL


@pytest.mark.parametrize("number", OPERATIONS, ids=str)
def test_a_role_without_the_operation_refuses_it(number, person, alice, key):
    """Even to the owner, and before the request is looked at."""
    peer, root = administration.local("default")
    every = [one.name for one in Operation if one != number]
    administration.set_role(peer, root, "most", operations=every)
    administration.give_role(peer, root, "most", "user:alice")
    authn.forget()
    alice.identity = None
    error = ask(number, key, alice)
    assert error is not None and error.reason is ResultReason.PERMISSION_DENIED


def only(person, *types: str) -> Peer:
    """Alice, whose one role is about objects of some types."""
    peer, root = administration.local("default")
    every = [one.name for one in Operation]
    administration.set_role(peer, root, "typed", operations=every, everywhere=every, object_types=types)
    alice = person("alice", roles=["typed"])
    alice.identity = None
    return alice


@pytest.mark.parametrize("number", ON_OBJECT, ids=str)
def test_a_role_for_other_types_refuses_an_object(number, person, alice, key):
    """Even to its owner, for whom it is as absent; in Locate, too."""
    if number in NOT_THE_OBJECT:
        return
    alice = only(person, "PrivateKey", "SplitKey")
    error = ask(number, key, alice)
    if error is None or error.reason is not ResultReason.PERMISSION_DENIED:
        same(error, absent(number, alice))
    assert engine.execute(Operation.LOCATE, payloads.LocateRequest(), alice).unique_identifier == []


@pytest.mark.parametrize("number", ON_OBJECT, ids=str)
def test_a_role_for_the_type_of_an_object_does_not_refuse_it(number, person, alice, key):
    """Where it is also for the type of what the operation makes."""
    if number in NOT_THE_OBJECT:
        return
    alice = only(person, "SymmetricKey", "SplitKey", "Certificate")
    assert engine.execute(Operation.LOCATE, payloads.LocateRequest(), alice).unique_identifier == [key]
    error = ask(number, key, alice)
    assert not about_rights(error), error


MAKES = {  # an operation that makes objects of another type than the role is about, and what it is asked with
    "Create": (Operation.CREATE, {"object_type": ObjectType.SECRET_DATA, "attributes": Attributes()}),
    "Create Key Pair": (Operation.CREATE_KEY_PAIR, {}),
    "Register": (Operation.REGISTER, {"object_type": ObjectType.OPAQUE_OBJECT, "attributes": Attributes()}),
    "Import": (Operation.IMPORT, {"unique_identifier": "x", "object_type": ObjectType.SECRET_DATA}),
    "Derive Key": (Operation.DERIVE_KEY, {"object_type": ObjectType.SECRET_DATA, "unique_identifier": ["x"]}),
    "Certify": (Operation.CERTIFY, {}),
    "Create Split Key": (Operation.CREATE_SPLIT_KEY, {"object_type": ObjectType.SPLIT_KEY}),
    "Join Split Key": (Operation.JOIN_SPLIT_KEY, {"object_type": ObjectType.PRIVATE_KEY}),
}


@pytest.mark.parametrize("number, given", MAKES.values(), ids=MAKES)
def test_a_role_for_some_types_makes_no_others(number, given, person):
    """Whichever operation would make them."""
    request = payloads.PAYLOADS[number].request
    payload = request.__new__(request)
    for field in request._fields:
        setattr(payload, field.name, given.get(field.name, [] if field.repeated else None))
    with pytest.raises(KMIPError) as refusal:
        engine.execute(number, payload, only(person, "SymmetricKey"))
    assert refusal.value.reason is ResultReason.PERMISSION_DENIED and "no role" in refusal.value.message


@pytest.mark.parametrize("number", OPERATIONS, ids=str)
def test_auditors_see_everything_and_change_nothing(number, person, alice, key):
    """Attributes of every object, but no key material, and no change."""
    auditor = person("auditor", roles=["auditor"])
    error = ask(number, key, auditor)
    if roles.BUILT_IN["auditor"].operations >> number & 1:
        assert not about_rights(error), error
        assert not HANDLERS[number].changes
        assert number not in (Operation.GET, Operation.EXPORT)
    else:
        assert error is not None and error.reason is ResultReason.PERMISSION_DENIED


@pytest.mark.parametrize("number", ON_OBJECT, ids=str)
def test_administrators_reach_every_object_of_their_namespace(number, person, alice, key):
    """And operators those of their operations that give no key away."""
    if number in NOT_THE_OBJECT:
        return
    root = person("root", roles=["administrator"])
    assert not about_rights(ask(number, key, root))


@pytest.mark.parametrize("number", [Operation.GET, Operation.EXPORT, Operation.ENCRYPT, Operation.DECRYPT])
def test_operators_do_not_get_others_keys(number, person, alice, key):
    """They look after keys."""
    if number not in HANDLERS:
        pytest.skip(f"{number} is not offered")
    operator = person("op", roles=["operator"])
    assert not about_rights(ask(Operation.GET_ATTRIBUTES, key, operator))
    error = ask(number, key, operator)
    assert error is not None and error.reason is ResultReason.PERMISSION_DENIED


def test_other_namespaces_answer_byte_for_byte_as_an_absent_object(person, alice, key):
    """On the wire, in every byte but the time."""
    other = person("alice", "tenant")

    def get(uid: str) -> bytes:
        request = Item(
            Tag.REQUEST_MESSAGE,
            Type.STRUCTURE,
            [
                Item(
                    Tag.REQUEST_HEADER,
                    Type.STRUCTURE,
                    [
                        Item(
                            Tag.PROTOCOL_VERSION,
                            Type.STRUCTURE,
                            [
                                Item(Tag.PROTOCOL_VERSION_MAJOR, Type.INTEGER, 2),
                                Item(Tag.PROTOCOL_VERSION_MINOR, Type.INTEGER, 1),
                            ],
                        ),
                        Item(Tag.BATCH_COUNT, Type.INTEGER, 1),
                    ],
                ),
                Item(
                    Tag.BATCH_ITEM,
                    Type.STRUCTURE,
                    [
                        Item(Tag.OPERATION, Type.ENUMERATION, int(Operation.GET)),
                        dump(payloads.GetRequest(unique_identifier=uid), Tag.REQUEST_PAYLOAD, V2_1),
                    ],
                ),
            ],
        )
        answer = engine.handle(ttlv.encode(request), other)
        return re.sub(b"\x42\x00\x92\x09\x00\x00\x00\x08.{8}", b"", answer, flags=re.DOTALL)

    assert get(key) == get("0" * len(key))


def test_identifiers_and_names_belong_to_their_namespace(person, alice):
    """What another namespace has taken is free."""
    from tests.made import named

    def bring(owner, letter: bytes) -> str:
        block = KeyBlock(
            key_format_type=KeyFormatType.RAW,
            key_value=KeyValue(key_material=letter * 16),
            cryptographic_algorithm=CryptographicAlgorithm.AES,
            cryptographic_length=128,
        )
        attributes = Attributes()
        attributes.name = [named("shared")]
        request = payloads.ImportRequest(
            unique_identifier="shared",
            object_type=ObjectType.SYMMETRIC_KEY,
            attributes=attributes,
            symmetric_key=SymmetricKey(key_block=block),
        )
        return engine.execute(Operation.IMPORT, request, owner).unique_identifier

    def material(owner) -> bytes:
        got = engine.execute(Operation.GET, payloads.GetRequest(unique_identifier="shared"), owner)
        return got.symmetric_key.key_block.key_value.key_material

    other = person("alice", "tenant")
    assert bring(alice, b"a") == bring(other, b"b") == "shared"
    assert (material(alice), material(other)) == (b"a" * 16, b"b" * 16)
    with pytest.raises(KMIPError) as refusal:
        bring(alice, b"c")
    assert refusal.value.reason in (ResultReason.OBJECT_ALREADY_EXISTS, ResultReason.NON_UNIQUE_NAME_ATTRIBUTE)


def test_every_operation_is_in_the_matrix():
    """Each is about an object or about none, and has a name in the access API."""
    assert set(ON_OBJECT) | ON_NO_OBJECT == set(HANDLERS)
    assert {Operation.GET, Operation.DESTROY, Operation.GET_ATTRIBUTES} <= set(ON_OBJECT)
    for number in HANDLERS:
        assert roles.operation_named(roles.name_of(number)) is number
    assert accounts is not None
