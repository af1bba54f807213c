"""The audit log in PostgreSQL. Triggers write it; here it is read."""

from psycopg.rows import DictRow

from extauthz.backends.postgres import pages
from extauthz.backends.postgres.errors import refused
from extauthz.backends.postgres.pool import Pool
from extauthz.backends.postgres.queries import fetch
from extauthz.core.errors import StoreCorrupt
from extauthz.core.management import AuditEntry, AuditFilter, Listing
from extauthz.core.ports import POSTGRESQL


class PostgresAudit:
    """The table `audit_log`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def page(
        self, organization_id: str | None, only: AuditFilter, *, limit: int, cursor: str | None
    ) -> Listing[AuditEntry]:
        """Changes of everything, or of an organization and its keys, newest first; `only.plan` is an id.

        Raises InvalidInput, StoreCorrupt, StoreUnavailable.
        """
        arguments = pages.asked_by_number(limit, cursor) | {
            "organization_id": organization_id,
            "plan_id": only.plan,
            "key_id": only.key_id and only.key_id.lower(),
            "actor": only.actor,
            "since": only.since,
        }
        with refused():
            rows = await fetch(self._pool, "page_of_audit_log", arguments)
        return pages.listing(rows, limit, _entry)

    async def is_key(self, id_: str) -> bool:
        """Whether a key has that id, or had it as far as the audit log goes. Raises InvalidInput, StoreUnavailable."""
        with refused():
            return bool(await fetch(self._pool, "is_or_was_a_key", {"id": id_.lower()}))


def _entry(row: DictRow) -> AuditEntry:
    diff = row["diff"]
    if not isinstance(diff, dict) or any(not isinstance(pair, list) or len(pair) != 2 for pair in diff.values()):
        raise StoreCorrupt(POSTGRESQL, f"audit entry {row['id']}: diff is not an object of [before, after]")
    return AuditEntry(**row)
