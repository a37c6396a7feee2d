"""Create, register, import: a form for each kind of object, and one that finds out what it is given."""

from functools import partial
from typing import Any

from django import forms
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from keystore.sealing import SealingError
from kmip.attributes import Attributes
from kmip.enums import CryptographicUsageMask, LinkType, NameType, ObjectType, Operation
from kmip.errors import KMIPError
from kmip.objects import FIELDS
from kmip.payloads import AddAttributeRequest, RegisterRequest
from kmip.structures import Link, Name
from ui import creation, held, session
from ui.detect import Found, PasswordNeeded, detect
from ui.objects import address_of
from ui.pages import Route
from ui.site import site
from ui.words import label

M = CryptographicUsageMask


def choose(request: HttpRequest) -> HttpResponse:
    """The kinds of object that can be brought in."""
    kinds = [(reverse("ui:new", args=[kind]), *texts) for kind, texts in creation.TITLES.items()]
    return site.page(
        request, "ui/create.html", {"title": gettext("Create or import"), "section": "create", "kinds": kinds}
    )


def new(request: HttpRequest, kind: str) -> HttpResponse:
    """A form for one kind of object."""
    form_class = creation.FORMS.get(kind)
    if form_class is None:
        raise Http404
    form = form_class(request.POST or None, request.FILES or None, initial=request.GET.dict())
    if request.method == "POST" and form.is_valid():
        payload, done = form.payload(), gettext("%(kind)s: stored.") % {"kind": creation.TITLES[kind][0]}
        answer = session.change(
            request, lambda: session.carry_out(request, form_class.operation, payload), done, form
        ).answer
        if answer is not None:
            uid = getattr(answer, "unique_identifier", None) or answer.private_key_unique_identifier
            # Parts of a split key are several: they head the list.
            return HttpResponseRedirect(address_of(uid) if isinstance(uid, str) else reverse("ui:objects"))
    context = {"title": creation.TITLES[kind][0], "note": creation.TITLES[kind][1], "section": "create", "form": form}
    return site.page(request, "ui/new.html", context)


class ImportForm(creation.ObjectForm):
    """Something that somebody has: pasted, or a file."""

    operation = Operation.REGISTER
    pasted = forms.CharField(
        label=_("Paste it"),
        required=False,
        strip=False,
        max_length=1_000_000,
        widget=forms.Textarea(attrs={"rows": 8, "spellcheck": "false", "autocomplete": "off"}),
        help_text=_("PEM, PKCS#8, JWK, hexadecimal or base64; several PEM blocks at once too."),
    )
    file = forms.FileField(label=_("Or choose a file"), required=False, max_length=500)
    password = forms.CharField(
        label=_("Password of the file"),
        required=False,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "off"}),
        help_text=_("For PKCS#12 and encrypted keys."),
    )
    held = forms.CharField(required=False, max_length=2_000_000, widget=forms.HiddenInput)
    first = ("pasted", "file", "password", "name", "held")
    field_order = ("pasted", "file", "password", "name", "groups", "description")

    def __init__(self, data: Any, files: Any, holder: str) -> None:
        super().__init__(data, files)
        self.holder = holder
        self.found: list[Found] = []
        self.again = ""

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        given = data["file"].read() if data.get("file") else data.get("pasted", "").encode()
        password = data.get("password", "")
        if not given.strip() and data.get("held"):
            given, password = self._held(data["held"])
        if not given.strip():
            self.add_error("pasted", gettext("Paste something or choose a file."))
            return data
        try:
            self.found = detect(given, password)
            self.again = held.hold(_packed(given, password), self.holder, "import")
        except PasswordNeeded:
            self.add_error("password", gettext("It is encrypted; this is not its password."))
        except (ValueError, TypeError, KMIPError):
            self.add_error("pasted", gettext("It looks like something known, but cannot be read."))
        return data

    def _held(self, text: str) -> tuple[bytes, str]:
        try:
            return _unpacked(held.held(text, self.holder, "import"))
        except (ValueError, SealingError):
            self.add_error("pasted", gettext("What was shown has been waiting too long; paste it again."))
            return b"", ""


