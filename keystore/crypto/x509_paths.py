"""Certificate paths: order a set of certificates into one, and check it (RFC 5280, 6.1).

`cryptography` has a verifier of its own, for the certificates of web servers; it refuses what a key manager meets every
day: authorities without key usage, certificates without alternative names, Ed448 and ML-DSA. So the rules stand here,
and the library checks the signatures.
"""

import ipaddress
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import NamedTuple, cast

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtensionOID, NameOID

from keystore.crypto import keys
from keystore.crypto.algorithms import HASHES, PublicKey
from keystore.crypto.policy import DEFAULT, CryptoPolicy
from keystore.crypto.x509_errors import UNREADABLE
from keystore.crypto.x509_issuing import may
from kmip.errors import KMIPError

#: Longer chains are nobody's; each link costs a signature check.
MAX_PATH = 16
#: Critical extensions whose meaning is heeded here or has none for a path.
_HEEDED = frozenset(
    {
        *(ExtensionOID.BASIC_CONSTRAINTS, ExtensionOID.KEY_USAGE, ExtensionOID.NAME_CONSTRAINTS),
        *(ExtensionOID.EXTENDED_KEY_USAGE, ExtensionOID.SUBJECT_ALTERNATIVE_NAME, ExtensionOID.CERTIFICATE_POLICIES),
        *(ExtensionOID.SUBJECT_KEY_IDENTIFIER, ExtensionOID.AUTHORITY_KEY_IDENTIFIER),
        *(ExtensionOID.CRL_DISTRIBUTION_POINTS, ExtensionOID.POLICY_CONSTRAINTS, ExtensionOID.INHIBIT_ANY_POLICY),
    }
)


class Broken(Exception):
    """A path that is not valid, and why."""


class Path(NamedTuple):
    """Certificates from the leaf upwards, and whether the last is self-signed."""

    certificates: list[x509.Certificate]
    complete: bool


def is_self_issued(certificate: x509.Certificate) -> bool:
    """Whether subject and issuer are the same."""
    return certificate.subject == certificate.issuer


def signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether the issuer's name and key are those that signed the certificate."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError, UnsupportedAlgorithm):
        return False
    return True


def leaf_of(certificates: Sequence[x509.Certificate]) -> x509.Certificate:
    """The certificate that none of the others was signed by; raises `Broken` unless there is exactly one."""
    leaves = [
        each
        for each in certificates
        if not any(
            other is not each and other.issuer == each.subject and signed_by(other, each) for other in certificates
        )
    ]
    if len(leaves) != 1:
        raise Broken("the certificates are not one chain")
    return leaves[0]


def build(leaf: x509.Certificate, candidates: Callable[[x509.Name], Iterable[x509.Certificate]]) -> Path:
    """The path from a leaf to a self-signed certificate, or as far as `candidates`, found by subject, lead."""
    path = [leaf]
    while len(path) < MAX_PATH:
        last = path[-1]
        if is_self_issued(last) and signed_by(last, last):
            return Path(path, complete=True)
        above = next((each for each in candidates(last.issuer) if each not in path and signed_by(last, each)), None)
        if above is None:
            return Path(path, complete=False)
        path.append(above)
    raise Broken("the chain is too long")


def check(path: Sequence[x509.Certificate], at: datetime, *, policy: CryptoPolicy = DEFAULT) -> None:
    """Raise `Broken` where a path, from the leaf upwards, breaks a rule at a time."""
    for depth, certificate in enumerate(path):
        name = _name(certificate)
        if at < certificate.not_valid_before_utc:
            raise Broken(f"{name} is not yet valid")
        if at > certificate.not_valid_after_utc:
            raise Broken(f"{name} has expired")
        try:
            extensions = certificate.extensions
        except UNREADABLE as exc:
            raise Broken(f"{name} has extensions that cannot be read") from exc
        for extension in extensions:
            if extension.critical and extension.oid not in _HEEDED:
                raise Broken(f"{name} has a critical extension that is not known: {extension.oid.dotted_string}")
        _check_strength(certificate, policy, signature=depth + 1 < len(path))
        if depth:
            # A self-issued certificate does not count against the path length (RFC 5280, 6.1.4 l).
            below = sum(not is_self_issued(each) for each in path[1:depth])
            _check_issuer(certificate, below)
            _check_constraints(certificate, path[:depth])
        if depth + 1 < len(path) and not signed_by(certificate, path[depth + 1]):
            raise Broken(f"the signature of {name} is wrong")


