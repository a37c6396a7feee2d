"""Archive and Recover: what no service can use, and how it comes back."""

import pytest

from keystore import clock, resealing, sealing, store
from keystore.authn import Identity
from keystore.call import HANDLERS
from keystore.models import ManagedObject
from kmip.attributes import Attributes, References
from kmip.enums import (
    AdjustmentType,
    BlockCipherMode,
    CryptographicAlgorithm,
    DerivationMethod,
    LinkType,
    ObjectType,
    Operation,
    PaddingMethod,
    ResultReason,
    RevocationReasonCode,
    SplitKeyMethod,
    StorageStatusMask,
    WrappingMethod,
)
from kmip.payloads import (
    ActivateRequest,
    AddAttributeRequest,
    AdjustAttributeRequest,
    ArchiveRequest,
    CertifyRequest,
    CheckRequest,
    CreateSplitKeyRequest,
    DecryptRequest,
    DeleteAttributeRequest,
    DeriveKeyRequest,
    DestroyRequest,
    EncryptRequest,
    ExportRequest,
    GetRequest,
    GetUsageAllocationRequest,
    JoinSplitKeyRequest,
    LocateRequest,
    MACRequest,
    MACVerifyRequest,
    ModifyAttributeRequest,
    ObtainLeaseRequest,
    ReCertifyRequest,
    RecoverRequest,
    ReKeyKeyPairRequest,
    ReKeyRequest,
    RevokeRequest,
    SetAttributeRequest,
    SignatureVerifyRequest,
    SignRequest,
    ValidateRequest,
)
from kmip.structures import (
    DerivationParameters,
    EncryptionKeyInformation,
    KeyWrappingSpecification,
    RevocationReason,
)
from kmip.tags import Tag
from tests.authority import attributes, certified, do, refused, root, sealed  # noqa: F401 - a fixture among them
from tests.made import asked, located, material, seen
from tests.using import A, create, pair, parameters, register, wanted

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("sealed")]
O, R = Operation, ResultReason  # noqa: E741
CBC = parameters(block_cipher_mode=BlockCipherMode.CBC, padding_method=PaddingMethod.PKCS5)
COMMENT = asked(comment="x")


def archive(uid):
    do(O.ARCHIVE, ArchiveRequest(unique_identifier=uid))
    return uid


def recover(uid):
    do(O.RECOVER, RecoverRequest(unique_identifier=uid))
    return uid


def _wrapped_by(uid):
    using = EncryptionKeyInformation(unique_identifier=uid)
    specification = KeyWrappingSpecification(wrapping_method=WrappingMethod.ENCRYPT, encryption_key_information=using)
    return GetRequest(unique_identifier=create(), key_wrapping_specification=specification)


def _derived_from(uid):
    return DeriveKeyRequest(
        object_type=ObjectType.SYMMETRIC_KEY,
        unique_identifier=[uid],
        derivation_method=DerivationMethod.HMAC,
        derivation_parameters=DerivationParameters(derivation_data=b"x"),
        attributes=wanted(algorithm=A.AES, length=128),
    )


