"""What the templates need besides Django's own filters."""

from typing import Any

from django import forms, template
from django.forms import BoundField
from django.utils.safestring import SafeString, mark_safe
from markdown_it import MarkdownIt

from ui import describe, objects
from ui.words import label

register = template.Library()


@register.filter
def kind(field: BoundField) -> str:
    """How a field stands: a box to tick, a set of boxes, or a label above a control."""
    widget = field.field.widget
    if isinstance(widget, forms.CheckboxInput):
        return "check"
    return "set" if isinstance(widget, forms.CheckboxSelectMultiple | forms.RadioSelect) else "control"


@register.filter
def described(field: BoundField) -> SafeString:
    """The control, tied to its help and its error for those who hear the page."""
    notes = []
    if field.help_text:
        notes.append(f"{field.auto_id}_helptext")
    if field.errors:
        notes.append(f"{field.auto_id}_error")
    attributes: dict[str, Any] = {"aria-describedby": " ".join(notes)} if notes else {}
    if field.errors:
        attributes["aria-invalid"] = "true"
    return field.as_widget(attrs=attributes)


@register.filter
def is_list(value: Any) -> bool:
    """Whether a value is a structure's list of titles and values."""
    return isinstance(value, list)


#: Without HTML: what stands in a page is text.
_MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table")


@register.filter
def markdown(text: str) -> SafeString:
    """A page of Markdown, its headings two steps lower than it says."""
    tokens = _MARKDOWN.parse(text)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1:]) + 2)}"
    return mark_safe(_MARKDOWN.renderer.render(tokens, _MARKDOWN.options, {}))  # noqa: S308 - it escapes all text


@register.filter
def worded(value: Any) -> str:
    """A value of an enumeration in words."""
    return label(value)


@register.filter
def seconds(value: int) -> str:
    """A time in seconds since 1970."""
    return describe.moment(value)


@register.filter
def microseconds(value: int) -> str:
    """A time of the audit, to the second."""
    return describe.moment(value // 1_000_000)


@register.filter
def milliseconds(value: int) -> str:
    """A time of the record of handshakes, to the second."""
    return describe.moment(value // 1000)


@register.filter
def object_address(uid: str) -> str:
    """Where an object's page is."""
    return objects.address_of(uid)
