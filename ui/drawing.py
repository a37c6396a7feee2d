"""The drawings of an object's page: its life on a line of time, and what it is linked to as a tree.

Everything that is drawn stands beside it as a list, too: these are numbers for SVG, and the texts of both.
"""

import time
from typing import Final, NamedTuple

from django.http import HttpRequest
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from keystore import states, store
from keystore.states import Event
from keystore.store import Managed
from kmip.attributes import Attributes
from kmip.enums import LinkType, State
from kmip.tags import Tag
from ui import describe, session
from ui.objects import address_of, called
from ui.words import LINKS, label

# Life.


class Moment(NamedTuple):
    """One date of an object."""

    title: str
    seconds: int
    text: str
    coming: bool
    now: bool = False


_DATES: Final = (
    (Tag.ORIGINAL_CREATION_DATE, _("Made")),
    (Tag.INITIAL_DATE, _("Stored here")),
    (Tag.ACTIVATION_DATE, _("Activation")),
    (Tag.PROCESS_START_DATE, _("Processing starts")),
    (Tag.PROTECT_STOP_DATE, _("Protecting stops")),
    (Tag.DEACTIVATION_DATE, _("Deactivation")),
    (Tag.COMPROMISE_OCCURRENCE_DATE, _("Thought compromised since")),
    (Tag.COMPROMISE_DATE, _("Compromise reported")),
    (Tag.DESTROY_DATE, _("Destroyed")),
    (Tag.ARCHIVE_DATE, _("Archived")),
    (Tag.ROTATE_DATE, _("Rotated")),
)


def timeline(attributes: Attributes, now: int) -> list[Moment]:
    """The dates of an object in order, today among them."""
    found = []
    for tag, title in _DATES:
        seconds = attributes.first(tag)
        if seconds is not None:
            found.append(Moment(str(title), seconds, describe.moment(seconds), seconds > now))
    due = states.next_rotation(attributes) if attributes else None
    if due is not None:
        found.append(Moment(gettext("Due for rotation"), due, describe.moment(due), due > now))
    found.append(Moment(gettext("Now"), now, describe.moment(now), False, True))
    return sorted(found, key=lambda moment: (moment.seconds, moment.now))


#: Units of the drawing, from its first date to its last; and what follows the last one, so that its state is seen.
WIDTH: Final = 600
AFTER: Final = 40
#: Characters that a band has room for, a unit each.
LETTER: Final = 7.5
#: What moves an object at which of its dates, in the order in which it happens at one and the same time.
_MOVES: Final = (
    (Tag.ACTIVATION_DATE, Event.ACTIVATE),
    (Tag.DEACTIVATION_DATE, Event.DEACTIVATE),
    (Tag.COMPROMISE_DATE, Event.COMPROMISE),
    (Tag.DESTROY_DATE, Event.DESTROY),
)


class Band(NamedTuple):
    """A time in one state; its title is empty where there is no room for it."""

    state: State
    title: str
    text: str
    x: float
    width: float


class Life(NamedTuple):
    """States one after another, and where the dates are: `now` is one of them."""

    bands: list[Band]
    marks: list[tuple[Moment, float]]
    now: float
    width: int = WIDTH + AFTER


def life(attributes: Attributes, moments: list[Moment], now: int) -> Life:
    """An object's states from its first date to its last, as its dates move it (2.1, 4.57)."""
    begin, end = moments[0].seconds, moments[-1].seconds
    scale = WIDTH / max(1, end - begin)

    def at(seconds: int) -> float:
        return round((seconds - begin) * scale, 1)

    moves = [(seconds, event) for tag, event in _MOVES if (seconds := attributes.first(tag)) is not None]
    state, since, bands = State.PRE_ACTIVE, 0.0, []
    for seconds, event in sorted(moves, key=lambda move: move[0]):
        target = states.TRANSITIONS.get((state, event))
        if target is None:
            continue
        bands.append(_band(state, since, at(seconds)))
        state, since = target, at(seconds)
    bands.append(_band(state, since, WIDTH + AFTER))
    return Life([band for band in bands if band.width], [(one, at(one.seconds)) for one in moments], at(now))


def _band(state: State, begin: float, end: float) -> Band:
    title, width = label(state), round(end - begin, 1)
    return Band(state, title if len(title) * LETTER < width else "", title, begin, width)


# Links.

#: Height of an object in the tree, how far each step goes in, and how wide all of it is.
ROW: Final = 64
STEP: Final = 52
SPAN: Final = 420
#: Steps that are followed along one kind of link.
DEEP: Final = 5
#: Kinds of link that make chains: from a certificate to its issuer, and from an object to those before or after it.
_CHAINS: Final = frozenset({LinkType.CERTIFICATE_LINK, LinkType.REPLACED_OBJECT_LINK, LinkType.REPLACEMENT_OBJECT_LINK})


class Node(NamedTuple):
    """One object of the tree: how it is linked to the one that it hangs on, and where both stand."""

    relation: str
    uid: str
    name: str
    state: str
    address: str
    depth: int
    x: int
    y: int
    width: int
    line: str

    @property
    def shown(self) -> str:
        """As much of its name as there is room for."""
        room = int(self.width / 8)
        return self.name if len(self.name) <= room else f"{self.name[: room - 1]}…"


class _Link(NamedTuple):
    kind: LinkType
    uid: str
    next: "list[_Link]"


def links(request: HttpRequest, managed: Managed, attributes: Attributes) -> list[Node]:
    """The objects that an object is linked to, and along chains those behind them, with what the person may know."""
    top = [_Link(link.link_type, str(link.linked_object_identifier), []) for link in attributes.link]
    known, seen, edge = {managed.uid: managed}, {managed.uid}, top
    for _step in range(DEEP):
        known |= _fetched(request, [link.uid for link in edge if link.uid not in known])
        following: list[_Link] = []
        for link in edge:
            if link.kind not in _CHAINS or link.uid in seen or link.uid not in known:
                continue
            seen.add(link.uid)
            for one in known[link.uid].attributes.link:
                if one.link_type == link.kind and str(one.linked_object_identifier) not in seen:
                    link.next.append(_Link(link.kind, str(one.linked_object_identifier), []))
            following += link.next
        if not following:
            break
        edge = following
    nodes: list[Node] = []
    _place(top, known, nodes, 1, 0)
    return nodes


def _fetched(request: HttpRequest, uids: list[str]) -> dict[str, Managed]:
    if not uids:
        return {}
    namespace = session.identity(request).namespace
    keys = [store.key_of(namespace, uid) for uid in uids]
    found = store.fetch_all(session.visible(request).filter(uid__in=keys), int(time.time()))
    return {managed.uid: managed for managed in found}


def _place(level: list[_Link], known: dict[str, Managed], nodes: list[Node], depth: int, above: int) -> None:
    for link in level:
        managed, x, y = known.get(link.uid), 4 + STEP * depth, ROW * (len(nodes) + 1)
        nodes.append(
            Node(
                str(LINKS.get(link.kind, link.kind)),
                link.uid,
                called(managed) if managed is not None else link.uid,
                label(managed.state) if managed is not None else "",
                address_of(link.uid) if managed is not None else "",
                depth,
                x,
                y,
                SPAN - x - 4,
                f"M{x - STEP + 20} {above + 48}V{y + 28}H{x}",
            )
        )
        _place(link.next, known, nodes, depth + 1, y)
