"""The JSON dialect as its clients use it: tags, key sets, vendor attributes, and what they take for granted."""

import json
import time
from typing import Any

import pytest

from keystore import engine
from keystore.authn import Peer
from tests.authority import sealed  # noqa: F401 - a fixture

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("sealed")]


def node(tag: str, value: Any, type_: str | None = None) -> dict[str, Any]:
    return {"tag": tag, "type": type_, "value": value} if type_ else {"tag": tag, "value": value}


def text(tag: str, value: str) -> dict[str, Any]:
    return node(tag, value, "TextString")


def vendor(name: str, value: str) -> dict[str, Any]:
    return node("Attribute", [text("VendorIdentification", "cosmian"), text("AttributeName", name),
                              text("AttributeValue", value)])  # fmt: skip


def tags(*names: str) -> dict[str, Any]:
    return vendor("tag", json.dumps(names))


def ask(root: str, *nodes: Any, user: str = "alice", accept: str = "application/json") -> tuple[int, Any]:
    """Status and answer of one bare operation; the answer's nodes by their tags, lists where a tag repeats."""
    body = json.dumps(node(root, list(nodes))).encode()
    status, kind, data = engine.handle_http(body, Peer("cli", user=user, headers={"Accept": accept}))
    if kind != "application/json":
        return status, data.decode()
    found = json.loads(data)
    if status != 200:
        return status, found
    assert found["tag"] == f"{root}Response", found
    return status, flat(found["value"])


def flat(nodes: Any) -> dict[str, Any]:
    answer: dict[str, Any] = {}
    for one in nodes:
        value = flat(one["value"]) if "type" not in one and isinstance(one["value"], list) else one["value"]
        if one["tag"] in answer:
            held = answer[one["tag"]]
            answer[one["tag"]] = [*(held if isinstance(held, list) else [held]), value]
        else:
            answer[one["tag"]] = value
    return answer


def done(root: str, *nodes: Any, user: str = "alice") -> dict[str, Any]:
    status, answer = ask(root, *nodes, user=user)
    assert status == 200, answer
    return answer


def refused(root: str, *nodes: Any, user: str = "alice") -> str:
    status, answer = ask(root, *nodes, user=user)
    assert status in (403, 404, 422), answer
    return answer["error"]


def uid(value: str) -> dict[str, Any]:
    return text("UniqueIdentifier", value)


SYMMETRIC = node("ObjectType", "SymmetricKey", "Enumeration")
ACTIVE = node("ActivationDate", "2020-01-01T00:00:00Z", "DateTime")


def create(*attributes: Any, mask: int = 0xC | 0x30, length: int = 256, active: bool = True) -> str:
    wanted = [
        node("CryptographicAlgorithm", "AES", "Enumeration"),
        node("CryptographicLength", length, "Integer"),
        node("CryptographicUsageMask", mask, "Integer"),
        *([ACTIVE] if active else []),
        *attributes,
    ]
    return done("Create", SYMMETRIC, node("Attributes", wanted))["UniqueIdentifier"]


def pair(*attributes: Any) -> tuple[str, str]:
    common = node("CommonAttributes", [
        node("CryptographicAlgorithm", "ECDH", "Enumeration"),
        node("CryptographicDomainParameters", [node("RecommendedCurve", "P256", "Enumeration")]), ACTIVE, *attributes,
    ])  # fmt: skip
    made = done("CreateKeyPair", common)
    return made["PrivateKeyUniqueIdentifier"], made["PublicKeyUniqueIdentifier"]


def hexed(data: bytes) -> dict[str, Any]:
    return node("Data", data.hex().upper(), "ByteString")


def test_an_object_is_addressed_by_all_of_its_tags():
    first, second = create(tags("payroll", "2026")), create(tags("payroll", "2027"))
    assert done("Get", uid('["payroll", "2026"]'))["UniqueIdentifier"] == first
    assert done("GetAttributes", uid('["2027"]'))["UniqueIdentifier"] == second
    assert refused("Get", uid('["payroll"]')) == "Invalid_Field", "two have it"
    assert refused("Get", uid('["payroll", "2028"]')) == "Object_Not_Found"
    assert refused("Get", uid("[]")) == "Object_Not_Found"
    assert refused("Get", uid('["payroll", "2026"]'), user="bob") == "Object_Not_Found"


