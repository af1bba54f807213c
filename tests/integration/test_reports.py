"""The operators' endpoints `/livez`, `/readyz` and `/metrics`, while real requests are answered."""

import asyncio
import json
from contextlib import AsyncExitStack

import pytest
from prometheus_client.parser import text_string_to_metric_families

from extauthz.backends.postgres import migrate
from extauthz.core.reason import Reason
from extauthz.demo.postgres import Postgres
from extauthz.demo.redis import Redis as Server
from tests.servers.fixtures import stopped
from tests.servers.management_client import NO_LIMITS, ManagementClient, text
from tests.servers.raw_http import Answer, ask
from tests.servers.serving import LISTENERS, PATIENT, Serving, question, serving
from tests.servers.waiting import until

SIX = (
    "redis_down_events",
    "rate_limiter_rejections",
    "daily_quota_hits",
    "token_bucket_consumed",
    "tenant_quota_cache_hits",
    "tenant_quota_cache_misses",
)


async def get(service: Serving, path: str) -> Answer:
    return await ask(service.ports["admin"], f"GET {path} HTTP/1.1\r\nHost: here\r\n\r\n".encode())


async def readiness(service: Serving) -> tuple[int, dict[str, str]]:
    answer = await get(service, "/readyz")
    assert answer["content-type"].startswith("application/json")
    return answer.status, json.loads(answer.body)


