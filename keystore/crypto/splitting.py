"""Secret sharing: a secret in parts, of which a threshold gives it back (2.1, 13.1).

The polynomial methods are Shamir's in three fields. Part number x is the value at x of a polynomial whose constant term
is the secret and whose other coefficients are random; as many parts as it has coefficients determine it. Bytes in,
bytes out: which objects the parts are, others know.

    split(XOR, secret, parts=2, threshold=2)  ->  {1: part, 2: part}
"""

import os
import secrets
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Final, Protocol

from kmip.enums import ResultReason, SplitKeyMethod
from kmip.errors import KMIPError

#: Parts of one secret. GF(2^8) has 255 numbers for them; nobody is known to hand out more.
MAX_PARTS: Final = 255
#: Bytes of the secret times parts times threshold: some seconds of arithmetic.
MAX_WORK: Final = 4_000_000
#: Bits of the largest prime that is tested: that takes half a second.
MAX_PRIME_BITS: Final = 2048
#: Rounds of the Miller-Rabin test with random bases.
ROUNDS: Final = 16
#: Exponents of Mersenne primes 2^n - 1: for long secrets, where searching for a prime would take long.
MERSENNE: Final = (607, 1279, 2203, 2281, 3217, 4253, 4423, 9689, 9941, 11213, 19937, 21701, 23209, 44497)
#: The largest secret for which a prime is searched for.
SEARCHED_BITS: Final = 521


def split(
    method: SplitKeyMethod, secret: bytes, *, parts: int, threshold: int, prime: int | None = None
) -> dict[int, bytes]:
    """Parts of a secret by their Key Part Identifiers; raises `KMIPError` for numbers that cannot be."""
    check(method, parts, threshold)
    if not secret:
        raise KMIPError(ResultReason.BAD_CRYPTOGRAPHIC_PARAMETERS, "there is nothing to split")
    if len(secret) * parts * threshold > MAX_WORK:
        raise KMIPError(ResultReason.SERVER_LIMIT_EXCEEDED, "the key is too long for so many parts")
    if method == SplitKeyMethod.XOR:
        random = [os.urandom(len(secret)) for _ in range(parts - 1)]
        return dict(enumerate([*random, _xor([secret, *random])], start=1))
    field = _field(method, prime, len(secret))
    numbers = field.unpack(secret)
    # One polynomial for each number of the secret.
    polynomials = [[number, *(field.random() for _ in range(threshold - 1))] for number in numbers]
    return {
        x: field.pack([_value(field, polynomial, field.point(x)) for polynomial in polynomials])
        for x in range(1, parts + 1)
    }


def join(
    method: SplitKeyMethod, parts: Mapping[int, bytes], *, threshold: int, length: int, prime: int | None = None
) -> bytes:
    """The secret of `length` bytes; raises `KMIPError` for too few parts, or for parts that do not belong together.

    More parts than the threshold must agree; exactly as many cannot disagree.
    """
    if len(parts) < threshold:
        raise _failure(f"{len(parts)} parts do not give the secret back, {threshold} do")
    if sum(map(len, parts.values())) * threshold > MAX_WORK:
        raise KMIPError(ResultReason.SERVER_LIMIT_EXCEEDED, "the parts are too long for so many")
    if len({len(part) for part in parts.values()}) != 1:
        raise _failure("the parts have different lengths")
    if method == SplitKeyMethod.XOR:
        return _xor(list(parts.values()))
    field = _field(method, prime, length)
    points = {field.point(x): field.unpack_part(part) for x, part in parts.items()}
    chosen = dict(list(points.items())[:threshold])
    numbers = _interpolate(field, chosen, 0)
    for x, values in list(points.items())[threshold:]:
        if _interpolate(field, chosen, x) != values:
            raise _failure("the parts do not belong together")
    return field.pack_secret(numbers, length)


def check(method: SplitKeyMethod, parts: int, threshold: int) -> None:
    """Raise `KMIPError` for numbers of parts that a method does not allow."""
    if method not in METHODS:
        raise KMIPError(ResultReason.UNSUPPORTED_CRYPTOGRAPHIC_PARAMETERS, f"{method} is not supported")
    if not 1 <= threshold <= parts:
        raise KMIPError(ResultReason.BAD_CRYPTOGRAPHIC_PARAMETERS, "Split Key Threshold is 1 to Split Key Parts")
    if parts > MAX_PARTS:
        raise KMIPError(ResultReason.SERVER_LIMIT_EXCEEDED, f"a key is split into at most {MAX_PARTS} parts")
    if method == SplitKeyMethod.XOR and threshold != parts:
        raise KMIPError(ResultReason.BAD_CRYPTOGRAPHIC_PARAMETERS, "with XOR, Split Key Threshold is Split Key Parts")


def _failure(message: str) -> KMIPError:
    return KMIPError(ResultReason.CRYPTOGRAPHIC_FAILURE, message)


