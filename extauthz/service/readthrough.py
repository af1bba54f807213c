"""Records through three layers: this process, Redis, PostgreSQL. docs/explanation/cache.md says why that is right.

One reading per record at a time, however many wait for it; who gives up does not take the others with them. What comes
in is believed only if it knows of every change that this process has heard of. Records in use are read anew before they
end, many in one query.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine, Hashable, Sequence
from functools import partial
from math import inf
from time import monotonic
from typing import Any, Generic, NamedTuple

from extauthz.core.errors import StoreUnavailable
from extauthz.core.ports import POSTGRESQL, Cache, Layer
from extauthz.service.guard import OURS, end
from extauthz.service.held import Asked, Dated, Entry, Held, Record, Unknown
from extauthz.service.layers import PATIENCE, Below, Surroundings, Times, few_at_once

READINGS_MAX = 1000
RENEW_FROM, RENEW_TO = 0.5, 0.8  # share of its time after which a record in use is read anew, spread at random
RENEW_EVERY = 1 / 6  # share of its time between two looks for such records
RENEW_EVERY_MAX = 5.0  # seconds
POSTPONED = 2.0  # seconds, while PostgreSQL is away
CHANGED_MEANWHILE = 3  # readings of a record that changes faster than it can be read


class _Reading(NamedTuple, Generic[Record]):
    """What came of one reading. `read_at`: when it was begun in PostgreSQL (monotonic), -inf where Redis had it."""

    record: Record | None
    layer: Layer | None
    read_at: float


class ReadThrough(Generic[Asked, Record]):
    """Reads records of one kind. `name` is what an asked-for thing is held under.

    `beside` is told of each record that PostgreSQL was asked for, and when (monotonic seconds) that was begun.
    """

    def __init__(
        self,
        kind: Cache,
        *,
        below: Below[Asked, Record],
        name: Callable[[Asked], Hashable],
        times: Times,
        surroundings: Surroundings,
    ) -> None:
        self._kind: Cache = kind
        self._below = below
        self._name = name
        self._times = times
        self._fences = surroundings.fences
        self._belief = surroundings.belief
        self._observer = surroundings.observer
        self._clock = surroundings.clock
        self.held: Held[Asked, Record] = Held()
        self.unknown = Unknown()
        self.beside: Callable[[Record, float], Coroutine[Any, Any, None]] | None = None
        self._readings: dict[Hashable, asyncio.Task[_Reading[Record]]] = {}

    def lookup(self, asked: Asked, now: float) -> Record | None:
        """The record where this process holds it and need not ask anybody. `now` in Unix seconds."""
        entry = self.held.get(self._name(asked))
        if entry is None or not self._lasts(entry, now) or not self._believed(entry):
            return None
        if entry.taken_at < self._belief.since:
            return None
        entry.used_at = now
        self._observer.cache_read(self._kind, "process")
        return entry.record

    async def read(self, asked: Asked, now: float, deadline: float) -> Record | None:
        """The record, or None where there is none or it makes no sense; not later than `deadline` (monotonic seconds).

        Raises StoreUnavailable where nobody can say, not even this process from before PostgreSQL went away.
        """
        record = self.lookup(asked, now)
        if record is not None:
            return record
        name = self._name(asked)
        if self.unknown.holds(name, self._fences.epoch):
            return None
        try:
            record, layer = await self._awaited(name, asked, deadline)
        except StoreUnavailable as error:
            stale = self._stale(name, now, error.reason)
            if stale is None:
                raise
            return stale
        self._observer.cache_read(self._kind, layer)
        entry = self.held.get(name)
        if entry is not None:
            entry.used_at = entry.spared_at = now  # its first use is no reason to stay: a flood of others has one too
        return record

    async def offer(self, asked: Asked, record: Record, read_at: float) -> None:
        """Holds and shares a record that was just read from PostgreSQL, where it came with another one."""
        self._observer.cache_read(self._kind, None)
        if self._admits(record, read_at):
            self._keep(asked, record, read_at, self._clock())
            await self._below.share(record)

    def tolerable(self, record: Record, now: float, reason: str) -> bool:
        """Whether a record from elsewhere may stand in for one that could not be read, for that reason."""
        return now < record.loaded_at + self._times.ttl + self._grace(reason) and self._admits(record, -inf)

    async def keep_fresh(self) -> None:
        """Reads records in use anew before they end, until cancelled."""
        while True:
            await asyncio.sleep(min(RENEW_EVERY * self._times.ttl, RENEW_EVERY_MAX))
            await self.renew_due()

    async def renew_due(self) -> None:
        """Reads anew what is in use and soon at its end."""
        due, many = self.held.take_due(self._clock()), self._below.at_once
        for start in range(0, len(due), many):
            await self._renew(due[start : start + many])

    async def close(self) -> None:
        """Ends the readings under way."""
        await end(self._readings.values())
        await self._below.close()

    def _believed(self, entry: Entry[Asked, Record]) -> bool:
        epoch = self._fences.epoch
        if entry.epoch != epoch:
            if not self._admits(entry.record, entry.read_at):
                return False
            entry.epoch = epoch
        return True

    def _admits(self, record: Record, read_at: float) -> bool:
        return self._fences.admits(record.made_of, record.version, read_at)

    def _lasts(self, entry: Entry[Asked, Record], now: float, *, beyond: float = 0.0) -> bool:
        return now < entry.until + beyond and monotonic() < entry.ends + beyond

    def _grace(self, reason: str) -> float:
        """Seconds beyond its time that a record may be served: only while PostgreSQL is away, not where we are busy."""
        return 0.0 if reason in OURS and self._below.up else self._times.stale

    def _stale(self, name: Hashable, now: float, reason: str) -> Record | None:
        """What is held, where nobody could confirm it: to its end, and longer only while PostgreSQL is away."""
        entry = self.held.get(name)
        beyond = self._grace(reason)
        if entry is None or not self._lasts(entry, now, beyond=beyond) or not self._believed(entry):
            return None
        entry.used_at = now
        self._observer.cache_read(self._kind, "process")
        return entry.record

    def _keep(self, asked: Asked, record: Record, read_at: float, now: float) -> bool:
        """Holds a record, unless a younger one is held: who was slow must not put the past back."""
        name = self._name(asked)
        before = self.held.get(name)
        outdone = before is not None and self._lasts(before, now) and _younger(before.record, record)
        if before is not None and outdone and self._believed(before):
            return False
        ttl, taken_at = self._times.ttl, monotonic()
        until = min(record.loaded_at, now) + ttl  # whatever the clock of another machine said
        renew_at = until - ttl * (1 - random.uniform(RENEW_FROM, RENEW_TO))  # noqa: S311 - no secret
        epoch, ends = self._fences.epoch, taken_at + until - now
        self.held.keep(name, Entry(asked, record, read_at, taken_at, epoch, until, ends, renew_at, used_at=0.0))
        return True

    async def _awaited(self, name: Hashable, asked: Asked, deadline: float) -> tuple[Record | None, Layer | None]:
        """What a reading says that knows of every change until now, also of what was heard while it was shared."""
        for _ in range(CHANGED_MEANWHILE):
            found = await self._joined(name, asked, deadline)
            if found.record is None or self._admits(found.record, found.read_at):
                return found.record, found.layer
        raise StoreUnavailable(POSTGRESQL, "busy")

    async def _joined(self, name: Hashable, asked: Asked, deadline: float) -> _Reading[Record]:
        """The result of the one reading of a record, whoever began it."""
        reading = self._readings.get(name)
        if reading is None:
            if len(self._readings) >= READINGS_MAX:
                self._observer.store_failed(POSTGRESQL, "busy")
                raise StoreUnavailable(POSTGRESQL, "busy")
            reading = self._readings[name] = asyncio.create_task(self._reading(asked, name))
            reading.add_done_callback(lambda done: self._over(name, done))
        await asyncio.wait({reading}, timeout=max(0.0, deadline - monotonic()))
        if not reading.done() or reading.cancelled():
            raise StoreUnavailable(POSTGRESQL, "deadline")
        return reading.result()

    def _over(self, name: Hashable, reading: "asyncio.Task[_Reading[Record]]") -> None:
        del self._readings[name]
        if not reading.cancelled():
            reading.exception()  # all who waited may have left; the failure is then nobody's

    async def _reading(self, asked: Asked, name: Hashable) -> _Reading[Record]:
        deadline = monotonic() + PATIENCE
        shared = await self._below.shared(asked, deadline)
        if shared is not None and self._keep(asked, shared, -inf, self._clock()):
            return _Reading(shared, "redis", -inf)
        for _ in range(CHANGED_MEANWHILE):
            read_at, epoch = monotonic(), self._fences.epoch
            answer = await self._below.one(asked)
            if answer is None:
                self.held.drop(name)
                self.unknown.remember(name, read_at=read_at, epoch=epoch)
                return _Reading(None, None, read_at)
            if self._admits(answer, read_at):
                self._keep(asked, answer, read_at, self._clock())
                if self.beside is not None:
                    await self.beside(answer, read_at)
                await self._below.share(answer)
                return _Reading(answer, None, read_at)
        raise StoreUnavailable(POSTGRESQL, "busy")

    async def _renew(self, due: Sequence[tuple[Hashable, Entry[Asked, Record]]]) -> None:
        """Takes from Redis what another process has read anew, reads the rest in one query."""
        rest: list[tuple[Hashable, Entry[Asked, Record]]] = []

        async def take_shared(name: Hashable, entry: Entry[Asked, Record]) -> None:
            record = await self._below.shared(entry.asked)
            newer = record is not None and record.loaded_at > entry.record.loaded_at
            if record is None or not newer or not self._keep(entry.asked, record, -inf, self._clock()):
                rest.append((name, entry))

        await few_at_once([partial(take_shared, name, entry) for name, entry in due])
        if not rest:
            return
        read_at = monotonic()
        try:
            answers = await self._below.source([entry.asked for _, entry in rest])
        except StoreUnavailable:
            for name, _ in rest:
                self.held.postpone(name, self._clock() + POSTPONED)
            return
        news: list[Record] = []
        for (name, entry), answer in zip(rest, answers, strict=True):
            if answer is None:
                self.held.drop(name)
            elif self._admits(answer, read_at):
                self._keep(entry.asked, answer, read_at, self._clock())
                news.append(answer)
        await few_at_once([partial(self._below.share, record) for record in news])


def _younger(one: Dated, other: Dated) -> bool:
    """Whether `one` was read later: where the numbers are the same, the clocks have to say."""
    return (one.version, one.loaded_at) > (other.version, other.loaded_at)
