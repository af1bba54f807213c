"""PostgreSQL that hangs, stops, restarts or loses its schema, behind a circuit breaker, on a real server."""

import asyncio
import time
from collections.abc import AsyncIterator
from functools import partial

import pytest

from extauthz.aio.circuit_breaker import CallPolicy
from extauthz.backends.postgres import schema
from extauthz.backends.postgres.pool import MAX_CONCURRENT_LOOKUPS, Pool, open_pool
from extauthz.backends.postgres.records import PostgresKeySource
from extauthz.core.credentials import Credential
from extauthz.core.errors import StoreUnavailable
from extauthz.core.ports import POSTGRESQL
from extauthz.demo.postgres import Postgres
from extauthz.service.store_breaker import store_breaker
from tests.servers.fixtures import keep_our_loop_busy, paused, stopped
from tests.servers.recording_observer import RecordingObserver

TIMEOUT = 0.1
SLACK = 0.4  # seconds that a busy machine may add
FAR = 10.0
ASKED = [Credential(("ab" * 32,))]


class GuardedPostgres:
    """Keys in PostgreSQL behind a circuit breaker with the timeouts of the service."""

    def __init__(self, pool: Pool) -> None:
        self.recorder = RecordingObserver()
        self.keys = PostgresKeySource(pool)
        self.guard = store_breaker(
            POSTGRESQL,
            policy=CallPolicy(TIMEOUT, max_concurrency=MAX_CONCURRENT_LOOKUPS, cancel=False),
            probe=partial(schema.probe, pool),
            observer=self.recorder,
        )

    async def find(self) -> None:
        """Looks for a key that is not there."""
        found = await self.guard.run(lambda: self.keys.find(ASKED, time.time()), time.monotonic() + FAR)
        assert found == [None]

    async def refused(self) -> tuple[str, float]:
        """Why a key could not be looked for, and how many seconds that took."""
        begun = time.monotonic()
        with pytest.raises(StoreUnavailable) as away:
            await self.find()
        return away.value.reason, time.monotonic() - begun

    async def back(self) -> None:
        """Waits until the circuit breaker is closed again, and uses each of its connections."""
        await self.recorder.until(lambda: self.guard.up)
        for _ in range(3):
            await self.find()


@pytest.fixture
async def guarded(database: str) -> AsyncIterator[GuardedPostgres]:
    async with open_pool(database, size=MAX_CONCURRENT_LOOKUPS, wait=TIMEOUT, statement_timeout=TIMEOUT) as pool:
        guarded = GuardedPostgres(pool)
        await guarded.guard.start()
        guarded.recorder.clear()
        yield guarded
        await guarded.guard.close()


async def test_a_postgresql_that_hangs_is_waited_for_once(guarded: GuardedPostgres, postgres_server: Postgres) -> None:
    """All calls wait its timeout and no longer; later ones are refused at once; every connection recovers by itself."""
    with paused(postgres_server):
        for reason, seconds in await asyncio.gather(*(guarded.refused() for _ in range(MAX_CONCURRENT_LOOKUPS))):
            assert reason in {"timeout", "connection"}  # the pool gives up at the same moment
            assert TIMEOUT <= seconds < TIMEOUT + SLACK
        reason, seconds = await guarded.refused()
        assert reason == "down"
        assert seconds < TIMEOUT
    await guarded.back()
    assert [(store, up) for store, up, _ in guarded.recorder.changes] == [(POSTGRESQL, False), (POSTGRESQL, True)]


async def test_callers_above_max_concurrency_wait_no_longer_than_their_deadline(
    guarded: GuardedPostgres, postgres_server: Postgres
) -> None:
    """While PostgreSQL hangs and every slot is taken, a waiting call ends by the deadline of its request."""
    with paused(postgres_server):
        begun = time.monotonic()
        calls = [
            guarded.guard.run(lambda: guarded.keys.find(ASKED, 0.0), begun + 1.5 * TIMEOUT)
            for _ in range(3 * MAX_CONCURRENT_LOOKUPS)
        ]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert time.monotonic() - begun < 1.5 * TIMEOUT + SLACK
        assert {type(outcome) for outcome in outcomes} == {StoreUnavailable}
    await guarded.back()


async def test_a_postgresql_that_was_restarted_recovers_by_itself(
    guarded: GuardedPostgres, postgres_server: Postgres
) -> None:
    """Stopped: away within its time, then refused at once. Started again: noticed within moments."""
    for _ in range(2):
        with stopped(postgres_server):
            reason, seconds = await guarded.refused()
            assert reason in {"connection", "timeout"}
            assert seconds < TIMEOUT + SLACK
            assert not guarded.guard.up
            assert (await guarded.refused())[0] == "down"
        begun = time.monotonic()
        await guarded.back()
        assert time.monotonic() - begun < 3


async def test_a_restart_between_two_requests_is_not_noticed(
    guarded: GuardedPostgres, postgres_server: Postgres
) -> None:
    """Connections that the restart has ended are found out before they are used."""
    await guarded.find()
    with stopped(postgres_server):
        pass
    await guarded.find()
    assert guarded.recorder.changes == []


@pytest.mark.parametrize("steps", range(6))
async def test_a_blocked_event_loop_is_not_an_outage(guarded: GuardedPostgres, steps: int) -> None:
    """While the event loop was blocked the rows have come, or the query could not be sent: neither is an outage."""
    await guarded.find()
    blocking = asyncio.create_task(keep_our_loop_busy(3 * TIMEOUT, after=steps))
    await guarded.find()
    await blocking
    recorder = guarded.recorder
    assert not recorder.failures
    assert not recorder.changes


async def test_a_newer_schema_is_not_an_outage(guarded: GuardedPostgres, pool: Pool) -> None:
    """A release goes on, and comes back after an outage, on the schema of the next one."""
    async with pool.connection() as connection:
        await connection.execute("UPDATE alembic_version SET version_num = '9999'")
    await schema.probe(pool)
    await guarded.find()
    assert guarded.guard.up


async def test_a_schema_that_is_unknown_is_a_store_that_is_away(
    guarded: GuardedPostgres, postgres_server: Postgres, pool: Pool
) -> None:
    """A schema that vanishes under a running service is an outage with a name, and ends when it is back."""
    async with pool.connection() as connection:
        await connection.execute("ALTER TABLE api_keys RENAME TO elsewhere")
        await connection.execute("UPDATE alembic_version SET version_num = '0000'")
        assert (await guarded.refused())[0] == "schema"
        assert guarded.guard.trouble == "schema"
        await connection.execute("ALTER TABLE elsewhere RENAME TO api_keys")
        assert (await guarded.refused())[0] == "down"
        await connection.execute("UPDATE alembic_version SET version_num = %s", [schema.KNOWN])
    await guarded.back()
