"""What was charged, as it is read to be saved: marks name the keys, the tenants' hashes have the counts.

`scripts/layout.lua` says what a hash holds. Nothing here holds Redis for long: a tenant's keys are read some at a time.
"""

import asyncio
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from typing import TypeVar

from redis.exceptions import ResponseError

from extauthz.backends.redis import keyspace, scripts
from extauthz.backends.redis.connection import RedisConnection
from extauthz.backends.redis.errors import translated, unavailable
from extauthz.backends.redis.layout import by_name, is_packed, one, three
from extauthz.backends.redis.wire import Wire
from extauthz.core.errors import StoreUnavailable
from extauthz.core.ports import Mark
from extauthz.core.usage import CREDITS_FIELD, ORGANIZATION, Counted, CreditsUsed, OldCounters, UsageBatch

MARGIN = 10.0  # seconds that a mark is kept: its worker may charge once more without another
MAX_CONCURRENT_READS = 50  # under way in one moment
FIELDS_PER_CALL_MAX = 400  # that one call reads or drops
KEPT = 2  # days and months of a tenant that stay in Redis: a request at midnight may belong to either
# What may still be counted stays, too, although a clock that was ahead has left later days behind: a day that is today
# in no time zone is over, and so is a month that began so long ago.
DAY_OVER, MONTH_OVER = timedelta(days=1), timedelta(days=62)

_DUE, _UNSAVED = scripts.Script(scripts.read("due")), scripts.Script(scripts.read("layout", "named", "unsaved"))
_SAVED, _DROP = scripts.Script(scripts.read("saved")), scripts.Script(scripts.read("layout", "named", "drop"))
_READY, _WAITING = 2, 1
_BETWEEN = "\n"  # tenant and key of a mark: neither can hold it; ORGANIZATION as the key stands for all keys
_OF_CREDITS = CREDITS_FIELD + ":"
_COUNTER = re.compile(r"([dm]):([0-9]{8})(?::(.+))?", re.ASCII)

T = TypeVar("T")


