"""What a spend left, as headers tell it: every limit that applies, which one refused, when to come back."""

from dataclasses import dataclass
from typing import NamedTuple

from extauthz.core.limit_kinds import BUCKET, CREDITS, KEY, OWNER, QUOTAS
from extauthz.core.limits import UNLIMITED, Limits, Rate
from extauthz.core.spend import MICRO, Spend, Spent

BUCKETS = frozenset(BUCKET.names)
NEVER = 1 << 62  # seconds that stand for a wait without an end


class LimitStatus(NamedTuple):
    """One limit after a spend: `size` and `remaining` whole units, `window` and `reset` seconds.

    The last two are None where it does not renew.
    """

    name: str
    size: int
    window: int | None
    remaining: int
    reset: int | None


@dataclass(slots=True)  # not frozen: one is made for every check, at a quarter of the price
class Balance:
    """What a spend left: every limit that applies, the refusing ones by name, seconds to wait.

    `retry_after` is 0 when allowed, None where no wait helps. `binding` is the limit that refused (the one
    with the longest wait), or on allow the one with the least left.
    """

    limit_statuses: tuple[LimitStatus, ...]
    refused: tuple[str, ...]
    retry_after: int | None
    binding: LimitStatus | None

    @property
    def has_bucket(self) -> bool:
        """Whether tokens are taken of a bucket."""
        return any(status.name in BUCKETS for status in self.limit_statuses)


def balance(asked: Spend, spent: Spent, *, jitter: int = 0) -> Balance:
    """What headers say of a spend. A request after `retry_after` seconds passes if nothing else was spent meanwhile.

    `jitter` seconds are added to the wait for a new window, so that not all clients come back in its first second.
    """
    limit_statuses = _statuses(asked, spent, asked.limits, OWNER)
    if asked.key_limits is not UNLIMITED:
        limit_statuses += _statuses(asked, spent, asked.key_limits, KEY)
    if spent.refused:
        return _refused(limit_statuses, asked, spent, jitter)
    least: LimitStatus | None = None
    for status in limit_statuses:
        if least is None or status.remaining < least.remaining:
            least = status
    return Balance(tuple(limit_statuses), (), 0, least)


def _statuses(asked: Spend, spent: Spent, limits: Limits, side: int) -> list[LimitStatus]:
    """Every limit of the OWNER, or of the KEY, that applies."""
    found: list[LimitStatus] = []
    row, rate, burst = spent.row, limits.rate, limits.burst
    if rate is not None and burst is not None:
        level, carry = _bucket(spent, side)
        remaining = level // MICRO
        next_token = _wait(rate, (remaining + 1) * MICRO - level, carry)
        window = -(-burst * rate.seconds // rate.tokens)
        found.append(LimitStatus(BUCKET.names[side], burst, window, remaining, next_token))
    if asked.windows is None:
        return found
    for quota, size in zip(QUOTAS, limits.quotas, strict=True):
        if size is not None:
            bounds, index = asked.windows[quota.windows].bounds, row[quota.window_place] - 1
            start, end = bounds[index], bounds[index + 1]
            reset = -((spent.now - end * MICRO) // MICRO)
            remaining = size - row[quota.places[side]]
            found.append(LimitStatus(quota.names[side], size, end - start, max(remaining, 0), max(reset, 1)))
    if limits.credits is not None:
        left = max(limits.credits - row[CREDITS.places[side]], 0)
        found.append(LimitStatus(CREDITS.names[side], limits.credits, None, left, None))
    return found


def _bucket(spent: Spent, side: int) -> tuple[int, int]:
    """Level and carry."""
    place = BUCKET.places[side]
    return spent.row[place], spent.row[place + 1]


def _refused(limit_statuses: list[LimitStatus], asked: Spend, spent: Spent, jitter: int) -> Balance:
    waits = {
        status.name: NEVER if status.reset is None else status.reset + jitter
        for status in limit_statuses
        if status.name not in BUCKETS
    }
    for side, limits in ((OWNER, asked.limits), (KEY, asked.key_limits)):
        if limits.rate is not None:
            level, carry = _bucket(spent, side)
            waits[BUCKET.names[side]] = _wait(limits.rate, asked.cost * MICRO - level, carry)
    strictest = max(spent.refused, key=waits.__getitem__)
    binding = next(status for status in limit_statuses if status.name == strictest)
    wait = waits[strictest]
    return Balance(tuple(limit_statuses), spent.refused, None if wait == NEVER else wait, binding)


def _wait(rate: Rate, missing: int, carry: int) -> int:
    """Whole seconds, rounded up, at least 1, until `missing` micro-tokens have come in."""
    microseconds = -((carry - missing * rate.seconds) // rate.tokens)
    seconds = -(-microseconds // MICRO)
    return seconds if seconds > 0 else 1
