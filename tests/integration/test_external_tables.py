"""Keys in tables of another application on real PostgreSQL, set up as docs/howto/bring-your-own-tables.md says."""

import asyncio
import re
import tomllib
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import psycopg
import pytest

from extauthz.backends.postgres import external_tables
from extauthz.backends.postgres.external_tables import LookupUnfit
from extauthz.backends.postgres.pool import Pool, open_pool
from extauthz.config import load
from extauthz.core.changes import CHANNEL, parse_change
from extauthz.core.keys import ApiKey
from extauthz.core.limits import Limits, Rate
from extauthz.core.tenants import Tenant
from tests.servers.external_tables import FORMAT, NOW, SHA256, VALUE, find, run, sql

ACME = UUID("00000000-0000-4000-8000-00000000000a")
KEY_ID = UUID("00000000-0000-4000-8000-000000000001")
EXAMPLES = Path(__file__).parents[2] / "docs" / "howto" / "bring-your-own-tables.md"
LAGO_TABLES = """
CREATE TABLE organizations (id uuid PRIMARY KEY, name text);
CREATE TABLE api_keys (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), value text, organization_id uuid,
                       permissions jsonb, expires_at timestamp, last_used_at timestamp);
"""


def blocks(title: str, language: str) -> list[str]:
    """The blocks of a language below the heading of the documentation that begins with `title`."""
    (section,) = [text for text in re.split(r"^##+ ", EXAMPLES.read_text(), flags=re.M) if text.startswith(title)]
    return re.findall(rf"^```{language}\n(.*?)^```", section, re.M | re.S)


def lookup_sql(title: str) -> str:
    (toml,) = blocks(title, "toml")
    statement: str = tomllib.loads(toml)["keys"]["lookup_sql"]
    return statement


TELL = "Tell extauthz"
LAGO, RAILS, VIEW = "Example: Lago", "Example: a Rails", "Without the right"
LAGO_SQL = lookup_sql(LAGO)


@pytest.fixture
async def pool(empty_database: str) -> AsyncIterator[Pool]:
    async with open_pool(empty_database, size=2, wait=5, statement_timeout=5) as opened:
        yield opened


@pytest.fixture
async def lago(pool: Pool) -> Pool:
    """Tables like Lago's, with one organization that has one key, and all that the documentation adds."""
    await run(pool, LAGO_TABLES, *blocks(TELL, "sql"), *blocks(LAGO, "sql"))
    await sql(pool, "INSERT INTO organizations VALUES (%s, 'acme')", ACME)
    await sql(
        pool,
        """INSERT INTO api_keys VALUES (%s, %s, %s, '{"customer": ["read"]}', '2100-01-01 00:00:00.5')""",
        KEY_ID,
        VALUE,
        ACME,
    )
    return pool


async def test_lago_keys_are_found(lago: Pool) -> None:
    """With the documentation's statement a key in clear text is found by its SHA-256, with limits; another is not."""
    await external_tables.check(lago, LAGO_SQL)
    await external_tables.probe(lago, LAGO_SQL)
    other, found = await find(lago, LAGO_SQL, "another-key-of-theirs", VALUE)
    assert other is None
    assert isinstance(found, ApiKey)
    limits = Limits(rate=Rate(100, 60), burst=100)
    assert found == ApiKey(
        id=str(KEY_ID),
        organization_id=str(ACME),
        permissions={"customer": frozenset({"read"})},
        expires_at=4102444800.5,
        revoked_at=None,
        disabled_at=None,
        loaded_at=NOW,
        version=found.version,
        tenant=Tenant(str(ACME), "default", "active", limits, NOW, found.version, plan_limits=limits),
        digest=FORMAT.digest(VALUE).digests[0],
    )
    assert ApiKey.from_record(found.to_record()) == found


@pytest.mark.parametrize("through_a_view", [False, True])
async def test_the_index_serves_the_look_up(lago: Pool, through_a_view: bool) -> None:
    """Among many keys the documentation's index is used, also inside the wrapping statement and through the view."""
    await run(
        lago,
        "INSERT INTO api_keys (value, organization_id) SELECT gen_random_uuid()::text, id"
        " FROM organizations, generate_series(1, 5000)",
        "ANALYZE api_keys",
        blocks(VIEW, "sql")[0].partition("CREATE ROLE")[0],
    )
    statement = lookup_sql(VIEW) if through_a_view else LAGO_SQL
    async with lago.connection() as connection:
        wrapped = f"EXPLAIN SELECT q.* FROM (\n{statement}\n) AS q LIMIT 2"
        rows = await (await connection.execute(wrapped.encode(), {"sha256": SHA256})).fetchall()
    assert any("api_keys_extauthz_sha256" in row["QUERY PLAN"] for row in rows), rows
    (found,) = await find(lago, statement, VALUE)
    assert isinstance(found, ApiKey)


