"""Checks of one turn of the loop spend together: one call, each its own result, and a mark before a charge."""

import asyncio
from collections.abc import Awaitable
from dataclasses import replace
from typing import Any

import pytest

from extauthz.core.errors import StoreUnavailable
from extauthz.core.limits import Limits
from extauthz.core.ports import REDIS
from extauthz.service.limits import limiter as limiter_module
from extauthz.service.limits.limiter import SPEND_BATCH_MAX
from tests.unit.service.counter import ADDRESS, QUOTA, Counter, open_counter, peek, spend_of


def sizes(counter: Counter) -> list[int]:
    return [len(batch) for batch in counter.hashes.batches]


async def reason(failing: Awaitable[Any]) -> str:
    with pytest.raises(StoreUnavailable) as caught:
        await failing
    return caught.value.reason


@pytest.mark.parametrize(
    ("count", "expected"),
    [(1, [1]), (7, [7]), (SPEND_BATCH_MAX, [128]), (SPEND_BATCH_MAX + 1, [128, 1]), (300, [128, 128, 44])],
)
async def test_one_turn_is_one_call(count: int, expected: list[int]) -> None:
    """All checks of a turn share a call, at most 128 of them, and each is charged once."""
    async with open_counter() as counter:
        counter.ready()
        found = await asyncio.gather(*(counter.spend(spend_of()) for _ in range(count)))
        assert sorted(sizes(counter), reverse=True) == sorted(counter.watch.batches, reverse=True) == expected
        assert sorted(spent.used["daily"] for spent in found) == list(range(1, count + 1))


async def test_what_comes_during_a_call_leaves_together() -> None:
    """Checks that arrive during a call are collected, and leave in one call after its answer."""
    async with open_counter() as counter:
        counter.ready()
        counter.hashes.gate.open.clear()
        first = asyncio.create_task(counter.spend(spend_of()))
        await counter.hashes.gate.entered.acquire()
        later = [asyncio.create_task(counter.spend(spend_of())) for _ in range(3)]
        await asyncio.sleep(0)
        assert sizes(counter) == [1]
        counter.hashes.gate.open.set()
        assert (await first).used["daily"] == 1
        assert {spent.used["daily"] for spent in await asyncio.gather(*later)} == {2, 3, 4}
        assert sizes(counter) == [1, 3]


async def test_many_do_not_wait_for_a_call() -> None:
    """As many as fit into one call leave at once, even during another call."""
    async with open_counter() as counter:
        counter.ready()
        counter.hashes.gate.open.clear()
        first = asyncio.create_task(counter.spend(spend_of()))
        await counter.hashes.gate.entered.acquire()
        later = [asyncio.create_task(counter.spend(spend_of())) for _ in range(SPEND_BATCH_MAX)]
        await counter.hashes.gate.entered.acquire()
        assert sizes(counter) == [1, SPEND_BATCH_MAX]
        counter.hashes.gate.open.set()
        await asyncio.gather(first, *later)


async def test_each_has_its_own_result() -> None:
    """Tenants, keys and addresses of one call have separate results; a refusal or failure affects one alone."""
    async with open_counter() as counter:
        counter.ready("a", "b", "c")
        counter.hashes.harmed.add("b")
        found = await asyncio.gather(
            counter.spend(spend_of("a", cost=5)),
            reason(counter.spend(spend_of("b"))),
            counter.spend(replace(spend_of("c"), limits=Limits(daily_quota=0))),
            counter.spend(ADDRESS),
        )
        assert [found[0].used["daily"], found[1], found[2].refused, found[3].refused] == [5, "memory", ("daily",), ()]
        assert sizes(counter) == [4]
        assert counter.watch.failures == {(REDIS, "memory"): 1}
        assert counter.redis.up


