"""Management over real stores, and short ways for tests to have an organization with a key."""

from datetime import datetime

from redis.asyncio import Redis

from extauthz.backends.postgres.keys import PostgresKeys
from extauthz.backends.postgres.pool import Pool
from extauthz.backends.postgres.tenants import PostgresTenants
from extauthz.backends.redis.records import RedisKeyCache, RedisTenantCache
from extauthz.core.credentials import KeyFormat, Pepper
from extauthz.core.permissions import FULL_ACCESS, Permissions
from extauthz.core.records import KeyDetails
from extauthz.service.keys import KeyService
from extauthz.service.tenants import TenantService

PEPPERS = (Pepper("p1", b"pepper one of the tests of extauthz"), Pepper("p2", b"pepper two of the tests of extauthz"))
KEY_FORMAT = KeyFormat(prefix="xa", env="live", peppers=PEPPERS)

NO_LIMITS: dict[str, object] = {"rate": None, "burst": None, "daily_quota": None, "monthly_quota": None}


class Office:
    """`keys` and `tenants` are the services; `key_store`, `tenant_store` and the two caches what they stand on."""

    def __init__(self, pool: Pool, redis: Redis) -> None:
        self.pool = pool
        self.redis = redis
        self.key_store = PostgresKeys(pool)
        self.tenant_store = PostgresTenants(pool)
        self.key_cache = RedisKeyCache(redis, ttl=120)
        self.tenant_cache = RedisTenantCache(redis, ttl=30)
        self.keys = self.key_service(KEY_FORMAT)
        self.tenants = TenantService(
            tenants=self.tenant_store, keys=self.key_store, cache=self.tenant_cache, key_cache=self.key_cache
        )

    def key_service(self, key_format: KeyFormat, *, resources: frozenset[str] | None = None) -> KeyService:
        return KeyService(
            keys=self.key_store,
            tenants=self.tenant_store,
            cache=self.key_cache,
            key_format=key_format,
            resources=resources,
        )

    async def new_key(
        self, organization: str, *, permissions: Permissions = FULL_ACCESS, expires_at: datetime | None = None
    ) -> tuple[KeyDetails, str]:
        """A key of an organization, which is made where there is none of that name."""
        if organization not in {known.name for known in await self.tenants.list_organizations()}:
            await self.tenants.create_organization(organization)
        return await self.keys.create(organization, name="", permissions=permissions, expires_at=expires_at)

    async def sql(self, statement: str, *arguments: object) -> None:
        """Runs what a stranger with access to the database could run."""
        async with self.pool.connection() as connection:
            await connection.execute(statement.encode(), arguments)

    async def drop_checks(self) -> None:
        """Takes away what keeps rows sensible, so that a test can make them senseless."""
        async with self.pool.connection() as connection:
            cursor = await connection.execute(
                """SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname) AS drop
                   FROM pg_constraint WHERE contype = 'c' AND connamespace = 'public'::regnamespace"""
            )
            for row in await cursor.fetchall():
                await connection.execute(row["drop"])

    async def charged(self) -> int:
        """How much was taken from all tenants today, as Redis itself says."""
        hashes = [await self.redis.hgetall(name) for name in await self.redis.keys("tenant_limits:*")]
        return sum(int(used) for fields in hashes for field, used in fields.items() if text(field).startswith("d:"))

    async def redis_dump(self) -> dict[str, str]:
        """Every text in Redis by its name."""
        return {text(name): text(await self.redis.get(name)) for name in await self.redis.keys()}


def text(value: bytes | str | None) -> str:
    """What Redis returned, as text."""
    return value.decode() if isinstance(value, bytes) else value or ""
