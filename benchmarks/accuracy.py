"""Whether limits are exact: 4 workers, 4 processes with 32 connections each, and every check judged afterwards.

What buckets admit is held against capacity + rate x time, on Redis's clock from the first spend to the last, in whole
numbers; every denial against what the bucket certainly held (judge.py); the day's counter in Redis, and what
PostgreSQL keeps of it, against what clients saw. Rates are about a third of what is asked, and no whole number of
tokens a second, so that every refill leaves something over. A deep bucket and a large quota are full for a while first,
which is where leases (--leases) are taken; up to a hundredth of a limit may then be on other workers at a denial.
"""

import asyncio
import random
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

import psycopg
from redis.asyncio import Redis

from benchmarks.ground import PLENTY, Ground, ground, table
from benchmarks.judge import ALLOWED, DENIED, Fields, Off, Run, judge_buckets, judge_quotas, off
from benchmarks.leases import leases_asked_for
from benchmarks.load import Asked, Check, Crowd, Target, ask_all, crowd, seconds
from extauthz.app import management
from extauthz.backends.redis import keyspace
from extauthz.backends.redis.layout import by_name
from extauthz.backends.redis.topology import connect
from extauthz.core.limits import Rate
from extauthz.core.management import KeyTerms
from tests.servers.serving import PATIENT

WORKERS = 4
CONNECTIONS = 32  # of each process of the load
CHECKS = 100_000
COSTS = (1, 2, 7)
OPENING = {1: 500, 1000: 20}  # cost of each tenant's first check, by their number: what then comes in has room
DEEP = 2 / 5  # of all that is asked for fits into a deep bucket
QUOTAS = {1: 50_000, 100: 500}  # quota by the number of tenants: twice as much is asked
QUOTA_CHECKS = 30_000
LEASED = 100  # a limit's hundredth part is leased at most
LOOKS, LOOK_AGAIN_AFTER = 60, 0.05  # seconds; leases go back within a quarter of one
WARM_UP = 20_000
FLUSHED_WITHIN = 30.0  # seconds; it is done every ten
ANSWERS = ("checks", "a second", "allowed", "429", "other")
LIMITS = ("over-admitted", "falsely denied", "exact")
COUNTERS = ("off: Redis", "PostgreSQL", "its requests", "its refusals")
ROUTES = "".join(
    f'[[routes]]\npath = "/{cost}"\nresource = "api"\ncost = {cost}\n' for cost in (*COSTS, *OPENING.values())
)


