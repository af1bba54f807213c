"""Usage in PostgreSQL, kept for bills: written by one worker at a time, read where counters are restored."""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import date
from functools import partial
from time import monotonic
from typing import TypeVar
from uuid import UUID

from psycopg.rows import tuple_row

from extauthz.backends.postgres.connection import PooledConnection
from extauthz.backends.postgres.errors import translated
from extauthz.backends.postgres.pool import Pool
from extauthz.backends.postgres.queries import again_if_dead, execute, fetch
from extauthz.backends.postgres.statements import STATEMENTS, as_id
from extauthz.core.ports import SaveUsage
from extauthz.core.usage import ORGANIZATION, Counted, CreditsUsed, QuotaEvent, Refused, Seed, Span, Tally
from extauthz.core.usage_range import Period
from extauthz.core.usage_report import Figures

ROWS_PER_STATEMENT_MAX = 5000  # rows in one statement
ROWS_PER_TURN_MAX = 200  # rows of an answer, between which others have their turn
STATEMENT_TIMEOUT_MS = 4000  # for one statement, whatever the pool grants those of checks
REPORT_TIMEOUT_MS = 30_000  # for a report: years of a large organization are millions of rows
DELETE_INTERVAL_SECONDS = 600.0
KEPT_HOURS = 24  # for which a batch that comes again is known
ROWS_PER_DELETE_MAX = 10_000
NO_KEY = UUID(int=0)  # in credits_used: of the organization itself

RowT = TypeVar("RowT", Counted, Refused)


