"""The version of the schema: which one this code needs, and which one a database has."""

from dataclasses import dataclass
from time import time

from extauthz.backends.postgres.connection import PooledConnection, connect
from extauthz.backends.postgres.errors import translated
from extauthz.backends.postgres.pool import Pool
from extauthz.backends.postgres.queries import fetch
from extauthz.core.clock import certain_skew
from extauthz.core.errors import ExtauthzError, StoreUnavailable
from extauthz.core.ports import POSTGRESQL

KNOWN = "0007"
_ANSWER = 5.0  # seconds for each of our own statements


class SchemaUnknown(ExtauthzError):
    """The database has another version of the schema than this code needs."""

    def __init__(self, found: str | None) -> None:
        if found is None:
            text = "the database has no extauthz schema; run: extauthz migrate"
        elif found < KNOWN:
            text = f"the schema is at version {found}, this extauthz needs {KNOWN}; run: extauthz migrate"
        else:
            text = f"the schema is at version {found}, newer than the {KNOWN} of this extauthz; upgrade extauthz"
        super().__init__(text)
        self.found = found


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
    """Returns where the schema is the one this code needs. Raises SchemaUnknown, StoreUnavailable."""
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
