"""Certificate extensions in OpenSSL's notation: `basicConstraints = critical, CA:TRUE, pathlen:0`.

Named profiles, the file of further profiles and the `x509-extension` attribute of clients are all written in it. What
is not understood is refused, never left out: an extension that is silently missing is a certificate that does more than
its owner asked for. Subject and authority key identifiers are always there, so their lines say nothing new.
"""

import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, ExtensionOID, ObjectIdentifier

from kmip.enums import ResultReason
from kmip.errors import KMIPError

#: An extension and whether it is critical.
Extension = tuple[x509.ExtensionType, bool]
#: Sections of a file: each a list of name and value, in order.
Sections = Mapping[str, Sequence[tuple[str, str]]]

#: The sections that hold extensions, by what clients call them; else the first of the text is taken.
USUAL_SECTIONS = ("v3_ca", "v3_req", "extensions")

USAGES: dict[str, str] = {
    "digitalsignature": "digital_signature",
    "nonrepudiation": "content_commitment",
    "contentcommitment": "content_commitment",
    "keyencipherment": "key_encipherment",
    "dataencipherment": "data_encipherment",
    "keyagreement": "key_agreement",
    "keycertsign": "key_cert_sign",
    "crlsign": "crl_sign",
    "encipheronly": "encipher_only",
    "decipheronly": "decipher_only",
}
ALL_USAGES = frozenset(USAGES.values())

PURPOSES: dict[str, ObjectIdentifier] = {
    "serverauth": ExtendedKeyUsageOID.SERVER_AUTH,
    "clientauth": ExtendedKeyUsageOID.CLIENT_AUTH,
    "codesigning": ExtendedKeyUsageOID.CODE_SIGNING,
    "emailprotection": ExtendedKeyUsageOID.EMAIL_PROTECTION,
    "timestamping": ExtendedKeyUsageOID.TIME_STAMPING,
    "ocspsigning": ExtendedKeyUsageOID.OCSP_SIGNING,
    "anyextendedkeyusage": ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
    "mssmartcardlogin": ExtendedKeyUsageOID.SMARTCARD_LOGON,
    "pkinitkdc": ExtendedKeyUsageOID.KERBEROS_PKINIT_KDC,
    "ipsecike": ExtendedKeyUsageOID.IPSEC_IKE,
}
_OID = re.compile(r"\d+(\.\d+)+")


def refused(message: str) -> KMIPError:
    """The request asks for an extension that cannot be made."""
    return KMIPError(ResultReason.INVALID_FIELD, message)


def usage(*names: str) -> x509.KeyUsage:
    """Key Usage with the named bits."""
    return x509.KeyUsage(**{name: name in names for name in ALL_USAGES})


def sections(text: str) -> dict[str, list[tuple[str, str]]]:
    """The sections of a text in the notation; lines before the first header stand under ""."""
    found: dict[str, list[tuple[str, str]]] = {"": []}
    current = found[""]
    for line in re.sub(r"\\\r?\n", "", text).splitlines():
        line = line.split("#", 1)[0].strip()
        if not line:
            continue
        header = re.fullmatch(r"\[\s*([\w. -]+?)\s*\]", line)
        if header is not None:
            current = found.setdefault(header[1], [])
            continue
        name, equals, value = line.partition("=")
        if not equals:
            raise refused(f"the extensions have a line without a value: {line[:60]}")
        current.append((name.strip(), value.strip()))
    return found


def read(text: str | bytes) -> list[Extension]:
    """The extensions of a client's text, a section such as `[ v3_ca ]` or its lines alone."""
    if isinstance(text, bytes):
        try:
            text = text.decode()
        except UnicodeDecodeError as exc:
            raise refused("the extensions are no text") from exc
    found = sections(text)
    usual = next((name for name in USUAL_SECTIONS if name in found), None)
    name = usual or ("" if found[""] else next((name for name in found if name), ""))
    return of_section(found[name], found)


def of_section(lines: Sequence[tuple[str, str]], others: Sections | None = None) -> list[Extension]:
    """The extensions of one section; `@name` in a value refers to another of `others`."""
    made: dict[ObjectIdentifier, Extension] = {}
    for name, value in lines:
        critical, parts = _parts(value)
        maker = _MAKERS.get(name.lower())
        if maker is not None:
            extension = maker(parts, others or {})
        elif _OID.fullmatch(name):
            extension = _raw(ObjectIdentifier(name), parts)
        else:
            raise refused(f"the certificate extension {name} is not known")
        if extension is not None:
            made[extension.oid] = (extension, critical)
    return list(made.values())


def _parts(value: str) -> tuple[bool, list[str]]:
    """Whether a value begins with `critical`, and its comma-separated parts."""
    parts = [part.strip() for part in value.split(",") if part.strip()]
    critical = bool(parts) and parts[0].lower() == "critical"
    return critical, parts[1:] if critical else parts


