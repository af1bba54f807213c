"""The restore of counters that Redis has lost: one query for all checks that wait, and outages of both stores."""

import asyncio
from contextlib import suppress

import pytest

from extauthz.core.errors import StoreUnavailable
from extauthz.core.ports import POSTGRESQL, REDIS
from extauthz.core.spend import spans
from extauthz.core.usage import ORGANIZATION, Seed, Span
from extauthz.service.limits.restore import CounterRestorer
from tests.unit.service.counter import Counter, open_counter, spend_of

TODAY = Seed("d:20270115", ORGANIZATION, 10, 1, 1)
SHORT = 0.02  # seconds


def wanted(*tenants: str) -> dict[str, list[Span]]:
    """The windows of tenants whose counters are provisional."""
    return {name: spans(windows) for name in tenants if (windows := spend_of(name).windows) is not None}


async def test_counters_begin_with_saved_usage() -> None:
    """The first spend of a tenant without counters is charged on top of its saved usage, which is added once."""
    async with open_counter() as counter:
        assert (await counter.spend(spend_of())).used["daily"] == 11
        assert counter.hashes.seeded == [("org-1", [TODAY])]
        assert [len(batch) for batch in counter.hashes.batches] == [1, 1]


async def test_many_checks_share_a_query() -> None:
    """A hundred checks of twenty tenants wait for one query, and each tenant is restored once."""
    async with open_counter() as counter:
        tenants = [f"org-{number % 20}" for number in range(100)]
        found = await asyncio.gather(*(counter.spend(spend_of(name)) for name in tenants))
        assert [len(asked) for asked in counter.books.asked] == [20]
        assert sorted(name for name, _ in counter.hashes.seeded) == sorted(set(tenants))
        assert sorted(spent.used["daily"] for spent in found) == sorted([11, 12, 13, 14, 15] * 20)


async def test_queries_are_few() -> None:
    """Two at a time, of a few tenants each; a check that comes while they are under way shares the next."""
    async with open_counter(query_tenants_max=3) as counter:
        counter.books.gate.open.clear()
        waiting = [asyncio.create_task(counter.spend(spend_of("a")))]
        await counter.books.gate.entered.acquire()
        waiting += [asyncio.create_task(counter.spend(spend_of(name))) for name in ("b", "c", "d", "e", "f", "a")]
        await counter.books.gate.entered.acquire()
        for _ in range(50):
            await asyncio.sleep(0)
        assert [len(asked) for asked in counter.books.asked] == [1, 3]
        counter.books.gate.open.set()
        assert sorted(spent.used["daily"] for spent in await asyncio.gather(*waiting)) == [11] * 6 + [12]
        assert [len(asked) for asked in counter.books.asked] == [1, 3, 2]


async def test_counters_begin_while_postgresql_is_away() -> None:
    """Counters begin at zero and are marked as provisional; no check is refused, and PostgreSQL is not asked."""
    async with open_counter() as counter:
        await counter.lose_books()
        spent = await counter.spend(spend_of())
        assert (spent.used["daily"], spent.provisional) == (1, True)
        assert counter.hashes.seeded == [("org-1", None)]
        assert (await counter.spend(spend_of())).used["daily"] == 2
        assert counter.books.asked == []


async def completed(counter: Counter, tenant_id: str = "org-1") -> None:
    """Return when a tenant's counters are restored."""
    async with asyncio.timeout(5):
        await counter.hashes.known[tenant_id].wait()


async def test_query_takes_longer_than_a_check_may_wait() -> None:
    """Counters begin without the query, and are completed when it ends; neither circuit breaker opens."""
    async with open_counter(restore_timeout=SHORT) as counter:
        counter.books.gate.open.clear()
        spent = await counter.spend(spend_of())
        assert (spent.used["daily"], spent.provisional) == (1, True)
        counter.books.gate.open.set()
        await completed(counter)
        spent = await counter.spend(spend_of())
        assert (spent.used["daily"], spent.provisional) == (12, False)
        assert len(counter.books.asked) == 1
        assert (counter.postgresql.up, counter.redis.up) == (True, True)
        assert counter.watch.failures == {}


