"""What the tables refuse, for every writer: each line of the tables below is one mistake of a user or a program."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from psycopg import errors as pg

from extauthz.core.limits import Rate
from extauthz.demo.postgres import Postgres
from tests.servers.fixtures import new_database

KEY: dict[str, object] = {
    "organization_id": "11111111-1111-1111-1111-111111111111",
    "hash": b"\x01" * 32,
    "pepper_id": "p1",
    "handle": "xa_live_…abcd",
    "permissions": '{"customer": ["read"]}',
}
ORGANIZATION: dict[str, object] = {"name": "umbrella", "plan_id": "22222222-2222-2222-2222-222222222222"}
KEYS_OWN: dict[str, object] = {"rate": "10/s", "burst": 20}
PLAN: dict[str, object] = {"name": "gold", "rate": "10/s", "burst": 20}
USAGE: dict[str, object] = {
    "organization_id": KEY["organization_id"],
    "api_key_id": KEY["organization_id"],
    "day": "2026-11-22",
}
COUNTS = ("allowed", "cost", "rate_limited", "over_quota", "revision")
EVENT: dict[str, object] = {
    "organization_id": KEY["organization_id"],
    "quota": "daily",
    "window_start": "2026-11-22",
    "threshold": 80,
    "used": 80,
    "limit": 100,
}
CREDITS: dict[str, object] = {
    "organization_id": KEY["organization_id"],
    "api_key_id": KEY["organization_id"],
    "used": 0,
}
ROWS: dict[str, dict[str, object]] = {
    "api_keys": KEY | KEYS_OWN,
    "organizations": ORGANIZATION,
    "plans": PLAN,
    "usage_daily": USAGE,
    "quota_events": EVENT,
    "credits_used": CREDITS,
}

BAD_RATES = [
    *("", " ", "0", "0/s", "0.0", "0.000/s", "-1", "+1", "1e3", "nan", "inf", "banana", ".5", "1.", "1,5", "0x10"),
    *("1/", "/s", "1/m", "1/S", "1//s", "10/s/s", "10 /s", "10/s ", " 10/s", "10/s\n", "10\n/s", "\u0663", "\u00bd"),
    *("1.2345", "1.234/min", "1.23/d", "999999999999999", "1000000001", "1000000000.001"),
    *("60000000001/min", "3600000000001/h", "86400000000001/d"),
]
GOOD_RATES = [
    *("0.001", "1", "10", "10/s", "0.5/s", "100/min", "0.01/min", "0.01/h", "1/d", "0.1/d", "1000000000"),
    *("999999999.999", "60000000000/min", "3600000000000/h", "86400000000000/d"),
]

BAD_PERMISSIONS = [
    *("[]", "null", '"read"', "1", "true", '["read"]'),
    *('{"customer": "read"}', '{"customer": null}', '{"customer": {"read": true}}', '{"customer": 1}'),
    *('{"customer": ["admin"]}', '{"customer": ["Read"]}', '{"customer": ["read", null]}', '{"customer": [["read"]]}'),
    *('{"customer": [{}]}', '{"customer": [""]}', '{"customer": ["read "]}', '{"customer": {"deep": ["read"]}}'),
    *('{"": ["read"]}', '{"a b": ["read"]}', '{"a/b": ["read"]}', '{"**": ["read"]}', '{"*a": ["read"]}'),
    *('{"customer\\n": ["read"]}', '{"caf\u00e9": ["read"]}', '{"a.b": []}', f'{{"{"a" * 65}": ["read"]}}'),
    *('{"good": ["read"], "bad": ["all"]}', '{"{resource}": ["read"]}'),
]
GOOD_PERMISSIONS = [
    *("{}", '{"customer": []}', '{"*": ["read", "write"]}', '{"customer": ["write", "read", "read"]}'),
    f'{{"{"a" * 64}": ["read"], "A-_9": ["write"]}}',
]
CONTROLS = ["a\x01", "a\nb", "\ta", "a\x1b[31m", "a\x7f", "a\u0085", "a\u009b2J"]
BAD_PLAN_NAMES = ["", " ", "a ", " a", "-a", ".a", "a/b", "a,b", "café", "a" * 65, *CONTROLS]
BAD_ORGANIZATION_NAMES = ["", " ", "a ", " a", "a" * 256, *CONTROLS]
IDS = ["11111111-1111-1111-1111-111111111111", "ABCDEFAB-0000-0000-0000-abcdefabcdef"]

BAD_LIMITS: dict[str, list[object]] = {
    "rate": [*BAD_RATES],
    "burst": [0, -1, 10**9 + 1],
    "daily_quota": [-1, 10**12 + 1],
    "monthly_quota": [-1, 10**12 + 1],
}

BAD_METADATA = [
    *("[]", "null", '"a"', "1", '{"a": 1}', '{"a": null}', '{"a": []}', '{"a": {"b": "c"}}', '{"": "a"}'),
    *(f'{{"{"a" * 65}": "b"}}', f'{{"a": "{"b" * 501}"}}', json.dumps({str(number): "" for number in range(51)})),
]
GOOD_METADATA = [
    *("{}", '{"a": ""}', f'{{"{"é" * 64}": "{"✓" * 500}"}}', json.dumps({str(number): "" for number in range(50)})),
]

BAD_TIMEZONES = [
    *(
        "",
        " ",
        "europe/berlin",
        "EUROPE/BERLIN",
        "Europe/Berlin ",
        " UTC",
        "utc",
        "cest",
        "UTC+25",
        "+02:00",
        "<+02>-2",
    ),
    *("posix/Europe/Berlin", "right/Europe/Berlin", "../UTC", "/UTC", "Europe//Berlin", "Europe/", "Europe/Atlantis"),
    *("Europe/Berlin\n", "default", "\u0415urope/Berlin"),
]
GOOD_TIMEZONES = [
    "UTC",
    "Europe/Berlin",
    "America/Argentina/Buenos_Aires",
    "Etc/GMT+12",
    "Pacific/Kiritimati",
    "EST5EDT",
]

REFUSED: list[tuple[str, str, object, str]] = [
    *(("api_keys", "permissions", bad, "api_keys_permissions_valid") for bad in BAD_PERMISSIONS),
    *(("plans", "name", bad, "plans_name_valid") for bad in BAD_PLAN_NAMES),
    *(("plans", "name", bad, "plans_name_no_id") for bad in IDS),
    *(("organizations", "name", bad, "organizations_name_valid") for bad in BAD_ORGANIZATION_NAMES + IDS),
    *(("organizations", "status", bad, "organizations_status_valid") for bad in ("paused", "", "Active", "active ")),
    *(("organizations", "timezone", bad, "organizations_timezone_valid") for bad in BAD_TIMEZONES),
    *(("organizations", "anchor", bad, "organizations_anchor_valid") for bad in (0, -1, 32)),
    *(("organizations", "limits", bad, "organizations_limits_valid") for bad in ("", "off", "Shadow", "enforce ")),
    *(
        ("organizations", "overrides_until", bad, "organizations_overrides_until_valid")
        for bad in ("infinity", "-infinity", "9999-01-01Z", "1969-12-31 23:59:59Z")
    ),
    *(("usage_daily", column, -1, f"usage_daily_{column}_valid") for column in COUNTS),
    ("credits_used", "used", -1, "credits_used_used_valid"),
    *(
        (table, "credits", bad, f"{table}_credits_valid")
        for table in ("organizations", "api_keys")
        for bad in (-1, 10**12 + 1)
    ),
    *(("quota_events", "quota", bad, "quota_events_quota_valid") for bad in ("weekly", "")),
    *(("quota_events", "threshold", bad, "quota_events_threshold_valid") for bad in (0, 79, 101, -80)),
    *(("quota_events", column, -1, f"quota_events_{column}_valid") for column in ("used", "limit", "attempts")),
    *(("api_keys", "name", bad, "api_keys_name_valid") for bad in (*CONTROLS, "a" * 256)),
    *(("api_keys", "metadata", bad, "api_keys_metadata_valid") for bad in BAD_METADATA),
    *(("api_keys", "hash", bad, "api_keys_hash_valid") for bad in (b"", b"x" * 31, b"x" * 33)),
    *(("api_keys", "pepper_id", bad, "api_keys_pepper_id_valid") for bad in ("", "a b", "p\n", "ä", "p" * 33)),
    *(("api_keys", "handle", bad, "api_keys_handle_valid") for bad in ("", "h" * 65)),
    *(
        (table, column, bad, f"{table}_{column}_valid")
        for table in ("plans", "organizations", "api_keys")
        for column, bads in BAD_LIMITS.items()
        for bad in bads
    ),
    ("organizations", "plan_id", "33333333-3333-3333-3333-333333333333", "organizations_plan_exists"),
    ("api_keys", "organization_id", "33333333-3333-3333-3333-333333333333", "api_keys_organization_id_fkey"),
    ("plans", "name", "default", "plans_name_taken"),
    ("plans", "rate", None, "plans_rate_and_burst_go_together"),
    ("plans", "burst", None, "plans_rate_and_burst_go_together"),
    ("api_keys", "rate", None, "api_keys_rate_and_burst_go_together"),
    ("api_keys", "burst", None, "api_keys_rate_and_burst_go_together"),
]
WITH: dict[str, dict[str, object]] = {"overrides_until": {"daily_quota": 7}}  # the columns that another one needs
NEEDED = [
    *(("api_keys", column) for column in (*KEY, "name", "created_at", "metadata")),
    *(("organizations", column) for column in (*ORGANIZATION, "status", "created_at", "timezone", "anchor", "limits")),
    *(("usage_daily", column) for column in (*USAGE, *COUNTS)),
    *(("credits_used", column) for column in CREDITS),
    *(("quota_events", column) for column in (*EVENT, "at", "attempts")),
    *(("plans", column) for column in ("name", "created_at")),
]
TAKEN: list[tuple[str, str, object]] = [
    *(("api_keys", "permissions", good) for good in GOOD_PERMISSIONS),
    *(("api_keys", "metadata", good) for good in GOOD_METADATA),
    *(("organizations", "rate", good) for good in (*GOOD_RATES, None)),
    *(("organizations", "name", good) for good in ("a", "a" * 255, "Ünïcode & Söhne 株式会社", "1111-1111")),
    *(("organizations", "status", good) for good in ("active", "suspended")),
    *(("organizations", "burst", good) for good in (1, 10**9)),
    *(("organizations", "timezone", good) for good in GOOD_TIMEZONES),
    *(("organizations", "anchor", good) for good in (1, 31)),
    *(("organizations", "limits", good) for good in ("enforce", "shadow")),
    *(("organizations", "overrides_until", good) for good in ("1970-01-01Z", "9998-12-31 23:59:59Z", None)),
    *(("usage_daily", column, good) for column in COUNTS for good in (0, 2**63 - 1)),
    *(("quota_events", "threshold", good) for good in (80, 90, 100)),
    ("quota_events", "quota", "monthly"),
    *(("credits_used", "used", good) for good in (0, 2**63 - 1)),
    *((table, "credits", good) for table in ("organizations", "api_keys") for good in (0, 10**12, None)),
    *(("plans", "daily_quota", good) for good in (0, 10**12, None)),
    *(("plans", "name", good) for good in ("a", "a" * 64, "Gold plan 2.0_x-")),
    *(("api_keys", "expires_at", good) for good in ("infinity", "2000-01-01", None)),
    ("api_keys", "name", ""),
]


@pytest.fixture(scope="module")
def dsn(postgres_server: Postgres, migrated: str) -> Iterator[str]:
    with new_database(postgres_server, template=migrated) as address:
        yield address


@pytest.fixture(scope="module")
def tables(dsn: str) -> Iterator[psycopg.Connection]:
    """A database with one plan and one organization; every test leaves it as it was."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO plans (id, name, rate, burst) VALUES (%s, 'plain', '1/s', 1)", [ORGANIZATION["plan_id"]]
        )
        connection.execute(
            "INSERT INTO organizations (id, name, plan_id) VALUES (%s, 'acme', %s)",
            [KEY["organization_id"], ORGANIZATION["plan_id"]],
        )
        yield connection


