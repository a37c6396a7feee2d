"""Forms that bring objects in: what is common to all of them, and one form for each kind of object."""

import base64
import binascii
import time
from datetime import datetime
from typing import Any

from django import forms
from django.utils.functional import lazystr
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from keystore import ca
from keystore.crypto.algorithms import ALGORITHMS, CURVES, Asymmetric, Mac, Symmetric
from kmip.attributes import Attributes, vendor_text
from kmip.enums import (
    AlternativeNameType,
    CertificateRequestType,
    CryptographicAlgorithm,
    CryptographicUsageMask,
    KeyFormatType,
    LinkType,
    NameType,
    ObjectType,
    Operation,
    RecommendedCurve,
    SecretDataType,
    SplitKeyMethod,
)
from kmip.objects import KeyBlock, KeyValue, OpaqueObject, SecretData
from kmip.payloads import (
    CertifyRequest,
    CreateKeyPairRequest,
    CreateRequest,
    CreateSplitKeyRequest,
    JoinSplitKeyRequest,
    RegisterRequest,
)
from kmip.schema import Struct
from kmip.structures import AlternativeName, CryptographicDomainParameters, Link, Name
from ui.detect import BYTES
from ui.words import TYPES, spaced

A, M = CryptographicAlgorithm, CryptographicUsageMask
DAY = 86_400
#: Uses that the forms offer; the others of the specification have no key that they fit.
USES = (
    M.ENCRYPT, M.DECRYPT, M.SIGN, M.VERIFY, M.MAC_GENERATE, M.MAC_VERIFY, M.WRAP_KEY, M.UNWRAP_KEY, M.DERIVE_KEY,
    M.KEY_AGREEMENT, M.CERTIFICATE_SIGN, M.CRL_SIGN, M.EXPORT, M.AUTHENTICATE,
)  # fmt: skip
USE_CHOICES = [(int(one), lazystr(spaced(one.spelling))) for one in USES]
#: Lengths offered where an algorithm takes a range of them.
COMMON = (40, 56, 64, 80, 112, 128, 160, 192, 224, 256, 384, 448, 512, 1024, 2048)


def _masks(*masks: CryptographicUsageMask) -> list[int]:
    return [int(mask) for mask in masks]


class Moment(forms.DateTimeField):
    """A date and time that the browser lets people pick; UTC."""

    def __init__(self, **options: Any) -> None:
        widget = forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M")
        super().__init__(required=False, widget=widget, **options)


class Uses(forms.TypedMultipleChoiceField):
    """Which uses a key is for."""

    def __init__(self, initial: list[int], **options: Any) -> None:
        super().__init__(
            choices=USE_CHOICES,
            coerce=int,
            initial=initial,
            required=False,
            widget=forms.CheckboxSelectMultiple,
            **options,
        )

    @staticmethod
    def mask(chosen: list[int]) -> int:
        """The mask of what was chosen."""
        return sum(chosen)


class ObjectForm(forms.Form):
    """What every new object may be told: how it is called and when it lives."""

    operation: Operation
    name = forms.CharField(label=_("Name"), required=False, max_length=200)
    groups = forms.CharField(
        label=_("Groups"), required=False, max_length=500, help_text=_("Several are separated by commas.")
    )
    description = forms.CharField(label=_("Description"), required=False, max_length=1000)
    active = forms.BooleanField(
        label=_("Active at once"),
        required=False,
        initial=True,
        help_text=_("Only an active object can protect something. Otherwise it stays pre-active."),
    )
    activation = Moment(label=_("Activate on"), help_text=_("Instead of at once; UTC."))
    deactivation = Moment(label=_("Deactivate on"), help_text=_("From then on it protects nothing new; UTC."))
    sensitive = forms.BooleanField(
        label=_("Sensitive"), required=False, help_text=_("It leaves the server only wrapped by another key.")
    )
    extractable = forms.BooleanField(
        label=_("Extractable"), required=False, initial=True, help_text=_("Without this it never leaves the server.")
    )

    #: The fields that most people need; the others stand under "More".
    first = ("name",)

    def main(self) -> list[Any]:
        """The fields to show at once."""
        return [self[name] for name in self.first]

    def more(self) -> list[Any]:
        """The fields that have sensible values already."""
        return [self[name] for name in self.fields if name not in self.first]

    def more_has_errors(self) -> bool:
        """Whether a field under "More" needs attention."""
        return any(name not in self.first for name in self.errors)

    def common(self) -> Attributes:
        """The attributes that the form asks for."""
        data = self.cleaned_data
        attributes = Attributes()
        if data.get("name"):
            attributes.name = [Name(name_value=data["name"], name_type=NameType.UNINTERPRETED_TEXT_STRING)]
        attributes.object_group = [one.strip() for one in data.get("groups", "").split(",") if one.strip()]
        attributes.description = data.get("description") or None
        attributes.activation_date = _seconds(data.get("activation")) or (
            int(time.time()) if data.get("active") else None
        )
        attributes.deactivation_date = _seconds(data.get("deactivation"))
        if data.get("sensitive"):
            attributes.sensitive = True
        if not data.get("extractable"):
            attributes.extractable = False
        return attributes

    def payload(self) -> Struct:
        """The request payload."""
        raise NotImplementedError


