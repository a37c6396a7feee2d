"""The presets, and that each list of a policy counts."""

import dataclasses

import pytest

from keystore.crypto import policy
from keystore.crypto.algorithms import ALGORITHMS, CURVES, HASHES, MODES, A, B, C, H, P
from keystore.crypto.policy import DEFAULT, FIPS_140_3, PERMISSIVE
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
