"""The composition root: settings in, built rooms out, opened and closed by one exit stack. It alone knows all rooms."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from socket import socket

import structlog

from extauthz.admin.api import AdminApi
from extauthz.backends.postgres import own_tables, schema
from extauthz.backends.postgres.feed import PostgresFeed
from extauthz.backends.postgres.pool import LOOKUPS_AT_ONCE, open_pool
from extauthz.backends.postgres.records import PostgresKeySource, PostgresTenantSource, PostgresUseLog
from extauthz.backends.redis.fences import RedisFences
from extauthz.backends.redis.limits import RedisLimits
from extauthz.backends.redis.link import CALLS_AT_ONCE, linked
from extauthz.backends.redis.records import RedisKeyCache, RedisTenantCache
from extauthz.config import Settings
from extauthz.core.failure import OnRedisDown
from extauthz.core.ports import POSTGRESQL, REDIS, SharedFences, UseLog
from extauthz.management import LATE, fence_seconds, key_format, open_rooms
from extauthz.service.changes import Changes
from extauthz.service.check import CheckService
from extauthz.service.fences import Belief, Fences
from extauthz.service.guard import Guard, Terms, end
from extauthz.service.health import Health, Readiness
from extauthz.service.last_used import LastUsed
from extauthz.service.layers import Surroundings, Times
from extauthz.service.lookup import Lookup, Stores
from extauthz.telemetry.metrics import Metrics
from extauthz.transports.http.dialect import Dialect, Wording
from extauthz.transports.http.dialects.envoy import Envoy
from extauthz.transports.http.dialects.forward import Forward
from extauthz.transports.http.dialects.nginx import Nginx
from extauthz.transports.http.health import Reports, serve_admin
from extauthz.transports.http.listen import bind
from extauthz.transports.http.server import CheckHandler, serve_checks

ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Running:
    """A service that answers checks. Set `health.draining` a while before it is left."""

    health: Health
    metrics: Metrics


def bind_all(settings: Settings) -> dict[str, socket]:
    """The sockets of every listener that is on, by its name. Raises AddressTaken."""
    wanted = {
        "envoy": settings.envoy_listen,
        "nginx": settings.nginx_listen,
        "forward": settings.forward_listen,
        ADMIN: settings.admin_listen,
    }
    return {name: bind(at.host, at.port, at.path) for name, at in wanted.items() if at is not None}


def dialects(settings: Settings) -> dict[str, Dialect]:
    """How each check listener reads and answers, by its name."""
    wording = Wording(strip_credential=settings.strip_credential, families=settings.rate_limit_headers)
    return {
        "envoy": Envoy(wording, path_prefix=settings.envoy_path_prefix),
        "nginx": Nginx(wording),
        "forward": Forward(wording),
    }


@asynccontextmanager
async def running(settings: Settings, sockets: Mapping[str, socket]) -> AsyncIterator[Running]:
    """Checks on the sockets of `bind_all`, and the private listener on its own where it is among them.

    PostgreSQL and Redis may come later; until then the service is not ready.
    """
    async with AsyncExitStack() as stack:
        metrics = Metrics()
        opened = await _open_stores(stack, settings, metrics)
        stores = opened.stores
        lookup = await _read_through(stack, settings, opened, metrics)
        on_redis_down = OnRedisDown(settings.rate_limit_on_redis_down)
        check = CheckService(
            routes=settings.routes,
            key_format=key_format(settings),
            lookup=lookup,
            stores=stores,
            on_redis_down=on_redis_down,
            observer=metrics,
        )
        health = Health(postgresql=stores.postgresql, redis=stores.redis, on_redis_down=on_redis_down)
        handlers = {
            sockets[name]: CheckHandler(check, dialect, deadline=settings.deadline_ms / 1000, health=health)
            for name, dialect in dialects(settings).items()
            if name in sockets
        }
        await stack.enter_async_context(serve_checks(handlers))
        if ADMIN in sockets:
            reports = _own_reports(health, metrics)
            await stack.enter_async_context(private_listener(settings, reports, sockets[ADMIN]))
        yield Running(health, metrics)


@asynccontextmanager
async def private_listener(settings: Settings, reports: Reports, sock: socket) -> AsyncIterator[None]:
    """Answers operators on a bound socket until left: health, metrics, and the API that manages keys."""
    async with AsyncExitStack() as stack:
        rooms = None if settings.lookup_sql else await stack.enter_async_context(open_rooms(settings))
        api = AdminApi(rooms, {token.name: token.value for token in settings.admin_token})
        await stack.enter_async_context(serve_admin(reports, sock, mount=api.mount))
        yield


@dataclass(frozen=True, slots=True)
class _Opened:
    """The stores, and what only the background asks of them."""

    stores: Stores
    fences: SharedFences
    use_log: UseLog | None


async def _open_stores(stack: AsyncExitStack, settings: Settings, metrics: Metrics) -> _Opened:
    """Opens both stores and their guards."""
    timeout = settings.database_timeout_ms / 1000
    dsn = settings.database_url.get_secret_value()
    pool = await stack.enter_async_context(
        open_pool(dsn, size=LOOKUPS_AT_ONCE + 2, wait=timeout, statement_timeout=timeout)
    )
    link = await stack.enter_async_context(linked(settings.redis_url.get_secret_value()))
    own = settings.lookup_sql
    postgresql = Guard(
        POSTGRESQL,
        terms=Terms(timeout, places=LOOKUPS_AT_ONCE, cancel=False),
        probe=partial(own_tables.probe, pool, own) if own else partial(schema.probe, pool),
        observer=metrics,
    )
    redis = Guard(
        REDIS,
        terms=Terms(settings.redis_timeout_ms / 1000, places=CALLS_AT_ONCE, cancel=True),
        probe=link.probe,
        observer=metrics,
    )
    for guard in (postgresql, redis):
        stack.push_async_callback(guard.close)
    await asyncio.gather(postgresql.start(), redis.start())
    stores = Stores(
        keys=own_tables.OwnTables(pool, own) if own else PostgresKeySource(pool),
        key_cache=RedisKeyCache(link, ttl=settings.api_key_cache_ttl),
        tenants=None if own else PostgresTenantSource(pool),
        tenant_cache=RedisTenantCache(link, ttl=settings.tenant_quota_cache_ttl),
        limits=RedisLimits(link),
        postgresql=postgresql,
        redis=redis,
    )
    fences = RedisFences(link, seconds=fence_seconds(settings))
    return _Opened(stores, fences, None if own else PostgresUseLog(pool))


async def _read_through(stack: AsyncExitStack, settings: Settings, opened: _Opened, metrics: Metrics) -> Lookup:
    """How checks read keys and organizations, and all that goes on behind them: until the stack is left."""
    stores, key_ttl, stale = opened.stores, settings.api_key_cache_ttl, settings.api_key_stale_if_error
    oldest = settings.tenant_quota_cache_ttl + key_ttl + stale  # that a record can be
    belief, fences = Belief(), Fences(seconds=oldest + LATE)
    last_used = LastUsed(opened.use_log)
    lookup = Lookup(
        stores,
        Surroundings(stores.postgresql, stores.redis, fences, belief, metrics),
        last_used=last_used,
        keys=Times(key_ttl, stale),
        # As long as a key may be used, its organization may be what it was.
        tenants=Times(settings.tenant_quota_cache_ttl, key_ttl + stale),
        cache_keys=settings.api_key_cache_enabled,
    )
    feed = PostgresFeed(
        settings.notify_database_url.get_secret_value(),
        lately=None if settings.lookup_sql else max(key_ttl, settings.tenant_quota_cache_ttl),
    )
    changes = Changes(feed, fences=fences, belief=belief, shared=opened.fences, redis=stores.redis, observer=metrics)
    stack.push_async_callback(last_used.write_all)
    for work in (changes.follow, lookup.keep_fresh, last_used.keep_writing):
        stack.push_async_callback(end, [asyncio.create_task(_forever(work))])
    stack.push_async_callback(lookup.close)
    return lookup


async def _forever(work: Callable[[], Awaitable[None]]) -> None:
    """Work that never ends by itself. A bug in it is told, and does not take the service with it."""
    while True:
        try:
            await work()
        except Exception:  # noqa: BLE001 - told, whatever it is
            structlog.get_logger().exception("bug", work=getattr(work, "__qualname__", "?"))
        await asyncio.sleep(1)


def _own_reports(health: Health, metrics: Metrics) -> Reports:
    async def readiness() -> Readiness:
        return health.readiness()

    async def exposition() -> bytes:
        return metrics.exposition()

    return Reports(readiness, exposition)
