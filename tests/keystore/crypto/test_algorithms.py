"""The table itself: that its rows agree with the library and with each other. Its vectors are in test_vectors."""

import pytest

from keystore.crypto import algorithms
from keystore.crypto.algorithms import ALGORITHMS, CURVE_BY_BITS, CURVES, MAC_MODES, MODES, A, Asymmetric, B, Symmetric
from kmip.enums import ResultReason
from kmip.errors import KMIPError


def test_every_mode_of_a_row_is_in_the_table_of_modes():
    """And every default is one of the row's."""
    for row in ALGORITHMS.values():
        if isinstance(row, Symmetric):
            assert set(row.modes) <= set(MODES)
            mode, padding = row.default
            assert mode is None or mode in row.modes
            assert padding is None or MODES[mode].blocks


def test_the_library_has_every_cipher_of_the_table_with_that_block():
    """The block length of a row is the cipher's."""
    for algorithm, row in ALGORITHMS.items():
        if isinstance(row, Symmetric) and row.cipher and row.block:
            cipher = row.cipher(bytes(range({A.RC2: 16, A.DES: 8, A.DES3: 24}.get(algorithm, 16))))
            assert cipher.block_size == row.block * 8


def test_a_mode_with_tags_draws_a_possible_iv():
    """The length drawn at random is among the possible ones."""
    for mode, row in MODES.items():
        assert row.iv == 0 or row.iv in row.ivs
        assert not (row.tags and row.blocks)
        assert mode not in MAC_MODES or not row.tags


def test_every_curve_of_a_row_is_in_the_table_of_curves():
    """And a length alone means a curve of that length."""
    for row in ALGORITHMS.values():
        if isinstance(row, Asymmetric):
            assert set(row.curves) <= set(CURVES)
    assert all(CURVES[curve].bits == bits for bits, curve in CURVE_BY_BITS.items())


@pytest.mark.parametrize(
    ("algorithm", "bits", "reason"),
    [
        (A.AES, 129, ResultReason.INVALID_FIELD),
        (A.AES, None, ResultReason.MISSING_DATA),
        (None, 1, ResultReason.INVALID_FIELD),
    ],
)
def test_a_length_that_a_row_does_not_have_is_refused(algorithm, bits, reason):
    """Create is told which attribute is wrong."""
    with pytest.raises(KMIPError) as caught:
        algorithms.check_length(algorithm, bits)
    assert caught.value.reason == reason


def test_a_possible_length_passes():
    """The value comes back."""
    assert algorithms.check_length(A.AES, 256) == 256


@pytest.mark.parametrize(("number", "name"), [(0x3A, "ML_KEM_768"), (0x3E, "ML_DSA_87")])
def test_the_post_quantum_values_are_those_of_kmip_3_0(number, name):
    """They are not in the 2.1 table, and pass through it as numbers."""
    assert getattr(algorithms, name) == number


def test_a_hash_without_a_row_is_refused():
    """Tiger is in the specification, not in the library."""
    with pytest.raises(KMIPError) as caught:
        algorithms.hash_of(algorithms.H.TIGER)
    assert caught.value.reason == ResultReason.UNSUPPORTED_CRYPTOGRAPHIC_PARAMETERS


def test_two_key_and_one_key_triple_des_are_spelled_out():
    """The library takes three keys; with and without parity bits they are the same cipher."""
    row = ALGORITHMS[A.DES3]
    key = algorithms.with_parity(bytes(range(14)))
    assert row.cipher(bytes(range(14))).key == row.cipher(key).key == key + key[:8]
    assert ALGORITHMS[A.DES].cipher(key[:8]).key == key[:8] * 3
    assert B.CBC in row.modes
