"""What the templates need besides Django's own filters."""

from typing import Any

from django import forms, template
from django.forms import BoundField
from django.utils.safestring import SafeString

from ui import describe, objects

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
