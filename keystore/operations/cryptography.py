"""Cryptographic services: the server uses keys, so that they need not leave it (2.1, 6.1.11 to 6.1.56).

What a key may be used for is decided in `uses`, what cryptography may be used at all by `crypto.policy`; parameters are
those of the request, else the key's, else the defaults of the cryptographic room.
"""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, NamedTuple, Protocol

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

from keystore import addressing, bulk, conf, opened, streams, turns, uses, wrapped
from keystore.call import Call, operation
from keystore.crypto import ciphers, signing
from keystore.crypto.algorithms import ALGORITHMS, A, Asymmetric, bad
from keystore.opened import Opened
from keystore.store import Managed
from keystore.streams import Output, Task
from kmip.enums import (
    CryptographicAlgorithm,
    HashingAlgorithm,
    ObjectType,
    Operation,
    PaddingMethod,
    ResultReason,
    ValidityIndicator,
)
from kmip.enums import CryptographicUsageMask as Mask
from kmip.errors import KMIPError
from kmip.payloads import (
    DecryptRequest,
    DecryptResponse,
    EncryptRequest,
    EncryptResponse,
    HashRequest,
    HashResponse,
    MACRequest,
    MACResponse,
    MACVerifyRequest,
    MACVerifyResponse,
    RNGRetrieveRequest,
    RNGRetrieveResponse,
    RNGSeedRequest,
    RNGSeedResponse,
    SignatureVerifyRequest,
    SignatureVerifyResponse,
    SignRequest,
    SignResponse,
)
from kmip.structures import CryptographicParameters, Identifier

O = ObjectType  # noqa: E741 - one letter like the other enumerations

#: Bytes that RNG Retrieve gives at once.
MOST_RANDOM: Final = 1_048_576
#: The object types that can be used so at all.
_TYPES: Final = {
    Mask.ENCRYPT: frozenset({O.SYMMETRIC_KEY, O.PUBLIC_KEY, O.CERTIFICATE}),
    Mask.DECRYPT: frozenset({O.SYMMETRIC_KEY, O.PRIVATE_KEY}),
    Mask.SIGN: frozenset({O.PRIVATE_KEY}),
    Mask.VERIFY: frozenset({O.PUBLIC_KEY, O.CERTIFICATE}),
    Mask.MAC_GENERATE: frozenset({O.SYMMETRIC_KEY, O.SECRET_DATA}),
    Mask.MAC_VERIFY: frozenset({O.SYMMETRIC_KEY, O.SECRET_DATA}),
}
#: Private keys that are quick at their work: others may take a second.
_QUICK_ALGORITHMS: Final = frozenset({A.RSA, A.EC, A.ECDSA, A.ECDH, A.ED25519})
_QUICK_BITS: Final = 2048
#: Keys of one kind under two names.
_SAME_KEYS: Final = frozenset({A.CHACHA20, A.CHACHA20POLY1305})


class Named(Protocol):
    """A request that names a key and parameters."""

    unique_identifier: Identifier | None
    cryptographic_parameters: CryptographicParameters | None


class Using(NamedTuple):
    """A key in use."""

    managed: Managed
    opened: Opened
    parameters: CryptographicParameters | None

    @property
    def key(self) -> Any:
        """The key itself: its bytes, or a private or public key."""
        return self.opened.key

    def cipher(self) -> CryptographicAlgorithm:
        """The algorithm to encrypt or decrypt with: the key's, which the parameters may say more exactly."""
        own, named = self.opened.algorithm, self.parameters and self.parameters.cryptographic_algorithm
        if own is None or (named is not None and own in _SAME_KEYS and named in _SAME_KEYS):
            own = named or own
        if own is None:
            raise bad("neither the key nor the Cryptographic Parameters name a Cryptographic Algorithm")
        if named not in (None, own) and isinstance(self.key, bytes):
            raise bad(f"the Cryptographic Parameters name {named} where the key is of {own}")
        return own

    def is_hybrid(self) -> bool:
        """Whether clients of the JSON dialect mean RSA-AES key wrap: by an RSA key without padding."""
        unpadded = self.parameters is not None and self.parameters.padding_method == PaddingMethod.NONE
        return unpadded and isinstance(self.key, RSAPublicKey | RSAPrivateKey)

    def hybrid_hash(self) -> HashingAlgorithm:
        """The hash of OAEP in it."""
        named = self.parameters.hashing_algorithm if self.parameters is not None else None
        return named or HashingAlgorithm.SHA_256


