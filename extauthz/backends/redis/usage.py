"""What was charged, from Redis to whoever writes it down: marks say whom to look at, the tenants' hashes how much.

`scripts/layout.lua` says what a hash holds. Nothing here holds Redis for long: a tenant's keys are read some at a time.
"""

import asyncio
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import TypeVar

from redis.exceptions import ResponseError

from extauthz.backends.redis import keyspace, scripts
from extauthz.backends.redis.connection import RedisConnection
from extauthz.backends.redis.errors import translated, unavailable
from extauthz.backends.redis.layout import by_name, is_packed, three
from extauthz.backends.redis.wire import Wire
from extauthz.core.errors import StoreUnavailable
from extauthz.core.ports import Mark
from extauthz.core.usage import ORGANIZATION, Counted, Due

MARGIN = 10.0  # seconds that a mark is kept: whoever has set it may charge once more without another
CALLS_AT_ONCE = 50  # under way in one moment
FIELDS_AT_ONCE = 400  # that one call reads or drops
KEPT = 2  # days and months of a tenant that stay in Redis: a request at midnight may belong to either
# What may still be counted stays, too, although a clock that was ahead has left later days behind: a day that is today
# in no time zone is over, and so is a month that began so long ago.
DAY_OVER, MONTH_OVER = timedelta(days=1), timedelta(days=62)

_DUE, _UNSAVED = scripts.Script(scripts.read("due")), scripts.Script(scripts.read("layout", "named", "unsaved"))
_SAVED, _DROP = scripts.Script(scripts.read("saved")), scripts.Script(scripts.read("layout", "named", "drop"))
_READY, _WAITING = 2, 1
_BETWEEN = "\n"  # tenant and key of a mark: neither can hold it; ORGANIZATION as the key stands for all keys
_COUNTER = re.compile(r"([dm]):([0-9]{8})(?::(.+))?", re.ASCII)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Past:
    """Counters of a tenant that go once they are saved, as they were read: of each old day, and of old months."""

    days: dict[str, dict[str, str]] = field(default_factory=dict)
    months: dict[str, str] = field(default_factory=dict)


