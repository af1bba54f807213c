"""Migrations: SQL files in the order of their names, run in one transaction, or written out to be read first."""

from pathlib import Path
from typing import NamedTuple

import psycopg
from psycopg import errors as pg

from extauthz.backends.postgres.errors import translated
from extauthz.backends.postgres.schema import KNOWN, SchemaStatus, SchemaUnknown, status
from extauthz.core.errors import ExtauthzError

_FOLDER = Path(__file__).parent / "migrations"
_CONNECT_TIMEOUT_SECONDS = 5
_LOCK_TIMEOUT_SECONDS = 2  # for a table: what wants to read it waits behind us, checks too
_LOCK = 0x6578_7461  # one migration at a time: the key of an advisory lock, spelled "exta"
# Since PostgreSQL 15 a user may make tables in `public` only where the database is its own.
_OWNER = "let the user in DATABASE_URL own the database and the tables in it: ALTER DATABASE … OWNER TO …"

# The table keeps the name that the first releases gave it, so that each can read the version of the others.
_NEW_TABLE = "CREATE TABLE IF NOT EXISTS alembic_version (version_num varchar(32) PRIMARY KEY)"
_GUARD = """DO $guard$
DECLARE
    found text;
BEGIN
    IF to_regclass('alembic_version') IS NOT NULL THEN
        EXECUTE 'SELECT version_num FROM alembic_version' INTO found;
    END IF;
    IF found IS DISTINCT FROM {version} THEN
        RAISE EXCEPTION 'this script is for a database {of}';
    END IF;
END $guard$;"""


class MigrationFailed(ExtauthzError):
    """The database refused a migration, in its own words; everything is as it was."""

    def __init__(self, error: psycopg.Error) -> None:
        helps = f"; {_OWNER}" if isinstance(error, pg.InsufficientPrivilege) else ""
        super().__init__(f"the migration failed and changed nothing: {error.diag.message_primary or error}{helps}")


class TablesInUse(ExtauthzError):
    """Another transaction holds a table that a migration changes; everything is as it was."""

    def __init__(self) -> None:
        super().__init__(
            "the migration changed nothing: an open transaction holds a table that it changes; end it, or try again"
        )


class Migration(NamedTuple):
    """One file: the version that it leads to, its name, and its statements."""

    version: str
    name: str
    sql: str


def migrations(found: str | None = None) -> list[Migration]:
    """The migrations behind a version, oldest first; None: all of them."""
    files = [(path.name[:4], path) for path in sorted(_FOLDER.glob("*.sql"))]
    return [
        Migration(version, path.name, path.read_text("utf-8")) for version, path in files if version > (found or "")
    ]


def script(found: str | None) -> str:
    """What `upgrade` would run on a database of a version (None: without our schema), as one transaction for psql."""
    if found == KNOWN:
        return f"-- The schema is up to date: {KNOWN}.\n"
    parts = [
        f"-- extauthz: from {found or 'nothing'} to {KNOWN}, all or nothing.",
        "BEGIN;",
        *(f"{statement};" for statement in _preparation()),
        _guard(found),
        *(f"\n-- {migration.name}\n\n{migration.sql.strip()}" for migration in migrations(found)),
        "",
        *(f"{statement};" for statement in _version_statements(found)),
        "COMMIT;",
    ]
    return "\n".join(parts) + "\n"


async def upgrade(dsn: str) -> SchemaStatus:
    """Brings the schema to the version that this code needs, in one transaction, one upgrade at a time.

    Raises StoreUnavailable, SchemaUnknown for a schema that is newer, TablesInUse, and MigrationFailed.
    """
    before = await status(dsn)
    if before.found is not None and before.found > KNOWN:
        raise SchemaUnknown(before.found)
    with translated():
        try:
            await _upgrade(dsn)
        except pg.LockNotAvailable as error:
            raise TablesInUse from error
        except psycopg.OperationalError:
            raise
        except psycopg.Error as error:
            raise MigrationFailed(error) from error
    return await status(dsn)


async def _upgrade(dsn: str) -> None:
    # No prepared statements: a pooler gives the next transaction to another process, which has none of them.
    connection = await psycopg.AsyncConnection.connect(
        dsn, connect_timeout=_CONNECT_TIMEOUT_SECONDS, prepare_threshold=None
    )
    async with connection:
        for statement in _preparation():
            await connection.execute(statement.encode())
        found = await _found(connection)  # another upgrade may have ended while this one waited
        if found == KNOWN:
            return
        for migration in migrations(found):
            await connection.execute(migration.sql.encode())
        for statement in _version_statements(found):
            await connection.execute(statement.encode())


async def _found(connection: "psycopg.AsyncConnection[tuple[object, ...]]") -> str | None:
    cursor = await connection.execute(b"SELECT to_regclass('alembic_version') IS NOT NULL")
    if await cursor.fetchone() != (True,):
        return None
    cursor = await connection.execute(b"SELECT version_num FROM alembic_version")
    row = await cursor.fetchone()
    return None if row is None else str(row[0])


def _preparation() -> list[str]:
    return [f"SELECT pg_advisory_xact_lock({_LOCK})", f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT_SECONDS}s'"]


def _guard(found: str | None) -> str:
    """What ends the script where the database has another version than it was written for."""
    if found is None:
        return _GUARD.format(version="NULL", of="without a schema of extauthz")
    return _GUARD.format(version=f"'{found}'", of=f"of version {found}")


def _version_statements(found: str | None) -> list[str]:
    if found is None:
        return [_NEW_TABLE, f"INSERT INTO alembic_version VALUES ('{KNOWN}')"]  # noqa: S608 - our own version
    return [f"UPDATE alembic_version SET version_num = '{KNOWN}'"]  # noqa: S608 - as above
