"""`extauthz doctor`: everything that is wrong is found, with what helps; what is only worth a remark is none."""

import asyncio
import json
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from psycopg.sql import SQL, Identifier
from redis.asyncio import Redis as RedisClient

from extauthz.backends.postgres import inspection as postgres_inspection
from extauthz.backends.postgres import schema
from extauthz.backends.postgres.statements import STATEMENTS
from extauthz.backends.redis import inspection as redis_inspection
from extauthz.demo.folders import temporary_folder
from extauthz.demo.ports import free_port
from extauthz.demo.postgres import Postgres
from extauthz.demo.redis import Redis
from extauthz.doctor import listeners as examined_listeners
from extauthz.doctor import redis as examined_redis
from tests.servers.fixtures import new_database, stopped
from tests.servers.office import Office
from tests.servers.process import FREE_PORTS, listening, settings
from tests.servers.shell import Here

WRONG = "sesame-that-is-wrong"
ROLE = "role of the doctor"

Row = dict[str, Any]


class Doctor:
    """Runs the command in this process; every run is looked at for credentials."""

    def __init__(self, shell: Here) -> None:
        self._shell = shell

    def rows(self, *arguments: str, **environment: str) -> dict[str, Row]:
        """The rows by their check, which are all that is printed; the status fits them."""
        done = self._shell.run("doctor", "--json", *arguments, **environment)
        assert WRONG not in done.stdout + done.stderr
        rows: list[Row] = json.loads(done.stdout)
        assert all(row.keys() == {"check", "ok", "detail", "remedy"} for row in rows)
        failed = [row for row in rows if not row["ok"]]
        assert all(row["remedy"] for row in failed)
        assert done.returncode == (1 if failed else 0)
        assert done.stderr.count("\n") == len(failed[:1])
        return {row["check"]: row for row in rows}

    def failed(self, *arguments: str, **environment: str) -> dict[str, Row]:
        """Those that are not ok."""
        return {check: row for check, row in self.rows(*arguments, **environment).items() if not row["ok"]}


@pytest.fixture(scope="module")
def unchanged(postgres_server: Postgres, migrated: str) -> Iterator[str]:
    """The address of a database for tests that only look."""
    with new_database(postgres_server, template=migrated) as dsn:
        yield dsn


@pytest.fixture
def shell(unchanged: str, redis_url: str, tmp_path: Path) -> Here:
    return Here(tmp_path, FREE_PORTS | settings(unchanged, redis_url))


@pytest.fixture
def doctor(shell: Here) -> Doctor:
    return Doctor(shell)


@contextmanager
def a_role(database: str, *statements: str) -> Iterator[str]:
    """The address for a role of its own, after these statements, in which `{}` is its name."""
    with psycopg.connect(database, autocommit=True) as owner, ExitStack() as stack:
        owner.execute(SQL("CREATE ROLE {} LOGIN").format(Identifier(ROLE)))
        stack.callback(owner.execute, SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(Identifier(ROLE)))
        for statement in statements:
            owner.execute(SQL(statement).format(Identifier(ROLE)))
        yield database.replace("//extauthz@", f"//{quote(ROLE)}@")


def test_a_healthy_machine_is_all_ok(doctor: Doctor) -> None:
    """A superuser, a Redis that keeps nothing and a missing token are remarks: ok, and with what could be better."""
    rows = doctor.rows()
    assert all(row["ok"] for row in rows.values())
    remarks = {check for check, row in rows.items() if row["remedy"]}
    assert remarks == {"settings admin", "database rights", "redis persistence"}
    assert rows.keys() >= {
        *("settings", "database reachable", "database schema", "database primary", "database clock", "redis reachable"),
        *("redis version", "redis policy", "redis scripts", "redis clock", "listener envoy", "listener admin"),
    }


def test_every_check_is_described(doctor: Doctor) -> None:
    """In the table of the page about it."""
    page = (Path(__file__).parents[2] / "docs" / "howto" / "doctor.md").read_text("utf-8")
    described = {
        name for row in re.findall(r"^\| (`.*?`) \|", page, re.MULTILINE) for name in re.findall(r"`(.*?)`", row)
    }
    checks = {re.sub(r"^listener .*", "listener …", check) for check in doctor.rows()}
    assert checks <= described


def test_the_table_fits_a_terminal(shell: Here) -> None:
    """Each line is within 80 columns, also where addresses are long; marks say what is wrong."""
    done = shell.run("doctor", REDIS_URL=f"redis://{'a-long-name.' * 9}invalid:6379/0")
    assert done.returncode == 1
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert re.search(r"^fail  redis reachable ", done.stdout, re.MULTILINE)
    assert re.search(r"^note  settings admin ", done.stdout, re.MULTILINE)
    assert re.search(r"^ok    database reachable ", done.stdout, re.MULTILINE)
    assert done.stderr == "extauthz: 1 of {} checks failed: redis reachable\n".format(
        len(re.findall(r"^(?:ok|note|fail) ", done.stdout, re.MULTILINE))
    )


