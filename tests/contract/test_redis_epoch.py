"""The epoch of a connection's memory, for every way in which Redis may return with other data than it had."""

import asyncio
from collections.abc import Iterator
from functools import partial

import pytest
from redis.asyncio import Redis as RedisClient
from structlog.testing import capture_logs

from extauthz.backends.redis.connection import RedisConnection, open_connection
from extauthz.backends.redis.server_info import NO_EPOCH
from extauthz.demo.folders import temporary_folder
from extauthz.demo.redis import Redis as Server
from extauthz.telemetry.metrics import Metrics
from tests.servers.fixtures import stopped


@pytest.fixture(scope="module")
def other() -> Iterator[Server]:
    """A second server."""
    with temporary_folder("extauthz test ") as folder, Server(folder / "redis") as server:
        yield server


async def follow(client: RedisClient, port: int) -> None:
    """Makes a server a replica that has all data of its master."""
    await client.execute_command("REPLICAOF", "127.0.0.1", port)  # type: ignore[no-untyped-call]
    async with asyncio.timeout(20):
        while (await client.info("replication"))["master_link_status"] != "up":  # noqa: ASYNC110 - Redis sends no event
            await asyncio.sleep(0.05)


async def promote(client: RedisClient) -> None:
    """Makes a server a master again."""
    await client.execute_command("REPLICAOF", "NO", "ONE")  # type: ignore[no-untyped-call]


async def test_a_restart(redis_server: Server, redis_url: str, redis_connection: RedisConnection) -> None:
    """Another epoch, also where all data is restored; the same one on every connection."""
    before = await redis_connection.epoch()
    with stopped(redis_server):
        pass
    async with open_connection(redis_url) as first, open_connection(redis_url) as second:
        assert await first.epoch() == await second.epoch() != before


async def test_a_server_that_has_followed_another(
    redis_url: str, other: Server, redis_connection: RedisConnection
) -> None:
    """From A to B and back to A is another epoch: A may lack earlier data. Its open connections see it, too."""
    before = await redis_connection.epoch()
    async with open_connection(other.redis_url) as elsewhere:
        assert await elsewhere.epoch() != before
    async with RedisClient.from_url(redis_url) as client:
        try:
            await follow(client, other.port)
        finally:
            await promote(client)
    assert await redis_connection.epoch() == before
    await redis_connection.probe()
    after = await redis_connection.epoch()
    assert after != before
    async with open_connection(redis_url) as fresh:
        assert await fresh.epoch() == after


async def test_a_replica_that_is_promoted(redis_url: str, other: Server) -> None:
    """Its connections stay open: their next look at it sees another epoch."""
    master = RedisClient.from_url(redis_url)
    port = master.connection_pool.connection_kwargs["port"]
    async with (
        master,
        RedisClient.from_url(other.redis_url) as client,
        open_connection(other.redis_url) as redis_connection,
    ):
        try:
            await follow(client, port)
            before = await redis_connection.epoch()
        finally:
            await promote(client)
        await redis_connection.probe()
        assert await redis_connection.epoch() != before


async def test_a_user_that_may_not_ask(redis: RedisClient, redis_url: str) -> None:
    """The service works; the missing permission is logged once, and a gauge shows it until it is granted."""
    metrics = Metrics(["envoy"])
    gauge = partial(metrics.registry.get_sample_value, "extauthz_epoch_unknown")
    await redis.execute_command("ACL", "SETUSER", "app", "on", ">sesame", "~*", "&*", "+@all", "-info")  # type: ignore[no-untyped-call]
    try:
        url = redis_url.replace("redis://", "redis://app:sesame@")
        async with open_connection(
            url, looked=lambda info: metrics.redis_says(info.epoch != NO_EPOCH, info.evicting)
        ) as redis_connection:
            with capture_logs() as logs:
                for _ in range(3):
                    await redis_connection.probe()
            assert (await redis_connection.epoch(), gauge()) == (NO_EPOCH, 1)
            assert [(line["log_level"], line["missing"]) for line in logs] == [("warning", "+info")]
            await redis.execute_command("ACL", "SETUSER", "app", "+info")  # type: ignore[no-untyped-call]
            await redis_connection.probe()
            assert gauge() == 0
            async with open_connection(redis_url) as full:
                assert await redis_connection.epoch() == await full.epoch()
    finally:
        await redis.execute_command("ACL", "DELUSER", "app")  # type: ignore[no-untyped-call]
