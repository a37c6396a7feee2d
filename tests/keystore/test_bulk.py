"""The bulk framing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keystore import bulk

#: LEB128 as DWARF 5, 7.6 shows it: 2, 127, 128, 129.
FRAMES = {
    "none": ([], "878700"),
    "one empty": ([b""], "87870100"),
    "two": ([b"a", b"bc"], "878702016102" + "6263"),
    "128 bytes": ([bytes(128)], "8787018001" + "00" * 128),
}


@pytest.mark.parametrize("case", FRAMES)
def test_frames_are_written_and_read(case):
    items, text = FRAMES[case]
    assert bulk.join(items).hex() == text
    assert bulk.split(bytes.fromhex(text)) == items


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_every_list_comes_back(items):
    assert bulk.split(bulk.join(items)) == items


@pytest.mark.parametrize(
    "text",
    ["", "87", "8787", "8788" + "00", "87870101", "878701ffffffffff7f", "8787ffffffff7f", "87870100" + "00", "878780"],
    ids=repr,
)
def test_what_is_no_frame_is_none(text):
    """Cut short, lying about lengths, with something behind."""
    assert bulk.split(bytes.fromhex(text)) is None
