"""The arithmetic of one spend: refill over time, and what is taken."""

from copy import deepcopy
from dataclasses import replace
from datetime import date
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extauthz.core.calendar import UTC_CALENDAR
from extauthz.core.limits import QUOTA_MAX, UNLIMITED, Limits, Rate
from extauthz.core.spend import (
    MICRO,
    NotApplied,
    Operation,
    Owner,
    Spend,
    Spent,
    spans,
)
from extauthz.core.token_bucket import State, refill, spend
from extauthz.core.usage import Span
from tests.limit_names import BURST, DAILY, KEY_BURST, KEY_DAILY, KEY_MONTHLY, MONTHLY, used_of
from tests.unit.core.test_token_bucket import Bucket, buckets, rates, waits

NOW = 1_800_000_000
DAY = 86_400


def limits(
    rate: str | None = "10", burst: int | None = 5, daily: int | None = None, monthly: int | None = None
) -> Limits:
    return Limits(None if rate is None else Rate.parse(rate), burst, daily, monthly)


def question(allowed: Limits, at: float = NOW, *, cost: int = 1, key: str = "key-1", own: Limits = UNLIMITED) -> Spend:
    """What a request asks at `at` (Unix seconds); `own` are limits of its key."""
    return Spend(Owner("tenant", "org-1"), cost, allowed, UTC_CALENDAR, key_id=key, key_limits=own).at(at)


def step(state: State, asked: Spend, now: int) -> Spent:
    """The outcome of a spend that can happen."""
    spent = spend(state, asked, now)
    assert isinstance(spent, Spent)
    return spent


def take(state: State, allowed: Limits, cost: int = 1, *, at: float = NOW) -> tuple[str, ...]:
    """Spends at `at` (Unix seconds) and says which limits refused."""
    return step(state, question(allowed, at, cost=cost), round(at * MICRO)).refused


@given(rates, st.integers(1, 50), st.lists(st.tuples(waits, st.integers(1, 5)), max_size=12))
def test_never_more_than_burst_and_rate_allow(rate: Rate, burst: int, requests: list[tuple[int, int]]) -> None:
    """At any times, all that passed is at most the burst plus the refill since the first request."""
    allowed, state, now, taken = Limits(rate, burst), State(), NOW * MICRO, 0
    for elapsed, wanted in requests:
        now += elapsed
        cost = min(wanted, burst)
        taken += 0 if take(state, allowed, cost, at=now / MICRO) else cost
    assert taken <= burst + Fraction((now - NOW * MICRO) * rate.tokens, rate.seconds * MICRO)


def test_taken_from_all_or_from_none() -> None:
    """One limit that refuses keeps all others as they were; which refused is said for each of them."""
    state, allowed = State(), limits(burst=5, daily=7, monthly=8)
    assert take(state, allowed, 4) == ()
    before = deepcopy(state)
    assert before.counters == {"d:20270115": 4, "m:20270101": 4, "m:20270101:key-1": 4}
    assert take(state, allowed, 5, at=NOW + 0.1) == (BURST, DAILY, MONTHLY)
    assert take(state, allowed, 4, at=NOW + 60) == (DAILY,)
    assert state == before
    assert take(state, allowed, 4, at=NOW + DAY) == ()
    assert state.counters == {"d:20270115": 4, "d:20270116": 4, "m:20270101": 8, "m:20270101:key-1": 8}
    assert state.days == {"d:20270115:key-1": (4, 1, 1), "d:20270116:key-1": (4, 1, 1)}


def test_a_key_spends_inside_its_organization() -> None:
    """Limits of a key refuse that key alone, its organization's all keys; neither takes where the other refuses."""
    state, allowed, own = State(), limits(burst=5, daily=4), limits("1/d", 2, 3, 3)
    assert step(state, question(allowed, cost=2, own=own), NOW * MICRO).refused == ()
    before = deepcopy(state)
    assert step(state, question(allowed, cost=2, own=own), NOW * MICRO).refused == (KEY_BURST, KEY_DAILY, KEY_MONTHLY)
    assert step(state, question(allowed, cost=3, key="key-2"), NOW * MICRO).refused == (DAILY,)
    assert state == before
    assert step(state, question(allowed, cost=2, key="key-2"), NOW * MICRO).refused == ()
    refused = step(state, question(allowed, cost=2, own=own), NOW * MICRO)
    assert refused.refused == (BURST, DAILY, KEY_BURST, KEY_DAILY, KEY_MONTHLY)
    assert (refused.used["daily"], refused.used["key-daily"], refused.used["key-monthly"]) == (4, 2, 2)
    assert state.buckets.keys() == {"", "key-1"}
    assert state.days == {"d:20270115:key-1": (2, 1, 1), "d:20270115:key-2": (2, 1, 1)}


