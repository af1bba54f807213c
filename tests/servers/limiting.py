"""Limits on a real Redis as checks use them: what they ask, a clock that a test sets, and a limiter on a connection.

asked = spend_of(Limits(daily_quota=5), now)            # of TENANT, by the key KEY
async with limiter_on(redis_url) as limiter:
    asked, spent = await limiter.spend(asked)
"""

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from redis.asyncio import Redis as RedisClient

from extauthz.aio.circuit_breaker import CallPolicy
from extauthz.backends.redis.connection import RedisConnection, open_connection
from extauthz.backends.redis.keyspace import tenant_limits
from extauthz.backends.redis.layout import by_name
from extauthz.backends.redis.leases import LEASE
from extauthz.backends.redis.limits import RedisLimits
from extauthz.backends.redis.spends import SPEND
from extauthz.core.calendar import UTC_CALENDAR
from extauthz.core.errors import StoreUnavailable
from extauthz.core.leases import Lease
from extauthz.core.limits import UNLIMITED, Limits
from extauthz.core.ports import POSTGRESQL, REDIS, Store, UsageStore
from extauthz.core.spend import MICRO, NotApplied, Owner, Spend, Spent
from extauthz.core.token_bucket import State
from extauthz.service.limits.limiter import Limiter
from extauthz.service.limits.restore import CounterRestorer, SeedQueries
from extauthz.service.store_breaker import StoreBreaker, store_breaker
from tests.unit.service.fakes import Watch

TENANT = Owner("tenant", "org 1}")  # a name that has to be encoded
KEY = "key-1"
HASH = tenant_limits(TENANT.id)

# The one line that reads the clock, reading a clock of the test's instead.
TIME = "redis.call('TIME')"
SCRIPT, LEASING = (text.replace(TIME, "redis.call('MGET', 'clock:s', 'clock:us')") for text in (SPEND, LEASE))
assert SPEND.count(TIME) == LEASE.count(TIME) == 1


@pytest.fixture
async def redis_connection(redis_url: str) -> AsyncIterator[RedisConnection]:
    """The connection that checks share."""
    async with open_connection(redis_url) as opened:
        yield opened


def spend_of(limits: Limits, now: float, *, cost: int = 1, key: str = KEY, key_limits: Limits = UNLIMITED) -> Spend:
    """What a request of TENANT asks, with the windows round `now` (Unix seconds)."""
    asked = Spend(TENANT, cost, limits, UTC_CALENDAR, key_id=key, key_limits=key_limits)
    return asked.at(now)


def of(tenant_id: str, asked: Spend) -> Spend:
    """The same, asked for another organization."""
    return replace(asked, owner=Owner("tenant", tenant_id))


def taken(result: "Spent | NotApplied | StoreUnavailable") -> Spent:
    """The outcome of a spend that happened."""
    assert isinstance(result, Spent), result
    return result


async def set_clock(redis_connection: RedisConnection, now: int) -> None:
    """From now on it is `now` (microseconds) for SCRIPT."""
    await redis_connection.execute_command("MSET", "clock:s", now // MICRO, "clock:us", now % MICRO)


async def seed(redis_connection: RedisConnection, *tenants: str) -> RedisLimits:
    """Limits of organizations (TENANT where none is named) that have no counts yet."""
    limits = RedisLimits(redis_connection)
    for tenant_id in tenants or (TENANT.id,):
        await limits.seed(tenant_id, ())
    return limits


async def hash_of(redis: RedisClient, key: str = HASH) -> dict[str, str]:
    """Everything that is kept of a tenant, by its name."""
    found: Mapping[bytes, bytes] = await redis.hgetall(key)  # type: ignore[assignment]  # bytes, as nothing is decoded
    return by_name({field.decode("utf-8", "surrogateescape"): value for field, value in found.items()})


def as_hash(state: State, epoch: str) -> dict[str, str]:
    """What a hash that holds a state has, by name."""
    dates = sorted({field[2:10] for field in (*state.counters, *state.days) if field.startswith("d:")})
    kept = {"seeded": epoch, "days": " ".join(dates)} if state.seeded else {}
    kept |= {f"bucket:{name}" if name else "bucket": _text(bucket) for name, bucket in state.buckets.items()}
    kept |= {field: str(used) for field, used in state.counters.items() if used or not field.startswith("m:")}
    kept |= {f"credits:{name}" if name else "credits": str(used) for name, used in state.credits.items()}
    for name, hours in state.hours.items():
        suffix = f":{name}" if name else ""
        begun, count, other, before = hours
        kept |= {f"hour{suffix}": _text(hours), f"h:{begun}{suffix}": str(count), f"h:{other}{suffix}": str(before)}
    for field, leases in ("leases", state.leases), ("lapsed", state.lapsed):
        if leases:
            kept[field] = "".join(_lease(*each) for each in leases.items())
    return kept | {field: _text(charged) for field, charged in state.days.items()}


def _lease(lease_id: str, lease: Lease) -> str:
    numbers = lease.granted, lease.served, lease.until, lease.stage, int(lease.own)
    return f"{lease_id} {lease.cost} {lease.day[2:]} {lease.month[2:]} {_text(numbers)} {lease.key_id}\n"


def _text(numbers: tuple[int, ...]) -> str:
    return " ".join(map(str, numbers))


@asynccontextmanager
async def limiter_on(
    redis_url: str, *, script: str = SPEND, usage: UsageStore | None = None, watch: Watch | None = None
) -> AsyncIterator[Limiter]:
    """A limiter as each process has one, with a connection of its own. Usage is kept only where `usage` is given."""
    watch = watch or Watch()
    async with open_connection(redis_url) as redis_connection:
        limits = RedisLimits(redis_connection, script=script)
        redis, postgresql = _guard(REDIS, redis_connection, watch), _guard(POSTGRESQL, redis_connection, watch)
        for guard in (redis, postgresql):
            await guard.start()
        queries = None if usage is None else SeedQueries(usage)
        restorer = CounterRestorer(limits, queries, redis=redis, postgresql=postgresql)
        limiter = Limiter(limits, keeps_usage=False, restorer=restorer, redis=redis, observer=watch)
        try:
            yield limiter
        finally:
            await limiter.close()
            for guard in (redis, postgresql):
                await guard.close()


def _guard(store: Store, redis_connection: RedisConnection, watch: Watch) -> StoreBreaker:
    return store_breaker(
        store,
        policy=CallPolicy(timeout=10, max_concurrency=1000, cancel=True),
        probe=redis_connection.probe,
        observer=watch,
    )


async def microseconds(redis: RedisClient) -> int:
    """Redis's clock."""
    seconds, rest = await redis.time()
    return seconds * MICRO + rest


def now() -> float:
    """The clock of this process, which is Redis's here."""
    return time.time()
