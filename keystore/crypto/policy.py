"""Which of the algorithms may be used: allow-lists with three presets, which an administrator can shorten.

A service that protects new data (generate a pair, encrypt, sign, MAC, wrap, derive) is held to `protect`; one that
reads what exists (decrypt, verify, unwrap) to `process`, which may be wider. Symmetric keys of every row can always be
generated, stored and fetched, as the Symmetric Key Foundry profile asks.
"""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from keystore.crypto import algorithms
from keystore.crypto.algorithms import ALGORITHMS, CURVES, HASHES, MODES, A, B, C, H, P
from kmip.enums import (
    BlockCipherMode,
    CryptographicAlgorithm,
    Enumeration,
    HashingAlgorithm,
    PaddingMethod,
    RecommendedCurve,
    ResultReason,
)
from kmip.errors import KMIPError


@dataclass(frozen=True, slots=True)
class Allowed:
    """One set of allow-lists."""

    algorithms: frozenset[CryptographicAlgorithm]
    #: Algorithms that are not named here may have keys of any size that their row lists.
    key_sizes: Mapping[CryptographicAlgorithm, Container[int]]
    modes: frozenset[BlockCipherMode]
    paddings: frozenset[PaddingMethod]
    signature_paddings: frozenset[PaddingMethod]
    curves: frozenset[RecommendedCurve]
    hashes: frozenset[HashingAlgorithm]
    signature_hashes: frozenset[HashingAlgorithm]


@dataclass(frozen=True, slots=True, eq=False)
class CryptoPolicy:
    """A named pair of allow-lists. A policy equals itself only, so that what it allowed can be remembered by it."""

    name: str
    protect: Allowed
    process: Allowed
    #: The lists that shorten the preset of this name.
    lists: "Lists" = ()

    @property
    def title(self) -> str:
        """What people are told of it: "default", or "default with algorithms AES, RSA and modes GCM only"."""
        told = [f"{name} {', '.join(entries)}" for name, entries in self.lists]
        return f"{self.name} with {' and '.join(told)} only" if told else self.name

    def check(
        self,
        algorithm: CryptographicAlgorithm | None = None,
        *,
        bits: int | None = None,
        mode: BlockCipherMode | None = None,
        padding: PaddingMethod | None = None,
        signature_padding: PaddingMethod | None = None,
        curve: RecommendedCurve | None = None,
        hashing: HashingAlgorithm | None = None,
        signature_hash: HashingAlgorithm | None = None,
        protect: bool = True,
    ) -> None:
        """Raise unless everything that is named is allowed."""
        lists = self.protect if protect else self.process
        if algorithm is not None:
            if algorithm not in lists.algorithms:
                raise self._refusal(f"algorithm {algorithm}")
            if bits is not None and algorithm in lists.key_sizes and bits not in lists.key_sizes[algorithm]:
                raise self._refusal(f"a key of {algorithm} with {bits} bits")
        if mode is not None and mode not in lists.modes:
            raise self._refusal(f"block cipher mode {mode}")
        if padding is not None and padding not in lists.paddings:
            raise self._refusal(f"padding method {padding}")
        if signature_padding is not None and signature_padding not in lists.signature_paddings:
            raise self._refusal(f"padding method {signature_padding} in signatures")
        if curve is not None and curve not in lists.curves:
            raise self._refusal(f"curve {curve}")
        if hashing is not None and hashing not in lists.hashes:
            raise self._refusal(f"hashing algorithm {hashing}")
        if signature_hash is not None and signature_hash not in lists.signature_hashes:
            raise self._refusal(f"hashing algorithm {signature_hash} in signatures")

    def _refusal(self, what: str) -> KMIPError:
        return KMIPError(ResultReason.PERMISSION_DENIED, f"crypto.policy {self.title!r} does not allow {what}")


#: Lists by their names, each with the texts of its entries.
Lists = tuple[tuple[str, tuple[str, ...]], ...]


_PADDINGS = frozenset(
    {
        *(P.NONE, P.PKCS5, P.ANSI_X9_23, P.ISO_10126, P.ZEROS, algorithms.ISO_9797_1_METHOD_2),
        *(P.OAEP, P.PKCS1_V1_5),
    }
)
_SIGNATURE_PADDINGS = frozenset({P.PKCS1_V1_5, P.PSS})