def insert(connection: psycopg.Connection, table: str, row: dict[str, object]) -> None:
    """Tries a row and takes it back."""
    columns, places = ", ".join(f'"{column}"' for column in row), ", ".join(["%s"] * len(row))
    with connection.transaction(force_rollback=True):
        connection.execute(f"INSERT INTO {table} ({columns}) VALUES ({places})".encode(), list(row.values()))


def test_the_database_refuses_invalid_values(tables: psycopg.Connection, subtests: pytest.Subtests) -> None:
    """An invalid value of any writer is refused by a constraint that names it."""
    for table, column, bad, constraint in REFUSED:
        with subtests.test(table=table, column=column, bad=bad):
            with pytest.raises(psycopg.IntegrityError) as refused:
                insert(tables, table, ROWS[table] | {column: bad})
            assert refused.value.diag.constraint_name == constraint


def test_the_database_refuses_null(tables: psycopg.Connection, subtests: pytest.Subtests) -> None:
    """Columns that a check needs are never null."""
    for table, column in NEEDED:
        with subtests.test(table=table, column=column), pytest.raises(pg.NotNullViolation):
            insert(tables, table, ROWS[table] | {column: None})


def test_the_database_accepts_bounds(tables: psycopg.Connection, subtests: pytest.Subtests) -> None:
    """Values at the bounds themselves are accepted."""
    for table, column, good in TAKEN:
        with subtests.test(table=table, column=column, good=good):
            insert(tables, table, ROWS[table] | WITH.get(column, {}) | {column: good})