async def test_failure_reaches_all_waiting_checks() -> None:
    """A failed call raises in each of its checks an error of its own, with the reason; it is not sent again."""
    async with open_counter() as counter:
        counter.ready()
        counter.away.add(REDIS)
        counter.hashes.error = StoreUnavailable(REDIS, "timeout")
        found = await asyncio.gather(*(counter.spend(spend_of()) for _ in range(5)), return_exceptions=True)
        assert [str(error) for error in found] == ["redis is away (timeout)"] * 5
        assert len(set(map(id, found))) == 5
        assert counter.hashes.calls == 1
        assert await reason(counter.spend(spend_of())) == "down"
        assert counter.hashes.calls == 1


async def test_a_bug_is_neither_hidden_nor_waited_for() -> None:
    """Any exception in a call reaches all checks that wait for it."""
    async with open_counter() as counter:
        counter.hashes.error = ZeroDivisionError()
        found = await asyncio.gather(*(counter.spend(spend_of()) for _ in range(3)), return_exceptions=True)
        assert [type(error) for error in found] == [ZeroDivisionError] * 3


async def test_silence_ends_in_time() -> None:
    """A Redis that hangs is waited for as long as its circuit breaker allows, by all checks together."""
    async with open_counter(timeout=0.02) as counter:
        counter.hashes.gate.open.clear()
        found = await asyncio.gather(*(reason(counter.spend(spend_of())) for _ in range(3)))
        assert found == ["timeout"] * 3


async def test_a_check_given_up_before_the_call_is_not_charged() -> None:
    """A check cancelled in its own turn spends nothing; the others of that turn are charged."""
    async with open_counter() as counter:
        counter.ready()
        leaving, *staying = (asyncio.create_task(counter.spend(spend_of())) for _ in range(3))
        await asyncio.sleep(0)
        leaving.cancel()
        assert [spent.used["daily"] for spent in await asyncio.gather(*staying)] == [1, 2]
        assert sizes(counter) == [2]
        last = asyncio.create_task(counter.spend(spend_of()))
        await asyncio.sleep(0)
        last.cancel()
        await asyncio.wait({last})
        assert (await counter.spend(peek(spend_of()))).used["daily"] == 2
        assert sizes(counter) == [2, 1]


async def test_a_check_alone_is_sent_at_once() -> None:
    """After a call of one check, the next is not held back; those that arrive meanwhile share a call."""
    async with open_counter() as counter:
        counter.ready()
        await counter.spend(spend_of())
        counter.hashes.gate.open.clear()
        first = asyncio.create_task(counter.spend(spend_of()))
        await asyncio.sleep(0)  # a turn in which it asks, and no other
        assert sizes(counter) == [1, 1]
        others = [asyncio.create_task(counter.spend(spend_of())) for _ in range(3)]
        await asyncio.sleep(0)
        counter.hashes.gate.open.set()
        assert [spent.used["daily"] for spent in await asyncio.gather(first, *others)] == [2, 3, 4, 5]
        assert sizes(counter) == [1, 1, 3]


async def test_check_cancelled_during_the_call_harms_no_other() -> None:
    """The call continues for the other checks; the charge of the cancelled one stays."""
    async with open_counter() as counter:
        counter.ready()
        counter.hashes.gate.open.clear()
        leaving, staying = (asyncio.create_task(counter.spend(spend_of())) for _ in range(2))
        await counter.hashes.gate.entered.acquire()
        leaving.cancel()
        counter.hashes.gate.open.set()
        assert (await staying).used["daily"] == 2
        assert leaving.cancelled()


async def test_close_ends_waiting_checks() -> None:
    """A check that waits when the limiter is closed fails as if Redis had not answered in time."""
    async with open_counter() as counter:
        counter.hashes.gate.open.clear()
        waiting = asyncio.create_task(reason(counter.spend(spend_of())))
        await counter.hashes.gate.entered.acquire()
        await counter.limiter.close()
        assert await waiting == "deadline"


