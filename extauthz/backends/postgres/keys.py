"""Keys in PostgreSQL: read by digest for a check, by id or organization for a person."""

from collections.abc import Sequence
from math import isinf

from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from extauthz.backends.postgres.errors import refused, translated
from extauthz.backends.postgres.pool import STATEMENTS, Pool, as_id, fetch
from extauthz.core.errors import Conflict, NotFound, StoreCorrupt
from extauthz.core.keys import ApiKey
from extauthz.core.permissions import parse_permissions, storable
from extauthz.core.ports import POSTGRESQL, StoredKey
from extauthz.core.records import KeyDetails, NewKey

_TENANT_FIELDS = ("status", "plan", "rate", "burst", "daily_quota", "monthly_quota")


class PostgresKeys:
    """The table `api_keys`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def find(self, digests: Sequence[str], now: float) -> StoredKey | None:
        """The key with one of these digests, with its organization. Raises StoreUnavailable, StoreCorrupt."""
        rows = await fetch(self._pool, "find_key", {"hashes": [bytes.fromhex(digest) for digest in digests]})
        if not rows:
            return None
        return StoredKey(rows[0]["digest"], _api_key(rows[0], now))

    async def create(self, new: NewKey) -> KeyDetails:
        """Stores a key. Raises InvalidInput, Conflict, StoreUnavailable."""
        with refused():
            rows = await fetch(
                self._pool,
                "create_key",
                {
                    "organization_id": new.organization_id,
                    "name": new.name,
                    "hash": bytes.fromhex(new.digest),
                    "pepper_id": new.pepper_id,
                    "handle": new.handle,
                    "permissions": Jsonb(storable(new.permissions)),
                    "expires_at": new.expires_at,
                },
            )
        return _details(rows[0])

    async def list_of(self, organization_id: str) -> list[KeyDetails]:
        """All keys of an organization, newest first. Raises StoreUnavailable."""
        return [
            _details(row) for row in await fetch(self._pool, "list_keys", {"organization_id": as_id(organization_id)})
        ]

    async def show(self, key_id: str) -> KeyDetails:
        """One key. Raises NotFound, StoreUnavailable."""
        rows = await fetch(self._pool, "show_key", {"id": as_id(key_id)})
        if not rows:
            raise NotFound(f"no key has the id {key_id[:64]!r}")
        return _details(rows[0])

    async def usable(self, organization_id: str) -> int:
        """How many keys of an organization could be used now. Raises StoreUnavailable."""
        rows = await fetch(
            self._pool, "count_usable_keys", {"organization_id": as_id(organization_id), "besides": None}
        )
        return int(rows[0]["usable"])

    async def revoke(self, key_id: str, *, last: bool) -> tuple[KeyDetails, str]:
        """Ends a key for good; the key and its digest. Revoking twice keeps the first time.

        Raises NotFound; Conflict for an organization's last usable key unless `last`; StoreUnavailable.
        """
        key = await self.show(key_id)
        with translated():
            async with self._pool.connection() as connection, connection.transaction():
                organization = {"id": as_id(key.organization_id)}
                await connection.execute(STATEMENTS["lock_organization"].encode(), organization)
                besides = {"organization_id": as_id(key.organization_id), "besides": as_id(key_id)}
                cursor = await connection.execute(STATEMENTS["count_usable_keys"].encode(), besides)
                (count,) = await cursor.fetchall()
                if count["usable"] and not count["others"] and not last:
                    raise Conflict("this is the organization's last usable key; to revoke it all the same: --last")
                cursor = await connection.execute(STATEMENTS["revoke_key"].encode(), {"id": as_id(key_id)})
                row = await cursor.fetchone()
        if row is None:
            raise NotFound(f"no key has the id {key_id[:64]!r}")
        return _details(row), row["digest"]


def _api_key(row: DictRow, now: float) -> ApiKey:
    tenant = {name: row[name] for name in _TENANT_FIELDS} | {"id": row["organization_id"], "loaded_at": now}
    record = dict(row) | {"tenant": tenant, "loaded_at": now}
    if record["expires_at"] is not None and isinf(record["expires_at"]) and record["expires_at"] > 0:
        record["expires_at"] = None  # PostgreSQL's 'infinity'
    try:
        return ApiKey.from_record(record)
    except ValueError as error:
        raise StoreCorrupt(POSTGRESQL, f"key {row['id']}: {error}") from None


def _details(row: DictRow) -> KeyDetails:
    try:
        permissions = parse_permissions(row["permissions"])
    except ValueError as error:
        raise StoreCorrupt(POSTGRESQL, f"key {row['id']}: {error}") from None
    columns = {name: row[name] for name in KeyDetails.__slots__ if name != "permissions"}
    return KeyDetails(permissions=permissions, **columns)
