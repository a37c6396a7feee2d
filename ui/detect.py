"""What pasted or uploaded bytes are: certificates, keys and requests in their many wrappings, or plain bytes.

`detect` looks and stores nothing. What it finds is shown, and becomes Register payloads once a person agrees.
"""

import base64
import binascii
import json
import re
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa, x448, x25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
    load_der_public_key,
    load_pem_private_key,
    load_pem_public_key,
    load_ssh_private_key,
    load_ssh_public_key,
)
from django.utils.translation import gettext

from keystore.crypto import keys
from kmip.enums import (
    CertificateRequestType,
    CertificateType,
    CryptographicAlgorithm,
    KeyFormatType,
    ObjectType,
    OpaqueDataType,
)
from kmip.errors import KMIPError
from kmip.objects import (
    Certificate,
    CertificateRequest,
    KeyBlock,
    KeyValue,
    OpaqueObject,
    PrivateKey,
    PublicKey,
    SymmetricKey,
)
from kmip.schema import Struct

_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)
_FAILURES = (ValueError, TypeError, UnsupportedAlgorithm)
#: The Opaque Data Type of bytes that nothing is known of: an extension, as the specification lists no values.
BYTES = OpaqueDataType._missing_(0x80000001)
AES_BITS = frozenset({128, 192, 256})


class PasswordNeeded(Exception):
    """The bytes are encrypted, and the password is missing or wrong."""


@dataclass(frozen=True)
class Found:
    """One object found: its type, how it was wrapped, what it is in words, and the structure to register."""

    object_type: ObjectType
    wrapping: str
    summary: str
    value: Struct = field(repr=False)
    name: str = ""


def detect(data: bytes, password: str = "") -> list[Found]:
    """The objects in some bytes; plain bytes are a symmetric key or an opaque object.

    Raises `PasswordNeeded` where something is encrypted under a password that was not given.
    """
    secret = password.encode() or None
    blocks = list(_PEM.finditer(data))
    if blocks:
        return [one for block in blocks for one in _pem(block[1].decode(), block[0], secret)]
    text = _text(data)
    if text is not None:
        if text.startswith("{"):
            found = _jwk(text)
            if found:
                return found
        if text.startswith(("ssh-", "ecdsa-sha2-")):
            found = _ssh(text)
            if found:
                return found
        for wrapping, reading in ((gettext("Hexadecimal"), _hex), ("Base64", _base64)):
            inner = reading(text)
            if inner:
                return _der(inner, secret, wrapping) or _plain(inner, wrapping)
        return _plain(data, gettext("Text"))
    return _der(data, secret, "") or _plain(data, gettext("Bytes"))


def _text(data: bytes) -> str | None:
    try:
        text = data.decode("ascii").strip()
    except UnicodeDecodeError:
        return None
    return text if text and all(one.isprintable() or one in "\r\n\t" for one in text) else None


def _hex(text: str) -> bytes | None:
    joined = "".join(text.split()).removeprefix("0x").replace(":", "")
    try:
        return bytes.fromhex(joined)
    except ValueError:
        return None


def _base64(text: str) -> bytes | None:
    joined = "".join(text.split()).replace("-", "+").replace("_", "/")
    if len(joined) < 16 or len(joined.rstrip("=")) % 4 == 1:
        return None
    try:
        return base64.b64decode(joined.rstrip("=") + "=" * (-len(joined.rstrip("=")) % 4), validate=True)
    except binascii.Error:
        return None


def _pem(kind: str, block: bytes, secret: bytes | None) -> list[Found]:
    """One PEM block."""
    wrapping = f"PEM {kind}"
    if kind in ("CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE"):
        return [_certificate(x509.load_pem_x509_certificate(block.replace(kind.encode(), b"CERTIFICATE")), wrapping)]
    if kind in ("CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"):
        request = x509.load_pem_x509_csr(block.replace(b"NEW ", b""))
        return [_request(request, wrapping)]
    if kind.endswith("PRIVATE KEY"):
        load = load_ssh_private_key if kind.startswith("OPENSSH") else load_pem_private_key
        return [_private(_opened(load, block, secret), wrapping)]
    if kind.endswith("PUBLIC KEY"):
        return [_public(load_pem_public_key(block), wrapping)]
    inner = base64.b64decode(b"".join(block.split(b"\n")[1:-1]))
    return _der(inner, secret, wrapping) or _plain(inner, wrapping)