async def scraped(service: Serving) -> dict[str, float]:
    """Every sample as `name` or `name{label=value,…}`."""
    answer = await get(service, "/metrics")
    assert answer.status == 200
    assert answer["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return {
        sample.name + "".join(f",{name}={value}" for name, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
    }


def decisions(listener: str, **counts: int) -> dict[str, float]:
    """The samples of a listener's decisions: as many as are named, none of the others."""
    return {
        f"extauthz_decisions_total,decision={reason},dialect={listener}": counts.get(reason.value, 0)
        for reason in Reason
    }


async def test_everything_starts_at_zero(database: str, redis_url: str) -> None:
    """Before the first request each of the six names and each decision is there, at 0: no rate misses the first."""
    async with serving(database, redis_url, **PATIENT) as service:
        samples = await scraped(service)
    for name in SIX:
        assert samples[f"{name}_total"] == 0
    for listener in LISTENERS:
        assert samples.items() >= decisions(listener).items()
        assert samples[f"extauthz_decision_duration_seconds_count,dialect={listener}"] == 0
    assert samples["extauthz_degraded,store=redis"] == samples["extauthz_degraded,store=postgresql"] == 0


@pytest.mark.parametrize("listener", LISTENERS)
async def test_decisions_are_counted(database: str, redis_url: str, operator: ManagementClient, listener: str) -> None:
    """After a few requests the metrics equal the answers."""
    await operator.tenants.create_plan("small", NO_LIMITS | {"rate": "1/d", "burst": 3, "daily_quota": 100})
    await operator.tenants.create_plan("daily", NO_LIMITS | {"daily_quota": 1})
    for plan in ("small", "daily"):
        await operator.tenants.create_organization(plan, plan)
    _, small = await operator.new_key("small")
    _, daily = await operator.new_key("daily")
    asked: list[tuple[str, str | None]] = [
        *[("/a", small)] * 5,
        *[("/a", daily)] * 2,
        *[("/a", None), ("/a//b", small), ("/a", "xa_live_unknown")],
    ]
    async with serving(database, redis_url, **PATIENT) as service:
        while service.value("extauthz_change_feed_down"):  # what was read before messages arrive is read once more
            await get(service, "/readyz")
        answers = [await ask(service.ports[listener], question(listener, path, key=key)) for path, key in asked]
        samples = await scraped(service)
    assert [answer.decision for answer in answers] == [
        *["allow"] * 3,
        *["rate_limited"] * 2,
        *["allow", "daily_quota_exceeded", "no_credentials", "path_ambiguous", "invalid_credentials"],
    ]
    expected = decisions(
        listener,
        allow=4,
        rate_limited=2,
        daily_quota_exceeded=1,
        no_credentials=1,
        path_ambiguous=1,
        invalid_credentials=1,
    )
    for other in LISTENERS:
        assert samples.items() >= (expected if other == listener else decisions(other)).items()
    assert samples[f"extauthz_decision_duration_seconds_count,dialect={listener}"] == len(asked)
    assert samples[f"extauthz_decision_duration_seconds_bucket,dialect={listener},le=+Inf"] == len(asked)
    assert [samples[f"{name}_total"] for name in SIX] == [0, 3, 1, 3, 7, 2]
    assert sum(samples[f"extauthz_api_key_cache_hits_total,layer={layer}"] for layer in ("process", "redis")) == 5
    assert samples["extauthz_api_key_cache_misses_total"] == 2
    assert not [name for name, count in samples.items() if name.startswith("extauthz_store_errors_total") and count]


async def test_a_corrupt_record_is_counted_and_replaced(
    database: str, redis_url: str, operator: ManagementClient, capfd: pytest.CaptureFixture[str]
) -> None:
    """A corrupt cache entry is a miss: PostgreSQL is read, the entry overwritten, the corruption counted."""
    details, key = await operator.new_key("acme")
    async with serving(database, redis_url, **PATIENT) as service:
        assert (await ask(service.ports["envoy"], question("envoy", key=key))).decision == "allow"
    (name,) = await operator.redis.keys("api_key_cache:*")
    (tenant,) = await operator.redis.keys("tenant_quota_cache:*")
    for corrupt in (b"{sesame", b'["sesame"]', b"", b'{"version": 1e18, "revoked_at": 1, "x": "sesame"}'):
        await operator.redis.set(name, corrupt)
        await operator.redis.set(tenant, corrupt)
        async with serving(database, redis_url, **PATIENT) as service:  # another process, which has to ask Redis
            async with asyncio.timeout(10):
                while service.value("extauthz_change_feed_down"):  # noqa: ASYNC110 - a gauge has no event to wait for
                    await asyncio.sleep(0.01)
            assert (await ask(service.ports["envoy"], question("envoy", key=key))).decision == "allow"
            samples = await scraped(service)
        assert json.loads(text(await operator.redis.get(name)))["id"] == details.id
        assert samples["extauthz_store_errors_total,reason=corrupt,store=redis"] == 1
    assert "sesame" not in "".join(capfd.readouterr())


async def test_a_corrupt_row_refuses_its_key_alone(database: str, redis_url: str, operator: ManagementClient) -> None:
    """A corrupt row of PostgreSQL refuses its key alone: the others pass, and no store counts as away."""
    details, key = await operator.new_key("acme")
    _, other = await operator.new_key("umbrella")
    await operator.drop_checks()
    await operator.sql("UPDATE api_keys SET permissions = '[1]' WHERE id::text = %s", details.id)
    async with serving(database, redis_url, **PATIENT) as service:
        for listener in LISTENERS:
            refused = await ask(service.ports[listener], question(listener, key=key))
            unknown = await ask(service.ports[listener], question(listener, key="unknown" * 5))
            assert refused.decision == "invalid_credentials"
            assert (refused.status, refused.body, refused["www-authenticate"]) == (
                *(unknown.status, unknown.body, unknown["www-authenticate"]),
            )
            assert (await ask(service.ports[listener], question(listener, key=other))).decision == "allow"
        assert (await readiness(service))[1] == {"status": "ready", "postgresql": "ok", "redis": "ok"}
        samples = await scraped(service)
    assert samples["extauthz_store_errors_total,reason=corrupt,store=postgresql"] >= 1


async def test_the_process_is_live_without_its_stores() -> None:
    """`/livez` answers without any store, so that an outage causes no restart; `/readyz` says what is missing."""
    async with serving("postgresql://nobody@127.0.0.1:1/x", "redis://127.0.0.1:1/0") as service:
        assert (await get(service, "/livez")).status == 200
        status, stores = await readiness(service)
        assert (status, stores["status"]) == (503, "not ready")
        assert stores["redis"].partition(":")[0] == "connection"
        assert stores["postgresql"].partition(":")[0] in {"connection", "timeout"}
        samples = await scraped(service)
        assert samples["extauthz_degraded,store=redis"] == samples["extauthz_degraded,store=postgresql"] == 1
        assert samples["redis_down_events_total"] == 0
        answer = await ask(service.ports["envoy"], question("envoy", key="a" * 40))
        assert (answer.status, answer.decision, answer["retry-after"]) == (503, "authentication_unavailable", "1")


async def test_ready_once_both_stores_were_seen(
    empty_database: str, redis_url: str, redis_server: Server, postgres_server: Postgres
) -> None:
    """PostgreSQL, its schema and Redis may come in any order after the start; then it is ready, and stays so."""
    async with AsyncExitStack() as stack:
        with stopped(postgres_server):
            with stopped(redis_server):
                service = await stack.enter_async_context(serving(empty_database, redis_url))
                assert (await readiness(service))[0] == 503
            await until_readyz(service, 503, redis="ok")
        await until_readyz(service, 503, redis="ok", postgresql="schema")
        await migrate.upgrade(empty_database)
        await until_readyz(service, 200, redis="ok", postgresql="ok")
        with stopped(redis_server):
            answer = await ask(service.ports["nginx"], question("nginx", key="a" * 40))
            assert answer.decision == "invalid_credentials"
            status, stores = await readiness(service)
            assert (status, stores["status"]) == (200, "ready")
            assert stores["redis"] != "ok"
        service.health.draining = True
        assert (await readiness(service))[0] == 503
        assert (await ask(service.ports["nginx"], question("nginx")))["connection"] == "close"


async def until_readyz(service: Serving, status: int, **stores: str) -> None:
    """Asks `/readyz` until it says so."""

    async def says() -> bool:
        answered, report = await readiness(service)
        return answered == status and all(report.get(name, "").partition(":")[0] == stores[name] for name in stores)

    await until(says)


async def test_the_private_listener_does_not_check(database: str, redis_url: str) -> None:
    """Unknown paths and methods of the private listener are errors there, never decisions."""
    async with serving(database, redis_url) as service:
        assert (await get(service, "/")).status == 404
        for path in ("/livez", "/readyz", "/metrics"):
            refused = await ask(service.ports["admin"], f"POST {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert refused.status == 405
            assert not refused.decision
