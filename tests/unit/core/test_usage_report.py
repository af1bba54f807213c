"""How what is saved and what Redis has counted become one figure: nothing twice, nothing lost."""

from hypothesis import given
from hypothesis import strategies as st

from extauthz.core.usage import Tally
from extauthz.core.usage_report import NOTHING, Charged, Live, by_key, left, total

counts = st.integers(0, 10**12)
numbers = st.builds(Charged, counts, counts, counts)


@given(numbers, counts)
def test_what_is_saved_is_told_as_it_is(saved: Charged, refused: int) -> None:
    """Redis that has nothing, or the same, changes nothing."""
    tally = Tally(saved.allowed, saved.cost, refused, refused)
    for live in (NOTHING, Live({"k": (saved, saved)}, {})):
        assert by_key({"k": (tally, saved.revision)}, live) == {"k": tally}


@given(numbers, st.integers(0, 1000), counts)
def test_what_was_counted_since_is_newer(saved: Charged, more: int, refused: int) -> None:
    """A later revision is told in place of the one that is saved, also where something was given back."""
    tally = Tally(saved.allowed, saved.cost, refused, 0)
    here = Charged(max(saved.cost - more, 0), saved.allowed + more, saved.revision + 1)
    found = by_key({"k": (tally, saved.revision)}, Live({"k": (here, here)}, {}))
    assert found == {"k": Tally(here.allowed, here.cost, refused, 0)}


@given(numbers, numbers)
def test_what_was_counted_without_postgresql_is_added(saved: Charged, since: Charged) -> None:
    """Counters that began at zero, or at what Redis still had, count on from what is saved."""
    tally = Tally(saved.allowed, saved.cost)
    for was in (Charged(), saved):
        here = Charged(was.cost + since.cost, was.allowed + since.allowed, was.revision + since.revision)
        found = by_key({"k": (tally, saved.revision)}, Live({"k": (here, was)}, {}))
        assert found == {"k": Tally(saved.allowed + since.allowed, saved.cost + since.cost)}


@given(counts, counts, counts, counts)
def test_what_is_left(quota: int, saved: int, was: int, since: int) -> None:
    """Never below nothing; what Redis began with counts where it is more than what is saved."""
    live = Live({}, {"d:20260131": (was + since, was)})
    assert left(quota, "d:20260131", {"d:20260131": saved}, live) == max(quota - max(saved, was) - since, 0)
    assert left(None, "d:20260131", {}, live) is None
    assert left(quota, "d:20260201", {}, live) == quota


def test_sums() -> None:
    """Of all keys; of none, zeros."""
    assert total({"a": Tally(1, 2, 3, 4), "b": Tally(10, 20, 30, 40)}) == Tally(11, 22, 33, 44)
    assert total({}) == Tally(0, 0, 0, 0)