class RedisUsage:
    """`usage_due` and `tenant_limits:{<tenant>}`, by the clock of Redis. Every method raises StoreUnavailable."""

    def __init__(self, redis_connection: RedisConnection, *, today: date | None = None) -> None:
        """`today` None: the date of Redis's clock, in UTC."""
        self._connection = redis_connection
        self._today = today

    async def mark(self, pairs: Sequence[tuple[str, str]]) -> None:
        """These (tenant, key) are about to be charged: their counters are to be saved; ORGANIZATION: all of them."""
        with translated():
            await _DUE.run(self._connection, keyspace.usage_due(), *map(_BETWEEN.join, pairs))

    def begun(self, wire: Wire, pairs: Sequence[Mark], failed: Callable[[StoreUnavailable], None]) -> scripts.Begun:
        """The same as a command that is yet to be sent; `failed` is told where the marks were not set."""

        def answered(answer: object) -> None:
            if isinstance(answer, Exception):
                failed(unavailable(answer))

        return _DUE.begun(wire, [keyspace.usage_due()], [_BETWEEN.join(pair) for pair in pairs], answered=answered)

    async def read(self, at_most: int, position: int = 0) -> UsageBatch:
        """So many marks behind the first `position`, oldest first, with all that was counted of them.

        A tenant that was charged without what was before is left for later, and keeps its marks. A server that takes no
        writes is not read: it may be a master of the past, with what was counted then.
        """
        await self._connection.probe()
        with translated():
            seconds, microseconds = await self._connection.execute_command("TIME")
            read_at = int(seconds) + int(microseconds) / 1e6
            marks = await self._marks(at_most, position)
            today = self._today or datetime.fromtimestamp(read_at, UTC).date()
            reading = _Reading(self._connection, today)
            await reading.read(marks)
        return UsageBatch(
            marks=marks,
            read_at=read_at,
            counted=reading.counted,
            credits_used=reading.credits_used,
            incomplete=reading.incomplete,
            old=reading.old,
            position=position,
            last=len(marks) < at_most,
        )

    async def acknowledge(self, batch: UsageBatch) -> int:
        """Removes marks of a saved batch that were not set again, and its old counters; see UsageSource."""
        over = [
            (tenant_id + _BETWEEN + key_id, repr(score))
            for tenant_id, key_id, score in batch.marks
            if score < batch.read_at - MARGIN and tenant_id not in batch.incomplete
        ]
        gone = 0
        with translated():
            for part in _parts(over, FIELDS_PER_CALL_MAX):
                texts = (text for pair in part for text in pair)
                gone += await _SAVED.run(self._connection, keyspace.usage_due(), *texts)
            for tenants in _parts(list(batch.old.items()), MAX_CONCURRENT_READS):
                await asyncio.gather(*(self._drop_old(tenant_id, old) for tenant_id, old in tenants))
        return max(batch.position + len(batch.marks) - gone, 0)

    async def _marks(self, at_most: int, first: int) -> list[tuple[str, str, float]]:
        try:
            found = await self._connection.execute_command(
                "ZRANGE", keyspace.usage_due(), first, first + at_most - 1, "WITHSCORES"
            )
        except ResponseError as error:  # no sorted set; the next mark makes one
            if "WRONGTYPE" not in str(error):
                raise
            found = []
        return [
            (tenant_id, key_id, float(score))
            for member, score in zip(found[::2], found[1::2], strict=True)
            for tenant_id, _, key_id in [member.decode("ascii", "replace").partition(_BETWEEN)]
        ]

    async def _drop_old(self, tenant_id: str, old: OldCounters) -> None:
        for day, counters in old.days.items():
            own = {name: counters[name] for name in (f"d:{day}",) if name in counters}
            of_keys = {name: value for name, value in counters.items() if name not in own}
            if await self._drop(tenant_id, of_keys):
                await self._drop(tenant_id, own, day=day)  # last: while it is there, the day is looked at again
        if old.months:
            await self._drop(tenant_id, old.months)

    async def _drop(self, tenant_id: str, counters: Mapping[str, str], *, day: str = "") -> bool:
        """Whether all of these counters are dropped: none has changed. `day` is then done with."""
        gone = 0
        for part in list(_parts(list(counters.items()), FIELDS_PER_CALL_MAX)) or [()]:
            texts = (text for pair in part for text in pair)
            gone += await _DROP.run(self._connection, keyspace.tenant_limits(tenant_id), day, *texts)
        return gone == len(counters)


