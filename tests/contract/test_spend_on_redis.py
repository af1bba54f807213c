"""What the script that spends promises of a real Redis: bad state, bad arguments, expiry, and many at once."""

import asyncio
import math
from datetime import UTC, datetime

import pytest
from redis.asyncio import Redis as RedisClient
from redis.exceptions import ResponseError

from extauthz.backends.redis.keyspace import tenant_limits
from extauthz.backends.redis.limits import SPEND, RedisLimits
from extauthz.backends.redis.topology import connect
from extauthz.core.limits import BURST_MAX, Limits, Rate
from extauthz.core.reason import Reason
from extauthz.core.spend import BURST, DAILY, MICRO, Spend, plan
from extauthz.demo.redis import Redis

TENANT = "org 1}"  # a name that has to be encoded
HASH = tenant_limits(TENANT)
SLOW = Limits(Rate(1, 86_400), 3, 1000)  # nothing comes in while a test runs


async def ask(redis: RedisClient, limits: Limits = SLOW, cost: int = 1) -> Spend:
    """A spend with the windows round Redis's own clock."""
    seconds, _ = await redis.time()
    asked = plan(limits, cost, seconds)
    assert not isinstance(asked, Reason)
    return asked


async def test_by_redis_own_clock(redis: RedisClient) -> None:
    """The time of a spend is Redis's, in microseconds, and between two of its own answers."""
    before, spent, after = (
        await redis.time(),
        await RedisLimits(redis).spend(TENANT, await ask(redis)),
        await redis.time(),
    )
    assert before[0] * MICRO + before[1] <= spent.now <= after[0] * MICRO + after[1]
    assert await redis.hget(HASH, "at") == str(spent.now).encode()


async def test_one_key_for_a_tenant(redis: RedisClient) -> None:
    """All state of a tenant is one hash, its name encoded inside the braces, the day's counter named by the date."""
    spent = await RedisLimits(redis).spend(TENANT, await ask(redis))
    day = datetime.fromtimestamp(spent.now / MICRO, UTC)
    assert await redis.keys("*") == [b"tenant_limits:{.6f726720317d}"]
    assert await redis.hgetall(HASH) == {
        b"level": b"2000000",
        b"carry": b"0",
        b"at": str(spent.now).encode(),
        day.strftime("d:%Y%m%d").encode(): b"1",
        day.strftime("m:%Y%m").encode(): b"1",
    }


async def test_a_refusal_leaves_the_hash_byte_for_byte(redis: RedisClient) -> None:
    """Neither fields nor expiry change when a limit refuses, and a refusal makes no hash."""
    limits = RedisLimits(redis)
    for _ in range(3):
        await limits.spend(TENANT, await ask(redis))
    await redis.pexpire(HASH, 12_345_678)
    before, until = await redis.hgetall(HASH), await redis.pexpiretime(HASH)
    assert (await limits.spend(TENANT, await ask(redis))).refused == (BURST,)
    assert (await redis.hgetall(HASH), await redis.pexpiretime(HASH)) == (before, until)
    assert (await limits.spend("other", await ask(redis, Limits(daily_quota=0)))).refused == (DAILY,)
    assert await redis.exists(tenant_limits("other")) == 0


@pytest.mark.parametrize("command", ["SET {} x", "LPUSH {} x", "SADD {} x", "ZADD {} 1 x", "XADD {} * a b"])
async def test_state_of_the_wrong_type(redis: RedisClient, command: str) -> None:
    """It is thrown away and seeded again: a full bucket, one token taken."""
    await redis.execute_command(  # type: ignore[no-untyped-call]
        *(word.format(HASH) for word in command.split())
    )
    spent = await RedisLimits(redis).spend(TENANT, await ask(redis))
    assert (spent.refused, spent.level, spent.used) == ((), 2 * MICRO, (1, 1))
    assert await redis.type(HASH) == b"hash"
    assert await redis.pttl(HASH) > 0


