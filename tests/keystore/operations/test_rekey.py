"""Re-key and Re-key Key Pair: what goes over to the new key, what stays, and who may."""

import time

import pytest

from kmip.attributes import Attributes
from kmip.enums import (
    CryptographicAlgorithm,
    LinkType,
    ObjectType,
    Operation,
    ResultReason,
    RevocationReasonCode,
    RotateNameType,
    State,
    UsageLimitsUnit,
)
from kmip.payloads import (
    ActivateRequest,
    AddAttributeRequest,
    CreateKeyPairRequest,
    CreateRequest,
    DestroyRequest,
    GetRequest,
    RegisterRequest,
    ReKeyKeyPairRequest,
    ReKeyRequest,
    RevokeRequest,
)
from kmip.structures import RevocationReason, RotateName, UsageLimits
from kmip.versions import V1_0, V1_2, V2_1
from tests.authority import do, refused, sealed  # noqa: F401 - a fixture among them
from tests.made import asked, created, located, material, named, pair, registered, secret, seen
from tests.wire import one, send, why

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("sealed")]
L = LinkType


def rekeyed(uid, **request):
    return do(Operation.RE_KEY, ReKeyRequest(unique_identifier=uid, **request)).unique_identifier


def links(uid):
    return [(link.link_type, link.linked_object_identifier) for link in seen(uid).link]


def test_a_re_keyed_key_has_other_material_and_takes_name_and_attributes():
    """The Name moves, algorithm, length and mask are copied, and each key links to the other."""
    old = created(names=["k", "also k"], contact_information="bob", object_group=["g"])
    new = rekeyed(old)
    assert new != old and material(new) != material(old) and len(material(new)) == 16
    before, after = seen(old), seen(new)
    assert before.name == [] and [one.name_value for one in after.name] == ["k", "also k"]
    for same in ("cryptographic_algorithm", "cryptographic_length", "cryptographic_usage_mask", "contact_information"):
        assert getattr(after, same) == getattr(before, same)
    assert after.object_group == ["g"]
    assert links(old) == [(L.REPLACEMENT_OBJECT_LINK, new)] and links(new) == [(L.REPLACED_OBJECT_LINK, old)]
    assert located(attributes=asked(names=["k"])) == [new]
    assert before.digest != after.digest
    assert after.initial_date >= before.initial_date


def test_what_happened_to_the_old_key_does_not_happen_to_the_new_one():
    """Compromise dates and the reason stay behind; the new key's state follows from its own dates."""
    old = created()
    do(Operation.ACTIVATE, ActivateRequest(unique_identifier=old))
    reason = RevocationReason(revocation_reason_code=RevocationReasonCode.KEY_COMPROMISE)
    do(Operation.REVOKE, RevokeRequest(unique_identifier=old, revocation_reason=reason))
    attributes = seen(rekeyed(old))
    assert attributes.compromise_date is None and attributes.revocation_reason is None
    assert attributes.state == State.ACTIVE and seen(old).state == State.COMPROMISED


def test_without_an_offset_the_dates_are_copied():
    now = int(time.time())
    old = created(activation_date=now - 100, deactivation_date=now + 1000, process_start_date=now - 50)
    attributes = seen(rekeyed(old))
    assert attributes.activation_date == now - 100 and attributes.process_start_date == now - 50
    assert attributes.deactivation_date == now + 1000 and attributes.state == State.ACTIVE


def test_with_an_offset_the_dates_move_with_the_activation_date():
    """2.1, 6.1.46, Table 303."""
    now = int(time.time())
    old = created(activation_date=now - 100, protect_stop_date=now + 500, deactivation_date=now + 1000)
    attributes = seen(rekeyed(old, offset=60))
    begin = attributes.activation_date
    assert begin == attributes.initial_date + 60
    assert attributes.protect_stop_date == begin + 600 and attributes.deactivation_date == begin + 1100
    assert attributes.state == State.PRE_ACTIVE


