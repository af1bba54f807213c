"""Hourly quotas on a real Redis: hours of any zone under load, stored fields, and the effect of an outage."""

import asyncio
from collections import Counter

import pytest
from redis.asyncio import Redis as RedisClient

from extauthz.backends.redis.connection import RedisConnection
from extauthz.backends.redis.counters import RedisCounters
from extauthz.backends.redis.limits import RedisLimits
from extauthz.core.calendar import Calendar
from extauthz.core.limits import UNLIMITED, Limits, Rate
from extauthz.core.spend import MICRO, OTHER_HOUR, Spend, hour_field
from extauthz.core.usage import Seed
from tests.contract.test_spend_at_once import spend_until
from tests.limit_names import DAILY, HOURLY, KEY_HOURLY
from tests.servers.limiting import (
    HASH,
    KEY,
    SCRIPT,
    TENANT,
    hash_of,
    limiter_on,
    now,
    redis_connection,
    seed,
    set_clock,
    spend_of,
    taken,
)

__all__ = ["redis_connection"]

HOUR = 3600
PLENTY = Limits(hourly_quota=10**6)
WITHOUT = Limits(Rate(1, 60), 100, 1000, 10_000)


@pytest.mark.parametrize(
    ("calendar", "boundary"),
    [
        (Calendar(), 1_800_003_600),
        (Calendar("Asia/Kolkata"), 1_800_001_800),
        (Calendar("Europe/Berlin"), 1_824_858_000),  # 2027-10-31T01:00Z: the hour from 2 to 3 is shown again
        (Calendar("Australia/Lord_Howe"), 1_806_764_400),  # 2027-04-03T15:00Z: half an hour is
    ],
)
async def test_a_full_hour_under_load(
    redis: RedisClient, redis_url: str, redis_connection: RedisConnection, calendar: Calendar, boundary: int
) -> None:
    """What was admitted before and after is in the counter of its own hour, to the last token."""
    at = (boundary - 1) * MICRO
    await set_clock(redis_connection, at)
    asked = Spend(TENANT, 3, PLENTY, calendar, key_id=KEY, key_limits=PLENTY).at(boundary - 1)
    done, passed = asyncio.Event(), list[tuple[Spend, object]]()
    async with limiter_on(redis_url, script=SCRIPT) as one, limiter_on(redis_url, script=SCRIPT) as other:
        load = [
            asyncio.create_task(spend_until(limiter, asked.at(boundary + off), done, passed))  # type: ignore[arg-type]
            for limiter in (one, other)
            for off in (-2 * HOUR, -1, 0, 2 * HOUR)  # their own clocks are slow or fast
        ]
        for step in range(400):
            await set_clock(redis_connection, at + step * 5_000)
        done.set()
        await asyncio.gather(*load)
    counted: Counter[str] = Counter()
    for sent, spent in passed:
        assert sent.windows is not None
        row = taken(spent).row  # type: ignore[arg-type]
        bounds = sent.windows.hours.bounds
        assert bounds[row[12] - 1] * MICRO <= taken(spent).now < bounds[row[12]] * MICRO  # type: ignore[arg-type]
        assert bool(row[1] & OTHER_HOUR) == (row[12] != 2)
        counted[hour_field(sent.windows, row[12] - 1)] += 3
    kept = await hash_of(redis)
    assert {name: int(kept[name]) for name in counted} == dict(counted)
    assert {name: int(kept[f"{name}:{KEY}"]) for name in counted} == dict(counted)
    assert f"h:{boundary}" in counted


async def test_without_hourly_quotas_nothing_is_stored(redis: RedisClient, redis_connection: RedisConnection) -> None:
    """The hash has no additional field, nor has that of another organization in the same call."""
    limits = await seed(redis_connection, TENANT.id)
    await limits.spend([spend_of(WITHOUT, now(), key_limits=WITHOUT)])
    fields = set(await redis.hkeys(HASH))
    assert not [field for field in fields if b"hour" in {field, field[:4]}]
    await limits.spend([spend_of(WITHOUT, now()), spend_of(WITHOUT, now(), key_limits=Limits(hourly_quota=5))])
    assert set(await redis.hkeys(HASH)) - fields == {f"hour:{KEY}".encode()}