def using(call: Call, request: Named, use: Mask) -> Using:
    """The key that a request names, if it may be used so now; raises `KMIPError`."""
    return candidates(call, request, use)[0]


def candidates(call: Call, request: Named, use: Mask) -> list[Using]:
    """The keys that a request may mean, if they may be used so now: one, but for what a key set of the JSON dialect has
    protected, newest first. Raises `KMIPError` where there is none.

    Tags must leave one object that can be used so; a key set protects with its newest key.
    """
    identifier = request.unique_identifier
    if not call.dialect:
        return [_using(call, call.object(identifier), request, use)]
    found = call.objects(identifier)
    if len(found) == 1:
        return [_using(call, found[0], request, use)]
    several = not addressing.is_tags(call.resolve(identifier))
    if several and use & uses.PROTECTING:
        return [_using(call, found[0], request, use)]
    usable, refusals = [], []
    for managed in found:
        try:
            usable.append(_using(call, managed, request, use))
        except KMIPError as exc:
            refusals.append(exc)
    if not usable:
        raise refusals[0]
    if len(usable) > 1 and not several:
        raise KMIPError(
            ResultReason.INVALID_FIELD, f"{len(usable)} objects with these tags can be used so: name one of them"
        )
    return usable


def _using(call: Call, managed: Managed, request: Named, use: Mask) -> Using:
    call.check_live(managed)
    uses.check(managed, use, _TYPES[use], call.now)
    try:
        key = opened.key_of(managed)
    except opened.WrappedError:
        key = opened.unwrapped(managed, lambda block: wrapped.unwrap(call, block))
    if managed.object_type == O.PRIVATE_KEY and not _is_quick(managed):
        turns.leave()
    return Using(managed, key, request.cryptographic_parameters or key.parameters)


def _is_quick(managed: Managed) -> bool:
    """Whether a private key does its work in well under a millisecond."""
    bits = managed.columns["cryptographic_length"]
    return managed.columns["cryptographic_algorithm"] in _QUICK_ALGORITHMS and bits is not None and bits <= _QUICK_BITS


def _is_part(request: Any) -> bool:
    """Whether a request is a part of a stream; one that is first and last is not (2.1, 6.1)."""
    return request.correlation_value is not None or bool(request.init_indicator) != bool(request.final_indicator)


def _part(
    call: Call, request: Any, use: Mask | None, *, expected: bytes | None = None, **inputs: bytes | None
) -> tuple[str | None, Output]:
    """Carry out a part of a stream; returns the key's identifier and what the part gives.

    Each part asks again whether the key may be used so, or a stream would go on after a revocation.
    """
    keeper = streams.keeper()
    client = f"{call.identity.namespace}/{call.identity.username}"
    data = call.data(request.data)
    correlation = request.correlation_value
    first, last = correlation is None, bool(request.final_indicator)
    if first != bool(request.init_indicator):
        raise KMIPError(
            ResultReason.INVALID_FIELD, "the first part has an Init Indicator, the others the Correlation Value"
        )
    if data is None and not first and not last:
        raise KMIPError(ResultReason.MISSING_DATA, "Data is required")
    key: Using | None = None
    if use is not None:
        if request.unique_identifier is None and correlation is not None:
            request.unique_identifier = keeper.key_of(client, correlation)
        key = using(call, request, use)
    uid = "" if key is None else key.managed.uid
    with _paid(key, use, len(data or b""), objects=int(first)):
        if correlation is None:
            task = _task(call, request, key, expected, inputs)
            out = keeper.begin(client, uid, task, data or b"")
        else:
            out = keeper.go_on(client, uid, call.operation, correlation, data or b"", last=last, expected=expected)
    if out.data is not None:
        call.gives(out.data)
    return uid or None, out


