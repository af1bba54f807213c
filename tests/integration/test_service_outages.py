"""Outages as a proxy sees them: what is still answered, how, and that the service recovers by itself."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from extauthz.demo.postgres import Postgres
from extauthz.demo.redis import Redis as Server
from tests.servers.fixtures import paused, stopped
from tests.servers.hurting_proxy import HurtingProxy
from tests.servers.management_client import NO_LIMITS, ManagementClient
from tests.servers.raw_http import Answer, ask
from tests.servers.serving import Serving, question, serving

# Long enough for stores that answer on a busy machine. A store that hangs never answers, so that an answer that comes
# while it hangs has not waited for it.
SETTINGS = {"EXTAUTHZ_DEADLINE_MS": "5000", "EXTAUTHZ_REDIS_TIMEOUT_MS": "400", "EXTAUTHZ_DATABASE_TIMEOUT_MS": "400"}
SLOW = 1.0  # seconds, more than Redis may take


class Proxy:
    """A client of the Envoy listener."""

    def __init__(self, service: Serving, keys: dict[str, str]) -> None:
        self.service = service
        self.keys = keys

    async def ask(self, owner: str) -> Answer:
        """Returns the answer to a request with the owner's key."""
        return await ask(self.service.ports["envoy"], question("envoy", key=self.keys[owner]))

    async def until(self, owner: str, decision: str, *, degraded: bool = False) -> Answer:
        """Asks until the answer is this one; fails after ten seconds."""
        async with asyncio.timeout(10):
            while True:
                answer = await self.ask(owner)
                if answer.decision == decision and bool(answer["x-extauthz-degraded"]) == degraded:
                    return answer


@pytest.fixture
async def keys(operator: ManagementClient) -> dict[str, str]:
    """A key of an organization that the caches hold, and one of an organization that was not used yet."""
    await operator.tenants.create_plan("roomy", NO_LIMITS | {"rate": "100/s", "burst": 1000, "daily_quota": 100_000})
    for name in ("known", "unknown"):
        await operator.tenants.create_organization(name, "roomy")
    return {name: (await operator.new_key(name))[1] for name in ("known", "unknown")}


@pytest.fixture
async def proxy(database: str, redis_url: str, keys: dict[str, str]) -> AsyncIterator[Proxy]:
    async with serving(database, redis_url, **SETTINGS) as service:
        proxy = Proxy(service, keys)
        await proxy.until("known", "allow")
        yield proxy


async def test_a_stopped_postgresql_does_not_affect_cached_keys(proxy: Proxy, postgres_server: Postgres) -> None:
    """Cached keys pass and are charged; others get 503; when PostgreSQL is back, they pass."""
    with stopped(postgres_server):
        for _ in range(5):
            answer = await proxy.ask("known")
            assert (answer.status, answer.decision, answer["x-extauthz-degraded"]) == (200, "allow", "")
            assert answer["x-ratelimit-limit"] == "1000"
            answer = await proxy.ask("unknown")
            assert (answer.status, answer.decision) == (503, "authentication_unavailable")
            assert answer["retry-after"] == "1"
    await proxy.until("unknown", "allow")


async def test_a_hanging_postgresql_does_not_delay_cached_keys(proxy: Proxy, postgres_server: Postgres) -> None:
    """Many unknown keys are answered while PostgreSQL hangs, and cached keys between them as without an outage."""
    with paused(postgres_server):
        answers = await asyncio.gather(*(proxy.ask(name) for name in ["unknown", "known"] * 20))
        assert {answer.decision for answer in answers[0::2]} == {"authentication_unavailable"}
        assert {answer.decision for answer in answers[1::2]} == {"allow"}
    await proxy.until("unknown", "allow")


async def test_the_tenants_copy_in_the_key_serves_meanwhile(
    proxy: Proxy, postgres_server: Postgres, operator: ManagementClient, database: str, redis_url: str
) -> None:
    """A service that starts without PostgreSQL takes keys from Redis, with their organizations as they were then."""
    await proxy.ask("known")
    with stopped(postgres_server):
        (name,) = await operator.redis.keys("tenant_quota_cache:*")
        await operator.redis.delete(name)
        async with serving(database, redis_url, **SETTINGS) as late:
            answer = await Proxy(late, proxy.keys).ask("known")
        assert (answer.decision, answer["x-plan"], answer["x-ratelimit-limit"]) == ("allow", "roomy", "1000")


