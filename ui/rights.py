"""Rights on objects as forms: who is given what, for how long."""

from typing import Any

from django import forms
from django.http import HttpRequest
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from keystore import access, policy, roles
from keystore.call import HANDLERS
from keystore.store import Managed
from kmip.enums import Operation
from kmip.errors import KMIPError
from ui import session
from ui.creation import Moment
from ui.lifecycle import Plan
from ui.words import spaced

O = Operation  # noqa: E741 - the table is read as one
#: What people do with an object, the most common first.
OFFERED = (
    O.GET, O.GET_ATTRIBUTES, O.GET_ATTRIBUTE_LIST, O.ENCRYPT, O.DECRYPT, O.SIGN, O.SIGNATURE_VERIFY, O.MAC,
    O.MAC_VERIFY, O.HASH, O.DERIVE_KEY, O.EXPORT, O.LOCATE, O.CHECK, O.VALIDATE, O.OBTAIN_LEASE, O.GET_USAGE_ALLOCATION,
    O.ACTIVATE, O.REVOKE, O.DESTROY, O.ARCHIVE, O.RECOVER, O.RE_KEY, O.RE_KEY_KEY_PAIR, O.CERTIFY, O.RE_CERTIFY,
    O.ADD_ATTRIBUTE, O.MODIFY_ATTRIBUTE, O.SET_ATTRIBUTE, O.ADJUST_ATTRIBUTE, O.DELETE_ATTRIBUTE, O.CREATE_SPLIT_KEY,
    O.JOIN_SPLIT_KEY, O.RE_PROVISION,
)  # fmt: skip
OPERATIONS = [
    (roles.name_of(one), spaced(one.spelling)) for one in OFFERED if one in HANDLERS and access.can_be_granted(one)
]


def worded(operations: int) -> str:
    """A set of operations in words, those on objects alone."""
    return ", ".join(spaced(one.spelling) for one in OFFERED if (operations & access.ALL) >> one & 1)


class PrincipalForm(forms.Form):
    """Whom a right is about."""

    kind = forms.ChoiceField(
        label=_("To whom"), choices=[("user", _("User")), ("group", _("Group")), ("everybody", _("Everybody"))]
    )
    name = forms.CharField(label=_("Name"), required=False, max_length=255)

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        kind, name = data.get("kind"), data.get("name", "")
        try:
            if kind == "everybody":
                data["principal"] = access.EVERYBODY
            elif kind == "group":
                data["principal"] = access.principal(None, name)
            else:
                data["principal"] = access.principal(name)
                if data["principal"] == access.EVERYBODY:
                    raise forms.ValidationError(gettext("Choose “Everybody” for that."))
        except KMIPError as exc:
            self.add_error("name", exc.message)
        return data


class GrantForm(PrincipalForm):
    """A right to give: operations, and until when."""

    operations = forms.MultipleChoiceField(
        label=_("Operations"), choices=OPERATIONS, widget=forms.CheckboxSelectMultiple
    )
    expires = Moment(label=_("Until (UTC)"), help_text=_("Empty: for good."))

    def carry_out(self, request: HttpRequest, managed: Managed) -> None:
        """Give the right on an object; raises `KMIPError`."""
        data = self.cleaned_data
        access.grant(
            session.peer_of(request),
            session.identity(request),
            managed.uid,
            data["principal"],
            access.operations_named(data["operations"]),
            expires=int(data["expires"].timestamp()) if data["expires"] else None,
        )


def plan(request: HttpRequest, managed: Managed) -> Plan:
    """Whether the person decides about an object."""
    if policy.decides(session.identity(request), managed):
        return Plan(True, gettext("It stays as it is otherwise."))
    return Plan(False, gettext("Only its owner decides about it."))