def _opened(load: Any, data: bytes, secret: bytes | None) -> Any:
    """A private key; a password that is given and not needed does no harm."""
    try:
        return load(data, secret)
    except TypeError:
        if secret is None:
            raise PasswordNeeded from None
        return load(data, None)
    except ValueError as exc:
        if secret is not None and "assword" in str(exc):
            raise PasswordNeeded from exc
        raise


def _der(data: bytes, secret: bytes | None, within: str) -> list[Found]:
    """What DER holds: a certificate, a request, a key, or a PKCS#12 file; nothing where it holds none."""
    if data[:1] != b"\x30":
        return []
    wrapping = " ".join(part for part in (within, "DER") if part)
    for load, build in (
        (x509.load_der_x509_certificate, _certificate),
        (x509.load_der_x509_csr, _request),
        (lambda der: _opened(load_der_private_key, der, secret), _private),
        (load_der_public_key, _public),
    ):
        try:
            return [build(load(data), wrapping)]
        except _FAILURES:
            continue
    return _pkcs12(data, secret, " ".join(part for part in (within, "PKCS#12") if part))


def _pkcs12(data: bytes, secret: bytes | None, wrapping: str) -> list[Found]:
    # A PKCS#12 file is a sequence of version 3 and a PKCS#7 structure (RFC 7292, 4).
    if b"\x02\x01\x03\x30" not in data[:12]:
        return []
    try:
        bundle = keys.read_pkcs12(data, secret)
    except KMIPError as exc:
        raise PasswordNeeded from exc
    found = []
    name = (bundle.name or b"").decode(errors="replace")
    if bundle.key is not None:
        found.append(_private(load_der_private_key(bundle.key.data, None), wrapping, name))
    if bundle.certificate is not None:
        found.append(_certificate(x509.load_der_x509_certificate(bundle.certificate), wrapping))
    return found + [_certificate(x509.load_der_x509_certificate(one), wrapping) for one in bundle.chain]


def _ssh(text: str) -> list[Found]:
    try:
        return [_public(load_ssh_public_key(text.encode()), "OpenSSH")]
    except _FAILURES:
        return []


def _b64url(text: Any) -> bytes:
    return base64.urlsafe_b64decode(str(text) + "=" * (-len(str(text)) % 4))


_JWK_CURVES = {"P-256": ec.SECP256R1, "P-384": ec.SECP384R1, "P-521": ec.SECP521R1, "secp256k1": ec.SECP256K1}
_OKP: dict[str, tuple[Any, Any]] = {
    "Ed25519": (ed25519.Ed25519PrivateKey, ed25519.Ed25519PublicKey),
    "Ed448": (ed448.Ed448PrivateKey, ed448.Ed448PublicKey),
    "X25519": (x25519.X25519PrivateKey, x25519.X25519PublicKey),
    "X448": (x448.X448PrivateKey, x448.X448PublicKey),
}


def _jwk(text: str) -> list[Found]:
    """A JSON Web Key or a set of them (RFC 7517, RFC 8037); nothing for other JSON."""
    try:
        parsed = json.loads(text)
        jwks = parsed.get("keys", [parsed])
        return [_one_jwk(jwk) for jwk in jwks]
    except (*_FAILURES, KeyError, AttributeError):
        return []


def _one_jwk(jwk: dict[str, Any]) -> Found:
    name = str(jwk.get("kid", ""))
    if jwk["kty"] == "oct":
        return _symmetric(_b64url(jwk["k"]), "JWK", name)
    key = _JWK_READERS[jwk["kty"]](jwk)
    return _private(key, "JWK", name) if "d" in jwk else _public(key, "JWK", name)


