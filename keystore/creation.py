"""The rules of a namespace for new objects: Object Defaults and Constraints (2.1, 6.1.22, 6.1.52, 6.1.53, 7.6, 7.22).

An administrator sets those of the namespace; others set those of the objects that they will own, which count besides.
Rules are kept as they were sent. Creating operations read both kinds with one query.
"""

from collections.abc import Iterable
from typing import Any, Final

from keystore import compiled
from keystore.authn import Identity
from keystore.models import CreationRule
from kmip import ttlv
from kmip.attributes import BY_TAG, Attributes, Key, title_of
from kmip.enums import ObjectType, ResultReason
from kmip.errors import KMIPError
from kmip.payloads import Constraint, Constraints, DefaultsInformation, ObjectDefaults
from kmip.schema import Struct, dump
from kmip.tags import Tag
from kmip.versions import V2_1

CONSTRAINTS: Final = "constraints"
DEFAULTS: Final = "defaults"
_KINDS: Final[dict[str, tuple[Tag, type[Struct]]]] = {
    CONSTRAINTS: (Tag.CONSTRAINTS, Constraints),
    DEFAULTS: (Tag.DEFAULTS_INFORMATION, DefaultsInformation),
}


def put(identity: Identity, kind: str, rules: Struct | None) -> None:
    """Replace the rules of a kind that the identity may set; None takes them away."""
    owner = "" if identity.administers else identity.username
    if rules is None:
        CreationRule.objects.filter(namespace=identity.namespace, owner=owner, kind=kind).delete()
        return
    value = ttlv.encode(dump(rules, _KINDS[kind][0], V2_1))
    CreationRule.objects.update_or_create(
        namespace=identity.namespace, owner=owner, kind=kind, defaults={"value": value}
    )


#: Whether there are any rules, which mostly there are not.
_ANY: Final = compiled.select(
    lambda: CreationRule.objects.filter(namespace="x", owner__in=("", "y")).values_list("id")[:1], 3
)


def _read(namespace: str, owner: str) -> dict[str, list[Any]]:
    """The rules that count for an owner's objects by kind, the owner's own last."""
    found: dict[str, list[Any]] = {CONSTRAINTS: [], DEFAULTS: []}
    if _ANY.first((namespace, "", owner)) is None:
        return found
    rows = CreationRule.objects.filter(namespace=namespace, owner__in=("", owner)).order_by("owner")
    for kind, value in rows.values_list("kind", "value"):
        found[kind].append(_KINDS[kind][1].load(ttlv.decode(bytes(value))))
    return found


class Rules:
    """The rules that count for an owner's objects, read when somebody first looks at them."""

    __slots__ = ("_found", "_whose")

    def __init__(self, namespace: str, owner: str) -> None:
        self._whose = (namespace, owner)
        self._found: dict[str, list[Any]] | None = None

    def of(self, kind: str) -> list[Any]:
        """Those of a kind."""
        if self._found is None:
            self._found = _read(*self._whose)
        return self._found[kind]

    @property
    def constraints(self) -> list[Constraint]:
        """What objects must be like."""
        return [one for rules in self.of(CONSTRAINTS) for one in rules.constraint]

    @property
    def defaults(self) -> list[ObjectDefaults]:
        """What they get whose clients do not say."""
        return [one for rules in self.of(DEFAULTS) for one in rules.object_defaults]


def types_of(defaults: ObjectDefaults) -> list[ObjectType]:
    """The object types that defaults are for."""
    types = list(defaults.object_types.object_type) if defaults.object_types is not None else []
    return types if defaults.object_type is None else [defaults.object_type, *types]


#: What an object that a client brings along says itself.
_OF_THE_MATERIAL: Final = frozenset(
    {
        Tag.CRYPTOGRAPHIC_ALGORITHM,
        Tag.CRYPTOGRAPHIC_LENGTH,
        Tag.CRYPTOGRAPHIC_DOMAIN_PARAMETERS,
        Tag.KEY_FORMAT_TYPE,
    }
)


def fill_in(rules: Rules, object_type: ObjectType, attributes: Attributes, *, brought: bool = False) -> None:
    """Give a new object the attributes that its client left out: an owner's own defaults before the namespace's, those
    for one of its groups before those for all. `brought` objects come with their material."""
    defaults = [one for one in rules.defaults if object_type in types_of(one)]
    for grouped in (True, False):
        for one in reversed(defaults):
            if (one.object_groups is not None) is not grouped:
                continue
            groups = one.object_groups.object_group if one.object_groups is not None else ()
            if grouped and not set(groups) & set(attributes.object_group):
                continue
            for key, values in one.attributes.items():
                if not (brought and key in _OF_THE_MATERIAL):
                    attributes.setdefault(key, dict(values))


def check(rules: Rules, object_type: ObjectType, attributes: Attributes) -> None:
    """Raise `KMIPError` (Constraint Violation) for a new object that the constraints do not allow.

    Constraints that name one of the object's groups come before those that name none. Those over the same attributes
    are alternatives; of those over different attributes each must hold.
    """
    every = rules.constraints
    if not every:
        return
    groups = set(attributes.object_group)
    typed = [one for one in every if one.object_types is None or object_type in one.object_types.object_type]
    named = [one for one in typed if one.object_groups is not None and groups & set(one.object_groups.object_group)]
    applicable = named or [one for one in typed if one.object_groups is None]
    alternatives: dict[frozenset[Key], list[Attributes]] = {}
    for one in applicable:
        wanted = one.attributes if one.attributes is not None else Attributes()
        alternatives.setdefault(frozenset(wanted), []).append(wanted)
    for keys, choices in alternatives.items():
        if not any(_meets(attributes, wanted) for wanted in choices):
            raise KMIPError(
                ResultReason.CONSTRAINT_VIOLATION, f"a constraint of the server on {_titles(keys)} is not met"
            )


def _titles(keys: Iterable[Key]) -> str:
    return ", ".join(sorted(title_of(key) for key in keys))


def _meets(attributes: Attributes, wanted: Attributes) -> bool:
    for key, values in wanted.items():
        held = list(attributes.get(key, {}).values())
        for value in values.values():
            if key is Tag.CRYPTOGRAPHIC_USAGE_MASK:
                # The uses that are allowed; fewer are as well.
                if any(mask & ~value for mask in held) or not held:
                    return False
            elif value not in held:
                return False
    return True


def check_rules(attributes: Attributes | None, types: Iterable[ObjectType]) -> None:
    """Raise `KMIPError` for rules that no object could follow."""
    types = list(types)
    if unknown := [one for one in types if not one.known]:
        raise KMIPError(ResultReason.INVALID_OBJECT_TYPE, f"{unknown[0]} is no Object Type")
    for key in attributes or ():
        if isinstance(key, Tag) and types and not any(one in BY_TAG[key].applies_to for one in types):
            raise KMIPError(ResultReason.INVALID_FIELD, f"{title_of(key)} does not apply to {types[0]}")
    if attributes is not None:
        attributes.check()
