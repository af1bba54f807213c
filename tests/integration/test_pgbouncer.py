"""Behind PgBouncer as Debian has it, pooling transactions with its default settings, everything works."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from functools import partial
from time import monotonic

import psycopg
import pytest

from extauthz.backends.postgres.pool import Pool, open_pool
from extauthz.backends.postgres.queries import fetch
from extauthz.backends.postgres.records import PostgresKeySource
from extauthz.core.credentials import Credential
from extauthz.core.errors import StoreUnavailable
from extauthz.demo.folders import temporary_folder
from extauthz.demo.postgres import Postgres
from extauthz.service.usage import flush, last_used
from tests.integration.test_cli import PEPPER
from tests.servers.admin_api import Caller, value
from tests.servers.management_client import ManagementClient
from tests.servers.pgbouncer import PgBouncer
from tests.servers.raw_http import ask
from tests.servers.serving import Serving, question, serving
from tests.servers.shell import Here
from tests.servers.waiting import until

TOKEN = "a-token-of-operators-32-bytes-or-more"
SESSION = ("statement_timeout", "timezone", "datestyle", "search_path", "default_transaction_read_only")


def lost(pooler: PgBouncer) -> int:
    """How many connections to PostgreSQL the pooler has found to have ended."""
    return pooler.log.read_text().count("server conn crashed")


async def noticed(pooler: PgBouncer, before: int) -> bool:
    return lost(pooler) > before


@pytest.fixture
def pooler(postgres_server: Postgres) -> Iterator[PgBouncer]:
    with temporary_folder("extauthz test ") as folder, PgBouncer(folder, postgres_server) as pooler:
        yield pooler


@pytest.fixture
def narrow(postgres_server: Postgres) -> Iterator[PgBouncer]:
    """One connection to PostgreSQL for all clients: whatever stays in its session, the next one has."""
    with (
        temporary_folder("extauthz test ") as folder,
        PgBouncer(folder, postgres_server, default_pool_size=1) as pooler,
    ):
        yield pooler


async def session(dsn: str) -> list[object]:
    """What a client of the pooler finds in a session."""
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        cursor = await connection.execute(
            f"SELECT {', '.join(f'current_setting({name!r})' for name in SESSION)}".encode()
        )
        found = list(await cursor.fetchone() or ())
        cursor = await connection.execute("SELECT count(*) FROM pg_prepared_statements")
        found += await cursor.fetchone() or ()
        cursor = await connection.execute(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
        )
        return [*found, *(await cursor.fetchone() or ())]


@pytest.fixture
async def pooled(narrow: PgBouncer, database: str) -> AsyncIterator[Pool]:
    async with open_pool(narrow.through(database), size=4, wait=2, statement_timeout=0.2) as pool:
        yield pool


async def test_settings_do_not_stay_in_a_session(
    narrow: PgBouncer, database: str, operator: ManagementClient, pooled: Pool
) -> None:
    """Timeouts and formats are set while a statement runs, also one that fails; another client's session has none."""
    name = database.rpartition("/")[2].replace("%20", " ")
    await operator.sql(f"""ALTER DATABASE "{name}" SET timezone = 'Asia/Kolkata'""")
    await operator.sql(f"""ALTER DATABASE "{name}" SET datestyle = 'German'""")
    before = await session(narrow.through(database))
    assert before[:3] == ["0", "Asia/Kolkata", "German, DMY"]
    for _ in range(2):
        async with pooled.connection() as connection:
            cursor = await connection.execute(
                "SELECT current_setting('statement_timeout') AS a, current_setting('timezone') AS b"
            )
            assert await cursor.fetchone() == {"a": "200ms", "b": "UTC"}
        with pytest.raises(psycopg.errors.QueryCanceled):
            async with pooled.connection() as connection:
                await connection.execute("SELECT pg_sleep(5)")
        async with pooled.connection() as connection, connection.transaction():
            await connection.be_patient(4000)
            await connection.execute("SELECT pg_sleep(0.3)")
        assert await session(narrow.through(database)) == before
    assert await PostgresKeySource(pooled).find([Credential(("ab" * 32,))], 0.0) == [None]


async def test_a_hanging_statement_ends(database: str, operator: ManagementClient, pooled: Pool) -> None:
    """A statement that takes too long is ended by the server, through the pooler as without."""
    async with operator.pool.connection() as connection, connection.transaction():
        await connection.execute("LOCK TABLE api_keys")
        begun = monotonic()
        with pytest.raises(StoreUnavailable) as away:
            await PostgresKeySource(pooled).find([Credential(("ab" * 32,))], 0.0)
        assert (away.value.reason, monotonic() - begun < 2) == ("timeout", True)
    assert await PostgresKeySource(pooled).find([Credential(("ab" * 32,))], 0.0) == [None]


