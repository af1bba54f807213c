"""Saved usage and counts of Redis add up to one figure: nothing twice, nothing lost."""

from collections.abc import Mapping
from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from extauthz.core.usage import Tally, passed_at
from extauthz.core.usage_range import Period
from extauthz.core.usage_report import (
    NOTHING,
    Charged,
    Figures,
    Live,
    UsageRow,
    by_key,
    by_period,
    left,
    merged,
    total,
)

DAY = date(2026, 12, 31)
WEEK = Period(DAY - timedelta(days=3), DAY + timedelta(days=3))

counts = st.integers(0, 10**12)
numbers = st.builds(Charged, counts, counts, counts)
tallies = st.builds(Tally, counts, counts, counts, counts)
used = st.dictionaries(st.tuples(st.sampled_from([day.first for day in WEEK.days()]), st.sampled_from("abc")), tallies)


def counted(here: Charged, was: Charged) -> Live:
    return Live({DAY: {"k": (here, was)}}, {})


def told(saved: Tally, revision: int, live: Live) -> list[Tally]:
    return [figures.tally for figures in merged([Figures(DAY, "k", saved, revision)], live)]


@given(numbers, counts)
def test_saved_usage_is_reported_unchanged(saved: Charged, refused: int) -> None:
    """Redis without counts, without that key, or with the same count changes nothing."""
    tally = Tally(saved.allowed, saved.cost, refused, refused)
    for live in (NOTHING, Live({DAY: {}}, {}), counted(saved, saved)):
        assert told(tally, saved.revision, live) == [tally]


@given(numbers, st.integers(0, 1000), counts)
def test_later_revision_replaces_saved_usage(saved: Charged, more: int, refused: int) -> None:
    """A later revision replaces the saved one, also where units were given back."""
    here = Charged(max(saved.cost - more, 0), saved.allowed + more, saved.revision + 1)
    found = told(Tally(saved.allowed, saved.cost, refused, 0), saved.revision, counted(here, here))
    assert found == [Tally(here.allowed, here.cost, refused, 0)]


@given(numbers, numbers)
def test_provisional_counters_are_added(saved: Charged, since: Charged) -> None:
    """Provisional counters, from zero or from what Redis had, are added to saved usage."""
    tally = Tally(saved.allowed, saved.cost)
    for was in (Charged(), saved):
        here = Charged(was.cost + since.cost, was.allowed + since.allowed, was.revision + since.revision)
        found = told(tally, saved.revision, counted(here, was))
        assert found == [Tally(saved.allowed + since.allowed, saved.cost + since.cost)]


@given(used, used)
def test_every_way_to_add_up(saved: Mapping[tuple[date, str], Tally], since: Mapping[tuple[date, str], Tally]) -> None:
    """By key, by day and for the whole time: what is saved, and what was counted since, each once."""
    expected = dict(saved)
    days: dict[date, dict[str, tuple[Charged, Charged]]] = {}
    for (day, key_id), tally in since.items():
        here = Charged(tally.cost, tally.allowed, 2)
        days.setdefault(day, {})[key_id] = here, here
        expected[day, key_id] = saved.get((day, key_id), Tally())._replace(cost=tally.cost, allowed=tally.allowed)
    live = Live(days, {})
    for key in (True, False):
        rows = list(merged(_stored(saved, days, by_key=key), live))
        sums = by_key(rows, WEEK) if key else by_period(rows, list(WEEK.days()))
        assert total(row.tally for row in sums) == total(expected.values())
        assert not key or {row.period for row in sums} <= {WEEK}
        by_place: dict[str, list[Tally]] = {}
        for (day, key_id), tally in expected.items():
            by_place.setdefault(key_id if key else day.isoformat(), []).append(tally)
        every = dict.fromkeys([] if key else [day.place for day in sums], Tally())
        assert {row.place: row.tally for row in sums} == every | {at: total(each) for at, each in by_place.items()}


def _stored(saved: Mapping[tuple[date, str], Tally], apart: Mapping[date, object], *, by_key: bool) -> list[Figures]:
    """What PostgreSQL answers."""
    whole = [Figures(day, key_id, tally, 1) for (day, key_id), tally in saved.items() if day in apart]
    rest = {at: tally for at, tally in saved.items() if at[0] not in apart}
    if by_key:
        keys = {key_id for _, key_id in rest}
        return whole + [Figures(None, key, total(t for at, t in rest.items() if at[1] == key), 1) for key in keys]
    days = {day for day, _ in rest}
    return whole + [Figures(day, None, total(t for at, t in rest.items() if at[0] == day), 1) for day in days]


@given(counts, counts, counts, counts)
def test_remainders(quota: int, saved: int, was: int, since: int) -> None:
    """Never negative; the first value in Redis counts where it is more than what is saved."""
    live = Live({}, {"d:20260131": (was + since, was)})
    assert left(quota, "d:20260131", {"d:20260131": saved}, live) == max(quota - max(saved, was) - since, 0)
    assert left(None, "d:20260131", {}, live) is None
    assert left(quota, "d:20260201", {}, live) == quota


def test_sums() -> None:
    """Of all keys; of none, zeros."""
    assert total([Tally(1, 2, 3, 4), Tally(10, 20, 30, 40)]) == Tally(11, 22, 33, 44)
    assert total([]) == Tally(0, 0, 0, 0)


def test_rows_without_usage() -> None:
    """A key without usage has no row, a day has one of zeros."""
    assert by_key([], WEEK) == []
    assert by_period([], list(WEEK.days())) == [UsageRow(day, None, Tally()) for day in WEEK.days()]


@given(st.integers(1, 10**15), st.integers(1, 100))
def test_when_a_threshold_is_passed(limit: int, threshold: int) -> None:
    """With the first count that is that part of the quota, or more."""
    count = passed_at(limit, threshold)
    assert 100 * (count - 1) < limit * threshold <= 100 * count
