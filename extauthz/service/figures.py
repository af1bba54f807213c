"""Figures are read from the database again and again, so that no scrape of metrics waits for it."""

import asyncio
from collections.abc import Callable, Collection
from time import monotonic
from typing import Protocol

from extauthz.core.errors import StoreUnavailable
from extauthz.core.figures import Figures
from extauthz.core.ports import POSTGRESQL
from extauthz.service.store_calls import bounded_call

COLLECT_INTERVAL_SECONDS = 15.0
SHARE = 0.05  # of the time at most, that a database with many keys is busy with this
RETRY_DELAY_SECONDS = 2.0  # after a failure
COLLECT_TIMEOUT_SECONDS = 60.0


class FigureSource(Protocol):
    """Where figures are read."""

    async def read(self, organizations: Collection[str]) -> Figures:
        """The figures now, with the names of these organizations. Raises StoreUnavailable."""
        ...


class FigureReader:
    """Reads figures for `told`; `organizations` returns those whose names are wanted."""

    def __init__(
        self,
        source: FigureSource,
        *,
        told: Callable[[Figures], None],
        organizations: Callable[[], Collection[str]],
    ) -> None:
        self._source = source
        self._told = told
        self._organizations = organizations

    async def keep_reading(self) -> None:
        """Reads until cancelled. While PostgreSQL is away, what was read last stands."""
        while True:
            pause = await self.read()
            await asyncio.sleep(pause)

    async def read(self) -> float:
        """Reads once; the seconds after which to read again."""
        began = monotonic()
        try:
            self._told(
                await bounded_call(self._source.read(self._organizations()), COLLECT_TIMEOUT_SECONDS, POSTGRESQL)
            )
        except StoreUnavailable:
            return RETRY_DELAY_SECONDS
        return max(COLLECT_INTERVAL_SECONDS, (monotonic() - began) / SHARE)
