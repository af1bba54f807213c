"""Decision = Allow | Deny: the one answer, before any proxy's dialect."""

from dataclasses import dataclass, replace

from extauthz.core.balance import Balance
from extauthz.core.limit_kinds import REFUSED_BY
from extauthz.core.permissions import refusal_code
from extauthz.core.reason import Reason
from extauthz.core.subject import Identity

RETRY_UNAVAILABLE = 1  # seconds: our own stores are usually back, or bypassed, within one


@dataclass(slots=True)  # not frozen: one is made for every check, at a quarter of the price
class Allow:
    """The request may pass. `identity` None: a public route. `degraded`: its limits could not be charged in Redis.

    `cost` is what was taken from limits, 0 where nothing was. `shadow`: limits refuse nothing here, and clients are not
    told of them.
    """

    identity: Identity | None = None
    balance: Balance | None = None
    degraded: bool = False
    cost: int = 0
    shadow: bool = False

    @property
    def reason(self) -> Reason:
        """The token of this decision."""
        return Reason.ALLOW


@dataclass(frozen=True, slots=True)
class Deny:
    """The request is refused. `code` is what API clients see; `scope` what a permission would have to name.

    `retry_after` seconds, None where waiting does not help; `balance` on a 429 of limits only.
    """

    reason: Reason
    code: str
    scope: str | None = None
    retry_after: int | None = None
    balance: Balance | None = None


Decision = Allow | Deny

# Refusals that say nothing but their name are made once.
PLAIN_DENIALS: dict[Reason, Deny] = {
    reason: Deny(reason, reason.value) for reason in Reason if reason is not Reason.ALLOW
}
AUTHENTICATION_UNAVAILABLE = Deny(
    Reason.AUTHENTICATION_UNAVAILABLE, Reason.AUTHENTICATION_UNAVAILABLE.value, retry_after=RETRY_UNAVAILABLE
)
# More keys are to be looked up at this moment than there is room for: not known to be wrong, so not refused as such.
TOO_MANY_UNREAD = Deny(Reason.RATE_LIMITED, Reason.RATE_LIMITED.value, retry_after=RETRY_UNAVAILABLE)
LIMITS_UNAVAILABLE = Deny(Reason.LIMITS_UNAVAILABLE, Reason.LIMITS_UNAVAILABLE.value, retry_after=RETRY_UNAVAILABLE)


def deny(reason: Reason) -> Deny:
    """The refusal that says nothing but its reason."""
    return PLAIN_DENIALS[reason]


def deny_permission(resource: str, mode: str) -> Deny:
    """The refusal of a key that lacks `resource:mode`."""
    return Deny(Reason.PERMISSION_DENIED, refusal_code(resource, mode), scope=f"{resource}:{mode}")


def conclude(identity: Identity | None, balance: Balance, cost: int) -> Decision:
    """The decision after the limits have spoken."""
    if not balance.refused or balance.binding is None:
        return Allow(identity, balance, cost=cost)
    reason = REFUSED_BY[balance.binding.name]
    return Deny(reason, reason.value, retry_after=balance.retry_after, balance=balance)


def only_shadow(decision: Decision, identity: Identity | None) -> Allow:
    """What becomes of a decision of limits that are computed and refuse nothing."""
    if isinstance(decision, Allow):
        return replace(decision, shadow=True)
    return Allow(identity, shadow=True)
