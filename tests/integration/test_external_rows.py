"""Rows of external tables, on real PostgreSQL: what each column may hold, and what a corrupt value causes."""

from collections.abc import AsyncIterator
from hashlib import sha256

import pytest

from extauthz.backends.postgres import external_tables
from extauthz.backends.postgres.pool import Pool, open_pool
from extauthz.core.calendar import Calendar
from extauthz.core.errors import StoreCorrupt
from extauthz.core.keys import ApiKey
from extauthz.core.limits import Limits, Rate
from tests.servers.external_tables import NOW, SHA256, VALUE, find, run, sql

LOOSE = """
SELECT id, organization_id, permissions, expires_at, revoked_at, disabled_at, status, plan, rate, burst, daily_quota,
       timezone, anchor, key_rate, key_burst, key_daily_quota, key_monthly_quota
FROM loose WHERE digest = %(sha256)s
"""


@pytest.fixture
async def pool(empty_database: str) -> AsyncIterator[Pool]:
    async with open_pool(empty_database, size=2, wait=5, statement_timeout=5) as opened:
        yield opened


@pytest.fixture
async def loose(pool: Pool) -> Pool:
    """A table without constraints, with a valid key beside the one that a test makes."""
    await run(
        pool,
        """CREATE TABLE loose (digest text, id text DEFAULT 'k', organization_id text DEFAULT 'o',
           permissions jsonb DEFAULT '{}', expires_at timestamp, revoked_at timestamptz, disabled_at timestamptz,
           status text DEFAULT 'active', plan text, rate text, burst bigint, daily_quota numeric, timezone text,
           anchor integer, key_rate text, key_burst bigint, key_daily_quota bigint, key_monthly_quota bigint)""",
    )
    await sql(pool, "INSERT INTO loose VALUES (%s)", SHA256)
    await sql(pool, "INSERT INTO loose VALUES (%s)", sha256(b"the-other-key-there").hexdigest())
    return pool


@pytest.mark.parametrize(
    ("column", "value", "what"),
    [
        ("id", "", "a key: id must be printable ASCII"),
        ("id", "sesame\r\nx: y", "a key: id must be printable ASCII"),
        ("organization_id", "é", "key k: organization_id must be printable ASCII"),
        ("organization_id", None, "key k: organization_id must be printable ASCII"),
        ("permissions", '["sesame"]', "key k: permissions must be an object"),
        ("permissions", '{"customer": ["sesame"]}', "key k: permissions hold modes"),
        ("permissions", "[" * 5000 + "]" * 5000, "key k: permissions must be an object"),
        ("permissions", None, "key k: permissions must be an object"),
        ("expires_at", "-infinity", "key k: expires_at must be a time"),
        ("expires_at", "4713-01-01 BC", "key k: expires_at must be a time"),
        ("revoked_at", "-infinity", "key k: revoked_at must be a time"),
        ("status", "sesame", "key k: status must be active or suspended"),
        ("status", None, "key k: status must be active or suspended"),
        ("plan", "", "key k: plan must be printable ASCII"),
        ("rate", "sesame", "key k: rate and burst go together"),
        ("burst", 7, "key k: rate and burst go together"),
        ("daily_quota", 0.5, "key k: daily_quota must be a whole number"),
        ("timezone", "sesame", "key k: timezone must be a time zone"),
        ("timezone", "", "key k: timezone must be a time zone"),
        ("anchor", 0, "key k: anchor must be a day from 1 to 31"),
        ("anchor", 32, "key k: anchor must be a day from 1 to 31"),
        ("key_rate", "sesame", "key k: rate and burst go together"),
        ("key_burst", 7, "key k: rate and burst go together"),
        ("key_daily_quota", -1, "key k: daily_quota must be a whole number"),
    ],
)
async def test_a_corrupt_row(loose: Pool, column: str, value: object, what: str) -> None:
    """A corrupt row denies its key alone, by name, without repeating its values."""
    await external_tables.check(loose, LOOSE)
    await sql(loose, f"UPDATE loose SET {column} = %s WHERE digest = %s", value, SHA256)
    bad, good = await find(loose, LOOSE, VALUE, "the-other-key-there")
    assert isinstance(bad, StoreCorrupt)
    assert bad.what.startswith(what)
    assert "sesame" not in bad.what
    assert isinstance(good, ApiKey)


