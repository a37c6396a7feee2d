"""People: the users, groups and roles of one's namespace, for its administrators; and what one is and has oneself."""

import time
from collections.abc import Callable
from typing import Any

from django import forms
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from keystore import access, administration, directory, roles, sessions
from keystore.authn import accounts, totp
from keystore.authn.tokens import ACCESS
from keystore.clock import SECOND
from kmip.enums import ObjectType, Operation
from ui import describe, login, session
from ui.objects import address_of, key_of, uid_of
from ui.pages import Route
from ui.rights import worded
from ui.site import site
from ui.words import TYPES, spaced

PAGE = 100
#: Rights of others' objects, and given on one's own, that the page of oneself shows.
MOST = 100
DAY = 86_400
OPERATIONS = [(roles.name_of(one), spaced(one.spelling)) for one in Operation]


def administrators(request: HttpRequest) -> None:
    """Raise `PermissionDenied` for those who do not administer their namespace."""
    if not session.administers(request):
        raise PermissionDenied


def _who(request: HttpRequest) -> tuple[Any, Any]:
    return session.peer_of(request), session.identity(request)


# Users.


class UserForm(forms.Form):
    """A new user, and whether it logs in at the console."""

    name = forms.CharField(label=_("Name"), max_length=accounts.USERNAME_LENGTH)
    password = forms.CharField(
        label=_("Password for the console"),
        required=False,
        strip=False,
        max_length=200,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        help_text=_("Empty for a client, or for somebody whom a provider or a certificate vouches for."),
    )


def users(request: HttpRequest) -> HttpResponse:
    """The users of the namespace by name; a new one."""
    administrators(request)
    peer, who = _who(request)
    form = UserForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        name, password = form.cleaned_data["name"], form.cleaned_data["password"]

        def make() -> object:
            if password:
                return administration.add_person(peer, who, name, password)
            return administration.add_user(peer, who, name)

        if session.change(request, make, gettext("The user is there."), form).over:
            return HttpResponseRedirect(reverse("ui:user", args=[key_of(name)]))
    beginning = request.GET.get("q", "").strip()
    after = request.GET.get("after", "")
    found = directory.users(who.namespace, beginning, after, PAGE + 1)
    given = directory.roles_given(who.namespace, [f"user:{one.username}" for one in found])
    context = {
        "title": gettext("People"),
        "section": "people",
        "tab": "users",
        "rows": [
            (one, reverse("ui:user", args=[key_of(one.username)]), given.get(f"user:{one.username}", []))
            for one in found[:PAGE]
        ],
        "q": beginning,
        "after": found[PAGE - 1].username if len(found) > PAGE else "",
        "first": bool(after),
        "form": form,
    }
    return site.page(request, "ui/people.html", context)


class RoleForm(forms.Form):
    """A role to give."""

    role = forms.ChoiceField(label=_("Role"))

    def __init__(self, data: Any, namespace: str) -> None:
        super().__init__(data)
        field: Any = self.fields["role"]
        field.choices = [(name, name) for name in accounts.role_names(namespace)]


class NameForm(forms.Form):
    """A group of a user, or a user of a group."""

    name = forms.CharField(label=_("Name"), max_length=accounts.USERNAME_LENGTH)


class PasswordForm(forms.Form):
    """Another password."""

    password = forms.CharField(
        label=_("New password"),
        strip=False,
        max_length=200,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )


class TokenForm(forms.Form):
    """An API token: what it is for, what it may, and how long."""

    name = forms.CharField(label=_("What it is for"), max_length=100)
    days = forms.IntegerField(label=_("Days of validity"), required=False, min_value=1, max_value=36_500, initial=90)
    scopes = forms.MultipleChoiceField(
        label=_("Only for"),
        required=False,
        choices=[(ACCESS, _("rights")), *OPERATIONS],
        widget=forms.CheckboxSelectMultiple,
        help_text=_("Nothing chosen: everything that the user may do."),
    )

    @property
    def lifetime(self) -> int | None:
        """Seconds of validity."""
        days = self.cleaned_data["days"]
        return None if days is None else days * DAY


def _role(request: HttpRequest, principal: str, *, give: bool) -> None:
    peer, who = _who(request)
    change = administration.give_role if give else administration.take_role
    done = gettext("The role is given.") if give else gettext("The role is taken away.")
    session.change(request, lambda: change(peer, who, request.POST.get("role", ""), principal), done)


