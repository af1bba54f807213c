"""The spend script on a real Redis: its clock, corrupt state, bad arguments, expiry."""

import math
import struct
from datetime import UTC, datetime

import pytest
from redis.asyncio import Redis as RedisClient

from extauthz.backends.redis.connection import RedisConnection
from extauthz.backends.redis.layout import STATE
from extauthz.core.limits import BURST_MAX, UNLIMITED, Limits, Rate
from extauthz.core.spend import MICRO, NotApplied
from tests.limit_names import BURST
from tests.servers.limiting import HASH, KEY, hash_of, microseconds, now, of, seed, spend_of, taken

SLOW = Limits(Rate(1, 86_400), 3, 1000)  # nothing comes in while a test runs
OWNER_STATE, KEY_STATE = struct.Struct("<BdIdIdIdII"), struct.Struct("<BdIdIdddId")
WRONG_TYPES = ["SET {} x", "LPUSH {} x", "SADD {} x", "ZADD {} 1 x", "XADD {} * a b"]


async def test_by_redis_own_clock(redis: RedisClient, redis_connection: RedisConnection) -> None:
    """The time of a spend is Redis's, in microseconds, and between two of its own answers."""
    limits, asked = await seed(redis_connection), spend_of(SLOW, now())
    before = await microseconds(redis)
    spent = taken((await limits.spend([asked]))[0])
    assert before <= spent.now <= await microseconds(redis)
    assert (await hash_of(redis))["bucket"].split()[2] == str(spent.now)


async def test_one_key_for_a_tenant(redis: RedisClient, redis_connection: RedisConnection) -> None:
    """All state of a tenant is one hash, its name encoded inside the braces, the day's counter named by the date."""
    spent = taken((await (await seed(redis_connection)).spend([spend_of(SLOW, now(), cost=2, key_limits=SLOW)]))[0])
    day = datetime.fromtimestamp(spent.now / MICRO, UTC)
    today, month = f"{day:%Y%m%d}", f"{day:%Y%m}01"
    assert await redis.keys("*") == [b"tenant_limits:{.6f726720317d}"]
    assert await redis.hget(HASH, f"d:{today}") == b"2"
    assert set(await redis.hkeys(HASH)) == {
        b"seeded",
        b"days",
        b"state",
        f"state:{KEY}".encode(),
        f"d:{today}".encode(),
    }
    assert await hash_of(redis) == {
        "seeded": await redis_connection.epoch(),
        "bucket": f"1000000 0 {spent.now}",
        f"bucket:{KEY}": f"1000000 0 {spent.now}",
        f"d:{today}": "2",
        f"m:{month}": "2",
        f"d:{today}:{KEY}": "2 1 1",
        f"m:{month}:{KEY}": "2",
        "days": today,
    }


async def put_bucket(redis: RedisClient, name: str, bucket: tuple[int, int, int], *, packed: bool) -> None:
    """A bucket of TENANT's or of its key's, as this release keeps it or as an earlier one did."""
    if not packed:
        await as_text(redis)
        await redis.hset(HASH, name, "{} {} {}".format(*bucket))
        return
    form, rest = (KEY_STATE, (0, 0, 0, 0, 0, 0)) if name != "bucket" else (OWNER_STATE, (0, 0, 0, 0, 0, 0))
    await redis.hset(HASH, name.replace("bucket", "state"), form.pack(1, *bucket, *rest))


@pytest.mark.parametrize("packed", [False, True], ids=["text", "packed"])
@pytest.mark.parametrize("of_key", [False, True], ids=["owner", "key"])
async def test_an_empty_bucket_fills_again_after_a_step_back(
    redis: RedisClient, redis_connection: RedisConnection, of_key: bool, packed: bool
) -> None:
    """A bucket's time in the future, left by a master with another clock, becomes the present time at a refusal."""
    limits, tight = await seed(redis_connection), Limits(Rate(1, 3600), 3)
    asked = spend_of(UNLIMITED, now(), key_limits=tight) if of_key else spend_of(tight, now())
    name, ahead = f"bucket:{KEY}" if of_key else "bucket", await microseconds(redis) + 3600 * MICRO
    await put_bucket(redis, name, (500000, 7, ahead), packed=packed)
    spent = taken((await limits.spend([asked]))[0])
    assert spent.refused
    assert (await hash_of(redis))[name] == f"500000 7 {spent.now}"
    await put_bucket(redis, name, (500000, 7, spent.now - 1800 * MICRO), packed=packed)
    assert not taken((await limits.spend([asked]))[0]).refused