def _seconds(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp())


def _lengths(row: Symmetric | Mac) -> list[int]:
    bits = row.bits
    if isinstance(bits, tuple):
        return list(bits)
    return [one for one in COMMON if one in bits]


def _symmetric_choices() -> list[tuple[str, list[tuple[str, str]]]]:
    """Algorithm and length in one list, the legacy ones last."""
    groups: dict[bool, list[tuple[str, list[tuple[str, str]]]]] = {False: [], True: []}
    for algorithm, row in ALGORITHMS.items():
        if isinstance(row, Symmetric | Mac):
            lengths = [(f"{algorithm.name}:{bits}", f"{algorithm} {bits}") for bits in _lengths(row)]
            groups[row.legacy].append((str(algorithm), lengths))
    return groups[False] + groups[True]


class SymmetricForm(ObjectForm):
    """A symmetric key, made by the server."""

    operation = Operation.CREATE
    algorithm = forms.ChoiceField(label=_("Algorithm and length"), choices=_symmetric_choices, initial="AES:256")
    uses = Uses(_masks(M.ENCRYPT, M.DECRYPT), label=_("Uses"))
    rotate = forms.IntegerField(
        label=_("Rotate every (days)"), required=False, min_value=1, max_value=36_500,
        help_text=_("The server replaces the key by itself.")
    )  # fmt: skip
    first = ("name", "algorithm", "uses")
    field_order = ("name", "algorithm", "uses", "groups", "description")

    def payload(self) -> Struct:
        algorithm, _, bits = self.cleaned_data["algorithm"].partition(":")
        attributes = self.common()
        attributes.cryptographic_algorithm = A[algorithm]
        attributes.cryptographic_length = int(bits)
        attributes.cryptographic_usage_mask = Uses.mask(self.cleaned_data["uses"])
        if self.cleaned_data["rotate"]:
            attributes.rotate_interval = self.cleaned_data["rotate"] * DAY
            attributes.rotate_automatic = True
        return CreateRequest(object_type=ObjectType.SYMMETRIC_KEY, attributes=attributes)


def _pair_choices() -> list[tuple[str, list[tuple[str, str]]]]:
    groups = []
    for algorithm, row in ALGORITHMS.items():
        if not isinstance(row, Asymmetric) or row.generate is None:
            continue
        if row.curves:
            kinds = [(f"{algorithm.name}:{curve.name}", f"{algorithm} {curve}") for curve in row.curves if curve.known
                     and not (curve in CURVES and CURVES[curve].legacy)]  # fmt: skip
        elif isinstance(row.bits, range):
            kinds = [(f"{algorithm.name}:{bits}", f"{algorithm} {bits}") for bits in (2048, 3072, 4096, 8192)]
        elif isinstance(row.bits, tuple):
            kinds = [(f"{algorithm.name}:{bits}", f"{algorithm} {bits}") for bits in row.bits]
        else:
            kinds = []
        kinds = kinds or [(f"{algorithm.name}:", str(algorithm))]
        groups.append((algorithm.name.replace("_", "-"), kinds))
    return groups


