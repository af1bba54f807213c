"""Buckets and counters in Redis: many checks in one script, one round trip, never sent a second time."""

import asyncio
import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from extauthz.backends.redis import keyspace, scripts
from extauthz.backends.redis.errors import refusal, translated, unavailable
from extauthz.backends.redis.link import Link
from extauthz.backends.redis.seeds import begin, complete
from extauthz.backends.redis.usage import RedisUsage
from extauthz.core.calendar import DaysAndMonths
from extauthz.core.errors import StoreUnavailable
from extauthz.core.limits import Limits
from extauthz.core.ports import Mark, SpendCall
from extauthz.core.spend import FAILED, Owner, Row, Spend, Spent, Untaken, result_of
from extauthz.core.usage import ORGANIZATION, Seed

SPEND = scripts.read("spend")
_ROW = struct.Struct("<4b8q")  # of each result, as the script packs it
_OPERATIONS = {"spend": 0, "peek": 1, "refund": 2}


class RedisLimits:
    """`tenant_limits:{<tenant>}` and `address_limits:{…}`, by the clock of Redis.

    `log` is told whose counters begin anew, before they do; None: nobody saves them.
    """

    def __init__(self, link: Link, log: RedisUsage | None = None, *, script: str = SPEND) -> None:
        self._link = link
        self._log = log
        self._script = scripts.Script(script)

    async def connect(self) -> None:
        """Returns when calls can begin. Raises StoreUnavailable."""
        with translated():
            await self._link.connect()

    def begin(self, asked: Sequence[Spend], marks: Sequence[Mark], call: SpendCall) -> Callable[[], None] | None:
        """Spends in one call, without waiting; see LimitStore. `marks` leave before it, in the same write."""
        wire = self._link.wire
        if wire is None:
            return None
        keys, arguments = _call(asked, wire.info.epoch)

        def answered(answer: Any) -> None:
            try:
                with translated():
                    if isinstance(answer, Exception):
                        raise answer
                    now, results = _results(*answer)
            except StoreUnavailable as error:
                call.failed(error)
            else:
                call.answered(now, results)

        before = None
        if marks and self._log is not None:
            before = self._log.begun(wire, marks, call.unmarked)
        self._link.operations += 1 if before is None else 2
        self._script.begin(wire, keys, arguments, answered=answered, before=before)
        return wire.leave

    async def spend(self, asked: Sequence[Spend]) -> list[Spent | Untaken | StoreUnavailable]:
        """One result for each, in a call of its own. Raises StoreUnavailable; all outcomes are then unknown."""
        with translated():
            epoch = await self._link.epoch()
            keys, arguments = _call(asked, epoch)
            now, results = _results(*await self._script.run_many(self._link, keys, arguments))
            return [each if isinstance(each, StoreUnavailable) else result_of(now, each) for each in results]

    async def seed(self, tenant_id: str, seeds: Sequence[Seed] | None) -> None:
        """Raises a tenant's counters to what is known of its keys; None: nobody can say, they begin with what is there.

        Raises StoreUnavailable.
        """
        with translated():
            link, epoch = self._link, await self._link.epoch()
            work = begin(link, tenant_id, epoch) if seeds is None else complete(link, tenant_id, epoch, seeds)
            if self._log is None:
                await work
            else:  # the mark leaves first: a memory that was lost had marks in it which others believe to be there
                await asyncio.gather(self._log.mark([(tenant_id, ORGANIZATION)]), work)


def _call(asked: Sequence[Spend], epoch: str) -> tuple[list[str], list[int | str]]:
    calendars: dict[int, int] = {}  # by identity: hashing one costs as much as all the rest
    windows = list[DaysAndMonths]()
    keys, once = list[str](), list[str]()
    each: list[int | str] = []
    for one in asked:
        own, calendar = one.windows, 0
        if own is not None:
            calendar = calendars.get(id(own), 0)
            if not calendar:
                windows.append(own)
                calendar = calendars[id(own)] = len(windows)
        if one.once:
            once.append(keyspace.charge_once(one.owner.id, one.once))
        place = len(once) if one.once else 0
        key, line, calendar_then, place_then = one.encoded or _NOT_ENCODED
        if not line or calendar != calendar_then or place != place_then:
            key, line, _, _ = one.encoded = _encoded(one, calendar, place)
        keys.append(key)
        each.append(line)
        each.append(one.key_id)
    return keys + once, [epoch, len(windows), len(asked), *map(_calendar, windows), *each]


_NOT_ENCODED = "", "", 0, 0


def _encoded(asked: Spend, calendar: int, place: int) -> tuple[str, str, int, int]:
    """The key of a spend and its line of numbers, with the two of them that depend on its call."""
    numbers = f"{_OPERATIONS[asked.operation]} {calendar} {place} {asked.cost} {asked.charged_at}"
    line = f"{numbers} {_limits(asked.limits)} {_limits(asked.key_limits)}"
    return _key(asked.owner), line, calendar, place


def _key(owner: Owner) -> str:
    return keyspace.tenant_limits(owner.id) if owner.kind == "tenant" else keyspace.address_limits(owner.id)


@lru_cache(maxsize=1024)
def _calendar(windows: DaysAndMonths) -> str:
    return " ".join(
        " ".join([*(f"{day:%Y%m%d}" for day in span.dates[:3]), *map(str, span.bounds)])
        for span in (windows.days, windows.months)
    )


@lru_cache(maxsize=4096)  # plans are few, checks are many
def _limits(limits: Limits) -> str:
    rate = limits.rate
    bucket = (0, 1, 0) if rate is None else (rate.tokens, rate.seconds, limits.burst)
    quotas = (-1 if quota is None else quota for quota in (limits.daily_quota, limits.monthly_quota))
    return " ".join(map(str, (*bucket, *quotas)))


def _results(now: int, rows: bytes, *failures: bytes) -> tuple[int, list[Row | StoreUnavailable]]:
    results: list[Row | StoreUnavailable] = list(_ROW.iter_unpack(rows))
    if failures:
        words = iter(failures)
        for place, row in enumerate(_ROW.iter_unpack(rows)):
            if row[0] == FAILED:
                results[place] = unavailable(refusal(next(words).decode(errors="replace")))
    return now, results
