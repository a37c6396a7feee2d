"""Keys that live in a PKCS#11 token: made there, used there, and never given out.

The store has a reference in place of such a key's material, sealed like any other, so that no client can make one up:

    PKCS11 {"token": "one", "id": "0f3a…", "kind": "RSA", "public": "3082…"}

The private keys here are those of the cryptographic library by type, so that whoever signs or decrypts with one need
not know where it is; a symmetric key is a `Remote` one. What a token cannot do is refused with a clear error.
"""

import contextlib
import dataclasses
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NoReturn, TypeVar, cast

import orjson
from asn1crypto import algos, core
from asn1crypto.keys import PublicKeyInfo
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import (
    OAEP,
    PSS,
    AsymmetricPadding,
    PKCS1v15,
    calculate_max_pss_salt_length,
)
from cryptography.hazmat.primitives.asymmetric.utils import NoDigestInfo, Prehashed, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.db import transaction

from keystore import conf, token
from keystore.crypto import keys
from keystore.crypto.algorithms import CURVES, A, B, unsupported
from keystore.crypto.ciphers import Plan, Remote
from keystore.crypto.policy import CryptoPolicy
from keystore.token import Token, TokenError
from kmip.attributes import Attributes, Vendor
from kmip.enums import CryptographicAlgorithm, ProtectionLevel, RecommendedCurve, ResultReason
from kmip.errors import KMIPError

T = TypeVar("T")

MARK: Final = b"PKCS11 "
#: Identifiers that name the token's slot, as `hsm::<slot>::<id>`.
PREFIX: Final = "hsm::"
ID_LENGTH: Final = 16
#: For clients of 1.x, which has no Protection Level: the attribute `x-protection-level`.
PROTECTION_LEVEL: Final = Vendor("x", "protection-level")
#: What a symmetric key in a token does, and how long the IV of GCM is (python-pkcs11 takes no other).
GCM_IV: Final = 12
_EC: Final = frozenset({A.EC, A.ECDSA, A.ECDH})


class KeyMissing(TokenError):
    """The token is there, but not the key."""


@dataclass(frozen=True, slots=True)
class Reference:
    """Which key of which token; `public` is the DER of the public half of a private key."""

    token: str
    id: str
    kind: str
    bits: int = 0
    public: str = ""

    def pack(self) -> bytes:
        """What the store keeps in place of the material."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        return MARK + orjson.dumps(fields)


def is_reference(material: bytes | None) -> bool:
    """Whether what the store has is a reference: an object's own encoding begins with a tag."""
    return material is not None and material.startswith(MARK)


def reference(material: bytes) -> Reference:
    """The reference that the store has."""
    return Reference(**orjson.loads(material[len(MARK) :]))


# Where a new key goes.


def available() -> bool:
    """Whether the settings name a token."""
    options = conf.current().sealing
    return options.pkcs11_module is not None and bool(options.pkcs11_token)


def wanted(uid: str | None, attributes: Attributes) -> bool:
    """Whether a new key is to be made in the token; raises `KMIPError` where its identifier says so and there is none.

    Without a token a Protection Level is kept as what the client said of its object.
    """
    if uid is not None and uid.startswith(PREFIX):
        _check_slot(uid)
        return True
    if not available():
        return False
    said = attributes.get(PROTECTION_LEVEL, {}).values()
    return attributes.protection_level == ProtectionLevel.HIGH or any(
        str(item.value).casefold() in ("high", "1") for item in said
    )


def _check_slot(uid: str) -> None:
    slot, _, name = uid.removeprefix(PREFIX).partition("::")
    if not available():
        raise KMIPError(ResultReason.PROTECTION_STORAGE_UNAVAILABLE, "the server has no token for keys")
    own = _token().slot
    if slot != str(own) or not name:
        raise KMIPError(ResultReason.INVALID_FIELD, f"the identifier of a key in the token is {PREFIX}{own}::<id>")


def uid(new: str) -> str:
    """The identifier of a new key in the token whose client chose none."""
    return f"{PREFIX}{_token().slot}::{new}"


def _token() -> Token:
    return token.configured(conf.current().sealing)


# Making and destroying.

#: Keys that this process has made and that no object refers to yet, by their identifiers.
_unused: Final[dict[str, Reference]] = {}


