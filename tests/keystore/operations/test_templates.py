"""Templates of 1.x: stored, found, given out, destroyed, and named where others are made (1.4, 2.1.8 and 2.2.6)."""

import pytest

from kmip.enums import CryptographicAlgorithm, ObjectType, Operation, QueryFunction, ResultReason, State
from kmip.objects import Template
from kmip.payloads import (
    ActivateRequest,
    CreateKeyPairRequest,
    CreateRequest,
    DestroyRequest,
    GetRequest,
    LocateRequest,
    QueryRequest,
    RegisterRequest,
    ReKeyRequest,
)
from kmip.versions import V1_0, V1_2, V1_4, V2_1
from tests.authority import do, sealed  # noqa: F401 - a fixture among them
from tests.made import asked, key, named, seen
from tests.wire import one, why

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("sealed")]
A = CryptographicAlgorithm


def template(name, user="alice", version=V1_2, **values):
    request = RegisterRequest(
        object_type=ObjectType.TEMPLATE,
        attributes=asked(names=[name]),
        template=Template(attributes=asked(**values)),
    )
    return one(Operation.REGISTER, request, version=version, user=user).unique_identifier


def using(*names, **values):
    attributes = asked(**values)
    attributes.templates = [named(name) for name in names]
    return attributes


@pytest.mark.parametrize("version", [V1_0, V1_2, V1_4])
def test_a_template_s_attributes_go_to_the_objects_made_with_it(version):
    """What the request says itself comes first; of several Templates the later one."""
    template("aes", cryptographic_algorithm=A.AES, cryptographic_length=256, cryptographic_usage_mask=4)
    template("short", cryptographic_length=128, contact_information="bob")
    request = CreateRequest(
        object_type=ObjectType.SYMMETRIC_KEY, attributes=using("aes", "short", cryptographic_usage_mask=12)
    )
    attributes = seen(one(Operation.CREATE, request, version=version).unique_identifier)
    assert (attributes.cryptographic_algorithm, attributes.cryptographic_length) == (A.AES, 128)
    assert attributes.cryptographic_usage_mask == 12 and attributes.contact_information == "bob"
    assert attributes.name == [], "a Template's own Name stays its own"


def test_key_pairs_registered_objects_and_re_keyed_keys_take_them_too():
    template("pair", cryptographic_algorithm=A.ECDSA, cryptographic_length=256)
    template("who", contact_information="bob")
    request = CreateKeyPairRequest(
        common_attributes=using("pair"), private_key_attributes=using("who"), public_key_attributes=using()
    )
    made = one(Operation.CREATE_KEY_PAIR, request, version=V1_4)
    assert seen(made.private_key_unique_identifier).contact_information == "bob"
    assert seen(made.public_key_unique_identifier).contact_information is None
    request = RegisterRequest(object_type=ObjectType.SYMMETRIC_KEY, attributes=using("who"), symmetric_key=key())
    uid = one(Operation.REGISTER, request, version=V1_4).unique_identifier
    assert seen(uid).contact_information == "bob"
    template("whom", contact_information="carol")
    request = ReKeyRequest(unique_identifier=uid, attributes=using("whom"))
    assert seen(one(Operation.RE_KEY, request, version=V1_4).unique_identifier).contact_information == "carol"


def test_a_template_is_located_and_got_as_it_was_registered():
    uid = template("aes", cryptographic_algorithm=A.AES, cryptographic_length=256)
    request = LocateRequest(attributes=asked(object_type=ObjectType.TEMPLATE))
    assert one(Operation.LOCATE, request, version=V1_2).unique_identifier == [uid]
    found = one(Operation.GET, GetRequest(unique_identifier=uid), version=V1_2)
    assert found.object_type == ObjectType.TEMPLATE
    assert found.template.attributes == asked(cryptographic_algorithm=A.AES, cryptographic_length=256)


def test_a_destroyed_template_is_not_used_and_its_name_is_free():
    uid = template("aes", cryptographic_algorithm=A.AES, cryptographic_length=256)
    do(Operation.DESTROY, DestroyRequest(unique_identifier=uid))
    assert seen(uid).state == State.DESTROYED
    request = CreateRequest(object_type=ObjectType.SYMMETRIC_KEY, attributes=using("aes"))
    assert why(Operation.CREATE, request, version=V1_2) == ResultReason.ITEM_NOT_FOUND
    template("aes", cryptographic_algorithm=A.AES)


def test_a_template_of_somebody_else_does_not_exist():
    template("aes", cryptographic_algorithm=A.AES, cryptographic_length=256)
    request = CreateRequest(object_type=ObjectType.SYMMETRIC_KEY, attributes=using("aes"))
    assert why(Operation.CREATE, request, version=V1_2, user="bob") == ResultReason.ITEM_NOT_FOUND


def test_the_name_of_another_object_names_no_template():
    request = CreateRequest(object_type=ObjectType.SYMMETRIC_KEY, attributes=asked(names=["k"]))
    one(Operation.CREATE, request, version=V1_2)
    request = CreateRequest(object_type=ObjectType.SYMMETRIC_KEY, attributes=using("k"))
    assert why(Operation.CREATE, request, version=V1_2) == ResultReason.ITEM_NOT_FOUND


def test_a_template_has_no_life_of_its_own():
    uid = template("aes", cryptographic_algorithm=A.AES)
    assert (
        why(Operation.ACTIVATE, ActivateRequest(unique_identifier=uid), version=V1_2) == ResultReason.ILLEGAL_OPERATION
    )


def test_2_x_has_no_templates():
    request = RegisterRequest(
        object_type=ObjectType.TEMPLATE,
        attributes=asked(),
        template=Template(attributes=asked(contact_information="b")),
    )
    assert why(Operation.REGISTER, request, version=V2_1) == ResultReason.INVALID_OBJECT_TYPE
    query = QueryRequest(query_function=[QueryFunction.QUERY_OBJECTS])
    assert ObjectType.TEMPLATE not in one(Operation.QUERY, query, version=V2_1).object_type
    assert ObjectType.TEMPLATE in one(Operation.QUERY, query, version=V1_2).object_type
