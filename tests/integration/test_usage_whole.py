"""From a check to saved usage and back: what the service saves, and what an emptied Redis gets back."""

from pathlib import Path

from psycopg.rows import DictRow

from extauthz.backends.postgres.pool import Pool
from extauthz.core.management import KeyTerms
from extauthz.demo.postgres import Postgres
from tests.servers.fixtures import stopped
from tests.servers.management_client import NO_LIMITS, ManagementClient
from tests.servers.raw_http import ask
from tests.servers.serving import PATIENT, Serving, question, serving

READYZ = b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n"
BILL = "SELECT sum(allowed) AS allowed, sum(cost) AS cost, sum(rate_limited) AS limited, sum(over_quota) AS over"


async def decisions(service: Serving, key: str, count: int, path: str = "/x") -> list[str]:
    return [(await ask(service.ports["envoy"], question("envoy", path, key=key))).decision for _ in range(count)]


async def bill(operator: ManagementClient) -> DictRow:
    (row,) = await operator.rows(f"{BILL} FROM usage_daily")
    return row


async def two_keys(operator: ManagementClient, **limits: object) -> list[str]:
    await operator.tenants.create_plan("metered", NO_LIMITS | limits)
    await operator.tenants.create_organization("acme", "metered")
    return [(await operator.keys.create("acme", KeyTerms(name)))[1] for name in ("one", "two")]


async def test_charges_are_saved_at_the_end(
    database: str, redis_url: str, operator: ManagementClient, tmp_path: Path
) -> None:
    """Allowed requests and their cost by key, refusals by their kind, when the process has ended; and once only."""
    one, two = await two_keys(operator, rate="1/d", burst=40, daily_quota=27)
    file = tmp_path / "extauthz.toml"
    file.write_text(
        '[[routes]]\npath = "/**"\nresource = "api"\n[[routes]]\npath = "/dear/**"\nresource = "api"\ncost = 10\n'
    )
    for total in (1, 2):
        async with serving(database, redis_url, EXTAUTHZ_CONFIG=str(file), **PATIENT) as service:
            if total == 1:
                assert await decisions(service, one, 5) == ["allow"] * 5
                assert await decisions(service, two, 3, "/dear/x") == ["allow"] * 2 + ["daily_quota_exceeded"]
                assert await decisions(service, two, 4) == ["allow"] * 2 + ["daily_quota_exceeded"] * 2
        assert await bill(operator) == {"allowed": 9, "cost": 27, "limited": 0, "over": 3}
    rows = await operator.rows("SELECT allowed, cost FROM usage_daily ORDER BY cost")
    assert [(row["allowed"], row["cost"]) for row in rows] == [(5, 5), (4, 22)]


async def test_an_emptied_redis_starts_with_saved_usage(
    database: str, redis_url: str, operator: ManagementClient
) -> None:
    """After a FLUSHALL the day goes on from the usage in PostgreSQL, for the organization and for its keys."""
    one, two = await two_keys(operator, daily_quota=10)
    async with serving(database, redis_url, **PATIENT) as service:
        assert await decisions(service, one, 6) == ["allow"] * 6
    await operator.redis.flushall()
    async with serving(database, redis_url, **PATIENT) as service:
        assert await decisions(service, two, 5) == ["allow"] * 4 + ["daily_quota_exceeded"]
    assert await bill(operator) == {"allowed": 10, "cost": 10, "limited": 0, "over": 1}


async def test_without_postgresql_days_begin_at_zero_and_are_completed(
    database: str, redis_url: str, operator: ManagementClient, postgres_server: Postgres
) -> None:
    """Redis is empty and PostgreSQL away: requests pass, and are added to saved usage once it is back."""
    one, _ = await two_keys(operator, daily_quota=10)
    async with serving(database, redis_url, **PATIENT) as service:
        assert await decisions(service, one, 6) == ["allow"] * 6
    patient = PATIENT | {"EXTAUTHZ_DATABASE_TIMEOUT_MS": "500"}  # less than a reading may take
    async with serving(database, redis_url, **patient) as service:
        while service.value("extauthz_change_feed_down"):  # recent changes are read again then
            await ask(service.ports["admin"], READYZ)
        assert await decisions(service, one, 1) == ["allow"]
        await operator.redis.flushall()
        with stopped(postgres_server):
            assert await decisions(service, one, 2) == ["allow"] * 2
        while b'"postgresql": "ok"' not in (await ask(service.ports["admin"], READYZ)).body:
            pass
        found = await decisions(service, one, 1)
        while found[-1] == "allow":
            found += await decisions(service, one, 1)
    assert found[-1] == "daily_quota_exceeded"
    used = await bill(operator)
    assert used["allowed"] == used["cost"] == 6 + 2 + found.count("allow")


async def test_a_slow_sum_is_not_an_outage(
    database: str, redis_url: str, operator: ManagementClient, pool: Pool
) -> None:
    """Redis is empty and PostgreSQL takes long to add up usage: requests pass and are saved, identity is served as
    before, and neither store counts as away.
    """
    one, two = await two_keys(operator, daily_quota=10)
    async with serving(database, redis_url, **PATIENT) as service:
        assert await decisions(service, one, 6) == ["allow"] * 6
    await operator.redis.flushall()
    async with serving(database, redis_url, **PATIENT | {"EXTAUTHZ_DATABASE_TIMEOUT_MS": "300"}) as service:
        async with pool.connection() as connection, connection.transaction():
            await connection.execute("LOCK TABLE usage_daily")
            assert await decisions(service, one, 3) == ["allow"] * 3
            assert await decisions(service, two, 1) == ["allow"]
            assert b'"postgresql": "ok"' in (await ask(service.ports["admin"], READYZ)).body
        found = await decisions(service, two, 1)
        while found[-1] == "allow":
            found += await decisions(service, two, 1)
        assert found[-1] == "daily_quota_exceeded"
        assert service.value("extauthz_degraded", store="postgresql") == 0
        assert service.value("extauthz_store_errors_total", store="redis", reason="timeout") == 0
    assert (await bill(operator))["allowed"] == 6 + 4 + found.count("allow")
