"""What a spend left, as headers tell it: every limit that applies, which one refused, when to come back."""

from dataclasses import dataclass
from typing import NamedTuple

from extauthz.core.calendar import DaysAndMonths
from extauthz.core.limits import UNLIMITED, Limits, Rate
from extauthz.core.reason import Reason
from extauthz.core.spend import BURST, DAILY, KEY_BURST, KEY_DAILY, KEY_MONTHLY, MICRO, MONTHLY, Spend, Spent

REFUSED_BY: dict[str, Reason] = {
    BURST: Reason.RATE_LIMITED,
    DAILY: Reason.DAILY_QUOTA_EXCEEDED,
    MONTHLY: Reason.MONTHLY_QUOTA_EXCEEDED,
    KEY_BURST: Reason.RATE_LIMITED,
    KEY_DAILY: Reason.DAILY_QUOTA_EXCEEDED,
    KEY_MONTHLY: Reason.MONTHLY_QUOTA_EXCEEDED,
}
BUCKETS = frozenset({BURST, KEY_BURST})


class LimitStatus(NamedTuple):
    """One limit after a spend: `size` and `remaining` whole units, `window` and `reset` seconds."""

    name: str
    size: int
    window: int
    remaining: int
    reset: int


@dataclass(slots=True)  # not frozen: one is made for every check, at a quarter of the price
class Balance:
    """What a spend left: every limit that applies, the refusing ones by name, seconds to wait (0 when allowed).

    `binding` is the limit that refused (the one with the longest wait), or on allow the one with the least left.
    """

    limit_statuses: tuple[LimitStatus, ...]
    refused: tuple[str, ...]
    retry_after: int
    binding: LimitStatus | None


def balance(asked: Spend, spent: Spent, *, jitter: int = 0) -> Balance:
    """What headers say of a spend. Who waits `retry_after` seconds and asks once passes, if nobody else asked.

    `jitter` seconds are added to the wait for a new day or month, so that not all come back in its first second.
    """
    limit_statuses: list[LimitStatus] = []
    _add_bucket(limit_statuses, BURST, asked.limits, level=spent.level, carry=spent.carry)
    windows = asked.windows
    if windows is not None:
        used = spent.by_day, spent.by_month
        _add_quotas(limit_statuses, (DAILY, MONTHLY), asked.limits, used, windows=windows, spent=spent)
    own = asked.key_limits
    if own is not UNLIMITED:
        _add_bucket(limit_statuses, KEY_BURST, own, level=spent.key_level, carry=spent.key_carry)
        if windows is not None:
            used = spent.key_by_day, spent.key_by_month
            _add_quotas(limit_statuses, (KEY_DAILY, KEY_MONTHLY), own, used, windows=windows, spent=spent)
    if spent.refused:
        return _refused(limit_statuses, asked, spent, jitter)
    least: LimitStatus | None = None
    for standing in limit_statuses:
        if least is None or standing.remaining < least.remaining:
            least = standing
    return Balance(tuple(limit_statuses), (), 0, least)


def _add_bucket(limit_statuses: list[LimitStatus], name: str, limits: Limits, *, level: int, carry: int) -> None:
    rate, burst = limits.rate, limits.burst
    if rate is not None and burst is not None:
        remaining = level // MICRO
        window = -(-burst * rate.seconds // rate.tokens)
        next_token = _wait(rate, (remaining + 1) * MICRO - level, carry)
        limit_statuses.append(LimitStatus(name, burst, window, remaining, next_token))


def _add_quotas(
    limit_statuses: list[LimitStatus],
    names: tuple[str, str],
    limits: Limits,
    used: tuple[int, int],
    *,
    windows: DaysAndMonths,
    spent: Spent,
) -> None:
    for name, limit, count, span, index in (
        (names[0], limits.daily_quota, used[0], windows.days, spent.day),
        (names[1], limits.monthly_quota, used[1], windows.months, spent.month),
    ):
        if limit is not None:
            start, end = span.bounds[index], span.bounds[index + 1]
            reset = -((spent.now - end * MICRO) // MICRO)
            left = limit - count
            limit_statuses.append(
                LimitStatus(name, limit, end - start, left if left > 0 else 0, reset if reset > 0 else 1)
            )


def _refused(limit_statuses: list[LimitStatus], asked: Spend, spent: Spent, jitter: int) -> Balance:
    waits: dict[str, int] = {}
    for standing in limit_statuses:
        if standing.name not in BUCKETS:
            waits[standing.name] = standing.reset + jitter
    for name, limits, level, carry in (
        (BURST, asked.limits, spent.level, spent.carry),
        (KEY_BURST, asked.key_limits, spent.key_level, spent.key_carry),
    ):
        if limits.rate is not None:
            waits[name] = _wait(limits.rate, asked.cost * MICRO - level, carry)
    strictest = max(spent.refused, key=lambda name: waits[name])
    binding = next(standing for standing in limit_statuses if standing.name == strictest)
    return Balance(tuple(limit_statuses), spent.refused, waits[strictest], binding)


def _wait(rate: Rate, missing: int, carry: int) -> int:
    """Whole seconds, rounded up, at least 1, until `missing` micro-tokens have come in."""
    microseconds = -((carry - missing * rate.seconds) // rate.tokens)
    seconds = -(-microseconds // MICRO)
    return seconds if seconds > 0 else 1