class KeyPairForm(ObjectForm):
    """A private and a public key, made by the server."""

    operation = Operation.CREATE_KEY_PAIR
    name = forms.CharField(
        label=_("Name"), required=False, max_length=190, help_text=_("The public key gets the same name with “.pub”.")
    )
    algorithm = forms.ChoiceField(label=_("Algorithm"), choices=_pair_choices, initial="RSA:3072")
    private_uses = Uses(_masks(M.SIGN), label=_("Uses of the private key"))
    public_uses = Uses(_masks(M.VERIFY), label=_("Uses of the public key"))
    first = ("name", "algorithm", "private_uses", "public_uses")
    field_order = ("name", "algorithm", "private_uses", "public_uses", "groups", "description")

    def payload(self) -> Struct:
        common = self.common()
        common.name = []
        sensitive, extractable = common.sensitive, common.extractable
        common.sensitive = common.extractable = None
        _set_algorithm(common, self.cleaned_data["algorithm"])
        private, public = Attributes(), Attributes()
        name = self.cleaned_data["name"]
        if name:
            private.name = [Name(name_value=name, name_type=NameType.UNINTERPRETED_TEXT_STRING)]
            public.name = [Name(name_value=f"{name}.pub", name_type=NameType.UNINTERPRETED_TEXT_STRING)]
        # The public key may leave the server in any case.
        private.sensitive, private.extractable = sensitive, extractable
        private.cryptographic_usage_mask = Uses.mask(self.cleaned_data["private_uses"])
        public.cryptographic_usage_mask = Uses.mask(self.cleaned_data["public_uses"])
        return CreateKeyPairRequest(
            common_attributes=common, private_key_attributes=private, public_key_attributes=public
        )


def _set_algorithm(attributes: Attributes, chosen: str) -> None:
    """The algorithm with its length or curve, as the list of pairs has them."""
    algorithm, _, kind = chosen.partition(":")
    attributes.cryptographic_algorithm = A[algorithm] if algorithm in A.__members__ else _named(algorithm)
    if kind.isdecimal():
        attributes.cryptographic_length = int(kind)
    elif kind:
        attributes.cryptographic_domain_parameters = CryptographicDomainParameters(
            recommended_curve=RecommendedCurve[kind]
        )


def _named(name: str) -> CryptographicAlgorithm:
    """An algorithm of the table that the specification does not list."""
    return next(algorithm for algorithm in ALGORITHMS if algorithm.name == name)


class SecretForm(ObjectForm):
    """A password or a seed that somebody already has."""

    operation = Operation.REGISTER
    kind = forms.TypedChoiceField(
        label=_("Kind"),
        choices=[(int(SecretDataType.PASSWORD), _("Password")), (int(SecretDataType.SEED), _("Seed"))],
        coerce=lambda value: SecretDataType(int(value)),
    )
    secret = forms.CharField(
        label=_("Secret"),
        strip=False,
        max_length=65_536,
        widget=forms.PasswordInput(attrs={"autocomplete": "off"}),
    )
    spelling = forms.ChoiceField(
        label=_("Given as"),
        choices=[("text", _("Text")), ("hex", _("Hexadecimal")), ("base64", _("Base64"))],
    )
    first = ("name", "kind", "secret", "spelling")
    field_order = ("name", "kind", "secret", "spelling", "groups", "description")

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if "secret" in data and "spelling" in data:
            try:
                data["material"] = from_text(data["secret"], data["spelling"])
            except ValueError:
                self.add_error("secret", gettext("This is not %(spelling)s.") % {"spelling": data["spelling"]})
        return data

    def payload(self) -> Struct:
        attributes = self.common()
        value = KeyValue(key_material=self.cleaned_data["material"])
        secret = SecretData(
            secret_data_type=self.cleaned_data["kind"],
            key_block=KeyBlock(key_format_type=KeyFormatType.RAW, key_value=value),
        )
        return RegisterRequest(object_type=ObjectType.SECRET_DATA, attributes=attributes, secret_data=secret)


