"""Management over real stores, and fast paths for tests to have an organization with a key."""

import re
from collections.abc import Mapping
from datetime import datetime

from psycopg.rows import DictRow
from redis.asyncio import Redis

from extauthz.backends.postgres.audit import PostgresAudit
from extauthz.backends.postgres.credits import PostgresCredits
from extauthz.backends.postgres.keys import PostgresKeys
from extauthz.backends.postgres.pool import Pool
from extauthz.backends.postgres.tenants import PostgresTenants
from extauthz.backends.redis.invalidation import RedisInvalidations
from extauthz.backends.redis.usage_reader import RedisUsageReader
from extauthz.core.credentials import KeyFormat, Pepper
from extauthz.core.limit_kinds import LIMIT_COLUMNS
from extauthz.core.management import KeyDetails, KeyTerms
from extauthz.core.permissions import FULL_ACCESS, Permissions
from extauthz.service.manage.audit import AuditService
from extauthz.service.manage.credits import CreditService
from extauthz.service.manage.keys import KeyService
from extauthz.service.manage.organizations import TenantService

PEPPERS = (Pepper("p1", b"pepper one of the tests of extauthz"), Pepper("p2", b"pepper two of the tests of extauthz"))
KEY_FORMAT = KeyFormat(prefix="xa", env="live", peppers=PEPPERS)
ACTOR = "cli:tester"

NO_LIMITS: dict[str, object] = dict.fromkeys(LIMIT_COLUMNS)


class ManagementClient:
    """The services, and the stores and `invalidations` that they stand on."""

    def __init__(self, pool: Pool, redis: Redis) -> None:
        self.pool = pool
        self.redis = redis
        self.key_store = PostgresKeys(pool, actor=ACTOR)
        self.tenant_store = PostgresTenants(pool, actor=ACTOR)
        self.invalidations = RedisInvalidations(redis, seconds=120)
        self.keys = self.key_service(PEPPERS)
        self.tenants = TenantService(tenants=self.tenant_store, invalidations=self.invalidations)
        self.credits = CreditService(
            store=PostgresCredits(pool, actor=ACTOR), live=RedisUsageReader(redis), invalidations=self.invalidations
        )
        self.audit = AuditService(audit=PostgresAudit(pool), tenants=self.tenant_store)

    def key_service(
        self,
        peppers: tuple[Pepper, ...] = PEPPERS,
        *,
        resources: frozenset[str] | None = None,
        actor: str = ACTOR,
    ) -> KeyService:
        return KeyService(
            keys=PostgresKeys(self.pool, actor=actor),
            tenants=self.tenant_store,
            invalidations=self.invalidations,
            key_format=KeyFormat(prefix="xa", env="live", peppers=peppers),
            peppers=[pepper.id for pepper in peppers],
            resources=resources,
        )

    async def new_key(
        self,
        organization: str,
        *,
        name: str = "",
        permissions: Permissions = FULL_ACCESS,
        expires_at: datetime | None = None,
    ) -> tuple[KeyDetails, str]:
        """A key of an organization, which is made where there is none of that name."""
        if organization not in {known.name for known in await self.tenants.list_organizations()}:
            await self.tenants.create_organization(organization)
        return await self.keys.create(organization, KeyTerms(name, permissions, expires_at))

    async def sql(self, statement: str, *arguments: object) -> None:
        """Runs a statement as any client of the database could."""
        async with self.pool.connection() as connection:
            await connection.execute(statement.encode(), arguments)

    async def rows(self, query: str, *arguments: object) -> list[DictRow]:
        """The rows that any client of the database would see."""
        async with self.pool.connection() as connection:
            return await (await connection.execute(query.encode(), arguments)).fetchall()

    async def charge(self, organization_id: str) -> None:
        """Charges the organization, so that a change of its calendar does not hold at once."""
        await self.sql(
            "INSERT INTO usage_daily (organization_id, api_key_id, day, allowed, cost)"
            " VALUES (%s, gen_random_uuid(), '2026-01-01', 1, 1)",
            organization_id,
        )

    async def fence(self, kind: str, id_: str) -> int | None:
        """The fence of an entity in Redis; None where there is none."""
        stored: Mapping[str, str] = await self.redis_dump()
        return next((int(value) for name, value in stored.items() if name == f"cache_fence:{kind}:{id_}"), None)

    async def drop_checks(self) -> None:
        """Drops the constraints, so that a test can make rows corrupt."""
        await self.sql("ALTER TABLE plans DISABLE TRIGGER plans_fit_organizations")
        await self.sql("ALTER TABLE organizations DISABLE TRIGGER organizations_still_fit_plan")
        await self.sql("ALTER TABLE organizations DISABLE TRIGGER organizations_check_timezones")
        await self.sql("ALTER TABLE organizations DISABLE TRIGGER organizations_1_keep_calendar")
        async with self.pool.connection() as connection:
            cursor = await connection.execute(
                """SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname) AS drop
                   FROM pg_constraint WHERE contype = 'c' AND connamespace = 'public'::regnamespace"""
            )
            for row in await cursor.fetchall():
                await connection.execute(row["drop"])

    async def charged(self) -> int:
        """The cost that all tenants were charged today, as Redis has it."""
        hashes = [await self.redis.hgetall(name) for name in await self.redis.keys("tenant_limits:*")]
        days = re.compile(r"d:[0-9]{8}")  # with a key's id behind it, what that key took of it
        return sum(int(used) for fields in hashes for field, used in fields.items() if days.fullmatch(text(field)))

    async def redis_dump(self) -> dict[str, str]:
        """Every text in Redis by its name."""
        return {text(name): text(await self.redis.get(name)) for name in await self.redis.keys()}


def text(value: bytes | str | None) -> str:
    """What Redis returned, as text."""
    return value.decode() if isinstance(value, bytes) else value or ""
