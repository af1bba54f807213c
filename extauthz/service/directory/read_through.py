"""Records through three layers: this process, Redis, PostgreSQL. docs/explanation/cache.md says why that is right.

One reading per record at a time, however many requests wait for it; a request that gives up does not take the others
with it. What is wanted at one moment is read together: a crowd of keys that nobody has costs a few queries. What comes
in is used only if it includes every change that this process was told of.
"""

import asyncio
from collections.abc import Callable, Coroutine, Hashable, Sequence
from functools import partial
from math import inf
from typing import Any, Generic, NamedTuple

from extauthz.aio.tasks import cancel_until_done
from extauthz.core.errors import StoreUnavailable
from extauthz.core.ports import POSTGRESQL, Cache, Layer
from extauthz.core.trace import Trace
from extauthz.service.directory.entry import Asked, Record
from extauthz.service.directory.local_cache import LocalCache
from extauthz.service.directory.packed_rows import Rows
from extauthz.service.directory.question import Question
from extauthz.service.directory.renewal import Renewal
from extauthz.service.directory.tiers import AT_ONCE, Answer, BackingStores, CacheContext, CachePolicy, portions
from extauthz.service.store_breaker import OURS

CHANGED_MEANWHILE = 3  # readings of a record that changes faster than it can be read


class _Reading(NamedTuple, Generic[Record]):
    """What came of one reading. `read_at`: when it was begun in PostgreSQL (monotonic), -inf where Redis had it.

    `epoch` is that of changes at that time.
    """

    record: Record | None
    layer: Layer | None
    read_at: float
    epoch: int