async def test_connections_that_ended_are_replaced(narrow: PgBouncer, postgres_server: Postgres, pooled: Pool) -> None:
    """A restart of the pooler, and of each connection behind it, costs new connections and no query."""
    for harm in (narrow.stop, None):
        await asyncio.gather(*(fetch(pooled, "schema_version") for _ in range(8)))
        if harm is None:
            before = lost(narrow)
            with psycopg.connect(postgres_server.dsn, autocommit=True) as owner:
                owner.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname LIKE 'test %'")
            await until(partial(noticed, narrow, before))
        else:
            harm()
            narrow.start()
        await asyncio.gather(*(fetch(pooled, "schema_version") for _ in range(8)))


async def test_the_whole_service(
    pooler: PgBouncer,
    database: str,
    redis_url: str,
    operator: ManagementClient,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Checks, changes by LISTEN, usage, last use and the admin API work; no warning of a pooler is logged."""
    for module, name in (
        (flush, "REFUSALS_INTERVAL_SECONDS"),
        (flush, "SAVE_INTERVAL_SECONDS"),
        (last_used, "WRITE_INTERVAL_SECONDS"),
    ):
        monkeypatch.setattr(module, name, 0.1)
    details, key = await operator.new_key("acme")
    extra = {"EXTAUTHZ_NOTIFY_DATABASE_URL": database, "EXTAUTHZ_ADMIN_TOKEN": f"ops:{TOKEN}"}
    async with serving(pooler.through(database), redis_url, **extra) as service:

        async def decision() -> str:
            return (await ask(service.ports["envoy"], question("envoy", key=key))).decision

        assert await decision() == "allow"
        assert service.health.readiness().stores == {"postgresql": "ok", "redis": "ok"}
        await _manage(service)

        async def written() -> bool:
            return bool(await operator.rows("SELECT FROM usage_daily, api_keys WHERE last_used_at IS NOT NULL"))

        async def refused() -> bool:
            return await decision() == "invalid_credentials"

        await until(written)
        await operator.sql("UPDATE api_keys SET revoked_at = now() WHERE id::text = %s", details.id)
        await until(refused, seconds=5)
        assert service.value("extauthz_change_feed_down") == 0
    assert "pooler" not in "".join(capfd.readouterr())


async def _manage(service: Serving) -> None:
    ops = Caller(service.ports["admin"], TOKEN.encode())
    plan = {"name": "gold", "rate": "1/s", "burst": 5, "daily_quota": None, "monthly_quota": None}
    assert [(await ops("POST", "/v1/plans", plan)).status for _ in range(2)] == [201, 409]
    assert (await ops("POST", "/v1/organizations", {"name": "umbrella", "plan": "gold"})).status == 201
    made = value(await ops("POST", "/v1/api-keys", {"organization_id": "umbrella"}))
    assert (await ops("GET", f"/v1/api-keys/{made['id']}")).status == 200
    assert len(value(await ops("GET", "/v1/audit-log"))["items"]) >= 3


@pytest.fixture
def here(pooler: PgBouncer, empty_database: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Here:
    """Commands through the pooler, on an empty database."""
    settings = {
        "DATABASE_URL": pooler.through(empty_database),
        "REDIS_URL": redis_url,
        "EXTAUTHZ_KEY_PEPPER": f"p1:{PEPPER}",
    }
    return Here(tmp_path_factory.mktemp("a folder"), settings)


def test_every_command(here: Here) -> None:
    """The schema is made, and plans, organizations and keys are managed, through the pooler alone."""
    assert here.json("migrate")["from"] is None
    assert here.json("migrate", "--status")["current"]
    here.json("plans", "create", "gold", "--rate", "1", "--burst", "2", "--daily-quota", "10")
    here.json("plans", "update", "gold", "--burst", "3")
    here.json("orgs", "create", "Acme", "--plan", "gold")
    here.json("orgs", "update", "Acme", "--monthly-quota", "100")
    made = here.json("keys", "create", "Acme", "--permission", "api:read")
    rotated = here.json("keys", "rotate", made["id"], "--grace", "1h")
    assert len(here.json("keys", "list", "Acme")) == 2
    here.json("keys", "revoke", rotated["id"], "--last")
    here.json("keys", "revoke", made["id"], "--last")
    assert here.json("usage", "Acme")
    assert here.json("audit")
    here.json("orgs", "delete", "Acme")
    here.json("plans", "delete", "gold")
    told = here.environ["DATABASE_URL"] + "?options=-c%20jit%3Doff"
    refused = here.refused(1, "plans", "list", DATABASE_URL=told)
    assert "(unsupported startup parameter: options)" in refused
    assert refused.endswith(
        "take the parameter out of DATABASE_URL, or add it to ignore_startup_parameters of PgBouncer"
    )
