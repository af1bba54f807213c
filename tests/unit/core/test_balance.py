"""The result of a spend: the wait in refusals, the limit that binds, and the decision that follows."""

from copy import deepcopy
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from extauthz.core.balance import Balance, LimitStatus, balance
from extauthz.core.calendar import UTC_CALENDAR, Calendar
from extauthz.core.decision import (
    AUTHENTICATION_UNAVAILABLE,
    LIMITS_UNAVAILABLE,
    TOO_MANY_UNREAD,
    Allow,
    Deny,
    conclude,
    deny,
    only_shadow,
)
from extauthz.core.errors import StoreUnavailable
from extauthz.core.failure import OnRedisDown, without_identity, without_limits
from extauthz.core.limits import UNLIMITED, Limits, Rate
from extauthz.core.reason import Reason
from extauthz.core.spend import MICRO, Owner, Spend, Spent
from extauthz.core.subject import Identity
from extauthz.core.token_bucket import State, refill, spend
from tests.limit_names import BURST, DAILY, KEY_BURST, KEY_DAILY, KEY_MONTHLY, MONTHLY

NOW = 1_800_000_000
DAY = 86_400
DAY_END = 1_800_057_600  # 2027-01-16T00:00:00Z
MONTH_END = 1_801_440_000  # 2027-02-01T00:00:00Z
WHO = Identity("org-1", "key-1", "customer:read", "pro")


def question(limits: Limits, at: int, *, cost: int = 1, own: Limits = UNLIMITED) -> Spend:
    """What a request asks at `at` (microseconds); `own` are limits of its key."""
    asked = Spend(Owner("tenant", "org-1"), cost, limits, UTC_CALENDAR, key_id="key-1", key_limits=own)
    return asked.at(at / MICRO)


def ask(
    state: State, limits: Limits, cost: int = 1, *, own: Limits = UNLIMITED, at: int = NOW * MICRO, jitter: int = 0
) -> Balance:
    """Spends at `at` (microseconds)."""
    asked = question(limits, at, cost=cost, own=own)
    spent = spend(state, asked, at)
    assert isinstance(spent, Spent)
    return balance(asked, spent, jitter=jitter)


def fresh(**counters: int) -> State:
    """A tenant's state with `day` and `month` used so much, `key_day` and `key_month` of it by the key."""
    state = State(counters={"d:20270115": counters.get("day", 0), "m:20270101": counters.get("month", 0)})
    state.counters["m:20270101:key-1"] = counters.get("key_month", 0)
    state.days["d:20270115:key-1"] = counters.get("key_day", 0), 1, 1
    return state


def empty(bucket: str = "") -> State:
    """A state with nothing in the organization's bucket, or in that of a key."""
    return State(buckets={bucket: (0, 0, NOW * MICRO)})


@st.composite
def some_limits(draw: st.DrawFn, cost: int) -> tuple[Limits, tuple[int, int]]:
    """Limits that a cost can fit, and what is in the bucket: level and carry."""
    burst = draw(st.integers(cost, 50))
    rate = Rate(draw(st.integers(1, 10**6)), draw(st.sampled_from([1, 7, 60, 1000, 86_400, 864_000])))
    quotas = st.none() | st.integers(cost, 60)
    bucket = draw(st.integers(0, burst * MICRO)), draw(st.integers(0, rate.seconds - 1))
    return Limits(rate, burst, draw(quotas), draw(quotas)), bucket


Tenant = tuple[Limits, Limits, State, int, int]


@st.composite
def tenants(draw: st.DrawFn) -> Tenant:
    """Limits of an organization and of its key, a state under them, a cost that can fit, a moment in microseconds."""
    cost = draw(st.integers(1, 50))
    limits, bucket = draw(some_limits(cost))
    own, key_bucket = draw(some_limits(cost))
    midnight = (DAY_END - NOW) * MICRO
    now = NOW * MICRO + draw(st.integers(midnight - 3 * MICRO, midnight + 3 * MICRO) | st.integers(0, 40 * DAY * MICRO))
    state = State(buckets={"": (*bucket, now), "key-1": (*key_bucket, now)})
    spent = spend(state, question(UNLIMITED, now), now)
    assert isinstance(spent, Spent)  # from here on the fields of that day and month are there
    state.counters = {field: draw(st.integers(0, 60)) for field in state.counters}
    state.days = {field: (draw(st.integers(0, 60)), 1, 1) for field in state.days}
    return limits, own, state, cost, now


@given(tenants())
def test_retry_after_is_honest(tenant: Tenant) -> None:
    """A request after `Retry-After` seconds passes; one a second earlier is refused. It is never 0."""
    limits, own, state, cost, now = tenant
    left = ask(state, limits, cost, own=own, at=now)
    if not left.refused:
        assert left.retry_after == 0
        return
    assert left.retry_after is not None
    assert left.retry_after >= 1
    if left.retry_after > 1:
        early = now + (left.retry_after - 1) * MICRO
        assert ask(deepcopy(state), limits, cost, own=own, at=early).refused
    assert not ask(deepcopy(state), limits, cost, own=own, at=now + left.retry_after * MICRO).refused


