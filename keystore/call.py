"""What a handler is given, and the registry of handlers.

A handler is one function under `@operation`: it takes a `Call` and a typed request payload and returns a typed response
payload. `Call` resolves identifiers, asks policy and knows the time; transactions, audit records and failures are the
engine's.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from keystore import addressing, approvals, conf, creation, cryptopolicy, policy, roles, rules, states, store
from keystore.authn import Approval, Identity, Peer
from keystore.crypto.policy import CryptoPolicy
from keystore.store import Managed
from keystore.tokenkeys import Reference
from kmip.enums import DataEnumeration, Operation, ResultReason, UniqueIdentifierEnumeration
from kmip.errors import KMIPError
from kmip.payloads import PAYLOADS
from kmip.schema import Struct
from kmip.structures import Identifier
from kmip.versions import V1_4, V2_0, Version

#: Operations that tell the clients of the JSON dialect of an absent object otherwise.
ITEM_NOT_FOUND: Final = frozenset(
    {
        Operation.ENCRYPT,
        Operation.DECRYPT,
        Operation.SIGN,
        Operation.SIGNATURE_VERIFY,
        Operation.MAC,
        Operation.MAC_VERIFY,
        Operation.DERIVE_KEY,
        Operation.CERTIFY,
        Operation.DESTROY,
        Operation.REVOKE,
    }
)


@dataclass(slots=True)
class Batch:
    """What the items of one message share: the ID Placeholder and the identifiers that earlier items returned."""

    placeholder: str | None = None
    #: Identifiers of the last operation of each kind, for 2.x's Unique Identifier enumeration (2.1, 11.60).
    identifiers: dict[UniqueIdentifierEnumeration, str] = field(default_factory=dict)
    returned: list[str] = field(default_factory=list)
    #: Data that earlier items returned, for 2.x's Data enumeration (2.1, 11.13).
    data: list[tuple[Operation, bytes]] = field(default_factory=list)
    #: Rows' keys of fresh objects that items gave out, which is written once for all.
    taken: list[str] = field(default_factory=list)
    #: The rules for new objects, once an item has asked for them and until one changes them.
    creation_rules: creation.Rules | None = None
    #: What was looked up for all items at once, where none of them changes anything.
    probed: dict[str, store.Probed] = field(default_factory=dict)

    def copy(self) -> "Batch":
        """As it is now."""
        return Batch(self.placeholder, dict(self.identifiers), list(self.returned), list(self.data), list(self.taken))

    def restore(self, before: "Batch") -> None:
        """Be as it was."""
        self.placeholder, self.identifiers = before.placeholder, before.identifiers
        self.returned, self.data, self.taken = before.returned, before.data, before.taken


@dataclass(slots=True)
class Call:
    """One batch item being carried out. `now` is in seconds since 1970."""

    operation: Operation
    identity: Identity
    peer: Peer
    version: Version
    now: int
    batch: Batch
    #: The JSON dialect names some things otherwise and addresses objects by tags and key sets.
    dialect: bool = False
    #: What the handler's `prepare` made before the transaction began.
    prepared: Any = None
    #: The objects that the item touched, for the audit record.
    touched: list[str] = field(default_factory=list)
    #: Rules of approval that objects came under, by their identifiers; and the objects that were approved, where the
    #: item is carried out because people have approved it.
    waiting: dict[str, Approval] = field(default_factory=dict)
    approved: frozenset[str] | None = None
    #: Keys that the message has made in a token.
    made: list[Reference] = field(default_factory=list)

    def object(
        self, identifier: Identifier | None, *, right: Operation | None = None, change: bool | None = None
    ) -> Managed:
        """The object that an identifier or the ID Placeholder names, with the right to `right` (else to the call's own
        operation) checked; `change` locks its row and is the rule for operations that change something.

        Raises `KMIPError`: Object Not Found for one that does not exist for this identity, Permission Denied for one
        that it sees but may not use so.
        """
        managed = self.seen(identifier, change=change)
        self.check(managed, right or self.operation)
        return managed

    def seen(self, identifier: Identifier | None, *, change: bool | None = None) -> Managed:
        """Like `object`, with no right checked but that to know of it."""
        text = self.resolve(identifier)
        managed = self._fetch(text, change)
        if managed is None and self.dialect:
            found = addressing.find(self.identity, text, self.now)
            if len(found) > 1 and addressing.is_tags(text):
                raise KMIPError(ResultReason.INVALID_FIELD, f"{len(found)} objects have these tags: name one of them")
            managed = self._fetch(found[0], change) if found else None
        if managed is None:
            raise KMIPError(self._absent(), "there is no object with this Unique Identifier")
        self.touched.append(managed.uid)
        return managed

    def changed(self, managed: Managed) -> None:
        """Keep what the operation has changed of an object, which becomes the ID Placeholder."""
        rules.touched(managed, self.now)
        store.save(managed)
        self.batch.placeholder = managed.uid

    def check(self, managed: Managed, right: Operation) -> None:
        """Raise `KMIPError` (Permission Denied) where the identity may not do this with an object."""
        if not policy.may(self.identity, right, managed):
            raise KMIPError(ResultReason.PERMISSION_DENIED, f"{right} is not allowed on this object")
        self.hold(managed, right)

    def hold(self, managed: Managed, right: Operation) -> None:
        """Hold the item up where what it does with an object comes to `right`, and that is under a rule of approval."""
        if self.identity.approvals:
            rule = approvals.rule_for(self.identity, roles.name_of(right), managed.object_type)
            if rule is None:
                return
            if self.approved is None:
                self.waiting[managed.uid] = rule
            else:
                approvals.check(managed.uid, self.approved)

    def objects(
        self, identifier: Identifier | None, *, right: Operation | None = None, change: bool | None = None
    ) -> list[Managed]:
        """Like `object`, for operations that take all the objects with the tags, or of the key set, that a client of
        the JSON dialect names; of a key set the newest comes first."""
        text = self.resolve(identifier)
        managed = self._fetch(text, change)
        if managed is not None or not self.dialect:
            return [self.object(text, right=right, change=change) if managed is None else self._allowed(managed, right)]
        every = [self._fetch(uid, change) for uid in addressing.find(self.identity, text, self.now)]
        found = [self._allowed(one, right) for one in every if one is not None]
        if not found:
            raise KMIPError(self._absent(), "there is no object with these tags or of this key set")
        return found

    def _fetch(self, uid: str, change: bool | None) -> Managed | None:
        lock = HANDLERS[self.operation].changes if change is None else change
        managed = store.fetch(uid, self.now, self.identity, lock=lock, probed=self.batch.probed.get(uid))
        return managed if managed is not None and policy.may_see(self.identity, managed) else None

    def _allowed(self, managed: Managed, right: Operation | None) -> Managed:
        self.touched.append(managed.uid)
        self.check(managed, right or self.operation)
        return managed

    def _absent(self) -> ResultReason:
        """Why an absent object fails: the clients of the JSON dialect look at it."""
        if self.dialect and self.operation in ITEM_NOT_FOUND:
            return ResultReason.ITEM_NOT_FOUND
        return ResultReason.OBJECT_NOT_FOUND

    def live(self, identifier: Identifier | None, **options: Any) -> Managed:
        """Like `object`, for operations that a destroyed or archived object refuses."""
        managed = self.object(identifier, **options)
        self.check_live(managed)
        return managed

    def check_live(self, managed: Managed) -> None:
        """Raise `KMIPError` where an object is destroyed or archived."""
        if managed.state in states.DESTROYED:
            # Clients of the JSON dialect look for the first word.
            raise KMIPError(ResultReason.OBJECT_DESTROYED, "DENIED: the object is destroyed")
        if managed.columns.get("archive_date") is not None:
            raise KMIPError(ResultReason.OBJECT_ARCHIVED, "the object is archived: recover it first")

    def resolve(self, identifier: Identifier | None) -> str:
        """The text of an identifier: given, of the ID Placeholder, or of an earlier item of the batch."""
        batch = self.batch
        if isinstance(identifier, str):
            return identifier
        if identifier is None or identifier is UniqueIdentifierEnumeration.ID_PLACEHOLDER:
            if batch.placeholder is None:
                raise KMIPError(
                    ResultReason.INVALID_FIELD, "no Unique Identifier is given and the ID Placeholder is empty"
                )
            return batch.placeholder
        if isinstance(identifier, UniqueIdentifierEnumeration):
            found = batch.identifiers.get(identifier)
            if found is None:
                raise KMIPError(ResultReason.INVALID_FIELD, f"no earlier item of the batch returned {identifier}")
            return found
        try:
            return batch.returned[identifier]
        except IndexError:
            raise KMIPError(ResultReason.INVALID_FIELD, f"the batch has returned no identifier {identifier}") from None

    def returns(self, *uids: str, placeholder: str | None = None) -> None:
        """Note identifiers that the item returns; `placeholder`, else the first, becomes the ID Placeholder."""
        self.batch.returned += uids
        self.batch.placeholder = placeholder or uids[0]
        for uid in uids:
            if uid not in self.touched:
                self.touched.append(uid)
        kind = UniqueIdentifierEnumeration.__members__.get(self.operation.name)
        if kind is not None:
            self.batch.identifiers[kind] = self.batch.placeholder

    def data(self, given: bytes | DataEnumeration | int | None) -> bytes | None:
        """The data of a request: given, or by 2.x's Data enumeration what an earlier item of the batch returned.

        Raises `KMIPError` where there is no such item, or more data than `crypto.max_data` lets one request have.
        """
        earlier = self.batch.data
        if isinstance(given, DataEnumeration):
            wanted = _RETURNS_DATA.get(given)
            given = next((data for number, data in reversed(earlier) if number is wanted), None)
            if given is None:
                raise KMIPError(ResultReason.INVALID_FIELD, "no earlier item of the batch returned such Data")
        elif isinstance(given, int):
            position = given
            try:
                given = earlier[position][1]
            except IndexError:
                raise KMIPError(ResultReason.INVALID_FIELD, f"the batch has returned no Data {position}") from None
        if given is not None and len(given) > (limit := conf.current().crypto.max_data):
            raise KMIPError(ResultReason.SERVER_LIMIT_EXCEEDED, f"a request may have {limit} bytes of Data")
        return given

    def gives(self, data: bytes) -> None:
        """Note data that the item returns, for later items of the batch."""
        self.batch.data.append((self.operation, data))

    @property
    def tag_apart(self) -> bool:
        """Whether the tag of an authenticated encryption has a field of its own; before 1.4 it ends the data."""
        return self.version >= V1_4

    @property
    def creation_rules(self) -> creation.Rules:
        """The rules for the identity's new objects."""
        if self.batch.creation_rules is None:
            self.batch.creation_rules = creation.Rules(self.identity.namespace, self.identity.username)
        return self.batch.creation_rules

    @property
    def crypto_policy(self) -> CryptoPolicy:
        """What the configuration allows cryptography to use."""
        return cryptopolicy.of(conf.current())

    @property
    def modern(self) -> bool:
        """Whether the message is of 2.x."""
        return self.version >= V2_0


