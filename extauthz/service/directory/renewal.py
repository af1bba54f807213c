"""Records in use are read anew before they end, so that steady traffic sees no miss. The others end by themselves."""

import asyncio
from collections.abc import Callable, Hashable, Sequence
from math import inf
from time import monotonic
from typing import Generic

from extauthz.core.errors import StoreUnavailable
from extauthz.service.directory.entry import Asked, Entry, Record
from extauthz.service.directory.local_cache import LocalCache
from extauthz.service.directory.tiers import AT_ONCE, BackingStores, portions

RENEW_EVERY = 1 / 6  # share of its time between two looks for records in use that soon end
RENEW_EVERY_MAX = 5.0  # seconds
POSTPONED = 2.0  # seconds, while PostgreSQL is away


class Renewal(Generic[Asked, Record]):
    """Renews the records of one local cache, which are good for `ttl` seconds."""

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
        """Reads records in use anew before they end, until cancelled."""
        while True:
            await asyncio.sleep(min(RENEW_EVERY * self._ttl, RENEW_EVERY_MAX))
            await self.renew_due()

    async def renew_due(self) -> None:
        """Reads anew what is in use and soon at its end."""
        for some in portions(self._local.held.take_due(self._clock()), self._below.at_once):
            await self._renew(some)

    async def _renew(self, due: Sequence[tuple[Hashable, Entry[Asked, Record]]]) -> None:
        """Takes from Redis what another process has read anew, reads the rest in one query."""
        rest = [each for some in portions(due, AT_ONCE) for each in await self._not_shared(some)]
        if not rest:
            return
        read_at = monotonic()
        try:
            answers = await self._below.source([entry.asked for _, entry in rest])
        except StoreUnavailable:
            for name, _ in rest:
                self._local.held.postpone(name, self._clock() + POSTPONED)
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
        """Those of which Redis has nothing younger; the others are held anew."""
        rest: list[tuple[Hashable, Entry[Asked, Record]]] = []
        shared = await self._below.shared([entry.asked for _, entry in due])
        for (name, entry), record in zip(due, shared, strict=True):
            younger = record is not None and record.loaded_at > entry.record.loaded_at
            if record is None or not younger or not self._local.keep(entry.asked, record, -inf):
                rest.append((name, entry))
        return rest