_EVERYTHING = Allowed(
    algorithms=frozenset(ALGORITHMS),
    key_sizes=MappingProxyType({}),
    modes=frozenset(MODES),
    paddings=_PADDINGS,
    signature_paddings=_SIGNATURE_PADDINGS,
    curves=frozenset(CURVES),
    hashes=frozenset(HASHES),
    signature_hashes=frozenset(HASHES),
)

_CURRENT = Allowed(
    algorithms=frozenset(algorithm for algorithm, row in ALGORITHMS.items() if not row.legacy),
    key_sizes=MappingProxyType({A.RSA: range(2048, 8193)}),
    modes=frozenset(MODES),
    paddings=_PADDINGS,
    signature_paddings=_SIGNATURE_PADDINGS,
    curves=frozenset(curve for curve, row in CURVES.items() if not row.legacy),
    hashes=frozenset(hashing for hashing, row in HASHES.items() if not row.legacy),
    signature_hashes=frozenset(hashing for hashing, row in HASHES.items() if not row.legacy) - {H.SHA_1},
)

#: What FIPS 140-3 approves through SP 800-131A, 800-38A to G, FIPS 186-5, 198, 202, 203 and 204. An HMAC key has at
#: least 112 bits, and RSA encryption is OAEP (SP 800-56B).
_FIPS_HASHES = frozenset(
    {
        *(H.SHA_1, H.SHA_224, H.SHA_256, H.SHA_384, H.SHA_512, H.SHA_512_224, H.SHA_512_256),
        *(H.SHA3_224, H.SHA3_256, H.SHA3_384, H.SHA3_512),
    }
)
_FIPS_MACS = (
    *(A.HMAC_SHA1, A.HMAC_SHA224, A.HMAC_SHA256, A.HMAC_SHA384, A.HMAC_SHA512),
    *(A.HMAC_SHA3_224, A.HMAC_SHA3_256, A.HMAC_SHA3_384, A.HMAC_SHA3_512),
)
_FIPS = Allowed(
    algorithms=frozenset(
        {
            *(A.AES, A.RSA, A.ECDSA, A.ECDH, A.EC, A.ED25519, A.ED448),
            *_FIPS_MACS,
            *(algorithms.ML_KEM_768, algorithms.ML_KEM_1024),
            *(algorithms.ML_DSA_44, algorithms.ML_DSA_65, algorithms.ML_DSA_87),
        }
    ),
    key_sizes=MappingProxyType({A.RSA: range(2048, 8193), **dict.fromkeys(_FIPS_MACS, range(112, 65537))}),
    modes=frozenset(
        {
            *(B.ECB, B.CBC, B.CTR, B.CFB, algorithms.CFB8, B.OFB, B.GCM, B.CCM, B.XTS),
            *(B.NISTKEYWRAP, B.AESKEYWRAPPADDING, B.CMAC),
        }
    ),
    paddings=_PADDINGS - {P.PKCS1_V1_5},
    signature_paddings=_SIGNATURE_PADDINGS,
    curves=frozenset({*(C.P_224, C.P_256, C.P_384, C.P_521), algorithms.CURVE_ED25519, algorithms.CURVE_ED448}),
    hashes=_FIPS_HASHES,
    signature_hashes=_FIPS_HASHES - {H.SHA_1},
)

#: RSA of 1024 bits still verifies and decrypts, and SHA-1 signatures can be verified.
DEFAULT = CryptoPolicy(
    "default",
    _CURRENT,
    replace(
        _CURRENT,
        algorithms=_CURRENT.algorithms | {A.DSA},
        key_sizes=MappingProxyType({}),
        signature_hashes=_CURRENT.signature_hashes | {H.SHA_1},
    ),
)
FIPS_140_3 = CryptoPolicy(
    "fips-140-3",
    _FIPS,
    replace(
        _FIPS,
        algorithms=_FIPS.algorithms | {A.DSA},
        key_sizes=MappingProxyType({**_FIPS.key_sizes, A.RSA: range(1024, 8193)}),
        signature_hashes=_FIPS_HASHES,
    ),
)
#: Everything in the table, legacy included.
PERMISSIVE = CryptoPolicy("permissive", _EVERYTHING, _EVERYTHING)

