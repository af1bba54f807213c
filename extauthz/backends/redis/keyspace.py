"""The names of our keys in Redis; the contract fixes them."""

from extauthz.core.changes import Thing
from extauthz.core.tenants import key_part


def api_key_cache(digest: str) -> str:
    """The record of a key, by 64 lower-case hex digits."""
    return f"api_key_cache:{digest}"


def tenant_quota_cache(tenant_id: str) -> str:
    """The record of an organization and its limits."""
    return f"tenant_quota_cache:{key_part(tenant_id)}"


def tenant_limits(tenant_id: str) -> str:
    """The bucket and the counters of an organization; braces keep a tenant's keys on one node of a Cluster."""
    return f"tenant_limits:{{{key_part(tenant_id)}}}"


def cache_fence(thing: Thing) -> str:
    """The lowest version of a record of `thing` that is believed."""
    return f"cache_fence:{thing.kind}:{key_part(thing.id)}"
