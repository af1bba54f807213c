"""Connections to PostgreSQL that were ended while it is up, and a PostgreSQL that hangs during a start and a stop."""

import asyncio
from time import monotonic

from extauthz.demo.postgres import Postgres
from tests.servers.fixtures import paused
from tests.servers.management_client import NO_LIMITS, ManagementClient
from tests.servers.outages import victim
from tests.servers.process import listening, settings
from tests.servers.raw_http import ask
from tests.servers.serving import question, serving

ROUNDS, CROWD = 3, 8
PATIENT = {"EXTAUTHZ_DEADLINE_MS": "3000", "EXTAUTHZ_DATABASE_TIMEOUT_MS": "1000"}


async def test_a_dead_connection_costs_a_reconnect(
    postgres_server: Postgres, database: str, redis_url: str, operator: ManagementClient
) -> None:
    """Every connection is ended, idle and in use: keys that were not looked up before are still found."""
    await operator.tenants.create_plan("free", NO_LIMITS)
    await operator.tenants.create_organization("acme", "free")
    keys = [(await operator.new_key("acme"))[1] for _ in range(ROUNDS * CROWD)]
    async with victim(postgres_server, database) as hurt, serving(hurt.dsn, redis_url, **PATIENT) as service:

        async def decision(key: str) -> str:
            return (await ask(service.ports["envoy"], question("envoy", key=key))).decision

        for number in range(ROUNDS):
            crowd = keys[number * CROWD : (number + 1) * CROWD]
            await hurt.end_connections(hurt.role)
            assert {await decision(crowd[0])} == {"allow"}
            await hurt.end_connections(hurt.role)
            assert set(await asyncio.gather(*map(decision, crowd))) == {"allow"}
        assert service.value("extauthz_degraded", store="postgresql") == 0


async def test_a_hung_postgresql_holds_up_neither_start_nor_stop(
    database: str, redis_url: str, postgres_server: Postgres
) -> None:
    """`serve` listens and ends as quickly as without it."""
    took = []
    for hung in (False, True):
        begun = monotonic()
        if not hung:
            async with listening(settings(database, redis_url)) as service:
                listened = monotonic()
                assert await service.end() == 0
        else:
            with paused(postgres_server):
                async with listening(settings(database, redis_url)) as service:
                    listened = monotonic()
                    assert await service.end() == 0
        took.append((listened - begun, monotonic() - listened))
    (start, end), (hung_start, hung_end) = took
    assert hung_start - start < 3.0  # seconds, of which one is the wait for the schema
    assert hung_end - end < 3.0
