"""Keys in tables of another application, found by its own statement: `[keys] lookup_sql`.

In: `%(sha256)s`, the hex SHA-256 of a key, never the key. Out: at most one row, with the columns below. The statement
runs as a subquery, so that it can only read; docs/howto/bring-your-own-tables.md has the rules.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import UUID

import psycopg
from psycopg import AsyncConnection, AsyncCursor
from psycopg import errors as pg
from psycopg.abc import Buffer
from psycopg.postgres import types
from psycopg.rows import DictRow
from psycopg.types.datetime import TimestampLoader

from extauthz.backends.postgres.errors import translated
from extauthz.backends.postgres.pool import Pool
from extauthz.backends.postgres.queries import again_if_dead
from extauthz.core.calendar import UTC_CALENDAR
from extauthz.core.credentials import Credential
from extauthz.core.errors import ExtauthzError, InvalidInput, StoreCorrupt, StoreUnavailable
from extauthz.core.keys import ApiKey
from extauthz.core.limit_kinds import LIMIT_COLUMNS
from extauthz.core.ports import POSTGRESQL
from extauthz.core.tenants import ACTIVE, ENFORCE, header_safe

PLACEHOLDER = "%(sha256)s"
MEND = "mend the statement or its tables"
NOBODY = "0" * 64  # the digest of no key, to try the statement with

REQUIRED = ("id", "organization_id", "permissions", "expires_at")
_TIMES = ("expires_at", "revoked_at", "disabled_at")
_KEY_LIMITS = tuple(f"key_{name}" for name in LIMIT_COLUMNS)
_CALENDAR = ("timezone", "anchor")
COLUMNS = frozenset((*REQUIRED, *_TIMES, "status", "plan", *LIMIT_COLUMNS, *_KEY_LIMITS, *_CALENDAR))
_VERSION = "extauthz_version"

# Types are asked for where a wrong one would deny every key. A bare NULL is text to PostgreSQL, and no time.
_JSON_TYPES = {types[name].oid for name in ("json", "jsonb")}
_TIME_TYPES = {types[name].oid for name in ("timestamptz", "timestamp", "text")}

# A row, not the statement, is at fault, so that only its key is denied: a value that cannot be converted, several
# rows where its subquery may have one, a function in it that refuses.
_OF_A_ROW = (psycopg.DataError, pg.CardinalityViolation, pg.RaiseException)
# Classes of SQLSTATE in which PostgreSQL speaks of the statement itself. Its words in any other may repeat a value.
_OF_THE_STATEMENT = ("0A", "3F", "42")


class LookupUnfit(ExtauthzError):
    """The statement cannot be used; the text says why, and repeats neither the statement nor a value."""

    def __init__(self, why: str) -> None:
        super().__init__(f"[keys] lookup_sql: {why}")


class _Zoneless(TimestampLoader):
    """A time without zone is UTC; what Python cannot hold is its first or its last, as for times with a zone."""

    def load(self, data: Buffer) -> datetime:
        try:
            return super().load(data).replace(tzinfo=UTC)
        except psycopg.DataError:
            text = bytes(data)
            beyond = datetime.min if text.startswith(b"-") or text.endswith(b"BC") else datetime.max  # noqa: DTZ901
            return beyond.replace(tzinfo=UTC)


class ExternalTables:
    """Keys as the statement finds them. Raises LookupUnfit for one that does not ask for the key."""

    at_once = 1  # each is a query of its own, and as slow as theirs is

    def __init__(self, pool: Pool, sql: str) -> None:
        self._pool = pool
        self._statement = _wrapped(sql)

    async def find(self, asked: Sequence[Credential], now: float) -> list[ApiKey | StoreCorrupt | None]:
        """The key of each credential, with its organization, by one query each. Raises StoreUnavailable.

        A credential needs its `sha256`; the key is known to caches by its first digest.
        """
        with translated():
            return await again_if_dead(partial(self._all, asked, now))

    async def _all(self, asked: Sequence[Credential], now: float) -> list[ApiKey | StoreCorrupt | None]:
        async with self._pool.connection() as connection:
            cursor = _cursor(connection)
            return [await self._one(cursor, credential, now) for credential in asked]

    async def _one(
        self, cursor: AsyncCursor[DictRow], credential: Credential, now: float
    ) -> ApiKey | StoreCorrupt | None:
        try:
            await cursor.execute(self._statement, {"sha256": credential.sha256})
            rows = await cursor.fetchall()
        except _OF_A_ROW as error:
            return StoreCorrupt(POSTGRESQL, f"the row of a key cannot be read ({type(error).__name__})")
        if not rows:
            return None
        if len(rows) > 1:
            return StoreCorrupt(POSTGRESQL, f"{_name(rows[0])} and {_name(rows[1])} are one: two rows for it")
        try:
            return ApiKey.from_record(_record(rows[0], credential.digests[0], now))
        except ValueError as error:
            return StoreCorrupt(POSTGRESQL, f"{_name(rows[0])}: {error}")


async def check(pool: Pool, sql: str) -> None:
    """Returns when the statement runs and has the right columns. Raises LookupUnfit, StoreUnavailable."""
    columns = await _columns(pool, sql)
    names = [name for name, _ in columns]
    unknown = sorted({ascii(name)[1:-1] for name in names if name not in COLUMNS})
    twice = sorted({name for name in names if names.count(name) > 1} & COLUMNS)
    wrong = [
        *(f"has no column {name}" for name in REQUIRED if name not in names),
        *(f"has an unknown column {name}" for name in unknown),
        *(f"has two columns {name}" for name in twice),
        *filter(None, (_wrong_type(name, oid) for name, oid in columns)),
    ]
    if wrong:
        raise LookupUnfit(", ".join(wrong))


async def probe(pool: Pool, sql: str) -> None:
    """Raises StoreUnavailable while PostgreSQL is away, or the statement does not run or has lost a column it needs.

    Further columns are ignored: a table may grow under a statement that says `*`.
    """
    try:
        names = {name for name, _ in await _columns(pool, sql)}
    except LookupUnfit as error:
        raise StoreUnavailable(POSTGRESQL, "schema", said=str(error), remedy=MEND) from error
    if not names.issuperset(REQUIRED):
        raise StoreUnavailable(POSTGRESQL, "schema", said="[keys] lookup_sql has lost a column", remedy=MEND)


async def _columns(pool: Pool, sql: str) -> list[tuple[str, int]]:
    """Name and type (its oid) of each column of the statement's own. Raises LookupUnfit, StoreUnavailable."""
    statement = _wrapped(sql)

    async def tried() -> list[tuple[str, int]]:
        async with pool.connection() as connection:
            cursor = await _cursor(connection).execute(statement, {"sha256": NOBODY})
            if cursor.rowcount:
                raise LookupUnfit("finds a row whatever the key is")
            return [(column.name, column.type_code) for column in cursor.description or ()][:-1]

    try:
        with translated():
            return await again_if_dead(tried)
    except (StoreUnavailable, InvalidInput) as error:
        cause = error.__cause__
        if not isinstance(cause, psycopg.Error) or isinstance(cause, psycopg.OperationalError):
            raise
        raise LookupUnfit(_said(cause)) from None  # its cause might repeat the statement, or a value


