"""A PostgreSQL that only reads: usage waits until it can be saved, and this is reported."""

import asyncio
from functools import partial

import pytest

from extauthz.demo.postgres import Postgres
from extauthz.service.usage import flush
from tests.servers.management_client import ManagementClient
from tests.servers.outages import victim
from tests.servers.raw_http import ask
from tests.servers.serving import PATIENT, Serving, question, serving
from tests.servers.waiting import until

READ_ONLY = "ALTER ROLE {} SET default_transaction_read_only = on"
WRITABLE = "ALTER ROLE {} RESET default_transaction_read_only"


async def unsaved(service: Serving, value: float) -> bool:
    return service.value("extauthz_usage_unsaved") == value


async def tried(service: Serving, times: int) -> bool:
    return service.value("extauthz_store_errors_total", store="postgresql", reason="read_only") >= times


async def saved(operator: ManagementClient, key_id: str) -> bool:
    query = "SELECT sum(allowed)::int AS allowed FROM usage_daily WHERE api_key_id::text = %s"
    return bool((await operator.rows(query, key_id))[0]["allowed"] == 3)


async def test_usage_waits_while_postgresql_only_reads(
    postgres_server: Postgres,
    database: str,
    redis_url: str,
    operator: ManagementClient,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """It is logged once, in /readyz and as a metric; checks go on; when writes work again all usage is saved."""
    monkeypatch.setattr(flush, "REFUSALS_INTERVAL_SECONDS", 0.05)
    monkeypatch.setattr(flush, "SAVE_INTERVAL_SECONDS", 0.05)
    details, key = await operator.new_key("acme")
    async with victim(postgres_server, database) as hurt:
        await hurt.sql(READ_ONLY, hurt.role)
        async with serving(hurt.dsn, redis_url, **PATIENT) as service, asyncio.timeout(20):
            for _ in range(3):
                assert (await ask(service.ports["envoy"], question("envoy", key=key))).decision == "allow"
            await until(partial(unsaved, service, 1))
            assert service.health.readiness().stores["usage"].startswith("read_only: cannot execute")
            assert service.health.readiness().ready
            await until(partial(tried, service, 5))  # more attempts, which are not logged
            await hurt.sql(WRITABLE, hurt.role)
            await until(partial(saved, operator, details.id))
            await until(partial(unsaved, service, 0))
            assert "usage" not in service.health.readiness().stores
    told = "".join(capfd.readouterr())
    assert (told.count("usage_not_saved"), told.count("usage_saved_again")) == (1, 1)