def test_two_keys_never_share_a_hash(tables: psycopg.Connection) -> None:
    """One presented key has at most one record."""
    with tables.transaction(force_rollback=True):
        twice = """INSERT INTO api_keys (organization_id, hash, pepper_id, handle, permissions)
                   SELECT %s, %s, 'p', 'h', '{}' FROM generate_series(1, 2)"""
        with pytest.raises(pg.UniqueViolation, match="api_keys_hash_taken"):
            tables.execute(twice, [KEY["organization_id"], KEY["hash"]])


CREATE_KEY = """INSERT INTO api_keys (organization_id, hash, pepper_id, handle, permissions)
                VALUES (%s, %s, 'p', 'h', '{}')"""


@pytest.mark.parametrize(
    "change",
    [
        "revoked_at = NULL",
        "revoked_at = NULL, name = 'new'",
        "hash = decode(repeat('02', 32), 'hex')",
        "id = gen_random_uuid()",
        "hash = decode(repeat('02', 32), 'hex'), revoked_at = NULL",
    ],
)
def test_a_revoked_key_stays_revoked(tables: psycopg.Connection, change: str) -> None:
    """A revocation cannot be taken back, and the revoked row cannot get another key."""
    with tables.transaction(force_rollback=True):
        tables.execute(CREATE_KEY, [KEY["organization_id"], KEY["hash"]])
        tables.execute("UPDATE api_keys SET revoked_at = now()")
        with pytest.raises(pg.CheckViolation, match=r"key [0-9a-f-]{36} is revoked, for good") as refused:
            tables.execute(f"UPDATE api_keys SET {change}".encode())
    assert refused.value.diag.constraint_name == "api_keys_revoked_for_good"


