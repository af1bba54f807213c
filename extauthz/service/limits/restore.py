"""Restores counters that Redis has lost from the usage that PostgreSQL has saved."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from time import monotonic
from typing import Any, NamedTuple, Protocol

from extauthz.aio.batcher import Batcher
from extauthz.aio.single_flight import SingleFlight
from extauthz.aio.tasks import cancel_until_done, ignore_error, wait_in_slices
from extauthz.core.errors import StoreUnavailable
from extauthz.core.ports import POSTGRESQL, REDIS, LimitStore, Store
from extauthz.core.spend import Spend, spans
from extauthz.core.trace import Trace
from extauthz.core.usage import Seed, Span
from extauthz.service.store_breaker import StoreBreaker
from extauthz.service.store_calls import begin_call, bounded_call, end_call

RESTORE_TIMEOUT_SECONDS = 0.1  # that a check waits for its counters
QUERY_SHARE = 0.75  # of that, for PostgreSQL; the rest is for Redis, where counters then begin without it
QUERY_TENANTS_MAX = 200  # in one query; fewer after one that failed
MAX_CONCURRENT_QUERIES = 2
QUERY_TIMEOUT_SECONDS = 5.0
MAX_CONCURRENT_SEEDS = 2  # tenants whose counters are written at a time, so that checks find Redis free
MAX_CONCURRENT_BEGINS = 30  # the same where only a mark is written
SEED_TIMEOUT_SECONDS = 30.0  # for all counters of one tenant
MAX_RESTORED_TENANTS = 10_000  # under way; those beyond begin without PostgreSQL, and are completed later

Flights = SingleFlight[str, asyncio.Task[None]]


class CounterRestorer:
    """Restores the counters of tenants: once at a time for each tenant, many tenants in one query.

    A check waits `timeout` seconds in all, most of them for PostgreSQL. Where that is away or takes longer, counters
    begin with what is there, marked as provisional; they are completed when the query ends, or by CounterReconciler.
    Neither circuit breaker is told of failures here, because a large tenant may take longer than a check does.
    """

    def __init__(
        self,
        limits: LimitStore,
        queries: "SeedQueries | None",
        *,
        redis: StoreBreaker,
        postgresql: StoreBreaker,
        timeout: float = RESTORE_TIMEOUT_SECONDS,
        tenants_max: int = MAX_RESTORED_TENANTS,
    ) -> None:
        """`queries` None: usage is not saved, and counters begin with zero."""
        self._limits = limits
        self._redis = redis
        self._postgresql = postgresql
        self._timeout = timeout
        self._tenants_max = tenants_max
        self._queries = queries
        self._restored: Flights = SingleFlight()
        self._begun: Flights = SingleFlight()
        self._seed_slots = asyncio.Semaphore(MAX_CONCURRENT_SEEDS)
        self._begin_slots = asyncio.Semaphore(MAX_CONCURRENT_BEGINS)

    def __len__(self) -> int:
        """Tenants whose counters are being written."""
        return len(self._restored) + len(self._begun)

    async def seed(self, asked: Spend, trace: Trace | None = None) -> None:
        """Return when the counters of a tenant are there. Raises StoreUnavailable, of Redis."""
        tenant_id = asked.owner.id
        until = monotonic() + self._timeout
        if not self._redis.up:
            raise StoreUnavailable(REDIS, "down")
        if self._queries is None or (self._postgresql.up and len(self._restored) < self._tenants_max):
            wanted = () if asked.windows is None else spans(asked.windows)
            restored = self._join(self._restored, tenant_id, partial(self._restore, tenant_id, wanted))
            call = begin_call(POSTGRESQL, "seed", [trace], 1)
            await wait_in_slices(restored, QUERY_SHARE * self._timeout)
            end_call(call, _error_of(restored, POSTGRESQL))
            if restored.done() and not _failed_by(restored, POSTGRESQL):
                return _result(restored)
        begun = self._join(self._begun, tenant_id, partial(self._begin, tenant_id))
        call = begin_call(REDIS, "seed", [trace], 1)
        # A late loop takes no time from Redis: it has its share in any case.
        await wait_in_slices(begun, max(until - monotonic(), (1 - QUERY_SHARE) * self._timeout))
        end_call(call, _error_of(begun, REDIS))
        return _result(begun)

    async def complete(self, wanted: Mapping[str, Sequence[Span]]) -> None:
        """Complete counters that began without PostgreSQL. Raises StoreUnavailable where any of them could not be.

        The work goes on where the caller is cancelled.
        """
        for breaker in (self._redis, self._postgresql):
            if not breaker.up:
                raise StoreUnavailable(breaker.name, "down")
        tasks = [
            self._join(self._restored, tenant_id, partial(self._restore, tenant_id, spans))
            for tenant_id, spans in wanted.items()
        ]
        if tasks:
            await asyncio.wait(tasks)
        for task in tasks:
            _result(task)

    async def close(self) -> None:
        """End the work under way."""
        await cancel_until_done([*self._restored.under_way, *self._begun.under_way])
        if self._queries is not None:
            await self._queries.close()

    def _join(
        self, flights: Flights, tenant_id: str, call: Callable[[], Coroutine[Any, Any, None]]
    ) -> asyncio.Task[None]:
        def begin() -> asyncio.Task[None]:
            task = asyncio.create_task(call())
            task.add_done_callback(ignore_error)  # all that wait may have left by then
            return task

        return flights.join(tenant_id, begin)

    async def _restore(self, tenant_id: str, wanted: Sequence[Span]) -> None:
        seeds = () if self._queries is None else await self._queries.ask(tenant_id, wanted)
        async with self._seed_slots:
            await self._put(tenant_id, seeds)

    async def _begin(self, tenant_id: str) -> None:
        async with self._begin_slots:
            await self._put(tenant_id, None)

    async def _put(self, tenant_id: str, seeds: Sequence[Seed] | None) -> None:
        await bounded_call(self._limits.seed(tenant_id, seeds), SEED_TIMEOUT_SECONDS, REDIS)


class _Wanted(NamedTuple):
    """The windows of a tenant whose usage is read, and what waits for it."""

    tenant_id: str
    spans: Sequence[Span]
    seeds: "asyncio.Future[Sequence[Seed]]"


class SavedUsage(Protocol):
    """Where saved usage is read."""

    async def seeds(self, wanted: Mapping[str, Sequence[Span]]) -> Mapping[str, Sequence[Seed]]:
        """Return what is saved of each tenant in its spans. Raises StoreUnavailable."""
        ...


class SeedQueries:
    """Reads the saved usage of tenants, at most `tenants_max` of them in one query."""

    def __init__(self, usage: SavedUsage, *, tenants_max: int = QUERY_TENANTS_MAX) -> None:
        self._usage = usage
        self._tenants_max = self._size = tenants_max
        self._batcher = Batcher(self._query, batch_max=lambda: self._size, max_concurrency=MAX_CONCURRENT_QUERIES)

    async def ask(self, tenant_id: str, wanted: Sequence[Span]) -> Sequence[Seed]:
        """Return what is saved of one tenant, of which one caller may ask at a time. Raises StoreUnavailable."""
        seeds: asyncio.Future[Sequence[Seed]] = asyncio.get_running_loop().create_future()
        self._batcher.add(_Wanted(tenant_id, wanted, seeds))
        return await seeds

    async def close(self) -> None:
        """End the queries under way."""
        for wanted in await self._batcher.close():
            wanted.seeds.cancel()

    async def _query(self, batch: Sequence[_Wanted]) -> None:
        wanted = [each for each in batch if not each.seeds.done()]  # the others have been cancelled
        if not wanted:
            return
        failure: Exception = StoreUnavailable(POSTGRESQL, "deadline")  # where this query is cancelled
        try:
            call = self._usage.seeds({each.tenant_id: each.spans for each in wanted})
            found = await bounded_call(call, QUERY_TIMEOUT_SECONDS, POSTGRESQL)
            self._size = min(self._size + 1, self._tenants_max)
            for each in wanted:
                if not each.seeds.done():
                    each.seeds.set_result(found.get(each.tenant_id, ()))
        except Exception as error:  # noqa: BLE001 - any failure is told to what waits
            self._size = max(len(wanted) // 2, 1)  # so that a tenant that is too large fails alone
            failure = error
        finally:
            for each in wanted:
                if not each.seeds.done():
                    each.seeds.set_exception(another(failure))


def another(error: Exception) -> Exception:
    """Copy a failure for one more waiter: an exception that many raise collects all their stacks."""
    if isinstance(error, StoreUnavailable):
        return StoreUnavailable(error.store, error.reason, said=error.said, remedy=error.remedy)
    return error


def _failed_by(task: asyncio.Task[None], store: Store) -> bool:
    error = None if task.cancelled() else task.exception()
    return isinstance(error, StoreUnavailable) and error.store == store


def _error_of(task: asyncio.Task[None], store: Store) -> BaseException | None:
    """Return why a task failed, or is late."""
    return task.exception() if task.done() and not task.cancelled() else StoreUnavailable(store, "deadline")


def _result(task: asyncio.Task[None]) -> None:
    """Raise the failure of a task for one of its waiters: StoreUnavailable also where it is not over."""
    if not task.done() or task.cancelled():
        raise StoreUnavailable(REDIS, "deadline")
    if (error := task.exception()) is not None:
        raise another(error) if isinstance(error, Exception) else error
