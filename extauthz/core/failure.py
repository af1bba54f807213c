"""A store is away: what is decided then, in one place."""

from enum import StrEnum

from extauthz.core.decision import AUTHENTICATION_UNAVAILABLE, LIMITS_UNAVAILABLE, Allow, Decision
from extauthz.core.identity import Identity


class OnRedisDown(StrEnum):
    """`RATE_LIMIT_ON_REDIS_DOWN`: what becomes of limits while Redis is away."""

    OPEN = "open"
    CLOSED = "closed"


def without_identity_store() -> Decision:
    """Nobody can say whose key it is: never let in, ask again soon."""
    return AUTHENTICATION_UNAVAILABLE


def without_limits(policy: OnRedisDown, identity: Identity | None) -> Decision:
    """The caller is known but could not be charged."""
    if policy is OnRedisDown.CLOSED:
        return LIMITS_UNAVAILABLE
    return Allow(identity, degraded=True)