def _paid(key: Using | None, use: Mask | None, size: int, *, objects: int) -> AbstractContextManager[None]:
    if key is None or use is None or not use & uses.PROTECTING:
        return nullcontext()
    return uses.allocated(key.managed, key.opened, size, objects=objects)


def _task(call: Call, request: Any, key: Using | None, expected: bytes | None, inputs: dict[str, bytes | None]) -> Task:
    ciphers_ = call.operation in (Operation.ENCRYPT, Operation.DECRYPT)
    return Task(
        operation=call.operation,
        policy=call.crypto_policy,
        key=None if key is None else key.key,
        algorithm=None if key is None else key.cipher() if ciphers_ else key.opened.algorithm,
        parameters=request.cryptographic_parameters if key is None else key.parameters,
        expected=expected,
        **inputs,
    )


def _needed(value: bytes | None, name: str) -> bytes:
    if value is None:
        raise KMIPError(ResultReason.MISSING_DATA, f"{name} is required")
    return value


@operation(Operation.ENCRYPT, changes=False, brief=True)
def encrypt(call: Call, request: EncryptRequest) -> EncryptResponse:
    """Encrypt data; an IV that the server drew is returned (KMIP 2.1, 6.1.17)."""
    if _is_part(request):
        uid, out = _part(
            call,
            request,
            Mask.ENCRYPT,
            iv=request.iv_counter_nonce,
            aad=request.authenticated_encryption_additional_data,
        )
        text, tag = _tagged(call, out.data, out.tag)
        return EncryptResponse(
            unique_identifier=uid,
            data=text,
            iv_counter_nonce=out.iv,
            correlation_value=out.correlation,
            authenticated_encryption_tag=tag,
        )
    use = using(call, request, Mask.ENCRYPT)
    data = call.data(request.data)
    if data is None and _encapsulates(use.cipher()):
        data = b""
    data = _needed(data, "Data")
    items = bulk.split(data) if call.dialect and request.iv_counter_nonce is None else None
    if items is not None:
        return _encrypt_bulk(call, request, use, items)
    with uses.allocated(use.managed, use.opened, len(data)):
        done = _encrypt(call, request, use, data)
    text, tag = _tagged(call, done.data, done.tag)
    call.gives(text or b"")
    return EncryptResponse(
        unique_identifier=use.managed.uid, data=text, iv_counter_nonce=done.iv, authenticated_encryption_tag=tag
    )


def _encrypt(call: Call, request: EncryptRequest, use: Using, data: bytes) -> ciphers.Encrypted:
    if call.dialect and use.is_hybrid():
        return ciphers.Encrypted(ciphers.rsa_aes_wrap(use.key, data, use.hybrid_hash(), policy=call.crypto_policy))
    return ciphers.encrypt(
        use.cipher(),
        use.key,
        use.parameters,
        data,
        iv=request.iv_counter_nonce,
        aad=request.authenticated_encryption_additional_data,
        policy=call.crypto_policy,
    )


def _encrypt_bulk(call: Call, request: EncryptRequest, use: Using, items: list[bytes]) -> EncryptResponse:
    """Encrypt each item under an IV of its own, which stands before the ciphertext, the tag behind it."""
    with uses.allocated(use.managed, use.opened, sum(map(len, items)), objects=len(items)):
        if use.is_hybrid():
            done = [_encrypt(call, request, use, item).data for item in items]
        else:
            aad = request.authenticated_encryption_additional_data
            done = ciphers.encrypt_each(
                use.cipher(), use.key, use.parameters, items, aad=aad, policy=call.crypto_policy
            )
    return EncryptResponse(unique_identifier=use.managed.uid, data=bulk.join(done))


def _tagged(call: Call, text: bytes | None, tag: bytes | None) -> tuple[bytes | None, bytes | None]:
    """Ciphertext and tag where the version of the message has them."""
    if tag is not None and not call.tag_apart:
        return (text or b"") + tag, None
    return text, tag


def _encapsulates(algorithm: CryptographicAlgorithm) -> bool:
    row = ALGORITHMS.get(algorithm)
    return isinstance(row, Asymmetric) and row.encapsulates


