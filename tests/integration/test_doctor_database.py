"""`extauthz doctor` at a database: each fault has a row with a remedy."""

import asyncio
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from urllib.parse import quote

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from extauthz.backends.postgres import inspection as postgres_inspection
from extauthz.backends.postgres import migrate
from extauthz.backends.postgres.statements import STATEMENTS
from extauthz.demo.folders import temporary_folder
from extauthz.demo.postgres import Postgres
from tests.servers.doctor import WRONG, Doctor
from tests.servers.fixtures import stopped
from tests.servers.management_client import ManagementClient
from tests.servers.shell import Here

ROLE = "role of the doctor"


@contextmanager
def a_role(database: str, *statements: str) -> Iterator[str]:
    """The address for a role of its own, after these statements, in which `{}` is its name."""
    with psycopg.connect(database, autocommit=True) as owner, ExitStack() as stack:
        owner.execute(SQL("CREATE ROLE {} LOGIN").format(Identifier(ROLE)))
        stack.callback(owner.execute, SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(Identifier(ROLE)))
        for statement in statements:
            owner.execute(SQL(statement).format(Identifier(ROLE)))
        yield database.replace("//extauthz@", f"//{quote(ROLE)}@")


def test_a_stopped_database(doctor: Doctor, postgres_server: Postgres) -> None:
    """It is reported once, with the error of the network; Redis is checked all the same."""
    with stopped(postgres_server):
        rows = doctor.rows()
    assert {check for check, row in rows.items() if not row["ok"]} == {"database reachable"}
    assert "Connection refused" in rows["database reachable"]["detail"]
    assert rows["redis scripts"]["ok"]


def test_a_role_that_may_not_log_in(doctor: Doctor, unchanged: str) -> None:
    with a_role(unchanged, "ALTER ROLE {} NOLOGIN") as dsn:
        failed = doctor.failed(DATABASE_URL=dsn)
    assert failed.keys() == {"database reachable"}
    assert "not permitted to log in" in failed["database reachable"]["detail"]
    assert "user and password in DATABASE_URL" in failed["database reachable"]["remedy"]


@pytest.mark.deep
def test_a_wrong_password(doctor: Doctor) -> None:
    with temporary_folder("extauthz test ") as folder, Postgres(folder / "pg", durable=True) as server:
        dsn = re.sub(r":[^:@]+@", f":{WRONG}@", server.dsn)
        row = doctor.failed(DATABASE_URL=dsn)["database reachable"]
    assert "password authentication failed" in row["detail"]
    assert "password" in row["remedy"]


def test_a_role_that_lacks_rights(doctor: Doctor, unchanged: str) -> None:
    """Missing rights are named with the remedy; a role that has all rights lacks nothing without being a superuser."""
    read = "GRANT SELECT ON ALL TABLES IN SCHEMA public TO {}"
    with a_role(unchanged, read) as dsn:
        failed = doctor.failed(DATABASE_URL=dsn)
    assert failed.keys() == {"database rights"}
    assert failed["database rights"]["detail"].startswith("the role lacks INSERT on plans, ")
    with a_role(unchanged) as dsn:
        assert "SELECT on alembic_version" in doctor.failed(DATABASE_URL=dsn)["database rights"]["detail"]
    every = "GRANT ALL ON ALL TABLES IN SCHEMA public TO {}"
    with a_role(unchanged, every) as dsn:
        row = doctor.rows(DATABASE_URL=dsn)["database rights"]
    assert (row["ok"], row["remedy"]) == (True, "")


