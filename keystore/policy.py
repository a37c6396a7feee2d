"""What an identity may do. An object that may not be used in any way answers as one that does not exist.

Three questions, in this order: does a role allow the operation at all (`check`), does the object exist for the identity
(`may_see`), may it do this with the object (`may`). The owner may do everything that its roles allow, others what they
were granted, and some roles reach every object of the namespace.
"""

from collections.abc import Collection
from typing import Any, Final

from django.db.models import QuerySet

from keystore import conf, roles, store
from keystore.authn import Identity
from keystore.models import ManagedObject
from keystore.store import Managed
from kmip.enums import ObjectType, Operation, ResultReason
from kmip.errors import KMIPError

#: What operations make whose request does not say so.
_MAKES: Final[dict[Operation, tuple[ObjectType, ...]]] = {
    Operation.CREATE_KEY_PAIR: (ObjectType.PRIVATE_KEY, ObjectType.PUBLIC_KEY),
    Operation.CERTIFY: (ObjectType.CERTIFICATE,),
    Operation.CREATE_SPLIT_KEY: (ObjectType.SPLIT_KEY,),
}
_GET: Final = 1 << Operation.GET
_USES: Final = roles.bits(roles.USES)


def check(identity: Identity, operation: Operation, payload: Any) -> None:
    """Raise `KMIPError` where no role of the identity allows the operation, or what it would make."""
    if not identity.operations >> operation & 1:
        raise KMIPError(ResultReason.PERMISSION_DENIED, f"no role of the user allows {operation}")
    if not identity.typed:
        return
    made = _MAKES.get(operation)
    if made is None:
        named = getattr(payload, "object_type", None)
        made = () if named is None else (named,)
    for object_type in made:
        if not identity.allowed(object_type)[0] >> operation & 1:
            raise KMIPError(ResultReason.PERMISSION_DENIED, f"no role of the user allows {operation} of {object_type}")


def rights(identity: Identity, managed: Managed) -> int:
    """The operations that an identity may carry out on an object; none where it does not exist for the identity."""
    if managed.namespace != identity.namespace:
        return 0
    given = -1 if managed.owner == identity.username else managed.rights
    if given & _GET and given > 0 and conf.current().access.get_implies_use:
        given |= _USES
    own, everywhere = (
        identity.allowed(managed.object_type) if identity.typed else (identity.operations, identity.everywhere)
    )
    return (given & own | everywhere) & identity.reach(managed)


def may_see(identity: Identity, managed: Managed) -> bool:
    """Whether the object exists for this identity."""
    return rights(identity, managed) != 0


def may(identity: Identity, operation: Operation, managed: Managed) -> bool:
    """Whether an identity that sees the object may do this with it."""
    return bool(rights(identity, managed) >> operation & 1)


def decides(identity: Identity, managed: Managed) -> bool:
    """Whether the identity may give others rights on the object: its owner, and an administrator of its namespace."""
    if managed.namespace != identity.namespace:
        return False
    return managed.owner == identity.username or identity.administers


def check_manages(identity: Identity) -> None:
    """Raise `KMIPError` where the scopes of the identity's token leave rights, tokens and approvals out."""
    if not identity.manages:
        raise KMIPError(ResultReason.PERMISSION_DENIED, "the token's scopes leave the access API out")


def check_administers(identity: Identity) -> None:
    """Raise `KMIPError` unless the identity administers its namespace."""
    if not identity.administers:
        raise KMIPError(ResultReason.PERMISSION_DENIED, "only an administrator may do this")


def at_home(identity: Identity, role: str) -> bool:
    """Whether the identity has a built-in role in the default namespace, whose people look after the server itself."""
    if identity.namespace != conf.current().auth.default_namespace:
        return False
    return any(one.name == role for one in identity.roles)


def operates(identity: Identity) -> bool:
    """Whether the identity decides about the server and who is let in, which no tenant's administrator does."""
    return identity.administers and at_home(identity, roles.ADMINISTRATOR.name)


def visible(identity: Identity, among: Collection[str] | None = None) -> QuerySet[ManagedObject]:
    """The objects that exist for an identity, newest first; of those `among` some primary keys, if any are given."""
    return identity.confine(_visible(identity, among))  # type: ignore[no-any-return]


def _visible(identity: Identity, among: Collection[str] | None) -> QuerySet[ManagedObject]:
    if not identity.typed:
        if identity.everywhere:
            return store.objects_in(identity.namespace, among)
        return store.visible(identity, operations=identity.operations, among=among)
    own, everywhere = set(), set()
    for object_type in ObjectType:
        mine, all_ = identity.allowed(object_type)
        if all_:
            everywhere.add(int(object_type))
        elif mine:
            own.add(int(object_type))
    return store.visible(identity, operations=identity.operations, types=own, everywhere=everywhere, among=among)
