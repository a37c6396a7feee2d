"""The presets, and that each list of a policy counts."""

import dataclasses

import pytest

from keystore.crypto import policy
from keystore.crypto.algorithms import ALGORITHMS, CURVES, GCM_SIV, HASHES, MODES, A, B, C, H, P
from keystore.crypto.policy import DEFAULT, FIPS_140_3, PERMISSIVE, ListError, shortened
from kmip.enums import ResultReason
from kmip.errors import KMIPError


def test_the_presets_have_the_names_of_the_setting():
    """The setting `crypto.policy` takes these."""
    assert list(policy.POLICIES) == ["default", "fips-140-3", "permissive"]


def test_the_permissive_policy_lists_the_whole_table():
    """Legacy included: the OASIS cases are played with it."""
    for lists in (PERMISSIVE.protect, PERMISSIVE.process):
        assert lists.algorithms == ALGORITHMS.keys()
        assert lists.modes == MODES.keys()
        assert lists.curves == CURVES.keys()
        assert lists.hashes == lists.signature_hashes == HASHES.keys()


def test_no_policy_but_the_permissive_one_protects_with_what_is_legacy():
    """The legacy block of the table is for reading."""
    for preset in (DEFAULT, FIPS_140_3):
        assert not any(ALGORITHMS[each].legacy for each in preset.protect.algorithms)
        assert not any(HASHES[each].legacy for each in preset.protect.hashes)
        assert not any(CURVES[each].legacy for each in preset.protect.curves)


def test_reading_is_never_narrower_than_protecting():
    """What a server made under a policy it can open under it."""
    for preset in policy.POLICIES.values():
        for field in dataclasses.fields(policy.Allowed):
            if field.name != "key_sizes":
                assert getattr(preset.protect, field.name) <= getattr(preset.process, field.name)


CASES = {
    "algorithm": (DEFAULT, A.DES3, {}, True),
    "size": (DEFAULT, A.RSA, {"bits": 1024}, True),
    "mode": (FIPS_140_3, A.AES, {"mode": B.AEAD}, True),
    "padding": (FIPS_140_3, A.RSA, {"padding": P.PKCS1_V1_5}, True),
    "signature padding": (DEFAULT, A.RSA, {"signature_padding": P.OAEP}, True),
    "curve": (FIPS_140_3, A.ECDSA, {"curve": C.SECP256K1}, True),
    "hash": (DEFAULT, None, {"hashing": H.MD5}, True),
    "hash to read": (DEFAULT, None, {"hashing": H.MD5}, False),
    "signature hash": (DEFAULT, A.RSA, {"signature_hash": H.SHA_1}, True),
    "RSA below everything": (FIPS_140_3, A.RSA, {"bits": 512}, False),
}


@pytest.mark.parametrize(("preset", "algorithm", "named", "protect"), CASES.values(), ids=CASES)
def test_each_list_refuses_what_it_does_not_have(preset, algorithm, named, protect):
    """Permission Denied, with the policy's name."""
    with pytest.raises(KMIPError) as caught:
        preset.check(algorithm, **named, protect=protect)
    assert caught.value.reason == ResultReason.PERMISSION_DENIED
    assert preset.name in caught.value.message


def test_old_signatures_and_small_rsa_keys_can_still_be_read():
    """Verifying and decrypting have lists of their own."""
    for preset in (DEFAULT, FIPS_140_3):
        preset.check(A.RSA, bits=1024, signature_hash=H.SHA_1, protect=False)
        preset.check(A.DSA, bits=1024, protect=False)


# Lists.


def test_lists_leave_of_a_preset_what_they_name():
    """In any spelling; what they do not name can neither protect nor be read."""
    found = shortened(
        "default", (("algorithms", ("aes", "HMAC-SHA256")), ("modes", ("GCM", "gcm_siv")), ("curves", ()))
    )
    assert found.protect.algorithms == found.process.algorithms == {A.AES, A.HMAC_SHA256}
    assert found.protect.modes == {B.GCM, GCM_SIV}
    assert found.protect.curves == DEFAULT.protect.curves
    found.check(A.AES, mode=B.GCM)
    for protect in (True, False):
        for named in ({"algorithm": A.RSA}, {"algorithm": A.AES, "mode": B.CBC}):
            with pytest.raises(KMIPError, match="default with algorithms aes, HMAC-SHA256 and modes GCM, gcm_siv only"):
                found.check(**named, protect=protect)


def test_a_list_makes_nothing_wider():
    """SHA-1 may be in a list; it makes no signature for that. DSA is there for reading."""
    found = shortened("default", (("hashes", ("SHA_1", "SHA-256")), ("algorithms", ("DSA", "RSA"))))
    assert found.protect.signature_hashes == {H.SHA_256} and found.process.signature_hashes == {H.SHA_1, H.SHA_256}
    assert found.protect.algorithms == {A.RSA} and found.process.algorithms == {A.RSA, A.DSA}


def test_paddings_are_those_of_data_and_of_signatures():
    found = shortened("permissive", (("paddings", ("OAEP", "PSS", "PKCS5")),))
    assert found.protect.paddings == {P.OAEP, P.PKCS5} and found.protect.signature_paddings == {P.PSS}


def test_sizes_are_single_ones_and_ranges_within_those_of_the_preset():
    found = shortened("default", (("key_sizes", ("AES:256", "RSA:3072-99999999", "RSA:2048")),))
    for protect in (True, False):
        found.check(A.AES, bits=256, protect=protect)
        for bits in (2048, 3072, 8192):
            found.check(A.RSA, bits=bits, protect=protect)
        for algorithm, bits in ((A.AES, 128), (A.RSA, 2056), (A.RSA, 1024), (A.RSA, 16384)):
            with pytest.raises(KMIPError):
                found.check(algorithm, bits=bits, protect=protect)
    found.check(A.HMAC_SHA256, bits=8)


BAD_LISTS = {
    "an unknown name": ("default", "algorithms", "AEX"),
    "what the preset does not have": ("default", "algorithms", "3DES"),
    "a number": ("default", "modes", "6"),
    "nothing": ("default", "curves", "-"),
    "a size without an algorithm": ("default", "key_sizes", "256"),
    "an algorithm without a size": ("default", "key_sizes", "AES"),
    "a range without an end": ("default", "key_sizes", "AES:128-x"),
    "a negative size": ("default", "key_sizes", "AES:-128"),
    "a hash that FIPS 140-3 does not have": ("fips-140-3", "hashes", "BLAKE2B_512"),
}


@pytest.mark.parametrize(("preset", "name", "entry"), BAD_LISTS.values(), ids=BAD_LISTS)
def test_entries_that_name_nothing_are_refused(preset, name, entry):
    """A list that is shorter than somebody believes, or longer, would be found out too late."""
    with pytest.raises(ListError) as caught:
        shortened(preset, ((name, (entry,)),))
    assert (caught.value.name, caught.value.entry) == (name, entry) and caught.value.known


def test_every_value_of_the_presets_has_a_name_that_lists_understand():
    """The name that people are shown is one that they can write."""
    for kind, names in (("algorithms", ALGORITHMS), ("modes", MODES), ("curves", CURVES), ("hashes", HASHES)):
        texts = tuple(policy.name_of(member) for member in names)
        assert len({*texts}) == len(texts) and not any(text.startswith("0x") for text in texts)
        assert getattr(shortened("permissive", ((kind, texts),)).protect, kind) == names.keys()
