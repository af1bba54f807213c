"""The values that counters would be restored to are reported as a check then finds them, and nothing is written."""

from dataclasses import replace

import pytest
from redis.asyncio import Redis as RedisClient

from extauthz.backends.redis.connection import RedisConnection
from extauthz.backends.redis.counters import RedisCounters
from extauthz.backends.redis.limits import RedisLimits
from extauthz.core import token_bucket
from extauthz.core.limits import Limits, Rate
from extauthz.core.spend import MICRO, NotApplied, Spent
from extauthz.core.usage import Seed
from tests.contract.test_seed_script import ELSEWHERE, LIMITS, NOW, SEEDED, SEEDS
from tests.servers.limiting import HASH, KEY, SCRIPT, TENANT, hash_of, set_clock, spend_of, taken

OLDER = {"seeded": ELSEWHERE, "bucket": f"1000000 5 {NOW * MICRO - MICRO}", "d:20270115": "9", "days": "20270115"}
HELD: dict[str, dict[str, str]] = {
    "nothing": {},
    "of another server": OLDER | {f"d:20270115:{KEY}": "9 2 3", "m:20270101": "9", f"m:20270101:{KEY}": "9"},
    "more than PostgreSQL has": {**SEEDED, **OLDER, f"d:20270115:{KEY}": "600 9 9", "d:20270115": "620"},
    "nonsense": OLDER | {f"d:20270115:{KEY}": "x", "m:20270101": "?", "bucket": "full"},
}


@pytest.fixture
async def limits(redis_connection: RedisConnection) -> RedisLimits:
    """Limits whose clock stands still on the day of SEEDS."""
    await set_clock(redis_connection, NOW * MICRO)
    return RedisLimits(redis_connection, script=SCRIPT)


@pytest.mark.parametrize("held", HELD)
@pytest.mark.parametrize("seeds", [(), SEEDS], ids=["nothing known", "known"])
async def test_report_equals_what_a_check_finds(
    redis: RedisClient, redis_connection: RedisConnection, limits: RedisLimits, held: str, seeds: tuple[Seed, ...]
) -> None:
    """For every state that this server's epoch does not cover."""
    if HELD[held]:
        await redis.hset(HASH, items=[part for pair in HELD[held].items() for part in pair])
    own = Limits(Rate(1, 60), 3, 60, None)
    asked = replace(spend_of(LIMITS, NOW), operation="peek", key_limits=own)
    (before,) = await limits.spend([asked])
    assert isinstance(before, NotApplied)
    state = await RedisCounters(redis_connection).beginning(asked, seeds)
    assert await hash_of(redis) == HELD[held]
    told = token_bucket.spend(state, asked, NOW * MICRO)
    await limits.seed(TENANT.id, seeds)
    found = taken((await limits.spend([asked]))[0])
    assert isinstance(told, Spent)
    assert told == found


async def test_a_name_of_another_type(
    redis: RedisClient, redis_connection: RedisConnection, limits: RedisLimits
) -> None:
    """It counts as empty, as it does for checks, and is not changed."""
    await redis.set(HASH, "no hash")
    asked = replace(spend_of(LIMITS, NOW), operation="peek")
    state = await RedisCounters(redis_connection).beginning(asked, ())
    assert token_bucket.spend(state, asked, NOW * MICRO) == token_bucket.spend(token_bucket.State(), asked, NOW * MICRO)
    assert await redis.get(HASH) == b"no hash"
    assert isinstance((await limits.spend([asked]))[0], NotApplied)
