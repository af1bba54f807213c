"""Credits of which no count is known: PostgreSQL is away after Redis has lost its memory."""

import pytest

from extauthz.core.decision import LIMITS_UNAVAILABLE, Allow
from extauthz.core.failure import OnRedisDown
from extauthz.core.limits import Limits
from extauthz.core.spend import MICRO, Spent, unchecked_spend
from extauthz.core.subject import Identity
from extauthz.core.token_bucket import State, spend
from extauthz.service.check.rate_limit import RateLimit
from tests.unit.service.fakes import KEY, NOW, TENANT, FakeService

WHO = Identity("org-1", "key-1", "customer:read", "gold")


def decided(limits: Limits, *, shadow: bool = False) -> object:
    """The decision on a spend of counters that began without PostgreSQL."""
    fake = FakeService()
    limiting = RateLimit(
        fake.limiter, fake.meter, on_redis_down=OnRedisDown.OPEN, charge_once=False, observer=fake.watch
    )
    asked = unchecked_spend(TENANT, KEY, 1, NOW)
    asked.limits = limits
    spent = spend(State(provisional=True), asked, round(NOW * MICRO))
    assert isinstance(spent, Spent)
    return limiting.concluded(asked, spent.as_provisional(), WHO, shadow=shadow)


def test_they_are_neither_given_nor_called_exhausted() -> None:
    """The client is told to come again, whatever becomes of limits while Redis is away."""
    assert decided(Limits(credits=5)) is LIMITS_UNAVAILABLE


@pytest.mark.parametrize(("limits", "shadow"), [(Limits(daily_quota=5), False), (Limits(credits=5), True)])
def test_what_has_none_goes_on(limits: Limits, *, shadow: bool) -> None:
    """So does an organization in shadow."""
    assert isinstance(decision := decided(limits, shadow=shadow), Allow)
    assert decision.shadow is shadow
