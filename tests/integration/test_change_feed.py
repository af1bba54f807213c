"""The messages of the triggers, over real connections: received, found again after a loss, and nothing else trusted."""

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from struct import pack, unpack
from typing import Any, TypeVar

import pytest

from extauthz.backends.postgres import change_feed as module
from extauthz.backends.postgres.change_feed import PostgresFeed
from extauthz.core.changes import EVERYTHING, Change, EntityRef
from extauthz.demo.postgres import Postgres
from tests.servers.fixtures import stopped
from tests.servers.hurting_proxy import HurtingProxy
from tests.servers.management_client import NO_LIMITS, ManagementClient
from tests.servers.reader import FROM_NOW_ON, through
from tests.servers.waiting import News

T = TypeVar("T")


class Receiver:
    """Records the changes and states of a feed, which tests can await."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.flows: list[bool] = []
        self._news = News()
        self.until = self._news.until

    def receive(self, change: Change) -> None:
        self.changes.append(change)
        self._news.set()

    def flowing(self, flows: bool) -> None:
        self.flows.append(flows)
        self._news.set()

    async def received(self, kind: str, id_: str) -> Change:
        """The newest change of an entity, as soon as there is one."""

        def found() -> list[Change]:
            return [change for change in self.changes if change.thing == (kind, id_)]

        await self.until(lambda: bool(found()))
        return found()[-1]


async def number(operator: ManagementClient) -> int:
    """The number of a new transaction, above all earlier ones."""
    (row,) = await operator.rows("SELECT pg_current_xact_id()::text::bigint AS number")
    return int(row["number"])


@asynccontextmanager
async def listening(dsn: str, *, lately: float | None = 120) -> AsyncIterator[Receiver]:
    receiver = Receiver()
    following = asyncio.create_task(PostgresFeed(dsn, lately=lately).follow(receiver.receive, receiver.flowing))
    try:
        await receiver.until(lambda: receiver.flows[-1:] == [True])
        yield receiver
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def test_every_change_is_notified(operator: ManagementClient, database: str) -> None:
    """One message for each change of any writer, above the transaction that made it, and none for a use."""
    gold = await operator.tenants.create_plan("gold", NO_LIMITS)
    acme = await operator.tenants.create_organization("acme", "gold")
    key, _ = await operator.new_key("acme")
    async with listening(database, lately=FROM_NOW_ON) as receiver:
        for kind, id_, statement in (
            ("api_key", key.id, "UPDATE api_keys SET disabled_at = now()"),
            ("api_key", key.id, "UPDATE api_keys SET permissions = '{}'"),
            ("organization", acme.id, "UPDATE organizations SET status = 'suspended'"),
            ("plan", gold.id, "UPDATE plans SET monthly_quota = 7 WHERE name = 'gold'"),
            ("api_key", key.id, "DELETE FROM api_keys"),
            ("organization", acme.id, "DELETE FROM organizations"),
            ("plan", gold.id, "DELETE FROM plans WHERE name = 'gold'"),
        ):
            receiver.changes.clear()
            await operator.sql("UPDATE api_keys SET last_used_at = now()")
            await operator.sql(statement)
            change = await receiver.received(kind, id_)
            (row,) = await operator.rows("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS read")
            assert change.fence <= row["read"]
            assert receiver.changes == [change]


async def test_the_delay_of_a_change_is_measured(operator: ManagementClient, database: str) -> None:
    """It starts with the change itself, by PostgreSQL's own clock, and includes the time of its transaction."""
    await operator.new_key("acme")
    took: asyncio.Queue[float] = asyncio.Queue()
    receiver = Receiver()
    feed = PostgresFeed(database, lately=FROM_NOW_ON, arrived=took.put_nowait)
    following = asyncio.create_task(feed.follow(receiver.receive, receiver.flowing))
    try:
        await receiver.until(lambda: receiver.flows[-1:] == [True])
        await operator.sql("DO $$ BEGIN UPDATE api_keys SET disabled_at = now(); PERFORM pg_sleep(0.3); END $$")
        async with asyncio.timeout(20):
            assert await took.get() > 0.2  # the clocks of this test and of the sleep are not the same
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def test_malformed_messages_are_skipped(operator: ManagementClient, database: str) -> None:
    """The feed skips malformed messages of other senders and goes on."""
    key, _ = await operator.new_key("acme")
    async with listening(database, lately=FROM_NOW_ON) as receiver:
        for junk in ("", "junk", f"api_key {key.id}", f"user {key.id} 7", "api_key x\ny 7", "é" * 3000):
            await operator.sql("SELECT pg_notify('extauthz', %s)", junk)
        await operator.sql("SELECT pg_notify('another', 'api_key x 7')")
        await operator.sql("UPDATE api_keys SET disabled_at = now()")
        await receiver.received("api_key", key.id)
        assert len(receiver.changes) == 1
        assert receiver.flows == [True]


