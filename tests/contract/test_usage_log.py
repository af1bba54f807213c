"""A real Redis hands over for the usage flush all that was charged, deletes marks at the right time, and old days."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any

import pytest
from redis.asyncio import Redis as RedisClient

from extauthz.backends.redis import keyspace, usage
from extauthz.backends.redis.connection import RedisConnection, open_connection
from extauthz.backends.redis.usage import RedisUsage
from extauthz.core.spend import Spend
from extauthz.core.usage import ORGANIZATION, Counted
from tests.servers.charging_client import ACME, GLOBEX, ONE, THREE, TODAY, TWO, ChargingClient, NothingKnown, id_of

DAY = timedelta(days=1)
YESTERDAY, BEFORE = TODAY - DAY, TODAY - 2 * DAY
MANY = 2000


@pytest.fixture
async def spender(redis_url: str) -> AsyncIterator[ChargingClient]:
    async with open_connection(redis_url) as redis_connection:
        yield ChargingClient(redis_connection, NothingKnown())  # type: ignore[arg-type] # only its seeds are asked for


def rows(counted: Sequence[Counted]) -> set[Counted]:
    assert len(set(counted)) == len(counted)
    return set(counted)


async def test_what_was_charged(spender: ChargingClient) -> None:
    """Each key on each day, with all that it was charged; keys without a mark are not read."""
    await spender.charge(ONE, cost=3)
    await spender.charge(ONE)
    await spender.charge(TWO, day=YESTERDAY)
    await spender.charge(THREE, tenant_id=GLOBEX, cost=7)
    await spender.charge(THREE, mark=False)
    batch = await spender.log.read(100)
    assert rows(batch.counted) == {
        Counted(ACME, ONE, TODAY, 2, 4, 2),
        Counted(ACME, TWO, YESTERDAY, 1, 1, 1),
        Counted(GLOBEX, THREE, TODAY, 1, 7, 1),
    }
    assert {mark[:2] for mark in batch.marks} == await spender.marks() == {(ACME, ONE), (ACME, TWO), (GLOBEX, THREE)}


@pytest.mark.parametrize("name", ["org 1}", "a:b{c}", "*", "x" * 255, "d:20270331", "'\" \\ %"])
async def test_any_names_of_tenants_and_keys(spender: ChargingClient, name: str) -> None:
    """Printable ASCII of any kind keeps tenant and key apart, and is saved under its own name."""
    await spender.charge(name, tenant_id=name)
    await spender.charge(name[:-1] + "y", tenant_id=name)
    await spender.age_marks()
    batch = await spender.log.read(100)
    assert rows(batch.counted) == {
        Counted(name, name, TODAY, 1, 1, 1),
        Counted(name, name[:-1] + "y", TODAY, 1, 1, 1),
    }
    await spender.log.acknowledge(batch)
    assert await spender.marks() == set()


async def test_a_mark_is_kept_for_as_long_as_it_is_good(spender: ChargingClient) -> None:
    """Workers charge for a while without setting a mark again: a young mark stays after the save, an old one goes."""
    await spender.charge(ONE)
    await spender.age_marks(usage.MARGIN + 1)
    await spender.charge(TWO)
    await spender.log.acknowledge(await spender.log.read(100))
    assert await spender.marks() == {(ACME, TWO)}


async def test_marked_again_while_it_was_saved(spender: ChargingClient) -> None:
    """A key that is charged between the read and the commit keeps its mark, and the next save has all of it."""
    await spender.charge(ONE)
    await spender.age_marks()
    batch = await spender.log.read(100)
    await spender.charge(ONE)
    await spender.log.acknowledge(batch)
    assert await spender.marks() == {(ACME, ONE)}
    assert rows((await spender.log.read(100)).counted) == {Counted(ACME, ONE, TODAY, 2, 2, 2)}


async def test_portions(spender: ChargingClient) -> None:
    """With any portion size, whether marks stay or go, all are read, one portion after the other."""
    for number in range(7):
        await spender.charge(id_of(number), tenant_id=id_of(number % 3))
        if number == 3:
            await spender.age_marks()
    seen: list[Counted] = []
    position = 0
    while True:
        batch = await spender.log.read(2, position)
        seen += batch.counted
        position = await spender.log.acknowledge(batch)
        if batch.last:
            break
    assert {row.key_id for row in rows(seen)} == {id_of(number) for number in range(7)}
    assert len(await spender.marks()) == 3
    assert len((await spender.log.read(100)).counted) == 3


async def test_provisional_counters_are_not_saved(spender: ChargingClient) -> None:
    """They would replace saved usage by less: they keep their marks, without hiding others, until reconciled."""
    known, spender.usage = spender.usage, None
    asked, spent = await spender.charge(ONE)
    assert spent.provisional
    spender.usage = known
    await spender.charge(TWO, tenant_id=GLOBEX)
    await spender.age_marks()
    for _ in range(2):
        batch = await spender.log.read(100)
        assert {row.tenant_id for row in batch.counted} <= {GLOBEX}
        assert batch.incomplete == {ACME: [TODAY]}
        await spender.log.acknowledge(batch)
        assert await spender.marks() == {(ACME, ONE)}
    await spender.complete(asked)
    assert rows((await spender.log.read(100)).counted) == {Counted(ACME, ONE, TODAY, 1, 1, 1)}
    assert (await spender.log.read(100)).incomplete == {}


async def test_an_organization_that_is_marked(spender: ChargingClient) -> None:
    """All its keys are saved, on each of its days, and old days are deleted; its mark is deleted like others."""
    for day in (BEFORE, YESTERDAY, TODAY):
        await spender.charge(ONE, day=day, mark=False)
    await spender.charge(TWO, mark=False)
    await spender.charge(THREE)
    await spender.log.mark([(ACME, ORGANIZATION)])
    await spender.age_marks()
    batch = await spender.log.read(100)
    assert rows(batch.counted) == {
        *(Counted(ACME, ONE, day, 1, 1, 1) for day in (BEFORE, YESTERDAY, TODAY)),
        Counted(ACME, TWO, TODAY, 1, 1, 1),
        Counted(ACME, THREE, TODAY, 1, 1, 1),
    }
    await spender.log.acknowledge(batch)
    assert (await spender.marks(), (await spender.fields())["days"]) == (set(), "20270330 20270331")


async def test_a_memory_that_is_lost_while_all_keys_are_read(spender: ChargingClient, redis: RedisClient) -> None:
    """Counters that began again provisionally do not replace saved usage, and keep their marks."""

    class Forgetting(RedisConnection):
        async def execute_command(self, *args: Any) -> Any:
            if args[0] == "HSCAN":
                await redis.flushall()
                spender.usage = None
                await spender.charge(ONE, cost=50)
            return await spender.redis_connection.execute_command(*args)

        async def probe(self) -> None:
            await spender.redis_connection.probe()

    await spender.charge(ONE)
    await spender.log.mark([(ACME, ORGANIZATION)])
    log = RedisUsage(Forgetting("redis://nowhere"), today=TODAY)
    batch = await log.read(100)
    assert (batch.counted, batch.incomplete) == ([], {ACME: [TODAY]})
    await log.acknowledge(batch)
    assert await spender.marks() == {(ACME, ONE)}


async def test_another_servers_counters_are_saved(spender: ChargingClient, redis: RedisClient) -> None:
    """After a restart with all its data, what a tenant was charged before is saved, though it asks for nothing more."""
    await spender.charge(ONE)
    await redis.hset(keyspace.tenant_limits(ACME), "seeded", "0123456789ab")
    await spender.age_marks()
    batch = await spender.log.read(100)
    assert rows(batch.counted) == {Counted(ACME, ONE, TODAY, 1, 1, 1)}
    await spender.log.acknowledge(batch)
    assert await spender.marks() == set()


@pytest.mark.parametrize("harm", ["DEL {}", "SET {} x", "HSET {} state:" + ONE + " x", "HSET {} days 99999999"])
async def test_lost_or_corrupt_state(spender: ChargingClient, redis: RedisClient, harm: str) -> None:
    """Nothing of it is saved: others are, and its mark is deleted."""
    await spender.charge(ONE)
    await spender.charge(TWO, tenant_id=GLOBEX)
    await spender.age_marks()
    words = harm.format(keyspace.tenant_limits(ACME)).split()
    if words[0] == "SET":
        await redis.delete(words[1])
    await redis.execute_command(*words)  # type: ignore[no-untyped-call]
    batch = await spender.log.read(100)
    assert rows(batch.counted) == {Counted(GLOBEX, TWO, TODAY, 1, 1, 1)}
    await spender.log.acknowledge(batch)
    assert await spender.marks() == set()


async def test_marks_of_the_wrong_type(spender: ChargingClient, redis: RedisClient) -> None:
    """Foreign data in place of marks does not stop the flush: the next mark overwrites it."""
    await redis.set(keyspace.usage_due(), "x")
    assert (await spender.log.read(100)).marks == []
    await spender.charge(ONE)
    assert await spender.marks() == {(ACME, ONE)}


async def test_days_long_past_go_once_they_are_saved(spender: ChargingClient) -> None:
    """Of three days the oldest is saved whole, keys without a mark too, and dropped; so are old months."""
    for day in (BEFORE - 60 * DAY, BEFORE - 30 * DAY, BEFORE, YESTERDAY):
        await spender.charge(ONE, day=day, mark=False)
        await spender.charge(TWO, day=day, cost=5, mark=False)
    await spender.charge(ONE)
    batch = await spender.log.read(100)
    old = {BEFORE - 60 * DAY, BEFORE - 30 * DAY, BEFORE}
    assert rows(batch.counted) == {
        *(Counted(ACME, ONE, day, 1, 1, 1) for day in (*old, YESTERDAY, TODAY)),
        *(Counted(ACME, TWO, day, 1, 5, 1) for day in old),
    }
    before = await spender.fields()
    await spender.log.acknowledge(batch)
    after = await spender.fields()
    kept = {"d:20270330", "d:20270331", "m:20270201", "m:20270301"}
    assert {name[:10] for name in after if name[1] == ":"} == kept
    assert after == {name: before[name] for name in after} | {"days": "20270330 20270331"}
    await spender.log.acknowledge(batch)
    assert await spender.fields() == after


async def test_a_clock_that_was_ahead_takes_nothing_from_today(spender: ChargingClient) -> None:
    """Days and months begun by a wrong clock do not make today an old day: its counters stay, and are saved."""
    for day in (TODAY + 40 * DAY, TODAY + 80 * DAY, TODAY + 81 * DAY):
        await spender.charge(ONE, day=day)
    await spender.charge(ONE)
    await spender.age_marks()
    for cost in (1, 3):
        batch = await spender.log.read(100)
        assert Counted(ACME, ONE, TODAY, cost // 2 + 1, cost, cost // 2 + 1) in batch.counted
        await spender.log.acknowledge(batch)
        fields = await spender.fields()
        assert (fields[f"d:{TODAY:%Y%m%d}"], fields["m:20270301"]) == (str(cost), str(cost))
        await spender.charge(ONE, cost=2)
        await spender.age_marks()


async def test_an_old_day_that_changes_while_it_is_saved(spender: ChargingClient) -> None:
    """What was counted in between is kept: the next flush saves it, and then the day is deleted."""
    for day in (BEFORE, YESTERDAY, TODAY):
        await spender.charge(ONE, day=day)
        await spender.charge(TWO, day=day)
    batch = await spender.log.read(100)
    await spender.charge(TWO, day=BEFORE)
    await spender.log.acknowledge(batch)
    fields = await spender.fields()
    assert (fields["days"], fields["d:20270329"]) == ("20270329 20270330 20270331", "3")
    batch = await spender.log.read(100)
    assert Counted(ACME, TWO, BEFORE, 2, 2, 2) in batch.counted
    await spender.log.acknowledge(batch)
    assert (await spender.fields())["days"] == "20270330 20270331"


async def test_a_charge_in_the_middle_of_the_read(spender: ChargingClient, redis: RedisClient) -> None:
    """Where a key's counter was read before it and the organization's after it, the day stays to be saved again."""
    for day in (BEFORE, YESTERDAY, TODAY):
        await spender.charge(ONE, day=day)
        await spender.charge(TWO, day=day)
    batch = await spender.log.read(100)
    await redis.hset(keyspace.tenant_limits(ACME), f"d:{BEFORE:%Y%m%d}:{TWO}", "2 2 2")
    await spender.log.acknowledge(batch)
    assert (await spender.fields())["days"] == "20270329 20270330 20270331"
    assert Counted(ACME, TWO, BEFORE, 2, 2, 2) in (await spender.log.read(100)).counted


async def test_a_memory_that_is_lost_while_it_is_saved(spender: ChargingClient, redis: RedisClient) -> None:
    """A flush that finds other marks and old days than it saved leaves them alone."""
    for day in (BEFORE, YESTERDAY, TODAY):
        await spender.charge(ONE, day=day)
    await spender.age_marks()
    batch = await spender.log.read(100)
    await redis.flushall()
    await spender.log.acknowledge(batch)
    assert await redis.keys("*") == []
    await spender.charge(ONE, cost=9)
    await spender.log.acknowledge(batch)
    assert await spender.marks() == {(ACME, ONE)}
    assert (await spender.fields())["days"] == "20270331"


class Counting(RedisConnection):
    """A connection that records the largest command, the largest answer, in parts, and how many calls waited."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.sent = self.got = self.at_once = self.under_way = 0

    async def execute_command(self, *args: Any) -> Any:
        self.sent = max(self.sent, len(args))
        self.under_way += 1
        self.at_once = max(self.at_once, self.under_way)
        try:
            answer = await super().execute_command(*args)
        finally:
            self.under_way -= 1
        if args[0] != "ZRANGE":  # as long as it was asked for
            parts = answer[1] if args[0] == "HSCAN" else answer
            self.got = max(self.got, len(parts) if isinstance(parts, list) else 1)
        return answer


