"""What the tables refuse, whoever writes: each line of the tables below is one mistake of a person or a program."""

from collections.abc import Iterator

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
PLAN: dict[str, object] = {"name": "gold", "rate": "10/s", "burst": 20}
ROWS: dict[str, dict[str, object]] = {"api_keys": KEY, "organizations": ORGANIZATION, "plans": PLAN}

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

REFUSED: list[tuple[str, str, object, str]] = [
    *(("api_keys", "permissions", bad, "api_keys_permissions_valid") for bad in BAD_PERMISSIONS),
    *(("plans", "name", bad, "plans_name_valid") for bad in BAD_PLAN_NAMES),
    *(("organizations", "name", bad, "organizations_name_valid") for bad in BAD_ORGANIZATION_NAMES + IDS),
    *(("organizations", "status", bad, "organizations_status_valid") for bad in ("paused", "", "Active", "active ")),
    *(("api_keys", "name", bad, "api_keys_name_valid") for bad in (*CONTROLS, "a" * 256)),
    *(("api_keys", "hash", bad, "api_keys_hash_valid") for bad in (b"", b"x" * 31, b"x" * 33)),
    *(("api_keys", "pepper_id", bad, "api_keys_pepper_id_valid") for bad in ("", "a b", "p\n", "ä", "p" * 33)),
    *(("api_keys", "handle", bad, "api_keys_handle_valid") for bad in ("", "h" * 65)),
    *(
        (table, column, bad, f"{table}_{column}_valid")
        for table in ("plans", "organizations")
        for column, bads in BAD_LIMITS.items()
        for bad in bads
    ),
    ("organizations", "plan_id", "33333333-3333-3333-3333-333333333333", "organizations_plan_exists"),
    ("api_keys", "organization_id", "33333333-3333-3333-3333-333333333333", "api_keys_organization_id_fkey"),
    ("plans", "name", "default", "plans_name_taken"),
    ("plans", "rate", None, "plans_rate_and_burst_go_together"),
    ("plans", "burst", None, "plans_rate_and_burst_go_together"),
]
NEEDED = [
    *(("api_keys", column) for column in (*KEY, "name", "created_at")),
    *(("organizations", column) for column in (*ORGANIZATION, "status", "created_at")),
    *(("plans", column) for column in ("name", "created_at")),
]
TAKEN: list[tuple[str, str, object]] = [
    *(("api_keys", "permissions", good) for good in GOOD_PERMISSIONS),
    *(("organizations", "rate", good) for good in (*GOOD_RATES, None)),
    *(("organizations", "name", good) for good in ("a", "a" * 255, "Ünïcode & Söhne 株式会社", "1111-1111")),
    *(("organizations", "status", good) for good in ("active", "suspended")),
    *(("organizations", "burst", good) for good in (1, 10**9)),
    *(("plans", "daily_quota", good) for good in (0, 10**12, None)),
    *(("plans", "name", good) for good in ("a", "a" * 64, "Gold plan 2.0_x-")),
    *(("api_keys", "expires_at", good) for good in ("infinity", "2000-01-01", None)),
    ("api_keys", "name", ""),
]


@pytest.fixture(scope="module")
def tables(postgres_server: Postgres, migrated: str) -> Iterator[psycopg.Connection]:
    """A database with one plan and one organization; every test leaves it as it was."""
    with (
        new_database(postgres_server, template=migrated) as dsn,
        psycopg.connect(dsn, autocommit=True) as connection,
    ):
        connection.execute("INSERT INTO plans (id, name) VALUES (%s, 'plain')", [ORGANIZATION["plan_id"]])
        connection.execute(
            "INSERT INTO organizations (id, name, plan_id) VALUES (%s, 'acme', %s)",
            [KEY["organization_id"], ORGANIZATION["plan_id"]],
        )
        yield connection


def insert(connection: psycopg.Connection, table: str, row: dict[str, object]) -> None:
    """Tries a row and takes it back."""
    columns, places = ", ".join(row), ", ".join(["%s"] * len(row))
    with connection.transaction(force_rollback=True):
        connection.execute(f"INSERT INTO {table} ({columns}) VALUES ({places})".encode(), list(row.values()))


@pytest.mark.parametrize(("table", "column", "bad", "constraint"), REFUSED)
def test_the_database_refuses_what_must_never_be(
    tables: psycopg.Connection, table: str, column: str, bad: object, constraint: str
) -> None:
    """Whoever writes, a value that makes no sense is refused by a constraint that names it."""
    with pytest.raises(psycopg.IntegrityError) as refused:
        insert(tables, table, ROWS[table] | {column: bad})
    assert refused.value.diag.constraint_name == constraint


@pytest.mark.parametrize(("table", "column"), NEEDED)
def test_the_database_refuses_what_is_missing(tables: psycopg.Connection, table: str, column: str) -> None:
    """What a check cannot do without is never null."""
    with pytest.raises(pg.NotNullViolation):
        insert(tables, table, ROWS[table] | {column: None})


@pytest.mark.parametrize(("table", "column", "good"), TAKEN)
def test_the_database_takes_what_makes_sense(tables: psycopg.Connection, table: str, column: str, good: object) -> None:
    """The bounds themselves are inside."""
    insert(tables, table, ROWS[table] | {column: good})


def test_two_keys_never_share_a_hash(tables: psycopg.Connection) -> None:
    """One presented key can only ever mean one record."""
    with tables.transaction(force_rollback=True):
        twice = """INSERT INTO api_keys (organization_id, hash, pepper_id, handle, permissions)
                   SELECT %s, %s, 'p', 'h', '{}' FROM generate_series(1, 2)"""
        with pytest.raises(pg.UniqueViolation, match="api_keys_hash_taken"):
            tables.execute(twice, [KEY["organization_id"], KEY["hash"]])


def test_a_plan_in_use_cannot_go(tables: psycopg.Connection) -> None:
    """An organization always has a plan."""
    with pytest.raises(pg.ForeignKeyViolation, match="organizations_plan_exists"):
        tables.execute("DELETE FROM plans WHERE id = %s", [ORGANIZATION["plan_id"]])


@pytest.mark.parametrize("rate", [*BAD_RATES, *GOOD_RATES])
def test_database_and_code_agree_about_rates(rate: str) -> None:
    """What the database takes as a rate, the code can read; what it refuses, the code refuses too."""
    if rate in GOOD_RATES:
        assert Rate.parse(str(Rate.parse(rate))) == Rate.parse(rate)
    else:
        with pytest.raises(ValueError, match="rate"):
            Rate.parse(rate)
