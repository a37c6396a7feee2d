"""The rules table of every attribute, as the reference data has it, against what every operation does."""

import pytest

from keystore import store
from keystore.authn import Identity
from kmip.attributes import BY_TAG, BY_TITLE, ROWS, Attributes
from kmip.enums import AdjustmentType, CryptographicAlgorithm, ObjectType, Operation, ResultReason, State
from kmip.errors import KMIPError
from kmip.objects import OpaqueObject
from kmip.payloads import (
    AddAttributeRequest,
    AdjustAttributeRequest,
    CreateRequest,
    DeleteAttributeRequest,
    ImportRequest,
    ModifyAttributeRequest,
    RegisterRequest,
    SetAttributeRequest,
)
from kmip.schema import Struct
from kmip.structures import UsageLimits
from kmip.tags import Tag
from kmip.versions import V1_4, V2_0, V2_1, VERSIONS
from tests.authority import do, root, sealed  # noqa: F401 - a fixture among them
from tests.made import asked, created, key, pair, seen
from tests.reference import REFERENCE, table
from tests.samples import SOON, sample

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("sealed")]
ALICE = Identity("alice", "test")
R, S = ResultReason, State
REFERENCED = {
    int(one["tag"], 16): one for one in (table("attributes.json")["attributes"] if REFERENCE.is_dir() else ())
}
#: Attribute and rules table of the newest version that has it.
RULES = {
    row.tag: list(one["versions"].values())[-1]["rules"]
    for row in ROWS
    if (one := REFERENCED.get(int(row.tag))) is not None
}
each = pytest.mark.parametrize("tag", RULES, ids=lambda tag: tag.name.lower())


def version_of(tag):
    row = BY_TAG[tag]
    return V2_1 if row.in_version(V2_1) else V1_4


def made(tag):
    """An object of a type that the attribute applies to."""
    types = BY_TAG[tag].applies_to
    if ObjectType.SYMMETRIC_KEY in types:
        return created()
    if ObjectType.CERTIFICATE in types:
        return root()
    if ObjectType.PRIVATE_KEY in types:
        return pair()[0]
    opaque = OpaqueObject(opaque_data_type=sample(Tag.OPAQUE_DATA_TYPE, 0), opaque_data_value=b"x")
    request = RegisterRequest(object_type=ObjectType.OPAQUE_OBJECT, attributes=Attributes(), opaque_object=opaque)
    return do(Operation.REGISTER, request).unique_identifier


def put(uid, tag, *values, state=None):
    """Give an object values of an attribute, and a state, whatever the rules say."""
    managed = store.fetch(uid, 0, ALICE)
    if values:
        managed.attributes[tag] = dict(enumerate(_kept(value) for value in values))
    elif tag not in _KEPT:
        managed.attributes.pop(tag, None)
    if state is not None:
        managed.attributes.state = state
    store.save(managed)


def outcome(operation, payload, version):
    """None, or the reason for which an operation fails."""
    try:
        do(operation, payload, version=version)
    except KMIPError as exc:
        return exc.reason
    return None


def one(tag, value):
    return Attributes({tag: {0: value}})


def add(uid, tag, value, version):
    return outcome(
        Operation.ADD_ATTRIBUTE, AddAttributeRequest(unique_identifier=uid, new_attribute=one(tag, value)), version
    )


def modify(uid, tag, value, version):
    request = ModifyAttributeRequest(unique_identifier=uid, new_attribute=one(tag, value))
    return outcome(Operation.MODIFY_ATTRIBUTE, request, version)


def set_(uid, tag, value, version=V2_1):
    return outcome(
        Operation.SET_ATTRIBUTE, SetAttributeRequest(unique_identifier=uid, new_attribute=one(tag, value)), version
    )


def delete(uid, tag, version):
    request = DeleteAttributeRequest(unique_identifier=uid, attribute_reference=[tag])
    return outcome(Operation.DELETE_ATTRIBUTE, request, version)


def by_client(tag):
    return "Client" in RULES[tag]["initially_set_by"]


def changeable(tag, what="modifiable_by_client"):
    return RULES[tag][what].startswith("Yes")


