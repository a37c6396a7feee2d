"""Batch Error Continuation Option Undo (2.1, 9.6): of what was undone nothing is left, in the database or in memory."""

from typing import Any

import pytest
from django.apps import apps

from keystore.models import AuditRecord
from kmip.attributes import References
from kmip.enums import (
    BatchErrorContinuationOption,
    BlockCipherMode,
    LinkType,
    ObjectType,
    Operation,
    PaddingMethod,
    QueryFunction,
    ResultStatus,
    RevocationReasonCode,
    SplitKeyMethod,
    UsageLimitsUnit,
)
from kmip.objects import SymmetricKey
from kmip.payloads import (
    ActivateRequest,
    AddAttributeRequest,
    ArchiveRequest,
    CertifyRequest,
    Constraint,
    Constraints,
    CreateKeyPairRequest,
    CreateRequest,
    CreateSplitKeyRequest,
    DefaultsInformation,
    DeleteAttributeRequest,
    DestroyRequest,
    EncryptRequest,
    GetRequest,
    GetUsageAllocationRequest,
    ImportRequest,
    LoginRequest,
    ModifyAttributeRequest,
    ObjectDefaults,
    ObjectTypes,
    ObtainLeaseRequest,
    QueryRequest,
    RecoverRequest,
    RegisterRequest,
    ReKeyRequest,
    RevokeRequest,
    SetAttributeRequest,
    SetConstraintsRequest,
    SetDefaultsRequest,
)
from kmip.structures import RevocationReason, UsageLimits
from kmip.tags import Tag
from kmip.versions import V2_1
from tests.authority import attributes, do, root, sealed  # noqa: F401 - a fixture among them
from tests.made import activate, asked, created, key, located, material, pair, registered, secret, seen
from tests.using import A, create, parameters, wanted
from tests.wire import send

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("sealed")]
O = Operation  # noqa: E741
UNDO = BatchErrorContinuationOption.UNDO
FAILS = (O.GET, GetRequest(unique_identifier="nothing"))
CBC = parameters(block_cipher_mode=BlockCipherMode.CBC, padding_method=PaddingMethod.PKCS5)