def test_revoking_again_keeps_the_first_time(tables: psycopg.Connection) -> None:
    """One statement may revoke all keys, of which some are revoked already."""
    with tables.transaction(force_rollback=True):
        for number in (1, 2):
            tables.execute(CREATE_KEY, [KEY["organization_id"], bytes([number]) * 32])
        tables.execute("UPDATE api_keys SET revoked_at = '2026-01-01Z' WHERE hash = %s", [KEY["hash"]])
        tables.execute("UPDATE api_keys SET revoked_at = '2026-02-02Z'")
        rows = tables.execute("SELECT revoked_at::date::text, row_version FROM api_keys ORDER BY hash").fetchall()
    assert rows == [("2026-01-01", 2), ("2026-02-02", 2)]


def test_the_hash_of_a_revoked_key_never_comes_back(tables: psycopg.Connection) -> None:
    """It is refused in a new row and in an existing one; the hash of a key that was only deleted is accepted."""
    with tables.transaction(force_rollback=True):
        for number in (1, 2, 3):
            tables.execute(CREATE_KEY, [KEY["organization_id"], bytes([number]) * 32])
        tables.execute("UPDATE api_keys SET revoked_at = now() WHERE hash = %s", [b"\x01" * 32])
        tables.execute("DELETE FROM api_keys WHERE hash <> %s", [b"\x03" * 32])
        for statement, arguments in (
            (CREATE_KEY, [KEY["organization_id"], b"\x01" * 32]),
            ("UPDATE api_keys SET hash = %s", [b"\x01" * 32]),
        ):
            with pytest.raises(pg.UniqueViolation) as refused, tables.transaction():
                tables.execute(statement.encode(), arguments)
            assert refused.value.diag.constraint_name == "api_keys_hash_retired"
        tables.execute(CREATE_KEY, [KEY["organization_id"], b"\x02" * 32])


