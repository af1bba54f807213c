"""The scripts of the release before states were packed, as its workers run them: for tests of an upgrade.

Their hashes have a field for each bucket and counter, as text.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from extauthz.backends.redis.connection import RedisConnection
from extauthz.backends.redis.keyspace import charge_once, tenant_limits
from extauthz.core.calendar import CalendarWindows
from extauthz.core.limits import Limits
from extauthz.core.spend import NotApplied, Spend, Spent, result_of

WIDTH = 12
KEPT = 70 * 86_400_000


def text(name: str) -> str:
    """One of the scripts."""
    return (Path(__file__).parent / f"{name}.lua").read_text("utf-8")


class EarlierLimits:
    """Spends and begins counters as a worker of that release, by the clock that SCRIPT reads."""

    def __init__(self, redis_connection: RedisConnection) -> None:
        self._link = redis_connection
        self._eval = partial(redis_connection.execute_command, "EVAL")

    async def spend(self, asked: Sequence[Spend]) -> list[Spent | NotApplied]:
        """One result for each."""
        names = [tenant_limits(one.owner.id) for one in asked]
        once = [charge_once(one.owner.id, one.once) for one in asked if one.once]
        windows = [one.windows for one in asked if one.windows is not None]
        lines = list[str]()
        for place, one in enumerate(asked, 1):
            place_of_once = once.index(charge_once(one.owner.id, one.once)) + 1 if one.once else 0
            numbers = f"0 {place} {place_of_once} {one.cost} 0 {_limits(one.limits)} {_limits(one.key_limits)}"
            lines += [numbers, one.key_id]
        head = [await self._link.epoch(), len(windows), len(asked), *map(_calendar, windows)]
        script = text("spend").replace("redis.call('TIME')", "redis.call('MGET', 'clock:s', 'clock:us')")
        now, *numbers = await self._eval(script, len(names + once), *names, *once, *head, *lines)
        rows = [tuple(map(int, numbers[start : start + WIDTH])) for start in range(0, len(numbers), WIDTH)]
        return [result_of(now, row) for row in rows]

    async def seed(self, tenant_id: str) -> None:
        """Counters begin at nothing."""
        await self._eval(text("seed"), 1, tenant_limits(tenant_id), await self._link.epoch(), KEPT, "last")

    async def begin(self, tenant_id: str) -> None:
        """Counters begin while nobody can say what was before."""
        await self._eval(text("provisional"), 1, tenant_limits(tenant_id), await self._link.epoch(), KEPT, "begin")


def _calendar(windows: CalendarWindows) -> str:
    return " ".join(
        " ".join([*(f"{day:%Y%m%d}" for day in span.dates[:3]), *map(str, span.bounds)])
        for span in (windows.days, windows.months)
    )


def _limits(limits: Limits) -> str:
    bucket = (0, 1, 0) if limits.rate is None else (limits.rate.tokens, limits.rate.seconds, limits.burst)
    quotas = (-1 if quota is None else quota for quota in limits.quotas[:2])
    return " ".join(map(str, (*bucket, *quotas)))
