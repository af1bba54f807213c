"""Credits on a real Redis: what is counted and stored, in which rows, and what nothing is taken from."""

import asyncio

import pytest
from redis.asyncio import Redis as RedisClient

from extauthz.backends.redis.connection import RedisConnection
from extauthz.backends.redis.counters import RedisCounters
from extauthz.backends.redis.limits import RedisLimits
from extauthz.backends.redis.usage import RedisUsage
from extauthz.core.limits import UNLIMITED, Limits, Rate
from extauthz.core.usage import CREDITS_FIELD, ORGANIZATION, CreditsUsed, Seed
from tests.limit_names import DAILY, HOURLY, KEY_CREDITS, OWN_CREDITS
from tests.servers.limiting import (
    HASH,
    KEY,
    TENANT,
    hash_of,
    limiter_on,
    now,
    redis_connection,
    seed,
    spend_of,
    taken,
)

__all__ = ["redis_connection"]

WITHOUT = Limits(Rate(1, 60), 100, 1000, 10_000)
PLENTY = Limits(credits=10**6)


async def test_never_more_than_was_granted(redis: RedisClient, redis_url: str) -> None:
    """Of many requests at once on several connections as many pass as there are credits; a grant lets more pass."""
    few, more = Limits(credits=40), Limits(credits=50)
    async with limiter_on(redis_url) as one, limiter_on(redis_url) as other:

        async def passed(limits: Limits) -> int:
            asked = (limiter.spend(spend_of(limits, now(), cost=3)) for limiter in (one, other) for _ in range(30))
            return sum(not spent.refused for _, spent in await asyncio.gather(*asked))

        assert await passed(few) == 13
        assert await passed(more) == 3
    assert (await hash_of(redis))["credits"] == "48"


async def test_long_and_short_rows_in_one_call(redis: RedisClient, redis_connection: RedisConnection) -> None:
    """Each asked gets its own row, whichever of its neighbours has hours, credits or both, or fails."""
    limits = await seed(redis_connection)
    kinds = (WITHOUT, PLENTY, Limits(hourly_quota=9), Limits(hourly_quota=9, credits=2), WITHOUT, Limits(credits=2))
    asked = [spend_of(each, now(), key=f"key-{n}") for n, each in enumerate(kinds)]
    found = [taken(one) for one in await limits.spend(asked)]
    assert [len(one.row) for one in found] == [12, 17, 15, 17, 12, 17]
    assert [one.refused for one in found] == [(), (), (), (), (), (OWN_CREDITS,)]
    assert [one.used.get(OWN_CREDITS) for one in found] == [None, 1, None, 2, None, 2]
    assert [one.used.get(HOURLY) for one in found] == [None, 0, 1, 2, None, 0]
    assert [one.used[DAILY] for one in found] == [1, 2, 3, 4, 5, 5]


async def test_only_what_has_credits_is_stored(redis: RedisClient, redis_connection: RedisConnection) -> None:
    """Of an organization and of a key apart; a key's refusal takes nothing from its organization."""
    limits = await seed(redis_connection)
    await limits.spend([spend_of(WITHOUT, now(), key_limits=WITHOUT)])
    fields = set(await redis.hkeys(HASH))
    own = [spend_of(UNLIMITED, now(), key_limits=Limits(credits=1)), spend_of(PLENTY, now(), key_limits=PLENTY)]
    await limits.spend(own)
    assert set(await redis.hkeys(HASH)) - fields == {b"credits", f"credits:{KEY}".encode()}
    refused = taken((await limits.spend([spend_of(PLENTY, now(), key_limits=Limits(credits=2))]))[0])
    assert (refused.refused, refused.used[OWN_CREDITS], refused.used[KEY_CREDITS]) == ((KEY_CREDITS,), 1, 2)


@pytest.mark.parametrize("nonsense", ["", "x", "-1", "1 2", "9" * 30])
async def test_nonsense_in_a_count(redis: RedisClient, redis_connection: RedisConnection, nonsense: str) -> None:
    """It counts as never written, like every counter; the next charge writes the field again."""
    limits, asked = await seed(redis_connection), spend_of(PLENTY, now(), key_limits=PLENTY)
    for field in ("credits", f"credits:{KEY}"):
        await redis.hset(HASH, field, nonsense)
    spent = taken((await limits.spend([asked]))[0])
    assert (spent.used[OWN_CREDITS], spent.used[KEY_CREDITS]) == (1, 1)


