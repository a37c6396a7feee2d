"""What can be done with an object in the state it is in, and the forms for it."""

import json
import time
from typing import Any, NamedTuple

from django import forms
from django.http import HttpRequest
from django.utils.functional import Promise
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from keystore import addressing, states, store
from keystore.call import HANDLERS
from keystore.operations.lifecycle import NEED_NO_REVOKE
from keystore.states import Event
from keystore.store import Managed
from kmip.attributes import Attributes, Vendor, vendor_text
from kmip.enums import LinkType, ObjectType, Operation, RevocationReasonCode, State
from kmip.payloads import (
    ActivateRequest,
    AddAttributeRequest,
    ArchiveRequest,
    DestroyRequest,
    RecoverRequest,
    ReKeyKeyPairRequest,
    ReKeyRequest,
    RevokeRequest,
    SetAttributeRequest,
)
from kmip.schema import Struct
from kmip.structures import RevocationReason
from ui import describe, session
from ui.words import REASONS, label

TITLES: dict[Operation, Promise] = {
    Operation.ACTIVATE: _("Activate"),
    Operation.REVOKE: _("Revoke"),
    Operation.DESTROY: _("Destroy"),
    Operation.GET: _("Reveal"),
    Operation.RE_KEY: _("Re-key"),
    Operation.RE_KEY_KEY_PAIR: _("Re-key the pair"),
    Operation.ARCHIVE: _("Archive"),
    Operation.RECOVER: _("Recover"),
    Operation.ADD_ATTRIBUTE: _("Add to a group"),
    Operation.SET_ATTRIBUTE: _("Tag"),
}


class OperationForm(forms.Form):
    """A form that makes the payload of an operation on one object."""

    def payload(self, managed: Managed) -> Struct:
        """The request payload."""
        raise NotImplementedError


class ActivateForm(OperationForm):
    """Activate asks for nothing."""

    def payload(self, managed: Managed) -> Struct:
        return ActivateRequest(unique_identifier=managed.uid)


class RevokeForm(OperationForm):
    """Revoke needs a reason; one of compromise takes when it happened."""

    reason = forms.TypedChoiceField(
        label=_("Reason"),
        choices=[(int(code), text) for code, text in REASONS.items()],
        coerce=lambda value: RevocationReasonCode(int(value)),
        initial=int(RevocationReasonCode.CESSATION_OF_OPERATION),
    )
    message = forms.CharField(label=_("Remark"), required=False, max_length=500)
    occurred = forms.DateTimeField(
        label=_("Compromised since"),
        required=False,
        help_text=_("Only with a compromise: when it is thought to have happened (UTC); empty means now."),
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
    )

    def payload(self, managed: Managed) -> Struct:
        data = self.cleaned_data
        code = data["reason"]
        occurred = None
        if code in states.COMPROMISES:
            occurred = int(data["occurred"].timestamp() if data["occurred"] else time.time())
        return RevokeRequest(
            unique_identifier=managed.uid,
            revocation_reason=RevocationReason(revocation_reason_code=code, revocation_message=data["message"] or None),
            compromise_occurrence_date=occurred,
        )


class DestroyForm(OperationForm):
    """Destroy wants to be meant."""

    sure = forms.BooleanField(label=_("I know that the material cannot be brought back."))

    def payload(self, managed: Managed) -> Struct:
        return DestroyRequest(unique_identifier=managed.uid)


class ReKeyForm(OperationForm):
    """Re-key makes a replacement, which takes the names over."""

    def payload(self, managed: Managed) -> Struct:
        return ReKeyRequest(unique_identifier=managed.uid)


class ReKeyKeyPairForm(OperationForm):
    """Re-key of a pair goes by its private key."""

    def payload(self, managed: Managed) -> Struct:
        return ReKeyKeyPairRequest(private_key_unique_identifier=managed.uid)


class ArchiveForm(OperationForm):
    """Archive asks for nothing."""

    def payload(self, managed: Managed) -> Struct:
        return ArchiveRequest(unique_identifier=managed.uid)


class RecoverForm(OperationForm):
    """Recover asks for nothing."""

    def payload(self, managed: Managed) -> Struct:
        return RecoverRequest(unique_identifier=managed.uid)


class GroupForm(OperationForm):
    """The Object Group to add."""

    group = forms.CharField(label=_("Group"), max_length=200)

    def payload(self, managed: Managed) -> Struct:
        attributes = Attributes()
        attributes.object_group = [self.cleaned_data["group"]]
        return AddAttributeRequest(unique_identifier=managed.uid, new_attribute=attributes)


class TagForm(OperationForm):
    """A tag to add to those that an object has."""

    tag = forms.CharField(label=_("Tag"), max_length=100)

    def clean_tag(self) -> str:
        """Refuse those that the server gives by itself."""
        tag: str = self.cleaned_data["tag"]
        if tag.startswith("_"):
            raise forms.ValidationError(gettext("Tags that begin with “_” are the server's own."))
        return tag

    def payload(self, managed: Managed) -> Struct:
        tags = describe.tags_of(managed.attributes)
        tag = self.cleaned_data["tag"]
        return SetAttributeRequest(
            unique_identifier=managed.uid,
            new_attribute=tagged(tags if tag in tags else [*tags, tag], describe.tag_key(managed.attributes)),
        )


