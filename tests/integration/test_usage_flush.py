"""Charges reach PostgreSQL exactly once, whichever worker ends, and whichever store loses data or goes away."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, date, datetime, time, timedelta
from random import Random

import pytest
from redis.asyncio import Redis as RedisClient

from extauthz.aio.circuit_breaker import CallPolicy
from extauthz.backends.postgres.pool import Pool
from extauthz.backends.postgres.records import PostgresTenantSource
from extauthz.backends.postgres.usage import PostgresUsage
from extauthz.backends.redis.connection import open_connection
from extauthz.backends.redis.usage import RedisUsage
from extauthz.core.limits import Limits
from extauthz.core.ports import POSTGRESQL, REDIS, SaveUsage, Store
from extauthz.core.reason import Reason
from extauthz.core.usage import Counted
from extauthz.demo.postgres import Postgres
from extauthz.service.limits.reconcile import CounterReconciler
from extauthz.service.limits.restore import CounterRestorer, SeedQueries
from extauthz.service.store_breaker import store_breaker
from extauthz.service.usage import flush
from extauthz.service.usage.flush import UsageFlush
from tests.servers.charging_client import ACME, ONE, TODAY, TWO, ChargingClient, id_of, save
from tests.servers.fixtures import paused
from tests.servers.management_client import ManagementClient
from tests.unit.service.fakes import Watch

Rows = dict[tuple[str, str], tuple[int, int]]


class Worker:
    """A process that charges and saves, with connections of its own."""

    def __init__(self, spender: ChargingClient, usage: PostgresUsage) -> None:
        self.spender, self.watch = spender, Watch()
        self.usage_flush = UsageFlush(spender.log, usage, complete=None, observer=self.watch)


@pytest.fixture
async def workers(pool: Pool, redis_url: str) -> AsyncIterator[list[Worker]]:
    usage = PostgresUsage(pool)
    async with AsyncExitStack() as stack:
        yield [
            Worker(ChargingClient(await stack.enter_async_context(open_connection(redis_url)), usage), usage)
            for _ in range(3)
        ]


@pytest.fixture
def worker(workers: list[Worker]) -> Worker:
    return workers[0]


async def saved(operator: ManagementClient) -> Rows:
    """Requests and cost by key and day, as SQL bills them."""
    rows = await operator.rows("SELECT api_key_id::text AS key, day::text, allowed, cost FROM usage_daily")
    return {(row["key"], row["day"]): (row["allowed"], row["cost"]) for row in rows}


def today(**keys: tuple[int, int]) -> Rows:
    names = {"one": ONE, "two": TWO}
    return {(names[name], TODAY.isoformat()): counts for name, counts in keys.items()}


async def test_charges_are_saved(operator: ManagementClient, worker: Worker) -> None:
    """The table has what was charged, and saving again changes nothing."""
    for cost in (1, 2, 3):
        await worker.spender.charge(ONE, cost=cost)
    await worker.spender.charge(TWO)
    for _ in range(2):
        assert await worker.usage_flush.save()
        assert await saved(operator) == today(one=(3, 6), two=(1, 1))


class Dying(PostgresUsage):
    """Its connection is ended by the server before what was saved is committed."""

    def __init__(self, pool: Pool, operator: ManagementClient) -> None:
        super().__init__(pool)
        self._operator = operator

    @asynccontextmanager
    async def exclusive_saver(self) -> AsyncIterator[SaveUsage | None]:
        async with super().exclusive_saver() as save:
            yield save
            await self._operator.sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND state = 'idle in transaction'"
            )


async def test_death_between_the_read_and_the_commit(operator: ManagementClient, worker: Worker, pool: Pool) -> None:
    """Nothing was saved, no mark is gone, and the lock is free for the next one."""
    await worker.spender.charge(ONE)
    await worker.spender.age_marks()
    dying = UsageFlush(worker.spender.log, Dying(pool, operator), complete=None, observer=worker.watch)
    assert not await dying.save()
    assert (await saved(operator), await worker.spender.marks()) == ({}, {(ACME, ONE)})
    assert await worker.usage_flush.save()
    assert (await saved(operator), await worker.spender.marks()) == (today(one=(1, 1)), set())


async def test_death_between_the_commit_and_the_marks(
    operator: ManagementClient, workers: list[Worker], pool: Pool
) -> None:
    """Another worker saves the same once more, with what was charged since."""
    first, second, _ = workers
    await first.spender.charge(ONE)
    await first.spender.age_marks()

    assert await save(PostgresUsage(pool), *(await first.spender.log.read(100)).counted)
    await second.spender.charge(ONE, mark=False)
    assert await second.usage_flush.save()
    assert (await saved(operator), await second.spender.marks()) == (today(one=(2, 2)), set())


async def test_an_older_read_that_is_written_later(operator: ManagementClient, worker: Worker, pool: Pool) -> None:
    """A worker that paused between the read and the commit takes nothing back."""
    await worker.spender.charge(ONE)
    old = (await worker.spender.log.read(100)).counted
    await worker.spender.charge(ONE)
    assert await worker.usage_flush.save()
    assert await save(PostgresUsage(pool), *old)
    assert await saved(operator) == today(one=(2, 2))


async def test_one_saves_at_a_time(operator: ManagementClient, workers: list[Worker], pool: Pool) -> None:
    """While one worker saves, others do nothing and do not wait."""
    await workers[0].spender.charge(ONE)
    async with PostgresUsage(pool).exclusive_saver() as saver:
        assert saver is not None
        assert await workers[1].usage_flush.save()
        assert await saved(operator) == {}
    assert await workers[1].usage_flush.save()
    assert await saved(operator) == today(one=(1, 1))


async def test_charged_and_saved_at_once(operator: ManagementClient, workers: list[Worker]) -> None:
    """Three workers charge and save as fast as they can: in the end the table has every charge, once."""

    async def charging(worker: Worker) -> None:
        for number in range(60):
            await worker.spender.charge(ONE if number % 3 else TWO, cost=2)

    charged = asyncio.Event()

    async def saving(worker: Worker) -> None:
        while not charged.is_set():
            assert await worker.usage_flush.save()
            await asyncio.sleep(0)

    async with asyncio.timeout(60), asyncio.TaskGroup() as savers:
        for worker in workers:
            savers.create_task(saving(worker))
        await asyncio.gather(*map(charging, workers))
        charged.set()  # not cancelled: the server keeps the lock of a cut connection until it sees the end of it
    assert await workers[0].usage_flush.save()
    assert await saved(operator) == today(one=(120, 240), two=(60, 120))


async def test_redis_loses_its_data(operator: ManagementClient, worker: Worker, redis: RedisClient) -> None:
    """Counters go on from what is saved; at most the charges since then are lost, and nothing is doubled."""
    for _ in range(5):
        await worker.spender.charge(ONE)
    assert await worker.usage_flush.save()
    await worker.spender.charge(ONE)  # lost
    await redis.flushall()
    assert await worker.usage_flush.save()
    _, spent = await worker.spender.charge(ONE)
    assert (spent.used["daily"], spent.used["key-daily"]) == (6, 6)
    assert await worker.usage_flush.save()
    assert await saved(operator) == today(one=(6, 6))


async def test_redis_loses_its_data_during_a_save(
    operator: ManagementClient, worker: Worker, redis: RedisClient, pool: Pool
) -> None:
    """Between the read and the commit: what was read is saved, and new counters go on from it or lose it."""
    for _ in range(5):
        await worker.spender.charge(ONE)
    batch = await worker.spender.log.read(100)
    await redis.flushall()
    assert await save(PostgresUsage(pool), *batch.counted)
    await worker.spender.log.acknowledge(batch)
    _, spent = await worker.spender.charge(ONE)
    assert spent.used["daily"] == 6
    assert await worker.usage_flush.save()
    assert await saved(operator) == today(one=(6, 6))


async def test_postgresql_is_away_when_redis_loses_its_data(
    operator: ManagementClient, worker: Worker, redis: RedisClient
) -> None:
    """Counters start at zero and replace nothing; once reconciled they are added to what was saved."""
    for _ in range(5):
        await worker.spender.charge(ONE)
    assert await worker.usage_flush.save()
    await redis.flushall()
    usage, worker.spender.usage = worker.spender.usage, None
    asked, spent = await worker.spender.charge(ONE, cost=2)
    assert (spent.used["daily"], spent.provisional) == (2, True)
    assert await worker.usage_flush.save()
    assert await saved(operator) == today(one=(5, 5))
    worker.spender.usage = usage
    await worker.spender.complete(asked)
    assert await worker.usage_flush.save()
    assert await saved(operator) == today(one=(6, 7))


async def test_charges_of_a_worker_that_ended_are_completed(
    operator: ManagementClient, workers: list[Worker], redis: RedisClient, pool: Pool
) -> None:
    """Another worker, which has served none of it, completes and saves what was charged without PostgreSQL for days."""
    first, second, _ = workers
    yesterday = TODAY - timedelta(days=1)
    for day in (yesterday - timedelta(days=1), yesterday):
        await first.spender.charge(ONE, day=day, cost=5)
    assert await first.usage_flush.save()
    await redis.flushall()
    first.spender.usage = None
    for day in (yesterday - timedelta(days=1), yesterday, TODAY):
        await first.spender.charge(ONE, day=day, cost=2)
    async with completing(second, pool) as usage_flush:
        assert not await usage_flush.save()
        assert await usage_flush.save()
    days = (yesterday - timedelta(days=1), yesterday, TODAY)
    expected = zip(days, ((2, 7), (2, 7), (1, 2)), strict=True)
    assert await saved(operator) == {(ONE, day.isoformat()): counts for day, counts in expected}
    month = (await second.spender.fields())["m:20270301"]
    assert month == "16"


@asynccontextmanager
async def completing(worker: Worker, pool: Pool) -> AsyncIterator[UsageFlush]:
    """The usage flush of a worker with reconciliation: it was started at noon of TODAY."""
    stores: tuple[Store, Store] = (REDIS, POSTGRESQL)
    redis, postgresql = (
        store_breaker(
            store,
            policy=CallPolicy(10, 100, cancel=True),
            probe=worker.spender.redis_connection.probe,
            observer=worker.watch,
        )
        for store in stores
    )
    for guard in (redis, postgresql):
        await guard.start()
    usage = PostgresUsage(pool)
    restorer = CounterRestorer(worker.spender.limits, SeedQueries(usage), redis=redis, postgresql=postgresql)
    noon = datetime.combine(TODAY, time(12), UTC).timestamp()
    completion = CounterReconciler(PostgresTenantSource(pool), restorer, clock=lambda: noon)
    try:
        yield UsageFlush(worker.spender.log, usage, complete=completion.complete, observer=worker.watch)
    finally:
        await restorer.close()
        for guard in (redis, postgresql):
            await guard.close()


async def test_a_hung_postgresql(
    operator: ManagementClient, worker: Worker, postgres_server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is waited for so long; everything is still there afterwards."""
    await worker.spender.charge(ONE)
    await worker.spender.age_marks()
    monkeypatch.setattr(flush, "SAVE_TIMEOUT_SECONDS", 0.2)
    with paused(postgres_server):
        assert not await worker.usage_flush.save()
    monkeypatch.undo()
    assert await worker.spender.marks() == {(ACME, ONE)}
    assert await worker.usage_flush.save()
    assert await saved(operator) == today(one=(1, 1))