def _jwk_rsa(jwk: dict[str, Any]) -> Any:
    number = {part: int.from_bytes(_b64url(jwk[part]), "big") for part in ("n", "e", "d", "p", "q") if part in jwk}
    public = rsa.RSAPublicNumbers(number["e"], number["n"])
    if "d" not in number:
        return public.public_key()
    p, q = (
        (number["p"], number["q"])
        if "p" in number
        else rsa.rsa_recover_prime_factors(number["n"], number["e"], number["d"])
    )
    d = number["d"]
    return rsa.RSAPrivateNumbers(
        p, q, d, rsa.rsa_crt_dmp1(d, p), rsa.rsa_crt_dmq1(d, q), rsa.rsa_crt_iqmp(p, q), public
    ).private_key()


def _jwk_ec(jwk: dict[str, Any]) -> Any:
    x, y = (int.from_bytes(_b64url(jwk[part]), "big") for part in ("x", "y"))
    public = ec.EllipticCurvePublicNumbers(x, y, _JWK_CURVES[jwk["crv"]]())
    if "d" not in jwk:
        return public.public_key()
    return ec.EllipticCurvePrivateNumbers(int.from_bytes(_b64url(jwk["d"]), "big"), public).private_key()


def _jwk_okp(jwk: dict[str, Any]) -> Any:
    private, public = _OKP[jwk["crv"]]
    return private.from_private_bytes(_b64url(jwk["d"])) if "d" in jwk else public.from_public_bytes(_b64url(jwk["x"]))


_JWK_READERS = {"RSA": _jwk_rsa, "EC": _jwk_ec, "OKP": _jwk_okp}


# What was found, as structures to register.


def _block(data: bytes, format_: KeyFormatType, key: keys.Key | None = None) -> KeyBlock:
    return KeyBlock(
        key_format_type=format_,
        key_value=KeyValue(key_material=data),
        cryptographic_algorithm=key.algorithm if key is not None else None,
        cryptographic_length=key.bits if key is not None else None,
    )


def _certificate(one: x509.Certificate, wrapping: str) -> Found:
    data = one.public_bytes(Encoding.DER)
    until = one.not_valid_after_utc.date().isoformat()
    summary = gettext("%(subject)s, valid until %(until)s") % {"subject": one.subject.rfc4514_string(), "until": until}
    value = Certificate(certificate_type=CertificateType.X_509, certificate_value=data)
    names = one.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return Found(ObjectType.CERTIFICATE, wrapping, summary, value, str(names[0].value) if names else "")


def _request(one: x509.CertificateSigningRequest, wrapping: str) -> Found:
    value = CertificateRequest(
        certificate_request_type=CertificateRequestType.PKCS_10,
        certificate_request_value=one.public_bytes(Encoding.DER),
    )
    return Found(ObjectType.CERTIFICATE_REQUEST, wrapping, one.subject.rfc4514_string(), value)


def _described(key: keys.Key) -> str:
    curve = f" {key.curve}" if key.curve is not None else ""
    return f"{key.algorithm}{curve}, {key.bits} bit"


def _private(one: Any, wrapping: str, name: str = "") -> Found:
    key = keys.private_key(one)
    data = one.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    value = PrivateKey(key_block=_block(data, KeyFormatType.PKCS_8, key))
    return Found(ObjectType.PRIVATE_KEY, wrapping, _described(key), value, name)


def _public(one: Any, wrapping: str, name: str = "") -> Found:
    key = keys.public_key(one)
    data = one.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    value = PublicKey(key_block=_block(data, KeyFormatType.X_509, key))
    return Found(ObjectType.PUBLIC_KEY, wrapping, _described(key), value, name)


def _symmetric(data: bytes, wrapping: str, name: str = "") -> Found:
    bits = len(data) * 8
    key = keys.Key(data, CryptographicAlgorithm.AES if bits in AES_BITS else CryptographicAlgorithm.HMAC_SHA256, bits)
    value = SymmetricKey(key_block=_block(data, KeyFormatType.RAW, key))
    return Found(ObjectType.SYMMETRIC_KEY, wrapping, _described(key), value, name)


def _plain(data: bytes, wrapping: str) -> list[Found]:
    """Bytes of an AES key's length are taken for one; others are opaque."""
    if len(data) * 8 in AES_BITS:
        return [_symmetric(data, wrapping)]
    value = OpaqueObject(opaque_data_type=BYTES, opaque_data_value=data)
    return [Found(ObjectType.OPAQUE_OBJECT, wrapping, gettext("%(n)d bytes") % {"n": len(data)}, value)]
