"""Whose key is this, and what may its organization spend: Redis first, then PostgreSQL, then back into Redis."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from extauthz.core.credentials import Credential
from extauthz.core.errors import StoreCorrupt, StoreUnavailable
from extauthz.core.keys import ApiKey
from extauthz.core.ports import Cache, KeyCache, KeySource, LimitStore, Observer, TenantCache, TenantSource
from extauthz.core.request import CheckRequest
from extauthz.core.tenants import Tenant
from extauthz.service.guard import Guard

T = TypeVar("T")


class FoundKey(NamedTuple):
    """A key, and whether PostgreSQL was read for it within this very request."""

    key: ApiKey
    fresh: bool


@dataclass(frozen=True, slots=True)
class Stores:
    """Where keys, tenants and limits are kept, and the guards in front of the two servers."""

    keys: KeySource
    key_cache: KeyCache
    tenants: TenantSource
    tenant_cache: TenantCache
    limits: LimitStore
    postgresql: Guard
    redis: Guard


class Lookup:
    """Reads through the shared cache. A cache that is away or holds nonsense is a miss, never a refusal."""

    def __init__(self, stores: Stores, *, cache_keys: bool, observer: Observer) -> None:
        self._stores = stores
        self._cache_keys = cache_keys
        self._observer = observer

    async def key(self, credential: Credential, request: CheckRequest, *, cached: bool) -> FoundKey | None:
        """The key of `credential`; None where there is none, or where its record makes no sense.

        Raises StoreUnavailable when neither store can say.
        """
        stores, digests, now = self._stores, credential.digests, request.now
        cached = cached and self._cache_keys
        if cached:
            held = await self._from_cache("api_key", lambda: stores.key_cache.get(digests, now), request)
            if held is not None:
                return FoundKey(held, fresh=False)
        stored = await self._from_source(lambda: stores.keys.find(digests, now), request)
        if stored is None:
            return None
        if cached:
            await self._into_cache(lambda: stores.key_cache.put(stored.digest, stored.key, now), request)
        return FoundKey(stored.key, fresh=True)

    async def tenant(self, found: FoundKey, request: CheckRequest) -> Tenant | None:
        """The organization of a key that was found; None where its record makes no sense.

        While PostgreSQL is away, the organization is what it was when the key was read.
        """
        stores, now = self._stores, request.now
        if found.fresh:
            tenant = found.key.tenant
        else:
            tenant_id = found.key.organization_id
            held = await self._from_cache("tenant_quota", lambda: stores.tenant_cache.get(tenant_id, now), request)
            if held is not None:
                return held
            try:
                read = await self._from_source(lambda: stores.tenants.find(tenant_id, now), request)
            except StoreUnavailable:
                return found.key.tenant
            if read is None:
                return None
            tenant = read
        await self._into_cache(lambda: stores.tenant_cache.put(tenant, now), request)
        return tenant

    async def _from_cache(
        self, cache: Cache, read: Callable[[], Coroutine[Any, Any, T | None]], request: CheckRequest
    ) -> T | None:
        try:
            held = await self._stores.redis.run(read, request.deadline)
        except StoreUnavailable:
            held = None
        except StoreCorrupt as error:
            self._observer.record_corrupt(error)
            held = None
        self._observer.cache_read(cache, hit=held is not None)
        return held

    async def _from_source(self, read: Callable[[], Coroutine[Any, Any, T | None]], request: CheckRequest) -> T | None:
        try:
            return await self._stores.postgresql.run(read, request.deadline)
        except StoreCorrupt as error:
            self._observer.record_corrupt(error)
            return None

    async def _into_cache(self, write: Callable[[], Coroutine[Any, Any, None]], request: CheckRequest) -> None:
        try:
            await self._stores.redis.run(write, request.deadline)
        except StoreUnavailable:
            return
