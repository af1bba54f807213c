"""Buckets and counters in Redis: one script, one round trip, never sent a second time."""

from collections.abc import Sequence

from extauthz.backends.redis import keyspace, scripts
from extauthz.backends.redis.errors import translated
from extauthz.backends.redis.link import Commands
from extauthz.core.errors import StoreUnavailable
from extauthz.core.ports import REDIS
from extauthz.core.spend import BURST, MICRO, Spend, Spent

SPEND = scripts.read("spend")
NO_WINDOW_FITS = -1
NO_LIMIT = -1


class RedisLimits:
    """`tenant_limits:{<tenant>}`, by the clock of Redis."""

    def __init__(self, client: Commands, *, script: str = SPEND) -> None:
        self._client = client
        self._script = scripts.Script(script)

    async def spend(self, tenant_id: str, asked: Spend) -> Spent:
        """Takes from all limits of a tenant or from none. Raises StoreUnavailable; the outcome is then unknown."""
        spent = await self._run(tenant_id, asked)
        if _misfit(asked, spent):
            # Redis's day is neither our yesterday nor our tomorrow. Nothing ran, so asking again charges once.
            asked = asked.at(spent.now / MICRO)
            spent = await self._run(tenant_id, asked)
        if _misfit(asked, spent):
            raise StoreUnavailable(REDIS, "clock")
        return spent

    async def _run(self, tenant_id: str, asked: Spend) -> Spent:
        with translated():
            reply = await self._script.run(self._client, keyspace.tenant_limits(tenant_id), *_arguments(asked))
            return _spent(asked, reply)


def _misfit(asked: Spend, spent: Spent) -> bool:
    """Whether nothing happened because no window fits Redis's clock; a spend without quotas has none that could."""
    return bool(asked.quotas) and not spent.windows


def _arguments(asked: Spend) -> list[int | str]:
    rate = asked.rate
    arguments: list[int | str] = [asked.cost, rate.tokens if rate else 0, rate.seconds if rate else 1, asked.burst]
    arguments.append(len(asked.quotas))
    for quota in asked.quotas:
        arguments.append(NO_LIMIT if quota.limit is None else quota.limit)
        for window in quota.windows:
            arguments += (window.field, window.start, window.end)
    return arguments


def _spent(asked: Spend, reply: Sequence[int]) -> Spent:
    refused, now, level, carry, *counters = reply
    if refused == NO_WINDOW_FITS:
        return Spent(now, (), 0, 0, (), ())
    used, windows = counters[0::2], counters[1::2]
    names = (BURST, *(quota.name for quota in asked.quotas))
    return Spent(
        now,
        tuple(name for bit, name in enumerate(names) if refused >> bit & 1),
        level,
        carry,
        tuple(used),
        tuple(quota.windows[window - 1] for quota, window in zip(asked.quotas, windows, strict=True)),
    )
