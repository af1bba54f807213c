"""The shared cache in real Redis: how long it keeps a record, and what happens to corrupt ones."""

import json
from dataclasses import replace

import pytest
from redis.asyncio import Redis

from extauthz.backends.redis.keyspace import api_key_cache, tenant_quota_cache
from extauthz.backends.redis.records import RedisKeyCache, RedisTenantCache
from extauthz.core.credentials import Credential
from extauthz.core.errors import StoreCorrupt
from extauthz.core.keys import ApiKey
from extauthz.core.limits import Limits, Rate
from extauthz.core.tenants import Tenant
from tests.servers.shared_cache import cached

NOW = 1_800_000_000.0
DIGEST = "ab" * 32
WORD = "sesame"
TENANT = Tenant("acme", "gold", "active", Limits(Rate(100, 60), 20, 1000, None), NOW, 7, "p1")
KEY = ApiKey("k1", "acme", {"customer": frozenset({"read"})}, NOW + 60, None, None, NOW, 7, TENANT, DIGEST)
ASKED = Credential((DIGEST,))
RECORD = KEY.to_record()


@pytest.fixture
def keys(redis: Redis) -> RedisKeyCache:
    return RedisKeyCache(redis, ttl=120)


@pytest.fixture
def tenants(redis: Redis) -> RedisTenantCache:
    return RedisTenantCache(redis, ttl=30)


def read_at(seconds: float) -> tuple[ApiKey, Tenant]:
    """Key and tenant, read from PostgreSQL that many seconds after NOW."""
    tenant = replace(TENANT, loaded_at=NOW + seconds)
    return replace(KEY, loaded_at=NOW + seconds, tenant=tenant), tenant


async def test_a_cached_record_is_unchanged(keys: RedisKeyCache, tenants: RedisTenantCache, redis: Redis) -> None:
    """A record comes back as it went in, from the very name that the contract gives it; the next digest is tried."""
    await keys.put([KEY], NOW)
    await tenants.put([TENANT], NOW)
    assert await cached(keys, Credential(("00" * 32, DIGEST)), NOW) == KEY
    assert await cached(tenants, "acme", NOW) == TENANT
    assert sorted(await redis.keys()) == [f"api_key_cache:{DIGEST}".encode(), b"tenant_quota_cache:acme"]
    assert await cached(keys, Credential(("00" * 32,)), NOW) is None
    assert await cached(tenants, "umbrella", NOW) is None


async def test_a_record_is_kept_for_what_is_left_of_its_time(
    keys: RedisKeyCache, tenants: RedisTenantCache, redis: Redis
) -> None:
    """The time counts from the read of PostgreSQL, not from the write, and never exceeds the setting."""
    for age, key_left, tenant_left in ((0, 120, 30), (20.5, 99.5, 9.5), (-3600, 120, 30)):
        key, tenant = read_at(-age)
        await redis.flushall()
        await keys.put([key], NOW)
        await tenants.put([tenant], NOW)
        for name, left in ((api_key_cache(DIGEST), key_left), (tenant_quota_cache("acme"), tenant_left)):
            assert left - 5 < await redis.pttl(name) / 1000 <= left


async def test_a_record_that_is_too_old_is_a_miss(keys: RedisKeyCache, tenants: RedisTenantCache, redis: Redis) -> None:
    """Too old a record is not written, and one that Redis still has is not used."""
    for age in (120, 121, 1e9):
        await keys.put([read_at(-age)[0]], NOW)
        await tenants.put([read_at(-age)[1]], NOW)
    assert await redis.keys() == []
    await redis.set(api_key_cache(DIGEST), with_())
    await redis.set(tenant_quota_cache("acme"), json.dumps(TENANT.to_record()))
    assert await cached(keys, ASKED, NOW + 119.9) == KEY
    assert await cached(keys, ASKED, NOW + 120) is None
    assert await cached(tenants, "acme", NOW + 29.9) == TENANT
    assert await cached(tenants, "acme", NOW + 30) is None


async def test_two_tenants_never_share_a_name(tenants: RedisTenantCache, redis: Redis) -> None:
    """Names that are not plain are encoded, each in its own way, and come back."""
    names = ["acme", "Acme", "a:b", "a b", "a", "{acme}", ".61", "a" * 64, "a" * 65, ".acme"]
    for name in names:
        await tenants.put([replace(TENANT, id=name)], NOW)
    assert len(await redis.keys()) == len(names)
    for name in names:
        found = await cached(tenants, name, NOW)
        assert found is not None
        assert found.id == name


def without(name: str) -> str:
    return json.dumps({key: value for key, value in RECORD.items() if key != name})


def with_(**changes: object) -> str:
    return json.dumps(RECORD | changes)


def with_tenant(**changes: object) -> str:
    return with_(tenant=TENANT.to_record() | changes)


