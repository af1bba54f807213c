"""Redis that is gone, silent, full or closed to extauthz: one reason each, and no secret in it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from redis.asyncio import Redis

from extauthz.backends.redis.invalidation import RedisInvalidations
from extauthz.backends.redis.records import RedisKeyCache
from extauthz.backends.redis.topology import connect
from extauthz.core.changes import Change, EntityRef
from extauthz.core.credentials import Credential
from extauthz.core.errors import StoreUnavailable
from extauthz.core.keys import ApiKey
from extauthz.core.limits import Limits
from extauthz.core.tenants import Tenant
from extauthz.demo.redis import Redis as Server
from tests.servers.fixtures import paused, stopped
from tests.servers.shared_cache import cached

NOW = 1_800_000_000.0
DIGEST = "ab" * 32
WORD = "sesame"
ASKED = Credential((DIGEST,))
TENANT = Tenant("acme", "gold", "active", Limits(), NOW, 7, "p1")
KEY = ApiKey("k1", "acme", {}, None, None, None, NOW, 7, TENANT, DIGEST)
CHANGE = Change(EntityRef("api_key", "k1"), 8)


async def reason_of(client: Redis) -> str:
    """Why the store is away, for reading, writing and fencing."""
    keys, invalidations = RedisKeyCache(client, ttl=120), RedisInvalidations(client, seconds=120)
    reasons = set()
    for call in (cached(keys, ASKED, NOW), keys.put([KEY], NOW), invalidations.raise_all([CHANGE])):
        with pytest.raises(StoreUnavailable) as away:
            await call
        assert away.value.store == "redis"
        reasons.add(away.value.reason)
    (reason,) = reasons
    return reason


@asynccontextmanager
async def with_password(redis: Redis) -> AsyncIterator[None]:
    await redis.config_set("requirepass", WORD)
    try:
        yield
    finally:
        await redis.config_set("requirepass", "")


async def test_a_server_that_is_gone_or_hangs_is_away(redis_server: Server, redis_url: str) -> None:
    """Stopped, hanging, or no server at that address: one reason each, also on connections that were open."""
    async with connect(redis_url, patience=0.05) as client:
        await client.ping()
        with paused(redis_server):
            assert await reason_of(client) == "timeout"
        await client.ping()
        with stopped(redis_server):
            assert await reason_of(client) == "connection"
        await client.ping()


async def test_a_server_that_refuses_commands_is_away(redis: Redis, redis_url: str) -> None:
    """A wrong password, none, too few rights, a full memory: one reason each, and never the password."""
    wrong = redis_url.replace("redis://", f"redis://:{WORD}x@")
    async with with_password(redis):
        for url in (redis_url, wrong):
            async with connect(url, patience=5) as client:
                assert await reason_of(client) == "authentication"
                with pytest.raises(StoreUnavailable) as away:
                    await cached(RedisKeyCache(client, ttl=120), ASKED, NOW)
                assert WORD not in str(away.value) + repr(away.value.__cause__)
    await redis.execute_command(  # type: ignore[no-untyped-call]
        "ACL", "SETUSER", "reader", "on", "nopass", "+ping", "+hello", "~nothing"
    )
    async with connect(redis_url.replace("redis://", "redis://reader:x@"), patience=5) as client:
        assert await reason_of(client) == "permission"
    await redis.execute_command(  # type: ignore[no-untyped-call]
        "ACL", "DELUSER", "reader"
    )


async def test_a_full_memory_is_named(redis: Redis) -> None:
    """Where Redis may not evict and cannot take more, reads go on and writes say `memory`."""
    await redis.config_set("maxmemory", "1")
    try:
        with pytest.raises(StoreUnavailable) as away:
            await RedisKeyCache(redis, ttl=120).put([KEY], NOW)
        assert away.value.reason == "memory"
        assert await cached(RedisKeyCache(redis, ttl=120), ASKED, NOW) is None
    finally:
        await redis.config_set("maxmemory", "0")


async def test_a_replica_is_read_only(redis: Redis, redis_server: Server) -> None:
    """After a failover the old server, now a replica, refuses writes: `readonly`."""
    await redis.execute_command(  # type: ignore[no-untyped-call]
        "REPLICAOF", "127.0.0.1", "1"
    )
    try:
        with pytest.raises(StoreUnavailable) as away:
            await RedisKeyCache(redis, ttl=120).put([KEY], NOW)
        assert away.value.reason == "readonly"
    finally:
        await redis.execute_command(  # type: ignore[no-untyped-call]
            "REPLICAOF", "NO", "ONE"
        )


async def test_when_all_connections_are_taken_the_reason_is_busy(redis_url: str) -> None:
    """Too many calls of extauthz have another reason than a server that is away."""
    async with connect(redis_url, patience=5) as client:
        pool = client.connection_pool
        held = [
            await pool.get_connection()  # type: ignore[no-untyped-call]
            for _ in range(pool.max_connections)
        ]
        assert await reason_of(client) == "busy"
        for connection in held:
            await pool.release(connection)
        assert await cached(RedisKeyCache(client, ttl=120), ASKED, NOW) is None