def _member(request: HttpRequest, group: str, user: str, *, add: bool) -> None:
    peer, who = _who(request)
    change = {"add": [user]} if add else {"remove": [user]}
    done = gettext("The group is changed.")
    session.change(request, lambda: administration.set_members(peer, who, group, **change), done)


def _password(request: HttpRequest, username: str, change: Any) -> None:
    peer, who = _who(request)
    password = request.POST.get("password", "")
    session.change(request, lambda: change(peer, who, username, password), gettext("The password is set."))


def _disabled(request: HttpRequest, username: str, disabled: bool) -> None:
    peer, who = _who(request)
    session.change(request, lambda: administration.disable_user(peer, who, username, disabled), gettext("Done."))


def _reset_factor(request: HttpRequest, username: str) -> None:
    peer, who = _who(request)
    done = gettext("The second factor is gone; the password alone is enough until another is set up.")
    session.change(request, lambda: administration.reset_second_factor(peer, who, username), done)


def _end(request: HttpRequest, username: str, number: str) -> None:
    peer, who = _who(request)
    done = gettext("The session has ended.")
    session.change(request, lambda: administration.end_session(peer, who, username, number), done)


def _sessions(request: HttpRequest, person: Any) -> list[tuple[sessions.Shown, str, bool]]:
    """A user's sessions at the console, in which way each began, and whether it is the one that asks."""
    if person is None:
        return []
    own = sessions.number_of(request.session.session_key or "")
    return [(one, str(login.WAYS.get(one.way, one.way)), one.number == own) for one in sessions.of(person)]


def _revoke(request: HttpRequest, number: str) -> None:
    peer, who = _who(request)
    done = gettext("The token is revoked; it stops working within seconds.")
    session.change(request, lambda: administration.revoke_token(peer, who, number), done)


#: What the buttons of a user's page do, by the name of the button.
USER_ACTIONS: dict[str, Callable[[HttpRequest, str], None]] = {
    "give": lambda request, name: _role(request, f"user:{name}", give=True),
    "take": lambda request, name: _role(request, f"user:{name}", give=False),
    "join": lambda request, name: _member(request, request.POST.get("name", ""), name, add=True),
    "leave": lambda request, name: _member(request, request.POST.get("name", ""), name, add=False),
    "disable": lambda request, name: _disabled(request, name, True),
    "enable": lambda request, name: _disabled(request, name, False),
    "kmip_password": lambda request, name: _password(request, name, administration.set_password),
    "person": lambda request, name: _password(request, name, administration.add_person),
    "person_password": lambda request, name: _password(request, name, administration.set_person_password),
    "revoke": lambda request, name: _revoke(request, request.POST.get("token", "")),
    "reset_factor": lambda request, name: _reset_factor(request, name),
    "end": lambda request, name: _end(request, name, request.POST.get("session", "")),
}


def user(request: HttpRequest, key: str) -> HttpResponse:
    """A user, and everything that an administrator does about it."""
    administrators(request)
    name = uid_of(key)
    peer, who = _who(request)
    if accounts.find(who.namespace, name) is None:
        raise Http404
    form = TokenForm(request.POST if "token_new" in request.POST else None)
    token = ""
    if form.is_bound and form.is_valid():
        data = form.cleaned_data
        issued = session.change(
            request,
            lambda: administration.issue_token(
                peer, who, name, data["name"], scopes=data["scopes"], lifetime=form.lifetime
            ),
            form=form,
        )
        token = issued.answer[1] if issued.answer else ""
    elif request.method == "POST" and not form.is_bound:
        action = USER_ACTIONS.get(request.POST.get("do", ""))
        if action is None:
            raise Http404
        action(request, name)
        return HttpResponseRedirect(reverse("ui:user", args=[key]))
    found = directory.user(who.namespace, name)
    if found is None:
        raise Http404
    context = {
        "title": name,
        "section": "people",
        "found": found,
        "groups": [(group, reverse("ui:group", args=[key_of(group)])) for group in found.groups],
        "tokens": _tokens(found.tokens),
        "certificates": [(one, describe.moment(one.not_after)) for one in found.certificates],
        "operates": session.operates(request),
        "factor": totp.has(found.account),
        "sessions": _sessions(request, found.account.user),
        "role_form": RoleForm(None, who.namespace),
        "name_form": NameForm(None, auto_id="group_%s"),
        "password_form": PasswordForm(None),
        "token_form": form,
        "token": token,
    }
    return site.page(request, "ui/user.html", context)


