"""The schema: how a database gets it, and a service that starts too early or too late."""

import asyncio

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from extauthz.backends.postgres import migrate, schema
from extauthz.backends.postgres.inspection import RIGHTS
from extauthz.backends.postgres.pool import open_pool
from extauthz.core.errors import StoreUnavailable
from extauthz.demo.postgres import Postgres
from tests.servers.fixtures import new_database, stopped

TABLES = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
FUNCTIONS = "SELECT count(*) FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
WAITING = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"


def value(dsn: str, query: str) -> object:
    with psycopg.connect(dsn, autocommit=True) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


async def test_an_empty_database_is_brought_up_to_date_once(empty_database: str) -> None:
    """The first upgrade makes the schema and the plan `default`; the second changes nothing; the status says which."""
    before = await schema.status(empty_database)
    assert (before.found, before.current) == (None, False)
    for _ in range(2):
        after = await migrate.upgrade(empty_database)
        assert (after.found, after.known, after.current) == (schema.KNOWN, schema.KNOWN, True)
        assert after == await schema.status(empty_database)
        with psycopg.connect(empty_database) as connection:
            plans = connection.execute("SELECT name, rate, burst, daily_quota, monthly_quota FROM plans").fetchall()
        assert plans == [("default", "10/s", 20, 10_000, None)]


async def test_two_upgrades_at_once_come_one_after_the_other(empty_database: str) -> None:
    """Both succeed and the schema is made once: an upgrade waits for another that is under way."""
    async with await psycopg.AsyncConnection.connect(empty_database, autocommit=True) as first:
        await first.execute(f"SELECT pg_advisory_lock({migrate._LOCK})".encode())
        upgrades = [asyncio.create_task(migrate.upgrade(empty_database)) for _ in range(2)]
        async with asyncio.timeout(10):
            while await asyncio.to_thread(value, empty_database, WAITING) != 2:
                assert not any(upgrade.done() for upgrade in upgrades)
        assert value(empty_database, TABLES) == 0
    assert [status.current for status in await asyncio.gather(*upgrades)] == [True, True]
    assert value(empty_database, "SELECT count(*) FROM plans") == 1


@pytest.mark.parametrize(
    ("version", "words"),
    [
        (None, "the database has no extauthz schema; run: extauthz migrate"),
        ("0000", f"the schema is at version 0000, this extauthz needs {schema.KNOWN}; run: extauthz migrate"),
        ("9999", f"the schema is at version 9999, newer than the {schema.KNOWN} of this extauthz; upgrade extauthz"),
    ],
)
async def test_another_version_is_refused_with_a_remedy(empty_database: str, version: str | None, words: str) -> None:
    """A service refuses a schema of an unsupported version, and its error has the remedy."""
    if version is not None:
        with psycopg.connect(empty_database) as connection:
            connection.execute("CREATE TABLE alembic_version (version_num text)")
            connection.execute("INSERT INTO alembic_version VALUES (%s)", [version])
    async with open_pool(empty_database, size=1, wait=5, statement_timeout=5) as pool:
        with pytest.raises(schema.SchemaUnknown) as unknown:
            await schema.check(pool)
        assert str(unknown.value) == words
        assert unknown.value.found == version
        if version is None or version < schema.KNOWN:  # a running service goes on with a newer one
            with pytest.raises(StoreUnavailable) as away:
                await schema.probe(pool)
            assert (away.value.store, away.value.reason) == ("postgresql", "schema")


async def test_a_newer_schema_is_left_alone(database: str) -> None:
    """`migrate` of an older release does not touch the schema of a newer one."""
    with psycopg.connect(database) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(schema.SchemaUnknown, match="upgrade extauthz"):
        await migrate.upgrade(database)
    assert value(database, "SELECT version_num FROM alembic_version") == "9999"


async def test_the_known_schema_is_taken(database: str) -> None:
    """The version of this release is the newest migration, and a database that has it passes."""
    assert migrate.migrations()[-1].version == schema.KNOWN
    async with open_pool(database, size=1, wait=5, statement_timeout=5) as pool:
        await schema.check(pool)
        await schema.probe(pool)