async def test_a_tenant_with_many_keys_does_not_hold_redis(
    redis_url: str, spender: ChargingClient, redis: RedisClient
) -> None:
    """Thousands of keys are read and dropped some at a time, few calls under way; nothing is left out."""
    for day in (BEFORE, YESTERDAY, TODAY):
        await spender.charge(ONE, day=day)
    pipeline = redis.pipeline(transaction=False)
    for number in range(MANY):
        for date in ("20270329", "20270330", "20270331"):
            pipeline.hset(keyspace.tenant_limits(ACME), f"d:{date}:{id_of(number + 10)}", "1 1 1")
    await pipeline.execute()
    for start in range(0, MANY, 200):
        await spender.log.mark([(ACME, id_of(number + 10)) for number in range(start, start + 200)])
    async with open_connection(redis_url) as plain:
        counting = Counting(redis_url)
        log = RedisUsage(counting, today=TODAY)
        batch = await log.read(MANY + 2)
        assert len(rows(batch.counted)) == 3 * (MANY + 1)
        await log.acknowledge(batch)
        assert not [name for name in await ChargingClient(plain).fields() if name.startswith("d:20270329")]
        again = await log.read(usage.FIELDS_PER_CALL_MAX)
        assert len(again.counted) == 2 * usage.FIELDS_PER_CALL_MAX
        await counting.close()
    assert counting.sent <= 2 * usage.FIELDS_PER_CALL_MAX + 10
    assert counting.got <= 4 * usage.FIELDS_PER_CALL_MAX  # HSCAN may give more than it was asked for
    assert counting.at_once <= usage.MAX_CONCURRENT_READS


async def test_marks_and_charges_of_many_at_once(spender: ChargingClient) -> None:
    """Sixty-four charges together, under one mark each: nothing is lost and nothing counted twice."""
    await spender.charge(ONE)
    windows = (await spender.charge(ONE))[0]
    asked = [Spend(windows.owner, 1, windows.limits, windows.calendar, windows.windows, id_of(n)) for n in range(64)]
    await asyncio.gather(
        *(spender.log.mark([(ACME, one.key_id)]) for one in asked), *(spender.limits.spend([one]) for one in asked)
    )
    counted = {row.key_id: row for row in (await spender.log.read(100)).counted}
    assert {key: row.allowed for key, row in counted.items()} == {id_of(n): 3 if n == 1 else 1 for n in range(64)}
