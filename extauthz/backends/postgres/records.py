"""Keys and organizations in PostgreSQL, as a check reads them."""

from collections.abc import Mapping, Sequence
from math import isinf

from psycopg.rows import DictRow

from extauthz.backends.postgres.errors import translated
from extauthz.backends.postgres.pool import Pool
from extauthz.backends.postgres.queries import fetch
from extauthz.backends.postgres.statements import STATEMENTS, as_id
from extauthz.core.credentials import Credential
from extauthz.core.errors import StoreCorrupt
from extauthz.core.explanation import NamedKey
from extauthz.core.keys import ApiKey
from extauthz.core.ports import POSTGRESQL
from extauthz.core.records import LIMITS
from extauthz.core.tenants import Tenant

AT_ONCE = 500
PATIENCE_MS = 4000
_TENANT_FIELDS = ("status", "plan", "plan_id", *LIMITS, "overrides_until", "limits_mode", "version")
_CALENDAR_FIELDS = ("timezone", "anchor", "timezone_before", "last_day", "anchor_before", "next_month")


class PostgresKeySource:
    """Keys of the table `api_keys`, by their credentials."""

    at_once = AT_ONCE

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def find(self, asked: Sequence[Credential], now: float) -> list[ApiKey | StoreCorrupt | None]:
        """The key of each credential, with its organization, in one query. Raises StoreUnavailable."""
        hashes = [bytes.fromhex(digest) for credential in asked for digest in credential.digests]
        rows = {row["hash"]: row for row in await fetch(self._pool, "find_keys", {"hashes": hashes})}
        return [_first(rows, credential.digests, now) for credential in asked]


class PostgresTenantSource:
    """Organizations of the table `organizations`, by their ids."""

    at_once = AT_ONCE

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def find(self, asked: Sequence[str], now: float) -> list[Tenant | StoreCorrupt | None]:
        """The organization of each id, in one query. Raises StoreUnavailable."""
        rows = {
            row["id"]: row for row in await fetch(self._pool, "find_tenants", {"ids": [as_id(id_) for id_ in asked]})
        }
        return [None if id_ not in rows else _tenant(rows[id_], now) for id_ in asked]


class PostgresKeyNames:
    """Keys of the table `api_keys`, by their ids."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def find(self, key_id: str) -> NamedKey | None:
        """The key with that id, as people call it. Raises StoreUnavailable."""
        rows = await fetch(self._pool, "name_key", {"id": as_id(key_id)})
        return NamedKey(**rows[0]) if rows else None


class PostgresUseLog:
    """The column `last_used_at`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def used(self, times: Mapping[str, float]) -> list[str]:
        """Notes when keys were used; those that are being changed at this moment.

        Raises StoreUnavailable, by the reason `refused` where PostgreSQL will not have one of the rows changed.
        """
        arguments = {"ids": [as_id(id_) for id_ in times], "times": list(times.values())}
        with translated():
            async with self._pool.connection() as connection, connection.transaction():
                await connection.be_patient(PATIENCE_MS)
                cursor = await connection.execute(STATEMENTS["keys_used"].encode(), arguments)
                return [row["id"] for row in await cursor.fetchall()]


def _first(rows: Mapping[str, DictRow], digests: Sequence[str], now: float) -> ApiKey | StoreCorrupt | None:
    """Of several rows for one key (it was stored under two peppers) a revoked one wins: revoked is revoked."""
    found = [rows[digest] for digest in digests if digest in rows]
    revoked = (row for row in found if row["revoked_at"] is not None)
    return api_key(next(revoked, found[0]), now) if found else None


def api_key(row: Mapping[str, object], now: float) -> ApiKey | StoreCorrupt:
    """The key of a row of `find_keys`."""
    record = dict(row) | {
        "expires_at": _finite(row["expires_at"]),
        "loaded_at": now,
        "limits": _limits(row, "key_"),
        "tenant": _tenant_record(row, row["organization_id"], now),
    }
    try:
        return ApiKey.from_record(record)
    except ValueError as error:
        return StoreCorrupt(POSTGRESQL, f"key {row['id']}: {error}")


def _tenant(row: Mapping[str, object], now: float) -> Tenant | StoreCorrupt:
    try:
        return Tenant.from_record(_tenant_record(row, row["id"], now))
    except ValueError as error:
        return StoreCorrupt(POSTGRESQL, f"organization {row['id']}: {error}")


def _tenant_record(row: Mapping[str, object], tenant_id: object, now: float) -> dict[str, object]:
    return {name: row[name] for name in _TENANT_FIELDS} | {
        "id": tenant_id,
        "loaded_at": now,
        "plan_limits": _limits(row, "plan_"),
        "calendar": {name: row[name] for name in _CALENDAR_FIELDS},
    }


def _limits(row: Mapping[str, object], prefix: str) -> dict[str, object]:
    return {name: row[prefix + name] for name in LIMITS}


def _finite(time: object) -> object:
    """A time in Unix seconds; PostgreSQL's 'infinity' is never."""
    return None if isinstance(time, float) and isinf(time) and time > 0 else time