@pytest.mark.parametrize(
    "nonsense",
    ["", "x", "-1", "1.5", "1e3", "0x10", "nan", "inf", " 1", "1 ", "9" * 400, "9007199254740993", "\udcff"],
)
@pytest.mark.parametrize("field", ["level", "at", "d", "m"])
async def test_nonsense_in_a_field(redis: RedisClient, field: str, nonsense: str) -> None:
    """It counts as never written: a bucket that is full, a counter at 0; and is overwritten by what makes sense."""
    asked = await ask(redis)
    names = {"d": asked.quotas[0].windows[1].field, "m": asked.quotas[1].windows[1].field}
    now = (await redis.time())[0] * MICRO
    state: dict[str, int | bytes] = {"level": 0, "carry": 0, "at": now, names["d"]: 5, names["m"]: 5}
    state["level"] = MICRO if field in names else 0
    state[names.get(field, field)] = nonsense.encode("utf-8", "surrogateescape")
    await redis.hset(HASH, mapping=state)  # type: ignore[arg-type] # keys and values as Redis takes them
    spent = await RedisLimits(redis).spend(TENANT, asked)
    assert spent.refused == ()
    assert spent.used == (1 if field == "d" else 6, 1 if field == "m" else 6)
    assert spent.level // MICRO == (0 if field in names else 2)
    assert all(value.isdigit() for value in (await redis.hgetall(HASH)).values())


@pytest.mark.parametrize("carry", ["x", "-1", "1.5", "86400", "nan", "9" * 30])
async def test_nonsense_in_the_carry(redis: RedisClient, carry: str) -> None:
    """A carry that is none, or as large as a whole part, is dropped; the level stays."""
    now = (await redis.time())[0] * MICRO + 60 * MICRO  # a clock that stepped back: nothing comes in
    await redis.hset(HASH, mapping={"level": 2 * MICRO, "carry": carry, "at": now})
    spent = await RedisLimits(redis).spend(TENANT, await ask(redis))
    assert (spent.refused, spent.level, spent.carry) == ((), MICRO, 0)


GOOD: list[int | str] = [1, 10, 1, 20, 1, 5, "d:1", 0, 1, "d:2", 1, 4 * 10**15, "d:3", 0, 0]
BAD = ["-2", "1.5", "1e3", "nan", "-nan", "inf", "-inf", "", " 1", "x", "0x1", str(2**53 + 1), "9" * 400]
OUT_OF_RANGE = [
    (0, "0"),
    (0, "-1"),
    (0, str(10**9 + 1)),
    (1, "-1"),
    (2, "0"),
    (3, "-1"),
    (3, str(10**9 + 1)),
    (4, "17"),
]


@pytest.mark.parametrize(
    ("position", "value"),
    [(position, value) for position in (0, 1, 2, 3, 4, 5, 7, 8, 13, 14) for value in BAD] + OUT_OF_RANGE,
)
async def test_a_bad_argument(redis_server: Redis, position: int, value: str) -> None:
    """Zero and negative costs, fractions, `nan`, infinities, numbers that no double holds, text: refused, unwritten."""
    async with connect(redis_server.redis_url, patience=5) as client:
        await client.set(HASH, "even a state of the wrong type stays")
        with pytest.raises(ResponseError, match="is no whole number from"):
            await client.eval(SPEND, 1, HASH, *GOOD[:position], value, *GOOD[position + 1 :])
        assert await client.get(HASH) == b"even a state of the wrong type stays"


@pytest.mark.parametrize("count", range(len(GOOD)))
async def test_a_missing_argument(redis: RedisClient, count: int) -> None:
    """Too few arguments are refused before anything is written; the right ones are taken."""
    with pytest.raises(ResponseError):
        await redis.eval(SPEND, 1, HASH, *GOOD[:count])
    assert await redis.exists(HASH) == 0
    assert (await redis.eval(SPEND, 1, HASH, *GOOD))[0] == 0


