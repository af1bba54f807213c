"""Counters that Redis has forgotten: one read of PostgreSQL for all who wait, and what happens while it is away."""

import asyncio
from contextlib import suppress

import pytest

from extauthz.core.errors import StoreUnavailable
from extauthz.core.ports import POSTGRESQL, REDIS
from extauthz.core.spend import spans
from extauthz.core.usage import ORGANIZATION, Seed, Span
from extauthz.service.limits import restore as module
from extauthz.service.limits.restore import CounterRestorer
from tests.unit.service.counter import Counter, open_counter, spend_of

TODAY = Seed("d:20270115", ORGANIZATION, 10, 1, 1)
SHORT = 0.02  # seconds


def wanted(*tenants: str) -> dict[str, list[Span]]:
    """What is asked for tenants of which nobody could say anything before."""
    return {name: spans(windows) for name in tenants if (windows := spend_of(name).windows) is not None}


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


async def test_queries_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two at a time, in portions; who comes while they are under way shares the next."""
    monkeypatch.setattr(module, "TENANTS_AT_ONCE", 3)
    async with open_counter() as counter:
        counter.books.gate.open.clear()
        waiting = [asyncio.create_task(counter.spend(spend_of("a")))]
        await counter.books.gate.entered.acquire()
        waiting += [asyncio.create_task(counter.spend(spend_of(name))) for name in ("b", "c", "d", "e", "f", "a")]
        await counter.books.gate.entered.acquire()
        for _ in range(50):
            await asyncio.sleep(0)
        assert [len(asked) for asked in counter.books.asked] == [1, 3]
        counter.books.gate.open.set()
        assert sorted(spent.by_day for spent in await asyncio.gather(*waiting)) == [11] * 6 + [12]
        assert [len(asked) for asked in counter.books.asked] == [1, 3, 2]


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


async def test_postgresql_takes_longer_than_a_check_may_wait() -> None:
    """The check passes on what is there; the answer completes the counters when it comes, and no guard hears of it."""
    async with open_counter(patience=SHORT) as counter:
        counter.books.gate.open.clear()
        spent = await counter.spend(spend_of())
        assert (spent.by_day, spent.provisional) == (1, True)
        counter.books.gate.open.set()
        await completed(counter)
        spent = await counter.spend(spend_of())
        assert (spent.by_day, spent.provisional) == (12, False)
        assert len(counter.books.asked) == 1
        assert (counter.postgresql.up, counter.redis.up) == (True, True)
        assert counter.watch.failures == {}


async def test_redis_takes_longer_than_a_check_may_wait() -> None:
    """The check does without counters; they are there for the next one, and no guard hears of it."""
    async with open_counter(patience=SHORT) as counter:
        counter.hashes.seed_gate.open.clear()
        with pytest.raises(StoreUnavailable, match="deadline"):
            await counter.spend(spend_of())
        counter.hashes.seed_gate.open.set()
        await completed(counter)
        assert (await counter.spend(spend_of())).by_day == 11
        assert counter.redis.up
        assert counter.watch.failures == {(REDIS, "deadline"): 1}


async def test_a_query_that_fails_is_no_refusal() -> None:
    """PostgreSQL fails while it is asked: counters are marked, nobody is told that it is away."""
    async with open_counter() as counter:
        counter.books.error = StoreUnavailable(POSTGRESQL, "timeout")
        assert (await counter.spend(spend_of())).provisional
        assert counter.postgresql.up


async def test_a_query_that_fails_fails_for_its_own_tenants() -> None:
    """One that is too large for a query is asked for among fewer and fewer, until it fails alone."""
    async with open_counter() as counter:
        left = {f"org-{number}" for number in range(16)}
        counter.books.heavy = {"org-5"}
        for _ in range(10):  # as whoever saves finds them
            with suppress(StoreUnavailable):
                await counter.restorer.complete(wanted(*sorted(left)))
            left -= {name for name, _ in counter.hashes.seeded}
        assert left == counter.books.heavy


async def test_a_storm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of tenants at once: few are written at a time, all are seeded in the end, nothing is left behind."""
    monkeypatch.setattr(module, "TENANTS_MAX", 1000)
    async with open_counter() as counter:
        names = [f"org-{number}" for number in range(3000)]
        found = await asyncio.gather(*(counter.spend(spend_of(name)) for name in names))
        assert len(found) == 3000
        await counter.restorer.complete(wanted(*counter.hashes.provisional))
        assert counter.hashes.provisional == set()
        assert {counter.hashes.states[spend_of(name).owner].counters[TODAY.field] for name in names} == {11}
        assert counter.hashes.most <= 32
        assert (counter.restorer._known, counter.restorer._begun) == ({}, {})
        assert counter.watch.failures == {}


async def test_what_nobody_waits_for_is_forgotten() -> None:
    """Who is closed while many are queued leaves none of them behind."""
    async with open_counter(patience=SHORT) as counter:
        counter.books.gate.open.clear()
        asked = (counter.spend(spend_of(f"org-{number}")) for number in range(500))
        await asyncio.gather(*asked, return_exceptions=True)
        await counter.restorer.close()
        queries = counter.restorer._queries
        assert queries is not None
        assert (queries._wanted, counter.restorer._known) == ({}, {})


async def test_completing_while_a_store_is_away() -> None:
    """Nothing is tried, and whoever saves is told so."""
    async with open_counter() as counter:
        await counter.lose_books()
        with pytest.raises(StoreUnavailable, match="postgresql is away"):
            await counter.restorer.complete({"org-1": ()})
        assert counter.books.asked == []


async def test_nobody_keeps_usage() -> None:
    """Without a usage store there is nothing to begin with, and that is known, also while PostgreSQL is away."""
    async with open_counter() as counter:
        await counter.lose_books()
        restorer = CounterRestorer(counter.hashes, None, redis=counter.redis, postgresql=counter.postgresql)
        await restorer.seed(spend_of())
        assert counter.hashes.seeded == [("org-1", ())]
        await restorer.close()


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
        assert len(set(map(id, found))) == 3
        counter.hashes.error = None
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