def kept() -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table but those of the audit and of the keys that seal."""
    apart = ("audit", "checkpoint", "sealingkey", "rootkey")
    return {
        model._meta.model_name: sorted(map(repr, model._default_manager.values_list()))
        for model in apps.get_app_config("keystore").get_models()
        if not model._meta.model_name.startswith(apart)
    }


def undone(*items):
    """Send items of which the last fails, and see that the others are undone."""
    found = send(*items, FAILS, version=V2_1, batch_error_continuation_option=UNDO).batch_item
    assert len(found) == len(items) + 1, [(one.operation, one.result_message) for one in found]
    assert {one.result_status for one in found[:-1]} == {ResultStatus.OPERATION_UNDONE}
    return found


def test_nothing_is_left_of_any_kind_of_change():
    """One of each, and what it would have changed is as it was; what was done is in the audit as undone."""
    issuer, (private, _) = root(), pair()
    limits = UsageLimits(usage_limits_total=100, usage_limits_unit=UsageLimitsUnit.BYTE)
    old, new, away = create(usage_limits=limits), created(names=["n"]), create()
    do(O.ARCHIVE, ArchiveRequest(unique_identifier=away))
    located()
    before = kept()
    reason = RevocationReason(revocation_reason_code=RevocationReasonCode.KEY_COMPROMISE)
    types = ObjectTypes(object_type=[ObjectType.SYMMETRIC_KEY])
    common = asked(cryptographic_algorithm=A.ECDSA, cryptographic_length=256)
    certified = attributes("leaf", algorithm=A.EC, links=[(LinkType.CERTIFICATE_LINK, issuer)])
    items = [
        (O.CREATE, CreateRequest(object_type=ObjectType.SYMMETRIC_KEY, attributes=wanted(algorithm=A.AES, length=128))),
        (O.CREATE_KEY_PAIR, CreateKeyPairRequest(common_attributes=common)),
        (O.REGISTER, RegisterRequest(object_type=ObjectType.SECRET_DATA, attributes=asked(), secret_data=secret())),
        (O.ADD_ATTRIBUTE, AddAttributeRequest(unique_identifier=new, new_attribute=asked(comment="c"))),
        (O.MODIFY_ATTRIBUTE, ModifyAttributeRequest(unique_identifier=new, new_attribute=asked(comment="d"))),
        (O.SET_ATTRIBUTE, SetAttributeRequest(unique_identifier=new, new_attribute=asked(description="e"))),
        (O.DELETE_ATTRIBUTE,
         DeleteAttributeRequest(unique_identifier=new, attribute_reference=References([Tag.NAME]))),
        (O.ACTIVATE, ActivateRequest(unique_identifier=new)),
        (O.REVOKE, RevokeRequest(unique_identifier=private, revocation_reason=reason)),
        (O.DESTROY, DestroyRequest(unique_identifier=private)),
        (O.ENCRYPT, EncryptRequest(unique_identifier=old, cryptographic_parameters=CBC, data=bytes(10))),
        (O.GET_USAGE_ALLOCATION, GetUsageAllocationRequest(unique_identifier=old, usage_limits_count=5)),
        (O.OBTAIN_LEASE, ObtainLeaseRequest(unique_identifier=old)),
        (O.GET, GetRequest(unique_identifier=old)),
        (O.RE_KEY, ReKeyRequest(unique_identifier=old)),
        (O.RECOVER, RecoverRequest(unique_identifier=away)),
        (O.ARCHIVE, ArchiveRequest(unique_identifier=old)),
        (O.CERTIFY, CertifyRequest(attributes=certified)),
        (O.REVOKE, RevokeRequest(unique_identifier=issuer, revocation_reason=reason)),
        (O.CREATE_SPLIT_KEY, CreateSplitKeyRequest(
            object_type=ObjectType.SPLIT_KEY, split_key_parts=2, split_key_threshold=2,
            split_key_method=SplitKeyMethod.XOR, attributes=wanted(length=128))),
        (O.SET_DEFAULTS, SetDefaultsRequest(defaults_information=DefaultsInformation(
            object_defaults=[ObjectDefaults(object_types=types, attributes=asked(comment="d"))]))),
        (O.SET_CONSTRAINTS, SetConstraintsRequest(constraints=Constraints(
            constraint=[Constraint(object_types=types, attributes=asked(cryptographic_length=256))]))),
        (O.LOGIN, LoginRequest()),
        (O.QUERY, QueryRequest(query_function=[QueryFunction.QUERY_OPERATIONS])),
    ]  # fmt: skip
    undone(*items)
    assert kept() == before
    assert seen(old).usage_limits.usage_limits_count == 100 and seen(new).comment is None
    records = AuditRecord.objects.filter(operation="Destroy")
    assert [one.result for one in records] == ["Undone"]
    # Names and defaults of what was undone are free and forgotten.
    assert seen(created(names=["other"])).comment is None


def _imports(uid, given):
    return ImportRequest(
        unique_identifier=uid,
        object_type=ObjectType.SYMMETRIC_KEY,
        replace_existing=True,
        attributes=wanted(),
        symmetric_key=SymmetricKey(key_block=key(given).key_block),
    )


def test_no_cache_remembers_what_was_undone():
    """The versions of a row begin where they were: what was looked up under one must not answer for the next."""
    first, second, third = bytes(16), b"2" * 16, b"3" * 16
    uid = registered(material=first)
    activate(uid)
    encrypt = EncryptRequest(unique_identifier=uid, cryptographic_parameters=CBC, data=b"x", iv_counter_nonce=bytes(16))
    plain = do(O.ENCRYPT, encrypt).data
    undone(
        (O.IMPORT, _imports(uid, second)), (O.ENCRYPT, encrypt), (O.GET, GetRequest(unique_identifier=uid)),
        (O.ADD_ATTRIBUTE, AddAttributeRequest(unique_identifier=uid, new_attribute=asked(comment="undone"))),
    )  # fmt: skip
    assert material(uid) == first and do(O.ENCRYPT, encrypt).data == plain and seen(uid).comment is None
    do(O.IMPORT, _imports(uid, third))
    do(O.ADD_ATTRIBUTE, AddAttributeRequest(unique_identifier=uid, new_attribute=asked(comment="done")))
    assert material(uid) == third and seen(uid).comment == "done"
    other = registered(material=third)
    activate(other)
    encrypt.unique_identifier = other
    expected = do(O.ENCRYPT, encrypt).data
    encrypt.unique_identifier = uid
    assert do(O.ENCRYPT, encrypt).data == expected != plain
