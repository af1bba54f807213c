"""What a spend left: the wait that refusals name, the limit that binds, and the decision that follows."""

from copy import deepcopy
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extauthz.core.balance import Balance, Standing, balance
from extauthz.core.decision import Allow, Deny, conclude
from extauthz.core.identity import Identity
from extauthz.core.limits import Limits, Rate
from extauthz.core.reason import Reason
from extauthz.core.spend import BURST, DAILY, MICRO, MONTHLY, Spend, State, plan, refill, spend

NOW = 1_800_000_000
DAY = 86_400
DAY_END = 1_800_057_600  # 2027-01-16T00:00:00Z
MONTH_END = 1_801_440_000  # 2027-02-01T00:00:00Z
WHO = Identity("org-1", "key-1", "customer:read", "pro")


def asked(limits: Limits, cost: int, now: float) -> Spend:
    spend_ = plan(limits, cost, now)
    assert not isinstance(spend_, Reason)
    return spend_


def ask(state: State, limits: Limits, cost: int = 1, *, at: int = NOW * MICRO) -> Balance:
    """Spends at `at` (microseconds)."""
    question = asked(limits, cost, at / MICRO)
    return balance(question, spend(state, question, at))


def fresh(**counters: int) -> State:
    """A tenant's state with `day` and `month` used so much."""
    fields = {"day": "d:20270115", "month": "m:202701"}
    return State(None, 0, 0, {fields[name]: used for name, used in counters.items()})


@st.composite
def tenants(draw: st.DrawFn) -> tuple[Limits, State, int, int]:
    """Limits, a state under them, a cost that can fit, and a moment in microseconds."""
    burst = draw(st.integers(1, 50))
    rate = Rate(draw(st.integers(1, 10**6)), draw(st.sampled_from([1, 7, 60, 1000, 86_400, 864_000])))
    cost = draw(st.integers(1, burst))
    quotas = st.none() | st.integers(cost, 60)
    midnight = (DAY_END - NOW) * MICRO
    now = NOW * MICRO + draw(st.integers(midnight - 3 * MICRO, midnight + 3 * MICRO) | st.integers(0, 40 * DAY * MICRO))
    state = State(draw(st.integers(0, burst * MICRO)), draw(st.integers(0, rate.seconds - 1)), now, {})
    for window in asked(Limits(), 1, now / MICRO).quotas:
        state.counters |= {window.windows[1].field: draw(st.integers(0, 60))}
    return Limits(rate, burst, draw(quotas), draw(quotas)), state, cost, now


@given(tenants())
@settings(max_examples=50)
def test_retry_after_is_honest(tenant: tuple[Limits, State, int, int]) -> None:
    """Who waits `Retry-After` seconds and asks once passes; who waits one second less is refused. It is never 0."""
    limits, state, cost, now = tenant
    left = ask(state, limits, cost, at=now)
    if not left.refused:
        assert left.retry_after == 0
        return
    assert left.retry_after >= 1
    if left.retry_after > 1:
        early = now + (left.retry_after - 1) * MICRO
        assert ask(deepcopy(state), limits, cost, at=early).refused
    assert not ask(deepcopy(state), limits, cost, at=now + left.retry_after * MICRO).refused


