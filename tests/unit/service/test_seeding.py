"""Counters that Redis has forgotten: one read of PostgreSQL for all who wait, and what happens while it is away."""

import asyncio

import pytest

from extauthz.core.errors import StoreUnavailable
from extauthz.core.ports import POSTGRESQL, REDIS
from extauthz.core.usage import ORGANIZATION, Seed
from extauthz.service import guard as guard_module
from extauthz.service import seeding as seeding_module
from extauthz.service.seeding import Seeding
from tests.unit.service.counter import Counter, open_counter, spend_of

TODAY = Seed("d:20270115", ORGANIZATION, 10, 1, 1)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard_module, "PROBE_EVERY", 0.001)
    monkeypatch.setattr(seeding_module, "TRY_AGAIN", 0.0)


async def test_counters_begin_with_what_postgresql_knows() -> None:
    """The first spend of a tenant that Redis does not know is charged on top of it, once."""
    async with open_counter() as counter:
        assert (await counter.spend(spend_of())).by_day == 11
        assert counter.hashes.seeded == [("org-1", [TODAY])]
        assert [len(batch) for batch in counter.hashes.batches] == [1, 1]


async def test_one_read_for_many() -> None:
    """A hundred checks of many tenants wait for one query, and each tenant is seeded once."""
    async with open_counter() as counter:
        tenants = [f"org-{number % 20}" for number in range(100)]
        found = await asyncio.gather(*(counter.spend(spend_of(name)) for name in tenants))
        assert [len(asked) for asked in counter.books.asked] == [20]
        assert sorted(name for name, _ in counter.hashes.seeded) == sorted(set(tenants))
        assert sorted(spent.by_day for spent in found) == sorted([11, 12, 13, 14, 15] * 20)


async def test_who_comes_during_a_query_shares_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its answer may be older than their question; the next one is for all of them, in portions."""
    monkeypatch.setattr(seeding_module, "TENANTS_AT_ONCE", 3)
    async with open_counter() as counter:
        counter.books.gate.open.clear()
        first = asyncio.create_task(counter.spend(spend_of("a")))
        await counter.books.gate.entered.acquire()
        others = [asyncio.create_task(counter.spend(spend_of(name))) for name in ("b", "c", "d", "e", "a")]
        await counter.hashes.gate.entered.acquire()
        await counter.hashes.gate.entered.acquire()
        counter.books.gate.open.set()
        found = await asyncio.gather(first, *others)
        assert sorted(spent.by_day for spent in found) == [11, 11, 11, 11, 11, 12]
        assert [len(asked) for asked in counter.books.asked] == [1, 3, 1]


async def test_postgresql_is_away() -> None:
    """Counters begin with what is there and are marked so; nobody is refused, and PostgreSQL is not asked."""
    async with open_counter() as counter:
        await counter.lose_books()
        spent = await counter.spend(spend_of())
        assert (spent.by_day, spent.provisional) == (1, True)
        assert counter.hashes.seeded == [("org-1", None)]
        assert (await counter.spend(spend_of())).by_day == 2
        assert counter.books.asked == []


async def completed(counter: Counter, tenant_id: str = "org-1") -> None:
    """Returns when a tenant's counters are known."""
    async with asyncio.timeout(5):
        await counter.hashes.known[tenant_id].wait()


async def test_it_is_completed_when_postgresql_is_back() -> None:
    """The next charge sees to it in the background: what PostgreSQL knows is added, once, and nobody waits for it."""
    async with open_counter() as counter:
        await counter.lose_books()
        await counter.spend(spend_of())
        await counter.find_books()
        assert (await counter.spend(spend_of())).provisional
        await completed(counter)
        spent = await counter.spend(spend_of())
        assert (spent.by_day, spent.provisional) == (13, False)
        assert counter.hashes.seeded == [("org-1", None), ("org-1", [TODAY])]


async def test_a_query_that_fails_is_no_refusal() -> None:
    """PostgreSQL fails while it is asked: counters are marked, and completed with the next query."""
    async with open_counter() as counter:
        counter.books.error = StoreUnavailable(POSTGRESQL, "timeout")
        assert (await counter.spend(spend_of())).provisional
        counter.books.error = None
        async with asyncio.timeout(5):
            await counter.watch.back.wait()
        await counter.spend(spend_of())
        await completed(counter)
        assert (await counter.spend(spend_of())).by_day == 13


async def test_it_is_not_asked_at_every_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """While PostgreSQL answers and cannot say, it is tried once a second for a tenant, however many ask."""
    now = 1000.0
    monkeypatch.setattr(seeding_module, "TRY_AGAIN", 1.0)
    monkeypatch.setattr(seeding_module, "monotonic", lambda: now)
    async with open_counter() as counter:
        counter.books.error = StoreUnavailable(POSTGRESQL, "busy")  # ours: it is not taken for away
        for later in (0.0, 0.0, 0.5, 0.4, 0.2):
            now += later
            assert (await counter.spend(spend_of())).provisional
        for _ in range(3):
            await counter.books.gate.entered.acquire()
        assert len(counter.books.asked) == 3


async def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many tenants wait to be completed, the memory of attempts stays small, and all are completed."""
    monkeypatch.setattr(seeding_module, "WAITING_MAX", 2)
    async with open_counter() as counter:
        await counter.lose_books()
        names = [f"org-{number}" for number in range(10)]
        for name in names:
            await counter.spend(spend_of(name))
        await counter.find_books()
        for name in names:
            await counter.spend(spend_of(name))
            await completed(counter, name)


async def test_nobody_keeps_usage() -> None:
    """Without a usage store there is nothing to begin with, and that is known."""
    async with open_counter() as counter:
        seeding = Seeding(counter.hashes, None, redis=counter.redis, postgresql=counter.postgresql)
        await seeding.seed(spend_of())
        assert counter.hashes.seeded == [("org-1", ())]
        await seeding.close()


async def test_redis_fails_while_it_is_seeded() -> None:
    """All who wait for the seed learn that Redis is away; the next one tries again."""
    async with open_counter() as counter:
        counter.books.gate.open.clear()
        waiting = [asyncio.create_task(counter.spend(spend_of())) for _ in range(3)]
        await counter.books.gate.entered.acquire()
        counter.hashes.error = StoreUnavailable(REDIS, "connection")
        counter.books.gate.open.set()
        found = await asyncio.gather(*waiting, return_exceptions=True)
        assert [str(error) for error in found] == ["redis is away (connection)"] * 3
        counter.hashes.error = None
        async with asyncio.timeout(5):
            await counter.watch.back.wait()
        assert (await counter.spend(spend_of())).by_day == 11


async def test_a_waiter_that_leaves_harms_no_other() -> None:
    """The seed goes on for those who stay, and for those who come; it is charged to those who stayed."""
    async with open_counter() as counter:
        counter.books.gate.open.clear()
        leaving, staying = (asyncio.create_task(counter.spend(spend_of())) for _ in range(2))
        await counter.books.gate.entered.acquire()
        leaving.cancel()
        counter.books.gate.open.set()
        assert (await staying).by_day == 11
        assert leaving.cancelled()
        assert len(counter.books.asked) == 1


async def test_closing_ends_what_is_under_way() -> None:
    """Who waits for a seed when all is closed is told so, and nothing is left running."""
    async with open_counter() as counter:
        counter.books.gate.open.clear()
        waiting = asyncio.create_task(counter.spend(spend_of()))
        await counter.books.gate.entered.acquire()
        await counter.limiter.close()
        with pytest.raises(StoreUnavailable, match="deadline"):
            await waiting
