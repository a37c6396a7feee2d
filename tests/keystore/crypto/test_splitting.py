"""Secret sharing against values worked out by hand and published ones; no part alone says anything."""

from itertools import combinations

import pytest

from keystore.crypto import splitting
from keystore.crypto.splitting import join, split
from kmip.enums import ResultReason, SplitKeyMethod
from kmip.errors import KMIPError

M, R = SplitKeyMethod, ResultReason
GF8, GF16, PRIME = (
    M.POLYNOMIAL_SHARING_GF_2_8,
    M.POLYNOMIAL_SHARING_GF_2_16,
    M.POLYNOMIAL_SHARING_PRIME_FIELD,
)

VECTORS = {
    # 01 ^ 02 ^ f0 = f3 and 0f ^ ff ^ 00 = f0.
    "exclusive or": (M.XOR, 3, None, {1: "010f", 2: "02ff", 3: "f000"}, "f3f0"),
    # f(x) = 53 + ca x. ca x 2 = 194, less 11d: 89; ca x 3 = ca ^ 89 = 43.
    # f(1) = 53 ^ ca = 99, f(2) = 53 ^ 89 = da, f(3) = 53 ^ 43 = 10.
    "GF(2^8), a line": (GF8, 2, None, {1: "99", 2: "da", 3: "10"}, "53"),
    # f(x) = 01 + 02 x + 03 x^2. x = 2: 02 x 02 = 04, x^2 = 04, 03 x 04 = 0c; 01 ^ 04 ^ 0c = 09.
    # x = 3: 02 x 03 = 06, x^2 = 05, 03 x 05 = 0f; 01 ^ 06 ^ 0f = 08. x = 1: 01 ^ 02 ^ 03 = 00.
    "GF(2^8), a parabola": (GF8, 3, None, {1: "00", 2: "09", 3: "08"}, "01"),
    # f(x) = (00, 53) + (80, ca) x; 80 x 2 = 100, less 11d: 1d.
    # f(1) = (80, 99), f(2) = (1d, da).
    "GF(2^16), a line": (GF16, 2, None, {1: "8099", 2: "1dda"}, "0053"),
    # f(x) = 1234 + 166 x + 94 x^2 modulo 1613: the example of Wikipedia's page on Shamir's scheme.
    # f(1) = 1494, f(2) = 329, f(3) = 965, f(4) = 176, f(5) = 1188, f(6) = 775.
    "a prime field": (PRIME, 3, 1613,
                      {1: "05d6", 2: "0149", 3: "03c5", 4: "00b0", 5: "04a4", 6: "0307"}, "04d2"),
}  # fmt: skip


@pytest.mark.parametrize("method, threshold, prime, parts, secret", VECTORS.values(), ids=VECTORS)
def test_known_parts_give_the_known_secret(method, threshold, prime, parts, secret):
    """Any of them that are enough, and more that agree."""
    given = {x: bytes.fromhex(text) for x, text in parts.items()}
    for count in range(threshold, len(given) + 1):
        for chosen in combinations(given, count):
            few = {x: given[x] for x in chosen}
            found = join(method, few, threshold=threshold, length=len(secret) // 2, prime=prime)
            assert found.hex() == secret, chosen


@pytest.mark.parametrize("method, threshold, prime, parts, secret", VECTORS.values(), ids=VECTORS)
def test_too_few_parts_give_nothing(method, threshold, prime, parts, secret):
    few = {x: bytes.fromhex(text) for x, text in list(parts.items())[: threshold - 1]}
    with pytest.raises(KMIPError) as caught:
        join(method, few, threshold=threshold, length=len(secret) // 2, prime=prime)
    assert caught.value.reason == R.CRYPTOGRAPHIC_FAILURE


def test_the_larger_field_is_the_specification_s():
    """y y = y + m with m = 3a, and an inverse for every number but zero (2.1, 13.1)."""
    field = splitting._GF16()
    assert field.multiply(0x0100, 0x0100) == 0x013A
    # (y + 1)(y + 1) = y^2 + 1 = y + m + 1.
    assert field.multiply(0x0101, 0x0101) == 0x013B
    assert all(field.multiply(one, field.inverse(one)) == 1 for one in range(1, 1 << 16))
    assert all(splitting._multiply(one, splitting._inverse(one)) == 1 for one in range(1, 256))


WRONG = {
    "different lengths": (GF8, {1: b"ab", 2: b"a"}, 2, None),
    "half a piece": (GF16, {1: b"abc", 2: b"abc"}, 2, None),
    "another length": (GF16, {1: b"abcd", 2: b"abcd"}, 6, None),
    "no number of the field": (PRIME, {1: b"\x06\x4d", 2: b"\x00\x01"}, 2, 1613),
    "more than the length holds": (PRIME, {1: b"\x05\xd6", 2: b"\x01\x49"}, 1, 1613),
}


@pytest.mark.parametrize("method, parts, length, prime", WRONG.values(), ids=WRONG)
def test_parts_that_cannot_be_are_refused(method, parts, length, prime):
    with pytest.raises(KMIPError) as caught:
        join(method, parts, threshold=2, length=length, prime=prime)
    assert caught.value.reason == R.CRYPTOGRAPHIC_FAILURE


@pytest.mark.parametrize("method", [GF8, GF16, PRIME])
def test_parts_of_two_splits_that_disagree_are_noticed(method):
    secret = bytes(range(16))
    prime = splitting.prime_for(len(secret)) if method == PRIME else None
    first, second = (split(method, secret, parts=4, threshold=2, prime=prime) for _ in range(2))
    mixed = {1: first[1], 2: first[2], 3: second[3]}
    with pytest.raises(KMIPError) as caught:
        join(method, mixed, threshold=2, length=16, prime=prime)
    assert caught.value.reason == R.CRYPTOGRAPHIC_FAILURE


@pytest.mark.parametrize("method", [M.XOR, GF8, GF16, PRIME])
@pytest.mark.parametrize("size", [1, 15, 16, 32])
def test_each_split_is_another_and_no_part_is_the_secret(method, size):
    secret = b"\x00" * size
    prime = splitting.prime_for(size) if method == PRIME else None
    splits = [split(method, secret, parts=3, threshold=3, prime=prime) for _ in range(3)]
    # Of one byte two splits may well be the same.
    assert size == 1 or len({tuple(one.values()) for one in splits}) == 3
    for one in splits:
        assert join(method, one, threshold=3, length=size, prime=prime) == secret


def test_primes_are_told_from_what_looks_like_them():
    """Carmichael numbers pass Fermat's test for every base that they share no factor with."""
    primes = [2, 3, 5, 997, 1613, 65537, 2**61 - 1, 2**127 - 1, 2**521 - 1]
    composites = [0, 1, 4, 561, 1105, 1729, 41041, 825265, 321197185, 3215031751, (2**61 - 1) * (2**31 - 1)]
    assert all(map(splitting.is_prime, primes)) and not any(map(splitting.is_prime, composites))
    for length in (1, 16, 32, 66, 256):
        prime = splitting.prime_for(length)
        assert prime > 1 << 8 * length
        splitting.check_prime(prime, length)
    for prime, length in ((257 * 263, 2), (251, 1), (2**16 - 15, 2)):
        with pytest.raises(KMIPError) as caught:
            splitting.check_prime(prime, length)
        assert caught.value.reason == R.BAD_CRYPTOGRAPHIC_PARAMETERS