# What releases before wrote: the last may still run while the first instances of this one do.
OF_0001 = """
    INSERT INTO plans (name, rate, burst, daily_quota, monthly_quota) VALUES ('gold', '5/s', 50, 1000, NULL);
    INSERT INTO organizations (name, plan_id) SELECT 'acme', p.id FROM plans p WHERE p.name = 'gold';
    INSERT INTO api_keys (organization_id, name, hash, pepper_id, handle, permissions, expires_at)
    SELECT id, 'ci', decode(repeat('01', 32), 'hex'), 'p1', 'xa_live_…abcd', '{"customer": ["read"]}', '2100-01-01Z'
    FROM organizations;
    INSERT INTO api_keys (organization_id, name, hash, pepper_id, handle, permissions, expires_at, revoked_at)
    SELECT id, 'old', decode(repeat('02', 32), 'hex'), 'p1', 'h', '{}', NULL, '2026-01-01Z' FROM organizations;
    UPDATE api_keys SET revoked_at = coalesce(revoked_at, now()) WHERE name = 'old';
    UPDATE organizations SET plan_id = plan_id, status = 'suspended', rate = '1/s', burst = 5;
    UPDATE plans SET rate = '6/s' WHERE name = 'gold';
"""
ALL = """SELECT array_agg(row ORDER BY row) FROM (
    SELECT (to_jsonb(p) - '{row_version,updated_at,hourly_quota}'::text[])::text FROM plans p
    UNION ALL SELECT (to_jsonb(o) - '{row_version,updated_at,timezone,anchor,overrides_until,limits,credits}'::text[]
                      - '{timezone_before,last_day,anchor_before,next_month,hourly_quota}'::text[])::text
              FROM organizations o
    UNION ALL SELECT (to_jsonb(k) - '{row_version,updated_at,metadata,rate,burst}'::text[]
                      - '{daily_quota,monthly_quota,hourly_quota,rotated_to,credits}'::text[])::text FROM api_keys k
) AS everything (row)"""


OF_KEYS = """SELECT DISTINCT metadata::text, rate, burst, daily_quota, monthly_quota, hourly_quota, rotated_to
    FROM api_keys"""
OF_ORGANIZATIONS = """SELECT timezone, anchor, overrides_until, limits, timezone_before, last_day, anchor_before,
    next_month FROM organizations"""


def old_version(dsn: str, version: str) -> None:
    """The schema as a release before made it."""
    with psycopg.connect(dsn) as connection:
        for file in sorted(migrate._FOLDER.glob("*.sql")):
            if file.name[:4] <= version:
                connection.execute(file.read_bytes())
        connection.execute("CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)")
        connection.execute("INSERT INTO alembic_version VALUES (%s)", [version])


@pytest.mark.parametrize("version", ["0001", "0002"])
async def test_an_upgrade_keeps_what_is_there(empty_database: str, version: str) -> None:
    """Every row of an earlier release is as it was, with empty new columns; later changes are logged."""
    old_version(empty_database, version)
    with psycopg.connect(empty_database) as connection:
        connection.execute(OF_0001.encode())
    before = value(empty_database, ALL)
    assert (await migrate.upgrade(empty_database)).current
    assert value(empty_database, ALL) == before
    assert value(empty_database, "SELECT count(*) FROM audit_log") == (0 if version == "0001" else 6)
    with psycopg.connect(empty_database) as connection:
        assert connection.execute(OF_KEYS.encode()).fetchall() == [("{}", None, None, None, None, None, None)]
        defaults = ("UTC", 1, None, "enforce", None, None, None, None)
        assert connection.execute(OF_ORGANIZATIONS.encode()).fetchall() == [defaults]
        connection.execute("UPDATE api_keys SET name = 'new' WHERE name = 'ci'")
    last = "SELECT diff::text FROM audit_log ORDER BY id DESC LIMIT 1"
    assert value(empty_database, last) == '{"name": ["ci", "new"]}'


async def test_an_upgrade_removes_ends_without_overrides(empty_database: str) -> None:
    """An end of overrides stays where there are some, and is removed where it would apply to later ones."""
    old_version(empty_database, "0003")
    with psycopg.connect(empty_database) as connection:
        connection.execute(
            "INSERT INTO organizations (name, plan_id, daily_quota, overrides_until)"
            " SELECT o.name, id, quota, '2100-01-01Z'"
            " FROM plans, (VALUES ('with', 7), ('without', NULL)) AS o (name, quota)"
        )
    assert (await migrate.upgrade(empty_database)).current
    with psycopg.connect(empty_database) as connection:
        found = connection.execute("SELECT name, overrides_until IS NULL FROM organizations ORDER BY name").fetchall()
    assert found == [("with", False), ("without", True)]


async def test_an_upgrade_numbers_the_audit_log(empty_database: str) -> None:
    """Entries from before get a number that keeps out reads without the change, and no read afterwards."""
    old_version(empty_database, "0002")
    with psycopg.connect(empty_database) as connection:
        connection.execute(OF_0001.encode())
        connection.execute("CREATE TABLE written AS SELECT pg_current_xact_id() AS by")
    assert (await migrate.upgrade(empty_database)).current
    safe = "SELECT bool_and(by <= xact AND xact < pg_snapshot_xmin(pg_current_snapshot())) FROM audit_log, written"
    assert value(empty_database, safe) is True


