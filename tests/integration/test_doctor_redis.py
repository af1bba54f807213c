"""`extauthz doctor` at a Redis: each fault has a row with a remedy."""

import asyncio

import pytest
from redis.asyncio import Redis as RedisClient

from extauthz.demo.folders import temporary_folder
from extauthz.demo.redis import Redis
from extauthz.doctor import redis as examined_redis
from tests.servers.doctor import WRONG, Doctor, Row
from tests.servers.fixtures import stopped


def test_redis_away(doctor: Doctor, redis_server: Redis) -> None:
    with stopped(redis_server):
        failed = doctor.failed()
    assert failed.keys() == {"redis reachable"}
    assert "Connection refused" in failed["redis reachable"]["detail"]


def test_a_redis_that_hangs(doctor: Doctor, redis_server: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its check times out, and does not keep the others from running."""
    monkeypatch.setattr(examined_redis, "ANSWER_TIMEOUT_SECONDS", 0.3)
    redis_server.pause()
    try:
        rows = doctor.rows()
    finally:
        redis_server.resume()
    assert not rows["redis reachable"]["ok"]
    assert "timeout" in rows["redis reachable"]["detail"]
    assert rows["database schema"]["ok"]


async def test_a_policy_that_evicts(doctor: Doctor, redis: RedisClient) -> None:
    await redis.config_set("maxmemory-policy", "allkeys-lru")
    try:
        failed = await asyncio.to_thread(doctor.failed)
    finally:
        await redis.config_set("maxmemory-policy", "noeviction")
    assert failed.keys() == {"redis policy"}
    assert "allkeys-lru" in failed["redis policy"]["detail"]
    assert "noeviction" in failed["redis policy"]["remedy"]


async def test_persistence_is_seen(doctor: Doctor, redis: RedisClient) -> None:
    await redis.config_set("save", "3600 1")
    try:
        row = (await asyncio.to_thread(doctor.rows))["redis persistence"]
    finally:
        await redis.config_set("save", "")
    assert (row["ok"], row["remedy"]) == (True, "")


async def test_a_user_without_scripts(doctor: Doctor, redis: RedisClient, redis_url: str) -> None:
    """The row has Redis's own error, and where the rights are listed; a user without INFO is a remark."""
    everything = ["~*", "&*", "+@all"]
    url = redis_url.replace("//", f"//limited:{WRONG}@")

    async def acl(*command: str) -> None:
        await redis.execute_command("ACL", *command)  # type: ignore[no-untyped-call]  # it has no hint

    async def examined(*rules: str) -> dict[str, Row]:
        await acl("SETUSER", "limited", "reset", "on", f">{WRONG}", *rules)
        return await asyncio.to_thread(lambda: doctor.rows(REDIS_URL=url))

    try:
        rows = await examined(*everything, "-@scripting")
        assert [check for check, row in rows.items() if not row["ok"]] == ["redis scripts"]
        assert "NOPERM" in rows["redis scripts"]["detail"]
        assert "docs/howto/run-it.md" in rows["redis scripts"]["remedy"]
        rows = await examined(*everything, "-info")
        assert all(row["ok"] for row in rows.values())
        assert "+info" in rows["redis version"]["remedy"]
        assert not (await examined("~nothing", "+@all"))["redis scripts"]["ok"]
    finally:
        await acl("DELUSER", "limited")


def test_a_wrong_redis_password(doctor: Doctor, redis_url: str) -> None:
    row = doctor.failed(REDIS_URL=redis_url.replace("//", f"//:{WRONG}@"))["redis reachable"]
    assert "take the password out" in row["remedy"]


async def test_a_replica(doctor: Doctor, redis_url: str) -> None:
    with temporary_folder("extauthz test ") as folder, Redis(folder / "replica") as replica:
        async with RedisClient.from_url(replica.redis_url) as client:
            await client.replicaof("127.0.0.1", redis_url.rpartition(":")[2].partition("/")[0])
        failed = await asyncio.to_thread(lambda: doctor.failed(REDIS_URL=replica.redis_url))
    assert failed["redis primary"]["remedy"] == "point REDIS_URL at the master"
    assert failed.keys() == {"redis primary", "redis scripts"}
