"""Opens the two stores of a serving process, with all that is kept in them and the guards in front."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial

from extauthz.backends.postgres import own_tables, schema
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
from extauthz.backends.redis.counters import RedisCounters
from extauthz.backends.redis.fences import RedisFences
from extauthz.backends.redis.limits import RedisLimits
from extauthz.backends.redis.link import CALLS_AT_ONCE, Link, linked
from extauthz.backends.redis.records import RedisKeyCache, RedisTenantCache
from extauthz.backends.redis.server_info import NO_EPOCH, ServerInfo
from extauthz.backends.redis.usage import RedisUsage
from extauthz.config import Settings
from extauthz.core.ports import (
    POSTGRESQL,
    REDIS,
    CounterReader,
    Observer,
    RejectionStore,
    SharedFences,
    Source,
    UsageStore,
    UseLog,
)
from extauthz.core.stores import QuotaEvents
from extauthz.core.tenants import Tenant
from extauthz.management import fence_seconds, trials
from extauthz.service.guard import Guard, Terms
from extauthz.service.lookup import Stores

BEHIND = 4  # connections for what goes on behind the checks, so that it takes none of theirs
PATIENCE = 5.0  # seconds; nobody waits for it
HOLD = 0.5  # seconds without a refusal after which Redis is told to be up again


@dataclass(frozen=True, slots=True)
class Books:
    """Where it is written down what was used. There is nothing of it in tables of somebody else."""

    use_log: UseLog
    usage_log: RedisUsage
    usage: UsageStore
    tenants: Source[str, Tenant]
    events: QuotaEvents
    rejections: RejectionStore
    names: PostgresKeyNames
    pool: Pool
    link: Link


@dataclass(frozen=True, slots=True)
class Opened:
    """What checks ask for, and what only the background does. `books` None: keys are in tables of somebody else.

    `readable` are the same stores with
    caches that nothing is written to, and `counters` what limits begin with. `links` and `pools` are all connections,
    `pool` those that checks share.
    """

    stores: Stores
    readable: Stores
    counters: CounterReader
    limits: RedisLimits
    fences: SharedFences
    books: Books | None
    pool: Pool
    links: tuple[Link, ...]
    pools: tuple[Pool, ...]


async def open_stores(
    stack: AsyncExitStack, settings: Settings, observer: Observer, *, redis_says: Callable[[bool, str], None]
) -> Opened:
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

    link = await stack.enter_async_context(linked(url, trials=trials(settings), looked=looked))
    own = settings.lookup_sql
    postgresql = Guard(
        POSTGRESQL,
        terms=Terms(timeout, places=LOOKUPS_AT_ONCE, cancel=False),
        probe=partial(own_tables.probe, pool, own) if own else partial(schema.probe, pool),
        observer=observer,
    )
    redis = Guard(
        REDIS,
        terms=Terms(settings.redis_timeout_ms / 1000, places=CALLS_AT_ONCE, cancel=True, hold=HOLD),
        probe=link.probe,
        observer=observer,
    )
    for guard in (postgresql, redis):
        stack.push_async_callback(guard.close)
    await asyncio.gather(postgresql.start(), redis.start())
    stores = Stores(
        keys=own_tables.OwnTables(pool, own) if own else PostgresKeySource(pool),
        key_cache=RedisKeyCache(link, ttl=settings.api_key_cache_ttl),
        tenants=None if own else PostgresTenantSource(pool),
        tenant_cache=RedisTenantCache(link, ttl=settings.tenant_quota_cache_ttl),
        postgresql=postgresql,
        redis=redis,
    )
    books = None if own else await _open_books(stack, settings)
    readable = replace(
        stores,
        key_cache=RedisKeyCache(link, ttl=settings.api_key_cache_ttl, writes=False),
        tenant_cache=RedisTenantCache(link, ttl=settings.tenant_quota_cache_ttl, writes=False),
    )
    return Opened(
        stores,
        readable,
        RedisCounters(link),
        RedisLimits(link, None if own else RedisUsage(link)),
        RedisFences(link, seconds=fence_seconds(settings)),
        books,
        pool,
        links=(link,) if books is None else (link, books.link),
        pools=(pool,) if books is None else (pool, books.pool),
    )


async def _open_books(stack: AsyncExitStack, settings: Settings) -> Books:
    """The books on connections of their own: they read and write much at a time."""
    dsn = settings.database_url.get_secret_value()
    pool = await stack.enter_async_context(open_pool(dsn, size=BEHIND, wait=PATIENCE, statement_timeout=PATIENCE))
    url = settings.redis_url.get_secret_value()
    link = await stack.enter_async_context(linked(url, trials=probe.USAGE))
    return Books(
        PostgresUseLog(pool),
        RedisUsage(link),
        PostgresUsage(pool),
        PostgresTenantSource(pool),
        PostgresQuotaEvents(pool),
        PostgresRejections(pool),
        PostgresKeyNames(pool),
        pool,
        link,
    )