@each
def test_the_row_is_the_reference_s(tag):
    """Versions, multiplicity, whether it is always there, implicit setting and object types are transcribed."""
    row, rules = BY_TAG[tag], RULES[tag]
    entry = REFERENCED[int(tag)]
    known = [version for version in VERSIONS if f"{version // 10}.{version % 10}" in entry["all_versions"]]
    # 1.4 lists the tags of the parts of a certificate's names, and its test cases show them, without a section.
    parts = tag.name.startswith(("CERTIFICATE_SUBJECT_", "CERTIFICATE_ISSUER_"))
    assert [version for version in VERSIONS if row.in_version(version)] == known + [V1_4] * parts
    assert row.multiple == rules["multiple_instances"].startswith("Yes")
    assert row.always == rules["always_has_value"].startswith("Yes")
    text = rules.get("implicitly_set_by", "")
    for operation in (Operation.RE_KEY, Operation.REGISTER, Operation.DERIVE_KEY, Operation.REVOKE, Operation.ARCHIVE):
        named = {"RE_KEY": "Re-key"}.get(operation.name, operation.name.replace("_", " ").title())
        if named in text:
            assert operation in row.implicit, (operation, text)
    everything = rules["applies_to"] in ("All Objects", "All Object Types")
    assert everything == (len(row.applies_to) == len(ObjectType))


@each
def test_adding_it(tag):
    """Only what a client sets can be added, once unless it has several instances, and not to an object of any type."""
    version, uid = version_of(tag), made(tag)
    put(uid, tag)
    first = add(uid, tag, sample(tag, 0), version)
    if not by_client(tag):
        assert first == R.READ_ONLY_ATTRIBUTE
        return
    assert first == (R.ATTRIBUTE_SINGLE_VALUED if tag in _KEPT else None)
    second = add(uid, tag, sample(tag, 1), version)
    assert second == (None if changeable(tag, "multiple_instances") else R.ATTRIBUTE_SINGLE_VALUED)
    assert len(seen(uid)[tag]) == (2 if second is None else 1)


@each
def test_modifying_it(tag):
    """What a client may not modify stays; there must be something to modify."""
    version, uid = version_of(tag), made(tag)
    put(uid, tag)
    if tag not in _KEPT:
        assert modify(uid, tag, sample(tag, 1), version) == R.ATTRIBUTE_NOT_FOUND
    put(uid, tag, sample(tag, 0))
    reason = modify(uid, tag, sample(tag, 1), version)
    assert reason == (None if changeable(tag) else _fixed(tag, R.ATTRIBUTE_READ_ONLY))
    if tag not in _KEPT:
        assert seen(uid).first(tag) == _kept(sample(tag, 1 if reason is None else 0))


@each
def test_setting_it(tag):
    """Set Attribute adds where there is nothing, and else modifies; of several instances it chooses none (2.1)."""
    if not BY_TAG[tag].in_version(V2_1):
        assert set_(made(tag), tag, sample(tag, 0)) == R.INVALID_FIELD
        return
    uid = made(tag)
    if tag not in _KEPT:
        put(uid, tag)
        assert set_(uid, tag, sample(tag, 0)) == (None if by_client(tag) else R.READ_ONLY_ATTRIBUTE)
    put(uid, tag, sample(tag, 0))
    assert set_(uid, tag, sample(tag, 1)) == (None if changeable(tag) else _fixed(tag, R.READ_ONLY_ATTRIBUTE))
    if BY_TAG[tag].multiple:
        put(uid, tag, sample(tag, 0), sample(tag, 1))
        assert set_(uid, tag, sample(tag, 0)) == R.MULTI_VALUED_ATTRIBUTE


@each
def test_deleting_it(tag):
    version, uid = version_of(tag), made(tag)
    put(uid, tag, sample(tag, 0))
    reason = delete(uid, tag, version)
    assert reason == (None if changeable(tag, "deletable_by_client") else _fixed(tag, R.ATTRIBUTE_READ_ONLY))
    if tag not in _KEPT:
        assert (tag in seen(uid)) == (reason is not None)
        put(uid, tag)
        assert delete(uid, tag, version) == R.ATTRIBUTE_NOT_FOUND


