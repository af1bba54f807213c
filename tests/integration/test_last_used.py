"""The time of a key's last use: written apart from requests, in batches, without a notification, kept by a stop."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime

import pytest

from extauthz.backends.postgres import records
from extauthz.backends.postgres.change_feed import PostgresFeed
from extauthz.backends.postgres.records import PostgresUseLog
from extauthz.core.changes import Change
from extauthz.demo.postgres import Postgres
from extauthz.service.usage import last_used as module
from extauthz.service.usage.last_used import LastUsed
from tests.servers.fixtures import paused
from tests.servers.management_client import ManagementClient
from tests.servers.raw_http import ask
from tests.servers.reader import FROM_NOW_ON
from tests.servers.serving import PATIENT, question, serving

AT = 1_800_000_000.0


async def used(operator: ManagementClient, key_id: str) -> float | None:
    """Unix seconds of the last use in PostgreSQL."""
    at: datetime | None = (await operator.keys.show(key_id)).last_used_at
    return None if at is None else at.timestamp()


async def test_the_newest_use_stays(operator: ManagementClient) -> None:
    """Two processes may write in any order; an unknown key or a malformed id causes no error."""
    log = PostgresUseLog(operator.pool)
    one, other = [(await operator.new_key("acme"))[0].id for _ in range(2)]
    assert not await log.used({one: AT, other: AT + 1, "00000000-0000-0000-0000-000000000000": AT, "no id": AT})
    assert not await log.used({one: AT - 5, other: AT + 2.5})
    assert [await used(operator, key) for key in (one, other)] == [AT, AT + 2.5]
    assert not await log.used({"no id": AT})
    assert not await log.used({})


async def test_a_locked_row_is_written_the_next_time(operator: ManagementClient) -> None:
    """An operator's open transaction does not block: its keys are reported as busy, the others are written."""
    log = PostgresUseLog(operator.pool)
    held, free = [(await operator.new_key("acme"))[0].id for _ in range(2)]
    async with operator.pool.connection() as connection, connection.transaction():
        await connection.execute("UPDATE api_keys SET name = 'held' WHERE id::text = %s", [held])
        assert list(await log.used({held: AT, free: AT})) == [held]
    assert [await used(operator, key) for key in (held, free)] == [None, AT]
    assert not await log.used({held: AT})
    assert await used(operator, held) == AT


async def test_a_use_is_not_a_change(operator: ManagementClient, database: str) -> None:
    """A use is neither notified nor logged, and keeps the row's version: no record is read again for it."""
    details, _ = await operator.new_key("acme")
    flows, received = asyncio.Event(), asyncio.Event()
    changes: list[Change] = []

    def receive(change: Change) -> None:
        changes.append(change)
        received.set()

    feed = PostgresFeed(database, lately=FROM_NOW_ON)
    following = asyncio.create_task(feed.follow(receive, lambda on: flows.set() if on else None))
    await flows.wait()
    before = await operator.rows("SELECT count(*) AS n FROM audit_log")
    await PostgresUseLog(operator.pool).used({details.id: AT})
    assert await operator.rows("SELECT count(*) AS n FROM audit_log") == before
    await operator.sql("UPDATE plans SET daily_quota = 7")  # the first message is of something else
    async with asyncio.timeout(10):
        await received.wait()
    following.cancel()
    await asyncio.wait({following})
    assert [change.thing.kind for change in changes] == ["plan"]
    shown = await operator.keys.show(details.id)
    assert (shown.row_version, shown.updated_at) == (details.row_version, details.updated_at)


async def test_a_row_that_is_refused_does_not_hold_up_the_others(operator: ManagementClient) -> None:
    """A constraint or a trigger of the operator refuses the change of one key: the others are written."""
    ids = [(await operator.new_key("acme"))[0].id for _ in range(4)]
    last_used = LastUsed(PostgresUseLog(operator.pool))
    await operator.sql("UPDATE api_keys SET name = 'bad' WHERE id::text = %s", ids[2])
    for harm in (
        "ALTER TABLE api_keys ADD CONSTRAINT unused CHECK (name <> 'bad' OR last_used_at IS NULL)",
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$",
        "CREATE TRIGGER no BEFORE UPDATE ON api_keys FOR EACH ROW WHEN (OLD.name = 'bad') EXECUTE FUNCTION no()",
    ):
        await operator.sql(harm)
        await operator.sql("ALTER TABLE api_keys DROP CONSTRAINT IF EXISTS unused" if "TRIGGER" in harm else "SELECT")
        await operator.sql("UPDATE api_keys SET last_used_at = NULL WHERE name <> 'bad'")
        for key_id in ids:
            last_used.note(key_id, AT)
        await last_used.write()
        assert [await used(operator, key_id) for key_id in ids] == [AT, AT, None, AT]
        assert len(last_used) == 0