async def test_while_the_counters_are_provisional(redis: RedisClient, redis_connection: RedisConnection) -> None:
    """PostgreSQL is away and Redis has lost its memory: nothing is taken from credits; what has none goes on."""
    limits = await seed(redis_connection)
    await redis.delete(HASH)
    await limits.seed(TENANT.id, None)
    for asked, refused in (
        (spend_of(PLENTY, now()), (OWN_CREDITS,)),
        (spend_of(WITHOUT, now(), key_limits=PLENTY), (KEY_CREDITS,)),
        (spend_of(WITHOUT, now(), key="key-2"), ()),
    ):
        spent = taken((await limits.spend([asked]))[0])
        assert (spent.refused, spent.provisional) == (refused, True)
    assert not [field for field in await hash_of(redis) if field.startswith("credits")]


async def test_repeats_of_a_request_take_nothing(redis_connection: RedisConnection) -> None:
    """A request that was charged once pays its credits once, also where none are left for its repeat."""
    limits = await seed(redis_connection)
    asked = spend_of(Limits(credits=1), now())
    asked.once = "request"
    found = [taken((await limits.spend([asked]))[0]) for _ in range(2)]
    assert [(one.refused, one.repeated, one.used[OWN_CREDITS]) for one in found] == [((), False, 1), ((), True, 1)]


async def test_what_was_used_is_restored(redis: RedisClient, redis_connection: RedisConnection) -> None:
    """Redis lost its memory: credits begin with what is saved of them, also those that no request asks of yet."""
    saved = [Seed(CREDITS_FIELD, *each, 0, 0) for each in ((ORGANIZATION, 7), (KEY, 5), ("key-2", 9))]
    limits = RedisLimits(redis_connection)
    state = await RedisCounters(redis_connection).beginning(spend_of(PLENTY, now()), saved)
    assert state.credits == {"": 7, KEY: 5}
    await limits.seed(TENANT.id, saved)
    spent = taken((await limits.spend([spend_of(PLENTY, now(), key_limits=PLENTY)]))[0])
    assert (spent.used[OWN_CREDITS], spent.used[KEY_CREDITS]) == (8, 6)
    assert (await hash_of(redis))["credits:key-2"] == "9"


@pytest.mark.parametrize(("here", "saved", "after"), [(5, 3, 5), (5, 5, 5), (3, 5, 5)])
@pytest.mark.parametrize("provisional", [False, True])
async def test_more_of_what_is_here_and_what_is_saved_counts(
    redis: RedisClient, redis_connection: RedisConnection, here: int, saved: int, after: int, *, provisional: bool
) -> None:
    """A copy of Redis that another server took over may be behind what is saved, or ahead of it."""
    limits = RedisLimits(redis_connection)
    await redis.hset(HASH, mapping={"credits": here, "seeded": "another epoch"})
    if provisional:
        await limits.seed(TENANT.id, None)
    for _ in range(2):
        await limits.seed(TENANT.id, [Seed(CREDITS_FIELD, ORGANIZATION, saved, 0, 0)])
    kept = await hash_of(redis)
    assert kept["credits"] == str(after)
    assert not [field for field in kept if field.startswith("was:")]


@pytest.mark.parametrize("whole", [False, True])
async def test_what_is_to_be_saved(redis: RedisClient, redis_connection: RedisConnection, *, whole: bool) -> None:
    """What is used of an organization's credits and of those of its keys, but not while it is not known."""
    limits = await seed(redis_connection)
    usage = RedisUsage(redis_connection)
    await limits.spend([spend_of(PLENTY, now(), cost=4, key_limits=PLENTY), spend_of(UNLIMITED, now(), key="key-2")])
    await usage.mark([(TENANT.id, key) for key in ((ORGANIZATION,) if whole else (KEY, "key-2"))])
    batch = await usage.read(10)
    assert set(batch.credits_used) == {CreditsUsed(TENANT.id, ORGANIZATION, 4), CreditsUsed(TENANT.id, KEY, 4)}
    await redis.hset(HASH, "seeded", "another epoch?")
    assert (await usage.read(10)).credits_used == []