async def test_without_redis_keys_come_from_postgresql(
    proxy: Proxy, redis_server: Server, capfd: pytest.CaptureFixture[str]
) -> None:
    """Open: every key is cached or looked up, allowed and marked; the change is logged once; it ends by itself."""
    with stopped(redis_server):
        for owner in ("known", "unknown") * 3:
            answer = await proxy.ask(owner)
            assert (answer.status, answer.decision, answer["x-extauthz-degraded"]) == (200, "allow", "limits")
            assert answer["x-organization-id"]
            assert not answer["ratelimit"]
        assert proxy.service.value("extauthz_degraded", store="redis") == 1
    answer = await proxy.until("known", "allow")
    assert answer["ratelimit"]
    assert proxy.service.value("redis_down_events_total") == 1
    assert proxy.service.value("extauthz_degraded", store="redis") == 0
    told = capfd.readouterr().out
    assert told.count("store_away") == 1
    for key in proxy.keys.values():
        assert key[8:20] not in told


async def test_the_closed_policy_refuses_without_redis(
    database: str, redis_url: str, redis_server: Server, keys: dict[str, str]
) -> None:
    """With the policy `closed` no request passes without limits: 503, and not ready; a wrong key is still refused."""
    async with serving(database, redis_url, **SETTINGS, RATE_LIMIT_ON_REDIS_DOWN="closed") as service:
        proxy = Proxy(service, keys | {"stranger": "a" * 40})
        await proxy.until("known", "allow")
        with stopped(redis_server):
            answer = await proxy.ask("known")
            assert (answer.status, answer.decision, answer["retry-after"]) == (503, "limits_unavailable", "1")
            assert not answer["x-organization-id"]
            assert (await proxy.ask("stranger")).decision == "invalid_credentials"
            assert not service.health.readiness().ready
        await proxy.until("known", "allow")
        assert service.health.readiness().ready


async def test_without_either_store_only_cached_keys_pass(
    proxy: Proxy, redis_server: Server, postgres_server: Postgres
) -> None:
    """With both stores away a key that the process holds passes, marked; every other gets 503."""
    with stopped(redis_server), stopped(postgres_server):
        for _ in range(3):
            answer = await proxy.ask("known")
            assert (answer.status, answer.decision, answer["x-extauthz-degraded"]) == (200, "allow", "limits")
            answer = await proxy.ask("unknown")
            assert (answer.status, answer.decision) == (503, "authentication_unavailable")
    await proxy.until("unknown", "allow")


async def test_a_redis_that_hangs_costs_one_wait(
    database: str, redis_server: Server, redis_url: str, keys: dict[str, str], operator: ManagementClient
) -> None:
    """The first request waits its time, the rest do not; nothing is charged twice; later answers are the right ones."""
    async with HurtingProxy("127.0.0.1", redis_server.port) as between:
        async with serving(database, f"redis://127.0.0.1:{between.port}/0", **SETTINGS) as service:
            proxy = Proxy(service, keys)
            await proxy.until("known", "allow")
            between.swallow = True
            for _ in range(10):
                assert (await proxy.ask("known"))["x-extauthz-degraded"] == "limits"
            between.swallow = False
            await proxy.until("known", "allow")
            for harm in (between.cut, lambda: between.inject(b":424242\r\n"), lambda: between.inject(b"$-1\r\n")):
                harm()
                await asyncio.gather(*(proxy.ask("known") for _ in range(10)))
                await proxy.until("known", "allow")
            allowed = service.value("token_bucket_consumed_total")
            asked = service.value("extauthz_decisions_total", dialect="envoy", decision="allow")
        assert allowed <= await operator.charged() <= asked


async def test_a_slow_redis_is_away_until_it_is_quick_again(
    database: str, redis_server: Server, redis_url: str, keys: dict[str, str]
) -> None:
    """While its answers take longer than their time, no request waits for them."""
    async with (
        HurtingProxy("127.0.0.1", redis_server.port) as between,
        serving(database, f"redis://127.0.0.1:{between.port}/0", **SETTINGS) as service,
    ):
        proxy = Proxy(service, keys)
        await proxy.until("known", "allow")
        between.delay = SLOW
        await proxy.until("known", "allow", degraded=True)
        for _ in range(20):
            assert (await proxy.ask("known"))["x-extauthz-degraded"] == "limits"
        between.delay = 0
        await proxy.until("known", "allow")