async def test_rows_that_are_held_for_a_moment_at_the_end(operator: ManagementClient) -> None:
    """A transaction that ends half a second later costs no time of use."""
    details, _ = await operator.new_key("acme")
    last_used = LastUsed(PostgresUseLog(operator.pool))
    last_used.note(details.id, AT)
    async with operator.pool.connection() as connection:
        async with connection.transaction():
            await connection.execute("UPDATE api_keys SET name = 'held'")
            writing = asyncio.create_task(last_used.write_all())
            await connection.execute("SELECT pg_sleep(0.5)")
            assert not writing.done()
        await writing
    assert await used(operator, details.id) == AT


async def test_a_service_that_stops_while_rows_are_held(
    operator: ManagementClient, database: str, redis_url: str
) -> None:
    """A stop of the service waits half a second for locked rows."""
    details, key = await operator.new_key("acme")
    async with operator.pool.connection() as connection:

        async def hold_on() -> None:
            await connection.execute("SELECT pg_sleep(0.5)")
            await connection.execute("COMMIT")

        async with serving(database, redis_url, **PATIENT) as service:
            assert (await ask(service.ports["envoy"], question("envoy", key=key))).decision == "allow"
            await connection.execute("BEGIN")
            await connection.execute("UPDATE api_keys SET name = 'held'")
            holding = asyncio.create_task(hold_on())
        assert await used(operator, details.id) is not None
        await holding


async def test_a_postgresql_that_hangs_at_the_end_is_waited_for_once(
    operator: ManagementClient, postgres_server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stop does not try again, and the time stays noted."""
    monkeypatch.setattr(module, "WRITE_TIMEOUT_SECONDS", 1.5)
    details, _ = await operator.new_key("acme")
    last_used = LastUsed(PostgresUseLog(operator.pool))
    last_used.note(details.id, AT)
    with paused(postgres_server):
        async with asyncio.timeout(2 * module.WRITE_TIMEOUT_SECONDS):
            await last_used.write_all()
    assert len(last_used) == 1


@pytest.mark.parametrize("harm", ["no permission", "locked"])
async def test_a_use_that_cannot_be_written_is_not_an_outage(
    operator: ManagementClient,
    database: str,
    redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    harm: str,
) -> None:
    """A role that may only read, or a locked table: keys are looked up as before, and no store counts as away."""
    monkeypatch.setattr(module, "WRITE_INTERVAL_SECONDS", 0.05)
    monkeypatch.setattr(module, "LAST_WRITE_SECONDS", 0.0)
    attempts = asyncio.Semaphore(0)
    note = PostgresUseLog.used

    async def noted(self: PostgresUseLog, times: Mapping[str, float]) -> list[str]:
        try:
            return await note(self, times)
        finally:
            attempts.release()

    monkeypatch.setattr(PostgresUseLog, "used", noted)
    monkeypatch.setattr(records, "STATEMENT_TIMEOUT_MS", 200)
    keys = [(await operator.new_key("acme"))[1] for _ in range(3)]
    if harm == "no permission":
        await operator.sql("CREATE ROLE onlooker LOGIN")
        await operator.sql("GRANT SELECT ON ALL TABLES IN SCHEMA public TO onlooker")
        database = database.replace("//extauthz@", "//onlooker@")
    async with operator.pool.connection() as connection, connection.transaction():
        if harm == "locked":
            await connection.execute("LOCK TABLE api_keys IN SHARE MODE")
        async with serving(database, redis_url, **PATIENT) as service:
            for key in keys:
                assert (await ask(service.ports["envoy"], question("envoy", key=key))).decision == "allow"
                for _ in range(2):
                    await attempts.acquire()
                assert service.health.readiness().ready
            assert service.value("extauthz_api_key_cache_misses_total") == len(keys)
            assert "store_away" not in capfd.readouterr().out
    if harm == "no permission":
        await operator.sql("DROP OWNED BY onlooker")
        await operator.sql("DROP ROLE onlooker")


async def test_an_orderly_stop_loses_nothing(operator: ManagementClient, database: str, redis_url: str) -> None:
    """Keys that were admitted have the time of their use when the service has stopped, and other keys have none."""
    admitted, key = await operator.new_key("acme")
    revoked, of_revoked = await operator.new_key("acme")
    expired, of_expired = await operator.new_key("acme")
    expiring, of_expiring = await operator.new_key("acme")
    unused, _ = await operator.new_key("acme")
    await operator.sql("UPDATE api_keys SET revoked_at = now() WHERE id::text = %s", revoked.id)
    await operator.sql("UPDATE api_keys SET expires_at = now() WHERE id::text = %s", expired.id)
    before = datetime.now(UTC).timestamp()
    async with serving(database, redis_url, **PATIENT) as service:
        answers = [
            (await ask(service.ports["envoy"], question("envoy", key=each))).decision
            for each in (key, of_revoked, of_expired, of_expiring, "x" * 40, key)
        ]
        # Expired by the time of writing: it was used all the same.
        await operator.sql("UPDATE api_keys SET expires_at = now() WHERE id::text = %s", expiring.id)
    assert answers == ["allow", "invalid_credentials", "invalid_credentials", "allow", "invalid_credentials", "allow"]
    for each in (admitted, expiring):
        at = await used(operator, each.id)
        assert at is not None
        assert before - 1 < at < before + 30
    assert [await used(operator, each.id) for each in (revoked, expired, unused)] == [None] * 3