@operation(Operation.DECRYPT, changes=False, brief=True)
def decrypt(call: Call, request: DecryptRequest) -> DecryptResponse:
    """Decrypt data; a tag that is not given apart is the end of the data (KMIP 2.1, 6.1.11)."""
    if _is_part(request):
        uid, out = _part(
            call,
            request,
            Mask.DECRYPT,
            iv=request.iv_counter_nonce,
            aad=request.authenticated_encryption_additional_data,
            tag=request.authenticated_encryption_tag,
        )
        return DecryptResponse(unique_identifier=uid, data=out.data, correlation_value=out.correlation)
    keys = candidates(call, request, Mask.DECRYPT)
    data = _needed(call.data(request.data), "Data")
    failures = []
    for use in keys:
        try:
            plain = _decrypt_data(call, request, use, data)
        except KMIPError as exc:
            if exc.reason != ResultReason.CRYPTOGRAPHIC_FAILURE:
                raise
            failures.append(exc)
        else:
            call.gives(plain)
            return DecryptResponse(unique_identifier=use.managed.uid, data=plain)
    raise failures[0]


def _decrypt_data(call: Call, request: DecryptRequest, use: Using, data: bytes) -> bytes:
    """One ciphertext, with its IV before it where the client is known for that; or in the JSON dialect the items of a
    frame, each with its IV before and its tag behind."""
    iv, tag = request.iv_counter_nonce, request.authenticated_encryption_tag
    items = bulk.split(data) if call.dialect and iv is None and tag is None else None
    before = iv is None and call.identity.username in conf.current().crypto.iv_before_data
    if items is None and not before:
        return _decrypt(call, request, use, data, iv=iv, tag=tag)
    if items is None:
        size = ciphers.drawn(use.cipher(), use.key, use.parameters, policy=call.crypto_policy)
        return _decrypt(call, request, use, data[size:], iv=data[:size] or None, tag=tag)
    if use.is_hybrid():
        return bulk.join(_decrypt(call, request, use, item, iv=None) for item in items)
    aad = request.authenticated_encryption_additional_data
    return bulk.join(
        ciphers.decrypt_each(use.cipher(), use.key, use.parameters, items, aad=aad, policy=call.crypto_policy)
    )


def _decrypt(
    call: Call, request: DecryptRequest, use: Using, data: bytes, *, iv: bytes | None, tag: bytes | None = None
) -> bytes:
    if call.dialect and use.is_hybrid():
        return ciphers.rsa_aes_unwrap(use.key, data, use.hybrid_hash(), policy=call.crypto_policy)
    return ciphers.decrypt(
        use.cipher(),
        use.key,
        use.parameters,
        data,
        iv=iv,
        aad=request.authenticated_encryption_additional_data,
        tag=tag,
        policy=call.crypto_policy,
    )


def _no_digest(request: SignRequest | SignatureVerifyRequest) -> None:
    if request.digested_data is not None:
        raise KMIPError(ResultReason.INVALID_FIELD, "Digested Data comes in one part")


@operation(Operation.SIGN, changes=False, brief=True)
def sign(call: Call, request: SignRequest) -> SignResponse:
    """Sign data, or data of which the digest is given (KMIP 2.1, 6.1.55)."""
    if _is_part(request):
        _no_digest(request)
        uid, out = _part(call, request, Mask.SIGN)
        return SignResponse(unique_identifier=uid, signature_data=out.data, correlation_value=out.correlation)
    use = using(call, request, Mask.SIGN)
    data, digest = call.data(request.data), request.digested_data
    with uses.allocated(use.managed, use.opened, len(data or digest or b"")):
        signature = signing.sign(use.key, use.parameters, data, digest=digest, policy=call.crypto_policy)
    call.gives(signature)
    return SignResponse(unique_identifier=use.managed.uid, signature_data=signature)


