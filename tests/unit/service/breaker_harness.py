"""A circuit breaker whose store is available or away, as a test says."""

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


class BreakerHarness:
    """A circuit breaker, and a store that is available or away as the test says."""

    def __init__(self, *, timeout: float = 0.02) -> None:
        self.watch = Watch()
        self.there = asyncio.Event()
        self.there.set()
        policy = CallPolicy(timeout=timeout, max_concurrency=2, cancel=True, probe_interval=0.001)
        self.guard = store_breaker(REDIS, policy=policy, probe=self._probe, observer=self.watch)

    async def _probe(self) -> None:
        if not self.there.is_set():
            raise StoreUnavailable(REDIS, "connection")

    async def run(self, call: Callable[[], Any]) -> Any:
        return await self.guard.run(call, time.monotonic() + 5)

    async def refused(self, call: Callable[[], Any]) -> str:
        """The reason of a call that fails."""
        with pytest.raises(StoreUnavailable) as caught:
            await self.run(call)
        return caught.value.reason

    async def comes_back(self) -> None:
        """Returns when the circuit breaker lets calls through."""
        async with asyncio.timeout(5):
            await self.watch.back.wait()


async def seven() -> int:
    return 7


async def fails() -> None:
    raise StoreUnavailable(REDIS, "connection")