WHOLE = json.dumps(RECORD)
NO_NAMES: list[object] = [None, 7, "", WORD + "\r\nx: y", f"{WORD}\u00e9", WORD * 100, f" {WORD}"]
NO_MAPS: list[object] = [None, [], WORD, {"customer": WORD}, {WORD + "/": ["read"]}, {"a": [[]]}, {"a": [None]}]
NO_TIMES: list[object] = [WORD, True, False, -1, [], {}, 1e300]
NO_TENANTS: list[object] = [None, [], WORD, {}, KEY.to_record()]
NO_RATES: list[object] = [WORD, 10, "0", [], {}, f"10/{WORD}", "1" * 100]
NO_MODES: list[object] = [{}, [], 1, WORD]
NO_STATUSES: list[object] = [None, WORD, "paused", 1, []]
NO_QUOTAS: list[object] = [WORD, -1, 1.0, False]
NO_NUMBERS: list[object] = [None, WORD, "7", 7.0, True, -1, 10**19, []]
NO_SIZES: list[object] = [None, WORD, 0, True, 1.5, 10**10]
NONSENSE: list[str | bytes] = [
    *("", " ", WORD, f'"{WORD}"', "null", "true", "0", "1e999", "NaN", "Infinity", "{}", "[]", f'["{WORD}"]'),
    *(WHOLE[: len(WHOLE) // 2], WHOLE[:-1], WHOLE + WORD, WHOLE + WHOLE, "{" + WHOLE, f'{{"{WORD}"'),
    *("[" * 100_000, '{"a":' * 100_000, "1" * 5000, '{"loaded_at": ' + "9" * 5000 + "}"),
    *(b"\xff\xfe" + WORD.encode(), b"\x00", b"\x80\x04\x95" + WORD.encode()),
    *(without(name) for name in RECORD),
    *(with_(id=bad) for bad in NO_NAMES),
    *(with_(permissions=bad) for bad in NO_MAPS),
    *(with_(permissions={"a": [bad]}) for bad in NO_MODES),
    *(with_(**{name: bad}) for name in ("revoked_at", "disabled_at", "expires_at", "loaded_at") for bad in NO_TIMES),
    *(with_(**{name: float(bad)}) for name in ("expires_at", "loaded_at") for bad in ("nan", "inf", "-inf")),
    with_(loaded_at=None),
    *(with_(tenant=bad) for bad in NO_TENANTS),
    *(with_tenant(status=bad) for bad in NO_STATUSES),
    *(with_tenant(rate=bad) for bad in NO_RATES),
    *(with_tenant(burst=bad) for bad in NO_SIZES),
    *(with_tenant(daily_quota=bad) for bad in NO_QUOTAS),
    *(with_tenant(plan=bad) for bad in NO_NAMES),
    *(with_tenant(id=bad) for bad in ("umbrella", None)),
    with_(organization_id="umbrella"),
    *(with_(version=bad) for bad in NO_NUMBERS),
    *(with_tenant(version=bad) for bad in NO_NUMBERS),
    *(with_tenant(plan_id=bad) for bad in (None, 7, WORD + "\n")),
    with_(hash="00" * 32),
]


async def test_corrupt_records_are_never_repeated(
    keys: RedisKeyCache, tenants: RedisTenantCache, redis: Redis, subtests: pytest.Subtests
) -> None:
    """Any other value in the place of a record is corrupt: no other error, no admission, no quotation."""
    for nonsense in NONSENSE:
        await redis.set(api_key_cache(DIGEST), nonsense)
        await redis.set(tenant_quota_cache("acme"), nonsense)
        for name, read in (("key", cached(keys, ASKED, NOW)), ("tenant", cached(tenants, "acme", NOW))):
            with subtests.test(name, nonsense=repr(nonsense)[:60]):
                with pytest.raises(StoreCorrupt) as corrupt:
                    await read
                assert corrupt.value.store == "redis"
                assert WORD not in str(corrupt.value)
                assert len(str(corrupt.value)) < 200
                assert corrupt.value.__cause__ is None


async def test_a_value_of_another_type_is_corrupt(keys: RedisKeyCache, tenants: RedisTenantCache, redis: Redis) -> None:
    """A list, hash, set or stream in the place of a record is corrupt like any other; a record takes its place."""
    for name, read in (
        (api_key_cache(DIGEST), lambda: cached(keys, ASKED, NOW)),
        (tenant_quota_cache("acme"), lambda: cached(tenants, "acme", NOW)),
    ):
        for make in (
            lambda name: redis.rpush(name, WORD),
            lambda name: redis.hset(name, WORD, WORD),
            lambda name: redis.sadd(name, WORD),
            lambda name: redis.zadd(name, {WORD: 1}),
            lambda name: redis.xadd(name, {WORD: WORD}),
        ):
            await redis.delete(name)
            await make(name)
            with pytest.raises(StoreCorrupt, match="not an object"):
                await read()
    await keys.put([KEY], NOW)
    await tenants.put([TENANT], NOW)
    assert await cached(keys, ASKED, NOW) == KEY
    assert await cached(tenants, "acme", NOW) == TENANT


async def test_another_tenants_record_is_corrupt(tenants: RedisTenantCache, redis: Redis) -> None:
    """A record under another tenant's name does not lend its limits."""
    await redis.set(tenant_quota_cache("umbrella"), json.dumps(TENANT.to_record()))
    with pytest.raises(StoreCorrupt, match="another organization's record"):
        await cached(tenants, "umbrella", NOW)


async def test_unknown_fields_are_ignored(keys: RedisKeyCache, redis: Redis) -> None:
    """A newer release may write more than this one reads."""
    await redis.set(api_key_cache(DIGEST), with_(later="more", tenant=TENANT.to_record() | {"later": {}}))
    assert await cached(keys, ASKED, NOW) == KEY