def _tokens(found: list[Any]) -> list[tuple[Any, str, str, str, bool]]:
    now = time.time()
    return [
        (
            one,
            describe.moment(one.created),
            describe.moment(one.expires) if one.expires else gettext("never"),
            describe.moment(one.last_used) if one.last_used else gettext("never"),
            one.expires is not None and one.expires <= now,
        )
        for one in found
    ]


# Groups.


def groups(request: HttpRequest) -> HttpResponse:
    """The groups of the namespace; a new one."""
    administrators(request)
    peer, who = _who(request)
    form = NameForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        name = form.cleaned_data["name"]
        done = gettext("The group is there.")
        if session.change(request, lambda: administration.set_members(peer, who, name), done, form).over:
            return HttpResponseRedirect(reverse("ui:group", args=[key_of(name)]))
    context = {
        "title": gettext("Groups"),
        "section": "people",
        "tab": "groups",
        "rows": [
            (name, reverse("ui:group", args=[key_of(name)]), *rest) for name, *rest in directory.groups(who.namespace)
        ],
        "form": form,
    }
    return site.page(request, "ui/groups.html", context)


GROUP_ACTIONS: dict[str, Callable[[HttpRequest, str], None]] = {
    "give": lambda request, name: _role(request, f"group:{name}", give=True),
    "take": lambda request, name: _role(request, f"group:{name}", give=False),
    "join": lambda request, name: _member(request, name, request.POST.get("name", ""), add=True),
    "leave": lambda request, name: _member(request, name, request.POST.get("name", ""), add=False),
}


def group(request: HttpRequest, key: str) -> HttpResponse:
    """A group: its members and roles."""
    administrators(request)
    name = uid_of(key)
    peer, who = _who(request)
    members = directory.members(who.namespace, name)
    if members is None:
        raise Http404
    if request.method == "POST":
        if request.POST.get("do") == "remove":
            done = gettext("The group is gone.")
            removed = session.change(request, lambda: administration.remove_group(peer, who, name), done).over
            return HttpResponseRedirect(reverse("ui:groups") if removed else reverse("ui:group", args=[key]))
        action = GROUP_ACTIONS.get(request.POST.get("do", ""))
        if action is None:
            raise Http404
        action(request, name)
        return HttpResponseRedirect(reverse("ui:group", args=[key]))
    principal = f"group:{name}"
    context = {
        "title": name,
        "section": "people",
        "members": [(one, reverse("ui:user", args=[key_of(one)])) for one in members],
        "most": directory.MOST,
        "roles": directory.roles_given(who.namespace, [principal]).get(principal, []),
        "role_form": RoleForm(None, who.namespace),
        "name_form": NameForm(None, auto_id="member_%s"),
    }
    return site.page(request, "ui/group.html", context)


# Roles.


class DefineForm(forms.Form):
    """A role of the namespace's own."""

    name = forms.SlugField(label=_("Name"), max_length=64)
    operations = forms.MultipleChoiceField(
        label=_("On objects that one owns or was granted"), choices=OPERATIONS, widget=forms.CheckboxSelectMultiple
    )
    everywhere = forms.MultipleChoiceField(
        label=_("On every object of the namespace"),
        required=False,
        choices=OPERATIONS,
        widget=forms.CheckboxSelectMultiple,
    )
    object_types = forms.MultipleChoiceField(
        label=_("Only for these types"),
        required=False,
        choices=[(one.spelling, TYPES[one]) for one in ObjectType],
        widget=forms.CheckboxSelectMultiple,
        help_text=_("Nothing chosen: all of them."),
    )