class ReadThrough(Generic[Asked, Record]):
    """Reads records of one kind.

    `beside` is told of each record that PostgreSQL was asked for, and when (monotonic seconds) that was begun.
    """

    def __init__(
        self,
        kind: Cache,
        *,
        below: BackingStores[Asked, Record],
        rows: Rows[Asked, Record],
        policy: CachePolicy,
        cache_context: CacheContext,
    ) -> None:
        self._kind: Cache = kind
        self._below = below
        self._fences = cache_context.invalidations
        self._observer = cache_context.observer
        self._clock = cache_context.clock
        self.local: LocalCache[Asked, Record] = LocalCache(kind, rows=rows, policy=policy, cache_context=cache_context)
        self.lookup = self.local.lookup
        self.renewal: Renewal[Asked, Record] = Renewal(self.local, below, ttl=policy.ttl, clock=cache_context.clock)
        self.beside: Callable[[Record, float], None] | None = None
        self._readings: dict[Hashable, Question[Asked, _Reading[Record]]] = {}
        self._begun: list[tuple[Hashable, Question[Asked, _Reading[Record]]]] = []  # in this turn of the loop
        self._unshared: list[Record] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def read(self, asked: Asked, now: float, deadline: float, trace: Trace | None = None) -> Record | None:
        """The record, or None where there is none or it is corrupt; not later than `deadline` (monotonic seconds).

        It is later only where a crowd of requests makes us late, not PostgreSQL: see `Question.answer`. Raises
        StoreUnavailable where it cannot be read, and is not held from before PostgreSQL went away.
        """
        record = self.lookup(asked, now)
        if record is not None:
            return record
        name = self.local.name(asked)
        if self.local.refuses(name):
            record = self.local.ended(asked, now)
            if record is not None:
                self._observer.cache_read(self._kind, "process", now - record.loaded_at)
            return record
        try:
            record, layer = await self._awaited(name, asked, deadline, trace)
        except StoreUnavailable as error:
            record = self.local.stale(asked, now, error.reason) or await self._ended(asked, now, error.reason, trace)
            if record is None:
                raise
            return record
        self._observer.cache_read(self._kind, layer, None if record is None else now - record.loaded_at)
        self._note_layer(trace, layer or POSTGRESQL)
        self.local.use(name, now)
        return record

    async def fresh(self, asked: Asked, deadline: float, trace: Trace | None = None) -> Record | None:
        """What PostgreSQL says now, whatever is held; times and failures as for `read`."""
        self._note_layer(trace, POSTGRESQL)
        return await self._below.fresh(asked, deadline, trace)

    def offer(self, asked: Asked, record: Record, read_at: float) -> None:
        """Holds and shares a record that was just read from PostgreSQL, where it came with another one."""
        self._observer.cache_read(self._kind, None, self._clock() - record.loaded_at)
        if self.local.admits(record, read_at):
            self.local.keep(asked, record, read_at)
            self._share(record)

    async def shared(self) -> None:
        """Returns when what was read until now is shared with other processes."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def close(self) -> None:
        """Ends the readings under way."""
        await self._below.close()
        await cancel_until_done(self._tasks)
        for question in list(self._readings.values()):
            question.leave()

    def _note_layer(self, trace: Trace | None, layer: str) -> None:
        if trace is not None and self._kind == "api_key":
            trace.cache_layer = layer

    async def _ended(self, asked: Asked, now: float, reason: str, trace: Trace | None) -> Record | None:
        """What Redis has of a record that admits nothing: while PostgreSQL is away, it is refused all the same."""
        if reason in OURS and self._below.up:
            return None
        (record,) = await self._below.shared([asked], ended=True, traces=() if trace is None else (trace,))
        if record is not None:
            self._note_layer(trace, "redis")
            self._observer.cache_read(self._kind, "redis", now - record.loaded_at)
        return record

    async def _awaited(
        self, name: Hashable, asked: Asked, deadline: float, trace: Trace | None
    ) -> tuple[Record | None, Layer | None]:
        """What a reading says that includes every change until now, also those told while it was under way."""
        for _ in range(CHANGED_MEANWHILE):
            epoch = self._fences.epoch
            found = await self._joined(name, asked, deadline, trace)
            if found.epoch >= epoch or (found.record is not None and self.local.admits(found.record, found.read_at)):
                return found.record, found.layer
        raise StoreUnavailable(POSTGRESQL, "changing")

    async def _joined(self, name: Hashable, asked: Asked, deadline: float, trace: Trace | None) -> _Reading[Record]:
        """The result of the one reading of a record, whichever request began it."""
        question = self._readings.get(name)
        if question is None:
            question = self._readings[name] = Question(asked, over=lambda: self._forget(name))
            if not self._begun:
                asyncio.get_running_loop().call_soon(self._begin)
            self._begun.append((name, question))
        if trace is not None:
            question.traces.append(trace)
        return await question.answer(deadline, up=lambda: self._below.up)

    def _forget(self, name: Hashable) -> None:
        del self._readings[name]

    def _begin(self) -> None:
        begun, self._begun = self._begun, []
        for some in portions(begun, AT_ONCE):
            self._spawn(self._look(some))

    async def _look(self, begun: Sequence[tuple[Hashable, Question[Asked, _Reading[Record]]]]) -> None:
        """Asks Redis first, all at once, and PostgreSQL for the rest."""
        epoch = self._fences.epoch
        try:
            traces = [trace for _, question in begun for trace in question.traces]
            shared = await self._below.shared([question.asked for _, question in begun], traces=traces)
            for (name, question), record in zip(begun, shared, strict=True):
                if record is not None and self.local.keep(question.asked, record, -inf):
                    question.tell(_Reading(record, "redis", -inf, epoch))
                else:
                    self._below.ask(question, partial(self._take, name, question))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is for those who wait
            for _, question in begun:
                question.fail(error)

    def _take(self, name: Hashable, question: Question[Asked, _Reading[Record]], answer: Answer[Record]) -> None:
        """Holds what PostgreSQL said, and tells those who wait; they come before other processes."""
        record, read_at, epoch = answer
        if record is not None and not self.local.admits(record, read_at):
            question.attempts += 1
            if question.attempts >= CHANGED_MEANWHILE:
                question.fail(StoreUnavailable(POSTGRESQL, "changing"))
            else:
                self._below.ask(question, partial(self._take, name, question))
            return
        question.tell(_Reading(record, None, read_at, epoch))
        if record is None:
            self.local.held.drop(name)
        else:
            self.local.keep(question.asked, record, read_at)
            self._share(record)  # one that has ended, too: Redis may have an older one
        if record is None or record.ends_at <= self._clock():
            self.local.refuse(name, read_at=read_at, epoch=epoch)
        elif self.beside is not None:
            self.beside(record, read_at)

    def _share(self, record: Record) -> None:
        self._unshared.append(record)
        if len(self._unshared) == 1:
            self._spawn(self._share_all())

    async def _share_all(self) -> None:
        await asyncio.sleep(0)  # what was read goes to those who wait first
        records, self._unshared = self._unshared, []
        await self._below.share(records)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
