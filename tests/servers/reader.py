"""One process that reads keys, on real stores: its calls can be stopped midway, and its changes can be awaited."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from extauthz.aio.circuit_breaker import CallPolicy
from extauthz.backends.postgres import schema
from extauthz.backends.postgres.change_feed import TRANSACTION_SECONDS, PostgresFeed
from extauthz.backends.postgres.pool import MAX_CONCURRENT_LOOKUPS, open_pool
from extauthz.backends.postgres.records import PostgresKeySource, PostgresTenantSource
from extauthz.backends.redis.connection import MAX_CONCURRENT_CALLS, open_connection
from extauthz.backends.redis.invalidation import RedisInvalidations
from extauthz.backends.redis.records import RedisKeyCache, RedisTenantCache
from extauthz.core.changes import Change
from extauthz.core.errors import StoreCorrupt
from extauthz.core.ports import POSTGRESQL, REDIS, SharedCache, Source
from extauthz.core.request import CheckRequest
from extauthz.service.directory.invalidation import ChangeListener, Freshness, Invalidations
from extauthz.service.directory.lookup import Lookup, Stores, local_caches
from extauthz.service.directory.tiers import IN_USE_MAX, CacheContext, CachePolicy
from extauthz.service.store_breaker import store_breaker
from extauthz.service.usage.last_used import LastUsed
from tests.servers.hurting_proxy import HurtingProxy
from tests.servers.management_client import KEY_FORMAT
from tests.servers.recording_observer import RecordingObserver
from tests.servers.waiting import News
from tests.unit.service.asking import pack_all

FAR = 30.0
TTL = 120
FROM_NOW_ON = -TRANSACTION_SECONDS  # seconds of the past that are caught up: none

Asked = TypeVar("Asked")
Record = TypeVar("Record")


class Gate:
    """Where calls wait while it is closed. `arrived` is released by each that does."""

    def __init__(self) -> None:
        self.arrived = asyncio.Semaphore(0)
        self._opened = asyncio.Event()
        self._opened.set()
        self.close = self._opened.clear
        self.open = self._opened.set

    async def passed(self) -> None:
        if not self._opened.is_set():
            self.arrived.release()
            await self._opened.wait()


class WatchedSource(Generic[Asked, Record]):
    """Counts the queries and how many were under way at once; answers wait at a gate after they were read."""

    def __init__(self, source: Source[Asked, Record]) -> None:
        self.gate = Gate()
        self.queries = self.under_way = self.peak = 0
        self.at_once = source.at_once
        self._source = source

    async def find(self, asked: Sequence[Asked], now: float) -> Sequence[Record | StoreCorrupt | None]:
        self.queries += 1
        self.under_way += 1
        self.peak = max(self.peak, self.under_way)
        try:
            return await self._source.find(asked, now)
        finally:
            self.under_way -= 1
            await self.gate.passed()


class WatchedCache(Generic[Asked, Record]):
    """Records wait at a gate before they are written."""

    def __init__(self, cache: SharedCache[Asked, Record]) -> None:
        self.gate = Gate()
        self._cache = cache
        self.find = cache.find

    async def put(self, records: Sequence[Record], now: float) -> None:
        await self.gate.passed()
        await self._cache.put(records, now)


class Heard:
    """A feed and shared fences that say what passed through them."""

    def __init__(self, feed: PostgresFeed, invalidations: RedisInvalidations) -> None:
        self.heard: list[Change] = []
        self.told: list[Change] = []
        self._feed = feed
        self._fences = invalidations
        self._news = News()
        self.until = self._news.until

    async def follow(self, hear: Callable[[Change], None], flowing: Callable[[bool], None]) -> None:
        def heard(change: Change) -> None:
            hear(change)
            self.heard.append(change)
            self._news.set()

        await self._feed.follow(heard, flowing)

    async def raise_all(self, changes: Sequence[Change]) -> None:
        await self._fences.raise_all(changes)
        self.told += changes
        self._news.set()


@dataclass(frozen=True, slots=True)
class Reader:
    """`keys`, `key_cache` and `tenants` are what stands between the look-up and the stores.

    `packs`: nothing stays in use after it was read.
    """

    lookup: Lookup
    keys: WatchedSource  # type: ignore[type-arg] # only watched
    key_cache: WatchedCache  # type: ignore[type-arg] # only watched
    tenants: WatchedSource  # type: ignore[type-arg] # only watched
    changes: Heard
    recorder: RecordingObserver
    packs: bool

    async def meaning(self, key: str) -> str:
        """What a key means now: `invalid`, `suspended`, or its plan and daily quota."""
        now, started = time.time(), time.monotonic()
        request = CheckRequest("envoy", "GET", "/", "", (), "", "", now, started, started + FAR)
        found = await self.lookup.key(KEY_FORMAT.digest(key), request, cached=True)
        self._pack()
        if found is None or not found.admits(now):
            return "invalid"
        tenant = await self.lookup.tenant(found, request, cached=True)
        self._pack()
        assert tenant is not None
        return "suspended" if tenant.suspended else f"{tenant.plan} {tenant.limits.quotas[0]}"

    def _pack(self) -> None:
        for records in (self.lookup.keys, self.lookup.tenants):
            if self.packs and records is not None:
                pack_all(records.local)

    async def heard(self, *, told: bool = True) -> None:
        """Returns when a change was received, and (`told`) Redis has its fence."""
        await self.changes.until(lambda: bool(self.changes.told if told else self.changes.heard))


@asynccontextmanager
async def reader(
    dsn: str, redis_url: str, *, deaf: bool = False, packs: bool = False, in_use: int = IN_USE_MAX
) -> AsyncIterator[Reader]:
    """A process that has just started, and receives changes unless it is `deaf`."""
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(
            open_pool(dsn, size=MAX_CONCURRENT_LOOKUPS + 1, wait=5, statement_timeout=5)
        )
        redis_connection = await stack.enter_async_context(open_connection(redis_url))
        recorder = RecordingObserver()
        postgresql = store_breaker(
            POSTGRESQL,
            policy=CallPolicy(FAR, MAX_CONCURRENT_LOOKUPS, cancel=False),
            probe=partial(schema.probe, pool),
            observer=recorder,
        )
        redis = store_breaker(
            REDIS,
            policy=CallPolicy(FAR, MAX_CONCURRENT_CALLS, cancel=True),
            probe=redis_connection.probe,
            observer=recorder,
        )
        for guard in (postgresql, redis):
            stack.push_async_callback(guard.close)
            await guard.start()
        keys, tenants = WatchedSource(PostgresKeySource(pool)), WatchedSource(PostgresTenantSource(pool))
        key_cache = WatchedCache(RedisKeyCache(redis_connection, ttl=TTL))
        stores = Stores(
            keys=keys,
            key_cache=key_cache,
            tenants=tenants,
            tenant_cache=RedisTenantCache(redis_connection, ttl=30),
            postgresql=postgresql,
            redis=redis,
        )
        invalidations, freshness = Invalidations(seconds=720), Freshness()
        context = CacheContext(postgresql, redis, invalidations, freshness, recorder)
        caches = local_caches(
            context,
            keys=CachePolicy(TTL, 600, in_use=in_use),
            tenants=CachePolicy(30, 720, in_use=in_use),
            cache_keys=True,
        )
        lookup = Lookup(stores, context, last_used=LastUsed(None), caches=caches)
        stack.push_async_callback(lookup.close)
        # Changes from before its start do not matter to these tests.
        heard = Heard(PostgresFeed(dsn, lately=FROM_NOW_ON), RedisInvalidations(redis_connection, seconds=TTL))
        changes = ChangeListener(
            heard, invalidations=invalidations, freshness=freshness, shared=heard, redis=redis, observer=recorder
        )
        if not deaf:
            following = asyncio.create_task(changes.follow())
            stack.push_async_callback(_ended, following)
            await recorder.until(lambda: recorder.flows)
        yield Reader(lookup, keys, key_cache, tenants, heard, recorder, packs)


def through(dsn: str, between: HurtingProxy) -> str:
    """The address of the same database behind a proxy."""
    return re.sub(r":[0-9]+/", f":{between.port}/", dsn, count=1) + "?sslmode=disable&gssencmode=disable"


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
