"""Undo: what was destroyed and can still be restored, for administrators of the namespace."""

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.translation import gettext
from django.views.decorators.http import require_POST

from keystore import conf, store, withholding
from kmip.enums import ObjectType
from ui import describe, session
from ui.objects import address_of
from ui.pages import Route
from ui.site import site
from ui.words import TYPES

#: Objects on the page; older ones are found by the beginning of their identifier.
MOST = 100


def _administrators(request: HttpRequest) -> None:
    if not session.administers(request):
        raise PermissionDenied


def listed(request: HttpRequest) -> HttpResponse:
    """The objects that can be restored, the last destroyed first."""
    _administrators(request)
    beginning = request.GET.get("q", "").strip()
    found = withholding.withheld(session.identity(request).namespace, beginning=beginning, limit=MOST + 1)
    context = {
        "title": gettext("Destroyed objects"),
        "section": "destroyed",
        "q": beginning,
        "delayed": conf.current().lifecycle.destroy_delay > 0,
        "more": len(found) > MOST,
        "rows": [
            (
                store.uid_of(row.key),
                address_of(store.uid_of(row.key)),
                TYPES[ObjectType(row.object_type)],
                row.owner,
                row.destroyed_by,
                describe.moment(row.destroyed),
                describe.moment(row.purge),
            )
            for row in found[:MOST]
        ],
    }
    return site.page(request, "ui/destroyed.html", context)


@require_POST
def restore(request: HttpRequest) -> HttpResponse:
    """Bring an object back as it was."""
    _administrators(request)
    peer, namespace, uid = session.peer_of(request), session.identity(request).namespace, request.POST.get("uid", "")
    made = session.change(
        request, lambda: withholding.restore(namespace, uid, peer), gettext("The object is as it was before.")
    )
    return HttpResponseRedirect(address_of(uid) if made.over else reverse("ui:destroyed"))


ROUTES: list[Route] = [
    ("destroyed/", listed, "destroyed"),
    ("destroyed/restore/", restore, "destroyed_restore"),
]
