"""A Redis that answers and takes no writes, for each possible reason: reported, treated as away, and back by itself."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path

import pytest
from redis.asyncio import Redis as RedisClient
from structlog.testing import capture_logs

from extauthz.backends.redis import scripts
from extauthz.backends.redis.invalidation import RedisInvalidations
from extauthz.backends.redis.topology import connect
from extauthz.backends.redis.usage_reader import RedisUsageReader
from extauthz.core.changes import Change, EntityRef
from extauthz.core.usage_range import Period
from extauthz.demo.folders import temporary_folder
from extauthz.demo.redis import Redis as Server
from tests.servers.distribution import distribution_server
from tests.servers.management_client import NO_LIMITS, ManagementClient
from tests.servers.raw_http import ask
from tests.servers.serving import PATIENT, PROBE_INTERVAL, Serving, probe_redis_often, question, serving
from tests.servers.waiting import until

ROOT = Path(__file__).parents[2]
RECOVERY = 1.0  # seconds, which the documentation promises
USER = "app"
DOCUMENTED = next(
    rights.split()
    for rights in re.findall(
        r"ACL SETUSER extauthz on >PASSWORD ([^`]+)```", (ROOT / "docs/howto/run-it.md").read_text("utf-8")
    )
)
PATTERNS = [right.removeprefix("~") for right in DOCUMENTED if right.startswith("~")]


@dataclass(frozen=True, slots=True)
class Harm:
    """How Redis comes to refuse, the reason that is reported, and how it ends; each command in one text."""

    name: str
    reason: str
    begin: tuple[str, ...]
    end: tuple[str, ...]


def user(name: str, reason: str, begin: str, end: str) -> Harm:
    """The rights of extauthz's user change."""
    return Harm(name, reason, (f"ACL SETUSER {USER} {begin}",), (f"ACL SETUSER {USER} {end}",))


def without(command: str) -> Harm:
    return user(f"without {command}", "permission", f"-{command}", f"+{command}")


def without_keys(pattern: str) -> Harm:
    left = " ".join(f"~{other}" for other in PATTERNS if other != pattern)
    return user(f"without {pattern}", "permission", f"resetkeys {left}", f"~{pattern}")


def configured(name: str, value: str, reason: str, after: str = "0") -> Harm:
    return Harm(name, reason, (f"CONFIG SET {name} {value}",), (f"CONFIG SET {name} {after}",))


HARMS = (
    configured("maxmemory", "1", "memory"),
    configured("min-replicas-to-write", "1", "replicas"),
    Harm("replica", "readonly", ("REPLICAOF 127.0.0.1 1",), ("REPLICAOF NO ONE",)),
    Harm(
        "replica that takes writes",
        "readonly",
        ("CONFIG SET replica-read-only no", "REPLICAOF 127.0.0.1 1"),
        ("REPLICAOF NO ONE", "CONFIG SET replica-read-only yes"),
    ),
    Harm(
        "replica that lost its master",
        "replica",
        ("CONFIG SET replica-serve-stale-data no", "REPLICAOF 127.0.0.1 1"),
        ("REPLICAOF NO ONE", "CONFIG SET replica-serve-stale-data yes"),
    ),
    user("no scripts", "permission", "-evalsha -eval", "+evalsha +eval"),
    *map(without, ("eval", "evalsha", "hset", "time", "zadd", "set")),
    *map(without_keys, (pattern for pattern in PATTERNS if pattern != "address_limits:*")),  # no route here uses it
    Harm(
        "user is off",
        "authentication",
        (f"ACL SETUSER {USER} off", "CLIENT KILL USER app"),
        (f"ACL SETUSER {USER} on",),
    ),
)


class Debian(Server):
    """The distribution's redis-server in place of the wheel's Valkey."""

    def prepare(self) -> None:
        super().prepare()
        self.argv = [distribution_server("redis-server"), *self.argv[1:]]