class PostgresUsage:
    """The tables `usage_daily`, `credits_used`, `usage_batches` and `quota_events`.

    Every method raises StoreUnavailable.

    A row whose organization or key has an id of another form is left out.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._forgot_at: float | None = None

    async def seeds(self, wanted: Mapping[str, Sequence[Span]]) -> Mapping[str, Sequence[Seed]]:
        """What is known of spans, and of credits, by tenant and key; all in one query."""
        found: dict[str, list[Seed]] = {tenant_id: [] for tenant_id in wanted}
        asked = [(tenant_id, span) for tenant_id, spans in wanted.items() for span in spans]
        arguments = {
            "tenants": [tenant_id for tenant_id, _ in asked],
            "ids": [as_id(tenant_id) for tenant_id, _ in asked],
        }
        async with self._patient() as connection:  # a large organization takes longer than any check waits
            cursor = connection.cursor(row_factory=tuple_row)
            await cursor.execute(STATEMENTS["seeds"].encode(), arguments | _columns([span for _, span in asked]))
            while rows := await cursor.fetchmany(ROWS_PER_TURN_MAX):
                for tenant_id, *seed in rows:
                    found[tenant_id].append(Seed(*seed))
                await asyncio.sleep(0)  # others have their turn
        return found

    @asynccontextmanager
    async def exclusive_saver(self) -> AsyncIterator[SaveUsage | None]:
        """What saves rows while no other worker does; see UsageStore."""
        async with self._patient() as connection:
            cursor = await connection.execute(STATEMENTS["one_saver"].encode())
            (row,) = await cursor.fetchall()
            yield partial(self._save, connection) if row["mine"] else None

    async def _save(
        self, connection: PooledConnection, counted: Sequence[Counted], credits_used: Sequence[CreditsUsed] = ()
    ) -> None:
        for tenants, keys, rows in _in_order(counted):
            arguments = {
                "tenants": tenants,
                "keys": keys,
                "days": [row.day for row in rows],
                "allowed": [row.allowed for row in rows],
                "cost": [row.cost for row in rows],
                "revisions": [row.revision for row in rows],
            }
            await connection.execute(STATEMENTS["save_counted"].encode(), arguments)
        known = [
            (tenant, key, row.used)
            for row in credits_used
            if (tenant := as_id(row.tenant_id)) is not None
            and (key := NO_KEY if row.key_id == ORGANIZATION else as_id(row.key_id)) is not None
        ]
        for start in range(0, len(known), ROWS_PER_STATEMENT_MAX):
            part = list(zip(*known[start : start + ROWS_PER_STATEMENT_MAX], strict=True))
            arguments = {name: list(column) for name, column in zip(("tenants", "keys", "used"), part, strict=True)}
            await connection.execute(STATEMENTS["save_credits"].encode(), arguments)

    async def add_refusals(self, batch_id: UUID, refused: Sequence[Refused]) -> None:
        """Adds refusals; a batch that was added already changes nothing, for a day at least."""
        async with self._patient() as connection:
            await self._drop_batches(connection)
            cursor = await connection.execute(STATEMENTS["new_batch"].encode(), {"id": batch_id})
            if not await cursor.fetchall():
                return
            for tenants, keys, rows in _in_order(refused):
                arguments = {
                    "tenants": tenants,
                    "keys": keys,
                    "days": [row.day for row in rows],
                    "rate_limited": [row.rate_limited for row in rows],
                    "over_quota": [row.over_quota for row in rows],
                }
                await connection.execute(STATEMENTS["add_refusals"].encode(), arguments)

    async def announce(self, events: Sequence[QuotaEvent]) -> Sequence[QuotaEvent]:
        """Records the events that were not announced yet, and returns them."""
        known = [(id_, event) for event in events if (id_ := as_id(event.tenant_id)) is not None]
        arguments = {
            "tenants": [id_ for id_, _ in known],
            "quotas": [event.quota for _, event in known],
            "windows": [event.window_start for _, event in known],
            "thresholds": [event.threshold for _, event in known],
            "used": [event.used for _, event in known],
            "limits": [event.limit for _, event in known],
        }
        return [QuotaEvent(**row) for row in await execute(self._pool, "announce", arguments)]

    async def of_period(
        self, tenant_id: str, period: Period, *, by_key: bool, apart: Collection[date]
    ) -> Sequence[Figures]:
        """The sums of keys, or else of days, without the days `apart`, of which every row is returned."""
        days = {"first": period.first, "last": period.last, "apart": list(apart)}
        arguments = {"id": as_id(tenant_id), "by_key": by_key} | days
        with translated():
            return await again_if_dead(partial(self._of_period, arguments))

    async def _of_period(self, arguments: Mapping[str, object]) -> Sequence[Figures]:
        found: list[Figures] = []
        async with self._pool.connection() as connection, connection.transaction():
            await connection.be_patient(REPORT_TIMEOUT_MS)
            cursor = connection.cursor(row_factory=tuple_row)
            await cursor.execute(STATEMENTS["usage_of_period"].encode(), arguments)
            while rows := await cursor.fetchmany(ROWS_PER_TURN_MAX):
                for day, key_id, *tally, revision in rows:
                    found.append(Figures(day, None if key_id is None else str(key_id), Tally(*tally), revision))
                await asyncio.sleep(0)  # others have their turn
        return found

    async def totals(self, tenant_id: str, spans: Sequence[Span]) -> Mapping[str, int]:
        """By the field of a span: the cost of all keys of an organization."""
        rows = await fetch(self._pool, "usage_totals", {"id": as_id(tenant_id)} | _columns(spans))
        return {row["field"]: row["cost"] for row in rows}

    async def key_names(self, key_ids: Collection[str]) -> Mapping[str, str]:
        """The names of keys by their ids, without those that are gone."""
        ids = [id_ for key_id in key_ids if (id_ := as_id(key_id)) is not None]
        return {row["key_id"]: row["name"] for row in await fetch(self._pool, "key_names", {"ids": ids})}

    @asynccontextmanager
    async def _patient(self) -> AsyncIterator[PooledConnection]:
        """A transaction with patience for its statements."""
        with translated():
            async with self._pool.connection() as connection, connection.transaction():
                await connection.be_patient(STATEMENT_TIMEOUT_MS)
                yield connection

    async def _drop_batches(self, connection: PooledConnection) -> None:
        """Deletes batches that are too old to come again, every DELETE_INTERVAL_SECONDS seconds."""
        now = monotonic()
        if self._forgot_at is None or now - self._forgot_at >= DELETE_INTERVAL_SECONDS:
            self._forgot_at = now
            arguments = {"hours": KEPT_HOURS, "at_most": ROWS_PER_DELETE_MAX}
            await connection.execute(STATEMENTS["forget_batches"].encode(), arguments)


def _columns(spans: Sequence[Span]) -> dict[str, object]:
    return {
        "fields": [span.field for span in spans],
        "firsts": [span.first for span in spans],
        "afters": [span.after for span in spans],
    }


def _in_order(rows: Sequence[RowT]) -> Iterator[tuple[list[UUID], list[UUID], list[RowT]]]:
    """Organizations, keys and rows for one statement after the other, in the order of the primary key."""
    known = [
        (tenant, row.day, key, row)
        for row in rows
        if (tenant := as_id(row.tenant_id)) is not None and (key := as_id(row.key_id)) is not None
    ]
    known.sort(key=lambda each: each[:3])
    for start in range(0, len(known), ROWS_PER_STATEMENT_MAX):
        part = known[start : start + ROWS_PER_STATEMENT_MAX]
        yield [tenant for tenant, *_ in part], [key for _, _, key, _ in part], [row for *_, row in part]
