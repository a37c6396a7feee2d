"""Set Defaults, Set and Get Constraints: for whom they count, in which order, and what is refused."""

import pytest

from keystore import authn, roles
from keystore.authn import Identity
from kmip.enums import (
    CryptographicAlgorithm,
    CryptographicUsageMask,
    ObjectType,
    Operation,
    QueryFunction,
    ResultReason,
    ResultStatus,
)
from kmip.payloads import (
    Constraint,
    Constraints,
    CreateRequest,
    DefaultsInformation,
    GetConstraintsRequest,
    ObjectDefaults,
    ObjectGroups,
    ObjectTypes,
    QueryRequest,
    SetConstraintsRequest,
    SetDefaultsRequest,
)
from kmip.versions import V2_1
from tests.authority import do, refused, sealed  # noqa: F401 - a fixture among them
from tests.made import asked, created, pair, registered, seen
from tests.wire import send

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("sealed", "admin")]
A, M = CryptographicAlgorithm, CryptographicUsageMask
KEYS = ObjectTypes(object_type=[ObjectType.SYMMETRIC_KEY])


@pytest.fixture
def admin(monkeypatch):
    """The user `admin` administers the namespace; the others are clients."""
    identify = authn.identify

    def found(peer, authentication=None):
        if peer.user == "admin":
            return Identity("admin", "test", roles=(roles.ADMINISTRATOR,))
        return identify(peer, authentication)

    monkeypatch.setattr(authn, "identify", found)


def set_defaults(user, *defaults):
    information = DefaultsInformation(object_defaults=list(defaults))
    do(Operation.SET_DEFAULTS, SetDefaultsRequest(defaults_information=information), user)


def set_constraints(user, *constraints):
    do(Operation.SET_CONSTRAINTS, SetConstraintsRequest(constraints=Constraints(constraint=list(constraints))), user)


def plain(user="alice", **values):
    request = CreateRequest(object_type=ObjectType.SYMMETRIC_KEY, attributes=asked(**values))
    return seen(do(Operation.CREATE, request, user).unique_identifier, user)


def test_defaults_of_the_namespace_count_for_all_and_an_owner_s_before_them():
    set_defaults("admin", ObjectDefaults(object_types=KEYS, attributes=asked(cryptographic_length=192, comment="ours")))
    set_defaults("bob", ObjectDefaults(object_types=KEYS, attributes=asked(comment="bob's")))
    assert (plain().cryptographic_length, plain().comment) == (192, "ours")
    assert (plain("bob").cryptographic_length, plain("bob").comment) == (192, "bob's")
    assert plain(comment="mine", cryptographic_length=128).comment == "mine"
    query = QueryRequest(query_function=[QueryFunction.QUERY_DEFAULTS_INFORMATION])
    listed = do(Operation.QUERY, query, "bob").defaults_information.object_defaults
    assert [one.attributes.comment for one in listed][:2] == ["ours", "bob's"]


def test_defaults_for_a_group_come_before_those_for_all():
    groups = ObjectGroups(object_group=["g"])
    set_defaults(
        "admin",
        ObjectDefaults(object_types=KEYS, attributes=asked(comment="all")),
        ObjectDefaults(object_types=KEYS, attributes=asked(comment="group"), object_groups=groups),
    )
    assert plain(object_group=["g"]).comment == "group" and plain(object_group=["h"]).comment == "all"


def test_defaults_do_not_contradict_an_object_that_is_brought_along():
    set_defaults("admin", ObjectDefaults(object_types=KEYS, attributes=asked(cryptographic_length=256, comment="c")))
    attributes = seen(registered(material=bytes(16)))
    assert attributes.cryptographic_length == 128 and attributes.comment == "c"


def test_defaults_are_taken_away_again():
    set_defaults("alice", ObjectDefaults(object_types=KEYS, attributes=asked(comment="c")))
    assert plain().comment == "c"
    do(Operation.SET_DEFAULTS, SetDefaultsRequest())
    assert plain().comment is None


def test_defaults_that_no_object_could_follow_are_refused():
    for attributes in (asked(certificate_length=10), asked(initial_date=10)):
        information = DefaultsInformation(object_defaults=[ObjectDefaults(object_types=KEYS, attributes=attributes)])
        request = SetDefaultsRequest(defaults_information=information)
        refused(ResultReason.INVALID_FIELD, Operation.SET_DEFAULTS, request)


