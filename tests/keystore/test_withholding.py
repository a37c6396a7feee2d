"""Undo for Destroy: gone for everyone at once, restorable by an administrator for a time."""

import time

import pytest
from django.contrib.auth import get_user_model

from keystore import audit, authn, clock, engine, resealing, sealing, store, withholding
from keystore.authn import Peer, accounts
from keystore.models import ManagedObject, RoleAssignment, WithheldObject
from kmip.attributes import Attributes
from kmip.enums import (
    CryptographicAlgorithm,
    ObjectType,
    Operation,
    ResultReason,
    RevocationReasonCode,
    State,
)
from kmip.errors import KMIPError
from kmip.payloads import (
    ActivateRequest,
    CreateRequest,
    DestroyRequest,
    GetAttributesRequest,
    GetRequest,
    LocateRequest,
    RevokeRequest,
)
from kmip.structures import Name, RevocationReason

ALICE, LOCAL = Peer("ui", user="alice"), Peer("cli", user="root")


@pytest.fixture
def delayed(tmp_path, configure):
    """A server that keeps what is destroyed for a day."""
    path = tmp_path / "root.key"
    sealing.create_root_key(path)
    configure(**{"sealing.root_key_file": path, "lifecycle.destroy_delay": 86400.0})
    sealing.reset()
    store.rows.clear()
    ALICE.identity = None
    authn.forget()
    get_user_model().objects.create_user("alice")
    yield
    sealing.reset()
    store.rows.clear()


def create(name: str = "key", peer: Peer = ALICE) -> str:
    attributes = Attributes()
    attributes.cryptographic_algorithm = CryptographicAlgorithm.AES
    attributes.name = [Name(name_value=name, name_type=1)]
    request = CreateRequest(object_type=ObjectType.SYMMETRIC_KEY, attributes=attributes)
    return engine.execute(Operation.CREATE, request, peer).unique_identifier


def run(operation: Operation, request: type, uid: str, peer: Peer = ALICE, **more):
    return engine.execute(operation, request(unique_identifier=uid, **more), peer)


def refusal(work, *arguments, **more) -> ResultReason:
    with pytest.raises(KMIPError) as caught:
        work(*arguments, **more)
    return caught.value.reason


def attributes_of(uid: str) -> dict:
    given = run(Operation.GET_ATTRIBUTES, GetAttributesRequest, uid).attributes.copy()
    given.last_change_date = None
    return given


@pytest.mark.django_db
def test_a_destroyed_object_is_gone_at_once_and_comes_back_as_it_was(delayed):
    """Get, Locate and the row know it as destroyed; restored, it has its state, attributes and material."""
    uid = create()
    run(Operation.ACTIVATE, ActivateRequest, uid)
    run(Operation.REVOKE, RevokeRequest, uid,
        revocation_reason=RevocationReason(revocation_reason_code=RevocationReasonCode.SUPERSEDED))  # fmt: skip
    key = run(Operation.GET, GetRequest, uid).symmetric_key
    before = attributes_of(uid)
    run(Operation.DESTROY, DestroyRequest, uid)
    assert attributes_of(uid).state is State.DESTROYED
    assert refusal(run, Operation.GET, GetRequest, uid) is ResultReason.OBJECT_DESTROYED
    assert engine.execute(Operation.LOCATE, LocateRequest(), ALICE).unique_identifier == []
    assert ManagedObject.objects.get(uid=uid).material is None
    withholding.restore("default", uid, LOCAL)
    assert attributes_of(uid) == before
    assert run(Operation.GET, GetRequest, uid).symmetric_key == key
    assert withholding.withheld("default") == []
    assert audit.trail(uid, 1)[0].operation == "Restore"


@pytest.mark.django_db
def test_without_a_delay_nothing_is_kept(delayed, configure):
    """What is destroyed is erased."""
    configure(**{"lifecycle.destroy_delay": 0.0})
    uid = create()
    run(Operation.DESTROY, DestroyRequest, uid)
    assert not WithheldObject.objects.exists()
    assert refusal(withholding.restore, "default", uid, LOCAL) is ResultReason.OBJECT_NOT_FOUND