async def test_days_go_by(operator: ManagementClient, worker: Worker, pool: Pool) -> None:
    """Through the end of a month, with saves at any time: the table has every day, and Redis keeps the last two."""
    days = [TODAY + timedelta(days=number) for number in range(-5, 6)]

    async def save_on(today: date) -> None:
        log = RedisUsage(worker.spender.redis_connection, today=today)
        assert await UsageFlush(log, PostgresUsage(pool), complete=None, observer=worker.watch).save()

    for number, day in enumerate(days):
        await worker.spender.charge(ONE, day=day, cost=number + 1)
        await worker.spender.charge(id_of(number + 10), day=day)
        if number % 4 == 3:
            await save_on(day)
    await save_on(days[-1])
    assert await saved(operator) == {(ONE, day.isoformat()): (1, number + 1) for number, day in enumerate(days)} | {
        (id_of(number + 10), day.isoformat()): (1, 1) for number, day in enumerate(days)
    }
    assert (await worker.spender.fields())["days"] == "20270404 20270405"


@pytest.mark.parametrize("seed", range(6))
async def test_in_any_order(operator: ManagementClient, workers: list[Worker], pool: Pool, seed: int) -> None:
    """Charges, saves, deaths at any point and lost marks in any order: the table has never more than was charged, and
    in the end exactly that.
    """
    random = Random(seed)
    charged: Rows = {}
    reads: list[Sequence[Counted]] = []
    for _ in range(60):
        worker = random.choice(workers)
        match random.randrange(6):
            case 0 | 1 | 2:
                key, day, cost = (
                    random.choice((ONE, TWO)),
                    TODAY + timedelta(days=random.randrange(2)),
                    random.randint(1, 5),
                )
                await worker.spender.charge(key, day=day, cost=cost)
                allowed, before = charged.get((key, day.isoformat()), (0, 0))
                charged[key, day.isoformat()] = allowed + 1, before + cost
            case 3:
                assert await worker.usage_flush.save()
            case 4:  # read, and perhaps never written
                reads.append((await RedisUsage(worker.spender.redis_connection).read(random.randint(1, 3))).counted)
            case _:
                await worker.spender.age_marks()
                if reads:
                    late = reads.pop(random.randrange(len(reads)))
                    assert await save(PostgresUsage(pool), *late)
        for row, counts in (await saved(operator)).items():
            assert counts <= charged[row]
    assert await workers[0].usage_flush.save()
    assert await saved(operator) == charged


