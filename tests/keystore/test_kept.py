"""What is kept in memory by identifier and row version."""

from keystore.kept import Kept


class Source:
    """Counts how often it was asked."""

    def __init__(self):
        self.asked = 0

    def __call__(self):
        self.asked += 1
        return object()


def test_a_thing_is_made_once_for_each_version():
    """The second use finds it; a new version of the row displaces it."""
    kept, source = Kept(8, 60), Source()
    first = kept.get("a", 1, source)
    assert kept.get("a", 1, source) is first
    assert source.asked == 1
    assert kept.get("a", 2, source) is not first
    assert (source.asked, len(kept)) == (2, 1)


def test_number_and_age_are_bounded():
    """The least recently used goes first, and nothing stays for longer than the age."""
    now, source = [0.0], Source()
    kept = Kept(2, 10, clock=lambda: now[0])
    for identifier in ("a", "b", "a", "c"):
        kept.get(identifier, 1, source)
    assert (len(kept), source.asked) == (2, 3)
    kept.get("a", 1, source)
    assert source.asked == 3
    kept.get("b", 1, source)
    assert source.asked == 4
    now[0] = 11
    kept.get("b", 1, source)
    assert source.asked == 5


def test_things_are_dropped_and_cleared():
    """One when its row changes, all of them when the server is sealed."""
    kept, source = Kept(8, 60), Source()
    for identifier in ("a", "b"):
        kept.get(identifier, 1, source)
    kept.drop("a")
    kept.drop("never there")
    assert len(kept) == 1
    kept.clear()
    assert len(kept) == 0
