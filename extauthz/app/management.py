"""The services of management, without doors and telemetry, so that a command starts quickly."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from extauthz.app.directories import directory
from extauthz.backends.postgres import schema
from extauthz.backends.postgres.audit import PostgresAudit
from extauthz.backends.postgres.credits import PostgresCredits
from extauthz.backends.postgres.figures import PostgresFigures
from extauthz.backends.postgres.keys import PostgresKeys
from extauthz.backends.postgres.pool import Pool, open_pool
from extauthz.backends.postgres.records import PostgresTenantSource
from extauthz.backends.postgres.rejections import PostgresRejections
from extauthz.backends.postgres.tenants import PostgresTenants
from extauthz.backends.postgres.usage import PostgresUsage
from extauthz.backends.redis import probe, topology
from extauthz.backends.redis.invalidation import RedisInvalidations
from extauthz.backends.redis.usage_reader import RedisUsageReader
from extauthz.config import Settings, secrets
from extauthz.core.credentials import KeyFormat, Pepper
from extauthz.core.ports import SharedInvalidations
from extauthz.core.usage_report import LiveUsage
from extauthz.service.manage.audit import AuditService
from extauthz.service.manage.credits import CreditService
from extauthz.service.manage.keys import KeyService
from extauthz.service.manage.organizations import TenantService
from extauthz.service.manage.rejections import RejectionLog
from extauthz.service.manage.usage import UsageService

STORE_TIMEOUT_SECONDS = 5.0  # that a person waits for a store
FENCE_MARGIN_SECONDS = 60  # for clocks that differ and writers that were paused
ROOM_FOR_MANY = 4  # concurrent changes through the admin API


@dataclass(frozen=True, slots=True)
class Management:
    """The services of management for one actor, under whose name changes are recorded."""

    keys: KeyService
    tenants: TenantService
    audit: AuditService
    usage: UsageService
    rejections: RejectionLog
    credits: CreditService


class ManagementServices:
    """One opened pool for many actors."""

    def __init__(self, pool: Pool, *, invalidations: SharedInvalidations, live: LiveUsage, settings: Settings) -> None:
        self._pool = pool
        self._invalidations = invalidations
        self._live = live
        self._highest_cost = max((route.cost for route in settings.routes.charged), default=0)
        self._resources = settings.routes.resources
        self._key_format = key_format(settings)
        self._peppers = tuple(pepper.name for pepper in settings.key_pepper)

    @property
    def places(self) -> int:
        """How many may ask at once without waiting for each other."""
        return self._pool.max_size

    @property
    def highest_cost(self) -> int:
        """The cost of the dearest route whose limits are enforced."""
        return self._highest_cost

    def figures(self, *, webhook: bool) -> PostgresFigures:
        """What reads figures from the database; `webhook` as for PostgresFigures."""
        return PostgresFigures(self._pool, webhook=webhook)

    async def check(self) -> None:
        """Returns where the database has the schema that this code needs. Raises SchemaUnknown, StoreUnavailable."""
        await schema.check(self._pool)

    def as_actor(self, actor: str) -> Management:
        """Management for `actor`, as `token:ops` or `cli:alice`. Cheap: nothing is opened."""
        keys, tenants = PostgresKeys(self._pool, actor=actor), PostgresTenants(self._pool, actor=actor)
        return Management(
            KeyService(
                keys=keys,
                tenants=tenants,
                invalidations=self._invalidations,
                key_format=self._key_format,
                peppers=self._peppers,
                resources=self._resources,
            ),
            TenantService(tenants=tenants, invalidations=self._invalidations),
            AuditService(audit=PostgresAudit(self._pool), tenants=tenants),
            UsageService(
                tenants=tenants,
                sources=PostgresTenantSource(self._pool),
                usage=PostgresUsage(self._pool),
                live=self._live,
            ),
            RejectionLog(rejections=PostgresRejections(self._pool), tenants=tenants),
            CreditService(
                store=PostgresCredits(self._pool, actor=actor), live=self._live, invalidations=self._invalidations
            ),
        )


def key_format(settings: Settings) -> KeyFormat:
    """The shape of keys and the peppers that digest them."""
    peppers = [Pepper(pepper.name, pepper.value) for pepper in settings.key_pepper]
    return KeyFormat(
        prefix=settings.key_prefix,
        env=settings.key_env,
        peppers=peppers,
        sha256=directory(settings).by_sha256,
        reserved=(form for secret in secrets.held(settings) for form in secret.forms),
    )


def fence_seconds(settings: Settings) -> int:
    """As long as an older record can be in Redis."""
    return max(settings.api_key_cache_ttl, settings.tenant_quota_cache_ttl) + FENCE_MARGIN_SECONDS


def trials(settings: Settings) -> list[probe.Trial]:
    """What Redis must let checks write, so far as these settings use it."""
    wanted = [*probe.LIMITS, *probe.FENCES]
    if settings.api_key_cache_enabled:
        wanted += probe.CACHES
    if directory(settings).keeps_usage:
        wanted += probe.USAGE
    if settings.charge_once:
        wanted += probe.CHARGE_ONCE
    if any(route.rate is not None for route in settings.routes.routes):
        wanted += probe.ADDRESSES
    return wanted


@asynccontextmanager
async def open_services(settings: Settings, *, size: int = ROOM_FOR_MANY) -> AsyncIterator[ManagementServices]:
    """Services with a pool of `size` connections. It opens in the background: stores may come later."""
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(
            open_pool(
                settings.database_url.get_secret_value(),
                size=size,
                wait=STORE_TIMEOUT_SECONDS,
                statement_timeout=STORE_TIMEOUT_SECONDS,
            )
        )
        client = await stack.enter_async_context(
            topology.connect(settings.redis_url.get_secret_value(), patience=STORE_TIMEOUT_SECONDS)
        )
        invalidations = RedisInvalidations(client, seconds=fence_seconds(settings))
        yield ManagementServices(pool, invalidations=invalidations, live=RedisUsageReader(client), settings=settings)


@asynccontextmanager
async def management(settings: Settings, *, actor: str) -> AsyncIterator[Management]:
    """Keys, plans and organizations for one command. Raises SchemaUnknown, StoreUnavailable."""
    async with open_services(settings, size=1) as services:
        await services.check()
        yield services.as_actor(actor)
