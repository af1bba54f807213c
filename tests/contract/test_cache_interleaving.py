"""A reader stopped midway, a change, and the reader resumed: no process serves what was read before the change."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from redis.asyncio import Redis

from extauthz.backends.redis.keyspace import cache_fence
from extauthz.core.changes import EVERYTHING
from extauthz.core.ports import REDIS
from extauthz.demo.postgres import Postgres
from extauthz.demo.redis import Redis as RedisServer
from extauthz.service.directory import invalidation
from extauthz.service.directory.invalidation import QUEUED_CHANGES_MAX
from extauthz.service.directory.tiers import MAX_CONCURRENT_QUERIES
from tests.servers.hurting_proxy import HurtingProxy
from tests.servers.management_client import KEY_FORMAT, NO_LIMITS, ManagementClient
from tests.servers.reader import Gate, Reader, reader, through
from tests.unit.service.asking import end_refusals

BEFORE = "gold 1000"
CHANGES = [
    pytest.param("UPDATE api_keys SET revoked_at = now()", "invalid", id="revoked"),
    pytest.param("UPDATE api_keys SET disabled_at = now()", "invalid", id="disabled"),
    pytest.param("DELETE FROM api_keys", "invalid", id="deleted"),
    pytest.param("UPDATE organizations SET status = 'suspended'", "suspended", id="suspended"),
    pytest.param("UPDATE plans SET daily_quota = 7 WHERE name = 'gold'", "gold 7", id="plan changed"),
    pytest.param("UPDATE organizations SET daily_quota = 5", "gold 5", id="limits changed"),
    pytest.param(
        "UPDATE organizations SET plan_id = (SELECT id FROM plans WHERE name = 'default')",
        "default 10000",
        id="another plan",
    ),
]
REVOKE = "UPDATE api_keys SET revoked_at = now()"


@pytest.fixture
async def key(operator: ManagementClient) -> str:
    await operator.tenants.create_plan("gold", NO_LIMITS | {"daily_quota": 1000})
    await operator.tenants.create_organization("acme", "gold")
    return (await operator.new_key("acme"))[1]


@pytest.fixture(params=[False, True], ids=["in use", "packed"])
def packs(request: pytest.FixtureRequest) -> bool:
    """Whether records are packed after each use."""
    return bool(request.param)


@pytest.fixture
async def one(key: str, database: str, redis_url: str, packs: bool) -> AsyncIterator[Reader]:
    """A process that receives change notifications."""
    async with reader(database, redis_url, packs=packs) as process:
        yield process


@pytest.fixture
async def deaf(key: str, database: str, redis_url: str, packs: bool) -> AsyncIterator[Reader]:
    """A second process on the same Redis, which receives no change notifications."""
    async with reader(database, redis_url, deaf=True, packs=packs) as process:
        yield process


@asynccontextmanager
async def filling(process: Reader, key: str, gate: Gate) -> AsyncIterator[asyncio.Task[str]]:
    """A first use of a key, stopped at a gate until the end of the block."""
    gate.close()
    fill = asyncio.create_task(process.meaning(key))
    async with asyncio.timeout(10):
        await gate.arrived.acquire()
    yield fill
    gate.open()
    await fill


async def cached(redis: Redis, key: str) -> dict[str, object]:
    """The record of a key in Redis, whether or not a process would accept it."""
    text = await redis.get(f"api_key_cache:{KEY_FORMAT.digest(key).digests[0]}")
    return {} if text is None else dict(json.loads(text))


@pytest.mark.parametrize("where", ["read", "before redis"])
@pytest.mark.parametrize(("change", "after"), CHANGES)
async def test_a_fill_that_was_under_way(
    one: Reader, deaf: Reader, operator: ManagementClient, key: str, change: str, after: str, where: str
) -> None:
    """A fill stopped before the local cache or before Redis is stale for every process when it resumes."""
    async with filling(one, key, one.keys.gate if where == "read" else one.key_cache.gate) as fill:
        await operator.sql(change)
        await one.heard()
        if where == "before redis":
            late = asyncio.create_task(one.meaning(key))  # while the older record is being shared
            await asyncio.sleep(0)
    if where == "before redis":  # the one that came before the change was answered before it, too
        assert (await fill, await late) == (BEFORE, after)
    else:
        assert await fill == after
    assert [await process.meaning(key) for process in (one, deaf, one, deaf)] == [after] * 4


@pytest.mark.parametrize(("change", "after"), CHANGES)
async def test_copies_that_were_cached_already(
    one: Reader, deaf: Reader, operator: ManagementClient, key: str, change: str, after: str
) -> None:
    """A message ends cached copies in process and Redis, also for a process that starts to read later without it."""
    assert [await one.meaning(key), await one.meaning(key)] == [BEFORE] * 2
    await operator.sql(change)
    await one.heard()
    assert [await process.meaning(key) for process in (one, deaf, one, deaf)] == [after] * 4


async def test_a_change_of_many_is_one_fence(one: Reader, operator: ManagementClient, key: str, redis: Redis) -> None:
    """A plan of many organizations, an organization of many keys: one message and one fence each, no loop."""
    for number in range(20):
        await operator.tenants.create_organization(f"other {number}", "gold")
        await operator.new_key("acme")
    await one.changes.until(lambda: len(one.changes.told) == 40)
    await redis.flushall()
    one.changes.told.clear()
    await operator.sql("UPDATE plans SET daily_quota = 7 WHERE name = 'gold'")
    await operator.sql("UPDATE organizations SET status = 'suspended' WHERE name = 'acme'")
    await one.changes.until(lambda: len(one.changes.told) == 2)
    kinds = sorted(change.thing.kind for change in one.changes.told)
    assert kinds == ["organization", "plan"]
    assert len(await redis.keys("cache_fence:*")) == 2


@pytest.mark.parametrize("column", ["revoked_at", "disabled_at"])
async def test_two_fills_in_the_wrong_order(
    deaf: Reader, database: str, redis_url: str, redis: Redis, operator: ManagementClient, key: str, column: str
) -> None:
    """Without notifications the numbers alone keep the record of the latest read, whichever is written last."""
    async with reader(database, redis_url, deaf=True) as other:
        async with filling(deaf, key, deaf.key_cache.gate) as slow:
            await operator.sql(f"UPDATE api_keys SET {column} = now()")
            assert await other.meaning(key) == "invalid"
        assert await slow == BEFORE
        await other.lookup.keys.shared()
        await deaf.lookup.keys.shared()
    assert (await cached(redis, key))[column] is not None
    async with reader(database, redis_url, deaf=True) as third:
        assert await third.meaning(key) == "invalid"


@pytest.mark.parametrize("stopped", [False, True])
async def test_a_writer_that_stays_open_costs_caching_and_no_more(
    one: Reader, deaf: Reader, operator: ManagementClient, database: str, redis_url: str, key: str, stopped: bool
) -> None:
    """An open transaction keeps every number low: old records stay out, new ones stay local."""
    async with operator.pool.connection() as connection:
        async with connection.transaction():
            await connection.execute("INSERT INTO plans (name) VALUES ('takes its time')")
            if stopped:
                async with filling(one, key, one.keys.gate) as fill:
                    await operator.sql("UPDATE plans SET daily_quota = 7 WHERE name = 'gold'")
                    await one.heard()
                assert await fill == "gold 7"
            else:
                assert await one.meaning(key) == BEFORE
                await operator.sql("UPDATE plans SET daily_quota = 7 WHERE name = 'gold'")
                await one.heard()
            one.recorder.reads.clear()
            assert [await one.meaning(key) for _ in range(3)] == ["gold 7"] * 3
            assert one.recorder.reads["tenant_quota", "process"] >= 2  # read after the message: accepted here
            assert [await deaf.meaning(key) for _ in range(2)] == ["gold 7"] * 2
            assert deaf.tenants.queries >= 1  # another process cannot accept a low number
        async with reader(database, redis_url, deaf=True) as third, reader(database, redis_url, deaf=True) as fourth:
            assert await third.meaning(key) == "gold 7"
            assert await fourth.meaning(key) == "gold 7"
            assert (fourth.keys.queries, fourth.tenants.queries) == (0, 0)  # as before, once it has ended


async def test_a_transaction_is_notified_at_its_commit(one: Reader, operator: ManagementClient, key: str) -> None:
    """A change has no effect while it is open or rolled back; committed, it is effective at once."""
    async with operator.pool.connection() as connection:
        async with connection.transaction(force_rollback=True):
            await connection.execute(REVOKE)
            assert await one.meaning(key) == BEFORE
        async with connection.transaction():
            await connection.execute(REVOKE)
            assert await one.meaning(key) == BEFORE
            assert one.changes.heard == []
    await one.heard()
    assert await one.meaning(key) == "invalid"


async def test_one_query_for_a_thousand_first_uses(one: Reader, key: str) -> None:
    """A thousand callers of a cold key are one query of PostgreSQL, which brings its organization too."""
    found = await asyncio.gather(*(one.meaning(key) for _ in range(1000)))
    assert set(found) == {BEFORE}
    assert (one.keys.queries, one.tenants.queries) == (1, 0)


async def test_restart_of_all_processes_causes_no_stampede(
    one: Reader, operator: ManagementClient, redis: Redis
) -> None:
    """Two hundred cold keys at once: a few queries under way, and one of them for many keys."""
    keys = [(await operator.new_key("acme"))[1] for _ in range(200)]
    found = await asyncio.gather(*(one.meaning(key) for key in keys))
    assert set(found) == {BEFORE}
    assert one.keys.queries < 100
    assert one.tenants.queries == 0
    assert one.keys.peak <= MAX_CONCURRENT_QUERIES
    assert not one.recorder.failures


async def test_flood_of_unknown_keys(database: str, redis_url: str, postgres_server: Postgres, key: str) -> None:
    """With 500 unknown keys and a slow PostgreSQL, a valid key behind them does not wait for each of them."""
    async with (
        HurtingProxy("127.0.0.1", postgres_server.port) as between,
        reader(through(database, between), redis_url, deaf=True) as process,
    ):
        between.delay = 0.02
        nobodys = [KEY_FORMAT.issue(number.to_bytes(20)) for number in range(500)]
        found = await asyncio.gather(*(process.meaning(each) for each in (*nobodys, key)))
        assert found == ["invalid"] * 500 + [BEFORE]
        assert process.keys.queries < 100
        assert process.keys.peak <= MAX_CONCURRENT_QUERIES


@pytest.mark.parametrize("meanwhile", ["held", "started later"])
async def test_redis_loses_a_revocation(
    deaf: Reader,
    database: str,
    redis_url: str,
    redis: Redis,
    operator: ManagementClient,
    key: str,
    monkeypatch: pytest.MonkeyPatch,
    meanwhile: str,
) -> None:
    """A process without notifications that read it from PostgreSQL does not return to the older record in Redis."""
    monkeypatch.setattr(invalidation, "UNCONFIRMED_SECONDS", 0.0)
    name = f"api_key_cache:{KEY_FORMAT.digest(key).digests[0]}"
    assert await deaf.meaning(key) == BEFORE
    older = await redis.get(name)
    assert older is not None
    await redis.delete(name)
    await operator.sql(REVOKE)
    async with reader(database, redis_url, deaf=True) as other:
        process = deaf if meanwhile == "held" else other
        assert await process.meaning(key) == "invalid"
        queries = process.keys.queries
        await process.lookup.keys.shared()
        await redis.set(name, older, px=100_000)  # a failover: the last writes are gone
        for _ in range(3):
            end_refusals(process.lookup.keys.local)  # its second is over
            assert await process.meaning(key) == "invalid"
        assert process.keys.queries > queries  # it asked
        await process.lookup.keys.shared()
    assert (await cached(redis, key))["revoked_at"] is not None


async def test_more_changes_than_can_wait_for_redis(
    deaf: Reader,
    database: str,
    redis_url: str,
    redis_server: RedisServer,
    redis: Redis,
    operator: ManagementClient,
    key: str,
) -> None:
    """After 10,000 changes during an outage of Redis, it has one fence round everything, in time."""
    assert await deaf.meaning(key) == BEFORE
    async with (
        HurtingProxy("127.0.0.1", redis_server.port) as between,
        reader(database, f"redis://127.0.0.1:{between.port}/0") as process,
        reader(database, redis_url, deaf=True) as late,
    ):
        await between.refuse()
        await process.recorder.until(lambda: (REDIS, False) in [change[:2] for change in process.recorder.changes])
        await operator.sql(REVOKE)
        await operator.sql(
            "SELECT pg_notify('extauthz', 'plan p' || n || ' ' || pg_current_xact_id())"
            " FROM generate_series(1, %s) AS n",
            QUEUED_CHANGES_MAX,
        )
        await process.changes.until(lambda: len(process.changes.heard) == QUEUED_CHANGES_MAX + 1)
        assert await cached(redis, key) != {}
        assert await redis.keys("cache_fence:*") == []
        await between.accept()
        await process.heard()
        assert [change.thing for change in process.changes.told] == [EVERYTHING]
        assert await redis.keys("cache_fence:*") == [cache_fence(EVERYTHING).encode()]
        assert await late.meaning(key) == "invalid"


async def test_created_key_works_at_once(one: Reader, operator: ManagementClient, key: str) -> None:
    """A key that was requested before it existed works as soon as its notification has arrived."""
    made, secret = await operator.new_key("acme")
    await operator.sql("DELETE FROM api_keys WHERE id::text = %s", made.id)
    await one.changes.until(lambda: len(one.changes.heard) == 2)
    assert [await one.meaning(secret) for _ in range(5)] == ["invalid"] * 5
    assert one.keys.queries == 1
    await operator.sql(
        "INSERT INTO api_keys (organization_id, hash, pepper_id, handle, permissions)"
        " SELECT id, %s, 'p1', 'xa', '{}' FROM organizations",
        bytes.fromhex(KEY_FORMAT.digest(secret).digests[0]),
    )
    await one.changes.until(lambda: len(one.changes.heard) == 3)
    assert await one.meaning(secret) == BEFORE