def _note(key: Reference, made: list[Reference]) -> None:
    _unused[key.id] = key
    made.append(key)


def unused(made: list[Reference]) -> list[Reference]:
    """Those of some keys that no object refers to, at the end of what they were made for; nobody else is told of
    them."""
    return [one for one in made if _unused.pop(one.id, None) is not None]


def referred(key: Reference) -> None:
    """Note that an object refers to a key once the caller's transaction has committed, in whichever thread."""
    transaction.on_commit(lambda: _unused.pop(key.id, None))


def make(algorithm: CryptographicAlgorithm | None, bits: int | None, label: str, made: list[Reference]) -> Reference:
    """A new symmetric key in the token, which is put into `made`; raises `KMIPError`, or `TokenError` where the token
    is away."""
    if algorithm != A.AES or bits not in (128, 192, 256):
        raise unsupported("the token makes symmetric keys of AES with 128, 192 or 256 bits only")
    pkcs11, where, number = token.binding(), _token(), os.urandom(ID_LENGTH)

    def work(session: Any) -> None:
        flag = pkcs11.MechanismFlag
        session.generate_key(
            pkcs11.KeyType.AES,
            bits,
            id=number,
            label=label,
            store=True,
            capabilities=flag.ENCRYPT | flag.DECRYPT | flag.SIGN | flag.VERIFY,
            template=_private(pkcs11),
        )

    where.use(work)
    reference = Reference(where.label, number.hex(), "AES", bits)
    _note(reference, made)
    return reference


def make_pair(
    algorithm: CryptographicAlgorithm | None,
    bits: int | None,
    *,
    curve: RecommendedCurve | None,
    policy: CryptoPolicy,
    label: str,
    made: list[Reference],
) -> keys.Pair:
    """A new pair whose private key is in the token, with its reference, which is put into `made`, for data; raises
    `KMIPError` or `TokenError`."""
    if algorithm != A.RSA and algorithm not in _EC:
        raise unsupported("the token makes key pairs of RSA and elliptic curves only")
    size, curve = keys.pair_choice(algorithm, bits, curve=curve, policy=policy)
    pkcs11, where, number = token.binding(), _token(), os.urandom(ID_LENGTH)
    parameters = None if curve is None else _ec_parameters(curve)

    def work(session: Any) -> bytes:
        options = {"id": number, "label": label, "store": True, "private_template": _private(pkcs11)}
        if parameters is None:
            public, _ = session.generate_keypair(pkcs11.KeyType.RSA, size, **options)
        else:
            domain = {pkcs11.Attribute.EC_PARAMS: parameters}
            group = session.create_domain_parameters(pkcs11.KeyType.EC, domain, local=True)
            public, _ = group.generate_keypair(**options)
        return _public_of(pkcs11, public)

    der = where.use(work)
    public = keys.public_key(keys.load_public(der), algorithm)
    kind = "RSA" if algorithm == A.RSA else "EC"
    reference = Reference(where.label, number.hex(), kind, public.bits or 0, der.hex())
    _note(reference, made)
    return keys.Pair(dataclasses.replace(public, data=reference.pack()), public)


def _private(pkcs11: Any) -> dict[Any, bool]:
    """What keeps a key in its token."""
    return {pkcs11.Attribute.SENSITIVE: True, pkcs11.Attribute.EXTRACTABLE: False, pkcs11.Attribute.PRIVATE: True}


def _ec_parameters(curve: RecommendedCurve) -> bytes:
    """How PKCS#11 names a curve."""
    from pkcs11.util.ec import encode_named_curve_parameters

    found = CURVES[curve]
    if found.curve is None:
        raise unsupported(f"the token makes no keys on curve {curve}")
    return encode_named_curve_parameters(found.curve.name)


def _public_of(pkcs11: Any, public: Any) -> bytes:
    """The DER of a public key that the token holds."""
    from pkcs11.util.ec import encode_ec_public_key
    from pkcs11.util.rsa import encode_rsa_public_key

    if public.key_type == pkcs11.KeyType.EC:
        return encode_ec_public_key(public)
    return bytes(PublicKeyInfo.wrap(encode_rsa_public_key(public), "rsa").dump())


