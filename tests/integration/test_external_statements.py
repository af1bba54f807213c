"""`[keys] lookup_sql` on real PostgreSQL: what is refused at the start, and what fails later."""

from collections.abc import AsyncIterator

import pytest

from extauthz.backends.postgres import external_tables
from extauthz.backends.postgres.external_tables import LookupUnfit
from extauthz.backends.postgres.pool import Pool, open_pool
from extauthz.core.errors import StoreUnavailable
from extauthz.core.keys import ApiKey
from extauthz.demo.postgres import Postgres
from tests.servers.external_tables import SHA256, VALUE, find, run, sql
from tests.servers.fixtures import stopped

FITTING = "SELECT id, organization_id, permissions, expires_at FROM api_keys WHERE digest = %(sha256)s"


@pytest.fixture
async def pool(empty_database: str) -> AsyncIterator[Pool]:
    async with open_pool(empty_database, size=2, wait=5, statement_timeout=5) as opened:
        yield opened


@pytest.fixture
async def tables(pool: Pool) -> Pool:
    """A table with one key."""
    await run(
        pool,
        "CREATE TABLE api_keys (id integer, organization_id integer, permissions json, expires_at timestamptz,"
        " digest text, value text)",
    )
    await sql(pool, "INSERT INTO api_keys VALUES (7, 1, '{}', NULL, %s, %s)", SHA256, VALUE)
    return pool


@pytest.mark.parametrize(
    ("statement", "line"),
    [
        ("SELECT 1", "must have %(sha256)s, which becomes the hex SHA-256 of the key"),
        ("SELECT id FRM api_keys WHERE %(sha256)s", 'PostgreSQL says: syntax error at or near "api_keys"'),
        ("SELECT * FROM nowhere WHERE digest = %(sha256)s", 'PostgreSQL says: relation "nowhere" does not exist'),
        ("SELECT frob(%(sha256)s::text)", "PostgreSQL says: function frob(text) does not exist"),
        ("SELECT value FROM api_keys WHERE value = %(sha256)s OR value::int = 7", "cannot be run (InvalidTextRepr"),
        ("SELECT id FROM api_keys WHERE value = %(sha256)s AND value LIKE '%a'", "cannot be run (ProgrammingError)"),
        (FITTING.replace("%(sha256)s", "'%(sha256)s'"), "%(sha256)s must stand outside of quotes and comments"),
        (FITTING.replace("=", "<>"), "finds a row whatever the key is"),
        (
            "SELECT id, organization_id, value AS name, id FROM api_keys WHERE value = %(sha256)s",
            "has no column permissions, has no column expires_at, has an unknown column name, has two columns id",
        ),
        (
            "SELECT id, organization_id, value AS permissions, true AS revoked_at, current_date AS disabled_at,"
            " NULL AS expires_at FROM api_keys WHERE value = %(sha256)s",
            "its permissions are not json or jsonb, its revoked_at is not timestamptz or timestamp,"
            " its disabled_at is not timestamptz or timestamp",
        ),
        ("SELECT 1 AS extauthz_version, k.* FROM api_keys k WHERE value = %(sha256)s", "has an unknown column"),
    ],
)
async def test_a_statement_that_does_not_fit(tables: Pool, statement: str, line: str) -> None:
    """The fault of a statement is one line at the start, with neither the statement nor a value of a key."""
    with pytest.raises(LookupUnfit) as refused:
        await external_tables.check(tables, statement)
    assert str(refused.value).startswith(f"[keys] lookup_sql: {line}")
    assert str(refused.value).isprintable()
    assert "sesame" not in str(refused.value)
    assert refused.value.__cause__ is None


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO api_keys (value) VALUES (%(sha256)s) RETURNING *",
        "UPDATE api_keys SET value = %(sha256)s RETURNING *",
        "DELETE FROM api_keys WHERE value <> %(sha256)s RETURNING *",
        "WITH gone AS (DELETE FROM api_keys WHERE value <> %(sha256)s RETURNING *) SELECT * FROM gone",
        "SELECT * INTO copy FROM api_keys WHERE value <> %(sha256)s",
        "SELECT %(sha256)s; DELETE FROM api_keys; SELECT 1",
        "SELECT %(sha256)s) AS q; DELETE FROM api_keys; SELECT * FROM (SELECT 1",
        "SELECT %(sha256)s) AS q; DELETE FROM api_keys; --",
    ],
)
async def test_a_statement_can_only_read(tables: Pool, statement: str) -> None:
    """A statement that changes data is refused, at the start and later, and has changed nothing."""
    with pytest.raises(LookupUnfit):
        await external_tables.check(tables, statement)
    with pytest.raises(StoreUnavailable):
        await find(tables, statement, VALUE)
    async with tables.connection() as connection:
        rows = await (await connection.execute("SELECT value, to_regclass('copy') AS copy FROM api_keys")).fetchall()
    assert rows == [{"value": VALUE, "copy": None}]


async def test_ways_of_writing_a_statement(tables: Pool) -> None:
    """A semicolon or a comment at the end, a doubled percent sign and `WITH` are all right."""
    for statement in (
        FITTING.strip() + ";\n",
        FITTING.strip() + " -- the key",
        FITTING + " AND value LIKE '%%sesame%%'",
        f"WITH known AS ({FITTING}) SELECT * FROM known",
    ):
        await external_tables.check(tables, statement)
        (found,) = await find(tables, statement, VALUE)
        assert isinstance(found, ApiKey)


async def reasons(pool: Pool, statement: str) -> tuple[str, str]:
    """Why a look-up and the probe say that the store is away."""
    with pytest.raises(StoreUnavailable) as not_found:
        await find(pool, statement, VALUE)
    with pytest.raises(StoreUnavailable) as not_seen:
        await external_tables.probe(pool, statement)
    return not_found.value.reason, not_seen.value.reason


async def test_a_table_that_changes_while_the_service_runs(tables: Pool) -> None:
    """A new column causes no outage, although it stops the next start; a missing table does until it is back."""
    await run(tables, "ALTER TABLE api_keys ADD COLUMN colour text")
    everything = "SELECT * FROM api_keys WHERE digest = %(sha256)s"
    await external_tables.probe(tables, everything)
    (found,) = await find(tables, everything, VALUE)
    assert isinstance(found, ApiKey)
    with pytest.raises(LookupUnfit, match="has an unknown column colour"):
        await external_tables.check(tables, everything)
    await run(tables, "ALTER TABLE api_keys RENAME TO elsewhere")
    assert await reasons(tables, FITTING) == ("schema", "schema")
    await run(tables, "ALTER TABLE elsewhere RENAME TO api_keys")
    await external_tables.probe(tables, FITTING)
    await run(tables, "ALTER TABLE api_keys RENAME expires_at TO ends_at")
    with pytest.raises(StoreUnavailable, match="schema"):
        await external_tables.probe(tables, everything)


async def test_a_server_that_is_away(tables: Pool, postgres_server: Postgres, empty_database: str) -> None:
    """A server that is stopped is away, for the start, the probe and a look-up alike, not a wrong statement."""
    async with open_pool(empty_database, size=1, wait=0.3, statement_timeout=0.2) as hasty:
        async with tables.connection() as connection, connection.transaction():
            await connection.execute("LOCK TABLE api_keys")
            assert await reasons(hasty, FITTING) == ("timeout", "timeout")
        with stopped(postgres_server):
            assert await reasons(hasty, FITTING) == ("connection", "connection")
            with pytest.raises(StoreUnavailable):
                await external_tables.check(hasty, FITTING)