@given(buckets(), st.integers(1, 100), st.integers(0, 5), st.integers(-5, 5))
def test_a_refusal_leaves_no_trace(bucket: Bucket, cost: int, daily: int, seconds: int) -> None:
    """A refused spend leaves the state as it was, except a time in the future; an allowed one takes its cost."""
    stored, rate, burst = bucket
    state = State(buckets={"": stored})
    asked = question(Limits(rate, burst, daily), cost=min(cost, burst))
    before, now = deepcopy(state), (NOW + seconds) * MICRO
    refilled, carry = refill(stored, rate, burst, now)
    spent = step(state, asked, now)
    if spent.refused:
        assert state == (before if seconds >= 0 else replace(before, buckets={"": (refilled, carry, now)}))
        assert (spent.level, spent.row[5], spent.used["daily"], spent.used["monthly"]) == (refilled, carry, 0, 0)
    else:
        left = refilled - asked.cost * MICRO
        assert state.buckets == {"": (left, carry, now)}
        assert (spent.level, spent.row[5]) == (left, carry)
        assert set(used_of(spent)) == {asked.cost}


def test_a_clock_that_steps_back_neither_gives_nor_takes() -> None:
    """A step back refills nothing, and no caller is locked out until the clock has caught up."""
    state, allowed = State(), limits("1", 2)
    assert take(state, allowed, 2) == ()
    assert take(state, allowed, at=NOW - 3600) == (BURST,)
    assert take(state, allowed, at=NOW + 1) == ()
    assert take(state, allowed, at=NOW + 3) == ()
    assert take(state, allowed, at=NOW - 3600) == ()
    assert take(state, allowed, at=NOW - 3600) == (BURST,)
    assert take(state, allowed, at=NOW - 3599) == ()


@pytest.mark.parametrize("of_key", [False, True], ids=["owner", "key"])
def test_an_empty_bucket_fills_again_after_a_step_back(of_key: bool) -> None:
    """However far the clock steps back, a refused caller has a token as soon as one has come in by the new clock."""
    tight = limits("1", 2)
    allowed, own = (UNLIMITED, tight) if of_key else (tight, UNLIMITED)
    for back in (1, 3600, 30 * DAY):
        state = State()
        times = [NOW, NOW, NOW, NOW - back, NOW - back + 0.999999, NOW - back + 1, NOW - back + 1]
        found = [step(state, question(allowed, at, own=own), round(at * MICRO)) for at in times]
        assert [bool(spent.refused) for spent in found] == [False, False, True, True, True, False, True]


def test_a_peek_after_a_step_back_changes_nothing() -> None:
    """A peek takes nothing and sets no time."""
    state, allowed = State(), limits("1", 2)
    assert take(state, allowed, 2) == ()
    before = deepcopy(state)
    step(state, replace(question(allowed, NOW - 60), operation="peek"), (NOW - 60) * MICRO)
    assert state == before


def test_limits_that_change_between_two_spends() -> None:
    """A smaller burst takes the excess away, a larger one fills at the rate; what another rate carried is dropped."""
    state = State()
    assert take(state, limits("1/min", 10)) == ()
    assert state.buckets[""][0] == 9 * MICRO
    assert take(state, limits("1/min", 3)) == ()
    assert state.buckets[""][0] == 2 * MICRO
    assert take(state, limits("1/min", 10), 3) == (BURST,)
    assert refill((2 * MICRO, 59, NOW), Rate(1, 2), 10, NOW) == (2 * MICRO, 0)


def test_no_bucket_and_no_quota() -> None:
    """Without limits everything passes and is counted; a quota of 0 refuses everything; a burst needs no quota."""
    state = State()
    assert take(state, Limits(), 10**9) == ()
    assert state.buckets == {}
    assert state.counters == {"d:20270115": 10**9, "m:20270101": 10**9, "m:20270101:key-1": 10**9}
    assert take(State(), Limits(daily_quota=0)) == (DAILY,)
    assert take(State(), Limits(monthly_quota=0)) == (MONTHLY,)
    assert take(State(), Limits(daily_quota=QUOTA_MAX)) == ()


