"""The scripts of the shared cache keep the younger record, keep a revocation for good, and only raise a fence."""

import json
from dataclasses import replace

import pytest
from redis.asyncio import Redis

from extauthz.backends.redis import keyspace
from extauthz.backends.redis.invalidation import RedisInvalidations
from extauthz.backends.redis.records import RedisKeyCache, RedisTenantCache
from extauthz.core.changes import EVERYTHING, Change, EntityRef
from extauthz.core.credentials import Credential
from extauthz.core.keys import ApiKey
from extauthz.core.limits import Limits
from extauthz.core.tenants import Tenant
from tests.servers.shared_cache import cached

NOW = 1_800_000_000.0
DIGEST = "ab" * 32
ASKED = Credential((DIGEST,))
TENANT = Tenant("acme", "gold", "active", Limits(), NOW, 7, "p1")
KEY = ApiKey("k1", "acme", {}, None, None, None, NOW, 7, TENANT, DIGEST)
NAME = keyspace.api_key_cache(DIGEST)
FENCES = [keyspace.cache_fence(thing) for thing in (*KEY.made_of, *TENANT.made_of)]
BIG = 1 << 52  # of a server that has seen more transactions than any will


@pytest.fixture
def keys(redis: Redis) -> RedisKeyCache:
    return RedisKeyCache(redis, ttl=120)


async def stays(keys: RedisKeyCache, first: ApiKey, second: ApiKey) -> bool:
    """Whether the first of two records is still there after the second was put."""
    await keys.put([first], NOW)
    await keys.put([second], NOW)
    found = await cached(keys, ASKED, NOW)
    assert found in (first, second)
    return found == first


@pytest.mark.parametrize("base", [0, BIG])
async def test_the_younger_record_stays(keys: RedisKeyCache, redis: Redis, base: int) -> None:
    """By the number of the read; for equal numbers by its time; for equal times the last write stays."""
    for numbers, times, first_stays in (
        ((8, 7), (0, 0), True),
        ((8, 7), (-5, 0), True),
        ((7, 8), (0, 0), False),
        ((7, 8), (0, -5), False),
        ((7, 7), (0, -5), True),
        ((7, 7), (-5, 0), False),
    ):
        await redis.flushall()
        first, second = (
            replace(KEY, id=name, version=base + number, loaded_at=NOW + at)
            for name, number, at in zip("ab", numbers, times, strict=True)
        )
        assert await stays(keys, first, second) is first_stays


@pytest.mark.parametrize("number", [6, 7, 8])
async def test_revoked_is_for_good(keys: RedisKeyCache, number: int) -> None:
    """A record without the revocation never replaces one that has it, whatever its number; one with it may."""
    revoked = replace(KEY, revoked_at=NOW)
    assert await stays(keys, revoked, replace(KEY, version=number))
    assert await stays(keys, revoked, replace(revoked, version=number, id="k2")) is (number < 7)


async def test_corrupt_record_is_overwritten(keys: RedisKeyCache, redis: Redis) -> None:
    """A corrupt record keeps no record out."""
    for nonsense in (b"", b"{", b"[]", b"null", b"7", b'"x"', b'{"version": null}', b'{"version": {}}', b"\xff\x00"):
        await redis.set(NAME, nonsense)
        await keys.put([KEY], NOW)
        assert await cached(keys, ASKED, NOW) == KEY
    await redis.delete(NAME)
    await redis.hset(NAME, "a", "b")
    await keys.put([KEY], NOW)
    assert await cached(keys, ASKED, NOW) == KEY


async def test_a_fence_keeps_out_what_is_older(keys: RedisKeyCache, redis: Redis) -> None:
    """Of a key, an organization and a plan; also a record that is written after it was raised."""
    tenants, invalidations = RedisTenantCache(redis, ttl=30), RedisInvalidations(redis, seconds=120)
    for thing in (*KEY.made_of, *TENANT.made_of):
        await redis.flushall()
        for number, believed in ((7, True), (8, False)):
            await invalidations.raise_all([Change(thing, number)])
            await keys.put([KEY], NOW)
            await tenants.put([TENANT], NOW)
            found = await cached(keys, ASKED, NOW) if thing.kind == "api_key" else await cached(tenants, "acme", NOW)
            assert (found is not None) is believed
    await keys.put([replace(KEY, version=8)], NOW)
    assert await cached(keys, ASKED, NOW) is not None