def destroy(material: bytes | None) -> None:
    """Destroy the key that a reference names in its token; nothing where it is gone. Raises `TokenError`."""
    if material is None:
        return
    found = reference(material)
    pkcs11, where = token.binding(), _of(found)

    def work(session: Any) -> None:
        there = list(session.get_objects({pkcs11.Attribute.ID: bytes.fromhex(found.id)}))
        if not there:
            raise KeyMissing(f"the token {found.token} does not hold the key {found.id}")
        for one in there:
            one.destroy()

    # An absent token looks empty to some libraries, until a new session proves which it is.
    with contextlib.suppress(KeyMissing):
        where.use(work)


def _of(found: Reference) -> Token:
    """The token of a reference; raises `TokenError` where the settings name another one."""
    where = _token()
    if where.label != found.token:
        raise TokenError(f"the key is in the token {found.token}, and the settings name {where.label}")
    return where


# Using.


def opened(material: bytes) -> tuple[Any, CryptographicAlgorithm]:
    """The key that a reference names, to be used, and its algorithm."""
    found = reference(material)
    kind, algorithm = _KINDS[found.kind]
    return kind(found), algorithm


#: Errors of the binding that say what a token does not do.
_REFUSALS: Final = ("MechanismInvalid", "MechanismParamInvalid", "ArgumentsBad", "KeyTypeInconsistent")


class InToken:
    """A key in a token: how it is found there, and what its token's refusals mean."""

    def __init__(self, found: Reference) -> None:
        self._found = found
        self._id = bytes.fromhex(found.id)

    def __repr__(self) -> str:
        return f"<{self._found.kind} key in the token {self._found.token}>"

    def pack(self) -> bytes:
        """What `opened` makes the same key of in another process."""
        return self._found.pack()

    def _use(self, work: Callable[[Any], T], probe: Callable[[Any], object]) -> T:
        """The result of work with the key.

        Raises `UnsupportedAlgorithm` for what the token does not do, `ValueError` for data that it refuses, `KMIPError`
        where it has lost the key, and `TokenError` where it is away.
        """
        pkcs11 = token.binding()
        refusals = tuple(getattr(pkcs11, name) for name in _REFUSALS)

        def attempt(session: Any) -> T:
            key = self._key(session)
            try:
                return work(key)
            except refusals as exc:
                raise UnsupportedAlgorithm("the token does not do this") from exc
            except pkcs11.PKCS11Error as exc:
                # Tokens do not agree on how to say that data is wrong; one that still works meant the data.
                probe(self._key(session))
                raise ValueError("the token refuses the data") from exc

        try:
            return _of(self._found).use(attempt)
        except KeyMissing as exc:
            raise KMIPError(ResultReason.KEY_VALUE_NOT_PRESENT, "the token does not hold this key any more") from exc

    def _key(self, session: Any) -> Any:
        pkcs11 = token.binding()
        secret = self._found.kind == "AES"
        kind = pkcs11.ObjectClass.SECRET_KEY if secret else pkcs11.ObjectClass.PRIVATE_KEY
        found = list(session.get_objects({pkcs11.Attribute.CLASS: kind, pkcs11.Attribute.ID: self._id}))
        if len(found) != 1:
            raise KeyMissing(f"the token {self._found.token} does not hold the key {self._found.id}")
        return found[0]


class SecretKey(InToken, Remote):
    """An AES key in a token."""

    def __len__(self) -> int:
        return self._found.bits // 8

    def encrypt(self, plan: Plan, data: bytes, aad: bytes | None) -> bytes:
        """The ciphertext, with the tag of GCM at its end."""
        options = _mechanism(plan, aad)
        return self._use(lambda key: bytes(key.encrypt(data, **options)), _probe_secret)

    def decrypt(self, plan: Plan, data: bytes, aad: bytes | None) -> bytes:
        """The plaintext of a ciphertext, with the tag of GCM at its end."""
        options = _mechanism(plan, aad)
        return self._use(lambda key: bytes(key.decrypt(data, **options)), _probe_secret)

    def code(self, data: bytes) -> bytes:
        """The CMAC of data."""
        mechanism = token.binding().Mechanism.AES_CMAC
        return self._use(lambda key: bytes(key.sign(data, mechanism=mechanism)), _probe_secret)