async def test_long_and_short_rows_in_one_call(redis_connection: RedisConnection) -> None:
    """Each spend gets its own row, even if another one in the call has hours or fails."""
    limits = await seed(redis_connection)
    hourly = Limits(hourly_quota=2)
    asked = [spend_of(each, now(), key=f"key-{n}") for n, each in enumerate((WITHOUT, hourly, WITHOUT, hourly, hourly))]
    found = [taken(one) for one in await limits.spend(asked)]
    assert [len(one.row) for one in found] == [12, 15, 12, 15, 15]
    assert [one.refused for one in found] == [(), (), (), (), (HOURLY,)]
    assert [one.used.get(HOURLY) for one in found] == [None, 1, None, 2, 2]
    assert [one.used[DAILY] for one in found] == [1, 2, 3, 4, 4]


@pytest.mark.parametrize("nonsense", ["", "x", "1 2 3", "-1 5 0 0", "1 2 3 4 5", "9" * 30 + " 1 0 0"])
async def test_corrupt_hour(redis: RedisClient, redis_connection: RedisConnection, nonsense: str) -> None:
    """It counts as never written; the next charge writes the field again."""
    limits, asked = await seed(redis_connection), spend_of(PLENTY, now(), key_limits=PLENTY)
    await limits.spend([asked])
    for field in ("hour", f"hour:{KEY}"):
        await redis.hset(HASH, field, nonsense)
    spent = taken((await limits.spend([asked]))[0])
    assert (spent.used[HOURLY], spent.used[KEY_HOURLY], spent.used[DAILY]) == (1, 1, 2)


async def test_after_redis_lost_its_memory(redis: RedisClient, redis_connection: RedisConnection) -> None:
    """Day and month begin with saved usage, an hour at zero: its quota can be spent once more in that hour."""
    tight = Limits(hourly_quota=2, daily_quota=5)
    limits, asked = await seed(redis_connection), spend_of(tight, now(), cost=2)
    assert [taken((await limits.spend([asked]))[0]).refused for _ in range(2)] == [(), (HOURLY,)]
    await redis.flushall()
    assert asked.windows is not None
    day = f"d:{asked.windows.days.dates[1]:%Y%m%d}"
    await limits.seed(TENANT.id, [Seed(day, KEY, 2, 1, 1)])
    found = [taken((await limits.spend([asked]))[0]) for _ in range(2)]
    assert [one.refused for one in found] == [(), (DAILY, HOURLY)]


async def test_existing_hour_is_kept(redis: RedisClient, redis_connection: RedisConnection) -> None:
    """A copy of Redis that another server took over keeps its hour: a restore leaves it, and so explain finds it."""
    limits, asked = await seed(redis_connection), spend_of(PLENTY, now(), key_limits=PLENTY)
    await limits.spend([asked])
    await redis.hset(HASH, "seeded", "another epoch")
    state = await RedisCounters(redis_connection).beginning(asked, ())
    assert state.hours[""][1] == state.hours[KEY][1] == 1
    await RedisLimits(redis_connection).seed(TENANT.id, ())
    spent = taken((await limits.spend([asked]))[0])
    assert (spent.used[HOURLY], spent.used[KEY_HOURLY]) == (2, 2)


async def test_hours_without_a_quota_are_not_asked_of_others(redis_connection: RedisConnection) -> None:
    """The hour of a key does not limit its organization."""
    limits = await seed(redis_connection)
    own = [spend_of(UNLIMITED, now(), key=name, key_limits=Limits(hourly_quota=1)) for name in ("a", "b", "a")]
    assert [taken(one).refused for one in await limits.spend(own)] == [(), (), (KEY_HOURLY,)]