def test_a_hash_does_not_come_back_while_its_row_goes(tables: psycopg.Connection, dsn: str) -> None:
    """An INSERT during the deletion waits for it, and is refused then."""
    tables.execute(CREATE_KEY, [KEY["organization_id"], KEY["hash"]])
    tables.execute("UPDATE api_keys SET revoked_at = now()")
    with psycopg.connect(dsn) as deleting, ThreadPoolExecutor(1) as pool:
        deleting.execute("DELETE FROM api_keys")
        inserting = pool.submit(tables.execute, CREATE_KEY, [KEY["organization_id"], KEY["hash"]])
        with psycopg.connect(dsn, autocommit=True) as watching:
            while not watching.execute("SELECT FROM pg_locks WHERE NOT granted").rowcount:
                assert not inserting.done()
        deleting.commit()
        with pytest.raises(pg.UniqueViolation, match="revoked, for good"):
            inserting.result()
    tables.execute("DELETE FROM retired_hashes")


def test_version_and_date_of_a_row_cannot_be_written(tables: psycopg.Connection) -> None:
    """What an INSERT or UPDATE says of row_version and updated_at is ignored."""
    with tables.transaction(force_rollback=True):
        tables.execute("INSERT INTO plans (name, row_version, updated_at) VALUES ('gold', 7, '2000-01-01')")
        gold = "SELECT row_version, updated_at > now() - interval '1 hour' FROM plans WHERE name = 'gold'"
        assert tables.execute(gold).fetchone() == (1, True)
        tables.execute("UPDATE plans SET daily_quota = 1, row_version = 7, updated_at = '2000-01-01'")
        assert tables.execute(gold).fetchone() == (2, True)


def test_a_plan_in_use_cannot_go(tables: psycopg.Connection) -> None:
    """An organization always has a plan."""
    with pytest.raises(pg.ForeignKeyViolation, match="organizations_plan_exists"):
        tables.execute("DELETE FROM plans WHERE id = %s", [ORGANIZATION["plan_id"]])


def test_database_and_code_agree_about_rates(subtests: pytest.Subtests) -> None:
    """What the database takes as a rate, the code can read; what it refuses, the code refuses too."""
    for rate in GOOD_RATES:
        assert Rate.parse(str(Rate.parse(rate))) == Rate.parse(rate)
    for rate in BAD_RATES:
        with subtests.test(rate=rate), pytest.raises(ValueError, match="rate"):
            Rate.parse(rate)