def _packed(given: bytes, password: str) -> bytes:
    return len(given).to_bytes(4, "big") + given + password.encode()


def _unpacked(content: bytes) -> tuple[bytes, str]:
    end = 4 + int.from_bytes(content[:4], "big")
    return content[4:end], content[end:].decode()


#: The uses that keys which come without any are registered for.
USES: dict[ObjectType, int] = {
    ObjectType.SYMMETRIC_KEY: int(M.ENCRYPT | M.DECRYPT),
    ObjectType.PRIVATE_KEY: int(M.SIGN | M.DECRYPT),
    ObjectType.PUBLIC_KEY: int(M.VERIFY | M.ENCRYPT),
    ObjectType.CERTIFICATE: int(M.VERIFY),
}


def import_(request: HttpRequest) -> HttpResponse:
    """Show what was pasted or uploaded, then store it."""
    form = ImportForm(request.POST or None, request.FILES or None, request.user.get_username())
    context: dict[str, Any] = {"title": gettext("Import"), "section": "create", "form": form}
    if request.method == "POST" and form.is_valid():
        if "store" in request.POST:
            uids = _store(request, form)
            if uids:
                return HttpResponseRedirect(address_of(uids[0]) if len(uids) == 1 else reverse("ui:objects"))
        context["held"] = form.again
        context["found"] = [(label(one.object_type), one.wrapping, one.summary, one.name) for one in form.found]
    return site.page(request, "ui/import.html", context)


def _store(request: HttpRequest, form: ImportForm) -> list[str]:
    """Register what was found; a private key and the certificate beside it are linked."""
    uids: list[str] = []
    stored: list[tuple[Found, str]] = []
    for number, one in enumerate(form.found):
        attributes = form.common()
        name = form.cleaned_data["name"] or one.name
        if name:
            name = name if number == 0 else f"{name} ({label(one.object_type).lower()} {number + 1})"
            attributes.name = [Name(name_value=name, name_type=NameType.UNINTERPRETED_TEXT_STRING)]
        if one.object_type in USES:
            attributes.cryptographic_usage_mask = USES[one.object_type]
        payload = RegisterRequest(object_type=one.object_type, attributes=attributes)
        setattr(payload, FIELDS[one.object_type], one.value)
        try:
            answer = session.carry_out(request, Operation.REGISTER, payload)
        except KMIPError as exc:
            form.add_error(None, f"{label(one.object_type)}: {exc.message}")
            break
        uids.append(answer.unique_identifier)
        stored.append((one, answer.unique_identifier))
    _link(request, stored)
    if uids:
        messages.success(request, gettext("%(n)d stored.") % {"n": len(uids)})
    return [] if form.errors else uids


def _link(request: HttpRequest, stored: list[tuple[Found, str]]) -> None:
    """Link a private key to the first certificate, as they stand in a PKCS#12 file."""
    private = next((uid for one, uid in stored if one.object_type == ObjectType.PRIVATE_KEY), None)
    certificate = next((uid for one, uid in stored if one.object_type == ObjectType.CERTIFICATE), None)
    if private is None or certificate is None:
        return
    for uid, kind, target in (
        (private, LinkType.CERTIFICATE_LINK, certificate),
        (certificate, LinkType.PRIVATE_KEY_LINK, private),
    ):
        attributes = Attributes()
        attributes.link = [Link(link_type=kind, linked_object_identifier=target)]
        payload = AddAttributeRequest(unique_identifier=uid, new_attribute=attributes)
        session.change(request, partial(session.carry_out, request, Operation.ADD_ATTRIBUTE, payload))


ROUTES: list[Route] = [
    ("create/", choose, "create"),
    ("create/import/", import_, "import"),
    ("create/<slug:kind>/", new, "new"),
]