@given(tenants())
def test_seconds_to_the_next_token_are_honest(tenant: Tenant) -> None:
    """After `t` seconds there is one whole token more than `r`, and a second before there is not."""
    limits, _, state, cost, now = tenant
    rate, burst = limits.rate, limits.burst
    assert rate is not None
    assert burst is not None
    (bucket,) = ask(state, Limits(rate, burst), cost, at=now).limit_statuses
    assert bucket.reset is not None
    for wait, more in ((bucket.reset, True), (bucket.reset - 1, False)):
        level, _ = refill(state.buckets[""], rate, burst, now + wait * MICRO)
        assert (level // MICRO > bucket.remaining) is more


def test_status_of_every_limit() -> None:
    """Size, window, whole units left and whole seconds to the next token or the window's end, for each limit."""
    left = ask(fresh(day=787, month=5000), Limits(Rate(50, 1), 100, 100_000, 200_000), 63)
    assert left.limit_statuses == (
        LimitStatus(BURST, 100, 2, 37, 1),
        LimitStatus(DAILY, 100_000, DAY, 99_150, DAY_END - NOW),
        LimitStatus(MONTHLY, 200_000, 31 * DAY, 194_937, MONTH_END - NOW),
    )
    assert ask(fresh(), Limits()).limit_statuses == ()


def test_status_of_a_keys_limits() -> None:
    """They follow the organization's, by names of their own."""
    own = Limits(Rate(1, 60), 5, 10, 20)
    left = ask(fresh(day=50, month=60, key_day=7, key_month=8), Limits(Rate(50, 1), 100, 90), 2, own=own)
    assert left.limit_statuses == (
        LimitStatus(BURST, 100, 2, 98, 1),
        LimitStatus(DAILY, 90, DAY, 38, DAY_END - NOW),
        LimitStatus(KEY_BURST, 5, 300, 3, 60),
        LimitStatus(KEY_DAILY, 10, DAY, 1, DAY_END - NOW),
        LimitStatus(KEY_MONTHLY, 20, 31 * DAY, 10, MONTH_END - NOW),
    )
    assert left.binding == left.limit_statuses[3]


def test_windows_as_the_calendar_has_them() -> None:
    """`w` is the length of the current day and month, an hour less where clocks are put forward."""
    at = 1_806_220_800 * MICRO  # 2027-03-28T12:00:00Z
    lengths = {
        Calendar("Europe/Berlin"): (23 * 3600, 31 * DAY - 3600),
        Calendar("Europe/Berlin", 15): (23 * 3600, 31 * DAY - 3600),
        Calendar("UTC", 31): (DAY, 31 * DAY),
    }
    for calendar, (day, month) in lengths.items():
        asked = replace(question(Limits(None, None, 5, 5), at), calendar=calendar).at(at / MICRO)
        spent = spend(State(), asked, at)
        assert isinstance(spent, Spent)
        assert [standing.window for standing in balance(asked, spent).limit_statuses] == [day, month]


def test_window_of_the_bucket() -> None:
    """The time to fill an empty bucket, rounded up."""
    buckets = {(Rate(10, 1), 20): 2, (Rate(10, 1), 21): 3, (Rate(1000, 1), 1): 1, (Rate(1, DAY), 2): 2 * DAY}
    for (rate, burst), window in buckets.items():
        assert ask(fresh(), Limits(rate, burst)).limit_statuses[0].window == window


def test_a_second_is_rounded_up() -> None:
    """A wait of a microsecond for a window's end or a token is reported as one second."""
    left = ask(fresh(), Limits(Rate(10**6, 1), 1, 5), at=DAY_END * MICRO - 1)
    assert [standing.reset for standing in left.limit_statuses] == [1, 1]
    left = ask(fresh(), Limits(Rate(1, 2), 1, 5), at=DAY_END * MICRO - 1_000_001)
    assert [standing.reset for standing in left.limit_statuses] == [2, 2]


def test_carry_shortens_the_wait() -> None:
    """The carried part of a micro-token shortens the wait: here from two seconds to one."""
    almost = (MICRO - 16_667, 20, NOW * MICRO)
    assert ask(State(buckets={"": almost}), Limits(Rate(1, 60), 1)).retry_after == 1
    less = almost[0], almost[1] - 1, almost[2]
    assert ask(State(buckets={"": less}), Limits(Rate(1, 60), 1)).retry_after == 2


REFUSALS: list[tuple[Limits, State, tuple[str, ...], str, int]] = [
    (Limits(Rate(1, 1), 1, 9), empty(), (BURST,), BURST, 1),
    (Limits(Rate(1, 1), 1, 9), fresh(day=9), (DAILY,), DAILY, DAY_END - NOW),
    (Limits(Rate(1, 1), 1, 9, 9), fresh(day=9, month=9), (DAILY, MONTHLY), MONTHLY, MONTH_END - NOW),
    (Limits(Rate(1, 1), 1, 0), empty(), (BURST, DAILY), DAILY, DAY_END - NOW),
    (Limits(Rate(1, 86_400), 1, 0), empty(), (BURST, DAILY), BURST, DAY),
    (Limits(None, None, None, 0), fresh(), (MONTHLY,), MONTHLY, MONTH_END - NOW),
]


def test_the_strictest_refusal_wins() -> None:
    """Of the limits that refused, the one with the longest wait decides."""
    for limits, state, *expected in REFUSALS:
        left = ask(state, limits)
        assert left.binding is not None
        assert [left.refused, left.binding.name, left.retry_after] == expected


def test_of_a_key_and_its_organization_the_strictest_wins() -> None:
    """A key's refusal is named as the key's, and the longer wait of the two counts."""
    limits, own = Limits(Rate(1, 1), 5, 9), Limits(Rate(1, 60), 5, 5)
    left = ask(empty("key-1"), limits, own=own)
    assert (left.refused, left.retry_after) == ((KEY_BURST,), 60)
    assert left.binding == LimitStatus(KEY_BURST, 5, 300, 0, 60)
    left = ask(fresh(day=9, key_day=5), limits, own=own)
    assert (left.refused, left.retry_after) == ((DAILY, KEY_DAILY), DAY_END - NOW)
    refused = conclude(WHO, left, 1)
    assert refused.reason is Reason.DAILY_QUOTA_EXCEEDED


def test_jitter_is_for_new_days_and_months() -> None:
    """Jitter is added to the wait for a window's end, never to that for a token or to limits in headers."""
    quota, bucket = Limits(daily_quota=9), Limits(Rate(1, 60), 1)
    left = ask(fresh(day=9), quota, jitter=3)
    assert (left.retry_after, left.limit_statuses[0].reset) == (DAY_END - NOW + 3, DAY_END - NOW)
    assert ask(empty(), bucket, jitter=3).retry_after == 60
    assert ask(fresh(), quota, jitter=3).retry_after == 0


def test_on_allow_the_least_left_binds() -> None:
    """An allowed request names the limit with the smallest remainder, and none without limits."""
    left = ask(fresh(day=7), Limits(Rate(1, 1), 5, 9))
    assert left.binding == LimitStatus(DAILY, 9, DAY, 1, DAY_END - NOW)
    assert ask(fresh(), Limits()).binding is None


def test_remainder_is_never_negative() -> None:
    """After a quota was lowered below its use, the remainder is 0."""
    left = ask(fresh(day=70), Limits(daily_quota=9))
    assert (left.refused, left.limit_statuses[0].remaining) == ((DAILY,), 0)


def test_refusals_become_decisions() -> None:
    """Each limit has its decision, which carries the balance and the wait."""
    for state, reason in (
        (empty(), Reason.RATE_LIMITED),
        (fresh(day=9), Reason.DAILY_QUOTA_EXCEEDED),
        (fresh(month=90), Reason.MONTHLY_QUOTA_EXCEEDED),
    ):
        left = ask(state, Limits(Rate(1, 1), 1, 9, 90))
        assert conclude(WHO, left, 1) == Deny(reason, reason.value, retry_after=left.retry_after, balance=left)


def test_allow_carries_subject_and_cost() -> None:
    """An allow names the subject, the remainder and the cost, with limits and without."""
    for limits in (Limits(Rate(1, 1), 5, 9), Limits()):
        left = ask(fresh(), limits, 3)
        assert conclude(WHO, left, 3) == Allow(WHO, left, cost=3)


def test_limits_in_shadow_refuse_nothing() -> None:
    """A denial becomes an allow of which clients are told no limits; an allow stays what it was."""
    left = ask(fresh(), Limits())
    assert only_shadow(Allow(WHO, left, cost=3), WHO) == Allow(WHO, left, cost=3, shadow=True)
    assert only_shadow(deny(Reason.RATE_LIMITED), WHO) == Allow(WHO, shadow=True)


def test_stores_that_are_away() -> None:
    """Without the key nothing passes, where too many are read as little; without limits the setting decides."""
    assert without_identity(StoreUnavailable("postgresql", "connection")) is AUTHENTICATION_UNAVAILABLE
    assert without_identity(StoreUnavailable("postgresql", "busy")) is TOO_MANY_UNREAD
    assert without_limits(OnRedisDown.CLOSED, WHO) is LIMITS_UNAVAILABLE
    assert without_limits(OnRedisDown.OPEN, WHO) == Allow(WHO, degraded=True)