async def test_a_refusal_leaves_the_hash_byte_for_byte(redis: RedisClient, redis_connection: RedisConnection) -> None:
    """Neither a refusal nor a peek changes fields or expiry, or creates a lost hash."""
    limits = await seed(redis_connection)
    for _ in range(3):
        await limits.spend([spend_of(SLOW, now())])
    await redis.pexpire(HASH, 12_345_678)
    before, until = await redis.dump(HASH), await redis.pexpiretime(HASH)
    assert taken((await limits.spend([spend_of(SLOW, now())]))[0]).refused == (BURST,)
    assert taken((await limits.spend([spend_of(UNLIMITED, now(), key_limits=Limits(daily_quota=0))]))[0]).refused
    assert (await redis.dump(HASH), await redis.pexpiretime(HASH)) == (before, until)
    (unseeded,) = await limits.spend([of("other", spend_of(Limits(daily_quota=0), now()))])
    assert isinstance(unseeded, NotApplied)
    assert unseeded.why == "unseeded"
    assert await redis.keys("*") == [HASH.encode()]


@pytest.mark.parametrize("command", WRONG_TYPES)
async def test_state_of_the_wrong_type_harms_one_tenant(
    redis: RedisClient, redis_connection: RedisConnection, command: str
) -> None:
    """It is deleted and restored; other tenants in the same call, before it and after it, are charged once each."""
    limits, asked = await seed(redis_connection, "a", "b"), spend_of(SLOW, now())
    words = [word.format(HASH) for word in command.split()]
    await redis.execute_command(*words)  # type: ignore[no-untyped-call]
    first, harmed, last, again = await limits.spend([of("a", asked), asked, of("b", asked), of("a", asked)])
    assert isinstance(harmed, NotApplied)
    assert harmed.why == "unseeded"
    assert [taken(one).level for one in (first, last, again)] == [2 * MICRO, 2 * MICRO, MICRO]
    assert await redis.exists(HASH) == 0
    await seed(redis_connection)
    assert taken((await limits.spend([asked]))[0]).level == 2 * MICRO
    assert await redis.pttl(HASH) > 0


async def as_text(redis: RedisClient) -> None:
    """TENANT's hash as an earlier release writes it."""
    await redis.hdel(HASH, STATE)


NONSENSE = ["", "x", "-1", "1.5", "1e3", "0x10", "nan", "inf", " 1", "1 ", "9" * 400, "9007199254740993", "\udcff"]


@pytest.mark.parametrize("field", ["d:{}", "m:{}01", "m:{}01:" + KEY, "d:{}:" + KEY])
async def test_corrupt_counter(redis: RedisClient, redis_connection: RedisConnection, field: str) -> None:
    """A corrupt counter counts as 0 and is overwritten by a valid one; the others stay."""
    for nonsense in NONSENSE:
        await redis.delete(HASH)
        limits, asked = await seed(redis_connection), spend_of(SLOW, now())
        await as_text(redis)
        await limits.spend([asked])
        today = f"{datetime.fromtimestamp(now(), UTC):%Y%m%d}"
        name = field.format(today if field.startswith("d") else today[:6])
        await redis.hset(HASH, name, nonsense.encode("utf-8", "surrogateescape"))
        spent = taken((await limits.spend([asked]))[0])
        counters = ("d:{}", "m:{}01", "m:{}01:" + KEY, "d:{}:" + KEY)
        kinds = ("daily", "monthly", "key-monthly", "key-daily")
        used = {counter: spent.used[kind] for counter, kind in zip(counters, kinds, strict=True)}
        assert used.pop(field) == 1, nonsense
        assert set(used.values()) == {2}, nonsense
        assert spent.level // MICRO == 1, nonsense  # and what came in meanwhile
        assert (await hash_of(redis))[name] in ("1", "1 1 1"), nonsense


@pytest.mark.parametrize("place", [0, 1, 2])
async def test_corrupt_bucket(redis: RedisClient, redis_connection: RedisConnection, place: int) -> None:
    """A bucket with a corrupt part is full; its organization's counters stay as they are."""
    for nonsense in NONSENSE:
        await redis.delete(HASH)
        limits = await seed(redis_connection)
        parts: list[str] = ["0", "0", str(await microseconds(redis))]
        parts[place] = nonsense
        await as_text(redis)
        await redis.hset(HASH, "bucket", " ".join(parts).encode("utf-8", "surrogateescape"))
        spent = taken((await limits.spend([spend_of(SLOW, now())]))[0])
        assert (spent.refused, spent.level, spent.row[5]) == ((), 2 * MICRO, 0), nonsense


