"""Reads records through three tiers: this process, Redis, PostgreSQL. docs/explanation/cache.md explains the design.

One reading of a record is under way at a time, however many requests wait for it; a request that gives up does not end
it for the others. Records that are wanted at one moment are read together: a crowd of unknown keys costs a few queries.
A record that comes in is used only if it includes every change that this process has received.
"""

from collections.abc import Callable, Hashable, Sequence
from functools import partial
from math import inf
from typing import Generic, NamedTuple, TypeAlias

from extauthz.aio.batcher import Batcher
from extauthz.aio.single_flight import SingleFlight
from extauthz.core.errors import StoreUnavailable
from extauthz.core.ports import POSTGRESQL, Cache, Layer
from extauthz.core.trace import Trace
from extauthz.service.directory.entry import Asked, Record
from extauthz.service.directory.local_cache import LocalCache
from extauthz.service.directory.renewal import Renewal
from extauthz.service.directory.store_query import StoreQuery
from extauthz.service.directory.tiers import SHARED_BATCH_MAX, Answer, BackingStores, CacheContext
from extauthz.service.store_breaker import OURS

READ_ATTEMPTS_MAX = 3  # readings of a record that changes faster than it can be read


class _Reading(NamedTuple, Generic[Record]):
    """The result of one reading. `read_at`: when it began in PostgreSQL (monotonic), -inf where Redis had the record.

    `epoch` is that of changes at that time.
    """

    record: Record | None
    layer: Layer | None
    read_at: float
    epoch: int


_Asking: TypeAlias = StoreQuery[Asked, _Reading[Record]]
_Named: TypeAlias = tuple[Hashable, _Asking[Asked, Record]]


class ReadThrough(Generic[Asked, Record]):
    """Reads records of one kind."""

    def __init__(
        self,
        kind: Cache,
        *,
        local: LocalCache[Asked, Record],
        backing: BackingStores[Asked, Record],
        cache_context: CacheContext,
        read: Callable[[Record, float], None] = lambda _record, _read_at: None,
    ) -> None:
        """`read` is called with each valid record of PostgreSQL, and when its reading began (monotonic seconds)."""
        self._kind: Cache = kind
        self._backing = backing
        self._invalidations = cache_context.invalidations
        self._observer = cache_context.observer
        self._clock = cache_context.clock
        self._read = read
        self.local = local
        self.lookup = local.lookup
        self.renewal: Renewal[Asked, Record] = Renewal(local, backing, ttl=local.ttl, clock=cache_context.clock)
        self._readings: SingleFlight[Hashable, _Asking[Asked, Record]] = SingleFlight()
        self._begun: Batcher[_Named[Asked, Record]] = Batcher(self._begin, batch_max=lambda: SHARED_BATCH_MAX)
        self._unshared: Batcher[Record] = Batcher(backing.share, batch_max=lambda: SHARED_BATCH_MAX)

    async def read(self, asked: Asked, now: float, deadline: float, trace: Trace | None = None) -> Record | None:
        """Return the record, None where there is none or it is corrupt, not later than `deadline` (monotonic seconds).

        It is later only where a crowd of requests makes this process late, not PostgreSQL: see `StoreQuery.answer`.
        Raises StoreUnavailable where the record cannot be read, and is not held from before PostgreSQL went away.
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
        """Return what PostgreSQL has now, whatever is held; times and failures as for `read`."""
        self._note_layer(trace, POSTGRESQL)
        return await self._backing.fresh(asked, deadline, trace)

    def offer(self, asked: Asked, record: Record, read_at: float) -> None:
        """Hold and share a record that was just read from PostgreSQL together with another one."""
        self._observer.cache_read(self._kind, None, self._clock() - record.loaded_at)
        if self.local.admits(record, read_at):
            self.local.keep(asked, record, read_at)
            self._unshared.add(record)

    async def shared(self) -> None:
        """Return when what was read until now is shared with other processes."""
        await self._begun.idle()
        await self._unshared.idle()

    async def close(self) -> None:
        """End the readings under way."""
        await self._backing.close()
        await self._begun.close()
        await self._unshared.close()
        for query in self._readings.under_way:
            query.leave()

    def _note_layer(self, trace: Trace | None, layer: str) -> None:
        if trace is not None and self._kind == "api_key":
            trace.cache_layer = layer

    async def _ended(self, asked: Asked, now: float, reason: str, trace: Trace | None) -> Record | None:
        """Return what Redis has of a record that admits nothing, which is refused while PostgreSQL is away, too."""
        if reason in OURS and self._backing.up:
            return None
        (record,) = await self._backing.shared([asked], ended=True, traces=() if trace is None else (trace,))
        if record is not None:
            self._note_layer(trace, "redis")
            self._observer.cache_read(self._kind, "redis", now - record.loaded_at)
        return record

    async def _awaited(
        self, name: Hashable, asked: Asked, deadline: float, trace: Trace | None
    ) -> tuple[Record | None, Layer | None]:
        """Return the result of a reading that includes every change until now, those received meanwhile as well."""
        for _ in range(READ_ATTEMPTS_MAX):
            epoch = self._invalidations.epoch
            found = await self._joined(name, asked, deadline, trace)
            if found.epoch >= epoch or (found.record is not None and self.local.admits(found.record, found.read_at)):
                return found.record, found.layer
        raise StoreUnavailable(POSTGRESQL, "changing")

    async def _joined(self, name: Hashable, asked: Asked, deadline: float, trace: Trace | None) -> _Reading[Record]:
        """Return the result of the one reading of a record, whichever request began it."""
        query = self._readings.join(name, partial(self._ask, name, asked))
        if trace is not None:
            query.traces.append(trace)
        return await query.answer(deadline, up=lambda: self._backing.up)

    def _ask(self, name: Hashable, asked: Asked) -> _Asking[Asked, Record]:
        query: _Asking[Asked, Record] = StoreQuery(asked)
        self._begun.add((name, query))
        return query

    async def _begin(self, begun: Sequence[_Named[Asked, Record]]) -> None:
        """Ask Redis first, for all at once, and PostgreSQL for the rest."""
        epoch = self._invalidations.epoch
        try:
            traces = [trace for _, query in begun for trace in query.traces]
            shared = await self._backing.shared([query.asked for _, query in begun], traces=traces)
            for (name, query), record in zip(begun, shared, strict=True):
                if record is not None and self.local.keep(query.asked, record, -inf):
                    query.tell(_Reading(record, "redis", -inf, epoch))
                else:
                    self._backing.ask(query, partial(self._take, name, query))
        except Exception as error:  # noqa: BLE001 - any failure is given to the requests that wait
            for _, query in begun:
                query.fail(error)

    def _take(self, name: Hashable, query: _Asking[Asked, Record], answer: Answer[Record]) -> None:
        """Hold what PostgreSQL has, and give it to the requests that wait; other processes come after them."""
        record, read_at, epoch = answer
        if record is not None and not self.local.admits(record, read_at):
            query.attempts += 1
            if query.attempts >= READ_ATTEMPTS_MAX:
                query.fail(StoreUnavailable(POSTGRESQL, "changing"))
            else:
                self._backing.ask(query, partial(self._take, name, query))
            return
        query.tell(_Reading(record, None, read_at, epoch))
        if record is None:
            self.local.held.drop(name)
        else:
            self.local.keep(query.asked, record, read_at)
            self._unshared.add(record)  # one that has ended as well: Redis may have an older one
        if record is None or record.ends_at <= self._clock():
            self.local.refuse(name, read_at=read_at, epoch=epoch)
        else:
            self._read(record, read_at)