@pytest.mark.parametrize(
    ("column", "expression"),
    [
        ("expires_at", "WHEN id = 'k' THEN (id || 'sesame')::timestamp"),
        ("permissions", "WHEN id = 'k' THEN (id || 'sesame')::jsonb ELSE '{}'"),
        ("burst", "WHEN id = 'k' THEN 1 / (length(id) - 1)"),
        ("plan", "WHEN id = 'k' THEN (SELECT 'sesame' FROM loose)"),
        ("plan", "WHEN id = 'k' THEN refuse(id)"),
        ("plan", "WHEN id = 'k' THEN 'infinity'::date"),
    ],
)
async def test_a_row_that_cannot_be_read(loose: Pool, column: str, expression: str) -> None:
    """An error of one row, in PostgreSQL or in Python, denies that key alone and does not count as an outage."""
    await run(
        loose,
        """CREATE FUNCTION refuse(text) RETURNS text LANGUAGE plpgsql AS
           $$ BEGIN RAISE EXCEPTION 'sesame %', $1; END $$""",
    )
    statement = LOOSE.replace(column, f"CASE {expression} END AS {column}", 1)
    await sql(loose, "UPDATE loose SET id = 'fine' WHERE digest <> %s", SHA256)
    await external_tables.check(loose, statement)
    bad, good = await find(loose, statement, VALUE, "the-other-key-there")
    assert isinstance(bad, StoreCorrupt)
    assert "sesame" not in str(bad)
    assert isinstance(good, ApiKey)


async def test_two_rows_for_one_key(loose: Pool) -> None:
    """A key with two rows is denied, and both are named; other keys are as they were."""
    await sql(loose, "INSERT INTO loose (digest, id) VALUES (%s, 'l')", SHA256)
    bad, good = await find(loose, LOOSE, VALUE, "the-other-key-there")
    assert isinstance(bad, StoreCorrupt)
    assert bad.what == "key k and key l are one: two rows for it"
    assert isinstance(good, ApiKey)


@pytest.mark.parametrize(
    ("change", "admitted"),
    [
        ("expires_at = 'infinity'", True),
        ("expires_at = '20000-01-01'", True),
        ("expires_at = '2026-01-01'", False),
        ("expires_at = '2030-01-01', disabled_at = '2026-01-01'", False),
        ("revoked_at = 'infinity'", False),
    ],
)
async def test_times(loose: Pool, change: str, admitted: bool) -> None:
    """Times are as in PostgreSQL, those without zone in UTC, whatever the zone of the database."""
    await run(loose, f"UPDATE loose SET {change}")
    (found,) = await find(loose, LOOSE, VALUE)
    assert isinstance(found, ApiKey)
    assert found.admits(NOW) is admitted


async def test_a_rate_may_be_a_number(loose: Pool) -> None:
    """Integers and numerics are tokens per second, exactly."""
    for expression, rate in (("5", Rate(5, 1)), ("0.50", Rate(1, 2)), ("'9/h'", Rate(9, 3600))):
        statement = LOOSE.replace("rate, burst", f"{expression} AS rate, 3 AS burst")
        (found,) = await find(loose, statement, VALUE)
        assert isinstance(found, ApiKey)
        assert found.tenant.limits.rate == rate


async def test_calendars_and_limits_of_a_key(loose: Pool) -> None:
    """Zone and anchor are the organization's, limits with `key_` the key's own; all that is null is as without it."""
    (found,) = await find(loose, LOOSE, VALUE)
    assert isinstance(found, ApiKey)
    assert (found.limits, found.tenant.limits, found.tenant.calendar) == (Limits(), Limits(), Calendar())
    await run(
        loose,
        "UPDATE loose SET timezone = 'Asia/Tokyo', anchor = 31, rate = '9/s', burst = 9, key_rate = '1/min',"
        " key_burst = 5, key_daily_quota = 0, key_monthly_quota = 7",
    )
    (found,) = await find(loose, LOOSE, VALUE)
    assert isinstance(found, ApiKey)
    assert found.limits == Limits(Rate(1, 60), 5, 0, 7)
    assert found.tenant.limits == found.tenant.plan_limits == Limits(Rate(9, 1), 9)
    assert (found.tenant.calendar, found.tenant.shadow) == (Calendar("Asia/Tokyo", 31), False)
    (found,) = await find(loose, LOOSE.replace("key_rate, key_burst", "0.5 AS key_rate, 2 AS key_burst"), VALUE)
    assert isinstance(found, ApiKey)
    assert found.limits.rate == Rate(1, 2)
