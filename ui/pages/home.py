"""The first page: what is there, what comes up, and how the server is."""

import time
from typing import Any

from django.db.models import Count
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext

from kmip.enums import ObjectType, State
from ui import session
from ui.pages import Route
from ui.site import site
from ui.words import label

DAY = 86_400
#: How far ahead the page looks, in days.
WINDOWS = (7, 30, 90)
#: How many of the last operations the page shows.
LAST = 10


def show(request: HttpRequest) -> HttpResponse:
    """Objects by state and type, deactivations coming up, and the last operations of the person."""
    visible = session.visible(request).order_by()
    now = int(time.time())
    states = {State(row["state"]): row["n"] for row in visible.values("state").annotate(n=Count("uid"))}
    kinds = {ObjectType(row["object_type"]): row["n"] for row in visible.values("object_type").annotate(n=Count("uid"))}
    most = max(states.values(), default=0)
    context: dict[str, Any] = {
        "title": gettext("Home"),
        "section": "home",
        "states": [
            (label(state), state.spelling, count, count * 240 // most, number * 30)
            for number, (state, count) in enumerate(sorted(states.items()))
        ],
        "states_height": 30 * len(states) + 6,
        "kinds": [(label(kind), count) for kind, count in sorted(kinds.items())],
        "total": sum(states.values()),
        "coming": [
            (
                days,
                visible.filter(state=State.ACTIVE, next_change__gt=now, next_change__lte=now + days * DAY).count(),
            )
            for days in WINDOWS
        ],
        "last": session.latest(request, LAST),
    }
    return site.page(request, "ui/home.html", context)


ROUTES: list[Route] = [("", show, "index"), ("home/", show, "home")]