@given(tenants())
@settings(max_examples=30)
def test_seconds_to_the_next_token_are_honest(tenant: tuple[Limits, State, int, int]) -> None:
    """After `t` seconds there is one whole token more than `r`, and a second before there is not."""
    limits, state, cost, now = tenant
    rate, burst = limits.rate, limits.burst
    assert rate is not None
    assert burst is not None
    (bucket,) = ask(state, Limits(rate, burst), cost, at=now).standings
    for wait, more in ((bucket.reset, True), (bucket.reset - 1, False)):
        level, _ = refill(state, rate, burst, now + wait * MICRO)
        assert (level // MICRO > bucket.remaining) is more


def test_standing_of_every_limit() -> None:
    """Size, window, whole units left and whole seconds to the next token or the window's end, for each limit."""
    left = ask(fresh(day=787, month=5000), Limits(Rate(50, 1), 100, 100_000, 200_000), 63)
    assert left.standings == (
        Standing(BURST, 100, 2, 37, 1),
        Standing(DAILY, 100_000, DAY, 99_150, DAY_END - NOW),
        Standing(MONTHLY, 200_000, 31 * DAY, 194_937, MONTH_END - NOW),
    )
    assert ask(fresh(), Limits()).standings == ()


@pytest.mark.parametrize(
    ("rate", "burst", "window"),
    [(Rate(10, 1), 20, 2), (Rate(10, 1), 21, 3), (Rate(1000, 1), 1, 1), (Rate(1, 86_400), 2, 2 * DAY)],
)
def test_window_of_the_bucket(rate: Rate, burst: int, window: int) -> None:
    """The time to fill an empty bucket, rounded up."""
    assert ask(fresh(), Limits(rate, burst)).standings[0].window == window


def test_a_second_is_rounded_up() -> None:
    """A window that ends in a microsecond is said to end in a second, and so is a token that is about to come."""
    left = ask(fresh(), Limits(Rate(10**6, 1), 1, 5), at=DAY_END * MICRO - 1)
    assert [standing.reset for standing in left.standings] == [1, 1]
    left = ask(fresh(), Limits(Rate(1, 2), 1, 5), at=DAY_END * MICRO - 1_000_001)
    assert [standing.reset for standing in left.standings] == [2, 2]


def test_what_was_carried_counts() -> None:
    """The part of a micro-token that is already there is not waited for again: here it makes two seconds one."""
    almost = State(MICRO - 16_667, 20, NOW * MICRO, {})
    assert ask(almost, Limits(Rate(1, 60), 1)).retry_after == 1
    assert ask(replace(almost, carry=19), Limits(Rate(1, 60), 1)).retry_after == 2


@pytest.mark.parametrize(
    ("limits", "state", "refused", "binding", "wait"),
    [
        (Limits(Rate(1, 1), 1, 9), State(0, 0, NOW * MICRO, {}), (BURST,), BURST, 1),
        (Limits(Rate(1, 1), 1, 9), fresh(day=9), (DAILY,), DAILY, DAY_END - NOW),
        (Limits(Rate(1, 1), 1, 9, 9), fresh(day=9, month=9), (DAILY, MONTHLY), MONTHLY, MONTH_END - NOW),
        (Limits(Rate(1, 1), 1, 0), State(0, 0, NOW * MICRO, {}), (BURST, DAILY), DAILY, DAY_END - NOW),
        (Limits(Rate(1, 86_400), 1, 0), State(0, 0, NOW * MICRO, {}), (BURST, DAILY), BURST, DAY),
        (Limits(None, None, None, 0), fresh(), (MONTHLY,), MONTHLY, MONTH_END - NOW),
    ],
)
def test_the_strictest_refusal_wins(
    limits: Limits, state: State, refused: tuple[str, ...], binding: str, wait: int
) -> None:
    """Of the limits that refused, the one with the longest wait is named and waited for."""
    left = ask(state, limits)
    assert left.refused == refused
    assert left.retry_after == wait
    assert left.binding is not None
    assert left.binding.name == binding


def test_on_allow_the_least_left_binds() -> None:
    """An allowed request names the limit with the smallest rest, and none where there are no limits."""
    left = ask(fresh(day=7), Limits(Rate(1, 1), 5, 9))
    assert left.binding == Standing(DAILY, 9, DAY, 1, DAY_END - NOW)
    assert ask(fresh(), Limits()).binding is None


def test_nothing_left_is_not_less_than_nothing() -> None:
    """After a quota was lowered below what is used, the rest is 0."""
    left = ask(fresh(day=70), Limits(daily_quota=9))
    assert (left.refused, left.standings[0].remaining) == ((DAILY,), 0)


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (State(0, 0, NOW * MICRO, {}), Reason.RATE_LIMITED),
        (fresh(day=9), Reason.DAILY_QUOTA_EXCEEDED),
        (fresh(month=90), Reason.MONTHLY_QUOTA_EXCEEDED),
    ],
)
def test_refusals_become_decisions(state: State, reason: Reason) -> None:
    """Each limit has its decision, which carries the balance and the wait."""
    left = ask(state, Limits(Rate(1, 1), 1, 9, 90))
    assert conclude(WHO, left, 1) == Deny(reason, reason.value, retry_after=left.retry_after, balance=left)


def test_an_allow_carries_who_and_what_was_taken() -> None:
    """The allow says who passed, what is left and what it cost, with limits and without."""
    for limits in (Limits(Rate(1, 1), 5, 9), Limits()):
        left = ask(fresh(), limits, 3)
        assert conclude(WHO, left, 3) == Allow(WHO, left, cost=3)
