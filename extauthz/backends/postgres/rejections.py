"""Refusals in PostgreSQL: written in batches by every process, read by commands and the admin API."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from urllib.parse import quote
from uuid import UUID, uuid5

from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from extauthz.backends.postgres import pages
from extauthz.backends.postgres.errors import refused, translated
from extauthz.backends.postgres.pool import Pool
from extauthz.backends.postgres.queries import execute, fetch
from extauthz.backends.postgres.statements import STATEMENTS, as_id
from extauthz.core.management import Listing
from extauthz.core.rejections import SAMPLES, Group, Rejected, Rejection, RejectionFilter, Sample

STATEMENT_TIMEOUT_MS = 4000  # for one statement, whatever the pool grants those of checks
ROWS_PER_DELETE_MAX = 10_000

_NAMESPACE = UUID("6e1c8f0a-6f5e-4d4e-9a39-1f3b8d0f5a11")
_PLAIN = "".join(map(chr, range(0x20, 0x7F)))


class PostgresRejections:
    """The table `rejections`. Every method raises StoreUnavailable.

    A row whose organization or key has an id of another form is left out.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def add(self, batch_id: UUID, rejected: Sequence[Rejected]) -> None:
        """Adds refusals; a batch that was added already changes nothing, for a day at least."""
        rows = sorted(((_id(row.group), row) for row in rejected if _known(row.group)), key=lambda pair: pair[0])
        samples = []
        for _, row in rows:
            samples.append(Jsonb([_stored(sample) for sample in row.samples]))
            await asyncio.sleep(0)  # thousands at once would hold all checks
        arguments = {
            "ids": [id_ for id_, _ in rows],
            "sinces": [datetime.fromtimestamp(row.group.since, UTC) for _, row in rows],
            "organizations": [as_id(row.group.tenant_id) for _, row in rows],
            "keys": [as_id(row.group.key_id) for _, row in rows],
            "addresses": [row.group.address or None for _, row in rows],
            "routes": [row.group.route or None for _, row in rows],
            "decisions": [row.group.decision for _, row in rows],
            "reasons": [row.group.reason for _, row in rows],
            "counts": [row.times for _, row in rows],
            "samples": samples,
            "most": SAMPLES,
        }
        with translated():
            async with self._pool.connection() as connection, connection.transaction():
                await connection.be_patient(STATEMENT_TIMEOUT_MS)
                cursor = await connection.execute(STATEMENTS["new_batch"].encode(), {"id": batch_id})
                if await cursor.fetchall():
                    await connection.execute(STATEMENTS["add_rejections"].encode(), arguments)

    async def delete_old(self, days: int) -> bool:
        """Deletes some of what is older than so many days; whether there may be more of it."""
        (gone,) = await execute(self._pool, "forget_rejections", {"days": days, "at_most": ROWS_PER_DELETE_MAX})
        return bool(gone["count"] >= ROWS_PER_DELETE_MAX)

    async def page(
        self, organization_id: str | None, only: RejectionFilter, *, limit: int, cursor: str | None
    ) -> Listing[Rejection]:
        """Rows of an organization, or those of none that is known, newest first. Raises InvalidInput."""
        arguments = pages.asked(limit, cursor) | {
            "organization_id": organization_id,
            "since": only.since,
            "until": only.until,
            "key_id": only.key_id,
            "decision": only.decision,
            "route": only.route,
        }
        with refused():
            rows = await fetch(self._pool, "page_of_rejections", arguments)
        return pages.listing(rows, limit, _rejection)


def _known(group: Group) -> bool:
    return all(not text or as_id(text) is not None for text in (group.tenant_id, group.key_id))


def _id(group: Group) -> UUID:
    return uuid5(_NAMESPACE, repr(tuple(group)))


def _stored(sample: Sample) -> dict[str, str]:
    """As JSON; bytes beyond plain ASCII are percent-encoded, since a text of PostgreSQL takes not all of them."""
    return {
        "at": datetime.fromtimestamp(sample.at, UTC).isoformat(timespec="milliseconds"),
        "method": _plain(sample.method),
        "path": _plain(sample.path),
        "request_id": _plain(sample.request_id),
    }


def _plain(text: str) -> str:
    return quote(text.encode("utf-8", "surrogateescape"), safe=_PLAIN)


def _rejection(row: DictRow) -> Rejection:
    fields = {name: value for name, value in row.items() if name not in ("id", "created_at", "samples")}
    return Rejection(since=row["created_at"], samples=list(reversed(row["samples"])), **fields)
