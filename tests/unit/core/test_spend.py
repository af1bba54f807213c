"""The arithmetic of one spend: what comes in over time, and what is taken."""

from copy import deepcopy
from fractions import Fraction
from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from extauthz.core.limits import BURST_MAX, QUOTA_MAX, RATE_PER_SECOND_MAX, Limits, Rate
from extauthz.core.reason import Reason
from extauthz.core.spend import BURST, DAILY, MICRO, MONTHLY, State, plan, refill, spend

NOW = 1_800_000_000
DAY = 86_400
EXACT = 2**53  # above it a double, which is what the script computes with, no longer holds every whole number

# Every rate that can be parsed is at most this much in at most 864,000 seconds.
rates = st.builds(
    lambda seconds, tokens: Rate(max(1, min(tokens, RATE_PER_SECOND_MAX * seconds)), seconds),
    st.sampled_from([1, 2, 7, 60, 1000, 3600, 86_400, 864_000]),
    st.integers(1, 1000) | st.integers(1, RATE_PER_SECOND_MAX * 864_000),
)
bursts = st.integers(1, 100) | st.integers(1, BURST_MAX)
spans = st.integers(0, 5 * MICRO) | st.integers(0, 40 * DAY * MICRO)  # microseconds


def limits(
    rate: str | None = "10", burst: int | None = 5, daily: int | None = None, monthly: int | None = None
) -> Limits:
    return Limits(None if rate is None else Rate.parse(rate), burst, daily, monthly)


def fresh() -> State:
    return State(None, 0, 0, {})


def take(state: State, allowed: Limits, cost: int = 1, *, at: float = NOW) -> tuple[str, ...]:
    """Spends at `at` (Unix seconds) and says which limits refused."""
    asked = plan(allowed, cost, at)
    assert not isinstance(asked, Reason)
    return spend(state, asked, round(at * MICRO)).refused


@st.composite
def buckets(draw: st.DrawFn) -> tuple[State, Rate, int]:
    """A bucket as a spend may have left it, perhaps under a larger burst than today's."""
    rate, burst = draw(rates), draw(bursts)
    level = draw(st.integers(0, burst * MICRO) | st.integers(0, BURST_MAX * MICRO))
    return State(level, draw(st.integers(0, rate.seconds - 1)), NOW * MICRO, {}), rate, burst


@given(buckets(), spans)
@settings(max_examples=30)
def test_refill_is_exact(bucket: tuple[State, Rate, int], elapsed: int) -> None:
    """What comes in is the rate times the time, to the last fraction, until the bucket is full; never more."""
    state, rate, burst = bucket
    assert state.level is not None
    level, carry = refill(state, rate, burst, state.at + elapsed)
    exact = state.level + Fraction(state.carry + elapsed * rate.tokens, rate.seconds)
    full = burst * MICRO
    assert 0 <= carry < rate.seconds
    assert level + Fraction(carry, rate.seconds) == min(exact, full)


@given(buckets(), st.lists(spans, max_size=5))
@settings(max_examples=50)
def test_many_small_steps_are_one_big_step(bucket: tuple[State, Rate, int], steps: list[int]) -> None:
    """Nothing is lost over time: who asks often has as much as who asks once."""
    state, rate, burst = bucket
    now = state.at
    step = deepcopy(state)
    for elapsed in steps:
        now += elapsed
        step.level, step.carry = refill(step, rate, burst, now)
        step.at = now
    assert refill(step, rate, burst, now) == refill(state, rate, burst, now)


