"""A circuit breaker in front of a store: the events for the observer, and which failures are an outage."""

import pytest

from extauthz.core.errors import StoreCorrupt, StoreUnavailable
from extauthz.core.ports import REDIS
from tests.unit.service.breaker_harness import BreakerHarness, seven


@pytest.mark.parametrize("reason", ["busy", "changing", "deadline"])
async def test_failures_of_the_caller_do_not_open_the_breaker(reason: str) -> None:
    """They are counted, and the store stays up."""
    harness = BreakerHarness()
    await harness.guard.start()
    harness.guard.failed(StoreUnavailable(REDIS, reason))
    assert harness.guard.up
    assert harness.watch.failures == {(REDIS, reason): 1}
    await harness.guard.close()


async def test_outage_is_reported_with_its_store() -> None:
    """The observer is notified once that the store is away, and once that it is back."""
    harness = BreakerHarness()
    await harness.guard.start()
    harness.guard.failed(StoreUnavailable(REDIS, "readonly", said="READONLY", remedy="ask the primary"))
    assert harness.guard.trouble == "readonly"
    assert harness.guard.detail == "readonly: READONLY; ask the primary"
    assert await harness.refused(seven) == "down"
    await harness.comes_back()
    assert harness.watch.changes == [(REDIS, True, ""), (REDIS, False, "readonly"), (REDIS, True, "")]
    await harness.guard.close()


async def test_corrupt_record_does_not_open_the_breaker() -> None:
    """The store answered."""
    harness = BreakerHarness()
    await harness.guard.start()

    async def corrupt() -> None:
        raise StoreCorrupt(REDIS, "not JSON")

    with pytest.raises(StoreCorrupt):
        await harness.run(corrupt)
    assert harness.guard.up
    assert not harness.watch.failures
    await harness.guard.close()