def test_an_offset_with_dates_or_with_nothing_to_move_them_by_is_refused():
    old = created(deactivation_date=int(time.time()) + 1000)
    refused(ResultReason.ILLEGAL_OPERATION, Operation.RE_KEY, ReKeyRequest(unique_identifier=old, offset=0))
    dates = asked(activation_date=int(time.time()))
    request = ReKeyRequest(unique_identifier=old, offset=0, attributes=dates)
    refused(ResultReason.INVALID_MESSAGE, Operation.RE_KEY, request)
    assert links(old) == [], "a refused Re-key leaves nothing behind"


def test_usage_limits_begin_anew():
    limits = UsageLimits(usage_limits_total=10, usage_limits_unit=UsageLimitsUnit.OBJECT)
    old = created(usage_limits=limits)
    after = seen(rekeyed(old)).usage_limits
    assert (after.usage_limits_total, after.usage_limits_count) == (10, 10)


def test_the_request_s_attributes_come_before_the_old_key_s():
    old = created(names=["k"], contact_information="bob")
    attributes = seen(rekeyed(old, attributes=asked(names=["another"], contact_information="carol")))
    assert attributes.contact_information == "carol"
    assert [one.name_value for one in attributes.name] == ["k", "another"]


def test_generations_are_counted_and_only_the_latest_says_so():
    name = RotateName(rotate_name_value="set", rotate_name_type=RotateNameType.UNINTERPRETED_TEXT_STRING)
    first = created(rotate_name=name)
    second = rekeyed(first)
    third = rekeyed(second)
    assert [seen(uid).rotate_generation for uid in (first, second, third)] == [0, 1, 2]
    assert [seen(uid).rotate_latest for uid in (first, second, third)] == [False, False, True]
    assert seen(third).rotate_name == name


def test_what_cannot_be_re_keyed_is_refused_with_the_reason_of_the_version():
    private, _ = pair()
    assert (
        why(Operation.RE_KEY, ReKeyRequest(unique_identifier=private), version=V1_2) == ResultReason.PERMISSION_DENIED
    )
    refused(ResultReason.INVALID_OBJECT_TYPE, Operation.RE_KEY, ReKeyRequest(unique_identifier=private))
    gone = created()
    do(Operation.DESTROY, DestroyRequest(unique_identifier=gone))
    refused(ResultReason.OBJECT_DESTROYED, Operation.RE_KEY, ReKeyRequest(unique_identifier=gone))
    refused(ResultReason.OBJECT_NOT_FOUND, Operation.RE_KEY, ReKeyRequest(unique_identifier="nothing"))


def test_others_do_not_re_key_a_key_that_they_do_not_see():
    old = created(names=["k"])
    refused(ResultReason.OBJECT_NOT_FOUND, Operation.RE_KEY, ReKeyRequest(unique_identifier=old), user="bob")
    assert links(old) == []


def test_the_id_placeholder_becomes_the_new_key():
    """In a batch, Get after Re-key gives the new key; 1.0 spells the attributes its own way."""
    old = created(names=["k"])
    answer = send(
        (Operation.RE_KEY, ReKeyRequest(unique_identifier=old, attributes=asked(names=["b"]))),
        (Operation.GET, GetRequest()),
        version=V1_0,
    )
    rekey, get = (item.response_payload for item in answer.batch_item)
    assert get.unique_identifier == rekey.unique_identifier != old


