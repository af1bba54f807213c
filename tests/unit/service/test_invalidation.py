"""Fences: whatever the order of reads, changes and messages, no record older than a received change passes."""

from math import inf
from time import monotonic

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extauthz.core.changes import EVERYTHING, Change, EntityRef
from extauthz.service.directory import invalidation as module
from extauthz.service.directory.invalidation import UNCONFIRMED_SECONDS, Freshness, Invalidations

THINGS = tuple(EntityRef("api_key", str(number)) for number in range(4))
ONE, OTHER = THINGS[:2]


class Past:
    """A PostgreSQL of numbers alone, its readers, and a process that receives its changes in order, late."""

    def __init__(self, invalidations: Invalidations) -> None:
        self.invalidations = invalidations
        self.next = 10
        self.writing: list[tuple[int, EntityRef]] = []
        self.changes = dict.fromkeys(THINGS, 0)
        self.messages: list[tuple[Change, int]] = []
        self.heard = dict.fromkeys(THINGS, 0)
        self.records: list[tuple[EntityRef, int, int, float]] = []  # of what, how many changes it has, version, read_at

    def write(self, thing: EntityRef) -> None:
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
            self.invalidations.apply(change)
            self.heard[change.thing] = count

    def catch_up(self) -> None:
        """After a lost connection: all earlier messages count as missed."""
        self.messages.clear()
        self.invalidations.apply(Change(EVERYTHING, self.next))
        self.heard = dict(self.changes)

    def read(self, thing: EntityRef, *, ourselves: bool) -> None:
        version = min([number for number, _ in self.writing], default=self.next)
        self.records.append((thing, self.changes[thing], version, monotonic() if ourselves else -inf))

    def check(self) -> None:
        for thing, known, version, read_at in self.records:
            if self.invalidations.admits((thing,), version, read_at):
                assert known >= self.heard[thing]


steps = st.lists(
    st.tuples(st.sampled_from("wwcchhrrRRx"), st.integers(0, 3)).filter(lambda step: step != ("x", 0)),
    min_size=5,
    max_size=40,
)


@pytest.mark.parametrize("at_most", [1, 2, 100])
@given(steps)
def test_no_record_older_than_a_received_change_is_admitted(at_most: int, taken: list[tuple[str, int]]) -> None:
    """Readers here and elsewhere, before and after; transactions that stay open; more changes than single fences."""
    past = Past(Invalidations(seconds=1000, at_most=at_most))
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
        assert len(past.invalidations) <= at_most
        # What this process reads from now on includes all changes received, however low its number.
        assert past.invalidations.admits(THINGS, 0, monotonic())


def test_a_number_or_a_time_lets_in() -> None:
    """A fence of one entity keeps out its older records, and no others."""
    invalidations = Invalidations(seconds=1000)
    before = monotonic()
    invalidations.apply(Change(ONE, 8))
    assert not invalidations.admits((ONE,), 7, before)
    assert not invalidations.admits((OTHER, ONE), 7, -inf)
    assert invalidations.admits((ONE,), 8, -inf)
    assert invalidations.admits((ONE,), 7, monotonic())
    assert invalidations.admits((OTHER,), 0, -inf)
    invalidations.apply(Change(ONE, 5))  # an older message lowers nothing
    assert not invalidations.admits((ONE,), 7, -inf)


def test_lower_number_that_arrives_later_raises_a_fence() -> None:
    """The first transaction to begin may commit last: what was read in between lacks it, whatever fence existed."""
    invalidations = Invalidations(seconds=1000)
    invalidations.apply(Change(ONE, 12))
    read_at = monotonic()  # transaction 10 was open
    assert invalidations.admits((ONE,), 10, read_at)
    invalidations.apply(Change(ONE, 11))
    assert not invalidations.admits((ONE,), 10, read_at)
    assert invalidations.admits((ONE,), 10, monotonic())


def test_a_flood_of_changes_is_bounded() -> None:
    """Changes too many to be told apart keep out older records of everything, and let none in."""
    invalidations = Invalidations(seconds=1000, at_most=100)
    for number in range(10_000):
        invalidations.apply(Change(EntityRef("api_key", str(number)), number + 1))
    assert len(invalidations) == 100
    assert invalidations.epoch == 10_000
    assert not invalidations.admits((EntityRef("api_key", "0"),), 0, -inf)
    assert not invalidations.admits((EntityRef("plan", "never changed"),), 9_000, -inf)
    assert invalidations.admits((EntityRef("plan", "never changed"),), 10_000, -inf)


def test_fences_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fence lasts for its seconds from the last change of its entity, then it is removed."""
    now = 100.0
    monkeypatch.setattr(module, "monotonic", lambda: now)
    invalidations = Invalidations(seconds=10, at_most=100)
    invalidations.apply(Change(EVERYTHING, 3))
    invalidations.apply(Change(ONE, 8))
    now = 109
    invalidations.apply(Change(ONE, 9))
    now = 119
    invalidations.apply(Change(OTHER, 10))
    assert len(invalidations) == 2
    assert not invalidations.admits((ONE,), 8, -inf)
    now = 120
    invalidations.apply(Change(OTHER, 11))
    assert len(invalidations) == 1
    assert invalidations.admits((EntityRef("plan", "x"),), 0, -inf)


def test_since_when_records_are_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without messages, recently read records are fresh; with them, all records since they flow."""
    now = 100.0
    monkeypatch.setattr(module, "monotonic", lambda: now)
    freshness = Freshness()
    assert freshness.since == 100 - UNCONFIRMED_SECONDS
    freshness.flowing(True)
    now = 500
    assert freshness.since == 100
    freshness.flowing(False)
    assert freshness.since == 500 - UNCONFIRMED_SECONDS
    freshness.flowing(True)
    assert freshness.since == 500