def roles_(request: HttpRequest) -> HttpResponse:
    """Every role that can be given, and what it allows; one of the namespace's own, defined or removed."""
    administrators(request)
    peer, who = _who(request)
    known, holders = directory.allowances(who.namespace), directory.holders(who.namespace)
    if "remove" in request.POST:
        name = request.POST["remove"]
        session.change(request, lambda: administration.remove_role(peer, who, name), gettext("The role is gone."))
        return HttpResponseRedirect(reverse("ui:roles"))
    edited = next((role for role, own in known if own and role.name == request.GET.get("edit")), None)
    form = DefineForm(request.POST or None, initial=_initial(edited) if edited is not None else {})
    if request.method == "POST" and form.is_valid():
        data = dict(form.cleaned_data)
        name = data.pop("name")
        done = gettext("The role is defined.")
        if session.change(request, lambda: administration.set_role(peer, who, name, **data), done, form).over:
            return HttpResponseRedirect(reverse("ui:roles"))
    context = {
        "title": gettext("Roles"),
        "section": "people",
        "tab": "roles",
        "rows": [
            (
                role.name,
                own,
                _names(role.operations),
                _names(role.everywhere),
                _types(role),
                holders.get(role.name, []),
            )
            for role, own in known
        ],
        "form": form,
        "edited": edited is not None or form.is_bound,
    }
    return site.page(request, "ui/roles.html", context)


def _initial(role: Any) -> dict[str, Any]:
    return {
        "name": role.name,
        "operations": access.names(role.operations),
        "everywhere": access.names(role.everywhere),
        "object_types": [ObjectType(one).spelling for one in role.object_types or ()],
    }


def _names(operations: int) -> str:
    if operations == roles.ALL:
        return gettext("everything")
    return ", ".join(spaced(one.spelling) for one in roles.operations_in(operations)) or gettext("nothing")


def _types(role: Any) -> str:
    if role.object_types is None:
        return gettext("all")
    return ", ".join(str(TYPES[ObjectType(one)]) for one in sorted(role.object_types))


# Oneself.


def me(request: HttpRequest) -> HttpResponse:
    """Who one is here, one's tokens, and the rights that others gave."""
    peer, who = _who(request)
    form = TokenForm(request.POST if "token_new" in request.POST else None)
    token = ""
    if form.is_bound and form.is_valid():
        expires = None if form.lifetime is None else int(time.time()) + form.lifetime
        data = form.cleaned_data
        issued = session.change(
            request,
            lambda: administration.issue_own_token(peer, who, data["name"], scopes=data["scopes"], expires=expires),
            form=form,
        )
        token = issued.answer[1] if issued.answer else ""
    elif "revoke" in request.POST:
        number = request.POST["revoke"]
        done = gettext("The token is revoked; it stops working within seconds.")
        session.change(request, lambda: administration.revoke_own_token(peer, who, number), done)
        return HttpResponseRedirect(reverse("ui:me"))
    elif "end" in request.POST:
        number = request.POST["end"]
        done = gettext("The session has ended.")
        session.change(request, lambda: administration.end_own_session(peer, who, number), done)
        return HttpResponseRedirect(reverse("ui:me"))
    account = accounts.find(who.namespace, who.username)
    obtained = [one for one, _ in zip(access.obtained(who), range(MOST), strict=False)]
    context = {
        "title": gettext("You"),
        "section": "me",
        "who": who,
        "roles": [role.name for role in who.roles],
        "tokens": _tokens(directory.tokens(account)) if account is not None else [],
        "token_form": form,
        "token": token,
        "sessions": _sessions(request, request.user),
        "obtained": [(one, address_of(one["object_id"]), ", ".join(one["operations"])) for one in obtained],
        "given": [
            (one, address_of(one.uid), access.shown(one.principal), worded(one.operations))
            for one in access.given(who, MOST)
        ],
    }
    return site.page(request, "ui/me.html", context)


# Notifications.


def notifications(request: HttpRequest) -> HttpResponse:
    """What is still to be told to clients: one's own, or for administrators those of every user."""
    who = session.identity(request)
    everybody = session.administers(request)
    found = directory.notifications(who.namespace, None if everybody else who.username, MOST)
    context = {
        "title": gettext("Notifications"),
        "section": "people" if everybody else "me",
        "tab": "notifications",
        "everybody": everybody,
        "most": MOST,
        "rows": [
            (
                one,
                spaced(Operation(one.operation).spelling),
                address_of(one.uid),
                describe.moment(one.created // SECOND),
                describe.moment(one.next_attempt // SECOND) if one.next_attempt else "",
            )
            for one in found
        ],
    }
    return site.page(request, "ui/notifications.html", context)


ROUTES: list[Route] = [
    ("notifications/", notifications, "notifications"),
    ("people/", users, "people"),
    ("people/groups/", groups, "groups"),
    ("people/groups/<str:key>/", group, "group"),
    ("people/roles/", roles_, "roles"),
    ("people/users/<str:key>/", user, "user"),
    ("me/", me, "me"),
]
