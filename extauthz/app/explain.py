"""What explains decisions: in a process that serves, and in one that only asks."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from extauthz.app.listeners import dialects
from extauthz.app.management import LATE, PATIENCE, key_format
from extauthz.app.stores import OpenStores, open_stores
from extauthz.config import Settings
from extauthz.core.decision import Decision
from extauthz.core.explanation import Explanation, Question
from extauthz.core.failure import OnRedisDown
from extauthz.service.check.explain.explain import Explain, Ground
from extauthz.service.check.explain.findings import LookupParts
from extauthz.service.directory.invalidation import Freshness, Invalidations
from extauthz.service.directory.lookup import Lookup
from extauthz.service.directory.tiers import CacheContext, CachePolicy
from extauthz.service.unobserved import Unobserved
from extauthz.transports.http.dialect import Dialect

TENANTS_IN_USE_MAX, TENANTS_PACKED_MAX = 5_000, 65_536  # at some 600 and 77 bytes each


def cache_times(settings: Settings) -> tuple[CachePolicy, CachePolicy]:
    """How long keys and organizations are good. As long as a key may be used, its organization may be what it was."""
    key_ttl, stale = settings.api_key_cache_ttl, settings.api_key_stale_if_error
    tenants = CachePolicy(
        settings.tenant_quota_cache_ttl, key_ttl + stale, in_use=TENANTS_IN_USE_MAX, packed=TENANTS_PACKED_MAX
    )
    return CachePolicy(key_ttl, stale), tenants


def oldest_record(settings: Settings) -> float:
    """Seconds after which no record of a change before can be anywhere."""
    keys, tenants = cache_times(settings)
    return tenants.ttl + keys.ttl + keys.stale + LATE


def explain_on(settings: Settings, opened: OpenStores, around: CacheContext, *, live: Lookup | None) -> Explain:
    """Explanations on opened stores. `live` is the lookup of this process, whose records are looked at too."""
    keys, tenants = cache_times(settings)
    books = opened.books
    return Explain(
        Ground(
            routes=settings.routes,
            key_format=key_format(settings),
            peppers=frozenset(pepper.name for pepper in settings.key_pepper),
            lookup=LookupParts(opened.readable, around, keys, tenants, settings.api_key_cache_enabled, live),
            limits=opened.limits,
            counters=opened.counters,
            usage=None if books is None else books.usage,
            names=None if books is None else books.names,
            on_redis_down=OnRedisDown(settings.rate_limit_on_redis_down),
            statuses={name: _status_of(dialect) for name, dialect in dialects(settings).items()},
        )
    )


def _status_of(dialect: Dialect) -> Callable[[Decision], int]:
    return lambda decision: dialect.render(decision).status


@asynccontextmanager
async def explaining(settings: Settings) -> AsyncIterator[Explain]:
    """Explanations on stores of their own, with a person's patience. There is no process layer."""
    patience = round(PATIENCE * 1000)
    patient = settings.model_copy(update={"database_timeout_ms": patience, "redis_timeout_ms": patience})
    async with AsyncExitStack() as stack:
        opened = await open_stores(stack, patient, Unobserved(), redis_says=lambda *_: None)
        stores, invalidations = opened.stores, Invalidations(seconds=oldest_record(settings))
        around = CacheContext(stores.postgresql, stores.redis, invalidations, Freshness(), Unobserved())
        yield explain_on(settings, opened, around, live=None)


class ExplainAlone:
    """Explains in a process that answers no checks: stores are opened for each explanation."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def explain(self, question: Question) -> Explanation:
        """As Explain does."""
        async with explaining(self._settings) as explain:
            return await explain.explain(question)