async def test_a_threshold_is_announced_by_one_of_many(operator: ManagementClient, workers: list[Worker]) -> None:
    """All workers see the counter; one row and one event for each threshold of the window."""
    limits = Limits(None, None, 10, 1000)
    for number in range(10):
        for worker in workers:
            asked, spent = await worker.spender.charge(ONE, limits=limits, mark=False)
            worker.usage_flush.note(
                asked, spent.row, Reason.ALLOW if not spent.refused else Reason.DAILY_QUOTA_EXCEEDED
            )
        if number % 2:
            await asyncio.gather(*(worker.usage_flush.add() for worker in workers))
    told = sorted((event.threshold, event.used) for worker in workers for event in worker.watch.thresholds)
    assert [threshold for threshold, _ in told] == [80, 90, 100]
    rows = await operator.rows(
        'SELECT threshold, used, "limit", quota, window_start FROM quota_events ORDER BY threshold'
    )
    assert [(row["threshold"], row["used"]) for row in rows] == told
    assert {(row["limit"], row["quota"], row["window_start"]) for row in rows} == {(10, "daily", TODAY)}
    refused = await operator.rows("SELECT sum(over_quota) AS n, sum(rate_limited) AS r FROM usage_daily")
    assert [(row["n"], row["r"]) for row in refused] == [(20, 0)]
