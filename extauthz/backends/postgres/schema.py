"""The version of the schema: which one this code knows, which one a database has, and the way from one to the other."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from time import time

import psycopg
from psycopg import errors as pg

from extauthz.backends.postgres.connection import PooledConnection, connect
from extauthz.backends.postgres.errors import translated
from extauthz.backends.postgres.pool import Pool
from extauthz.backends.postgres.queries import fetch
from extauthz.core.clock import certain_skew
from extauthz.core.errors import ExtauthzError, StoreUnavailable
from extauthz.core.ports import POSTGRESQL

KNOWN = "0005"
_MIGRATIONS = Path(__file__).parent / "migrations"
_ANSWER = 5.0  # seconds for each of our own statements
_PATIENCE = 2  # seconds that we wait for a table: whoever wants to read it waits behind us, checks too
# Since PostgreSQL 15 a user may make tables in `public` only where the database is its own.
_OWNER = "let the user in DATABASE_URL own the database and the tables in it: ALTER DATABASE … OWNER TO …"
_LOCK = 0x6578_7461  # one migration at a time: the key of an advisory lock, spelled "exta"


class SchemaUnknown(ExtauthzError):
    """The database has another version of the schema than this code knows."""

    def __init__(self, found: str | None) -> None:
        if found is None:
            text = "the database has no extauthz schema; run: extauthz migrate"
        elif found < KNOWN:
            text = f"the schema is at version {found}, this extauthz needs {KNOWN}; run: extauthz migrate"
        else:
            text = f"the schema is at version {found}, newer than the {KNOWN} this extauthz knows; upgrade extauthz"
        super().__init__(text)
        self.found = found


class MigrationFailed(ExtauthzError):
    """The database refused a migration, in its own words; everything is as it was."""

    def __init__(self, error: psycopg.Error) -> None:
        helps = f"; {_OWNER}" if isinstance(error, pg.InsufficientPrivilege) else ""
        super().__init__(f"the migration failed and changed nothing: {error.diag.message_primary or error}{helps}")


class TablesInUse(ExtauthzError):
    """Somebody holds a table that a migration changes; everything is as it was."""

    def __init__(self) -> None:
        super().__init__(
            "the migration changed nothing: somebody has an open transaction on a table that it changes; end it, or try"
            " again"
        )


@dataclass(frozen=True, slots=True)
class SchemaStatus:
    """`found` is None for a database without our schema."""

    found: str | None
    known: str

    @property
    def current(self) -> bool:
        """Whether this code can work with the database."""
        return self.found == self.known


async def check(pool: Pool) -> None:
    """Returns when the schema is the one this code knows. Raises SchemaUnknown, StoreUnavailable."""
    found = await _found(pool)
    if found != KNOWN:
        raise SchemaUnknown(found)


async def probe(pool: Pool) -> None:
    """Raises StoreUnavailable while PostgreSQL has no schema, or one that is too old.

    A newer one may come while we run: a release works on the schema of the next.
    """
    found = await _found(pool)
    if found is None or found < KNOWN:
        words, _, remedy = str(SchemaUnknown(found)).partition("; ")
        raise StoreUnavailable(POSTGRESQL, "schema", said=words, remedy=remedy)


async def _found(pool: Pool) -> str | None:
    asked_at = time()
    try:
        rows = await fetch(pool, "schema_version")
    except StoreUnavailable as error:
        if error.reason != "schema":
            raise
        return None
    if not rows:
        return None
    pool.clock_skew = certain_skew(asked_at, rows[0]["clock"], time())
    return str(rows[0]["version_num"])


async def status(dsn: str) -> SchemaStatus:
    """What the database has. Raises StoreUnavailable."""
    with translated():
        async with await connect(dsn, statement_timeout=_ANSWER) as connection:
            return await found_by(connection)


async def found_by(connection: PooledConnection) -> SchemaStatus:
    """What the database of a connection has. Raises what psycopg raises."""
    cursor = await connection.execute("SELECT to_regclass('alembic_version')::text AS found")
    row = await cursor.fetchone()
    if row is None or row["found"] is None:
        return SchemaStatus(None, KNOWN)
    version = await (await connection.execute("SELECT version_num FROM alembic_version")).fetchone()
    return SchemaStatus(version["version_num"] if version else None, KNOWN)


async def upgrade(dsn: str) -> SchemaStatus:
    """Brings the schema to the version that this code knows, in one transaction, one upgrade at a time.

    Raises StoreUnavailable, SchemaUnknown for a schema that is newer, TablesInUse, and MigrationFailed.
    """
    before = await status(dsn)
    if before.found is not None and before.found > KNOWN:
        raise SchemaUnknown(before.found)
    with translated():
        await asyncio.to_thread(_upgrade, dsn)
    return await status(dsn)


def _connected(dsn: str) -> "psycopg.Connection[tuple[object, ...]]":
    # No prepared statements: a pooler gives the next transaction to another process, which has none of them.
    return psycopg.connect(dsn, connect_timeout=5, prepare_threshold=None)


def _upgrade(dsn: str) -> None:
    from alembic import command
    from alembic.config import Config
    from sqlalchemy import NullPool, create_engine
    from sqlalchemy.exc import DBAPIError

    engine = create_engine("postgresql+psycopg://", creator=lambda: _connected(dsn), poolclass=NullPool)
    try:
        with engine.begin() as connection:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{_PATIENCE}s'")
            config = Config()
            config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except DBAPIError as error:
        cause = error.orig
        if isinstance(cause, pg.LockNotAvailable):
            raise TablesInUse from cause
        if isinstance(cause, psycopg.Error) and not isinstance(cause, psycopg.OperationalError):
            raise MigrationFailed(cause) from cause
        raise cause or error from None
