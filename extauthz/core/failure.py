"""Redis or PostgreSQL is away: what is decided then, in one place."""

from enum import StrEnum

from extauthz.core.decision import (
    AUTHENTICATION_UNAVAILABLE,
    LIMITS_UNAVAILABLE,
    TOO_MANY_UNREAD,
    Allow,
    Decision,
    Deny,
)
from extauthz.core.errors import StoreUnavailable
from extauthz.core.subject import Identity


class OnRedisDown(StrEnum):
    """`RATE_LIMIT_ON_REDIS_DOWN`: what becomes of limits while Redis is away."""

    OPEN = "open"
    CLOSED = "closed"


def without_identity(error: StoreUnavailable) -> Deny:
    """Whose key it is could not be read: never let in, ask again soon. `busy` is a crowd's doing, not the store's."""
    return TOO_MANY_UNREAD if error.reason == "busy" else AUTHENTICATION_UNAVAILABLE


def without_limits(policy: OnRedisDown, identity: Identity | None) -> Decision:
    """The caller is known but could not be charged."""
    if policy is OnRedisDown.CLOSED:
        return LIMITS_UNAVAILABLE
    return Allow(identity, degraded=True)
