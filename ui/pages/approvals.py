"""Approvals: what waits for one's vote or for that of others, and the rules that say what has to wait."""

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_POST

from keystore import approvals
from kmip.enums import ObjectType
from ui import describe, session
from ui.objects import address_of
from ui.pages import Route
from ui.site import site
from ui.words import TYPES

HOUR = 3600
#: Decided requests that the page shows.
MOST = 100
OUTCOMES: dict[str, Promise] = {
    approvals.WAITING: _("waiting"),
    approvals.APPROVED: _("approved"),
    approvals.REFUSED: _("refused"),
    approvals.EXPIRED: _("expired"),
    approvals.CANCELED: _("canceled"),
    approvals.FAILED: _("approved, but not possible any more"),
}


class RuleForm(forms.Form):
    """What has to wait, and for whom."""

    operation = forms.ChoiceField(label=_("Operation"), choices=[(name, name) for name in approvals.NAMES])
    needed = forms.IntegerField(label=_("Approvals needed"), min_value=1, max_value=approvals.MAX_PEOPLE, initial=1)
    people = forms.CharField(
        label=_("People who may approve"), max_length=5000, help_text=_("Users; several are separated by commas.")
    )
    object_types = forms.MultipleChoiceField(
        label=_("Only for these types"),
        required=False,
        choices=[(one.spelling, TYPES[one]) for one in ObjectType],
        widget=forms.CheckboxSelectMultiple,
        help_text=_("Nothing chosen: all of them."),
    )
    hours = forms.IntegerField(
        label=_("Hours that a request waits"),
        min_value=1,
        max_value=approvals.MAX_LIFETIME // HOUR,
        initial=approvals.LIFETIME // HOUR,
    )


def listed(request: HttpRequest) -> HttpResponse:
    """The requests that concern the person, those they may vote on first; for administrators the rules, too."""
    who = session.identity(request)
    decided = "decided" in request.GET
    found = approvals.shown(who, decided=decided, limit=MOST if decided else None)
    form = RuleForm(request.POST if "rule" in request.POST else None)
    if form.is_bound:
        _administrators(request)
        if form.is_valid() and _set(request, form):
            return HttpResponseRedirect(reverse("ui:approvals"))
    context = {
        "title": gettext("Approvals"),
        "section": "approvals",
        "decided": decided,
        "rows": [
            (
                one,
                address_of(one.uid) if one.uid else "",
                describe.moment(one.created),
                describe.moment(one.expires),
                OUTCOMES.get(one.outcome, one.outcome),
                sum(approves for _voter, approves in one.votes),
            )
            for one in sorted(found, key=lambda one: not one.open)
        ],
        "administers": session.administers(request),
        "rules": approvals.rules(who.namespace) if session.administers(request) else [],
        "form": form,
    }
    return site.page(request, "ui/approvals.html", context)


def _administrators(request: HttpRequest) -> None:
    if not session.administers(request):
        raise PermissionDenied


def _set(request: HttpRequest, form: RuleForm) -> bool:
    """Set a rule; whether that is done, or waits for the people of the rule before it."""
    data = form.cleaned_data

    def make() -> None:
        approvals.set_rule(
            session.peer_of(request),
            session.identity(request),
            data["operation"],
            needed=data["needed"],
            people=[one.strip() for one in data["people"].split(",") if one.strip()],
            object_types=data["object_types"],
            lifetime=data["hours"] * HOUR,
        )

    return session.change(request, make, gettext("The rule is set."), form).over


@require_POST
def unset(request: HttpRequest) -> HttpResponse:
    """Remove a rule, or ask its people to."""
    _administrators(request)
    peer, who, name = session.peer_of(request), session.identity(request), request.POST.get("operation", "")
    session.change(request, lambda: approvals.remove_rule(peer, who, name), gettext("The rule is gone."))
    return HttpResponseRedirect(reverse("ui:approvals"))


@require_POST
def vote(request: HttpRequest, number: str) -> HttpResponse:
    """Vote on exactly what the page showed."""
    approves, digest = "approve" in request.POST, request.POST.get("digest", "")
    peer, who = session.peer_of(request), session.identity(request)
    outcome = session.change(request, lambda: approvals.vote(peer, who, number, digest, approves=approves)).answer
    if outcome is not None:
        messages.success(
            request, gettext("Your vote counts. The request: %(outcome)s.") % {"outcome": OUTCOMES[outcome]}
        )
    return HttpResponseRedirect(reverse("ui:approvals"))


ROUTES: list[Route] = [
    ("approvals/", listed, "approvals"),
    ("approvals/rules/remove/", unset, "approval_rule_remove"),
    ("approvals/<slug:number>/vote/", vote, "approval_vote"),
]
