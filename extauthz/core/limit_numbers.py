"""The numbers that headers tell of a spend, straight from the row of a store: those of `balance`, without its objects.

What does not change from one spend to the next (names, sizes, windows) is computed once.
"""

from collections.abc import Iterator

from extauthz.core.balance import NEVER
from extauthz.core.limit_kinds import BITS, BUCKET, CREDITS, KEY, OWNER, QUOTAS
from extauthz.core.limits import Limits
from extauthz.core.spend import MICRO, Row, Spend

_Limit = tuple[bool, int, int, int, int]


class LimitNumbers:
    """What is left of each limit of one spend, in the order of `Balance.limit_statuses`.

    It is for rows whose windows are all the one with the number `window` (from 1).
    """

    __slots__ = ("_cost", "_limits", "_names")

    def __init__(self, asked: Spend, *, window: int) -> None:
        self._cost = asked.cost
        found = [*_limits_of(asked, asked.limits, window, OWNER)]
        found += _limits_of(asked, asked.key_limits, window, KEY)
        self._names = tuple(name for name, _ in found)
        self._limits = tuple(limit for _, limit in found)

    def left(self, now: int, row: Row) -> list[int]:
        """Remaining and reset (seconds) of each limit; then size, remaining and reset of the one with the least left.

        `now` in microseconds, of the store's clock. The reset of a limit that does not renew says nothing.
        """
        numbers: list[int] = []
        least, binding = -1, (0, 0, 0)
        for is_bucket, place, size, one, other in self._limits:
            if is_bucket:
                level = row[place]
                remaining = level // MICRO
                reset = -(((row[place + 1] - ((remaining + 1) * MICRO - level) * other) // one) // MICRO)
            else:
                remaining = size - row[place]
                remaining = max(remaining, 0)
                reset = -((now - one) // MICRO)
            reset = max(reset, 1)
            numbers += (remaining, reset)
            if least < 0 or remaining < least:
                least, binding = remaining, (size, remaining, reset)
        numbers += binding
        return numbers

    def refused(self, now: int, row: Row, jitter: int) -> tuple[str, list[int]]:
        """The limit that refused with the longest wait, and the same numbers where that one binds; then the wait.

        `jitter` seconds are added to the wait for a new window.
        """
        numbers = self.left(now, row)[:-3]
        strictest, longest, bound = "", -1, 0
        for place, (name, limit) in enumerate(zip(self._names, self._limits, strict=True)):
            if row[0] >> BITS[name] & 1:
                if limit[0]:
                    wait = self._bucket_wait(row, limit)
                else:
                    wait = numbers[2 * place + 1] + jitter if limit[3] else NEVER
                if wait > longest:
                    strictest, longest, bound = name, wait, place
        numbers += (self._limits[bound][2], numbers[2 * bound], numbers[2 * bound + 1], longest)
        return strictest, numbers

    def _bucket_wait(self, row: Row, limit: _Limit) -> int:
        _, place, _, tokens, seconds = limit
        missing = self._cost * MICRO - row[place]
        return max(-(((row[place + 1] - missing * seconds) // tokens) // MICRO), 1)


def _limits_of(asked: Spend, limits: Limits, window: int, side: int) -> Iterator[tuple[str, _Limit]]:
    """Each limit: whether it is a bucket, its place in a row, its size; then tokens and seconds of its rate, or the
    microsecond at which its window ends, 0: never.
    """
    if limits.rate is not None and limits.burst is not None:
        yield BUCKET.names[side], (True, BUCKET.places[side], limits.burst, limits.rate.tokens, limits.rate.seconds)
    if asked.windows is None:
        return
    for quota, size in zip(QUOTAS, limits.quotas, strict=True):
        if size is not None:
            ends = asked.windows[quota.windows].bounds[window] * MICRO
            yield quota.names[side], (False, quota.places[side], size, ends, 0)
    if limits.credits is not None:
        yield CREDITS.names[side], (False, CREDITS.places[side], limits.credits, 0, 0)