def _xor(strings: list[bytes]) -> bytes:
    total = 0
    for string in strings:
        total ^= int.from_bytes(string)
    return total.to_bytes(len(strings[0]))


class Field(Protocol):
    """A finite field, and how a secret and a part are written in its numbers."""

    def add(self, a: int, b: int) -> int:
        """Sum."""

    def subtract(self, a: int, b: int) -> int:
        """Difference."""

    def multiply(self, a: int, b: int) -> int:
        """Product."""

    def inverse(self, a: int) -> int:
        """The number that `a` times it is one."""

    def random(self) -> int:
        """A random number, all equally likely."""

    def point(self, identifier: int) -> int:
        """The number of a Key Part Identifier."""

    def unpack(self, secret: bytes) -> list[int]:
        """The numbers of a secret."""

    def pack(self, numbers: list[int]) -> bytes:
        """The bytes of a part."""

    def unpack_part(self, part: bytes) -> list[int]:
        """The numbers of a part."""

    def pack_secret(self, numbers: list[int], length: int) -> bytes:
        """The secret of some bytes that the numbers are."""


def _value(field: Field, polynomial: list[int], x: int) -> int:
    """The polynomial's value, by Horner's rule."""
    total = 0
    for coefficient in reversed(polynomial):
        total = field.add(field.multiply(total, x), coefficient)
    return total


def _interpolate(field: Field, points: Mapping[int, list[int]], at: int) -> list[int]:
    """The values at `at` of the polynomials through points (Lagrange)."""
    totals = [0] * len(next(iter(points.values())))
    for x, values in points.items():
        above, below = 1, 1
        for other in points:
            if other != x:
                above = field.multiply(above, field.subtract(at, other))
                below = field.multiply(below, field.subtract(x, other))
        weight = field.multiply(above, field.inverse(below))
        totals = [field.add(total, field.multiply(weight, value)) for total, value in zip(totals, values, strict=True)]
    return totals


# GF(2^8), reduced by x^8 + x^4 + x^3 + x^2 + 1 (285). The generator is x, that is 2.

_POLYNOMIAL: Final = 0x11D
_EXP: Final = [1]
for _ in range(254):
    _EXP.append(_EXP[-1] << 1 ^ (_POLYNOMIAL if _EXP[-1] & 0x80 else 0))
_LOG: Final = {number: exponent for exponent, number in enumerate(_EXP)}


def _multiply(a: int, b: int) -> int:
    return _EXP[(_LOG[a] + _LOG[b]) % 255] if a and b else 0


def _inverse(a: int) -> int:
    return _EXP[-_LOG[a] % 255]


class _Binary:
    """What GF(2^8) and GF(2^16) have in common: numbers of `size` bytes, whose sum is their exclusive or."""

    size: int

    def add(self, a: int, b: int) -> int:
        return a ^ b

    subtract = add

    def random(self) -> int:
        return secrets.randbits(8 * self.size)

    def point(self, identifier: int) -> int:
        return identifier

    def unpack(self, secret: bytes) -> list[int]:
        # The last piece of a secret that ends within it is filled up; `pack_secret` takes the filling away.
        filled = secret + bytes(-len(secret) % self.size)
        return self.unpack_part(filled)

    def pack(self, numbers: list[int]) -> bytes:
        return b"".join(number.to_bytes(self.size) for number in numbers)

    def unpack_part(self, part: bytes) -> list[int]:
        if len(part) % self.size:
            raise _failure(f"a part has pieces of {8 * self.size} bits")
        cuts = range(0, len(part) + 1, self.size)
        return [int.from_bytes(part[begin:end]) for begin, end in pairwise(cuts)]

    def pack_secret(self, numbers: list[int], length: int) -> bytes:
        packed = self.pack(numbers)
        if not 0 < length <= len(packed) or len(packed) - length >= self.size:
            raise _failure("the parts are not those of a secret of this length")
        return packed[:length]


class _GF8(_Binary):
    """GF(2^8)."""

    size = 1

    def multiply(self, a: int, b: int) -> int:
        return _multiply(a, b)

    def inverse(self, a: int) -> int:
        return _inverse(a)


class _GF16(_Binary):
    """GF(2^16) as uy + v over GF(2^8), reduced by y^2 + y + m."""

    size = 2
    M: Final = 0x3A

    def multiply(self, a: int, b: int) -> int:
        r, s, u, v = a >> 8, a & 0xFF, b >> 8, b & 0xFF
        sv = _multiply(s, v)
        # (ry + s)(uy + v) = ((r + s)(u + v) + sv) y + (ru m + sv).
        high = _multiply(r ^ s, u ^ v) ^ sv
        low = _multiply(_multiply(r, u), self.M) ^ sv
        return high << 8 | low

    def inverse(self, a: int) -> int:
        u, v = a >> 8, a & 0xFF
        d = _inverse(_multiply(u ^ v, v) ^ _multiply(self.M, _multiply(u, u)))
        return _multiply(u, d) << 8 | _multiply(u ^ v, d)