def test_a_pair_is_replaced_by_a_pair():
    """Names move on both halves, all four keys are linked, and the new public key is the new private key's."""
    private, public = pair(names=[])
    for uid, name in ((private, "mine"), (public, "theirs")):
        do(Operation.ADD_ATTRIBUTE, AddAttributeRequest(unique_identifier=uid, new_attribute=asked(names=[name])))
    made = do(Operation.RE_KEY_KEY_PAIR, ReKeyKeyPairRequest(private_key_unique_identifier=private))
    new_private, new_public = made.private_key_unique_identifier, made.public_key_unique_identifier
    assert (L.PUBLIC_KEY_LINK, new_public) in links(new_private) and (L.REPLACED_OBJECT_LINK, private) in links(
        new_private
    )
    assert (L.PRIVATE_KEY_LINK, new_private) in links(new_public) and (L.REPLACED_OBJECT_LINK, public) in links(
        new_public
    )
    assert links(private) == [(L.PUBLIC_KEY_LINK, public), (L.REPLACEMENT_OBJECT_LINK, new_private)]
    assert [n.name_value for n in seen(new_private).name] == ["mine"] and seen(private).name == []
    assert [n.name_value for n in seen(new_public).name] == ["theirs"] and seen(public).name == []
    assert seen(new_private).cryptographic_domain_parameters == seen(private).cryptographic_domain_parameters
    assert seen(new_public).digest != seen(public).digest


def test_a_pair_made_in_the_same_batch_can_be_replaced_in_it():
    answer = send(
        (Operation.CREATE_KEY_PAIR, _pair_request()),
        (Operation.RE_KEY_KEY_PAIR, ReKeyKeyPairRequest()),
        version=V1_2,
    )
    first, second = (item.response_payload for item in answer.batch_item)
    assert links(first.private_key_unique_identifier)[-1] == (
        L.REPLACEMENT_OBJECT_LINK, second.private_key_unique_identifier
    )  # fmt: skip


def _pair_request():
    common = asked(cryptographic_algorithm=CryptographicAlgorithm.ECDSA, cryptographic_length=256)
    return CreateKeyPairRequest(common_attributes=common)


def test_a_private_key_alone_has_no_pair_to_replace():
    symmetric = created()
    request = ReKeyKeyPairRequest(private_key_unique_identifier=symmetric)
    refused(ResultReason.INVALID_OBJECT_TYPE, Operation.RE_KEY_KEY_PAIR, request)
    private, public = pair()
    do(Operation.DESTROY, DestroyRequest(unique_identifier=public))
    request = ReKeyKeyPairRequest(private_key_unique_identifier=private)
    refused(ResultReason.INVALID_FIELD, Operation.RE_KEY_KEY_PAIR, request)


def test_re_keying_one_half_leaves_nothing_where_the_other_may_not_be_used():
    """Somebody else's names are free again only if the whole pair was replaced."""
    private, public = pair()
    request = ReKeyKeyPairRequest(private_key_unique_identifier=private, common_attributes=asked(names=["same"]))
    refused(ResultReason.NON_UNIQUE_NAME_ATTRIBUTE, Operation.RE_KEY_KEY_PAIR, request)
    assert links(private) == [(L.PUBLIC_KEY_LINK, public)] and located(attributes=asked(names=["same"])) == []


def test_a_registered_key_is_re_keyed_without_its_history():
    old = registered(names=["k"])
    new = rekeyed(old)
    assert seen(old).original_creation_date is None and seen(new).original_creation_date == seen(new).initial_date
    assert seen(new).random_number_generator is not None


def test_a_key_whose_material_is_elsewhere_cannot_be_re_keyed():
    empty = secret()
    empty.key_block.key_value = None
    request = RegisterRequest(object_type=ObjectType.SECRET_DATA, attributes=Attributes(), secret_data=empty)
    uid = one(Operation.REGISTER, request, version=V2_1).unique_identifier
    refused(ResultReason.KEY_VALUE_NOT_PRESENT, Operation.RE_KEY, ReKeyRequest(unique_identifier=uid))


def test_the_name_is_free_for_the_new_key_alone():
    old = created(names=["k"])
    rekeyed(old)
    refused(
        ResultReason.NON_UNIQUE_NAME_ATTRIBUTE,
        Operation.CREATE,
        CreateRequest(object_type=seen(old).object_type, attributes=asked(names=["k"])),
    )
    assert named("k") not in seen(old).name
