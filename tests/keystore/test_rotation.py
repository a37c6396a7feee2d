"""Automatic rotation: what is rotated, when, by what, in whose name, and once."""

import threading

import pytest
from django.db import connections
from django.db.models import F

from keystore import clock, engine, jobs, rotation, states, store
from keystore.authn import Peer, accounts
from keystore.models import AuditRecord, ManagedObject
from kmip.enums import (
    LinkType,
    ObjectType,
    OpaqueDataType,
    Operation,
    RevocationReasonCode,
    RotateNameType,
    State,
)
from kmip.objects import OpaqueObject
from kmip.payloads import DestroyRequest, RegisterRequest, ReKeyRequest, RevokeRequest, SetAttributeRequest
from kmip.structures import RevocationReason, RotateName
from tests.authority import certified, do, load, root, sealed  # noqa: F401 - a fixture among them
from tests.made import asked, created, material, pair, registered, seen

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("sealed")]
DAY = 86400
L = LinkType
SET = {"rotate_automatic": True, "rotate_interval": DAY}
NAME = RotateName(rotate_name_value="payroll", rotate_name_type=RotateNameType.UNINTERPRETED_TEXT_STRING)


def age(uid, seconds=DAY):
    """Make an object older."""
    ManagedObject.objects.filter(uid=uid).update(
        initial_date=F("initial_date") - seconds, next_rotation=F("next_rotation") - seconds
    )
    store.rows.clear()


def linked(uid, kind):
    return [link.linked_object_identifier for link in seen(uid).link if link.link_type == kind]


def successor(uid):
    """The object that has taken another's place, or None."""
    found = linked(uid, L.REPLACEMENT_OBJECT_LINK)
    return found[0] if found else None


def test_a_key_is_rotated_when_its_interval_is_over_and_not_before():
    """The new key has the name, the rotation and other material; the old one says when it was rotated."""
    old = created(names=["k"], rotate_name=NAME, rotate_offset=0, **SET)
    rotation.run()
    assert successor(old) is None
    age(old)
    before = clock.now() // clock.SECOND
    rotation.run()
    new = successor(old)
    after, then = seen(new), seen(old)
    assert material(new) != material(old) and [one.name_value for one in after.name] == ["k"] and then.name == []
    assert (then.rotate_generation, then.rotate_latest, after.rotate_generation, after.rotate_latest) == (
        0, False, 1, True
    )  # fmt: skip
    assert then.rotate_date >= before and after.rotate_name == NAME and after.rotate_interval == DAY
    assert after.state == State.ACTIVE and linked(new, L.REPLACED_OBJECT_LINK) == [old]


def test_the_new_key_is_rotated_in_its_turn():
    """The old one never again."""
    first = created(**SET)
    age(first)
    rotation.run()
    second = successor(first)
    rotation.run()
    assert successor(second) is None
    age(second)
    age(first)
    rotation.run()
    assert seen(successor(second)).rotate_generation == 2
    assert linked(first, L.REPLACEMENT_OBJECT_LINK) == [second]


@pytest.mark.parametrize("offset, state", [(None, State.PRE_ACTIVE), (0, State.ACTIVE), (DAY, State.PRE_ACTIVE)])
def test_the_offset_says_when_the_new_key_begins(offset, state):
    """Without one it begins as the old one does."""
    old = created(rotate_offset=offset, **SET)
    age(old)
    rotation.run()
    new = seen(successor(old))
    assert new.state == state
    if offset is not None:
        assert abs(new.activation_date - new.initial_date - offset) <= 1


def test_secret_data_pairs_and_certificates_are_rotated_by_their_own_operations():
    """A pair as a pair, whichever key asks for it, and a certificate by Re-certify for the same key."""
    private, public = pair(rotate_offset=0, **SET)
    authority = root()
    certificate = certified(authority, "server", **SET)
    for uid in (private, certificate):
        age(uid)
    rotation.run()
    new_private, new_public = successor(private), successor(public)
    assert linked(new_private, L.PUBLIC_KEY_LINK) == [new_public]
    assert seen(private).rotate_latest is False and seen(public).rotate_latest is False
    renewed = successor(certificate)
    assert load(renewed).public_key() == load(certificate).public_key()
    assert load(renewed).serial_number != load(certificate).serial_number
    after, then = seen(renewed), seen(certificate)
    assert (after.rotate_generation, after.rotate_latest, then.rotate_latest) == (1, True, False)
    assert then.rotate_date is not None and after.rotate_date is None
    assert ManagedObject.objects.filter(next_rotation__isnull=False).count() == 3


def test_a_public_key_brings_its_private_key_along():
    """Its own interval is enough."""
    private, public = pair()
    for name in ("rotate_automatic", "rotate_interval"):
        change = SetAttributeRequest(unique_identifier=public, new_attribute=asked(**{name: SET[name]}))
        do(Operation.SET_ATTRIBUTE, change)
    age(public)
    rotation.run()
    assert successor(private) is not None and successor(public) is not None