def _said(error: psycopg.Error) -> str:
    if isinstance(error, pg.IndeterminateDatatype):
        return f"{PLACEHOLDER} must stand outside of quotes and comments, where PostgreSQL takes a text"
    words = error.diag.message_primary or ""
    if (error.sqlstate or "").startswith(_OF_THE_STATEMENT):
        return f"PostgreSQL says: {' '.join(words.split())[:300]}"
    return f"cannot be run ({type(error).__name__})"


def _wrong_type(name: str, oid: int) -> str:
    if name == "permissions" and oid not in _JSON_TYPES:
        return "its permissions are not json or jsonb"
    if name in _TIMES and oid not in _TIME_TYPES:
        return f"its {name} is not timestamptz or timestamp"
    return ""


def _wrapped(sql: str) -> bytes:
    """The statement as a subquery: it cannot write, and `LIMIT 2` is enough to see that a key is not unique."""
    if PLACEHOLDER not in sql:
        raise LookupUnfit(f"must have {PLACEHOLDER}, which becomes the hex SHA-256 of the key")
    return (
        f"SELECT q.*, pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS {_VERSION}"  # noqa: S608 - the operator's
        f" FROM (\n{sql.strip().removesuffix(';')}\n) AS q LIMIT 2"
    ).encode()


def _cursor(connection: AsyncConnection[DictRow]) -> AsyncCursor[DictRow]:
    cursor = connection.cursor()
    cursor.adapters.register_loader("timestamp", _Zoneless)
    return cursor


def _name(row: Mapping[str, object]) -> str:
    try:
        return f"key {_id(row, 'id')}"
    except ValueError:
        return "a key"


def _record(row: Mapping[str, Any], digest: str, now: float) -> dict[str, object]:
    """The record of a row; ValueError says what is wrong in it, never the value."""
    ids = {name: _id(row, name) for name in ("id", "organization_id")}
    if "expires_at" not in row:
        raise ValueError("expires_at is missing")
    limits = _limits(row, "")
    calendar = {name: value for name in _CALENDAR if (value := row.get(name)) is not None}
    tenant = {
        "id": ids["organization_id"],
        "status": row.get("status", ACTIVE),
        "plan_id": "",
        "overrides_until": None,
        "plan": "default" if row.get("plan") is None else row["plan"],
        **limits,
        "plan_limits": limits,
        "limits_mode": ENFORCE,
        "calendar": UTC_CALENDAR.to_record() | calendar,
    }
    read = {"loaded_at": now, "version": row[_VERSION]}
    return {
        **ids,
        **{name: _seconds(name, row.get(name)) for name in _TIMES},
        **read,
        "permissions": row.get("permissions"),
        "hash": digest,
        "limits": _limits(row, "key_"),
        "tenant": tenant | read,
    }


def _id(row: Mapping[str, object], name: str) -> str:
    """uuid, integer or text as text."""
    value = row.get(name)
    return header_safe({name: str(value) if isinstance(value, UUID) or type(value) is int else value}, name)


def _limits(row: Mapping[str, object], prefix: str) -> dict[str, object]:
    limits = {name: row.get(prefix + name) for name in LIMIT_COLUMNS}
    return limits | {"rate": _rate(limits["rate"])}


def _rate(value: object) -> object:
    """A number is tokens per second, kept exactly; anything else stays."""
    if isinstance(value, Decimal):
        return format(value, "f")
    return str(value) if type(value) is int else value


def _seconds(name: str, value: object) -> float | None:
    if value is None:
        return None
    if not isinstance(value, datetime):
        raise ValueError(f"{name} must be a time")
    return value.timestamp()