class Double(int):
    """A whole number that every operation checks: a double must hold it exactly."""

    def __new__(cls, value: int) -> "Double":
        assert abs(value) <= EXACT
        return super().__new__(cls, value)

    def __add__(self, other: int) -> "Double":
        return Double(int(self) + other)

    def __sub__(self, other: int) -> "Double":
        return Double(int(self) - other)

    def __mul__(self, other: int) -> "Double":
        return Double(int(self) * other)

    def __floordiv__(self, other: int) -> "Double":
        return Double(int(self) // other)

    def __divmod__(self, other: int) -> "tuple[Double, Double]":
        return Double(int(self) // other), Double(int(self) % other)

    def __neg__(self) -> "Double":
        return Double(-int(self))

    __radd__, __rmul__ = __add__, __mul__

    def __rsub__(self, other: int) -> "Double":
        return Double(other - int(self))


HUGE, TINY = Rate(RATE_PER_SECOND_MAX * 864_000 - 1, 864_000), Rate(1, 864_000)


def test_every_number_fits_a_double() -> None:
    """With the largest and the smallest rates, sizes and times, no step leaves what a double holds exactly."""
    everything = product(
        [HUGE, TINY, Rate(863_999, 864_000), Rate(RATE_PER_SECOND_MAX, 1), Rate(1, 1)],
        [1, BURST_MAX],
        [0, 1, MICRO, BURST_MAX * MICRO],
        [0, 1, 863_999, MICRO, 40 * DAY * MICRO, 4 * 10**15],
    )
    for rate, burst, missing, elapsed in everything:
        full = burst * MICRO
        state = State(Double(max(full - missing, 0)), Double(rate.seconds - 1), Double(0), {})
        level, carry = refill(state, Rate(Double(rate.tokens), Double(rate.seconds)), Double(burst), Double(elapsed))
        assert 0 <= level <= full
        assert 0 <= carry < rate.seconds


@given(rates, st.integers(1, 50), st.lists(st.tuples(spans, st.integers(1, 5)), max_size=12))
@settings(max_examples=40)
def test_never_more_than_burst_and_rate_allow(rate: Rate, burst: int, requests: list[tuple[int, int]]) -> None:
    """Whatever is asked and when: all that passed is at most the burst and what came in since the first request."""
    allowed, state, now, taken = Limits(rate, burst), fresh(), NOW * MICRO, 0
    for elapsed, cost in requests:
        now += elapsed
        asked = plan(allowed, min(cost, burst), now / MICRO)
        assert not isinstance(asked, Reason)
        taken += 0 if spend(state, asked, now).refused else asked.cost
    assert taken <= burst + Fraction((now - NOW * MICRO) * rate.tokens, rate.seconds * MICRO)


def test_taken_from_all_or_from_none() -> None:
    """One limit that refuses keeps all others as they were; which refused is said for each of them."""
    state, allowed = fresh(), limits(burst=5, daily=7, monthly=8)
    assert take(state, allowed, 4) == ()
    assert state.counters == {"d:20270115": 4, "m:202701": 4}
    before = deepcopy(state)
    assert take(state, allowed, 5, at=NOW + 0.1) == (BURST, DAILY, MONTHLY)
    assert take(state, allowed, 4, at=NOW + 60) == (DAILY,)
    assert take(state, allowed, 4, at=NOW + DAY) == ()
    assert before.counters == {"d:20270115": 4, "m:202701": 4}
    assert state.counters == {"d:20270115": 4, "d:20270116": 4, "m:202701": 8}


@given(buckets(), st.integers(1, 100), st.integers(0, 5), st.integers(-5, 5))
@settings(max_examples=30)
def test_a_refusal_leaves_no_trace(bucket: tuple[State, Rate, int], cost: int, daily: int, seconds: int) -> None:
    """A refused spend leaves the state as it was, an allowed one takes its cost from bucket and counters."""
    state, rate, burst = bucket
    asked = plan(Limits(rate, burst, daily), min(cost, burst), NOW)
    assert not isinstance(asked, Reason)
    before, now = deepcopy(state), (NOW + seconds) * MICRO
    refilled, carry = refill(state, rate, burst, now)
    spent = spend(state, asked, now)
    if spent.refused:
        assert state == before
        assert (spent.level, spent.carry, spent.used) == (refilled, carry, (0, 0))
    else:
        left = refilled - asked.cost * MICRO
        assert (state.level, state.carry, state.at) == (spent.level, spent.carry, now) == (left, carry, now)
        assert spent.used == (asked.cost, asked.cost)


def test_a_clock_that_steps_back_neither_gives_nor_takes() -> None:
    """Nothing comes in for time that did not pass, and nobody is locked out until the clock has caught up."""
    state, allowed = fresh(), limits("1", 2)
    assert take(state, allowed, 2) == ()
    assert take(state, allowed, at=NOW - 3600) == (BURST,)
    assert take(state, allowed, at=NOW + 1) == ()
    assert take(state, allowed, at=NOW + 3) == ()
    assert take(state, allowed, at=NOW - 3600) == ()
    assert take(state, allowed, at=NOW - 3600) == (BURST,)
    assert take(state, allowed, at=NOW - 3599) == ()


def test_limits_that_change_between_two_spends() -> None:
    """A smaller burst takes the excess away, a larger one fills at the rate; what another rate carried is dropped."""
    state = fresh()
    assert take(state, limits("1/min", 10)) == ()
    assert state.level == 9 * MICRO
    assert take(state, limits("1/min", 3)) == ()
    assert state.level == 2 * MICRO
    assert take(state, limits("1/min", 10), 3) == (BURST,)
    state.carry = 59
    assert refill(state, Rate(1, 2), 10, state.at) == (2 * MICRO, 0)


def test_no_bucket_and_no_quota() -> None:
    """Without limits everything passes and is counted; a quota of 0 refuses everything; a burst needs no quota."""
    state = fresh()
    assert take(state, Limits(), 10**9) == ()
    assert state == State(None, 0, 0, {"d:20270115": 10**9, "m:202701": 10**9})
    assert take(fresh(), Limits(daily_quota=0)) == (DAILY,)
    assert take(fresh(), Limits(monthly_quota=0)) == (MONTHLY,)
    assert take(fresh(), Limits(daily_quota=QUOTA_MAX)) == ()


def test_what_no_wait_makes_fit() -> None:
    """A cost above the burst is told apart from one that has to wait."""
    assert plan(limits(burst=5), 6, NOW) is Reason.COST_EXCEEDS_LIMIT
    assert plan(limits(burst=5), 5, NOW) is not Reason.COST_EXCEEDS_LIMIT
    assert plan(Limits(), 10**9, NOW) is not Reason.COST_EXCEEDS_LIMIT


def test_windows_that_do_not_fit() -> None:
    """Where the store's day is none of the three, nothing happens, and windows for its clock can be had."""
    state, asked = fresh(), plan(limits(daily=1), 1, NOW)
    assert not isinstance(asked, Reason)
    later = NOW + 40 * DAY
    spent = spend(state, asked, later * MICRO)
    assert (spent.windows, spent.refused, state) == ((), (), fresh())
    assert spend(state, asked.at(later), later * MICRO).used == (1, 1)
