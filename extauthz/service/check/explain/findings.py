"""What one explained check saw: the layers that its records came from, and what limits would have decided."""

from dataclasses import dataclass, replace
from typing import Generic, Literal, TypeVar

from extauthz.core.credentials import Credential
from extauthz.core.errors import StoreCorrupt, StoreUnavailable
from extauthz.core.keys import ApiKey
from extauthz.core.ports import Cache, Layer
from extauthz.core.reason import Reason
from extauthz.core.request import CheckRequest
from extauthz.core.tenants import Tenant
from extauthz.service.directory.lookup import Lookup, Stores, local_caches
from extauthz.service.directory.tiers import CacheContext, CachePolicy
from extauthz.service.unobserved import Unobserved
from extauthz.service.usage.last_used import LastUsed

RecordT = TypeVar("RecordT", ApiKey, Tenant)
ReadFrom = Literal["process", "redis", "postgresql"]


@dataclass(frozen=True, slots=True)
class Reading(Generic[RecordT]):
    """What was read, and from where. `error`: why nothing could be; `corrupt`: what is wrong with what was found."""

    record: RecordT | None
    layer: ReadFrom | None = None
    error: StoreUnavailable | None = None
    corrupt: str = ""


class Findings(Unobserved):
    """Observes one check: it records what the check met, and counts nothing."""

    def __init__(self) -> None:
        self.layers: dict[Cache, ReadFrom] = {}
        self.corrupt = ""
        self.would: Reason | None = None

    def cache_read(self, cache: Cache, layer: Layer | None, age: float | None, times: int = 1) -> None:  # noqa: ARG002 - records say it
        """Remembers the layer."""
        self.layers[cache] = layer or "postgresql"

    def record_corrupt(self, error: StoreCorrupt) -> None:
        """Remembers what is wrong."""
        self.corrupt = str(error)

    def shadowed(self, reason: Reason) -> None:
        """Remembers what would have been decided."""
        self.would = reason


@dataclass(frozen=True, slots=True)
class LookupParts:
    """What a lookup is made of. `live` is the one whose process layer is looked at too; None: there is none."""

    stores: Stores
    cache_context: CacheContext
    keys: CachePolicy
    tenants: CachePolicy
    cache_keys: bool
    live: Lookup | None = None


class RecordedLookup(Lookup):
    """A lookup for one check that remembers what it found. Its own process layer goes with it.

    Records are read at the time that it is now, whatever time the request is judged at.
    """

    def __init__(self, parts: LookupParts, findings: Findings) -> None:
        caches = local_caches(
            parts.cache_context,
            keys=replace(parts.keys, in_use=10, packed=0),
            tenants=replace(parts.tenants, in_use=10, packed=0),
            cache_keys=parts.cache_keys,
        )
        super().__init__(parts.stores, parts.cache_context, last_used=LastUsed(None), caches=caches)
        self.found_key: Reading[ApiKey] | None = None
        self.found_tenant: Reading[Tenant] | None = None
        self.layers: tuple[ReadFrom, ...] = ()
        self._live = parts.live
        self._findings = findings
        self._clock = parts.cache_context.clock

    async def key(self, credential: Credential, request: CheckRequest, *, cached: bool) -> ApiKey | None:
        """As for Lookup."""
        cached = cached and self.caches_keys
        below: tuple[ReadFrom, ...] = ("redis", "postgresql") if cached else ("postgresql",)
        self.layers = ("process", *below) if self._live is not None and cached else below
        if self._live is not None and cached:
            self.keys.local.copy_from(self._live.keys.local, credential)
        try:
            key = await super().key(credential, self._now(request), cached=cached)
        except StoreUnavailable as error:
            self.found_key = Reading(None, error=error)
            raise
        self.found_key = Reading(key, self._layer("api_key", cached=cached), corrupt=self._findings.corrupt)
        return key

    async def tenant(self, key: ApiKey, request: CheckRequest, *, cached: bool) -> Tenant | None:
        """As for Lookup."""
        live = None if self._live is None else self._live.tenants
        beside = self.tenants is not None and self.tenants.local.held.get(key.tenant.id) is not None
        if live is not None and self.tenants is not None and not beside:
            self.tenants.local.copy_from(live.local, key.tenant.id)
        self._findings.corrupt = ""
        try:
            tenant = await super().tenant(key, self._now(request), cached=cached)
        except StoreUnavailable as error:
            self.found_tenant = Reading(None, error=error)
            raise
        with_key = self.found_key.layer if self.found_key is not None and tenant is key.tenant else None
        layer = with_key or self._layer("tenant_quota", cached=cached)
        self.found_tenant = Reading(tenant, layer, corrupt=self._findings.corrupt)
        return tenant

    def _layer(self, cache: Cache, *, cached: bool) -> ReadFrom:
        """Where the last record was found; a refusal that is remembered is this process's."""
        return self._findings.layers.get(cache, "process" if cached else "postgresql")

    def _now(self, request: CheckRequest) -> CheckRequest:
        return replace(request, now=self._clock())