async def test_a_connection_that_was_killed_is_opened_again(operator: ManagementClient, database: str) -> None:
    """The feed reports that messages do not arrive, then that they do; and they do."""
    key, _ = await operator.new_key("acme")
    async with listening(f"{database}?application_name=feed", lately=FROM_NOW_ON) as receiver:
        await operator.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'feed'")
        await receiver.until(lambda: receiver.flows == [True, False, True])
        await operator.sql("UPDATE api_keys SET disabled_at = now()")
        await receiver.received("api_key", key.id)


@pytest.mark.parametrize("statement", ["UPDATE api_keys SET disabled_at = now()", "DELETE FROM api_keys"])
async def test_changes_during_a_lost_connection_are_found(
    operator: ManagementClient, database: str, postgres_server: Postgres, statement: str
) -> None:
    """After a loss, the missed changes come before messages are said to flow again, deletions as well."""
    key, _ = await operator.new_key("acme")
    await operator.sql("UPDATE audit_log SET at = at - interval '1 hour'")  # it was made long ago
    async with (
        HurtingProxy("127.0.0.1", postgres_server.port) as between,
        listening(through(database, between)) as receiver,
    ):
        assert receiver.changes == []
        await between.refuse()
        await receiver.until(lambda: False in receiver.flows)
        earlier = await number(operator)
        await operator.sql(statement)
        later = await number(operator)
        await between.accept()
        await receiver.until(lambda: receiver.flows[-1])
        assert [change.thing for change in receiver.changes] == [EntityRef("api_key", key.id)]
        assert earlier + 1 < receiver.changes[0].fence <= later


async def test_a_change_is_not_notified_again(
    operator: ManagementClient, database: str, postgres_server: Postgres
) -> None:
    """After a loss only missed changes come, one by one, also where the same entity had changed before."""
    key, _ = await operator.new_key("acme")
    async with (
        HurtingProxy("127.0.0.1", postgres_server.port) as between,
        listening(through(database, between)) as receiver,
    ):
        first = await receiver.received("api_key", key.id)  # from the audit log
        await operator.sql("UPDATE api_keys SET name = 'a message'")
        await receiver.until(lambda: receiver.changes[-1].thing == first.thing and receiver.changes[-1] != first)
        for missed in (1, 0):
            receiver.changes.clear()
            receiver.flows.clear()
            await between.refuse()
            await receiver.until(lambda: False in receiver.flows)
            if missed:
                await operator.sql("UPDATE api_keys SET name = 'missed'")
            await between.accept()
            await receiver.until(lambda: receiver.flows[-1])
            assert [change.thing for change in receiver.changes] == [first.thing] * missed