class Bench:
    """The service under load, and its Redis."""

    def __init__(self, at: Ground, load: Crowd, redis: Redis, *, leases: bool) -> None:
        self._at = at
        self._load = load
        self._redis = redis
        self._leases = leases

    async def pace(self, name: str, count: int) -> float:
        """How much cost a second can be asked for here, by so many tenants, in preparation of the run of that name."""
        _, target = await self._furnish(f"before {name}", count, PLENTY)
        checks = await self._load.ask(target, _mixed(count, WARM_UP), connections=CONNECTIONS)
        return sum(check.cost for check in checks) / seconds(checks)

    async def buckets(self, count: int, *, deep: bool = False) -> Run:
        """Tenants that ask for about three times what their buckets hold at first and receive in time."""
        name = f"{count} {'deep ' if deep else ''}bucket{'s'[: count - 1]}"
        a_minute = int(await self.pace(name, count) / count / 3 * 60) // 60 * 60 + 7
        wanted = _mixed(count, CHECKS - count)
        room = int(DEEP * sum(one.cost for one in wanted) / count) if deep else 2 * (a_minute // 60)
        rate, burst = Rate.parse(f"{a_minute}/min"), max(room, 2 * OPENING[count])
        limits = {"rate": str(rate), "burst": burst, "daily_quota": None, "monthly_quota": None}
        ids, target = await self._furnish(name, count, limits)
        opened: list[Check] = []
        first: list[Fields] = []

        async def open_all() -> None:
            opening = [Asked(who, OPENING[count]) for who in range(count)]
            opened.extend(await ask_all(target, opening, connections=min(count, CONNECTIONS)))
            first.extend(await self.states(ids))

        checks = await self._load.ask(target, wanted, connections=CONNECTIONS, before=open_all)
        run, leased = Run(name, ids, opened + checks), self._leased(burst)

        async def judged() -> Run:
            return judge_buckets(run, rate, burst, first=first, last=await self.states(ids), leased=leased)

        return await _settled(judged)

    async def quotas(self, count: int) -> Run:
        """Tenants without a bucket that ask for twice their daily quota; not across midnight."""
        quota, name = QUOTAS[count], f"{count} quota{'s'[: count - 1]}"
        limits = {"rate": None, "burst": None, "daily_quota": quota, "monthly_quota": None}
        ids, target = await self._furnish(name, count, limits)
        checks = await self._load.ask(target, _mixed(count, QUOTA_CHECKS), connections=CONNECTIONS)
        return judge_quotas(Run(name, ids, checks), quota, self._leased(quota))

    def _leased(self, limit: int) -> int:
        return limit // LEASED if self._leases else 0

    async def states(self, ids: Sequence[str]) -> list[Fields]:
        """What the hash of each tenant has, by name."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for tenant_id in ids:
                pipe.hgetall(keyspace.tenant_limits(tenant_id))
            found = await pipe.execute()
        named = [by_name({field.decode(): value for field, value in fields.items()}) for fields in found]
        return [{field.encode(): value.encode() for field, value in fields.items()} for fields in named]

    async def _furnish(self, name: str, count: int, limits: Mapping[str, object]) -> tuple[list[str], Target]:
        """Organizations on a plan of their own, each with one key."""
        async with management.management(self._at.settings, actor="bench") as operator:
            await operator.tenants.create_plan(name, limits)
            ids = [(await operator.tenants.create_organization(f"{name} {who}", name)).id for who in range(count)]
            keys = [(await operator.keys.create(tenant_id, KeyTerms()))[1] for tenant_id in ids]
        return ids, Target(self._at.host, self._at.port, keys)


async def main() -> None:
    """Measures, judges and prints."""
    leases = leases_asked_for("make bench-accuracy", __doc__)
    async with (
        ground(workers=WORKERS, configuration=ROUTES, **PATIENT, **leases, RATE_LIMIT_ON_REDIS_DOWN="closed") as at,
        connect(at.redis.redis_url, patience=5) as redis,
    ):
        with crowd() as load:
            bench = Bench(at, load, redis, leases=bool(leases))
            runs = [await bench.buckets(count) for count in OPENING]
            runs.append(await bench.buckets(1, deep=True))
            runs += [await bench.quotas(count) for count in QUOTAS]
        differences = [await _saved(at.postgres.dsn, run, await bench.states(run.tenants)) for run in runs]
    _report(runs, differences)


async def _settled(judged: Callable[[], Awaitable[Run]]) -> Run:
    """The run once every tenant adds up, as soon as all leases are back; as it is when the time for that is over."""
    run = await judged()
    for _ in range(LOOKS):
        if run.exact == len(run.tenants):
            break
        await asyncio.sleep(LOOK_AGAIN_AFTER)
        run = await judged()
    return run


def _mixed(tenants: int, checks: int) -> list[Asked]:
    chosen = random.Random(tenants)
    return [Asked(chosen.randrange(tenants), chosen.choice(COSTS)) for _ in range(checks)]


async def _saved(dsn: str, run: Run, states: Sequence[Fields]) -> Off:
    """How far counters are off, once PostgreSQL has all or its time is over."""
    until = time.monotonic() + FLUSHED_WITHIN
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as sql:
        while True:
            rows = await sql.execute(
                """SELECT organization_id::text, sum(cost)::bigint, sum(allowed)::bigint,
                          sum(rate_limited + over_quota)::bigint
                   FROM usage_daily GROUP BY organization_id"""
            )
            saved = {tenant_id: counts async for tenant_id, *counts in rows}
            difference = off(run, states, saved)
            if not any(difference) or time.monotonic() >= until:
                return difference
            await asyncio.sleep(0.5)


def _report(runs: Sequence[Run], differences: Sequence[Off]) -> None:
    answers, limits, counters = [], [], []
    for run, difference in zip(runs, differences, strict=True):
        statuses = [check.status for check in run.checks]
        allowed, denied = statuses.count(ALLOWED), statuses.count(DENIED)
        counts = allowed, denied, len(statuses) - allowed - denied
        pace = f"{len(statuses) / seconds(run.checks):.0f}"
        answers.append((run.name, str(len(statuses)), pace, *map(str, counts)))
        exact = f"{run.exact} of {len(run.tenants)}"
        limits.append((run.name, f"{float(run.over):g}", str(run.false_denials), exact))
        counters.append((run.name, *map(str, difference)))
    for headers, rows in ((ANSWERS, answers), (LIMITS, limits), (COUNTERS, counters)):
        table(("", *headers), rows)
        print()
    met = not any(run.over or run.false_denials for run in runs) and not any(map(any, differences))
    print("Over-admitted: tokens, or cost beyond a quota. Exact: tenants of which not one")
    print("micro-token is unaccounted for, or whose quota is used up to the last unit.")
    print("Off: by how much counters differ from what clients saw.")
    print(f"Goal: over-admission 0, false denials 0, counter difference 0: {'met' if met else 'MISSED'}")
    sys.exit(0 if met else 1)


if __name__ == "__main__":
    asyncio.run(main())
