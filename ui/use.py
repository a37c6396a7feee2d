"""Forms that use keys: encrypt, decrypt, sign, verify, MAC, hash, wrap, derive, random. Each makes one payload."""

import base64
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from django import forms
from django.http import HttpRequest
from django.utils.functional import Promise
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from keystore import uses
from keystore.call import HANDLERS
from keystore.crypto.algorithms import HASHES, MODES
from keystore.store import Managed
from kmip.attributes import Attributes
from kmip.enums import (
    BlockCipherMode,
    CryptographicAlgorithm,
    CryptographicUsageMask,
    DerivationMethod,
    DigitalSignatureAlgorithm,
    EncodingOption,
    HashingAlgorithm,
    NameType,
    ObjectType,
    Operation,
    PaddingMethod,
    ValidityIndicator,
    WrappingMethod,
)
from kmip.errors import KMIPError
from kmip.objects import FIELDS
from kmip.payloads import (
    DecryptRequest,
    DeriveKeyRequest,
    EncryptRequest,
    GetRequest,
    HashRequest,
    MACRequest,
    MACVerifyRequest,
    RNGRetrieveRequest,
    SignatureVerifyRequest,
    SignRequest,
)
from kmip.schema import Struct
from kmip.structures import (
    CryptographicParameters,
    DerivationParameters,
    EncryptionKeyInformation,
    KeyWrappingSpecification,
    Name,
)
from ui import session
from ui.creation import from_text
from ui.lifecycle import Plan

SPELLINGS = [("text", _("Text")), ("hex", _("Hexadecimal")), ("base64", _("Base64"))]
#: What the key's own parameters, or the server's default for it, decide.
AS_THE_KEY = ("", _("as the key says"))
SIGNATURES = (
    "SHA256_WITH_RSA_ENCRYPTION", "SHA384_WITH_RSA_ENCRYPTION", "SHA512_WITH_RSA_ENCRYPTION", "RSASSA_PSS",
    "ECDSA_WITH_SHA256", "ECDSA_WITH_SHA384", "ECDSA_WITH_SHA512",
)  # fmt: skip
#: Bytes of one answer of the random number generator that people ask for here.
MOST_RANDOM = 65_536


class Part(NamedTuple):
    """One value of an answer."""

    title: str
    data: bytes

    @property
    def address(self) -> str:
        """The value as a link to a file, made of nothing but itself."""
        return f"data:application/octet-stream;base64,{base64.b64encode(self.data).decode()}"


def _choices(members: Any) -> list[tuple[str, Any]]:
    return [AS_THE_KEY, *((str(int(one)), str(one)) for one in members)]


def _picked(kind: Any) -> Callable[[str], Any]:
    return lambda value: kind(int(value))


class Pick(forms.TypedChoiceField):
    """A value of an enumeration, or what the key says."""

    def __init__(self, kind: Any, members: Any, **options: Any) -> None:
        super().__init__(
            choices=_choices(members), coerce=_picked(kind), empty_value=None, required=False, **options
        )  # fmt: skip


