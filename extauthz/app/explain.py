"""What explains decisions: in a process that serves, and in one that only asks."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from extauthz.app.authenticators import authentication
from extauthz.app.listeners import dialects
from extauthz.app.lookup import cache_policies, oldest_record
from extauthz.app.management import STORE_TIMEOUT_SECONDS, key_format
from extauthz.app.stores import OpenStores, open_stores
from extauthz.config import Settings
from extauthz.core.decision import Decision
from extauthz.core.explanation import ExplainQuestion, Explanation
from extauthz.core.failure import OnRedisDown
from extauthz.service.check.explain.explain import Explain, Ground
from extauthz.service.check.explain.findings import LookupParts
from extauthz.service.directory.invalidation import Freshness, Invalidations
from extauthz.service.directory.lookup import Lookup
from extauthz.service.directory.tiers import CacheContext
from extauthz.service.unobserved import Unobserved
from extauthz.transports.http.dialect import Dialect


def explain_on(settings: Settings, opened: OpenStores, around: CacheContext, *, live: Lookup | None) -> Explain:
    """Explanations on opened stores. `live` is the lookup of this process, whose records are looked at too."""
    keys, tenants = cache_policies(settings)
    stores = opened.usage_stores
    return Explain(
        Ground(
            routes=settings.routes,
            key_format=key_format(settings),
            authentication=partial(authentication, settings),
            peppers=frozenset(pepper.name for pepper in settings.key_pepper),
            lookup=LookupParts(opened.readable, around, keys, tenants, settings.api_key_cache_enabled, live),
            limits=opened.limits,
            counters=opened.counters,
            usage=opened.usage,
            names=None if stores is None else stores.names,
            on_redis_down=OnRedisDown(settings.rate_limit_on_redis_down),
            statuses={name: _status_of(dialect) for name, dialect in dialects(settings).items()},
        )
    )


def _status_of(dialect: Dialect) -> Callable[[Decision], int]:
    return lambda decision: dialect.render(decision).status


@asynccontextmanager
async def explaining(settings: Settings) -> AsyncIterator[Explain]:
    """Explanations on stores of their own, with a person's patience. There is no process layer."""
    patience = round(STORE_TIMEOUT_SECONDS * 1000)
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

    async def explain(self, question: ExplainQuestion) -> Explanation:
        """As Explain does."""
        async with explaining(self._settings) as explain:
            return await explain.explain(question)