class RedisUsage:
    """`usage_due` and `tenant_limits:{<tenant>}`, by the clock of Redis. Every method raises StoreUnavailable.

    One call of `unsaved` goes on where the one before ended, so that marks which stay do not hide the others; fewer
    than were asked for are the last. `saved` is for what the last `unsaved` returned.
    """

    def __init__(self, redis_connection: RedisConnection, *, today: date | None = None) -> None:
        """`today` None: the date of Redis's clock, in UTC."""
        self._link = redis_connection
        self._today = today
        self._passed = 0  # marks before the next ones to be read
        self._waiting: dict[str, list[date]] = {}
        self._past: dict[str, _Past] = {}

    async def mark(self, pairs: Sequence[tuple[str, str]]) -> None:
        """These (tenant, key) are about to be charged: their counters are to be saved; ORGANIZATION: all of them."""
        with translated():
            await _DUE.run(self._link, keyspace.usage_due(), *map(_BETWEEN.join, pairs))

    def begun(self, wire: Wire, pairs: Sequence[Mark], failed: Callable[[StoreUnavailable], None]) -> scripts.Begun:
        """The same as a command that is yet to be sent; `failed` is told where the marks were not set."""

        def answered(answer: object) -> None:
            if isinstance(answer, Exception):
                failed(unavailable(answer))

        return _DUE.begun(wire, [keyspace.usage_due()], [_BETWEEN.join(pair) for pair in pairs], answered=answered)

    async def unsaved(self, at_most: int) -> Due:
        """What is marked, the oldest first, with all that was counted of it.

        A tenant that was charged while nobody knew what was before is left for later, and keeps its marks. A server
        that takes no writes is not read: it may be a master of the past, with what was counted then.
        """
        await self._link.probe()
        with translated():
            seconds, microseconds = await self._link.execute_command("TIME")
            read_at = int(seconds) + int(microseconds) / 1e6
            marks = await self._marks(at_most)
            counted = await self._counted(marks, self._today or datetime.fromtimestamp(read_at, UTC).date())
        return Due(marks, read_at, counted)

    def provisional(self) -> Mapping[str, Sequence[date]]:
        """Tenants that the last `unsaved` left for later, with the days on which they were charged."""
        return self._waiting

    async def saved(self, due: Due) -> None:
        """It is written down: marks go that nobody has set anew, and what was counted of days long past."""
        over = [
            (tenant_id + _BETWEEN + key_id, repr(score))
            for tenant_id, key_id, score in due.marks
            if score < due.read_at - MARGIN and tenant_id not in self._waiting
        ]
        past, self._past = self._past, {}
        with translated():
            for part in _parts(over, FIELDS_AT_ONCE):
                gone = await _SAVED.run(self._link, keyspace.usage_due(), *(text for pair in part for text in pair))
                self._passed = max(self._passed - gone, 0)
            for tenants in _parts(list(past.items()), CALLS_AT_ONCE):
                await asyncio.gather(*(self._dropped(tenant_id, counters) for tenant_id, counters in tenants))

    async def _marks(self, at_most: int) -> list[tuple[str, str, float]]:
        first = self._passed
        try:
            found = await self._link.execute_command(
                "ZRANGE", keyspace.usage_due(), first, first + at_most - 1, "WITHSCORES"
            )
        except ResponseError as error:  # no sorted set; the next mark makes one
            if "WRONGTYPE" not in str(error):
                raise
            found = []
        marks = [
            (tenant_id, key_id, float(score))
            for member, score in zip(found[::2], found[1::2], strict=True)
            for tenant_id, _, key_id in [member.decode("ascii", "replace").partition(_BETWEEN)]
        ]
        self._passed = first + at_most if len(marks) == at_most else 0
        return marks

    async def _counted(self, marks: Sequence[tuple[str, str, float]], today: date) -> list[Counted]:
        """The counters of marked keys, and of all keys on days long past."""
        day_over, month_over = f"{today - DAY_OVER:%Y%m%d}", f"{today - MONTH_OVER:%Y%m%d}"
        self._waiting, self._past = {}, {}
        by_tenant: dict[str, list[str]] = {}
        for tenant_id, key_id, _ in marks:
            by_tenant.setdefault(tenant_id, []).append(key_id)
        whole = {tenant_id for tenant_id, keys in by_tenant.items() if ORGANIZATION in keys}
        calls = [
            (tenant_id, part)
            for tenant_id, keys in by_tenant.items()
            for part in ([()] if tenant_id in whole else _parts(keys, FIELDS_AT_ONCE))
        ]
        counted: list[Counted] = []
        to_scan: dict[str, list[str]] = {}
        for part in _parts(calls, CALLS_AT_ONCE):
            for (tenant_id, _), (days, rows) in zip(
                part, await asyncio.gather(*(self._read(*call) for call in part)), strict=True
            ):
                counted += rows
                if days[:-KEPT] or tenant_id in whole:
                    to_scan[tenant_id] = days if tenant_id in whole else days[:-KEPT]
                    self._past[tenant_id] = _Past({day: {} for day in days[:-KEPT] if day < day_over})
        for tenants in _parts(list(to_scan.items()), CALLS_AT_ONCE):
            for rows in await asyncio.gather(*(self._scan(*each, month_over) for each in tenants)):
                counted += rows
        return counted

    async def _read(self, tenant_id: str, keys: Sequence[str]) -> tuple[list[str], list[Counted]]:
        """The days that a tenant's hash has, and what its keys were charged on the newest of them."""
        state, text, *values = await _UNSAVED.run(self._link, keyspace.tenant_limits(tenant_id), *keys)
        days = text.decode().split()
        if state == _WAITING:
            self._waiting[tenant_id] = [day for day in map(_date, days) if day is not None]
        if state != _READY:
            return [], []
        cells = [(day, key_id) for day in days[-KEPT:] for key_id in keys]
        rows = (
            _row(tenant_id, key_id, day, value.decode("ascii", "replace"))
            for (day, key_id), value in zip(cells, values, strict=True)
            if value is not None
        )
        return days, [row for row in rows if row is not None]

    async def _scan(self, tenant_id: str, wanted: Sequence[str], month_over: str) -> list[Counted]:
        """What all keys were charged on some days. What is found of old days is dropped once it is saved."""
        past = self._past[tenant_id]
        months: dict[str, dict[str, str]] = {}
        rows = []
        for name, value in (await self._all(tenant_id)).items():
            match = _COUNTER.fullmatch(name)
            if match is None:
                continue
            kind, begin, key_id = match.groups()
            if kind == "m":
                months.setdefault(begin, {})[name] = value
                continue
            if begin in past.days:
                past.days[begin][name] = value
            if begin in wanted and key_id:
                rows.append(_row(tenant_id, key_id, begin, value))
        for begin in [begin for begin in sorted(months)[:-KEPT] if begin < month_over]:
            past.months.update(months[begin])
        await self._read(tenant_id, ())  # what was begun anew in between may not be saved, and says so here
        if tenant_id in self._waiting:
            del self._past[tenant_id]
            return []
        return [row for row in rows if row is not None]

    async def _all(self, tenant_id: str) -> Mapping[str, str]:
        """Every counter of a tenant's hash by its name, as far as it is text as we write it."""
        found: dict[str, bytes] = {}
        cursor = b"0"
        while True:
            cursor, part = await self._link.execute_command(
                "HSCAN", keyspace.tenant_limits(tenant_id), cursor, "COUNT", FIELDS_AT_ONCE
            )
            pairs = zip(part[::2], part[1::2], strict=True)
            for name, value in pairs:
                if name.isascii() and (value.isascii() or is_packed(name.decode())):
                    found[name.decode()] = value
            if cursor == b"0":
                return by_name(found)

    async def _dropped(self, tenant_id: str, past: _Past) -> None:
        for day, counters in past.days.items():
            own = {name: counters[name] for name in (f"d:{day}",) if name in counters}
            of_keys = {name: value for name, value in counters.items() if name not in own}
            if await self._drop(tenant_id, of_keys):
                await self._drop(tenant_id, own, day=day)  # last: while it is there, the day is looked at again
        if past.months:
            await self._drop(tenant_id, past.months)

    async def _drop(self, tenant_id: str, counters: Mapping[str, str], *, day: str = "") -> bool:
        """Whether all of these counters are dropped: none has changed. `day` is then done with."""
        gone = 0
        for part in list(_parts(list(counters.items()), FIELDS_AT_ONCE)) or [()]:
            texts = (text for pair in part for text in pair)
            gone += await _DROP.run(self._link, keyspace.tenant_limits(tenant_id), day, *texts)
        return gone == len(counters)


def _row(tenant_id: str, key_id: str, day: str, value: str) -> Counted | None:
    """A row of usage; None for what makes no sense, which counts as never written."""
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
