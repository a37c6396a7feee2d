"""Setting up a second factor: a square of dots for an authenticator app, and a code that proves that it was read."""

from typing import Any

import segno
from django import forms
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from keystore import administration
from keystore.authn import accounts, totp
from ui import login, session
from ui.pages import Route
from ui.site import site

#: In the session: the secret that is being set up.
SECRET = "kms_totp"  # noqa: S105 - the name of the session's entry


class CodeForm(forms.Form):
    """A code of the app."""

    code = forms.CharField(
        label=_("Code"),
        max_length=12,
        widget=forms.TextInput(attrs={"autocomplete": "one-time-code", "inputmode": "numeric"}),
    )


def show(request: HttpRequest) -> HttpResponse:
    """Set up a second factor, or remove it."""
    peer, who = session.peer_of(request), session.identity(request)
    account = accounts.of_person(request.user.get_username())
    has = totp.has(account)
    form = CodeForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        code = form.cleaned_data["code"]

        def remove() -> None:
            administration.remove_second_factor(peer, who, code)
            request.session[login.LACKS_FACTOR] = True

        def put() -> None:
            administration.set_second_factor(peer, who, request.session.get(SECRET, ""), code)
            request.session.pop(SECRET, None)
            request.session.pop(login.LACKS_FACTOR, None)

        made = (
            session.change(request, remove, gettext("Your password is enough again."), form, "code")
            if has
            else session.change(request, put, gettext("From now on you need a code to log in."), form, "code")
        )
        if made.over:
            return HttpResponseRedirect(reverse("ui:second_factor"))
    context: dict[str, Any] = {"title": gettext("Second factor"), "form": form, "has": has}
    if not has:
        secret = request.session.setdefault(SECRET, totp.new_secret())
        square = segno.make(totp.address(account, secret), error="m").svg_data_uri(scale=5, border=4)
        context |= {"secret": secret, "square": square, "required": login.lacks_factor(request)}
    return site.page(request, "ui/second_factor.html", context)


ROUTES: list[Route] = [("second-factor/", show, "second_factor")]