def _mechanism(plan: Plan, aad: bytes | None) -> dict[str, Any]:
    pkcs11 = token.binding()
    if plan.mode == B.ECB:
        return {"mechanism": pkcs11.Mechanism.AES_ECB}
    if plan.mode == B.CBC:
        return {"mechanism": pkcs11.Mechanism.AES_CBC, "mechanism_param": plan.iv}
    if plan.mode == B.GCM and len(plan.iv) == GCM_IV:
        parameters = pkcs11.GCMParams(plan.iv, aad=aad or b"", tag_bits=plan.tag_length * 8)
        return {"mechanism": pkcs11.Mechanism.AES_GCM, "mechanism_param": parameters}
    raise unsupported(f"a key in the token is not used in mode {plan.mode}; ECB, CBC, GCM with an IV of 96 bits are")


def _probe_secret(key: Any) -> None:
    key.encrypt(bytes(16), mechanism=token.binding().Mechanism.AES_ECB)


#: The hash functions that tokens know by name.
_HASHES: Final = {
    "sha1": ("SHA_1", "SHA1"),
    "sha224": ("SHA224", "SHA224"),
    "sha256": ("SHA256", "SHA256"),
    "sha384": ("SHA384", "SHA384"),
    "sha512": ("SHA512", "SHA512"),
}
_Digest = hashes.HashAlgorithm | Prehashed | NoDigestInfo


def _digest(data: bytes, algorithm: _Digest) -> tuple[bytes, hashes.HashAlgorithm | None]:
    """The digest that is signed, and its hash; none for data that is signed as it is."""
    if isinstance(algorithm, NoDigestInfo):
        return data, None
    if isinstance(algorithm, Prehashed):
        return data, algorithm._algorithm
    context = hashes.Hash(algorithm)
    context.update(data)
    return context.finalize(), algorithm


def _names(algorithm: hashes.HashAlgorithm | None) -> tuple[Any, Any]:
    """Hash and mask generator of PKCS#11."""
    pkcs11 = token.binding()
    named = _HASHES.get(algorithm.name) if algorithm is not None else None
    if named is None:
        raise UnsupportedAlgorithm("the token does not know this hash function")
    return pkcs11.Mechanism[named[0]], pkcs11.MGF[named[1]]


class _PrivateKey(InToken):
    """What both kinds of private keys have in common."""

    def _leaves(self) -> NoReturn:
        raise KMIPError(ResultReason.NOT_EXTRACTABLE, "the key is in a token and does not leave it")

    def private_numbers(self) -> Any:
        """Refused."""
        self._leaves()

    def private_bytes(self, *_: Any, **__: Any) -> bytes:
        """Refused."""
        self._leaves()

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: Any) -> Any:
        return self


class RSAKey(_PrivateKey, rsa.RSAPrivateKey):
    """A private RSA key in a token."""

    def public_key(self) -> rsa.RSAPublicKey:
        """The public key, which is here as well."""
        return cast(rsa.RSAPublicKey, keys.load_public(bytes.fromhex(self._found.public)))

    @property
    def key_size(self) -> int:
        """Bits of the modulus."""
        return self._found.bits

    def sign(self, data: Any, padding: AsymmetricPadding, algorithm: _Digest) -> bytes:
        """Sign data, or a digest that is `Prehashed`, with PKCS #1 v1.5 or PSS."""
        options: dict[str, Any]
        digest, function = _digest(bytes(data), algorithm)
        mechanism = token.binding().Mechanism
        if isinstance(padding, PSS):
            hashing, _ = _names(function)
            options = {
                "mechanism": mechanism.RSA_PKCS_PSS,
                "mechanism_param": (hashing, _names(padding.mgf._algorithm)[1], self._salt(padding, function)),
            }
        elif isinstance(padding, PKCS1v15):
            options = {"mechanism": mechanism.RSA_PKCS}
            if function is not None:
                digest = _digest_info(function, digest)
        else:
            raise UnsupportedAlgorithm("the token does not sign with this padding")
        return self._use(lambda key: bytes(key.sign(digest, **options)), _probe_rsa)

    def _salt(self, padding: PSS, function: hashes.HashAlgorithm | None) -> int:
        assert function is not None
        length = padding._salt_length
        if isinstance(length, int):
            return length
        return function.digest_size if length is PSS.DIGEST_LENGTH else calculate_max_pss_salt_length(self, function)

    def decrypt(self, ciphertext: Any, padding: AsymmetricPadding) -> bytes:
        """Decrypt with OAEP or PKCS #1 v1.5."""
        mechanism, options = token.binding().Mechanism, dict[str, Any]()
        if isinstance(padding, OAEP):
            hashing, _ = _names(padding.algorithm)
            label = padding._label or None
            options = {
                "mechanism": mechanism.RSA_PKCS_OAEP,
                "mechanism_param": (hashing, _names(cast(Any, padding.mgf)._algorithm)[1], label),
            }
        elif isinstance(padding, PKCS1v15):
            options = {"mechanism": mechanism.RSA_PKCS}
        else:
            raise UnsupportedAlgorithm("the token does not decrypt with this padding")
        return self._use(lambda key: bytes(key.decrypt(bytes(ciphertext), **options)), _probe_rsa)


