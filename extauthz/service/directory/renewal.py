"""The renewal of records in use before they end, so that steady traffic has no cache miss."""

import asyncio
from collections.abc import Callable, Hashable, Sequence
from math import inf
from time import monotonic
from typing import Generic

from extauthz.core.errors import StoreUnavailable
from extauthz.service.directory.entry import Asked, Entry, Record
from extauthz.service.directory.local_cache import LocalCache
from extauthz.service.directory.tiers import SHARED_BATCH_MAX, BackingStores, portions

RENEWAL_INTERVAL_SHARE = 1 / 6  # of the records' time, between two looks for records that are due
RENEWAL_INTERVAL_MAX_SECONDS = 5.0
POSTPONE_SECONDS = 2.0  # while PostgreSQL is away


class Renewal(Generic[Asked, Record]):
    """Renews the records in use of one local cache, which are good for `ttl` seconds. The others end by themselves."""

    def __init__(
        self,
        local: LocalCache[Asked, Record],
        below: BackingStores[Asked, Record],
        *,
        ttl: float,
        clock: Callable[[], float],
    ) -> None:
        self._local = local
        self._below = below
        self._ttl = ttl
        self._clock = clock

    async def keep_fresh(self) -> None:
        """Renew records in use before they end, until cancelled."""
        while True:
            await asyncio.sleep(min(RENEWAL_INTERVAL_SHARE * self._ttl, RENEWAL_INTERVAL_MAX_SECONDS))
            await self.renew_due()

    async def renew_due(self) -> None:
        """Renew the records in use that soon end."""
        for some in portions(self._local.held.take_due(self._clock()), self._below.at_once):
            await self._renew(some)

    async def _renew(self, due: Sequence[tuple[Hashable, Entry[Asked, Record]]]) -> None:
        """Take from Redis what another process has read meanwhile, and read the rest in one query."""
        rest = [each for some in portions(due, SHARED_BATCH_MAX) for each in await self._not_shared(some)]
        if not rest:
            return
        read_at = monotonic()
        try:
            answers = await self._below.source([entry.asked for _, entry in rest])
        except StoreUnavailable:
            for name, _ in rest:
                self._local.held.postpone(name, self._clock() + POSTPONE_SECONDS)
            return
        news: list[Record] = []
        for (name, entry), answer in zip(rest, answers, strict=True):
            if answer is None:
                self._local.held.drop(name)
            elif self._local.admits(answer, read_at):
                self._local.keep(entry.asked, answer, read_at)
                news.append(answer)
        await self._below.share(news)

    async def _not_shared(
        self, due: Sequence[tuple[Hashable, Entry[Asked, Record]]]
    ) -> list[tuple[Hashable, Entry[Asked, Record]]]:
        """Return the entries of which Redis has nothing younger; hold the younger records of the others."""
        rest: list[tuple[Hashable, Entry[Asked, Record]]] = []
        shared = await self._below.shared([entry.asked for _, entry in due])
        for (name, entry), record in zip(due, shared, strict=True):
            younger = record is not None and record.loaded_at > entry.record.loaded_at
            if record is None or not younger or not self._local.keep(entry.asked, record, -inf):
                rest.append((name, entry))
        return rest