#: Kept in columns that have a value always, or not kept at all.
_KEPT = {Tag.UNIQUE_IDENTIFIER, Tag.OBJECT_TYPE, Tag.STATE, Tag.INITIAL_DATE, Tag.LAST_CHANGE_DATE, Tag.FRESH,
         Tag.SENSITIVE, Tag.EXTRACTABLE}  # fmt: skip


def _kept(value):
    if isinstance(value, UsageLimits):
        value.usage_limits_count = value.usage_limits_total
    return value


def _fixed(tag, reason):
    """The reason why a client changes nothing; an archived object's attributes are fixed whatever they are."""
    return R.OBJECT_ARCHIVED if tag == Tag.ARCHIVE_DATE else reason


@each
def test_asking_for_it_where_an_object_is_made(tag):
    """What the server sets is refused where the server makes the object; one instance is asked for, unless there may
    be several."""
    version = version_of(tag)
    types = BY_TAG[tag].applies_to
    if ObjectType.SYMMETRIC_KEY not in types:
        wanted = asked(cryptographic_algorithm=CryptographicAlgorithm.AES, cryptographic_length=128)
        wanted[tag] = {0: sample(tag, 0)}
        request = CreateRequest(object_type=ObjectType.SYMMETRIC_KEY, attributes=wanted)
        assert outcome(Operation.CREATE, request, version) in (R.ATTRIBUTE_READ_ONLY, R.INVALID_ATTRIBUTE)
        return
    for operation in (Operation.CREATE, Operation.REGISTER, Operation.IMPORT):
        reason = asking(operation, one(tag, sample(tag, 0)), version)
        if tag in _STATED:
            continue
        allowed = by_client(tag) or operation == Operation.IMPORT
        assert reason == (None if allowed else R.ATTRIBUTE_READ_ONLY), operation
        both = Attributes({tag: {0: sample(tag, 0), 1: sample(tag, 1)}})
        if allowed and not BY_TAG[tag].multiple:
            assert asking(operation, both, version) == R.ATTRIBUTE_SINGLE_VALUED, operation


#: What a request may repeat or choose of an object though the server sets it; what must agree with the object.
_STATED = {Tag.OBJECT_TYPE, Tag.KEY_FORMAT_TYPE, Tag.CRYPTOGRAPHIC_ALGORITHM, Tag.CRYPTOGRAPHIC_LENGTH,
           Tag.RANDOM_NUMBER_GENERATOR, Tag.UNIQUE_IDENTIFIER}  # fmt: skip


def asking(operation, attributes, version):
    if operation == Operation.CREATE:
        request: Struct = CreateRequest(object_type=ObjectType.SYMMETRIC_KEY, attributes=attributes)
    elif operation == Operation.REGISTER:
        request = RegisterRequest(object_type=ObjectType.SYMMETRIC_KEY, attributes=attributes, symmetric_key=key())
    else:
        request = ImportRequest(
            unique_identifier=store.new_uid(),
            object_type=ObjectType.SYMMETRIC_KEY,
            attributes=attributes,
            symmetric_key=key(),
        )
    for name in list(attributes):
        # A Name is taken by one object only.
        if name == Tag.NAME:
            for value in attributes[name].values():
                value.name_value += operation.name
    return outcome(operation, request, version)


WHEN = {
    "activation date": (Tag.ACTIVATION_DATE, {S.PRE_ACTIVE}),
    "deactivation date": (Tag.DEACTIVATION_DATE, {S.PRE_ACTIVE, S.ACTIVE}),
    "process start date": (Tag.PROCESS_START_DATE, {S.PRE_ACTIVE, S.ACTIVE}),
    "protect stop date": (Tag.PROTECT_STOP_DATE, {S.PRE_ACTIVE, S.ACTIVE}),
}