def _referred(parts: list[str], others: Sections) -> list[tuple[str, str]]:
    """Kind and value of each part, `DNS:a.example`, with those of the sections that `@name` refers to."""
    found = []
    for part in parts:
        if part.startswith("@"):
            if part[1:] not in others:
                raise refused(f"there is no section [{part[1:]}]")
            # Keys of such sections are numbered: DNS.1, DNS.2.
            found += [(name.split(".", 1)[0], value) for name, value in others[part[1:]]]
        else:
            kind, _, value = part.partition(":")
            found.append((kind.strip(), value.strip()))
    return found


def general_name(kind: str, value: str) -> x509.GeneralName:
    """A name of a certificate's holder: kinds DNS, IP, email, URI, RID, dirName."""
    try:
        match kind.lower().replace(" ", ""):
            case "dns":
                return x509.DNSName(value)
            case "ip" | "ipaddress":
                return x509.IPAddress(ipaddress.ip_address(value))
            case "email":
                return x509.RFC822Name(value)
            case "uri":
                return x509.UniformResourceIdentifier(value)
            case "rid":
                return x509.RegisteredID(ObjectIdentifier(value))
            case "dirname":
                return x509.DirectoryName(x509.Name.from_rfc4514_string(value))
    except ValueError as exc:
        raise refused(f"{value[:60]!r} is no name of kind {kind}") from exc
    raise refused(f"names of kind {kind} are not known")


def _names(parts: list[str], others: Sections) -> list[x509.GeneralName]:
    return [general_name(kind, value) for kind, value in _referred(parts, others) if value != "copy"]


def _basic_constraints(parts: list[str], others: Sections) -> x509.ExtensionType:
    values = {kind.lower(): value for kind, value in _referred(parts, others)}
    if values.keys() - {"ca", "pathlen"}:
        raise refused("basicConstraints has CA and pathlen only")
    ca = values.get("ca", "false").lower() in ("true", "yes", "y", "1")
    length = values.get("pathlen")
    if length is not None and not (ca and length.isdecimal()):
        raise refused("pathlen is a number, and only a CA has it")
    return x509.BasicConstraints(ca=ca, path_length=int(length) if length is not None else None)


def _key_usage(parts: list[str], others: Sections) -> x509.ExtensionType:
    unknown = [part for part in parts if part.lower() not in USAGES]
    if unknown:
        raise refused(f"the key usage {unknown[0]} is not known")
    try:
        return usage(*(USAGES[part.lower()] for part in parts))
    except ValueError as exc:
        raise refused("encipherOnly and decipherOnly go with keyAgreement") from exc


def _extended_key_usage(parts: list[str], others: Sections) -> x509.ExtensionType:
    found = []
    for part in parts:
        known = PURPOSES.get(part.lower())
        if known is None and not _OID.fullmatch(part):
            raise refused(f"the extended key usage {part} is not known")
        found.append(known or ObjectIdentifier(part))
    return x509.ExtendedKeyUsage(found)


def _subject_alternative(parts: list[str], others: Sections) -> x509.ExtensionType | None:
    names = _names(parts, others)
    return x509.SubjectAlternativeName(names) if names else None


def _issuer_alternative(parts: list[str], others: Sections) -> x509.ExtensionType | None:
    names = _names(parts, others)
    return x509.IssuerAlternativeName(names) if names else None


def _distribution_points(parts: list[str], others: Sections) -> x509.ExtensionType:
    names = [general_name(kind.removeprefix("fullname"), value) for kind, value in _referred(parts, others)]
    return x509.CRLDistributionPoints([x509.DistributionPoint([name], None, None, None) for name in names])


def _information_access(parts: list[str], others: Sections) -> x509.ExtensionType:
    found = []
    for part in parts:
        method, semicolon, name = part.partition(";")
        oid = {"ocsp": AuthorityInformationAccessOID.OCSP, "caissuers": AuthorityInformationAccessOID.CA_ISSUERS}.get(
            method.strip().lower()
        )
        if oid is None or not semicolon:
            raise refused("authorityInfoAccess has entries such as OCSP;URI:http://ocsp.example")
        kind, _, value = name.partition(":")
        found.append(x509.AccessDescription(oid, general_name(kind, value)))
    return x509.AuthorityInformationAccess(found)


def _policies(parts: list[str], others: Sections) -> x509.ExtensionType:
    found = []
    for part in parts:
        if part.startswith("@"):
            if part[1:] not in others:
                raise refused(f"there is no section [{part[1:]}]")
            lines = others[part[1:]]
            identifier = next((value for name, value in lines if name == "policyIdentifier"), "")
            statements: list[str | x509.UserNotice] = [
                value.strip('"') for name, value in lines if name.split(".")[0] == "CPS"
            ]
            found.append(x509.PolicyInformation(_policy(identifier), statements or None))
        else:
            found.append(x509.PolicyInformation(_policy(part), None))
    return x509.CertificatePolicies(found)