class OpaqueForm(ObjectForm):
    """Bytes that the server knows nothing of."""

    operation = Operation.REGISTER
    file = forms.FileField(label=_("File"), required=False, max_length=500)
    text = forms.CharField(
        label=_("Or text"), required=False, strip=False, max_length=1_000_000, widget=forms.Textarea(attrs={"rows": 6})
    )
    first = ("name", "file", "text")
    field_order = ("name", "file", "text", "groups", "description")

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        data["material"] = data["file"].read() if data.get("file") else data.get("text", "").encode()
        if not data["material"]:
            self.add_error("file", gettext("Choose a file or write something."))
        return data

    def payload(self) -> Struct:
        attributes = self.common()
        value = OpaqueObject(
            opaque_data_type=BYTES,
            opaque_data_value=self.cleaned_data["material"],
        )
        return RegisterRequest(object_type=ObjectType.OPAQUE_OBJECT, attributes=attributes, opaque_object=value)


def _profiles() -> list[tuple[str, Any]]:
    return [("", _("as the request and the key say")), *((name, name) for name in sorted(ca.profiles()))]


class CertificateForm(ObjectForm):
    """A certificate, signed by an authority here or by its own key: for a request, or with a new key pair."""

    operation = Operation.CERTIFY
    active = activation = deactivation = sensitive = extractable = None
    csr = forms.CharField(
        label=_("Certificate request"),
        required=False,
        max_length=65_536,
        widget=forms.Textarea(attrs={"rows": 6, "spellcheck": "false", "class": "code"}),
        help_text=_("PKCS#10 in PEM. Empty: the server makes a key pair, too."),
    )
    subject = forms.CharField(
        label=_("Subject"),
        required=False,
        max_length=500,
        help_text=_("A common name, or all of it as CN=…,O=…. Empty: the request's."),
    )
    issuer = forms.CharField(
        label=_("Issuer"),
        required=False,
        max_length=64,
        help_text=_("Identifier of the certificate of a CA here. Empty: signed by its own key."),
    )
    profile = forms.ChoiceField(label=_("Profile"), required=False, choices=_profiles)
    algorithm = forms.ChoiceField(label=_("Algorithm of a new key"), choices=_pair_choices, initial="EC:P_256")
    dns = forms.CharField(
        label=_("DNS names"), required=False, max_length=2000, help_text=_("Several are separated by commas.")
    )
    days = forms.IntegerField(label=_("Days of validity"), required=False, min_value=1, max_value=36_500)
    first = ("name", "csr", "subject", "issuer", "profile")
    field_order = ("name", "csr", "subject", "issuer", "profile", "algorithm", "dns", "days", "groups", "description")

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if not data.get("csr", "").strip() and not data.get("subject", "").strip():
            self.add_error("subject", gettext("Without a request, the certificate needs a subject."))
        return data

    def payload(self) -> Struct:
        data = self.cleaned_data
        attributes = self.common()
        attributes.extractable = None  # Nothing was asked about it.
        subject = data["subject"].strip()
        if "=" in subject:
            attributes.update(vendor_text("certificate-subject", subject))
        elif subject:
            attributes.certificate_subject_cn = [subject]
        if data["issuer"]:
            link = Link(link_type=LinkType.CERTIFICATE_LINK, linked_object_identifier=data["issuer"])
            attributes.link = [link]
        if data["profile"]:
            attributes.update(vendor_text("certificate-profile", data["profile"]))
        if data["days"]:
            attributes.update(vendor_text("requested_validity_days", str(data["days"])))
        attributes.alternative_name = [
            AlternativeName(alternative_name_value=one.strip(), alternative_name_type=AlternativeNameType.DNS_NAME)
            for one in data["dns"].split(",")
            if one.strip()
        ]
        if data["csr"].strip():
            return CertifyRequest(
                certificate_request_type=CertificateRequestType.PEM,
                certificate_request_value=data["csr"].encode(),
                attributes=attributes,
            )
        _set_algorithm(attributes, data["algorithm"])
        return CertifyRequest(attributes=attributes)


#: Ways to split, the most usual one first.
METHODS = (
    (SplitKeyMethod.POLYNOMIAL_SHARING_GF_2_8, _("Shamir's, over GF(2⁸)")),
    (SplitKeyMethod.POLYNOMIAL_SHARING_GF_2_16, _("Shamir's, over GF(2¹⁶)")),
    (SplitKeyMethod.POLYNOMIAL_SHARING_PRIME_FIELD, _("Shamir's, over a prime field")),
    (SplitKeyMethod.XOR, _("XOR: all parts are needed")),
)