@pytest.mark.parametrize(
    "limits",
    [
        SLOW,
        Limits(Rate(1, 864_000), BURST_MAX),
        Limits(Rate(1, 864_000), 1000, None, 5000),
        Limits(Rate(7, 1000), 999_983),
        Limits(Rate(10**9, 1), BURST_MAX, 10),
        Limits(None, None, 10),
        Limits(),
    ],
)
async def test_expiry(redis: RedisClient, limits: Limits) -> None:
    """Set at every spend, never shorter than the time to a full bucket or to a day after the last window's end."""
    for cost in (1, min(limits.burst or 1, 9), 1):
        asked = await ask(redis, limits, cost)
        spent = await RedisLimits(redis).spend(TENANT, asked)
        if spent.refused:
            continue
        left = await redis.pttl(HASH)
        end = max(window.end for window in spent.windows)
        assert left >= (end - spent.now) // 1000 + 86_400_000 - 5000
        if limits.rate is not None:
            missing = asked.burst * MICRO - spent.level
            full = math.ceil(missing * limits.rate.seconds / limits.rate.tokens / 1000)
            assert left > full - 5000
        await redis.persist(HASH)


async def test_a_forgotten_script_charges_once(redis: RedisClient) -> None:
    """After a restart, a fail-over or SCRIPT FLUSH the script is sent again; nothing ran before, so it charges once."""
    limits = RedisLimits(redis)
    left = []
    for _ in range(3):
        left.append((await limits.spend(TENANT, await ask(redis))).level // MICRO)
        await redis.script_flush()
    assert left == [2, 1, 0]


async def test_old_windows_go(redis: RedisClient) -> None:
    """When a day or month begins, counters that no clock can mean any more go; yesterday's and tomorrow's stay."""
    asked = await ask(redis)
    day, month = (quota.windows for quota in asked.quotas)
    kept = {window.field for window in (day[0], day[2], month[0], month[2])}
    await redis.hset(HASH, mapping=dict.fromkeys([*kept, "d:20200101", "m:202001"], 1))
    await RedisLimits(redis).spend(TENANT, asked)
    fields = kept | {"level", "carry", "at", day[1].field, month[1].field}
    assert set(await redis.hkeys(HASH)) == {field.encode() for field in fields}


async def test_the_last_token_is_spent_once(redis_server: Redis, redis: RedisClient) -> None:
    """Of a hundred at once, from two instances, exactly one gets the last token; so with the last of a quota."""
    async with connect(redis_server.redis_url, patience=5) as other:
        instances = [RedisLimits(redis), RedisLimits(other)]
        for limits in (Limits(Rate(1, 86_400), 1), Limits(daily_quota=1)):
            await redis.delete(HASH)
            asked = await ask(redis, limits)
            found = await asyncio.gather(*(instances[number % 2].spend(TENANT, asked) for number in range(100)))
            assert [spent.refused for spent in found].count(()) == 1


@pytest.mark.parametrize("days", [-400, -3, 3, 400])
async def test_a_clock_of_ours_that_is_days_off(redis: RedisClient, days: int) -> None:
    """Windows that do not fit Redis's clock: nothing happens, then one more call with those that do; charged once."""
    asked = await ask(redis)
    now = (await redis.time())[0]
    limits = RedisLimits(redis)
    wrong = asked.at(now + days * 86_400)
    commands = (await redis.info("commandstats")).get("cmdstat_evalsha", {"calls": 0})["calls"]
    await limits.spend(TENANT, asked)  # the script is known from now on
    spent = await limits.spend(TENANT, wrong)
    assert (spent.refused, spent.used, spent.level // MICRO) == ((), (2, 2), 1)
    assert [window.field for window in spent.windows] == [quota.windows[1].field for quota in asked.quotas]
    calls = (await redis.info("commandstats"))["cmdstat_evalsha"]["calls"]
    assert calls - commands == 3
