"""The names of our keys in Redis; the contract fixes them."""

from extauthz.core.changes import EntityRef
from extauthz.core.tenants import key_part

NO_FENCE = "cache_fence:."  # of nothing


def api_key_cache(digest: str) -> str:
    """The record of a key, by 64 lower-case hex digits."""
    return f"api_key_cache:{digest}"


def tenant_quota_cache(tenant_id: str) -> str:
    """The record of an organization and its limits."""
    return f"tenant_quota_cache:{key_part(tenant_id)}"


def tenant_limits(tenant_id: str) -> str:
    """The bucket and the counters of an organization; braces keep a tenant's keys on one node of a Cluster."""
    return f"tenant_limits:{{{key_part(tenant_id)}}}"


def address_limits(name: str) -> str:
    """The bucket of one client address at one route."""
    return f"address_limits:{{{key_part(name)}}}"


def charge_once(tenant_id: str, request: str) -> str:
    """That a request was charged; with its organization's braces, so that both are on one node."""
    return f"charge_once:{{{key_part(tenant_id)}}}:{request}"


def usage_due() -> str:
    """Whose counters are to be saved."""
    return "usage_due"


def cache_fence(thing: EntityRef) -> str:
    """The lowest version of a record of `thing` that is accepted."""
    return f"cache_fence:{thing.kind}:{key_part(thing.id)}"
