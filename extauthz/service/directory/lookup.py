"""Look-up of keys and of their organizations."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from extauthz.core.credentials import Credential
from extauthz.core.errors import StoreUnavailable
from extauthz.core.keys import ApiKey
from extauthz.core.ports import SharedCache, Source
from extauthz.core.request import CheckRequest
from extauthz.core.tenants import Tenant
from extauthz.service.directory.entry import Entry
from extauthz.service.directory.local_cache import LocalCache
from extauthz.service.directory.read_through import ReadThrough
from extauthz.service.directory.row_formats import KeyRows, TenantRows
from extauthz.service.directory.tiers import BackingStores, CacheContext, CachePolicy
from extauthz.service.store_breaker import StoreBreaker
from extauthz.service.usage.last_used import LastUsed


@dataclass(frozen=True, slots=True)
class Stores:
    """Where keys and organizations are kept, and the circuit breakers of the two servers.

    `tenants` None: organizations have no records of their own, all of them is in those of their keys.
    """

    keys: Source[Credential, ApiKey]
    key_cache: SharedCache[Credential, ApiKey]
    tenants: Source[str, Tenant] | None
    tenant_cache: SharedCache[str, Tenant]
    postgresql: StoreBreaker
    redis: StoreBreaker


@dataclass(frozen=True, slots=True)
class LocalCaches:
    """The records that one process holds. `cache_keys` False: every check asks PostgreSQL."""

    keys: LocalCache[Credential, ApiKey]
    tenants: LocalCache[str, Tenant]
    cache_keys: bool = True


def local_caches(
    cache_context: CacheContext,
    *,
    keys: CachePolicy,
    tenants: CachePolicy,
    cache_keys: bool,
    evicted: Callable[[Entry[Credential, ApiKey]], None] = lambda _: None,
) -> LocalCaches:
    """Build empty caches; `evicted` is called with each key that is in use no longer."""
    return LocalCaches(
        LocalCache("api_key", rows=KeyRows(), policy=keys, cache_context=cache_context, evicted=evicted),
        LocalCache("tenant_quota", rows=TenantRows(), policy=tenants, cache_context=cache_context),
        cache_keys,
    )


class Lookup:
    """Reads keys and organizations through the caches. A failure of a cache, or a corrupt record in it, is a miss."""

    def __init__(
        self, stores: Stores, cache_context: CacheContext, *, last_used: LastUsed, caches: LocalCaches
    ) -> None:
        self.cache_context = cache_context
        self.last_used = last_used
        self.caches_keys = caches.cache_keys
        self.tenants: ReadThrough[str, Tenant] | None = None
        if stores.tenants is not None:
            self.tenants = ReadThrough(
                "tenant_quota",
                local=caches.tenants,
                backing=BackingStores("tenant_quota", stores.tenants, stores.tenant_cache, cache_context),
                cache_context=cache_context,
            )
        self.keys: ReadThrough[Credential, ApiKey] = ReadThrough(
            "api_key",
            local=caches.keys,
            backing=BackingStores("api_key", stores.keys, stores.key_cache, cache_context),
            cache_context=cache_context,
            read=self._hold_tenant,
        )

    async def keep_fresh(self) -> None:
        """Renew records in use before they end, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.keys.renewal.keep_fresh())
            if self.tenants is not None:
                group.create_task(self.tenants.renewal.keep_fresh())

    async def close(self) -> None:
        """End the readings under way."""
        await self.keys.close()
        if self.tenants is not None:
            await self.tenants.close()

    def note_use(self, key: ApiKey, request: CheckRequest) -> None:
        """Note that a key was presented and may be used."""
        self.last_used.note(key.id, request.now)

    async def key(self, credential: Credential, request: CheckRequest, *, cached: bool) -> ApiKey | None:
        """Return the key of `credential`; None where there is none, or its record is corrupt.

        Raises StoreUnavailable where it can be read nowhere.
        """
        trace = request.trace
        if not (cached and self.caches_keys):
            return await self.keys.fresh(credential, request.deadline, trace)
        if trace is not None:
            trace.cache_layer = "process"  # until a store is asked
        return await self.keys.read(credential, request.now, request.deadline, trace)

    async def tenant(self, key: ApiKey, request: CheckRequest, *, cached: bool) -> Tenant | None:
        """Return the organization of a key that was found; None where its record is corrupt.

        Where nothing is cached, it was read with the key. While PostgreSQL is away, it is what it was when the key was
        read. Raises StoreUnavailable where it has changed since.
        """
        tenants, own = self.tenants, key.tenant
        if tenants is None or not (cached and self.caches_keys):
            return own
        try:
            return await tenants.read(own.id, request.now, request.deadline, request.trace)
        except StoreUnavailable as error:
            if tenants.local.tolerable(own, request.now, error.reason):
                return own
            raise

    def _hold_tenant(self, key: ApiKey, read_at: float) -> None:
        """Hold the organization that came with a key, unless an equal one is held and not to be renewed yet."""
        tenants, tenant = self.tenants, key.tenant
        if tenants is not None:
            held = tenants.local.settled(tenant.id)
            if held is None or held.terms != tenant.terms:
                tenants.offer(tenant.id, tenant, read_at)