def _name(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string() or f"certificate {certificate.serial_number:x}"


def _check_strength(certificate: x509.Certificate, policy: CryptoPolicy, *, signature: bool) -> None:
    """Key and, below a trust anchor, signature hash are ones that the policy lets verify."""
    try:
        algorithm, bits, curve = keys.facts(cast(PublicKey, certificate.public_key()))
        policy.check(algorithm, bits=bits if curve is None else None, curve=curve, protect=False)
        function = certificate.signature_hash_algorithm if signature else None
        if function is not None:
            hashing = next((each for each, row in HASHES.items() if _same(row.algorithm, function)), None)
            policy.check(signature_hash=hashing, protect=False)
            if hashing is None:
                raise Broken(f"the signature of {_name(certificate)} has an unknown hash")
    except (KMIPError, ValueError, UnsupportedAlgorithm) as exc:
        raise Broken(f"{_name(certificate)} has a key or signature that is too weak or not known") from exc


def _same(one: hashes.HashAlgorithm, other: hashes.HashAlgorithm) -> bool:
    return one.name == other.name and one.digest_size == other.digest_size


def _check_issuer(certificate: x509.Certificate, below: int) -> None:
    name = _name(certificate)
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        # Version 1 has no way to say it; such a certificate counts where it is trusted by itself, at the end.
        if certificate.version is x509.Version.v1 and is_self_issued(certificate):
            return
        raise Broken(f"{name} is not the certificate of a CA") from None
    if not constraints.ca:
        raise Broken(f"{name} is not the certificate of a CA")
    if constraints.path_length is not None and below > constraints.path_length:
        raise Broken(f"the path below {name} is longer than it allows")
    if not may(certificate, "key_cert_sign"):
        raise Broken(f"the key usage of {name} does not allow it to sign certificates")


# Name constraints (RFC 5280, 4.2.1.10).


def _check_constraints(authority: x509.Certificate, below: Sequence[x509.Certificate]) -> None:
    try:
        constraints = authority.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return
    for depth, certificate in enumerate(below):
        if depth and is_self_issued(certificate):
            continue
        for name in _names(certificate):
            permitted = [each for each in constraints.permitted_subtrees or () if type(each) is type(name)]
            excluded = [each for each in constraints.excluded_subtrees or () if type(each) is type(name)]
            if any(_within(name, each) for each in excluded) or (
                permitted and not any(_within(name, each) for each in permitted)
            ):
                raise Broken(f"{_name(certificate)} has a name that {_name(authority)} does not allow")


def _names(certificate: x509.Certificate) -> list[x509.GeneralName]:
    found: list[x509.GeneralName] = []
    if list(certificate.subject):
        found.append(x509.DirectoryName(certificate.subject))
    try:
        found += certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        mails = certificate.subject.get_attributes_for_oid(NameOID.EMAIL_ADDRESS)
        found += [x509.RFC822Name(str(mail.value)) for mail in mails if str(mail.value).isascii()]
    return found


def _within(name: x509.GeneralName, tree: x509.GeneralName) -> bool:
    match name, tree:
        case x509.DNSName(), x509.DNSName():
            return _host_within(name.value, tree.value, exact=False)
        case x509.RFC822Name(), x509.RFC822Name():
            if "@" in tree.value:
                return name.value.lower() == tree.value.lower()
            return _host_within(name.value.rpartition("@")[2], tree.value, exact=True)
        case x509.UniformResourceIdentifier(), x509.UniformResourceIdentifier():
            host = name.value.partition("://")[2].partition("/")[0].rpartition("@")[2].partition(":")[0]
            return _host_within(host, tree.value, exact=True)
        case x509.IPAddress(), x509.IPAddress():
            network = tree.value
            if not isinstance(network, ipaddress.IPv4Network | ipaddress.IPv6Network):
                return name.value == network
            return not isinstance(name.value, ipaddress.IPv4Network | ipaddress.IPv6Network) and name.value in network
        case x509.DirectoryName(), x509.DirectoryName():
            return list(name.value.rdns)[: len(tree.value.rdns)] == list(tree.value.rdns)
    return name == tree


def _host_within(host: str, tree: str, *, exact: bool) -> bool:
    """Whether a host is the tree's or below it; `exact`: only a tree that begins with a dot has hosts below it."""
    host, tree = host.lower(), tree.lower()
    if tree.startswith("."):
        return host.endswith(tree)
    return host == tree or (not exact and (not tree or host.endswith("." + tree)))