#: The presets by the name that the setting `crypto.policy` gives.
POLICIES = {policy.name: policy for policy in (DEFAULT, FIPS_140_3, PERMISSIVE)}

# ---------------------------------------------------------------------------------------------------------------------
# Presets made shorter

#: The lists that can be given, with the fields of `Allowed` that each shortens.
LISTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "algorithms": ("algorithms",),
        "key_sizes": ("key_sizes",),
        "modes": ("modes",),
        "paddings": ("paddings", "signature_paddings"),
        "curves": ("curves",),
        "hashes": ("hashes", "signature_hashes"),
    }
)


class ListError(ValueError):
    """A list has an entry that nothing is called, or that the preset does not have; `known` is what it may have."""

    def __init__(self, name: str, entry: str, known: Iterable[str]) -> None:
        super().__init__(name, entry)
        self.name, self.entry, self.known = name, entry, sorted(known)


#: The values of extensions go by the names of their constants.
_EXTENSIONS = {
    (type(value), int(value)): name for name, value in vars(algorithms).items() if isinstance(value, Enumeration)
}


def name_of(member: Enumeration) -> str:
    """What a value is called in a list: as the specification spells it, or the name of an extension."""
    return _EXTENSIONS.get((type(member), int(member)), member.spelling)


def _folded(name: str) -> str:
    return name.replace("-", "").replace("_", "").replace(" ", "").casefold()


def _found(name: str, entry: str, members: Iterable[Enumeration]) -> Any:
    """The member that an entry names, in any of its spellings."""
    members = list(members)
    for member in members:
        if _folded(entry) in {_folded(one) for one in (name_of(member), member.spelling, member.name, *member.also)}:
            return member
    raise ListError(name, entry, map(name_of, members))


def _sizes(entries: Iterable[str], preset: Allowed) -> Mapping[CryptographicAlgorithm, Container[int]]:
    """Sizes by algorithm of entries such as "AES:256" and "RSA:3072-8192"; those of the others are the preset's."""
    found: dict[CryptographicAlgorithm, set[int]] = {}
    for entry in entries:
        text, _, sizes = entry.partition(":")
        algorithm = _found("key_sizes", text, ALGORITHMS)
        first, _, last = sizes.partition("-")
        if not first.isdecimal() or not (last or first).isdecimal():
            raise ListError("key_sizes", entry, (f"{name_of(algorithm)}:256", f"{name_of(algorithm)}:256-512"))
        allowed = preset.key_sizes.get(algorithm, ALGORITHMS[algorithm].bits)
        # No key is longer than this, however long a range somebody writes.
        wanted = range(int(first), min(int(last or first), 8 * 65536) + 1)
        found.setdefault(algorithm, set()).update(bits for bits in wanted if bits in allowed)
    return MappingProxyType({**preset.key_sizes, **found})


def _shortened(preset: Allowed, lists: Lists, wider: Allowed) -> Allowed:
    """A set of allow-lists with only what the given lists name, out of what `wider` has."""
    changes: dict[str, Any] = {}
    for name, entries in lists:
        if name == "key_sizes":
            changes[name] = _sizes(entries, preset)
            continue
        known = frozenset().union(*(getattr(wider, field) for field in LISTS[name]))
        named = {_found(name, entry, known) for entry in entries}
        changes |= {field: getattr(preset, field) & named for field in LISTS[name]}
    return replace(preset, **changes)


@lru_cache(maxsize=16)
def shortened(name: str, lists: Lists = ()) -> CryptoPolicy:
    """The preset of a name, shortened to what is in the lists that are given; raises `ListError`.

    Both its sides are shortened: what a list does not name cannot be read either.
    """
    preset, lists = POLICIES[name], tuple((one, entries) for one, entries in lists if entries)
    if not lists:
        return preset
    return CryptoPolicy(
        name,
        _shortened(preset.protect, lists, preset.process),
        _shortened(preset.process, lists, preset.process),
        lists,
    )
