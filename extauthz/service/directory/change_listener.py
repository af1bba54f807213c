"""What becomes of a change that PostgreSQL tells of: a fence in this process at once, in Redis a moment later."""

import asyncio
from collections import deque
from functools import partial

from extauthz.core.changes import EVERYTHING, Change
from extauthz.core.errors import StoreUnavailable
from extauthz.core.ports import ChangeFeed, Observer, SharedInvalidations
from extauthz.service.directory.invalidation import Freshness, Invalidations
from extauthz.service.store_breaker import StoreBreaker

WAITING_MAX = 10_000  # changes that Redis was not told of yet; beyond that, it is told of everything at once
AT_ONCE = 100
AGAIN_AFTER = 0.5  # seconds


class Changes:
    """Follows the feed. Other processes hear of every change too; the fence in Redis is for those that cannot."""

    def __init__(
        self,
        feed: ChangeFeed,
        *,
        invalidations: Invalidations,
        freshness: Freshness,
        shared: SharedInvalidations,
        redis: StoreBreaker,
        observer: Observer,
    ) -> None:
        self._feed = feed
        self._fences = invalidations
        self._belief = freshness
        self._shared = shared
        self._redis = redis
        self._observer = observer
        self._waiting: deque[Change] = deque()
        self._some = asyncio.Event()

    async def follow(self) -> None:
        """Hears of changes, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._feed.follow(self._hear, self._flowing))
            group.create_task(self._tell_redis())

    def _hear(self, change: Change) -> None:
        self._fences.hear(change)
        self._waiting.append(change)
        if len(self._waiting) > WAITING_MAX:
            fence = max(waiting.fence for waiting in self._waiting)
            self._waiting.clear()
            self._waiting.append(Change(EVERYTHING, fence))
        self._some.set()

    def _flowing(self, flows: bool) -> None:
        self._belief.flowing(flows)
        self._observer.messages_flow(flows)

    async def _tell_redis(self) -> None:
        while True:
            await self._some.wait()
            batch = [self._waiting.popleft() for _ in range(min(AT_ONCE, len(self._waiting)))]
            try:
                await self._redis.run(partial(self._shared.raise_all, batch))
            except StoreUnavailable:
                self._waiting.extendleft(reversed(batch))
                await asyncio.sleep(AGAIN_AFTER)
            if not self._waiting:
                self._some.clear()
