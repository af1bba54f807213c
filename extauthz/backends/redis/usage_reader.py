"""The counters of one organization in Redis, for reports: `scripts/layout.lua` says what its hash holds."""

import asyncio
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import date

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from extauthz.backends.redis import keyspace
from extauthz.backends.redis.errors import translated
from extauthz.backends.redis.layout import HOUR, STATE, by_name, one, three
from extauthz.core.usage_range import Period
from extauthz.core.usage_report import NOTHING, Charged, Live

FIELDS_PER_STEP = 1000  # fields that Redis looks at in one step
READ_TIMEOUT_SECONDS = 5.0  # for all of them

_WAS = "was:"  # before a field: what it was when counting went on without PostgreSQL
_OF_KEY = re.compile(r"d:([0-9]{8}):(.+)", re.ASCII)


class RedisUsageReader:
    """`tenant_limits:{<tenant>}`, read and left as it is."""

    def __init__(self, client: Redis) -> None:
        self._client = client

    async def read(self, tenant_id: str, period: Period, fields: Sequence[str]) -> Live:
        """Each key on the days of a period, and the organization's cost by `fields`. Raises StoreUnavailable.

        What is malformed there counts as never written, as it does for checks.
        """
        name = keyspace.tenant_limits(tenant_id)
        with translated():
            try:
                async with asyncio.timeout(READ_TIMEOUT_SECONDS):
                    began_with, costs = await self._costs(name, fields)
                    return Live(await self._days(name, period, began_with), costs)
            except ResponseError as error:
                if not str(error).startswith("WRONGTYPE"):
                    raise
                return NOTHING

    async def count(self, tenant_id: str, field: str) -> int:
        """One counter of an organization; 0 where there is none, or a malformed one. Raises StoreUnavailable."""
        with translated():
            try:
                async with asyncio.timeout(READ_TIMEOUT_SECONDS):
                    value = await self._client.hget(keyspace.tenant_limits(tenant_id), field)
            except ResponseError as error:
                if not str(error).startswith("WRONGTYPE"):
                    raise
                return 0
        return 0 if value is None else one(_bytes(value).decode("utf-8", "replace"))

    async def _costs(self, name: str, fields: Sequence[str]) -> tuple[str, Mapping[str, tuple[int, int]]]:
        """What stands before a field that says what it began with, and the costs."""
        wanted = ["seeded", STATE, HOUR, *fields, *(_WAS + field for field in fields)]
        values = await self._client.hmget(name, wanted)
        held = {field: _bytes(value) for field, value in zip(wanted, values, strict=True) if value is not None}
        found = dict.fromkeys(wanted, "") | by_name(held)
        # `was:` fields count only where counting goes on without PostgreSQL: else fields are what they were.
        began_with = _WAS if found["seeded"].endswith("?") else ""
        return began_with, {field: (one(found[field]), one(found[began_with + field])) for field in fields}

    async def _days(
        self, name: str, period: Period, began_with: str
    ) -> Mapping[date, Mapping[str, tuple[Charged, Charged]]]:
        pairs = self._client.hscan_iter(name, count=FIELDS_PER_STEP)
        found = by_name({_bytes(field).decode("utf-8", "replace"): _bytes(value) async for field, value in pairs})
        days: dict[date, dict[str, tuple[Charged, Charged]]] = {}
        for field, text in found.items():
            match = _OF_KEY.fullmatch(field)
            day = None if match is None else _date(match[1])
            if match is not None and day is not None and period.first <= day <= period.last:
                was = found.get(began_with + field, "")
                days.setdefault(day, {})[match[2]] = _charged(text), _charged(was)
        return days


def _date(digits: str) -> date | None:
    with suppress(ValueError):
        return date.fromisoformat(digits)
    return None


def _bytes(value: bytes | str) -> bytes:
    return value if isinstance(value, bytes) else value.encode()


def _charged(text: str) -> Charged:
    return Charged(*(three(text) or ()))