SUPERSEDED = RevocationReason(revocation_reason_code=RevocationReasonCode.SUPERSEDED)
MASK = int(StorageStatusMask.ARCHIVAL_STORAGE)
#: What an archived key refuses, or a private or public key and a certificate where it says so.
KEY = {
    O.ACTIVATE: lambda uid: ActivateRequest(unique_identifier=uid),
    O.ADD_ATTRIBUTE: lambda uid: AddAttributeRequest(unique_identifier=uid, new_attribute=COMMENT),
    O.ADJUST_ATTRIBUTE: lambda uid: AdjustAttributeRequest(
        unique_identifier=uid, attribute_reference=References([Tag.SENSITIVE]), adjustment_type=AdjustmentType.NEGATE
    ),
    O.ARCHIVE: lambda uid: ArchiveRequest(unique_identifier=uid),
    O.CHECK: lambda uid: CheckRequest(unique_identifier=uid),
    O.CREATE_SPLIT_KEY: lambda uid: CreateSplitKeyRequest(
        object_type=ObjectType.SPLIT_KEY, unique_identifier=uid, split_key_parts=2, split_key_threshold=2,
        split_key_method=SplitKeyMethod.XOR, attributes=wanted(),
    ),
    O.DECRYPT: lambda uid: DecryptRequest(
        unique_identifier=uid, cryptographic_parameters=CBC, data=bytes(16), iv_counter_nonce=bytes(16)
    ),
    O.DELETE_ATTRIBUTE: lambda uid: DeleteAttributeRequest(
        unique_identifier=uid, attribute_reference=References([Tag.ACTIVATION_DATE])
    ),
    O.DERIVE_KEY: _derived_from,
    O.DESTROY: lambda uid: DestroyRequest(unique_identifier=uid),
    O.ENCRYPT: lambda uid: EncryptRequest(unique_identifier=uid, cryptographic_parameters=CBC, data=b"x"),
    O.EXPORT: lambda uid: ExportRequest(unique_identifier=uid),
    O.GET: lambda uid: GetRequest(unique_identifier=uid),
    O.GET_USAGE_ALLOCATION: lambda uid: GetUsageAllocationRequest(unique_identifier=uid, usage_limits_count=1),
    O.JOIN_SPLIT_KEY: lambda uid: JoinSplitKeyRequest(
        object_type=ObjectType.SYMMETRIC_KEY, unique_identifier=[uid], attributes=wanted()
    ),
    O.MAC: lambda uid: MACRequest(unique_identifier=uid, data=b"x"),
    O.MAC_VERIFY: lambda uid: MACVerifyRequest(unique_identifier=uid, data=b"x", mac_data=b"y"),
    O.MODIFY_ATTRIBUTE: lambda uid: ModifyAttributeRequest(
        unique_identifier=uid, new_attribute=asked(sensitive=True)
    ),
    O.OBTAIN_LEASE: lambda uid: ObtainLeaseRequest(unique_identifier=uid),
    O.RE_KEY: lambda uid: ReKeyRequest(unique_identifier=uid),
    O.REVOKE: lambda uid: RevokeRequest(unique_identifier=uid, revocation_reason=SUPERSEDED),
    O.SET_ATTRIBUTE: lambda uid: SetAttributeRequest(unique_identifier=uid, new_attribute=COMMENT),
}  # fmt: skip
PRIVATE = {
    O.SIGN: lambda uid: SignRequest(unique_identifier=uid, data=b"x"),
    O.RE_KEY_KEY_PAIR: lambda uid: ReKeyKeyPairRequest(private_key_unique_identifier=uid),
}
PUBLIC = {
    O.SIGNATURE_VERIFY: lambda uid: SignatureVerifyRequest(unique_identifier=uid, data=b"x", signature_data=b"y"),
}
CERTIFICATE = {
    O.RE_CERTIFY: lambda uid: ReCertifyRequest(unique_identifier=uid),
    O.VALIDATE: lambda uid: ValidateRequest(unique_identifier=[uid]),
}
#: What is about no object that is there, or may be done with an archived one: it is looked at and brought back.
OTHERS = {
    O.RECOVER, O.GET_ATTRIBUTES, O.GET_ATTRIBUTE_LIST, O.LOCATE, O.CREATE, O.CREATE_KEY_PAIR, O.REGISTER, O.IMPORT,
    O.QUERY, O.DISCOVER_VERSIONS, O.POLL, O.CANCEL, O.PROCESS, O.QUERY_ASYNCHRONOUS_REQUESTS, O.HASH, O.RNG_RETRIEVE,
    O.RNG_SEED, O.LOG, O.PING, O.INTEROP, O.LOGIN, O.LOGOUT, O.DELEGATED_LOGIN, O.SET_ENDPOINT_ROLE, O.RE_PROVISION,
    O.SET_DEFAULTS, O.SET_CONSTRAINTS, O.GET_CONSTRAINTS, O.PKCS_11,
    # Tried below: it is told of its issuer by a link.
    O.CERTIFY,
}  # fmt: skip


def test_every_operation_is_tried_or_has_no_use_for_an_object():
    assert {*KEY, *PRIVATE, *PUBLIC, *CERTIFICATE, *OTHERS} == HANDLERS.keys()


@pytest.mark.parametrize("operation", KEY, ids=lambda one: one.name.lower())
def test_no_operation_uses_an_archived_key(operation):
    uid = archive(create())
    refused(R.OBJECT_ARCHIVED, operation, KEY[operation](uid))


