"""The console's site: Django's admin site with pages of its own."""

from collections.abc import Callable
from functools import wraps
from http import HTTPStatus
from typing import Any, NamedTuple

from django.conf import settings
from django.contrib.admin import AdminSite
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from django.utils.functional import Promise
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import get_language_info, gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST
from django.views.i18n import set_language

from keystore import checks, conf
from keystore.models import ManagedObject
from keystore.version import VERSION
from kmip.enums import ResultReason
from kmip.errors import KMIPError
from ui import login, session
from ui.login import LoginForm

THEMES = ("auto", "light", "dark")
YEAR = 365 * 86_400
#: Pages that people see before they have set up the second factor that the settings require.
WITHOUT_FACTOR = ("ui:second_factor", "ui:logout")

#: The HTTP status of a page that an operation's refusal ends.
STATUS: dict[ResultReason, int] = {
    ResultReason.OBJECT_NOT_FOUND: 404,
    ResultReason.ITEM_NOT_FOUND: 404,
    ResultReason.PERMISSION_DENIED: 403,
    ResultReason.AUTHENTICATION_NOT_SUCCESSFUL: 403,
    ResultReason.GENERAL_FAILURE: 500,
}


class Entry(NamedTuple):
    """One entry of the navigation."""

    section: str
    title: Promise
    view: str
    operators: bool = False
    administrators: bool = False


NAVIGATION = (
    Entry("home", _("Home"), "home"),
    Entry("objects", _("Objects"), "objects"),
    Entry("create", _("Create"), "create"),
    Entry("use", _("Use"), "uses"),
    Entry("clients", _("Clients"), "clients", operators=True),
    Entry("authorities", _("Authorities"), "authorities", operators=True),
    Entry("people", _("People"), "people", administrators=True),
    Entry("approvals", _("Approvals"), "approvals"),
    Entry("destroyed", _("Undo"), "destroyed", administrators=True),
    Entry("audit", _("Audit"), "audit"),
    Entry("console", _("Console"), "console"),
    Entry("settings", _("Settings"), "settings", operators=True),
)


def _navigation(request: HttpRequest) -> list[Entry]:
    """The entries for a person; none where the key store does not let them in."""
    try:
        operates, administers = session.operates(request), session.administers(request)
    except KMIPError:
        return []
    return [
        entry for entry in NAVIGATION if (operates or not entry.operators) and (administers or not entry.administrators)
    ]


class Console(AdminSite):
    """The site at /ui."""

    site_title = site_header = _("Key management")
    enable_nav_sidebar = False
    login_form = LoginForm
    login_template = "ui/login.html"
    logout_template = "ui/logged_out.html"
    password_change_template = "ui/password.html"  # noqa: S105 - a file name
    password_change_done_template = "ui/password_done.html"  # noqa: S105 - a file name

    def has_permission(self, request: HttpRequest) -> bool:
        """Whoever is logged in; what they may do with objects is policy's business."""
        return bool(request.user.is_authenticated and request.user.is_active and login.holds(request))

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        theme = request.COOKIES.get("theme", "auto")
        inside = self.has_permission(request)
        return {
            "site_title": self.site_title,
            "site_header": self.site_header,
            "has_permission": inside,
            "navigation": _navigation(request) if inside else (),
            "theme": theme if theme in THEMES else "auto",
            "languages": [(code, get_language_info(code)["name_local"].capitalize()) for code, _ in settings.LANGUAGES],
            "version": VERSION,
            "open": conf.current().auth.default_username if checks.is_open(conf.current()) else "",
            "here": request.get_full_path(),
        }

    def admin_view(self, view: Callable[..., HttpResponse], cacheable: bool = False) -> Callable[..., HttpResponse]:
        """A view for those who are logged in; an operation that is refused becomes a page that says why."""

        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            try:
                if login.lacks_factor(request) and request.resolver_match.view_name not in WITHOUT_FACTOR:
                    return HttpResponseRedirect(reverse("ui:second_factor"))
                return view(request, *args, **kwargs)
            except KMIPError as exc:
                return self.refused(request, exc)
            except PermissionDenied:
                return self.refused(
                    request, KMIPError(ResultReason.PERMISSION_DENIED, gettext("Your roles do not allow this."))
                )

        return super().admin_view(guarded, cacheable)  # type: ignore[no-any-return]

    def refused(self, request: HttpRequest, error: KMIPError) -> HttpResponse:
        """The page that says why an operation was refused, or that it waits until people have approved it."""
        if session.waits(error):
            return self.page(
                request, "ui/waits.html", {"title": gettext("Waits for approval"), "error": error}, status=202
            )
        context = {"title": gettext("Not possible"), "error": error}
        return self.page(request, "ui/refused.html", context, status=STATUS.get(error.reason, 400))

    def page(
        self, request: HttpRequest, template: str, context: dict[str, Any], *, status: int = 200
    ) -> TemplateResponse:
        """A page of the console."""
        request.current_app = self.name  # type: ignore[attr-defined]
        return TemplateResponse(request, template, {**self.each_context(request), **context}, status=status)

    def get_urls(self) -> list[URLPattern]:
        from ui import pages

        wrap = self.admin_view
        own = [
            path("login/", self.login, name="login"),
            *login.routes(),
            path("logout/", wrap(self.logout), name="logout"),
            path("password/", wrap(self.password_change), name="password_change"),
            path("password/done/", wrap(self.password_change_done), name="password_change_done"),
            path("theme/", require_POST(self.theme), name="theme"),
            path("language/", set_language, name="language"),
        ]
        objects = [
            path(f"objects/{pattern.pattern}", pattern.callback, name=pattern.name)
            for pattern in self._registry[ManagedObject].get_urls()
        ]
        return [*own, *objects, *(path(route, wrap(view), name=name) for route, view, name in pages.routes())]

    @method_decorator(never_cache)
    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """The form, and the other ways in."""
        return super().login(request, {**(extra_context or {}), **login.ways(request)})

    def logout(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """End the session, which is recorded."""
        if request.method == "POST":
            login.note_logout(request)
        return super().logout(request, extra_context)

    def password_change(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Take a new password, which is recorded."""
        with transaction.atomic():
            answer = super().password_change(request, extra_context)
            if answer.status_code == HTTPStatus.FOUND:
                login.note_password(request)
        return answer

    def theme(self, request: HttpRequest) -> HttpResponse:
        """Keep whether pages are light, dark, or as the browser says."""
        back = request.POST.get("next", "")
        if not url_has_allowed_host_and_scheme(back, {request.get_host()}, request.is_secure()):
            back = reverse("ui:index")
        response = HttpResponseRedirect(back)
        chosen = request.POST.get("theme")
        if chosen in THEMES:
            response.set_cookie(
                "theme", chosen, max_age=YEAR, secure=settings.SESSION_COOKIE_SECURE, httponly=True, samesite="Strict"
            )
        return response


site = Console(name="ui")
