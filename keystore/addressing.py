"""What the clients of the JSON dialect write where an identifier stands: tags, and key sets with their generations.

    ["payroll", "_kk"]    the objects that have all of these tags; the server gives each type of object one of its own
    payroll               the newest key of the set that Rotate Name calls so
    payroll@first         its oldest; payroll@latest its newest, payroll@2 the one after two rotations

Only objects that the identity can see are found, and none that is destroyed or archived.
"""

from typing import Final

from django.db.models import QuerySet

from keystore import conf, policy, store
from keystore.authn import Identity
from keystore.models import ManagedObject
from keystore.store import Managed
from kmip.attributes import Vendor
from kmip.enums import ObjectType, ResultReason, RotateNameType, StorageStatusMask
from kmip.errors import KMIPError
from kmip.structures import RotateName
from kmip.tags import Tag

#: The tag that the server gives each type of object; users' own do not begin so.
SYSTEM_TAGS: Final[dict[str, ObjectType]] = {
    "_kk": ObjectType.SYMMETRIC_KEY,
    "_sk": ObjectType.PRIVATE_KEY,
    "_pk": ObjectType.PUBLIC_KEY,
    "_cert": ObjectType.CERTIFICATE,
    "_sd": ObjectType.SECRET_DATA,
    "_oo": ObjectType.OPAQUE_OBJECT,
}
#: Objects that tags may name at once: far more than clients mean, and few enough for one transaction.
MOST: Final = 1000
#: The vendor that deployed clients name, whatever ours is.
VENDOR: Final = "cosmian"
#: The vendor attribute that names the key which a new object is kept wrapped by.
WRAPPING_KEY: Final = "wrapping_key_id"


def vendors() -> tuple[str, ...]:
    """The vendors whose `tag` attribute holds tags."""
    own = conf.current().server.vendor_identification
    return (VENDOR,) if own == VENDOR else (VENDOR, own)


def tag_keys() -> list[Vendor]:
    """The attributes that hold tags."""
    return [Vendor(vendor, store.TAGS) for vendor in vendors()]


def tag_labels() -> list[str]:
    """How the index calls them."""
    return [store.attribute_label(key) for key in tag_keys()]


def is_tags(text: str) -> bool:
    """Whether an identifier is an array of tags."""
    return text.startswith("[") and text.endswith("]")


def find(identity: Identity, text: str, now: int) -> list[str]:
    """The identifiers of the objects that a text, which is no identifier itself, stands for; of a key set the newest
    comes first."""
    if is_tags(text):
        return _tagged(identity, store.tags_in(text))
    name, at, generation = text.rpartition("@")
    members = key_set(identity, name if at else text, now)
    if not at:
        return [managed.uid for managed in members]
    if generation == "latest":
        chosen = members[:1]
    elif generation == "first":
        chosen = members[-1:]
    else:
        chosen = [managed for managed in members if str(_generation(managed)) == generation]
    return [managed.uid for managed in chosen]


def _here(identity: Identity) -> QuerySet[ManagedObject]:
    return store.with_status(policy.visible(identity), StorageStatusMask.ON_LINE_STORAGE)


def _tagged(identity: Identity, tags: list[str]) -> list[str]:
    if not tags:
        return []
    objects = _here(identity)
    labels = tag_labels()
    for tag in tags:
        object_type = SYSTEM_TAGS.get(tag)
        if object_type is not None:
            objects = objects.filter(object_type=object_type)
        else:
            objects = store.with_tag(objects, identity.namespace, labels, tag)
    found = store.uids(objects, 0, MOST + 1)
    if len(found) > MOST:
        raise KMIPError(ResultReason.SERVER_LIMIT_EXCEEDED, f"over {MOST} objects have these tags")
    return found


def key_set(identity: Identity, name: str, now: int) -> list[Managed]:
    """The keys that a Rotate Name unites, newest first."""
    value = RotateName(rotate_name_value=name, rotate_name_type=RotateNameType.UNINTERPRETED_TEXT_STRING)
    objects = store.with_attribute(_here(identity), Tag.ROTATE_NAME, [value], now, namespace=identity.namespace)
    return sorted(store.fetch_all(objects, now), key=_generation, reverse=True)


def _generation(managed: Managed) -> int:
    return int(managed.attributes.rotate_generation or 0)
