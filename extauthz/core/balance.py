"""What a spend left, as headers tell it: every limit that applies, which one refused, when to come back."""

from dataclasses import dataclass
from typing import NamedTuple

from extauthz.core.limits import Limits, Rate
from extauthz.core.reason import Reason
from extauthz.core.spend import (
    BURST,
    DAILY,
    KEY_BURST,
    KEY_DAILY,
    KEY_MONTHLY,
    MICRO,
    MONTHLY,
    NAMES,
    Spend,
    Spent,
)

REFUSED_BY: dict[str, Reason] = {
    BURST: Reason.RATE_LIMITED,
    DAILY: Reason.DAILY_QUOTA_EXCEEDED,
    MONTHLY: Reason.MONTHLY_QUOTA_EXCEEDED,
    KEY_BURST: Reason.RATE_LIMITED,
    KEY_DAILY: Reason.DAILY_QUOTA_EXCEEDED,
    KEY_MONTHLY: Reason.MONTHLY_QUOTA_EXCEEDED,
}
BUCKETS = frozenset({BURST, KEY_BURST})


@dataclass(frozen=True, slots=True)
class Standing:
    """One limit after a spend: `size` and `remaining` whole units, `window` and `reset` seconds."""

    name: str
    size: int
    window: int
    remaining: int
    reset: int


@dataclass(frozen=True, slots=True)
class Balance:
    """What a spend left: every limit that applies, the refusing ones by name, seconds to wait (0 when allowed).

    `binding` is the limit that refused (the one with the longest wait), or on allow the one with the least left.
    """

    standings: tuple[Standing, ...]
    refused: tuple[str, ...]
    retry_after: int
    binding: Standing | None


class _Level(NamedTuple):
    """What is left of the limits of an organization or of a key."""

    limits: Limits
    names: tuple[str, ...]
    level: int
    carry: int
    by_day: int
    by_month: int


def balance(asked: Spend, spent: Spent, *, jitter: int = 0) -> Balance:
    """What headers say of a spend. Who waits `retry_after` seconds and asks once passes, if nobody else asked.

    `jitter` seconds are added to the wait for a new day or month, so that not all come back in its first second.
    """
    standings: list[Standing] = []
    waits: dict[str, int] = {}
    for one in (
        _Level(asked.limits, NAMES[:3], spent.level, spent.carry, spent.by_day, spent.by_month),
        _Level(asked.key_limits, NAMES[3:], spent.key_level, spent.key_carry, spent.key_by_day, spent.key_by_month),
    ):
        _add_bucket(one, asked.cost, standings, waits)
        if asked.windows is not None:
            quotas = (
                (one.limits.daily_quota, one.by_day, asked.windows.days, spent.day),
                (one.limits.monthly_quota, one.by_month, asked.windows.months, spent.month),
            )
            for name, (limit, used, windows, index) in zip(one.names[1:], quotas, strict=True):
                if limit is not None:
                    reset = max(_ceil_div(windows.bounds[index + 1] * MICRO - spent.now, MICRO), 1)
                    length = windows.bounds[index + 1] - windows.bounds[index]
                    standing = Standing(name, limit, length, max(limit - used, 0), reset)
                    standings.append(standing)
                    waits[name] = standing.reset + jitter
    if spent.refused:
        strictest = max(spent.refused, key=lambda name: waits[name])
        binding = next(standing for standing in standings if standing.name == strictest)
        return Balance(tuple(standings), spent.refused, waits[strictest], binding)
    least = min(standings, key=lambda standing: standing.remaining, default=None)
    return Balance(tuple(standings), (), 0, least)


def _add_bucket(one: _Level, cost: int, standings: list[Standing], waits: dict[str, int]) -> None:
    rate, burst = one.limits.rate, one.limits.burst
    if rate is None or burst is None:
        return
    next_token = _wait(rate, (one.level // MICRO + 1) * MICRO - one.level, one.carry)
    waits[one.names[0]] = _wait(rate, cost * MICRO - one.level, one.carry)
    window = _ceil_div(burst * rate.seconds, rate.tokens)
    standings.append(Standing(one.names[0], burst, window, one.level // MICRO, next_token))


def _wait(rate: Rate, missing: int, carry: int) -> int:
    """Whole seconds, rounded up, at least 1, until `missing` micro-tokens have come in."""
    microseconds = _ceil_div(missing * rate.seconds - carry, rate.tokens)
    return max(_ceil_div(microseconds, MICRO), 1)


def _ceil_div(amount: int, by: int) -> int:
    return -(-amount // by)
