"""The local cache of one kind of record: what this process holds and refuses, and until when."""

import random
from collections.abc import Callable, Hashable
from math import inf
from time import monotonic
from typing import Generic

from extauthz.core.ports import Cache
from extauthz.service.directory.entry import Asked, Dated, Entry, Record
from extauthz.service.directory.negative_cache import NegativeCache
from extauthz.service.directory.packed_rows import Packed, Rows
from extauthz.service.directory.record_table import RecordTable
from extauthz.service.directory.tiers import CacheContext, CachePolicy
from extauthz.service.store_breaker import OURS

RENEW_FROM, RENEW_TO = 0.5, 0.8  # share of its time after which a record in use is renewed, spread at random


class LocalCache(Generic[Asked, Record]):
    """Records in this process."""

    def __init__(
        self,
        kind: Cache,
        *,
        rows: Rows[Asked, Record],
        policy: CachePolicy,
        cache_context: CacheContext,
        refused: NegativeCache | None = None,
        evicted: Callable[[Entry[Asked, Record]], None] = lambda _: None,
    ) -> None:
        """`evicted` is called with each entry that is in use no longer."""
        packed = Packed(rows, places=policy.packed)
        self.held: RecordTable[Asked, Record] = RecordTable(packed, at_most=policy.in_use, evicted=evicted)
        self.refused = NegativeCache() if refused is None else refused
        self.ttl = policy.ttl
        self.name = rows.name  # under which a record is held
        self._kind: Cache = kind
        self._policy = policy
        self._invalidations = cache_context.invalidations
        self._freshness = cache_context.freshness
        self._postgresql = cache_context.postgresql
        self._observer = cache_context.observer
        self._clock = cache_context.clock

    def lookup(self, asked: Asked, now: float) -> Record | None:
        """Return the record where it may be used without asking further. `now` in Unix seconds."""
        entry = self.find(asked, now)
        if entry is None:
            return None
        entry.used_at = now
        self._observer.cache_read(self._kind, "process", now - entry.record.loaded_at)
        return entry.record

    def find(self, asked: Asked, now: float) -> Entry[Asked, Record] | None:
        """Return the entry of a record that may be used without asking further. `now` in Unix seconds."""
        entry = self.held.find(self.name(asked), asked)
        return entry if entry is not None and self._answers(entry, now) else None

    def settled(self, asked: Asked) -> Record | None:
        """Return the record that may be used without asking further, and is not to be renewed yet."""
        now = self._clock()
        entry = self.find(asked, now)
        return None if entry is None or now >= entry.renew_at else entry.record

    def refuses(self, name: Hashable) -> bool:
        """Whether PostgreSQL had no record of it a moment ago, or one that has ended: both are refused alike."""
        return self.refused.holds(name, self._invalidations.epoch)

    def refuse(self, name: Hashable, *, read_at: float, epoch: int) -> None:
        """Refuse a name for a moment; the read began at `read_at` (monotonic), in that epoch of changes."""
        self.refused.add(name, read_at=read_at, epoch=epoch)

    def ended(self, asked: Asked, now: float) -> Record | None:
        """Return the record of what is refused, if it has one."""
        entry = self.held.find(self.name(asked), asked)
        return None if entry is None or now < entry.good_until else entry.record

    def stale(self, asked: Asked, now: float, reason: str) -> Record | None:
        """Return what is held, where it could not be confirmed: beyond its time only while PostgreSQL is away."""
        entry = self.held.find(self.name(asked), asked)
        beyond = self._grace(reason)
        if entry is None or not _lasts(entry, now, beyond=beyond) or not self.is_current(entry):
            return None
        entry.used_at = now
        self._observer.cache_read(self._kind, "process", now - entry.record.loaded_at)
        return entry.record

    def tolerable(self, record: Record, now: float, reason: str) -> bool:
        """Whether a record from elsewhere may stand in for one that could not be read, for that reason."""
        return now < record.loaded_at + self._policy.ttl + self._grace(reason) and self.admits(record, -inf)

    def admits(self, record: Record, read_at: float) -> bool:
        """Whether a record includes every change that this process has received."""
        return self._invalidations.admits(record.made_of, record.version, read_at)

    def use(self, name: Hashable, now: float) -> None:
        """Note the first use of a record, which does not spare it from eviction: each of a flood of others has one."""
        entry = self.held.get(name)
        if entry is not None and now < entry.good_until:
            entry.used_at = entry.spared_at = now

    def keep(self, asked: Asked, record: Record, read_at: float) -> bool:
        """Hold a record, unless a younger one is held: a slow reading must not bring an older state back."""
        name, now = self.name(asked), self._clock()
        before = self.held.find(name, asked)
        outdone = before is not None and _lasts(before, now) and _younger(before.record, record)
        if before is not None and outdone and self.is_current(before):
            return False
        ttl, taken_at = self._policy.ttl, monotonic()
        until = min(record.loaded_at, now) + ttl  # whatever the clock of another machine said
        renew_at = until - ttl * (1 - random.uniform(RENEW_FROM, RENEW_TO))  # noqa: S311 - no secret
        entry = Entry(
            asked,
            record,
            read_at,
            taken_at,
            self._invalidations.epoch,
            until=until,
            good_until=min(until, record.ends_at),
            ends=taken_at + until - now,
            renew_at=renew_at,
            used_at=0.0,
        )
        self.held.keep(name, entry)
        return True

    def copy_from(self, other: "LocalCache[Asked, Record]", asked: Asked) -> None:
        """Hold and refuse what another cache does for `asked`; the other cache stays as it is."""
        name = self.name(asked)
        entry = other.held.copy(name, asked)
        if entry is not None:
            self.held.keep(name, entry)
        self.refused.copy_from(other.refused, name)

    def is_current(self, entry: Entry[Asked, Record]) -> bool:
        """Whether an entry includes every change that this process has received."""
        epoch = self._invalidations.epoch
        if entry.epoch != epoch:
            if not self.admits(entry.record, entry.read_at):
                return False
            entry.epoch = epoch
        return True

    def _answers(self, entry: Entry[Asked, Record], now: float) -> bool:
        if now >= entry.good_until or monotonic() >= entry.ends or not self.is_current(entry):
            return False
        return entry.taken_at >= self._freshness.since

    def _grace(self, reason: str) -> float:
        """Return the seconds beyond its time that a record may be served: none where this process is what is late."""
        return 0.0 if reason in OURS and self._postgresql.up else self._policy.stale


def _lasts(entry: Entry[Asked, Record], now: float, *, beyond: float = 0.0) -> bool:
    return now < entry.until + beyond and monotonic() < entry.ends + beyond


def _younger(one: Dated, other: Dated) -> bool:
    """Whether `one` was read later, by the clocks where the versions are the same."""
    return (one.version, one.loaded_at) > (other.version, other.loaded_at)
