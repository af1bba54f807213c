"""What callers are told of their own limits: what is used, what is left, and until when. Asking costs nothing."""

from dataclasses import dataclass, replace
from typing import NamedTuple

from extauthz.core.balance import balance
from extauthz.core.decision import LIMITS_UNAVAILABLE, Deny
from extauthz.core.errors import StoreUnavailable
from extauthz.core.limit_kinds import QUOTAS
from extauthz.core.limits import Limits
from extauthz.core.request import CheckRequest
from extauthz.core.spend import Spend, Spent, unchecked_spend
from extauthz.service.check.authenticate import Authentication, Refused
from extauthz.service.check.rate_limit import Spender


class CallerLimit(NamedTuple):
    """One limit, or a day or month without a quota (`limit` and `remaining` None); `window` and `reset` are seconds,
    None of credits, which do not renew.
    """

    name: str
    limit: int | None
    window: int | None
    used: int
    remaining: int | None
    reset: int | None


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

    def __init__(self, authentication: Authentication, limiter: Spender) -> None:
        self._authentication = authentication
        self._limiter = limiter

    async def show(self, request: CheckRequest) -> CallerLimits | Deny:
        """The limits of the subject that makes a request, or the refusal that a check would begin with.

        Never raises for what a client sent, nor for a store that is away.
        """
        found = await self._authentication.authenticate(request, noted=False)
        if isinstance(found, Refused):
            return found.decision
        subject, tenant = found
        peek = replace(unchecked_spend(tenant, subject, 1, request.now), operation="peek")
        try:
            asked, spent = await self._limiter.spend(peek)
        except StoreUnavailable:
            return LIMITS_UNAVAILABLE
        if spent.provisional:  # they began at zero, since PostgreSQL was away: more would seem to be left than is
            return LIMITS_UNAVAILABLE
        return CallerLimits(tenant.id, subject.id, tenant.plan, not tenant.shadow, own_limits(asked, spent))


def own_limits(asked: Spend, spent: Spent) -> tuple[CallerLimit, ...]:
    """What is used and left of each limit of a spend.

    Day and month of the organization are counted without a quota, too. Of a bucket, what has not come in again is used.
    """
    own = asked.limits
    quotas = list(zip(QUOTAS, own.quotas, strict=True))
    without_quota = {quota.name for quota, size in quotas if size is None}
    counted = Limits(
        own.rate,
        own.burst,
        *(0 if size is None and quota.always else size for quota, size in quotas),
        credits=own.credits,
    )
    used = spent.used
    return tuple(
        CallerLimit(
            name=each.name,
            limit=None if each.name in without_quota else each.size,
            window=each.window,
            used=used.get(each.name, each.size - each.remaining),
            remaining=None if each.name in without_quota else each.remaining,
            reset=each.reset,
        )
        for each in balance(replace(asked, limits=counted), spent).limit_statuses
    )