def test_an_address_has_a_bucket_and_no_counters() -> None:
    """Where nothing is counted by day, a spend is a bucket's alone, and needs no seed."""
    state, asked = State(seeded=False), Spend(Owner("address", "site 203.0.113.7"), 1, limits("1", 2, 0, 0))
    assert [step(state, asked, NOW * MICRO).refused for _ in range(3)] == [(), (), (BURST,)]
    assert state == State(seeded=False, buckets={"": (0, 0, NOW * MICRO)})


def operate(state: State, operation: Operation, *, cost: int = 1, at: int = NOW) -> Spent:
    """A spend or a peek of one key at `at` (Unix seconds)."""
    asked = Spend(
        Owner("tenant", "org-1"),
        cost,
        limits("1/d", 5, 9, 9),
        UTC_CALENDAR,
        key_id="key-1",
        key_limits=limits("1/d", 3, 9, 9),
        operation=operation,
    )
    return step(state, asked.at(at), at * MICRO)


def test_a_peek_takes_nothing() -> None:
    """It has the result of a spend, and changes nothing."""
    state = State()
    assert operate(state, "peek") == operate(State(), "peek")
    assert state == State()
    operate(state, "spend", cost=3)
    before, peeked = deepcopy(state), operate(state, "peek")
    assert (peeked.refused, peeked.level, peeked.key_level, peeked.used["daily"]) == ((KEY_BURST,), 2 * MICRO, 0, 3)
    assert state == before


def test_a_request_that_is_charged_once() -> None:
    """It passes twice more without a charge, even where nothing is left; then it is charged like any other."""
    state, asked = State(), question(limits("1/d", 1))
    once = replace(asked, once="r1")
    found = [step(state, once, NOW * MICRO) for _ in range(4)]
    assert [(spent.refused, spent.repeated) for spent in found] == [
        ((), False),
        ((), True),
        ((), True),
        ((BURST,), False),
    ]
    assert state.days == {"d:20270115:key-1": (1, 1, 1)}
    assert state.once == {"r1": 2}


def test_windows_that_do_not_fit() -> None:
    """Where the store's day is none of the three, no spend is applied, and windows for its clock can be computed."""
    state, asked = State(), question(limits(daily=1))
    later = NOW + 40 * DAY
    assert spend(state, asked, later * MICRO) == NotApplied("window", later * MICRO)
    assert state == State()
    assert step(state, asked.at(later), later * MICRO).used["daily"] == 1


def test_counters_that_are_not_there() -> None:
    """No spend is applied for a tenant whose counters were not restored: they may have been lost."""
    state = State(seeded=False)
    assert spend(state, question(limits()), NOW * MICRO) == NotApplied("unseeded", NOW * MICRO)
    assert state == State(seeded=False)


def test_counts_that_began_without_postgresql_are_marked() -> None:
    """The flag is set beside the others, and changes no number."""
    spent = step(State(), question(limits()), NOW * MICRO)
    marked = spent.as_provisional()
    assert (spent.provisional, marked.provisional, marked.as_provisional()) == (False, True, marked)
    assert (marked.used, marked.level, marked.refused) == (spent.used, spent.level, spent.refused)


def test_spans_are_the_windows() -> None:
    """The restore reads each of the days and months that a spend may touch."""
    windows = question(limits()).windows
    assert windows is not None
    assert spans(windows) == [
        Span("d:20270114", date(2027, 1, 14), date(2027, 1, 15)),
        Span("d:20270115", date(2027, 1, 15), date(2027, 1, 16)),
        Span("d:20270116", date(2027, 1, 16), date(2027, 1, 17)),
        Span("m:20261201", date(2026, 12, 1), date(2027, 1, 1)),
        Span("m:20270101", date(2027, 1, 1), date(2027, 2, 1)),
        Span("m:20270201", date(2027, 2, 1), date(2027, 3, 1)),
    ]


def test_quotas_begin_again_at_midnight() -> None:
    """The last microsecond belongs to its day, the next one to the next day; months alike."""
    state, midnight = State(), 1_801_440_000 * MICRO  # 2027-02-01T00:00:00Z

    def refused(now: int) -> tuple[str, ...]:
        return step(state, question(Limits(daily_quota=1, monthly_quota=1), now / MICRO), now).refused

    assert refused(midnight - 1) == ()
    assert refused(midnight - 1) == (DAILY, MONTHLY)
    assert refused(midnight) == ()
    assert refused(midnight) == (DAILY, MONTHLY)
    assert refused(midnight + DAY * MICRO) == (MONTHLY,)