def test_system_tags_tell_types_apart():
    private, public = pair(tags("k"))
    assert public == private + "_pk"
    assert done("Get", uid('["k", "_pk"]'))["UniqueIdentifier"] == public
    assert done("Get", uid('["k", "_sk"]'))["UniqueIdentifier"] == private
    assert refused("Get", uid('["k", "_kk"]')) == "Object_Not_Found"


def test_a_cryptographic_operation_takes_the_one_object_that_can():
    """Of a pair with the same tag, signatures are the private key's and verified by the public one."""
    pair(tags("s"))
    common = node("CommonAttributes", [
        node("CryptographicAlgorithm", "Ed25519", "Enumeration"), ACTIVE, tags("signer"),
    ])  # fmt: skip
    made = done("CreateKeyPair", common)
    signed = done("Sign", uid('["signer"]'), hexed(b"data"))
    assert signed["UniqueIdentifier"] == made["PrivateKeyUniqueIdentifier"]
    signature = node("SignatureData", signed["SignatureData"], "ByteString")
    verified = done("SignatureVerify", uid('["signer"]'), hexed(b"data"), signature)
    assert verified["UniqueIdentifier"] == made["PublicKeyUniqueIdentifier"]
    assert verified["ValidityIndicator"] == "Valid"
    wrong = done("SignatureVerify", uid('["signer"]'), hexed(b"other"), signature)
    assert wrong["ValidityIndicator"] == "Invalid", "an answer, no failure"


def test_tags_address_all_objects_where_an_operation_can_take_them():
    first, second = create(tags("t"), active=False), create(tags("t"), active=False)
    done("Activate", uid('["t"]'))
    for one in (first, second):
        assert done("GetAttributes", uid(one))["Attributes"]["State"] == "Active"
    reason = node("RevocationReason", [node("RevocationReasonCode", "CessationOfOperation", "Enumeration")])
    done("Revoke", uid('["t"]'), reason)
    done("Destroy", uid('["t"]'))
    assert refused("Get", uid(first)) == refused("Get", uid(second)) == "Object_Destroyed"


def test_tags_of_other_operations_and_changed_tags_count():
    key = create()
    done("AddAttribute", uid(key), node("NewAttribute", [tags("later")]))
    assert done("Get", uid('["later"]'))["UniqueIdentifier"] == key
    done("SetAttribute", uid(key), node("NewAttribute", [tags("now")]))
    assert refused("Get", uid('["later"]')) == "Object_Not_Found"
    assert done("Locate", node("Attributes", [tags("now")]))["UniqueIdentifier"] == key


def rotating(name: str) -> str:
    rotate = node("RotateName", [text("RotateNameValue", name),
                                 node("RotateNameType", "UninterpretedTextString", "Enumeration")])  # fmt: skip
    return create(rotate)


def test_a_key_set_has_a_newest_an_oldest_and_numbered_generations():
    first = rotating("set")
    second = done("ReKey", uid("set"))["UniqueIdentifier"]
    third = done("ReKey", uid("set@latest"))["UniqueIdentifier"]
    for name, expected in {
        "set": third, "set@latest": third, "set@first": first, "set@0": first, "set@1": second, "set@2": third,
    }.items():  # fmt: skip
        assert done("Get", uid(name))["UniqueIdentifier"] == expected, name
    for absent in ("set@3", "set@x", "other", "other@latest"):
        assert refused("Get", uid(absent)) == "Object_Not_Found"


def test_a_key_set_encrypts_with_the_newest_and_decrypts_with_any():
    rotating("set")
    old = done("Encrypt", uid("set"), hexed(b"old"))
    new_key = done("ReKey", uid("set"))["UniqueIdentifier"]
    new = done("Encrypt", uid("set"), hexed(b"new"))
    assert new["UniqueIdentifier"] == new_key != old["UniqueIdentifier"]
    for sealed_, plain in ((old, b"old"), (new, b"new")):
        found = done(
            "Decrypt",
            uid("set"),
            node("Data", sealed_["Data"], "ByteString"),
            node("IVCounterNonce", sealed_["IVCounterNonce"], "ByteString"),
            node("AuthenticatedEncryptionTag", sealed_["AuthenticatedEncryptionTag"], "ByteString"),
        )
        assert bytes.fromhex(found["Data"]) == plain
        assert found["UniqueIdentifier"] == sealed_["UniqueIdentifier"]