class Bytes(forms.CharField):
    """Bytes as hexadecimal."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("required", False)
        super().__init__(max_length=200_000, help_text=_("Hexadecimal"), **options)

    def to_python(self, value: Any) -> Any:
        text = super().to_python(value)
        if not text:
            return None
        try:
            return from_text(text, "hex")
        except ValueError:
            raise forms.ValidationError(gettext("This is not hexadecimal.")) from None


class UseForm(forms.Form):
    """What every use has: a payload and the parts of the answer to show."""

    #: What is shown at once; the rest stands under "Parameters".
    first: tuple[str, ...] = ()

    def main(self) -> list[Any]:
        """The fields to show at once."""
        return [self[name] for name in self.fields if name in self.first]

    def more(self) -> list[Any]:
        """The parameters."""
        return [self[name] for name in self.fields if name not in self.first]

    def more_has_errors(self) -> bool:
        """Whether a parameter needs attention."""
        return any(name not in self.first for name in self.errors)

    def payload(self) -> Struct:
        """The request payload."""
        raise NotImplementedError

    def parts(self, answer: Any) -> list[Part]:
        """The values of the answer."""
        raise NotImplementedError

    def verdict(self, answer: Any) -> bool | None:
        """Whether a signature or a code was right; None for what checks nothing."""
        return None

    def made(self, answer: Any) -> str | None:
        """The identifier of an object that was made."""
        return None


class KeyForm(UseForm):
    """A use of a key."""

    uid = forms.CharField(label=_("Key"), max_length=64, help_text=_("Its identifier"))


class DataForm(UseForm):
    """A use of data: typed in some spelling, or a file."""

    data = forms.CharField(
        label=_("Data"), required=False, strip=False, max_length=1_000_000, widget=forms.Textarea(attrs={"rows": 5})
    )
    spelling = forms.ChoiceField(label=_("Given as"), choices=SPELLINGS)
    file = forms.FileField(label=_("Or a file"), required=False, max_length=500)

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if data.get("file"):
            data["bytes"] = data["file"].read()
            return data
        try:
            data["bytes"] = from_text(data.get("data", ""), data.get("spelling", "text"))
        except ValueError:
            self.add_error("data", gettext("This is not %(spelling)s.") % {"spelling": data.get("spelling")})
        return data


class ModeMixin(forms.Form):
    """How a cipher is used."""

    mode = Pick(BlockCipherMode, sorted(MODES, key=str), label=_("Mode"))
    padding = Pick(
        PaddingMethod,
        (PaddingMethod.NONE, PaddingMethod.PKCS5, PaddingMethod.OAEP, PaddingMethod.PKCS1_V1_5),
        label=_("Padding"),
    )
    hashing = Pick(HashingAlgorithm, HASHES, label=_("Hash"))
    nonce = Bytes(label=_("IV, counter or nonce"))
    aad = Bytes(label=_("Additional authenticated data"))

    def parameters(self) -> CryptographicParameters | None:
        """The Cryptographic Parameters, if any are chosen."""
        data = self.cleaned_data
        given = {
            "block_cipher_mode": data["mode"],
            "padding_method": data["padding"],
            "hashing_algorithm": data["hashing"],
        }
        given = {name: value for name, value in given.items() if value is not None}
        return CryptographicParameters(**given) if given else None


class EncryptForm(ModeMixin, KeyForm, DataForm):
    """Encrypt."""

    first = ("uid", "data", "spelling", "file")
    field_order = ("uid", "data", "spelling", "file")

    def payload(self) -> Struct:
        data = self.cleaned_data
        return EncryptRequest(
            unique_identifier=data["uid"],
            cryptographic_parameters=self.parameters(),
            data=data["bytes"],
            iv_counter_nonce=data["nonce"],
            authenticated_encryption_additional_data=data["aad"],
        )

    def parts(self, answer: Any) -> list[Part]:
        return _parts(
            (gettext("Ciphertext"), answer.data),
            (gettext("IV, counter or nonce"), answer.iv_counter_nonce),
            (gettext("Tag"), answer.authenticated_encryption_tag),
        )


class DecryptForm(ModeMixin, KeyForm, DataForm):
    """Decrypt."""

    tag = Bytes(label=_("Tag"))
    first = ("uid", "data", "spelling", "file", "nonce", "tag")
    field_order = ("uid", "data", "spelling", "file", "nonce", "tag")

    def payload(self) -> Struct:
        data = self.cleaned_data
        return DecryptRequest(
            unique_identifier=data["uid"],
            cryptographic_parameters=self.parameters(),
            data=data["bytes"],
            iv_counter_nonce=data["nonce"],
            authenticated_encryption_additional_data=data["aad"],
            authenticated_encryption_tag=data["tag"],
        )

    def parts(self, answer: Any) -> list[Part]:
        return _parts((gettext("Plaintext"), answer.data))


class SignatureMixin(forms.Form):
    """How a signature is made."""

    scheme = Pick(
        DigitalSignatureAlgorithm,
        [DigitalSignatureAlgorithm[name] for name in SIGNATURES if name in DigitalSignatureAlgorithm.__members__],
        label=_("Signature algorithm"),
    )
    hashing = Pick(HashingAlgorithm, HASHES, label=_("Hash"))

    def parameters(self) -> CryptographicParameters | None:
        """The Cryptographic Parameters, if any are chosen."""
        data = self.cleaned_data
        given = {"digital_signature_algorithm": data["scheme"], "hashing_algorithm": data["hashing"]}
        given = {name: value for name, value in given.items() if value is not None}
        return CryptographicParameters(**given) if given else None


class SignForm(SignatureMixin, KeyForm, DataForm):
    """Sign."""

    first = ("uid", "data", "spelling", "file")
    field_order = first

    def payload(self) -> Struct:
        data = self.cleaned_data
        return SignRequest(
            unique_identifier=data["uid"], cryptographic_parameters=self.parameters(), data=data["bytes"]
        )

    def parts(self, answer: Any) -> list[Part]:
        return _parts((gettext("Signature"), answer.signature_data))


class VerifyForm(SignatureMixin, KeyForm, DataForm):
    """Verify a signature."""

    signature = Bytes(label=_("Signature"), required=True)
    first = ("uid", "data", "spelling", "file", "signature")
    field_order = first

    def payload(self) -> Struct:
        data = self.cleaned_data
        return SignatureVerifyRequest(
            unique_identifier=data["uid"],
            cryptographic_parameters=self.parameters(),
            data=data["bytes"],
            signature_data=data["signature"],
        )

    def parts(self, answer: Any) -> list[Part]:
        return []

    def verdict(self, answer: Any) -> bool | None:
        return bool(answer.validity_indicator == ValidityIndicator.VALID)


class MACForm(KeyForm, DataForm):
    """Make a message authentication code."""

    algorithm = Pick(
        CryptographicAlgorithm,
        [one for one in CryptographicAlgorithm if one.name.startswith("HMAC_")],
        label=_("Algorithm"),
    )
    first = ("uid", "data", "spelling", "file")
    field_order = first

    def parameters(self) -> CryptographicParameters | None:
        """The Cryptographic Parameters, if an algorithm is chosen."""
        algorithm = self.cleaned_data["algorithm"]
        return None if algorithm is None else CryptographicParameters(cryptographic_algorithm=algorithm)

    def payload(self) -> Struct:
        data = self.cleaned_data
        return MACRequest(unique_identifier=data["uid"], cryptographic_parameters=self.parameters(), data=data["bytes"])

    def parts(self, answer: Any) -> list[Part]:
        return _parts((gettext("Code"), answer.mac_data))


class MACVerifyForm(MACForm):
    """Verify a message authentication code."""

    code = Bytes(label=_("Code"), required=True)
    first = ("uid", "data", "spelling", "file", "code")
    field_order = first

    def payload(self) -> Struct:
        data = self.cleaned_data
        return MACVerifyRequest(
            unique_identifier=data["uid"],
            cryptographic_parameters=self.parameters(),
            data=data["bytes"],
            mac_data=data["code"],
        )

    def parts(self, answer: Any) -> list[Part]:
        return []

    def verdict(self, answer: Any) -> bool | None:
        return bool(answer.validity_indicator == ValidityIndicator.VALID)


class HashForm(DataForm):
    """Hash; it takes no key."""

    hashing = forms.TypedChoiceField(
        label=_("Hash"),
        choices=[(str(int(one)), str(one)) for one in HASHES],
        coerce=_picked(HashingAlgorithm),
        initial=str(int(HashingAlgorithm.SHA_256)),
    )
    first = ("hashing", "data", "spelling", "file")
    field_order = first

    def payload(self) -> Struct:
        data = self.cleaned_data
        return HashRequest(
            cryptographic_parameters=CryptographicParameters(hashing_algorithm=data["hashing"]), data=data["bytes"]
        )

    def parts(self, answer: Any) -> list[Part]:
        return _parts((gettext("Hash"), answer.data))


class WrapForm(KeyForm):
    """Get an object wrapped by another key: the only way for a sensitive one to leave."""

    wrapping = forms.CharField(label=_("Wrapping key"), max_length=64, help_text=_("Its identifier"))
    mode = Pick(
        BlockCipherMode,
        (BlockCipherMode.NISTKEYWRAP, BlockCipherMode.AESKEYWRAPPADDING, BlockCipherMode.GCM, BlockCipherMode.CBC),
        label=_("Mode"),
    )
    encoding = forms.TypedChoiceField(
        label=_("Wrapped is"),
        choices=[
            (str(int(EncodingOption.NO_ENCODING)), _("the key alone")),
            (str(int(EncodingOption.TTLV_ENCODING)), _("the key with its encoding")),
        ],
        coerce=_picked(EncodingOption),
    )
    first = ("uid", "wrapping", "encoding")

    def payload(self) -> Struct:
        data = self.cleaned_data
        parameters = None if data["mode"] is None else CryptographicParameters(block_cipher_mode=data["mode"])
        return GetRequest(
            unique_identifier=data["uid"],
            key_wrapping_specification=KeyWrappingSpecification(
                wrapping_method=WrappingMethod.ENCRYPT,
                encryption_key_information=EncryptionKeyInformation(
                    unique_identifier=data["wrapping"], cryptographic_parameters=parameters
                ),
                encoding_option=data["encoding"],
            ),
        )

    def parts(self, answer: Any) -> list[Part]:
        block = getattr(getattr(answer, FIELDS[answer.object_type]), "key_block", None)
        value = block.key_value if block is not None else None
        # Without encoding the wrapped bytes stand in the Key Material.
        return _parts((gettext("Wrapped key"), getattr(value, "key_material", value)))


class DeriveForm(KeyForm):
    """Derive a new key from another."""

    name = forms.CharField(label=_("Name of the new key"), required=False, max_length=200)
    method = forms.TypedChoiceField(
        label=_("Method"),
        choices=[
            (str(int(one)), str(one))
            for one in (
                DerivationMethod.HKDF,
                DerivationMethod.PBKDF2,
                DerivationMethod.HMAC,
                DerivationMethod.HASH,
                DerivationMethod.NIST800_108_C,
                DerivationMethod.NIST800_108_F,
                DerivationMethod.NIST800_108_DPI,
            )
        ],
        coerce=_picked(DerivationMethod),
    )
    length = forms.IntegerField(label=_("Length in bits"), min_value=8, max_value=65_536, initial=256)
    hashing = Pick(HashingAlgorithm, HASHES, label=_("Hash"))
    information = Bytes(label=_("Derivation data"))
    salt = Bytes(label=_("Salt"))
    iterations = forms.IntegerField(
        label=_("Iterations"), required=False, min_value=1, max_value=10_000_000, help_text=_("Only for PBKDF2")
    )
    first = ("uid", "name", "method", "length")

    def payload(self) -> Struct:
        data = self.cleaned_data
        attributes = Attributes()
        attributes.cryptographic_algorithm = CryptographicAlgorithm.AES
        attributes.cryptographic_length = data["length"]
        attributes.cryptographic_usage_mask = int(CryptographicUsageMask.ENCRYPT | CryptographicUsageMask.DECRYPT)
        if data["name"]:
            attributes.name = [Name(name_value=data["name"], name_type=NameType.UNINTERPRETED_TEXT_STRING)]
        hashing = data["hashing"] or HashingAlgorithm.SHA_256
        return DeriveKeyRequest(
            object_type=ObjectType.SYMMETRIC_KEY,
            unique_identifier=[data["uid"]],
            derivation_method=data["method"],
            derivation_parameters=DerivationParameters(
                cryptographic_parameters=CryptographicParameters(hashing_algorithm=hashing),
                derivation_data=[data["information"]] if data["information"] else [],
                salt=data["salt"],
                iteration_count=data["iterations"],
            ),
            attributes=attributes,
        )

    def parts(self, answer: Any) -> list[Part]:
        return []

    def made(self, answer: Any) -> str | None:
        return str(answer.unique_identifier)


class RandomForm(UseForm):
    """Random bytes; they come from no key."""

    length = forms.IntegerField(label=_("Bytes"), min_value=1, max_value=MOST_RANDOM, initial=32)
    first = ("length",)

    def payload(self) -> Struct:
        return RNGRetrieveRequest(data_length=self.cleaned_data["length"])

    def parts(self, answer: Any) -> list[Part]:
        return _parts((gettext("Random bytes"), answer.data))


class Use(NamedTuple):
    """One use: its operation, its title, its form, and the usage a key needs for it."""

    operation: Operation
    title: Promise
    form: type[UseForm]
    mask: CryptographicUsageMask | None = None


M = CryptographicUsageMask
USES: dict[str, Use] = {
    "encrypt": Use(Operation.ENCRYPT, _("Encrypt"), EncryptForm, M.ENCRYPT),
    "decrypt": Use(Operation.DECRYPT, _("Decrypt"), DecryptForm, M.DECRYPT),
    "sign": Use(Operation.SIGN, _("Sign"), SignForm, M.SIGN),
    "verify": Use(Operation.SIGNATURE_VERIFY, _("Verify a signature"), VerifyForm, M.VERIFY),
    "mac": Use(Operation.MAC, _("Make a MAC"), MACForm, M.MAC_GENERATE),
    "mac-verify": Use(Operation.MAC_VERIFY, _("Verify a MAC"), MACVerifyForm, M.MAC_VERIFY),
    "hash": Use(Operation.HASH, _("Hash"), HashForm),
    "wrap": Use(Operation.GET, _("Get wrapped"), WrapForm),
    "derive": Use(Operation.DERIVE_KEY, _("Derive a key"), DeriveForm, M.DERIVE_KEY),
    "random": Use(Operation.RNG_RETRIEVE, _("Random bytes"), RandomForm),
}


def of(request: HttpRequest, managed: Managed) -> list[tuple[str, Use, Plan]]:
    """The uses that an object's usage mask names, each with whether it is possible now, or why not."""
    mask, found = managed.columns["cryptographic_usage_mask"] or 0, []
    for slug, use in USES.items():
        if use.operation in HANDLERS and use.mask is not None and use.mask & mask:
            found.append((slug, use, _plan(request, use.operation, use.mask, managed)))
    return found


def _plan(request: HttpRequest, operation: Operation, mask: CryptographicUsageMask, managed: Managed) -> Plan:
    if not session.may(request, operation, managed):
        return Plan(False, gettext("You have no right to do this."))
    try:
        uses.check(managed, mask, {managed.object_type}, int(time.time()))
    except KMIPError as exc:
        return Plan(False, exc.message)
    return Plan(True, "")


def _parts(*values: tuple[str, bytes | None]) -> list[Part]:
    return [Part(title, data) for title, data in values if data is not None]


def spelled(data: bytes) -> list[tuple[str, str]]:
    """Bytes in the spellings that people copy, text first where it is text."""
    found = [(gettext("Hexadecimal"), data.hex()), (gettext("Base64"), base64.b64encode(data).decode())]
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return found
    return [(gettext("Text"), text), *found] if text and all(c.isprintable() or c in "\r\n\t" for c in text) else found