def _policy(text: str) -> ObjectIdentifier:
    if text.lower() == "anypolicy":
        return ObjectIdentifier("2.5.29.32.0")
    if not _OID.fullmatch(text):
        raise refused(f"{text[:60]!r} is no policy identifier")
    return ObjectIdentifier(text)


def _name_constraints(parts: list[str], others: Sections) -> x509.ExtensionType:
    trees: dict[str, list[x509.GeneralName]] = {"permitted": [], "excluded": []}
    for part in parts:
        side, _, name = part.partition(";")
        kind, _, value = name.partition(":")
        if side not in trees:
            raise refused("nameConstraints has entries such as permitted;DNS:.example.com")
        if kind.lower() in ("ip", "ipaddress"):
            try:
                trees[side].append(x509.IPAddress(ipaddress.ip_network(value)))
            except ValueError as exc:
                raise refused(f"{value[:60]!r} is no network") from exc
        else:
            trees[side].append(general_name(kind, value))
    return x509.NameConstraints(trees["permitted"] or None, trees["excluded"] or None)


def _policy_constraints(parts: list[str], others: Sections) -> x509.ExtensionType:
    values = {kind.lower(): value for kind, value in _referred(parts, others)}
    try:
        numbers = {name: int(value) for name, value in values.items()}
        return x509.PolicyConstraints(numbers.get("requireexplicitpolicy"), numbers.get("inhibitpolicymapping"))
    except ValueError as exc:
        raise refused("policyConstraints has requireExplicitPolicy and inhibitPolicyMapping, each a number") from exc


def _inhibit_any_policy(parts: list[str], others: Sections) -> x509.ExtensionType:
    if len(parts) != 1 or not parts[0].isdecimal():
        raise refused("inhibitAnyPolicy is one number")
    return x509.InhibitAnyPolicy(int(parts[0]))


def _tls_feature(parts: list[str], others: Sections) -> x509.ExtensionType:
    known = {"status_request": x509.TLSFeatureType.status_request, "5": x509.TLSFeatureType.status_request}
    if any(part not in known for part in parts) or not parts:
        raise refused("tlsfeature has status_request only")
    return x509.TLSFeature([known[part] for part in parts])


def _no_check(parts: list[str], others: Sections) -> x509.ExtensionType | None:
    return None if parts == ["ignored"] else x509.OCSPNoCheck()


def _comment(parts: list[str], others: Sections) -> x509.ExtensionType:
    text = ", ".join(parts).strip('"').encode("ascii", "replace")[:127]
    return x509.UnrecognizedExtension(ObjectIdentifier("2.16.840.1.113730.1.13"), b"\x16" + bytes([len(text)]) + text)


def _always_there(parts: list[str], others: Sections) -> None:
    """Key identifiers: see the module."""


def _raw(oid: ObjectIdentifier, parts: list[str]) -> x509.ExtensionType:
    """`1.2.3.4 = DER:05:00`: an extension by its bytes; those that mean something here go through their own names."""
    if oid in (ExtensionOID.BASIC_CONSTRAINTS, ExtensionOID.KEY_USAGE, ExtensionOID.NAME_CONSTRAINTS):
        raise refused("write this extension by its name")
    kind, _, value = ",".join(parts).partition(":")
    try:
        if kind.upper() != "DER":
            raise ValueError(kind)
        return x509.UnrecognizedExtension(oid, bytes.fromhex(value.replace(":", "")))
    except ValueError as exc:
        raise refused(f"the extension {oid.dotted_string} is written as DER: and hexadecimal bytes") from exc


_MAKERS: dict[str, Callable[[list[str], Sections], Any]] = {
    "basicconstraints": _basic_constraints,
    "keyusage": _key_usage,
    "extendedkeyusage": _extended_key_usage,
    "subjectaltname": _subject_alternative,
    "issueraltname": _issuer_alternative,
    "crldistributionpoints": _distribution_points,
    "authorityinfoaccess": _information_access,
    "certificatepolicies": _policies,
    "nameconstraints": _name_constraints,
    "policyconstraints": _policy_constraints,
    "inhibitanypolicy": _inhibit_any_policy,
    "tlsfeature": _tls_feature,
    "nocheck": _no_check,
    "nscomment": _comment,
    "subjectkeyidentifier": _always_there,
    "authoritykeyidentifier": _always_there,
}

#: The names, in lower case, of what is understood.
EXTENSIONS = frozenset(_MAKERS)