@pytest.mark.parametrize("tag, states", WHEN.values(), ids=WHEN)
@pytest.mark.parametrize("state", [S.PRE_ACTIVE, S.ACTIVE, S.DEACTIVATED, S.COMPROMISED])
def test_dates_are_modified_in_some_states_only(tag, states, state):
    uid = created()
    put(uid, tag, SOON, state=state)
    expected = None if state in states else R.WRONG_KEY_LIFECYCLE_STATE
    assert (
        modify(uid, tag, SOON + 10, V1_4) == modify(uid, tag, SOON + 20, V2_1) == set_(uid, tag, SOON + 30) == expected
    )


@pytest.mark.parametrize("tag", [Tag.PROCESS_START_DATE, Tag.PROTECT_STOP_DATE], ids=lambda tag: tag.name.lower())
def test_a_date_that_has_been_reached_stays(tag):
    uid = created()
    put(uid, tag, 1000, state=S.ACTIVE)
    assert modify(uid, tag, SOON, V2_1) == R.WRONG_KEY_LIFECYCLE_STATE


def test_usage_limits_are_fixed_once_drawn_on():
    uid = created()
    put(uid, Tag.USAGE_LIMITS, sample(Tag.USAGE_LIMITS, 0))
    assert modify(uid, Tag.USAGE_LIMITS, sample(Tag.USAGE_LIMITS, 1), V2_1) is None
    assert store.count_down(uid, 1)
    assert modify(uid, Tag.USAGE_LIMITS, sample(Tag.USAGE_LIMITS, 0), V2_1) == R.PERMISSION_DENIED
    assert delete(uid, Tag.USAGE_LIMITS, V2_1) == R.PERMISSION_DENIED


@pytest.mark.parametrize("state", [S.DESTROYED, S.DESTROYED_COMPROMISED])
def test_a_destroyed_object_s_attributes_are_fixed(state):
    uid = created()
    put(uid, Tag.COMMENT, "c", state=state)
    for change in (add(uid, Tag.DESCRIPTION, "d", V2_1), modify(uid, Tag.COMMENT, "d", V2_1),
                   set_(uid, Tag.COMMENT, "d"), delete(uid, Tag.COMMENT, V2_1)):  # fmt: skip
        assert change == R.WRONG_KEY_LIFECYCLE_STATE


@pytest.mark.parametrize("version", VERSIONS)
def test_operations_know_the_attributes_of_their_version_only(version):
    """What the version lacks is not added, modified or deleted."""
    key_, certificate = created(), root()
    for tag in (row.tag for row in ROWS if not row.in_version(version)):
        uid = key_ if ObjectType.SYMMETRIC_KEY in BY_TAG[tag].applies_to else certificate
        assert add(uid, tag, sample(tag, 0), version) == R.INVALID_ATTRIBUTE, tag
        assert modify(uid, tag, sample(tag, 0), version) == R.ATTRIBUTE_NOT_FOUND, tag
        assert delete(uid, tag, version) == R.INVALID_ATTRIBUTE, tag
        if version < V2_0:
            continue
        assert set_(uid, tag, sample(tag, 0), version) == R.INVALID_FIELD, tag
        request = AdjustAttributeRequest(
            unique_identifier=uid, attribute_reference=[tag], adjustment_type=AdjustmentType.INCREMENT
        )
        assert outcome(Operation.ADJUST_ATTRIBUTE, request, version) == R.UNSUPPORTED_ATTRIBUTE, tag


MAKERS = {
    "created": created,
    "private key": lambda: pair()[0],
    "public key": lambda: pair()[1],
    "certificate": root,
    "opaque object": lambda: made(Tag.OPAQUE_DATA_TYPE),
}
#: Objects that have none of an attribute that others always have, as its rules table says in brackets.
_NONE = {
    "opaque object": {"Cryptographic Algorithm", "Cryptographic Length", "Cryptographic Usage Mask"},
}


@pytest.mark.parametrize("kind", MAKERS)
def test_what_shall_always_have_a_value_has_one(kind):
    attributes = seen(MAKERS[kind]())
    expected = {
        row.title
        for row in ROWS
        if row.always and attributes.object_type in row.applies_to and row.in_version(V2_1)
    }  # fmt: skip
    lacking = {title for title in expected if BY_TITLE[title].tag not in attributes}
    assert lacking == _NONE.get(kind, set())
