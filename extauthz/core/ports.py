"""The protocols that the outside must fit. Every method may raise StoreUnavailable; reads may raise StoreCorrupt."""

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

from extauthz.core.decision import Decision
from extauthz.core.errors import StoreCorrupt
from extauthz.core.keys import ApiKey
from extauthz.core.limits import Limits
from extauthz.core.records import KeyDetails, NewKey, Organization, Plan
from extauthz.core.spend import Spend, Spent
from extauthz.core.tenants import Tenant

Store = Literal["postgresql", "redis"]
POSTGRESQL: Store = "postgresql"
REDIS: Store = "redis"

Cache = Literal["api_key", "tenant_quota"]


class StoredKey(NamedTuple):
    """A key and the digest under which it is stored."""

    digest: str
    key: ApiKey


class KeySource(Protocol):
    """Where keys are kept for good."""

    async def find(self, digests: Sequence[str], now: float) -> StoredKey | None:
        """The key with one of these digests; `now` (Unix seconds, before the read) becomes its `loaded_at`."""
        ...


class KeyCache(Protocol):
    """Keys for `API_KEY_CACHE_TTL` seconds after they were read from where they are kept for good."""

    async def get(self, digests: Sequence[str], now: float) -> ApiKey | None:
        """The key cached under one of these digests, if it is not too old at `now`."""
        ...

    async def put(self, digest: str, key: ApiKey, now: float) -> None:
        """Keep `key` for what is left of its time."""
        ...

    async def drop(self, digests: Sequence[str]) -> None:
        """Forget these digests."""
        ...


class TenantSource(Protocol):
    """Where organizations and their limits are kept for good."""

    async def find(self, tenant_id: str, now: float) -> Tenant | None:
        """The organization of that id; `now` (Unix seconds, before the read) becomes its `loaded_at`."""
        ...


class TenantCache(Protocol):
    """Organizations and their limits for `TENANT_QUOTA_CACHE_TTL` seconds."""

    async def get(self, tenant_id: str, now: float) -> Tenant | None:
        """The cached organization, if it is not too old at `now`."""
        ...

    async def put(self, tenant: Tenant, now: float) -> None:
        """Keep `tenant` for what is left of its time."""
        ...

    async def drop(self, tenant_ids: Sequence[str]) -> None:
        """Forget these organizations."""
        ...


class KeyStore(Protocol):
    """Keys as a person manages them."""

    async def create(self, new: NewKey) -> KeyDetails:
        """Stores a key. Raises InvalidInput, Conflict."""
        ...

    async def list_of(self, organization_id: str) -> list[KeyDetails]:
        """All keys of an organization, newest first."""
        ...

    async def show(self, key_id: str) -> KeyDetails:
        """One key. Raises NotFound."""
        ...

    async def usable(self, organization_id: str) -> int:
        """How many keys of an organization could be used now."""
        ...

    async def revoke(self, key_id: str, *, last: bool) -> tuple[KeyDetails, str]:
        """Ends a key for good; the key and its digest. Raises NotFound, Conflict."""
        ...


class TenantStore(Protocol):
    """Plans and organizations as a person manages them. Raises NotFound, Conflict, InvalidInput."""

    async def create_plan(self, name: str, limits: Limits) -> Plan:
        """Stores a plan."""
        ...

    async def list_plans(self) -> list[Plan]:
        """All plans by name."""
        ...

    async def show_plan(self, name: str) -> Plan:
        """One plan."""
        ...

    async def update_plan(self, name: str, limits: Limits) -> tuple[Plan, list[str]]:
        """Gives a plan other limits; the plan and the ids of the organizations that have it."""
        ...

    async def delete_plan(self, name: str) -> None:
        """Removes a plan that no organization has."""
        ...

    async def create_organization(self, name: str, plan: str) -> Organization:
        """Stores an organization."""
        ...

    async def list_organizations(self) -> list[Organization]:
        """All organizations by name."""
        ...

    async def show_organization(self, ref: str) -> Organization:
        """One organization, by id or name."""
        ...

    async def update_organization(self, changed: Organization) -> Organization:
        """Stores plan, status and overrides."""
        ...

    async def delete_organization(self, tenant_id: str) -> list[str]:
        """Removes an organization and its keys; the digests of the keys."""
        ...


class LimitStore(Protocol):
    """Where buckets and counters are kept."""

    async def spend(self, tenant_id: str, asked: Spend) -> Spent:
        """One atomic step: refill, check every limit, take from all of them or from none. Never sent twice."""
        ...


class Observer(Protocol):
    """What telemetry is told. None of it waits, and none of it sees a credential."""

    def decided(self, dialect: str, decision: Decision, seconds: float) -> None:
        """A check was answered, `seconds` after it arrived."""
        ...

    def cache_read(self, cache: Cache, *, hit: bool) -> None:
        """A shared cache was asked."""
        ...

    def store_failed(self, store: Store, reason: str) -> None:
        """One call to a store failed."""
        ...

    def record_corrupt(self, error: StoreCorrupt) -> None:
        """One record of a store made no sense."""
        ...

    def store_changed(self, store: Store, *, up: bool, reason: str) -> None:
        """A store went away (and why), or came back."""
        ...