PACKED = [b"", b"x", b"\1" * 52, b"\2" + bytes(52), b"\2" + bytes(60), b"\1" + b"\xff" * 52, b"\1" + b"\xff" * 60]


@pytest.mark.parametrize("state", PACKED)
@pytest.mark.parametrize("of_key", [False, True], ids=["owner", "key"])
async def test_corrupt_packed_state(
    redis: RedisClient, redis_connection: RedisConnection, of_key: bool, state: bytes
) -> None:
    """It counts as never written: a full bucket, counters at 0; the day's counter, which is its own field, stays."""
    limits, asked = await seed(redis_connection), spend_of(SLOW, now(), key_limits=SLOW)
    await limits.spend([asked])
    await redis.hset(HASH, f"state:{KEY}" if of_key else "state", state)
    spent = taken((await limits.spend([asked]))[0])
    levels, used = (spent.level, spent.key_level), spent.used
    costs = used["monthly"], used["key-monthly"], used["key-daily"]
    assert [level // MICRO for level in levels] == ([1, 2] if of_key else [2, 1])
    assert (costs, spent.used["daily"]) == ((2, 1, 1) if of_key else (1, 2, 2), 2)
    assert (taken((await limits.spend([asked]))[0])).used["monthly"] == costs[0] + 1


@pytest.mark.parametrize("carry", [86_400, 864_000])
async def test_a_carry_of_another_rate(redis: RedisClient, redis_connection: RedisConnection, carry: int) -> None:
    """A carry as large as a whole part is dropped; the level stays."""
    limits, later = await seed(redis_connection), await microseconds(redis) + 60 * MICRO  # a clock that stepped back
    await put_bucket(redis, "bucket", (2 * MICRO, carry, later), packed=True)
    spent = taken((await limits.spend([spend_of(SLOW, now())]))[0])
    assert (spent.refused, spent.level, spent.row[5]) == ((), MICRO, 0)


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
async def test_expiry(redis: RedisClient, redis_connection: RedisConnection, limits: Limits) -> None:
    """A spend sets it, never shorter than the time to full buckets of all keys, or to a week after the month."""
    store, key_limits = await seed(redis_connection), Limits(Rate(1, 864_000), 500)
    await redis.persist(HASH)
    full = 0
    for cost, key, own in ((1, KEY, UNLIMITED), (400, KEY, key_limits), (1, "key-2", UNLIMITED)):
        asked = spend_of(limits, now(), cost=min(cost, limits.burst or cost), key=key, key_limits=own)
        spent = taken((await store.spend([asked]))[0])
        if spent.refused:
            continue
        assert asked.windows is not None
        left, month = await redis.pttl(HASH), asked.windows.months.bounds[3]
        assert left >= month * 1000 - spent.now // 1000 + 7 * 86_400_000 - 5000
        for one, level in ((limits, spent.level), (own, spent.key_level)):
            if one.rate is not None and one.burst is not None:
                missing = one.burst * MICRO - level
                full = max(full, math.ceil(missing * one.rate.seconds / one.rate.tokens / 1000))
        assert left > full - 60_000


async def test_expiry_is_never_brought_forward(redis: RedisClient, redis_connection: RedisConnection) -> None:
    """What one key's slow bucket needs is not cut short by another key's request."""
    store, slow = await seed(redis_connection), Limits(Rate(1, 864_000), 500)
    await store.spend([spend_of(UNLIMITED, now(), cost=500, key_limits=slow)])
    until = await redis.pexpiretime(HASH)
    assert until > (now() + 499 * 864_000) * 1000
    await store.spend([spend_of(UNLIMITED, now(), key="key-2"), spend_of(Limits(daily_quota=0), now())])
    assert await redis.pexpiretime(HASH) == until


async def test_unlimited_is_counted(redis: RedisClient, redis_connection: RedisConnection) -> None:
    """Usage is counted with and without a quota; a refused request is not counted."""
    store = await seed(redis_connection)
    asked = [
        spend_of(UNLIMITED, now(), cost=7),
        spend_of(UNLIMITED, now(), key="key-2", key_limits=Limits(daily_quota=0)),
    ]
    allowed, refused = [taken(one) for one in await store.spend(asked)]
    assert (allowed.used["daily"], refused.used["daily"], refused.refused) == (7, 7, ("key-daily",))
    assert not [name for name in await hash_of(redis) if "key-2" in name]
