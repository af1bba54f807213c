"""The composition root: settings in, built rooms out, opened and closed by one exit stack. It alone knows all rooms."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from socket import socket

from extauthz.backends.postgres import schema
from extauthz.backends.postgres.keys import PostgresKeys
from extauthz.backends.postgres.pool import LOOKUPS_AT_ONCE, open_pool
from extauthz.backends.postgres.tenants import PostgresTenants
from extauthz.backends.redis.limits import RedisLimits
from extauthz.backends.redis.link import CALLS_AT_ONCE, linked
from extauthz.backends.redis.records import RedisKeyCache, RedisTenantCache
from extauthz.config import Settings
from extauthz.core.failure import OnRedisDown
from extauthz.core.ports import POSTGRESQL, REDIS
from extauthz.management import key_format
from extauthz.service.check import CheckService
from extauthz.service.guard import Guard, Terms
from extauthz.service.health import Health, Readiness
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
        stores = await _stores(stack, settings, metrics)
        on_redis_down = OnRedisDown(settings.rate_limit_on_redis_down)
        check = CheckService(
            routes=settings.routes,
            key_format=key_format(settings),
            lookup=Lookup(stores, cache_keys=settings.api_key_cache_enabled, observer=metrics),
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
            await stack.enter_async_context(serve_admin(_own_reports(health, metrics), sockets[ADMIN]))
        yield Running(health, metrics)


async def _stores(stack: AsyncExitStack, settings: Settings, metrics: Metrics) -> Stores:
    """Opens both stores and their guards."""
    timeout = settings.database_timeout_ms / 1000
    dsn = settings.database_url.get_secret_value()
    pool = await stack.enter_async_context(
        open_pool(dsn, size=LOOKUPS_AT_ONCE + 1, wait=timeout, statement_timeout=timeout)
    )
    link = await stack.enter_async_context(linked(settings.redis_url.get_secret_value()))
    postgresql = Guard(
        POSTGRESQL,
        terms=Terms(timeout, places=LOOKUPS_AT_ONCE, cancel=False),
        probe=partial(schema.probe, pool),
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
    return Stores(
        keys=PostgresKeys(pool),
        key_cache=RedisKeyCache(link, ttl=settings.api_key_cache_ttl),
        tenants=PostgresTenants(pool),
        tenant_cache=RedisTenantCache(link, ttl=settings.tenant_quota_cache_ttl),
        limits=RedisLimits(link),
        postgresql=postgresql,
        redis=redis,
    )


def _own_reports(health: Health, metrics: Metrics) -> Reports:
    async def readiness() -> Readiness:
        return health.readiness()

    async def exposition() -> bytes:
        return metrics.exposition()

    return Reports(readiness, exposition)