class SplitForm(ObjectForm):
    """A key in parts: a new one, or one that exists."""

    operation = Operation.CREATE_SPLIT_KEY
    name = None
    uid = forms.CharField(
        label=_("Key to split"), required=False, max_length=64, help_text=_("Its identifier. Empty: a new AES key.")
    )
    parts = forms.IntegerField(label=_("Parts"), min_value=2, max_value=255, initial=3)
    threshold = forms.IntegerField(label=_("Parts needed to join them"), min_value=2, max_value=255, initial=2)
    method = forms.TypedChoiceField(
        label=_("Method"),
        choices=[(int(method), text) for method, text in METHODS],
        coerce=lambda value: SplitKeyMethod(int(value)),
    )
    first = ("uid", "parts", "threshold")
    field_order = ("uid", "parts", "threshold", "method", "groups", "description")

    def payload(self) -> Struct:
        data, attributes = self.cleaned_data, self.common()
        if not data["uid"]:
            attributes.cryptographic_algorithm, attributes.cryptographic_length = A.AES, 256
            attributes.cryptographic_usage_mask = int(M.ENCRYPT | M.DECRYPT)
        return CreateSplitKeyRequest(
            object_type=ObjectType.SPLIT_KEY,
            unique_identifier=data["uid"] or None,
            split_key_parts=data["parts"],
            split_key_threshold=data["threshold"],
            split_key_method=data["method"],
            attributes=attributes,
        )


class JoinForm(ObjectForm):
    """An object made of the parts of a split one."""

    operation = Operation.JOIN_SPLIT_KEY
    kind = forms.TypedChoiceField(
        label=_("What was split"),
        choices=[
            (int(one), TYPES[one]) for one in (ObjectType.SYMMETRIC_KEY, ObjectType.PRIVATE_KEY, ObjectType.SECRET_DATA)
        ],
        coerce=lambda value: ObjectType(int(value)),
    )
    parts = forms.CharField(
        label=_("Parts"),
        max_length=20_000,
        widget=forms.Textarea(attrs={"rows": 5, "spellcheck": "false", "class": "code"}),
        help_text=_("Their identifiers, one a line."),
    )
    first = ("name", "kind", "parts")
    field_order = ("name", "kind", "parts", "groups", "description")

    def payload(self) -> Struct:
        data = self.cleaned_data
        secret = data["kind"] == ObjectType.SECRET_DATA
        return JoinSplitKeyRequest(
            object_type=data["kind"],
            unique_identifier=data["parts"].split(),
            secret_data_type=SecretDataType.SEED if secret else None,
            attributes=self.common(),
        )


FORMS: dict[str, type[ObjectForm]] = {
    "symmetric-key": SymmetricForm,
    "key-pair": KeyPairForm,
    "secret": SecretForm,
    "opaque": OpaqueForm,
    "certificate": CertificateForm,
    "split-key": SplitForm,
    "joined": JoinForm,
}
TITLES = {
    "symmetric-key": (_("Symmetric key"), _("The server makes it: for encryption, MACs, wrapping.")),
    "key-pair": (_("Key pair"), _("The server makes it: RSA, elliptic curves, post-quantum.")),
    "secret": (_("Secret"), _("A password or a seed that you have.")),
    "opaque": (_("Opaque object"), _("A file that the server keeps without knowing what it is.")),
    "certificate": (_("Certificate"), _("Signed here: for a request, or with a new key; a CA, too.")),
    "split-key": (_("Split key"), _("A key in parts, of which some have to come together.")),
    "joined": (_("Joined key"), _("Made of the parts of a split key.")),
}


def from_text(text: str, spelling: str) -> bytes:
    """The bytes of a text in a spelling; raises `ValueError`."""
    if spelling == "hex":
        return bytes.fromhex("".join(text.split()).removeprefix("0x"))
    if spelling == "base64":
        joined = "".join(text.split()).replace("-", "+").replace("_", "/")
        try:
            return base64.b64decode(joined + "=" * (-len(joined) % 4), validate=True)
        except binascii.Error as exc:
            raise ValueError(str(exc)) from exc
    return text.encode()
