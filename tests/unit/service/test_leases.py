"""Leases of a worker: requests of a busy key are served without a call, and all units are given back exactly."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest

from extauthz.aio.circuit_breaker import CallPolicy
from extauthz.core import lease_steps
from extauthz.core.errors import StoreUnavailable
from extauthz.core.lease_account import BUSY
from extauthz.core.leases import LeaseAsk, Leased
from extauthz.core.limits import Limits, Rate
from extauthz.core.ports import REDIS, Mark
from extauthz.core.spend import FAILED, MICRO, Spend, result_of
from extauthz.core.token_bucket import State, spend
from extauthz.service.limits.lease_ledger import SIZE, Ledger
from extauthz.service.limits.leases import Leases
from extauthz.service.store_breaker import store_breaker
from tests.servers.waiting import until
from tests.unit.core.test_spend import question
from tests.unit.service.fakes import NOW, Failing, Watch, row_of

PLENTY = Limits(Rate(1000, 1), 100_000, 1_000_000)
ASKED = BUSY + 1  # the first is not counted, because most keys are asked for once


class Lent(Failing):
    """A LeaseStore on the reference arithmetic. While it is not `open`, calls wait; `refused` asks fail, each alone."""

    def __init__(self) -> None:
        super().__init__()
        self.state = State()
        self.refused = 0
        self.asks: list[LeaseAsk] = []
        self.marks: list[Sequence[Mark]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.changed = asyncio.Condition()

    async def lease(self, asks: Sequence[LeaseAsk], marks: Sequence[Mark]) -> list[Leased]:
        self.asks += asks
        self.marks.append(marks)
        await self.open.wait()
        self.called()
        answers = [self._answer(ask) for ask in asks]
        async with self.changed:
            self.changed.notify_all()
        return answers

    def _answer(self, ask: LeaseAsk) -> Leased:
        if self.refused:
            self.refused -= 1
            return Leased(0, int(NOW * MICRO), (FAILED, *11 * [0]))
        return lease_steps.lease(self.state, ask, int(NOW * MICRO))

    async def until(self, happened: Callable[[], bool]) -> None:
        """Returns when a call has made the condition true."""
        async with asyncio.timeout(10), self.changed:
            await self.changed.wait_for(happened)


class Worker:
    """Leases, and the store that they come from."""

    def __init__(self) -> None:
        self.watch, self.store = Watch(), Lent()
        self.fit = True
        policy = CallPolicy(timeout=5, max_concurrency=10, cancel=True)
        self.redis = store_breaker(REDIS, policy=policy, probe=self._probe, observer=self.watch)
        self.memory = memoryview(bytearray(SIZE))
        self.leases = self.begin()
        self.asked = 0

    def begin(self) -> Leases:
        """Leases of a worker in this place, with what its predecessor left."""
        return Leases(self.store, keeps_usage=True, redis=self.redis, observer=self.watch, ledger=Ledger(self.memory))

    async def _probe(self) -> None:
        if not self.fit:
            raise StoreUnavailable(REDIS, "connection")

    def request(self, asked: Spend) -> bool:
        """Whether it was served in process; otherwise the store was asked."""
        found = self.leases.take(asked)
        if found is None:
            self.asked += 1
            row = row_of(spend(self.store.state, asked, int(NOW * MICRO)))
            assert isinstance(row, tuple)
            self.leases.note(asked, int(NOW * MICRO), row)
        return found is not None

    async def busy(self, asked: Spend) -> None:
        """Asks until there is a lease."""
        for _ in range(ASKED):
            assert not self.request(asked)
        while asked.account is None or not asked.account.left:  # noqa: ASYNC110 - the answer is on its way
            await asyncio.sleep(0)

    def used(self) -> tuple[int, int]:
        """Cost of the day, and requests of the key."""
        return self.store.state.counters["d:20270115"], self.store.state.days["d:20270115:key-1"][1]


@pytest.fixture
async def worker() -> AsyncIterator[Worker]:
    """Leases on a store that is there."""
    async with _working() as opened:
        yield opened


@asynccontextmanager
async def _working() -> AsyncIterator[Worker]:
    worker = Worker()
    await worker.redis.start()
    try:
        yield worker
    finally:
        worker.store.open.set()
        await worker.leases.close()
        await worker.redis.close()


async def test_a_busy_spend_is_served_without_a_call(worker: Worker) -> None:
    """After a few answers of the store a worker serves by itself; each request counts down what is left."""
    asked = question(PLENTY, cost=3)
    await worker.busy(asked)
    found = [worker.leases.take(asked) for _ in range(5)]
    rows = [result_of(*each) for each in found if each is not None]
    assert len(rows) == 5
    assert [spent.used["daily"] - rows[0].used["daily"] for spent in rows] == [0, 3, 6, 9, 12]  # type: ignore[union-attr]
    assert rows[0].used["daily"] == 3 * (ASKED + 1)  # type: ignore[union-attr]
    assert rows[0].level == (100_000 - 3 * (ASKED + 1)) * MICRO  # type: ignore[union-attr]
    assert set(map(tuple, worker.store.marks)) == {(("org-1", "key-1"),)}


async def test_unused_units_are_given_back(worker: Worker) -> None:
    """Without requests a lease is closed; what was served is charged, to the unit."""
    asked = question(PLENTY, cost=2)
    await worker.busy(asked)
    served = sum(worker.request(asked) for _ in range(7))
    assert served == 7
    await worker.store.until(lambda: worker.store.state.leases == {})
    assert worker.used() == (2 * (ASKED + 7), ASKED + 7)
    assert worker.store.state.buckets[""][0] == (100_000 - 2 * (ASKED + 7)) * MICRO


async def test_a_lease_grows_with_what_is_asked(worker: Worker) -> None:
    """More units are requested before a lease is used up, so that a steady load is hardly ever without."""
    asked = question(PLENTY)
    await worker.busy(asked)
    assert asked.account is not None
    for _ in range(3000):
        worker.request(asked)
        await asyncio.sleep(0)
        while asked.account.pending:  # noqa: ASYNC110 - the answer is on its way
            await asyncio.sleep(0)
    assert worker.asked < 100
    assert any(ask.operation == "more" for ask in worker.store.asks)


async def test_busy_keys_ask_together(worker: Worker) -> None:
    """A lease that is due soon is renewed along with one that is due now; one that is hardly used is not."""
    keys = [question(PLENTY, key=key) for key in ("key-1", "key-2", "key-3")]
    for asked in keys:
        await worker.busy(asked)
    first, second, third = (asked.account for asked in keys)
    assert first is not None
    assert second is not None
    assert third is not None
    while second.left * 2 > second.low * 3:
        assert worker.request(keys[1])
    assert worker.request(keys[2])
    assert not third.asks_soon
    calls = len(worker.store.marks)
    while first.left > first.low:
        assert worker.request(keys[0])
    await until(lambda: first.left > first.low)
    assert {("org-1", "key-1"), ("org-1", "key-2")} <= set(worker.store.marks[calls])


async def test_all_is_given_back_at_the_end(worker: Worker) -> None:
    """A worker that drains has no lease, and takes no other."""
    asked = question(PLENTY)
    await worker.busy(asked)
    assert worker.request(asked)
    await worker.leases.close()
    assert worker.store.state.leases == {}
    assert worker.used() == (ASKED + 1, ASKED + 1)
    for _ in range(3 * ASKED):
        assert not worker.request(asked)
    assert worker.store.asks[-1].operation == "close"


async def test_a_refusal_gives_back_what_its_organization_holds(worker: Worker) -> None:
    """When one key of an organization is refused, leases of its other keys are given back at once."""
    asked, other = question(PLENTY), question(PLENTY, key="key-2", own=Limits(daily_quota=0))
    await worker.busy(asked)
    assert not worker.request(other)
    assert worker.leases.take(asked) is None
    await worker.store.until(lambda: worker.store.state.leases == {})
    assert worker.used() == (ASKED, ASKED)


async def test_a_lost_answer_costs_nothing(worker: Worker) -> None:
    """Where the outcome of a call is unknown, a close reports what was served; nothing else stays charged."""
    asked = question(PLENTY)
    await worker.busy(asked)
    assert worker.request(asked)
    worker.store.error = StoreUnavailable(REDIS, "busy")
    worker.leases.rest()
    while worker.watch.failures[REDIS, "busy"] == 0:  # noqa: ASYNC110 - one failure and no other
        await asyncio.sleep(0)
    worker.store.error = None
    await worker.store.until(lambda: worker.store.state.leases == {})
    assert worker.used() == (ASKED + 1, ASKED + 1)


async def test_nothing_is_served_while_redis_is_away(worker: Worker) -> None:
    """Units of a store that is away may be lost there: every check is then one without Redis."""
    asked = question(PLENTY)
    await worker.busy(asked)
    worker.fit = False
    worker.redis.failed(StoreUnavailable(REDIS, "connection"))
    assert worker.leases.take(asked) is None
    worker.fit = True
    await worker.watch.back.wait()
    await worker.store.until(lambda: worker.store.state.leases == {})
    assert worker.used() == (ASKED, ASKED)


@pytest.mark.parametrize("of_key", [False, True], ids=["organization", "key"])
async def test_hourly_quotas_are_never_leased(worker: Worker, of_key: bool) -> None:
    """However large they are: a lease does not count hours."""
    hourly = Limits(PLENTY.rate, PLENTY.burst, hourly_quota=10**9)
    asked = question(PLENTY, own=hourly) if of_key else question(hourly)
    for _ in range(20):
        assert not worker.request(asked)
    await worker.leases.close()
    assert (worker.store.state.leases, worker.watch.leases) == ({}, [])


@pytest.mark.parametrize(
    "limits",
    [Limits(Rate(10, 1), 199), Limits(daily_quota=199), Limits(monthly_quota=150), Limits(Rate(1000, 1), 1000, 10)],
)
async def test_small_limits_are_never_leased(worker: Worker, limits: Limits) -> None:
    """Where a hundredth of a limit is less than two requests, the store is asked for each."""
    asked = question(limits)
    for _ in range(8):
        assert not worker.request(asked)
    await worker.leases.close()
    assert worker.store.state.leases == {}
    assert worker.watch.leases == []  # none is counted as begun


@pytest.mark.parametrize("ended", [False, True], ids=["in time", "late"])
async def test_a_successor_gives_back_what_a_killed_worker_held(worker: Worker, ended: bool) -> None:
    """It reads the count of the killed worker: exactly what was served is charged."""
    asked = question(PLENTY, cost=3, own=Limits(daily_quota=1_000_000))
    await worker.busy(asked)
    assert all(worker.request(asked) for _ in range(5))
    if ended:
        worker.store.state.lapsed, worker.store.state.leases = worker.store.state.leases, {}
    successor = worker.begin()
    await successor.close_left()
    assert (worker.store.state.leases, worker.store.state.lapsed) == ({}, {})
    assert worker.used() == (3 * (ASKED + 5), ASKED + 5)
    assert list(Ledger(worker.memory).left()) == []
    (_, granted), (closed, returned) = worker.watch.leases
    assert (closed, granted - returned) == ("close", 5)


async def test_a_successor_tries_until_redis_has_it(worker: Worker) -> None:
    """Where Redis does not answer, or refuses one of the leases, that one is given back later, once."""
    keys = [question(PLENTY, key=key) for key in ("key-1", "key-2")]
    for asked in keys:
        await worker.busy(asked)
    worker.store.error = StoreUnavailable(REDIS, "busy")
    closing = asyncio.create_task(worker.begin().close_left())
    while worker.watch.failures[REDIS, "busy"] == 0:  # noqa: ASYNC110 - one failure and no other
        await asyncio.sleep(0)
    worker.store.error, worker.store.refused = None, 1
    await closing
    assert worker.store.state.leases == {}
    assert worker.used() == (2 * ASKED, ASKED)
    assert [operation for operation, _ in worker.watch.leases] == ["take", "take", "close", "close"]
    assert list(Ledger(worker.memory).left()) == []


async def test_a_lease_that_redis_refuses(worker: Worker) -> None:
    """It did not begin: the store is asked for each request, and Redis is tried at once, because it may be unfit."""
    asked = question(PLENTY)
    worker.fit, worker.store.refused = False, 1
    for _ in range(ASKED):
        assert not worker.request(asked)
    await until(lambda: not worker.redis.up)
    assert not worker.request(asked)
    assert (worker.store.state.leases, worker.watch.leases) == ({}, [])


async def test_a_drain_while_a_lease_is_asked_for(worker: Worker) -> None:
    """It is given back as soon as it is there; while Redis is away, nothing is asked for."""
    asked = question(PLENTY)
    worker.store.open.clear()
    for _ in range(ASKED):
        worker.request(asked)
    await until(lambda: worker.store.asks != [])
    worker.leases.rest()
    worker.store.open.set()
    await worker.store.until(lambda: len(worker.store.asks) == 2 and worker.store.state.leases == {})
    assert [ask.operation for ask in worker.store.asks] == ["take", "close"]
    assert worker.used() == (ASKED, ASKED)
