"""Keys and organizations in PostgreSQL, as a check reads them."""

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
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
from extauthz.core.limit_kinds import CREDITS, LIMIT_COLUMNS
from extauthz.core.limits import Limits
from extauthz.core.permissions import Permissions, parse_permissions
from extauthz.core.ports import POSTGRESQL
from extauthz.core.tenants import Tenant, TenantTerms, header_safe, read_version

RECORDS_PER_READ_MAX = 500
STATEMENT_TIMEOUT_MS = 4000
PARTS_MAX = 4096  # of one kind that are remembered
SHORT = 1024  # characters of a text that is
_HELD = (*LIMIT_COLUMNS, CREDITS.name)  # what an organization or a key may spend
_TENANT_FIELDS = ("status", "plan", "plan_id", *_HELD, "overrides_until", "limits_mode")
_CALENDAR_FIELDS = ("timezone", "anchor", "timezone_before", "last_day", "anchor_before", "next_month")
_PLAN_LIMITS = (*(f"plan_{name}" for name in LIMIT_COLUMNS), CREDITS.name)  # credits stay when own limits end
_KEY_LIMITS = tuple(f"key_{name}" for name in _HELD)
_TERMS = (*_TENANT_FIELDS, *_PLAN_LIMITS[:-1], *_CALENDAR_FIELDS)


class PostgresKeySource:
    """Keys of the table `api_keys`, by their credentials."""

    at_once = RECORDS_PER_READ_MAX

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def find(self, asked: Sequence[Credential], now: float) -> list[ApiKey | StoreCorrupt | None]:
        """The key of each credential, with its organization, in one query. Raises StoreUnavailable."""
        hashes = [bytes.fromhex(digest) for credential in asked for digest in credential.digests]
        rows = {row["hash"]: row for row in await fetch(self._pool, "find_keys", {"hashes": hashes})}
        return [_first(rows, credential.digests, now) for credential in asked]


class PostgresTenantSource:
    """Organizations of the table `organizations`, by their ids."""

    at_once = RECORDS_PER_READ_MAX

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
        """The key with that id, with its name. Raises StoreUnavailable."""
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
                await connection.be_patient(STATEMENT_TIMEOUT_MS)
                cursor = await connection.execute(STATEMENTS["keys_used"].encode(), arguments)
                return [row["id"] for row in await cursor.fetchall()]


def _first(rows: Mapping[str, DictRow], digests: Sequence[str], now: float) -> ApiKey | StoreCorrupt | None:
    """Of several rows for one key (it was stored under two peppers) a revoked one wins: revoked is revoked."""
    found = [rows[digest] | {"hash": digest} for digest in digests if digest in rows]  # the same text, kept once
    revoked = (row for row in found if row["revoked_at"] is not None)
    return api_key(next(revoked, found[0]), now) if found else None


def api_key(row: DictRow, now: float) -> ApiKey | StoreCorrupt:
    """The key of a row of `find_keys`."""
    try:
        return ApiKey.of(
            row | {"expires_at": _finite(row["expires_at"]), "loaded_at": now},
            permissions=_permissions(row["permissions"]),
            limits=_limits(tuple([row[name] for name in _KEY_LIMITS])),
            tenant=_tenant_of(row, "organization_id", now),
        )
    except (ValueError, RecursionError) as error:
        return StoreCorrupt(POSTGRESQL, f"key {row['id']}: {error}")


def _tenant(row: DictRow, now: float) -> Tenant | StoreCorrupt:
    try:
        return _tenant_of(row, "id", now)
    except ValueError as error:
        return StoreCorrupt(POSTGRESQL, f"organization {row['id']}: {error}")


def _tenant_of(row: DictRow, id_column: str, now: float) -> Tenant:
    terms = _terms(tuple([row[name] for name in _TERMS]))
    return Tenant.of(header_safe(row, id_column), terms, now, read_version(row))


# Parts of rows of which there are few: the same row is not read and checked again for each key that has it.


@lru_cache(maxsize=PARTS_MAX)
def _terms(values: tuple[object, ...]) -> TenantTerms:
    row = dict(zip(_TERMS, values, strict=True))
    record = {name: row[name] for name in _TENANT_FIELDS} | {
        "plan_limits": _by_name([row[name] for name in _PLAN_LIMITS]),
        "calendar": {name: row[name] for name in _CALENDAR_FIELDS},
    }
    return Tenant.from_record(record | {"id": ".", "loaded_at": 0, "version": 0}).terms


@lru_cache(maxsize=PARTS_MAX)
def _limits(values: tuple[object, ...]) -> Limits:
    return Limits.from_record(_by_name(values))


def _by_name(limits: Iterable[object]) -> dict[str, object]:
    return dict(zip(_HELD, limits, strict=True))


def _permissions(text: object) -> Permissions:
    if not isinstance(text, str):
        raise ValueError("permissions must be an object")
    return _short_permissions(text) if len(text) <= SHORT else _read_permissions(text)


def _read_permissions(text: str) -> Permissions:
    return parse_permissions(json.loads(text))


_short_permissions = lru_cache(maxsize=PARTS_MAX)(_read_permissions)


def _finite(time: object) -> object:
    """A time in Unix seconds; PostgreSQL's 'infinity' is never."""
    return None if isinstance(time, float) and isinf(time) and time > 0 else time