#: Whose data each value of the Data enumeration stands for (2.1, 11.13).
_RETURNS_DATA: Final = {
    DataEnumeration.DECRYPT: Operation.DECRYPT,
    DataEnumeration.ENCRYPT: Operation.ENCRYPT,
    DataEnumeration.HASH: Operation.HASH,
    DataEnumeration.MAC_MAC_DATA: Operation.MAC,
    DataEnumeration.RNG_RETRIEVE: Operation.RNG_RETRIEVE,
    DataEnumeration.SIGN_SIGNATURE_DATA: Operation.SIGN,
    DataEnumeration.SIGNATURE_VERIFY: Operation.SIGNATURE_VERIFY,
}

Handle = Callable[[Call, Any], Struct]


class Handler(NamedTuple):
    """A registered operation."""

    handle: Handle
    changes: bool
    request: type[Struct]
    prepare: Callable[[Call, Any], Any] | None = None
    long: Callable[[Call, Any], bool] | None = None
    brief: bool = False


HANDLERS: dict[Operation, Handler] = {}


def operation(
    number: Operation,
    *,
    changes: bool = True,
    prepare: Callable[[Call, Any], Any] | None = None,
    long: Callable[[Call, Any], bool] | None = None,
    brief: bool = False,
) -> Callable[[Handle], Handle]:
    """Register the handler of an operation; `changes=False` where it never writes to the store.

    `prepare` does slow work, such as making a key pair, before the transaction begins that others may wait for; the
    handler finds its result in `call.prepared`. It does not see what earlier items of the batch do. `long` says whether
    a request takes so long that it is answered asynchronously where the client allows it. A `brief` one is over in well
    under a millisecond, or leaves its turn by itself before it goes on (`turns`); with one that changes something, that
    is so of what precedes the change.
    """

    def register(handle: Handle) -> Handle:
        soon = brief or (changes and prepare is None)
        HANDLERS[number] = Handler(handle, changes, PAYLOADS[number].request, prepare, long, soon)
        return handle

    return register
