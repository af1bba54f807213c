"""One spend: refill the bucket, check bucket and quotas, take from all or from none.

`spend` is the twin of the Lua script that runs in Redis: integers only, the same steps in the same order. A bucket is
kept in micro-tokens and microseconds, so a rate of `tokens` in `seconds` adds tokens / seconds micro-tokens a
microsecond; what that division leaves is carried, so nothing is lost over time.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import pairwise

from extauthz.core.limits import Limits, Rate
from extauthz.core.reason import Reason

MICRO = 1_000_000
DAY_SECONDS = 86_400
BURST, DAILY, MONTHLY = "burst", "daily", "monthly"


@dataclass(frozen=True, slots=True)
class Window:
    """One day or month: the counter's field in the tenant's hash, first and first-after microsecond (Unix)."""

    field: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Quota:
    """A counter over the windows round now. `limit` None counts without refusing."""

    name: str
    limit: int | None
    windows: tuple[Window, ...]


@dataclass(frozen=True, slots=True)
class Spend:
    """What a request asks of its tenant's limits: `cost` whole tokens of the bucket and of every quota, or of none."""

    cost: int
    rate: Rate | None
    burst: int
    quotas: tuple[Quota, ...]

    def at(self, now: float) -> "Spend":
        """The same spend with the windows round `now` (Unix seconds)."""
        return replace(self, quotas=tuple(replace(quota, windows=WINDOWS[quota.name](now)) for quota in self.quotas))


@dataclass(slots=True)
class State:
    """A tenant's stored state.

    `level` micro-tokens (None: a bucket that was never used, full), `carry` in units of 1 / rate.seconds micro-tokens,
    `at` microseconds.
    """

    level: int | None
    carry: int
    at: int
    counters: dict[str, int]


@dataclass(frozen=True, slots=True)
class Spent:
    """The outcome of one spend as the script reports it; nothing was taken when `refused` names a limit.

    `now` microseconds of the store's clock, `level` and `carry` of the bucket afterwards, `used` and `windows` of each
    quota in the order of the spend. `windows` is empty when none fits the store's clock: then nothing happened at all.
    """

    now: int
    refused: tuple[str, ...]
    level: int
    carry: int
    used: tuple[int, ...]
    windows: tuple[Window, ...]


def plan(limits: Limits, cost: int, now: float) -> Spend | Reason:
    """The spend of a request of `cost` at `now` (Unix seconds), or the reason why no wait could ever make it fit."""
    if limits.burst is not None and cost > limits.burst:
        return Reason.COST_EXCEEDS_LIMIT
    quotas = (Quota(DAILY, limits.daily_quota, ()), Quota(MONTHLY, limits.monthly_quota, ()))
    return Spend(cost=cost, rate=limits.rate, burst=limits.burst or 0, quotas=quotas).at(now)


def day_windows(now: float) -> tuple[Window, ...]:
    """Yesterday, today and tomorrow in UTC: clocks of two machines may disagree about midnight."""
    return _windows_of_day(int(now // DAY_SECONDS))[DAILY]


def month_windows(now: float) -> tuple[Window, ...]:
    """The last, this and the next calendar month in UTC."""
    return _windows_of_day(int(now // DAY_SECONDS))[MONTHLY]


@lru_cache(maxsize=4)  # every check of a day has the same ones
def _windows_of_day(day: int) -> dict[str, tuple[Window, ...]]:
    today = datetime.fromtimestamp(day * DAY_SECONDS, UTC)
    this = today.replace(day=1)
    following = (this + timedelta(days=31)).replace(day=1)
    months = [
        (this - timedelta(days=1)).replace(day=1),
        this,
        following,
        (following + timedelta(days=31)).replace(day=1),
    ]
    days = [today + timedelta(days=offset) for offset in (-1, 0, 1, 2)]
    return {DAILY: _windows("d", "%Y%m%d", days), MONTHLY: _windows("m", "%Y%m", months)}


def _windows(letter: str, form: str, starts: list[datetime]) -> tuple[Window, ...]:
    return tuple(
        Window(f"{letter}:{start.strftime(form)}", int(start.timestamp()) * MICRO, int(end.timestamp()) * MICRO)
        for start, end in pairwise(starts)
    )


WINDOWS: dict[str, Callable[[float], tuple[Window, ...]]] = {DAILY: day_windows, MONTHLY: month_windows}


def refill(state: State, rate: Rate, burst: int, now: int) -> tuple[int, int]:
    """Level (micro-tokens) and carry of a bucket at `now` (microseconds), at most full; the clock may step back."""
    full = burst * MICRO
    if state.level is None:
        return full, 0
    level = min(state.level, full)
    carry = state.carry if state.carry < rate.seconds else 0
    elapsed = max(now - state.at, 0)
    whole, part = divmod(rate.tokens, rate.seconds)
    if whole > 0 and elapsed >= -((level - full) // whole):
        return full, 0
    # `elapsed` is split before it is multiplied, so that no product passes 2^53 in the script.
    periods, rest = divmod(elapsed, rate.seconds)
    extra, carry = divmod(rest * part + carry, rate.seconds)
    level += elapsed * whole + periods * part + extra
    return (full, 0) if level >= full else (level, carry)


def spend(state: State, asked: Spend, now: int) -> Spent:
    """Refill, check every limit, take from all of them or from none; `state` changes only when something was taken."""
    windows: list[Window] = []
    for quota in asked.quotas:
        fitting = [window for window in quota.windows if window.start <= now < window.end]
        if not fitting:
            return Spent(now, (), 0, 0, (), ())
        windows.append(fitting[0])
    refused: list[str] = []
    level = carry = 0
    if asked.rate is not None:
        level, carry = refill(state, asked.rate, asked.burst, now)
        if level < asked.cost * MICRO:
            refused.append(BURST)
    used = [state.counters.get(window.field, 0) for window in windows]
    for quota, count in zip(asked.quotas, used, strict=True):
        if quota.limit is not None and count + asked.cost > quota.limit:
            refused.append(quota.name)
    if not refused:
        if asked.rate is not None:
            level -= asked.cost * MICRO
            state.level, state.carry, state.at = level, carry, now
        used = [count + asked.cost for count in used]
        state.counters.update({window.field: count for window, count in zip(windows, used, strict=True)})
    return Spent(now, tuple(refused), level, carry, tuple(used), tuple(windows))
