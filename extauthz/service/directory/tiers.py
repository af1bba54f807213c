"""The stores behind the local cache, Redis and PostgreSQL, as one kind of record is read from them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf
from time import monotonic, time
from typing import Any, Generic, NamedTuple, TypeVar

from extauthz.aio.batcher import Batcher
from extauthz.core.errors import StoreCorrupt, StoreUnavailable
from extauthz.core.observers import Observer
from extauthz.core.ports import POSTGRESQL, REDIS, Cache, SharedCache, Source
from extauthz.core.trace import Trace
from extauthz.service.directory.entry import Asked, Record
from extauthz.service.directory.invalidation import Freshness, Invalidations
from extauthz.service.directory.store_query import StoreQuery
from extauthz.service.store_breaker import StoreBreaker
from extauthz.service.store_calls import begin_call, end_call

Item = TypeVar("Item")

IN_USE_MAX = 10_000  # keys, at some 1,200 bytes each
PACKED_MAX = 204_800  # keys, at 128 bytes each
QUERY_TIMEOUT_SECONDS = 5.0  # for a query to find a slot; the circuit breaker bounds the query itself
SHARED_BATCH_MAX = 100  # records in one call of Redis, so that it blocks neither Redis nor the loop
MAX_CONCURRENT_QUERIES = 8  # of one kind of record; the circuit breaker bounds those of all kinds
MAX_QUEUED_QUESTIONS = 20_000  # of one kind of record: some 30 MB


@dataclass(frozen=True, slots=True)
class CachePolicy:
    """How long and how many records of one kind are held.

    A record is good for `ttl` seconds after its read of PostgreSQL, and for `stale` more while PostgreSQL is away. At
    most `in_use` records are held as objects, and `packed` others as rows of bytes.
    """

    ttl: float
    stale: float
    in_use: int = IN_USE_MAX
    packed: int = PACKED_MAX


@dataclass(frozen=True, slots=True)
class CacheContext:
    """What the caches of all kinds of records share."""

    postgresql: StoreBreaker
    redis: StoreBreaker
    invalidations: Invalidations
    freshness: Freshness
    observer: Observer
    clock: Callable[[], float] = time  # Unix seconds


class Answer(NamedTuple, Generic[Record]):
    """A record as PostgreSQL has it; the query began at `read_at` (monotonic seconds), in that epoch of changes."""

    record: Record | None
    read_at: float
    epoch: int


Take = Callable[[Answer[Record]], None]


class _Queued(NamedTuple, Generic[Asked, Record]):
    query: StoreQuery[Asked, Any]
    take: Take[Record]


class BackingStores(Generic[Asked, Record]):
    """Reads records from Redis, whose failures are cache misses, and from PostgreSQL, whose failures are raised.

    Queries for PostgreSQL are answered in the order in which they came: at most MAX_CONCURRENT_QUERIES are under way,
    and what is asked meanwhile goes together in the next query.
    """

    def __init__(
        self,
        kind: Cache,
        source: Source[Asked, Record],
        shared: SharedCache[Asked, Record],
        cache_context: CacheContext,
    ) -> None:
        self._kind: Cache = kind
        self._source = source
        self._shared = shared
        self._context = cache_context
        self._queries: Batcher[_Queued[Asked, Record]] = Batcher(
            self._query, batch_max=lambda: source.at_once, max_concurrency=MAX_CONCURRENT_QUERIES
        )
        self._unsent: dict[Asked, StoreQuery[Asked, Record | None]] = {}  # those of `fresh`

    @property
    def up(self) -> bool:
        """Whether calls of PostgreSQL are let through."""
        return self._context.postgresql.up

    @property
    def at_once(self) -> int:
        """How many records one query may ask for."""
        return self._source.at_once

    async def shared(
        self, asked: Sequence[Asked], *, ended: bool = False, traces: Sequence[Trace] = ()
    ) -> list[Record | None]:
        """Return what Redis has of each, where it is up and the record is valid and includes all changes.

        `ended` is as for SharedCache; `traces` are those of the checks that wait for it.
        """
        context = self._context
        call = begin_call(REDIS, self._kind, traces, len(asked))
        try:
            answers = await context.redis.run(lambda: self._shared.find(asked, context.clock(), ended=ended))
        except StoreUnavailable as error:
            end_call(call, error)
            return [None] * len(asked)
        end_call(call)
        return [None if record is None else self._admitted(record) for record in self._without_corrupt(answers)]

    async def source(self, asked: Sequence[Asked], deadline: float = inf) -> list[Record | None]:
        """Return what PostgreSQL has of each; None also where a record is corrupt. Raises StoreUnavailable."""
        context = self._context
        answers = await context.postgresql.run(lambda: self._source.find(asked, context.clock()), deadline)
        return self._without_corrupt(answers)

    def ask(self, query: StoreQuery[Asked, Any], take: Take[Record]) -> None:
        """Queue a query for PostgreSQL. `take` is given the answer, the query itself a failure."""
        if len(self._queries) >= MAX_QUEUED_QUESTIONS:
            self._context.observer.store_failed(POSTGRESQL, "busy")
            query.fail(StoreUnavailable(POSTGRESQL, "busy"))
            return
        self._queries.add(_Queued(query, take))

    async def fresh(self, asked: Asked, deadline: float, trace: Trace | None = None) -> Record | None:
        """Return what PostgreSQL has of one, read from now on; requests of one instant share the query.

        Raises StoreUnavailable.
        """
        query = self._unsent.get(asked)
        if query is None:
            query = self._unsent[asked] = StoreQuery(asked)
            self.ask(query, lambda answer: query.tell(answer.record))
        if trace is not None:
            query.traces.append(trace)
        return await query.answer(deadline, up=lambda: self.up)

    async def share(self, records: Sequence[Record]) -> None:
        """Hand records to the other processes, where Redis is up."""
        context = self._context
        for some in portions(records, SHARED_BATCH_MAX):
            try:
                await context.redis.run(partial(self._shared.put, some, context.clock()))
            except StoreUnavailable:
                return

    async def close(self) -> None:
        """End the queries under way, and the queries that wait for one."""
        for queued in await self._queries.close():
            queued.query.leave()

    def _admitted(self, record: Record) -> Record | None:
        return record if self._context.invalidations.admits(record.made_of, record.version, -inf) else None

    def _without_corrupt(self, answers: "Sequence[Record | StoreCorrupt | None]") -> list[Record | None]:
        for answer in answers:
            if isinstance(answer, StoreCorrupt):
                self._context.observer.record_corrupt(answer)
        return [None if isinstance(answer, StoreCorrupt) else answer for answer in answers]

    def _sent(self, query: StoreQuery[Asked, Any]) -> bool:
        """Whether a request still waits for the answer. A request that asks `fresh` later has a query of its own."""
        if self._unsent.get(query.asked) is query:
            del self._unsent[query.asked]
        if not query.wanted:
            query.leave()
            return False
        query.sent()
        return True

    async def _query(self, batch: Sequence[_Queued[Asked, Record]]) -> None:
        read_at, epoch = monotonic(), self._context.invalidations.epoch
        wanted = [queued for queued in batch if self._sent(queued.query)]
        if not wanted:
            return
        traces = [trace for queued in wanted for trace in queued.query.traces]
        call = begin_call(POSTGRESQL, self._kind, traces, len(wanted))
        try:
            asked = [queued.query.asked for queued in wanted]
            records = await self.source(asked, read_at + QUERY_TIMEOUT_SECONDS)
            end_call(call)
            for queued, record in zip(wanted, records, strict=True):
                queued.take(Answer(record, read_at, epoch))
        except Exception as error:  # noqa: BLE001 - any failure is given to the requests that wait
            end_call(call, error)
            for queued in wanted:
                queued.query.fail(error)


def portions(many: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """Cut a sequence into parts of at most `size`."""
    return (many[start : start + size] for start in range(0, len(many), size))
