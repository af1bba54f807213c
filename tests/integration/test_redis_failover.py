"""A failover behind an address that moves: connections to the old master stay open, and must be left."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import date

import pytest
from redis.asyncio import Redis as RedisClient

from extauthz.backends.redis.connection import open_connection
from extauthz.backends.redis.invalidation import RedisInvalidations
from extauthz.backends.redis.topology import connect
from extauthz.backends.redis.usage import RedisUsage
from extauthz.backends.redis.usage_reader import RedisUsageReader
from extauthz.core.changes import Change, EntityRef
from extauthz.core.errors import StoreUnavailable
from extauthz.core.usage_range import Period
from extauthz.demo.folders import temporary_folder
from extauthz.demo.redis import Redis as Server
from tests.servers.charging_client import ACME, ONE, ChargingClient, NothingKnown
from tests.servers.hurting_proxy import HurtingProxy
from tests.servers.management_client import NO_LIMITS, ManagementClient
from tests.servers.raw_http import ask
from tests.servers.serving import PATIENT, question, serving
from tests.servers.waiting import until


@pytest.fixture(scope="module")
def other() -> Iterator[Server]:
    """The server that becomes the master."""
    with temporary_folder("extauthz test ") as folder, Server(folder / "redis") as server:
        yield server


@dataclass(frozen=True, slots=True)
class Pair:
    """Two servers, and the address that leads to the master."""

    address: HurtingProxy
    old: RedisClient
    new: RedisClient
    new_port: int

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.address.port}/0"

    async def fail_over(self, *, isolated: bool = False) -> None:
        """The address leads to the other server; the old one follows it, or finds that it has no replicas left."""
        command = "CONFIG SET min-replicas-to-write 1" if isolated else f"REPLICAOF 127.0.0.1 {self.new_port}"
        await self.old.execute_command(*command.split())  # type: ignore[no-untyped-call]
        self.address.lead_to("127.0.0.1", self.new_port)


@pytest.fixture
async def pair(redis_server: Server, redis: RedisClient, other: Server) -> AsyncIterator[Pair]:
    async with (
        HurtingProxy("127.0.0.1", redis_server.port) as address,
        connect(other.redis_url, patience=5) as new,
    ):
        await new.flushall()
        try:
            yield Pair(address, redis, new, other.port)
        finally:
            await redis.execute_command("REPLICAOF", "NO", "ONE")  # type: ignore[no-untyped-call]
            await redis.config_set("min-replicas-to-write", "0")


@pytest.mark.parametrize("isolated", [False, True], ids=["demoted", "isolated"])
async def test_checks_leave_the_old_master(
    database: str, pair: Pair, operator: ManagementClient, isolated: bool
) -> None:
    """Without a connection being cut, requests are charged at the new master within a second or so."""
    await operator.tenants.create_plan("roomy", NO_LIMITS | {"rate": "100/s", "burst": 1000, "daily_quota": 100_000})
    await operator.tenants.create_organization("acme", "roomy")
    _, key = await operator.new_key("acme")
    async with serving(database, pair.url, **PATIENT) as service:

        async def degraded() -> bool:
            answer = await ask(service.ports["envoy"], question("envoy", key=key))
            assert answer.decision == "allow"
            return bool(answer["x-extauthz-degraded"])

        async def moved() -> bool:
            return not await degraded() and bool(await pair.new.keys("tenant_limits:*"))

        async def told_up() -> bool:
            return not service.value("extauthz_degraded", store="redis")

        assert not await degraded()
        await pair.fail_over(isolated=isolated)
        await until(moved)
        await until(told_up)


async def test_usage_is_read_from_the_new_master(pair: Pair) -> None:
    """Marks at the old master are not saved any more; the next save reads the new one."""
    async with open_connection(pair.url) as redis_connection:
        spender, books = ChargingClient(redis_connection, NothingKnown()), RedisUsage(redis_connection)  # type: ignore[arg-type]  # only its seeds
        await spender.charge(cost=3)
        assert [row.cost for row in (await books.read(10)).counted] == [3]
        await pair.fail_over(isolated=True)
        async with open_connection(f"redis://127.0.0.1:{pair.new_port}/0") as there:
            await ChargingClient(there, NothingKnown()).charge(cost=5)  # type: ignore[arg-type]  # the same
        assert [row.cost for row in (await books.read(10)).counted] == [5]


async def test_usage_is_not_read_from_a_replica(pair: Pair) -> None:
    """Where the address still leads to a server that takes no writes, nothing is saved from it."""
    async with open_connection(pair.url) as redis_connection:
        books = RedisUsage(redis_connection)
        await books.read(10)
        await pair.old.execute_command("REPLICAOF", "127.0.0.1", "1")  # type: ignore[no-untyped-call]
        with pytest.raises(StoreUnavailable) as away:
            await books.read(10)
        assert away.value.reason == "readonly"


async def test_a_fence_is_raised_at_the_new_master(pair: Pair) -> None:
    """A change raises its fence at the server that checks use by then, though connections are kept."""
    change = Change(EntityRef("api_key", "k1"), 8)
    async with connect(pair.url, patience=5) as client:
        invalidations = RedisInvalidations(client, seconds=120)
        await invalidations.raise_all([Change(EntityRef("api_key", "k0"), 7)])
        await pair.fail_over()
        await invalidations.raise_all([change])
    assert await pair.new.get("cache_fence:api_key:k1") == b"8"


async def test_a_report_is_read_from_the_new_master(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """A report gets no error; its connection leaves the old server by its age."""
    async with open_connection(f"redis://127.0.0.1:{pair.new_port}/0") as there:
        await ChargingClient(there, NothingKnown()).charge(cost=5)  # type: ignore[arg-type]  # the same
    async with connect(pair.url, patience=5) as client:
        reader = RedisUsageReader(client)
        day = Period(date(2027, 3, 31), date(2027, 3, 31))
        assert not (await reader.read(ACME, day, ("d:20270331",))).days
        pair.address.lead_to("127.0.0.1", pair.new_port)
        monkeypatch.setattr("extauthz.backends.redis.topology.CONNECTION_SECONDS", 0.0)
        assert (await reader.read(ACME, day, ("d:20270331",))).days[day.first][ONE]