def _digest_info(function: hashes.HashAlgorithm, digest: bytes) -> bytes:
    """What PKCS #1 v1.5 signs (RFC 8017, 9.2)."""
    if function.name not in _HASHES:
        raise UnsupportedAlgorithm("the token does not know this hash function")
    algorithm = algos.DigestAlgorithm({"algorithm": function.name, "parameters": core.Null()})
    return cast(bytes, algos.DigestInfo({"digest_algorithm": algorithm, "digest": digest}).dump())


def _probe_rsa(key: Any) -> None:
    key.sign(bytes(32), mechanism=token.binding().Mechanism.RSA_PKCS)


class ECKey(_PrivateKey, ec.EllipticCurvePrivateKey):
    """A private key on an elliptic curve in a token."""

    def public_key(self) -> ec.EllipticCurvePublicKey:
        """The public key, which is here as well."""
        return cast(ec.EllipticCurvePublicKey, keys.load_public(bytes.fromhex(self._found.public)))

    @property
    def curve(self) -> ec.EllipticCurve:
        """The curve."""
        return self.public_key().curve

    @property
    def key_size(self) -> int:
        """Bits of the curve."""
        return self.curve.key_size

    def sign(self, data: Any, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        """Sign data, or a digest that is `Prehashed`, with ECDSA."""
        digest, _ = _digest(bytes(data), cast(Any, signature_algorithm.algorithm))
        # FIPS 186-5, 6.4: a longer digest is cut to the length of the order, which tokens leave to their caller.
        digest = digest[: (self.key_size + 7) // 8]
        raw = self._use(lambda key: bytes(key.sign(digest, mechanism=token.binding().Mechanism.ECDSA)), _probe_ec)
        half = len(raw) // 2
        return encode_dss_signature(int.from_bytes(raw[:half]), int.from_bytes(raw[half:]))

    def exchange(self, algorithm: ec.ECDH, peer_public_key: ec.EllipticCurvePublicKey) -> bytes:
        """The secret that is shared with another key."""
        pkcs11 = token.binding()
        if peer_public_key.curve.name != self.curve.name:
            raise ValueError("the keys are not on one curve")
        point = peer_public_key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

        def work(key: Any) -> bytes:
            secret = key.derive_key(
                pkcs11.KeyType.GENERIC_SECRET,
                (self.key_size + 7) // 8 * 8,
                mechanism=pkcs11.Mechanism.ECDH1_DERIVE,
                mechanism_param=(pkcs11.KDF.NULL, None, point),
                template={pkcs11.Attribute.SENSITIVE: False, pkcs11.Attribute.EXTRACTABLE: True},
                store=False,
            )
            return bytes(secret[pkcs11.Attribute.VALUE])

        return self._use(work, _probe_ec)


def _probe_ec(key: Any) -> None:
    key.sign(bytes(20), mechanism=token.binding().Mechanism.ECDSA)


_KINDS: Final[dict[str, tuple[Callable[[Reference], Any], CryptographicAlgorithm]]] = {
    "AES": (SecretKey, A.AES),
    "RSA": (RSAKey, A.RSA),
    "EC": (ECKey, A.EC),
}
