"""What a spend left, as headers tell it: every limit that applies, which one refused, when to come back."""

from dataclasses import dataclass

from extauthz.core.limits import Rate
from extauthz.core.reason import Reason
from extauthz.core.spend import BURST, DAILY, MICRO, MONTHLY, Spend, Spent

REFUSED_BY: dict[str, Reason] = {
    BURST: Reason.RATE_LIMITED,
    DAILY: Reason.DAILY_QUOTA_EXCEEDED,
    MONTHLY: Reason.MONTHLY_QUOTA_EXCEEDED,
}


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


def balance(asked: Spend, spent: Spent) -> Balance:
    """What headers say of a spend. Who waits `retry_after` seconds and asks once passes, if nobody else asked."""
    standings: list[Standing] = []
    waits: dict[str, int] = {}
    if asked.rate is not None:
        rate = asked.rate
        next_token = _wait(rate, (spent.level // MICRO + 1) * MICRO - spent.level, spent.carry)
        waits[BURST] = _wait(rate, asked.cost * MICRO - spent.level, spent.carry)
        window = _ceil_div(asked.burst * rate.seconds, rate.tokens)
        standings.append(Standing(BURST, asked.burst, window, spent.level // MICRO, next_token))
    for quota, used, window_ in zip(asked.quotas, spent.used, spent.windows, strict=True):
        if quota.limit is None:
            continue
        reset = max(_ceil_div(window_.end - spent.now, MICRO), 1)
        waits[quota.name] = reset
        length = (window_.end - window_.start) // MICRO
        standings.append(Standing(quota.name, quota.limit, length, max(quota.limit - used, 0), reset))
    if spent.refused:
        strictest = max(spent.refused, key=lambda name: waits[name])
        binding = next(standing for standing in standings if standing.name == strictest)
        return Balance(tuple(standings), spent.refused, waits[strictest], binding)
    least = min(standings, key=lambda standing: standing.remaining, default=None)
    return Balance(tuple(standings), (), 0, least)


def _wait(rate: Rate, missing: int, carry: int) -> int:
    """Whole seconds, rounded up, at least 1, until `missing` micro-tokens have come in."""
    microseconds = _ceil_div(missing * rate.seconds - carry, rate.tokens)
    return max(_ceil_div(microseconds, MICRO), 1)


def _ceil_div(amount: int, by: int) -> int:
    return -(-amount // by)