async def test_windows_come_from_redis_clock() -> None:
    """Where the worker's clock is days off, one more call has windows that fit; the answer uses them."""
    async with open_counter() as counter:
        counter.ready()
        right = spend_of()
        asked, spent = await counter.limiter.spend(spend_of(now=1_700_000_000))
        assert asked.windows == right.windows
        assert (spent.used["daily"], sizes(counter)) == (1, [1, 1])


async def test_a_clock_that_never_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A spend whose windows fit at no attempt fails after some attempts, and has taken nothing."""
    monkeypatch.setattr(limiter_module, "SPEND_ATTEMPTS_MAX", 1)
    async with open_counter() as counter:
        counter.ready()
        assert await reason(counter.spend(spend_of(now=1_700_000_000))) == "clock"
        assert (await counter.spend(peek(spend_of()))).used["daily"] == 0


async def test_a_charge_is_marked_first() -> None:
    """The mark is sent before the charge, in the same turn; once for many, for each key, and not for a peek."""
    async with open_counter() as counter:
        counter.ready("a", "b")
        asked = [spend_of("a"), spend_of("a"), spend_of("b"), spend_of("a", key="key-2"), ADDRESS]
        await asyncio.gather(*map(counter.spend, asked))
        assert counter.hashes.log == ["mark", "spend"]
        assert counter.marks.marked == [[("a", "key-1"), ("a", "key-2"), ("b", "key-1")]]
        await asyncio.gather(*map(counter.spend, asked), counter.spend(peek(spend_of("b", key="key-3"))))
        assert len(counter.marks.marked) == 1


async def test_marks_are_set_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mark is good for some seconds, then the next charge sets it again: a usage flush may have deleted it."""
    now = 1000.0
    monkeypatch.setattr(limiter_module, "monotonic", lambda: now)
    async with open_counter() as counter:
        counter.ready()
        for later in (0, 4.9, 0.2, 4.9):
            now += later
            await counter.spend(spend_of())
        assert len(counter.marks.marked) == 2


async def test_a_mark_that_failed_is_set_by_the_next_charge() -> None:
    """The charge stands, the failure is counted, and the mark does not count as set."""
    async with open_counter() as counter:
        counter.ready()
        counter.marks.error = StoreUnavailable(REDIS, "memory")
        assert (await counter.spend(spend_of())).used["daily"] == 1
        assert counter.watch.failures == {(REDIS, "memory"): 1}
        counter.marks.error = None
        assert (await counter.spend(spend_of())).used["daily"] == 2
        assert len(counter.marks.marked) == 2


async def test_a_mark_that_was_given_up_is_set_by_the_next_charge() -> None:
    """Where Redis was silent, the state of the mark is unknown."""
    async with open_counter(timeout=0.02) as counter:
        counter.ready()
        counter.marks.gate.open.clear()
        assert await reason(counter.spend(spend_of())) == "timeout"
        counter.marks.gate.open.set()
        async with asyncio.timeout(5):
            await counter.watch.back.wait()
        await counter.spend(spend_of())
        assert len(counter.marks.marked) == 2


async def test_a_memory_that_was_lost_had_marks_in_it() -> None:
    """When Redis has lost a tenant's counters, the next charges set marks again, for every tenant."""
    async with open_counter() as counter:
        counter.ready("a", "b")
        await asyncio.gather(counter.spend(spend_of("a")), counter.spend(spend_of("b")))
        counter.hashes.states.clear()
        counter.ready("b")
        await counter.spend(spend_of("a"))
        await counter.spend(spend_of("b"))
        assert counter.marks.marked == [[("a", "key-1"), ("b", "key-1")], [("a", "key-1")], [("b", "key-1")]]


async def test_limits_are_those_asked() -> None:
    """Each result has the limits of its own spend, and no others."""
    async with open_counter() as counter:
        counter.ready()
        asked, _ = await counter.limiter.spend(spend_of(cost=3))
        assert (asked.cost, asked.limits) == (3, QUOTA)