def test_what_has_no_use_for_a_successor_is_left_alone():
    """Compromised, destroyed, switched off, of no interval, or of a type that the server cannot make."""
    compromised, destroyed, never = created(**SET), created(**SET), created(rotate_automatic=True)
    off = created(rotate_automatic=False, rotate_interval=DAY)
    reason = RevocationReason(revocation_reason_code=RevocationReasonCode.KEY_COMPROMISE)
    do(Operation.REVOKE, RevokeRequest(unique_identifier=compromised, revocation_reason=reason))
    do(Operation.DESTROY, DestroyRequest(unique_identifier=destroyed))
    for uid in (compromised, destroyed, off, never):
        age(uid)
    rotation.run()
    assert [successor(uid) for uid in (compromised, off, never)] == [None] * 3
    assert not ManagedObject.objects.filter(next_rotation__isnull=False).exists()


def test_the_new_key_is_its_owner_s_and_the_record_says_that_the_server_made_it():
    """Whatever role the owner has now, and even if the user cannot log in any more."""
    old = created("bob", **SET)
    account = accounts.find("default", "bob")
    account.disabled = True
    account.save()
    age(old)
    rotation.run()
    new = ManagedObject.objects.exclude(uid=old).get()
    assert new.owner == "bob"
    record = AuditRecord.objects.filter(operation="ReKey").get()
    assert (record.user, record.method, record.transport, record.result) == ("bob", "rotation", "job", "Success")


def test_one_that_cannot_be_rotated_keeps_none_from_it_and_is_told():
    """It is tried again an hour later; the job shows the reason."""
    bad = registered(**SET)
    private, _ = pair(**SET)
    good = created(**SET)
    for uid in (bad, private, good):
        age(uid)
    # A private key without its public key.
    for link in linked(private, L.PUBLIC_KEY_LINK):
        do(Operation.DESTROY, DestroyRequest(unique_identifier=link))
    entry = next(entry for entry in jobs.table() if entry.name == "rotation")
    assert not jobs.run_one(entry)
    assert successor(good) is not None and successor(bad) is not None and successor(private) is None
    error = next(one.error for one in jobs.status() if one.name == "rotation")
    assert "no Link to a public key" in error
    when = ManagedObject.objects.get(uid=private).next_rotation
    assert rotation.PAUSE - 5 <= when - clock.now() // clock.SECOND <= rotation.PAUSE
    assert jobs.run_one(entry)


def test_what_a_client_does_in_time_counts():
    """The rotation's transaction looks again: a key that was re-keyed by hand is not rotated once more."""
    uid = created(**SET)
    age(uid)
    when = ManagedObject.objects.get(uid=uid).next_rotation
    new = do(Operation.RE_KEY, ReKeyRequest(unique_identifier=uid)).unique_identifier
    with pytest.raises(rotation._Settled):
        rotation.rotate(uid, when, clock.now() // clock.SECOND)
    assert linked(uid, L.REPLACEMENT_OBJECT_LINK) == [new]


def test_an_object_that_the_server_cannot_make_has_no_next_rotation():
    """Opaque objects stay as they are."""
    opaque = OpaqueObject(opaque_data_type=OpaqueDataType.of(0x80000001), opaque_data_value=b"x")
    request = RegisterRequest(object_type=ObjectType.OPAQUE_OBJECT, opaque_object=opaque, attributes=asked(**SET))
    uid = do(Operation.REGISTER, request).unique_identifier
    assert states.next_rotation(seen(uid)) is None


@pytest.mark.django_db(transaction=True)
def test_two_nodes_rotate_each_object_once(sealed):  # noqa: F811 - the fixture
    """Whoever comes second finds that it has been done."""
    uids = [created(names=[f"key {number}"], **SET) for number in range(4)]
    for uid in uids:
        age(uid)
    problems = []

    def node():
        try:
            rotation.run()
        except BaseException as exc:
            problems.append(exc)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=node) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert problems == []
    assert [len(linked(uid, L.REPLACEMENT_OBJECT_LINK)) for uid in uids] == [1] * 4
    assert ManagedObject.objects.count() == 8


def test_conditions_are_asked_in_the_transaction_and_leave_nothing_behind():
    """What they raise comes out, and neither object nor record stays."""
    uid = created()
    before = AuditRecord.objects.count()

    class No(Exception):
        pass

    def refuse():
        raise No

    with pytest.raises(No):
        engine.execute(
            Operation.DESTROY, DestroyRequest(unique_identifier=uid), Peer("cli", user="alice"), condition=refuse
        )
    assert seen(uid).state == State.PRE_ACTIVE and AuditRecord.objects.count() == before
