"""The protocol's names as people read them, and marked for translation. Algorithms keep the names they have."""

import re
from typing import Any

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from kmip.enums import Enumeration, LinkType, ObjectType, RevocationReasonCode, State

STATES: dict[State, Promise] = {
    State.PRE_ACTIVE: _("Pre-active"),
    State.ACTIVE: _("Active"),
    State.DEACTIVATED: _("Deactivated"),
    State.COMPROMISED: _("Compromised"),
    State.DESTROYED: _("Destroyed"),
    State.DESTROYED_COMPROMISED: _("Destroyed, compromised"),
}
#: Enumerations are numbers, and numbers of different enumerations are equal: one table each.
TYPES: dict[ObjectType, Promise] = {
    ObjectType.CERTIFICATE: _("Certificate"),
    ObjectType.SYMMETRIC_KEY: _("Symmetric key"),
    ObjectType.PUBLIC_KEY: _("Public key"),
    ObjectType.PRIVATE_KEY: _("Private key"),
    ObjectType.SPLIT_KEY: _("Split key"),
    ObjectType.TEMPLATE: _("Template"),
    ObjectType.SECRET_DATA: _("Secret data"),
    ObjectType.OPAQUE_OBJECT: _("Opaque object"),
    ObjectType.PGP_KEY: _("PGP key"),
    ObjectType.CERTIFICATE_REQUEST: _("Certificate request"),
}
REASONS: dict[RevocationReasonCode, Promise] = {
    RevocationReasonCode.UNSPECIFIED: _("Unspecified"),
    RevocationReasonCode.KEY_COMPROMISE: _("The key is compromised"),
    RevocationReasonCode.CA_COMPROMISE: _("The authority is compromised"),
    RevocationReasonCode.AFFILIATION_CHANGED: _("Affiliation changed"),
    RevocationReasonCode.SUPERSEDED: _("Superseded by another"),
    RevocationReasonCode.CESSATION_OF_OPERATION: _("No longer in use"),
    RevocationReasonCode.PRIVILEGE_WITHDRAWN: _("Privilege withdrawn"),
}
LINKS: dict[LinkType, Promise] = {
    LinkType.CERTIFICATE_LINK: _("Certificate"),
    LinkType.PUBLIC_KEY_LINK: _("Public key"),
    LinkType.PRIVATE_KEY_LINK: _("Private key"),
    LinkType.DERIVATION_BASE_OBJECT_LINK: _("Derived from"),
    LinkType.DERIVED_KEY_LINK: _("Derived key"),
    LinkType.REPLACEMENT_OBJECT_LINK: _("Replaced by"),
    LinkType.REPLACED_OBJECT_LINK: _("Replaces"),
    LinkType.PARENT_LINK: _("Parent"),
    LinkType.CHILD_LINK: _("Child"),
    LinkType.PREVIOUS_LINK: _("Previous"),
    LinkType.NEXT_LINK: _("Next"),
    LinkType.PKCS_12_CERTIFICATE_LINK: _("PKCS#12 certificate"),
    LinkType.PKCS_12_PASSWORD_LINK: _("PKCS#12 password"),
    LinkType.WRAPPING_KEY_LINK: _("Wrapped by"),
}
_TABLES: dict[type[Enumeration], dict[Any, Promise]] = {
    State: STATES,
    ObjectType: TYPES,
    RevocationReasonCode: REASONS,
    LinkType: LINKS,
}
_CAPITAL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def label(value: Any) -> str:
    """What a person reads for a value of an enumeration."""
    if not isinstance(value, Enumeration):
        return str(value)
    word = _TABLES.get(type(value), {}).get(value)
    return value.spelling if word is None else str(word)


def spaced(name: str) -> str:
    """The words of a name in Pascal case: "CryptographicUsageMask" reads "Cryptographic Usage Mask"."""
    return _CAPITAL.sub(" ", name)