class _Prime:
    """The integers modulo a prime; a secret is one number, a part is as long as the prime."""

    def __init__(self, prime: int) -> None:
        self.prime = prime
        self.length = (prime.bit_length() + 7) // 8

    def add(self, a: int, b: int) -> int:
        return (a + b) % self.prime

    def subtract(self, a: int, b: int) -> int:
        return (a - b) % self.prime

    def multiply(self, a: int, b: int) -> int:
        return a * b % self.prime

    def inverse(self, a: int) -> int:
        return pow(a, -1, self.prime)

    def random(self) -> int:
        return secrets.randbelow(self.prime)

    def point(self, identifier: int) -> int:
        return identifier

    def unpack(self, secret: bytes) -> list[int]:
        return [int.from_bytes(secret)]

    def pack(self, numbers: list[int]) -> bytes:
        return numbers[0].to_bytes(self.length)

    def unpack_part(self, part: bytes) -> list[int]:
        number = int.from_bytes(part)
        if number >= self.prime:
            raise _failure("a part is not a number of the field")
        return [number]

    def pack_secret(self, numbers: list[int], length: int) -> bytes:
        try:
            return numbers[0].to_bytes(length)
        except OverflowError as exc:
            raise _failure("the parts do not belong together: they give more than the secret's length") from exc


def _field(method: SplitKeyMethod, prime: int | None, length: int) -> Field:
    return METHODS[method](prime, length)


def _prime_field(prime: int | None, length: int) -> Field:
    if prime is None:
        raise KMIPError(ResultReason.BAD_CRYPTOGRAPHIC_PARAMETERS, "sharing in a prime field needs a Prime Field Size")
    return _Prime(prime)


#: The field of each method by prime and length of the secret; XOR has none.
METHODS: Final[dict[SplitKeyMethod, Callable[[int | None, int], Field]]] = {
    SplitKeyMethod.XOR: lambda prime, length: _GF8(),
    SplitKeyMethod.POLYNOMIAL_SHARING_GF_2_8: lambda prime, length: _GF8(),
    SplitKeyMethod.POLYNOMIAL_SHARING_GF_2_16: lambda prime, length: _GF16(),
    SplitKeyMethod.POLYNOMIAL_SHARING_PRIME_FIELD: _prime_field,
}


# Primes.


def check_prime(prime: int, length: int) -> None:
    """Raise `KMIPError` for a Prime Field Size that is no prime, or not above every secret of `length` bytes."""
    bits = prime.bit_length()
    if bits in MERSENNE and prime == (1 << bits) - 1 and bits > 8 * length:
        return
    if bits > MAX_PRIME_BITS:
        raise KMIPError(ResultReason.SERVER_LIMIT_EXCEEDED, f"Prime Field Size has at most {MAX_PRIME_BITS} bits")
    if prime <= 1 << 8 * length:
        raise KMIPError(
            ResultReason.BAD_CRYPTOGRAPHIC_PARAMETERS, f"Prime Field Size is not above 2^{8 * length}, as the key needs"
        )
    if not is_prime(prime):
        raise KMIPError(ResultReason.BAD_CRYPTOGRAPHIC_PARAMETERS, "Prime Field Size is not a prime number")


def prime_for(length: int) -> int:
    """A prime above every secret of `length` bytes: the next one, or for long secrets the next Mersenne prime."""
    bits = 8 * length
    if bits > SEARCHED_BITS:
        for exponent in MERSENNE:
            if exponent > bits:
                return (1 << exponent) - 1
        raise KMIPError(ResultReason.SERVER_LIMIT_EXCEEDED, "the key is too long to be split in a prime field")
    prime = (1 << bits) + 1
    while not is_prime(prime):
        prime += 2
    return prime


_SMALL: Final = [n for n in range(3, 1000, 2) if all(n % d for d in range(3, int(n**0.5) + 1, 2))]


def is_prime(number: int) -> bool:
    """Whether a number is prime (Miller-Rabin; wrong for a composite with a probability below 4^-16)."""
    if number < 3 or not number % 2:
        return number == 2
    for small in _SMALL:
        if number % small == 0:
            return number == small
    odd, twos = number - 1, 0
    while not odd % 2:
        odd, twos = odd // 2, twos + 1
    return all(_passes(number, secrets.randbelow(number - 3) + 2, odd, twos) for _ in range(ROUNDS))


def _passes(number: int, base: int, odd: int, twos: int) -> bool:
    power = pow(base, odd, number)
    if power in (1, number - 1):
        return True
    for _ in range(twos - 1):
        power = power * power % number
        if power == number - 1:
            return True
    return False