def test_constraints_bind_what_is_made_and_registered():
    length = asked(cryptographic_algorithm=A.AES, cryptographic_length=256)
    set_constraints("admin", Constraint(object_types=KEYS, attributes=length))
    created(cryptographic_length=256)
    request = CreateRequest(object_type=ObjectType.SYMMETRIC_KEY, attributes=asked(cryptographic_length=128))
    refused(ResultReason.CONSTRAINT_VIOLATION, Operation.CREATE, request)
    with pytest.raises(Exception, match="not met"):
        registered(material=bytes(16))
    pair()


def test_constraints_over_the_same_attributes_are_alternatives_and_others_add_up():
    set_constraints(
        "admin",
        Constraint(object_types=KEYS, attributes=asked(cryptographic_length=128)),
        Constraint(object_types=KEYS, attributes=asked(cryptographic_length=256)),
        Constraint(object_types=KEYS, attributes=asked(cryptographic_usage_mask=int(M.ENCRYPT | M.DECRYPT))),
    )
    created(cryptographic_length=128)
    created(cryptographic_length=256, cryptographic_usage_mask=int(M.ENCRYPT))
    for values in ({"cryptographic_length": 192}, {"cryptographic_usage_mask": int(M.SIGN)}):
        request = CreateRequest(object_type=ObjectType.SYMMETRIC_KEY, attributes=asked(**values))
        refused(ResultReason.CONSTRAINT_VIOLATION, Operation.CREATE, request)


def test_one_s_own_constraints_bind_nobody_else():
    set_constraints("bob", Constraint(object_types=KEYS, attributes=asked(cryptographic_length=256)))
    created(cryptographic_length=128)
    request = CreateRequest(object_type=ObjectType.SYMMETRIC_KEY, attributes=asked(cryptographic_length=128))
    refused(ResultReason.CONSTRAINT_VIOLATION, Operation.CREATE, request, user="bob")
    assert do(Operation.GET_CONSTRAINTS, GetConstraintsRequest()).constraints.constraint == []
    (mine,) = do(Operation.GET_CONSTRAINTS, GetConstraintsRequest(), "bob").constraints.constraint
    assert mine.attributes.cryptographic_length == 256
    do(Operation.SET_CONSTRAINTS, SetConstraintsRequest(), "bob")
    created("bob", cryptographic_length=128)


def test_constraints_for_a_group_replace_those_for_all():
    groups = ObjectGroups(object_group=["g"])
    set_constraints(
        "admin",
        Constraint(object_types=KEYS, attributes=asked(cryptographic_length=256)),
        Constraint(object_types=KEYS, object_groups=groups, attributes=asked(cryptographic_length=128)),
    )
    created(cryptographic_length=128, object_group=["g"])
    created(cryptographic_length=256)
    request = CreateRequest(
        object_type=ObjectType.SYMMETRIC_KEY, attributes=asked(cryptographic_length=256, object_group=["g"])
    )
    refused(ResultReason.CONSTRAINT_VIOLATION, Operation.CREATE, request)


def test_rules_count_for_the_items_after_them():
    """Also where an item before them has found none."""
    short = CreateRequest(object_type=ObjectType.SYMMETRIC_KEY, attributes=asked(cryptographic_length=128))
    rule = Constraint(object_types=KEYS, attributes=asked(cryptographic_length=256))
    ruled = SetConstraintsRequest(constraints=Constraints(constraint=[rule]))
    longer = SetDefaultsRequest(
        defaults_information=DefaultsInformation(
            object_defaults=[ObjectDefaults(object_types=KEYS, attributes=asked(comment="from now on"))]
        )
    )
    plain_key = CreateRequest(object_type=ObjectType.SYMMETRIC_KEY, attributes=asked())
    response = send(
        (Operation.CREATE, short),
        (Operation.SET_CONSTRAINTS, ruled),
        (Operation.SET_DEFAULTS, longer),
        (Operation.CREATE, plain_key),
        (Operation.CREATE, short),
        version=V2_1,
    )
    *done, last = response.batch_item
    assert [item.result_status for item in done] == [ResultStatus.SUCCESS] * 4
    assert last.result_reason == ResultReason.CONSTRAINT_VIOLATION
    uid = done[-1].response_payload.unique_identifier
    assert seen(uid).comment == "from now on"