async def test_a_role_without_the_keys(lago: Pool, empty_database: str) -> None:
    """The role of the documentation finds keys through the view, and can read no value of one."""
    await run(lago, *blocks(VIEW, "sql"))
    dsn = empty_database.replace("extauthz@", "extauthz_reader@")
    try:
        async with open_pool(dsn, size=1, wait=5, statement_timeout=5) as pool:
            await external_tables.check(pool, lookup_sql(VIEW))
            (found,) = await find(pool, lookup_sql(VIEW), VALUE)
            assert isinstance(found, ApiKey)
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await run(pool, "SELECT value FROM api_keys")
            with pytest.raises(LookupUnfit, match="PostgreSQL says: permission denied for table api_keys"):
                await external_tables.check(pool, LAGO_SQL)
    finally:
        await run(lago, "DROP OWNED BY extauthz_reader", "DROP ROLE extauthz_reader")


async def told(pool: Pool, dsn: str, *statements: str) -> list[str]:
    """The payloads that a listener receives of statements, each a transaction of its own."""
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as listener:
        await listener.execute(f"LISTEN {CHANNEL}".encode())
        await run(pool, *statements, f"NOTIFY {CHANNEL}, 'end'")
        heard = []
        async with asyncio.timeout(10):
            async for message in listener.notifies():
                if message.payload == "end":
                    break
                heard.append(message.payload)
    return heard


async def test_every_change_is_notified_by_id(lago: Pool, empty_database: str) -> None:
    """Revocations, deletions and other changes in SQL send the row's id and a fence that later reads pass, no value."""
    (before,) = await find(lago, LAGO_SQL, VALUE)
    assert isinstance(before, ApiKey)
    messages = await told(
        lago,
        empty_database,
        "UPDATE api_keys SET expires_at = now() AT TIME ZONE 'UTC'",
        "UPDATE api_keys SET permissions = '{}'",
        "UPDATE api_keys SET last_used_at = now()",
        "UPDATE organizations SET name = 'umbrella'",
        "DELETE FROM api_keys",
        f"INSERT INTO api_keys VALUES ('{KEY_ID}', '{VALUE}', '{ACME}', '{{}}', NULL)",
        "DELETE FROM organizations",
    )
    kinds = ["api_key", "api_key", "organization", "api_key", "api_key", "organization"]
    changes = [parse_change(message) for message in messages]
    assert [change and change.thing for change in changes] == [
        (kind, str(KEY_ID if kind == "api_key" else ACME)) for kind in kinds
    ]
    assert "sesame" not in "".join(messages)
    (after,) = await find(lago, LAGO_SQL, VALUE)
    assert isinstance(after, ApiKey)
    assert all(change is not None and before.version < change.fence <= after.version for change in changes)


async def test_a_rails_application(pool: Pool, empty_database: str) -> None:
    """The example with digests: limits, plan and status come from the organization, ids are numbers."""
    tables, additions = blocks(RAILS, "sql")
    statement = lookup_sql(RAILS)
    await run(pool, *blocks(TELL, "sql"), tables, additions)
    await external_tables.check(pool, statement)
    await run(
        pool,
        "INSERT INTO organizations (name, plan, requests_per_minute)"
        " VALUES ('acme', 'gold', 600), ('free', NULL, NULL)",
        f"INSERT INTO api_keys (organization_id, token_digest) VALUES (1, '{SHA256}')",
    )
    (found,) = await find(pool, statement, VALUE)
    assert isinstance(found, ApiKey)
    assert (found.id, found.organization_id, found.expires_at, found.tenant.plan) == ("1", "1", None, "gold")
    assert found.permissions == {"*": {"read", "write"}}
    assert found.tenant.limits == Limits(rate=Rate(600, 60), burst=600)
    heard = await told(
        pool,
        empty_database,
        "UPDATE api_keys SET revoked_at = now(), read_only = true",
        "UPDATE organizations SET suspended_at = now() WHERE id = 1",
        "UPDATE api_keys SET last_used_at = now()",
    )
    assert [message.rpartition(" ")[0] for message in heard] == ["api_key 1", "organization 1"]
    (found,) = await find(pool, statement, VALUE)
    assert isinstance(found, ApiKey)
    assert (found.admits(NOW), found.tenant.suspended, found.permissions) == (False, True, {"*": frozenset({"read"})})
    await run(pool, "UPDATE api_keys SET organization_id = 2")
    (found,) = await find(pool, statement, VALUE)
    assert isinstance(found, ApiKey)
    assert (found.tenant.plan, found.tenant.limits, found.tenant.suspended) == ("default", Limits(), False)


def test_every_example_can_be_configured(tmp_path: Path) -> None:
    """Each TOML block of the documentation is a configuration that loads."""
    everywhere = re.findall(r"^```toml\n(.*?)^```", EXAMPLES.read_text(), re.M | re.S)
    assert len(everywhere) == 4
    for toml in everywhere:
        (tmp_path / "extauthz.toml").write_text(toml)
        assert load({}, tmp_path / "extauthz.toml", needs=()).lookup_sql == tomllib.loads(toml)["keys"]["lookup_sql"]