@operation(Operation.SIGNATURE_VERIFY, changes=False, brief=True)
def signature_verify(call: Call, request: SignatureVerifyRequest) -> SignatureVerifyResponse:
    """Say whether a signature is valid; that it is not is an answer, no failure (KMIP 2.1, 6.1.56)."""
    if _is_part(request):
        _no_digest(request)
        uid, out = _part(call, request, Mask.VERIFY, expected=request.signature_data)
        return SignatureVerifyResponse(
            unique_identifier=uid, validity_indicator=out.validity, correlation_value=out.correlation
        )
    keys = candidates(call, request, Mask.VERIFY)
    signature, data = _needed(request.signature_data, "Signature Data"), call.data(request.data)

    def check(use: Using) -> ValidityIndicator:
        return signing.verify(
            use.key, use.parameters, signature, data, digest=request.digested_data, policy=call.crypto_policy
        )

    uid, validity = _validity(keys, check)
    return SignatureVerifyResponse(unique_identifier=uid, validity_indicator=validity)


def _validity(keys: list[Using], check: Callable[[Using], ValidityIndicator]) -> tuple[str, ValidityIndicator]:
    """The key under which something is valid, else the first."""
    for use in keys:
        if check(use) == ValidityIndicator.VALID:
            return use.managed.uid, ValidityIndicator.VALID
    return keys[0].managed.uid, ValidityIndicator.INVALID


@operation(Operation.MAC, changes=False, brief=True)
def mac(call: Call, request: MACRequest) -> MACResponse:
    """Make a message authentication code (KMIP 2.1, 6.1.32)."""
    if _is_part(request):
        uid, out = _part(call, request, Mask.MAC_GENERATE)
        return MACResponse(unique_identifier=uid, mac_data=out.data, correlation_value=out.correlation)
    use = using(call, request, Mask.MAC_GENERATE)
    data = _needed(call.data(request.data), "Data")
    with uses.allocated(use.managed, use.opened, len(data)):
        code = signing.mac(use.opened.algorithm, use.key, use.parameters, data, policy=call.crypto_policy)
    call.gives(code)
    return MACResponse(unique_identifier=use.managed.uid, mac_data=code)


@operation(Operation.MAC_VERIFY, changes=False, brief=True)
def mac_verify(call: Call, request: MACVerifyRequest) -> MACVerifyResponse:
    """Say whether a message authentication code is that of some data (KMIP 2.1, 6.1.33)."""
    if _is_part(request):
        uid, out = _part(call, request, Mask.MAC_VERIFY, expected=request.mac_data)
        return MACVerifyResponse(
            unique_identifier=uid, validity_indicator=out.validity, correlation_value=out.correlation
        )
    keys = candidates(call, request, Mask.MAC_VERIFY)
    data, code = _needed(call.data(request.data), "Data"), _needed(request.mac_data, "MAC Data")

    def check(use: Using) -> ValidityIndicator:
        return signing.mac_verify(use.opened.algorithm, use.key, use.parameters, data, code, policy=call.crypto_policy)

    uid, validity = _validity(keys, check)
    return MACVerifyResponse(unique_identifier=uid, validity_indicator=validity)


@operation(Operation.HASH, changes=False, brief=True)
def hash_(call: Call, request: HashRequest) -> HashResponse:
    """Hash data (KMIP 2.1, 6.1.24)."""
    if _is_part(request):
        _, out = _part(call, request, None)
        return HashResponse(data=out.data, correlation_value=out.correlation)
    data = _needed(call.data(request.data), "Data")
    digest = signing.digest(request.cryptographic_parameters, data, policy=call.crypto_policy)
    call.gives(digest)
    return HashResponse(data=digest)


@operation(Operation.RNG_RETRIEVE, changes=False, brief=True)
def rng_retrieve(call: Call, request: RNGRetrieveRequest) -> RNGRetrieveResponse:
    """Give random bytes of the operating system (KMIP 2.1, 6.1.49)."""
    if not 0 < request.data_length <= MOST_RANDOM:
        raise KMIPError(ResultReason.INVALID_FIELD, f"Data Length is from 1 to {MOST_RANDOM}")
    data = os.urandom(request.data_length)
    call.gives(data)
    return RNGRetrieveResponse(data=data)


@operation(Operation.RNG_SEED, changes=False, brief=True)
def rng_seed(call: Call, request: RNGSeedRequest) -> RNGSeedResponse:
    """Take no seed: the operating system's generator has better ones (KMIP 2.1, 6.1.50)."""
    call.data(request.data)
    return RNGSeedResponse(data_length=0)
