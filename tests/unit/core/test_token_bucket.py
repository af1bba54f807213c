"""The arithmetic of a bucket: exact refill over time, in numbers that a double holds."""

from fractions import Fraction
from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from extauthz.core.limits import BURST_MAX, RATE_PER_SECOND_MAX, Rate
from extauthz.core.spend import MICRO
from extauthz.core.token_bucket import refill

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
waits = st.integers(0, 5 * MICRO) | st.integers(0, 40 * DAY * MICRO)  # microseconds


Bucket = tuple[tuple[int, int, int], Rate, int]


@st.composite
def buckets(draw: st.DrawFn) -> Bucket:
    """A bucket as a spend may have left it, perhaps under a larger burst than today's; its rate and burst today."""
    rate, burst = draw(rates), draw(bursts)
    level = draw(st.integers(0, burst * MICRO) | st.integers(0, BURST_MAX * MICRO))
    return (level, draw(st.integers(0, rate.seconds - 1)), NOW * MICRO), rate, burst


@given(buckets(), waits)
def test_refill_is_exact(bucket: Bucket, elapsed: int) -> None:
    """What comes in is the rate times the time, to the last fraction, until the bucket is full; never more."""
    stored, rate, burst = bucket
    level, carry = refill(stored, rate, burst, stored[2] + elapsed)
    exact = stored[0] + Fraction(stored[1] + elapsed * rate.tokens, rate.seconds)
    full = burst * MICRO
    assert 0 <= carry < rate.seconds
    assert level + Fraction(carry, rate.seconds) == min(exact, full)


@given(buckets(), st.lists(waits, max_size=5))
def test_many_small_steps_are_one_big_step(bucket: Bucket, steps: list[int]) -> None:
    """Refill is exact over time: many small steps give as much as a large one."""
    once, rate, burst = bucket
    often, now = once, once[2]
    for elapsed in steps:
        now += elapsed
        often = *refill(often, rate, burst, now), now
    assert refill(often, rate, burst, now) == refill(once, rate, burst, now)


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
        stored = Double(max(full - missing, 0)), Double(rate.seconds - 1), Double(0)
        level, carry = refill(stored, Rate(Double(rate.tokens), Double(rate.seconds)), Double(burst), Double(elapsed))
        assert 0 <= level <= full
        assert 0 <= carry < rate.seconds
