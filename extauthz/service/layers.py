"""The layers below a process: Redis and PostgreSQL, as readings of one kind of record use them."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from math import inf
from time import monotonic, time
from typing import Any, Generic

from extauthz.core.errors import StoreCorrupt, StoreUnavailable
from extauthz.core.ports import Observer, SharedCache, Source
from extauthz.service.fences import Belief, Fences
from extauthz.service.guard import Guard, end
from extauthz.service.held import Asked, Record

PATIENCE = 1.0  # seconds that a reading may take; each who waits for it has a deadline of their own
FEW = 20  # calls of Redis in one turn of the loop
QUERIES_AT_ONCE = 8  # of one kind of record; the guard bounds those of all kinds


@dataclass(frozen=True, slots=True)
class Times:
    """`ttl` seconds that a record is good after its read of PostgreSQL, `stale` more while PostgreSQL is away."""

    ttl: float
    stale: float


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What readings of every kind share."""

    postgresql: Guard
    redis: Guard
    fences: Fences
    belief: Belief
    observer: Observer
    clock: Callable[[], float] = time  # Unix seconds


class Below(Generic[Asked, Record]):
    """Redis is a cache: what is wrong with it is a miss. PostgreSQL is the truth: what is wrong with it is told."""

    def __init__(
        self, source: Source[Asked, Record], shared: SharedCache[Asked, Record], surroundings: Surroundings
    ) -> None:
        self._source = source
        self._shared = shared
        self._around = surroundings
        self._wanted: list[tuple[Asked, asyncio.Future[Record | None]]] = []
        self._queries: set[asyncio.Task[None]] = set()

    @property
    def up(self) -> bool:
        """Whether PostgreSQL is there, as far as is known."""
        return self._around.postgresql.up

    @property
    def at_once(self) -> int:
        """How many PostgreSQL may be asked for in one call."""
        return self._source.at_once

    async def shared(self, asked: Asked, deadline: float = inf) -> Record | None:
        """What Redis has, if it is there, makes sense, and knows of all changes."""
        around = self._around
        try:
            record = await around.redis.run(lambda: self._shared.get(asked, around.clock()), deadline)
        except StoreUnavailable:
            return None
        except StoreCorrupt as error:
            around.observer.record_corrupt(error)
            return None
        believed = record is not None and around.fences.admits(record.made_of, record.version, -inf)
        return record if believed else None

    async def source(self, asked: Sequence[Asked], deadline: float = inf) -> list[Record | None]:
        """What PostgreSQL says of each; None also where it makes no sense. Raises StoreUnavailable."""
        around = self._around
        answers = await around.postgresql.run(lambda: self._source.find(asked, around.clock()), deadline)
        for answer in answers:
            if isinstance(answer, StoreCorrupt):
                around.observer.record_corrupt(answer)
        return [None if isinstance(answer, StoreCorrupt) else answer for answer in answers]

    async def one(self, asked: Asked) -> Record | None:
        """What PostgreSQL says of one; None also where it makes no sense. Raises StoreUnavailable.

        A few queries are under way at most; what is wanted meanwhile goes together in the next one.
        """
        answer: asyncio.Future[Record | None] = asyncio.get_running_loop().create_future()
        self._wanted.append((asked, answer))
        self._query()
        return await answer

    def _query(self) -> None:
        while self._wanted and len(self._queries) < QUERIES_AT_ONCE:
            batch, self._wanted = self._wanted[: self.at_once], self._wanted[self.at_once :]
            query = asyncio.create_task(self._answer(batch))
            self._queries.add(query)
            query.add_done_callback(self._over)

    def _over(self, query: "asyncio.Task[None]") -> None:
        self._queries.discard(query)
        self._query()

    async def _answer(self, batch: "Sequence[tuple[Asked, asyncio.Future[Record | None]]]") -> None:
        batch = [(asked, answer) for asked, answer in batch if not answer.done()]  # who has left wants nothing
        if not batch:
            return
        try:
            records = await self.source([asked for asked, _ in batch], monotonic() + PATIENCE)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is for those who wait
            for _, answer in batch:
                if not answer.done():
                    answer.set_exception(error)
            return
        for (_, answer), record in zip(batch, records, strict=True):
            if not answer.done():
                answer.set_result(record)

    async def close(self) -> None:
        """Ends the queries under way."""
        self._wanted.clear()
        await end(self._queries)

    async def share(self, record: Record) -> None:
        """Hands a record to the other processes, if Redis is there."""
        around = self._around
        try:
            await around.redis.run(lambda: self._shared.put(record, around.clock()))
        except StoreUnavailable:
            return


async def few_at_once(calls: Sequence[Callable[[], Coroutine[Any, Any, None]]]) -> None:
    """Makes many calls without filling the loop with them."""
    for start in range(0, len(calls), FEW):
        await asyncio.gather(*(call() for call in calls[start : start + FEW]))
