"""Invalidation: which records include every change, how changes arrive, and how other processes are notified of them.

A change raises a fence: a version below which records are not used, however they come in.
"""

import asyncio
from collections import deque
from collections.abc import Iterable
from functools import partial
from math import inf
from time import monotonic
from typing import NamedTuple

from extauthz.core.changes import EVERYTHING, Change, EntityRef
from extauthz.core.errors import StoreUnavailable
from extauthz.core.management_ports import ChangeLog
from extauthz.core.observers import Observer
from extauthz.core.ports import ChangeFeed, SharedInvalidations
from extauthz.service.store_breaker import StoreBreaker

UNCONFIRMED_SECONDS = 5.0  # for which a held record is used while messages of changes do not arrive
FENCES_MAX = 10_000  # beyond that, one fence keeps out every record
QUEUED_CHANGES_MAX = 10_000  # that are not in Redis yet; beyond that, one fence there keeps out every record
CHANGES_BATCH_MAX = 100  # in one call of Redis
RETRY_INTERVAL_SECONDS = 0.5


class _Fence(NamedTuple):
    version: int
    raised_at: float  # monotonic seconds
    until: float

    def joined(self, other: "_Fence") -> "_Fence":
        """Return one fence that keeps out what either does."""
        return _Fence(
            max(self.version, other.version), max(self.raised_at, other.raised_at), max(self.until, other.until)
        )


_NO_FENCE = _Fence(0, -inf, -inf)


class Invalidations:
    """The fences of one process, each kept for `seconds`: as long as an older record can be anywhere.

    `epoch` counts changes, so that a record that was admitted in an epoch need not be checked again in it.
    """

    def __init__(self, *, seconds: float, at_most: int = FENCES_MAX) -> None:
        self.epoch = 0
        self._seconds = seconds
        self._at_most = at_most
        self._fences: dict[EntityRef, _Fence] = {}  # oldest first
        self._round_all = _NO_FENCE

    def __len__(self) -> int:
        return len(self._fences)

    def apply(self, change: Change) -> None:
        """Admit no record of `change.thing` that was read before the change."""
        now = monotonic()
        fence = _Fence(change.fence, now, now + self._seconds)
        if change.thing == EVERYTHING:
            self._round_all = self._round_all.joined(fence)
        else:
            before = self._fences.pop(change.thing, _NO_FENCE)
            self._fences[change.thing] = before.joined(fence)
        self.epoch += 1
        self._drop_ended(now)

    def admits(self, made_of: Iterable[EntityRef], version: int, read_at: float) -> bool:
        """Whether a record includes every change that has arrived.

        It does if its read has a higher version, or if this process itself began to read it (`read_at`, monotonic
        seconds; -inf for a record that came from elsewhere) after the change had arrived.
        """
        for fence in (self._round_all, *(self._fences.get(thing, _NO_FENCE) for thing in made_of)):
            if version < fence.version and read_at < fence.raised_at:
                return False
        return True

    def _drop_ended(self, now: float) -> None:
        """Drop fences that have ended; where there are too many, join the oldest to one round every record."""
        if self._round_all.until < now:
            self._round_all = _NO_FENCE
        while self._fences:
            thing, oldest = next(iter(self._fences.items()))
            if oldest.until >= now and len(self._fences) <= self._at_most:
                return
            del self._fences[thing]
            if oldest.until >= now:
                self._round_all = self._round_all.joined(oldest)


class Freshness:
    """Since when held records are confirmed: while messages arrive, every change would have arrived."""

    def __init__(self) -> None:
        self._since = inf

    def flowing(self, flows: bool) -> None:
        """Note that messages of changes arrive from now on, or no longer."""
        self._since = monotonic() if flows else inf

    @property
    def since(self) -> float:
        """Monotonic seconds; records that were taken in before have to be confirmed."""
        return self._since if self._since != inf else monotonic() - UNCONFIRMED_SECONDS


class ChangeListener:
    """Applies the changes that PostgreSQL tells of: to the fences of this process at once, to Redis a moment later.

    Every process receives every message; the fence in Redis is for processes that do not receive them.
    """

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
        self._invalidations = invalidations
        self._freshness = freshness
        self._shared = shared
        self._redis = redis
        self._observer = observer
        self._queued: deque[Change] = deque()
        self._some = asyncio.Event()

    def __len__(self) -> int:
        """Changes that are not in Redis yet."""
        return len(self._queued)

    async def follow(self) -> None:
        """Apply changes, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._feed.follow(self._apply, self._flowing))
            group.create_task(self._share())

    def _apply(self, change: Change) -> None:
        self._invalidations.apply(change)
        self._queued.append(change)
        if len(self._queued) > QUEUED_CHANGES_MAX:
            fence = max(queued.fence for queued in self._queued)
            self._queued.clear()
            self._queued.append(Change(EVERYTHING, fence))
        self._some.set()

    def _flowing(self, flows: bool) -> None:
        self._freshness.flowing(flows)
        self._observer.messages_flow(flows)

    async def _share(self) -> None:
        while True:
            await self._some.wait()
            batch = [self._queued.popleft() for _ in range(min(CHANGES_BATCH_MAX, len(self._queued)))]
            try:
                await self._redis.run(partial(self._shared.raise_all, batch))
            except StoreUnavailable:
                self._queued.extendleft(reversed(batch))
                await asyncio.sleep(RETRY_INTERVAL_SECONDS)
            if not self._queued:
                self._some.clear()


class ChangeNotifier:
    """Notifies all processes of changes that are made here, once they are committed, by a fence in Redis.

    Messages of PostgreSQL tell of the same changes, where they arrive.
    """

    def __init__(self, log: ChangeLog, invalidations: SharedInvalidations) -> None:
        self._log = log
        self._invalidations = invalidations

    async def notify_change(self, thing: EntityRef) -> bool:
        """Raise a fence for `thing`; return whether Redis took it. If not, cached copies end by themselves.

        It is never an error: the change is committed, and must not be reported as if it were not.
        """
        try:
            await self._invalidations.raise_all([Change(thing, await self._log.horizon())])
        except StoreUnavailable:
            return False
        return True
