"""Create Split Key and Join Split Key: any parts of a threshold give the key back, fewer or others do not."""

from itertools import combinations

import pytest

from keystore.crypto import splitting
from kmip.enums import KeyFormatType, ObjectType, Operation, ResultReason, SecretDataType, SplitKeyMethod
from kmip.errors import KMIPError
from kmip.payloads import CreateSplitKeyRequest, GetRequest, JoinSplitKeyRequest
from tests.authority import do, refused, sealed, seen  # noqa: F401 - a fixture among them
from tests.made import block, material
from tests.using import A, create, pair, register, secret, under, wanted

M, O, R = SplitKeyMethod, ObjectType, ResultReason  # noqa: E741
KEY = bytes.fromhex("00112233445566778899aabbccddeeff")

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("sealed")]


def splits(uid=None, method=M.POLYNOMIAL_SHARING_GF_2_8, parts=3, threshold=2, attributes=None, **given):
    return CreateSplitKeyRequest(
        object_type=O.SPLIT_KEY,
        unique_identifier=uid,
        split_key_parts=parts,
        split_key_threshold=threshold,
        split_key_method=method,
        attributes=attributes or wanted(),
        **given,
    )


def split(*arguments, **options):
    return do(Operation.CREATE_SPLIT_KEY, splits(*arguments, **options)).unique_identifier


def joins(uids, object_type=O.SYMMETRIC_KEY, **given):
    return JoinSplitKeyRequest(object_type=object_type, unique_identifier=list(uids), attributes=wanted(), **given)


def joined(uids, **given):
    return do(Operation.JOIN_SPLIT_KEY, joins(uids, **given)).unique_identifier


METHODS = [
    (M.XOR, 3),
    (M.POLYNOMIAL_SHARING_GF_2_8, 2),
    (M.POLYNOMIAL_SHARING_GF_2_16, 2),
    (M.POLYNOMIAL_SHARING_PRIME_FIELD, 2),
]


@pytest.mark.parametrize(("method", "threshold"), METHODS, ids=[str(method) for method, _ in METHODS])
def test_any_parts_of_the_threshold_give_the_key_back_and_fewer_do_not(method, threshold):
    """In any order; the key's algorithm and length come along; no part is the key."""
    parts = split(register(KEY), method, 3, threshold)
    for chosen in [*combinations(parts, threshold), parts[::-1]]:
        found = joined(chosen)
        assert material(found) == KEY
        assert (seen(found).cryptographic_algorithm, seen(found).cryptographic_length) == (A.AES, 128)
    assert all(KEY not in material(part) for part in parts)
    refused(R.CRYPTOGRAPHIC_FAILURE, Operation.JOIN_SPLIT_KEY, joins(parts[: threshold - 1]))


def test_a_key_that_nobody_has_seen_is_made_in_parts():
    """Without a Unique Identifier; the same parts give the same key again."""
    parts = split(attributes=wanted(algorithm=A.AES, length=256))
    one, other = (material(joined(chosen)) for chosen in (parts[:2], parts[1:]))
    assert one == other and len(one) == 32
    refused(R.INVALID_FIELD, Operation.CREATE_SPLIT_KEY, splits(attributes=wanted(algorithm=A.AES)))


def test_private_keys_and_secret_data_come_back_as_they_were():
    private, _ = pair(A.ED25519)
    found = joined(split(private)[1:], object_type=O.PRIVATE_KEY)
    as_pkcs8 = {"key_format_type": KeyFormatType.PKCS_8}
    assert material(found, **as_pkcs8) == material(private, **as_pkcs8)
    parts = split(secret(b"a password"))
    refused(R.INVALID_FIELD, Operation.JOIN_SPLIT_KEY, joins(parts, O.SECRET_DATA))
    assert material(joined(parts, object_type=O.SECRET_DATA, secret_data_type=SecretDataType.PASSWORD)) == b"a password"


def test_parts_of_different_keys_do_not_join():
    """The server knows its own sets; a part that is named twice counts once."""
    mine, other = split(register(KEY)), split(register(bytes(range(16))))
    refused(R.CRYPTOGRAPHIC_FAILURE, Operation.JOIN_SPLIT_KEY, joins([mine[0], other[1]]))
    refused(R.CRYPTOGRAPHIC_FAILURE, Operation.JOIN_SPLIT_KEY, joins([mine[0], mine[0]]))
    refused(R.INVALID_OBJECT_TYPE, Operation.JOIN_SPLIT_KEY, joins([mine[0], create()]))
    refused(R.OBJECT_NOT_FOUND, Operation.JOIN_SPLIT_KEY, joins([mine[0], "nothing"]))


def test_who_may_not_take_a_key_out_may_not_take_it_out_in_parts():
    """Sensitive and Extractable go over to the parts, and from them to what is joined."""
    parts = split(register(KEY, extractable=False))
    for uid in (*parts, joined(parts)):
        refused(R.NOT_EXTRACTABLE, Operation.GET, GetRequest(unique_identifier=uid))
    parts = split(register(KEY, sensitive=True))
    for uid in (*parts, joined(parts)):
        refused(R.SENSITIVE, Operation.GET, GetRequest(unique_identifier=uid))
    refused(R.OBJECT_NOT_FOUND, Operation.CREATE_SPLIT_KEY, splits(register(KEY)), user="bob")


def test_parts_are_kept_wrapped_where_their_attributes_ask_for_it():
    """By the key that clients of the JSON dialect name; joining unwraps them, if it may."""
    kek = create()
    parts = split(register(KEY), attributes=wanted(tags=under(kek)))
    assert all(block(part).key_wrapping_data.encryption_key_information.unique_identifier == kek for part in parts)
    assert material(joined(parts)) == KEY


@pytest.mark.parametrize(("parts", "threshold"), [(0, 0), (2, 3), (3, 0), (256, 2), (-1, -1)])
def test_numbers_of_parts_that_cannot_be_are_refused(parts, threshold):
    with pytest.raises(KMIPError):
        splitting.check(M.POLYNOMIAL_SHARING_GF_2_8, parts, threshold)
    with pytest.raises(KMIPError):
        split(register(KEY), parts=parts, threshold=threshold)


def test_the_prime_of_a_prime_field_must_be_one_and_large_enough():
    """2^127 - 1 is prime and too small for 128 bits; its neighbour is none."""
    prime = {"method": M.POLYNOMIAL_SHARING_PRIME_FIELD}
    for number in (2**127 - 1, 2**521, -(2**521 - 1), 0):
        with pytest.raises(KMIPError):
            split(register(KEY), prime_field_size=number, **prime)
    parts = split(register(KEY), prime_field_size=2**521 - 1, **prime)
    assert material(joined(parts[:2])) == KEY


def test_more_parts_than_the_threshold_must_agree():
    """Of a forged part it is known that something is wrong, not which part is."""
    shares = splitting.split(M.POLYNOMIAL_SHARING_GF_2_8, KEY, parts=4, threshold=2)
    shares[3] = bytes([shares[3][0] ^ 1]) + shares[3][1:]
    with pytest.raises(KMIPError, match="do not belong together"):
        splitting.join(M.POLYNOMIAL_SHARING_GF_2_8, shares, threshold=2, length=len(KEY))
