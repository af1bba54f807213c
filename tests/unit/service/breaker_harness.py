"""A circuit breaker whose store is available, away or silent, as a test says."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from extauthz.aio.circuit_breaker import CallPolicy
from extauthz.core.errors import StoreUnavailable
from extauthz.core.ports import REDIS
from extauthz.service.store_breaker import store_breaker
from tests.unit.service.fakes import Watch

TIMEOUT = 0.02  # seconds


class BreakerHarness:
    """A circuit breaker, and a store that is available, away or silent as the test says."""

    def __init__(self, *, places: int = 2, cancel: bool = True, timeout: float = TIMEOUT) -> None:
        self.watch = Watch()
        self.there = asyncio.Event()
        self.there.set()
        self.probes = asyncio.Semaphore(0)
        policy = CallPolicy(timeout=timeout, max_concurrency=places, cancel=cancel, probe_interval=0.001)
        self.guard = store_breaker(REDIS, policy=policy, probe=self._probe, observer=self.watch)

    async def _probe(self) -> None:
        self.probes.release()
        if not self.there.is_set():
            raise StoreUnavailable(REDIS, "connection")

    async def run(self, call: Callable[[], Any], *, within: float = 5) -> Any:
        return await self.guard.run(call, time.monotonic() + within)

    async def refused(self, call: Callable[[], Any], *, within: float = 5) -> str:
        """The reason of a call that fails."""
        with pytest.raises(StoreUnavailable) as caught:
            await self.run(call, within=within)
        return caught.value.reason

    async def comes_back(self) -> None:
        """Returns when the circuit breaker lets calls through."""
        async with asyncio.timeout(5):
            await self.watch.back.wait()


async def seven() -> int:
    return 7


async def silence() -> None:
    await asyncio.Event().wait()


async def fails() -> None:
    raise StoreUnavailable(REDIS, "connection")