def test_a_key_is_kept_wrapped_by_another_and_re_wrapped_when_that_is_re_keyed():
    wrapping = create(mask=0x30 | 0xC)
    wrapped = create(vendor("wrapping_key_id", wrapping))
    block = done("Get", uid(wrapped))["SymmetricKey"]["KeyBlock"]
    assert block["KeyWrappingData"]["EncryptionKeyInformation"]["UniqueIdentifier"] == wrapping
    opened = done("Get", uid(wrapped), node("KeyWrapType", "NotWrapped", "Enumeration"))
    plain = opened["SymmetricKey"]["KeyBlock"]["KeyValue"]["KeyMaterial"]
    newer = done("ReKey", uid(wrapping))["UniqueIdentifier"]
    block = done("Get", uid(wrapped))["SymmetricKey"]["KeyBlock"]
    assert block["KeyWrappingData"]["EncryptionKeyInformation"]["UniqueIdentifier"] == newer
    opened = done("Get", uid(wrapped), node("KeyWrapType", "NotWrapped", "Enumeration"))
    assert opened["SymmetricKey"]["KeyBlock"]["KeyValue"]["KeyMaterial"] == plain
    attributes = done("GetAttributes", uid(wrapped))["Attributes"]
    assert attributes["Link"]["LinkedObjectIdentifier"] == newer
    assert attributes["Attribute"]["AttributeValue"] == newer, "the attribute names the key that wraps it now"


def test_an_object_that_only_says_to_be_wrapped_does_not_keep_a_key_from_being_re_keyed():
    """A link that a client set on what is not wrapped, and a key that was not wrapped by what it names."""
    wrapping = create(mask=0x30 | 0xC)
    link = node("Link", [node("LinkType", "WrappingKeyLink", "Enumeration"), text("LinkedObjectIdentifier", wrapping)])
    plain = create(link)
    opaque = done(
        "Register",
        node("ObjectType", "OpaqueObject", "Enumeration"),
        node("Attributes", [link]),
        node(
            "OpaqueObject",
            [node("OpaqueDataType", "0x80000001", "Enumeration"), node("OpaqueDataValue", "00", "ByteString")],
        ),
    )["UniqueIdentifier"]
    forged = register_forged(wrapping)
    honest = create(vendor("wrapping_key_id", wrapping))
    newer = done("ReKey", uid(wrapping))["UniqueIdentifier"]
    for one, named in ((plain, wrapping), (opaque, wrapping), (forged, wrapping), (honest, newer)):
        links = done("GetAttributes", uid(one))["Attributes"]["Link"]
        assert links["LinkedObjectIdentifier"] == named


def register_forged(wrapping):
    data = [
        node("WrappingMethod", "Encrypt", "Enumeration"),
        node("EncryptionKeyInformation", [uid(wrapping)]),
        node("EncodingOption", "NoEncoding", "Enumeration"),
    ]
    block = [
        node("KeyFormatType", "Raw", "Enumeration"),
        node("KeyValue", [node("KeyMaterial", "00" * 24, "ByteString")]),
        node("CryptographicAlgorithm", "AES", "Enumeration"),
        node("CryptographicLength", 128, "Integer"),
        node("KeyWrappingData", data),
    ]
    key = node("SymmetricKey", [node("KeyBlock", block)])
    return done("Register", SYMMETRIC, node("Attributes", []), key)["UniqueIdentifier"]


def test_a_wrapping_key_of_somebody_else_cannot_be_named():
    wrapping = create()
    wanted = [node("CryptographicAlgorithm", "AES", "Enumeration"), vendor("wrapping_key_id", wrapping)]
    assert refused("Create", SYMMETRIC, node("Attributes", wanted), user="bob") == "Wrapping_Object_Not_Found"


def test_re_key_without_an_offset_makes_an_active_key():
    key = create(active=False)
    made = done("ReKey", uid(key))["UniqueIdentifier"]
    attributes = done("GetAttributes", uid(made))["Attributes"]
    assert attributes["State"] == "Active" and attributes["Link"]["LinkType"] == "ReplacedObjectLink"
    later = done("ReKey", uid(made), node("Offset", 3600, "Interval"))["UniqueIdentifier"]
    assert done("GetAttributes", uid(later))["Attributes"]["State"] == "PreActive"


