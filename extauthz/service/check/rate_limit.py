"""The last step of a check: what limits say, what is counted of it, and what becomes of it in shadow."""

from random import random
from typing import Protocol

from extauthz.core import failure
from extauthz.core.balance import balance
from extauthz.core.decision import LIMITS_UNAVAILABLE, Allow, Decision, conclude, deny, only_shadow
from extauthz.core.errors import StoreUnavailable
from extauthz.core.failure import OnRedisDown
from extauthz.core.observers import Meter, Observer
from extauthz.core.reason import Reason
from extauthz.core.spend import Spend, Spent
from extauthz.core.subject import Identity
from extauthz.core.trace import Trace

JITTER = 5  # seconds at most, by which clients that wait for a new day come back after its first second


def jitter() -> int:
    """Seconds that a refusal is put off, from 0 to JITTER."""
    return int(random() * (JITTER + 1))  # noqa: S311 - no secret


class Spender(Protocol):
    """What spends, or only says what a spend would come to."""

    async def spend(self, asked: Spend, trace: Trace | None = None) -> tuple[Spend, Spent]:
        """What came of it, and the spend with the windows that hold. Raises StoreUnavailable."""
        ...


class RateLimit:
    """Decides by limits. `charge_once`: requests that a proxy repeats are recognised by their id."""

    def __init__(
        self,
        limiter: Spender,
        meter: Meter,
        *,
        on_redis_down: OnRedisDown,
        charge_once: bool,
        observer: Observer,
    ) -> None:
        self.charge_once = charge_once
        self._limiter = limiter
        self._meter = meter
        self._on_redis_down = on_redis_down
        self._observer = observer

    async def decide(
        self, asked: Spend | Reason, identity: Identity | None, *, shadow: bool, trace: Trace | None = None
    ) -> Decision:
        """The decision on what a request asks of limits, or on the reason why it never fits."""
        if isinstance(asked, Reason):
            return self._shown(deny(asked), identity, shadow=shadow)
        # Redis has its time even where the deadline of the request is over: under overload clients could otherwise
        # bypass limits.
        try:
            asked, spent = await self._limiter.spend(asked, trace)
        except StoreUnavailable:
            return self.uncharged(identity, shadow=shadow)
        return self.concluded(asked, spent, identity, shadow=shadow)

    def concluded(self, asked: Spend, spent: Spent, identity: Identity | None, *, shadow: bool) -> Decision:
        """The decision on a spend that has an outcome, which is then counted."""
        if spent.provisional and asked.credited and spent.refused:
            # What was used of its credits is not known: not that it is all of them, nor that something is left.
            return Allow(identity, degraded=True, shadow=True) if shadow else LIMITS_UNAVAILABLE
        cost = 0 if spent.repeated else asked.cost
        decision = conclude(identity, balance(asked, spent, jitter=jitter() if spent.refused else 0), cost)
        if asked.owner.kind == "tenant" and not spent.repeated:
            self._meter.note(asked, spent.row, decision.reason)
        return self._shown(decision, identity, shadow=shadow)

    def uncharged(self, identity: Identity | None, *, shadow: bool) -> Decision:
        """The decision where the outcome of a spend is unknown."""
        if shadow:
            return Allow(identity, degraded=True, shadow=True)
        return failure.without_limits(self._on_redis_down, identity)

    def _shown(self, decision: Decision, identity: Identity | None, *, shadow: bool) -> Decision:
        if not shadow:
            return decision
        self._observer.shadowed(decision.reason)
        return only_shadow(decision, identity)
