"""Concurrent reads of PostgreSQL: few queries, each for all waiting checks, and none for cancelled ones."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from math import inf

import pytest

from extauthz.core.credentials import Credential
from extauthz.core.errors import StoreUnavailable
from extauthz.core.keys import ApiKey
from extauthz.core.ports import POSTGRESQL
from extauthz.service.directory.tiers import MAX_CONCURRENT_QUERIES, BackingStores, CacheContext
from tests.unit.service.fakes import KEY, NEW_DIGEST, FakeService, open_house

OURS = Credential((NEW_DIGEST,))


def unknown(count: int) -> list[Credential]:
    return [Credential((f"{number:064x}",)) for number in range(count)]


class Crowd:
    """A tier whose queries are all under way, and wait at a gate."""

    def __init__(self, fake_service: FakeService) -> None:
        self.fake_service = fake_service
        cache_context = CacheContext(
            fake_service.postgresql,
            fake_service.redis,
            fake_service.invalidations,
            fake_service.freshness,
            fake_service.watch,
        )
        self.below = BackingStores("api_key", fake_service.keys, fake_service.key_cache, cache_context)
        self.gate = fake_service.keys.gates["find"] = asyncio.Event()

    async def wants(self, *asked: Credential) -> list[asyncio.Task[ApiKey | None]]:
        """Reads that have begun; the first of them are being answered."""
        wanting = [asyncio.create_task(self.below.fresh(each, inf)) for each in asked]
        for _ in range(5):
            await asyncio.sleep(0)
        return wanting

    @property
    def sizes(self) -> list[int]:
        """How many each query asked for."""
        return [len(asked) for asked in self.fake_service.keys.asked]


@asynccontextmanager
async def crowded() -> AsyncIterator[Crowd]:
    async with open_house() as fake_service:
        crowd = Crowd(fake_service)
        early = [task for each in unknown(MAX_CONCURRENT_QUERIES) for task in await crowd.wants(each)]
        assert crowd.sizes == [1] * MAX_CONCURRENT_QUERIES
        try:
            yield crowd
        finally:
            crowd.gate.set()
            await asyncio.gather(*early, return_exceptions=True)
            await crowd.below.close()


@pytest.mark.parametrize(("at_once", "sizes"), [(500, [500, 1]), (200, [200, 200, 101]), (1000, [501])])
async def test_waiting_keys_are_read_together(at_once: int, sizes: list[int]) -> None:
    """A valid key behind 500 unknown ones does not wait for each of them, and each key gets its own answer."""
    async with crowded() as crowd:
        crowd.fake_service.keys.at_once = at_once
        others = [replace(KEY, id=str(number), digest=f"{number:064x}") for number in range(100, 400)]
        crowd.fake_service.keys.held |= {key.digest: key for key in others}
        wanting = await crowd.wants(*unknown(500), OURS)
        assert crowd.sizes == [1] * MAX_CONCURRENT_QUERIES
        crowd.gate.set()
        *found, ours = await asyncio.gather(*wanting)
        assert ours is not None
        assert [key and key.id for key in found] == [None] * 100 + [key.id for key in others] + [None] * 100
        assert crowd.sizes[MAX_CONCURRENT_QUERIES:] == sizes


async def test_no_query_for_cancelled_checks() -> None:
    """Nor does a query begin for them alone."""
    async with crowded() as crowd:
        left = await crowd.wants(*unknown(100))
        stays = await crowd.wants(OURS)
        for task in left:
            task.cancel()
        await asyncio.wait(left)
        crowd.gate.set()
        assert (await stays[0]) is not None
        assert crowd.fake_service.keys.asked[MAX_CONCURRENT_QUERIES:] == [[OURS]]


@pytest.mark.parametrize("error", [StoreUnavailable(POSTGRESQL, "deadline"), RuntimeError("a bug")])
async def test_failure_reaches_all_waiting_checks(error: Exception) -> None:
    """Whatever the failure; a check after it causes another read."""
    async with crowded() as crowd:
        wanting = await crowd.wants(*unknown(50))
        crowd.fake_service.keys.error = error
        crowd.gate.set()
        found = await asyncio.gather(*wanting, return_exceptions=True)
        assert [(type(each), str(each)) for each in found] == [(type(error), str(error))] * 50
        crowd.fake_service.keys.error = None
        assert await crowd.below.fresh(OURS, inf) is not None