async def test_a_transaction_that_is_committed_later_is_notified(
    operator: ManagementClient, database: str, postgres_server: Postgres
) -> None:
    """A transaction that began before one that was notified is notified too, though its fence is the lower one."""
    key, _ = await operator.new_key("acme")
    async with (
        HurtingProxy("127.0.0.1", postgres_server.port) as between,
        listening(through(database, between)) as receiver,
    ):
        async with operator.pool.connection() as connection, connection.transaction():
            await connection.execute("SELECT pg_current_xact_id()")
            receiver.changes.clear()
            await operator.sql("UPDATE api_keys SET name = 'began later'")
            told = await receiver.received("api_key", key.id)
            receiver.changes.clear()
            await between.refuse()
            await receiver.until(lambda: False in receiver.flows)
            await connection.execute("UPDATE api_keys SET disabled_at = now()")
        await between.accept()
        await receiver.until(lambda: receiver.flows[-1])
        assert [change.thing for change in receiver.changes] == [told.thing]
        assert receiver.changes[0].fence < told.fence


async def test_a_transaction_number_of_the_future(operator: ManagementClient, database: str) -> None:
    """Whatever stands in the audit log, no fence is raised so high that it keeps out records of later reads."""
    key, _ = await operator.new_key("acme")
    await operator.sql("UPDATE audit_log SET xact = '18446744073709551615'")
    async with listening(database) as receiver:
        assert (await receiver.received("api_key", key.id)).fence <= await number(operator) + 1