@pytest.mark.parametrize("operation", [*PRIVATE, *PUBLIC, *CERTIFICATE], ids=lambda one: one.name.lower())
def test_no_operation_uses_an_archived_pair_or_certificate(operation):
    private, public = pair(A.ECDSA, 256)
    kinds = ((PRIVATE, private), (PUBLIC, public), (CERTIFICATE, None))
    requests, uid = next(one for one in kinds if operation in one[0])
    refused(R.OBJECT_ARCHIVED, operation, requests[operation](archive(uid or root())))


def test_an_archived_authority_signs_nothing():
    issuer = root()
    key = next(link for link in seen(issuer).link if link.link_type == LinkType.PRIVATE_KEY_LINK)
    wish = attributes("leaf", algorithm=CryptographicAlgorithm.EC, links=[(LinkType.CERTIFICATE_LINK, issuer)])
    archive(key.linked_object_identifier)
    refused(R.OBJECT_ARCHIVED, O.CERTIFY, CertifyRequest(attributes=wish))
    recover(key.linked_object_identifier)
    assert certified(issuer)


def test_an_archived_key_wraps_nothing():
    refused(R.WRAPPING_OBJECT_ARCHIVED, O.GET, _wrapped_by(archive(create())))


def test_one_archived_part_keeps_a_split_key_from_being_joined():
    request = KEY[O.CREATE_SPLIT_KEY](create())
    parts = do(O.CREATE_SPLIT_KEY, request).unique_identifier
    archive(parts[1])
    join = JoinSplitKeyRequest(
        object_type=ObjectType.SYMMETRIC_KEY, unique_identifier=parts, attributes=wanted(algorithm=A.AES)
    )
    refused(R.OBJECT_ARCHIVED, O.JOIN_SPLIT_KEY, join)


def test_a_recovered_object_is_as_it_was():
    """But for the date of its last change; recovering what is not archived changes nothing."""
    uid = register(bytes(range(16)))
    before = seen(uid)
    archive(uid)
    held = seen(uid)
    assert held.archive_date is not None and held.state == before.state and held.digest == before.digest
    recover(uid)
    after = seen(uid)
    assert after.archive_date is None and material(uid) == bytes(range(16))
    after.last_change_date = before.last_change_date
    assert after == before
    recover(uid)
    assert seen(uid).archive_date is None


def test_archived_material_is_under_the_archive_s_own_key():
    """Its sealing key is one for the archive, also after that and the others were replaced."""
    sealer = sealing.sealer()
    uid = create()

    def purpose():
        blob = ManagedObject.objects.get(uid=uid).material
        return sealer.purpose_of(sealing.number_of(bytes(blob)))

    assert purpose() == sealing.MATERIAL
    archive(uid)
    assert purpose() == sealing.ARCHIVE
    resealing.rotate_sealing_keys(wait=0)
    assert purpose() == sealing.ARCHIVE
    recover(uid)
    assert purpose() == sealing.MATERIAL and len(material(uid)) == 32


def test_archived_objects_are_located_where_they_are_asked_for():
    here, away = create(), create()
    archive(away)
    assert located() == [here]
    assert located(storage_status_mask=MASK) == [away]
    both = MASK | int(StorageStatusMask.ON_LINE_STORAGE)
    assert set(located(storage_status_mask=both)) == {here, away}
    assert do(O.LOCATE, LocateRequest(attributes=Attributes(), storage_status_mask=MASK)).located_items == 1


def test_archived_keys_are_not_rotated():
    uid = create()
    managed = store.fetch(archive(uid), clock.now() // clock.SECOND, Identity("alice", "test"))
    managed.attributes.rotate_automatic, managed.attributes.rotate_interval = True, 1
    store.save(managed)
    assert ManagedObject.objects.get(uid=uid).next_rotation is None


def test_others_do_not_archive_what_they_may_not():
    uid = create()
    refused(R.OBJECT_NOT_FOUND, O.ARCHIVE, ArchiveRequest(unique_identifier=uid), user="bob")
    archive(uid)
    refused(R.OBJECT_NOT_FOUND, O.RECOVER, RecoverRequest(unique_identifier=uid), user="bob")
    assert seen(uid).archive_date is not None
