"""The lease script agrees with the reference arithmetic: workers interleave, die and lose messages, clocks step."""

import asyncio

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from redis.asyncio import Redis as RedisClient
from redis.exceptions import ResponseError

from extauthz.backends.redis.connection import RedisConnection
from extauthz.backends.redis.keyspace import tenant_limits
from extauthz.backends.redis.layout import by_name
from extauthz.backends.redis.leases import LEASE, command
from extauthz.backends.redis.limits import RedisLimits
from extauthz.core.leases import NO_LEASE, LeaseAsk, Leased
from extauthz.core.limits import Limits, Rate
from extauthz.core.spend import MICRO, Spend, Spent
from extauthz.demo.redis import Redis
from tests.generated import examples
from tests.leasing import TENANT, Leasing
from tests.servers.limiting import HASH, KEY, LEASING, SCRIPT, as_hash, hash_of, now, seed, set_clock, spend_of, taken

PLENTY = Limits(Rate(1, 3600), 1000, 10_000, 100_000)


class OnRedis(Leasing):
    """Redis beside the reference arithmetic: every answer and all stored state are the same."""

    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.redis_connection = self.runner.run(self._open())
        self.limits_on_redis = RedisLimits(self.redis_connection, script=SCRIPT, leasing=LEASING)

    async def _open(self) -> RedisConnection:
        redis_connection = RedisConnection(self.url)
        await redis_connection.execute_command("FLUSHALL")
        await seed(redis_connection, TENANT.id)
        return redis_connection

    def teardown(self) -> None:
        self.runner.run(self.redis_connection.close())
        self.runner.close()

    def spend(self, asked: Spend) -> Spent:
        expected = super().spend(asked)
        self.runner.run(self._agree(asked, expected))
        return expected

    def lease(self, ask: LeaseAsk) -> Leased:
        expected = super().lease(ask)
        self.runner.run(self._agree(ask, expected))
        return expected

    async def _agree(self, asked: Spend | LeaseAsk, expected: Spent | Leased) -> None:
        await set_clock(self.redis_connection, self.now)
        limits = self.limits_on_redis
        found = await (limits.spend([asked]) if isinstance(asked, Spend) else limits.lease([asked], ()))
        assert found == [expected]
        flat = await self.redis_connection.execute_command("HGETALL", tenant_limits(TENANT.id))
        kept = {name.decode(): value for name, value in zip(flat[::2], flat[1::2], strict=True)}
        assert by_name(kept) == as_hash(self.state, await self.redis_connection.epoch())


@pytest.mark.fuzz
def test_script_agrees_with_reference_arithmetic(redis_server: Redis) -> None:
    """Whatever is leased, served, lost and given back, at any time: answers and hashes are equal, to the byte."""
    machine = type("Machine", (OnRedis,), {"url": redis_server.redis_url})
    run_state_machine_as_test(machine, settings=settings(examples(5, 1_000), stateful_step_count=30))


def take(asked: Spend, *, wanted: int = 6) -> LeaseAsk:
    """The first message of a lease."""
    return LeaseAsk("take", "1234abcd", asked, 0, wanted)


async def test_a_lease_is_charged_when_it_is_taken(redis: RedisClient, redis_connection: RedisConnection) -> None:
    """Bucket and counters have the units at once; a close gives back what was not served, once."""
    limits, asked = await seed(redis_connection), spend_of(PLENTY, now(), cost=3)
    (leased,) = await limits.lease([take(asked, wanted=3)], ())
    assert (leased.units, leased.row[4], leased.row[6], leased.row[10]) == (3, 991 * MICRO, 9, 9)
    spent = taken((await limits.spend([asked]))[0])
    assert (spent.level // MICRO, spent.used["daily"]) == (988, 12)
    close = LeaseAsk("close", "1234abcd", asked, 2, 0)
    assert [answer.units for answer in await limits.lease([close], ())] == [1]
    assert [answer.row[0] for answer in await limits.lease([close], ())] == [NO_LEASE]
    kept = await hash_of(redis)
    day = kept["days"]
    assert (kept[f"d:{day}"], kept[f"d:{day}:{KEY}"].split()[:2]) == ("9", ["9", "3"])
    assert int(kept["bucket"].split()[0]) // MICRO == 991
    assert "leases" not in kept


async def test_another_epoch_leases_nothing(redis: RedisClient, redis_connection: RedisConnection) -> None:
    """Counters of another epoch, and provisional counters, are not leased."""
    limits, asked = await seed(redis_connection), spend_of(PLENTY, now())
    for mark in ("other", await redis_connection.epoch() + "?"):
        await redis.hset(HASH, "seeded", mark)
        (leased,) = await limits.lease([take(asked)], ())
        assert (leased.units, leased.row[0]) == (0, -2)
    assert "leases" not in await hash_of(redis)


@pytest.mark.parametrize("kept", ["x", "1234abcd 1 2 3\n", "\n\n", " ", "zz 1 1 1 1 1 1 0 0 k\n", "9" * 400])
async def test_corrupt_leases_hold_nothing(redis: RedisClient, redis_connection: RedisConnection, kept: str) -> None:
    """A corrupt lease counts as never written."""
    limits, asked = await seed(redis_connection), spend_of(PLENTY, now())
    await redis.hset(HASH, mapping={"leases": kept, "lapsed": kept})
    assert taken((await limits.spend([asked]))[0]).level // MICRO == 999
    (leased,) = await limits.lease([take(asked)], ())
    assert leased.units == 6


@pytest.mark.parametrize("position", range(14))
async def test_a_bad_argument(redis: RedisClient, redis_connection: RedisConnection, position: int) -> None:
    """Nothing is written where one number of one lease is invalid."""
    await seed(redis_connection)
    before = await hash_of(redis)
    for value in ("", "x", "-2", "1.5", "nan", "1e3", str(2**53 + 1)):
        keys, arguments = command([take(spend_of(PLENTY, now()))] * 2, await redis_connection.epoch())
        numbers = arguments[5].split(" ")
        numbers[position] = value
        arguments[5] = " ".join(numbers)
        with pytest.raises(ResponseError):
            await redis.eval(LEASE, len(keys), *keys, *arguments)
        assert await hash_of(redis) == before, value


async def test_no_memory_left(redis: RedisClient, redis_connection: RedisConnection) -> None:
    """When Redis is out of memory, no unit is given, and none is lost."""
    limits, asked = await seed(redis_connection), spend_of(PLENTY, now())
    before = await hash_of(redis)
    await redis.config_set("maxmemory", 1)
    try:
        (leased,) = await limits.lease([take(asked)], ())
    finally:
        await redis.config_set("maxmemory", 0)
    assert (leased.units, leased.row[0]) == (0, -3)
    assert await hash_of(redis) == before