class _Reading:
    """One reading of marked keys: what was `counted`, which tenants are `incomplete`, which counters are `old`."""

    def __init__(self, connection: RedisConnection, today: date) -> None:
        self.counted: list[Counted] = []
        self.credits_used: list[CreditsUsed] = []
        self.incomplete: dict[str, list[date]] = {}
        self.old: dict[str, OldCounters] = {}
        self._connection = connection
        self._day_over, self._month_over = f"{today - DAY_OVER:%Y%m%d}", f"{today - MONTH_OVER:%Y%m%d}"

    async def read(self, marks: Sequence[tuple[str, str, float]]) -> None:
        """Reads the counters of marked keys, and of all keys on days long past."""
        by_tenant: dict[str, list[str]] = {}
        for tenant_id, key_id, _ in marks:
            by_tenant.setdefault(tenant_id, []).append(key_id)
        whole = {tenant_id for tenant_id, keys in by_tenant.items() if ORGANIZATION in keys}
        calls = [
            (tenant_id, part)
            for tenant_id, keys in by_tenant.items()
            for part in ([()] if tenant_id in whole else _parts(keys, FIELDS_PER_CALL_MAX))
        ]
        to_scan: dict[str, list[str]] = {}
        for part in _parts(calls, MAX_CONCURRENT_READS):
            for (tenant_id, _), (days, rows) in zip(
                part, await asyncio.gather(*(self._read(*call) for call in part)), strict=True
            ):
                self.counted += rows
                if days[:-KEPT] or tenant_id in whole:
                    to_scan[tenant_id] = days if tenant_id in whole else days[:-KEPT]
                    self.old[tenant_id] = OldCounters({day: {} for day in days[:-KEPT] if day < self._day_over})
        for tenants in _parts(list(to_scan.items()), MAX_CONCURRENT_READS):
            for rows in await asyncio.gather(*(self._scan(*each) for each in tenants)):
                self.counted += rows

    async def _read(self, tenant_id: str, keys: Sequence[str]) -> tuple[list[str], list[Counted]]:
        """The days that a tenant's hash has, and what its keys were charged on the newest of them."""
        state, text, *rest = await _UNSAVED.run(self._connection, keyspace.tenant_limits(tenant_id), *keys)
        days = text.decode().split()
        if state == _WAITING:
            self.incomplete[tenant_id] = [day for day in map(_date, days) if day is not None]
        if state != _READY:
            return [], []
        values = rest[1 + len(keys) :]
        for key_id, used in zip((ORGANIZATION, *keys), rest, strict=False):
            self._note_credits(tenant_id, key_id, used)
        cells = [(day, key_id) for day in days[-KEPT:] for key_id in keys]
        rows = (
            _row(tenant_id, key_id, day, value.decode("ascii", "replace"))
            for (day, key_id), value in zip(cells, values, strict=True)
            if value is not None
        )
        return days, [row for row in rows if row is not None]

    def _note_credits(self, tenant_id: str, key_id: str, value: bytes | None) -> None:
        if value is not None and (used := one(value.decode("ascii", "replace"))):
            self.credits_used.append(CreditsUsed(tenant_id, key_id, used))

    async def _scan(self, tenant_id: str, wanted: Sequence[str]) -> list[Counted]:
        """What all keys were charged on some days. What is found of old days is dropped once it is saved."""
        old = self.old[tenant_id]
        months: dict[str, dict[str, str]] = {}
        rows = []
        used: dict[str, str] = {}
        for name, value in (await self._all(tenant_id)).items():
            if name.startswith(_OF_CREDITS):
                used[name.removeprefix(_OF_CREDITS)] = value
            match = _COUNTER.fullmatch(name)
            if match is None:
                continue
            kind, begin, key_id = match.groups()
            if kind == "m":
                months.setdefault(begin, {})[name] = value
                continue
            if begin in old.days:
                old.days[begin][name] = value
            if begin in wanted and key_id:
                rows.append(_row(tenant_id, key_id, begin, value))
        for begin in [begin for begin in sorted(months)[:-KEPT] if begin < self._month_over]:
            old.months.update(months[begin])
        await self._read(tenant_id, ())  # counters that were restored in between may not be saved, and say so here
        if tenant_id in self.incomplete:
            del self.old[tenant_id]
            return []
        for key_id, count in used.items():
            self._note_credits(tenant_id, key_id, count.encode())
        return [row for row in rows if row is not None]

    async def _all(self, tenant_id: str) -> Mapping[str, str]:
        """Every counter of a tenant's hash by its name, as far as it is text as we write it."""
        found: dict[str, bytes] = {}
        cursor = b"0"
        while True:
            cursor, part = await self._connection.execute_command(
                "HSCAN", keyspace.tenant_limits(tenant_id), cursor, "COUNT", FIELDS_PER_CALL_MAX
            )
            pairs = zip(part[::2], part[1::2], strict=True)
            for name, value in pairs:
                if name.isascii() and (value.isascii() or is_packed(name.decode())):
                    found[name.decode()] = value
            if cursor == b"0":
                return by_name(found)


def _row(tenant_id: str, key_id: str, day: str, value: str) -> Counted | None:
    """A row of usage; None for malformed text, which counts as never written."""
    charged = three(value)
    if charged is None:
        return None
    cost, allowed, revision = charged
    on = _date(day)
    return None if on is None else Counted(tenant_id, key_id, on, allowed, cost, revision)


def _date(day: str) -> date | None:
    with suppress(ValueError):
        return date.fromisoformat(day)
    return None


def _parts(things: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(things), size):
        yield things[start : start + size]
