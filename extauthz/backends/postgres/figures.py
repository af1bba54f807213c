"""Figures of keys, webhooks and the audit log."""

from collections.abc import Collection
from typing import Any

from extauthz.backends.postgres.connection import PooledConnection
from extauthz.backends.postgres.errors import translated
from extauthz.backends.postgres.events import LATEST_DAYS
from extauthz.backends.postgres.pool import Pool
from extauthz.backends.postgres.statements import STATEMENTS, as_id
from extauthz.core.figures import Figures

STATEMENT_TIMEOUT_MS = 30_000  # for each statement: they read whole tables, and nothing waits for them


class PostgresFigures:
    """Reads all figures in one transaction. `webhook`: quota events are delivered to one."""

    def __init__(self, pool: Pool, *, webhook: bool) -> None:
        self._pool = pool
        self._webhook = webhook

    async def read(self, organizations: Collection[str]) -> Figures:
        """The figures now, and the names of these organizations. Raises StoreUnavailable."""
        ids = [id_ for each in organizations if (id_ := as_id(each)) is not None]
        with translated():
            async with self._pool.connection() as connection, connection.transaction():
                await connection.be_patient(STATEMENT_TIMEOUT_MS)
                keys = await _rows(connection, "key_figures")
                (audit,) = await _rows(connection, "audit_figures")
                (events,) = await _rows(connection, "backlog_figures", {"days": LATEST_DAYS})
                names = await _rows(connection, "organization_names", {"ids": ids}) if ids else []
        return Figures(
            expiring_7d=sum(row["expiring_7d"] for row in keys),
            expiring_30d=sum(row["expiring_30d"] for row in keys),
            by_pepper={row["pepper_id"]: row["keys"] for row in keys},
            audit_rows=audit["rows"],
            backlog=events["backlog"] if self._webhook else None,
            oldest_seconds=events["oldest_seconds"] if self._webhook else None,
            names={row["id"]: row["name"] for row in names},
        )


async def _rows(
    connection: PooledConnection, statement: str, arguments: dict[str, object] | None = None
) -> list[dict[str, Any]]:
    cursor = await connection.execute(STATEMENTS[statement].encode(), arguments)
    return await cursor.fetchall()