def tagged(tags: list[str], key: Vendor | None = None) -> Attributes:
    """The attribute that holds tags, of the vendor that it has already or of this server's."""
    vendor = key.vendor if key is not None else addressing.vendors()[-1]
    return Attributes(vendor_text(store.TAGS, json.dumps(tags, ensure_ascii=False), vendor))


FORMS: dict[Operation, type[OperationForm]] = {
    Operation.ACTIVATE: ActivateForm,
    Operation.REVOKE: RevokeForm,
    Operation.DESTROY: DestroyForm,
    Operation.RE_KEY: ReKeyForm,
    Operation.RE_KEY_KEY_PAIR: ReKeyKeyPairForm,
    Operation.ARCHIVE: ArchiveForm,
    Operation.RECOVER: RecoverForm,
    Operation.ADD_ATTRIBUTE: GroupForm,
    Operation.SET_ATTRIBUTE: TagForm,
}


class Plan(NamedTuple):
    """Whether an operation will be carried out on an object, and what becomes of it or why not."""

    possible: bool
    text: str


#: The operations that the object page offers, in order.
OFFERED = (
    Operation.ACTIVATE,
    Operation.REVOKE,
    Operation.DESTROY,
    Operation.GET,
    Operation.RE_KEY,
    Operation.RE_KEY_KEY_PAIR,
    Operation.ARCHIVE,
    Operation.RECOVER,
)


def offered(managed: Managed) -> list[Operation]:
    """The operations that make sense for an object of its type, whether or not they are possible now."""
    kinds = {
        Operation.RE_KEY: (ObjectType.SYMMETRIC_KEY,),
        Operation.RE_KEY_KEY_PAIR: (ObjectType.PRIVATE_KEY,),
    }
    archived = managed.columns.get("archive_date") is not None
    left_out = {Operation.ARCHIVE} if archived else {Operation.RECOVER}
    return [
        one for one in OFFERED
        if one in HANDLERS and one not in left_out and managed.object_type in kinds.get(one, (managed.object_type,))
    ]  # fmt: skip


def plan(request: HttpRequest, operation: Operation, managed: Managed) -> Plan:
    """What an operation will do, or why it is not offered. The engine decides again when it is carried out."""
    if not session.may(request, operation, managed):
        return Plan(False, gettext("You have no right to do this."))
    state = managed.state
    archived = managed.columns.get("archive_date") is not None
    if operation == Operation.RECOVER:
        return Plan(
            archived, gettext("It comes back from the archive.") if archived else gettext("It is not archived.")
        )
    if state in states.DESTROYED:
        if operation == Operation.REVOKE and state == State.DESTROYED:
            return Plan(True, gettext("It stays destroyed; a compromise is noted."))
        return Plan(False, gettext("It is destroyed."))
    if archived and operation != Operation.DESTROY:
        return Plan(False, gettext("It is archived; recover it first."))
    return _PLANS[operation](managed, state)


def _becomes(state: State, target: State) -> Plan:
    return Plan(True, f"{label(state)} → {label(target)}")


def _activate(managed: Managed, state: State) -> Plan:
    if state == State.PRE_ACTIVE:
        return _becomes(state, State.ACTIVE)
    return Plan(False, gettext("Only a pre-active object can be activated."))


def _revoke(managed: Managed, state: State) -> Plan:
    if state == State.ACTIVE:
        return Plan(True, gettext("Active → Deactivated, or Compromised if the reason is a compromise"))
    if state == State.PRE_ACTIVE:
        return Plan(True, gettext("Pre-active → Compromised; no other reason is possible yet"))
    if state == State.DEACTIVATED:
        return Plan(True, gettext("Deactivated; a compromise makes it Compromised"))
    return Plan(False, gettext("It is known to be compromised."))


def _destroy(managed: Managed, state: State) -> Plan:
    if state == State.ACTIVE and managed.object_type not in NEED_NO_REVOKE:
        return Plan(False, gettext("An active object must be revoked first."))
    target = states.TRANSITIONS.get((state, Event.DESTROY), State.DESTROYED)
    return _becomes(state, target)


def _get(managed: Managed, state: State) -> Plan:
    if managed.columns["sensitive"]:
        return Plan(False, gettext("It is sensitive: it leaves the server only wrapped."))
    if not managed.columns["extractable"]:
        return Plan(False, gettext("It may not leave the server."))
    if managed.blob is None:
        return Plan(False, gettext("The server does not hold its material."))
    return Plan(True, gettext("You are asked to prove again who you are, and the reading is on record."))


def _rekey(managed: Managed, state: State) -> Plan:
    if any(link.link_type == LinkType.REPLACEMENT_OBJECT_LINK for link in managed.attributes.link):
        return Plan(False, gettext("It has been replaced already."))
    return Plan(True, gettext("A new object replaces it and takes its names over."))


def _archive(managed: Managed, state: State) -> Plan:
    return Plan(True, gettext("It can be found, but not used until it is recovered."))


def _changed(managed: Managed, state: State) -> Plan:
    return Plan(True, gettext("It stays as it is otherwise."))


_PLANS: dict[Operation, Any] = {
    Operation.ACTIVATE: _activate,
    Operation.REVOKE: _revoke,
    Operation.DESTROY: _destroy,
    Operation.GET: _get,
    Operation.RE_KEY: _rekey,
    Operation.RE_KEY_KEY_PAIR: _rekey,
    Operation.ARCHIVE: _archive,
    Operation.ADD_ATTRIBUTE: _changed,
    Operation.SET_ATTRIBUTE: _changed,
}
