"""The rooms that a command for people needs: no door, no telemetry, so that it starts quickly."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from extauthz.backends.postgres import schema
from extauthz.backends.postgres.keys import PostgresKeys
from extauthz.backends.postgres.pool import open_pool
from extauthz.backends.postgres.tenants import PostgresTenants
from extauthz.backends.redis import topology
from extauthz.backends.redis.records import RedisKeyCache, RedisTenantCache
from extauthz.config import Settings
from extauthz.core.credentials import KeyFormat, Pepper
from extauthz.service.keys import KeyService
from extauthz.service.tenants import TenantService

PATIENCE = 5.0  # seconds that a command of a person waits for a store


@dataclass(frozen=True, slots=True)
class Management:
    """What people manage, behind every way in."""

    keys: KeyService
    tenants: TenantService


def key_format(settings: Settings) -> KeyFormat:
    """The shape of keys and the peppers that digest them."""
    peppers = [Pepper(pepper.name, pepper.value) for pepper in settings.key_pepper]
    return KeyFormat(prefix=settings.key_prefix, env=settings.key_env, peppers=peppers)


@asynccontextmanager
async def management(settings: Settings) -> AsyncIterator[Management]:
    """Keys, plans and organizations for one command. Raises SchemaUnknown, StoreUnavailable."""
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(
            open_pool(settings.database_url.get_secret_value(), size=1, wait=PATIENCE, statement_timeout=PATIENCE)
        )
        await schema.check(pool)
        client = await stack.enter_async_context(
            topology.connect(settings.redis_url.get_secret_value(), patience=PATIENCE)
        )
        keys, tenants = PostgresKeys(pool), PostgresTenants(pool)
        key_cache = RedisKeyCache(client, ttl=settings.api_key_cache_ttl)
        tenant_cache = RedisTenantCache(client, ttl=settings.tenant_quota_cache_ttl)
        yield Management(
            KeyService(
                keys=keys,
                tenants=tenants,
                cache=key_cache,
                key_format=key_format(settings),
                resources=settings.routes.resources,
            ),
            TenantService(tenants=tenants, keys=keys, cache=tenant_cache, key_cache=key_cache),
        )