@pytest.mark.django_db
def test_only_administrators_restore(delayed):
    """Not even the owner, who may have been the one to be afraid of; and each in its own namespace."""
    uid = create()
    run(Operation.DESTROY, DestroyRequest, uid)
    assert refusal(withholding.restore, "default", uid, ALICE) is ResultReason.PERMISSION_DENIED
    owner = accounts.namespace("default")
    RoleAssignment.objects.create(namespace=owner, principal="user:alice", role="administrator")
    authn.forget()
    alice = Peer("ui", user="alice")
    assert refusal(withholding.restore, "other", uid, alice) is ResultReason.PERMISSION_DENIED
    withholding.restore("default", uid, alice)


@pytest.mark.django_db
def test_after_its_time_an_object_is_gone_for_good(delayed, monkeypatch):
    """It is neither listed nor restored, and then purged."""
    uid = create()
    run(Operation.DESTROY, DestroyRequest, uid)
    row = WithheldObject.objects.get()
    assert row.purge - row.destroyed == 86400
    later = (int(time.time()) + 86401) * clock.SECOND
    assert withholding.purge() == 0
    with monkeypatch.context() as patch:
        patch.setattr(clock, "now", lambda: later)
        assert withholding.withheld("default") == []
        assert refusal(withholding.restore, "default", uid, LOCAL) is ResultReason.OBJECT_NOT_FOUND
        assert withholding.purge() == 1
    assert not WithheldObject.objects.exists()


@pytest.mark.django_db
def test_a_name_that_was_taken_meanwhile_keeps_the_object_away(delayed):
    """The other object keeps the Name; the destroyed one stays restorable."""
    uid = create("shared")
    run(Operation.DESTROY, DestroyRequest, uid)
    other = create("shared")
    assert refusal(withholding.restore, "default", uid, LOCAL) is ResultReason.NON_UNIQUE_NAME_ATTRIBUTE
    assert len(withholding.withheld("default")) == 1
    run(Operation.DESTROY, DestroyRequest, other)
    withholding.restore("default", uid, LOCAL)


@pytest.mark.django_db
def test_an_object_whose_row_is_gone_comes_back_whole(delayed):
    """Also where its row was removed after it was destroyed."""
    uid = create()
    key = run(Operation.GET, GetRequest, uid).symmetric_key
    run(Operation.DESTROY, DestroyRequest, uid)
    ManagedObject.objects.all().delete()
    withholding.restore("default", uid, LOCAL)
    assert run(Operation.GET, GetRequest, uid).symmetric_key == key


@pytest.mark.django_db
def test_a_destruction_that_fails_keeps_nothing(delayed):
    """An active object is not destroyed, and so not kept aside."""
    uid = create()
    run(Operation.ACTIVATE, ActivateRequest, uid)
    assert refusal(run, Operation.DESTROY, DestroyRequest, uid) is ResultReason.WRONG_KEY_LIFECYCLE_STATE
    assert not WithheldObject.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_what_is_kept_aside_is_sealed_and_sealed_anew(delayed):
    """It is not in the clear, and a rotation of sealing keys does not forget it."""
    uid = create()
    key = run(Operation.GET, GetRequest, uid).symmetric_key
    material = key.key_block.key_value.key_material
    run(Operation.DESTROY, DestroyRequest, uid)
    before = bytes(WithheldObject.objects.get().content)
    assert material not in before and uid.encode() not in before
    assert resealing.rotate_sealing_keys(wait=0) == 1
    after = bytes(WithheldObject.objects.get().content)
    assert sealing.number_of(after) != sealing.number_of(before)
    withholding.restore("default", uid, LOCAL)
    assert run(Operation.GET, GetRequest, uid).symmetric_key == key
