"""Buckets and counters in Redis: many checks in one script, one round trip, never sent a second time."""

import asyncio
import struct
from collections.abc import Sequence
from functools import lru_cache

from extauthz.backends.redis import keyspace, scripts
from extauthz.backends.redis.errors import refusal, translated, unavailable
from extauthz.backends.redis.link import Link
from extauthz.backends.redis.seeds import begin, complete
from extauthz.core.calendar import DaysAndMonths
from extauthz.core.errors import StoreUnavailable
from extauthz.core.limits import Limits
from extauthz.core.ports import UsageLog
from extauthz.core.spend import FAILED, Owner, Spend, Spent, Untaken, result_of
from extauthz.core.usage import ORGANIZATION, Seed

SPEND = scripts.read("spend")
_ROW = struct.Struct("<4b8q")  # of each result, as the script packs it
_OPERATIONS = {"spend": 0, "peek": 1, "refund": 2}


class RedisLimits:
    """`tenant_limits:{<tenant>}` and `address_limits:{…}`, by the clock of Redis.

    `log` is told whose counters begin anew, before they do; None: nobody saves them.
    """

    def __init__(self, link: Link, log: UsageLog | None = None, *, script: str = SPEND) -> None:
        self._link = link
        self._log = log
        self._script = scripts.Script(script)

    async def spend(self, asked: Sequence[Spend]) -> list[Spent | Untaken | StoreUnavailable]:
        """One result for each, in one call; each takes from all of its limits or from none.

        Raises StoreUnavailable; all outcomes are then unknown.
        """
        with translated():
            epoch = await self._link.epoch()
            keys, arguments = _call(asked, epoch)
            reply = await self._script.run_many(self._link, keys, arguments)
            return _results(*reply)

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
    calendars: dict[DaysAndMonths, int] = {}
    keys, once = list[str](), list[str]()
    each: list[int | str] = []
    for one in asked:
        calendar = 0 if one.windows is None else calendars.setdefault(one.windows, len(calendars) + 1)
        if one.once:
            once.append(keyspace.charge_once(one.owner.id, one.once))
        key, line = one.written or _write(one)
        keys.append(key)
        each.append(f"{_OPERATIONS[one.operation]} {calendar} {len(once) if one.once else 0} {line}")
        each.append(one.key_id)
    return keys + once, [epoch, len(calendars), len(asked), *map(_calendar, calendars), *each]


def _write(asked: Spend) -> tuple[str, str]:
    """The key of a spend, and what is the same of it in every call."""
    line = f"{asked.cost} {asked.charged_at} {_limits(asked.limits)} {_limits(asked.key_limits)}"
    asked.written = _key(asked.owner), line
    return asked.written


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


def _results(now: int, rows: bytes, *failures: bytes) -> list[Spent | Untaken | StoreUnavailable]:
    words = iter(failures)
    return [
        unavailable(refusal(next(words).decode(errors="replace"))) if row[0] == FAILED else result_of(now, row)
        for row in _ROW.iter_unpack(rows)
    ]