def test_required_rights_are_those_of_the_statements(unchanged: str) -> None:
    """The list has what the statements of extauthz do with each table of the schema, and nothing else."""
    code = "\n".join(re.sub(r"--.*", "", text) for text in STATEMENTS.values()) + "FROM alembic_version"
    with psycopg.connect(unchanged) as owner:
        tables = {name for (name,) in owner.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")}
    used: set[tuple[str, str]] = set()
    for pattern, right in (
        (r"\bINSERT INTO (\w+)", "INSERT"),
        (r"\bINSERT INTO (\w+)[^;]*?\bDO UPDATE\b", "UPDATE"),
        (r"\bUPDATE (\w+)", "UPDATE"),
        (r"\bFROM (\w+)(?:[^;()]|\((?:[^()]|\([^()]*\))*\))*?\bFOR (?:NO KEY )?UPDATE\b", "UPDATE"),
        (r"\bDELETE FROM (\w+)", "DELETE"),
        (r"\b(?:FROM|JOIN) (\w+)", "SELECT"),
    ):
        used |= {(table, right) for table in re.findall(pattern, code) if table in tables}
    assert used == {(table, right) for table, rights in postgres_inspection.RIGHTS.items() for right in rights}


def test_a_schema_that_is_old_new_or_missing(doctor: Doctor, database: str, empty_database: str) -> None:
    for version, helps in (("0001", "run: extauthz migrate"), ("9999", "upgrade extauthz")):
        with psycopg.connect(database, autocommit=True) as owner:
            owner.execute("UPDATE alembic_version SET version_num = %s", (version,))
        row = doctor.failed(DATABASE_URL=database)["database schema"]
        assert (version in row["detail"], row["remedy"]) == (True, helps)
    missing = doctor.failed(DATABASE_URL=empty_database)
    assert missing.keys() == {"database schema"}
    assert missing["database schema"]["remedy"] == "run: extauthz migrate"


def test_a_database_that_only_reads(doctor: Doctor, unchanged: str) -> None:
    read_only = "ALTER ROLE {} SUPERUSER; ALTER ROLE {} SET default_transaction_read_only = on".replace("{}", "{0}")
    with a_role(unchanged, read_only) as dsn:
        failed = doctor.failed(DATABASE_URL=dsn)
    assert failed.keys() == {"database primary"}
    assert "read-only" in failed["database primary"]["detail"]


@pytest.mark.deep
def test_a_standby(doctor: Doctor) -> None:
    """A server that follows another answers reads; it is named as a standby."""
    with temporary_folder("extauthz test ") as folder:
        server = Postgres(folder / "pg")
        with server:
            asyncio.run(migrate.upgrade(server.dsn))
        (folder / "pg" / "data" / "standby.signal").touch()
        with server:
            failed = doctor.failed(DATABASE_URL=server.dsn)
    assert failed.keys() == {"database primary"}
    assert "standby" in failed["database primary"]["detail"]


async def test_keys_that_end_and_keys_without_a_pepper(
    doctor: Doctor, database: str, operator: ManagementClient
) -> None:
    await operator.new_key("acme")
    await operator.sql("UPDATE api_keys SET expires_at = now() + interval '3 days'")
    rows = await asyncio.to_thread(lambda: doctor.rows(DATABASE_URL=database))
    assert rows["keys expiring"]["ok"]
    assert rows["keys expiring"]["detail"].startswith("1 key ends within 7 days, 1 within 30")
    assert rows["keys expiring"]["remedy"]
    other = {"DATABASE_URL": database, "EXTAUTHZ_KEY_PEPPER": "other:0123456789abcdef0123456789abcdef"}
    lost = (await asyncio.to_thread(lambda: doctor.failed(**other)))["keys pepper"]
    assert "not configured: p1" in lost["detail"]


def test_own_tables(doctor: Doctor, doctor_shell: Here, empty_database: str) -> None:
    """The statement is tried; the database has no schema of extauthz to check."""
    file = doctor_shell.folder / "own.toml"
    right = "SELECT id, organization_id, permissions, expires_at FROM keys WHERE digest = %(sha256)s"
    with psycopg.connect(empty_database, autocommit=True) as owner:
        owner.execute(
            "CREATE TABLE keys (id text, organization_id text, permissions jsonb, expires_at timestamptz, digest text)"
        )
    environment = {"DATABASE_URL": empty_database, "EXTAUTHZ_CONFIG": str(file)}
    file.write_text(f'[keys]\nlookup_sql = "{right}"\n')
    assert doctor.rows(**environment)["lookup_sql"]["ok"]
    file.write_text(f'[keys]\nlookup_sql = "{right.replace("expires_at FROM", "digest FROM")}"\n')
    assert "expires_at" in doctor.failed(**environment)["lookup_sql"]["detail"]
