"""The layers below a process: Redis and PostgreSQL, as readings of one kind of record use them."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf
from time import monotonic, time
from typing import Any, Generic, NamedTuple, TypeVar

from extauthz.aio.tasks import cancel_until_done
from extauthz.core.errors import StoreCorrupt, StoreUnavailable
from extauthz.core.ports import POSTGRESQL, REDIS, Cache, Observer, SharedCache, Source
from extauthz.core.trace import Trace
from extauthz.service.directory.entry import Asked, Record
from extauthz.service.directory.invalidation import Freshness, Invalidations
from extauthz.service.directory.question import Question
from extauthz.service.store_breaker import StoreBreaker
from extauthz.service.store_calls import begin_call, end_call

Item = TypeVar("Item")

IN_USE_MAX = 10_000  # keys, at some 1,200 bytes each
PACKED_MAX = 204_800  # keys, at 128 bytes each
QUERY_TIMEOUT_SECONDS = 5.0  # for a query to find a place in front of PostgreSQL; the guard bounds the query itself
AT_ONCE = 100  # records in one call of Redis, so that neither it nor the loop is held by them
QUERIES_AT_ONCE = 8  # of one kind of record; the guard bounds those of all kinds
MAX_QUEUED_QUESTIONS = 20_000  # of one kind of record: some 30 MB


@dataclass(frozen=True, slots=True)
class CachePolicy:
    """`ttl` seconds that a record is good after its read of PostgreSQL, `stale` more while PostgreSQL is away.

    A process holds so many that are in use as objects, and so many of the rest packed.
    """

    ttl: float
    stale: float
    in_use: int = IN_USE_MAX
    packed: int = PACKED_MAX


@dataclass(frozen=True, slots=True)
class CacheContext:
    """What readings of every kind share."""

    postgresql: StoreBreaker
    redis: StoreBreaker
    invalidations: Invalidations
    freshness: Freshness
    observer: Observer
    clock: Callable[[], float] = time  # Unix seconds


class Answer(NamedTuple, Generic[Record]):
    """What PostgreSQL said of one. The query began at `read_at` (monotonic seconds), in that epoch of changes."""

    record: Record | None
    read_at: float
    epoch: int


Take = Callable[[Answer[Record]], None]


class _Queued(NamedTuple, Generic[Asked, Record]):
    question: Question[Asked, Any]
    take: Take[Record]


class BackingStores(Generic[Asked, Record]):
    """Redis is a cache: what is wrong with it is a miss. PostgreSQL is the truth: what is wrong with it is told.

    Questions for PostgreSQL wait in the order in which they came. A few queries are under way at most; what is wanted
    meanwhile goes together in the next one.
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
        self._around = cache_context
        self._queue: deque[_Queued[Asked, Record]] = deque()
        self._unsent: dict[Asked, Question[Asked, Record | None]] = {}  # those of `fresh`
        self._queries: set[asyncio.Task[None]] = set()
        self._due = False

    @property
    def up(self) -> bool:
        """Whether PostgreSQL is there, as far as is known."""
        return self._around.postgresql.up

    @property
    def at_once(self) -> int:
        """How many PostgreSQL may be asked for in one call."""
        return self._source.at_once

    async def shared(
        self, asked: Sequence[Asked], *, ended: bool = False, traces: Sequence[Trace] = ()
    ) -> list[Record | None]:
        """What Redis has of each, if it is there, makes sense, and includes all changes; `ended` as for SharedCache.

        `traces` are those of the checks that wait for it.
        """
        around = self._around
        call = begin_call(REDIS, self._kind, traces, len(asked))
        try:
            answers = await around.redis.run(lambda: self._shared.find(asked, around.clock(), ended=ended))
        except StoreUnavailable as error:
            end_call(call, error)
            return [None] * len(asked)
        end_call(call)
        return [None if record is None else self._admitted(record) for record in self._told_corrupt(answers)]

    async def source(self, asked: Sequence[Asked], deadline: float = inf) -> list[Record | None]:
        """What PostgreSQL says of each; None also where it makes no sense. Raises StoreUnavailable."""
        around = self._around
        answers = await around.postgresql.run(lambda: self._source.find(asked, around.clock()), deadline)
        return self._told_corrupt(answers)

    def ask(self, question: Question[Asked, Any], take: Take[Record]) -> None:
        """Queues a question for PostgreSQL. `take` is given the answer; a failure is told to the question itself."""
        if len(self._queue) >= MAX_QUEUED_QUESTIONS:
            self._around.observer.store_failed(POSTGRESQL, "busy")
            question.fail(StoreUnavailable(POSTGRESQL, "busy"))
            return
        self._queue.append(_Queued(question, take))
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self._query)

    async def fresh(self, asked: Asked, deadline: float, trace: Trace | None = None) -> Record | None:
        """What PostgreSQL says of one, read from now on and not before; those who ask at one instant share the query.

        Raises StoreUnavailable.
        """
        question = self._unsent.get(asked)
        if question is None:
            question = self._unsent[asked] = Question(asked)
            self.ask(question, lambda answer: question.tell(answer.record))
        if trace is not None:
            question.traces.append(trace)
        return await question.answer(deadline, up=lambda: self.up)

    async def share(self, records: Sequence[Record]) -> None:
        """Hands records to the other processes, if Redis is there."""
        around = self._around
        for some in portions(records, AT_ONCE):
            try:
                await around.redis.run(partial(self._shared.put, some, around.clock()))
            except StoreUnavailable:
                return

    async def close(self) -> None:
        """Ends the queries under way."""
        for queued in self._queue:
            queued.question.leave()
        self._queue.clear()
        await cancel_until_done(self._queries)

    def _admitted(self, record: Record) -> Record | None:
        return record if self._around.invalidations.admits(record.made_of, record.version, -inf) else None

    def _told_corrupt(self, answers: "Sequence[Record | StoreCorrupt | None]") -> list[Record | None]:
        for answer in answers:
            if isinstance(answer, StoreCorrupt):
                self._around.observer.record_corrupt(answer)
        return [None if isinstance(answer, StoreCorrupt) else answer for answer in answers]

    def _query(self) -> None:
        self._due = False
        while self._queue and len(self._queries) < QUERIES_AT_ONCE:
            batch = [self._queue.popleft() for _ in range(min(self.at_once, len(self._queue)))]
            wanted = [queued for queued in batch if self._sent(queued.question)]
            if wanted:
                query = asyncio.create_task(self._answer(wanted))
                self._queries.add(query)
                query.add_done_callback(self._over)

    def _sent(self, question: Question[Asked, Any]) -> bool:
        """Whether a request still waits for the answer. The next to ask afresh asks anew."""
        if self._unsent.get(question.asked) is question:
            del self._unsent[question.asked]
        if not question.wanted:
            question.leave()
            return False
        question.sent()
        return True

    def _over(self, query: "asyncio.Task[None]") -> None:
        self._queries.discard(query)
        self._query()

    async def _answer(self, batch: Sequence[_Queued[Asked, Record]]) -> None:
        read_at, epoch = monotonic(), self._around.invalidations.epoch
        traces = [trace for queued in batch for trace in queued.question.traces]
        call = begin_call(POSTGRESQL, self._kind, traces, len(batch))
        try:
            asked = [queued.question.asked for queued in batch]
            records = await self.source(asked, read_at + QUERY_TIMEOUT_SECONDS)
            end_call(call)
            for queued, record in zip(batch, records, strict=True):
                queued.take(Answer(record, read_at, epoch))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is for those who wait
            end_call(call, error)
            for queued in batch:
                queued.question.fail(error)


def portions(many: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """Cuts a sequence into parts of at most `size`."""
    return (many[start : start + size] for start in range(0, len(many), size))