def test_clients_choose_identifiers_and_get_bare_bytes():
    made = create(uid("my-own-key"))
    assert made == "my-own-key"
    material = done("Get", uid("my-own-key"))["SymmetricKey"]["KeyBlock"]["KeyValue"]["KeyMaterial"]
    assert len(bytes.fromhex(material)) == 32
    wanted = [node("CryptographicAlgorithm", "AES", "Enumeration"), uid("my-own-key")]
    assert refused("Create", SYMMETRIC, node("Attributes", wanted)) == "Object_Already_Exists"


def test_the_reasons_for_absent_and_destroyed_objects_are_those_that_clients_look_at():
    for operation in ("Get", "GetAttributes", "Activate", "Check", "Export"):
        assert refused(operation, uid("nothing")) == "Object_Not_Found", operation
    for operation in ("Encrypt", "Decrypt", "Destroy"):
        assert refused(operation, uid("nothing"), hexed(b"x")) == "Item_Not_Found", operation
    reason = node("RevocationReason", [node("RevocationReasonCode", "CessationOfOperation", "Enumeration")])
    assert refused("Revoke", uid("nothing"), reason) == "Item_Not_Found"
    key = create()
    assert refused("Destroy", uid(key)) == "Wrong_Key_Lifecycle_State"
    done("Revoke", uid(key), reason)
    done("Destroy", uid(key))
    status, answer = ask("Get", uid(key), accept="*/*")
    assert status == 422 and answer.startswith("Object_Destroyed") and "DENIED" in answer
    done("Destroy", uid(key))
    done("Revoke", uid(key), reason)


def test_a_pair_is_revoked_and_destroyed_together_and_a_row_removed():
    private, public = pair()
    reason = node("RevocationReason", [node("RevocationReasonCode", "CessationOfOperation", "Enumeration")])
    cascade = node("Cascade", True, "Boolean")
    done("Revoke", uid(private), reason, cascade)
    assert done("GetAttributes", uid(public))["Attributes"]["State"] == "Deactivated"
    done("Destroy", uid(private), cascade, node("Remove", True, "Boolean"))
    assert refused("GetAttributes", uid(private)) == refused("GetAttributes", uid(public)) == "Object_Not_Found"


def test_without_cascade_the_other_half_stays():
    private, public = pair()
    reason = node("RevocationReason", [node("RevocationReasonCode", "CessationOfOperation", "Enumeration")])
    done("Revoke", uid(private), reason)
    assert done("GetAttributes", uid(public))["Attributes"]["State"] == "Active"


def test_query_and_locate_answer_as_clients_expect():
    assert done("Query", node("QueryFunction", "QueryServerInformation", "Enumeration"))["VendorIdentification"]
    assert done("Locate", node("Attributes", [tags("nobody's")])) == {"LocatedItems": 0}
    one, two = create(tags("l")), create(tags("l"))
    assert done("Locate", node("Attributes", [tags("l")]))["UniqueIdentifier"] == [two, one]


def test_dates_make_a_key_active_or_not():
    later = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 1000))
    key = create(node("ActivationDate", later, "DateTime"), active=False)
    assert done("GetAttributes", uid(key))["Attributes"]["State"] == "PreActive"
    assert refused("Encrypt", uid(key), hexed(b"x")) == "Wrong_Key_Lifecycle_State"


def test_a_symmetric_encryption_is_answered_in_three_parts():
    key = create()
    found = done("Encrypt", uid(key), hexed(b"data"))
    assert len(found["Data"]) == 8 and len(found["IVCounterNonce"]) == 24
    assert len(found["AuthenticatedEncryptionTag"]) == 32


def test_what_published_cases_call_a_general_failure_is_no_fault_of_the_server():
    """A client that asks for what cannot be gets 422, whatever the reason is called; a fault of ours is 500."""
    gcm = node("CryptographicParameters", [node("BlockCipherMode", "GCM", "Enumeration"),
                                           node("TagLength", 1, "Integer")])  # fmt: skip
    assert refused("Encrypt", uid(create()), gcm, hexed(b"x")) == "General_Failure"
    asked = [node("CryptographicAlgorithm", "AES", "Enumeration"), node("CryptographicLength", 128, "Integer"),
             node("QuantumSafe", True, "Boolean")]  # fmt: skip
    assert refused("Create", SYMMETRIC, node("Attributes", asked)) == "General_Failure"