async def test_too_many_changes_invalidate_everything(
    operator: ManagementClient, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where recent changes are too many to be told apart, every record from before is invalidated."""
    monkeypatch.setattr(module, "RECENT_CHANGES_MAX", 5)
    for _ in range(6):
        await operator.new_key("acme")
    async with listening(database) as receiver:
        assert receiver.changes[-1].thing == EVERYTHING


@pytest.mark.parametrize("count", [module.RECENT_CHANGES_MAX - 500, module.RECENT_CHANGES_MAX])
async def test_thousands_of_changes_come_one_by_one(operator: ManagementClient, database: str, count: int) -> None:
    """Thousands of changes come one by one, deletions as well; beyond that, as one change of everything."""
    (last,) = await operator.rows("INSERT INTO plans (name) VALUES ('last') RETURNING id::text AS id")
    await operator.sql("INSERT INTO plans (name) SELECT 'p' || n FROM generate_series(2, %s) AS n", count // 2)
    await operator.sql("DELETE FROM plans WHERE name ~ '^(p[0-9]+|last)$'")
    over = await number(operator)
    async with listening(database) as receiver:
        things = {change.thing for change in receiver.changes}
        highest = max(change.fence for change in receiver.changes)
        if count < module.RECENT_CHANGES_MAX:
            assert len(things) == count // 2
            assert EntityRef("plan", last["id"]) in things
            assert highest <= over
        else:
            assert things == {EVERYTHING}
            assert over < highest <= await number(operator)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """The feed waits for little."""
    for name, seconds in {
        "LISTEN_TIMEOUT_SECONDS": 1.0,
        "HEARTBEAT_SECONDS": 0.2,
        "HEARTBEAT_TIMEOUT_SECONDS": 0.3,
    }.items():
        monkeypatch.setattr(module, name, seconds)


@pytest.mark.usefixtures("hasty")
async def test_a_silent_connection_is_noticed(
    operator: ManagementClient, database: str, postgres_server: Postgres
) -> None:
    """Neither bytes nor an end come: messages are said not to flow, until they do; missed changes are found."""
    key, _ = await operator.new_key("acme")
    async with (
        HurtingProxy("127.0.0.1", postgres_server.port) as between,
        listening(through(database, between)) as receiver,
    ):
        between.swallow = True
        await operator.sql("UPDATE api_keys SET disabled_at = now()")
        await between.swallowed.wait()
        receiver.changes.clear()
        await receiver.until(lambda: receiver.flows == [True, False])
        between.swallow = False
        await receiver.received("api_key", key.id)
        await receiver.until(lambda: receiver.flows[-1])


async def test_silence_is_not_a_loss(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing changes for long, the connection that listens stays."""
    monkeypatch.setattr(module, "HEARTBEAT_SECONDS", 0.01)
    asked = asyncio.Semaphore(0)
    in_time = module._in_time

    async def watched(call: Coroutine[Any, Any, T], seconds: float) -> T:
        asked.release()
        return await in_time(call, seconds)

    monkeypatch.setattr(module, "_in_time", watched)
    async with listening(database) as receiver:
        for _ in range(20):
            await asked.acquire()
        assert receiver.flows == [True]


class Deaf(HurtingProxy):
    """While `harms`, loses every answer from the moment a client wants to listen."""

    harms = True

    async def _ask(self, questions: asyncio.StreamReader, server: asyncio.StreamWriter) -> None:
        while data := await questions.read(65_536):
            self.swallow = self.swallow or (self.harms and b"LISTEN" in data)
            server.write(data)


@pytest.mark.usefixtures("hasty")
async def test_an_answer_to_listen_that_was_lost_is_not_waited_for(database: str, postgres_server: Postgres) -> None:
    """The next connection is opened, and messages are not said to flow before it listens."""
    receiver = Receiver()
    async with Deaf("127.0.0.1", postgres_server.port) as between:
        feed = PostgresFeed(through(database, between), lately=120)
        following = asyncio.create_task(feed.follow(receiver.receive, receiver.flowing))
        for _ in range(2):
            async with asyncio.timeout(20):
                await between.swallowed.wait()
            assert True not in receiver.flows
            await receiver.until(lambda: receiver.flows[-1:] == [False])
            receiver.flows.clear()
            between.swallow = False
            between.swallowed.clear()
        between.harms = between.swallow = False
        await receiver.until(lambda: receiver.flows[-1:] == [True])
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def test_postgresql_stopped_and_started(
    operator: ManagementClient, database: str, postgres_server: Postgres
) -> None:
    """The feed comes back by itself."""
    key, _ = await operator.new_key("acme")
    async with listening(database, lately=FROM_NOW_ON) as receiver:
        with stopped(postgres_server):
            await receiver.until(lambda: False in receiver.flows)
        await receiver.until(lambda: receiver.flows[-1])
        await operator.sql("UPDATE api_keys SET disabled_at = now()")
        await receiver.received("api_key", key.id)


class Pooler(HurtingProxy):
    """Gives its clients another process number than the server's, as poolers do."""

    async def _answer(self, answers: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):  # the server has hung up
            while True:
                kind, length = unpack("!cI", await answers.readexactly(5))
                body = await answers.readexactly(length - 4)
                if kind == b"K":
                    body = pack("!I", 4242) + body[4:]
                client.write(pack("!cI", kind, length) + body)


async def test_a_pooler_that_drops_listen_is_reported(database: str, postgres_server: Postgres) -> None:
    """Where a pooler silently drops LISTEN, messages are never said to flow, and the setting is named."""
    warned = asyncio.Event()

    class Told(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            assert "EXTAUTHZ_NOTIFY_DATABASE_URL" in record.getMessage()
            warned.set()

    logger, handler = logging.getLogger("extauthz.changes"), Told()
    logger.addHandler(handler)
    receiver = Receiver()
    try:
        async with Pooler("127.0.0.1", postgres_server.port) as pooler:
            feed = PostgresFeed(through(database, pooler), lately=120)
            following = asyncio.create_task(feed.follow(receiver.receive, receiver.flowing))
            async with asyncio.timeout(10):
                await warned.wait()
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
    finally:
        logger.removeHandler(handler)
    assert True not in receiver.flows
    assert receiver.changes == []


async def test_tables_without_a_log(database: str) -> None:
    """Without a log of what changed before the connection, everything may have changed: all records are read again."""
    async with listening(database, lately=None) as receiver:
        await receiver.until(lambda: bool(receiver.changes))
        assert [change.thing for change in receiver.changes] == [EVERYTHING]