def test_a_stopped_database(doctor: Doctor, postgres_server: Postgres) -> None:
    """It is said once, in the network's words; Redis is looked at all the same."""
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
    """What it lacks is named, and how it gets it; a role that owns everything lacks nothing, and is no superuser."""
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


def test_the_rights_that_are_asked_for_are_those_that_are_used(unchanged: str) -> None:
    """What our statements do with each table of the schema is in the list, and nothing else."""
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
    """A server that follows another answers reads; it is named as what it is."""
    with temporary_folder("extauthz test ") as folder:
        server = Postgres(folder / "pg")
        with server:
            asyncio.run(schema.upgrade(server.dsn))
        (folder / "pg" / "data" / "standby.signal").touch()
        with server:
            failed = doctor.failed(DATABASE_URL=server.dsn)
    assert failed.keys() == {"database primary"}
    assert "standby" in failed["database primary"]["detail"]


def test_clocks_that_differ(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours is set back, which is as if those of the stores were ahead."""

    class Slow:
        def time(self) -> float:
            import time

            return time.time() - 60

    monkeypatch.setattr(postgres_inspection, "time", Slow())
    monkeypatch.setattr(redis_inspection, "time", Slow())
    failed = doctor.failed()
    assert failed.keys() == {"database clock", "redis clock"}
    assert all("60.0 seconds ahead of" in row["detail"] for row in failed.values())


async def test_keys_that_end_and_keys_without_a_pepper(doctor: Doctor, database: str, office: Office) -> None:
    await office.new_key("acme")
    await office.sql("UPDATE api_keys SET expires_at = now() + interval '3 days'")
    rows = await asyncio.to_thread(lambda: doctor.rows(DATABASE_URL=database))
    assert rows["keys expiring"]["ok"]
    assert rows["keys expiring"]["detail"].startswith("1 keys end within 7 days")
    assert rows["keys expiring"]["remedy"]
    other = {"DATABASE_URL": database, "EXTAUTHZ_KEY_PEPPER": "other:0123456789abcdef0123456789abcdef"}
    lost = (await asyncio.to_thread(lambda: doctor.failed(**other)))["keys pepper"]
    assert "not configured: p1" in lost["detail"]


def test_redis_away(doctor: Doctor, redis_server: Redis) -> None:
    with stopped(redis_server):
        failed = doctor.failed()
    assert failed.keys() == {"redis reachable"}
    assert "Connection refused" in failed["redis reachable"]["detail"]


def test_a_redis_that_hangs(doctor: Doctor, redis_server: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is given up, and does not keep the others from being looked at."""
    monkeypatch.setattr(examined_redis, "PATIENCE", 0.3)
    redis_server.pause()
    try:
        rows = doctor.rows()
    finally:
        redis_server.resume()
    assert not rows["redis reachable"]["ok"]
    assert "timeout" in rows["redis reachable"]["detail"]
    assert rows["database schema"]["ok"]


async def test_a_policy_that_evicts(doctor: Doctor, redis: RedisClient) -> None:
    await redis.config_set("maxmemory-policy", "allkeys-lru")
    try:
        failed = await asyncio.to_thread(doctor.failed)
    finally:
        await redis.config_set("maxmemory-policy", "noeviction")
    assert failed.keys() == {"redis policy"}
    assert "allkeys-lru" in failed["redis policy"]["detail"]
    assert "noeviction" in failed["redis policy"]["remedy"]


async def test_persistence_is_seen(doctor: Doctor, redis: RedisClient) -> None:
    await redis.config_set("save", "3600 1")
    try:
        row = (await asyncio.to_thread(doctor.rows))["redis persistence"]
    finally:
        await redis.config_set("save", "")
    assert (row["ok"], row["remedy"]) == (True, "")


async def test_a_user_without_scripts(doctor: Doctor, redis: RedisClient, redis_url: str) -> None:
    """Redis's own words, and where the rights are listed; a user who may not ask INFO is a remark."""
    everything = ["~*", "&*", "+@all"]
    url = redis_url.replace("//", f"//limited:{WRONG}@")

    async def acl(*command: str) -> None:
        await redis.execute_command("ACL", *command)  # type: ignore[no-untyped-call]  # it has no hint

    async def examined(*rules: str) -> dict[str, Row]:
        await acl("SETUSER", "limited", "reset", "on", f">{WRONG}", *rules)
        return await asyncio.to_thread(lambda: doctor.rows(REDIS_URL=url))

    try:
        rows = await examined(*everything, "-@scripting")
        assert [check for check, row in rows.items() if not row["ok"]] == ["redis scripts"]
        assert "NOPERM" in rows["redis scripts"]["detail"]
        assert "docs/howto/run-it.md" in rows["redis scripts"]["remedy"]
        rows = await examined(*everything, "-info")
        assert all(row["ok"] for row in rows.values())
        assert "+info" in rows["redis version"]["remedy"]
        assert not (await examined("~nothing", "+@all"))["redis scripts"]["ok"]
    finally:
        await acl("DELUSER", "limited")


def test_a_wrong_redis_password(doctor: Doctor, redis_url: str) -> None:
    row = doctor.failed(REDIS_URL=redis_url.replace("//", f"//:{WRONG}@"))["redis reachable"]
    assert "take the password out" in row["remedy"]


async def test_a_replica(doctor: Doctor, redis_url: str) -> None:
    with temporary_folder("extauthz test ") as folder, Redis(folder / "replica") as replica:
        async with RedisClient.from_url(replica.redis_url) as client:
            await client.replicaof("127.0.0.1", redis_url.rpartition(":")[2].partition("/")[0])
        failed = await asyncio.to_thread(lambda: doctor.failed(REDIS_URL=replica.redis_url))
    assert failed["redis primary"]["remedy"] == "point REDIS_URL at the master"
    assert failed.keys() == {"redis primary", "redis scripts"}


def test_addresses_of_listeners(doctor: Doctor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Free is fine; what another program has, or what no program can have, is not."""
    monkeypatch.setattr(examined_listeners, "PATIENCE", 1.0)  # for an address that is not of this machine
    free = {"EXTAUTHZ_ENVOY_LISTEN": f"127.0.0.1:{free_port()}", "EXTAUTHZ_NGINX_LISTEN": f"unix:{tmp_path}/nginx"}
    rows = doctor.rows(**free)
    assert "is free" in rows["listener envoy"]["detail"]
    assert "is free" in rows["listener nginx"]["detail"]
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = {
            "EXTAUTHZ_ENVOY_LISTEN": f"127.0.0.1:{other.getsockname()[1]}",
            "EXTAUTHZ_NGINX_LISTEN": f"unix:{tmp_path}/nowhere/nginx",
            "EXTAUTHZ_FORWARD_LISTEN": "192.0.2.1:9003",
        }
        failed = doctor.failed(**taken)
    assert failed.keys() == {"listener envoy", "listener nginx", "listener forward"}
    assert "another program" in failed["listener envoy"]["detail"]
    assert "there is no folder" in failed["listener nginx"]["detail"]


async def test_a_service_that_runs(shell: Here, redis_server: Redis, tmp_path: Path) -> None:
    """It is recognised at each address; a listener that it does not have, and a store it has lost, are told."""
    sockets = {f"EXTAUTHZ_{name}_LISTEN": f"unix:{tmp_path}/{name}" for name in ("ENVOY", "NGINX", "FORWARD", "USAGE")}
    ours = shell.environ | sockets | {"EXTAUTHZ_ADMIN_LISTEN": f"127.0.0.1:{free_port()}"}
    doctor = Doctor(Here(shell.folder, ours))
    async with listening({name: value for name, value in ours.items() if name in _settings_of(ours)}) as service:
        await service.until(lambda report: report["status"] == "ready")
        rows = await asyncio.to_thread(doctor.rows)
        assert all(row["ok"] for row in rows.values())
        assert {rows[f"listener {name}"]["detail"].split()[0] for name in ("envoy", "nginx", "usage", "admin")} == {
            "answers"
        }
        assert rows["service"]["detail"] == "it runs and is ready"
        moved = await asyncio.to_thread(lambda: doctor.failed(EXTAUTHZ_ENVOY_LISTEN=f"unix:{tmp_path}/elsewhere"))
        assert moved.keys() == {"listener envoy"}
        assert "although extauthz runs" in moved["listener envoy"]["detail"]
        with stopped(redis_server):
            await service.until(lambda report: report["redis"] != "ok")
            lost = await asyncio.to_thread(doctor.failed)
        assert lost.keys() == {"redis reachable", "service"}
        assert "redis: connection" in lost["service"]["detail"]
        assert await service.end() == 0


def _settings_of(environ: dict[str, str]) -> set[str]:
    names = ("EXTAUTHZ_", "DATABASE_URL", "REDIS_URL")
    return {name for name in environ if name.startswith(names)}


def test_settings_that_cannot_be_read(shell: Here) -> None:
    """Nothing can be looked at with them; they are told as to every command."""
    assert shell.refused(2, "doctor", EXTAUTHZ_WORKERS="many").startswith("EXTAUTHZ_WORKERS: ")


def test_own_tables(doctor: Doctor, shell: Here, empty_database: str) -> None:
    """The statement is tried; there is no schema of ours to look at."""
    file = shell.folder / "own.toml"
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
