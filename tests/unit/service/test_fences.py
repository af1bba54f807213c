"""Fences: whatever the order of reads, changes and messages, nothing older than what was heard passes."""

from math import inf
from time import monotonic

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extauthz.core.changes import EVERYTHING, Change, Thing
from extauthz.service import fences as module
from extauthz.service.fences import UNHEARD, Belief, Fences

THINGS = tuple(Thing("api_key", str(number)) for number in range(4))
ONE, OTHER = THINGS[:2]


class Past:
    """A PostgreSQL that is only numbers, its readers, and a process that hears of its changes in order, late."""

    def __init__(self, fences: Fences) -> None:
        self.fences = fences
        self.next = 10
        self.writing: list[tuple[int, Thing]] = []
        self.changes = dict.fromkeys(THINGS, 0)
        self.messages: list[tuple[Change, int]] = []
        self.heard = dict.fromkeys(THINGS, 0)
        self.records: list[tuple[Thing, int, int, float]] = []  # of what, how many changes it knows, version, read_at

    def write(self, thing: Thing) -> None:
        self.writing.append((self.next, thing))
        self.next += 1

    def commit(self, which: int) -> None:
        if self.writing:
            number, thing = self.writing.pop(which % len(self.writing))
            self.changes[thing] += 1
            self.messages.append((Change(thing, number + 1), self.changes[thing]))

    def hear(self) -> None:
        if self.messages:
            change, count = self.messages.pop(0)
            self.fences.hear(change)
            self.heard[change.thing] = count

    def catch_up(self) -> None:
        """After a lost connection: all that was told is known to have been missed."""
        self.messages.clear()
        self.fences.hear(Change(EVERYTHING, self.next))
        self.heard = dict(self.changes)

    def read(self, thing: Thing, *, ourselves: bool) -> None:
        version = min([number for number, _ in self.writing], default=self.next)
        self.records.append((thing, self.changes[thing], version, monotonic() if ourselves else -inf))

    def check(self) -> None:
        for thing, known, version, read_at in self.records:
            if self.fences.admits((thing,), version, read_at):
                assert known >= self.heard[thing]


steps = st.lists(
    st.tuples(st.sampled_from("wwcchhrrRRx"), st.integers(0, 3)).filter(lambda step: step != ("x", 0)),
    min_size=5,
    max_size=40,
)


@pytest.mark.parametrize("at_most", [1, 2, 100])
@given(steps)
@settings(max_examples=60)
def test_no_record_older_than_a_heard_change_is_admitted(at_most: int, taken: list[tuple[str, int]]) -> None:
    """Readers here and elsewhere, before and after; transactions that stay open; more changes than single fences."""
    past = Past(Fences(seconds=1000, at_most=at_most))
    for step, which in taken:
        if step == "w":
            past.write(THINGS[which])
        elif step == "c":
            past.commit(which)
        elif step == "h":
            past.hear()
        elif step == "x":
            past.catch_up()
        else:
            past.read(THINGS[which], ourselves=step == "r")
        past.check()
        assert len(past.fences) <= at_most
        # What we ourselves read from now on knows of all that we heard, however low its number.
        assert past.fences.admits(THINGS, 0, monotonic())


def test_a_number_or_a_time_lets_in() -> None:
    """A fence of one thing keeps out its older records, and those alone."""
    fences = Fences(seconds=1000)
    before = monotonic()
    fences.hear(Change(ONE, 8))
    assert not fences.admits((ONE,), 7, before)
    assert not fences.admits((OTHER, ONE), 7, -inf)
    assert fences.admits((ONE,), 8, -inf)
    assert fences.admits((ONE,), 7, monotonic())
    assert fences.admits((OTHER,), 0, -inf)
    fences.hear(Change(ONE, 5))  # an older message lowers nothing
    assert not fences.admits((ONE,), 7, -inf)


def test_a_lower_number_that_is_heard_later_is_news() -> None:
    """Who begins first may commit last: what was read in between does not know of it, whatever fence stood there."""
    fences = Fences(seconds=1000)
    fences.hear(Change(ONE, 12))
    read_at = monotonic()  # transaction 10 was open
    assert fences.admits((ONE,), 10, read_at)
    fences.hear(Change(ONE, 11))
    assert not fences.admits((ONE,), 10, read_at)
    assert fences.admits((ONE,), 10, monotonic())


def test_a_flood_of_changes_is_bounded() -> None:
    """Where changes are too many to be told apart, older records of everything are kept out, none let in."""
    fences = Fences(seconds=1000, at_most=100)
    for number in range(10_000):
        fences.hear(Change(Thing("api_key", str(number)), number + 1))
    assert len(fences) == 100
    assert fences.epoch == 10_000
    assert not fences.admits((Thing("api_key", "0"),), 0, -inf)
    assert not fences.admits((Thing("plan", "never changed"),), 9_000, -inf)
    assert fences.admits((Thing("plan", "never changed"),), 10_000, -inf)


def test_fences_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fence stands for its seconds from the last change of its thing, then makes room."""
    now = 100.0
    monkeypatch.setattr(module, "monotonic", lambda: now)
    fences = Fences(seconds=10, at_most=100)
    fences.hear(Change(EVERYTHING, 3))
    fences.hear(Change(ONE, 8))
    now = 109
    fences.hear(Change(ONE, 9))
    now = 119
    fences.hear(Change(OTHER, 10))
    assert len(fences) == 2
    assert not fences.admits((ONE,), 8, -inf)
    now = 120
    fences.hear(Change(OTHER, 11))
    assert len(fences) == 1
    assert fences.admits((Thing("plan", "x"),), 0, -inf)


def test_since_when_we_believe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without messages, what was taken in lately; with them, all since they flow."""
    now = 100.0
    monkeypatch.setattr(module, "monotonic", lambda: now)
    belief = Belief()
    assert belief.since == 100 - UNHEARD
    belief.flowing(True)
    now = 500
    assert belief.since == 100
    belief.flowing(False)
    assert belief.since == 500 - UNHEARD
    belief.flowing(True)
    assert belief.since == 500