@pytest.fixture(scope="module", params=[Server, Debian], ids=["valkey", "redis-7.0"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with temporary_folder("extauthz test ") as folder, request.param(folder / "redis") as started:
        yield started


@pytest.fixture
async def admin(server: Server) -> AsyncIterator[RedisClient]:
    """The operator of Redis. A user `app` has the rights that the documentation lists."""
    async with connect(server.redis_url, patience=5) as client:
        await client.flushall()
        await run(client, f"ACL SETUSER {USER} reset on >sesame {' '.join(DOCUMENTED)}")
        yield client


async def run(client: RedisClient, command: str) -> None:
    await client.execute_command(*command.split())  # type: ignore[no-untyped-call]


@asynccontextmanager
async def full(redis: RedisClient) -> AsyncIterator[None]:
    """Its memory takes nothing more."""
    await redis.config_set("maxmemory", "1")
    try:
        yield
    finally:
        await redis.config_set("maxmemory", "0")


@pytest.fixture
async def key(operator: ManagementClient) -> str:
    await operator.tenants.create_plan("roomy", NO_LIMITS | {"rate": "100/s", "burst": 1000, "daily_quota": 100_000})
    await operator.tenants.create_organization("acme", "roomy")
    return (await operator.new_key("acme"))[1]


async def degraded(service: Serving, key: str) -> bool:
    """Whether a check passes uncharged."""
    answer = await ask(service.ports["envoy"], question("envoy", key=key, more=b"X-Request-Id: 7\r\n"))
    assert answer.decision == "allow"
    return bool(answer["x-extauthz-degraded"])


async def told_away(service: Serving, key: str) -> bool:
    """Whether checks pass uncharged, and the metric says why."""
    return await degraded(service, key) and bool(service.value("extauthz_degraded", store="redis"))


async def told_up(service: Serving, key: str) -> bool:
    """Whether checks are charged, and the metric says so."""
    return not await degraded(service, key) and not service.value("extauthz_degraded", store="redis")


async def test_a_redis_that_refuses_is_away_until_it_takes_writes(
    database: str, server: Server, admin: RedisClient, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is reported once, with its reason, in log, metric and readiness, and ends by itself when Redis recovers."""
    probe_redis_often(monkeypatch)
    url = server.redis_url.replace("redis://", f"redis://{USER}:sesame@")
    async with serving(database, url, EXTAUTHZ_CHARGE_ONCE="true", **PATIENT) as service:
        assert not await degraded(service, key)
        for harm in HARMS:
            losses = service.value("redis_down_events_total")
            with capture_logs() as logs:
                for command in harm.begin:
                    await run(admin, command)
                await until(partial(told_away, service, key))
                for _ in range(10):
                    await asyncio.sleep(PROBE_INTERVAL / 2)  # so that several probes are made meanwhile
                    assert await degraded(service, key), harm.name
                    detail = service.health.readiness().stores["redis"]
                    assert re.fullmatch(f"{harm.reason}: .+; .+", detail), (harm.name, detail)
                assert service.value("redis_down_events_total") == losses + 1, harm.name
                for command in harm.end:
                    await run(admin, command)
                await until(partial(told_up, service, key))
            assert service.health.readiness().stores["redis"] == "ok"
            told = [line["event"] for line in logs if line.get("store") == "redis"]
            assert told == ["store_away", "store_unfit", "store_up"], harm.name


def test_the_probe_covers_every_command_of_the_scripts() -> None:
    """Every command of every script is in the probe, and in the rights that the documentation lists."""

    def commands(name: str) -> set[str]:
        return set(re.findall(r"'([A-Z]{3,})'", scripts.read(name))) - {"XX", "WITHSCORES", "WRONGTYPE"}

    ours = ("drop", "due", "fence", "get", "provisional", "put", "saved", "seed", "spend", "unsaved")
    used = set[str]().union(*map(commands, ours))
    assert used <= commands("probe")
    assert commands("probe") | {"EVAL", "EVALSHA", "INFO"} == {
        right.removeprefix("+").upper() for right in DOCUMENTED if right.startswith("+")
    }


async def test_management_needs_no_more_than_checks(server: Server, admin: RedisClient) -> None:
    """Commands raise fences and read usage with the rights that the documentation lists."""
    async with connect(server.redis_url.replace("redis://", f"redis://{USER}:sesame@"), patience=5) as client:
        await RedisInvalidations(client, seconds=120).raise_all([Change(EntityRef("api_key", "k1"), 7)])
        day = date(2027, 3, 31)
        assert not (await RedisUsageReader(client).read("acme", Period(day, day), ("d:20270331",))).days
    assert await admin.get("cache_fence:api_key:k1") == b"7"


async def test_a_policy_that_evicts_is_named(database: str, server: Server, admin: RedisClient) -> None:
    """Warned of at the start and when it changes, and named in readiness as long as it lasts; Redis is up."""
    await admin.config_set("maxmemory-policy", "allkeys-lru")
    try:
        with capture_logs() as logs:
            async with serving(database, server.redis_url, **PATIENT) as service:

                async def named(policy: str | None) -> bool:
                    stores = service.health.readiness().stores
                    assert stores["redis"] == "ok"
                    return stores.get("redis_maxmemory_policy") == policy

                assert await named("allkeys-lru")
                await admin.config_set("maxmemory-policy", "volatile-ttl")
                await until(partial(named, "volatile-ttl"))
                await admin.config_set("maxmemory-policy", "noeviction")
                await until(partial(named, None))
        told = [(line["event"], line.get("maxmemory_policy")) for line in logs if "evicts" in line["event"]]
        assert told == [
            ("redis_evicts", "allkeys-lru"),
            ("redis_evicts", "volatile-ttl"),
            ("redis_no_longer_evicts", None),
        ]
    finally:
        await admin.config_set("maxmemory-policy", "noeviction")


async def test_no_warning_without_the_right_to_read_the_policy(
    database: str, server: Server, admin: RedisClient
) -> None:
    """Without the permission for INFO no warning of eviction is logged, and Redis is up."""
    await admin.config_set("maxmemory-policy", "allkeys-lru")
    await run(admin, f"ACL SETUSER {USER} -info")
    try:
        url = server.redis_url.replace("redis://", f"redis://{USER}:sesame@")
        async with serving(database, url, **PATIENT) as service:
            assert service.health.readiness().stores == {"postgresql": "ok", "redis": "ok"}
    finally:
        await admin.config_set("maxmemory-policy", "noeviction")


async def test_recovery_takes_less_than_a_second(database: str, redis_url: str, redis: RedisClient, key: str) -> None:
    """With the service's own intervals, charges and the metric are back within a second of Redis's recovery."""
    async with serving(database, redis_url, **PATIENT) as service:
        async with full(redis):
            await until(partial(told_away, service, key))
        await until(partial(told_up, service, key), RECOVERY)


async def test_the_closed_policy_holds_where_redis_takes_no_writes(
    database: str, redis_url: str, redis: RedisClient, key: str
) -> None:
    """503 and not ready, as while Redis is away, until it takes writes again."""
    async with serving(database, redis_url, **PATIENT, RATE_LIMIT_ON_REDIS_DOWN="closed") as service:

        async def ready() -> bool:
            return service.health.readiness().ready

        async def refused() -> bool:
            answer = await ask(service.ports["envoy"], question("envoy", key=key))
            assert (answer.status, answer.decision) == (503, "limits_unavailable")
            return not await ready()

        async with full(redis):
            await until(refused)
        await until(ready)
        assert not await degraded(service, key)
