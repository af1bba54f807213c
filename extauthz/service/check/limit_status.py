"""What callers are told of their own limits: what is used, what is left, and until when. Asking costs nothing."""

from dataclasses import dataclass, replace
from typing import NamedTuple

from extauthz.core import failure
from extauthz.core.balance import balance
from extauthz.core.credentials import KeyFormat, NoCredential
from extauthz.core.decision import LIMITS_UNAVAILABLE, Deny, deny
from extauthz.core.errors import StoreUnavailable
from extauthz.core.keys import ApiKey
from extauthz.core.reason import Reason
from extauthz.core.request import CheckRequest
from extauthz.core.spend import DAILY, KEY_DAILY, KEY_MONTHLY, MONTHLY, Spend, Spent, asking
from extauthz.core.tenants import Tenant
from extauthz.service.directory.lookup import Lookup
from extauthz.service.limits.limiter import Limiter


class CallerLimit(NamedTuple):
    """One limit, or a day or month without a quota (`limit` and `remaining` None); `window` and `reset` are seconds."""

    name: str
    limit: int | None
    window: int
    used: int
    remaining: int | None
    reset: int


@dataclass(frozen=True, slots=True)
class CallerLimits:
    """Every limit that holds for a key, and its organization's day and month. Not `enforced`: the organization is in
    shadow, and no limit refuses.
    """

    organization_id: str
    api_key_id: str
    plan: str
    enforced: bool
    limits: tuple[CallerLimit, ...]

    def to_json(self) -> dict[str, object]:
        """One JSON object."""
        return {
            "organization_id": self.organization_id,
            "api_key_id": self.api_key_id,
            "plan": self.plan,
            "enforced": self.enforced,
            "limits": [limit._asdict() for limit in self.limits],
        }


class LimitStatusReader:
    """Tells the holders of keys. They are refused in the order of a check, never charged, and not noted as a use."""

    def __init__(self, key_format: KeyFormat, lookup: Lookup, limiter: Limiter) -> None:
        self._key_format = key_format
        self._lookup = lookup
        self._limiter = limiter

    async def show(self, request: CheckRequest) -> CallerLimits | Deny:
        """The limits of the key that a request carries. Never raises for what a client sent, nor for a store that is
        away.
        """
        found = await self._find(request)
        if isinstance(found, Deny):
            return found
        key, tenant = found
        peek = replace(asking(tenant, key, 1, request.now), operation="peek")
        try:
            asked, spent = await self._limiter.spend(peek)
        except StoreUnavailable:
            return LIMITS_UNAVAILABLE
        if spent.provisional:  # they began at zero, since PostgreSQL was away: more would seem to be left than is
            return LIMITS_UNAVAILABLE
        return CallerLimits(tenant.id, key.id, tenant.plan, not tenant.shadow, own_limits(asked, spent))

    async def _find(self, request: CheckRequest) -> tuple[ApiKey, Tenant] | Deny:
        """Whose key it is. The raw key stays inside this one call."""
        credential = self._key_format.extract(request.authorization)
        if isinstance(credential, NoCredential):
            return deny(credential.reason)
        try:
            key = await self._lookup.key(credential, request, cached=True)
            if key is None or not key.admits(request.now):
                return deny(Reason.INVALID_CREDENTIALS)
            tenant = await self._lookup.tenant(key, request, cached=True)
        except StoreUnavailable as error:
            return failure.without_identity(error)
        if tenant is None:
            return deny(Reason.INVALID_CREDENTIALS)
        return deny(Reason.ORGANIZATION_SUSPENDED) if tenant.suspended else (key, tenant)


def own_limits(asked: Spend, spent: Spent) -> tuple[CallerLimit, ...]:
    """What is used and left of each limit of a spend.

    Day and month of the organization are counted without a quota, too. Of a bucket, what has not come in again is used.
    """
    quotas = {DAILY: asked.limits.daily_quota, MONTHLY: asked.limits.monthly_quota}
    without_quota = {name for name, quota in quotas.items() if quota is None}
    limits = replace(asked.limits, daily_quota=quotas[DAILY] or 0, monthly_quota=quotas[MONTHLY] or 0)
    used = {
        DAILY: spent.by_day,
        MONTHLY: spent.by_month,
        KEY_DAILY: spent.key_by_day,
        KEY_MONTHLY: spent.key_by_month,
    }
    return tuple(
        CallerLimit(
            name=each.name,
            limit=None if each.name in without_quota else each.size,
            window=each.window,
            used=used.get(each.name, each.size - each.remaining),
            remaining=None if each.name in without_quota else each.remaining,
            reset=each.reset,
        )
        for each in balance(replace(asked, limits=limits), spent).limit_statuses
    )