async def test_the_previous_release_writes_the_current_schema(database: str) -> None:
    """Its statements work as before, and are logged and notified like any other."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("LISTEN extauthz")
        connection.execute(OF_0001.encode())
        connection.execute("NOTIFY extauthz, 'now'")
        told = []
        for message in connection.notifies(timeout=10):
            if message.payload == "now":
                break
            told.append(message.payload)
        statuses = connection.execute("SELECT name, revoked_at::date::text FROM api_keys ORDER BY name").fetchall()
    assert statuses == [("ci", None), ("old", "2026-01-01")]
    assert sorted(line.split()[0] for line in told) == ["api_key", "api_key", "organization", "plan"]
    assert value(database, "SELECT count(*) FROM audit_log") == 6


async def test_a_role_that_lives_by_grants_keeps_working(empty_database: str) -> None:
    """What may keep usage of the release before may keep all that this one keeps, without another grant."""
    old_version(empty_database, "0006")
    name = f"keeper of {empty_database.rpartition('/')[2]}"
    role = Identifier(name)
    with psycopg.connect(empty_database, autocommit=True) as owner:
        owner.execute(SQL("CREATE ROLE {}").format(role))
        owner.execute(SQL("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {}").format(role))
        try:
            await migrate.upgrade(empty_database)
            lacking = [
                f"{right} on {table}"
                for table, rights in RIGHTS.items()
                for right in rights
                if owner.execute("SELECT has_table_privilege(%s, %s, %s)", (name, table, right)).fetchone() != (True,)
            ]
            assert lacking == []
        finally:
            owner.execute(SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(role))


async def test_a_schema_with_a_name_that_needs_quotes(empty_database: str) -> None:
    """The first schema of the search path gets the tables, whatever it is called."""
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute('CREATE SCHEMA "App x"')
    inside = f"{empty_database}?options=-csearch_path%3D%22App%5C%20x%22"
    assert (await migrate.upgrade(inside)).current
    assert value(empty_database, TABLES) == 0
    assert value(inside, "SELECT count(*) FROM plans") == 1


async def test_an_empty_table_of_the_version(empty_database: str) -> None:
    """Status, upgrade and script agree that nothing is there."""
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)")
        assert (await schema.status(empty_database)).found is None
        connection.execute(migrate.script(None).encode())
        assert (await migrate.upgrade(empty_database)).current


async def test_a_migration_that_fails_leaves_nothing_behind(empty_database: str) -> None:
    """Where an object is in the way, all that the migration did is undone, and it can be tried again."""
    with psycopg.connect(empty_database) as connection:
        connection.execute("CREATE TABLE api_keys (mine text)")
    with pytest.raises(migrate.MigrationFailed, match='changed nothing: relation "api_keys" already exists'):
        await migrate.upgrade(empty_database)
    assert (value(empty_database, TABLES), value(empty_database, FUNCTIONS)) == (1, 0)
    with psycopg.connect(empty_database) as connection:
        connection.execute("DROP TABLE api_keys")
    assert (await migrate.upgrade(empty_database)).current


async def test_a_migration_does_not_wait_while_others_wait_behind_it(empty_database: str) -> None:
    """Where an open transaction reads the tables it gives up soon, and says what to do; nothing is changed."""
    old_version(empty_database, "0002")
    async with await psycopg.AsyncConnection.connect(empty_database) as reader:
        await reader.execute("SELECT count(*) FROM organizations")
        async with asyncio.timeout(10):
            with pytest.raises(migrate.TablesInUse, match=r"open transaction .*; end it, or try again"):
                await migrate.upgrade(empty_database)
        assert value(empty_database, "SELECT version_num FROM alembic_version") == "0002"
    assert (await migrate.upgrade(empty_database)).current


async def test_a_database_that_cannot_be_reached(postgres_server: Postgres, database: str) -> None:
    """Without a server, the errors of `migrate` and `serve` are about the server, not the schema."""
    with stopped(postgres_server):
        for attempt in (schema.status(database), migrate.upgrade(database)):
            with pytest.raises(StoreUnavailable) as away:
                await attempt
            assert away.value.reason == "connection"


CATALOG = """SELECT string_agg(entry, chr(10) ORDER BY entry) FROM (
    SELECT 'column ' || format('%I.%I %s %s', c.relname, a.attname, format_type(a.atttypid, a.atttypmod),
                               pg_get_expr(d.adbin, d.adrelid))
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
    LEFT JOIN pg_attrdef d ON (d.adrelid, d.adnum) = (c.oid, a.attnum)
    WHERE c.relnamespace = 'public'::regnamespace AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL SELECT 'constraint ' || pg_get_constraintdef(oid) FROM pg_constraint
    WHERE connamespace = 'public'::regnamespace
    UNION ALL SELECT 'function ' || pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    UNION ALL SELECT 'trigger ' || pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
) AS catalog (entry)"""


@pytest.mark.parametrize("version", [None, "0001", "0004"])
async def test_the_script_does_what_an_upgrade_does(
    empty_database: str, postgres_server: Postgres, version: str | None
) -> None:
    """Run by hand on a database of its version, it makes the same schema; on any other it changes nothing."""
    with new_database(postgres_server) as other:
        for dsn in (empty_database, other):
            if version is not None:
                old_version(dsn, version)
        script = migrate.script(version)
        with psycopg.connect(other, autocommit=True) as connection:
            connection.execute(script.encode())
            with pytest.raises(psycopg.errors.RaiseException, match="this script is for a database"):
                connection.execute(script.encode())
            connection.rollback()
        assert (await migrate.upgrade(empty_database)).current
        assert await schema.status(other) == await schema.status(empty_database)
        assert value(other, CATALOG) == value(empty_database, CATALOG)
