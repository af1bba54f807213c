"""Opens the two stores of a serving process, with all that is kept in them and the guards in front."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial

from extauthz.app.management import fence_seconds, trials
from extauthz.backends.postgres import external_tables, schema
from extauthz.backends.postgres.events import PostgresQuotaEvents
from extauthz.backends.postgres.pool import LOOKUPS_AT_ONCE, Pool, open_pool
from extauthz.backends.postgres.records import (
    PostgresKeyNames,
    PostgresKeySource,
    PostgresTenantSource,
    PostgresUseLog,
)
from extauthz.backends.postgres.rejections import PostgresRejections
from extauthz.backends.postgres.usage import PostgresUsage
from extauthz.backends.redis import probe
from extauthz.backends.redis.connection import CALLS_AT_ONCE, RedisConnection, open_connection
from extauthz.backends.redis.counters import RedisCounters
from extauthz.backends.redis.invalidation import RedisInvalidations
from extauthz.backends.redis.limits import RedisLimits
from extauthz.backends.redis.records import RedisKeyCache, RedisTenantCache
from extauthz.backends.redis.server_info import NO_EPOCH, ServerInfo
from extauthz.backends.redis.usage import RedisUsage
from extauthz.config import Settings
from extauthz.core.management_ports import QuotaEvents
from extauthz.core.ports import (
    POSTGRESQL,
    REDIS,
    CounterReader,
    Observer,
    RejectionStore,
    SharedInvalidations,
    Source,
    UsageStore,
    UseLog,
)
from extauthz.core.tenants import Tenant
from extauthz.service.directory.lookup import Stores
from extauthz.service.guard import CallPolicy, CircuitBreaker

BEHIND = 4  # connections for what goes on behind the checks, so that it takes none of theirs
PATIENCE = 5.0  # seconds; nobody waits for it
HOLD = 0.5  # seconds without a refusal after which Redis is told to be up again


@dataclass(frozen=True, slots=True)
class UsageStores:
    """Where it is written down what was used. There is nothing of it in tables of somebody else."""

    use_log: UseLog
    usage_log: RedisUsage
    usage: UsageStore
    tenants: Source[str, Tenant]
    events: QuotaEvents
    rejections: RejectionStore
    names: PostgresKeyNames
    pool: Pool
    redis_connection: RedisConnection


@dataclass(frozen=True, slots=True)
class OpenStores:
    """What checks ask for, and what only the background does. `books` None: keys are in tables of somebody else.

    `readable` are the same stores with caches that nothing is written to, and `counters` what limits begin with.
    `redis_connections` and `pools` are all connections, `pool` those that checks share.
    """

    stores: Stores
    readable: Stores
    counters: CounterReader
    limits: RedisLimits
    invalidations: SharedInvalidations
    books: UsageStores | None
    pool: Pool
    redis_connections: tuple[RedisConnection, ...]
    pools: tuple[Pool, ...]


async def open_stores(
    stack: AsyncExitStack, settings: Settings, observer: Observer, *, redis_says: Callable[[bool, str], None]
) -> OpenStores:
    """Both stores, until the stack is left. They may come later: their guards look out for them.

    `redis_says` is told whether Redis says whose memory it is, and its maxmemory-policy where that may drop keys of
    ours, else an empty text.
    """
    timeout = settings.database_timeout_ms / 1000
    dsn = settings.database_url.get_secret_value()
    pool = await stack.enter_async_context(
        open_pool(dsn, size=LOOKUPS_AT_ONCE + 1, wait=timeout, statement_timeout=timeout)
    )
    url = settings.redis_url.get_secret_value()

    def looked(info: ServerInfo) -> None:
        redis_says(info.epoch != NO_EPOCH, info.evicting)

    redis_connection = await stack.enter_async_context(open_connection(url, trials=trials(settings), looked=looked))
    own = settings.lookup_sql
    postgresql = CircuitBreaker(
        POSTGRESQL,
        terms=CallPolicy(timeout, places=LOOKUPS_AT_ONCE, cancel=False),
        probe=partial(external_tables.probe, pool, own) if own else partial(schema.probe, pool),
        observer=observer,
    )
    redis = CircuitBreaker(
        REDIS,
        terms=CallPolicy(settings.redis_timeout_ms / 1000, places=CALLS_AT_ONCE, cancel=True, hold=HOLD),
        probe=redis_connection.probe,
        observer=observer,
    )
    for guard in (postgresql, redis):
        stack.push_async_callback(guard.close)
    await asyncio.gather(postgresql.start(), redis.start())
    stores = Stores(
        keys=external_tables.ExternalTables(pool, own) if own else PostgresKeySource(pool),
        key_cache=RedisKeyCache(redis_connection, ttl=settings.api_key_cache_ttl),
        tenants=None if own else PostgresTenantSource(pool),
        tenant_cache=RedisTenantCache(redis_connection, ttl=settings.tenant_quota_cache_ttl),
        postgresql=postgresql,
        redis=redis,
    )
    books = None if own else await _open_books(stack, settings)
    readable = replace(
        stores,
        key_cache=RedisKeyCache(redis_connection, ttl=settings.api_key_cache_ttl, writes=False),
        tenant_cache=RedisTenantCache(redis_connection, ttl=settings.tenant_quota_cache_ttl, writes=False),
    )
    return OpenStores(
        stores,
        readable,
        RedisCounters(redis_connection),
        RedisLimits(redis_connection, None if own else RedisUsage(redis_connection)),
        RedisInvalidations(redis_connection, seconds=fence_seconds(settings)),
        books,
        pool,
        redis_connections=(redis_connection,) if books is None else (redis_connection, books.redis_connection),
        pools=(pool,) if books is None else (pool, books.pool),
    )


async def _open_books(stack: AsyncExitStack, settings: Settings) -> UsageStores:
    """The books on connections of their own: they read and write much at a time."""
    dsn = settings.database_url.get_secret_value()
    pool = await stack.enter_async_context(open_pool(dsn, size=BEHIND, wait=PATIENCE, statement_timeout=PATIENCE))
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
