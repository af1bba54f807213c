"""The change listener raises a fence here at once, in Redis as soon as it is up, and loses no change."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from math import inf

import pytest

from extauthz.core.changes import EVERYTHING, Change, EntityRef
from extauthz.core.errors import StoreUnavailable
from extauthz.core.ports import REDIS
from extauthz.service.directory import invalidation as module
from extauthz.service.directory.invalidation import ChangeListener, Freshness, Invalidations
from tests.unit.service.breaker_harness import BreakerHarness, fails
from tests.unit.service.fakes import Failing

ONE = Change(EntityRef("api_key", "1"), 8)
MANY = [Change(EntityRef("api_key", str(number)), number + 1) for number in range(250)]


class Feed:
    """A feed of changes that a test writes."""

    def __init__(self) -> None:
        self.ready = asyncio.Event()

    async def follow(self, hear: Callable[[Change], None], flowing: Callable[[bool], None]) -> None:
        self.hear, self.flowing = hear, flowing
        self.ready.set()
        await asyncio.Event().wait()


class Shared(Failing):
    """Fences that all processes respect."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[list[Change]] = []
        self.told = asyncio.Semaphore(0)

    async def raise_all(self, changes: Sequence[Change]) -> None:
        self.told.release()
        self.called()
        self.batches.append(list(changes))


class Ear:
    """A change listener with all that it needs, on a circuit breaker whose Redis is up."""

    def __init__(self, bench: BreakerHarness) -> None:
        self.bench, self.feed, self.shared = bench, Feed(), Shared()
        self.invalidations, self.freshness = Invalidations(seconds=100), Freshness()
        self.changes = ChangeListener(
            self.feed,
            invalidations=self.invalidations,
            freshness=self.freshness,
            shared=self.shared,
            redis=bench.guard,
            observer=bench.watch,
        )

    async def told(self, batches: int) -> list[list[Change]]:
        """The fences that Redis received, once they are so many."""
        async with asyncio.timeout(5):
            while len(self.shared.batches) < batches:
                await self.shared.told.acquire()
        return self.shared.batches


@asynccontextmanager
async def hearing() -> AsyncIterator[Ear]:
    ear = Ear(BreakerHarness(timeout=5))
    await ear.bench.guard.start()
    following = asyncio.create_task(ear.changes.follow())
    await ear.feed.ready.wait()
    try:
        yield ear
    finally:
        following.cancel()
        await asyncio.wait({following})
        await ear.bench.guard.close()


async def test_a_change_is_effective_at_once_and_sent_to_redis() -> None:
    """The fence is raised in this process first; Redis has it a moment later, once."""
    async with hearing() as ear:
        ear.feed.hear(ONE)
        assert not ear.invalidations.admits((ONE.thing,), 7, -inf)
        assert await ear.told(1) == [[ONE]]


async def test_many_changes_are_sent_in_order() -> None:
    """A flood of changes goes to Redis in batches, in order."""
    async with hearing() as ear:
        for change in MANY:
            ear.feed.hear(change)
        batches = await ear.told(3)
        assert [len(batch) for batch in batches] == [100, 100, 50]
        assert [change for batch in batches for change in batch] == MANY


async def test_change_of_everything() -> None:
    """After a flood that cannot be told apart, this process and those that read Redis serve no old record."""
    async with hearing() as ear:
        everything = Change(EVERYTHING, 9)
        ear.feed.hear(everything)
        ear.feed.hear(ONE)
        assert not ear.invalidations.admits((EntityRef("plan", "x"),), 8, -inf)
        assert await ear.told(1) == [[everything, ONE]]


async def test_what_waits_for_redis_is_bounded() -> None:
    """Changes beyond the bound during an outage become one fence round everything, above each of them."""
    async with hearing() as ear:
        ear.bench.there.clear()
        await ear.bench.refused(fails)
        for number in range(module.QUEUED_CHANGES_MAX):
            ear.feed.hear(Change(EntityRef("api_key", str(number)), 100_000 - number))
        assert len(ear.changes) == module.QUEUED_CHANGES_MAX
        for number in range(2 * module.QUEUED_CHANGES_MAX):
            ear.feed.hear(Change(EntityRef("plan", str(number)), number))
            assert len(ear.changes) <= module.QUEUED_CHANGES_MAX
        ear.bench.there.set()
        first, *_ = await ear.told(1)
        assert first[0] == Change(EVERYTHING, 100_000)


async def test_changes_are_sent_when_redis_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Changes received during an outage wait, in order, and are sent when Redis is back."""
    monkeypatch.setattr(module, "RETRY_INTERVAL_SECONDS", 0.001)
    async with hearing() as ear:
        ear.shared.error = StoreUnavailable(REDIS, "deadline")
        ear.feed.hear(ONE)
        async with asyncio.timeout(5):
            for _ in range(3):
                await ear.shared.told.acquire()
        for change in MANY[:3]:
            ear.feed.hear(change)
        ear.shared.error = None
        await ear.told(1)
        async with asyncio.timeout(5):
            while sum(map(len, ear.shared.batches)) < 4:
                await ear.shared.told.acquire()
        assert [change for batch in ear.shared.batches for change in batch] == [ONE, *MANY[:3]]


async def test_lost_feed_is_reported() -> None:
    """While messages do not arrive, cached records are confirmed, and operators are notified."""
    async with hearing() as ear:
        for flows in (True, False):
            ear.feed.flowing(flows)
            assert ear.bench.watch.flows is flows
        since = ear.freshness.since
        ear.feed.flowing(True)
        assert ear.freshness.since > since
