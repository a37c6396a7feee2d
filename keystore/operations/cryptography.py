"""Cryptographic services: the server uses keys, so that they need not leave it (2.1, 6.1.11 to 6.1.56).

What a key may be used for is decided in `uses`, what cryptography may be used at all by `crypto.policy`; parameters are
those of the request, else the key's, else the defaults of the cryptographic room.
"""

import os
from typing import Any, Final, NamedTuple, Protocol

from keystore import opened, uses
from keystore.call import Call, operation
from keystore.crypto import ciphers, signing
from keystore.crypto.algorithms import ALGORITHMS, A, Asymmetric, bad
from keystore.opened import Opened
from keystore.store import Managed
from kmip.enums import CryptographicAlgorithm, ObjectType, Operation, ResultReason
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


def using(call: Call, request: Named, use: Mask) -> Using:
    """The key that a request names, if it may be used so now; raises `KMIPError`."""
    managed = call.live(request.unique_identifier)
    uses.check(managed, use, _TYPES[use], call.now)
    key = opened.key_of(managed)
    return Using(managed, key, request.cryptographic_parameters or key.parameters)


def _one_part(request: Any) -> None:
    """Refuse a request that is a part of a stream."""
    if request.correlation_value is not None or bool(request.init_indicator) != bool(request.final_indicator):
        raise KMIPError(ResultReason.FEATURE_NOT_SUPPORTED, "data is taken in one part only")


def _needed(value: bytes | None, name: str) -> bytes:
    if value is None:
        raise KMIPError(ResultReason.MISSING_DATA, f"{name} is required")
    return value


@operation(Operation.ENCRYPT, changes=False)
def encrypt(call: Call, request: EncryptRequest) -> EncryptResponse:
    """Encrypt data; an IV that the server drew is returned (KMIP 2.1, 6.1.17)."""
    _one_part(request)
    use = using(call, request, Mask.ENCRYPT)
    algorithm = use.cipher()
    data = call.data(request.data)
    if data is None and _encapsulates(algorithm):
        data = b""
    data = _needed(data, "Data")
    with uses.allocated(use.managed, use.opened, len(data)):
        done = ciphers.encrypt(
            algorithm,
            use.key,
            use.parameters,
            data,
            iv=request.iv_counter_nonce,
            aad=request.authenticated_encryption_additional_data,
            policy=call.crypto_policy,
        )
    text, tag = done.data, done.tag
    if tag is not None and not call.tag_apart:
        text, tag = text + tag, None
    call.gives(text)
    return EncryptResponse(
        unique_identifier=use.managed.uid, data=text, iv_counter_nonce=done.iv, authenticated_encryption_tag=tag
    )


def _encapsulates(algorithm: CryptographicAlgorithm) -> bool:
    row = ALGORITHMS.get(algorithm)
    return isinstance(row, Asymmetric) and row.encapsulates


@operation(Operation.DECRYPT, changes=False)
def decrypt(call: Call, request: DecryptRequest) -> DecryptResponse:
    """Decrypt data; a tag that is not given apart is the end of the data (KMIP 2.1, 6.1.11)."""
    _one_part(request)
    use = using(call, request, Mask.DECRYPT)
    plain = ciphers.decrypt(
        use.cipher(),
        use.key,
        use.parameters,
        _needed(call.data(request.data), "Data"),
        iv=request.iv_counter_nonce,
        aad=request.authenticated_encryption_additional_data,
        tag=request.authenticated_encryption_tag,
        policy=call.crypto_policy,
    )
    call.gives(plain)
    return DecryptResponse(unique_identifier=use.managed.uid, data=plain)


@operation(Operation.SIGN, changes=False)
def sign(call: Call, request: SignRequest) -> SignResponse:
    """Sign data, or data of which the digest is given (KMIP 2.1, 6.1.55)."""
    _one_part(request)
    use = using(call, request, Mask.SIGN)
    data, digest = call.data(request.data), request.digested_data
    with uses.allocated(use.managed, use.opened, len(data or digest or b"")):
        signature = signing.sign(use.key, use.parameters, data, digest=digest, policy=call.crypto_policy)
    call.gives(signature)
    return SignResponse(unique_identifier=use.managed.uid, signature_data=signature)


@operation(Operation.SIGNATURE_VERIFY, changes=False)
def signature_verify(call: Call, request: SignatureVerifyRequest) -> SignatureVerifyResponse:
    """Say whether a signature is valid; that it is not is an answer, no failure (KMIP 2.1, 6.1.56)."""
    _one_part(request)
    use = using(call, request, Mask.VERIFY)
    validity = signing.verify(
        use.key,
        use.parameters,
        _needed(request.signature_data, "Signature Data"),
        call.data(request.data),
        digest=request.digested_data,
        policy=call.crypto_policy,
    )
    return SignatureVerifyResponse(unique_identifier=use.managed.uid, validity_indicator=validity)


@operation(Operation.MAC, changes=False)
def mac(call: Call, request: MACRequest) -> MACResponse:
    """Make a message authentication code (KMIP 2.1, 6.1.32)."""
    _one_part(request)
    use = using(call, request, Mask.MAC_GENERATE)
    data = _needed(call.data(request.data), "Data")
    with uses.allocated(use.managed, use.opened, len(data)):
        code = signing.mac(use.opened.algorithm, use.key, use.parameters, data, policy=call.crypto_policy)
    call.gives(code)
    return MACResponse(unique_identifier=use.managed.uid, mac_data=code)


@operation(Operation.MAC_VERIFY, changes=False)
def mac_verify(call: Call, request: MACVerifyRequest) -> MACVerifyResponse:
    """Say whether a message authentication code is that of some data (KMIP 2.1, 6.1.33)."""
    _one_part(request)
    use = using(call, request, Mask.MAC_VERIFY)
    validity = signing.mac_verify(
        use.opened.algorithm,
        use.key,
        use.parameters,
        _needed(call.data(request.data), "Data"),
        _needed(request.mac_data, "MAC Data"),
        policy=call.crypto_policy,
    )
    return MACVerifyResponse(unique_identifier=use.managed.uid, validity_indicator=validity)


@operation(Operation.HASH, changes=False)
def hash_(call: Call, request: HashRequest) -> HashResponse:
    """Hash data (KMIP 2.1, 6.1.24)."""
    _one_part(request)
    data = _needed(call.data(request.data), "Data")
    digest = signing.digest(request.cryptographic_parameters, data, policy=call.crypto_policy)
    call.gives(digest)
    return HashResponse(data=digest)


@operation(Operation.RNG_RETRIEVE, changes=False)
def rng_retrieve(call: Call, request: RNGRetrieveRequest) -> RNGRetrieveResponse:
    """Give random bytes of the operating system (KMIP 2.1, 6.1.49)."""
    if not 0 < request.data_length <= MOST_RANDOM:
        raise KMIPError(ResultReason.INVALID_FIELD, f"Data Length is from 1 to {MOST_RANDOM}")
    data = os.urandom(request.data_length)
    call.gives(data)
    return RNGRetrieveResponse(data=data)


@operation(Operation.RNG_SEED, changes=False)
def rng_seed(call: Call, request: RNGSeedRequest) -> RNGSeedResponse:
    """Take no seed: the operating system's generator has better ones (KMIP 2.1, 6.1.50)."""
    call.data(request.data)
    return RNGSeedResponse(data_length=0)
