"""Counters that Redis has forgotten begin with what PostgreSQL knows of them, not with zero."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from time import monotonic
from typing import Any, TypeVar

from extauthz.aio.tasks import cancel_until_done, wait_in_slices
from extauthz.core.errors import StoreUnavailable
from extauthz.core.ports import LimitStore, Store, UsageStore
from extauthz.core.spend import Spend, spans
from extauthz.core.trace import Trace
from extauthz.core.usage import Seed, Span
from extauthz.service.store_breaker import StoreBreaker
from extauthz.service.store_calls import begin_call, end_call

TENANTS_AT_ONCE = 200  # in one query; fewer after one that failed
QUERIES_AT_ONCE = 2
SEEDS_AT_ONCE, BEGINS_AT_ONCE = 2, 30  # tenants whose counters are written, so that checks find Redis free
TENANTS_MAX = 10_000  # under way; those beyond begin without PostgreSQL, and are completed later
PATIENCE = 0.1  # seconds that a check waits, whatever becomes of the query
SHARE_FOR_QUERY = 0.75  # of them; the rest is for Redis, where counters then begin without it
QUERY_PATIENCE, SEED_PATIENCE = 5.0, 30.0  # seconds for one query; for all that is written of one tenant

T = TypeVar("T")


class CounterRestorer:
    """Seeds tenants' counters: one at a time for each tenant, many tenants in one query.

    A check waits `patience` seconds in all, most of them for PostgreSQL. Where it is away, or takes longer, counters
    begin with what is there, marked as provisional; the answer completes them when it comes, or else whoever saves
    usage does. Neither guard hears of it: what takes long for a large tenant does not for checks. `usage` None: nobody
    keeps usage, so there is nothing to begin with.
    """

    def __init__(
        self,
        limits: LimitStore,
        usage: UsageStore | None,
        *,
        redis: StoreBreaker,
        postgresql: StoreBreaker,
        patience: float = PATIENCE,
    ) -> None:
        self._limits = limits
        self._redis = redis
        self._postgresql = postgresql
        self._patience = patience
        self._queries = None if usage is None else _Queries(usage, postgresql.name)
        self._known: dict[str, asyncio.Task[None]] = {}
        self._begun: dict[str, asyncio.Task[None]] = {}
        self._places, self._places_to_begin = asyncio.Semaphore(SEEDS_AT_ONCE), asyncio.Semaphore(BEGINS_AT_ONCE)

    async def seed(self, asked: Spend, trace: Trace | None = None) -> None:
        """Returns when the counters of a tenant are there. Raises StoreUnavailable, by Redis."""
        tenant_id, redis = asked.owner.id, self._redis.name
        until = monotonic() + self._patience
        if not self._redis.up:
            raise StoreUnavailable(redis, "down")
        if self._queries is None or (self._postgresql.up and len(self._known) < TENANTS_MAX):
            wanted = () if asked.windows is None else spans(asked.windows)
            known = _once(self._known, tenant_id, partial(self._complete, tenant_id, wanted))
            call = begin_call(self._postgresql.name, "seed", [trace], 1)
            await wait_in_slices(known, SHARE_FOR_QUERY * self._patience)
            end_call(call, _error_of(known, self._postgresql.name))
            if known.done() and not _failed_by(known, self._postgresql.name):
                return _outcome(known, redis)
        begun = _once(self._begun, tenant_id, partial(self._begin, tenant_id))
        call = begin_call(redis, "seed", [trace], 1)
        # A late loop takes no time from Redis: it has its share in any case.
        await wait_in_slices(begun, max(until - monotonic(), (1 - SHARE_FOR_QUERY) * self._patience))
        end_call(call, _error_of(begun, redis))
        return _outcome(begun, redis)

    async def complete(self, wanted: Mapping[str, Sequence[Span]]) -> None:
        """Completes what began without PostgreSQL. Raises StoreUnavailable where it could not, for any of them.

        It goes on where nobody waits for it any more.
        """
        for guard in (self._redis, self._postgresql):
            if not guard.up:
                raise StoreUnavailable(guard.name, "down")
        tasks = [_once(self._known, name, partial(self._complete, name, spans)) for name, spans in wanted.items()]
        if tasks:
            await asyncio.wait(tasks)
        for task in tasks:
            _outcome(task, self._redis.name)

    async def close(self) -> None:
        """Ends what is under way."""
        await cancel_until_done([*self._known.values(), *self._begun.values()])
        if self._queries is not None:
            await self._queries.close()

    async def _complete(self, tenant_id: str, wanted: Sequence[Span]) -> None:
        seeds = () if self._queries is None else await self._queries.ask(tenant_id, wanted)
        async with self._places:
            await self._put(tenant_id, seeds)

    async def _begin(self, tenant_id: str) -> None:
        async with self._places_to_begin:
            await self._put(tenant_id, None)

    async def _put(self, tenant_id: str, seeds: Sequence[Seed] | None) -> None:
        await patiently(self._limits.seed(tenant_id, seeds), SEED_PATIENCE, self._redis.name)


class _Queries:
    """What PostgreSQL knows of tenants: who asks while queries are under way shares one of the next."""

    def __init__(self, usage: UsageStore, store: Store) -> None:
        self._usage = usage
        self._store = store
        self._wanted: dict[str, tuple[Sequence[Span], asyncio.Future[Sequence[Seed]]]] = {}
        self._under_way: set[asyncio.Task[None]] = set()
        self._gathering = False
        self._size = TENANTS_AT_ONCE

    async def ask(self, tenant_id: str, wanted: Sequence[Span]) -> Sequence[Seed]:
        """What is known of one tenant. Raises StoreUnavailable."""
        answer: asyncio.Future[Sequence[Seed]] = asyncio.get_running_loop().create_future()
        self._wanted[tenant_id] = wanted, answer
        self._next()
        try:
            return await answer
        finally:
            self._wanted.pop(tenant_id, None)  # who has left wants nothing

    async def close(self) -> None:
        """Ends the queries under way."""
        await cancel_until_done(self._under_way)

    def _next(self) -> None:
        if self._wanted and not self._gathering and len(self._under_way) < QUERIES_AT_ONCE:
            self._gathering = True
            query = asyncio.create_task(self._query())
            self._under_way.add(query)
            query.add_done_callback(self._over)

    def _over(self, query: asyncio.Task[None]) -> None:
        self._under_way.discard(query)
        if not query.cancelled():
            self._next()

    async def _query(self) -> None:
        await asyncio.sleep(0)  # those who come in this turn of the loop go with it
        batch = {name: self._wanted.pop(name) for name in list(self._wanted)[: self._size]}
        self._gathering = False
        self._next()
        failure: Exception = StoreUnavailable(self._store, "deadline")  # where we are closed meanwhile
        try:
            call = self._usage.seeds({name: wanted for name, (wanted, _) in batch.items()})
            found = await patiently(call, QUERY_PATIENCE, self._store)
            self._size = min(self._size + 1, TENANTS_AT_ONCE)
            for name, (_, answer) in batch.items():
                if not answer.done():
                    answer.set_result(found.get(name, ()))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is for those who wait
            self._size = max(len(batch) // 2, 1)  # one that is too large shall fail alone
            failure = error
        finally:
            for _, answer in batch.values():
                if not answer.done():
                    answer.set_exception(another(failure))


async def patiently(call: Coroutine[Any, Any, T], seconds: float, store: str) -> T:
    """What a call returns. Raises StoreUnavailable where it takes too long; its outcome is then unknown."""
    task = asyncio.create_task(call)
    try:
        await asyncio.wait({task}, timeout=seconds)
        if not task.done():
            raise StoreUnavailable(store, "timeout")
        return task.result()
    finally:
        await cancel_until_done([task])


def another(error: Exception) -> Exception:
    """The same failure for one more who waits: an exception that many raise collects all their stacks."""
    if isinstance(error, StoreUnavailable):
        return StoreUnavailable(error.store, error.reason, said=error.said, remedy=error.remedy)
    return error


def _once(
    tasks: dict[str, asyncio.Task[None]], tenant_id: str, call: Callable[[], Coroutine[Any, Any, None]]
) -> asyncio.Task[None]:
    """The task of a tenant that is under way, or a new one."""

    def over(done: asyncio.Task[None]) -> None:
        del tasks[tenant_id]
        if not done.cancelled():
            done.exception()  # who waits for it asks; others need not know

    task = tasks.get(tenant_id)
    if task is None:
        task = tasks[tenant_id] = asyncio.create_task(call())
        task.add_done_callback(over)
    return task


def _failed_by(task: asyncio.Task[None], store: Store) -> bool:
    error = None if task.cancelled() else task.exception()
    return isinstance(error, StoreUnavailable) and error.store == store


def _error_of(task: asyncio.Task[None], store: Store) -> BaseException | None:
    """Why a task failed, or is late."""
    return task.exception() if task.done() and not task.cancelled() else StoreUnavailable(store, "deadline")


def _outcome(task: asyncio.Task[None], store: Store) -> None:
    """What came of it for one of those who wait. Raises StoreUnavailable, also where it is not over."""
    if not task.done() or task.cancelled():
        raise StoreUnavailable(store, "deadline")
    if (error := task.exception()) is not None:
        raise another(error) if isinstance(error, Exception) else error
