"""The first page: what is there, what comes up, what was done and refused, and how the server is."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple

from django.core.exceptions import PermissionDenied
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from keystore import activity, approvals, clients, conf, handshakes, milestones, nodes
from keystore.activity import Bucket
from ui import describe, session, tally
from ui.pages import Route
from ui.site import site
from ui.words import label

#: How many of the last operations, and of the last refusals of each kind, the page shows.
LAST = 10
REFUSED = 8
HEIGHT, WIDTH = 120, 600  # of the drawing


class Period(NamedTuple):
    """A time that the drawing is about: its title, how many buckets of how many minutes, and how they are called."""

    title: Promise
    buckets: int
    step: int
    name: Callable[[datetime], str]


PERIODS: dict[str, Period] = {
    "hour": Period(_("Last hour"), 60, 1, lambda moment: moment.strftime("%H:%M")),
    "day": Period(_("Last day"), 24, 60, lambda moment: moment.strftime("%d %H:%M")),
    "month": Period(_("Last 30 days"), 30, 1440, lambda moment: moment.strftime("%Y-%m-%d")),
}


class Bar(NamedTuple):
    """One bucket, with where it stands in the drawing."""

    name: str
    rate: float
    operations: int
    failures: int
    x: float
    width: float
    height: float
    bad: float


def drawn(period: Period, found: list[Bucket], now: int) -> tuple[list[Bar], float]:
    """A bar for every bucket of a period that ends now (minutes since 1970), and the highest rate a minute."""
    by_minute = {one.minute: one for one in found}
    last = now - now % period.step
    minutes = [last - number * period.step for number in reversed(range(period.buckets))]
    buckets = [by_minute.get(minute, Bucket(minute, 0, 0)) for minute in minutes]
    most = max((one.operations for one in buckets), default=0)
    scale, width = HEIGHT / most if most else 0, WIDTH / period.buckets
    bars = [
        Bar(
            period.name(datetime.fromtimestamp(one.minute * 60, UTC)),
            round(one.operations / period.step, 1),
            one.operations,
            one.failures,
            round(number * width, 1),
            round(width * 0.8, 1),
            round(one.operations * scale, 1),
            round(one.failures * scale, 1),
        )
        for number, one in enumerate(buckets)
    ]
    return bars, round(most / period.step, 1)


def _activity(request: HttpRequest) -> dict[str, Any]:
    """Operations a minute over the period that was asked for."""
    key = request.GET.get("period", "hour")
    period = PERIODS.get(key) or PERIODS["hour"]
    now = int(time.time()) // 60
    since = now - now % period.step - (period.buckets - 1) * period.step
    found = activity.series(session.identity(request).namespace, since=since, step=period.step)
    bars, most = drawn(period, found, now)
    return {
        "bars": bars,
        "most": most,
        "operations": sum(bar.operations for bar in bars),
        "failures": sum(bar.failures for bar in bars),
        "period": period.title,
        "periods": [(one, other.title, other is period) for one, other in PERIODS.items()],
        "height": HEIGHT,
        "width": WIDTH,
    }


class Step(NamedTuple):
    """Something that a new server wants to have done, and where."""

    done: bool
    title: str
    text: str
    address: str


def first_steps(total: int, *, saved: bool) -> list[Step]:
    """What there is to do until the server is of use and its keys are safe; empty once all of it is done. There are
    `total` objects, and a backup or not."""
    config = conf.current()
    steps = [
        Step(
            conf.has_tls(config),
            gettext("Give the server a certificate"),
            gettext("Without one, only this machine reaches it: see [tls] in the settings."),
            reverse("ui:settings"),
        ),
        Step(
            config.tls.clients_ca_cert_file is not None or clients.any_authority(),
            gettext("Make an authority for clients"),
            gettext("It signs the certificates by which clients are known."),
            reverse("ui:authorities"),
        ),
        Step(
            handshakes.any_accepted("kmip"),
            gettext("Let a first client connect"),
            gettext("A few clicks to its files and settings, and the page shows when it has come."),
            reverse("ui:client_add"),
        ),
        Step(
            total > 0,
            gettext("Make a first key"),
            gettext("Here or by a client."),
            reverse("ui:create"),
        ),
        Step(
            saved,
            gettext("Make a backup"),
            gettext("manage.py backup FILE; and keep the root key, without which it is useless, somewhere else."),
            "",
        ),
    ]
    return [] if all(step.done for step in steps) else steps


def _age(seconds: int | None) -> str:
    """How long ago something was."""
    return "" if seconds is None else describe.duration(max(60, int(time.time()) - seconds) // 60 * 60)


def _server(total: int) -> dict[str, Any]:
    """How this server and those beside it are."""
    config, saved = conf.current(), milestones.when(milestones.BACKUP)
    return {
        "database": connection.vendor,
        "backup": _age(saved),
        "steps": first_steps(total, saved=saved is not None),
        "sealing": config.sealing.provider.rpartition(".")[2].removesuffix("_provider"),
        "nodes": nodes.states(),
        "handshakes": handshakes.records(REFUSED, refused=True),
        "waiting": clients.waiting_count(),
        "refusals": session.turned_away(REFUSED),
    }


def show(request: HttpRequest) -> HttpResponse:
    """The page, or its part about operations where the browser asks for that alone."""
    oversees = session.oversees(request)
    if request.headers.get("HX-Request"):
        if not oversees:
            raise PermissionDenied
        return site.page(request, "ui/_activity.html", _activity(request))
    counted = tally.kept.of(request)
    most = max(counted.states.values(), default=0)
    context: dict[str, Any] = {
        "title": gettext("Home"),
        "section": "home",
        "states": [
            (label(state), state.spelling, count, count * 240 // most, number * 30)
            for number, (state, count) in enumerate(counted.states.items())
        ],
        "states_height": 30 * len(counted.states) + 6,
        "kinds": [(label(kind), kind.spelling, count) for kind, count in counted.types.items()],
        "total": counted.total,
        "most_coming": tally.MOST,
        "coming": counted.coming,
        "last": session.latest(request, LAST),
        "votes": sum(one.open for one in approvals.shown(session.identity(request))),
        "oversees": oversees,
        "operates": session.operates(request),
    }
    if oversees:
        context |= _activity(request)
    if context["operates"]:
        context |= _server(counted.total)
    return site.page(request, "ui/home.html", context)


ROUTES: list[Route] = [("", show, "index"), ("home/", show, "home")]
