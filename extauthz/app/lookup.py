"""How checks read keys and organizations, and what keeps that fresh behind them."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack

from extauthz.aio.tasks import cancel_until_done
from extauthz.app.directories import directory
from extauthz.app.management import FENCE_MARGIN_SECONDS
from extauthz.app.stores import OpenStores
from extauthz.backends.postgres.change_feed import PostgresFeed
from extauthz.config import Settings
from extauthz.service.background import forever
from extauthz.service.directory.invalidation import ChangeListener, Freshness, Invalidations
from extauthz.service.directory.known_records import KeyEntry
from extauthz.service.directory.lookup import Lookup, local_caches
from extauthz.service.directory.tiers import CacheContext, CachePolicy
from extauthz.service.usage.last_used import LastUsed
from extauthz.telemetry.metrics import Metrics

TENANTS_IN_USE_MAX, TENANTS_PACKED_MAX = 5_000, 65_536  # at some 600 and 77 bytes each


def cache_policies(settings: Settings) -> tuple[CachePolicy, CachePolicy]:
    """How long keys and organizations are good. As long as a key may be used, its organization may be what it was."""
    key_ttl, stale = settings.api_key_cache_ttl, settings.api_key_stale_if_error
    tenants = CachePolicy(
        settings.tenant_quota_cache_ttl, key_ttl + stale, in_use=TENANTS_IN_USE_MAX, packed=TENANTS_PACKED_MAX
    )
    return CachePolicy(key_ttl, stale), tenants


def oldest_record(settings: Settings) -> float:
    """Seconds after which no record of a change before can be anywhere."""
    keys, tenants = cache_policies(settings)
    return tenants.ttl + keys.ttl + keys.stale + FENCE_MARGIN_SECONDS


async def open_lookup(
    stack: AsyncExitStack,
    settings: Settings,
    opened: OpenStores,
    *,
    last_used: LastUsed,
    evicted: Callable[[KeyEntry], None],
    metrics: Metrics,
) -> Lookup:
    """Open what checks read keys and organizations by, until the stack is left.

    `evicted` is called with each key that the local cache holds as an object no longer.
    """
    stores, (keys, tenants) = opened.stores, cache_policies(settings)
    freshness, invalidations = Freshness(), Invalidations(seconds=oldest_record(settings))
    context = CacheContext(stores.postgresql, stores.redis, invalidations, freshness, metrics)
    caches = local_caches(
        context, keys=keys, tenants=tenants, cache_keys=settings.api_key_cache_enabled, evicted=evicted
    )
    lookup = Lookup(stores, context, last_used=last_used, caches=caches)
    feed = PostgresFeed(
        settings.notify_database_url.get_secret_value(),
        lately=max(keys.ttl, tenants.ttl) if directory(settings).writes_down_changes else None,
        arrived=metrics.change_arrived,
    )
    changes = ChangeListener(
        feed,
        invalidations=invalidations,
        freshness=freshness,
        shared=opened.invalidations,
        redis=stores.redis,
        observer=metrics,
    )
    for work in (changes.follow, lookup.keep_fresh, last_used.keep_writing):
        stack.push_async_callback(cancel_until_done, [asyncio.create_task(forever(work))])
    stack.push_async_callback(lookup.close)
    return lookup