async def test_a_fence_only_rises(redis: Redis) -> None:
    """An older change that arrives later lowers no fence, and each change extends its lifetime."""
    invalidations, (name, *_) = RedisInvalidations(redis, seconds=120), FENCES
    for told, stands in ((8, 8), (7, 8), (9, 9), (BIG + 1, BIG + 1), (BIG, BIG + 1)):
        await redis.pexpire(name, 1000)
        await invalidations.raise_all([Change(KEY.made_of[0], told)])
        assert int(await redis.get(name) or 0) == stands
        assert 115_000 < await redis.pttl(name) <= 120_000


async def test_a_fence_is_never_shortened(redis: Redis) -> None:
    """Another process may have shorter times: neither a lower nor a higher fence of it ends this one sooner."""
    name, thing = FENCES[0], KEY.made_of[0]
    await RedisInvalidations(redis, seconds=3600).raise_all([Change(thing, 8)])
    for told in (7, 8, 9):
        await RedisInvalidations(redis, seconds=2).raise_all([Change(thing, told)])
        assert await redis.pttl(name) > 3_500_000
    assert await redis.get(name) == b"9"
    await RedisInvalidations(redis, seconds=7200).raise_all([Change(thing, 1)])
    assert await redis.pttl(name) > 7_100_000
    assert await redis.get(name) == b"9"


async def test_a_fence_round_everything(keys: RedisKeyCache, redis: Redis) -> None:
    """It keeps out every older record, of keys and of organizations, and no younger one."""
    tenants = RedisTenantCache(redis, ttl=30)
    await keys.put([KEY], NOW)
    await tenants.put([TENANT], NOW)
    for number, believed in ((7, True), (8, False)):
        await RedisInvalidations(redis, seconds=120).raise_all([Change(EVERYTHING, number)])
        assert (await cached(keys, ASKED, NOW) is not None) is believed
        assert (await cached(tenants, "acme", NOW) is not None) is believed
    await keys.put([replace(KEY, version=8)], NOW)
    assert await cached(keys, ASKED, NOW) is not None


@pytest.mark.parametrize("garbage", [b"", b"x", b"6.5", b"nan", b"\xff", b"9" * 5000])
async def test_corrupt_fence_keeps_out(keys: RedisKeyCache, redis: Redis, garbage: bytes) -> None:
    """What it kept out is unknown, so it keeps out everything; the next change replaces it by a fence."""
    tenants = RedisTenantCache(redis, ttl=30)
    await keys.put([KEY], NOW)
    await tenants.put([TENANT], NOW)
    for name in FENCES:
        await redis.set(name, garbage, px=1000)
    assert await cached(keys, ASKED, NOW) is None
    assert await cached(tenants, "acme", NOW) is None
    if garbage != b"9" * 5000:
        await RedisInvalidations(redis, seconds=120).raise_all([Change(KEY.made_of[0], 7)])
        assert await cached(keys, ASKED, NOW) == KEY


async def test_a_fence_of_another_type_keeps_out(keys: RedisKeyCache, redis: Redis) -> None:
    """A list keeps out everything too, and a fence replaces it."""
    await keys.put([KEY], NOW)
    await redis.rpush(FENCES[0], "7")
    assert await cached(keys, ASKED, NOW) is None
    await RedisInvalidations(redis, seconds=120).raise_all([Change(KEY.made_of[0], 7)])
    assert await cached(keys, ASKED, NOW) == KEY


async def test_names_of_fences(redis: Redis) -> None:
    """Ids of other tables may be any text: each has its own fence."""
    ids = ["acme", "a b", "a:b", "{acme}", ".61", "a"]
    await RedisInvalidations(redis, seconds=120).raise_all([Change(EntityRef("organization", each), 7) for each in ids])
    assert len(await redis.keys("cache_fence:organization:*")) == len(ids)


async def test_scripts_that_redis_lost_are_sent_again(keys: RedisKeyCache, redis: Redis) -> None:
    """After a restart or a failover the first call loads the script again."""
    for _ in range(2):
        await keys.put([KEY], NOW)
        await RedisInvalidations(redis, seconds=120).raise_all([Change(KEY.made_of[0], 7)])
        await redis.script_flush()
    assert json.loads(await redis.get(NAME) or "")["id"] == "k1"
