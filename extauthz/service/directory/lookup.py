"""Whose key is this, and what may its organization spend."""

import asyncio
from dataclasses import dataclass

from extauthz.core.credentials import Credential
from extauthz.core.errors import StoreUnavailable
from extauthz.core.keys import ApiKey
from extauthz.core.ports import SharedCache, Source
from extauthz.core.request import CheckRequest
from extauthz.core.tenants import Tenant
from extauthz.service.directory.read_through import ReadThrough
from extauthz.service.directory.row_formats import KeyRows, TenantRows
from extauthz.service.directory.tiers import BackingStores, CacheContext, CachePolicy
from extauthz.service.store_breaker import StoreBreaker
from extauthz.service.usage.last_used import LastUsed


@dataclass(frozen=True, slots=True)
class Stores:
    """Where keys and tenants are kept, and the guards in front of the two servers.

    `tenants` None: an organization has no record of its own, its keys say all of it.
    """

    keys: Source[Credential, ApiKey]
    key_cache: SharedCache[Credential, ApiKey]
    tenants: Source[str, Tenant] | None
    tenant_cache: SharedCache[str, Tenant]
    postgresql: StoreBreaker
    redis: StoreBreaker


class Lookup:
    """Keys and tenants, read through the caches. A cache that is away or holds nonsense is a miss, never a refusal."""

    def __init__(
        self,
        stores: Stores,
        cache_context: CacheContext,
        *,
        last_used: LastUsed,
        keys: CachePolicy,
        tenants: CachePolicy,
        cache_keys: bool,
    ) -> None:
        self.cache_context = cache_context
        self.last_used = last_used
        self.caches_keys = cache_keys
        self.keys: ReadThrough[Credential, ApiKey] = ReadThrough(
            "api_key",
            below=BackingStores("api_key", stores.keys, stores.key_cache, cache_context),
            rows=KeyRows(),
            policy=keys,
            cache_context=cache_context,
        )
        self.keys.beside = self._hold_tenant
        self.tenants: ReadThrough[str, Tenant] | None = None
        if stores.tenants is not None:
            self.tenants = ReadThrough(
                "tenant_quota",
                below=BackingStores("tenant_quota", stores.tenants, stores.tenant_cache, cache_context),
                rows=TenantRows(),
                policy=tenants,
                cache_context=cache_context,
            )

    async def keep_fresh(self) -> None:
        """Reads what is in use anew before it ends, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.keys.renewal.keep_fresh())
            if self.tenants is not None:
                group.create_task(self.tenants.renewal.keep_fresh())

    async def close(self) -> None:
        """Ends the readings under way."""
        await self.keys.close()
        if self.tenants is not None:
            await self.tenants.close()

    def note_use(self, key: ApiKey, request: CheckRequest) -> None:
        """The key was presented and may be used."""
        self.last_used.note(key.id, request.now)

    async def key(self, credential: Credential, request: CheckRequest, *, cached: bool) -> ApiKey | None:
        """The key of `credential`; None where there is none, or where its record makes no sense.

        Raises StoreUnavailable when nobody can say.
        """
        trace = request.trace
        if not (cached and self.caches_keys):
            return await self.keys.fresh(credential, request.deadline, trace)
        if trace is not None:
            trace.cache_layer = "process"  # until a layer below is asked
        return await self.keys.read(credential, request.now, request.deadline, trace)

    async def tenant(self, key: ApiKey, request: CheckRequest, *, cached: bool) -> Tenant | None:
        """The organization of a key that was found; None where its record makes no sense.

        Where nothing is cached, it was read with the key. While PostgreSQL is away, it is what it was when the key was
        read. Raises StoreUnavailable when it is known that this is no longer so.
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
        """Takes in the organization that came with a key, unless one that says the same is held and not due yet."""
        tenants, tenant = self.tenants, key.tenant
        if tenants is not None:
            held = tenants.local.settled(tenant.id)
            if held is None or held.terms != tenant.terms:
                tenants.offer(tenant.id, tenant, read_at)
