"""Opens the two stores of a serving process, with all that is kept in them and the circuit breakers in front."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial

from extauthz.aio.circuit_breaker import Call, CallPolicy
from extauthz.app.directories import directory
from extauthz.app.management import fence_seconds, trials
from extauthz.backends.postgres.events import PostgresQuotaEvents
from extauthz.backends.postgres.pool import MAX_CONCURRENT_LOOKUPS, Pool, open_pool
from extauthz.backends.postgres.records import (
    PostgresKeyNames,
    PostgresTenantSource,
    PostgresUseLog,
)
from extauthz.backends.postgres.rejections import PostgresRejections
from extauthz.backends.postgres.usage import PostgresUsage
from extauthz.backends.redis import probe
from extauthz.backends.redis.connection import MAX_CONCURRENT_CALLS, RedisConnection, open_connection
from extauthz.backends.redis.counters import RedisCounters
from extauthz.backends.redis.invalidation import RedisInvalidations
from extauthz.backends.redis.limits import RedisLimits
from extauthz.backends.redis.records import RedisKeyCache, RedisTenantCache
from extauthz.backends.redis.server_info import NO_EPOCH, ServerInfo
from extauthz.backends.redis.usage import RedisUsage
from extauthz.config import Settings
from extauthz.core.management_ports import QuotaEvents
from extauthz.core.observers import Observer
from extauthz.core.ports import (
    POSTGRESQL,
    REDIS,
    CounterReader,
    RejectionStore,
    SharedInvalidations,
    Source,
    UsageSource,
    UsageStore,
    UseLog,
)
from extauthz.core.tenants import Tenant
from extauthz.service.directory.lookup import Stores
from extauthz.service.store_breaker import StoreBreaker, store_breaker

BACKGROUND_CONNECTIONS = 4  # connections for what goes on behind the checks, which takes none from them
BACKGROUND_TIMEOUT_SECONDS = 5.0  # no check waits for it
REDIS_HOLD_SECONDS = 0.5  # without a refusal after which Redis is told to be up again


@dataclass(frozen=True, slots=True)
class UsageStores:
    """Where use, charges and refusals are written."""

    use_log: UseLog
    usage_source: UsageSource
    usage: UsageStore
    tenants: Source[str, Tenant]
    events: QuotaEvents
    rejections: RejectionStore
    names: PostgresKeyNames
    pool: Pool
    redis_connection: RedisConnection


@dataclass(frozen=True, slots=True)
class OpenStores:
    """What checks ask for, and what only the background does. `usage_stores` None: no usage is kept.

    `readable` are the same stores with caches that nothing is written to, and `counters` what limits begin with.
    `redis_connections` and `pools` are all connections, `pool` those that checks share.
    """

    stores: Stores
    readable: Stores
    counters: CounterReader
    limits: RedisLimits
    invalidations: SharedInvalidations
    usage_stores: UsageStores | None
    pool: Pool
    redis_connections: tuple[RedisConnection, ...]
    pools: tuple[Pool, ...]

    @property
    def keeps_usage(self) -> bool:
        """Whether what is charged is saved."""
        return self.usage_stores is not None

    @property
    def usage(self) -> UsageStore | None:
        """Where saved usage is, which counters begin with."""
        return None if self.usage_stores is None else self.usage_stores.usage


def redis_policy(settings: Settings) -> CallPolicy:
    """Return how calls of Redis are bounded."""
    timeout = settings.redis_timeout_ms / 1000
    return CallPolicy(timeout, max_concurrency=MAX_CONCURRENT_CALLS, cancel=True, hold=REDIS_HOLD_SECONDS)


async def open_stores(
    stack: AsyncExitStack, settings: Settings, observer: Observer, *, redis_says: Callable[[bool, str], None]
) -> OpenStores:
    """Both stores, until the stack is left. They may come later: their circuit breakers probe for them.

    `redis_says` is told whether Redis says whose memory it is, and its maxmemory-policy where that may drop our
    keys, else an empty text.
    """
    timeout = settings.database_timeout_ms / 1000
    dsn = settings.database_url.get_secret_value()
    pool = await stack.enter_async_context(
        open_pool(dsn, size=MAX_CONCURRENT_LOOKUPS + 1, wait=timeout, statement_timeout=timeout)
    )

    def looked(info: ServerInfo) -> None:
        redis_says(info.epoch != NO_EPOCH, info.evicting)

    url = settings.redis_url.get_secret_value()
    connection = await stack.enter_async_context(open_connection(url, trials=trials(settings), looked=looked))
    keys_in = directory(settings)
    postgresql, redis = await _start_breakers(
        stack, settings, observer, postgresql=partial(keys_in.probe, pool), redis=connection.probe
    )
    key_cache, tenant_cache = _caches(connection, settings, writes=True)
    stores = Stores(keys_in.keys(pool), key_cache, keys_in.tenants(pool), tenant_cache, postgresql, redis)
    key_cache, tenant_cache = _caches(connection, settings, writes=False)
    usage_stores = await _open_usage_stores(stack, settings) if keys_in.keeps_usage else None
    background = () if usage_stores is None else (usage_stores,)
    return OpenStores(
        stores,
        replace(stores, key_cache=key_cache, tenant_cache=tenant_cache),
        RedisCounters(connection),
        RedisLimits(connection, RedisUsage(connection) if keys_in.keeps_usage else None),
        RedisInvalidations(connection, seconds=fence_seconds(settings)),
        usage_stores,
        pool,
        redis_connections=(connection, *(each.redis_connection for each in background)),
        pools=(pool, *(each.pool for each in background)),
    )


def _caches(connection: RedisConnection, settings: Settings, *, writes: bool) -> tuple[RedisKeyCache, RedisTenantCache]:
    return (
        RedisKeyCache(connection, ttl=settings.api_key_cache_ttl, writes=writes),
        RedisTenantCache(connection, ttl=settings.tenant_quota_cache_ttl, writes=writes),
    )


async def _start_breakers(
    stack: AsyncExitStack, settings: Settings, observer: Observer, *, postgresql: Call[None], redis: Call[None]
) -> tuple[StoreBreaker, StoreBreaker]:
    """The circuit breakers, each once it has probed its store; `postgresql` and `redis` are the probes."""
    timeout = settings.database_timeout_ms / 1000
    policy = CallPolicy(timeout, max_concurrency=MAX_CONCURRENT_LOOKUPS, cancel=False)
    breakers = (
        store_breaker(POSTGRESQL, policy=policy, probe=postgresql, observer=observer),
        store_breaker(REDIS, policy=redis_policy(settings), probe=redis, observer=observer),
    )
    for breaker in breakers:
        stack.push_async_callback(breaker.close)
    await asyncio.gather(*(breaker.start() for breaker in breakers))
    return breakers


async def _open_usage_stores(stack: AsyncExitStack, settings: Settings) -> UsageStores:
    """The stores of usage on connections of their own: they read and write much at a time."""
    dsn = settings.database_url.get_secret_value()
    pool = await stack.enter_async_context(
        open_pool(
            dsn,
            size=BACKGROUND_CONNECTIONS,
            wait=BACKGROUND_TIMEOUT_SECONDS,
            statement_timeout=BACKGROUND_TIMEOUT_SECONDS,
        )
    )
    url = settings.redis_url.get_secret_value()
    redis_connection = await stack.enter_async_context(open_connection(url, trials=probe.USAGE))
    return UsageStores(
        PostgresUseLog(pool),
        RedisUsage(redis_connection),
        PostgresUsage(pool),
        PostgresTenantSource(pool),
        PostgresQuotaEvents(pool),
        PostgresRejections(pool),
        PostgresKeyNames(pool),
        pool,
        redis_connection,
    )