async def test_redis_takes_longer_than_a_check_may_wait() -> None:
    """The check fails by its deadline; the counters are there for the next one, and no circuit breaker opens."""
    async with open_counter(restore_timeout=SHORT) as counter:
        counter.hashes.seed_gate.open.clear()
        with pytest.raises(StoreUnavailable, match="deadline"):
            await counter.spend(spend_of())
        counter.hashes.seed_gate.open.set()
        await completed(counter)
        assert (await counter.spend(spend_of())).used["daily"] == 11
        assert counter.redis.up
        assert counter.watch.failures == {(REDIS, "deadline"): 1}


async def test_failed_query_refuses_no_check() -> None:
    """Counters are provisional then, and PostgreSQL does not count as away."""
    async with open_counter() as counter:
        counter.books.error = StoreUnavailable(POSTGRESQL, "timeout")
        assert (await counter.spend(spend_of())).provisional
        assert counter.postgresql.up


async def test_tenant_that_is_too_large_fails_alone() -> None:
    """It is read with fewer and fewer others, until a query fails for it alone."""
    async with open_counter() as counter:
        left = {f"org-{number}" for number in range(16)}
        counter.books.heavy = {"org-5"}
        for _ in range(10):
            with suppress(StoreUnavailable):
                await counter.restorer.complete(wanted(*sorted(left)))
            left -= {name for name, _ in counter.hashes.seeded}
        assert left == counter.books.heavy


async def test_more_tenants_than_there_is_room_for() -> None:
    """Few are written at a time, all are restored in the end, nothing is left behind."""
    async with open_counter(tenants_max=1000, restore_timeout=30) as counter:
        names = [f"org-{number}" for number in range(1500)]
        found = await asyncio.gather(*(counter.spend(spend_of(name)) for name in names))
        assert len(found) == 1500
        await counter.restorer.complete(wanted(*counter.hashes.provisional))
        assert counter.hashes.provisional == set()
        assert {counter.hashes.states[spend_of(name).owner].counters[TODAY.field] for name in names} == {11}
        assert counter.hashes.most <= 32
        assert len(counter.restorer) == 0
        assert counter.watch.failures == {}


async def test_close_leaves_nothing() -> None:
    """Checks that no longer wait leave nothing behind when the restorer is closed."""
    async with open_counter(restore_timeout=SHORT) as counter:
        counter.books.gate.open.clear()
        asked = (counter.spend(spend_of(f"org-{number}")) for number in range(500))
        await asyncio.gather(*asked, return_exceptions=True)
        await counter.restorer.close()
        assert len(counter.restorer) == 0


async def test_complete_while_a_store_is_away() -> None:
    """Nothing is tried, and the caller gets the store's outage."""
    async with open_counter() as counter:
        await counter.lose_books()
        with pytest.raises(StoreUnavailable, match="postgresql is away"):
            await counter.restorer.complete({"org-1": ()})
        assert counter.books.asked == []


async def test_usage_that_is_not_saved() -> None:
    """Without saved usage counters begin at zero and are not provisional, also while PostgreSQL is away."""
    async with open_counter() as counter:
        await counter.lose_books()
        restorer = CounterRestorer(counter.hashes, None, redis=counter.redis, postgresql=counter.postgresql)
        await restorer.seed(spend_of())
        assert counter.hashes.seeded == [("org-1", ())]
        await restorer.close()


async def test_redis_fails_during_the_restore() -> None:
    """Each check that waits raises an error of its own; the next check tries again."""
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
        assert (await counter.spend(spend_of())).used["daily"] == 11


async def test_cancelled_check_does_not_end_the_restore() -> None:
    """The restore goes on for the other checks, and only they are charged."""
    async with open_counter() as counter:
        counter.books.gate.open.clear()
        leaving, staying = (asyncio.create_task(counter.spend(spend_of())) for _ in range(2))
        await counter.books.gate.entered.acquire()
        leaving.cancel()
        counter.books.gate.open.set()
        assert (await staying).used["daily"] == 11
        assert leaving.cancelled()
        assert len(counter.books.asked) == 1


async def test_close_ends_the_work_under_way() -> None:
    """A check that waits then raises StoreUnavailable."""
    async with open_counter() as counter:
        counter.books.gate.open.clear()
        waiting = asyncio.create_task(counter.spend(spend_of()))
        await counter.books.gate.entered.acquire()
        await counter.limiter.close()
        with pytest.raises(StoreUnavailable, match="deadline"):
            await waiting
